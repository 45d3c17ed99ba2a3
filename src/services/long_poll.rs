//! The long poll, `GET /api/v1/events`: what a socket in some rooms would have been sent since a cursor. Where the gap is short
//! it is read from the [`Feed`](crate::realtime::feed::Feed), in the very order of the sockets and with what is not stored; over a
//! longer gap or a restart the stored kinds are read from the store.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::domain::{Actor, Role, Room, RoomId, UserId};
use crate::protocol::cursor::Cursor;
use crate::protocol::error::ApiError;

use crate::realtime::announcements::Polling;
use crate::realtime::batch::Packets;
use crate::realtime::delivery::{Delivery, deliveries_of};
use crate::realtime::live::Live;
use crate::realtime::registry::{Kind, Outlet};
use crate::services::Caller;
use crate::services::caller::{enterable, require_memberships};
use crate::services::entry::Entry;
use crate::services::errors::{resync, store_error};
use crate::services::inbox::note_user;
use crate::services::pages::Space;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::turns::{Turn, Turns};
use crate::store::Replay;

/// The most events of one answer.
const MOST_EVENTS: usize = 500;
/// The longest wait.
pub const MAX_WAIT: Duration = Duration::from_secs(30);
/// Whose polls are too many is told to come again after so long.
const COME_AGAIN: Duration = Duration::from_secs(2);
/// The most rooms of one poll.
pub const MAX_ROOMS: usize = 100;

/// What a poll comes to.
#[derive(Debug)]
pub enum PollStep {
    /// There is something to answer, or the caller does not wait.
    Answered(PollAnswer),
    /// Nothing has happened yet.
    Waits(PollWait),
}

/// A poll that waits: as little as it takes to go on with it.
#[derive(Debug)]
pub struct PollWait {
    place: Place,
    rooms: Vec<RoomId>,
    wait: Duration,
    /// Keeps the caller present for as long as it waits.
    polling: Option<Polling>,
    /// Its place among those of the same user.
    turn: Option<Turn>,
}

/// What a poll gives.
#[derive(Debug)]
pub struct PollAnswer {
    /// The deliveries, in order.
    pub deliveries: Vec<Arc<Delivery>>,
    /// Where to go on.
    pub cursor: String,
}

/// The position of a poller: the last stored change that it got, and its place in this process's feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    stored: u64,
    feed: u64,
    position: u64,
    /// Which roles they had, and a hash of the chat rooms that they named: see [`Audience`].
    audience: u64,
}

/// Who a poller is at a moment. What passes without being stored is told only to whom it was for at the time: of a role or a
/// room that a place does not know of, only what is stored is told of the time before.
#[derive(Debug, Clone)]
struct Audience {
    rooms: Vec<Room>,
    /// The roles in the lowest bits, and above them the hash.
    mark: u64,
}

const ROLE_BITS: u32 = 4;

fn role_bit(role: Role) -> u64 {
    match role {
        Role::Admin => 1,
        Role::Hr => 2,
        Role::Coach => 4,
        Role::Learner => 8,
    }
}

impl Audience {
    fn new(actor: &Actor, chats: &[RoomId]) -> Audience {
        let mut rooms = actor.own_rooms();
        rooms.extend(chats.iter().cloned().map(Room::Chat));
        let mut names: Vec<String> = chats.iter().map(RoomId::canonical).collect();
        names.sort_unstable();
        names.dedup();
        let mut hash = [0; 8];
        blake3::Hasher::new().update(names.join("\n").as_bytes()).finalize_xof().fill(&mut hash);
        let roles = actor.roles.iter().map(|role| role_bit(*role)).fold(0, |bits, bit| bits | bit);
        Audience { rooms, mark: u64::from_be_bytes(hash) << ROLE_BITS | roles }
    }

    /// Whether what passed in a room is told to somebody whose place knows of this audience.
    fn hears_of(&self, room: &Room, known: u64) -> bool {
        match room {
            Room::All | Room::User(_) => true,
            Room::Role(role) => known & role_bit(*role) != 0,
            Room::Chat(_) => known >> ROLE_BITS == self.mark >> ROLE_BITS,
        }
    }
}

fn chat(room: &Room) -> Option<&RoomId> {
    match room {
        Room::Chat(room) => Some(room),
        _ => None,
    }
}

/// Somebody who waits for a poll: woken by whatever is sent to it.
#[derive(Default)]
struct Waiter {
    woken: Notify,
    /// Why the wait must end.
    end_reason: OnceLock<ApiError>,
}

impl Outlet for Waiter {
    fn send(&self, _: &Packets<'_>) -> bool {
        self.woken.notify_one();
        true
    }

    fn send_volatile(&self, _: &Packets<'_>) {
        self.woken.notify_one();
    }

    fn expel(&self, error: &ApiError) {
        // The first reason is reported.
        let _ = self.end_reason.set(error.clone());
        self.woken.notify_one();
    }
}

/// Takes a waiter out of its rooms when the poll ends, however it ends.
struct Waiting<'a> {
    live: &'a Live,
    number: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.live.sockets.exit(self.number);
    }
}

/// A poll that is counted as waiting, for as long as this is there.
struct CountedWait<'a>(&'a Live);

impl<'a> CountedWait<'a> {
    fn begin(live: &'a Live) -> CountedWait<'a> {
        live.counters().polls_waiting.add();
        CountedWait(live)
    }
}

impl Drop for CountedWait<'_> {
    fn drop(&mut self) {
        self.0.counters().polls_waiting.take();
    }
}

/// Who asks over HTTP what has happened.
#[derive(Debug, Clone)]
pub struct LongPoll {
    /// Stored changes, over a longer gap.
    store: Storage,
    /// The feed, and who waits for it.
    live: Arc<Live>,
    /// The rules of open rooms.
    settings: Arc<LiveSettings>,
    /// Who may enter which room.
    entry: Entry,
    /// The server is about to stop: polls are answered, whatever they wait for.
    ending: CancellationToken,
    /// The turns of polls that wait: so many of each user, and of all as many as there are connections.
    waiting: Turns,
}

impl LongPoll {
    pub(super) fn new(
        store: Storage,
        live: Arc<Live>,
        settings: Arc<LiveSettings>,
        entry: Entry,
        ending: CancellationToken,
    ) -> LongPoll {
        LongPoll { store, live, settings, entry, ending, waiting: Turns::default() }
    }

    /// Answers with what has happened in the caller's own rooms and the chat rooms named, or says that it is to be waited for
    /// ([`LongPoll::wait`]).
    ///
    /// # Errors
    /// `forbidden` for a room, `resync` for a cursor that is not of this store's life, `unavailable`, `rate_limited` if too
    /// many polls of the caller wait.
    pub async fn poll(
        &self,
        caller: &Caller,
        cursor: Option<&str>,
        rooms: Vec<RoomId>,
        wait: Duration,
    ) -> Result<PollStep, ApiError> {
        let turn = if wait.is_zero() || cursor.is_none() { None } else { Some(self.turn(&caller.actor.user)?) };
        self.entry.require_words(&self.live, caller, &rooms).await?;
        require_memberships(&self.store, &self.settings, caller, rooms.clone()).await?;
        note_user(&self.store, &self.live, caller).await;
        let audience = Audience::new(&caller.actor, &rooms);
        let place = match cursor {
            Some(cursor) => self.read_place(&caller.actor.user, cursor)?,
            None => self.place_of_now(&audience),
        };
        // Before what has happened is read: whoever is told of somebody's coming finds them there.
        let polling = self.live.note_poll(&caller.actor, &rooms, !wait.is_zero() && cursor.is_some());
        if cursor.is_none() {
            let answer = PollAnswer { deliveries: Vec::new(), cursor: self.write_place(&caller.actor.user, place) };
            return Ok(PollStep::Answered(answer));
        }
        let (place, deliveries) = self.read(caller, place, &audience).await?;
        self.require_membership_still(caller, &deliveries).await?;
        if !deliveries.is_empty() || wait.is_zero() {
            let cursor = self.write_place(&caller.actor.user, place);
            return Ok(PollStep::Answered(PollAnswer { deliveries, cursor }));
        }
        Ok(PollStep::Waits(PollWait { place, rooms, wait: wait.min(MAX_WAIT), polling, turn }))
    }

    fn turn(&self, user: &UserId) -> Result<Turn, ApiError> {
        let most = self.settings.get().limits.polls_per_user;
        let each = if most == 0 { usize::MAX } else { most };
        self.waiting.begin(user, usize::MAX, each).map_err(|_| {
            self.live.counters().rate_limited.add("polls");
            let message = format!("{most} polls of yours wait already; one that is answered makes room");
            ApiError::rate_limited(COME_AGAIN, message)
        })
    }

    /// Waits for what a poll has not found.
    ///
    /// # Errors
    /// Why the caller is refused meanwhile.
    pub async fn wait(&self, caller: &Caller, poll: PollWait) -> Result<PollAnswer, ApiError> {
        let (place, deliveries) = self.wait_at(caller, poll).await?;
        Ok(PollAnswer { deliveries, cursor: self.write_place(&caller.actor.user, place) })
    }

    /// Answers all polls that wait: the server is about to stop.
    pub fn end_all(&self) {
        self.ending.cancel();
    }

    /// Whether the server is about to stop: sockets are being sent away, and polls are answered.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.ending.is_cancelled()
    }

    /// A cursor of now, for whose own is refused.
    #[must_use]
    pub fn cursor_of_now(&self, caller: &Caller, rooms: &[RoomId]) -> String {
        let audience = Audience::new(&caller.actor, rooms);
        self.write_place(&caller.actor.user, self.place_of_now(&audience))
    }

    fn place_of_now(&self, audience: &Audience) -> Place {
        let (stored, feed) = (self.store.last_id(), self.live.feed.id());
        Place { stored, feed, position: self.live.feed.head(), audience: audience.mark }
    }

    async fn wait_at(&self, caller: &Caller, poll: PollWait) -> Result<(Place, Vec<Arc<Delivery>>), ApiError> {
        let PollWait { mut place, rooms, wait, polling: _polling, turn: _turn } = poll;
        let base = caller.actor.own_rooms();
        let waiter = Arc::new(Waiter::default());
        let number = self.live.sockets.next_number();
        let Some(handle) = self.live.sockets.enter(number, &caller.actor, &base, waiter.clone(), 0, Kind::Waiter)
        else {
            return Ok((place, Vec::new()));
        };
        let _leave = Waiting { live: &self.live, number };
        handle.base_gate().open(&*waiter, 0, 0, || {});
        let mut audience = Audience::new(&caller.actor, &rooms);
        let mut lost: Vec<Room> = Vec::new();
        for room in &rooms {
            // A gate of its own: whoever is put out of one room still hears of the others.
            if let Some((gate, _)) = self.live.sockets.join(number, room) {
                gate.open(&*waiter, 0, 0, || {});
            }
        }
        // Whoever lost a right before they were entered here was not found among those to be put out.
        require_memberships(&self.store, &self.settings, caller, rooms).await?;
        // Who was shut out before this wait could be found did not hear of it.
        self.live.require_access(&caller.actor)?;
        // Only now: who is counted as waiting is told of whatever happens from here on.
        let _counted = CountedWait::begin(&self.live);
        let deadline = tokio::time::Instant::now() + wait;
        loop {
            // Registered first, looked second: nothing falls in between.
            // Of a room that they were taken out of while they wait, nothing more is told.
            let still_in = self.live.sockets.still_in(number, &audience.rooms);
            lost.extend(audience.rooms.iter().filter(|room| !still_in.contains(room)).cloned());
            audience.rooms = still_in;
            let (next, deliveries) = self.read(caller, place, &audience).await?;
            self.require_membership_still(caller, &deliveries).await?;
            // Unless they are let in again: what has been said there since is behind the place of before, and is not passed over.
            if self.may_enter_any(caller, &lost).await {
                return Ok((place, Vec::new()));
            }
            place = next;
            if !deliveries.is_empty() {
                return Ok((place, deliveries));
            }
            tokio::select! {
                () = waiter.woken.notified() => {}
                () = tokio::time::sleep_until(deadline) => return Ok((place, deliveries)),
                () = self.ending.cancelled() => return Ok((place, deliveries)),
            }
            if let Some(error) = waiter.end_reason.get() {
                return Err(error.clone());
            }
        }
    }

    async fn may_enter_any(&self, caller: &Caller, rooms: &[Room]) -> bool {
        let rooms = rooms.iter().filter_map(chat).cloned().collect();
        let found = enterable(&self.store, &self.settings, caller, rooms).await;
        found.is_ok_and(|found| found.contains(&true))
    }

    /// Whoever lost the right to a room while it was read is not told what was said in it since.
    async fn require_membership_still(&self, caller: &Caller, found: &[Arc<Delivery>]) -> Result<(), ApiError> {
        let rooms: HashSet<&RoomId> = found.iter().filter_map(|delivery| chat(&delivery.room)).collect();
        let rooms = rooms.into_iter().cloned().collect();
        require_memberships(&self.store, &self.settings, caller, rooms).await
    }

    /// What is behind a place, from the feed as far as it reaches back, else from the store.
    async fn read(
        &self,
        caller: &Caller,
        place: Place,
        audience: &Audience,
    ) -> Result<(Place, Vec<Arc<Delivery>>), ApiError> {
        let (place, found) = match self.read_feed(caller, place, audience) {
            Some(found) => found,
            None => self.read_store(caller, place, &audience.rooms).await?,
        };
        Ok((Place { audience: audience.mark, ..place }, found))
    }

    /// `None` if the feed is another process's, or has run past the place.
    fn read_feed(&self, caller: &Caller, mut place: Place, audience: &Audience) -> Option<(Place, Vec<Arc<Delivery>>)> {
        if place.feed != self.live.feed.id() {
            return None;
        }
        let user = &caller.actor.user;
        let (mut found, mut space) = (Vec::new(), Space::default());
        'feed: loop {
            match self.live.feed.since(place.position, 1_024) {
                Some(batch) if batch.is_empty() => break,
                Some(batch) => {
                    for delivery in batch {
                        if found.len() >= MOST_EVENTS {
                            break 'feed;
                        }
                        let position = place.position;
                        place.position += 1;
                        let Some(delivery) = delivery else { continue };
                        let is_for =
                            audience.rooms.contains(&delivery.room) && delivery.except_user.as_ref() != Some(user);
                        let is_told = || match (delivery.stored, &delivery.room) {
                            (Some(id), _) => id <= place.stored,
                            (None, room) if !audience.hears_of(room, place.audience) => true,
                            (None, Room::Chat(room)) => position < self.live.feed.passed_before(user, room),
                            (None, _) => false,
                        };
                        if is_for && !is_told() {
                            if !space.takes(delivery.packet_for(user).text().len()) {
                                place.position = position;
                                break 'feed;
                            }
                            found.push(delivery);
                        }
                    }
                }
                None if found.is_empty() => return None,
                // It has run past while it was read. What was found is whole; the next poll asks the store.
                None => break,
            }
        }
        if let Some(id) = found.iter().filter_map(|delivery| delivery.stored).max() {
            place.stored = place.stored.max(id);
        }
        Some((place, found))
    }

    async fn read_store(
        &self,
        caller: &Caller,
        place: Place,
        audience: &[Room],
    ) -> Result<(Place, Vec<Arc<Delivery>>), ApiError> {
        // The place in the feed first, the store second: what is committed in between is in both, and told once, by its id.
        let position = self.live.feed.head();
        let rooms = audience.iter().filter_map(chat).cloned();
        let replay = self
            .store
            .replay((*caller.actor).clone(), rooms.collect(), place.stored, MOST_EVENTS)
            .await
            .map_err(store_error)?;
        let Replay { changes, mut up_to, mut has_more } = replay;
        let (mut deliveries, mut space, mut before) = (Vec::new(), Space::default(), place.stored);
        for change in &changes {
            let theirs: Vec<Delivery> = deliveries_of(change)
                .into_iter()
                .filter(|delivery| match &delivery.room {
                    Room::User(user) => *user == caller.actor.user,
                    _ => true,
                })
                .collect();
            let bytes = theirs.iter().map(|delivery| delivery.packet_for(&caller.actor.user).text().len()).sum();
            if !space.takes(bytes) {
                (up_to, has_more) = (before, true);
                break;
            }
            deliveries.extend(theirs.into_iter().map(Arc::new));
            before = change.id();
        }
        // With more to come from the store, the place in the feed is not this process's yet.
        let (feed, position) = if has_more { (0, 0) } else { (self.live.feed.id(), position) };
        Ok((Place { stored: up_to, feed, position, audience: place.audience }, deliveries))
    }

    fn write_place(&self, user: &UserId, place: Place) -> String {
        let Place { stored, feed, position, audience } = place;
        self.store.write_cursor(user, [stored, feed, position, audience])
    }

    fn read_place(&self, user: &UserId, cursor: &str) -> Result<Place, ApiError> {
        let Some(Cursor { life, numbers: [stored, feed, position, audience] }) = self.store.parse_cursor(user, cursor)
        else {
            return Err(resync());
        };
        let is_here = feed == self.live.feed.id();
        // Who was erased, and comes again, is somebody else.
        let is_past = is_here && position < self.live.feed.erased_before(user);
        let is_ahead = is_past || stored > self.store.last_id() || (is_here && position > self.live.feed.head());
        let place = Place { stored, feed, position, audience };
        if life != self.store.life() || is_ahead { Err(resync()) } else { Ok(place) }
    }
}
