//! Who a server takes a client for behind proxies, and what it says of a proxy or a page that an administrator has forgotten.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{SECRET, run, signed, words};
use crate::service::{PATIENCE, Service, ask, connect_from, parse};

const PROXY: [u8; 4] = [127, 0, 0, 2];
const OTHER: [u8; 4] = [127, 0, 0, 3];
const CLIENT: &str = "203.0.113.9";
/// A line of the PROXY protocol, and headers of its second version.
const LINE: &[u8] = b"PROXY TCP4 203.0.113.9 10.0.0.1 50000 443\r\n";
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xcb\0\x71\x09\x0a\0\0\x01\xc3\x50\x01\xbb";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

fn start(server: &str, tls: &str) -> Service {
    Service::start(&format!(
        "[server]\nlisten = \"127.0.0.1:PORT\"\n{server}\n[tls]\nmode = \"{tls}\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
         [storage]\ndata_dir = \"DATA\"\nmin_free = 0\n[log]\nformat = \"json\"\n"
    ))
}

fn head(token: &str, headers: &str) -> String {
    format!("GET /api/v1/admin/status HTTP/1.1\r\nAuthorization: Bearer {token}{headers}")
}

/// The state of a server as it tells a request of this proxy with these headers.
fn status(service: &Service, from: [u8; 4], begin: &[u8], headers: &str) -> Value {
    let mut stream = connect_from(from, service.port);
    stream.write_all(begin).unwrap();
    let (status, answer) = parse(&ask(&mut stream, &head(&service.token("1", "admin"), headers), ""));
    assert_eq!(status, 200, "{answer}");
    answer
}

fn seen_from(service: &Service, from: [u8; 4], begin: &[u8], headers: &str) -> String {
    status(service, from, begin, headers)["seenFrom"].as_str().unwrap().to_owned()
}

/// Whether the server closes a connection without a word.
fn is_hung_up_on(mut stream: TcpStream, words: &[u8]) -> bool {
    drop(stream.write_all(words));
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let is_over = match ended {
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    };
    is_over && answer.is_empty()
}

fn doctor(service: &Service) -> Value {
    let config = service.path("academy-rt.toml");
    let output = run(&["--config", config.to_str().unwrap(), "--output", "json", "doctor"], &[]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)))
}

fn finding<'a>(doctor: &'a Value, part: &str) -> &'a Value {
    let findings = doctor["findings"].as_array().unwrap();
    let is_it = |finding: &&Value| finding["what"].as_str().unwrap().contains(part);
    findings.iter().find(is_it).unwrap_or_else(|| panic!("no finding has '{part}': {doctor}"))
}

#[test]
fn a_trusted_proxy_is_believed_and_who_is_none_is_named_with_the_line_to_write() {
    let service = start("behind_proxy = true\ntrusted_proxies = [\"127.0.0.2/32\", \"10.0.0.0/8\"]", "off");
    let for_client = format!("\r\nX-Forwarded-For: 6.6.6.6, {CLIENT}:50000, 10.1.2.3");
    assert_eq!(seen_from(&service, PROXY, b"", &for_client), CLIENT);
    assert_eq!(seen_from(&service, PROXY, b"", &format!("\r\nX-Forwarded-For: {CLIENT}, unknown")), "127.0.0.2");
    // The other header is what the client has put there.
    assert_eq!(seen_from(&service, PROXY, b"", &format!("\r\nForwarded: for={CLIENT}")), "127.0.0.2");
    for _ in 0..9 {
        assert_eq!(seen_from(&service, OTHER, b"", &for_client), "127.0.0.3", "nobody has said that it is a proxy");
    }
    service.wait_for("trusted_proxies = [\\\"127.0.0.2\\\", \\\"10.0.0.0/8\\\", \\\"127.0.0.3\\\"]");
    assert_eq!(service.log().matches("X-Forwarded-For of an address").count(), 1, "{}", service.log());
    let answer = status(&service, PROXY, b"", "");
    assert_eq!(answer["untrustedProxies"], serde_json::json!([{ "name": "127.0.0.3", "requests": 9 }]));
    let found = doctor(&service);
    let remedy = finding(&found, "127.0.0.3 speaks as a proxy does")["remedy"].as_str().unwrap().to_owned();
    assert!(remedy.contains("trusted_proxies = [\"127.0.0.2\", \"10.0.0.0/8\", \"127.0.0.3\"]"), "{remedy}");
    let config = service.path("academy-rt.toml");
    let shown = words(&run(&["--config", config.to_str().unwrap(), "status"], &[]));
    assert!(shown.contains("PROXIES") && shown.contains("127.0.0.3 (9 times)"), "{shown}");
    service.end();
}

#[test]
fn a_proxy_on_this_machine_is_believed_without_a_list_and_nobody_else() {
    let service = start("behind_proxy = true\nforwarded_header = \"forwarded\"", "off");
    assert!(service.log().contains("server.trusted_proxies is empty"), "{}", service.log());
    let both = format!("\r\nX-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6, for=\"{CLIENT}:1\";proto=https");
    assert_eq!(seen_from(&service, PROXY, b"", &both), CLIENT);
    assert_eq!(seen_from(&service, PROXY, b"", "\r\nX-Forwarded-For: 6.6.6.6"), "127.0.0.2");
    finding(&doctor(&service), "only a proxy on this machine is believed");
    service.end();
}

#[test]
fn the_proxy_protocol_says_who_connects_before_anything_else_and_for_trusted_proxies_alone() {
    let proxied = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.2\"]\n[limits]\nhandshake = \"2s\"";
    let service = start(proxied, "off");
    assert_eq!(seen_from(&service, PROXY, LINE, ""), CLIENT);
    assert_eq!(seen_from(&service, PROXY, HEADER, ""), CLIENT);
    assert_eq!(seen_from(&service, PROXY, LOCAL, ""), "127.0.0.2", "the proxy itself");
    assert_eq!(seen_from(&service, PROXY, HEADER, "\r\nX-Forwarded-For: 6.6.6.6"), CLIENT, "what the client claims");
    // Without it a trusted proxy is refused, and with it anybody else.
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    assert!(is_hung_up_on(connect_from(PROXY, service.port), request));
    service.wait_for("does not begin with a header of the PROXY protocol");
    assert!(is_hung_up_on(connect_from(OTHER, service.port), &[HEADER, request].concat()));
    service.wait_for("the PROXY protocol of an address that is no trusted proxy");
    assert_eq!(seen_from(&service, OTHER, b"", ""), "127.0.0.3");
    let answer = status(&service, PROXY, HEADER, "");
    assert_eq!(answer["untrustedProxies"], serde_json::json!([{ "name": "127.0.0.3", "requests": 1 }]));
    // Who begins and does not go on has the time of a handshake.
    let begun = Instant::now();
    assert!(is_hung_up_on(connect_from(PROXY, service.port), &HEADER[..20]));
    assert!(begun.elapsed() >= Duration::from_secs(2) && begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
    finding(&doctor(&service), "127.0.0.3 speaks as a proxy does");
    service.end();
}

#[test]
fn behind_the_proxy_protocol_the_places_are_those_of_the_clients() {
    let proxied = "proxy_protocol = true\ntrusted_proxies = [\"127.0.0.2\"]\n[limits]\nconnections_per_address = 3\nnewcomers_per_address = 2";
    let service = start(proxied, "off");
    let request = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let ask_from = |begin: &[u8]| {
        let mut stream = connect_from(PROXY, service.port);
        drop(stream.write_all(&[begin, request].concat()));
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).is_ok_and(|()| answer == *b"HTTP/1.1 200").then_some(stream)
    };
    let kept: Vec<_> = (0..3).map(|_| ask_from(HEADER).expect("there is a place")).collect();
    assert!(ask_from(HEADER).is_none(), "the client has all its places");
    let other: Vec<_> = (0..3).map(|_| ask_from(b"PROXY TCP4 203.0.113.8 10.0.0.1 1 443\r\n")).collect();
    assert!(other.iter().all(Option::is_some), "another one has its own");
    let local: Vec<_> = (0..9).map(|_| ask_from(LOCAL)).collect();
    assert!(local.iter().all(Option::is_some), "the proxy is not counted");
    drop((kept, other, local));
    service.end();
}

#[test]
fn a_page_that_is_refused_is_named_with_the_line_to_write_and_may_read_why() {
    let service = start("cors_origins = [\"https://Portal.example.ca:443\", \"capacitor://localhost\"]", "off");
    let poll = |headers: &str| service.plain(&format!("GET /ws/?EIO=4&transport=polling HTTP/1.1{headers}"), "");
    let allows = |answer: &str, origin: &str| {
        answer.to_ascii_lowercase().contains(&format!("access-control-allow-origin: {origin}\r\n"))
    };
    for origin in ["https://portal.example.ca", "capacitor://localhost"] {
        let answer = poll(&format!("\r\nOrigin: {origin}"));
        assert!(answer.starts_with("HTTP/1.1 200 ") && allows(&answer, origin), "{answer}");
    }
    for _ in 0..9 {
        let answer = poll("\r\nOrigin: https://new.example.ca");
        assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("add it to server.cors_origins"), "{answer}");
        assert!(allows(&answer, "https://new.example.ca"), "its console can show it: {answer}");
        assert!(answer.to_ascii_lowercase().contains("vary: origin\r\n"), "{answer}");
    }
    let preflight = service.plain(
        "OPTIONS /api/v1/session HTTP/1.1\r\nOrigin: https://new.example.ca\r\nAccess-Control-Request-Method: GET\r\n\
         Access-Control-Request-Headers: authorization",
        "",
    );
    assert!(preflight.starts_with("HTTP/1.1 403 ") && allows(&preflight, "https://new.example.ca"), "{preflight}");
    let lower = preflight.to_ascii_lowercase();
    assert!(!lower.contains("allow-methods") && !lower.contains("allow-headers"), "nothing is allowed: {preflight}");
    // No other answer is for the page, whatever it asks for.
    let token = service.token("7", "learner");
    for path in ["/healthz", "/api/v1/session", "/api/v1/nothing"] {
        let answer = service.plain(
            &format!("GET {path} HTTP/1.1\r\nOrigin: https://new.example.ca\r\nAuthorization: Bearer {token}"),
            "",
        );
        assert!(!answer.to_ascii_lowercase().contains("access-control"), "{path}: {answer}");
    }
    assert!(poll("\r\nOrigin: null").contains("add it to server.cors_origins"));
    let line = "cors_origins = [\"https://portal.example.ca\", \"capacitor://localhost\", \"https://new.example.ca\"]";
    service.wait_for(&line.replace('"', "\\\""));
    assert_eq!(service.log().matches("a page of this origin was refused").count(), 2, "the first and the tenth");
    let seen = parse(&service.plain(&head(&service.token("1", "admin"), ""), "")).1["refusedOrigins"].clone();
    assert_eq!(
        seen,
        serde_json::json!([{ "name": "https://new.example.ca", "requests": 10 }, { "name": "null", "requests": 1 }])
    );
    let found = doctor(&service);
    let remedy = finding(&found, "pages of https://new.example.ca were refused (10 times)")["remedy"].clone();
    assert!(remedy.as_str().unwrap().contains(line), "{remedy}");
    finding(&found, "pages of null were refused");
    service.end();
}

#[test]
fn the_log_says_which_claim_of_a_token_is_wrong_and_how() {
    let service = start("", "off");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
    let claims = serde_json::json!({ "userId": 7, "iat": u64::try_from(now).unwrap(), "exp": 9_999_999_999_u64 });
    let token = signed(&claims, SECRET);
    let head = format!("GET /api/v1/session HTTP/1.1\r\nAuthorization: Bearer {token}");
    let (status, answer) = parse(&service.plain(&head, ""));
    assert_eq!((status, answer["error"]["code"].as_str()), (401, Some("token_not_yet_valid")), "{answer}");
    service.wait_for("its iat is in milliseconds; write it in seconds");
    let config = service.path("academy-rt.toml");
    let said = words(&run(&["--config", config.to_str().unwrap(), "token", "verify", &token], &[]));
    assert!(said.contains("its iat is in milliseconds") && !said.contains("clock"), "{said}");
    service.end();
}
