//! What a user may add to the store: bytes, and rooms that nobody has registered before. Both come back over a day, evenly. They
//! are counted in memory: a restart begins them anew, which nobody but an administrator can bring about.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock as _, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::Limits;
use crate::domain::UserId;

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
    rooms: Quotas,
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
            rooms: a_day(limits.rooms_per_day),
        }
    }

    /// Whether they are those of other limits as well.
    pub(super) fn are_of(&self, limits: &Limits) -> bool {
        self.limits == (limits.stored_per_day, limits.rooms_per_day)
    }

    /// Takes bytes; gives how long the user has to wait for them if there are too few.
    pub(super) fn take_bytes(&self, user: &UserId, bytes: usize) -> Result<(), Duration> {
        let Some((quota, units)) = self.bytes.as_ref().zip(NonZeroU32::new(units(bytes))) else { return Ok(()) };
        match quota.check_key_n(user, units.min(self.most)) {
            Ok(Err(not_until)) => Err(not_until.wait_time_from(DefaultClock::default().now())),
            // There is the capacity: see above.
            Ok(Ok(())) | Err(_) => Ok(()),
        }
    }

    /// Takes a room; gives how long the user has to wait for one if there is none left.
    pub(super) fn take_room(&self, user: &UserId) -> Result<(), Duration> {
        let Some(rooms) = &self.rooms else { return Ok(()) };
        rooms.check_key(user).map_err(|not_until| not_until.wait_time_from(DefaultClock::default().now()))
    }

    /// Drops those of whom nothing is counted any more.
    pub(super) fn forget_the_idle(&self) {
        for quotas in [&self.bytes, &self.rooms].into_iter().flatten() {
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
        assert_eq!([(); 3].map(|()| quotas.take_room(&one).is_ok()), [true, true, false]);
        let free = StoreQuotas::new(&Limits { stored_per_day: 0, rooms_per_day: 0, ..limits });
        free.take_bytes(&one, 1 << 40).unwrap();
        free.take_room(&one).unwrap();
    }
}
