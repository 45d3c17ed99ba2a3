//! `broadcast`: sends an event to clients.

use std::io::Read;

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::domain::UserId;

use crate::cli::Global;
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::exit::{Exit, Failure};

/// The recipients.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct TargetArgs {
    /// The user with this ID
    #[arg(long, value_name = "ID", value_parser = |text: &str| UserId::parse(text).map_err(|e| e.to_string()))]
    user: Option<UserId>,
    /// All users with this role: admin, hr, coach, learner, or another one from auth.role_map
    #[arg(long)]
    role: Option<String>,
    /// All users
    #[arg(long)]
    all: bool,
}

impl TargetArgs {
    /// The target as JSON for the API.
    #[must_use]
    pub fn json(&self) -> Value {
        match (&self.user, &self.role) {
            (Some(user), _) => json!({ "user": user }),
            (_, Some(role)) => json!({ "role": role }),
            _ => json!({ "all": true }),
        }
    }
}

/// Send an event to connected clients.
///
/// The server stores chat:message to a chat room as a message, and notification:new as a notification. It sends any other event
/// only to connected clients.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("target").required(true).args(["user", "role", "room", "all"]))]
pub struct BroadcastArgs {
    /// The user with this ID
    #[arg(long, value_name = "ID", value_parser = |text: &str| UserId::parse(text).map_err(|e| e.to_string()))]
    user: Option<UserId>,
    /// All users with this role: admin, hr, coach, learner, or another one from auth.role_map
    #[arg(long)]
    role: Option<String>,
    /// All sockets in the room with this full name, such as chat:room-123
    #[arg(long)]
    room: Option<String>,
    /// All users
    #[arg(long)]
    all: bool,
    /// Name of the event
    event: String,
    /// Payload: JSON, @FILE, or - for standard input
    #[arg(default_value = "null")]
    payload: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Sends it.
///
/// # Errors
/// If the payload is not JSON, or the server refuses.
pub fn run(global: &Global, args: BroadcastArgs) -> anyhow::Result<Exit> {
    let payload = payload(&args.payload)?;
    let target = match (&args.user, &args.role, &args.room) {
        (Some(user), ..) => json!({ "user": user }),
        (_, Some(role), _) => json!({ "role": role }),
        (_, _, Some(room)) => json!({ "room": room }),
        _ => json!({ "all": true }),
    };
    let body = json!({ "target": target, "event": args.event, "payload": payload });
    let sent = Call::new(Method::POST, "/api/v1/broadcast", Some(body));
    let answer = call(global, &args.server, sent)?;
    say_sent(global, &answer)?;
    Ok(Exit::Done)
}

/// Prints the result.
///
/// # Errors
/// If standard output is closed.
pub fn say_sent(global: &Global, answer: &Value) -> anyhow::Result<()> {
    global.print(answer, || {
        let sockets = answer.get("sockets").and_then(Value::as_u64).unwrap_or_default();
        let noun = if sockets == 1 { "socket" } else { "sockets" };
        match answer.get("id").and_then(Value::as_u64) {
            Some(id) => format!("stored with ID {id} and sent to {sockets} {noun}"),
            None => format!("sent to {sockets} {noun}"),
        }
    })
}

fn payload(text: &str) -> anyhow::Result<Value> {
    let read = match text.strip_prefix('@') {
        Some(path) => std::fs::read_to_string(path)
            .map_err(|error| Failure::usage(format!("the payload {path} cannot be read"), error, "Check the path."))?,
        None if text == "-" => {
            let mut input = String::new();
            std::io::stdin()
                .take(4 << 20)
                .read_to_string(&mut input)
                .map_err(|error| Failure::usage("standard input cannot be read", error, "Send JSON in UTF-8."))?;
            input
        }
        None => text.to_owned(),
    };
    serde_json::from_str(&read).map_err(|error| {
        let remedy =
            "Quote it for the shell, for example '{\"text\": \"Hello\"}'. A string needs its own quotes, too: '\"Hello\"'.";
        Failure::usage("the payload is not JSON", error, remedy).into()
    })
}
