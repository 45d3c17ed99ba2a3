//! Restoring a backup, going back from it, rebuilding and migrating: each makes a whole new file beside the old one and gives
//! it the name in one step, so that a cut at any point leaves the old data or the new, whole.
//!
//! What a restore does not take back: erasures made since the backup, legal holds, the audit log (all carried over), and
//! ids: none is ever given twice, and clients whose position belongs to a replaced epoch are told to load everything again. An audit log
//! that cannot be carried over, as the backup's is another one, is not dropped: without force the restore is refused, with it
//! the audit log is kept beside the data ([`crate::archive::kept_audit`]).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::config::acting_as::Rights;
use crate::config::disk_room;
use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, action};
use crate::store::embedded::offline::carry_forward::Carried;
use crate::store::embedded::offline::migrate;
use crate::store::embedded::offline::rows::{
    Held, NewFile, NewLife, OfflineFile, begin_new_life, newest_format, remove_if_there,
};
use crate::store::embedded::offline::stats::RowStats;
use crate::store::embedded::{ASIDE, COPIED, NAME, SUSPECT, UNFINISHED};
use crate::store::rows::{Digests, RowSink};
use crate::store::{OpenError, StoreError};

use crate::archive::ArchiveError;
use crate::archive::authenticity::{Authenticity, KeyHere, refuse_altered};
use crate::archive::backup::{Identities, Source, unusable};
use crate::archive::continuous::timeline::{Plan, Replayed};
use crate::archive::files::{copy, is_missing, link, rights_in, sync_parent, written};
use crate::archive::format;
use crate::archive::format::{Summary, TableSum};
use crate::archive::kept_audit;
use crate::archive::kept_audit::OldAudit;
use crate::archive::moments::{moment, stamp};
use crate::domain::problem::Problem;

/// So many ids are skipped when it is not known how many the life that has ended gave.
const UNKNOWN_LIFE_IDS: u64 = 1 << 32;

/// The steps of a restore, for whoever watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Rows of the backup were read and stored: so many, of so many.
    Rows(u64, u64),
    /// The new file is whole; it is held against the backup.
    Compare,
    /// It is looked at whether it is sound.
    Check,
    /// It is migrated to this version's format.
    Migrate,
    /// Erasures, holds and the audit log are carried over.
    Carry,
    /// The old file gets a second name.
    SetAside,
    /// The new file takes its place.
    Swap,
    /// It is done.
    Done,
}

/// Hears of each step before it is made.
pub type Watch<'w> = dyn FnMut(Step) + 'w;

/// How a restore is to be done.
#[derive(Debug, Clone, Copy)]
pub struct RestoreOptions<'o> {
    /// The file of age identities, for an encrypted backup.
    pub identity: Option<&'o Path>,
    /// Only say what would change.
    pub is_dry_run: bool,
    /// Also if the data there are of another store, cannot be read, or have an audit log that the backup's does not continue.
    pub is_forced: bool,
    /// Who does it, for the audit log.
    pub actor: &'o str,
    /// When.
    pub now: Timestamp,
}

/// What a restore has changed, or would.
#[derive(Debug)]
pub struct Restored {
    /// The backup; `None` if a restore was taken back.
    pub summary: Option<Summary>,
    /// What was there before; `None` if there was nothing, or nothing that could be read.
    pub before: Option<RowStats>,
    /// What is there now.
    pub after: RowStats,
    /// What was carried over.
    pub carried: Carried,
    /// What happened to the previous audit log.
    pub old_audit: OldAudit,
    /// Whose the backup is; `None` if a restore was taken back.
    pub authenticity: Option<Authenticity>,
    /// What to be careful about, in words.
    pub cautions: Vec<String>,
    /// Where the old data are; `None` if there were none, or it was a dry run.
    pub aside: Option<PathBuf>,
    /// The data set aside that a restore was taken back to, which are still there; `None` of a restore.
    pub undone_from: Option<PathBuf>,
    /// What was done again behind a base backup; `None` of any other restore.
    pub replayed: Option<Replayed>,
}

/// Why a store was not opened, with what the system does not say of its disk and its threads.
#[must_use]
pub fn why_not_opened(error: &OpenError) -> String {
    match error {
        OpenError::Io { path, source } if source.kind() == io::ErrorKind::StorageFull => {
            format!("cannot open the store at {}: {}", path.display(), disk_room::why(path, source))
        }
        OpenError::Io { source, .. } if source.kind() == io::ErrorKind::WouldBlock => {
            format!("its threads cannot be started: {source}")
        }
        error => error.to_string(),
    }
}

/// What is said of a store that cannot be opened.
#[must_use]
pub fn opened(error: OpenError) -> Problem {
    let why = why_not_opened(&error);
    let remedy = match error {
        OpenError::InUse { .. } => {
            "Stop the server or program that uses it first (systemctl stop academy-rt.socket academy-rt.service), then run it again."
        }
        OpenError::Newer { .. } => "Use the version that wrote it, or a later one.",
        OpenError::Older { .. } => "Migrate it first with `academy-rt db upgrade`.",
        OpenError::Corrupt { .. } | OpenError::Unsound { .. } => "Restore a backup: academy-rt restore FILE.",
        OpenError::LostLink { .. } => {
            "Mount the disk that the link leads to. To begin with an empty store or to restore a backup, remove the link first."
        }
        OpenError::Io { ref source, .. } if source.kind() == io::ErrorKind::NotFound => {
            "Give the data directory of the server with --data-dir, or its configuration with --config."
        }
        OpenError::Io { ref source, .. } if source.kind() == io::ErrorKind::StorageFull => {
            "Free space on the disk of the data directory, or enlarge it."
        }
        OpenError::Io { .. } => {
            "Check that the directory exists, that this user can read it, and that it has free space."
        }
    };
    Problem::new("the store cannot be opened", why, remedy)
}

pub(super) fn stored(error: StoreError) -> Problem {
    Problem::new("the store cannot be used", error, "Check it with `academy-rt db check`.")
}

/// Holds a data directory.
///
/// # Errors
/// While a server runs in it.
pub fn hold(data_dir: &Path) -> Result<Held, Problem> {
    Held::take(data_dir).map_err(opened)
}

/// Whether a server runs in a data directory, or another command works on it.
#[must_use]
pub fn is_in_use(data_dir: &Path) -> bool {
    matches!(Held::take(data_dir), Err(OpenError::InUse { .. }))
}

/// Makes a database file of an archive that is streamed from a running server.
///
/// # Errors
/// If the stream is not whole, or the file cannot be written.
pub fn copy_rows(source: &mut dyn io::Read, path: &Path) -> Result<(), Problem> {
    let mut file = NewFile::create(path).map_err(|error| written("the file", path, &error))?;
    format::read(source, newest_format(), &mut file, &mut |_, _| {}).map(drop).map_err(|error| {
        Problem::new("the current data were not read completely", error, "Try again; the server's log may say more.")
    })
}

/// Opens the database of a held directory.
///
/// # Errors
/// Why it cannot be opened.
pub fn open(held: &Held) -> Result<OfflineFile, Problem> {
    held.open().map_err(opened)
}

/// A file in the making in the data directory. Dropped before it has taken the place, it is gone.
pub(super) struct Making(pub(super) PathBuf);

impl Making {
    pub(super) fn begin(data_dir: &Path) -> Result<Making, Problem> {
        // What takes the place of the database by a new name would take that of the link, and leave the old bytes, with what was
        // erased, where it leads.
        let current = data_dir.join(NAME);
        if let Ok(target) = fs::read_link(&current) {
            let remedy = format!(
                "Move the database to the place of the link (mv {} {}), or set storage.data_dir to a directory on the other disk that has the whole of it.",
                fs::canonicalize(&current).unwrap_or_else(|_| target.clone()).display(),
                current.display()
            );
            let what = format!("{} cannot be replaced", current.display());
            return Err(Problem::new(what, format!("it is a link to {}", target.display()), remedy));
        }
        let path = data_dir.join(UNFINISHED);
        remove_if_there(&path).map_err(|error| written("the file", &path, &error))?;
        Ok(Making(path))
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        // The next start takes it away, too.
        let _ = remove_if_there(&self.0);
    }
}

/// A directory that was made for a restore, and goes with one that failed.
struct MadeDir<'p>(Option<&'p Path>);

impl Drop for MadeDir<'_> {
    fn drop(&mut self) {
        if let Some(path) = self.0 {
            // Only if nobody has put anything into it.
            let _ = fs::remove_dir(path);
        }
    }
}

/// Restores a backup into a data directory that no server uses. Blocks.
///
/// # Errors
/// What does not fit; the data are as they were then.
pub fn restore(
    data_dir: &Path,
    backup: &Path,
    options: RestoreOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<Restored, Problem> {
    restore_in(data_dir, data_dir, backup, None, options, watch)
}

/// Restores a moment from a continuous backup, as [`restore`] restores a backup. Blocks.
///
/// # Errors
/// What does not fit; the data are as they were then.
pub fn restore_moment(
    data_dir: &Path,
    plan: &Plan,
    options: RestoreOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<Restored, Problem> {
    restore_in(data_dir, data_dir, &plan.base, Some(plan), options, watch)
}

/// Says what a restore would change while a server runs: `rows` is a directory with a copy of its database, and `data_dir` the
/// one that it runs in. Blocks.
///
/// # Errors
/// What does not fit.
pub fn rehearse(
    rows: &Path,
    data_dir: &Path,
    backup: &Path,
    plan: Option<&Plan>,
    options: RestoreOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<Restored, Problem> {
    restore_in(rows, data_dir, backup, plan, RestoreOptions { is_dry_run: true, ..options }, watch)
}

/// Restores into a directory that stands for a data directory, which has the key and is named in what is said.
fn restore_in(
    place: &Path,
    data_dir: &Path,
    backup: &Path,
    plan: Option<&Plan>,
    options: RestoreOptions<'_>,
    watch: &mut Watch<'_>,
) -> Result<Restored, Problem> {
    // What root was asked to read is read with the rights of root, and all that is done in the directory with those of its owner.
    let mut source = Source::open(backup, options.identity)?;
    let _rights = rights_in(place)?;
    let mut made_dir = MadeDir(None);
    if !place.exists() {
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(place);
        made.map_err(|error| written("the directory", place, &error))?;
        made_dir.0 = Some(place);
    }
    let held = hold(place)?;
    let old = existing(&held, options.is_forced)?;
    let before = old.as_ref().and_then(|old| old.row_stats.clone());
    let key = KeyHere::of(data_dir);
    let making = Making::begin(place)?;
    let summary = fill(&making.0, backup, &mut source, watch)?;
    let authenticity = refuse_altered(&key, &summary).map_err(|error| unusable(backup, &error))?;
    let mut cautions: Vec<String> = key.caution(&summary).into_iter().chain(key.warning).collect();
    if plan.is_some_and(|plan| plan.blake3 != summary.blake3) {
        return Err(unusable(backup, &ArchiveError::Altered));
    }
    let as_asked =
        || Rights::own().map_err(|error| Problem::new("the backup cannot be read", error, "Run the command again."));
    let identities = {
        let _rights = as_asked()?;
        options.identity.filter(|_| plan.is_some()).map(Identities::load).transpose()?
    };
    let mut replayed = None;
    let mut replay = |file: &OfflineFile| -> Result<(), Problem> {
        if let Some(old) = &old {
            file.take_names_from(&old.file).map_err(stored)?;
        }
        let Some(plan) = plan else { return Ok(()) };
        let _rights = as_asked()?;
        replayed = Some(plan.replay(file, identities.as_ref(), summary.header.created_at)?);
        Ok(())
    };
    let mut new = prove(&making.0, &summary, &mut replay, watch)?;
    cautions.extend(new.renamed_since(summary.header.format).map_err(stored)?);

    let found = new.row_stats().map_err(stored)?;
    let is_same_store = before.as_ref().is_some_and(|before| before.store_id == found.store_id);
    // A server that was just set up: nothing is lost with it but the records of its audit log, which are kept.
    let is_fresh = before.as_ref().is_some_and(RowStats::is_fresh);
    let does_replace = options.is_forced || is_fresh && !is_same_store;
    if before.is_some() && !is_same_store && !does_replace {
        return Err(Problem::new(
            "the backup is from another server",
            format!("the data in {} belong to another server than this backup", data_dir.display()),
            "Give the data directory that belongs to the backup, or add --force to replace these data with it.",
        ));
    }
    let old_epoch = before.as_ref().map_or(0, |before| before.epoch);
    let life = NewLife {
        epoch: old_epoch.max(found.epoch) + 1,
        next_id: match &before {
            Some(before) if is_same_store => before.next_id.max(found.next_id),
            _ => found.next_id + UNKNOWN_LIFE_IDS,
        },
    };
    // Before anything else: what is carried over takes ids, too.
    begin_new_life(&new, &life).map_err(stored)?;
    watch(Step::Carry);
    let mut carried = Carried::default();
    if let (Some(old), true) = (&old, is_same_store) {
        carried = match new.carry_over(&old.file, options.now) {
            Err(error) if options.is_forced => {
                cautions.push(format!("could not carry over everything: {error}"));
                Carried { is_incomplete: true, ..Carried::default() }
            }
            carried => carried.map_err(unreadable)?,
        };
    } else {
        carried.is_incomplete = held.path().exists() && !is_same_store && before.is_none();
    }
    let pending = match &old {
        Some(_) if carried.is_same_audit_log => kept_audit::nothing(),
        Some(old) => {
            let pending =
                kept_audit::keep_beside(data_dir, &old.file, options.is_dry_run || !does_replace, options.now)?;
            refuse_lost_audit_log(data_dir, pending.audit(), does_replace)?;
            pending
        }
        None if held.path().exists() => kept_audit::unreadable("the database does not open"),
        None => kept_audit::nothing(),
    };
    let mut target = format!("backup of {}", moment(summary.header.created_at));
    if let Some(replayed) = replayed {
        target.push_str(&format!(", and {} commits until {}", replayed.commits, moment(replayed.until)));
    }
    let done = AuditEntry { outcome: pending.audit().outcome(), ..entry(options, action::RESTORE, &target) };
    new.record(done).map_err(stored)?;
    let after = new.row_stats().map_err(stored)?;
    refuse_unsound(&mut new, watch)?;
    new.close().map_err(stored)?;
    let mut restored = Restored {
        summary: Some(summary),
        before,
        after,
        carried,
        old_audit: pending.audit().clone(),
        authenticity: Some(authenticity),
        cautions,
        aside: None,
        undone_from: None,
        replayed,
    };
    if options.is_dry_run {
        return Ok(restored);
    }
    drop(old);
    // Before the swap: during the swap it is unknown whether the old data are still in place, and an extra copy does no harm.
    pending.keep();
    restored.aside = swap(&held, &making.0, options.now, watch)?;
    made_dir.0 = None;
    Ok(restored)
}

/// Refuses a restore that would lose the audit log, unless it is forced.
fn refuse_lost_audit_log(data_dir: &Path, audit: &OldAudit, is_forced: bool) -> Result<(), Problem> {
    let why = match audit {
        _ if is_forced => return Ok(()),
        OldAudit::CarriedOver => return Ok(()),
        OldAudit::Kept(kept) => format!(
            "the backup is of this store, but its audit log does not contain the one in {}, which has {} records (the last is {})",
            data_dir.display(),
            kept.records,
            kept.head,
        ),
        OldAudit::Unreadable(why) => format!("the audit log in {} cannot be read: {why}", data_dir.display()),
    };
    Err(Problem::new(
        "the restore would drop the current audit log",
        why,
        "Find out which of the two audit logs is the right one (academy-rt audit list). To restore anyway, add --force: the current audit log is then kept in a file beside the data.",
    ))
}

pub(super) fn entry(options: RestoreOptions<'_>, action: &str, target: &str) -> AuditEntry {
    AuditEntry {
        at: options.now,
        actor: options.actor.to_owned(),
        origin: "command line".to_owned(),
        action: action.to_owned(),
        target: target.to_owned(),
        outcome: "done".to_owned(),
    }
}

/// What a restore finds in a data directory.
struct Existing {
    file: OfflineFile,
    /// What it holds; `None` if its rows make no sense.
    row_stats: Option<RowStats>,
}

/// What is there now. Data that cannot be read may hold erasures that nobody could carry over.
fn existing(held: &Held, is_forced: bool) -> Result<Option<Existing>, Problem> {
    let file = match held.open() {
        Ok(file) => file,
        Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(OpenError::Corrupt { .. }) if is_forced => return Ok(None),
        Err(OpenError::Corrupt { reason, .. }) => return Err(unreadable(reason)),
        Err(error) => return Err(opened(error)),
    };
    match file.row_stats() {
        Ok(row_stats) => Ok(Some(Existing { file, row_stats: Some(row_stats) })),
        Err(_) if is_forced => Ok(Some(Existing { file, row_stats: None })),
        Err(error) => Err(unreadable(error)),
    }
}

fn unreadable(why: impl std::fmt::Display) -> Problem {
    Problem::new(
        "the current data cannot be read",
        format!("{why}; so the erasures and legal holds since the backup are unknown"),
        "Add --force. After the restore, repeat the erasures and legal holds since the backup.",
    )
}

/// Makes the new file of what the backup holds.
fn fill(path: &Path, backup: &Path, source: &mut Source, watch: &mut Watch<'_>) -> Result<Summary, Problem> {
    let mut file = NewFile::create(path).map_err(|error| written("the file", path, &error))?;
    let mut progress = |done, all| watch(Step::Rows(done, all));
    let mut kept = Kept { sink: &mut file, error: None };
    let read = format::read(source, newest_format(), &mut kept, &mut progress);
    match (read, kept.error) {
        (Ok(summary), _) => Ok(summary),
        (Err(_), Some(error)) => Err(written("the file", path, &error)),
        (Err(error), None) => Err(unusable(backup, &error)),
    }
}

/// Keeps the sink's own errors apart from those of the backup.
struct Kept<'s> {
    sink: &'s mut dyn RowSink,
    error: Option<io::Error>,
}

impl Kept<'_> {
    fn keep(&mut self, result: io::Result<()>) -> io::Result<()> {
        result.map_err(|error| {
            let copy = io::Error::new(error.kind(), error.to_string());
            self.error = Some(error);
            copy
        })
    }
}

impl RowSink for Kept<'_> {
    fn begin(&mut self, preface: &crate::store::rows::Preface) -> io::Result<()> {
        let result = self.sink.begin(preface);
        self.keep(result)
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        let result = self.sink.row(table, key, value);
        self.keep(result)
    }

    fn end(&mut self) -> io::Result<()> {
        let result = self.sink.end();
        self.keep(result)
    }
}

/// Opens a new file, and shows that it holds what the backup says, in this version's format.
/// What followed it is done again in between.
fn prove(
    path: &Path,
    summary: &Summary,
    replay: &mut dyn FnMut(&OfflineFile) -> Result<(), Problem>,
    watch: &mut Watch<'_>,
) -> Result<OfflineFile, Problem> {
    let mut file = OfflineFile::open(path).map_err(opened)?;
    watch(Step::Compare);
    compare(&file, &summary.tables)?;
    replay(&file)?;
    if file.format < newest_format() {
        watch(Step::Migrate);
        migrate::migrate(&mut file, &mut |_| {}).map_err(stored)?;
    }
    refuse_unsound(&mut file, watch)?;
    Ok(file)
}

pub(super) fn compare(file: &OfflineFile, expected: &[TableSum]) -> Result<(), Problem> {
    let mut digests = Digests::default();
    file.send_rows(&mut digests).map_err(stored)?;
    let sums: Vec<TableSum> = digests.finish().iter().map(TableSum::from).collect();
    if sums == expected {
        return Ok(());
    }
    Err(Problem::new(
        "the new file differs from its source",
        "rows or hashes are different",
        "Check the disk. Nothing has been changed.",
    ))
}

pub(super) fn refuse_unsound(file: &mut OfflineFile, watch: &mut Watch<'_>) -> Result<(), Problem> {
    watch(Step::Check);
    let found = file.check(&mut |_| {});
    let Some(first) = found.first() else { return Ok(()) };
    let why =
        format!("{first}{}", if found.len() > 1 { format!(", and {} more", found.len() - 1) } else { String::new() });
    Err(Problem::new("the data are inconsistent", why, "Use another backup. Nothing has been changed."))
}

/// Gives the old file a second name and the new one the first. At any moment the name leads to a whole file.
pub(super) fn swap(held: &Held, new: &Path, now: Timestamp, watch: &mut Watch<'_>) -> Result<Option<PathBuf>, Problem> {
    let path = held.path();
    let failed = |error: io::Error| written("the directory", held.data_dir(), &error);
    watch(Step::SetAside);
    // The name that the old data get, and the one that they have until the new ones are in place.
    let names = match path.exists() {
        true => Some(second_name(&path, free_name(held.data_dir(), now).map_err(failed)?).map_err(failed)?),
        false => None,
    };
    watch(Step::Swap);
    if let Err(error) = fs::rename(new, &path) {
        if let Some((_, current)) = &names {
            // The old data have their first name still.
            let _ = fs::remove_file(current);
        }
        return Err(failed(error));
    }
    sync_parent(&path).map_err(failed)?;
    if let Some((aside, current)) = &names
        && aside != current
    {
        // Where this is cut off, the next start does it.
        fs::rename(current, aside).map_err(failed)?;
        sync_parent(&path).map_err(failed)?;
    }
    let aside = names.map(|(aside, _)| aside);
    // What was suspect is aside now.
    let _ = remove_if_there(&held.data_dir().join(SUSPECT));
    watch(Step::Done);
    Ok(aside)
}

/// Gives the data a second name, or a copy where the file system has no hard links. Gives the name that they are to have, and
/// the one that they have: a copy has another one until the new data are in place, so that a cut leaves none that looks as if
/// it had been set aside ([`forget_second_names`](crate::store::embedded::offline::rows::Held::take) looks after it).
fn second_name(path: &Path, aside: PathBuf) -> io::Result<(PathBuf, PathBuf)> {
    let current = match link(path, &aside) {
        Err(error) if is_missing(&error) => {
            let name = aside.file_name().unwrap_or_default().to_string_lossy();
            let copied = path.with_file_name(format!("{COPIED}{}", name.strip_prefix(ASIDE).unwrap_or_default()));
            copy(&mut File::open(path)?, &copied)?;
            copied
        }
        linked => linked.map(|()| aside.clone())?,
    };
    sync_parent(path)?;
    Ok((aside, current))
}

/// A name behind all that are there, even if the clock has been set back: the last of them is what was set aside last.
fn free_name(data_dir: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let last = set_aside(data_dir)?.last().map(|last| order(last));
    let name = match last {
        Some((moment, number)) if moment >= stamp(now) => format!("{ASIDE}{moment}-{}", number + 1),
        _ => format!("{ASIDE}{}", stamp(now)),
    };
    Ok(data_dir.join(name))
}

/// What the names of data that were set aside are sorted by: the moment, and the number behind it.
fn order(path: &Path) -> (String, u64) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let rest = name.strip_prefix(ASIDE).unwrap_or_default();
    let (moment, number) = rest.split_once('-').unwrap_or((rest, "1"));
    (moment.to_owned(), number.parse().unwrap_or(1))
}

/// The data that restores have set aside, newest last.
///
/// # Errors
/// If the directory cannot be read.
pub fn set_aside(data_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(ASIDE) {
            found.push(entry.path());
        }
    }
    found.sort_by_key(|path| order(path));
    Ok(found)
}

pub(super) struct Both<'b>(pub(super) &'b mut dyn RowSink, pub(super) &'b mut dyn RowSink);

impl RowSink for Both<'_> {
    fn begin(&mut self, preface: &crate::store::rows::Preface) -> io::Result<()> {
        self.0.begin(preface)?;
        self.1.begin(preface)
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.row(table, key, value)?;
        self.1.row(table, key, value)
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.end()?;
        self.1.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::archive::files::LACKS_LINKS;

    /// A data directory with a database of some bytes, and a new one beside it.
    fn two() -> (tempfile::TempDir, PathBuf, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let (path, new) = (dir.path().join("academy.redb"), dir.path().join(UNFINISHED));
        fs::write(&path, "old").unwrap();
        fs::write(&new, "new").unwrap();
        (dir, path, new)
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn without_hard_links_the_old_data_are_copied_and_a_cut_leaves_no_copy_that_looks_like_a_restore() {
        const AT: &str = "academy.redb.before-19700101T000001Z";
        LACKS_LINKS.set(true);
        // Cut before the swap, and behind it.
        for (cut, left, content) in
            [(Step::Swap, vec!["academy.redb", UNFINISHED], "old"), (Step::Done, vec!["academy.redb", AT], "new")]
        {
            let (dir, path, new) = two();
            let held = hold(dir.path()).unwrap();
            let cut_at = |step: Step| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    swap(&held, &new, Timestamp(1_000), &mut |now| {
                        if now == step {
                            std::panic::resume_unwind(Box::new(()))
                        }
                    })
                }))
            };
            assert!(cut_at(cut).is_err());
            drop(held);
            drop(hold(dir.path()).unwrap());
            assert_eq!(
                (names(dir.path()), fs::read_to_string(&path).unwrap()),
                (left.iter().map(|name| (*name).to_owned()).collect(), content.to_owned())
            );
        }
        // Between the swap and the last name.
        let (dir, path, new) = two();
        fs::write(dir.path().join(AT.replace(ASIDE, COPIED)), "old").unwrap();
        fs::rename(&new, &path).unwrap();
        drop(hold(dir.path()).unwrap());
        assert_eq!(
            (names(dir.path()), fs::read_to_string(dir.path().join(AT)).unwrap()),
            (vec!["academy.redb".to_owned(), AT.to_owned()], "old".to_owned())
        );
        LACKS_LINKS.set(false);
    }
}
