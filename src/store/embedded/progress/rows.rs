//! Rows of a lesson's progress.

use serde::{Deserialize, Serialize};

use crate::domain::progress::{Percent, Progress};
use crate::domain::{LessonId, Timestamp};
use crate::store::embedded::engine::codec::{IdRow, status_code, status_of};
use crate::store::embedded::engine::failure::{Failure, Outcome};

/// A lesson's progress, with the change that told of it.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct ProgressRow<'a> {
    #[serde(borrow)]
    user: IdRow<'a>,
    #[serde(borrow)]
    lesson: IdRow<'a>,
    progress: f64,
    time_spent: u64,
    status: u8,
    version: u64,
    #[serde(borrow)]
    course: Option<IdRow<'a>>,
    #[serde(borrow)]
    module: Option<IdRow<'a>>,
    updated_at: u64,
    completed_at: Option<u64>,
    pub(in crate::store::embedded) change: u64,
}

impl<'a> ProgressRow<'a> {
    pub(in crate::store::embedded) fn of(progress: &'a Progress, change: u64) -> ProgressRow<'a> {
        ProgressRow {
            user: progress.user.id().into(),
            lesson: progress.lesson.id().into(),
            progress: progress.progress.value(),
            time_spent: progress.time_spent,
            status: status_code(progress.status),
            version: progress.version,
            course: progress.course.as_ref().map(|id| id.id().into()),
            module: progress.module.as_ref().map(|id| id.id().into()),
            updated_at: progress.updated_at.0,
            completed_at: progress.completed_at.map(Timestamp::as_millis),
            change,
        }
    }

    /// Whether the lesson is of this course; of any where none is named.
    pub(in crate::store::embedded) fn is_of(&self, course: Option<&LessonId>) -> Outcome<bool> {
        let Some(course) = course else { return Ok(true) };
        let of = self.course.map(IdRow::lesson);
        Ok(of.as_ref() == Some(course))
    }

    pub(in crate::store::embedded) fn read(&self) -> Outcome<Progress> {
        Ok(Progress {
            user: self.user.user(),
            lesson: self.lesson.lesson(),
            progress: Percent::new(self.progress)
                .ok_or_else(|| Failure::Damaged(format!("{} is no share of a lesson", self.progress)))?,
            time_spent: self.time_spent,
            status: status_of(self.status)?,
            version: self.version,
            course: self.course.map(IdRow::lesson),
            module: self.module.map(IdRow::lesson),
            updated_at: Timestamp(self.updated_at),
            completed_at: self.completed_at.map(Timestamp),
        })
    }
}
