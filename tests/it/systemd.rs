//! The service manager's side, played by its own protocols: notification socket, watchdog, passed sockets, the journal.

use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crate::harness::{free_port, not_run, until};
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
    // Nobody listens any more, behind the back of the service: as a socket that somebody has taken away.
    let socket = TcpStream::from(OwnedFd::from(listener.try_clone().unwrap()));
    socket.shutdown(Shutdown::Both).unwrap();
    service.wait_for("withholding the watchdog signal");
    assert!(service.log().contains("no connection to"), "{}", service.log());
}

/// The journal itself, in a mount namespace of its own: its daemon takes the lines, its reader finds them by their fields.
#[test]
fn lines_have_fields_of_their_own_in_the_journal_and_say_them_in_the_message() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let script = r#"
        set -e
        mount -t tmpfs tmpfs /run
        mkdir -p /run/systemd/journal /run/log/journal
        /lib/systemd/systemd-journald >/dev/null 2>&1 &
        journal=$!
        trap 'kill $journal' EXIT
        until [ -S /run/systemd/journal/socket ]; do sleep 0.02; done
        "$0" serve --no-tls --listen 127.0.0.1:0 --data-dir "$1" >/dev/null 2>&1 &
        server=$!
        tries=0
        until journalctl -D /run/log/journal -o cat SYSLOG_IDENTIFIER=academy-rt 2>/dev/null | grep -q '^started '; do
            tries=$((tries + 1)); [ $tries -lt 400 ]; sleep 0.05
        done
        kill $server
        wait $server
        journalctl -D /run/log/journal -o json SYSLOG_IDENTIFIER=academy-rt
    "#;
    let env = [
        ("ACADEMY_RT_LOG_FORMAT", "journal"),
        ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
        ("ACADEMY_RT_STORAGE_MIN_FREE", "0"),
    ];
    // Who is not root has a namespace of users, too; a journal does not start in one everywhere.
    let output = std::process::Command::new("unshare")
        .args(["-m", "bash", "-c", script, env!("CARGO_BIN_EXE_academy-rt"), data.to_str().unwrap()])
        .env_clear()
        .envs(env)
        .output()
        .unwrap();
    let said = crate::harness::words(&output);
    if said.contains("Operation not permitted") {
        return not_run("a mount namespace needs root");
    }
    assert!(output.status.success(), "{said}");
    let lines: Vec<serde_json::Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let text = |line: &serde_json::Value| line["MESSAGE"].as_str().unwrap_or_default().to_owned();
    let started = lines.iter().find(|line| text(line).starts_with("started ")).unwrap();
    // `journalctl -u academy-rt` shows this and nothing else.
    let said = text(started);
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    for part in [version.as_str(), "tls=off", "addresses=http://127.0.0.1:", &format!("data_dir={}", data.display())] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
    assert_eq!(started["F_VERSION"], env!("CARGO_PKG_VERSION"));
    assert_eq!(started["F_DATA_DIR"], data.to_str().unwrap());
    assert_eq!(started["F_TLS"], "off");
    assert!(started["F_ADDRESSES"].as_str().unwrap().starts_with("http://127.0.0.1:"));
    assert_eq!(started["PRIORITY"], "6");
    assert!(lines.iter().any(|line| text(line) == "stopped"), "{lines:?}");
}

/// A notification socket that has a name and no file, as some managers and container engines give it.
#[test]
fn a_manager_with_an_abstract_socket_is_told_as_well() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("academy-rt-test-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    let manager = Manager(UnixDatagram::bind_addr(&address).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let socket = format!("@{name}");
    let env = [("NOTIFY_SOCKET", socket.as_str()), ("WATCHDOG_USEC", "400000")];
    let service = Service::start_in(tempfile::tempdir().unwrap(), free_port(), PLAIN, &env, None);
    manager.wait_for("READY=1");
    manager.wait_for("WATCHDOG=1");
    service.end();
    manager.wait_for("STOPPING=1");
}

/// In a network namespace of its own: IPv6 is off there, and the socket that is for all addresses serves IPv4.
#[test]
fn a_server_for_all_addresses_is_healthy_where_ipv6_is_off() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let manager = Manager(UnixDatagram::bind(&path).unwrap());
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let script = r#"
        ip link set lo up || exit 77
        for at in all lo; do echo 1 > /proc/sys/net/ipv6/conf/$at/disable_ipv6 || exit 77; done
        cd "$1"
        export ACADEMY_RT_STORAGE_MIN_FREE=0
        NOTIFY_SOCKET=$1/notify WATCHDOG_USEC=400000 "$0" serve --listen "[::]:8443" --data-dir data >/dev/null 2>log &
        server=$!
        tries=0
        until grep -q '"started"' log; do tries=$((tries + 1)); [ $tries -lt 400 ] || exit 6; sleep 0.05; done
        until [ -e fed ]; do tries=$((tries + 1)); [ $tries -lt 800 ] || exit 7; sleep 0.05; done
        "$0" --output json doctor --data-dir data; echo "doctor $?"
        kill $server; wait $server
        grep "not healthy" log && exit 5
        exit 0
    "#;
    let mut child = std::process::Command::new("unshare")
        .args(["-n", "sh", "-c", script, env!("CARGO_BIN_EXE_academy-rt")])
        .arg(dir.path())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("it starts, or there are no namespaces here", || {
        child.try_wait().unwrap().is_some() || dir.path().join("log").exists()
    });
    if child.try_wait().unwrap().is_none() {
        for _ in 0..3 {
            manager.wait_for("WATCHDOG=1");
        }
        std::fs::write(dir.path().join("fed"), "").unwrap();
    }
    let output = child.wait_with_output().unwrap();
    let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.code() == Some(77) || words.contains("unshare") {
        return not_run("this machine has no mount namespaces for who tests here");
    }
    assert_eq!(output.status.code(), Some(0), "{words}");
    assert!(words.contains("https://127.0.0.1:8443 answers") && !words.contains("\"level\": \"problem\""), "{words}");
}
