//! `room`: chat rooms, and who may be in them.

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};

use crate::archive::moments::moment;
use crate::domain::{RoomId, Timestamp, UserId};

use crate::cli::Global;
use crate::cli::client::listing;
use crate::cli::client::listing::{number, text};
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::commands::user::user_id;
use crate::cli::exit::{Exit, Failure};

/// What to do with chat rooms.
#[derive(Debug, Subcommand)]
pub enum RoomCommand {
    /// List the rooms
    List(ListArgs),
    /// Show a room with everybody who takes part in it
    Show(ShowArgs),
    /// Register a room
    Create(CreateArgs),
    /// Change a room
    Set(SetArgs),
    /// Delete a room with all its messages
    Delete(DeleteArgs),
    /// Admit people to a room, or take them out
    #[command(subcommand)]
    Member(MemberCommand),
}

/// List the rooms.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only those whose id or name has this text
    #[arg(value_name = "TEXT")]
    text: Option<String>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Show a room with everybody who takes part in it.
#[derive(Debug, Args)]
pub struct ShowArgs {
    /// Which room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Register a room. An open one everybody may join; a private one admits its members and administrators alone.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// The id: a number, or a text
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// The name for people
    #[arg(long)]
    name: Option<String>,
    /// Only its members may join it
    #[arg(long)]
    private: bool,
    /// Who is admitted; may be repeated
    #[arg(long = "member", value_name = "USER", value_parser = user_id)]
    members: Vec<UserId>,
    /// Who is admitted, and may edit and delete what others wrote; may be repeated
    #[arg(long = "moderator", value_name = "USER", value_parser = user_id)]
    moderators: Vec<UserId>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Change a room. Whoever may not be in it any more is out of it at once.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Which room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// The name for people
    #[arg(long, conflicts_with = "no_name")]
    name: Option<String>,
    /// Take the name away
    #[arg(long)]
    no_name: bool,
    /// Only its members may join it
    #[arg(long, conflicts_with = "open")]
    private: bool,
    /// Everybody may join it
    #[arg(long)]
    open: bool,
    /// Whoever takes part in it now becomes a member: a room is made private with those who are in it
    #[arg(long)]
    admit_guests: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Delete a room with all its messages. Nothing of it can be had back but from a backup.
#[derive(Debug, Args)]
pub struct DeleteArgs {
    /// Which room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Do it; without this, only what would be deleted is shown
    #[arg(long)]
    yes: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Admit people to a room, or take them out.
#[derive(Debug, Subcommand)]
pub enum MemberCommand {
    /// Admit somebody, or make them a moderator or a plain member
    Add(AddArgs),
    /// Take somebody out; they are out of the live room at once
    Remove(RemoveArgs),
}

/// Admit somebody, or make them a moderator or a plain member.
#[derive(Debug, Args)]
pub struct AddArgs {
    /// Which room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Who
    #[arg(value_name = "USER", value_parser = user_id)]
    user: UserId,
    /// They may edit and delete what others wrote
    #[arg(long)]
    moderator: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Take somebody out. What they wrote stays; an open room they may join again.
#[derive(Debug, Args)]
pub struct RemoveArgs {
    /// Which room
    #[arg(value_name = "ROOM", value_parser = room_id)]
    id: RoomId,
    /// Who
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

/// Does it.
///
/// # Errors
/// What the server refuses.
pub fn run(global: &Global, command: RoomCommand) -> anyhow::Result<Exit> {
    match command {
        RoomCommand::List(args) => list(global, &args),
        RoomCommand::Show(args) => show(global, &args),
        RoomCommand::Create(args) => create(global, &args),
        RoomCommand::Set(args) => set(global, &args),
        RoomCommand::Delete(args) => delete(global, &args),
        RoomCommand::Member(MemberCommand::Add(args)) => {
            let body = json!({ "role": if args.moderator { "moderator" } else { "member" } });
            let put = Call::new(Method::PUT, member_path(&args.id, &args.user), Some(body)).offline_too();
            let answer = call(global, &args.server, put)?;
            global.print(&answer, || {
                let was = answer.get("before").and_then(Value::as_str);
                let was = was.map_or(String::new(), |before| format!(" (was: {before})"));
                format!("user {} is now {} of room {}{was}", args.user, text(&answer, "role"), args.id)
            })?;
            Ok(Exit::Done)
        }
        RoomCommand::Member(MemberCommand::Remove(args)) => {
            let delete = Call::new(Method::DELETE, member_path(&args.id, &args.user), None).offline_too();
            let answer = call(global, &args.server, delete)?;
            global.print(&answer, || {
                format!("user {} is out of room {} (was: {})", args.user, args.id, text(&answer, "before"))
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
    global.print(&answer, || listing::lines(&answer, "there are no such rooms", line))?;
    Ok(Exit::Done)
}

fn line(room: &Value) -> String {
    let kind = if room.get("private").and_then(Value::as_bool) == Some(true) { "private" } else { "open   " };
    let name = Some(text(room, "name")).filter(|name| !name.is_empty()).map(|name| format!("  {name}"));
    format!(
        "{:<24} {kind}  {:>5} take part  {:>4} here now  {:>7} messages{}",
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
        let members = listing::lines(&answer, "  nobody takes part in it", |member| {
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
        let remedy = "Give --name, --no-name, --private, --open or --admit-guests.";
        return Err(Failure::usage("there is nothing to change", "no option says what", remedy).into());
    }
    let patch = Call::new(Method::PATCH, path(&args.id), Some(Value::Object(body))).offline_too();
    let answer = call(global, &args.server, patch)?;
    global.print(&answer, || format!("changed: {}", line(&answer)))?;
    Ok(Exit::Done)
}

fn delete(global: &Global, args: &DeleteArgs) -> anyhow::Result<Exit> {
    if !args.yes {
        let get = Call::new(Method::GET, format!("{}?limit=1", path(&args.id)), None).offline_too();
        let answer = call(global, &args.server, get)?;
        let why = format!(
            "it would delete {} messages, and {} take part",
            number(&answer, "lastSeq"),
            number(&answer, "members")
        );
        let what = format!("room {} is not deleted", args.id);
        return Err(Failure::usage(what, why, "Add --yes to delete it; only a backup has it then.").into());
    }
    let answer = call(global, &args.server, Call::new(Method::DELETE, path(&args.id), None).offline_too().patient())?;
    global.print(&answer, || {
        format!(
            "room {} is deleted with {} messages\nThe old bytes leave the database file with `academy-rt db compact`; backups made before still have them.",
            args.id,
            number(&answer, "lastSeq")
        )
    })?;
    Ok(Exit::Done)
}
