//! `message`: shows and deletes single messages of chat rooms.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::client::listing::text;
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::history::lines_of;
use crate::cli::confirm::confirm;
use crate::cli::exit::Exit;

/// Commands for single messages.
#[derive(Debug, Subcommand)]
pub enum MessageCommand {
    /// Show a message
    Show(ShowArgs),
    /// Delete the content of a message; the room is told at once
    Delete(DeleteArgs),
}

/// Show a message. The audit log records who reads in a room that is not theirs.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// ID of the message, which is unique over all rooms (`history` shows it)
    #[arg(value_name = "ID")]
    id: u64,
    /// Also show earlier versions, which a legal hold keeps
    #[arg(long)]
    versions: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Delete the content of a message, whoever wrote it.
///
/// The message stays in its room as a deleted message without content. The room is told at once, and by whom it was deleted.
/// Under a legal hold, the content is kept for administrators. Earlier backups still contain it.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// ID of the message, which is unique over all rooms (`history` shows it)
    #[arg(value_name = "ID")]
    id: u64,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// Delete without asking; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
    /// Only show what would be deleted
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request.
pub fn run(global: &Global, command: MessageCommand) -> anyhow::Result<Exit> {
    match command {
        MessageCommand::Show(args) => {
            let answer = get(global, &args.server, args.id, args.versions)?;
            global.print(&answer, || words(&answer))?;
        }
        MessageCommand::Delete(args) => delete(global, &args)?,
    }
    Ok(Exit::Done)
}

fn get(global: &Global, server: &ServerArgs, id: u64, versions: bool) -> anyhow::Result<Value> {
    let query = if versions { "?versions=true" } else { "" };
    call(global, server, Call::new(Method::GET, format!("/api/v1/admin/messages/{id}{query}"), None).offline_too())
}

/// A message with its room, and below it what it said before.
fn words(message: &Value) -> String {
    let deleted_by = text(message, "deletedBy");
    let by = if deleted_by.is_empty() { String::new() } else { format!("\ndeleted by {deleted_by}") };
    format!("room {}\n{}{by}", text(message, "roomId"), lines_of(message).join("\n"))
}

fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<()> {
    if !args.yes {
        let message = get(global, &args.server, args.id, false)?;
        let (room, sender) = (text(&message, "roomId"), text(&message, "senderId"));
        let would = format!("this would delete message {} of user {sender} in room {room}", args.id);
        if args.dry_run {
            let body = json!({
                "ok": true, "dryRun": true, "messageId": args.id,
                "roomId": message.get("roomId"), "senderId": message.get("senderId"),
            });
            return global.print(&body, || would);
        }
        let why = format!("{would}, which only a backup can bring back");
        confirm(false, &format!("message {} is not deleted", args.id), &why)?;
    }
    let path = format!("/api/v1/admin/messages/{}/delete", args.id);
    let post = Call::new(Method::POST, path, Some(json!({ "reason": args.reason }))).offline_too();
    let answer = call(global, &args.server, post)?;
    global.print(&answer, || {
        let kept = match answer.get("withheld").and_then(Value::as_bool) {
            Some(true) => "; a legal hold keeps what it said for administrators",
            _ => "",
        };
        let (room, sender) = (text(&answer, "roomId"), text(&answer, "senderId"));
        format!("message {} of user {sender} in room {room} is deleted{kept}", args.id)
    })
}
