//! The forwarding of the audit log to another place (`audit.forward`): a SIEM by syslog over TLS, a file, or the journal. It reads
//! the stored audit log behind a position that is stored itself, page by page, and moves the position on when the target has
//! taken what was sent. So nothing is left out, whichever side ends when, and records come in the order of their numbers. What
//! was sent and is not known to be taken is sent again: a record may come twice, and is known by its number and hash.
//!
//! Syslog has no acknowledgements. What was sent on a connection counts as taken when the connection has lived on for
//! [`SETTLED`], longer than the kernel bears with an end that does not confirm what it was sent; or when the connection is
//! closed in order, and the other end has closed its own then.

mod format;
mod sink;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::config::{Audit, Config, ForwardTarget};
use crate::domain::audit::{AuditRecord, Link};
use crate::domain::problem::Problem;
use crate::observability::forwarding::Forwarding;
use crate::services::storage::Storage;
use crate::store::StoreError;
use crate::store::operations::NoteForwarded;

use sink::Sink;

/// So many records are in memory at a time.
const PAGE: usize = 200;
/// How often it is looked whether there are new records. Without any, that reads one number in memory.
const LOOK: Duration = Duration::from_millis(250);
/// How often what was sent is looked at for whether it is taken, and what waits is counted.
const TICK: Duration = Duration::from_secs(1);
/// What was sent counts as taken when its connection has lived on for so long.
const SETTLED: Duration = sink::UNHEARD.saturating_add(Duration::from_secs(2));
/// The first and the longest time to the next try.
const SOON: Duration = Duration::from_secs(1);
const SELDOM: Duration = Duration::from_secs(60);
/// When the server stops, the target has so long to take what was sent.
const FAREWELL: Duration = Duration::from_secs(1);
/// A look at a receiver waits so long for it to refuse the client's certificate, which it does behind the handshake.
const REFUSES_WITHIN: Duration = Duration::from_millis(500);

/// The forwarding of a server's audit log.
#[derive(Debug)]
pub struct Forwarder {
    store: Storage,
    target: ForwardTarget,
    audit: Audit,
    standing: Mutex<Forwarding>,
    /// Held by a write to a file that is under way.
    writing: Arc<tokio::sync::Mutex<()>>,
}

/// Why a connection is not used any more.
enum Ended {
    /// The server stops.
    Stopping,
    /// It failed.
    Failed(Problem),
}

impl From<Problem> for Ended {
    fn from(problem: Problem) -> Ended {
        Ended::Failed(problem)
    }
}

impl From<StoreError> for Ended {
    fn from(error: StoreError) -> Ended {
        let remedy = "Look at the store: academy-rt status says what is wrong with it.";
        Ended::Failed(Problem::new("the audit log cannot be read to forward it", error, remedy))
    }
}

/// Refuses files of certificates that cannot be used.
///
/// # Errors
/// Which file, why, and what to do.
pub fn refuse_unusable(audit: &Audit) -> Result<(), Problem> {
    match audit.forward {
        Some(ForwardTarget::Tls { .. }) => sink::tls_client(audit).map(drop),
        _ => Ok(()),
    }
}

/// Looks whether the target can be reached, without sending it anything.
///
/// # Errors
/// Why not, and what to do.
pub async fn probe(audit: &Audit) -> Result<(), Problem> {
    let Some(target) = &audit.forward else { return Ok(()) };
    let mut sink = Sink::open(target, audit, &Arc::default()).await?;
    if let ForwardTarget::File(path) = target {
        let dir = path.parent().unwrap_or(path);
        let place = if path.exists() { path.as_path() } else { dir };
        let access = rustix::fs::access(place, rustix::fs::Access::WRITE_OK);
        return access.map_err(|error| sink::failed(target, &error.into()));
    }
    match tokio::time::timeout(REFUSES_WITHIN, sink.gone()).await {
        Ok(error) => Err(sink::failed(target, &error)),
        Err(_) => Ok(()),
    }
}

impl Forwarder {
    /// The forwarding that a configuration asks for.
    pub(super) fn of(config: &Config, store: Storage) -> Option<Forwarder> {
        let target = config.audit.forward.clone()?;
        let standing = Forwarding { target: target.to_string(), ..Forwarding::default() };
        let (audit, standing) = (config.audit.clone(), Mutex::new(standing));
        Some(Forwarder { store, target, audit, standing, writing: Arc::default() })
    }

    /// How it stands.
    pub(super) fn standing(&self) -> Forwarding {
        self.standing.lock().clone()
    }

    /// Forwards until it is asked to stop. The server owns the task. A target that cannot be reached is tried again, less and
    /// less often.
    pub(super) async fn run(&self, stop: CancellationToken) {
        let mut pause = SOON;
        loop {
            let before = self.standing.lock().confirmed;
            let problem = match self.session(&stop).await {
                Ended::Stopping => return,
                Ended::Failed(problem) => problem,
            };
            let has_got_on = self.standing.lock().confirmed > before;
            pause = if has_got_on { SOON } else { pause.saturating_mul(2).min(SELDOM) };
            // Several servers do not come all at once to a receiver that is back.
            let wait = pause.mul_f64(0.5 + 0.5 * fraction());
            self.count_waiting().await;
            self.note_failure(&problem, wait);
            let again = Instant::now() + wait;
            while Instant::now() < again {
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(TICK.min(again - Instant::now())) => {}
                }
                self.count_waiting().await;
            }
        }
    }

    /// One connection, from its beginning to its end.
    async fn session(&self, stop: &CancellationToken) -> Ended {
        let position = match self.position().await {
            Ok(position) => position,
            Err(error) => return error.into(),
        };
        self.count_waiting().await;
        let opened = tokio::select! {
            () = stop.cancelled() => return Ended::Stopping,
            opened = Sink::open(&self.target, &self.audit, &self.writing) => opened,
        };
        let mut sink = match opened {
            Ok(sink) => sink,
            Err(problem) => return problem.into(),
        };
        let mut sent = Sent { last: position, unsettled: VecDeque::new() };
        let ended = self.forward(&mut sink, &mut sent, stop).await;
        if let Ended::Stopping = ended
            && let Some((_, last)) = sent.unsettled.back().copied()
            && tokio::time::timeout(FAREWELL, sink.close()).await.unwrap_or(false)
        {
            self.note_taken(last).await;
        }
        ended
    }

    async fn forward(&self, sink: &mut Sink, sent: &mut Sent, stop: &CancellationToken) -> Ended {
        let (mut looks, mut ticks) = (interval(LOOK), interval(TICK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut seen = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ended::Stopping,
                error = sink.gone() => return sink::failed(&self.target, &error).into(),
                _ = looks.tick() => {
                    // Each record takes an id of the store's.
                    let last_id = self.store.last_id();
                    if seen == Some(last_id) {
                        continue;
                    }
                    loop {
                        let page = match self.store.audit(sent.last.number, PAGE).await {
                            Ok(page) => page,
                            Err(error) => return error.into(),
                        };
                        let Some(last) = page.last().map(Link::from) else { break };
                        tokio::select! {
                            () = stop.cancelled() => return Ended::Stopping,
                            done = sink.send(&page) => if let Err(error) = done {
                                return sink::failed(&self.target, &error).into();
                            },
                        }
                        sent.last = last;
                        if sink.is_connection() {
                            sent.add(last);
                        } else {
                            self.note_taken(last).await;
                        }
                        self.note_sent(last, &page);
                        if let Some(settled) = sent.settled() {
                            self.note_taken(settled).await;
                        }
                    }
                    seen = Some(last_id);
                    self.note_up_to_date();
                }
                _ = ticks.tick() => {
                    if let Some(settled) = sent.settled() {
                        self.note_taken(settled).await;
                    }
                }
            }
        }
    }

    /// Behind which record it goes on: the stored position, if it is one of this target and of this audit log.
    async fn position(&self) -> Result<Link, StoreError> {
        let (anchor, head) = self.store.audit_ends().await?;
        let known = self.store.audit_forwarded().await?.filter(|(target, _)| *target == self.target.to_string());
        let position = match known {
            None => anchor,
            Some((_, link)) if link.number < anchor.number => {
                let (lost, target) = (anchor.number - link.number, &self.target);
                tracing::error!(
                    lost,
                    "{lost} records of the audit trail (behind {}) were purged before {target} took them; forwarding goes on \
                     behind record {}",
                    link.number,
                    anchor.number
                );
                anchor
            }
            Some((_, link)) if self.is_of_this_log(link, anchor, head).await? => link,
            Some((_, link)) => {
                tracing::warn!(
                    "the audit trail is not the one of which record {} was forwarded to {}: all of it is forwarded again",
                    link.number,
                    self.target
                );
                anchor
            }
        };
        let mut standing = self.standing.lock();
        (standing.sent, standing.confirmed) = (position.number, position.number);
        Ok(position)
    }

    async fn is_of_this_log(&self, link: Link, anchor: Link, head: Link) -> Result<bool, StoreError> {
        if link == anchor || link == head {
            return Ok(true);
        }
        let found = self.store.audit(link.number.saturating_sub(1), 1).await?;
        Ok(found.first().is_some_and(|record| Link::from(record) == link))
    }

    /// Stores that the target has taken all up to a record. Where it cannot be stored, the records come again after a restart.
    async fn note_taken(&self, link: Link) {
        let note = NoteForwarded { target: self.target.to_string(), link };
        match self.store.write(note).await {
            Ok(()) => self.standing.lock().confirmed = link.number,
            Err(error) => tracing::warn!(
                %error,
                "how far the audit trail is forwarded to {} (record {}) could not be stored; after a restart, records come \
                 twice: {error}",
                self.target,
                link.number
            ),
        }
    }

    fn note_sent(&self, last: Link, page: &[AuditRecord]) {
        let mut standing = self.standing.lock();
        standing.sent = last.number;
        standing.waiting = standing.waiting.saturating_sub(page.len() as u64);
        standing.waiting_since = page.last().map(|record| record.entry.at).filter(|_| standing.waiting > 0);
    }

    fn note_up_to_date(&self) {
        let mut standing = self.standing.lock();
        (standing.waiting, standing.waiting_since) = (0, None);
        if standing.problem.take().is_some() {
            tracing::info!("the audit trail is forwarded to {} again, up to record {}", self.target, standing.sent);
        }
    }

    fn note_failure(&self, problem: &Problem, wait: Duration) {
        let mut standing = self.standing.lock();
        standing.failures += 1;
        standing.sent = standing.confirmed;
        let words = problem.to_string();
        if standing.problem.as_ref() != Some(&words) {
            let waiting = standing.waiting;
            tracing::error!(
                waiting,
                "{words} Nothing is lost: {waiting} records wait; the next try is in {} s",
                wait.as_secs()
            );
            standing.problem = Some(words);
        }
    }

    /// Counts what waits while the target takes nothing.
    async fn count_waiting(&self) {
        let confirmed = self.standing.lock().confirmed;
        let (Ok((_, head)), Ok(first)) = (self.store.audit_ends().await, self.store.audit(confirmed, 1).await) else {
            return;
        };
        let mut standing = self.standing.lock();
        standing.waiting = head.number.saturating_sub(confirmed);
        standing.waiting_since = first.first().map(|record| record.entry.at);
    }
}

/// What was sent on a connection.
struct Sent {
    last: Link,
    /// Up to which record, by the moment. Those of one tick are one.
    unsettled: VecDeque<(Instant, Link)>,
}

impl Sent {
    fn add(&mut self, link: Link) {
        let now = Instant::now();
        match self.unsettled.back_mut() {
            Some((at, last)) if now.duration_since(*at) < TICK => *last = link,
            _ => self.unsettled.push_back((now, link)),
        }
    }

    /// Up to which record all is taken, if that is news.
    fn settled(&mut self) -> Option<Link> {
        let mut settled = None;
        // What was added to the newest is younger than its moment by a tick at most.
        while let Some((at, link)) = self.unsettled.front().copied() {
            if at.elapsed() < SETTLED + TICK {
                break;
            }
            settled = Some(link);
            self.unsettled.pop_front();
        }
        settled
    }
}

/// A number from 0 to 1 by chance; one half where the system has none.
fn fraction() -> f64 {
    let mut byte = [128_u8];
    // Without chance the servers come at the same time.
    let _ = getrandom::fill(&mut byte);
    f64::from(u8::from_ne_bytes(byte)) / 255.0
}
