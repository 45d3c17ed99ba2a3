//! The conformance of the store engines: every case runs on each of them. `random` holds one against the other, `kill`
//! pulls the plug on the embedded one. Nothing here knows redb.

mod cases_access;
mod cases_care;
mod cases_chat;
mod cases_inbox;
mod cases_progress;
mod durable;
mod kill;
mod random;
mod rates;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use academy_rt::domain::chat::{Author, Draft, MessageKind, RoomPolicy};
use academy_rt::domain::notification::{Audience, NotificationBody, NotificationDraft};
use academy_rt::domain::progress::{Percent, Update};
use academy_rt::domain::{Actor, Clock, LessonId, Refusal, Role, RoomId, Timestamp, UserId};
use academy_rt::store::{
    self, AnswerKey, Change, CommitSink, MessageChange, NoSink, Page, Posted, Store, StoreConfig, StoreError,
};

pub const OPEN: RoomPolicy = RoomPolicy { open_rooms: true };
pub const CLOSED: RoomPolicy = RoomPolicy { open_rooms: false };
pub const DAY: u64 = 24 * 60 * 60 * 1000;

#[derive(Debug)]
pub struct ManualClock(AtomicU64);

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock(AtomicU64::new(1_000))
    }
}

impl ManualClock {
    pub fn advance(&self, ms: u64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.0.load(Ordering::SeqCst))
    }
}

#[derive(Default)]
pub struct Heard(Mutex<Vec<Change>>);

impl CommitSink for Heard {
    fn committed(&self, changes: Vec<Change>) {
        self.0.lock().unwrap().extend(changes);
    }
}

impl Heard {
    pub fn all(&self) -> Vec<Change> {
        self.0.lock().unwrap().clone()
    }
}

#[derive(Clone, Copy, Debug)]
pub enum Engine {
    Embedded,
    Memory,
}

/// A store with all that a case needs.
pub struct Bed {
    pub store: Arc<dyn Store>,
    pub clock: Arc<ManualClock>,
    pub heard: Arc<Heard>,
    pub dir: tempfile::TempDir,
    engine: Engine,
}

pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig { data_dir: dir.to_owned(), cache_bytes: 8 << 20, progress_versions: 3, min_free_bytes: 0 }
}

impl Bed {
    pub fn new(engine: Engine) -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (clock, heard) = (Arc::new(ManualClock::default()), Arc::new(Heard::default()));
        let config = config(dir.path());
        let store = match engine {
            Engine::Embedded => store::open(&config, clock.clone(), heard.clone()).unwrap(),
            Engine::Memory => store::memory::open(&config, clock.clone(), heard.clone()),
        };
        Bed { store, clock, heard, dir, engine }
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub async fn say(&self, room: &str, who: &str, content: &str) -> Posted {
        self.store.append_message(draft(room, who, content, None), OPEN).await.unwrap()
    }

    /// Closes the store and opens what lies on disk.
    pub async fn reopen(mut self) -> Bed {
        self.store.close().await.unwrap();
        self.store = store::open(&config(self.dir.path()), self.clock.clone(), self.heard.clone()).unwrap();
        self
    }
}

impl Bed {
    /// The same of the engine that has a disk; the other one has nothing to close.
    pub async fn reopen_if_on_disk(self) -> Bed {
        match self.engine {
            Engine::Embedded => self.reopen().await,
            Engine::Memory => self,
        }
    }
}

pub fn room(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

pub fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

pub fn lesson(text: &str) -> LessonId {
    LessonId::parse(text).unwrap()
}

pub fn author(who: &str) -> Author {
    Author { user: user(who), name: format!("name of {who}"), admin: false }
}

pub fn admin() -> Author {
    Author { user: user("root"), name: "root".into(), admin: true }
}

pub fn actor(who: &str, roles: &[Role]) -> Actor {
    Actor { user: user(who), name: format!("name of {who}"), roles: roles.to_vec(), ..Actor::local_admin() }
}

pub fn draft(to: &str, who: &str, content: &str, key: Option<&str>) -> Draft {
    Draft {
        room: room(to),
        author: author(who),
        content: content.into(),
        kind: MessageKind::Text,
        reply_to: None,
        client_id: key.map(str::to_owned),
        at: Timestamp(77),
    }
}

pub fn change(to: &str, message_id: u64, who: Author) -> MessageChange {
    MessageChange { room: room(to), message_id, author: who, at: Timestamp(88) }
}

pub fn latest(limit: usize) -> Page {
    Page { limit, ..Page::default() }
}

pub fn report(of: &str, share: f64, seconds: u32, key: Option<&str>) -> Update {
    Update {
        lesson: lesson(of),
        progress: Percent::new(share).unwrap(),
        time_spent: seconds,
        course: None,
        module: None,
        status: None,
        sync_id: key.map(str::to_owned),
        base_version: None,
    }
}

pub fn note(audience: Audience, title: &str) -> NotificationDraft {
    let body = NotificationBody {
        kind: "info".into(),
        title: title.into(),
        message: "text".into(),
        title_fr: Some("titre".into()),
        message_fr: None,
        link: Some("/x".into()),
        metadata: Some("{\"a\":1}".into()),
    };
    NotificationDraft { audience, body, at: Timestamp(99) }
}

pub fn key(who: &str, text: &str) -> AnswerKey {
    AnswerKey { user: user(who), key: text.into() }
}

pub fn refused<T: std::fmt::Debug>(result: Result<T, StoreError>, refusal: Refusal) {
    assert_eq!(result.unwrap_err(), StoreError::Refused(refusal));
}

pub fn run<F: Future<Output = ()>>(case: F) {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(case);
}

/// The ids that the sink heard rise strictly: its order is the order of ids.
pub fn assert_rising(changes: &[Change]) {
    assert!(changes.windows(2).all(|two| two[0].id() < two[1].id()), "the sink heard ids out of order");
}

macro_rules! conformance {
    ($($module:ident: $($case:ident),* ;)*) => {
        mod embedded {
            $($(#[test] fn $case() { super::run(super::$module::$case(super::Bed::new(super::Engine::Embedded))) })*)*
        }
        mod memory {
            $($(#[test] fn $case() { super::run(super::$module::$case(super::Bed::new(super::Engine::Memory))) })*)*
        }
    };
}

conformance! {
    cases_chat: seq_has_no_gaps_under_64_senders, a_repeated_key_gives_the_first_answer, keys_hold_a_day,
        a_key_in_another_room_is_a_conflict, kinds_of_keys_do_not_collide, edits_and_deletions_ask_for_rights,
        a_closed_house_lets_nobody_register_a_room, pages_go_both_ways, a_cursor_from_the_future_is_refused,
        read_marks_move_forward_alone, rooms_of_counts_what_is_unread, joining_takes_part,
        ids_keep_the_type_of_the_request, replay_tells_what_the_sink_heard, a_replay_comes_in_parts,
        a_closed_store_says_so;
    cases_progress: reports_are_merged_into_versions, versions_are_trimmed, a_batch_is_all_or_nothing,
        a_repeated_report_adds_nothing, since_gives_what_changed_behind_it, progress_of_unknown_people_is_empty;
    cases_inbox: everybody_has_their_own_inbox, a_role_is_asked_today, delivered_is_not_sent_again,
        reading_and_deleting, all_is_read_and_deleted_at_once, inbox_pages, a_repeated_notification_is_the_first,
        people_are_seen, first_answers_hold_a_day;
    cases_care: the_trail_is_a_chain, a_hold_stands_until_it_is_released, nothing_of_an_erased_person_is_left,
        an_erasure_is_refused_under_a_hold, what_is_old_is_purged_and_what_is_held_stays, an_export_has_everything;
    cases_access: bans_stand_until_they_are_lifted_or_end, a_private_room_admits_its_members_alone,
        a_room_is_closed_with_those_who_are_in_it, a_deleted_room_leaves_nothing_and_its_id_is_free_at_once,
        a_room_under_a_hold_is_not_deleted, lists_come_in_parts_and_can_be_searched;
}

pub fn open_quietly(dir: &Path) -> Arc<dyn Store> {
    store::open(&config(dir), Arc::new(ManualClock::default()), Arc::new(NoSink)).unwrap()
}
