//! A disk that is full, or nearly.

use super::*;

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
