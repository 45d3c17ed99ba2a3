//! How a command ends: its status, and its words when it fails: what happened, why, and what to do.

use crate::domain::problem::Problem;
use std::io::{self, Write};
use std::process::ExitCode;

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
}

impl<E: Into<Problem>> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure { problem: error.into(), is_usage: false }
    }
}

/// What is left to do about an error that no command has foreseen.
const UNFORESEEN: &str = "Try again; if it stays, report it with these lines.";

/// Says on standard error why a command failed, and gives the status.
#[must_use]
pub fn report(error: &anyhow::Error) -> Exit {
    let mut stderr = io::stderr().lock();
    let (text, exit) = match error.downcast_ref::<Failure>() {
        Some(failure) => {
            let exit = if failure.is_usage { Exit::Usage } else { Exit::Failed };
            (
                format!(
                    "error: {}\n  why: {}\n  do:  {}\n",
                    failure.problem.what, failure.problem.why, failure.problem.remedy
                ),
                exit,
            )
        }
        None => {
            let causes: Vec<String> = error.chain().skip(1).map(ToString::to_string).collect();
            let why = if causes.is_empty() { "the system did not say".to_owned() } else { causes.join(": ") };
            (format!("error: {error}\n  why: {why}\n  do:  {UNFORESEEN}\n"), Exit::Failed)
        }
    };
    // With standard error closed there is nobody to tell.
    drop(stderr.write_all(text.as_bytes()));
    exit
}

/// Prints a warning on standard error.
///
/// # Errors
/// If standard error cannot be written.
pub fn warn(text: &str) -> anyhow::Result<()> {
    writeln!(io::stderr().lock(), "warning: {}", plain(text)).map_err(Into::into)
}

/// Words for a terminal. They may have names and messages in them that strangers chose: what would steer the terminal, or
/// turn the direction of what is written, is shown as a mark.
#[must_use]
pub fn plain(text: &str) -> String {
    let steers = |c: char| {
        (c.is_control() && c != '\n' && c != '\t') || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|c| if steers(c) { '\u{fffd}' } else { c }).collect()
}

/// Prints a line on standard output. A reader that has gone (`| head`) is no failure.
///
/// # Errors
/// If standard output cannot be written.
pub fn say(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_steers_the_terminal_is_shown_as_what_it_is() {
        assert_eq!(
            plain("Zo\u{eb} \u{1b}[2Jevil\u{9b}31m\u{202e}txt.exe\r\n\tend"),
            "Zo\u{eb} \u{fffd}[2Jevil\u{fffd}31m\u{fffd}txt.exe\u{fffd}\n\tend"
        );
    }
}
