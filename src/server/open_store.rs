//! Opening the store as a configuration says: an older format is migrated behind a backup, and what does not open is told
//! with its remedy.

use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::archive::rebuild;
use crate::config::Config;
use crate::store::{self, CommitSink, OpenError, StoreConfig};

use crate::archive::restore::why_not_opened;
use crate::domain::panics::MORE_THREADS;
use crate::domain::problem::Problem;

/// Opens the store on a thread that may block.
pub(super) async fn open_store(
    config: &Config,
    clock: Arc<dyn crate::domain::Clock>,
    sink: Arc<dyn CommitSink>,
    migrates: bool,
) -> Result<Arc<dyn store::Store>, Problem> {
    let disk_bytes =
        rustix::fs::statvfs(&config.storage.data_dir).map_or(0, |disk| disk.f_blocks.saturating_mul(disk.f_frsize));
    let store_config = StoreConfig {
        data_dir: config.storage.data_dir.clone(),
        cache_bytes: config.storage.cache,
        progress_versions: config.retention.progress_versions,
        lessons_per_user: config.limits.lessons_per_user,
        commit_delay: config.storage.commit_delay,
        min_free_bytes: config.storage.min_free_bytes(disk_bytes),
        min_free_admin_bytes: config.storage.min_free_admin_bytes(disk_bytes),
    };
    let opened = tokio::task::spawn_blocking(move || match store::open(&store_config, clock.clone(), sink.clone()) {
        Err(OpenError::Older { .. }) if migrates => {
            migrate(&store_config.data_dir, clock.now())?;
            store::open(&store_config, clock, sink).map_err(not_opened)
        }
        opened => opened.map_err(not_opened),
    });
    opened.await.map_err(|error| Problem::new("the store was not opened", error, "Report this."))?
}

/// An older format: a backup first, then the migration.
fn migrate(data_dir: &Path, now: crate::domain::Timestamp) -> Result<(), Problem> {
    tracing::info!("the store has an older format: making a backup, then migrating it");
    let upgraded = rebuild::upgrade(data_dir, now, "system", &mut |_| {})?;
    for renamed in &upgraded.renamed {
        tracing::warn!(%renamed, "an id whose normal form (NFC) was taken has another name now");
    }
    let backup = upgraded.backup.map(|made| made.path.display().to_string()).unwrap_or_default();
    tracing::info!(from = upgraded.from, to = upgraded.to, %backup, "the store was migrated");
    Ok(())
}

fn not_opened(error: OpenError) -> Problem {
    let why = why_not_opened(&error);
    let remedy = match error {
        OpenError::InUse { .. } => {
            "Stop the other server or program, or give this server another directory with --data-dir."
        }
        OpenError::Newer { .. } => "Run the version that wrote it, or a later one.",
        OpenError::Older { .. } => "Migrate it with `academy-rt db upgrade`.",
        OpenError::Corrupt { .. } => "Restore a backup (academy-rt restore FILE). The restore keeps the damaged file.",
        OpenError::Unsound { .. } => {
            "Restore a backup (academy-rt restore FILE). `academy-rt db check` lists all problems."
        }
        OpenError::LostLink { .. } => {
            "Mount the disk that the link leads to. To begin with an empty store or to restore a backup, remove the link first."
        }
        OpenError::Io { ref source, .. } if source.kind() == io::ErrorKind::WouldBlock => MORE_THREADS,
        OpenError::Io { ref source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            "Free space on the disk of the data directory, or enlarge it."
        }
        OpenError::Io { .. } => "Check that the directory exists, is writable and has free space.",
    };
    Problem::new("the store cannot be opened", why, remedy)
}
