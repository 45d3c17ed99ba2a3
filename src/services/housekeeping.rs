//! What nobody asks for: the jobs that are done every so often ([`run_jobs`]), and those that go by the calendar
//! ([`run_calendar`]). Each is a line of a list.

use std::future::{Future, ready};
use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::services::App;
use crate::services::purges::shortest_age;
use crate::store::StoreError;
use crate::store::operations::SampleGrowth;

/// How often it is looked whether a job is due.
const TICK: Duration = Duration::from_millis(250);
const SECOND: Duration = Duration::from_secs(1);
const FIVE_SECONDS: Duration = Duration::from_secs(5);
const MINUTE: Duration = Duration::from_secs(60);
/// Broadcasts that an earlier process acknowledged and may not have sent go out so long after the start: when those who were
/// connected have come back.
const COME_BACK: Duration = Duration::from_secs(3);
/// A job that takes longer than this is named in the log: the others wait for it.
const LONG: Duration = Duration::from_secs(10);

/// The longest and the shortest time between two looks at the calendar.
const SELDOM: Duration = Duration::from_secs(60 * 60);
const OFTEN: Duration = Duration::from_secs(1);
/// The time to the next look where something could not be finished.
const UNSETTLED: Duration = Duration::from_secs(5);
/// And where the disk is full: what is deleted meanwhile has made room inside the database file.
const FULL: Duration = Duration::from_secs(60);

type Work<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// When a job is done.
#[derive(Debug, Clone, Copy)]
enum Due {
    /// Again and again.
    Every(Duration),
    /// Again and again, and once more when the server stops: what is recorded is then of the very end.
    EveryAndAtTheEnd(Duration),
    /// Once, so long after the start.
    Once(Duration),
}

/// (name, when, what). In the order in which they are done where several are due.
type Job = (&'static str, Due, for<'a> fn(&'a App) -> Work<'a, ()>);

const JOBS: [Job; 12] = [
    ("end stale typing", Due::Every(TICK), |app| done(|| app.live.end_stale_typing())),
    ("announce who has gone", Due::Every(TICK), |app| done(|| app.live.announce_the_gone())),
    ("send and end notifications", Due::Every(TICK), |app| Box::pin(app.notices.do_due())),
    ("end stale polling", Due::Every(SECOND), |app| Box::pin(app.presence.end_stale_polling())),
    ("record deliveries", Due::EveryAndAtTheEnd(SECOND), |app| Box::pin(app.inbox.record_deliveries())),
    ("note sent broadcasts", Due::EveryAndAtTheEnd(SECOND), |app| Box::pin(app.broadcast.note_sent())),
    ("store waiting bans", Due::EveryAndAtTheEnd(SECOND), |app| Box::pin(app.access.store_bans())),
    ("log refused connections", Due::Every(SECOND), |app| done(|| log_refused_connections(app))),
    ("resend broadcasts", Due::Once(COME_BACK), |app| Box::pin(app.broadcast.resend())),
    ("record refused sign-ins", Due::Every(FIVE_SECONDS), |app| Box::pin(record_refusals(app))),
    ("record uses of rights", Due::Every(FIVE_SECONDS), |app| Box::pin(app.uses.record(false))),
    ("forget idle rates", Due::Every(MINUTE), |app| done(|| app.rates.forget_the_idle())),
];

/// (name, whether it is soon tried again, what). All are done at each look, in this order.
type Task = (&'static str, bool, for<'a> fn(&'a App) -> Work<'a, Result<(), StoreError>>);

const CALENDAR: [Task; 7] = [
    ("logging the end of the audit trail", false, |app| Box::pin(infallible(app.audit.log_head()))),
    ("counting the rows", false, |app| Box::pin(sample_growth(app))),
    ("an erasure", true, |app| Box::pin(app.privacy.resume_erasures())),
    ("a removal of a room", true, |app| Box::pin(app.rooms.finish_removals())),
    ("a removal of withheld versions", true, |app| Box::pin(app.privacy.prune_withheld())),
    ("a purge by age", false, |app| Box::pin(infallible(app.purges.purge_by_age()))),
    ("measuring the room inside the database file", false, |app| Box::pin(app.store.measure_room())),
];

/// Work that does not wait.
fn done<'a>(run: impl FnOnce()) -> Work<'a, ()> {
    run();
    Box::pin(ready(()))
}

/// A job that reports its own failures.
async fn infallible(work: impl Future<Output = ()>) -> Result<(), StoreError> {
    work.await;
    Ok(())
}

/// Runs each job when it is due, until it is asked to stop. The server owns the task.
pub async fn run_jobs(app: &App, stop: CancellationToken) {
    let start = Instant::now();
    let mut due = JOBS.map(|(_, due, _)| match due {
        Due::Every(period) | Due::EveryAndAtTheEnd(period) => Some(start + period),
        Due::Once(after) => Some(start + after),
    });
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let now = tokio::select! {
            () = stop.cancelled() => break,
            now = ticks.tick() => now,
        };
        for ((name, when, run), next) in JOBS.iter().zip(&mut due) {
            if next.is_none_or(|next| now < next) {
                continue;
            }
            *next = match when {
                Due::Every(period) | Due::EveryAndAtTheEnd(period) => Some(now + *period),
                Due::Once(_) => None,
            };
            let began = Instant::now();
            run(app).await;
            let took = began.elapsed();
            if took > LONG {
                tracing::warn!(job = name, seconds = took.as_secs(), "housekeeping took long");
            }
        }
    }
    for (_, when, run) in JOBS {
        if let Due::EveryAndAtTheEnd(_) = when {
            run(app).await;
        }
    }
}

/// Runs the jobs of the calendar, until it is asked to stop. The server owns the task.
pub async fn run_calendar(app: &App, stop: CancellationToken) {
    loop {
        let is_settled = tokio::select! {
            () = stop.cancelled() => return,
            is_settled = look_at_calendar(app) => is_settled,
        };
        // A twentieth of the shortest age: nothing lives much longer than it may.
        let shortest = shortest_age(&app.settings.get().retention);
        let pause = shortest.map_or(SELDOM, |age| (age / 20).clamp(OFTEN, SELDOM));
        let pause = match app.store.ready() {
            _ if !is_settled => pause.min(UNSETTLED),
            Err(StoreError::Full(_)) => pause.min(FULL),
            _ => pause,
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = app.settings.calendar_woken() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// `false` if something is left that is to be tried again soon.
async fn look_at_calendar(app: &App) -> bool {
    let mut is_settled = true;
    for (what, is_urgent, run) in CALENDAR {
        match run(app).await {
            Ok(()) => {}
            Err(error) if is_urgent => {
                tracing::warn!(%error, "{what} could not be completed; retrying in a few seconds");
                is_settled = false;
            }
            Err(error) => tracing::debug!(%error, "{what} failed; retrying"),
        }
    }
    is_settled
}

async fn sample_growth(app: &App) -> Result<(), StoreError> {
    let (day, counts) = (app.store.now().day(), app.store.row_counts().await?);
    app.store.write(SampleGrowth { day, counts }).await
}

async fn record_refusals(app: &App) {
    let most = app.settings.get().limits.sign_in_records_per_day;
    app.audit.record_refusals(most, false).await;
}

fn log_refused_connections(app: &App) {
    for (reason, count) in app.live.counters().log_limiter.suppressed() {
        tracing::warn!(
            reason,
            count,
            "{count} more were refused or closed in the last minute than are logged: {reason}"
        );
    }
}
