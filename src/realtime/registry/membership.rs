//! One socket in one room, as the pump delivers to it.

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
                if is_delivered || group.is_mixed || group.authors.contains(&self.presence.user) {
                    return self.deliver_singly(group, from, after_seq, after_notification);
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

    fn deliver_singly(&self, group: &Group, from: usize, after_seq: u64, after_notification: u64) -> usize {
        let mut sent = 0;
        for (index, Placed { delivery, .. }) in group.deliveries.iter().enumerate().skip(from) {
            if !self.is_for(delivery) || is_told(delivery, after_seq, after_notification) {
                continue;
            }
            let is_sent = match delivery.own_packet(&self.presence.user) {
                _ if delivery.kind == DeliveryKind::Volatile => {
                    self.outlet.send_volatile(&group.batch.one(index));
                    sent += 1;
                    continue;
                }
                Some(own) => self.outlet.send(&Batch::from(own.clone()).all()),
                None => self.outlet.send(&group.batch.one(index)),
            };
            if is_sent {
                self.note_notification(delivery);
            } else {
                return sent;
            }
            sent += 1;
        }
        sent
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
