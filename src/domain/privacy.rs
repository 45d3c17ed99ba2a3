//! Legal holds, erasures and purges: what may go, and what must stay.

use std::collections::HashSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::audit::{Hash, hex};
use super::{RoomId, Timestamp, UserId};

/// Who or what is held.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A person: what they wrote, their progress, what names them.
    User(UserId),
    /// A chat room with all its messages.
    Room(RoomId),
}

impl Subject {
    /// The person, if it is one.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Subject::User(user) => Some(user),
            Subject::Room(_) => None,
        }
    }
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
    /// 1, 2, 3, ... over all holds that were ever set; 0 before the store has given it one.
    pub number: u64,
    /// Of whom or what. Several holds on one subject stand beside each other.
    pub subject: Subject,
    /// Why, in the words of who set it.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// Since when.
    pub at: Timestamp,
}

impl std::fmt::Display for Hold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.subject, self.reason)
    }
}

/// The one rule of holds: a message is held if its author or its room is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HeldSubjects<U: Eq + std::hash::Hash, R: Eq + std::hash::Hash> {
    users: HashSet<U>,
    rooms: HashSet<R>,
}

impl<U: Eq + std::hash::Hash, R: Eq + std::hash::Hash> HeldSubjects<U, R> {
    /// Of these people and these rooms.
    #[must_use]
    pub fn new(users: HashSet<U>, rooms: HashSet<R>) -> Self {
        HeldSubjects { users, rooms }
    }

    /// Whether a message of an author in a room is held.
    pub fn holds_message(&self, author: &U, room: &R) -> bool {
        self.holds_user(author) || self.holds_room(room)
    }

    /// Whether a person is held.
    pub fn holds_user(&self, user: &U) -> bool {
        self.users.contains(user)
    }

    /// Whether a room is held.
    pub fn holds_room(&self, room: &R) -> bool {
        self.rooms.contains(room)
    }

    /// The people who are held.
    pub fn users(&self) -> impl Iterator<Item = &U> {
        self.users.iter()
    }

    /// The rooms that are held.
    pub fn rooms(&self) -> impl Iterator<Item = &R> {
        self.rooms.iter()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.users.is_empty() && self.rooms.is_empty()
    }
}

/// What ended a withheld version of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum VersionEnd {
    /// Its message was edited.
    Edited,
    /// Its message was deleted.
    Deleted,
}

/// What a message said before it was changed under a legal hold. It is shown to administrators alone, while the hold lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithheldVersion {
    /// What it said.
    pub content: String,
    /// When that ended.
    pub until: Timestamp,
    /// Who ended it.
    pub by: UserId,
    /// How.
    pub change: VersionEnd,
}

/// How many things of a person were erased.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
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

/// An erasure: of whom, since when, by whom, and how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Erasure {
    /// Who was erased.
    pub user: UserId,
    /// When it was asked for.
    pub at: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Whether the retention floor was passed over with the person's consent.
    pub consent: bool,
    /// When nothing of them was left; `None` before that.
    pub finished_at: Option<Timestamp>,
    /// What is gone so far.
    pub counts: ErasureCounts,
}

impl Erasure {
    /// Whether nothing of them is left.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.finished_at.is_some()
    }

    /// The document that says so; `None` before that. The same erasure always gives the same document.
    #[must_use]
    pub fn certificate(&self, store_id: [u8; 16]) -> Option<Certificate> {
        let mut certificate = Certificate {
            user_id: self.user.clone(),
            erased_at: self.finished_at?,
            by: self.by.clone(),
            consent: self.consent,
            store_id: hex(&store_id),
            counts: self.counts,
            hash: String::new(),
        };
        let text = serde_json::to_vec(&certificate).unwrap_or_default();
        let hash: Hash = *blake3::hash(&text).as_bytes();
        certificate.hash = hex(&hash);
        Some(certificate)
    }
}

/// Says that somebody's data are gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// Who was erased.
    pub user_id: UserId,
    /// When it was done.
    pub erased_at: Timestamp,
    /// Who asked for it.
    pub by: String,
    /// Whether the retention floor was passed over with the person's consent.
    pub consent: bool,
    /// Which store, in hexadecimal digits.
    pub store_id: String,
    /// What is gone.
    pub counts: ErasureCounts,
    /// BLAKE3 of this document without its hash, in hexadecimal digits; it is in the audit log, too.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub hash: String,
}

/// Whether somebody's newest data are too young to be erased without their consent.
#[must_use]
pub fn is_below_floor(newest: Option<Timestamp>, floor: Duration, now: Timestamp) -> bool {
    !floor.is_zero() && newest.is_some_and(|newest| newest.plus(floor) > now)
}

/// What is purged by its age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PurgeKind {
    /// Chat messages.
    Chat,
    /// Notifications with their marks.
    Notifications,
    /// The audit log.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_all_counts() {
        let counts = |n: u64| ErasureCounts {
            messages: n,
            memberships: 10 * n,
            lessons: 100 * n,
            versions: 1_000 * n,
            notifications: 10_000 * n,
            inbox: 100_000 * n,
            answers: 1_000_000 * n,
        };
        assert_eq!(counts(2).total(), 2_222_222);
        assert_eq!(counts(2).plus(counts(3)), counts(5));
    }
}
