//! `hold`: manages legal holds.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::archive::moments::moment;
use crate::domain::{RoomId, Timestamp, UserId};

use crate::cli::Global;
use crate::cli::client::listing::{lines, number, text};
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::commands::room::room_id;
use crate::cli::commands::user::user_id;
use crate::cli::exit::{Exit, Failure};

/// Commands for legal holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Place a legal hold on a user or a room
    Set(SetArgs),
    /// List all legal holds
    List(ListArgs),
    /// Release a legal hold
    Release(ReleaseArgs),
}

/// The user or the room.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SubjectArgs {
    /// ID of the user
    #[arg(long, value_name = "ID", value_parser = user_id)]
    user: Option<UserId>,
    /// ID of the chat room
    #[arg(long, value_name = "ID", value_parser = room_id)]
    room: Option<RoomId>,
}

/// Place a legal hold on a user or a room. The server then neither purges nor erases their data, whatever their age. Several
/// legal holds on one user or room stand beside each other, each with its reason and its number.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// The user or the room
    #[command(flatten)]
    subject: SubjectArgs,
    /// Reason of the hold, for the list and the audit log
    #[arg(long)]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// List all legal holds.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Release a legal hold. Other legal holds on the same user or room remain.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// The user or the room
    #[command(flatten)]
    subject: SubjectArgs,
    /// Number of the legal hold (`hold list` shows it), needed if there are several on the user or the room
    #[arg(long, value_name = "N")]
    number: Option<u64>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request.
pub fn run(global: &Global, command: HoldCommand) -> anyhow::Result<Exit> {
    match command {
        HoldCommand::Set(args) => {
            let body = json!({ "userId": args.subject.user, "roomId": args.subject.room, "reason": args.reason });
            let post = Call::new(Method::POST, "/api/v1/admin/holds", Some(body)).offline_too();
            let answer = call(global, &args.server, post)?;
            global.print(&answer, || format!("held: {}", line(&answer)))?;
        }
        HoldCommand::List(args) => {
            let get = Call::new(Method::GET, "/api/v1/admin/holds", None).offline_too();
            let answer = call(global, &args.server, get)?;
            global.print(&answer, || lines(&answer, "there are no legal holds", line))?;
        }
        HoldCommand::Release(args) => {
            let mut path = match (&args.subject.user, &args.subject.room) {
                (Some(user), _) => format!("/api/v1/admin/holds/user/{}", segment(&user.canonical())),
                (_, Some(room)) => format!("/api/v1/admin/holds/room/{}", segment(&room.canonical())),
                _ => {
                    return Err(Failure::usage(
                        "the legal hold is not named",
                        "--user or --room is missing",
                        "Add one of them.",
                    )
                    .into());
                }
            };
            if let Some(number) = args.number {
                path.push_str(&format!("?number={number}"));
            }
            let answer = call(global, &args.server, Call::new(Method::DELETE, path, None).offline_too())?;
            global.print(&answer, || format!("released: {}", line(&answer)))?;
        }
    }
    Ok(Exit::Done)
}

fn line(hold: &Value) -> String {
    let subject = if hold.get("userId").is_some() {
        format!("user {}", text(hold, "userId"))
    } else {
        format!("room {}", text(hold, "roomId"))
    };
    let since = number(hold, "since");
    format!(
        "hold {}: {subject}, since {}, by {}: {}",
        number(hold, "number"),
        moment(Timestamp(since)),
        text(hold, "by"),
        text(hold, "reason")
    )
}
