//! `notify`: a stored notification from the command line.

use clap::Args;
use http::Method;
use serde_json::{Value, json};

use crate::cli::Global;
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::broadcast::{TargetArgs, say_sent};
use crate::cli::exit::Exit;

/// Send a stored notification: it reaches who is connected now, and the others when they come.
#[derive(Debug, Args)]
pub struct NotifyArgs {
    /// To whom
    #[command(flatten)]
    target: TargetArgs,
    /// The title
    #[arg(long)]
    title: String,
    /// The text
    #[arg(long)]
    message: String,
    /// The title in French
    #[arg(long)]
    title_fr: Option<String>,
    /// The text in French
    #[arg(long)]
    message_fr: Option<String>,
    /// Where a click leads
    #[arg(long)]
    link: Option<String>,
    /// A word for the kind
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
