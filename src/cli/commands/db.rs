//! `db`: checks, compacts and upgrades the database offline; its figures also beside a server.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::json;

use crate::archive::rebuild;
use crate::archive::restore;
use crate::archive::restore::RestoreOptions;
use crate::domain::{Clock, SystemClock};
use crate::protocol::admin::data::Tables;
use crate::services::backups::tables_of;
use crate::store::OpenError;
use crate::store::embedded::NAME;
use crate::store::embedded::offline::rows::newest_format;

use crate::cli::Global;
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::restore::{local_actor, watcher};
use crate::cli::data_dir_flag;
use crate::cli::exit::{Exit, Failure, warn};
use crate::cli::progress_bar::{rows, size, steps};
use crate::cli::read_only::Workable;

/// Commands for the database.
#[derive(Debug, Subcommand)]
pub enum DbCommand {
    /// Check the whole database: pages, indexes, counts. The exit status is 3 if something is wrong
    Check(DbArgs),
    /// Show the rows, the size and the growth of each table, with the server running or not
    Stats(DbArgs),
    /// Rebuild the database without free space, which also removes erased data from the file
    Compact(DbArgs),
    /// Back up the database and migrate it to the format of this version
    Upgrade(DbArgs),
}

/// Which database.
#[derive(Debug, Args)]
pub struct DbArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If the database cannot be used.
pub fn run(global: &Global, command: DbCommand) -> anyhow::Result<Exit> {
    let (DbCommand::Check(args) | DbCommand::Stats(args) | DbCommand::Compact(args) | DbCommand::Upgrade(args)) =
        &command;
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let data_dir = config.storage.data_dir;
    if !data_dir.exists() {
        let why = format!("{} does not exist", data_dir.display());
        let remedy = "Give the data directory of the server with --data-dir, or its configuration with --config.";
        return Err(Failure::new("there is no store", why, remedy).into());
    }
    match command {
        DbCommand::Check(_) => check(global, &data_dir),
        DbCommand::Stats(_) => stats(global, &data_dir),
        DbCommand::Compact(_) => compact(global, &data_dir),
        DbCommand::Upgrade(_) => upgrade(global, &data_dir),
    }
}

fn check(global: &Global, data_dir: &Path) -> anyhow::Result<Exit> {
    let data = Workable::of(data_dir, "a copy of it is checked, in the directory for temporary files")?;
    let held = restore::hold(data.path()).map_err(Failure::from)?;
    let mut file = match held.open() {
        Ok(file) => file,
        Err(OpenError::Corrupt { reason, .. }) => {
            return report(global, &[format!("the database does not open: {reason}")], None);
        }
        Err(error) => return Err(Failure::from(restore::opened(error)).into()),
    };
    if file.format < newest_format() {
        let why =
            format!("the database has format {}, and this version checks format {}", file.format, newest_format());
        let remedy = "Migrate it first with `academy-rt db upgrade`.";
        return Err(Failure::new("the database cannot be checked", why, remedy).into());
    }
    let bar = steps(global, "check");
    let found = file.check(&mut |what| bar.set_message(format!("checking {what}")));
    bar.finish_and_clear();
    let rows = file.row_stats().map_or(0, |row_stats| row_stats.rows.values().sum());
    report(global, &found, Some(rows))
}

/// Says what a check has found, in a database of so many rows.
fn report(global: &Global, found: &[String], rows: Option<u64>) -> anyhow::Result<Exit> {
    global.print(&json!({ "ok": found.is_empty(), "found": found }), || {
        if found.is_empty() {
            let rows = rows.unwrap_or_default();
            return format!("the database is sound: {rows} rows checked");
        }
        let list: Vec<String> = found.iter().map(|what| format!("  - {what}")).collect();
        format!(
            "{} problems:\n{}\nRestore a backup (academy-rt restore FILE), and keep this file for an examination.",
            found.len(),
            list.join("\n")
        )
    })?;
    Ok(if found.is_empty() { Exit::Done } else { Exit::Found })
}

/// The tables of a data directory, asked of the server that has it open, if there is one.
fn tables(global: &Global, data_dir: &Path) -> anyhow::Result<Tables> {
    if restore::is_in_use(data_dir) {
        let get = Call::new(Method::GET, "/api/v1/admin/tables", None).patient();
        let answer = call(global, &ServerArgs::here(data_dir), get)?;
        return Ok(serde_json::from_value(answer)?);
    }
    let data = Workable::of(data_dir, "the figures are those of a copy, in the directory for temporary files")?;
    let held = restore::hold(data.path()).map_err(Failure::from)?;
    let file = restore::open(&held).map_err(Failure::from)?;
    let wrong = |error| Failure::new("the database cannot be read", error, "Check it with `academy-rt db check`.");
    let tables = file.stats().map_err(wrong)?;
    let file_bytes = std::fs::metadata(held.path()).map_or(0, |file| file.len());
    Ok(tables_of(&tables, file_bytes, file.format))
}

fn stats(global: &Global, data_dir: &Path) -> anyhow::Result<Exit> {
    let found = tables(global, data_dir)?;
    global.print(&serde_json::to_value(&found)?, || {
        let mut lines = vec![
            format!(
                "{}  format {}, {}, of which {} in use",
                data_dir.join(NAME).display(),
                found.format,
                size(found.file_bytes),
                size(found.used_bytes)
            ),
            format!("{:20} {:>12} {:>12} {:>12} {:>14}", "table", "rows", "bytes", "rows per day", "bytes per day"),
        ];
        for table in found.tables.iter().filter(|table| table.rows > 0) {
            let a_day = |number: Option<f64>| number.map_or_else(|| "-".to_owned(), |number| format!("{number:.0}"));
            lines.push(format!(
                "{:20} {:>12} {:>12} {:>12} {:>14}",
                table.table,
                table.rows,
                table.bytes,
                a_day(table.rows_a_day),
                a_day(table.bytes_a_day),
            ));
        }
        lines.push(
            "The running server records the growth once a day; - means that there are fewer than two days yet."
                .to_owned(),
        );
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

fn compact(global: &Global, data_dir: &Path) -> anyhow::Result<Exit> {
    let actor = local_actor();
    let options =
        RestoreOptions { identity: None, is_dry_run: false, is_forced: false, actor: &actor, now: SystemClock.now() };
    let bar = rows(global, "compact");
    let outcome = rebuild::compact(data_dir, options, &mut watcher(&bar));
    bar.finish_and_clear();
    let (before, after) = outcome.map_err(Failure::from)?;
    let asides = restore::set_aside(data_dir).unwrap_or_default();
    global.print(&json!({ "ok": true, "bytesBefore": before, "bytesAfter": after, "setAside": asides }), || {
        let mut text = format!("compacted: {} before, {} now", size(before), size(after));
        for aside in &asides {
            text.push_str(&format!(
                "\nErased data are still in {}: remove this file when you do not need it any more.",
                aside.display()
            ));
        }
        text
    })?;
    Ok(Exit::Done)
}

fn upgrade(global: &Global, data_dir: &Path) -> anyhow::Result<Exit> {
    let bar = rows(global, "upgrade");
    let outcome = rebuild::upgrade(data_dir, SystemClock.now(), &local_actor(), &mut watcher(&bar));
    bar.finish_and_clear();
    let upgraded = outcome.map_err(Failure::from)?;
    if let Some(caution) = &upgraded.caution {
        warn(caution)?;
    }
    let backup = upgraded.backup.as_ref().map(|made| made.path.display().to_string());
    global.print(
        &json!({ "ok": true, "from": upgraded.from, "to": upgraded.to, "backup": backup, "renamed": upgraded.renamed }),
        || match &backup {
            None => format!("nothing to do: the database already has format {}, that of this version", upgraded.to),
            Some(backup) => {
                let mut text = format!(
                    "migrated from format {} to {}\nThe backup from before is {backup}. An older version can restore it.",
                    upgraded.from, upgraded.to
                );
                for renamed in &upgraded.renamed {
                    text.push_str(&format!("\n{renamed}"));
                }
                text
            }
        },
    )?;
    Ok(Exit::Done)
}
