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
