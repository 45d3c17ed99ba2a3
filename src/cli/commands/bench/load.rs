//! What the bench does to a server. Messages are offered at a rate, on a schedule that waits for no answer: a latency counts from
//! the moment at which a message was due, so that a server that falls behind is seen to. Or so many are in flight, each with the
//! next one as soon as one is answered.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::cli::commands::bench::client::{Client, Requests};
use crate::cli::commands::bench::figures::{Latencies, Spread, Usage, Used};
use crate::cli::commands::bench::target::Target;

/// So many connect at the same time.
const AT_ONCE: usize = 64;
/// Nothing that is waited for has come for so long: it does not come any more.
const STALLED: Duration = Duration::from_secs(5);
/// How often it is looked at whether all is done.
const LOOK: Duration = Duration::from_millis(5);
/// What comes twice comes within this time behind everything else.
const LATE: Duration = Duration::from_millis(300);
/// The server rests for so long before it is measured: arrivals are announced, marks written.
const REST: Duration = Duration::from_millis(1_500);

/// How messages are sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// So many a second, together.
    Rate(f64),
    /// So many of each sender at a time.
    InFlight(usize),
}

/// People in chat rooms, some of whom write.
#[derive(Debug, Clone, Copy)]
pub(super) struct Chat {
    pub(super) rooms: usize,
    pub(super) members: usize,
    pub(super) senders: usize,
    pub(super) size: usize,
    pub(super) pace: Pace,
    pub(super) seconds: u64,
    /// So many more wait by long polling, one in each room in turn.
    pub(super) pollers: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(super) struct Outcome {
    /// What was to be answered, and what was: well, and with an error; the first of these.
    pub(super) sent: u64,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    pub(super) refusal: Option<String>,
    /// Deliveries; those that were acknowledged and have not come, have come twice, or in another order.
    pub(super) deliveries: u64,
    pub(super) lost: u64,
    pub(super) doubled: u64,
    pub(super) disordered: u64,
    /// Connections that ended.
    pub(super) gone: u64,
    pub(super) seconds: f64,
    pub(super) ack: Spread,
    pub(super) delivery: Spread,
    pub(super) usage: Option<Usage>,
}

impl Outcome {
    /// Messages a second that were acknowledged.
    pub(super) fn rate(&self) -> f64 {
        self.acknowledged as f64 / self.seconds.max(1e-3)
    }

    /// Whether the server has broken a promise.
    pub(super) fn is_wrong(&self) -> bool {
        self.lost + self.doubled + self.disordered > 0
    }

    /// What the server has used of something for each message.
    pub(super) fn per_message(&self, of: impl Fn(&Usage) -> Option<f64>) -> Option<f64> {
        Some(of(self.usage.as_ref()?)? / self.acknowledged.max(1) as f64)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "sent": self.sent, "acknowledged": self.acknowledged, "refused": self.refused, "refusal": self.refusal,
            "deliveries": self.deliveries, "lost": self.lost, "doubled": self.doubled, "disordered": self.disordered,
            "gone": self.gone, "seconds": self.seconds, "perSecond": self.rate(),
            "ack": self.ack, "delivery": self.delivery, "server": self.usage.as_ref().map(Usage::json),
            "cpuUsPerMessage": self.usage.map(|usage| usage.cpu_us(self.acknowledged as usize)),
            "cpuUsPerDelivery": self.usage.map(|usage| usage.cpu_us(self.deliveries as usize)),
            "writtenBytesPerMessage": self.per_message(Usage::written),
            "readAndWriteCallsPerMessage": self.per_message(Usage::io_calls),
        })
    }
}

/// What somebody has received.
#[derive(Debug, Default)]
struct Received {
    latencies: Latencies,
    /// Of each sender, which numbers.
    numbers: HashMap<u64, Vec<u64>>,
    doubled: u64,
    disordered: u64,
    last_seq: u64,
    /// Of each sender, the highest number and one, where messages have no `seq`.
    last_numbers: HashMap<u64, u64>,
}

/// The number behind a word of a JSON text.
fn number_behind(text: &str, word: &str) -> Option<u64> {
    let rest = text.get(text.find(word)? + word.len()..)?;
    let end = rest.find(|one: char| !one.is_ascii_digit()).unwrap_or(rest.len());
    rest.get(..end)?.parse().ok()
}

impl Received {
    /// Takes a message that was received `now` microseconds after the beginning. Gives whether it was one of the bench's.
    fn take(&mut self, message: &str, now: u64) -> bool {
        const WORD: &str = "\"content\":\"";
        let Some(content) = message.find(WORD).and_then(|at| message.get(at + WORD.len()..)) else { return false };
        let mut parts = content.splitn(4, ':').map(|part| part.parse::<u64>().ok());
        let (Some(Some(sender)), Some(Some(number)), Some(Some(due))) = (parts.next(), parts.next(), parts.next())
        else {
            return false;
        };
        let seen = self.numbers.entry(sender).or_default();
        let (word, bit) = ((number / 64) as usize, 1_u64 << (number % 64));
        if seen.len() <= word {
            seen.resize(word + 1, 0);
        }
        let Some(bits) = seen.get_mut(word) else { return false };
        if *bits & bit != 0 {
            self.doubled += 1;
            return true;
        }
        *bits |= bit;
        // Within a room `seq` rises; everybody here is in one room. Other servers have none: there the numbers of each sender rise.
        let last = match number_behind(message, "\"seq\":") {
            Some(_) => &mut self.last_seq,
            None => self.last_numbers.entry(sender).or_default(),
        };
        let place = number_behind(message, "\"seq\":").unwrap_or(number + 1);
        if place <= *last {
            self.disordered += 1;
        }
        *last = place.max(*last);
        self.latencies.add(now.saturating_sub(due));
        true
    }

    fn add(&mut self, other: &Received) {
        self.latencies.extend(&other.latencies);
        self.doubled += other.doubled;
        self.disordered += other.disordered;
    }
}

/// What all tasks of a run share.
struct Shared {
    began: Instant,
    acknowledged: AtomicU64,
    refused: AtomicU64,
    delivered: AtomicU64,
    gone: AtomicU64,
    last_us: AtomicU64,
    refusal: parking_lot::Mutex<Option<String>>,
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn refuse(&self, answer: &str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.refusal.lock().get_or_insert_with(|| answer.chars().take(200).collect());
    }
}

/// When a run is in which part of it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Part {
    Gathering,
    /// Since this many microseconds.
    Running(u64),
    Over,
}

/// What a member has come to.
struct Member {
    received: Received,
    acks: Latencies,
}

/// A member's place.
struct Place {
    room: String,
    /// The sender's number, and how many messages it sends.
    sends: Option<(u64, u64)>,
    between_us: f64,
    first_us: f64,
    in_flight: Option<usize>,
    size: usize,
}

impl Place {
    /// When the n-th message is due.
    fn due(&self, begun: u64, number: u64) -> u64 {
        begun + (self.first_us + number as f64 * self.between_us) as u64
    }

    fn message(&self, sender: u64, number: u64, due: u64) -> String {
        let mut content = format!("{sender}:{number}:{due}:");
        while content.len() < self.size {
            content.push('x');
        }
        let (id, room) = (number + 10, &self.room);
        format!(
            "42{id}[\"chat:message\",{{\"roomId\":\"{room}\",\"content\":\"{content}\",\"clientId\":\"{room}-{sender}-{number}\"}}]"
        )
    }
}

async fn member(mut client: Client, place: Place, shared: Arc<Shared>, mut part: watch::Receiver<Part>) -> Member {
    let mut own = Member { received: Received::default(), acks: Latencies::default() };
    let (mut next, mut begun, mut due_at) = (0_u64, None, Vec::new());
    let (sender, count) = place.sends.unwrap_or((0, 0));
    loop {
        let is_to_send = begun.is_some() && next < count;
        let has_room = place.in_flight.is_none_or(|most| (next as usize) < own.acks.len() + most);
        let due = match (begun, place.in_flight) {
            (Some(_), Some(_)) => shared.now(),
            (Some(begun), None) => place.due(begun, next),
            (None, _) => 0,
        };
        let wait = Duration::from_micros(due.saturating_sub(shared.now()));
        let said = tokio::select! {
            biased;
            changed = part.changed() => {
                match *part.borrow_and_update() {
                    Part::Running(at) if changed.is_ok() => begun = Some(at),
                    Part::Gathering if changed.is_ok() => {}
                    _ => return own,
                }
                continue;
            }
            () = tokio::time::sleep(wait), if is_to_send && has_room => {
                due_at.push(due);
                if client.send(place.message(sender, next, due)).await.is_err() {
                    break;
                }
                next += 1;
                continue;
            }
            said = client.text() => said,
        };
        let Ok(said) = said else { break };
        let now = shared.now();
        if said.starts_with("42[\"chat:message\"") {
            if own.received.take(&said, now) {
                shared.delivered.fetch_add(1, Ordering::Relaxed);
                shared.last_us.fetch_max(now, Ordering::Relaxed);
            }
        } else if let Some(answer) = said.strip_prefix("43") {
            let id = number_behind(answer, "").and_then(|id| usize::try_from(id.checked_sub(10)?).ok());
            if let Some(due) = id.and_then(|id| due_at.get(id)) {
                own.acks.add(now.saturating_sub(*due));
            }
            match answer.contains("\"ok\":true") {
                true => drop(shared.acknowledged.fetch_add(1, Ordering::Relaxed)),
                false => shared.refuse(answer),
            }
            shared.last_us.fetch_max(now, Ordering::Relaxed);
        }
    }
    shared.gone.fetch_add(1, Ordering::Relaxed);
    own
}

/// Somebody who waits by long polling.
async fn poller(
    mut requests: Requests,
    token: String,
    room: String,
    shared: Arc<Shared>,
    mut part: watch::Receiver<Part>,
) -> Member {
    let mut own = Member { received: Received::default(), acks: Latencies::default() };
    let mut cursor = String::new();
    let followed = async {
        loop {
            let path = format!("/api/v1/events?rooms={room}&wait=25{cursor}");
            let body = requests.get(&path, &token).await?;
            let now = shared.now();
            let answer: Value = serde_json::from_slice(&body).map_err(io::Error::other)?;
            cursor = format!("&cursor={}", answer.get("cursor").and_then(Value::as_str).unwrap_or_default());
            for event in answer.get("events").and_then(Value::as_array).into_iter().flatten() {
                if event.get("event").and_then(Value::as_str) == Some("chat:message")
                    && own.received.take(&event.to_string(), now)
                {
                    shared.delivered.fetch_add(1, Ordering::Relaxed);
                    shared.last_us.fetch_max(now, Ordering::Relaxed);
                }
            }
        }
    };
    let ended: io::Result<()> = tokio::select! {
        ended = followed => ended,
        _ = part.wait_for(|part| *part == Part::Over) => Ok(()),
    };
    if ended.is_err() {
        shared.gone.fetch_add(1, Ordering::Relaxed);
    }
    own
}

/// Connects so many users, a few at a time.
async fn gather(target: &Arc<Target>, count: usize) -> io::Result<Vec<Client>> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let connecting = (0..count).map(|n| {
        let (target, turns) = (Arc::clone(target), Arc::clone(&turns));
        async move {
            let _turn = turns.acquire().await.map_err(io::Error::other)?;
            Client::open(&target, n).await.map(|client| (n, client))
        }
    });
    let mut connecting: FuturesUnordered<_> = connecting.collect();
    let mut clients = Vec::with_capacity(count);
    while let Some(client) = connecting.next().await {
        clients.push(client?);
    }
    clients.sort_unstable_by_key(|(n, _)| *n);
    Ok(clients.into_iter().map(|(_, client)| client).collect())
}

/// People write in chat rooms.
///
/// # Errors
/// If somebody could not connect or join.
pub(super) async fn chat(target: &Arc<Target>, chat: &Chat, tag: &str) -> anyhow::Result<Outcome> {
    let shared = Arc::new(Shared {
        began: Instant::now(),
        acknowledged: AtomicU64::new(0),
        refused: AtomicU64::new(0),
        delivered: AtomicU64::new(0),
        gone: AtomicU64::new(0),
        last_us: AtomicU64::new(0),
        refusal: parking_lot::Mutex::new(None),
    });
    let (begin, part) = watch::channel(Part::Gathering);
    let people = chat.rooms * chat.members;
    let senders = chat.senders.clamp(1, people.max(1));
    let (each, between_us, in_flight) = match chat.pace {
        Pace::Rate(rate) => {
            let each = (rate * chat.seconds as f64 / senders as f64).round().max(1.0);
            (each as u64, senders as f64 * 1e6 / rate, None)
        }
        // As many as there is time for: the end is what ends it.
        Pace::InFlight(most) => (u64::MAX, 0.0, Some(most)),
    };
    let room_of = |n: usize| format!("bench-{tag}-{}", n.checked_rem(chat.rooms).unwrap_or(0));
    let mut tasks = JoinSet::new();
    for (n, mut client) in gather(target, people).await?.into_iter().enumerate() {
        let room = room_of(n);
        client.ask(1, "chat:join", &format!("{{\"roomId\":\"{room}\",\"limit\":1}}")).await?;
        let sends = (n < senders).then_some((n as u64, each));
        let first_us = between_us * n as f64 / senders as f64;
        let place = Place { room, sends, between_us, first_us, in_flight, size: chat.size };
        tasks.spawn(member(client, place, Arc::clone(&shared), part.clone()));
    }
    for n in 0..chat.pollers {
        let (requests, token) = (Requests::open(target).await?, target.token(people + n)?);
        tasks.spawn(poller(requests, token, room_of(n), Arc::clone(&shared), part.clone()));
    }
    tokio::time::sleep(REST).await;
    let (before, begun) = (Used::now(target).await, shared.now());
    begin.send_replace(Part::Running(begun));
    let planned = each.saturating_mul(senders as u64);
    let until = Instant::now() + Duration::from_secs(chat.seconds);
    let (mut last, mut moved) = (0, Instant::now());
    loop {
        tokio::time::sleep(LOOK).await;
        let acknowledged = shared.acknowledged.load(Ordering::Relaxed);
        let answered = acknowledged + shared.refused.load(Ordering::Relaxed);
        let delivered = shared.delivered.load(Ordering::Relaxed);
        if in_flight.is_some() && Instant::now() >= until
            || answered >= planned && delivered >= expected(chat, acknowledged)
        {
            break;
        }
        if answered + delivered != last {
            (last, moved) = (answered + delivered, Instant::now());
        } else if moved.elapsed() > STALLED {
            break;
        }
    }
    let seconds = (shared.now() - begun) as f64 / 1e6;
    let after = Used::now(target).await;
    tokio::time::sleep(LATE).await;
    let mut outcome = Outcome {
        gone: shared.gone.load(Ordering::Relaxed),
        acknowledged: shared.acknowledged.load(Ordering::Relaxed),
        refused: shared.refused.load(Ordering::Relaxed),
        refusal: shared.refusal.lock().take(),
        deliveries: shared.delivered.load(Ordering::Relaxed),
        seconds: seconds.min((shared.last_us.load(Ordering::Relaxed).saturating_sub(begun)) as f64 / 1e6).max(1e-3),
        usage: Usage::between(before, after, seconds),
        ..Outcome::default()
    };
    begin.send_replace(Part::Over);
    let (mut received, mut acks) = (Received::default(), Latencies::default());
    while let Some(member) = tasks.join_next().await {
        let member = member?;
        received.add(&member.received);
        acks.extend(&member.acks);
    }
    outcome.sent = if in_flight.is_some() { outcome.acknowledged + outcome.refused } else { planned };
    // Where so many are in flight, the last of them are on their way when it ends.
    if in_flight.is_none() {
        outcome.lost = expected(chat, outcome.acknowledged).saturating_sub(outcome.deliveries);
    }
    (outcome.doubled, outcome.disordered) = (received.doubled, received.disordered);
    (outcome.ack, outcome.delivery) = (acks.spread(), received.latencies.spread());
    Ok(outcome)
}

/// How often what was acknowledged is received. Senders are spread over the rooms evenly, and so are those who poll.
fn expected(chat: &Chat, acknowledged: u64) -> u64 {
    // Each room has as many of those who poll as another only where they divide.
    let pollers = chat.pollers.checked_div(chat.rooms).unwrap_or(0);
    acknowledged.saturating_mul((chat.members + pollers) as u64)
}

/// People report their progress.
///
/// # Errors
/// If somebody could not connect.
pub(super) async fn progress(target: &Arc<Target>, users: usize, rate: f64, seconds: u64) -> anyhow::Result<Outcome> {
    let clients = gather(target, users).await?;
    tokio::time::sleep(REST).await;
    let (before, began) = (Used::now(target).await, Instant::now());
    let each = (rate * seconds as f64 / users.max(1) as f64).round().max(1.0) as u64;
    let between = Duration::from_secs_f64(users.max(1) as f64 / rate);
    let mut tasks = JoinSet::new();
    for (n, mut client) in clients.into_iter().enumerate() {
        let first = between.mul_f64(n as f64 / users.max(1) as f64);
        tasks.spawn(async move {
            let (mut acks, mut refusal) = (Latencies::default(), None);
            for number in 0..each {
                // An answer that is late delays what is due behind it, and that counts.
                let due = first + between.mul_f64(number as f64);
                tokio::time::sleep(due.saturating_sub(began.elapsed())).await;
                let report = format!("{{\"lessonId\":{},\"progress\":{},\"timeSpent\":1}}", number % 50, number % 101);
                match client.ask(number + 10, "progress:sync", &report).await {
                    Ok(()) => acks.add(u64::try_from((began.elapsed() - due).as_micros()).unwrap_or(u64::MAX)),
                    Err(error) => drop(refusal.get_or_insert(error.to_string())),
                }
            }
            (acks, refusal)
        });
    }
    let (mut acks, mut outcome) = (Latencies::default(), Outcome { sent: each * users as u64, ..Outcome::default() });
    while let Some(done) = tasks.join_next().await {
        let (own, refusal) = done?;
        acks.extend(&own);
        outcome.refusal = outcome.refusal.or(refusal);
    }
    outcome.seconds = began.elapsed().as_secs_f64();
    outcome.usage = Usage::between(before, Used::now(target).await, outcome.seconds);
    outcome.acknowledged = acks.len() as u64;
    outcome.refused = outcome.sent - outcome.acknowledged;
    outcome.ack = acks.spread();
    Ok(outcome)
}

/// What connections cost.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) count: usize,
    pub(super) seconds: f64,
    pub(super) signed_in: Spread,
    /// While they connected, and while they did nothing.
    pub(super) connecting: Option<Usage>,
    pub(super) idle: Option<Usage>,
    pub(super) idle_seconds: u64,
}

impl Connected {
    pub(super) fn json(&self) -> Value {
        json!({
            "connections": self.count, "seconds": self.seconds, "signedIn": self.signed_in,
            "cpuUsPerConnect": self.connecting.map(|usage| usage.cpu_us(self.count)),
            "bytesPerConnection": self.connecting.map(|usage| usage.grown(self.count)),
            "idleCpuUsPerSecond": self.idle_cpu(),
        })
    }

    /// Microseconds of processor of an idle connection a second.
    pub(super) fn idle_cpu(&self) -> Option<f64> {
        self.idle.map(|usage| usage.cpu_us(self.count) / self.idle_seconds.max(1) as f64)
    }
}

/// So many connect, and do nothing for a while; then, if they are to, all of them lose their connection and come back at once.
///
/// # Errors
/// If somebody could not connect.
pub(super) async fn connections(
    target: &Arc<Target>,
    count: usize,
    idle_seconds: u64,
    returns: bool,
) -> anyhow::Result<Connected> {
    let before = Used::now(target).await;
    let began = Instant::now();
    let mut clients = gather(target, count).await?;
    let mut connected = Connected {
        count,
        seconds: began.elapsed().as_secs_f64(),
        signed_in: Spread::default(),
        connecting: None,
        idle: None,
        idle_seconds,
    };
    if returns {
        tokio::time::sleep(REST).await;
        let (before, began) = (Used::now(target).await, Instant::now());
        drop(std::mem::take(&mut clients));
        let returning = (0..count).map(|n| async move {
            let client = Client::open(target, n).await?;
            Ok::<_, io::Error>((client, began.elapsed()))
        });
        let mut latencies = Latencies::default();
        let mut returning: FuturesUnordered<_> = returning.collect();
        while let Some(back) = returning.next().await {
            let (client, took) = back?;
            latencies.add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
            clients.push(client);
        }
        connected.seconds = began.elapsed().as_secs_f64();
        connected.signed_in = latencies.spread();
        connected.connecting = Usage::between(before, Used::now(target).await, connected.seconds);
        return Ok(connected);
    }
    tokio::time::sleep(REST).await;
    let settled = Used::now(target).await;
    connected.connecting = Usage::between(before, settled, connected.seconds);
    // They answer the server's pings.
    let mut tasks = JoinSet::new();
    for mut client in clients {
        tasks.spawn(async move { while client.text().await.is_ok() {} });
    }
    tokio::time::sleep(Duration::from_secs(idle_seconds)).await;
    connected.idle = Usage::between(settled, Used::now(target).await, idle_seconds as f64);
    Ok(connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_received_twice_or_in_another_order_is_counted() {
        let message = |sender: u64, number: u64, seq: u64| {
            format!("42[\"chat:message\",{{\"id\":1,\"seq\":{seq},\"content\":\"{sender}:{number}:1000:xx\"}}]")
        };
        let mut received = Received::default();
        assert!(received.take(&message(1, 0, 1), 3_000));
        assert!(received.take(&message(2, 70, 2), 3_000));
        assert!(received.take(&message(1, 0, 1), 4_000), "twice");
        assert!(received.take(&message(1, 2, 4), 4_000));
        assert!(received.take(&message(1, 1, 3), 4_000), "late");
        for foreign in ["42[\"chat:message\",{\"content\":\"hello\"}]", "42[\"x\"]", "43{}"] {
            assert!(!received.take(foreign, 5_000), "{foreign}");
        }
        assert_eq!((received.doubled, received.disordered, received.latencies.len()), (1, 1, 4));
        assert_eq!(received.latencies.spread(), Spread { p50_ms: 3.0, p99_ms: 3.0, max_ms: 3.0 });
        // Of a server whose messages have no `seq`: the sender's own order counts.
        let mut received = Received::default();
        for (sender, number) in [(1, 0), (2, 0), (1, 2), (2, 1), (1, 1)] {
            assert!(received.take(&format!("42[\"chat:message\",{{\"content\":\"{sender}:{number}:9:x\"}}]"), 9));
        }
        assert_eq!((received.doubled, received.disordered), (0, 1));
    }

    #[test]
    fn messages_are_due_at_the_rate_whoever_sends_them() {
        let place = |n: usize| Place {
            room: "r".to_owned(),
            sends: Some((n as u64, 10)),
            between_us: 50_000.0,
            first_us: 50_000.0 * n as f64 / 50.0,
            in_flight: None,
            size: 40,
        };
        let mut due: Vec<u64> = (0..50).flat_map(|n| (0..10).map(move |number| place(n).due(7, number))).collect();
        due.sort_unstable();
        assert!(due.windows(2).all(|two| two[1] - two[0] == 1_000), "1,000 a second, evenly");
        let message = place(3).message(3, 1, due[0]);
        assert!(message.starts_with("4211[\"chat:message\",{\"roomId\":\"r\",\"content\":\"3:1:7:xx"), "{message}");
    }
}
