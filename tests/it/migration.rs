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
