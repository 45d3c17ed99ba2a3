//! How a command ends: its exit status, and the error that says what happened, why, and what to do.

use std::io::{self, Write};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::domain::problem::Problem;
use crate::protocol::json::{escaped, steers};

/// The exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done: 0.
    Done,
    /// Failed: 1.
    Failed,
    /// Wrong usage: 2.
    Usage,
    /// The check found something: 3.
    Found,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Found => 3,
        })
    }
}

/// A failure, and whether the command was used wrongly.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{}: {}", problem.what, problem.why)]
pub struct Failure {
    /// What, why, and what to do.
    pub problem: Problem,
    /// Whether the command was used wrongly.
    pub is_usage: bool,
    /// What the JSON answer says beside: `code` if it is a server's refusal, and fields of the command.
    pub details: Option<Box<Details>>,
}

/// What the JSON answer says of a failure beside its sentences.
#[derive(Debug, Clone, Default)]
pub struct Details {
    /// The code of a server's refusal.
    code: Option<String>,
    /// Fields beside `ok` and `error`.
    fields: serde_json::Map<String, Value>,
}

impl Failure {
    /// A failure.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> Failure {
        Failure::from(Problem::new(what, why, remedy))
    }

    /// Wrong usage.
    #[must_use]
    pub fn usage(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> Failure {
        Failure { is_usage: true, ..Failure::new(what, why, remedy) }
    }

    /// The code of a server's refusal, if it is one.
    #[must_use]
    pub fn code(&self) -> Option<&str> {
        self.details.as_ref()?.code.as_deref()
    }

    /// With the code of a server's refusal.
    #[must_use]
    pub fn with_code(self, code: &str) -> Failure {
        Failure { details: Some(Box::new(Details { code: Some(code.to_owned()), ..Details::default() })), ..self }
    }

    /// With a field beside `ok` and `error` in the JSON answer.
    #[must_use]
    pub fn with_field(self, name: &str, value: Value) -> Failure {
        let mut details = self.details.unwrap_or_default();
        details.fields.insert(name.to_owned(), value);
        Failure { details: Some(details), ..self }
    }
}

impl<E: Into<Problem>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { problem: error.into(), is_usage: false, details: None }
    }
}

/// What to do about an unexpected error.
const UNFORESEEN: &str = "Try again. If the error persists, report it with these lines.";

/// Prints an error on standard error, and, where programs read the answer, as JSON on standard output. Gives the exit status.
#[must_use]
pub fn report(error: &anyhow::Error, is_json: bool) -> Exit {
    let failure = failure_of(error);
    let Problem { what, why, remedy } = &failure.problem;
    // If an output is closed, the error cannot be reported there.
    drop(writeln!(io::stderr().lock(), "error: {what}\n  why: {why}\n  do:  {remedy}"));
    if is_json {
        drop(say(&as_json(&failure)));
    }
    if failure.is_usage { Exit::Usage } else { Exit::Failed }
}

fn failure_of(error: &anyhow::Error) -> Failure {
    error.downcast_ref::<Failure>().cloned().unwrap_or_else(|| {
        let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
        let why = if causes.is_empty() { "the reason is unknown".to_owned() } else { causes.join(": ") };
        Failure::new(error.to_string(), why, UNFORESEEN)
    })
}

/// An error as programs read it.
#[must_use]
pub fn in_json(error: &anyhow::Error) -> String {
    as_json(&failure_of(error))
}

/// A failure as programs read it: `{ "ok": false, "error": { "code", "message", "why", "remedy" } }`. The code is that of the
/// server's refusal, or `usage` or `failed`.
fn as_json(failure: &Failure) -> String {
    let Problem { what, why, remedy } = &failure.problem;
    let details = failure.details.as_deref();
    let code = details.and_then(|details| details.code.as_deref());
    let code = code.unwrap_or(if failure.is_usage { "usage" } else { "failed" });
    let mut answer = json!({ "ok": false, "error": { "code": code, "message": what, "why": why, "remedy": remedy } });
    if let (Some(answer), Some(details)) = (answer.as_object_mut(), details) {
        answer.extend(details.fields.clone());
    }
    escaped(answer.to_string())
}

/// Reports wrong usage, which clap has told on standard error, where programs read the answer.
pub fn report_usage(message: &str) {
    let first = message.lines().next().unwrap_or_default().trim_start_matches("error: ");
    let remedy = "Read the help of the command (--help).";
    drop(say(&as_json(&Failure::usage("the command line is wrong", first, remedy))));
}

/// Prints a warning on standard error.
///
/// # Errors
/// If standard error cannot be written.
pub fn warn(text: &str) -> anyhow::Result<()> {
    writeln!(io::stderr().lock(), "warning: {}", plain(text)).map_err(Into::into)
}

/// Text that is safe on a terminal. It may contain names and messages of untrusted users: control characters, and those that
/// change the direction of text, are replaced.
#[must_use]
pub fn plain(text: &str) -> String {
    let is_bad = |c: char| (c.is_control() && c != '\n' && c != '\t') || steers(c);
    text.chars().map(|c| if is_bad(c) { '\u{fffd}' } else { c }).collect()
}

/// Text of somebody else in a line of a list: it stays within its line.
#[must_use]
pub fn in_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() || steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Text of somebody else that may have several lines: each behind the first one has a mark, so that none looks like a line of
/// the command.
#[must_use]
pub fn in_lines(text: &str) -> String {
    let lines: Vec<String> = text.split('\n').map(|line| in_line(line.strip_suffix('\r').unwrap_or(line))).collect();
    lines.join("\n        | ")
}

/// Prints a line on standard output. A closed pipe (`| head`) is not an error.
///
/// # Errors
/// If standard output cannot be written.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            let remedy = "Send the output to a place that takes it: another file, a disk with free space.";
            Err(Failure::new("standard output cannot be written", error, remedy).into())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_steers_the_terminal_is_shown_as_what_it_is() {
        assert_eq!(in_line("a\nb\tc\u{85}d\u{2028}e"), "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}e");
        assert_eq!(in_lines("a\r\n     7  forged\n"), "a\n        |      7  forged\n        | ");
        assert_eq!(
            plain("Zo\u{eb} \u{1b}[2Jevil\u{9b}31m\u{202e}txt.exe\r\n\tend"),
            "Zo\u{eb} \u{fffd}[2Jevil\u{fffd}31m\u{fffd}txt.exe\u{fffd}\n\tend"
        );
    }
}
