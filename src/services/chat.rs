//! Chat: joining, posting, editing, reading. The store decides rights inside its transaction; here is what concerns the
//! live side: who has joined, who hears of it, and that history and live stream meet without gap.

use std::sync::Arc;

use crate::contract::answers::{History, Joined, MessageDeleted, MessageEdited, MessagePosted, ReadUpTo, RoomAnswer};
use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::events::{RoomGuest, ServerEvent};
use crate::contract::requests::{
    ChatEdit, ChatHistory, ChatJoin, ChatMessage, ChatTyping, DEFAULT_PAGE, MAX_PAGE, MessageRef, RoomOnly, check_key,
};
use crate::domain::chat::{Author, Draft, MessageKind, RoomSummary};
use crate::domain::{Room, RoomId, Timestamp, UserId};
use crate::store::{MessageChange, MessagePage, Page};

use super::delivery::Delivery;
use super::limits::Rate;
use super::sockets::Gate;
use super::{Caller, Services, store_error};

/// A join that has been granted: the transport says `answer` while it opens the gate.
#[derive(Debug)]
pub struct JoinGrant {
    /// What the client is told.
    pub answer: Joined,
    /// Holds what has happened since the answer was read.
    pub gate: Arc<Gate>,
    /// Messages up to this `seq` are in the answer, or can be fetched by it.
    pub after_seq: u64,
}

impl Services {
    /// Joins a room. Deliveries to the socket wait at the gate until the transport has sent the answer.
    ///
    /// # Errors
    /// `forbidden`, `resync`, `rate_limited`, `unavailable`.
    pub async fn join(&self, caller: &Caller, request: ChatJoin) -> Result<JoinGrant, WireError> {
        let socket = caller.socket.ok_or_else(|| WireError::new(ErrorCode::Internal, "only a socket can join"))?;
        self.count(Rate::Joins, &caller.actor.user)?;
        let page = Page { before: None, after: request.after, limit: page_limit(request.limit)? };
        let room = request.room_id;
        let was_in = self.sockets.is_in(socket, &room);
        if !was_in {
            // Before anything of the room is delivered to this socket: a stranger to a private room is in it for no moment.
            self.must_be_let_into(caller, &room).await?;
        }
        // Enter first, then read: what is committed in between waits at the gate.
        let (gate, is_first) = self.sockets.join(socket, &room).ok_or_else(gone)?;
        let page = match self.store.join_room(room.clone(), Author::of(&caller.actor), page, self.policy()).await {
            Ok(page) => page,
            Err(error) => {
                if !was_in {
                    self.sockets.leave(socket, &room);
                }
                return Err(store_error(error));
            }
        };
        if is_first {
            // Who has gone in the meantime has been said to have left, or has another socket here.
            let is_here = gate.unless_gone(|| self.announce_guest(&room, &caller.actor.user, &caller.actor.name, true));
            if !is_here && self.sockets.is_present(&caller.actor.user, &room) {
                self.announce_guest(&room, &caller.actor.user, &caller.actor.name, true);
            }
        }
        let answer = self.joined(room, page);
        Ok(JoinGrant { after_seq: answer.last_seq, answer, gate })
    }

    /// Joins a room over HTTP: the user takes part in it, and what happens in it is asked for by the long poll.
    ///
    /// # Errors
    /// As [`Services::join`].
    pub async fn take_part(&self, caller: &Caller, request: ChatJoin) -> Result<Joined, WireError> {
        self.count(Rate::Joins, &caller.actor.user)?;
        let room = request.room_id;
        let page = Page { before: None, after: request.after, limit: page_limit(request.limit)? };
        let page = self.store.join_room(room.clone(), Author::of(&caller.actor), page, self.policy()).await;
        Ok(self.joined(room, page.map_err(store_error)?))
    }

    fn joined(&self, room: RoomId, page: MessagePage) -> Joined {
        let MessagePage { messages, has_more, last_id, last_seq, read_up_to } = page;
        let members = self.sockets.head_count(&room);
        Joined { room_id: room, last_id, last_seq, messages, has_more, members, read_up_to }
    }

    /// Leaves a room; leaving one that was not joined is as good.
    pub fn leave(&self, caller: &Caller, request: RoomOnly) -> RoomAnswer {
        let room = request.room_id;
        if let Some(socket) = caller.socket
            && let Some(was_last) = self.sockets.leave(socket, &room)
        {
            self.end_typing_of(socket, &room, &caller.actor.user, was_last);
            if was_last {
                self.announce_guest(&room, &caller.actor.user, &caller.actor.name, false);
            }
        }
        RoomAnswer { room_id: room }
    }

    /// Tells the others in a room that a user has come or gone.
    pub(super) fn announce_guest(&self, room: &RoomId, user: &UserId, name: &str, has_come: bool) {
        let guest = RoomGuest { room_id: room, user_id: user, user_name: name, timestamp: self.now() };
        let event = if has_come { ServerEvent::ChatUserJoined(guest) } else { ServerEvent::ChatUserLeft(guest) };
        self.publish_passing(Delivery::to_others(Room::Chat(room.clone()), user, &event));
    }

    /// Posts a message. A socket must have joined the room; over HTTP the access alone counts.
    ///
    /// # Errors
    /// `invalid_payload`, `too_large`, `not_joined`, `forbidden`, `conflict`, `rate_limited`, `unavailable`.
    pub async fn post(&self, caller: &Caller, request: ChatMessage) -> Result<MessagePosted, WireError> {
        check_key("clientId", request.client_id.as_deref())?;
        self.check_content(&request.content)?;
        let kind = request.kind.unwrap_or_default();
        if kind == MessageKind::System {
            return Err(WireError::field("type", "type must be text, image or file"));
        }
        self.must_have_joined(caller, &request.room_id)?;
        self.count(Rate::Messages, &caller.actor.user)?;
        self.end_typing(&request.room_id, &caller.actor.user);
        let room = request.room_id;
        let draft = Draft {
            room: room.clone(),
            author: Author::of(&caller.actor),
            content: request.content,
            kind,
            reply_to: request.reply_to_id,
            client_id: request.client_id,
            at: self.now(),
        };
        let posted = self.append(draft).await?;
        if posted.seq == 1 && !posted.duplicate {
            self.enlist_present(&room).await;
        }
        Ok(posted)
    }

    /// A room is registered by its first message: who had joined it before takes part in it from then on, too.
    async fn enlist_present(&self, room: &RoomId) {
        let page = Page { limit: 1, ..Page::default() };
        let enlisting = self.sockets.people_in(room).into_iter().map(|(user, name)| {
            let author = Author { user, name, admin: false };
            self.store.join_room(room.clone(), author, page.clone(), self.policy())
        });
        for result in futures_util::future::join_all(enlisting).await {
            if let Err(error) = result {
                tracing::debug!(%error, "somebody's part in a new room was not recorded");
            }
        }
    }

    pub(super) async fn append(&self, draft: Draft) -> Result<MessagePosted, WireError> {
        let posted = self.store.append_message(draft, self.policy()).await.map_err(store_error)?;
        Ok(MessagePosted { id: posted.id, seq: posted.seq, timestamp: posted.at, duplicate: posted.duplicate })
    }

    /// Changes a message.
    ///
    /// # Errors
    /// As [`Services::post`], and `not_found`.
    pub async fn edit(&self, caller: &Caller, request: ChatEdit) -> Result<MessageEdited, WireError> {
        self.check_content(&request.content)?;
        self.count(Rate::Messages, &caller.actor.user)?;
        let message_id = request.message_id;
        let change = self.change(caller, request.room_id, message_id);
        let edited_at = self.store.edit_message(change, request.content, self.policy()).await.map_err(store_error)?;
        Ok(MessageEdited { message_id, edited_at })
    }

    /// Deletes a message's content.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `rate_limited`, `unavailable`.
    pub async fn delete(&self, caller: &Caller, request: MessageRef) -> Result<MessageDeleted, WireError> {
        self.count(Rate::Messages, &caller.actor.user)?;
        let message_id = request.message_id;
        let change = self.change(caller, request.room_id, message_id);
        let deleted_at = self.store.delete_message(change, self.policy()).await.map_err(store_error)?;
        Ok(MessageDeleted { message_id, deleted_at })
    }

    fn change(&self, caller: &Caller, room: RoomId, message_id: u64) -> MessageChange {
        MessageChange { room, message_id, author: Author::of(&caller.actor), at: self.now() }
    }

    /// A page of a room's messages.
    ///
    /// # Errors
    /// `forbidden`, `resync`, `unavailable`.
    pub async fn history(&self, caller: &Caller, request: ChatHistory) -> Result<History, WireError> {
        let room = request.room_id;
        let page = Page { before: request.before, after: request.after, limit: page_limit(request.limit)? };
        let page = self
            .store
            .history(room.clone(), Author::of(&caller.actor), page, self.policy())
            .await
            .map_err(store_error)?;
        Ok(History {
            room_id: room,
            messages: page.messages,
            has_more: page.has_more,
            last_id: page.last_id,
            last_seq: page.last_seq,
        })
    }

    /// The user's rooms.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn rooms(&self, caller: &Caller) -> Result<Vec<RoomSummary>, WireError> {
        self.store.rooms_of(caller.actor.user.clone()).await.map_err(store_error)
    }

    /// Moves the read mark.
    ///
    /// # Errors
    /// `not_found`, `forbidden`, `unavailable`.
    pub async fn mark_read(&self, caller: &Caller, request: MessageRef) -> Result<ReadUpTo, WireError> {
        let mark = self
            .store
            .mark_read(request.room_id, Author::of(&caller.actor), request.message_id, self.policy())
            .await
            .map_err(store_error)?;
        Ok(ReadUpTo { room_id: mark.room, message_id: mark.message_id })
    }

    /// Says that a user begins or ends to type.
    ///
    /// # Errors
    /// `not_joined`, `forbidden`, `rate_limited`.
    pub async fn typing(&self, caller: &Caller, request: ChatTyping) -> Result<(), WireError> {
        self.must_have_joined(caller, &request.room_id)?;
        self.count(Rate::Typing, &caller.actor.user)?;
        if caller.socket.is_none() {
            self.must_be_let_into(caller, &request.room_id).await?;
        }
        if request.is_typing {
            self.begin_typing(request.room_id, caller);
        } else {
            self.end_typing(&request.room_id, &caller.actor.user);
        }
        Ok(())
    }

    pub(super) fn must_have_joined(&self, caller: &Caller, room: &RoomId) -> Result<(), WireError> {
        match caller.socket {
            Some(socket) if !self.sockets.is_in(socket, room) => {
                Err(WireError::new(ErrorCode::NotJoined, "join the room first: chat:join"))
            }
            _ => Ok(()),
        }
    }

    pub(super) async fn must_be_let_into(&self, caller: &Caller, room: &RoomId) -> Result<(), WireError> {
        self.store.may_enter(room.clone(), Author::of(&caller.actor), self.policy()).await.map_err(store_error)
    }

    pub(super) fn check_content(&self, content: &str) -> Result<(), WireError> {
        let most = self.settings.load().message_chars;
        if content.chars().take(most + 1).count() > most {
            return Err(WireError {
                field: Some("content".to_owned()),
                ..WireError::new(ErrorCode::TooLarge, format!("content may have at most {most} characters"))
            });
        }
        if content.trim().is_empty() {
            return Err(WireError::field("content", "content must have at least one character"));
        }
        Ok(())
    }

    /// Publishes what is not stored. A feed that is full drops it: nobody waits for it, and it is never acknowledged.
    pub(super) fn publish_passing(&self, delivery: Delivery) {
        if self.feed.publish(vec![delivery]).is_err() {
            tracing::debug!("too much is on its way; a passing event was dropped");
        }
    }

    /// When something was last heard of the users, in the order asked.
    pub(super) async fn last_seen(&self, users: Vec<UserId>) -> Result<Vec<Option<(String, Timestamp)>>, WireError> {
        self.store.last_seen(users).await.map_err(store_error)
    }
}

fn page_limit(limit: Option<usize>) -> Result<usize, WireError> {
    match limit {
        None => Ok(DEFAULT_PAGE),
        Some(limit) if (1..=MAX_PAGE).contains(&limit) => Ok(limit),
        Some(_) => Err(WireError::field("limit", format!("limit must be 1 to {MAX_PAGE}"))),
    }
}

fn gone() -> WireError {
    WireError::new(ErrorCode::Unavailable, "the socket has gone")
}
