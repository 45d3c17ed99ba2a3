//! What every request passes before Socket.IO and the HTTP API: the drain gate, the flag, origins, the rate of new sockets,
//! and the headers that every answer has.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, ALLOW, AUTHORIZATION,
    CACHE_CONTROL, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST,
    HeaderMap, HeaderName, HeaderValue, ORIGIN, REFERRER_POLICY, RETRY_AFTER, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, STRICT_TRANSPORT_SECURITY, UPGRADE, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use tower_service::Service;
use warp::filters::BoxedFilter;

use crate::config::{Config, ForwardedHeader, TlsMode};
use crate::domain::UserId;
use crate::domain::origin::Origin;
use crate::observability::counters::Counters;
use crate::observability::local_person;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::http::ErrorBody;
use crate::protocol::json;
use crate::services::limits::wait_of;
use crate::services::reads_alone;
use crate::transport::forwarded;
use crate::transport::http::deferred::Later;
use crate::transport::http::routes::Route;
use crate::transport::http::{Process, Refused as RefusedAnswer};
use crate::transport::memory::{Memory, Sender, Turn, declared_length};
use crate::transport::origin::{BEHIND_COMMAND, Certified, ClientAddress, OverControlSocket, SignedIn, network_of};
use crate::transport::refusals;
use crate::transport::socketio::engine::compression;
use crate::transport::socketio::engine::connection::{Backlogs, Connection, Refused};
use crate::transport::socketio::engine::handshake::{EndedSession, Passage, SocketQuery, token_of};
use crate::transport::socketio::engine::upgrade;
use crate::transport::socketio::{Engine, SocketIoTransport};

use crate::server::body_timeout::TimedBody;

/// What every answer says to a browser that shows it: run nothing, be shown nowhere else, tell nobody where one was.
const PAGE_HEADERS: [(HeaderName, &str); 6] = [
    (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"),
    (X_FRAME_OPTIONS, "DENY"),
    (REFERRER_POLICY, "no-referrer"),
    (CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
];

/// A packet of Engine.IO that says nothing.
const NOOP_PACKET: &[u8] = b"6";
/// What the server of Node says of a session that is not there.
const SESSION_UNKNOWN: &[u8] = br#"{"code":1,"message":"Session ID unknown"}"#;

/// What it says to a client of an older protocol.
const OLD_CLIENT: &[u8] = br#"{"code":5,"message":"Unsupported protocol version"}"#;

/// What the paths of the HTTP API begin with in the routes, and those of administration among them.
const API: &str = "/api/v1/";
const ADMIN: &str = "/api/v1/admin/";

/// All methods that there are.
const METHODS: &str = "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS";

/// The most that a client on polling may send at once before it has signed in: a token, and what is around it.
const TOKEN_BYTES: u64 = 64 << 10;

/// Why a body of an answer breaks off.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;
/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, Failure>;
/// A service, with the library's types out of sight.
type Inner = Box<dyn Fn(Request<TimedBody>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync>;

/// What the middleware goes by.
#[derive(Debug, Clone)]
pub struct MiddlewareSettings {
    /// Origins of other sites that may use the server from a browser.
    pub cors_origins: Vec<Origin>,
    /// Whether all pages of this machine may ask (`serve --dev`).
    pub is_dev: bool,
    /// What the paths of the HTTP API begin with, over the network.
    pub api_path: String,
    /// The cookie that may hold a token.
    pub cookie_name: Option<String>,
    /// Whether answers to polls of Socket.IO are compressed.
    pub compression: bool,
    /// New sockets a second and address; 0 switches it off.
    pub connects_per_second: u32,
    /// Whether the header of a trusted proxy is believed.
    pub behind_proxy: bool,
    /// Which header that is.
    pub forwarded_header: ForwardedHeader,
    /// Whether connections of trusted proxies begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// The proxies that are believed; empty: those on this machine.
    pub trusted_proxies: Vec<IpNet>,
    /// Whether the server itself has TLS.
    pub has_tls: bool,
    /// For how long browsers are told to use nothing but HTTPS (RFC 6797). `None` with a certificate of the server's own: when
    /// it changes, nobody could reach the server any more.
    pub hsts: Option<Duration>,
}

impl MiddlewareSettings {
    /// The configured ones.
    #[must_use]
    pub fn new(config: &Config) -> MiddlewareSettings {
        MiddlewareSettings {
            cors_origins: config.server.cors_origins.clone(),
            is_dev: config.is_dev,
            api_path: config.server.api_path.clone(),
            cookie_name: config.auth.cookie_name.clone(),
            compression: config.server.compression,
            connects_per_second: config.limits.connects_per_second,
            behind_proxy: config.server.behind_proxy,
            forwarded_header: config.server.forwarded_header,
            proxy_protocol: config.server.proxy_protocol,
            trusted_proxies: config.server.trusted_proxies.clone(),
            has_tls: config.tls.mode != TlsMode::Off,
            hsts: config.tls.hsts.filter(|_| config.tls.mode == TlsMode::Files),
        }
    }

    /// Whether who connects from there is a proxy whose header is believed.
    fn believes(&self, address: &IpAddr) -> bool {
        self.behind_proxy && forwarded::is_trusted(address, &self.trusted_proxies)
    }

    /// The header in which a proxy says whom it asks for.
    fn header(&self) -> &'static str {
        match self.forwarded_header {
            ForwardedHeader::XForwardedFor => "X-Forwarded-For",
            ForwardedHeader::Forwarded => "Forwarded",
        }
    }
}

/// One connection as the middleware sees it.
#[derive(Clone)]
pub struct Peer {
    /// The other end; `None` on the control socket.
    pub address: Option<IpAddr>,
    /// Whether it is who has connected; a proxy has said who it is otherwise.
    pub is_direct: bool,
    /// Whether it has shown a client certificate of an authority that is trusted for it.
    pub is_certified: bool,
    /// The local user at the other end of the control socket.
    pub user: Option<u32>,
    /// Who has signed in on the machine and is another one than `user`, as far as the kernel shows it.
    pub login: Option<String>,
    /// Whether it has come by the socket of those who may only read.
    pub reads_only: bool,
    /// The way to it.
    pub connection: Arc<dyn Connection>,
}

/// The outermost service.
pub struct Middleware {
    inner: Inner,
    api_alone: Inner,
    sockets: Arc<SocketIoTransport>,
    bodies: Arc<Memory>,
    process: Arc<dyn Process>,
    rules: ArcSwap<Rules>,
}

/// What it goes by until the next reload.
struct Rules {
    settings: MiddlewareSettings,
    connects: Option<Arc<DefaultKeyedRateLimiter<IpAddr>>>,
    hsts: Option<HeaderValue>,
}

impl Rules {
    /// Rules by these settings. Who has connected too often has done so by the new ones too, if the rate is the same.
    fn new(settings: MiddlewareSettings, before: Option<&Rules>) -> Rules {
        let rate = settings.connects_per_second;
        let kept = before.filter(|before| before.settings.connects_per_second == rate);
        let connects = match kept {
            Some(before) => before.connects.clone(),
            None => NonZeroU32::new(rate).map(|rate| Arc::new(RateLimiter::keyed(Quota::per_second(rate)))),
        };
        let hsts = settings.hsts.map(|age| format!("max-age={}", age.as_secs()));
        let hsts = hsts.and_then(|text| HeaderValue::from_str(&text).ok());
        Rules { settings, connects, hsts }
    }
}

impl std::fmt::Debug for Middleware {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Middleware").finish_non_exhaustive()
    }
}

impl Middleware {
    /// The service around Socket.IO and the routes of the HTTP API.
    #[must_use]
    pub fn new(
        engine: Engine,
        routes: BoxedFilter<(warp::reply::Response,)>,
        sockets: Arc<SocketIoTransport>,
        bodies: Arc<Memory>,
        process: Arc<dyn Process>,
        settings: MiddlewareSettings,
    ) -> Arc<Middleware> {
        let alone = warp::service(routes);
        Arc::new(Middleware {
            inner: Box::new(move |request| {
                let mut engine = engine.clone();
                Box::pin(async move { boxed(Service::<Request<TimedBody>>::call(&mut engine, request).await) })
            }),
            api_alone: Box::new(move |request| {
                let mut service = alone.clone();
                Box::pin(async move { boxed(service.call(request).await) })
            }),
            sockets,
            bodies,
            process,
            rules: ArcSwap::from_pointee(Rules::new(settings, None)),
        })
    }

    /// Goes by other settings from the next request on.
    pub fn resettle(&self, settings: MiddlewareSettings) {
        let rules = Rules::new(settings, Some(&self.rules.load()));
        self.rules.store(Arc::new(rules));
    }

    /// Answers a request.
    pub async fn call(
        self: Arc<Self>,
        mut request: Request<TimedBody>,
        peer: Peer,
    ) -> Result<Response<Body>, Infallible> {
        // A command on this machine knows one path, and the path of Socket.IO may be below that of the API.
        if peer.address.is_some() && !self.sockets.is_path(request.uri().path()) {
            translate(request.uri_mut(), &self.rules.load().settings.api_path);
        }
        // A poll waits for what is to happen: how long says nothing of the server.
        let path = request.uri().path();
        let (is_sockets, is_api) = (self.sockets.is_path(path), is_api(path));
        let is_counted = !waits(path) && !is_sockets;
        let began = Instant::now();
        let connection = peer.connection.clone();
        let address = self.client_address(request.headers(), &peer);
        self.notice_proxy(request.headers(), &peer);
        let sender = request.extensions().get::<SignedIn>().cloned();
        let asked = (is_api || is_sockets).then(|| (request.method().clone(), request.uri().clone()));
        let response = self.answer(request, peer, address).await;
        if let (Some((method, uri)), Some(address), Some(RefusedAnswer(error))) =
            (asked, address, response.extensions().get())
        {
            let what = format!("{method} {}", uri.path());
            let user = sender.as_ref().and_then(SignedIn::user);
            refusals::request_refused(self.sockets.counters(), &what, user, &address.to_string(), error);
        }
        // What everybody may ask is answered always: whoever asks too often is read more slowly.
        let is_missing = matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        let is_strangers = !is_sockets && (!is_api || is_missing);
        let is_too_often =
            is_strangers && address.is_some_and(|address| self.sockets.charge_stranger(address).is_err());
        if is_too_often || response.status() == StatusCode::TOO_MANY_REQUESTS {
            connection.note_refusal(Refused::TooMany);
        } else if response.status().is_client_error() {
            connection.note_refusal(Refused::Wrong);
        }
        if is_counted {
            self.sockets.counters().answered(response.status().as_u16(), began.elapsed());
        }
        Ok(response)
    }

    async fn answer(&self, request: Request<TimedBody>, peer: Peer, address: Option<IpAddr>) -> Response<Body> {
        // Before anything else: whoever may only read is told no more of what there is.
        if peer.reads_only && !Route::is_for_readers(request.method(), request.uri().path()) {
            let what = format!("{} {}", request.method(), request.uri().path());
            let origin = OverControlSocket { user: peer.user, behind: peer.login.clone(), reads_only: true }.describe();
            let error = reads_alone();
            refusals::request_refused(self.sockets.counters(), &what, None, &origin, &error);
            return refusal(&error);
        }
        // warp panics at a request without a path.
        if request.method() == Method::CONNECT {
            return not_allowed("this server is not a proxy", HeaderValue::from_static(METHODS));
        }
        if peer.address.is_some() && !names_its_host(&request) {
            let message = "a request names its host in one header Host";
            return refusal(&ApiError::new(ErrorCode::InvalidPayload, message));
        }
        let allowed = self.allowed_origin(request.headers());
        let (is_sockets, peer_is_network) = (self.sockets.is_path(request.uri().path()), peer.address.is_some());
        let is_refused = request.headers().contains_key(ORIGIN) && allowed.is_none();
        let mut response = if request.method() == Method::OPTIONS && request.headers().contains_key(ORIGIN) {
            if is_refused { self.refuse_origin(request.headers()) } else { preflight(request.headers()) }
        } else if is_sockets && peer_is_network {
            // In memory of its own: it is much larger than the other, and each connection keeps place for what is inline.
            Box::pin(self.socket_request(request, &peer, address, &allowed)).await
        } else {
            self.api_request(request, &peer, address, &allowed).await
        };
        let rules = self.rules.load();
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        // Packets of Socket.IO are never a page: they go without what would be larger than they are.
        if !is_sockets {
            for (name, value) in PAGE_HEADERS {
                // A page of ours may say what it needs.
                headers.entry(name).or_insert(HeaderValue::from_static(value));
            }
            if peer_is_network && let Some(hsts) = &rules.hsts {
                headers.insert(STRICT_TRANSPORT_SECURITY, hsts.clone());
            }
        }
        if is_refused || rules.settings.is_dev || !rules.settings.cors_origins.is_empty() {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if let Some(Allowed::Listed(origin)) = allowed {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        if self.process.is_draining() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    async fn api_request(
        &self,
        mut request: Request<TimedBody>,
        peer: &Peer,
        address: Option<IpAddr>,
        allowed: &Option<Allowed>,
    ) -> Response<Body> {
        // Without an address the routes answer that there is nothing.
        if let Some(route) = Route::find(request.uri().path()) {
            if request.method() == Method::OPTIONS {
                return options(route.allow());
            }
            if !route.takes(request.method()) {
                return not_allowed("this address does not take this method", route.allow());
            }
            request.extensions_mut().insert(route);
            // hyper has the method in mind, and sends the head of the answer alone.
            if request.method() == Method::HEAD {
                *request.method_mut() = Method::GET;
                if let Some(alone) = route.head() {
                    request.extensions_mut().insert(alone);
                }
            }
        }
        self.take_cookie(&mut request, allowed);
        if waits(request.uri().path()) {
            unpin(&mut request);
        }
        let sender = request.extensions().get::<SignedIn>().cloned();
        if peer.is_certified {
            request.extensions_mut().insert(Certified);
        }
        match address {
            None => {
                let named = request.headers().get(BEHIND_COMMAND).and_then(|value| value.to_str().ok());
                // Of a reader it is what the kernel says, and not what a command says of itself.
                let named = named.filter(|_| !peer.reads_only).and_then(local_person::clean);
                let (behind, reads_only) = (peer.login.clone().or(named), peer.reads_only);
                let local = request.extensions_mut();
                local.insert(OverControlSocket { user: peer.user, behind, reads_only });
                local.remove::<SignedIn>();
            }
            Some(address) => drop(request.extensions_mut().insert(ClientAddress(address))),
        }
        let response = (self.api_alone)(request).await;
        // What the request was read into and the routes' own state are let go by now.
        match response.extensions().get::<Later>().and_then(Later::take) {
            Some(rest) => {
                // Who waits has nothing to read yet.
                drop(sender.and_then(|sender| sender.take_answer()));
                boxed::<_, Infallible>(Ok(rest.await))
            }
            None => response,
        }
    }

    async fn socket_request(
        &self,
        request: Request<TimedBody>,
        peer: &Peer,
        address: Option<IpAddr>,
        allowed: &Option<Allowed>,
    ) -> Response<Body> {
        if !matches!(*request.method(), Method::GET | Method::POST) {
            let message = "sockets take GET and POST; ask /healthz whether the server lives";
            return not_allowed(message, HeaderValue::from_static("GET, POST, OPTIONS"));
        }
        let mut query = match SocketQuery::parse(request.uri().query().unwrap_or_default()) {
            Ok(query) => query,
            Err(name) => {
                let message = format!("the query gives '{name}' more than once; give it once");
                return refusal(&ApiError::new(ErrorCode::InvalidPayload, message));
            }
        };
        // Evaluated lazily: this runs for every poll.
        let is_newcomer = || !self.sockets.is_of_a_socket(&query);
        if !self.process.websocket_enabled() && is_newcomer() {
            let message = "real-time connections are switched off here; use the HTTP API under /api/v1";
            return refusal(&ApiError::new(ErrorCode::RealtimeDisabled, message));
        }
        let is_first = query.session.is_none();
        if self.process.is_draining() && is_newcomer() {
            return refusal(&ApiError::stopping());
        }
        if request.headers().contains_key(ORIGIN) && allowed.is_none() {
            return self.refuse_origin(request.headers());
        }
        if is_first && query.is_old {
            let why =
                "it speaks Engine.IO 3, as Socket.IO 2 and older do; this server takes clients of Socket.IO 3 and 4";
            refusals::unreachable(
                self.counters(),
                &self.counters().old_clients,
                &said_from(address),
                "old_client",
                why,
            );
            return json_refusal(OLD_CLIENT);
        }
        // The library would answer 101 to a request whose upgrade a proxy has taken away (RFC 6455, 4.2.1).
        if query.is_websocket && !is_upgrade(request.headers()) {
            let why = "its request for a WebSocket came without the headers Upgrade and Connection; a proxy in front must pass them on";
            let count = &self.counters().lost_upgrades;
            refusals::unreachable(self.counters(), count, &said_from(address), "lost_upgrade", why);
            let message =
                "this is no upgrade to WebSocket; a proxy in front must pass on the headers Upgrade and Connection";
            return refusal(&ApiError::new(ErrorCode::InvalidPayload, message));
        }
        if query.is_websocket
            && let Some(refused) = refuse_head(request.headers())
        {
            return refused;
        }
        if !peer.is_certified && self.sockets.lacks_certificate(&query) {
            let message = "this session needs the client certificate that it began with";
            return refusal(&ApiError::new(ErrorCode::Forbidden, message));
        }
        if is_first && let Err(error) = self.count_connect(address) {
            return refusal(&error);
        }
        if !is_first && let Some(wait) = self.sockets.charge_poll(&query, address, request.headers()) {
            // The packets of a session are not refused, which would break it: they wait.
            tokio::time::sleep(wait).await;
        }
        let (mut parts, body) = request.into_parts();
        // The library keeps the head of the first request: what is noted of each one is not for it.
        let sender = parts.extensions.remove::<SignedIn>().unwrap_or_default();
        if let Some(user) = self.sockets.user_of(&query) {
            sender.note(&user);
        }
        // Held until the library has read the body.
        let _turn = match self.turn(&parts, sender.user(), address).await {
            Ok(turn) => turn,
            Err(error) => return refusal(&error),
        };
        if let (true, Some(address)) = (is_first, address) {
            parts.extensions.insert(ClientAddress(address));
        }
        if is_first && peer.is_certified {
            parts.extensions.insert(Certified);
        }
        // A cookie speaks only for pages of allowed origins; a client that is no browser has no use for one. Of a GET to its
        // own server a browser does not say the origin, but that it is the same: no page can say so in its place.
        let rules = self.rules.load_full();
        let is_of_a_page = is_of_a_page(&parts.headers, allowed);
        let cookie = rules.settings.cookie_name.as_deref().filter(|_| is_of_a_page);
        let token = token_of(&mut query, &parts.headers, cookie);
        let takes_gzip = rules.settings.compression && compression::is_taken(&parts.headers);
        let protocol = parts.headers.get(SEC_WEBSOCKET_PROTOCOL).and_then(first_of);
        let mut passage = match self.sockets.prepare(&mut parts, query, token, &peer.connection) {
            Ok(passage) => passage,
            Err(EndedSession) => return session_unknown(),
        };
        let mut request = Request::from_parts(parts, body.with_packets());
        let mut response = if let Some(session) = passage.upgrades() {
            let upgrade = hyper::upgrade::on(&mut request);
            let upgraded = async move { upgrade.await.ok().map(TokioIo::new) };
            match self.sockets.begin_upgrade(request, upgraded, session, &peer.connection) {
                Some(headers) => upgrade::accept(&headers, whole(Bytes::new())),
                None => return session_unknown(),
            }
        } else {
            tokio::select! {
                // First: a poll is given up only while there is nothing for it.
                biased;
                response = (self.inner)(request) => response,
                () = passage.ended() => return session_unknown(),
                () = passage.released() => text(Bytes::from_static(NOOP_PACKET)),
            }
        };
        self.sockets.conclude(&mut passage, response.status(), &peer.connection);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS
            && let Some(protocol) = protocol
        {
            response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, protocol);
        }
        let bytes = http_body::Body::size_hint(response.body()).exact().unwrap_or_default();
        if bytes >= compression::FROM_BYTES as u64 && response.status() == StatusCode::OK {
            response = self.compress(&passage, response, takes_gzip).await;
        }
        if passage.opens_polling() && response.status() == StatusCode::OK {
            let (head, body) = response.into_parts();
            let Ok(opened) = body.collect().await else {
                return refusal(&ApiError::new(ErrorCode::Internal, "the session could not be opened"));
            };
            let opened = opened.to_bytes();
            self.sockets.note_opened(&opened).await;
            response = Response::from_parts(head, whole(opened));
        }
        response
    }

    /// A large answer to a poll, as short as the client takes it.
    async fn compress(&self, passage: &Passage, response: Response<Body>, takes_gzip: bool) -> Response<Body> {
        let (mut head, body) = response.into_parts();
        head.headers.append(VARY, HeaderValue::from_static("Accept-Encoding"));
        if !takes_gzip {
            return Response::from_parts(head, body);
        }
        let Ok(plain) = body.collect().await else {
            return refusal(&ApiError::new(ErrorCode::Internal, "the answer could not be read"));
        };
        let plain = plain.to_bytes();
        let Some(zipped) = self.sockets.gzip(passage, &plain).await else {
            return Response::from_parts(head, whole(plain));
        };
        head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        head.headers.insert(CONTENT_LENGTH, HeaderValue::from(zipped.len()));
        Response::from_parts(head, whole(zipped))
    }

    /// A page that is signed in by a cookie alone asks by it, too: where its origin is allowed, and not as an administrator.
    fn take_cookie(&self, request: &mut Request<TimedBody>, allowed: &Option<Allowed>) {
        let path = request.uri().path();
        let headers = request.headers();
        if headers.contains_key(AUTHORIZATION) || !is_for_pages(request.method(), path) {
            return;
        }
        let rules = self.rules.load();
        let Some(name) = rules.settings.cookie_name.as_deref().filter(|_| is_of_a_page(headers, allowed)) else {
            return;
        };
        let token = token_of(&mut SocketQuery::default(), headers, Some(name));
        if let Some(Ok(mut value)) = token.map(|token| HeaderValue::try_from(format!("Bearer {}", *token))) {
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
    }

    /// The place of what a client on polling sends. Who has not signed in has a token to send, and nothing else.
    async fn turn(
        &self,
        parts: &Parts,
        user: Option<&UserId>,
        address: Option<IpAddr>,
    ) -> Result<Option<Turn>, ApiError> {
        let length = declared_length(&parts.headers);
        if parts.method != Method::POST || length == Some(0) {
            return Ok(None);
        }
        let (sender, most) = match (user, address) {
            (Some(user), _) => (Sender::User(user.clone()), self.sockets.payload() as u64),
            (None, Some(address)) => (Sender::Network(network_of(address)), TOKEN_BYTES),
            (None, None) => return Ok(None),
        };
        // A body that does not say how long it is may be as long as it may.
        let is_short = length.map_or(user.is_some(), |length| length <= most);
        if !is_short {
            return Err(ApiError::new(ErrorCode::TooLarge, "the body is too large, or does not say how large it is"));
        }
        let turn = self.bodies.admit(sender, length.unwrap_or(most)).await;
        turn.map(Some).inspect_err(|_| self.sockets.counters().rate_limited.add("bodies"))
    }

    fn count_connect(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        let rules = self.rules.load();
        let (Some(connects), Some(address)) = (&rules.connects, address) else {
            return Ok(());
        };
        connects.check_key(&network_of(address)).map_err(|not_until| {
            self.sockets.counters().rate_limited.add("connects");
            ApiError::rate_limited(
                wait_of(&not_until),
                "too many new connections from this address; come again in a moment",
            )
        })
    }

    /// Who is at the other end: behind a proxy, whom the trusted proxies have seen.
    pub(super) fn client_address(&self, headers: &HeaderMap, peer: &Peer) -> Option<IpAddr> {
        let direct = peer.address?;
        let rules = self.rules.load();
        let settings = &rules.settings;
        if !settings.believes(&direct) {
            return Some(direct);
        }
        let lines = headers.get_all(settings.header()).iter().map(HeaderValue::as_bytes);
        let is_trusted = |address: &IpAddr| forwarded::is_trusted(address, &settings.trusted_proxies);
        Some(forwarded::client_of(direct, settings.forwarded_header, lines, is_trusted))
    }

    /// Whether who connects from there is a proxy whose header is believed.
    #[must_use]
    pub fn is_proxy(&self, address: &IpAddr) -> bool {
        self.rules.load().settings.believes(address)
    }

    /// Whether connections from there begin with the PROXY protocol; `None` if none does.
    #[must_use]
    pub fn speaks_proxy_protocol(&self, address: &IpAddr) -> Option<bool> {
        let rules = self.rules.load();
        let settings = &rules.settings;
        settings.proxy_protocol.then(|| forwarded::is_trusted(address, &settings.trusted_proxies))
    }

    /// Somebody says for whom they ask, and is not believed: an administrator may have forgotten their proxy.
    fn notice_proxy(&self, headers: &HeaderMap, peer: &Peer) {
        let Some(direct) = peer.address.filter(|_| peer.is_direct) else { return };
        let rules = self.rules.load();
        let settings = &rules.settings;
        if settings.behind_proxy && !settings.believes(&direct) && headers.contains_key(settings.header()) {
            self.note_untrusted_proxy(direct, settings.header());
        }
    }

    /// Counts who speaks as a proxy does and is none that is trusted, and tells it now and then.
    pub(super) fn note_untrusted_proxy(&self, address: IpAddr, with: &str) {
        let counters = self.counters();
        if !counters.untrusted_proxies.note(&address.to_string()) || !counters.log_limiter.may_log("untrusted_proxy") {
            return;
        }
        let rules = self.rules.load();
        let line = forwarded::list_with(&rules.settings.trusted_proxies, &address.to_string());
        tracing::warn!(
            %address,
            "{with} of an address that is no trusted proxy is not believed; if it is your proxy, write in [server]: {line}"
        );
    }

    fn allowed_origin(&self, headers: &HeaderMap) -> Option<Allowed> {
        let value = headers.get(ORIGIN)?;
        let origin = Origin::parse(value.to_str().ok()?)?;
        let rules = self.rules.load();
        let is_dev = rules.settings.is_dev && origin.is_of_this_machine();
        if is_dev || rules.settings.cors_origins.contains(&origin) {
            return Some(Allowed::Listed(value.clone()));
        }
        let host = headers.get(HOST)?.to_str().ok()?;
        origin.is_own(host, rules.settings.has_tls).then_some(Allowed::Own)
    }

    /// Refuses a page of an origin that is not allowed, so that its console can say why: this answer, and no other one, may be
    /// read by any page. It says nothing of the server but that the origin is not in its list, which the page knows by then,
    /// and it is the same with every cookie and token.
    fn refuse_origin(&self, headers: &HeaderMap) -> Response<Body> {
        let message = "this origin may not connect; add it to server.cors_origins";
        let mut response = refusal(&ApiError::new(ErrorCode::Forbidden, message));
        let Some(value) = headers.get(ORIGIN) else { return response };
        let text = value.to_str().unwrap_or("(not text)");
        self.note_refused_origin(text);
        // What is no origin comes from no browser.
        if Origin::parse(text).is_some() || text == "null" {
            let headers = response.headers_mut();
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, value.clone());
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }

    fn note_refused_origin(&self, text: &str) {
        let counters = self.counters();
        if !counters.refused_origins.note(text) || !counters.log_limiter.may_log("origin") {
            return;
        }
        let Some(origin) = Origin::parse(text) else {
            tracing::warn!(origin = text, "a page was refused: its origin is none that server.cors_origins can allow");
            return;
        };
        let rules = self.rules.load();
        let mut all: Vec<&str> = rules.settings.cors_origins.iter().map(Origin::as_str).collect();
        all.push(origin.as_str());
        let line = format!("cors_origins = {all:?}");
        tracing::warn!(%origin, "a page of this origin was refused; if it is yours, write in [server]: {line}");
    }

    /// The memory for answers.
    pub(super) fn answers(&self) -> &Arc<Memory> {
        &self.sockets.answers
    }

    /// What waits for slow readers.
    pub(super) fn backlogs(&self) -> &Arc<Backlogs> {
        &self.sockets.backlogs
    }

    /// Whether a request is one of Socket.IO.
    pub(super) fn is_of_sockets(&self, path: &str) -> bool {
        self.sockets.is_path(path)
    }

    /// What has happened since the start.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        self.sockets.counters()
    }

    /// Drops what is known of addresses that have been quiet.
    pub fn forget_the_idle(&self) {
        if let Some(connects) = &self.rules.load().connects {
            connects.retain_recent();
            connects.shrink_to_fit();
        }
    }
}

/// Why an origin may.
#[derive(Debug)]
enum Allowed {
    /// It is the server's own.
    Own,
    /// It is in the list.
    Listed(HeaderValue),
}

fn is_same_origin(headers: &HeaderMap) -> bool {
    headers.get("sec-fetch-site").is_some_and(|value| value == "same-origin")
}

/// Whether a cookie may speak for who asks: a browser says the origin of the page, or that it is the server's own.
fn is_of_a_page(headers: &HeaderMap, allowed: &Option<Allowed>) -> bool {
    match headers.contains_key(ORIGIN) {
        true => allowed.is_some(),
        false => is_same_origin(headers),
    }
}

/// The path as the routes have it: they know the API by its own name, which it has no more where it was given another.
fn translate(uri: &mut Uri, api_path: &str) {
    let ours = API.trim_end_matches('/');
    if api_path == ours || Route::find(uri.path()).is_some_and(|route| !route.path.starts_with(API)) {
        return;
    }
    let below = |prefix: &str| uri.path().strip_prefix(prefix).filter(|rest| rest.starts_with('/'));
    let translated = match (below(api_path), below(ours)) {
        (Some(rest), _) => format!("{ours}{rest}"),
        // Another API is said to be there.
        (None, Some(_)) => "/not-here".to_owned(),
        (None, None) => return,
    };
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    if let Ok(path) = PathAndQuery::try_from(translated + &query) {
        let mut parts = std::mem::take(uri).into_parts();
        parts.path_and_query = Some(path);
        *uri = Uri::from_parts(parts).unwrap_or_default();
    }
}

fn is_upgrade(headers: &HeaderMap) -> bool {
    headers.get(UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// The head of a request points into the buffer that it was read into, 8 KiB, for as long as somebody has it. What waits has
/// the little that it needs in memory of its own.
fn unpin(request: &mut Request<TimedBody>) {
    let token = request.headers().get(AUTHORIZATION).map(|value| HeaderValue::from_bytes(value.as_bytes()));
    *request.headers_mut() = token.into_iter().filter_map(Result::ok).map(|token| (AUTHORIZATION, token)).collect();
    if let Ok(uri) = request.uri().to_string().parse() {
        *request.uri_mut() = uri;
    }
}

/// Whether whoever asks has to say who they are: each such request is paid for where that is read.
fn is_api(path: &str) -> bool {
    path.starts_with(API) || path == "/metrics"
}

/// Whether it is what a person's page asks for. Administration and what back ends send need a token that is handed in.
fn is_for_pages(method: &Method, path: &str) -> bool {
    let path = path.trim_end_matches('/');
    let is_of_back_ends = path == "/api/v1/broadcast" || (path == "/api/v1/notifications" && method == Method::POST);
    path.starts_with(API) && !path.starts_with(ADMIN) && !is_of_back_ends
}

/// Whether an answer waits for something to happen.
fn waits(path: &str) -> bool {
    path == "/api/v1/events"
}

fn boxed<B, E>(result: Result<Response<B>, E>) -> Response<Body>
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Failure>,
{
    match result {
        Ok(response) => response.map(|body| body.map_err(Into::into).boxed_unsync()),
        Err(_) => refusal(&ApiError::new(ErrorCode::Internal, "the request could not be answered")),
    }
}

pub(super) fn refusal(error: &ApiError) -> Response<Body> {
    let text = json::to_vec(&ErrorBody::new(error)).unwrap_or_default();
    let mut response = Response::new(whole(Bytes::from(text)));
    *response.status_mut() =
        StatusCode::from_u16(error.code.http_status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    if let Some(wait_ms) = error.retry_after_ms {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait_ms.div_ceil(1_000)));
    }
    response
}

/// A refusal that says which methods there are (RFC 9110, 15.5.6).
fn not_allowed(message: &'static str, allow: HeaderValue) -> Response<Body> {
    let mut response = refusal(&ApiError::new(ErrorCode::MethodNotAllowed, message));
    response.headers_mut().insert(ALLOW, allow);
    response
}

/// The methods of an address, for who asks for them and is no page of another origin.
fn options(allow: HeaderValue) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    response.headers_mut().insert(ALLOW, allow);
    response
}

fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// The answer to a request of a session that is not there, or was hung up on, as the server of Node gives it: the client then
/// connects anew, as after any loss. A packet that closes would be an end for clients of other languages.
fn session_unknown() -> Response<Body> {
    json_refusal(SESSION_UNKNOWN)
}

fn said_from(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "an unknown address".to_owned(), |address| address.to_string())
}

fn json_refusal(body: &'static [u8]) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::from_static(body)));
    *response.status_mut() = StatusCode::BAD_REQUEST;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// An answer to a poll.
fn text(packets: Bytes) -> Response<Body> {
    let mut response = Response::new(whole(packets));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=UTF-8"));
    response
}

/// Refuses a request for a WebSocket whose head is not as RFC 6455, 4.2.1 has it.
fn refuse_head(headers: &HeaderMap) -> Option<Response<Body>> {
    let refused = |message| refusal(&ApiError::new(ErrorCode::InvalidPayload, message));
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        let mut response = refused("this server speaks version 13 of WebSocket");
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        return Some(response);
    }
    if !headers.get(SEC_WEBSOCKET_KEY).is_some_and(is_key) {
        return Some(refused("the header Sec-WebSocket-Key is missing, or is not 16 bytes in base64"));
    }
    let protocols = headers.get(SEC_WEBSOCKET_PROTOCOL);
    if protocols.is_some_and(|value| first_of(value).is_none()) {
        return Some(refused("the header Sec-WebSocket-Protocol is no list of names"));
    }
    None
}

/// Whether this is 16 bytes in base64.
fn is_key(value: &HeaderValue) -> bool {
    let is_letter = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    value.as_bytes().strip_suffix(b"==").is_some_and(|key| key.len() == 22 && key.iter().all(is_letter))
}

/// The first of a list of names, if all of them are names.
fn first_of(value: &HeaderValue) -> Option<HeaderValue> {
    let list = value.to_str().ok()?;
    let mut names = list.split(',').map(str::trim);
    if !names.clone().all(|name| HeaderName::from_bytes(name.as_bytes()).is_ok()) {
        return None;
    }
    HeaderValue::from_str(names.next()?).ok()
}

/// Whether a request says which host it is for, once, as HTTP/1.1 wants it (RFC 9112, 3.2).
fn names_its_host<B>(request: &Request<B>) -> bool {
    let mut hosts = request.headers().get_all(HOST).iter();
    let is_there = hosts.next().is_some() || request.version() < http::Version::HTTP_11;
    is_there && hosts.next().is_none()
}

/// What a page of an allowed origin may send: the headers that it asks for, as there is none that would be dangerous.
fn allowed_headers(asked: &HeaderMap) -> Option<HeaderValue> {
    let asked = asked.get(ACCESS_CONTROL_REQUEST_HEADERS)?.to_str().ok()?;
    let names = asked.split(',').filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok());
    let names: Vec<String> = names.map(|name| name.to_string()).collect();
    if names.is_empty() { None } else { HeaderValue::from_str(&names.join(", ")).ok() }
}

fn preflight(asked: &HeaderMap) -> Response<Body> {
    let mut response = Response::new(whole(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    let usual = HeaderValue::from_static("Authorization, Content-Type, Idempotency-Key");
    let allowed = allowed_headers(asked).unwrap_or(usual);
    headers.append(VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_where_it_was_put_and_nowhere_else() {
        let translated = |path: &str, api_path: &str| {
            let mut uri: Uri = path.parse().unwrap();
            translate(&mut uri, api_path);
            uri.to_string()
        };
        assert_eq!(translated("/rt/rooms?limit=1", "/rt"), "/api/v1/rooms?limit=1");
        assert_eq!(translated("/api/rooms/a%2Fb/join", "/api"), "/api/v1/rooms/a%2Fb/join");
        assert_eq!(translated("http://h/rt/rooms", "/rt"), "http://h/api/v1/rooms");
        for kept in ["/rtx/rooms", "/rt", "/healthz", "/api/health", "/sdk/academy-rt.js"] {
            assert_eq!(translated(kept, "/rt"), kept);
            assert_eq!(translated(kept, "/api/v1"), kept);
        }
        assert_eq!(translated("/api/health", "/api"), "/api/health");
        for gone in ["/api/v1/session", "/api/v1/admin/status?x=1"] {
            assert!(Route::find(translated(gone, "/rt").split('?').next().unwrap()).is_none(), "{gone}");
        }
    }

    #[test]
    fn an_ipv6_user_is_a_network() {
        let net = |text: &str| network_of(text.parse().unwrap());
        assert_eq!(net("2001:db8:1:2:3:4:5:6"), net("2001:db8:1:2::1"));
        assert_ne!(net("2001:db8:1:3::1"), net("2001:db8:1:2::1"));
        assert_eq!(net("::ffff:10.0.0.1"), net("10.0.0.1"));
    }
}
