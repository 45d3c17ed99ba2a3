//! Who is in a room, and when somebody was last seen.

use std::sync::Arc;

use crate::domain::UserId;
use crate::protocol::answer::{PresenceItems, Present};
use crate::protocol::error::ApiError;
use crate::protocol::request::PresenceList;
use crate::realtime::live::Live;
use crate::services::Caller;
use crate::services::caller::require_join;
use crate::services::entry::Entry;
use crate::services::errors::store_error;
use crate::services::pages::{fitting, limit_of};
use crate::services::storage::Storage;
use crate::store::operations::Left;

/// Who is in a room, and when somebody was last seen.
#[derive(Debug, Clone)]
pub struct Presence {
    /// When somebody was last seen, and who may enter a room.
    store: Storage,
    /// Who is in a room at this moment.
    live: Arc<Live>,
    /// Who may enter which room.
    entry: Entry,
}

impl Presence {
    pub(super) fn new(store: Storage, live: Arc<Live>, entry: Entry) -> Presence {
        Presence { store, live, entry }
    }

    /// A socket has gone, by whatever way.
    pub async fn depart(&self, socket: u64) {
        if let Some(user) = self.live.depart(socket) {
            self.note_left(user).await;
        }
    }

    async fn note_left(&self, user: UserId) {
        if let Err(error) = self.store.write(Left { user }).await {
            tracing::debug!(%error, "the time somebody was last seen was not recorded");
        }
    }

    pub(super) async fn end_stale_polling(&self) {
        for user in self.live.end_stale_polling() {
            self.note_left(user).await;
        }
    }

    /// Who is in a room: one that the socket has joined; over HTTP, one that the caller may enter. In the order of their ids.
    ///
    /// # Errors
    /// `invalid_payload`, `not_joined`, `forbidden`, `unavailable`.
    pub async fn list(&self, caller: &Caller, request: PresenceList) -> Result<PresenceItems, ApiError> {
        let limit = limit_of(request.limit)?;
        require_join(&self.live, caller, &request.room_id)?;
        if caller.socket.is_none() {
            self.entry.require_outside(&self.live, caller, &request.room_id).await?;
        }
        let people = self.live.sockets.people_in(&request.room_id);
        let total = people.len();
        let mut people: Vec<_> = people.into_iter().map(|(user, name)| (user.canonical(), user, name)).collect();
        if let Some(after) = request.after.map(|user| user.canonical()) {
            people.retain(|(id, ..)| *id > after);
        }
        // The page alone is put in order, and looked up in the store.
        let mut has_more = people.len() > limit;
        if has_more {
            people.select_nth_unstable_by(limit, |one, other| one.0.cmp(&other.0));
            people.truncate(limit);
        }
        people.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        let asked = people.iter().map(|(_, user, _)| user.clone()).collect();
        let seen = self.store.last_seen(asked).await.map_err(store_error)?;
        let now = self.store.now();
        let users = people.into_iter().zip(seen).map(|((_, user_id, name), seen)| {
            let online = self.live.sockets.is_online(&user_id);
            let last_seen = if online { now } else { seen.map_or(now, |(_, at)| at) };
            Present { user_id, name, online, last_seen }
        });
        let mut users: Vec<Present> = users.collect();
        let fit = fitting(&users);
        has_more |= fit < users.len();
        users.truncate(fit);
        Ok(PresenceItems { users, total, has_more })
    }
}
