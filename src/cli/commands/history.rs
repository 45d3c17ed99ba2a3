//! `history`: shows the messages of a chat room, and follows it.

use std::time::Duration;

use clap::Args;
use http::Method;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::Value;

use crate::archive::moments::moment;
use crate::domain::{RoomId, Timestamp};
use crate::protocol::json::escaped;

use crate::cli::client::listing::{number, text};
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::commands::room::room_id;
use crate::cli::exit::{Exit, in_lines, plain, say, warn};
use crate::cli::{Global, Output};

/// The pause before a request is repeated while the server restarts.
const PAUSE: Duration = Duration::from_secs(2);
/// How often a request is repeated.
const TRIES: u32 = 30;

/// Show the messages of a chat room. This does not mark them as read.
#[derive(Debug, Args)]
pub struct HistoryArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Show only messages before the one with this ID
    #[arg(long, value_name = "MESSAGE", conflicts_with_all = ["after", "follow"])]
    before: Option<u64>,
    /// Show only messages after the one with this ID
    #[arg(long, value_name = "MESSAGE", conflicts_with = "follow")]
    after: Option<u64>,
    /// Maximum number of messages; without --after, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=200))]
    limit: u64,
    /// Also show earlier versions of edited and deleted messages, which a legal hold keeps
    #[arg(long, conflicts_with = "follow")]
    versions: bool,
    /// Show new messages as they arrive, until Ctrl-C; with --output json, one object per line
    #[arg(long, short)]
    follow: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request.
pub fn run(global: &Global, args: &HistoryArgs) -> anyhow::Result<Exit> {
    let room = segment(&args.id.canonical());
    // The cursor is read before the page: a message that arrives in between is in both, and is shown once, by its ID.
    let cursor = if args.follow {
        Some(text(&call(global, &args.server, Call::new(Method::GET, events(&room, None), None))?, "cursor"))
    } else {
        None
    };
    let mut path = format!("/api/v1/rooms/{room}/messages?limit={}", args.limit);
    for (name, id) in [("before", args.before), ("after", args.after)] {
        path.extend(id.map(|id| format!("&{name}={id}")));
    }
    if args.versions {
        path.push_str("&versions=true");
    }
    let page = call(global, &args.server, Call::new(Method::GET, path, None).offline_too())?;
    let messages = page.get("messages").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let Some(cursor) = cursor else {
        global.print(&page, || {
            let lines: Vec<String> = messages.iter().flat_map(lines_of).collect();
            if lines.is_empty() { "no message matches".to_owned() } else { lines.join("\n") }
        })?;
        return Ok(Exit::Done);
    };
    for message in messages {
        show(global, message, line)?;
    }
    follow(global, args, &room, cursor, messages.last().map_or(0, |message| number(message, "id")))
}

fn events(room: &str, cursor: Option<&str>) -> String {
    let from = cursor.map(|cursor| format!("&cursor={}&wait=2", segment(cursor))).unwrap_or_default();
    format!("/api/v1/events?rooms={room}{from}")
}

fn show(global: &Global, value: &Value, words: impl FnOnce(&Value) -> String) -> anyhow::Result<()> {
    match global.output {
        Output::Json => say(&escaped(value.to_string())),
        Output::Text => say(&plain(&words(value))),
    }
}

#[allow(clippy::disallowed_methods, reason = "no runtime runs between two calls of a command")]
fn follow(global: &Global, args: &HistoryArgs, room: &str, mut cursor: String, shown: u64) -> anyhow::Result<Exit> {
    let mut failed = 0;
    while has_reader() {
        let answer = match call(global, &args.server, Call::new(Method::GET, events(room, Some(&cursor)), None)) {
            Ok(answer) => answer,
            Err(error) if failed < TRIES => {
                if failed == 0 {
                    warn(&format!("{error}; trying again"))?;
                }
                failed += 1;
                std::thread::sleep(PAUSE);
                continue;
            }
            Err(error) => return Err(error),
        };
        failed = 0;
        for event in answer.get("events").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default() {
            let payload = event.get("payload").unwrap_or(&Value::Null);
            match text(event, "event").as_str() {
                "chat:message" if number(payload, "id") > shown => show(global, payload, line)?,
                "chat:message-edited" => show(global, payload, |edit| {
                    format!("        message {} now reads: {}", number(edit, "messageId"), content(edit, "newContent"))
                })?,
                "chat:message-deleted" => show(global, payload, |deletion| {
                    format!("        message {} is deleted", number(deletion, "messageId"))
                })?,
                _ => {}
            }
        }
        cursor = text(&answer, "cursor");
    }
    Ok(Exit::Done)
}

/// Whether somebody still reads what is written: `| head -1` has had enough after a line.
fn has_reader() -> bool {
    let stdout = std::io::stdout();
    let mut places = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    match poll(&mut places, Some(&now)) {
        Ok(_) => {
            !places.iter().any(|place| place.revents().intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL))
        }
        Err(_) => true,
    }
}

/// What somebody has written.
fn content(message: &Value, name: &str) -> String {
    in_lines(message.get(name).and_then(Value::as_str).unwrap_or_default())
}

/// A message, and below it what it said before.
pub fn lines_of(message: &Value) -> Vec<String> {
    let versions = message.get("versions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let before = versions.iter().map(|version| {
        let (change, by, until) = (text(version, "change"), text(version, "by"), Timestamp(number(version, "until")));
        format!("        before {change} by {by} at {}: {}", moment(until), content(version, "content"))
    });
    std::iter::once(line(message)).chain(before).collect()
}

fn line(message: &Value) -> String {
    let content = if number(message, "deletedAt") > 0 { "(deleted)".to_owned() } else { content(message, "content") };
    format!(
        "{:>6}  {}  {} ({}): {content}",
        number(message, "id"),
        moment(Timestamp(number(message, "timestamp"))),
        text(message, "senderName"),
        text(message, "senderId"),
    )
}
