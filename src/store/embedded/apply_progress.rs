//! What the writer does for progress: merges reports by [`crate::domain::progress`], a version each, all or none.

use std::collections::HashMap;

use redb::ReadableTable;

use super::batch::Batch;
use super::failure::{Failure, Outcome};
use super::records::{First, ProgressRow, decode, encode, get};
use super::schema::{KeyKind, answer_key, k16, k24};
use crate::domain::progress::{Progress, Update, is_merged, merge};
use crate::domain::{LessonId, Refusal, Timestamp, UserId};
use crate::store::{Change, Synced};

impl Batch<'_, '_> {
    pub(super) fn sync(&mut self, user: &UserId, updates: &[Update], at: Timestamp) -> Outcome<Vec<Synced>> {
        self.refuse_mixed_keys(user, updates)?;
        let mut answers = Vec::with_capacity(updates.len());
        for update in updates {
            answers.push(self.sync_one(user, update, at)?);
        }
        Ok(answers)
    }

    /// A key that names reports of two lessons is a mistake of the device; taking the second for a repetition would lose
    /// it without a word. Looked at before anything is written, as the reports stand or fall together.
    fn refuse_mixed_keys(&mut self, user: &UserId, updates: &[Update]) -> Outcome<()> {
        let known = self.find_user(user)?;
        let mut seen: HashMap<&str, &LessonId> = HashMap::new();
        for update in updates {
            let Some(sync_id) = &update.sync_id else { continue };
            let here = seen.insert(sync_id, &update.lesson);
            if here.is_some_and(|lesson| *lesson != update.lesson) {
                return Err(Refusal::Conflict.into());
            }
            if let Some(user) = known
                && let Some(first) = self.synced_before(user, sync_id)?
                && first.progress.lesson != update.lesson
            {
                return Err(Refusal::Conflict.into());
            }
        }
        Ok(())
    }

    fn synced_before(&self, user: u64, sync_id: &str) -> Outcome<Option<Synced>> {
        self.first_answer(&answer_key(user, KeyKind::Progress, sync_id), |first| match first {
            First::Progress(row, merged) => Ok(Synced { progress: row.read()?, duplicate: true, merged }),
            _ => Err(Failure::Damaged("a report's key has another kind's answer".to_owned())),
        })
    }

    fn sync_one(&mut self, user: &UserId, update: &Update, at: Timestamp) -> Outcome<Synced> {
        let no = self.user(user)?;
        if let Some(sync_id) = &update.sync_id
            && let Some(first) = self.synced_before(no, sync_id)?
        {
            return Ok(first);
        }
        let lesson = self.lesson(&update.lesson)?;
        let key = k16(no, lesson);
        let before = get(self.t.progress.read()?, &key, |row| {
            let row: ProgressRow<'_> = decode(row)?;
            Ok((row.read()?, row.change))
        })?;
        let current = before.as_ref().map(|(progress, _)| progress);
        let merged = is_merged(current, update);
        let progress = merge(user, current, update, at);
        let id = self.take_id()?;
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
        if let Some(sync_id) = &update.sync_id {
            self.put_answer(&answer_key(no, KeyKind::Progress, sync_id), First::Progress(row, merged))?;
        }
        self.tell(Change::Progressed { id, progress: progress.clone() });
        Ok(Synced { progress, duplicate: false, merged })
    }

    fn trim_versions(&mut self, user: u64, lesson: u64, progress: &Progress) -> Outcome<()> {
        let Some(last) = progress.version.checked_sub(self.keep_versions).filter(|last| *last > 0) else {
            return Ok(());
        };
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
