//! A progress bar with rate and time left, on a terminal alone. Elsewhere the command's last line says all.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{Global, Output};

const BAR: &str = "{msg:14} [{bar:30}] {percent:>3} %  {per_sec}  {eta} left";

/// A bar for rows. It shows nothing where nobody looks at it.
#[must_use]
pub fn rows(global: &Global, what: &'static str) -> ProgressBar {
    let is_seen = std::io::stderr().is_terminal() && !global.quiet && global.output == Output::Text;
    let target = if is_seen { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(None, target);
    if let Ok(style) = ProgressStyle::with_template(BAR) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar.set_message(what);
    bar
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
