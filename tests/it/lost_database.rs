//! A database that is not where its name leads: a link to nowhere, a link to another place, and a file that is removed or
//! replaced while the server has it open.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::harness::{Appliance, run, until, words};

fn data_with_a_store() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let running = Appliance::start();
    let token = running.token("7", "learner");
    running.say(&token, "hall", "kept");
    let data = running.data();
    let dir = running.end();
    let file = data.join("academy.redb");
    (dir, data, file)
}

fn in_dir(command: &[&str], data: &Path) -> (i32, String) {
    let args: Vec<&str> = command.iter().copied().chain(["--data-dir", data.to_str().unwrap()]).collect();
    let output = run(&args, &[("ACADEMY_RT_STORAGE_MIN_FREE", "0")]);
    (output.status.code().unwrap_or(-1), words(&output))
}

#[test]
fn a_link_that_leads_nowhere_is_never_replaced_by_an_empty_store() {
    let (dir, data, file) = data_with_a_store();
    let away = dir.path().join("away.redb");
    fs::rename(&file, &away).unwrap();
    symlink(dir.path().join("unmounted").join("academy.redb"), &file).unwrap();
    let backup = dir.path().join("b.backup");
    let commands: [&[&str]; 5] = [
        &["serve", "--no-tls", "--listen", "127.0.0.1:0"],
        &["db", "check"],
        &["db", "compact"],
        &["backup", backup.to_str().unwrap()],
        &["user", "list"],
    ];
    for command in commands {
        let (status, words) = in_dir(command, &data);
        assert_eq!(status, 1, "{command:?}: {words}");
        assert!(words.contains("is a link to") || words.contains("there is no store"), "{command:?}: {words}");
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink() && !file.exists(), "{command:?}");
    }
    assert!(in_dir(commands[0], &data).1.contains("Mount the disk"));
}

#[test]
fn what_would_replace_the_file_refuses_a_link_and_leaves_everything_as_it_is() {
    let (dir, data, file) = data_with_a_store();
    let away = dir.path().join("away.redb");
    let backup = dir.path().join("b.backup");
    assert_eq!(in_dir(&["backup", backup.to_str().unwrap()], &data).0, 0);
    fs::rename(&file, &away).unwrap();
    symlink(&away, &file).unwrap();
    assert_eq!(in_dir(&["db", "check"], &data).0, 0);
    let commands: [&[&str]; 2] = [&["db", "compact"], &["restore", backup.to_str().unwrap()]];
    for command in commands {
        let (status, words) = in_dir(command, &data);
        assert_eq!(status, 1, "{command:?}: {words}");
        assert!(words.contains("is a link to") && words.contains("mv "), "{command:?}: {words}");
        assert!(fs::symlink_metadata(&file).unwrap().is_symlink(), "{command:?}");
    }
    // As it says.
    fs::rename(&away, &file).unwrap();
    assert_eq!(in_dir(&["db", "compact"], &data).0, 0);
}

#[test]
fn a_database_that_is_removed_or_replaced_while_it_is_served_acknowledges_nothing() {
    for is_replaced in [false, true] {
        let running = Appliance::start();
        let token = running.token("7", "learner");
        running.say(&token, "hall", "kept");
        let data = running.data();
        let file = data.join("academy.redb");
        let away = running.dir.path().join("away.redb");
        fs::rename(&file, &away).unwrap();
        if is_replaced {
            fs::copy(&away, &file).unwrap();
        }
        let body = r#"{"content": "lost"}"#;
        let (status, answer) = running.call(&token, "POST", "/api/v1/rooms/hall/messages", body);
        assert_ne!(status, 200, "{answer}");
        let ready = running.get("/readyz");
        assert!(ready.contains(" 503 ") && ready.contains("academy-rt backup FILE"), "{ready}");
        // What it has can be saved, as long as it runs.
        let backup = running.dir.path().join("b.backup");
        let output = run(&["backup", backup.to_str().unwrap(), "--data-dir", data.to_str().unwrap()], &[]);
        assert!(output.status.success(), "{}", words(&output));
        if is_replaced {
            // An end with it away is not a good one.
            let pid = rustix::process::Pid::from_raw(i32::try_from(running.id()).unwrap()).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
            let (status, log, _dir) = running.ended();
            assert_eq!(status, Some(1), "{log}");
            assert!(log.contains("another file is in the place of"), "{log}");
        } else {
            // Back at its place it takes writes again.
            fs::rename(&away, &file).unwrap();
            until("it is ready", || running.get("/readyz").contains(" 200 "));
            until("it takes a write", || running.call(&token, "POST", "/api/v1/rooms/hall/messages", body).0 == 200);
            assert!(running.stop().success());
        }
    }
}
