//! `audit`: the audit trail. An export is one JSON object a line, and carries the chain of hashes: it can be verified by
//! itself, years later.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use anyhow::Context;
use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Value, json};

use crate::domain::Timestamp;
use crate::domain::audit::{AuditEntry, AuditRecord, Broken, Link, from_hex, hex};
use crate::ops::backup::moment;

use super::Global;
use super::client::{Call, ServerArgs, call};
use super::exit::{Exit, Failure};
use super::listing::items_of;

/// So many records are fetched at a time.
const PAGE: usize = 1_000;

/// What to do with the audit trail.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show records
    List(ListArgs),
    /// Write the whole trail, one JSON object a line
    Export(ExportArgs),
    /// Follow the chain of hashes. Exit status 3, with the place, if it is broken
    Verify(VerifyArgs),
}

/// Show records.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Only behind this record
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    after: u64,
    /// At most so many; the newest without --after
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Write the whole trail, one JSON object a line.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Where it goes; nothing is overwritten [default: standard output]
    file: Option<PathBuf>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Follow the chain of hashes.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// An export [default: the server's own trail]
    file: Option<PathBuf>,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Does it.
///
/// # Errors
/// What the server refuses, or what cannot be read or written.
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

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
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
    let text = |name: &str| record.get(name).and_then(Value::as_str).unwrap_or_default();
    let number = |name: &str| record.get(name).and_then(Value::as_u64).unwrap_or_default();
    let who = if text("actor").is_empty() { "nobody known" } else { text("actor") };
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
        Failure::new("the export cannot be written", error, "Give the name of a new file, on a disk with space.")
    };
    let mut out: Box<dyn Write> = match &args.file {
        None => Box::new(std::io::stdout().lock()),
        Some(path) => {
            let opened = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
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
            global.print(&json!({ "ok": true, "records": count, "file": path }), || {
                format!("{count} records are in {}; `academy-rt audit verify FILE` follows their chain", path.display())
            })?;
        }
        (Ok(_), None) => {}
        (Err(error), path) => {
            // Half an export looks like a whole one.
            path.as_ref().map(std::fs::remove_file);
            return Err(error);
        }
    }
    Ok(Exit::Done)
}

/// Where a walk along the chain is.
struct Walk {
    link: Link,
    count: u64,
    broken: Option<Broken>,
}

impl Walk {
    fn from(anchor: Link) -> Walk {
        Walk { link: anchor, count: 0, broken: None }
    }

    fn follow(&mut self, record: &AuditRecord) {
        self.count += 1;
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
}

fn verify(global: &Global, args: &VerifyArgs) -> anyhow::Result<Exit> {
    let walk = match &args.file {
        Some(path) => walk_file(path)?,
        None => walk_server(global, &args.server)?,
    };
    let answer = json!({
        "ok": walk.broken.is_none(), "records": walk.count, "head": { "number": walk.link.number, "hash": hex(&walk.link.hash) },
        "broken": walk.broken.map(|broken| broken.to_string()),
    });
    global.print(&answer, || match &walk.broken {
        None => format!(
            "the chain is whole: {} records, the last is {} ({})",
            walk.count,
            walk.link.number,
            hex(&walk.link.hash)
        ),
        Some(broken) => format!("THE CHAIN IS BROKEN: {broken}"),
    })?;
    Ok(if walk.broken.is_none() { Exit::Done } else { Exit::Found })
}

fn walk_server(global: &Global, server: &ServerArgs) -> anyhow::Result<Walk> {
    let mut answer = page(global, server, 0, PAGE, false)?;
    let mut walk = Walk::from(link(answer.get("anchor"))?);
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

fn walk_file(path: &std::path::Path) -> anyhow::Result<Walk> {
    let bad = |why: String| {
        let what = format!("{} is not an export of the audit trail", path.display());
        Failure::new(what, why, "Give a file that `academy-rt audit export` has written.")
    };
    let file = std::fs::File::open(path).map_err(|error| bad(error.to_string()))?;
    let (mut walk, mut head) = (None, None);
    for (n, text) in BufReader::new(file).lines().enumerate() {
        let text = text.map_err(|error| bad(error.to_string()))?;
        let value: Value = serde_json::from_str(&text).map_err(|error| bad(format!("line {}: {error}", n + 1)))?;
        if value.get("anchor").is_some() {
            walk = Some(Walk::from(link(value.get("anchor"))?));
        } else if value.get("head").is_some() {
            head = Some(link(value.get("head"))?);
        } else {
            let walk = walk.as_mut().ok_or_else(|| bad("it does not begin with its anchor".to_owned()))?;
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
