//! `notify`: sends a stored notification.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::broadcast::{TargetArgs, say_sent};
use crate::cli::exit::Exit;

/// Send a stored notification. Connected users get it now, and the others when they connect.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// Recipients
    #[command(flatten)]
    target: TargetArgs,
    /// Title
    #[arg(long)]
    title: String,
    /// Text
    #[arg(long)]
    message: String,
    /// Title in French
    #[arg(long)]
    title_fr: Option<String>,
    /// Text in French
    #[arg(long)]
    message_fr: Option<String>,
    /// Address that a click on the notification opens
    #[arg(long)]
    link: Option<String>,
    /// Type of the notification
    #[arg(long = "type", default_value = "info")]
    kind: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Sends it.
///
/// # Errors
/// If the server refuses.
pub fn run(global: &Global, args: NotifyArgs) -> anyhow::Result<Exit> {
    let mut body = json!({
        "target": args.target.json(), "type": args.kind, "title": args.title, "message": args.message,
    });
    for (field, value) in [("titleFr", args.title_fr), ("messageFr", args.message_fr), ("link", args.link)] {
        if let (Some(value), Some(body)) = (value, body.as_object_mut()) {
            body.insert(field.to_owned(), Value::String(value));
        }
    }
    let sent = Call::new(Method::POST, "/api/v1/notifications", Some(body));
    let answer = call(global, &args.server, sent)?;
    say_sent(global, &answer)?;
    Ok(Exit::Done)
}
