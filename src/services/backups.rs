//! Backups while the server runs: an archive of one moment, streamed out beside the writers, and the note that one was kept.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::archive::format::{AuditPoint, Writer};
use crate::archive::key;
use crate::archive::key::BackupKey;
use crate::config::capacity::{self, Pace};
use crate::domain::Scope;
use crate::domain::audit::action;
use crate::protocol::admin::data::{BackupKept, LastBackup, TableView, Tables};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::services::audit::record_reading;
use crate::services::errors::store_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::streams::{self, ByteStream, PieceWriter, Streams};
use crate::services::turns::{NoTurn, Turn, Turns};
use crate::services::{Caller, authorize};
use crate::store::TableStats;
use crate::store::embedded::offline::rows::newest_format;
use crate::store::operations::{Act, NoteBackup, Record};
use crate::store::rows::{Preface, RowSink};

/// A backup works for so long at a time.
const WORK: Duration = Duration::from_millis(4);
/// So many rows pass between two looks at the time.
const LOOK_ROWS: u32 = 64;

/// An archive that is streamed out. It holds its turn.
struct Outgoing {
    archive: Writer<PieceWriter>,
    rest: Rest,
    _turn: Turn,
}

/// Makes a backup rest between two pieces of work. A low priority alone does not do it: measured on two processors, anything
/// that computes without a pause costs those who wait for each other (a client, the writer, the disk) a third of their rate.
struct Rest {
    /// As often as the work took; 0: never.
    times: u32,
    rows: u32,
    since: Instant,
}

impl Rest {
    fn after_a_row(&mut self) {
        self.rows += 1;
        if self.times == 0 || !self.rows.is_multiple_of(LOOK_ROWS) {
            return;
        }
        let worked = self.since.elapsed();
        if worked >= WORK {
            // An early waking makes this rest shorter, and no more than that.
            std::thread::park_timeout(worked.min(WORK * 4) * self.times);
            self.since = Instant::now();
        }
    }
}

impl RowSink for Outgoing {
    fn begin(&mut self, preface: &Preface) -> std::io::Result<()> {
        if let Some(head) = preface.audit_head.map(AuditPoint::from) {
            tracing::info!(%head, "a backup begins; the audit trail in it ends with this record");
        }
        self.archive.begin(preface)
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> std::io::Result<()> {
        self.archive.row(table, key, value)?;
        self.rest.after_a_row();
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.archive.end()
    }
}

/// What a database file of that size and format holds, for people.
#[must_use]
pub fn tables_of(tables: &[TableStats], file_bytes: u64, format: u32) -> Tables {
    let view = |table: &TableStats| {
        let row_bytes = if table.rows == 0 { 0.0 } else { table.stored_bytes as f64 / table.rows as f64 };
        TableView {
            table: table.name.to_owned(),
            rows: table.rows,
            bytes: table.stored_bytes,
            overhead_bytes: table.overhead_bytes,
            rows_a_day: table.rows_a_day,
            bytes_a_day: table.rows_a_day.map(|rows| rows * row_bytes),
        }
    };
    let used_bytes = tables.iter().map(|table| table.stored_bytes + table.overhead_bytes).sum();
    Tables { file_bytes, used_bytes, format, tables: tables.iter().map(view).collect() }
}

/// Backups while the server runs.
#[derive(Debug, Clone)]
pub struct Backups {
    /// What is backed up.
    store: Storage,
    /// How considerate a backup is of those who write meanwhile.
    settings: Arc<LiveSettings>,
    /// The backups that are being sent.
    streams: Streams,
    /// The directory of the key that backups are signed with; without one they are not.
    key_dir: Option<PathBuf>,
    /// The turns of backups: a caller has one at a time, so that one who does not take theirs keeps nobody else from it.
    turns: Turns,
}

impl Backups {
    pub(super) fn new(
        store: Storage,
        settings: Arc<LiveSettings>,
        streams: Streams,
        key_dir: Option<PathBuf>,
    ) -> Backups {
        Backups { store, settings, streams, key_dir, turns: Turns::default() }
    }

    /// The key that backups are signed with. A backup is wanted most of all where nothing can be written any more: without
    /// a key it is made all the same, and says so.
    async fn backup_key(&self) -> Option<BackupKey> {
        let dir = self.key_dir.clone()?;
        match tokio::task::spawn_blocking(move || key::load_or_make(&dir)).await {
            Ok(Ok(found)) => {
                if let Some(warning) = &found.warning {
                    tracing::warn!("{warning}");
                }
                Some(found.key)
            }
            Ok(Err(finding)) => {
                tracing::warn!("a backup is not signed: {finding}");
                None
            }
            Err(error) => {
                tracing::warn!("a backup is not signed: its key could not be read: {error}");
                None
            }
        }
    }

    /// A backup of this moment, streaming; the archive says at its end that it is whole. Writers go on meanwhile. It holds a view
    /// of the store: a receiver that takes too little ([`capacity::BACKUP_PACE`]) is given up.
    ///
    /// # Errors
    /// `forbidden`, `conflict` while the caller has one under way or too many others have, `unavailable`.
    pub async fn stream(&self, caller: &Caller) -> Result<ByteStream, ApiError> {
        authorize(caller, Scope::Admin)?;
        let turn = self.turns.begin(&caller.actor.user, capacity::BACKUPS, capacity::BACKUPS_EACH).map_err(|why| {
            let message = match why {
                NoTurn::Own => "another backup is being made; try again when it has ended",
                NoTurn::All => "other backups are being made; try again when one of them has ended",
            };
            ApiError::new(ErrorCode::Conflict, message)
        })?;
        record_reading(&self.store, caller, action::BACKUP, String::new()).await?;
        let patience = if caller.is_local() { capacity::LOCAL_PATIENCE } else { capacity::PATIENCE };
        let pace = Pace::new(patience, capacity::BACKUP_PACE);
        let (mut stream, sender, ending) = streams::stream(capacity::BACKUP_PIECES, pace);
        let writer = PieceWriter::new(sender);
        let rest = Rest { times: self.settings.get().backup_rests, rows: 0, since: Instant::now() };
        let archive = Writer::new(writer, self.store.now()).signed(self.backup_key().await);
        let outgoing = Box::new(Outgoing { archive, rest, _turn: turn });
        let (store, failed) = (self.store.clone(), caller.act(action::BACKUP, String::new()));
        let (answer, outcome) = tokio::sync::oneshot::channel();
        let whom = caller.in_words();
        let streams = self.streams.clone();
        self.streams.spawn(async move {
            let sent = store.rows(outgoing).await;
            match &sent {
                Ok(()) => ending.whole(),
                Err(error) => {
                    let why = streams::why_incomplete(error);
                    streams.tell_incomplete("a backup", &whom, &why);
                    drop(ending);
                    let entry = failed.entry(store.now(), &format!("failed: not sent completely: {why}"));
                    if let Err(error) = store.write(Record { entry }).await {
                        tracing::error!(%error, "the audit log has no record of a backup that failed");
                    }
                }
            }
            // The receiver may be gone; that is fine.
            let _ = answer.send(sent);
        });
        if stream.begins().await {
            return Ok(stream);
        }
        match outcome.await {
            Ok(Err(error)) => Err(store_error(error)),
            _ => Err(ApiError::unavailable()),
        }
    }

    /// What the database file holds, table by table.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn tables(&self, caller: &Caller) -> Result<Tables, ApiError> {
        authorize(caller, Scope::Admin)?;
        let tables = self.store.table_stats().await.map_err(store_error)?;
        Ok(tables_of(&tables, self.store.status().file_bytes, newest_format()))
    }

    /// A backup that was streamed out has been kept and read back.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn note(&self, caller: &Caller, kept: BackupKept) -> Result<LastBackup, ApiError> {
        authorize(caller, Scope::Admin)?;
        let at = self.store.now();
        let name: String = kept.name.chars().filter(|c| !c.is_control()).take(200).collect();
        let act = Act { note: format!("{} bytes", kept.bytes), ..caller.act(action::BACKUP, name) };
        self.store.act(NoteBackup { bytes: kept.bytes }, act).await.map_err(store_error)?;
        Ok(LastBackup { at, bytes: kept.bytes })
    }
}
