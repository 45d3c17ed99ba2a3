//! A bound for log lines: what goes wrong with each request must not fill a disk. Of each place in the code that logs, so many lines
//! a minute are in the log; the rest is counted and told as one. What is the only record of somebody's act is never left out, nor what
//! was asked for in detail (debug, trace).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tracing::callsite::Identifier;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// How long a count lasts.
const WINDOW: Duration = Duration::from_secs(60);
/// So many warnings and errors of one place are logged within it.
const WARNINGS: u32 = 60;
/// So many other lines: refusals are bounded by their kind, of which one place has several.
const OTHERS: u32 = 600;

/// What was logged of each place within the last minute.
#[derive(Debug, Clone, Default)]
pub struct Bound(Arc<Mutex<HashMap<Identifier, Lines>>>);

#[derive(Debug)]
struct Lines {
    since: Instant,
    said: u32,
    unsaid: u64,
    place: String,
}

impl Bound {
    fn may_log(&self, metadata: &Metadata<'_>, now: Instant) -> bool {
        let most = match *metadata.level() {
            Level::ERROR | Level::WARN => WARNINGS,
            Level::INFO => OTHERS,
            _ => return true,
        };
        if metadata.fields().field("actor").is_some() {
            return true;
        }
        let mut places = self.0.lock();
        let lines = places.entry(metadata.callsite()).or_insert_with(|| Lines {
            since: now,
            said: 0,
            unsaid: 0,
            place: format!("{}:{}", metadata.file().unwrap_or_default(), metadata.line().unwrap_or_default()),
        });
        // What was left out is still to be told: the minute ends when it is.
        if lines.unsaid == 0 && now.duration_since(lines.since) >= WINDOW {
            (lines.since, lines.said) = (now, 0);
        }
        if lines.said < most {
            lines.said += 1;
            return true;
        }
        lines.unsaid += 1;
        false
    }

    /// Logs how many lines were left out of minutes that are over. To be called now and then.
    pub fn tell(&self) {
        for (place, count) in self.left_out(Instant::now()) {
            tracing::warn!(
                "{count} more lines of the same kind (academy-rt {place}) than are logged in a minute were left out"
            );
        }
    }

    fn left_out(&self, now: Instant) -> Vec<(String, u64)> {
        let mut told = Vec::new();
        self.0.lock().retain(|_, lines| {
            let is_over = now.duration_since(lines.since) >= WINDOW;
            if is_over && lines.unsaid > 0 {
                told.push((lines.place.clone(), lines.unsaid));
            }
            !is_over
        });
        told.sort();
        told
    }
}

impl<S: Subscriber> Layer<S> for Bound {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        self.may_log(event.metadata(), Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Count(Arc<Mutex<u32>>);

    impl<S: Subscriber> Layer<S> for Count {
        fn on_event(&self, _: &Event<'_>, _: Context<'_, S>) {
            *self.0.lock() += 1;
        }
    }

    #[test]
    fn a_flood_of_one_line_is_bounded_and_counted_and_an_act_is_never_left_out() {
        let (bound, count) = (Bound::default(), Count::default());
        let subscriber = tracing_subscriber::registry().with(bound.clone()).with(count.clone());
        tracing::subscriber::with_default(subscriber, || {
            (0..1_000).for_each(|_| tracing::warn!("the store refused a request"));
            assert_eq!(*count.0.lock(), WARNINGS);
            tracing::warn!("another line");
            assert_eq!(*count.0.lock(), WARNINGS + 1);
            (0..1_000).for_each(|_| tracing::error!(actor = "7", "an act that is only in the log"));
            (0..1_000).for_each(|_| tracing::debug!("asked for"));
            assert_eq!(*count.0.lock(), WARNINGS + 2_001);
        });
        assert_eq!(bound.left_out(Instant::now()), []);
        let told = bound.left_out(Instant::now() + WINDOW);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0.contains("bounded_lines.rs:") && told[0].1 == 1_000 - u64::from(WARNINGS), "{told:?}");
        assert_eq!(bound.left_out(Instant::now() + WINDOW), []);
    }
}
