//! The continuous backup: what it holds is what was acknowledged, whatever is killed, full or gone, and one can go back to it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::backup::{Mounted, academy, failed, good, names};
use crate::harness::{Appliance, run, until, words};

/// A server with a continuous backup into a directory.
fn start(dir: tempfile::TempDir, target: &Path, more: &[(&str, &str)]) -> Appliance {
    let mut env = vec![("ACADEMY_RT_BACKUP_CONTINUOUS", target.to_str().unwrap())];
    env.extend(more);
    Appliance::start_in(dir, &env)
}

fn standing(server: &Appliance, root: &str) -> Value {
    server.call(root, "GET", "/api/v1/admin/status", "").1["continuousBackup"].clone()
}

/// Waits until everything that was acknowledged is in the archive.
fn settled(server: &Appliance, root: &str) {
    until("the continuous backup has caught up", || {
        let standing = standing(server, root);
        standing["problem"].is_null() && standing["lagSeconds"].as_f64() == Some(0.0)
    });
}

fn json_of(output: &std::process::Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", words(output)))
}

/// Restores into a new directory, and gives it.
fn restored(at: &Path, target: &Path, more: &[&str]) -> (PathBuf, Value) {
    let data = at.join("restored");
    if data.exists() {
        fs::remove_dir_all(&data).unwrap();
    }
    let mut args = vec!["--output", "json", "restore", target.to_str().unwrap()];
    args.extend(more);
    let json = json_of(&academy(&data, &args));
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    (data, json)
}

/// What was said in a room, all of it.
fn contents(data: &Path, room: &str) -> Vec<String> {
    let (mut after, mut found) = (0, Vec::new());
    loop {
        let after_text = after.to_string();
        let args = ["--output", "json", "history", room, "--limit", "200", "--after", &after_text];
        let page = json_of(&academy(data, &args));
        let messages = page["messages"].as_array().unwrap_or_else(|| panic!("{page}"));
        let Some(last) = messages.last() else { return found };
        after = last["id"].as_u64().unwrap_or_else(|| panic!("{last}"));
        found.extend(messages.iter().map(|message| message["content"].as_str().unwrap().to_owned()));
    }
}

#[test]
fn a_moment_comes_back_from_another_disk_when_the_data_are_gone() {
    let target = tempfile::tempdir().unwrap();
    let server = start(tempfile::tempdir().unwrap(), target.path(), &[]);
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    server.say(&ann, "french", "one");
    settled(&server, &root);
    server.say(&ann, "french", "two");
    settled(&server, &root);
    let between = standing(&server, &root)["writtenAt"].as_u64().unwrap();
    std::thread::sleep(Duration::from_millis(20));
    server.say(&ann, "french", "three, by mistake");
    good(&academy(&data, &["hold", "set", "--room", "french", "--reason", "case"]));
    settled(&server, &root);
    for name in names(target.path()) {
        let file = target.path().join(name);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600, "{}", file.display());
    }
    let text = good(&academy(&data, &["status"]));
    assert!(text.contains("continuous") && text.contains("0 gaps"), "{text}");
    let (_, metrics) = (0, server.try_call(&root, "GET", "/metrics").unwrap());
    for line in ["academy_rt_continuous_backup_lag_seconds 0", "academy_rt_continuous_backup_failing 0"] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    let text = good(&academy(&data, &["backup", "verify", target.path().to_str().unwrap(), "--drill"]));
    assert!(text.contains("leads back to") && text.contains("the trial restore of"), "{text}");
    // The disk is gone, without a word of farewell.
    let dir = server.kill();
    fs::remove_dir_all(&data).unwrap();
    let (all, json) = restored(dir.path(), target.path(), &[]);
    assert_eq!(contents(&all, "french"), ["one", "two", "three, by mistake"], "{json}");
    assert!(good(&academy(&all, &["hold", "list"])).contains("room french"), "holds are in it");
    let (then, json) = restored(dir.path(), target.path(), &["--to", &between.to_string()]);
    assert_eq!(contents(&then, "french"), ["one", "two"], "{json}");
    assert_eq!(json["until"].as_u64(), Some(between));
    let trail = good(&academy(&then, &["audit", "list"]));
    assert!(trail.contains("commits until"), "{trail}");
    // Before the first base backup there is nothing to go back to.
    let text =
        failed(&academy(&dir.path().join("none"), &["restore", target.path().to_str().unwrap(), "--to", "1000"]));
    assert!(text.contains("the first moment that it goes back to is"), "{text}");
    let text = academy(&then, &["restore", "x.backup", "--to", "1000"]);
    assert_eq!(text.status.code(), Some(2), "{}", words(&text));
}

#[test]
fn erasures_and_holds_since_are_applied_to_a_moment_of_before() {
    let target = tempfile::tempdir().unwrap();
    let server = start(tempfile::tempdir().unwrap(), target.path(), &[]);
    let (data, ann, bob, root) =
        (server.data(), server.token("7", "learner"), server.token("bob", "coach"), server.token("1", "admin"));
    settled(&server, &root);
    server.say(&ann, "french", "of ann");
    server.say(&bob, "french", "of bob");
    settled(&server, &root);
    let before = standing(&server, &root)["writtenAt"].as_u64().unwrap();
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/users/7", "").0, 200);
    let _dir = server.end();
    let json = json_of(&academy(
        &data,
        &["--output", "json", "restore", target.path().to_str().unwrap(), "--to", &before.to_string()],
    ));
    assert_eq!(json["erasedAgain"], json!([7]), "{json}");
    assert_eq!(contents(&data, "french"), ["", "of bob"]);
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
}

#[test]
fn what_was_erased_leaves_the_archive() {
    let target = tempfile::tempdir().unwrap();
    let server = start(tempfile::tempdir().unwrap(), target.path(), &[]);
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    // Incompressible, so that it is found where it is.
    let secret: String = (0..64).map(|n| blake3::hash(&[n]).to_hex().to_string()).collect();
    server.say(&ann, "french", &secret[..2000]);
    settled(&server, &root);
    let before = names(target.path());
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/users/7", "").0, 200);
    until("what was before is gone", || names(target.path()).iter().all(|name| !before.contains(name)));
    settled(&server, &root);
    // Without a server, too: the next start finds it.
    server.say(&server.token("bob", "coach"), "english", "of bob");
    settled(&server, &root);
    let (data, dir, before) = (server.data(), server.end(), names(target.path()));
    good(&academy(&data, &["user", "erase", "bob", "--yes"]));
    let server = start(dir, target.path(), &[]);
    until("what was before is gone", || names(target.path()).iter().all(|name| !before.contains(name)));
    settled(&server, &root);
    let dir = server.end();
    let (data, _) = restored(dir.path(), target.path(), &[]);
    assert_eq!((contents(&data, "french"), contents(&data, "english")), (vec![String::new()], vec![String::new()]));
}

/// Retention by age: what is older than is kept goes, and the moments that are kept stay within reach.
#[test]
fn what_is_older_than_is_kept_leaves_the_archive() {
    let target = tempfile::tempdir().unwrap();
    let keep = [("ACADEMY_RT_BACKUP_CONTINUOUS_KEEP", "1s")];
    let mut dir = tempfile::tempdir().unwrap();
    let mut first = Vec::new();
    for round in 0..3 {
        // Each start makes a base backup.
        let server = start(dir, target.path(), &keep);
        let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
        server.say(&ann, "french", &format!("message {round}"));
        settled(&server, &root);
        if round == 0 {
            first = names(target.path());
            fs::write(target.path().join("continuous-notes.txt"), "mine").unwrap();
        }
        // Older than a second by the clock of the files.
        let until_then = Instant::now() + Duration::from_millis(1_100);
        until("it is older", || Instant::now() > until_then);
        dir = server.end();
    }
    let left = names(target.path());
    assert!(first.iter().all(|name| !left.contains(name)), "{first:?} of {left:?}");
    assert!(left.contains(&"continuous-notes.txt".to_owned()), "{left:?}");
    let (data, _) = restored(dir.path(), target.path(), &[]);
    assert_eq!(contents(&data, "french"), ["message 0", "message 1", "message 2"]);
}

#[test]
fn an_encrypted_archive_opens_with_its_identity_alone() {
    let (target, keys) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let key = age::x25519::Identity::generate();
    let identity = keys.path().join("identity.txt");
    fs::write(&identity, age::secrecy::ExposeSecret::expose_secret(&key.to_string())).unwrap();
    let recipient = key.to_public().to_string();
    let env = [("ACADEMY_RT_BACKUP_CONTINUOUS_RECIPIENTS", recipient.as_str())];
    let server = start(tempfile::tempdir().unwrap(), target.path(), &env);
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    settled(&server, &root);
    server.say(&ann, "french", "a very secret message");
    settled(&server, &root);
    let dir = server.end();
    for name in names(target.path()) {
        let bytes = fs::read(target.path().join(&name)).unwrap();
        assert!(!bytes.windows(6).any(|window| window == b"secret"), "{name}");
    }
    let text = failed(&academy(&dir.path().join("x"), &["restore", target.path().to_str().unwrap()]));
    assert!(text.contains("encrypted"), "{text}");
    let (data, _) = restored(dir.path(), target.path(), &["--identity", identity.to_str().unwrap()]);
    assert_eq!(contents(&data, "french"), ["a very secret message"]);
}

#[test]
fn a_target_that_is_full_or_gone_is_told_holds_nobody_up_and_is_caught_up_with() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = Mounted::tmpfs(&dir.path().join("disk"), "256k");
    let target = mounted.0.join("target");
    // It is not there yet.
    let server = start(tempfile::tempdir().unwrap(), &target, &[]);
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    server.say(&ann, "french", "before it was there");
    let problem = |server: &Appliance| standing(server, &root)["problem"].as_str().unwrap_or_default().to_owned();
    until("its absence is told", || problem(&server).contains("No such file"));
    assert!(words(&academy(&data, &["doctor"])).contains("continuous backup"));
    fs::create_dir(&target).unwrap();
    settled(&server, &root);
    // It is full, and people go on.
    let noise = |n: u32| -> String {
        (0..30u32)
            .map(|part| blake3::hash(&[n.to_le_bytes(), part.to_le_bytes()].concat()).to_hex().to_string())
            .collect()
    };
    fs::write(mounted.0.join("filler"), vec![7; 1 << 20]).unwrap_err();
    let mut number = 0;
    until("a full disk is told", || {
        number += 1;
        server.say(&ann, "large", &noise(number));
        let began = Instant::now();
        server.say(&ann, "french", "on a full disk");
        assert!(began.elapsed() < Duration::from_secs(5), "a message waited for the archive");
        problem(&server).contains("No space left")
    });
    assert!(standing(&server, &root)["lagSeconds"].as_f64().unwrap() > 0.0);
    fs::remove_file(mounted.0.join("filler")).unwrap();
    for name in names(&target) {
        fs::remove_file(target.join(name)).unwrap();
    }
    settled(&server, &root);
    assert!(standing(&server, &root)["gaps"].as_u64() >= Some(1));
    server.say(&ann, "french", "the last word");
    settled(&server, &root);
    let dir = server.kill();
    let (restored, _) = restored(dir.path(), &target, &[]);
    assert_eq!(contents(&restored, "french").last().unwrap(), "the last word");
}

/// Kills a server that writes, at any moment, and looks at what its archive holds then: a prefix of what was acknowledged, that
/// lacks two seconds at most.
fn kill_rounds(rounds: u32) {
    let target = tempfile::tempdir().unwrap();
    let mut dir = tempfile::tempdir().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let mut worst = Duration::ZERO;
    let mut number = 0;
    for round in 0..rounds {
        let server = start(dir, target.path(), &[]);
        let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
        settled(&server, &root);
        let stop = AtomicBool::new(false);
        let begun = Instant::now();
        // Any moment of a round of writing and syncing; longer than what may be short, so that it is seen.
        let life = Duration::from_millis(2_300 + u64::from(round * 271 % 1_100));
        let mut said: Vec<(String, Instant)> = Vec::new();
        let room = format!("room-{round}");
        while !stop.load(Ordering::SeqCst) && begun.elapsed() < life {
            number += 1;
            let text = format!("message {number}");
            server.say(&ann, &room, &text);
            said.push((text, Instant::now()));
        }
        let killed = Instant::now();
        dir = server.kill();
        let (data, json) = restored(scratch.path(), target.path(), &[]);
        let has_room = academy(&data, &["history", &room]).status.success();
        let found = if has_room { contents(&data, &room) } else { Vec::new() };
        let expected: Vec<&String> = said.iter().map(|(text, _)| text).collect();
        let is_prefix = found.iter().zip(&expected).all(|(found, expected)| found == *expected);
        assert!(is_prefix && found.len() <= expected.len() + 1, "round {round}: {found:?} of {expected:?}: {json}");
        if let Some((text, at)) = said.get(found.len()) {
            let short = killed - *at;
            worst = worst.max(short);
            assert!(
                short <= Duration::from_secs(2),
                "round {round}: {text} was acknowledged {short:?} before the kill"
            );
        }
    }
    println!("{rounds} rounds, {number} messages: at most {worst:?} short");
}

#[test]
#[ignore = "long"]
fn what_the_archive_of_a_killed_server_holds_is_a_prefix_at_most_two_seconds_short() {
    kill_rounds(if std::env::var_os("TESTED_FOR_LONG").is_some() { 200 } else { 4 });
}

#[test]
#[ignore = "long"]
fn a_torn_or_altered_segment_is_used_as_far_as_it_is_whole() {
    let target = tempfile::tempdir().unwrap();
    let server = start(tempfile::tempdir().unwrap(), target.path(), &[]);
    let (ann, root) = (server.token("7", "learner"), server.token("1", "admin"));
    settled(&server, &root);
    for text in ["one", "two", "three"] {
        server.say(&ann, "french", text);
        settled(&server, &root);
    }
    let dir = server.kill();
    let segments: Vec<PathBuf> = names(target.path())
        .iter()
        .filter(|name| name.ends_with(".segment"))
        .map(|name| target.path().join(name))
        .collect();
    let last = segments.last().unwrap();
    let whole = fs::read(last).unwrap();
    let mut seen = Vec::new();
    for cut in (0..whole.len()).step_by(whole.len() / 24 + 1) {
        let mut altered = whole.clone();
        altered[cut] ^= 0x20;
        for bytes in [whole[..cut].to_vec(), altered] {
            fs::write(last, bytes).unwrap();
            let data = dir.path().join("torn");
            let output = run(
                &["restore", target.path().to_str().unwrap(), "--data-dir", data.to_str().unwrap()],
                &[("JWT_SECRET", crate::harness::SECRET)],
            );
            if output.status.success() {
                let found = if academy(&data, &["history", "french"]).status.success() {
                    contents(&data, "french")
                } else {
                    Vec::new()
                };
                assert!(
                    ["one", "two", "three"].starts_with(&found.iter().map(String::as_str).collect::<Vec<_>>()),
                    "{found:?}"
                );
                seen.push(found.len());
                fs::remove_dir_all(&data).unwrap();
            } else {
                assert!(
                    words(&output).contains("cannot be used") && !data.join("academy.redb").exists(),
                    "{}",
                    words(&output)
                );
            }
        }
    }
    assert!(seen.contains(&1) && seen.contains(&2), "{seen:?}");
}
