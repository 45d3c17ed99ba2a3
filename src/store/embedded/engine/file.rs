//! The database file: making it, opening it, its lock, and what the operating system says of it. Nothing here knows what
//! the tables mean beyond `meta`.
//!
//! A file that is being made has another name until it is whole, so that no cut ever leaves an `academy.redb` that does
//! not open. One process at a time: the directory is locked while opening, the file as long as it is open.

use std::cell::RefCell;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::ops::Bound;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redb::backends::FileBackend;
use redb::{BackendError, Builder, Database, DatabaseError, StorageBackend, TableDefinition};
use rustix::io::Errno;

use rustix::fs::OFlags;

use crate::domain::Timestamp;
use crate::domain::audit::hex;
use crate::store::embedded::engine::codec::{encode, get_number, get_value};
use crate::store::embedded::engine::failure::{Failure, Outcome, guarded};
use crate::store::embedded::engine::holder;
use crate::store::embedded::engine::schema::{FORMAT, Row, Snapshot, Tables, meta};
#[cfg(test)]
use crate::store::embedded::tests::Call;
use crate::store::{Identity, OpenError, StoreError};

/// The database's name in its directory.
pub const NAME: &str = "academy.redb";
/// What the names of databases begin with that a restore has set aside.
pub const ASIDE: &str = "academy.redb.before-";
/// What the names of copies begin with that are set aside when the restore is made, where there are no hard links.
pub const COPIED: &str = "academy.redb.replaced-";
/// What is locked in a directory that cannot be locked itself.
const LOCK: &str = "academy.redb.lock";
/// So many digits has what is in it.
const NAME_DIGITS: usize = 32;
/// Its name while it is being made.
pub const UNFINISHED: &str = "academy.redb.new";

/// The file that says that the database is to be looked at before it is served.
pub const SUSPECT: &str = "academy.redb.suspect";
/// A lock that somebody has is waited for so long.
const PATIENCE: Duration = Duration::from_millis(500);

/// What has gone wrong underneath redb, and (in tests) what shall.
#[derive(Debug, Default)]
pub(in crate::store::embedded) struct Disk {
    /// A sync failed. The kernel may have dropped the pages and marked them clean, so what is read back afterwards proves
    /// nothing: no reopening may follow.
    sync_failed: AtomicBool,
    /// Device and inode of the file that was opened last: what has its name later may be another one.
    opened: Mutex<Option<(u64, u64)>>,
    /// What keeps others away where there are no locks.
    named: Mutex<Option<UnixDatagram>>,
    #[cfg(test)]
    pub(in crate::store::embedded) faults: crate::store::embedded::tests::Faults,
}

impl Disk {
    /// Whether a sync has ever failed.
    pub(in crate::store::embedded) fn sync_failed(&self) -> bool {
        self.sync_failed.load(Ordering::Acquire)
    }
}

/// redb's own file, watched for failed syncs.
#[derive(Debug)]
struct WatchedFiles {
    file: FileBackend,
    disk: Arc<Disk>,
}

impl StorageBackend for WatchedFiles {
    fn len(&self) -> io::Result<u64> {
        #[cfg(test)]
        self.disk.faults.before(Call::Len)?;
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.before(Call::Read)?;
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.before(Call::SetLen)?;
        self.file.set_len(len)?;
        #[cfg(test)]
        self.disk.faults.resized(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        #[cfg(test)]
        let done = self.disk.faults.before(Call::Sync).and_then(|()| self.file.sync_data());
        #[cfg(not(test))]
        let done = self.file.sync_data();
        #[cfg(test)]
        let done = done.inspect(|()| self.disk.faults.synced());
        done.inspect_err(|_| self.disk.sync_failed.store(true, Ordering::Release))
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.before(Call::Write)?;
        self.file.write(offset, data)?;
        #[cfg(test)]
        self.disk.faults.wrote(offset, data);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        #[cfg(test)]
        self.disk.faults.before(Call::Close)?;
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}

/// How a file is opened, again and again if need be.
#[derive(Debug, Clone)]
pub(in crate::store::embedded) struct Opener {
    pub(in crate::store::embedded) data_dir: PathBuf,
    pub(in crate::store::embedded) cache_bytes: usize,
    pub(in crate::store::embedded) disk: Arc<Disk>,
}

impl Opener {
    /// The database file.
    pub(in crate::store::embedded) fn path(&self) -> PathBuf {
        self.data_dir.join(NAME)
    }

    /// Opens the database, making it if it is not there, and says which store it is.
    pub(in crate::store::embedded) fn open_or_make(&self, now: Timestamp) -> Result<(Database, Identity), OpenError> {
        let in_dir = |source| OpenError::Io { path: self.data_dir.clone(), source };
        // Two processes that both find no file must not both make one.
        let dir = self.lock_directory()?;
        let unfinished = self.data_dir.join(UNFINISHED);
        self.forget_second_names().map_err(in_dir)?;
        match fs::remove_file(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(OpenError::Io { path: unfinished, source: error });
            }
            _ => {}
        }
        let path = self.path();
        if !is_there(&path)? {
            self.refuse_a_lost_file()?;
            self.make(&unfinished, now)?;
            fs::rename(&unfinished, &path).map_err(in_dir)?;
            dir.sync_all().map_err(in_dir)?;
        }
        let database = self.open(&path)?;
        let identity = guarded(|| read_identity(&database)).map_err(|failure| self.explain(&path, failure))?;
        Ok((database, identity))
    }

    /// Holds the directory until the handle is dropped.
    pub(in crate::store::embedded) fn lock_directory(&self) -> Result<File, OpenError> {
        let in_dir = |source| OpenError::Io { path: self.data_dir.clone(), source };
        let dir = File::open(&self.data_dir).map_err(in_dir)?;
        let in_use = || self.in_use();
        match patiently(|| try_lock(&dir)) {
            Ok(true) => return Ok(dir),
            Ok(false) => return Err(in_use()),
            Err(error) if has_no_locks(&error) => {}
            Err(source) => return Err(in_dir(unlocked(source))),
        }
        // Some network file systems lock files that can be written, and no directories.
        let path = self.data_dir.join(LOCK);
        let lock = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.map_err(|source| OpenError::Io { path, source })?;
        match patiently(|| try_lock(&lock)) {
            Ok(true) => Ok(lock),
            Ok(false) => Err(in_use()),
            Err(error) if has_no_locks(&error) => {
                tracing::warn!(
                    "the file system of the data directory has no locks: servers and commands of this machine keep each other away by a name in \
                     the kernel, and nothing keeps away another machine or container"
                );
                self.hold_by_name(&lock).map_err(in_dir)?.then_some(lock).ok_or_else(|| OpenError::InUse {
                    path: self.data_dir.clone(),
                    by: format!("another academy-rt; if none runs, remove {}", self.data_dir.join(LOCK).display()),
                })
            }
            Err(source) => Err(in_dir(unlocked(source))),
        }
    }

    /// Where there are no locks: a socket without a file has a name that nobody else can have while it is open. `false` if somebody
    /// has it. What is in the file of the lock makes the name one that nobody can guess, and another one if the file is removed.
    fn hold_by_name(&self, mut lock: &File) -> io::Result<bool> {
        let mut held = self.disk.named.lock();
        if held.is_some() {
            return Ok(true);
        }
        let mut name = String::new();
        lock.read_to_string(&mut name)?;
        if name.len() != NAME_DIGITS {
            let mut random = [0; NAME_DIGITS / 2];
            getrandom::fill(&mut random).map_err(io::Error::other)?;
            name = hex(&random);
            lock.set_len(0)?;
            lock.rewind()?;
            lock.write_all(name.as_bytes())?;
        }
        let address = SocketAddr::from_abstract_name(format!("academy-rt/{name}"))?;
        let bound = RefCell::new(None);
        let is_free = patiently(|| match UnixDatagram::bind_addr(&address) {
            Ok(socket) => {
                bound.replace(Some(socket));
                Ok(true)
            }
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Ok(false),
            Err(error) => Err(error),
        })?;
        *held = bound.take();
        Ok(is_free)
    }

    /// A restore that was cut short between its last two steps has given the database a second name, as if it had been set
    /// aside. It is the same file, and must not be gone back to.
    /// Where there are no hard links it is a copy: of a restore that was made it gets the name of what was set aside, and of
    /// one that was not it goes.
    pub(in crate::store::embedded) fn forget_second_names(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.data_dir)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(moment) = name.strip_prefix(COPIED) else { continue };
            // The new data lose this name when they take their place.
            if self.data_dir.join(UNFINISHED).try_exists()? && self.path().try_exists()? {
                fs::remove_file(entry.path())?;
            } else {
                fs::rename(entry.path(), self.data_dir.join(format!("{ASIDE}{moment}")))?;
            }
        }
        let Ok(current) = fs::metadata(self.path()) else { return Ok(()) };
        for entry in fs::read_dir(&self.data_dir)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(ASIDE) {
                let other = entry.metadata()?;
                if (other.dev(), other.ino()) == (current.dev(), current.ino()) {
                    fs::remove_file(entry.path())?;
                }
            }
        }
        Ok(())
    }

    /// Opens the file that has been open before, and no other one that has taken its name.
    pub(in crate::store::embedded) fn open_again(&self) -> Result<Database, OpenError> {
        let path = self.path();
        match self.lost() {
            Some(why) => Err(OpenError::Io { path, source: io::Error::new(io::ErrorKind::NotFound, why) }),
            None => self.open(&path),
        }
    }

    /// What has become of the name of the file that is open, if it leads there no more. What is written then is gone as soon
    /// as the file is closed.
    pub(in crate::store::embedded) fn lost(&self) -> Option<String> {
        let opened = (*self.disk.opened.lock())?;
        let path = self.path();
        match fs::metadata(&path) {
            Ok(found) if (found.dev(), found.ino()) == opened => None,
            Ok(_) => Some(format!("another file is in the place of {}", path.display())),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                Some(format!("{} was removed or renamed", path.display()))
            }
            // That it cannot be looked at says nothing of it.
            Err(_) => None,
        }
    }

    /// Somebody else has locked the directory or the file.
    pub(in crate::store::embedded) fn in_use(&self) -> OpenError {
        OpenError::InUse { path: self.data_dir.clone(), by: holder::of(&[&self.path(), &self.data_dir]) }
    }

    fn make(&self, path: &Path, now: Timestamp) -> Result<(), OpenError> {
        let explain = |failure| self.explain(path, failure);
        let file = File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
        let database = self.backed(file).map_err(|error| explain(error.into()))?;
        write_meta(&database, now).map_err(explain)?;
        database.close().map_err(|error| explain(error.into()))?;
        File::open(path)
            .and_then(|file| file.sync_all())
            .map_err(|source| OpenError::Io { path: path.to_owned(), source })
    }

    fn open(&self, path: &Path) -> Result<Database, OpenError> {
        let (database, format) = self.open_any(path)?;
        if format < FORMAT {
            return Err(OpenError::Older { path: path.to_owned(), found: format, known: FORMAT });
        }
        Ok(database)
    }

    /// The disk has failed, or what is stored is damaged: the next start looks at everything. On a disk that takes nothing
    /// any more this is not written either, and the engine's own repair is what there is.
    pub(in crate::store::embedded) fn mark_suspect(&self, why: &StoreError) {
        let path = self.data_dir.join(SUSPECT);
        let marked = File::create(&path).and_then(|mut file| {
            io::Write::write_all(&mut file, why.to_string().as_bytes())?;
            file.sync_all()
        });
        if let Err(error) = marked {
            tracing::warn!(%error, "the database could not be marked as suspect; run `academy-rt db check`");
        }
    }

    /// A data directory whose database has gone, but which has one that was set aside, is not a new one: an empty store in
    /// it would look as if all were lost.
    fn refuse_a_lost_file(&self) -> Result<(), OpenError> {
        let in_dir = |source| OpenError::Io { path: self.data_dir.clone(), source };
        for entry in fs::read_dir(&self.data_dir).map_err(in_dir)? {
            let entry = entry.map_err(in_dir)?;
            if entry.file_name().to_string_lossy().starts_with(ASIDE) {
                let reason = format!("it is not there, but {} is", entry.path().display());
                return Err(OpenError::Corrupt { path: self.path(), reason });
            }
        }
        Ok(())
    }

    /// Opens a file of any format up to this version's, and says which.
    pub(in crate::store::embedded) fn open_any(&self, path: &Path) -> Result<(Database, u32), OpenError> {
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        if !is_there(path)? {
            return Err(io(io::ErrorKind::NotFound.into()));
        }
        // A FIFO in its place would wait for a reader for ever.
        let flags = OFlags::NONBLOCK.bits().cast_signed();
        let file = File::options().read(true).write(true).custom_flags(flags).open(path).map_err(io)?;
        let found = file.metadata().map_err(io)?;
        if !found.is_file() {
            return Err(OpenError::Corrupt { path: path.to_owned(), reason: "it is not a regular file".to_owned() });
        }
        // redb would make a new database of an empty file. Ours is never empty: somebody has cut it.
        if found.len() == 0 {
            return Err(OpenError::Corrupt { path: path.to_owned(), reason: "the file is empty".to_owned() });
        }
        *self.disk.opened.lock() = Some((found.dev(), found.ino()));
        let opened = guarded(|| {
            let database = self.backed(file)?;
            let (format, version) = read_format(&database)?;
            Ok((database, format, version))
        });
        let (database, format, version) = opened.map_err(|failure| self.explain(path, failure))?;
        if format > FORMAT {
            return Err(OpenError::Newer { path: path.to_owned(), version, found: format, known: FORMAT });
        }
        Ok((database, format))
    }

    fn backed(&self, file: File) -> Result<Database, DatabaseError> {
        // Only asked for here: the engine takes its own lock, at once or not at all.
        if patiently(|| is_free(&file))? {
            // Where there are no locks there is none to give back.
            let _ = file.unlock();
        }
        let backend = WatchedFiles { file: FileBackend::new(file)?, disk: Arc::clone(&self.disk) };
        Builder::new().set_cache_size(self.cache_bytes).create_with_backend(backend)
    }

    fn explain(&self, path: &Path, failure: Failure) -> OpenError {
        match failure {
            Failure::Engine(redb::Error::DatabaseAlreadyOpen) => self.in_use(),
            Failure::Engine(redb::Error::Io(source))
                if !matches!(source.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
            {
                OpenError::Io { path: path.to_owned(), source }
            }
            Failure::Engine(error) => OpenError::Corrupt { path: path.to_owned(), reason: error.to_string() },
            other => OpenError::Corrupt { path: path.to_owned(), reason: other.into_error().to_string() },
        }
    }
}

/// Whether there is a database of this name. A link that leads nowhere is neither that nor the lack of one: the disk that it
/// leads to may not be there yet.
pub(in crate::store::embedded) fn is_there(path: &Path) -> Result<bool, OpenError> {
    let io = |source| OpenError::Io { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(io(error)),
        Ok(found) if found.is_symlink() && !path.try_exists().map_err(io)? => {
            let target = fs::read_link(path).map_err(io)?;
            Err(OpenError::LostLink { path: path.to_owned(), target })
        }
        Ok(_) => Ok(true),
    }
}

/// A new secret key.
pub(in crate::store::embedded) fn random_key() -> Outcome<[u8; 32]> {
    let mut key = [0; 32];
    getrandom::fill(&mut key).map_err(|error| Failure::Damaged(format!("no random numbers: {error}")))?;
    Ok(key)
}

fn write_meta(database: &Database, now: Timestamp) -> Outcome<()> {
    let mut store_id = [0; 16];
    getrandom::fill(&mut store_id).map_err(|error| Failure::Damaged(format!("no random numbers: {error}")))?;
    let tx = database.begin_write()?;
    {
        Tables::make(&tx)?;
        let mut tables = Tables::of(&tx);
        let mut buffer = Vec::new();
        tables.meta.write()?.insert(meta::FORMAT, encode(&FORMAT, &mut buffer)?)?;
        tables.meta.write()?.insert(meta::VERSION, encode(&env!("CARGO_PKG_VERSION"), &mut buffer)?)?;
        tables.meta.write()?.insert(meta::STORE_ID, encode(&store_id, &mut buffer)?)?;
        tables.meta.write()?.insert(meta::CURSOR_KEY, encode(&random_key()?, &mut buffer)?)?;
        tables.meta.write()?.insert(meta::EPOCH, encode(&1u64, &mut buffer)?)?;
        tables.meta.write()?.insert(meta::CREATED_AT, encode(&now.0, &mut buffer)?)?;
        for name in [meta::NEXT_ID, meta::NEXT_USER, meta::NEXT_ROOM, meta::NEXT_LESSON] {
            tables.meta.write()?.insert(name, encode(&1u64, &mut buffer)?)?;
        }
    }
    tx.commit()?;
    Ok(())
}

/// The format of what lies there (while a migration is under way, the one it comes from), and who gave it.
pub(in crate::store::embedded) fn read_format(database: &impl redb::ReadableDatabase) -> Outcome<(u32, String)> {
    let tx = database.begin_read()?;
    let table = match tx.open_table(TableDefinition::<&str, Row>::new("meta")) {
        Err(redb::TableError::TableDoesNotExist(_)) => {
            return Err(Failure::Damaged("it is a redb file, but not one of academy-rt".to_owned()));
        }
        table => table?,
    };
    let version = get_value(&table, meta::VERSION)?.unwrap_or_else(|| "a later version".to_owned());
    let format = get_value(&table, meta::FORMAT)?
        .ok_or_else(|| Failure::Damaged("its format is not written in it".to_owned()))?;
    // A migration of a later version that was cut short is that version's to finish.
    if format <= FORMAT
        && let Some((from, _)) = get_value::<_, (u32, u64)>(&table, meta::MIGRATING)?
    {
        return Ok((from, version));
    }
    Ok((format, version))
}

fn read_identity(database: &Database) -> Outcome<Identity> {
    use redb::ReadableDatabase;
    let snapshot = Snapshot::new(database.begin_read()?);
    let table = snapshot.meta()?;
    let store_id = get_value(&table, meta::STORE_ID)?
        .ok_or_else(|| Failure::Damaged("its identity is not written in it".to_owned()))?;
    let cursor_key = get_value(&table, meta::CURSOR_KEY)?
        .ok_or_else(|| Failure::Damaged("the key of its cursors is not written in it".to_owned()))?;
    Ok(Identity { store_id, epoch: get_number(&table, meta::EPOCH)?.unwrap_or(1), cursor_key })
}

/// Asks again for a moment: who is just leaving (a server that stops, a command that ends) does not make the next one fail.
fn patiently(is_free: impl Fn() -> io::Result<bool>) -> io::Result<bool> {
    let begun = Instant::now();
    loop {
        if is_free()? {
            return Ok(true);
        }
        if begun.elapsed() > PATIENCE {
            return Ok(false);
        }
        std::thread::park_timeout(PATIENCE / 50);
    }
}

/// Whether nobody has a database file open: the engine locks the whole file, beside ranges of it. Where files cannot be
/// locked it is not known, and the engine goes on without, too.
fn is_free(file: &File) -> io::Result<bool> {
    match try_lock(file) {
        Err(error) if has_no_locks(&error) => Ok(true),
        locked => locked,
    }
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A lock that was neither given nor refused to somebody else.
fn unlocked(error: io::Error) -> io::Error {
    io::Error::new(
        error.kind(),
        format!("it cannot be locked: {error}. Its file system gives no locks; of NFS, the lock service does not run"),
    )
}

/// Whether a file system has no locks, or none for such a file.
fn has_no_locks(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    let absent = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::BADF, Errno::ISDIR];
    error.kind() == io::ErrorKind::Unsupported || errno.is_some_and(|errno| absent.contains(&errno))
}

/// As [`is_free`], and waits a moment for it.
pub(in crate::store::embedded) fn becomes_free(file: &File) -> io::Result<bool> {
    patiently(|| is_free(file))
}

/// The bytes that an unprivileged process may still write where a path lies.
pub(in crate::store::embedded) fn free_bytes(path: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(path)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_locked_is_used_without() {
        let dir = tempfile::tempdir().unwrap();
        // A handle that leads to a file and does nothing else cannot be locked, as a directory on some network file systems.
        let handle = File::from(
            rustix::fs::open(
                dir.path(),
                rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
                rustix::fs::Mode::empty(),
            )
            .unwrap(),
        );
        assert!(has_no_locks(&try_lock(&handle).unwrap_err()));
        assert!(is_free(&handle).unwrap());
        // A lock that somebody has is not one that is not there.
        let (one, two) = (File::open(dir.path()).unwrap(), File::open(dir.path()).unwrap());
        assert!(is_free(&one).unwrap());
        assert!(!is_free(&two).unwrap());
    }
}
