//! The shared secret: from the environment, a file, a systemd credential, or made once in the data directory. It is never
//! given as a flag and never shown.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::config::{Config, Secret};

/// A shorter secret can be guessed.
pub const MIN_SECRET_BYTES: usize = 32;
/// The secret's name among the credentials of systemd, and in the data directory.
const CREDENTIAL: &str = "jwt_secret";
const FILE: &str = "jwt-secret";

/// A secret and what was noticed about it.
#[derive(Debug)]
pub struct LoadedSecret {
    /// The secret.
    pub secret: Secret,
    /// What should be mended.
    pub warning: Option<String>,
}

/// Why there is no secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// It is too short.
    #[error("the secret from {from} has {len} bytes; {MIN_SECRET_BYTES} are the least")]
    Short {
        /// Where it is.
        from: String,
        /// How long it is.
        len: usize,
    },
    /// Its file cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is none yet.
    #[error("there is no secret yet in {}", data_dir.display())]
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
            SecretError::Short { .. } => "Make a good one with: openssl rand -hex 32".to_owned(),
            SecretError::File { path, .. } => format!(
                "Make {} readable for the user that runs the server, and for nobody else (mode 0600).",
                path.display()
            ),
            SecretError::None { .. } => {
                "Start the server once (academy-rt serve): it makes one. Or give the server's --data-dir, or JWT_SECRET."
                    .to_owned()
            }
        }
    }
}

/// The secret that is configured or was made before.
///
/// # Errors
/// [`SecretError`].
pub fn load(config: &Config, credentials: Option<&Path>) -> Result<LoadedSecret, SecretError> {
    if let Some(secret) = &config.auth.jwt_secret {
        let from = config.origin("auth.jwt_secret").to_string();
        return Ok(LoadedSecret { secret: check(secret.clone(), from)?, warning: None });
    }
    if let Some(path) = &config.auth.jwt_secret_file {
        return read(path);
    }
    if let Some(path) = credentials.map(|dir| dir.join(CREDENTIAL)).filter(|path| path.exists()) {
        // systemd guards it by the directory: its mode says nothing.
        return Ok(LoadedSecret { warning: None, ..read(&path)? });
    }
    let path = config.storage.data_dir.join(FILE);
    if path.exists() { read(&path) } else { Err(SecretError::None { data_dir: config.storage.data_dir.clone() }) }
}

/// As [`load`], and makes one in the data directory if there is none.
///
/// # Errors
/// [`SecretError`].
pub fn load_or_create(config: &Config, credentials: Option<&Path>) -> Result<LoadedSecret, SecretError> {
    match load(config, credentials) {
        Err(SecretError::None { data_dir }) => {
            let path = data_dir.join(FILE);
            create(&path).map_err(|source| SecretError::File { path: path.clone(), source })?;
            read(&path)
        }
        other => other,
    }
}

fn check(secret: Secret, from: String) -> Result<Secret, SecretError> {
    let len = secret.expose().len();
    if len < MIN_SECRET_BYTES { Err(SecretError::Short { from, len }) } else { Ok(secret) }
}

fn read(path: &Path) -> Result<LoadedSecret, SecretError> {
    let failed = |source| SecretError::File { path: path.to_owned(), source };
    let text = fs::read_to_string(path).map_err(failed)?;
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode();
    let warning = (mode & 0o077 != 0)
        .then(|| format!("{} can be read by others; mend it with: chmod 600 {}", path.display(), path.display()));
    let secret = Secret::new(text.trim());
    Ok(LoadedSecret { secret: check(secret, path.display().to_string())?, warning })
}

/// Whole or not at all: a start that is cut short leaves no half secret.
fn create(path: &Path) -> io::Result<()> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    if let Some(dir) = path.parent() {
        fs::File::open(dir)?.sync_all()?;
    }
    Ok(())
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
        assert!(error.remedy().contains("openssl rand -hex 32"));
        config.auth.jwt_secret = None;
        config.auth.jwt_secret_file = Some(dir.path().join("absent"));
        assert!(load(&config, None).unwrap_err().to_string().contains("absent"));
    }
}
