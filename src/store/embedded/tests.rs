//! Faults that only the engine itself can set up: errors of the disk at a chosen moment, a power cut that loses and tears
//! what was not synced, a file of a newer format, a queue that is full.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};

use redb::Builder;

use super::file::{Disk, NAME, free_bytes};
use super::records::{MemberRow, decode_room, encode, encode_room, get, get_number, membership_code};
use super::schema::{FORMAT, Tables, k8, k16, meta};
use super::{Embedded, check, open};
use crate::domain::chat::{Author, Draft, Membership, MessageKind, RoomPolicy};
use crate::domain::{Refusal, RoomId, SystemClock, Timestamp, UserId};
use crate::store::{
    Care, Change, CommitSink, MessageChange, Messages, NoSink, OpenError, Page, Posted, Rooms, StoreConfig, StoreError,
};

const OPEN: RoomPolicy = RoomPolicy { open_rooms: true };

/// What the disk shall do wrong, and what it would hold if the power went now.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) full: AtomicBool,
    pub(super) writes_fail: AtomicBool,
    pub(super) syncs_fail: AtomicBool,
    pub(super) reads_fail: AtomicBool,
    platter: Mutex<Option<Platter>>,
}

/// What surely lies on the disk, and what was written behind the last sync, of which any part may.
#[derive(Debug, Default, Clone)]
struct Platter {
    synced: Vec<u8>,
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl Faults {
    pub(super) fn on_write(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        fail(&self.writes_fail, "write")
    }

    pub(super) fn on_sync(&self) -> io::Result<()> {
        fail(&self.syncs_fail, "sync")
    }

    pub(super) fn on_read(&self) -> io::Result<()> {
        fail(&self.reads_fail, "read")
    }

    pub(super) fn wrote(&self, offset: u64, data: &[u8]) {
        self.note(Pending::Write(offset, data.to_vec()));
    }

    pub(super) fn resized(&self, len: u64) {
        self.note(Pending::Len(len));
    }

    fn note(&self, pending: Pending) {
        if let Some(platter) = self.platter.lock().unwrap().as_mut() {
            platter.pending.push(pending);
        }
    }

    pub(super) fn synced(&self) {
        if let Some(platter) = self.platter.lock().unwrap().as_mut() {
            for one in std::mem::take(&mut platter.pending) {
                one.apply(&mut platter.synced);
            }
        }
    }

    fn watch_from(&self, content: Vec<u8>) {
        *self.platter.lock().unwrap() = Some(Platter { synced: content, pending: Vec::new() });
    }

    /// What the disk holds if the power goes now: of what was not synced each sector of 512 bytes is there or not.
    fn cut_power(&self, random: &mut Random) -> Vec<u8> {
        let platter = self.platter.lock().unwrap().clone().unwrap();
        let mut disk = platter.synced;
        for one in platter.pending {
            match one {
                Pending::Len(_) => {
                    if random.below(2) == 0 {
                        one.apply(&mut disk);
                    }
                }
                Pending::Write(offset, data) => {
                    for (n, sector) in data.chunks(512).enumerate() {
                        if random.below(2) == 0 {
                            Pending::Write(offset + 512 * n as u64, sector.to_vec()).apply(&mut disk);
                        }
                    }
                }
            }
        }
        disk
    }
}

impl Pending {
    fn apply(self, disk: &mut Vec<u8>) {
        match self {
            Pending::Len(len) => disk.resize(usize::try_from(len).unwrap(), 0),
            Pending::Write(offset, data) => {
                let offset = usize::try_from(offset).unwrap();
                // A write beyond a length that was lost makes the file longer, as the file system would.
                disk.resize(disk.len().max(offset + data.len()), 0);
                disk[offset..offset + data.len()].copy_from_slice(&data);
            }
        }
    }
}

fn fail(fault: &AtomicBool, what: &str) -> io::Result<()> {
    if fault.load(Ordering::SeqCst) { Err(io::Error::other(format!("injected {what} error"))) } else { Ok(()) }
}

struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % end
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<Change>>);

impl CommitSink for Heard {
    fn committed(&self, changes: Vec<Change>) {
        self.0.lock().unwrap().extend(changes);
    }
}

impl Heard {
    fn ids(&self) -> Vec<u64> {
        self.0.lock().unwrap().iter().map(Change::id).collect()
    }
}

fn config(dir: &Path) -> StoreConfig {
    StoreConfig { data_dir: dir.to_owned(), cache_bytes: 4 << 20, progress_versions: 5, min_free_bytes: 1 }
}

struct Bed {
    store: Arc<Embedded>,
    disk: Arc<Disk>,
    free: Arc<AtomicU64>,
    heard: Arc<Heard>,
    dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (disk, heard, free) = (Arc::new(Disk::default()), Arc::new(Heard::default()), Arc::new(AtomicU64::new(9)));
        let left = Arc::clone(&free);
        let probe = Box::new(move || Ok(left.load(Ordering::SeqCst)));
        // A small cache, so that reads reach the disk.
        let store =
            Embedded::open(&config(dir.path()), SystemClock::shared(), heard.clone(), disk.clone(), probe).unwrap();
        Bed { store: Arc::new(store), disk, free, heard, dir }
    }

    async fn say(&self, text: &str) -> Result<Posted, StoreError> {
        self.store.append_message(draft(text), OPEN).await
    }

    /// Says something again and again until it is taken, with the same key, as a client does.
    async fn insist(&self, text: &str) -> Posted {
        loop {
            match self.say(text).await {
                Ok(posted) => return posted,
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_) | StoreError::Full(_)), "{error}"),
            }
            tokio::task::yield_now().await;
        }
    }

    async fn texts(&self) -> Result<Vec<String>, StoreError> {
        let page = Page { limit: usize::MAX, ..Page::default() };
        let page = self.store.history(RoomId::parse("r").unwrap(), author(), page, OPEN).await?;
        Ok(page.messages.into_iter().map(|message| message.content).collect())
    }

    async fn end(self) {
        self.store.close().await.unwrap();
        assert_eq!(check(self.dir.path()).unwrap(), Vec::<String>::new());
    }
}

fn author() -> Author {
    Author { user: UserId::parse("7").unwrap(), name: String::new(), admin: false }
}

fn draft(text: &str) -> Draft {
    Draft {
        room: RoomId::parse("r").unwrap(),
        author: author(),
        content: text.to_owned(),
        kind: MessageKind::Text,
        reply_to: None,
        client_id: Some(text.to_owned()),
        at: Timestamp(1),
    }
}

fn run<F: Future<Output = ()>>(case: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap().close().await.unwrap();
        let database = Builder::new().open(dir.path().join(NAME)).unwrap();
        let tx = database.begin_write().unwrap();
        let newer = FORMAT + 1;
        let newest = encode(&newer, &mut Vec::new()).unwrap().to_vec();
        Tables::of(&tx).meta.write().unwrap().insert(meta::FORMAT, newest.as_slice()).unwrap();
        tx.commit().unwrap();
        database.close().unwrap();
        let opened = open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink));
        assert!(matches!(opened, Err(OpenError::Newer { found, known, .. }) if (found, known) == (newer, FORMAT)));
    });
}

/// The seam has no call yet that makes a room private, so the rows are set from underneath.
#[test]
fn a_private_room_admits_its_members_and_a_moderator_changes_what_others_wrote() {
    run(async {
        let bed = Bed::new();
        let said = bed.say("secret").await.unwrap();
        let by = |who: &str| Author { user: UserId::parse(who).unwrap(), ..author() };
        let room = || RoomId::parse("r").unwrap();
        for who in ["8", "9"] {
            bed.store.join_room(room(), by(who), Page { limit: 1, ..Page::default() }, OPEN).await.unwrap();
        }
        bed.store.close().await.unwrap();
        let database = Builder::new().open(bed.dir.path().join(NAME)).unwrap();
        let tx = database.begin_write().unwrap();
        {
            let (mut tables, mut buffer) = (Tables::of(&tx), Vec::new());
            let mut record = get(tables.rooms.read().unwrap(), &k8(1), decode_room).unwrap().unwrap();
            record.private = true;
            tables.rooms.write().unwrap().insert(&k8(1), encode_room(&record, &mut buffer).unwrap()).unwrap();
            let eight = get_number(tables.user_no.read().unwrap(), b"8").unwrap().unwrap();
            let moderator = MemberRow { membership: membership_code(Membership::Moderator), ..MemberRow::guest() };
            tables.members.write().unwrap().insert(&k16(1, eight), encode(&moderator, &mut buffer).unwrap()).unwrap();
        }
        tx.commit().unwrap();
        database.close().unwrap();
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        let forbidden = Err(StoreError::Refused(Refusal::Forbidden));
        assert_eq!(store.may_enter(room(), by("9"), OPEN).await, forbidden, "a guest's part gives no right");
        assert_eq!(store.may_enter(room(), by("8"), OPEN).await, Ok(()));
        assert_eq!(store.may_enter(room(), Author { admin: true, ..by("9") }, OPEN).await, Ok(()));
        assert!(store.append_message(Draft { author: by("9"), ..draft("x") }, OPEN).await.is_err());
        let change = |who| MessageChange { room: room(), message_id: said.id, author: by(who), at: Timestamp(2) };
        assert!(store.edit_message(change("9"), "y".into(), OPEN).await.is_err());
        assert_eq!(store.edit_message(change("8"), "moderated".into(), OPEN).await, Ok(Timestamp(2)));
        // The sender has no part in it any more but a guest's; a retry still gets its first answer.
        assert!(store.append_message(draft("secret"), OPEN).await.unwrap().duplicate);
        store.close().await.unwrap();
    });
}

#[test]
fn a_failed_write_is_neither_acknowledged_nor_told_and_the_store_mends_itself() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.disk.faults.writes_fail.store(true, Ordering::SeqCst);
        assert!(matches!(bed.say("lost").await, Err(StoreError::Unavailable(_))));
        assert!(matches!(bed.store.ready(), Err(StoreError::Unavailable(why)) if why.contains("injected")));
        assert!(matches!(bed.say("lost too").await, Err(StoreError::Unavailable(_))));
        assert_eq!(bed.heard.ids(), [1]);
        bed.disk.faults.writes_fail.store(false, Ordering::SeqCst);
        let after = bed.insist("after").await;
        assert_eq!(bed.store.ready(), Ok(()));
        assert_eq!(bed.store.last_id(), after.id);
        assert_eq!(bed.heard.ids().last(), Some(&after.id));
        let texts = bed.texts().await.unwrap();
        assert!(texts.first().is_some_and(|text| text == "before") && texts.last().is_some_and(|text| text == "after"));
        bed.end().await;
    });
}

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
fn after_a_failed_sync_nothing_is_written_until_a_restart() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.disk.faults.syncs_fail.store(true, Ordering::SeqCst);
        assert!(bed.say("lost").await.is_err());
        bed.disk.faults.syncs_fail.store(false, Ordering::SeqCst);
        for _ in 0..3 {
            assert!(matches!(bed.say("refused").await, Err(StoreError::Unavailable(_))));
            assert!(matches!(bed.store.ready(), Err(StoreError::Unavailable(why)) if why.contains("restart")));
        }
        assert_eq!(bed.heard.ids(), [1]);
        // Closing may report what went wrong; it must come back.
        drop(bed.store.close().await);
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        assert!(store.append_message(draft("before"), OPEN).await.unwrap().duplicate);
        store.close().await.unwrap();
    });
}

#[test]
fn a_failed_read_is_mended_without_a_write() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.store.close().await.unwrap();
        // Opened again without a cache, so that a read reaches the disk.
        let disk = Arc::new(Disk::default());
        let cold = StoreConfig { cache_bytes: 0, ..config(bed.dir.path()) };
        let free = Box::new(|| Ok(u64::MAX));
        let store = Embedded::open(&cold, SystemClock::shared(), bed.heard.clone(), disk.clone(), free).unwrap();
        let bed = Bed { store: Arc::new(store), disk, ..bed };
        bed.disk.faults.reads_fail.store(true, Ordering::SeqCst);
        assert!(matches!(bed.texts().await, Err(StoreError::Unavailable(why)) if why.contains("injected")));
        assert!(matches!(bed.store.ready(), Err(StoreError::Unavailable(_))));
        bed.disk.faults.reads_fail.store(false, Ordering::SeqCst);
        loop {
            match bed.texts().await {
                Ok(texts) => break assert_eq!(texts, ["before"]),
                Err(error) => assert!(matches!(error, StoreError::Unavailable(_)), "{error}"),
            }
        }
        assert_eq!(bed.store.ready(), Ok(()));
        bed.end().await;
    });
}

/// Holds the writer until it is let go.
struct Gate(Mutex<mpsc::Receiver<()>>);

impl CommitSink for Gate {
    fn committed(&self, _changes: Vec<Change>) {
        // An end of the channel lets go, too.
        let _ = self.0.lock().unwrap().recv();
    }
}

#[test]
fn a_full_queue_is_busy_at_once() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (gate, held) = mpsc::channel();
        let store = open(&config(dir.path()), SystemClock::shared(), Arc::new(Gate(Mutex::new(held)))).unwrap();
        let mut waiting = vec![store.append_message(draft("0"), OPEN)];
        let mut n = 1;
        let refused = loop {
            // A request is queued when it is made, so nothing has to be polled to fill the queue.
            let mut one = store.append_message(draft(&n.to_string()), OPEN);
            n += 1;
            let now = std::future::poll_fn(|context| std::task::Poll::Ready(one.as_mut().poll(context))).await;
            match now {
                std::task::Poll::Ready(answer) => break answer,
                std::task::Poll::Pending => waiting.push(one),
            }
        };
        assert_eq!(refused, Err(StoreError::Busy));
        assert!(waiting.len() >= super::writer::QUEUE);
        assert_eq!(store.ready(), Ok(()));
        drop(gate);
        for one in waiting {
            one.await.unwrap();
        }
        store.close().await.unwrap();
    });
}

#[test]
fn a_power_cut_loses_nothing_that_was_acknowledged() {
    const CUTS: u64 = 120;
    run(async {
        let mut random = Random(42);
        let mut content = None;
        let mut acked: HashMap<String, (u64, u64)> = HashMap::new();
        for cut in 0..CUTS {
            let dir = tempfile::tempdir().unwrap();
            match &content {
                Some(content) => std::fs::write(dir.path().join(NAME), content).unwrap(),
                None => {
                    open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap().close().await.unwrap()
                }
            }
            let disk = Arc::new(Disk::default());
            disk.faults.watch_from(std::fs::read(dir.path().join(NAME)).unwrap());
            let free = Box::new(|| Ok(u64::MAX));
            let store =
                Embedded::open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink), disk.clone(), free)
                    .unwrap();
            let mut waiting = Vec::new();
            for n in 0..random.below(40) {
                let text = format!("{cut}-{n}");
                waiting.push((text.clone(), store.append_message(draft(&text), OPEN)));
            }
            // Some are waited for; with the others the power goes at whatever they are doing.
            let wait_for = random.below(waiting.len() as u64 + 1);
            for (text, one) in waiting.drain(..usize::try_from(wait_for).unwrap()) {
                let posted = one.await.unwrap();
                acked.insert(text, (posted.id, posted.seq));
            }
            content = Some(disk.faults.cut_power(&mut random));
            drop(waiting);
            store.close().await.unwrap();
            std::fs::write(dir.path().join(NAME), content.as_ref().unwrap()).unwrap();
            assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new(), "cut {cut}");
        }
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(NAME), content.unwrap()).unwrap();
        let store = open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        let page = Page { limit: usize::MAX, ..Page::default() };
        let page = store.history(RoomId::parse("r").unwrap(), author(), page, OPEN).await.unwrap();
        let found: HashMap<_, _> = page.messages.iter().map(|m| (m.content.clone(), (m.id, m.seq))).collect();
        assert_eq!(found.len(), page.messages.len());
        assert!(acked.len() > 500, "hardly anything was acknowledged: {}", acked.len());
        for (text, place) in &acked {
            assert_eq!(found.get(text), Some(place), "{text} was acknowledged");
        }
        store.close().await.unwrap();
    });
}
