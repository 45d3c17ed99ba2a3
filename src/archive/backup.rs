//! Backups as files: made without a name, with the mode 0600, checked while they are written, synced, read back from the
//! disk and only then given their name. Nothing is left behind of one that fails. For recipients they are encrypted by age,
//! with a mark in front ([`Recipients`]) that says which store and which moment they are of.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use age::DecryptError;
use age::x25519::Recipient;
use age_core::format::{FileKey, Stanza};
use rustix::fs::{Advice, AtFlags, CWD, Mode, OFlags, fadvise, linkat};
use rustix::io::Errno;
use rustix::process::{geteuid, getuid};

use crate::domain::Timestamp;
use crate::store::rows::Digests;

use crate::archive::ArchiveError;
use crate::archive::files::{copy, is_missing, parent, rename_new, sync_parent};
use crate::archive::format;
use crate::archive::format::{Header, Summary};
use crate::config::disk_room;
use crate::domain::problem::Problem;

/// What the names of scheduled backups end with.
pub const EXTENSION: &str = "backup";
/// The kind of the stanza by which an encrypted backup says what it is.
const MARK: &str = "academy-rt-backup";
const BUFFER_BYTES: usize = 256 << 10;
/// So much of a file is synced at a time.
const SYNC_BYTES: usize = 4 << 20;

/// Who a backup is encrypted for. The encrypted file says in one more stanza of age's header, which readers of age pass over,
/// which store and which moment it is of: whoever prunes backups has no identity to open them with.
#[derive(Default)]
pub struct Recipients(Vec<Recipient>);

impl std::fmt::Debug for Recipients {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(ToString::to_string)).finish()
    }
}

impl Recipients {
    /// Reads age recipients (`age1...`).
    ///
    /// # Errors
    /// The one that is none.
    pub fn parse(texts: &[String]) -> Result<Recipients, Problem> {
        let mut recipients = Vec::with_capacity(texts.len());
        for text in texts {
            recipients.push(Recipient::from_str(text.trim()).map_err(|why| {
                let remedy = "Use the public key that `age-keygen` prints; it begins with age1.";
                Problem::new(format!("'{text}' is not an age recipient"), why, remedy)
            })?);
        }
        Ok(Recipients(recipients))
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Encrypts a piece for them; `None` if there are none.
    pub(super) fn seal(&self, bytes: &[u8]) -> io::Result<Option<Vec<u8>>> {
        if self.is_empty() {
            return Ok(None);
        }
        let keys = self.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(keys).map_err(io::Error::other)?;
        let mut sealed = Vec::with_capacity(bytes.len() + 512);
        let mut output = encryptor.wrap_output(&mut sealed)?;
        output.write_all(bytes)?;
        output.finish()?;
        Ok(Some(sealed))
    }
}

/// What opens encrypted backups.
pub struct Identities(Vec<Box<dyn age::Identity + Send + Sync>>);

impl std::fmt::Debug for Identities {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Identities")
    }
}

impl Identities {
    /// Reads a file of age identities.
    ///
    /// # Errors
    /// If it is none.
    pub fn load(path: &Path) -> Result<Identities, Problem> {
        let bad_identity = |why: String| {
            let what = format!("the identity {} cannot be used", path.display());
            Problem::new(what, why, "Use a file that `age-keygen` has written.")
        };
        let identities = age::IdentityFile::from_file(path.to_string_lossy().into_owned())
            .map_err(|error| bad_identity(error.to_string()))?
            .into_identities()
            .map_err(|error| bad_identity(error.to_string()))?;
        Ok(Identities(identities))
    }

    fn each(&self) -> impl Iterator<Item = &dyn age::Identity> {
        self.0.iter().map(|one| &**one as &dyn age::Identity)
    }

    /// Decrypts a piece.
    pub(super) fn open(&self, sealed: &[u8]) -> Result<Vec<u8>, String> {
        let opened = age::Decryptor::new(sealed).and_then(|decryptor| decryptor.decrypt(self.each()));
        let mut bytes = Vec::new();
        let mut reader = match opened {
            Err(DecryptError::NoMatchingKeys) => {
                return Err("it is encrypted for another recipient: none of the identities can decrypt it".to_owned());
            }
            opened => opened.map_err(|error| error.to_string())?,
        };
        reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
        Ok(bytes)
    }
}

/// What an encrypted backup says of itself in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) created_at: Timestamp,
    pub(super) store_id: String,
}

impl From<&Header> for Mark {
    fn from(header: &Header) -> Mark {
        Mark { created_at: header.created_at, store_id: header.store_id.clone() }
    }
}

impl Mark {
    /// The mark in what an encrypted file begins with, if it has one.
    pub(super) fn find(start: &[u8]) -> Option<Mark> {
        let line = start.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"-> "))?;
        let mut words = std::str::from_utf8(line).ok()?.split(' ');
        let (kind, at, store_id) = (words.next()?, words.next()?, words.next()?);
        let created_at = Timestamp(at.parse().ok()?);
        (kind == MARK).then(|| Mark { created_at, store_id: store_id.to_owned() })
    }
}

impl age::Recipient for Mark {
    /// Has nothing of the key: nobody opens the file by it.
    fn wrap_file_key(&self, _key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        let args = vec![self.created_at.as_millis().to_string(), self.store_id.clone()];
        Ok((vec![Stanza { tag: MARK.to_owned(), args, body: vec![0; 16] }], HashSet::new()))
    }
}

/// A file in the making. It has no name until it is whole, so that nothing is left behind whatever happens; where the file
/// system cannot do that it has another name, and goes when it is dropped before it is kept.
struct Target {
    path: PathBuf,
    file: File,
    partial: Option<PathBuf>,
}

impl Target {
    fn create(path: &Path) -> Result<Target, Problem> {
        let what = || format!("the backup {} cannot be written", path.display());
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => {
                return Err(Problem::new(
                    what(),
                    "it is a directory",
                    "Give the name of a file in it, or use --to DIR.",
                ));
            }
            Ok(_) => {
                return Err(Problem::new(
                    what(),
                    "it exists already",
                    "Use another name. A backup never overwrites a file.",
                ));
            }
            Err(_) => {}
        }
        if path.file_name().is_none() {
            return Err(Problem::new(what(), "it has no file name", "Give a file name."));
        }
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        // Who acts as somebody else does not see its own files below /proc, and could not give this one its name.
        let is_oneself = geteuid() == getuid();
        let opened = match is_oneself {
            true => rustix::fs::open(parent(path), flags, Mode::RUSR | Mode::WUSR),
            false => Err(Errno::OPNOTSUPP),
        };
        match opened {
            Ok(file) => return Ok(Target { path: path.to_owned(), file: file.into(), partial: None }),
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL) => {}
            Err(error) => return Err(target_failed(path, &error.into())),
        }
        let partial = partial_name(path);
        let opened = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&partial);
        let file = opened.map_err(|error| target_failed(path, &error))?;
        Ok(Target { path: path.to_owned(), file, partial: Some(partial) })
    }

    /// Gives it its name; it is on disk then.
    fn keep(mut self) -> Result<(), Problem> {
        let failed = |error: io::Error| target_failed(&self.path, &error);
        if self.partial.is_none() {
            let open = format!("/proc/self/fd/{}", self.file.as_raw_fd());
            match linkat(CWD, open, CWD, &self.path, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from) {
                Ok(()) => return sync_parent(&self.path).map_err(failed),
                // A file system that has files without names and no links, or a process that does not see its own files.
                Err(error) if is_missing(&error) || error.kind() == io::ErrorKind::NotFound => {
                    let partial = partial_name(&self.path);
                    self.file.rewind().and_then(|()| copy(&mut self.file, &partial)).map_err(failed)?;
                    self.partial = Some(partial);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        let named = match &self.partial {
            None => Ok(()),
            Some(partial) => rename_new(partial, &self.path),
        };
        named.map_err(|error| target_failed(&self.path, &error))?;
        self.partial = None;
        sync_parent(&self.path).map_err(|error| target_failed(&self.path, &error))
    }

    /// What lies on the disk is what was written: not what the kernel still has in memory, as far as it lets go of it.
    /// Gives the file's size.
    fn read_back(&self, written: blake3::Hash) -> io::Result<u64> {
        // Advice: where it is not taken the check is weaker, and still a check.
        let _ = fadvise(&self.file, 0, None, Advice::DontNeed);
        let mut hasher = blake3::Hasher::new();
        let mut input = &self.file;
        input.rewind()?;
        let bytes = io::copy(&mut input, &mut hasher)?;
        if hasher.finalize() != written {
            return Err(io::Error::other("the data read back differ from the data written"));
        }
        Ok(bytes)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            // What cannot be removed either has a name that says what it is.
            let _ = fs::remove_file(partial);
        }
    }
}

/// What a backup is called while it is made, where a file cannot be without a name.
fn partial_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.partial-{}", std::process::id()))
}

fn target_failed(path: &Path, error: &io::Error) -> Problem {
    let remedy = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "Free space on that disk, or use another place.",
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            "Use a directory that this user can write to, or run the command as another user."
        }
        io::ErrorKind::NotFound => "Create its directory first, or correct the path.",
        io::ErrorKind::AlreadyExists => "Use another name. A backup never overwrites a file.",
        _ => "Check the path and its disk, and try again.",
    };
    Problem::new(format!("the backup {} cannot be written", path.display()), disk_room::why(path, error), remedy)
}

/// Where a backup comes from has ended or failed.
fn source_failed(error: &ArchiveError) -> Problem {
    Problem::new("the backup was not made", error, "Try again; the server's log may say more.")
}

/// A backup that has been made.
#[derive(Debug, Clone)]
pub struct Made {
    /// Where.
    pub path: PathBuf,
    /// The file's size in bytes.
    pub file_bytes: u64,
    /// What it holds.
    pub summary: Summary,
}

/// Takes an archive from `source` into a file: checked on the way, synced, read back. `progress` hears the rows so far and
/// all rows. Blocks.
///
/// # Errors
/// What did not work; nothing is left behind then.
pub fn receive(
    source: &mut dyn Read,
    path: &Path,
    recipients: &Recipients,
    newest_format: u32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Made, Problem> {
    let target = Target::create(path)?;
    let file = target.file.try_clone().map_err(|error| target_failed(path, &error))?;
    let out = BufWriter::with_capacity(BUFFER_BYTES, Trickle { file, unsynced: 0 });
    let mut hashed = Hashed { out, hasher: blake3::Hasher::new() };
    let mut failure = None;
    let outcome = if recipients.is_empty() {
        tee(source, &mut hashed, newest_format, &mut failure, progress)
    } else {
        let (start, header) = format::peek(source).map_err(|error| source_failed(&error))?;
        let source = &mut start.as_slice().chain(source);
        let mark = Mark::from(&header);
        let keys = recipients.0.iter().map(|recipient| recipient as &dyn age::Recipient);
        // The mark is the first, where it is found without knowing the others.
        let encryptor = age::Encryptor::with_recipients(std::iter::once(&mark as &dyn age::Recipient).chain(keys))
            .map_err(|why| Problem::new("the backup cannot be encrypted", why, "Correct the recipients."))?;
        let sealed = encryptor.wrap_output(&mut hashed).map_err(|error| target_failed(path, &error))?;
        let mut sealed = sealed;
        let outcome = tee(source, &mut sealed, newest_format, &mut failure, progress);
        if outcome.is_ok() {
            sealed.finish().map_err(|error| target_failed(path, &error))?;
        }
        outcome
    };
    if let Some(error) = failure {
        return Err(target_failed(path, &error));
    }
    let summary = outcome.map_err(|error| source_failed(&error))?;
    let hash = hashed.hasher.finalize();
    let trickle = hashed.out.into_inner().map_err(|error| target_failed(path, error.error()))?;
    trickle.file.sync_all().map_err(|error| target_failed(path, &error))?;
    let file_bytes = target.read_back(hash).map_err(|error| target_failed(path, &error))?;
    target.keep()?;
    Ok(Made { path: path.to_owned(), file_bytes, summary })
}

fn tee(
    source: &mut dyn Read,
    out: &mut dyn Write,
    newest_format: u32,
    failure: &mut Option<io::Error>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, ArchiveError> {
    let mut tee = Tee { source, out, failure };
    let summary = format::read(&mut tee, newest_format, &mut Digests::default(), progress)?;
    tee.out.flush().map_err(|error| {
        let copy = io::Error::new(error.kind(), error.to_string());
        *tee.failure = Some(error);
        ArchiveError::Io(copy)
    })?;
    Ok(summary)
}

/// Copies what is read, and remembers an error of the writing apart from those of the reading.
struct Tee<'a> {
    source: &'a mut dyn Read,
    out: &'a mut dyn Write,
    failure: &'a mut Option<io::Error>,
}

impl Read for Tee<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(buffer)?;
        if let Err(error) = self.out.write_all(buffer.get(..read).unwrap_or_default()) {
            let copy = io::Error::new(error.kind(), error.to_string());
            *self.failure = Some(error);
            return Err(copy);
        }
        Ok(read)
    }
}

/// A file that is synced piece by piece: all at its end would hold up everybody who syncs to the same disk, a server's
/// commits above all.
struct Trickle {
    file: File,
    unsynced: usize,
}

impl Write for Trickle {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.unsynced += written;
        if self.unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.unsynced = 0;
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

struct Hashed<W> {
    out: W,
    hasher: blake3::Hasher,
}

impl<W: Write> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.hasher.update(bytes.get(..written).unwrap_or_default());
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A backup that is read: decrypted on the way if an identity is given.
pub struct Source(Box<dyn Read>);

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Source")
    }
}

impl Source {
    /// Opens a backup. `identity` is a file of age identities.
    ///
    /// # Errors
    /// [`ArchiveError`], or a problem with the identity.
    pub fn open(path: &Path, identity: Option<&Path>) -> Result<Source, Problem> {
        let failed = |error: ArchiveError| unusable(path, &error);
        let metadata = fs::metadata(path).map_err(|error| failed(error.into()))?;
        if metadata.is_dir() {
            let remedy = "Give the name of a file in it.";
            return Err(Problem::new(
                format!("the backup {} cannot be used", path.display()),
                "it is a directory",
                remedy,
            ));
        }
        let open = || File::open(path).map_err(|error| failed(error.into()));
        let is_encrypted = format::is_encrypted(&mut open()?).map_err(|error| failed(error.into()))?;
        let input = BufReader::with_capacity(BUFFER_BYTES, open()?);
        if !is_encrypted {
            return Ok(Source(Box::new(input)));
        }
        let Some(identity) = identity else { return Err(failed(ArchiveError::Encrypted)) };
        let identities = Identities::load(identity)?;
        let opened = age::Decryptor::new(input).and_then(|decryptor| decryptor.decrypt(identities.each()));
        match opened {
            Ok(reader) => Ok(Source(Box::new(BufReader::with_capacity(BUFFER_BYTES, reader)))),
            Err(DecryptError::NoMatchingKeys) => Err(failed(ArchiveError::NotForUs)),
            Err(DecryptError::Io(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(failed(ArchiveError::CutShort { bytes: metadata.len() }))
            }
            Err(error) => Err(failed(ArchiveError::Damaged { at: 0, what: error.to_string() })),
        }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

/// What is said of a backup that cannot be used.
#[must_use]
pub fn unusable(path: &Path, error: &ArchiveError) -> Problem {
    Problem::new(format!("the backup {} cannot be used", path.display()), error, error.remedy())
}

/// A backup that cannot be used.
#[derive(Debug)]
pub struct Rejected {
    /// What is said of it.
    pub problem: Problem,
    /// Whether it was a backup, and is not what was written.
    pub is_altered: bool,
}

impl From<Problem> for Rejected {
    fn from(problem: Problem) -> Rejected {
        Rejected { problem, is_altered: false }
    }
}

/// Reads a backup to its end and says what it holds. Whose it is remains to be judged. Blocks.
///
/// # Errors
/// Why it cannot be used.
pub fn examine(
    path: &Path,
    identity: Option<&Path>,
    newest_format: u32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Rejected> {
    let mut source = Source::open(path, identity)?;
    format::read(&mut source, newest_format, &mut Digests::default(), progress)
        .map_err(|error| Rejected { problem: unusable(path, &error), is_altered: error.is_alteration() })
}

/// As [`examine`], for whom one error is as good as another.
///
/// # Errors
/// Why it cannot be used.
pub fn verify(
    path: &Path,
    identity: Option<&Path>,
    newest_format: u32,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, Problem> {
    examine(path, identity, newest_format, progress).map_err(|rejected| rejected.problem)
}
