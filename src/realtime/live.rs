//! Everything that is live, in one value: the feed, the connections, the revocations and blocks, and presence. The store's changes reach
//! it through [`crate::realtime::subscriber`], and what passes without being stored through here.

use std::collections::VecDeque;
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::domain::access::Banned;
use crate::domain::{Actor, Clock, ExpiryClock, RoomId, Timestamp, UserId};
use crate::observability::counters::Counters;
use crate::protocol::error::ApiError;
use crate::realtime::access::Access;
use crate::realtime::delivery::Delivery;
use crate::realtime::feed::Feed;
use crate::realtime::gathered::Gatherings;
use crate::realtime::known_users::KnownUsers;
use crate::realtime::locked_rooms::LockedRooms;
use crate::realtime::presence::Presences;
use crate::realtime::registry::Sockets;
use crate::realtime::renamed_users::RenamedUsers;
use crate::realtime::settled_ids::SettledIds;
use crate::search::Changed;

/// Of so many changes it is remembered how many sockets they closed.
const EFFECTS: usize = 1_024;
/// So many follow-ups wait at most; one more is left to the next message of its room.
const FOLLOW_UPS: usize = 1_024;

/// What is to be done in the store because of a change.
#[derive(Debug)]
pub enum FollowUp {
    /// A room was registered by its first message: who was in it before takes part in it.
    Enlist {
        /// The room.
        room: RoomId,
        /// Who was in it.
        users: Vec<UserId>,
    },
    /// Somebody waits until all before it is done.
    Barrier(oneshot::Sender<()>),
}

/// Everything that is live, and follows the store's changes.
#[derive(Debug)]
pub struct Live {
    /// The deliveries, in order.
    pub feed: Arc<Feed>,
    /// Who is connected, and in which rooms.
    pub sockets: Arc<Sockets>,
    pub(crate) access: Access,
    pub(crate) locked_rooms: LockedRooms,
    pub(crate) presences: Presences,
    pub(super) gatherings: Gatherings,
    pub(crate) known_users: KnownUsers,
    pub(crate) settled_ids: SettledIds,
    /// What has changed of messages, for whoever keeps an index of them.
    pub changed: Arc<Changed>,
    /// Once the store has been read.
    pub(crate) renamed_users: OnceLock<RenamedUsers>,
    pub(crate) clock: Arc<dyn Clock>,
    expiry: Mutex<ExpiryClock>,
    /// Where sockets that are shown out finish by themselves: the writer's thread is none of the runtime's.
    pub(super) runtime: Option<tokio::runtime::Handle>,
    /// How many sockets each of the last changes has closed.
    pub(super) effects: Mutex<VecDeque<(u64, usize)>>,
    pub(super) follow_up: mpsc::Sender<FollowUp>,
    pub(super) follow_ups: Mutex<Option<mpsc::Receiver<FollowUp>>>,
}

impl Live {
    /// Nobody is connected yet. It is made inside the runtime that the sockets live in.
    #[must_use]
    pub fn new(feed: Arc<Feed>, clock: Arc<dyn Clock>) -> Arc<Live> {
        let (follow_up, follow_ups) = mpsc::channel(FOLLOW_UPS);
        Arc::new(Live {
            feed,
            sockets: Arc::new(Sockets::default()),
            access: Access::default(),
            locked_rooms: LockedRooms::default(),
            presences: Presences::default(),
            gatherings: Gatherings::default(),
            known_users: KnownUsers::default(),
            settled_ids: SettledIds::default(),
            changed: Arc::default(),
            renamed_users: OnceLock::new(),
            expiry: Mutex::new(ExpiryClock::new(clock.now(), clock.passing())),
            clock,
            runtime: tokio::runtime::Handle::try_current().ok(),
            effects: Mutex::default(),
            follow_up,
            follow_ups: Mutex::new(Some(follow_ups)),
        })
    }

    /// What has happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.feed.counters()
    }

    /// What ends before this has ended: as the store sees it, see [`ExpiryClock`].
    pub(crate) fn due(&self) -> Timestamp {
        let now = self.clock.now();
        now.min(self.expiry.lock().now(now, self.clock.passing()))
    }

    /// Whether somebody with a good token may connect and ask: they are neither blocked, nor is the token revoked.
    ///
    /// # Errors
    /// `token_revoked`, `user_blocked`.
    pub fn require_access(&self, actor: &Actor) -> Result<(), ApiError> {
        self.access.barred(actor, self.clock.now()).map_or(Ok(()), Err)
    }

    /// Somebody whose token is good, by the id that they have here.
    ///
    /// # Errors
    /// `token_invalid` if that was given to somebody else.
    pub fn known(&self, actor: Actor) -> Result<Actor, ApiError> {
        match self.renamed_users.get() {
            Some(renamed) => renamed.known(actor),
            None => Ok(actor),
        }
    }

    /// Somebody whose token is good, with the JSON type that their id has in all events.
    #[must_use]
    pub fn settled(&self, actor: Actor) -> Actor {
        Actor { user: self.settled_ids.settle(actor.user.clone()), ..actor }
    }

    /// Somebody who is named, with the JSON type that their id has in all events.
    #[must_use]
    pub fn named(&self, user: UserId) -> UserId {
        self.settled_ids.named(user)
    }

    /// As [`Live::named`], for whom something stands against.
    #[must_use]
    pub fn named_in(&self, banned: Banned) -> Banned {
        Banned { ban: banned.ban.on(|user| self.named(user)), ..banned }
    }

    /// What is to be followed up; for the one task that does it.
    pub(crate) fn take_follow_ups(&self) -> Option<mpsc::Receiver<FollowUp>> {
        self.follow_ups.lock().take()
    }

    /// Waits until what the changes of before have made necessary is done, as far as it is.
    pub(crate) async fn followed_up(&self) {
        let (done, is_done) = oneshot::channel();
        if self.follow_up.send(FollowUp::Barrier(done)).await.is_ok() {
            // Without an answer the server stops.
            drop(is_done.await);
        }
    }

    /// How many sockets of people a change has closed.
    pub(crate) fn effect_of(&self, change: u64) -> usize {
        let effects = self.effects.lock();
        effects.iter().rev().find(|(id, _)| *id == change).map_or(0, |(_, closed)| *closed)
    }

    pub(super) fn note_effect(&self, change: u64, closed: usize) {
        let mut effects = self.effects.lock();
        if effects.len() >= EFFECTS {
            effects.pop_front();
        }
        effects.push_back((change, closed));
    }

    /// Publishes what is not stored. A feed that is full drops it: nobody waits for it, and it is never acknowledged.
    pub(crate) fn publish_passing(&self, delivery: Delivery) {
        if self.feed.publish(vec![delivery]).is_err() {
            tracing::debug!("the feed is full: an event that is not stored was dropped");
        }
    }
}
