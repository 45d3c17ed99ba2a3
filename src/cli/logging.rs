//! Log lines: text on a terminal, JSON for machines. The libraries that log packets (and so tokens and messages) at debug are
//! held at info, whatever is asked for.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::config::{Config, LogFormat};

use super::Global;

/// Libraries that would show tokens or payloads.
const HELD: [&str; 7] = ["socketioxide", "engineioxide", "hyper", "tungstenite", "tokio_tungstenite", "warp", "rustls"];

/// Starts logging to standard error. Once a process.
pub fn start(global: &Global, config: &Config) {
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
    let is_text = match config.log.format {
        LogFormat::Auto => io::stderr().is_terminal(),
        LogFormat::Text => true,
        LogFormat::Json => false,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(directives))
        .with_writer(io::stderr)
        .with_ansi(is_text && io::stderr().is_terminal());
    if is_text {
        builder.with_target(false).init();
    } else {
        builder.json().flatten_event(true).init();
    }
}
