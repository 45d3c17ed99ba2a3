//! The process: it composes everything, listens, and ends in phases. No rule of the product is decided here.

mod addresses;
pub mod audit_forward;
mod body_timeout;
mod compose;
mod continuous;
pub mod dns;
mod file_watcher;
mod key_files;
mod key_reload;
pub mod listener;
mod metrics_listener;
pub mod middleware;
pub mod offline;
mod open_store;
mod places;
pub mod platform;
pub mod preflight;
pub mod proxy_protocol;
mod reload;
mod search;
mod service_user;
pub(crate) mod shutdown;
mod state;
mod supervisor;
mod systemd;
pub mod threads;
pub mod tls;
mod wrong_protocol;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use socketioxide::SocketIo;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::archive::continuous::recorder::Recorder;
use crate::auth::sources::LoadedKeys;
use crate::auth::{SigningKey, Verifier, sources};
use crate::config::Config;
use crate::domain::problem::Problem;
use crate::domain::{Clock, SystemClock};
use crate::realtime::feed::Feed;
use crate::services::{App, Settings, housekeeping};
use crate::transport::http::HttpApi;
use crate::transport::http::dev::DevTokens;
use crate::transport::socketio::SocketIoTransport;

use audit_forward::Forwarder;
use compose::{Transports, random_number};
use file_watcher::WatchedFiles;
use listener::{ConnectionLimits, Connections, LocalSocket};
use middleware::MiddlewareSettings;
use reload::{Hangups, Reloader};
use shutdown::Signals;
use state::State;
use supervisor::Tasks;
use tls::Tls;
use tls::handshakes::Handshakes;

/// A write may make no progress for so long; together with the watch's half second a reader that has stopped is cut off
/// within ten.
const STALL: Duration = Duration::from_secs(8);
/// A backup beside people works a fifth of the time.
const BACKUP_RESTS: u32 = 4;
/// The task that ends with the feed.
const FEED_READER: &str = "pump";
/// The task that ends with the index of search.
const SEARCH: &str = "search";
/// How long sockets and tasks may take to end.
const END_TIMEOUT: Duration = Duration::from_secs(2);

/// What the launcher learns about a server that has started.
#[derive(Debug, Clone)]
pub struct Started {
    /// Where it is reached, for example `https://127.0.0.1:8443`.
    pub url: String,
    /// Where its data are.
    pub data_dir: PathBuf,
    /// What was noticed on the way.
    pub warnings: Vec<String>,
}

/// Who has started the server: what only the command line knows.
pub trait Launcher: Send + Sync {
    /// The server serves.
    fn started(&self, started: &Started);

    /// Reads the configuration again, from where it was read.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    fn reread(&self) -> Result<Config, Problem>;

    /// Says how many lines the log leaves out of those that there were too many of. Called now and then.
    fn tell_left_out_lines(&self);

    /// Goes by another level and format of log lines.
    fn reconfigure_log(&self, config: &Config);
}

/// A server that listens and serves.
pub struct Server {
    started: Started,
    state: Arc<State>,
    app: Arc<App>,
    sockets: Arc<SocketIoTransport>,
    io: SocketIo,
    connections: Arc<Connections>,
    control: PathBuf,
    readers: Option<PathBuf>,
    reloader: Arc<Reloader>,
    /// Nothing new is begun.
    draining: CancellationToken,
    /// Nothing is looked after any more.
    stopping: CancellationToken,
    tasks: Tasks,
    /// The continuous backup, and what resolves when its thread has ended.
    recorder: Option<(Arc<Recorder>, oneshot::Receiver<()>)>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server").field("started", &self.started).finish_non_exhaustive()
    }
}

/// Runs the service until it is asked to stop (SIGTERM, SIGINT), and stops it in order.
///
/// # Errors
/// What kept it from starting, or from closing the store.
pub async fn run(config: Config, launcher: Arc<dyn Launcher>) -> Result<(), Problem> {
    let mut signals = Signals::new()?;
    let mut server = Server::start(config, launcher.clone()).await?;
    launcher.started(&server.started);
    systemd::ready(&server.started.url);
    let failed = tokio::select! {
        () = signals.wait() => None,
        error = server.app.store.failure() => {
            tracing::error!(%error, "the store has failed; stopping");
            Some(Problem::new(
                "the service had to stop",
                error,
                "Check the disk. The next start checks the database first, and reports it if acknowledged data are lost.",
            ))
        }
        () = continuous::ended(&mut server.recorder) => {
            tracing::error!("the continuous backup has ended unexpectedly; stopping");
            Some(Problem::new(
                "the service had to stop",
                "its continuous backup ended",
                "Start the service again, and report this with the log. No acknowledged data are lost.",
            ))
        }
        ended = server.tasks.ended() => {
            tracing::error!(task = ended.name, why = ended.why, "a part of the server has ended unexpectedly; stopping");
            // Whoever waits for it waits in vain.
            server.app.live.feed.close();
            Some(Problem::new(
                "the service had to stop",
                format!("its task '{}' ended: {}", ended.name, ended.why),
                "Start the service again, and report this with the log. No acknowledged data are lost.",
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

/// The keys and the certificate that a server begins with.
struct Credentials {
    keys: LoadedKeys,
    key_files: WatchedFiles,
    tls: Option<Arc<Tls>>,
    /// What was noticed on the way.
    warnings: Vec<String>,
}

impl Credentials {
    fn load(config: &Config, clock: &dyn Clock) -> Result<Credentials, Problem> {
        sources::load_or_create(config, config.credentials_dir.as_deref())?;
        let (keys, key_files) = key_files::load(config)?;
        let material = tls::load(config, clock.now())?;
        let mut warnings = config.warnings();
        warnings.extend(keys.warnings.iter().cloned());
        warnings.extend(material.iter().flat_map(|material| material.warnings.iter().cloned()));
        let tls = material.map(|material| Arc::new(Tls::new(material)));
        Ok(Credentials { keys, key_files, tls, warnings })
    }
}

/// Where a server is reached.
struct Listeners {
    public: Vec<TcpListener>,
    figures: Option<TcpListener>,
}

impl Listeners {
    async fn bind(config: &Config, passed: Vec<std::net::TcpListener>) -> Result<Listeners, Problem> {
        let figures = match config.metrics.listen {
            Some(address) => Some(addresses::bind(address).await?),
            None => None,
        };
        Ok(Listeners { public: addresses::listeners(config, passed).await?, figures })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.public.iter().filter_map(|listener| listener.local_addr().ok()).collect()
    }
}

impl Server {
    /// Opens the store, binds the addresses and serves.
    ///
    /// # Errors
    /// The first thing that does not work, with its remedy.
    pub async fn start(config: Config, launcher: Arc<dyn Launcher>) -> Result<Server, Problem> {
        // Before anybody can see that it is ready: a signal that nobody listens to would end it.
        let hangup = reload::hangup()?;
        let clock = SystemClock::shared();
        preflight::refuse_clock(clock.now())?;
        let passed = systemd::listeners()?;
        addresses::refuse_plain_http(&config, &passed)?;
        addresses::refuse_dev_outside(&config, &passed)?;
        addresses::make_private_dir(&config.storage.data_dir)?;
        let credentials = Credentials::load(&config, &*clock)?;
        audit_forward::refuse_unusable(&config.audit)?;
        platform::refuse_unusable(&config)?;
        // The addresses before the store: a busy port is found before anything is written.
        let listeners = Listeners::bind(&config, passed).await?;
        let feed = Feed::new(random_number()?);
        let app = compose::app(&config, clock.clone(), feed, Settings::new(&config, BACKUP_RESTS), true).await?;
        let recorder = continuous::of(&config, clock.clone())?;
        let recorder = match recorder {
            Some(recorder) => {
                let ended = continuous::begin(&recorder, app.store.shared())?;
                Some((recorder, ended))
            }
            None => None,
        };
        let platform = platform::Link::new(&config, app.store.clone())?;
        app.entry.ask_at(platform.clone());
        let index = search::begin(&config, &app)?;
        let Credentials { keys, key_files, tls, warnings } = credentials;
        let dev = config.is_dev.then(|| dev_tokens(&config, keys.signing, clock.clone()));
        let verifier = Arc::new(Verifier::with_keys(&config.auth, keys.keys));
        let state = Arc::new(State::new(
            &config,
            listeners.addresses(),
            tls.clone(),
            recorder.as_ref().map(|(recorder, _)| recorder.clone()),
            Forwarder::of(&config, app.store.clone()).map(Arc::new),
        ));
        let Transports { sockets, api, io, middleware } =
            compose::transports(&config, &app, &verifier, state.clone(), (MiddlewareSettings::new(&config), dev));
        let draining = CancellationToken::new();
        let limits = ConnectionLimits::new(&config.limits, STALL);
        let connections = Connections::new(middleware.clone(), limits, draining.clone());
        let control = config.control_socket();
        let control_listener = addresses::bind_control(&control)?;
        let readers = config.readers_socket();
        let reloader = Arc::new(Reloader {
            launcher,
            app: app.clone(),
            verifier,
            middleware,
            sockets: sockets.clone(),
            connections: connections.clone(),
            state: state.clone(),
            tls: tls.clone(),
            clock,
            platform,
            config: Mutex::new(Arc::new(config.clone())),
            key_files: Mutex::new(Arc::new(key_files)),
        });
        let mut server = Server {
            started: Started {
                url: state.addresses.first().cloned().unwrap_or_default(),
                data_dir: config.storage.data_dir.clone(),
                warnings,
            },
            state,
            app,
            sockets,
            io,
            connections,
            control,
            readers,
            reloader,
            draining,
            stopping: CancellationToken::new(),
            tasks: Tasks::default(),
            recorder,
        };
        server.accept(listeners, control_listener, api, tls.clone())?;
        if let Some(index) = index {
            server.tasks.own(SEARCH, Box::pin(async move { index.ended().await }));
        }
        server.begin_work(hangup);
        if (config.server.behind_proxy || config.server.proxy_protocol) && config.server.trusted_proxies.is_empty() {
            tracing::info!(
                "server.trusted_proxies is empty: a proxy is believed on this machine alone; write the addresses of others there"
            );
        }
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            addresses = %server.state.addresses.join(" "),
            data_dir = %server.started.data_dir.display(),
            websocket_enabled = config.server.websocket_enabled,
            tls = %tls.as_ref().map_or_else(|| "off".to_owned(), |tls| tls.summary()),
            "started"
        );
        Ok(server)
    }

    /// The tasks that take connections.
    fn accept(
        &mut self,
        listeners: Listeners,
        control: UnixListener,
        api: Arc<HttpApi>,
        tls: Option<Arc<Tls>>,
    ) -> Result<(), Problem> {
        let clock = &self.reloader.clock;
        let handshakes = tls.map(|tls| Handshakes::new(tls, clock.clone())).transpose()?.map(Arc::new);
        let (tasks, connections) = (&mut self.tasks, &self.connections);
        for listener in listeners.public {
            tasks.own("accept", Box::pin(connections.clone().accept_tcp(listener, handshakes.clone())));
        }
        if let Some(listener) = listeners.figures {
            tasks.own("figures", Box::pin(metrics_listener::serve(listener, api, self.stopping.clone())));
        }
        let administrator = LocalSocket::Control(self.control.clone());
        tasks.own("control", Box::pin(connections.clone().accept_local(administrator, Some(control))));
        if let Some(path) = self.readers.clone() {
            // It looks for its directory at once, and says why if it cannot be used.
            tasks.own("readers", Box::pin(connections.clone().accept_local(LocalSocket::Readers(path), None)));
        }
        Ok(())
    }

    /// The tasks that work while nobody asks.
    fn begin_work(&mut self, hangup: Hangups) {
        let stop = || self.stopping.clone();
        let (app, sockets, connections) = (&self.app, &self.sockets, &self.connections);
        let (reloader, middleware) = (&self.reloader, &self.reloader.middleware);
        let tasks = &mut self.tasks;
        tasks.own(FEED_READER, {
            let sockets = sockets.clone();
            Box::pin(async move { sockets.pump().await })
        });
        tasks.own("announcements", {
            let (app, stop) = (app.clone(), stop());
            Box::pin(async move { app.live.tell_what_is_gathered(stop).await })
        });
        tasks.own("housekeeping", {
            let (app, stop) = (app.clone(), stop());
            Box::pin(async move { housekeeping::run_jobs(&app, stop).await })
        });
        tasks.own("calendar", {
            let (app, stop) = (app.clone(), stop());
            Box::pin(async move { housekeeping::run_calendar(&app, stop).await })
        });
        if let Some(forwarder) = self.state.forwarder.clone() {
            let stop = stop();
            tasks.own("audit-forward", Box::pin(async move { forwarder.run(stop).await }));
        }
        tasks.own("webhooks", {
            let (platform, stop) = (reloader.platform.clone(), stop());
            Box::pin(async move { platform.run(stop).await })
        });
        tasks.own("sightings", {
            let (app, stop) = (app.clone(), stop());
            Box::pin(async move { app.webhooks.follow_sightings(stop).await })
        });
        tasks.own("follow-up", {
            let (app, stop) = (app.clone(), stop());
            Box::pin(async move { app.chat.follow_up(stop).await })
        });
        tasks.own("watch", {
            let (sockets, connections, middleware, stop) =
                (sockets.clone(), connections.clone(), middleware.clone(), stop());
            Box::pin(async move {
                sockets.watch(|| connections.live_connections(), || middleware.forget_the_idle(), stop).await
            })
        });
        tasks.own("reload", {
            let (reloader, stop) = (reloader.clone(), stop());
            Box::pin(async move { reloader.look_after(hangup, stop).await })
        });
        tasks.own("watchdog", {
            let (app, connections, stop) = (app.clone(), connections.clone(), stop());
            let addresses = self.state.listening.clone();
            Box::pin(async move { systemd::watchdog(&app, &connections, &addresses, stop).await })
        });
    }

    /// Where it listens, and what was noticed.
    #[must_use]
    pub fn started(&self) -> &Started {
        &self.started
    }
}

/// What signs the tokens of the page of `serve --dev`.
fn dev_tokens(config: &Config, signing: SigningKey, clock: Arc<dyn Clock>) -> Arc<DevTokens> {
    let expected = [config.auth.issuer.clone(), config.auth.audience.clone()];
    let roles = config.auth.role_map.iter().map(|(word, _)| word.clone()).collect();
    Arc::new(DevTokens { signing, expected, roles, clock })
}
