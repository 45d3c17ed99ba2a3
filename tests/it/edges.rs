//! What is at its end beside the ordinary road: disks, locks, threads, inodes, pages. Each is named for what it is, and nobody sees a
//! panic.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use academy_rt::domain::SystemClock;
use academy_rt::domain::audit::{AuditEntry, action};
use academy_rt::store::operations::Record;
use academy_rt::store::{self, NoSink, StoreConfig};

use crate::harness::{Appliance, SECRET, command, in_mount_namespace, run, until, words};

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
        ACADEMY_RT_STORAGE_MIN_FREE=0 "$0" backup "$1/backup" --data-dir /mnt/data
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
        return;
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
