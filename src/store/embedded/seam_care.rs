//! The seam for administrators, method by method. No rule is decided here.

use std::sync::PoisonError;

use super::Embedded;
use super::writer::Command;
use crate::domain::audit::{AuditEntry, AuditRecord, Link};
use crate::domain::privacy::{Erasure, Hold, PurgeKind, Subject};
use crate::domain::{Timestamp, UserId};
use crate::store::rows::RowSink;
use crate::store::{Answer, Audits, ErasureStep, Privacy, PurgeCursor, PurgeStep, TrailPart, UserSink};

impl Audits for Embedded {
    fn record(&self, entry: AuditEntry) -> Answer<'_, AuditRecord> {
        Box::pin(self.write(move |reply| Command::Record(entry, reply)))
    }

    fn audit(&self, after: u64, limit: usize) -> Answer<'_, Vec<AuditRecord>> {
        Box::pin(self.read(move |snapshot| snapshot.audit_after(after, limit)))
    }

    fn trail(&self, after: u64, limit: usize) -> Answer<'_, TrailPart> {
        Box::pin(self.read(move |snapshot| {
            let (anchor, head) = snapshot.audit_ends()?;
            Ok(TrailPart { records: snapshot.audit_after(after, limit)?, anchor, head })
        }))
    }

    fn audit_ends(&self) -> Answer<'_, (Link, Link)> {
        Box::pin(self.read(|snapshot| snapshot.audit_ends()))
    }
}

impl Privacy for Embedded {
    fn hold(&self, hold: Hold) -> Answer<'_, ()> {
        Box::pin(self.write(move |reply| Command::Hold(hold, reply)))
    }

    fn release(&self, subject: Subject) -> Answer<'_, Hold> {
        Box::pin(self.write(move |reply| Command::Release(subject, reply)))
    }

    fn holds(&self) -> Answer<'_, Vec<Hold>> {
        Box::pin(self.read(|snapshot| snapshot.all_holds()))
    }

    fn export_user(&self, user: UserId, mut sink: UserSink) -> Answer<'_, bool> {
        Box::pin(self.read(move |snapshot| snapshot.send_user(&user, &mut sink)))
    }

    fn newest_of(&self, user: UserId) -> Answer<'_, Option<Timestamp>> {
        Box::pin(self.read(move |snapshot| snapshot.newest_of(&user)))
    }

    fn begin_erasure(&self, user: UserId, at: Timestamp) -> Answer<'_, Erasure> {
        Box::pin(self.write(move |reply| Command::BeginErasure(user, at, reply)))
    }

    fn erase(&self, user: UserId, limit: usize) -> Answer<'_, ErasureStep> {
        Box::pin(self.write(move |reply| Command::Erase(user, limit, reply)))
    }

    fn erasures(&self) -> Answer<'_, Vec<Erasure>> {
        Box::pin(self.read(|snapshot| snapshot.all_erasures()))
    }

    fn purge(&self, kind: PurgeKind, before: Timestamp, cursor: PurgeCursor, limit: usize) -> Answer<'_, PurgeStep> {
        Box::pin(self.write(move |reply| Command::Purge(kind, before, cursor, limit, reply)))
    }
}

impl Embedded {
    /// All rows of one consistent view. It pins pages for as long as the sink takes: a slow one is the caller's to end.
    pub(super) fn send_rows(&self, mut sink: Box<dyn RowSink + Send>) -> Answer<'_, ()> {
        Box::pin(self.read_apart(move |snapshot| snapshot.send_rows(&mut *sink)))
    }

    pub(super) fn note_good_backup(&self, at: Timestamp, bytes: u64) -> Answer<'_, ()> {
        let written = self.write(move |reply| Command::NoteBackup(at, bytes, reply));
        Box::pin(async move {
            written.await?;
            *self.shared.last_backup.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, bytes));
            Ok(())
        })
    }

    pub(super) fn sample_growth(&self, day: u64) -> Answer<'_, ()> {
        Box::pin(async move {
            let counts = self.read(|snapshot| snapshot.counts()).await?;
            self.write(move |reply| Command::Sample(day, counts, reply)).await
        })
    }
}
