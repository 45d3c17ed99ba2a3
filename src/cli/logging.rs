//! Log lines: text on a terminal, fields in the journal, JSON for programs. Libraries log packets (and so tokens and messages)
//! at their lower levels: the configured level applies only to this program, and all libraries log at most warnings.
//! `RUST_LOG` is not read.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry, fmt};

use crate::config::{Config, LogFormat};

use super::bounded_lines::Bound;
use super::{Global, journal};

/// The target of this program's own log lines.
const OWN: &str = env!("CARGO_CRATE_NAME");
/// The lowest level of libraries.
const LIBRARIES: LevelFilter = LevelFilter::WARN;

type Filtered = Layered<reload::Layer<Targets, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of this process. Level and format can be changed while it runs.
#[derive(Clone)]
pub struct Log {
    filter: Handle<Targets, Registry>,
    lines: Handle<Lines, Filtered>,
    bound: Bound,
}

/// Starts logging to standard error or to the journal. To be called once per process.
pub fn start(global: &Global, config: &Config) -> Log {
    let (filter, filter_handle) = reload::Layer::new(filter(global, config));
    let (lines, lines_handle) = reload::Layer::new(lines(config.log.format));
    let bound = Bound::default();
    tracing_subscriber::registry().with(filter).with(lines).with(bound.clone()).init();
    Log { filter: filter_handle, lines: lines_handle, bound }
}

impl Log {
    /// Says how many lines were left out, because there were too many of one kind. To be called now and then.
    pub fn tell_left_out(&self) {
        self.bound.tell();
    }

    /// Applies another configuration. Command-line options still override it.
    pub fn reconfigure(&self, global: &Global, config: &Config) {
        let changed = self.filter.reload(filter(global, config));
        if let Err(error) = changed.and_then(|()| self.lines.reload(lines(config.log.format))) {
            tracing::warn!(%error, "the log keeps its present format and level");
        }
    }
}

fn filter(global: &Global, config: &Config) -> Targets {
    let level = match (global.quiet, global.verbose) {
        (true, _) => LevelFilter::WARN,
        // The configuration has validated the level.
        (_, 0) => config.log.level.parse().unwrap_or(LevelFilter::INFO),
        (_, 1) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    Targets::new().with_default(level.min(LIBRARIES)).with_target(OWN, level)
}

fn lines(format: LogFormat) -> Lines {
    let is_terminal = io::stderr().is_terminal();
    let text = || fmt::layer().with_writer(io::stderr).with_ansi(is_terminal).with_target(false).boxed();
    let journal = || journal::layer().map(Layer::boxed);
    let json = || fmt::layer().json().flatten_event(true).with_writer(io::stderr).boxed();
    match format {
        LogFormat::Text => text(),
        LogFormat::Json => json(),
        LogFormat::Journal => journal().unwrap_or_else(json),
        LogFormat::Auto if is_terminal => text(),
        LogFormat::Auto if is_journal(io::stderr()) => journal().unwrap_or_else(json),
        LogFormat::Auto => json(),
    }
}

/// Whether something is the stream that systemd has connected to the journal (`JOURNAL_STREAM`, systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(stream) else { return false };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}

#[cfg(test)]
mod tests {
    use tracing::Level;

    use super::*;
    use crate::cli::Output;

    fn filter_of(quiet: bool, verbose: u8, level: &str) -> Targets {
        let mut config = Config::default();
        level.clone_into(&mut config.log.level);
        filter(
            &Global { config: None, output: Output::Text, quiet, verbose, is_warned: std::sync::Arc::default() },
            &config,
        )
    }

    #[test]
    fn no_library_says_more_than_warnings_whatever_is_asked_for() {
        let asked =
            [(false, 2, "info"), (false, 1, "info"), (false, 0, "trace"), (false, 0, "debug"), (false, 0, "info")];
        for (quiet, verbose, level) in asked {
            let filter = filter_of(quiet, verbose, level);
            for library in
                ["socketioxide::client", "hyper", "tungstenite::protocol", "rustls", "log", "unheard_of", "", "academy"]
            {
                assert!(filter.would_enable(library, &Level::WARN), "{library}");
                assert!(!filter.would_enable(library, &Level::INFO), "{library} at {verbose} {level}");
            }
        }
    }

    #[test]
    fn the_level_is_this_programs_own() {
        let own = concat!(env!("CARGO_CRATE_NAME"), "::server");
        let most = |filter: Targets| {
            let levels = [Level::TRACE, Level::DEBUG, Level::INFO, Level::WARN, Level::ERROR];
            levels.into_iter().find(|level| filter.would_enable(own, level))
        };
        assert_eq!(most(filter_of(false, 2, "error")), Some(Level::TRACE));
        assert_eq!(most(filter_of(false, 1, "error")), Some(Level::DEBUG));
        assert_eq!(most(filter_of(false, 0, "debug")), Some(Level::DEBUG));
        assert_eq!(most(filter_of(true, 0, "trace")), Some(Level::WARN));
        let silent = filter_of(false, 0, "error");
        assert!(!silent.would_enable("hyper", &Level::WARN));
        assert_eq!(most(silent), Some(Level::ERROR));
    }
}
