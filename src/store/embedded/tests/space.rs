//! A disk that is full, or nearly.

use std::os::unix::fs::MetadataExt;

use super::*;
use crate::domain::Timestamp;
use crate::domain::privacy::PurgeKind;
use crate::store::operations::{Act, Purge, PurgeCursor};

#[test]
fn a_full_disk_that_redb_meets_is_called_full_and_passes() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.disk.faults.full.store(true, Ordering::SeqCst);
        assert!(matches!(bed.say("no room").await, Err(StoreError::Full(_))));
        assert!(matches!(bed.store.ready(), Err(StoreError::Full(_))));
        bed.disk.faults.full.store(false, Ordering::SeqCst);
        bed.insist("no room").await;
        assert_eq!(bed.texts().await.unwrap(), ["before", "no room"]);
        bed.end().await;
    });
}

#[test]
fn too_little_space_is_refused_before_redb_meets_it() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.free.store(0, Ordering::SeqCst);
        assert!(matches!(bed.say("refused").await, Err(StoreError::Full(_))));
        assert!(matches!(bed.store.ready(), Err(StoreError::Full(_))));
        assert_eq!(bed.texts().await.unwrap(), ["before"]);
        bed.free.store(1, Ordering::SeqCst);
        assert_eq!(bed.store.ready(), Ok(()));
        bed.say("after").await.unwrap();
        assert!(free_bytes(bed.dir.path()).unwrap() > 0);
        bed.end().await;
    });
}

#[test]
fn between_the_two_floors_relief_alone_is_taken() {
    run(async {
        let bed = Bed::new();
        let (free, heard) = (Arc::new(AtomicU64::new(100)), bed.heard.clone());
        bed.store.close().await.unwrap();
        let floors = StoreConfig { min_free_bytes: 100, min_free_admin_bytes: 25, ..config(bed.dir.path()) };
        let (left, disk) = (Arc::clone(&free), bed.disk.clone());
        let probe = Box::new(move || Ok(left.load(Ordering::SeqCst)));
        let store = Embedded::open(&floors, SystemClock::shared(), heard, disk, probe).unwrap();
        let bed = Bed { store: Arc::new(store), free, ..bed };
        let relief = || ask(&*bed.store, Disconnect { user: author().user });
        let full = |answer: Result<(), StoreError>| assert!(matches!(answer, Err(StoreError::Full(_))), "{answer:?}");
        for (free, is_work_taken, is_relief_taken) in [
            (100, true, true),
            (99, false, true),
            (25, false, true),
            (24, false, false),
            (0, false, false),
            (500, true, true),
        ] {
            bed.free.store(free, Ordering::SeqCst);
            // Both in the same transaction: one is refused, the other not.
            let (work, relief) = tokio::join!(bed.say("work"), relief());
            match (is_work_taken, work) {
                (true, work) => drop(work.unwrap()),
                (false, work) => full(work.map(drop)),
            }
            if is_relief_taken {
                relief.unwrap()
            } else {
                full(relief)
            }
            assert_eq!(bed.store.ready().is_ok(), is_work_taken, "{free}");
        }
        bed.end().await;
    });
}

#[test]
fn the_second_floor_is_not_above_the_first() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let floors = StoreConfig { min_free_bytes: 10, min_free_admin_bytes: 1_000, ..config(dir.path()) };
        let (disk, free) = (Arc::new(Disk::default()), Box::new(|| Ok(10)));
        let store = Embedded::open(&floors, SystemClock::shared(), Arc::new(NoSink), disk, free).unwrap();
        ask(&store, Disconnect { user: author().user }).await.unwrap();
        store.close().await.unwrap();
    });
}

/// A store that keeps so many bytes of its disk free.
async fn with_floor(kept: u64) -> Bed {
    let bed = Bed::new();
    bed.free.store(kept, Ordering::SeqCst);
    let (left, disk, heard) = (Arc::clone(&bed.free), bed.disk.clone(), bed.heard.clone());
    let probe = Box::new(move || Ok(left.load(Ordering::SeqCst)));
    let floors = StoreConfig { min_free_bytes: kept, min_free_admin_bytes: 1, ..config(bed.dir.path()) };
    bed.store.close().await.unwrap();
    let store = Embedded::open(&floors, SystemClock::shared(), heard, disk, probe).unwrap();
    Bed { store: Arc::new(store), ..bed }
}

#[test]
fn what_has_gone_leaves_room_inside_the_file_that_writes_go_on_in() {
    const MIB: u64 = 1 << 20;
    run(async {
        let bed = with_floor(8 * MIB).await;
        // With what belongs to it, it fills a page of a megabyte.
        let say = |bytes: usize| {
            let draft = Draft { client_id: None, ..draft(&"x".repeat(bytes)) };
            ask(&*bed.store, post(draft))
        };
        for _ in 0..12 {
            say(900_000).await.unwrap();
        }
        let act = Act {
            actor: "root".into(),
            origin: "local".into(),
            action: crate::domain::audit::action::PURGE,
            target: "chat".into(),
            note: String::new(),
        };
        let (kind, before, cursor) = (PurgeKind::Chat, Timestamp(u64::MAX), PurgeCursor::default());
        // About eight go, about four stay.
        ask(&*bed.store, Purge { kind, before, cursor, limit: 8, forwarded_to: None, act }).await.unwrap();
        assert!(bed.store.shared.is_room_measured(), "who has room enough does not look for more");
        bed.free.store(5 * MIB, Ordering::SeqCst);
        assert!(matches!(bed.store.ready(), Err(StoreError::Full(_))));
        assert!(!bed.store.shared.is_room_measured());
        bed.store.measure_room().await.unwrap();
        assert!(bed.store.shared.is_room_measured(), "until something else is committed");
        // What is stored, an eighth of it and a megabyte are the engine's own; the rest is free.
        let sizes = bed.store.read(|snapshot| snapshot.sizes()).await.unwrap();
        let used: u64 = sizes.iter().map(|table| table.stored_bytes + table.overhead_bytes).sum();
        assert!((4 * MIB..7 * MIB).contains(&used), "{used}");
        let on_disk = std::fs::metadata(bed.dir.path().join(NAME)).unwrap().blocks() * 512;
        let room = || bed.store.shared.room_in_file.load(Ordering::SeqCst);
        assert_eq!(room(), on_disk - used - used / 8 - MIB);
        assert!(room() > 4 * MIB, "{}", room());
        assert_eq!(bed.store.ready(), Ok(()));
        // A commit takes twice what it was asked to write, and a page. A request weighs 200 bytes more than its text.
        let before = room();
        say(10_000).await.unwrap();
        assert_eq!(before - room(), 2 * (10_000 + 200) + 4_096);
        assert!(!bed.store.shared.is_room_measured());
        while say(900_000).await.is_ok() {}
        assert!(5 * MIB + room() < 8 * MIB, "writes end where the room does: {}", room());
        bed.end().await;
    });
}

#[test]
fn what_is_free_and_what_is_inside_the_file_reach_the_floor_together() {
    run(async {
        let bed = with_floor(1_000).await;
        for (free, in_file, is_ready) in
            [(990, 9, false), (990, 10, true), (500, 500, true), (499, 900, false), (999, 1, true), (2, 0, false)]
        {
            bed.free.store(free, Ordering::SeqCst);
            bed.store.shared.room_in_file.store(in_file, Ordering::SeqCst);
            assert_eq!(bed.store.ready().is_ok(), is_ready, "{free} free, {in_file} inside");
        }
        bed.free.store(1_000, Ordering::SeqCst);
        bed.end().await;
    });
}
