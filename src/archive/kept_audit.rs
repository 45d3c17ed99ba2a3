//! An audit log that a restore does not carry over: it is kept whole in a file beside the data, rather than dropped. The file
//! is one JSON object a line, and can be verified by itself (`audit verify FILE`): first what the audit log begins behind and where
//! it ends, then each record.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::domain::Timestamp;
use crate::domain::audit::AuditLine;
use crate::store::StoreError;
use crate::store::embedded::offline::rows::OfflineFile;

use crate::archive::files::sync_parent;
use crate::archive::files::written;
use crate::archive::format::AuditPoint;
use crate::archive::moments::stamp;
use crate::domain::problem::Problem;

/// What the names of such files begin with.
pub const KEPT: &str = "audit-before-restore-";
/// So many records are in memory at a time.
const RECORDS: usize = 1_000;

/// What happened to an audit log that was replaced.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum OldAudit {
    /// There was none, or all of it is in the new one.
    #[default]
    CarriedOver,
    /// It lies beside the data.
    Kept(KeptAudit),
    /// It could not be read, and why; what is left of it is in the data that are set aside.
    Unreadable(String),
}

/// An audit log in a file beside the data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptAudit {
    /// Where; `None` in a dry run.
    pub path: Option<PathBuf>,
    /// How many records it has.
    pub records: u64,
    /// Its last one.
    pub head: AuditPoint,
}

impl OldAudit {
    /// The outcome in the record of the restore, which names the file of the old audit log.
    #[must_use]
    pub fn outcome(&self) -> String {
        match self {
            OldAudit::CarriedOver => "done".to_owned(),
            OldAudit::Unreadable(_) => "done: the trail before could not be read".to_owned(),
            OldAudit::Kept(KeptAudit { path, records, head }) => {
                let name = path.as_deref().and_then(Path::file_name).unwrap_or_default().to_string_lossy();
                format!("done: the trail before ({records} records, the last is {head}) is kept in {name}")
            }
        }
    }
}

/// A file that goes again with a restore that does not come to its end.
#[derive(Debug)]
pub(super) struct Pending(OldAudit);

impl Pending {
    /// What is to be said of it.
    pub(super) fn audit(&self) -> &OldAudit {
        &self.0
    }

    /// The restore is all but made: the file stays.
    pub(super) fn keep(mut self) -> OldAudit {
        std::mem::take(&mut self.0)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let OldAudit::Kept(KeptAudit { path: Some(path), .. }) = &self.0 {
            // What cannot be removed is a copy of an audit log that is in its place still.
            let _ = fs::remove_file(path);
        }
    }
}

/// Nothing is lost: there is nothing to keep.
pub(super) fn nothing() -> Pending {
    Pending(OldAudit::CarriedOver)
}

/// Data are there that do not even open.
pub(super) fn unreadable(why: impl ToString) -> Pending {
    Pending(OldAudit::Unreadable(why.to_string()))
}

/// Keeps the audit log of a file beside the data: on disk when this comes back. A dry run counts its records alone.
///
/// # Errors
/// If it cannot be written. An audit log that cannot be read is no error: the data that it is in are set aside.
pub(super) fn keep_beside(
    data_dir: &Path,
    old: &OfflineFile,
    is_dry_run: bool,
    now: Timestamp,
) -> Result<Pending, Problem> {
    // Older formats have no audit log.
    let ends = if old.format < 2 { Ok(None) } else { old.audit_ends().map(Some) };
    let (anchor, head) = match ends {
        Ok(None) => return Ok(nothing()),
        Ok(Some((_, head))) if head.number == 0 => return Ok(nothing()),
        Ok(Some(ends)) => ends,
        Err(error) => return Ok(unreadable(error)),
    };
    let mut kept =
        KeptAudit { path: None, records: head.number.saturating_sub(anchor.number), head: AuditPoint::from(head) };
    if is_dry_run {
        return Ok(Pending(OldAudit::Kept(kept)));
    }
    let (path, file) = create(data_dir, now).map_err(|(path, error)| written("the audit log", &path, &error))?;
    // From here on the file goes with whatever fails.
    kept.path = Some(path.clone());
    let mut pending = Pending(OldAudit::Kept(kept));
    let first = Ends { anchor: AuditPoint::from(anchor), head: AuditPoint::from(head) };
    match write(old, &first, file) {
        Ok(records) => {
            if let OldAudit::Kept(kept) = &mut pending.0 {
                kept.records = records;
            }
        }
        Err(Failed::Unreadable(error)) => return Ok(unreadable(error)),
        Err(Failed::Unwritten(error)) => return Err(written("the audit log", &path, &error)),
    }
    sync_parent(&path).map_err(|error| written("the directory", data_dir, &error))?;
    Ok(pending)
}

enum Failed {
    Unreadable(StoreError),
    Unwritten(io::Error),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Unreadable(error)
    }
}

impl From<io::Error> for Failed {
    fn from(error: io::Error) -> Failed {
        Failed::Unwritten(error)
    }
}

#[derive(Serialize)]
struct Ends {
    anchor: AuditPoint,
    head: AuditPoint,
}

fn write(old: &OfflineFile, first: &Ends, file: File) -> Result<u64, Failed> {
    let mut out = BufWriter::new(file);
    write_line(&mut out, first)?;
    let (mut after, mut count) = (0, 0);
    loop {
        let records = old.audit_after(after, RECORDS)?;
        let Some(last) = records.last() else { break };
        after = last.number;
        for record in &records {
            write_line(&mut out, &AuditLine::from(record))?;
            count += 1;
        }
    }
    let file = out.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.sync_all()?;
    Ok(count)
}

fn write_line(out: &mut impl Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    out.write_all(b"\n")
}

fn create(data_dir: &Path, now: Timestamp) -> Result<(PathBuf, File), (PathBuf, io::Error)> {
    let mut path = data_dir.join(format!("{KEPT}{}.jsonl", stamp(now)));
    let mut n = 1;
    loop {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                n += 1;
                path = data_dir.join(format!("{KEPT}{}-{n}.jsonl", stamp(now)));
            }
            Err(error) => return Err((path, error)),
            Ok(file) => return Ok((path, file)),
        }
    }
}
