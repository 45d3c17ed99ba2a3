//! `hold`: legal holds.

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

/// What to do with legal holds.
#[derive(Debug, Subcommand)]
pub enum HoldCommand {
    /// Keep everything of a person or a room, whatever its age
    Set(SetArgs),
    /// Show all holds
    List(ListArgs),
    /// End a hold
    Release(ReleaseArgs),
}

/// Of whom or what.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct SubjectArgs {
    /// A person
    #[arg(long, value_name = "ID", value_parser = user_id)]
    user: Option<UserId>,
    /// A chat room
    #[arg(long, value_name = "ID", value_parser = room_id)]
    room: Option<RoomId>,
}

/// Keep everything of a person or a room, whatever its age.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Of whom or what
    #[command(flatten)]
    subject: SubjectArgs,
    /// Why, for those who find it later
    #[arg(long)]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Show all holds.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// End a hold.
#[derive(Debug, Args)]
pub struct ReleaseArgs {
    /// Of whom or what
    #[command(flatten)]
    subject: SubjectArgs,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Does it.
///
/// # Errors
/// What the server refuses.
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
            global.print(&answer, || lines(&answer, "there are no holds", line))?;
        }
        HoldCommand::Release(args) => {
            let path = match (&args.subject.user, &args.subject.room) {
                (Some(user), _) => format!("/api/v1/admin/holds/user/{}", segment(&user.canonical())),
                (_, Some(room)) => format!("/api/v1/admin/holds/room/{}", segment(&room.canonical())),
                _ => return Err(Failure::usage("nobody is named", "--user or --room is needed", "Name one.").into()),
            };
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
    format!("{subject}, since {}, by {}: {}", moment(Timestamp(since)), text(hold, "by"), text(hold, "reason"))
}
