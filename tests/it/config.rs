//! The configuration through the real binary: which of two sources wins, what is refused, and that no secret is shown.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::harness::{in_mount_namespace, not_run};

const FIRST: &str = "the first secret, hunter2, long enough for all";
const SECOND: &str = "the second secret, hunter3, long enough for all";

/// The binary in a directory of its own, with nothing of this environment.
fn academy_rt(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_academy-rt"));
    command.args(args).current_dir(dir).env_clear().envs(env.iter().copied()).stdin(Stdio::null()).output().unwrap()
}

/// The exit status and all words; a secret in them fails the test wherever it is.
fn says(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> (i32, String) {
    let output = academy_rt(dir, args, env);
    let words = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(!words.contains("hunter"), "{args:?} shows a secret: {words}");
    (output.status.code().unwrap(), words)
}

fn issue(dir: &Path, args: &[&str], env: &[(&str, &str)]) -> String {
    let args: Vec<&str> = ["token", "issue", "--user", "7"].iter().chain(args).copied().collect();
    let output = academy_rt(dir, &args, env);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Whose secret has signed a token.
fn signer(dir: &Path, token: &str) -> &'static str {
    let good = [FIRST, SECOND].map(|secret| says(dir, &["token", "verify", token], &[("JWT_SECRET", secret)]).0 == 0);
    match good {
        [true, false] => FIRST,
        [false, true] => SECOND,
        _ => "neither",
    }
}

fn write(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn the_stronger_source_of_the_secret_wins() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let (first, second) = (write(&dir.join("first"), FIRST), write(&dir.join("second"), SECOND));
    let file = write(&dir.join("a.toml"), &format!("[auth]\njwt_secret_file = \"{first}\"\n"));
    let from_file = ["--config", &file];
    let wins = |args: &[&str], env: &[(&str, &str)]| signer(dir, &issue(dir, args, env));
    assert_eq!(wins(&from_file, &[]), FIRST);
    assert_eq!(wins(&[], &[("ACADEMY_RT_CONFIG", &file)]), FIRST);
    assert_eq!(wins(&from_file, &[("ACADEMY_RT_AUTH_JWT_SECRET_FILE", &second)]), SECOND, "environment over file");
    assert_eq!(wins(&from_file, &[("JWT_SECRET", SECOND)]), SECOND, "the secret itself over a file with one");
    let both = [("JWT_SECRET", FIRST), ("ACADEMY_RT_AUTH_JWT_SECRET", SECOND)];
    assert_eq!(wins(&[], &both), SECOND, "our own name over the platform's");
    fs::create_dir(dir.join("credentials")).unwrap();
    fs::create_dir(dir.join("data")).unwrap();
    write(&dir.join("credentials/jwt_secret"), FIRST);
    write(&dir.join("data/jwt-secret"), SECOND);
    let credentials = dir.join("credentials");
    let credentials = [("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap())];
    assert_eq!(wins(&["--data-dir", "data"], &[]), SECOND);
    assert_eq!(wins(&["--data-dir", "data"], &credentials), FIRST, "a credential over the data directory");
}

#[test]
fn a_flag_wins_over_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (name, secret) in [("a", FIRST), ("b", SECOND)] {
        fs::create_dir(dir.join(name)).unwrap();
        write(&dir.join(name).join("jwt-secret"), secret);
    }
    let env = [("ACADEMY_RT_STORAGE_DATA_DIR", "a")];
    assert_eq!(signer(dir, &issue(dir, &[], &env)), FIRST);
    assert_eq!(signer(dir, &issue(dir, &["--data-dir", "b"], &env)), SECOND);
}

#[test]
fn what_is_wrong_is_named_with_its_place_and_what_is_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (text, parts) in [
        ("[server]\n\nlisen = \"127.0.0.1:1\"", &["a.toml:3", "server.lisen", "did you mean 'server.listen'"][..]),
        ("[sever]\nlisten = \"127.0.0.1:1\"", &["a.toml:2", "sever.listen", "server.listen"]),
        ("# a\n[server]\ndrain = \"soon\"", &["a.toml:3", "server.drain", "30s"]),
        ("[storage]\ncache = \"much\"", &["a.toml:2", "storage.cache", "64KiB"]),
        ("[auth]\npublic_key = []", &["a.toml:2", "did you mean 'auth.public_keys'"]),
        ("[auth]\njwks_file = [\"x\"]", &["a.toml:2", "auth.jwks_file must be a single value"]),
        ("[auth]\nrole_map = [\"boss=king\"]", &["a.toml:2", "admin, hr, coach or learner"]),
        ("[auth]\njwt_secret = \"hunter2 hunter2 hunter2 hunter2 hunter2\"", &["a.toml:2", "jwt_secret_file"]),
        ("[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"", &["a.toml:2", "tls.cert", "set tls.mode to files"]),
        ("[server]\nlisten = \"a\"\nlisten = \"b\"", &["a.toml:3"]),
        ("[server]\nlisten = hunter2", &["a.toml:2"]),
    ] {
        let file = write(&dir.join("a.toml"), text);
        let (status, words) =
            says(dir, &["--config", &file, "token", "issue", "--user", "7"], &[("JWT_SECRET", FIRST)]);
        assert_eq!(status, 1, "{text}: {words}");
        for part in parts {
            assert!(words.contains(part), "{text}: '{part}' is not in: {words}");
        }
        assert_eq!(words.lines().count(), 3, "what, why, and what to do: {words}");
    }
    for (name, value, part) in [
        ("ACADEMY_RT_SERVER_LISTN", "x", "ACADEMY_RT_SERVER_LISTEN"),
        ("ACADEMY_RT_LIMITS_PAYLOAD", "lots", "1MB"),
        ("PORT", "http", "1 to 65535"),
        ("WEBSOCKET_ENABLED", "perhaps", "true or false"),
        ("WEBSOCKET_CORS_ORIGIN", "example.org", "https://"),
    ] {
        let (status, words) = says(dir, &["token", "issue", "--user", "7"], &[("JWT_SECRET", FIRST), (name, value)]);
        assert!(status == 1 && words.contains(name) && words.contains(part), "{name}: {words}");
    }
}

#[test]
fn a_variable_that_is_not_text_is_refused_and_not_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_academy-rt"));
    command.args(["token", "issue", "--user", "7"]).current_dir(dir.path()).env_clear();
    let output =
        command.env("JWT_SECRET", OsStr::from_bytes(b"\xff hunter2 hunter2 hunter2 hunter2")).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && words.contains("JWT_SECRET"), "{words}");
    assert!(words.contains("UTF-8") && !words.contains("hunter"), "{words}");
    // What is not ours may be what it likes.
    command.env("JWT_SECRET", FIRST).env("OTHER", OsStr::from_bytes(b"\xff"));
    assert!(command.output().unwrap().status.success());
}

#[test]
fn a_secret_that_cannot_be_used_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let issue_with = |env: &[(&str, &str)]| says(dir, &["token", "issue", "--user", "7"], env);
    let (status, words) = issue_with(&[]);
    assert!(status == 1 && words.contains("no secret") && words.contains("academy-rt serve"), "{words}");
    assert!(!dir.join("academy-rt-data").exists(), "only the server makes one");
    let short = write(&dir.join("short"), "hunter2");
    for env in [("JWT_SECRET", "hunter2"), ("ACADEMY_RT_AUTH_JWT_SECRET_FILE", short.as_str())] {
        let (status, words) = issue_with(&[env]);
        assert!(status == 1 && words.contains("7 bytes") && words.contains("openssl rand -hex 32"), "{words}");
    }
    let (status, words) = issue_with(&[("ACADEMY_RT_AUTH_JWT_SECRET_FILE", "absent")]);
    assert!(status == 1 && words.contains("absent") && words.contains("openssl rand -hex 32 > absent"), "{words}");
    let (status, words) = says(dir, &["token", "issue", "--user", "7", "--ttl", "0s"], &[("JWT_SECRET", FIRST)]);
    assert!(status == 2 && words.contains("at least 1s"), "{words}");
}

/// A public key, as an administrator finds it beside the secret.
const PUBLIC_KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAExqGdVMTbPz0s2mUtI5uUPgSGyt1R\nLgzmYtJN4Pf0rQbkW0xEwYQJ0BpJ0N0p3bM6i2Zp0oK0yqkGBDpTDe3Xbw==\n-----END PUBLIC KEY-----\n";

#[test]
fn what_is_no_secret_is_refused_by_every_command_that_reads_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("data")).unwrap();
    let secret = dir.join("secret");
    let file = write(
        &dir.join("a.toml"),
        &format!("[auth]\njwt_secret_file = \"{}\"\n[storage]\ndata_dir = \"data\"\n", secret.display()),
    );
    let commands: [&[&str]; 5] = [
        &["token", "issue", "--user", "7"],
        &["key", "list"],
        &["key", "rotate"],
        &["config", "check"],
        &["serve", "--no-tls", "--listen", "127.0.0.1:0"],
    ];
    for (text, key) in [
        (PUBLIC_KEY, "auth.public_keys"),
        (&PUBLIC_KEY.lines().filter(|line| !line.starts_with('-')).collect::<String>(), "auth.public_keys"),
        ("{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"AAAA\", \"y\": \"AAAA\"}", "auth.jwks_file"),
        ("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7hunter2 me@here", "auth.public_keys"),
        ("JWT_SECRET=hunter2 hunter2 hunter2 hunter2 hunter2", "alone, on one line"),
        ("\"hunter2 hunter2 hunter2 hunter2 hunter2\"", "alone, on one line"),
        ("hunter2 hunter2 hunter2 hunter2 hunter2\nhunter2", "alone, on one line"),
        ("\u{feff}hunter2 hunter2 hunter2 hunter2 hunter2", "byte order mark"),
    ] {
        write(&secret, text);
        for args in commands {
            let args: Vec<&str> = ["--config", &file].iter().chain(args).copied().collect();
            let (status, words) = says(dir, &args, &[]);
            assert!(status == 1 || status == 3, "{args:?} takes {text}: {words}");
            assert!(words.contains(key), "{args:?}: '{key}' is not in: {words}");
        }
        let (status, words) = says(dir, &["token", "issue", "--user", "7"], &[("JWT_SECRET", text)]);
        assert_eq!(status, 1, "JWT_SECRET={text}: {words}");
        assert!(words.contains(key) && words.contains("JWT_SECRET"), "{words}");
        assert_eq!(words.lines().count(), 3, "what, why, and what to do: {words}");
    }
    assert!(!dir.join("data/jwt-keys.json").exists(), "none of them was rotated into the ring");
}

#[test]
fn a_key_file_that_is_a_fifo_hangs_no_command() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let fifo = dir.join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for key in ["jwt_secret_file = \"fifo\"", "public_keys = [\"fifo\"]", "jwks_file = \"fifo\""] {
        let file = write(&dir.join("a.toml"), &format!("[auth]\n{key}\n[storage]\ndata_dir = \".\"\n"));
        write(&dir.join("jwt-secret"), FIRST);
        let mut child = Command::new(env!("CARGO_BIN_EXE_academy-rt"));
        let child = child.args(["--config", &file, "token", "issue", "--user", "7"]).current_dir(dir).env_clear();
        let mut child = child.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let mut left = 600;
        let ended = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if left == 0 => break None,
                None => std::thread::sleep(std::time::Duration::from_millis(50)),
            }
            left -= 1;
        };
        child.kill().ok();
        let words = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
        assert_eq!(ended.and_then(|status| status.code()), Some(1), "{key}: {words}");
        assert!(words.contains("not a regular file"), "{key}: {words}");
    }
}

#[test]
fn what_another_user_can_change_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("place");
    fs::create_dir(&place).unwrap();
    fs::create_dir(place.join("data")).unwrap();
    let secret = write(&place.join("secret"), FIRST);
    let file = write(
        &dir.path().join("a.toml"),
        &format!(
            "[auth]\njwt_secret_file = \"{secret}\"\n[storage]\ndata_dir = \"{}\"\n",
            place.join("data").display()
        ),
    );
    let at = |args: &[&str]| {
        let args: Vec<&str> = ["--config", &file].iter().chain(args).copied().collect();
        says(dir.path(), &args, &[])
    };
    let commands: [&[&str]; 3] =
        [&["token", "issue", "--user", "7"], &["config", "check"], &["serve", "--no-tls", "--listen", "127.0.0.1:0"]];
    assert_eq!(at(commands[0]).0, 0);
    fs::set_permissions(&place, fs::Permissions::from_mode(0o777)).unwrap();
    for args in commands {
        let (status, words) = at(args);
        assert!(status == 1 || status == 3, "{args:?}: {words}");
        assert!(words.contains("all users of this machine can change") && words.contains("chmod go-w"), "{words}");
    }
    fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
    if !rustix::process::geteuid().is_root() {
        return not_run("files are given away by root alone");
    }
    std::os::unix::fs::chown(&secret, Some(4_711), None).unwrap();
    for args in commands {
        let (status, words) = at(args);
        assert!(status == 1 || status == 3, "{args:?}: {words}");
        assert!(words.contains("belongs to user 4711") && words.contains("chown"), "{words}");
    }
    std::os::unix::fs::chown(&secret, Some(0), None).unwrap();
    std::os::unix::fs::chown(place.join("data"), Some(4_711), None).unwrap();
    let (status, words) = at(commands[2]);
    assert!(status == 1 && words.contains("belongs to user 4711"), "{words}");
}

/// In a mount namespace of its own: the default place of the configuration is the machine's.
#[test]
fn a_configuration_that_is_there_and_cannot_be_reached_is_not_none() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs tmpfs /etc || exit 77
        mkdir /etc/academy-rt && ln -s nowhere.toml /etc/academy-rt/academy-rt.toml
        cd "$1"
        for command in "config check" "serve --no-tls --listen 127.0.0.1:0" "token issue --user 7"; do
            timeout 20 "$0" $command && exit 9
        done
        test -e academy-rt-data && exit 8
        rm -r /etc/academy-rt && ln -s nowhere /etc/academy-rt
        timeout 20 "$0" config check && exit 7
        rm /etc/academy-rt && mkdir -m 711 /etc/academy-rt && touch /etc/academy-rt/academy-rt.toml
        chmod 700 /etc/academy-rt && chmod 755 .
        setpriv --reuid=65534 --clear-groups timeout 20 "$0" config check && exit 6
        rm -r /etc/academy-rt
        timeout 20 "$0" config check || exit 5
    "#;
    let Some(words) = in_mount_namespace("sh", script, &[dir.path().as_ref()]) else { return };
    assert_eq!(words.matches("/etc/academy-rt/academy-rt.toml is a link to nowhere.toml").count(), 3, "{words}");
    assert!(words.contains("/etc/academy-rt is a link to nowhere.") && words.contains("with sudo"), "{words}");
}

#[test]
fn an_empty_variable_is_not_set_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    write(&dir.path().join("data/jwt-secret"), FIRST);
    for name in
        ["ACADEMY_RT_CONFIG", "ACADEMY_RT_SERVER_LISTEN", "ACADEMY_RT_AUTH_JWT_SECRET_FILE", "JWT_SECRET", "PORT"]
    {
        let env = [(name, ""), ("ACADEMY_RT_STORAGE_DATA_DIR", "data")];
        assert_eq!(signer(dir.path(), &issue(dir.path(), &[], &env)), FIRST, "{name}");
        let (status, words) = says(dir.path(), &["config", "check"], &env);
        assert!(status == 0 && words.contains(&format!("{name} is empty")), "{name}: {words}");
    }
    let (status, words) = says(dir.path(), &["--config", "", "config", "check"], &[]);
    assert_eq!((status, words.contains("--config cannot be used")), (2, true), "{words}");
}

/// A configuration with `conf.d` beside it, and the words of `config check`.
#[test]
fn files_of_conf_d_are_read_in_order_and_named() {
    let place = tempfile::tempdir().unwrap();
    let dir = place.path();
    let file = write(&dir.join("a.toml"), "[storage]\ndata_dir = \"data\"\n[server]\ndrain = \"7s\"\n");
    let main = ["--config", file.as_str()];
    let with = |args: &[&'static str]| -> Vec<String> { main.iter().chain(args).map(ToString::to_string).collect() };
    let check = || {
        let args = with(&["config", "check"]);
        says(dir, &args.iter().map(String::as_str).collect::<Vec<_>>(), &[])
    };
    fs::create_dir(dir.join("conf.d")).unwrap();
    let ten = write(&dir.join("conf.d/10-a.toml"), "[server]\ndrain = \"8s\"\nwebsocket_enabled = false\n");
    let fifty = write(&dir.join("conf.d/50-site.toml"), "# ours\n[server]\ndrain = \"9s\"\n");
    write(&dir.join("conf.d/50-site.toml.dpkg-old"), "not even TOML");
    let unread = write(&dir.join("conf.d/limits.conf"), "not even TOML");
    let (status, words) = check();
    assert_eq!(status, 0, "{words}");
    assert!(words.starts_with(&format!("read: {file}\nread: {ten}\nread: {fifty}\n")), "{words}");
    assert!(words.contains(&format!("{unread} is not read")), "{words}");
    let (_, shown) = says(dir, &["--config", &file, "config", "show"], &[]);
    let line = |key: &str| shown.lines().find(|line| line.starts_with(&format!("{key} ="))).unwrap().to_owned();
    assert!(line("drain").contains("9s") && line("drain").ends_with(&format!("{fifty}:3")), "{shown}");
    assert!(line("websocket_enabled").contains("false") && line("websocket_enabled").ends_with(&format!("{ten}:3")));
    // What is wrong has the file and the line, and nothing is passed over.
    write(&dir.join("conf.d/50-site.toml"), "[server]\n\ndrane = \"9s\"\n");
    let (status, words) = check();
    assert!(status == 3 && words.contains(&format!("{fifty}:3: there is no key 'server.drane'")), "{words}");
    write(&dir.join("conf.d/50-site.toml"), "[server\n");
    assert!(check().1.contains(&format!("{fifty}:1: ")));
    fs::remove_file(dir.join("conf.d/50-site.toml")).unwrap();
    std::os::unix::fs::symlink("nowhere", dir.join("conf.d/50-site.toml")).unwrap();
    let (status, words) = check();
    assert!(status == 3 && words.contains(&fifty), "{words}");
    fs::remove_file(dir.join("conf.d/50-site.toml")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, dir.join("conf.d/50-site.toml"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    let (status, words) = check();
    assert!(status == 3 && words.contains("not a regular file"), "a pipe is not waited for: {words}");
}

#[test]
fn conf_d_is_read_where_the_configuration_itself_is_absent() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs tmpfs /etc || exit 77
        mkdir -p /etc/academy-rt/conf.d && cd "$1"
        printf '[storage]\ndata_dir = "%s/data"\n' "$1" > /etc/academy-rt/conf.d/10-data.toml
        "$0" config check && "$0" config show
    "#;
    let Some(words) = in_mount_namespace("sh", script, &[dir.path().as_ref()]) else { return };
    assert!(words.starts_with("read: /etc/academy-rt/conf.d/10-data.toml\n"), "{words}");
    assert!(words.contains("# /etc/academy-rt/conf.d/10-data.toml:2"), "{words}");
}
