//! The feed: its order, its bounds, and what is taken back of its past.

use crate::domain::chat::MessageKind;
use crate::domain::{Role, Timestamp};
use crate::protocol::packet::Packet;
use crate::realtime::feed::*;

fn delivery(n: u64) -> Delivery {
    Delivery {
        room: Room::Role(Role::Admin),
        except_socket: None,
        except_user: None,
        name: "e".into(),
        packet: Packet::event("e", &n),
        own: None,
        stored: Some(n),
        kind: DeliveryKind::Event,
        subject: None,
        outbox: None,
    }
}

#[tokio::test]
async fn the_pump_takes_in_order_and_polls_read_the_same() {
    let feed = Feed::new(1);
    feed.publish((0..10).map(delivery).collect()).unwrap();
    let taken = feed.take(4).await.unwrap();
    assert_eq!(taken.iter().map(|d| d.delivery.stored.unwrap()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    assert_eq!(feed.since(8, 100).unwrap().len(), 2);
    assert_eq!(feed.since(10, 100).unwrap().len(), 0);
    assert!(feed.since(11, 100).is_none());
}

#[tokio::test]
async fn a_full_feed_refuses_and_drops_only_what_was_taken() {
    let feed = Feed::new(1);
    for n in 0..RING as u64 {
        feed.publish(vec![delivery(n)]).unwrap();
    }
    assert_eq!(feed.publish(vec![delivery(0)]), Err(FeedFull));
    assert_eq!(feed.take(2).await.unwrap().len(), 2);
    feed.publish(vec![delivery(0), delivery(0)]).unwrap();
    assert!(feed.since(1, 1).is_none(), "the two taken made room");
    assert!(feed.since(2, 1).is_some());
}

fn message(id: u64, content: &str, is_deleted: bool) -> Arc<Message> {
    Arc::new(Message {
        id,
        seq: id,
        room: RoomId::parse("r").unwrap(),
        sender: UserId::parse("7").unwrap(),
        sender_name: "Ann".into(),
        content: content.into(),
        kind: MessageKind::Text,
        reply_to: None,
        client_id: None,
        at: Timestamp(id),
        edited_at: None,
        deleted_at: is_deleted.then_some(Timestamp(id)),
        edited_by: None,
        deleted_by: None,
    })
}

fn texts(feed: &Feed, from: u64) -> String {
    let told = feed.since(from, 1_000).unwrap().into_iter().flatten();
    told.map(|delivery| delivery.packet.payload().unwrap().get().to_owned()).collect::<Vec<_>>().join(" ")
}

#[tokio::test]
async fn what_was_changed_since_is_told_as_it_is_now_and_positions_stay() {
    let feed = Feed::new(1);
    let posted = |id, text| Change::Posted { message: message(id, text, false), origin: None };
    feed.note(&posted(1, "first secret"), None);
    feed.publish(vec![Delivery { stored: None, ..delivery(99) }]).unwrap();
    feed.note(&posted(2, "second secret"), None);
    let edited = |id, text, supersedes| Change::Edited { id, message: message(1, text, false), supersedes };
    feed.note(&edited(3, "edited secret", 0), None);
    assert!(!texts(&feed, 0).contains("first secret") && texts(&feed, 0).contains("edited secret"));
    feed.note(&edited(4, "last words", 3), None);
    assert!(!texts(&feed, 0).contains("edited secret"));
    feed.note(&Change::Deleted { id: 5, message: message(2, "", true), supersedes: 0 }, None);
    assert!(!texts(&feed, 0).contains("second secret") && texts(&feed, 0).contains("deletedAt"));
    assert_eq!((feed.head(), feed.since(0, 100).unwrap().len()), (6, 6), "each has its position still");
    feed.note(&Change::Purged { id: 6, ids: vec![1, 4] }, None);
    assert!(!texts(&feed, 0).contains("last words"));
    feed.note(&posted(7, "in the room"), None);
    feed.note(&Change::RoomRemoved { id: 8, room: RoomId::parse("r").unwrap() }, None);
    assert_eq!(texts(&feed, 0), "99", "what went to another room stays");
    // The pump goes over what is not told any more, and comes to the end.
    feed.close();
    assert_eq!(feed.take(2).await.unwrap().len(), 1);
    assert!(feed.take(100).await.is_none());
}

#[tokio::test]
async fn nothing_of_somebody_erased_is_told_again() {
    let feed = Feed::new(1);
    let user = UserId::parse("7").unwrap();
    feed.note(&Change::Posted { message: message(1, "x", false), origin: None }, None);
    feed.publish(vec![Delivery { stored: None, ..delivery(2) }.about(&user)]).unwrap();
    feed.publish(vec![Delivery { stored: None, ..delivery(3) }]).unwrap();
    feed.note(&Change::Erased { id: 4, user, is_finished: true }, None);
    assert_eq!(texts(&feed, 0), "3");
}

#[tokio::test]
async fn the_feed_is_bounded_by_bytes_too() {
    let feed = Feed::new(1);
    let large = |n| Delivery { packet: Packet::event("e", &"x".repeat(RING_BYTES / 4)), ..delivery(n) };
    for n in 0..3 {
        feed.publish(vec![large(n)]).unwrap();
    }
    assert_eq!(feed.publish(vec![large(3)]), Err(FeedFull), "the pump has taken none of them");
    assert_eq!(feed.take(10).await.unwrap().len(), 3);
    for n in 3..9 {
        feed.publish(vec![large(n)]).unwrap();
        feed.take(1).await.unwrap();
    }
    assert!(feed.size().1 <= RING_BYTES, "{:?}", feed.size());
    assert!(feed.since(0, 1).is_none());
}

#[tokio::test]
async fn a_closed_feed_is_emptied_first() {
    let feed = Feed::new(1);
    feed.publish(vec![delivery(1)]).unwrap();
    feed.close();
    assert_eq!(feed.take(10).await.unwrap().len(), 1);
    assert!(feed.take(10).await.is_none());
}
