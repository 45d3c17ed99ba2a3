//! What has changed of messages that are in the index already. The store's subscriber notes it, on the writer's thread: one number
//! for an edit or a deletion, and of a new message nothing.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::store::Change;

/// So many are remembered; with more, all messages are compared.
const MOST: usize = 1 << 16;

/// What is to be looked at again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Noted {
    /// Messages that may say something else now, or be gone.
    pub(super) messages: HashSet<u64>,
    /// Whether a room is gone.
    pub(super) is_room_gone: bool,
    /// Whether there were too many to remember.
    pub(super) is_too_much: bool,
}

/// Changes of messages since they were last taken.
#[derive(Debug, Default)]
pub struct Changed {
    /// Whether anybody takes them.
    is_followed: AtomicBool,
    applied: AtomicU64,
    noted: Mutex<Noted>,
}

impl Changed {
    /// From here on somebody follows; the store's last id is this.
    pub(super) fn begin(&self, last_id: u64) {
        self.is_followed.store(true, Ordering::Release);
        self.applied.fetch_max(last_id, Ordering::AcqRel);
    }

    /// Notes a change, if it is of a message that may be in the index.
    pub fn note(&self, change: &Change) {
        let (messages, is_room_gone): (&[u64], bool) = match change {
            Change::Edited { message, .. } | Change::Deleted { message, .. } => (&[message.id], false),
            Change::Purged { ids, .. } => (ids, false),
            Change::RoomRemoved { .. } => (&[], true),
            _ => return,
        };
        if !self.is_followed.load(Ordering::Acquire) {
            return;
        }
        let noted = &mut *self.noted.lock();
        noted.is_room_gone |= is_room_gone;
        if noted.messages.len() + messages.len() > MOST {
            noted.messages = HashSet::new();
            noted.is_too_much = true;
        }
        if !noted.is_too_much {
            noted.messages.extend(messages);
        }
    }

    /// All changes up to this one have been noted.
    pub fn set_applied(&self, id: u64) {
        self.applied.store(id, Ordering::Release);
    }

    /// Up to which change all have been noted. To be asked before they are taken.
    pub(super) fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Noted {
        std::mem::take(&mut *self.noted.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn purged(ids: std::ops::Range<u64>) -> Change {
        Change::Purged { id: 1, ids: ids.collect() }
    }

    #[test]
    fn nobody_follows_and_nothing_is_remembered_and_too_much_is_all() {
        let changed = Changed::default();
        changed.note(&purged(0..10));
        assert_eq!(changed.take(), Noted::default());
        changed.begin(7);
        changed.note(&purged(0..10));
        changed.note(&purged(5..15));
        assert_eq!(changed.take().messages.len(), 15);
        changed.note(&purged(0..MOST as u64));
        changed.note(&purged(MOST as u64..MOST as u64 + 1));
        changed.note(&purged(0..1));
        let noted = changed.take();
        assert!(noted.is_too_much && noted.messages.is_empty());
        assert_eq!((changed.take(), changed.applied()), (Noted::default(), 7));
    }
}
