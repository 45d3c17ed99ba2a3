//! `audit`: the audit log. An export has one JSON object per line and contains the chain of hashes, so that it can be verified
//! without the server.

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::archive::moments::{at_moment, moment};
use crate::config::disk_room;
use crate::config::units;
use crate::domain::audit::{AuditEntry, AuditRecord, Broken, Hash, Link, from_hex, hex};
use crate::domain::{Clock, SystemClock, Timestamp};

use crate::cli::Global;
use crate::cli::client::listing::items_of;
use crate::cli::client::{Call, Place, ServerArgs, call, segment};
use crate::cli::exit::{Exit, Failure, in_line};

/// How many records are fetched with one request.
const PAGE: usize = 1_000;

/// Commands for the audit log.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show records of the audit log
    List(ListArgs),
    /// Export the whole audit log, one JSON object per line
    Export(ExportArgs),
    /// Verify the chain of hashes. If it is broken, the exit status is 3 and the answer says where.
    ///
    /// The chain alone does not show whether its end was cut off, or whether all of it was rewritten. To check that, give a record
    /// that the server has logged (--expect). The server logs the last record at its start, daily, and with each backup.
    Verify(VerifyArgs),
}

/// Show records of the audit log.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show only records after this one
    #[arg(long, value_name = "NUMBER", default_value_t = 0, conflicts_with_all = ["since", "until", "by", "action", "target"])]
    after: u64,
    /// Maximum number of records; without --after, the newest
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Show only records since then: an age such as 7d or 12h, or a moment such as 2026-11-23T17:10:55Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Show only records before then; as --since
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Show only what somebody did: this text is in the user's ID or in where they came from
    #[arg(long, value_name = "TEXT")]
    by: Option<String>,
    /// Show only one kind of acts, such as user.block, or those of a group, such as user
    #[arg(long, value_name = "ACTION")]
    action: Option<String>,
    /// Show only what was done to somebody or something: this text is in the target
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Export the whole audit log, one JSON object per line.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// File for the export, which must not exist yet [default: standard output]
    file: Option<PathBuf>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Which audit log, and what it must contain.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// An export, or an audit log that a restore has kept [default: the audit log of the server]
    file: Option<PathBuf>,
    /// Record that it must contain, as the server's log, `backup` and `backup verify` print it; if not, the exit status is 3
    #[arg(long, value_name = "NUMBER:HASH", value_parser = point)]
    expect: Option<Link>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request, or a file cannot be read or written.
pub fn run(global: &Global, command: AuditCommand) -> anyhow::Result<Exit> {
    match command {
        AuditCommand::List(args) => list(global, &args),
        AuditCommand::Export(args) => export(global, &args),
        AuditCommand::Verify(args) => verify(global, &args),
    }
}

fn page(global: &Global, server: &ServerArgs, after: u64, limit: usize, is_export: bool) -> anyhow::Result<Value> {
    let export = if is_export { "&export=true" } else { "" };
    let path = format!("/api/v1/admin/audit?after={after}&limit={limit}{export}");
    call(global, server, Call::new(Method::GET, path, None).offline_too())
}

/// A time as an age or a moment, in milliseconds since the Unix epoch.
fn time(flag: &str, text: &str) -> anyhow::Result<Timestamp> {
    let ago = |age| SystemClock.now().minus(age);
    units::duration(text).ok().map(ago).or_else(|| at_moment(text)).ok_or_else(|| {
        let why = format!("{text} is neither an age nor a moment");
        Failure::usage(
            format!("{flag} needs a time"),
            why,
            "Write an age such as 7d or 12h, or a moment such as 2026-11-23T17:10:55Z.",
        )
        .into()
    })
}

/// The search that is asked for, as a query; `None` if none is.
fn search_of(args: &ListArgs) -> anyhow::Result<Option<String>> {
    let mut query = Vec::new();
    for (name, flag, text) in [("since", "--since", &args.since), ("until", "--until", &args.until)] {
        if let Some(text) = text {
            query.push(format!("{name}={}", time(flag, text)?.0));
        }
    }
    for (name, text) in [("by", &args.by), ("action", &args.action), ("target", &args.target)] {
        query.extend(text.iter().map(|text| format!("{name}={}", segment(text))));
    }
    Ok(Some(query.join("&")).filter(|query| !query.is_empty()))
}

/// Searches back until there are as many records as asked for, and shows them in their order.
fn found(global: &Global, args: &ListArgs, query: &str) -> anyhow::Result<Exit> {
    let most = usize::try_from(args.limit).unwrap_or(PAGE);
    let (mut items, mut before): (Vec<Value>, Option<u64>) = (Vec::new(), None);
    let next = loop {
        let at = before.map(|before| format!("&before={before}")).unwrap_or_default();
        let path = format!("/api/v1/admin/audit?{query}{at}&limit={}", most - items.len());
        let answer = call(global, &args.server, Call::new(Method::GET, path, None).offline_too())?;
        items.extend_from_slice(items_of(&answer));
        before = answer.get("next").and_then(Value::as_u64);
        if before.is_none() || items.len() >= most {
            break before;
        }
    };
    items.reverse();
    let answer = json!({ "ok": true, "items": items, "next": next });
    global.print(&answer, || {
        let mut lines: Vec<String> = items.iter().map(line).collect();
        if lines.is_empty() {
            lines.push("no record fits".to_owned());
        } else if next.is_some() {
            lines.insert(0, format!("there may be older ones; show more with --limit (now {most})"));
        }
        lines.join("\n")
    })?;
    Ok(Exit::Done)
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    if let Some(query) = search_of(args)? {
        return found(global, args, &query);
    }
    let mut after = args.after;
    if after == 0 {
        let head = page(global, &args.server, 0, 1, false)?;
        let last = head.pointer("/head/number").and_then(Value::as_u64).unwrap_or_default();
        after = last.saturating_sub(args.limit);
    }
    let answer = page(global, &args.server, after, usize::try_from(args.limit).unwrap_or(PAGE), false)?;
    global.print(&answer, || {
        let lines: Vec<String> = items_of(&answer).iter().map(line).collect();
        if lines.is_empty() { "there are no records".to_owned() } else { lines.join("\n") }
    })?;
    Ok(Exit::Done)
}

fn line(record: &Value) -> String {
    let text = |name: &str| in_line(record.get(name).and_then(Value::as_str).unwrap_or_default());
    let number = |name: &str| record.get(name).and_then(Value::as_u64).unwrap_or_default();
    let who = if text("actor").is_empty() { "unknown user".to_owned() } else { text("actor") };
    let target = if text("target").is_empty() { String::new() } else { format!(" ({})", text("target")) };
    format!(
        "{:>6}  {}  {} from {}: {}{target}: {}",
        number("number"),
        moment(Timestamp(number("at"))),
        who,
        text("origin"),
        text("action"),
        text("outcome"),
    )
}

fn export(global: &Global, args: &ExportArgs) -> anyhow::Result<Exit> {
    let unwritable = |error: std::io::Error| {
        let why = disk_room::why(args.file.as_deref().unwrap_or(std::path::Path::new("/")), &error);
        Failure::new("the export cannot be written", why, "Use the name of a new file, on a disk with free space.")
    };
    let mut out: Box<dyn Write> = match &args.file {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let opened = Place::new(global, &args.server, path).create(0o600);
            Box::new(BufWriter::new(opened.map_err(unwritable)?))
        }
    };
    let mut written = || -> anyhow::Result<u64> {
        let (mut after, mut count, mut is_first) = (0, 0, true);
        loop {
            let answer = page(global, &args.server, after, PAGE, true)?;
            if std::mem::take(&mut is_first) {
                writeln!(out, "{}", json!({ "anchor": answer.get("anchor") })).map_err(unwritable)?;
            }
            for record in items_of(&answer) {
                writeln!(out, "{record}").map_err(unwritable)?;
                after = record.get("number").and_then(Value::as_u64).unwrap_or(after);
                count += 1;
            }
            if answer.get("hasMore").and_then(Value::as_bool) != Some(true) {
                writeln!(out, "{}", json!({ "head": answer.get("head") })).map_err(unwritable)?;
                out.flush().map_err(unwritable)?;
                return Ok(count);
            }
        }
    };
    let count = written();
    drop(out);
    match (count, &args.file) {
        (Ok(count), Some(path)) => {
            global.print(&json!({ "ok": true, "records": count, "file": path.display().to_string() }), || {
                format!("{count} records are in {}; `academy-rt audit verify FILE` verifies them", path.display())
            })?;
        }
        (Ok(_), None) => {}
        (Err(error), path) => {
            // Half an export looks like a complete one.
            if let Some(path) = path {
                Place::new(global, &args.server, path).remove();
            }
            return Err(error);
        }
    }
    Ok(Exit::Done)
}

/// A record as the server's log prints it.
fn point(text: &str) -> Result<Link, String> {
    let parts = text.split_once(':').and_then(|(number, hash)| Some((number.parse().ok()?, from_hex(hash)?)));
    let (number, hash) = parts.ok_or("must be NUMBER:HASH with all 64 digits of the hash, as the server logs it")?;
    Ok(Link { number, hash })
}

/// Where a walk along the chain is.
struct Walk {
    anchor: Link,
    link: Link,
    count: u64,
    broken: Option<Broken>,
    /// The expected record, and the hash that was found at its number.
    expected: Option<(Link, Option<Hash>)>,
}

impl Walk {
    fn from(anchor: Link, expected: Option<Link>) -> Walk {
        let mut walk =
            Walk { anchor, link: anchor, count: 0, broken: None, expected: expected.map(|link| (link, None)) };
        walk.pass(anchor);
        walk
    }

    fn pass(&mut self, link: Link) {
        if let Some((expected, found)) = &mut self.expected
            && expected.number == link.number
        {
            *found = Some(link.hash);
        }
    }

    fn follow(&mut self, record: &AuditRecord) {
        self.count += 1;
        self.pass(Link::from(record));
        match self.link.follow(record) {
            Ok(link) => self.link = link,
            Err(broken) => {
                self.broken.get_or_insert(broken);
                self.link = Link::from(record);
            }
        }
    }

    fn end(mut self, head: Link) -> Walk {
        if self.link != head {
            self.broken.get_or_insert(Broken::WrongEnd { found: self.link.number, head: head.number });
        }
        self
    }

    /// Why the audit log does not contain the expected record.
    fn difference(&self) -> Option<String> {
        let (expected, found) = self.expected.as_ref()?;
        let number = expected.number;
        match found {
            Some(hash) if *hash == expected.hash => None,
            Some(hash) => Some(format!(
                "record {number} has the hash {}, not the expected one: the audit log was rewritten, or is another one",
                hex(hash)
            )),
            None if number < self.anchor.number => Some(format!(
                "record {number} was purged (the audit log now begins after record {}): it can no longer be compared",
                self.anchor.number
            )),
            None if number > self.link.number => Some(format!(
                "record {number} does not exist: the audit log was truncated, and ends with record {}",
                self.link.number
            )),
            None => Some(format!("record {number} is missing")),
        }
    }
}

fn verify(global: &Global, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let walk = match &args.file {
        Some(path) => walk_file(path, args.expect)?,
        None => walk_server(global, &args.server, args.expect)?,
    };
    let difference = walk.difference();
    let is_good = walk.broken.is_none() && difference.is_none();
    let expected = args.expect.map(|link| {
        json!({
            "number": link.number, "hash": hex(&link.hash), "found": difference.is_none(), "problem": difference,
        })
    });
    let answer = json!({
        "ok": is_good, "records": walk.count, "head": { "number": walk.link.number, "hash": hex(&walk.link.hash) },
        "broken": walk.broken.map(|broken| broken.to_string()), "expected": expected,
    });
    global.print(&answer, || {
        let mut lines = vec![match &walk.broken {
            None => format!(
                "the chain is intact: {} records, the last is {} ({})",
                walk.count,
                walk.link.number,
                hex(&walk.link.hash)
            ),
            Some(broken) => format!("THE CHAIN IS BROKEN: {broken}"),
        }];
        lines.extend(match (&difference, &args.expect) {
            (Some(difference), _) => Some(format!("THIS IS NOT THE EXPECTED AUDIT LOG: {difference}")),
            (None, Some(expected)) => Some(format!("record {} is the expected one", expected.number)),
            (None, None) => None,
        });
        lines.join("\n")
    })?;
    Ok(if is_good { Exit::Done } else { Exit::Found })
}

fn walk_server(global: &Global, server: &ServerArgs, expected: Option<Link>) -> anyhow::Result<Walk> {
    let mut answer = page(global, server, 0, PAGE, false)?;
    let mut walk = Walk::from(link(answer.get("anchor"))?, expected);
    loop {
        let mut last = 0;
        for record in items_of(&answer) {
            let record = read_record(record)?;
            last = record.number;
            walk.follow(&record);
        }
        if answer.get("hasMore").and_then(Value::as_bool) != Some(true) {
            return Ok(walk.end(link(answer.get("head"))?));
        }
        answer = page(global, server, last, PAGE, false)?;
    }
}

fn walk_file(path: &std::path::Path, expected: Option<Link>) -> anyhow::Result<Walk> {
    let bad = |why: String| {
        let what = format!("{} is not an export of the audit log", path.display());
        Failure::new(what, why, "Use a file that `academy-rt audit export` or a restore has written.")
    };
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let (mut walk, mut head) = (None, None);
    for (n, text) in BufReader::new(file).lines().enumerate() {
        let text = text.map_err(|error| bad(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| bad(format!("line {}: {error}", n + 1)))?;
        // An export has its head in its last line; a file that a restore has kept has it in its first.
        if value.get("anchor").is_some() || value.get("head").is_some() {
            if value.get("anchor").is_some() {
                walk = Some(Walk::from(link(value.get("anchor"))?, expected));
            }
            if value.get("head").is_some() {
                head = Some(link(value.get("head"))?);
            }
        } else {
            let walk = walk.as_mut().ok_or_else(|| bad("its first line is not the anchor".to_owned()))?;
            walk.follow(&read_record(&value).map_err(|error| bad(format!("line {}: {error}", n + 1)))?);
        }
    }
    let walk = walk.ok_or_else(|| bad("it is empty".to_owned()))?;
    Ok(match head {
        Some(head) => walk.end(head),
        None => {
            let found = walk.link.number;
            Walk { broken: walk.broken.or(Some(Broken::WrongEnd { found, head: found + 1 })), ..walk }
        }
    })
}

fn link(value: Option<&Value>) -> anyhow::Result<Link> {
    let number = value.and_then(|link| link.get("number")).and_then(Value::as_u64);
    let hash = value.and_then(|link| link.get("hash")).and_then(Value::as_str).and_then(from_hex);
    let (Some(number), Some(hash)) = (number, hash) else { anyhow::bail!("a point of the chain cannot be read") };
    Ok(Link { number, hash })
}

fn read_record(record: &Value) -> anyhow::Result<AuditRecord> {
    let text =
        |name: &str| record.get(name).and_then(Value::as_str).map(ToOwned::to_owned).context("a record lacks a field");
    let number = |name: &str| record.get(name).and_then(Value::as_u64).context("a record lacks a number");
    Ok(AuditRecord {
        number: number("number")?,
        entry: AuditEntry {
            at: Timestamp(number("at")?),
            actor: text("actor")?,
            origin: text("origin")?,
            action: text("action")?,
            target: text("target")?,
            outcome: text("outcome")?,
        },
        hash: from_hex(&text("hash")?).context("a record's hash cannot be read")?,
    })
}
