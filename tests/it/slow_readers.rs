//! Who asks for much and reads little: it holds no memory to speak of, no view of the store for long, and no place that others
//! need.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use crate::connections::{frame, memory, say, signed_in};
use crate::harness::{Appliance, free_port, until};

/// An answer to somebody else comes within this time, however many are slow.
const IN_TIME: Duration = Duration::from_secs(20);
/// Slow readers take no more than this, in MiB.
const MOST_MIB: u64 = 64;
/// One answer has about so many bytes.
const ANSWER: usize = 900_000;
const MESSAGES: usize = 16;
const HISTORY: &str = "/api/v1/rooms/r/messages?limit=1";

/// Text that no compression makes much smaller: 3 bytes a character.
fn noise(numbers: &mut u64) -> String {
    let letters = (0..ANSWER / 3).map(|_| {
        *numbers ^= *numbers << 13;
        *numbers ^= *numbers >> 7;
        *numbers ^= *numbers << 17;
        char::from_u32(0x4e00 + u32::try_from(*numbers >> 32).unwrap() % 20_000).unwrap()
    });
    letters.collect()
}

/// A server with some large messages of user 7.
fn server(env: &[(&str, &str)]) -> Appliance {
    let mut given = vec![("ACADEMY_RT_LIMITS_MESSAGE_CHARS", "300000"), ("ACADEMY_RT_LIMITS_CONNECTS_PER_SECOND", "0")];
    given.extend(env);
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &given);
    let (token, mut numbers) = (server.token("7", "learner"), 0x9e37_79b9_7f4a_7c15);
    for _ in 0..MESSAGES {
        server.say(&token, "r", &noise(&mut numbers));
    }
    server
}

fn get(path: &str, token: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n")
}

/// Reads the head of an answer and nothing behind it, and gives its status.
fn status(stream: &mut TcpStream) -> u16 {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().parse().unwrap()
}

/// Somebody else asks, and is answered in time and whole.
fn is_served(server: &Appliance, token: &str, path: &str) -> Vec<u8> {
    let begun = Instant::now();
    let mut stream = say(server.port, &get(path, token).replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    stream.set_read_timeout(Some(IN_TIME)).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = String::from_utf8_lossy(&answer[..answer.len().min(200)]).into_owned();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{path}: {head}");
    assert!(begun.elapsed() < IN_TIME, "{path} took {:?}", begun.elapsed());
    answer
}

/// While the slow ones are as they are, for so long, their memory stays within its bound and others are served.
fn holds_for(server: &Appliance, before: u64, time: Duration, mut beside: impl FnMut()) {
    let (begun, mut most) = (Instant::now(), 0);
    while begun.elapsed() < time {
        most = most.max(memory(server));
        assert!(most < before + MOST_MIB, "{before} MiB before, {most} MiB now");
        beside();
    }
    println!("{before} MiB before, {most} MiB at most");
}

/// The views of the store that are open.
fn snapshots(server: &Appliance, admin: &str) -> u64 {
    let text = String::from_utf8(is_served(server, admin, "/metrics")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("academy_rt_store_snapshots ")).unwrap();
    line.trim().parse().unwrap()
}

#[test]
fn answers_that_nobody_reads_have_a_bound_together_and_others_are_served() {
    let server = server(&[]);
    let (slow, other) = (server.token("7", "learner"), server.token("8", "learner"));
    is_served(&server, &other, HISTORY);
    let before = memory(&server);
    // The kernel takes the first ones; the next waits in the server.
    let _slow: Vec<TcpStream> = (0..80).map(|_| say(server.port, &get(HISTORY, &slow).repeat(10))).collect();
    holds_for(&server, before, Duration::from_secs(4), || {
        for path in [HISTORY, "/api/v1/session", "/api/v1/progress"] {
            is_served(&server, &other, path);
        }
    });
}

#[test]
fn a_connection_that_stays_keeps_no_memory_of_what_was_answered() {
    let server = server(&[]);
    let token = server.token("7", "learner");
    is_served(&server, &token, HISTORY);
    let before = memory(&server);
    let stays: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = say(server.port, &get(HISTORY, &token));
            assert_eq!(status(&mut stream), 200);
            let mut body = vec![0; ANSWER];
            stream.read_exact(&mut body).unwrap();
            stream
        })
        .collect();
    let after = memory(&server);
    assert!(after < before + MOST_MIB, "{before} MiB before, {after} MiB with {} connections", stays.len());
}

#[test]
fn what_waits_for_all_sockets_together_has_a_bound_and_others_are_served() {
    let server = server(&[]);
    let (others, slow) = (server.token("8", "learner"), ["7", "9", "10"].map(|user| server.token(user, "learner")));
    let mut sockets: Vec<TcpStream> =
        slow.iter().flat_map(|token| (0..20).map(|_| signed_in(server.port, token))).collect();
    let before = memory(&server);
    let ask = |n: usize| frame(&format!(r#"42{n}["chat:history",{{"roomId":"r","limit":1}}]"#));
    for stream in &mut sockets {
        stream.set_nonblocking(true).unwrap();
        // Who is cut off meanwhile has had enough.
        let _ = (0..6).try_for_each(|n| stream.write_all(&ask(n)));
    }
    holds_for(&server, before, Duration::from_secs(4), || drop(is_served(&server, &others, HISTORY)));
    // Somebody who reads has their answer by the same way.
    let mut reader = signed_in(server.port, &others);
    reader.write_all(&ask(1)).unwrap();
    reader.read_exact(&mut vec![0; ANSWER]).unwrap();
}

#[test]
fn exports_that_one_caller_does_not_read_leave_others_theirs() {
    let server = server(&[]);
    let (slow, other) = (server.token("1", "admin"), server.token("2", "admin"));
    let before = memory(&server);
    let mut stopped: Vec<TcpStream> =
        (0..4).map(|_| say(server.port, &get("/api/v1/admin/users/7/export", &slow))).collect();
    let mut statuses: Vec<u16> = stopped.iter_mut().map(status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 429, 429]);
    let whole = is_served(&server, &other, "/api/v1/admin/users/7/export");
    assert!(whole.len() > MESSAGES * ANSWER && whole.ends_with(b"}\n\r\n0\r\n\r\n"), "{} bytes", whole.len());
    holds_for(&server, before, Duration::from_secs(1), || {
        is_served(&server, &other, "/api/v1/admin/users/7/export");
        is_served(&server, &other, "/metrics");
    });
}

#[test]
fn a_backup_that_nobody_reads_leaves_others_theirs_and_lets_go_of_its_view() {
    let server = server(&[]);
    let (slow, other) = (server.token("1", "admin"), server.token("2", "admin"));
    let before = memory(&server);
    let mut stopped = say(server.port, &get("/api/v1/admin/backup", &slow));
    assert_eq!(status(&mut stopped), 200);
    let mut second = say(server.port, &get("/api/v1/admin/backup", &slow));
    assert_eq!(status(&mut second), 409, "the caller has one under way");
    assert!(snapshots(&server, &other) > 0, "the one that is not read holds its view");
    is_served(&server, &other, "/api/v1/admin/backup");
    holds_for(&server, before, Duration::from_secs(1), || drop(is_served(&server, &other, HISTORY)));
    until("its view is let go of", || snapshots(&server, &other) == 0);
    is_served(&server, &slow, "/api/v1/admin/backup");
}

#[test]
fn connections_to_the_figures_that_ask_nothing_keep_nobody_else_from_them() {
    let port = free_port();
    let listen = format!("127.0.0.1:{port}");
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_METRICS_LISTEN", &listen)]);
    let mut idle: Vec<TcpStream> = (0..20).map(|_| say(port, "GET /metrics HT")).collect();
    idle.extend((0..40).map(|_| say(port, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").try_clone().unwrap()));
    idle.extend((0..40).map(|_| say(port, "GET /met")));
    let begun = Instant::now();
    let mut figures = String::new();
    say(port, "GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").read_to_string(&mut figures).unwrap();
    assert!(figures.contains("academy_rt_uptime_seconds") && begun.elapsed() < IN_TIME, "{figures}");
    assert!(server.get("/readyz").contains(" 200 "));
}
