//! Notifications with a time: what is sent later, what is over at a moment, what is taken back, and who has read it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::archive::moments::moment;
use crate::domain::audit::action;
use crate::domain::notification::{CountedNotice, MAX_TIMED, NotificationDraft, Times};
use crate::domain::{Refusal, Scope, Timestamp, UserId};
use crate::protocol::admin::access::{Listed, MAX_LISTED, ReasonRequest};
use crate::protocol::admin::notices::{
    NoticeListRequest, NoticeView, ReaderListRequest, ReaderView, Readers, Recalled, TargetView,
};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::realtime::live::Live;
use crate::services::access::reason_of;
use crate::services::errors::store_error;
use crate::services::pages::limit_within;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};
use crate::store::StoreError;
use crate::store::notices::{NoticeQuery, ReaderQuery, StateFilter};
use crate::store::operations::{Act, DoDue, DueDone, Recall, RequestKey, Schedule, Scheduled};

/// So far ahead a time may lie.
const FARTHEST: Duration = Duration::from_secs(2 * 366 * 24 * 60 * 60);
/// So many are listed without a word.
const DEFAULT_LISTED: usize = 50;
/// So much that is due is done by one transaction.
const DUE_SLICE: usize = 50;
/// It is not known when something is due next.
const UNKNOWN: u64 = 0;
/// Nothing is due.
const NEVER: u64 = u64::MAX;

/// Notifications as administrators see them.
#[derive(Debug, Clone)]
pub struct Notices {
    store: Storage,
    /// The JSON types of ids.
    live: Arc<Live>,
    /// When something is due next, in milliseconds since the epoch. What is scheduled meanwhile makes it unknown.
    next: Arc<AtomicU64>,
}

impl Notices {
    pub(super) fn new(store: Storage, live: Arc<Live>) -> Notices {
        Notices { store, live, next: Arc::new(AtomicU64::new(UNKNOWN)) }
    }

    /// The times of a notification, if they make sense.
    ///
    /// # Errors
    /// `invalid_payload`.
    pub(super) fn check(&self, times: Times) -> Result<(), ApiError> {
        let now = self.store.now();
        for (field, time) in [("at", times.at), ("until", times.until)] {
            let Some(time) = time else { continue };
            if time <= now {
                let message = format!("{field} must be in the future; it is {} now", moment(now));
                return Err(ApiError::field(field, message));
            }
            if time > now.plus(FARTHEST) {
                return Err(ApiError::field(field, format!("{field} must be within two years")));
            }
        }
        if let (Some(at), Some(until)) = (times.at, times.until)
            && until <= at
        {
            return Err(ApiError::field("until", "until must be later than at"));
        }
        Ok(())
    }

    /// Keeps a notification for its time, or sends it now and keeps when it is over.
    pub(super) async fn schedule(
        &self,
        caller: &Caller,
        draft: NotificationDraft,
        times: Times,
        key: Option<RequestKey>,
        act: Option<Act>,
    ) -> Result<Scheduled, ApiError> {
        let schedule = Schedule { draft, times, by: caller.actor.user.clone(), key };
        let scheduled = self.store.act(schedule, act).await.map_err(|error| match error {
            StoreError::Refused(Refusal::Conflict) => ApiError::new(
                ErrorCode::Conflict,
                format!("{MAX_TIMED} notifications wait for a time already; recall some, or wait until they are over"),
            ),
            other => store_error(other),
        })?;
        self.next.store(UNKNOWN, Ordering::Release);
        Ok(scheduled.answer)
    }

    /// Does what is due. Called every so often; where nothing is, it costs nothing. What was not done because the store took no write
    /// is done the next time.
    pub(super) async fn do_due(&self) {
        loop {
            let (next, now) = (self.next.load(Ordering::Acquire), self.store.now());
            if next > now.as_millis() {
                return;
            }
            let act = Caller::server().act(action::NOTIFICATION_DUE, String::new());
            let DueDone { sent, ended, next: then } = match self.store.write(DoDue { limit: DUE_SLICE, act }).await {
                Ok(done) => done,
                Err(error) => return tracing::debug!(%error, "what is due was not done; it is tried again"),
            };
            // What was scheduled in between has made it unknown: it stays so.
            let then = then.map_or(NEVER, |then| then.as_millis().max(1));
            let _ = self.next.compare_exchange(next, then, Ordering::AcqRel, Ordering::Acquire);
            if sent + ended == 0 {
                return;
            }
            tracing::info!(sent, ended, "notifications were sent or are over, as their times say");
        }
    }

    /// A part of all notifications, the newest first.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `unavailable`.
    pub async fn list(&self, caller: &Caller, request: NoticeListRequest) -> Result<Listed<NoticeView>, ApiError> {
        authorize(caller, Scope::Admin)?;
        let state = match request.state.as_deref() {
            None => None,
            Some("scheduled") => Some(StateFilter::Scheduled),
            Some("live") => Some(StateFilter::Live),
            Some("over") => Some(StateFilter::Over),
            Some(_) => return Err(ApiError::field("state", "state must be scheduled, live or over")),
        };
        let limit = limit_within(request.limit, DEFAULT_LISTED, MAX_LISTED)?;
        let page = self.store.notices(NoticeQuery { before: request.before, limit, state }).await;
        let page = page.map_err(store_error)?;
        let next = page.items.last().filter(|_| page.has_more).map(|last| last.notice.id.to_string());
        Ok(Listed { items: page.items.iter().map(|notice| self.view(notice)).collect(), next })
    }

    /// A notification as administrators see it.
    fn view(&self, counted: &CountedNotice) -> NoticeView {
        let mut view = NoticeView::from(counted);
        let named = |user: &mut UserId| *user = self.live.named(user.clone());
        view.by.iter_mut().chain(view.over_by.as_mut()).for_each(named);
        if let TargetView::User(user) = &mut view.target {
            named(user);
        }
        view
    }

    /// Who has read a notification, and who has not.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn readers(&self, caller: &Caller, id: u64, request: ReaderListRequest) -> Result<Readers, ApiError> {
        authorize(caller, Scope::Admin)?;
        let query = ReaderQuery {
            after: request.after.unwrap_or(0),
            limit: limit_within(request.limit, DEFAULT_LISTED, MAX_LISTED)?,
            read: request.read,
        };
        let page = self.store.readers(id, query).await.map_err(|error| not_there(error, id))?;
        Ok(Readers {
            notification: self.view(&page.notice),
            items: page.readers.into_iter().map(ReaderView::from).collect(),
            next: page.next.map(|next| next.to_string()),
        })
    }

    /// Takes a notification back from everybody.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `conflict` if it is over already, `unavailable`.
    pub async fn recall(&self, caller: &Caller, id: u64, request: ReasonRequest) -> Result<Recalled, ApiError> {
        authorize(caller, Scope::Admin)?;
        let note = reason_of(&request.reason)?;
        let act = Act { note, ..caller.act(action::NOTIFICATION_RECALL, format!("notification {id}")) };
        let recall = Recall { id, by: caller.actor.user.clone() };
        let recalled = self.store.act(recall, act).await.map_err(|error| match error {
            StoreError::Refused(Refusal::Conflict) => ApiError::new(
                ErrorCode::Conflict,
                format!("notification {id} is over or was recalled already; nothing is left to take back"),
            ),
            other => not_there(other, id),
        })?;
        let page = self.store.readers(id, ReaderQuery { after: u64::MAX - 1, limit: 1, read: None }).await;
        let page = page.map_err(|error| not_there(error, id))?;
        Ok(Recalled { was_sent: recalled.answer.sent.is_some(), notification: self.view(&page.notice) })
    }
}

/// What the audit log says of who gets what and when.
pub(super) fn words_of(times: Times) -> String {
    let word =
        |name: &str, time: Option<Timestamp>| time.map_or_else(String::new, |time| format!(" {name} {}", moment(time)));
    format!("{}{}", word("at", times.at), word("until", times.until))
}

fn not_there(error: StoreError, id: u64) -> ApiError {
    match error {
        StoreError::Refused(Refusal::NotFound) => ApiError::new(
            ErrorCode::NotFound,
            format!("there is no notification {id}; the list has those that are kept"),
        ),
        other => store_error(other),
    }
}
