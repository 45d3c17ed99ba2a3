//! Stores of older formats, whose rows are written here as their versions wrote them, and migrations that are cut short.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use redb::{Builder, TableDefinition};

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Author, Draft, Membership, MessageKind, RoomPolicy};
use crate::domain::notification::{Audience, AudienceKind, Selection};
use crate::domain::privacy::{Hold, Subject};
use crate::domain::progress::{Percent, Update};
use crate::domain::{Actor, Fingerprint, Id, LessonId, Refusal, Role, SystemClock, UserId};
use crate::store::embedded::access::rows::{MemberRow, Person};
use crate::store::embedded::chat::places::{is_member, member_of};
use crate::store::embedded::check;
use crate::store::embedded::engine::codec::{membership_code, next_id, role_code};
use crate::store::embedded::engine::file::{NAME, SUSPECT};
use crate::store::embedded::engine::first_answers::{AnswerRow, First};
use crate::store::embedded::engine::schema::{K8, K16, K24, Row};
use crate::store::embedded::inbox::rows::InboxChangeRow;
use crate::store::embedded::offline::migrate::*;
use crate::store::embedded::offline::rows::Held;
use crate::store::embedded::open;
use crate::store::embedded::privacy::rows::ErasureRow;
use crate::store::embedded::tests::note;
use crate::store::operations::*;
use crate::store::{
    ExportCursor, InboxQuery, LessonFilter, NoSink, OpenError, Page, RoomQuery, Store, StoreConfig, StoreError,
};

const ROOMS: u64 = SLICE as u64 * 2 + 7;
const OPEN: RoomPolicy = RoomPolicy { open_rooms: true };

fn config(dir: &Path) -> StoreConfig {
    let (data_dir, cache_bytes) = (dir.to_owned(), 4 << 20);
    StoreConfig {
        data_dir,
        cache_bytes,
        progress_versions: 5,
        lessons_per_user: 0,
        commit_delay: std::time::Duration::ZERO,
        min_free_bytes: 0,
        min_free_admin_bytes: 0,
    }
}

fn opened(dir: &Path) -> Result<Arc<dyn Store>, OpenError> {
    open(&config(dir), SystemClock::shared(), Arc::new(NoSink))
}

fn run<T>(case: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case)
}

/// Migrates one slice, as if a kill came behind it. `true` when all is done.
fn migrate_and_cut(dir: &Path, seen: &mut Vec<u64>) -> bool {
    let held = Held::take(dir).unwrap();
    let mut file = held.open().unwrap();
    let cut = catch_unwind(AssertUnwindSafe(|| {
        migrate(&mut file, &mut |rows| {
            seen.push(rows);
            std::panic::resume_unwind(Box::new("killed"));
        })
    }));
    cut.is_ok_and(|done| {
        done.unwrap();
        file.close().unwrap();
        true
    })
}

fn migrate_all(dir: &Path, seen: &mut Vec<u64>) {
    let held = Held::take(dir).unwrap();
    let mut file = held.open().unwrap();
    migrate(&mut file, &mut |rows| seen.push(rows)).unwrap();
    file.close().unwrap();
}

/// A store of format 1 with many rooms; of which an older version has migrated some, so that their rows are of format 2.
fn of_format_1(dir: &Path, migrated: u64) {
    run(opened(dir).unwrap().close()).unwrap();
    let held = Held::take(dir).unwrap();
    let file = held.open().unwrap();
    let written = file.write(|tables| {
        let mut buffer = Vec::new();
        for no in 1..=ROOMS {
            let id = RoomId::number(no);
            let (id_row, name): (IdRow<'_>, Option<&str>) = (id.id().into(), None);
            let row = if no <= migrated {
                encode(&(id_row, name, false, 0u64, 0u64, no, 0u64), &mut buffer)?
            } else {
                encode(&(id_row, name, false, 0u64, 0u64, no), &mut buffer)?
            };
            tables.rooms.write()?.insert(&k8(no), row)?;
            let canonical = id.canonical();
            tables.room_no.write()?.insert(canonical.as_bytes(), encode(&no, &mut buffer)?)?;
        }
        tables.meta.write()?.insert(meta::NEXT_ROOM, encode(&(ROOMS + 1), &mut buffer)?)?;
        let format: u32 = if migrated > 0 { 3 } else { 1 };
        tables.meta.write()?.insert(meta::FORMAT, encode(&format, &mut buffer)?)?;
        if migrated > 0 {
            tables.meta.write()?.insert(meta::MIGRATING, encode(&(1u32, migrated), &mut buffer)?)?;
        }
        tables.meta.write()?.remove(meta::CURSOR_KEY)?;
        Ok(())
    });
    written.unwrap();
    file.close().unwrap();
}

#[test]
fn a_migration_that_is_cut_short_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().unwrap();
    of_format_1(dir.path(), 0);
    let is_older = || matches!(opened(dir.path()), Err(OpenError::Older { found: 1, known: FORMAT, .. }));
    assert!(is_older());
    let mut seen = Vec::new();
    for _ in 0..2 {
        assert!(!migrate_and_cut(dir.path(), &mut seen));
        assert!(is_older(), "it is not served half migrated");
    }
    migrate_all(dir.path(), &mut seen);
    assert_eq!(seen[..3], [SLICE as u64, SLICE as u64, 7], "each slice once");
    // The other phases find nothing, but the one that looks at the ids of rooms.
    let before = seen[3..].iter().take_while(|rows| **rows == 7).count();
    let ids = seen[3 + before..].iter().copied().collect::<std::collections::BTreeSet<_>>();
    let slice = SLICE as u64;
    assert_eq!(ids.into_iter().collect::<Vec<_>>(), [7 + slice, 7 + 2 * slice, 7 + ROOMS], "{seen:?}");
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(opened(dir.path()).unwrap().close()).unwrap();
}

#[test]
fn a_mark_says_the_phase_and_the_row() {
    for phase in 0..=PHASES.len() as u64 {
        for done in [0, 1, crate::domain::MAX_SAFE_INTEGER] {
            assert_eq!(read_mark(mark(phase, done)), (phase, done));
        }
    }
    // An older version ended behind the phases that it knew, and shifted their numbers: what is new comes next.
    assert_eq!(read_mark(LAST_SHIFTED << PHASE_SHIFT), (15, 0));
    assert_eq!(PHASES[15], Phase::Places);
}

#[test]
fn a_migration_that_an_older_version_has_begun_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    of_format_1(dir.path(), 3_000);
    assert!(matches!(opened(dir.path()), Err(OpenError::Older { found: 1, known: FORMAT, .. })));
    let mut seen = Vec::new();
    migrate_all(dir.path(), &mut seen);
    assert_eq!((seen[0], seen.last()), (ROOMS - 3_000, Some(&(2 * ROOMS - 3_000))), "{seen:?}");
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(opened(dir.path()).unwrap().close()).unwrap();
}

fn user(text: &str) -> UserId {
    UserId::parse(text).unwrap()
}

fn room(text: &str) -> RoomId {
    RoomId::parse(text).unwrap()
}

fn author(who: &str) -> Author {
    Author { user: user(who), name: who.to_owned(), admin: false }
}

fn draft(to: &str, who: &str, content: &str) -> Draft {
    let (room, author, content) = (room(to), author(who), content.to_owned());
    Draft { room, author, content, kind: MessageKind::Text, reply_to: None, client_id: None }
}

fn post(draft: Draft, key: Option<&str>) -> PostMessage {
    let (caller, fingerprint) = (draft.author.user.clone(), draft.fingerprint());
    let key = key.map(|key| RequestKey { caller, kind: KeyKind::Message, key: key.to_owned(), fingerprint });
    PostMessage { draft, policy: OPEN, key, external_id: None, origin: None }
}

async fn ask<O: Operation>(store: &dyn Store, operation: O) -> O::Answer {
    store.apply(SystemClock::shared().now(), operation).await.unwrap()
}

fn sent(payload: &str) -> SendBroadcast {
    let broadcast = Broadcast { rooms: Vec::new(), event: "e".into(), payload: payload.into() };
    let (key, fingerprint) = ("b".to_owned(), Fingerprint::of(&[payload]));
    let key = Some(RequestKey { caller: user("svc"), kind: KeyKind::Passing, key, fingerprint });
    SendBroadcast { broadcast: Arc::new(broadcast), key, sockets: 3 }
}

const MESSAGES: usize = 2 * SLICE + 7;
const NOTIFICATIONS: usize = SLICE + 9;
const PEOPLE: usize = 2 * INBOXES + 3;

/// A store with everything of which format 4 has changed a row or counts something, more than a slice of each.
async fn live(dir: &Path) {
    let store = opened(dir).unwrap();
    let store = &*store;
    for who in 0..PEOPLE {
        let (user, name, roles) = (user(&format!("p{who}")), format!("P{who}"), vec![Role::Learner]);
        ask(store, Arrive { user, name, roles }).await;
    }
    ask(store, post(draft("r", "p0", "the first"), Some("k"))).await;
    ask(store, JoinRoom { room: room("r"), author: author("p1"), policy: OPEN }).await;
    let said = (2..=MESSAGES).map(|n| post(draft("r", &format!("p{}", 2 * (n % 5)), &n.to_string()), None));
    let said = said.map(|post| store.apply(SystemClock::shared().now(), post)).collect::<Vec<_>>();
    let mut ids = Vec::new();
    for one in said {
        ids.push(one.await.unwrap().id);
    }
    for id in ids.iter().step_by(10) {
        let (target, admin) = (MessageTarget::Id(*id), Author { admin: true, ..author("root") });
        let deletion = DeleteMessage { room: room("r"), target, author: admin, policy: OPEN, key: None, act: None };
        ask(store, deletion).await;
    }
    let mark = MarkRead { room: room("r"), reader: author("p1"), message_id: ids[2_345], policy: OPEN };
    ask(store, mark).await;
    for n in 0..NOTIFICATIONS {
        let audience = match n % 4 {
            0 => Audience::All,
            1 => Audience::Role(Role::Learner),
            2 => Audience::Users(vec![user(&format!("p{}", n % PEOPLE)), user("p1")]),
            _ => Audience::Role(Role::Coach),
        };
        let one = ask(store, note(audience)).await.notification.id;
        if n % 9 == 0 {
            let (selection, action) = (Selection::Ids(vec![one]), [InboxAction::Read, InboxAction::Delete][n % 2]);
            let (user, roles) = (user("p1"), vec![Role::Learner]);
            ask(store, MarkInbox { user, roles, selection, action, origin: None }).await;
        }
        if n == 500 {
            // One mark over all audiences, as an older version has it.
            let marks = AudienceKind::ALL.map(|audience| (user("p3"), DeliveryMark { audience, up_to: one }));
            ask(store, Delivered { marks: marks.to_vec() }).await;
            let (user, roles) = (user("p3"), vec![Role::Learner]);
            let (selection, action) = (Selection::All { up_to: None }, InboxAction::Read);
            ask(store, MarkInbox { user, roles, selection, action, origin: None }).await;
        }
    }
    let update = Update {
        lesson: LessonId::parse("1").unwrap(),
        progress: Percent::new(50.0).unwrap(),
        time_spent: 1,
        course: None,
        module: None,
        status: None,
        sync_id: Some("s".into()),
        base_version: None,
    };
    ask(store, SyncProgress { reports: vec![Report::new(&user("p1"), user("p1"), update)] }).await;
    ask(store, sent("{}")).await;
    let (ban, by, before) = (Ban::User(user("p9")), "root".to_owned(), Timestamp(0));
    ask(store, SetBan { banned: Banned { ban, before, until: None, by, at: Timestamp(1) } }).await;
    erase(store, "p5").await;
    store.close().await.unwrap();
}

async fn erase(store: &dyn Store, who: &str) {
    let (by, floor) = ("root".to_owned(), std::time::Duration::ZERO);
    ask(store, BeginErasure { user: user(who), by, consent: false, floor, is_dry_run: false }).await;
    let act = || Act {
        actor: "root".into(),
        origin: "local".into(),
        action: crate::domain::audit::action::USER_ERASE,
        target: who.into(),
        note: String::new(),
    };
    while !ask(store, EraseSlice { user: user(who), limit: 1_000, act: act() }).await.is_finished {}
}

/// What people see of it.
async fn seen_of(store: &dyn Store) -> String {
    let mut seen = String::new();
    for who in ["p0", "p1", "p2", "p3", "p7", "p402"] {
        let me = Actor { user: user(who), roles: vec![Role::Learner], ..Actor::local_admin() };
        let inbox = store.inbox(me.clone(), InboxQuery { limit: 10_000, ..InboxQuery::default() }).await.unwrap();
        let counted = inbox.items.iter().filter(|one| !one.read).count() as u64;
        assert_eq!(inbox.unread, counted, "{who}");
        let ids: Vec<_> = inbox.items.iter().map(|one| (one.id, one.read)).collect();
        let arrival = store.arrival(me.clone(), 10_000).await.unwrap();
        let waiting: Vec<_> = arrival.undelivered.iter().map(|one| one.id).collect();
        let rooms = store.rooms_of(author(who), RoomQuery { after: None, limit: 10_000 }, OPEN).await.unwrap();
        let progress = store.progress(user(who), LessonFilter::default()).await.unwrap();
        let replay = store.replay(me, vec![room("r")], 0, 20_000).await.unwrap();
        seen.push_str(&format!("{who}: {ids:?} {waiting:?} {rooms:?} {progress:?} {replay:?}\n"));
    }
    let page = Page { limit: 10_000, ..Page::default() };
    let page = store.history(room("r"), author("p1"), page, OPEN).await.unwrap();
    let (bans, trail) = (store.bans().await.unwrap(), store.audit(0, 100).await.unwrap());
    format!("{seen}{page:?} {bans:?} {trail:?}")
}

/// Makes of a store of today one that format 3 has written: its rows, and none of the tables that came later.
fn make_format_3(dir: &Path) {
    let database = Builder::new().open(dir.join(NAME)).unwrap();
    let tx = database.begin_write().unwrap();
    rewrite(&mut Tables::of(&tx)).unwrap();
    for name in ["authors", "withheld", "tombstones", "inbox_counts", "named", "in_rooms"] {
        assert!(tx.delete_table(TableDefinition::<K16, Row>::new(name)).is_ok() || is_of_units(&tx, name));
    }
    assert!(tx.delete_table(TableDefinition::<K24, Row>::new("external_ids")).unwrap());
    assert!(tx.delete_table(TableDefinition::<K24, ()>::new("msg_blocks")).unwrap());
    for name in ["external_by_message", "outbox"] {
        assert!(tx.delete_table(TableDefinition::<K8, Row>::new(name)).unwrap());
    }
    tx.commit().unwrap();
    database.close().unwrap();
}

fn is_of_units(tx: &redb::WriteTransaction, name: &str) -> bool {
    tx.delete_table(TableDefinition::<K16, ()>::new(name)).unwrap()
}

/// The indexes of messages as format 8 and those before have them.
fn index_as_before(tables: &mut Tables<'_>) -> Outcome<()> {
    let mut buffer = Vec::new();
    let mut places: Vec<([u8; 16], InRoom)> = Vec::new();
    let mut members: Vec<([u8; 16], Vec<u8>)> = Vec::new();
    for row in tables.in_rooms.read()?.iter()? {
        let (key, value) = row?;
        match is_member(key.value()) {
            true => members.push((k16(pair(key.value()).0, member_of(key.value())), value.value().to_vec())),
            false => places.push((*key.value(), InRoom::decode(value.value())?)),
        }
    }
    tables.in_rooms.write()?.clear()?;
    for (key, row) in members {
        tables.members.write()?.insert(&key, row.as_slice())?;
    }
    for (key, place) in places {
        tables.msg_by_room.write()?.insert(&key, encode(&place.seq, &mut buffer)?)?;
        tables.msg_by_user.write()?.insert(&k16(place.sender, second(&key)), ())?;
    }
    // Each record of a room was written with its latest message.
    let mut rooms: Vec<([u8; 8], u64)> = Vec::new();
    for row in tables.rooms.read()?.iter()? {
        let key = *row?.0.value();
        rooms.push((key, u64::from_be_bytes(key)));
    }
    for (key, no) in rooms {
        let mut record = get(tables.rooms.read()?, &key, decode_room)?.unwrap();
        for row in tables.msg_by_room.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            let (key, value) = row?;
            let id = second(key.value());
            let at = get(tables.messages.read()?, &k8(id), |row| Ok(decode_message(row, id, &record.id)?.0.at))?;
            (record.last_id, record.last_seq) = (id, decode::<u64>(value.value())?);
            record.last_at = record.last_at.max(at.unwrap());
        }
        tables.rooms.write()?.insert(&key, encode_room(&record, &mut buffer)?)?;
    }
    tables.msg_blocks.write()?.clear()?;
    let next = next_id(tables.meta.read()?, tables.messages.read()?)?.unwrap();
    tables.meta.write()?.insert(meta::NEXT_ID, encode(&next, &mut buffer)?)?;
    Ok(())
}

fn rewrite(tables: &mut Tables<'_>) -> Outcome<()> {
    let mut buffer = Vec::new();
    index_as_before(tables)?;
    let mut old: Vec<([u8; 8], Vec<u8>)> = Vec::new();
    for row in tables.users.read()?.iter()? {
        let (key, value) = row?;
        let person = Person::decode(value.value())?;
        let roles: Vec<u8> = person.roles.iter().copied().map(role_code).collect();
        let marks = person.marks(AudienceKind::All);
        let (first_at, last_at) = (person.first_seen_at.0, person.last_seen_at.0);
        let row = (
            (IdRow::from(person.id.id()), person.name.as_str(), roles, person.first_seen_id, first_at, last_at),
            (marks.delivered, marks.read, marks.deleted),
        );
        old.push((*key.value(), encode(&row, &mut buffer)?.to_vec()));
    }
    for (key, row) in old.drain(..) {
        tables.users.write()?.insert(&key, row.as_slice())?;
    }
    for row in tables.rooms.read()?.iter()? {
        let (key, value) = row?;
        let room = decode_room(value.value())?;
        let row = (
            (IdRow::from(room.id.id()), room.name.as_deref(), room.private),
            (room.last_id, room.last_seq, room.created_at.0, room.purged_seq),
        );
        old.push((*key.value(), encode(&row, &mut buffer)?.to_vec()));
    }
    for (key, row) in old.drain(..) {
        tables.rooms.write()?.insert(&key, row.as_slice())?;
    }
    let mut pairs: Vec<([u8; 16], Vec<u8>)> = Vec::new();
    for row in tables.members.read()?.iter()? {
        let (key, value) = row?;
        let member = MemberRow::decode(value.value())?;
        let row = (membership_code(member.membership()?), member.read_up_to, member.read_seq, member.read_change);
        pairs.push((*key.value(), encode(&row, &mut buffer)?.to_vec()));
    }
    for (key, row) in pairs.drain(..) {
        tables.members.write()?.insert(&key, row.as_slice())?;
    }
    for row in tables.inbox_changes.read()?.iter()? {
        let (key, value) = row?;
        let change = InboxChangeRow::decode(value.value())?;
        pairs.push((*key.value(), encode(&(change.ids, change.action), &mut buffer)?.to_vec()));
    }
    for (key, row) in pairs.drain(..) {
        tables.inbox_changes.write()?.insert(&key, row.as_slice())?;
    }
    let mut answers: Vec<([u8; 24], Vec<u8>)> = Vec::new();
    for row in tables.answers.read()?.iter()? {
        let (key, value) = row?;
        let AnswerRow { expires, first, .. } = AnswerRow::decode(value.value())?;
        let text = match first {
            First::Sent(sockets) => format!("{{\"sockets\":{sockets}}}").into_bytes(),
            _ => Vec::new(),
        };
        let first = if text.is_empty() { first } else { First::Bytes(&text) };
        answers.push((*key.value(), encode(&(expires, first), &mut buffer)?.to_vec()));
    }
    for (key, row) in answers {
        tables.answers.write()?.insert(&key, row.as_slice())?;
        let mut by_expiry = [0; 32];
        by_expiry[..8].copy_from_slice(&AnswerRow::decode(&row)?.expires.to_be_bytes());
        by_expiry[8..].copy_from_slice(&key);
        tables.answers_by_expiry.write()?.insert(&by_expiry, ())?;
    }
    let mut erasures: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for row in tables.erasures.read()?.iter()? {
        let (key, value) = row?;
        let erasure = ErasureRow::decode(value.value())?.erasure()?;
        let row = (IdRow::from(erasure.user.id()), erasure.at.0, erasure.counts, erasure.is_finished());
        erasures.push((key.value().to_vec(), encode(&row, &mut buffer)?.to_vec()));
    }
    for (key, row) in erasures {
        tables.erasures.write()?.insert(key.as_slice(), row.as_slice())?;
    }
    for name in [meta::CURSOR_KEY, meta::PRUNED, meta::NOTIFICATIONS_PURGED] {
        tables.meta.write()?.remove(name)?;
    }
    tables.meta.write()?.insert(meta::FORMAT, encode(&3u32, &mut buffer)?)?;
    Ok(())
}

#[test]
#[ignore = "long"]
fn format_3_is_migrated_over_cuts_behind_each_slice() {
    let dir = tempfile::tempdir().unwrap();
    let before = run(async {
        live(dir.path()).await;
        let store = opened(dir.path()).unwrap();
        let seen = seen_of(&*store).await;
        store.close().await.unwrap();
        seen
    });
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    make_format_3(dir.path());
    let is_older = || matches!(opened(dir.path()), Err(OpenError::Older { found: 3, known: FORMAT, .. }));
    let mut rows = Vec::new();
    assert!(is_older());
    while !migrate_and_cut(dir.path(), &mut rows) {
        assert!(is_older(), "it is not served half migrated, behind {rows:?}");
    }
    // Each phase has its slices, and one that finds nothing more.
    let slice = SLICE as u64;
    assert_eq!(rows[..7], [slice, slice, 7, 0, slice, 9, 0], "messages, notifications");
    assert_eq!(rows[15], 0, "people in three, twice, and no holds: {rows:?}");
    let people = PEOPLE as u64;
    assert_eq!(
        rows[16..22],
        [people + 1, 0, 1, 0, 0, 0],
        "the ids of people and one who is nobody, of a room, of nothing else"
    );
    assert_eq!(rows[22..29], rows[..7], "messages and notifications once more");
    assert_eq!((rows[29], rows[33]), (0, 0), "what each has done in three: {rows:?}");
    assert_eq!(rows[34..36], [3, 0], "the index of first answers goes");
    assert_eq!(rows[36..40], [slice, slice, 7, 0], "messages in the indexes of their rooms");
    let all = MESSAGES as u64;
    assert_eq!(
        rows[40..],
        [6, 0, all, all, 0, 0],
        "members, the indexes of before go, and there is a table of reports"
    );
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(async {
        let store = opened(dir.path()).unwrap();
        assert_eq!(seen_of(&*store).await, before);
        assert_ne!(store.identity().cursor_key, [0; 32]);
        // Keys hold; of their requests nothing is known that could contradict.
        assert!(ask(&*store, post(draft("r", "p0", "the first"), Some("k"))).await.duplicate);
        assert!(ask(&*store, post(draft("r", "p0", "another"), Some("k"))).await.duplicate);
        // A back end's messages had their keys as their authors' own.
        let by_a_back_end = |content: &str| {
            let draft = draft("r", "p0", content);
            let (caller, kind, fingerprint) = (user("svc"), KeyKind::PlatformMessage, draft.fingerprint());
            let key = Some(RequestKey { caller, kind, key: "k".to_owned(), fingerprint });
            PostMessage { key, ..post(draft, None) }
        };
        assert!(ask(&*store, by_a_back_end("the first")).await.duplicate);
        let other = ask(&*store, by_a_back_end("the author's own key was the same by chance")).await;
        assert!(!other.duplicate);
        let again = ask(&*store, by_a_back_end("the author's own key was the same by chance")).await;
        assert_eq!((again.duplicate, again.id), (true, other.id));
        let again = ask(&*store, sent("{}")).await;
        assert_eq!((again.duplicate, again.sockets), (true, 3));
        // An erasure of before has its certificate.
        let erasure = store.erasure(user("p5")).await.unwrap().unwrap();
        assert!(erasure.certificate(store.identity().store_id).is_some());
        // Who has written somewhere is known to have, whether they are in it or not.
        let hold = Hold {
            number: 0,
            subject: Subject::Room(room("r")),
            reason: "case".into(),
            by: "root".into(),
            at: Timestamp(1),
        };
        ask(&*store, SetHold { hold }).await;
        let (by, floor) = ("root".to_owned(), std::time::Duration::ZERO);
        let begin = BeginErasure { user: user("p4"), by, consent: false, floor, is_dry_run: false };
        let refused = store.apply(Timestamp(1), begin).await;
        assert_eq!(refused, Err(StoreError::Refused(Refusal::Held("room r (case)".into()))));
        // Times go on from the last one.
        let late = store.apply(Timestamp(1), post(draft("r", "p2", "late"), None)).await.unwrap();
        assert!(late.at > Timestamp(1_000));
        store.close().await.unwrap();
    });
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn of_format_3_rights_and_first_answers_stay() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = opened(dir.path()).unwrap();
        let store = &*store;
        let mut ids = Vec::new();
        for text in ["as it was", "edited", "deleted"] {
            ids.push(ask(store, post(draft("r", "p0", text), Some(text))).await.id);
        }
        let target = |n: usize| MessageTarget::Id(ids[n]);
        let (author, content) = (author("p0"), "otherwise".to_owned());
        let edit = EditMessage {
            room: room("r"),
            target: target(1),
            author: author.clone(),
            content,
            policy: OPEN,
            key: None,
            act: None,
        };
        ask(store, edit).await;
        ask(store, DeleteMessage { room: room("r"), target: target(2), author, policy: OPEN, key: None, act: None })
            .await;
        ask(store, SetMember { room: room("r"), user: user("p1"), membership: Membership::Moderator }).await;
        for audience in [Audience::All, Audience::Users(vec![user("p0")])] {
            let id = ask(store, note(audience)).await.notification.id;
            let (selection, action) = (Selection::Ids(vec![id]), InboxAction::Read);
            let arrival = Arrive { user: user("p0"), name: "P0".into(), roles: Vec::new() };
            ask(store, arrival).await;
            ask(store, MarkInbox { user: user("p0"), roles: Vec::new(), selection, action, origin: None }).await;
        }
        store.close().await.unwrap();
    });
    make_format_3(dir.path());
    let mut rows = Vec::new();
    migrate_all(dir.path(), &mut rows);
    // Three messages, two notifications, and two people with what one of them has of notifications; the last again for the
    // index that format 5 has. Nothing is held. Then the ids of two people, a room, messages, notifications, and of what each has done.
    // At last the index of the three answers goes, and the messages and two members get their places, and the two indexes of messages go,
    // and there is a table of reports.
    assert_eq!(
        rows,
        [3, 3, 3 + 2, 5, 5 + 2 + 1, 8, 8 + 2 + 1, 11, 11]
            .into_iter()
            .chain([11 + 2, 13, 13 + 1, 14, 14, 14, 14 + 3, 17, 17 + 2, 19, 19, 19 + 2, 21, 21 + 3, 24])
            .chain([24 + 3, 27, 27 + 2, 29, 29 + 3, 32 + 3, 35, 35])
            .collect::<Vec<_>>(),
        "each phase has a slice, and one that finds nothing more"
    );
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(async {
        let store = opened(dir.path()).unwrap();
        let members = store.members(room("r"), 0, 9).await.unwrap().members;
        let members: Vec<_> = members.into_iter().map(|one| (one.user, one.membership)).collect();
        assert_eq!(members, [(user("p0"), Membership::Guest), (user("p1"), Membership::Moderator)]);
        // What a back end sent is known by its key, whatever has become of it.
        for text in ["as it was", "edited", "deleted"] {
            let draft = draft("r", "p0", text);
            let (caller, kind, fingerprint) = (user("svc"), KeyKind::PlatformMessage, draft.fingerprint());
            let key = Some(RequestKey { caller, kind, key: text.to_owned(), fingerprint });
            assert!(ask(&*store, PostMessage { key, ..post(draft, None) }).await.duplicate, "{text}");
        }
        store.close().await.unwrap();
    });
}

#[test]
fn of_format_5_holds_get_numbers_and_messages_stay() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = opened(dir.path()).unwrap();
        ask(&*store, post(draft("r", "p0", "as it was"), None)).await;
        store.close().await.unwrap();
    });
    let held = Held::take(dir.path()).unwrap();
    let file = held.open().unwrap();
    let written = file.write(|tables| {
        let mut buffer = Vec::new();
        for (key, id, reason) in [("u:p0", "p0", "case 2"), ("r:r", "r", "case 1"), ("u:p00", "p00", "case 3")] {
            let row = encode(&(IdRow::Text(id), reason, "root", 7u64), &mut buffer)?;
            tables.holds.write()?.insert(key.as_bytes(), row)?;
        }
        tables.meta.write()?.remove(meta::NEXT_HOLD)?;
        index_as_before(tables)?;
        tables.meta.write()?.insert(meta::FORMAT, encode(&5u32, &mut buffer)?)?;
        Ok(())
    });
    written.unwrap();
    let told = |holds: &[Hold]| -> Vec<(u64, String)> {
        holds.iter().map(|hold| (hold.number, format!("{hold} by {} at {}", hold.by, hold.at.0))).collect()
    };
    let expected = ["room r (case 1)", "user p0 (case 2)", "user p00 (case 3)"];
    let expected: Vec<_> = (1u64..).zip(expected.map(|one| format!("{one} by root at 7"))).collect();
    assert_eq!(told(&file.holds().unwrap()), expected, "a restore reads them before they are migrated");
    file.close().unwrap();
    drop(held);
    assert!(matches!(opened(dir.path()), Err(OpenError::Older { found: 5, known: FORMAT, .. })));
    migrate_all(dir.path(), &mut Vec::new());
    migrate_all(dir.path(), &mut Vec::new());
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(async {
        let store = opened(dir.path()).unwrap();
        assert_eq!(told(&store.holds().await.unwrap()), expected);
        let (subject, reason, by) = (Subject::User(user("p0")), "case 4".to_owned(), "root".to_owned());
        let set = ask(&*store, SetHold { hold: Hold { number: 0, subject, reason, by, at: Timestamp(9) } }).await;
        assert_eq!((set.hold.number, set.is_new), (4, true));
        let release = ReleaseHold { subject: Subject::User(user("p0")), number: Some(2) };
        assert_eq!(ask(&*store, release).await.reason, "case 2");
        let page = Page { before: None, after: None, limit: 9 };
        let page = store.history(room("r"), author("p1"), page, OPEN).await.unwrap();
        assert_eq!((page.messages[0].content.as_str(), &page.messages[0].edited_by), ("as it was", &None));
        store.close().await.unwrap();
    });
}

/// All that is exported of somebody.
async fn exported(store: &dyn Store, who: &str) -> String {
    let (mut cursor, mut exported) = (ExportCursor::default(), String::new());
    loop {
        let page = store.export_page(user(who), cursor, 100).await.unwrap();
        exported.push_str(&format!("{:?}\n", page.items));
        match page.next {
            Some(next) => cursor = next,
            None => return exported,
        }
    }
}

#[test]
fn of_format_8_messages_get_their_places_over_cuts_behind_each_slice() {
    let dir = tempfile::tempdir().unwrap();
    let all = |store: Arc<dyn Store>| async move {
        let mut all = seen_of(&*store).await;
        for who in ["p0", "p1", "p2"] {
            all.push_str(&exported(&*store, who).await);
            all.push_str(&format!("{:?}\n", store.erasable(user(who)).await.unwrap()));
        }
        let rooms = store.list_rooms(crate::store::ListQuery { limit: 10, ..Default::default() }).await.unwrap();
        (format!("{all}{rooms:?}"), store.last_id())
    };
    let before = run(async {
        let store = opened(dir.path()).unwrap();
        let said = (0..SLICE + 7).map(|n| {
            let (to, who) = (["r", "s", "t"][n % 3], ["p0", "p1", "p2", "p9"][n % 4]);
            store.apply(SystemClock::shared().now(), post(draft(to, who, &n.to_string()), None))
        });
        let said = said.collect::<Vec<_>>();
        let mut ids = Vec::new();
        for one in said {
            ids.push(one.await.unwrap().id);
        }
        let (target, author) = (MessageTarget::Id(ids[0]), author("p0"));
        let deletion = DeleteMessage { room: room("r"), target, author, policy: OPEN, key: None, act: None };
        ask(&*store, deletion).await;
        erase(&*store, "p9").await;
        let all = all(Arc::clone(&store)).await;
        store.close().await.unwrap();
        all
    });
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    let file = Held::take(dir.path()).unwrap().open().unwrap();
    let written = file.write(|tables| {
        index_as_before(tables)?;
        tables.meta.write()?.insert(meta::FORMAT, encode(&8u32, &mut Vec::new())?)?;
        Ok(())
    });
    written.unwrap();
    file.close().unwrap();
    let is_older = || matches!(opened(dir.path()), Err(OpenError::Older { found: 8, known: FORMAT, .. }));
    let mut rows = Vec::new();
    assert!(is_older());
    while !migrate_and_cut(dir.path(), &mut rows) {
        assert!(is_older(), "it is not served half migrated, behind {rows:?}");
    }
    let slice = SLICE as u64;
    let expected = [slice, 7, 0, 9, 0, slice + 7, slice + 7, 0, 0];
    assert_eq!(rows, expected, "messages, members, the indexes of before, and the tables of reports");
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(async {
        let store = opened(dir.path()).unwrap();
        assert_eq!(all(Arc::clone(&store)).await, before);
        let next = ask(&*store, post(draft("t", "p0", "goes on"), None)).await;
        assert_eq!(next.id, before.1 + 1);
        erase(&*store, "p1").await;
        assert_eq!(store.erasable(user("p1")).await.unwrap(), Default::default());
        store.close().await.unwrap();
    });
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn a_room_of_format_1_is_what_it_was() {
    let id = RoomId::number(5);
    let row =
        RoomRow1 { id: id.id().into(), name: Some("five"), private: true, last_id: 7, last_seq: 3, created_at: 9 };
    let mut buffer = Vec::new();
    let room = decode_room_1(encode(&row, &mut buffer).unwrap()).unwrap();
    let expected = RoomRecord {
        name: Some("five".to_owned()),
        private: true,
        last_id: 7,
        last_seq: 3,
        ..RoomRecord::new(id, Timestamp(9))
    };
    assert_eq!(room, expected);
}

#[test]
fn of_an_older_format_the_rows_are_counted_and_a_suspect_is_not_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    of_format_1(dir.path(), 0);
    let stats = Held::take(dir.path()).unwrap().open().unwrap().row_stats().unwrap();
    assert_eq!(stats.rooms.len() as u64, ROOMS);
    // What its rows mean is looked at behind the migration.
    std::fs::write(dir.path().join(SUSPECT), "a disk that failed").unwrap();
    assert!(matches!(opened(dir.path()), Err(OpenError::Older { .. })));
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        opened(dir.path()).unwrap().close().await.unwrap();
        let database = Builder::new().open(dir.path().join(NAME)).unwrap();
        let tx = database.begin_write().unwrap();
        let newer = FORMAT + 1;
        let newest = encode(&newer, &mut Vec::new()).unwrap().to_vec();
        Tables::of(&tx).meta.write().unwrap().insert(meta::FORMAT, newest.as_slice()).unwrap();
        tx.commit().unwrap();
        database.close().unwrap();
        let again = opened(dir.path());
        assert!(matches!(
            again,
            Err(OpenError::Newer { found, known, version, .. })
                if (found, known) == (newer, FORMAT) && version == env!("CARGO_PKG_VERSION")
        ));
    });
}

/// What people, rooms and lessons of format 7 have, in both forms of a text, more than a slice of them.
fn of_forms(dir: &Path) {
    let stored = |text: &str| Id::Text(text.into());
    let who = |form: usize, n: usize| UserId::stored(stored(&format!("{}{n}", ["jos\u{e9}", "jose\u{301}"][form])));
    let place = |form: usize| RoomId::stored(stored(["caf\u{e9}", "cafe\u{301}"][form]));
    let lesson = |form: usize| LessonId::stored(stored(["le\u{e7}on", "lec\u{327}on"][form]));
    run(async {
        let store = opened(dir).unwrap();
        let store = &*store;
        for n in 0..INBOXES + 3 {
            for form in [1, 0] {
                ask(store, Arrive { user: who(form, n), name: format!("{form}"), roles: Vec::new() }).await;
                let update = |form| Update {
                    lesson: lesson(form),
                    progress: Percent::new(10.0).unwrap(),
                    time_spent: 1,
                    course: Some(lesson(1)),
                    module: None,
                    status: None,
                    sync_id: None,
                    base_version: None,
                };
                for form_of_lesson in [0, 1, 0] {
                    let report = Report::new(&who(form, n), who(form, n), update(form_of_lesson));
                    ask(store, SyncProgress { reports: vec![report] }).await;
                }
                let by = Author { user: who(form, n), name: String::new(), admin: false };
                let (room, content) = (place(form), format!("{form} {n}"));
                let draft =
                    Draft { room, author: by, content, kind: MessageKind::Text, reply_to: None, client_id: None };
                ask(store, post(draft, None)).await;
                ask(store, note(Audience::Users(vec![who(form, n)]))).await;
            }
        }
        store.close().await.unwrap();
    });
    let held = Held::take(dir).unwrap();
    let file = held.open().unwrap();
    let written = file.write(|tables| {
        index_as_before(tables)?;
        tables.meta.write()?.insert(meta::FORMAT, encode(&7u32, &mut Vec::new())?)?;
        Ok(())
    });
    written.unwrap();
    file.close().unwrap();
}

#[test]
#[ignore = "long"]
fn ids_of_format_7_get_their_normal_form_over_cuts_behind_each_slice() {
    let dir = tempfile::tempdir().unwrap();
    of_forms(dir.path());
    let is_older = || matches!(opened(dir.path()), Err(OpenError::Older { found: 7, known: FORMAT, .. }));
    let mut rows = Vec::new();
    assert!(is_older());
    while !migrate_and_cut(dir.path(), &mut rows) {
        assert!(is_older(), "it is not served half migrated, behind {rows:?}");
    }
    assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
    run(async {
        let store = opened(dir.path()).unwrap();
        for n in 0..INBOXES + 3 {
            // Who has the normal form keeps it, though the other one was there before.
            let (first, second) = (user(&format!("jos\u{e9}{n}")), user(&format!("jos\u{e9}{n}-2")));
            let names = [store.profile(first.clone()).await.unwrap(), store.profile(second.clone()).await.unwrap()];
            assert_eq!(names.map(|profile| profile.name), ["0", "1"], "{n}");
            for who in [first, second] {
                let page = store.progress(who.clone(), LessonFilter::default()).await.unwrap();
                let lessons: Vec<_> = page.items.iter().map(|(one, _)| one).collect();
                assert_eq!((lessons.len(), lessons[0].time_spent, lessons[0].version), (1, 3, 3), "{n}");
                assert_eq!(lessons[0].lesson.canonical(), "le\u{e7}on");
                assert_eq!(lessons[0].course.as_ref().map(LessonId::canonical), Some("le\u{e7}on".to_owned()));
                let versions =
                    store.progress_history(who.clone(), LessonId::parse("le\u{e7}on").unwrap()).await.unwrap();
                let times: Vec<_> = versions.iter().map(|one| (one.version, one.time_spent)).collect();
                assert_eq!(times, [(1, 1), (2, 2), (3, 3)]);
                let me = Actor { user: who, roles: Vec::new(), ..Actor::local_admin() };
                let inbox = store.inbox(me, InboxQuery { limit: 10, ..InboxQuery::default() }).await.unwrap();
                assert_eq!(inbox.items.len(), 1, "{n}");
            }
        }
        for (id, form) in [("caf\u{e9}-2", 1), ("caf\u{e9}", 0)] {
            let page = Page { limit: 10_000, ..Page::default() };
            let page = store.history(room(id), author("p"), page, OPEN).await.unwrap();
            assert_eq!(page.messages.len(), INBOXES + 3);
            for (n, message) in page.messages.iter().enumerate() {
                let name = format!("jos\u{e9}{n}{}", ["", "-2"][form]);
                assert_eq!((&message.content, message.sender.canonical()), (&format!("{form} {n}"), name));
            }
        }
        store.close().await.unwrap();
    });
}
