//! The packet that the server sends itself through the Engine.IO library to learn that everything queued there before has been
//! written. It never reaches a client: the connection takes it out. Nobody else can send it: its payload is a secret of this
//! process, so that a back end's broadcast of the same name is an event like any other.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::protocol::packet::Packet;
use crate::transport::socketio::engine::frame;

static MARKER: LazyLock<(String, Bytes)> = LazyLock::new(|| {
    let mut secret = [0_u8; 16];
    // Without random numbers the server does not start: they are asked for before, for the feed.
    let _ = getrandom::fill(&mut secret);
    let secret = format!("{:032x}", u128::from_le_bytes(secret));
    let frame = frame::of(&Packet::event(Marker::EVENT, &secret));
    (secret, frame)
});

/// The marker.
#[derive(Debug)]
pub struct Marker;

impl Marker {
    /// The name of its event.
    pub const EVENT: &str = "wire:direct";

    /// Its payload.
    #[must_use]
    pub fn secret() -> &'static str {
        &MARKER.0
    }

    /// Its length on the connection if these bytes begin with it, as the library writes it.
    #[must_use]
    pub fn len_in(bytes: &[u8]) -> Option<usize> {
        bytes.starts_with(&MARKER.1).then(|| MARKER.1.len())
    }
}
