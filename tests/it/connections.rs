//! What strangers' connections and bodies may cost, through the front door.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::harness::Appliance;
use crate::service::ask;

const PATIENCE: Duration = Duration::from_secs(10);

/// A connection on which something was said.
fn say(port: u16, text: &str) -> TcpStream {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    stream
}

/// What comes until the connection ends.
fn heard(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap_or_else(|error| {
        panic!("the connection did not end after {:?}: {error}", String::from_utf8_lossy(&answer))
    });
    String::from_utf8_lossy(&answer).into_owned()
}

/// The routes that take a body.
const WITH_BODY: [(&str, &str); 14] = [
    ("POST", "/api/v1/rooms/1/messages"),
    ("PATCH", "/api/v1/rooms/1/messages/1"),
    ("POST", "/api/v1/rooms/1/typing"),
    ("POST", "/api/v1/rooms/1/read"),
    ("POST", "/api/v1/rooms/1/join"),
    ("POST", "/api/v1/progress"),
    ("POST", "/api/v1/notifications/read"),
    ("POST", "/api/v1/notifications"),
    ("POST", "/api/v1/broadcast"),
    ("POST", "/api/v1/admin/backup"),
    ("POST", "/api/v1/admin/holds"),
    ("POST", "/api/v1/admin/rooms"),
    ("PATCH", "/api/v1/admin/rooms/1"),
    ("POST", "/api/v1/admin/users/1/block"),
];

#[test]
fn nothing_of_a_body_is_read_before_its_sender_is_signed_in() {
    let server = Appliance::start();
    for (method, path) in WITH_BODY {
        // Not a byte of the body is sent: who waits for it does not answer.
        let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000\r\n\r\n");
        let answer = heard(say(server.port, &head));
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("token_missing"), "{method} {path}: {answer}");
        assert!(answer.to_ascii_lowercase().contains("connection: close\r\n"), "{method} {path}: {answer}");
    }
}

/// A head with a body to come.
fn post(path: &str, token: Option<&str>, length: usize) -> String {
    let token = token.map_or(String::new(), |token| format!("Authorization: Bearer {token}\r\n"));
    format!("POST {path} HTTP/1.1\r\nHost: localhost\r\n{token}Content-Length: {length}\r\n\r\n")
}

/// The memory that a server has, in MiB.
fn memory(server: &Appliance) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    resident.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() / 1_024
}

const LARGE: usize = 900_000;

#[test]
fn who_sends_a_whole_body_and_is_refused_hears_why() {
    let server = Appliance::start();
    let body = "x".repeat(LARGE);
    for _ in 0..10 {
        let stream = say(server.port, &format!("{}{body}", post("/api/v1/progress", Some("not a token"), LARGE)));
        let answer = heard(stream);
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[test]
fn the_bodies_of_strangers_take_no_memory_and_those_of_one_user_a_share() {
    let server = Appliance::start();
    let token = server.token("7", "learner");
    let before = memory(&server);
    let part = "x".repeat(LARGE);
    // Each lacks its last bytes, so that whoever reads it holds it. What is not read waits in the kernel, not all of it.
    let begin = |head: String| {
        let stream = say(server.port, &head);
        stream.set_nonblocking(true).unwrap();
        (stream, 0_usize)
    };
    let send = |streams: &mut Vec<(TcpStream, usize)>| {
        for (stream, sent) in streams {
            while let Ok(more @ 1..) = stream.write(&part.as_bytes()[*sent..]) {
                *sent += more;
            }
        }
    };
    let mut strangers: Vec<_> = (0..100).map(|_| begin(post("/api/v1/broadcast", None, LARGE + 9))).collect();
    (0..20).for_each(|_| send(&mut strangers));
    for (stream, _) in strangers {
        stream.set_nonblocking(false).unwrap();
        drop(stream.shutdown(std::net::Shutdown::Write));
        assert!(heard(stream).starts_with("HTTP/1.1 401 "));
    }
    assert!(memory(&server) < before + 20, "{before} MiB, then {} MiB", memory(&server));
    let before = memory(&server);
    let mut own: Vec<_> = (0..60).map(|_| begin(post("/api/v1/progress", Some(&token), LARGE + 9))).collect();
    // For as long as it takes to read all of them if nobody minds.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_millis(1_500) {
        send(&mut own);
        assert!(memory(&server) < before + 24, "{before} MiB, then {} MiB", memory(&server));
    }
    // Nobody else waits for them.
    let other = server.token("8", "learner");
    let report = r#"{"lessonId":1,"progress":40,"timeSpent":3}"#;
    assert_eq!(server.call(&other, "POST", "/api/v1/progress", report).0, 200);
}

#[test]
fn a_body_waits_for_its_turn() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_LIMITS_BODIES", "64KiB")]);
    let (one, other) = (server.token("7", "learner"), server.token("8", "learner"));
    let holding = say(server.port, &format!("{}{}", post("/api/v1/progress", Some(&one), 1_000_000), "x"));
    let report = r#"{"lessonId":1,"progress":40,"timeSpent":3}"#;
    let head =
        post("/api/v1/progress", Some(&other), report.len()).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let mut waiting = say(server.port, &format!("{head}{report}"));
    waiting.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
    assert!(waiting.read(&mut [0]).is_err(), "it was answered while another had all there is");
    drop(holding);
    waiting.set_read_timeout(Some(PATIENCE)).unwrap();
    assert!(heard(waiting).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_client_on_polling_sends_its_token_first_and_nothing_large_before() {
    let server = Appliance::start();
    let opened = server.get("/ws/?EIO=4&transport=polling");
    let session = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    for (session, status) in [(session, "413"), ("AAAAAAAAAAAAAAAAAAAAAA", "413"), ("AAAAAAAAAAAAAAAAAAAAAA", "400")] {
        let length = if status == "413" { LARGE } else { 60_000 };
        let answer =
            heard(say(server.port, &post(&format!("/ws/?EIO=4&transport=polling&sid={session}"), None, length)));
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{session}: {answer}");
    }
}

/// A request on a connection that stays.
fn request(stream: &mut TcpStream, method: &str, path: &str, token: Option<&str>, body: &str) -> String {
    let token = token.map_or(String::new(), |token| format!("\r\nAuthorization: Bearer {token}"));
    ask(stream, &format!("{method} {path} HTTP/1.1{token}"), body)
}

#[test]
fn between_two_requests_is_more_time_than_for_a_head_and_a_client_is_told() {
    let env = [("ACADEMY_RT_LIMITS_KEEP_ALIVE", "4s"), ("ACADEMY_RT_LIMITS_REQUEST_HEAD", "1s")];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &env);
    let token = server.token("7", "learner");
    let report = r#"{"lessonId":1,"progress":40,"timeSpent":3}"#;
    let mut kept = say(server.port, "");
    let first = request(&mut kept, "POST", "/api/v1/progress", Some(&token), report);
    assert!(first.starts_with("HTTP/1.1 200 ") && first.contains("keep-alive: timeout=4\r\n"), "{first}");
    // A head that comes slowly is cut in its time, though a byte comes now and then.
    let (mut slow, begun) = (say(server.port, "GET /healthz HTTP/1.1\r\nX: "), Instant::now());
    slow.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    while !matches!(slow.read(&mut [0; 64]), Ok(0)) {
        assert!(begun.elapsed() < PATIENCE, "a byte at a time goes on for ever");
        if slow.write_all(b"x").is_err() {
            break;
        }
    }
    assert!(begun.elapsed() >= Duration::from_secs(1) && begun.elapsed() < Duration::from_secs(3));
    // Twice the time of a head has passed on the first connection.
    std::thread::sleep(Duration::from_secs(2).saturating_sub(begun.elapsed()));
    let second = request(&mut kept, "POST", "/api/v1/progress", Some(&token), report);
    assert!(second.starts_with("HTTP/1.1 200 "), "{second}");
}

#[test]
fn a_stranger_may_idle_for_less_than_somebody_who_has_signed_in() {
    let server = Appliance::start();
    let token = server.token("7", "learner");
    let mut stream = say(server.port, "");
    assert!(request(&mut stream, "GET", "/healthz", None, "").contains("keep-alive: timeout=15\r\n"));
    assert!(request(&mut stream, "GET", "/api/v1/session", Some("no"), "").contains("keep-alive: timeout=15\r\n"));
    assert!(request(&mut stream, "GET", "/api/v1/session", Some(&token), "").contains("keep-alive: timeout=75\r\n"));
    assert!(request(&mut stream, "GET", "/healthz", None, "").contains("keep-alive: timeout=75\r\n"));
}
