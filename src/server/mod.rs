//! The process: it composes everything, listens, and ends in phases. Nothing of the house's work is done here.

pub mod listener;
pub mod offline;
mod opening;
pub mod outer;
pub mod tls;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use socketioxide::SocketIo;
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::auth::{Verifier, secret};
use crate::config::{Config, TlsMode};
use crate::domain::SystemClock;
use crate::services::delivery::Feed;
use crate::services::limits::Limits;
use crate::services::privacy::Retention;
use crate::services::{Services, Settings};
use crate::transport::http::{HttpApi, Process, routes};
use crate::transport::socketio::{SocketIoSettings, SocketIoTransport};
use crate::transport::wire::WireLimits;

use listener::Connections;
use opening::open_store;
use outer::{Outer, OuterSettings};

/// A write may make no progress for so long; together with the watch's half second a reader that has stopped is cut off
/// within ten.
const STALL: Duration = Duration::from_secs(8);
/// A backup beside people works a fifth of the time.
const BACKUP_RESTS: u32 = 4;
/// The most bytes that wait for one slow reader.
const QUEUED_BYTES: usize = 4 << 20;
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

/// What the process says of itself.
#[derive(Debug)]
struct State {
    started: Instant,
    addresses: Vec<String>,
    websocket_enabled: bool,
    draining: AtomicBool,
}

impl Process for State {
    fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    fn addresses(&self) -> Vec<String> {
        self.addresses.clone()
    }

    fn websocket_enabled(&self) -> bool {
        self.websocket_enabled
    }

    fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }
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
    drain: Duration,
    /// Nothing new is begun.
    draining: CancellationToken,
    /// Nothing is looked after any more.
    stopping: CancellationToken,
    tasks: Vec<(&'static str, JoinHandle<()>)>,
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
pub async fn run(config: Config, ready: impl FnOnce(&Started) + Send) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let server = Server::start(config).await?;
    ready(&server.started);
    let failed = tokio::select! {
        () = signals.wait() => None,
        error = server.services.store_failure() => Some(error),
    };
    let Some(error) = failed else {
        tracing::info!("stopping");
        return server.stop(signals).await;
    };
    tracing::error!(%error, "the store has failed: stopping");
    // What closing says of the same failure is no news.
    drop(server.stop(signals).await);
    Err(ServeError::new(
        "the service had to stop",
        error,
        "Look at the disk. Nothing acknowledged is lost unless it says so: the next start checks the database first.",
    ))
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

impl Server {
    /// Opens the store, binds the addresses and serves.
    ///
    /// # Errors
    /// The first thing that does not work, with its remedy.
    pub async fn start(config: Config) -> Result<Server, ServeError> {
        let mut warnings = Vec::new();
        let data_dir = config.storage.data_dir.clone();
        make_private_dir(&data_dir)?;
        refuse_plain_http_outside(&config)?;
        let secret = secret::load_or_create(&config, credentials_dir().as_deref())
            .map_err(|error| ServeError::new("the JWT secret cannot be used", &error, error.remedy()))?;
        warnings.extend(secret.warning);
        let tls = tls::acceptor(&config)?;
        // The address before the store: a busy port is found before anything is written.
        let listener = bind(config.server.listen).await?;
        let address = listener.local_addr().unwrap_or(config.server.listen);

        let clock = SystemClock::shared();
        let feed = Feed::new(random_number()?);
        let store = open_store(&config, clock.clone(), feed.clone(), true).await?;
        let services = Arc::new(Services::new(store, feed, clock, settings(&config)));
        let verifier = Arc::new(Verifier::new(&config.auth, &secret.secret));
        let sockets = SocketIoTransport::new(
            services.clone(),
            verifier.clone(),
            SocketIoSettings {
                path: config.server.path.clone(),
                payload_bytes: config.limits.payload,
                send_queue: config.limits.send_queue,
                rejects_in_handshake: config.auth.rejects_in_handshake(),
                leeway: config.auth.leeway,
            },
        );
        let (layer, io) = sockets.mount();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let url = format!("{scheme}://{address}");
        let state = Arc::new(State {
            started: Instant::now(),
            addresses: vec![url.clone()],
            websocket_enabled: config.server.websocket_enabled,
            draining: AtomicBool::new(false),
        });
        let api = Arc::new(HttpApi {
            services: services.clone(),
            verifier,
            sockets: sockets.clone(),
            process: state.clone(),
            payload_bytes: config.limits.payload as u64,
        });
        let outer = Outer::new(
            &layer,
            routes(api),
            sockets.clone(),
            state.clone(),
            OuterSettings {
                cors_origins: config.server.cors_origins.clone(),
                cookie_name: config.auth.cookie_name.clone(),
                connects_per_second: config.limits.connects_per_second,
                behind_proxy: config.server.behind_proxy,
                trusted_proxies: config.server.trusted_proxies.clone(),
            },
        );
        let draining = CancellationToken::new();
        let stopping = CancellationToken::new();
        let limits =
            WireLimits { queued_frames: config.limits.send_queue.max(64), queued_bytes: QUEUED_BYTES, stall: STALL };
        let connections = Connections::new(outer.clone(), limits, draining.clone());
        let control = config.control_socket();
        let control_listener = bind_control(&control)?;

        let mut tasks = Vec::new();
        let mut own = |name, task: std::pin::Pin<Box<dyn Future<Output = ()> + Send>>| {
            tasks.push((name, tokio::spawn(task)));
        };
        own("accept", Box::pin(connections.clone().accept_tcp(listener, tls)));
        own("control", Box::pin(connections.clone().accept_control(control_listener)));
        own("pump", {
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
        own("watch", {
            let (sockets, connections, stopping) = (sockets.clone(), connections.clone(), stopping.clone());
            Box::pin(async move { sockets.watch(|| connections.wires(), || outer.forget_the_idle(), stopping).await })
        });
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            address = %url,
            data_dir = %data_dir.display(),
            websocket_enabled = config.server.websocket_enabled,
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
            drain: config.server.drain,
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
    async fn stop(self, mut signals: Signals) -> Result<(), ServeError> {
        self.state.draining.store(true, Ordering::Release);
        self.draining.cancel();
        self.services.end_polls();
        let deadline = tokio::time::Instant::now() + self.drain;
        let tracker = self.connections.tracker();
        let drained = async {
            // Requests that sockets have made are answered first; then the sockets are told.
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
        self.stopping.cancel();
        let closed = self.services.close().await;
        for (name, task) in self.tasks {
            if tokio::time::timeout(FAREWELL, task).await.is_err() {
                tracing::warn!(task = name, "a task did not end");
            }
        }
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

fn settings(config: &Config) -> Settings {
    let limits = &config.limits;
    Settings {
        open_rooms: config.chat.open_rooms,
        message_chars: limits.message_chars,
        limits: Limits {
            messages_per_second: limits.messages_per_second,
            message_burst: limits.message_burst,
            typing_per_second: limits.typing_per_second,
            syncs_per_second: limits.syncs_per_second,
            joins_per_second: limits.joins_per_second,
            sockets_per_user: limits.sockets_per_user,
        },
        retention: Retention {
            chat: config.retention.chat,
            notifications: config.retention.notifications,
            audit: config.retention.audit,
            floor: config.retention.floor,
        },
        backup_rests: BACKUP_RESTS,
    }
}

/// Plain HTTP shows tokens to the network: it is for the machine itself, or for a proxy that ends TLS.
fn refuse_plain_http_outside(config: &Config) -> Result<(), ServeError> {
    if config.tls.mode == TlsMode::Off && !config.server.listen.ip().is_loopback() && !config.server.behind_proxy {
        return Err(ServeError::new(
            format!("plain HTTP is refused on {}", config.server.listen),
            "tokens and messages would cross the network unencrypted",
            "Leave TLS on, listen on 127.0.0.1, or set server.behind_proxy = true if a proxy in front ends TLS.",
        ));
    }
    Ok(())
}

fn make_private_dir(path: &Path) -> Result<(), ServeError> {
    let failed = |error: io::Error| {
        ServeError::new(
            format!("the data directory {} cannot be used", path.display()),
            error,
            "Give another one with --data-dir, or make this one writable for the user that runs the server.",
        )
    };
    if !path.exists() {
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed)?;
    }
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_dir() {
        return Err(failed(io::Error::new(io::ErrorKind::NotADirectory, "it is not a directory")));
    }
    Ok(())
}

async fn bind(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address).await.map_err(|error| {
        let what = format!("cannot listen on {address}");
        match error.kind() {
            io::ErrorKind::AddrInUse => ServeError::new(
                what,
                "another program listens there",
                "Stop it, or choose another port with --listen ADDR:PORT.",
            ),
            io::ErrorKind::PermissionDenied => ServeError::new(
                what,
                "ports below 1024 need a privilege",
                "Choose a port from 1024 on with --listen, or let systemd open the port.",
            ),
            io::ErrorKind::AddrNotAvailable => ServeError::new(
                what,
                "this machine does not have that address",
                "Use an address of this machine, or 0.0.0.0 for all of them.",
            ),
            _ => ServeError::new(what, error, "Choose another address with --listen ADDR:PORT."),
        }
    })
}

/// The store's lock is held by now: a socket that is there already was left behind by a process that is gone.
fn bind_control(path: &Path) -> Result<UnixListener, ServeError> {
    let failed = |error: io::Error| {
        ServeError::new(
            format!("the control socket {} cannot be made", path.display()),
            error,
            "Its directory must be writable, and its path at most 107 bytes long: choose a shorter --data-dir.",
        )
    };
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660)).map_err(failed)?;
    Ok(listener)
}

/// Where systemd puts credentials (`LoadCredential=`).
fn credentials_dir() -> Option<PathBuf> {
    std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from)
}

fn random_number() -> Result<u64, ServeError> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| ServeError::new("the system gives no random numbers", error, "Check /dev/urandom."))?;
    // 0 is nobody's feed.
    Ok(u64::from_le_bytes(bytes) | 1)
}
