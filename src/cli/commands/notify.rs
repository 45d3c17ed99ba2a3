//! `notify`: sends a stored notification, now or at its time; lists them, says who has read one, and takes one back.

use clap::{Args, Subcommand};
use http::Method;
use jiff::civil::DateTime;
use jiff::tz::{AmbiguousOffset, TimeZone};
use serde_json::{Map, Value, json};

use crate::archive::moments::{at_moment, moment};
use crate::config::units;
use crate::domain::{Clock, SystemClock, Timestamp};

use crate::cli::Global;
use crate::cli::client::listing::{items_of, number, text};
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::broadcast::{TargetArgs, say_sent};
use crate::cli::exit::{Exit, Failure, in_line};

/// How a time is written.
const TIMES: &str =
    "Write +30m, +2h or +1d, a local time such as '2026-12-24 18:00', or a moment such as 2026-12-24T23:00:00Z.";

/// Send a stored notification. Connected users get it now, and the others when they connect.
///
/// With --at it is sent later, also if the server stops in between. With --until it is over at a moment: it then leaves all
/// inboxes, and pages that show it are told. With texts in French a page shows each reader their language.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct NotifyArgs {
    /// Another command for notifications
    #[command(subcommand)]
    command: Option<NotifyCommand>,
    /// Recipients
    #[command(flatten)]
    target: TargetArgs,
    /// Title
    #[arg(long, visible_alias = "title-en", required = true)]
    title: Option<String>,
    /// Text
    #[arg(long, visible_alias = "message-en", required = true)]
    message: Option<String>,
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
    /// Send it then: +2h, a local time such as '2026-12-24 18:00', or a moment such as 2026-12-24T23:00:00Z [default: now]
    #[arg(long, value_name = "TIME")]
    at: Option<String>,
    /// It is over then, as --at [default: never]
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Other commands for notifications.
#[derive(Debug, Subcommand)]
pub enum NotifyCommand {
    /// List notifications: what is scheduled, what is in the inboxes, and what is over.
    List(ListArgs),
    /// Show who has read a notification and when, and who has not.
    Readers(ReadersArgs),
    /// Take a notification back from everybody: it leaves all inboxes, or is not sent.
    Recall(RecallArgs),
}

/// Which notifications.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only these: scheduled, live (in the inboxes) or over (ended, recalled or missed)
    #[arg(long, value_parser = ["scheduled", "live", "over"])]
    state: Option<String>,
    /// Show only notifications with a lower ID, for older ones
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Whose readers.
#[derive(Debug, Args)]
pub struct ReadersArgs {
    /// ID of the notification
    id: u64,
    /// Show only users who have read it
    #[arg(long, conflicts_with = "unread")]
    read: bool,
    /// Show only users who have not read it
    #[arg(long)]
    unread: bool,
    /// Show users after this place, which the page before says
    #[arg(long, value_name = "PLACE")]
    after: Option<u64>,
    /// Show at most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// What is taken back.
#[derive(Debug, Args)]
pub struct RecallArgs {
    /// ID of the notification
    id: u64,
    /// Reason, for the audit log
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Sends, lists or recalls.
///
/// # Errors
/// If a time cannot be read, or the server refuses.
pub fn run(global: &Global, args: NotifyArgs) -> anyhow::Result<Exit> {
    match args.command {
        Some(NotifyCommand::List(args)) => list(global, &args),
        Some(NotifyCommand::Readers(args)) => readers(global, &args),
        Some(NotifyCommand::Recall(args)) => recall(global, &args),
        None => send(global, args),
    }
}

fn send(global: &Global, args: NotifyArgs) -> anyhow::Result<Exit> {
    let mut body = Map::new();
    body.insert("target".to_owned(), args.target.json());
    body.insert("type".to_owned(), Value::String(args.kind));
    for (field, value) in [
        ("title", args.title),
        ("message", args.message),
        ("titleFr", args.title_fr),
        ("messageFr", args.message_fr),
        ("link", args.link),
    ] {
        body.extend(value.map(|value| (field.to_owned(), Value::String(value))));
    }
    let zone = TimeZone::system();
    for (field, flag, text) in [("at", "--at", &args.at), ("until", "--until", &args.until)] {
        if let Some(text) = text {
            let time = time_of(text, SystemClock.now(), &zone)
                .map_err(|why| Failure::usage(format!("{flag} {text} is no time"), why, TIMES))?;
            body.insert(field.to_owned(), json!(time.0));
        }
    }
    let sent = Call::new(Method::POST, "/api/v1/notifications", Some(Value::Object(body)));
    let answer = call(global, &args.server, sent)?;
    let Some(at) = answer.get("at").and_then(Value::as_u64) else {
        say_sent(global, &answer)?;
        return Ok(Exit::Done);
    };
    global.print(&answer, || {
        let id = number(&answer, "id");
        format!("scheduled with ID {id} for {}; academy-rt notify recall {id} takes it back", moment(Timestamp(at)))
    })?;
    Ok(Exit::Done)
}

/// A time as people write it: from now on, by the clock on the wall, or as a moment.
fn time_of(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Some(ahead) = text.strip_prefix('+') {
        return Ok(now.plus(units::duration(ahead)?));
    }
    let is_local = !text.ends_with(['Z', 'z']) && text.parse::<jiff::Timestamp>().is_err();
    if !is_local || text.bytes().all(|byte| byte.is_ascii_digit()) {
        return at_moment(text).ok_or_else(|| "it is no moment".to_owned());
    }
    let local: DateTime = text.parse().map_err(|_| "it is no date with a time".to_owned())?;
    if !text.contains(':') {
        return Err("the time of the day is missing".to_owned());
    }
    let ambiguous = zone.to_ambiguous_timestamp(local);
    match ambiguous.offset() {
        AmbiguousOffset::Gap { .. } => return Err("clocks go forward then: there is no such local time".to_owned()),
        AmbiguousOffset::Fold { .. } => {
            return Err(
                "clocks go back then: this local time comes twice; write it with its offset from UTC".to_owned()
            );
        }
        AmbiguousOffset::Unambiguous { .. } => {}
    }
    let at = ambiguous.unambiguous().map_err(|error| error.to_string())?;
    u64::try_from(at.as_millisecond()).map(Timestamp).map_err(|_| "it is before 1970".to_owned())
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    let mut path = format!("/api/v1/admin/notifications?limit={}", args.limit);
    for (name, value) in [("state", args.state.clone()), ("before", args.before.map(|before| before.to_string()))] {
        path.extend(value.map(|value| format!("&{name}={value}")));
    }
    let answer = call(global, &args.server, Call::new(Method::GET, path, None))?;
    global.print(&answer, || {
        let mut lines: Vec<String> = items_of(&answer).iter().flat_map(|one| [line(one), title(one)]).collect();
        if lines.is_empty() {
            lines.push("no notification fits".to_owned());
        }
        if let Some(next) = answer.get("next").and_then(Value::as_str) {
            lines.push(format!("there are older ones: add --before {next}"));
        }
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

fn readers(global: &Global, args: &ReadersArgs) -> anyhow::Result<Exit> {
    let mut path = format!("/api/v1/admin/notifications/{}/readers?limit={}", args.id, args.limit);
    let read = if args.read { Some(true) } else { args.unread.then_some(false) };
    path.extend(read.map(|read| format!("&read={read}")));
    path.extend(args.after.map(|after| format!("&after={after}")));
    let answer = call(global, &args.server, Call::new(Method::GET, path, None))?;
    global.print(&answer, || {
        let mut lines: Vec<String> =
            answer.get("notification").iter().flat_map(|one| [line(one), title(one)]).collect();
        for reader in items_of(&answer) {
            let read = match (reader.get("read").and_then(Value::as_bool), number(reader, "readAt")) {
                (Some(true), 0) => "read, it is not known when".to_owned(),
                (Some(true), at) => format!("read {}", moment(Timestamp(at))),
                _ => "unread".to_owned(),
            };
            lines.push(format!("user {} ({}): {read}", text(reader, "userId"), text(reader, "name")));
        }
        if let Some(next) = answer.get("next").and_then(Value::as_str) {
            lines.push(format!("there may be more: add --after {next}"));
        }
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

fn recall(global: &Global, args: &RecallArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/notifications/{}/recall", args.id);
    let answer = call(global, &args.server, Call::new(Method::POST, path, Some(json!({ "reason": args.reason }))))?;
    global.print(&answer, || {
        let one = answer.get("notification").unwrap_or(&Value::Null);
        match answer.get("wasSent").and_then(Value::as_bool) {
            Some(true) => format!("taken back; {} of {} had read it", number(one, "readBy"), number(one, "recipients")),
            _ => "taken back before it was sent".to_owned(),
        }
    })?;
    Ok(Exit::Done)
}

/// One notification in a line.
fn line(one: &Value) -> String {
    let time = |name: &str| moment(Timestamp(number(one, name)));
    let target = match one.get("target").and_then(Value::as_object).and_then(|target| target.iter().next()) {
        Some((kind, _)) if kind == "all" => "all".to_owned(),
        Some((kind, Value::Number(count))) if kind == "users" => format!("{count} users"),
        Some((kind, Value::String(who))) => format!("{kind} {who}"),
        Some((kind, who)) => format!("{kind} {who}"),
        None => String::new(),
    };
    let until = match number(one, "until") {
        0 => String::new(),
        _ => format!(", until {}", time("until")),
    };
    let over = match number(one, "overSince") {
        0 => String::new(),
        _ => format!(" {} by {}", time("overSince"), text(one, "overBy")),
    };
    format!(
        "{}  {}{over}  to {target}, at {}{until}; read by {} of {}",
        number(one, "id"),
        text(one, "state"),
        time("at"),
        number(one, "readBy"),
        number(one, "recipients")
    )
}

/// Its titles, each on a line of its own below.
fn title(one: &Value) -> String {
    let fr = one.pointer("/translations/fr/title").and_then(Value::as_str);
    let both = fr.map_or_else(String::new, |fr| format!(" / {}", in_line(fr)));
    format!("    {}{both}", text(one, "title"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_from_now_on_by_the_wall_or_moments() {
        let zone = TimeZone::posix("EST5EDT,M3.2.0,M11.1.0").unwrap();
        let time = |text: &str| time_of(text, Timestamp(1_000), &zone);
        assert_eq!(time("+2h"), Ok(Timestamp(7_201_000)));
        // Winter and summer in Ottawa.
        assert_eq!(time("2026-12-24 18:00"), Ok(Timestamp(1_798_153_200_000)));
        assert_eq!(time("2026-12-24T18:00"), time("2026-12-24 18:00"));
        assert_eq!(time("2026-12-24T23:00:00Z"), time("2026-12-24 18:00"));
        assert_eq!(time("2026-07-01 12:00"), time("2026-07-01T16:00:00Z"));
        assert_eq!(time("2026-07-01T12:00:00-04:00"), time("2026-07-01T16:00:00Z"));
        assert_eq!(time("1798153200000"), Ok(Timestamp(1_798_153_200_000)));
        assert!(time("2026-03-08 02:30").unwrap_err().contains("no such local time"));
        assert!(time("2026-11-01 01:30").unwrap_err().contains("comes twice"));
        for bad in ["", "+", "+2", "+2y", "tomorrow", "2026-12-24", "2026-13-01 10:00", "18:00", "2026-02-30 10:00Z"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
