//! Reads of lessons' progress and of its versions.

use crate::domain::progress::Progress;
use crate::domain::{LessonId, UserId};
use crate::store::embedded::engine::codec::{decode, get, get_number};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, k16, k24};
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::{LessonFilter, LessonPage};

impl Snapshot {
    /// What is known of a user's lessons, no more of it than is asked for. Of one course the rows of the others are passed by:
    /// there is no index of courses.
    pub(in crate::store::embedded) fn progress_of(&self, user: &UserId, filter: &LessonFilter) -> Outcome<LessonPage> {
        let since = filter.since.unwrap_or(0);
        let last = self.check_cursor(since)?;
        let mut page = LessonPage { up_to: last, ..LessonPage::default() };
        let Some(no) = self.find_user(user)? else { return Ok(page) };
        let table = self.progress()?;
        let limit = filter.limit.unwrap_or(usize::MAX);
        // `false` when there is one too many.
        let mut take = |lesson: u64| -> Outcome<bool> {
            let wanted = get(&table, &k16(no, lesson), |row| {
                let row: ProgressRow<'_> = decode(row)?;
                let is_wanted = row.change > since && row.is_of(filter.course.as_ref())?;
                Ok(if is_wanted { Some((row.read()?, row.change)) } else { None })
            })?;
            let Some(wanted) = wanted.flatten() else { return Ok(true) };
            page.has_more = page.items.len() >= limit;
            if !page.has_more {
                page.items.push(wanted);
            }
            Ok(!page.has_more)
        };
        if let Some(lesson) = &filter.lesson {
            if let Some(lesson) = self.find_lesson(lesson)? {
                take(lesson)?;
            }
        } else {
            let behind = k16(no, since.saturating_add(1));
            for row in self.progress_by_change()?.range::<&[u8; 16]>(&behind..=&k16(no, u64::MAX))? {
                if !take(decode(row?.1.value())?)? {
                    break;
                }
            }
        }
        if page.has_more {
            page.up_to = page.items.last().map_or(since, |(_, change)| *change);
        }
        Ok(page)
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
