//! Broadcasts without a stored item. One with a key, or that is an administrative act, goes through the store, so that
//! its key, its record and its going out stand or fall together.

use std::sync::Arc;

use crate::domain::Room;

use super::RequestKey;

/// An event of a back end's own, to whoever is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broadcast {
    /// Who gets it.
    pub rooms: Vec<Room>,
    /// The event's name.
    pub event: String,
    /// JSON text.
    pub payload: String,
}

/// Sends a broadcast: it goes out behind the commit, and is kept until it has gone out, so that a crash in between does not
/// lose what was acknowledged. Errors: `KeyReused`.
#[derive(Debug, Clone)]
pub struct SendBroadcast {
    /// What is sent.
    pub broadcast: Arc<Broadcast>,
    /// Makes it idempotent for its caller.
    pub key: Option<RequestKey>,
    /// How many sockets it reached when it was asked for: a part of the first answer.
    pub sockets: u64,
}

/// The first answer to a broadcast, or its repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroadcastSent {
    /// How many sockets it reached when it was first asked for.
    pub sockets: u64,
    /// Whether an earlier request had the same key; then nothing went out now.
    pub duplicate: bool,
}

/// Broadcasts up to a change id have gone out, and need not be kept any more.
#[derive(Debug, Clone)]
pub struct BroadcastsOut {
    /// Up to and with this change.
    pub up_to: u64,
}
