//! The command line by hand: what it does, and its words when something is wrong.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::harness::{Appliance, SECRET, command, free_port, run, words};

const WITH_SECRET: [(&str, &str); 1] = [("JWT_SECRET", SECRET)];

/// The exit status and all words of a command.
fn says(args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let output = run(args, env);
    (output.status.code().unwrap(), words(&output))
}

#[test]
fn every_command_has_help_and_wrong_usage_is_2() {
    for command in [
        &["--help"][..],
        &["serve", "--help"],
        &["token", "--help"],
        &["token", "issue", "--help"],
        &["token", "verify", "--help"],
        &["broadcast", "--help"],
        &["notify", "--help"],
        &["status", "--help"],
        &["init", "--help"],
        &["config", "show", "--help"],
        &["completions", "--help"],
    ] {
        assert_eq!(says(command, &[]).0, 0, "{command:?}");
    }
    for wrong in [
        &[][..],
        &["nonsense"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--no-tls", "--tls-cert", "x", "--tls-key", "y"],
        &["serve", "--tls-cert", "x"],
        &["token", "issue"],
        &["token", "issue", "--user", "a:b"],
        &["token", "issue", "--user", "7", "--ttl", "soon"],
        &["token", "issue", "--user", "7", "--scope", "everything"],
        &["broadcast", "x"],
        &["broadcast", "--all", "--role", "hr", "x"],
        &["notify", "--all"],
    ] {
        let (status, words) = says(wrong, &WITH_SECRET);
        assert_eq!(status, 2, "{wrong:?}: {words}");
    }
    let (status, words) = says(&["broadcast", "--all", "x", "{not json"], &WITH_SECRET);
    assert!(status == 2 && words.contains("not JSON"), "{words}");
}

#[test]
fn a_token_is_issued_and_verified() {
    let issued =
        run(&["token", "issue", "--user", "7", "--role", "hr_admin", "--scope", "broadcast notify"], &WITH_SECRET);
    let token = String::from_utf8(issued.stdout).unwrap();
    let (status, words) = says(&["token", "verify", token.trim()], &WITH_SECRET);
    assert_eq!(status, 0);
    for part in ["user:   7", "roles:  hr", "scopes: broadcast, notify"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    let (status, words) = says(&["--output", "json", "token", "verify", token.trim()], &WITH_SECRET);
    assert_eq!(status, 0);
    let json: serde_json::Value = serde_json::from_str(&words).unwrap();
    assert_eq!(json["userId"], 7, "the id keeps its type");
    let other = [("JWT_SECRET", "another secret that is long enough")];
    let (status, words) = says(&["token", "verify", token.trim()], &other);
    assert!(status == 3 && words.contains("token_invalid") && !words.contains(token.trim()), "{words}");
    assert_eq!(says(&["token", "verify", "nonsense"], &WITH_SECRET).0, 3);
}

#[test]
fn a_missing_or_weak_secret_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let (status, words) = says(&["token", "issue", "--user", "7", "--data-dir", dir.path().to_str().unwrap()], &[]);
    assert!(status == 1 && words.contains("academy-rt serve"), "{words}");
    let (status, words) = says(&["token", "issue", "--user", "7"], &[("JWT_SECRET", "hunter2")]);
    assert!(status == 1 && words.contains("openssl rand -hex 32") && !words.contains("hunter2"), "{words}");
}

#[test]
fn a_wrong_configuration_is_named_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("a.toml");
    fs::write(&file, "[server]\n\nlisen = \"127.0.0.1:1\"\n").unwrap();
    let (status, words) = says(&["--config", file.to_str().unwrap(), "token", "issue", "--user", "7"], &WITH_SECRET);
    assert!(status == 1 && words.contains("a.toml:3") && words.contains("server.listen"), "{words}");
    let (status, words) = says(&["token", "issue", "--user", "7"], &[("ACADEMY_RT_LIMITS_PAYLOD", "1MB")]);
    assert!(status == 1 && words.contains("ACADEMY_RT_LIMITS_PAYLOAD"), "{words}");
    assert_eq!(says(&["--config", "/absent.toml", "token", "issue", "--user", "7"], &WITH_SECRET).0, 1);
}

#[test]
fn serve_says_in_one_go_what_keeps_it_from_starting() {
    let running = Appliance::start();
    let dir = tempfile::tempdir().unwrap();
    let own = dir.path().join("own");
    let (own, theirs) = (own.to_str().unwrap(), running.data());
    let theirs = theirs.to_str().unwrap();
    let taken = format!("127.0.0.1:{}", running.port);
    let free = format!("127.0.0.1:{}", free_port());
    fs::write(dir.path().join("bad.pem"), "not a certificate").unwrap();
    let bad = dir.path().join("bad.pem");
    let bad = bad.to_str().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    for (args, what, remedy) in [
        (vec!["--no-tls", "--listen", &taken, "--data-dir", own], "another program listens", "--listen"),
        (vec!["--no-tls", "--listen", &free, "--data-dir", theirs], "in use by another academy-rt", "--data-dir"),
        (vec!["--no-tls", "--listen", "0.0.0.0:0", "--data-dir", own], "plain HTTP is refused", "behind_proxy"),
        (vec!["--tls-cert", "/absent", "--tls-key", "/absent", "--data-dir", own], "cannot be read", "path"),
        (vec!["--tls-cert", bad, "--tls-key", bad, "--data-dir", own], "contains no certificate", "PEM"),
        (vec!["--no-tls", "--listen", &free, "--data-dir", file.to_str().unwrap()], "not a directory", "--data-dir"),
    ] {
        let args: Vec<&str> = ["serve"].into_iter().chain(args).collect();
        let (status, words) = says(&args, &WITH_SECRET);
        assert!(status == 1 && words.contains(what) && words.contains(remedy), "{args:?}: {words}");
        assert!(!words.contains("panicked"), "{words}");
    }
    assert!(running.stop().success());
}

#[test]
fn what_the_server_makes_is_private() {
    let running = Appliance::start();
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&running.data()), 0o700);
    assert_eq!(mode(&running.data().join("control.sock")), 0o660);
    assert!(running.get("/healthz").contains(" 200 "));
    let health = running.get("/api/health");
    assert!(health.contains("\"ready\":true") && health.contains(env!("CARGO_PKG_VERSION")), "{health}");
    assert!(running.stop().success());
}

#[test]
fn the_running_server_is_reached_by_its_control_socket_and_by_url() {
    let running = Appliance::start();
    let data = running.data();
    let here = ["--data-dir", data.to_str().unwrap()];
    let with = |args: &[&str]| -> Vec<String> { args.iter().chain(&here).map(ToString::to_string).collect() };
    let control = |args: &[&str]| {
        let args = with(args);
        says(&args.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    };
    let (status, words) = control(&["status"]);
    assert!(status == 0 && words.contains("ready"), "{words}");
    assert_eq!(control(&["broadcast", "--all", "system:alert", "{\"a\": 1}"]), (0, "sent to 0 sockets\n".to_owned()));
    let (status, words) = control(&["notify", "--user", "7", "--title", "T", "--message", "M", "--title-fr", "F"]);
    // The broadcast of before, and its record, have ids of the same sequence.
    assert!(status == 0 && words.starts_with("stored with ID 3"), "{words}");
    let (status, words) = control(&["broadcast", "--room", "nowhere", "x"]);
    assert!(status == 1 && words.contains("invalid_payload"), "{words}");

    let url = format!("http://127.0.0.1:{}", running.port);
    let (status, words) = says(&["status", "--url", &url], &[]);
    assert!(status == 2 && words.contains("ACADEMY_RT_TOKEN"), "{words}");
    let token = |role: &str| {
        let issued = command(&["token", "issue", "--user", "1", "--role", role], &WITH_SECRET).output().unwrap();
        String::from_utf8(issued.stdout).unwrap().trim().to_owned()
    };
    assert_eq!(says(&["status", "--url", &url], &[("ACADEMY_RT_TOKEN", &token("admin"))]).0, 0);
    let (status, words) = says(&["status", "--url", &url], &[("ACADEMY_RT_TOKEN", &token("learner"))]);
    assert!(status == 1 && words.contains("forbidden"), "{words}");
    assert!(running.stop().success());
    let (status, words) = says(&["status", "--data-dir", "/absent"], &[]);
    assert!(status == 1 && words.contains("academy-rt serve"), "{words}");
}

#[test]
fn the_man_pages_are_those_of_the_help() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("academy-rt.toml");
    let args = ["man", dir.path().to_str().unwrap(), "--config", config.to_str().unwrap()];
    assert_eq!(says(&args, &[]).0, 0);
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &std::path::Path| fs::read_to_string(path).unwrap();
    let renew = "renew them: cargo run -- man man --config assets/academy-rt.toml";
    assert_eq!(read(&config), read(&root.join("assets/academy-rt.toml")), "{renew}");
    let mut pages = 0;
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension != "toml") {
            pages += 1;
            assert_eq!(read(&path), read(&root.join("man").join(path.file_name().unwrap())), "{renew}");
        }
    }
    assert_eq!(pages, fs::read_dir(root.join("man")).unwrap().count(), "{renew}");
    for page in ["academy-rt.1", "academy-rt.toml.5", "academy-rt.7", "academy-rt-init.1", "academy-rt-config-show.1"] {
        assert!(root.join("man").join(page).exists(), "{page}");
    }
}

/// Both linters: what `man` itself warns of, and what mandoc does. `tests/run` installs them.
#[test]
fn the_man_pages_are_without_warnings() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("man");
    let mut wrong = Vec::new();
    for entry in fs::read_dir(root).unwrap() {
        let path = entry.unwrap().path();
        let path = path.to_str().unwrap();
        let man =
            std::process::Command::new("man").args(["--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z", path]).output();
        let man = String::from_utf8(man.expect("man is not installed").stderr).unwrap();
        let mandoc = std::process::Command::new("mandoc").args(["-Tlint", "-W", "warning", path]).output();
        let mandoc = mandoc.expect("mandoc is not installed");
        wrong.extend([man, String::from_utf8(mandoc.stdout).unwrap(), String::from_utf8(mandoc.stderr).unwrap()]);
    }
    let wrong = wrong.concat();
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn a_message_forges_no_line_of_a_list_and_who_has_read_enough_ends_what_follows() {
    let server = Appliance::start();
    let (data, learner) = (server.data(), server.token("7", "learner"));
    let data = data.to_str().unwrap();
    server.say(
        &learner,
        "here",
        "first\n     9  2026-01-01 00:00  Boss (1): you are dismissed\r\n\u{9b}2J\u{202e}end\u{2028}x",
    );
    let output = run(&["history", "here", "--data-dir", data], &[]);
    let shown = words(&output);
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines.len(), 3, "{shown}");
    assert!(lines[0].ends_with(": first") && lines[1..].iter().all(|line| line.starts_with("        | ")), "{shown}");
    assert!(!shown.chars().any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c)), "{shown:?}");
    let output = run(&["--output", "json", "history", "here", "--data-dir", data], &[]);
    assert!(!words(&output).chars().any(|c| (c.is_control() && c != '\n') || "\u{202e}\u{2028}".contains(c)));
    // Everything that is followed has been read after a line: nothing more is waited for.
    let binary = env!("CARGO_BIN_EXE_academy-rt");
    let line = format!("'{binary}' history here --follow --data-dir '{data}' | head -1");
    let mut follows = std::process::Command::new("sh");
    let mut follows = follows.args(["-c", &line]).stdout(std::process::Stdio::null()).spawn().unwrap();
    crate::harness::until("it ends when nobody reads", || follows.try_wait().unwrap().is_some());
}
