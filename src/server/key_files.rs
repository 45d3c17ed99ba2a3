//! The keys of tokens as they are in their files at a moment.

use crate::auth::sources::{self, LoadedKeys};
use crate::config::Config;
use crate::domain::problem::Problem;
use crate::server::file_watcher::WatchedFiles;

/// The keys of a configuration, with their files as they were before they were read.
pub(super) fn load(config: &Config) -> Result<(LoadedKeys, WatchedFiles), Problem> {
    let credentials = config.credentials_dir.as_deref();
    let watched = WatchedFiles::new(sources::files(config, credentials));
    Ok((sources::load(config, credentials)?, watched))
}
