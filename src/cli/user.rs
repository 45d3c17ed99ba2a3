//! `user`: what is stored of people.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::Value;

use crate::domain::UserId;

use super::Global;
use super::client::{Call, ServerArgs, call, download, segment};
use super::exit::{Exit, Failure, say};

/// What to do with a person's data.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// Write all that is stored of somebody as one JSON file
    Export(ExportArgs),
    /// Erase somebody: their messages' content, progress, notifications and name
    Erase(EraseArgs),
}

/// Write all that is stored of somebody as one JSON file.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Whose data
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// Where they go; nothing is overwritten [default: standard output]
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Erase somebody.
///
/// Their messages stay as tombstones of nobody, so that the rooms are whole. A certificate is printed; its hash is in the
/// audit trail. The old bytes leave the database file with the next `db compact`. Backups made before still have the data.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Who
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// Also if their data are younger than retention.floor: they have agreed
    #[arg(long)]
    consent: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// An id of a user on the command line.
///
/// # Errors
/// What is allowed.
pub fn user_id(text: &str) -> Result<UserId, String> {
    UserId::parse(text).map_err(|error| error.to_string())
}

/// Does it.
///
/// # Errors
/// What the server refuses, or what cannot be written.
pub fn run(global: &Global, command: UserCommand) -> anyhow::Result<Exit> {
    match command {
        UserCommand::Export(args) => export(global, &args),
        UserCommand::Erase(args) => erase(global, &args),
    }
}

fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/users/{}/export", segment(&args.id.canonical()));
    let get = Call::new(Method::GET, path, None).offline_too().patient();
    let file = args.file.clone();
    download(global, &args.server, get, move |source| match file {
        None => copy(source, &mut std::io::stdout().lock(), "standard output"),
        Some(path) => {
            let name = path.display().to_string();
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let mut file = opened.map_err(|error| unwritable(&name, &error))?;
            let copied = copy(source, &mut file, &name)
                .and_then(|()| file.sync_all().map_err(|error| unwritable(&name, &error).into()));
            if copied.is_err() {
                // Half an export looks like a whole one.
                drop(std::fs::remove_file(&path));
            }
            copied
        }
    })?;
    if let Some(path) = &args.file
        && !global.quiet
    {
        say(&format!("all that is stored of {} is in {}", args.id, path.display()))?;
    }
    Ok(Exit::Done)
}

fn unwritable(name: &str, error: &std::io::Error) -> Failure {
    Failure::new(format!("{name} cannot be written"), error, "Give the name of a new file, on a disk with space.")
}

fn copy(source: &mut dyn Read, out: &mut dyn Write, name: &str) -> anyhow::Result<()> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = source.read(&mut buffer).map_err(|error| {
            Failure::new("the export was not sent to its end", error, "Try again; the server's log may say more.")
        })?;
        if read == 0 {
            return out.flush().map_err(|error| unwritable(name, &error).into());
        }
        out.write_all(buffer.get(..read).unwrap_or_default()).map_err(|error| unwritable(name, &error))?;
    }
}

fn erase(global: &Global, args: &EraseArgs) -> anyhow::Result<Exit> {
    let consent = if args.consent { "?consent=true" } else { "" };
    let path = format!("/api/v1/admin/users/{}{consent}", segment(&args.id.canonical()));
    let answer = call(global, &args.server, Call::new(Method::DELETE, path, None).offline_too().patient())?;
    global.print(&answer, || {
        let number = |name: &str| answer.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or_default();
        let hash = answer.get("hash").and_then(Value::as_str).unwrap_or_default();
        format!(
            "user {} is erased: {} messages, {} memberships, {} lessons with {} versions, {} notifications, {} marks, {} kept answers\ncertificate {hash}\nThe old bytes leave the database file with `academy-rt db compact`; backups made before still have them.",
            args.id,
            number("messages"),
            number("memberships"),
            number("lessons"),
            number("versions"),
            number("notifications"),
            number("inbox"),
            number("answers"),
        )
    })?;
    Ok(Exit::Done)
}
