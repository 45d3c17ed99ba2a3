//! `doctor`: each thing that can be wrong is found, and named with what to do; a bundle shows no secret.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::harness::{Appliance, SECRET, free_port, in_mount_namespace, run, until, words};

/// What it says of a configuration: the status, and the findings.
fn doctor(config: &Path, more: &[&str], env: &[(&str, &str)]) -> (i32, Vec<Value>) {
    let args: Vec<&str> =
        ["--config", config.to_str().unwrap(), "--output", "json", "doctor"].iter().chain(more).copied().collect();
    let output = run(&args, env);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)));
    (output.status.code().unwrap(), answer["findings"].as_array().unwrap().clone())
}

fn find<'a>(findings: &'a [Value], check: &str, level: &str) -> Vec<&'a str> {
    let wanted = findings.iter().filter(|finding| finding["check"] == check && finding["level"] == level);
    wanted.map(|finding| finding["what"].as_str().unwrap()).collect()
}

fn configured(dir: &Path, text: &str) -> std::path::PathBuf {
    let path = dir.join("a.toml");
    fs::write(&path, text.replace("DIR", dir.to_str().unwrap())).unwrap();
    path
}

#[test]
fn a_server_that_is_well_is_found_well_through_its_own_address() {
    let running = Appliance::start();
    let config =
        configured(running.dir.path(), "[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n[tls]\nmode = \"off\"\n");
    let (status, findings) = doctor(&config, &[], &[]);
    assert_eq!(status, 0, "{findings:?}");
    let good = [
        "configuration",
        "server",
        "disk",
        "address",
        "polling",
        "websocket",
        "permissions",
        "descriptors",
        "memory",
        "acknowledgements",
    ];
    for check in good {
        assert!(!find(&findings, check, "good").is_empty(), "{check}: {findings:?}");
    }
    let sync = find(&findings, "acknowledgements", "good")[0];
    assert!(sync.starts_with("fdatasync of the data directory takes ") && sync.contains("of 20 took "), "{sync}");
    assert_eq!(find(&findings, "backup", "warning"), ["no backup was made yet"]);
    let file = running.dir.path().join("b.backup");
    let data = running.data();
    let args = ["backup", file.to_str().unwrap(), "--data-dir", data.to_str().unwrap()];
    assert!(run(&args, &[]).status.success());
    let (_, findings) = doctor(&config, &[], &[]);
    assert_eq!(find(&findings, "backup", "good").len(), 1, "{findings:?}");
    assert!(running.stop().success());
    // Without a server the store itself is looked at.
    let dir = tempfile::tempdir().unwrap();
    let running = Appliance::start_in(dir, &[]);
    let dir = running.end();
    let config = configured(dir.path(), "[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n");
    let before = fs::read(dir.path().join("data/academy.redb")).unwrap();
    let (status, findings) = doctor(&config, &[], &[]);
    assert_eq!(status, 3);
    assert!(find(&findings, "store", "good")[0].starts_with("format 10, closed cleanly"), "{findings:?}");
    assert_eq!(fs::read(dir.path().join("data/academy.redb")).unwrap(), before, "nothing is changed");
}

#[test]
fn what_is_wrong_with_configuration_and_files_is_found_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    fs::create_dir(dir.join("data")).unwrap();
    fs::set_permissions(dir.join("data"), fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(dir.join("secret"), SECRET).unwrap();
    fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o644)).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let text = format!(
        "[server]\nlisten = \"{}\"\n[storage]\ndata_dir = \"DIR/data\"\nmin_free = \"900000GB\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
         [tls]\nmode = \"files\"\ncert = \"DIR/absent.pem\"\nkey = \"DIR/absent.key\"\n",
        taken.local_addr().unwrap()
    );
    let (status, findings) = doctor(&configured(dir, &text), &[], &[]);
    assert_eq!(status, 3);
    for (check, words) in [
        ("start", "absent.pem cannot be read"),
        ("permissions", "data has mode 0755"),
        ("permissions", "secret has mode 0644"),
        ("port", "another program listens on it"),
        ("disk", "the server refuses writes below 900000000 MB"),
        ("server", "no server answers"),
    ] {
        assert!(find(&findings, check, "problem").iter().any(|what| what.contains(words)), "{words}: {findings:?}");
    }
    assert!(findings.iter().all(|finding| finding["level"] == "good" || finding["remedy"].is_string()));
    let (status, findings) = doctor(&configured(dir, "[server]\nlisen = \"x\"\n"), &[], &[]);
    assert_eq!(status, 3);
    assert!(find(&findings, "configuration", "problem")[0].contains("did you mean 'server.listen'"), "{findings:?}");
}

#[test]
fn data_in_memory_and_a_locked_store_are_named() {
    let shm = Path::new("/dev/shm");
    if shm.exists() {
        let dir = tempfile::tempdir_in(shm).unwrap();
        let config = configured(dir.path(), "[storage]\ndata_dir = \"DIR/data\"\n");
        let (_, findings) = doctor(&config, &[], &[]);
        assert!(find(&findings, "disk", "warning").iter().any(|what| what.contains("on tmpfs")), "{findings:?}");
    }
    // The control socket is elsewhere: the store is in use, and nobody answers. One that is removed would be made again.
    let elsewhere = tempfile::tempdir().unwrap();
    let running =
        Appliance::start_in(tempfile::tempdir().unwrap(), &[("RUNTIME_DIRECTORY", elsewhere.path().to_str().unwrap())]);
    let config = configured(running.dir.path(), "[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n");
    let (_, findings) = doctor(&config, &[], &[]);
    assert!(find(&findings, "store", "problem")[0].contains("does not answer"), "{findings:?}");
}

/// A proxy that passes on plain requests, and no upgrade: what departments have.
fn proxy_without_upgrade(to: u16) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut client = stream;
                let mut request = Vec::new();
                let mut piece = [0; 4_096];
                while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                    let Ok(length @ 1..) = client.read(&mut piece) else { return };
                    request.extend_from_slice(&piece[..length]);
                }
                let text = String::from_utf8_lossy(&request).into_owned();
                let kept = text.lines().filter(|line| {
                    let line = line.to_ascii_lowercase();
                    !line.starts_with("upgrade:") && !line.starts_with("connection:")
                });
                let text = kept.collect::<Vec<_>>().join("\r\n").replacen("\r\n", "\r\nConnection: close\r\n", 1);
                let mut server = TcpStream::connect(("127.0.0.1", to)).unwrap();
                server.write_all(format!("{}\r\n\r\n{}", text.trim_end(), body(&request)).as_bytes()).unwrap();
                let mut answer = Vec::new();
                drop(server.read_to_end(&mut answer));
                drop(client.write_all(&answer));
            });
        }
    });
    port
}

fn body(request: &[u8]) -> String {
    let text = String::from_utf8_lossy(request).into_owned();
    text.split_once("\r\n\r\n").map_or(String::new(), |(_, body)| body.to_owned())
}

#[test]
fn a_proxy_that_eats_websocket_is_found_and_one_that_hides_addresses() {
    let running = Appliance::start_in(tempfile::tempdir().unwrap(), &[("ACADEMY_RT_SERVER_BEHIND_PROXY", "true")]);
    let text =
        "[server]\nbehind_proxy = true\n[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n[tls]\nmode = \"off\"\n";
    let config = configured(running.dir.path(), text);
    let url = format!("http://127.0.0.1:{}", proxy_without_upgrade(running.port));
    let token = running.token("1", "admin");
    let (status, findings) = doctor(&config, &["--url", &url], &[("ACADEMY_RT_TOKEN", &token)]);
    assert_eq!(status, 0, "{findings:?}");
    assert_eq!(find(&findings, "polling", "good").len(), 1, "{findings:?}");
    assert!(
        find(&findings, "websocket", "warning").iter().any(|what| what.contains("the upgrade to WebSocket")),
        "{findings:?}"
    );
    let proxy = find(&findings, "proxy", "warning");
    assert!(proxy.iter().any(|what| what.contains("server.trusted_proxies is empty")), "{findings:?}");
    assert!(proxy.iter().any(|what| what.contains("sees the address of the proxy")), "{findings:?}");
    // Something else is there, or nobody.
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let (status, findings) = doctor(&config, &["--url", &nobody], &[]);
    assert_eq!((status, find(&findings, "address", "problem").len()), (3, 1), "{findings:?}");
    assert!(running.stop().success());
}

#[test]
fn a_bundle_shows_no_secret_and_writes_over_nothing() {
    let running = Appliance::start();
    let config =
        configured(running.dir.path(), "[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n[tls]\nmode = \"off\"\n");
    let bundle = running.dir.path().join("bundle.json");
    let token = running.token("1", "admin");
    let env = [("JWT_SECRET", SECRET), ("ACADEMY_RT_AUTH_ISSUER", token.as_str())];
    let path = bundle.to_str().unwrap();
    let (status, _) = doctor(&config, &["--bundle", path], &env);
    assert_eq!(status, 0);
    assert_eq!(fs::metadata(&bundle).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&bundle).unwrap();
    assert!(!text.contains(SECRET) && !text.contains(&token) && text.contains("(masked)"), "{text}");
    let parts: Value = serde_json::from_str(&text).unwrap();
    for part in ["academy-rt", "doctor", "config", "status", "os", "kernel", "mounts", "log", "unit"] {
        assert!(parts.get(part).is_some(), "{part}");
    }
    assert_eq!(parts["status"]["ready"], true);
    for (path, words) in [(path, "does not exist yet"), ("/dev/null/bundle.json", "a directory that you can write to")]
    {
        let output = run(&["--config", config.to_str().unwrap(), "doctor", "--bundle", path], &env);
        assert!(output.status.code() == Some(1) && self::words(&output).contains(words), "{}", self::words(&output));
    }
    assert_eq!(fs::read_to_string(&bundle).unwrap(), text);
}

/// As a machine with systemd says it, by programs of the same names: the service is active, and nobody reaches it.
#[test]
fn a_service_that_runs_beside_its_socket_is_found() {
    let running = Appliance::start();
    let config =
        configured(running.dir.path(), "[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n[tls]\nmode = \"off\"\n");
    let bin = running.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let put = |name: &str, text: &str| {
        fs::write(bin.join(name), format!("#!/bin/sh\ncat <<'END'\n{text}\nEND\n")).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
    };
    let service = "Id=academy-rt.service\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nProtectSystem=strict\nStateDirectory=academy-rt";
    let socket =
        "Id=academy-rt.socket\nLoadState=loaded\nActiveState=active\nUnitFileState=enabled\nListen=[::]:443 (Stream)";
    put("systemctl", &format!("{service}\n\n{socket}\n"));
    put("journalctl", "2026-11-28T09:00:00+0000 host academy-rt[7]: the disk is full");
    let path = format!("{}:/usr/bin:/bin", bin.display());
    let (status, findings) = doctor(&config, &[], &[("PATH", &path)]);
    assert_eq!(status, 3, "{findings:?}");
    let port = find(&findings, "port", "problem");
    assert!(port.len() == 1 && port[0].contains("port 443") && port[0].contains("without the socket"), "{findings:?}");
    assert!(find(&findings, "service", "problem")[0].contains("may not write"), "{findings:?}");
    assert!(find(&findings, "journal", "warning")[0].contains("the disk is full"), "{findings:?}");
    // A port of its own, and a place that it may write to.
    let at = format!("Listen=127.0.0.1:{} (Stream)", running.port);
    put("journalctl", "");
    let service = format!("{service}\nReadWritePaths={}", running.dir.path().display());
    put("systemctl", &format!("{service}\n\n{}\n", socket.replace("Listen=[::]:443 (Stream)", &at)));
    let (status, findings) = doctor(&config, &[], &[("PATH", &path)]);
    assert_eq!(status, 0, "{findings:?}");
}

/// A small file system that is full to its last block: nothing is kept free, and nobody has written yet.
#[test]
fn a_server_on_a_full_disk_is_not_ready_even_if_nothing_is_kept_free() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        mount -t tmpfs -o size=8m tmpfs "$1" || exit 77
        cd "$1"
        ACADEMY_RT_STORAGE_MIN_FREE=0 "$0" serve --no-tls --listen 127.0.0.1:"$2" --data-dir data >/dev/null 2>&1 &
        server=$!
        trap 'kill $server' EXIT
        asked() {
            exec 3<>/dev/tcp/127.0.0.1/"$1" || return 1
            printf 'GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n' >&3; cat <&3
        }
        tries=0
        until asked "$2" 2>/dev/null | grep -q ' 200 '; do tries=$((tries + 1)); [ $tries -lt 400 ] || exit 6; sleep 0.05; done
        cat /dev/zero >filler 2>/dev/null
        asked "$2"
        rm filler
        until asked "$2" 2>/dev/null | grep -q ' 200 '; do tries=$((tries + 1)); [ $tries -lt 800 ] || exit 7; sleep 0.05; done
    "#;
    let Some(words) = in_mount_namespace("bash", script, &[dir.path().as_ref(), free_port().to_string().as_ref()])
    else {
        return;
    };
    assert!(words.contains(" 503 ") && words.contains("the disk is full"), "{words}");
}

#[test]
fn an_address_that_nobody_answers_at_is_not_blamed_on_the_server_of_this_machine() {
    let running = Appliance::start();
    let text = "[storage]\ndata_dir = \"DIR/data\"\nmin_free = 0\n[tls]\nmode = \"off\"\n";
    let config = configured(running.dir.path(), text);
    let nobody = format!("http://127.0.0.1:{}", free_port());
    let token = running.token("1", "admin");
    let (status, findings) = doctor(&config, &["--url", &nobody], &[("ACADEMY_RT_TOKEN", &token)]);
    assert_eq!(status, 3, "{findings:?}");
    let problems = find(&findings, "server", "problem");
    assert!(
        problems.len() == 1 && problems[0].contains(&nobody) && problems[0].contains("cannot connect"),
        "{findings:?}"
    );
    assert!(find(&findings, "server", "good").iter().any(|what| what.contains("on this machine")), "{findings:?}");
    for check in ["store", "port"] {
        assert!(find(&findings, check, "problem").is_empty(), "{check}: {findings:?}");
    }
    // A port that is none is not taken for the usual one.
    let (_, findings) = doctor(&config, &["--url", "http://127.0.0.1:84430"], &[("ACADEMY_RT_TOKEN", &token)]);
    assert!(find(&findings, "server", "problem")[0].contains("its port is not a number"), "{findings:?}");
    assert!(running.stop().success());
}

#[test]
fn a_control_socket_that_somebody_has_removed_is_made_again() {
    let running = Appliance::start();
    let data = running.data();
    let socket = data.join("control.sock");
    let asked = || run(&["status", "--data-dir", data.to_str().unwrap()], &[]);
    assert!(asked().status.success());
    for _ in 0..2 {
        fs::remove_file(&socket).unwrap();
        until("the control socket is there again", || socket.exists() && asked().status.success());
        assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o660);
    }
    assert!(running.stop().success());
}

/// The service of this machine is that of its unit: root is told what the user of the unit cannot read, and that user is not guessed.
#[test]
fn root_is_told_what_the_user_of_the_unit_cannot_read() {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let script = r#"
        test "$(cat /proc/self/uid_map | tr -s ' ')" = " 0 0 4294967295" || exit 77
        mount -t tmpfs -o mode=755 tmpfs /etc/academy-rt 2>/dev/null || { mount -t tmpfs -o mode=755 tmpfs /etc || exit 77; }
        mkdir -p /etc/academy-rt/conf.d "$1/data" "$1/bin" && chown 4711:4711 "$1/data" && chmod 700 "$1/data"
        printf '[storage]\ndata_dir = "%s/data"\n' "$1" > /etc/academy-rt/academy-rt.toml
        : > /etc/academy-rt/conf.d/50-site.toml
        chmod 644 /etc/academy-rt/academy-rt.toml && chmod 600 /etc/academy-rt/conf.d/50-site.toml
        PATH="$1/bin:$PATH"
        echo "--- no systemd"; "$0" config check
        printf '#!/bin/sh\necho LoadState=loaded\necho User=service\n' > "$1/bin/systemctl"
        printf '#!/bin/sh\necho 4712\n' > "$1/bin/id" && chmod 755 "$1"/bin/*
        echo "--- unit"; "$0" config check
        printf '#!/bin/sh\necho LoadState=not-found\necho User=\n' > "$1/bin/systemctl"
        chmod 644 /etc/academy-rt/conf.d/50-site.toml
        echo "--- no unit"; "$0" config check
    "#;
    let Some(words) = in_mount_namespace("sh", script, &[dir.path().as_ref()]) else { return };
    let part = |from: &str, to: &str| words.split(from).nth(1).unwrap().split(to).next().unwrap().to_owned();
    let (without, unit, none) = (part("--- no systemd", "---"), part("--- unit", "---"), part("--- no unit", "---"));
    let unread = "cannot read /etc/academy-rt/conf.d/50-site.toml";
    assert!(without.contains(unread) && without.contains("user 4711, who owns the data directory"), "{words}");
    assert!(unit.contains(unread) && unit.contains("user 4712, who runs the service"), "{words}");
    assert!(unit.contains("chown 4712"), "the data are another user's: {words}");
    assert!(none.contains("the configuration is valid"), "{words}");
}
