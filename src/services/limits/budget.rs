//! What a request costs, and whose budget it is taken from. Every request has a place in one table, with a weight in points: a
//! point is about a tenth of a millisecond of a processor. A user pays from a budget of their own, whatever the connection and
//! the transport; who is not signed in pays from that of the network.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::config::Limits;
use crate::domain::{Actor, UserId};
use crate::protocol::request::ClientEvent;
use crate::services::limits::{Rate, take};

/// A point is so many parts: administrators and service tokens pay one part where others pay a point, so that a back end may
/// ask for twenty times as much.
const PARTS: u32 = 20;
/// A point more is paid for each so many bytes of a request.
const BYTES_A_POINT: u64 = 16 * 1024;

/// Every request that somebody can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RequestKind {
    /// An event of a socket, or what equals it over HTTP.
    Event(ClientEvent),
    /// An event that the server does not know, or cannot read.
    Unknown,
    /// `GET /api/v1/session`.
    Session,
    /// `GET /api/v1/events`.
    Events,
    /// `POST /api/v1/broadcast`.
    Broadcast,
    /// `POST /api/v1/notifications`.
    Notify,
    /// Whatever is below `/api/v1/admin`.
    Admin,
    /// `GET /metrics`.
    Metrics,
    /// A request of the polling transport of Socket.IO, with packets or for packets.
    Poll,
    /// A request of somebody who is not signed in: a token that is refused, a file of the SDK, an address that does not exist.
    Stranger,
}

/// What a request is paid from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// A rate of its own, as it is configured.
    Rate(Rate),
    /// So many points of the budget.
    Points(u32),
}

impl RequestKind {
    /// All of them: as the documents name them, and what each costs.
    pub const ALL: [(RequestKind, &'static str, Cost); 34] = {
        use ClientEvent as E;
        use Cost::Points;
        use RequestKind::Event;
        [
            (Event(E::ChatJoin), "chat:join", Cost::Rate(Rate::Joins)),
            (Event(E::ChatLeave), "chat:leave", Points(3)),
            (Event(E::ChatMessage), "chat:message", Cost::Rate(Rate::Messages)),
            (Event(E::ChatEdit), "chat:edit", Cost::Rate(Rate::Messages)),
            (Event(E::ChatDelete), "chat:delete", Cost::Rate(Rate::Messages)),
            (Event(E::ChatTyping), "chat:typing", Points(1)),
            (Event(E::ChatRead), "chat:read", Points(3)),
            (Event(E::ChatHistory), "chat:history", Points(5)),
            (Event(E::ChatSearch), "chat:search", Points(50)),
            (Event(E::ChatRooms), "chat:rooms", Points(10)),
            (Event(E::ChatMute), "chat:mute", Points(10)),
            (Event(E::ChatUnmute), "chat:unmute", Points(10)),
            (Event(E::ChatLock), "chat:lock", Points(10)),
            (Event(E::ChatSlow), "chat:slow", Points(10)),
            (Event(E::ChatReport), "chat:report", Points(10)),
            (Event(E::ChatReports), "chat:reports", Points(10)),
            (Event(E::ChatResolve), "chat:resolve", Points(10)),
            (Event(E::ProgressSync), "progress:sync", Cost::Rate(Rate::Syncs)),
            (Event(E::ProgressGet), "progress:get", Points(5)),
            (Event(E::ProgressHistory), "progress:history", Points(2)),
            (Event(E::NotificationList), "notification:list", Points(5)),
            (Event(E::NotificationRead), "notification:read", Points(5)),
            (Event(E::NotificationDelete), "notification:delete", Points(5)),
            (Event(E::PresenceList), "presence:list", Points(10)),
            (Event(E::AuthRefresh), "auth:refresh", Points(10)),
            (RequestKind::Unknown, "an event that does not exist", Points(1)),
            (RequestKind::Session, "`GET /api/v1/session`", Points(1)),
            (RequestKind::Events, "`GET /api/v1/events`", Points(5)),
            (RequestKind::Broadcast, "`POST /api/v1/broadcast`", Points(5)),
            (RequestKind::Notify, "`POST /api/v1/notifications`", Points(5)),
            (RequestKind::Admin, "`/api/v1/admin/…`", Points(20)),
            (RequestKind::Metrics, "`GET /metrics`", Points(5)),
            (RequestKind::Poll, "a request of the polling transport", Points(1)),
            (RequestKind::Stranger, "a request without a good token", Points(2)),
        ]
    };

    /// What one costs, apart from its size.
    #[must_use]
    pub fn cost(self) -> Cost {
        RequestKind::ALL.iter().find(|(kind, ..)| *kind == self).map_or(Cost::Points(1), |(.., cost)| *cost)
    }

    /// Whether what is read for it may be as large as an answer may be.
    #[must_use]
    pub fn may_be_large(self) -> bool {
        use ClientEvent as E;
        match self {
            RequestKind::Events | RequestKind::Admin | RequestKind::Metrics => true,
            RequestKind::Event(event) => matches!(
                event,
                E::ChatJoin
                    | E::ChatHistory
                    | E::ChatSearch
                    | E::ChatRooms
                    | E::ChatReports
                    | E::ProgressGet
                    | E::ProgressHistory
                    | E::NotificationList
                    | E::PresenceList
            ),
            _ => false,
        }
    }

    /// Its points of the budget, with those for its size.
    #[must_use]
    pub fn points(self, bytes: u64) -> u32 {
        let own = match self.cost() {
            Cost::Points(points) => points,
            Cost::Rate(_) => 0,
        };
        own + points_for_size(bytes)
    }
}

/// What so many bytes of a request cost.
#[must_use]
pub fn points_for_size(bytes: u64) -> u32 {
    u32::try_from(bytes / BYTES_A_POINT).unwrap_or(u32::MAX / 2)
}

/// The budgets of all users and networks, where there is a limit.
#[derive(Debug)]
pub(super) struct Budgets {
    /// (a second, at once), in points.
    quota: (u32, u32),
    limiters: Option<Limiters>,
}

#[derive(Debug)]
struct Limiters {
    /// The most parts that are paid at once.
    most: NonZeroU32,
    users: DefaultKeyedRateLimiter<UserId>,
    networks: DefaultKeyedRateLimiter<IpAddr>,
}

impl Budgets {
    /// Full budgets.
    pub(super) fn new(limits: &Limits) -> Budgets {
        let quota = Budgets::quota(limits);
        let parts = |points: u32| NonZeroU32::new(points.saturating_mul(PARTS));
        let limiters = parts(quota.0).map(|per_second| {
            let most = parts(quota.1).unwrap_or(per_second);
            let quota = Quota::per_second(per_second).allow_burst(most);
            Limiters { most, users: RateLimiter::keyed(quota), networks: RateLimiter::keyed(quota) }
        });
        Budgets { quota, limiters }
    }

    /// What they are made from.
    fn quota(limits: &Limits) -> (u32, u32) {
        (limits.budget_per_second, limits.budget_burst)
    }

    /// Whether they are those of other limits as well.
    pub(super) fn are_of(&self, limits: &Limits) -> bool {
        self.quota == Budgets::quota(limits)
    }

    /// Takes points from a user's budget; gives how long they have to wait if there are too few. Who administers on the server's machine has no budget.
    pub(super) fn charge(&self, actor: &Actor, points: u32) -> Result<(), Duration> {
        let Some(limiters) = self.limiters.as_ref().filter(|_| actor.user != UserId::system()) else { return Ok(()) };
        let parts = if actor.is_trusted() { points } else { points.saturating_mul(PARTS) };
        take(&limiters.users, &actor.user, parts, limiters.most)
    }

    /// Takes points from a network's budget.
    pub(super) fn charge_network(&self, network: IpAddr, points: u32) -> Result<(), Duration> {
        let Some(limiters) = &self.limiters else { return Ok(()) };
        take(&limiters.networks, &network, points.saturating_mul(PARTS), limiters.most)
    }

    /// Drops the budgets that are full again.
    pub(super) fn forget_the_idle(&self) {
        if let Some(limiters) = &self.limiters {
            limiters.users.retain_recent();
            limiters.users.shrink_to_fit();
            limiters.networks.retain_recent();
            limiters.networks.shrink_to_fit();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn every_event_has_its_place_in_the_table() {
        for (event, name) in ClientEvent::ALL {
            let named: Vec<_> =
                RequestKind::ALL.iter().filter(|(kind, ..)| *kind == RequestKind::Event(event)).collect();
            assert!(matches!(named[..], [(_, as_documented, _)] if *as_documented == name), "{name}");
        }
    }

    #[test]
    fn large_requests_cost_more() {
        assert_eq!(RequestKind::Event(ClientEvent::ChatHistory).points(100), 5);
        assert_eq!(RequestKind::Event(ClientEvent::ChatHistory).points(160 * 1_024), 15);
        assert_eq!(RequestKind::Event(ClientEvent::ChatMessage).points(100), 0, "its own rate pays for it");
    }

    #[test]
    fn an_expensive_request_can_be_made_when_the_budget_is_full() {
        let limits = Limits { budget_per_second: 5, budget_burst: 5, ..Config::default().limits };
        let budgets = Budgets::new(&limits);
        let network: IpAddr = "192.0.2.1".parse().unwrap();
        assert!(budgets.charge_network(network, 1_000).is_ok());
        let Err(wait) = budgets.charge_network(network, 1) else { panic!("the budget is used up") };
        assert!(wait <= Duration::from_millis(200), "{wait:?}");
        assert!(budgets.charge_network("192.0.2.2".parse().unwrap(), 1).is_ok());
    }
}
