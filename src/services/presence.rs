//! Who is in a room, and when somebody was last seen.

use crate::domain::UserId;
use crate::protocol::answer::{PresenceItems, Present};
use crate::protocol::error::WireError;
use crate::protocol::request::RoomOnly;
use crate::services::{Caller, Services};
use crate::store::operations::Left;

impl Services {
    /// A socket has gone, by whatever way.
    pub async fn depart(&self, socket: u64) {
        if let Some(user) = self.live.depart(socket) {
            self.note_left(user).await;
        }
    }

    async fn note_left(&self, user: UserId) {
        if let Err(error) = self.store.apply(self.now(), Left { user }).await {
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
    pub async fn present(&self, caller: &Caller, request: RoomOnly) -> Result<PresenceItems, WireError> {
        self.must_have_joined(caller, &request.room_id)?;
        if caller.socket.is_none() {
            self.must_be_let_into(caller, &request.room_id).await?;
        }
        let people = self.sockets.people_in(&request.room_id);
        let seen = self.last_seen(people.iter().map(|(user, _)| user.clone()).collect()).await?;
        let now = self.now();
        let users = people.into_iter().zip(seen).map(|((user_id, name), seen)| {
            let online = self.sockets.is_online(&user_id);
            let last_seen = if online { now } else { seen.map_or(now, |(_, at)| at) };
            Present { user_id, name, online, last_seen }
        });
        let mut users: Vec<Present> = users.collect();
        users.sort_by_key(|present| present.user_id.canonical());
        Ok(PresenceItems { users })
    }
}
