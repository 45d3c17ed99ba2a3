//! `restore`: replaces the data with a backup, offline, and can undo that.

use std::path::{Path, PathBuf};

use clap::Args;
use http::Method;
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::archive::continuous::timeline::{Plan, Timeline};
use crate::archive::kept_audit::{KeptAudit, OldAudit};
use crate::archive::moments::{at_moment, moment};
use crate::archive::restore;
use crate::archive::restore::{RestoreOptions, Restored, Step, Watch};
use crate::archive::undo;
use crate::domain::{Clock, SystemClock};
use crate::store::embedded::NAME;
use crate::store::embedded::offline::stats::RowStats;

use crate::observability::local_person;

use crate::cli::Global;
use crate::cli::client::{Call, ServerArgs, download};
use crate::cli::data_dir_flag;
use crate::cli::exit::{Exit, Failure, warn};
use crate::cli::progress_bar::{rows, show};
use crate::cli::scratch::Scratch;

/// How many names of a list are shown.
const SHOWN: usize = 10;

/// Which backup, and how.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["file", "undo"]))]
pub struct RestoreArgs {
    /// File of the backup, or directory of a continuous backup
    file: Option<PathBuf>,
    /// Moment to return to, from the directory of a continuous backup: 2026-11-23T17:10:55Z [default: the last one in it]
    #[arg(long, value_name = "TIME", conflicts_with = "undo")]
    to: Option<String>,
    /// Return to the data that the last restore set aside
    #[arg(long)]
    undo: bool,
    /// Only show what would change
    #[arg(long, conflicts_with = "undo")]
    dry_run: bool,
    /// Restore even if the current data belong to another server, are unreadable, or have an audit log that the backup does not continue
    #[arg(long, conflicts_with = "undo")]
    force: bool,
    /// File with age identities, for an encrypted backup
    #[arg(long, value_name = "FILE", conflicts_with = "undo")]
    identity: Option<PathBuf>,
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// The user of the command line, for the audit log.
#[must_use]
pub fn local_actor() -> String {
    let behind = local_person::behind_this_process();
    local_person::in_words(rustix::process::getuid().as_raw(), behind.as_deref())
}

/// Shows the steps of a restore.
pub fn watcher(bar: &ProgressBar) -> impl FnMut(Step) + '_ {
    |step| match step {
        Step::Rows(done, all) => show(bar, done, all),
        Step::Compare => bar.set_message("comparing"),
        Step::Check => bar.set_message("checking"),
        Step::Migrate => bar.set_message("migrating"),
        Step::Carry => bar.set_message("carrying over"),
        Step::SetAside | Step::Swap | Step::Done => bar.set_message("swapping"),
    }
}

/// Restores a backup, or undoes a restore.
///
/// # Errors
/// If the backup cannot be restored; the data are then unchanged.
pub fn run(global: &Global, args: RestoreArgs) -> anyhow::Result<Exit> {
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let data_dir = &config.storage.data_dir;
    let actor = local_actor();
    let options = RestoreOptions {
        identity: args.identity.as_deref(),
        is_dry_run: args.dry_run,
        is_forced: args.force,
        actor: &actor,
        now: SystemClock.now(),
    };
    let plan = plan(&args)?;
    let backup = plan.as_ref().map(|plan| &plan.base).or(args.file.as_ref());
    let bar = rows(global, "restore");
    let mut watch = watcher(&bar);
    let outcome = match backup {
        Some(file) if args.dry_run && data_dir.exists() && restore::is_in_use(data_dir) => {
            rehearse(global, data_dir, file, plan.as_ref(), options, &mut watch)
        }
        Some(file) => {
            let restored = match &plan {
                Some(plan) => restore::restore_moment(data_dir, plan, options, &mut watch),
                None => restore::restore(data_dir, file, options, &mut watch),
            };
            restored.map_err(|problem| Failure::from(problem).into())
        }
        None => undo::undo(data_dir, options, &mut watch).map_err(|problem| Failure::from(problem).into()),
    };
    bar.finish_and_clear();
    let restored = outcome?;
    for caution in &restored.cautions {
        warn(caution)?;
    }
    let undo = format!(
        "academy-rt{} restore --undo --data-dir {}",
        global.named_config().map(|path| format!(" --config {}", path.display())).unwrap_or_default(),
        data_dir.display(),
    );
    let change = Change::between(restored.before.as_ref(), &restored.after);
    global.print(&as_json(&restored, &change, args.dry_run, &undo), || as_text(&restored, &change, &args, &undo))?;
    Ok(Exit::Done)
}

/// How to return to a moment, if a directory was given.
fn plan(args: &RestoreArgs) -> anyhow::Result<Option<Plan>> {
    let to = args.to.as_deref().map(|text| {
        at_moment(text).ok_or_else(|| {
            let why = format!("'{text}' is not one");
            Failure::usage(
                "--to needs a moment",
                why,
                "Write it as 2026-11-23T17:10:55Z, or in milliseconds since 1970.",
            )
        })
    });
    let to = to.transpose()?;
    match &args.file {
        Some(dir) if dir.is_dir() => {
            let plan = Timeline::read(dir).and_then(|timeline| timeline.plan(to)).map_err(Failure::from)?;
            if let Some(to) = to.filter(|to| *to > plan.reaches()) {
                warn(&format!(
                    "the continuous backup has nothing between {} and {}: the first of them is restored",
                    moment(plan.reaches()),
                    moment(to)
                ))?;
            }
            Ok(Some(plan))
        }
        _ if to.is_some() => Err(Failure::usage(
            "--to needs the directory of a continuous backup",
            "a backup file has one moment",
            "Give the directory that backup.continuous names.",
        )
        .into()),
        _ => Ok(None),
    }
}

/// What a restore would change beside a server that runs: its data are taken from it, as a backup is.
fn rehearse(
    global: &Global,
    data_dir: &Path,
    backup: &Path,
    plan: Option<&Plan>,
    options: RestoreOptions<'_>,
    watch: &mut Watch<'_>,
) -> anyhow::Result<Restored> {
    let rows = Scratch::make("restore")?;
    let path = rows.path().join(NAME);
    let get = Call::new(Method::GET, "/api/v1/admin/backup", None).patient();
    download(global, &ServerArgs::here(data_dir), get, move |source| {
        restore::copy_rows(source, &path).map_err(|problem| Failure::from(problem).into())
    })?;
    restore::rehearse(rows.path(), data_dir, backup, plan, options, watch)
        .map_err(|problem| Failure::from(problem).into())
}

/// Rooms and users that a restore adds and removes.
struct Change {
    rooms_gained: Vec<String>,
    rooms_lost: Vec<String>,
    users_gained: Vec<String>,
    users_lost: Vec<String>,
}

impl Change {
    fn between(before: Option<&RowStats>, after: &RowStats) -> Change {
        let nothing = RowStats::default();
        let before = before.unwrap_or(&nothing);
        Change {
            rooms_gained: after.rooms.difference(&before.rooms).cloned().collect(),
            rooms_lost: before.rooms.difference(&after.rooms).cloned().collect(),
            users_gained: after.users.difference(&before.users).cloned().collect(),
            users_lost: before.users.difference(&after.users).cloned().collect(),
        }
    }
}

const COUNTED: [(&str, &str); 4] =
    [("messages", "messages"), ("progress", "lessons"), ("notifications", "notifications"), ("users", "users")];

fn as_json(restored: &Restored, change: &Change, is_dry_run: bool, undo: &str) -> Value {
    let row_stats = |row_stats: &RowStats| {
        let counts: serde_json::Map<String, Value> =
            COUNTED.iter().map(|(table, name)| ((*name).to_owned(), json!(row_stats.rows_of(table)))).collect();
        json!({ "counts": counts, "rooms": row_stats.rooms.len(), "newestMessage": row_stats.newest_message })
    };
    json!({
        "ok": true, "dryRun": is_dry_run,
        "before": restored.before.as_ref().map(row_stats), "after": row_stats(&restored.after),
        "roomsGained": change.rooms_gained, "roomsLost": change.rooms_lost,
        "usersGained": change.users_gained, "usersLost": change.users_lost,
        "erasedAgain": restored.carried.erased, "holds": restored.carried.holds, "bans": restored.carried.bans,
        "auditRecordsCarriedOver": restored.carried.audit, "carryOverIncomplete": restored.carried.is_incomplete,
        "authenticity": restored.authenticity,
        "auditKept": kept_of(restored).and_then(|kept| kept.path.as_ref()),
        "auditRecordsKept": kept_of(restored).map_or(0, |kept| kept.records),
        "auditUnreadable": matches!(restored.old_audit, OldAudit::Unreadable(_)),
        "aside": restored.aside, "undoneFrom": restored.undone_from,
        "until": restored.replayed.map(|replayed| replayed.until), "commits": restored.replayed.map(|replayed| replayed.commits), "undo": restored.aside.as_ref().map(|_| undo),
    })
}

fn kept_of(restored: &Restored) -> Option<&KeptAudit> {
    match &restored.old_audit {
        OldAudit::Kept(kept) => Some(kept),
        OldAudit::CarriedOver | OldAudit::Unreadable(_) => None,
    }
}

/// What happened to the previous audit log.
fn audit_words(restored: &Restored) -> Option<String> {
    match &restored.old_audit {
        OldAudit::CarriedOver if restored.carried.audit == 0 => None,
        OldAudit::CarriedOver => Some(format!("  audit log      {} records carried over", restored.carried.audit)),
        OldAudit::Unreadable(why) => Some(format!(
            "The previous audit log could not be read ({why}); what is left of it is in the previous data. The audit log is now that of the backup."
        )),
        OldAudit::Kept(KeptAudit { path: None, records, .. }) => Some(format!(
            "The backup does not contain the current audit log: a restore would keep its {records} records in a file beside the data."
        )),
        OldAudit::Kept(KeptAudit { path: Some(path), records, head }) => Some(format!(
            "The previous audit log is not part of the current one: its {records} records are kept in {} (the last is {head}; to verify them: academy-rt audit verify FILE).",
            path.display()
        )),
    }
}

fn as_text(restored: &Restored, change: &Change, args: &RestoreArgs, undo: &str) -> String {
    let mut lines = vec![match (&args.file, args.dry_run) {
        (Some(file), true) => {
            format!("{} is good. Nothing has been changed. After a restore, the data would contain:", file.display())
        }
        (Some(file), false) => format!("{} is restored. The data now contain:", file.display()),
        (None, _) => "The last restore is undone. The data now contain:".to_owned(),
    }];
    let from = restored.undone_from.as_ref();
    let count = |table: &str| {
        let after = restored.after.rows_of(table);
        let before = restored.before.as_ref().map(|before| before.rows_of(table));
        before.map_or_else(|| format!("{after}"), |before| format!("{after} (before: {before})"))
    };
    for (table, name) in COUNTED {
        lines.push(format!("  {name:14} {}", count(table)));
    }
    let newest = |row_stats: &RowStats| row_stats.newest_message.map_or_else(|| "none".to_owned(), moment);
    let before = restored.before.as_ref().map(|before| format!(" (before: {})", newest(before))).unwrap_or_default();
    lines.push(format!("  newest message {}{before}", newest(&restored.after)));
    for (what, names) in [
        ("rooms added", &change.rooms_gained),
        ("rooms removed", &change.rooms_lost),
        ("users added", &change.users_gained),
        ("users removed", &change.users_lost),
    ] {
        if !names.is_empty() && restored.before.is_some() {
            let more = if names.len() > SHOWN { ", ..." } else { "" };
            let shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
            lines.push(format!("  {what:14} {}: {}{more}", names.len(), shown.join(", ")));
        }
    }
    if !restored.carried.erased.is_empty() {
        lines
            .push(format!("  erased again   {} users who were erased since the backup", restored.carried.erased.len()));
    }
    if let Some(replayed) = &restored.replayed {
        lines.push(format!(
            "  until          {} ({} commits behind the base backup)",
            moment(replayed.until),
            replayed.commits
        ));
    }
    lines.extend(restored.authenticity.map(|whose| format!("  signature      {}", whose.as_str())));
    lines.extend(audit_words(restored));
    if restored.carried.is_incomplete {
        lines.push(
            "The previous data could not be read. Repeat the erasures, legal holds, blocks and revocations since the backup."
                .to_owned(),
        );
    }
    if let Some(from) = from {
        lines.push(format!("They were taken from {}, which stays until you remove it.", from.display()));
    }
    if let Some(aside) = &restored.aside {
        lines.push(format!("The previous data are kept in {}.", aside.display()));
        lines.push(format!("To return to them: {undo}"));
    }
    lines.join("\n")
}
