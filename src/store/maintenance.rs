//! The seam of the store for whoever runs it: which store it is, how it is, its rows, its end.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crate::domain::Timestamp;
use crate::domain::histogram::Durations;

use super::rows::{CommitTap, RowSink};
use super::{Answer, StoreError};

/// Which store this is, which of its lives, and what it signs its cursors with.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    /// Random, made with the store.
    pub store_id: [u8; 16],
    /// Changes when a restore takes ids back.
    pub epoch: u64,
    /// Random, made with the store: positions that clients hand back are authenticated with it. A secret.
    pub cursor_key: [u8; 32],
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Identity").field("epoch", &self.epoch).finish_non_exhaustive()
    }
}

/// What a status page shows of the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreStatus {
    /// The database file, in bytes.
    pub file_bytes: u64,
    /// Requests waiting for the writer.
    pub queued: usize,
    /// Views of the store that are open: of reads, for microseconds, and of backups.
    pub snapshots: usize,
    /// How long the writer has been at what it does now; zero while it waits for work.
    pub busy: Duration,
    /// Transactions committed since the start.
    pub commits: u64,
    /// Requests in them.
    pub writes: u64,
    /// How long commits took, from the first row to the disk.
    pub commit_time: Durations,
    /// How long the oldest request of each transaction has waited until that began: for the one before, and for others.
    pub commit_wait: Durations,
    /// Writes are refused below so many free bytes.
    pub min_free_bytes: u64,
    /// Bytes of the requests that wait for the writer, about.
    pub queued_bytes: usize,
    /// The last id given.
    pub last_id: u64,
    /// When the last good backup was made, and its size in bytes.
    pub last_backup: Option<(Timestamp, u64)>,
}

/// A table's size, and how it grows.
#[derive(Debug, Clone, PartialEq)]
pub struct TableStats {
    /// The table.
    pub name: &'static str,
    /// Its rows.
    pub rows: u64,
    /// Keys and values, in bytes.
    pub stored_bytes: u64,
    /// Headers, indexes and free space in its pages, in bytes.
    pub overhead_bytes: u64,
    /// Rows a day, over the days that were counted; `None` before the second day.
    pub rows_a_day: Option<f64>,
}

/// What resolves when a store has failed, with the reason.
pub type Failing = Pin<Box<dyn Future<Output = StoreError> + Send>>;

/// The store's own health and end.
pub trait Maintenance: Send + Sync {
    /// Which store this is.
    fn identity(&self) -> Identity;

    /// The last id given by a committed transaction.
    fn last_id(&self) -> u64;

    /// Whether a write would be taken now. Does not block.
    ///
    /// # Errors
    /// The reason why not.
    fn ready(&self) -> Result<(), StoreError>;

    /// Resolves when only a restart, or a restore, helps: a sync has failed, or what is stored is damaged. The next start
    /// looks at everything before it serves.
    fn failure(&self) -> Failing;

    /// Figures. Does not block.
    fn status(&self) -> StoreStatus;

    /// Gives all rows of one consistent view to a sink, which ends the reading by an error. Writers go on meanwhile.
    fn rows(&self, sink: Box<dyn RowSink + Send>) -> Answer<'_, ()>;

    /// From now on this one hears of every commit. There is one for a store; a second is not heard.
    fn tap(&self, tap: Arc<dyn CommitTap>);

    /// How many rows each table has, for [`super::operations::SampleGrowth`].
    fn row_counts(&self) -> Answer<'_, Vec<(&'static str, u64)>>;

    /// The size of each table, and its growth. Reads every page, behind everybody else.
    fn table_stats(&self) -> Answer<'_, Vec<TableStats>>;

    /// Measures the room that purges and erasures have made inside the file, where the disk has none, so that writes go on in it.
    fn measure_room(&self) -> Answer<'_, ()>;

    /// Takes no more writes, commits what waits, and closes the file. Calling it again does nothing.
    ///
    /// # Errors
    /// What closing the file said.
    fn close(&self) -> Answer<'_, ()>;
}
