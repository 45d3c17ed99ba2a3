//! Answers to polls, compressed (gzip, RFC 1952) where the client takes it.
//!
//! Who sees the length of an answer that was compressed learns something of a secret in it, if they can have a guess of theirs
//! compressed together with it (BREACH). An answer to a poll has packets of many senders side by side, so two things hold here:
//!
//! - packets of two rooms are never compressed together: each room's begin with an empty window and tables of their own;
//! - what is not of one chat room alone (who somebody is, notifications, progress, lists over rooms, refusals, the session's id) goes
//!   as it is.
//!
//! So a guess is compressed with what is in its own room, and who may write there may read there. An administrator may be shown more of
//! a room than its members: answers to them are not compressed at all (`SocketIoTransport::gzip`).

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use flate2::{Compress, Compression, Crc, FlushCompress};
use http::header::{ACCEPT_ENCODING, HeaderMap};
use parking_lot::Mutex;

use crate::config::capacity;
use crate::transport::socketio::engine::packets::SEPARATOR;

/// An answer of fewer bytes is not worth it.
pub const FROM_BYTES: usize = 1_024;
/// Packets of a room that come to less than this go as they are: a compressor costs more to set up.
const ROOM_FROM_BYTES: usize = 256;
/// So much is done, and then others have their turn on the thread.
const PIECE_BYTES: usize = 16 << 10;
/// What the set-up of a compressor is worth in such bytes.
const SET_UP_BYTES: usize = 4 << 10;
/// The longest block that is stored (RFC 1951, 3.2.4).
const STORED_BYTES: usize = 65_535;

/// The events that everybody in a room receives, and nobody else: a back end that broadcasts one of these sends it to the room. Other
/// names of chats may be a back end's own, to one user, with whatever it likes.
const OF_ROOMS: [&str; 3] = ["chat:message", "chat:message-edited", "chat:message-deleted"];

/// A head that says nothing of the file (RFC 1952, 2.3).
const HEAD: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The last block, with nothing in it.
const LAST_BLOCK: [u8; 5] = [1, 0, 0, 0xff, 0xff];

/// The compressors, [`capacity::COMPRESSORS`] of them. When all are at work, an answer goes out as it is.
#[derive(Debug, Default)]
pub struct Compressors(Mutex<Idle>);

#[derive(Debug, Default)]
struct Idle {
    compressors: Vec<Compress>,
    made: usize,
}

/// One of them, until it is given back.
struct Taken {
    from: Arc<Compressors>,
    compressor: Option<Compress>,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.from.0.lock().compressors.extend(self.compressor.take());
    }
}

impl Compressors {
    fn take(self: &Arc<Self>) -> Option<Taken> {
        let mut idle = self.0.lock();
        let found = idle.compressors.pop();
        let compressor = match found {
            Some(compressor) => compressor,
            None if idle.made < capacity::COMPRESSORS => {
                idle.made += 1;
                Compress::new(Compression::fast(), false)
            }
            None => return None,
        };
        Some(Taken { from: self.clone(), compressor: Some(compressor) })
    }

    /// An answer to a poll as gzip; `None` if it goes out as it is.
    pub async fn gzip(self: &Arc<Self>, answer: &Bytes) -> Option<Bytes> {
        if answer.len() < FROM_BYTES {
            return None;
        }
        let parts = parts_of(answer);
        if !parts.iter().any(|part| part.is_of_a_room) {
            return None;
        }
        let mut taken = self.take()?;
        let compressor = taken.compressor.as_mut()?;
        let (mut crc, mut out) = (Crc::new(), Vec::with_capacity(answer.len() / 3));
        out.extend_from_slice(&HEAD);
        let mut done = 0;
        for part in parts {
            if part.is_of_a_room {
                compressor.reset();
                done += SET_UP_BYTES;
            }
            let bytes = answer.get(part.at)?;
            let most = if part.is_of_a_room { PIECE_BYTES } else { STORED_BYTES };
            let mut pieces = bytes.chunks(most).peekable();
            while let Some(piece) = pieces.next() {
                crc.update(piece);
                if part.is_of_a_room {
                    // Behind the last one the next block begins with a byte of its own, and looks back at nothing.
                    let flush = if pieces.peek().is_none() { FlushCompress::Sync } else { FlushCompress::None };
                    deflate(compressor, piece, flush, &mut out)?;
                } else {
                    store(piece, &mut out)?;
                }
                done += piece.len();
                if done >= PIECE_BYTES {
                    done = 0;
                    tokio::task::yield_now().await;
                }
            }
            if out.len() >= answer.len() {
                return None;
            }
        }
        out.extend_from_slice(&LAST_BLOCK);
        out.extend_from_slice(&crc.sum().to_le_bytes());
        out.extend_from_slice(&crc.amount().to_le_bytes());
        (out.len() < answer.len()).then(|| Bytes::from(out))
    }
}

fn deflate(compressor: &mut Compress, bytes: &[u8], flush: FlushCompress, out: &mut Vec<u8>) -> Option<()> {
    let (mut rest, mut some) = (bytes, [0; 4_096]);
    loop {
        let (read, written) = (compressor.total_in(), compressor.total_out());
        compressor.compress(rest, &mut some, flush).ok()?;
        let read = usize::try_from(compressor.total_in() - read).ok()?;
        let written = usize::try_from(compressor.total_out() - written).ok()?;
        rest = rest.get(read..)?;
        out.extend_from_slice(some.get(..written)?);
        if rest.is_empty() && written < some.len() {
            return Some(());
        }
    }
}

fn store(bytes: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let len = u16::try_from(bytes.len()).ok()?;
    out.push(0);
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&(!len).to_le_bytes());
    out.extend_from_slice(bytes);
    Some(())
}

/// Bytes of an answer that belong together.
struct Part {
    at: Range<usize>,
    /// Whether they are packets of one room, and worth it.
    is_of_a_room: bool,
}

/// The answer in parts, with the separators: packets of one room that stand side by side, and what stands between them.
fn parts_of(answer: &[u8]) -> Vec<Part> {
    let mut parts: Vec<(Range<usize>, Option<&[u8]>)> = Vec::new();
    let mut at = 0;
    for packet in answer.split_inclusive(|byte| *byte == SEPARATOR) {
        let (room, end) = (room_of(packet), at + packet.len());
        match parts.last_mut() {
            Some((range, before)) if *before == room => range.end = end,
            _ => parts.push((at..end, room)),
        }
        at = end;
    }
    let of_rooms = parts.into_iter().map(|(at, room)| {
        let is_of_a_room = room.is_some() && at.len() >= ROOM_FROM_BYTES;
        Part { at, is_of_a_room }
    });
    of_rooms.collect()
}

/// The chat room that a packet is of, in the bytes in which it is named. It is looked for where only the server writes: what is not
/// recognized is of no room.
fn room_of(packet: &[u8]) -> Option<&[u8]> {
    let mut rest = match packet {
        [b'4', b'2', rest @ ..] => {
            let rest = rest.strip_prefix(b"[\"")?;
            OF_ROOMS.iter().find_map(|name| rest.strip_prefix(name.as_bytes()))?.strip_prefix(b"\",{")?
        }
        [b'4', b'3', rest @ ..] => {
            let number = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest.get(number..)?.strip_prefix(b"[{\"ok\":true,")?
        }
        _ => return None,
    };
    for name in [&b"\"id\":"[..], b"\"seq\":"] {
        if let Some(value) = rest.strip_prefix(name) {
            let number = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
            rest = value.get(number..)?.strip_prefix(b",")?;
        }
    }
    let rest = rest.strip_prefix(b"\"roomId\":")?;
    let Some(rest) = rest.strip_prefix(b"\"") else {
        let number = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        return rest.get(..number).filter(|number| !number.is_empty());
    };
    let mut is_escaped = false;
    let end = rest.iter().position(|byte| {
        let ends = *byte == b'"' && !is_escaped;
        is_escaped = *byte == b'\\' && !is_escaped;
        ends
    });
    rest.get(..end?)
}

/// Whether a client takes gzip (RFC 9110, 12.5.3).
#[must_use]
pub fn is_taken(headers: &HeaderMap) -> bool {
    let (mut named, mut any) = (None, None);
    for value in headers.get_all(ACCEPT_ENCODING) {
        let Ok(value) = value.to_str() else { return false };
        for coding in value.split(',') {
            let mut parameters = coding.split(';').map(str::trim);
            let name = parameters.next().unwrap_or_default();
            let is_wanted = parameters.all(|parameter| match parameter.split_once('=') {
                Some((name, weight)) if name.trim_end().eq_ignore_ascii_case("q") => is_positive(weight.trim_start()),
                _ => false,
            });
            if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
                named = Some(named.unwrap_or(true) && is_wanted);
            } else if name == "*" {
                any = Some(any.unwrap_or(true) && is_wanted);
            }
        }
    }
    named.or(any).unwrap_or(false)
}

/// Whether a weight is one, and more than none.
fn is_positive(weight: &str) -> bool {
    let (whole, decimals) = weight.split_once('.').unwrap_or((weight, ""));
    let is_number = decimals.len() <= 3 && decimals.bytes().all(|byte| byte.is_ascii_digit());
    let has_more = decimals.bytes().any(|byte| byte != b'0');
    is_number && (whole == "1" && !has_more || whole == "0" && has_more)
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;

    use super::*;
    use crate::domain::RoomId;
    use crate::protocol::answer::RoomAnswer;

    fn message(room: &str, content: &str) -> String {
        format!(
            "42[\"chat:message\",{{\"id\":1,\"seq\":2,\"roomId\":\"{room}\",\"senderId\":7,\"content\":\"{content}\"}}]"
        )
    }

    async fn gzip(packets: &[String]) -> (Vec<u8>, Option<Bytes>) {
        let plain = packets.join("\u{1e}").into_bytes();
        let zipped = Arc::new(Compressors::default()).gzip(&Bytes::from(plain.clone())).await;
        (plain, zipped)
    }

    fn unzip(zipped: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        GzDecoder::new(zipped).read_to_end(&mut plain).unwrap();
        plain
    }

    #[tokio::test]
    async fn what_is_compressed_is_the_same_when_it_is_not() {
        let long = "lorem ipsum ".repeat(20_000);
        let noise: String =
            (0..90_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 27) as u8 % 26)).collect();
        for packets in [
            vec![message("a", &"x".repeat(2_000))],
            vec!["2".to_owned(), message("a", &long), message("b", &long), "42[\"notification:new\",{}]".to_owned()],
            (0..3_000).map(|n| message(&format!("r{}", n % 3), &format!("{n} {}", "word ".repeat(n % 90)))).collect(),
            vec![format!("42[\"progress:updated\",\"{long}\"]"), message("a", &long)],
            vec![message("a", &noise), message("a", &noise), format!("42[\"x\",\"{noise}\"]"), message("c", &long)],
        ] {
            let (plain, zipped) = gzip(&packets).await;
            let zipped = zipped.unwrap();
            assert!(zipped.len() < plain.len());
            assert!(unzip(&zipped) == plain, "{} packets", packets.len());
        }
    }

    #[tokio::test]
    async fn what_is_short_or_of_no_room_or_does_not_shrink_goes_as_it_is() {
        let long = "lorem ipsum ".repeat(200);
        for packet in [
            message("a", "short"),
            format!("42[\"notification:new\",{{\"message\":\"{long}\"}}]"),
            format!("42[\"authenticated\",{{\"name\":\"{long}\"}}]"),
            format!("430[{{\"ok\":true,\"rooms\":[{{\"roomId\":\"{long}\"}}]}}]"),
            format!("430[{{\"ok\":false,\"error\":{{\"message\":\"{long}\"}}}}]"),
            format!("42[\"chat:message\",{{\"content\":\"{long}\",\"roomId\":\"a\"}}]"),
            format!("42[\"chat:message\",{{\"id\":1,\"seq\":\"{long}\",\"roomId\":\"a\"}}]"),
            format!("42[\"chat:message\",{{\"roomId\":\"{long}"),
            format!("0{{\"sid\":\"{long}\"}}"),
        ] {
            assert_eq!(gzip(std::slice::from_ref(&packet)).await.1, None, "{}", &packet[..60]);
        }
        let mut noise = [0; 3_000];
        getrandom::fill(&mut noise).unwrap();
        let packet = [message("a", "").trim_end_matches("\"}]").as_bytes(), &noise].concat();
        assert_eq!(Arc::new(Compressors::default()).gzip(&Bytes::from(packet)).await, None, "it does not shrink");
    }

    #[tokio::test]
    async fn what_others_say_in_another_room_or_by_the_way_tells_nothing_of_a_secret() {
        let secret = message("private", &format!("the code is 8253-7716-{}", "and more ".repeat(60)));
        let notice = format!("42[\"notification:new\",{{\"message\":\"the code is 8253-7716-{}\"}}]", "9".repeat(300));
        // Two guesses, compressed alike by themselves, of which one is right.
        let guesses =
            ["8253-7716-", "7162-8357-"].map(|guess| format!("the code is {guess}{}", "and more ".repeat(60)));
        let mut apart = Vec::new();
        let mut together = Vec::new();
        for guess in &guesses {
            let (elsewhere, here) = (message("open", guess), message("private", guess));
            let packets = [secret.clone(), elsewhere.clone(), notice.clone(), elsewhere];
            apart.push(gzip(&packets).await.1.unwrap().len());
            together.push(gzip(&[secret.clone(), here]).await.1.unwrap().len());
        }
        assert_eq!(apart[0], apart[1]);
        assert!(together[0] < together[1], "in one room it would show, for those who read it anyway: {together:?}");
    }

    #[tokio::test]
    async fn more_answers_at_once_than_compressors_go_as_they_are() {
        let compressors = Arc::new(Compressors::default());
        let answer = Bytes::from(message("a", &"x".repeat(2_000)));
        let taken: Vec<_> = (0..capacity::COMPRESSORS).map(|_| compressors.take().unwrap()).collect();
        assert_eq!(compressors.gzip(&answer).await, None);
        drop(taken);
        for _ in 0..capacity::COMPRESSORS + 1 {
            assert!(compressors.gzip(&answer).await.is_some());
        }
    }

    #[test]
    fn rooms_are_found_where_the_server_writes_them() {
        let answer = serde_json::to_string(&RoomAnswer { room_id: RoomId::parse("café").unwrap() }).unwrap();
        let packet = format!("4312[{{\"ok\":true,{}]", &answer[1..]);
        assert_eq!(room_of(packet.as_bytes()).map(String::from_utf8_lossy).as_deref(), Some("café"));
        assert_eq!(room_of(br#"431[{"ok":true,"roomId":"a\"b","x":"c"}]"#), Some(&br#"a\"b"#[..]));
        assert_eq!(room_of(br#"42["chat:message",{"id":1,"seq":2,"roomId":7,"senderId":1}]"#), Some(&b"7"[..]));
        // A back end may send these to one user.
        for event in ["chat:invitation", "chat:user_left", "chat:message-pinned", "chat:messages"] {
            assert_eq!(room_of(format!("42[\"{event}\",{{\"roomId\":\"a\",\"code\":1}}]").as_bytes()), None, "{event}");
        }
        assert_eq!(room_of(br#"42["chat:x","{"roomId":"a"}]"#), None);
        assert_eq!(room_of(br#"42["chatter",{"roomId":"a"}]"#), None);
        assert_eq!(room_of(br#"42["chat:message",{"roomId":"a\"]"#), None);
        assert_eq!(room_of(br#"42["chat:message",{"roomId":null}]"#), None);
    }

    #[test]
    fn who_takes_gzip_says_so() {
        let takes = |lines: &[&str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(ACCEPT_ENCODING, line.parse().unwrap());
            }
            is_taken(&headers)
        };
        for lines in [
            &["gzip"][..],
            &["deflate, GZip;q=0.001"],
            &["br", "x-gzip"],
            &["*"],
            &["gzip ; q = 1.000"],
            &["identity;q=1,*;q=.5", "gzip;q=0.5"],
        ] {
            assert!(takes(lines), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["identity"],
            &["gzip;q=0"],
            &["gzip;q=0.000, *"],
            &["*;q=0"],
            &["gzip;q=2"],
            &["gzip;q=-1"],
            &["gzip;q=abc"],
            &["gzip;q="],
            &["gzip;q=0.0001"],
            &["gzip;level=9"],
            &["gzip;q=1;q=0"],
            &["gzip, gzip;q=0"],
            &["gzipped"],
            &[",,;"],
            &["br, zstd, deflate"],
        ] {
            assert!(!takes(lines), "{lines:?}");
        }
    }
}
