//! What the store is known to have: users over HTTP who have been here, and rooms that are registered. Each is asked once a process.

use std::collections::HashSet;
use std::hash::Hash;

use parking_lot::{Mutex, MutexGuard};

/// So many are remembered; beyond that the memory starts anew.
const MAX_KNOWN: usize = 100_000;

/// What is known.
#[derive(Debug)]
pub(crate) struct Known<T>(Mutex<HashSet<T>>);

impl<T> Default for Known<T> {
    fn default() -> Known<T> {
        Known(Mutex::default())
    }
}

impl<T: Clone + Eq + Hash> Known<T> {
    fn lock(&self) -> MutexGuard<'_, HashSet<T>> {
        self.0.lock()
    }

    pub(crate) fn has(&self, one: &T) -> bool {
        self.lock().contains(one)
    }

    pub(crate) fn add(&self, one: &T) {
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(one.clone());
    }

    pub(crate) fn forget(&self, one: &T) {
        self.lock().remove(one);
    }
}
