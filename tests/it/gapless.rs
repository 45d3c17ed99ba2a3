//! The state machine of joining and coming back, against the store: random interleavings of posts, commits, the pump's turns,
//! joins cut at each of their steps, lost connections, pages, polls and restarts. Whatever happens in between, what
//! somebody has seen is what the store has, without a gap and in order. All of it runs on one thread: each step is taken
//! where the sequence says so.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use academy_rt::config::Config;
use academy_rt::domain::chat::{Author, Message};
use academy_rt::domain::notification::{Audience, AudienceKind};
use academy_rt::domain::{Actor, Role, Room, RoomId};
use academy_rt::protocol::error::{ApiError, ErrorCode};
use academy_rt::protocol::packet::Packet;
use academy_rt::protocol::request::{ChatHistory, ChatJoin, RoomOnly};
use academy_rt::realtime::batch::Packets;
use academy_rt::realtime::delivery::Delivery;
use academy_rt::realtime::feed::Feed;
use academy_rt::realtime::live::Live;
use academy_rt::realtime::registry::{Arrived, Gate, Kind, Outlet, SocketHandle};
use academy_rt::services::long_poll::{PollAnswer, PollStep};
use academy_rt::services::{App, Caller, Settings};
use academy_rt::store::operations::{Delivered, DeliveryMark};
use academy_rt::store::{self, Change, CommitSink, Page, Store};
use academy_rt::transport::socketio::fanout::Pump;

use proptest::prelude::*;
use serde_json::Value;

use crate::store::{Desk, ManualClock, OPEN, actor, author, change, config, draft, note, room, user};

/// A poll as a client makes one: what it finds, or what it has waited for.
async fn poll(app: &App, caller: &Caller, cursor: Option<&str>, wait: Duration) -> Result<PollAnswer, ApiError> {
    match app.long_poll.poll(caller, cursor, rooms(), wait).await? {
        PollStep::Answered(answer) => Ok(answer),
        PollStep::Waits(poll) => app.long_poll.wait(caller, poll).await,
    }
}

const ROOMS: [&str; 2] = ["one", "two"];
const CLIENTS: usize = 4;
const POLLERS: usize = 2;
/// More than the feed keeps.
const RUN_PAST: usize = 17_000;

/// What has been committed waits here: visible to who reads, not yet told to who is here.
#[derive(Default)]
struct Commits {
    waiting: Mutex<Vec<Change>>,
}

impl CommitSink for Commits {
    fn committed(&self, changes: Vec<Change>) {
        self.waiting.lock().unwrap().extend(changes);
    }
}

/// What the server has sent to one socket, in order.
#[derive(Default)]
struct Sent(Mutex<Vec<Said>>);

#[derive(Clone)]
enum Said {
    Joined { last_seq: u64, messages: Vec<Message>, has_more: bool },
    Event(String, Value),
    Expelled,
}

impl Outlet for Sent {
    fn send(&self, packets: &Packets<'_>) -> bool {
        for packet in packets.iter() {
            let (name, payload) = packet.parts().unwrap();
            self.0.lock().unwrap().push(Said::Event(name, serde_json::from_str(payload.get()).unwrap()));
        }
        true
    }

    fn send_volatile(&self, packets: &Packets<'_>) {
        self.send(packets);
    }

    fn expel(&self, _: &ApiError) {
        self.0.lock().unwrap().push(Said::Expelled);
    }
}

/// What somebody has of a room: seq -> id and content.
#[derive(Default)]
struct View(BTreeMap<u64, (u64, String)>);

impl View {
    fn take(&mut self, seq: u64, id: u64, content: &str) {
        let known = self.0.insert(seq, (id, content.to_owned()));
        assert!(known.is_none_or(|(before, _)| before == id), "seq {seq} is two messages");
    }

    /// The last id of what is there without a gap.
    fn after(&self) -> u64 {
        let whole = (1..).zip(&self.0).take_while(|(n, (seq, _))| *n == **seq);
        whole.last().map_or(0, |(_, (_, (id, _)))| *id)
    }

    fn change(&mut self, id: u64, content: &str) {
        if let Some((_, known)) = self.0.values_mut().find(|(other, _)| *other == id) {
            content.clone_into(known);
        }
    }

    fn hear(&mut self, name: &str, payload: &Value) {
        let id = payload["messageId"].as_u64().unwrap_or_default();
        match name {
            "chat:message-edited" => self.change(id, payload["newContent"].as_str().unwrap()),
            "chat:message-deleted" => self.change(id, ""),
            _ => {}
        }
    }
}

enum Stage {
    Out,
    /// At the gate, and history is not read yet.
    Entered(Arc<Gate>),
    /// History is read, and the gate is closed.
    Read(Arc<Gate>, u64, Said),
    In,
}

/// One connection.
struct Life {
    caller: Caller,
    handle: SocketHandle,
    sent: Arc<Sent>,
    /// How much of it the client has received.
    received: usize,
    stage: Stage,
    /// The next live `seq`, once the client knows that it has joined.
    next: Option<u64>,
    /// Behind which id there is more of history.
    page_after: Option<u64>,
}

struct Client {
    actor: Arc<Actor>,
    room: RoomId,
    view: View,
    /// What came by this connection: its content is the store's.
    fresh: View,
    life: Option<Life>,
}

impl Client {
    fn take(&mut self, message: &Message) {
        self.view.take(message.seq, message.id, &message.content);
        self.fresh.take(message.seq, message.id, &message.content);
    }

    /// The client gets the next things that were sent to it.
    fn receive(&mut self, most: usize) {
        let Some(life) = &mut self.life else { return };
        let sent: Vec<Said> = life.sent.0.lock().unwrap().iter().skip(life.received).take(most).cloned().collect();
        life.received += sent.len();
        for said in sent {
            let life = self.life.as_mut().unwrap();
            match said {
                Said::Joined { last_seq, messages, has_more } => {
                    life.next.get_or_insert(last_seq + 1);
                    life.page_after = messages.last().filter(|_| has_more).map(|message| message.id);
                    messages.iter().for_each(|message| self.take(message));
                }
                Said::Event(name, payload) if name == "chat:message" => {
                    let seq = payload["seq"].as_u64().unwrap();
                    assert_eq!(life.next, Some(seq), "the live stream is strictly by seq, behind what the join told");
                    life.next = Some(seq + 1);
                    let (id, content) = (payload["id"].as_u64().unwrap(), payload["content"].as_str().unwrap());
                    self.view.take(seq, id, content);
                    self.fresh.take(seq, id, content);
                }
                Said::Event(name, payload) => {
                    self.view.hear(&name, &payload);
                    self.fresh.hear(&name, &payload);
                }
                Said::Expelled => panic!("nobody is expelled here"),
            }
        }
    }
}

type Polling = Pin<Box<dyn Future<Output = Result<PollAnswer, ApiError>>>>;

/// Somebody who polls, from before the first message on.
struct Poller {
    caller: Caller,
    cursor: String,
    views: BTreeMap<String, View>,
    notifications: Vec<u64>,
    waiting: Option<Polling>,
}

impl Poller {
    fn take(&mut self, answer: PollAnswer) {
        self.cursor = answer.cursor;
        for delivery in &answer.deliveries {
            let payload: Value = serde_json::from_str(delivery.packet.payload().unwrap().get()).unwrap();
            match &*delivery.name {
                "chat:message" => {
                    let view = self.views.entry(payload["roomId"].as_str().unwrap().to_owned()).or_default();
                    let seq = payload["seq"].as_u64().unwrap();
                    assert_eq!(seq, view.0.len() as u64 + 1, "a poll goes on where the last one ended");
                    view.take(seq, payload["id"].as_u64().unwrap(), payload["content"].as_str().unwrap());
                }
                "notification:new" => {
                    let id = payload["id"].as_u64().unwrap();
                    assert!(self.notifications.last().is_none_or(|last| *last < id), "once, and in order");
                    self.notifications.push(id);
                }
                name => {
                    if let Some(view) = payload["roomId"].as_str().and_then(|room| self.views.get_mut(room)) {
                        view.hear(name, &payload);
                    }
                }
            }
        }
    }
}

struct World {
    dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    commits: Arc<Commits>,
    store: Desk,
    live: Arc<Live>,
    app: Arc<App>,
    pump: Pump,
    lives: u64,
    clients: Vec<Client>,
    pollers: Vec<Poller>,
    notifications: Vec<u64>,
}

fn open(dir: &tempfile::TempDir, clock: &Arc<ManualClock>, sink: &Arc<Commits>) -> Desk {
    let store: Arc<dyn Store> = store::open(&config(dir.path()), clock.clone(), sink.clone()).unwrap();
    Desk::new(store, clock.clone())
}

/// A server on a store; its feed has this id.
fn serve(store: &Desk, clock: &Arc<ManualClock>, feed: u64) -> (Arc<Live>, Arc<App>) {
    let live = Live::new(Feed::new(feed), clock.clone());
    let app = Arc::new(App::new(store.store.clone(), live.clone(), settings(), None));
    (live, app)
}

pub fn settings() -> Settings {
    let mut config = Config::default();
    let limits = &mut config.limits;
    (limits.messages_per_second, limits.typing_per_second, limits.syncs_per_second, limits.joins_per_second) =
        (0, 0, 0, 0);
    (limits.sockets_per_user, limits.sockets_per_address) = (0, 0);
    config.retention.floor = Duration::ZERO;
    Settings::new(&config, 0)
}

fn caller(actor: &Arc<Actor>, socket: Option<u64>) -> Caller {
    Caller { actor: actor.clone(), socket, origin: None, reads_only: false }
}

fn rooms() -> Vec<RoomId> {
    ROOMS.map(room).to_vec()
}

impl World {
    async fn new() -> World {
        let (dir, clock, commits) = (tempfile::tempdir().unwrap(), Arc::default(), Arc::default());
        let store = open(&dir, &clock, &commits);
        let (live, app) = serve(&store, &clock, 1);
        let clients = (0..CLIENTS).map(|n| Client {
            actor: Arc::new(actor(&format!("c{n}"), &[Role::Learner])),
            room: room(ROOMS[n % ROOMS.len()]),
            view: View::default(),
            fresh: View::default(),
            life: None,
        });
        let mut pollers = Vec::new();
        for n in 0..POLLERS {
            let caller = caller(&Arc::new(actor(&format!("p{n}"), &[Role::Coach])), None);
            let cursor = poll(&app, &caller, None, Duration::ZERO).await.unwrap().cursor;
            pollers.push(Poller { caller, cursor, views: BTreeMap::new(), notifications: Vec::new(), waiting: None });
        }
        let pump = Pump::new(app.clone(), 1);
        let clients = clients.collect();
        World { dir, clock, commits, store, live, app, pump, lives: 1, clients, pollers, notifications: vec![] }
    }

    /// What one commit has stored is told.
    fn tell(&mut self, most: usize) {
        let told: Vec<Change> = {
            let mut waiting = self.commits.waiting.lock().unwrap();
            let count = most.min(waiting.len());
            waiting.drain(..count).collect()
        };
        self.live.committed(told);
    }

    fn pump_all(&mut self) {
        loop {
            let arrived = self.app.live.feed.take_now(1_024);
            let is_idle = arrived.is_empty();
            self.pump.add(arrived);
            while self.pump.turn().is_some() {}
            if is_idle {
                return;
            }
        }
    }

    /// More happens elsewhere than the feed keeps.
    fn run_past(&mut self) {
        for _ in 0..RUN_PAST / 1_000 {
            let packet = Packet::event("e", &());
            let elsewhere = Delivery { name: "e".into(), ..Delivery::of(Room::Role(Role::Hr), packet) };
            self.app.live.feed.publish(vec![elsewhere; 1_000]).unwrap();
            self.pump_all();
        }
    }

    async fn connect(&mut self, n: usize) {
        let client = &mut self.clients[n];
        if client.life.is_some() {
            return;
        }
        let sockets = &self.app.live.sockets;
        let (number, sent) = (sockets.next_number(), Arc::new(Sent::default()));
        let caller = caller(&client.actor, Some(number));
        let base = client.actor.own_rooms();
        let handle = sockets.enter(number, &client.actor, &base, sent.clone(), 0, Kind::Socket).unwrap();
        let arrived = self.app.inbox.arrive(&caller, &handle).await.unwrap();
        handle.welcome(&client.actor.roles, &arrived, |_, _| {});
        client.fresh = View::default();
        client.life = Some(Life { caller, handle, sent, received: 0, stage: Stage::Out, next: None, page_after: None });
    }

    /// One step of a join: enter, read, open. The service takes the first two in one.
    async fn step_join(&mut self, n: usize, limit: usize, by_service: bool) {
        let client = &mut self.clients[n];
        let Some(life) = &mut client.life else { return };
        let (room, after, number) = (client.room.clone(), Some(client.view.after()), life.handle.socket);
        life.stage = match std::mem::replace(&mut life.stage, Stage::Out) {
            Stage::Out if by_service => {
                let request = ChatJoin { room_id: room, after, limit: Some(limit) };
                let grant = self.app.chat.join(&life.caller, request).await.unwrap();
                let answer = grant.answer;
                let (last_seq, has_more) = (answer.last_seq, answer.has_more);
                let said = Said::Joined { last_seq, messages: answer.messages, has_more };
                Stage::Read(grant.gate, grant.after_seq, said)
            }
            Stage::Out => Stage::Entered(self.app.live.sockets.join(number, &room).unwrap().0),
            Stage::Entered(gate) => {
                let page = Page { before: None, after, limit };
                let page = self.store.join_room(room, Author::of(&client.actor), page, OPEN).await.unwrap();
                let said = Said::Joined { last_seq: page.last_seq, messages: page.messages, has_more: page.has_more };
                Stage::Read(gate, page.last_seq, said)
            }
            Stage::Read(gate, after_seq, said) => {
                let sent = life.sent.clone();
                gate.open(&*sent, after_seq, 0, || sent.0.lock().unwrap().push(said));
                Stage::In
            }
            Stage::In => {
                // Once more, while the stream goes on.
                let request = ChatJoin { room_id: room, after, limit: Some(limit) };
                let grant = self.app.chat.join(&life.caller, request).await.unwrap();
                let answer = grant.answer;
                let (last_seq, has_more) = (answer.last_seq, answer.has_more);
                let said = Said::Joined { last_seq, messages: answer.messages, has_more };
                let sent = life.sent.clone();
                grant.gate.open(&*sent, grant.after_seq, 0, || sent.0.lock().unwrap().push(said));
                Stage::In
            }
        };
    }

    async fn leave(&mut self, n: usize) {
        self.clients[n].receive(usize::MAX);
        let client = &mut self.clients[n];
        let Some(life) = &mut client.life else { return };
        // A client asks for one thing behind the other.
        if matches!(life.stage, Stage::In) {
            self.app.chat.leave(&life.caller, RoomOnly { room_id: client.room.clone() }).await.unwrap();
            (life.stage, life.next, life.page_after) = (Stage::Out, None, None);
            client.fresh = View::default();
        }
    }

    /// The connection is lost, and with it what was on its way.
    async fn disconnect(&mut self, n: usize, arrived: usize) {
        self.clients[n].receive(arrived);
        if let Some(life) = self.clients[n].life.take() {
            self.app.presence.depart(life.handle.socket).await;
            let before = life.sent.0.lock().unwrap().len();
            self.pump_all();
            assert_eq!(life.sent.0.lock().unwrap().len(), before, "nothing is sent to who has gone");
        }
    }

    async fn page(&mut self, n: usize, limit: usize) {
        self.clients[n].receive(usize::MAX);
        let client = &mut self.clients[n];
        let Some(life) = &mut client.life else { return };
        let Some(after) = life.page_after else { return };
        let (room_id, after, limit) = (client.room.clone(), Some(after), Some(limit));
        let request = ChatHistory { room_id, before: None, after, limit, versions: false };
        let page = self.app.chat.history(&life.caller, request).await.unwrap();
        let messages = page.messages.messages;
        life.page_after = messages.last().filter(|_| page.has_more).map(|message| message.id);
        messages.iter().for_each(|message| client.take(message));
    }

    async fn poll(&mut self, n: usize, is_lost: bool) {
        let poller = &mut self.pollers[n];
        poller.waiting = None;
        let answer = poll(&self.app, &poller.caller, Some(&poller.cursor), Duration::ZERO).await.unwrap();
        if !is_lost {
            poller.take(answer);
        }
    }

    /// A poll that waits goes on as far as it can. The store answers from another thread: without patience the poll stays
    /// where it asks, while other things happen.
    async fn wait(&mut self, n: usize, is_patient: bool) {
        let grace = Duration::from_millis(if is_patient { 20 } else { 0 });
        let poller = &mut self.pollers[n];
        let mut waiting = poller.waiting.take().unwrap_or_else(|| {
            let (app, caller, cursor) = (self.app.clone(), poller.caller.clone(), poller.cursor.clone());
            Box::pin(async move { poll(&app, &caller, Some(&cursor), Duration::from_secs(30)).await })
        });
        match tokio::time::timeout(grace, &mut waiting).await {
            Ok(answer) => poller.take(answer.unwrap()),
            Err(_) => poller.waiting = Some(waiting),
        }
    }

    async fn restart(&mut self) {
        for client in &mut self.clients {
            client.life = None;
        }
        for poller in &mut self.pollers {
            poller.waiting = None;
        }
        // What was committed and not told is not told any more.
        self.commits.waiting.lock().unwrap().clear();
        self.store.close().await.unwrap();
        self.store = open(&self.dir, &self.clock, &self.commits);
        self.lives += 1;
        (self.live, self.app) = serve(&self.store, &self.clock, self.lives);
        self.pump = Pump::new(self.app.clone(), 1);
    }

    async fn perform(&mut self, (what, a, b): (u8, u8, u8)) {
        let (n, limit) = (usize::from(a) % CLIENTS, 1 + usize::from(b) % 7);
        let to = ROOMS[usize::from(a) % ROOMS.len()];
        match what {
            0..=4 => {
                let who = format!("c{}", b % 3);
                self.store.append_message(draft(to, &who, &format!("{a}/{b}"), None), OPEN).await.unwrap();
            }
            5 => {
                let id = 1 + u64::from(b) % self.store.last_id().max(1);
                let admin = Author { admin: true, ..author("root") };
                let change = change(to, id, admin);
                // Not every id is a message of this room.
                let _ = match a % 3 {
                    0 => self.store.delete_message(change, OPEN).await,
                    _ => self.store.edit_message(change, format!("edited {a}/{b}"), OPEN).await,
                };
            }
            6 => {
                let audience = match a % 3 {
                    0 => Audience::All,
                    1 => Audience::Role(Role::Coach),
                    _ => Audience::Users(vec![user("p0"), user("p1")]),
                };
                let stored = self.store.notify(note(audience, "n"), None).await.unwrap().0;
                self.notifications.push(stored.id);
            }
            7 | 8 => self.tell(1 + usize::from(b) % 9),
            9 | 10 => {
                let arrived = self.app.live.feed.take_now(1 + usize::from(b) % 9);
                self.pump.add(arrived);
            }
            11..=14 => {
                for _ in 0..=b % 4 {
                    self.pump.turn();
                }
            }
            15 | 16 => self.connect(n).await,
            17..=20 => self.step_join(n, limit, b % 3 == 0).await,
            21 => self.leave(n).await,
            22 => self.disconnect(n, usize::from(b)).await,
            23 | 24 => self.clients[n].receive(usize::from(b)),
            25 => self.page(n, limit).await,
            26 => self.poll(usize::from(a) % POLLERS, b % 2 == 0).await,
            27 | 28 => self.wait(usize::from(a) % POLLERS, b % 8 == 0).await,
            29 if b < 20 => self.restart().await,
            30 if b < 8 => self.run_past(),
            _ => {}
        }
    }

    /// Everybody comes to rest: who has joined has everything by now, and who has not comes back for it.
    async fn settle(&mut self) {
        self.tell(usize::MAX);
        self.pump_all();
        for n in 0..POLLERS {
            if self.pollers[n].waiting.is_some() {
                for _ in 0..8 {
                    self.wait(n, true).await;
                }
                let (poller, is_waiting) = (&self.pollers[n], self.pollers[n].waiting.is_some());
                let now = poll(&self.app, &poller.caller, Some(&poller.cursor), Duration::ZERO).await;
                assert!(!is_waiting || now.unwrap().deliveries.is_empty(), "a poll waits for what is there");
            }
            while self.pollers[n].views.values().map(|view| view.0.len()).sum::<usize>() < self.total().await {
                let before = self.pollers[n].cursor.clone();
                self.poll(n, false).await;
                assert_ne!(self.pollers[n].cursor, before, "a poll does not get on");
            }
            self.poll(n, false).await;
        }
        for n in 0..CLIENTS {
            self.connect(n).await;
            while !matches!(self.clients[n].life.as_ref().unwrap().stage, Stage::In) {
                self.step_join(n, 3, false).await;
            }
            self.clients[n].receive(usize::MAX);
            while self.clients[n].life.as_ref().unwrap().page_after.is_some() {
                self.page(n, 5).await;
            }
        }
    }

    async fn stored(&self, of: &RoomId) -> BTreeMap<u64, (u64, String)> {
        let all = Page { limit: usize::MAX - 1, ..Page::default() };
        let page = self.store.history(of.clone(), author("anybody"), all, OPEN).await.unwrap();
        page.messages.into_iter().map(|one| (one.seq, (one.id, one.content))).collect()
    }

    async fn total(&self) -> usize {
        let mut total = 0;
        for of in rooms() {
            total += self.stored(&of).await.len();
        }
        total
    }

    async fn check(&self) {
        for client in &self.clients {
            let stored = self.stored(&client.room).await;
            let ids = |view: &BTreeMap<u64, (u64, String)>| -> Vec<(u64, u64)> {
                view.iter().map(|(seq, (id, _))| (*seq, *id)).collect()
            };
            assert_eq!(ids(&client.view.0), ids(&stored), "{} in {}", client.actor.user, client.room);
            for (seq, seen) in &client.fresh.0 {
                assert_eq!(Some(seen), stored.get(seq), "the content of what came by this connection");
            }
        }
        for poller in &self.pollers {
            for of in rooms() {
                let seen = poller.views.get(&of.to_string()).map(|view| view.0.clone()).unwrap_or_default();
                assert_eq!(seen, self.stored(&of).await, "{} in {of}", poller.caller.actor.user);
            }
            assert_eq!(poller.notifications, self.notifications);
        }
    }
}

fn on_one_thread<F: Future<Output = ()>>(case: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
}

fn play(steps: Vec<(u8, u8, u8)>) {
    on_one_thread(async move {
        let mut world = World::new().await;
        for step in steps {
            world.perform(step).await;
        }
        world.settle().await;
        world.check().await;
        world.store.close().await.unwrap();
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    #[ignore = "long"]
    fn everybody_sees_what_the_store_has(steps in prop::collection::vec((0u8..31, 0u8..12, 0u8..60), 1..250)) {
        play(steps);
    }
}

#[test]
#[ignore = "long"]
fn who_is_held_too_long_is_cut_off_before_the_gap() {
    on_one_thread(async {
        let mut world = World::new().await;
        world.connect(0).await;
        world.step_join(0, 10, true).await;
        for n in 0..5_000 {
            world.store.append_message(draft(ROOMS[0], "c1", &n.to_string(), None), OPEN).await.unwrap();
            if n % 500 == 0 {
                world.tell(usize::MAX);
                world.pump_all();
            }
        }
        world.step_join(0, 10, true).await;
        world.tell(usize::MAX);
        world.pump_all();
        let sent = world.clients[0].life.as_ref().unwrap().sent.0.lock().unwrap().clone();
        assert!(sent.iter().any(|said| matches!(said, Said::Expelled)));
        assert!(
            !sent.iter().any(|said| matches!(said, Said::Event(name, _) if name == "chat:message")),
            "behind a gap nothing is told, which the client would take for the next"
        );
    });
}

#[test]
fn a_poll_that_waits_is_not_late_when_much_happens_elsewhere() {
    on_one_thread(async {
        let mut world = World::new().await;
        // That the other one has come.
        world.poll(0, false).await;
        world.wait(0, true).await;
        assert!(world.pollers[0].waiting.is_some());
        world.run_past();
        world.store.append_message(draft(ROOMS[0], "c1", "x", None), OPEN).await.unwrap();
        world.tell(usize::MAX);
        world.pump_all();
        // It waits for up to 30 s: told by then, or never.
        for _ in 0..200 {
            if world.pollers[0].waiting.is_some() {
                world.wait(0, true).await;
            }
        }
        assert!(world.pollers[0].waiting.is_none(), "it is woken and told");
        assert_eq!(world.pollers[0].views[ROOMS[0]].0.len(), 1);
    });
}

#[test]
fn a_refused_join_leaves_nobody_behind() {
    on_one_thread(async {
        let mut world = World::new().await;
        world.connect(0).await;
        let who = world.clients[0].life.as_ref().unwrap().caller.clone();
        for (after, limit, code) in [
            (None, Some(0), ErrorCode::InvalidPayload),
            (None, Some(201), ErrorCode::InvalidPayload),
            (Some(u64::MAX), None, ErrorCode::Resync),
        ] {
            let request = ChatJoin { room_id: room(ROOMS[0]), after, limit };
            assert_eq!(world.app.chat.join(&who, request).await.unwrap_err().code, code);
            let here = world.app.live.sockets.head_count(&room(ROOMS[0]));
            assert_eq!(here, POLLERS, "those who poll in it, and nobody else");
        }
    });
}

/// Arrives with one more socket, and gives what waited.
async fn arrive(world: &World, who: &Arc<Actor>, number: u64) -> (SocketHandle, Arrived) {
    let base = who.own_rooms();
    let handle = world.app.live.sockets.enter(number, who, &base, Arc::new(Sent::default()), 0, Kind::Socket).unwrap();
    let arrived = world.app.inbox.arrive(&caller(who, Some(number)), &handle).await.unwrap();
    (handle, arrived)
}

fn welcomed((handle, arrived): &(SocketHandle, Arrived)) -> Vec<u64> {
    let mut told = Vec::new();
    handle.welcome(&[Role::Learner], arrived, |_, waiting| told.extend(waiting.iter().map(|one| one.id)));
    told
}

#[test]
fn what_was_delivered_is_known_when_the_last_socket_has_gone() {
    on_one_thread(async {
        let world = World::new().await;
        let ann = Arc::new(actor("ann", &[Role::Learner]));
        arrive(&world, &ann, 1).await;
        world.app.presence.depart(1).await;
        let stored = world.store.notify(note(Audience::All, "n"), None).await.unwrap().0.id;
        // Both come before either is told: one of them is.
        let (one, two) = (arrive(&world, &ann, 2).await, arrive(&world, &ann, 3).await);
        assert_eq!((welcomed(&one), welcomed(&two)), (vec![stored], vec![]));
        for number in [2, 3] {
            world.app.presence.depart(number).await;
        }
        let sockets = &world.app.live.sockets;
        let marks =
            AudienceKind::of(&[Role::Learner]).map(|audience| (user("ann"), DeliveryMark { audience, up_to: stored }));
        assert_eq!(sockets.unrecorded_deliveries(), marks.collect::<Vec<_>>(), "it is not forgotten with the socket");
        let again = arrive(&world, &ann, 4).await;
        assert!(again.1.undelivered.is_empty() && welcomed(&again).is_empty());
        assert!(sockets.unrecorded_deliveries().is_empty(), "the store knows");
    });
}

#[test]
fn what_waits_behind_a_full_arrival_is_not_lost_to_what_comes_live() {
    on_one_thread(async {
        let mut world = World::new().await;
        let ann = Arc::new(actor("ann", &[Role::Learner]));
        arrive(&world, &ann, 1).await;
        world.app.presence.depart(1).await;
        let mut ids = Vec::new();
        let tell = async |world: &World| world.store.notify(note(Audience::All, "n"), None).await.unwrap().0.id;
        for _ in 0..250 {
            ids.push(tell(&world).await);
        }
        world.commits.waiting.lock().unwrap().clear();
        let live = |world: &mut World| {
            world.tell(usize::MAX);
            world.pump_all();
        };
        assert_eq!(welcomed(&arrive(&world, &ann, 2).await), ids[..100]);
        // One comes live, another while a second device is still at the gate.
        let first = tell(&world).await;
        live(&mut world);
        let tablet = arrive(&world, &ann, 3).await;
        let second = tell(&world).await;
        live(&mut world);
        assert_eq!(welcomed(&tablet), ids[100..200]);
        for number in [2, 3] {
            world.app.presence.depart(number).await;
        }
        let marks = world.app.live.sockets.unrecorded_deliveries();
        world.store.ask(Delivered { marks: marks.clone() }).await.unwrap();
        world.app.live.sockets.note_recorded(&marks);
        assert_eq!(
            welcomed(&arrive(&world, &ann, 4).await),
            ids[200..],
            "the rest, and neither of the live ones again"
        );
        world.app.presence.depart(4).await;
        assert_eq!(welcomed(&arrive(&world, &ann, 5).await), Vec::<u64>::new());
        let third = tell(&world).await;
        live(&mut world);
        let mark = DeliveryMark { audience: AudienceKind::All, up_to: third };
        assert_eq!(world.app.live.sockets.unrecorded_deliveries(), [(user("ann"), mark)]);
        assert!(first < second && second < third);
    });
}
