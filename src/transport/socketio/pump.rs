//! From the feed to the sockets. What one commit has stored arrives here together and goes out room by room: one encoding
//! a delivery, one write a socket for all that a room has at once. What is committed while a room is being served joins in
//! for the members whose turn is still to come; the others get it in a round of its own. So under load, and only then,
//! one write carries several messages, and nobody waits for a timer.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Room;
use crate::services::Services;
use crate::services::delivery::Placed;
use crate::services::sockets::Group;

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
pub async fn run(services: Arc<Services>, delivered: Arc<AtomicU64>) {
    tokio::task::unconstrained(async move {
        let feed = services.feed();
        let mut jobs = Jobs::default();
        let mut stretch = 0;
        while let Some(batch) = feed.take(BATCH).await {
            jobs.add(batch);
            while let Some((room, deliveries)) = jobs.next() {
                let Some(members) = services.sockets().members(&room) else { continue };
                let mut group = Group::new(&room, deliveries);
                let mut count = 0;
                for turn in members.chunks(MEMBERS_A_TURN) {
                    count += turn.iter().map(|member| member.deliver(&group)).sum::<usize>();
                    stretch += turn.len();
                    // What is not taken is the feed's backlog, which the store's writer waits for.
                    if jobs.count < MOST_JOBS {
                        jobs.add(feed.take_now(BATCH));
                    }
                    if matches!(room, Room::Chat(_))
                        && group.len() < MOST_TOGETHER
                        && let Some(newer) = jobs.waiting(&room)
                    {
                        group = group.with(&room, newer);
                    }
                    if stretch >= SENDS_A_STRETCH {
                        stretch = 0;
                        tokio::task::yield_now().await;
                    }
                }
                delivered.fetch_add(count as u64, Ordering::Relaxed);
            }
        }
    })
    .await;
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
    use crate::contract::packet::Frame;
    use crate::domain::RoomId;
    use crate::services::delivery::{Delivery, DeliveryKind};

    #[test]
    fn a_room_keeps_its_order() {
        let placed = |room: &str, n: u64| Placed {
            position: n,
            delivery: Arc::new(Delivery {
                room: Room::Chat(RoomId::parse(room).unwrap()),
                except_socket: None,
                except_user: None,
                name: "e".into(),
                frame: Frame::event("e", &n),
                stored: Some(n),
                kind: DeliveryKind::Message(n),
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
