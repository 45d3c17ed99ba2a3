//! The administrators' calls without a server: the same routes over the store, on one connection inside the process. A
//! command that finds nobody on the control socket works on the data directory itself, by the same code.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::DuplexStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::Verifier;
use crate::config::{Config, ForwardedHeader, Secret};
use crate::domain::SystemClock;
use crate::realtime::feed::Feed;
use crate::services::{App, Settings, app};
use crate::store::OpenError;
use crate::store::embedded::offline::rows::Held;
use crate::transport::http::Process;

use super::compose::{self, Transports, random_number};
use super::listener::{ConnectionLimits, Connections};
use crate::domain::problem::Problem;
use crate::server::middleware::MiddlewareSettings;
use crate::server::preflight;

/// A command may think about an answer for so long before it takes more of it.
const TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// What lies in the connection.
const BUFFER_BYTES: usize = 256 << 10;

/// What such a process says of itself.
struct Alone(Instant);

impl Process for Alone {
    fn uptime(&self) -> Duration {
        self.0.elapsed()
    }

    fn addresses(&self) -> Vec<String> {
        Vec::new()
    }

    fn websocket_enabled(&self) -> bool {
        false
    }

    fn has_welcome(&self) -> bool {
        false
    }

    fn is_draining(&self) -> bool {
        false
    }
}

/// Why there is nothing to work on.
#[derive(Debug)]
pub enum OfflineError {
    /// A server has it open: it is to be asked, and not passed by.
    InUse(String),
    /// Anything else.
    Other(Problem),
}

impl From<Problem> for OfflineError {
    fn from(error: Problem) -> OfflineError {
        OfflineError::Other(error)
    }
}

/// The services over a store that no server uses.
pub struct Offline {
    app: Arc<App>,
    connection: JoinHandle<()>,
}

impl std::fmt::Debug for Offline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Offline")
    }
}

impl Offline {
    /// Opens the store of a configuration, and gives a connection to its calls. The directory must have a store; it is
    /// neither made nor migrated.
    ///
    /// # Errors
    /// Why it cannot be opened: a server that runs, above all.
    pub async fn open(config: &Config) -> Result<(Offline, DuplexStream), OfflineError> {
        let path = config.storage.data_dir.join(crate::store::embedded::NAME);
        if path.exists()
            && let Err(OpenError::InUse { by, .. }) = Held::take(&config.storage.data_dir)
        {
            return Err(OfflineError::InUse(by));
        }
        if !path.exists() {
            return Err(OfflineError::Other(Problem::new(
                "there is no store",
                format!("{} does not exist", path.display()),
                "Give the data directory of the server with --data-dir, or its configuration with --config.",
            )));
        }
        let clock = SystemClock::shared();
        preflight::refuse_clock(clock.now())?;
        // No client is connected, and nobody takes the deliveries.
        let feed = Feed::new(random_number()?);
        feed.close();
        // There is nobody to be considerate of.
        let settings = Settings::new(config, 0);
        let app = compose::app(config, clock, feed, settings, false).await?;
        // No token is taken here; a secret that nobody knows says so.
        let secret = Secret::new(format!("{:x}{:x}", random_number()?, random_number()?));
        let verifier = Arc::new(Verifier::new(&config.auth, &secret));
        let process: Arc<dyn Process> = Arc::new(Alone(Instant::now()));
        let settings = MiddlewareSettings {
            is_dev: false,
            cors_origins: Vec::new(),
            api_path: config.server.api_path.clone(),
            cookie_name: None,
            compression: false,
            connects_per_second: 0,
            behind_proxy: false,
            forwarded_header: ForwardedHeader::XForwardedFor,
            proxy_protocol: false,
            trusted_proxies: Vec::new(),
            has_tls: false,
            hsts: None,
        };
        let Transports { middleware, .. } = compose::transports(config, &app, &verifier, process, (settings, None));
        let limits = ConnectionLimits::new(&config.limits, TIMEOUT);
        let connections = Connections::new(middleware, limits, CancellationToken::new());
        let (ours, theirs) = tokio::io::duplex(BUFFER_BYTES);
        let user = rustix::process::getuid().as_raw();
        let connection = tokio::spawn(async move { connections.serve_alone(ours, user).await });
        Ok((Offline { app, connection }, theirs))
    }

    /// Closes the store; what was written is on disk.
    ///
    /// # Errors
    /// What closing the file said.
    pub async fn close(self) -> Result<(), Problem> {
        self.connection.abort();
        app::close(&self.app).await.map_err(|error| {
            Problem::new("the store was not closed cleanly", error, "Check it with `academy-rt db check`.")
        })
    }
}
