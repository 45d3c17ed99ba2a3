//! Whole database files that nobody serves: held, read, copied row by row, counted, and begun anew.

use std::time::Instant;

use super::*;
use crate::domain::{Actor, MAX_SAFE_INTEGER};
use crate::store::embedded::engine::file::UNFINISHED;
use crate::store::embedded::offline::rows::{
    Held, NewFile, NewLife, begin_new_life, newest_format, peek_format, remove_if_there,
};
use crate::store::operations::Broadcast;
use crate::store::operations::SendBroadcast;
use crate::store::rows::{Digests, RowSink, TableDigest};

fn digests(dir: &Path) -> Vec<TableDigest> {
    let mut digests = Digests::default();
    Held::take(dir).unwrap().open().unwrap().send_rows(&mut digests).unwrap();
    digests.finish()
}

/// A store in which there is something, closed.
async fn closed() -> Bed {
    let bed = Bed::new();
    bed.say("one").await.unwrap();
    bed.say("two").await.unwrap();
    bed.store.close().await.unwrap();
    bed
}

#[test]
fn a_directory_is_held_by_one_at_a_time_and_by_none_beside_a_server() {
    run(async {
        let bed = Bed::new();
        assert!(matches!(Held::take(bed.dir.path()), Err(OpenError::InUse { path, .. }) if path == bed.dir.path()));
        bed.store.close().await.unwrap();
        let held = Held::take(bed.dir.path()).unwrap();
        assert_eq!(held.path(), bed.dir.path().join(NAME));
        let asked = Instant::now();
        assert!(matches!(Held::take(bed.dir.path()), Err(OpenError::InUse { .. })));
        // Somebody who is just leaving is waited for; nobody is waited for long.
        assert!((Duration::from_millis(400)..Duration::from_secs(10)).contains(&asked.elapsed()));
        drop(held);
        Held::take(bed.dir.path()).unwrap();
        // One that has no database yet can be held, too.
        let empty = tempfile::tempdir().unwrap();
        let held = Held::take(empty.path()).unwrap();
        assert!(matches!(held.open(), Err(OpenError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound));
    });
}

#[test]
fn the_format_is_seen_without_opening() {
    run(async {
        let bed = closed().await;
        let before = std::fs::read(bed.dir.path().join(NAME)).unwrap();
        assert_eq!(peek_format(bed.dir.path()), Ok(Some(newest_format())));
        assert_eq!(std::fs::read(bed.dir.path().join(NAME)).unwrap(), before);
        assert_eq!(Held::take(bed.dir.path()).unwrap().open().unwrap().format, newest_format());
        let empty = tempfile::tempdir().unwrap();
        assert_eq!(peek_format(empty.path()), Ok(None));
        std::fs::write(empty.path().join(NAME), "nonsense").unwrap();
        assert!(peek_format(empty.path()).is_err());
    });
}

#[test]
fn a_store_is_whole_behind_its_way_through_rows() {
    run(async {
        let bed = Bed::new();
        // More than waits for one transaction of a new file.
        for n in 0..5 {
            let draft = Draft { client_id: None, ..draft(&format!("{n}{}", "x".repeat(2_000_000))) };
            ask(&*bed.store, post(draft)).await.unwrap();
        }
        bed.store.close().await.unwrap();
        let copy = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(&copy.path().join(NAME)).unwrap();
        Held::take(bed.dir.path()).unwrap().open().unwrap().send_rows(&mut file).unwrap();
        let before = digests(bed.dir.path());
        assert_eq!(digests(copy.path()), before);
        let messages = before.iter().find(|table| table.name == "messages").unwrap();
        assert_eq!((messages.rows, messages.bytes / 1_000_000), (5, 10));
        assert_eq!(check(copy.path()).unwrap(), Vec::<String>::new());
        assert!(NewFile::create(&copy.path().join(NAME)).is_err(), "what is there is not overwritten");
    });
}

#[test]
fn a_row_that_does_not_fit_its_table_is_refused() {
    let key_16: &[u8] = &[0; 16];
    let refused: [(&str, &[u8], &[u8]); 5] = [
        ("messages", &[0; 7], b"row"),
        ("meta", &[0xff], b"row"),
        ("member_rooms", key_16, b"row"),
        ("member_rooms", &[0; 15], b""),
        ("of nobody", key_16, b"row"),
    ];
    let taken: [(&str, &[u8], &[u8]); 4] = [
        ("messages", &[0xff; 8], b"row"),
        ("meta", b"name", b"row"),
        ("member_rooms", key_16, b""),
        ("bans", &[0xff], b"row"),
    ];
    let put = |(table, key, value): (&str, &[u8], &[u8])| {
        let dir = tempfile::tempdir().unwrap();
        let mut file = NewFile::create(&dir.path().join(NAME)).unwrap();
        file.row(table, key, value).and_then(|()| file.end())
    };
    for row in refused {
        assert!(put(row).is_err(), "{row:?}");
    }
    for row in taken {
        assert!(put(row).is_ok(), "{row:?}");
    }
}

#[test]
fn digests_count_rows_and_bytes() {
    let mut digests = Digests::default();
    for (table, key, value) in [("a", "k", "12"), ("a", "kk", "345"), ("b", "", "x")] {
        digests.add(table, key.as_bytes(), value.as_bytes());
    }
    let counted: Vec<_> = digests.finish().into_iter().map(|one| (one.name, one.rows, one.bytes)).collect();
    assert_eq!(counted, [("a".to_owned(), 2, 8), ("b".to_owned(), 1, 1)]);
}

#[test]
fn the_row_statistics_say_what_is_there() {
    run(async {
        let bed = closed().await;
        let file = Held::take(bed.dir.path()).unwrap().open().unwrap();
        let stats = file.row_stats().unwrap();
        assert_eq!((stats.rows_of("messages"), stats.rows_of("users"), stats.rows_of("bans")), (2, 1, 0));
        assert!(stats.users.iter().eq(["7"]) && stats.rooms.iter().eq(["r"]), "{stats:?}");
        assert!(stats.newest_message.is_some());
        assert_eq!((stats.epoch, stats.next_id), (1, 3));
        assert_eq!(stats.store_id, bed.store.identity().store_id);
        // Pages are of four kilobytes: what is in them and what is not make up whole ones.
        for table in file.stats().unwrap() {
            assert_eq!((table.stored_bytes + table.overhead_bytes) % 4_096, 0, "{table:?}");
        }
    });
}

fn new_life(dir: &Path, epoch: u64, next_id: u64) {
    let file = Held::take(dir).unwrap().open().unwrap();
    begin_new_life(&file, &NewLife { epoch, next_id }).unwrap();
    file.close().unwrap();
}

#[test]
fn a_new_life_gives_no_id_of_the_one_before() {
    run(async {
        let bed = Bed::new();
        bed.say("one").await.unwrap();
        let broadcast = Broadcast { rooms: Vec::new(), event: "e".into(), payload: "{}".into() };
        ask(&*bed.store, SendBroadcast { broadcast: Arc::new(broadcast), key: None, sockets: 1 }).await.unwrap();
        bed.store.close().await.unwrap();
        new_life(bed.dir.path(), 2, 10);
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        assert_eq!((store.identity().epoch, store.last_id()), (2, 9));
        assert!(store.unsent_broadcasts().await.unwrap().is_empty(), "it went out in the life before, or never");
        // 3 to 9 may have been given in the life that has ended: who knows one of them starts anew.
        let replay = |after| store.replay(Actor::local_admin(), Vec::new(), after, 9);
        for (after, is_known) in [(2, true), (3, false), (9, false)] {
            assert_eq!(replay(after).await.is_ok(), is_known, "{after}");
        }
        assert_eq!(ask(&*store, post(draft("two"))).await.unwrap().id, 10);
        assert!(replay(10).await.is_ok());
        store.close().await.unwrap();
        // A life that begins behind what it knows goes on from there.
        new_life(bed.dir.path(), 3, 4);
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        assert_eq!((store.identity().epoch, ask(&*store, post(draft("three"))).await.unwrap().id), (3, 11));
        store.close().await.unwrap();
        assert_eq!(check(bed.dir.path()).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn the_last_id_is_the_last_that_javascript_can_hold() {
    run(async {
        let bed = closed().await;
        new_life(bed.dir.path(), 2, MAX_SAFE_INTEGER);
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        assert_eq!(ask(&*store, post(draft("last"))).await.unwrap().id, MAX_SAFE_INTEGER);
        let beyond = ask(&*store, post(draft("beyond"))).await;
        assert!(matches!(&beyond, Err(StoreError::Corrupt(why)) if why.contains("used up")), "{beyond:?}");
        drop(store.close().await);
    });
}

#[test]
fn what_is_removed_need_not_be_there() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(UNFINISHED);
    remove_if_there(&path).unwrap();
    std::fs::write(&path, "x").unwrap();
    remove_if_there(&path).unwrap();
    assert!(!path.exists());
    std::fs::create_dir(&path).unwrap();
    assert!(remove_if_there(&path).is_err());
}
