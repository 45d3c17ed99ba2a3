//! Time. [`SystemClock`] is the only reader of the system's wall clock; everything else is handed a [`Clock`], so that a
//! test can move time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The last second of the year 9999: behind it, neither the headers of HTTP nor certificates have a way to write a time.
    pub const LAST: Timestamp = Timestamp(253_402_300_799_000);

    /// The day that it is in, counted from the epoch, in UTC.
    #[must_use]
    pub fn day(self) -> u64 {
        self.0 / (24 * 60 * 60 * 1_000)
    }

    /// From whole seconds since the epoch, as JWT claims have them.
    #[must_use]
    pub fn from_secs(secs: u64) -> Timestamp {
        Timestamp(secs.saturating_mul(1000))
    }

    /// Milliseconds since the epoch.
    #[must_use]
    pub fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub fn as_secs(self) -> u64 {
        self.0 / 1000
    }

    /// This instant and a while later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_add(duration.as_millis().try_into().unwrap_or(u64::MAX)))
    }

    /// This instant and a while before; not before the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Timestamp {
        Timestamp(self.0.saturating_sub(duration.as_millis().try_into().unwrap_or(u64::MAX)))
    }

    /// How long it is until `later`; zero if that has passed.
    #[must_use]
    pub fn until(self, later: Timestamp) -> Duration {
        Duration::from_millis(later.0.saturating_sub(self.0))
    }
}

/// Something that knows the time of day.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Now.
    fn now(&self) -> Timestamp;

    /// How time passes, by a clock that nobody sets.
    fn passing(&self) -> Instant {
        Instant::now()
    }
}

/// A clock is believed that is ahead by no more than this.
const DRIFT: Duration = Duration::from_secs(60);
/// A clock that has been ahead for so long is right.
const RIGHT_AFTER: Duration = Duration::from_secs(60 * 60);

/// The time by which something is dropped for good. A clock that is set ahead for a moment must not end what holds for a day:
/// until it has been ahead for an hour, time goes on as it passes. A clock that is set back is followed at once, as that
/// drops nothing too early. A machine that slept looks like one whose clock went ahead.
#[derive(Debug, Clone)]
pub struct ExpiryClock {
    wall: Timestamp,
    passing: Instant,
    ahead_since: Option<Instant>,
}

impl ExpiryClock {
    /// Begins at a moment, given by both clocks.
    #[must_use]
    pub fn new(wall: Timestamp, passing: Instant) -> ExpiryClock {
        ExpiryClock { wall, passing, ahead_since: None }
    }

    /// What has ended by now, according to both clocks.
    pub fn now(&mut self, wall: Timestamp, passing: Instant) -> Timestamp {
        let expected = self.wall.plus(passing.saturating_duration_since(self.passing));
        if wall > expected.plus(DRIFT) {
            let since = *self.ahead_since.get_or_insert(passing);
            if passing.saturating_duration_since(since) < RIGHT_AFTER {
                return expected;
            }
        }
        *self = ExpiryClock::new(wall, passing);
        wall
    }
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// A clock to share.
    #[must_use]
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(SystemClock)
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "the sole home of the system's clock")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp(since_epoch.as_millis().try_into().unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_ahead_is_believed_and_more_is_not() {
        let start = Instant::now();
        for (ahead, believed) in [(60_000, 60_000), (60_001, 0)] {
            assert_eq!(ExpiryClock::new(Timestamp(0), start).now(Timestamp(ahead), start), Timestamp(believed));
        }
    }

    #[test]
    fn a_while_is_what_lies_between() {
        assert_eq!(Timestamp(1_000).until(Timestamp(3_500)), Duration::from_millis(2_500));
        assert_eq!(Timestamp(3_500).until(Timestamp(1_000)), Duration::ZERO);
    }

    #[test]
    fn a_clock_that_is_ahead_for_a_moment_ends_nothing() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let (begin, month) = (Timestamp::from_secs(1_000_000), 30 * 86_400);
        let mut clock = ExpiryClock::new(begin, start);
        let seen = |clock: &mut ExpiryClock, wall, passed| clock.now(Timestamp::from_secs(wall), at(passed)).as_secs();
        assert_eq!(seen(&mut clock, 1_000_010, 10), 1_000_010);
        assert_eq!(seen(&mut clock, 1_000_070, 20), 1_000_070, "a minute is no jump");
        assert_eq!(seen(&mut clock, 1_000_071 + month, 21), 1_000_071, "time goes on as it passes");
        assert_eq!(seen(&mut clock, 1_000_100 + month, 50), 1_000_100);
        assert_eq!(seen(&mut clock, 1_000_110, 60), 1_000_110, "it was set right");
        assert_eq!(seen(&mut clock, 999_000, 61), 999_000, "back is followed at once");
        assert_eq!(seen(&mut clock, 999_001 + month, 62), 999_001);
        assert_eq!(seen(&mut clock, 1_002_600 + month, 3_661), 1_002_600, "an hour less a second");
        assert_eq!(seen(&mut clock, 1_002_601 + month, 3_662), 1_002_601 + month, "who is ahead for an hour is right");
        assert_eq!(seen(&mut clock, 1_002_602 + month, 3_663), 1_002_602 + month);
    }
}
