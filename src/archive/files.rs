//! Files beside the store: whose they are, and when they are on disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::domain::problem::Problem;

/// The directory that a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the directory that a file lies in.
///
/// # Errors
/// What the system said.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(parent(path))?.sync_all()
}

/// Gives a file to whom its directory belongs: run as root, a command must not leave files that the server cannot open.
pub(super) fn give_to_owner_of(dir: &Path, path: &Path) {
    let Ok(owner) = fs::metadata(dir) else { return };
    let is_ours = fs::metadata(path).is_ok_and(|file| (file.uid(), file.gid()) == (owner.uid(), owner.gid()));
    // Who is not root cannot, and need not: their files are their own.
    if !is_ours && let Err(error) = std::os::unix::fs::chown(path, Some(owner.uid()), Some(owner.gid())) {
        tracing::debug!(%error, "a file was not given to the owner of its directory");
    }
}

pub(super) fn written(what: &str, path: &Path, error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull => "Make room on that disk; nothing has been changed.",
        io::ErrorKind::PermissionDenied => "Run it as the user of the server, or as root; nothing has been changed.",
        _ => "Check the directory and its disk; nothing has been changed.",
    };
    Problem::new(format!("{what} {} cannot be written", path.display()), error, remedy)
}
