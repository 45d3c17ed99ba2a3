//! Packets that go out together, in order, and the form in which a transport writes them: it is made by the first socket that
//! needs it, and shared by all others of the room.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;

use crate::protocol::packet::Packet;

/// Packets as a transport writes them.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// All of them, one behind another.
    pub bytes: Bytes,
    /// Where each of them begins.
    pub starts: Vec<usize>,
}

/// Packets that go out together.
#[derive(Debug, Default)]
pub struct Batch {
    packets: Vec<Packet>,
    encoded: OnceLock<Encoded>,
}

impl Batch {
    /// These packets, in this order.
    #[must_use]
    pub fn new(packets: Vec<Packet>) -> Batch {
        Batch { packets, encoded: OnceLock::new() }
    }

    /// All of them.
    #[must_use]
    pub fn all(&self) -> Packets<'_> {
        self.starting_at(0)
    }

    /// Those from an index on.
    #[must_use]
    pub fn starting_at(&self, start: usize) -> Packets<'_> {
        self.part(start..self.packets.len())
    }

    /// Those from an index to before another.
    #[must_use]
    pub fn part(&self, range: Range<usize>) -> Packets<'_> {
        Packets { batch: self, range }
    }
}

impl From<Packet> for Batch {
    fn from(packet: Packet) -> Batch {
        Batch::new(vec![packet])
    }
}

/// A part of a batch.
#[derive(Debug, Clone)]
pub struct Packets<'b> {
    batch: &'b Batch,
    range: Range<usize>,
}

impl Packets<'_> {
    /// The packets.
    pub fn iter(&self) -> impl Iterator<Item = &Packet> {
        self.batch.packets.iter().take(self.range.end).skip(self.range.start)
    }

    /// The part as a transport writes it. `encode` is called once a batch: one encoding serves all sockets. Borrowed where it is
    /// the whole batch, as for almost every socket of a room: nothing is counted for each of them.
    #[must_use]
    pub fn encoded(&self, encode: fn(&[Packet]) -> Encoded) -> Cow<'_, Bytes> {
        let Encoded { bytes, starts } = self.batch.encoded.get_or_init(|| encode(&self.batch.packets));
        if self.range == (0..starts.len()) {
            return Cow::Borrowed(bytes);
        }
        let at = |index: usize| starts.get(index).copied().unwrap_or(bytes.len());
        Cow::Owned(bytes.slice(at(self.range.start)..at(self.range.end)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plain(packets: &[Packet]) -> Encoded {
        let mut encoded = Encoded { bytes: Bytes::new(), starts: Vec::new() };
        let mut bytes = Vec::new();
        for packet in packets {
            encoded.starts.push(bytes.len());
            bytes.extend_from_slice(packet.text());
        }
        encoded.bytes = bytes.into();
        encoded
    }

    #[test]
    fn a_part_is_what_is_in_it() {
        let batch = Batch::new((0..3).map(|n| Packet::event("e", &n)).collect());
        assert_eq!(*batch.all().encoded(plain), &b"42[\"e\",0]42[\"e\",1]42[\"e\",2]"[..]);
        assert_eq!(*batch.starting_at(1).encoded(plain), &b"42[\"e\",1]42[\"e\",2]"[..]);
        assert_eq!(*batch.part(1..2).encoded(plain), &b"42[\"e\",1]"[..]);
        assert_eq!(batch.part(2..3).iter().count(), 1);
        assert_eq!(batch.starting_at(3).encoded(plain).len(), 0);
    }
}
