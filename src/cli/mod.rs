//! The command line. Each command has one file with its arguments, its code and its texts.

pub mod bounded_lines;
pub mod client;
pub mod commands;
pub mod confirm;
pub mod examples;
pub mod exit;
pub mod journal;
pub mod logging;
pub mod progress_bar;
pub mod read_only;
pub mod scratch;

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;
use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::config::load::{examine, is_read};
use crate::config::{Config, ConfigError, Origin, SourceFile, Sources, drop_ins, trusted_file};
use crate::domain::panics;
use crate::observability::process;
use crate::protocol::json::escaped;

use commands::{
    audit, backup, bench, broadcast, completions, config, db, doctor, history, hold, init, key, man, message, notify,
    report, restore, room, sdk, serve, status, token, user, webhook,
};
use exit::{Exit, Failure};

/// No file of `conf.d` has so many bytes.
const MOST_OF_DROP_IN: u64 = 1 << 20;

/// Real-time server for a language academy: chat, progress, notifications and broadcasts over Socket.IO, in one binary.
#[derive(Debug, Parser)]
#[command(name = "academy-rt", version, propagate_version = true, max_term_width = 100)]
pub struct Cli {
    /// The options of all commands.
    #[command(flatten)]
    pub global: Global,
    /// The command.
    #[command(subcommand)]
    pub command: Command,
}

/// The options of all commands.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Configuration file; conf.d/*.toml beside it is read after it [default: /etc/academy-rt/academy-rt.toml if it exists]
    // An empty variable is one that is not set, as with every other one.
    #[arg(long, global = true, value_name = "FILE", env = "ACADEMY_RT_CONFIG", value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub config: Option<PathBuf>,
    /// Output format
    #[arg(long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// Log only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Log debug messages; -vv also logs trace messages
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Whether it was said that the configuration is wrong.
    #[arg(skip)]
    is_warned: Arc<AtomicBool>,
}

/// The output format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Text for people.
    Text,
    /// JSON for programs.
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
    /// Create, list, rotate and retire the keys that verify tokens
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Send an event to connected clients
    Broadcast(broadcast::BroadcastArgs),
    /// Send a stored notification
    Notify(Box<notify::NotifyArgs>),
    /// Create and verify backups.
    ///
    /// A backup is one consistent file with checksums, of the running server or of the data directory. The command creates it
    /// with mode 0600, syncs it and reads it back; a failed backup leaves no file. The server signs it with the key backup.key in
    /// its data directory. No backup contains this key: keep a copy of it in another place.
    Backup(backup::BackupArgs),
    /// Replace the data with a backup, or undo that.
    ///
    /// The server must not be running. The command verifies everything before it changes anything. It sets the old data aside, and
    /// --undo returns to them. It carries over erasures, legal holds and the audit log since the backup. It refuses a backup that
    /// was altered, and a backup whose audit log does not continue the current one; with --force it restores that backup and
    /// keeps the current audit log in a file beside the data (audit-before-restore-TIME.jsonl).
    Restore(restore::RestoreArgs),
    /// Check, compact and upgrade the database; the server must not be running
    #[command(subcommand)]
    Db(db::DbCommand),
    /// Manage chat rooms and their members
    #[command(subcommand)]
    Room(room::RoomCommand),
    /// Show the messages of a chat room
    History(history::HistoryArgs),
    /// Show and delete single messages of chat rooms
    #[command(subcommand)]
    Message(message::MessageCommand),
    /// List and resolve reports of messages
    #[command(subcommand)]
    Report(report::ReportCommand),
    /// Manage users: list, block, disconnect, export and erase them
    #[command(subcommand)]
    User(user::UserCommand),
    /// Manage legal holds, which prevent purges and erasures
    #[command(subcommand)]
    Hold(hold::HoldCommand),
    /// Manage webhooks, which tell the platform what happens here
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Show, export and verify the audit log
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show the state of the running server
    Status(status::StatusArgs),
    /// Check this installation for problems, and say how to fix them
    Doctor(doctor::DoctorArgs),
    /// Measure a server, or how much this machine carries
    Bench(Box<bench::BenchArgs>),
    /// Check and show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print shell completions
    Completions(completions::CompletionsArgs),
    /// Write the man pages into a directory
    #[command(hide = true)]
    Man(man::ManArgs),
    /// Write the npm packages of the SDK into a directory
    #[command(hide = true)]
    Sdk(sdk::SdkArgs),
}

/// Parses the command line and runs the command.
#[must_use]
pub fn main() -> Exit {
    // Before any secret is read. If it fails, `serve` logs a warning later, when there is a log.
    drop(process::forbid_core_dumps());
    let parsed = command().try_get_matches();
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let is_help = !error.use_stderr();
            let printed = error.print();
            if is_help {
                return if printed.is_ok_and(|()| io::stdout().flush().is_ok()) { Exit::Done } else { Exit::Failed };
            }
            if asks_for_json(std::env::args_os().map(|arg| arg.to_string_lossy().into_owned())) {
                exit::report_usage(&error.to_string());
            }
            return Exit::Usage;
        }
    };
    let is_json = cli.global.output == Output::Json;
    panics::tell_awaited_ones_as_errors();
    match panics::awaited(|| run(cli)) {
        Ok(Ok(exit)) => exit,
        Ok(Err(error)) => exit::report(&error, is_json),
        Err(words) => exit::report(&of_a_panic(&words).into(), is_json),
    }
}

fn of_a_panic(words: &str) -> Failure {
    if panics::is_lack_of_threads(words) {
        return Failure::new("the threads of the program cannot be started", words, panics::MORE_THREADS);
    }
    Failure::new("this is a fault of the program itself", words, "Report it with these lines and what you did.")
}

/// Whether a command line that cannot be parsed asks for JSON.
fn asks_for_json(args: impl Iterator<Item = String>) -> bool {
    let args: Vec<String> = args.collect();
    args.iter().any(|arg| arg == "--output=json")
        || args.windows(2).any(|two| matches!(two, [name, value] if name == "--output" && value == "json"))
}

fn run(cli: Cli) -> anyhow::Result<Exit> {
    let global = &cli.global;
    match cli.command {
        Command::Init(args) => init::run(global, &args),
        Command::Serve(args) => serve::run(global, args),
        Command::Token(command) => token::run(global, command),
        Command::Key(command) => key::run(global, command),
        Command::Broadcast(args) => broadcast::run(global, args),
        Command::Notify(args) => notify::run(global, *args),
        Command::Backup(args) => backup::run(global, args),
        Command::Restore(args) => restore::run(global, args),
        Command::Db(command) => db::run(global, command),
        Command::Room(command) => room::run(global, command),
        Command::History(args) => history::run(global, &args),
        Command::Message(command) => message::run(global, command),
        Command::Report(command) => report::run(global, command),
        Command::User(command) => user::run(global, command),
        Command::Hold(command) => hold::run(global, command),
        Command::Webhook(command) => webhook::run(global, command),
        Command::Audit(command) => audit::run(global, command),
        Command::Status(args) => status::run(global, &args),
        Command::Doctor(args) => doctor::run(global, &args),
        Command::Bench(args) => bench::run(global, &args),
        Command::Config(command) => config::run(global, &command),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Sdk(args) => sdk::run(global, &args),
    }
}

/// The command tree, for help, man pages and completions.
#[must_use]
pub fn command() -> clap::Command {
    examples::with_examples(Cli::command())
}

impl Global {
    /// The configuration file that was named.
    #[must_use]
    pub fn named_config(&self) -> Option<&Path> {
        self.config.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// The configuration file: the one that was named, or else the default one if there is anything of that name. One that is
    /// there and cannot be reached is not one that is absent: with the defaults, a server would open a new, empty store.
    ///
    /// # Errors
    /// If it cannot be reached.
    fn config_file(&self) -> Result<Option<PathBuf>, Failure> {
        match &self.config {
            Some(path) if !path.as_os_str().is_empty() => Ok(Some(path.clone())),
            Some(_) if std::env::var_os("ACADEMY_RT_CONFIG").is_none_or(|name| !name.is_empty()) => {
                let why = "it is empty";
                Err(Failure::usage("--config cannot be used", why, "Give it a file, or leave it out."))
            }
            _ => {
                let path = Config::default_file();
                match is_there(path) {
                    Ok(true) => Ok(Some(path.to_owned())),
                    Ok(false) => Ok(None),
                    Err(error) => Err(unreadable(path, &error)),
                }
            }
        }
    }

    /// As [`Global::load`], for a server that has read its configuration before. A pipe gives it only once: what is left in it
    /// is an empty configuration, and not another one.
    ///
    /// # Errors
    /// As [`Global::load`], and if the configuration is no regular file.
    pub fn load_again(&self, flags: Vec<(&'static str, &'static str, String)>) -> anyhow::Result<Config> {
        if let Some(path) = self.config_file()? {
            let metadata = std::fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
            if !metadata.is_file() {
                let what = format!("the configuration {} cannot be read again", path.display());
                let remedy = "Put the configuration into a file and restart the server with --config FILE.";
                return Err(Failure::new(what, "it is not a regular file", remedy).into());
            }
        }
        self.load(flags)
    }

    /// The effective configuration, including values from a command's own options.
    ///
    /// # Errors
    /// If the configuration is wrong; the error says where.
    pub fn load(&self, flags: Vec<(&'static str, &'static str, String)>) -> anyhow::Result<Config> {
        let (config, problems) = self.examine(flags)?;
        match problems.into_iter().next() {
            None => Ok(config),
            Some(error) => {
                Err(Failure::new("the configuration is wrong", error, "Correct the configuration and try again.")
                    .into())
            }
        }
    }

    /// The configuration for asking a server that runs, and what is wrong with it. A server runs with the configuration that it
    /// has read: a mistake in the file must not take from anybody the means to ask it, to block a user or to revoke a token.
    ///
    /// # Errors
    /// If a flag cannot be used.
    pub fn load_to_ask(
        &self,
        flags: Vec<(&'static str, &'static str, String)>,
    ) -> anyhow::Result<(Config, Option<Failure>)> {
        let wrong = |error: ConfigError| {
            Failure::new("the configuration is wrong", error, "Correct the configuration and try again.")
        };
        let (mut config, failure) = match self.examine(flags.clone()) {
            Ok((config, problems)) => (config, problems.into_iter().next().map(wrong)),
            Err(error) => {
                let failure = error.downcast::<Failure>()?;
                if failure.is_usage {
                    return Err(failure.into());
                }
                let env = environment().unwrap_or_default();
                (examine(&Sources { files: Vec::new(), env, flags }).0, Some(failure))
            }
        };
        // The file may name the data directory in a line that nobody can read.
        let is_named = config.origin("storage.data_dir") != Origin::Default;
        if failure.is_some() && config.runtime_dir.is_none() && !is_named && self.named_config().is_none() {
            config.runtime_dir = Some(PathBuf::from(client::SERVICE_RUNTIME_DIR)).filter(|dir| dir.is_dir());
        }
        Ok((config, failure))
    }

    /// Says once that the configuration is wrong, and that the running server has been asked all the same.
    ///
    /// # Errors
    /// If standard error is closed.
    pub fn warn_of(&self, failure: &Failure) -> anyhow::Result<()> {
        if self.is_warned.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        exit::warn(&format!(
            "{failure}. The running server was asked all the same: it has the configuration from before. Correct the file (academy-rt config check)"
        ))
    }

    /// The configuration as far as it can be read, and everything that is wrong with it.
    ///
    /// # Errors
    /// If its file cannot be read.
    pub fn examine(
        &self,
        flags: Vec<(&'static str, &'static str, String)>,
    ) -> anyhow::Result<(Config, Vec<ConfigError>)> {
        let mut files = Vec::new();
        let main = self.config_file()?;
        if let Some(path) = &main {
            let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
            files.push(SourceFile { path: path.clone(), text: Ok(text) });
        }
        let main = main.unwrap_or_else(|| Config::default_file().to_owned());
        let mut passed_over = Vec::new();
        match drop_ins::beside(&main) {
            Ok(found) => {
                files.extend(found.read.into_iter().map(drop_in));
                passed_over = found.passed_over;
            }
            // What it would set is not known. The files that can be read still say where the running server is.
            Err(error) => files.push(SourceFile { path: drop_ins::dir(&main), text: Err(error.to_string()) }),
        }
        let (mut config, problems) = examine(&Sources { files, env: environment()?, flags });
        config.passed_over = passed_over;
        // The default configuration names the data directory: use the control socket of this machine's service, too.
        let services = Config::default_file().parent();
        let is_the_services = matches!(
            config.origin("storage.data_dir"),
            Origin::File { path, .. } if services.is_some_and(|dir| path.starts_with(dir)) && main == Config::default_file()
        );
        if config.runtime_dir.is_none() && is_the_services {
            config.runtime_dir = Some(PathBuf::from(client::SERVICE_RUNTIME_DIR)).filter(|dir| dir.is_dir());
        }
        Ok((config, problems))
    }

    /// Prints an answer: as JSON, or as the text of the command. JSON is an object with `ok`: whether the exit status is 0. Where a
    /// command has found something and exits with 3, the answer has `ok: false` itself.
    ///
    /// # Errors
    /// If standard output is closed.
    pub fn print(&self, json: &serde_json::Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        let text = match self.output {
            Output::Json => {
                let written = match json.get("ok") {
                    Some(_) => serde_json::to_string_pretty(json),
                    None => {
                        let mut whole = serde_json::Map::from_iter([("ok".to_owned(), true.into())]);
                        match json {
                            serde_json::Value::Object(answer) => whole.extend(answer.clone()),
                            other => drop(whole.insert("items".to_owned(), other.clone())),
                        }
                        serde_json::to_string_pretty(&whole)
                    }
                };
                escaped(written.context("the answer cannot be written as JSON")?)
            }
            Output::Text => exit::plain(&text()),
        };
        exit::say(&text)
    }
}

/// A file of `conf.d`. Unlike the configuration file itself it cannot be a pipe: one would be waited for.
fn drop_in(path: PathBuf) -> SourceFile {
    let text = trusted_file::read(&path, MOST_OF_DROP_IN)
        .and_then(|bytes| String::from_utf8(bytes.to_vec()).map_err(|_| io::Error::other("it is not UTF-8 text")));
    SourceFile { path, text: text.map_err(|error| error.to_string()) }
}

/// Whether anything has this name: also a link that points nowhere, and what is in a directory that is closed to this user.
///
/// # Errors
/// If nobody can say.
fn is_there(path: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // A directory above it that is a link and leads nowhere.
            let is_lost = |place: &&Path| std::fs::symlink_metadata(place).is_ok_and(|found| found.is_symlink());
            let nearest = path.ancestors().skip(1).find(|place| std::fs::symlink_metadata(place).is_ok());
            Ok(nearest.as_ref().is_some_and(is_lost) && nearest.is_some_and(|place| !place.exists()))
        }
        Err(error) => Err(error),
    }
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    let link = path.ancestors().find_map(|place| std::fs::read_link(place).ok().map(|target| (place, target)));
    let remedy = match (error.kind(), link) {
        (io::ErrorKind::NotFound, Some((place, target))) => format!(
            "{} is a link to {}. Put the configuration there, or remove the link: without a configuration the defaults apply.",
            place.display(),
            target.display()
        ),
        (io::ErrorKind::NotFound, None) => "Correct the path. Without --config the defaults apply.".to_owned(),
        (io::ErrorKind::PermissionDenied, _) => "Run the command as the user of the server, or with sudo.".to_owned(),
        (io::ErrorKind::InvalidData, _) => "Save the file as UTF-8 text.".to_owned(),
        _ => "Check the path and its permissions.".to_owned(),
    };
    Failure::new(format!("the configuration {} cannot be read", path.display()), error, remedy)
}

/// The environment as text. A variable that is read and is not UTF-8 is an error, and is not ignored: without its JWT_SECRET a
/// server would create another secret and refuse all tokens.
fn environment() -> Result<BTreeMap<String, String>, Failure> {
    let mut env = BTreeMap::new();
    for (name, value) in std::env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        match value.into_string() {
            Ok(value) => drop(env.insert(name, value)),
            Err(_) if is_read(&name) => {
                let what = format!("the environment variable {name} cannot be used");
                return Err(Failure::new(what, "its value is not valid UTF-8", "Set it to UTF-8 text."));
            }
            Err(_) => {}
        }
    }
    Ok(env)
}

/// A path as text, as the configuration stores it. A path that is not UTF-8 is refused, because it would become another path.
///
/// # Errors
/// If it is not UTF-8.
pub fn path_text(flag: &str, path: &Path) -> Result<String, Failure> {
    path.to_str().map(ToOwned::to_owned).ok_or_else(|| {
        Failure::usage(format!("{flag} cannot be used"), "the path is not valid UTF-8", "Use a path in UTF-8.")
    })
}

/// The `--data-dir` option as a configuration value, for commands that need nothing else of the server.
///
/// # Errors
/// If the path is not UTF-8.
pub fn data_dir_flag(data_dir: Option<&Path>) -> Result<Vec<(&'static str, &'static str, String)>, Failure> {
    let value = data_dir.map(|dir| path_text("--data-dir", dir)).transpose()?;
    Ok(value.map(|value| ("storage.data_dir", "--data-dir", value)).into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_command_tree_is_sound() {
        super::command().debug_assert();
    }

    #[test]
    fn what_cannot_be_reached_is_not_absent() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert!(!is_there(&at("absent/a.toml")).unwrap());
        symlink(at("nowhere"), at("a.toml")).unwrap();
        assert!(is_there(&at("a.toml")).unwrap());
        symlink(at("nowhere"), at("linked")).unwrap();
        assert!(is_there(&at("linked/a.toml")).unwrap());
        assert!(
            unreadable(&at("linked/a.toml"), &io::ErrorKind::NotFound.into()).problem.remedy.contains("is a link to")
        );
        std::fs::create_dir(at("real")).unwrap();
        symlink(at("real"), at("alive")).unwrap();
        assert!(!is_there(&at("alive/a.toml")).unwrap());
        std::fs::write(at("file"), "").unwrap();
        is_there(&at("file/a.toml")).unwrap_err();
    }
}
