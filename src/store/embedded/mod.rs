//! The product's engine: redb in one file, one writing thread, readers that never wait for it. Nothing above this
//! directory knows redb; nothing in it knows sockets, HTTP or configuration files.
//!
//! What holds here: acknowledged means synced (an answer and the sink's word come after the commit); every change has an
//! id of one rising sequence; a refused request leaves no trace but the record that it was refused.
//!
//! `engine` is the file, the writer and the tables; each noun has its own folder, with what its operations `write`, how it
//! is `read`, and the `rows` that it lies in; [`offline`] has what is done to a whole file that nobody serves; `seam` maps
//! the store's traits onto these.

mod access;
mod audit;
mod chat;
mod engine;
mod inbox;
mod maintenance;
mod notices;
pub mod offline;
mod order;
mod privacy;
mod progress;
mod seam;
#[cfg(test)]
mod tests;
mod webhooks;

use std::path::Path;
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use redb::ReadableDatabase;
use tokio::sync::{Semaphore, oneshot, watch};

use self::engine::batch::Known;
use self::engine::failure::{Failure, Outcome, guarded};
pub use self::engine::file::{ASIDE, COPIED, NAME, SUSPECT, UNFINISHED};
use self::engine::file::{Disk, Opener};
use self::engine::health::{Health, Shared};
use self::engine::queue::{Command, Queue};
use self::engine::schema::Snapshot;
use self::engine::writer::Writer;
use crate::config::capacity;
use crate::domain::{Clock, ExpiryClock};
use crate::store::operations::Class;
use crate::store::{CommitSink, Identity, OpenError, Store, StoreConfig, StoreError};

/// How often a read is begun, where the file has to be opened again.
const READ_TRIES: u32 = 3;

/// How long a read waits for a file that has to be opened again.
const REOPEN_WAIT: Duration = Duration::from_secs(1);

/// How much a long read steps back behind everything else: a tenth of a processor is left to it where all are busy.
const POLITE: i32 = 10;

/// Opens the store in a directory, making it if it is not there. Blocks.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    config: &StoreConfig,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn CommitSink>,
) -> Result<Arc<dyn Store>, OpenError> {
    let data_dir = config.data_dir.clone();
    let free = move || engine::file::free_bytes(&data_dir);
    Ok(Arc::new(Embedded::open(config, clock, sink, Arc::new(Disk::default()), Box::new(free))?))
}

/// Walks a whole store that nobody has open, and says what contradicts what: indexes against the log, gaps in `seq` and
/// in versions, marks on what is not there. An empty list is a sound store. Blocks, for as long as the store is large.
///
/// # Errors
/// [`OpenError`] if it cannot be opened at all.
pub fn check(data_dir: &Path) -> Result<Vec<String>, OpenError> {
    offline::check::check(data_dir)
}

/// The engine, as the services hold it.
struct Embedded {
    shared: Arc<Shared>,
    /// Closed by `close`: the writer does what waits then, and closes the file.
    queue: Arc<Queue>,
    closed: watch::Receiver<Option<Result<(), StoreError>>>,
    /// The turns of reads; more wait, and are served in their order.
    reads: Arc<Semaphore>,
    identity: Identity,
}

impl Embedded {
    fn open(
        config: &StoreConfig,
        clock: Arc<dyn Clock>,
        sink: Arc<dyn CommitSink>,
        disk: Arc<Disk>,
        free_bytes: Box<dyn Fn() -> std::io::Result<u64> + Send + Sync>,
    ) -> Result<Embedded, OpenError> {
        offline::check::examine_a_suspect(&config.data_dir)?;
        let opener = Opener { data_dir: config.data_dir.clone(), cache_bytes: config.cache_bytes, disk };
        let path = opener.path();
        let (database, identity) = opener.open_or_make(clock.now())?;
        let known = guarded(|| {
            let snapshot = Snapshot::new(database.begin_read()?);
            Ok((snapshot.last_id()?, snapshot.last_backup()?))
        });
        let (last_id, last_backup) = known
            .map_err(|failure| OpenError::Corrupt { path: path.clone(), reason: failure.into_error().to_string() })?;
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            health: Mutex::new(Health::Well),
            reopenings: watch::Sender::new(0),
            failed: watch::Sender::new(None),
            opener,
            min_free_bytes: config.min_free_bytes,
            min_free_admin_bytes: config.min_free_admin_bytes.min(config.min_free_bytes),
            free_bytes,
            room_in_file: AtomicU64::new(0),
            measured_at: AtomicU64::new(u64::MAX),
            last_id: AtomicU64::new(last_id),
            tap: OnceLock::new(),
            hooks: Mutex::default(),
            last_backup: Mutex::new(last_backup),
            commits: AtomicU64::new(0),
            busy_since: Mutex::new(None),
            writes: AtomicU64::new(0),
            snapshots: AtomicUsize::new(0),
            commit_time: Default::default(),
            commit_wait: Default::default(),
        });
        let queue = Arc::new(Queue::default());
        let (closed_sender, closed) = watch::channel(None);
        let writer = Writer {
            shared: Arc::clone(&shared),
            queue: Arc::clone(&queue),
            sink,
            keep_versions: config.progress_versions.max(1) as u64,
            lessons_per_user: config.lessons_per_user,
            commit_delay: config.commit_delay,
            known: Known::default(),
            expiry: ExpiryClock::new(clock.now(), clock.passing()),
            clock,
            closed: closed_sender,
        };
        std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run())
            .map_err(|source| OpenError::Io { path, source })?;
        let reads = Arc::new(Semaphore::new(capacity::READERS));
        Ok(Embedded { shared, queue, closed, reads, identity })
    }

    /// Reads from a snapshot on a thread that may block. A read that meets the error of a write, after which the file has to
    /// be opened again, waits for that and reads again: a disk that takes no writes is still read.
    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Snapshot) -> Outcome<T> + Send + Sync + 'static,
    ) -> Result<T, StoreError> {
        let Ok(turn) = Arc::clone(&self.reads).acquire_owned().await else { return Err(StoreError::Closed) };
        let (turn, read) = (Arc::new(turn), Arc::new(read));
        let mut reopenings = self.shared.reopenings.subscribe();
        let mut tries_left = READ_TRIES;
        loop {
            tries_left -= 1;
            let (shared, turn, read) = (Arc::clone(&self.shared), Arc::clone(&turn), Arc::clone(&read));
            let reading = tokio::task::spawn_blocking(move || {
                let outcome = shared.read(|snapshot| read(snapshot));
                drop(turn);
                outcome
            });
            let failure = match reading.await {
                Ok(Ok(found)) => return Ok(found),
                Ok(Err(failure)) => failure,
                // The engine does not look at checksums when it reads: a damaged page may end in a panic.
                Err(error) if error.is_panic() => self.shared.condemn("a read of the database panicked"),
                Err(error) => return Err(StoreError::Unavailable(format!("a read ended early: {error}"))),
            };
            if !matches!(failure, Failure::Engine(_) | Failure::NoFile(_)) {
                return Err(failure.into_error());
            }
            // The writer sleeps while nobody writes. If its queue is full, it is awake.
            drop(self.queue.push(Command::Mend));
            let was_tried = tries_left > 0 && tokio::time::timeout(REOPEN_WAIT, reopenings.changed()).await.is_ok();
            if !was_tried || matches!(self.shared.health(), Health::Broken(_) | Health::Failed(_)) {
                return Err(failure.into_error());
            }
        }
    }

    /// Reads for long, on a thread of its own that lets everybody else go first: one of the pool would keep its low priority.
    async fn read_apart<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Snapshot) -> Outcome<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = Arc::clone(&self.shared);
        let (answer, outcome) = oneshot::channel();
        let started = std::thread::Builder::new().name("store-export".to_owned()).spawn(move || {
            // On Linux this is of the calling thread alone. Without it the reading is only less polite.
            let _ = rustix::process::nice(POLITE);
            // Who does not wait any more does not need it.
            let _ = answer.send(shared.read(read));
        });
        started.map_err(|error| StoreError::Unavailable(format!("no thread for a long read: {error}")))?;
        match outcome.await {
            Ok(outcome) => outcome.map_err(Failure::into_error),
            Err(_) => Err(self.shared.condemn("a read of the database panicked").into_error()),
        }
    }

    fn ready(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(StoreError::Closed);
        }
        match self.shared.health() {
            Health::Well => {
                let shared = &self.shared;
                let why = shared.lost().or_else(|| shared.too_full(Class::Work)).or_else(|| shared.is_disk_full());
                why.map_or(Ok(()), Err)
            }
            Health::ReadOnly(error) | Health::Broken(error) | Health::Failed(error) => Err(error),
        }
    }

    async fn close(&self) -> Result<(), StoreError> {
        self.queue.close();
        let mut closed = self.closed.clone();
        let result = closed.wait_for(Option::is_some).await;
        result.map_or_else(
            |_| Err(StoreError::Unavailable("the writer ended without closing the file".to_owned())),
            |result| result.clone().unwrap_or(Ok(())),
        )
    }
}

impl Drop for Embedded {
    /// The writer closes the file when it has done what waits.
    fn drop(&mut self) {
        self.queue.close();
    }
}
