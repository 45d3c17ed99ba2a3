//! The one encoding of a delivery. [`Frame`] holds the bytes of an unmasked WebSocket text frame (RFC 6455) around the
//! Engine.IO message around the Socket.IO packet: a WebSocket writes it as it is, the polling transport and the long poll
//! take the JSON out of the same bytes.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

/// Room for the longest header of a frame.
const MAX_HEADER: usize = 10;

/// One encoded Socket.IO packet. Cloning it copies a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// `42["name",payload]`.
    #[must_use]
    pub fn event<T: Serialize + ?Sized>(name: &str, payload: &T) -> Frame {
        Frame::encode("42", &(name, payload))
    }

    /// `43<id>[payload]`: the answer to a request.
    #[must_use]
    pub fn ack<T: Serialize + ?Sized>(id: i64, payload: &T) -> Frame {
        Frame::encode(&format!("43{id}"), &(payload,))
    }

    fn encode<T: Serialize>(prefix: &str, array: &T) -> Frame {
        let mut body = BytesMut::with_capacity(512);
        body.put_bytes(0, MAX_HEADER);
        body.put_slice(prefix.as_bytes());
        // Serialising our own payloads cannot fail: no map has keys that are not text. Should one ever, the client gets an
        // empty array in its place rather than the process an abort.
        if serde_json::to_writer((&mut body).writer(), array).is_err() {
            body.truncate(MAX_HEADER + prefix.len());
            body.put_slice(b"[]");
        }
        let payload_len = body.len() - MAX_HEADER;
        let mut header = [0_u8; MAX_HEADER];
        let header_len = write_header(&mut header, payload_len);
        let start = MAX_HEADER - header_len;
        if let (Some(target), Some(source)) = (body.get_mut(start..MAX_HEADER), header.get(..header_len)) {
            target.copy_from_slice(source);
        }
        Frame(body.freeze().slice(start..))
    }

    /// The whole WebSocket frame.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    /// The JSON array of the packet: `["name",payload]` or `[payload]`.
    #[must_use]
    pub fn json(&self) -> &str {
        json_of(&self.0).unwrap_or("[]")
    }

    /// The payload of an event, as JSON text.
    #[must_use]
    pub fn payload(&self) -> Option<&RawValue> {
        let (_, payload): (&RawValue, &RawValue) = serde_json::from_str(self.json()).ok()?;
        Some(payload)
    }
}

/// Writes the header of an unmasked text frame and gives its length.
#[allow(clippy::cast_possible_truncation, reason = "each length is within the bound of its branch")]
fn write_header(header: &mut [u8; MAX_HEADER], payload_len: usize) -> usize {
    const FIN_TEXT: u8 = 0x81;
    match payload_len {
        0..=125 => {
            header[0] = FIN_TEXT;
            header[1] = payload_len as u8;
            2
        }
        126..=0xffff => {
            header[0] = FIN_TEXT;
            header[1] = 126;
            header[2..4].copy_from_slice(&(payload_len as u16).to_be_bytes());
            4
        }
        _ => {
            header[0] = FIN_TEXT;
            header[1] = 127;
            header[2..10].copy_from_slice(&(payload_len as u64).to_be_bytes());
            10
        }
    }
}

/// The length of the whole frame that begins with these bytes, if its header is there. Only of frames that a server sends.
#[must_use]
pub fn frame_len(bytes: &[u8]) -> Option<usize> {
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

/// The JSON array of the packet in a whole frame of ours.
#[must_use]
pub fn json_of(frame: &[u8]) -> Option<&str> {
    let header = match frame.get(1)? & 0x7f {
        126 => 4,
        127 => 10,
        _ => 2,
    };
    let packet = frame.get(header..)?;
    let at = packet.iter().position(|byte| *byte == b'[')?;
    std::str::from_utf8(packet.get(at..)?).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_a_text_frame_around_a_packet() {
        let frame = Frame::event("chat:typing", &serde_json::json!({"isTyping": true}));
        let text = br#"42["chat:typing",{"isTyping":true}]"#;
        assert_eq!(frame.bytes()[0], 0x81);
        assert_eq!(usize::from(frame.bytes()[1]), text.len());
        assert_eq!(&frame.bytes()[2..], text);
        assert_eq!(frame.json(), r#"["chat:typing",{"isTyping":true}]"#);
        assert_eq!(frame.payload().unwrap().get(), r#"{"isTyping":true}"#);
    }

    #[test]
    fn an_ack_has_its_id_before_the_array() {
        let frame = Frame::ack(12, &serde_json::json!({"ok": true}));
        assert_eq!(&frame.bytes()[2..], br#"4312[{"ok":true}]"#);
        assert_eq!(frame.json(), r#"[{"ok":true}]"#);
    }

    proptest! {
        #[test]
        fn the_header_gives_the_length_back(len in prop_oneof![0usize..300, 65_000usize..66_000]) {
            let frame = Frame::event("e", &"x".repeat(len));
            prop_assert_eq!(frame_len(frame.bytes()), Some(frame.bytes().len()));
            prop_assert_eq!(frame_len(&frame.bytes()[..1]), None);
            let back: (String, String) = serde_json::from_str(frame.json()).unwrap();
            prop_assert_eq!(back.1.len(), len);
        }

        #[test]
        fn any_bytes_have_a_length_or_none(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
            let _ = frame_len(&bytes);
        }
    }
}
