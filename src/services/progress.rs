//! Progress reports: checked here, merged by [`crate::domain::progress`] inside the store's transaction.

use crate::contract::answers::{ProgressItems, ProgressSynced, ProgressVersions};
use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::requests::{MAX_SYNC_BATCH, ProgressGet, ProgressHistory, ProgressSync, check_key};
use crate::domain::progress::MAX_TIME_SPENT;
use crate::store::LessonFilter;

use super::limits::Rate;
use super::{Caller, Services, store_error};

impl Services {
    /// Stores reports, all or none, in their order.
    ///
    /// # Errors
    /// `invalid_payload`, `too_large`, `rate_limited`, `unavailable`.
    pub async fn sync(&self, caller: &Caller, reports: Vec<ProgressSync>) -> Result<Vec<ProgressSynced>, WireError> {
        if reports.len() > MAX_SYNC_BATCH {
            let message = format!("a batch may have at most {MAX_SYNC_BATCH} reports; send the rest in another one");
            return Err(WireError::new(ErrorCode::TooLarge, message));
        }
        for report in &reports {
            check_key("syncId", report.sync_id.as_deref())?;
            if report.time_spent > MAX_TIME_SPENT {
                let message = format!("timeSpent must be 0 to {MAX_TIME_SPENT} seconds");
                return Err(WireError::field("timeSpent", message));
            }
        }
        self.count(Rate::Syncs, &caller.actor.user)?;
        let updates = reports.into_iter().map(Into::into).collect();
        let synced =
            self.store.sync_progress(caller.actor.user.clone(), updates, self.now()).await.map_err(store_error)?;
        Ok(synced
            .into_iter()
            .map(|one| ProgressSynced { progress: one.progress, duplicate: one.duplicate, merged: one.merged })
            .collect())
    }

    /// What is known of the user's lessons.
    ///
    /// # Errors
    /// `resync`, `unavailable`.
    pub async fn progress(&self, caller: &Caller, request: ProgressGet) -> Result<ProgressItems, WireError> {
        let since = request.since.as_deref().map(|cursor| self.read_cursor(cursor)).transpose()?;
        let filter = LessonFilter { lesson: request.lesson_id, course: request.course_id, since };
        let (items, up_to) = self.store.progress(caller.actor.user.clone(), filter).await.map_err(store_error)?;
        Ok(ProgressItems { items, cursor: self.cursor(up_to) })
    }

    /// The kept versions of a lesson.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn progress_history(
        &self,
        caller: &Caller,
        request: ProgressHistory,
    ) -> Result<ProgressVersions, WireError> {
        let versions =
            self.store.progress_history(caller.actor.user.clone(), request.lesson_id).await.map_err(store_error)?;
        Ok(ProgressVersions { versions })
    }
}
