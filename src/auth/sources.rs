//! All keys that a configuration names: the shared secret and those before it, public keys, the JWKS file.

use std::path::{Path, PathBuf};

use crate::config::acting_as::Rights;
use crate::config::trusted_file::Trust;
use crate::config::{Config, Secret};

use super::file::modified;
use super::keys::{Key, KeyError, KeyOrigin, Keys, MAX_TRIED};
use super::ring::{self, Ring};
use super::secret::{self, LoadedSecret};
use super::{jwks, lookalikes, pem};

/// What tokens are signed with here.
#[derive(Debug, Clone)]
pub struct SigningKey {
    /// The secret.
    pub secret: Secret,
    /// Its name, if it has one.
    pub kid: Option<String>,
    /// Where it is.
    pub origin: KeyOrigin,
}

/// The keys of a configuration.
#[derive(Debug)]
pub struct LoadedKeys {
    /// What signatures are checked with.
    pub keys: Keys,
    /// What tokens are signed with.
    pub signing: SigningKey,
    /// All shared secrets: what must never be shown.
    pub secrets: Vec<Secret>,
    /// What should be fixed.
    pub warnings: Vec<String>,
}

/// The keys that are configured or were made before.
///
/// # Errors
/// The first one that cannot be used: then none is.
pub fn load(config: &Config, credentials: Option<&Path>) -> Result<LoadedKeys, KeyError> {
    let _rights = rights_of_server(config)?;
    gather(config, secret::load(config, credentials)?)
}

/// As [`load`], and makes a secret in the data directory if there is none.
///
/// # Errors
/// As [`load`].
pub fn load_or_create(config: &Config, credentials: Option<&Path>) -> Result<LoadedKeys, KeyError> {
    let _rights = rights_of_server(config)?;
    gather(config, secret::load_or_create(config, credentials)?)
}

/// The rights of the server whose keys they are: what it cannot read is no key of its own, wherever a name in its directory leads.
///
/// # Errors
/// If this process cannot have them.
pub(super) fn rights_of_server(config: &Config) -> Result<Rights, KeyError> {
    let data_dir = &config.storage.data_dir;
    Rights::within(data_dir).map_err(|error| {
        let what = format!("the data directory {} cannot be used", data_dir.display());
        KeyError::new(what, error, "Run the command as the user of the server.")
    })
}

/// The files that the keys of a configuration are read from, whether or not they are there. Of these another one in its
/// place is worth a look.
#[must_use]
pub fn files(config: &Config, credentials: Option<&Path>) -> Vec<PathBuf> {
    let mut files = Vec::new();
    files.extend(secret::file(config, credentials));
    files.push(config.storage.data_dir.join(ring::FILE));
    files.extend(config.auth.public_keys.iter().cloned());
    files.extend(config.auth.jwks_file.clone());
    files
}

fn gather(config: &Config, present: LoadedSecret) -> Result<LoadedKeys, KeyError> {
    // Behind the secret: a rotation writes the ring first, and so none is missed.
    let ring = Ring::read(&config.storage.data_dir)?;
    let LoadedSecret { secret, warning, origin } = present;
    let mut warnings: Vec<String> = warning.into_iter().collect();
    let entry = ring.entry(&secret);
    let kid = entry.map(|key| key.kid.clone());
    let created = entry.map(|key| key.created).or_else(|| origin.path().and_then(modified));
    let mut keys = vec![Key::of_secret(&secret, origin.clone()).called(kid.clone()).lasting(created, None)];
    let mut secrets = vec![secret.clone()];
    for key in ring.before(&secret) {
        // A version before this one may have rotated away from it.
        if let Err((why, _)) = lookalikes::secret_in(key.secret.expose().as_bytes()) {
            warnings.push(format!("the old secret '{}' is not accepted: it {why}", key.kid));
            continue;
        }
        let origin = KeyOrigin::Ring(ring.path.clone());
        keys.push(Key::of_secret(&key.secret, origin).called([key.kid.clone()]).lasting(Some(key.created), key.until));
        secrets.push(key.secret.clone());
    }
    let trust = Trust::of_server(&config.storage.data_dir);
    for path in &config.auth.public_keys {
        let key = pem::read(path, &trust)?;
        let thumbprint = key.thumbprint();
        if keys.iter().any(|other| thumbprint.is_some() && other.thumbprint() == thumbprint) {
            warnings.push(format!("{} contains a key that is configured already; remove one of them", path.display()));
            continue;
        }
        if let Some(twin) = key.kids.iter().find(|kid| keys.iter().any(|other| other.kids.contains(kid))) {
            warnings.push(format!("several keys have the kid '{twin}'; the server tries each of them"));
        }
        keys.push(key);
    }
    if let Some(path) = &config.auth.jwks_file {
        let (more, said) = jwks::read(path, &trust)?;
        keys.extend(more);
        warnings.extend(said);
    }
    let keys = Keys::new(keys)?;
    if let Some(algorithm) = keys.crowded() {
        warnings.push(format!(
            "there are more than {MAX_TRIED} public keys without a kid for {algorithm}: for a token without a kid, the server tries only the first {MAX_TRIED}"
        ));
    }
    Ok(LoadedKeys { keys, signing: SigningKey { secret, kid, origin }, secrets, warnings })
}
