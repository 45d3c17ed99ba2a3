//! What is measured: latencies, and what the server has used meanwhile, as the kernel and its own metrics say.

use serde::Serialize;
use serde_json::{Value, json};

use crate::cli::commands::bench::client::Requests;
use crate::cli::commands::bench::target::Target;

/// The kernel tells of a process's time in hundredths of a second, on whatever processor (`USER_HZ`).
const TICKS: f64 = 100.0;

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

/// What the server has used since it was started. What cannot be known of it is `None`.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Used {
    pub(super) cpu_seconds: f64,
    pub(super) resident_bytes: f64,
    pub(super) written_bytes: Option<f64>,
    pub(super) commits: Option<f64>,
    /// Calls of the kernel that read and write, files and pipes and some sockets: no other ones are counted for everybody.
    pub(super) io_calls: Option<f64>,
}

impl Used {
    /// Asks the kernel and the server; `None` if neither says it.
    pub(super) async fn now(target: &Target) -> Option<Used> {
        // The kernel last: the question costs the server something, too.
        let told = Used::told(target).await;
        let seen = target.pid.and_then(Used::seen);
        match (told, seen) {
            (Some(told), Some(seen)) => {
                Some(Used { commits: told.commits, written_bytes: seen.written_bytes.or(told.written_bytes), ..seen })
            }
            (told, seen) => told.or(seen),
        }
    }

    /// What the server says itself; `None` if this caller may not know, or it does not answer, or with something else.
    async fn told(target: &Target) -> Option<Used> {
        let token = target.observer()?;
        let mut requests = Requests::open(target).await.ok()?;
        let body = requests.get("/metrics", &token).await.ok()?;
        Used::read(&String::from_utf8_lossy(&body))
    }

    fn read(metrics: &str) -> Option<Used> {
        let of = |name: &str| {
            let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.split(' ').next()?.parse().ok())
        };
        Some(Used {
            cpu_seconds: of("process_cpu_seconds_total")?,
            resident_bytes: of("process_resident_memory_bytes")?,
            written_bytes: of("process_io_storage_written_bytes_total"),
            commits: of("academy_rt_store_commits_total"),
            io_calls: None,
        })
    }

    /// What the kernel says of a process; `None` if there is none of this number.
    pub(super) fn seen(pid: u32) -> Option<Used> {
        let file = |name: &str| std::fs::read_to_string(format!("/proc/{pid}/{name}"));
        Used::account(&file("stat").ok()?, &file("status").ok()?, &file("io").unwrap_or_default())
    }

    fn account(stat: &str, status: &str, io: &str) -> Option<Used> {
        // The name of the program may have spaces and brackets.
        let mut fields = stat.rsplit_once(") ")?.1.split(' ').skip(11).map_while(|field| field.parse::<f64>().ok());
        let ticks = fields.next()? + fields.next()?;
        let value = |text: &str, name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name));
            value.and_then(|value| value.split_whitespace().next()?.parse::<f64>().ok())
        };
        Some(Used {
            cpu_seconds: ticks / TICKS,
            // A process that has ended and is not waited for has no memory.
            resident_bytes: value(status, "VmRSS:")? * 1_024.0,
            written_bytes: value(io, "write_bytes:"),
            commits: None,
            io_calls: value(io, "syscr:").zip(value(io, "syscw:")).map(|(reads, writes)| reads + writes),
        })
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

    /// Bytes written to the disk.
    pub(super) fn written(&self) -> Option<f64> {
        Some(self.after.written_bytes? - self.before.written_bytes?)
    }

    /// Calls of the kernel that read and write.
    pub(super) fn io_calls(&self) -> Option<f64> {
        Some(self.after.io_calls? - self.before.io_calls?)
    }

    /// Part of one processor.
    pub(super) fn share(&self) -> f64 {
        (self.after.cpu_seconds - self.before.cpu_seconds) / self.seconds.max(1e-3)
    }

    pub(super) fn memory_mib(&self) -> f64 {
        self.after.resident_bytes / f64::from(1 << 20)
    }

    pub(super) fn commits_per_second(&self) -> Option<f64> {
        Some((self.after.commits? - self.before.commits?) / self.seconds.max(1e-3))
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "cpuSeconds": self.after.cpu_seconds - self.before.cpu_seconds,
            "cpuShare": self.share(),
            "memoryBytes": self.after.resident_bytes,
            "writtenBytes": self.written(),
            "readAndWriteCalls": self.io_calls(),
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
        let used = Used::read(text).unwrap();
        let expected = Used {
            cpu_seconds: 1.5,
            resident_bytes: 2_048.0,
            written_bytes: Some(4_096.0),
            commits: Some(3.0),
            io_calls: None,
        };
        assert_eq!(used, expected);
        let zero = Used { written_bytes: Some(0.0), commits: Some(0.0), ..Used::default() };
        let usage = Usage::between(Some(zero), Some(used), 3.0).unwrap();
        assert_eq!((usage.cpu_us(3), usage.share(), usage.written()), (500_000.0, 0.5, Some(4_096.0)));
        assert_eq!((usage.commits_per_second(), usage.io_calls()), (Some(1.0), None));
        assert!(Usage::between(None, Some(used), 1.0).is_none());
        assert_eq!(Used::read("ready"), None, "another server's page says nothing");
    }

    #[test]
    fn what_was_used_is_read_from_the_kernels_account_of_a_process() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 100 0 0 0 250 50 9 9 20 0 8 0 100 1 1\n";
        let status = "Name:\ta\nVmHWM:\t  9000 kB\nVmRSS:\t    2048 kB\n";
        let io =
            "rchar: 1\nwchar: 2\nsyscr: 30\nsyscw: 12\nread_bytes: 0\nwrite_bytes: 8192\ncancelled_write_bytes: 5\n";
        let used = Used::account(stat, status, io).unwrap();
        let expected = Used {
            cpu_seconds: 3.0,
            resident_bytes: f64::from(2 << 20),
            written_bytes: Some(8_192.0),
            commits: None,
            io_calls: Some(42.0),
        };
        assert_eq!(used, expected);
        let hidden = Used::account(stat, status, "").unwrap();
        assert_eq!((hidden.written_bytes, hidden.io_calls), (None, None), "it may be hidden from this user");
        assert_eq!(Used::account(stat, "Name:\ta\n", io), None, "it has ended");
        assert!(Used::seen(std::process::id()).is_some_and(|own| own.resident_bytes > 0.0));
    }
}
