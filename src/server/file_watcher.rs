//! Files that are looked at from time to time: whether another one is in their place.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files as they were. One that is not there is one that was not there.
#[derive(Debug, Default)]
pub(super) struct WatchedFiles(Vec<(PathBuf, Option<Stamp>)>);

/// A file as it was: another one in its place has another number, time or size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    inode: u64,
    modified: (i64, i64),
    bytes: u64,
}

impl WatchedFiles {
    /// These files as they are. To be called before they are read: what changes meanwhile is read again.
    pub(super) fn new(files: impl IntoIterator<Item = PathBuf>) -> WatchedFiles {
        WatchedFiles(files.into_iter().map(|path| (path.clone(), stamp(&path))).collect())
    }

    /// Whether one of them is another one now.
    pub(super) fn is_outdated(&self) -> bool {
        self.0.iter().any(|(path, seen)| stamp(path) != *seen)
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = fs::metadata(path).ok()?;
    let modified = (metadata.mtime(), metadata.mtime_nsec());
    Some(Stamp { inode: metadata.ino(), modified, bytes: metadata.len() })
}
