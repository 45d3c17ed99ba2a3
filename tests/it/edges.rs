//! What is at its end beside the ordinary road: disks, locks, threads, inodes, pages. Each is named for what it is, and nobody sees a
//! panic.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use academy_rt::domain::SystemClock;
use academy_rt::domain::audit::{AuditEntry, action};
use academy_rt::store::operations::Record;
use academy_rt::store::{self, NoSink, StoreConfig};

use crate::harness::{Appliance, SECRET, command, in_mount_namespace, not_run, run, until, words};

/// A data directory with a store in it.
fn stored() -> tempfile::TempDir {
    let server = Appliance::start();
    server.say(&server.token("7", "learner"), "lobby", "something");
    server.end()
}

#[test]
fn a_command_that_works_alone_says_that_the_disk_is_full() {
    let dir = stored();
    let script = r#"
        mount -t tmpfs -o size=6m tmpfs /mnt || exit 77
        cp -a "$1/data" /mnt/data
        dd if=/dev/zero of=/mnt/fill bs=1k 2>/dev/null
        # What is free inside the file is used up first.
        long=$(printf %0400d 7)
        for user in $(seq 200); do
            ACADEMY_RT_STORAGE_MIN_FREE=0 "$0" user block $user --reason $long --data-dir /mnt/data >/dev/null || break
        done
        ACADEMY_RT_STORAGE_MIN_FREE=0 "$0" --output json user block 5 --reason x --data-dir /mnt/data 2>/dev/null
        # A record of a backup is small: several of them may still have room.
        for n in $(seq 100); do
            said=$(ACADEMY_RT_STORAGE_MIN_FREE=0 "$0" backup "$1/backup-$n" --data-dir /mnt/data 2>&1)
            case $said in *"no record of it"*) break ;; esac
        done
        echo "$said"
        exit 0
    "#;
    let Some(said) = in_mount_namespace("sh", script, &[dir.path().as_os_str()]) else { return };
    assert!(
        said.contains("why: the disk is full: 0 bytes are free") && said.contains("do:  Free space on the disk"),
        "{said}"
    );
    assert!(said.contains("\"code\":\"unavailable\""), "{said}");
    assert!(said.contains("no record of it") && said.contains("unavailable: the disk is full"), "{said}");
    assert!(!said.contains("nothing was acknowledged"), "{said}");
}

#[test]
fn a_disk_without_inodes_is_not_called_one_without_space() {
    let dir = stored();
    let data = dir.path().join("data");
    let script = r#"
        mount -t tmpfs -o size=20m,nr_inodes=2 tmpfs /mnt || exit 77
        touch /mnt/only
        "$0" backup /mnt/backup --data-dir "$1"
        "$0" key new /mnt/key
        "$0" audit export /mnt/export --data-dir "$1"
        ACADEMY_RT_STORAGE_MIN_FREE=0 "$0" serve --no-tls --listen 127.0.0.1:0 --data-dir /mnt
        exit 0
    "#;
    let Some(said) = in_mount_namespace("sh", script, &[data.as_os_str()]) else { return };
    assert_eq!(said.matches("no inode is free there (df -i)").count(), 4, "{said}");
}

#[test]
fn a_lock_of_another_program_is_not_called_a_server() {
    let dir = stored();
    let data = dir.path().join("data");
    let mut other = std::process::Command::new("flock")
        .arg(data.join("academy.redb"))
        .args(["sh", "-c", "echo; read x"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(other.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    let at = data.to_str().unwrap();
    for args in [["db", "check", "--data-dir", at], ["room", "list", "--data-dir", at]] {
        let said = words(&run(&args, &[]));
        assert!(said.contains("in use by flock (process ") && !said.contains("another academy-rt"), "{said}");
    }
    drop(other.stdin.take());
    other.wait().unwrap();
    // And one of a server is.
    let server = Appliance::start_in(dir, &[]);
    let said = words(&run(&["db", "check", "--data-dir", server.data().to_str().unwrap()], &[]));
    assert!(said.contains("in use by another academy-rt"), "{said}");
}

#[test]
fn a_database_with_holes_is_named_and_nobody_sees_a_panic() {
    let dir = stored();
    let path = dir.path().join("data/academy.redb");
    let whole = fs::read(&path).unwrap();
    for (from, to) in [(0, 512), (4_096, whole.len()), (8_192, whole.len())] {
        let commands: [&[&str]; 6] = [
            &["db", "check"],
            &["db", "stats"],
            &["room", "list"],
            &["audit", "list"],
            &["backup", "PLACE"],
            &["serve", "--no-tls", "--listen", "127.0.0.1:0"],
        ];
        for args in commands {
            fs::write(&path, &whole).unwrap();
            let holes = fs::File::options().write(true).open(&path).unwrap();
            holes.write_all_at(&vec![0; to - from], from as u64).unwrap();
            let place = dir.path().join("place").to_str().unwrap().to_owned();
            let args: Vec<&str> = args.iter().map(|arg| if *arg == "PLACE" { place.as_str() } else { arg }).collect();
            let data = dir.path().join("data");
            let mut all = vec!["--data-dir", data.to_str().unwrap()];
            all.splice(0..0, args.iter().copied());
            // What a server does with a database that it can open is another question: it must end by itself here.
            let output = command(&all, &[("JWT_SECRET", SECRET)]).stdin(std::process::Stdio::null()).output().unwrap();
            let said = words(&output);
            assert!(!output.status.success(), "{args:?} {from}..{to}: {said}");
            assert!(!said.contains("panicked") && !said.contains("RUST_BACKTRACE"), "{args:?} {from}..{to}: {said}");
            assert!(
                said.contains("academy.redb") && said.contains("estore a backup")
                    || said.contains("the database does not open"),
                "{args:?} {from}..{to}: {said}"
            );
        }
    }
}

/// The limit does not count for root: the program runs as another user.
#[test]
fn too_few_threads_are_named_and_nobody_sees_a_panic() {
    if !rustix::process::geteuid().is_root() {
        return not_run("root alone runs a program as another user");
    }
    let dir = stored();
    let data = dir.path().join("data");
    let binary = dir.path().join("academy-rt");
    fs::copy(env!("CARGO_BIN_EXE_academy-rt"), &binary).unwrap();
    fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    // Nobody else has this user's number, so that the limit is this program's alone.
    let user = 1_900_000_000 + std::process::id() % 1_000_000;
    let chown = |path: &Path| std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    chown(&data);
    fs::read_dir(&data).unwrap().for_each(|entry| chown(&entry.unwrap().path()));
    for limit in 1..=12 {
        for args in ["room list", "serve --no-tls --listen 127.0.0.1:0"] {
            let script = format!("ulimit -u {limit}; exec \"$0\" {args} --data-dir \"$1\" </dev/null");
            let mut child = std::process::Command::new("setpriv")
                .args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "sh", "-c", &script])
                .args([&binary, &data])
                .env_clear()
                .envs([
                    ("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"),
                    ("JWT_SECRET", SECRET),
                    ("ACADEMY_RT_STORAGE_MIN_FREE", "0"),
                ])
                .stdout(std::process::Stdio::null())
                .stderr(fs::File::create(dir.path().join("said")).unwrap())
                .spawn()
                .unwrap();
            let said = || fs::read_to_string(dir.path().join("said")).unwrap();
            until(&format!("'{args}' ends or serves with {limit} threads"), || {
                child.try_wait().unwrap().is_some() || said().contains("\"started\"")
            });
            drop(child.kill());
            let ended = child.wait().unwrap();
            let said = said();
            assert!(!said.contains("panicked"), "{args} with {limit}: {said}");
            let is_named = said.contains("threads of the program cannot be started") && said.contains("TasksMax=");
            assert!(is_named || ended.success() || said.contains("\"started\""), "{args} with {limit}: {said}");
        }
    }
}

#[test]
fn a_purge_that_was_cut_off_has_an_end_in_the_audit_log() {
    let dir = stored();
    let config = StoreConfig {
        data_dir: dir.path().join("data"),
        cache_bytes: 16 << 20,
        progress_versions: 10,
        lessons_per_user: 1_000,
        commit_delay: std::time::Duration::from_millis(3),
        min_free_bytes: 0,
        min_free_admin_bytes: 0,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = store::open(&config, SystemClock::shared(), std::sync::Arc::new(NoSink)).unwrap();
        let begun = |target: &str, outcome: &str| AuditEntry {
            at: SystemClock::shared().now(),
            actor: "system".to_owned(),
            origin: "server".to_owned(),
            action: action::PURGE.to_owned(),
            target: target.to_owned(),
            outcome: outcome.to_owned(),
        };
        // As a kill leaves it: one that has begun, and one that has also ended.
        for entry in
            [begun("notifications", "begun"), begun("notifications", "done: 5 purged, 0 held"), begun("chat", "begun")]
        {
            store.apply(entry.at, Record { entry }).await.unwrap();
        }
        store.close().await.unwrap();
    });
    drop(runtime);
    let mut dir = dir;
    for _ in 0..2 {
        let server = Appliance::start_in(dir, &[("ACADEMY_RT_RETENTION_CHAT", "300d")]);
        let admin = server.token("1", "admin");
        let purges = || {
            let (_, answer) = server.call(&admin, "GET", "/api/v1/admin/audit?limit=1000", "");
            let items = answer["items"].as_array().unwrap().clone();
            items.into_iter().filter(|one| one["action"] == action::PURGE).collect::<Vec<_>>()
        };
        until("the record of its end", || purges().len() >= 4);
        let (all, last) = (purges(), purges().last().unwrap().clone());
        assert_eq!(all.len(), 4, "once, and not at each start: {all:?}");
        assert_eq!(last["target"], "chat");
        assert!(last["outcome"].as_str().unwrap().starts_with("stopped: the server ended before it did"), "{last}");
        dir = server.end();
    }
}

/// A program with the clock of another year.
fn in_year(time: &str) -> Vec<(String, String)> {
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    assert!(Path::new(&library).exists(), "this test sets clocks: install Debian's package libfaketime");
    let env = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", time),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ("ACADEMY_RT_STORAGE_MIN_FREE", "0"),
        ("JWT_SECRET", SECRET),
        ("TZ", "UTC"),
    ];
    env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

/// Every command that shows a time, with a server and without one: at the beginning of the calendar, at its end, behind it, and where
/// counters of 32 bits end.
#[test]
#[ignore = "long"]
fn clocks_at_the_ends_of_the_calendar_make_no_panic_and_no_other_time() {
    // (the clock, how each moment of now begins)
    let clocks = [
        ("@1970-01-01 00:00:10", "1970-01-01 00:0"),
        ("@2038-01-19 03:14:00", "2038-01-19 03:1"),
        ("@2106-02-07 06:28:00", "2106-02-07 06:"),
        ("@9999-12-31 23:50:00", "9999-12-31 23:5"),
    ];
    // Behind the calendar nothing can be dated: it is said.
    let env = in_year("+2930000d");
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let dir = stored();
    let data = dir.path().join("data");
    for args in
        [&["serve", "--no-tls", "--listen", "127.0.0.1:0"][..], &["room", "list"], &["audit", "list"], &["doctor"]]
    {
        let all: Vec<&str> = args.iter().copied().chain(["--data-dir", data.to_str().unwrap()]).collect();
        let output = run(&all, &env);
        let said = words(&output);
        assert!(!output.status.success() && said.contains("later than the year 9999"), "{args:?}: {said}");
        assert!(!said.contains("panicked") && !said.contains("fault of the program"), "{args:?}: {said}");
    }
    for (clock, now) in clocks {
        let env = in_year(clock);
        let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let dir = tempfile::tempdir().unwrap();
        let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
        // With a certificate of its own: that has times, too.
        let log = place("log");
        let mut server = command(&["serve", "--listen", "127.0.0.1:0", "--data-dir", &place("data")], &env)
            .stdout(std::process::Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let said = || fs::read_to_string(&log).unwrap();
        until(&format!("it starts at {clock}: {}", said()), || {
            assert!(server.try_wait().unwrap().is_none(), "{clock}: {}", said());
            Path::new(&place("data")).join("control.sock").exists()
        });
        let run_here = |line: &str| {
            let mut args: Vec<String> = line.split(' ').map(|word| word.replace("PLACE", &place("place"))).collect();
            args.extend(["--data-dir".to_owned(), place("data")]);
            let output = run(&args.iter().map(String::as_str).collect::<Vec<_>>(), &env);
            let said = words(&output);
            let is_bad = said.contains("fault of the program") || said.contains("panicked");
            assert!(!is_bad && matches!(output.status.code(), Some(0..=3)), "{clock}: {line}: {said}");
            (output.status.code().unwrap(), said)
        };
        let good = |line: &str, part: &str| {
            let (status, said) = run_here(line);
            assert!(status == 0 && said.contains(part), "{clock}: {line}: {said}");
        };
        good("status", "ready");
        good("token issue --user 7 --role admin", "");
        good("room create r", "registered");
        good("user mute 7 --for 1d", "muted");
        good("user list --muted", "until ");
        good("user block 8 --reason x", "blocked");
        good("token revoke --user 7", "revoked");
        good("token revoked", now);
        good("hold set --user 7 --reason x", now);
        good("hold list", now);
        good("notify --user 7 --title T --message M", "stored");
        good("notify list", now);
        good("notify --user 7 --title T --message M --at +1d", "scheduled");
        good("audit list", now);
        good("audit list --since 1d", now);
        good("audit verify", "intact");
        good("room export r --format html", "Transcript");
        good("room list", "r ");
        good("user diagnose 7", "");
        good("key list", "");
        good("backup PLACE", "place");
        good("backup verify PLACE", now);
        let (_, said_of_clock) = run_here("doctor");
        let is_far = !clock.contains("2038");
        assert_eq!(said_of_clock.contains("PROBLEM  clock"), is_far, "{clock}: {said_of_clock}");
        let pid = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(server.wait().unwrap().success(), "{clock}: {}", said());
        assert!(!said().contains("panicked") && !said().contains("fault of the program"), "{clock}: {}", said());
        good("db check", "sound");
        good("db stats", "audit");
        good("restore PLACE --force", "is restored");
        good("restore --undo", "is undone");
        good("audit list", now);
    }
}

/// A program whose system calls for locks, links and files without names are refused, as file systems refuse them that have none. It
/// ends with 77 where the kernel takes no filter.
fn without_locks(errno: i32, binary: &str, user: Option<u32>, args: &[&str]) -> std::process::Command {
    let script = include_str!("fixtures/without-locks.py");
    let mut command = match user {
        Some(user) => {
            let mut command = std::process::Command::new("setpriv");
            command.args([&format!("--reuid={user}"), &format!("--regid={user}"), "--clear-groups", "python3"]);
            command
        }
        None => std::process::Command::new("python3"),
    };
    command.args(["-c", script, &errno.to_string(), binary]).args(args);
    command.env_clear().envs([("PATH", "/usr/bin:/bin:/usr/sbin:/sbin"), ("ACADEMY_RT_STORAGE_MIN_FREE", "0")]);
    command.stdin(std::process::Stdio::null());
    command
}

#[test]
fn without_locks_and_links_all_works_and_nobody_takes_the_data_from_a_server() {
    let unsupported = rustix::io::Errno::OPNOTSUPP.raw_os_error();
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    // As with the packages: the server is a user's of its own, and the commands are root's, who acts as that user.
    let user = rustix::process::geteuid().is_root().then(|| 1_600_000_000 + std::process::id() % 1_000_000);
    fs::create_dir(place("data")).unwrap();
    let mode = |name: &str, mode| {
        fs::set_permissions(place(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap()
    };
    mode("data", 0o700);
    mode("", 0o755);
    std::os::unix::fs::chown(place("data"), user, user).unwrap();
    let binary = place("academy-rt");
    fs::copy(env!("CARGO_BIN_EXE_academy-rt"), &binary).unwrap();
    let said = |line: &str| {
        let mut args: Vec<String> =
            line.split(' ').map(|word| word.replace("DIR", dir.path().to_str().unwrap())).collect();
        args.extend(["--data-dir".to_owned(), place("data")]);
        let output = without_locks(unsupported, &binary, None, &args.iter().map(String::as_str).collect::<Vec<_>>())
            .output()
            .unwrap();
        (output.status.code().unwrap(), words(&output))
    };
    let good = |line: &str, part: &str| {
        let (status, said) = said(line);
        assert!(status == 0 && said.contains(part), "{line}: {said}");
    };
    let start = || {
        let log = place("log");
        let serve = ["serve", "--no-tls", "--listen", "127.0.0.1:0", "--data-dir", &place("data")];
        let mut server = without_locks(unsupported, &binary, user, &serve)
            .stdout(std::process::Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap();
        until("the server starts", || {
            let ended = server.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?} {}", fs::read_to_string(&log).unwrap());
            Path::new(&place("data")).join("control.sock").exists()
        });
        server
    };
    let stop = |mut server: std::process::Child| {
        let pid = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(server.wait().unwrap().success(), "{}", fs::read_to_string(place("log")).unwrap());
    };
    let server = start();
    assert!(fs::read_to_string(place("log")).unwrap().contains("has no locks"));
    good("room create before", "registered");
    good("backup DIR/backup", "rows");
    good("backup verify DIR/backup", "complete");
    fs::create_dir(place("backups")).unwrap();
    good("backup --to DIR/backups --keep 1", "rows");
    good("backup --to DIR/backups --keep 1", "1 older removed");
    good("room export before --file DIR/transcript", "transcript");
    good("audit export DIR/audit", "");
    good("key rotate", "");
    good("room create behind", "registered");
    // What would put other data in the place of those that the server has open.
    for line in ["restore DIR/backup --force", "db compact", "restore --undo", "db check"] {
        let (status, said) = said(line);
        assert!(status == 1 && said.contains("in use by another academy-rt"), "{line}: {said}");
    }
    let second = ["serve", "--no-tls", "--listen", "127.0.0.1:0", "--data-dir", &place("data")];
    let output = without_locks(unsupported, &binary, user, &second).output().unwrap();
    assert!(!output.status.success() && words(&output).contains("in use by another academy-rt"), "{}", words(&output));
    good("room list", "behind");
    stop(server);
    good("db check", "sound");
    good("room list", "behind");
    good("restore DIR/backup --force", "is restored");
    let (_, rooms) = said("room list");
    assert!(rooms.contains("before") && !rooms.contains("behind"), "{rooms}");
    good("restore --undo", "is undone");
    good("room list", "behind");
    good("db compact", "compacted");
    let server = start();
    good("room list", "behind");
    stop(server);

    // A lock service that does not run is no lack of locks: nothing is risked, and it is named.
    let nolck = rustix::io::Errno::NOLCK.raw_os_error();
    for args in [&["room", "list"][..], &["serve", "--no-tls", "--listen", "127.0.0.1:0"], &["db", "check"]] {
        let data = place("data");
        let all: Vec<&str> = args.iter().copied().chain(["--data-dir", &data]).collect();
        let output = without_locks(nolck, &binary, user, &all).output().unwrap();
        let said = words(&output);
        assert!(
            !output.status.success() && said.contains("it cannot be locked") && said.contains("NFS"),
            "{args:?}: {said}"
        );
    }
}

#[test]
fn a_server_whose_disk_is_full_says_so_to_each_command_and_works_on_when_there_is_room() {
    let dir = stored();
    let script = r#"
        mount -t tmpfs -o size=6m tmpfs /mnt || exit 77
        cp -a "$1/data" /mnt/data
        export ACADEMY_RT_STORAGE_MIN_FREE=0
        JWT_SECRET=$2 "$0" serve --no-tls --listen 127.0.0.1:0 --data-dir /mnt/data >/dev/null 2>"$1/log" &
        server=$!
        for time in $(seq 200); do test -S /mnt/data/control.sock && break; sleep 0.1; done
        dd if=/dev/zero of=/mnt/fill bs=1k 2>/dev/null
        # What is free inside the file is used up first.
        long=$(printf %0400d 7)
        for user in $(seq 300); do "$0" user block $user --reason $long --data-dir /mnt/data >/dev/null 2>&1 || break; done
        for words in "broadcast --all system:alert {}" "notify --user 7 --title T --message M" "room create other" "user mute 5 --for 1d" \
            "hold set --user 7 --reason x" "user block 5000 --reason x" "token revoke --user 9"; do
            echo "== $words"
            "$0" $words --data-dir /mnt/data 2>&1
            echo "exit $?"
        done
        echo "== json"
        "$0" --output json user block 5001 --reason x --data-dir /mnt/data 2>/dev/null
        echo "== end"
        rm /mnt/fill
        for time in $(seq 100); do "$0" room create again --data-dir /mnt/data >/dev/null 2>&1 && break; sleep 0.1; done
        "$0" token revoked --data-dir /mnt/data
        kill $server
        wait $server || exit 5
        "$0" db check --data-dir /mnt/data && "$0" token revoked --data-dir /mnt/data && "$0" room list --data-dir /mnt/data
    "#;
    let Some(said) = in_mount_namespace("sh", script, &[dir.path().as_os_str(), SECRET.as_ref()]) else { return };
    let of =
        |command: &str| said.split(&format!("== {command}")).nth(1).unwrap().split("\n==").next().unwrap().to_owned();
    for command in ["broadcast", "notify", "room create", "user mute", "hold set"] {
        let said = of(command);
        assert!(
            said.contains("why: the disk is full") && said.contains("do:  Free space on the disk"),
            "{command}: {said}"
        );
        assert!(said.contains("exit 1") && !said.contains("nothing was acknowledged"), "{command}: {said}");
    }
    // What protects people is in force all the same, and is not called stored.
    for command in ["user block 5000", "token revoke"] {
        let said = of(command);
        assert!(
            said.contains("in force, but is not stored yet") && said.contains("why: the disk is full"),
            "{command}: {said}"
        );
        assert!(said.contains("exit 1"), "{command}: {said}");
    }
    let json: serde_json::Value = serde_json::from_str(of("json").trim()).expect("one object");
    assert_eq!(
        (&json["ok"], &json["durable"], &json["blocked"]),
        (&false.into(), &false.into(), &true.into()),
        "{json}"
    );
    assert!(json["error"]["why"].as_str().unwrap().contains("the disk is full"), "{json}");
    // With room again it is stored, also what was in memory alone.
    let after = said.split("== end").nth(1).unwrap();
    assert_eq!(after.matches("user 5000 (blocked)").count(), 2, "{after}");
    assert!(after.contains("tokens of user 9") && after.contains("is sound") && after.contains("again"), "{after}");
}
