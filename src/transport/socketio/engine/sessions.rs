//! Which connection carries which Engine.IO session. The library has no call that ends a transport, and no way to the
//! connection of a session that was upgraded from polling; both are found here by the session's id.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::transport::socketio::engine::connection::{Connection, Cut};

/// How many sessions that were hung up on are remembered: polls of theirs are refused, so that the library forgets them.
const MAX_REFUSED: usize = 10_000;

/// A client on polling whose waiting poll has broken off has so long to come again.
pub const GRACE: Duration = Duration::from_secs(5);
/// Where there are too many, one that has not asked for so long between two polls may have gone as well.
const QUIET: Duration = Duration::from_secs(2);

/// A session that was opened on polling.
struct Polled {
    /// Polls under way.
    polls: u32,
    /// Other requests under way.
    sends: u32,
    /// When a request of it has come last, or was answered.
    asked: Instant,
    /// Since when its waiting poll has broken off, and no other request has come.
    vanished: Option<Instant>,
    /// Whether a WebSocket is on the way to take it over.
    is_upgrading: bool,
    /// Whether one has.
    is_websocket: bool,
    /// Ends the polls under way, as the session is hung up on.
    ended: CancellationToken,
    /// Answers the poll under way with nothing: the client wants to go over to its WebSocket.
    released: Arc<Notify>,
}

impl Polled {
    fn new() -> Polled {
        Polled {
            polls: 0,
            sends: 0,
            asked: Instant::now(),
            vanished: None,
            is_upgrading: false,
            is_websocket: false,
            ended: CancellationToken::new(),
            released: Arc::default(),
        }
    }

    /// Since when nobody seems to be there, if that is so.
    fn gone_since(&self) -> Option<Instant> {
        let quiet = (self.polls == 0 && self.asked.elapsed() >= QUIET).then_some(self.asked);
        self.vanished.or(quiet).filter(|_| !self.is_websocket)
    }

    /// Whether its waiting poll has broken off, and nothing else has come or comes.
    fn has_vanished(&self) -> bool {
        self.sends == 0 && self.vanished.is_some_and(|since| since.elapsed() >= GRACE)
    }
}

/// A WebSocket that begins a session, until somebody has asked to sign in on it.
#[derive(Debug)]
struct Newcomer {
    since: Instant,
    connection: Weak<dyn Connection>,
    has_asked: Arc<AtomicBool>,
    origin: String,
}

/// A session whose namespace has ended, until it is hung up on.
struct Ending {
    connection: Option<Weak<dyn Connection>>,
    /// Whether its client has left by itself, and may join again.
    may_return: bool,
    /// The one timer of several that is meant.
    number: u64,
}

#[derive(Default)]
struct Known {
    live_connections: HashMap<String, Weak<dyn Connection>>,
    ended: HashMap<String, Ending>,
    endings: u64,
    newcomers: VecDeque<Newcomer>,
    polled: HashMap<String, Polled>,
    refused: HashSet<String>,
    refused_in_order: VecDeque<String>,
}

/// Ends a session on polling in the library.
type Close = Box<dyn Fn(&str) + Send + Sync>;

/// All sessions of the process. Its lock is held for a look-up at a time.
#[derive(Default)]
pub struct Sessions {
    known: Mutex<Known>,
    tasks: TaskTracker,
    /// Cancelled when the server takes its leave: no upgrade is finished any more.
    leaving: CancellationToken,
    close: OnceLock<Close>,
    slow_readers: AtomicU64,
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sessions").finish_non_exhaustive()
    }
}

/// A poll under way.
#[derive(Debug)]
pub struct PollGuard {
    sessions: Arc<Sessions>,
    session: String,
    ended: CancellationToken,
    released: Arc<Notify>,
    is_answered: bool,
}

impl PollGuard {
    /// Resolves when the session is hung up on: the poll would wait for nothing.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Resolves when the client wants to go over to its WebSocket, and waits for the answer to this poll.
    pub async fn released(&self) {
        self.released.notified().await;
    }

    /// It has its answer. A poll that is dropped without one has broken off: its client has hung up.
    pub fn note_answered(&mut self) {
        self.is_answered = true;
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        let mut known = self.sessions.lock();
        if let Some(polled) = known.polled.get_mut(&self.session) {
            polled.polls = polled.polls.saturating_sub(1);
            polled.asked = Instant::now();
            if !self.is_answered && polled.polls == 0 {
                polled.vanished = Some(polled.asked);
            }
        }
    }
}

/// Packets that a client sends by a request of their own, until that is answered.
#[derive(Debug)]
pub struct SendGuard {
    sessions: Arc<Sessions>,
    session: String,
}

impl Drop for SendGuard {
    fn drop(&mut self) {
        if let Some(polled) = self.sessions.lock().polled.get_mut(&self.session) {
            polled.sends = polled.sends.saturating_sub(1);
            polled.asked = Instant::now();
        }
    }
}

/// An upgrade under way; there is one of a session at a time.
#[derive(Debug)]
pub struct UpgradeGuard {
    sessions: Arc<Sessions>,
    session: String,
}

impl UpgradeGuard {
    /// The client has probed: a poll that waits is answered with nothing.
    pub fn release_poll(&self) {
        if let Some(polled) = self.sessions.lock().polled.get(&self.session).filter(|polled| polled.polls > 0) {
            polled.released.notify_waiters();
        }
    }

    /// The client has finished it: the session is on this connection now.
    pub fn finish(&self, connection: &Arc<dyn Connection>) {
        let mut known = self.sessions.lock();
        if let Some(polled) = known.polled.get_mut(&self.session) {
            (polled.is_websocket, polled.vanished) = (true, None);
        }
        known.live_connections.insert(self.session.clone(), Arc::downgrade(connection));
    }

    /// Whether its session is still there.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        let known = self.sessions.lock();
        known.polled.contains_key(&self.session) && !known.refused.contains(&self.session)
    }
}

impl Drop for UpgradeGuard {
    fn drop(&mut self) {
        if let Some(polled) = self.sessions.lock().polled.get_mut(&self.session) {
            polled.is_upgrading = false;
        }
    }
}

/// Whether a session may go over to a WebSocket.
#[derive(Debug)]
pub enum Upgrade {
    /// It may.
    Begun(UpgradeGuard),
    /// It has done so, or is about to.
    Late,
    /// There is no such session.
    Unknown,
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// The owner of the tasks of all sockets.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// How a session on polling is ended in the library. Given once.
    pub fn close_by(&self, close: impl Fn(&str) + Send + Sync + 'static) {
        let _ = self.close.set(Box::new(close));
    }

    /// Cancelled when the server takes its leave.
    pub fn leaving(&self) -> &CancellationToken {
        &self.leaving
    }

    /// A session was opened on polling.
    pub fn open_polling(&self, session: &str) {
        self.lock().polled.insert(session.to_owned(), Polled::new());
    }

    /// A request of a session on polling has come.
    pub fn note_asked(&self, session: &str) {
        if let Some(polled) = self.lock().polled.get_mut(session) {
            (polled.asked, polled.vanished) = (Instant::now(), None);
        }
    }

    /// A poll of a session begins.
    pub fn begin_poll(self: &Arc<Self>, session: &str) -> PollGuard {
        let (ended, released) = match self.lock().polled.get_mut(session) {
            Some(polled) => {
                polled.polls += 1;
                (polled.ended.clone(), polled.released.clone())
            }
            None => Default::default(),
        };
        PollGuard { sessions: self.clone(), session: session.to_owned(), ended, released, is_answered: false }
    }

    /// Packets of a session begin to come.
    pub fn begin_send(self: &Arc<Self>, session: &str) -> Option<SendGuard> {
        self.lock().polled.get_mut(session)?.sends += 1;
        Some(SendGuard { sessions: self.clone(), session: session.to_owned() })
    }

    /// An upgrade of a session begins, if it may.
    pub fn begin_upgrade(self: &Arc<Self>, session: &str) -> Upgrade {
        match self.lock().polled.get_mut(session) {
            None => Upgrade::Unknown,
            Some(polled) if polled.is_upgrading || polled.is_websocket => Upgrade::Late,
            Some(polled) => {
                polled.is_upgrading = true;
                Upgrade::Begun(UpgradeGuard { sessions: self.clone(), session: session.to_owned() })
            }
        }
    }

    /// Since when nobody seems to be there any more on a session on polling, if that is so.
    #[must_use]
    pub fn gone_since(&self, session: &str) -> Option<Instant> {
        self.lock().polled.get(session)?.gone_since()
    }

    /// Ends sessions whose client has vanished, and forgets those that have not signed in for so long and are nobody's. One that leaves
    /// between two polls is not told from one that sleeps: it lasts as long as its heartbeat, and what it has missed waits for it.
    pub fn end_the_vanished(&self, is_signed_in: impl Fn(&str) -> bool, sign_in: Duration) {
        let mut vanished: Vec<String> = Vec::new();
        let mut unsigned: Vec<String> = Vec::new();
        for (session, polled) in &self.lock().polled {
            if polled.has_vanished() {
                vanished.push(session.clone());
            } else if polled.polls == 0 && polled.asked.elapsed() >= sign_in + GRACE {
                unsigned.push(session.clone());
            }
        }
        for session in vanished {
            self.close_polling(&session);
        }
        // Outside of the lock: this looks into the directory.
        unsigned.retain(|session| !is_signed_in(session));
        let mut known = self.lock();
        for session in unsigned {
            if !known.ended.contains_key(&session) {
                known.polled.remove(&session);
            }
        }
    }

    /// Ends a session on polling in the library, and so its socket.
    pub fn close_polling(&self, session: &str) {
        let was_polling = self.lock().polled.remove(session).is_some_and(|polled| !polled.is_websocket);
        if let Some(close) = self.close.get().filter(|_| was_polling) {
            close(session);
        }
    }

    /// A session has got a WebSocket.
    pub fn set_connection(&self, session: &str, connection: &Arc<dyn Connection>) {
        self.lock().live_connections.insert(session.to_owned(), Arc::downgrade(connection));
    }

    /// The connection of a session's WebSocket, once no poll of the session is under way.
    pub fn connection_of(&self, session: &str) -> Option<Arc<dyn Connection>> {
        let known = self.lock();
        if known.polled.get(session).is_some_and(|polled| polled.polls > 0) {
            return None;
        }
        known.live_connections.get(session)?.upgrade()
    }

    /// The library has ended a session.
    pub fn forget(&self, session: &str) {
        let mut known = self.lock();
        known.live_connections.remove(session);
        known.polled.remove(session);
    }

    /// The namespace of a session has ended, however that came: the client has so long to hang up, and is hung up on then; or to
    /// join again, if it has left by itself.
    pub fn end_session(
        self: &Arc<Self>,
        session: &str,
        connection: Option<&Arc<dyn Connection>>,
        farewell: Duration,
        may_return: bool,
    ) {
        let number = {
            let mut known = self.lock();
            let found = connection.map(Arc::downgrade).or_else(|| known.live_connections.get(session).cloned());
            let before = known.ended.get(session);
            let found = found.or_else(|| before.and_then(|before| before.connection.clone()));
            // Whoever says the same many times over is told good-bye once.
            if before.is_some() && !farewell.is_zero() {
                return;
            }
            known.endings += 1;
            let ending = Ending { connection: found, may_return, number: known.endings };
            let number = ending.number;
            known.ended.insert(session.to_owned(), ending);
            number
        };
        if farewell.is_zero() {
            self.hang_up_on_ended(session);
            return;
        }
        let (sessions, session) = (self.clone(), session.to_owned());
        self.tasks.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(farewell) => {}
                () = sessions.leaving.cancelled() => {}
            }
            let is_meant = sessions.lock().ended.get(&session).is_some_and(|ending| ending.number == number);
            if is_meant {
                sessions.hang_up_on_ended(&session);
            }
        });
    }

    /// The client of a session asks to be connected. Who has left may; a session that has ended otherwise is hung up on at once,
    /// and `true` is given.
    pub fn has_ended(&self, session: &str) -> bool {
        let mut known = self.lock();
        if known.ended.get(session).is_some_and(|ending| ending.may_return) {
            known.ended.remove(session);
            return false;
        }
        drop(known);
        self.hang_up_on_ended(session)
    }

    /// Hangs up on a session at once if its namespace has ended. Gives whether that is so.
    pub fn hang_up_on_ended(&self, session: &str) -> bool {
        let connections = {
            let mut known = self.lock();
            let Some(ending) = known.ended.remove(session) else { return known.refused.contains(session) };
            // It may have come to a WebSocket since.
            [ending.connection, known.live_connections.remove(session)]
        };
        for connection in connections.into_iter().flatten().filter_map(|connection| connection.upgrade()) {
            connection.cut(Cut::Ended);
        }
        self.refuse_session(session);
        self.close_polling(session);
        true
    }

    /// Polls of this session are refused from now on, and one that waits is ended.
    pub fn refuse_session(&self, session: &str) {
        let mut known = self.lock();
        if let Some(polled) = known.polled.get(session) {
            polled.ended.cancel();
        }
        if known.refused.insert(session.to_owned()) {
            known.refused_in_order.push_back(session.to_owned());
        }
        while known.refused_in_order.len() > MAX_REFUSED {
            if let Some(oldest) = known.refused_in_order.pop_front() {
                known.refused.remove(&oldest);
            }
        }
    }

    /// A WebSocket begins a session; `has_asked` is set when somebody asks to sign in.
    pub fn note_newcomer(&self, connection: &Arc<dyn Connection>, has_asked: Arc<AtomicBool>, origin: String) {
        let connection = Arc::downgrade(connection);
        self.lock().newcomers.push_back(Newcomer { since: Instant::now(), connection, has_asked, origin });
    }

    /// From where WebSockets have come on which nobody has asked to sign in within this time.
    pub fn take_unsigned(&self, sign_in: Duration) -> Vec<String> {
        let mut known = self.lock();
        // Who has hung up before has not been closed for it.
        let early = sign_in.saturating_sub(Duration::from_secs(1));
        let is_waited_for = |one: &Newcomer| {
            !one.has_asked.load(Ordering::Relaxed)
                && (one.since.elapsed() >= early || one.connection.strong_count() > 0)
        };
        known.newcomers.retain(is_waited_for);
        let due = known.newcomers.iter().take_while(|one| one.since.elapsed() >= sign_in).count();
        known.newcomers.drain(..due).map(|one| one.origin).collect()
    }

    /// Whether polls of this session are refused.
    pub fn is_refused(&self, session: &str) -> bool {
        let known = self.lock();
        !known.refused.is_empty() && known.refused.contains(session)
    }

    /// Forgets connections that have gone without a word.
    pub fn forget_the_dead(&self) {
        self.lock().live_connections.retain(|_, connection| connection.strong_count() > 0);
    }

    /// Counts a reader that did not keep up.
    pub fn note_slow_reader(&self) {
        self.slow_readers.fetch_add(1, Ordering::Relaxed);
    }

    /// How many readers did not keep up.
    pub fn slow_readers(&self) -> u64 {
        self.slow_readers.load(Ordering::Relaxed)
    }
}
