//! Legal holds, erasures and purges: what may go, and what must stay.

use std::time::Duration;

use crate::domain::privacy::{Erasure, ErasureCounts, Hold, PurgeKind, Subject};
use crate::domain::{Timestamp, UserId};

use super::Act;

/// Sets a hold, beside those that stand on its subject. One of the same reason is the one that stands. Errors: `Erasing` while somebody is erased whom it would hold, or who wrote in the room
/// that it would hold.
#[derive(Debug, Clone)]
pub struct SetHold {
    /// The hold; the store gives it its number.
    pub hold: Hold,
}

/// A hold that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingHold {
    /// It.
    pub hold: Hold,
    /// Whether it was set now.
    pub is_new: bool,
}

/// Releases one hold; others on its subject go on to stand. Versions that it alone withheld are removed by [`PruneWithheld`],
/// and shown to nobody from now on. Errors: `NotFound` if there is none; `SeveralHolds` without a number where several stand.
#[derive(Debug, Clone)]
pub struct ReleaseHold {
    /// Of whom or what.
    pub subject: Subject,
    /// Which one; may be left out where only one stands.
    pub number: Option<u64>,
}

/// Removes withheld versions of messages that nothing holds any more, looking at about `limit` of them. Answers `true` when
/// all have been looked at.
#[derive(Debug, Clone)]
pub struct PruneWithheld {
    /// How many are looked at.
    pub limit: usize,
}

/// Begins to erase somebody: from here on [`EraseSlice`] is repeated until it is finished, over restarts. Gives the erasure
/// under way, or the finished one if nothing of them was stored since. Errors: `NotFound` if nothing is known of them;
/// `Held` if they are held, or a room that they are in or have written in; `BelowFloor` without consent.
#[derive(Debug, Clone)]
pub struct BeginErasure {
    /// Who is erased.
    pub user: UserId,
    /// Who asks for it.
    pub by: String,
    /// Whether the retention floor is passed over with the person's consent.
    pub consent: bool,
    /// Nobody is erased whose newest data are younger than this.
    pub floor: Duration,
    /// Only say whether it would be refused. Nothing begins, and nothing is recorded.
    pub is_dry_run: bool,
}

/// An erasure that is to go on, or has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureBegun {
    /// It.
    pub erasure: Erasure,
    /// Whether it begins now.
    pub is_new: bool,
}

/// Erases about `limit` things of somebody whose erasure has begun. Their messages become tombstones of nobody, and the rooms
/// are told as of any deletion. The slice that finishes it records the certificate. Errors: `NotFound` if no erasure has
/// begun.
#[derive(Debug, Clone)]
pub struct EraseSlice {
    /// Who is erased.
    pub user: UserId,
    /// How much.
    pub limit: usize,
    /// What the audit log says when it is finished.
    pub act: Act,
}

/// What a slice of an erasure did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErasureStep {
    /// What is gone now.
    pub counts: ErasureCounts,
    /// Whether nothing of them is left.
    pub is_finished: bool,
}

/// How far a purge is. Opaque to the caller, who hands it back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeCursor {
    /// The table's own place.
    pub place: u64,
    /// Within it.
    pub within: u64,
    /// Whether something that stays has been met within it.
    pub is_past_kept: bool,
    /// How many things are gone so far.
    pub purged: u64,
    /// How many things a hold keeps so far.
    pub held: u64,
    /// How many records of the audit log are gone so far that no target has taken.
    pub unforwarded: u64,
}

/// Purges what was stored before a moment, looking at about `limit` things. Holds keep what is theirs; `seq` has no gaps
/// behind what was purged. The first slice that purges something records the beginning, the last one the end.
#[derive(Debug, Clone)]
pub struct Purge {
    /// What is purged.
    pub kind: PurgeKind,
    /// What was stored before this.
    pub before: Timestamp,
    /// Where the slice before has stopped.
    pub cursor: PurgeCursor,
    /// How many things are looked at.
    pub limit: usize,
    /// Of the audit log: to where it is forwarded, if it is. What the target has not taken yet is kept, up to a bound.
    pub forwarded_to: Option<AwaitedTarget>,
    /// What the audit log says of it.
    pub act: Act,
}

/// A target that the audit log is forwarded to, as a purge of the audit log goes by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwaitedTarget {
    /// The target, as the configuration spells it.
    pub target: String,
    /// So many records are kept for it, however old they are; beyond them the oldest go all the same.
    pub most: u64,
}

/// What a slice of a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeStep {
    /// Things that are gone; of messages behind one that is held, the content alone.
    pub purged: u64,
    /// Things old enough that a hold keeps.
    pub held: u64,
    /// Records of the audit log among the purged that no target has taken.
    pub unforwarded: u64,
    /// Where the next slice goes on; `None` when all is done.
    pub next: Option<PurgeCursor>,
}
