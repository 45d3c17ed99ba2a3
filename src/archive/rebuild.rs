//! Rebuilding the database without free space, and migrating it: a whole new file, or slices behind a backup.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, action};
use crate::store::OpenError;
use crate::store::embedded::offline::migrate;
use crate::store::embedded::offline::rows::{Held, NewFile, OfflineFile, newest_format};
use crate::store::rows::{Digests, RowSink};

use crate::archive::backup::{Made, Recipients, receive};
use crate::archive::files::{rights_in, sync_parent, written};
use crate::archive::format;
use crate::archive::format::TableSum;
use crate::archive::key;
use crate::archive::key::BackupKey;
use crate::archive::moments::stamp;
use crate::archive::restore::{
    Both, Making, RestoreOptions, Step, Watch, compare, entry, hold, open, opened, refuse_unsound, stored,
};
use crate::archive::retention::free_path;
use crate::domain::problem::Problem;

/// The outcome of a record that says that something starts.
const BEGUN: &str = "begun";
/// The first format that has an audit log.
const FIRST_WITH_AUDIT_LOG: u32 = 2;

/// Rebuilds the database without free space: every byte that nothing leads to any more is gone from the file. Gives the
/// sizes before and after. The audit log has a record of the start, in the old file before anything is made, and one of the
/// end, in the new one: after a cut the start stands alone. Blocks.
///
/// # Errors
/// What does not work; the data are as they were then, and the audit log says that it failed.
pub fn compact(data_dir: &Path, options: RestoreOptions<'_>, watch: &mut Watch<'_>) -> Result<(u64, u64), Problem> {
    let _rights = rights_in(data_dir)?;
    let held = hold(data_dir)?;
    let path = held.path();
    let size = |path: &Path| fs::metadata(path).map_or(0, |file| file.len());
    let before = size(&path);
    let old = open(&held)?;
    if old.format < newest_format() {
        return Err(opened(OpenError::Older { path, found: old.format, known: newest_format() }));
    }
    let act = entry(options, action::COMPACT, "");
    old.record(AuditEntry { outcome: BEGUN.to_owned(), ..act.clone() }).map_err(stored)?;
    replace(&held, &old, &act, watch).map_err(|problem| recorded(&old, act, problem))?;
    Ok((before, size(&path)))
}

/// Makes the new file, with the record of the end in it, and gives it the old one's name.
fn replace(held: &Held, old: &OfflineFile, act: &AuditEntry, watch: &mut Watch<'_>) -> Result<(), Problem> {
    let path = held.path();
    let making = Making::begin(held.data_dir())?;
    let mut file = NewFile::create(&making.0).map_err(|error| written("the file", &making.0, &error))?;
    let all: u64 = old.row_stats().map_err(stored)?.rows.values().sum();
    let mut digests = Digests::default();
    let mut counted = Counted { rows: 0, all, watch };
    let mut both = Both(&mut file, &mut digests);
    old.send_rows(&mut Both(&mut both, &mut counted)).map_err(stored)?;
    let sums: Vec<TableSum> = digests.finish().iter().map(TableSum::from).collect();
    let mut new = OfflineFile::open(&making.0).map_err(opened)?;
    watch(Step::Compare);
    compare(&new, &sums)?;
    new.record(AuditEntry { outcome: format!("done: {all} rows"), ..act.clone() }).map_err(stored)?;
    refuse_unsound(&mut new, watch)?;
    new.close().map_err(stored)?;
    watch(Step::Swap);
    fs::rename(&making.0, &path).map_err(|error| written("the file", &path, &error))?;
    sync_parent(&path).map_err(|error| written("the file", &path, &error))
}

/// Records a failure in the audit log. If that fails, too, the problem says so.
fn recorded(file: &OfflineFile, act: AuditEntry, problem: Problem) -> Problem {
    match file.record(AuditEntry { outcome: format!("failed: {}", problem.why), ..act }) {
        Ok(_) => problem,
        Err(error) => {
            let why = format!("{}; the audit log has no record of this failure: {error}", problem.why);
            Problem { why, ..problem }
        }
    }
}

/// Tells the watcher of rows.
struct Counted<'c, 'w> {
    rows: u64,
    all: u64,
    watch: &'c mut Watch<'w>,
}

impl RowSink for Counted<'_, '_> {
    fn begin(&mut self, _preface: &crate::store::rows::Preface) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, _table: &str, _key: &[u8], _value: &[u8]) -> io::Result<()> {
        self.rows += 1;
        if self.rows.is_multiple_of(10_000) {
            (self.watch)(Step::Rows(self.rows, self.all));
        }
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A migration that was made.
#[derive(Debug)]
pub struct Upgraded {
    /// The format before.
    pub from: u32,
    /// The format now.
    pub to: u32,
    /// The backup that was made before; `None` if there was nothing to migrate.
    pub backup: Option<Made>,
    /// Why that backup is not signed, if it is not.
    pub caution: Option<String>,
    /// Ids that have another name since, in words.
    pub renamed: Vec<String>,
}

/// Migrates the database of a data directory to this version's format, after a backup into its `backups` directory. Cut
/// short, it goes on where it stopped. The audit log has a record of the start (where the older format has an audit log) and of
/// the end. Blocks.
///
/// # Errors
/// What does not work.
pub fn upgrade(data_dir: &Path, now: Timestamp, actor: &str, watch: &mut Watch<'_>) -> Result<Upgraded, Problem> {
    let _rights = rights_in(data_dir)?;
    let held = hold(data_dir)?;
    let mut file = open(&held)?;
    let (from, to) = (file.format, newest_format());
    if from == to {
        return Ok(Upgraded { from, to, backup: None, caution: None, renamed: Vec::new() });
    }
    let options = RestoreOptions { identity: None, is_dry_run: false, is_forced: false, actor, now };
    let act = entry(options, action::UPGRADE, &format!("format {from} to {to}"));
    let has_audit_log = from >= FIRST_WITH_AUDIT_LOG;
    if has_audit_log {
        file.record(AuditEntry { outcome: BEGUN.to_owned(), ..act.clone() }).map_err(stored)?;
    }
    match migrate_behind_a_backup(&held, &mut file, &act, watch) {
        Ok(upgraded) => {
            file.close().map_err(stored)?;
            Ok(upgraded)
        }
        Err(problem) if has_audit_log => Err(recorded(&file, act, problem)),
        Err(problem) => Err(problem),
    }
}

fn migrate_behind_a_backup(
    held: &Held,
    file: &mut OfflineFile,
    act: &AuditEntry,
    watch: &mut Watch<'_>,
) -> Result<Upgraded, Problem> {
    let (data_dir, from, to) = (held.data_dir(), file.format, newest_format());
    let dir = data_dir.join("backups");
    if !dir.exists() {
        let made = fs::DirBuilder::new().mode(0o700).create(&dir);
        made.map_err(|error| written("the directory", &dir, &error))?;
    }
    let (key, caution) = match key::load_or_make(data_dir) {
        Ok(found) => (Some(found.key), found.warning),
        Err(problem) => (None, Some(format!("the backup is not signed: {problem}"))),
    };
    if let Some(caution) = &caution {
        tracing::warn!("{caution}");
    }
    let path = free_path(&dir, &format!("before-format-{to}-{}", stamp(act.at)));
    let backup = backup_file(file, &path, key, act.at, watch)?;
    watch(Step::Migrate);
    migrate::migrate(file, &mut |_| {}).map_err(stored)?;
    let renamed = file.renamed_since(from).map_err(stored)?;
    let of_names = renamed.iter().map(|name| AuditEntry { target: name.clone(), ..act.clone() });
    file.record_all(of_names.chain([act.clone()]).collect()).map_err(stored)?;
    refuse_unsound(file, watch)?;
    Ok(Upgraded { from, to, backup: Some(backup), caution, renamed })
}

/// Writes a backup of a file that no server uses.
fn backup_file(
    file: &OfflineFile,
    path: &Path,
    key: Option<BackupKey>,
    now: Timestamp,
    watch: &mut Watch<'_>,
) -> Result<Made, Problem> {
    let (reader, writer) = io::pipe().map_err(|error| written("the backup", path, &error))?;
    std::thread::scope(|scope| {
        let sending = scope.spawn(move || {
            let mut archive = format::Writer::new(io::BufWriter::new(writer), now).signed(key);
            file.send_rows(&mut archive)
        });
        let mut reader = reader;
        let mut progress = |done, all| watch(Step::Rows(done, all));
        let made = receive(&mut reader, path, &Recipients::default(), newest_format(), &mut progress);
        drop(reader);
        let sent =
            sending.join().map_err(|_| Problem::new("the backup was not made", "it ended early", "Report this."))?;
        let made = made?;
        sent.map_err(stored)?;
        Ok(made)
    })
}
