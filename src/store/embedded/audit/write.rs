//! The audit log: each record is chained by hash to the one before.

use crate::domain::audit::{AuditEntry, AuditRecord, Link};
use crate::store::Change;
use crate::store::embedded::audit::rows::AuditRow;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{encode, get_value};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{k8, meta};
use crate::store::operations::{NoteForwarded, Record};

impl Apply for Record {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<AuditRecord> {
        batch.record(self.entry)
    }
}

impl Apply for NoteForwarded {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        batch.touch();
        let row = encode(&(self.target, self.link), &mut batch.buffer)?;
        batch.t.meta.write()?.insert(meta::AUDIT_FORWARDED, row)?;
        Ok(())
    }
}

impl Batch<'_, '_> {
    /// The last record that a target has taken: before the first one, if nothing is known of it.
    pub(in crate::store::embedded) fn forwarded_to(&self, target: &str) -> Outcome<Link> {
        let known: Option<(String, Link)> = get_value(self.t.meta.read()?, meta::AUDIT_FORWARDED)?;
        Ok(known.filter(|(known, _)| known == target).map_or(Link::START, |(_, link)| link))
    }

    /// Adds a record to the audit log.
    pub(in crate::store::embedded) fn record(&mut self, entry: AuditEntry) -> Outcome<AuditRecord> {
        let head: Link = get_value(self.t.meta.read()?, meta::AUDIT_HEAD)?.unwrap_or(Link::START);
        let record = head.next(entry);
        let row = AuditRow::of(&record);
        self.t.audit.write()?.insert(&k8(record.number), encode(&row, &mut self.buffer)?)?;
        self.t.meta.write()?.insert(meta::AUDIT_HEAD, encode(&Link::from(&record), &mut self.buffer)?)?;
        let id = self.take_id()?;
        self.tell(Change::Recorded { id, record: record.clone() });
        Ok(record)
    }
}
