//! A record of the audit log on its way out: as a message of syslog (RFC 5424), with the octets counted (RFC 5425), as a line of
//! JSON, and as an entry of the journal.

use std::fmt::Write;

use crate::archive::moments::exact;
use crate::domain::audit::{AuditEntry, AuditLine, AuditRecord, hex};

/// Facility 13 (log audit), severity 5 (notice).
const NOTICE: u8 = 13 * 8 + 5;
/// The same with severity 4 (warning): what was refused, or failed.
const WARNING: u8 = 13 * 8 + 4;
/// The name of the structured data. 32473 is the number that RFC 5612 sets apart for who has none of their own.
const STRUCTURED: &str = "audit@32473";
const APP_NAME: &str = "academy-rt";
/// A field is cut behind so many bytes, so that a message fits into the 8,192 octets that a receiver should take.
const FIELD_BYTES: usize = 650;

fn priority(entry: &AuditEntry) -> u8 {
    let is_bad = ["refused", "failed"].iter().any(|word| entry.outcome.starts_with(word));
    if is_bad { WARNING } else { NOTICE }
}

/// A message of syslog with its length before it. `host` is the name of this machine, `-` if it has none.
pub(super) fn syslog(record: &AuditRecord, host: &str) -> Vec<u8> {
    let AuditRecord { number, entry, hash } = record;
    let mut text =
        format!("<{}>1 {} {host} {APP_NAME} - {} [{STRUCTURED}", priority(entry), exact(entry.at), word(&entry.action));
    let fields = [
        ("actor", &entry.actor),
        ("origin", &entry.origin),
        ("action", &entry.action),
        ("target", &entry.target),
        ("outcome", &entry.outcome),
    ];
    // Writing to a text does not fail.
    let _ = write!(text, " number=\"{number}\" hash=\"{}\"", hex(hash));
    for (name, value) in fields {
        let _ = write!(text, " {name}=\"{}\"", escaped(value));
    }
    let _ = write!(text, "] {}", sentence(entry));
    let mut message = format!("{} ", text.len()).into_bytes();
    message.extend(text.into_bytes());
    message
}

/// The record for people: `ann, 10.0.0.5: user.erase user 7: done`.
fn sentence(entry: &AuditEntry) -> String {
    let actor = if entry.actor.is_empty() { "somebody" } else { entry.actor.as_str() };
    let words = format!("{actor}, {}: {} {}: {}", entry.origin, entry.action, entry.target, entry.outcome);
    let mut words: String = words.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    cut(&mut words);
    words
}

/// A value of structured data: `"`, `\` and `]` are escaped, and no control character is left.
fn escaped(value: &str) -> String {
    let mut value = value.to_owned();
    cut(&mut value);
    let mut text = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' | '\\' | ']' => text.extend(['\\', c]),
            c if c.is_control() => text.push(' '),
            c => text.push(c),
        }
    }
    text
}

fn cut(text: &mut String) {
    if text.len() > FIELD_BYTES {
        text.truncate(text.floor_char_boundary(FIELD_BYTES));
        text.push_str("...");
    }
}

/// A name in the head of a message: printable ASCII without spaces, at most 32 characters.
fn word(text: &str) -> String {
    let word: String = text.chars().filter(char::is_ascii_graphic).take(32).collect();
    if word.is_empty() { "-".to_owned() } else { word }
}

/// The name of this machine as the head of a message has it.
pub(super) fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name: String = name.chars().filter(char::is_ascii_graphic).take(255).collect();
    if name.is_empty() { "-".to_owned() } else { name }
}

/// A record as an object of JSON, as `audit export` writes it, without the end of a line.
///
/// # Errors
/// None that is known: the library's.
pub(super) fn json(record: &AuditRecord) -> serde_json::Result<String> {
    serde_json::to_string(&AuditLine::from(record))
}

/// An entry of the journal in its own protocol: the JSON as the message, with number and hash in fields of their own.
///
/// # Errors
/// As of [`json`].
pub(super) fn journal(record: &AuditRecord) -> serde_json::Result<String> {
    // JSON has no line breaks, so that the simple form of a field is enough.
    Ok(format!(
        "MESSAGE={}\nPRIORITY={}\nSYSLOG_FACILITY=13\nSYSLOG_IDENTIFIER=academy-rt-audit\nAUDIT_NUMBER={}\nAUDIT_HASH={}\n",
        json(record)?,
        priority(&record.entry) % 8,
        record.number,
        hex(&record.hash)
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::audit::Link;

    fn record(target: &str, outcome: &str) -> AuditRecord {
        Link::START.next(AuditEntry {
            at: Timestamp(1_764_428_511_042),
            actor: "root".into(),
            origin: "10.0.0.1".into(),
            action: "user.erase".into(),
            target: target.into(),
            outcome: outcome.into(),
        })
    }

    #[test]
    fn a_message_is_counted_and_has_all_of_the_record() {
        let record = record("user 7", "done");
        let message = String::from_utf8(syslog(&record, "host")).unwrap();
        let (length, text) = message.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), text.len());
        let hash = hex(&record.hash);
        assert_eq!(
            text,
            format!(
                "<109>1 2025-11-29T15:01:51.042Z host academy-rt - user.erase [audit@32473 number=\"1\" hash=\"{hash}\" \
                 actor=\"root\" origin=\"10.0.0.1\" action=\"user.erase\" target=\"user 7\" outcome=\"done\"] \
                 root, 10.0.0.1: user.erase user 7: done"
            )
        );
        assert!(syslog(&self::record("", "refused: token_expired"), "-").windows(5).any(|part| part == b"<108>"));
    }

    #[test]
    fn nothing_in_a_record_ends_its_field_or_its_message() {
        let message = String::from_utf8(syslog(&record("a\"b]c\\d\ne\u{7}\r\n<14>1 forged", "done"), "host")).unwrap();
        assert!(message.contains(r#"target="a\"b\]c\\d e   <14>1 forged""#), "{message}");
        assert!(!message.chars().any(char::is_control), "{message}");
        let long = syslog(&record(&"é".repeat(9_000), &"]".repeat(9_000)), "host");
        assert!(long.len() < 8_192, "{}", long.len());
        let journal = journal(&record("a\nPRIORITY=0", "done")).unwrap();
        assert_eq!(journal.lines().count(), 6, "{journal}");
        let line: serde_json::Value = serde_json::from_str(&json(&record("a\nb", "done")).unwrap()).unwrap();
        assert_eq!((line["number"].as_u64(), line["target"].as_str()), (Some(1), Some("a\nb")));
    }
}
