//! `room`: manages chat rooms and their members.

mod import;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use crate::archive::moments::{at_moment, moment};
use crate::config::units;
use crate::domain::{RoomId, Timestamp, UserId};

use crate::cli::client::listing;
use crate::cli::client::listing::{number, text};
use crate::cli::client::save::save;
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::commands::user::user_id;
use crate::cli::confirm::confirm;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Global, Output};

/// Commands for chat rooms.
#[derive(Debug, Subcommand)]
pub enum RoomCommand {
    /// List the rooms
    List(ListArgs),
    /// Show a room with all its members and guests
    Show(ShowArgs),
    /// Register a room
    Create(CreateArgs),
    /// Change a room
    Set(SetArgs),
    /// Create rooms and add members from a CSV file
    Import(import::ImportArgs),
    /// Export the messages of a room as a transcript
    Export(ExportArgs),
    /// Lock a room: only moderators and administrators write in it
    Lock(LockArgs),
    /// Unlock a room
    Unlock(LockArgs),
    /// Set or end the slow mode of a room
    Slow(SlowArgs),
    /// Delete a room with all its messages
    Delete(DeleteArgs),
    /// Add and remove members of a room
    #[command(subcommand)]
    Member(MemberCommand),
}

/// List the rooms.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// List only rooms whose ID or name contains this text
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Show a room with all its members and guests.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Register a room. Every user may join an open room; only its members and administrators may join a private room.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// ID of the room: a number or a string
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Display name
    #[arg(long)]
    name: Option<String>,
    /// Let only members join
    #[arg(long)]
    private: bool,
    /// User who becomes a member; may be given several times
    #[arg(long = "member", value_name = "USER", value_parser = user_id)]
    members: Vec<UserId>,
    /// User who becomes a moderator, and keeps order in the room; may be given several times
    #[arg(long = "moderator", value_name = "USER", value_parser = user_id)]
    moderators: Vec<UserId>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Change a room. Users who lose their right to be in it leave the live room at once.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Display name
    #[arg(long, conflicts_with = "no_name")]
    name: Option<String>,
    /// Remove the name
    #[arg(long)]
    no_name: bool,
    /// Let only members join
    #[arg(long, conflicts_with = "open")]
    private: bool,
    /// Let every user join
    #[arg(long)]
    open: bool,
    /// Make all guests members, so that they stay when the room becomes private
    #[arg(long)]
    admit_guests: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Export the messages of a room as a transcript: as JSON Lines, or as a page to print.
///
/// The transcript is of one moment. Its last line has the SHA-256 of all lines before it (head -n -1 FILE | sha256sum). The audit log
/// records the export.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Format of the transcript [default: html for a FILE that ends in .html, else jsonl]
    #[arg(long, value_name = "FORMAT", value_parser = ["jsonl", "html"])]
    format: Option<String>,
    /// Language of the page's own words
    #[arg(long, value_name = "LANG", value_parser = ["en", "fr"], default_value = "en")]
    lang: String,
    /// Only messages of this day or moment or later, for example 2026-11-01 or 2026-11-23T17:10:55Z
    #[arg(long, value_name = "TIME", value_parser = day_or_moment)]
    since: Option<Timestamp>,
    /// Only messages before this day or moment
    #[arg(long, value_name = "TIME", value_parser = day_or_moment)]
    until: Option<Timestamp>,
    /// Also export earlier versions of edited and deleted messages, which a legal hold keeps
    #[arg(long)]
    versions: bool,
    /// File for the transcript, which must not exist yet [default: standard output]
    #[arg(long, short = 'f', value_name = "FILE")]
    file: Option<PathBuf>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Lock or unlock a room. In a locked room only moderators and administrators write; other users read. The room is told at once.
#[derive(Debug, Args)]
pub struct LockArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Set the slow mode of a room: each user writes one message per interval. Moderators and administrators are exempt.
#[derive(Debug, Args)]
pub struct SlowArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Interval, for example 30s or 5m, at most 1h; 0 ends slow mode
    #[arg(value_name = "DURATION", value_parser = interval)]
    time: Duration,
    /// Reason, for the audit log
    #[arg(long, default_value = "")]
    reason: String,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Delete a room with all its messages. Only a backup can bring it back.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Delete the room without asking; needed where nobody can be asked
    #[arg(long)]
    yes: bool,
    /// Only show what would be deleted
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Add and remove members of a room.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Add a member, or change the role of a member
    Add(AddArgs),
    /// Remove a member, who leaves the live room at once
    Remove(RemoveArgs),
}

/// Add a member, or change the role of a member.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// ID of the user
    #[arg(value_name = "USER", value_parser = user_id)]
    user: UserId,
    /// Make the user a moderator, who may edit and delete all messages, mute users, lock the room and resolve reports
    #[arg(long)]
    moderator: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Remove a member. Their messages stay. They may join an open room again.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// ID of the room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// ID of the user
    #[arg(value_name = "USER", value_parser = user_id)]
    user: UserId,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// An id of a chat room on the command line.
///
/// # Errors
/// What is allowed.
pub fn room_id(text: &str) -> Result<RoomId, String> {
    RoomId::parse(text).map_err(|error| error.to_string())
}

/// A day, which begins at midnight UTC, or a moment.
fn day_or_moment(text: &str) -> Result<Timestamp, String> {
    let at = at_moment(text).or_else(|| at_moment(&format!("{text}T00:00:00Z")));
    at.ok_or_else(|| "write a day (2026-11-01) or a moment (2026-11-23T17:10:55Z)".to_owned())
}

/// The interval of slow mode; whole seconds, and a bare 0.
fn interval(text: &str) -> Result<Duration, String> {
    let time = if text == "0" { Duration::ZERO } else { units::duration(text)? };
    if time.subsec_nanos() == 0 { Ok(time) } else { Err("write whole seconds, for example 30s".to_owned()) }
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request.
pub fn run(global: &Global, command: RoomCommand) -> anyhow::Result<Exit> {
    match command {
        RoomCommand::List(args) => list(global, &args),
        RoomCommand::Show(args) => show(global, &args),
        RoomCommand::Create(args) => create(global, &args),
        RoomCommand::Set(args) => set(global, &args),
        RoomCommand::Import(args) => import::run(global, &args),
        RoomCommand::Export(args) => export(global, &args),
        RoomCommand::Lock(args) => lock(global, &args, true),
        RoomCommand::Unlock(args) => lock(global, &args, false),
        RoomCommand::Slow(args) => slow(global, &args),
        RoomCommand::Delete(args) => delete(global, &args),
        RoomCommand::Member(MemberCommand::Add(args)) => {
            let body = json!({ "role": if args.moderator { "moderator" } else { "member" } });
            let put = Call::new(Method::PUT, member_path(&args.id, &args.user), Some(body)).offline_too();
            let answer = call(global, &args.server, put)?;
            global.print(&answer, || {
                let was = answer.get("before").and_then(Value::as_str);
                let was = was.map_or(String::new(), |before| format!(" (was: {before})"));
                format!("user {} is now a {} of room {}{was}", args.user, text(&answer, "role"), args.id)
            })?;
            Ok(Exit::Done)
        }
        RoomCommand::Member(MemberCommand::Remove(args)) => {
            let delete = Call::new(Method::DELETE, member_path(&args.id, &args.user), None).offline_too();
            let answer = call(global, &args.server, delete)?;
            global.print(&answer, || {
                format!("user {} is no longer in room {} (was: {})", args.user, args.id, text(&answer, "before"))
            })?;
            Ok(Exit::Done)
        }
    }
}

fn path(room: &RoomId) -> String {
    format!("/api/v1/admin/rooms/{}", segment(&room.canonical()))
}

fn member_path(room: &RoomId, user: &UserId) -> String {
    format!("{}/members/{}", path(room), segment(&user.canonical()))
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    let answer = listing::all(global, &args.server, "/api/v1/admin/rooms", args.text.as_deref())?;
    global.print(&answer, || listing::lines(&answer, "no room matches", line))?;
    Ok(Exit::Done)
}

fn line(room: &Value) -> String {
    let kind = if room.get("private").and_then(Value::as_bool) == Some(true) { "private" } else { "open   " };
    let name = Some(text(room, "name")).filter(|name| !name.is_empty()).map(|name| format!("  {name}"));
    let locked = if room.get("locked").and_then(Value::as_bool) == Some(true) { "  LOCKED" } else { "" };
    let slow = match number(room, "slowModeSeconds") {
        0 => String::new(),
        seconds => format!("  SLOW ({seconds} s)"),
    };
    format!(
        "{:<24} {kind}  {:>5} in room  {:>4} online  {:>7} messages{locked}{slow}{}",
        text(room, "roomId"),
        number(room, "members"),
        number(room, "present"),
        number(room, "lastSeq"),
        name.unwrap_or_default(),
    )
}

fn show(global: &Global, args: &ShowArgs) -> anyhow::Result<Exit> {
    let answer = listing::all(global, &args.server, &path(&args.id), None)?;
    global.print(&answer, || {
        let created = moment(Timestamp(number(&answer, "createdAt")));
        let members = listing::lines(&answer, "  no members or guests", |member| {
            let online = member.get("online").and_then(Value::as_bool) == Some(true);
            let here = if online { "online" } else { "" };
            format!("  {:<24} {:<9} {:<6} {}", text(member, "userId"), text(member, "role"), here, text(member, "name"))
        });
        format!("{}\nregistered {created}\n{members}", line(&answer))
    })?;
    Ok(Exit::Done)
}

fn create(global: &Global, args: &CreateArgs) -> anyhow::Result<Exit> {
    let body = json!({
        "roomId": args.id, "name": args.name, "private": args.private,
        "members": args.members, "moderators": args.moderators,
    });
    let post = Call::new(Method::POST, "/api/v1/admin/rooms", Some(body)).offline_too();
    let answer = call(global, &args.server, post)?;
    global.print(&answer, || format!("registered: {}", line(&answer)))?;
    Ok(Exit::Done)
}

fn set(global: &Global, args: &SetArgs) -> anyhow::Result<Exit> {
    let mut body = Map::new();
    if args.no_name {
        body.insert("name".to_owned(), Value::Null);
    } else if let Some(name) = &args.name {
        body.insert("name".to_owned(), json!(name));
    }
    if args.private || args.open {
        body.insert("private".to_owned(), json!(args.private));
    }
    if args.admit_guests {
        body.insert("admitGuests".to_owned(), json!(true));
    }
    if body.is_empty() {
        let remedy = "Use --name, --no-name, --private, --open or --admit-guests.";
        return Err(Failure::usage("there is nothing to change", "no option is given", remedy).into());
    }
    let patch = Call::new(Method::PATCH, path(&args.id), Some(Value::Object(body))).offline_too();
    let answer = call(global, &args.server, patch)?;
    global.print(&answer, || format!("changed: {}", line(&answer)))?;
    Ok(Exit::Done)
}

fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let is_page = args.file.as_ref().is_some_and(|file| file.extension().is_some_and(|end| end == "html"));
    let format = args.format.as_deref().unwrap_or(if is_page { "html" } else { "jsonl" });
    let mut path = format!("{}/export?format={format}&lang={}&versions={}", path(&args.id), args.lang, args.versions);
    for (name, at) in [("since", args.since), ("until", args.until)] {
        path.extend(at.map(|at| format!("&{name}={}", at.as_millis())));
    }
    let get = Call::new(Method::GET, path, None).offline_too().patient();
    save(global, &args.server, get, args.file.as_deref())?;
    if let Some(file) = args.file.as_ref().filter(|_| !global.quiet || global.output == Output::Json) {
        let body = json!({ "ok": true, "roomId": args.id, "format": format, "file": file.display().to_string() });
        global.print(&body, || format!("the transcript of room {} is in {}", args.id, file.display()))?;
    }
    Ok(Exit::Done)
}

fn lock(global: &Global, args: &LockArgs, locked: bool) -> anyhow::Result<Exit> {
    let body = json!({ "locked": locked, "reason": args.reason });
    order(global, &args.server, &args.id, "lock", body)
}

fn slow(global: &Global, args: &SlowArgs) -> anyhow::Result<Exit> {
    let body = json!({ "seconds": args.time.as_secs(), "reason": args.reason });
    order(global, &args.server, &args.id, "slow", body)
}

/// Changes the state of a room as its moderators do.
fn order(global: &Global, server: &ServerArgs, room: &RoomId, what: &str, body: Value) -> anyhow::Result<Exit> {
    let path = format!("/api/v1/rooms/{}/{what}", segment(&room.canonical()));
    let answer = call(global, server, Call::new(Method::POST, path, Some(body)).offline_too())?;
    global.print(&answer, || format!("room {room} {}", state(&answer)))?;
    Ok(Exit::Done)
}

/// The state of a room in words.
fn state(room: &Value) -> String {
    let locked = room.get("locked").and_then(Value::as_bool) == Some(true);
    let slow = match number(room, "slowModeSeconds") {
        0 => String::new(),
        seconds => format!(", and is in slow mode ({seconds} s)"),
    };
    format!("is {}{slow}", if locked { "locked" } else { "not locked" })
}

fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<Exit> {
    if !args.yes {
        let get = Call::new(Method::GET, format!("{}?limit=1", path(&args.id)), None).offline_too();
        let answer = call(global, &args.server, get)?;
        let (messages, members) = (number(&answer, "lastSeq"), number(&answer, "members"));
        let would = format!("this would delete {messages} messages of a room with {members} members and guests");
        if args.dry_run {
            let body = json!({ "roomId": args.id, "dryRun": true, "messages": messages, "members": members });
            global.print(&body, || would)?;
            return Ok(Exit::Done);
        }
        let why = format!("{would}, which only a backup can bring back");
        confirm(false, &format!("room {} is not deleted", args.id), &why)?;
    }
    let answer = call(global, &args.server, Call::new(Method::DELETE, path(&args.id), None).offline_too().patient())?;
    global.print(&answer, || {
        format!(
            "room {} is deleted with {} messages\nTo remove the old bytes from the database file, run `academy-rt db compact`. Earlier backups still contain the messages.",
            args.id,
            number(&answer, "lastSeq")
        )
    })?;
    Ok(Exit::Done)
}
