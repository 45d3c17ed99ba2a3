//! The key ring: shared secrets that came before the present one, in `DATA_DIR/jwt-keys.json`, each with the time until
//! which it is accepted, and the name of the present one. The present secret itself stays where it is, as the plain text
//! that the web platform copies: who knows nothing of the ring goes on as before.

use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::Secret;
use crate::config::trusted_file::{self, Trust};
use crate::domain::Timestamp;

use super::keys::KeyError;
use super::secret::refuse_untrusted;

/// The ring's name in the data directory.
pub const FILE: &str = "jwt-keys.json";
/// No ring is larger.
const MAX_BYTES: u64 = 1 << 20;
/// The version of its format.
const FORMAT: u32 = 1;

/// A secret of the ring.
#[derive(Debug, Clone)]
pub struct RingKey {
    /// What tokens call it.
    pub kid: String,
    /// The secret.
    pub secret: Secret,
    /// When it was made, or first seen.
    pub created: Timestamp,
    /// Tokens that are signed with it are accepted until then; `None`: it was the present one when this was written.
    pub until: Option<Timestamp>,
}

/// The ring.
#[derive(Debug)]
pub struct Ring {
    /// Its file.
    pub path: PathBuf,
    /// Its keys, the newest first.
    pub keys: Vec<RingKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: u32,
    keys: Vec<StoredKey<String>>,
}

#[derive(Serialize)]
struct Storing<'a> {
    format: u32,
    keys: Vec<StoredKey<&'a str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredKey<S> {
    kid: String,
    secret: S,
    created: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none", default = "Option::default")]
    until: Option<Timestamp>,
}

impl Ring {
    /// The ring of a data directory; an empty one where there is none.
    ///
    /// # Errors
    /// If it cannot be read. A part of a ring is never used: tokens would be refused without a reason.
    pub fn read(data_dir: &Path) -> Result<Ring, KeyError> {
        let path = data_dir.join(FILE);
        let failed = |why: String, remedy: &str| {
            KeyError::new(format!("the key ring {} cannot be used", path.display()), why, remedy)
        };
        let text = match trusted_file::read(&path, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ring { path, keys: Vec::new() }),
            Err(error) => {
                return Err(failed(
                    error.to_string(),
                    "Run the command as the user of the server: only that user can read the file.",
                ));
            }
        };
        refuse_untrusted(&path, &Trust::of_server(data_dir))?;
        let stored: Stored = serde_json::from_slice(&text).map_err(|error| {
            // What serde says may have the text in it.
            let why = format!("it is not a key ring (line {}, column {})", error.line(), error.column());
            failed(why, "Move the file away. The current secret then stays valid, and the server refuses the old ones.")
        })?;
        if stored.format != FORMAT {
            let why = format!("its format is {}, and this version supports format {FORMAT}", stored.format);
            return Err(failed(why, "Use the version that wrote it."));
        }
        let keys = stored.keys.into_iter().map(|key| RingKey {
            kid: key.kid,
            secret: Secret::new(key.secret),
            created: key.created,
            until: key.until,
        });
        Ok(Ring { keys: keys.collect(), path })
    }

    /// The entry of a secret.
    #[must_use]
    pub fn entry(&self, secret: &Secret) -> Option<&RingKey> {
        self.keys.iter().find(|key| key.secret == *secret)
    }

    /// The secrets before the present one that have an end, whether or not it has come.
    pub fn before<'a>(&'a self, present: &'a Secret) -> impl Iterator<Item = &'a RingKey> {
        self.keys.iter().filter(move |key| key.until.is_some() && key.secret != *present)
    }

    /// Its text, for the file.
    ///
    /// # Errors
    /// What the library says.
    pub(super) fn text(&self) -> Result<Zeroizing<Vec<u8>>, serde_json::Error> {
        let keys = self.keys.iter().map(|key| StoredKey {
            kid: key.kid.clone(),
            secret: key.secret.expose(),
            created: key.created,
            until: key.until,
        });
        let storing = Storing { format: FORMAT, keys: keys.collect() };
        // Large enough at once: a buffer that grows leaves its old self behind.
        let room = self.keys.iter().map(|key| 256 + key.kid.len() + 6 * key.secret.expose().len()).sum::<usize>() + 64;
        let mut text = Zeroizing::new(Vec::with_capacity(room));
        serde_json::to_writer_pretty(&mut *text, &storing)?;
        text.push(b'\n');
        Ok(text)
    }
}
