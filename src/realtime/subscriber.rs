//! The one subscriber of the store's changes. It receives each on the writer's thread, in the order of their ids and before
//! whoever asked is answered, and does what has to happen live: who lost a right is out of rooms, sockets and waiting polls,
//! caches follow, the feed takes back what it must not tell again, and what is to be told goes on its way.
//!
//! Nothing here is done by the request that caused it: whoever asked may be gone. A request that is answered finds its own
//! change applied, and here how many sockets it has closed.

use std::collections::HashSet;

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::Message;
use crate::domain::{Actor, Room, RoomId, UserId};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::event::ServerEvent;
use crate::store::change::Admitted;
use crate::store::{Change, CommitSink};

use crate::realtime::batch::Batch;
use crate::realtime::delivery::Delivery;
use crate::realtime::live::{FollowUp, Live};
use crate::realtime::registry::{Kind, Occupant};

impl Live {
    /// Applies a change to whoever is connected.
    fn apply(&self, change: &Change) {
        match change {
            Change::Banned { id, banned } => {
                self.access.set(banned.clone());
                if let Ban::Mute { user, room } = &banned.ban {
                    return self.end_typing_in(user, room.as_ref());
                }
                self.note_effect(*id, self.expel_the_barred());
            }
            Change::Unbanned { ban, .. } => self.access.lift(ban),
            Change::Disconnected { id, user } => {
                let message = "an administrator has closed this connection; connect again";
                self.note_effect(*id, self.disconnect(user, message));
            }
            Change::RoomChanged { room, admitted: Some(admitted), .. } => self.evict_strangers(&room.id, admitted),
            Change::StateSet { room, state, .. } => self.locked_rooms.set(room, state.locked),
            Change::RoomRemoved { room, .. } => {
                self.locked_rooms.set(room, false);
                self.access.forget_mutes_in(room);
                self.evict_where(room, |_| true);
            }
            Change::MemberRemoved { room, user, .. } => {
                self.evict_where(room, |actor| actor.user == *user && !actor.is_admin());
            }
            Change::Erased { id, user, is_finished } => {
                if *is_finished {
                    self.access.forget_mutes_of(user);
                }
                self.counters().refused_users.forget(user);
                self.known_users.forget(user);
                self.settled_ids.forget(user);
                // Their devices show what is not there any more.
                self.note_effect(*id, self.disconnect(user, "your data have been erased here"));
                self.sockets.forget(user);
                self.presences.forget(user);
            }
            Change::Posted { message, .. } if message.seq == 1 => self.enlist_present(message),
            _ => {}
        }
    }

    /// Closes the sockets and ends the polls of users and tokens that are refused now. Returns the number of closed sockets.
    pub(crate) fn expel_the_barred(&self) -> usize {
        let now = self.clock.now();
        self.sockets.expel_where(|actor| self.access.barred(actor, now))
    }

    /// How many sockets a ban would close, and of how many people.
    pub(crate) fn reach_of_ban(&self, banned: &Banned) -> (usize, usize) {
        let now = self.clock.now();
        let actors = self.sockets.actors_where(|actor| self.access.would_bar(banned, actor, now));
        let people: HashSet<UserId> = actors.iter().map(|actor| actor.user.clone()).collect();
        (actors.len(), people.len())
    }

    fn disconnect(&self, user: &UserId, message: &'static str) -> usize {
        let error = ApiError::new(ErrorCode::Forbidden, message);
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

    /// Removes a socket from a room, and notifies it.
    pub(crate) fn evict(&self, occupant: &Occupant, room: &RoomId) {
        let Some((user, name)) = self.sockets.name_of(occupant.socket) else { return };
        let Some(was_last) = self.sockets.leave(occupant.socket, room) else { return };
        if occupant.kind != Kind::Waiter && was_last {
            self.end_typing(room, &user);
            self.announce_guest(room, &user, &name);
        }
        let error = ApiError {
            field: Some("roomId".to_owned()),
            ..ApiError::new(ErrorCode::Forbidden, format!("you are not in the room {room} any more"))
        };
        let refusal = ServerEvent::RequestError { event: "chat:join", error: &error, room: Some(room) }.encode();
        occupant.outlet.send(&Batch::from(refusal).all());
    }

    fn enlist_present(&self, message: &Message) {
        let present = self.sockets.people_in(&message.room).into_iter().map(|(user, _)| user);
        let users: Vec<UserId> = present.filter(|user| *user != message.sender).collect();
        if users.is_empty() {
            return;
        }
        let follow_up = FollowUp::Enlist { room: message.room.clone(), users };
        if self.follow_up.try_send(follow_up).is_err() {
            tracing::warn!(room = %message.room, "too many new rooms at once: users of this one must join it again");
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
            self.changed.note(change);
        }
        if let Some(last) = changes.last() {
            self.changed.set_applied(last.id());
        }
    }
}
