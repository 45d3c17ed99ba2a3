//! Who is here and who types: never stored beyond "last seen", and ended by itself when a client vanishes.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::contract::answers::{PresenceItems, Present};
use crate::contract::errors::WireError;
use crate::contract::events::ServerEvent;
use crate::contract::requests::RoomOnly;
use crate::domain::{Room, RoomId, Timestamp, UserId};

use super::delivery::Delivery;
use super::{Caller, Services};

/// After so much silence a user no longer types.
const TYPING_LASTS: Duration = Duration::from_secs(6);
/// So long after the last socket has gone a user is offline: a page that is reloaded is no absence.
const GRACE: Duration = Duration::from_secs(5);
/// The most people whose absence is remembered, so that their return can be told.
const MAX_AWAY: usize = 10_000;

#[derive(Debug)]
struct Typing {
    until: Instant,
    name: String,
    /// The socket that said so last; `None` over HTTP.
    socket: Option<u64>,
}

#[derive(Debug)]
struct Gone {
    at: Instant,
    seen: Timestamp,
    rooms: Vec<RoomId>,
}

#[derive(Debug, Default)]
struct Book {
    typing: HashMap<(RoomId, UserId), Typing>,
    /// The rooms that users lost with one socket of several, and when: a device that vanishes takes its connections down one
    /// by one. Kept as long as their absence may still be told.
    parted: HashMap<UserId, Vec<(RoomId, Instant)>>,
    /// Whose last socket has gone, and who is not yet called offline.
    leaving: HashMap<UserId, Gone>,
    /// Who has been called offline, and where.
    away: HashMap<UserId, Vec<RoomId>>,
}

/// The memory of presence and typing. Its lock is held for a look-up at a time.
#[derive(Debug, Default)]
pub struct PresenceBook(Mutex<Book>);

impl PresenceBook {
    fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    pub(super) fn begin_typing(&self, room: RoomId, caller: &Caller) {
        let actor = &caller.actor;
        let until = Instant::now() + TYPING_LASTS;
        let typing = Typing { until, name: actor.name.clone(), socket: caller.socket };
        self.presence.lock().typing.insert((room.clone(), actor.user.clone()), typing);
        self.publish_typing(&room, &actor.user, &actor.name, true);
    }

    /// Ends the typing of a user in a room, if they typed.
    pub(super) fn end_typing(&self, room: &RoomId, user: &UserId) {
        self.end_typing_if(room, user, |_| true);
    }

    /// A socket has left a room: what was typed there has ended, and with a user's last socket all typing of theirs.
    pub(super) fn end_typing_of(&self, socket: u64, room: &RoomId, user: &UserId, was_last: bool) {
        self.end_typing_if(room, user, |typing| was_last || typing.socket == Some(socket));
    }

    fn end_typing_if(&self, room: &RoomId, user: &UserId, has_ended: impl FnOnce(&Typing) -> bool) {
        let ended = {
            let mut book = self.presence.lock();
            if book.typing.is_empty() {
                return;
            }
            let key = (room.clone(), user.clone());
            if book.typing.get(&key).is_some_and(has_ended) { book.typing.remove(&key) } else { None }
        };
        if let Some(typing) = ended {
            self.publish_typing(room, user, &typing.name, false);
        }
    }

    pub(super) fn end_stale_typing(&self) {
        let now = Instant::now();
        let ended: Vec<_> = self.presence.lock().typing.extract_if(|_, typing| typing.until <= now).collect();
        for ((room, user), typing) in ended {
            self.publish_typing(&room, &user, &typing.name, false);
        }
    }

    fn publish_typing(&self, room: &RoomId, user: &UserId, name: &str, is_typing: bool) {
        let event = ServerEvent::ChatTyping { room_id: room, user_id: user, user_name: name, is_typing };
        self.publish_passing(Delivery::to_others(Room::Chat(room.clone()), user, &event).volatile());
    }

    /// Somebody is here again, or for the first time.
    pub(super) fn note_arrival(&self, user: &UserId) {
        let rooms = {
            let mut book = self.presence.lock();
            book.leaving.remove(user);
            book.away.remove(user)
        };
        let now = self.now();
        for room in rooms.unwrap_or_default() {
            let event = ServerEvent::PresenceChanged { user_id: user, online: true, last_seen: now };
            self.publish_passing(Delivery::to_others(Room::Chat(room), user, &event));
        }
    }

    /// A socket has gone, by whatever way: its rooms are told, its typing ends, and after a while the user is offline.
    pub async fn depart(&self, socket: u64) {
        let Some(departure) = self.sockets.exit(socket) else { return };
        let user = departure.user;
        for change in &departure.rooms {
            self.end_typing_of(socket, &change.room, &user, change.is_whole_user);
            if change.is_whole_user {
                self.announce_guest(&change.room, &user, &departure.name, false);
            }
        }
        let lost = departure.rooms.into_iter().filter(|change| change.is_whole_user).map(|change| change.room);
        let (now, seen) = (Instant::now(), self.now());
        {
            let mut book = self.presence.lock();
            if !departure.was_last {
                let lost: Vec<_> = lost.map(|room| (room, now)).collect();
                if !lost.is_empty() {
                    book.parted.entry(user).or_default().extend(lost);
                }
                return;
            }
            let mut rooms: Vec<RoomId> = lost.collect();
            for (room, at) in book.parted.remove(&user).unwrap_or_default() {
                if now.duration_since(at) < GRACE && !rooms.contains(&room) {
                    rooms.push(room);
                }
            }
            book.leaving.insert(user.clone(), Gone { at: now, seen, rooms });
        }
        if let Err(error) = self.store.left(user, seen).await {
            tracing::debug!(%error, "the time somebody was last seen was not recorded");
        }
    }

    pub(super) fn announce_the_gone(&self) {
        let now = Instant::now();
        let gone: Vec<(UserId, Gone)> = {
            let mut book = self.presence.lock();
            book.parted.retain(|_, rooms| {
                rooms.retain(|(_, at)| now.duration_since(*at) < GRACE);
                !rooms.is_empty()
            });
            book.leaving.extract_if(|_, gone| now.duration_since(gone.at) >= GRACE).collect()
        };
        for (user, gone) in gone {
            // Held over what is told: who comes back at this moment tells so behind it.
            let mut book = self.presence.lock();
            if gone.rooms.is_empty() || self.sockets.is_online(&user) {
                continue;
            }
            for room in &gone.rooms {
                let event = ServerEvent::PresenceChanged { user_id: &user, online: false, last_seen: gone.seen };
                self.publish_passing(Delivery::to_others(Room::Chat(room.clone()), &user, &event));
            }
            if book.away.len() < MAX_AWAY {
                book.away.insert(user, gone.rooms);
            }
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
