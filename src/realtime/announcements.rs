//! Says who comes, goes and types, to the rooms that they are in: from what [`crate::realtime::presence`] remembers.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::time::Instant;

use crate::domain::{Actor, Room, RoomId, UserId};
use crate::protocol::event::ServerEvent;
use crate::realtime::delivery::Delivery;
use crate::realtime::live::Live;
use crate::realtime::presence::*;
use crate::realtime::registry::Kind;

impl Live {
    pub(crate) fn begin_typing(&self, room: RoomId, actor: &Actor, socket: Option<u64>) {
        let until = Instant::now() + TYPING_LASTS;
        let typing = Typing { until, name: actor.name.clone(), socket };
        self.presences.lock().typing.insert((room.clone(), actor.user.clone()), typing);
        self.publish_typing(&room, &actor.user, &actor.name, true);
    }

    /// Ends the typing of a user in a room, if they typed.
    pub(crate) fn end_typing(&self, room: &RoomId, user: &UserId) {
        self.end_typing_if(room, user, |_| true);
    }

    /// Ends the typing of a user in one room, or everywhere.
    pub(crate) fn end_typing_in(&self, user: &UserId, room: Option<&RoomId>) {
        let is_meant = |at: &RoomId, by: &UserId| by == user && room.is_none_or(|room| room == at);
        let ended: Vec<_> = self.presences.lock().typing.extract_if(|(at, by), _| is_meant(at, by)).collect();
        for ((room, user), typing) in ended {
            self.publish_typing(&room, &user, &typing.name, false);
        }
    }

    /// A socket has left a room: what was typed there has ended, and with a user's last socket all typing of theirs.
    pub(crate) fn end_typing_of(&self, socket: u64, room: &RoomId, user: &UserId, was_last: bool) {
        self.end_typing_if(room, user, |typing| was_last || typing.socket == Some(socket));
    }

    fn end_typing_if(&self, room: &RoomId, user: &UserId, has_ended: impl FnOnce(&Typing) -> bool) {
        let ended = {
            let mut book = self.presences.lock();
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

    pub(crate) fn end_stale_typing(&self) {
        let now = Instant::now();
        let ended: Vec<_> = self.presences.lock().typing.extract_if(|_, typing| typing.until <= now).collect();
        for ((room, user), typing) in ended {
            self.publish_typing(&room, &user, &typing.name, false);
        }
    }

    fn publish_typing(&self, room: &RoomId, user: &UserId, name: &str, is_typing: bool) {
        let event = ServerEvent::ChatTyping { room_id: room, user_id: user, user_name: name, is_typing };
        self.publish_passing(Delivery::to_others(Room::Chat(room.clone()), user, &event).volatile());
    }

    /// Somebody is here again, or for the first time.
    pub(crate) fn note_arrival(&self, user: &UserId) {
        let rooms = {
            let mut book = self.presences.lock();
            book.leaving.remove(user);
            book.away.remove(user)
        };
        let now = self.clock.now();
        for room in rooms.unwrap_or_default() {
            self.announce_sighting(&room, user, true, now);
        }
    }

    /// A socket, or somebody who polls, has gone: its rooms are told, its typing ends, and after a while the user is offline.
    /// Gives who has gone altogether.
    pub(crate) fn depart(&self, socket: u64) -> Option<UserId> {
        let departure = self.sockets.exit(socket)?;
        let user = departure.user;
        for change in &departure.rooms {
            self.end_typing_of(socket, &change.room, &user, change.is_whole_user);
            if change.is_whole_user {
                self.announce_guest(&change.room, &user, &departure.name);
            }
        }
        let lost = departure.rooms.into_iter().filter(|change| change.is_whole_user).map(|change| change.room);
        let (now, seen) = (Instant::now(), self.clock.now());
        {
            let mut book = self.presences.lock();
            if !departure.was_last {
                let lost: Vec<_> = lost.map(|room| (room, now)).collect();
                if !lost.is_empty() {
                    book.parted.entry(user).or_default().extend(lost);
                }
                return None;
            }
            let mut rooms: HashSet<RoomId> = lost.collect();
            let parted = book.parted.remove(&user).unwrap_or_default();
            rooms.extend(parted.into_iter().filter(|(_, at)| now.duration_since(*at) < GRACE).map(|(room, _)| room));
            book.leaving.insert(user.clone(), Gone { at: now, seen, rooms: rooms.into_iter().collect() });
        }
        Some(user)
    }

    pub(crate) fn announce_the_gone(&self) {
        let now = Instant::now();
        let gone: Vec<(UserId, Gone)> = {
            let mut book = self.presences.lock();
            book.parted.retain(|_, rooms| {
                rooms.retain(|(_, at)| now.duration_since(*at) < GRACE);
                !rooms.is_empty()
            });
            book.leaving.extract_if(|_, gone| now.duration_since(gone.at) >= GRACE).collect()
        };
        for (user, gone) in gone {
            // Held over what is told: who comes back at this moment tells so behind it.
            let mut book = self.presences.lock();
            if gone.rooms.is_empty() || self.sockets.is_online(&user) {
                continue;
            }
            for room in &gone.rooms {
                self.announce_sighting(room, &user, false, gone.seen);
            }
            book.away.insert(user, gone.rooms);
        }
    }

    /// Who is here by polling, and is no more: gives whoever has gone altogether.
    pub(crate) fn end_stale_polling(&self) -> Vec<UserId> {
        let now = Instant::now();
        let (mut left, mut gone) = (Vec::new(), Vec::new());
        self.presences.lock().pollers.retain(|user, poller| {
            if poller.here.is_over(now) || poller.outlet.is_expelled.load(Ordering::Relaxed) {
                gone.push(poller.number);
                return false;
            }
            let over = poller.rooms.extract_if(|_, stay| stay.is_over(now));
            left.extend(over.map(|(room, _)| (poller.number, user.clone(), room)));
            true
        });
        for (number, user, room) in left {
            self.leave_as_poller(number, &user, &room);
        }
        gone.into_iter().filter_map(|number| self.depart(number)).collect()
    }

    fn leave_as_poller(&self, number: u64, user: &UserId, room: &RoomId) {
        let Some((_, name)) = self.sockets.name_of(number) else { return };
        if let Some(was_last) = self.sockets.leave(number, room) {
            self.end_typing_of(number, room, user, was_last);
            if was_last {
                self.announce_guest(room, user, &name);
            }
        }
    }

    /// Somebody who polls leaves a room by their own will.
    pub(crate) fn stop_polling(&self, user: &UserId, room: &RoomId) {
        self.stop_polling_if(user, room, |_| true);
    }

    /// Somebody leaves a room by their own will in which they have polled: unless a poll of theirs waits, they are out of it.
    pub(crate) fn stop_idle_polling(&self, user: &UserId, room: &RoomId) {
        self.stop_polling_if(user, room, |stay| stay.waiting == 0);
    }

    fn stop_polling_if(&self, user: &UserId, room: &RoomId, stops: impl FnOnce(&Stay) -> bool) {
        let number = {
            let mut book = self.presences.lock();
            let Some(poller) = book.pollers.get_mut(user) else { return };
            if !poller.rooms.get(room).is_some_and(stops) {
                return;
            }
            poller.rooms.remove(room).map(|_| poller.number)
        };
        if let Some(number) = number {
            self.leave_as_poller(number, user, room);
        }
    }

    /// A socket of somebody's has joined a room, and is how they are there from now on: what is left of their polls, which they
    /// no longer need, does not keep them there when they leave. A poll that waits does.
    pub(crate) fn end_idle_polling(&self, user: &UserId, room: &RoomId) {
        let (number, gone) = {
            let mut book = self.presences.lock();
            let Some(poller) = book.pollers.get_mut(user) else { return };
            if poller.rooms.get(room).is_none_or(|stay| stay.waiting > 0) {
                return;
            }
            poller.rooms.remove(room);
            let (number, is_last) = (poller.number, poller.rooms.is_empty() && poller.here.waiting == 0);
            (number, if is_last { book.pollers.remove(user) } else { None })
        };
        if gone.is_some() {
            // Their socket is here: nobody goes, and nobody is told.
            self.depart(number);
        } else {
            self.leave_as_poller(number, user, room);
        }
    }

    /// Somebody polls in some rooms: they are here from now on, and in these rooms. What comes back ends the poll. Who has a
    /// socket, and asks only for what they have missed, is here by their socket alone.
    pub(crate) fn note_poll(self: &Arc<Self>, actor: &Arc<Actor>, rooms: &[RoomId], waits: bool) -> Option<Polling> {
        // Who administers on this machine is no person who could be here.
        if actor.user == UserId::system() || (!waits && self.sockets.count_of(&actor.user) > 0) {
            return None;
        }
        let until = Instant::now() + POLLING_LASTS;
        let mut come = Vec::new();
        let is_new = {
            let mut book = self.presences.lock();
            let is_new = !book.pollers.contains_key(&actor.user);
            if is_new {
                if book.pollers.len() >= MAX_POLLERS {
                    return None;
                }
                let (number, outlet) = (self.sockets.next_number(), Arc::new(Nowhere::default()));
                self.sockets.enter(number, actor, &[], outlet.clone(), 0, Kind::Poller)?;
                let here = Stay { waiting: 0, until };
                book.pollers.insert(actor.user.clone(), Poller { number, outlet, here, rooms: HashMap::new() });
            }
            let poller = book.pollers.get_mut(&actor.user)?;
            poller.here.waiting += 1;
            for room in rooms {
                // Whoever polls ever other rooms is in so many of them, and is told of what happens in all.
                if poller.rooms.len() >= MAX_POLLED_ROOMS && !poller.rooms.contains_key(room) {
                    continue;
                }
                let stay = poller.rooms.entry(room.clone()).or_insert(Stay { waiting: 0, until });
                stay.waiting += 1;
                // Each time: they may have been put out of it meanwhile.
                if let Some((gate, true)) = self.sockets.join(poller.number, room) {
                    gate.open(&*poller.outlet, 0, 0, || {});
                    come.push(room.clone());
                }
            }
            is_new
        };
        if is_new {
            self.note_arrival(&actor.user);
        }
        for room in &come {
            self.announce_guest(room, &actor.user, &actor.name);
        }
        Some(Polling { live: self.clone(), user: actor.user.clone(), rooms: rooms.to_vec() })
    }
}

/// A poll that is answered, or waits. When it ends, however it ends, its user is here for a while longer.
#[derive(Debug)]
pub(crate) struct Polling {
    live: Arc<Live>,
    user: UserId,
    rooms: Vec<RoomId>,
}

impl Drop for Polling {
    fn drop(&mut self) {
        let until = Instant::now() + POLLING_LASTS;
        let mut book = self.live.presences.lock();
        let Some(poller) = book.pollers.get_mut(&self.user) else { return };
        let end = |stay: &mut Stay| {
            stay.waiting = stay.waiting.saturating_sub(1);
            stay.until = stay.until.max(until);
        };
        end(&mut poller.here);
        for room in &self.rooms {
            if let Some(stay) = poller.rooms.get_mut(room) {
                end(stay);
            }
        }
    }
}
