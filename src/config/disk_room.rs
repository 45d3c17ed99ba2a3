//! Why a disk takes nothing more: a file system without free inodes says the same as one without free bytes.

use std::io;
use std::path::Path;

/// What the system says of a failed write, and what it does not say: that bytes are free and inodes are not.
#[must_use]
pub fn why(path: &Path, error: &io::Error) -> String {
    let is_full = error.kind() == io::ErrorKind::StorageFull;
    let stat = path
        .ancestors()
        .find_map(|place| rustix::fs::statvfs(if place.as_os_str().is_empty() { Path::new(".") } else { place }).ok());
    match stat {
        Some(stat) if is_full && stat.f_files > 0 && stat.f_favail == 0 && stat.f_bavail > 0 => format!(
            "{error}: no inode is free there (df -i), though {} MB are: fewer files must be on it",
            stat.f_bavail.saturating_mul(stat.f_frsize) / 1_000_000
        ),
        _ => error.to_string(),
    }
}
