//! Downloads an answer into a new file of its owner's alone, or to standard output.

use std::io::{Read, Write};
use std::path::Path;

use crate::cli::Global;
use crate::cli::client::{Call, Place, ServerArgs, download};
use crate::cli::exit::Failure;

/// Makes a call whose answer is large, and writes it to a file that must not exist yet, with mode 0600, or to standard output. What
/// did not come as a whole is removed: half of it looks like all of it.
///
/// # Errors
/// If the call fails, or the file cannot be written.
pub fn save(global: &Global, server: &ServerArgs, call: Call, file: Option<&Path>) -> anyhow::Result<()> {
    let Some(path) = file else {
        return download(global, server, call, |source| copy(source, &mut std::io::stdout().lock(), "standard output"));
    };
    let name = path.display().to_string();
    let place = Place::new(global, server, path);
    // Before anything is asked for: what cannot be kept is neither made nor recorded.
    let mut file = place.create(0o600).map_err(|error| unwritable(&name, &error))?;
    let saved = download(global, server, call, move |source| {
        copy(source, &mut file, &name)?;
        file.sync_all().map_err(|error| unwritable(&name, &error).into())
    });
    if saved.is_err() {
        place.remove();
    }
    saved
}

fn unwritable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("{name} cannot be written"), error, "Use the name of a new file, on a disk with free space.")
}

fn copy(source: &mut dyn Read, out: &mut dyn Write, name: &str) -> anyhow::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = source.read(&mut buffer).map_err(|error| {
            Failure::new("the export is incomplete", error, "Try again; the server's log may say more.")
        })?;
        if read == 0 {
            return out.flush().map_err(|error| unwritable(name, &error).into());
        }
        out.write_all(buffer.get(..read).unwrap_or_default()).map_err(|error| unwritable(name, &error))?;
    }
}
