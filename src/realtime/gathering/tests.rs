//! What is told at once, what is gathered, and what is not told at all. Nothing waits: the time of a look is given.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::domain::{Actor, SystemClock};
use crate::protocol::error::ApiError;
use crate::realtime::batch::Packets;
use crate::realtime::feed::Feed;
use crate::realtime::registry::{Kind, Outlet};

#[derive(Default)]
struct Nobody;

impl Outlet for Nobody {
    fn send(&self, _: &Packets<'_>) -> bool {
        true
    }
    fn send_volatile(&self, _: &Packets<'_>) {}
    fn expel(&self, _: &ApiError) {}
}

/// What is live, a room, and how far the time has been moved on.
struct House(Arc<Live>, RoomId, Cell<u32>);

impl House {
    fn new() -> House {
        House(Live::new(Feed::new(1), Arc::new(SystemClock)), RoomId::parse("r").unwrap(), Cell::default())
    }

    fn enter(&self, socket: u64, user: &str) {
        let actor = Arc::new(Actor { user: UserId::parse(user).unwrap(), ..Actor::local_admin() });
        self.0.sockets.enter(socket, &actor, &[], Arc::new(Nobody), 0, Kind::Socket).unwrap();
    }

    fn join(&self, socket: u64, user: &str) {
        self.0.sockets.join(socket, &self.1).unwrap();
        self.0.announce_guest(&self.1, &UserId::parse(user).unwrap(), user);
    }

    fn leave(&self, socket: u64, user: &str) {
        self.0.sockets.leave(socket, &self.1).unwrap();
        self.0.announce_guest(&self.1, &UserId::parse(user).unwrap(), user);
    }

    /// What was told since the last look: of whom, and what.
    fn told(&self) -> Vec<String> {
        let placed = self.0.feed.take_now(1_000_000);
        placed.iter().map(|one| format!("{} {}", one.delivery.subject.as_ref().unwrap(), one.delivery.name)).collect()
    }

    /// The end of a gathering has come.
    fn pass(&self) {
        self.2.set(self.2.get() + 2);
        self.0.tell_the_gathered(Instant::now() + GATHERED_FOR * self.2.get());
    }

    fn is_quiet(&self) -> bool {
        let gathered = self.0.gatherings.lock();
        gathered.rooms.is_empty() && gathered.due.is_empty()
    }
}

#[test]
fn who_comes_to_a_quiet_room_is_announced_at_once_and_a_herd_together() {
    let house = House::new();
    for socket in 0..500 {
        house.enter(socket, &format!("u{socket}"));
    }
    house.join(0, "u0");
    let begun = Instant::now();
    house.join(1, "u1");
    let both = ["u0 chat:user_joined", "u1 chat:user_joined"];
    assert_eq!(house.told(), both, "at once: of the first one nobody was told");
    for socket in 2..500 {
        house.join(socket, &format!("u{socket}"));
    }
    assert!(house.told().is_empty(), "gathered");
    house.0.tell_the_gathered(begun + GATHERED_FOR - Duration::from_millis(1));
    assert!(house.told().is_empty(), "its time has not come");
    house.pass();
    let all: Vec<String> = (2..500).map(|socket| format!("u{socket} chat:user_joined")).collect();
    assert_eq!(house.told(), all, "each once, in the order in which they came");
    house.pass();
    assert!(house.is_quiet(), "nothing is kept of a room that is quiet");
    house.leave(7, "u7");
    assert_eq!(house.told(), ["u7 chat:user_left"], "at once again");
}

#[test]
fn who_comes_and_leaves_within_a_gathering_is_not_spoken_of_and_the_last_state_wins() {
    let house = House::new();
    for (socket, user) in ["first", "ann", "bob", "eve"].iter().enumerate() {
        house.enter(socket as u64, user);
    }
    house.join(3, "eve");
    house.join(0, "first");
    assert_eq!(house.told(), ["eve chat:user_joined", "first chat:user_joined"]);
    house.join(1, "ann");
    house.leave(1, "ann");
    house.join(2, "bob");
    house.leave(2, "bob");
    house.join(2, "bob");
    house.leave(3, "eve");
    house.join(3, "eve");
    house.leave(0, "first");
    house.pass();
    assert_eq!(house.told(), ["bob chat:user_joined", "first chat:user_left"]);
    assert_eq!(house.0.sockets.head_count(&house.1), 2);
    // Somebody who left before anybody was told that they came: a join whose page was still being read.
    house.0.sockets.join(1, &house.1).unwrap();
    house.leave(1, "ann");
    house.pass();
    house.pass();
    assert!(house.told().is_empty() && house.is_quiet());
    for (socket, user) in [(2, "bob"), (3, "eve")] {
        house.leave(socket, user);
    }
    house.pass();
    house.pass();
    assert_eq!(house.told(), ["bob chat:user_left", "eve chat:user_left"]);
    assert!(house.is_quiet() && house.0.sockets.untold(&house.1, &[]).is_empty());
    assert_eq!(house.0.sockets.rooms_kept(), 0, "a room that is empty, and has been told so, is forgotten");
}

#[test]
fn the_order_of_two_calls_does_not_matter_only_who_is_there() {
    let house = House::new();
    let (old, new, user) = (1, 2, UserId::parse("ann").unwrap());
    house.enter(old, "ann");
    house.join(old, "ann");
    house.pass();
    house.pass();
    assert_eq!(house.told(), ["ann chat:user_joined"]);
    // A page is reloaded: the old socket leaves, the new one joins, and the leave is announced behind the join.
    house.enter(new, "ann");
    assert_eq!(house.0.sockets.leave(old, &house.1), Some(true));
    assert!(house.0.sockets.join(new, &house.1).unwrap().1);
    house.0.announce_guest(&house.1, &user, "ann");
    house.0.announce_guest(&house.1, &user, "ann");
    house.pass();
    assert!(house.told().is_empty(), "she is there, and everybody knows");
}

#[test]
fn presence_is_gathered_alike() {
    let house = House::new();
    let seen = |n| Timestamp(n);
    let user = |n: u64| UserId::parse(&format!("u{n}")).unwrap();
    house.enter(1, "ann");
    house.enter(2, "bob");
    house.join(1, "ann");
    house.join(2, "bob");
    house.pass();
    assert_eq!(house.told().len(), 2);
    for n in 0..100 {
        house.0.announce_sighting(&house.1, &user(n), false, seen(n));
    }
    assert_eq!(house.told().len(), 1);
    house.0.announce_sighting(&house.1, &user(7), true, seen(200));
    house.0.announce_sighting(&house.1, &user(0), true, seen(201));
    house.pass();
    let told = house.told();
    assert_eq!(told.len(), 99, "one came back before anybody was told that they had gone");
    assert!(!told.contains(&"u7 presence:changed".to_owned()) && told.last().unwrap() == "u0 presence:changed");
}

#[test]
fn what_a_full_feed_does_not_take_is_told_later() {
    let house = House::new();
    let filler = Delivery::passing(Room::All, &ServerEvent::ServerDraining { retry_after_ms: 1 });
    while house.0.feed.publish(vec![filler.clone(); 1_024]).is_ok() {}
    while house.0.feed.publish(vec![filler.clone()]).is_ok() {}
    house.enter(1, "ann");
    house.join(1, "ann");
    drop(house.0.feed.take_now(1_000_000));
    house.pass();
    assert_eq!(house.told(), ["ann chat:user_joined"]);
}

#[tokio::test]
async fn the_task_tells_by_itself() {
    let house = House::new();
    let stop = CancellationToken::new();
    let (live, until) = (house.0.clone(), stop.clone());
    let task = tokio::spawn(async move { live.tell_what_is_gathered(until).await });
    let users = ["ann", "bob", "eve"];
    let begun = Instant::now();
    for (socket, user) in (1..).zip(users) {
        house.enter(socket, user);
        house.join(socket, user);
    }
    let mut told = Vec::new();
    while told.len() < users.len() {
        told.extend(house.0.feed.take(10).await.unwrap());
    }
    assert!(begun.elapsed() >= GATHERED_FOR, "{:?}", begun.elapsed());
    stop.cancel();
    task.await.unwrap();
}
