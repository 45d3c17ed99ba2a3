//! `backup`: one file of all data, the server running or not; `backup verify`: whether one is whole, and how long a restore
//! of it would take.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::domain::{Clock, SystemClock, Timestamp};
use crate::ops::archive::Summary;
use crate::ops::backup::{self, Made, Recipients};
use crate::ops::restore::{self, RestoreOptions, Step};
use crate::store::embedded::rows::newest_format;

use super::Global;
use super::client::{Call, ServerArgs, call, download};
use super::exit::{Exit, Failure, warn};
use super::progress::{rows, show, size};

/// How much the command steps back behind everything else.
const POLITE: i32 = 10;

/// Make a backup: one consistent file with checksums, of the running server or of the data directory.
///
/// The file is made with the mode 0600, synced and read back; it is there whole or not at all. The server goes on meanwhile.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArgs {
    /// What to do instead
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// Where the backup goes; nothing is overwritten
    #[arg(required_unless_present = "to")]
    file: Option<PathBuf>,
    /// Directory for a backup that is named by its time
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    to: Option<PathBuf>,
    /// How many backups of --to are kept; older ones are removed
    #[arg(long, value_name = "N", requires = "to", conflicts_with = "file", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Encrypt for an age recipient (age1...); may be given several times
    #[arg(long, value_name = "KEY")]
    recipient: Vec<String>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// What else there is to do with backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Read a backup to its end and say whether it is whole
    Verify(VerifyArgs),
}

/// Read a backup to its end and say whether it is whole.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The backup
    file: PathBuf,
    /// File of age identities, for an encrypted backup
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Restore it into a temporary directory, check everything, and say how long a restore takes
    #[arg(long)]
    drill: bool,
}

/// Makes or verifies a backup.
///
/// # Errors
/// What did not work; nothing is left behind then.
pub fn run(global: &Global, args: BackupArgs) -> anyhow::Result<Exit> {
    match args.command {
        Some(BackupCommand::Verify(args)) => verify(global, &args),
        None => make(global, args),
    }
}

fn make(global: &Global, args: BackupArgs) -> anyhow::Result<Exit> {
    let recipients = Recipients::parse(&args.recipient).map_err(Failure::from)?;
    let path = match (&args.file, &args.to) {
        (Some(file), _) => file.clone(),
        (None, Some(dir)) => dir.join(backup::scheduled_name(SystemClock.now())),
        (None, None) => {
            return Err(Failure::usage("no file is named", "FILE or --to DIR is needed", "Name one.").into());
        }
    };
    // Beside a server that works at its limit this takes longer, and not the server.
    let _ = rustix::process::nice(POLITE);
    let bar = rows(global, "backup");
    let (target, shown) = (path.clone(), bar.clone());
    let begun = Instant::now();
    let get = Call::new(Method::GET, "/api/v1/admin/backup", None).offline_too().patient();
    let made = download(global, &args.server, get, move |source| {
        let mut progress = |done, all| show(&shown, done, all);
        let made = backup::receive(source, &target, &recipients, newest_format(), &mut progress);
        made.map_err(|finding| Failure::from(finding).into())
    });
    bar.finish_and_clear();
    let made = made?;
    let seconds = begun.elapsed().as_secs_f64();
    let removed = match (&args.to, args.keep) {
        (Some(dir), Some(keep)) => backup::prune(dir, keep as usize).map_err(Failure::from)?,
        _ => Vec::new(),
    };
    if let Err(error) = note(global, &args.server, &made) {
        // It is good all the same: a full disk of the server must not make it a failure.
        warn(&format!("the backup is good, but its age will not be shown by status and /metrics: {error}"))?;
    }
    let answer = json!({
        "file": made.path, "bytes": made.file_bytes, "rows": made.summary.header.rows, "seconds": seconds,
        "blake3": made.summary.blake3, "removed": removed, "ok": true,
    });
    global.print(&answer, || {
        let name = made.path.display();
        let mut text =
            format!("backup {name}: {}, {} rows, {seconds:.1} s", size(made.file_bytes), made.summary.header.rows);
        if !removed.is_empty() {
            text.push_str(&format!("; {} older removed", removed.len()));
        }
        text
    })?;
    Ok(Exit::Done)
}

/// The store knows its last good backup: `status` and `/metrics` tell its age.
fn note(global: &Global, server: &ServerArgs, made: &Made) -> anyhow::Result<()> {
    let name = made.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let body = json!({ "bytes": made.file_bytes, "name": name });
    let post = Call::new(Method::POST, "/api/v1/admin/backup", Some(body)).offline_too();
    call(global, server, post).map(|_| ())
}

fn verify(global: &Global, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let identity = args.identity.as_deref();
    if args.drill {
        return drill(global, &args.file, identity);
    }
    let bar = rows(global, "verify");
    let mut progress = |done, all| show(&bar, done, all);
    let summary = backup::verify(&args.file, identity, newest_format(), &mut progress);
    bar.finish_and_clear();
    let summary = summary.map_err(Failure::from)?;
    global.print(&as_json(&summary), || as_text(&args.file, &summary))?;
    Ok(Exit::Done)
}

fn as_json(summary: &Summary) -> Value {
    json!({ "ok": true, "header": summary.header, "tables": summary.tables, "blake3": summary.blake3 })
}

fn as_text(file: &Path, summary: &Summary) -> String {
    let header = &summary.header;
    format!(
        "{} is whole\n  made        {} by academy-rt {} (format {})\n  holds       {} messages, {} lessons, {} notifications, {} people\n  rows        {} ({} unpacked)\n  BLAKE3      {}",
        file.display(),
        backup::moment(header.created_at),
        header.application,
        header.format,
        summary.rows_of("messages"),
        summary.rows_of("progress"),
        summary.rows_of("notifications"),
        summary.rows_of("users"),
        header.rows,
        size(summary.row_bytes()),
        summary.blake3,
    )
}

/// A restore into a directory of its own, thrown away afterwards.
fn drill(global: &Global, file: &Path, identity: Option<&Path>) -> anyhow::Result<Exit> {
    let dir = DrillDir::make(SystemClock.now())?;
    let bar = rows(global, "drill");
    let begun = Instant::now();
    let options =
        RestoreOptions { identity, is_dry_run: false, is_forced: false, actor: "drill", now: SystemClock.now() };
    let outcome = restore::restore(&dir.0, file, options, &mut |step| {
        if let Step::Rows(done, all) = step {
            show(&bar, done, all);
        }
    });
    bar.finish_and_clear();
    let restored = outcome.map_err(Failure::from)?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(dir.0.join(crate::store::embedded::NAME)).map_or(0, |file| file.len());
    let Some(summary) = &restored.summary else { anyhow::bail!("the drill restored nothing") };
    let mut answer = as_json(summary);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("restoreSeconds".to_owned(), json!(seconds));
        answer.insert("databaseBytes".to_owned(), json!(bytes));
    }
    global.print(&answer, || {
        format!(
            "{}\nthe drill went well: restored, opened, counted and checked; a restore takes about {seconds:.1} s here and {} of disk",
            as_text(file, summary),
            size(bytes),
        )
    })?;
    Ok(Exit::Done)
}

/// A directory that goes with its value.
struct DrillDir(PathBuf);

impl DrillDir {
    fn make(now: Timestamp) -> Result<DrillDir, Failure> {
        use std::os::unix::fs::DirBuilderExt;
        let path = std::env::temp_dir().join(format!("academy-rt-drill-{}-{}", std::process::id(), now.as_millis()));
        std::fs::DirBuilder::new().mode(0o700).create(&path).map_err(|error| {
            let remedy = "Name a directory with room for the database in the environment variable TMPDIR.";
            Failure::new(format!("the directory {} cannot be made", path.display()), error, remedy)
        })?;
        Ok(DrillDir(path))
    }
}

impl Drop for DrillDir {
    fn drop(&mut self) {
        // What cannot be removed lies in the directory for temporary files.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
