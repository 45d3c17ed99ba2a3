//! The index of search of a server: its thread, which ends just before the store.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::config::Config;
use crate::domain::problem::Problem;
use crate::search::follower::{DIRECTORY, Follower};
use crate::services::App;

/// Begins it on a thread of its own, where search is on. Where it is off, what is left of an index goes: words of what is erased
/// from now on would stay in it.
///
/// # Errors
/// If there is no thread, or what is left cannot be removed.
pub(super) fn begin(config: &Config, app: &App) -> Result<Option<Arc<Follower>>, Problem> {
    let data_dir = &config.storage.data_dir;
    if !config.search.enabled {
        forget(&data_dir.join(DIRECTORY))?;
        return Ok(None);
    }
    let follower = Arc::new(Follower::new(data_dir, app.live.changed.clone()));
    let store = app.store.shared();
    // Before anything is written: what is changed from here on is heard of.
    follower.begin(&*store);
    let (index, handle) = (follower.clone(), tokio::runtime::Handle::current());
    let begun = std::thread::Builder::new().name("search".to_owned()).spawn(move || index.run(&*store, &handle));
    begun.map_err(|error| Problem::new("search cannot begin", error, "Raise the limit of threads."))?;
    app.search.begin(follower.clone());
    Ok(Some(follower))
}

fn forget(dir: &Path) -> Result<(), Problem> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            let what = format!("the index of search in {} cannot be removed", dir.display());
            Err(Problem::new(
                what,
                error,
                "Remove this directory: search is off, and nobody keeps it as the database is.",
            ))
        }
        _ => Ok(()),
    }
}
