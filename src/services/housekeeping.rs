//! What the house does for itself from time to time, and backups while it runs.

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::archive::authenticity;
use crate::archive::authenticity::BackupKey;
use crate::archive::format::{AuditPoint, Writer};
use crate::domain::Scope;
use crate::domain::audit::action;
use crate::protocol::admin::data::{BackupKept, LastBackup};
use crate::protocol::error::{ErrorCode, WireError};
use crate::store::StoreError;
use crate::store::operations::{Act, NoteBackup, SampleGrowth};
use crate::store::rows::{Preface, RowSink};

use crate::services::streams::{ByteStream, PieceWriter};
use crate::services::{Caller, Services, may, store_error};

/// The longest and the shortest time between two looks at what is due.
const SELDOM: Duration = Duration::from_secs(60 * 60);
const OFTEN: Duration = Duration::from_secs(1);
/// The time to the next look where something could not be finished.
const UNSETTLED: Duration = Duration::from_secs(5);
/// And where the disk is full: what is deleted meanwhile has made room inside the database file.
const FULL: Duration = Duration::from_secs(60);
const DAY_MS: u64 = 24 * 60 * 60 * 1_000;

/// A backup works for so long at a time.
const WORK: Duration = Duration::from_millis(4);
/// So many rows pass between two looks at the time.
const LOOK_ROWS: u32 = 64;

/// An archive that is streamed out. It holds the turn: one backup at a time.
struct Outgoing {
    archive: Writer<PieceWriter>,
    rest: Rest,
    _turn: tokio::sync::OwnedSemaphorePermit,
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

impl Services {
    /// Looks after what is due by the calendar, until it is told to stop: the head of the audit trail and the count of rows,
    /// once a day, erasures that were cut short, purges by age. The server owns the task.
    pub async fn keep_calendar(&self, stop: CancellationToken) {
        let mut logged = None;
        loop {
            let due = async {
                self.log_audit_head(&mut logged).await;
                if let Err(error) = self.sample_growth().await {
                    tracing::debug!(%error, "the rows were not counted");
                }
                let is_settled = self.settle().await;
                self.purge_by_age().await;
                if let Err(error) = self.store.measure_room().await {
                    tracing::debug!(%error, "the room inside the database file was not measured");
                }
                is_settled
            };
            let is_settled = tokio::select! {
                () = stop.cancelled() => return,
                is_settled = due => is_settled,
            };
            // A twentieth of the shortest age: nothing lives much longer than it may.
            let shortest = self.settings.load().retention.shortest();
            let pause = shortest.map_or(SELDOM, |age| (age / 20).clamp(OFTEN, SELDOM));
            let pause = match self.store.ready() {
                _ if !is_settled => pause.min(UNSETTLED),
                Err(StoreError::Full(_)) => pause.min(FULL),
                _ => pause,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.resettled.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Finishes what was cut short: erasures, removals of rooms, and of what a released hold kept. `false` if something is left.
    async fn settle(&self) -> bool {
        let outcomes = [
            ("an erasure", self.resume_erasures().await),
            ("a removal of a room", self.finish_removals().await),
            ("a removal of withheld versions", self.prune_withheld().await),
        ];
        let mut is_settled = true;
        for (what, outcome) in outcomes {
            if let Err(error) = outcome {
                tracing::warn!(%error, "{what} could not be finished; it is tried again in a few seconds");
                is_settled = false;
            }
        }
        is_settled
    }

    async fn sample_growth(&self) -> Result<(), StoreError> {
        let (day, counts) = (self.now().as_millis() / DAY_MS, self.store.row_counts().await?);
        self.store.apply(self.now(), SampleGrowth { day, counts }).await
    }

    /// Logs where the audit trail ends: at the start and once a day. The log is kept elsewhere, so that a trail that was cut
    /// back or rewritten as a whole is found by it (`audit verify --expect`).
    async fn log_audit_head(&self, logged: &mut Option<u64>) {
        let day = self.now().as_millis() / DAY_MS;
        if *logged == Some(day) {
            return;
        }
        match self.store.audit_ends().await {
            Ok((_, head)) => {
                tracing::info!(head = %AuditPoint::from(head), "the audit trail ends with this record");
                *logged = Some(day);
            }
            Err(error) => tracing::warn!(%error, "the end of the audit trail could not be read, and is not logged"),
        }
    }

    /// The key that backups are signed with. A backup is wanted most of all where nothing can be written any more: without
    /// a key it is made all the same, and says so.
    async fn backup_key(&self) -> Option<BackupKey> {
        let dir = self.key_dir.clone()?;
        match tokio::task::spawn_blocking(move || authenticity::load_or_make(&dir)).await {
            Ok(Ok(found)) => {
                if let Some(warning) = &found.warning {
                    tracing::warn!("{warning}");
                }
                Some(found.key)
            }
            Ok(Err(finding)) => {
                tracing::warn!(%finding, "a backup is not signed");
                None
            }
            Err(error) => {
                tracing::warn!(%error, "a backup is not signed: its key was not looked for");
                None
            }
        }
    }

    /// A backup of this moment, streaming; the archive says at its end that it is whole. Writers go on meanwhile.
    ///
    /// # Errors
    /// `forbidden`, `conflict` while another one is under way, `unavailable`.
    pub async fn backup(&self, caller: &Caller) -> Result<ByteStream, WireError> {
        may(caller, Scope::Admin)?;
        let Ok(turn) = self.backups.clone().try_acquire_owned() else {
            let message = "another backup is being made; try again when it has ended";
            return Err(WireError::new(ErrorCode::Conflict, message));
        };
        self.record_reading(caller, action::BACKUP, String::new()).await?;
        let (mut stream, writer) = ByteStream::new();
        let breaker = writer.breaker();
        let rest = Rest { times: self.settings.load().backup_rests, rows: 0, since: Instant::now() };
        let archive = Writer::new(writer, self.now()).signed(self.backup_key().await);
        let outgoing = Box::new(Outgoing { archive, rest, _turn: turn });
        let store = self.store.0.clone();
        let (answer, outcome) = tokio::sync::oneshot::channel();
        self.tasks.spawn(async move {
            let sent = store.rows(outgoing).await;
            if let Err(error) = &sent {
                tracing::warn!(%error, "a backup was not sent to its end");
                breaker.fail(error.to_string()).await;
            }
            // Who does not wait for it has the stream already.
            let _ = answer.send(sent);
        });
        if stream.begins().await {
            return Ok(stream);
        }
        match outcome.await {
            Ok(Err(error)) => Err(store_error(error)),
            _ => Err(WireError::unavailable()),
        }
    }

    /// A backup that was streamed out has been kept and read back.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn note_backup(&self, caller: &Caller, kept: BackupKept) -> Result<LastBackup, WireError> {
        may(caller, Scope::Admin)?;
        let at = self.now();
        let name: String = kept.name.chars().filter(|c| !c.is_control()).take(200).collect();
        let act = Act { note: format!("{} bytes", kept.bytes), ..caller.act(action::BACKUP, name) };
        self.store.submit(at, NoteBackup { bytes: kept.bytes }, Some(act)).await.map_err(store_error)?;
        Ok(LastBackup { at, bytes: kept.bytes })
    }
}
