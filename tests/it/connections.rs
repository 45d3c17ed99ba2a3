//! What strangers' connections and bodies may cost, through the front door.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use crate::harness::{Appliance, run, until, words};
use crate::service::{PATIENCE, Service, ask, connect_from, parse};

/// A connection on which something was said.
pub(crate) fn say(port: u16, text: &str) -> TcpStream {
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
const WITH_BODY: [(&str, &str); 15] = [
    ("POST", "/api/v1/rooms/1/messages"),
    ("PATCH", "/api/v1/rooms/1/messages/1"),
    ("POST", "/api/v1/rooms/1/typing"),
    ("POST", "/api/v1/rooms/1/read"),
    ("POST", "/api/v1/rooms/1/join"),
    ("POST", "/api/v1/progress"),
    ("POST", "/api/v1/notifications/read"),
    ("POST", "/api/v1/notifications"),
    ("POST", "/api/v1/broadcast"),
    ("POST", "/api/v1/admin/audit"),
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
pub(crate) fn memory(server: &Appliance) -> u64 {
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
    // Its sender is told to go on when the body has its place.
    let head = post("/api/v1/progress", Some(&one), 1_000_000).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let mut holding = say(server.port, &head);
    holding.read_exact(&mut [0; "HTTP/1.1 100 Continue\r\n\r\n".len()]).unwrap();
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

const PLAIN: &str = "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\nmode = \"off\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
                     [storage]\ndata_dir = \"DATA\"\nmin_free = 0\n";

/// Asks for something on a connection that stays; `None` if it was turned away.
fn healthy(mut stream: TcpStream) -> Option<TcpStream> {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").ok()?;
    let mut answer = [0; 2_048];
    let length = stream.read(&mut answer).ok().filter(|length| *length > 0)?;
    assert!(answer[..length].starts_with(b"HTTP/1.1 200 "));
    Some(stream)
}

/// The service manager's ear.
struct Watchdog(UnixDatagram);

impl Watchdog {
    fn bind(path: &std::path::Path) -> Watchdog {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Watchdog(socket)
    }

    /// It is fed, some times from now on.
    fn is_fed(&self) {
        self.0.set_nonblocking(true).unwrap();
        let mut message = [0; 4_096];
        while self.0.recv(&mut message).is_ok() {}
        self.0.set_nonblocking(false).unwrap();
        for _ in 0..3 {
            let length = self.0.recv(&mut message).expect("the watchdog starves");
            assert!(String::from_utf8_lossy(&message[..length]).contains("WATCHDOG=1"));
        }
    }
}

/// This process has more connections than it may have files by default.
fn raise_own_descriptors() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// A server that may have 1,024 descriptors, and whose watchdog is listened to in the directory.
fn watched_with_few_descriptors() -> (Service, Watchdog, tempfile::TempDir) {
    raise_own_descriptors();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let watchdog = Watchdog::bind(&path);
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let service = Service::start_with_descriptors(PLAIN, &env, 1_024);
    (service, watchdog, dir)
}

#[test]
fn an_address_that_takes_all_connections_leaves_others_theirs_and_the_watchdog_is_fed() {
    let (service, watchdog, _dir) = watched_with_few_descriptors();
    let mut kept: Vec<_> = (0..1_100).filter_map(|_| healthy(connect_from([127, 0, 0, 9], service.port))).collect();
    assert_eq!(kept.len(), 256, "a quarter of the descriptors");
    assert!(healthy(connect_from([127, 0, 0, 2], service.port)).is_some());
    watchdog.is_fed();
    assert!(!service.log().contains("withholding"), "{}", service.log());
    assert!(service.log().contains("\"reason\":\"connections\""), "{}", service.log());
    // Where they come from, too, somebody is served when one of them is gone.
    kept.pop();
    until("a place is free", || healthy(connect_from([127, 0, 0, 9], service.port)).is_some());
    service.end();
}

#[test]
fn who_comes_from_everywhere_leaves_a_reserve_and_those_who_have_signed_in() {
    let (service, watchdog, _dir) = watched_with_few_descriptors();
    let token = service.token("7", "admin");
    let mut known = connect_from([127, 0, 0, 3], service.port);
    assert!(request(&mut known, "GET", "/api/v1/session", Some(&token), "").starts_with("HTTP/1.1 200 "));
    let mut kept = Vec::new();
    for from in 10..40 {
        kept.extend((0..50).filter_map(|_| healthy(connect_from([127, 0, 0, from], service.port))));
    }
    until("somebody else is served", || healthy(connect_from([127, 0, 0, 2], service.port)).is_some());
    watchdog.is_fed();
    assert!(!service.log().contains("withholding"), "{}", service.log());
    // The oldest strangers have made room, and not who has signed in.
    let answer = request(&mut known, "GET", "/api/v1/admin/status", Some(&token), "");
    let (status, figures) = parse(&answer);
    assert_eq!(status, 200, "{answer}");
    assert!(figures["process"]["openFds"].as_u64().unwrap() < 1_024 - 40, "{figures}");
    assert!(figures["connections"].as_u64() <= figures["connectionsLimit"].as_u64(), "{figures}");
    assert_eq!(
        figures["connectionsTurnedAway"].as_u64().unwrap() > 0,
        service.log().contains("turned away"),
        "{figures}"
    );
    let config = service.path("academy-rt.toml");
    let output = run(&["--config", config.to_str().unwrap(), "status"], &[]);
    assert!(output.status.success(), "the control socket: {}", words(&output));
    drop(kept);
    service.end();
}

#[test]
fn a_proxy_is_not_counted_and_whom_it_asks_for_is() {
    let server = Appliance::start_in(
        tempfile::tempdir().unwrap(),
        &[("ACADEMY_RT_SERVER_BEHIND_PROXY", "true"), ("ACADEMY_RT_LIMITS_CONNECTIONS_PER_ADDRESS", "3")],
    );
    // WebSockets that do not sign in.
    let upgrade = |client: &str| {
        let head = format!(
            "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: {client}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        let mut stream = say(server.port, &head);
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        (stream, String::from_utf8_lossy(&status[9..]).into_owned())
    };
    let mut open: Vec<_> = (0..3).map(|_| upgrade("203.0.113.9")).collect();
    assert!(open.iter().all(|(_, status)| status == "101"));
    assert_eq!(upgrade("203.0.113.9").1, "429");
    assert_eq!(upgrade("203.0.113.8").1, "101");
    // Connections of the proxy that only wait are nobody's.
    let waiting: Vec<_> = (0..20).filter_map(|_| healthy(connect_from([127, 0, 0, 1], server.port))).collect();
    assert_eq!(waiting.len(), 20);
    open.pop();
    until("the place of one that has gone is free", || upgrade("203.0.113.9").1 == "101");
}

/// A WebSocket that has not signed in.
fn websocket(port: u16) -> TcpStream {
    let head = "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    say(port, head)
}

/// A frame of a client, with a mask that changes nothing.
pub(crate) fn frame(text: &str) -> Vec<u8> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(length @ ..126) => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(text.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    frame
}

/// Signs in on a WebSocket, and waits for the first word.
pub(crate) fn signed_in(port: u16, token: &str) -> TcpStream {
    let mut stream = websocket(port);
    stream.write_all(&frame(&format!("40{{\"token\":\"{token}\"}}"))).unwrap();
    let (mut heard, mut some) = (Vec::new(), [0; 1_024]);
    while !String::from_utf8_lossy(&heard).contains("42[\"authenticated\"") {
        let length = stream.read(&mut some).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend(&some[..length]);
    }
    stream
}

/// A little longer than a client has to hang up by itself.
const FAREWELL: Duration = Duration::from_secs(6);

#[test]
fn who_leaves_the_namespace_or_is_refused_is_hung_up_on() {
    // Who has left may sign in again for so long.
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_LIMITS_SIGN_IN", "2s")]);
    let token = server.token("7", "learner");
    let begun = Instant::now();
    let mut left = signed_in(server.port, &token);
    left.write_all(&frame("41")).unwrap();
    let mut refused = websocket(server.port);
    refused.write_all(&frame("40{\"token\":\"no\"}")).unwrap();
    heard(left);
    heard(refused);
    assert!(begun.elapsed() < FAREWELL);
    // On polling, the next poll is told.
    let opened = server.get("/ws/?EIO=4&transport=polling");
    let session = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
    let path = format!("/ws/?EIO=4&transport=polling&sid={session}");
    let mut sending = say(server.port, "");
    let begun = Instant::now();
    for packet in [format!("40{{\"token\":\"{token}\"}}"), "41".to_owned()] {
        assert!(request(&mut sending, "POST", &path, None, &packet).starts_with("HTTP/1.1 200 "));
    }
    until("the session has ended", || {
        assert!(begun.elapsed() < FAREWELL, "the session goes on");
        let answer = server.get(&path);
        answer.ends_with("\r\n\r\n1") || answer.starts_with("HTTP/1.1 400 ")
    });
}

#[test]
fn who_is_refused_in_the_handshake_is_hung_up_on() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_AUTH_REJECT", "connect_error")]);
    let begun = Instant::now();
    let mut refused = websocket(server.port);
    refused.write_all(&frame("40{\"token\":\"no\"}")).unwrap();
    let said = heard(refused);
    assert!(said.contains("44{") && said.contains("token_malformed"), "{said}");
    assert!(begun.elapsed() < FAREWELL);
}

#[test]
fn who_comes_and_leaves_on_one_connection_over_and_over_ends_it_and_costs_little() {
    let server = Appliance::start();
    let token = server.token("7", "learner");
    let used = || {
        let figures = server.call(&server.token("1", "admin"), "GET", "/api/v1/admin/status", "").1;
        figures["process"]["cpuSeconds"].as_f64().unwrap()
    };
    let before = used();
    let mut stream = signed_in(server.port, &token);
    let begun = Instant::now();
    let pair = [frame("41"), frame(&format!("40{{\"token\":\"{token}\"}}"))].concat();
    // A client that reads all along: it is not cut off for being slow.
    let mut reading = stream.try_clone().unwrap();
    reading.set_read_timeout(Some(FAREWELL)).unwrap();
    let reader = std::thread::spawn(move || {
        loop {
            match reading.read(&mut [0; 4_096]) {
                Ok(1..) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
                _ => return true,
            }
        }
    });
    let written = (0..50_000).take_while(|_| stream.write_all(&pair).is_ok()).count();
    assert!(reader.join().unwrap(), "the connection goes on after {written} pairs");
    assert!(begun.elapsed() < FAREWELL, "{:?}", begun.elapsed());
    assert!(used() - before < 2.0, "{} s of processor time", used() - before);
}

#[test]
fn who_asks_to_be_connected_over_and_over_on_polling_ends_their_session() {
    let server = Appliance::start();
    let token = server.token("7", "learner");
    for packet in ["40", "40/x,"] {
        let opened = server.get("/ws/?EIO=4&transport=polling");
        let session = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap();
        let path = format!("/ws/?EIO=4&transport=polling&sid={session}");
        let sent = |body: &str| {
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let (mut stream, mut answer) = (say(server.port, &head), Vec::new());
            // Who has too much to say may be hung up on.
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        };
        assert!(sent(&format!("40{{\"token\":\"{token}\"}}")).starts_with("HTTP/1.1 200 "));
        // As many events as one likes are no flood of these.
        assert!(sent(&vec!["42[\"no:such\"]"; 300].join("\u{1e}")).starts_with("HTTP/1.1 200 "));
        let answer = sent(&vec![packet; 100_000].join("\u{1e}"));
        assert!(!answer.starts_with("HTTP/1.1 200 "), "{packet}: {answer}");
        assert!(server.get(&path).starts_with("HTTP/1.1 400 "), "{packet}: the session goes on");
    }
}

#[test]
fn who_asks_to_be_connected_over_and_over_on_a_websocket_is_hung_up_on() {
    let server = Appliance::start();
    let token = server.token("7", "learner");
    let used = || {
        let figures = server.call(&server.token("1", "admin"), "GET", "/api/v1/admin/status", "").1;
        figures["process"]["cpuSeconds"].as_f64().unwrap()
    };
    for packet in ["40", "40/x,"] {
        let before = used();
        let mut stream = signed_in(server.port, &token);
        let flood = frame(packet).repeat(1_000);
        let written = (0..500).take_while(|_| stream.write_all(&flood).is_ok()).count();
        assert!(written < 500, "{packet}: all of them were taken");
        assert!(used() - before < 1.0, "{packet}: {} s of processor time", used() - before);
    }
    // What else is no event is read slowly, as other wrong requests are; and the connection goes on.
    let mut stream = signed_in(server.port, &token);
    stream.set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let flood = frame("3").repeat(10_000);
    let written = (0..1_000).take_while(|_| stream.write_all(&flood).is_ok()).count();
    assert!(written < 1_000, "all of them were read");
    // Frames that come before the answer are counted as well; an upgrade behind another request has no beginning that is known.
    let upgrade = "GET /ws/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n\
                   Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let healthy = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for early in [[upgrade.as_bytes(), &frame("40").repeat(17)].concat(), [healthy, upgrade].concat().into_bytes()] {
        let mut stream = say(server.port, "");
        stream.write_all(&early).unwrap();
        let mut answer = Vec::new();
        // It is reset, or ends.
        let _ = stream.read_to_end(&mut answer);
        assert!(!String::from_utf8_lossy(&answer).contains("\"sid\""), "{}", String::from_utf8_lossy(&answer));
    }
    // One that has asked for something else before upgrades as any other.
    let mut kept = say(server.port, "");
    assert!(
        request(&mut kept, "POST", "/api/v1/progress", Some(&token), r#"{"lessonId":1,"progress":40}"#)
            .starts_with("HTTP/1.1 200 ")
    );
    assert!(request(&mut kept, "GET", "/healthz", None, "").starts_with("HTTP/1.1 200 "));
    kept.write_all(upgrade.as_bytes()).unwrap();
    let mut heard = [0; 1_024];
    until("it is open", || {
        let length = kept.read(&mut heard).unwrap();
        String::from_utf8_lossy(&heard[..length]).contains("sid")
    });
}

#[test]
fn a_user_has_so_many_polls_that_wait() {
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_LIMITS_POLLS_PER_USER", "2")]);
    let (one, other) = (server.token("7", "learner"), server.token("8", "learner"));
    let cursor = |token: &str| server.call(token, "GET", "/api/v1/events", "").1["cursor"].as_str().unwrap().to_owned();
    let (cursor, others) = (cursor(&one), cursor(&other));
    let poll = |token: &str, cursor: &str, wait: u64| {
        let path = format!("/api/v1/events?cursor={cursor}&wait={wait}");
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\r\n"
        );
        say(server.port, &head)
    };
    let waiting =
        || server.call(&server.token("1", "admin"), "GET", "/api/v1/admin/status", "").1["pollsWaiting"].as_u64();
    let mut polls: Vec<_> = (0..2).map(|_| poll(&one, &cursor, 30)).collect();
    until("both wait", || waiting() == Some(2));
    let answer = heard(poll(&one, &cursor, 30));
    assert!(answer.starts_with("HTTP/1.1 429 ") && answer.contains("retryAfterMs"), "{answer}");
    // Who does not wait is answered, and so is somebody else.
    assert!(heard(poll(&one, &cursor, 0)).starts_with("HTTP/1.1 200 "));
    assert!(heard(poll(&other, &others, 1)).starts_with("HTTP/1.1 200 "));
    polls.pop();
    until("the place of one that has gone is free", || heard(poll(&one, &cursor, 1)).starts_with("HTTP/1.1 200 "));
}
