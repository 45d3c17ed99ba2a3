//! The directory `conf.d` beside the configuration file: an administrator's own settings, in files that no package touches.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// The directory's name.
pub const DIR: &str = "conf.d";

/// What is in the directory.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DropIns {
    /// The files to read: each whose name ends in `.toml` and does not begin with a dot, in the order of the names' bytes.
    pub read: Vec<PathBuf>,
    /// Files that somebody may take for configuration, and that are not read: those with no `.toml` in their names at all. What a
    /// package manager or an editor puts beside a file (`a.toml.dpkg-old`, `a.toml~`), a hidden file and a README are none.
    pub passed_over: Vec<PathBuf>,
}

/// Lists the directory beside a configuration file, which need not be there itself. A directory that is absent is an empty one.
///
/// # Errors
/// If the directory is there and cannot be listed.
pub fn beside(file: &Path) -> io::Result<DropIns> {
    let dir = dir(file);
    let mut found = DropIns::default();
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound && fs::symlink_metadata(&dir).is_err() => {
            return Ok(found);
        }
        Err(error) => return Err(error),
    };
    for entry in entries {
        let name = entry?.file_name();
        let is_hidden = name.as_bytes().starts_with(b".");
        if is_hidden {
            continue;
        }
        let path = dir.join(&name);
        if path.extension() == Some(OsStr::new("toml")) {
            found.read.push(path);
        } else if !name.to_string_lossy().contains(".toml") && !name.as_bytes().starts_with(b"README") {
            found.passed_over.push(path);
        }
    }
    found.read.sort();
    found.passed_over.sort();
    Ok(found)
}

/// The directory beside a configuration file.
#[must_use]
pub fn dir(file: &Path) -> PathBuf {
    file.with_file_name(DIR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_in_the_order_of_their_names_and_what_looks_like_one_is_told() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("academy-rt.toml");
        assert_eq!(beside(&file).unwrap(), DropIns::default(), "no directory");
        let dir = dir(&file);
        fs::create_dir(&dir).unwrap();
        for name in
            ["90-b.toml", "10-a.toml", "9.toml", ".hidden.toml", "a.toml~", "a.toml.dpkg-old", "limits.conf", "README"]
        {
            fs::write(dir.join(name), "").unwrap();
        }
        let found = beside(&file).unwrap();
        assert_eq!(found.read, ["10-a.toml", "9.toml", "90-b.toml"].map(|name| dir.join(name)));
        assert_eq!(found.passed_over, [dir.join("limits.conf")]);
        fs::remove_dir_all(&dir).unwrap();
        std::os::unix::fs::symlink("nowhere", &dir).unwrap();
        beside(&file).unwrap_err();
    }
}
