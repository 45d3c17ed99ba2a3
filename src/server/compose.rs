//! The parts that a server and a command without one have in common: the store, the services, and the transports before them.

use std::sync::Arc;

use socketioxide::SocketIo;

use crate::auth::Verifier;
use crate::config::Config;
use crate::domain::Clock;
use crate::domain::problem::Problem;
use crate::realtime::feed::Feed;
use crate::realtime::live::Live;
use crate::server::middleware::{Middleware, MiddlewareSettings};
use crate::server::open_store::open_store;
use crate::services::{App, Settings};
use crate::transport::http::dev::DevTokens;
use crate::transport::http::{HttpApi, Process, routes};
use crate::transport::memory::Memory;
use crate::transport::socketio::SocketIoTransport;

/// Opens the store, and composes the services over it. Its commits go to `feed`; an older format is migrated if `migrates`.
///
/// # Errors
/// Why the store cannot be opened, or who is blocked cannot be read.
pub(super) async fn app(
    config: &Config,
    clock: Arc<dyn Clock>,
    feed: Arc<Feed>,
    settings: Settings,
    migrates: bool,
) -> Result<Arc<App>, Problem> {
    let live = Live::new(feed, clock.clone());
    let store = open_store(config, clock, live.clone(), migrates).await?;
    let app = Arc::new(App::new(store, live, settings, Some(&config.storage.data_dir)));
    // Also of what a command without a server changes, the platform is told.
    app.webhooks.plan();
    app.access.load().await.map_err(|error| {
        Problem::new(
            "revocations and blocks cannot be read",
            error,
            "Check the database with `academy-rt db check`. If it is damaged, restore a backup.",
        )
    })?;
    app.identities.load().await.map_err(|error| {
        Problem::new(
            "the users cannot be read",
            error,
            "Check the database with `academy-rt db check`. If it is damaged, restore a backup.",
        )
    })?;
    Ok(app)
}

/// What stands before the services.
pub(super) struct Transports {
    /// Socket.IO.
    pub(super) sockets: Arc<SocketIoTransport>,
    /// The HTTP API.
    pub(super) api: Arc<HttpApi>,
    /// What ends the library's side of Socket.IO.
    pub(super) io: SocketIo,
    /// What every request passes before either of them.
    pub(super) middleware: Arc<Middleware>,
}

/// Both transports over the services, and the middleware before them.
pub(super) fn transports(
    config: &Config,
    app: &Arc<App>,
    verifier: &Arc<Verifier>,
    process: Arc<dyn Process>,
    (settings, dev): (MiddlewareSettings, Option<Arc<DevTokens>>),
) -> Transports {
    let sockets = SocketIoTransport::new(app.clone(), verifier.clone(), config);
    let (engine, io) = sockets.mount();
    let bodies = Memory::for_bodies(config.limits.bodies, config.limits.payload);
    let api = Arc::new(HttpApi {
        app: app.clone(),
        verifier: verifier.clone(),
        sockets: sockets.clone(),
        process: process.clone(),
        paths: [config.server.path.clone(), config.server.api_path.clone()],
        payload_bytes: config.limits.payload as u64,
        bodies: bodies.clone(),
        answers: sockets.answers.clone(),
        dev,
    });
    let middleware = Middleware::new(engine, routes(api.clone()), sockets.clone(), bodies, process, settings);
    Transports { sockets, api, io, middleware }
}

/// A number that cannot be guessed, and is not 0: 0 is nobody's feed.
///
/// # Errors
/// The system gives none.
pub(super) fn random_number() -> Result<u64, Problem> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes)
        .map_err(|error| Problem::new("the system has no random numbers", error, "Check /dev/urandom."))?;
    Ok(u64::from_le_bytes(bytes) | 1)
}
