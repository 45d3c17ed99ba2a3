//! Whole database files as rows: reading one that nobody serves, making a new one, and setting what a restore changes.
//! Rows go from one file to another as they lie; what they mean is looked at by [`crate::store::embedded::check`] afterwards.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{Builder, Database, ReadableDatabase};

use crate::store::embedded::engine::codec::{encode, get_number, get_value, next_id};
use crate::store::embedded::engine::failure::{Failure, Outcome, guarded};
use crate::store::embedded::engine::file;
use crate::store::embedded::engine::file::{Disk, Opener};
use crate::store::embedded::engine::schema::{FORMAT, Snapshot, Tables, meta};
use crate::store::rows::{Preface, RowLog, RowSink};
use crate::store::{OpenError, StoreError};

/// How much of a new file waits for its next transaction, in bytes.
const FLUSH_BYTES: usize = 8 << 20;
/// The page cache while files are copied: a backup of any size runs in little memory.
const CACHE_BYTES: usize = 32 << 20;

/// The newest format that is known here.
#[must_use]
pub fn newest_format() -> u32 {
    FORMAT
}

/// The format of the database in a data directory, read without changing anything: for whoever looks, and does not work
/// on it. `None` if there is none.
///
/// # Errors
/// Why it cannot be read so.
pub fn peek_format(data_dir: &Path) -> Result<Option<u32>, String> {
    let path = data_dir.join(crate::store::embedded::engine::file::NAME);
    if !path.exists() {
        return Ok(None);
    }
    let read = crate::store::embedded::engine::failure::guarded(|| {
        let database = redb::ReadOnlyDatabase::open(&path)?;
        crate::store::embedded::engine::file::read_format(&database)
    });
    match read {
        Ok((format, _)) => Ok(Some(format)),
        Err(Failure::Engine(redb::Error::RepairAborted)) => {
            Err("it was not closed cleanly; the next start repairs that by itself".to_owned())
        }
        Err(failure) => Err(failure.into_error().to_string()),
    }
}

impl Snapshot {
    /// Gives all rows to a sink.
    pub(in crate::store::embedded) fn send_rows(&self, sink: &mut dyn RowSink) -> Outcome<()> {
        let preface = self.preface()?;
        let stopped = |error: io::Error| Failure::Stopped(error.to_string());
        sink.begin(&preface).map_err(stopped)?;
        self.each_row(&mut |table, key, value| sink.row(table, key, value).map_err(stopped))?;
        sink.end().map_err(stopped)
    }

    pub(in crate::store::embedded) fn preface(&self) -> Outcome<Preface> {
        let table = self.meta()?;
        let missing = |name: &str| Failure::Damaged(format!("meta has no {name}"));
        Ok(Preface {
            format: get_value(&table, meta::FORMAT)?.ok_or_else(|| missing(meta::FORMAT))?,
            store_id: get_value(&table, meta::STORE_ID)?.ok_or_else(|| missing(meta::STORE_ID))?,
            epoch: get_number(&table, meta::EPOCH)?.ok_or_else(|| missing(meta::EPOCH))?,
            next_id: next_id(&table, &self.messages()?)?.ok_or_else(|| missing(meta::NEXT_ID))?,
            rows: self.counts()?.iter().map(|(_, rows)| rows).sum(),
            audit_head: get_value(&table, meta::AUDIT_HEAD)?,
        })
    }
}

/// Whether no server and no command has a database file open. Waits a moment for one that is just leaving.
///
/// # Errors
/// What the system said.
pub fn is_file_free(file: &File) -> io::Result<bool> {
    file::becomes_free(file)
}

/// A data directory that is held: no server starts in it, and no other command works on it.
#[derive(Debug)]
pub struct Held {
    opener: Opener,
    _lock: File,
}

/// A database file that nobody serves, open for reading its rows.
#[derive(Debug)]
pub struct OfflineFile {
    path: PathBuf,
    database: Database,
    /// Its format.
    pub format: u32,
}

impl Held {
    /// Holds a data directory for as long as this value lives. Blocks for a moment.
    ///
    /// # Errors
    /// [`OpenError::InUse`] while a server runs in it or another command works on it; [`OpenError::Io`].
    pub fn take(data_dir: &Path) -> Result<Held, OpenError> {
        let opener =
            Opener { data_dir: data_dir.to_owned(), cache_bytes: CACHE_BYTES, disk: Arc::new(Disk::default()) };
        let lock = opener.lock_directory()?;
        // A link that leads nowhere is no lack of a database.
        file::is_there(&opener.path())?;
        // A server that runs holds the file, not the directory.
        match File::options().read(true).write(true).open(opener.path()) {
            Ok(file) => {
                if !file::becomes_free(&file).map_err(|source| OpenError::Io { path: opener.path(), source })? {
                    return Err(opener.in_use());
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(source) => return Err(OpenError::Io { path: opener.path(), source }),
        }
        let in_dir = |source| OpenError::Io { path: data_dir.to_owned(), source };
        opener.forget_second_names().map_err(in_dir)?;
        Ok(Held { opener, _lock: lock })
    }

    /// The database file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.opener.path()
    }

    /// The directory.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.opener.data_dir
    }

    /// Opens the database in it.
    ///
    /// # Errors
    /// [`OpenError`]; [`OpenError::Io`] with `NotFound` if there is none.
    pub fn open(&self) -> Result<OfflineFile, OpenError> {
        OfflineFile::open(&self.opener.path())
    }
}

impl OfflineFile {
    /// Opens a database file of any format up to this version's. The engine repairs what a crash has left.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path) -> Result<OfflineFile, OpenError> {
        let data_dir = path.parent().unwrap_or(Path::new(".")).to_owned();
        let opener = Opener { data_dir, cache_bytes: CACHE_BYTES, disk: Arc::new(Disk::default()) };
        let (database, format) = opener.open_any(path)?;
        Ok(OfflineFile { path: path.to_owned(), database, format })
    }

    /// Gives all rows to a sink. Blocks for as long as the store is large.
    ///
    /// # Errors
    /// What kept the rows from being read, or the sink from taking them.
    pub fn send_rows(&self, sink: &mut dyn RowSink) -> Result<(), StoreError> {
        self.read(|snapshot| snapshot.send_rows(sink))
    }

    pub(in crate::store::embedded) fn read<T>(
        &self,
        read: impl FnOnce(&Snapshot) -> Outcome<T>,
    ) -> Result<T, StoreError> {
        let outcome = guarded(|| read(&Snapshot::new(self.database.begin_read()?)));
        outcome.map_err(Failure::into_error)
    }

    pub(in crate::store::embedded) fn write<T>(
        &self,
        write: impl FnOnce(&mut Tables<'_>) -> Outcome<T>,
    ) -> Result<T, StoreError> {
        self.write_with(|mut tables| write(&mut tables))
    }

    /// One transaction, durable when it comes back.
    pub(in crate::store::embedded) fn write_with<T>(
        &self,
        write: impl FnOnce(Tables<'_>) -> Outcome<T>,
    ) -> Result<T, StoreError> {
        let written = || -> Outcome<T> {
            let mut tx = self.database.begin_write()?;
            tx.set_quick_repair(true);
            Tables::make(&tx)?;
            let value = write(Tables::of(&tx))?;
            tx.commit()?;
            Ok(value)
        };
        guarded(written).map_err(Failure::into_error)
    }

    /// Does again what commits have done, in one transaction: their rows as [`RowLog::bytes`].
    ///
    /// # Errors
    /// What kept it from being done; rows that make no sense.
    pub fn replay(&self, commits: &[&[u8]]) -> Result<(), StoreError> {
        self.write(|tables| {
            for commit in commits {
                let rows = RowLog::rows(commit);
                let rows = rows.ok_or_else(|| Failure::Damaged("the rows of a commit make no sense".to_owned()))?;
                for (table, key, value) in rows {
                    match value {
                        Some(value) => tables.put_row(table, key, value)?,
                        None => tables.remove_row(table, key)?,
                    }
                }
            }
            Ok(())
        })
    }

    /// The engine's own walk over every page: checksums and the tree. `false` if it found something.
    ///
    /// # Errors
    /// What kept it from looking.
    pub fn check_integrity(&mut self) -> Result<bool, StoreError> {
        guarded(|| Ok(self.database.check_integrity()?)).map_err(Failure::into_error)
    }

    /// Where it lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Closes the file; what was written is on disk.
    ///
    /// # Errors
    /// What the engine said.
    pub fn close(self) -> Result<(), StoreError> {
        self.database.close().map_err(|error| Failure::from(error).into_error())
    }
}

/// A database file in the making, from rows. It has the mode 0600; who makes it takes it away if it is not finished.
#[derive(Debug)]
pub struct NewFile {
    database: Option<Database>,
    path: PathBuf,
    /// Rows that wait: where the name, the key and the value of each end.
    waiting: Vec<(usize, usize, usize)>,
    bytes: Vec<u8>,
}

impl NewFile {
    /// Begins a file.
    ///
    /// # Errors
    /// If it is there already or cannot be made.
    pub fn create(path: &Path) -> io::Result<NewFile> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        let made = FileBackend::new(file)
            .and_then(|backend| Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend));
        let database = made.map_err(|error| io::Error::other(error.to_string()))?;
        Ok(NewFile { database: Some(database), path: path.to_owned(), waiting: Vec::new(), bytes: Vec::new() })
    }

    fn flush(&mut self) -> Outcome<()> {
        let Some(database) = &self.database else { return Ok(()) };
        let tx = database.begin_write()?;
        {
            let mut tables = Tables::of(&tx);
            let mut start = 0;
            for (name_end, key_end, end) in self.waiting.drain(..) {
                let part = |from, to| self.bytes.get(from..to).unwrap_or_default();
                let name = std::str::from_utf8(part(start, name_end)).unwrap_or_default();
                tables.put_row(name, part(name_end, key_end), part(key_end, end))?;
                start = end;
            }
        }
        tx.commit()?;
        self.bytes.clear();
        Ok(())
    }
}

fn as_io(failure: Failure) -> io::Error {
    match failure {
        Failure::Engine(redb::Error::Io(error)) => error,
        other => io::Error::other(other.into_error().to_string()),
    }
}

impl RowSink for NewFile {
    fn begin(&mut self, _preface: &Preface) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(table.as_bytes());
        let name_end = self.bytes.len();
        self.bytes.extend_from_slice(key);
        let key_end = self.bytes.len();
        self.bytes.extend_from_slice(value);
        self.waiting.push((name_end, key_end, self.bytes.len()));
        if self.bytes.len() >= FLUSH_BYTES { self.flush().map_err(as_io) } else { Ok(()) }
    }

    /// Writes what waits and closes the file; it is on disk then.
    fn end(&mut self) -> io::Result<()> {
        self.flush().map_err(as_io)?;
        let make = |database: &Database| -> Outcome<()> {
            let mut tx = database.begin_write()?;
            // What is opened after a crash has its allocator written down.
            tx.set_quick_repair(true);
            Tables::make(&tx)?;
            tx.commit()?;
            Ok(())
        };
        if let Some(database) = self.database.take() {
            make(&database).map_err(as_io)?;
            database.close().map_err(|error| as_io(error.into()))?;
        }
        File::open(&self.path)?.sync_all()
    }
}

/// How a restored file differs from its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewLife {
    /// Its epoch.
    pub epoch: u64,
    /// The next id that it gives: no id of an earlier life is given again.
    pub next_id: u64,
}

/// Begins a new life of a file: ids between what it knew and `next_id` are of the life that has ended.
///
/// # Errors
/// What kept it from being written.
pub fn begin_new_life(file: &OfflineFile, life: &NewLife) -> Result<(), StoreError> {
    file.write(|tables| {
        let mut buffer = Vec::new();
        let next = next_id(tables.meta.read()?, tables.messages.read()?)?.unwrap_or(1);
        let mut lost: Vec<(u64, u64)> = get_value(tables.meta.read()?, meta::LOST_IDS)?.unwrap_or_default();
        if life.next_id > next {
            lost.push((next, life.next_id));
            tables.meta.write()?.insert(meta::LOST_IDS, encode(&lost, &mut buffer)?)?;
            tables.meta.write()?.insert(meta::NEXT_ID, encode(&life.next_id, &mut buffer)?)?;
        }
        // What was on its way in the life that has ended has gone out, or was never acknowledged in this one.
        tables.outbox.write()?.clear()?;
        tables.meta.write()?.insert(meta::EPOCH, encode(&life.epoch, &mut buffer)?)?;
        Ok(())
    })
}

/// Removes a file, if it is there.
///
/// # Errors
/// What the system said.
pub fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
