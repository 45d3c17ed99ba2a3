//! The memory of a gathering: what each room is still to be told of who comes and goes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::domain::{RoomId, Timestamp, UserId};

/// For so long what a room is to be told is gathered.
pub(super) const GATHERED_FOR: Duration = Duration::from_millis(250);

/// Somebody who has come or left.
#[derive(Debug)]
pub(super) struct Guest {
    pub(super) nth: u64,
    pub(super) name: String,
    pub(super) at: Timestamp,
}

/// Somebody who has gone offline or is back.
#[derive(Debug)]
pub(super) struct Sighting {
    pub(super) nth: u64,
    pub(super) was_online: bool,
    pub(super) is_online: bool,
    pub(super) seen: Timestamp,
}

/// What one room is still to be told.
#[derive(Debug, Default)]
pub(super) struct Gathering {
    pub(super) guests: HashMap<UserId, Guest>,
    pub(super) sightings: HashMap<UserId, Sighting>,
    /// How much has been noted: what is told is told in the order of its last change.
    noted: u64,
}

impl Gathering {
    pub(super) fn nth(&mut self) -> u64 {
        self.noted += 1;
        self.noted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.guests.is_empty() && self.sightings.is_empty()
    }
}

/// What all rooms are still to be told.
#[derive(Debug, Default)]
pub(super) struct Gathered {
    /// The rooms that were told something less than [`GATHERED_FOR`] ago.
    pub(super) rooms: HashMap<RoomId, Gathering>,
    /// The same rooms, by when they are told what has been gathered.
    pub(super) due: VecDeque<(Instant, RoomId)>,
}

/// What rooms are still to be told. A room is in it for as long as something happens there.
#[derive(Debug, Default)]
pub(crate) struct Gatherings {
    gathered: Mutex<Gathered>,
    pub(super) has_begun: Notify,
}

impl Gatherings {
    pub(super) fn lock(&self) -> MutexGuard<'_, Gathered> {
        self.gathered.lock()
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lock().due.front().map(|(due, _)| *due)
    }
}
