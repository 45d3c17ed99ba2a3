//! The log of whoever is refused or cut off, over the front door: each time one line, whose message says who, from where, by which rule,
//! and what to do.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::harness::{SECRET, signed, until};
use crate::service::Service;

const PLAIN: &str = "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\nmode = \"off\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
                     [storage]\ndata_dir = \"DATA\"\nmin_free = 0\n";

/// A token with these claims, beside those of user 7.
fn token(claims: &Value, secret: &str) -> String {
    let mut all = json!({ "userId": 7, "name": "Ann", "role": "learner", "exp": now() + 3_600 });
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    signed(&all, secret)
}

fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// The messages of a log, one a line.
fn messages(log: &str) -> Vec<String> {
    let of = |line: &str| Some(serde_json::from_str::<Value>(line).ok()?["message"].as_str()?.to_owned());
    log.lines().filter_map(of).collect()
}

/// Waits for exactly one line that has all of these words.
fn one_line(service: &Service, before: usize, parts: &[&str]) {
    let found = || {
        let all = messages(&service.log()[before..]);
        all.into_iter().filter(|line| parts.iter().all(|part| line.contains(part))).collect::<Vec<_>>()
    };
    let begun = std::time::Instant::now();
    while found().is_empty() {
        assert!(begun.elapsed() < crate::service::PATIENCE, "no line with {parts:?} in: {}", &service.log()[before..]);
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert_eq!(found().len(), 1, "{:?}", found());
}

#[test]
fn each_refusal_is_one_line_with_who_from_where_which_rule_and_what_to_do() {
    let lines = PLAIN.replace(
        "[tls]",
        "cors_origins = [\"https://portal.example.org\"]\n[limits]\nmessages_per_second = 1\nmessage_burst = 1\n[tls]",
    );
    let service = Service::start(&lines);
    let sign_in = |token: &str| {
        let before = service.log().len();
        let (status, answer) = service.call(token, "GET", "/api/v1/session", "");
        assert_eq!(status, 401, "{answer}");
        before
    };
    // (claims, secret, whose, code, why)
    let faults = [
        (json!({ "exp": now() - 3_600 }), SECRET, "user 7", "token_expired", "expired"),
        (json!({ "exp": (now() + 3_600) * 1_000 }), SECRET, "user 7", "token_invalid", "its exp is in milliseconds"),
        (json!({ "nbf": now() + 3_600 }), SECRET, "user 7", "token_not_yet_valid", "its nbf is later"),
        (json!({ "userId": null }), SECRET, "somebody unknown", "token_invalid", "it names no user"),
        (json!({ "exp": null }), SECRET, "user 7", "token_invalid", "it has no end (exp)"),
        (
            json!({}),
            "another secret, which is long enough, too",
            "somebody unknown",
            "token_invalid",
            "its signature fits none",
        ),
    ];
    for (claims, secret, whose, code, why) in &faults {
        let before = sign_in(&token(claims, secret));
        one_line(&service, before, &["refused to sign in ", whose, "127.0.0.1", code, why]);
    }
    let before = sign_in("nonsense");
    one_line(&service, before, &["refused to sign in somebody unknown from 127.0.0.1", "token_"]);
    // Rooms, roles and limits.
    let (learner, admin) = (service.token("7", "learner"), service.token("1", "admin"));
    let made = service.call(&admin, "POST", "/api/v1/admin/rooms", "{\"roomId\":\"board\",\"private\":true}");
    assert!(made.0 < 300, "{made:?}");
    let before = service.log().len();
    assert_eq!(service.call(&learner, "GET", "/api/v1/rooms/board/messages", "").0, 403);
    one_line(&service, before, &["refused ", "user 7 from 127.0.0.1", "forbidden"]);
    let before = service.log().len();
    assert_eq!(service.call(&learner, "GET", "/api/v1/admin/status", "").0, 403);
    one_line(&service, before, &["refused ", "user 7 from 127.0.0.1", "forbidden", "admin"]);
    let before = service.log().len();
    until("a limit of messages", || {
        service.call(&learner, "POST", "/api/v1/rooms/lobby/messages", "{\"content\":\"x\"}").0 == 429
    });
    one_line(&service, before, &["refused ", "user 7 from 127.0.0.1", "rate_limited", "messages"]);
    // An origin.
    let before = service.log().len();
    let preflight =
        "OPTIONS /api/v1/session HTTP/1.1\r\nOrigin: https://other.example.org\r\nAccess-Control-Request-Method: GET";
    service.plain(preflight, "");
    one_line(&service, before, &["https://other.example.org", "cors_origins = [", "was refused"]);
    // A block.
    assert_eq!(service.call(&admin, "POST", "/api/v1/admin/users/7/block", "{\"reason\":\"for good reasons\"}").0, 200);
    let before = service.log().len();
    assert_eq!(service.call(&learner, "GET", "/api/v1/session", "").0, 403);
    one_line(
        &service,
        before,
        &["refused to sign in user 7 from 127.0.0.1", "user_blocked", "academy-rt user unblock"],
    );
    assert!(!service.log()[before..].contains("for good reasons"), "why somebody is blocked stays out of the log");
    // A reload.
    let said = service.reload(&lines.replace("message_burst = 1", "message_burst = many"));
    let refused: Vec<_> = messages(&said).into_iter().filter(|line| line.contains("not reloaded")).collect();
    assert_eq!(refused.len(), 1, "{said}");
    for part in ["previous configuration remains in force", "academy-rt.toml:", "Asked for by"] {
        assert!(refused[0].contains(part), "{part}: {refused:?}");
    }
    assert!(
        !service.log().contains(SECRET) && !service.log().contains(&learner),
        "no secret and no token is in the log"
    );
}

#[test]
fn each_connection_that_is_turned_away_is_one_line_with_its_address_and_its_limit() {
    let service =
        Service::start(&PLAIN.replace("[tls]", "[limits]\nnewcomers_per_address = 3\nhandshake = \"2s\"\n[tls]"));
    let before = service.log().len();
    let mut held: Vec<TcpStream> = Vec::new();
    until("a connection is turned away", || {
        held.push(TcpStream::connect(("127.0.0.1", service.port)).unwrap());
        service.log()[before..].contains("refused a connection")
    });
    held.iter_mut().for_each(|stream| drop(stream.write_all(b"x")));
    let all = messages(&service.log()[before..]);
    let line = all.iter().find(|line| line.contains("refused a connection")).unwrap();
    for part in ["from 127.0.0.1", "limits.newcomers_per_address"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(all.iter().filter(|line| line.contains("refused a connection")).count() <= 20, "{all:?}");
}

#[test]
fn who_has_too_many_connections_is_named_with_the_limit_directly_and_behind_a_proxy() {
    let service = Service::start(&PLAIN.replace("[tls]", "[limits]\nconnections_per_address = 3\n[tls]"));
    let before = service.log().len();
    // Who has asked for something is no newcomer any more.
    let ask = |mut stream: TcpStream| {
        stream.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut some = [0; 12];
        let _ = stream.read(&mut some);
        (stream, String::from_utf8_lossy(&some).into_owned())
    };
    let _held: Vec<_> = (0..4).map(|_| ask(crate::service::connect_from([127, 0, 0, 5], service.port))).collect();
    one_line(
        &service,
        before,
        &["refused a connection from 127.0.0.5", "limits.connections_per_address", "raise the limit"],
    );

    let proxied = PLAIN.replace(
        "[tls]",
        "behind_proxy = true\ntrusted_proxies = [\"127.0.0.1\"]\n[limits]\nconnections_per_address = 3\n[tls]",
    );
    let service = Service::start(&proxied);
    let before = service.log().len();
    let held: Vec<_> = (0..4)
        .map(|_| {
            let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
            stream.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
            // A WebSocket stays the client's for as long as it is open.
            let head = "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 203.0.113.9\r\nUpgrade: websocket\r\n\
                        Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            let mut rest = vec![0; 4_096];
            let length = stream.read(&mut rest).unwrap();
            (stream, String::from_utf8_lossy(&rest[..length]).into_owned())
        })
        .collect();
    one_line(
        &service,
        before,
        &["refused a request from 203.0.113.9", "limits.connections_per_address", "raise the limit"],
    );
    drop(held);
}

/// Text that no compression makes much smaller, 3 bytes a character.
fn noise(seed: u64) -> String {
    let mut numbers = seed | 1;
    let letters = (0..300_000).map(|_| {
        numbers ^= numbers << 13;
        numbers ^= numbers >> 7;
        numbers ^= numbers << 17;
        char::from_u32(0x4e00 + u32::try_from(numbers >> 32).unwrap() % 20_000).unwrap()
    });
    letters.collect()
}

/// Large messages, more of them than the kernel takes for somebody who does not read.
fn with_large_messages() -> Service {
    Service::start(&PLAIN.replace("[tls]", "[limits]\nmessage_chars = 300000\nmessages_per_second = 0\n[tls]"))
}

fn say_much(service: &Service, room: &str) {
    let token = service.token("7", "learner");
    for number in 1..=16 {
        let body = json!({ "content": noise(number * 7_919) }).to_string();
        let (status, answer) = service.call(&token, "POST", &format!("/api/v1/rooms/{room}/messages"), &body);
        assert_eq!(status, 200, "{answer}");
    }
}

#[test]
fn a_socket_that_does_not_read_is_cut_off_with_one_line() {
    let service = with_large_messages();
    let before = service.log().len();
    let mut slow = crate::connections::signed_in(service.port, &service.token("9", "learner"));
    slow.write_all(&crate::connections::frame(r#"420["chat:join",{"roomId":"r"}]"#)).unwrap();
    let (mut heard, mut some) = (Vec::new(), [0; 1_024]);
    while !String::from_utf8_lossy(&heard).contains("430[") {
        let length = slow.read(&mut some).unwrap();
        heard.extend(&some[..length]);
    }
    say_much(&service, "r");
    one_line(
        &service,
        before,
        &["closed a connection of user 9 from 127.0.0.1", "does not read", "limits.send_queue", "comes back"],
    );
}

/// Who is given much at once, and hangs up: of each the log says what it was, for whom, from where and why.
#[test]
fn what_is_not_sent_completely_is_one_line_with_whose_it_was() {
    let service = with_large_messages();
    say_much(&service, "r");
    let admin = service.token("1", "admin");
    for (path, what) in [
        ("/api/v1/admin/rooms/r/export", "a transcript of room r"),
        ("/api/v1/admin/users/7/export", "the export of user 7"),
        ("/api/v1/admin/backup", "a backup"),
    ] {
        let before = service.log().len();
        let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {admin}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let mut some = [0; 15];
        stream.read_exact(&mut some).unwrap();
        assert!(some.starts_with(b"HTTP/1.1 200"), "{path}");
        drop(stream);
        one_line(
            &service,
            before,
            &[what, "for user 1 from 127.0.0.1", "was not sent completely: the receiver has gone", "ask for it again"],
        );
    }
}

/// Who asks again and again and hangs up each time does not fill the log: so many lines of it come a minute.
#[test]
fn who_hangs_up_again_and_again_does_not_fill_the_log() {
    let service = with_large_messages();
    say_much(&service, "r");
    let admin = service.token("1", "admin");
    let head = format!(
        "GET /api/v1/admin/users/7/export HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {admin}\r\n\r\n"
    );
    let hang_up = || {
        let mut stream = TcpStream::connect(("127.0.0.1", service.port)).unwrap();
        stream.write_all(head.as_bytes()).unwrap();
        stream.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
        stream.read_exact(&mut [0; 15]).unwrap();
    };
    let count = |log: &str| messages(log).into_iter().filter(|line| line.contains("was not sent completely")).count();
    let begun = std::time::Instant::now();
    until("as many lines as a minute has", || {
        hang_up();
        count(&service.log()) >= 20
    });
    (0..10).for_each(|_| hang_up());
    // It waits for what is being sent.
    let log = service.end_with_log();
    let minutes = usize::try_from(begun.elapsed().as_secs() / 60).unwrap() + 1;
    assert!(count(&log) <= 20 * minutes, "{log}");
}
