//! The one ordered way of all deliveries: a ring, bounded in count and bytes. It has the pump's backlog (the store's writer
//! waits for it, which is the backpressure that reaches the clients as a full queue), and behind it what the pump has sent, for
//! long polls. Its past is subject to later changes: what was deleted, edited, erased, purged or removed since is not told
//! again; positions stay.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::sync::Notify;

use crate::domain::chat::Message;
use crate::domain::notification::Selection;
use crate::domain::{Room, RoomId, UserId};
use crate::observability::counters::Counters;
use crate::realtime::delivery::{Delivery, DeliveryKind, Placed, deliveries_of};
use crate::store::Change;
use crate::store::operations::InboxAction;

/// So many edits of a message that have not gone out are each told; of those before them only the ids have passed.
const MAX_EDITS_TOLD: usize = 64;
/// How many deliveries the pump may be behind, and how many stay for long polls.
const RING: usize = 16_384;
/// How many bytes of packets they have, about.
const RING_BYTES: usize = 32 << 20;

/// How many bars are kept; with more, no earlier delivery is sent again to anybody.
const MAX_BARS: usize = 10_000;

/// Who was not in a room at a time, and does not get afterwards what was delivered there then.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Bar {
    /// Somebody in a room: they were taken out, or are admitted only now.
    Member(UserId, RoomId),
    /// Everybody in a room: it is another one, or its rights are.
    Room(RoomId),
    /// Somebody anywhere: they have been erased.
    User(UserId),
    /// Everybody anywhere.
    All,
}

/// The feed is full: the pump does not keep up. Try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is on its way")]
pub struct FeedFull;

/// The one ordered way of all deliveries.
#[derive(Debug)]
pub struct Feed {
    /// Random: a position means nothing in another process's feed.
    id: u64,
    /// Held for a few instructions at a time, never over an await.
    ring: Mutex<Ring>,
    /// Wakes the pump.
    arrived: Notify,
    /// Wakes a writer thread that waits for the pump.
    pumped: Condvar,
    /// What passes is counted.
    counters: Arc<Counters>,
}

/// A position of the ring.
#[derive(Debug)]
struct Slot {
    /// `None` if the delivery must not be sent again.
    delivery: Option<Arc<Delivery>>,
    /// The highest id of a stored change up to here: slots can be searched by it.
    stored_up_to: u64,
}

impl Slot {
    fn bytes(&self) -> usize {
        self.delivery.as_ref().map_or(0, |delivery| delivery.bytes())
    }

    fn stored(&self) -> Option<u64> {
        self.delivery.as_ref().and_then(|delivery| delivery.stored)
    }
}

#[derive(Debug, Default)]
struct Ring {
    /// The position of the first slot that is still here.
    start: u64,
    slots: VecDeque<Slot>,
    /// The position up to which the pump has taken them.
    taken: u64,
    /// The bytes of all of them, and of those that the pump has not taken.
    bytes: usize,
    backlog_bytes: usize,
    /// Before which position nothing is told that passed: to somebody in a room, to everybody in a room, to somebody at all. At
    /// most [`MAX_BARS`].
    bars: HashMap<Bar, u64>,
    /// The last kept broadcast that the pump has taken, and the last that it has sent.
    broadcasts_taken: u64,
    broadcasts_sent: u64,
    closed: bool,
}

impl Ring {
    fn head(&self) -> u64 {
        self.start + self.slots.len() as u64
    }

    fn backlog(&self) -> u64 {
        self.head() - self.taken
    }

    fn is_behind(&self) -> bool {
        self.backlog() >= RING as u64 || self.backlog_bytes >= RING_BYTES
    }

    fn push(&mut self, delivery: Delivery) {
        // Nobody takes it any more.
        if self.closed {
            return;
        }
        let bytes = delivery.bytes();
        // What the pump has not taken yet is never dropped.
        while (self.slots.len() >= RING || self.bytes + bytes > RING_BYTES) && self.taken > self.start {
            let gone = self.slots.pop_front();
            self.bytes -= gone.map_or(0, |slot| slot.bytes());
            self.start += 1;
        }
        let before = self.slots.back().map_or(0, |slot| slot.stored_up_to);
        let stored_up_to = delivery.stored.unwrap_or(0).max(before);
        self.slots.push_back(Slot { delivery: Some(Arc::new(delivery)), stored_up_to });
        self.bytes += bytes;
        self.backlog_bytes += bytes;
    }

    fn from(&self, position: u64, most: usize) -> impl Iterator<Item = &Slot> {
        let skip = usize::try_from(position.saturating_sub(self.start)).unwrap_or(usize::MAX);
        self.slots.iter().skip(skip).take(most)
    }

    /// What the pump has not taken yet; and how many positions that was.
    fn take(&mut self, most: usize) -> (Vec<Placed>, usize) {
        let first = self.taken;
        let (mut batch, mut count, mut bytes, mut out) = (Vec::new(), 0, 0, self.broadcasts_taken);
        for (position, slot) in (first..).zip(self.from(first, most)) {
            count += 1;
            bytes += slot.bytes();
            if let Some(delivery) = slot.delivery.clone() {
                out = out.max(delivery.outbox.unwrap_or(0));
                batch.push(Placed { position, delivery });
            }
        }
        self.taken += count as u64;
        self.backlog_bytes -= bytes;
        self.broadcasts_taken = out;
        (batch, count)
    }

    /// Puts something else in the place of a delivery, or nothing.
    fn replace(&mut self, index: usize, delivery: Option<Delivery>) {
        let is_taken = self.start + (index as u64) < self.taken;
        let Some(slot) = self.slots.get_mut(index) else { return };
        let before = slot.bytes();
        slot.delivery = delivery.map(Arc::new);
        let after = slot.bytes();
        self.bytes = self.bytes - before + after;
        if !is_taken {
            self.backlog_bytes = self.backlog_bytes - before + after;
        }
    }

    /// The places of what tells of a stored change.
    fn telling_of(&self, id: u64) -> Vec<usize> {
        let from = self.slots.partition_point(|slot| slot.stored_up_to < id);
        let here = self.slots.iter().enumerate().skip(from).take_while(|(_, slot)| slot.stored_up_to == id);
        here.filter(|(_, slot)| slot.stored() == Some(id)).map(|(index, _)| index).collect()
    }

    fn forget(&mut self, id: u64) {
        for index in self.telling_of(id).into_iter().chain(self.edits_up_to(id)) {
            self.replace(index, None);
        }
    }

    /// The places of an edit and of the edits before it of the same message, the newest first. What is taken back is taken back
    /// from the oldest on: where one is not told any more, none before it is.
    fn edits_up_to(&self, mut id: u64) -> Vec<usize> {
        let mut found = Vec::new();
        while id > 0 {
            let of_id = self.telling_of(id);
            let mut kinds = of_id.iter().filter_map(|index| Some(self.slots.get(*index)?.delivery.as_ref()?.kind));
            let before = kinds.next_back().and_then(|kind| match kind {
                DeliveryKind::Edit { supersedes, .. } => Some(supersedes),
                _ => None,
            });
            let Some(before) = before else { break };
            found.extend(of_id);
            id = before;
        }
        found
    }

    fn forget_where(&mut self, is_gone: impl Fn(&Delivery) -> bool) {
        let gone: Vec<usize> = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.delivery.as_ref().is_some_and(|delivery| is_gone(delivery)))
            .map(|(index, _)| index)
            .collect();
        for index in gone {
            self.replace(index, None);
        }
    }

    fn bar(&mut self, bar: Bar) {
        let head = self.head();
        if self.bars.len() >= MAX_BARS {
            let start = self.start;
            self.bars.retain(|_, position| *position > start);
        }
        if self.bars.len() >= MAX_BARS {
            self.bars.clear();
            self.bars.insert(Bar::All, head);
        } else {
            self.bars.insert(bar, head);
        }
    }

    fn barred_before(&self, bar: &Bar) -> u64 {
        let of = |bar| self.bars.get(bar).copied().unwrap_or(0);
        of(bar).max(of(&Bar::All))
    }

    /// An edit that is superseded: nothing where it has gone out, and otherwise what its message says now, so that each edit is
    /// told once.
    fn edit_as_now(&self, index: usize, message: &Arc<Message>) -> Option<Delivery> {
        let delivery = self.slots.get(index)?.delivery.as_ref()?;
        let DeliveryKind::Edit { at, supersedes } = delivery.kind else { return None };
        let is_taken = self.start + (index as u64) < self.taken;
        if is_taken || message.deleted_at.is_some() {
            return None;
        }
        let message = Arc::new(Message { edited_at: Some(at), ..(**message).clone() });
        deliveries_of(&Change::Edited { id: delivery.stored?, message, supersedes }).pop()
    }

    /// What a change takes back of earlier deliveries.
    fn take_back(&mut self, change: &Change) {
        match change {
            Change::Edited { message, supersedes, .. }
            | Change::Deleted { message, supersedes, .. }
            | Change::Anonymised { message, supersedes, .. } => {
                for index in self.telling_of(message.id) {
                    // As whoever asks the store is told: the message as it is now.
                    let now = Change::Posted { message: message.clone(), origin: None };
                    self.replace(index, deliveries_of(&now).pop());
                }
                for (nth, index) in self.edits_up_to(*supersedes).into_iter().enumerate() {
                    let now = if nth < MAX_EDITS_TOLD { self.edit_as_now(index, message) } else { None };
                    self.replace(index, now);
                }
            }
            Change::MemberSet { room, user, .. } | Change::MemberRemoved { room, user, .. } => {
                self.bar(Bar::Member(user.clone(), room.clone()));
            }
            Change::RoomChanged { room, .. } => self.bar(Bar::Room(room.id.clone())),
            Change::Withdrawn { notification, .. } => {
                self.forget_where(|delivery| delivery.kind == DeliveryKind::Notification(*notification));
            }
            Change::Purged { ids, .. } => ids.iter().for_each(|id| self.forget(*id)),
            Change::RoomRemoved { room, .. } => {
                let room = Room::Chat(room.clone());
                self.forget_where(|delivery| delivery.room == room);
            }
            Change::InboxChanged { user, selection, action: InboxAction::Delete, .. } => {
                let own = Room::User(user.clone());
                let is_gone = |id: u64| match selection {
                    Selection::Ids(ids) => ids.contains(&id),
                    Selection::All { up_to } => up_to.is_none_or(|up_to| id <= up_to),
                };
                self.forget_where(|delivery| match delivery.kind {
                    DeliveryKind::Notification(id) => delivery.room == own && is_gone(id),
                    _ => false,
                });
            }
            Change::Erased { user, is_finished: true, .. } => {
                self.bar(Bar::User(user.clone()));
                let own = Room::User(user.clone());
                self.forget_where(|delivery| delivery.subject.as_ref() == Some(user) || delivery.room == own);
            }
            _ => {}
        }
    }
}

impl Feed {
    /// An empty feed. `id` is random: it tells cursors of another process's feed apart.
    #[must_use]
    pub fn new(id: u64) -> Arc<Feed> {
        Arc::new(Feed {
            id,
            ring: Mutex::default(),
            arrived: Notify::new(),
            pumped: Condvar::new(),
            counters: Arc::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock()
    }

    /// What has happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }

    /// The feed's random id.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The position behind the last delivery.
    #[must_use]
    pub fn head(&self) -> u64 {
        self.lock().head()
    }

    /// Deliveries that are held for the pump and for long polls, and their bytes.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let ring = self.lock();
        (ring.slots.len(), ring.bytes)
    }

    /// The last kept broadcast that has been sent to whoever it is for.
    #[must_use]
    pub fn broadcasts_sent(&self) -> u64 {
        self.lock().broadcasts_sent
    }

    /// The pump has sent all that it has taken.
    pub fn note_all_sent(&self) {
        let mut ring = self.lock();
        ring.broadcasts_sent = ring.broadcasts_taken;
    }

    /// Adds deliveries that are not stored, all or none. Does not block.
    ///
    /// # Errors
    /// [`FeedFull`] if the pump is too far behind.
    pub fn publish(&self, deliveries: Vec<Delivery>) -> Result<(), FeedFull> {
        let bytes: usize = deliveries.iter().map(Delivery::bytes).sum();
        let mut ring = self.lock();
        let is_over = ring.backlog() + deliveries.len() as u64 > RING as u64 || ring.backlog_bytes + bytes > RING_BYTES;
        if is_over && ring.backlog() > 0 {
            return Err(FeedFull);
        }
        for delivery in deliveries {
            ring.push(delivery);
        }
        drop(ring);
        self.arrived.notify_one();
        Ok(())
    }

    /// Waits while the pump is too far behind, so that a server that cannot deliver does not take in either. For the store's
    /// writer alone, which the waiting holds up.
    pub fn wait_for_room(&self) {
        let mut ring = self.lock();
        while ring.is_behind() && !ring.closed {
            self.pumped.wait(&mut ring);
        }
    }

    /// A change of the store, in the order of its ids: first what it takes back of earlier deliveries, then its own.
    pub fn note(&self, change: &Change, told_beside: Option<Delivery>) {
        self.counters.stored.add(change.kind());
        if let Change::Posted { message, .. } = change {
            self.counters.busiest_rooms.note(&message.room, Instant::now());
        }
        let deliveries = deliveries_of(change);
        let mut ring = self.lock();
        ring.take_back(change);
        for delivery in deliveries.into_iter().chain(told_beside) {
            ring.push(delivery);
        }
        drop(ring);
        self.arrived.notify_one();
    }

    /// Takes what has arrived, at most `most`, for the pump; waits if there is nothing. `None` when the feed is closed and
    /// empty. Only one task may call it.
    pub async fn take(&self, most: usize) -> Option<Vec<Placed>> {
        loop {
            let ((batch, count), closed) = {
                let mut ring = self.lock();
                (ring.take(most), ring.closed)
            };
            if count > 0 {
                self.pumped.notify_all();
            }
            if !batch.is_empty() {
                return Some(batch);
            }
            if closed && count == 0 {
                return None;
            }
            if count == 0 {
                self.arrived.notified().await;
            }
        }
    }

    /// As [`Feed::take`], and empty if nothing has arrived.
    pub fn take_now(&self, most: usize) -> Vec<Placed> {
        let (batch, count) = self.lock().take(most);
        if count > 0 {
            self.pumped.notify_all();
        }
        batch
    }

    /// The deliveries from a position on, at most `most`, one for each position, `None` where it is not told again; `None`
    /// if the position is no longer (or not yet) here.
    #[must_use]
    pub fn since(&self, position: u64, most: usize) -> Option<Vec<Option<Arc<Delivery>>>> {
        let ring = self.lock();
        let is_here = (ring.start..=ring.head()).contains(&position);
        is_here.then(|| ring.from(position, most).map(|slot| slot.delivery.clone()).collect())
    }

    /// Before which position nothing that passed in a room is told to somebody: they were not in it, or it was another one.
    #[must_use]
    pub fn passed_before(&self, user: &UserId, room: &RoomId) -> u64 {
        let ring = self.lock();
        let of_member = ring.barred_before(&Bar::Member(user.clone(), room.clone()));
        of_member.max(ring.barred_before(&Bar::Room(room.clone())))
    }

    /// Before which position nothing at all is told to somebody: they have been erased since.
    #[must_use]
    pub fn erased_before(&self, user: &UserId) -> u64 {
        self.lock().bars.get(&Bar::User(user.clone())).copied().unwrap_or(0)
    }

    /// Whether nobody takes the deliveries: the process serves no clients, or is about to end.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// No more deliveries: the pump ends when it has sent what is here, and nobody waits for it.
    pub fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_one();
        self.pumped.notify_all();
    }
}

#[cfg(test)]
mod tests;
