//! Socket.IO at its path: the handshake, the events, the deliveries. It knows the services and nothing behind them.
//!
//! [`SocketIoTransport::mount`] gives the layer that goes around the HTTP API; [`engine::handshake`] sees each request before it.

mod departure;
pub mod directory;
pub mod dispatch;
mod drain;
pub mod engine;
pub mod fanout;
pub mod identity;
pub mod mailbox;
pub mod socket;
mod token_ends;

use std::future::{Ready, ready};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use engineioxide::service::NotFoundService;
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt, Full};
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use socketioxide::SocketIo;
use socketioxide::extract::{SocketRef, TryData};
use socketioxide::handler::ConnectHandler;
use socketioxide::service::SocketIoService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower_service::Service;
use zeroize::Zeroizing;

use crate::auth::{TokenError, Verifier};
use crate::config::{Config, Limits, capacity};
use crate::domain::{Actor, RoomId, Timestamp, UserId};
use crate::observability::clock_watch::ClockWatch;
use crate::observability::counters::Counters;
use crate::protocol::admin::access::{ConnectionView, DiagnosedConnection, MAX_DIAGNOSED};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::event::ServerEvent;
use crate::protocol::http::SocketCounts;
use crate::protocol::view::Session;
use crate::realtime::registry::{Arrived, Kind, Outlet, SocketHandle};
use crate::services::App;
use crate::services::limits::budget::RequestKind;
use crate::transport::memory::{Memory, declared_length};
use crate::transport::origin::{self, Certified, ClientAddress, network_of};
use crate::transport::refusals;
use crate::transport::socketio::engine::backlog::Backlog;
use crate::transport::socketio::engine::compression::Compressors;
use crate::transport::socketio::engine::connection::{Backlogs, Connection};

use departure::Departure;
use directory::Directory;
use engine::handshake::{HandshakeActor, HandshakeToken, HasAsked, SocketQuery};
use identity::{Refused, token_error};
pub(crate) use identity::{identify, note_refused};
use mailbox::Mailbox;
use socket::{Came, Link};
use token_ends::{End, Ends};

/// A client is warned so long before its token ends.
const WARNED_BEFORE: Duration = Duration::from_secs(60);
/// How often tokens, stalled writes and dead connections are looked at.
const WATCH: Duration = Duration::from_millis(500);

/// A request of a session waits for the budget of its user so long at most.
const LONGEST_WAIT: Duration = Duration::from_secs(1);

/// The library's first ping comes within microseconds.
const FIRST_PING: Duration = Duration::from_secs(1);

/// Whoever has too many sockets is told to come again after so long.
const COME_AGAIN: Duration = Duration::from_secs(10);

/// The library's side of Socket.IO.
pub type Engine = SocketIoService<NotFoundService>;

/// The Socket.IO side of the server.
pub struct SocketIoTransport {
    pub(crate) app: Arc<App>,
    verifier: Arc<Verifier>,
    engine: OnceLock<Engine>,
    /// The path, `/ws`.
    path: String,
    /// How large messages may be, and how long a client may take to sign in.
    limits: Limits,
    pub(crate) directory: Arc<Directory>,
    /// When a socket must be warned or expelled.
    ends: Mutex<Ends>,
    delivered: Arc<AtomicU64>,
    /// The memory for answers, over HTTP too.
    pub answers: Arc<Memory>,
    /// What waits for slow readers.
    pub backlogs: Arc<Backlogs>,
    /// What is sent faster than it is done.
    pub(crate) requests: Arc<Backlog>,
    compressors: Arc<Compressors>,
}

impl std::fmt::Debug for SocketIoTransport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SocketIoTransport").finish_non_exhaustive()
    }
}

/// What a client says in the handshake.
#[derive(Deserialize, Default)]
struct AuthPayload {
    #[serde(default)]
    token: Option<Zeroizing<String>>,
}

impl SocketIoTransport {
    /// The Socket.IO side of the services.
    #[must_use]
    pub fn new(app: Arc<App>, verifier: Arc<Verifier>, config: &Config) -> Arc<SocketIoTransport> {
        Arc::new(SocketIoTransport {
            app,
            verifier,
            engine: OnceLock::new(),
            path: config.server.path.clone(),
            limits: config.limits.clone(),
            directory: Arc::default(),
            ends: Mutex::default(),
            delivered: Arc::default(),
            answers: Memory::for_answers(),
            backlogs: Arc::default(),
            requests: Arc::new(Backlog::new(capacity::ALL_REQUESTS_BYTES)),
            compressors: Arc::default(),
        })
    }

    /// Builds the library's service and what ends it.
    #[must_use]
    pub fn mount(self: &Arc<Self>) -> (Engine, SocketIo) {
        let (engine, io) = SocketIo::builder()
            .req_path(self.path.clone())
            .max_payload(self.limits.payload as u64)
            // The polling limit does not hold for WebSocket messages.
            .ws_max_message_size(self.limits.payload)
            .ws_max_frame_size(self.limits.payload)
            // It is kept for each socket, and a client's messages are short: a longer one has its own memory, and is read in
            // parts of this length.
            .ws_read_buffer_size(512)
            // It counts packets and drops silently when it is full: each emit's result is looked at.
            .max_buffer_size(self.limits.send_queue.max(64))
            .connect_timeout(self.limits.sign_in)
            .build_svc();
        // Handlers are registered in the middleware: in the connect handler it is too late for a client that leaves or
        // emits at once. Both are plain functions, which the library runs in line, before it reads on.
        let admitting = self.clone();
        let admit = move |socket: SocketRef, auth: TryData<AuthPayload>| -> Ready<Result<(), Refused>> {
            ready(admitting.admit(&socket, auth.0.unwrap_or_default()))
        };
        let welcoming = self.clone();
        let welcome = move |socket: SocketRef| -> Ready<()> {
            welcoming.welcome(&socket);
            ready(())
        };
        let () = io.ns("/", welcome.with(admit));
        let _ = self.engine.set(engine.clone());
        let (closing, path, tasks) = (engine.clone(), self.path.clone(), self.tasks().clone());
        self.directory.sessions.close_by(move |session| {
            let request = ask(&path, Some(session), Some(Bytes::from_static(b"1")));
            let answer = request.map(|request| Service::call(&mut closing.clone(), request));
            tasks.spawn(async move {
                if let Some(answer) = answer {
                    drop(answer.await);
                }
            });
        });
        (engine, io)
    }

    /// Hands a WebSocket over to the library whose client has finished its upgrade.
    fn hand_over<S>(&self, stream: S, request: Request<()>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        if let Some(engine) = self.engine.get() {
            drop(Service::<(S, Request<()>)>::call(&mut engine.clone(), (stream, request)));
        }
    }

    /// A session was opened on polling, by this answer. The library sends the first ping at once, which is not due before the
    /// interval has passed: it is taken here and answered, before anybody knows the session.
    pub async fn note_opened(&self, answer: &[u8]) {
        let opened = answer.strip_prefix(b"0").and_then(|json| serde_json::from_slice::<Opened>(json).ok());
        let (Some(Opened { sid }), Some(engine)) = (opened, self.engine.get()) else { return };
        self.directory.sessions.open_polling(&sid);
        for body in [None, Some(Bytes::from_static(b"3"))] {
            if let Some(request) = ask(&self.path, Some(&sid), body) {
                let Ok(Ok(answer)) =
                    tokio::time::timeout(FIRST_PING, Service::call(&mut engine.clone(), request)).await
                else {
                    return;
                };
                let _ = answer.into_body().collect().await;
            }
        }
    }

    /// The largest message, in bytes.
    #[must_use]
    pub fn payload(&self) -> usize {
        self.limits.payload
    }

    /// What went out since the start.
    #[must_use]
    pub fn delivered(&self) -> u64 {
        self.delivered.load(Ordering::Relaxed)
    }

    /// How many readers did not keep up.
    #[must_use]
    pub fn slow_readers(&self) -> u64 {
        self.directory.sessions.slow_readers()
    }

    /// Pumps deliveries until the feed ends.
    pub async fn pump(&self) {
        fanout::run(self.app.clone(), self.delivered.clone()).await;
    }

    /// The tasks of all sockets.
    #[must_use]
    pub fn tasks(&self) -> &TaskTracker {
        self.directory.sessions.tasks()
    }

    /// What has happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.app.live.counters()
    }

    /// Sockets by transport.
    #[must_use]
    pub fn counts(&self) -> SocketCounts {
        let mut counts = SocketCounts::default();
        for link in self.directory.links() {
            let Some(is_websocket) = link.is_websocket() else { continue };
            counts.total += 1;
            if is_websocket {
                counts.websocket += 1;
            } else {
                counts.polling += 1;
            }
            counts.roles.count(link.actor().role());
        }
        counts
    }

    fn lock_ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock()
    }

    /// The token decides here, and what the socket sends is taken from here on.
    fn admit(self: &Arc<Self>, socket: &SocketRef, auth: AuthPayload) -> Result<(), Refused> {
        if let Some(HasAsked(has_asked)) = socket.req_parts().extensions.get() {
            has_asked.store(true, Ordering::Relaxed);
        }
        // Who has left, or was refused, has had their turn on this connection: a client that means it comes on another one.
        let session = socket.id.to_string();
        if self.directory.sessions.has_ended(&session) {
            return Err(Refused(ApiError::new(ErrorCode::InvalidPayload, "this session has ended; connect anew")));
        }
        // Taken out whichever is used: the request lives on.
        let extensions = &socket.req_parts().extensions;
        let of_handshake = extensions.get::<HandshakeToken>().and_then(HandshakeToken::take);
        let kept = extensions.get::<HandshakeActor>();
        let address = extensions.get::<ClientAddress>().copied();
        let is_certified = extensions.get::<Certified>().is_some();
        let look = |token: Option<&str>| identify(&self.verifier, &self.app, token, is_certified);
        // Whose it is, is kept for whoever leaves and comes again on this connection.
        let named = of_handshake.as_deref().map(|token| look(Some(token)));
        if let (Some(kept), Some(Ok(actor))) = (kept, &named) {
            kept.keep(actor);
        }
        let identified = match (auth.token.as_deref(), named, kept.and_then(HandshakeActor::get)) {
            (Some(token), ..) => look(Some(token)),
            (None, Some(named), _) => named,
            (None, None, Some(actor)) => self.still_good(actor),
            (None, None, None) => look(None),
        };
        let token = auth.token.or(of_handshake);
        let actor = match identified {
            Ok(actor) => actor,
            Err(error) => {
                let token = token.as_deref().map(String::as_str);
                note_refused(&self.verifier, &self.app, token, (None, address), &error);
                if self.verifier.rejects_in_handshake() {
                    let connection = socket.req_parts().extensions.get::<Arc<dyn Connection>>();
                    self.directory.sessions.end_session(&session, connection, socket::FAREWELL, false);
                    return Err(Refused(error));
                }
                socket.extensions.insert(Refused(error));
                return Ok(());
            }
        };
        self.app.live.counters().sign_ins.add();
        let number = self.app.live.sockets.next_number();
        self.app.uses.note_sign_in(&actor, &origin::describe(None, address));
        let came = Came { from: address.map(|ClientAddress(address)| address), at: self.app.store.now(), is_certified };
        let (sessions, backlogs) = (&self.directory.sessions, &self.backlogs);
        let link = Link::new(number, session, actor, came, sessions, backlogs, self.counters());
        let intake = Mailbox::new(link.clone(), self.clone());
        socket.on_fallback::<_, mailbox::InOrder>(intake.clone());
        socket.on_disconnect::<_, mailbox::InOrder>(Departure::of(link.clone(), self.clone()));
        socket.extensions.insert(Admitted(link, intake));
        Ok(())
    }

    /// Whoever has signed in on this connection before, by the token of its handshake.
    fn still_good(&self, actor: Actor) -> Result<Actor, ApiError> {
        let now = self.app.store.now();
        if actor.expires_at.is_some_and(|end| end.plus(self.verifier.leeway()) <= now) {
            return Err(token_error(&TokenError::Expired));
        }
        self.app.live.require_access(&actor)?;
        Ok(actor)
    }

    /// The connect packet has gone out: the first word, or the last.
    fn welcome(self: &Arc<Self>, socket: &SocketRef) {
        if let Some(Refused(error)) = socket.extensions.remove::<Refused>() {
            if let Err(error) = socket.emit("auth_error", &error) {
                tracing::debug!(%error, "a refused socket was not told why");
            }
            // A client hangs up by itself; what does not is hung up on.
            let connection = socket.req_parts().extensions.get::<Arc<dyn Connection>>();
            let sessions = &self.directory.sessions;
            sessions.end_session(&socket.id.to_string(), connection, socket::FAREWELL, false);
            // In a task of its own: the library runs the disconnect handler in here.
            let socket = socket.clone();
            sessions.tasks().spawn(async move {
                tokio::time::sleep(socket::HEARD).await;
                drop(socket.disconnect());
            });
            return;
        }
        if let Some(Admitted(link, intake)) = socket.extensions.remove::<Admitted>() {
            // A WebSocket from the start: its connection is in the request. One that comes by an upgrade is found later.
            if let Some(connection) = socket.req_parts().extensions.get::<Arc<dyn Connection>>() {
                self.directory.sessions.set_connection(&link.session, connection);
            }
            let most = self.app.settings.get().limits.sockets_per_address;
            let mut has_place = self.directory.add(&link, most);
            if !has_place && let Some(ghost) = self.ghost(|one| one.is_from_where(&link) && one.number != link.number) {
                self.directory.remove(&ghost);
                has_place = self.directory.add(&link, most);
                let transport = self.clone();
                self.tasks().spawn(async move { transport.show_out(&ghost).await });
            }
            link.attach(socket.clone());
            if link.is_gone() {
                // Its departure was quicker, and found nothing to remove.
                return self.directory.remove(&link);
            }
            if !has_place {
                self.counters().rate_limited.add("address");
                return link.expel(&too_many(most, "from this address"));
            }
            intake.arrive();
        }
    }

    /// The first work of a socket: it is entered, and told who it is and what waits, before anything else.
    pub(crate) async fn arrive(&self, link: &Arc<Link>) {
        let caller = link.caller();
        let rooms = caller.actor.own_rooms();
        let most = self.app.settings.get().limits.sockets_per_user;
        let enter =
            || self.app.live.sockets.enter(link.number, &caller.actor, &rooms, link.clone(), most, Kind::Socket);
        let mut entered = enter();
        // Somebody who is here is worth more than what nobody asks for any more.
        let is_own = |one: &Link| one.number != link.number && one.actor().user == caller.actor.user;
        if entered.is_none()
            && let Some(ghost) = self.ghost(is_own)
        {
            self.show_out(&ghost).await;
            entered = enter();
        }
        let Some(handle) = entered else {
            self.app.live.counters().rate_limited.add("sockets");
            return link.expel(&too_many(most, "of yours"));
        };
        link.set_handle(handle.clone());
        if link.is_gone() {
            // The socket left while it was entered: its departure found nothing to remove.
            return self.depart(link).await;
        }
        // Who was shut out before it was entered was not found among those to be expelled.
        if let Err(error) = self.app.live.require_access(&caller.actor) {
            return link.expel(&error);
        }
        if self.greet(link, &handle).await {
            self.watch_token(link, &caller.actor);
        }
    }

    /// Tells a socket who it is and what waits for it; `false` if it is shown out instead.
    pub(crate) async fn greet(&self, link: &Link, handle: &SocketHandle) -> bool {
        let caller = link.caller();
        let arrival = match self.app.inbox.arrive(&caller, handle).await {
            Ok(arrival) => arrival,
            Err(error) => {
                // A store that takes no writes still lets people read.
                tracing::warn!(code = error.code.as_str(), "an arrival was not recorded");
                match self.app.inbox.unread(&caller).await {
                    Ok(unread) => Arrived { unread, undelivered: Vec::new(), up_to: 0, has_more: true },
                    Err(error) => {
                        link.expel(&error);
                        return false;
                    }
                }
            }
        };
        handle.welcome(&caller.actor.roles, &arrival, |unread, waiting| {
            let (now, store) = (self.app.store.now(), self.app.store.id());
            link.emit(&ServerEvent::Authenticated(Session::new(&caller.actor, unread, now, store)));
            for notification in waiting {
                link.emit(&ServerEvent::NotificationNew((*notification).into()));
            }
        });
        true
    }

    /// The socket on polling, of those that are looked for, whose client has been gone for longest, if there is one.
    fn ghost(&self, is_looked_for: impl Fn(&Link) -> bool) -> Option<Arc<Link>> {
        let links = self.directory.links();
        let gone = links.into_iter().filter(|link| is_looked_for(link) && !link.is_gone());
        let since = |link: Arc<Link>| Some((self.directory.sessions.gone_since(&link.session)?, link));
        gone.filter_map(since).min_by_key(|(since, _)| *since).map(|(_, link)| link)
    }

    /// Ends a socket on polling whose client has gone.
    async fn show_out(&self, link: &Arc<Link>) {
        self.directory.sessions.close_polling(&link.session);
        self.depart(link).await;
    }

    /// Nothing is said to a socket any more, and its place among those of its user and its address is free.
    fn leave(&self, link: &Link) {
        link.close();
        self.directory.remove(link);
        self.lock_ends().forget(link.number);
    }

    async fn depart(&self, link: &Link) {
        self.leave(link);
        self.app.presence.depart(link.number).await;
    }

    fn watch_token(&self, link: &Link, actor: &Actor) {
        let socket = link.number;
        let mut ends = self.lock_ends();
        ends.forget(socket);
        // One that has gone may have departed already, and nobody would take out what is entered now.
        if let Some(expires_at) = actor.expires_at.filter(|_| !link.is_gone()) {
            // A token that ends sooner is warned of at once.
            let warn_at = Timestamp(expires_at.0.saturating_sub(millis(WARNED_BEFORE))).max(self.app.store.now());
            if warn_at < expires_at {
                ends.set(socket, warn_at, End::Warn);
            } else {
                ends.set(socket, expires_at.plus(self.verifier.leeway()), End::Expel);
            }
        }
    }

    /// Looks after tokens that end, writes that stall and connections that have died, until it is told to stop. `live_connections` gives
    /// the connections of this moment; `forget_the_idle` is called along.
    pub async fn watch(
        &self,
        live_connections: impl Fn() -> Vec<(Option<IpAddr>, Arc<dyn Connection>)>,
        forget_the_idle: impl Fn(),
        stop: CancellationToken,
    ) {
        let mut ticks = tokio::time::interval(WATCH);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut clocks = ClockWatch::new(self.app.store.now(), Instant::now());
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let now = Instant::now();
            if let Some(jump) = clocks.look(self.app.store.now(), now) {
                self.counters().clock_jumps.add();
                self.app.purges.note_clock_jump(jump);
            }
            for (address, connection) in live_connections() {
                if connection.check_stall(now) {
                    self.directory.sessions.note_slow_reader();
                    let why = "it has taken nothing for too long, before anybody signed in on it, or while it ends";
                    let from = address.map_or_else(|| "the control socket".to_owned(), |address| address.to_string());
                    refusals::cut_off(self.counters(), None, &from, "slow_reader", why);
                }
            }
            self.counters().sample(self.delivered());
            let sessions = &self.directory.sessions;
            for origin in sessions.take_unsigned(self.limits.sign_in) {
                let why = "its WebSocket did not sign in within limits.sign_in";
                refusals::unreachable(self.counters(), &self.counters().unsigned, &origin, "unsigned", why);
            }
            sessions.forget_the_dead();
            sessions.end_the_vanished(|session| self.directory.signed_in(session).is_some(), self.limits.sign_in);
            forget_the_idle();
            self.end_tokens();
        }
    }

    /// The live sockets behind a number, in the order of their numbers, at most so many.
    #[must_use]
    pub fn connections(&self, after: u64, limit: usize) -> Vec<ConnectionView> {
        let mut links = self.directory.links();
        links.retain(|link| link.number > after);
        links.sort_by_key(|link| link.number);
        links.iter().filter_map(|link| view(link, &link.actor())).take(limit).collect()
    }

    /// The live sockets of somebody, with what they are in; at most [`MAX_DIAGNOSED`].
    #[must_use]
    pub fn connections_of(&self, user: &UserId) -> Vec<DiagnosedConnection> {
        let mut links = self.directory.links();
        links.sort_by_key(|link| link.number);
        let live = links.iter().filter_map(|link| {
            let actor = link.actor();
            let connection = view(link, &actor).filter(|connection| connection.user_id == *user)?;
            let (_, mut rooms) = self.app.live.sockets.rooms_of(link.number)?;
            rooms.sort_by_cached_key(RoomId::canonical);
            let room_count = rooms.len();
            rooms.truncate(MAX_DIAGNOSED);
            Some(DiagnosedConnection { connection, issued_at: actor.issued_at, room_count, rooms })
        });
        live.take(MAX_DIAGNOSED).collect()
    }

    fn end_tokens(&self) {
        let now = self.app.store.now();
        loop {
            let due = self.lock_ends().take_due(now);
            let Some((socket, end)) = due else { return };
            let Some(link) = self.directory.link(socket) else { continue };
            let Some(expires_at) = link.actor().expires_at else { continue };
            match end {
                End::Warn => {
                    link.emit(&ServerEvent::AuthExpiring { expires_at });
                    let mut ends = self.lock_ends();
                    if !link.is_gone() {
                        ends.set(socket, expires_at.plus(self.verifier.leeway()), End::Expel);
                    }
                }
                End::Expel => {
                    link.expel(&token_error(&TokenError::Expired));
                }
            }
        }
    }

    /// Takes what a request of a session costs from the budget of its user, or of the network before somebody has signed in;
    /// gives for how long it has to wait if that is used up.
    #[must_use]
    pub fn charge_poll(&self, query: &SocketQuery, address: Option<IpAddr>, headers: &HeaderMap) -> Option<Duration> {
        let link = query.session.as_deref().and_then(|session| self.directory.signed_in(session));
        let charged = match (link, address) {
            (Some(link), _) => {
                self.app.rates.charge(&link.actor(), RequestKind::Poll, declared_length(headers).unwrap_or(0))
            }
            (None, Some(address)) => self.app.rates.charge_network(network_of(address), RequestKind::Poll),
            (None, None) => Ok(()),
        };
        let error = charged.err()?;
        Some(LONGEST_WAIT.min(Duration::from_millis(error.retry_after_ms.unwrap_or_default())))
    }

    /// Takes what a request costs that everybody may make from the budget of a network.
    ///
    /// # Errors
    /// `rate_limited`.
    pub fn charge_stranger(&self, address: IpAddr) -> Result<(), ApiError> {
        self.app.rates.charge_network(network_of(address), RequestKind::Stranger)
    }

    /// A new token for a live socket.
    pub(crate) async fn refresh(&self, link: &Link, token: &str) -> Result<Refreshed, ApiError> {
        let identified = identify(&self.verifier, &self.app, Some(token), link.came.is_certified);
        let actor = identified.inspect_err(|error| {
            let address = link.came.from.map(ClientAddress);
            note_refused(&self.verifier, &self.app, Some(token), (None, address), error);
        })?;
        let before = link.actor();
        if actor.user != before.user {
            return Err(ApiError::new(ErrorCode::Forbidden, "the token is another user's; connect anew with it"));
        }
        let (expires_at, is_less) = (actor.expires_at, before.is_admin() && !actor.is_admin());
        self.watch_token(link, &actor);
        let actor = Arc::new(actor);
        link.set_actor(actor.clone());
        if let Some(handle) = link.handle() {
            self.app.live.sockets.renew(&handle, &actor, &actor.own_rooms());
        }
        // What an administrator may enter is not what everybody may.
        if is_less {
            self.app.rooms.recheck_socket(link.number).await;
        }
        // The token may have been revoked between the look at it and its place in the registry.
        self.app.live.require_access(&actor).inspect_err(|error| link.expel(error))?;
        Ok(Refreshed { expires_at })
    }
}

/// What the library says when it has opened a session.
#[derive(Deserialize)]
struct Opened {
    sid: String,
}

/// A request of the server's own to the library: a poll, or packets.
fn ask(path: &str, session: Option<&str>, body: Option<Bytes>) -> Option<Request<Full<Bytes>>> {
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let session = session.map(|session| format!("&sid={session}")).unwrap_or_default();
    let request = Request::builder().method(method).uri(format!("{path}?EIO=4&transport=polling{session}"));
    request.body(Full::new(body.unwrap_or_default())).ok()
}

fn too_many(most: usize, whose: &str) -> ApiError {
    let message = format!("there are {most} connections {whose} already; close one and come again");
    ApiError::rate_limited(COME_AGAIN, message)
}

/// The answer to `auth:refresh`.
#[derive(Debug, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Refreshed {
    expires_at: Option<Timestamp>,
}

/// A socket whose token is good.
#[derive(Clone)]
struct Admitted(Arc<Link>, Mailbox);

fn millis(duration: Duration) -> u64 {
    duration.as_millis().try_into().unwrap_or(u64::MAX)
}

/// A socket as administrators see it; `None` if its connection has gone.
fn view(link: &Link, actor: &Actor) -> Option<ConnectionView> {
    Some(ConnectionView {
        transport: if link.is_websocket()? { "websocket" } else { "polling" },
        socket: link.number,
        user_id: actor.user.clone(),
        name: actor.name.clone(),
        roles: actor.roles.clone(),
        address: link.came.from.map(|address| address.to_string()),
        since: link.came.at,
        expires_at: actor.expires_at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Secret;
    use crate::domain::SystemClock;
    use crate::realtime::feed::Feed;
    use crate::realtime::live::Live;
    use crate::services::Settings;
    use crate::store::{self, StoreConfig};

    #[tokio::test]
    async fn a_socket_that_has_gone_is_not_watched_until_the_end_of_its_token() {
        let (dir, config, clock) = (tempfile::tempdir().unwrap(), Config::default(), SystemClock::shared());
        let store_config = StoreConfig {
            data_dir: dir.path().to_owned(),
            cache_bytes: 8 << 20,
            progress_versions: 3,
            lessons_per_user: 0,
            commit_delay: std::time::Duration::ZERO,
            min_free_bytes: 0,
            min_free_admin_bytes: 0,
        };
        let live = Live::new(Feed::new(1), clock.clone());
        let store = store::open(&store_config, clock, live.clone()).unwrap();
        let app = Arc::new(App::new(store, live, Settings::new(&config, 0), None));
        let verifier =
            Arc::new(Verifier::new(&config.auth, &Secret::new("a secret of a test, and long enough for it")));
        let transport = SocketIoTransport::new(app, verifier, &config);
        let in_a_year = transport.app.store.now().plus(Duration::from_secs(365 * 24 * 60 * 60));
        let actor = Actor { expires_at: Some(in_a_year), ..Actor::local_admin() };
        for number in 1..=100 {
            let came = Came { from: None, at: Timestamp(0), is_certified: false };
            let link = Link::new(
                number,
                format!("s{number}"),
                actor.clone(),
                came,
                &transport.directory.sessions,
                &transport.backlogs,
                transport.counters(),
            );
            transport.watch_token(&link, &actor);
            // A new token is watched in the place of the old one.
            transport.watch_token(&link, &actor);
            assert_eq!(transport.lock_ends().len(), 1);
            transport.depart(&link).await;
            // One that is given at the moment of the departure is not watched either.
            transport.watch_token(&link, &actor);
            assert_eq!(transport.lock_ends().len(), 0, "it leaves nothing behind");
        }
    }
}
