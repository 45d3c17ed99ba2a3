//! Progress reports: checked here, merged by [`crate::domain::progress`] inside the store's transaction.

use std::sync::Arc;

use crate::domain::progress::{MAX_TIME_SPENT, Update};
use crate::domain::{Refusal, Scope, UserId};
use crate::protocol::answer::{ProgressItems, ProgressSynced, ProgressVersions};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::request::{MAX_SYNC_BATCH, ProgressGet, ProgressHistory, ProgressSync, check_key};
use crate::protocol::view::ProgressView;
use crate::store::operations::{Report, SyncProgress};
use crate::store::{LessonFilter, LessonPage, StoreError};

use crate::services::errors::store_error;
use crate::services::limits::{Rate, Rates, StoreQuota};
use crate::services::pages::{fitting, limit_of};
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};

/// What a report adds to the store, about.
const BYTES_A_REPORT: usize = 250;
/// What each further report of a batch costs: its first is counted by the rate.
const POINTS_A_REPORT: usize = 2;

/// Reports of lessons, and what is known of them.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Lessons and their versions.
    store: Storage,
    /// How often somebody may report.
    rates: Arc<Rates>,
}

impl Progress {
    pub(super) fn new(store: Storage, rates: Arc<Rates>) -> Progress {
        Progress { store, rates }
    }

    /// Stores reports, all or none, in their order.
    ///
    /// # Errors
    /// `invalid_payload`, `too_large`, `rate_limited`, `unavailable`.
    pub async fn sync(&self, caller: &Caller, reports: Vec<ProgressSync>) -> Result<Vec<ProgressSynced>, ApiError> {
        if reports.len() > MAX_SYNC_BATCH {
            let message = format!("a batch may have at most {MAX_SYNC_BATCH} reports; send the rest in another one");
            return Err(ApiError::new(ErrorCode::TooLarge, message));
        }
        for report in &reports {
            check_key("syncId", report.sync_id.as_deref())?;
            if report.time_spent > MAX_TIME_SPENT {
                let message = format!("timeSpent must be 0 to {MAX_TIME_SPENT} seconds");
                return Err(ApiError::field("timeSpent", message));
            }
        }
        let mut all = Vec::with_capacity(reports.len());
        for mut report in reports {
            let user = on_behalf(caller, report.user_id.take())?;
            all.push(Report::new(&caller.actor.user, user, Update::from(report)));
        }
        // A batch that was answered as a whole is answered again.
        let keys: Vec<_> = all.iter().map(|report| report.key.as_ref()).collect();
        self.rates.count_once(&self.store, Rate::Syncs, &caller.actor, &keys).await?;
        self.rates.charge_points(
            &caller.actor,
            u32::try_from(all.len().saturating_sub(1) * POINTS_A_REPORT).unwrap_or(u32::MAX),
        )?;
        let bytes = self.rates.claim_bytes(&self.store, &caller.actor, all.len() * BYTES_A_REPORT, &keys).await?;
        let synced = self.store.write(SyncProgress { reports: all }).await;
        if let Some(bytes) = bytes {
            let new = synced.as_ref().map_or(0, |synced| synced.iter().filter(|one| !one.duplicate).count());
            bytes.settle(new * BYTES_A_REPORT);
        }
        if let Err(StoreError::Refused(Refusal::TooManyLessons(user, _))) = &synced {
            self.rates.note_refused(StoreQuota::Lessons, user, self.store.now());
        }
        let synced = synced.map_err(store_error)?;
        Ok(synced
            .into_iter()
            .map(|one| ProgressSynced { progress: one.progress, duplicate: one.duplicate, merged: one.merged })
            .collect())
    }

    /// What is known of the user's lessons.
    ///
    /// # Errors
    /// `invalid_payload`, `resync`, `unavailable`.
    pub async fn get(&self, caller: &Caller, request: ProgressGet) -> Result<ProgressItems, ApiError> {
        let user = on_behalf(caller, request.user_id)?;
        let since = request.since.as_deref().map(|cursor| self.store.read_cursor(&user, cursor)).transpose()?;
        let limit = Some(limit_of(request.limit)?);
        let filter = LessonFilter { lesson: request.lesson_id, course: request.course_id, since, limit };
        let LessonPage { mut items, mut up_to, mut has_more } =
            self.store.progress(user.clone(), filter).await.map_err(store_error)?;
        let fit = fitting(items.iter().map(|(progress, _)| ProgressView::from(progress)));
        if fit < items.len() {
            items.truncate(fit);
            has_more = true;
            up_to = items.last().map_or(up_to, |(_, change)| *change);
        }
        let items = items.into_iter().map(|(progress, _)| progress).collect();
        Ok(ProgressItems { items, cursor: self.store.write_cursor(&user, [up_to]), has_more })
    }

    /// The kept versions of a lesson.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn history(&self, caller: &Caller, request: ProgressHistory) -> Result<ProgressVersions, ApiError> {
        let user = on_behalf(caller, request.user_id)?;
        let mut versions = self.store.progress_history(user, request.lesson_id).await.map_err(store_error)?;
        let cut = versions.len() - fitting(versions.iter().rev().map(ProgressView::from));
        versions.drain(..cut);
        Ok(ProgressVersions { versions, has_more: cut > 0 })
    }
}

/// Whose progress is meant: the caller's, or that of whom a back end names.
fn on_behalf(caller: &Caller, named: Option<UserId>) -> Result<UserId, ApiError> {
    match named {
        Some(user) if user != caller.actor.user => {
            authorize(caller, Scope::Progress)?;
            Ok(user)
        }
        _ => Ok(caller.actor.user.clone()),
    }
}
