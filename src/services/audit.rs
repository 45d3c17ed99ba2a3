//! The audit log: administrative acts as they are done, and refused sign-ins, gathered so that somebody who tries a
//! thousand tokens fills neither the audit log nor the disk.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::archive::format::AuditPoint;
use crate::domain::audit::{AuditEntry, action};
use crate::domain::{Scope, Timestamp};
use crate::protocol::admin::data::{AuditPage, AuditView, LinkView};
use crate::protocol::error::ApiError;
use crate::store::operations::{Act, Record};
use crate::store::{AuditPart, StoreError};

use crate::realtime::live::Live;
use crate::services::errors::store_error;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};

/// So many kinds of refused sign-ins (address and reason) are distinguished between two records; more are counted together.
const KINDS: usize = 64;
/// So many records that the store did not take are kept.
const KEPT: usize = 4 * KINDS;
/// The most records that one call gives.
const MOST: usize = 1_000;

/// Refused sign-ins that are not yet recorded.
#[derive(Debug, Default)]
struct Refusals {
    gathered: Mutex<Gathered>,
    /// Records that the store did not take; at most [`KEPT`].
    kept: Mutex<Vec<AuditEntry>>,
}

#[derive(Debug, Default)]
struct Gathered {
    /// (address, reason): since when, and how often.
    kinds: HashMap<(String, &'static str), (Timestamp, u64)>,
    /// Beyond those.
    others: u64,
}

impl Refusals {
    fn add(&self, origin: &str, code: &'static str, at: Timestamp) {
        let mut gathered = self.gathered.lock();
        let key = (origin.to_owned(), code);
        if gathered.kinds.len() >= KINDS && !gathered.kinds.contains_key(&key) {
            gathered.others += 1;
            return;
        }
        gathered.kinds.entry(key).or_insert((at, 0)).1 += 1;
    }

    /// What was gathered since, and before it what the store did not take.
    fn take(&self) -> (Vec<AuditEntry>, Gathered) {
        let kept = std::mem::take(&mut *self.kept.lock());
        (kept, std::mem::take(&mut *self.gathered.lock()))
    }

    /// Keeps records for later. If there are too many, the oldest stay, because they show how it began, and the rest is only logged.
    fn keep(&self, mut entries: Vec<AuditEntry>) {
        if entries.len() > KEPT {
            tracing::error!(lost = entries.len() - KEPT, "dropped records of refused sign-ins: the store accepts none");
            entries.truncate(KEPT);
        }
        *self.kept.lock() = entries;
    }
}

/// The audit log.
#[derive(Debug, Clone)]
pub struct Audit {
    store: Storage,
    /// Whose counters refused sign-ins are among.
    live: Arc<Live>,
    /// Refused sign-ins that are not yet recorded.
    refusals: Arc<Refusals>,
    /// The day on which the end of the audit log was logged last.
    head_logged_on: Arc<AtomicU64>,
}

impl Audit {
    pub(super) fn new(store: Storage, live: Arc<Live>) -> Audit {
        Audit { store, live, refusals: Arc::default(), head_logged_on: Arc::default() }
    }

    /// Notes that a token was not good. It is in the audit log within some seconds, together with others like it.
    pub fn note_refused_sign_in(&self, error: &ApiError, origin: &str) {
        self.live.counters().refused_sign_ins.add(error.code.as_str());
        self.refusals.add(origin, error.code.as_str(), self.store.now());
    }

    /// Puts the refused sign-ins that were noted into the audit log.
    pub(super) async fn record_refusals(&self) {
        let (kept, gathered) = self.refusals.take();
        let mut entries: Vec<AuditEntry> =
            gathered.kinds.into_iter().map(|((origin, code), (at, count))| refusal(at, origin, code, count)).collect();
        entries.extend(kept);
        entries.sort_by_key(|entry| entry.at);
        if gathered.others > 0 {
            entries.push(refusal(self.store.now(), "many addresses".to_owned(), "various", gathered.others));
        }
        let mut entries = entries.into_iter();
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

fn refusal(at: Timestamp, origin: String, code: &'static str, count: u64) -> AuditEntry {
    let times = if count == 1 { String::new() } else { format!(", {count} times") };
    AuditEntry {
        at,
        actor: String::new(),
        origin,
        action: action::SIGN_IN.to_owned(),
        target: String::new(),
        outcome: format!("refused: {code}{times}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_kind_and_bounded() {
        let refusals = Refusals::default();
        for n in 0..KINDS + 5 {
            refusals.add(&format!("10.0.0.{n}"), "token_expired", Timestamp(1));
        }
        refusals.add("10.0.0.0", "token_expired", Timestamp(2));
        let (_, gathered) = refusals.take();
        assert_eq!((gathered.kinds.len(), gathered.others), (KINDS, 5));
        assert_eq!(gathered.kinds.get(&("10.0.0.0".to_owned(), "token_expired")), Some(&(Timestamp(1), 2)));
        assert_eq!(refusal(Timestamp(1), "x".into(), "token_expired", 2).outcome, "refused: token_expired, 2 times");
        assert!(refusals.take().1.kinds.is_empty());
    }
}
