//! `report`: lists and resolves what users have reported to those who keep order in chat rooms.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::archive::moments::moment;
use crate::domain::{RoomId, Timestamp};

use crate::cli::Global;
use crate::cli::client::listing::{items_of, lines, number, text};
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::commands::room::room_id;
use crate::cli::exit::Exit;

/// Commands for reports of messages.
#[derive(Debug, Subcommand)]
pub enum ReportCommand {
    /// List the reports that are open
    List(ListArgs),
    /// Resolve a report
    Resolve(ResolveArgs),
}

/// List the reports that are open, the newest first, with what each message said when it was reported.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List only reports of this room
    #[arg(long, value_name = "ROOM", value_parser = room_id)]
    room: Option<RoomId>,
    /// Also list reports that are resolved
    #[arg(long)]
    all: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Resolve a report. The moderators of the room are told at once. A report that is resolved stays as it is.
#[derive(Debug, Args)]
pub struct ResolveArgs {
    /// ID of the report (`report list` shows it)
    #[arg(value_name = "ID")]
    id: u64,
    /// What has come of it, for moderators and for the audit log
    #[arg(long, default_value = "")]
    note: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request.
pub fn run(global: &Global, command: ReportCommand) -> anyhow::Result<Exit> {
    match command {
        ReportCommand::List(args) => list(global, &args)?,
        ReportCommand::Resolve(args) => {
            let path = format!("/api/v1/admin/reports/{}/resolve", args.id);
            let post = Call::new(Method::POST, path, Some(json!({ "note": args.note }))).offline_too();
            let answer = call(global, &args.server, post)?;
            let before = answer.get("duplicate").and_then(Value::as_bool) == Some(true);
            global.print(&answer, || {
                let was = if before { "was resolved before" } else { "is resolved" };
                format!("report {} {was}\n{}", args.id, words(&answer))
            })?;
        }
    }
    Ok(Exit::Done)
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<()> {
    let room = args.room.as_ref().map(|room| format!("&roomId={}", segment(&room.canonical()))).unwrap_or_default();
    let (mut all, mut before) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/admin/reports?limit=200&all={}{room}{before}", args.all);
        let page = call(global, &args.server, Call::new(Method::GET, path, None).offline_too())?;
        all.extend(items_of(&page).iter().cloned());
        match page.get("next").and_then(Value::as_u64) {
            Some(next) => before = format!("&before={next}"),
            None => break,
        }
    }
    let answer = json!({ "ok": true, "items": all });
    global.print(&answer, || lines(&answer, "no report matches", words))
}

/// A report and what it shows.
fn words(report: &Value) -> String {
    let at = moment(Timestamp(number(report, "reportedAt")));
    let head = format!(
        "report {}  room {}  message {} of user {}, reported by user {} at {at}: {}",
        number(report, "reportId"),
        text(report, "roomId"),
        number(report, "messageId"),
        text(report, "senderId"),
        text(report, "reportedBy"),
        text(report, "reason"),
    );
    let resolution = match report.get("resolvedAt").and_then(Value::as_u64) {
        Some(at) => {
            let (at, by, note) = (moment(Timestamp(at)), text(report, "resolvedBy"), text(report, "note"));
            let note = if note.is_empty() { note } else { format!(": {note}") };
            format!("\n  resolved by {by} at {at}{note}")
        }
        None => String::new(),
    };
    format!("{head}\n  it said: {}{resolution}", text(report, "content"))
}
