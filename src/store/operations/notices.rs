//! Notifications that have a time: scheduled, over at a moment, or taken back.

use crate::domain::notification::{Notice, NotificationDraft, Times};
use crate::domain::{Timestamp, UserId};

use super::{Act, RequestKey};

/// Keeps a notification for its time, or sends it at once and keeps when it is over. Errors: `KeyReused`, `Conflict` when too many
/// wait for a time.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// What is sent.
    pub draft: NotificationDraft,
    /// When it is sent, and when it is over.
    pub times: Times,
    /// Who asks for it.
    pub by: UserId,
    /// Makes it idempotent for its caller.
    pub key: Option<RequestKey>,
}

impl Schedule {
    pub(super) fn bytes(&self) -> usize {
        self.draft.body.message.len() + self.draft.body.metadata.as_ref().map_or(0, String::len)
    }
}

/// What was scheduled, now or by the first request with the same key.
#[derive(Debug, Clone, PartialEq)]
pub struct Scheduled {
    /// It.
    pub notice: Notice,
    /// Whether an earlier request had the same key.
    pub duplicate: bool,
}

/// Does what is due at this moment: sends what has waited for its time, and takes away what is over. Each happens once, whatever the
/// clock does.
#[derive(Debug, Clone)]
pub struct DoDue {
    /// At most so many.
    pub limit: usize,
    /// What the audit log says of each.
    pub act: Act,
}

/// What was due.
#[derive(Debug, Clone, PartialEq)]
pub struct DueDone {
    /// How many were sent.
    pub sent: usize,
    /// How many are over now.
    pub ended: usize,
    /// When something is due next; `None`: never.
    pub next: Option<Timestamp>,
}

/// Takes a notification back from everybody. Errors: `NotFound`, `Conflict` if it is over already.
#[derive(Debug, Clone)]
pub struct Recall {
    /// Its number, or the id that its readers know.
    pub id: u64,
    /// Who takes it back.
    pub by: UserId,
}
