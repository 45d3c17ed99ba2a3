//! Who is here and who types: never stored beyond "last seen", and ended by itself when a client vanishes. Who takes part by
//! polling is here as who has a socket is: while a poll waits, and for a while behind it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::time::Instant;

use crate::domain::{RoomId, Timestamp, UserId};
use crate::protocol::error::ApiError;
use crate::realtime::batch::Packets;
use crate::realtime::registry::Outlet;

/// After so much silence a user no longer types.
pub(super) const TYPING_LASTS: Duration = Duration::from_secs(6);
/// So long after the last socket has gone a user is offline: a page that is reloaded is no absence.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// So long behind their last poll somebody who polls is here.
pub(super) const POLLING_LASTS: Duration = Duration::from_secs(35);
/// How many absent users are remembered, so that their return can be announced, and how many rooms they were in at most.
pub(super) const MAX_AWAY: usize = 10_000;
const MAX_AWAY_ROOMS: usize = 100_000;
/// The most rooms that somebody is in by polling.
pub(super) const MAX_POLLED_ROOMS: usize = 300;
/// The most people who are here by polling; one more is served, and not shown.
pub(super) const MAX_POLLERS: usize = 50_000;

#[derive(Debug)]
pub(super) struct Typing {
    pub(super) until: Instant,
    pub(super) name: String,
    /// The socket that said so last; `None` over HTTP.
    pub(super) socket: Option<u64>,
}

#[derive(Debug)]
pub(super) struct Gone {
    pub(super) at: Instant,
    pub(super) seen: Timestamp,
    pub(super) rooms: Vec<RoomId>,
}

/// What is sent to somebody who polls is read by their polls.
#[derive(Debug, Default)]
pub(super) struct Nowhere {
    /// They are blocked: they are no longer here.
    pub(super) is_expelled: AtomicBool,
}

impl Outlet for Nowhere {
    fn send(&self, _: &Packets<'_>) -> bool {
        true
    }

    fn send_volatile(&self, _: &Packets<'_>) {}

    fn expel(&self, _: &ApiError) {
        self.is_expelled.store(true, Ordering::Relaxed);
    }
}

/// How somebody who polls is somewhere.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stay {
    /// Polls that wait.
    pub(super) waiting: u32,
    /// Behind the last of them, until then.
    pub(super) until: Instant,
}

impl Stay {
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.waiting == 0 && self.until <= now
    }
}

/// Somebody who takes part by polling.
#[derive(Debug)]
pub(super) struct Poller {
    /// Their number among the sockets.
    pub(super) number: u64,
    pub(super) outlet: Arc<Nowhere>,
    pub(super) here: Stay,
    pub(super) rooms: HashMap<RoomId, Stay>,
}

#[derive(Debug, Default)]
pub(super) struct Book {
    pub(super) pollers: HashMap<UserId, Poller>,
    pub(super) typing: HashMap<(RoomId, UserId), Typing>,
    /// The rooms that users lost with one socket of several, and when: a device that vanishes takes its connections down one
    /// by one. Kept as long as their absence may still be announced.
    pub(super) parted: HashMap<UserId, Vec<(RoomId, Instant)>>,
    /// Whose last socket has gone, and who is not yet called offline.
    pub(super) leaving: HashMap<UserId, Gone>,
    /// Who has been called offline, and where.
    pub(super) away: Away,
}

/// Whose absence was told, and in which rooms. Who has been away for longest is forgotten first: most of them do not come back,
/// and they would keep the place of all who go later.
#[derive(Debug, Default)]
pub(super) struct Away {
    people: HashMap<UserId, (u64, Vec<RoomId>)>,
    order: BTreeMap<u64, UserId>,
    rooms: usize,
    told: u64,
}

impl Away {
    pub(super) fn insert(&mut self, user: UserId, rooms: Vec<RoomId>) {
        self.remove(&user);
        self.told += 1;
        self.rooms += rooms.len();
        self.order.insert(self.told, user.clone());
        self.people.insert(user, (self.told, rooms));
        while self.people.len() > MAX_AWAY || self.rooms > MAX_AWAY_ROOMS {
            let Some((_, oldest)) = self.order.pop_first() else { return };
            let forgotten = self.people.remove(&oldest);
            self.rooms -= forgotten.map_or(0, |(_, rooms)| rooms.len());
        }
    }

    pub(super) fn remove(&mut self, user: &UserId) -> Option<Vec<RoomId>> {
        let (nth, rooms) = self.people.remove(user)?;
        self.order.remove(&nth);
        self.rooms -= rooms.len();
        Some(rooms)
    }
}

/// The memory of presence and typing. Its lock is held for a look-up at a time. It is bounded by who is connected: typing ends
/// after seconds, and whoever has gone is forgotten after a while, or beyond a number.
#[derive(Debug, Default)]
pub(crate) struct Presences(Mutex<Book>);

impl Presences {
    pub(super) fn lock(&self) -> MutexGuard<'_, Book> {
        self.0.lock()
    }

    /// Nothing is remembered of somebody who has been erased.
    pub(crate) fn forget(&self, user: &UserId) {
        let mut book = self.lock();
        book.typing.retain(|(_, who), _| who != user);
        book.parted.remove(user);
        book.leaving.remove(user);
        book.away.remove(user);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_away_for_longest_makes_room_for_who_goes_now() {
        let user = |n: usize| UserId::parse(&format!("u{n}")).unwrap();
        let rooms = |n: usize| (0..n).map(|n| RoomId::parse(&format!("r{n}")).unwrap()).collect::<Vec<_>>();
        let mut away = Away::default();
        for n in 0..MAX_AWAY * 2 {
            away.insert(user(n), rooms(1));
        }
        assert_eq!((away.people.len(), away.order.len(), away.rooms), (MAX_AWAY, MAX_AWAY, MAX_AWAY));
        assert_eq!((away.remove(&user(0)), away.remove(&user(MAX_AWAY * 2 - 1))), (None, Some(rooms(1))));
        // The same bound holds for the rooms, whoever was in them.
        for n in 0..MAX_AWAY_ROOMS / 1_000 + 10 {
            away.insert(user(n), rooms(1_000));
            away.insert(user(n), rooms(1_000));
        }
        assert!(away.rooms <= MAX_AWAY_ROOMS && away.people.len() == away.order.len());
        assert_eq!(away.people.values().map(|(_, rooms)| rooms.len()).sum::<usize>(), away.rooms);
    }
}
