//! Who is connected and in which rooms: the one place that the pump asks for the receivers of a delivery, and that presence
//! asks for who is here. It knows no transport: a socket is an [`Outlet`].
//!
//! Each membership has a [`Gate`]: closed while its owner still gets the history, so that history and live
//! stream join without gap and in order; gone when the socket has left, so that a late delivery is not sent.

mod membership;
mod news;
mod watermarks;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};

use crate::domain::notification::{AudienceKind, Notification};
use crate::domain::{Actor, Role, Room, RoomId, UserId};
use crate::protocol::error::ApiError;
use crate::store::operations::DeliveryMark;

pub use crate::realtime::gate::{Gate, Group, Outlet};
pub use membership::Member;
pub use news::{New, Whereabouts};
pub use watermarks::Presence;

use crate::realtime::delivery::{Delivery, DeliveryKind, Placed};
use crate::realtime::gate::{GateState, is_told};
use membership::audience_of;
use news::News;
use watermarks::{As, People};

/// One authenticated socket, as its transport holds it.
#[derive(Clone)]
pub struct SocketHandle {
    /// The server's own number of the socket; never used twice in a process.
    pub socket: u64,
    presence: Arc<Presence>,
    outlet: Arc<dyn Outlet>,
    base: Arc<Gate>,
}

impl std::fmt::Debug for SocketHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketHandle").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl SocketHandle {
    /// The socket's outlet.
    #[must_use]
    pub fn outlet(&self) -> &dyn Outlet {
        &*self.outlet
    }

    /// The gate of the rooms that the socket is in by being who it is.
    #[must_use]
    pub fn base_gate(&self) -> &Gate {
        &self.base
    }

    /// Up to where this process knows that the user's inbox was sent, where the store does not.
    #[must_use]
    pub fn unrecorded(&self) -> Vec<(UserId, DeliveryMark)> {
        self.presence.unrecorded()
    }

    /// Opens the base gate: `say` is given how many are unread and what has waited, and says so before anything else. Of a
    /// gate that is open, somebody with other roles is told what waits for these.
    pub fn welcome(&self, roles: &[Role], arrived: &Arrived, say: impl FnOnce(u64, &[&Notification])) {
        let held = self.base.open(&*self.outlet, 0, arrived.up_to, || {
            let was_sent = self.presence.note_arrival(roles, arrived.up_to, arrived.has_more);
            let waiting: Vec<_> = arrived.undelivered.iter().filter(|waiting| !was_sent(waiting)).collect();
            say(arrived.unread, &waiting);
        });
        for (room, id) in held {
            if let Some(kind) = audience_of(&room) {
                self.presence.note_live(kind, id);
            }
        }
    }
}

/// What is registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A person's socket.
    Socket,
    /// A person who takes part by polling: in rooms and present, but sent nothing here.
    Poller,
    /// Somebody who waits for a poll: woken, and no person of their own.
    Waiter,
}

impl Kind {
    fn is_person(self) -> bool {
        self != Kind::Waiter
    }

    fn comes_as(self) -> Option<As> {
        match self {
            Kind::Socket => Some(As::Socket),
            Kind::Poller => Some(As::Poller),
            Kind::Waiter => None,
        }
    }
}

/// What somebody finds on arrival.
#[derive(Debug, Clone)]
pub struct Arrived {
    /// How many notifications are unread.
    pub unread: u64,
    /// What no socket of the user was sent, oldest first; not all of it if there is more than is sent at once.
    pub undelivered: Vec<Notification>,
    /// Up to where `undelivered` tells all of the inbox.
    pub up_to: u64,
    /// Whether there is, or may be, more behind it.
    pub has_more: bool,
}

/// The first or last of a user's sockets in a chat room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomChange {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// Whether the user came or left as a whole, and not one socket of several.
    pub is_whole_user: bool,
}

#[derive(Debug, Default)]
struct RoomEntry {
    /// Copied only when somebody comes or goes while the pump holds the list.
    members: Arc<Vec<Member>>,
    /// Who has a socket in it, and who has none any more and has not been said to have left.
    people: HashMap<UserId, Person>,
    /// How many of them have a socket in it.
    head_count: usize,
}

/// A person in a room.
#[derive(Debug, Default)]
struct Person {
    sockets: u32,
    /// Whether the others have been told that they came, and not yet that they left.
    is_told: bool,
}

/// A membership, and where it stands in the list of its room: a socket that leaves is not searched for.
struct Seat {
    gate: Arc<Gate>,
    at: usize,
}

struct SocketEntry {
    presence: Arc<Presence>,
    /// Who its last good token says it is.
    actor: Arc<Actor>,
    name: Arc<str>,
    outlet: Arc<dyn Outlet>,
    /// All memberships, the base rooms among them.
    rooms: HashMap<Room, Seat>,
    /// How many of them are chat rooms.
    chats: usize,
    kind: Kind,
}

impl SocketEntry {
    fn occupant(&self, socket: u64) -> Occupant {
        Occupant { socket, actor: self.actor.clone(), outlet: self.outlet.clone(), kind: self.kind }
    }
}

/// A socket, for whoever decides whether it stays.
pub struct Occupant {
    /// Its number.
    pub socket: u64,
    /// Who its last good token says it is.
    pub actor: Arc<Actor>,
    /// Where it is sent to.
    pub outlet: Arc<dyn Outlet>,
    /// What it is.
    pub kind: Kind,
}

impl std::fmt::Debug for Occupant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Occupant").field("socket", &self.socket).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Registry {
    sockets: HashMap<u64, SocketEntry>,
    rooms: HashMap<Room, RoomEntry>,
    people: People,
}

impl Registry {
    fn add(&mut self, socket: u64, room: &Room, gate: &Arc<Gate>) -> Option<bool> {
        let entry = self.sockets.get_mut(&socket)?;
        if entry.rooms.contains_key(room) {
            return Some(false);
        }
        let place = self.rooms.entry(room.clone()).or_default();
        entry.rooms.insert(room.clone(), Seat { gate: gate.clone(), at: place.members.len() });
        entry.chats += usize::from(matches!(room, Room::Chat(_)));
        Arc::make_mut(&mut place.members).push(Member {
            socket,
            presence: entry.presence.clone(),
            name: entry.name.clone(),
            outlet: entry.outlet.clone(),
            gate: gate.clone(),
            is_person: entry.kind == Kind::Socket,
        });
        if !entry.kind.is_person() {
            return Some(false);
        }
        let person = place.people.entry(entry.presence.user.clone()).or_default();
        person.sockets += 1;
        let is_first = person.sockets == 1;
        place.head_count += usize::from(is_first);
        Some(is_first)
    }

    /// Takes the one who sat there out of a room. Gives whether the person has no more sockets in it.
    fn remove(&mut self, at: usize, user: &UserId, is_person: bool, room: &Room) -> bool {
        let Some(place) = self.rooms.get_mut(room) else { return false };
        let members = Arc::make_mut(&mut place.members);
        if at < members.len() {
            members.swap_remove(at);
        }
        // The last one of the list has the free place now.
        if let Some(moved) = members.get(at)
            && let Some(seat) = self.sockets.get_mut(&moved.socket).and_then(|entry| entry.rooms.get_mut(room))
        {
            seat.at = at;
        }
        let mut is_last = false;
        if is_person && let Some(person) = place.people.get_mut(user) {
            person.sockets -= 1;
            is_last = person.sockets == 0;
            place.head_count -= usize::from(is_last);
            if is_last && !person.is_told {
                place.people.remove(user);
            }
        }
        self.forget_if_empty(room);
        is_last
    }

    fn forget_if_empty(&mut self, room: &Room) {
        if self.rooms.get(room).is_some_and(|place| place.members.is_empty() && place.people.is_empty()) {
            self.rooms.remove(room);
        }
    }
}

/// Somebody who has gone.
#[derive(Debug)]
pub struct Departure {
    /// The user.
    pub user: UserId,
    /// Their name.
    pub name: String,
    /// The chat rooms that the socket was in.
    pub rooms: Vec<RoomChange>,
    /// Whether it was the user's last socket.
    pub was_last: bool,
}

/// All sockets and their rooms. Its lock is held for the time of a look-up, never over a send or an await.
#[derive(Default)]
pub struct Sockets {
    registry: Mutex<Registry>,
    next: AtomicU64,
    news: News,
}

impl std::fmt::Debug for Sockets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sockets").finish_non_exhaustive()
    }
}

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock()
    }

    /// A number for a new socket.
    pub fn next_number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Enters a socket with the rooms that it is in by being who it is; what is delivered to them is held until
    /// [`SocketHandle::base_gate`] is opened. `None` if the user has `most` sockets already (0: no bound).
    pub fn enter(
        &self,
        socket: u64,
        actor: &Arc<Actor>,
        rooms: &[Room],
        outlet: Arc<dyn Outlet>,
        most: usize,
        kind: Kind,
    ) -> Option<SocketHandle> {
        let mut registry = self.lock();
        if kind == Kind::Socket && most > 0 && registry.people.count_of(&actor.user) >= most {
            return None;
        }
        let presence = registry.people.presence_of(&actor.user);
        if let Some(how) = kind.comes_as() {
            registry.people.come(&actor.user, &presence, how);
            self.news.note(&actor.user, None);
        }
        let gate = Gate::held();
        registry.sockets.insert(
            socket,
            SocketEntry {
                presence: presence.clone(),
                actor: actor.clone(),
                name: actor.name.as_str().into(),
                outlet: outlet.clone(),
                rooms: HashMap::new(),
                chats: 0,
                kind,
            },
        );
        for room in rooms {
            registry.add(socket, room, &gate);
        }
        Some(SocketHandle { socket, presence, outlet, base: gate })
    }

    /// Puts a socket into the rooms of its renewed roles, and out of those it no longer has. What is delivered to it waits until
    /// it has been told who it is now, by [`SocketHandle::welcome`].
    pub fn renew(&self, handle: &SocketHandle, actor: &Arc<Actor>, rooms: &[Room]) {
        handle.base.hold();
        let mut registry = self.lock();
        let Some(entry) = registry.sockets.get_mut(&handle.socket) else { return };
        entry.actor = actor.clone();
        let is_gone = |room: &Room| matches!(room, Room::Role(_)) && !rooms.contains(room);
        let gone: Vec<(Room, Seat)> = entry.rooms.extract_if(|room, _| is_gone(room)).collect();
        let (user, is_person) = (entry.presence.user.clone(), entry.kind.is_person());
        for (room, seat) in &gone {
            registry.remove(seat.at, &user, is_person, room);
        }
        for room in rooms {
            registry.add(handle.socket, room, &handle.base);
        }
    }

    /// Joins a chat room; deliveries are held until the gate is opened. `None` if the socket has gone. The boolean says
    /// whether it is the user's first socket in the room.
    pub fn join(&self, socket: u64, id: &RoomId) -> Option<(Arc<Gate>, bool)> {
        let room = Room::Chat(id.clone());
        let mut registry = self.lock();
        let entry = registry.sockets.get(&socket)?;
        let (gate, user) = match entry.rooms.get(&room) {
            Some(seat) => (seat.gate.clone(), entry.presence.user.clone()),
            None => (Gate::held(), entry.presence.user.clone()),
        };
        let is_first = registry.add(socket, &room, &gate)?;
        if is_first {
            self.news.note(&user, Some(id));
        }
        Some((gate, is_first))
    }

    /// Leaves a chat room. `None` if the socket was not in it; otherwise whether it was the user's last one there.
    pub fn leave(&self, socket: u64, id: &RoomId) -> Option<bool> {
        let room = Room::Chat(id.clone());
        let mut registry = self.lock();
        let entry = registry.sockets.get_mut(&socket)?;
        let seat = entry.rooms.remove(&room)?;
        entry.chats -= 1;
        let (user, is_person) = (entry.presence.user.clone(), entry.kind.is_person());
        let is_last = registry.remove(seat.at, &user, is_person, &room);
        if is_last {
            self.news.note(&user, Some(id));
        }
        drop(registry);
        seat.gate.leave();
        Some(is_last)
    }

    /// Removes a socket from everything. `None` if it was not there (or has been removed before).
    pub fn exit(&self, socket: u64) -> Option<Departure> {
        let mut registry = self.lock();
        let entry = registry.sockets.remove(&socket)?;
        let user = entry.presence.user.clone();
        let mut rooms = Vec::new();
        for (room, seat) in &entry.rooms {
            let is_whole_user = registry.remove(seat.at, &user, entry.kind.is_person(), room);
            seat.gate.leave();
            if let Room::Chat(room) = room {
                if is_whole_user {
                    self.news.note(&user, Some(room));
                }
                rooms.push(RoomChange { room: room.clone(), is_whole_user });
            }
        }
        let was_last = entry.kind.comes_as().is_some_and(|how| registry.people.go(&user, how));
        if was_last {
            self.news.note(&user, None);
        }
        Some(Departure { user, name: entry.name.to_string(), rooms, was_last })
    }

    /// Notes who comes and goes from now on, or not any more.
    pub fn watch_news(&self, is_watched: bool) {
        self.news.switch(is_watched);
    }

    /// Of whom something may be new since this was last asked.
    pub fn take_news(&self) -> New {
        self.news.take()
    }

    /// Whether a socket has joined a chat room and got its history.
    #[must_use]
    pub fn is_in(&self, socket: u64, room: &RoomId) -> bool {
        let registry = self.lock();
        let seat = registry.sockets.get(&socket).and_then(|entry| entry.rooms.get(&Room::Chat(room.clone())));
        seat.is_some_and(|seat| seat.gate.is_open())
    }

    /// Whether a socket may join a chat room if it may be in `most` (0: no bound): one more, or one that it is in already.
    #[must_use]
    pub fn has_place_for(&self, socket: u64, room: &RoomId, most: usize) -> bool {
        let registry = self.lock();
        let Some(entry) = registry.sockets.get(&socket) else { return true };
        most == 0 || entry.chats < most || entry.rooms.contains_key(&Room::Chat(room.clone()))
    }

    /// What the others in a room are still to be told of each of some people: that they have come, that they have left, or
    /// nothing.
    #[must_use]
    pub fn untold(&self, room: &RoomId, users: &[&UserId]) -> Vec<Option<bool>> {
        let registry = self.lock();
        let place = registry.rooms.get(&Room::Chat(room.clone()));
        let news = users.iter().map(|user| {
            let person = place?.people.get(*user)?;
            let is_here = person.sockets > 0;
            (is_here != person.is_told).then_some(is_here)
        });
        news.collect()
    }

    /// The others in a room have been told that somebody came, or left.
    pub fn note_told<'u>(&self, room: &RoomId, told: impl Iterator<Item = (&'u UserId, bool)>) {
        let room = Room::Chat(room.clone());
        let mut registry = self.lock();
        let place = registry.rooms.entry(room.clone()).or_default();
        for (user, has_come) in told {
            // Who has gone while it was told is remembered again, so that this is told as well.
            let person = place.people.entry(user.clone()).or_default();
            person.is_told = has_come;
            if !has_come && person.sockets == 0 {
                place.people.remove(user);
            }
        }
        registry.forget_if_empty(&room);
    }

    /// Expels whoever a judgement is passed on, and gives how many of them were sockets of people, not polls that wait.
    pub fn expel_where(&self, judge: impl Fn(&Actor) -> Option<ApiError>) -> usize {
        let judged: Vec<(Arc<dyn Outlet>, ApiError, bool)> = {
            let registry = self.lock();
            let all = registry.sockets.values();
            all.filter_map(|entry| Some((entry.outlet.clone(), judge(&entry.actor)?, entry.kind == Kind::Socket)))
                .collect()
        };
        for (outlet, error, _) in &judged {
            outlet.expel(error);
        }
        judged.iter().filter(|(.., is_socket)| *is_socket).count()
    }

    /// Whose sockets are such that this is so, one for each socket.
    #[must_use]
    pub fn actors_where(&self, is_so: impl Fn(&Actor) -> bool) -> Vec<Arc<Actor>> {
        let registry = self.lock();
        let sockets = registry.sockets.values().filter(|entry| entry.kind == Kind::Socket && is_so(&entry.actor));
        sockets.map(|entry| entry.actor.clone()).collect()
    }

    /// Who is here, with a socket or by polling, in the order of their canonical ids.
    #[must_use]
    pub fn all_here(&self) -> Vec<UserId> {
        let mut users = self.lock().people.all();
        users.sort_by_cached_key(UserId::canonical);
        users
    }

    /// The sockets in a chat room.
    #[must_use]
    pub fn who_is_in(&self, room: &RoomId) -> Vec<Occupant> {
        let registry = self.lock();
        let Some(place) = registry.rooms.get(&Room::Chat(room.clone())) else { return Vec::new() };
        let members = place.members.iter().filter_map(|member| {
            let entry = registry.sockets.get(&member.socket)?;
            Some(entry.occupant(member.socket))
        });
        members.collect()
    }

    /// Which of some rooms a socket is still in.
    #[must_use]
    pub fn still_in(&self, socket: u64, rooms: &[Room]) -> Vec<Room> {
        let registry = self.lock();
        let Some(entry) = registry.sockets.get(&socket) else { return Vec::new() };
        rooms.iter().filter(|room| entry.rooms.contains_key(*room)).cloned().collect()
    }

    /// Who a socket is, and the chat rooms that it is in.
    #[must_use]
    pub fn rooms_of(&self, socket: u64) -> Option<(Occupant, Vec<RoomId>)> {
        let registry = self.lock();
        let entry = registry.sockets.get(&socket)?;
        let rooms = entry.rooms.keys().filter_map(|room| match room {
            Room::Chat(room) => Some(room.clone()),
            _ => None,
        });
        Some((entry.occupant(socket), rooms.collect()))
    }

    /// The user behind a socket, with the name they came with.
    #[must_use]
    pub fn name_of(&self, socket: u64) -> Option<(UserId, String)> {
        let registry = self.lock();
        registry.sockets.get(&socket).map(|entry| (entry.presence.user.clone(), entry.name.to_string()))
    }

    /// The chat rooms that somebody is in.
    #[must_use]
    pub fn live_rooms(&self) -> Vec<RoomId> {
        let registry = self.lock();
        let rooms = registry.rooms.iter().filter_map(|(room, place)| match room {
            Room::Chat(room) if !place.members.is_empty() => Some(room.clone()),
            _ => None,
        });
        rooms.collect()
    }

    /// How many sockets somebody has.
    #[must_use]
    pub fn count_of(&self, user: &UserId) -> usize {
        self.lock().people.count_of(user)
    }

    /// The members of a room at this moment.
    #[must_use]
    pub fn members(&self, room: &Room) -> Option<Arc<Vec<Member>>> {
        let registry = self.lock();
        let members = &registry.rooms.get(room)?.members;
        (!members.is_empty()).then(|| members.clone())
    }

    /// How many rooms are known, also those that are empty and whose last one has not been said to have left.
    #[cfg(test)]
    pub(crate) fn rooms_kept(&self) -> usize {
        self.lock().rooms.len()
    }

    /// How many sockets of people are in a room.
    #[must_use]
    pub fn count(&self, room: &Room) -> usize {
        self.lock().rooms.get(room).map_or(0, |entry| entry.people.values().map(|person| person.sockets as usize).sum())
    }

    /// The people in a room, with their names.
    #[must_use]
    pub fn people_in(&self, room: &RoomId) -> Vec<(UserId, String)> {
        let Some(members) = self.members(&Room::Chat(room.clone())) else { return Vec::new() };
        let mut seen = HashMap::new();
        let registry = self.lock();
        let is_person = |member: &&Member| registry.sockets.get(&member.socket).is_some_and(|e| e.kind.is_person());
        for member in members.iter().filter(is_person) {
            seen.entry(member.presence.user.clone()).or_insert_with(|| member.name.to_string());
        }
        seen.into_iter().collect()
    }

    /// How many people are in a room.
    #[must_use]
    pub fn head_count(&self, room: &RoomId) -> usize {
        self.lock().rooms.get(&Room::Chat(room.clone())).map_or(0, |entry| entry.head_count)
    }

    /// Whether somebody has a socket, or takes part by polling.
    #[must_use]
    pub fn is_online(&self, user: &UserId) -> bool {
        self.lock().people.is_here(user)
    }

    /// Users with a socket, and chat rooms with a member.
    #[must_use]
    pub fn totals(&self) -> (usize, usize) {
        let registry = self.lock();
        let is_chat = |(room, place): &(&Room, &RoomEntry)| matches!(room, Room::Chat(_)) && !place.members.is_empty();
        let chats = registry.rooms.iter().filter(is_chat).count();
        (registry.people.len(), chats)
    }

    /// Whether somebody has a socket in a room.
    #[must_use]
    pub fn is_present(&self, user: &UserId, room: &RoomId) -> bool {
        let registry = self.lock();
        let person = registry.rooms.get(&Room::Chat(room.clone())).and_then(|entry| entry.people.get(user));
        person.is_some_and(|person| person.sockets > 0)
    }

    /// The marks of delivered notifications that the store does not know yet.
    #[must_use]
    pub fn unrecorded_deliveries(&self) -> Vec<(UserId, DeliveryMark)> {
        self.lock().people.unrecorded()
    }

    /// The store knows these marks.
    pub fn note_recorded(&self, marks: &[(UserId, DeliveryMark)]) {
        self.lock().people.note_recorded(marks);
    }

    /// Nothing is remembered of somebody who has been erased and is not here.
    pub fn forget(&self, user: &UserId) {
        self.lock().people.forget(user);
    }
}

#[cfg(test)]
mod tests;
