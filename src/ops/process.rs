//! What the process costs the machine.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

/// This process at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProcessFigures {
    /// Memory that is in use, in bytes.
    pub resident_bytes: u64,
    /// Connections and files that are open.
    pub open_fds: u64,
    /// How many may be.
    pub max_fds: u64,
    /// Time on all processors together.
    pub cpu: Duration,
}

/// This process now. What the system does not say is 0.
#[must_use]
pub fn read() -> ProcessFigures {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let time = clock_gettime(ClockId::ProcessCPUTime);
    ProcessFigures {
        resident_bytes: resident.unwrap_or(0_u64) * 1_024,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        cpu: Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        ),
    }
}

/// The free bytes where a directory is; `None` if the system does not say.
#[must_use]
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
