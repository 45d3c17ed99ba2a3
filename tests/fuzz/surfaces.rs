//! Everything that parses bytes of strangers, as functions of bytes: what they promise is asserted. The targets of cargo-fuzz
//! and the quick test of the seeds (`tests/it/strangers.rs`) call the same ones.

use std::net::IpAddr;
use std::path::Path;
use std::sync::LazyLock;

use academy_rt::archive::continuous::segment;
use academy_rt::archive::format;
use academy_rt::auth::Verifier;
use academy_rt::config::{Config, ForwardedHeader, Secret, SourceFile, Sources, load};
use academy_rt::domain::origin::Origin;
use academy_rt::domain::{Id, LessonId, Room, RoomId, Timestamp, UserId};
use academy_rt::protocol::admin::{access, data};
use academy_rt::protocol::cursor::{Cursor, Life, Seal};
use academy_rt::protocol::decode;
use academy_rt::protocol::request::*;
use academy_rt::search::{Query, Reader};
use academy_rt::server::proxy_protocol;
use academy_rt::store::rows::{Digests, RowLog};
use academy_rt::transport::forwarded::client_of;
use academy_rt::transport::http::extract;
use academy_rt::transport::http::extract::Kind;
use academy_rt::transport::socketio::engine::compression;
use academy_rt::transport::socketio::engine::frame;
use academy_rt::transport::socketio::engine::handshake::{SocketQuery, token_of};
use bytes::Bytes;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::value::RawValue;

/// A name, and what it names.
pub type Surface = (&'static str, fn(&[u8]));

/// Each of them, by the name of its target and of the directory with its seeds.
pub const ALL: [Surface; 10] = [
    ("token", token),
    ("requests", requests),
    ("ids", ids),
    ("cursors", cursors),
    ("archive", archive),
    ("config", config),
    ("http", http),
    ("packets", packets),
    ("forwarded", forwarded),
    ("proxy_protocol", proxy_protocol),
];

const SECRET: &str = "a secret of the fuzzer, of no server";
static VERIFIER: LazyLock<Verifier> = LazyLock::new(|| Verifier::new(&Config::default().auth, &Secret::new(SECRET)));
static OTHER: LazyLock<Verifier> =
    LazyLock::new(|| Verifier::new(&Config::default().auth, &Secret::new("another secret, which signs nothing")));
const NOW: Timestamp = Timestamp(1_700_000_000_000);

/// A token of a stranger is never good; claims that are signed name a user, or are refused.
pub fn token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert!(OTHER.verify(&text, NOW).is_err(), "a token that nobody has signed");
    let Ok(claims) = serde_json::from_slice::<&RawValue>(bytes) else { return };
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let Ok(signed) = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key) else { return };
    assert!(OTHER.verify(&signed, NOW).is_err(), "a token that another secret has signed");
    if let Ok(actor) = VERIFIER.verify(&signed, NOW) {
        assert!(UserId::new(actor.user.id().clone()).is_ok());
        assert!(actor.name.chars().count() <= 200 && !actor.name.chars().any(char::is_control));
        assert!(actor.expires_at.is_some_and(|end| end.0 + 30_000 > NOW.0));
        // Somebody has it who changes one letter of the signature.
        let mut changed = signed.into_bytes();
        let letter = changed.len() - 5;
        changed[letter] = if changed[letter] == b'A' { b'B' } else { b'A' };
        assert!(VERIFIER.verify(&String::from_utf8_lossy(&changed), NOW).is_err());
    }
}

/// What clients and back ends send as JSON, as every request that there is.
pub fn requests(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(request) = decode::request::<ChatMessage>(text) {
        let is_key = request.client_id.as_ref().is_none_or(|id| (1..=MAX_KEY_CHARS).contains(&id.chars().count()));
        assert_eq!(check_key("clientId", request.client_id.as_deref()).is_ok(), is_key);
    }
    if let Ok(request) = decode::request::<ProgressSync>(text) {
        assert!((0.0..=100.0).contains(&request.progress.value()));
    }
    let _ = decode::request::<RoomOnly>(text);
    let _ = decode::request::<ChatJoin>(text);
    let _ = decode::request::<ChatEdit>(text);
    let _ = decode::request::<MessageRef>(text);
    let _ = decode::request::<ChatTyping>(text);
    let _ = decode::request::<ChatHistory>(text);
    if let Ok(request) = decode::request::<ChatSearch>(text)
        && let Ok(query) = Query::parse(&request.q)
    {
        let _ = query.fits(&mut Reader::default(), text);
    }
    let _ = decode::request::<Vec<ProgressSync>>(text);
    let _ = decode::request::<ProgressGet>(text);
    let _ = decode::request::<ProgressHistory>(text);
    let _ = decode::request::<NotificationList>(text);
    let _ = decode::request::<NotificationRead>(text);
    let _ = decode::request::<NotificationDelete>(text);
    let _ = decode::request::<AuthRefresh>(text);
    let _ = decode::request::<Broadcast>(text);
    let _ = decode::request::<PlatformMessage>(text);
    let _ = decode::request::<PlatformEdit>(text);
    let _ = decode::request::<PlatformDeletion>(text);
    let _ = decode::request::<NotificationContent>(text);
    let _ = decode::request::<NotificationTarget>(text);
    let _ = decode::request::<data::HoldRequest>(text);
    let _ = decode::request::<access::RoomRequest>(text);
    let _ = decode::request::<access::RoomPatchRequest>(text);
    let _ = decode::request::<access::MemberRequest>(text);
    let _ = decode::request::<access::RevokeRequest>(text);
}

/// Ids keep their JSON type and have one canonical form; none spells an inner room.
pub fn ids(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(id) = serde_json::from_str::<Id>(text) {
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(serde_json::to_string(&serde_json::from_str::<Id>(&json).unwrap()).unwrap(), json);
    }
    for id in [UserId::parse(text).ok(), serde_json::from_str(text).ok()].into_iter().flatten() {
        let canonical = id.canonical();
        assert!(!canonical.is_empty() && !canonical.contains([':', ',', ' ']) && canonical.chars().count() <= 64);
        assert_eq!(UserId::parse(&canonical), Ok(id.clone()));
        assert_eq!(Room::parse(&Room::User(id.clone()).name()), Ok(Room::User(id)));
    }
    for id in [RoomId::parse(text).ok(), serde_json::from_str(text).ok()].into_iter().flatten() {
        let canonical = id.canonical();
        assert!(!canonical.is_empty() && !canonical.contains([' ', '\0', '\n']) && canonical.chars().count() <= 100);
        let lower = canonical.to_lowercase();
        assert!(!lower.starts_with("user:") && !lower.starts_with("chat:"), "{canonical}");
        assert_eq!(RoomId::parse(&canonical), Ok(id.clone()));
        assert_eq!(Room::parse(&Room::Chat(id.clone()).name()), Ok(Room::Chat(id)));
    }
    if let Ok(id) = LessonId::parse(text) {
        assert_eq!(LessonId::parse(&id.canonical()), Ok(id));
    }
    if let Ok(room) = Room::parse(text) {
        assert_eq!(Room::parse(&room.name()), Ok(room));
    }
}

/// A cursor is what the server has written for the same user, or none.
pub fn cursors(bytes: &[u8]) {
    const SEAL: Seal<'static> = Seal { key: &[7; 32], user: "7" };
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Some(cursor) = Cursor::<1>::parse(text, SEAL) {
        assert_eq!(cursor.write(SEAL), text);
    }
    if let Some(cursor) = Cursor::<3>::parse(text, SEAL) {
        assert_eq!(cursor.write(SEAL), text);
        assert_eq!(Cursor::<1>::parse(text, SEAL), None);
    }
    // A stranger finds no seal. With one of the server's own, the bytes are numbers, and the text is read by its owner alone.
    let number = |at: usize| bytes.iter().skip(at).take(8).fold(0, |number, byte| number << 8 | u64::from(*byte));
    let cursor = Cursor { life: Life::new([1; 16], number(0)), numbers: [number(8), number(16), number(24)] };
    let written = cursor.write(SEAL);
    assert_eq!(Cursor::parse(&written, SEAL), Some(cursor));
    assert_eq!(Cursor::<3>::parse(&written, Seal { user: "8", ..SEAL }), None);
    assert_eq!(Cursor::<3>::parse(&written, Seal { key: &[8; 32], ..SEAL }), None);
}

/// A backup of a stranger: refused or read, never a panic, never much memory.
pub fn archive(bytes: &[u8]) {
    let mut file = b"academy-rt backup\n".to_vec();
    file.extend_from_slice(bytes);
    for input in [bytes, file.as_slice()] {
        let _ = format::read(&mut { input }, u32::MAX, &mut Digests::default(), &mut |_, _| {});
        let _ = format::is_encrypted(&mut { input });
    }
    // A segment of a continuous backup, and what is in its parts.
    let mut file = b"academy-rt segment\n".to_vec();
    file.extend_from_slice(bytes);
    for input in [bytes, file.as_slice()] {
        let _ = segment::scan(&mut { input }, Path::new("a.segment"), &mut |_| Ok(()));
    }
    let _ = (segment::commits_of(bytes), segment::unpack(bytes, false, None), RowLog::rows(bytes));
}

/// Any text as the configuration file, and as a value of the environment.
pub fn config(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Once as the only file, once as the one behind another.
    let file = |path: &str| SourceFile { path: path.into(), text: Ok(text.to_owned()) };
    let files = vec![file("academy-rt.toml"), file("conf.d/50-site.toml")];
    let _ = load(&Sources { files, env: Default::default(), flags: Vec::new() });
    let (name, value) = text.split_once('=').unwrap_or(("", text));
    let env = [(format!("ACADEMY_RT_{name}"), value.to_owned())].into();
    let _ = load(&Sources { files: Vec::new(), env, flags: Vec::new() });
}

/// Paths, queries, headers and bodies of HTTP.
pub fn http(bytes: &[u8]) {
    const KNOWN: [(&str, Kind); 4] =
        [("before", Kind::Number), ("roomId", Kind::Id), ("since", Kind::Text), ("unreadOnly", Kind::Flag)];
    let _ = extract::from_body::<ChatEdit>(&Bytes::copy_from_slice(bytes), [("roomId", "a".into())]);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let _ = extract::from_query::<ChatHistory>(text, &KNOWN, []);
    let _ = extract::from_query::<ProgressGet>(text, &KNOWN, []);
    let _ = extract::from_query::<NotificationList>(text, &KNOWN, []);
    if let Some((origin, host)) = text.split_once('\n')
        && let Some(origin) = Origin::parse(origin)
    {
        assert_eq!(Origin::parse(origin.as_str()).as_ref(), Some(&origin), "it is its own one spelling");
        assert!(!origin.is_own(host, true) || origin.as_str().starts_with("https://"));
    }
    let _ = (extract::room(text), extract::user(text), extract::number_in_path("id", text));
    if let Ok(value) = http::HeaderValue::from_bytes(bytes) {
        let mut headers = http::HeaderMap::from_iter([(http::header::ACCEPT_ENCODING, value)]);
        let _ = compression::is_taken(&headers);
        headers.append(http::header::ACCEPT_ENCODING, http::HeaderValue::from_static("gzip;q=0"));
        assert!(!compression::is_taken(&headers), "it is refused");
    }
    for name in ["authorization", "cookie"] {
        let request = http::Request::builder().uri(format!("/ws?{text}")).header(name, text).body(());
        if let Ok(request) = request {
            let parts = request.into_parts().0;
            if let Ok(mut query) = SocketQuery::parse(parts.uri.query().unwrap_or_default()) {
                let _ = token_of(&mut query, &parts.headers, Some("session"));
            }
        }
    }
}

/// What a client writes into the header of its proxy changes nothing of what the proxy adds.
pub fn forwarded(bytes: &[u8]) {
    let (direct, client) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([203, 0, 113, 9]));
    let is_trusted = |address: &IpAddr| *address == direct;
    let lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    for (header, added) in [
        (ForwardedHeader::XForwardedFor, "203.0.113.9:50000, 10.0.0.1"),
        (ForwardedHeader::Forwarded, "proto=https;for=\"203.0.113.9:50000\", for=10.0.0.1"),
    ] {
        let _ = client_of(direct, header, lines.iter().copied(), is_trusted);
        let own_line = lines.iter().copied().chain([added.as_bytes()]);
        assert_eq!(client_of(direct, header, own_line, is_trusted), client);
        if std::str::from_utf8(bytes).is_ok() {
            let one_line = [bytes, b", ", added.as_bytes()].concat();
            assert_eq!(client_of(direct, header, std::iter::once(one_line.as_slice()), is_trusted), client);
        }
    }
}

/// The beginning of a connection from a proxy: not a byte behind the header is asked for, and no more than there may be.
pub fn proxy_protocol(bytes: &[u8]) {
    let mut read = 0;
    loop {
        match proxy_protocol::wanted(&bytes[..read]) {
            Err(_) => return,
            Ok(0) => break,
            Ok(more) => read += more,
        }
        assert!(read <= 4_096, "{read} bytes are asked for");
        if read > bytes.len() {
            return;
        }
    }
    let whole = proxy_protocol::source(&bytes[..read]).ok();
    assert!(proxy_protocol::is_one(bytes));
    let behind = [&bytes[..read], b"\r\nPROXY TCP4 6.6.6.6 6.6.6.6 1 1\r\n"].concat();
    assert_eq!(proxy_protocol::source(&behind[..read]).ok(), whole);
}

/// Frames of WebSocket.
pub fn packets(bytes: &[u8]) {
    if let Some(len) = frame::len_of(bytes) {
        assert!(len >= 2);
    }
}
