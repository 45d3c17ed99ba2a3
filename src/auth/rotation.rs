//! Another secret in the place of the present one, while that is accepted for a while. The server may run or not: it sees
//! that the files are other ones. The ring is written before the secret, and read after it: at no moment is a secret that
//! shall be accepted in neither.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;

use crate::config::Config;
use crate::config::acting_as::Rights;
use crate::config::disk_room;
use crate::domain::Timestamp;

use super::file::modified;
use super::keys::{KeyError, KeyOrigin, MAX_KEYS};
use super::ring::{Ring, RingKey};
use super::secret::{self, LoadedSecret};
use super::sources;

/// What a rotation has done.
#[derive(Debug)]
pub struct Rotated {
    /// The file that has the new secret.
    pub file: PathBuf,
    /// The new secret's name.
    pub kid: String,
    /// The name of the secret before it.
    pub old_kid: String,
    /// Tokens of the secret before it are accepted until then.
    pub old_until: Timestamp,
}

/// Makes a new secret that tokens are signed with from now on, and keeps the present one until `now` and the grace.
///
/// # Errors
/// If the secret is in no file that could be written, or what the file system says. Then everything is as it was.
pub fn rotate(
    config: &Config,
    credentials: Option<&Path>,
    grace: Duration,
    now: Timestamp,
) -> Result<Rotated, KeyError> {
    let _rights = sources::rights_of_server(config)?;
    let _lock = lock(&config.storage.data_dir)?;
    let LoadedSecret { secret: present, origin, .. } = secret::load(config, credentials)?;
    let file = match origin {
        KeyOrigin::SecretFile(path) => path,
        other => return Err(rotates_elsewhere(&other)),
    };
    // A link stays a link.
    let file = fs::canonicalize(&file).map_err(|error| unwritten(&file, &error))?;
    let mut ring = Ring::read(&config.storage.data_dir)?;
    let old_until = now.plus(grace);
    let (old_kid, old_created) = match ring.entry(&present) {
        Some(entry) => (entry.kid.clone(), entry.created),
        None => (new_kid()?, modified(&file).unwrap_or(now)),
    };
    let (new, kid) = (secret::random().map_err(|error| no_random(&error))?, new_kid()?);
    ring.keys.retain(|key| key.secret != present && key.until.is_some_and(|until| until > now));
    let old = RingKey { kid: old_kid.clone(), secret: present, created: old_created, until: Some(old_until) };
    ring.keys.insert(0, old);
    let fresh = RingKey { kid: kid.clone(), secret: new.clone(), created: now, until: None };
    ring.keys.insert(0, fresh);
    if ring.keys.len() > MAX_KEYS {
        return Err(KeyError::new(
            "the secret was not rotated",
            format!("{} old secrets are still accepted", ring.keys.len() - 1),
            "Retire some of them first: academy-rt key list shows them, academy-rt key retire KID retires one.",
        ));
    }
    write_ring(&ring)?;
    replace_file(&file, secret::line(&new).as_bytes()).map_err(|error| unwritten(&file, &error))?;
    Ok(Rotated { file, kid, old_kid, old_until })
}

/// Ends a secret of the ring at once: it is gone from the disk, and tokens that are signed with it are refused.
///
/// # Errors
/// If there is none of that name, it is the present one, or what the file system says.
pub fn retire(config: &Config, credentials: Option<&Path>, kid: &str, now: Timestamp) -> Result<PathBuf, KeyError> {
    let _rights = sources::rights_of_server(config)?;
    let _lock = lock(&config.storage.data_dir)?;
    let loaded = sources::load(config, credentials)?;
    let failed = |why: String, remedy: String| KeyError::new(format!("the key '{kid}' was not retired"), why, remedy);
    let mut ring = Ring::read(&config.storage.data_dir)?;
    if loaded.signing.kid.as_deref() == Some(kid) {
        let why = "it is the secret that new tokens are signed with, and without it no user could sign in";
        return Err(failed(
            why.to_owned(),
            "Create another secret with academy-rt key rotate. With --grace 0s it replaces this one at once."
                .to_owned(),
        ));
    }
    let is_there = ring.keys.iter().any(|key| key.kid == kid);
    match loaded.keys.iter().find(|key| key.kids.iter().any(|name| name == kid)) {
        Some(key) if !is_there => {
            let remedy = match &key.origin {
                KeyOrigin::PublicKey(path) => format!("Remove {} from auth.public_keys, and reload.", path.display()),
                KeyOrigin::Jwks(path) => {
                    format!("Remove the key from {}. The server notices the change.", path.display())
                }
                _ => "academy-rt key list shows where each key comes from.".to_owned(),
            };
            return Err(failed(format!("it is not a rotated secret; it comes from {}", key.origin), remedy));
        }
        _ if is_there => {}
        _ => {
            let names: Vec<&str> = ring.before(&loaded.signing.secret).map(|key| key.kid.as_str()).collect();
            let why = match names.as_slice() {
                [] => "there is no old secret".to_owned(),
                names => format!("no old secret has this name; the old secrets are {}", names.join(", ")),
            };
            return Err(failed(why, "academy-rt key list shows all keys.".to_owned()));
        }
    }
    ring.keys.retain(|key| key.kid != kid && key.until.is_none_or(|until| until > now));
    write_ring(&ring)?;
    Ok(ring.path)
}

fn rotates_elsewhere(origin: &KeyOrigin) -> KeyError {
    let (why, remedy) = match origin {
        KeyOrigin::Credential(path) => (
            format!("it is a credential of systemd ({}), which the server cannot change", path.display()),
            "Put a new secret into /etc/credstore/academy-rt.jwt_secret (academy-rt key new FILE creates one) and restart, which \
             ends the old one at once. To keep the old one for a grace period, copy it to a file of the service's user (mode \
             0600), set auth.jwt_secret_file to that file, reload, and rotate again.",
        ),
        other => (
            format!("it comes from the {other}, which this command cannot change"),
            "Put a new secret there (academy-rt key new FILE creates one) and restart, which ends the old one at once. To keep \
             the old one for a grace period, put it into a file (mode 0600), set auth.jwt_secret_file to that file, remove it \
             from the environment, restart, and rotate again.",
        ),
    };
    KeyError::new("the secret was not rotated", why, remedy)
}

fn no_random(error: &io::Error) -> KeyError {
    KeyError::new("the secret cannot be created", error, "Check /dev/urandom.")
}

/// A name that says nothing of its secret.
fn new_kid() -> Result<String, KeyError> {
    let mut bytes = [0_u8; 6];
    getrandom::fill(&mut bytes).map_err(|error| no_random(&io::Error::other(error)))?;
    Ok(bytes.iter().fold("k-".to_owned(), |text, byte| format!("{text}{byte:02x}")))
}

/// One rotation at a time.
fn lock(data_dir: &Path) -> Result<File, KeyError> {
    // A FIFO in its place would wait for a writer.
    let flags = OFlags::DIRECTORY.bits().cast_signed();
    let locked = OpenOptions::new().read(true).custom_flags(flags).open(data_dir).and_then(|dir| {
        match flock(&dir, FlockOperation::LockExclusive) {
            // A file system without locks, or without any for directories: who rotates has to do it once at a time.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::BADF | Errno::ISDIR) => Ok(dir),
            Err(error) => Err(error.into()),
        }
    });
    locked.map_err(|error| {
        let what = format!("the data directory {} cannot be used", data_dir.display());
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => {
                "Start the server once, or give its data directory with --data-dir or its configuration with --config."
            }
            _ => "Run the command as the user of the server, or with sudo.",
        };
        KeyError::new(what, error, remedy)
    })
}

fn unwritten(path: &Path, error: &io::Error) -> KeyError {
    let remedy = match error.kind() {
        io::ErrorKind::PermissionDenied => "Use sudo, or the user that owns the file and its directory.",
        io::ErrorKind::StorageFull => "Free space on the disk, and try again.",
        _ => "Check the directory and the disk, and try again.",
    };
    KeyError::new(format!("{} was not written", path.display()), disk_room::why(path, error), remedy)
}

fn write_ring(ring: &Ring) -> Result<(), KeyError> {
    let text = ring.text().map_err(|error| unwritten(&ring.path, &io::Error::other(error)))?;
    replace_file(&ring.path, &text).map_err(|error| unwritten(&ring.path, &error))
}

/// Puts a text in the place of a file in one step. The file keeps its owner and its mode; a new one has the mode 0600, and
/// belongs to the owner of its directory: what root makes there the service can read.
///
/// # Errors
/// What kept it from being written; the old one stays.
pub fn replace_file(path: &Path, text: &[u8]) -> io::Result<()> {
    let dir = path.parent().ok_or_else(|| io::Error::other("it has no parent directory"))?;
    // The secret may be in a directory of root's, where nobody plants anything and root alone can write.
    let _rights = Rights::within(dir)?;
    let (owner, mode) = match fs::metadata(path) {
        Ok(old) => ((old.uid(), old.gid()), old.permissions().mode() & 0o777),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let dir = fs::metadata(dir)?;
            ((dir.uid(), dir.gid()), 0o600)
        }
        Err(error) => return Err(error),
    };
    let temporary = path.with_extension(format!("new-{}", std::process::id()));
    match fs::remove_file(&temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let written = (|| {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        let made = file.metadata()?;
        if (made.uid(), made.gid()) != owner {
            fchown(&file, Some(owner.0), Some(owner.1))?;
        }
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.write_all(text)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The failure is reported; a leftover file does no harm.
        drop(fs::remove_file(&temporary));
    }
    written?;
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Grant, Verifier, issue};
    use crate::config::Secret;

    const NOW: Timestamp = Timestamp(1_700_000_000_000);
    const HOUR: Duration = Duration::from_secs(3_600);

    fn place() -> (tempfile::TempDir, Config) {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().to_owned();
        secret::load_or_create(&config, None).unwrap();
        (dir, config)
    }

    fn token(config: &Config) -> String {
        let grant = Grant {
            user: crate::domain::UserId::parse("7").unwrap(),
            name: None,
            role: None,
            scope: None,
            token_id: None,
            issuer: None,
            audience: None,
            issued_at_secs: NOW.as_secs(),
            expires_at_secs: NOW.plus(100 * HOUR).as_secs(),
        };
        issue(&sources::load(config, None).unwrap().signing, &grant).unwrap()
    }

    fn takes(config: &Config, token: &str, at: Timestamp) -> bool {
        let keys = sources::load(config, None).unwrap().keys;
        Verifier::with_keys(&config.auth, keys).verify(token, at).is_ok()
    }

    #[test]
    fn the_old_secret_is_accepted_until_its_time_and_the_new_one_signs() {
        let (dir, config) = place();
        let first = fs::read_to_string(dir.path().join("jwt-secret")).unwrap();
        let old = token(&config);
        let rotated = rotate(&config, None, HOUR, NOW).unwrap();
        assert_eq!(rotated.old_until, NOW.plus(HOUR));
        let second = fs::read_to_string(dir.path().join("jwt-secret")).unwrap();
        assert!(second.len() == 65 && second != first, "the plain text that the platform copies");
        let new = token(&config);
        assert!(takes(&config, &old, NOW) && takes(&config, &new, NOW));
        assert!(!takes(&config, &old, NOW.plus(HOUR)) && takes(&config, &new, NOW.plus(HOUR)));
        let mode = |name: &str| fs::metadata(dir.path().join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("jwt-secret"), mode("jwt-keys.json")), (0o600, 0o600));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left over");
        // Once more: both that came before are accepted; then those whose time is over are gone from the disk.
        let again = rotate(&config, None, HOUR, NOW.plus(HOUR / 2)).unwrap();
        assert_eq!(again.old_kid, rotated.kid);
        assert!(takes(&config, &old, NOW.plus(HOUR / 2)) && takes(&config, &new, NOW.plus(HOUR)));
        rotate(&config, None, HOUR, NOW.plus(2 * HOUR)).unwrap();
        let ring = fs::read_to_string(dir.path().join("jwt-keys.json")).unwrap();
        assert!(!ring.contains(first.trim()) && !ring.contains(second.trim()), "secrets whose time is over are gone");
    }

    #[test]
    fn a_rotation_that_was_cut_short_is_done_again() {
        let (dir, config) = place();
        let old = token(&config);
        // The ring is written, and the secret is not: as after a power cut between the two.
        let before = fs::read(dir.path().join("jwt-secret")).unwrap();
        rotate(&config, None, HOUR, NOW).unwrap();
        fs::write(dir.path().join("jwt-secret"), before).unwrap();
        assert!(takes(&config, &old, NOW.plus(2 * HOUR)), "the present secret has no end, whatever the ring says");
        let rotated = rotate(&config, None, HOUR, NOW).unwrap();
        let ring = Ring::read(dir.path()).unwrap();
        let kids: Vec<&str> = ring.keys.iter().map(|key| key.kid.as_str()).collect();
        assert_eq!(kids, [rotated.kid.as_str(), rotated.old_kid.as_str()]);
        assert!(takes(&config, &old, NOW) && !takes(&config, &old, NOW.plus(HOUR)));
    }

    #[test]
    fn a_secret_that_was_replaced_by_hand_is_the_present_one() {
        let (dir, config) = place();
        rotate(&config, None, HOUR, NOW).unwrap();
        let rotated = token(&config);
        fs::write(dir.path().join("jwt-secret"), "a secret that somebody has put there by hand").unwrap();
        assert!(!takes(&config, &rotated, NOW), "as before there was a ring");
        assert!(sources::load(&config, None).unwrap().signing.kid.is_none());
        assert!(takes(&config, &token(&config), NOW));
    }

    #[test]
    fn a_retired_secret_ends_at_once_and_the_present_one_cannot_be_retired() {
        let (_dir, config) = place();
        let old = token(&config);
        assert!(retire(&config, None, "k-1", NOW).unwrap_err().problem.why.contains("no old secret"));
        let rotated = rotate(&config, None, HOUR, NOW).unwrap();
        let error = retire(&config, None, &rotated.kid, NOW).unwrap_err();
        assert!(error.problem.why.contains("signed with") && error.problem.remedy.contains("key rotate"), "{error:?}");
        let error = retire(&config, None, "k-1", NOW).unwrap_err();
        assert!(error.problem.why.contains(&rotated.old_kid), "{error:?}");
        assert!(takes(&config, &old, NOW));
        retire(&config, None, &rotated.old_kid, NOW).unwrap();
        assert!(!takes(&config, &old, NOW) && takes(&config, &token(&config), NOW));
        assert_eq!(sources::load(&config, None).unwrap().signing.kid, Some(rotated.kid));
    }

    #[test]
    fn a_secret_of_the_environment_or_a_credential_says_how_it_rotates() {
        let (dir, mut config) = place();
        fs::write(dir.path().join("jwt_secret"), "c".repeat(40)).unwrap();
        let error = rotate(&config, Some(dir.path()), HOUR, NOW).unwrap_err();
        assert!(
            error.problem.why.contains("credential") && error.problem.remedy.contains("/etc/credstore/"),
            "{error:?}"
        );
        config.auth.jwt_secret = Some(Secret::new("e".repeat(40)));
        let error = rotate(&config, None, HOUR, NOW).unwrap_err();
        assert!(
            error.problem.why.contains("environment") && error.problem.remedy.contains("auth.jwt_secret_file"),
            "{error:?}"
        );
        assert!(!dir.path().join("jwt-keys.json").exists());
    }

    #[test]
    fn a_link_to_the_secret_stays_a_link_and_its_mode_stays() {
        let (dir, mut config) = place();
        let elsewhere = tempfile::tempdir().unwrap();
        let (real, link) = (elsewhere.path().join("real"), dir.path().join("link"));
        fs::write(&real, "f".repeat(40)).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        config.auth.jwt_secret_file = Some(link.clone());
        rotate(&config, None, HOUR, NOW).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::metadata(&real).unwrap().permissions().mode() & 0o777, 0o640);
        assert_eq!(fs::read_to_string(&real).unwrap().len(), 65);
    }

    #[test]
    fn what_root_rotates_the_services_user_can_read() {
        // Only root can give a file away; for anybody else owner and process are the same.
        let user = if rustix::process::geteuid().is_root() { 4_711 } else { rustix::process::geteuid().as_raw() };
        let (dir, config) = place();
        for path in [dir.path().to_owned(), dir.path().join("jwt-secret")] {
            std::os::unix::fs::chown(path, Some(user), None).unwrap();
        }
        rotate(&config, None, HOUR, NOW).unwrap();
        for name in ["jwt-secret", "jwt-keys.json"] {
            assert_eq!(fs::metadata(dir.path().join(name)).unwrap().uid(), user, "{name}");
        }
    }

    #[test]
    fn of_many_rotations_at_once_none_loses_a_secret() {
        let (_dir, config) = place();
        let tokens = std::sync::Mutex::new(vec![token(&config)]);
        std::thread::scope(|scope| {
            for _ in 0..6 {
                scope.spawn(|| {
                    rotate(&config, None, HOUR, NOW).unwrap();
                    tokens.lock().unwrap().push(token(&config));
                });
            }
        });
        for token in tokens.into_inner().unwrap() {
            assert!(takes(&config, &token, NOW));
        }
    }
}
