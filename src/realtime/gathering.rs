//! What a room is told of who comes and goes, gathered while much of it happens. The first news of a quiet room is told at
//! once; what follows within [`GATHERED_FOR`] goes out together at its end, behind the messages that have come meanwhile, and a
//! user who came and left again in between is not spoken of. Of guests only names are kept here: who has come or left is what
//! differs then between who is in the room and what the others were told, so the last state wins whatever order the calls had.

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::domain::{Room, RoomId, Timestamp, UserId};
use crate::protocol::event::{RoomGuest, ServerEvent};
use crate::realtime::delivery::Delivery;
use crate::realtime::gathered::{GATHERED_FOR, Gathering, Guest, Sighting};
use crate::realtime::live::Live;

impl Live {
    /// A user may have come into a room, or left it: the others are told what is the case.
    pub(crate) fn announce_guest(&self, room: &RoomId, user: &UserId, name: &str) {
        let at = self.clock.now();
        self.gather(room, |gathering| {
            let guest = Guest { nth: gathering.nth(), name: name.to_owned(), at };
            gathering.guests.insert(user.clone(), guest);
        });
    }

    /// The others in a room are told that a user has gone offline, or is back.
    pub(super) fn announce_sighting(&self, room: &RoomId, user: &UserId, is_online: bool, seen: Timestamp) {
        self.gather(room, |gathering| {
            let nth = gathering.nth();
            let first = Sighting { nth, was_online: !is_online, is_online, seen };
            let sighting = gathering.sightings.entry(user.clone()).or_insert(first);
            (sighting.nth, sighting.is_online, sighting.seen) = (nth, is_online, seen);
        });
    }

    fn gather(&self, room: &RoomId, note: impl FnOnce(&mut Gathering)) {
        // Held over what is told: two who tell the same room at this moment do so one behind the other.
        let mut gathered = self.gatherings.lock();
        if let Some(gathering) = gathered.rooms.get_mut(room) {
            return note(gathering);
        }
        let mut gathering = Gathering::default();
        note(&mut gathering);
        // Where nobody else was told of it nothing has begun.
        if self.tell(room, &mut gathering) && (!gathering.is_empty() || self.sockets.head_count(room) > 1) {
            gathered.rooms.insert(room.clone(), gathering);
            gathered.due.push_back((Instant::now() + GATHERED_FOR, room.clone()));
            self.gatherings.has_begun.notify_one();
        }
    }

    /// Tells a room what there is to tell. `false` if there was nothing.
    fn tell(&self, room: &RoomId, gathering: &mut Gathering) -> bool {
        let users: Vec<&UserId> = gathering.guests.keys().collect();
        let news = self.sockets.untold(room, &users);
        let others = |user, event| Delivery::to_others(Room::Chat(room.clone()), user, &event);
        let guests = gathering.guests.iter().zip(&news).filter_map(|((user, guest), news)| {
            let told = RoomGuest { room_id: room, user_id: user, user_name: &guest.name, timestamp: guest.at };
            let has_come = (*news)?;
            let event = if has_come { ServerEvent::ChatUserJoined(told) } else { ServerEvent::ChatUserLeft(told) };
            Some((guest.nth, others(user, event)))
        });
        let changed = gathering.sightings.iter().filter(|(_, sighting)| sighting.is_online != sighting.was_online);
        let sightings = changed.map(|(user, sighting)| {
            let event =
                ServerEvent::PresenceChanged { user_id: user, online: sighting.is_online, last_seen: sighting.seen };
            (sighting.nth, others(user, event))
        });
        let mut deliveries: Vec<(u64, Delivery)> = guests.chain(sightings).collect();
        if deliveries.is_empty() {
            return false;
        }
        deliveries.sort_unstable_by_key(|(nth, _)| *nth);
        // A feed that is full takes nothing: the same is tried again at the end of the next gathering.
        if self.feed.publish(deliveries.into_iter().map(|(_, delivery)| delivery).collect()).is_ok() {
            let told = gathering.guests.keys().zip(&news).filter_map(|(user, news)| Some((user, (*news)?)));
            self.sockets.note_told(room, told);
            *gathering = Gathering::default();
        }
        true
    }

    /// Tells each room what has been gathered for long enough.
    fn tell_the_gathered(&self, now: Instant) {
        loop {
            let mut gathered = self.gatherings.lock();
            let Some((_, room)) = gathered.due.pop_front_if(|(due, _)| *due <= now) else { return };
            let Some(mut gathering) = gathered.rooms.remove(&room) else { continue };
            if self.tell(&room, &mut gathering) {
                gathered.rooms.insert(room.clone(), gathering);
                gathered.due.push_back((now + GATHERED_FOR, room));
            }
        }
    }

    /// Tells rooms what is gathered, until it is told to stop. The server owns the task.
    pub async fn tell_what_is_gathered(&self, stop: CancellationToken) {
        loop {
            let next = async {
                match self.gatherings.next_due() {
                    Some(due) => tokio::time::sleep_until(due).await,
                    None => self.gatherings.has_begun.notified().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = next => {}
            }
            self.tell_the_gathered(Instant::now());
        }
    }
}

#[cfg(test)]
mod tests;
