//! A directory for what a command needs while it runs. It is private, and goes when its value is dropped.

use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::domain::{Clock, SystemClock};

use crate::cli::exit::Failure;

/// A directory that is removed when its value is dropped.
#[derive(Debug)]
pub struct Scratch(PathBuf);

impl Scratch {
    /// Makes one in the directory for temporary files, named after what it is for.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make(purpose: &str) -> Result<Scratch, Failure> {
        Self::make_in(&std::env::temp_dir(), purpose)
    }

    /// Makes one in a directory.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn make_in(dir: &Path, purpose: &str) -> Result<Scratch, Failure> {
        let moment = SystemClock.now().as_millis();
        let path = dir.join(format!("academy-rt-{purpose}-{}-{moment}", std::process::id()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let remedy = "Use a directory that exists and has space for the database; TMPDIR in the environment names the one for temporary files.";
            Failure::new(format!("the directory {} cannot be created", path.display()), error, remedy)
        })?;
        Ok(Scratch(path))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // If it cannot be removed, it stays in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
