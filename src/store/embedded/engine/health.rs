//! How the store is, and what the writer and the readers share: a failure that either meets is noted here once, and decides
//! what is answered until the writer has repaired it.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use redb::{Database, ReadableDatabase};
use tokio::sync::watch;

use crate::domain::Timestamp;
use crate::domain::histogram::Histogram;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::file::Opener;
use crate::store::embedded::engine::schema::Snapshot;
use crate::store::operations::Class;
use crate::store::rows::CommitTap;
use crate::store::{HookPlan, StoreError};

/// What a file system counts blocks in.
const BLOCK: u64 = 512;
/// What the engine needs for itself: a share of what is stored, and some.
const ENGINE_SHARE: u64 = 8;
const ENGINE_ROOM: u64 = 1 << 20;
/// What a commit takes beside what it was asked to write.
const COMMIT_ROOM: u64 = 4_096;

/// How the store is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::embedded) enum Health {
    /// It works.
    Well,
    /// It is open and can be read; whether it takes a write again is tried now and then.
    ReadOnly(StoreError),
    /// It may come back: the writer opens it again.
    Broken(StoreError),
    /// Only a restart, or a restore, helps.
    Failed(StoreError),
}

/// What the writer and the readers share.
pub(in crate::store::embedded) struct Shared {
    /// Readers hold it for the length of a read; the writer takes it alone to replace or close the file.
    pub(in crate::store::embedded) database: RwLock<Option<Database>>,
    pub(in crate::store::embedded) health: Mutex<Health>,
    /// How often it was tried to open the file again, with or without success.
    pub(in crate::store::embedded) reopenings: watch::Sender<u64>,
    /// Told when only a restart helps.
    pub(in crate::store::embedded) failed: watch::Sender<Option<StoreError>>,
    pub(in crate::store::embedded) opener: Opener,
    pub(in crate::store::embedded) min_free_bytes: u64,
    pub(in crate::store::embedded) min_free_admin_bytes: u64,
    /// Asks the operating system for the free bytes. A field, so that a test can fill the disk.
    pub(in crate::store::embedded) free_bytes: Box<dyn Fn() -> std::io::Result<u64> + Send + Sync>,
    /// Bytes inside the file that writes may use where the disk has too few; 0 until they are measured.
    pub(in crate::store::embedded) room_in_file: AtomicU64,
    /// How many commits there had been when they were measured; `u64::MAX` before that.
    pub(in crate::store::embedded) measured_at: AtomicU64,
    pub(in crate::store::embedded) last_id: AtomicU64,
    /// Who hears of the rows of each commit.
    pub(in crate::store::embedded) tap: OnceLock<Arc<dyn CommitTap>>,
    /// What is kept for the platform. A reload changes it; the lock is held for a copy.
    pub(in crate::store::embedded) hooks: Mutex<HookPlan>,
    /// When the last good backup was made, and its size.
    pub(in crate::store::embedded) last_backup: Mutex<Option<(Timestamp, u64)>>,
    /// Since when the writer is at what it does now.
    pub(in crate::store::embedded) busy_since: Mutex<Option<Instant>>,
    pub(in crate::store::embedded) commits: AtomicU64,
    pub(in crate::store::embedded) writes: AtomicU64,
    /// Views that readers have open. Each pins pages: the file grows with what is written meanwhile.
    pub(in crate::store::embedded) snapshots: AtomicUsize,
    pub(in crate::store::embedded) commit_time: Histogram,
    /// How long the oldest request of each transaction has waited until that began.
    pub(in crate::store::embedded) commit_wait: Histogram,
}

/// Counts a view for as long as it is open, also if reading panics.
struct OpenSnapshot<'a>(&'a AtomicUsize);

impl OpenSnapshot<'_> {
    fn new(open: &AtomicUsize) -> OpenSnapshot<'_> {
        open.fetch_add(1, Ordering::Relaxed);
        OpenSnapshot(open)
    }
}

impl Drop for OpenSnapshot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(in crate::store::embedded) fn set_busy(&self, since: Option<Instant>) {
        *self.busy_since.lock() = since;
    }

    /// How long the writer has been at what it does now.
    pub(in crate::store::embedded) fn busy(&self) -> Duration {
        let since = *self.busy_since.lock();
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Reads from a snapshot. An error of the engine is noted, so that the file is repaired.
    pub(in crate::store::embedded) fn read<T>(&self, read: impl FnOnce(&Snapshot) -> Outcome<T>) -> Outcome<T> {
        let database = self.database.read();
        let Some(open) = database.as_ref() else { return Err(Failure::NoFile(self.why_not())) };
        let _counted = OpenSnapshot::new(&self.snapshots);
        let outcome = open.begin_read().map_err(Failure::from).and_then(|tx| read(&Snapshot::new(tx)));
        if let Err(failure @ (Failure::Engine(_) | Failure::Damaged(_))) = &outcome {
            self.note(failure);
        }
        outcome
    }

    /// What is stored is damaged.
    pub(in crate::store::embedded) fn condemn(&self, what: &str) -> Failure {
        let failure = Failure::Damaged(what.to_owned());
        self.note(&failure);
        failure
    }

    pub(in crate::store::embedded) fn health(&self) -> Health {
        self.health.lock().clone()
    }

    /// Only a restart helps: it shall look at everything first.
    pub(in crate::store::embedded) fn fail(&self, health: &mut Health, why: StoreError) {
        if !matches!(*health, Health::Failed(_)) {
            self.opener.mark_suspect(&why);
        }
        *health = Health::Failed(why.clone());
        // The first reason is reported.
        self.failed.send_if_modified(|failed| {
            let is_first = failed.is_none();
            failed.get_or_insert(why);
            is_first
        });
    }

    pub(in crate::store::embedded) fn set_health(&self, health: Health) {
        *self.health.lock() = health;
    }

    pub(in crate::store::embedded) fn why_not(&self) -> StoreError {
        match self.health() {
            Health::Well => StoreError::Closed,
            Health::ReadOnly(error) | Health::Broken(error) | Health::Failed(error) => error,
        }
    }

    /// Draws the consequence of a failure for the store's health; never a better one than before.
    pub(in crate::store::embedded) fn note(&self, failure: &Failure) -> StoreError {
        let (error, lost) = match failure {
            Failure::Damaged(what) | Failure::Engine(redb::Error::Corrupted(what)) => {
                (StoreError::Corrupt(what.clone()), true)
            }
            Failure::Engine(redb::Error::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                (StoreError::Full(error.to_string()), false)
            }
            Failure::Engine(error) => (StoreError::Unavailable(error.to_string()), false),
            Failure::Refused(refusal) => return StoreError::Refused(refusal.clone()),
            Failure::NoFile(error) => return error.clone(),
            Failure::Stopped(why) => return StoreError::Unavailable(why.clone()),
        };
        let mut health = self.health.lock();
        if self.opener.disk.sync_failed() {
            let why = StoreError::Unavailable(format!("the disk did not keep what was written ({error}); restart"));
            tracing::error!(%error, "a sync of the database failed; writes are refused until the service is restarted");
            self.fail(&mut health, why);
        } else if lost {
            tracing::error!(%error, "the database is damaged; writes are refused. Run `academy-rt db check`");
            self.fail(&mut health, error.clone());
        } else if matches!(*health, Health::Well | Health::ReadOnly(_)) {
            // A repeated failure is reported once: a full disk is tried every few seconds.
            if *health == Health::Well {
                tracing::error!(%error, "the database met an error; reopening it");
            }
            *health = Health::Broken(error.clone());
        }
        error
    }

    /// Why nothing may be acknowledged any more: the open file has lost its name, and is gone when it is closed.
    pub(in crate::store::embedded) fn lost(&self) -> Option<StoreError> {
        let why = self.opener.lost()?;
        Some(StoreError::Unavailable(format!(
            "{why} while the server runs. Make a backup now (academy-rt backup FILE), before the server is stopped; then stop it and restore the backup (academy-rt restore FILE). If the file was only renamed, rename it back"
        )))
    }

    /// Why the next commit finds no room where nothing is kept free: nothing else says so before somebody writes.
    pub(in crate::store::embedded) fn is_disk_full(&self) -> Option<StoreError> {
        if self.min_free_bytes != 0 {
            return None;
        }
        let free = (self.free_bytes)().ok()?;
        (free < COMMIT_ROOM).then(|| StoreError::Full(format!("{free} bytes are free")))
    }

    /// Why the disk is too full for writes of a class, if it is.
    pub(in crate::store::embedded) fn too_full(&self, class: Class) -> Option<StoreError> {
        let kept = match class {
            Class::Work => self.min_free_bytes,
            Class::Relief => self.min_free_admin_bytes,
        };
        if kept == 0 {
            return None;
        }
        // A file system that does not say how full it is does not stop the store; redb's own error would.
        let free = (self.free_bytes)().ok()?;
        if free >= kept {
            return None;
        }
        // What has gone leaves room inside the file. Some of what is kept stays free, whatever the file has.
        let in_file = if class == Class::Work { self.room_in_file.load(Ordering::Relaxed).min(kept / 2) } else { 0 };
        (free + in_file < kept).then(|| StoreError::Full(format!("{free} bytes are free, {kept} are kept")))
    }

    /// Whether there is nothing to measure: the disk has room enough without what is inside the file, or nothing has been
    /// committed since it was measured. A measurement walks the whole file.
    pub(in crate::store::embedded) fn is_room_measured(&self) -> bool {
        self.min_free_bytes == 0
            || (self.free_bytes)().is_ok_and(|free| free >= self.min_free_bytes)
            || self.measured_at.load(Ordering::Relaxed) == self.commits.load(Ordering::Relaxed)
    }

    /// The file's blocks that hold nothing: its length says less, as it grows ahead with holes that take no room.
    pub(in crate::store::embedded) fn measure_room(&self, snapshot: &Snapshot) -> Outcome<()> {
        let commits = self.commits.load(Ordering::Relaxed);
        let used: u64 = snapshot.sizes()?.iter().map(|table| table.stored_bytes + table.overhead_bytes).sum();
        let blocks = std::fs::metadata(self.opener.path()).map_or(0, |file| file.blocks() * BLOCK);
        let room = blocks.saturating_sub(used + used / ENGINE_SHARE + ENGINE_ROOM);
        tracing::info!(used, room, "measured the room inside the database file");
        self.room_in_file.store(room, Ordering::Relaxed);
        self.measured_at.store(commits, Ordering::Relaxed);
        Ok(())
    }

    /// A commit has taken some of the room inside the file: about twice what it was asked to write.
    pub(in crate::store::embedded) fn use_room(&self, bytes: u64) {
        let left = |room: u64| Some(room.saturating_sub(2 * bytes + COMMIT_ROOM));
        // The closure never refuses.
        let _ = self.room_in_file.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left);
    }
}
