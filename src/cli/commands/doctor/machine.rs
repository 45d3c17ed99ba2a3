//! What `doctor` sees of the machine: keys, clock, disk, descriptors, the lock of the store.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock, statfs};
use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use crate::archive::key;
use crate::archive::moments::moment;
use crate::auth::ring;
use crate::auth::sources::LoadedKeys;
use crate::config::Config;
use crate::domain::Timestamp;
use crate::store::embedded::offline::rows::{newest_format, peek_format};

use crate::cli::commands::doctor::Finding;

/// No clock was right before this version was made: 2026-01-01.
const THIS_VERSION: Timestamp = Timestamp(1_767_225_600_000);
/// Who signs with a key that ends so soon should not any more.
const KEY_ENDS_SOON: Duration = Duration::from_secs(24 * 60 * 60);
/// The process without any of what its configuration bounds, and some thousand connections.
const BASE_MEMORY: u64 = 128 << 20;
/// Where the system says what a group of processes may use, and the group of the service.
const CGROUPS: &str = "/sys/fs/cgroup";
const SERVICE_GROUP: &str = "system.slice/academy-rt.service";
/// Fewer file descriptors than this are soon used up.
const FEW_DESCRIPTORS: u64 = 8_192;

/// File systems that data do not belong on (linux/magic.h), and why.
const FILE_SYSTEMS: [(u64, &str, &str); 6] = [
    (0x6969, "NFS", "locks and syncs of a network file system are not to be relied on"),
    (0xff53_4d42, "CIFS", "locks and syncs of a network file system are not to be relied on"),
    (0xfe53_4d42, "SMB", "locks and syncs of a network file system are not to be relied on"),
    (0x0102_1997, "9P", "locks and syncs of a network file system are not to be relied on"),
    (0x0102_1994, "tmpfs", "it is memory: everything is gone when the machine stops"),
    (0x8584_58f6, "ramfs", "it is memory: everything is gone when the machine stops"),
];

/// Keys and secrets are for the service's user alone.
pub(super) fn keys(config: &Config) -> Vec<Finding> {
    let own_key = config.self_signed_cert().with_file_name("key.pem");
    let data_secret = config.storage.data_dir.join("jwt-secret");
    let ring = config.storage.data_dir.join(ring::FILE);
    let backup_key = config.storage.data_dir.join(key::FILE);
    let key = config.tls.key.as_ref().unwrap_or(&own_key);
    let secret = config.auth.jwt_secret_file.as_ref().unwrap_or(&data_secret);
    let mut findings = Vec::new();
    let places = [(key, true), (secret, true), (&ring, false), (&backup_key, false), (&config.storage.data_dir, false)];
    for (path, may_group_read) in places {
        let Ok(metadata) = fs::metadata(path) else { continue };
        let mode = metadata.permissions().mode() & 0o777;
        // A group that may read (ssl-cert) is a way to hand a key on; one that may write is not.
        let bad = if may_group_read { mode & 0o027 } else { mode & 0o077 };
        let path = path.display();
        findings.push(match bad {
            0 => Finding::good("permissions", format!("{path} has mode {mode:04o}")),
            _ => {
                let right = if metadata.is_dir() { "0700" } else { "0600" };
                Finding::problem(
                    "permissions",
                    format!("{path} has mode {mode:04o}: others can use it"),
                    format!("chmod {right} {path}"),
                )
            }
        });
    }
    findings
}

/// The keys of tokens, and those of them that end soon.
pub(super) fn token_keys(loaded: &LoadedKeys, now: Timestamp) -> Vec<Finding> {
    let (ended, keys): (Vec<_>, Vec<_>) = loaded.keys.iter().partition(|key| key.has_ended(now));
    let mut words = match keys.len() {
        1 => "tokens are checked with one key".to_owned(),
        count => format!("tokens are checked with {count} keys"),
    };
    if !ended.is_empty() {
        words.push_str(&format!("; {} more have ended", ended.len()));
    }
    let mut findings = vec![Finding::good("keys", words)];
    for key in keys {
        if let Some(until) = key.until.filter(|until| now.until(*until) <= KEY_ENDS_SOON) {
            let remedy = format!("Until then the web platform must sign with what is in {}.", loaded.signing.origin);
            findings.push(Finding::warning("keys", format!("{key} is accepted until {}", moment(until)), remedy));
        }
    }
    findings
}

/// Tokens have times: a clock that is wrong turns everybody away.
pub(super) fn clock(config: &Config, now: Timestamp) -> Finding {
    let remedy = "Set it, and let it be kept right: systemctl enable --now systemd-timesyncd, or chrony.";
    if now < THIS_VERSION {
        return Finding::problem("clock", "it is years behind", remedy);
    }
    let written = fs::metadata(config.storage.data_dir.join("academy.redb")).and_then(|file| file.modified());
    let written = written.ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
    if written.is_some_and(|at| at.as_secs() > now.as_secs() + 60) {
        return Finding::problem("clock", "the database was written to in its future: the clock was set back", remedy);
    }
    let asked = Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"]).output();
    match asked.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).as_deref() {
        Ok("yes") => Finding::good("clock", "it is kept right by NTP"),
        Ok("no") => Finding::warning("clock", "nothing keeps it right (NTP)", remedy),
        _ => Finding::good("clock", "it is plausible; who keeps it right is not known here"),
    }
}

/// Space, and what kind of file system it is.
pub(super) fn disk(config: &Config) -> Vec<Finding> {
    let dir = config.storage.data_dir.as_path();
    let Some(place) = dir.ancestors().map(nearest).find(|place| place.exists()) else { return Vec::new() };
    let kind = match statfs(place) {
        Ok(kind) => kind,
        Err(error) => {
            return vec![Finding::problem("disk", format!("{}: {error}", place.display()), "Check the disk.")];
        }
    };
    let mut findings = Vec::new();
    // The magic number is signed on some machines.
    let magic = u64::from(kind.f_type as u32);
    if let Some((_, name, why)) = FILE_SYSTEMS.iter().find(|(number, _, _)| *number == magic) {
        let what = format!("{} is on {name}: {why}", place.display());
        findings.push(Finding::warning("disk", what, "Put the data on a local disk (storage.data_dir)."));
    }
    let block = u64::try_from(kind.f_bsize).unwrap_or(4_096);
    let (free, all) = (kind.f_bavail.saturating_mul(block), kind.f_blocks.saturating_mul(block));
    let kept = config.storage.min_free_bytes(all);
    let sizes = format!("{} MB are free; writes are refused below {} MB", free / 1_000_000, kept / 1_000_000);
    findings.push(if free < kept {
        Finding::problem("disk", sizes, "Free space, or enlarge the disk: it goes on by itself then.")
    } else if free < kept.saturating_mul(2) {
        Finding::warning("disk", sizes, "Free space, or enlarge the disk, before it is used up.")
    } else {
        Finding::good("disk", sizes)
    });
    findings
}

fn nearest(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

/// Each connection is a file descriptor.
pub(super) fn descriptors(status: Option<&Value>) -> Finding {
    let of_server = status.and_then(|status| status.pointer("/process/maxFds")).and_then(Value::as_u64);
    let most = of_server.or_else(|| getrlimit(Resource::Nofile).maximum).unwrap_or(u64::MAX);
    let whose = if of_server.is_some() { "the server" } else { "a server started here" };
    let what = format!("{whose} may have {most} connections and files open");
    if most < FEW_DESCRIPTORS {
        Finding::warning("descriptors", what, "Raise LimitNOFILE= in the unit, or ulimit -n.")
    } else {
        Finding::good("descriptors", what)
    }
}

/// What the memory of the process is made of that its configuration bounds, against what the machine and the cgroups have.
pub(super) fn memory(config: &Config) -> Option<Finding> {
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

fn compare_memory(cache: u64, bodies: u64, has: u64) -> Finding {
    let wants = cache.saturating_add(bodies).saturating_add(BASE_MEMORY);
    let mib = |bytes: u64| bytes >> 20;
    let what = format!(
        "{} MiB may be used: storage.cache and limits.bodies may take {} MiB of it, beside connections and messages",
        mib(has),
        mib(cache.saturating_add(bodies))
    );
    let remedy = "Lower storage.cache or limits.bodies, or give it more memory (MemoryMax= in the unit).";
    if wants > has {
        Finding::problem("memory", what, remedy)
    } else if wants > has / 4 * 3 {
        Finding::warning("memory", what, remedy)
    } else {
        Finding::good("memory", what)
    }
}

/// What lies there, and whether this version can read it.
fn store_format(config: &Config, lock: fs::File) -> Finding {
    // The reader takes its own lock.
    drop(lock);
    let known = newest_format();
    match peek_format(&config.storage.data_dir) {
        Ok(Some(format)) if format == known => {
            Finding::good("store", format!("format {format}, closed in order; nobody has it open"))
        }
        Ok(Some(format)) if format < known => Finding::good(
            "store",
            format!("format {format}: the next start makes format {known} of it, behind a backup"),
        ),
        Ok(Some(format)) => {
            let what = format!("format {format}; this version knows format {known} at most");
            Finding::problem("store", what, "Install the version that has written it, or restore an older backup.")
        }
        Ok(None) => Finding::good("store", "there is none yet"),
        Err(why) => Finding::warning("store", why, "If the next start says something else: academy-rt db check."),
    }
}

/// A process that has the data open while no server answers.
pub(super) fn store_lock(config: &Config) -> Option<Finding> {
    let path = config.storage.data_dir.join("academy.redb");
    let file = match fs::File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            return Some(Finding::problem(
                "store",
                format!("{}: {error}", path.display()),
                "Use the user that runs the server, or sudo.",
            ));
        }
    };
    // Shared, and given back at once when the file is closed.
    Some(match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => store_format(config, file),
        Err(_) => {
            let remedy = "A command may be at work; else find the process (fuser -v FILE) and stop it.";
            Finding::problem("store", format!("{} is open in a process that does not answer", path.display()), remedy)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::commands::doctor::Level;

    #[test]
    fn memory_that_the_configuration_may_take_is_compared_with_what_there_is() {
        let level = |cache: u64, bodies: u64, has: u64| compare_memory(cache << 20, bodies << 20, has << 20).level;
        assert!(level(64, 64, 2_048) == Level::Good);
        assert!(level(512, 64, 800) == Level::Warning);
        assert!(level(1_024, 64, 1_024) == Level::Problem);
        assert!(level(u64::MAX >> 20, u64::MAX >> 20, 1_024) == Level::Problem);
    }
}
