//! The service manager's side, played by its own protocols: notification socket, watchdog, passed sockets, the journal.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{free_port, until};
use crate::service::{Service, ask};

const PLAIN: &str = "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\nmode = \"off\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
                     [storage]\ndata_dir = \"DATA\"\nmin_free = 0\n";

/// What the service tells its manager, line by line.
struct Manager(UnixDatagram);

impl Manager {
    fn wait_for(&self, line: &str) -> String {
        let mut message = [0; 4_096];
        loop {
            let length = self.0.recv(&mut message).unwrap_or_else(|error| panic!("no '{line}': {error}"));
            let text = String::from_utf8_lossy(&message[..length]).into_owned();
            if text.lines().any(|one| one == line) {
                return text;
            }
        }
    }
}

/// Ends the threads of a test, however it ends.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn the_service_manager_is_told_of_ready_reload_and_stop() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "400000")];
    let service = Service::start_in(dir, free_port(), PLAIN, &env, None);
    assert!(manager.wait_for("READY=1").contains("STATUS=serving at http://127.0.0.1:"));
    for _ in 0..3 {
        manager.wait_for("WATCHDOG=1");
    }
    service.hang_up();
    assert!(manager.wait_for("RELOADING=1").contains("MONOTONIC_USEC="));
    manager.wait_for("READY=1");
    service.reload("[server]\nlisten = \"nowhere\"\n");
    manager.wait_for("RELOADING=1");
    let status = manager.wait_for("READY=1");
    assert!(
        status.contains("STATUS=serving with the old configuration: ") && status.contains("server.listen"),
        "{status}"
    );
    // The watchdog's own connections are not seen by anybody.
    assert!(!service.log().contains("refused"), "{}", service.log());
    service.end();
    manager.wait_for("STOPPING=1");
}

/// systemd holds the socket while the service is away: who connects meanwhile waits, and is served by the next one.
#[test]
fn no_connection_is_refused_during_a_restart_with_a_passed_socket() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    let pass = || Some(socket.try_clone().unwrap().into());
    // The configured address is taken by somebody else: it is not used.
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().port();
    let mut service = Service::start_in(tempfile::tempdir().unwrap(), taken, PLAIN, &[], pass());
    assert!(service.log().contains(&format!("http://127.0.0.1:{port}")), "{}", service.log());
    let (stop, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let stopping = StopAtEnd(&stop);
        let client = scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("refused");
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                // A keep-alive client that is told to close comes again.
                let answer = ask(&mut stream, "GET /healthz HTTP/1.1\r\nConnection: close", "");
                assert!(answer.contains(" 200 "), "{answer}");
                served.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..3 {
            let before = served.load(Ordering::Relaxed);
            until("requests between restarts", || served.load(Ordering::Relaxed) > before + 20 || client.is_finished());
            let dir = service.end();
            service = Service::start_in(dir, taken, PLAIN, &[], pass());
        }
        drop(stopping);
        // The last service is there until the last answer.
        client.join().unwrap();
        service.end();
    });
}

#[test]
fn the_watchdog_is_fed_only_while_connections_are_accepted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let env = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "1000000")];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let service = Service::start_in(dir, free_port(), PLAIN, &env, Some(listener.try_clone().unwrap().into()));
    manager.wait_for("WATCHDOG=1");
    // Another process takes the connections away: the test itself, which holds the same socket.
    let thief = listener.try_clone().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let _stop = StopAtEnd(&stop);
        scope.spawn(|| {
            // Several at once: the service wins a race now and then.
            std::thread::scope(|thieves| {
                for _ in 0..4 {
                    thieves.spawn(|| {
                        while !stop.load(Ordering::Relaxed) {
                            // The service has made it a socket that does not wait.
                            drop(thief.accept());
                        }
                    });
                }
            });
        });
        let begun = Instant::now();
        until("the watchdog starves", || {
            begun.elapsed() < PATIENCE && service.log().contains("the watchdog is not fed")
        });
    });
    assert!(service.log().contains("nobody accepts at") || service.log().contains("no connection to"));
    manager.wait_for("WATCHDOG=1");
}
