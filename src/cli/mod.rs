//! The command line. A file a command: its arguments, what it does, its words.

pub mod client;
pub mod commands;
pub mod exit;
pub mod logging;
pub mod progress_bar;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::load::{examine, is_read};
use crate::config::{Config, ConfigError, Origin, Sources};
use crate::observability::process;

use commands::{
    audit, backup, broadcast, completions, config, db, doctor, history, hold, init, key, man, notify, restore, room,
    serve, status, token, user,
};
use exit::{Exit, Failure};

/// Real-time server for a language academy: chat, progress, notifications and broadcasts over Socket.IO, in one binary.
#[derive(Debug, Parser)]
#[command(name = "academy-rt", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// What all commands share.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file [default: /etc/academy-rt/academy-rt.toml if it exists]
    #[arg(long, global = true, value_name = "FILE", env = "ACADEMY_RT_CONFIG")]
    pub config: Option<PathBuf>,
    /// How answers are printed
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Log warnings and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log more; twice for everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Write a configuration, a secret and a certificate for a new installation
    Init(init::InitArgs),
    /// Run the service
    Serve(serve::ServeArgs),
    /// Issue, verify and revoke tokens
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Keys of tokens: make, show, rotate and end them
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Send an event to connected clients
    Broadcast(broadcast::BroadcastArgs),
    /// Send a stored notification
    Notify(notify::NotifyArgs),
    /// Make and verify backups.
    ///
    /// A backup is one consistent file with checksums, of the running server or of the data directory. It is made with the mode
    /// 0600, synced and read back; it is there whole or not at all. It is signed with a key that lies in the data directory
    /// (backup.key) and is in no backup: keep a copy of it elsewhere.
    Backup(backup::BackupArgs),
    /// Put a backup in the place of the data, or take that back.
    ///
    /// The server must not run. Everything is verified before anything is touched; the old data are kept aside, and --undo goes
    /// back to them. Erasures, legal holds and the audit trail since the backup are carried over. A backup that was altered is
    /// refused. Where the backup's audit trail is another one, the restore is refused, too; with --force the trail that is
    /// there is kept in a file beside the data (audit-before-restore-TIME.jsonl).
    Restore(restore::RestoreArgs),
    /// Check and care for the database; the server must not run
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Chat rooms, and who may be in them
    #[command(subcommand)]
    Room(room::RoomCommand),
    /// Read a chat room
    History(history::HistoryArgs),
    /// People: who they are, shut them out, export or erase what is stored of them
    #[command(subcommand)]
    User(user::UserCommand),
    /// Legal holds: what they name is neither purged nor erased
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// The audit trail: who did what, when, from where
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show the running server at a glance
    Status(status::StatusArgs),
    /// Find out what is wrong with this installation, and how to mend it
    Doctor(doctor::DoctorArgs),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the completions of a shell
    Completions(completions::CompletionsArgs),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man(man::ManArgs),
}

/// Parses the command line and does what it says.
#[must_use]
pub fn main() -> Exit {
    // Before anything is read. Where it does not work, `serve` says so: there is a log by then.
    drop(process::forbid_core_dumps());
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            drop(error.print());
            return if is_help { Exit::Done } else { Exit::Usage };
        }
    };
    match run(cli) {
        Ok(exit) => exit,
        Err(error) => exit::report(&error),
    }
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => init::run(global, &args),
        Command::Serve(args) => serve::run(global, args),
        Command::Token(command) => token::run(global, command),
        Command::Key(command) => key::run(global, command),
        Command::Broadcast(args) => broadcast::run(global, args),
        Command::Notify(args) => notify::run(global, args),
        Command::Backup(args) => backup::run(global, args),
        Command::Restore(args) => restore::run(global, args),
        Command::Db(command) => db::run(global, command),
        Command::Room(command) => room::run(global, command),
        Command::History(args) => history::run(global, &args),
        Command::User(command) => user::run(global, command),
        Command::Hold(command) => hold::run(global, command),
        Command::Audit(command) => audit::run(global, command),
        Command::Status(args) => status::run(global, &args),
        Command::Doctor(args) => doctor::run(global, &args),
        Command::Config(command) => config::run(global, &command),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
    }
}

/// The command tree, for help, man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

impl Global {
    /// The effective configuration, with values of a command's own flags.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn load(&self, flags: Vec<(&'static str, &'static str, String)>) -> anyhow::Result<Config> {
        let (config, problems) = self.examine(flags)?;
        match problems.into_iter().next() {
            None => Ok(config),
            Some(error) => Err(Failure::new("the configuration is wrong", error, "Correct it and try again.").into()),
        }
    }

    /// The configuration as far as it can be read, and everything that is wrong with it.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn examine(
        &self,
        flags: Vec<(&'static str, &'static str, String)>,
    ) -> anyhow::Result<(Config, Vec<ConfigError>)> {
        let path = match &self.config {
            Some(path) => Some(path.clone()),
            None => Some(Config::default_file().to_owned()).filter(|path| path.exists()),
        };
        let file = match path {
            Some(path) => {
                let text = std::fs::read_to_string(&path).map_err(|error| {
                    let remedy = match error.kind() {
                        io::ErrorKind::NotFound => "Correct the path; without --config the defaults hold.",
                        io::ErrorKind::PermissionDenied => "Use the user that runs the server, or sudo.",
                        io::ErrorKind::InvalidData => "Save the file as text in UTF-8.",
                        _ => "Check the path and its permissions.",
                    };
                    Failure::new(format!("the configuration {} cannot be read", path.display()), error, remedy)
                })?;
                Some((path, text))
            }
            None => None,
        };
        let (mut config, problems) = examine(&Sources { file, env: environment()?, flags });
        // The data of this machine's service, by its own file: then its control socket is meant, too.
        let is_the_services = matches!(
            config.origin("storage.data_dir"),
            Origin::File { path, .. } if path == Config::default_file()
        );
        if config.runtime_dir.is_none() && is_the_services {
            config.runtime_dir = Some(PathBuf::from(client::SERVICE_RUNTIME_DIR)).filter(|dir| dir.is_dir());
        }
        Ok((config, problems))
    }

    /// Prints an answer: as JSON, or by the words of the command.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn print(&self, json: &serde_json::Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Json => serde_json::to_string_pretty(json).context("the answer cannot be written as JSON")?,
            Output::Text => exit::plain(&text()),
        };
        exit::say(&text)
    }
}

/// The environment as text. A variable of ours that is none is refused rather than passed over: without its JWT_SECRET a
/// server would make one, and turn everybody away.
fn environment() -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            Ok(value) => drop(env.insert(name, value)),
            Err(_) if is_read(&name) => {
                let what = format!("the environment variable {name} cannot be used");
                return Err(Failure::new(what, "it is not text in UTF-8", "Set it again, as text."));
            }
            Err(_) => {}
        }
    }
    Ok(env)
}

/// A path as the configuration holds it: text. One that is not would become another path.
///
/// # Errors
/// If it is not UTF-8.
pub fn path_text(flag: &str, path: &Path) -> Result<String, Failure> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| {
        Failure::usage(format!("{flag} cannot be used"), "the path is not text in UTF-8", "Give a path in UTF-8.")
    })
}

/// The flag of commands that need the server's data directory and nothing else of it.
///
/// # Errors
/// If the path is not UTF-8.
pub fn data_dir_flag(data_dir: Option<&Path>) -> Result<Vec<(&'static str, &'static str, String)>, Failure> {
    let value = data_dir.map(|dir| path_text("--data-dir", dir)).transpose()?;
    Ok(value.map(|value| ("storage.data_dir", "--data-dir", value)).into_iter().collect())
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_tree_is_sound() {
        super::command().debug_assert();
    }
}
