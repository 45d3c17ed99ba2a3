//! The rooms that are locked, in memory: who types in one of them is looked at more closely, and in others for the price of a look-up.

use std::collections::HashSet;

use parking_lot::RwLock;

use crate::domain::RoomId;

/// Which rooms are locked.
#[derive(Debug, Default)]
pub(crate) struct LockedRooms(RwLock<HashSet<RoomId>>);

impl LockedRooms {
    /// These rooms are, and no others.
    pub(crate) fn replace(&self, rooms: Vec<RoomId>) {
        *self.0.write() = rooms.into_iter().collect();
    }

    /// A room is locked, or is not.
    pub(crate) fn set(&self, room: &RoomId, is_locked: bool) {
        if is_locked {
            self.0.write().insert(room.clone());
        } else {
            self.0.write().remove(room);
        }
    }

    /// Whether a room is.
    pub(crate) fn has(&self, room: &RoomId) -> bool {
        self.0.read().contains(room)
    }
}
