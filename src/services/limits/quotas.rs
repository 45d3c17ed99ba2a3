//! What a user may add to the store: bytes, which come back evenly over a day, and rooms that nobody has registered before, so many
//! each day of UTC. They are counted in memory: a restart begins them anew, which nobody but an administrator can bring about.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::config::Limits;
use crate::domain::{Timestamp, UserId};
use crate::services::limits::take;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bytes are counted in so many, rounded up.
const UNIT: usize = 1_024;

type Quotas = Option<DefaultKeyedRateLimiter<UserId>>;

/// The quotas of all users, where there is a limit.
#[derive(Debug)]
pub(super) struct StoreQuotas {
    /// (bytes, rooms) a day.
    limits: (u64, u32),
    bytes: Quotas,
    /// The most units of bytes that are taken at once.
    most: NonZeroU32,
    rooms: Mutex<RoomsOfDay>,
}

/// Who has begun rooms on a day, and how many.
#[derive(Debug, Default)]
struct RoomsOfDay {
    day: u64,
    begun: HashMap<UserId, u32>,
}

impl RoomsOfDay {
    fn at(&mut self, now: Timestamp) -> &mut HashMap<UserId, u32> {
        if self.day != now.day() {
            *self = RoomsOfDay { day: now.day(), begun: HashMap::new() };
        }
        &mut self.begun
    }
}

fn a_day(count: u32) -> Quotas {
    let count = NonZeroU32::new(count)?;
    let quota = Quota::with_period(DAY / count.get())?.allow_burst(count);
    Some(RateLimiter::keyed(quota))
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl StoreQuotas {
    /// Nobody has added anything.
    pub(super) fn new(limits: &Limits) -> StoreQuotas {
        let all = units(usize::try_from(limits.stored_per_day).unwrap_or(usize::MAX));
        StoreQuotas {
            limits: (limits.stored_per_day, limits.rooms_per_day),
            bytes: a_day(all),
            most: NonZeroU32::new(all).unwrap_or(NonZeroU32::MIN),
            rooms: Mutex::default(),
        }
    }

    /// Whether they are those of other limits as well.
    pub(super) fn are_of(&self, limits: &Limits) -> bool {
        self.limits == (limits.stored_per_day, limits.rooms_per_day)
    }

    /// Takes bytes; gives how long the user has to wait for them if there are too few.
    pub(super) fn take_bytes(&self, user: &UserId, bytes: usize) -> Result<(), Duration> {
        self.bytes.as_ref().map_or(Ok(()), |quota| take(quota, user, units(bytes), self.most))
    }

    /// Whether a user may begin a room; if not, how long they have to wait.
    pub(super) fn may_begin_room(&self, user: &UserId, now: Timestamp) -> Result<(), Duration> {
        let most = self.limits.1;
        if most == 0 || self.rooms.lock().at(now).get(user).is_none_or(|begun| *begun < most) {
            return Ok(());
        }
        let day = u64::try_from(DAY.as_millis()).unwrap_or(u64::MAX);
        Err(Duration::from_millis(day - now.0 % day))
    }

    /// A user has begun a room.
    pub(super) fn note_room(&self, user: &UserId, now: Timestamp) {
        if self.limits.1 > 0 {
            *self.rooms.lock().at(now).entry(user.clone()).or_default() += 1;
        }
    }

    /// Drops those of whom nothing is counted any more.
    pub(super) fn forget_the_idle(&self) {
        if let Some(quotas) = &self.bytes {
            quotas.retain_recent();
            quotas.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn a_user_adds_so_much_a_day_and_others_have_their_own() {
        let limits = Limits { stored_per_day: 100 * 1_024, rooms_per_day: 2, ..Config::default().limits };
        let quotas = StoreQuotas::new(&limits);
        let (one, other) = (UserId::parse("1").unwrap(), UserId::parse("2").unwrap());
        for _ in 0..100 {
            quotas.take_bytes(&one, 7).unwrap();
        }
        let wait = quotas.take_bytes(&one, 7).unwrap_err();
        assert!(wait <= DAY / 100 && wait > DAY / 200, "{wait:?}");
        quotas.take_bytes(&other, 1 << 30).unwrap();
        assert!(quotas.take_bytes(&other, 1).is_err(), "what is larger than all takes all");
        let evening = Timestamp(86_400_000 - 1_000);
        let begin =
            |quotas: &StoreQuotas| quotas.may_begin_room(&one, evening).map(|()| quotas.note_room(&one, evening));
        assert_eq!([(); 3].map(|()| begin(&quotas).is_ok()), [true, true, false]);
        assert_eq!(quotas.may_begin_room(&one, evening), Err(Duration::from_secs(1)));
        assert!(quotas.may_begin_room(&other, evening).is_ok());
        assert!(quotas.may_begin_room(&one, Timestamp(86_400_000)).is_ok(), "another day");
        let free = StoreQuotas::new(&Limits { stored_per_day: 0, rooms_per_day: 0, ..limits });
        free.take_bytes(&one, 1 << 40).unwrap();
        assert!((0..9).all(|_| begin(&free).is_ok()));
    }
}
