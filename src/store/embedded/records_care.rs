//! What the values of the administrators' tables hold.

use serde::{Deserialize, Serialize};

use super::failure::Outcome;
use super::records::IdRow;
use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, AuditRecord, Hash};
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, Subject};

/// A record of the audit trail; its number is its key.
#[derive(Serialize, Deserialize)]
pub(super) struct AuditRow<'a> {
    pub(super) at: u64,
    actor: &'a str,
    origin: &'a str,
    action: &'a str,
    target: &'a str,
    outcome: &'a str,
    pub(super) hash: Hash,
}

impl<'a> AuditRow<'a> {
    pub(super) fn of(record: &'a AuditRecord) -> AuditRow<'a> {
        AuditRow {
            at: record.entry.at.0,
            actor: &record.entry.actor,
            origin: &record.entry.origin,
            action: &record.entry.action,
            target: &record.entry.target,
            outcome: &record.entry.outcome,
            hash: record.hash,
        }
    }

    pub(super) fn record(&self, number: u64) -> AuditRecord {
        let entry = AuditEntry {
            at: Timestamp(self.at),
            actor: self.actor.to_owned(),
            origin: self.origin.to_owned(),
            action: self.action.to_owned(),
            target: self.target.to_owned(),
            outcome: self.outcome.to_owned(),
        };
        AuditRecord { number, entry, hash: self.hash }
    }
}

/// The key of a hold: its subject's kind and canonical id.
pub(super) fn hold_key(subject: &Subject) -> String {
    match subject {
        Subject::User(user) => format!("u:{user}"),
        Subject::Room(room) => format!("r:{room}"),
    }
}

/// A legal hold.
#[derive(Serialize, Deserialize)]
pub(super) struct HoldRow<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    reason: &'a str,
    by: &'a str,
    at: u64,
}

impl<'a> HoldRow<'a> {
    pub(super) fn of(hold: &'a Hold) -> HoldRow<'a> {
        let id = match &hold.subject {
            Subject::User(user) => user.id().into(),
            Subject::Room(room) => room.id().into(),
        };
        HoldRow { id, reason: &hold.reason, by: &hold.by, at: hold.at.0 }
    }

    pub(super) fn hold(&self, key: &str) -> Outcome<Hold> {
        let subject =
            if key.starts_with("u:") { Subject::User(self.id.user()?) } else { Subject::Room(self.id.room()?) };
        Ok(Hold { subject, reason: self.reason.to_owned(), by: self.by.to_owned(), at: Timestamp(self.at) })
    }
}

/// Somebody's erasure.
#[derive(Serialize, Deserialize)]
pub(super) struct ErasureRow<'a> {
    #[serde(borrow)]
    user: IdRow<'a>,
    at: u64,
    counts: ErasureCounts,
    is_finished: bool,
}

impl<'a> ErasureRow<'a> {
    pub(super) fn of(erasure: &'a Erasure) -> ErasureRow<'a> {
        let Erasure { user, at, counts, is_finished } = erasure;
        ErasureRow { user: user.id().into(), at: at.0, counts: *counts, is_finished: *is_finished }
    }

    pub(super) fn erasure(&self) -> Outcome<Erasure> {
        Ok(Erasure {
            user: self.user.user()?,
            at: Timestamp(self.at),
            counts: self.counts,
            is_finished: self.is_finished,
        })
    }
}
