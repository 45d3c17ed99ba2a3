//! What a user may add to the store: bytes, which come back evenly over a day, and rooms that nobody has registered before and reports
//! of messages, so many each day of UTC. They are counted in memory: a restart begins them anew, which nobody but an administrator can bring about.
//! What a request will add is claimed before it is written, so that many at once have no more than one after the other, and is
//! given back if it was not written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Limits;
use crate::domain::{Timestamp, UserId};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes are counted in so many, rounded up.
const UNIT: usize = 1_024;
/// Who finds all rooms or reports of the day claimed, and not all of them made, asks again after so long.
const CLAIMED: Duration = Duration::from_secs(1);

/// What is limited for each user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreQuota {
    /// `limits.stored_per_day`.
    Stored,
    /// `limits.rooms_per_day`.
    NewRooms,
    /// `limits.lessons_per_user`.
    Lessons,
    /// `limits.reports_per_day`.
    Reports,
}

impl StoreQuota {
    /// All of them.
    pub const ALL: [StoreQuota; 4] =
        [StoreQuota::Stored, StoreQuota::NewRooms, StoreQuota::Lessons, StoreQuota::Reports];

    /// Its name among the figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            StoreQuota::Stored => "stored",
            StoreQuota::NewRooms => "new_rooms",
            StoreQuota::Lessons => "lessons",
            StoreQuota::Reports => "reports",
        }
    }
}

/// Whom each quota has refused on a day of UTC.
#[derive(Debug, Default)]
pub(super) struct RefusedUsers {
    day: u64,
    users: [HashSet<UserId>; StoreQuota::ALL.len()],
}

impl RefusedUsers {
    fn at(&mut self, now: Timestamp) -> impl Iterator<Item = (StoreQuota, &mut HashSet<UserId>)> {
        if self.day != now.day() {
            *self = RefusedUsers { day: now.day(), ..RefusedUsers::default() };
        }
        StoreQuota::ALL.into_iter().zip(&mut self.users)
    }

    /// A quota has refused a user.
    pub(super) fn note(&mut self, quota: StoreQuota, user: &UserId, now: Timestamp) {
        for (_, users) in self.at(now).filter(|(one, users)| *one == quota && !users.contains(user)) {
            users.insert(user.clone());
        }
    }

    /// How many users each quota has refused on the day of this moment.
    pub(super) fn counts(&mut self, now: Timestamp) -> Vec<(StoreQuota, usize)> {
        self.at(now).map(|(quota, users)| (quota, users.len())).collect()
    }
}

/// The quotas of all users, where there is a limit.
#[derive(Debug)]
pub(super) struct StoreQuotas {
    /// (bytes, rooms, reports) a day.
    limits: (u64, u32, u32),
    /// When all the bytes of a user have come back, of whom some have not. Each unit takes its part of a day to come back.
    whole_at: Mutex<HashMap<UserId, Instant>>,
    rooms: Mutex<CountsOfDay>,
    reports: Mutex<CountsOfDay>,
}

/// Who has made something on a day, and how many of it.
#[derive(Debug, Default)]
struct CountsOfDay {
    day: u64,
    of: HashMap<UserId, Counted>,
}

#[derive(Debug, Default)]
struct Counted {
    made: u32,
    /// Those that are being written, and may turn out to be there already.
    claimed: u32,
}

impl CountsOfDay {
    fn at(&mut self, now: Timestamp) -> &mut HashMap<UserId, Counted> {
        if self.day != now.day() {
            *self = CountsOfDay { day: now.day(), of: HashMap::new() };
        }
        &mut self.of
    }
}

/// What is counted by the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Daily {
    /// Rooms that are begun.
    Rooms,
    /// Reports of messages.
    Reports,
}

impl Daily {
    /// What is said to whom no more are left for today, and to whom they are all claimed.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Daily::Rooms => (
                "you have begun as many rooms as a user may in a day; go on tomorrow",
                "you begin more rooms at once than you have left for today; send it again in a moment",
            ),
            Daily::Reports => (
                "you have reported as many messages as a user may in a day; go on tomorrow",
                "you report more messages at once than you have left for today; send it again in a moment",
            ),
        }
    }
}

/// Bytes that a request may add.
#[derive(Debug)]
#[must_use]
pub(in crate::services) struct BytesClaim {
    quotas: Arc<StoreQuotas>,
    user: UserId,
    bytes: usize,
}

impl BytesClaim {
    /// So many of them were stored; the others are given back. Where nobody says so, all of them may have been.
    pub(in crate::services) fn settle(self, stored: usize) {
        self.quotas.give_back_bytes(&self.user, self.bytes, stored);
    }
}

/// A room or a report that a request may make. It counts as made unless it is given back: who hangs up before the answer has made
/// one.
#[derive(Debug)]
#[must_use]
pub(in crate::services) struct DailyClaim {
    quotas: Arc<StoreQuotas>,
    what: Daily,
    user: UserId,
    day: u64,
    is_made: bool,
}

impl DailyClaim {
    /// Whether it has been made is known.
    pub(in crate::services) fn settle(mut self, is_made: bool) {
        self.is_made = is_made;
    }
}

impl Drop for DailyClaim {
    fn drop(&mut self) {
        self.quotas.settle(self.what, &self.user, self.day, self.is_made);
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl StoreQuotas {
    /// Nobody has added anything.
    pub(super) fn new(limits: &Limits) -> StoreQuotas {
        StoreQuotas {
            limits: StoreQuotas::limits(limits),
            whole_at: Mutex::default(),
            rooms: Mutex::default(),
            reports: Mutex::default(),
        }
    }

    /// Whether they are those of other limits as well.
    pub(super) fn are_of(&self, limits: &Limits) -> bool {
        self.limits == StoreQuotas::limits(limits)
    }

    fn limits(limits: &Limits) -> (u64, u32, u32) {
        (limits.stored_per_day, limits.rooms_per_day, limits.reports_per_day)
    }

    fn daily(&self, what: Daily) -> (&Mutex<CountsOfDay>, u32) {
        match what {
            Daily::Rooms => (&self.rooms, self.limits.1),
            Daily::Reports => (&self.reports, self.limits.2),
        }
    }

    /// How long bytes take to come back. What is larger than all takes all.
    fn time_of(&self, bytes: usize) -> Duration {
        let all = units(usize::try_from(self.limits.0).unwrap_or(usize::MAX));
        DAY.checked_div(all).map_or(Duration::ZERO, |unit| unit * units(bytes).min(all))
    }

    /// Takes bytes; gives how long the user has to wait for them if there are too few.
    pub(super) fn claim_bytes(
        self: &Arc<Self>,
        user: &UserId,
        bytes: usize,
        now: Instant,
    ) -> Result<Option<BytesClaim>, Duration> {
        let takes = self.time_of(bytes);
        if takes.is_zero() {
            return Ok(None);
        }
        let mut all = self.whole_at.lock();
        let owed = all.get(user).map_or(Duration::ZERO, |whole| whole.saturating_duration_since(now)) + takes;
        if let Some(wait) = owed.checked_sub(DAY).filter(|wait| !wait.is_zero()) {
            return Err(wait);
        }
        all.insert(user.clone(), now + owed);
        Ok(Some(BytesClaim { quotas: self.clone(), user: user.clone(), bytes }))
    }

    fn give_back_bytes(&self, user: &UserId, claimed: usize, stored: usize) {
        let back = self.time_of(claimed).saturating_sub(self.time_of(stored));
        if let Some(whole) = self.whole_at.lock().get_mut(user) {
            *whole = whole.checked_sub(back).unwrap_or(*whole);
        }
    }

    /// Claims one that a user may make; if there is none, gives how long they have to wait, and why in words.
    pub(super) fn claim(
        self: &Arc<Self>,
        what: Daily,
        user: &UserId,
        now: Timestamp,
    ) -> Result<Option<DailyClaim>, (Duration, &'static str)> {
        let (counts, most) = self.daily(what);
        if most == 0 {
            return Ok(None);
        }
        let mut counts = counts.lock();
        let counted = counts.at(now).entry(user.clone()).or_default();
        let (none_left, all_claimed) = what.words();
        if counted.made >= most {
            let day = u64::try_from(DAY.as_millis()).unwrap_or(u64::MAX);
            return Err((Duration::from_millis(day - now.0 % day), none_left));
        }
        if counted.made + counted.claimed >= most {
            return Err((CLAIMED, all_claimed));
        }
        counted.claimed += 1;
        Ok(Some(DailyClaim { quotas: self.clone(), what, user: user.clone(), day: now.day(), is_made: true }))
    }

    fn settle(&self, what: Daily, user: &UserId, day: u64, is_made: bool) {
        let mut counts = self.daily(what).0.lock();
        if counts.day != day {
            return;
        }
        let Some(of) = counts.of.get_mut(user) else { return };
        of.claimed = of.claimed.saturating_sub(1);
        of.made += u32::from(is_made);
        if of.made + of.claimed == 0 {
            counts.of.remove(user);
        }
    }

    /// Drops those of whom nothing is counted any more.
    pub(super) fn forget_the_idle(&self, now: Instant) {
        let mut all = self.whole_at.lock();
        all.retain(|_, whole| *whole > now);
        all.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const MIDNIGHT: Timestamp = Timestamp(86_400_000);

    fn quotas(stored_per_day: u64, rooms_per_day: u32) -> Arc<StoreQuotas> {
        let limits = Limits { stored_per_day, rooms_per_day, reports_per_day: 0, ..Config::default().limits };
        Arc::new(StoreQuotas::new(&limits))
    }

    fn users() -> (UserId, UserId) {
        (UserId::parse("1").unwrap(), UserId::parse("2").unwrap())
    }

    #[test]
    fn a_user_adds_so_many_bytes_a_day_and_others_have_their_own() {
        let (quotas, (one, other), now) = (quotas(100 * 1_024, 0), users(), Instant::now());
        let take = |user: &UserId, bytes, at: Instant| quotas.claim_bytes(user, bytes, at).map(drop);
        for _ in 0..100 {
            take(&one, 7, now).unwrap();
        }
        assert_eq!(take(&one, 7, now), Err(DAY / 100));
        assert_eq!(take(&one, 3_000, now + DAY / 200), Err(DAY / 100 * 3 - DAY / 200));
        take(&other, 1 << 30, now).unwrap();
        assert_eq!(take(&other, 1, now), Err(DAY / 100), "what is larger than all takes all");
        // They come back evenly, and after a day all of them are there again, and no more than these.
        take(&one, 7, now + DAY / 100).unwrap();
        assert!(take(&one, 7, now + DAY / 100).is_err());
        quotas.forget_the_idle(now + DAY);
        for _ in 0..99 {
            take(&one, 1_024, now + DAY).unwrap();
        }
        assert!(take(&one, 1_024, now + DAY).is_err());
        quotas.forget_the_idle(now + DAY * 3);
        assert!(quotas.whole_at.lock().is_empty());
    }

    #[test]
    fn what_is_not_stored_is_given_back() {
        let (quotas, (one, _), now) = (quotas(4 * 1_024, 0), users(), Instant::now());
        let claim = |bytes| quotas.claim_bytes(&one, bytes, now);
        claim(4_096).unwrap().unwrap().settle(0);
        claim(4_096).unwrap().unwrap().settle(1_000);
        claim(3_000).unwrap().unwrap().settle(3_000);
        assert_eq!(claim(1).unwrap_err(), DAY / 4);
    }

    #[test]
    fn a_user_begins_so_many_rooms_a_day_however_many_at_once() {
        let (quotas, (one, other)) = (quotas(0, 2), users());
        let evening = Timestamp(MIDNIGHT.0 - 1_500);
        let claim = |user: &UserId| quotas.claim(Daily::Rooms, user, evening);
        let (first, second) = (claim(&one).unwrap().unwrap(), claim(&one).unwrap().unwrap());
        assert_eq!(claim(&one).unwrap_err().0, CLAIMED, "these two may turn out to be there");
        first.settle(false);
        drop(claim(&one).unwrap());
        second.settle(true);
        assert_eq!(claim(&one).unwrap_err().0, Duration::from_millis(1_500), "who hangs up has begun one");
        claim(&other).unwrap().unwrap().settle(false);
        assert_eq!(quotas.rooms.lock().of.len(), 1, "who has begun none is not kept");
        let late = claim(&other).unwrap().unwrap();
        let next = [(); 2].map(|()| quotas.claim(Daily::Rooms, &one, MIDNIGHT).unwrap().unwrap());
        late.settle(false);
        for claim in next {
            claim.settle(true);
        }
        assert!(quotas.claim(Daily::Rooms, &one, MIDNIGHT).is_err(), "another day has its own");
    }

    #[test]
    fn reports_are_counted_beside_rooms() {
        let limits = Limits { rooms_per_day: 1, reports_per_day: 2, ..Config::default().limits };
        let (quotas, (one, _)) = (Arc::new(StoreQuotas::new(&limits)), users());
        let claim = |what| quotas.claim(what, &one, MIDNIGHT).map(|claim| claim.unwrap().settle(true));
        claim(Daily::Rooms).unwrap();
        claim(Daily::Reports).unwrap();
        claim(Daily::Reports).unwrap();
        assert_eq!(claim(Daily::Reports), Err((DAY, Daily::Reports.words().0)));
        assert_eq!(claim(Daily::Rooms), Err((DAY, Daily::Rooms.words().0)));
    }

    #[test]
    fn without_limits_nothing_is_counted() {
        let (quotas, (one, _)) = (quotas(0, 0), users());
        assert!(quotas.claim_bytes(&one, 1 << 40, Instant::now()).unwrap().is_none());
        assert!((0..9).all(|_| quotas.claim(Daily::Rooms, &one, MIDNIGHT).unwrap().is_none()));
        assert!(quotas.whole_at.lock().is_empty() && quotas.rooms.lock().of.is_empty());
    }

    #[test]
    fn who_was_refused_is_counted_once_a_day_for_each_quota() {
        let (mut refused, (one, other)) = (RefusedUsers::default(), users());
        for user in [&one, &one, &other] {
            refused.note(StoreQuota::Stored, user, Timestamp(5));
        }
        refused.note(StoreQuota::Lessons, &one, Timestamp(6));
        let counts = |refused: &mut RefusedUsers, now| {
            refused.counts(now).into_iter().map(|(_, count)| count).collect::<Vec<_>>()
        };
        assert_eq!(counts(&mut refused, Timestamp(7)), [2, 0, 1, 0]);
        assert_eq!(counts(&mut refused, MIDNIGHT), [0, 0, 0, 0]);
    }
}
