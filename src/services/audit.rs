//! The audit log: administrative acts as they are done, and refused sign-ins, gathered ([`RefusedSignIns`]) so that somebody who
//! tries a thousand tokens fills neither the audit log nor the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::archive::format::AuditPoint;
use crate::domain::audit::{AuditRecord, action};
use crate::domain::{Scope, UserId, normal_form};
use crate::protocol::admin::data::{AuditFound, AuditPage, AuditSearch, AuditView, LinkView};
use crate::protocol::error::ApiError;
use crate::store::operations::{Act, Record};
use crate::store::{AuditPart, StoreError};

use crate::realtime::live::Live;
use crate::services::errors::store_error;
use crate::services::refused_sign_ins::RefusedSignIns;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};

/// The most records that one call gives.
const MOST: usize = 1_000;
/// The most pages that one search looks through.
const SEARCHED: usize = 20;

/// The audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Storage,
    /// Whose counters refused sign-ins are among.
    live: Arc<Live>,
    /// Refused sign-ins that are not yet recorded.
    refusals: Arc<RefusedSignIns>,
    /// The day on which the end of the audit log was logged last.
    head_logged_on: Arc<AtomicU64>,
}

impl Audit {
    pub(super) fn new(store: Storage, live: Arc<Live>) -> Audit {
        Audit { store, live, refusals: Arc::default(), head_logged_on: Arc::default() }
    }

    /// Notes that a token was not good, of a network ([`network_of`] in words). It is in the audit log within a minute, together
    /// with others of the same network.
    ///
    /// [`network_of`]: crate::transport::origin::network_of
    pub fn note_refused_sign_in(&self, error: &ApiError, network: &str) {
        let code = error.code.as_str();
        self.live.counters().refused_sign_ins.add(code);
        self.refusals.add(network, code, self.store.now(), Instant::now());
    }

    /// How many refused sign-ins of today have no record of their own, because the day has as many as it may have.
    #[must_use]
    pub fn refused_beyond_records(&self) -> u64 {
        self.refusals.beyond()
    }

    /// Puts the refused sign-ins that are due into the audit log: no more than `most` records a day (0: no bound). `is_end`:
    /// whether there is no later time for those that are not.
    pub(super) async fn record_refusals(&self, most: u32, is_end: bool) {
        let mut entries = self.refusals.take(most, self.store.now(), Instant::now(), is_end).into_iter();
        while let Some(entry) = entries.next() {
            if let Err(error) = self.store.write(Record { entry: entry.clone() }).await {
                let left = 1 + entries.len();
                tracing::warn!(%error, left, "refused sign-ins are not in the audit trail yet; retrying");
                self.refusals.keep(std::iter::once(entry).chain(entries).collect());
                return;
            }
        }
    }

    /// Logs where the audit log ends: at the start and once a day. The log is kept elsewhere, so that an audit log that was cut
    /// back or rewritten as a whole is found by it (`audit verify --expect`).
    pub(super) async fn log_head(&self) {
        // Behind the first day of the calendar; 0 is "never".
        let day = 1 + self.store.now().day();
        if self.head_logged_on.load(Ordering::Relaxed) == day {
            return;
        }
        match self.store.audit_ends().await {
            Ok((_, head)) => {
                tracing::info!(head = %AuditPoint::from(head), "the audit trail ends with this record");
                self.head_logged_on.store(day, Ordering::Relaxed);
            }
            Err(error) => tracing::warn!(%error, "could not read the last record of the audit trail; it is not logged"),
        }
    }

    /// Records that the server has found other keys in its files. Who has put them there it cannot know.
    pub async fn record_keys(&self, changes: String) {
        let caller = Caller::server();
        let act = Act { note: changes, ..caller.act(action::KEYS, String::new()) };
        let entry = act.entry(self.store.now(), "done");
        if let Err(error) = self.store.write(Record { entry }).await {
            tracing::error!(%error, changes = act.note, "could not record a change of keys in the audit trail");
        }
    }

    /// A part of the audit log: records behind a number, ascending.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn page(&self, caller: &Caller, after: u64, limit: usize) -> Result<AuditPage, ApiError> {
        authorize(caller, Scope::Admin)?;
        let limit = limit.clamp(1, MOST);
        // Of one moment: a record that comes in between would look like a broken end.
        let AuditPart { records, anchor, head } =
            self.store.audit_records(after, limit + 1).await.map_err(store_error)?;
        let has_more = records.len() > limit;
        let items = records.iter().take(limit).map(AuditView::from).collect();
        Ok(AuditPage { items, has_more, anchor: LinkView::from(anchor), head: LinkView::from(head) })
    }

    /// The newest record of a block of somebody, if it is among those that one search looks through.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn last_block(&self, caller: &Caller, user: &UserId) -> Result<Option<AuditView>, ApiError> {
        authorize(caller, Scope::Users)?;
        let target = format!("user {user}");
        let search = AuditSearch {
            action: Some(action::USER_BLOCK.into()),
            target: Some(target.clone()),
            ..AuditSearch::default()
        };
        let found = self.searched(&search, |record| normal_form(&record.entry.target) == target, 1).await?;
        Ok(found.items.into_iter().next())
    }

    /// Records that fit a search, the newest first. One call looks through [`SEARCHED`] pages at most.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn search(&self, caller: &Caller, search: &AuditSearch, limit: usize) -> Result<AuditFound, ApiError> {
        authorize(caller, Scope::Admin)?;
        self.searched(search, |_| true, limit.clamp(1, MOST)).await
    }

    async fn searched(
        &self,
        search: &AuditSearch,
        fits: impl Fn(&AuditRecord) -> bool + Send,
        limit: usize,
    ) -> Result<AuditFound, ApiError> {
        let (anchor, head) = self.store.audit_ends().await.map_err(store_error)?;
        let mut before = search.before.unwrap_or(u64::MAX).min(head.number.saturating_add(1));
        let mut items = Vec::new();
        for _ in 0..SEARCHED {
            if before <= anchor.number.saturating_add(1) {
                return Ok(AuditFound { items, next: None });
            }
            let after = before.saturating_sub(MOST as u64 + 1).max(anchor.number);
            let page = self.store.audit_records(after, MOST).await.map_err(store_error)?;
            for record in page.records.iter().rev().filter(|record| record.number < before) {
                if items.len() == limit {
                    return Ok(AuditFound { items, next: Some(record.number.saturating_add(1)) });
                }
                if search.fits(record) && fits(record) {
                    items.push(AuditView::from(record));
                }
            }
            before = after.saturating_add(1);
        }
        Ok(AuditFound { items, next: Some(before) })
    }
}

/// Records that somebody reads what is to be read by few: before they do. Reading goes on where nothing can be stored any
/// more, as it is wanted most of all then: what is missing in the audit log is in the log.
///
/// # Errors
/// `unavailable`, where the store could have taken the record and did not.
pub(super) async fn record_reading(
    store: &Storage,
    caller: &Caller,
    action: &'static str,
    target: String,
) -> Result<(), ApiError> {
    let act = caller.act(action, target);
    let outcome = if action == action::BACKUP { "begun" } else { "done" };
    match store.write(Record { entry: act.entry(store.now(), outcome) }).await {
        Ok(_) => Ok(()),
        Err(StoreError::Full(why)) => {
            tracing::error!(%why, actor = act.actor, origin = act.origin, action, target = act.target,
                "the disk is too full for a record of the audit trail; this act is only in the log");
            Ok(())
        }
        // A backup is wanted most of all where nothing can be written any more.
        Err(StoreError::Unavailable(why)) if action == action::BACKUP => {
            tracing::error!(%why, actor = act.actor, origin = act.origin, action, target = act.target,
                "the store takes no record of the audit trail; this backup is only in the log");
            Ok(())
        }
        Err(error) => Err(store_error(error)),
    }
}
