//! `user`: lists, blocks, disconnects, exports and erases users.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::archive::moments::moment;
use crate::config::units;
use crate::domain::{RoomId, Timestamp, UserId};

use crate::cli::client::listing;
use crate::cli::client::listing::{items, number, text};
use crate::cli::client::save::save;
use crate::cli::client::{Call, ServerArgs, call, segment, why_not_ready};
use crate::cli::confirm::confirm;
use crate::cli::exit::{self, Exit, Failure};
use crate::cli::{Global, Output};

/// Commands for users.
#[derive(Debug, Subcommand)]
pub enum UserCommand {
    /// List all known users: those who connected, and those whom requests named
    List(ListArgs),
    /// Show a user
    Show(OneArgs),
    /// Show why a user is or is not served: connections, blocks, revoked tokens, the last refusals
    Diagnose(OneArgs),
    /// Block a user: close their connections and refuse their tokens
    Block(WithReasonArgs),
    /// Lift the block of a user
    Unblock(WithReasonArgs),
    /// Let a user read but not write, in a room or everywhere, for a time
    Mute(MuteArgs),
    /// Let a muted user write again
    Unmute(UnmuteArgs),
    /// Close the connections of a user, who may connect again
    Disconnect(OneArgs),
    /// Export all stored data of a user as one JSON file
    Export(ExportArgs),
    /// Erase the data of a user: message contents, progress, notifications and name
    Erase(EraseArgs),
    /// Show the certificate of an erasure again
    Certificate(OneArgs),
}

/// List all known users: those who connected, and those whom requests named.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List only users whose ID or name contains this text
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// List only users who are connected
    #[arg(long)]
    online: bool,
    /// List the users who are muted, with where and until when
    #[arg(long, conflicts_with_all = ["text", "online"])]
    muted: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// A user.
#[derive(Debug, Args)]
pub struct OneArgs {
    /// ID of the user
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// A user and a reason.
#[derive(Debug, Args)]
pub struct WithReasonArgs {
    /// ID of the user
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Let a user read but not write, edit or type, in a room or everywhere, for a time.
///
/// It applies at once, also to open connections and to messages that a back end sends in the user's name, and ends by itself.
/// The user may still delete their own messages. A second mute for the same place replaces the first.
#[derive(Debug, Args)]
pub struct MuteArgs {
    /// ID of the user
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// ID of the room [default: everywhere]
    #[arg(long, value_name = "ROOM", value_parser = RoomId::parse)]
    room: Option<RoomId>,
    /// For how long, for example 30m, 2h or 7d; at most 366d
    #[arg(long = "for", value_name = "DURATION", value_parser = units::duration)]
    time: Duration,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Let a muted user write again. A mute in a room and a mute everywhere are lifted separately.
#[derive(Debug, Args)]
pub struct UnmuteArgs {
    /// ID of the user
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// ID of the room [default: the mute that is for everywhere]
    #[arg(long, value_name = "ROOM", value_parser = RoomId::parse)]
    room: Option<RoomId>,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Export all stored data of a user as one JSON file.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// ID of the user
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// File for the export, which must not exist yet [default: standard output]
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Erase the data of a user.
///
/// Messages of the user stay in their rooms as deleted messages without content and sender. The command prints a certificate,
/// whose hash is in the audit log. The next `db compact` removes the old bytes from the database file. Earlier backups still
/// contain the data.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// ID of the user
    #[arg(value_name = "ID", value_parser = user_id)]
    id: UserId,
    /// The user has agreed: erase also data that are younger than retention.floor
    #[arg(long)]
    consent: bool,
    /// Erase without asking; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
    /// Only show what would be erased
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
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

/// Runs the command.
///
/// # Errors
/// If the server refuses the request, or a file cannot be written.
pub fn run(global: &Global, command: UserCommand) -> anyhow::Result<Exit> {
    match command {
        UserCommand::List(args) => list(global, &args),
        UserCommand::Show(args) => show(global, &args),
        UserCommand::Diagnose(args) => diagnose(global, &args),
        UserCommand::Block(args) => act(global, &args.server, &args.id, "block", Some(&args.reason), |answer| {
            format!("user {} is blocked; {} connections are closed", args.id, number(answer, "disconnected"))
        }),
        UserCommand::Unblock(args) => act(global, &args.server, &args.id, "unblock", Some(&args.reason), |_| {
            format!("user {} is no longer blocked; revoked tokens stay revoked", args.id)
        }),
        UserCommand::Mute(args) => {
            let body = json!({ "roomId": args.room, "seconds": args.time.as_secs(), "reason": args.reason });
            let answer = call(global, &args.server, act_on(&args.id, "mute", body).offline_too())?;
            global.print(&answer, || format!("muted: {}", mute_line(&answer)))?;
            Ok(Exit::Done)
        }
        UserCommand::Unmute(args) => {
            let body = json!({ "roomId": args.room, "reason": args.reason });
            let answer = call(global, &args.server, act_on(&args.id, "unmute", body).offline_too())?;
            global.print(&answer, || format!("lifted: {}", mute_line(&answer)))?;
            Ok(Exit::Done)
        }
        UserCommand::Disconnect(args) => act(global, &args.server, &args.id, "disconnect", None, |answer| {
            format!("user {}: {} connections are closed", args.id, number(answer, "disconnected"))
        }),
        UserCommand::Export(args) => export(global, &args),
        UserCommand::Erase(args) => erase(global, &args),
        UserCommand::Certificate(args) => certificate(global, &args),
    }
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    if args.muted {
        let get = Call::new(Method::GET, "/api/v1/admin/mutes", None).offline_too();
        let answer = call(global, &args.server, get)?;
        global.print(&answer, || listing::lines(&answer, "no user is muted", mute_line))?;
        return Ok(Exit::Done);
    }
    let (path, none) = match args.online {
        true => ("/api/v1/admin/users?online=true", "no user is online"),
        false => ("/api/v1/admin/users", "no user matches"),
    };
    let answer = listing::all(global, &args.server, path, args.text.as_deref())?;
    global.print(&answer, || listing::lines(&answer, none, line))?;
    Ok(Exit::Done)
}

fn line(person: &Value) -> String {
    let roles: Vec<&str> = items(person, "roles").iter().filter_map(Value::as_str).collect();
    let seen = match number(person, "lastSeen") {
        0 => "never connected".to_owned(),
        at => format!("last seen {}", moment(Timestamp(at))),
    };
    let blocked = person.get("blocked").and_then(Value::as_bool) == Some(true);
    format!(
        "{:<24} {:<12} {seen}  {} connections{}  {}",
        text(person, "userId"),
        roles.join(","),
        number(person, "sockets"),
        if blocked { "  BLOCKED" } else { "" },
        text(person, "name"),
    )
}

fn show(global: &Global, args: &OneArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/users/{}", segment(&args.id.canonical()));
    let answer = call(global, &args.server, Call::new(Method::GET, path, None).offline_too())?;
    global.print(&answer, || match number(&answer, "tokensRevokedBefore") {
        0 => line(&answer),
        at => format!("{}\ntokens issued before {} are revoked", line(&answer), moment(Timestamp(at))),
    })?;
    Ok(Exit::Done)
}

fn diagnose(global: &Global, args: &OneArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/users/{}/diagnosis", segment(&args.id.canonical()));
    let answer = call(global, &args.server, Call::new(Method::GET, path, None))?;
    global.print(&answer, || diagnosis(&answer).join("\n"))?;
    Ok(Exit::Done)
}

/// What keeps somebody out comes first, then where they are, then what they were refused.
fn diagnosis(answer: &Value) -> Vec<String> {
    let at = |value: &Value, name: &str| moment(Timestamp(number(value, name)));
    let mut lines = vec![match answer.get("user").filter(|user| !user.is_null()) {
        Some(user) => line(user),
        None => format!("{}: nothing is stored of this user; nobody has come with this ID", text(answer, "userId")),
    }];
    for ban in items(answer, "bans") {
        let (by, since) = (text(ban, "by"), at(ban, "since"));
        lines.push(match text(ban, "kind").as_str() {
            "block" => format!("BLOCKED since {since} by {by}; academy-rt user unblock lets them in again"),
            "all_tokens" => format!("ALL tokens issued before {} are revoked, by {by}", at(ban, "issuedBefore")),
            _ => format!("tokens issued before {} are revoked, by {by} at {since}", at(ban, "issuedBefore")),
        });
    }
    if let Some(block) = answer.get("blockedBy").filter(|block| !block.is_null()) {
        lines.push(format!(
            "  the audit log says of the block: {} (record {})",
            text(block, "outcome"),
            number(block, "number")
        ));
    }
    for mute in items(answer, "mutes") {
        let undo = if text(mute, "roomId").is_empty() { "user unmute" } else { "user unmute --room ROOM" };
        lines.push(format!("MUTED {}; academy-rt {undo} lets them write again", mute_place(mute)));
    }
    let connections = items(answer, "connections");
    if connections.is_empty() {
        lines.push("not connected by Socket.IO".to_owned());
    }
    for connection in connections {
        let (ends, issued) = (number(connection, "expiresAt"), number(connection, "issuedAt"));
        let rooms: Vec<&str> = items(connection, "rooms").iter().take(10).filter_map(Value::as_str).collect();
        lines.push(format!(
            "connection {}: {} from {} since {}; token issued {}, ends {}; {} rooms{}{}",
            number(connection, "socket"),
            text(connection, "transport"),
            text(connection, "address"),
            at(connection, "since"),
            if issued == 0 { "at an unknown time".to_owned() } else { moment(Timestamp(issued)) },
            if ends == 0 { "never".to_owned() } else { moment(Timestamp(ends)) },
            number(connection, "roomCount"),
            if rooms.is_empty() { "" } else { ": " },
            rooms.join(", "),
        ));
    }
    let refusals = items(answer, "refusals");
    if refusals.is_empty() {
        lines.push("nothing was refused since the server has started, or it is long ago".to_owned());
    }
    for refusal in refusals {
        lines.push(format!(
            "refused {}  {} from {}, {} times: {}: {}",
            at(refusal, "at"),
            text(refusal, "request"),
            text(refusal, "origin"),
            number(refusal, "times"),
            text(refusal, "code"),
            text(refusal, "message"),
        ));
    }
    lines
}

fn act_on(id: &UserId, what: &str, body: Value) -> Call {
    Call::new(Method::POST, format!("/api/v1/admin/users/{}/{what}", segment(&id.canonical())), Some(body))
}

fn mute_line(mute: &Value) -> String {
    format!("user {} {}", text(mute, "userId"), mute_place(mute))
}

/// Where, until when and by whom.
fn mute_place(mute: &Value) -> String {
    let place = match text(mute, "roomId") {
        room if room.is_empty() => "everywhere".to_owned(),
        room => format!("in room {room}"),
    };
    let (until, by) = (moment(Timestamp(number(mute, "until"))), text(mute, "by"));
    format!("{place}, until {until}, by {by}")
}

fn act(
    global: &Global,
    server: &ServerArgs,
    id: &UserId,
    what: &str,
    reason: Option<&str>,
    words: impl FnOnce(&Value) -> String,
) -> anyhow::Result<Exit> {
    let body = reason.map_or_else(|| json!({}), |reason| json!({ "reason": reason }));
    let post = act_on(id, what, body);
    // If no server is running, no user is connected.
    let answer = call(global, server, if reason.is_some() { post.offline_too() } else { post })?;
    print_change(global, server, &answer, || words(&answer))
}

/// Prints what a change has done. One that is in force only in the memory of the server is a failure, with what it has done in its
/// one answer.
///
/// # Errors
/// If the change is not stored.
pub fn print_change(
    global: &Global,
    server: &ServerArgs,
    answer: &Value,
    words: impl FnOnce() -> String,
) -> anyhow::Result<Exit> {
    if answer.get("durable").and_then(Value::as_bool) != Some(false) {
        global.print(answer, words)?;
        return Ok(Exit::Done);
    }
    if global.output == Output::Text {
        exit::say(&exit::plain(&words()))?;
    }
    let unknown = || "the disk of the server is full or fails".to_owned();
    let why = format!("{}; a restart would lose the change", why_not_ready(global, server).unwrap_or_else(unknown));
    let failure = Failure::new(
        "the change is in force, but is not stored yet",
        why,
        "Free space on the disk of the data directory (df -h) or repair it: the server then stores the change by itself. Do not restart the server before that.",
    );
    let done = answer.as_object().into_iter().flatten().filter(|(name, _)| *name != "ok");
    Err(done.fold(failure, |failure, (name, value)| failure.with_field(name, value.clone())).into())
}

fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/users/{}/export", segment(&args.id.canonical()));
    let get = Call::new(Method::GET, path, None).offline_too().patient();
    save(global, &args.server, get, args.file.as_deref())?;
    if let Some(path) = &args.file
        && (!global.quiet || global.output == Output::Json)
    {
        let answer = json!({ "ok": true, "userId": args.id, "file": path.display().to_string() });
        global.print(&answer, || format!("all stored data of user {} are in {}", args.id, path.display()))?;
    }
    Ok(Exit::Done)
}

fn erase(global: &Global, args: &EraseArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/users/{}?consent={}", segment(&args.id.canonical()), args.consent);
    if !args.yes {
        let preview = Call::new(Method::DELETE, format!("{path}&dryRun=true"), None).offline_too();
        let answer = call(global, &args.server, preview)?;
        let would = format!("this would erase {} of user {}", counts(&answer), args.id);
        if args.dry_run {
            global.print(&answer, || would)?;
            return Ok(Exit::Done);
        }
        let why = format!("{would}, which only a backup can bring back");
        confirm(false, &format!("user {} is not erased", args.id), &why)?;
    }
    let answer = call(global, &args.server, Call::new(Method::DELETE, path, None).offline_too().patient())?;
    show_certificate(global, &args.id, &answer)
}

fn certificate(global: &Global, args: &OneArgs) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/admin/users/{}/erasure", segment(&args.id.canonical()));
    let answer = call(global, &args.server, Call::new(Method::GET, path, None).offline_too())?;
    show_certificate(global, &args.id, &answer)
}

/// What an erasure takes, in words.
fn counts(answer: &Value) -> String {
    let number = |name: &str| answer.pointer(&format!("/counts/{name}")).and_then(Value::as_u64).unwrap_or_default();
    format!(
        "{} messages, {} memberships, {} lessons with {} versions, {} notifications, {} read marks, {} stored answers",
        number("messages"),
        number("memberships"),
        number("lessons"),
        number("versions"),
        number("notifications"),
        number("inbox"),
        number("answers"),
    )
}

fn show_certificate(global: &Global, id: &UserId, answer: &Value) -> anyhow::Result<Exit> {
    global.print(answer, || {
        let hash = answer.get("hash").and_then(Value::as_str).unwrap_or_default();
        format!(
            "user {} was erased on {} by {}: {}\ncertificate {hash}\nTo remove the old bytes from the database file, run `academy-rt db compact`. Earlier backups still contain the data.",
            id,
            moment(Timestamp(crate::cli::client::listing::number(answer, "erasedAt"))),
            text(answer, "by"),
            counts(answer),
        )
    })?;
    Ok(Exit::Done)
}
