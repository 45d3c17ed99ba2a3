//! When a commit begins. A commit costs about the same whether it has one request or thirty, so that where they follow each
//! other it pays to let some more come. Where nobody else is coming it does not: one lonely request is committed at once, and so
//! is what closed loops send, who all wait for their answers. Which of the two it is, is learned from what came in the second half
//! of the waits before.

use std::time::Duration;

/// How long nothing was committed until a request counts as a lonely one.
const IDLE: Duration = Duration::from_millis(20);
/// A wait pays where its second half brings this part of what the commit then has.
const PAYS: f64 = 0.12;
/// How much an outcome counts beside those before it.
const WEIGHT: f64 = 0.2;
/// Where waiting did not pay, it is tried again at every so many commits: once, for as long as it may be. A shorter try would
/// find nobody where requests come one by one, each a little later than the commit before takes.
const TRY_AGAIN: u32 = 64;

/// How long the writer waits for company.
#[derive(Debug)]
pub(in crate::store::embedded) struct Pace {
    /// `storage.commit_delay`.
    longest: Duration,
    bound: Duration,
    /// What came in the second halves of waits, and what their commits had; both fading.
    late: f64,
    all: f64,
    /// Commits since waiting was given up.
    untried: u32,
    /// Whether the next wait is a try.
    is_try: bool,
}

impl Pace {
    /// Nothing waits longer than `longest`; zero: nothing waits.
    pub(in crate::store::embedded) fn new(longest: Duration) -> Pace {
        Pace { longest, bound: Duration::ZERO, late: 0.0, all: 0.0, untried: 0, is_try: false }
    }

    /// How old the oldest request may become before the next commit begins, where the last one ended `idle` ago.
    pub(in crate::store::embedded) fn bound(&mut self, idle: Duration) -> Duration {
        if idle >= IDLE || self.longest.is_zero() {
            return Duration::ZERO;
        }
        if self.bound.is_zero() {
            self.untried += 1;
            if self.untried < TRY_AGAIN {
                return Duration::ZERO;
            }
            (self.untried, self.is_try, self.bound) = (0, true, self.longest);
        }
        self.bound
    }

    /// A wait has ended: so many came in its second half, and the commit has so many.
    pub(in crate::store::embedded) fn learn(&mut self, late: usize, all: usize) {
        if std::mem::take(&mut self.is_try) {
            // What was learned before was of another time.
            (self.late, self.all) = (late as f64, all as f64);
            if self.late < PAYS * self.all {
                self.bound = Duration::ZERO;
            }
            return;
        }
        self.late += WEIGHT * (late as f64 - self.late);
        self.all += WEIGHT * (all as f64 - self.all);
        self.bound = if self.late >= PAYS * self.all {
            (self.bound * 5 / 4).min(self.longest)
        } else {
            let shorter = self.bound * 4 / 5;
            if shorter < self.longest / 16 { Duration::ZERO } else { shorter }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_millis(4);
    const BUSY: Duration = Duration::from_millis(1);

    /// The bound after so many commits, each of which has what came while the one before was made and while it waited itself.
    fn settled(mut pace: Pace, commits: usize, mut came_in: impl FnMut(Duration) -> f64) -> Vec<Duration> {
        let mut parts = 0.0;
        (0..commits)
            .map(|_| {
                let bound = pace.bound(BUSY);
                let mut take = |duration| {
                    parts += came_in(duration);
                    let whole = f64::floor(parts);
                    parts -= whole;
                    whole as usize
                };
                let before = take(BUSY);
                let (first, second) = (take(bound / 2), take(bound / 2));
                if !bound.is_zero() {
                    pace.learn(second, before + first + second);
                }
                bound
            })
            .collect()
    }

    #[test]
    fn where_requests_come_all_the_time_commits_wait_as_long_as_they_may() {
        let bounds = settled(Pace::new(LONGEST), 200, |duration| duration.as_secs_f64() * 1_000.0);
        assert!(bounds[100..].iter().all(|bound| *bound == LONGEST), "{bounds:?}");
    }

    #[test]
    fn where_requests_come_one_by_one_each_behind_the_commit_before_they_share_commits_soon() {
        // 900 a second, evenly: the next one comes a tenth of a millisecond behind each commit.
        let mut pace = Pace::new(Duration::from_millis(2));
        let (mut now, mut at, mut commits) = (0.0, 0.0, Vec::new());
        let every = 1.0 / 900.0;
        while commits.len() < 400 {
            // The oldest that waits, and how old it may become; all that have come by then share the commit.
            now = f64::max(now, at);
            let bound = pace.bound(BUSY).as_secs_f64();
            let (oldest, begin) = (at, f64::max(now, at + bound));
            let (mut late, mut all) = (0, 0);
            while at <= begin {
                late += usize::from(bound > 0.0 && at > oldest + bound / 2.0 && at > now);
                all += 1;
                at += every;
            }
            if bound > 0.0 {
                pace.learn(late, all);
            }
            commits.push(all);
            now = begin + 0.001;
        }
        assert!(commits[..60].iter().all(|all| *all == 1), "{commits:?}");
        let shared = commits[100..].iter().filter(|all| **all > 1).count();
        assert!(shared > 290, "{shared} of 300 are shared: {commits:?}");
    }

    #[test]
    fn where_nobody_else_comes_commits_begin_at_once_but_for_a_try() {
        // Those who wait for an answer have come before the wait begins.
        let bounds = settled(Pace::new(LONGEST), 1_000, |duration| if duration == BUSY { 64.0 } else { 0.0 });
        let waited = bounds.iter().filter(|bound| !bound.is_zero()).count();
        assert!(waited <= 1_000 / TRY_AGAIN as usize, "{waited} of 1,000 waited");
        let average = bounds.iter().sum::<Duration>() / 1_000;
        assert!(average < LONGEST / 32, "{average:?}");
    }

    #[test]
    fn a_request_after_a_while_of_nothing_waits_for_nobody_and_unlearns_nothing() {
        let mut pace = Pace::new(LONGEST);
        for _ in 0..200 {
            if !pace.bound(BUSY).is_zero() {
                pace.learn(2, 6);
            }
        }
        assert_eq!(pace.bound(IDLE), Duration::ZERO);
        assert_eq!(pace.bound(BUSY), LONGEST);
    }

    #[test]
    fn without_a_delay_nothing_waits() {
        let mut pace = Pace::new(Duration::ZERO);
        assert!((0..100).all(|_| pace.bound(BUSY).is_zero()));
    }
}
