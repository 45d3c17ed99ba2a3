//! The key that backups are marked with: [`FILE`] in the data directory, 32 random bytes, made when the first backup is. It is in
//! no backup, it is never logged, and its value is never shown: its id, a hash, distinguishes it from others.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::archive::files::{is_missing, link, rename_new, rights_in, sync_parent};
use crate::config::trusted_file;
use crate::domain::problem::Problem;

/// The key's name in the data directory.
pub const FILE: &str = "backup.key";
const KEY_BYTES: usize = 32;
/// What the MAC's own key is derived for.
const MAC_CONTEXT: &str = "academy-rt 2026-11-28 MAC of a backup";
/// What the key's id is derived for: nothing of the key can be learnt from it.
const ID_CONTEXT: &str = "academy-rt 2026-11-28 id of a backup key";
/// So many hexadecimal digits of the id are written.
const ID_DIGITS: usize = 16;

/// The mark in an archive. Whoever reads it has a stranger's texts in hand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mac {
    /// Which key it was made with.
    pub key_id: String,
    /// Keyed BLAKE3, in hexadecimal digits.
    pub value: String,
}

impl Mac {
    /// Whether its texts are no longer than those that are written.
    pub(super) fn is_short(&self) -> bool {
        self.key_id.len() <= ID_DIGITS && self.value.len() <= 2 * blake3::OUT_LEN
    }
}

/// The key of a data directory's backups.
pub struct BackupKey(Zeroizing<[u8; KEY_BYTES]>);

impl std::fmt::Debug for BackupKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("BackupKey").field(&self.id()).finish()
    }
}

impl BackupKey {
    /// Distinguishes it from others, in 16 hexadecimal digits.
    #[must_use]
    pub fn id(&self) -> String {
        let hash = blake3::Hash::from_bytes(blake3::derive_key(ID_CONTEXT, self.0.as_slice()));
        hash.to_hex().chars().take(ID_DIGITS).collect()
    }

    /// The mark of an archive whose bytes before its trailer have this hash.
    #[must_use]
    pub fn mark(&self, content: &[u8; 32]) -> Mac {
        Mac { key_id: self.id(), value: self.mac(content).to_hex().to_string() }
    }

    pub(super) fn mac(&self, content: &[u8; 32]) -> blake3::Hash {
        let key = Zeroizing::new(blake3::derive_key(MAC_CONTEXT, self.0.as_slice()));
        blake3::keyed_hash(&key, content)
    }
}

/// A key as it was found: with what is wrong about its file, if it can be used all the same.
#[derive(Debug)]
pub struct FoundKey {
    /// The key.
    pub key: BackupKey,
    /// Its file can be read by others.
    pub warning: Option<String>,
}

fn unusable(path: &Path, why: impl ToString) -> Problem {
    let remedy = format!(
        "Check that {} is the file of {KEY_BYTES} bytes that academy-rt created, and that the user of the server can read it. Without the file, the next backup creates another key.",
        path.display()
    );
    Problem::new(format!("the backup key {} cannot be used", path.display()), why, remedy)
}

/// The key of a data directory, if it has one.
///
/// # Errors
/// Why it cannot be used.
pub fn load(data_dir: &Path) -> Result<Option<FoundKey>, Problem> {
    let _rights = rights_in(data_dir)?;
    let path = data_dir.join(FILE);
    let mut file = match trusted_file::open(&path) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        opened => opened.map_err(|error| unusable(&path, error))?,
    };
    let mode = file.metadata().map_err(|error| unusable(&path, error))?.permissions().mode();
    // One byte more than a key has: longer is no key either.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_BYTES + 1));
    (&mut file).take(KEY_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|error| unusable(&path, error))?;
    let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) else {
        let than = if bytes.len() > KEY_BYTES { "longer" } else { "shorter" };
        return Err(unusable(&path, format!("it is {than} than {KEY_BYTES} bytes")));
    };
    let warning = (mode & 0o077 != 0).then(|| {
        let path = path.display();
        format!("other users can read {path}, and can sign backups with it; to fix this, run: chmod 600 {path}")
    });
    Ok(Some(FoundKey { key: BackupKey(Zeroizing::new(key)), warning }))
}

/// The key of a data directory; one is made if it has none.
///
/// # Errors
/// Why it cannot be used or made.
pub fn load_or_make(data_dir: &Path) -> Result<FoundKey, Problem> {
    let _rights = rights_in(data_dir)?;
    if let Some(found) = load(data_dir)? {
        return Ok(found);
    }
    let path = data_dir.join(FILE);
    make(data_dir, &path).map_err(|error| {
        let remedy = "Free space on that disk, or check that the user of the server may write to the directory. Until then, backups are not signed.";
        Problem::new(format!("the backup key {} cannot be created", path.display()), error, remedy)
    })?;
    load(data_dir)?.ok_or_else(|| unusable(&path, "it no longer exists"))
}

/// Whole or not at all: what has the name has all its bytes. Who comes second leaves the first one's.
fn make(data_dir: &Path, path: &Path) -> io::Result<()> {
    let mut key = Zeroizing::new([0_u8; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
    let partial = Partial(data_dir.join(format!(".{FILE}.partial-{}", std::process::id())));
    match fs::remove_file(&partial.0) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial.0)?;
    file.write_all(key.as_slice())?;
    file.sync_all()?;
    let named = match link(&partial.0, path) {
        Err(error) if is_missing(&error) => rename_new(&partial.0, path),
        named => named,
    };
    match named {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        linked => linked.and_then(|()| sync_parent(path)),
    }
}

struct Partial(PathBuf);

impl Drop for Partial {
    fn drop(&mut self) {
        // A name that is left behind holds the same key for the same user, and the next one to make a key takes it away.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::files::LACKS_LINKS;

    #[test]
    fn a_key_is_made_once_with_and_without_hard_links() {
        for lacks_links in [false, true] {
            LACKS_LINKS.set(lacks_links);
            let dir = tempfile::tempdir().unwrap();
            let one = load_or_make(dir.path()).unwrap().key.id();
            assert_eq!(load_or_make(dir.path()).unwrap().key.id(), one);
            // Who comes second leaves the first one's.
            make(dir.path(), &dir.path().join(FILE)).unwrap();
            assert_eq!(load(dir.path()).unwrap().unwrap().key.id(), one);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        }
        LACKS_LINKS.set(false);
    }
}
