//! The rules of access as a small model, held against the real server: administrators change rooms, members and bans, hang up
//! at any byte of it, and the server is killed and stopped in between. After each step whoever may be somewhere is let in and
//! hears what is said, and whoever may not is refused and hears nothing; the trail has one record for each act that was done.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpStream;

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::harness::{Appliance, until};

const USERS: [&str; 3] = ["7", "8", "ann"];
const ROOMS: [&str; 2] = ["a", "b"];

#[derive(Debug, Clone, PartialEq, Eq)]
enum Act {
    Create { room: usize, private: bool, member: usize },
    Private { room: usize, private: bool },
    Admit { room: usize, user: usize },
    Remove { room: usize, user: usize },
    Delete { room: usize },
    Block { user: usize },
    Unblock { user: usize },
}

#[derive(Debug, Clone)]
enum Step {
    /// An act whose answer is waited for.
    Asked(Act),
    /// An act whose requester hangs up behind so many hundredths of its bytes.
    HungUp(Act, u8),
    /// Somebody writes, if they may.
    Say {
        room: usize,
        user: usize,
    },
    Kill,
    Stop,
}

fn acts() -> impl Strategy<Value = Act> {
    let (room, user) = (0..ROOMS.len(), 0..USERS.len());
    prop_oneof![
        (room.clone(), any::<bool>(), user.clone()).prop_map(|(room, private, member)| Act::Create {
            room,
            private,
            member
        }),
        (room.clone(), any::<bool>()).prop_map(|(room, private)| Act::Private { room, private }),
        (room.clone(), user.clone()).prop_map(|(room, user)| Act::Admit { room, user }),
        (room.clone(), user.clone()).prop_map(|(room, user)| Act::Remove { room, user }),
        room.prop_map(|room| Act::Delete { room }),
        user.clone().prop_map(|user| Act::Block { user }),
        user.prop_map(|user| Act::Unblock { user }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        5 => acts().prop_map(Step::Asked),
        4 => (acts(), prop_oneof![0_u8..100, Just(100), Just(100)]).prop_map(|(act, at)| Step::HungUp(act, at)),
        3 => (0..ROOMS.len(), 0..USERS.len()).prop_map(|(room, user)| Step::Say { room, user }),
        1 => Just(Step::Kill),
        1 => Just(Step::Stop),
    ];
    prop::collection::vec(step, 12..28)
}

/// What the rules of access know.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    /// Rooms that are registered: whether they are private, and whom they admit.
    rooms: BTreeMap<usize, (bool, BTreeSet<usize>)>,
    blocked: BTreeSet<usize>,
}

impl Model {
    fn may_enter(&self, user: usize, room: usize) -> bool {
        let is_let_in = match self.rooms.get(&room) {
            None | Some((false, _)) => true,
            Some((true, members)) => members.contains(&user),
        };
        is_let_in && !self.blocked.contains(&user)
    }

    /// Does an act; `false` if it is refused. `None` if either may be: whoever is in a room as a guest, by a word of theirs or
    /// as they polled when its first message came, can be taken out, and is nobody's business here.
    fn apply(&mut self, act: &Act) -> Option<bool> {
        Some(match *act {
            Act::Create { room, private, member } => {
                let is_new = !self.rooms.contains_key(&room);
                if is_new {
                    self.rooms.insert(room, (private, BTreeSet::from([member])));
                }
                is_new
            }
            Act::Private { room, private } => match self.rooms.get_mut(&room) {
                Some((is_private, _)) => {
                    *is_private = private;
                    true
                }
                None => false,
            },
            Act::Admit { room, user } => match self.rooms.get_mut(&room) {
                Some((_, members)) => {
                    members.insert(user);
                    true
                }
                None => false,
            },
            Act::Remove { room, user } => match self.rooms.get_mut(&room) {
                Some((_, members)) => {
                    if !members.remove(&user) {
                        return None;
                    }
                    true
                }
                None => false,
            },
            Act::Delete { room } => self.rooms.remove(&room).is_some(),
            Act::Block { user } => {
                self.blocked.insert(user);
                true
            }
            Act::Unblock { user } => self.blocked.remove(&user),
        })
    }

    /// Somebody writes who may: a room that nobody has registered is one now.
    fn say(&mut self, room: usize) {
        self.rooms.entry(room).or_insert((false, BTreeSet::new()));
    }
}

/// The method, the path and the body of an act.
fn request(act: &Act) -> (&'static str, String, String) {
    let base = "/api/v1/admin";
    match *act {
        Act::Create { room, private, member } => {
            let body = json!({ "roomId": ROOMS[room], "private": private, "members": [USERS[member]] });
            ("POST", format!("{base}/rooms"), body.to_string())
        }
        Act::Private { room, private } => {
            ("PATCH", format!("{base}/rooms/{}", ROOMS[room]), json!({ "private": private }).to_string())
        }
        Act::Admit { room, user } => {
            ("PUT", format!("{base}/rooms/{}/members/{}", ROOMS[room], USERS[user]), "{}".to_owned())
        }
        Act::Remove { room, user } => {
            ("DELETE", format!("{base}/rooms/{}/members/{}", ROOMS[room], USERS[user]), String::new())
        }
        Act::Delete { room } => ("DELETE", format!("{base}/rooms/{}", ROOMS[room]), String::new()),
        Act::Block { user } => ("POST", format!("{base}/users/{}/block", USERS[user]), "{}".to_owned()),
        Act::Unblock { user } => ("POST", format!("{base}/users/{}/unblock", USERS[user]), "{}".to_owned()),
    }
}

/// A server with what is known of it.
struct World {
    server: Option<Appliance>,
    admin: String,
    tokens: Vec<String>,
    model: Model,
    /// Acts that were done.
    done: usize,
    /// Where each user's polls are, for each room.
    cursors: BTreeMap<(usize, usize), String>,
    said: usize,
}

impl World {
    fn new() -> World {
        let server = Appliance::start();
        let admin = server.token("1", "admin");
        let tokens = USERS.iter().map(|user| server.token(user, "learner")).collect();
        let (model, cursors) = (Model::default(), BTreeMap::new());
        World { server: Some(server), admin, tokens, model, done: 0, cursors, said: 0 }
    }

    fn server(&self) -> &Appliance {
        self.server.as_ref().unwrap()
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Asked(act) => {
                let (method, path, body) = request(act);
                let (status, answer) = self.server().call(&self.admin, method, &path, &body);
                if let Some(is_done) = self.model.apply(act) {
                    assert_eq!(status == 200, is_done, "{act:?}: {status} {answer}");
                }
                self.done += usize::from(status == 200);
            }
            Step::HungUp(act, at) => self.hang_up(act, *at),
            Step::Say { room, user } => {
                let may = self.model.may_enter(*user, *room);
                let body = json!({ "content": "a word" }).to_string();
                let path = format!("/api/v1/rooms/{}/messages", ROOMS[*room]);
                let (status, answer) = self.server().call(&self.tokens[*user], "POST", &path, &body);
                assert_eq!(status, if may { 200 } else { 403 }, "{step:?}: {answer}");
                if may {
                    self.model.say(*room);
                }
            }
            Step::Kill => {
                let dir = self.server.take().unwrap().kill();
                self.server = Some(Appliance::start_in(dir, &[]));
            }
            Step::Stop => {
                let dir = self.server.take().unwrap().end();
                self.server = Some(Appliance::start_in(dir, &[]));
            }
        }
    }

    /// Either nothing of the act is done, or the whole of it: the trail tells which.
    fn hang_up(&mut self, act: &Act, at: u8) {
        let (method, path, body) = request(act);
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            self.admin,
            body.len()
        );
        let end = bytes.len() * usize::from(at) / 100;
        {
            let mut stream = TcpStream::connect(("127.0.0.1", self.server().port)).unwrap();
            drop(stream.write_all(&bytes.as_bytes()[..end]));
        }
        // A request that is answered behind it: what was heard of the other one has been given to the store by then, or is
        // within moments, which the trail shows.
        let mut after = self.model.clone();
        let would_be_done = after.apply(act);
        let before = self.done;
        self.fence();
        let mut records = self.records();
        if would_be_done != Some(false) && at == 100 && records == before {
            // It was cut before it was heard, or is on its way: it is settled when a stop has drained it.
            self.step(&Step::Stop);
            records = self.records();
        }
        if records > before {
            assert!(records == before + 1 && would_be_done != Some(false) && at == 100, "{act:?}: {records}");
            self.model = after;
            self.done = records;
        }
    }

    /// An act that changes nothing that the model knows, and is counted.
    fn fence(&mut self) {
        let (status, answer) = self.server().call(&self.admin, "POST", "/api/v1/admin/users/nobody/disconnect", "{}");
        assert_eq!(status, 200, "{answer}");
    }

    fn records(&self) -> usize {
        let (_, page) = self.server().call(&self.admin, "GET", "/api/v1/admin/audit?limit=1000", "");
        let acts = [
            "room.create",
            "room.set",
            "room.delete",
            "room.member.add",
            "room.member.remove",
            "user.block",
            "user.unblock",
        ];
        let records = page["items"].as_array().unwrap();
        records.iter().filter(|record| acts.contains(&record["action"].as_str().unwrap())).count()
    }

    /// What the server shows of its rooms and people is what the model knows; and whoever may hear hears.
    fn check(&mut self) {
        for (room, name) in ROOMS.iter().enumerate() {
            let (status, shown) = self.server().call(&self.admin, "GET", &format!("/api/v1/admin/rooms/{name}"), "");
            match self.model.rooms.get(&room) {
                None => assert_eq!(status, 404, "{shown}"),
                Some((private, members)) => {
                    assert_eq!(shown["private"], Value::Bool(*private), "room {name}");
                    let admitted: BTreeSet<String> = shown["items"]
                        .as_array()
                        .unwrap()
                        .iter()
                        .filter(|member| member["role"] != "guest")
                        .map(|member| member["userId"].to_string().trim_matches('"').to_owned())
                        .collect();
                    let known: BTreeSet<String> = members.iter().map(|user| USERS[*user].to_owned()).collect();
                    assert_eq!(admitted, known, "room {name}");
                }
            }
        }
        assert_eq!(self.records(), self.done, "one record for each act that was done");
        self.said += 1;
        let word = format!("word {}", self.said);
        for (room, name) in ROOMS.into_iter().enumerate() {
            // Whoever may is told from here on.
            for user in 0..USERS.len() {
                let (status, answer) = self.poll(user, room);
                let may = self.model.may_enter(user, room);
                assert_eq!(status, if may { 200 } else { 403 }, "user {user}, room {room}: {answer}");
            }
            let known = self.model.rooms.contains_key(&room);
            if !known {
                continue;
            }
            self.server().say(&self.admin, name, &word);
            for user in 0..USERS.len() {
                let (_, answer) = self.poll(user, room);
                let hears = answer.to_string().contains(&word);
                assert_eq!(hears, self.model.may_enter(user, room), "user {user}, room {room}: {answer}");
            }
        }
    }

    fn poll(&mut self, user: usize, room: usize) -> (u16, Value) {
        let cursor = self.cursors.get(&(user, room)).map(|cursor| format!("&cursor={cursor}")).unwrap_or_default();
        let path = format!("/api/v1/events?rooms={}{cursor}", ROOMS[room]);
        let (status, answer) = self.server().call(&self.tokens[user], "GET", &path, "");
        if let Some(cursor) = answer["cursor"].as_str() {
            self.cursors.insert((user, room), cursor.to_owned());
        }
        (status, answer)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6, max_shrink_iters: 40, ..ProptestConfig::default() })]
    #[test]
    fn whoever_may_is_let_in_and_nobody_else_over_hang_ups_kills_and_restarts(steps in steps()) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
            world.check();
        }
        let appliance = world.server.take().unwrap();
        let dir = appliance.end();
        until("the file is free", || academy_rt::store::embedded::check(&dir.path().join("data")).is_ok());
        prop_assert_eq!(academy_rt::store::embedded::check(&dir.path().join("data")).unwrap(), Vec::<String>::new());
    }
}
