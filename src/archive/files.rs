//! Files beside the store: whose they are, and when they are on disk.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::config::acting_as::Rights;
use crate::config::disk_room;
use crate::domain::problem::Problem;

/// The directory that a file is in.
pub(super) fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Syncs the directory that a file lies in. File systems that cannot sync a directory write it down with the file.
///
/// # Errors
/// What the system said.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    match File::open(parent(path))?.sync_all() {
        Err(error) if is_missing(&error) => Ok(()),
        synced => synced,
    }
}

/// Whether a file system says that it does not have what was asked of it: vfat and exFAT have no hard links, network file
/// systems and FUSE lack one thing or another, and each has its own word for that.
pub(super) fn is_missing(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let absent = [Errno::PERM, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::NOSYS, Errno::INVAL, Errno::XDEV, Errno::BADF];
    error.kind() == io::ErrorKind::Unsupported || errno.is_some_and(|errno| absent.contains(&errno))
}

/// Gives a file a second name.
///
/// # Errors
/// What the system said; see [`is_missing`].
pub(super) fn link(path: &Path, other: &Path) -> io::Result<()> {
    #[cfg(test)]
    if LACKS_LINKS.get() {
        return Err(Errno::PERM.into());
    }
    fs::hard_link(path, other)
}

/// Gives a file another name, if nothing has that name. File systems that cannot do both in one step are asked before.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`]; what the system said.
pub(super) fn rename_new(from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) if to.symlink_metadata().is_err() => fs::rename(from, to),
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => Err(io::ErrorKind::AlreadyExists.into()),
        renamed => Ok(renamed?),
    }
}

#[cfg(test)]
thread_local! {
    /// Whether a test's file system has no hard links.
    pub(super) static LACKS_LINKS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Copies a file into a new one with the mode 0600; it is on disk then.
///
/// # Errors
/// What the system said; nothing is left of the copy then.
pub(crate) fn copy(from: &mut File, to: &Path) -> io::Result<File> {
    let mut copy = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(to)?;
    match io::copy(from, &mut copy).and_then(|_| copy.sync_all()) {
        Ok(()) => Ok(copy),
        Err(error) => {
            // What is left has a name that says what it is.
            let _ = fs::remove_file(to);
            Err(error)
        }
    }
}

/// The rights to work in a data directory: root works there as its owner. What it leaves the server can open, and no name that the
/// owner has put there leads it anywhere else.
///
/// # Errors
/// If this process cannot have them.
pub(super) fn rights_in(data_dir: &Path) -> Result<Rights, Problem> {
    Rights::within(data_dir).map_err(|error| {
        let what = format!("the data directory {} cannot be used", data_dir.display());
        Problem::new(what, error, "Run the command as the user of the server.")
    })
}

pub(super) fn written(what: &str, path: &Path, error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull => "Make room on that disk; nothing has been changed.",
        io::ErrorKind::PermissionDenied => "Run it as the user of the server, or as root; nothing has been changed.",
        _ => "Check the directory and its disk; nothing has been changed.",
    };
    Problem::new(format!("{what} {} cannot be written", path.display()), disk_room::why(path, error), remedy)
}
