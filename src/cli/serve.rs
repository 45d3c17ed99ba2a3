//! `serve`: runs the service.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::config::Config;
use crate::server::{self, Started};

use super::Global;
use super::exit::{Exit, Failure, say};
use super::logging;

/// Threads for reads of the store.
const READERS: usize = 8;

/// Run the service.
///
/// With nothing configured it keeps its data in ./academy-rt-data, makes a secret and a certificate there, and listens on
/// https://127.0.0.1:8443.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR:PORT")]
    listen: Option<SocketAddr>,
    /// Where everything is stored
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Certificate chain, PEM
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key, PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Plain HTTP: on a loopback address, or behind a proxy that ends TLS
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    no_tls: bool,
}

impl ServeArgs {
    fn flags(&self) -> Vec<(&'static str, &'static str, String)> {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let mut flags = Vec::new();
        if let Some(listen) = &self.listen {
            flags.push(("server.listen", "--listen", listen.to_string()));
        }
        if let Some(dir) = &self.data_dir {
            flags.push(("storage.data_dir", "--data-dir", text(dir)));
        }
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            flags.push(("tls.cert", "--tls-cert", text(cert)));
            flags.push(("tls.key", "--tls-key", text(key)));
            flags.push(("tls.mode", "--tls-cert", "files".to_owned()));
        }
        if self.no_tls {
            flags.push(("tls.mode", "--no-tls", "off".to_owned()));
        }
        flags
    }
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// What kept it from starting or from ending in order.
pub fn run(global: &Global, args: ServeArgs) -> anyhow::Result<Exit> {
    let config = global.load(args.flags())?;
    logging::start(global, &config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // They read from the store, in microseconds: more threads would wait for each other and keep their stacks.
        .max_blocking_threads(READERS)
        .thread_name("academy-rt")
        .build()
        .context("the runtime cannot be started")?;
    let quiet = global.quiet;
    let shown = config.clone();
    runtime.block_on(async move {
        server::run(config, |started| {
            for warning in &started.warnings {
                tracing::warn!("{warning}");
            }
            if !quiet {
                // A closed standard output is no reason not to serve.
                drop(say(&greeting(started, &shown)));
            }
        })
        .await
        .map_err(Failure::from)
    })?;
    Ok(Exit::Done)
}

fn greeting(started: &Started, config: &Config) -> String {
    let data_dir = started.data_dir.display();
    let is_default = config.storage.data_dir == Config::default().storage.data_dir;
    let context = if is_default { String::new() } else { format!("ACADEMY_RT_STORAGE_DATA_DIR={data_dir} ") };
    let realtime = if config.server.websocket_enabled {
        format!("Socket.IO at {}{}", started.url, config.server.path)
    } else {
        "Socket.IO is switched off (server.websocket_enabled); clients poll".to_owned()
    };
    format!(
        "academy-rt {version} is running at {url}\n  {realtime}\n  data in {data_dir}\n\n\
         Next, in another terminal - a token to try it with:\n  {context}{program} token issue --user 7 --name Ann --role learner\n\
         Stop it with Ctrl-C.\n",
        version = env!("CARGO_PKG_VERSION"),
        url = started.url,
        program = program(),
    )
}

/// The command as the user can type it.
fn program() -> String {
    let first = std::env::args().next().unwrap_or_default();
    if first.is_empty() { "academy-rt".to_owned() } else { first }
}
