//! The platform behind this server: it is told what happens here (`[webhooks]`), and asked who may enter a room
//! (`chat.authorize_url`).
//!
//! What is told waits in the store, in the transaction of what it is about ([`crate::store::webhooks`]). One task sends it: at
//! least once, in order within a room or of a user, several of them at once. A webhook that the receiver has not taken is sent
//! again, after growing pauses; one that it does not take for `webhooks.give_up` becomes a dead letter, and its lane goes on. A
//! receiver that takes nothing at all is tried with one webhook at a time.

mod client;
mod lanes;
pub mod secrets;

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Webhooks};
use crate::domain::audit::hex;
use crate::domain::problem::Problem;
use crate::domain::webhook::{Endpoint, HookEvent};
use crate::domain::{Actor, RoomId, Timestamp};
use crate::protocol::webhook::{
    AskingUser, EntryAnswer, EntryQuestion, GAP, GapView, HookBody, HookData, NotificationsRead, SightingView, TEST,
    TestView, hook_id, rfc3339,
};
use crate::services::platform::{HookStanding, Later, Platform, Tried, Verdict};
use crate::services::storage::Storage;
use crate::store::operations::{GivenUp, Told};
use crate::store::webhooks::Telling;
use crate::store::{HookMark, StoreError};

use client::{Answered, Client, NoAnswer, SharedClient};
use lanes::{Lanes, lane_pause, receiver_pause};

/// So many go out at once.
const AT_ONCE: usize = 8;
/// So many lanes fail one behind another, and none succeeds, until nothing more is sent but one at a time.
const FAILING_LANES: usize = 8;
/// How often it is looked whether there is something new. Without that, it reads one number in memory.
const LOOK: Duration = Duration::from_millis(50);
/// So much is read at a time.
const PAGE: usize = 1_000;
/// How often it is counted what waits.
const COUNT: Duration = Duration::from_secs(1);
/// What the store did not note is noted again after so long.
const NOTE_AGAIN: Duration = Duration::from_secs(1);
/// When the server stops, what is out has so long to be answered.
const FAREWELL: Duration = Duration::from_secs(1);
/// So much of an answer is shown.
const SHOWN: usize = 300;

/// What the configuration in force says of the platform.
#[derive(Debug)]
struct Setup {
    webhooks: Webhooks,
    authorize_url: Option<Endpoint>,
    authorize_timeout: Duration,
    /// `None` where nobody is called.
    client: Option<SharedClient>,
}

/// A configuration that can be used, and is not in force yet.
pub(super) struct NewSetup(Setup);

/// The platform of a server.
#[derive(Debug)]
pub(super) struct Link {
    store: Storage,
    setup: Mutex<Arc<Setup>>,
    /// Everything is looked at again.
    woken: Notify,
    standing: Mutex<HookStanding>,
}

/// Refuses files of secrets and certificates that cannot be used. Reads files.
///
/// # Errors
/// Which file, why, and what to do.
pub fn refuse_unusable(config: &Config) -> Result<(), Problem> {
    Setup::new(config).map(drop)
}

impl Setup {
    fn new(config: &Config) -> Result<Setup, Problem> {
        let (webhooks, chat) = (config.webhooks.clone(), &config.chat);
        let calls = webhooks.url.is_some() || chat.authorize_url.is_some();
        let trust = &config.storage.data_dir;
        let client = if calls { Some(Arc::new(Client::new(&webhooks, trust)?)) } else { None };
        let (authorize_url, authorize_timeout) = (chat.authorize_url.clone(), chat.authorize_timeout);
        Ok(Setup { webhooks, authorize_url, authorize_timeout, client })
    }

    fn receiver(&self) -> Option<(&Endpoint, &SharedClient)> {
        self.webhooks.url.as_ref().zip(self.client.as_ref())
    }
}

/// What sending one has come to.
enum Sent {
    Taken,
    /// What it was about is not there any more, or it was told before.
    Nothing,
    /// The store could not be read.
    Unread,
    Failed {
        words: String,
        how: Failure,
    },
}

/// What a failure says of the receiver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// This one was not taken.
    Single,
    /// The receiver takes none: not before a while, if it said so.
    Receiver(Option<Duration>),
    /// It wants none any more.
    Gone,
}

struct Outcome {
    mark: HookMark,
    sent: Sent,
    /// Of a gap: up to where it was told, and how many changes.
    gap: Option<(u64, u64)>,
}

/// How the receiver is.
#[derive(Debug)]
enum Receiver {
    /// It takes what it is sent, but for these lanes' since it last took one.
    Well(HashSet<Option<u64>>),
    /// It takes nothing: one is tried then.
    Down { until: Instant, failures: u32 },
    /// It has said that it wants no more.
    Gone,
}

type Sending = Pin<Box<dyn Future<Output = Outcome> + Send>>;
type Noting = Pin<Box<dyn Future<Output = (Told, Result<(), StoreError>)> + Send>>;

/// The work of the task, between its turns.
struct Work {
    lanes: Lanes,
    receiver: Receiver,
    out: FuturesUnordered<Sending>,
    told: Told,
    noting: Option<Noting>,
    note_after: Instant,
    /// The last id of the store when all was read.
    seen: Option<u64>,
    counted_at: Option<Instant>,
}

impl Link {
    /// The platform that a configuration names. Reads files.
    ///
    /// # Errors
    /// What cannot be used, and what to do.
    pub(super) fn new(config: &Config, store: Storage) -> Result<Arc<Link>, Problem> {
        let setup = Mutex::new(Arc::new(Setup::new(config)?));
        Ok(Arc::new(Link { store, setup, woken: Notify::new(), standing: Mutex::default() }))
    }

    /// Looks whether another configuration can be used. Reads files.
    ///
    /// # Errors
    /// What cannot be used, and what to do.
    pub(super) fn prepare(config: &Config) -> Result<NewSetup, Problem> {
        Setup::new(config).map(NewSetup)
    }

    /// Goes by another configuration from now on.
    pub(super) fn replace(&self, new: NewSetup) {
        *self.setup.lock() = Arc::new(new.0);
        self.woken.notify_one();
    }

    fn setup(&self) -> Arc<Setup> {
        self.setup.lock().clone()
    }

    /// Tells the platform until it is asked to stop. The server owns the task.
    pub(super) async fn run(self: Arc<Link>, stop: CancellationToken) {
        let now = Instant::now();
        let mut work = Work {
            lanes: Lanes::default(),
            receiver: Receiver::Well(HashSet::new()),
            out: FuturesUnordered::new(),
            told: Told::default(),
            noting: None,
            note_after: now,
            seen: None,
            counted_at: None,
        };
        loop {
            let is_on = self.setup().receiver().is_some();
            if is_on {
                self.read(&mut work).await;
                self.send(&mut work);
            }
            self.note(&mut work);
            let is_idle = !is_on && work.out.is_empty() && work.noting.is_none() && work.told.is_empty();
            self.count(&mut work).await;
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.woken.notified() => {
                    work.lanes.begin_again(Instant::now());
                    work.receiver = Receiver::Well(HashSet::new());
                    (work.seen, work.counted_at) = (None, None);
                    self.standing.lock().is_gone = false;
                }
                Some(outcome) = work.out.next(), if !work.out.is_empty() => self.take_in(&mut work, outcome),
                noted = pending(&mut work.noting) => take_note(&mut work, noted),
                () = tokio::time::sleep(LOOK), if !is_idle => {}
            }
        }
        self.end(work).await;
    }

    /// What is out is answered, and noted, if that does not take long: else it comes twice.
    async fn end(&self, mut work: Work) {
        let answered = async {
            while let Some(outcome) = work.out.next().await {
                self.take_in(&mut work, outcome);
            }
        };
        drop(tokio::time::timeout(FAREWELL, answered).await);
        if let Some(noting) = work.noting.take() {
            let (told, noted) = noting.await;
            if noted.is_err() {
                work.told.taken.extend(told.taken);
                work.told.given_up.extend(told.given_up);
            }
        }
        if !work.told.is_empty()
            && let Err(error) = self.store.write(std::mem::take(&mut work.told)).await
        {
            tracing::warn!(%error, "that webhooks were taken could not be stored; they are sent once more");
        }
    }

    /// Reads what waits and has room.
    async fn read(&self, work: &mut Work) {
        let last_id = self.store.last_id();
        while work.seen != Some(last_id) {
            let Some(behind) = work.lanes.reads_behind() else { break };
            let Ok(page) = self.store.hooks_after(behind, PAGE).await else { return };
            let has_all = work.lanes.add(&page, Instant::now());
            if has_all && page.len() < PAGE {
                work.seen = Some(last_id);
            }
        }
        // Of a lane that is longer than what has room.
        if let Some((lane, behind, up_to)) = work.lanes.wants_more() {
            let (mut behind, mut marks) = (behind, Vec::new());
            while behind < up_to && marks.len() < PAGE {
                let Ok(page) = self.store.hooks_after(behind, PAGE).await else { return };
                behind = page.last().map_or(up_to, |last| last.id);
                marks.extend(page.into_iter().filter(|mark| mark.lane == Some(lane) && mark.id <= up_to));
            }
            work.lanes.add_to(lane, &marks, Some(behind).filter(|behind| *behind < up_to));
        }
    }

    /// Sends what may go out.
    fn send(self: &Arc<Link>, work: &mut Work) {
        let now = Instant::now();
        let (most, is_probe) = match &work.receiver {
            Receiver::Well(_) => (AT_ONCE, false),
            Receiver::Down { until, .. } if *until <= now => (1, true),
            Receiver::Down { .. } | Receiver::Gone => return,
        };
        while work.out.len() < most {
            let Some(mark) = work.lanes.take(now, is_probe) else { return };
            let link = self.clone();
            work.out.push(Box::pin(async move { link.tell(mark).await }));
        }
    }

    async fn tell(&self, mark: HookMark) -> Outcome {
        let nothing = |sent| Outcome { mark, sent, gap: None };
        let item = match self.store.hook(mark.id).await {
            Err(_) => return nothing(Sent::Unread),
            Ok(None) => return nothing(Sent::Nothing),
            Ok(Some(item)) => item,
        };
        let Some(telling) = item.telling else { return nothing(Sent::Nothing) };
        let gap = match &telling {
            Telling::Gap { to, changes } => Some((*to, *changes)),
            _ => None,
        };
        let setup = self.setup();
        let Some((url, client)) = setup.receiver() else { return nothing(Sent::Unread) };
        let sent = match body_of(mark.id, item.at, &telling) {
            Ok(body) => {
                let id = hook_id(&self.store.id(), self.store.identity().epoch, mark.id);
                judge(url, client.post(url, &id, self.store.now(), body, setup.webhooks.timeout).await)
            }
            Err(error) => Sent::Failed { words: error.to_string(), how: Failure::Single },
        };
        Outcome { mark, sent, gap }
    }

    fn take_in(&self, work: &mut Work, outcome: Outcome) {
        let now = Instant::now();
        let Outcome { mark, sent, gap } = outcome;
        match sent {
            Sent::Taken => {
                work.receiver = Receiver::Well(HashSet::new());
                work.told.taken.push((mark.id, gap));
                work.lanes.pass(mark, now);
                self.note_taken(gap.is_some());
            }
            Sent::Nothing => {
                work.told.taken.push((mark.id, None));
                work.lanes.pass(mark, now);
            }
            Sent::Unread => drop(work.lanes.fail(mark, |_| NOTE_AGAIN, now)),
            Sent::Failed { words, how } => {
                let is_over = mark.at.until(self.store.now()) >= self.setup().webhooks.give_up;
                if is_over && how != Failure::Gone {
                    let attempts = work.lanes.failures_with_this(mark);
                    tracing::error!(change = mark.id, "a webhook was given up and is a dead letter now: {words}");
                    work.told.given_up.push(GivenUp { id: mark.id, attempts, why: words.clone() });
                    work.lanes.pass(mark, now);
                } else {
                    work.lanes.fail(mark, |failures| lane_pause(failures, chance()), now);
                }
                work.receiver.fail(mark, how, now);
                self.note_failure(&work.receiver, words);
            }
        }
    }

    /// Has the store note what is done with.
    fn note(&self, work: &mut Work) {
        if work.noting.is_some() || work.told.is_empty() || work.note_after > Instant::now() {
            return;
        }
        let (store, told) = (self.store.clone(), std::mem::take(&mut work.told));
        work.noting = Some(Box::pin(async move {
            let noted = store.write(told.clone()).await;
            (told, noted)
        }));
    }

    /// Counts what waits, now and then.
    async fn count(&self, work: &mut Work) {
        if work.counted_at.is_some_and(|at| at.elapsed() < COUNT) {
            return;
        }
        work.counted_at = Some(Instant::now());
        let setup = self.setup();
        let Ok(counts) = self.store.hook_counts().await else { return };
        let mut standing = self.standing.lock();
        (standing.waiting, standing.oldest, standing.dead) = (counts.waiting, counts.oldest, counts.dead);
        standing.url = setup.webhooks.url.as_ref().map(ToString::to_string).unwrap_or_default();
        standing.events = setup.webhooks.events_told();
    }

    fn note_taken(&self, is_gap: bool) {
        let mut standing = self.standing.lock();
        standing.sent += 1;
        standing.gaps += u64::from(is_gap);
        standing.taken_at = Some(self.store.now());
        standing.is_gone = false;
        if standing.problem.take().is_some() {
            tracing::info!("the platform takes webhooks again");
        }
    }

    fn note_failure(&self, receiver: &Receiver, words: String) {
        let mut standing = self.standing.lock();
        standing.failed += 1;
        standing.is_gone = matches!(receiver, Receiver::Gone);
        if standing.problem.as_ref() != Some(&words) {
            let waiting = standing.waiting;
            tracing::warn!(waiting, "the platform did not take a webhook: {words}. Nothing is lost: it is sent again");
            standing.problem = Some(words);
        }
    }
}

impl Receiver {
    fn fail(&mut self, mark: HookMark, how: Failure, now: Instant) {
        let failures = match (&mut *self, how) {
            (Receiver::Gone, _) => return,
            (_, Failure::Gone) => {
                *self = Receiver::Gone;
                return;
            }
            // What was sent before it was known to be down is no further failure.
            (Receiver::Down { until, .. }, _) if *until > now => return,
            (Receiver::Down { failures, .. }, _) => failures.saturating_add(1),
            (Receiver::Well(lanes), Failure::Single) => {
                lanes.insert(mark.lane);
                if lanes.len() < FAILING_LANES && mark.lane.is_some() {
                    return;
                }
                1
            }
            (Receiver::Well(_), Failure::Receiver(_)) => 1,
        };
        let asked = match how {
            Failure::Receiver(Some(wait)) => wait,
            _ => Duration::ZERO,
        };
        *self = Receiver::Down { until: now + receiver_pause(failures, chance()).max(asked), failures };
    }
}

async fn pending(noting: &mut Option<Noting>) -> (Told, Result<(), StoreError>) {
    match noting {
        Some(noting) => noting.await,
        None => std::future::pending().await,
    }
}

fn take_note(work: &mut Work, (told, noted): (Told, Result<(), StoreError>)) {
    work.noting = None;
    match noted {
        Ok(()) => {
            let ids = told.taken.iter().map(|(id, _)| *id).chain(told.given_up.iter().map(|letter| letter.id));
            work.lanes.let_go(ids);
            if !told.given_up.is_empty() {
                work.counted_at = None;
            }
            // What is left of a gap that has grown stands behind it now.
            if told.taken.iter().any(|(_, gap)| gap.is_some()) {
                work.seen = None;
            }
        }
        Err(error) => {
            tracing::debug!(%error, "what became of webhooks could not be stored; it is stored later");
            work.told.taken.extend(told.taken);
            work.told.given_up.extend(told.given_up);
            work.note_after = Instant::now() + NOTE_AGAIN;
        }
    }
}

fn body_of(id: u64, at: Timestamp, telling: &Telling) -> Result<Vec<u8>, serde_json::Error> {
    let (kind, data) = match telling {
        Telling::Message { event, message } => (event.as_str(), HookData::from(&**message)),
        Telling::Progress(progress) => (HookEvent::ProgressUpdated.as_str(), HookData::Progress((&**progress).into())),
        Telling::Read { user, selection, unread } => {
            let (ids, up_to) = match selection {
                crate::domain::notification::Selection::Ids(ids) => (Some(ids.as_slice()), None),
                crate::domain::notification::Selection::All { up_to } => (None, *up_to),
            };
            let read = NotificationsRead { user_id: user, ids, up_to, unread: *unread };
            (HookEvent::NotificationRead.as_str(), HookData::Read(read))
        }
        Telling::Sighting { user, name, room, has_come } => {
            let event = match (room, has_come) {
                (None, true) => HookEvent::UserOnline,
                (None, false) => HookEvent::UserOffline,
                (Some(_), true) => HookEvent::RoomJoined,
                (Some(_), false) => HookEvent::RoomLeft,
            };
            let online = room.is_none().then_some(*has_come);
            let sighting = SightingView { room_id: room.as_ref(), user_id: user, user_name: name, online };
            (event.as_str(), HookData::Sighting(sighting))
        }
        Telling::Gap { to, changes } => (GAP, HookData::Gap(GapView { from_id: id, to_id: *to, changes: *changes })),
    };
    serde_json::to_vec(&HookBody { kind, timestamp: rfc3339(at), data })
}

/// What an answer means for a webhook.
fn judge(url: &Endpoint, called: Result<Answered, NoAnswer>) -> Sent {
    let answered = match called {
        Ok(answered) if answered.status.is_success() => return Sent::Taken,
        Ok(answered) => answered,
        Err(NoAnswer { words, is_unreachable }) => {
            let how = if is_unreachable { Failure::Receiver(None) } else { Failure::Single };
            return Sent::Failed { words, how };
        }
    };
    let how = match answered.status {
        StatusCode::GONE => Failure::Gone,
        StatusCode::TOO_MANY_REQUESTS
        | StatusCode::BAD_GATEWAY
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::GATEWAY_TIMEOUT => Failure::Receiver(answered.retry_after),
        _ if answered.retry_after.is_some() => Failure::Receiver(answered.retry_after),
        _ => Failure::Single,
    };
    Sent::Failed { words: in_words(url, &answered), how }
}

fn in_words(url: &Endpoint, answered: &Answered) -> String {
    let host = url.host();
    match (&answered.location, answered.status) {
        (_, StatusCode::GONE) => format!("{host} answered 410 Gone: it wants no more webhooks"),
        (Some(location), status) => {
            format!(
                "{host} answered {status} to {location}: redirects are not followed; write the new address into the configuration"
            )
        }
        (None, status) => format!("{host} answered {status}"),
    }
}

/// A number from 0 to 1 by chance; one half where the system has none.
fn chance() -> f64 {
    let mut byte = [128_u8];
    let _ = getrandom::fill(&mut byte);
    f64::from(u8::from_ne_bytes(byte)) / 255.0
}

fn random_id(prefix: &str) -> String {
    let mut bytes = [0_u8; 12];
    // Without chance two of them have the same id, which is no harm: nothing is stored of them.
    let _ = getrandom::fill(&mut bytes);
    format!("{prefix}_{}", hex(&bytes))
}

/// The beginning of an answer, for people.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SHOWN).collect()
}

impl Platform for Link {
    fn standing(&self) -> HookStanding {
        self.standing.lock().clone()
    }

    fn look_again(&self) {
        self.woken.notify_one();
    }

    fn try_out(&self) -> Later<'_, Result<Tried, String>> {
        Box::pin(async move {
            let setup = self.setup();
            let Some((url, client)) = setup.receiver() else {
                return Err("this server tells no platform: set webhooks.url and reload".to_owned());
            };
            let (id, now, store_id) = (random_id("msg_test"), self.store.now(), self.store.id());
            let test = TestView { sender: "academy-rt", version: env!("CARGO_PKG_VERSION"), store_id: &store_id };
            let body = HookBody { kind: TEST, timestamp: rfc3339(now), data: HookData::Test(test) };
            let body = serde_json::to_vec(&body).map_err(|error| error.to_string())?;
            let began = Instant::now();
            let called = client.post(url, &id, now, body, setup.webhooks.timeout).await;
            let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            let tried =
                Tried { id, is_taken: false, status: None, millis, words: String::new(), answer: String::new() };
            Ok(match called {
                Err(NoAnswer { words, .. }) => Tried { words, ..tried },
                Ok(answered) => {
                    let certificate = if url.is_https() { "; its certificate is good" } else { "" };
                    let is_taken = answered.status.is_success();
                    let words = match is_taken {
                        true => format!("{} took it ({}) in {millis} ms{certificate}", url.host(), answered.status),
                        false => format!("{}, in {millis} ms{certificate}", in_words(url, &answered)),
                    };
                    let (status, answer) = (Some(answered.status.as_u16()), shown(&answered.body));
                    Tried { is_taken, status, words, answer, ..tried }
                }
            })
        })
    }

    fn may_enter(&self, actor: &Actor, room: &RoomId) -> Later<'_, Result<Verdict, String>> {
        let user = AskingUser { id: &actor.user, name: &actor.name };
        let body = serde_json::to_vec(&EntryQuestion { user, roles: &actor.roles, room });
        Box::pin(async move {
            self.standing.lock().asked += 1;
            let mut asking = Asking { standing: &self.standing, is_decided: false };
            let verdict = self.ask(body.map_err(|error| error.to_string())).await;
            asking.is_decided = verdict.is_ok();
            verdict
        })
    }
}

/// A question under way: whoever does not wait any more for the answer has none.
struct Asking<'l> {
    standing: &'l Mutex<HookStanding>,
    is_decided: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.is_decided {
            self.standing.lock().undecided += 1;
        }
    }
}

impl Link {
    async fn ask(&self, body: Result<Vec<u8>, String>) -> Result<Verdict, String> {
        let setup = self.setup();
        let Some((url, client)) = setup.authorize_url.as_ref().zip(setup.client.as_ref()) else {
            return Err("chat.authorize_url is not set any more".to_owned());
        };
        let asked = client.post(url, &random_id("ask"), self.store.now(), body?, setup.authorize_timeout).await;
        let answered = asked.map_err(|none| none.words)?;
        if answered.status != StatusCode::OK {
            return Err(in_words(url, &answered));
        }
        if !answered.is_whole {
            return Err(format!("the answer of {} is too long, or broke off", url.host()));
        }
        let answer: EntryAnswer = serde_json::from_slice(&answered.body)
            .map_err(|error| format!("the answer of {} is not {{\"allow\": true|false}}: {error}", url.host()))?;
        Ok(Verdict { may_enter: answer.allow, role: answer.role })
    }
}
