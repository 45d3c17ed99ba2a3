//! Reads of lessons' progress and of its versions.

use crate::domain::progress::Progress;
use crate::domain::{LessonId, UserId};
use crate::store::LessonFilter;
use crate::store::embedded::engine::codec::{decode, get, get_number};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, k16, k24};
use crate::store::embedded::progress::rows::ProgressRow;

impl Snapshot {
    pub(in crate::store::embedded) fn progress_of(
        &self,
        user: &UserId,
        filter: &LessonFilter,
    ) -> Outcome<(Vec<Progress>, u64)> {
        let since = filter.since.unwrap_or(0);
        let last = self.check_cursor(since)?;
        let Some(no) = self.find_user(user)? else { return Ok((Vec::new(), last)) };
        let table = self.progress()?;
        let mut items = Vec::new();
        let mut take = |lesson: u64| -> Outcome<()> {
            let row = get(&table, &k16(no, lesson), |row| {
                let row: ProgressRow<'_> = decode(row)?;
                Ok((row.read()?, row.change))
            })?;
            let Some((progress, change)) = row else { return Ok(()) };
            let in_course = filter.course.is_none() || filter.course == progress.course;
            if change > since && in_course {
                items.push(progress);
            }
            Ok(())
        };
        if let Some(lesson) = &filter.lesson {
            if let Some(lesson) = self.find_lesson(lesson)? {
                take(lesson)?;
            }
        } else {
            let behind = k16(no, since.saturating_add(1));
            for row in self.progress_by_change()?.range::<&[u8; 16]>(&behind..=&k16(no, u64::MAX))? {
                take(decode(row?.1.value())?)?;
            }
        }
        Ok((items, last))
    }

    fn find_lesson(&self, lesson: &LessonId) -> Outcome<Option<u64>> {
        get_number(&self.lesson_no()?, lesson.canonical().as_bytes())
    }

    pub(in crate::store::embedded) fn versions_of(&self, user: &UserId, lesson: &LessonId) -> Outcome<Vec<Progress>> {
        let Some(user) = self.find_user(user)? else { return Ok(Vec::new()) };
        let Some(lesson) = self.find_lesson(lesson)? else { return Ok(Vec::new()) };
        let table = self.progress_versions()?;
        table
            .range::<&[u8; 24]>(&k24(user, lesson, 0)..=&k24(user, lesson, u64::MAX))?
            .map(|row| decode::<ProgressRow<'_>>(row?.1.value())?.read())
            .collect()
    }
}
