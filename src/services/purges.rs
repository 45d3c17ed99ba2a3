//! What goes by its age: chat, notifications and records of the audit log, as `[retention]` says. Where the clock has gone
//! ahead nothing is purged for a while: if it is wrong, there is time to put it right before anything is gone.

use std::sync::Arc;
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
    /// The server is about to stop: a purge ends at its next slice.
    ending: CancellationToken,
    /// Nothing is purged before this.
    rest_until: Arc<Mutex<Option<Instant>>>,
}

impl Purges {
    pub(super) fn new(store: Storage, settings: Arc<LiveSettings>, ending: CancellationToken) -> Purges {
        Purges { store, settings, ending, rest_until: Arc::default() }
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
