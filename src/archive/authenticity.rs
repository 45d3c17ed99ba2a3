//! Whose a backup is: each is marked with a MAC under a key that lies in the data directory and in no backup. Checksums find
//! what a disk has done to a file; the MAC finds what somebody has, who can compute checksums and has no key.

use std::path::Path;

use serde::Serialize;

use crate::archive::ArchiveError;
use crate::archive::format::Summary;
use crate::archive::key::{BackupKey, FILE, load};

/// Whose an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Authenticity {
    /// It has the mark of the key that is here, and is as it was made.
    Authentic,
    /// It was signed with another key, or there is no key here: whether it was altered is unknown.
    NotOurs,
    /// It says that it was made with the key that is here, and is not as it was made.
    Altered,
    /// It has no mark: made by an older version, or where the key could not be used, or the mark was taken away.
    Unsigned,
}

impl Authenticity {
    /// Its words.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Authenticity::Authentic => "authentic",
            Authenticity::NotOurs => "not ours",
            Authenticity::Altered => "altered",
            Authenticity::Unsigned => "not signed",
        }
    }
}

/// What there is to judge backups with, for whoever shows it: the key, if one is here, and what is wrong with it.
#[derive(Debug, Default)]
pub struct KeyHere {
    /// The key.
    pub key: Option<BackupKey>,
    /// What to warn of.
    pub warning: Option<String>,
}

impl KeyHere {
    /// The key of a data directory. A directory or a key that is not there is no warning.
    #[must_use]
    pub fn of(data_dir: &Path) -> KeyHere {
        match load(data_dir) {
            Ok(None) => KeyHere::default(),
            Ok(Some(found)) => KeyHere { key: Some(found.key), warning: found.warning },
            Err(problem) => KeyHere { key: None, warning: Some(problem.to_string()) },
        }
    }

    /// Whose an archive is that was read to its end.
    #[must_use]
    pub fn judge(&self, summary: &Summary) -> Authenticity {
        let Some(mac) = &summary.mac else { return Authenticity::Unsigned };
        let Some(key) = self.key.as_ref().filter(|key| key.id() == mac.key_id) else { return Authenticity::NotOurs };
        // Hashes are compared in the same time wherever they differ.
        match blake3::Hash::from_hex(&mac.value) {
            Ok(value) if value == key.mac(&summary.content) => Authenticity::Authentic,
            _ => Authenticity::Altered,
        }
    }

    /// What there is to be careful about; `None` where all is well.
    #[must_use]
    pub fn caution(&self, summary: &Summary) -> Option<String> {
        let other = summary.mac.as_ref().map(|mac| mac.key_id.as_str());
        match (self.judge(summary), &self.key) {
            (Authenticity::Authentic | Authenticity::Altered, _) => None,
            (Authenticity::Unsigned, _) => Some(
                "the backup is not signed, so that it is unknown whether it was altered; an older version made it, its key could not be used, or the signature was removed"
                    .to_owned(),
            ),
            (Authenticity::NotOurs, None) => Some(format!(
                "this data directory has no backup key ({FILE}), so that it is unknown whether the backup was altered"
            )),
            (Authenticity::NotOurs, Some(key)) => Some(format!(
                "the backup is not ours: it was signed with another key ({}; the one here is {}), so that it is unknown whether it was altered",
                other.unwrap_or_default(),
                key.id(),
            )),
        }
    }
}

/// An archive that somebody has changed is not used.
///
/// # Errors
/// [`ArchiveError::Altered`].
pub fn refuse_altered(here: &KeyHere, summary: &Summary) -> Result<Authenticity, ArchiveError> {
    match here.judge(summary) {
        Authenticity::Altered => Err(ArchiveError::Altered),
        other => Ok(other),
    }
}
