//! What stands between a delivery and a socket: the [`Outlet`] that sends, the [`Gate`] of a membership, and the [`Group`]
//! of deliveries that pass together. A gate is closed while its owner still gets the history, and gone when
//! the socket has left.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::domain::{Room, UserId};
use crate::protocol::error::ApiError;

use crate::realtime::batch::{Batch, Packets};
use crate::realtime::delivery::{Delivery, DeliveryKind, Placed};

/// The way to one socket. Both methods return at once.
pub trait Outlet: Send + Sync {
    /// Sends packets behind what was sent before. A reader that does not keep up is cut off. `false` if nothing of it goes
    /// out, as the socket is about to end: what is kept for its user then counts as not delivered.
    fn send(&self, packets: &Packets<'_>) -> bool;

    /// Sends packets if nothing waits before them, and drops them otherwise.
    fn send_volatile(&self, packets: &Packets<'_>);

    /// Closes the socket after a last error: its token has expired, or an administrator has disconnected it.
    fn expel(&self, error: &ApiError);
}

/// How many deliveries a closed gate holds back; beyond, nothing passes any more, and the socket behind it is cut off.
const MAX_HELD: usize = 4_096;
/// How many bytes of them it holds back: they are shared with the feed for as long as the feed has them.
const MAX_HELD_BYTES: usize = 8 << 20;

/// What a closed gate holds back.
#[derive(Debug, Default)]
pub(crate) struct Held {
    deliveries: Vec<Arc<Delivery>>,
    bytes: usize,
}

impl Held {
    /// Holds deliveries back, all or none; `false` if there is no room for them.
    pub(crate) fn add(&mut self, deliveries: impl Iterator<Item = Arc<Delivery>>) -> bool {
        let before = self.deliveries.len();
        self.deliveries.extend(deliveries);
        let added = self.deliveries.iter().skip(before).map(|delivery| delivery.bytes()).sum::<usize>();
        self.bytes += added;
        self.deliveries.len() <= MAX_HELD && self.bytes <= MAX_HELD_BYTES
    }
}

/// Whether deliveries pass to one membership.
#[derive(Debug)]
pub struct Gate(Mutex<GateState>);

#[derive(Debug)]
pub(crate) enum GateState {
    Held {
        held: Held,
        /// As in `Open`: what was told before it was closed again.
        after_seq: u64,
        after_notification: u64,
        behind: u64,
    },
    Open {
        /// Messages up to this `seq` have been sent already.
        after_seq: u64,
        /// Notifications up to this id have been sent already.
        after_notification: u64,
        /// The feed before this position has been handled, in a chat room: the pump may come by twice with the same.
        behind: u64,
    },
    Gone,
}

impl Gate {
    pub(crate) fn held() -> Arc<Gate> {
        Arc::new(Gate(Mutex::new(GateState::Held {
            held: Held::default(),
            after_seq: 0,
            after_notification: 0,
            behind: 0,
        })))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, GateState> {
        self.0.lock()
    }

    /// Says what was before by `first`, sends what was held back behind it, and lets everything pass from now on, except
    /// the messages and notifications that `first` has told. A gate that is open or gone stays so; `first` is said all the
    /// same. Gives the notifications that were held back and are sent now, with their rooms.
    pub fn open(
        &self,
        outlet: &dyn Outlet,
        after_seq: u64,
        after_notification: u64,
        first: impl FnOnce(),
    ) -> Vec<(Room, u64)> {
        let mut state = self.lock();
        first();
        let mut notifications = Vec::new();
        if let GateState::Held { held, after_seq: seq, after_notification: notification, behind } = &mut *state {
            let (after_seq, after_notification) = (after_seq.max(*seq), after_notification.max(*notification));
            for delivery in std::mem::take(held).deliveries {
                if !is_told(&delivery, after_seq, after_notification) {
                    let is_sent = outlet.send(&Batch::from(delivery.packet.clone()).all());
                    if let (true, DeliveryKind::Notification(id)) = (is_sent, delivery.kind) {
                        notifications.push((delivery.room.clone(), id));
                    }
                }
            }
            *state = GateState::Open { after_seq, after_notification, behind: *behind };
        }
        notifications
    }

    /// Holds back what comes from now on, until it is opened again.
    pub(crate) fn hold(&self) {
        let mut state = self.lock();
        if let GateState::Open { after_seq, after_notification, behind } = *state {
            *state = GateState::Held { held: Held::default(), after_seq, after_notification, behind };
        }
    }

    pub(crate) fn leave(&self) {
        *self.lock() = GateState::Gone;
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(*self.lock(), GateState::Open { .. })
    }
}

pub(crate) fn is_told(delivery: &Delivery, after_seq: u64, after_notification: u64) -> bool {
    match delivery.kind {
        DeliveryKind::Message(seq) => seq <= after_seq,
        DeliveryKind::Notification(id) => id <= after_notification,
        DeliveryKind::Edit { .. } | DeliveryKind::Event | DeliveryKind::Volatile => false,
    }
}

/// Deliveries behind each other to the same room, with one encoding of them all.
#[derive(Debug)]
pub struct Group {
    pub(crate) deliveries: Vec<Placed>,
    /// Their packets: one write a socket.
    pub(crate) batch: Batch,
    /// Whether each membership of the room has a gate of its own, which then knows how far it has been served.
    pub(crate) is_chat: bool,
    /// The lowest message `seq` and notification id in it; `u64::MAX` without one.
    pub(crate) first_seq: u64,
    pub(crate) first_notification: u64,
    /// Whether some delivery is volatile.
    pub(crate) is_volatile: bool,
    /// Sockets that do not get some delivery.
    pub(crate) excepted: Vec<u64>,
    /// Who does not get some delivery, or gets it in a form of their own.
    pub(crate) singled_out: SingledOut,
}

/// Some users of a room, each once: every member looks for themselves here.
#[derive(Debug, Default)]
pub(crate) struct SingledOut {
    few: Vec<UserId>,
    /// All of them, once they are many.
    many: HashSet<UserId>,
}

impl SingledOut {
    /// So many are compared one by one, which costs less than one hash.
    const FEW: usize = 8;

    fn add(&mut self, user: &UserId) {
        if self.contains(user) {
            return;
        }
        if self.few.len() < SingledOut::FEW {
            self.few.push(user.clone());
        } else {
            if self.many.is_empty() {
                self.many.extend(self.few.iter().cloned());
            }
            self.many.insert(user.clone());
        }
    }

    pub(crate) fn contains(&self, user: &UserId) -> bool {
        if self.many.is_empty() { self.few.contains(user) } else { self.many.contains(user) }
    }
}

impl Group {
    /// Groups deliveries to one room, in the order of their positions.
    #[must_use]
    pub fn new(room: &Room, deliveries: Vec<Placed>) -> Group {
        let mut group = Group {
            batch: Batch::new(deliveries.iter().map(|placed| placed.delivery.packet.clone()).collect()),
            is_chat: matches!(room, Room::Chat(_)),
            first_seq: u64::MAX,
            first_notification: u64::MAX,
            is_volatile: false,
            excepted: Vec::new(),
            singled_out: SingledOut::default(),
            deliveries,
        };
        for Placed { delivery, .. } in &group.deliveries {
            match delivery.kind {
                DeliveryKind::Message(seq) => group.first_seq = group.first_seq.min(seq),
                DeliveryKind::Notification(id) => group.first_notification = group.first_notification.min(id),
                DeliveryKind::Edit { .. } | DeliveryKind::Event => {}
                DeliveryKind::Volatile => group.is_volatile = true,
            }
            group.excepted.extend(delivery.except_socket);
            if let (Some(_), Some(author)) = (&delivery.own, &delivery.subject) {
                group.singled_out.add(author);
            }
            if let Some(user) = &delivery.except_user {
                group.singled_out.add(user);
            }
        }
        group
    }

    /// The same and what has come since, for the members that have not had their turn yet.
    #[must_use]
    pub fn with(self, room: &Room, newer: &[Placed]) -> Group {
        let end = self.end();
        let mut deliveries = self.deliveries;
        deliveries.extend(newer.iter().filter(|placed| placed.position >= end).cloned());
        Group::new(room, deliveries)
    }

    /// The position behind the last delivery.
    pub(crate) fn end(&self) -> u64 {
        self.deliveries.last().map_or(0, |placed| placed.position + 1)
    }

    /// The index of the first delivery at or behind a position.
    pub(crate) fn index_from(&self, position: u64) -> usize {
        match self.deliveries.first() {
            Some(first) if first.position >= position => 0,
            _ => self.deliveries.partition_point(|placed| placed.position < position),
        }
    }

    /// How many deliveries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.deliveries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }
}
