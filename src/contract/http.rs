//! Bodies that only the HTTP API has: errors, health, status, the long poll (CONTRACT 3).

use serde::Serialize;
use serde_json::value::RawValue;

use super::errors::WireError;

/// `{ "error": { code, message, field? } }`.
#[derive(Debug, Serialize)]
pub struct ErrorBody<'a> {
    /// What is wrong.
    pub error: &'a WireError,
}

/// `GET /api/health`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Health {
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
    /// What went out since the start.
    pub deliveries: u64,
    /// Sockets cut off because they did not keep up.
    pub slow_readers: u64,
}

/// Sockets by transport.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub struct SocketCounts {
    /// All.
    pub total: usize,
    /// On a WebSocket.
    pub websocket: usize,
    /// On long polling.
    pub polling: usize,
}

/// Figures of the store.
#[derive(Debug, Serialize)]
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
    /// The last good backup.
    pub last_backup: Option<super::care::LastBackup>,
}

/// One event of the long poll.
#[derive(Debug, Serialize)]
pub struct PolledEvent<'a> {
    /// The event's name.
    pub event: &'a str,
    /// Its payload.
    pub payload: &'a RawValue,
}

/// `GET /api/v1/events`.
#[derive(Debug, Serialize)]
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
    pub error: &'a WireError,
    /// A cursor to go on from, after fetching the state anew.
    pub cursor: String,
}
