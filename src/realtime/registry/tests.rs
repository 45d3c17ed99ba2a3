//! Gates, groups, and who is where.

use crate::protocol::packet::Packet;
use crate::realtime::batch::Packets;
use crate::realtime::registry::*;

#[derive(Default)]
struct Recorder(Mutex<Vec<String>>);

impl Outlet for Recorder {
    fn send(&self, packets: &Packets<'_>) -> bool {
        let texts = packets.iter().map(|packet| String::from_utf8_lossy(&packet.text()[2..]).into_owned());
        self.0.lock().extend(texts);
        true
    }
    fn send_volatile(&self, packets: &Packets<'_>) {
        self.send(packets);
    }
    fn expel(&self, _: &ApiError) {}
}

fn actor(id: &str) -> Arc<Actor> {
    Arc::new(Actor { user: UserId::parse(id).unwrap(), roles: vec![], ..Actor::local_admin() })
}

fn message(room: &RoomId, seq: u64) -> Placed {
    let packet = Packet::event("m", &seq);
    let (stored, kind) = (Some(seq), DeliveryKind::Message(seq));
    let delivery = Delivery { name: "m".into(), stored, kind, ..Delivery::of(Room::Chat(room.clone()), packet) };
    Placed { position: seq, delivery: Arc::new(delivery) }
}

fn deliver(sockets: &Sockets, room: &RoomId, seqs: &[u64]) {
    let group = Group::new(&Room::Chat(room.clone()), seqs.iter().map(|seq| message(room, *seq)).collect());
    for member in sockets.members(&Room::Chat(room.clone())).unwrap().iter() {
        member.deliver(&group);
    }
}

#[test]
fn history_and_live_stream_join_without_gap_or_double() {
    let sockets = Sockets::default();
    let outlet = Arc::new(Recorder::default());
    let room = RoomId::parse("r").unwrap();
    sockets.enter(1, &actor("7"), &[], outlet.clone(), 0, Kind::Socket).unwrap();
    let (gate, is_first) = sockets.join(1, &room).unwrap();
    assert!(is_first && !sockets.is_in(1, &room));
    deliver(&sockets, &room, &[4, 5, 6]);
    assert!(outlet.0.lock().is_empty(), "held back");
    gate.open(&*outlet, 5, 0, || outlet.0.lock().push("page up to 5".into()));
    deliver(&sockets, &room, &[5]);
    deliver(&sockets, &room, &[7, 8]);
    let seen = outlet.0.lock().clone();
    assert_eq!(seen, ["page up to 5", "[\"m\",6]", "[\"m\",7]", "[\"m\",8]"]);
    assert!(sockets.is_in(1, &room));
}

#[test]
fn a_member_gets_each_delivery_once_however_often_the_pump_comes_by() {
    let sockets = Sockets::default();
    let outlet = Arc::new(Recorder::default());
    let room = RoomId::parse("r").unwrap();
    sockets.enter(1, &actor("7"), &[], outlet.clone(), 0, Kind::Socket).unwrap();
    let (gate, _) = sockets.join(1, &room).unwrap();
    deliver(&sockets, &room, &[1]);
    deliver(&sockets, &room, &[1, 2]);
    gate.open(&*outlet, 0, 0, || {});
    deliver(&sockets, &room, &[1, 2]);
    deliver(&sockets, &room, &[2, 3, 4]);
    deliver(&sockets, &room, &[3, 4]);
    let chat = Room::Chat(room.clone());
    let grown = Group::new(&chat, vec![message(&room, 4)]).with(&chat, &[message(&room, 4), message(&room, 5)]);
    for member in sockets.members(&chat).unwrap().iter() {
        assert_eq!(member.deliver(&grown), 1);
    }
    let seen = outlet.0.lock().clone();
    assert_eq!(seen, (1..=5).map(|seq| format!("[\"m\",{seq}]")).collect::<Vec<_>>());
}

#[test]
fn nothing_arrives_after_leaving() {
    let sockets = Sockets::default();
    let outlet = Arc::new(Recorder::default());
    let room = RoomId::parse("r").unwrap();
    sockets.enter(1, &actor("7"), &[], outlet.clone(), 0, Kind::Socket).unwrap();
    sockets.join(1, &room).unwrap().0.open(&*outlet, 0, 0, || {});
    let members = sockets.members(&Room::Chat(room.clone())).unwrap();
    assert_eq!(sockets.leave(1, &room), Some(true));
    members[0].deliver(&Group::new(&Room::Chat(room.clone()), vec![message(&room, 1)]));
    assert!(outlet.0.lock().is_empty());
    assert_eq!(sockets.leave(1, &room), None);
    assert!(sockets.members(&Room::Chat(room)).is_none(), "an empty room is forgotten");
}

#[test]
fn two_sockets_of_a_user_count_as_one_person() {
    let sockets = Sockets::default();
    let outlet: Arc<Recorder> = Arc::default();
    let room = RoomId::parse("r").unwrap();
    for socket in [1, 2] {
        sockets.enter(socket, &actor("7"), &[Room::All], outlet.clone(), 2, Kind::Socket).unwrap();
    }
    assert!(sockets.enter(3, &actor("7"), &[], outlet.clone(), 2, Kind::Socket).is_none(), "the bound holds");
    assert!(sockets.join(1, &room).unwrap().1);
    assert!(!sockets.join(2, &room).unwrap().1);
    assert_eq!((sockets.head_count(&room), sockets.count(&Room::All)), (1, 2));
    let first = sockets.exit(1).unwrap();
    assert!(!first.was_last && !first.rooms[0].is_whole_user);
    let last = sockets.exit(2).unwrap();
    assert!(last.was_last && last.rooms[0].is_whole_user);
    assert!(sockets.exit(2).is_none());
    assert_eq!(sockets.totals(), (0, 0));
}

/// How long it takes, for each of them, until so many rooms of so many sockets are empty; the best of three times.
fn emptying(rooms: usize, size: usize, go: impl Fn(&Sockets, u64, &RoomId)) -> f64 {
    let outlet: Arc<Recorder> = Arc::default();
    let once = || {
        let sockets = Sockets::default();
        let names: Vec<RoomId> = (0..rooms).map(|n| RoomId::parse(&format!("r{n}")).unwrap()).collect();
        let places: Vec<(u64, &RoomId)> =
            (1..).zip(names.iter().flat_map(|name| std::iter::repeat_n(name, size))).collect();
        for (socket, room) in &places {
            sockets.enter(*socket, &actor(&socket.to_string()), &[], outlet.clone(), 0, Kind::Socket).unwrap();
            sockets.join(*socket, room).unwrap();
        }
        let begun = std::time::Instant::now();
        // The last one first: whoever looks for them from the front passes everybody.
        for (socket, room) in places.iter().rev() {
            go(&sockets, *socket, room);
        }
        let took = begun.elapsed().as_secs_f64();
        assert_eq!(sockets.totals().1, 0, "each room has been emptied, and is forgotten");
        took / places.len() as f64
    };
    (0..3).map(|_| once()).fold(f64::INFINITY, f64::min)
}

#[test]
fn to_leave_a_room_of_tens_of_thousands_costs_what_it_costs_to_leave_a_small_one() {
    let leave = |sockets: &Sockets, socket: u64, room: &RoomId| assert!(sockets.leave(socket, room).is_some());
    let exit = |sockets: &Sockets, socket: u64, _: &RoomId| assert!(sockets.exit(socket).is_some());
    for (how, ratio) in [
        ("leaves", emptying(1, 40_000, leave) / emptying(800, 50, leave)),
        ("exits", emptying(1, 40_000, exit) / emptying(800, 50, exit)),
    ] {
        println!("{how}: each costs {ratio:.1} times as much in the large room");
        // With a search through the members it is about thirty.
        assert!(ratio < 6.0, "{how}: {ratio}");
    }
}

/// How often something was sent to it.
#[derive(Default)]
struct Counter(std::sync::atomic::AtomicUsize, Recorder);

impl Outlet for Counter {
    fn send(&self, packets: &Packets<'_>) -> bool {
        self.0.fetch_add(1, Ordering::Relaxed);
        self.1.send(packets)
    }
    fn send_volatile(&self, packets: &Packets<'_>) {
        self.send(packets);
    }
    fn expel(&self, _: &ApiError) {}
}

#[test]
fn announcements_of_many_are_one_write_for_who_is_not_among_them_and_two_for_who_is() {
    use crate::protocol::event::{RoomGuest, ServerEvent};
    const JOINED: usize = 500;
    let sockets = Sockets::default();
    let room = RoomId::parse("r").unwrap();
    let outlets: Vec<Arc<Counter>> = (0..=JOINED).map(|_| Arc::default()).collect();
    for (socket, outlet) in (0..).zip(&outlets) {
        sockets.enter(socket, &actor(&format!("u{socket}")), &[], outlet.clone(), 0, Kind::Socket).unwrap();
        sockets.join(socket, &room).unwrap().0.open(&**outlet, 0, 0, || {});
    }
    // Everybody but the first has just come.
    let chat = Room::Chat(room.clone());
    let placed = (1..=JOINED).map(|n| {
        let user = UserId::parse(&format!("u{n}")).unwrap();
        let guest =
            RoomGuest { room_id: &room, user_id: &user, user_name: "N", timestamp: crate::domain::Timestamp(1) };
        let delivery = Delivery::to_others(chat.clone(), &user, &ServerEvent::ChatUserJoined(guest));
        Placed { position: n as u64, delivery: Arc::new(delivery) }
    });
    let group = Group::new(&chat, placed.collect());
    let sent: usize = sockets.members(&chat).unwrap().iter().map(|member| member.deliver(&group)).sum();
    assert_eq!(sent, JOINED + JOINED * (JOINED - 1), "nobody hears of themselves");
    for (n, outlet) in outlets.iter().enumerate() {
        let (writes, seen) = (outlet.0.load(Ordering::Relaxed), outlet.1.0.lock().clone());
        let others = (1..=JOINED).filter(|other| *other != n).map(|other| format!("\"u{other}\""));
        assert!(seen.iter().zip(others).all(|(seen, other)| seen.contains(&other)), "in order, and each once");
        assert!(writes <= 2 && seen.len() == JOINED - usize::from(n > 0), "{writes} writes of {} to {n}", seen.len());
    }
}

#[test]
fn who_leaves_while_their_coming_is_told_is_told_to_have_left() {
    let sockets = Sockets::default();
    let (room, user) = (RoomId::parse("r").unwrap(), UserId::parse("7").unwrap());
    sockets.enter(1, &actor("7"), &[], Arc::new(Recorder::default()), 0, Kind::Socket).unwrap();
    sockets.join(1, &room).unwrap();
    assert_eq!(sockets.untold(&room, &[&user]), [Some(true)]);
    // Between what is the case and the word of it.
    assert_eq!(sockets.leave(1, &room), Some(true));
    sockets.note_told(&room, [(&user, true)].into_iter());
    assert_eq!(sockets.untold(&room, &[&user]), [Some(false)]);
    sockets.note_told(&room, [(&user, false)].into_iter());
    assert_eq!((sockets.untold(&room, &[&user]), sockets.rooms_kept()), (vec![None], 0), "nothing is left behind");
}
