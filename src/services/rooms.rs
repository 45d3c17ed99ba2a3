//! Rooms, for administrators. Whoever may not be in a room any more is out of it while it is live, too: of what is stored
//! [`crate::realtime::subscriber`] sees to that, and here is what the server's own settings and a renewed token change.

use std::sync::Arc;
use std::time::Duration;

use crate::domain::audit::action;
use crate::domain::chat::{Author, Membership, RoomDraft, RoomEntry, RoomPatch};
use crate::domain::{Refusal, RoomId, Scope, UserId, normal_form};
use crate::protocol::admin::access::{
    ListRequest, Listed, MAX_ADMITTED, MAX_LISTED, MAX_ROOM_NAME_CHARS, MemberChanged, MemberDetails, MemberRequest,
    NumberedRequest, RoomDetails, RoomPatchRequest, RoomRequest, RoomWithMembers,
};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::store::operations::{Act, CreateRoom, PatchRoom, RemoveMember, RemoveMessages, RemoveRoom, SetMember};
use crate::store::{ListQuery, StoreError};

use crate::realtime::live::Live;
use crate::realtime::registry::Occupant;
use crate::services::errors::store_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};

/// So many messages are removed by one transaction.
const REMOVE_SLICE: usize = 500;
/// Between two slices the writer is others' for so long.
const REMOVE_PAUSE: Duration = Duration::from_millis(5);

/// Rooms as administrators see them.
#[derive(Debug, Clone)]
pub struct Rooms {
    /// Rooms and their members.
    store: Storage,
    /// Who is in a room at this moment.
    live: Arc<Live>,
    /// The rules of open rooms.
    settings: Arc<LiveSettings>,
}

impl Rooms {
    pub(super) fn new(store: Storage, live: Arc<Live>, settings: Arc<LiveSettings>) -> Rooms {
        Rooms { store, live, settings }
    }

    /// A part of all rooms.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn list(&self, caller: &Caller, request: ListRequest) -> Result<Listed<RoomDetails>, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let page = self.store.list_rooms(list_query(request)).await.map_err(store_error)?;
        Ok(Listed { items: page.items.into_iter().map(|entry| self.details(entry)).collect(), next: page.next })
    }

    fn details(&self, entry: RoomEntry) -> RoomDetails {
        let present = self.live.sockets.head_count(&entry.record.id);
        RoomDetails::new(entry, present)
    }

    /// One room with a part of its members.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn get(
        &self,
        caller: &Caller,
        room: RoomId,
        request: NumberedRequest,
    ) -> Result<RoomWithMembers, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let NumberedRequest { after, limit } = request;
        let entry = self.store.room(room.clone()).await.map_err(room_error)?;
        let page = self.store.members(room, after, limit.clamp(1, MAX_LISTED)).await.map_err(room_error)?;
        let items = page.members.into_iter().map(|member| {
            let online = self.live.sockets.is_online(&member.user);
            MemberDetails::new(member, online)
        });
        Ok(RoomWithMembers {
            room: self.details(entry),
            items: items.collect(),
            next: page.next.map(|next| next.to_string()),
        })
    }

    /// Registers a room.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict` if there is one, `unavailable`.
    pub async fn create(&self, caller: &Caller, request: RoomRequest) -> Result<RoomDetails, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let RoomRequest { room_id: id, name, private, members, moderators } = request;
        if members.len() + moderators.len() > MAX_ADMITTED {
            let message = format!("admit at most {MAX_ADMITTED} people at once, and others afterwards");
            return Err(ApiError::field("members", message));
        }
        let name = name.map(room_name).transpose()?.filter(|name| !name.is_empty());
        let admitted = members.into_iter().map(|user| (user, Membership::Member));
        let members: Vec<(UserId, Membership)> =
            admitted.chain(moderators.into_iter().map(|user| (user, Membership::Moderator))).collect();
        let people = members.len();
        let draft = RoomDraft { id: id.clone(), name, private, members };
        let note = format!("{}, {people} people", if private { "private" } else { "open" });
        let act = Act { note, ..caller.act(action::ROOM_CREATE, format!("room {id}")) };
        self.store.act(CreateRoom { draft }, act).await.map_err(|error| match error {
            StoreError::Refused(Refusal::Conflict) => {
                ApiError::new(ErrorCode::Conflict, "there is a room of that id already; change it instead")
            }
            other => store_error(other),
        })?;
        self.store.room(id).await.map_err(room_error).map(|entry| self.details(entry))
    }

    /// Changes a room. Whoever may not be in it any more is out of it at once.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn patch(
        &self,
        caller: &Caller,
        room: RoomId,
        request: RoomPatchRequest,
    ) -> Result<RoomDetails, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let name = request.name.map(|name| room_name(name.unwrap_or_default())).transpose()?;
        let patch = RoomPatch { name, private: request.private, admit_guests: request.admit_guests };
        if patch == RoomPatch::default() {
            return Err(ApiError::field("name", "say what to change: name, private or admitGuests"));
        }
        let mut changes = Vec::new();
        changes.extend(patch.name.as_ref().map(|_| "name"));
        changes.extend(patch.private.map(|private| if private { "private" } else { "open" }));
        changes.extend(patch.admit_guests.then_some("guests admitted"));
        let act = Act { note: changes.join(", "), ..caller.act(action::ROOM_SET, format!("room {room}")) };
        self.store.act(PatchRoom { room: room.clone(), patch }, act).await.map_err(room_error)?;
        self.store.room(room).await.map_err(room_error).map(|entry| self.details(entry))
    }

    /// Deletes a room with all its messages. Its id can be another room's at once.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `conflict` under a legal hold, `unavailable`.
    pub async fn delete(&self, caller: &Caller, room: RoomId) -> Result<RoomDetails, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let entry = self.store.room(room.clone()).await.map_err(room_error)?;
        let act = caller.act(action::ROOM_DELETE, format!("room {room}"));
        let record = self.store.act(RemoveRoom { room }, act).await.map_err(room_error)?.answer;
        // Its messages go by themselves if the caller does not wait for it.
        self.settings.wake_calendar();
        self.finish_removals().await.map_err(store_error)?;
        Ok(RoomDetails::new(RoomEntry { record, ..entry }, 0))
    }

    pub(super) async fn finish_removals(&self) -> Result<(), StoreError> {
        while !self.store.write(RemoveMessages { limit: REMOVE_SLICE }).await? {
            tokio::time::sleep(REMOVE_PAUSE).await;
        }
        Ok(())
    }

    /// Admits somebody to a room, or makes them something else in it.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn set_member(
        &self,
        caller: &Caller,
        room: RoomId,
        user: UserId,
        request: MemberRequest,
    ) -> Result<MemberChanged, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let role = Membership::from(request.role);
        let note = format!("user {user} is {}", role.as_str());
        let act = Act { note, ..caller.act(action::MEMBER_ADD, format!("room {room}")) };
        let set = SetMember { room: room.clone(), user: user.clone(), membership: role };
        let before = self.store.act(set, act).await.map_err(room_error)?.answer;
        Ok(MemberChanged { room_id: room, user_id: user, role: Some(role), before })
    }

    /// Takes somebody out of a room: out of its list, and out of the live room at once. An open room they may join again.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn remove_member(&self, caller: &Caller, room: RoomId, user: UserId) -> Result<MemberChanged, ApiError> {
        authorize(caller, Scope::Rooms)?;
        let act = Act { note: format!("user {user}"), ..caller.act(action::MEMBER_REMOVE, format!("room {room}")) };
        let removed = self.store.act(RemoveMember { room: room.clone(), user: user.clone() }, act).await;
        let before = removed.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                ApiError::new(ErrorCode::NotFound, "there is no such room, or this user takes no part in it")
            }
            other => store_error(other),
        })?;
        let before = before.answer;
        Ok(MemberChanged { room_id: room, user_id: user, role: None, before: Some(before) })
    }

    /// Takes out of a live room whoever may not be in it any more.
    async fn recheck_room(&self, room: &RoomId) {
        for occupant in self.live.sockets.who_is_in(room) {
            self.recheck(&occupant, room).await;
        }
    }

    /// The same for all rooms that are live: the rules of open rooms have changed.
    pub async fn recheck_all(&self) {
        for room in self.live.sockets.live_rooms() {
            self.recheck_room(&room).await;
        }
    }

    /// The same for one socket: its user has another role now.
    pub async fn recheck_socket(&self, socket: u64) {
        let Some((occupant, rooms)) = self.live.sockets.rooms_of(socket) else { return };
        for room in rooms {
            self.recheck(&occupant, &room).await;
        }
    }

    async fn recheck(&self, occupant: &Occupant, room: &RoomId) {
        match self.store.may_enter(room.clone(), Author::of(&occupant.actor), self.settings.policy()).await {
            Err(StoreError::Refused(_)) => self.live.evict(occupant, room),
            Ok(()) => {}
            // They stay for now: each of their requests is looked at by the store by itself.
            Err(error) => tracing::warn!(%error, %room, "could not re-check access to a room"),
        }
    }
}

/// What the store is asked for a list.
pub(super) fn list_query(request: ListRequest) -> ListQuery {
    let ListRequest { after, limit, text, online: _ } = request;
    let after = after.map(|after| normal_form(&after).into_owned());
    ListQuery { after, limit: limit.clamp(1, MAX_LISTED), text }
}

fn room_name(name: String) -> Result<String, ApiError> {
    let name = name.trim().to_owned();
    if name.chars().count() > MAX_ROOM_NAME_CHARS || name.chars().any(char::is_control) {
        let message =
            format!("name must have at most {MAX_ROOM_NAME_CHARS} characters, none of them a control character");
        return Err(ApiError::field("name", message));
    }
    Ok(name)
}

/// What a client sees where there is no such room, or of another error of the store.
pub(super) fn room_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Refused(Refusal::NotFound) => ApiError::new(ErrorCode::NotFound, "there is no such room"),
        other => store_error(other),
    }
}
