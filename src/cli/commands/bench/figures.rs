//! What is measured: latencies, and what the server has used meanwhile, as its own metrics say.

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::commands::bench::client::Requests;
use crate::cli::commands::bench::target::Target;

/// Latencies in microseconds.
#[derive(Debug, Default, Clone)]
pub(super) struct Latencies(Vec<u32>);

/// Where latencies lie, in milliseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Spread {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) max_ms: f64,
}

impl Latencies {
    pub(super) fn add(&mut self, microseconds: u64) {
        self.0.push(u32::try_from(microseconds).unwrap_or(u32::MAX));
    }

    pub(super) fn extend(&mut self, others: &Latencies) {
        self.0.extend_from_slice(&others.0);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Where they lie; zeros of none.
    pub(super) fn spread(&mut self) -> Spread {
        self.0.sort_unstable();
        let at = |part: f64| {
            let last = self.0.len().saturating_sub(1);
            let place = (last as f64 * part).round() as usize;
            self.0.get(place).map_or(0.0, |microseconds| f64::from(*microseconds) / 1_000.0)
        };
        Spread { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }
}

/// What the server has used since it was started.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    pub(super) written_bytes: f64,
    pub(super) commits: f64,
}

impl Used {
    /// Asks the server; `None` if this caller may not know, or it does not answer.
    pub(super) async fn now(target: &Target) -> Option<Used> {
        let token = target.observer()?;
        let mut requests = Requests::open(target).await.ok()?;
        let body = requests.get("/metrics", &token).await.ok()?;
        let text = String::from_utf8_lossy(&body);
        Some(Used::read(&text))
    }

    fn read(text: &str) -> Used {
        let of = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.split(' ').next()?.parse().ok()).unwrap_or(0.0)
        };
        Used {
            cpu_seconds: of("process_cpu_seconds_total"),
            resident_bytes: of("process_resident_memory_bytes"),
            written_bytes: of("process_io_storage_written_bytes_total"),
            commits: of("academy_rt_store_commits_total"),
        }
    }
}

/// What the server has used between two moments.
#[derive(Debug, Clone, Copy)]
pub(super) struct Usage {
    before: Used,
    after: Used,
    seconds: f64,
}

impl Usage {
    pub(super) fn between(before: Option<Used>, after: Option<Used>, seconds: f64) -> Option<Usage> {
        Some(Usage { before: before?, after: after?, seconds })
    }

    /// Microseconds of processor for each of so many.
    pub(super) fn cpu_us(&self, count: usize) -> f64 {
        (self.after.cpu_seconds - self.before.cpu_seconds) * 1e6 / count.max(1) as f64
    }

    /// Bytes of memory that have come to be for each of so many.
    pub(super) fn grown(&self, count: usize) -> f64 {
        (self.after.resident_bytes - self.before.resident_bytes) / count.max(1) as f64
    }

    /// Bytes written to the disk for each of so many.
    pub(super) fn written(&self, count: usize) -> f64 {
        (self.after.written_bytes - self.before.written_bytes) / count.max(1) as f64
    }

    /// Part of one processor.
    pub(super) fn share(&self) -> f64 {
        (self.after.cpu_seconds - self.before.cpu_seconds) / self.seconds.max(1e-3)
    }

    pub(super) fn memory_mib(&self) -> f64 {
        self.after.resident_bytes / f64::from(1 << 20)
    }

    pub(super) fn commits_per_second(&self) -> f64 {
        (self.after.commits - self.before.commits) / self.seconds.max(1e-3)
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpuSeconds": self.after.cpu_seconds - self.before.cpu_seconds,
            "cpuShare": self.share(),
            "memoryBytes": self.after.resident_bytes,
            "writtenBytes": self.after.written_bytes - self.before.written_bytes,
            "commitsPerSecond": self.commits_per_second(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_lie_where_they_do() {
        assert_eq!(Latencies::default().spread(), Spread::default());
        let mut latencies = Latencies::default();
        for n in (0..=1_000).rev() {
            latencies.add(n * 1_000);
        }
        assert_eq!(latencies.spread(), Spread { p50_ms: 500.0, p99_ms: 990.0, max_ms: 1_000.0 });
    }

    #[test]
    fn what_was_used_is_read_from_metrics_and_only_from_those_of_that_name() {
        let text = "# TYPE process_cpu_seconds counter\nprocess_cpu_seconds_total 1.5\nprocess_resident_memory_bytes 2048\n\
                    process_io_storage_written_bytes_total 4096\nacademy_rt_store_commits_total 3\nacademy_rt_store_commits_total_x 9\n";
        let used = Used::read(text);
        let expected = Used { cpu_seconds: 1.5, resident_bytes: 2_048.0, written_bytes: 4_096.0, commits: 3.0 };
        assert_eq!(used, expected);
        let usage = Usage::between(Some(Used::default()), Some(used), 3.0).unwrap();
        assert_eq!((usage.cpu_us(3), usage.share(), usage.written(2)), (500_000.0, 0.5, 2_048.0));
        assert!(Usage::between(None, Some(used), 1.0).is_none());
    }
}
