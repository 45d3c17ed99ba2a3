//! `room import`: rooms with their members from a CSV file. It looks at the whole file first, compares it with what the server has,
//! and asks for what is missing: repeated, it changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use csv_core::ReadRecordResult;
use http::Method;
use serde_json::{Map, Value, json};

use crate::domain::{RoomId, UserId};
use crate::protocol::admin::access::{MAX_ADMITTED, MAX_ROOM_NAME_CHARS};

use crate::cli::Global;
use crate::cli::client::listing::{all, items_of, text};
use crate::cli::client::{Call, ServerArgs, call, segment};
use crate::cli::exit::{Exit, Failure, warn};

/// The largest file, in bytes.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// The most cells of a line.
const MAX_CELLS: usize = 100_000;
/// So many wrong lines are told one by one.
const TOLD: usize = 100;

/// Create rooms and add members from a CSV file.
///
/// The first line names the columns: roomId, and optionally name, private (true or false) and userId. There may be several
/// columns userId, and several lines for one room. Rooms and members that are not in the file stay as they are; nobody loses a
/// role. The command can be repeated: what is there already is left alone.
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// The CSV file, in UTF-8, with commas or semicolons; - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Only show what would be done
    #[arg(long)]
    dry_run: bool,
    /// Skip wrong lines and rooms that the server refuses, and go on; the exit status is then 3
    #[arg(long)]
    keep_going: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// A room as the file has it.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    /// The first line that names it.
    line: u64,
    id: RoomId,
    name: Option<String>,
    private: Option<bool>,
    members: Vec<UserId>,
}

/// A line that cannot be used.
#[derive(Debug, PartialEq, Eq)]
struct Wrong {
    line: u64,
    why: String,
}

/// What a column is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Column {
    Room,
    Name,
    Private,
    User,
}

/// Runs the command.
///
/// # Errors
/// If the file cannot be used, or the server refuses a request.
pub fn run(global: &Global, args: &ImportArgs) -> anyhow::Result<Exit> {
    let (rooms, wrong) = parse(&read(&args.file)?).map_err(|why| {
        let remedy = "Begin the file with a line such as: roomId,name,private,userId";
        Failure::new(format!("{} cannot be imported", args.file.display()), why, remedy)
    })?;
    for Wrong { line, why } in wrong.iter().take(TOLD) {
        warn(&format!("line {line}: {why}"))?;
    }
    if !wrong.is_empty() && !args.keep_going {
        let why = format!("{} lines are wrong", wrong.len());
        let remedy = "Correct these lines and repeat the command, or skip them with --keep-going.";
        return Err(Failure::new("nothing was imported", why, remedy).into());
    }
    let there = all(global, &args.server, "/api/v1/admin/rooms", None)?;
    let there: HashMap<String, &Value> = items_of(&there).iter().map(|room| (text(room, "roomId"), room)).collect();
    let mut done = Vec::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for room in &rooms {
        let before = there.get(&room.id.canonical()).copied();
        let outcome = import(global, args, room, before);
        let (status, added, error) = match outcome {
            Ok((status, added)) => (status, added, None),
            Err(error) if args.keep_going => {
                warn(&format!("line {}: room {}: {error}", room.line, room.id))?;
                ("failed", 0, Some(error.to_string()))
            }
            Err(error) => {
                let what = format!("room {} (line {}) could not be imported", room.id, room.line);
                let remedy = format!(
                    "The {} rooms before it were imported. Repeat the command when this is solved, or skip such rooms with --keep-going.",
                    done.len()
                );
                return Err(Failure::new(what, error, remedy).into());
            }
        };
        *counts.entry(status).or_default() += 1;
        let mut item = json!({ "roomId": room.id, "line": room.line, "status": status, "added": added });
        if let (Some(item), Some(error)) = (item.as_object_mut(), error) {
            item.insert("error".to_owned(), json!(error));
        }
        done.push(item);
    }
    let count = |status: &str| counts.get(status).copied().unwrap_or_default();
    let is_good = wrong.is_empty() && count("failed") == 0;
    let lines: Vec<Value> = wrong.iter().map(|wrong| json!({ "line": wrong.line, "why": wrong.why })).collect();
    let answer = json!({
        "ok": is_good, "dryRun": args.dry_run, "rooms": done, "wrong": lines,
        "created": count("created"), "changed": count("changed"), "unchanged": count("unchanged"), "failed": count("failed"),
    });
    global.print(&answer, || {
        let would = if args.dry_run { "would be " } else { "" };
        let skipped = if wrong.is_empty() { String::new() } else { format!(", {} lines are skipped", wrong.len()) };
        format!(
            "{} rooms {would}created, {} {would}changed, {} stay as they are, {} failed{skipped}",
            count("created"),
            count("changed"),
            count("unchanged"),
            count("failed"),
        )
    })?;
    Ok(if is_good { Exit::Done } else { Exit::Found })
}

/// Brings one room to what the file says of it. Gives what was done, and how many were added.
fn import(
    global: &Global,
    args: &ImportArgs,
    room: &Wanted,
    before: Option<&Value>,
) -> anyhow::Result<(&'static str, usize)> {
    let path = format!("/api/v1/admin/rooms/{}", segment(&room.id.canonical()));
    let ask = |method, path: String, body| {
        if args.dry_run {
            return Ok(Value::Null);
        }
        call(global, &args.server, Call::new(method, path, Some(body)).offline_too())
    };
    let admit = |user: &UserId| {
        let path = format!("{path}/members/{}", segment(&user.canonical()));
        ask(Method::PUT, path, json!({ "role": "member" })).map(drop)
    };
    let Some(before) = before else {
        let (at_once, others) = room.members.split_at(room.members.len().min(MAX_ADMITTED));
        let private = room.private.unwrap_or(false);
        let body = json!({ "roomId": room.id, "name": room.name, "private": private, "members": at_once });
        ask(Method::POST, "/api/v1/admin/rooms".to_owned(), body)?;
        others.iter().try_for_each(admit)?;
        return Ok(("created", room.members.len()));
    };
    let whole = all(global, &args.server, &path, None)?;
    let is_admitted = |member: &&Value| text(member, "role") != "guest";
    let admitted: HashSet<String> =
        items_of(&whole).iter().filter(is_admitted).map(|member| text(member, "userId")).collect();
    let missing: Vec<&UserId> = room.members.iter().filter(|user| !admitted.contains(&user.canonical())).collect();
    // Before the room is closed: who is in it stays in it.
    missing.iter().try_for_each(|user| admit(user))?;
    let mut patch = Map::new();
    if let Some(name) = room.name.as_ref().filter(|name| before.get("name") != Some(&json!(name))) {
        patch.insert("name".to_owned(), json!(name));
    }
    if let Some(private) = room.private.filter(|private| before.get("private") != Some(&json!(private))) {
        patch.insert("private".to_owned(), json!(private));
    }
    let is_changed = !patch.is_empty() || !missing.is_empty();
    if !patch.is_empty() {
        ask(Method::PATCH, path.clone(), Value::Object(patch))?;
    }
    Ok((if is_changed { "changed" } else { "unchanged" }, missing.len()))
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    let unreadable = || format!("{} cannot be read", path.display());
    let mut bytes = Vec::new();
    if path == Path::new("-") {
        std::io::stdin().lock().take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    } else {
        let file = std::fs::File::open(path).map_err(|error| {
            Failure::new(unreadable(), error, "Correct the path, or run the command as a user who may read the file.")
        })?;
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).with_context(unreadable)?;
    }
    if bytes.len() as u64 > MAX_FILE_BYTES {
        let why = format!("it has more than {} MiB", MAX_FILE_BYTES >> 20);
        return Err(Failure::new(unreadable(), why, "Divide it into several files.").into());
    }
    Ok(bytes)
}

/// Reads a file: its rooms in their order, and every line that is wrong.
///
/// # Errors
/// Why nothing of it can be used.
fn parse(bytes: &[u8]) -> Result<(Vec<Wanted>, Vec<Wrong>), String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not valid UTF-8; save it as CSV UTF-8".to_owned())?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let first = text.lines().next().unwrap_or_default();
    // What spreadsheets write where the comma is the sign of decimals.
    let delimiter = if first.contains(';') && !first.contains(',') { b';' } else { b',' };
    let mut records = records(text, delimiter)?.into_iter();
    let header = records.next().map(|(_, cells)| cells).unwrap_or_default();
    let columns: Vec<Column> = header.iter().map(|name| column(name)).collect::<Result<_, _>>()?;
    for (column, name) in [(Column::Room, "roomId"), (Column::Name, "name"), (Column::Private, "private")] {
        match columns.iter().filter(|found| **found == column).count() {
            0 if column == Column::Room => return Err("its first line names no column roomId".to_owned()),
            0 | 1 => {}
            _ => return Err(format!("its first line names the column {name} twice")),
        }
    }
    let mut rooms: Vec<Wanted> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    let mut wrong = Vec::new();
    for (line, cells) in records {
        match wanted(&cells, &columns, line) {
            Err(why) => wrong.push(Wrong { line, why }),
            Ok(room) => match places.get(&room.id.canonical()).and_then(|place| rooms.get_mut(*place)) {
                Some(known) => wrong.extend(known.join(room).err()),
                None => {
                    places.insert(room.id.canonical(), rooms.len());
                    rooms.push(room);
                }
            },
        }
    }
    Ok((rooms, wrong))
}

/// The records of a file, each with the number of its first line. Empty lines are none.
fn records(text: &str, delimiter: u8) -> Result<Vec<(u64, Vec<String>)>, String> {
    let mut reader = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
    let (mut output, mut ends) = (vec![0; text.len() + 1], vec![0; MAX_CELLS]);
    let (mut input, mut line) = (text.as_bytes(), 1);
    let mut records = Vec::new();
    let newlines = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    loop {
        let blank = input.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
        let (skipped, rest) = input.split_at(blank);
        line += newlines(skipped);
        input = rest;
        let (mut bytes, mut cells) = (0, 0);
        let before = input;
        loop {
            let (output, ends) = (output.get_mut(bytes..), ends.get_mut(cells..));
            let (result, read, written, ended) =
                reader.read_record(input, output.unwrap_or_default(), ends.unwrap_or_default());
            input = input.get(read..).unwrap_or_default();
            bytes += written;
            cells += ended;
            match result {
                // The end of the file ends its last record: the next, empty, input tells it.
                ReadRecordResult::InputEmpty => {}
                ReadRecordResult::Record => break,
                ReadRecordResult::End => return Ok(records),
                ReadRecordResult::OutputFull | ReadRecordResult::OutputEndsFull => {
                    return Err(format!("its line {line} has more than {MAX_CELLS} cells"));
                }
            }
        }
        let mut begin = 0;
        let mut record = Vec::with_capacity(cells);
        for end in ends.iter().take(cells) {
            let cell = output.get(begin..*end).unwrap_or_default();
            record.push(String::from_utf8_lossy(cell).trim().to_owned());
            begin = *end;
        }
        records.push((line, record));
        line += newlines(before.get(..before.len() - input.len()).unwrap_or_default());
    }
}

fn column(name: &str) -> Result<Column, String> {
    match name.to_ascii_lowercase().as_str() {
        "roomid" => Ok(Column::Room),
        "name" => Ok(Column::Name),
        "private" => Ok(Column::Private),
        "userid" => Ok(Column::User),
        _ => Err(format!("its first line names a column '{name}'; there are roomId, name, private and userId")),
    }
}

/// One line.
fn wanted(cells: &[String], columns: &[Column], line: u64) -> Result<Wanted, String> {
    let (mut id, mut name, mut private, mut members) = (None, None, None, Vec::new());
    for (place, cell) in cells.iter().map(String::as_str).enumerate() {
        // Behind the last column there may be more of its kind, if it is one of users.
        let column = columns.get(place).or_else(|| columns.last().filter(|last| **last == Column::User));
        match column {
            _ if cell.is_empty() => {}
            None => return Err(format!("it has more cells than columns: '{cell}'")),
            Some(Column::Room) => {
                id = Some(RoomId::parse(cell).map_err(|error| format!("roomId '{cell}' {error}"))?);
            }
            Some(Column::Name) => {
                if cell.chars().count() > MAX_ROOM_NAME_CHARS || cell.chars().any(char::is_control) {
                    return Err(format!("name must have at most {MAX_ROOM_NAME_CHARS} characters, in one line"));
                }
                name = Some(cell.to_owned());
            }
            Some(Column::Private) => {
                private = Some(match cell.to_ascii_lowercase().as_str() {
                    "true" | "yes" | "1" => true,
                    "false" | "no" | "0" => false,
                    _ => return Err(format!("private must be true or false, and is '{cell}'")),
                });
            }
            Some(Column::User) => {
                let user = UserId::parse(cell).map_err(|error| format!("userId '{cell}' {error}"))?;
                if user.is_reserved() {
                    return Err(format!("userId '{cell}' is not a person"));
                }
                if !members.contains(&user) {
                    members.push(user);
                }
            }
        }
    }
    let id = id.ok_or_else(|| "it names no roomId".to_owned())?;
    Ok(Wanted { line, id, name, private, members })
}

impl Wanted {
    /// Another line of the same room.
    fn join(&mut self, other: Wanted) -> Result<(), Wrong> {
        let differs = |what: &str| Wrong {
            line: other.line,
            why: format!("room {} has another {what} in line {}", other.id, self.line),
        };
        if self.name.is_some() && other.name.is_some() && self.name != other.name {
            return Err(differs("name"));
        }
        if self.private.is_some() && other.private.is_some() && self.private != other.private {
            return Err(differs("value of private"));
        }
        self.name = self.name.take().or(other.name);
        self.private = self.private.or(other.private);
        let known: HashSet<UserId> = self.members.iter().cloned().collect();
        self.members.extend(other.members.into_iter().filter(|user| !known.contains(user)));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Vec<Wanted>, Vec<(u64, String)>) {
        let (rooms, wrong) = parse(text.as_bytes()).unwrap();
        (rooms, wrong.into_iter().map(|wrong| (wrong.line, wrong.why)).collect())
    }

    #[test]
    fn columns_are_known_by_their_names_and_lines_of_one_room_are_one() {
        let text = "\u{feff}userId,RoomID,private,name,userId,userId\r\n7,french,yes,\"Français, A1\",8,7,9\r\n\r\n10,french,,,,\r\n11,7\r\n";
        let (rooms, wrong) = parsed(text);
        assert_eq!(wrong, []);
        let ids = |room: &Wanted| room.members.iter().map(UserId::canonical).collect::<Vec<_>>();
        assert_eq!(
            (rooms.len(), ids(&rooms[0]), ids(&rooms[1])),
            (2, vec!["7".into(), "8".into(), "9".into(), "10".into()], vec!["11".to_owned()])
        );
        assert_eq!((rooms[0].name.as_deref(), rooms[0].private, rooms[1].line), (Some("Français, A1"), Some(true), 5));
        assert_eq!(parsed("roomId;userId\na;1;2\n").0[0].members.len(), 2);
    }

    #[test]
    fn every_wrong_line_is_told_with_its_number() {
        let text = format!(
            "roomId,name,private,userId\na,A,true,1\n,B,,1\na,Other,,2\nuser:7,,,\nb,,maybe,\nc,{},,\nd,,,{}\ne,,,system\na,,false,\n",
            "x".repeat(201),
            "y".repeat(300),
        );
        let (rooms, wrong) = parsed(&text);
        assert_eq!(rooms.len(), 1);
        let lines: Vec<u64> = wrong.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [3, 4, 5, 6, 7, 8, 9, 10], "{wrong:?}");
        assert!(wrong[1].1.contains("another name in line 2"), "{wrong:?}");
        for (text, part) in [
            ("", "no column roomId"),
            ("name\nx\n", "no column roomId"),
            ("roomId,role\n", "'role'"),
            ("roomId,name,name\n", "twice"),
        ] {
            assert!(parse(text.as_bytes()).unwrap_err().contains(part), "{text}");
        }
        assert!(parse(b"roomId\n\xff\n").unwrap_err().contains("UTF-8"));
    }
}
