//! When the tokens of live sockets end: what is to be done next for each of them, by its time. A socket has one entry at most,
//! and none once it has gone.

use std::collections::{BTreeMap, HashMap};

use crate::domain::Timestamp;

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client is warned.
    Warn,
    /// The socket is shown out.
    Expel,
}

/// Tokens of live sockets by the time of the next thing to do for them.
#[derive(Debug, Default)]
pub(super) struct Ends {
    queue: BTreeMap<(Timestamp, u64), End>,
    /// Under which time each socket is in the queue.
    places: HashMap<u64, Timestamp>,
}

impl Ends {
    /// This is done next for a socket, and nothing else.
    pub(super) fn set(&mut self, socket: u64, at: Timestamp, end: End) {
        self.forget(socket);
        self.places.insert(socket, at);
        self.queue.insert((at, socket), end);
    }

    /// Nothing is done for a socket any more.
    pub(super) fn forget(&mut self, socket: u64) {
        if let Some(at) = self.places.remove(&socket) {
            self.queue.remove(&(at, socket));
        }
    }

    /// Takes out what is due first, if something is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<(u64, End)> {
        let first = self.queue.first_entry().filter(|first| first.key().0 <= now)?;
        let ((_, socket), end) = first.remove_entry();
        self.places.remove(&socket);
        Some((socket, end))
    }

    /// For how many sockets something is to be done.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.queue.len(), self.places.len());
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_has_one_end_and_none_when_it_has_gone() {
        let mut ends = Ends::default();
        for socket in 0..10_000 {
            ends.set(socket, Timestamp(5_000 + socket), End::Warn);
            ends.set(socket, Timestamp(1_000 + socket), End::Warn);
            if socket > 2 {
                ends.forget(socket);
            }
        }
        assert_eq!(ends.len(), 3, "a socket that has gone leaves nothing behind");
        ends.set(1, Timestamp(9_000), End::Expel);
        assert_eq!(ends.take_due(Timestamp(999)), None);
        assert_eq!(ends.take_due(Timestamp(1_002)), Some((0, End::Warn)));
        assert_eq!(ends.take_due(Timestamp(1_002)), Some((2, End::Warn)));
        assert_eq!(ends.take_due(Timestamp(8_999)), None);
        assert_eq!(ends.take_due(Timestamp(9_000)), Some((1, End::Expel)));
        assert_eq!(ends.len(), 0);
    }
}
