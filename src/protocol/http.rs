//! Bodies that only the HTTP API has: errors, health, status, the long poll.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::{Role, RoomId, Timestamp, UserId};
use crate::protocol::admin::access::RefusalView;
use crate::protocol::admin::webhooks::HooksView;

use crate::protocol::error::ApiError;

/// `{ "ok": false, "error": { code, message, field? } }`.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    ok: bool,
    error: &'a ApiError,
}

impl<'a> ErrorBody<'a> {
    /// What is wrong.
    #[must_use]
    pub fn new(error: &'a ApiError) -> ErrorBody<'a> {
        ErrorBody { ok: false, error }
    }
}

/// `GET /api/health`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// Whether it is ready.
    pub ok: bool,
    /// `ok`, or what is wrong.
    pub status: &'static str,
    /// Whether the process answers.
    pub alive: bool,
    /// Whether the storage is writable and the server not draining.
    pub ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The version of academy-rt.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Whether Socket.IO is switched on.
    pub websocket_enabled: bool,
}

/// `GET /api/v1/admin/status`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The version of academy-rt.
    pub version: &'static str,
    /// Seconds since the start.
    pub uptime_seconds: u64,
    /// Where it listens.
    pub addresses: Vec<String>,
    /// Whether Socket.IO is switched on.
    pub websocket_enabled: bool,
    /// Whether the storage is writable and the server not draining.
    pub ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Authenticated sockets.
    pub sockets: SocketCounts,
    /// Users with a socket.
    pub users: usize,
    /// Chat rooms with a socket.
    pub rooms: usize,
    /// The store.
    pub store: StoreCounts,
    /// The continuous backup, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub continuous_backup: Option<ContinuousBackup>,
    /// The forwarding of the audit log, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub audit_forward: Option<AuditForward>,
    /// Webhooks and join authorisation, if they are used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub webhooks: Option<HooksView>,
    /// The index of search, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub search: Option<SearchStatus>,
    /// What went out since the start.
    pub deliveries: u64,
    /// Sockets cut off because they did not keep up.
    pub slow_readers: u64,
    /// What happens in a second.
    pub rates: RateFigures,
    /// Long polls that wait.
    pub polls_waiting: u64,
    /// Connections open, of all kinds.
    pub connections: u64,
    /// How many there may be over the network: some descriptors are kept back.
    pub connections_limit: u64,
    /// Connections that were turned away since the start, because too few descriptors were left.
    pub connections_turned_away: u64,
    /// Tokens refused since the start.
    pub refused_sign_ins: u64,
    /// Those of today without a record of their own in the audit log, because the day has as many as it may have.
    pub refused_beyond_records: u64,
    /// Requests beyond a limit since the start.
    pub rate_limited: u64,
    /// What quotas of users have refused.
    pub quotas: QuotaCounts,
    /// The process.
    pub process: ProcessCounts,
    /// The certificate, where the server does TLS.
    pub certificate: Option<CertificateStatus>,
    /// Why a certificate that has changed is not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_error: Option<String>,
    /// Why the last reload was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_error: Option<String>,
    /// The keys that tokens are checked with.
    pub keys: Vec<KeyStatus>,
    /// Why keys that have changed are not used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub keys_error: Option<String>,
    /// Where this request came from, as the server sees it.
    pub seen_from: String,
    /// Addresses that speak as a proxy does and are none that is trusted, the most frequent first.
    pub untrusted_proxies: Vec<SeenName>,
    /// Origins of pages that were refused, the most frequent first.
    pub refused_origins: Vec<SeenName>,
    /// Clients that cannot reach Socket.IO.
    pub unreachable: UnreachableCounts,
    /// The rooms with the most messages within about the last minute, at most five, the busiest first.
    pub busiest_rooms: Vec<BusyRoom>,
    /// Who was refused last by a rule, at most five, each with their newest refusal.
    pub refused_users: Vec<RefusedUser>,
}

/// Clients that cannot reach Socket.IO, since the start: why is in the log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct UnreachableCounts {
    /// Clients of Socket.IO 2 and older.
    pub old_clients: u64,
    /// Requests for a WebSocket without the header `Upgrade`: a proxy has removed it.
    pub lost_upgrades: u64,
    /// WebSockets on which nobody signed in within `limits.sign_in`.
    pub unsigned: u64,
}

/// A room that much is said in.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BusyRoom {
    /// The room.
    pub room_id: RoomId,
    /// Messages within about the last minute.
    pub messages: u64,
    /// How many sockets are in it now.
    pub sockets: usize,
}

/// Somebody who was refused.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RefusedUser {
    /// The user.
    pub user_id: UserId,
    /// Their newest refusal.
    #[serde(flatten)]
    pub refusal: RefusalView,
}

/// A name that strangers have given, and how often.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SeenName {
    /// The address or the origin.
    pub name: String,
    /// In how many requests, since the start.
    pub requests: u64,
}

/// Sockets by transport.
#[derive(Debug, Default, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SocketCounts {
    /// All.
    pub total: usize,
    /// On a WebSocket.
    pub websocket: usize,
    /// On long polling.
    pub polling: usize,
    /// By their users' first role.
    pub roles: RoleCounts,
}

/// Sockets by role.
#[derive(Debug, Default, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct RoleCounts {
    /// Administrators.
    pub admin: usize,
    /// HR.
    pub hr: usize,
    /// Coaches.
    pub coach: usize,
    /// Learners.
    pub learner: usize,
    /// Users without a role that is known here.
    pub none: usize,
}

impl RoleCounts {
    /// One more.
    pub fn count(&mut self, role: Option<Role>) {
        *match role {
            Some(Role::Admin) => &mut self.admin,
            Some(Role::Hr) => &mut self.hr,
            Some(Role::Coach) => &mut self.coach,
            Some(Role::Learner) => &mut self.learner,
            None => &mut self.none,
        } += 1;
    }
}

/// The certificate in force.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct CertificateStatus {
    /// Host names and addresses that it is for.
    pub names: Vec<String>,
    /// It and its chain are good from then on, Unix time in milliseconds.
    pub not_before: Timestamp,
    /// It and its chain are good until then, Unix time in milliseconds.
    pub not_after: Timestamp,
    /// Whole days until then.
    pub days_left: u64,
    /// Whether they are good now.
    #[serde(rename = "valid")]
    pub is_valid: bool,
    /// Whose certificate in the chain ends then, if it is not the server's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ends_first: Option<String>,
    /// Whether it has signed itself.
    pub self_signed: bool,
}

/// A key that tokens are checked with; never the key itself.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct KeyStatus {
    /// What tokens call it.
    pub kids: Vec<String>,
    /// What it is for.
    pub algorithms: Vec<String>,
    /// Where it comes from.
    pub origin: String,
    /// Tokens that are signed with it are accepted until then, Unix time in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// What happens in a second, on the average of the last minute.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RateFigures {
    /// Messages stored.
    pub messages: f64,
    /// Events sent to sockets.
    pub deliveries: f64,
    /// HTTP requests.
    pub requests: f64,
}

/// What each quota of a user has refused.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct QuotaCounts {
    /// `limits.stored_per_day`.
    pub stored: QuotaFigures,
    /// `limits.rooms_per_day`.
    pub new_rooms: QuotaFigures,
    /// `limits.lessons_per_user`.
    pub lessons: QuotaFigures,
    /// `limits.reports_per_day`.
    pub reports: QuotaFigures,
}

/// What one quota has refused.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct QuotaFigures {
    /// Requests since the start.
    pub refused: u64,
    /// Users on this day of UTC.
    pub users_today: usize,
}

/// What the process costs.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProcessCounts {
    /// Memory in use, in bytes.
    pub resident_bytes: u64,
    /// Connections and files open.
    pub open_fds: u64,
    /// How many may be.
    pub max_fds: u64,
    /// Time on all processors, in seconds.
    pub cpu_seconds: f64,
}

/// Figures of the store.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct StoreCounts {
    /// The database file, in bytes.
    pub file_bytes: u64,
    /// Requests waiting for the writer.
    pub queued: usize,
    /// Transactions since the start.
    pub commits: u64,
    /// Requests in them.
    pub writes: u64,
    /// The last id given.
    pub last_id: u64,
    /// Half of the commits took no longer than this, in milliseconds; the bound of a histogram.
    pub commit_p50_ms: Option<u64>,
    /// All but one in a hundred took no longer than this.
    pub commit_p99_ms: Option<u64>,
    /// Bytes that are free on the disk.
    pub free_bytes: Option<u64>,
    /// Below so many, writes are refused.
    pub min_free_bytes: u64,
    /// The last good backup.
    pub last_backup: Option<crate::protocol::admin::data::LastBackup>,
}

/// The continuous backup.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ContinuousBackup {
    /// Where it goes.
    pub directory: String,
    /// Seconds that a restore from it would lose now.
    pub lag_seconds: f64,
    /// What is wrong; `None` if all is well.
    pub problem: Option<String>,
    /// Gaps since the start.
    pub gaps: u64,
    /// The moment of its last base backup.
    pub base_at: Option<Timestamp>,
    /// The moment of the last commit in it.
    pub written_at: Option<Timestamp>,
}

/// The forwarding of the audit log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditForward {
    /// To where.
    pub target: String,
    /// The number of the last record that was sent.
    pub sent: u64,
    /// The number of the last record that was taken for certain.
    pub confirmed: u64,
    /// How many records wait.
    pub waiting: u64,
    /// The age of the oldest of them, in seconds; 0 if none waits.
    pub lag_seconds: u64,
    /// Failures since the start.
    pub failures: u64,
    /// What is wrong; `None` if all is well.
    pub problem: Option<String>,
}

/// The index of search.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SearchStatus {
    /// What it is doing: `unused` before the first search, `opening`, `comparing`, `following`, `waiting`.
    pub state: &'static str,
    /// Messages in it.
    pub messages: u64,
    /// The bytes of its files.
    pub bytes: u64,
    /// Every message up to this id is in it.
    pub up_to: u64,
    /// Whether it has all that is stored, but for the last moments.
    pub is_complete: bool,
    /// How long ago it had all that was stored, in seconds.
    pub lag_seconds: u64,
    /// Why it was last begun anew since the start of the server.
    pub rebuilt: Option<String>,
    /// What is wrong; `None` if all is well.
    pub problem: Option<String>,
}

/// One event of the long poll.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct PolledEvent<'a> {
    /// The event's name.
    pub event: &'a str,
    /// Its payload.
    pub payload: &'a RawValue,
}

/// `GET /api/v1/events`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Polled<'a> {
    /// What happened, in order.
    pub events: Vec<PolledEvent<'a>>,
    /// Where to go on.
    pub cursor: String,
}

/// The answer to a cursor that is not of this store's life.
#[derive(Debug, Serialize)]
pub struct Resync<'a> {
    /// `resync`.
    #[serde(flatten)]
    pub error: ErrorBody<'a>,
    /// A cursor to go on from, after fetching the state anew.
    pub cursor: String,
}
