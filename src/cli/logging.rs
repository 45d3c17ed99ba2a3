//! Log lines: text on a terminal, fields of their own in the journal, JSON for machines. The libraries that log packets (and
//! so tokens and messages) at debug are held at info, whatever is asked for.

use std::io::{self, IsTerminal};
use std::os::fd::AsFd;

use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::layer::{Layered, SubscriberExt};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, fmt};

use crate::config::{Config, LogFormat};

use super::Global;

/// Libraries that would show tokens or payloads.
const HELD: [&str; 7] = ["socketioxide", "engineioxide", "hyper", "tungstenite", "tokio_tungstenite", "warp", "rustls"];

type Filtered = Layered<reload::Layer<EnvFilter, Registry>, Registry>;
type Lines = Box<dyn Layer<Filtered> + Send + Sync>;

/// The log of this process. Level and format can be changed while it runs.
#[derive(Clone)]
pub struct Log {
    filter: Handle<EnvFilter, Registry>,
    lines: Handle<Lines, Filtered>,
}

/// Starts logging to standard error, or to the journal. Once a process.
pub fn start(global: &Global, config: &Config) -> Log {
    let (filter, filter_handle) = reload::Layer::new(filter(global, config));
    let (lines, lines_handle) = reload::Layer::new(lines(config.log.format));
    tracing_subscriber::registry().with(filter).with(lines).init();
    Log { filter: filter_handle, lines: lines_handle }
}

impl Log {
    /// Goes by another configuration. Flags of the command line win over it, as they did before.
    pub fn resettle(&self, global: &Global, config: &Config) {
        let changed = self.filter.reload(filter(global, config));
        if let Err(error) = changed.and_then(|()| self.lines.reload(lines(config.log.format))) {
            tracing::warn!(%error, "the log goes on as it was");
        }
    }
}

fn filter(global: &Global, config: &Config) -> EnvFilter {
    let level = match (global.quiet, global.verbose) {
        (true, _) => "warn",
        (_, 0) => config.log.level.as_str(),
        (_, 1) => "debug",
        _ => "trace",
    };
    let mut directives = level.to_owned();
    for library in HELD {
        let held = if matches!(level, "error" | "warn") { level } else { "info" };
        directives.push_str(&format!(",{library}={held}"));
    }
    EnvFilter::new(directives)
}

fn lines(format: LogFormat) -> Lines {
    let is_terminal = io::stderr().is_terminal();
    let text = || fmt::layer().with_writer(io::stderr).with_ansi(is_terminal).with_target(false).boxed();
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

/// Lines whose fields are the journal's own: `journalctl F_CODE=token_expired`. `None` where no journal takes them.
fn journal() -> Option<Lines> {
    let layer = tracing_journald::layer().ok()?;
    let priorities =
        PriorityMappings { info: Priority::Informational, debug: Priority::Debug, ..PriorityMappings::new() };
    Some(layer.with_syslog_identifier("academy-rt".to_owned()).with_priority_mappings(priorities).boxed())
}

/// Whether something is the stream that systemd has connected to the journal (`JOURNAL_STREAM`, systemd.exec(5)).
fn is_journal(stream: impl AsFd) -> bool {
    let Ok(named) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stat) = rustix::fs::fstat(stream) else { return false };
    named == format!("{}:{}", stat.st_dev, stat.st_ino)
}
