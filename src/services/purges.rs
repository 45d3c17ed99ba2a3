//! What goes by its age: chat, notifications and records of the audit log, as `[retention]` says. Where the clock has gone
//! ahead nothing is purged for a while: if it is wrong, there is time to put it right before anything is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::config::Retention;
use crate::domain::Timestamp;
use crate::domain::audit::action;
use crate::domain::privacy::PurgeKind;
use crate::observability::clock_watch::Jump;
use crate::services::Caller;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::store::StoreError;
use crate::store::operations::{AwaitedTarget, Purge, PurgeCursor, Record};

/// After the clock has gone ahead nothing is purged by age for so long.
const REST: Duration = Duration::from_secs(60 * 60);
/// So many things are looked at by one transaction of a purge.
const PURGE_SLICE: usize = 250;
/// So many records of the audit log are looked at at a time, so often, for purges that were cut off.
const LOOK_BACK: usize = 1_000;
const LOOKED_BACK: usize = 20;
/// Between two slices of a purge the writer is others' for so long.
const PURGE_PAUSE: Duration = Duration::from_millis(5);

/// From which age on something of a kind is purged; `None`: never.
fn age_of(retention: &Retention, kind: PurgeKind) -> Option<Duration> {
    match kind {
        PurgeKind::Chat => retention.chat,
        PurgeKind::Notifications => retention.notifications,
        PurgeKind::Audit => retention.audit,
    }
}

/// The shortest age that is set.
pub(super) fn shortest_age(retention: &Retention) -> Option<Duration> {
    PurgeKind::ALL.into_iter().filter_map(|kind| age_of(retention, kind)).min()
}

/// Purges by age.
#[derive(Debug, Clone)]
pub struct Purges {
    /// What is purged.
    store: Storage,
    /// The ages.
    settings: Arc<LiveSettings>,
    /// Whether it was looked for purges that the end of an earlier server has cut off.
    has_looked_back: Arc<AtomicBool>,
    /// The server is about to stop: a purge ends at its next slice.
    ending: CancellationToken,
    /// Nothing is purged before this.
    rest_until: Arc<Mutex<Option<Instant>>>,
}

impl Purges {
    pub(super) fn new(store: Storage, settings: Arc<LiveSettings>, ending: CancellationToken) -> Purges {
        Purges { store, settings, has_looked_back: Arc::default(), ending, rest_until: Arc::default() }
    }

    /// The machine's clock was set. Tokens go by the new time from here on; what is old by it is not purged for a while.
    pub fn note_clock_jump(&self, jump: Jump) {
        let seconds = jump.by.as_secs();
        if jump.is_ahead {
            *self.rest_until.lock() = Some(Instant::now() + REST);
            tracing::warn!(seconds, "the clock jumped ahead, or the machine slept; tokens expire by the new time");
        } else {
            tracing::warn!(seconds, "the clock was set back; tokens expire by the new time");
        }
    }

    /// Purges what is older than `[retention]` says, beside the traffic. Called from time to time.
    pub(super) async fn purge_by_age(&self) {
        let rests_until = *self.rest_until.lock();
        if rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        if !self.has_looked_back.swap(true, Ordering::Relaxed)
            && let Err(error) = self.end_those_cut_off().await
        {
            self.has_looked_back.store(false, Ordering::Relaxed);
            tracing::warn!(%error, "it is not known yet whether a purge was cut off when the server ended last; looking again");
        }
        for kind in PurgeKind::ALL {
            let Some(age) = age_of(&self.settings.get().retention, kind) else { continue };
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let before = Timestamp(self.store.now().as_millis().saturating_sub(age_ms));
            match self.purge(kind, before).await {
                Ok((0, _)) => {}
                Ok((purged, held)) => {
                    tracing::info!(kind = kind.as_str(), purged, held, "purged by age");
                }
                Err(error) => tracing::warn!(%error, kind = kind.as_str(), "a purge stopped; retrying"),
            }
        }
    }

    /// A purge that a kill or a failure of the machine has cut off has a record of its beginning, and none of its end: it is written
    /// at the first look behind the next start.
    async fn end_those_cut_off(&self) -> Result<(), StoreError> {
        let (anchor, head) = self.store.audit_ends().await?;
        let mut open: Vec<&str> = PurgeKind::ALL.iter().map(|kind| kind.as_str()).collect();
        let mut cut_off = Vec::new();
        let mut before = head.number;
        for _ in 0..LOOKED_BACK {
            let after = before.saturating_sub(LOOK_BACK as u64).max(anchor.number);
            let page = self.store.audit_records(after, LOOK_BACK).await?;
            for record in page.records.iter().rev().filter(|record| record.number <= before) {
                let entry = &record.entry;
                let Some(at) = open.iter().position(|kind| entry.action == action::PURGE && entry.target == *kind)
                else {
                    continue;
                };
                let kind = open.swap_remove(at);
                if entry.outcome == "begun" {
                    cut_off.push((kind, record.number));
                }
            }
            before = after;
            if open.is_empty() || before <= anchor.number {
                break;
            }
        }
        for (kind, number) in cut_off {
            let outcome = format!(
                "stopped: the server ended before it did, so how many were purged since record {number} is not known; the next purge goes on"
            );
            let act = Caller::server().act(action::PURGE, kind.to_owned());
            self.store.write(Record { entry: act.entry(self.store.now(), &outcome) }).await?;
        }
        Ok(())
    }

    /// Who the audit log is forwarded to.
    fn awaited(&self) -> Option<AwaitedTarget> {
        let settings = self.settings.get();
        let target = settings.audit.forward.as_ref()?.to_string();
        Some(AwaitedTarget { target, most: settings.audit.forward_backlog })
    }

    async fn purge(&self, kind: PurgeKind, before: Timestamp) -> Result<(u64, u64), StoreError> {
        let server = Caller::server();
        let mut cursor = PurgeCursor::default();
        loop {
            let act = server.act(action::PURGE, kind.as_str().to_owned());
            let forwarded_to = self.awaited();
            let purge = Purge { kind, before, cursor, limit: PURGE_SLICE, forwarded_to, act };
            let step = self.store.write(purge).await?;
            let (purged, held) = (cursor.purged + step.purged, cursor.held + step.held);
            if step.unforwarded > 0 {
                let most = self.settings.get().audit.forward_backlog;
                tracing::error!(
                    lost = step.unforwarded,
                    "{} records of the audit trail were purged that its receiver (audit.forward) has not taken, as more \
                     than {most} wait (audit.forward_backlog); academy-rt status says why none are taken",
                    step.unforwarded
                );
            }
            match step.next {
                None => return Ok((purged, held)),
                Some(_) if self.ending.is_cancelled() => {
                    if purged > 0 {
                        let act = server.act(action::PURGE, kind.as_str().to_owned());
                        let outcome = format!("stopped with the server: {purged} purged so far, {held} held");
                        self.store.write(Record { entry: act.entry(self.store.now(), &outcome) }).await?;
                    }
                    return Ok((purged, held));
                }
                Some(next) => cursor = next,
            }
            tokio::time::sleep(PURGE_PAUSE).await;
        }
    }
}
