//! The continuous backup of a server: its thread, which ends behind the store.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::archive::backup::Recipients;
use crate::archive::continuous::recorder::{Recorder, Target};
use crate::config::Config;
use crate::domain::Clock;
use crate::domain::problem::Problem;
use crate::store::Store;

/// What waits is written in so long, where the target takes it.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// The continuous backup that a configuration asks for.
///
/// # Errors
/// What is no recipient.
pub(super) fn of(config: &Config, clock: Arc<dyn Clock>) -> Result<Option<Arc<Recorder>>, Problem> {
    let Some(dir) = &config.backup.continuous else { return Ok(None) };
    let target = Target {
        dir: dir.clone(),
        recipients: Recipients::parse(&config.backup.continuous_recipients)?,
        keep: config.backup.continuous_keep,
        key_dir: config.storage.data_dir.clone(),
    };
    Ok(Some(Arc::new(Recorder::new(target, clock))))
}

/// Begins it on a thread of its own, as a target may hang for as long as it likes. Gives what resolves when the thread ends.
///
/// # Errors
/// If there is no thread.
pub(super) fn begin(recorder: &Arc<Recorder>, store: Arc<dyn Store>) -> Result<oneshot::Receiver<()>, Problem> {
    let (ended, end) = oneshot::channel();
    let (recorder, handle) = (recorder.clone(), tokio::runtime::Handle::current());
    // Before anything is written: what is committed from here on is heard of.
    store.tap(recorder.clone());
    let run = move || {
        recorder.run(&store, &handle);
        // Whoever waited may be gone.
        let _ = ended.send(());
    };
    let begun = std::thread::Builder::new().name("continuous-backup".to_owned()).spawn(run);
    begun.map_err(|error| Problem::new("the continuous backup cannot begin", error, "Raise the limit of threads."))?;
    Ok(end)
}

/// Ends it, behind the store: what waits is written. A target that hangs is waited for no longer than a while.
pub(super) async fn end(recorder: &Recorder, ended: oneshot::Receiver<()>) {
    recorder.end();
    if tokio::time::timeout(END_TIMEOUT, ended).await.is_err() {
        tracing::error!("the continuous backup did not end in time; its last commits may be missing in it");
    }
}

/// Resolves when its thread has ended, which it does not by itself.
pub(super) async fn ended(recorder: &mut Option<(Arc<Recorder>, oneshot::Receiver<()>)>) {
    match recorder {
        Some((_, ended)) => drop(ended.await),
        None => std::future::pending().await,
    }
    *recorder = None;
}
