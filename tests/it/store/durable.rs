//! What only the embedded engine promises: it lasts, it locks, and it opens whatever was cut short.

use std::fs;

use academy_rt::store::access::LOOKED_AT;
use academy_rt::store::embedded::check;
use academy_rt::store::rows::TableDigest;
use academy_rt::store::{InboxQuery, LessonFilter, ListQuery, OpenError};

use super::*;
use crate::restore::holds;

#[test]
fn reopening_keeps_all() {
    run(async {
        let bed = Bed::new();
        let me = actor("7", &[Role::Learner]);
        let identity = bed.store.identity();
        bed.store.arrive(me.clone(), bed.now(), 10).await.unwrap();
        let id = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap().id;
        bed.say("r", "8", "two").await;
        bed.store.edit_message(change("r", id, author("7")), "one!".into(), OPEN).await.unwrap();
        for n in 0..5 {
            let update = report("1", f64::from(n), 1, Some(&format!("s{n}")));
            bed.store.sync_progress(user("7"), vec![update], bed.now()).await.unwrap();
        }
        bed.store.notify(note(Audience::All, "t"), Some(key("7", "n"))).await.unwrap();
        bed.store.notify(note(Audience::Users(vec![user("7"), user("9")]), "u"), None).await.unwrap();
        bed.store.mark_read(room("r"), author("9"), id, OPEN).await.unwrap();
        let all = |bed: &Bed| {
            let store = bed.store.clone();
            let me = me.clone();
            async move {
                (
                    store.history(room("r"), author("7"), latest(10), OPEN).await.unwrap(),
                    store.rooms_of(user("7")).await.unwrap(),
                    store.progress(user("7"), LessonFilter::default()).await.unwrap(),
                    store.progress_history(user("7"), lesson("1")).await.unwrap(),
                    store.inbox(me.clone(), InboxQuery { limit: 9, ..InboxQuery::default() }).await.unwrap(),
                    store.replay(me, vec![room("r")], 0, 100).await.unwrap(),
                    store.last_seen(vec![user("7")]).await.unwrap(),
                    store.last_id(),
                )
            }
        };
        let before = all(&bed).await;
        let bed = bed.reopen().await;
        assert_eq!(all(&bed).await, before);
        assert_eq!(bed.store.identity(), identity);
        // Keys hold across the reopening, until their day is over.
        assert!(bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap().duplicate);
        assert!(bed.store.notify(note(Audience::All, "t"), Some(key("7", "n"))).await.unwrap().1);
        bed.clock.advance(DAY);
        let next = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap();
        assert!(!next.duplicate && next.seq == 3 && next.id > before.7);
        bed.store.close().await.unwrap();
        assert_eq!(check(bed.dir.path()).unwrap(), Vec::<String>::new());
    });
}

#[test]
fn a_second_opening_says_that_it_is_in_use() {
    run(async {
        let bed = Bed::new();
        let again = store::open(&config(bed.dir.path()), bed.clock.clone(), Arc::new(NoSink));
        assert!(matches!(again, Err(OpenError::InUse { path, .. }) if path == bed.dir.path()));
        assert!(matches!(check(bed.dir.path()), Err(OpenError::InUse { .. })));
        bed.say("r", "7", "goes on").await;
    });
}

#[test]
fn a_torn_creation_is_cleared_away() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let leftover = dir.path().join("academy.redb.new");
        fs::write(&leftover, b"half a file").unwrap();
        let store = open_quietly(dir.path());
        assert!(!leftover.exists());
        store.append_message(draft("r", "7", "x", None), OPEN).await.unwrap();
        store.close().await.unwrap();
    });
}

#[test]
fn what_is_not_a_store_is_not_opened() {
    for content in [&b""[..], b"something else, and long enough to look like a header of some kind"] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("academy.redb");
        fs::write(&path, content).unwrap();
        let opened = store::open(&config(dir.path()), Arc::new(ManualClock::default()), Arc::new(NoSink));
        assert!(matches!(opened, Err(OpenError::Corrupt { .. })), "{:?}", opened.err());
        assert_eq!(fs::read(&path).unwrap(), content, "it is left as it was");
    }
    let missing = tempfile::tempdir().unwrap().path().join("gone");
    let opened = store::open(&config(&missing), Arc::new(ManualClock::default()), Arc::new(NoSink));
    assert!(matches!(opened, Err(OpenError::Io { .. })));
}

#[test]
fn a_full_disk_stops_writes_and_not_reads() {
    run(async {
        let bed = Bed::new();
        bed.say("r", "7", "x").await;
        bed.store.close().await.unwrap();
        let full = StoreConfig { min_free_bytes: u64::MAX, min_free_admin_bytes: u64::MAX, ..config(bed.dir.path()) };
        let store = Desk::new(store::open(&full, bed.clock.clone(), Arc::new(NoSink)).unwrap(), bed.clock.clone());
        assert!(matches!(store.ready(), Err(StoreError::Full(_))));
        let post = store.append_message(draft("r", "7", "y", None), OPEN).await;
        assert!(matches!(post, Err(StoreError::Full(_))), "{post:?}");
        assert_eq!(store.history(room("r"), author("7"), latest(9), OPEN).await.unwrap().messages.len(), 1);
        // People still come in and read, without being noted.
        assert!(matches!(store.arrive(actor("7", &[]), bed.now(), 5).await, Err(StoreError::Full(_))));
        assert_eq!(store.arrival(actor("7", &[]), 5).await.unwrap().unread, 0);
        assert_eq!(store.history(room("r"), author("new"), latest(9), OPEN).await.unwrap().messages.len(), 1);
        // So full that nothing is taken any more, whatever it would free.
        assert!(matches!(store.release(Subject::User(user("7"))).await, Err(StoreError::Full(_))));
        store.close().await.unwrap();
    });
}

#[test]
fn below_the_first_floor_what_takes_rights_away_or_makes_room_goes_on() {
    run(async {
        let bed = Bed::new();
        for who in ["7", "8"] {
            bed.say("r", who, "x").await;
            bed.say("gone", who, "x").await;
        }
        bed.store.set_member(room("r"), user("8"), Membership::Member).await.unwrap();
        bed.store.close().await.unwrap();
        let full = StoreConfig { min_free_bytes: u64::MAX, ..config(bed.dir.path()) };
        let opened = store::open(&full, bed.clock.clone(), bed.heard.clone()).unwrap();
        let store = Desk::new(opened, bed.clock.clone());
        assert!(matches!(store.ready(), Err(StoreError::Full(_))));
        for refused in [
            store.append_message(draft("r", "7", "y", None), OPEN).await.map(drop),
            store.edit_message(change("r", 1, author("7")), "y".into(), OPEN).await.map(drop),
            store.set_member(room("r"), user("9"), Membership::Member).await.map(drop),
            store.create_room(RoomDraft { id: room("q"), name: None, private: true, members: vec![] }).await.map(drop),
            store.notify(note(Audience::All, "n"), None).await.map(drop),
            store.sync_progress(user("7"), vec![report("1", 1.0, 1, None)], bed.now()).await.map(drop),
            store.first_answer(key("svc", "k"), "{}", 1).await.map(drop),
        ] {
            assert!(matches!(refused, Err(StoreError::Full(_))), "{refused:?}");
        }
        let banned =
            Banned { ban: Ban::User(user("9")), before: Timestamp(0), until: None, by: "root".into(), at: bed.now() };
        store.act(SetBan { banned }, act(action::USER_BLOCK, "user 9")).await.unwrap();
        store.lift(Ban::User(user("9"))).await.unwrap();
        store.ask(Disconnect { user: user("8") }).await.unwrap();
        store.patch_room(room("r"), RoomPatch { private: Some(true), ..RoomPatch::default() }).await.unwrap();
        store.remove_member(room("r"), user("8")).await.unwrap();
        store.delete_message(change("r", 1, author("7")), OPEN).await.unwrap_err();
        store.delete_message(change("r", 1, admin()), OPEN).await.unwrap();
        store.begin_removal(room("gone")).await.unwrap();
        while !store.remove_messages(1).await.unwrap() {}
        let subject = || Subject::User(user("8"));
        let hold = Hold { number: 0, subject: subject(), reason: "x".into(), by: "root".into(), at: bed.now() };
        store.hold(hold).await.unwrap();
        store.release(subject()).await.unwrap();
        store.ask(PruneWithheld { limit: 9 }).await.unwrap();
        store.begin_erasure(user("8")).await.unwrap();
        while !store.erase(user("8"), 1).await.unwrap().is_finished {}
        let purged = store.purge(PurgeKind::Chat, Timestamp(bed.now().0 + 1), PurgeCursor::default(), 100).await;
        assert_eq!(purged.unwrap().purged, 2);
        store.ask(BroadcastsOut { up_to: 1 }).await.unwrap();
        store.ask(NoteBackup { bytes: 7 }).await.unwrap();
        let told: Vec<String> = bed_trail(&store).await;
        assert_eq!(told[0], "user.block: done", "{told:?}");
        assert!(told.last().unwrap().contains("2 purged"), "{told:?}");
        assert_eq!(store.history(room("r"), admin(), latest(9), OPEN).await.unwrap().messages, []);
        store.close().await.unwrap();
        assert_eq!(check(bed.dir.path()).unwrap(), Vec::<String>::new());
    });
}

async fn bed_trail(store: &Desk) -> Vec<String> {
    let records = store.audit(0, 100).await.unwrap();
    records.into_iter().map(|one| format!("{}: {}", one.entry.action, one.entry.outcome)).collect()
}

#[test]
fn closing_answers_everything_that_waits() {
    run(async {
        let bed = Bed::new();
        let waiting: Vec<_> = (0..500)
            .map(|n| {
                let (store, text) = (bed.store.clone(), n.to_string());
                tokio::spawn(async move { store.append_message(draft("r", "7", &text, None), OPEN).await })
            })
            .collect();
        bed.store.close().await.unwrap();
        let mut stored = 0;
        for one in waiting {
            match one.await.unwrap() {
                Ok(_) => stored += 1,
                Err(error) => assert_eq!(error, StoreError::Closed),
            }
        }
        let again = open_quietly(bed.dir.path());
        assert_eq!(again.last_id(), stored, "acknowledged is durable, refused is absent");
        again.close().await.unwrap();
    });
}

#[test]
fn growth_is_counted_once_a_day() {
    run(async {
        let bed = Bed::new();
        bed.say("r", "7", "before").await;
        bed.store.sample(20_000).await.unwrap();
        for n in 0..30 {
            bed.say("r", "7", &n.to_string()).await;
        }
        // A second look on the same day changes nothing.
        bed.store.sample(20_000).await.unwrap();
        bed.store.sample(20_003).await.unwrap();
        // What is too old to tell of today is forgotten.
        bed.store.sample(20_402).await.unwrap();
        bed.store.sample(20_403).await.unwrap();
        bed.store.close().await.unwrap();
        let held = academy_rt::store::embedded::offline::rows::Held::take(bed.dir.path()).unwrap();
        let stats = held.open().unwrap().stats().unwrap();
        let of = |name: &str| stats.iter().find(|table| table.name == name).unwrap().clone();
        assert_eq!((of("messages").rows, of("growth").rows), (31, 3));
        assert_eq!(of("messages").rows_a_day, Some(0.0), "from the 20,003rd day on nobody wrote");
        assert!(of("messages").stored_bytes > 31 * 20);
    });
}

#[test]
fn growth_is_rows_a_day() {
    run(async {
        let bed = Bed::new();
        bed.say("r", "7", "before").await;
        bed.store.sample(20_000).await.unwrap();
        for n in 0..30 {
            bed.say("r", "7", &n.to_string()).await;
        }
        bed.store.sample(20_003).await.unwrap();
        bed.store.close().await.unwrap();
        let held = academy_rt::store::embedded::offline::rows::Held::take(bed.dir.path()).unwrap();
        let stats = held.open().unwrap().stats().unwrap();
        assert_eq!(stats.iter().find(|table| table.name == "messages").unwrap().rows_a_day, Some(10.0));
    });
}

#[test]
fn a_notification_for_ten_thousand_people_is_stored_once() {
    run(async {
        let mut bed = Bed::new();
        // Fewer at a time than the writer's queue holds.
        for first in (1..=10_000).step_by(1_000) {
            let people = (first..first + 1_000).map(|n| actor(&n.to_string(), &[Role::Learner]));
            let arrivals = people.map(|person| bed.store.arrive(person, bed.now(), 0));
            assert!(futures_util::future::join_all(arrivals).await.iter().all(Result::is_ok));
        }
        bed.store.close().await.unwrap();
        let before = holds(bed.dir.path());
        assert!(before.iter().any(|table| table.rows == 10_000), "so many people are known: {before:?}");
        bed.store = open_quietly(bed.dir.path());
        bed.store.notify(note(Audience::All, "to everybody"), None).await.unwrap();
        bed.store.notify(note(Audience::Role(Role::Learner), "to every learner"), None).await.unwrap();
        for who in ["1", "4711", "10000"] {
            let inbox = bed.store.inbox(actor(who, &[Role::Learner]), InboxQuery { limit: 9, ..InboxQuery::default() });
            assert_eq!(inbox.await.unwrap().unread, 2);
        }
        bed.store.close().await.unwrap();
        let after = holds(bed.dir.path());
        let sum = |all: &[TableDigest]| all.iter().fold((0, 0), |sum, one| (sum.0 + one.rows, sum.1 + one.bytes));
        let ((rows_before, bytes_before), (rows, bytes)) = (sum(&before), sum(&after));
        // The kept counts of an audience are a row of each of four levels.
        assert_eq!(
            rows - rows_before,
            4 + 8,
            "one row each, and one in the index of its audience: {before:?} {after:?}"
        );
        assert!(bytes - bytes_before < 500, "{} bytes", bytes - bytes_before);
        // Who reads all of it adds one row of their own, whatever they had; and of each of the
        // newest 200 when they read it, and that one more has read it.
        bed.store = open_quietly(bed.dir.path());
        let all = bed.store.mark_inbox(
            actor("4711", &[Role::Learner]),
            Selection::All { up_to: None },
            InboxAction::Read,
            None,
        );
        assert_eq!(all.await.unwrap(), (vec![], 0));
        // A search among so many looks at them in parts.
        let search = |after| ListQuery { after, limit: 50, text: Some("nobody".to_owned()) };
        let page = bed.store.list_users(search(None)).await.unwrap();
        assert_eq!(
            (page.items.len(), page.next.as_deref()),
            (0, Some("9999")),
            "the last of {LOOKED_AT} in their order"
        );
        let page = bed.store.list_users(search(page.next)).await.unwrap();
        assert_eq!((page.items.len(), page.next), (0, None));
        bed.store.close().await.unwrap();
        let added = sum(&holds(bed.dir.path())).0 - rows;
        assert!(added <= 1 + 2 * 2, "{added} rows: {:?} {after:?}", holds(bed.dir.path()));
    });
}
