//! Connections: accepted, secured, guarded, served. Each lives in a task of the server's tracker and ends with it.

use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt::Display;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HeaderName, HeaderValue, TRANSFER_ENCODING};
use http::{Request, StatusCode};
use http_body::Frame;
use hyper::body::{Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::{Mutex, MutexGuard};
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixListener};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Limits, capacity};
use crate::domain::Timestamp;
use crate::domain::problem::Problem;
use crate::observability::certificate::CertificateFacts;
use crate::observability::local_person;
use crate::observability::process;
use crate::protocol::error::ApiError;
use crate::transport::memory::{Memory, Sender, Turn};
use crate::transport::origin::{SignedIn, network_of};
use crate::transport::socketio::engine::connection::{
    Backlogs, Connection, ConnectionIo, Cut, Keeper, QueueLimits, StreamConnection, Timeouts,
};

use crate::server::addresses;
use crate::server::body_timeout::TimedBody;
use crate::server::middleware::{Body, Failure, Middleware, Peer, refusal};
use crate::server::places::{Most, NoPlace, NowAndThen, Place, Places};
use crate::server::proxy_protocol;
use crate::server::tls::handshakes::Handshakes;
use crate::server::wrong_protocol::{self, NoTls};

/// Why an address has no more connections.
const TOO_MANY: &str = "there are too many connections from it (limits.connections_per_address); raise the limit if many people share the address";
/// Behind a proxy, whose network has too many requests under way is told to come again after so long.
const COME_AGAIN: Duration = Duration::from_secs(5);
/// An answer is given out in pieces of so many bytes: the library copies what it is given, and keeps the memory.
const PIECE_BYTES: usize = 16 << 10;
/// A shorter answer is not counted: the kernel takes it whole.
const COUNTED_BYTES: usize = 8 << 10;
/// A connection that is there when the server begins to stop may take so long to ask for something.
const FIRST_REQUEST: Duration = Duration::from_secs(1);
/// A command on the control socket may take nothing for so long.
const CONTROL_STALL: Duration = Duration::from_secs(10 * 60);
/// A connection on which nobody has signed in may idle for so long.
const STRANGERS_IDLE: Duration = Duration::from_secs(15);
/// Where there are too few descriptors, who connects waits for so long until idle connections of strangers have ended, which
/// have idled for so long at least; and it is told so often.
const ROOM: Duration = Duration::from_millis(100);
const IDLE: Duration = Duration::from_secs(1);
const TOLD_EVERY: Duration = Duration::from_secs(60);
/// So many may be connected to the readers' socket at once.
const READERS: usize = 32;
/// So often it is looked whether a local socket is still at its path.
const CONTROL_LOOK: Duration = Duration::from_secs(2);
/// After an error of `accept` (no file descriptors left) nothing is accepted for so long.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// How connections are bounded.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// What waits for a reader.
    pub queue: QueueLimits,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long a request may keep the server waiting.
    pub timeouts: Timeouts,
    /// How long its body may take, besides what its size grants.
    pub body: Duration,
    /// Connections of an address that have not asked for anything yet; 0: no bound.
    pub newcomers: u64,
    /// Connections of an address; 0: a share of the descriptors.
    pub of_network: u64,
}

impl ConnectionLimits {
    /// The configured ones.
    #[must_use]
    pub fn new(limits: &Limits, stall: Duration) -> ConnectionLimits {
        ConnectionLimits {
            queue: QueueLimits {
                queued_frames: limits.send_queue.max(64),
                queued_bytes: capacity::QUEUE_BYTES,
                message_bytes: limits.payload,
                stall,
                patience: capacity::PATIENCE,
            },
            handshake: limits.handshake,
            timeouts: Timeouts {
                head: limits.request_head,
                idle: limits.keep_alive,
                stranger: limits.keep_alive.min(STRANGERS_IDLE),
            },
            body: limits.request_body,
            newcomers: limits.newcomers_per_address,
            of_network: limits.connections_per_address,
        }
    }
}

/// All connections, and what each of them needs.
pub struct Connections {
    middleware: Arc<Middleware>,
    limits: ConnectionLimits,
    tracker: TaskTracker,
    /// Cancelled when the server is about to stop: running requests are finished, no new ones are accepted.
    draining: CancellationToken,
    places: Arc<Places>,
    /// What waits for slow readers, all connections together.
    backlogs: Arc<Backlogs>,
    /// When idle connections were ended for want of descriptors, when it was told that there are too few, and when the system
    /// gave none.
    made_room: NowAndThen,
    told: NowAndThen,
    lacked: NowAndThen,
    live_connections: Mutex<HashMap<u64, Live>>,
    next: AtomicU64,
    /// Connections that the server makes to itself, by where they come from.
    probes: Mutex<HashMap<SocketAddr, oneshot::Sender<()>>>,
}

impl std::fmt::Debug for Connections {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// A connection of this moment.
struct Live {
    connection: Weak<dyn Connection>,
    /// From where it comes, if it comes over the network.
    address: Option<IpAddr>,
    /// The client certificate that it was made with, and who has signed it.
    chain: Option<Arc<[CertificateDer<'static>]>>,
    /// The first moment at which a certificate of it is over.
    chain_until: Option<Timestamp>,
}

/// A connection that is open.
struct Open<'a>(&'a Middleware);

impl Open<'_> {
    fn new(middleware: &Middleware) -> Open<'_> {
        middleware.counters().connections_open.add();
        Open(middleware)
    }
}

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.counters().connections_open.take();
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");

/// The body of an answer, piece by piece: when it has been given out, the next request is waited for.
struct AnswerBody {
    body: Body,
    /// What the body has given, and is not given out yet.
    rest: Bytes,
    _end: Option<AnswerEnd>,
}

impl AnswerBody {
    fn new(body: Body, end: Option<AnswerEnd>) -> AnswerBody {
        AnswerBody { body, rest: Bytes::new(), _end: end }
    }
}

struct AnswerEnd(Arc<dyn Connection>, Option<Arc<Place>>);

impl Drop for AnswerEnd {
    fn drop(&mut self) {
        self.0.end_request();
        if let Some(place) = &self.1 {
            place.answered();
        }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        if self.rest.is_empty() {
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).map(|frame| frame.map(Frame::into_data)) {
                Some(Ok(Ok(bytes))) => self.rest = bytes,
                Some(Ok(Err(frame))) => return Poll::Ready(Some(Ok(frame))),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => return Poll::Ready(None),
            }
        }
        let len = self.rest.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.rest.split_to(len)))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (mut hint, rest) = (self.body.size_hint(), self.rest.len() as u64);
        match hint.exact() {
            Some(exact) => hint = SizeHint::with_exact(exact + rest),
            None => hint.set_lower(hint.lower() + rest),
        }
        hint
    }
}

/// The memory of an answer that is made, until it is written: what was kept for it, and is needed. `None` where it takes none
/// to speak of, and for a stream, which has little at a time.
///
/// # Errors
/// `unavailable` if it was not asked for before, and there is none in time.
async fn memory_of(answers: &Arc<Memory>, sender: &SignedIn, bytes: Option<u64>) -> Result<Option<Turn>, ApiError> {
    let kept = sender.take_answer();
    let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok());
    let Some(bytes) = bytes.filter(|bytes| *bytes > COUNTED_BYTES) else { return Ok(None) };
    match (kept, sender.user()) {
        (Some(mut turn), _) => {
            turn.shrink(bytes);
            Ok(Some(turn))
        }
        (None, Some(user)) => answers.admit(Sender::User(user.clone()), bytes as u64).await.map(Some),
        // A stranger gets files that lie in the program; the administrator of this machine waits for nobody.
        (None, None) => Ok(None),
    }
}

/// The answer to a request of a network that has too many under way, behind a proxy.
fn too_many(middleware: &Middleware, client: Option<IpAddr>) -> http::Response<Body> {
    let counters = middleware.counters();
    counters.rate_limited.add("connections");
    if let Some(client) = client
        && counters.log_limiter.may_log("connections")
    {
        tracing::info!(reason = "connections", "refused a request from {client}: {TOO_MANY}");
    }
    refusal(&ApiError::rate_limited(
        COME_AGAIN,
        "there are too many connections from this address; close one and come again",
    ))
}

/// What a probe of an own address has shown.
#[derive(Debug)]
pub enum Probed {
    /// Somebody accepts there.
    Accepted,
    /// This machine cannot make the connection: that says nothing of who accepts.
    Unable(io::Error),
    /// Nobody accepts there.
    Dead(io::Error),
}

/// The addresses of this machine that a socket at this one accepts from.
pub fn own_addresses(ip: IpAddr) -> Vec<IpAddr> {
    match ip {
        IpAddr::V4(ip) if ip.is_unspecified() => vec![Ipv4Addr::LOCALHOST.into()],
        IpAddr::V6(ip) if ip.is_unspecified() => vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()],
        ip => vec![ip],
    }
}

/// Whether an error of a connection to an own address is about the one who connects: no such address or protocol, no port, no
/// descriptor, no memory, no permission. Of who listens only a refusal, a break or a silence says something.
pub fn is_own_inability(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, TimedOut};
    !matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionRefused | ConnectionReset | TimedOut)
}

/// Whether it is this process that has too many files and connections open, or the machine.
pub(super) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Who is at the other end.
struct Who {
    address: Option<IpAddr>,
    /// Whether it is who has connected.
    is_direct: bool,
    chain: Option<Arc<[CertificateDer<'static>]>>,
    user: Option<u32>,
    login: Option<String>,
    reads_only: bool,
    /// Its place among those who come over the network.
    place: Option<Arc<Place>>,
}

impl Who {
    fn over_network(address: IpAddr, is_direct: bool, place: Arc<Place>) -> Who {
        Who {
            address: Some(address),
            is_direct,
            chain: None,
            user: None,
            login: None,
            reads_only: false,
            place: Some(place),
        }
    }

    fn local(user: Option<u32>, process: Option<i32>) -> Who {
        let login = process.and_then(|process| local_person::login_of(&process.to_string()));
        let login = login.filter(|login| Some(*login) != user).map(local_person::named);
        Who { address: None, is_direct: true, chain: None, user, login, reads_only: false, place: None }
    }

    /// Whether they are at the control socket.
    fn is_administrator(&self) -> bool {
        self.address.is_none() && !self.reads_only
    }
}

/// A socket of this machine alone.
#[derive(Debug, Clone)]
pub enum LocalSocket {
    /// The administrator's.
    Control(PathBuf),
    /// That of those who may only read.
    Readers(PathBuf),
}

impl LocalSocket {
    fn path(&self) -> &Path {
        let (LocalSocket::Control(path) | LocalSocket::Readers(path)) = self;
        path
    }

    /// Makes it; `None` if there is to be none.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub(super) fn bind(&self) -> Result<Option<UnixListener>, Problem> {
        match self {
            LocalSocket::Control(path) => addresses::bind_control(path).map(Some),
            LocalSocket::Readers(path) => addresses::bind_readers(path),
        }
    }

    fn reads_only(&self) -> bool {
        matches!(self, LocalSocket::Readers(_))
    }

    /// How many may be connected at once.
    fn most(&self) -> usize {
        match self {
            LocalSocket::Control(_) => Semaphore::MAX_PERMITS,
            LocalSocket::Readers(_) => READERS,
        }
    }

    fn named(&self) -> &'static str {
        if self.reads_only() { "the readers' socket" } else { "the control socket" }
    }

    fn key(&self) -> &'static str {
        if self.reads_only() { "readers_socket" } else { "control_socket" }
    }
}

impl Connections {
    /// No connections yet.
    #[must_use]
    pub fn new(middleware: Arc<Middleware>, limits: ConnectionLimits, draining: CancellationToken) -> Arc<Connections> {
        let now = process::read();
        let most = Most::new(limits.newcomers, limits.of_network, now.max_fds, now.open_fds);
        Arc::new(Connections {
            places: Places::new(most, middleware.counters().clone()),
            backlogs: middleware.backlogs().clone(),
            middleware,
            limits,
            tracker: TaskTracker::new(),
            draining,
            made_room: NowAndThen::default(),
            told: NowAndThen::default(),
            lacked: NowAndThen::default(),
            live_connections: Mutex::default(),
            next: AtomicU64::new(0),
            probes: Mutex::default(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Live>> {
        self.live_connections.lock()
    }

    /// The tasks of all connections.
    #[must_use]
    pub fn tracker(&self) -> &TaskTracker {
        &self.tracker
    }

    /// The connections of this moment, and from where they come.
    #[must_use]
    pub fn live_connections(&self) -> Vec<(Option<IpAddr>, Arc<dyn Connection>)> {
        let mut live_connections = self.lock();
        live_connections.retain(|_, live| live.connection.strong_count() > 0);
        live_connections.values().filter_map(|live| Some((live.address, live.connection.upgrade()?))).collect()
    }

    /// Ends the connections whose client certificate is not good any more: of all, or of those that have one which is over at a
    /// moment. `why_not` says why one is not good. Gives how many.
    pub fn cut_uncertified(
        &self,
        over_at: Option<Timestamp>,
        why_not: impl Fn(&[CertificateDer<'static>]) -> Option<String>,
    ) -> usize {
        let is_asked_for = |live: &&Live| over_at.is_none_or(|now| live.chain_until.is_some_and(|until| until <= now));
        let certified: Vec<_> = self
            .lock()
            .values()
            .filter(is_asked_for)
            .filter_map(|live| Some((live.chain.clone()?, live.address, live.connection.upgrade()?)))
            .collect();
        let mut ended = 0;
        for (chain, address, connection) in certified {
            let Some(why) = why_not(&chain) else { continue };
            connection.cut(Cut::Ended);
            ended += 1;
            if self.middleware.counters().log_limiter.may_log("client_certificate") {
                let whose = chain.first().and_then(|leaf| CertificateFacts::read(leaf).ok());
                let whose = whose.map_or_else(|| "an unreadable name".to_owned(), |facts| facts.subject);
                let from = address.map_or_else(|| "this machine".to_owned(), |address| address.to_string());
                tracing::info!(
                    reason = "client_certificate",
                    "closed a connection from {from}: its client certificate, of '{whose}', is not good any more (tls.client_ca, \
                     tls.client_crl): {why}"
                );
            }
        }
        ended
    }

    /// Ends all connections now.
    pub fn cut_all(&self) {
        for (_, connection) in self.live_connections() {
            connection.cut(Cut::Ended);
        }
    }

    /// Accepts from a TCP listener until the server drains.
    pub async fn accept_tcp(self: Arc<Self>, listener: TcpListener, handshakes: Option<Arc<Handshakes>>) {
        loop {
            let accepted = tokio::select! {
                () = self.draining.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            // A socket for both families says ::ffff:10.0.0.1 where everybody else says 10.0.0.1.
            match accepted.map(|(stream, peer)| (stream, SocketAddr::new(peer.ip().to_canonical(), peer.port()))) {
                // The watchdog has seen that somebody accepts.
                Ok((_, peer)) if self.is_probe(peer) => {}
                Ok((stream, peer)) => {
                    self.middleware.counters().connections.add();
                    let address = peer.ip();
                    let Some(place) = self.place_for(address).await else { continue };
                    // A message must not wait for the one behind it.
                    if let Err(error) = stream.set_nodelay(true) {
                        tracing::debug!(%error, "a connection kept Nagle's algorithm");
                    }
                    let (this, handshakes) = (self.clone(), handshakes.clone());
                    self.tracker.spawn(async move {
                        let mut stream = stream;
                        let Some(who) = this.who_connects(&mut stream, address, place).await else { return };
                        // Each on the heap: a connection without TLS would have the size of one with it.
                        match handshakes {
                            None => Box::pin(this.serve_plain(stream, who)).await,
                            Some(handshakes) => Box::pin(this.serve_tls(stream, who, &handshakes)).await,
                        }
                    });
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Serves a connection without TLS, unless it begins with TLS.
    async fn serve_plain(&self, stream: TcpStream, who: Who) {
        let (stream, speaks_tls) = NoTls::new(stream);
        let address = who.address;
        self.serve(stream, who).await;
        if let (true, Some(address)) = (speaks_tls.load(Ordering::Relaxed), address) {
            self.log_refusal(
                address,
                "tls_on_plain_port",
                &"it speaks TLS, and this port takes plain HTTP (tls.mode is off): use http://, or switch TLS on",
            );
        }
    }

    /// Serves a connection over TLS, unless it begins with plain HTTP.
    async fn serve_tls(&self, mut stream: TcpStream, who: Who, handshakes: &Handshakes) {
        let address = who.address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let secured = async {
            if wrong_protocol::speaks_http(&stream).await? {
                wrong_protocol::answer_in_plain(&mut stream).await;
                return Ok(None);
            }
            handshakes.accept(stream).await.map(Box::new).map(Some)
        };
        // What a handshake takes is given back behind it.
        match tokio::time::timeout(self.limits.handshake, Box::pin(secured)).await {
            Ok(Ok(Some(stream))) => {
                let connection = stream.get_ref().1;
                let chain = connection.peer_certificates().filter(|chain| !chain.is_empty()).map(Arc::from);
                let group = connection.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
                self.middleware.counters().tls_groups.add(group.unwrap_or("other"));
                self.serve(stream, Who { chain, ..who }).await;
            }
            Ok(Ok(None)) => {
                self.refused(
                    address,
                    "http_on_tls_port",
                    &"it speaks plain HTTP, and this port takes TLS: use https://",
                );
            }
            Ok(Err(error)) => self.refused(address, "tls_handshake", &error),
            Err(_) => self.refused(address, "tls_timeout", &"it took too long"),
        }
    }

    /// Whether somebody accepts at an address that this process listens on: by a connection that is recognised and closed.
    /// Of all addresses of IPv6 also IPv4 is tried, which such a socket serves where the machine has no IPv6.
    pub async fn probe(&self, address: SocketAddr) -> Probed {
        let mut unable = None;
        for ip in own_addresses(address.ip()) {
            match self.probe_at(SocketAddr::new(ip, address.port())).await {
                Err(error) if is_own_inability(&error) => unable = Some(error),
                Err(error) => return Probed::Dead(error),
                Ok(()) => return Probed::Accepted,
            }
        }
        Probed::Unable(unable.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into()))
    }

    async fn probe_at(&self, address: SocketAddr) -> io::Result<()> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        // It has its address before it connects: the other end may see it sooner than this one.
        socket.bind(SocketAddr::new(address.ip(), 0))?;
        let own = socket.local_addr()?;
        let (seen, wait) = oneshot::channel();
        self.lock_probes().insert(own, seen);
        let connected = socket.connect(address).await;
        let waited = match connected {
            Ok(_stream) => wait.await.map_err(|_| io::ErrorKind::BrokenPipe.into()),
            Err(error) => Err(error),
        };
        self.lock_probes().remove(&own);
        waited
    }

    fn lock_probes(&self) -> MutexGuard<'_, HashMap<SocketAddr, oneshot::Sender<()>>> {
        self.probes.lock()
    }

    fn is_probe(&self, peer: SocketAddr) -> bool {
        // To a socket of IPv6 a client of IPv4 has an address of IPv6.
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        self.lock_probes().remove(&peer).is_some_and(|seen| seen.send(()).is_ok())
    }

    /// Accepts from a local socket until the server drains.
    /// A socket that is gone from its path, which a cleaner of old files may have removed, is made again.
    pub async fn accept_local(self: Arc<Self>, socket: LocalSocket, mut listener: Option<UnixListener>) {
        let mut look = tokio::time::interval(CONTROL_LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let turns = Arc::new(Semaphore::new(socket.most()));
        loop {
            let next = async {
                // Whoever finds too many waits in the queue of the kernel.
                let turn = turns.clone().acquire_owned().await.ok();
                match &listener {
                    Some(listener) => (turn, listener.accept().await),
                    None => std::future::pending().await,
                }
            };
            let (turn, accepted) = tokio::select! {
                () = self.draining.cancelled() => return,
                _ = look.tick() => {
                    if let Some(again) = self.local_again(&socket, listener.is_some()) {
                        listener = Some(again);
                    }
                    continue;
                }
                next = next => next,
            };
            match accepted {
                Ok((stream, _)) => {
                    let this = self.clone();
                    let peer = stream.peer_cred().ok();
                    let (user, process) = (peer.map(|peer| peer.uid()), peer.and_then(|peer| peer.pid()));
                    let reads_only = socket.reads_only();
                    self.tracker.spawn(async move {
                        this.serve(stream, Who { reads_only, ..Who::local(user, process) }).await;
                        drop(turn);
                    });
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// A local socket once more, if there is nothing at its path.
    fn local_again(&self, socket: &LocalSocket, was_there: bool) -> Option<UnixListener> {
        let path = socket.path();
        let is_gone = path.symlink_metadata().is_err_and(|error| error.kind() == io::ErrorKind::NotFound);
        if !is_gone && was_there {
            return None;
        }
        match socket.bind() {
            Ok(Some(listener)) if was_there => {
                tracing::warn!(path = %path.display(), "{} was removed by somebody; it is there again", socket.named());
                Some(listener)
            }
            Ok(made) => made.inspect(|_| tracing::info!(path = %path.display(), "{} is there now", socket.named())),
            Err(error) => {
                if self.middleware.counters().log_limiter.may_log(socket.key()) {
                    tracing::warn!(why = %error.why, "{}: {}. {}", error.what, error.why, error.remedy);
                }
                None
            }
        }
    }

    /// Serves one connection as the control socket is served.
    pub async fn serve_alone<S>(&self, stream: S, user: u32)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        self.serve(stream, Who::local(Some(user), None)).await;
    }

    /// A place for who has connected. Where there is none, idle connections of strangers make room.
    async fn place_for(&self, address: IpAddr) -> Option<Arc<Place>> {
        let is_proxy =
            self.middleware.is_proxy(&address) || self.middleware.speaks_proxy_protocol(&address) == Some(true);
        let network = (!is_proxy).then(|| network_of(address));
        let mut admitted = self.places.admit(network);
        if let Err(NoPlace::Full) = admitted {
            // Each end is told once; and nobody else is accepted meanwhile.
            for _ in 0..self.make_room().min(4) {
                self.places.freed(ROOM).await;
                admitted = self.places.admit(network);
                if !matches!(admitted, Err(NoPlace::Full)) {
                    break;
                }
            }
        }
        admitted.inspect_err(|why| self.turn_away(address, *why)).ok()
    }

    /// Who is at the other end of a connection: who a trusted proxy says it is, where proxies begin with that. `None` if it is
    /// refused.
    async fn who_connects(&self, stream: &mut TcpStream, address: IpAddr, place: Arc<Place>) -> Option<Who> {
        match self.middleware.speaks_proxy_protocol(&address) {
            None => {}
            Some(true) => {
                let read = tokio::time::timeout(self.limits.handshake, proxy_protocol::read(stream)).await;
                match read.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into())) {
                    // The proxy itself, for example with a check of health.
                    Ok(None) => {}
                    Ok(Some(client)) => {
                        if !self.middleware.is_proxy(&client)
                            && let Err(why) = place.is_of(network_of(client))
                        {
                            self.turn_away(client, why);
                            return None;
                        }
                        return Some(Who::over_network(client, false, place));
                    }
                    Err(error) => {
                        self.log_refusal(address, "proxy_protocol", &error);
                        return None;
                    }
                }
            }
            Some(false) => {
                // Who speaks it and is not trusted is refused in any case; an administrator may have forgotten their proxy.
                let mut begin = [0; 12];
                let peeked = tokio::time::timeout(self.limits.handshake, stream.peek(&mut begin)).await;
                if let Ok(Ok(length)) = peeked
                    && proxy_protocol::is_one(begin.get(..length).unwrap_or_default())
                {
                    self.middleware.note_untrusted_proxy(address, "the PROXY protocol");
                    return None;
                }
            }
        }
        Some(Who::over_network(address, true, place))
    }

    /// Ends the connections of strangers that have idled for longest, a part of them. Gives how many.
    fn make_room(&self) -> usize {
        // To look for them costs a look at each connection.
        if !self.made_room.is_due(ROOM) {
            return 0;
        }
        let idle = self.live_connections().into_iter().filter_map(|(_, one)| Some((one.idle_since()?, one)));
        let mut idle: Vec<_> = idle.filter(|(since, _)| since.elapsed() >= IDLE).collect();
        idle.sort_unstable_by_key(|(since, _)| *since);
        idle.truncate(idle.len().div_ceil(16).min(64));
        for (_, connection) in &idle {
            connection.cut(Cut::Ended);
        }
        idle.len()
    }

    fn turn_away(&self, address: IpAddr, why: NoPlace) {
        let (reason, words) = match why {
            NoPlace::Newcomers => (
                "newcomers",
                "too many connections from this address have sent no request (limits.newcomers_per_address)",
            ),
            NoPlace::Network => ("connections", TOO_MANY),
            NoPlace::Full => ("descriptors", ""),
        };
        let counters = self.middleware.counters();
        counters.rate_limited.add(reason);
        if why != NoPlace::Full {
            if counters.log_limiter.may_log(reason) {
                tracing::info!(reason, "refused a connection from {address}: {words}");
            }
        } else if self.told.is_due(TOLD_EVERY) {
            let (open, turned_away) = (counters.connections_open.get(), counters.rate_limited.of(reason));
            tracing::warn!(
                open,
                turned_away,
                "too few file descriptors are left: new connections are turned away until some end; raise LimitNOFILE"
            );
        }
    }

    /// Whether the system had no descriptor for a connection within this time.
    #[must_use]
    pub fn lacked_descriptors_within(&self, time: Duration) -> bool {
        self.lacked.was_within(time)
    }

    fn refused(&self, address: IpAddr, reason: &'static str, error: &dyn Display) {
        self.middleware.counters().tls_failures.add();
        self.log_refusal(address, reason, error);
    }

    fn log_refusal(&self, address: IpAddr, reason: &'static str, error: &dyn Display) {
        if self.middleware.counters().log_limiter.may_log(reason) {
            tracing::info!(reason, "refused a connection from {address}: {reason}: {error}");
        }
    }

    async fn pause(&self, error: &io::Error) {
        if is_out_of_descriptors(error) {
            self.lacked.is_due(Duration::ZERO);
        }
        tracing::warn!("could not accept a connection: {error}; if it says 'too many open files', raise LimitNOFILE");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }

    async fn serve<S>(&self, stream: S, who: Who)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        // A command may write what it is given to a disk that takes its time.
        let stall =
            if who.is_administrator() { CONTROL_STALL.max(self.limits.queue.stall) } else { self.limits.queue.stall };
        let connection = StreamConnection::new(
            stream,
            QueueLimits { stall, patience: self.limits.queue.patience.max(stall), ..self.limits.queue },
            self.limits.timeouts,
            self.backlogs.clone(),
            who.place.clone().map(|place| place as Arc<dyn Keeper>),
        );
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let io = TokioIo::new(ConnectionIo::new(connection.clone()));
        let connection: Arc<dyn Connection> = connection;
        let Who { address, is_direct, chain, user, login, reads_only, place } = who;
        let is_certified = chain.is_some();
        let ends = chain.iter().flat_map(|chain| chain.iter()).filter_map(|one| CertificateFacts::read(one).ok());
        let chain_until = ends.map(|facts| facts.not_after).min();
        self.lock().insert(number, Live { connection: Arc::downgrade(&connection), address, chain, chain_until });
        let is_proxied = address.is_some_and(|address| self.middleware.is_proxy(&address));
        // Places count themselves; the administrator of this machine has none.
        let _open = place.is_none().then(|| Open::new(&self.middleware));
        if is_proxied || address.is_none() {
            connection.note_known();
        }
        let peer = Peer { address, is_direct, is_certified, user, login, reads_only, connection };
        let middleware = self.middleware.clone();
        let has_asked = Arc::new(AtomicBool::new(false));
        let asks = has_asked.clone();
        let timeout = self.limits.body;
        let service = service_fn(move |mut request: Request<Incoming>| {
            asks.store(true, Ordering::Relaxed);
            let client = if is_proxied { middleware.client_address(request.headers(), &peer) } else { None };
            let network = client.filter(|client| Some(*client) != peer.address).map(network_of);
            let asked = place.as_ref().map_or(Ok(()), |place| place.asked(network));
            let proxied = place.clone().filter(|_| is_proxied);
            let is_chunked = request.headers().contains_key(TRANSFER_ENCODING);
            peer.connection.begin_request();
            let sender = SignedIn::default();
            request.extensions_mut().insert(sender.clone());
            let request = request.map(|body| TimedBody::new(body, timeout, peer.connection.clone()));
            let (body_end, connection) = (request.body().end(), peer.connection.clone());
            let is_of_sockets = middleware.is_of_sockets(request.uri().path());
            let answers = middleware.answers().clone();
            let answer = match asked {
                Ok(()) => Ok(middleware.clone().call(request, peer.clone())),
                Err(_) => Err(too_many(&middleware, client)),
            };
            async move {
                let mut answer = match answer {
                    Ok(answer) => answer.await?,
                    Err(refused) => refused,
                };
                if sender.user().is_some() {
                    connection.note_known();
                }
                let bytes = http_body::Body::size_hint(answer.body()).exact();
                match memory_of(&answers, &sender, bytes).await {
                    Ok(None) => {}
                    Ok(Some(turn)) => connection.keep(Box::new(turn)),
                    // Its packets are in no other place: the client comes again, and asks for what it has missed.
                    Err(_) if is_of_sockets => connection.cut(Cut::SlowReader),
                    Err(error) => answer = refusal(&error),
                }
                // A body that nobody wanted is not read: the connection ends behind the answer.
                let is_unread = !body_end.has_come();
                if is_unread {
                    connection.linger();
                }
                // The end of a body may be given in two ways, of which a proxy in front may have believed the other one: what
                // comes behind it is nobody's request (RFC 9112, 6.1).
                if is_chunked || is_unread {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
                    return Ok::<_, Infallible>(answer.map(|body| AnswerBody::new(body, None)));
                }
                let seconds = connection.keep_alive().as_secs();
                if seconds > 0
                    && !answer.headers().contains_key(CONNECTION)
                    && let Ok(value) = HeaderValue::try_from(format!("timeout={seconds}"))
                {
                    answer.headers_mut().insert(KEEP_ALIVE, value);
                }
                let end = AnswerEnd(connection, proxied);
                Ok(answer.map(|body| AnswerBody::new(body, Some(end))))
            }
        });
        let connection = http1::Builder::new()
            // It would count the time between two requests, too: the connection itself has both times.
            .header_read_timeout(None)
            // Heads of requests are short; bodies are bounded by their readers.
            .max_buf_size(64 * 1024)
            .serve_connection(io, service)
            .with_upgrades();
        let mut connection = std::pin::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.draining.cancelled() => {
                // hyper closes a connection on which nothing was asked yet. Who has just come gets an answer, and closes.
                let timeout = if has_asked.load(Ordering::Relaxed) { Duration::ZERO } else { FIRST_REQUEST };
                match tokio::time::timeout(timeout, connection.as_mut()).await {
                    Ok(ended) => ended,
                    Err(_) => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection ended");
        }
    }
}
