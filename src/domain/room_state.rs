//! How order is kept in a room: it can be locked, and it can be in slow mode.

use std::time::Duration;

use super::Timestamp;

/// The longest interval of slow mode, in seconds.
pub const LONGEST_SLOW_MODE: u32 = 3_600;

/// Who may write in a room, and how often. Moderators and administrators write as they like.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RoomState {
    /// Whether everybody else only reads.
    pub locked: bool,
    /// Everybody else writes once in so many seconds; 0: as often as they like.
    pub slow_seconds: u32,
}

/// What is changed of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateChange {
    /// Locked, or not.
    Lock(bool),
    /// The interval of slow mode; 0 ends it.
    Slow(u32),
}

impl RoomState {
    /// The state behind a change.
    #[must_use]
    pub fn with(self, change: StateChange) -> RoomState {
        match change {
            StateChange::Lock(locked) => RoomState { locked, ..self },
            StateChange::Slow(slow_seconds) => RoomState { slow_seconds, ..self },
        }
    }

    /// How long somebody has to wait who has written at a moment; `None` if they need not. A clock that was set back by more than
    /// the interval says nothing of how long ago that was: nobody waits for hours because of it.
    #[must_use]
    pub fn wait(self, said_at: Option<Timestamp>, now: Timestamp) -> Option<Duration> {
        let interval = Duration::from_secs(self.slow_seconds.into());
        let next = said_at?.plus(interval);
        let wait = now.until(next);
        let is_set_back = wait > interval.saturating_mul(2);
        (!wait.is_zero() && !is_set_back).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_message_is_written_in_each_interval() {
        let state = RoomState::default().with(StateChange::Slow(10));
        let wait = |said_at: Option<u64>, now| {
            state.wait(said_at.map(Timestamp), Timestamp(now)).map(|wait| u64::try_from(wait.as_millis()).unwrap())
        };
        assert_eq!(wait(None, 0), None);
        assert_eq!(wait(Some(50_000), 50_000), Some(10_000));
        assert_eq!(wait(Some(50_000), 59_999), Some(1));
        assert_eq!(wait(Some(50_000), 60_000), None);
        // A request that was timed a little before the one that was stored before it.
        assert_eq!(wait(Some(50_000), 49_990), Some(10_010));
        // A clock that was set back.
        assert_eq!(wait(Some(50_000), 40_000), Some(20_000));
        assert_eq!(wait(Some(50_000), 39_999), None);
        assert_eq!(RoomState::default().wait(Some(Timestamp(5)), Timestamp(5)), None);
    }

    #[test]
    fn a_change_leaves_the_rest_as_it_is() {
        let state = RoomState::default().with(StateChange::Lock(true)).with(StateChange::Slow(5));
        assert_eq!(state, RoomState { locked: true, slow_seconds: 5 });
        assert_eq!(state.with(StateChange::Lock(false)), RoomState { locked: false, slow_seconds: 5 });
        assert_eq!(state.with(StateChange::Slow(0)), RoomState { locked: true, slow_seconds: 0 });
    }
}
