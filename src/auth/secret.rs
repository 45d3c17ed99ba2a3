//! The shared secret: from the environment, a file, a systemd credential, or made once in the data directory. It is never
//! given as a flag and never shown.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::config::disk_room;
use crate::config::trusted_file::{self, Trust, Untrusted};
use crate::config::{Config, Origin, Secret};

use super::keys::{KeyError, KeyOrigin};
use super::lookalikes;

/// A shorter secret can be guessed.
pub const MIN_SECRET_BYTES: usize = 32;
/// The secret's name among the credentials of systemd, and in the data directory.
const CREDENTIAL: &str = "jwt_secret";
const FILE: &str = "jwt-secret";
/// No file with a secret is larger.
const MAX_FILE_BYTES: u64 = 64 << 10;

/// A secret and what was noticed about it.
#[derive(Debug)]
pub struct LoadedSecret {
    /// The secret.
    pub secret: Secret,
    /// What should be fixed.
    pub warning: Option<String>,
    /// Where it is.
    pub origin: KeyOrigin,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is too short.
    #[error("the secret from {from} has {len} bytes; at least {MIN_SECRET_BYTES} are required")]
    Short {
        /// Where it is.
        from: String,
        /// How long it is.
        len: usize,
    },
    /// Its file cannot be used.
    #[error("{}: {}", path.display(), disk_room::why(path, source))]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else: a public key, above all.
    #[error("the text of {from} {why}")]
    SomethingElse {
        /// Where it is.
        from: String,
        /// What it is.
        why: String,
        /// Where that belongs.
        remedy: &'static str,
    },
    /// Somebody else can change it.
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// There is none yet.
    #[error("{} contains no secret", data_dir.display())]
    None {
        /// Where one would be made.
        data_dir: PathBuf,
    },
}

impl SecretError {
    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> String {
        match self {
            SecretError::Short { .. } => {
                "Create a good secret with: academy-rt key new FILE (or openssl rand -hex 32).".to_owned()
            }
            SecretError::SomethingElse { remedy, .. } => (*remedy).to_owned(),
            SecretError::Untrusted(error) => error.remedy(),
            SecretError::File { path, source } => {
                let path = path.display();
                match source.kind() {
                    io::ErrorKind::NotFound => {
                        format!(
                            "Create it with: academy-rt key new {path} (or (umask 077; openssl rand -hex 32 > {path})), or \
                             correct auth.jwt_secret_file."
                        )
                    }
                    io::ErrorKind::PermissionDenied => {
                        format!("Run the command as the user of the server: only that user can read {path} (mode 0600).")
                    }
                    io::ErrorKind::StorageFull => "Free space on the disk, and start the server again.".to_owned(),
                    _ => format!("Check that {path} is a file that the user of the server can read and write."),
                }
            }
            SecretError::None { .. } => {
                "Start the server once (academy-rt serve), which creates a secret. Or give the data directory of the server with --data-dir, or set JWT_SECRET."
                    .to_owned()
            }
        }
    }
}

impl From<SecretError> for KeyError {
    fn from(error: SecretError) -> KeyError {
        let is_absent = matches!(error, SecretError::None { .. });
        let what = if is_absent { "there is no secret yet" } else { "the JWT secret cannot be used" };
        KeyError { is_absent, ..KeyError::new(what, &error, error.remedy()) }
    }
}

/// The secret that is configured or was made before.
///
/// # Errors
/// [`SecretError`].
pub fn load(config: &Config, credentials: Option<&Path>) -> Result<LoadedSecret, SecretError> {
    if let Some(secret) = &config.auth.jwt_secret {
        let origin = config.origin("auth.jwt_secret");
        let secret = check(secret.expose().as_bytes(), origin.to_string())?;
        let name = match origin {
            Origin::Env(name) => name,
            other => other.to_string(),
        };
        return Ok(LoadedSecret { secret, warning: None, origin: KeyOrigin::Environment(name) });
    }
    let trust = || Trust::of_server(&config.storage.data_dir);
    if let Some(path) = &config.auth.jwt_secret_file {
        return read(path, Some(&trust()));
    }
    if let Some(path) = credentials.map(|dir| dir.join(CREDENTIAL))
        && is_there(&path)?
    {
        // systemd guards it by the directory: its mode says nothing.
        let origin = KeyOrigin::Credential(path.clone());
        return Ok(LoadedSecret { warning: None, origin, ..read(&path, None)? });
    }
    let path = config.storage.data_dir.join(FILE);
    if is_there(&path)? {
        read(&path, Some(&trust()))
    } else {
        Err(SecretError::None { data_dir: config.storage.data_dir.clone() })
    }
}

/// The file that [`load`] reads the secret from; `None` if the environment has it.
#[must_use]
pub fn file(config: &Config, credentials: Option<&Path>) -> Option<PathBuf> {
    if config.auth.jwt_secret.is_some() {
        return None;
    }
    let credential = || credentials.map(|dir| dir.join(CREDENTIAL)).filter(|path| path.exists());
    Some(config.auth.jwt_secret_file.clone().or_else(credential).unwrap_or_else(|| config.storage.data_dir.join(FILE)))
}

/// A file that one may not see is not one that is absent: "there is none yet" would send people to make another one.
fn is_there(path: &Path) -> Result<bool, SecretError> {
    path.try_exists().map_err(|source| SecretError::File { path: path.to_owned(), source })
}

/// As [`load`], and makes one in the data directory if there is none.
///
/// # Errors
/// [`SecretError`].
pub fn load_or_create(config: &Config, credentials: Option<&Path>) -> Result<LoadedSecret, SecretError> {
    match load(config, credentials) {
        Err(SecretError::None { data_dir }) => {
            let path = data_dir.join(FILE);
            // What is put where others can put something else is not a secret for long.
            Trust::of_server(&data_dir).check(&data_dir)?;
            create(&path).map_err(|source| SecretError::File { path: path.clone(), source })?;
            read(&path, Some(&Trust::of_server(&data_dir)))
        }
        other => other,
    }
}

fn check(bytes: &[u8], from: String) -> Result<Secret, SecretError> {
    let text = match lookalikes::secret_in(bytes) {
        Ok(text) => text,
        Err((why, remedy)) => return Err(SecretError::SomethingElse { from, why, remedy }),
    };
    let len = text.len();
    if len < MIN_SECRET_BYTES { Err(SecretError::Short { from, len }) } else { Ok(Secret::new(text)) }
}

/// Reads a file; with a trust, one that nobody else can change.
fn read(path: &Path, trust: Option<&Trust>) -> Result<LoadedSecret, SecretError> {
    let failed = |source| SecretError::File { path: path.to_owned(), source };
    let bytes = trusted_file::read(path, MAX_FILE_BYTES).map_err(failed)?;
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    let warning = (mode & 0o077 != 0)
        .then(|| format!("other users can read {}; to fix this, run: chmod 600 {}", path.display(), path.display()));
    if let Some(trust) = trust {
        trust.check(path)?;
    }
    let secret = check(&bytes, path.display().to_string())?;
    Ok(LoadedSecret { secret, warning, origin: KeyOrigin::SecretFile(path.to_owned()) })
}

/// Refuses a key file that another user can change: who can change a key can sign in as any user.
pub(super) fn refuse_untrusted(path: &Path, trust: &Trust) -> Result<(), KeyError> {
    trust.check(path).map_err(|error| {
        let what = format!("the keys in {} cannot be used", path.display());
        let remedy = error.remedy();
        KeyError::new(what, error, remedy)
    })
}

/// A secret of 256 random bits, in hexadecimal digits.
///
/// # Errors
/// If the system has no random numbers.
pub fn random() -> io::Result<Secret> {
    let mut bytes = Zeroizing::new([0_u8; 32]);
    getrandom::fill(bytes.as_mut_slice()).map_err(io::Error::other)?;
    // Large enough at once: a text that grows leaves its old self behind.
    let mut text = String::with_capacity(2 * bytes.len());
    for digit in bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]) {
        text.extend(char::from_digit(u32::from(digit), 16));
    }
    Ok(Secret::new(text))
}

/// A secret as the text of its file.
pub(super) fn line(secret: &Secret) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(secret.expose().len() + 1));
    text.push_str(secret.expose());
    text.push('\n');
    text
}

/// Whole or not at all: a start that is cut short leaves no half secret. Of two starts at once the first one's secret
/// stays, and both read that: the one that loses the store's lock must not have changed the secret of the one that runs.
fn create(path: &Path) -> io::Result<()> {
    let text = line(&random()?);
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    // Left behind by a start that was cut short, by a process with the same number.
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
    let placed = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).and_then(|()| place(&temporary, path));
    if placed.is_err() {
        // The failure is reported; a leftover file does no harm.
        drop(fs::remove_file(&temporary));
    }
    placed?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
}

/// Gives a file its name, unless there is one of that name already: then the new one goes.
fn place(temporary: &Path, path: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    use rustix::io::Errno;
    match renameat_with(CWD, temporary, CWD, path, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(()),
        Err(Errno::EXIST) => fs::remove_file(temporary),
        // A file system that cannot promise it; there the last one stays.
        Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => fs::rename(temporary, path),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(dir: &Path) -> Config {
        let mut config = Config::default();
        config.storage.data_dir = dir.to_owned();
        config
    }

    #[test]
    fn a_secret_is_made_once_and_private() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path());
        assert!(matches!(load(&config, None), Err(SecretError::None { .. })));
        let first = load_or_create(&config, None).unwrap();
        assert_eq!(first.secret.expose().len(), 64);
        assert!(first.warning.is_none());
        assert_eq!(fs::metadata(dir.path().join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(load_or_create(&config, None).unwrap().secret, first.secret);
    }

    #[test]
    fn of_two_that_make_a_secret_at_once_the_first_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(FILE);
        let go = std::sync::Barrier::new(8);
        let seen: Vec<String> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let (go, dir) = (&go, dir.path());
                    scope.spawn(move || {
                        let temporary = dir.join(format!("t{n}"));
                        fs::write(&temporary, n.to_string().repeat(40)).unwrap();
                        go.wait();
                        place(&temporary, &dir.join(FILE)).unwrap();
                        fs::read_to_string(dir.join(FILE)).unwrap()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(seen.iter().all(|text| *text == seen[0]), "{seen:?}");
        let before = fs::read(&path).unwrap();
        create(&path).unwrap();
        assert_eq!(fs::read(&path).unwrap(), before);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left over");
    }

    #[test]
    fn a_secret_that_cannot_be_seen_is_not_one_that_is_absent() {
        let dir = tempfile::tempdir().unwrap();
        // Below a file nothing can be looked for: as for another user below a private directory.
        fs::write(dir.path().join("file"), "").unwrap();
        assert!(matches!(load(&config(&dir.path().join("file")), None), Err(SecretError::File { .. })));
        let error = SecretError::File { path: "/s".into(), source: io::ErrorKind::PermissionDenied.into() };
        assert!(error.remedy().contains("as the user of the server"));
        let error = SecretError::File { path: "/s".into(), source: io::ErrorKind::NotFound.into() };
        assert!(error.remedy().contains("openssl rand -hex 32 > /s"));
    }

    #[test]
    fn environment_before_file_before_credential_before_data_directory() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        load_or_create(&config, None).unwrap();
        let place = |name: &str, letter: &str| {
            let path = dir.path().join(name);
            fs::write(&path, letter.repeat(40)).unwrap();
            path
        };
        place(CREDENTIAL, "c");
        assert!(load(&config, Some(dir.path())).unwrap().secret.expose().starts_with('c'));
        config.auth.jwt_secret_file = Some(place("file", "f"));
        let loaded = load(&config, Some(dir.path())).unwrap();
        assert!(loaded.secret.expose().starts_with('f'));
        assert!(loaded.warning.unwrap().contains("chmod 600"));
        config.auth.jwt_secret = Some(Secret::new("e".repeat(32)));
        assert!(load(&config, Some(dir.path())).unwrap().secret.expose().starts_with('e'));
    }

    #[test]
    fn a_short_or_unreadable_secret_says_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = config(dir.path());
        config.auth.jwt_secret = Some(Secret::new("short"));
        let error = load(&config, None).unwrap_err();
        assert!(error.to_string().contains("5 bytes") && !error.to_string().contains("short"));
        assert!(error.remedy().contains("academy-rt key new") && error.remedy().contains("openssl rand -hex 32"));
        config.auth.jwt_secret = None;
        config.auth.jwt_secret_file = Some(dir.path().join("absent"));
        assert!(load(&config, None).unwrap_err().to_string().contains("absent"));
    }
}
