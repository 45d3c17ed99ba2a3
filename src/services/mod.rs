//! What academy-rt does, whatever the transport: an [`Actor`] and a request go in, an answer or a refusal comes out. Each
//! rule is here (or in [`crate::domain`]) once, so that Socket.IO and HTTP cannot differ.

pub mod access;
pub mod audit;
pub mod broadcast;
pub mod chat;
mod errors;
pub mod housekeeping;
pub mod inbox;
pub mod limits;
pub mod long_poll;
pub mod presence;
pub mod privacy;
pub mod progress;
pub mod rooms;
pub mod streams;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::chat::RoomPolicy;
use crate::domain::{Actor, Clock, Room, Scope, Timestamp, UserId};
use crate::observability::clock_watch::Jump;
use crate::observability::counters::Tally;
use crate::protocol::cursor::{Cursor, Life, Seal};
use crate::protocol::error::{ErrorCode, WireError};
use crate::protocol::view::Session;
use crate::store::operations::{Act, Applied, EnlistMembers, Operation, RequestKey};
use crate::store::{Identity, Store, StoreError};

use crate::realtime::feed::Feed;
use crate::realtime::registry::Sockets;
use crate::realtime::subscriber::{FollowUp, Live};
use access::UnstoredBans;
use audit::Refusals;
use errors::{resync, store_error};
use limits::{Limits, Rate, RateLimits};
use privacy::Retention;

/// After the clock has gone ahead nothing is purged by age for so long.
const PURGES_REST: Duration = Duration::from_secs(60 * 60);

/// What the services are told to do.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Whether a room that nobody has registered may be joined.
    pub open_rooms: bool,
    /// The longest content of a message, in characters.
    pub message_chars: usize,
    /// Rates and counts.
    pub limits: Limits,
    /// What is purged by its age.
    pub retention: Retention,
    /// A backup rests so many times as long as it works, for those who write meanwhile; 0 where there is nobody.
    pub backup_rests: u32,
}

/// Who asks, and from which socket.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The identity.
    pub actor: Arc<Actor>,
    /// The socket's number; `None` over HTTP.
    pub socket: Option<u64>,
    /// Where the request came from, for the audit trail; `None` for a socket's.
    pub origin: Option<Arc<str>>,
}

impl Caller {
    /// Somebody over HTTP.
    #[must_use]
    pub fn http(actor: Actor, origin: &str) -> Caller {
        Caller { actor: Arc::new(actor), socket: None, origin: Some(origin.into()) }
    }

    /// The house itself.
    #[must_use]
    pub fn house(actor: Actor) -> Caller {
        Caller::http(actor, "server")
    }

    /// What the audit trail says of an act of this caller's.
    fn act(&self, action: &'static str, target: String) -> Act {
        Act {
            actor: self.actor.user.canonical(),
            origin: self.origin.as_deref().unwrap_or("socket").to_owned(),
            action,
            target,
            note: String::new(),
        }
    }
}

/// Everything behind the transports. One for the process, handed to whoever needs it.
#[derive(Debug)]
pub struct Services {
    store: StoreHandle,
    feed: Arc<Feed>,
    sockets: Arc<Sockets>,
    clock: Arc<dyn Clock>,
    settings: ArcSwap<Settings>,
    rates: ArcSwap<RateLimits>,
    /// The settings have changed: what goes by the calendar looks again.
    resettled: Notify,
    /// What follows the store's changes: who is connected, who is shut out, who is present.
    live: Arc<Live>,
    /// Bans that the disk had no room for: they hold in memory, and are stored as soon as there is room.
    unstored_bans: UnstoredBans,
    /// The clock has gone ahead: nothing is purged by age before this.
    purges_rest_until: Mutex<Option<Instant>>,
    polls_end: CancellationToken,
    refusals: Refusals,
    /// The turn of backups: one at a time.
    backups: Arc<Semaphore>,
    /// The turns of exports.
    exports: Arc<Semaphore>,
    /// The last kept broadcast that has gone out as of the last look, and the last that the store knows of.
    broadcasts_sent: AtomicU64,
    broadcasts_noted: AtomicU64,
    /// The first change id of this process: what is kept from before it is another's.
    first_change: u64,
    /// The directory of the key that backups are signed with; without one they are not.
    key_dir: Option<PathBuf>,
    /// Answers that are streamed out.
    tasks: TaskTracker,
}

/// A store that can be debug-printed.
#[derive(Clone)]
struct StoreHandle(Arc<dyn Store>);

impl std::fmt::Debug for StoreHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Store")
    }
}

impl std::ops::Deref for StoreHandle {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

/// How often housekeeping looks: typing that ends by itself, people who have gone, marks to record.
const HOUSEKEEPING: Duration = Duration::from_millis(250);
/// Streams are given so long to end when the house closes.
const STREAMS_END: Duration = Duration::from_secs(5);
/// The store is given so long to close while it may wait for deliveries.
const STORE_CLOSES: Duration = Duration::from_secs(10);
/// Broadcasts that an earlier process acknowledged and may not have sent go out at this tick of the housekeeping: when those who
/// were connected have come back.
const RESEND_AT_TICK: u64 = 12;
/// So many exports are made at a time.
const MAX_EXPORTS: usize = 4;

impl Services {
    /// The services over a store whose commits go to `live`.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, live: Arc<Live>, settings: Settings) -> Services {
        let first_change = store.last_id() + 1;
        Services {
            first_change,
            store: StoreHandle(store),
            feed: live.feed.clone(),
            sockets: live.sockets.clone(),
            clock: live.clock.clone(),
            rates: ArcSwap::from_pointee(RateLimits::new(&settings.limits)),
            settings: ArcSwap::from_pointee(settings),
            resettled: Notify::new(),
            live,
            unstored_bans: UnstoredBans::default(),
            purges_rest_until: Mutex::default(),
            polls_end: CancellationToken::new(),
            refusals: Refusals::default(),
            backups: Arc::new(Semaphore::new(1)),
            exports: Arc::new(Semaphore::new(MAX_EXPORTS)),
            broadcasts_sent: AtomicU64::new(0),
            broadcasts_noted: AtomicU64::new(0),
            key_dir: None,
            tasks: TaskTracker::new(),
        }
    }

    /// Signs backups with the key of a data directory.
    #[must_use]
    pub fn signing_with_key_of(mut self, data_dir: &Path) -> Services {
        self.key_dir = Some(data_dir.to_owned());
        self
    }

    /// The feed that the pump reads.
    #[must_use]
    pub fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    /// What has happened since the start.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        self.feed.tally()
    }

    /// Counts a request against the limits.
    fn count(&self, rate: Rate, user: &UserId) -> Result<(), WireError> {
        let counted = self.rates.load().count(rate, user);
        if counted.is_err() {
            self.tally().rate_limited.add(rate.name());
        }
        counted
    }

    /// Who is connected.
    #[must_use]
    pub fn sockets(&self) -> &Arc<Sockets> {
        &self.sockets
    }

    /// The clock of the house.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The rates and counts in force.
    #[must_use]
    pub fn limits(&self) -> Limits {
        self.settings.load().limits
    }

    /// Goes by other settings from now on. Who has used up a part of a rate begins anew where the rates have changed.
    pub fn resettle(&self, settings: Settings) {
        if settings.limits != self.limits() {
            self.rates.store(Arc::new(RateLimits::new(&settings.limits)));
        }
        self.settings.store(Arc::new(settings));
        self.resettled.notify_one();
    }

    /// The machine's clock was set. Tokens go by the new time from here on. What is old by it is not purged for a while:
    /// if the clock is wrong, there is time to put it right before anything is gone.
    pub fn note_clock_jump(&self, jump: Jump) {
        self.tally().clock_jumps.add();
        let seconds = jump.by.as_secs();
        if jump.is_ahead {
            *self.purges_rest_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + PURGES_REST);
            tracing::warn!(seconds, "the clock went ahead, or the machine slept: tokens end by the new time");
        } else {
            tracing::warn!(seconds, "the clock was set back: tokens end by the new time");
        }
    }

    /// Whether a write would be taken now.
    ///
    /// # Errors
    /// The reason why not, for people.
    pub fn ready(&self) -> Result<(), String> {
        self.store.ready().map_err(|error| error.to_string())
    }

    /// Resolves when the store has failed and only a restart helps, with the reason.
    #[must_use]
    pub fn store_failure(&self) -> crate::store::Failing {
        self.store.failure()
    }

    /// The store's figures.
    #[must_use]
    pub fn store_status(&self) -> crate::store::StoreStatus {
        self.store.status()
    }

    /// Records what was gathered, commits what waits and closes the store; the feed ends with it. The tasks that write to the
    /// store have ended by then.
    ///
    /// # Errors
    /// What closing the file said.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.record_refusals().await;
        self.tasks.close();
        // Their receivers are cut off by now: each ends at its next piece.
        if tokio::time::timeout(STREAMS_END, self.tasks.wait()).await.is_err() {
            tracing::warn!("an answer that was streamed out did not end");
        }
        let closing = self.store.close();
        tokio::pin!(closing);
        let closed = match tokio::time::timeout(STORE_CLOSES, &mut closing).await {
            Ok(closed) => closed,
            Err(_) => {
                tracing::warn!("the store waits for deliveries that nobody takes; it is closed without them");
                self.feed.close();
                closing.await
            }
        };
        self.feed.close();
        closed
    }

    /// A task of the server has ended that must not: nobody may wait for it.
    pub fn abandon_deliveries(&self) {
        self.feed.close();
    }

    /// Does an operation that is no administrative act, at this moment.
    async fn apply<O: Operation>(&self, operation: O) -> Result<O::Answer, WireError> {
        self.store.apply(self.now(), operation).await.map_err(store_error)
    }

    /// Does an administrative act, with its record. When it is answered, its change has been applied to whoever is connected.
    async fn act<O: Operation>(&self, operation: O, act: Act) -> Result<Applied<O::Answer>, StoreError> {
        self.store.submit(self.now(), operation, Some(act)).await
    }

    /// Whether a request with this key has been answered: its repetition gets the first answer, before rules and rates.
    async fn is_answered(&self, key: Option<&RequestKey>) -> bool {
        match key {
            // Where the store cannot be read, the rate decides.
            Some(key) => self.store.is_answered(key.clone()).await.unwrap_or(false),
            None => false,
        }
    }

    /// Counts a request against the limits, unless it is the repetition of one that was answered.
    async fn count_once(&self, rate: Rate, user: &UserId, key: Option<&RequestKey>) -> Result<(), WireError> {
        match self.count(rate, user) {
            Err(error) if !self.is_answered(key).await => Err(error),
            _ => Ok(()),
        }
    }

    /// Does in the store what changes have made necessary, until the server stops. The server owns the task.
    pub async fn follow_up(&self, stop: CancellationToken) {
        let Some(mut follow_ups) = self.live.take_follow_ups() else { return stop.cancelled().await };
        loop {
            let next = tokio::select! {
                () = stop.cancelled() => return,
                next = follow_ups.recv() => next,
            };
            let (room, users) = match next {
                Some(FollowUp::Enlist { room, users }) => (room, users),
                Some(FollowUp::Barrier(done)) => {
                    // The receiver may be gone; that is fine.
                    let _ = done.send(());
                    continue;
                }
                None => return,
            };
            let enlisted = self.apply(EnlistMembers { room, users, policy: self.policy() }).await;
            if let Err(error) = enlisted {
                tracing::debug!(code = error.code.as_str(), "who was in a new room was not recorded as taking part");
            }
        }
    }

    /// The rooms that somebody is in by being who they are.
    #[must_use]
    pub fn base_rooms(actor: &Actor) -> Vec<Room> {
        let mut rooms: Vec<Room> = actor.roles.iter().copied().map(Room::Role).collect();
        rooms.push(Room::User(actor.user.clone()));
        rooms.push(Room::All);
        rooms
    }

    /// What `authenticated` and `GET /api/v1/session` say.
    #[must_use]
    pub fn session<'a>(&self, actor: &'a Actor, unread: u64) -> Session<'a> {
        Session {
            user_id: &actor.user,
            name: &actor.name,
            role: actor.role(),
            roles: &actor.roles,
            rooms: Services::base_rooms(actor).iter().map(Room::name).collect(),
            expires_at: actor.expires_at,
            server_time: self.now(),
            unread,
        }
    }

    /// Does what has to be done from time to time, until it is told to stop. The server owns the task.
    pub async fn keep_house(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(HOUSEKEEPING);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tick: u64 = 0;
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            tick += 1;
            self.live.end_stale_typing();
            self.live.announce_the_gone();
            if tick.is_multiple_of(4) {
                self.end_stale_polling().await;
                self.record_deliveries().await;
                self.note_broadcasts().await;
                self.store_bans().await;
                for (reason, count) in self.tally().quiet.untold() {
                    tracing::warn!(reason, count, "more connections were refused than were logged in the last minute");
                }
            }
            if tick == RESEND_AT_TICK {
                self.resend_broadcasts().await;
            }
            if tick.is_multiple_of(20) {
                self.record_refusals().await;
            }
            if tick.is_multiple_of(240) {
                self.rates.load().forget_the_idle();
            }
        }
        self.record_deliveries().await;
        self.note_broadcasts().await;
        self.store_bans().await;
    }

    async fn record_deliveries(&self) {
        let marks = self.sockets.unrecorded_deliveries();
        if !marks.is_empty() {
            self.record_delivered(marks).await;
        }
    }

    /// Whether the server is about to stop: sockets are being sent away, and polls are answered.
    #[must_use]
    pub fn is_ending(&self) -> bool {
        self.polls_end.is_cancelled()
    }

    fn policy(&self) -> RoomPolicy {
        RoomPolicy { open_rooms: self.settings.load().open_rooms }
    }

    /// The life of the store in which cursors mean something.
    fn life(&self) -> Life {
        let Identity { store_id, epoch, .. } = self.store.identity();
        Life::new(store_id, epoch)
    }

    /// Writes a position for a user. Opaque to them.
    fn write_cursor<const N: usize>(&self, user: &UserId, numbers: [u64; N]) -> String {
        let identity = self.store.identity();
        let seal = Seal { key: &identity.cursor_key, user: &user.canonical() };
        Cursor { life: self.life(), numbers }.write(seal)
    }

    /// Reads a position that a user gives back; `None` if it is not theirs.
    fn parse_cursor<const N: usize>(&self, user: &UserId, text: &str) -> Option<Cursor<N>> {
        let identity = self.store.identity();
        Cursor::parse(text, Seal { key: &identity.cursor_key, user: &user.canonical() })
    }

    /// A position in this store's life.
    fn cursor(&self, user: &UserId, id: u64) -> String {
        self.write_cursor(user, [id])
    }

    /// The position that a client gives back.
    fn read_cursor(&self, user: &UserId, cursor: &str) -> Result<u64, WireError> {
        match self.parse_cursor(user, cursor) {
            Some(Cursor { life, numbers: [id] }) if life == self.life() && id <= self.store.last_id() => Ok(id),
            _ => Err(resync()),
        }
    }
}

/// Whether somebody may use an administrative call.
///
/// # Errors
/// `forbidden`.
pub fn may(caller: &Caller, scope: Scope) -> Result<(), WireError> {
    if caller.actor.may(scope) {
        return Ok(());
    }
    let message = format!("this needs role admin or a token with the scope {}", scope.as_str());
    Err(WireError::new(ErrorCode::Forbidden, message))
}
