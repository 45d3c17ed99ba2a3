//! `config`: checks the configuration, and shows its values and where they come from.

use std::fmt::Write;

use clap::Subcommand;
use serde_json::{Map, json};

use crate::config::keys::{default_file, in_toml};
use crate::config::{KEYS, Origin};
use crate::domain::{Clock, SystemClock};
use crate::server::preflight;

use crate::cli::Global;
use crate::cli::exit::{Exit, Failure, say};

/// Commands for the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check the configuration and the files it names. The exit status is 3 if something is wrong
    Check,
    /// Show every key with its value and where the value comes from
    #[command(after_long_help = keys_help())]
    Show,
    /// Print a configuration file with comments and all defaults
    Default,
}

/// All keys with their help texts.
fn keys_help() -> String {
    let mut text = String::from("Keys:\n");
    for key in KEYS {
        // Writing into a String does not fail.
        let _ = writeln!(text, "  {}\n          {}", key.name, key.description());
    }
    text.push_str("\nIn the environment, the key server.listen is ACADEMY_RT_SERVER_LISTEN.");
    text
}

/// Runs the command.
///
/// # Errors
/// If the file cannot be read.
pub fn run(global: &Global, command: &ConfigCommand) -> anyhow::Result<Exit> {
    match command {
        ConfigCommand::Check => check(global),
        ConfigCommand::Show => show(global),
        ConfigCommand::Default => {
            say(default_file().trim_end())?;
            Ok(Exit::Done)
        }
    }
}

fn check(global: &Global) -> anyhow::Result<Exit> {
    let (config, problems) = global.examine(Vec::new())?;
    let mut wrong: Vec<Failure> = problems
        .iter()
        .map(|problem| Failure::new("the configuration is wrong", problem, "Correct it in that place."))
        .collect();
    let mut warnings = Vec::new();
    // The files are checked only if the configuration that names them is valid.
    if wrong.is_empty() {
        let checked = preflight::check(&config, SystemClock.now());
        wrong.extend(checked.problems.into_iter().map(Failure::from));
        warnings = checked.warnings;
    }
    let listed = |failure: &Failure| json!({ "what": failure.problem.what, "why": failure.problem.why, "remedy": failure.problem.remedy });
    let answer = json!({
        "ok": wrong.is_empty(),
        "files": config.files.iter().map(|path| path.display().to_string()).collect::<Vec<_>>(),
        "problems": wrong.iter().map(listed).collect::<Vec<_>>(),
        "warnings": warnings,
    });
    global.print(&answer, || {
        let read = config.files.iter().map(|path| format!("read: {}", path.display()));
        let mut lines: Vec<String> = read
            .chain(problems.iter().map(ToString::to_string))
            .chain(warnings.iter().map(|text| format!("warning: {text}")))
            .collect();
        if problems.is_empty() {
            lines.extend(wrong.iter().map(|failure| format!("{failure}\n  {}", failure.problem.remedy)));
        }
        if config.files.is_empty() {
            lines.insert(0, "read: no file; the defaults apply".to_owned());
        }
        if wrong.is_empty() {
            lines.push("the configuration is valid".to_owned());
        }
        lines.join("\n")
    })?;
    Ok(if wrong.is_empty() { Exit::Done } else { Exit::Found })
}

fn show(global: &Global) -> anyhow::Result<Exit> {
    let config = global.load(Vec::new())?;
    let answer: Map<String, serde_json::Value> = KEYS
        .iter()
        .map(|key| {
            let value = json!({ "value": config.value(key), "origin": config.origin(key.name).to_string() });
            (key.name.to_owned(), value)
        })
        .collect();
    global.print(&answer.into(), || {
        let mut text = String::new();
        let mut section = "";
        for key in KEYS {
            let (in_section, name) = key.parts();
            if in_section != section {
                let gap = if section.is_empty() { "" } else { "\n" };
                let _ = writeln!(text, "{gap}[{in_section}]");
                section = in_section;
            }
            let origin = config.origin(key.name);
            let line = match (key.is_secret, &origin) {
                // The output can be used as a file, which must not contain a secret.
                (true, Origin::Default) => continue,
                (true, _) => format!("# {name}: {}", config.value(key)),
                (false, _) => format!("{name} = {}", in_toml(key, &config.value(key))),
            };
            let _ = writeln!(text, "{line:<44} # {origin}");
        }
        text.truncate(text.trim_end().len());
        text
    })?;
    Ok(Exit::Done)
}
