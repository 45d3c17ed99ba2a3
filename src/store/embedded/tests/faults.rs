//! Errors of the disk at every call of every kind, while people write; a disk that fails for good; a creation cut anywhere.

use std::collections::HashMap;

use super::*;
use crate::store::embedded::engine::file::{SUSPECT, UNFINISHED};

const KINDS: [Call; 6] = [Call::Len, Call::Read, Call::Write, Call::SetLen, Call::Sync, Call::Close];
const ERRORS: [io::ErrorKind; 2] = [io::ErrorKind::StorageFull, io::ErrorKind::Other];
/// Each kind fails from its first, second, ... call on.
const DEEP: u64 = 12;

/// Writes until something fails, `rounds` times at most, and gives what was acknowledged.
async fn write_some(bed: &Bed, name: &str, rounds: usize) -> HashMap<String, (u64, u64)> {
    let mut acked = HashMap::new();
    for round in 0..rounds {
        let texts: Vec<String> = (0..8).map(|n| format!("{name}-{round}-{n}-{}", "x".repeat(3_000))).collect();
        let waiting: Vec<_> = texts.iter().map(|text| ask(&*bed.store, post(draft(text)))).collect();
        let mut failed = false;
        for (text, one) in texts.iter().zip(waiting) {
            match one.await {
                Ok(posted) => drop(acked.insert(text.clone(), (posted.id, posted.seq))),
                Err(error) => {
                    assert!(matches!(error, StoreError::Full(_) | StoreError::Unavailable(_)), "{error}");
                    failed = true;
                }
            }
        }
        if failed {
            break;
        }
    }
    acked
}

#[test]
#[ignore = "long"]
fn an_error_at_any_call_of_any_kind_loses_nothing_and_passes() {
    run(async {
        let (mut met, mut acknowledged) = (0, 0);
        for call in KINDS {
            for error in ERRORS {
                for nth in 0..DEEP {
                    let what = format!("{call:?} {nth} {error:?}");
                    // A store without a cache asks its disk for everything.
                    let bed = Bed::with_cache(0);
                    let mut acked = write_some(&bed, "before", 2).await;
                    bed.disk.faults.plan(call, nth, error);
                    acked.extend(write_some(&bed, "during", 6).await);
                    // Readers meet it, too; they get an answer or an error, and no more than that.
                    drop(bed.texts().await);
                    met += u64::from(bed.disk.faults.heal());
                    if bed.disk.sync_failed() {
                        assert!(bed.store.ready().is_err(), "{what}");
                    } else {
                        let last = bed.insist("behind it").await;
                        acked.insert("behind it".to_owned(), (last.id, last.seq));
                        assert_eq!(bed.store.ready(), Ok(()), "{what}");
                    }
                    // The sink heard of nothing that was not acknowledged, and of nothing twice.
                    let heard = bed.heard.ids();
                    assert!(heard.windows(2).all(|two| two[0] < two[1]), "{what}: {heard:?}");
                    for (id, _) in acked.values() {
                        assert!(heard.contains(id), "{what}: the sink did not hear of {id}");
                    }
                    assert_eq!(heard.len(), acked.len(), "{what}");
                    acknowledged += acked.len();
                    // Closing may say what went wrong.
                    drop(bed.store.close().await);
                    bed.verify(&acked, &what).await;
                }
            }
        }
        // Closing and asking for the length happen at the edges only; the others are met all the time.
        assert!(met >= DEEP * 4, "the faults were hardly met: {met}");
        println!("{met} injected errors met, {acknowledged} acknowledged messages, 0 lost, 0 doubled");
    });
}

#[test]
fn a_disk_that_takes_no_more_is_read_all_the_same() {
    run(async {
        let bed = Bed::with_cache(0);
        bed.say("before").await.unwrap();
        bed.disk.faults.plan(Call::SetLen, 0, io::ErrorKind::StorageFull);
        let large = "x".repeat(100_000);
        let mut refused = 0;
        for n in 0..200 {
            let writing = ask(&*bed.store, post(draft(&format!("{n}-{large}"))));
            if let Err(error) = writing.await {
                assert!(matches!(error, StoreError::Full(_) | StoreError::Unavailable(_)), "{error}");
                refused += 1;
                assert!(bed.store.ready().is_err(), "it does not say that it takes writes");
            }
            assert!(bed.texts().await.expect("it is read").contains(&"before".to_owned()), "{n}");
        }
        assert!(refused > 100, "{refused}");
        assert!(bed.disk.faults.heal());
        bed.insist("behind it").await;
        assert_eq!(bed.store.ready(), Ok(()));
        bed.store.close().await.unwrap();
    });
}

impl Bed {
    fn with_cache(cache_bytes: usize) -> Bed {
        let bed = Bed::new();
        let (disk, free) = (Arc::new(Disk::default()), Box::new(|| Ok(u64::MAX)));
        let config = StoreConfig { cache_bytes, ..config(bed.dir.path()) };
        run_close(&bed.store);
        let store = Embedded::open(&config, SystemClock::shared(), bed.heard.clone(), disk.clone(), free).unwrap();
        Bed { store: Arc::new(store), disk, ..bed }
    }

    /// What lies on disk holds what was acknowledged, each once, and a retry stores nothing.
    async fn verify(&self, acked: &HashMap<String, (u64, u64)>, what: &str) {
        assert_eq!(check(self.dir.path()).unwrap(), Vec::<String>::new(), "{what}");
        let store = open(&config(self.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        let page = Page { limit: usize::MAX, ..Page::default() };
        let page = store.history(RoomId::parse("r").unwrap(), author(), page, OPEN).await.unwrap();
        let found: HashMap<_, _> = page.messages.iter().map(|m| (m.content.clone(), (m.id, m.seq))).collect();
        assert_eq!(found.len(), page.messages.len(), "{what}: something is there twice");
        for (text, place) in acked {
            assert_eq!(found.get(text), Some(place), "{what}: {text} was acknowledged");
            assert!(ask(&*store, post(draft(text))).await.unwrap().duplicate, "{what}");
        }
        store.close().await.unwrap();
    }
}

/// Closes a store from inside a runtime.
fn run_close(store: &Arc<Embedded>) {
    let store = store.clone();
    std::thread::scope(|scope| {
        scope.spawn(move || run(async move { store.close().await.unwrap() }));
    });
}

#[test]
fn a_failed_sync_tells_whoever_runs_the_store_and_the_next_start_looks_first() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        let failure = bed.store.failure();
        bed.disk.faults.syncs_fail.store(true, Ordering::SeqCst);
        assert!(bed.say("lost").await.is_err());
        assert!(matches!(failure.await, StoreError::Unavailable(why) if why.contains("restart")));
        let marker = bed.dir.path().join(SUSPECT);
        assert!(marker.exists());
        drop(bed.store.close().await);
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        assert!(!marker.exists(), "what is sound is not suspect any more");
        assert!(ask(&*store, post(draft("before"))).await.unwrap().duplicate);
        store.close().await.unwrap();
    });
}

#[test]
fn a_suspect_that_is_not_sound_is_not_served() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.store.close().await.unwrap();
        let database = Builder::new().open(bed.dir.path().join(NAME)).unwrap();
        let tx = database.begin_write().unwrap();
        Tables::of(&tx).messages.write().unwrap().remove(&k8(1)).unwrap();
        tx.commit().unwrap();
        database.close().unwrap();
        // Nobody looks at everything at each start ...
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        store.close().await.unwrap();
        // ... but at a suspect.
        let marker = bed.dir.path().join(SUSPECT);
        std::fs::write(&marker, "a sync failed").unwrap();
        for _ in 0..2 {
            let opened = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink));
            assert!(matches!(opened, Err(OpenError::Unsound { found, .. }) if found[0].contains("the log")));
            assert!(marker.exists(), "and it stays one");
        }
    });
}

#[test]
fn a_creation_that_is_cut_anywhere_is_begun_anew() {
    run(async {
        let mut cut = 0;
        for calls in 0..200 {
            let dir = tempfile::tempdir().unwrap();
            let disk = Arc::new(Disk::default());
            disk.faults.power_goes_after(calls, Vec::new(), calls);
            let free = Box::new(|| Ok(u64::MAX));
            let store =
                Embedded::open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink), disk.clone(), free)
                    .unwrap();
            if !disk.faults.is_cut() {
                store.close().await.unwrap();
                break;
            }
            cut += 1;
            let image = disk.faults.image();
            store.close().await.unwrap();
            // The power goes with half a file that has its first name still ...
            let after = tempfile::tempdir().unwrap();
            std::fs::write(after.path().join(UNFINISHED), &image).unwrap();
            begin(after.path()).await;
            // ... and the file system may have kept the name and not a byte.
            std::fs::write(after.path().join(UNFINISHED), b"").unwrap();
            begin(after.path()).await;
        }
        assert!(cut > 5, "only {cut} calls make a store");
        println!("a creation was cut at {cut} calls, and begun anew each time");
    });
}

/// A start in a directory, and a message.
async fn begin(dir: &Path) {
    let store = open(&config(dir), SystemClock::shared(), Arc::new(NoSink)).unwrap();
    assert!(!dir.join(UNFINISHED).exists());
    ask(&*store, post(draft("first"))).await.unwrap();
    store.close().await.unwrap();
    assert_eq!(check(dir).unwrap(), Vec::<String>::new());
}

/// Who has the store as a trait object sees the same.
#[test]
fn a_store_that_is_well_does_not_fail() {
    run(async {
        let bed = Bed::new();
        let store: Arc<dyn Store> = bed.store.clone();
        let failure = store.failure();
        bed.say("x").await.unwrap();
        store.close().await.unwrap();
        let pending = tokio::time::timeout(std::time::Duration::ZERO, failure).await;
        assert!(pending.is_err());
    });
}

#[test]
fn what_cannot_be_read_is_not_called_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let opened = |disk: Disk| {
        let free = Box::new(|| Ok(u64::MAX));
        Embedded::open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink), Arc::new(disk), free)
    };
    run(async { opened(Disk::default()).unwrap().close().await.unwrap() });
    let disk = Disk::default();
    disk.faults.reads_fail.store(true, Ordering::SeqCst);
    assert!(matches!(opened(disk), Err(OpenError::Io { path, .. }) if path == dir.path().join(NAME)));
    // What a creation has left, and cannot be taken away, is said, too.
    std::fs::create_dir(dir.path().join(UNFINISHED)).unwrap();
    assert!(matches!(opened(Disk::default()), Err(OpenError::Io { path, .. }) if path.ends_with(UNFINISHED)));
}
