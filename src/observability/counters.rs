//! What has happened since the start, counted where it happens: one addition each, without waiting. The kinds are fixed, so
//! that nobody outside can make more of them.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::domain::histogram::Histogram;
use crate::store::Change;

use crate::observability::busiest::Busiest;
use crate::observability::log_limiter::LogLimiter;
use crate::observability::noticed::Noticed;
use crate::observability::refused_users::RefusedUsers;

/// How far back a rate looks.
const RATE_OVER: Duration = Duration::from_secs(60);

/// A count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// One less, of what comes and goes.
    pub fn take(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// So many, of what is measured.
    pub fn set(&self, many: u64) {
        self.0.store(many, Ordering::Relaxed);
    }

    /// How many.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts of several kinds.
#[derive(Debug)]
pub struct Counts<const N: usize> {
    kinds: [&'static str; N],
    counts: [Count; N],
}

impl<const N: usize> Counts<N> {
    fn new(kinds: [&'static str; N]) -> Counts<N> {
        Counts { kinds, counts: std::array::from_fn(|_| Count::default()) }
    }

    /// One more of a kind; of one that is not known, of the last.
    pub fn add(&self, kind: &str) {
        let place = self.kinds.iter().position(|known| *known == kind).unwrap_or(N.saturating_sub(1));
        if let Some(count) = self.counts.get(place) {
            count.add();
        }
    }

    /// All kinds, each with its count.
    pub fn read(&self) -> impl Iterator<Item = (&'static str, u64)> {
        self.kinds.iter().copied().zip(self.counts.iter().map(Count::get))
    }

    /// Those of a kind.
    #[must_use]
    pub fn of(&self, kind: &str) -> u64 {
        self.read().find(|(known, _)| *known == kind).map_or(0, |(_, count)| count)
    }

    /// All together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.iter().map(Count::get).sum()
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Counters {
    /// What was stored, by kind.
    pub stored: Counts<{ Change::KINDS.len() }>,
    /// Sockets whose token was good.
    pub sign_ins: Count,
    /// Tokens that were refused, by the code of the refusal.
    pub refused_sign_ins: Counts<8>,
    /// Requests beyond a limit, by the limit.
    pub rate_limited: Counts<20>,
    /// HTTP requests answered, by the class of their status.
    pub http: Counts<5>,
    /// How long their answers took to begin.
    pub http_time: Histogram,
    /// Connections accepted.
    pub connections: Count,
    /// Connections open now.
    pub connections_open: Count,
    /// How many connections over the network there may be.
    pub connections_limit: Count,
    /// TLS handshakes that failed.
    pub tls_failures: Count,
    /// TLS handshakes, by the group of their key exchange.
    pub tls_groups: Counts<6>,
    /// Times that the machine's clock was set.
    pub clock_jumps: Count,
    /// Long polls that wait now.
    pub polls_waiting: Count,
    /// Addresses that speak as a proxy does and are none that is trusted.
    pub untrusted_proxies: Noticed,
    /// Origins of pages that were refused.
    pub refused_origins: Noticed,
    /// Clients of Socket.IO 2 and older that were refused.
    pub old_clients: Count,
    /// Requests for a WebSocket that had lost their header `Upgrade` on the way.
    pub lost_upgrades: Count,
    /// WebSockets that were closed because nobody signed in on them in time.
    pub unsigned: Count,
    /// What may still be logged of refusals.
    pub log_limiter: LogLimiter,
    /// Which rooms most is said in.
    pub busiest_rooms: Busiest,
    /// Why users were refused lately.
    pub refused_users: RefusedUsers,
    /// Totals as they were within the last minute.
    samples: Mutex<Vec<Sample>>,
}

#[derive(Debug, Clone, Copy)]
struct Sample {
    at: Instant,
    messages: u64,
    deliveries: u64,
    requests: u64,
}

/// What happens in a second, on the average of the last minute.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    /// Messages stored.
    pub messages: f64,
    /// Events sent to sockets.
    pub deliveries: f64,
    /// HTTP requests.
    pub requests: f64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            stored: Counts::new(Change::KINDS),
            sign_ins: Count::default(),
            refused_sign_ins: Counts::new([
                "token_missing",
                "token_malformed",
                "token_expired",
                "token_not_yet_valid",
                "token_invalid",
                "token_revoked",
                "user_blocked",
                "other",
            ]),
            rate_limited: Counts::new([
                "messages",
                "typing",
                "syncs",
                "joins",
                "connects",
                "sockets",
                "address",
                "rooms",
                "bodies",
                "answers",
                "connections",
                "descriptors",
                "polls",
                "newcomers",
                "budget",
                "stored",
                "new_rooms",
                "lessons",
                "reports",
                "slow_mode",
            ]),
            http: Counts::new(["1xx", "2xx", "3xx", "4xx", "5xx"]),
            http_time: Histogram::default(),
            connections: Count::default(),
            connections_open: Count::default(),
            connections_limit: Count::default(),
            tls_failures: Count::default(),
            // As IANA and the TLS library spell them.
            tls_groups: Counts::new([
                "X25519MLKEM768",
                "secp256r1MLKEM768",
                "X25519",
                "secp256r1",
                "secp384r1",
                "other",
            ]),
            clock_jumps: Count::default(),
            polls_waiting: Count::default(),
            untrusted_proxies: Noticed::default(),
            refused_origins: Noticed::default(),
            old_clients: Count::default(),
            lost_upgrades: Count::default(),
            unsigned: Count::default(),
            log_limiter: LogLimiter::default(),
            busiest_rooms: Busiest::default(),
            refused_users: RefusedUsers::default(),
            samples: Mutex::default(),
        }
    }
}

impl Counters {
    /// Counts an HTTP answer.
    pub fn answered(&self, status: u16, took: Duration) {
        self.http.add(match status / 100 {
            1 => "1xx",
            2 => "2xx",
            3 => "3xx",
            4 => "4xx",
            _ => "5xx",
        });
        self.http_time.record(took);
    }

    /// Notes the totals of this moment, for the rates. Called every second or so.
    pub fn sample(&self, deliveries: u64) {
        let now = self.now(deliveries);
        let mut samples = self.samples.lock();
        samples.retain(|sample| now.at.duration_since(sample.at) <= RATE_OVER);
        samples.push(now);
    }

    /// The rates since the oldest sample.
    #[must_use]
    pub fn rates(&self, deliveries: u64) -> Rates {
        let now = self.now(deliveries);
        let oldest = self.samples.lock().first().copied();
        let Some(before) = oldest else { return Rates::default() };
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        if seconds < 0.5 {
            return Rates::default();
        }
        let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
        Rates {
            messages: rate(now.messages, before.messages),
            deliveries: rate(now.deliveries, before.deliveries),
            requests: rate(now.requests, before.requests),
        }
    }

    fn now(&self, deliveries: u64) -> Sample {
        let messages = self.stored.read().next().map_or(0, |(_, count)| count);
        Sample { at: Instant::now(), messages, deliveries, requests: self.http.total() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_counted_under_the_last_kind() {
        let counters = Counters::default();
        for code in ["token_expired", "nonsense", "forbidden", "token_expired"] {
            counters.refused_sign_ins.add(code);
        }
        let counts: Vec<_> = counters.refused_sign_ins.read().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counts, [("token_expired", 2), ("other", 2)]);
        counters.answered(404, Duration::from_millis(3));
        counters.answered(999, Duration::ZERO);
        assert_eq!(counters.http.read().map(|(_, count)| count).collect::<Vec<_>>(), [0, 0, 0, 1, 1]);
        assert_eq!((counters.http.total(), counters.http_time.read().count()), (2, 2));
    }
}
