//! What strangers' connections and bodies may cost, through the front door.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use crate::harness::Appliance;

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
    }
}
