//! The figures of `/metrics` in Prometheus' text format. They are read when they are asked for: nothing is counted twice.

use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::Registry;

use crate::domain::Timestamp;
use crate::store::StoreStatus;

/// The type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What there is to tell.
#[derive(Debug)]
pub struct Figures {
    /// Since the start.
    pub uptime: Duration,
    /// Authenticated sockets on a WebSocket.
    pub websocket_sockets: usize,
    /// Authenticated sockets on polling.
    pub polling_sockets: usize,
    /// Users with a socket.
    pub users: usize,
    /// Chat rooms with a socket.
    pub rooms: usize,
    /// What went out since the start.
    pub deliveries: u64,
    /// Sockets cut off since the start because they did not keep up.
    pub slow_readers: u64,
    /// The store.
    pub store: StoreStatus,
    /// Whether requests are taken.
    pub is_ready: bool,
    /// Now, for the age of the last backup.
    pub now: Timestamp,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transport {
    transport: &'static str,
}

/// The figures as text.
#[must_use]
pub fn render(figures: &Figures) -> String {
    let mut registry = Registry::with_prefix("academy_rt");
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(signed(value)));
    gauge("uptime_seconds", "Seconds since the start", figures.uptime.as_secs());
    gauge("ready", "1 while requests are taken", u64::from(figures.is_ready));
    gauge("users", "Users with a socket", figures.users as u64);
    gauge("rooms", "Chat rooms with a socket", figures.rooms as u64);
    gauge("store_file_bytes", "Size of the database file", figures.store.file_bytes);
    gauge("store_queue", "Requests waiting for the writer", figures.store.queued as u64);
    // A store that was never backed up has none of these: an alert on their absence is an alert on that.
    if let Some((at, bytes)) = figures.store.last_backup {
        gauge("backup_last_timestamp_seconds", "When the last good backup was made, Unix time", at.as_secs());
        gauge("backup_last_age_seconds", "Seconds since the last good backup", at.until(figures.now).as_secs());
        gauge("backup_last_size_bytes", "Size of the last good backup", bytes);
    }
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("deliveries", "Events sent to sockets", figures.deliveries);
    counter("slow_readers", "Sockets cut off because they did not keep up", figures.slow_readers);
    counter("store_commits", "Transactions committed", figures.store.commits);
    counter("store_writes", "Requests in committed transactions", figures.store.writes);
    let sockets = Family::<Transport, Gauge>::default();
    sockets.get_or_create(&Transport { transport: "websocket" }).set(signed(figures.websocket_sockets as u64));
    sockets.get_or_create(&Transport { transport: "polling" }).set(signed(figures.polling_sockets as u64));
    registry.register("sockets", "Authenticated sockets", sockets);
    let mut text = String::new();
    // Writing into a String does not fail.
    let _ = encode(&mut text, &registry);
    text
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_and_counters_their_suffix() {
        let text = render(&Figures {
            uptime: Duration::from_secs(3),
            websocket_sockets: 2,
            polling_sockets: 1,
            users: 3,
            rooms: 1,
            deliveries: 9,
            slow_readers: 0,
            store: StoreStatus { last_backup: Some((Timestamp(60_000), 7)), ..StoreStatus::default() },
            is_ready: true,
            now: Timestamp(90_000),
        });
        for line in [
            "academy_rt_uptime_seconds 3",
            "academy_rt_deliveries_total 9",
            "academy_rt_backup_last_age_seconds 30",
            "academy_rt_backup_last_size_bytes 7",
            "academy_rt_sockets{transport=\"websocket\"} 2",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}
