//! Restores: what is refused, what is carried over, what clients see, and a kill at every step.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use academy_rt::archive::restore;
use academy_rt::archive::restore::{RestoreOptions, Step};
use academy_rt::domain::{Clock, SystemClock};
use academy_rt::store::embedded::check;
use academy_rt::store::embedded::offline::rows::Held;
use academy_rt::store::rows::{Digests, TableDigest};
use serde_json::Value;

use crate::backup::{Mounted, academy, failed, good, lived_in, names};
use crate::harness::{Appliance, SECRET, not_run, run, words};

fn asides(data: &Path) -> usize {
    names(data).iter().filter(|name| name.starts_with("academy.redb.before-")).count()
}

/// What the database holds. Its bytes move with each opening: the engine notes in them that it is open.
pub fn holds(data: &Path) -> Vec<TableDigest> {
    let mut digests = Digests::default();
    Held::take(data).unwrap().open().unwrap().send_rows(&mut digests).unwrap();
    digests.finish()
}

fn sound(data: &Path) {
    assert_eq!(check(data).unwrap(), Vec::<String>::new());
}

#[test]
fn a_restore_refuses_beside_a_server_tells_what_changes_and_can_be_taken_back() {
    let server = lived_in();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    let (_, polled) = server.call(&ann, "GET", "/api/v1/events?rooms=french&wait=0", "");
    let early = polled["cursor"].as_str().unwrap().to_owned();
    let file = server.dir.path().join("a.backup");
    let name = file.to_str().unwrap();
    good(&academy(&data, &["backup", name]));
    assert!(failed(&academy(&data, &["restore", name])).contains("in use by another academy-rt"));
    // A life behind the backup: a room, a person, a hold, an erasure.
    let carl = server.token("carl", "learner");
    let late = server.say(&carl, "new-room", "since the backup");
    assert_eq!(
        server.call(&root, "POST", "/api/v1/admin/holds", "{\"roomId\":\"english\",\"reason\":\"case\"}").0,
        200
    );
    assert_eq!(server.call(&root, "DELETE", "/api/v1/admin/users/7", "").0, 200);
    let dir = server.end();

    let before = holds(&data);
    let text = good(&academy(&data, &["restore", name, "--dry-run"]));
    for part in
        ["Nothing has been changed", "messages       40 (before: 41)", "rooms removed  1: new-room", "users removed"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!((asides(&data), holds(&data) == before), (0, true));

    let json = academy(&data, &["--output", "json", "restore", name]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(json["erasedAgain"], serde_json::json!([7]));
    assert_eq!(json["usersLost"], serde_json::json!(["carl"]), "an erased person is not back");
    assert_eq!((asides(&data), json["holds"].as_u64()), (1, Some(1)));
    sound(&data);
    assert!(good(&academy(&data, &["audit", "verify"])).contains("the chain is intact"));
    let trail = good(&academy(&data, &["audit", "list"]));
    for part in ["user.erase (user 7): done", "hold.set (room english): done", "restore (backup of", "local user"] {
        assert!(trail.contains(part), "{part} is not in {trail}");
    }

    // Clients with a position of the life that has ended start anew; no id comes twice.
    let server = Appliance::start_in(dir, &[]);
    let ann = server.token("7", "learner");
    let (status, polled) = server.call(&ann, "GET", &format!("/api/v1/events?rooms=french&wait=0&cursor={early}"), "");
    assert_eq!((status, polled["error"]["code"].as_str()), (410, Some("resync")), "{polled}");
    let (status, page) = server.call(&ann, "GET", &format!("/api/v1/rooms/french/messages?after={late}"), "");
    assert_eq!((status, page["error"]["code"].as_str()), (410, Some("resync")), "{page}");
    let (_, page) = server.call(&ann, "GET", "/api/v1/rooms/french/messages?limit=1", "");
    assert_eq!(page["messages"][0]["content"], "", "what was erased stays erased");
    assert!(server.say(&ann, "french", "after the restore") > late);
    let (status, _) = server.call(&ann, "GET", "/api/v1/rooms/french/messages?after=1", "");
    assert_eq!(status, 200, "a position of before the backup is good");
    let dir = server.end();

    let text = good(&academy(&data, &["restore", "--undo"]));
    assert!(text.contains("messages       41 (before: 41)"), "{text}");
    sound(&data);
    let server = Appliance::start_in(dir, &[]);
    let carl = server.token("carl", "learner");
    let (_, page) = server.call(&carl, "GET", "/api/v1/rooms/new-room/messages", "");
    assert_eq!(page["messages"][0]["content"], "since the backup");
    assert_eq!(server.call(&carl, "GET", &format!("/api/v1/rooms/new-room/messages?after={late}"), "").0, 200);
}

#[test]
fn what_would_change_and_what_there_is_are_told_beside_a_server() {
    let server = lived_in();
    let (data, ann) = (server.data(), server.token("7", "learner"));
    let (file, temporary) = (server.dir.path().join("a.backup"), server.dir.path().join("tmp"));
    fs::create_dir(&temporary).unwrap();
    let name = file.to_str().unwrap();
    good(&academy(&data, &["backup", name]));
    server.say(&ann, "new-room", "since the backup");
    let dry = |data: &Path| {
        let args = ["restore", name, "--dry-run", "--data-dir", data.to_str().unwrap()];
        good(&run(&args, &[("JWT_SECRET", SECRET), ("TMPDIR", temporary.to_str().unwrap())]))
    };
    let text = dry(&data);
    for part in
        ["Nothing has been changed", "messages       40 (before: 41)", "rooms removed  1: new-room", "authentic"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert_eq!((names(&temporary), asides(&data)), (Vec::new(), 0));
    assert!(server.get("/readyz").contains(" 200 "));
    // Another server's is refused here, too, and by the name of the data.
    let other = lived_in();
    let foreign = other.dir.path().join("b.backup");
    good(&academy(&other.data(), &["backup", foreign.to_str().unwrap()]));
    let text = failed(&academy(&data, &["restore", foreign.to_str().unwrap(), "--dry-run"]));
    assert!(text.contains("from another server") && text.contains(data.to_str().unwrap()), "{text}");
    let stats = |data: &Path| -> Value {
        let output = academy(data, &["--output", "json", "db", "stats"]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)))
    };
    let rows = |stats: &Value, name: &str| {
        stats["tables"].as_array().unwrap().iter().find(|table| table["table"] == name).unwrap()["rows"].as_u64()
    };
    let beside = stats(&data);
    assert!(good(&academy(&data, &["db", "stats"])).contains("format 10"));
    let dir = server.end();
    let after = stats(&data);
    assert_eq!((rows(&beside, "messages"), rows(&after, "messages")), (Some(41), Some(41)), "{beside}");
    assert_eq!(beside["tables"].as_array().unwrap().len(), after["tables"].as_array().unwrap().len());
    assert!(dry(&data).contains("rooms removed  1: new-room"), "as without a server");
    drop(dir);
}

#[test]
fn a_machine_that_was_just_set_up_takes_a_restore_without_force() {
    let server = lived_in();
    let file = server.dir.path().join("a.backup");
    let name = file.to_str().unwrap();
    good(&academy(&server.data(), &["backup", name]));
    let fresh = Appliance::start();
    let data = fresh.data();
    let dir = fresh.end();
    let text = good(&academy(&data, &["restore", name]));
    assert!(text.contains("messages       40 (before: 0)"), "{text}");
    sound(&data);
    // One message is data.
    let other = Appliance::start();
    let (ann, data) = (other.token("7", "learner"), other.data());
    other.say(&ann, "french", "mine");
    let _other = other.end();
    assert!(failed(&academy(&data, &["restore", name])).contains("from another server"));
    drop(dir);
}

/// What a data directory holds, but for the audit log and where it ends.
fn all_but_the_audit_log(data: &Path) -> Vec<TableDigest> {
    holds(data).into_iter().filter(|table| !["audit", "meta"].contains(&table.name.as_str())).collect()
}

#[test]
fn going_back_from_another_servers_data_gives_what_was_and_nothing_of_theirs() {
    let (one, two) = (lived_in(), lived_in());
    let (data, other, ann) = (one.data(), two.data(), one.token("7", "learner"));
    let act = |data: &Path, args: &[&str]| good(&academy(data, args));
    // Here ann is held and bob is shut out; there ann is erased, carl is shut out and another room is held.
    act(&data, &["hold", "set", "--user", "7", "--reason", "mine"]);
    act(&data, &["user", "block", "bob"]);
    act(&other, &["user", "erase", "7", "--yes"]);
    act(&other, &["user", "block", "carl"]);
    act(&other, &["hold", "set", "--room", "french", "--reason", "theirs"]);
    let theirs = two.dir.path().join("theirs.backup");
    act(&other, &["backup", theirs.to_str().unwrap()]);
    let (_, polled) = one.call(&ann, "GET", "/api/v1/events?rooms=french&wait=0", "");
    let cursor = polled["cursor"].as_str().unwrap().to_owned();
    let dir = one.end();
    let before = all_but_the_audit_log(&data);
    act(&data, &["restore", "--force", theirs.to_str().unwrap()]);
    // Also what is done to them in this place is theirs.
    act(&data, &["user", "erase", "bob", "--yes"]);
    let json: Value =
        serde_json::from_slice(&academy(&data, &["--output", "json", "restore", "--undo"]).stdout).unwrap();
    assert_eq!((json["erasedAgain"].as_array().map(Vec::len), json["bans"].as_u64()), (Some(0), Some(0)), "{json}");
    assert_eq!(all_but_the_audit_log(&data), before);
    sound(&data);
    // Nothing happened to these data meanwhile: a position in them is good still.
    let server = Appliance::start_in(dir, &[]);
    let (status, _) = server.call(&ann, "GET", &format!("/api/v1/events?rooms=french&wait=0&cursor={cursor}"), "");
    assert_eq!(status, 200);
    let _dir = server.end();
    let before = all_but_the_audit_log(&data);
    // What was set aside first is there still, and what was set aside last is what one goes back to.
    assert!(Path::new(json["undoneFrom"].as_str().unwrap()).exists(), "{json}");
    assert_eq!(asides(&data), 2);
    act(&data, &["restore", "--undo"]);
    assert!(act(&data, &["hold", "list"]).contains("theirs"));
    act(&data, &["restore", "--undo"]);
    assert_eq!((all_but_the_audit_log(&data) == before, asides(&data)), (true, 4));
}

#[test]
fn going_back_from_a_copy_carries_over_what_was_done_in_this_place_alone() {
    let server = lived_in();
    let data = server.data();
    let dir = server.end();
    let act = |data: &Path, args: &[&str]| good(&academy(data, args));
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(data.join("academy.redb"), copy.join("academy.redb")).unwrap();
    // Somebody has tried things out with a copy.
    act(&copy, &["user", "erase", "7", "--yes"]);
    act(&copy, &["user", "block", "carl"]);
    act(&data, &["hold", "set", "--room", "quiet", "--reason", "mine"]);
    let file = dir.path().join("copy.backup");
    act(&copy, &["backup", file.to_str().unwrap()]);
    act(&data, &["restore", "--force", file.to_str().unwrap()]);
    act(&data, &["user", "erase", "bob", "--yes"]);
    act(&data, &["user", "block", "dave"]);
    act(&data, &["hold", "set", "--room", "since", "--reason", "since"]);
    let json: Value =
        serde_json::from_slice(&academy(&data, &["--output", "json", "restore", "--undo"]).stdout).unwrap();
    assert_eq!(json["erasedAgain"], serde_json::json!(["bob"]), "{json}");
    let held = act(&data, &["hold", "list"]);
    assert!(held.contains("room quiet") && held.contains("room since"), "{held}");
    assert_eq!(json["bans"].as_u64(), Some(1), "dave, and not carl: {json}");
    let said = act(&data, &["history", "french"]);
    assert!(said.contains("bonjour 0"), "{said}");
    assert!(!act(&data, &["history", "english"]).contains("hello 0"), "of bob");
    sound(&data);
}

#[test]
fn what_was_set_aside_last_is_last_whatever_the_clock_says() {
    let server = lived_in();
    let data = server.data();
    let dir = server.end();
    let file = dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    // More than nine in one second, and a clock that was ahead.
    for number in ["", "-2", "-10"] {
        fs::write(data.join(format!("academy.redb.before-20990101T000000Z{number}")), "older").unwrap();
    }
    good(&academy(&data, &["hold", "set", "--room", "last", "--reason", "r"]));
    good(&academy(&data, &["restore", file.to_str().unwrap()]));
    assert!(data.join("academy.redb.before-20990101T000000Z-11").exists(), "{:?}", names(&data));
    let json: Value =
        serde_json::from_slice(&academy(&data, &["--output", "json", "restore", "--undo"]).stdout).unwrap();
    assert!(json["undoneFrom"].as_str().unwrap().ends_with("Z-11"), "{json}");
}

#[test]
fn what_was_held_then_and_has_been_released_and_erased_since_is_gone_behind_a_restore() {
    let server = lived_in();
    let (data, ann, root) = (server.data(), server.token("7", "learner"), server.token("1", "admin"));
    let admin = |server: &Appliance, method: &str, path: &str, body: &str| {
        let (status, answer) = server.call(&root, method, &format!("/api/v1/admin/{path}"), body);
        assert_eq!(status, 200, "{method} {path}: {answer}");
        answer
    };
    let carl = server.token("carl", "learner");
    let said = server.say(&carl, "english", "a first draft");
    for who in ["7", "\"carl\""] {
        admin(&server, "POST", "holds", &format!("{{\"userId\":{who},\"reason\":\"case 12\"}}"));
    }
    let (status, _) =
        server.call(&carl, "PATCH", &format!("/api/v1/rooms/english/messages/{said}"), "{\"content\":\"a second\"}");
    assert_eq!(status, 200);
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    for who in ["7", "carl"] {
        admin(&server, "DELETE", &format!("holds/user/{who}"), "");
    }
    let certificate = admin(&server, "DELETE", "users/7", "");
    let dir = server.end();

    good(&academy(&data, &["restore", file.to_str().unwrap()]));
    sound(&data);
    let server = Appliance::start_in(dir, &[]);
    let (_, page) = server.call(&ann, "GET", "/api/v1/rooms/french/messages?limit=100", "");
    assert!(page["messages"].as_array().unwrap().iter().all(|one| one["senderId"] != 7), "{page}");
    assert_eq!(admin(&server, "GET", "users/7/erasure", ""), certificate, "asked again, it is the same document");
    // She has been seen again, with a token of before: nothing of her has to be erased, and the document stands.
    assert_eq!(server.call(&ann, "GET", "/api/v1/session", "").0, 200);
    assert_eq!(admin(&server, "DELETE", "users/7", ""), certificate);
    // What the released hold had kept does not come back with another one.
    admin(&server, "POST", "holds", "{\"userId\":\"carl\",\"reason\":\"case 13\"}");
    let (status, page) = server.call(&root, "GET", "/api/v1/rooms/english/messages?limit=100&versions=true", "");
    let page = page.to_string();
    assert!(status == 200 && page.contains("a second") && !page.contains("a first draft"), "{page}");
    let dir = server.end();
    sound(&data);
    good(&academy(&data, &["restore", "--undo"]));
    drop(dir);
}

#[test]
fn a_restore_onto_a_fresh_machine_skips_the_ids_that_it_does_not_know() {
    let server = lived_in();
    let data = server.data();
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    let ann = server.token("7", "learner");
    let unknown = server.say(&ann, "french", "nobody will know");
    let fresh = tempfile::tempdir().unwrap();
    good(&academy(&fresh.path().join("data"), &["restore", file.to_str().unwrap()]));
    let server = Appliance::start_in(fresh, &[]);
    let (status, _) = server.call(&ann, "GET", &format!("/api/v1/rooms/french/messages?after={unknown}"), "");
    assert_eq!(status, 410);
    assert!(server.say(&ann, "french", "x") > unknown);
}

#[test]
fn what_does_not_fit_is_refused_and_nothing_is_changed() {
    let (one, two) = (lived_in(), lived_in());
    let (data, other) = (one.data(), two.data());
    let file = one.dir.path().join("a.backup");
    let name = file.to_str().unwrap();
    good(&academy(&other, &["backup", name]));
    let _one = one.end();
    let _two = two.end();
    let before = holds(&data);
    let unchanged = |text: &str| {
        assert_eq!((asides(&data), holds(&data) == before), (0, true), "{text}");
        assert!(!names(&data).contains(&"academy.redb.new".to_owned()), "{text}");
    };
    let text = failed(&academy(&data, &["restore", name]));
    assert!(text.contains("from another server") && text.contains("--force"), "{text}");
    unchanged(&text);
    let cut = one_dir(&file).join("cut");
    let bytes = fs::read(&file).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();
    let text = failed(&academy(&data, &["restore", "--force", cut.to_str().unwrap()]));
    assert!(text.contains("incomplete"), "{text}");
    unchanged(&text);
    let text = failed(&academy(&data, &["restore", "--undo"]));
    assert!(text.contains("no restore to undo"), "{text}");
    assert_eq!(academy(&data, &["restore"]).status.code(), Some(2));
    good(&academy(&data, &["restore", "--force", name]));
    sound(&data);
    // Data that cannot be read may hold erasures: only with --force.
    fs::write(data.join("academy.redb"), b"nonsense, and longer than nothing").unwrap();
    let text = failed(&academy(&data, &["restore", name]));
    assert!(text.contains("cannot be read") && text.contains("--force"), "{text}");
    let text = good(&academy(&data, &["restore", "--force", name]));
    assert!(text.contains("Repeat the erasures"), "{text}");
    sound(&data);
    // A file that opens, and whose rows make no sense.
    let database = redb::Database::open(data.join("academy.redb")).unwrap();
    let tx = database.begin_write().unwrap();
    let nonsense: &[u8] = &[9, 9, 9];
    tx.open_table(redb::TableDefinition::<&[u8; 8], &[u8]>::new("users")).unwrap().insert(&[7; 8], nonsense).unwrap();
    tx.commit().unwrap();
    drop(database);
    let text = failed(&academy(&data, &["restore", name]));
    assert!(text.contains("cannot be read") && text.contains("--force"), "{text}");
    good(&academy(&data, &["restore", "--force", name]));
    sound(&data);
}

fn one_dir(file: &Path) -> PathBuf {
    file.parent().unwrap().to_owned()
}

#[test]
fn a_full_disk_leaves_the_data_as_they_were() {
    let server = lived_in();
    let data = server.data();
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    let dir = server.end();
    // The data have room there, and not what takes their place beside them.
    let size = fs::metadata(data.join("academy.redb")).unwrap().len() / 1_024 + 50;
    let mounted = Mounted::tmpfs(&dir.path().join("small"), &format!("{size}k"));
    let small = mounted.0.join("data");
    fs::create_dir(&small).unwrap();
    fs::copy(data.join("academy.redb"), small.join("academy.redb")).unwrap();
    let text = failed(&academy(&small, &["restore", file.to_str().unwrap()]));
    assert!(text.contains("No space left"), "{text}");
    assert_eq!(names(&small), ["academy.redb"]);
    sound(&small);
}

/// What kills this process at the n-th step, if the variable says at which.
pub fn killed_at(variable: &str) -> Option<impl FnMut(Step)> {
    let mut left: usize = std::env::var(variable).ok()?.parse().unwrap();
    Some(move |_: Step| {
        if left == 0 {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
        }
        left -= 1;
    })
}

const STOP_AT: &str = "ACADEMY_RT_TEST_STOP_AT";
const DATA: &str = "ACADEMY_RT_TEST_DATA";
const BACKUP: &str = "ACADEMY_RT_TEST_BACKUP";

/// What is killed: a restore (or its undoing) that kills itself at the n-th step.
#[test]
#[ignore = "a child of a_kill_at_every_step_leaves_the_old_data_or_the_new"]
fn child() {
    let Some(mut watch) = killed_at(STOP_AT) else { return };
    let options =
        RestoreOptions { identity: None, is_dry_run: false, is_forced: false, actor: "test", now: SystemClock.now() };
    let data = PathBuf::from(std::env::var(DATA).unwrap());
    match std::env::var(BACKUP) {
        Ok(backup) => drop(restore::restore(&data, Path::new(&backup), options, &mut watch).unwrap()),
        Err(_) => drop(academy_rt::archive::undo::undo(&data, options, &mut watch).unwrap()),
    }
}

/// Runs the child; `true` if it came to its end.
fn run_child(data: &Path, backup: Option<&Path>, stop_at: usize) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["restore::child", "--exact", "--ignored", "--nocapture"]);
    child.env(STOP_AT, stop_at.to_string()).env(DATA, data).stdout(Stdio::null());
    if let Some(backup) = backup {
        child.env(BACKUP, backup);
    }
    let output = child.output().unwrap();
    assert!(output.status.success() || output.status.code().is_none(), "{}", words(&output));
    output.status.success()
}

#[test]
fn a_kill_at_every_step_leaves_the_old_data_or_the_new() {
    let server = lived_in();
    let (data, ann) = (server.data(), server.token("7", "learner"));
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    server.say(&ann, "french", "behind the backup");
    let _dir = server.end();
    let messages = |data: &Path| {
        // A start clears away what was cut short.
        let store = academy_rt::store::open(
            &crate::store::config(data),
            SystemClock::shared(),
            std::sync::Arc::new(academy_rt::store::NoSink),
        );
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(store.unwrap().close()).unwrap();
        sound(data);
        assert!(!names(data).contains(&"academy.redb.new".to_owned()));
        Held::take(data).unwrap().open().unwrap().row_stats().unwrap().rows_of("messages")
    };
    for (what, backup, old, new) in [("restore", Some(file.as_path()), 41, 40), ("undo", None, 40, 41)] {
        let (mut kills, mut seen) = (0, Vec::new());
        while !run_child(&data, backup, kills) {
            let found = messages(&data);
            seen.push(found);
            assert!(found == old || found == new, "{what}, step {kills}: {found} messages");
            if found == new {
                // Killed behind the swap: the restore has been made.
                break;
            }
            assert_eq!(
                asides(&data),
                usize::from(backup.is_none()),
                "{what}, step {kills}: what was not replaced is not aside"
            );
            kills += 1;
        }
        assert!(kills >= 5, "{what}: only {kills} steps");
        assert_eq!(messages(&data), new, "{what}");
        println!("{what}: killed at {} steps, each left whole data", seen.len());
    }
}

#[test]
fn a_database_that_is_damaged_under_a_server_stops_it_and_a_backup_heals_it() {
    use std::os::unix::fs::FileExt;
    let server = lived_in();
    let data = server.data();
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    let dir = server.end();
    // Without a cache every read asks the disk.
    let server = Appliance::start_in(dir, &[("ACADEMY_RT_STORAGE_CACHE", "0")]);
    let root = server.token("1", "admin");
    let database = fs::OpenOptions::new().write(true).open(data.join("academy.redb")).unwrap();
    let length = database.metadata().unwrap().len();
    database.write_all_at(&vec![0xA5; usize::try_from(length - 4096).unwrap()], 4096).unwrap();
    // Whatever this is answered: the server finds out, says so and stops.
    drop(server.try_call(&root, "GET", "/api/v1/rooms/french/messages"));
    let (status, said, _dir) = server.ended();
    assert_eq!(status, Some(1), "{said}");
    assert!(said.contains("error: the service had to stop") && said.contains("  do:  "), "{said}");
    let text = failed(&academy(&data, &["serve", "--no-tls", "--listen", "127.0.0.1:0"]));
    assert!(text.contains("academy-rt restore FILE"), "{text}");
    let text = failed(&academy(&data, &["restore", file.to_str().unwrap()]));
    assert!(text.contains("--force"), "{text}");
    good(&academy(&data, &["restore", "--force", file.to_str().unwrap()]));
    sound(&data);
    assert!(!names(&data).contains(&"academy.redb.suspect".to_owned()));
}

#[test]
fn a_flipped_byte_is_found_or_lies_where_nothing_is() {
    let server = lived_in();
    let data = server.data();
    let _dir = server.end();
    let whole = holds(&data);
    let bytes = fs::read(data.join("academy.redb")).unwrap();
    let (mut found, mut at) = (0, 1_u64);
    for round in 0..200 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let place = usize::try_from((at >> 33) % bytes.len() as u64).unwrap();
        let mut flipped = bytes.clone();
        flipped[place] ^= 1 << (round % 8);
        fs::write(data.join("academy.redb"), flipped).unwrap();
        match check(&data) {
            // In a free page, or mended from the other half of the header.
            Ok(list) if list.is_empty() => assert_eq!(holds(&data), whole, "byte {place} was changed, and not noticed"),
            Ok(_) | Err(_) => found += 1,
        }
    }
    // Most of a small file is room to grow.
    assert!(found > 2, "only {found} of 200 were met");
}

#[test]
fn files_that_root_makes_belong_to_the_owner_of_the_data() {
    use std::os::unix::fs::{MetadataExt, chown};
    if !rustix::process::geteuid().is_root() {
        // Nobody else can give files away; and nobody else needs to.
        return not_run("files are given away by root alone");
    }
    let server = lived_in();
    let data = server.data();
    let file = server.dir.path().join("a.backup");
    good(&academy(&data, &["backup", file.to_str().unwrap()]));
    let _dir = server.end();
    for path in [data.clone(), data.join("academy.redb")] {
        if chown(path, Some(4_242), Some(4_242)).is_err() {
            // Root of a user namespace that knows nobody else.
            return not_run("this user namespace knows nobody else");
        }
    }
    let owner = || fs::metadata(data.join("academy.redb")).unwrap().uid();
    for args in [&["restore", file.to_str().unwrap()][..], &["restore", "--undo"], &["db", "compact"]] {
        good(&academy(&data, args));
        assert_eq!(owner(), 4_242, "{args:?}");
    }
}

#[test]
fn a_lost_database_is_not_taken_for_a_new_server() {
    let server = lived_in();
    let data = server.data();
    let _dir = server.end();
    fs::rename(data.join("academy.redb"), data.join("academy.redb.before-20260101T000000Z")).unwrap();
    let output = academy(&data, &["serve", "--no-tls", "--listen", "127.0.0.1:0"]);
    let text = failed(&output);
    assert!(text.contains("it is not there, but") && text.contains("before-20260101T000000Z"), "{text}");
}
