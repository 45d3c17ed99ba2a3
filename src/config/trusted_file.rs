//! Files and directories that decide who is let in: they are opened so that none hangs, and refused where another user of the
//! machine could put something else in their place, by the rule that sshd has for its keys.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid, getgroups};
use zeroize::Zeroizing;

/// What a user that the namespace has no number for is shown as.
pub(super) const UNMAPPED: u32 = 65_534;
/// A directory in which only the owner of an entry can rename or remove it, as `/tmp`.
const STICKY: u32 = 0o1000;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// Opens a regular file. A FIFO, a socket or a device is refused at once: opening or reading one could wait for ever.
///
/// # Errors
/// What the system says, or that it is no regular file.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    Ok(file)
}

/// All bytes of a regular file, at most so many.
///
/// # Errors
/// As [`open`], or that it has more bytes.
pub fn read(path: &Path, most: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let file = open(path)?;
    // Large enough at once: a buffer that grows leaves its old self behind.
    let room = usize::try_from(file.metadata()?.len().min(most)).unwrap_or_default();
    let mut bytes = Zeroizing::new(Vec::with_capacity(room.saturating_add(1)));
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(io::Error::other(format!("it is larger than {most} bytes")));
    }
    Ok(bytes)
}

/// Somebody else can change a file, or what stands under its name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// All users may write.
    #[error("all users of this machine can change {}", .0.display())]
    All(PathBuf),
    /// A group may write that is not the server's.
    #[error("the users of group {gid} can change {}", path.display())]
    Group {
        /// The file or directory.
        path: PathBuf,
        /// The group.
        gid: u32,
    },
    /// Its owner is neither root nor the server's user.
    #[error("{} belongs to user {uid}, who is neither root nor the user of the server and can change it", path.display())]
    Owner {
        /// The file or directory.
        path: PathBuf,
        /// The owner.
        uid: u32,
    },
}

impl Untrusted {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            Untrusted::All(path) | Untrusted::Group { path, .. } => {
                format!("Check that its contents are still yours, then run: chmod go-w {}.", path.display())
            }
            Untrusted::Owner { path, .. } => format!(
                "Check that its contents are still yours, then give it to root or to the user of the server: chown USER {}.",
                path.display()
            ),
        }
    }
}

/// Whose files are trusted: root's, and those of the own user and groups.
#[derive(Debug, Clone)]
pub struct Trust {
    users: Vec<u32>,
    groups: Vec<u32>,
}

impl Trust {
    /// Of the user that runs this process, and root.
    #[must_use]
    pub fn own() -> Trust {
        let mut users = vec![0, geteuid().as_raw()];
        if !is_every_user_known() {
            users.push(UNMAPPED);
        }
        let mut groups = vec![0, getegid().as_raw()];
        groups.extend(getgroups().unwrap_or_default().into_iter().map(|group| group.as_raw()));
        Trust { users, groups }
    }

    /// As [`Trust::own`]; for a command that root runs also of the owner of the data directory, whose server it is about.
    #[must_use]
    pub fn of_server(data_dir: &Path) -> Trust {
        let mut trust = Trust::own();
        if geteuid().is_root()
            && let Ok(metadata) = fs::metadata(data_dir)
        {
            trust.users.push(metadata.uid());
            trust.groups.push(metadata.gid());
        }
        trust
    }

    /// Refuses a file or directory that somebody else owns or may write to, or with a directory above it of which that is
    /// true. Of what is not there yet, the directories above it are looked at; what cannot be looked at is not refused here,
    /// since opening it fails with an error of its own.
    ///
    /// # Errors
    /// Who could change what.
    pub fn check(&self, path: &Path) -> Result<(), Untrusted> {
        // Whoever can replace a link decides as well as whoever can replace what it points to.
        if let Ok(link) = fs::symlink_metadata(path)
            && link.is_symlink()
        {
            self.check_owner(path, link.uid())?;
            if let Some(dir) = path.parent() {
                self.check_all(if dir.as_os_str().is_empty() { Path::new(".") } else { dir })?;
            }
        }
        self.check_all(path)
    }

    fn check_all(&self, path: &Path) -> Result<(), Untrusted> {
        let Ok(path) = std::path::absolute(path) else { return Ok(()) };
        let Some(real) = path.ancestors().find_map(|place| fs::canonicalize(place).ok()) else { return Ok(()) };
        for place in real.ancestors() {
            let Ok(metadata) = fs::metadata(place) else { continue };
            self.check_owner(place, metadata.uid())?;
            let mode = metadata.mode();
            if metadata.is_dir() && mode & STICKY != 0 {
                continue;
            }
            if mode & OTHERS_WRITE != 0 {
                return Err(Untrusted::All(place.to_owned()));
            }
            if mode & GROUP_WRITES != 0 && !self.groups.contains(&metadata.gid()) {
                return Err(Untrusted::Group { path: place.to_owned(), gid: metadata.gid() });
            }
        }
        Ok(())
    }

    fn check_owner(&self, path: &Path, uid: u32) -> Result<(), Untrusted> {
        if self.users.contains(&uid) { Ok(()) } else { Err(Untrusted::Owner { path: path.to_owned(), uid }) }
    }
}

/// Whether each user of the machine has a number here: in a user namespace the others are all shown as one.
pub(super) fn is_every_user_known() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("inner").join("file");
        fs::create_dir(dir.path().join("inner")).unwrap();
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        (dir, file)
    }

    fn set(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn what_others_can_write_is_refused_and_so_is_what_is_below_it() {
        let (dir, file) = place();
        Trust::own().check(&file).unwrap();
        for path in [file.clone(), dir.path().join("inner"), dir.path().to_owned()] {
            let real = fs::canonicalize(&path).unwrap();
            let before = fs::metadata(&path).unwrap().permissions();
            set(&path, 0o777);
            assert_eq!(Trust::own().check(&file), Err(Untrusted::All(real)));
            fs::set_permissions(&path, before).unwrap();
        }
        set(dir.path(), 0o1777);
        Trust::own().check(&file).unwrap();
        Trust::own().check(&dir.path().join("inner").join("absent").join("deeper")).unwrap();
        set(&dir.path().join("inner"), 0o777);
        Trust::own().check(&dir.path().join("inner").join("absent").join("deeper")).unwrap_err();
    }

    #[test]
    fn a_link_is_as_good_as_both_of_its_ends() {
        let (dir, file) = place();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("link");
        symlink(&file, &link).unwrap();
        Trust::own().check(&link).unwrap();
        set(elsewhere.path(), 0o777);
        Trust::own().check(&link).unwrap_err();
        set(elsewhere.path(), 0o700);
        set(dir.path(), 0o777);
        Trust::own().check(&link).unwrap_err();
    }

    #[test]
    fn what_belongs_to_somebody_else_is_refused() {
        if !geteuid().is_root() {
            return;
        }
        let (dir, file) = place();
        let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), Some(uid)).unwrap();
        give(&file, 4_711);
        assert!(matches!(Trust::own().check(&file), Err(Untrusted::Owner { uid: 4_711, .. })));
        // What root asks about the server of that user.
        give(&dir.path().join("inner"), 4_711);
        Trust::of_server(&dir.path().join("inner")).check(&file).unwrap();
        give(&file, 0);
        assert!(matches!(Trust::own().check(&file), Err(Untrusted::Owner { uid: 4_711, .. })));
        give(&dir.path().join("inner"), 0);
        std::os::unix::fs::chown(&file, None, Some(4_711)).unwrap();
        set(&file, 0o660);
        assert!(matches!(Trust::own().check(&file), Err(Untrusted::Group { gid: 4_711, .. })));
    }

    #[test]
    fn what_is_no_regular_file_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        for path in [fifo.as_path(), dir.path(), Path::new("/dev/zero")] {
            assert!(read(path, 10).unwrap_err().to_string().contains("not a regular file"), "{path:?}");
        }
        fs::write(dir.path().join("file"), "0123456789").unwrap();
        assert_eq!(read(&dir.path().join("file"), 10).unwrap().len(), 10);
        assert!(read(&dir.path().join("file"), 9).unwrap_err().to_string().contains("larger than 9"));
    }
}
