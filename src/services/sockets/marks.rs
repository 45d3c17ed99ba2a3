//! How far each user has been sent their notifications. This process knows at once, the store a while later; who goes in
//! between is remembered until the store knows, so that a page that is reloaded is not told everything again.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::UserId;

/// The most users who have gone and whose marks the store does not know; beyond, a notification may come twice.
const MAX_LINGERING: usize = 100_000;
/// The most notifications of one user that are remembered beyond the mark; beyond, one may come twice.
const MAX_AHEAD: usize = 10_000;

/// What all sockets of one user share.
#[derive(Debug)]
pub struct Presence {
    /// The user, with the JSON type of the token that came first.
    pub user: UserId,
    sent: Mutex<Sent>,
    /// Up to where the store has been told.
    recorded: AtomicU64,
}

/// What some socket of the user was sent.
#[derive(Debug, Clone, Default)]
struct Sent {
    /// Every notification of the inbox up to this one.
    up_to: u64,
    /// `Some` while there is more waiting than is sent on one arrival: what has come live meanwhile, beyond what waits.
    ahead: Option<BTreeSet<u64>>,
}

impl Presence {
    fn new(user: &UserId, sent: Sent, recorded: u64) -> Arc<Presence> {
        Arc::new(Presence { user: user.clone(), sent: Mutex::new(sent), recorded: AtomicU64::new(recorded) })
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn up_to(&self) -> u64 {
        self.lock().up_to
    }

    /// A notification has come live.
    pub(super) fn note_live(&self, id: u64) {
        let mut sent = self.lock();
        match &mut sent.ahead {
            None => sent.up_to = sent.up_to.max(id),
            Some(ahead) if ahead.len() < MAX_AHEAD => {
                ahead.insert(id);
            }
            Some(_) => {}
        }
    }

    /// Somebody comes, and is sent what waits up to an id, or to its end. Gives whether a notification has been sent before:
    /// of two sockets that come at the same moment, one is sent what the other is not.
    pub(super) fn note_arrival(&self, up_to: u64, has_more: bool) -> impl Fn(u64) -> bool + use<> {
        let mut sent = self.lock();
        let before = sent.clone();
        sent.up_to = sent.up_to.max(up_to);
        if has_more {
            sent.ahead.get_or_insert_default();
        } else if let Some(last) = sent.ahead.take().and_then(|mut ahead| ahead.pop_last()) {
            sent.up_to = sent.up_to.max(last);
        }
        move |id| id <= before.up_to || before.ahead.as_ref().is_some_and(|ahead| ahead.contains(&id))
    }

    pub(super) fn unrecorded(&self) -> Option<(UserId, u64)> {
        let up_to = self.up_to();
        (up_to > self.recorded.load(Ordering::Relaxed)).then(|| (self.user.clone(), up_to))
    }

    /// Whether something is known here that the store does not tell.
    fn is_worth_keeping(&self) -> bool {
        self.unrecorded().is_some() || self.lock().ahead.as_ref().is_some_and(|ahead| !ahead.is_empty())
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
            (None, Some(known)) => Presence::new(user, known.lock().clone(), known.recorded.load(Ordering::Relaxed)),
            (None, None) => Presence::new(user, Sent::default(), 0),
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
            && presence.is_worth_keeping()
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
            if self.lingering.get(user).is_some_and(|presence| !presence.is_worth_keeping()) {
                self.lingering.remove(user);
            }
        }
    }
}
