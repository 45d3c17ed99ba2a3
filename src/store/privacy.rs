//! The seam of the store for administrators: the audit trail, legal holds, what is stored of a person, erasures, purges.

use std::io;

use crate::domain::audit::{AuditEntry, AuditRecord, Link};
use crate::domain::chat::{Message, RoomSummary};
use crate::domain::notification::Notification;
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, PurgeKind, Subject};
use crate::domain::progress::Progress;
use crate::domain::{Role, Timestamp, UserId};

use super::Answer;

/// A part of the audit trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrailPart {
    /// Records, ascending.
    pub records: Vec<AuditRecord>,
    /// What the kept trail begins behind.
    pub anchor: Link,
    /// Its last record.
    pub head: Link,
}

/// The audit trail.
pub trait Audits: Send + Sync {
    /// Adds a record. Durable when it resolves, like every write.
    fn record(&self, entry: AuditEntry) -> Answer<'_, AuditRecord>;

    /// Records behind a number, ascending, at most so many.
    fn audit(&self, after: u64, limit: usize) -> Answer<'_, Vec<AuditRecord>>;

    /// A part of the trail, and between what it stands, of one moment.
    fn trail(&self, after: u64, limit: usize) -> Answer<'_, TrailPart>;

    /// What the trail begins behind (records may have been purged), and its last record.
    fn audit_ends(&self) -> Answer<'_, (Link, Link)>;
}

/// One thing that is stored of a person.
#[derive(Debug, Clone, PartialEq)]
pub enum UserItem {
    /// Who they are.
    Profile(UserProfile),
    /// A room that they take part in.
    Room(RoomSummary),
    /// A message that they wrote, with its room.
    Message(Message),
    /// A lesson's state.
    Lesson(Progress),
    /// A kept version of a lesson's progress.
    Version(Progress),
    /// A notification of their inbox that names them or that they have marked.
    Notification {
        /// It.
        notification: Notification,
        /// Whether they have deleted it from their inbox.
        is_deleted: bool,
    },
    /// A record of the audit trail about them or of their own acts.
    Audit(AuditRecord),
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserProfile {
    /// Their id.
    pub user: UserId,
    /// The name as last given.
    pub name: String,
    /// The roles as last given.
    pub roles: Vec<Role>,
    /// When they came first; `None` if they were only spoken of.
    pub first_seen: Option<Timestamp>,
    /// When they were last here.
    pub last_seen: Option<Timestamp>,
}

/// Takes what is stored of a person, item by item, in the order of [`UserItem`]'s variants.
pub trait UserItems: Send {
    /// One thing.
    ///
    /// # Errors
    /// Ends the reading.
    fn item(&mut self, item: UserItem) -> io::Result<()>;

    /// Behind the last one: what was taken is complete. Not called for somebody of whom nothing is known.
    ///
    /// # Errors
    /// It was not kept.
    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<F: FnMut(UserItem) -> io::Result<()> + Send> UserItems for F {
    fn item(&mut self, item: UserItem) -> io::Result<()> {
        self(item)
    }
}

/// Who takes what is stored of a person.
pub type UserSink = Box<dyn UserItems>;

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
}

/// What a slice of a purge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PurgeStep {
    /// Things that are gone; of messages behind one that is held, the content alone.
    pub purged: u64,
    /// Things old enough that a hold keeps.
    pub held: u64,
    /// Where the next slice goes on; `None` when all is done.
    pub next: Option<PurgeCursor>,
}

/// Holds, exports, erasures and purges.
pub trait Privacy: Send + Sync {
    /// Sets a hold, or renews its reason.
    ///
    /// # Errors
    /// `Conflict` while an erasure of that user is under way.
    fn hold(&self, hold: Hold) -> Answer<'_, ()>;

    /// Releases a hold.
    ///
    /// # Errors
    /// `NotFound` if there is none.
    fn release(&self, subject: Subject) -> Answer<'_, Hold>;

    /// All holds.
    fn holds(&self) -> Answer<'_, Vec<Hold>>;

    /// Gives all that is stored of a person to a sink, from one consistent view. `false` if nothing is known of them.
    fn export_user(&self, user: UserId, sink: UserSink) -> Answer<'_, bool>;

    /// When the newest message, progress or notification of a person was stored.
    fn newest_of(&self, user: UserId) -> Answer<'_, Option<Timestamp>>;

    /// Notes that somebody is to be erased: from here on [`Privacy::erase`] is repeated until it is finished, over
    /// restarts. Gives the erasure under way, if there is one.
    ///
    /// # Errors
    /// `NotFound` if nothing is known of them; `Held` if they or a room they are in are held.
    fn begin_erasure(&self, user: UserId, at: Timestamp) -> Answer<'_, Erasure>;

    /// Erases about `limit` things of somebody whose erasure has begun. Their messages become tombstones of nobody, and
    /// the rooms are told as of any deletion.
    ///
    /// # Errors
    /// `NotFound` if no erasure has begun.
    fn erase(&self, user: UserId, limit: usize) -> Answer<'_, ErasureStep>;

    /// All erasures ever made, finished or not.
    fn erasures(&self) -> Answer<'_, Vec<Erasure>>;

    /// Purges what was stored before a moment, looking at about `limit` things. Holds keep what is theirs; `seq` has no
    /// gaps behind what was purged.
    fn purge(&self, kind: PurgeKind, before: Timestamp, cursor: PurgeCursor, limit: usize) -> Answer<'_, PurgeStep>;
}
