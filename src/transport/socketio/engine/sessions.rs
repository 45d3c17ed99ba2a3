//! Which connection carries which Engine.IO session. The library has no call that ends a transport, and no way to the
//! connection of a session that was upgraded from polling; both are found here by the session's id.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::transport::socketio::engine::connection::{Connection, Cut};

/// How many sessions that were hung up on are remembered: polls of theirs are refused, so that the library forgets them.
const MAX_REFUSED: usize = 10_000;

#[derive(Default)]
struct Known {
    live_connections: HashMap<String, Weak<dyn Connection>>,
    /// Sessions whose namespace has ended, with their connection if it is known, until they are hung up on.
    ended: HashMap<String, Option<Weak<dyn Connection>>>,
    /// Polls under way, and what ends them.
    polls: HashMap<String, (u32, CancellationToken)>,
    refused: HashSet<String>,
    refused_in_order: VecDeque<String>,
}

/// All sessions of the process. Its lock is held for a look-up at a time.
#[derive(Default)]
pub struct Sessions {
    known: Mutex<Known>,
    tasks: TaskTracker,
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
}

impl PollGuard {
    /// Resolves when the session is hung up on: the poll would wait for nothing.
    pub async fn ended(&self) {
        self.ended.cancelled().await;
    }
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        let mut known = self.sessions.lock();
        if let Some((polls, _)) = known.polls.get_mut(&self.session) {
            *polls -= 1;
            if *polls == 0 {
                known.polls.remove(&self.session);
            }
        }
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock()
    }

    /// The owner of the tasks of all sockets.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// A poll of a session begins.
    pub fn begin_poll(self: &Arc<Self>, session: &str) -> PollGuard {
        let ended = {
            let mut known = self.lock();
            let (polls, ended) = known.polls.entry(session.to_owned()).or_default();
            *polls += 1;
            ended.clone()
        };
        PollGuard { sessions: self.clone(), session: session.to_owned(), ended }
    }

    /// A session has got a WebSocket.
    pub fn set_connection(&self, session: &str, connection: &Arc<dyn Connection>) {
        self.lock().live_connections.insert(session.to_owned(), Arc::downgrade(connection));
    }

    /// The connection of a session's WebSocket, once no poll of the session is under way.
    pub fn connection_of(&self, session: &str) -> Option<Arc<dyn Connection>> {
        let known = self.lock();
        if known.polls.contains_key(session) {
            return None;
        }
        known.live_connections.get(session)?.upgrade()
    }

    /// A session has gone.
    pub fn forget(&self, session: &str) {
        self.lock().live_connections.remove(session);
    }

    /// The namespace of a session has ended, however that came: the client has so long to hang up, and is hung up on then.
    pub fn end_session(self: &Arc<Self>, session: &str, connection: Option<&Arc<dyn Connection>>, farewell: Duration) {
        {
            let mut known = self.lock();
            let found = connection.map(Arc::downgrade).or_else(|| known.live_connections.get(session).cloned());
            let found = found.or_else(|| known.ended.get(session).cloned().flatten());
            // Whoever says the same many times over is told good-bye once.
            if known.ended.contains_key(session) && !farewell.is_zero() {
                return;
            }
            known.ended.insert(session.to_owned(), found);
        }
        if farewell.is_zero() {
            self.hang_up_on_ended(session);
            return;
        }
        let (sessions, session) = (self.clone(), session.to_owned());
        self.tasks.spawn(async move {
            tokio::time::sleep(farewell).await;
            sessions.hang_up_on_ended(&session);
        });
    }

    /// Hangs up on a session at once if its namespace has ended. Gives whether that is so.
    pub fn hang_up_on_ended(&self, session: &str) -> bool {
        let connections = {
            let mut known = self.lock();
            let Some(connection) = known.ended.remove(session) else { return known.refused.contains(session) };
            // It may have come to a WebSocket since.
            [connection, known.live_connections.remove(session)]
        };
        for connection in connections.into_iter().flatten().filter_map(|connection| connection.upgrade()) {
            connection.cut(Cut::Ended);
        }
        self.refuse_session(session);
        true
    }

    /// Polls of this session are refused from now on, and one that waits is ended.
    pub fn refuse_session(&self, session: &str) {
        let mut known = self.lock();
        if let Some((_, ended)) = known.polls.get(session) {
            ended.cancel();
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
