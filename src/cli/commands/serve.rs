//! `serve`: runs the service.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use clap::Args;

use crate::config::{Config, Origin, TlsMode, capacity};
use crate::domain::problem::Problem;
use crate::observability::process;
use crate::server::{self, Launcher, Started, threads};

use crate::cli::exit::{Exit, Failure, say};
use crate::cli::logging::Log;
use crate::cli::{Global, logging, path_text};

/// Run the service.
///
/// Without a configuration, the server stores its data in ./academy-rt-data, creates a secret and a certificate there, and
/// listens on https://127.0.0.1:8443.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Directory of all stored data
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// File with the certificate chain in PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// File with the private key in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Serve plain HTTP: only on a loopback address, or behind a proxy that terminates TLS
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    no_tls: bool,
    /// For developers: a page at /dev with two people who chat and all events, tokens for the asking, and leave for every page
    /// of this machine; only on a loopback address
    #[arg(long)]
    dev: bool,
}

impl ServeArgs {
    fn flags(&self) -> Result<Vec<(&'static str, &'static str, String)>, Failure> {
        let mut flags = Vec::new();
        if let Some(listen) = &self.listen {
            flags.push(("server.listen", "--listen", listen.to_string()));
        }
        if let Some(dir) = &self.data_dir {
            flags.push(("storage.data_dir", "--data-dir", path_text("--data-dir", dir)?));
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            flags.push(("tls.cert", "--tls-cert", path_text("--tls-cert", cert)?));
            flags.push(("tls.key", "--tls-key", path_text("--tls-key", key)?));
            flags.push(("tls.mode", "--tls-cert", "files".to_owned()));
        }
        if self.no_tls {
            flags.push(("tls.mode", "--no-tls", "off".to_owned()));
        }
        Ok(flags)
    }

    /// What a configuration cannot say.
    fn complete(&self, mut config: Config) -> Config {
        config.is_dev = self.dev;
        config.server.welcome |= self.dev;
        config
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// If the server cannot start, or does not stop in order.
pub fn run(global: &Global, args: ServeArgs) -> anyhow::Result<Exit> {
    let config = args.complete(global.load(args.flags()?)?);
    let log = logging::start(global, &config);
    if let Err(error) = process::forbid_core_dumps() {
        tracing::warn!(%error, "a crash may leave a core dump, with secrets in it: set LimitCORE=0 or ulimit -c 0");
    }
    // For requests, for handshakes, for what may block, and for the store.
    let workers = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    threads::refuse_too_few(2 * workers + capacity::BLOCKING_THREADS + 2).map_err(Failure::from)?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(capacity::BLOCKING_THREADS).thread_name("academy-rt");
    let runtime = builder.build().context("the runtime cannot be started")?;
    let launcher = Arc::new(Terminal { global: global.clone(), args, config: config.clone(), log });
    runtime.block_on(server::run(config, launcher)).map_err(Failure::from)?;
    Ok(Exit::Done)
}

/// The terminal or service manager that runs `serve`.
struct Terminal {
    global: Global,
    args: ServeArgs,
    config: Config,
    log: Log,
}

impl Launcher for Terminal {
    fn started(&self, started: &Started) {
        for warning in &started.warnings {
            tracing::warn!("{warning}");
        }
        if !self.global.quiet {
            // A closed standard output is no reason not to serve.
            drop(say(&greeting(started, &self.config, self.global.config.as_deref())));
        }
    }

    fn reread(&self) -> Result<Config, Problem> {
        let read = self.args.flags().map_err(anyhow::Error::from).and_then(|flags| self.global.load_again(flags));
        read.map(|config| self.args.complete(config)).map_err(|error| match error.downcast::<Failure>() {
            Ok(failure) => failure.problem,
            Err(error) => Problem::new("the configuration cannot be read", error, "Correct it and reload again."),
        })
    }

    fn tell_left_out_lines(&self) {
        self.log.tell_left_out();
    }

    fn reconfigure_log(&self, config: &Config) {
        self.log.reconfigure(&self.global, config);
    }
}

fn greeting(started: &Started, config: &Config, file: Option<&Path>) -> String {
    let data_dir = started.data_dir.display();
    // The next command finds the same secret: by the same file, in the same directory.
    let mut context = String::new();
    if let Some(file) = file {
        context.push_str(&format!(" --config {}", shell_word(&file.to_string_lossy())));
    }
    if matches!(config.origin("storage.data_dir"), Origin::Env(_) | Origin::Flag(_)) {
        context.push_str(&format!(" --data-dir {}", shell_word(&started.data_dir.to_string_lossy())));
    }
    let realtime = if config.server.websocket_enabled {
        format!("Socket.IO at {}{}", started.url, config.server.path)
    } else {
        "Socket.IO is disabled (server.websocket_enabled); clients use long polling".to_owned()
    };
    let check = if config.server.welcome {
        format!("  open {}/ in a browser to check its connection\n", started.url)
    } else {
        String::new()
    };
    if config.is_dev {
        return format!(
            "academy-rt {version} is running at {url}, for developers on this machine (--dev)\n  {realtime}\n  \
             open {url}/dev in a browser: two people chat, and all events are shown{certificate}\n  \
             a token for your own page: {url}/dev/token?user=7&name=Ann&role=learner\n  data in {data_dir}\n\n\
             Every page of this machine may connect. Stop it with Ctrl-C.\n",
            version = env!("CARGO_PKG_VERSION"),
            url = started.url,
            certificate = match config.tls.mode {
                TlsMode::SelfSigned => " (accept its certificate once, or use --no-tls)",
                _ => "",
            },
        );
    }
    format!(
        "academy-rt {version} is running at {url}\n  {realtime}\n{check}  data in {data_dir}\n\n\
         Next, in another terminal, issue a token to try it:\n  \
         {program} token issue --user 7 --name Ann --role learner{context}\n\
         Stop it with Ctrl-C.\n",
        version = env!("CARGO_PKG_VERSION"),
        url = started.url,
        program = shell_word(&program()),
    )
}

/// A word as a shell takes it: quoted where it has to be.
fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+=:@,".contains(c);
    if !text.is_empty() && text.chars().all(is_plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The command as the user can type it.
fn program() -> String {
    let first = std::env::args_os().next().unwrap_or_default().to_string_lossy().into_owned();
    if first.is_empty() { "academy-rt".to_owned() } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    #[test]
    fn the_greeting_names_the_next_command_with_what_it_needs() {
        let started = Started { url: "https://127.0.0.1:8443".into(), data_dir: "./d".into(), warnings: Vec::new() };
        let next = |config: &Config, file: Option<&Path>| {
            let text = greeting(&started, config, file);
            text.lines().find(|line| line.contains("token issue")).unwrap().to_owned()
        };
        let mut config = Config::default();
        assert!(next(&config, None).ends_with("--role learner"));
        config.given.push(Given { key: "storage.data_dir", origin: Origin::Flag("--data-dir"), value: "./d".into() });
        let next = next(&config, Some(Path::new("/etc/it's mine.toml")));
        assert!(next.ends_with(r"--config '/etc/it'\''s mine.toml' --data-dir ./d"), "{next}");
    }
}
