//! A flood of refused connections must not fill a disk: of each reason, some lines a minute are logged, and the rest is counted
//! and logged as one.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};

/// So many lines of one reason within [`WINDOW`].
const LINES: u32 = 20;
/// How long a count lasts.
const WINDOW: Duration = Duration::from_secs(60);

/// What may still be logged.
#[derive(Debug, Default)]
pub struct LogLimiter(Mutex<HashMap<&'static str, Window>>);

#[derive(Debug)]
struct Window {
    since: Instant,
    said: u32,
    unsaid: u64,
}

impl LogLimiter {
    /// Whether a line of this reason is logged; counts it otherwise.
    pub fn may_log(&self, reason: &'static str) -> bool {
        self.may_log_at(reason, Instant::now())
    }

    fn may_log_at(&self, reason: &'static str, now: Instant) -> bool {
        let mut windows = self.lock();
        let window = windows.entry(reason).or_insert(Window { since: now, said: 0, unsaid: 0 });
        // Suppressed messages are still to be logged: the window ends when they are.
        if window.unsaid == 0 && now.duration_since(window.since) >= WINDOW {
            *window = Window { since: now, said: 0, unsaid: 0 };
        }
        if window.said < LINES {
            window.said += 1;
            return true;
        }
        window.unsaid += 1;
        false
    }

    /// The reasons of which more happened than was logged, and how often, for windows that are over.
    pub fn suppressed(&self) -> Vec<(&'static str, u64)> {
        self.suppressed_at(Instant::now())
    }

    fn suppressed_at(&self, now: Instant) -> Vec<(&'static str, u64)> {
        let mut windows = self.lock();
        let mut suppressed = Vec::new();
        windows.retain(|reason, window| {
            if now.duration_since(window.since) < WINDOW {
                return true;
            }
            if window.unsaid > 0 {
                suppressed.push((*reason, window.unsaid));
            }
            false
        });
        suppressed.sort_unstable();
        suppressed
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, Window>> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_twenty_lines_and_one_number_a_minute() {
        let (log_limiter, start) = (LogLimiter::default(), Instant::now());
        let said = (0..1_000).filter(|_| log_limiter.may_log_at("token_invalid", start)).count();
        assert_eq!(said, 20);
        assert!(log_limiter.may_log_at("tls_handshake", start), "another reason has its own lines");
        assert!(log_limiter.suppressed_at(start + WINDOW / 2).is_empty());
        assert_eq!(log_limiter.suppressed_at(start + WINDOW), [("token_invalid", 980)]);
        assert!(log_limiter.suppressed_at(start + WINDOW).is_empty());
        assert!(log_limiter.may_log_at("token_invalid", start + WINDOW));
    }
}
