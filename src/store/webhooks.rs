//! The seam of the store for whoever tells the platform what has happened: what is still to be told, and what it is about.

use crate::domain::chat::Message;
use crate::domain::notification::Selection;
use crate::domain::progress::Progress;
use crate::domain::webhook::{HookEvent, HookEvents};
use crate::domain::{RoomId, Timestamp, UserId};

use super::Answer;

/// So many dead letters are kept; beyond that the oldest go.
pub const MOST_DEAD: u64 = 100_000;

/// What the store keeps for the platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookPlan {
    /// Which events; none: nothing is kept, and no table is touched.
    pub events: HookEvents,
    /// So many wait at most; beyond that, a gap is told.
    pub most: u64,
}

/// Something that is still to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookMark {
    /// The id of the change, by which it is in order.
    pub id: u64,
    /// What is told in order: a room, or a user. `None` for a gap, which everything before it is told before.
    pub lane: Option<u64>,
    /// When it happened.
    pub at: Timestamp,
}

/// What is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Telling {
    /// A message was stored, changed or deleted: as it is now.
    Message {
        /// Which of these.
        event: HookEvent,
        /// It.
        message: Box<Message>,
    },
    /// A lesson's progress: as it is now.
    Progress(Box<Progress>),
    /// Notifications were read.
    Read {
        /// By whom.
        user: UserId,
        /// Which.
        selection: Selection,
        /// How many were unread then.
        unread: u64,
    },
    /// Somebody came or went.
    Sighting {
        /// Who.
        user: UserId,
        /// Their name.
        name: String,
        /// The room; `None`: here at all.
        room: Option<RoomId>,
        /// Whether they came.
        has_come: bool,
    },
    /// The outbox was full: changes up to `to` were not kept one by one.
    Gap {
        /// The last of them.
        to: u64,
        /// How many.
        changes: u64,
    },
}

/// Something to tell, with when it happened.
#[derive(Debug, Clone, PartialEq)]
pub struct HookItem {
    /// When.
    pub at: Timestamp,
    /// What; `None` if it is about what is not there any more.
    pub telling: Option<Telling>,
}

/// A dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The id of the change.
    pub id: u64,
    /// Which event; `None` for a gap.
    pub event: Option<HookEvent>,
    /// When it happened.
    pub at: Timestamp,
    /// When it was given up.
    pub given_up_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt came to.
    pub why: String,
}

/// How much there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookCounts {
    /// So much is still to be told.
    pub waiting: u64,
    /// When the oldest of it happened.
    pub oldest: Option<Timestamp>,
    /// Dead letters.
    pub dead: u64,
}

/// What is to be told to the platform.
pub trait Hooks: Send + Sync {
    /// From now on the store keeps this for the platform.
    fn plan_hooks(&self, plan: HookPlan);

    /// What is to be told behind an id, in order.
    fn hooks_after(&self, after: u64, limit: usize) -> Answer<'_, Vec<HookMark>>;

    /// One of it, as what it is about is now; `None` if it was told, or has become a dead letter.
    fn hook(&self, id: u64) -> Answer<'_, Option<HookItem>>;

    /// How much there is.
    fn hook_counts(&self) -> Answer<'_, HookCounts>;

    /// Dead letters behind an id, the oldest first.
    fn dead_letters(&self, after: u64, limit: usize) -> Answer<'_, Vec<DeadLetter>>;

    /// Who the platform was told is somewhere, behind a place; with where to go on.
    fn sighted(&self, after: Option<[u8; 16]>, limit: usize) -> Answer<'_, Sighted>;
}

/// A part of whom the platform was told is somewhere.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sighted {
    /// They, and in which room.
    pub people: Vec<(UserId, Option<RoomId>)>,
    /// Where to go on; `None`: that was all.
    pub next: Option<[u8; 16]>,
}
