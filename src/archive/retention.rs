//! How many scheduled backups are kept in a directory. A name alone is nobody's word: what counts is what a file says of
//! itself, which store and which moment it is of. The backup that was just made is never among those that go.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::archive::backup::{EXTENSION, Made, Mark};
use crate::archive::files::parent;
use crate::archive::format;
use crate::archive::moments::stamp;
use crate::config::acting_as::Rights;
use crate::domain::Timestamp;
use crate::domain::problem::Problem;

/// What the names of scheduled backups begin with.
const SCHEDULED: &str = "academy-rt-";
/// What a file says of itself is in its first bytes, in so many at most.
const START_BYTES: u64 = 64 << 10;

/// A path for a scheduled backup of that moment which nothing has yet.
#[must_use]
pub fn scheduled_path(dir: &Path, at: Timestamp) -> PathBuf {
    free_path(dir, &format!("{SCHEDULED}{}", stamp(at)))
}

/// A path for a backup of that name which nothing has yet: a second one of the same second has a number.
pub(super) fn free_path(dir: &Path, name: &str) -> PathBuf {
    let plain = dir.join(format!("{name}.{EXTENSION}"));
    let numbered = (2..).map(|n| dir.join(format!("{name}-{n}.{EXTENSION}")));
    let free = std::iter::once(plain.clone()).chain(numbered).find(|path| path.symlink_metadata().is_err());
    free.unwrap_or(plain)
}

/// Whether a file has a name that [`scheduled_path`] gives. What people have named is theirs.
fn is_scheduled(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(SCHEDULED).and_then(|rest| rest.strip_suffix(EXTENSION)) else { return false };
    let Some((moment, behind)) = rest.strip_suffix('.').and_then(|rest| rest.split_at_checked(STAMP.len())) else {
        return false;
    };
    let fits = moment.bytes().zip(STAMP.bytes()).all(|(found, shape)| match shape {
        b'0' => found.is_ascii_digit(),
        other => found == other,
    });
    let number = behind.strip_prefix('-');
    fits && (behind.is_empty() || number.is_some_and(|n| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit())))
}

/// The shape of a moment in a file's name.
const STAMP: &str = "00000000T000000Z";

/// What became of the older backups of a directory.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Those that were removed, the oldest first.
    pub removed: Vec<PathBuf>,
    /// Those of the same store that say that they were made after the one that was just made. They neither count nor go.
    pub later: Vec<PathBuf>,
    /// Those with the name of a scheduled backup that do not say what they are. They neither count nor go.
    pub unknown: Vec<PathBuf>,
    /// What could not be removed, or not be looked at.
    pub problem: Option<Problem>,
}

/// Removes the oldest scheduled backups beside one that was just made, so that `keep` are left with it: those of the same
/// store, in the order of the moments that they say they are of.
#[must_use]
pub fn prune(made: &Made, keep: usize) -> Pruned {
    let dir = parent(&made.path);
    let mut pruned = Pruned::default();
    let mut older = match look(dir, made, &mut pruned) {
        Ok(older) => older,
        Err(error) => {
            pruned.problem = Some(failed(dir, &error));
            return pruned;
        }
    };
    older.sort();
    older.truncate((older.len() + 1).saturating_sub(keep.max(1)));
    for (_, path) in older {
        match fs::remove_file(&path) {
            Ok(()) => pruned.removed.push(path),
            // Somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // The others go all the same: a disk fills up by each.
            Err(error) => pruned.problem = Some(failed(&path, &error)),
        }
    }
    pruned
}

fn failed(path: &Path, error: &io::Error) -> Problem {
    let what = format!("the old backup {} was not removed", path.display());
    Problem::new(what, error, "Check the permissions of its directory, and remove it by hand.")
}

/// The backups that are older than the one that was made.
fn look(dir: &Path, made: &Made, pruned: &mut Pruned) -> io::Result<Vec<(Timestamp, PathBuf)>> {
    let new = fs::metadata(&made.path).map(|file| (file.dev(), file.ino()))?;
    let ours = Mark::from(&made.summary.header);
    let mut older = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_other = |file: &fs::Metadata| file.is_file() && (file.dev(), file.ino()) != new;
        if !is_scheduled(&name) || path == made.path || !path.symlink_metadata().is_ok_and(|file| is_other(&file)) {
            continue;
        }
        match mark_of(&path) {
            Ok(Some(mark)) if mark.store_id != ours.store_id => {}
            Ok(Some(mark)) if mark.created_at > ours.created_at => pruned.later.push(path),
            Ok(Some(mark)) => older.push((mark.created_at, path)),
            Ok(None) => pruned.unknown.push(path),
            Err(error) => pruned.problem = Some(failed(&path, &error)),
        }
    }
    Ok(older)
}

/// What a file says of itself; `None` if it is no backup, or one that does not say it.
pub(super) fn mark_of(path: &Path) -> io::Result<Option<Mark>> {
    let mut start = Vec::new();
    // Also one that root has made in a directory of the service's; but nothing that a link leads to.
    let _rights = Rights::own()?;
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    file.take(START_BYTES).read_to_end(&mut start)?;
    if format::is_encrypted(&mut start.as_slice())? {
        return Ok(Mark::find(&start));
    }
    Ok(format::peek(&mut start.as_slice()).ok().map(|(_, header)| Mark::from(&header)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_have_named_is_no_scheduled_backup() {
        for name in ["academy-rt-20261123T171055Z.backup", "academy-rt-20261123T171055Z-12.backup"] {
            assert!(is_scheduled(name), "{name}");
        }
        for name in [
            "academy-rt-before-the-move.backup",
            "academy-rt-20261123T171055Z-mine.backup",
            "academy-rt-20261123T171055Z-.backup",
            "academy-rt-20261123T171055Z.backup.gz",
            "academy-rt-20261123T171055Zbackup",
            "academy-rt-20261123.backup",
            "academy-rt-.backup",
            "mine.backup",
        ] {
            assert!(!is_scheduled(name), "{name}");
        }
    }

    #[test]
    fn a_second_backup_of_a_second_has_a_name_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["19700101T000001Z.backup", "19700101T000001Z-2.backup", "19700101T000001Z-3.backup"] {
            let path = scheduled_path(dir.path(), Timestamp(1_500));
            assert_eq!(path, dir.path().join(format!("academy-rt-{name}")));
            std::fs::File::create(path).unwrap();
        }
    }
}
