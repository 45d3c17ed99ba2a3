//! How progress is reported: merges reports by [`crate::domain::progress`], a version each, all or none.

use std::collections::{HashMap, HashSet};

use redb::ReadableTable;

use crate::domain::privacy::Subject;
use crate::domain::progress::{Progress, is_merged, merge};
use crate::domain::{Fingerprint, LessonId, Refusal, UserId};
use crate::store::Change;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode, get};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::first_answers::First;
use crate::store::embedded::engine::schema::{k16, k24};
use crate::store::embedded::privacy::rows::holds_on;
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::operations::{Report, RequestKey, SyncProgress, Synced};

impl Apply for SyncProgress {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Vec<Synced>> {
        batch.refuse_mixed_keys(&self.reports)?;
        batch.refuse_too_many(&self.reports)?;
        self.reports.iter().map(|report| batch.sync_one(report)).collect()
    }
}

impl Batch<'_, '_> {
    /// A key that names two reports that differ is a mistake of the device; taking the second for a repetition would lose it
    /// without a word. Looked at before anything is written, as the reports stand or fall together.
    fn refuse_mixed_keys(&mut self, reports: &[Report]) -> Outcome<()> {
        let mut seen: HashMap<&str, Fingerprint> = HashMap::new();
        for Report { user, key, .. } in reports {
            if let Some(RequestKey { key, fingerprint, .. }) = key
                && seen.insert(key, *fingerprint).is_some_and(|before| before != *fingerprint)
            {
                return Err(Refusal::KeyReused.into());
            }
            if self.synced_before(key.as_ref())?.is_none() {
                self.refuse_erasing(user)?;
            }
        }
        Ok(())
    }

    /// A user has so many lessons at most. Looked at before anything is written, as the reports stand or fall together.
    fn refuse_too_many(&mut self, reports: &[Report]) -> Outcome<()> {
        let most = self.lessons_per_user;
        if most == 0 {
            return Ok(());
        }
        let mut new: HashMap<&UserId, HashSet<&LessonId>> = HashMap::new();
        for Report { user, update, key } in reports {
            if self.synced_before(key.as_ref())?.is_some() {
                continue;
            }
            let known = self.find_user(user)?.zip(self.find_lesson(&update.lesson)?);
            let is_known = match known {
                Some((user, lesson)) => self.t.progress.read()?.get(&k16(user, lesson))?.is_some(),
                None => false,
            };
            if !is_known {
                new.entry(user).or_default().insert(&update.lesson);
            }
        }
        for (user, lessons) in new {
            let has = match self.find_user(user)? {
                Some(no) => self.lesson_count(no)?,
                None => 0,
            };
            if has + lessons.len() as u64 > most {
                return Err(Refusal::TooManyLessons(user.clone(), most).into());
            }
        }
        Ok(())
    }

    fn synced_before(&mut self, key: Option<&RequestKey>) -> Outcome<Option<Synced>> {
        self.first_answer(key, |first| match first {
            First::Progress(row, merged) => Ok(Synced { progress: row.read()?, duplicate: true, merged }),
            _ => Err(Failure::Damaged("a report's key has another kind's answer".to_owned())),
        })
    }

    fn sync_one(&mut self, report: &Report) -> Outcome<Synced> {
        let Report { user, update, key: request_key } = report;
        // Once more: a report before it in this request may have been the first.
        if let Some(first) = self.synced_before(request_key.as_ref())? {
            return Ok(first);
        }
        let no = self.user(user)?;
        let lesson = self.lesson(&update.lesson)?;
        let key = k16(no, lesson);
        let before = get(self.t.progress.read()?, &key, |row| {
            let row: ProgressRow<'_> = decode(row)?;
            Ok((row.read()?, row.change))
        })?;
        let current = before.as_ref().map(|(progress, _)| progress);
        let merged = is_merged(current, update);
        let progress = merge(user, current, update, self.now);
        let id = self.take_id()?;
        if before.is_none() {
            self.count_lesson(no);
        }
        if let Some((_, change)) = before {
            self.t.progress_by_change.write()?.remove(&k16(no, change))?;
        }
        self.t.progress_by_change.write()?.insert(&k16(no, id), encode(&lesson, &mut self.buffer)?)?;
        let row = ProgressRow::of(&progress, id);
        self.t.progress.write()?.insert(&key, encode(&row, &mut self.buffer)?)?;
        self.t
            .progress_versions
            .write()?
            .insert(&k24(no, lesson, progress.version), encode(&row, &mut self.buffer)?)?;
        self.trim_versions(no, lesson, &progress)?;
        self.put_answer(request_key.as_ref(), First::Progress(row, merged))?;
        self.tell(Change::Progressed { id, progress: progress.clone() });
        Ok(Synced { progress, duplicate: false, merged })
    }

    fn trim_versions(&mut self, user: u64, lesson: u64, progress: &Progress) -> Outcome<()> {
        let Some(last) = progress.version.checked_sub(self.keep_versions).filter(|last| *last > 0) else {
            return Ok(());
        };
        // What is held is not lost to reports that come behind it.
        if !holds_on(self.t.holds.read()?, &Subject::User(progress.user.clone()))?.is_empty() {
            return Ok(());
        }
        // One at a time while the limit stays; several after it has been lowered.
        let mut old = Vec::new();
        for row in
            self.t.progress_versions.read()?.range::<&[u8; 24]>(&k24(user, lesson, 0)..=&k24(user, lesson, last))?
        {
            old.push(*row?.0.value());
        }
        for key in &old {
            self.t.progress_versions.write()?.remove(key)?;
        }
        Ok(())
    }
}
