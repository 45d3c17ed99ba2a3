//! Data that cannot be written, as on a medium that is mounted for reading: the engine needs to write to open a file, so that
//! a command that only reads works on a private copy.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::archive::key;
use crate::config::acting_as::Rights;
use crate::store::embedded::NAME;
use crate::store::embedded::offline::rows::is_file_free;

use crate::cli::exit::{Failure, warn};
use crate::cli::scratch::Scratch;

/// A data directory that a command can work on: the one that was named, or a copy of one that is read-only.
#[derive(Debug)]
pub struct Workable {
    copy: Option<Scratch>,
    data_dir: PathBuf,
}

impl Workable {
    /// Finds out, and makes the copy if it is needed. `uses` ends the warning about it.
    ///
    /// # Errors
    /// If the data cannot be copied, or a server has them open.
    pub fn of(data_dir: &Path, uses: &str) -> anyhow::Result<Workable> {
        let failed = |error: io::Error| {
            Failure::new(
                format!("{} cannot be used", data_dir.display()),
                error,
                "Run the command as the user of the server.",
            )
        };
        let _rights = Rights::within(data_dir).map_err(failed)?;
        let path = data_dir.join(NAME);
        let named = Workable { copy: None, data_dir: data_dir.to_owned() };
        let is_read_only = match File::options().read(true).write(true).open(&path) {
            Err(error) => matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied),
            Ok(_) => false,
        };
        // What cannot be read either has its own words.
        let Some(file) = is_read_only.then(|| File::open(&path).ok()).flatten() else { return Ok(named) };
        let failed = |error: io::Error| {
            let remedy = "Set the environment variable TMPDIR to a directory with space for the database.";
            Failure::new(format!("{} is read-only, and cannot be copied", path.display()), error, remedy)
        };
        if !is_file_free(&file).map_err(failed)? {
            let remedy = "Use the data directory where the server writes to it, or make a backup of the server.";
            let why = "a server has it open";
            return Err(Failure::new(format!("{} is read-only here", path.display()), why, remedy).into());
        }
        let copy = Scratch::make("copy")?;
        for name in [NAME, key::FILE] {
            let from = data_dir.join(name);
            if from.exists() {
                let copied = fs::copy(&from, copy.path().join(name)).map(drop);
                copied.and_then(|()| writable(&copy.path().join(name))).map_err(failed)?;
            }
        }
        warn(&format!("{} is read-only: {uses}", data_dir.display()))?;
        let data_dir = copy.path().to_owned();
        Ok(Workable { copy: Some(copy), data_dir })
    }

    /// Where the data are.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.data_dir
    }

    /// Whether they are a copy.
    #[must_use]
    pub fn is_copy(&self) -> bool {
        self.copy.is_some()
    }
}

/// A copy has the mode of what it is a copy of.
fn writable(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}
