//! Stores of every released format, as their version wrote them: migrated at the start, after a backup, resumable.

use std::fs;
use std::path::Path;

use academy_rt::archive::backup;
use academy_rt::store::embedded::offline::rows::newest_format;
use serde_json::Value;

use crate::backup::{academy, failed, good, names};
use crate::harness::Appliance;

/// A data directory with the store of a format.
fn of_format(format: u32) -> tempfile::TempDir {
    of_fixture(&format!("format-{format}"))
}

/// A data directory with a store of `tests/it/fixtures`.
pub fn of_fixture(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/fixtures/{name}.redb.zst"));
    let file = zstd::decode_all(fs::File::open(packed).unwrap()).unwrap();
    fs::write(data.join("academy.redb"), file).unwrap();
    dir
}

#[test]
fn each_released_format_is_migrated_at_the_start_behind_a_backup() {
    for format in 1..newest_format() {
        let dir = of_format(format);
        let data = dir.path().join("data");
        let server = Appliance::start_in(dir, &[]);
        let made = names(&data.join("backups"));
        assert_eq!(made.len(), 1, "{made:?}");
        let ann = server.token("7", "learner");
        let (_, page) = server.call(&ann, "GET", "/api/v1/rooms/french-1/messages", "");
        let messages = page["messages"].as_array().unwrap();
        assert_eq!(
            (messages.len(), &messages[0]["content"], &messages[2]["content"]),
            (12, &"bonjour!".into(), &"".into())
        );
        // Since format 3 there are bans.
        let is_shut_out = server.call(&server.token("9", "learner"), "GET", "/api/v1/session", "").0 == 403;
        assert_eq!(is_shut_out, format >= 3);
        // Since format 6 holds have numbers.
        let (_, holds) = server.call(&server.token("root", "admin"), "GET", "/api/v1/admin/holds", "");
        let holds: Vec<_> = holds["items"].as_array().unwrap().iter().map(|one| one["number"].as_u64()).collect();
        let expected = match format {
            1 => vec![],
            2..=4 => vec![Some(1)],
            _ => vec![Some(1), Some(2)],
        };
        assert_eq!(holds, expected);
        let (_, progress) = server.call(&ann, "GET", "/api/v1/progress", "");
        assert_eq!((&progress["items"][0]["progress"], &progress["items"][0]["syncVersion"]), (&100.into(), &4.into()));
        let (_, inbox) = server.call(&ann, "GET", "/api/v1/notifications", "");
        assert_eq!((inbox["items"].as_array().unwrap().len(), &inbox["unread"]), (2, &Value::from(1)));
        // Records of the upgrade and of its backup have ids of the same sequence.
        assert!(server.say(&ann, "french-1", "goes on") > 23, "no id is given twice");
        let dir = server.end();
        assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
        // The backup from before can be restored, by this version, too.
        let before = data.join("backups").join(&made[0]);
        let summary = backup::verify(&before, None, newest_format(), &mut |_, _| {}).unwrap();
        assert_eq!((summary.header.format, summary.rows_of("messages")), (format, 13));
        good(&academy(&data, &["restore", before.to_str().unwrap()]));
        drop(dir);
    }
}

#[test]
fn rooms_of_format_8_are_what_they_were() {
    let dir = of_fixture("format-8-rooms");
    let data = dir.path().join("data");
    let server = Appliance::start_in(dir, &[]);
    // As the version of then has told them: the latest message, what has been read of it, and how much has not.
    let lists = [
        ("ann", vec![("red", 19, 12, 1), ("green", 18, 16, 1), ("blue", 17, 14, 1)]),
        ("ben", vec![("red", 19, 15, 0), ("green", 18, 13, 2), ("blue", 17, 17, 0)]),
        ("cleo", vec![("red", 19, 12, 0), ("green", 18, 18, 0)]),
    ];
    for (who, rooms) in lists {
        let (_, list) = server.call(&server.token(who, "learner"), "GET", "/api/v1/rooms", "");
        let told: Vec<_> = list["rooms"].as_array().unwrap().iter().collect();
        assert_eq!(told.len(), rooms.len(), "{who}: {list}");
        for (told, (id, last, read, unread)) in told.into_iter().zip(rooms) {
            let expected = (&Value::from(id), &last.into(), &read.into(), &unread.into());
            assert_eq!((&told["roomId"], &told["lastId"], &told["readUpTo"], &told["unread"]), expected, "{who}");
        }
    }
    let (ann, admin) = (server.token("ann", "learner"), server.token("root", "admin"));
    let contents = |room: &str| -> Vec<String> {
        let (_, page) = server.call(&ann, "GET", &format!("/api/v1/rooms/{room}/messages"), "");
        page["messages"].as_array().unwrap().iter().map(|one| one["content"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(contents("red"), ["ann edited", "ben 3", "ann 6", "ben 9", ""]);
    assert_eq!(contents("green"), ["", "ann 4", "ben 7", "ann 10", "cleo once"]);
    assert_eq!(contents("blue"), ["ann 2", "ben 5", "ann 8", "ben 11"]);
    let (_, list) = server.call(&admin, "GET", "/api/v1/admin/rooms", "");
    let rooms: Vec<_> = list["items"].as_array().unwrap().iter().map(|one| (&one["roomId"], &one["lastSeq"])).collect();
    let expected = [("blue", 4), ("green", 5), ("quiet", 0), ("red", 5)].map(|(id, seq)| (id.into(), seq.into()));
    assert_eq!(rooms, expected.iter().map(|(id, seq)| (id, seq)).collect::<Vec<(&Value, &Value)>>());
    // All that somebody has said is found, and goes.
    assert_eq!(server.call(&admin, "DELETE", "/api/v1/admin/users/ben", "").0, 200);
    let (_, erasure) = server.call(&admin, "GET", "/api/v1/admin/users/ben/erasure", "");
    assert_eq!(erasure["counts"]["messages"], 6, "{erasure}");
    assert_eq!(contents("red"), ["ann edited", "", "ann 6", "", ""]);
    assert_eq!(contents("blue"), ["ann 2", "", "ann 8", ""]);
    assert!(server.say(&ann, "quiet", "goes on") > 23, "no id is given twice");
    let dir = server.end();
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    drop(dir);
}

#[test]
fn a_command_migrates_too_and_offline_commands_do_not() {
    let dir = of_format(1);
    let data = dir.path().join("data");
    for args in [&["db", "check"][..], &["db", "compact"], &["hold", "list"], &["audit", "list"]] {
        let text = failed(&academy(&data, args));
        assert!(text.contains("format 1") && text.contains("db upgrade"), "{args:?}: {text}");
    }
    assert!(good(&academy(&data, &["db", "stats"])).contains("format 1"));
    assert!(good(&academy(&data, &["db", "upgrade"])).contains("migrated from format 1 to"));
    assert!(good(&academy(&data, &["db", "upgrade"])).contains("nothing to do"));
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
    assert!(good(&academy(&data, &["audit", "list"])).contains("db.upgrade"));
}

#[test]
fn a_migration_that_starts_anew_in_the_same_second_has_a_backup_of_its_own() {
    let dir = of_format(4);
    let data = dir.path().join("data");
    let now = academy_rt::domain::Timestamp(1_000);
    let held = |data: &Path| academy_rt::archive::rebuild::upgrade(data, now, "test", &mut |_| {});
    fs::create_dir(data.join("backups")).unwrap();
    let first = data.join("backups").join(format!("before-format-{}-19700101T000001Z.backup", newest_format()));
    fs::write(&first, "what a killed migration has left").unwrap();
    let made = held(&data).unwrap().backup.unwrap();
    assert!(made.path.ends_with(format!("before-format-{}-19700101T000001Z-2.backup", newest_format())), "{made:?}");
    assert_eq!(fs::read(&first).unwrap(), b"what a killed migration has left");
    assert!(good(&academy(&data, &["db", "check"])).contains("is sound"));
}

#[test]
fn a_backup_is_restored_over_a_store_of_an_older_format() {
    for format in [1, 5, 9] {
        let (newer, older) = (of_format(format), of_format(format));
        let file = newer.path().join("a.backup");
        let file = file.to_str().unwrap();
        good(&academy(&newer.path().join("data"), &["db", "upgrade"]));
        good(&academy(&newer.path().join("data"), &["backup", file]));
        let data = older.path().join("data");
        good(&academy(&data, &["restore", file]));
        assert!(good(&academy(&data, &["db", "check"])).contains("is sound"), "{format}");
    }
}
