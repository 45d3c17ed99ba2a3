//! `key`: the keys that verify tokens. They are files, and a running server checks them every two seconds for changes: these
//! commands do not contact it. No command prints a secret.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::archive::moments::moment;
use crate::auth::generation::{self, ALGORITHMS, KeyKind};
use crate::auth::{Key, rotation};
use crate::config::disk_room;
use crate::config::keys::in_toml;
use crate::config::{KEYS, units};
use crate::domain::audit::action;
use crate::domain::{Clock, SystemClock, Timestamp};

use crate::cli::client::listing::{items_of, number, text};
use crate::cli::client::{Place, ServerArgs, report};
use crate::cli::commands::token::load_keys;
use crate::cli::data_dir_flag;
use crate::cli::exit;
use crate::cli::exit::{Exit, Failure};
use crate::cli::{Global, path_text};

/// Commands for keys.
#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Create a secret or a key pair in files
    New(NewArgs),
    /// List the keys that verify tokens
    List(ListArgs),
    /// Create a new secret to sign tokens; the old one is accepted for a grace period
    Rotate(RotateArgs),
    /// Stop accepting an old secret
    Retire(RetireArgs),
}

/// Create a secret or a key pair in files
///
/// The file of the secret or private key has mode 0600; the file of the public key has the extension .pub. The command never
/// overwrites a file. It prints the line for the configuration.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// File for the secret or the private key
    file: PathBuf,
    /// Signature algorithm: HS256, HS384 and HS512 create a secret, the others a key pair
    #[arg(long, value_name = "ALGORITHM", default_value = "HS256", value_parser = PossibleValuesParser::new(ALGORITHMS))]
    alg: String,
}

/// List the keys that verify tokens, as the server reads them from this configuration.
#[derive(Debug, Args)]
pub struct ListArgs {
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Create a new secret to sign tokens; the old one is accepted for a grace period
///
/// The command writes the new secret to the file of the old one. Give it to the web platform within the grace period. A running
/// server accepts both within a few seconds.
#[derive(Debug, Args)]
pub struct RotateArgs {
    /// Grace period of the old secret: 30m, 24h, 7d; with 0s it is refused at once
    #[arg(long, value_name = "DURATION", default_value = "24h", value_parser = units::duration)]
    grace: Duration,
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Stop accepting an old secret before its grace period ends
///
/// The command removes the secret from the disk, and within a few seconds a running server refuses new connections with its
/// tokens. Open sockets stay until their tokens expire; `academy-rt token revoke --all` closes them.
#[derive(Debug, Args)]
pub struct RetireArgs {
    /// Key ID (kid) from `key list`
    kid: String,
    /// Data directory of the server
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Runs the command.
///
/// # Errors
/// If a key or a file cannot be used.
pub fn run(global: &Global, command: KeyCommand) -> anyhow::Result<Exit> {
    match command {
        KeyCommand::New(args) => new(global, &args),
        KeyCommand::List(args) => list(global, &args),
        KeyCommand::Rotate(args) => rotate(global, &args),
        KeyCommand::Retire(args) => retire(global, &args),
    }
}

fn new(global: &Global, args: &NewArgs) -> anyhow::Result<Exit> {
    let kind: KeyKind =
        args.alg.parse().map_err(|why| Failure::usage("--alg cannot be used", why, "Choose another algorithm."))?;
    let absolute = std::path::absolute(&args.file)
        .map_err(|error| Failure::usage("the file cannot be used", error, "Use the name of a file."))?;
    let public_path = absolute.with_extension("pub");
    if public_path == absolute {
        let why = "the extension .pub is reserved for the public key";
        return Err(Failure::usage("the file cannot be used", why, "Use another name, for example academy.key.").into());
    }
    // The line for the configuration names one of both: nothing is written whose name cannot stand there.
    let (private_text, public_text) = (path_text("the file", &absolute)?, path_text("the file", &public_path)?);
    let made = generation::generate(kind).map_err(Failure::from)?;
    write_new(global, &absolute, made.private.as_bytes(), 0o600)?;
    if let Some((public, _)) = &made.public
        && let Err(failure) = write_new(global, &public_path, public.as_bytes(), 0o644)
    {
        // The failure is reported below. A private key without its public key is useless.
        Place::new(global, &ServerArgs::default(), &absolute).remove();
        return Err(failure.into());
    }
    let (key, value) = match &made.public {
        None => ("auth.jwt_secret_file", &private_text),
        Some(_) => ("auth.public_keys", &public_text),
    };
    let line = config_line(key, value);
    let thumbprint = made.public.as_ref().map(|(_, thumbprint)| thumbprint.as_str());
    let stem = public_path.file_stem().and_then(|stem| stem.to_str());
    let kids: Vec<&str> = thumbprint.into_iter().chain(stem.filter(|_| thumbprint.is_some())).collect();
    let answer = json!({
        "algorithm": args.alg, "file": absolute, "publicKey": thumbprint.map(|_| &public_path), "kids": kids,
        "config": line,
    });
    global.print(&answer, || {
        let file = absolute.display();
        let mut text = match thumbprint {
            None => format!("Written:\n  {file}  a secret of 256 bits, which only its owner can read\n"),
            Some(_) => format!(
                "Written:\n  {file}  the private key, only for the signer of tokens\n  {}  the public key\n",
                public_path.display()
            ),
        };
        text.push_str(&format!("\nIn academy-rt.toml:\n  [auth]\n  {line}\n\n"));
        text.push_str(&match thumbprint {
            None => format!(
                "Only the user of the server may be able to read it. Give the web platform the contents of {file} as its \
                 JWT_SECRET."
            ),
            Some(_) => format!("Tokens can name the key in their header as kid: {}.", kids.join(" or ")),
        });
        text
    })?;
    Ok(Exit::Done)
}

pub(super) fn config_line(name: &str, value: &str) -> String {
    let key = KEYS.iter().find(|key| key.name == name);
    key.map_or_else(String::new, |key| format!("{} = {}", key.parts().1, in_toml(key, value)))
}

pub(super) fn write_new(global: &Global, path: &Path, text: &[u8], mode: u32) -> Result<(), Failure> {
    let failed = |error: io::Error| {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => "Use the name of a file that does not exist yet.",
            io::ErrorKind::NotFound => "Create its directory first.",
            io::ErrorKind::StorageFull => "Free space on that disk, or use another one.",
            _ => "Use a directory that you can write to.",
        };
        Failure::new(format!("{} was not written", path.display()), disk_room::why(path, &error), remedy)
    };
    let place = Place::new(global, &ServerArgs::default(), path);
    let mut file = place.create(mode).map_err(failed)?;
    file.write_all(text).and_then(|()| file.sync_all()).map_err(|error| {
        // The file is new, and half of it is useless.
        place.remove();
        failed(error)
    })
}

fn list(global: &Global, args: &ListArgs) -> anyhow::Result<Exit> {
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let loaded = load_keys(&config)?;
    for warning in &loaded.warnings {
        exit::warn(warning)?;
    }
    let now = SystemClock.now();
    let items: Vec<Value> = loaded.keys.iter().enumerate().map(|(place, key)| item(key, place, now)).collect();
    let answer = json!({ "items": items });
    global.print(&answer, || table(&answer))?;
    Ok(Exit::Done)
}

fn item(key: &Key, place: usize, now: Timestamp) -> Value {
    // The current secret is always the first.
    let state = match place {
        0 => "signs",
        _ if key.has_ended(now) => "ended",
        _ => "accepted",
    };
    json!({
        "kids": key.kids, "algorithms": key.algorithms(), "state": state, "created": key.created, "until": key.until,
        "from": key.origin.kind(), "origin": key.origin.to_string(),
    })
}

fn table(list: &Value) -> String {
    let words = |value: &Value, name: &str| {
        let words: Vec<&str> =
            value.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        words.join(" ")
    };
    let at = |value: &Value, name: &str| match number(value, name) {
        0 => "-".to_owned(),
        at => moment(Timestamp(at)),
    };
    let mut rows = vec![["KID", "FOR", "STATE", "UNTIL", "FROM"].map(ToOwned::to_owned)];
    for value in items_of(list) {
        let kid = Some(words(value, "kids")).filter(|kids| !kids.is_empty()).unwrap_or_else(|| "-".to_owned());
        let algorithms = words(value, "algorithms");
        rows.push([kid, algorithms, text(value, "state"), at(value, "until"), text(value, "origin")]);
    }
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..4).map(|column| width(column).unwrap_or_default()).collect();
    let lines = rows.iter().map(|row| {
        let cells = row.iter().enumerate().map(|(column, cell)| match widths.get(column) {
            Some(width) => format!("{cell:<width$}  "),
            None => cell.clone(),
        });
        cells.collect::<String>()
    });
    lines.collect::<Vec<_>>().join("\n")
}

fn rotate(global: &Global, args: &RotateArgs) -> anyhow::Result<Exit> {
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let now = SystemClock.now();
    let rotated = rotation::rotate(&config, config.credentials_dir.as_deref(), args.grace, now);
    let rotated = rotated.map_err(Failure::from)?;
    let outcome = format!("done: rotated; {} is accepted until {}", rotated.old_kid, moment(rotated.old_until));
    let server = ServerArgs::local(args.data_dir.as_deref());
    report(global, &server, action::KEYS, &format!("key {}", rotated.kid), &outcome)?;
    let answer = json!({
        "kid": rotated.kid, "file": rotated.file, "old": { "kid": rotated.old_kid, "until": rotated.old_until },
    });
    global.print(&answer, || {
        let (kid, old, file) = (&rotated.kid, &rotated.old_kid, rotated.file.display());
        let (end, within) = match args.grace.is_zero() {
            true => (format!("The server refuses tokens of {old} from now on."), "now".to_owned()),
            false => {
                let until = moment(rotated.old_until);
                let sooner = format!("To end this earlier, run: academy-rt key retire {old}");
                (format!("The server accepts tokens of {old} until {until}. {sooner}"), format!("before {until}"))
            }
        };
        format!(
            "{kid} is the new secret. It is in {file}.\n{end}\n\nNext: give the web platform the contents of {file} as its \
             JWT_SECRET, {within}. Its tokens can name the key in their header as kid: {kid}.\nA running server uses the new \
             secret within a few seconds."
        )
    })?;
    Ok(Exit::Done)
}

fn retire(global: &Global, args: &RetireArgs) -> anyhow::Result<Exit> {
    let config = global.load(data_dir_flag(args.data_dir.as_deref())?)?;
    let now = SystemClock.now();
    let file = rotation::retire(&config, config.credentials_dir.as_deref(), &args.kid, now);
    let file = file.map_err(Failure::from)?;
    let server = ServerArgs::local(args.data_dir.as_deref());
    report(global, &server, action::KEYS, &format!("key {}", args.kid), "done: retired")?;
    global.print(&json!({ "kid": args.kid, "file": file }), || {
        format!(
            "{} is retired: a running server refuses new connections with its tokens within a few seconds. Open sockets stay \
             until their tokens expire; academy-rt token revoke --all closes them.",
            args.kid
        )
    })?;
    Ok(Exit::Done)
}
