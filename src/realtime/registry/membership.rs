//! One socket in one room, as the pump delivers to it.

use std::ops::Range;

use crate::realtime::batch::Batch;
use crate::realtime::registry::*;

/// One socket in one room.
#[derive(Clone)]
pub struct Member {
    pub(crate) socket: u64,
    pub(crate) presence: Arc<Presence>,
    pub(crate) name: Arc<str>,
    pub(crate) outlet: Arc<dyn Outlet>,
    pub(crate) gate: Arc<Gate>,
    /// Whether it is sent what is delivered, as a person's socket, and not woken or only present.
    pub(crate) is_person: bool,
}

impl std::fmt::Debug for Member {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Member")
            .field("socket", &self.socket)
            .field("user", &self.presence.user)
            .finish_non_exhaustive()
    }
}

impl Member {
    /// Sends a group through the gate, or what of it this member has not had yet. Gives how many deliveries were sent.
    pub fn deliver(&self, group: &Group) -> usize {
        let mut state = self.gate.lock();
        match &mut *state {
            GateState::Gone => 0,
            GateState::Held { held, behind, .. } => {
                let from = if group.is_chat { group.index_from(*behind) } else { 0 };
                let waiting = group.deliveries.iter().skip(from).map(|placed| &placed.delivery);
                let has_room =
                    held.add(waiting.filter(|delivery| self.is_for(delivery)).map(|delivery| self.as_theirs(delivery)));
                if has_room {
                    *behind = group.end();
                } else {
                    // Nothing passes behind the gap: what the socket has been told stays without one.
                    *state = GateState::Gone;
                    self.outlet.expel(&ApiError::unavailable());
                }
                0
            }
            GateState::Open { after_seq, after_notification, behind } => {
                let from = if group.is_chat { group.index_from(*behind) } else { 0 };
                *behind = group.end();
                if from >= group.len() {
                    return 0;
                }
                let (after_seq, after_notification) = (*after_seq, *after_notification);
                let is_delivered = after_seq >= group.first_seq || after_notification >= group.first_notification;
                if is_delivered
                    || group.is_volatile
                    || group.excepted.contains(&self.socket)
                    || group.singled_out.contains(&self.presence.user)
                {
                    return self.deliver_in_parts(group, from, after_seq, after_notification);
                }
                if !self.outlet.send(&group.batch.starting_at(from)) {
                    return 0;
                }
                if group.first_notification != u64::MAX {
                    group.deliveries.iter().for_each(|placed| self.note_notification(&placed.delivery));
                }
                group.len() - from
            }
        }
    }

    /// Sends what is for this member of a group that is not for them as a whole: what stands together in it goes out together.
    fn deliver_in_parts(&self, group: &Group, from: usize, after_seq: u64, after_notification: u64) -> usize {
        let (mut sent, mut part) = (0, from..from);
        for (index, Placed { delivery, .. }) in group.deliveries.iter().enumerate().skip(from) {
            let passes = self.is_for(delivery) && !is_told(delivery, after_seq, after_notification);
            let own = delivery.own_packet(&self.presence.user);
            let is_volatile = delivery.kind == DeliveryKind::Volatile;
            if passes && own.is_none() && !is_volatile {
                part.end = index + 1;
                continue;
            }
            if !self.send_part(group, part, &mut sent) {
                return sent;
            }
            part = index + 1..index + 1;
            if !passes {
                continue;
            }
            match own {
                _ if is_volatile => self.outlet.send_volatile(&group.batch.part(index..index + 1)),
                Some(own) if self.outlet.send(&Batch::from(own.clone()).all()) => self.note_notification(delivery),
                _ => return sent,
            }
            sent += 1;
        }
        self.send_part(group, part, &mut sent);
        sent
    }

    /// `false` if nothing goes out any more.
    fn send_part(&self, group: &Group, part: Range<usize>, sent: &mut usize) -> bool {
        if part.is_empty() {
            return true;
        }
        if !self.outlet.send(&group.batch.part(part.clone())) {
            return false;
        }
        *sent += part.len();
        if group.first_notification != u64::MAX {
            let told = group.deliveries.iter().take(part.end).skip(part.start);
            told.for_each(|placed| self.note_notification(&placed.delivery));
        }
        true
    }

    /// A delivery as this member gets it, whatever knows them no more when it is sent.
    fn as_theirs(&self, delivery: &Arc<Delivery>) -> Arc<Delivery> {
        match delivery.own_packet(&self.presence.user) {
            Some(own) => Arc::new(Delivery { packet: own.clone(), own: None, ..Delivery::clone(delivery) }),
            None => Arc::clone(delivery),
        }
    }

    fn is_for(&self, delivery: &Delivery) -> bool {
        delivery.except_socket != Some(self.socket) && delivery.except_user.as_ref() != Some(&self.presence.user)
    }

    fn note_notification(&self, delivery: &Delivery) {
        if let (true, DeliveryKind::Notification(id), Some(kind)) =
            (self.is_person, delivery.kind, audience_of(&delivery.room))
        {
            self.presence.note_live(kind, id);
        }
    }
}

/// The audience of what is delivered to a room.
pub(crate) fn audience_of(room: &Room) -> Option<AudienceKind> {
    match room {
        Room::All => Some(AudienceKind::All),
        Room::Role(role) => Some(AudienceKind::Role(*role)),
        Room::User(_) => Some(AudienceKind::Named),
        Room::Chat(_) => None,
    }
}
