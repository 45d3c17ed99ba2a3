//! The configuration: flags over environment over files over defaults, each value with where it came from.
//!
//! One table, [`KEYS`], drives everything: the file, the environment, the annotated default file and its help say the same
//! because they read the same rows. Loading is a pure function of its [`Sources`]; no other module reads the environment.

pub mod acting_as;
pub mod capacity;
pub mod disk_room;
pub mod drop_ins;
pub mod forward;
pub mod keys;
pub mod load;
pub mod trusted_file;
pub mod units;

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use crate::domain::origin::Origin as WebOrigin;
use crate::domain::webhook::{Endpoint, HookEvents};
use crate::domain::{IdType, Role};

pub use forward::ForwardTarget;
pub use keys::{KEYS, Key};
pub use load::{ConfigError, Origin, SourceFile, Sources, load};

/// A secret. Its `Debug` output does not contain it, and it has no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Secret {
        Secret(text.into())
    }

    /// The secret itself, for whoever verifies or signs with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl Drop for Secret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// `[server]`
    pub server: Server,
    /// `[tls]`
    pub tls: Tls,
    /// `[auth]`
    pub auth: Auth,
    /// `[storage]`
    pub storage: Storage,
    /// `[chat]`
    pub chat: Chat,
    /// `[search]`
    pub search: Search,
    /// `[limits]`
    pub limits: Limits,
    /// `[retention]`
    pub retention: Retention,
    /// `[backup]`
    pub backup: Backup,
    /// `[audit]`
    pub audit: Audit,
    /// `[webhooks]`
    pub webhooks: Webhooks,
    /// `[log]`
    pub log: Log,
    /// `[metrics]`
    pub metrics: Metrics,
    /// Where the service manager has put credentials (`CREDENTIALS_DIRECTORY`).
    pub credentials_dir: Option<PathBuf>,
    /// Where runtime files are, if the service manager has made a directory for them (`RUNTIME_DIRECTORY`).
    pub runtime_dir: Option<PathBuf>,
    /// The values that were set; every other key has its default.
    pub given: Vec<Given>,
    /// Variables of the environment that are empty, and so count as not set.
    pub empty_env: Vec<String>,
    /// The files that it was read from, in this order.
    pub files: Vec<PathBuf>,
    /// Files beside them that look like configuration and were not read.
    pub passed_over: Vec<PathBuf>,
    /// Whether it is for a developer on this machine (`serve --dev`); nothing that is written can say so.
    pub is_dev: bool,
}

/// A value that was set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// The dotted name.
    pub key: &'static str,
    /// Where it came from.
    pub origin: Origin,
    /// What was written; nothing for a secret.
    pub value: String,
}

/// `[server]`
#[derive(Debug, Clone)]
pub struct Server {
    /// Address and port.
    pub listen: SocketAddr,
    /// The path of Socket.IO.
    pub path: String,
    /// What the paths of the HTTP API begin with.
    pub api_path: String,
    /// Whether Socket.IO is switched on.
    pub websocket_enabled: bool,
    /// Whether answers to polls of Socket.IO are compressed.
    pub compression: bool,
    /// Whether there is a page at `/`, which checks the connection of the browser that opens it.
    pub welcome: bool,
    /// Origins of other sites that may use the server from a browser.
    pub cors_origins: Vec<WebOrigin>,
    /// Whether a proxy in front terminates TLS.
    pub behind_proxy: bool,
    /// The networks of the proxies that are believed; empty: this machine.
    pub trusted_proxies: Vec<IpNet>,
    /// The header in which they say who they ask for.
    pub forwarded_header: ForwardedHeader,
    /// Whether their connections begin with the PROXY protocol.
    pub proxy_protocol: bool,
    /// How long the server waits for running requests when it stops.
    pub drain: Duration,
}

/// The header in which a proxy says who it asks for. One of them alone is read: a proxy passes on what a client has put into
/// the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`
    XForwardedFor,
    /// `Forwarded` (RFC 7239)
    Forwarded,
}

/// How the server does TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// With a certificate and key from files.
    Files,
    /// With a certificate that it makes for itself.
    SelfSigned,
    /// Not at all.
    Off,
}

/// The oldest TLS version that is accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2
    V1_2,
    /// TLS 1.3
    V1_3,
}

/// The cipher suites and key exchanges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsProfile {
    /// The defaults of rustls.
    Default,
    /// What the Canadian guidance ITSP.40.062 recommends.
    Itsp40062,
}

/// `[tls]`
#[derive(Debug, Clone)]
pub struct Tls {
    /// How.
    pub mode: TlsMode,
    /// The certificate chain, PEM.
    pub cert: Option<PathBuf>,
    /// The private key, PEM.
    pub key: Option<PathBuf>,
    /// The oldest version that is accepted.
    pub min_version: TlsVersion,
    /// Cipher suites and key exchange.
    pub profile: TlsProfile,
    /// The age in `Strict-Transport-Security`; sent only with certificates from files.
    pub hsts: Option<Duration>,
    /// The authorities of client certificates, PEM; with it an administrator or a service token has its rights over the network
    /// only with one.
    pub client_ca: Option<PathBuf>,
    /// The revocation lists of those authorities, PEM or DER.
    pub client_crl: Option<PathBuf>,
}

/// How a bad token is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reject {
    /// By the event `auth_error`, then the disconnect.
    Event,
    /// In the handshake: the client sees `connect_error`.
    ConnectError,
}

/// `[auth]`
#[derive(Debug, Clone)]
pub struct Auth {
    /// The secret itself, if the environment gave it.
    pub jwt_secret: Option<Secret>,
    /// A file with the secret.
    pub jwt_secret_file: Option<PathBuf>,
    /// Files with a public key each.
    pub public_keys: Vec<PathBuf>,
    /// A file with an issuer's public keys.
    pub jwks_file: Option<PathBuf>,
    /// The `iss` that a token must have.
    pub issuer: Option<String>,
    /// The `aud` that a token must have.
    pub audience: Option<String>,
    /// The clock difference that is allowed for the times of a token.
    pub leeway: Duration,
    /// Whether a token must have an expiry time (`exp`).
    pub require_exp: bool,
    /// The cookie that may hold a token.
    pub cookie_name: Option<String>,
    /// What the roles of tokens are here.
    pub role_map: Vec<(String, Role)>,
    /// How a bad token is refused.
    pub reject: Reject,
    /// Which JSON type the id of a user has.
    pub id_type: IdType,
}

impl Auth {
    /// Whether a bad token is refused in the handshake.
    #[must_use]
    pub fn rejects_in_handshake(&self) -> bool {
        self.reject == Reject::ConnectError
    }
}

/// `[storage]`
#[derive(Debug, Clone)]
pub struct Storage {
    /// Where the data are.
    pub data_dir: PathBuf,
    /// The page cache, in bytes.
    pub cache: usize,
    /// How long a write waits at most for others that share its commit; zero: not at all.
    pub commit_delay: Duration,
    /// Writes are refused below so many free bytes; `None`: the larger of 512 MB and a twentieth of the disk.
    pub min_free: Option<u64>,
    /// What takes rights away or makes room goes on down to so many free bytes; `None`: a quarter of the others' bound.
    pub min_free_admin: Option<u64>,
}

impl Storage {
    /// Writes are refused below so many free bytes on a disk of that size.
    #[must_use]
    pub fn min_free_bytes(&self, disk_bytes: u64) -> u64 {
        self.min_free.unwrap_or_else(|| (disk_bytes / 20).max(512_000_000))
    }

    /// What takes rights away or makes room goes on down to so many free bytes on a disk of that size.
    #[must_use]
    pub fn min_free_admin_bytes(&self, disk_bytes: u64) -> u64 {
        let most = self.min_free_bytes(disk_bytes);
        self.min_free_admin.map_or(most / 4, |bytes| bytes.min(most))
    }
}

/// `[chat]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chat {
    /// Whether a room that nobody has registered may be joined.
    pub open_rooms: bool,
    /// Where the platform is asked whether somebody may enter a room; `None`: nowhere.
    pub authorize_url: Option<Endpoint>,
    /// How long its answer holds.
    pub authorize_cache: Duration,
    /// How long it may take.
    pub authorize_timeout: Duration,
    /// Whether who asks may enter by the rules of this server while the platform does not answer.
    pub authorize_fails_open: bool,
}

/// `[webhooks]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhooks {
    /// Where the platform is told; `None`: nowhere.
    pub url: Option<Endpoint>,
    /// The secrets that calls to the platform are signed with, one a line.
    pub secret_file: Option<PathBuf>,
    /// What it is told of.
    pub events: HookEvents,
    /// How long one call may take.
    pub timeout: Duration,
    /// How long one telling is tried.
    pub give_up: Duration,
    /// The authorities that the platform's certificate is checked by, PEM; `None`: the system's.
    pub ca_file: Option<PathBuf>,
    /// So many tellings wait at most.
    pub outbox: u64,
}

impl Webhooks {
    /// What is kept for the platform: nothing without an address.
    #[must_use]
    pub fn events_told(&self) -> HookEvents {
        if self.url.is_some() { self.events } else { HookEvents::NONE }
    }
}

/// `[search]`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Search {
    /// Whether an index of messages is kept.
    pub enabled: bool,
}

/// `[limits]`: 0 switches a rate or a count off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Chat messages per second and user.
    pub messages_per_second: u32,
    /// Messages that a user may send at once after a pause.
    pub message_burst: u32,
    /// Typing events per second and user.
    pub typing_per_second: u32,
    /// Progress reports per second and user.
    pub syncs_per_second: u32,
    /// Room joins per second and user.
    pub joins_per_second: u32,
    /// Work that the requests of a user, or of a network without a token, may cause per second, in points.
    pub budget_per_second: u32,
    /// Points that may be used at once after a pause.
    pub budget_burst: u32,
    /// Bytes that a user may add to the store in a day.
    pub stored_per_day: u64,
    /// Chat rooms that a user may be the first to write in, in a day.
    pub rooms_per_day: u32,
    /// Messages that a user may report, in a day.
    pub reports_per_day: u32,
    /// Records of refused sign-ins that the audit log takes in a day.
    pub sign_in_records_per_day: u32,
    /// Lessons of a user.
    pub lessons_per_user: u64,
    /// New sockets per second and client address.
    pub connects_per_second: u32,
    /// Open sockets per user.
    pub sockets_per_user: usize,
    /// Chat rooms that a socket may be in.
    pub rooms_per_socket: usize,
    /// Open sockets per client address; off by default, because a whole office may share one.
    pub sockets_per_address: usize,
    /// Polls of a user that wait for events; 0: no bound.
    pub polls_per_user: usize,
    /// The largest message or body of a client, in bytes.
    pub payload: usize,
    /// The longest content of a message, in characters.
    pub message_chars: usize,
    /// The most packets that wait for a slow reader.
    pub send_queue: usize,
    /// How long a TLS handshake may take.
    pub handshake: Duration,
    /// How long the head of a request may take.
    pub request_head: Duration,
    /// How long a connection may idle between two requests.
    pub keep_alive: Duration,
    /// How long the body of a request may take, besides what its size grants.
    pub request_body: Duration,
    /// How long a connection of Socket.IO may take to sign in.
    pub sign_in: Duration,
    /// The most bytes that bodies of requests take at once, all together.
    pub bodies: usize,
    /// Connections of an address, without the WebSockets of who has signed in; 0: a quarter of the descriptors.
    pub connections_per_address: u64,
    /// Connections of an address that have not asked for anything yet; 0: no bound.
    pub newcomers_per_address: u64,
}

/// `[retention]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retention {
    /// How many versions of a lesson's progress are kept.
    pub progress_versions: usize,
    /// Chat messages older than this are purged; `None`: never.
    pub chat: Option<Duration>,
    /// Notifications older than this are purged.
    pub notifications: Option<Duration>,
    /// Records of the audit log older than this are purged.
    pub audit: Option<Duration>,
    /// What is younger than this is neither purged nor, without consent, erased.
    pub floor: Duration,
}

/// `[backup]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// Where continuous backup goes; `None`: nowhere.
    pub continuous: Option<PathBuf>,
    /// How far back one can go in it, at least.
    pub continuous_keep: Duration,
    /// The age recipients that it is encrypted for.
    pub continuous_recipients: Vec<String>,
}

/// `[audit]`
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit {
    /// Where the audit log is forwarded to; `None`: nowhere.
    pub forward: Option<ForwardTarget>,
    /// The authorities that the receiver's certificate is checked by, PEM; `None`: the system's.
    pub forward_ca: Option<PathBuf>,
    /// The client certificate that the receiver is shown, with its chain, PEM.
    pub forward_cert: Option<PathBuf>,
    /// Its private key, PEM.
    pub forward_key: Option<PathBuf>,
    /// So many records that the receiver has not taken are kept, however old they are.
    pub forward_backlog: u64,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Text on a terminal, the journal under systemd, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
    /// Fields of their own in systemd's journal.
    Journal,
}

/// `[log]`
#[derive(Debug, Clone)]
pub struct Log {
    /// How lines look.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
}

/// `[metrics]`
#[derive(Debug, Clone)]
pub struct Metrics {
    /// An address of its own for `/metrics`, without a token.
    pub listen: Option<SocketAddr>,
}

impl Default for Config {
    fn default() -> Config {
        let roles = [
            ("admin", Role::Admin),
            ("owner", Role::Admin),
            ("superadmin", Role::Admin),
            ("hr", Role::Hr),
            ("hr_admin", Role::Hr),
            ("hr_manager", Role::Hr),
            ("coach", Role::Coach),
            ("learner", Role::Learner),
            ("user", Role::Learner),
        ];
        Config {
            server: Server {
                listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8443)),
                path: "/ws".to_owned(),
                api_path: "/api/v1".to_owned(),
                websocket_enabled: true,
                welcome: true,
                compression: true,
                cors_origins: Vec::new(),
                behind_proxy: false,
                trusted_proxies: Vec::new(),
                forwarded_header: ForwardedHeader::XForwardedFor,
                proxy_protocol: false,
                drain: Duration::from_secs(10),
            },
            tls: Tls {
                mode: TlsMode::SelfSigned,
                cert: None,
                key: None,
                min_version: TlsVersion::V1_2,
                profile: TlsProfile::Default,
                hsts: Some(Duration::from_secs(365 * 24 * 60 * 60)),
                client_ca: None,
                client_crl: None,
            },
            auth: Auth {
                jwt_secret: None,
                jwt_secret_file: None,
                public_keys: Vec::new(),
                jwks_file: None,
                issuer: None,
                audience: None,
                leeway: Duration::from_secs(30),
                require_exp: true,
                cookie_name: None,
                role_map: roles.into_iter().map(|(claim, role)| (claim.to_owned(), role)).collect(),
                reject: Reject::Event,
                id_type: IdType::First,
            },
            storage: Storage {
                data_dir: PathBuf::from("./academy-rt-data"),
                cache: 64 << 20,
                commit_delay: Duration::from_millis(2),
                min_free: None,
                min_free_admin: None,
            },
            chat: Chat {
                open_rooms: true,
                authorize_url: None,
                authorize_cache: Duration::from_secs(60),
                authorize_timeout: Duration::from_secs(3),
                authorize_fails_open: false,
            },
            search: Search { enabled: true },
            limits: Limits {
                messages_per_second: 10,
                message_burst: 30,
                typing_per_second: 5,
                syncs_per_second: 10,
                joins_per_second: 20,
                budget_per_second: 1_000,
                budget_burst: 3_000,
                stored_per_day: 64 << 20,
                rooms_per_day: 1_000,
                reports_per_day: 50,
                sign_in_records_per_day: 5_000,
                lessons_per_user: 20_000,
                connects_per_second: 50,
                sockets_per_user: 20,
                rooms_per_socket: 1_000,
                sockets_per_address: 0,
                polls_per_user: 20,
                payload: 1_000_000,
                message_chars: 4_000,
                send_queue: 4_096,
                handshake: Duration::from_secs(10),
                request_head: Duration::from_secs(15),
                keep_alive: Duration::from_secs(75),
                request_body: Duration::from_secs(20),
                sign_in: Duration::from_secs(10),
                bodies: 64 << 20,
                connections_per_address: 0,
                newcomers_per_address: 4_096,
            },
            retention: Retention {
                progress_versions: 50,
                chat: None,
                notifications: None,
                audit: None,
                floor: Duration::ZERO,
            },
            backup: Backup {
                continuous: None,
                continuous_keep: Duration::from_secs(7 * 24 * 60 * 60),
                continuous_recipients: Vec::new(),
            },
            audit: Audit { forward_backlog: 1_000_000, ..Audit::default() },
            webhooks: Webhooks {
                url: None,
                secret_file: None,
                events: HookEvents::all(),
                timeout: Duration::from_secs(10),
                give_up: Duration::from_secs(3 * 24 * 60 * 60),
                ca_file: None,
                outbox: 1_000_000,
            },
            metrics: Metrics { listen: None },
            log: Log { format: LogFormat::Auto, level: "info".to_owned() },
            credentials_dir: None,
            runtime_dir: None,
            given: Vec::new(),
            empty_env: Vec::new(),
            files: Vec::new(),
            passed_over: Vec::new(),
            is_dev: false,
        }
    }
}

impl Config {
    /// The socket of the local administrator.
    #[must_use]
    pub fn control_socket(&self) -> PathBuf {
        self.runtime_dir.as_deref().unwrap_or(&self.storage.data_dir).join("control.sock")
    }

    /// The socket over which one may only read. Its directory stands beside that of the control socket, and whoever may enter it
    /// is a reader: an administrator makes it, with the set-group-ID bit of the readers' group. `None`: no name is beside it.
    #[must_use]
    pub fn readers_socket(&self) -> Option<PathBuf> {
        let control = self.runtime_dir.as_deref().unwrap_or(&self.storage.data_dir);
        let mut name = control.file_name()?.to_owned();
        name.push("-readers");
        Some(control.with_file_name(name).join("readers.sock"))
    }

    /// Where the certificate is that the server makes for itself.
    #[must_use]
    pub fn self_signed_cert(&self) -> PathBuf {
        self.storage.data_dir.join("tls").join("cert.pem")
    }

    /// What was noticed while it was read, and does not make it wrong.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let empty =
            |name: &String| format!("the environment variable {name} is empty, and counts as not set; remove it");
        let passed_over = |path: &PathBuf| {
            format!("{} is not read: of this directory only files whose names end in .toml are", path.display())
        };
        self.empty_env.iter().map(empty).chain(self.passed_over.iter().map(passed_over)).collect()
    }

    /// Where a value came from.
    #[must_use]
    pub fn origin(&self, key: &str) -> Origin {
        self.given.iter().find(|given| given.key == key).map_or(Origin::Default, |given| given.origin.clone())
    }

    /// The effective value of a key, as it is written; the items of a list are separated by commas. Of a secret only whether
    /// there is one.
    #[must_use]
    pub fn value(&self, key: &Key) -> String {
        match self.given.iter().find(|given| given.key == key.name) {
            Some(_) if key.is_secret => "(set)".to_owned(),
            Some(given) => given.value.clone(),
            None => key.default_value(),
        }
    }

    /// The file that is read when none is named.
    #[must_use]
    pub fn default_file() -> &'static Path {
        Path::new("/etc/academy-rt/academy-rt.toml")
    }
}
