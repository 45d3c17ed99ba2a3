//! Which methods an address takes, what a HEAD does, and in which shapes a body may come, through the front door.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use academy_rt::transport::http::routes::ROUTES;

use crate::harness::{Appliance, free_port, until};
use crate::service::PATIENCE;

/// The answer to a request that is written as it is.
fn raw(port: u16, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request).unwrap_or_else(|error| panic!("the server hung up on who sends: {error}"));
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| panic!("{error} after {} bytes", answer.len()));
    String::from_utf8_lossy(&answer).into_owned()
}

/// A request without a body and without a length.
fn bare(server: &Appliance, token: &str, method: &str, path: &str) -> String {
    let authorization = if token.is_empty() { String::new() } else { format!("Authorization: Bearer {token}\r\n") };
    let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{authorization}\r\n");
    raw(server.port, head.as_bytes())
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).unwrap().parse().unwrap()
}

fn header<'a>(answer: &'a str, name: &str) -> Option<&'a str> {
    let (head, _) = answer.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.find(|(given, _)| given.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

/// A body in chunks.
fn chunked(head: &str, token: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{head} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    let mut request = head.into_bytes();
    for piece in body.chunks(50_000) {
        request.extend(format!("{:x}\r\n", piece.len()).into_bytes());
        request.extend(piece);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\n\r\n");
    request
}

#[test]
fn every_address_says_which_methods_it_takes() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_LIMITS_BUDGET_PER_SECOND", "0")]);
    let admin = server.token("1", "admin");
    let page = bare(&server, "", "GET", "/");
    let of_page = page.split_once("console/").unwrap().1.split_once('"').unwrap().0;
    for route in &ROUTES {
        let file = if route.path.starts_with("/console/") { of_page } else { "academy-rt.js" };
        let path = route.path.replace("{file}", file).replace("{kind}", "user");
        let path = path.replace("Id}", "").replace("{id}", "1").replace('{', "nobody-");
        let allow = route.allow();
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            let answer = bare(&server, &admin, method, &path);
            if allow.to_str().unwrap().split(", ").any(|allowed| allowed == method) {
                assert_ne!(status(&answer), 405, "{method} {path}");
                assert!(!answer.contains("there is nothing at this address"), "{method} {path}: {answer}");
            } else {
                assert_eq!(status(&answer), 405, "{method} {path}: {answer}");
                assert_eq!(answer.contains("method_not_allowed"), method != "HEAD", "{method} {path}: {answer}");
                assert_eq!(header(&answer, "allow"), allow.to_str().ok(), "{method} {path}");
            }
        }
    }
    for (method, path, allow) in [
        ("PUT", "/ws/?EIO=4&transport=polling", "GET, POST, OPTIONS"),
        ("HEAD", "/ws/?EIO=4&transport=polling", "GET, POST, OPTIONS"),
        ("CONNECT", "localhost:1", "GET, HEAD, POST, PATCH, PUT, DELETE, OPTIONS"),
    ] {
        let answer = bare(&server, "", method, path);
        assert_eq!((status(&answer), header(&answer, "allow")), (405, Some(allow)), "{method} {path}: {answer}");
    }
    for method in ["GET", "HEAD", "OPTIONS", "PUT"] {
        assert_eq!(status(&bare(&server, &admin, method, "/api/v1/nothing")), 404, "{method}");
    }
}

#[test]
fn a_head_is_a_get_without_its_body_and_leaves_nothing_behind() {
    let figures = free_port();
    let listen = format!("127.0.0.1:{figures}");
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_METRICS_LISTEN", listen.as_str())]);
    let (admin, learner) = (server.token("1", "admin"), server.token("7", "learner"));
    server.say(&learner, "here", "Hello");
    for path in ["/healthz", "/readyz", "/api/health", "/", "/sdk/academy-rt.js", "/api/v1/session", "/api/v1/rooms"] {
        let (get, head) = (bare(&server, &learner, "GET", path), bare(&server, &learner, "HEAD", path));
        assert_eq!((status(&get), status(&head), body(&head)), (200, 200, ""), "{path}: {head}");
        let length = |answer| header(answer, "content-length").unwrap().to_owned();
        assert_eq!(header(&get, "content-type"), header(&head, "content-type"));
        // The time that the server has been up has as many digits as it likes.
        if path != "/api/health" {
            assert_eq!(length(&get), length(&head), "{path}");
        }
    }
    assert_eq!(status(&raw(figures, b"HEAD /metrics HTTP/1.1\r\nHost: x\r\n\r\n")), 200);
    let refused = raw(figures, b"POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    assert_eq!((status(&refused), header(&refused, "allow")), (405, Some("GET, HEAD")));

    let records = || server.call(&admin, "GET", "/api/v1/admin/audit?limit=1000", "").1["items"].clone();
    let before = records();
    for path in ["/api/v1/admin/backup", "/api/v1/admin/users/7/export", "/api/v1/admin/audit?export=true"] {
        let answer = bare(&server, &admin, "HEAD", path);
        assert_eq!((status(&answer), body(&answer)), (200, ""), "{path}");
        assert_eq!(header(&answer, "content-length"), None, "{path}: the length of a GET is not known");
        assert_eq!(status(&bare(&server, &learner, "HEAD", path)), 403, "{path}");
        assert_eq!(status(&bare(&server, "", "HEAD", path)), 401, "{path}");
    }
    assert_eq!(records(), before, "a HEAD has left a record of what was not given");
    // It neither waits nor makes somebody present.
    let begun = Instant::now();
    assert_eq!(status(&bare(&server, &learner, "HEAD", "/api/v1/events?rooms=here&wait=25")), 200);
    assert!(begun.elapsed() < PATIENCE, "it has waited {:?}", begun.elapsed());
    let present = server.call(&learner, "GET", "/api/v1/rooms/here/presence", "").1;
    assert_eq!(present["users"].as_array().map(Vec::len), Some(0), "{present}");
    assert_eq!(status(&bare(&server, &learner, "GET", "/api/v1/events?rooms=here")), 200);
    let present = server.call(&learner, "GET", "/api/v1/rooms/here/presence", "").1;
    assert_eq!(present["users"].as_array().map(Vec::len), Some(1), "a GET does: {present}");
}

#[test]
fn a_body_may_come_in_chunks_with_a_mark_or_not_at_all() {
    let server = Appliance::start();
    let (admin, learner) = (server.token("1", "admin"), server.token("7", "learner"));
    let post = "POST /api/v1/rooms/here/messages";
    for content in [r#"{"content":"in chunks"}"#, "\u{feff}{\"content\":\"with a mark\"}"] {
        let answer = raw(server.port, &chunked(post, &learner, content.as_bytes()));
        assert_eq!(status(&answer), 200, "{answer}");
    }
    // The same length twice, and a mark in a body that says how long it is.
    assert_eq!(server.call(&learner, "POST", "/api/v1/progress", "\u{feff}[]").0, 200);
    let broadcast = "\u{feff}{\"target\":{\"all\":true},\"event\":\"e\"}";
    assert_eq!(server.call(&admin, "POST", "/api/v1/broadcast", broadcast).0, 200);
    // A mark is one at the beginning alone.
    assert_eq!(server.call(&learner, "POST", "/api/v1/progress", "\u{feff}\u{feff}[]").0, 400);
    for path in ["/api/v1/admin/users/7/disconnect", "/api/v1/admin/users/7/block", "/api/v1/rooms/here/leave"] {
        let token = if path.contains("admin") { &admin } else { &server.token("8", "learner") };
        let answer = bare(&server, token, "POST", path);
        assert_eq!(status(&answer), 200, "{path}: {answer}");
    }
    // What needs something says what.
    let answer = bare(&server, &admin, "POST", "/api/v1/broadcast");
    assert!(status(&answer) == 400 && answer.contains("invalid_payload"), "{answer}");
    // Chunks that are none are the fault of who sends them, and not of the address.
    let broken = chunked(post, &admin, b"{}").iter().copied().filter(|byte| *byte != b'\n').collect::<Vec<_>>();
    let mut broken =
        String::from_utf8(broken).unwrap().replace('\r', "\r\n").replacen("\r\n\r\n2\r\n", "\r\n\r\nzz\r\n", 1);
    broken.push_str("\r\n");
    let answer = raw(server.port, broken.as_bytes());
    assert!(status(&answer) == 400 && answer.contains("the body broke off"), "{answer}");
}

#[test]
fn a_body_in_chunks_has_the_limits_of_one_that_says_how_long_it_is() {
    let env = [
        ("ACADEMY_RT_LIMITS_BUDGET_PER_SECOND", "1"),
        ("ACADEMY_RT_LIMITS_BUDGET_BURST", "100"),
        ("ACADEMY_RT_LIMITS_BODIES", "64KiB"),
    ];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &env);
    let (one, other) = (server.token("7", "learner"), server.token("8", "learner"));
    let typing = |bytes: usize| format!(r#"{{"isTyping":true,"pad":"{}"}}"#, "x".repeat(bytes)).into_bytes();
    let path = "POST /api/v1/rooms/here/typing";
    // Larger than a body may be: all of it is sent, and the answer is heard.
    let answer = raw(server.port, &chunked(path, &one, &typing(3_000_000)));
    assert!(status(&answer) == 413 && answer.contains("too_large"), "{answer}");
    // It pays for its size.
    assert_eq!(status(&raw(server.port, &chunked(path, &other, &typing(900_000)))), 200);
    let answer = raw(server.port, &chunked(path, &other, &typing(900_000)));
    assert!(status(&answer) == 429 && answer.contains("rate_limited"), "{answer}");
    // It has its place before it is read, as large as it may be; others have theirs when it is there.
    let (one, other) = (server.token("9", "learner"), server.token("10", "learner"));
    let mut holding = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!(
        "{path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {one}\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n"
    );
    holding.write_all(head.as_bytes()).unwrap();
    holding.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
    let mut waiting = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    waiting.write_all(&chunked(path, &other, &typing(10))).unwrap();
    waiting.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert!(waiting.read(&mut [0]).is_err(), "it was answered while another had all there is");
    holding.write_all(b"11\r\n{\"isTyping\":true}\r\n0\r\n\r\n").unwrap();
    let mut answer = String::new();
    holding.set_read_timeout(Some(PATIENCE)).unwrap();
    holding.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    answer.clear();
    waiting.read_to_string(&mut answer).unwrap();
    assert_eq!(status(&answer), 200, "{answer}");
}

#[test]
fn who_sends_much_too_much_hears_that_it_is_too_large() {
    let server = Appliance::start();
    let (token, admin) = (server.token("7", "learner"), server.token("1", "admin"));
    let large = vec![b'x'; 12_000_000];
    for (path, token) in [("/api/v1/progress", &token), ("/api/v1/admin/rooms", &admin)] {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n\r\n",
            large.len()
        );
        let answer = raw(server.port, &[head.as_bytes(), &large].concat());
        assert!(status(&answer) == 413 && answer.contains("too_large"), "{path}: {answer}");
    }
    // Who goes on for ever is cut off.
    let mut endless = TcpStream::connect(("127.0.0.1", server.port)).unwrap();
    let head = format!(
        "POST /api/v1/progress HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nContent-Length: 99999999999\r\n\r\n"
    );
    endless.write_all(head.as_bytes()).unwrap();
    let mut sent = 0;
    until("the server hangs up", || {
        let is_over = endless.write_all(&large).is_err();
        sent += if is_over { 0 } else { large.len() };
        is_over
    });
    assert!(sent < 100_000_000, "it has taken {sent} bytes");
    drop(endless.shutdown(Shutdown::Both));
}

#[test]
fn every_json_answer_says_whether_it_is_ok_and_steers_no_terminal() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_LIMITS_BUDGET_PER_SECOND", "0")]);
    let (admin, learner) = (server.token("1", "admin"), server.token("7", "learner"));
    let content = "in\u{9b}31m \u{202e}red\u{7f} \u{2028}\u{200f}\u{61c} \u{1b}[2J Zo\u{eb}";
    server.say(&learner, "nobody-room", content);
    let page = server.call(&learner, "GET", "/api/v1/rooms/nobody-room/messages", "").1;
    assert_eq!(page["messages"][0]["content"], content, "it means the same");
    let mut seen = [0, 0];
    for route in &ROUTES {
        let path =
            route.path.replace("{file}", "none.js").replace("{kind}", "user").replace("Id}", "").replace("{id}", "1");
        let path = path.replace('{', "nobody-");
        for method in route.methods.iter().copied().chain(["BREW"]) {
            for token in [admin.as_str(), learner.as_str(), ""] {
                let answer = bare(&server, token, method, &path);
                let is_json = header(&answer, "content-type") == Some("application/json");
                // An export is the document itself.
                if !is_json || path.ends_with("/export") && status(&answer) == 200 {
                    continue;
                }
                let json: serde_json::Value =
                    serde_json::from_str(body(&answer)).unwrap_or_else(|_| panic!("{answer}"));
                let is_ok = status(&answer) < 300;
                assert_eq!(json["ok"], is_ok, "{method} {path}: {answer}");
                assert_eq!(json["error"].is_object(), !is_ok, "{method} {path}: {answer}");
                let is_clean = |c: char| !c.is_control() && !"\u{61c}\u{200f}\u{2028}\u{202e}".contains(c);
                assert!(body(&answer).chars().all(is_clean), "{method} {path}: {answer:?}");
                seen[usize::from(is_ok)] += 1;
            }
        }
    }
    assert!(seen[0] > 60 && seen[1] > 20, "{seen:?}");
    for (path, code) in [("/ws/?EIO=4&EIO=4", "invalid_payload"), ("/nothing", "not_found")] {
        let answer = bare(&server, "", "GET", path);
        let json: serde_json::Value = serde_json::from_str(body(&answer)).unwrap_or_else(|_| panic!("{answer}"));
        assert_eq!((&json["ok"], &json["error"]["code"]), (&false.into(), &code.into()), "{path}");
    }
    let resync = server.call(&learner, "GET", "/api/v1/events?cursor=nonsense", "");
    assert!(resync.0 == 410 && resync.1["ok"] == false && resync.1["cursor"].is_string(), "{resync:?}");
}
