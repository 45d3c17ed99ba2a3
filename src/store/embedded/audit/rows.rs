//! Rows of the audit log.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, AuditRecord, Hash};

/// A record of the audit log; its number is its key.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct AuditRow<'a> {
    pub(in crate::store::embedded) at: u64,
    actor: &'a str,
    origin: &'a str,
    action: &'a str,
    target: &'a str,
    outcome: &'a str,
    pub(in crate::store::embedded) hash: Hash,
}

impl<'a> AuditRow<'a> {
    pub(in crate::store::embedded) fn of(record: &'a AuditRecord) -> AuditRow<'a> {
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

    pub(in crate::store::embedded) fn record(&self, number: u64) -> AuditRecord {
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
