//! The process: it composes everything, listens, and ends in phases. Nothing of the house's work is done here.

mod addresses;
mod body_timeout;
mod file_watcher;
mod key_reload;
pub mod listener;
mod metrics_listener;
pub mod middleware;
pub mod offline;
mod open_store;
mod pending;
pub mod preflight;
mod reload;
mod supervisor;
mod systemd;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use socketioxide::SocketIo;
use tokio_util::sync::CancellationToken;

use crate::auth::{KeyError, Verifier, sources};
use crate::config::Config;
use crate::domain::{Clock, SystemClock};
use crate::observability::process;
use crate::protocol::http::CertificateStatus;
use crate::realtime::feed::Feed;
use crate::realtime::subscriber::Live;
use crate::services::Services;
use crate::store::StoreError;
use crate::transport::http::{HttpApi, Process, routes};
use crate::transport::socketio::{SocketIoSettings, SocketIoTransport};

use listener::{ConnectionLimits, Connections};
use middleware::{Outer, OuterSettings};
use open_store::open_store;
use reload::Reloader;
use supervisor::Tasks;
use tls::Tls;
use tls::handshakes::Handshakes;

/// A write may make no progress for so long; together with the watch's half second a reader that has stopped is cut off
/// within ten.
const STALL: Duration = Duration::from_secs(8);
/// A backup beside people works a fifth of the time.
const BACKUP_RESTS: u32 = 4;
/// The task that ends with the feed.
const PUMP: &str = "pump";
/// Sockets are given so long to take their farewell.
const FAREWELL: Duration = Duration::from_secs(2);

/// What a server that has started tells whoever started it.
#[derive(Debug, Clone)]
pub struct Started {
    /// Where it is reached, for example `https://127.0.0.1:8443`.
    pub url: String,
    /// Where its data are.
    pub data_dir: PathBuf,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
}

/// Why a server did not start, or did not stop as it should.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}. {remedy}")]
pub struct ServeError {
    /// What did not work.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl ServeError {
    /// An error with its three sentences.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> ServeError {
        ServeError { what: what.into(), why: why.to_string(), remedy: remedy.into() }
    }
}

impl From<KeyError> for ServeError {
    fn from(error: KeyError) -> ServeError {
        ServeError::new(error.what, error.why, error.remedy)
    }
}

/// What the process says of itself.
#[derive(Debug)]
struct State {
    started: Instant,
    listening: Vec<SocketAddr>,
    addresses: Vec<String>,
    websocket_enabled: AtomicBool,
    draining: AtomicBool,
    data_dir: PathBuf,
    tls: Option<Arc<Tls>>,
    /// Why the last reload was refused.
    config_error: Mutex<Option<String>>,
    /// Why keys that have changed are not used.
    keys_error: Mutex<Option<String>>,
}

impl Process for State {
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn websocket_enabled(&self) -> bool {
        self.websocket_enabled.load(Ordering::Acquire)
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    fn certificate(&self) -> Option<CertificateStatus> {
        let material = self.tls.as_ref()?.material();
        let leaf = material.leaf()?;
        Some(CertificateStatus {
            names: leaf.names.clone(),
            not_after: leaf.not_after,
            days_left: leaf.days_left(SystemClock.now()),
            self_signed: leaf.is_self_issued,
        })
    }

    fn config_error(&self) -> Option<String> {
        self.config_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn keys_error(&self) -> Option<String> {
        self.keys_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn free_bytes(&self) -> Option<u64> {
        process::free_bytes(&self.data_dir)
    }
}

/// Who has started the server: what only the command line knows.
pub trait Launcher: Send + Sync {
    /// The server serves.
    fn started(&self, started: &Started);

    /// Reads the configuration again, from where it was read.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn reread(&self) -> Result<Config, ServeError>;

    /// Goes by another level and format of log lines.
    fn resettle_log(&self, config: &Config);
}

/// A server that listens and serves.
pub struct Server {
    started: Started,
    state: Arc<State>,
    services: Arc<Services>,
    sockets: Arc<SocketIoTransport>,
    io: SocketIo,
    connections: Arc<Connections>,
    control: PathBuf,
    reloader: Arc<Reloader>,
    /// Nothing new is begun.
    draining: CancellationToken,
    /// Nothing is looked after any more.
    stopping: CancellationToken,
    tasks: Tasks,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("started", &self.started).finish_non_exhaustive()
    }
}

/// Runs the service until it is told to stop (SIGTERM, SIGINT), and ends it in order.
///
/// # Errors
/// What kept it from starting, or from closing the store.
pub async fn run(config: Config, launcher: Arc<dyn Launcher>) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let mut server = Server::start(config, launcher.clone()).await?;
    launcher.started(&server.started);
    systemd::ready(&server.started.url);
    let failed = tokio::select! {
        () = signals.wait() => None,
        error = server.services.store_failure() => {
            tracing::error!(%error, "the store has failed: stopping");
            Some(ServeError::new(
                "the service had to stop",
                error,
                "Look at the disk. Nothing acknowledged is lost unless it says so: the next start checks the database first.",
            ))
        }
        ended = server.tasks.ended() => {
            tracing::error!(task = ended.name, why = ended.why, "a part of the server has ended: stopping");
            // Whoever waits for it waits in vain.
            server.services.abandon_deliveries();
            Some(ServeError::new(
                "the service had to stop",
                format!("its part '{}' has ended: {}", ended.name, ended.why),
                "Start it again; nothing acknowledged is lost. Report this with the log.",
            ))
        }
    };
    let Some(failed) = failed else {
        tracing::info!("stopping");
        systemd::stopping();
        return server.stop(signals).await;
    };
    // What closing says of the same failure is no news.
    drop(server.stop(signals).await);
    Err(failed)
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Signals, ServeError> {
        use tokio::signal::unix::{SignalKind, signal};
        let listen = |kind| signal(kind).map_err(|e| ServeError::new("signals cannot be handled", e, "Report this."));
        Ok(Signals { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Without them nobody can be let in.
fn unreadable_access(error: StoreError) -> ServeError {
    ServeError::new(
        "revocations and blocks cannot be read",
        error,
        "Look at the database with `academy-rt db check`; if it is damaged, restore a backup.",
    )
}

impl Server {
    /// Opens the store, binds the addresses and serves.
    ///
    /// # Errors
    /// The first thing that does not work, with its remedy.
    pub async fn start(config: Config, launcher: Arc<dyn Launcher>) -> Result<Server, ServeError> {
        // Before anybody can see that it is ready: a signal that nobody listens to would end it.
        let hangup = reload::hangup()?;
        let mut warnings = Vec::new();
        let data_dir = config.storage.data_dir.clone();
        let passed = systemd::listeners()?;
        let addresses: Vec<SocketAddr> = passed.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let configured = [config.server.listen];
        for address in if addresses.is_empty() { configured.as_slice() } else { addresses.as_slice() } {
            addresses::refuse_plain_http_outside(&config, *address)?;
        }
        addresses::make_private_dir(&data_dir)?;
        sources::load_or_create(&config, config.credentials_dir.as_deref())?;
        let (keys, key_files) = key_reload::load(&config)?;
        warnings.extend(keys.warnings);
        let clock = SystemClock::shared();
        let tls = tls::load(&config, clock.now())?;
        warnings.extend(tls.iter().flat_map(|material| material.warnings.iter().cloned()));
        let tls = tls.map(|material| Arc::new(Tls::new(material)));
        // The addresses before the store: a busy port is found before anything is written.
        let figures = match config.metrics.listen {
            Some(address) => Some(addresses::bind(address).await?),
            None => None,
        };
        let listeners = addresses::listeners(&config, passed).await?;
        let addresses: Vec<SocketAddr> = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();

        let feed = Feed::new(random_number()?);
        let live = Live::new(feed, clock.clone());
        let store = open_store(&config, clock.clone(), live.clone(), true).await?;
        let services =
            Services::new(store, live, reload::settings(&config)).signing_with_key_of(&config.storage.data_dir);
        let services = Arc::new(services);
        services.load_access().await.map_err(unreadable_access)?;
        let verifier = Arc::new(Verifier::with_keys(&config.auth, keys.keys));
        let sockets = SocketIoTransport::new(
            services.clone(),
            verifier.clone(),
            SocketIoSettings {
                path: config.server.path.clone(),
                payload_bytes: config.limits.payload,
                send_queue: config.limits.send_queue,
                sign_in: config.limits.sign_in,
            },
        );
        let (layer, io) = sockets.mount();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let urls: Vec<String> = addresses.iter().map(|address| format!("{scheme}://{address}")).collect();
        let url = urls.first().cloned().unwrap_or_default();
        let state = Arc::new(State {
            started: Instant::now(),
            listening: addresses.clone(),
            addresses: urls,
            websocket_enabled: AtomicBool::new(config.server.websocket_enabled),
            draining: AtomicBool::new(false),
            data_dir: data_dir.clone(),
            tls: tls.clone(),
            config_error: Mutex::default(),
            keys_error: Mutex::default(),
        });
        let api = Arc::new(HttpApi {
            services: services.clone(),
            verifier: verifier.clone(),
            sockets: sockets.clone(),
            process: state.clone(),
            payload_bytes: config.limits.payload as u64,
        });
        let outer =
            Outer::new(&layer, routes(api.clone()), sockets.clone(), state.clone(), OuterSettings::new(&config));
        let draining = CancellationToken::new();
        let stopping = CancellationToken::new();
        let limits = ConnectionLimits::new(&config.limits, STALL);
        let connections = Connections::new(outer.clone(), limits, draining.clone());
        let control = config.control_socket();
        let control_listener = addresses::bind_control(&control)?;

        let mut tasks = Tasks::default();
        let mut own = |name, task| tasks.own(name, task);
        let handshakes = tls.clone().map(Handshakes::new).transpose()?.map(Arc::new);
        for listener in listeners {
            own("accept", Box::pin(connections.clone().accept_tcp(listener, handshakes.clone())));
        }
        if let Some(listener) = figures {
            own("figures", Box::pin(metrics_listener::serve(listener, api, stopping.clone())));
        }
        own("control", Box::pin(connections.clone().accept_control(control_listener)));
        own(PUMP, {
            let sockets = sockets.clone();
            Box::pin(async move { sockets.pump().await })
        });
        own("housekeeping", {
            let (services, stopping) = (services.clone(), stopping.clone());
            Box::pin(async move { services.keep_house(stopping).await })
        });
        own("calendar", {
            let (services, stopping) = (services.clone(), stopping.clone());
            Box::pin(async move { services.keep_calendar(stopping).await })
        });
        own("follow-up", {
            let (services, stopping) = (services.clone(), stopping.clone());
            Box::pin(async move { services.follow_up(stopping).await })
        });
        own("watch", {
            let (sockets, connections, stopping) = (sockets.clone(), connections.clone(), stopping.clone());
            let outer = outer.clone();
            Box::pin(async move { sockets.watch(|| connections.wires(), || outer.forget_the_idle(), stopping).await })
        });
        let reloader = Arc::new(Reloader {
            launcher,
            services: services.clone(),
            verifier,
            outer: outer.clone(),
            sockets: sockets.clone(),
            state: state.clone(),
            tls: tls.clone(),
            clock,
            config: Mutex::new(Arc::new(config.clone())),
            key_files: Mutex::new(Arc::new(key_files)),
        });
        own("reload", {
            let (reloader, stopping) = (reloader.clone(), stopping.clone());
            Box::pin(async move { reloader.look_after(hangup, stopping).await })
        });
        own("watchdog", {
            let (services, connections, stopping) = (services.clone(), connections.clone(), stopping.clone());
            Box::pin(async move { systemd::watchdog(&services, &connections, &addresses, stopping).await })
        });
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            addresses = %state.addresses.join(" "),
            data_dir = %data_dir.display(),
            websocket_enabled = config.server.websocket_enabled,
            tls = %tls.as_ref().map_or_else(|| "off".to_owned(), |tls| tls.words()),
            "started"
        );
        Ok(Server {
            started: Started { url, data_dir, warnings },
            state,
            services,
            sockets,
            io,
            connections,
            control,
            reloader,
            draining,
            stopping,
            tasks,
        })
    }

    /// Where it listens, and what was noticed.
    #[must_use]
    pub fn started(&self) -> &Started {
        &self.started
    }

    /// Ends the server: nothing new is accepted, sockets are told, what is under way is finished within the drain, the store
    /// is committed and closed. A second signal skips the waiting, never the store.
    async fn stop(mut self, mut signals: Signals) -> Result<(), ServeError> {
        self.state.draining.store(true, Ordering::Release);
        self.services.end_polls();
        // Who is between two polls has to come once more to hear of it.
        self.sockets.take_leave().await;
        self.draining.cancel();
        let drain = self.reloader.config().server.drain;
        let deadline = tokio::time::Instant::now() + drain;
        let tracker = self.connections.tracker();
        let drained = async {
            self.sockets.let_go(drain / 3).await;
            // Requests that sockets have made are answered before the library ends what is left.
            let tasks = self.sockets.tasks();
            tasks.close();
            let _ = tokio::time::timeout(FAREWELL, tasks.wait()).await;
            if tokio::time::timeout(FAREWELL, self.io.close()).await.is_err() {
                tracing::info!("some sockets did not take their farewell; they are cut off");
            }
            tracker.close();
            tracker.wait().await;
        };
        tokio::select! {
            result = tokio::time::timeout_at(deadline, drained) => {
                if result.is_err() {
                    tracing::warn!(connections = tracker.len(), "the drain is over; what is left is cut off");
                }
            }
            () = signals.wait() => tracing::warn!("told to stop at once"),
        }
        self.connections.cut_all();
        // The tasks first: the last marks that they record are in the store when it is closed. The pump ends with the feed.
        self.stopping.cancel();
        self.tasks.end_all(FAREWELL, |name| name != PUMP).await;
        let closed = self.services.close().await;
        self.tasks.end_all(FAREWELL, |_| true).await;
        // A path that is not there any more is as good.
        let _ = std::fs::remove_file(&self.control);
        match closed {
            Ok(()) => {
                tracing::info!("stopped");
                Ok(())
            }
            Err(error) => Err(ServeError::new(
                "the store was not closed cleanly",
                error,
                "Nothing acknowledged is lost; the next start checks it.",
            )),
        }
    }
}

fn random_number() -> Result<u64, ServeError> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| ServeError::new("the system gives no random numbers", error, "Check /dev/urandom."))?;
    // 0 is nobody's feed.
    Ok(u64::from_le_bytes(bytes) | 1)
}
