//! How far each user has been sent their notifications. This process knows at once, the store a while later; who goes in
//! between is remembered until the store knows, so that a page that is reloaded is not told everything again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::domain::UserId;

/// The most users who have gone and whose marks the store does not know; beyond, a notification may come twice.
const MAX_LINGERING: usize = 100_000;

/// What all sockets of one user share.
#[derive(Debug)]
pub struct Presence {
    /// The user, with the JSON type of the token that came first.
    pub user: UserId,
    /// The last notification that was sent to any socket of the user.
    delivered: AtomicU64,
    /// Up to where the store has been told.
    recorded: AtomicU64,
}

impl Presence {
    fn new(user: &UserId, delivered: u64, recorded: u64) -> Arc<Presence> {
        let (delivered, recorded) = (AtomicU64::new(delivered), AtomicU64::new(recorded));
        Arc::new(Presence { user: user.clone(), delivered, recorded })
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Acquire)
    }

    /// Raises the mark and gives what it was.
    pub(super) fn raise(&self, id: u64) -> u64 {
        self.delivered.fetch_max(id, Ordering::AcqRel)
    }

    fn unrecorded(&self) -> Option<(UserId, u64)> {
        let delivered = self.delivered();
        (delivered > self.recorded.load(Ordering::Relaxed)).then(|| (self.user.clone(), delivered))
    }
}

/// Persons with at least one socket, and how many; and the marks of those who have just gone.
#[derive(Default)]
pub(super) struct People {
    here: HashMap<UserId, (Arc<Presence>, u32)>,
    lingering: HashMap<UserId, Arc<Presence>>,
}

impl People {
    /// What the sockets of a user share; for the first of them, with what is known from the one before.
    pub(super) fn presence_of(&self, user: &UserId) -> Arc<Presence> {
        match (self.here.get(user), self.lingering.get(user)) {
            (Some((presence, _)), _) => presence.clone(),
            (None, Some(known)) => Presence::new(user, known.delivered(), known.recorded.load(Ordering::Relaxed)),
            (None, None) => Presence::new(user, 0, 0),
        }
    }

    /// One more socket of somebody.
    pub(super) fn come(&mut self, user: &UserId, presence: &Arc<Presence>) {
        self.here.entry(user.clone()).or_insert_with(|| (presence.clone(), 0)).1 += 1;
        self.lingering.remove(user);
    }

    /// One socket less. Gives whether it was the last.
    pub(super) fn go(&mut self, user: &UserId) -> bool {
        let Some((_, count)) = self.here.get_mut(user) else { return false };
        *count -= 1;
        if *count > 0 {
            return false;
        }
        if let Some((user, (presence, _))) = self.here.remove_entry(user)
            && presence.unrecorded().is_some()
            && self.lingering.len() < MAX_LINGERING
        {
            self.lingering.insert(user, presence);
        }
        true
    }

    pub(super) fn count_of(&self, user: &UserId) -> usize {
        self.here.get(user).map_or(0, |(_, count)| *count as usize)
    }

    pub(super) fn len(&self) -> usize {
        self.here.len()
    }

    /// The marks that the store does not know yet.
    pub(super) fn unrecorded(&self) -> Vec<(UserId, u64)> {
        let here = self.here.values().map(|(presence, _)| presence);
        here.chain(self.lingering.values()).filter_map(|presence| presence.unrecorded()).collect()
    }

    /// The store knows these marks.
    pub(super) fn note_recorded(&mut self, marks: &[(UserId, u64)]) {
        for (user, up_to) in marks {
            let here = self.here.get(user).map(|(presence, _)| presence);
            if let Some(presence) = here.or_else(|| self.lingering.get(user)) {
                presence.recorded.fetch_max(*up_to, Ordering::Relaxed);
            }
            if self.lingering.get(user).is_some_and(|presence| presence.unrecorded().is_none()) {
                self.lingering.remove(user);
            }
        }
    }
}
