//! Faults that only the engine itself can set up: errors of the disk at a chosen moment, a power cut that loses, tears and
//! reorders what was not synced, a file of a newer format, a queue that is full.

mod blocks;
mod carried;
mod faults;
mod files;
mod pages;
mod power;
mod space;
mod tampered;

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redb::Builder;

use super::{Embedded, open};
use crate::domain::chat::{Author, Draft, Membership, MessageKind, RoomPatch, RoomPolicy};
use crate::domain::notification::{Audience, NotificationBody, NotificationDraft};
use crate::domain::{Refusal, RoomId, SystemClock, UserId};
use crate::store::embedded::check;
use crate::store::embedded::engine::codec::encode;
use crate::store::embedded::engine::file::{Disk, NAME, free_bytes};
use crate::store::embedded::engine::queue::{QUEUE, SHARE};
use crate::store::embedded::engine::schema::{Tables, k8};
use crate::store::operations::{
    Disconnect, EditMessage, JoinRoom, KeyKind, MessageTarget, Notify, Operation, PatchRoom, PostMessage, Posted,
    RequestKey, SetMember,
};
use crate::store::{
    Change, CommitSink, Maintenance, Messages, NoSink, OpenError, Page, Store, StoreConfig, StoreError,
};

const OPEN: RoomPolicy = RoomPolicy { open_rooms: true };

/// What the disk shall do wrong, and what it would hold if the power went now.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) full: AtomicBool,
    pub(super) writes_fail: AtomicBool,
    pub(super) syncs_fail: AtomicBool,
    pub(super) reads_fail: AtomicBool,
    /// The n-th call of a kind, from now on, and what it meets; then every one of that kind, until it is taken away.
    planned: Mutex<Option<(Call, u64, io::ErrorKind)>>,
    /// What the writer reads to open the file succeeds, and nothing else.
    readers_fail: AtomicBool,
    /// How many reads of others have failed so.
    failed_readers: AtomicU64,
    platter: Mutex<Option<Platter>>,
    /// Writes since the start, and their bytes.
    pub(super) written: AtomicU64,
    pub(super) written_bytes: AtomicU64,
}

/// What redb asks of its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Len,
    Read,
    Write,
    SetLen,
    Sync,
    Close,
}

/// What surely lies on the disk, and what was written behind the last sync, of which any part may.
#[derive(Debug, Default, Clone)]
struct Platter {
    synced: Vec<u8>,
    pending: Vec<Pending>,
    /// The power goes before this many more calls that change something.
    calls_left: u64,
    random: Random,
    /// What the disk holds since the power has gone.
    image: Option<Vec<u8>>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write(u64, Vec<u8>),
    Len(u64),
}

impl Faults {
    /// Before each call.
    pub(super) fn before(&self, call: Call) -> io::Result<()> {
        self.cut_if_due(call);
        if let Some((kind, left, error)) = self.planned.lock().unwrap().as_mut()
            && *kind == call
        {
            if *left == 0 {
                return Err((*error).into());
            }
            *left -= 1;
        }
        match call {
            Call::Write | Call::SetLen if self.full.load(Ordering::SeqCst) => Err(io::ErrorKind::StorageFull.into()),
            Call::Write | Call::SetLen => fail(&self.writes_fail, "write"),
            Call::Sync => fail(&self.syncs_fail, "sync"),
            Call::Read if std::thread::current().name() != Some("store-writer") => {
                fail(&self.readers_fail, "read").inspect_err(|_| {
                    self.failed_readers.fetch_add(1, Ordering::SeqCst);
                })?;
                fail(&self.reads_fail, "read")
            }
            Call::Read => fail(&self.reads_fail, "read"),
            Call::Len | Call::Close => Ok(()),
        }
    }

    /// From the n-th call of a kind on they fail.
    fn plan(&self, call: Call, nth: u64, error: io::ErrorKind) {
        *self.planned.lock().unwrap() = Some((call, nth, error));
    }

    /// The disk is well again. Gives whether anything has failed.
    fn heal(&self) -> bool {
        self.planned.lock().unwrap().take().is_some_and(|(_, left, _)| left == 0)
    }

    pub(super) fn wrote(&self, offset: u64, data: &[u8]) {
        self.written.fetch_add(1, Ordering::Relaxed);
        self.written_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
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

    /// A disk with this content, whose power goes before so many more calls that change something.
    fn power_goes_after(&self, calls: u64, content: Vec<u8>, seed: u64) {
        let platter =
            Platter { synced: content, pending: Vec::new(), calls_left: calls, random: Random(seed), image: None };
        *self.platter.lock().unwrap() = Some(platter);
    }

    fn cut_if_due(&self, call: Call) {
        if let (Call::Write | Call::SetLen | Call::Sync, Some(platter)) = (call, self.platter.lock().unwrap().as_mut())
        {
            if platter.calls_left == 0 {
                platter.cut();
            }
            platter.calls_left = platter.calls_left.saturating_sub(1);
        }
    }

    fn is_cut(&self) -> bool {
        self.platter.lock().unwrap().as_ref().is_some_and(|platter| platter.image.is_some())
    }

    /// What the disk holds; if the power has not gone yet, it goes now.
    fn image(&self) -> Vec<u8> {
        let mut platter = self.platter.lock().unwrap().take().unwrap();
        platter.cut();
        platter.image.unwrap()
    }
}

impl Platter {
    /// Of what was not synced each sector of 512 bytes is there or not, and they came in any order.
    fn cut(&mut self) {
        if self.image.is_some() {
            return;
        }
        let mut disk = self.synced.clone();
        let mut loose = Vec::new();
        for one in &self.pending {
            match one {
                Pending::Len(_) => loose.push(one.clone()),
                Pending::Write(offset, data) => {
                    for (n, sector) in data.chunks(512).enumerate() {
                        loose.push(Pending::Write(offset + 512 * n as u64, sector.to_vec()));
                    }
                }
            }
        }
        // Three moods of a disk: much of it arrives, half of it, little.
        let of_four = 1 + self.random.below(3);
        if self.random.below(2) == 0 {
            for at in (1..loose.len()).rev() {
                loose.swap(at, usize::try_from(self.random.below(at as u64 + 1)).unwrap());
            }
        }
        for one in loose {
            if self.random.below(4) < of_four {
                one.apply(&mut disk);
            }
        }
        self.image = Some(disk);
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

#[derive(Debug, Default, Clone)]
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
    StoreConfig {
        data_dir: dir.to_owned(),
        cache_bytes: 4 << 20,
        progress_versions: 5,
        lessons_per_user: 0,
        commit_delay: std::time::Duration::ZERO,
        min_free_bytes: 1,
        min_free_admin_bytes: 1,
    }
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

    /// Opened again without a cache, so that a read reaches the disk.
    async fn cold(self) -> Bed {
        self.store.close().await.unwrap();
        let disk = Arc::new(Disk::default());
        let cold = StoreConfig { cache_bytes: 0, ..config(self.dir.path()) };
        let free = Box::new(|| Ok(u64::MAX));
        let store = Embedded::open(&cold, SystemClock::shared(), self.heard.clone(), disk.clone(), free).unwrap();
        Bed { store: Arc::new(store), disk, ..self }
    }

    async fn say(&self, text: &str) -> Result<Posted, StoreError> {
        ask(&*self.store, post(draft(text))).await
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

fn by(user: &str) -> Author {
    Author { user: UserId::parse(user).unwrap(), ..author() }
}

fn draft(text: &str) -> Draft {
    Draft {
        room: RoomId::parse("r").unwrap(),
        author: author(),
        content: text.to_owned(),
        kind: MessageKind::Text,
        reply_to: None,
        client_id: Some(text.to_owned()),
    }
}

/// Posts as the services do: the client's own key makes it idempotent.
fn post(draft: Draft) -> PostMessage {
    let key = draft.client_id.clone().map(|key| {
        let (caller, fingerprint) = (draft.author.user.clone(), draft.fingerprint());
        RequestKey { caller, kind: KeyKind::Message, key, fingerprint }
    });
    PostMessage { draft, policy: OPEN, key, external_id: None, origin: None }
}

/// Hands in an operation of this moment.
/// A notification to be stored, which says as good as nothing.
pub(super) fn note(audience: Audience) -> Notify {
    let body = NotificationBody {
        kind: "info".into(),
        title: "t".into(),
        message: "m".into(),
        title_fr: None,
        message_fr: None,
        link: None,
        metadata: None,
    };
    Notify { draft: NotificationDraft { audience, body }, key: None }
}

fn ask<O: Operation>(
    store: &dyn Store,
    operation: O,
) -> impl Future<Output = Result<O::Answer, StoreError>> + Send + use<O> {
    store.apply(SystemClock::shared().now(), operation)
}

fn run<F: Future<Output = ()>>(case: F) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
}

#[test]
fn a_private_room_admits_its_members_and_a_moderator_changes_what_others_wrote() {
    run(async {
        let bed = Bed::new();
        let said = bed.say("secret").await.unwrap();
        let by = |who: &str| Author { user: UserId::parse(who).unwrap(), ..author() };
        let room = || RoomId::parse("r").unwrap();
        for who in ["8", "9"] {
            ask(&*bed.store, JoinRoom { room: room(), author: by(who), policy: OPEN }).await.unwrap();
        }
        let (user, membership) = (by("8").user, Membership::Moderator);
        ask(&*bed.store, SetMember { room: room(), user, membership }).await.unwrap();
        let patch = RoomPatch { private: Some(true), ..RoomPatch::default() };
        ask(&*bed.store, PatchRoom { room: room(), patch }).await.unwrap();
        bed.store.close().await.unwrap();
        let store = open(&config(bed.dir.path()), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        let forbidden = Err(StoreError::Refused(Refusal::Forbidden));
        assert_eq!(store.may_enter(room(), by("9"), OPEN).await, forbidden, "a guest's part gives no right");
        assert_eq!(store.may_enter(room(), by("8"), OPEN).await, Ok(()));
        assert_eq!(store.may_enter(room(), Author { admin: true, ..by("9") }, OPEN).await, Ok(()));
        assert!(ask(&*store, post(Draft { author: by("9"), ..draft("x") })).await.is_err());
        let edit = |who, content: &str| EditMessage {
            room: room(),
            target: MessageTarget::Id(said.id),
            author: by(who),
            content: content.to_owned(),
            policy: OPEN,
            key: None,
            act: None,
        };
        assert!(ask(&*store, edit("9", "y")).await.is_err());
        assert_eq!(ask(&*store, edit("8", "moderated")).await.unwrap().message_id, said.id);
        // The sender has no part in it any more but a guest's; a retry still gets its first answer.
        assert!(ask(&*store, post(draft("secret"))).await.unwrap().duplicate);
        store.close().await.unwrap();
    });
}

#[test]
fn an_erased_moderator_is_nobody_in_what_is_withheld() {
    run(async {
        let bed = Bed::new();
        let said = bed.say("before").await.unwrap();
        let room = RoomId::parse("r").unwrap();
        let subject = crate::domain::privacy::Subject::Room(room.clone());
        let hold = crate::domain::privacy::Hold {
            number: 0,
            subject,
            reason: "case".into(),
            by: "root".into(),
            at: crate::domain::Timestamp(5),
        };
        ask(&*bed.store, crate::store::operations::SetHold { hold }).await.unwrap();
        let moderator = UserId::parse("8").unwrap();
        ask(
            &*bed.store,
            EditMessage {
                room: room.clone(),
                target: MessageTarget::Id(said.id),
                author: Author { user: moderator.clone(), admin: true, ..author() },
                content: "after".to_owned(),
                policy: OPEN,
                key: None,
                act: None,
            },
        )
        .await
        .unwrap();
        let by = async || bed.store.withheld(room.clone(), vec![said.id]).await.unwrap()[0].1[0].by.clone();
        assert_eq!(by().await, moderator);
        let begin = crate::store::operations::BeginErasure {
            user: moderator.clone(),
            by: "root".into(),
            consent: true,
            floor: Duration::ZERO,
            is_dry_run: false,
        };
        ask(&*bed.store, begin).await.unwrap();
        let act = crate::store::operations::Act {
            actor: "root".into(),
            origin: "local".into(),
            action: crate::domain::audit::action::USER_ERASE,
            target: "user 8".into(),
            note: String::new(),
        };
        let slice = || crate::store::operations::EraseSlice { user: moderator.clone(), limit: 1, act: act.clone() };
        while !ask(&*bed.store, slice()).await.unwrap().is_finished {}
        assert_eq!(by().await, UserId::erased());
        bed.store.close().await.unwrap();
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
        assert!(ask(&*store, post(draft("before"))).await.unwrap().duplicate);
        store.close().await.unwrap();
    });
}

#[test]
fn a_failed_read_is_mended_without_a_write() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        let bed = bed.cold().await;
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
        // It is read at once; that it takes writes is found out in a moment, though nobody writes.
        while let Err(error) = bed.store.ready() {
            assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
            tokio::task::yield_now().await;
        }
        assert_eq!(bed.store.status().commits, 0, "by itself");
        bed.end().await;
    });
}

#[test]
fn a_read_that_fails_on_a_file_that_opens_is_tried_three_times() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        let bed = bed.cold().await;
        bed.disk.faults.readers_fail.store(true, Ordering::SeqCst);
        let failed = tokio::time::timeout(Duration::from_secs(60), bed.texts()).await.expect("it comes to an end");
        assert!(matches!(failed, Err(StoreError::Unavailable(why)) if why.contains("injected")));
        assert_eq!(bed.disk.faults.failed_readers.load(Ordering::SeqCst), 3);
        bed.disk.faults.readers_fail.store(false, Ordering::SeqCst);
        bed.insist("goes on").await;
        bed.end().await;
    });
}

#[test]
fn a_file_that_does_not_open_is_not_opened_for_each_request() {
    run(async {
        let bed = Bed::new();
        bed.say("before").await.unwrap();
        bed.disk.faults.writes_fail.store(true, Ordering::SeqCst);
        for n in 0..100 {
            assert!(matches!(bed.say(&n.to_string()).await, Err(StoreError::Unavailable(_))));
        }
        // The pauses double, from a tenth of a second on.
        let reopenings = *bed.store.shared.reopenings.borrow();
        assert!((1..=20).contains(&reopenings), "{reopenings}");
        bed.disk.faults.writes_fail.store(false, Ordering::SeqCst);
        bed.insist("after").await;
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

/// A store whose writer is held behind its first commit. It goes on when what is given is dropped.
async fn held_up() -> (Embedded, mpsc::Sender<()>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (gate, held) = mpsc::channel();
    let (disk, sink) = (Arc::new(Disk::default()), Arc::new(Gate(Mutex::new(held))));
    let free = Box::new(|| Ok(u64::MAX));
    let store = Embedded::open(&config(dir.path()), SystemClock::shared(), sink, disk, free).unwrap();
    drop(ask(&store, post(draft("first"))));
    while store.status().commits == 0 {
        tokio::task::yield_now().await;
    }
    (store, gate, dir)
}

#[test]
fn what_waits_shares_a_commit_up_to_a_thousand_requests_or_a_megabyte() {
    run(async {
        let (store, gate, _dir) = held_up().await;
        // Of more people than one, who has a share and a part of a commit.
        let of = |n: usize| Draft { author: by(&(n % 32).to_string()), ..draft(&n.to_string()) };
        let small: Vec<_> = (0..1_500).map(|n| ask(&store, post(of(n)))).collect();
        drop(gate);
        for one in small {
            one.await.unwrap();
        }
        assert_eq!(store.status().commits, 1 + 2, "1,024 and the rest");
        store.close().await.unwrap();

        let (store, gate, _dir) = held_up().await;
        // Each is a little more than half of what a commit takes on: the second of them fills it.
        let large = (0..5).map(|_| {
            let mut large = note(Audience::All);
            (large.draft.body.message, large.draft.body.metadata) = ("m".repeat(300_000), Some("d".repeat(300_000)));
            ask(&store, large)
        });
        let large: Vec<_> = large.collect();
        drop(gate);
        for one in large {
            one.await.unwrap();
        }
        assert_eq!(store.status().commits, 1 + 3, "two, two and one");
        store.close().await.unwrap();
    });
}

#[test]
fn what_waits_is_bounded_in_bytes_and_one_large_request_is_taken_when_nothing_waits() {
    const MIB: usize = 1 << 20;
    run(async {
        let (store, gate, _dir) = held_up().await;
        let large = |who: &str, bytes: usize| EditMessage {
            room: RoomId::parse("r").unwrap(),
            target: MessageTarget::Id(9_999),
            author: by(who),
            content: "x".repeat(bytes),
            policy: OPEN,
            key: None,
            act: None,
        };
        let not_found = Err(StoreError::Refused(Refusal::NotFound));
        let waiting: Vec<_> = (0..6).map(|n: usize| ask(&store, large(&n.to_string(), 10 * MIB))).collect();
        assert!(store.status().queued_bytes > 60 * MIB);
        // Whether it is refused at once: the writer is held, and answers nobody.
        let is_busy = async |request| {
            let mut asked = Box::pin(ask(&store, request));
            let now = std::future::poll_fn(|context| std::task::Poll::Ready(asked.as_mut().poll(context))).await;
            matches!(now, std::task::Poll::Ready(Err(StoreError::Busy)))
        };
        assert!(is_busy(large("0", 1)).await, "one who has more than their share");
        assert!(is_busy(large("7", 10 * MIB)).await);
        let small = ask(&store, large("8", MIB));
        assert!(is_busy(large("9", 4 * MIB)).await, "what was refused does not wait");
        drop(gate);
        for one in waiting.into_iter().chain([small]) {
            assert_eq!(one.await, not_found);
        }
        assert_eq!((store.status().queued, store.status().queued_bytes), (0, 0));
        assert_eq!(ask(&store, large("0", 65 * MIB)).await, not_found);
        store.close().await.unwrap();
    });
}

#[test]
fn the_status_says_how_long_the_writer_has_been_at_it() {
    run(async {
        let (store, gate, _dir) = held_up().await;
        let begun = store.status().busy;
        assert!(!begun.is_zero());
        assert!(store.status().busy > begun);
        drop(gate);
        while !store.status().busy.is_zero() {
            tokio::task::yield_now().await;
        }
        store.close().await.unwrap();
    });
}

#[test]
fn who_fills_their_share_of_the_queue_is_refused_at_once_and_nobody_else_is() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (gate, held) = mpsc::channel();
        let store = open(&config(dir.path()), SystemClock::shared(), Arc::new(Gate(Mutex::new(held)))).unwrap();
        let mut waiting = vec![Box::pin(ask(&*store, post(draft("0"))))];
        let mut n = 1;
        let refused = loop {
            // A request is queued when it is made, so nothing has to be polled to fill the queue.
            let mut one = Box::pin(ask(&*store, post(draft(&n.to_string()))));
            n += 1;
            let now = std::future::poll_fn(|context| std::task::Poll::Ready(one.as_mut().poll(context))).await;
            match now {
                std::task::Poll::Ready(answer) => break answer,
                std::task::Poll::Pending => waiting.push(one),
            }
        };
        assert_eq!(refused, Err(StoreError::Busy));
        assert!(waiting.len() >= QUEUE / SHARE && waiting.len() < QUEUE, "a share, and not the whole");
        assert_eq!(store.ready(), Ok(()));
        // Nobody else is refused for it, and the server itself is not.
        let other = Draft { author: by("2"), ..draft("from somebody else") };
        let mut others = Box::pin(ask(&*store, post(other)));
        let now = std::future::poll_fn(|context| std::task::Poll::Ready(others.as_mut().poll(context))).await;
        assert!(now.is_pending());
        waiting.push(others);
        drop(gate);
        for one in waiting {
            one.await.unwrap();
        }
        store.close().await.unwrap();
    });
}
