//! Asks before what cannot be undone: on a terminal in words, and elsewhere by `--yes`.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::exit::{Failure, plain};

/// Goes on if `is_sure` (`--yes`), or if somebody at a terminal types `yes`. `what` is what is left undone otherwise, `why`
/// what it would do.
///
/// # Errors
/// Wrong usage without a terminal and without `--yes`, or if the answer is another one.
pub fn confirm(is_sure: bool, what: &str, why: &str) -> anyhow::Result<()> {
    if is_sure {
        return Ok(());
    }
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Err(Failure::usage(what, why, "Add --yes to do it without a question, or use --dry-run.").into());
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "{} Type yes to go on: ", plain(&sentence(why)))?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    if answer.trim().eq_ignore_ascii_case("yes") {
        return Ok(());
    }
    Err(Failure::usage(what, "the answer was not yes", "Nothing has changed.").into())
}

/// With a capital letter and a full stop.
fn sentence(text: &str) -> String {
    let mut letters = text.chars();
    let first: String = letters.next().into_iter().flat_map(char::to_uppercase).collect();
    format!("{first}{}.", letters.as_str())
}
