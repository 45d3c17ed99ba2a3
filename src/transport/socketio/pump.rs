//! From the feed to the sockets. What one commit has stored arrives here together and goes out room by room: one encoding
//! a delivery, one write a socket for all that a room has at once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::Room;
use crate::services::Services;
use crate::services::delivery::Delivery;
use crate::services::sockets::Group;

/// The most deliveries taken at a time.
const BATCH: usize = 1_024;
/// After so many sends the pump lets others run.
const SENDS_A_TURN: usize = 2_048;

/// Pumps until the feed is closed and empty. It counts what it delivers.
///
/// Run it outside of tokio's cooperative budget: a send is not a wait, and a budget that ends in the middle of a room would
/// make every other send look blocked.
pub async fn run(services: Arc<Services>, delivered: Arc<AtomicU64>) {
    tokio::task::unconstrained(async move {
        while let Some(batch) = services.feed().take(BATCH).await {
            for (room, group) in by_room(batch) {
                let Some(members) = services.sockets().members(&room) else { continue };
                let mut count = 0;
                for turn in members.chunks(SENDS_A_TURN) {
                    count += turn.iter().map(|member| member.deliver(&group)).sum::<usize>();
                    if members.len() > SENDS_A_TURN {
                        tokio::task::yield_now().await;
                    }
                }
                delivered.fetch_add(count as u64, Ordering::Relaxed);
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// Groups deliveries by room; within a room they keep their order, and the rooms that of their first delivery.
fn by_room(batch: Vec<Arc<Delivery>>) -> Vec<(Room, Group)> {
    let mut rooms: Vec<(Room, Vec<Arc<Delivery>>)> = Vec::new();
    let mut places: HashMap<Room, usize> = HashMap::new();
    for delivery in batch {
        match places.entry(delivery.room.clone()) {
            Entry::Vacant(entry) => {
                entry.insert(rooms.len());
                rooms.push((delivery.room.clone(), vec![delivery]));
            }
            Entry::Occupied(entry) => {
                if let Some((_, list)) = rooms.get_mut(*entry.get()) {
                    list.push(delivery);
                }
            }
        }
    }
    rooms.into_iter().map(|(room, list)| (room, Group::new(list))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::packet::Frame;
    use crate::domain::RoomId;
    use crate::services::delivery::DeliveryKind;

    #[test]
    fn a_room_keeps_its_order() {
        let delivery = |room: &str, n: u64| {
            Arc::new(Delivery {
                room: Room::Chat(RoomId::parse(room).unwrap()),
                except_socket: None,
                except_user: None,
                name: "e".into(),
                frame: Frame::event("e", &n),
                stored: Some(n),
                kind: DeliveryKind::Message(n),
            })
        };
        let groups = by_room(vec![delivery("b", 1), delivery("a", 2), delivery("b", 3)]);
        let names: Vec<String> = groups.iter().map(|(room, _)| room.name()).collect();
        assert_eq!(names, ["chat:b", "chat:a"]);
        assert_eq!(groups[0].1.len(), 2);
    }
}
