//! What waits to be told, by lanes: one of a lane goes out at a time, in order, and lanes do not wait for each other. Here is
//! what is in memory of it; it is bounded, and the rest is read from the store when its turn comes.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use tokio::time::Instant;

use crate::store::HookMark;

/// So many are in memory at a time.
pub(super) const MOST_QUEUED: usize = 100_000;
/// So many of one lane; of what is behind them the lane knows where it begins.
pub(super) const MOST_OF_LANE: usize = 1_000;

/// The first and the longest pause of a lane.
const LANE_FIRST: Duration = Duration::from_secs(1);
const LANE_LONGEST: Duration = Duration::from_secs(10 * 60);
/// The same of a receiver that takes nothing at all.
const RECEIVER_LONGEST: Duration = Duration::from_secs(5 * 60);

/// The pause before the next try, behind so many failures; `chance` is from 0 to 1.
pub(super) fn pause(failures: u32, longest: Duration, chance: f64) -> Duration {
    let doubled = LANE_FIRST.saturating_mul(1_u32.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(1));
    doubled.min(longest).mul_f64(0.5 + 0.5 * chance)
}

/// The pause of one lane.
pub(super) fn lane_pause(failures: u32, chance: f64) -> Duration {
    pause(failures, LANE_LONGEST, chance)
}

/// The pause of all of them.
pub(super) fn receiver_pause(failures: u32, chance: f64) -> Duration {
    pause(failures, RECEIVER_LONGEST, chance)
}

#[derive(Debug)]
struct Lane {
    queue: VecDeque<HookMark>,
    /// Behind this one there are more than have room here.
    more_from: Option<u64>,
    is_busy: bool,
    failures: u32,
    due: Instant,
}

/// What waits.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: HashMap<u64, Lane>,
    /// When which lane may go on, and with which id.
    ready: BTreeSet<(Instant, u64, u64)>,
    queued: usize,
    /// Lanes of which nothing is here any more, and of which there is more.
    short: BTreeSet<u64>,
    /// Up to here all that waits is known.
    read_to: u64,
    /// What everything before it is told before, and nothing behind it.
    barrier: Option<HookMark>,
    is_barrier_busy: bool,
    /// Out, or taken and not yet noted so: not to be read again.
    held: HashSet<u64>,
}

impl Lanes {
    /// Behind which id more can be read, if there is room for it.
    pub(super) fn reads_behind(&self) -> Option<u64> {
        (self.barrier.is_none() && self.queued < MOST_QUEUED).then_some(self.read_to)
    }

    /// Adds what was read behind [`Lanes::reads_behind`]. Gives whether it has taken all of it.
    pub(super) fn add(&mut self, marks: &[HookMark], now: Instant) -> bool {
        for mark in marks {
            if self.barrier.is_some() {
                return false;
            }
            self.read_to = mark.id;
            if self.held.contains(&mark.id) {
                continue;
            }
            let Some(number) = mark.lane else {
                self.barrier = Some(*mark);
                continue;
            };
            let new = || Lane { queue: VecDeque::new(), more_from: None, is_busy: false, failures: 0, due: now };
            let lane = self.lanes.entry(number).or_insert_with(new);
            if lane.more_from.is_some() {
                continue;
            }
            if lane.queue.len() >= MOST_OF_LANE {
                lane.more_from = lane.queue.back().map(|last| last.id);
                continue;
            }
            self.queued += 1;
            lane.queue.push_back(*mark);
            if lane.queue.len() == 1 && !lane.is_busy {
                self.ready.insert((lane.due, mark.id, number));
            }
        }
        true
    }

    /// A lane of which more is to be read, from behind an id and up to one.
    pub(super) fn wants_more(&self) -> Option<(u64, u64, u64)> {
        let number = *self.short.first()?;
        Some((number, self.lanes.get(&number)?.more_from?, self.read_to))
    }

    /// What was read of such a lane, and whether that was all up to where it was to be read.
    pub(super) fn add_to(&mut self, number: u64, marks: &[HookMark], looked_to: Option<u64>) {
        self.short.remove(&number);
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        let mut more_from = looked_to;
        for mark in marks {
            if lane.queue.len() >= MOST_OF_LANE {
                more_from = lane.queue.back().map(|last| last.id);
                break;
            }
            if !self.held.contains(&mark.id) {
                self.queued += 1;
                lane.queue.push_back(*mark);
            }
        }
        lane.more_from = more_from;
        let first = lane.queue.front().map(|mark| mark.id);
        match first {
            Some(first) => self.ready.insert((lane.due, first, number)),
            None if lane.more_from.is_none() => self.lanes.remove(&number).is_some(),
            None => self.short.insert(number),
        };
    }

    /// Takes what is to go out next; whether it is due or not, if `is_probe`.
    pub(super) fn take(&mut self, now: Instant, is_probe: bool) -> Option<HookMark> {
        if let Some((due, id, number)) = self.ready.first().copied() {
            if due > now && !is_probe {
                return None;
            }
            self.ready.remove(&(due, id, number));
            let lane = self.lanes.get_mut(&number)?;
            lane.is_busy = true;
            let mark = lane.queue.pop_front()?;
            self.queued -= 1;
            self.held.insert(mark.id);
            return Some(mark);
        }
        let is_clear = self.lanes.is_empty() && !self.is_barrier_busy;
        let mark = self.barrier.filter(|_| is_clear)?;
        self.is_barrier_busy = true;
        self.held.insert(mark.id);
        Some(mark)
    }

    /// It is done with, in one way or another: its lane goes on.
    pub(super) fn pass(&mut self, mark: HookMark, now: Instant) {
        let Some(number) = mark.lane else {
            self.is_barrier_busy = false;
            self.barrier = None;
            return;
        };
        self.put_back(number, None, |lane| (lane.failures, lane.due) = (0, now));
    }

    /// It has failed, and goes out again after a pause, which depends on how often it failed.
    pub(super) fn fail(&mut self, mark: HookMark, pause: impl FnOnce(u32) -> Duration, now: Instant) -> u32 {
        self.held.remove(&mark.id);
        let Some(number) = mark.lane else {
            self.is_barrier_busy = false;
            return 1;
        };
        let mut failures = 0;
        self.put_back(number, Some(mark), |lane| {
            lane.failures = lane.failures.saturating_add(1);
            failures = lane.failures;
            lane.due = now + pause(lane.failures);
        });
        failures
    }

    /// How often the first of a lane has failed, with this time.
    pub(super) fn failures_with_this(&self, mark: HookMark) -> u32 {
        mark.lane.and_then(|number| self.lanes.get(&number)).map_or(1, |lane| lane.failures.saturating_add(1))
    }

    fn put_back(&mut self, number: u64, first: Option<HookMark>, change: impl FnOnce(&mut Lane)) {
        let Some(lane) = self.lanes.get_mut(&number) else { return };
        lane.is_busy = false;
        change(lane);
        if let Some(first) = first {
            lane.queue.push_front(first);
            self.queued += 1;
        }
        let next = lane.queue.front().map(|mark| mark.id);
        match next {
            Some(next) => self.ready.insert((lane.due, next, number)),
            None if lane.more_from.is_none() => self.lanes.remove(&number).is_some(),
            None => self.short.insert(number),
        };
    }

    /// The store has noted that these are done with.
    pub(super) fn let_go(&mut self, ids: impl Iterator<Item = u64>) {
        ids.for_each(|id| {
            self.held.remove(&id);
        });
    }

    /// Everything is read again, and may go out at once: something is back, or the receiver is another one.
    pub(super) fn begin_again(&mut self, now: Instant) {
        self.ready.clear();
        self.short.clear();
        self.queued = 0;
        self.read_to = 0;
        if !self.is_barrier_busy {
            self.barrier = None;
        }
        self.lanes.retain(|_, lane| {
            lane.queue.clear();
            (lane.more_from, lane.failures, lane.due) = (None, 0, now);
            lane.is_busy
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;

    fn mark(id: u64, lane: u64) -> HookMark {
        HookMark { id, lane: Some(lane).filter(|lane| *lane > 0), at: Timestamp(0) }
    }

    #[test]
    fn a_pause_doubles_up_to_its_bound_and_is_spread() {
        let seconds = |failures, chance| lane_pause(failures, chance).as_secs_f64();
        assert_eq!((seconds(1, 1.0), seconds(1, 0.0), seconds(2, 1.0), seconds(5, 1.0)), (1.0, 0.5, 2.0, 16.0));
        assert_eq!((seconds(40, 1.0), seconds(u32::MAX, 0.0)), (600.0, 300.0));
        assert_eq!(receiver_pause(40, 1.0), RECEIVER_LONGEST);
    }

    #[test]
    fn one_of_a_lane_is_out_at_a_time_and_lanes_do_not_wait_for_each_other() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        assert!(lanes.add(&[mark(1, 7), mark(2, 8), mark(3, 7), mark(4, 8)], now));
        assert_eq!((lanes.take(now, false), lanes.take(now, false)), (Some(mark(1, 7)), Some(mark(2, 8))));
        assert_eq!(lanes.take(now, false), None);
        // The first fails: its lane waits, and the other one goes on.
        assert_eq!(lanes.fail(mark(1, 7), |_| Duration::from_secs(9), now), 1);
        lanes.pass(mark(2, 8), now);
        assert_eq!((lanes.take(now, false), lanes.take(now, false)), (Some(mark(4, 8)), None));
        lanes.pass(mark(4, 8), now);
        // A probe does not wait.
        assert_eq!(lanes.take(now, true), Some(mark(1, 7)));
        lanes.fail(mark(1, 7), |_| Duration::from_secs(9), now);
        assert_eq!(lanes.take(now + Duration::from_secs(9), false), Some(mark(1, 7)));
        lanes.pass(mark(1, 7), now);
        assert_eq!(lanes.take(now, false), Some(mark(3, 7)));
        lanes.pass(mark(3, 7), now);
        assert!(lanes.lanes.is_empty() && lanes.ready.is_empty() && lanes.queued == 0);
    }

    #[test]
    fn a_gap_goes_out_behind_all_before_it_and_before_all_behind_it() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        assert!(!lanes.add(&[mark(1, 7), mark(2, 0), mark(9, 7)], now));
        assert_eq!(lanes.reads_behind(), None);
        assert_eq!((lanes.take(now, false), lanes.take(now, false)), (Some(mark(1, 7)), None));
        lanes.pass(mark(1, 7), now);
        assert_eq!((lanes.take(now, false), lanes.take(now, true)), (Some(mark(2, 0)), None));
        lanes.fail(mark(2, 0), |_| Duration::ZERO, now);
        assert_eq!(lanes.take(now, false), Some(mark(2, 0)));
        lanes.pass(mark(2, 0), now);
        assert_eq!(lanes.reads_behind(), Some(2));
        assert!(lanes.add(&[mark(9, 7)], now));
        assert_eq!(lanes.take(now, false), Some(mark(9, 7)));
    }

    #[test]
    fn what_is_out_is_not_read_again() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.add(&[mark(1, 7), mark(2, 7), mark(3, 8)], now);
        let (one, three) = (lanes.take(now, false), lanes.take(now, false));
        assert_eq!((one, three), (Some(mark(1, 7)), Some(mark(3, 8))));
        lanes.pass(mark(3, 8), now);
        lanes.begin_again(now);
        lanes.add(&[mark(1, 7), mark(2, 7), mark(3, 8), mark(4, 8)], now);
        assert_eq!((lanes.take(now, false), lanes.take(now, false)), (Some(mark(4, 8)), None));
        lanes.pass(mark(1, 7), now);
        assert_eq!(lanes.take(now, false), Some(mark(2, 7)));
        lanes.let_go([1, 3].into_iter());
        assert_eq!(lanes.held.len(), 2);
    }

    #[test]
    fn of_a_long_lane_the_rest_is_read_when_its_turn_comes() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        let all: Vec<HookMark> = (1..=MOST_OF_LANE as u64 + 5).map(|id| mark(id, 7)).collect();
        assert!(lanes.add(&all, now));
        assert_eq!((lanes.queued, lanes.wants_more()), (MOST_OF_LANE, None));
        for id in 1..=MOST_OF_LANE as u64 {
            assert_eq!(lanes.take(now, false), Some(mark(id, 7)));
            lanes.pass(mark(id, 7), now);
        }
        assert_eq!(lanes.take(now, false), None);
        let most = MOST_OF_LANE as u64;
        assert_eq!(lanes.wants_more(), Some((7, most, most + 5)));
        lanes.add_to(7, &all[MOST_OF_LANE..MOST_OF_LANE + 2], Some(most + 2));
        assert_eq!(lanes.take(now, false), Some(mark(most + 1, 7)));
        lanes.pass(mark(most + 1, 7), now);
        assert_eq!(lanes.take(now, false), Some(mark(most + 2, 7)));
        lanes.pass(mark(most + 2, 7), now);
        assert_eq!(lanes.wants_more(), Some((7, most + 2, most + 5)));
        lanes.add_to(7, &all[MOST_OF_LANE + 2..], None);
        for id in most + 3..=most + 5 {
            assert_eq!(lanes.take(now, false), Some(mark(id, 7)));
            lanes.pass(mark(id, 7), now);
        }
        assert!(lanes.lanes.is_empty());
    }
}
