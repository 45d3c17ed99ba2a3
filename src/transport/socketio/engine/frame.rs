//! WebSocket frames (RFC 6455) as a server sends them: unmasked, of text, in one piece. The only place that makes one.

use bytes::{BufMut, Bytes, BytesMut};

use crate::protocol::packet::Packet;
use crate::realtime::batch::Encoded;

/// The longest header of a frame.
const MAX_HEADER: usize = 10;
const FIN_TEXT: u8 = 0x81;
/// A frame that closes, with code 1012: the service restarts. The client closes the connection when it has read what is
/// before.
pub const CLOSE: &[u8] = &close(1_012);
/// A frame that closes, and does not say why.
pub const CLOSE_BARE: &[u8] = &[0x88, 0x00];
/// The codes of what closes a WebSocket at once (RFC 6455, 7.4.1): a frame that is none, text that is none, and too much.
pub const PROTOCOL: u16 = 1_002;
/// See [`PROTOCOL`].
pub const NO_TEXT: u16 = 1_007;
/// See [`PROTOCOL`].
pub const TOO_LARGE: u16 = 1_009;

/// A frame that closes, with a code.
#[must_use]
pub const fn close(code: u16) -> [u8; 4] {
    let [high, low] = code.to_be_bytes();
    [0x88, 0x02, high, low]
}

/// The frames of packets, one behind another in one piece: one write a socket.
#[must_use]
pub fn encode(packets: &[Packet]) -> Encoded {
    let mut bytes = BytesMut::with_capacity(packets.iter().map(|packet| MAX_HEADER + packet.text().len()).sum());
    let mut starts = Vec::with_capacity(packets.len());
    for packet in packets {
        starts.push(bytes.len());
        put_text(&mut bytes, packet.text());
    }
    Encoded { bytes: bytes.freeze(), starts }
}

/// The frame of one packet.
#[must_use]
pub fn of(packet: &Packet) -> Bytes {
    let mut bytes = BytesMut::with_capacity(MAX_HEADER + packet.text().len());
    put_text(&mut bytes, packet.text());
    bytes.freeze()
}

#[allow(clippy::cast_possible_truncation, reason = "each length is within the bound of its branch")]
fn put_text(bytes: &mut BytesMut, text: &[u8]) {
    bytes.put_u8(FIN_TEXT);
    match text.len() {
        len @ 0..=125 => bytes.put_u8(len as u8),
        len @ 126..=0xffff => {
            bytes.put_u8(126);
            bytes.put_u16(len as u16);
        }
        len => {
            bytes.put_u8(127);
            bytes.put_u64(len as u64);
        }
    }
    bytes.put_slice(text);
}

/// The length of the whole frame that begins with these bytes, if its header is there. Only of frames that a server sends.
#[must_use]
pub fn len_of(bytes: &[u8]) -> Option<usize> {
    let (&first_len, rest) = (bytes.get(1)?, bytes.get(2..)?);
    match first_len & 0x7f {
        126 => {
            let len: [u8; 2] = rest.get(..2)?.try_into().ok()?;
            Some(4 + usize::from(u16::from_be_bytes(len)))
        }
        127 => {
            let len: [u8; 8] = rest.get(..8)?.try_into().ok()?;
            usize::try_from(u64::from_be_bytes(len)).ok()?.checked_add(10)
        }
        len => Some(2 + usize::from(len)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_packet_is_one_text_frame() {
        let packet = Packet::event("chat:typing", &serde_json::json!({"isTyping": true}));
        let frame = of(&packet);
        assert_eq!((frame[0], usize::from(frame[1])), (0x81, packet.text().len()));
        assert_eq!(frame[2..], packet.text()[..]);
    }

    proptest! {
        #[test]
        fn frames_end_where_the_next_begins(lens in prop::collection::vec(prop_oneof![0usize..300, 65_500usize..65_600], 1..4)) {
            let packets: Vec<Packet> = lens.iter().map(|len| Packet::event("e", &"x".repeat(*len))).collect();
            let Encoded { bytes, starts } = encode(&packets);
            for (at, packet) in starts.iter().zip(&packets) {
                let len = len_of(&bytes[*at..]).unwrap();
                prop_assert!(bytes[*at..at + len].ends_with(packet.text()));
                prop_assert_eq!(len_of(&bytes[*at..=*at]), None);
            }
        }

        #[test]
        fn any_bytes_have_a_length_or_none(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = len_of(&bytes);
        }
    }
}
