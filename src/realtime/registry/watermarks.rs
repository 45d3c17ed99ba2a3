//! How far each user has been sent their notifications. This process knows at once, the store a while later; who goes in
//! between is remembered until the store knows, so that a page that is reloaded is not told everything again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

use crate::domain::notification::{AudienceKind, Notification};
use crate::domain::{Role, UserId};
use crate::store::operations::DeliveryMark;

/// The most users who have gone and whose marks the store does not know; beyond, a notification may come twice.
const MAX_LINGERING: usize = 100_000;
/// The most notifications of one user that are remembered beyond the marks; beyond, one may come twice.
const MAX_AHEAD: usize = 10_000;

/// A mark for each audience: who has a role later has been sent nothing of it, whatever else they have been sent.
type MarkOfEach = [u64; AudienceKind::COUNT];

fn of(marks: &MarkOfEach, kind: AudienceKind) -> u64 {
    marks.get(kind.index()).copied().unwrap_or(0)
}

fn raise(marks: &mut MarkOfEach, kind: AudienceKind, up_to: u64) {
    if let Some(mark) = marks.get_mut(kind.index()) {
        *mark = (*mark).max(up_to);
    }
}

/// What all sockets of one user share.
#[derive(Debug)]
pub struct Presence {
    /// The user, with the JSON type of the token that came first.
    pub user: UserId,
    sent: Mutex<Sent>,
}

/// What some socket of the user was sent.
#[derive(Debug, Clone, Default)]
struct Sent {
    /// Every notification of an audience up to this one.
    up_to: MarkOfEach,
    /// Up to where the store has been told.
    recorded: MarkOfEach,
    /// The audiences of which more waits than is sent on one arrival: what has come live meanwhile, beyond what waits.
    ahead: HashMap<AudienceKind, BTreeSet<u64>>,
}

impl Presence {
    fn new(user: &UserId, sent: Sent) -> Arc<Presence> {
        Arc::new(Presence { user: user.clone(), sent: Mutex::new(sent) })
    }

    fn lock(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock()
    }

    /// A notification has come live.
    pub(crate) fn note_live(&self, kind: AudienceKind, id: u64) {
        let mut sent = self.lock();
        let Sent { up_to, ahead, .. } = &mut *sent;
        match ahead.get_mut(&kind) {
            None => raise(up_to, kind, id),
            Some(ahead) if ahead.len() < MAX_AHEAD => drop(ahead.insert(id)),
            Some(_) => {}
        }
    }

    /// Somebody with these roles comes, and is sent what waits up to an id, or to its end. Gives whether a notification
    /// has been sent before: of two sockets that come at the same moment, one is sent what the other is not.
    pub(crate) fn note_arrival(
        &self,
        roles: &[Role],
        up_to: u64,
        has_more: bool,
    ) -> impl Fn(&Notification) -> bool + use<> {
        let mut sent = self.lock();
        let before = sent.clone();
        // Of the audiences that these roles have, and of no other: another socket's may still wait.
        for kind in AudienceKind::of(roles) {
            raise(&mut sent.up_to, kind, up_to);
            if has_more {
                sent.ahead.entry(kind).or_default();
            } else if let Some(last) = sent.ahead.remove(&kind).and_then(|ahead| ahead.last().copied()) {
                raise(&mut sent.up_to, kind, last);
            }
        }
        move |notification| {
            let (id, kind) = (notification.id, notification.audience.kind());
            id <= of(&before.up_to, kind) || before.ahead.get(&kind).is_some_and(|ahead| ahead.contains(&id))
        }
    }

    /// The marks that the store does not know yet.
    pub(crate) fn unrecorded(&self) -> Vec<(UserId, DeliveryMark)> {
        let sent = self.lock();
        let marks = AudienceKind::ALL.into_iter().filter_map(|audience| {
            let up_to = of(&sent.up_to, audience);
            (up_to > of(&sent.recorded, audience)).then(|| (self.user.clone(), DeliveryMark { audience, up_to }))
        });
        marks.collect()
    }

    fn note_recorded(&self, mark: DeliveryMark) {
        raise(&mut self.lock().recorded, mark.audience, mark.up_to);
    }

    /// Whether something is known here that the store does not tell.
    fn is_worth_keeping(&self) -> bool {
        !self.unrecorded().is_empty() || self.lock().ahead.values().any(|ahead| !ahead.is_empty())
    }
}

/// How somebody is here.
#[derive(Debug)]
struct Here {
    presence: Arc<Presence>,
    sockets: u32,
    /// Whether they take part by polling.
    polls: bool,
}

/// People with at least one socket or who poll, and the marks of those who have just gone.
#[derive(Default)]
pub(crate) struct People {
    here: HashMap<UserId, Here>,
    lingering: HashMap<UserId, Arc<Presence>>,
}

/// As what somebody comes or goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum As {
    /// With a socket.
    Socket,
    /// By polling.
    Poller,
}

impl People {
    /// What the sockets of a user share; for the first of them, with what is known from the one before.
    pub(crate) fn presence_of(&self, user: &UserId) -> Arc<Presence> {
        match (self.here.get(user), self.lingering.get(user)) {
            (Some(here), _) => here.presence.clone(),
            (None, Some(known)) => Presence::new(user, known.lock().clone()),
            (None, None) => Presence::new(user, Sent::default()),
        }
    }

    /// Who is here.
    pub(crate) fn all(&self) -> Vec<UserId> {
        self.here.keys().cloned().collect()
    }

    /// Somebody comes.
    pub(crate) fn come(&mut self, user: &UserId, presence: &Arc<Presence>, how: As) {
        let new = || Here { presence: presence.clone(), sockets: 0, polls: false };
        let here = self.here.entry(user.clone()).or_insert_with(new);
        match how {
            As::Socket => here.sockets += 1,
            As::Poller => here.polls = true,
        }
        self.lingering.remove(user);
    }

    /// Somebody goes. Gives whether they are not here any more in any way.
    pub(crate) fn go(&mut self, user: &UserId, how: As) -> bool {
        let Some(here) = self.here.get_mut(user) else { return false };
        match how {
            As::Socket => here.sockets = here.sockets.saturating_sub(1),
            As::Poller => here.polls = false,
        }
        if here.sockets > 0 || here.polls {
            return false;
        }
        if let Some((user, here)) = self.here.remove_entry(user)
            && here.presence.is_worth_keeping()
            && self.lingering.len() < MAX_LINGERING
        {
            self.lingering.insert(user, here.presence);
        }
        true
    }

    /// How many sockets somebody has.
    pub(crate) fn count_of(&self, user: &UserId) -> usize {
        self.here.get(user).map_or(0, |here| here.sockets as usize)
    }

    /// Whether somebody is here in any way.
    pub(crate) fn is_here(&self, user: &UserId) -> bool {
        self.here.contains_key(user)
    }

    pub(crate) fn len(&self) -> usize {
        self.here.len()
    }

    /// The marks that the store does not know yet.
    pub(crate) fn unrecorded(&self) -> Vec<(UserId, DeliveryMark)> {
        let here = self.here.values().map(|here| &here.presence);
        here.chain(self.lingering.values()).flat_map(|presence| presence.unrecorded()).collect()
    }

    /// The store knows these marks.
    pub(crate) fn note_recorded(&mut self, marks: &[(UserId, DeliveryMark)]) {
        for (user, mark) in marks {
            let here = self.here.get(user).map(|here| &here.presence);
            if let Some(presence) = here.or_else(|| self.lingering.get(user)) {
                presence.note_recorded(*mark);
            }
            if self.lingering.get(user).is_some_and(|presence| !presence.is_worth_keeping()) {
                self.lingering.remove(user);
            }
        }
    }

    /// Nothing of somebody is remembered who has gone.
    pub(crate) fn forget(&mut self, user: &UserId) {
        self.lingering.remove(user);
    }
}
