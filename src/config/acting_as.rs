//! Whose rights a command has where it works on a place that another user owns.
//!
//! Root's command in the service's directory works among files that the service's user can replace at any moment: by a link to a
//! file of root's, between any two steps. So it does not look twice and hope: while it works there, its thread *is* that user, and
//! the kernel refuses what the user may not do. No link leads it further than the user can go by itself, and what it makes is the
//! user's. Threads that it starts meanwhile have the same rights.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::marker::PhantomData;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use rustix::process::{Gid, Uid, getegid, geteuid, getgid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use super::trusted_file::{UNMAPPED, is_every_user_known};

/// So many links are followed on the way to a path: as many as Linux follows.
const MOST_LINKS: usize = 40;

/// A user other than root who owns something on the way to a path, and so decides what is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub uid: u32,
    /// The group of what it owns there.
    pub gid: u32,
}

/// The first user other than root who owns a directory, a link or a file on the way to a path, if there is one. All before it is
/// root's, so that nobody can change the answer meanwhile. What is not there is nobody's.
///
/// # Errors
/// What the system says of a place on the way.
pub fn owner_on_the_way(path: &Path) -> io::Result<Option<Owner>> {
    let path = std::path::absolute(path)?;
    let mut left: VecDeque<OsString> = names(&path).collect();
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let knows_all = is_every_user_known();
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        let next = at.join(&name);
        let found = match std::fs::symlink_metadata(&next) {
            Ok(found) => found,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        // In a user namespace everybody outside has this one number, root too.
        let is_roots = found.uid() == 0 || found.uid() == UNMAPPED && !knows_all;
        if !is_roots {
            return Ok(Some(Owner { uid: found.uid(), gid: found.gid() }));
        }
        if !found.is_symlink() {
            at = next;
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let target = std::fs::read_link(&next)?;
        if target.is_absolute() {
            at = PathBuf::from("/");
        }
        let through: Vec<OsString> = names(&target).collect();
        through.into_iter().rev().for_each(|name| left.push_front(name));
    }
    Ok(None)
}

fn names(path: &Path) -> impl Iterator<Item = OsString> + '_ {
    path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    })
}

/// The groups of a user, as the system knows them.
#[must_use]
pub fn groups_of(uid: u32) -> Vec<u32> {
    let output = Command::new("id").arg("-G").arg(uid.to_string()).output().ok();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.split_whitespace().filter_map(|group| group.parse().ok()).collect()
}

/// The thread's rights, until it is dropped: then they are again those from before.
#[derive(Debug)]
#[must_use]
pub struct Rights {
    before: Option<Ids>,
    /// Rights are a thread's: this stays on its own.
    _on_this_thread: PhantomData<*const ()>,
}

#[derive(Debug, Clone)]
struct Ids {
    uid: Uid,
    gid: Gid,
    groups: Vec<Gid>,
}

impl Ids {
    fn now() -> io::Result<Ids> {
        Ok(Ids { uid: geteuid(), gid: getegid(), groups: getgroups()? })
    }

    /// Takes them on. Only root can change groups: it is root in between.
    fn take(&self) -> io::Result<()> {
        set_thread_res_uid(None, Uid::ROOT, None)?;
        set_thread_groups(&self.groups)?;
        set_thread_res_gid(None, self.gid, None)?;
        Ok(set_thread_res_uid(None, self.uid, None)?)
    }
}

impl Rights {
    fn unchanged() -> Rights {
        Rights { before: None, _on_this_thread: PhantomData }
    }

    /// The rights of the owner of a place, while there is something to do in it: those of [`owner_on_the_way`], or root's where all
    /// of the way is root's. Whoever is not root keeps their own.
    ///
    /// # Errors
    /// If the way cannot be looked at, or the system does not let root be another user.
    pub fn within(path: &Path) -> io::Result<Rights> {
        Rights::chosen(path, |_| true)
    }

    /// As [`Rights::within`], but only if the owner is that of the data directory: for a file that root may put anywhere, and that
    /// would become the property of whoever else owns the place.
    ///
    /// # Errors
    /// As [`Rights::within`].
    pub fn within_if_of(path: &Path, data_dir: &Path) -> io::Result<Rights> {
        if !getuid().is_root() {
            return Ok(Rights::unchanged());
        }
        let _root = Rights::own()?;
        let service = owner_on_the_way(data_dir)?;
        drop(_root);
        Rights::chosen(path, |owner| service.is_some_and(|service| service.uid == owner.uid))
    }

    /// The process's own rights again, for what root was asked to read.
    ///
    /// # Errors
    /// If the system does not give them back.
    pub fn own() -> io::Result<Rights> {
        if !getuid().is_root() || geteuid().is_root() {
            return Ok(Rights::unchanged());
        }
        let before = Ids::now()?;
        set_thread_res_uid(None, Uid::ROOT, None)?;
        let rights = Rights { before: Some(before), _on_this_thread: PhantomData };
        // What is made now has the process's own group.
        set_thread_res_gid(None, getgid(), None)?;
        Ok(rights)
    }

    fn chosen(path: &Path, is_to_be: impl Fn(&Owner) -> bool) -> io::Result<Rights> {
        if !getuid().is_root() {
            return Ok(Rights::unchanged());
        }
        // As root again: the way may be closed to whoever this is just now.
        let as_root = Rights::own()?;
        let Some(owner) = owner_on_the_way(path)?.filter(is_to_be) else { return Ok(as_root) };
        let groups = groups_of(owner.uid).into_iter().chain([owner.gid]).map(Gid::from_raw).collect();
        let before = match &as_root.before {
            Some(before) => before.clone(),
            None => Ids::now()?,
        };
        let ids = Ids { uid: Uid::from_raw(owner.uid), gid: Gid::from_raw(owner.gid), groups };
        // From here on the guard brings back what was before, also from half of the way.
        std::mem::forget(as_root);
        let rights = Rights { before: Some(before), _on_this_thread: PhantomData };
        ids.take().map_err(|error| {
            let why = format!("this process cannot act as user {}, who owns {}: {error}", owner.uid, path.display());
            io::Error::new(error.kind(), why)
        })?;
        Ok(rights)
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let Some(before) = &self.before else { return };
        if let Err(error) = before.take() {
            // It goes on with fewer rights than it had, never with more.
            tracing::debug!(%error, "the rights from before were not taken again");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, symlink};

    use super::*;

    const SOMEBODY: u32 = 4_711;

    /// A directory of root's with one of somebody's in it; `None` for who is not root.
    fn place() -> Option<(tempfile::TempDir, PathBuf)> {
        if !geteuid().is_root() || !is_every_user_known() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let theirs = dir.path().join("theirs");
        fs::create_dir(&theirs).unwrap();
        chown(&theirs, Some(SOMEBODY), Some(SOMEBODY)).unwrap();
        Some((dir, theirs))
    }

    #[test]
    fn the_first_who_is_not_root_decides_what_is_behind() {
        let Some((dir, theirs)) = place() else { return };
        let somebody = Some(Owner { uid: SOMEBODY, gid: SOMEBODY });
        let at = |name: &str| dir.path().join(name);
        fs::write(at("mine"), "x").unwrap();
        symlink("../mine", theirs.join("link")).unwrap();
        symlink("theirs", at("to-theirs")).unwrap();
        symlink("loop", at("loop")).unwrap();
        for (path, owner) in [
            (at("mine"), None),
            (at("absent/deeper"), None),
            (theirs.join("absent"), somebody),
            // A link of theirs to what is root's is theirs.
            (theirs.join("link"), somebody),
            (at("to-theirs/absent"), somebody),
            (at("to-theirs/../mine"), somebody),
        ] {
            assert_eq!(owner_on_the_way(&path).unwrap(), owner, "{}", path.display());
        }
        owner_on_the_way(&at("loop")).unwrap_err();
    }

    #[test]
    fn root_is_the_owner_within_and_root_again_behind() {
        let Some((dir, theirs)) = place() else { return };
        let roots = dir.path().join("mine");
        fs::write(&roots, "x").unwrap();
        fs::set_permissions(&roots, fs::Permissions::from_mode(0o600)).unwrap();
        let groups = getgroups().unwrap();
        {
            let _rights = Rights::within(&theirs).unwrap();
            assert_eq!(geteuid().as_raw(), SOMEBODY);
            fs::read(&roots).unwrap_err();
            fs::write(theirs.join("new"), "x").unwrap();
            std::thread::scope(|scope| {
                scope.spawn(|| assert_eq!(geteuid().as_raw(), SOMEBODY));
            });
            {
                let _own = Rights::own().unwrap();
                assert_eq!(fs::read(&roots).unwrap(), b"x");
                let _within = Rights::within(dir.path()).unwrap();
                assert!(geteuid().is_root());
            }
            assert_eq!(geteuid().as_raw(), SOMEBODY);
            let _roots = Rights::within(&roots).unwrap();
            assert!(geteuid().is_root());
        }
        assert!(geteuid().is_root() && getegid().is_root() && getgroups().unwrap() == groups);
        assert_eq!(fs::metadata(theirs.join("new")).unwrap().uid(), SOMEBODY);
        let others = dir.path().join("others");
        fs::create_dir(&others).unwrap();
        chown(&others, Some(SOMEBODY + 1), None).unwrap();
        let _rights = Rights::within_if_of(&others, &theirs).unwrap();
        assert!(geteuid().is_root(), "what root puts into a third one's directory does not become theirs");
    }
}
