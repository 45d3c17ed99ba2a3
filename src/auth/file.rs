//! Files of public keys: read whole, bounded, and refused where somebody else could have put them there.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use crate::config::trusted_file::{self, Trust};

use super::keys::KeyError;
use super::secret;

/// No file of public keys is larger.
const MAX_PUBLIC_BYTES: u64 = 1 << 20;

/// The bytes of a file of public keys. Who can change it lets in whom they like: it is for root and the server's user to write.
pub(super) fn read_public(path: &Path, what: &str, key: &str, trust: &Trust) -> Result<Vec<u8>, KeyError> {
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => format!("Check the path; it is in {key} in the configuration."),
            io::ErrorKind::PermissionDenied => "Make it readable for the user that runs the server.".to_owned(),
            _ => "Check the file.".to_owned(),
        };
        let why = format!("{}: {error}", path.display());
        KeyError::new(format!("the {what} {} cannot be read", path.display()), why, remedy)
    };
    let file = trusted_file::open(path).map_err(failed)?;
    secret::refuse_untrusted(path, trust)?;
    let mut bytes = Vec::new();
    file.take(MAX_PUBLIC_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > MAX_PUBLIC_BYTES {
        return Err(KeyError::new(
            format!("the {what} {} cannot be used", path.display()),
            "it is larger than 1 MiB",
            "Check the path: it is another file, or one with keys that nobody needs.",
        ));
    }
    Ok(bytes)
}

/// When a file was written.
pub(super) fn modified(path: &Path) -> Option<crate::domain::Timestamp> {
    let at = fs::metadata(path).ok()?.modified().ok()?;
    let since = at.duration_since(std::time::UNIX_EPOCH).ok()?;
    Some(crate::domain::Timestamp(u64::try_from(since.as_millis()).ok()?))
}
