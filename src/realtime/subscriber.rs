//! The one subscriber of the store's changes. It is told of each on the writer's thread, in the order of their ids and before
//! whoever asked is answered, and does what has to happen live: who lost a right is out of rooms, sockets and waiting polls,
//! caches follow, the feed takes back what it must not tell again, and what is to be told goes on its way.
//!
//! Nothing here is done by the request that caused it: whoever asked may be gone. A request that is answered finds its own
//! change applied, and here how many sockets it has closed.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::domain::chat::Message;
use crate::domain::{Actor, Clock, Room, RoomId, UserId};
use crate::observability::counters::Tally;
use crate::protocol::error::{ErrorCode, WireError};
use crate::protocol::event::ServerEvent;
use crate::store::change::Admitted;
use crate::store::{Change, CommitSink};

use crate::realtime::access::Access;
use crate::realtime::batch::Batch;
use crate::realtime::delivery::Delivery;
use crate::realtime::feed::Feed;
use crate::realtime::known_users::KnownUsers;
use crate::realtime::presence::Presences;
use crate::realtime::registry::{Kind, Occupant, Sockets};

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
    pub(crate) presences: Presences,
    pub(crate) known_users: KnownUsers,
    pub(crate) clock: Arc<dyn Clock>,
    /// Where sockets that are shown out finish by themselves: the writer's thread is none of the runtime's.
    runtime: Option<tokio::runtime::Handle>,
    /// How many sockets each of the last changes has closed.
    effects: Mutex<VecDeque<(u64, usize)>>,
    follow_up: mpsc::Sender<FollowUp>,
    follow_ups: Mutex<Option<mpsc::Receiver<FollowUp>>>,
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
            presences: Presences::default(),
            known_users: KnownUsers::default(),
            clock,
            runtime: tokio::runtime::Handle::try_current().ok(),
            effects: Mutex::default(),
            follow_up,
            follow_ups: Mutex::new(Some(follow_ups)),
        })
    }

    /// What has happened since the start.
    #[must_use]
    pub fn tally(&self) -> &Arc<Tally> {
        self.feed.tally()
    }

    /// Whether somebody with a good token may connect and ask: they are neither blocked, nor is the token revoked.
    ///
    /// # Errors
    /// `token_revoked`, `user_blocked`.
    pub fn require_access(&self, actor: &Actor) -> Result<(), WireError> {
        self.access.barred(actor, self.clock.now()).map_or(Ok(()), Err)
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

    fn note_effect(&self, change: u64, closed: usize) {
        let mut effects = self.effects.lock();
        if effects.len() >= EFFECTS {
            effects.pop_front();
        }
        effects.push_back((change, closed));
    }

    /// Applies a change to whoever is connected.
    fn apply(&self, change: &Change) {
        match change {
            Change::Banned { id, banned } => {
                self.access.set(banned.clone());
                self.note_effect(*id, self.expel_the_barred());
            }
            Change::Unbanned { ban, .. } => self.access.lift(ban),
            Change::Disconnected { id, user } => {
                let message = "an administrator has closed this connection; connect again";
                self.note_effect(*id, self.expel(user, message));
            }
            Change::RoomChanged { room, admitted: Some(admitted), .. } => self.evict_strangers(&room.id, admitted),
            Change::RoomRemoved { room, .. } => self.evict_where(room, |_| true),
            Change::MemberRemoved { room, user, .. } => {
                self.evict_where(room, |actor| actor.user == *user && !actor.is_admin());
            }
            Change::Erased { id, user, .. } => {
                self.known_users.forget(user);
                // Their devices show what is not there any more.
                self.note_effect(*id, self.expel(user, "your data have been erased here"));
                self.sockets.forget(user);
                self.presences.forget(user);
            }
            Change::Posted { message, .. } if message.seq == 1 => self.enlist_present(message),
            _ => {}
        }
    }

    /// Closes the sockets, and ends the polls, of whoever is shut out now. Gives how many sockets of people there were.
    pub(crate) fn expel_the_barred(&self) -> usize {
        let now = self.clock.now();
        self.sockets.expel_where(|actor| self.access.barred(actor, now))
    }

    fn expel(&self, user: &UserId, message: &'static str) -> usize {
        let error = WireError::new(ErrorCode::Forbidden, message);
        self.sockets.expel_where(|actor| (actor.user == *user).then(|| error.clone()))
    }

    fn evict_strangers(&self, room: &RoomId, admitted: &Admitted) {
        self.evict_where(room, |actor| !actor.is_admin() && !admitted.contains(&actor.user));
    }

    fn evict_where(&self, room: &RoomId, is_out: impl Fn(&Actor) -> bool) {
        for occupant in self.sockets.who_is_in(room) {
            if is_out(&occupant.actor) {
                self.evict(&occupant, room);
            }
        }
    }

    /// Takes a socket out of a room, and tells it.
    pub(crate) fn evict(&self, occupant: &Occupant, room: &RoomId) {
        let Some((user, name)) = self.sockets.name_of(occupant.socket) else { return };
        let Some(was_last) = self.sockets.leave(occupant.socket, room) else { return };
        if occupant.kind != Kind::Waiter && was_last {
            self.end_typing(room, &user);
            self.announce_guest(room, &user, &name, false);
        }
        let error = WireError {
            field: Some("roomId".to_owned()),
            ..WireError::new(ErrorCode::Forbidden, format!("you are not in the room {room} any more"))
        };
        let told = ServerEvent::RequestError { event: "chat:join", error: &error }.encode();
        occupant.outlet.send(&Batch::from(told).all());
    }

    fn enlist_present(&self, message: &Message) {
        let present = self.sockets.people_in(&message.room).into_iter().map(|(user, _)| user);
        let users: Vec<UserId> = present.filter(|user| *user != message.sender).collect();
        if users.is_empty() {
            return;
        }
        let follow_up = FollowUp::Enlist { room: message.room.clone(), users };
        if self.follow_up.try_send(follow_up).is_err() {
            tracing::warn!(room = %message.room, "too many rooms are new at once; who was in this one joins it again");
        }
    }

    /// Who posts has read what they have posted: their other sockets hear of it, also those that are not in the room.
    fn mark_of_own_post(&self, change: &Change) -> Option<Delivery> {
        let Change::Posted { message, origin } = change else { return None };
        let others = self.sockets.count_of(&message.sender).saturating_sub(usize::from(origin.is_some()));
        if others == 0 {
            return None;
        }
        let (room_id, user_id, message_id) = (&message.room, &message.sender, message.id);
        let event = ServerEvent::ChatRead { room_id, user_id, message_id };
        let delivery = Delivery::passing(Room::User(message.sender.clone()), &event).about(&message.sender);
        Some(Delivery { except_socket: *origin, ..delivery })
    }

    /// Publishes what is not stored. A feed that is full drops it: nobody waits for it, and it is never acknowledged.
    pub(crate) fn publish_passing(&self, delivery: Delivery) {
        if self.feed.publish(vec![delivery]).is_err() {
            tracing::debug!("too much is on its way; a passing event was dropped");
        }
    }
}

impl CommitSink for Live {
    /// Called on the store's writer thread: it waits here while the pump is too far behind, so that a server that cannot
    /// deliver does not take in either. A feed that is closed is not waited for.
    fn committed(&self, changes: Vec<Change>) {
        let _inside = self.runtime.as_ref().map(tokio::runtime::Handle::enter);
        self.feed.wait_for_room();
        for change in &changes {
            self.apply(change);
            self.feed.note(change, self.mark_of_own_post(change));
        }
    }
}
