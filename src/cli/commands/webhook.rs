//! `webhook`: how the platform is told what happens here, what was given up, and the secrets that it is signed with.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use http::Method;
use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::archive::moments::moment;
use crate::auth::rotation::replace_file;
use crate::config::{disk_room, trusted_file};
use crate::domain::Timestamp;
use crate::server::platform::secrets;

use crate::cli::Global;
use crate::cli::client::listing::{items_of, number, text};
use crate::cli::client::{Call, ServerArgs, call};
use crate::cli::commands::key::{config_line, write_new};
use crate::cli::exit::{Exit, Failure, in_line};
use crate::cli::path_text;

/// No file of secrets is larger.
const MAX_FILE_BYTES: u64 = 16 << 10;

/// Commands for webhooks.
#[derive(Debug, Subcommand)]
pub enum WebhookCommand {
    /// Show how webhooks stand, and the dead letters
    List(ListArgs),
    /// Send a webhook of type test now, and show the answer
    Test(TestArgs),
    /// Send dead letters again: one, or all
    Replay(ReplayArgs),
    /// Create a secret that signs calls to the platform, or add one to the file for a rotation
    Secret(SecretArgs),
}

/// Show how webhooks stand: how many wait, how old the oldest is, what is wrong; and the dead letters, which the platform did not
/// take for as long as webhooks.give_up.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Show dead letters after this place, which the page before says
    #[arg(long, value_name = "PLACE")]
    after: Option<u64>,
    /// Show at most this many dead letters
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Send a webhook of type test to webhooks.url now, past everything that waits, and show the answer. The exit code is 1 if the
/// platform did not take it.
#[derive(Debug, Args)]
pub struct TestArgs {
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Send dead letters again. Each keeps its ID, so that a receiver that has it already passes it over.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// ID of the dead letter, as webhook list shows it
    #[arg(long, value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// All dead letters
    #[arg(long)]
    all: bool,
    /// The server
    #[command(flatten)]
    server: ServerArgs,
}

/// Create a secret that signs calls to the platform.
///
/// The command writes the file with mode 0600 and prints the line for the configuration. With --add, it adds a new secret to the
/// file of before: calls are signed with all secrets of the file until the old lines are removed. The server reads the file when
/// it is reloaded.
#[derive(Debug, Args)]
pub struct SecretArgs {
    /// File for the secret
    file: PathBuf,
    /// Add the secret to this file, as its first line
    #[arg(long)]
    add: bool,
}

/// Runs the command.
///
/// # Errors
/// If the server refuses the request, or a file cannot be written.
pub fn run(global: &Global, command: WebhookCommand) -> anyhow::Result<Exit> {
    match command {
        WebhookCommand::List(args) => {
            let mut path = format!("/api/v1/admin/webhooks?limit={}", args.limit);
            if let Some(after) = args.after {
                path.push_str(&format!("&after={after}"));
            }
            let answer = call(global, &args.server, Call::new(Method::GET, path, None).offline_too())?;
            global.print(&answer, || listed(&answer))?;
            Ok(Exit::Done)
        }
        WebhookCommand::Test(args) => {
            let post = Call::new(Method::POST, "/api/v1/admin/webhooks/test", Some(json!({})));
            let answer = call(global, &args.server, post)?;
            if answer.get("isTaken").and_then(Value::as_bool) != Some(true) {
                let begins = begins(&answer);
                let why = format!("{}{}", text(&answer, "words"), begins.replacen('\n', "; ", 1));
                let remedy = "Correct it there, or webhooks.url and webhooks.ca_file here, and try again. What waits is kept meanwhile.";
                return Err(Failure::new("the platform did not take the webhook", in_line(&why), remedy).into());
            }
            global.print(&answer, || tested(&answer))?;
            Ok(Exit::Done)
        }
        WebhookCommand::Replay(args) => {
            let mut body = Map::new();
            match args.id {
                Some(id) => body.insert("id".to_owned(), Value::String(id)),
                None => body.insert("all".to_owned(), Value::Bool(true)),
            };
            let post = Call::new(Method::POST, "/api/v1/admin/webhooks/replay", Some(Value::Object(body)));
            let answer = call(global, &args.server, post.offline_too())?;
            global.print(&answer, || match number(&answer, "replayed") {
                0 => "there are no dead letters".to_owned(),
                1 => "1 dead letter is sent again".to_owned(),
                many => format!("{many} dead letters are sent again"),
            })?;
            Ok(Exit::Done)
        }
        WebhookCommand::Secret(args) => secret(global, &args),
    }
}

/// How webhooks stand, in words.
pub(super) fn standing(webhooks: &Value) -> String {
    let (waiting, lag, dead) = (number(webhooks, "waiting"), number(webhooks, "lagSeconds"), number(webhooks, "dead"));
    let dead = if dead > 0 { format!("; {dead} DEAD LETTERS") } else { String::new() };
    let url = text(webhooks, "url");
    match webhooks.get("problem").and_then(Value::as_str) {
        _ if url.is_empty() => format!("nobody is told{dead}"),
        Some(problem) => format!("FAILS, {waiting} wait, the oldest for {lag} s: {}{dead}", in_line(problem)),
        None => format!("{} taken by {url}; {waiting} wait{dead}", number(webhooks, "sent")),
    }
}

fn listed(answer: &Value) -> String {
    let none = Value::Null;
    let webhooks = answer.get("webhooks").unwrap_or(&none);
    let mut lines = vec![standing(webhooks)];
    let asked = number(webhooks, "asked");
    if asked > 0 {
        lines
            .push(format!("asked who may enter: {asked} times, {} of them not decided", number(webhooks, "undecided")));
    }
    let letters = items_of(answer);
    if letters.is_empty() {
        lines.push("there are no dead letters".to_owned());
    }
    lines.extend(letters.iter().map(|letter| {
        format!(
            "{}  {}, of {}, given up {} after {} attempts: {}",
            text(letter, "id"),
            text(letter, "type"),
            moment(Timestamp(number(letter, "at"))),
            moment(Timestamp(number(letter, "givenUpAt"))),
            number(letter, "attempts"),
            in_line(&text(letter, "why"))
        )
    }));
    if let Some(next) = answer.get("next").and_then(Value::as_u64) {
        lines.push(format!("there are more: --after {next}"));
    }
    lines.join("\n")
}

fn tested(answer: &Value) -> String {
    let words = in_line(&text(answer, "words"));
    format!("taken: {words}{}\nits webhook-id: {}", begins(answer), text(answer, "id"))
}

fn begins(answer: &Value) -> String {
    let begins = in_line(&text(answer, "answer"));
    if begins.trim().is_empty() { String::new() } else { format!("\nthe answer begins: {begins}") }
}

fn secret(global: &Global, args: &SecretArgs) -> anyhow::Result<Exit> {
    let path = std::path::absolute(&args.file)
        .map_err(|error| Failure::usage("the file cannot be used", error, "Use the name of a file."))?;
    let name = path_text("the file", &path)?;
    let new = secrets::new_secret().map_err(Failure::from)?;
    let mut text = Zeroizing::new(format!("{}\n", *new));
    if args.add {
        add(&path, &mut text)?;
    } else {
        write_new(global, &path, text.as_bytes(), 0o600)?;
    }
    let line = config_line("webhooks.secret_file", &name);
    let answer = json!({ "file": path, "config": line });
    global.print(&answer, || {
        let file = path.display();
        match args.add {
            false => format!(
                "Written:\n  {file}  a secret of 256 bits, which only its owner can read\n\nIn academy-rt.toml:\n  [webhooks]\n  {line}\n\n\
                 Only the user of the server may be able to read it. Give the platform the line of {file} as its secret for webhooks."
            ),
            true => format!(
                "Added: the first line of {file} is a new secret.\n\n1. Reload the server: it signs with all lines.\n2. Give the \
                 platform the first line.\n3. When it uses that, remove the other lines and reload again."
            ),
        }
    })?;
    Ok(Exit::Done)
}

fn add(path: &Path, text: &mut Zeroizing<String>) -> Result<(), Failure> {
    let failed = |error: std::io::Error| {
        let what = format!("{} was not changed", path.display());
        Failure::new(what, disk_room::why(path, &error), "Check the file, and that you can write to its directory.")
    };
    let old = trusted_file::read(path, MAX_FILE_BYTES).map_err(failed)?;
    let old = std::str::from_utf8(&old).map_err(|error| failed(std::io::Error::other(error)))?;
    text.push_str(old);
    secrets::refuse_wrong(text).map_err(|why| {
        Failure::new(format!("{} was not changed", path.display()), why, "Remove the lines that are not used any more.")
    })?;
    replace_file(path, text.as_bytes()).map_err(failed)
}
