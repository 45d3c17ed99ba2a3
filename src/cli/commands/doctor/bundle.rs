//! The support bundle: what support needs to know about an installation, in one file with all secrets masked.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

use http::Method;
use serde_json::{Map, Value, json};

use crate::auth::sources;
use crate::config::{Config, KEYS};

use crate::cli::Global;
use crate::cli::client::{Call, Place, ServerArgs, call};
use crate::cli::exit::Failure;

/// Replaces a secret.
const MASK: &str = "(masked)";
/// How many lines of the service's log are included.
const LOG_LINES: &str = "2000";

/// Writes the bundle: one JSON file with named parts. It must not exist yet, and only its owner can read it.
pub(super) fn write(
    global: &Global,
    server: &ServerArgs,
    config: &Config,
    results: &Value,
    path: &Path,
) -> anyhow::Result<()> {
    let secrets = sources::load(config, config.credentials_dir.as_deref()).ok();
    let mut parts = Map::new();
    parts.insert("academy-rt".to_owned(), json!(env!("CARGO_PKG_VERSION")));
    parts.insert("doctor".to_owned(), results.clone());
    parts.insert("config".to_owned(), configuration(config));
    let status = call(global, server, Call::new(Method::GET, "/api/v1/admin/status", None));
    parts.insert("status".to_owned(), status.unwrap_or_else(|error| json!(format!("{error:#}"))));
    for (name, file) in [
        ("os", "/etc/os-release"),
        ("kernel", "/proc/version"),
        ("memory", "/proc/meminfo"),
        ("mounts", "/proc/self/mounts"),
    ] {
        parts.insert(name.to_owned(), json!(fs::read_to_string(file).unwrap_or_else(|error| error.to_string())));
    }
    for (name, command) in [
        ("log", &["journalctl", "--unit=academy-rt", "--lines", LOG_LINES, "--no-pager", "--output=short-iso"][..]),
        (
            "unit",
            &[
                "systemctl",
                "show",
                "academy-rt",
                "--property=ActiveState,SubState,NRestarts,ExecMainStatus,LimitNOFILE,MemoryCurrent",
            ],
        ),
    ] {
        parts.insert(name.to_owned(), json!(output(command)));
    }
    let known: Vec<&str> =
        secrets.iter().flat_map(|loaded| &loaded.secrets).map(crate::config::Secret::expose).collect();
    let masked = masked(&Value::Object(parts), &known);
    let text = serde_json::to_string_pretty(&masked)?;
    let written = Place::new(global, server, path).create(0o600);
    written.and_then(|mut file| file.write_all(text.as_bytes())).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::AlreadyExists => "Use the name of a file that does not exist yet.",
            _ => "Use a directory that you can write to.",
        };
        Failure::new(format!("the bundle {} was not written", path.display()), error, remedy).into()
    })
}

fn configuration(config: &Config) -> Value {
    let all = KEYS.iter().map(|key| {
        let value = json!({ "value": config.value(key), "origin": config.origin(key.name).to_string() });
        (key.name.to_owned(), value)
    });
    all.collect::<Map<String, Value>>().into()
}

/// The output of a system command, or why there is none.
fn output(command: &[&str]) -> String {
    let Some((program, args)) = command.split_first() else { return String::new() };
    match Command::new(program).args(args).output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => format!("{program}: {error}"),
    }
}

/// Masks known secrets, and what looks like a token, a private key or a password in an address.
fn masked(value: &Value, known: &[&str]) -> Value {
    match value {
        Value::String(text) => Value::String(masked_text(text, known)),
        Value::Array(items) => items.iter().map(|item| masked(item, known)).collect(),
        Value::Object(entries) => entries.iter().map(|(name, entry)| (name.clone(), masked(entry, known))).collect(),
        other => other.clone(),
    }
}

fn masked_text(text: &str, known: &[&str]) -> String {
    let mut text = text.to_owned();
    for secret in known.iter().filter(|secret| !secret.is_empty()) {
        text = text.replace(secret, MASK);
    }
    while let Some((before, rest)) =
        text.split_once("-----BEGIN ").filter(|(_, rest)| rest.contains("PRIVATE KEY-----"))
    {
        let after =
            rest.split_once("-----END ").and_then(|(_, end)| end.split_once("-----\n")).map_or("", |(_, after)| after);
        text = format!("{before}{MASK}{after}");
    }
    let is_of_token = |c: char| c.is_ascii_alphanumeric() || "-_.=".contains(c);
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.as_str();
    while let Some(at) = rest.find(is_of_token) {
        let (before, from) = rest.split_at(at);
        let end = from.find(|c| !is_of_token(c)).unwrap_or(from.len());
        let (word, after) = from.split_at(end);
        clean.push_str(before);
        clean.push_str(if is_token(word) { MASK } else { word });
        rest = after;
    }
    clean.push_str(rest);
    without_passwords(&clean)
}

/// A JWT: three parts, the first of which begins as every JSON header does.
fn is_token(word: &str) -> bool {
    word.match_indices("eyJ")
        .any(|(at, _)| word.get(at..).is_some_and(|jwt| jwt.matches('.').count() >= 2 && jwt.len() > 20))
}

/// `https://user:password@host` without its password.
fn without_passwords(text: &str) -> String {
    let mut parts = text.split("://");
    let mut clean = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        clean.push_str("://");
        let end = part.find(|c: char| c.is_whitespace() || "/\"'".contains(c)).unwrap_or(part.len());
        let (authority, rest) = part.split_at(end);
        match authority.rsplit_once('@') {
            Some((_, host)) => clean.push_str(&format!("{MASK}@{host}")),
            None => clean.push_str(authority),
        }
        clean.push_str(rest);
    }
    clean
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TOKEN: &str = "eyJhbGciOiJIUzI1NiJ9.eyJ1c2VySWQiOjd9.c2lnbmF0dXJl";

    #[test]
    fn secrets_are_masked_and_the_rest_stays() {
        for (text, clean) in [
            (format!("GET /ws?token={TOKEN}&x=1"), "GET /ws?(masked)&x=1".to_owned()),
            (format!("Bearer {TOKEN}"), "Bearer (masked)".to_owned()),
            ("the hunter2 is".to_owned(), "the (masked) is".to_owned()),
            (
                "https://ann:pw@proxy:3128/x http://host/a@b".to_owned(),
                "https://(masked)@proxy:3128/x http://host/a@b".to_owned(),
            ),
            ("a -----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nb".to_owned(), "a (masked)b".to_owned()),
            ("-----BEGIN CERTIFICATE-----".to_owned(), "-----BEGIN CERTIFICATE-----".to_owned()),
            ("version 0.1.0, é, 12.5 MB".to_owned(), "version 0.1.0, é, 12.5 MB".to_owned()),
        ] {
            assert_eq!(masked_text(&text, &["hunter2"]), clean);
        }
        let value = json!({"a": ["hunter2", 7], "b": {"c": TOKEN}});
        assert_eq!(masked(&value, &["hunter2"]), json!({"a": ["(masked)", 7], "b": {"c": "(masked)"}}));
    }

    proptest! {
        #[test]
        fn no_known_secret_and_no_token_is_left(before in ".{0,40}", after in ".{0,40}") {
            let clean = masked_text(&format!("{before}hunter2{after} {TOKEN}{after}"), &["hunter2"]);
            prop_assert!(!clean.contains("hunter2") && !clean.contains(TOKEN), "{}", clean);
        }
    }
}
