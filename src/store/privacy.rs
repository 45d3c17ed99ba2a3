//! The seam of the store for administrators: the audit log, legal holds, what is stored of a person, erasures, purges.

use crate::domain::access::Banned;
use crate::domain::audit::{AuditRecord, Link};
use crate::domain::chat::{Message, RoomSummary};
use crate::domain::notification::{Notice, Notification};
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, WithheldVersion};
use crate::domain::progress::Progress;
use crate::domain::report::Report;
use crate::domain::{Role, Timestamp, UserId};

use super::Answer;

/// A part of the audit log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditPart {
    /// Records, ascending.
    pub records: Vec<AuditRecord>,
    /// What the kept audit log begins behind.
    pub anchor: Link,
    /// Its last record.
    pub head: Link,
}

/// The audit log.
pub trait Audits: Send + Sync {
    /// Records behind a number, ascending, at most so many.
    fn audit(&self, after: u64, limit: usize) -> Answer<'_, Vec<AuditRecord>>;

    /// A part of the audit log, and between what it stands, of one moment.
    fn audit_records(&self, after: u64, limit: usize) -> Answer<'_, AuditPart>;

    /// To where the audit log was forwarded last, and the last record that was taken there.
    fn audit_forwarded(&self) -> Answer<'_, Option<(String, Link)>>;

    /// What the audit log begins behind (records may have been purged), and its last record.
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
    Message {
        /// It.
        message: Message,
        /// What it said before it was changed under a hold that still stands, oldest first.
        versions: Vec<WithheldVersion>,
    },
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
        /// When they have read it, if that is kept.
        read_at: Option<Timestamp>,
    },
    /// A notification that names them and is in no inbox: it waits for its time, or is over.
    Notice(Notice),
    /// A record of the audit log about them or of their own acts.
    Audit(AuditRecord),
    /// A mute that stands against them.
    Mute(Banned),
    /// A report that they have made.
    Report(Report),
    /// A report of a message that they wrote: who has made it, and why, is not theirs.
    Reported(Report),
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

/// How far an export is. Opaque to the caller, who hands it back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExportCursor {
    /// The kind of items.
    pub section: u8,
    /// Behind this key of its table.
    pub after: (u64, u64),
}

/// A part of what is stored of a person.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ExportPage {
    /// Items, in the order of [`UserItem`]'s variants.
    pub items: Vec<UserItem>,
    /// Where to go on; `None` behind the last one.
    pub next: Option<ExportCursor>,
}

/// Holds, exports and erasures, for reading.
pub trait Privacy: Send + Sync {
    /// All holds.
    fn holds(&self) -> Answer<'_, Vec<Hold>>;

    /// A part of all that is stored of a person, about `limit` rows: a short read, so that a slow receiver holds nothing.
    ///
    /// # Errors
    /// `NotFound` if nothing is known of them.
    fn export_page(&self, user: UserId, cursor: ExportCursor, limit: usize) -> Answer<'_, ExportPage>;

    /// The last erasure of somebody.
    fn erasure(&self, user: UserId) -> Answer<'_, Option<Erasure>>;

    /// How many things of somebody an erasure would take now; nothing of somebody who is not known.
    fn erasable(&self, user: UserId) -> Answer<'_, ErasureCounts>;

    /// All erasures ever made, finished or not.
    fn erasures(&self) -> Answer<'_, Vec<Erasure>>;
}
