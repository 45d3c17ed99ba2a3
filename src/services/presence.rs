//! Who is in a room, and when somebody was last seen.

use std::sync::Arc;

use crate::domain::UserId;
use crate::protocol::answer::{PresenceItems, Present};
use crate::protocol::error::ApiError;
use crate::protocol::request::RoomOnly;
use crate::realtime::live::Live;
use crate::services::Caller;
use crate::services::caller::{require_join, require_membership};
use crate::services::errors::store_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::store::operations::Left;

/// Who is in a room, and when somebody was last seen.
#[derive(Debug, Clone)]
pub struct Presence {
    /// When somebody was last seen, and who may enter a room.
    store: Storage,
    /// Who is in a room at this moment.
    live: Arc<Live>,
    /// The rules of open rooms.
    settings: Arc<LiveSettings>,
}

impl Presence {
    pub(super) fn new(store: Storage, live: Arc<Live>, settings: Arc<LiveSettings>) -> Presence {
        Presence { store, live, settings }
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

    /// Who is in a room: one that the socket has joined; over HTTP, one that the caller may enter.
    ///
    /// # Errors
    /// `not_joined`, `forbidden`, `unavailable`.
    pub async fn list(&self, caller: &Caller, request: RoomOnly) -> Result<PresenceItems, ApiError> {
        require_join(&self.live, caller, &request.room_id)?;
        if caller.socket.is_none() {
            require_membership(&self.store, &self.settings, caller, &request.room_id).await?;
        }
        let people = self.live.sockets.people_in(&request.room_id);
        let seen =
            self.store.last_seen(people.iter().map(|(user, _)| user.clone()).collect()).await.map_err(store_error)?;
        let now = self.store.now();
        let users = people.into_iter().zip(seen).map(|((user_id, name), seen)| {
            let online = self.live.sockets.is_online(&user_id);
            let last_seen = if online { now } else { seen.map_or(now, |(_, at)| at) };
            Present { user_id, name, online, last_seen }
        });
        let mut users: Vec<Present> = users.collect();
        users.sort_by_key(|present| present.user_id.canonical());
        Ok(PresenceItems { users })
    }
}
