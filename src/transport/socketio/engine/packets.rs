//! What a client sends that is no event of the one namespace: connects, pings, packets of namespaces that do not exist. No service
//! is asked for it, so no budget pays, and yet the library works on each, for a connect in a task of its own. Here they are
//! counted before it sees them: on a WebSocket by the heads of the frames, on polling by the separators in a body.

/// A session may ask to be connected so often: a client does it once.
pub const MAX_CONNECTS: u32 = 16;
/// A body of polling may have so many packets that are no events.
const MAX_OTHERS: u32 = 200;

/// What stands between two packets of a body (Engine.IO, version 4).
const SEPARATOR: u8 = 0x1e;
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
#[derive(Debug, Default)]
pub struct Frames {
    head: [u8; LONGEST],
    have: usize,
    /// How many bytes of the payload are still to come.
    left: u64,
}

impl Frames {
    /// What the next bytes bring.
    pub fn read(&mut self, mut bytes: &[u8]) -> Others {
        let mut others = Others::default();
        while let Some(byte) = bytes.first() {
            if self.left > 0 {
                let passed = usize::try_from(self.left).unwrap_or(usize::MAX).min(bytes.len());
                self.left -= passed as u64;
                bytes = bytes.get(passed..).unwrap_or_default();
                continue;
            }
            if let Some(place) = self.head.get_mut(self.have) {
                *place = *byte;
            }
            self.have += 1;
            bytes = bytes.get(1..).unwrap_or_default();
            let (head, length) = self.lengths();
            let telling = usize::try_from(length).unwrap_or(usize::MAX).min(TELLING);
            if self.have >= head + telling {
                self.note(head, length, &mut others);
                (self.have, self.left) = (0, length - telling as u64);
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
            let mut frames = Frames::default();
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
