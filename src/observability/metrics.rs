//! The figures of `/metrics`. They are read when they are asked for: nothing is counted twice. Names and units are those of
//! Prometheus; the man page academy-rt-metrics(7) is made of the same text.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::Registry;

use crate::domain::Timestamp;
use crate::domain::histogram::{BOUNDS_US, Durations};
use crate::store::StoreStatus;

use crate::observability::counters::{Counters, Counts};
use crate::observability::forwarding::Forwarding;
use crate::observability::process::ProcessFigures;

/// The type of the text for who understands OpenMetrics.
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The type of the text for everybody else.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The continuous backup.
#[derive(Debug, Clone, Copy, Default)]
pub struct Continuous {
    /// How old the oldest commit is that one could not go back to.
    pub lag: Duration,
    /// Whether something is wrong.
    pub is_failing: bool,
    /// Gaps since the start.
    pub gaps: u64,
}

/// The index of search.
#[derive(Debug, Clone, Copy, Default)]
pub struct SearchIndex {
    /// Messages in it.
    pub messages: u64,
    /// Those that were taken out, and are still in its files.
    pub removed: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// How long ago it had all that was stored.
    pub lag: Duration,
    /// Whether something is wrong.
    pub is_failing: bool,
    /// How often it was begun anew since the start.
    pub times_anew: u64,
}

/// The values that are exported.
#[derive(Debug, Default)]
pub struct Figures {
    /// Since the start.
    pub uptime: Duration,
    /// Authenticated sockets on a WebSocket.
    pub websocket_sockets: usize,
    /// Authenticated sockets on polling.
    pub polling_sockets: usize,
    /// Authenticated sockets by role.
    pub roles: [(&'static str, usize); 5],
    /// Users with a socket.
    pub users: usize,
    /// Chat rooms with a socket.
    pub rooms: usize,
    /// What went out since the start.
    pub deliveries: u64,
    /// Sockets cut off since the start because they did not keep up.
    pub slow_readers: u64,
    /// How many users each quota has refused today, by the name of the limit.
    pub quota_users: Vec<(&'static str, usize)>,
    /// The store.
    pub store: StoreStatus,
    /// Whether requests are taken.
    pub is_ready: bool,
    /// Whether Socket.IO is switched on.
    pub is_websocket_enabled: bool,
    /// Now, for the age of the last backup.
    pub now: Timestamp,
    /// The continuous backup, if there is one.
    pub continuous: Option<Continuous>,
    /// The forwarding of the audit log, if there is one.
    pub forwarding: Option<Forwarding>,
    /// The webhooks, if they are used.
    pub webhooks: Option<Webhooks>,
    /// The index of search, if there is one.
    pub search: Option<SearchIndex>,
    /// The process.
    pub process: ProcessFigures,
    /// The bytes that are free where the data are.
    pub free_bytes: Option<u64>,
    /// The end of the certificate.
    pub certificate_not_after: Option<Timestamp>,
    /// Whether the last reload was refused.
    pub is_reload_refused: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Transport {
    transport: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RoleLabel {
    role: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Code {
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Group {
    group: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Class {
    class: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

/// A histogram as it was read.
#[derive(Debug)]
struct Seconds(Durations);

impl EncodeMetric for Seconds {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), fmt::Error> {
        let bounds = BOUNDS_US.iter().map(|us| *us as f64 / 1e6).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.0.counts).collect();
        let none: Option<&HashMap<usize, Exemplar<NoLabelSet, f64>>> = None;
        encoder.encode_histogram(self.0.sum_us as f64 / 1e6, self.0.count(), &buckets, none)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Seconds {
    const TYPE: MetricType = MetricType::Histogram;
}

/// The figures as OpenMetrics text.
#[must_use]
pub fn render(figures: &Figures, counters: &Counters) -> String {
    let mut registry = Registry::with_prefix("academy_rt");
    let mut gauge = |name: &str, help: &str, value: u64| registry.register(name, help, ConstGauge::new(signed(value)));
    gauge("uptime_seconds", "Seconds since the start", figures.uptime.as_secs());
    gauge("ready", "1 while the server accepts requests", u64::from(figures.is_ready));
    gauge("websocket_enabled", "1 while Socket.IO is enabled", u64::from(figures.is_websocket_enabled));
    gauge(
        "reload_refused",
        "1 if the last reload failed and an old configuration is in use",
        u64::from(figures.is_reload_refused),
    );
    gauge("users", "Users with an open socket", figures.users as u64);
    gauge("rooms", "Chat rooms with an open socket", figures.rooms as u64);
    gauge("polls_waiting", "Waiting long polls", counters.polls_waiting.get());
    gauge("connections_open", "Open connections of all kinds", counters.connections_open.get());
    gauge(
        "connections_limit",
        "Most open connections over the network; the server keeps the other file descriptors back",
        counters.connections_limit.get(),
    );
    gauge("store_file_bytes", "Size of the database file", figures.store.file_bytes);
    gauge("store_queue", "Write requests waiting for the store", figures.store.queued as u64);
    gauge(
        "store_snapshots",
        "Open views of the database: reads, and backups that are being sent",
        figures.store.snapshots as u64,
    );
    gauge("store_min_free_bytes", "Free bytes below which writes are refused", figures.store.min_free_bytes);
    if let Some(free) = figures.free_bytes {
        gauge("store_free_bytes", "Free bytes on the disk of the data directory", free);
    }
    // A store that was never backed up has none of these: an alert on their absence is an alert on that.
    if let Some(continuous) = figures.continuous {
        let help = "Seconds that a restore from the continuous backup would lose now";
        gauge("continuous_backup_lag_seconds", help, continuous.lag.as_secs());
        gauge(
            "continuous_backup_failing",
            "1 while the continuous backup does not work",
            u64::from(continuous.is_failing),
        );
        gauge("continuous_backup_gaps", "Gaps in the continuous backup since the start", continuous.gaps);
    }
    if let Some(forwarding) = &figures.forwarding {
        gauge("audit_forward_waiting", "Records of the audit log that wait to be forwarded", forwarding.waiting);
        let help = "Age of the oldest record of the audit log that waits to be forwarded";
        gauge("audit_forward_lag_seconds", help, forwarding.behind_seconds(figures.now));
        let help = "1 while the audit log cannot be forwarded";
        gauge("audit_forward_failing", help, u64::from(forwarding.problem.is_some()));
        gauge("audit_forward_failures", "Failures of forwarding the audit log since the start", forwarding.failures);
    }
    if let Some(webhooks) = &figures.webhooks {
        gauge("webhooks_waiting", "Webhooks that wait", webhooks.waiting);
        gauge("webhooks_lag_seconds", "Age of the oldest webhook that waits", webhooks.lag_seconds);
        gauge("webhooks_sent", "Webhooks that were taken since the start", webhooks.sent);
        gauge("webhooks_failed", "Attempts to send a webhook that failed since the start", webhooks.failed);
        gauge("webhooks_gaps", "Gaps that were told since the start, because too many webhooks waited", webhooks.gaps);
        gauge("webhooks_dead", "Webhooks that were given up and are kept", webhooks.dead);
        gauge("webhooks_failing", "1 while the platform does not take webhooks", u64::from(webhooks.is_failing));
        gauge("authorize_asked", "Questions to the platform who may enter a room, since the start", webhooks.asked);
        let help = "Questions of these that the platform did not decide";
        gauge("authorize_undecided", help, webhooks.undecided);
    }
    if let Some(index) = figures.search {
        gauge("search_messages", "Messages in the index of search", index.messages);
        let help =
            "Messages taken out of the index of search whose words are in its files until those are written anew";
        gauge("search_removed_messages", help, index.removed);
        gauge("search_index_bytes", "Size of the files of the index of search", index.bytes);
        gauge("search_lag_seconds", "Seconds since the index of search had all that is stored", index.lag.as_secs());
        gauge("search_failing", "1 while the index of search does not work", u64::from(index.is_failing));
        gauge("search_rebuilds", "How often the index of search was built anew since the start", index.times_anew);
    }
    if let Some((at, bytes)) = figures.store.last_backup {
        gauge("backup_last_timestamp_seconds", "Unix time of the last good backup", at.as_secs());
        gauge("backup_last_age_seconds", "Seconds since the last good backup", at.until(figures.now).as_secs());
        gauge("backup_last_size_bytes", "Size of the last good backup", bytes);
    }
    if let Some(end) = figures.certificate_not_after {
        gauge(
            "tls_certificate_not_after_timestamp_seconds",
            "Unix time at which the TLS certificate expires",
            end.as_secs(),
        );
    }
    let mut counter = |name: &str, help: &str, value: u64| registry.register(name, help, ConstCounter::new(value));
    counter("deliveries", "Events sent to sockets", figures.deliveries);
    counter("slow_readers", "Sockets closed because the client read too slowly", figures.slow_readers);
    counter("sign_ins", "Sockets that signed in with a valid token", counters.sign_ins.get());
    counter("connections", "Connections accepted", counters.connections.get());
    counter("tls_failures", "TLS handshakes that failed", counters.tls_failures.get());
    counter(
        "clock_jumps",
        "How often the clock of the machine was set while the server was running",
        counters.clock_jumps.get(),
    );
    counter("store_commits", "Transactions committed", figures.store.commits);
    counter("store_writes", "Write requests in committed transactions", figures.store.writes);

    let sockets = Family::<Transport, Gauge>::default();
    sockets.get_or_create(&Transport { transport: "websocket" }).set(signed(figures.websocket_sockets as u64));
    sockets.get_or_create(&Transport { transport: "polling" }).set(signed(figures.polling_sockets as u64));
    registry.register("sockets", "Authenticated sockets, by transport", sockets);
    let roles = Family::<RoleLabel, Gauge>::default();
    for (role, count) in figures.roles.iter().filter(|(role, _)| !role.is_empty()) {
        roles.get_or_create(&RoleLabel { role }).set(signed(*count as u64));
    }
    registry.register("sockets_by_role", "Authenticated sockets, by their users' first role", roles);
    let of = |kinds| family(kinds, |kind| Kind { kind });
    registry.register("stored", "Stored items, by kind", of(&counters.stored));
    registry.register(
        "refused_sign_ins",
        "Refused tokens, by error code",
        family(&counters.refused_sign_ins, |code| Code { code }),
    );
    registry.register(
        "tls_handshakes",
        "TLS handshakes that succeeded, by the group of their key exchange; the hybrid ones withstand a quantum computer",
        family(&counters.tls_groups, |group| Group { group }),
    );
    registry.register(
        "rate_limited",
        "Requests over a limit, by limit",
        family(&counters.rate_limited, |limit| Limit { limit }),
    );
    let refused = Family::<Limit, Gauge>::default();
    for (limit, users) in &figures.quota_users {
        refused.get_or_create(&Limit { limit }).set(signed(*users as u64));
    }
    registry.register("quota_users", "Users refused by a quota on this day of UTC, by limit", refused);
    registry.register(
        "http_requests",
        "Answered HTTP requests, without Socket.IO and waiting polls, by status class",
        family(&counters.http, |class| Class { class }),
    );
    registry.register(
        "http_request_duration_seconds",
        "Seconds until the response begins, without Socket.IO and waiting polls",
        Seconds(counters.http_time.read()),
    );
    registry.register(
        "store_commit_duration_seconds",
        "Duration of a commit in seconds, from its first row until it is on disk",
        Seconds(figures.store.commit_time),
    );
    registry.register(
        "store_commit_wait_seconds",
        "Seconds that the oldest request of a commit has waited until it began: see storage.commit_delay",
        Seconds(figures.store.commit_wait),
    );
    let build = Family::<Build, Gauge>::default();
    build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
    registry.register("build_info", "The running version", build);

    // The names that every process has.
    let mut process = Registry::with_prefix("process");
    let start = figures.now.as_secs().saturating_sub(figures.uptime.as_secs());
    process.register(
        "resident_memory_bytes",
        "Resident memory in bytes",
        ConstGauge::new(signed(figures.process.resident_bytes)),
    );
    process.register(
        "open_fds",
        "Open file descriptors, of connections and files",
        ConstGauge::new(signed(figures.process.open_fds)),
    );
    process.register(
        "max_fds",
        "Maximum number of open file descriptors",
        ConstGauge::new(signed(figures.process.max_fds)),
    );
    process.register("start_time_seconds", "Unix time at which the process started", ConstGauge::new(signed(start)));
    process.register(
        "cpu_seconds",
        "CPU time on all processors, in seconds",
        ConstCounter::new(figures.process.cpu.as_secs_f64()),
    );
    process.register(
        "io_storage_written_bytes",
        "Bytes that were sent to disks",
        ConstCounter::new(figures.process.written_bytes),
    );

    let (mut text, mut more) = (String::new(), String::new());
    // Writing into a String does not fail.
    let _ = encode(&mut text, &registry);
    let _ = encode(&mut more, &process);
    text.truncate(text.trim_end_matches("# EOF\n").len());
    text + &more
}

/// OpenMetrics text as Prometheus' older format: what is counted has its `_total` in the heading, too.
#[must_use]
pub fn plain(open_metrics: &str) -> String {
    let counters: Vec<&str> =
        open_metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut text = String::with_capacity(open_metrics.len());
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT ")) {
        let heading = line.strip_prefix("# HELP ").or_else(|| line.strip_prefix("# TYPE "));
        let name = heading.and_then(|rest| rest.split(' ').next()).filter(|name| counters.contains(name));
        match name {
            Some(name) => text.push_str(&line.replacen(name, &format!("{name}_total"), 1)),
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

/// How webhooks and join authorisation stand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Webhooks {
    /// How many wait.
    pub waiting: u64,
    /// How old the oldest of them is.
    pub lag_seconds: u64,
    /// How many were taken.
    pub sent: u64,
    /// How many attempts failed.
    pub failed: u64,
    /// How many gaps were told.
    pub gaps: u64,
    /// How many dead letters there are.
    pub dead: u64,
    /// Whether the platform takes none.
    pub is_failing: bool,
    /// How often it was asked who may enter.
    pub asked: u64,
    /// How often it did not decide.
    pub undecided: u64,
}

/// All metrics that there can be: name, type and help, for the man page.
#[must_use]
pub fn catalogue() -> Vec<(String, String, String)> {
    let store = StoreStatus { last_backup: Some((Timestamp(0), 0)), ..StoreStatus::default() };
    let figures = Figures {
        store,
        free_bytes: Some(0),
        continuous: Some(Continuous::default()),
        forwarding: Some(Forwarding::default()),
        webhooks: Some(Webhooks::default()),
        search: Some(SearchIndex::default()),
        certificate_not_after: Some(Timestamp(0)),
        roles: [("admin", 0), ("hr", 0), ("coach", 0), ("learner", 0), ("none", 0)],
        ..Figures::default()
    };
    let text = plain(&render(&figures, &Counters::default()));
    let word = |line: &str, place: usize| line.split(' ').nth(place).unwrap_or_default().to_owned();
    let lines: Vec<&str> = text.lines().collect();
    let headings = lines.iter().zip(lines.iter().skip(1)).filter(|(line, _)| line.starts_with("# HELP "));
    headings
        .map(|(help, kind)| {
            let name = word(help, 2);
            let words = help.split_once(&format!("{name} ")).map_or("", |(_, words)| words).to_owned();
            (name, word(kind, 3), words)
        })
        .collect()
}

fn family<const N: usize, L>(counts: &Counts<N>, label: impl Fn(&'static str) -> L) -> Family<L, Counter>
where
    L: Clone + std::hash::Hash + Eq,
{
    let family = Family::<L, Counter>::default();
    for (kind, count) in counts.read() {
        family.get_or_create(&label(kind)).inc_by(count);
    }
    family
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_the_prefix_and_counters_their_suffix() {
        let counters = Counters::default();
        counters.refused_sign_ins.add("token_expired");
        counters.answered(200, Duration::from_millis(3));
        let figures = Figures {
            uptime: Duration::from_secs(3),
            websocket_sockets: 2,
            deliveries: 9,
            store: StoreStatus { last_backup: Some((Timestamp(60_000), 7)), ..StoreStatus::default() },
            is_ready: true,
            now: Timestamp(90_000),
            ..Figures::default()
        };
        let text = render(&figures, &counters);
        for line in [
            "academy_rt_uptime_seconds 3",
            "academy_rt_deliveries_total 9",
            "academy_rt_backup_last_age_seconds 30",
            "academy_rt_backup_last_size_bytes 7",
            "academy_rt_sockets{transport=\"websocket\"} 2",
            "academy_rt_refused_sign_ins_total{code=\"token_expired\"} 1",
            "academy_rt_http_request_duration_seconds_bucket{le=\"0.005\"} 1",
            "academy_rt_http_request_duration_seconds_bucket{le=\"+Inf\"} 1",
            "process_start_time_seconds 87",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert_eq!(text.matches("# EOF").count(), 1);
        let plain = plain(&text);
        assert!(plain.contains("# TYPE academy_rt_deliveries_total counter\n") && !plain.contains("# EOF"), "{plain}");
    }

    #[test]
    fn the_catalogue_has_every_metric_once() {
        let catalogue = catalogue();
        let mut names: Vec<&str> = catalogue.iter().map(|(name, _, _)| name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), catalogue.len());
        assert!(catalogue.iter().all(|(_, kind, help)| !kind.is_empty() && !help.is_empty()), "{catalogue:?}");
        assert!(
            names.contains(&"academy_rt_store_commit_duration_seconds") && names.contains(&"process_cpu_seconds_total")
        );
    }
}
