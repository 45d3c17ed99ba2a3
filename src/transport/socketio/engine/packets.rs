//! What a client sends that is no event of the one namespace: connects, pings, packets of namespaces that do not exist. No service
//! is asked for it, so no budget pays, and yet the library works on each, for a connect in a task of its own. Here they are
//! counted before it sees them: on a WebSocket by the heads of the frames, on polling by the separators in a body.

/// A session may ask to be connected so often: a client does it once.
pub const MAX_CONNECTS: u32 = 16;
/// A body of polling may have so many packets that are no events.
const MAX_OTHERS: u32 = 200;

use crate::transport::socketio::engine::frame;

/// What stands between two packets of a body (Engine.IO, version 4).
pub const SEPARATOR: u8 = 0x1e;
/// So many bytes of a packet tell what it is.
const TELLING: usize = 3;
/// The longest head of a frame: two bytes, the length, the mask; and behind it what tells.
const LONGEST: usize = 2 + 8 + 4 + TELLING;
/// A part of a message that is at least so long is counted by its bytes, elsewhere.
const LARGE: u64 = 1_024;

/// How many of them came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Others {
    /// Of all, those that ask to be connected.
    pub connects: u32,
    /// All.
    pub all: u32,
}

impl Others {
    fn note(&mut self, telling: &[u8]) {
        match telling {
            [b'4', b'2', b'/', ..] => {}
            [b'4', b'2', ..] => return,
            [b'4', b'0', ..] => self.connects += 1,
            _ => {}
        }
        self.all += 1;
    }
}

/// Reads the frames of a client, from the first one on.
#[derive(Debug)]
pub struct Frames {
    head: [u8; LONGEST],
    have: usize,
    /// How many bytes of the payload are still to come.
    left: u64,
    /// The most bytes of a message.
    most: u64,
    /// The message that is under way.
    message: Message,
    /// The code of what a frame has broken; what comes behind it is not looked at.
    violation: Option<u16>,
}

/// A message, in one frame or several.
#[derive(Debug, Default)]
struct Message {
    is_open: bool,
    bytes: u64,
    text: Option<Text>,
    /// How many bytes of the current frame have been unmasked.
    unmasked: usize,
    /// Whether the current frame ends it.
    is_last: bool,
}

/// Text that comes in pieces, and ought to be UTF-8.
#[derive(Debug, Default)]
struct Text {
    rest: [u8; 3],
    have: usize,
}

impl Text {
    /// More of it, in the place where it came. Gives whether it is text so far.
    fn read(&mut self, mut bytes: &[u8]) -> bool {
        while self.have > 0 {
            let Some((next, rest)) = bytes.split_first() else { return true };
            bytes = rest;
            let mut character = [0; 4];
            for (place, byte) in character.iter_mut().zip(self.rest.iter().take(self.have).chain([next])) {
                *place = *byte;
            }
            match std::str::from_utf8(character.get(..=self.have).unwrap_or_default()) {
                Ok(_) => self.have = 0,
                Err(error) if error.error_len().is_some() => return false,
                Err(_) => self.keep(character.get(..=self.have).unwrap_or_default()),
            }
        }
        match std::str::from_utf8(bytes) {
            Ok(_) => true,
            Err(error) if error.error_len().is_some() => false,
            Err(error) => {
                self.keep(bytes.get(error.valid_up_to()..).unwrap_or_default());
                true
            }
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        self.have = bytes.len().min(self.rest.len());
        for (place, byte) in self.rest.iter_mut().zip(bytes) {
            *place = *byte;
        }
    }
}

impl Frames {
    /// Of a client whose messages have so many bytes at most.
    #[must_use]
    pub fn new(most: usize) -> Frames {
        let message = Message::default();
        Frames { head: [0; LONGEST], have: 0, left: 0, most: most as u64, message, violation: None }
    }

    /// Begins anew.
    pub fn begin(&mut self) {
        (self.have, self.left, self.message, self.violation) = (0, 0, Message::default(), None);
    }

    /// Whether the last frame has come whole, and the next one has not begun.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// The code to close with, if a frame was none, or too large, or its text is none.
    #[must_use]
    pub fn violation(&self) -> Option<u16> {
        self.violation
    }

    /// The head of a frame is there. Looks whether it is one.
    fn check(&mut self, length: u64) {
        let (first, is_masked) = (self.byte(0), self.byte(1) & 0x80 != 0);
        let (opcode, is_last) = (first & 0x0f, first & 0x80 != 0);
        let message = &mut self.message;
        let is_good = first & 0x70 == 0
            && is_masked
            && match opcode {
                0 => message.is_open,
                1 | 2 => !message.is_open,
                8..=10 => is_last && length <= 125,
                _ => false,
            };
        if !is_good {
            self.violation.get_or_insert(frame::PROTOCOL);
            return;
        }
        (message.unmasked, message.is_last) = (0, is_last && opcode < 8);
        if opcode >= 8 {
            return;
        }
        if opcode > 0 {
            *message = Message { text: (opcode == 1).then(Text::default), is_last, ..Message::default() };
        }
        message.is_open = !is_last;
        message.bytes = message.bytes.saturating_add(length);
        if message.bytes > self.most {
            self.violation.get_or_insert(frame::TOO_LARGE);
        }
    }

    /// Bytes of the payload of the current frame, still masked.
    fn look(&mut self, payload: &[u8]) {
        let opcode = self.byte(0) & 0x0f;
        if self.violation.is_some() || opcode >= 8 || self.message.text.is_none() {
            return;
        }
        let head = self.mask_end();
        let mask: [u8; 4] = std::array::from_fn(|at| self.byte(head - 4 + at));
        let mut plain = [0; 256];
        for part in payload.chunks(plain.len()) {
            let masks = mask.iter().cycle().skip(self.message.unmasked % 4);
            for ((place, byte), mask) in plain.iter_mut().zip(part).zip(masks) {
                *place = byte ^ mask;
            }
            self.message.unmasked += part.len();
            let is_text =
                self.message.text.as_mut().is_none_or(|text| text.read(plain.get(..part.len()).unwrap_or_default()));
            if !is_text {
                self.violation = Some(frame::NO_TEXT);
                return;
            }
        }
    }

    /// The payload of the current frame has come.
    fn end(&mut self) {
        let is_torn = self.message.text.as_ref().is_some_and(|text| text.have > 0);
        if self.message.is_last && is_torn {
            self.violation.get_or_insert(frame::NO_TEXT);
        }
    }

    /// Where the mask of the current frame ends.
    fn mask_end(&self) -> usize {
        match self.byte(1) & 0x7f {
            126 => 8,
            127 => 14,
            _ => 6,
        }
    }

    /// What the next bytes bring.
    pub fn read(&mut self, mut bytes: &[u8]) -> Others {
        let mut others = Others::default();
        while let Some(byte) = bytes.first() {
            if self.left > 0 {
                let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.look(bytes.get(..passed).unwrap_or_default());
                self.left -= passed as u64;
                if self.left == 0 {
                    self.end();
                }
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            bytes = bytes.get(1..).unwrap_or_default();
            let (head, length) = self.lengths();
            if self.have == head && self.violation.is_none() {
                self.check(length);
            }
            let telling = usize::try_from(length).unwrap_or(usize::MAX).min(TELLING);
            if self.have >= head + telling {
                self.note(head, length, &mut others);
                let payload = self.head;
                self.look(payload.get(head..self.have).unwrap_or_default());
                (self.have, self.left) = (0, length - telling as u64);
                if self.left == 0 {
                    self.end();
                }
            }
        }
        others
    }

    fn byte(&self, at: usize) -> u8 {
        self.head.get(at).copied().unwrap_or_default()
    }

    /// The lengths of the head and of the payload, as far as they are known.
    fn lengths(&self) -> (usize, u64) {
        let mask = if self.byte(1) & 0x80 == 0 { 0 } else { 4 };
        let extended = match self.byte(1) & 0x7f {
            126 => 2,
            127 => 8,
            length if self.have >= 2 => return (2 + mask, u64::from(length)),
            _ => return (2, 0),
        };
        let length = (2..2 + extended).fold(0, |length, at| length << 8 | u64::from(self.byte(at)));
        (2 + extended + mask, length)
    }

    fn note(&self, head: usize, length: u64, others: &mut Others) {
        let is_masked = self.byte(1) & 0x80 != 0;
        let payload = self.head.get(head..self.have).unwrap_or_default();
        let unmasked =
            payload.iter().enumerate().map(|(n, byte)| byte ^ if is_masked { self.byte(head - 4 + n) } else { 0 });
        let telling: Vec<u8> = unmasked.collect();
        let is_last = self.byte(0) & 0x80 != 0;
        match self.byte(0) & 0x0f {
            // What is torn so that it does not tell what it is may be a connect.
            1 if !is_last && telling.len() < TELLING => others.note(b"40"),
            1 => others.note(&telling),
            0 if length >= LARGE => {}
            _ => others.note(&[]),
        }
    }
}

/// Reads the packets of one body of polling.
#[derive(Debug, Default)]
pub struct Packets {
    telling: [u8; TELLING],
    have: usize,
    others: Others,
}

impl Packets {
    /// Reads on. `false` if there are more packets that are no events than a client has to say.
    pub fn read(&mut self, bytes: &[u8]) -> bool {
        for (n, part) in bytes.split(|byte| *byte == SEPARATOR).enumerate() {
            if n > 0 {
                let telling = self.telling.get(..self.have).unwrap_or_default();
                self.others.note(telling);
                self.have = 0;
            }
            for (place, byte) in self.telling.iter_mut().skip(self.have).zip(part) {
                *place = *byte;
                self.have += 1;
            }
        }
        self.others.connects <= MAX_CONNECTS && self.others.all <= MAX_OTHERS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, mask: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![first];
        match payload.len() {
            length @ ..126 => frame.push(0x80 | u8::try_from(length).unwrap()),
            length @ ..65_536 => {
                frame.push(0x80 | 126);
                frame.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            length => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn frames_are_told_apart_however_they_are_cut() {
        let large = format!("42[\"x\",\"{}\"]", "40".repeat(40_000));
        let medium = format!("42[\"x\",\"{}\"]", "40".repeat(400));
        let all = [
            frame(0x81, [1, 2, 3, 4], b"40{\"token\":\"x\"}"),
            frame(0x81, [9; 4], b"40"),
            frame(0x81, [0; 4], b"3"),
            frame(0x81, [7; 4], large.as_bytes()),
            frame(0x81, [8; 4], medium.as_bytes()),
            frame(0x81, [5; 4], b"42[]"),
            frame(0x81, [5; 4], b"427[\"x\"]"),
            frame(0x81, [5; 4], b"42/x,[]"),
            frame(0x81, [5; 4], b"40/x,"),
            frame(0x89, [5; 4], b""),
            frame(0x01, [5; 4], b"4"),
            frame(0x80, [6; 4], b"2[]"),
            frame(0x82, [6; 4], b"42[]"),
        ]
        .concat();
        for cut in [1, 2, 3, 5, 7, 64, 2_048, all.len()] {
            let mut frames = Frames::new(1_000_000);
            let mut sum = Others::default();
            for part in all.chunks(cut) {
                let others = frames.read(part);
                sum.connects += others.connects;
                sum.all += others.all;
            }
            assert_eq!(sum, Others { connects: 4, all: 9 }, "{cut}");
        }
    }

    #[test]
    fn a_body_has_so_many_connects_and_others_and_as_many_events_as_it_likes() {
        let read = |body: &str, cut: usize| {
            let mut packets = Packets::default();
            body.as_bytes().chunks(cut).all(|part| packets.read(part))
        };
        for cut in [1, 2, 3, 1_000] {
            assert!(read(&"42[\"x\"]\u{1e}".repeat(5_000), cut));
            assert!(read(&"40\u{1e}".repeat(16), cut));
            assert!(!read(&"40\u{1e}".repeat(17), cut));
            assert!(!read(&"40/x,\u{1e}".repeat(17), cut));
            assert!(read(&"3\u{1e}".repeat(200), cut));
            assert!(!read(&"3\u{1e}".repeat(201), cut));
        }
    }
}
