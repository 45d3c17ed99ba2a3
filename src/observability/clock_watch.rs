//! Notices when the machine's clock is set while the server runs: it is held against the monotonic clock, which nobody sets.
//! Tokens end, and data grow old, by the clock on the wall, so whoever looks into a strange hour finds the jump in the log.

use std::time::{Duration, Instant};

use crate::domain::Timestamp;

/// Less is what clocks do by themselves between two looks.
const JUMP: Duration = Duration::from_secs(5);

/// A clock that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Jump {
    /// By how much.
    pub by: Duration,
    /// Ahead, or back. A machine that slept looks like one whose clock went ahead.
    pub is_ahead: bool,
}

/// Looks at both clocks.
#[derive(Debug)]
pub struct ClockWatch {
    wall: Timestamp,
    monotonic: Instant,
}

impl ClockWatch {
    /// Begins at a moment, given by both clocks.
    #[must_use]
    pub fn new(wall: Timestamp, monotonic: Instant) -> ClockWatch {
        ClockWatch { wall, monotonic }
    }

    /// Looks again. A jump is reported once.
    pub fn look(&mut self, wall: Timestamp, monotonic: Instant) -> Option<Jump> {
        let passed = monotonic.saturating_duration_since(self.monotonic);
        let expected = self.wall.plus(passed);
        (self.wall, self.monotonic) = (wall, monotonic);
        let by = Duration::from_millis(wall.as_millis().abs_diff(expected.as_millis()));
        (by >= JUMP).then_some(Jump { by, is_ahead: wall > expected })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_ahead_or_back_is_noticed_once() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut watch = ClockWatch::new(Timestamp(1_000_000), start);
        assert_eq!(watch.look(Timestamp(1_010_000), at(10)), None, "both went ten seconds");
        let hour = Duration::from_secs(3_600);
        assert_eq!(watch.look(Timestamp(4_611_000), at(11)), Some(Jump { by: hour, is_ahead: true }));
        assert_eq!(watch.look(Timestamp(4_612_000), at(12)), None, "it is told once");
        assert_eq!(watch.look(Timestamp(1_013_000), at(13)), Some(Jump { by: hour, is_ahead: false }));
        assert_eq!(watch.look(Timestamp(1_014_000), at(14)), None);
    }

    #[test]
    fn a_clock_that_drifts_a_little_and_a_look_that_comes_late_are_no_jump() {
        let start = Instant::now();
        let mut watch = ClockWatch::new(Timestamp(0), start);
        assert_eq!(watch.look(Timestamp(604_000), start + Duration::from_secs(600)), None, "slewed by four seconds");
        assert_eq!(watch.look(Timestamp(600_000), start + Duration::from_secs(600)), None);
        // Before 1970 there is nothing: a clock that was never set is at 0.
        let mut watch = ClockWatch::new(Timestamp(9_000), start);
        assert_eq!(watch.look(Timestamp(0), start), Some(Jump { by: Duration::from_secs(9), is_ahead: false }));
    }
}
