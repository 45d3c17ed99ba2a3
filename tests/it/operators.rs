//! Operators who may look and change nothing: the kernel decides who they are, by the group of a directory, and the server what they
//! may ask.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::harness::{Appliance, SECRET, until, words};

/// A server with a directory for readers beside its data, and commands as an operator.
struct Watched {
    server: Appliance,
    binary: PathBuf,
    /// The operator's number, and that of the readers' group: nobody else has them.
    ids: Option<(u32, u32)>,
}

impl Watched {
    fn start(mode: u32) -> Watched {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let readers = dir.path().join("data-readers");
        fs::create_dir(&readers).unwrap();
        let number = 1_700_000_000 + std::process::id() % 1_000_000;
        // Only root has other users to be.
        let ids = rustix::process::geteuid().is_root().then_some((number, number + 1_000_000));
        if let Some((_, group)) = ids {
            chown(&readers, None, Some(group)).unwrap();
        }
        fs::set_permissions(&readers, fs::Permissions::from_mode(mode)).unwrap();
        let binary = dir.path().join("academy-rt");
        fs::copy(env!("CARGO_BIN_EXE_academy-rt"), &binary).unwrap();
        let server = Appliance::start_in(dir, &[]);
        // Whose own it is may be kept out as anybody else: by the mode.
        if ids.is_none() {
            fs::set_permissions(server.data().join("control.sock"), fs::Permissions::from_mode(0o0)).unwrap();
        }
        Watched { server, binary, ids }
    }

    fn socket(&self) -> PathBuf {
        self.server.dir.path().join("data-readers/readers.sock")
    }

    /// A program as a user with these groups; as this user where it is not root.
    fn as_user(&self, user: Option<u32>, group: Option<u32>, program: &Path) -> Command {
        let mut command = match user.zip(group) {
            Some((user, group)) => {
                let mut command = Command::new("setpriv");
                command.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        command.env_clear().env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin").stdin(Stdio::null());
        command
    }

    /// A command of the operator's.
    fn operator(&self, args: &[&str]) -> Output {
        let (user, group) = self.ids.unzip();
        let mut command = self.as_user(user, group, &self.binary);
        command.args(args).arg("--data-dir").arg(self.server.data()).output().unwrap()
    }

    /// A request of the operator's, as it is on the wire: the status, and the body.
    fn asks(&self, method: &str, path: &str, token: Option<&str>) -> (u16, String) {
        let (user, group) = self.ids.unzip();
        let mut command = self.as_user(user, group, Path::new("curl"));
        command.args(["-s", "-X", method, "-w", "\n%{http_code}", "--unix-socket"]).arg(self.socket());
        if method == "HEAD" {
            command.arg("--head");
        }
        if let Some(token) = token {
            command.arg("-H").arg(format!("Authorization: Bearer {token}"));
        }
        let output = command.arg(format!("http://localhost{path}")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, status) = text.rsplit_once('\n').unwrap();
        (status.parse().unwrap(), body.to_owned())
    }
}

#[test]
fn an_operator_of_the_readers_group_looks_and_changes_nothing() {
    let watched = Watched::start(0o2750);
    let ann = watched.server.token("7", "learner");
    watched.server.say(&ann, "french", "a word between people");
    until("the readers' socket is there", || watched.socket().exists());
    let found = fs::metadata(watched.socket()).unwrap();
    assert_eq!(found.mode() & 0o777, 0o660);
    if let Some((_, group)) = watched.ids {
        assert_eq!(found.gid(), group, "the directory gives it its group");
    }
    for args in [
        &["status"][..],
        &["user", "list"],
        &["user", "list", "--online"],
        &["user", "list", "--muted"],
        &["user", "show", "7"],
        &["user", "diagnose", "7"],
        &["audit", "list"],
        &["audit", "list", "--since", "1h"],
        &["token", "revoked"],
    ] {
        let output = watched.operator(args);
        assert!(output.status.success(), "{args:?}: {}", words(&output));
    }
    let json = watched.operator(&["--output", "json", "status"]);
    let json: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let seen = json["seenFrom"].as_str().unwrap();
    assert!(seen.starts_with("readers' socket, local user "), "{seen}");
    if let Some((user, _)) = watched.ids {
        assert!(seen.contains(&user.to_string()), "{seen}");
    }

    let place = watched.server.dir.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    let file = place.join("file");
    let file = file.to_str().unwrap();
    for args in [
        &["user", "block", "7", "--reason", "none"][..],
        &["user", "disconnect", "7"],
        &["user", "erase", "7", "--yes"],
        &["user", "erase", "7", "--dry-run"],
        &["user", "export", "7"],
        &["room", "list"],
        &["room", "export", "french", "-f", file],
        &["room", "create", "spanish"],
        &["history", "french"],
        &["message", "show", "1"],
        &["message", "delete", "1", "--yes"],
        &["broadcast", "--all", "system:alert", "{}"],
        &["notify", "--user", "7", "--title", "T", "--message", "M"],
        &["token", "revoke", "--user", "7"],
        &["hold", "list"],
        &["audit", "export"],
        &["backup", file],
    ] {
        let output = watched.operator(args);
        let said = words(&output);
        assert_eq!(output.status.code(), Some(1), "{args:?}: {said}");
        assert!(said.contains("this account may only read") && said.contains("sudo"), "{args:?}: {said}");
        assert!(!said.contains("a word between people"), "{args:?}: {said}");
    }
    let diagnosis = watched.operator(&["user", "diagnose", "7"]);
    assert!(!words(&diagnosis).contains("BLOCKED"), "{}", words(&diagnosis));
}

/// Every address, also one that a later version has: a new one is for readers only where its row says so.
#[test]
fn over_the_readers_socket_everything_else_is_forbidden() {
    let watched = Watched::start(0o2750);
    until("the readers' socket is there", || watched.socket().exists());
    for path in [
        "/healthz",
        "/readyz",
        "/api/health",
        "/metrics",
        "/api/v1/admin/status",
        "/api/v1/admin/connections",
        "/api/v1/admin/users",
        "/api/v1/admin/users/7/diagnosis",
        "/api/v1/admin/mutes",
        "/api/v1/admin/tokens/revoked",
        "/api/v1/admin/audit",
    ] {
        assert_eq!(watched.asks("GET", path, None).0, 200, "{path}");
        assert_eq!(watched.asks("HEAD", path, None).0, 200, "{path}");
        for method in ["POST", "PUT", "PATCH", "DELETE", "OPTIONS"] {
            let (status, body) = watched.asks(method, path, None);
            assert!(status == 403 && body.contains("one may only read"), "{method} {path}: {status} {body}");
        }
    }
    let admin = watched.server.token("1", "admin");
    for path in [
        "/api/v1/admin/audit?export=true",
        "/api/v1/admin/audit?after=0&%65xport=true",
        "/api/v1/admin/audit/?export=true",
        "/api/v1/admin/rooms",
        "/api/v1/admin/rooms/french",
        "/api/v1/admin/rooms/french/export",
        "/api/v1/admin/messages/1",
        "/api/v1/admin/notifications",
        "/api/v1/admin/users/7/export",
        "/api/v1/admin/users/7/erasure",
        "/api/v1/admin/users/../rooms",
        "/api/v1/admin/backup",
        "/api/v1/admin/tables",
        "/api/v1/admin/holds",
        "/api/v1/rooms",
        "/api/v1/rooms/french/messages",
        "/api/v1/session",
        "/api/v1/events",
        "/sdk/academy-rt.js",
        "/ws/?EIO=4&transport=polling",
        "/nothing",
        "/",
    ] {
        for token in [None, Some(admin.as_str())] {
            let (status, body) = watched.asks("GET", path, token);
            assert!(
                status == 403 && body.contains("\"forbidden\"") && body.contains("root"),
                "{path}: {status} {body}"
            );
        }
    }
}

/// Who is in neither group is let in by neither socket; and a directory that would let others in, or change the socket, has none.
#[test]
fn the_kernel_decides_who_reads() {
    let watched = Watched::start(0o2750);
    until("the readers' socket is there", || watched.socket().exists());
    if let Some((user, group)) = watched.ids {
        let mut stranger = watched.as_user(Some(user), Some(group + 1), &watched.binary);
        let output = stranger.arg("status").arg("--data-dir").arg(watched.server.data()).output().unwrap();
        let said = words(&output);
        assert!(!output.status.success() && said.contains("academy-rt-readers"), "{said}");
    }
    let socket = watched.socket();
    fs::remove_file(&socket).unwrap();
    until("a socket that was removed is there again", || socket.exists());
    let watched_dir = watched.server.end();
    assert!(!socket.exists(), "it goes with the server");
    drop(watched_dir);

    for (mode, why) in [(0o750, "set-group-ID"), (0o2770, "can change"), (0o2757, "can change")] {
        let dir = tempfile::tempdir().unwrap();
        let readers = dir.path().join("data-readers");
        fs::create_dir(&readers).unwrap();
        if rustix::process::geteuid().is_root() {
            chown(&readers, None, Some(1_800_000_000)).unwrap();
        } else if mode == 0o2770 {
            // The own group may write where it is the server's own.
            continue;
        }
        fs::set_permissions(&readers, fs::Permissions::from_mode(mode)).unwrap();
        let data = dir.path().join("data");
        let log = dir.path().join("log");
        let mut child = crate::harness::command(
            &["serve", "--no-tls", "--listen", "127.0.0.1:0", "--data-dir", data.to_str().unwrap()],
            &[("JWT_SECRET", SECRET), ("ACADEMY_RT_STORAGE_MIN_FREE", "0")],
        )
        .stdout(Stdio::null())
        .stderr(fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
        let said = || fs::read_to_string(&log).unwrap();
        until("it is told", || said().contains("nobody can read over"));
        assert!(said().contains(why) && said().contains("install -d -m 2750"), "{mode:o}: {}", said());
        assert!(!readers.join("readers.sock").exists(), "{mode:o}");
        drop(child.kill());
        child.wait().unwrap();
    }
}

/// What its account cannot look at is no fault of the server's.
#[test]
fn doctor_of_an_operator_looks_at_the_server_and_calls_nothing_bad_that_it_cannot_see() {
    let watched = Watched::start(0o2750);
    until("the readers' socket is there", || watched.socket().exists());
    let output = watched.operator(&["doctor"]);
    let said = words(&output);
    assert!(said.contains(&format!("version {} is running", env!("CARGO_PKG_VERSION"))), "{said}");
    if watched.ids.is_some() {
        assert!(said.contains("may only read") && !said.contains("PROBLEM"), "{said}");
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
}
