//! What the process costs the machine, and that it leaves no image of itself there.

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use rustix::fs::statvfs;
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
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
    /// Bytes that were sent to disks.
    pub written_bytes: u64,
}

/// This process now. What the system does not say is 0.
#[must_use]
pub fn read() -> ProcessFigures {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let resident =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.trim().parse().ok());
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let written = io.lines().find_map(|line| line.strip_prefix("write_bytes:")?.trim().parse().ok());
    let time = clock_gettime(ClockId::ProcessCPUTime);
    ProcessFigures {
        resident_bytes: resident.unwrap_or(0_u64) * 1_024,
        open_fds: fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as u64),
        max_fds: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        cpu: Duration::new(
            u64::try_from(time.tv_sec).unwrap_or_default(),
            u32::try_from(time.tv_nsec).unwrap_or_default(),
        ),
        written_bytes: written.unwrap_or_default(),
    }
}

/// This process, and those that it starts from now on, may open as many files and connections as the system allows them to.
/// Where it does not let them, they have as many as before.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}

/// From now on a crash leaves no image of this process, and no process of the same user can look into it: its memory has the
/// secret, tokens, and what people have written. What belongs to it below `/proc` is root's then, but for itself.
///
/// # Errors
/// What the system said; whatever could be switched off is.
pub fn forbid_core_dumps() -> io::Result<()> {
    let undumpable = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    // Not asked for where it is so already: the sandbox of the unit, which has seen to it, refuses the call.
    if getrlimit(Resource::Core) != none {
        setrlimit(Resource::Core, none)?;
    }
    Ok(undumpable?)
}

/// The free bytes where a directory is; `None` if the system does not say.
#[must_use]
pub fn free_bytes(dir: &Path) -> Option<u64> {
    let disk = statvfs(dir).ok()?;
    Some(disk.f_bavail.saturating_mul(disk.f_frsize))
}
