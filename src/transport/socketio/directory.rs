//! All sockets that have signed in: by number, by session, and counted by the network that they come from.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use parking_lot::Mutex;

use crate::transport::origin::network_of;
use crate::transport::socketio::engine::sessions::Sessions;
use crate::transport::socketio::socket::Link;

#[derive(Default)]
struct Sockets {
    links: HashMap<u64, Arc<Link>>,
    /// How many there are from each network.
    networks: HashMap<IpAddr, usize>,
    /// Sessions with their socket's number.
    signed_in: HashMap<String, u64>,
}

/// All sockets of the process. Its lock is held for a look-up at a time.
#[derive(Default)]
pub struct Directory {
    sockets: Mutex<Sockets>,
    /// The sessions that they are on.
    pub sessions: Arc<Sessions>,
}

impl std::fmt::Debug for Directory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Directory").finish_non_exhaustive()
    }
}

impl Directory {
    /// A socket is here. Gives whether it is one of at most `most` from where it came (0: no bound); one too many is known
    /// here until it has gone, and not counted.
    pub fn add(&self, link: &Arc<Link>, most: usize) -> bool {
        let mut sockets = self.sockets.lock();
        sockets.links.insert(link.number, link.clone());
        sockets.signed_in.insert(link.session.clone(), link.number);
        let Some(from) = link.came.from else { return true };
        let count = sockets.networks.entry(network_of(from)).or_default();
        if most > 0 && *count >= most {
            return false;
        }
        *count += 1;
        link.is_counted.store(true, Ordering::Relaxed);
        true
    }

    /// A socket has gone.
    pub fn remove(&self, link: &Link) {
        let mut sockets = self.sockets.lock();
        // Its client may have left and signed in again since.
        if sockets.signed_in.get(&link.session) == Some(&link.number) {
            sockets.signed_in.remove(&link.session);
        }
        sockets.links.remove(&link.number);
        if link.is_counted.swap(false, Ordering::Relaxed)
            && let Some(network) = link.came.from.map(network_of)
            && let Some(count) = sockets.networks.get_mut(&network)
        {
            *count -= 1;
            if *count == 0 {
                sockets.networks.remove(&network);
            }
        }
    }

    /// All sockets.
    pub fn links(&self) -> Vec<Arc<Link>> {
        self.sockets.lock().links.values().cloned().collect()
    }

    /// One socket.
    pub fn link(&self, number: u64) -> Option<Arc<Link>> {
        self.sockets.lock().links.get(&number).cloned()
    }

    /// The socket of a session, once it has signed in.
    pub fn signed_in(&self, session: &str) -> Option<Arc<Link>> {
        let sockets = self.sockets.lock();
        sockets.links.get(sockets.signed_in.get(session)?).cloned()
    }
}
