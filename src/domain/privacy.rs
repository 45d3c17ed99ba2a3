//! Legal holds, erasures and purges: what may go, and what must stay.

use serde::{Deserialize, Serialize};

use super::{RoomId, Timestamp, UserId};

/// Who or what is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A person: what they wrote, their progress, what names them.
    User(UserId),
    /// A chat room with all its messages.
    Room(RoomId),
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::User(user) => write!(f, "user {user}"),
            Subject::Room(room) => write!(f, "room {room}"),
        }
    }
}

/// A legal hold: nothing of its subject is purged or erased.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// Of whom or what.
    pub subject: Subject,
    /// Why, in the words of who set it.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

/// How many things of a person were erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ErasureCounts {
    /// Messages whose content and sender are gone; their places stay.
    pub messages: u64,
    /// Rooms that they were in.
    pub memberships: u64,
    /// Lessons.
    pub lessons: u64,
    /// Kept versions of their progress.
    pub versions: u64,
    /// Notifications that named them: gone, or without their name.
    pub notifications: u64,
    /// Marks and changes of their inbox.
    pub inbox: u64,
    /// Answers that were kept for their repeated requests.
    pub answers: u64,
}

impl ErasureCounts {
    /// Both together.
    #[must_use]
    pub fn plus(self, more: ErasureCounts) -> ErasureCounts {
        ErasureCounts {
            messages: self.messages + more.messages,
            memberships: self.memberships + more.memberships,
            lessons: self.lessons + more.lessons,
            versions: self.versions + more.versions,
            notifications: self.notifications + more.notifications,
            inbox: self.inbox + more.inbox,
            answers: self.answers + more.answers,
        }
    }

    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        let ErasureCounts { messages, memberships, lessons, versions, notifications, inbox, answers } = *self;
        messages + memberships + lessons + versions + notifications + inbox + answers
    }
}

/// An erasure: of whom, since when, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Who was erased.
    pub user: UserId,
    /// When it was asked for.
    pub at: Timestamp,
    /// What is gone so far.
    pub counts: ErasureCounts,
    /// Whether nothing of them is left.
    pub is_finished: bool,
}

/// What is purged by its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PurgeKind {
    /// Chat messages.
    Chat,
    /// Notifications with their marks.
    Notifications,
    /// The audit trail.
    Audit,
}

impl PurgeKind {
    /// All kinds.
    pub const ALL: [PurgeKind; 3] = [PurgeKind::Chat, PurgeKind::Notifications, PurgeKind::Audit];

    /// Its key in `[retention]`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            PurgeKind::Chat => "chat",
            PurgeKind::Notifications => "notifications",
            PurgeKind::Audit => "audit",
        }
    }
}
