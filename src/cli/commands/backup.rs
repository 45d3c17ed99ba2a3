//! `backup`: writes all data to one file, whether the server runs or not. `backup verify`: checks that a backup is complete,
//! who signed it, and how long a restore takes.

use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::archive::ArchiveError;
use crate::archive::authenticity::{Authenticity, KeyHere};
use crate::archive::backup;
use crate::archive::backup::{Made, Recipients};
use crate::archive::continuous::timeline::{Chain, Timeline};
use crate::archive::format::Summary;
use crate::archive::moments::moment;
use crate::archive::restore;
use crate::archive::restore::{RestoreOptions, Step};
use crate::archive::retention;
use crate::archive::retention::Pruned;
use crate::domain::audit::action;
use crate::domain::{Clock, SystemClock};
use crate::store::embedded::offline::rows::newest_format;

use crate::cli::Global;
use crate::cli::client::{Call, Place, ServerArgs, call, download, report};
use crate::cli::data_dir_flag;
use crate::cli::exit::{Exit, Failure, warn};
use crate::cli::progress_bar::{rows, show, size};
use crate::cli::read_only::Workable;
use crate::cli::scratch::Scratch;

/// The nice value of the command: other processes go first.
const POLITE: i32 = 10;

/// Which backup, and where it goes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct BackupArgs {
    /// Another command for backups
    #[command(subcommand)]
    command: Option<BackupCommand>,
    /// File for the backup, which must not exist yet
    #[arg(required_unless_present = "to")]
    file: Option<PathBuf>,
    /// Directory for the backup, whose file name contains the time
    #[arg(long, value_name = "DIR", conflicts_with = "file")]
    to: Option<PathBuf>,
    /// Number of backups of this server to keep in the directory of --to; older ones that --to made are removed
    #[arg(long, value_name = "N", requires = "to", conflicts_with = "file", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Encrypt the backup for an age recipient (age1...); may be given several times
    #[arg(long, value_name = "KEY")]
    recipient: Vec<String>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Other commands for backups.
#[derive(Debug, Subcommand)]
pub enum BackupCommand {
    /// Verify that a backup is complete and authentic.
    ///
    /// A backup is authentic if it was signed with the key of this data directory (backup.key) and was not changed since. If it
    /// was signed with another key ("not ours") or not at all ("not signed"), it may still be good, and the command warns. If it
    /// was altered, the command fails.
    Verify(VerifyArgs),
}

/// Which backup.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// File of the backup, or directory of a continuous backup
    file: PathBuf,
    /// File with age identities, for an encrypted backup
    #[arg(long, value_name = "FILE")]
    identity: Option<PathBuf>,
    /// Also restore the backup into a temporary directory, check it, and say how long that takes
    #[arg(long)]
    drill: bool,
    /// Data directory of the server, which contains the key of its backups
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Creates or verifies a backup.
///
/// # Errors
/// If the backup cannot be written or is not good. A backup that fails leaves no file.
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
        (None, Some(dir)) => retention::scheduled_path(dir, SystemClock.now()),
        (None, None) => {
            return Err(Failure::usage(
                "the file for the backup is not named",
                "FILE or --to DIR is missing",
                "Add one of them.",
            )
            .into());
        }
    };
    // Beside a busy server the backup takes longer; the server does not get slower.
    let _ = rustix::process::nice(POLITE);
    let copy = read_only(global, &args.server)?;
    let server = copy.as_ref().map_or_else(|| args.server.clone(), |copy| ServerArgs::here(copy.path()));
    let bar = rows(global, "backup");
    let (target, shown) = (path.clone(), bar.clone());
    let begun = Instant::now();
    let get = Call::new(Method::GET, "/api/v1/admin/backup", None).offline_too().patient();
    let place = Place::new(global, &args.server, &path);
    let to_prune = place.clone();
    let made = download(global, &server, get, move |source| {
        let _rights = place.rights()?;
        let mut progress = |done, all| show(&shown, done, all);
        let made = backup::receive(source, &target, &recipients, newest_format(), &mut progress);
        made.map_err(|problem| Failure::from(problem).into())
    });
    bar.finish_and_clear();
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            let target = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            report(global, &args.server, action::BACKUP, &target, &format!("failed: {error}"))?;
            return Err(error);
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    if copy.is_some() {
        warn("the backup is good, but the audit log of read-only data has no record of it")?;
    } else if let Err(error) = note(global, &args.server, &made) {
        // The backup is good: a full disk of the server does not make it fail.
        warn(&format!(
            "the backup is good, but the audit log has no record of it, and status and /metrics do not show its age: {error}"
        ))?;
    }
    // Behind the note: whatever becomes of the old backups, this one is good.
    let pruned = {
        let _rights = to_prune.rights()?;
        args.keep.map(|keep| retention::prune(&made, keep as usize)).unwrap_or_default()
    };
    warn_of_kept(&pruned)?;
    if made.summary.mac.is_none() {
        warn(&unsigned(global, &server))?;
    }
    let head = made.summary.header.audit_head.as_ref();
    let prune_problem = pruned.problem.as_ref().map(|problem| format!("{}: {}", problem.what, problem.why));
    let removed = &pruned.removed;
    let key_id = made.summary.mac.as_ref().map(|mac| &mac.key_id);
    let answer = json!({
        "file": made.path.display().to_string(), "bytes": made.file_bytes, "rows": made.summary.header.rows, "seconds": seconds,
        "blake3": made.summary.blake3, "removed": removed, "ok": true, "keyId": key_id, "auditHead": head,
        "pruneProblem": prune_problem, "notPruned": pruned.later.iter().chain(&pruned.unknown).collect::<Vec<_>>(),
    });
    global.print(&answer, || {
        let name = made.path.display();
        let mut text =
            format!("backup {name}: {}, {} rows, {seconds:.1} s", size(made.file_bytes), made.summary.header.rows);
        if !removed.is_empty() {
            text.push_str(&format!("; {} older removed", removed.len()));
        }
        if let Some(head) = head {
            text.push_str(&format!("\nits audit log ends with record {head}"));
        }
        text
    })?;
    Ok(Exit::Done)
}

/// A copy of the data, if they are on this machine and read-only.
fn read_only(global: &Global, server: &ServerArgs) -> anyhow::Result<Option<Workable>> {
    if server.url().is_some() {
        return Ok(None);
    }
    let (config, wrong) = global.load_to_ask(data_dir_flag(server.data_dir())?)?;
    if config.control_socket().exists() {
        return Ok(None);
    }
    if let Some(wrong) = wrong {
        return Err(wrong.into());
    }
    let data =
        Workable::of(&config.storage.data_dir, "a copy of it is backed up, in the directory for temporary files")?;
    Ok(Some(data).filter(Workable::is_copy))
}

/// Says which old backups are not removed, and why.
fn warn_of_kept(pruned: &Pruned) -> anyhow::Result<()> {
    if let Some(problem) = &pruned.problem {
        warn(&format!("the backup is good, but {}: {}", problem.what, problem.why))?;
    }
    let names = |paths: &[PathBuf]| {
        let names: Vec<_> =
            paths.iter().filter_map(|path| path.file_name()).map(|name| name.to_string_lossy()).collect();
        names.join(", ")
    };
    if !pruned.later.is_empty() {
        warn(&format!(
            "--keep does not count backups that say they were made after this one; check the clock, and remove them by hand if they are wrong: {}",
            names(&pruned.later)
        ))?;
    }
    if !pruned.unknown.is_empty() {
        warn(&format!(
            "--keep counts backups of academy-rt alone, and these do not say that they are; remove them by hand if you do not need them: {}",
            names(&pruned.unknown)
        ))?;
    }
    Ok(())
}

/// Why a backup has no signature, as far as this command can find out.
fn unsigned(global: &Global, server: &ServerArgs) -> String {
    let is_here = server.url().is_none();
    let config = data_dir_flag(server.data_dir()).ok().and_then(|flags| global.load(flags).ok()).filter(|_| is_here);
    let why = config.and_then(|config| KeyHere::of(&config.storage.data_dir).warning);
    let why = why.unwrap_or_else(|| "the log of the server says why".to_owned());
    format!("the backup is good, but not signed: {why}")
}

/// Records a good backup in the store, so that `status` and `/metrics` show its age.
fn note(global: &Global, server: &ServerArgs, made: &Made) -> anyhow::Result<()> {
    let name = made.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let body = json!({ "bytes": made.file_bytes, "name": name });
    let post = Call::new(Method::POST, "/api/v1/admin/backup", Some(body)).offline_too();
    call(global, server, post).map(|_| ())
}

fn verify(global: &Global, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let identity = args.identity.as_deref();
    let here = key_here(global, args.data_dir.as_deref())?;
    if args.file.is_dir() {
        return verify_continuous(global, args, &here);
    }
    let bar = rows(global, "verify");
    let mut progress = |done, all| show(&bar, done, all);
    let examined = backup::examine(&args.file, identity, newest_format(), &mut progress);
    bar.finish_and_clear();
    let summary = match examined {
        Ok(summary) if here.judge(&summary) == Authenticity::Altered => {
            return refused(backup::unusable(&args.file, &ArchiveError::Altered).into());
        }
        Err(rejected) if rejected.is_altered => return refused(rejected.problem.into()),
        Err(rejected) => return Err(Failure::from(rejected.problem).into()),
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

/// The key that verifies backups. A backup can be verified without it if the configuration cannot be read.
fn key_here(global: &Global, data_dir: Option<&Path>) -> anyhow::Result<KeyHere> {
    if let Some(data_dir) = data_dir {
        return Ok(KeyHere::of(data_dir));
    }
    match global.load(Vec::new()) {
        Ok(config) => Ok(KeyHere::of(&config.storage.data_dir)),
        Err(error) => {
            warn(&format!("{error}: cannot look for the backup key; give --data-dir"))?;
            Ok(KeyHere::default())
        }
    }
}

/// An altered backup is an error, whose JSON says what it is.
fn refused(failure: Failure) -> anyhow::Result<Exit> {
    Err(failure.with_field("authenticity", json!(Authenticity::Altered)).into())
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
    let head = header.audit_head.as_ref().map_or_else(|| "unknown".to_owned(), ToString::to_string);
    format!(
        "{} is complete\n  signature   {whose}{key}\n  created     {} by academy-rt {} (format {})\n  contents    {} messages, {} lessons, {} notifications, {} users\n  rows        {} ({} unpacked)\n  audit head  {head}\n  BLAKE3      {}",
        file.display(),
        moment(header.created_at),
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

/// Verifies a continuous backup: every checksum of its segments, and with a drill a restore of its last moment.
fn verify_continuous(global: &Global, args: &VerifyArgs, here: &KeyHere) -> anyhow::Result<Exit> {
    let timeline = Timeline::read(&args.file).map_err(Failure::from)?;
    let reaches: Vec<_> = timeline.chains.iter().filter_map(Chain::reach).collect();
    let torn: Vec<&String> = timeline.chains.iter().filter_map(|chain| chain.torn.as_ref()).collect();
    let plan = timeline.plan(None).map_err(Failure::from)?;
    for problem in &torn {
        warn(&format!("a part of the continuous backup ends early, as after a crash: {problem}"))?;
    }
    let mut answer = json!({
        "ok": true, "torn": torn,
        "ranges": reaches.iter().map(|(from, to)| json!({ "from": from, "to": to })).collect::<Vec<_>>(),
    });
    let mut lines = vec![format!("{} leads back to:", args.file.display())];
    lines.extend(reaches.iter().map(|(from, to)| format!("  {} to {}", moment(*from), moment(*to))));
    if args.drill {
        let dir = Scratch::make("drill")?;
        let begun = Instant::now();
        let options = drill_options(args.identity.as_deref());
        let restored = restore::restore_moment(dir.path(), &plan, options, &mut |_| {}).map_err(Failure::from)?;
        let seconds = begun.elapsed().as_secs_f64();
        let until = restored.replayed.map(|replayed| replayed.until);
        let whose = restored.summary.as_ref().map(|summary| here.judge(summary));
        if whose == Some(Authenticity::Altered) {
            return refused(backup::unusable(&plan.base, &ArchiveError::Altered).into());
        }
        if let Some(answer) = answer.as_object_mut() {
            answer.insert("restoreSeconds".to_owned(), json!(seconds));
            answer.insert("until".to_owned(), json!(until));
            answer.insert("messages".to_owned(), json!(restored.after.rows_of("messages")));
        }
        let until = until.map(moment).unwrap_or_default();
        lines.push(format!(
            "the trial restore of {until} was successful; it takes about {seconds:.1} s on this machine"
        ));
    }
    global.print(&answer, || lines.join("\n"))?;
    Ok(Exit::Done)
}

fn drill_options(identity: Option<&Path>) -> RestoreOptions<'_> {
    RestoreOptions { identity, is_dry_run: false, is_forced: false, actor: "drill", now: SystemClock.now() }
}

/// A restore into a temporary directory, which is removed afterwards.
fn drill(global: &Global, file: &Path, identity: Option<&Path>, here: &KeyHere) -> anyhow::Result<Exit> {
    let dir = Scratch::make("drill")?;
    let bar = rows(global, "drill");
    let begun = Instant::now();
    let options = drill_options(identity);
    let outcome = restore::restore(dir.path(), file, options, &mut |step| {
        if let Step::Rows(done, all) = step {
            show(&bar, done, all);
        }
    });
    bar.finish_and_clear();
    let restored = outcome.map_err(Failure::from)?;
    let seconds = begun.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(dir.path().join(crate::store::embedded::NAME)).map_or(0, |file| file.len());
    let Some(summary) = &restored.summary else { anyhow::bail!("the drill restored nothing") };
    let mut answer = as_json(summary, here);
    if let Some(answer) = answer.as_object_mut() {
        answer.insert("restoreSeconds".to_owned(), json!(seconds));
        answer.insert("databaseBytes".to_owned(), json!(bytes));
    }
    global.print(&answer, || {
        format!(
            "{}\nthe trial restore was successful; a restore takes about {seconds:.1} s on this machine, and {} of disk space",
            as_text(file, summary, here),
            size(bytes),
        )
    })?;
    Ok(Exit::Done)
}
