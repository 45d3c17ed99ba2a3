//! The conformance of the store's engine: every case is a sentence of what the services rely on. `random` asks it at random and
//! reopens it in between, `kill` pulls the plug. Nothing here knows redb.

mod cases_access;
mod cases_acts;
mod cases_chat;
mod cases_cost;
mod cases_holds;
mod cases_inbox;
mod cases_maintenance;
mod cases_notices;
mod cases_order;
mod cases_progress;
mod durable;
mod kill;
mod model;
mod modelled;
mod random;
mod rates;

use std::ops::Deref;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use academy_rt::domain::access::{Ban, Banned};
use academy_rt::domain::audit::{AuditEntry, AuditRecord, action};
use academy_rt::domain::chat::{
    Author, Draft, Membership, MessageKind, ReadMark, RoomDraft, RoomPatch, RoomPolicy, RoomRecord, RoomSummary,
};
use academy_rt::domain::notification::{
    Audience, AudienceKind, Notification, NotificationBody, NotificationDraft, Selection,
};
use academy_rt::domain::privacy::{Erasure, Hold, PurgeKind, Subject};
use academy_rt::domain::progress::{Percent, Progress, Status, Update};
use academy_rt::domain::{Actor, Clock, Fingerprint, LessonId, Refusal, Role, RoomId, SystemClock, Timestamp, UserId};
use academy_rt::store::operations::*;
use academy_rt::store::{
    self, Arrival, Change, CommitSink, ExportCursor, LessonFilter, MessagePage, NoSink, Page, RoomQuery, Store,
    StoreConfig, StoreError, UserItem,
};

pub const OPEN: RoomPolicy = RoomPolicy { open_rooms: true };
pub const CLOSED: RoomPolicy = RoomPolicy { open_rooms: false };
pub const DAY: u64 = 24 * 60 * 60 * 1000;

#[derive(Debug)]
pub struct ManualClock {
    begin: Instant,
    passed: AtomicU64,
    ahead: AtomicU64,
}

impl Default for ManualClock {
    fn default() -> Self {
        ManualClock { begin: Instant::now(), passed: AtomicU64::new(1_000), ahead: AtomicU64::new(0) }
    }
}

impl ManualClock {
    pub fn advance(&self, ms: u64) {
        self.passed.fetch_add(ms, Ordering::SeqCst);
    }

    /// Sets the clock ahead of the time that has passed.
    pub fn set_ahead(&self, ms: u64) {
        self.ahead.store(ms, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp(self.passed.load(Ordering::SeqCst) + self.ahead.load(Ordering::SeqCst))
    }

    fn passing(&self) -> Instant {
        self.begin + Duration::from_millis(self.passed.load(Ordering::SeqCst))
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

/// A store, and the clock that what is asked of it is timed by: each request as a line, as a service would hand it in.
#[derive(Clone)]
pub struct Desk {
    pub store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl Deref for Desk {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

/// What comes of a request. It is queued when this is made.
pub type Asked<T> = std::pin::Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send>>;

impl Desk {
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Desk {
        Desk { store, clock }
    }

    /// Opens a store that lives by the clock of the machine.
    pub fn of_today(dir: &Path) -> Desk {
        let clock = SystemClock::shared();
        Desk::new(store::open(&config(dir), clock.clone(), Arc::new(NoSink)).unwrap(), clock)
    }

    /// The same store at another time.
    pub fn at(&self, ms: u64) -> Desk {
        Desk {
            store: self.store.clone(),
            clock: Arc::new(ManualClock { passed: AtomicU64::new(ms), ..ManualClock::default() }),
        }
    }

    pub fn ask<O: Operation>(&self, operation: O) -> Asked<O::Answer> {
        Box::pin(self.store.apply(self.clock.now(), operation))
    }

    /// Does an administrative act.
    pub fn act<O: Operation>(&self, operation: O, act: Act) -> Asked<O::Answer> {
        let done = self.store.submit(self.clock.now(), operation, Some(act));
        Box::pin(async move { done.await.map(|applied| applied.answer) })
    }

    pub fn append_message(&self, draft: Draft, policy: RoomPolicy) -> Asked<Posted> {
        let key = draft.client_id.clone().map(|key| {
            let (caller, fingerprint) = (draft.author.user.clone(), draft.fingerprint());
            RequestKey { caller, kind: KeyKind::Message, key, fingerprint }
        });
        self.ask(PostMessage { draft, policy, key, external_id: None, origin: None })
    }

    /// Gives when it was edited.
    pub fn edit_message(&self, one: One, content: String, policy: RoomPolicy) -> Asked<Timestamp> {
        let One { room, target, author } = one;
        let edited = self.ask(EditMessage { room, target, author, content, policy, key: None, act: None });
        Box::pin(async move { edited.await.map(|changed| changed.at) })
    }

    /// Gives when it was deleted.
    pub fn delete_message(&self, one: One, policy: RoomPolicy) -> Asked<Timestamp> {
        let One { room, target, author } = one;
        let deleted = self.ask(DeleteMessage { room, target, author, policy, key: None, act: None });
        Box::pin(async move { deleted.await.map(|changed| changed.at) })
    }

    /// Reads a page, and takes part in the room from now on, as the services do it.
    pub fn join_room(&self, room: RoomId, author: Author, page: Page, policy: RoomPolicy) -> Asked<MessagePage> {
        let desk = self.clone();
        Box::pin(async move {
            let first = desk.history(room.clone(), author.clone(), page.clone(), policy).await?;
            if first.is_settled {
                return Ok(first);
            }
            desk.ask(JoinRoom { room: room.clone(), author: author.clone(), policy }).await?;
            desk.history(room, author, page, policy).await
        })
    }

    /// All rooms on somebody's list, whether they may enter them or not.
    pub fn rooms_of(&self, user: UserId) -> Asked<Vec<RoomSummary>> {
        let desk = self.clone();
        Box::pin(async move {
            let viewer = Author { user, name: String::new(), admin: true };
            let whole = RoomQuery { after: None, limit: usize::MAX };
            let page = desk.store.rooms_of(viewer, whole, OPEN).await?;
            Ok(page.rooms.into_iter().map(|(room, _)| room).collect())
        })
    }

    /// All that is known of somebody's lessons, and the id up to which it is complete.
    pub fn progress(&self, user: UserId, filter: LessonFilter) -> Asked<(Vec<Progress>, u64)> {
        let desk = self.clone();
        Box::pin(async move {
            let page = desk.store.progress(user, filter).await?;
            Ok((page.items.into_iter().map(|(progress, _)| progress).collect(), page.up_to))
        })
    }

    pub fn leave_room(&self, to: &str, who: &str) -> Asked<()> {
        self.ask(LeaveRoom { room: room(to), user: user(who) })
    }

    pub fn mark_read(&self, room: RoomId, reader: Author, message_id: u64, policy: RoomPolicy) -> Asked<ReadMark> {
        self.ask(MarkRead { room, reader, message_id, policy })
    }

    pub fn sync_progress(&self, user: UserId, updates: Vec<Update>, at: Timestamp) -> Asked<Vec<Synced>> {
        let reports = updates.into_iter().map(|update| Report::new(&user, user.clone(), update)).collect();
        Box::pin(self.store.apply(at, SyncProgress { reports }))
    }

    /// Gives the notification, and whether an earlier request had the same key.
    pub fn notify(&self, draft: NotificationDraft, key: Option<Key>) -> Asked<(Notification, bool)> {
        let fingerprint = draft.fingerprint();
        let key = key.map(|key| key.of(KeyKind::Notify, fingerprint));
        let notified = self.ask(Notify { draft, key });
        Box::pin(async move { notified.await.map(|one| (one.notification, one.duplicate)) })
    }

    /// Gives what changed, and how many are unread now.
    pub fn mark_inbox(
        &self,
        who: Actor,
        selection: Selection,
        action: InboxAction,
        origin: Option<u64>,
    ) -> Asked<(Vec<u64>, u64)> {
        let marked = self.ask(MarkInbox { user: who.user, roles: who.roles, selection, action, origin });
        Box::pin(async move { marked.await.map(|one| (one.ids, one.unread)) })
    }

    pub fn arrive(&self, who: Actor, at: Timestamp, limit: usize) -> Asked<Arrival> {
        let desk = self.clone();
        let (user, name, roles) = (who.user.clone(), who.name.clone(), who.roles.clone());
        let arrived = self.store.apply(at, Arrive { user, name, roles });
        Box::pin(async move {
            arrived.await?;
            desk.arrival(who, limit).await
        })
    }

    /// Everything up to an id, of whatever audience.
    pub fn delivered(&self, marks: Vec<(UserId, u64)>) -> Asked<()> {
        let all = |(user, up_to): (UserId, u64)| {
            AudienceKind::ALL.map(|audience| (user.clone(), DeliveryMark { audience, up_to }))
        };
        self.ask(Delivered { marks: marks.into_iter().flat_map(all).collect() })
    }

    pub fn left(&self, user: UserId, at: Timestamp) -> Asked<()> {
        Box::pin(self.store.apply(at, Left { user }))
    }

    /// Sends a broadcast to nobody. Gives the first answer, if there was one with the same key.
    pub fn first_answer(&self, key: Key, payload: &str, sockets: u64) -> Asked<Option<u64>> {
        let key = Some(key.of(KeyKind::Passing, Fingerprint::of(&[payload])));
        let sent = self.ask(SendBroadcast { broadcast: broadcast(payload), key, sockets });
        Box::pin(async move { sent.await.map(|sent| sent.duplicate.then_some(sent.sockets)) })
    }

    pub fn record(&self, entry: AuditEntry) -> Asked<AuditRecord> {
        self.ask(Record { entry })
    }

    /// Gives the hold that stands.
    pub fn hold(&self, hold: Hold) -> Asked<Hold> {
        let set = self.ask(SetHold { hold });
        Box::pin(async move { set.await.map(|set| set.hold) })
    }

    pub fn release(&self, subject: Subject) -> Asked<Hold> {
        self.ask(ReleaseHold { subject, number: None })
    }

    pub fn begin_erasure(&self, user: UserId) -> Asked<Erasure> {
        let begun = self.ask(BeginErasure {
            user,
            by: "root".into(),
            consent: false,
            floor: Duration::ZERO,
            is_dry_run: false,
        });
        Box::pin(async move { begun.await.map(|begun| begun.erasure) })
    }

    pub fn erase(&self, user: UserId, limit: usize) -> Asked<ErasureStep> {
        let act = act(action::USER_ERASE, &format!("user {user}"));
        self.ask(EraseSlice { user, limit, act })
    }

    pub fn purge(&self, kind: PurgeKind, before: Timestamp, cursor: PurgeCursor, limit: usize) -> Asked<PurgeStep> {
        self.ask(Purge { kind, before, cursor, limit, forwarded_to: None, act: act(action::PURGE, kind.as_str()) })
    }

    pub fn ban(&self, banned: Banned) -> Asked<()> {
        self.ask(SetBan { banned })
    }

    pub fn lift(&self, ban: Ban) -> Asked<Banned> {
        self.ask(LiftBan { ban })
    }

    pub fn create_room(&self, draft: RoomDraft) -> Asked<RoomRecord> {
        self.ask(CreateRoom { draft })
    }

    pub fn patch_room(&self, room: RoomId, patch: RoomPatch) -> Asked<RoomRecord> {
        self.ask(PatchRoom { room, patch })
    }

    pub fn set_member(&self, room: RoomId, user: UserId, membership: Membership) -> Asked<Option<Membership>> {
        self.ask(SetMember { room, user, membership })
    }

    pub fn remove_member(&self, room: RoomId, user: UserId) -> Asked<Membership> {
        self.ask(RemoveMember { room, user })
    }

    pub fn begin_removal(&self, room: RoomId) -> Asked<RoomRecord> {
        self.ask(RemoveRoom { room })
    }

    pub fn remove_messages(&self, limit: usize) -> Asked<bool> {
        self.ask(RemoveMessages { limit })
    }

    /// Counts the rows of each table, as of a day.
    pub fn sample(&self, day: u64) -> Asked<()> {
        let desk = self.clone();
        Box::pin(async move {
            let counts = desk.row_counts().await?;
            desk.ask(SampleGrowth { day, counts }).await
        })
    }

    /// All that is stored of somebody, page by page.
    pub fn export(&self, user: UserId, limit: usize) -> Asked<Vec<UserItem>> {
        let desk = self.clone();
        Box::pin(async move {
            let (mut items, mut cursor) = (Vec::new(), ExportCursor::default());
            loop {
                let page = desk.export_page(user.clone(), cursor, limit).await?;
                items.extend(page.items);
                match page.next {
                    Some(next) => cursor = next,
                    None => return Ok(items),
                }
            }
        })
    }
}

/// A key, and whose.
#[derive(Clone)]
pub struct Key {
    caller: UserId,
    key: String,
}

impl Key {
    pub fn of(self, kind: KeyKind, fingerprint: Fingerprint) -> RequestKey {
        RequestKey { caller: self.caller, kind, key: self.key, fingerprint }
    }
}

/// One message, and who wants to change it.
#[derive(Clone)]
pub struct One {
    pub room: RoomId,
    pub target: MessageTarget,
    pub author: Author,
}

/// What a user of a bed may have of lessons.
const LESSONS: u64 = 4_000;

/// A store with all that a case needs.
pub struct Bed {
    pub store: Desk,
    pub clock: Arc<ManualClock>,
    pub heard: Arc<Heard>,
    pub dir: tempfile::TempDir,
}

pub fn config(dir: &Path) -> StoreConfig {
    StoreConfig {
        data_dir: dir.to_owned(),
        cache_bytes: 8 << 20,
        progress_versions: 3,
        lessons_per_user: LESSONS,
        commit_delay: std::time::Duration::from_millis(3),
        min_free_bytes: 0,
        min_free_admin_bytes: 0,
    }
}

impl Bed {
    pub fn new() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        let (clock, heard) = (Arc::new(ManualClock::default()), Arc::new(Heard::default()));
        let store = store::open(&config(dir.path()), clock.clone(), heard.clone()).unwrap();
        Bed { store: Desk::new(store, clock.clone()), clock, heard, dir }
    }

    /// Two of the same store, so that they may be held against each other.
    pub async fn twins() -> (Bed, Bed) {
        let (one, mut two) = (Bed::new(), Bed::new());
        two.store.close().await.unwrap();
        one.store.close().await.unwrap();
        std::fs::copy(one.dir.path().join("academy.redb"), two.dir.path().join("academy.redb")).unwrap();
        two.store.store = store::open(&config(two.dir.path()), two.clock.clone(), two.heard.clone()).unwrap();
        (one.reopen().await, two)
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
        self.store.store = store::open(&config(self.dir.path()), self.clock.clone(), self.heard.clone()).unwrap();
        self
    }

    /// What was recorded of acts, behind a number: the action, the target and how it ended.
    pub async fn audit_log(&self, after: u64) -> Vec<(String, String, String)> {
        let records = self.store.audit(after, 1_000).await.unwrap();
        records.into_iter().map(|one| (one.entry.action, one.entry.target, one.entry.outcome)).collect()
    }

    /// Nothing in it contradicts anything.
    pub async fn end(self) {
        self.store.close().await.unwrap();
        assert_eq!(store::embedded::check(self.dir.path()).unwrap(), Vec::<String>::new());
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
    }
}

pub fn change(to: &str, message_id: u64, who: Author) -> One {
    One { room: room(to), target: MessageTarget::Id(message_id), author: who }
}

pub fn broadcast(payload: &str) -> Arc<Broadcast> {
    Arc::new(Broadcast { rooms: Vec::new(), event: "e".into(), payload: payload.into() })
}

/// What the trail says of an act of root's.
pub fn act(action: &'static str, target: &str) -> Act {
    let (actor, origin, target) = ("root".to_owned(), "10.0.0.1".to_owned(), target.to_owned());
    Act { actor, origin, action, target, note: String::new() }
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
    NotificationDraft { audience, body }
}

pub fn key(who: &str, text: &str) -> Key {
    Key { caller: user(who), key: text.into() }
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
            $($(#[test] fn $case() { super::run(super::$module::$case(super::Bed::new())) })*)*
        }
    };
}

conformance! {
    cases_chat: a_transcript_is_of_one_moment, seq_has_no_gaps_under_64_senders, a_repeated_key_gives_the_first_answer, keys_hold_a_day,
        a_key_in_another_room_is_a_conflict, a_key_with_another_content_is_a_conflict,
        the_first_answer_comes_before_the_rules, kinds_of_keys_do_not_collide, edits_and_deletions_ask_for_rights,
        a_closed_house_lets_nobody_register_a_room, pages_go_both_ways, a_cursor_from_the_future_is_refused,
        read_marks_move_forward_alone, rooms_of_counts_what_is_unread, joining_takes_part,
        ids_keep_the_type_of_the_request, replay_tells_what_the_sink_heard, a_replay_comes_in_parts,
        a_closed_store_says_so, times_of_a_room_never_fall, what_is_deleted_is_not_unread,
        who_posts_has_read_what_they_posted, a_room_that_was_left_is_not_listed,
        who_was_there_before_the_first_word_takes_part, a_back_end_names_its_messages,
        a_broadcast_is_kept_until_it_has_gone_out, what_changes_nothing_costs_no_commit,
        each_change_has_a_kind_by_which_it_is_counted,
        whoever_changes_what_another_wrote_is_named_and_recorded;
    cases_cost: an_inbox_costs_what_is_asked_of_it, what_was_missed_costs_what_is_told,
        a_page_of_lessons_costs_what_is_in_it;
    cases_progress: reports_are_merged_into_versions, a_user_has_so_many_lessons_at_most, versions_are_trimmed, a_batch_is_all_or_nothing,
        a_repeated_report_adds_nothing, since_gives_what_changed_behind_it, progress_of_unknown_people_is_empty;
    cases_inbox: everybody_has_their_own_inbox, a_role_is_asked_today, delivered_is_not_sent_again,
        reading_and_deleting, all_is_read_and_deleted_at_once, inbox_pages, a_repeated_notification_is_the_first,
        people_are_seen, who_returns_within_a_minute_costs_the_disk_nothing, first_answers_hold_a_day, a_clock_that_is_ahead_for_a_moment_ends_no_key_and_no_ban, each_audience_has_marks_of_its_own,
        all_up_to_an_id_leaves_what_came_later, unread_is_kept_and_is_what_counting_gives,
        two_people_in_one_request_have_marks_of_their_own, what_is_not_in_an_inbox_is_not_marked,
        what_all_was_done_to_supersedes_what_it_covers, unread_is_right_at_each_step_of_a_purge,
        marks_from_before_the_oldest_notification_are_not_told_again, a_purge_looks_at_one_slice_of_what_is_young;
    cases_notices: what_waits_is_sent_once_whatever_the_clock_does, what_is_over_is_in_no_inbox_and_its_readers_are_known,
        what_is_taken_back_is_gone_for_everybody, times_are_bounded_in_number, who_is_erased_is_named_by_no_time,
        a_key_schedules_once;
    cases_maintenance: the_trail_is_a_chain, holds_on_one_subject_stand_beside_each_other, nothing_of_an_erased_person_is_left,
        an_erasure_is_refused_under_a_hold, what_is_old_is_purged_and_what_is_held_stays,
        a_room_goes_on_behind_what_a_purge_has_taken_also_when_the_store_has_just_been_opened, an_export_has_everything,
        purges_go_on_past_what_is_dated_into_the_future, a_message_is_as_old_as_the_clock_said_however_far_its_room_was_ahead, an_erasure_asks_for_the_floor_or_for_consent,
        a_purge_in_slices_takes_what_one_in_one_go_takes, what_lost_its_content_is_told_gone_once,
        an_erasure_leaves_nothing_of_where_they_wrote, who_comes_again_is_erased_again;
    cases_holds: what_was_changed_under_a_hold_is_kept_while_it_stands, a_held_author_is_held_in_every_room,
        who_has_written_in_a_held_room_is_not_erased, who_has_nothing_left_in_a_held_room_is_erased, a_hold_that_comes_too_late_is_refused,
        a_hold_does_not_come_into_the_removal_of_a_room, what_somebody_who_is_held_has_learned_is_not_rolled_out,
        of_a_hold_and_an_erasure_one_wins, what_one_commit_registers_holds_and_erases_is_one, nothing_of_somebody_is_stored_while_they_are_erased,
        an_erasure_and_a_removal_go_on_beside_each_other, a_round_that_meets_the_end_is_the_last;
    cases_acts: an_act_and_its_record_are_one, acts_at_once_make_one_chain,
        a_refused_act_is_recorded_where_a_hold_or_a_floor_refuses_it, a_repeated_act_is_recorded_once,
        a_purge_has_a_beginning_and_an_end, an_erasure_gives_the_same_certificate_again;
    cases_access: bans_stand_until_they_are_lifted_or_end, a_private_room_admits_its_members_alone,
        a_room_is_closed_with_those_who_are_in_it, a_deleted_room_leaves_nothing_and_its_id_is_free_at_once,
        a_room_under_a_hold_is_not_deleted, who_is_taken_out_takes_their_read_mark_along, lists_come_in_parts_and_can_be_searched,
        a_change_of_a_room_is_told_with_the_type_of_the_request;
    cases_order: a_locked_room_is_for_those_who_keep_order, slow_mode_lets_each_write_once_in_an_interval,
        a_clock_that_jumps_ends_no_mute_and_no_interval, a_moderator_mutes_those_who_keep_no_order,
        a_report_keeps_what_the_message_said, who_returns_is_told_of_states_and_reports,
        reports_go_with_their_messages_and_with_who_made_them, a_hold_keeps_reports;
}

pub fn open_quietly(dir: &Path) -> Desk {
    let clock = Arc::new(ManualClock::default());
    Desk::new(store::open(&config(dir), clock.clone(), Arc::new(NoSink)).unwrap(), clock)
}
