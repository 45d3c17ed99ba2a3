//! Which connection carries which Engine.IO session. The library has no call that ends a transport, and no way to the
//! connection of a session that was upgraded from polling; both are found here by the session's id.

use std::collections::{HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, MutexGuard};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::transport::origin::network_of;
use crate::transport::socketio::engine::connection::Wire;

use crate::transport::socketio::socket::Link;

/// How many sessions that were hung up on are remembered: polls of theirs are refused, so that the library forgets them.
const MAX_REFUSED: usize = 10_000;

#[derive(Default)]
struct Sessions {
    wires: HashMap<String, Weak<dyn Wire>>,
    /// Polls under way, and what ends them.
    polls: HashMap<String, (u32, CancellationToken)>,
    links: HashMap<u64, Arc<Link>>,
    /// How many sockets there are from each network.
    networks: HashMap<IpAddr, usize>,
    /// Sessions that have signed in, with the socket's number.
    signed_in: HashMap<String, u64>,
    refused: HashSet<String>,
    refused_in_order: VecDeque<String>,
}

/// All sessions of the process. Its lock is held for a look-up at a time.
#[derive(Default)]
pub struct Directory {
    sessions: Mutex<Sessions>,
    tasks: TaskTracker,
    slow_readers: AtomicU64,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

/// A poll under way.
#[derive(Debug)]
pub struct PollGuard {
    directory: Arc<Directory>,
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
        let mut sessions = self.directory.lock();
        if let Some((polls, _)) = sessions.polls.get_mut(&self.session) {
            *polls -= 1;
            if *polls == 0 {
                sessions.polls.remove(&self.session);
            }
        }
    }
}

impl Directory {
    fn lock(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock()
    }

    /// The owner of the tasks of all sockets.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// A poll of a session begins.
    pub fn begin_poll(self: &Arc<Self>, session: &str) -> PollGuard {
        let ended = {
            let mut sessions = self.lock();
            let (polls, ended) = sessions.polls.entry(session.to_owned()).or_default();
            *polls += 1;
            ended.clone()
        };
        PollGuard { directory: self.clone(), session: session.to_owned(), ended }
    }

    /// A session has got a WebSocket.
    pub fn set_wire(&self, session: &str, wire: &Arc<dyn Wire>) {
        self.lock().wires.insert(session.to_owned(), Arc::downgrade(wire));
    }

    /// The connection of a session's WebSocket, once no poll of the session is under way.
    pub fn wire_of(&self, session: &str) -> Option<Arc<dyn Wire>> {
        let sessions = self.lock();
        if sessions.polls.contains_key(session) {
            return None;
        }
        sessions.wires.get(session)?.upgrade()
    }

    /// A socket is here. Gives whether it is one of at most `most` from where it came (0: no bound); one too many is known
    /// here until it has gone, and not counted.
    pub fn add(&self, link: &Arc<Link>, most: usize) -> bool {
        let mut sessions = self.lock();
        sessions.links.insert(link.number, link.clone());
        sessions.signed_in.insert(link.session.clone(), link.number);
        let Some(from) = link.came.from else { return true };
        let count = sessions.networks.entry(network_of(from)).or_default();
        if most > 0 && *count >= most {
            return false;
        }
        *count += 1;
        link.is_counted.store(true, Ordering::Relaxed);
        true
    }

    /// A socket has gone.
    pub fn remove(&self, link: &Link) {
        let mut sessions = self.lock();
        sessions.wires.remove(&link.session);
        sessions.signed_in.remove(&link.session);
        sessions.links.remove(&link.number);
        if link.is_counted.swap(false, Ordering::Relaxed)
            && let Some(network) = link.came.from.map(network_of)
            && let Some(count) = sessions.networks.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                sessions.networks.remove(&network);
            }
        }
    }

    /// All sockets.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.lock().links.values().cloned().collect()
    }

    /// One socket.
    pub fn link(&self, number: u64) -> Option<Arc<Link>> {
        self.lock().links.get(&number).cloned()
    }

    /// The socket of a session, once it has signed in.
    pub fn signed_in(&self, session: &str) -> Option<Arc<Link>> {
        let sessions = self.lock();
        sessions.links.get(sessions.signed_in.get(session)?).cloned()
    }

    /// Polls of this session are refused from now on, and one that waits is ended.
    pub fn refuse_session(&self, session: &str) {
        let mut sessions = self.lock();
        if let Some((_, ended)) = sessions.polls.get(session) {
            ended.cancel();
        }
        if sessions.refused.insert(session.to_owned()) {
            sessions.refused_in_order.push_back(session.to_owned());
        }
        while sessions.refused_in_order.len() > MAX_REFUSED {
            if let Some(oldest) = sessions.refused_in_order.pop_front() {
                sessions.refused.remove(&oldest);
            }
        }
    }

    /// Whether polls of this session are refused.
    pub fn is_refused(&self, session: &str) -> bool {
        let sessions = self.lock();
        !sessions.refused.is_empty() && sessions.refused.contains(session)
    }

    /// Forgets connections that have gone without a word.
    pub fn forget_the_dead(&self) {
        self.lock().wires.retain(|_, wire| wire.strong_count() > 0);
    }

    /// Counts and logs a reader that did not keep up; without a number it is a connection whose socket is not known.
    pub fn note_slow_reader(&self, socket: Option<u64>) {
        self.slow_readers.fetch_add(1, Ordering::Relaxed);
        tracing::info!(socket, "a connection was cut off: its reader does not keep up");
    }

    /// How many readers did not keep up.
    pub fn slow_readers(&self) -> u64 {
        self.slow_readers.load(Ordering::Relaxed)
    }
}
