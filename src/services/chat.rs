//! Chat: joining, posting, editing, reading. The store decides rights inside its transaction; here is what concerns the
//! live side: who has joined, who hears of it, and that history and live stream meet without gap.

use std::collections::HashMap;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::domain::audit::action;
use crate::domain::chat::{Author, Draft, Message, MessageKind, RoomPolicy};
use crate::domain::privacy::WithheldVersion;
use crate::domain::{Refusal, RoomId, Scope, UserId};
use crate::protocol::answer::{
    History, Joined, MessageDeleted, MessageEdited, MessagePosted, ReadUpTo, RoomAnswer, RoomList, VersionedMessages,
};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::request::{
    ChatEdit, ChatHistory, ChatJoin, ChatMessage, ChatRooms, ChatTyping, DEFAULT_PAGE, MAX_PAGE, MessageRef, RoomOnly,
    check_key,
};
use crate::protocol::view::{RoomView, VersionedMessage};
use crate::store::operations::{
    DeleteMessage, EditMessage, EnlistMembers, JoinRoom, KeyKind, LeaveRoom, MarkRead, MessageChanged, MessageTarget,
    PostMessage, Posted, RequestKey,
};
use crate::store::{MessagePage, Page, RoomPlace, RoomQuery, StoreError};

use crate::realtime::live::{FollowUp, Live};
use crate::realtime::registry::Gate;
use crate::services::caller::require_join;
use crate::services::entry::Entry;
use crate::services::errors::store_error;
use crate::services::limits::{Rate, Rates, StoreQuota};
use crate::services::pages::{fitting, limit_of, limit_within};
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::uses::Uses;
use crate::services::{Caller, authorize};

/// A join that has been granted: the transport says `answer` while it opens the gate.
#[derive(Debug)]
pub struct JoinGrant {
    /// What the client gets.
    pub answer: Joined,
    /// Holds what has happened since the answer was read.
    pub gate: Arc<Gate>,
    /// Messages up to this `seq` are in the answer, or can be fetched by it.
    pub after_seq: u64,
}

/// Chat as its users see it: joining, posting, editing, reading.
#[derive(Debug, Clone)]
pub struct Chat {
    /// Messages, rooms and read marks.
    store: Storage,
    /// Who is in a room, who types, and the feed.
    live: Arc<Live>,
    /// How often somebody may ask.
    rates: Arc<Rates>,
    /// The rules of open rooms, and how long a message may be.
    settings: Arc<LiveSettings>,
    /// Administrators who read what is not theirs.
    uses: Uses,
    /// Who may enter which room.
    entry: Entry,
}

impl Chat {
    pub(super) fn new(
        store: Storage,
        live: Arc<Live>,
        rates: Arc<Rates>,
        settings: Arc<LiveSettings>,
        uses: Uses,
        entry: Entry,
    ) -> Chat {
        Chat { store, live, rates, settings, uses, entry }
    }

    /// Joins a room. Deliveries to the socket wait at the gate until the transport has sent the answer.
    ///
    /// # Errors
    /// `conflict` (the socket is in as many rooms as it may be), `forbidden`, `resync`, `rate_limited`, `unavailable`.
    pub async fn join(&self, caller: &Caller, request: ChatJoin) -> Result<JoinGrant, ApiError> {
        let socket = caller.socket.ok_or_else(|| ApiError::new(ErrorCode::Internal, "only a socket can join"))?;
        self.rates.count(Rate::Joins, &caller.actor.user)?;
        let page =
            Page { before: None, after: request.after, limit: limit_within(request.limit, DEFAULT_PAGE, MAX_PAGE)? };
        let room = request.room_id;
        let was_in = self.live.sockets.is_in(socket, &room);
        if !was_in {
            // The requests of a socket come here one behind another: what is counted now holds until it has joined.
            let most = self.settings.get().limits.rooms_per_socket;
            if !self.live.sockets.has_place_for(socket, &room, most) {
                self.live.counters().rate_limited.add("rooms");
                return Err(too_many_rooms(most));
            }
            // Before anything of the room is delivered to this socket: a stranger to a private room is in it for no moment.
            self.entry.require(caller, &room).await?;
            self.uses.note_reading(caller, std::slice::from_ref(&room)).await?;
        }
        // Enter first, then read: what is committed in between waits at the gate.
        let (gate, is_first) = self.live.sockets.join(socket, &room).ok_or_else(gone)?;
        let page = match self.join_stored(caller, &room, page).await {
            Ok(page) => page,
            Err(error) => {
                if !was_in && self.live.sockets.leave(socket, &room) == Some(true) {
                    // Another socket of theirs may have made it known meanwhile that they were here.
                    self.live.announce_guest(&room, &caller.actor.user, &caller.actor.name);
                }
                return Err(error);
            }
        };
        self.live.end_idle_polling(&caller.actor.user, &room);
        if is_first {
            self.live.announce_guest(&room, &caller.actor.user, &caller.actor.name);
        }
        let answer = self.joined(caller, room, page);
        Ok(JoinGrant { after_seq: answer.last_seq, answer, gate })
    }

    /// Joins a room over HTTP: the user takes part in it, and what happens in it is asked for by the long poll.
    ///
    /// # Errors
    /// As [`Chat::join`].
    pub async fn take_part(&self, caller: &Caller, request: ChatJoin) -> Result<Joined, ApiError> {
        self.rates.count(Rate::Joins, &caller.actor.user)?;
        let room = request.room_id;
        let page =
            Page { before: None, after: request.after, limit: limit_within(request.limit, DEFAULT_PAGE, MAX_PAGE)? };
        self.entry.require(caller, &room).await?;
        self.uses.note_reading(caller, std::slice::from_ref(&room)).await?;
        let page = self.join_stored(caller, &room, page).await?;
        Ok(self.joined(caller, room, page))
    }

    fn joined(&self, caller: &Caller, room: RoomId, page: MessagePage) -> Joined {
        let MessagePage { messages, has_more, last_id, last_seq, read_up_to, state, membership, .. } = page;
        let members = self.live.sockets.head_count(&room);
        let muted_until = self.live.access.muted_until(&caller.actor.user, &room, self.live.due());
        let state = state.into();
        Joined {
            room_id: room,
            last_id,
            last_seq,
            messages,
            has_more,
            members,
            read_up_to,
            membership,
            state,
            muted_until,
        }
    }

    /// Leaves a room; leaving one that was not joined is as good. With the user's last socket in it the room goes from their
    /// list: see [`crate::domain::chat::is_listed`].
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn leave(&self, caller: &Caller, request: RoomOnly) -> Result<RoomAnswer, ApiError> {
        let (room, user) = (request.room_id, &caller.actor.user);
        match caller.socket {
            Some(socket) => {
                if let Some(was_last) = self.live.sockets.leave(socket, &room) {
                    self.live.end_typing_of(socket, &room, user, was_last);
                    if was_last {
                        self.live.announce_guest(&room, user, &caller.actor.name);
                    }
                }
                // What is left of polls that have ended does not keep them there.
                self.live.stop_idle_polling(user, &room);
            }
            None => self.live.stop_polling(user, &room),
        }
        if !self.live.sockets.is_present(user, &room) {
            let left = self.store.write(LeaveRoom { room: room.clone(), user: user.clone() }).await;
            match left {
                // They are out of it; the list follows another time.
                Ok(()) | Err(StoreError::Full(_)) => {}
                Err(error) => return Err(store_error(error)),
            }
        }
        Ok(RoomAnswer { room_id: room })
    }

    /// Reads a page, and takes part in the room from now on, if it is registered.
    async fn join_stored(&self, caller: &Caller, room: &RoomId, page: Page) -> Result<MessagePage, ApiError> {
        let (author, policy) = (Author::of(&caller.actor), self.settings.policy());
        let read = || self.store.history(room.clone(), author.clone(), page.clone(), policy);
        let theirs = |read: MessagePage| {
            fitted(without_keys_of_others(read, &caller.actor.user), page.after.is_some(), &HashMap::new())
        };
        let first = read().await.map(theirs).map_err(store_error)?;
        // Coming back is the common case, and needs no transaction.
        if first.is_settled {
            return Ok(first);
        }
        match self.store.write(JoinRoom { room: room.clone(), author: author.clone(), policy }).await {
            Ok(()) => read().await.map(theirs).map_err(store_error),
            // Reading goes on with a full disk; the room is on their list when they join or write again.
            Err(StoreError::Full(_)) => Ok(first),
            Err(error) => Err(store_error(error)),
        }
    }

    /// Posts a message. It needs access to the room, not a join: joining is for receiving. A repetition gets the first answer
    /// before any rate is asked.
    ///
    /// # Errors
    /// `invalid_payload`, `too_large`, `forbidden`, `conflict`, `rate_limited`, `unavailable`.
    pub async fn post(&self, caller: &Caller, request: ChatMessage) -> Result<MessagePosted, ApiError> {
        check_key("clientId", request.client_id.as_deref())?;
        self.settings.check_content(&request.content)?;
        let kind = request.kind.unwrap_or_default();
        if kind == MessageKind::System {
            return Err(ApiError::field("type", "type must be text, image or file"));
        }
        let draft = Draft {
            room: request.room_id,
            author: Author::of(&caller.actor),
            content: request.content,
            kind,
            reply_to: request.reply_to_id,
            client_id: request.client_id,
        };
        let key = draft.client_id.clone().map(|key| RequestKey {
            caller: caller.actor.user.clone(),
            kind: KeyKind::Message,
            key,
            fingerprint: draft.fingerprint(),
        });
        self.rates.count_once(&self.store, Rate::Messages, &caller.actor, &[key.as_ref()]).await?;
        self.entry.require_word_outside(&self.live, caller, &draft.room).await?;
        let size = draft.content.len();
        let bytes = self.rates.claim_bytes(&self.store, &caller.actor, size, &[key.as_ref()]).await?;
        self.live.end_typing(&draft.room, &caller.actor.user);
        // Nothing is waited for before the message has its place in the store's queue: a sender's messages keep their order. Who
        // has begun too many rooms writes as if only registered rooms were open.
        let (policy, now) = (self.settings.policy(), self.store.now());
        let begins = self.rates.claim_room(&caller.actor, now);
        let may = RoomPolicy { open_rooms: policy.open_rooms && begins.is_ok() };
        let refused_here = begins.is_err().then(|| (draft.room.clone(), draft.author.clone()));
        let origin = caller.socket;
        let posted = self.store.write(PostMessage { draft, policy: may, key, external_id: None, origin }).await;
        let is_new = posted.as_ref().is_ok_and(|posted| !posted.duplicate);
        if let Some(bytes) = bytes {
            bytes.settle(if is_new { size } else { 0 });
        }
        match begins {
            Ok(Some(room)) => room.settle(is_new && posted.as_ref().is_ok_and(|posted| posted.seq == 1)),
            Err(error) if matches!(posted, Err(StoreError::Refused(Refusal::Forbidden))) => {
                if let Some((room, author)) = refused_here
                    && self.store.may_enter(room, author, policy).await.is_ok()
                {
                    self.rates.note_refused(StoreQuota::NewRooms, &caller.actor.user, now);
                    return Err(error);
                }
            }
            Ok(None) | Err(_) => {}
        }
        if matches!(posted, Err(StoreError::Refused(Refusal::TooSoon(_)))) {
            self.live.counters().rate_limited.add("slow_mode");
        }
        let posted = posted.map_err(store_error)?;
        if is_new && posted.seq == 1 {
            // Who was in the room before it was registered has it on their list when this is answered.
            self.live.followed_up().await;
        }
        Ok(posted_answer(posted))
    }

    /// Changes a message.
    ///
    /// # Errors
    /// As [`Chat::post`], and `not_found`.
    pub async fn edit(&self, caller: &Caller, request: ChatEdit) -> Result<MessageEdited, ApiError> {
        self.settings.check_content(&request.content)?;
        self.rates.count(Rate::Messages, &caller.actor.user)?;
        let size = request.content.len();
        let bytes = self.rates.claim_bytes(&self.store, &caller.actor, size, &[]).await?;
        let edit = EditMessage {
            room: request.room_id,
            target: MessageTarget::Id(request.message_id),
            author: Author::of(&caller.actor),
            content: request.content,
            policy: self.settings.policy(),
            key: None,
            act: Some(caller.act(action::MESSAGE_EDIT, String::new())),
        };
        let edited = self.store.write(edit).await;
        if let Some(bytes) = bytes {
            bytes.settle(if edited.is_ok() { size } else { 0 });
        }
        let MessageChanged { message_id, at, .. } = edited.map_err(store_error)?;
        Ok(MessageEdited { message_id, edited_at: at })
    }

    /// Deletes a message's content.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `rate_limited`, `unavailable`.
    pub async fn delete(&self, caller: &Caller, request: MessageRef) -> Result<MessageDeleted, ApiError> {
        self.rates.count(Rate::Messages, &caller.actor.user)?;
        let deletion = DeleteMessage {
            room: request.room_id,
            target: MessageTarget::Id(request.message_id),
            author: Author::of(&caller.actor),
            policy: self.settings.policy(),
            key: None,
            act: Some(caller.act(action::MESSAGE_DELETE, String::new())),
        };
        let MessageChanged { message_id, at, .. } = self.store.write(deletion).await.map_err(store_error)?;
        Ok(MessageDeleted { message_id, deleted_at: at })
    }

    async fn withheld(
        &self,
        room: &RoomId,
        messages: &[Message],
    ) -> Result<HashMap<u64, Vec<WithheldVersion>>, ApiError> {
        let changed = messages.iter().filter(|message| message.edited_at.is_some() || message.deleted_at.is_some());
        let ids: Vec<u64> = changed.map(|message| message.id).collect();
        let found = self.store.withheld(room.clone(), ids).await.map_err(store_error)?;
        Ok(found.into_iter().collect())
    }

    /// A page of a room's messages; for administrators with what they said before they were changed under a legal hold.
    ///
    /// # Errors
    /// `forbidden`, `resync`, `unavailable`.
    pub async fn history(&self, caller: &Caller, request: ChatHistory) -> Result<History, ApiError> {
        if request.versions {
            authorize(caller, Scope::Admin)?;
        }
        let room = request.room_id;
        let page = Page {
            before: request.before,
            after: request.after,
            limit: limit_within(request.limit, DEFAULT_PAGE, MAX_PAGE)?,
        };
        let from_the_first = page.after.is_some();
        self.entry.require_word_outside(&self.live, caller, &room).await?;
        self.uses.note_reading(caller, std::slice::from_ref(&room)).await?;
        if request.versions {
            let target = format!("withheld versions in room {room}");
            self.uses.record_reading_of(caller, action::ROOM_READ, target).await?;
        }
        let page = self
            .store
            .history(room.clone(), Author::of(&caller.actor), page, self.settings.policy())
            .await
            .map_err(store_error)?;
        let page = without_keys_of_others(page, &caller.actor.user);
        let versions = if request.versions { self.withheld(&room, &page.messages).await? } else { HashMap::new() };
        let page = fitted(page, from_the_first, &versions);
        Ok(History {
            room_id: room,
            messages: VersionedMessages { messages: page.messages, versions },
            has_more: page.has_more,
            last_id: page.last_id,
            last_seq: page.last_seq,
        })
    }

    /// The user's rooms: those that they may read. Who was a guest of a room that has become private is none of it any more.
    ///
    /// # Errors
    /// `invalid_payload`, `resync`, `unavailable`.
    pub async fn rooms(&self, caller: &Caller, request: ChatRooms) -> Result<RoomList, ApiError> {
        let (user, limit) = (&caller.actor.user, limit_of(request.limit)?);
        let after = request.after.as_deref().map(|cursor| self.store.read_room_place(user, cursor)).transpose()?;
        let page = self
            .store
            .rooms_of(Author::of(&caller.actor), RoomQuery { after, limit }, self.settings.policy())
            .await
            .map_err(store_error)?;
        let mut rooms = page.rooms;
        let fit = fitting(rooms.iter().map(|(room, _)| RoomView::from(room)));
        let has_more = page.has_more || fit < rooms.len();
        rooms.truncate(fit);
        let last = rooms.last().filter(|_| has_more);
        let cursor = last.map(|(_, RoomPlace { last_id, room })| self.store.write_cursor(user, [*last_id, *room]));
        Ok(RoomList { rooms: rooms.into_iter().map(|(room, _)| room).collect(), has_more, cursor })
    }

    /// Does in the store what changes have made necessary, until the server stops. The server owns the task.
    pub async fn follow_up(&self, stop: CancellationToken) {
        let Some(mut follow_ups) = self.live.take_follow_ups() else { return stop.cancelled().await };
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = follow_ups.recv() => next,
            };
            let (room, users) = match next {
                Some(FollowUp::Enlist { room, users }) => (room, users),
                Some(FollowUp::Barrier(done)) => {
                    // The receiver may be gone; that is fine.
                    let _ = done.send(());
                    continue;
                }
                None => return,
            };
            let enlistment = EnlistMembers { room, users, policy: self.settings.policy() };
            if let Err(error) = self.store.write(enlistment).await {
                tracing::debug!(%error, "who was in a new room was not recorded as taking part");
            }
        }
    }

    /// Moves the read mark.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `unavailable`.
    pub async fn mark_read(&self, caller: &Caller, request: MessageRef) -> Result<ReadUpTo, ApiError> {
        let MessageRef { room_id: room, message_id } = request;
        let reader = Author::of(&caller.actor);
        let mark = self
            .store
            .write(MarkRead { room, reader, message_id, policy: self.settings.policy() })
            .await
            .map_err(store_error)?;
        Ok(ReadUpTo { room_id: mark.room, message_id: mark.message_id })
    }

    /// Says that a user begins or ends to type.
    ///
    /// # Errors
    /// `not_joined`, `forbidden`, `rate_limited`.
    pub async fn typing(&self, caller: &Caller, request: ChatTyping) -> Result<(), ApiError> {
        require_join(&self.live, caller, &request.room_id)?;
        // That it ends is never refused: somebody would type for ever.
        if request.is_typing {
            self.rates.count(Rate::Typing, &caller.actor.user)?;
        }
        if caller.socket.is_none() {
            self.entry.require_outside(&self.live, caller, &request.room_id).await?;
        }
        if request.is_typing {
            let (user, room) = (&caller.actor.user, request.room_id);
            let may_write = || self.live.access.may_write(user, &room, self.live.due());
            may_write()?;
            if self.live.locked_rooms.has(&room) {
                let (author, policy) = (Author::of(&caller.actor), self.settings.policy());
                self.store.may_write(room.clone(), author, policy).await.map_err(store_error)?;
            }
            self.live.begin_typing(room.clone(), &caller.actor, caller.socket);
            // A mute that has come in between has not found it.
            may_write().inspect_err(|_| self.live.end_typing(&room, user))?;
        } else {
            self.live.end_typing(&request.room_id, &caller.actor.user);
        }
        Ok(())
    }
}

fn posted_answer(posted: Posted) -> MessagePosted {
    let Posted { id, seq, at, duplicate } = posted;
    MessagePosted { id, seq, timestamp: at, duplicate }
}

fn too_many_rooms(most: usize) -> ApiError {
    let message = format!(
        "this connection is in {most} rooms, and may be in no more (limits.rooms_per_socket); leave one with chat:leave first"
    );
    ApiError { field: Some("roomId".to_owned()), ..ApiError::new(ErrorCode::Conflict, message) }
}

fn gone() -> ApiError {
    ApiError::new(ErrorCode::Unavailable, "the socket has gone")
}

/// What of a page fits into one answer. Without `after` the latest messages are asked for: the oldest do not fit.
fn fitted(mut page: MessagePage, from_the_first: bool, versions: &HashMap<u64, Vec<WithheldVersion>>) -> MessagePage {
    let fit = if from_the_first {
        fitting(page.messages.iter().map(|message| versioned(message, versions)))
    } else {
        fitting(page.messages.iter().rev().map(|message| versioned(message, versions)))
    };
    let cut = page.messages.len() - fit;
    page.has_more |= cut > 0;
    if from_the_first {
        page.messages.truncate(fit);
    } else {
        page.messages.drain(..cut);
    }
    page
}

fn versioned<'m>(message: &'m Message, versions: &'m HashMap<u64, Vec<WithheldVersion>>) -> VersionedMessage<'m> {
    VersionedMessage::new(message, versions.get(&message.id).map(Vec::as_slice).unwrap_or_default())
}

/// A key is its caller's, and is shown to nobody else.
fn without_keys_of_others(mut page: MessagePage, viewer: &UserId) -> MessagePage {
    hide_keys_of_others(&mut page.messages, viewer);
    page
}

pub(super) fn hide_keys_of_others(messages: &mut [Message], viewer: &UserId) {
    for message in messages.iter_mut().filter(|message| message.sender != *viewer) {
        message.client_id = None;
    }
}
