//! The one encoding of a delivery: a [`Packet`] is the text of a Socket.IO packet inside its Engine.IO message, as every
//! transport says it. A WebSocket puts a frame around it, polling and the long poll take the payload out of it; that is
//! theirs to know.

use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

/// What comes before the array of an event: an Engine.IO message, a Socket.IO event.
const EVENT: &str = "42";
/// And before that of the answer to a request, with the request's number behind it.
const ACK: &str = "43";

/// One encoded Socket.IO packet. Cloning it copies a pointer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Packet {
    text: Bytes,
    /// Where the payload of an event begins; it ends before the last byte. 0 for an answer.
    payload: usize,
}

impl Packet {
    /// `42["name",payload]`.
    #[must_use]
    pub fn event<T: Serialize + ?Sized>(name: &str, payload: &T) -> Packet {
        let mut text = begun(EVENT);
        // Serialising our own payloads cannot fail: no map has keys that are not text. Should one ever, the client gets null
        // in its place rather than the process an abort.
        append(&mut text, name);
        text.put_u8(b',');
        let payload_at = text.len();
        append(&mut text, payload);
        text.put_u8(b']');
        Packet { text: text.freeze(), payload: payload_at }
    }

    /// `43<id>[payload]`: the answer to a request.
    #[must_use]
    pub fn ack<T: Serialize + ?Sized>(id: i64, payload: &T) -> Packet {
        let mut text = begun(&format!("{ACK}{id}"));
        append(&mut text, payload);
        text.put_u8(b']');
        Packet { text: text.freeze(), payload: 0 }
    }

    /// The text of the whole packet.
    #[must_use]
    pub fn text(&self) -> &Bytes {
        &self.text
    }

    /// The name and the payload of an event, as JSON; `None` of an answer.
    #[must_use]
    pub fn parts(&self) -> Option<(String, &RawValue)> {
        let end = self.payload.checked_sub(1)?;
        let name = serde_json::from_slice(self.text.get(EVENT.len() + 1..end)?).ok()?;
        Some((name, self.payload()?))
    }

    /// The payload of an event, as JSON text; `None` of an answer.
    #[must_use]
    pub fn payload(&self) -> Option<&RawValue> {
        let start = Some(self.payload).filter(|start| *start > 0)?;
        serde_json::from_slice(self.text.get(start..self.text.len().checked_sub(1)?)?).ok()
    }
}

fn begun(prefix: &str) -> BytesMut {
    let mut text = BytesMut::with_capacity(512);
    text.put_slice(prefix.as_bytes());
    text.put_u8(b'[');
    text
}

fn append<T: Serialize + ?Sized>(text: &mut BytesMut, value: &T) {
    let before = text.len();
    if serde_json::to_writer(text.writer(), value).is_err() {
        text.truncate(before);
        text.put_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_event_is_a_packet_with_its_name_and_payload() {
        let packet = Packet::event("chat:typing", &serde_json::json!({"isTyping": true}));
        assert_eq!(packet.text(), &br#"42["chat:typing",{"isTyping":true}]"#[..]);
        assert_eq!(packet.payload().unwrap().get(), r#"{"isTyping":true}"#);
        let (name, payload) = packet.parts().unwrap();
        assert_eq!((name.as_str(), payload.get()), ("chat:typing", r#"{"isTyping":true}"#));
    }

    #[test]
    fn an_ack_has_its_id_before_the_array_and_is_no_event() {
        let packet = Packet::ack(12, &serde_json::json!({"ok": true}));
        assert_eq!(packet.text(), &br#"4312[{"ok":true}]"#[..]);
        assert!(packet.payload().is_none() && packet.parts().is_none());
    }

    proptest! {
        #[test]
        fn any_name_and_text_come_back(name in ".{0,20}", text in ".{0,80}") {
            let packet = Packet::event(&name, &text);
            let (name_back, payload) = packet.parts().unwrap();
            prop_assert_eq!(name_back, name);
            prop_assert_eq!(serde_json::from_str::<String>(payload.get()).unwrap(), text);
        }
    }
}
