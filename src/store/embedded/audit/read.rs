//! Reads of the audit log.

use crate::domain::audit::{AuditRecord, Link};
use crate::store::embedded::audit::rows::AuditRow;
use crate::store::embedded::engine::codec::{decode, get_value};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, k8, meta};

impl Snapshot {
    pub(in crate::store::embedded) fn audit_after(&self, after: u64, limit: usize) -> Outcome<Vec<AuditRecord>> {
        let mut records = Vec::new();
        for row in self.audit()?.range::<&[u8; 8]>(&k8(after.saturating_add(1))..)?.take(limit) {
            let (key, value) = row?;
            records.push(decode::<AuditRow<'_>>(value.value())?.record(u64::from_be_bytes(*key.value())));
        }
        Ok(records)
    }

    pub(in crate::store::embedded) fn audit_forwarded(&self) -> Outcome<Option<(String, Link)>> {
        get_value(&self.meta()?, meta::AUDIT_FORWARDED)
    }

    pub(in crate::store::embedded) fn audit_ends(&self) -> Outcome<(Link, Link)> {
        let table = self.meta()?;
        let anchor = get_value(&table, meta::AUDIT_ANCHOR)?.unwrap_or(Link::START);
        let head = get_value(&table, meta::AUDIT_HEAD)?.unwrap_or(Link::START);
        Ok((anchor, head))
    }
}
