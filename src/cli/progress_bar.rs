//! A progress bar with rate and remaining time. It is shown only on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::cli::{Global, Output};

const BAR: &str = "{msg:14} [{bar:30}] {percent:>3} %  {rate}  {eta} left";
const STEPS: &str = "{spinner} {msg}";
/// How often the spinner moves.
const TICK: Duration = Duration::from_millis(120);

/// A bar that counts rows. It is hidden if standard error is not a terminal.
#[must_use]
pub fn rows(global: &Global, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(global));
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            // A bar that cannot be drawn shows nothing.
            let _ = write!(out, "{:.0} rows/s", state.per_sec());
        };
        bar.set_style(style.progress_chars("=> ").with_key("rate", rate));
    }
    bar.set_message(what);
    bar
}

/// A spinner with the current step. It is hidden if standard error is not a terminal.
#[must_use]
pub fn steps(global: &Global, what: &'static str) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(None, target(global));
    if let Ok(style) = ProgressStyle::with_template(STEPS) {
        bar.set_style(style);
    }
    bar.set_message(what);
    bar.enable_steady_tick(TICK);
    bar
}

fn target(global: &Global) -> ProgressDrawTarget {
    let is_seen = std::io::stderr().is_terminal() && !global.quiet && global.output == Output::Text;
    if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() }
}

/// Moves a bar.
pub fn show(bar: &ProgressBar, done: u64, all: u64) {
    bar.set_length(all.max(done));
    bar.set_position(done);
}

/// A size for people.
#[must_use]
pub fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}
