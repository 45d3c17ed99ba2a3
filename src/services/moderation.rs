//! Other people's words, as administrators look at them and take them away, and who may not write for a time.

use std::sync::Arc;
use std::time::Duration;

use crate::archive::moments::moment;
use crate::domain::access::{Ban, Banned, LONGEST_MUTE, SHORTEST_MUTE};
use crate::domain::audit::action;
use crate::domain::chat::{Author, Message};
use crate::domain::{Refusal, RoomId, Scope, UserId};
use crate::protocol::admin::access::{MuteChanged, MuteRequest, MuteView, ReasonRequest, UnmuteRequest};
use crate::protocol::admin::data::MessageRemoved;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::view::OneMessage;
use crate::realtime::live::Live;
use crate::services::access::reason_of;
use crate::services::errors::store_error;
use crate::services::rooms::room_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::uses::Uses;
use crate::services::{Caller, authorize};
use crate::store::StoreError;
use crate::store::access::MAX_BANS;
use crate::store::operations::{Act, DeleteMessage, LiftBan, MessageTarget, SetBan};

/// Messages as administrators see them, whatever their room.
#[derive(Debug, Clone)]
pub struct Moderation {
    /// The messages.
    store: Storage,
    /// The JSON types of ids.
    live: Arc<Live>,
    /// The rules of open rooms.
    settings: Arc<LiveSettings>,
    /// Administrators who read what is not theirs.
    uses: Uses,
}

impl Moderation {
    pub(super) fn new(store: Storage, live: Arc<Live>, settings: Arc<LiveSettings>, uses: Uses) -> Moderation {
        Moderation { store, live, settings, uses }
    }

    /// One message by its id. That somebody reads in a room that is not theirs is recorded, as for a page of it; and so is each
    /// look at what a legal hold withholds.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn message(&self, caller: &Caller, id: u64, versions: bool) -> Result<OneMessage, ApiError> {
        authorize(caller, Scope::Admin)?;
        let mut message = self.find(id).await?;
        self.uses.note_reading(caller, std::slice::from_ref(&message.room)).await?;
        if message.sender != caller.actor.user {
            // A key is its caller's, and is shown to nobody else.
            message.client_id = None;
        }
        if !versions {
            return Ok(OneMessage { message, versions: Vec::new() });
        }
        let target = format!("withheld versions in room {}", message.room);
        self.uses.record_reading_of(caller, action::ROOM_READ, target).await?;
        let versions = self.store.withheld(message.room.clone(), vec![id]).await.map_err(store_error)?;
        Ok(OneMessage { message, versions: versions.into_iter().flat_map(|(_, versions)| versions).collect() })
    }

    /// Deletes the content of one message, whoever has written it. Its room is told as of any deletion, and by whom; under a
    /// legal hold what it said is withheld.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn delete_message(
        &self,
        caller: &Caller,
        id: u64,
        request: ReasonRequest,
    ) -> Result<MessageRemoved, ApiError> {
        authorize(caller, Scope::Admin)?;
        let reason = reason_of(&request.reason)?;
        let Message { room, sender, deleted_at, .. } = self.find(id).await?;
        if deleted_at.is_some() {
            return Err(deleted_already(id));
        }
        let written_by = format!("written by user {sender}");
        let note = if reason.is_empty() { written_by } else { format!("{written_by}: {reason}") };
        let act = Act { note, ..caller.act(action::MESSAGE_DELETE, format!("room {room} message {id}")) };
        let deletion = DeleteMessage {
            room: room.clone(),
            target: MessageTarget::Id(id),
            // A token of the scope has the right without the role.
            author: Author { admin: true, ..Author::of(&caller.actor) },
            policy: self.settings.policy(),
            key: None,
            act: None,
        };
        let deleted = self.store.act(deletion, act).await.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => deleted_already(id),
            other => store_error(other),
        })?;
        let withheld = self.store.withheld(room.clone(), vec![id]).await.map_err(store_error)?;
        let by = &caller.actor.user;
        Ok(MessageRemoved {
            room_id: room,
            message_id: id,
            deleted_at: deleted.answer.at,
            deleted_by: (sender != *by).then(|| by.clone()),
            sender_id: sender,
            withheld: !withheld.is_empty(),
        })
    }

    /// Lets somebody read and not write, in one room or everywhere, for a time. It holds at once, also for who is connected, and
    /// ends by itself.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found` without such a room, `conflict`, `unavailable`.
    pub async fn mute(&self, caller: &Caller, user: UserId, request: MuteRequest) -> Result<MuteChanged, ApiError> {
        authorize(caller, Scope::Users)?;
        let MuteRequest { room_id: room, seconds, reason } = request;
        if user.is_reserved() {
            return Err(ApiError::field("userId", "this is not a person"));
        }
        let reason = reason_of(&reason)?;
        let time = Duration::from_secs(seconds);
        if !(SHORTEST_MUTE..=LONGEST_MUTE).contains(&time) {
            let most = LONGEST_MUTE.as_secs();
            return Err(ApiError::field("seconds", format!("seconds must be 1 to {most}; for longer, block the user")));
        }
        if let Some(room) = &room {
            // One that is misspelt would mute nobody.
            self.store.room(room.clone()).await.map_err(room_error)?;
        }
        let at = self.store.now();
        let until = at.plus(time);
        let act =
            act_on(caller, action::USER_MUTE, &user, room.as_ref(), &format!(" until {}", moment(until)), &reason);
        let (ban, by) = (Ban::Mute { user, room }, caller.actor.user.canonical());
        let banned = Banned { ban, before: at, until: Some(until), by, at };
        let set = self.store.act(SetBan { banned: banned.clone() }, act).await;
        set.map_err(|error| match error {
            StoreError::Refused(Refusal::Conflict) => too_many_bans(),
            other => store_error(other),
        })?;
        changed(&banned, true)
    }

    /// Lifts a mute before it ends. One of a room and one for everywhere are two.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn unmute(&self, caller: &Caller, user: UserId, request: UnmuteRequest) -> Result<MuteChanged, ApiError> {
        authorize(caller, Scope::Users)?;
        let UnmuteRequest { room_id: room, reason } = request;
        let reason = reason_of(&reason)?;
        let act = act_on(caller, action::USER_UNMUTE, &user, room.as_ref(), "", &reason);
        let lifted = self.store.act(LiftBan { ban: Ban::Mute { user, room } }, act).await;
        let lifted = lifted.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                ApiError::new(ErrorCode::NotFound, "no such mute stands; the list of mutes has each with its room")
            }
            other => store_error(other),
        })?;
        changed(&lifted.answer, false)
    }

    /// The mutes that stand.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn mutes(&self, caller: &Caller) -> Result<Vec<MuteView>, ApiError> {
        authorize(caller, Scope::Users)?;
        let (bans, now) = (self.store.bans().await.map_err(store_error)?, self.store.now());
        let bans = bans.into_iter().map(|banned| self.live.named_in(banned));
        Ok(bans.filter_map(|banned| MuteView::of(&banned)).filter(|mute| mute.until > now).collect())
    }

    async fn find(&self, id: u64) -> Result<Message, ApiError> {
        let found = self.store.message(id).await.map_err(store_error)?;
        found.ok_or_else(|| ApiError::new(ErrorCode::NotFound, format!("there is no message {id}")))
    }
}

/// The record of a mute: its target is the user, so that it is in their export.
pub(super) fn act_on(
    caller: &Caller,
    action: &'static str,
    user: &UserId,
    room: Option<&RoomId>,
    until: &str,
    reason: &str,
) -> Act {
    let place = room.map_or_else(|| "everywhere".to_owned(), |room| format!("in room {room}"));
    let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    Act { note: format!("{place}{until}{reason}"), ..caller.act(action, format!("user {user}")) }
}

/// What has come of a mute.
pub(super) fn changed(banned: &Banned, muted: bool) -> Result<MuteChanged, ApiError> {
    let mute = MuteView::of(banned).ok_or_else(|| ApiError::new(ErrorCode::Internal, "a mute without an end"))?;
    Ok(MuteChanged { mute, muted })
}

pub(super) fn too_many_bans() -> ApiError {
    ApiError::new(ErrorCode::Conflict, format!("there are {MAX_BANS} revocations, blocks and mutes already"))
}

fn deleted_already(id: u64) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("message {id} is deleted already"))
}
