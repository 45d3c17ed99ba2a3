//! Users over HTTP whom the store knows to have been here: each is noted once a process.

use std::collections::HashSet;

use parking_lot::{Mutex, MutexGuard};

use crate::domain::UserId;

/// So many are remembered; beyond that the memory starts anew.
const MAX_KNOWN: usize = 100_000;

/// The users who are known.
#[derive(Debug, Default)]
pub(crate) struct KnownUsers(Mutex<HashSet<UserId>>);

impl KnownUsers {
    fn lock(&self) -> MutexGuard<'_, HashSet<UserId>> {
        self.0.lock()
    }

    pub(crate) fn has(&self, user: &UserId) -> bool {
        self.lock().contains(user)
    }

    pub(crate) fn add(&self, user: &UserId) {
        let mut known = self.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(user.clone());
    }

    pub(crate) fn forget(&self, user: &UserId) {
        self.lock().remove(user);
    }
}
