//! `backup`: one file of all data, the server running or not; `backup verify`: whether one is whole and whose it is, and how
//! long a restore of it would take.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::archive::ArchiveError;
use crate::archive::authenticity::{Authenticity, KeyHere};
use crate::archive::backup;
use crate::archive::backup::{Made, Recipients};
use crate::archive::format::Summary;
use crate::archive::restore;
use crate::archive::restore::{RestoreOptions, Step};
use crate::domain::{Clock, SystemClock, Timestamp};
use crate::store::embedded::offline::rows::newest_format;

use crate::cli::client::{Call, ServerArgs, call, download};
use crate::cli::data_dir_flag;
use crate::cli::exit::{Exit, Failure, warn};
use crate::cli::progress_bar::{rows, show, size};
use crate::cli::{Global, Output};

/// How much the command steps back behind everything else.
const POLITE: i32 = 10;

/// What is made, and where it goes.
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
    /// Read a backup to its end and say whether it is whole, and whose it is.
    ///
    /// A backup is authentic if it was signed with the key of this data directory (backup.key) and is as it was made. One that
    /// another key has signed is not ours, and one without a signature is not signed: both may be good, and are warned of. One
    /// that was altered is refused.
    Verify(VerifyArgs),
}

/// Which backup.
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
    /// Where the data of the server are, with the key of its backups
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
        warn(&format!(
            "the backup is good, but the audit trail has no record of it, and its age will not be shown by status and /metrics: {error}"
        ))?;
    }
    if made.summary.mac.is_none() {
        warn(&unsigned(global, &args.server))?;
    }
    let head = made.summary.header.audit_head.as_ref();
    let key_id = made.summary.mac.as_ref().map(|mac| &mac.key_id);
    let answer = json!({
        "file": made.path, "bytes": made.file_bytes, "rows": made.summary.header.rows, "seconds": seconds,
        "blake3": made.summary.blake3, "removed": removed, "ok": true, "keyId": key_id, "auditHead": head,
    });
    global.print(&answer, || {
        let name = made.path.display();
        let mut text =
            format!("backup {name}: {}, {} rows, {seconds:.1} s", size(made.file_bytes), made.summary.header.rows);
        if !removed.is_empty() {
            text.push_str(&format!("; {} older removed", removed.len()));
        }
        if let Some(head) = head {
            text.push_str(&format!("\nthe audit trail in it ends with record {head}"));
        }
        text
    })?;
    Ok(Exit::Done)
}

/// Why a backup has no signature, as far as it is known on this side.
fn unsigned(global: &Global, server: &ServerArgs) -> String {
    let is_here = server.url().is_none();
    let config = data_dir_flag(server.data_dir()).ok().and_then(|flags| global.load(flags).ok()).filter(|_| is_here);
    let why = config.and_then(|config| KeyHere::of(&config.storage.data_dir).warning);
    let why = why.unwrap_or_else(|| "the server's log says why, if it is of this version".to_owned());
    format!("the backup is good, and not signed: {why}")
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
    let here = key_here(global, args.data_dir.as_deref())?;
    let bar = rows(global, "verify");
    let mut progress = |done, all| show(&bar, done, all);
    let examined = backup::examine(&args.file, identity, newest_format(), &mut progress);
    bar.finish_and_clear();
    let summary = match examined {
        Ok(summary) if here.judge(&summary) == Authenticity::Altered => {
            return refused(global, backup::unusable(&args.file, &ArchiveError::Altered).into());
        }
        Err(rejected) if rejected.is_altered => return refused(global, rejected.finding.into()),
        Err(rejected) => return Err(Failure::from(rejected.finding).into()),
        Ok(summary) => summary,
    };
    for caution in here.caution(&summary).iter().chain(&here.warning) {
        warn(caution)?;
    }
    if args.drill {
        return drill(global, &args.file, identity, &here);
    }
    global.print(&as_json(&summary, &here), || as_text(&args.file, &summary, &here))?;
    Ok(Exit::Done)
}

/// The key that backups are judged with. A configuration that cannot be read is no reason not to read a backup.
fn key_here(global: &Global, data_dir: Option<&Path>) -> anyhow::Result<KeyHere> {
    if let Some(data_dir) = data_dir {
        return Ok(KeyHere::of(data_dir));
    }
    match global.load(Vec::new()) {
        Ok(config) => Ok(KeyHere::of(&config.storage.data_dir)),
        Err(error) => {
            warn(&format!("{error}: the key of backups is not looked for; give --data-dir"))?;
            Ok(KeyHere::default())
        }
    }
}

/// A program is told on standard output what people are told as an error.
fn refused(global: &Global, failure: Failure) -> anyhow::Result<Exit> {
    if global.output == Output::Json {
        let answer = json!({ "ok": false, "authenticity": Authenticity::Altered, "problem": failure.problem.why });
        global.print(&answer, String::new)?;
    }
    Err(failure.into())
}

fn as_json(summary: &Summary, here: &KeyHere) -> Value {
    json!({
        "ok": true, "header": summary.header, "tables": summary.tables, "blake3": summary.blake3,
        "authenticity": here.judge(summary), "keyId": summary.mac.as_ref().map(|mac| &mac.key_id),
    })
}

fn as_text(file: &Path, summary: &Summary, here: &KeyHere) -> String {
    let header = &summary.header;
    let whose = here.judge(summary).as_str();
    let key = summary.mac.as_ref().map(|mac| format!(" (key {})", mac.key_id)).unwrap_or_default();
    let head = header.audit_head.as_ref().map_or_else(|| "not said".to_owned(), ToString::to_string);
    format!(
        "{} is whole\n  signature   {whose}{key}\n  made        {} by academy-rt {} (format {})\n  holds       {} messages, {} lessons, {} notifications, {} people\n  rows        {} ({} unpacked)\n  audit head  {head}\n  BLAKE3      {}",
        file.display(),
        crate::archive::moments::moment(header.created_at),
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
fn drill(global: &Global, file: &Path, identity: Option<&Path>, here: &KeyHere) -> anyhow::Result<Exit> {
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
    let mut answer = as_json(summary, here);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("restoreSeconds".to_owned(), json!(seconds));
        answer.insert("databaseBytes".to_owned(), json!(bytes));
    }
    global.print(&answer, || {
        format!(
            "{}\nthe drill went well: restored, opened, counted and checked; a restore takes about {seconds:.1} s here and {} of disk",
            as_text(file, summary, here),
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
