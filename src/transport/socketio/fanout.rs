//! From the feed to the sockets. What one commit has stored arrives here together and goes out room by room: one encoding
//! a delivery, one write a socket for all that a room has at once. What is committed while a room is being served joins in
//! for the members whose turn is still to come; the others get it in a round of its own. So under load, and only then,
//! one write carries several messages, and nobody waits for a timer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Room;
use crate::realtime::delivery::Placed;
use crate::realtime::registry::{Group, Member};
use crate::services::App;

/// The most deliveries taken at a time.
const BATCH: usize = 1_024;
/// After so many members the pump looks for what has come since.
const MEMBERS_A_TURN: usize = 32;
/// The most deliveries of one write.
const MOST_TOGETHER: usize = 256;
/// The most deliveries that are taken and not begun.
const MOST_JOBS: usize = 4_096;
/// After so many sends the pump lets other tasks run.
const SENDS_A_STRETCH: usize = 2_048;

/// Pumps until the feed is closed and empty. It counts what it delivers.
///
/// Run outside of tokio's cooperative budget: a send is not a wait, and a budget that ends in the middle of a room would
/// make every other send look blocked.
pub async fn run(app: Arc<App>, delivered: Arc<AtomicU64>) {
    tokio::task::unconstrained(async move {
        let feed = app.live.feed.clone();
        let mut pump = Pump::new(app.clone(), MEMBERS_A_TURN);
        let mut stretch = 0;
        while let Some(batch) = feed.take(BATCH).await {
            pump.add(batch);
            while let Some(turn) = pump.turn() {
                delivered.fetch_add(turn.deliveries as u64, Ordering::Relaxed);
                stretch += turn.members;
                if stretch >= SENDS_A_STRETCH {
                    stretch = 0;
                    tokio::task::yield_now().await;
                }
            }
            // Sockets that have been told to leave take nothing more: what has gone to nobody goes out at the next start.
            if !app.long_poll.is_ending() {
                feed.note_all_sent();
            }
        }
    })
    .await;
}

/// The pump between two turns. Somebody may come, go, or say something there.
#[derive(Debug)]
pub struct Pump {
    app: Arc<App>,
    members_a_turn: usize,
    jobs: Jobs,
    serving: Option<Serving>,
}

/// A room that is being served.
#[derive(Debug)]
struct Serving {
    room: Room,
    members: Arc<Vec<Member>>,
    /// How many of them have had their turn.
    served: usize,
    group: Group,
}

/// What one turn did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// To how many members it came.
    pub members: usize,
    /// How many deliveries were sent.
    pub deliveries: usize,
}

impl Pump {
    /// A pump with nothing to do. After so many members it looks for what has come since.
    #[must_use]
    pub fn new(app: Arc<App>, members_a_turn: usize) -> Pump {
        Pump { app, members_a_turn: members_a_turn.max(1), jobs: Jobs::default(), serving: None }
    }

    /// Takes what has arrived.
    pub fn add(&mut self, batch: Vec<Placed>) {
        self.jobs.add(batch);
    }

    /// Serves some members of a room. `None` if there is nothing to do.
    pub fn turn(&mut self) -> Option<Turn> {
        let mut serving = match self.serving.take() {
            Some(serving) => serving,
            None => self.begin()?,
        };
        let turn = serving.members.iter().skip(serving.served).take(self.members_a_turn);
        let mut done = Turn { members: 0, deliveries: 0 };
        for member in turn {
            done.members += 1;
            done.deliveries += member.deliver(&serving.group);
        }
        serving.served += done.members;
        // What is not taken is the feed's backlog, which the store's writer waits for.
        if self.jobs.count < MOST_JOBS {
            self.jobs.add(self.app.live.feed.take_now(BATCH));
        }
        if serving.served < serving.members.len() {
            if matches!(serving.room, Room::Chat(_))
                && serving.group.len() < MOST_TOGETHER
                && let Some(newer) = self.jobs.waiting(&serving.room)
            {
                serving.group = serving.group.with(&serving.room, newer);
            }
            self.serving = Some(serving);
        }
        Some(done)
    }

    /// The next room that somebody is in.
    fn begin(&mut self) -> Option<Serving> {
        loop {
            let (room, deliveries) = self.jobs.next()?;
            if let Some(members) = self.app.live.sockets.members(&room) {
                let group = Group::new(&room, deliveries);
                return Some(Serving { room, members, served: 0, group });
            }
        }
    }
}

/// What is to be delivered, room by room: within a room in order, and the rooms in that of their first delivery.
#[derive(Debug, Default)]
struct Jobs {
    order: VecDeque<Room>,
    waiting: HashMap<Room, Vec<Placed>>,
    /// How many deliveries wait.
    count: usize,
}

impl Jobs {
    fn add(&mut self, batch: Vec<Placed>) {
        self.count += batch.len();
        for placed in batch {
            let room = &placed.delivery.room;
            match self.waiting.get_mut(room) {
                Some(list) => list.push(placed),
                None => {
                    self.order.push_back(room.clone());
                    self.waiting.insert(room.clone(), vec![placed]);
                }
            }
        }
    }

    fn next(&mut self) -> Option<(Room, Vec<Placed>)> {
        let room = self.order.pop_front()?;
        let deliveries = self.waiting.remove(&room)?;
        self.count -= deliveries.len();
        Some((room, deliveries))
    }

    fn waiting(&self, room: &Room) -> Option<&[Placed]> {
        if self.waiting.is_empty() { None } else { self.waiting.get(room).map(Vec::as_slice) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::RoomId;
    use crate::protocol::packet::Packet;
    use crate::realtime::delivery::{Delivery, DeliveryKind};

    #[test]
    fn a_room_keeps_its_order() {
        let placed = |room: &str, n: u64| Placed {
            position: n,
            delivery: Arc::new(Delivery {
                name: "e".into(),
                stored: Some(n),
                kind: DeliveryKind::Message(n),
                ..Delivery::of(Room::Chat(RoomId::parse(room).unwrap()), Packet::event("e", &n))
            }),
        };
        let mut jobs = Jobs::default();
        jobs.add(vec![placed("b", 1), placed("a", 2), placed("b", 3)]);
        let (room, deliveries) = jobs.next().unwrap();
        let positions: Vec<u64> = deliveries.iter().map(|placed| placed.position).collect();
        assert_eq!((room.name().as_str(), positions.as_slice()), ("chat:b", [1, 3].as_slice()));
        jobs.add(vec![placed("b", 4)]);
        assert_eq!(jobs.waiting(&room).map(<[Placed]>::len), Some(1));
        assert_eq!(jobs.next().unwrap().0.name(), "chat:a");
        assert_eq!(jobs.next().unwrap().1.len(), 1);
        assert!(jobs.next().is_none());
    }
}
