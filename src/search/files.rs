//! Where the index lies: files that are read as files. They are not mapped into memory, because a mapped file that is cut while it
//! is read ends the process; here it is an error of one search. Nothing is synced: what a loss of power leaves of the index is
//! looked at by its checksums at the next start, and what is not whole is built again from the store.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};
use tantivy::HasLen;
use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, META_LOCK, OwnedBytes, TerminatingWrite, WatchCallback,
    WatchHandle, WritePtr,
};

/// How the name of a file ends that is about to take the place of another one.
pub(super) const NEW: &str = ".new";

/// The directory of the index.
#[derive(Debug, Clone)]
pub(super) struct Files {
    dir: PathBuf,
    /// Whether files are being opened, or removed: one of both at a time.
    is_held: Arc<(Mutex<bool>, Condvar)>,
}

/// Nobody else opens or removes files, until it is dropped.
struct Held(Arc<(Mutex<bool>, Condvar)>);

impl Drop for Held {
    fn drop(&mut self) {
        *self.0.0.lock() = false;
        self.0.1.notify_one();
    }
}

impl Files {
    pub(super) fn new(dir: &Path) -> Files {
        Files { dir: dir.to_owned(), is_held: Arc::default() }
    }

    fn open_new(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(self.dir.join(path))
    }
}

impl Directory for Files {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        let opened = File::open(self.dir.join(path)).and_then(|file| {
            let bytes = file.metadata()?.len();
            Ok(Piece { bytes: usize::try_from(bytes).unwrap_or(usize::MAX), file })
        });
        match opened {
            Ok(piece) => Ok(Arc::new(piece)),
            Err(error) => Err(not_read(error, path)),
        }
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        fs::remove_file(self.dir.join(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => DeleteError::FileDoesNotExist(path.to_owned()),
            _ => DeleteError::IoError { io_error: Arc::new(error), filepath: path.to_owned() },
        })
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.dir.join(path).try_exists().map_err(|error| not_read(error, path))
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        match self.open_new(path) {
            Ok(file) => Ok(BufWriter::new(Box::new(Written(file)))),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(OpenWriteError::FileAlreadyExists(path.to_owned()))
            }
            Err(error) => Err(OpenWriteError::wrap_io_error(error, path.to_owned())),
        }
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        fs::read(self.dir.join(path)).map_err(|error| not_read(error, path))
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        // One thread writes each of them at a time: both are rewritten under a lock of the library's.
        let mut name = path.as_os_str().to_owned();
        name.push(NEW);
        let new = PathBuf::from(name);
        // What a kill has left of one.
        match fs::remove_file(self.dir.join(&new)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.open_new(&new)?.write_all(data)?;
        fs::rename(self.dir.join(&new), self.dir.join(path))
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        // No other process comes here: the server holds the data directory, and one thread of it writes.
        if lock.filepath != META_LOCK.filepath {
            return Ok(DirectoryLock::from(Box::new(())));
        }
        let mut is_held = self.is_held.0.lock();
        while *is_held {
            self.is_held.1.wait(&mut is_held);
        }
        *is_held = true;
        Ok(DirectoryLock::from(Box::new(Held(self.is_held.clone()))))
    }

    fn watch(&self, _callback: WatchCallback) -> tantivy::Result<WatchHandle> {
        Ok(WatchHandle::empty())
    }
}

fn not_read(error: io::Error, path: &Path) -> OpenReadError {
    match error.kind() {
        io::ErrorKind::NotFound => OpenReadError::FileDoesNotExist(path.to_owned()),
        _ => OpenReadError::wrap_io_error(error, path.to_owned()),
    }
}

/// A file that is being read. Who removes its name takes nothing from whoever reads it.
#[derive(Debug)]
struct Piece {
    file: File,
    bytes: usize,
}

impl HasLen for Piece {
    fn len(&self) -> usize {
        self.bytes
    }
}

impl FileHandle for Piece {
    fn read_bytes(&self, range: Range<usize>) -> io::Result<OwnedBytes> {
        if range.start > range.end || range.end > self.bytes {
            return Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "a part of the index lies behind the end of its file",
            ));
        }
        let mut bytes = vec![0; range.end - range.start];
        self.file.read_exact_at(&mut bytes, range.start as u64)?;
        Ok(OwnedBytes::new(bytes))
    }
}

/// A file that is being written.
struct Written(File);

impl Write for Written {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TerminatingWrite for Written {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.flush()
    }
}
