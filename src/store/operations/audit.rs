//! The audit log: what is said of an act, and records that stand by themselves.

use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, Link};

/// What the audit log says of an act. It is recorded in the act's transaction, with how it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Act {
    /// Who acts.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What: one of the words of [`crate::domain::audit::action`].
    pub action: &'static str,
    /// To whom or to what.
    pub target: String,
    /// What else there is to say, behind the outcome; empty if nothing.
    pub note: String,
}

impl Act {
    /// The record's entry.
    #[must_use]
    pub fn entry(&self, at: Timestamp, outcome: &str) -> AuditEntry {
        let outcome = if self.note.is_empty() { outcome.to_owned() } else { format!("{outcome}: {}", self.note) };
        AuditEntry {
            at,
            actor: self.actor.clone(),
            origin: self.origin.clone(),
            action: self.action.to_owned(),
            target: self.target.clone(),
            outcome,
        }
    }
}

/// Adds a record of something that changes nothing else in the store: a refused sign-in, an export, other keys.
#[derive(Debug, Clone)]
pub struct Record {
    /// What is recorded.
    pub entry: AuditEntry,
}

/// Notes how far the audit log has been forwarded to a target. It is no act of anybody's, and has no record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteForwarded {
    /// To where, as the configuration spells it.
    pub target: String,
    /// The last record that the target took.
    pub link: Link,
}
