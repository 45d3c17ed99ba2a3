//! What a store that takes another one's place must not lose: erasures made since, legal holds, and the audit log. A
//! restore goes back in time with the data, and not with these.

use crate::domain::audit::{AuditEntry, AuditRecord, Link};
use crate::domain::privacy::{Erasure, ErasureCounts, Hold};
use crate::domain::{Timestamp, UserId};
use crate::store::StoreError;
use crate::store::embedded::engine::batch::{Batch, Known};
use crate::store::embedded::engine::codec::{encode, get_number, get_value};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Tables, k8, meta};
use crate::store::embedded::offline::normal_forms::name_users;
use crate::store::embedded::offline::renamed::Renamed;
use crate::store::embedded::offline::rows::OfflineFile;
use crate::store::embedded::privacy::rows::{HoldRow, hold_key};

/// The first format whose ids are in their normal form.
const FIRST_WITH_NORMAL_FORMS: u32 = 8;
/// So many things are erased by one transaction.
const SLICE: usize = 2_000;
/// So many records of the audit log are held in memory at a time.
const RECORDS: usize = 1_000;

/// What was carried over.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    /// Who was erased again.
    pub erased: Vec<UserId>,
    /// How many holds stand.
    pub holds: usize,
    /// How many revocations and blocks stand.
    pub bans: usize,
    /// How many records of the audit log were added.
    pub audit: u64,
    /// Whether every record of the other store's audit log is in this one's now. If not, this audit log goes on by itself, and the
    /// other one is to be kept elsewhere.
    pub is_same_audit_log: bool,
    /// Whether something could not be carried over, as it could not be read.
    pub is_incomplete: bool,
}

impl OfflineFile {
    /// Does something of the writer's inside one transaction.
    pub(in crate::store::embedded) fn batch<T>(
        &self,
        now: Timestamp,
        work: impl FnOnce(&mut Batch<'_, '_>) -> Outcome<T>,
    ) -> Result<T, StoreError> {
        let mut known = Known::default();
        self.write_with(|tables| {
            // No version of progress is trimmed here.
            let mut batch = Batch::new(tables, &mut known, now, now, (u64::MAX, 0))?;
            let value = work(&mut batch)?;
            batch.finish()?;
            Ok(value)
        })
    }

    /// Adds a record to the audit log.
    ///
    /// # Errors
    /// What kept it from being written.
    pub fn record(&self, entry: AuditEntry) -> Result<AuditRecord, StoreError> {
        self.batch(entry.at, |batch| batch.record(entry))
    }

    /// Adds several records to the audit log, all or none.
    ///
    /// # Errors
    /// What kept them from being written.
    pub fn record_all(&self, entries: Vec<AuditEntry>) -> Result<(), StoreError> {
        let Some(first) = entries.first() else { return Ok(()) };
        self.batch(first.at, |batch| entries.into_iter().try_for_each(|entry| batch.record(entry).map(drop)))
    }

    /// All erasures ever made.
    ///
    /// # Errors
    /// What kept them from being read.
    pub fn erasures(&self) -> Result<Vec<Erasure>, StoreError> {
        self.read(crate::store::embedded::engine::schema::Snapshot::all_erasures)
    }

    /// All holds.
    ///
    /// # Errors
    /// What kept them from being read.
    pub fn holds(&self) -> Result<Vec<Hold>, StoreError> {
        self.read(crate::store::embedded::engine::schema::Snapshot::all_holds)
    }

    fn next_hold(&self) -> Result<u64, StoreError> {
        self.read(|snapshot| Ok(get_number(&snapshot.meta()?, meta::NEXT_HOLD)?.unwrap_or(1)))
    }

    /// The audit log behind a number.
    ///
    /// # Errors
    /// What kept it from being read.
    pub fn audit_after(&self, after: u64, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        self.read(|snapshot| snapshot.audit_after(after, limit))
    }

    /// What the audit log begins behind, and its last record.
    ///
    /// # Errors
    /// What kept it from being read.
    pub fn audit_ends(&self) -> Result<(Link, Link), StoreError> {
        self.read(crate::store::embedded::engine::schema::Snapshot::audit_ends)
    }

    fn renamed(&self) -> Result<Renamed, StoreError> {
        Ok(self.read(|snapshot| Renamed::read(&snapshot.meta()?))?.unwrap_or_default())
    }

    /// Before it is migrated: whom and which rooms it will call what another life of the same store calls them. What that one has
    /// erased, held and shut out since is then about the same ones.
    ///
    /// # Errors
    /// What kept it from being noted.
    pub fn take_names_from(&self, other: &OfflineFile) -> Result<(), StoreError> {
        if self.format >= FIRST_WITH_NORMAL_FORMS || other.format < FIRST_WITH_NORMAL_FORMS || !self.is_of(other)? {
            return Ok(());
        }
        let given = other.renamed()?;
        self.write(|tables| given.put_given(tables))
    }

    /// Whether it is another life of the same store.
    fn is_of(&self, other: &OfflineFile) -> Result<bool, StoreError> {
        let id = |file: &OfflineFile| file.read(|snapshot| get_value::<_, [u8; 16]>(&snapshot.meta()?, meta::STORE_ID));
        Ok(id(self)? == id(other)?)
    }

    /// The names of today of whomever another file knows by a text of before: of those that have none here, this gives it.
    fn names_with(&self, from: &OfflineFile) -> Result<Renamed, StoreError> {
        let given = from.renamed()?;
        let mut named: Vec<String> = given.users.keys().cloned().collect();
        named.extend(from.erasures()?.iter().map(|erasure| erasure.user.canonical()));
        named.extend(from.holds()?.iter().filter_map(|hold| hold.subject.user()).map(UserId::canonical));
        if from.format >= 3 {
            let bans = from.read(crate::store::embedded::engine::schema::Snapshot::all_bans)?;
            named.extend(bans.iter().filter_map(|banned| banned.ban.user()).map(UserId::canonical));
        }
        self.write(|tables| name_users(tables, &given, named))
    }

    /// What its migration from a format has given another name than its normal form, in words.
    ///
    /// # Errors
    /// What kept it from being read.
    pub fn renamed_since(&self, format: u32) -> Result<Vec<String>, StoreError> {
        if format < FIRST_WITH_NORMAL_FORMS { Ok(self.renamed()?.words()) } else { Ok(Vec::new()) }
    }

    /// Takes over from a store whose place this one takes. Repeating it changes nothing.
    ///
    /// # Errors
    /// What kept it from being done.
    pub fn carry_over(&self, from: &OfflineFile, now: Timestamp) -> Result<Carried, StoreError> {
        let mut carried = Carried::default();
        if from.format < 2 {
            // Older formats know none of these, and have no audit log that could be lost.
            carried.is_same_audit_log = true;
            return Ok(carried);
        }
        let renamed = self.names_with(from)?;
        let next = self.next_hold()?.max(from.next_hold()?);
        // What was erased since was not held then, whatever is held in this store.
        let holds: Vec<Hold> = from.holds()?.iter().map(|hold| renamed.hold(hold)).collect();
        let holds_before = self.holds()?;
        self.write(|tables| put_holds(tables, &[], 1, false))?;
        let known = self.erasures()?;
        for erasure in from.erasures()? {
            let is_known = known.iter().any(|other| other.user == erasure.user && other.at >= erasure.at);
            if !is_known {
                self.erase_again(&erasure, &renamed, now)?;
                carried.erased.push(erasure.user);
            }
        }
        carried.holds = holds.len();
        let has_changed = holds_before.iter().any(|before| !holds.iter().any(|hold| hold.subject == before.subject));
        self.write(|tables| put_holds(tables, &holds, next, has_changed))?;
        if from.format >= 3 {
            carried.bans = self.carry_bans(from, &renamed, now)?;
        }
        self.carry_trail(from, &mut carried)?;
        Ok(carried)
    }

    /// Takes over from a file that another life of this store, or a copy of it, had in its place: what was erased, held and
    /// shut out since `since` alone, when it took the place. What was done to it before that is not this store's, and what
    /// this store has itself stands.
    ///
    /// # Errors
    /// What kept it from being done.
    pub fn carry_over_since(
        &self,
        from: &OfflineFile,
        since: Timestamp,
        now: Timestamp,
    ) -> Result<Carried, StoreError> {
        let mut carried = Carried::default();
        if from.format < 2 {
            return Ok(carried);
        }
        let (known, renamed) = (self.erasures()?, self.names_with(from)?);
        for erasure in from.erasures()?.into_iter().filter(|erasure| erasure.at >= since) {
            if !known.iter().any(|other| other.user == erasure.user && other.at >= erasure.at) {
                self.erase_again(&erasure, &renamed, now)?;
                carried.erased.push(erasure.user);
            }
        }
        let mut holds = self.holds()?;
        // The other file has numbers of its own.
        let mut next = holds.iter().map(|hold| hold.number + 1).fold(self.next_hold()?, u64::max);
        let since_then = from.holds()?.into_iter().filter(|hold| hold.at >= since);
        for hold in since_then.map(|hold| renamed.hold(&hold)) {
            if !holds.iter().any(|own| own.subject == hold.subject && own.reason == hold.reason) {
                holds.push(Hold { number: next, ..hold });
                next += 1;
            }
        }
        carried.holds = holds.len();
        self.write(|tables| put_holds(tables, &holds, next, false))?;
        if from.format >= 3 {
            let bans = from.read(crate::store::embedded::engine::schema::Snapshot::all_bans)?;
            let since_then = bans.into_iter().filter(|banned| banned.at >= since);
            let since_then: Vec<_> = since_then.map(|banned| renamed.ban(&banned)).collect();
            carried.bans = since_then.len();
            self.batch(now, |batch| since_then.into_iter().try_for_each(|banned| batch.put_ban(banned).map(drop)))?;
        }
        Ok(carried)
    }

    /// Whether a file goes on where this one stopped: its audit log passes through the end of this one's.
    ///
    /// # Errors
    /// What kept the audit logs from being read.
    pub fn is_continued_by(&self, later: &OfflineFile) -> Result<bool, StoreError> {
        // Older formats have no audit log, and no copies that could be told from it.
        if later.format < 2 {
            return Ok(true);
        }
        let (_, head) = self.audit_ends()?;
        Ok(head.number == 0 || later.has_point(head)?)
    }

    /// When a record of one of these actions was last made.
    ///
    /// # Errors
    /// What kept the audit log from being read.
    pub fn last_record_of(&self, actions: &[&str]) -> Result<Option<Timestamp>, StoreError> {
        let (mut after, mut last) = (0, None);
        loop {
            let records = self.audit_after(after, RECORDS)?;
            let Some(end) = records.last() else { return Ok(last) };
            after = end.number;
            let found = records.iter().rev().find(|record| actions.contains(&record.entry.action.as_str()));
            last = found.map(|record| record.entry.at).or(last);
        }
    }

    /// Blocks and revocations since the backup stay in force. What was lifted since is as it was: not in the newer store.
    fn carry_bans(&self, from: &OfflineFile, renamed: &Renamed, now: Timestamp) -> Result<usize, StoreError> {
        let standing = from.read(crate::store::embedded::engine::schema::Snapshot::all_bans)?;
        let standing: Vec<_> = standing.iter().map(|banned| renamed.ban(banned)).collect();
        self.write(|tables| {
            tables.bans.write()?.clear()?;
            Ok(())
        })?;
        let count = standing.len();
        self.batch(now, |batch| standing.into_iter().try_for_each(|banned| batch.put_ban(banned).map(drop)))?;
        Ok(count)
    }

    fn erase_again(&self, erasure: &Erasure, renamed: &Renamed, now: Timestamp) -> Result<(), StoreError> {
        // Whom a format of before named by another text is here by the name of today.
        let user = renamed.user(&erasure.user).unwrap_or_else(|| erasure.user.clone());
        let begun =
            Erasure { user: user.clone(), counts: ErasureCounts::default(), finished_at: None, ..erasure.clone() };
        self.batch(now, |batch| batch.put_erasure(&begun))?;
        let mut counts = ErasureCounts::default();
        loop {
            let step = self.batch(now, |batch| batch.erase(&user, SLICE))?;
            counts = counts.plus(step.counts);
            if step.is_finished {
                break;
            }
        }
        // One that had ended keeps its certificate, which the audit log has; the next start ends the other, and records it.
        let kept = if erasure.is_finished() { erasure.clone() } else { Erasure { counts, ..begun } };
        self.batch(now, |batch| batch.put_erasure_of(&user, &kept))
    }

    /// The records that this store's audit log does not have, if its own audit log is the beginning of the other.
    fn carry_trail(&self, from: &OfflineFile, carried: &mut Carried) -> Result<(), StoreError> {
        let (_, head) = self.audit_ends()?;
        let (_, from_head) = from.audit_ends()?;
        if from_head.number == 0 || self.has_point(from_head)? {
            // The other audit log is empty, or this one goes on where it ends: there is nothing to carry.
            carried.is_same_audit_log = true;
            return Ok(());
        }
        if !from.has_point(head)? {
            return Ok(());
        }
        let mut at = head.number;
        loop {
            let records = from.audit_after(at, RECORDS)?;
            let Some(last) = records.last() else { break };
            at = last.number;
            carried.audit += records.len() as u64;
            self.write(|tables| put_records(tables, &records))?;
        }
        carried.is_same_audit_log = true;
        Ok(())
    }

    /// Whether the audit log passes through a point: its beginning, its end, or a record that is kept.
    fn has_point(&self, point: Link) -> Result<bool, StoreError> {
        let (anchor, head) = self.audit_ends()?;
        if point == anchor || point == head {
            return Ok(true);
        }
        let there = self.audit_after(point.number.saturating_sub(1), 1)?;
        Ok(there.first().is_some_and(|record| Link::from(record) == point))
    }
}

/// `next` is at least the number of the next hold. `settle`: what is withheld by holds that are gone is to be removed before anything is held anew.
fn put_holds(tables: &mut Tables<'_>, holds: &[Hold], next: u64, settle: bool) -> Outcome<()> {
    let mut buffer = Vec::new();
    // One that was released since stays released.
    tables.holds.write()?.clear()?;
    for hold in holds {
        let (key, row) = (hold_key(&hold.subject, hold.number), HoldRow::of(hold));
        tables.holds.write()?.insert(key.as_slice(), encode(&row, &mut buffer)?)?;
    }
    let next = holds.iter().map(|hold| hold.number + 1).fold(next, u64::max);
    tables.meta.write()?.insert(meta::NEXT_HOLD, encode(&next, &mut buffer)?)?;
    if settle {
        tables.meta.write()?.insert(meta::PRUNED, encode(&(0_u64, 0_u64), &mut buffer)?)?;
    }
    Ok(())
}

fn put_records(tables: &mut Tables<'_>, records: &[AuditRecord]) -> Outcome<()> {
    let mut buffer = Vec::new();
    for record in records {
        let row = crate::store::embedded::audit::rows::AuditRow::of(record);
        tables.audit.write()?.insert(&k8(record.number), encode(&row, &mut buffer)?)?;
        tables.meta.write()?.insert(meta::AUDIT_HEAD, encode(&Link::from(record), &mut buffer)?)?;
    }
    Ok(())
}
