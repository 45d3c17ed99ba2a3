//! How much somebody may ask in a while: four rates for what is done often, and one [`budget`] for everything. One decision for
//! both transports: the same buckets count what comes over Socket.IO and over HTTP.

pub mod budget;
mod quotas;

use std::hash::Hash;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use governor::clock::{Clock as _, DefaultClock, QuantaInstant};
use governor::{DefaultKeyedRateLimiter, NotUntil, Quota, RateLimiter};
use parking_lot::Mutex;

use crate::config::Limits;
use crate::domain::{Actor, Timestamp, UserId};
use crate::observability::counters::Counters;
use crate::protocol::error::ApiError;
use crate::services::limits::budget::{Budgets, RequestKind};
use crate::services::limits::quotas::{BytesClaim, Daily, DailyClaim, RefusedUsers, StoreQuotas};
use crate::services::storage::Storage;
use crate::store::operations::RequestKey;

pub use crate::services::limits::quotas::StoreQuota;

/// What the repetition of an answered request costs where a rate is used up.
const POINTS_A_REPETITION: u32 = 3;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rate {
    /// Posting, editing, deleting.
    Messages,
    /// Typing.
    Typing,
    /// Progress reports.
    Syncs,
    /// Joining.
    Joins,
}

impl Rate {
    /// Its name among the figures.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Rate::Messages => "messages",
            Rate::Typing => "typing",
            Rate::Syncs => "syncs",
            Rate::Joins => "joins",
        }
    }
}

type Buckets = Option<DefaultKeyedRateLimiter<UserId>>;

/// The rates in force, and how often they refuse.
#[derive(Debug)]
pub struct Rates {
    buckets: ArcSwap<RateLimits>,
    budgets: ArcSwap<Budgets>,
    quotas: ArcSwap<StoreQuotas>,
    refused: Mutex<RefusedUsers>,
    counters: Arc<Counters>,
}

impl Rates {
    /// Full buckets. Refusals are counted in `counters`.
    #[must_use]
    pub fn new(limits: &Limits, counters: Arc<Counters>) -> Rates {
        let budgets = ArcSwap::from_pointee(Budgets::new(limits));
        let quotas = ArcSwap::from_pointee(StoreQuotas::new(limits));
        let buckets = ArcSwap::from_pointee(RateLimits::new(limits));
        Rates { buckets, budgets, quotas, refused: Mutex::default(), counters }
    }

    /// Goes by other rates from now on, if they are others: who has used up a part of one begins anew then.
    pub fn replace(&self, limits: &Limits) {
        if self.buckets.load().quotas != quotas(limits) {
            self.buckets.store(Arc::new(RateLimits::new(limits)));
        }
        if !self.budgets.load().are_of(limits) {
            self.budgets.store(Arc::new(Budgets::new(limits)));
        }
        if !self.quotas.load().are_of(limits) {
            self.quotas.store(Arc::new(StoreQuotas::new(limits)));
        }
    }

    /// Takes what a request costs from the caller's budget. `bytes` is its size.
    ///
    /// # Errors
    /// `rate_limited` with the time after which it is taken.
    pub fn charge(&self, actor: &Actor, kind: RequestKind, bytes: u64) -> Result<(), ApiError> {
        self.charge_points(actor, kind.points(bytes))
    }

    /// Takes points from the caller's budget, for what is found out of a request later.
    ///
    /// # Errors
    /// As [`Rates::charge`].
    pub fn charge_points(&self, actor: &Actor, points: u32) -> Result<(), ApiError> {
        self.budgets.load().charge(actor, points).map_err(|wait| self.exhausted(wait))
    }

    /// Takes what a request costs from the budget of a network: nobody is signed in.
    ///
    /// # Errors
    /// As [`Rates::charge`].
    pub fn charge_network(&self, network: IpAddr, kind: RequestKind) -> Result<(), ApiError> {
        let charged = self.budgets.load().charge_network(network, kind.points(0));
        charged.map_err(|wait| self.exhausted(wait))
    }

    /// Claims what a request will add to the store from the caller's quota of the day: `Some` is to be settled when it is known what
    /// was added. Administrators and service tokens have no quota, and the repetition of what was answered adds nothing: that is paid
    /// from the budget where the quota is used up.
    ///
    /// # Errors
    /// `rate_limited` with the time after which there is so much.
    pub(super) async fn claim_bytes(
        &self,
        store: &Storage,
        actor: &Actor,
        bytes: usize,
        keys: &[Option<&RequestKey>],
    ) -> Result<Option<BytesClaim>, ApiError> {
        if actor.is_trusted() {
            return Ok(None);
        }
        let claimed = self.quotas.load().claim_bytes(&actor.user, bytes, Instant::now());
        let Err(wait) = claimed else { return Ok(claimed.ok().flatten()) };
        if self.repeats(store, actor, keys).await? {
            return Ok(None);
        }
        self.note_refused(StoreQuota::Stored, &actor.user, store.now());
        Err(ApiError::rate_limited(wait, "you have stored as much as a user may in a day; go on later"))
    }

    /// Claims a room for a message that may be the first one in it; of administrators and service tokens, none.
    ///
    /// # Errors
    /// `rate_limited` with the time after which the caller may begin one.
    pub(super) fn claim_room(&self, actor: &Actor, now: Timestamp) -> Result<Option<DailyClaim>, ApiError> {
        self.claim(Daily::Rooms, actor, now)
    }

    /// Claims a report; of administrators and service tokens, none.
    ///
    /// # Errors
    /// `rate_limited` with the time after which the caller may make one.
    pub(super) fn claim_report(&self, actor: &Actor, now: Timestamp) -> Result<Option<DailyClaim>, ApiError> {
        self.claim(Daily::Reports, actor, now).inspect_err(|_| self.note_refused(StoreQuota::Reports, &actor.user, now))
    }

    fn claim(&self, what: Daily, actor: &Actor, now: Timestamp) -> Result<Option<DailyClaim>, ApiError> {
        if actor.is_trusted() {
            return Ok(None);
        }
        let claimed = self.quotas.load().claim(what, &actor.user, now);
        claimed.map_err(|(wait, words)| ApiError::rate_limited(wait, words))
    }

    /// A quota has refused something of a user.
    pub(super) fn note_refused(&self, quota: StoreQuota, user: &UserId, now: Timestamp) {
        self.counters.rate_limited.add(quota.name());
        self.refused.lock().note(quota, user, now);
    }

    /// How many users each quota has refused on the day of this moment, in UTC.
    #[must_use]
    pub fn refused_users(&self, now: Timestamp) -> Vec<(StoreQuota, usize)> {
        self.refused.lock().counts(now)
    }

    fn exhausted(&self, wait: Duration) -> ApiError {
        self.counters.rate_limited.add("budget");
        ApiError::rate_limited(wait, "too many requests; wait a moment and send it again")
    }

    /// Counts a request against the limits.
    pub(super) fn count(&self, rate: Rate, user: &UserId) -> Result<(), ApiError> {
        let counted = self.buckets.load().count(rate, user);
        if counted.is_err() {
            self.counters.rate_limited.add(rate.name());
        }
        counted
    }

    /// Counts a request against the limits, unless it is the repetition of one that was answered: that is paid from the budget.
    pub(super) async fn count_once(
        &self,
        store: &Storage,
        rate: Rate,
        actor: &Actor,
        keys: &[Option<&RequestKey>],
    ) -> Result<(), ApiError> {
        let Err(error) = self.count(rate, &actor.user) else { return Ok(()) };
        if self.repeats(store, actor, keys).await? { Ok(()) } else { Err(error) }
    }

    /// Whether a request repeats what was answered: all of it, or it is no repetition; without a key there is none. To ask costs
    /// points.
    async fn repeats(&self, store: &Storage, actor: &Actor, keys: &[Option<&RequestKey>]) -> Result<bool, ApiError> {
        if keys.is_empty() || keys.iter().any(Option::is_none) {
            return Ok(false);
        }
        self.charge_points(actor, POINTS_A_REPETITION)?;
        for key in keys {
            if !store.has_answered(*key).await {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Drops the buckets that are full again.
    pub(super) fn forget_the_idle(&self) {
        self.buckets.load().forget_the_idle();
        self.budgets.load().forget_the_idle();
        self.quotas.load().forget_the_idle(Instant::now());
    }
}

/// How long it is until a limiter allows what it has refused.
pub(crate) fn wait_of(not_until: &NotUntil<QuantaInstant>) -> Duration {
    not_until.wait_time_from(DefaultClock::default().now())
}

/// Takes so many cells from somebody's bucket, or gives how long they have to wait for them. What costs more than the `most` that a
/// bucket has takes a whole one.
fn take<K: Clone + Eq + Hash>(
    limiter: &DefaultKeyedRateLimiter<K>,
    key: &K,
    cells: u32,
    most: NonZeroU32,
) -> Result<(), Duration> {
    let Some(cells) = NonZeroU32::new(cells).map(|cells| cells.min(most)) else { return Ok(()) };
    match limiter.check_key_n(key, cells) {
        Ok(Err(not_until)) => Err(wait_of(&not_until)),
        // The bucket has the capacity: see above.
        Ok(Ok(())) | Err(_) => Ok(()),
    }
}

/// The buckets of all users.
#[derive(Debug)]
pub struct RateLimits {
    /// What they were made from.
    quotas: Quotas,
    messages: Buckets,
    typing: Buckets,
    syncs: Buckets,
    joins: Buckets,
}

/// (a second, at once) of messages, typing, syncs and joins; of all limits these alone are rates that are counted here.
type Quotas = [(u32, u32); 4];

fn quotas(limits: &Limits) -> Quotas {
    [
        (limits.messages_per_second, limits.message_burst),
        (limits.typing_per_second, limits.typing_per_second),
        (limits.syncs_per_second, limits.syncs_per_second),
        (limits.joins_per_second, limits.joins_per_second),
    ]
}

fn buckets((per_second, burst): (u32, u32)) -> Buckets {
    let per_second = NonZeroU32::new(per_second)?;
    let burst = NonZeroU32::new(burst).unwrap_or(per_second);
    Some(RateLimiter::keyed(Quota::per_second(per_second).allow_burst(burst)))
}

impl RateLimits {
    /// Full buckets.
    #[must_use]
    pub fn new(limits: &Limits) -> RateLimits {
        let quotas = quotas(limits);
        let [messages, typing, syncs, joins] = quotas.map(buckets);
        RateLimits { quotas, messages, typing, syncs, joins }
    }

    /// Counts one request.
    ///
    /// # Errors
    /// `rate_limited` with the time after which the next one is taken.
    pub fn count(&self, rate: Rate, user: &UserId) -> Result<(), ApiError> {
        let (buckets, what) = match rate {
            Rate::Messages => (&self.messages, "too many messages; wait a moment and send it again"),
            Rate::Typing => (&self.typing, "too many typing signals; send one when it changes"),
            Rate::Syncs => (&self.syncs, "too many progress reports; wait a moment, or send them as one batch"),
            Rate::Joins => (&self.joins, "too many joins; wait a moment and join again"),
        };
        let Some(buckets) = buckets else { return Ok(()) };
        buckets.check_key(user).map_err(|not_until| ApiError::rate_limited(wait_of(&not_until), what))
    }

    /// Drops the buckets that are full again.
    pub fn forget_the_idle(&self) {
        for buckets in [&self.messages, &self.typing, &self.syncs, &self.joins].into_iter().flatten() {
            buckets.retain_recent();
            buckets.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::protocol::ErrorCode;

    #[test]
    fn a_burst_passes_and_then_the_rate_holds() {
        let limits = Limits {
            messages_per_second: 10,
            message_burst: 30,
            typing_per_second: 0,
            syncs_per_second: 1,
            joins_per_second: 1,
            ..Config::default().limits
        };
        let rates = RateLimits::new(&limits);
        let (one, other) = (UserId::parse("1").unwrap(), UserId::parse("2").unwrap());
        for _ in 0..30 {
            rates.count(Rate::Messages, &one).unwrap();
        }
        let refused = (0..5).find_map(|_| rates.count(Rate::Messages, &one).err()).expect("the burst is over");
        assert_eq!(refused.code, ErrorCode::RateLimited);
        assert!((1..=200).contains(&refused.retry_after_ms.unwrap()));
        rates.count(Rate::Messages, &other).unwrap();
        for _ in 0..1_000 {
            rates.count(Rate::Typing, &one).unwrap();
        }
    }

    #[test]
    fn other_limits_begin_no_rate_anew_and_another_rate_does() {
        let limits = Limits { messages_per_second: 1, message_burst: 1, ..Config::default().limits };
        let rates = Rates::new(&limits, Arc::default());
        let user = UserId::parse("1").unwrap();
        rates.count(Rate::Messages, &user).unwrap();
        rates.replace(&Limits { message_chars: 10, payload: 5, sockets_per_user: 1, ..limits.clone() });
        assert!(rates.count(Rate::Messages, &user).is_err(), "what is used up stays used up");
        rates.replace(&Limits { message_burst: 2, ..limits });
        rates.count(Rate::Messages, &user).unwrap();
    }
}
