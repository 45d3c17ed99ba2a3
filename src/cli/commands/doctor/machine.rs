//! The checks of `doctor` on the machine: key files, clock, disk, file descriptors and the lock of the store.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use crate::archive::key;
use crate::archive::moments::moment;
use crate::auth::ring;
use crate::auth::sources::LoadedKeys;
use crate::config::{Config, capacity};
use crate::domain::Timestamp;
use crate::store::embedded::offline::rows::{newest_format, peek_format};

use crate::cli::commands::doctor::CheckResult;

/// A clock before 2026-01-01 is wrong: this version is newer.
const THIS_VERSION: Timestamp = Timestamp(1_767_225_600_000);
/// So much later it is wrong, too: no installation runs for that long without a newer version.
const LONG_AFTER: Duration = Duration::from_secs(30 * 365 * 24 * 60 * 60);
/// A key that expires within this time is a warning.
const KEY_ENDS_SOON: Duration = Duration::from_secs(24 * 60 * 60);
/// The process without any of what its configuration bounds, and some thousand connections.
const BASE_MEMORY: u64 = 128 << 20;
const _: () = assert!(capacity::BOUNDED_BYTES as u64 <= BASE_MEMORY / 2, "what slow readers may hold is in it");
/// Where the system says what a group of processes may use, and the group of the service.
const CGROUPS: &str = "/sys/fs/cgroup";
const SERVICE_GROUP: &str = "system.slice/academy-rt.service";
/// So many clients may come back at once: the queue of a port has place for them.
const LONG_QUEUE: u64 = 4_096;
/// So often the disk is tried, at most for so long; it is slow where a sync takes longer than this.
const SYNCS: usize = 20;
const SYNCS_OVER: Duration = Duration::from_secs(2);
const SLOW_SYNC_MS: f64 = 20.0;
/// Fewer file descriptors than this are a warning.
const FEW_DESCRIPTORS: u64 = 8_192;

/// File systems that are not suitable for the data (linux/magic.h), and why.
const FILE_SYSTEMS: [(u64, &str, &str); 6] = [
    (0x6969, "NFS", "locks and syncs on a network file system are not reliable"),
    (0xff53_4d42, "CIFS", "locks and syncs on a network file system are not reliable"),
    (0xfe53_4d42, "SMB", "locks and syncs on a network file system are not reliable"),
    (0x0102_1997, "9P", "locks and syncs on a network file system are not reliable"),
    (0x0102_1994, "tmpfs", "it is in memory, and all data are lost when the machine stops"),
    (0x8584_58f6, "ramfs", "it is in memory, and all data are lost when the machine stops"),
];

/// Only the user of the service may read keys and secrets.
pub(super) fn keys(config: &Config) -> Vec<CheckResult> {
    let own_key = config.self_signed_cert().with_file_name("key.pem");
    let data_secret = config.storage.data_dir.join("jwt-secret");
    let ring = config.storage.data_dir.join(ring::FILE);
    let backup_key = config.storage.data_dir.join(key::FILE);
    let key = config.tls.key.as_ref().unwrap_or(&own_key);
    let secret = config.auth.jwt_secret_file.as_ref().unwrap_or(&data_secret);
    let mut results = Vec::new();
    let places = [(key, true), (secret, true), (&ring, false), (&backup_key, false), (&config.storage.data_dir, false)];
    for (path, may_group_read) in places {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        // A group may read a key (such as ssl-cert), but must not write it.
        let bad = if may_group_read { mode & 0o027 } else { mode & 0o077 };
        let path = path.display();
        results.push(match bad {
            0 => CheckResult::good("permissions", format!("{path} has mode {mode:04o}")),
            _ => {
                let right = if metadata.is_dir() { "0700" } else { "0600" };
                CheckResult::problem(
                    "permissions",
                    format!("{path} has mode {mode:04o}, so that other users can access it"),
                    format!("Run: chmod {right} {path}"),
                )
            }
        });
    }
    results
}

/// The keys that verify tokens, and those that expire soon.
pub(super) fn token_keys(loaded: &LoadedKeys, now: Timestamp) -> Vec<CheckResult> {
    let (ended, keys): (Vec<_>, Vec<_>) = loaded.keys.iter().partition(|key| key.has_ended(now));
    let mut words = match keys.len() {
        1 => "one key verifies tokens".to_owned(),
        count => format!("{count} keys verify tokens"),
    };
    if !ended.is_empty() {
        words.push_str(&format!("; {} more have expired", ended.len()));
    }
    let mut results = vec![CheckResult::good("keys", words)];
    for key in keys {
        if let Some(until) = key.until.filter(|until| now.until(*until) <= KEY_ENDS_SOON) {
            let remedy =
                format!("Before that, configure the web platform to sign with the key from {}.", loaded.signing.origin);
            results.push(CheckResult::warning("keys", format!("{key} is accepted until {}", moment(until)), remedy));
        }
    }
    results
}

/// Tokens contain times: with a wrong clock, the server refuses all of them.
pub(super) fn clock(config: &Config, now: Timestamp) -> CheckResult {
    let remedy = "Set the clock, and enable time synchronization: systemctl enable --now systemd-timesyncd, or chrony.";
    if now < THIS_VERSION {
        return CheckResult::problem("clock", "it is years behind", remedy);
    }
    if now > THIS_VERSION.plus(LONG_AFTER) {
        return CheckResult::problem("clock", format!("it is decades ahead: {}", moment(now)), remedy);
    }
    let written = fs::metadata(config.storage.data_dir.join("academy.redb")).and_then(|file| file.modified());
    let written = written.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    if written.is_some_and(|at| at.as_secs() > now.as_secs() + 60) {
        return CheckResult::problem(
            "clock",
            "the database has a time of change in the future: the clock was set back",
            remedy,
        );
    }
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    match asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).as_deref() {
        Ok("yes") => CheckResult::good("clock", "it is synchronized by NTP"),
        Ok("no") => CheckResult::warning("clock", "it is not synchronized by NTP", remedy),
        _ => CheckResult::good("clock", "it is plausible; whether it is synchronized is unknown"),
    }
}

/// Free space, and the type of file system.
pub(super) fn disk(config: &Config) -> Vec<CheckResult> {
    let dir = config.storage.data_dir.as_path();
    let Some(place) = dir.ancestors().map(nearest).find(|place| place.exists()) else { return Vec::new() };
    let kind = match statfs(place) {
        Ok(kind) => kind,
        Err(error) => {
            return vec![CheckResult::problem("disk", format!("{}: {error}", place.display()), "Check the disk.")];
        }
    };
    let mut results = Vec::new();
    // The magic number is signed on some machines.
    let magic = u64::from(kind.f_type as u32);
    if let Some((_, name, why)) = FILE_SYSTEMS.iter().find(|(number, _, _)| *number == magic) {
        let what = format!("{} is on {name}: {why}", place.display());
        results.push(CheckResult::warning("disk", what, "Move the data to a local disk (storage.data_dir)."));
    }
    let block = u64::try_from(kind.f_bsize).unwrap_or(4_096);
    let (free, all) = (kind.f_bavail.saturating_mul(block), kind.f_blocks.saturating_mul(block));
    let kept = config.storage.min_free_bytes(all);
    let sizes = format!("{} MB are free; the server refuses writes below {} MB", free / 1_000_000, kept / 1_000_000);
    results.push(if free < kept {
        CheckResult::problem(
            "disk",
            sizes,
            "Free space or enlarge the disk. The server then accepts writes again by itself.",
        )
    } else if free < kept.saturating_mul(2) {
        CheckResult::warning("disk", sizes, "Free space or enlarge the disk before that happens.")
    } else {
        CheckResult::good("disk", sizes)
    });
    results
}

fn nearest(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Each connection needs a file descriptor.
pub(super) fn descriptors(status: Option<&Value>) -> CheckResult {
    let of_server = status.and_then(|status| status.pointer("/process/maxFds")).and_then(Value::as_u64);
    let most = of_server.or_else(|| getrlimit(Resource::Nofile).maximum).unwrap_or(u64::MAX);
    let whose = if of_server.is_some() { "the server" } else { "a server started in this shell" };
    let what = format!("{whose} can open {most} connections and files");
    if most < FEW_DESCRIPTORS {
        CheckResult::warning("descriptors", what, "Increase LimitNOFILE= in the unit, or ulimit -n.")
    } else {
        CheckResult::good("descriptors", what)
    }
}

/// What the memory of the process is made of that its configuration bounds, against what the machine and the cgroups have.
pub(super) fn memory(config: &Config) -> Option<CheckResult> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let machine =
        meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?.parse().ok());
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = own.lines().filter_map(|line| line.strip_prefix("0::/"));
    let groups = own.flat_map(|path| Path::new(path).ancestors()).chain([Path::new(SERVICE_GROUP)]);
    let limits = groups.filter_map(|group| {
        let text = fs::read_to_string(Path::new(CGROUPS).join(group).join("memory.max")).ok()?;
        text.trim().parse::<u64>().ok()
    });
    let has = limits.chain(machine.map(|kib: u64| kib.saturating_mul(1_024))).min()?;
    Some(compare_memory(config.storage.cache as u64, config.limits.bodies as u64, has))
}

fn compare_memory(cache: u64, bodies: u64, has: u64) -> CheckResult {
    let wants = cache.saturating_add(bodies).saturating_add(BASE_MEMORY);
    let mib = |bytes: u64| bytes >> 20;
    let what = format!(
        "{} MiB may be used: storage.cache and limits.bodies may take {} MiB of it, beside connections and messages",
        mib(has),
        mib(cache.saturating_add(bodies))
    );
    let remedy = "Lower storage.cache or limits.bodies, or give it more memory (MemoryMax= in the unit).";
    if wants > has {
        CheckResult::problem("memory", what, remedy)
    } else if wants > has / 4 * 3 {
        CheckResult::warning("memory", what, remedy)
    } else {
        CheckResult::good("memory", what)
    }
}

/// How long the disk of the data takes to have something for good; nothing where there are no data yet.
pub(super) fn syncs(config: &Config) -> Option<CheckResult> {
    let dir = &config.storage.data_dir;
    if !dir.is_dir() {
        return None;
    }
    Some(match measure_syncs(dir) {
        Ok(took) => judge_syncs(took),
        Err(error) => CheckResult::warning(
            "acknowledgements",
            format!("cannot measure how fast the disk of {} is: {error}", dir.display()),
            "Run doctor as the user of the server or as root, on a disk with free space.",
        ),
    })
}

/// Writes a page and has it on the disk, again and again for a moment, in a file without a name.
fn measure_syncs(dir: &Path) -> io::Result<Vec<Duration>> {
    let file = tempfile::tempfile_in(dir)?;
    let (page, begun, mut took) = ([0x5a; 4_096], Instant::now(), Vec::new());
    while took.len() < SYNCS && begun.elapsed() < SYNCS_OVER {
        file.write_all_at(&page, took.len() as u64 * page.len() as u64)?;
        let began = Instant::now();
        file.sync_data()?;
        took.push(began.elapsed());
    }
    Ok(took)
}

fn judge_syncs(mut took: Vec<Duration>) -> CheckResult {
    took.sort_unstable();
    let ms = |duration: Option<&Duration>| duration.copied().unwrap_or_default().as_secs_f64() * 1_000.0;
    let (usual, slowest) = (ms(took.get(took.len() / 2)), ms(took.last()));
    let what = format!(
        "fdatasync of the data directory takes {usual:.1} ms, the slowest of {} took {slowest:.1} ms: a commit waits for two, so that an \
         acknowledgement takes some {:.0} ms, and the store makes some {:.0} commits a second, of many messages each",
        took.len(),
        (usual * 2.0).ceil(),
        1_000.0 / (usual * 2.0).max(0.1)
    );
    if usual < SLOW_SYNC_MS {
        return CheckResult::good("acknowledgements", what);
    }
    let remedy = "Move the data to a local disk with power-loss protection (SSD), and see what else writes to this one (iostat -x 1).";
    CheckResult::warning("acknowledgements", what, remedy)
}

/// How many connections wait to be accepted, and whether some found no place.
pub(super) fn listen_queue() -> CheckResult {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    queue(&read("/proc/sys/net/core/somaxconn"), &read("/proc/net/netstat"))
}

fn queue(somaxconn: &str, netstat: &str) -> CheckResult {
    let Ok(most) = somaxconn.trim().parse::<u64>() else {
        return CheckResult::good("listen queue", "the kernel does not say how long it may be");
    };
    let mut what = format!("up to {most} connections of each port wait to be accepted (net.core.somaxconn)");
    if let (Some(overflows), Some(drops)) =
        (tcp_counter(netstat, "ListenOverflows"), tcp_counter(netstat, "ListenDrops"))
    {
        what.push_str(&format!(
            "; ListenOverflows {overflows}, ListenDrops {drops}, of all ports since the machine started"
        ));
    }
    if most >= LONG_QUEUE {
        return CheckResult::good("listen queue", what);
    }
    let remedy = format!(
        "Let it be {LONG_QUEUE}, or clients that come back at once wait for seconds: \
         echo net.core.somaxconn={LONG_QUEUE} > /etc/sysctl.d/90-academy-rt.conf; sysctl --system; \
         then restart academy-rt.socket and academy-rt."
    );
    CheckResult::warning("listen queue", what, remedy)
}

/// A counter of `TcpExt` in `/proc/net/netstat`: a line has the names, the next one the numbers.
fn tcp_counter(netstat: &str, name: &str) -> Option<u64> {
    let mut lines = netstat.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let at = lines.next()?.split_whitespace().position(|word| word == name)?;
    lines.next()?.split_whitespace().nth(at)?.parse().ok()
}

/// The format of the store, and whether this version can read it.
fn store_format(config: &Config, lock: fs::File) -> CheckResult {
    // `peek_format` takes its own lock.
    drop(lock);
    let known = newest_format();
    match peek_format(&config.storage.data_dir) {
        Ok(Some(format)) if format == known => {
            CheckResult::good("store", format!("format {format}, closed cleanly, and not in use"))
        }
        Ok(Some(format)) if format < known => CheckResult::good(
            "store",
            format!("format {format}; the next start backs it up and migrates it to format {known}"),
        ),
        Ok(Some(format)) => {
            let what = format!("format {format}, but this version supports only formats up to {known}");
            CheckResult::problem("store", what, "Install the version that wrote it, or restore an older backup.")
        }
        Ok(None) => CheckResult::good("store", "there is no store yet"),
        Err(why) => CheckResult::warning("store", why, "Start the server. If that fails, run: academy-rt db check."),
    }
}

/// Finds a process that has the data open while no server answers.
pub(super) fn store_lock(config: &Config) -> Option<CheckResult> {
    let path = config.storage.data_dir.join("academy.redb");
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(CheckResult::problem(
                "store",
                format!("{}: {error}", path.display()),
                "Run the command as the user of the server, or with sudo.",
            ));
        }
    };
    // The lock is shared, and is released when the file is closed.
    Some(match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => store_format(config, file),
        Err(error) if error != rustix::io::Errno::WOULDBLOCK => CheckResult::warning(
            "store",
            format!("{} cannot be locked: {error}; whether a process has it open is unknown", path.display()),
            "Put the data on a file system that has locks: a local ext4 or XFS.",
        ),
        Err(_) => {
            let remedy = "See which process it is (fuser -v FILE). A server that runs keeps its control socket in another place: set RUNTIME_DIRECTORY to that directory (/run/academy-rt for the service).";
            CheckResult::problem(
                "store",
                format!("{} is open in a process that does not answer", path.display()),
                remedy,
            )
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::Level;

    #[test]
    fn the_queue_of_a_port_is_long_enough_or_it_is_said_how_to_make_it_so() {
        let netstat = "TcpExt: SyncookiesSent ListenOverflows ListenDrops TCPHPHits\nTcpExt: 5 17 18 9\n\
                       IpExt: InNoRoutes ListenDrops\nIpExt: 0 99\n";
        let long = queue("4096\n", netstat);
        assert_eq!((long.level, long.remedy), (Level::Good, None));
        assert!(long.what.contains("ListenOverflows 17, ListenDrops 18"), "{}", long.what);
        let short = queue("128\n", netstat);
        assert_eq!(short.level, Level::Warning);
        assert!(short.what.starts_with("up to 128 ") && short.remedy.unwrap().contains("net.core.somaxconn=4096"));
        for (somaxconn, netstat) in
            [("", netstat), ("4096", ""), ("4096", "TcpExt: A\n"), ("4096", "TcpExt: ListenDrops\nTcpExt:\n")]
        {
            assert_eq!(queue(somaxconn, netstat).level, Level::Good);
        }
    }

    #[test]
    fn a_slow_disk_is_told_with_what_it_means_for_an_acknowledgement() {
        let took = |usual: u64| (0..20).map(|n| Duration::from_millis(if n == 3 { 500 } else { usual })).collect();
        let fast = judge_syncs(took(2));
        assert_eq!((fast.level, fast.remedy), (Level::Good, None));
        assert!(fast.what.contains("takes 2.0 ms, the slowest of 20 took 500.0 ms"), "{}", fast.what);
        assert!(fast.what.contains("some 4 ms, and the store makes some 250 commits"), "{}", fast.what);
        assert_eq!(judge_syncs(took(45)).level, Level::Warning);
        assert_eq!(judge_syncs(Vec::new()).level, Level::Good);
    }

    #[test]
    fn memory_that_the_configuration_may_take_is_compared_with_what_there_is() {
        let level = |cache: u64, bodies: u64, has: u64| compare_memory(cache << 20, bodies << 20, has << 20).level;
        assert!(level(64, 64, 2_048) == Level::Good);
        assert!(level(512, 64, 800) == Level::Warning);
        assert!(level(1_024, 64, 1_024) == Level::Problem);
        assert!(level(u64::MAX >> 20, u64::MAX >> 20, 1_024) == Level::Problem);
    }
}
