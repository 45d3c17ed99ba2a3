//! Backups by the command line: of a running server and of a data directory, and every file that is none.

use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};

use academy_rt::archive::ArchiveError;
use academy_rt::archive::backup;
use academy_rt::archive::format;
use academy_rt::archive::format::Writer;
use academy_rt::domain::Timestamp;
use academy_rt::store::embedded::offline::rows::{Held, newest_format};
use academy_rt::store::rows::{Digests, Preface, RowSink};
use proptest::prelude::*;
use serde_json::Value;

use crate::harness::{Appliance, SECRET, run, words};

/// A command for a data directory.
pub fn academy(data: &Path, args: &[&str]) -> Output {
    let mut all = args.to_vec();
    all.extend(["--data-dir", data.to_str().unwrap()]);
    run(&all, &[("JWT_SECRET", SECRET)])
}

/// Its words, if it went well.
pub fn good(output: &Output) -> String {
    assert!(output.status.success(), "{}", words(output));
    words(output)
}

/// Its words, if it failed with status 1.
pub fn failed(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{}", words(output));
    let text = words(output);
    assert!(text.contains("error: ") && text.contains("  why: ") && text.contains("  do:  "), "{text}");
    text
}

/// The names in a directory.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A server that has some of everything, and its directory.
pub fn lived_in() -> Appliance {
    let server = Appliance::start();
    let (ann, bob, root) = (server.token("7", "learner"), server.token("bob", "coach"), server.token("1", "admin"));
    for n in 0..20 {
        server.say(&ann, "french", &format!("bonjour {n}"));
        server.say(&bob, "english", &format!("hello {n}"));
    }
    let body = "{\"lessonId\":3,\"progress\":40,\"timeSpent\":60}";
    assert_eq!(server.call(&ann, "POST", "/api/v1/progress", body).0, 200);
    let body = "{\"target\":{\"users\":[7,\"bob\"]},\"title\":\"T\",\"message\":\"M\"}";
    assert_eq!(server.call(&root, "POST", "/api/v1/notifications", body).0, 200);
    server
}

fn make(dir: &Path, data: &Path, name: &str) -> PathBuf {
    let file = dir.join(name);
    good(&academy(data, &["backup", file.to_str().unwrap()]));
    file
}

#[test]
fn a_backup_of_a_running_server_is_whole_private_and_noted() {
    let server = lived_in();
    let root = server.token("1", "admin");
    let (ann, stop) = (server.token("7", "learner"), AtomicBool::new(false));
    // Somebody writes all the time.
    let (file, written) = std::thread::scope(|scope| {
        let writing = scope.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::SeqCst) {
                server.say(&ann, "busy", "on and on");
                n += 1;
            }
            n
        });
        let file = make(server.dir.path(), &server.data(), "a.backup");
        stop.store(true, Ordering::SeqCst);
        (file, writing.join().unwrap())
    });
    assert!(written > 0);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = good(&run(&["backup", "verify", file.to_str().unwrap(), "--drill"], &[]));
    assert!(text.contains("is complete") && text.contains("the trial restore was successful"), "{text}");
    let json = run(&["--output", "json", "backup", "verify", file.to_str().unwrap()], &[]);
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let messages = json["tables"].as_array().unwrap().iter().find(|table| table["name"] == "messages").unwrap();
    let rows = messages["rows"].as_u64().unwrap();
    assert!((40..=40 + written).contains(&rows), "{rows} of 40 to {}", 40 + written);
    let (_, status) = server.call(&root, "GET", "/api/v1/admin/status", "");
    assert_eq!(status["store"]["lastBackup"]["bytes"].as_u64(), Some(fs::metadata(&file).unwrap().len()));
    let metrics = server.call(&root, "GET", "/metrics", "").0;
    assert_eq!(metrics, 200);
    // The stream itself is the administrators' alone.
    assert_eq!(server.call(&ann, "GET", "/api/v1/admin/backup", "").0, 403);
}

#[test]
fn a_stopped_server_is_backed_up_too_and_twice_the_same() {
    let server = lived_in();
    let data = server.data();
    let dir = server.end();
    let (one, two) = (make(dir.path(), &data, "1.backup"), make(dir.path(), &data, "2.backup"));
    // The audit trail and the note of the last backup have moved on; all else is the same.
    let tables = |file: &Path| {
        let summary = backup::verify(file, None, newest_format(), &mut |_, _| {}).unwrap();
        summary.tables.into_iter().filter(|table| !["audit", "meta"].contains(&table.name.as_str())).collect::<Vec<_>>()
    };
    assert_eq!(tables(&one), tables(&two));
    assert!(tables(&one).len() > 10);
}

#[test]
fn what_an_archive_holds_comes_out_of_a_restore_byte_for_byte() {
    let server = lived_in();
    let data = server.data();
    let dir = server.end();
    let export = |data: &Path| {
        let held = Held::take(data).unwrap();
        let mut bytes = Vec::new();
        held.open().unwrap().send_rows(&mut Writer::new(&mut bytes, Timestamp(1))).unwrap();
        bytes
    };
    let before = export(&data);
    let other = dir.path().join("other");
    fs::create_dir(&other).unwrap();
    let mut file = academy_rt::store::embedded::offline::rows::NewFile::create(&other.join("academy.redb")).unwrap();
    format::read(&mut before.as_slice(), newest_format(), &mut file, &mut |_, _| {}).unwrap();
    assert_eq!(export(&other), before);
}

/// A copy of a backup that says that it was made at another time, and is whole.
fn dated(file: &Path, at: u64, to: &Path) {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Timestamp(at));
    format::read(&mut fs::read(file).unwrap().as_slice(), newest_format(), &mut writer, &mut |_, _| {}).unwrap();
    fs::write(to, bytes).unwrap();
}

#[test]
fn retention_counts_what_backups_say_of_themselves_and_never_takes_the_new_one() {
    let server = lived_in();
    let (dir, data) = (server.dir.path().to_owned(), server.data());
    let to = dir.join("backups");
    fs::create_dir(&to).unwrap();
    let one = make(&dir, &data, "one.backup");
    // By name the second oldest is the newest; by what they say of themselves they are of 1, 2 and 3 seconds after the epoch.
    for (name, at) in [("20200101T000000Z", 1_000), ("20990101T000000Z", 2_000), ("20210101T000000Z", 3_000)] {
        dated(&one, at, &to.join(format!("academy-rt-{name}.backup")));
    }
    // Another store's, one of the future, one that a person has named, and some that are none.
    let other = lived_in();
    let others = make(other.dir.path(), &other.data(), "others.backup");
    dated(&others, 1, &to.join("academy-rt-20010101T000000Z.backup"));
    dated(&one, 9_999_999_999_999, &to.join("academy-rt-20980101T000000Z.backup"));
    dated(&one, 1, &to.join("academy-rt-before-the-move.backup"));
    for none in ["academy-rt-20970101T000000Z.backup", "mine.backup", "notes.txt"] {
        fs::write(to.join(none), "old").unwrap();
    }
    std::os::unix::fs::symlink(&one, to.join("academy-rt-20020101T000000Z.backup")).unwrap();
    let before = names(&to);
    let (to_arg, root) = (to.to_str().unwrap(), server.token("1", "admin"));
    let output = academy(&data, &["--output", "json", "backup", "--to", to_arg, "--keep", "2"]);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let made = PathBuf::from(answer["file"].as_str().unwrap());
    assert!(made.exists(), "the new one is there: {answer}");
    let mut expected = before.clone();
    expected.retain(|name| {
        !["academy-rt-20200101T000000Z.backup", "academy-rt-20990101T000000Z.backup"].contains(&&**name)
    });
    expected.push(made.file_name().unwrap().to_str().unwrap().to_owned());
    expected.sort();
    assert_eq!(names(&to), expected);
    let text = words(&output);
    assert!(text.contains("were made after this one") && text.contains("academy-rt-20980101T000000Z"), "{text}");
    assert!(text.contains("do not say that they are") && text.contains("academy-rt-20970101T000000Z"), "{text}");
    // Once more, at once: the one of a moment ago is the older one now.
    good(&academy(&data, &["backup", "--to", to_arg, "--keep", "2"]));
    assert!(made.exists() && !to.join("academy-rt-20210101T000000Z.backup").exists());
    good(&academy(&data, &["backup", "--to", to_arg, "--keep", "1"]));
    assert!(!made.exists() && one.exists());
    // What cannot be removed is told beside a good backup, which is noted.
    let stuck = to.join("academy-rt-20220101T000000Z.backup");
    dated(&one, 4_000, &stuck);
    let pinned = Pinned::bind(&stuck);
    let output = academy(&data, &["--output", "json", "backup", "--to", to_arg, "--keep", "1"]);
    let text = good(&output);
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(text.contains("the backup is good, but the old backup") && stuck.exists(), "{text}");
    assert!(answer["pruneProblem"].as_str().unwrap().contains("academy-rt-20220101T000000Z"), "{answer}");
    assert_eq!(answer["removed"].as_array().unwrap().len(), 1, "the others go all the same: {answer}");
    let (_, status) = server.call(&root, "GET", "/api/v1/admin/status", "");
    assert_eq!(status["store"]["lastBackup"]["bytes"], answer["bytes"]);
    drop(pinned);
    assert_eq!(academy(&data, &["backup", "--keep", "2", "x"]).status.code(), Some(2), "--keep needs --to");
}

#[test]
fn encrypted_backups_are_counted_without_an_identity() {
    let server = lived_in();
    let to = server.dir.path().join("backups");
    fs::create_dir(&to).unwrap();
    let key = age::x25519::Identity::generate().to_public().to_string();
    fs::write(to.join("academy-rt-20990101T000000Z.backup"), b"age-encryption.org/v1\n-> X25519 abc\nabc\n").unwrap();
    let args = ["backup", "--to", to.to_str().unwrap(), "--keep", "2", "--recipient", &key];
    for count in [2, 3, 3, 3] {
        let text = good(&academy(&server.data(), &args));
        assert!(text.contains("academy-rt-20990101T000000Z"), "{text}");
        assert_eq!(names(&to).len(), count);
    }
}

/// A file that nobody can remove, not even root: something is mounted on it.
struct Pinned(PathBuf);

impl Pinned {
    fn bind(file: &Path) -> Pinned {
        let done = Command::new("mount").arg("--bind").arg(file).arg(file).output().unwrap();
        assert!(done.status.success(), "this test mounts: run it as root, or under unshare -rm: {}", words(&done));
        Pinned(file.to_owned())
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).output());
    }
}

#[test]
fn a_backup_for_recipients_opens_with_their_identity_alone() {
    let server = lived_in();
    let (dir, data) = (server.dir.path().to_owned(), server.data());
    let identity = |name: &str| {
        let key = age::x25519::Identity::generate();
        let path = dir.join(name);
        let secret = age::secrecy::ExposeSecret::expose_secret(&key.to_string()).to_owned();
        fs::write(&path, secret).unwrap();
        (path, key.to_public().to_string())
    };
    let ((mine, key), (other, _)) = (identity("mine.txt"), identity("other.txt"));
    let file = dir.join("sealed.backup");
    let sealed = file.to_str().unwrap();
    good(&academy(&data, &["backup", sealed, "--recipient", &key]));
    let bytes = fs::read(&file).unwrap();
    assert!(bytes.starts_with(b"age-encryption.org/v1"));
    assert!(
        good(&run(&["backup", "verify", sealed, "--identity", mine.to_str().unwrap()], &[])).contains("is complete")
    );
    assert!(failed(&run(&["backup", "verify", sealed], &[])).contains("it is encrypted"));
    let text = failed(&run(&["backup", "verify", sealed, "--identity", other.to_str().unwrap()], &[]));
    assert!(text.contains("encrypted for another recipient"), "{text}");
    let text = failed(&run(&["backup", "verify", sealed, "--identity", sealed], &[]));
    assert!(text.contains("the identity"), "{text}");
    // Cut short and changed, it says so, and never reads as a whole one.
    for (name, bytes) in [("cut", bytes[..bytes.len() - 9].to_vec()), ("flipped", flip(&bytes, bytes.len() / 2))] {
        let bad = dir.join(name);
        fs::write(&bad, bytes).unwrap();
        failed(&run(&["backup", "verify", bad.to_str().unwrap(), "--identity", mine.to_str().unwrap()], &[]));
    }
    let text = academy(&data, &["backup", "x.backup", "--recipient", "age1nonsense"]);
    assert!(failed(&text).contains("is not an age recipient"));
    assert!(!Path::new("x.backup").exists());
}

fn flip(bytes: &[u8], at: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at] ^= 0x10;
    bytes
}

#[test]
fn every_file_that_is_no_backup_has_its_own_words() {
    let server = lived_in();
    let (dir, data) = (server.dir.path().to_owned(), server.data());
    let file = make(&dir, &data, "good.backup");
    let bytes = fs::read(&file).unwrap();
    let mut newer = Vec::new();
    let preface = Preface { format: 99, store_id: [1; 16], epoch: 1, next_id: 1, rows: 0, audit_head: None };
    let mut writer = Writer::new(&mut newer, Timestamp(1));
    writer.begin(&preface).and_then(|()| writer.end()).unwrap();
    let cases: [(&str, Vec<u8>, &str); 6] = [
        ("empty", Vec::new(), "the file is empty"),
        ("foreign", b"PK\x03\x04 something else entirely".to_vec(), "not a backup of academy-rt"),
        ("cut", bytes[..bytes.len() / 2].to_vec(), "it is incomplete: it ends after"),
        ("no-end", bytes[..bytes.len() - 37].to_vec(), "it is incomplete: it ends after"),
        // The last byte before the end: in the middle it may be one of a length, of which nobody can tell that it was another.
        ("flipped", flip(&bytes, bytes.len() - 38), "it is damaged at byte"),
        ("newer", newer, "format 99"),
    ];
    for (name, content, says) in cases {
        let bad = dir.join(name);
        fs::write(&bad, content).unwrap();
        for args in [
            vec!["backup", "verify", bad.to_str().unwrap()],
            vec!["backup", "verify", "--drill", bad.to_str().unwrap()],
        ] {
            let text = failed(&run(&args, &[]));
            assert!(text.contains(says), "{name}: {text}");
        }
        let fresh = dir.join("fresh");
        let text = failed(&academy(&fresh, &["restore", bad.to_str().unwrap()]));
        assert!(text.contains(says) && !fresh.exists(), "{name}: {text}");
    }
    let text = failed(&run(&["backup", "verify", dir.to_str().unwrap()], &[]));
    assert!(text.contains("it is a directory"), "{text}");
    assert!(failed(&run(&["backup", "verify", "/no/such/file"], &[])).contains("No such file"));
}

#[test]
fn a_target_that_does_not_take_it_leaves_nothing_behind() {
    let server = lived_in();
    let (dir, data) = (server.dir.path().join("targets"), server.data());
    fs::create_dir(&dir).unwrap();
    let there = dir.join("there");
    fs::write(&there, "mine").unwrap();
    assert!(failed(&academy(&data, &["backup", there.to_str().unwrap()])).contains("it exists already"));
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    assert!(failed(&academy(&data, &["backup", dir.to_str().unwrap()])).contains("it is a directory"));
    let nowhere = dir.join("no/such/dir/x");
    assert!(failed(&academy(&data, &["backup", nowhere.to_str().unwrap()])).contains("No such file"));
    assert_eq!(names(&dir), ["there"]);
    // A file system that takes nothing, and one that takes little.
    let mounted = Mounted::tmpfs(&dir.join("small"), "64k");
    let ann = server.token("7", "learner");
    for n in 0..60 {
        // Incompressible, so that the backup is larger than the disk.
        let text: String = (0..45).map(|i| blake3::hash(format!("{n} {i}").as_bytes()).to_hex().to_string()).collect();
        server.say(&ann, "large", &text);
    }
    let small = mounted.0.join("x.backup");
    let text = failed(&academy(&data, &["backup", small.to_str().unwrap()]));
    assert!(text.contains("No space left"), "{text}");
    assert_eq!(names(&mounted.0), Vec::<String>::new());
    mounted.read_only();
    let text = failed(&academy(&data, &["backup", small.to_str().unwrap()]));
    assert!(text.contains("Read-only"), "{text}");
}

/// A file system for a test. Needs to be root, or a user namespace in which it is.
pub struct Mounted(pub PathBuf);

impl Mounted {
    pub fn tmpfs(at: &Path, size: &str) -> Mounted {
        fs::create_dir(at).unwrap();
        Mounted::mount(at, &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        Mounted(at.to_owned())
    }

    fn mount(at: &Path, args: &[&str]) {
        let done = Command::new("mount").args(args).arg(at).output().unwrap();
        let why = "this test mounts a small file system: run it as root, or under unshare -rm";
        assert!(done.status.success(), "{why}: {}", words(&done));
    }

    pub fn read_only(&self) {
        Mounted::mount(&self.0, &["-o", "remount,ro"]);
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg(&self.0).output());
    }
}

fn archive_of(rows: &[(u8, Vec<u8>, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, Timestamp(1));
    let rows_total = rows.len() as u64;
    writer
        .begin(&Preface { format: 1, store_id: [7; 16], epoch: 1, next_id: 2, rows: rows_total, audit_head: None })
        .unwrap();
    for (table, key, value) in rows {
        writer.row(&format!("t{table}"), key, value).unwrap();
    }
    writer.end().unwrap();
    bytes
}

/// Keeps what it is given.
#[derive(Default)]
struct All(Vec<(String, Vec<u8>, Vec<u8>)>);

impl RowSink for All {
    fn begin(&mut self, _preface: &Preface) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.0.push((table.to_owned(), key.to_vec(), value.to_vec()));
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn rows() -> impl Strategy<Value = Vec<(u8, Vec<u8>, Vec<u8>)>> {
    prop::collection::vec(
        (0u8..3, prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..200)),
        0..60,
    )
    .prop_map(|mut rows| {
        rows.sort_by_key(|row| row.0);
        rows
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_into_an_archive_comes_out(rows in rows()) {
        let bytes = archive_of(&rows);
        let mut all = All::default();
        let summary = format::read(&mut bytes.as_slice(), 1, &mut all, &mut |_, _| {}).unwrap();
        prop_assert_eq!(summary.archive_bytes, bytes.len() as u64);
        let expected: Vec<_> = rows.into_iter().map(|(table, key, value)| (format!("t{table}"), key, value)).collect();
        prop_assert_eq!(all.0, expected);
    }

    #[test]
    fn a_flipped_bit_or_a_cut_never_reads_as_a_whole_archive(rows in rows(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let bytes = archive_of(&rows);
        let at = at.index(bytes.len());
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << bit;
        let read = |bytes: &[u8]| format::read(&mut { bytes }, 1, &mut Digests::default(), &mut |_, _| {});
        prop_assert!(read(&flipped).is_err(), "byte {at} of {}", bytes.len());
        let cut = read(&bytes[..at]);
        prop_assert!(matches!(cut, Err(ArchiveError::CutShort { .. } | ArchiveError::Empty)), "{at}: {cut:?}");
        let mut longer = bytes.clone();
        longer.write_all(b"x").unwrap();
        prop_assert!(read(&longer).is_err());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), magic in any::<bool>()) {
        let mut all = if magic { b"academy-rt backup\n".to_vec() } else { Vec::new() };
        all.extend(bytes);
        let read = format::read(&mut all.as_slice(), 1, &mut Digests::default(), &mut |_, _| {});
        prop_assert!(read.is_err());
    }
}

#[test]
fn permissions_of_a_directory_are_respected() {
    // Root may write everywhere: this is about the words for everybody else.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o500)).unwrap();
    let made = backup::receive(
        &mut io::empty(),
        &dir.path().join("x"),
        &backup::Recipients::default(),
        newest_format(),
        &mut |_, _| {},
    );
    assert!(made.is_err());
    fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
    assert_eq!(names(dir.path()), Vec::<String>::new());
}
