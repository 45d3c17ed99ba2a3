//! The audit trail, holds, exports, erasures and purges, on each engine.

use academy_rt::domain::audit::Link;
use academy_rt::domain::privacy::ErasureCounts;
use academy_rt::store::InboxQuery;

use super::*;

pub fn entry(who: &str, what: &str, at: u64) -> AuditEntry {
    AuditEntry {
        at: Timestamp(at),
        actor: who.into(),
        origin: "10.0.0.1".into(),
        action: action::USER_EXPORT.into(),
        target: what.into(),
        outcome: "done".into(),
    }
}

/// Erases in slices to the end, and gives what is gone.
pub async fn erase_all(bed: &Bed, who: &str, slice: usize) -> Result<ErasureCounts, StoreError> {
    let mut counts = ErasureCounts::default();
    loop {
        let step = bed.store.erase(user(who), slice).await?;
        assert!(step.counts.total() <= slice as u64, "a slice of {slice} erased {:?}", step.counts);
        counts = counts.plus(step.counts);
        if step.is_finished {
            return Ok(counts);
        }
    }
}

/// Purges in slices to the end, and gives how many were purged.
pub async fn purge_all(bed: &Bed, kind: PurgeKind, before: Timestamp, slice: usize) -> Result<u64, StoreError> {
    let (mut cursor, mut purged) = (PurgeCursor::default(), 0);
    for _ in 0..10_000 {
        let PurgeStep { purged: more, next, .. } = bed.store.purge(kind, before, cursor, slice).await?;
        assert!(more <= slice as u64, "a slice of {slice} purged {more}");
        purged += more;
        match next {
            Some(next) => cursor = next,
            None => return Ok(purged),
        }
    }
    panic!("a purge of {kind:?} in slices of {slice} does not end");
}

pub fn hold(subject: Subject) -> Hold {
    Hold { number: 0, subject, reason: "case 12".into(), by: "root".into(), at: Timestamp(5) }
}

pub async fn the_trail_is_a_chain(bed: Bed) {
    let store = &bed.store;
    assert_eq!(store.audit_ends().await.unwrap(), (Link::START, Link::START));
    for n in 1..=5 {
        assert_eq!(store.record(entry("root", &n.to_string(), n)).await.unwrap().number, n);
    }
    let records = store.audit(0, 100).await.unwrap();
    let end = records.iter().try_fold(Link::START, |link, record| link.follow(record)).unwrap();
    assert_eq!(store.audit_ends().await.unwrap(), (Link::START, end));
    assert_eq!(store.audit(3, 1).await.unwrap()[0].number, 4);
    assert_eq!(purge_all(&bed, PurgeKind::Audit, Timestamp(4), 2).await, Ok(3));
    let (anchor, head) = store.audit_ends().await.unwrap();
    // The purge itself is told by two records.
    assert_eq!((anchor.number, head.number), (3, 7));
    let left = store.audit(0, 100).await.unwrap();
    assert_eq!(left.iter().try_fold(anchor, |link, record| link.follow(record)), Ok(head));
    assert_eq!(Link::from(&left[1]), end);
    let told: Vec<&str> = left[2..].iter().map(|record| record.entry.outcome.as_str()).collect();
    assert_eq!(told, ["begun", "done: 3 purged, 0 held"]);
    // A trail that was purged to its end goes on where it ended.
    assert_eq!(purge_all(&bed, PurgeKind::Audit, Timestamp(u64::MAX), 100).await, Ok(4));
    assert_eq!(store.record(entry("root", "next", 9)).await.unwrap().number, 10);
}

pub async fn holds_on_one_subject_stand_beside_each_other(bed: Bed) {
    let store = &bed.store;
    let held = hold(Subject::User(user("7")));
    let other = Hold { reason: "case 13".into(), ..held.clone() };
    assert_eq!(store.hold(held.clone()).await.unwrap().number, 1);
    assert_eq!(store.hold(hold(Subject::Room(room("r")))).await.unwrap().number, 2);
    assert_eq!(store.hold(other.clone()).await.unwrap().number, 3);
    let again = store.hold(Hold { at: Timestamp(9), by: "another".into(), ..other }).await.unwrap();
    assert_eq!((again.number, again.at), (3, held.at), "of the same reason it is the one that stands");
    let numbers: Vec<u64> = store.holds().await.unwrap().iter().map(|hold| hold.number).collect();
    assert_eq!(numbers, [2, 1, 3]);
    // Which one is meant must be said.
    let several = Refusal::SeveralHolds("hold 1 (case 12), hold 3 (case 13)".into());
    refused(store.release(held.subject.clone()).await, several);
    let release = |number| store.ask(ReleaseHold { subject: held.subject.clone(), number: Some(number) });
    refused(release(2).await, Refusal::NotFound);
    assert_eq!(release(1).await.unwrap().reason, "case 12");
    refused(release(1).await, Refusal::NotFound);
    store.append_message(draft("s", "7", "evidence", None), OPEN).await.unwrap();
    refused(store.begin_erasure(user("7")).await.map(drop), Refusal::Held("user 7 (case 13)".into()));
    // A number is given once, over a restart, too.
    let bed = bed.reopen().await;
    let store = &bed.store;
    assert_eq!(store.release(held.subject.clone()).await.unwrap().number, 3);
    refused(store.release(held.subject.clone()).await, Refusal::NotFound);
    loop {
        match store.hold(held.clone()).await {
            Ok(hold) => break assert_eq!(hold.number, 4),
            Err(StoreError::Refused(Refusal::Unsettled)) => _ = store.ask(PruneWithheld { limit: 100 }).await,
            Err(error) => panic!("{error}"),
        }
    }
    bed.end().await;
}

/// Everything that can be stored of user 7, beside what others have.
pub async fn live(bed: &Bed) -> u64 {
    let store = &bed.store;
    let me = actor("7", &[Role::Learner]);
    store.arrive(me.clone(), Timestamp(10), 10).await.unwrap();
    store.arrive(actor("8", &[Role::Coach]), Timestamp(10), 10).await.unwrap();
    let first = store.append_message(draft("r", "7", "my secret", Some("k1")), OPEN).await.unwrap().id;
    bed.say("r", "8", "an answer").await;
    store.append_message(draft("r", "7", "my other secret", None), OPEN).await.unwrap();
    store.edit_message(change("r", first, author("7")), "my new secret".into(), OPEN).await.unwrap();
    store.mark_read(room("r"), author("7"), first + 1, OPEN).await.unwrap();
    for n in 0..3 {
        let update = report("1", f64::from(n * 10), 5, Some(&format!("s{n}")));
        store.sync_progress(user("7"), vec![update], Timestamp(20)).await.unwrap();
    }
    store.notify(note(Audience::Users(vec![user("7")]), "for me"), None).await.unwrap();
    store.notify(note(Audience::Users(vec![user("7"), user("8")]), "for two"), None).await.unwrap();
    let all = store.notify(note(Audience::All, "for all"), None).await.unwrap().0.id;
    store.mark_inbox(me, Selection::Ids(vec![all]), InboxAction::Read, None).await.unwrap();
    first
}

pub async fn nothing_of_an_erased_person_is_left(bed: Bed) {
    let first = live(&bed).await;
    let store = &bed.store;
    refused(store.erase(user("7"), 10).await, Refusal::NotFound);
    refused(store.begin_erasure(user("nobody")).await, Refusal::NotFound);
    let heard = bed.heard.all().len();
    store.begin_erasure(user("7")).await.unwrap();
    let counts = erase_all(&bed, "7", 2).await.unwrap();
    let expected =
        ErasureCounts { messages: 2, memberships: 1, lessons: 1, versions: 3, notifications: 2, inbox: 2, answers: 4 };
    assert_eq!(counts, expected);
    assert_eq!(store.erasures().await.unwrap()[0].counts, expected);
    // The room is whole, and tells of it as of any deletion.
    let page = store.history(room("r"), author("8"), latest(10), OPEN).await.unwrap();
    let seen: Vec<_> = page.messages.iter().map(|m| (m.seq, m.sender.canonical(), m.content.as_str())).collect();
    let erased = UserId::erased().canonical();
    assert_eq!(seen, [(1, erased.clone(), ""), (2, "8".into(), "an answer"), (3, erased, "")]);
    assert!(page.messages.iter().all(|m| m.sender.canonical() != "7" && m.client_id.is_none()));
    let told = bed.heard.all().split_off(heard);
    assert!(
        matches!(
            &told[..],
            [
                Change::Erased { is_finished: false, .. },
                Change::Deleted { message, .. },
                Change::Deleted { .. },
                Change::Recorded { .. },
                Change::Erased { is_finished: true, .. },
            ] if message.id == first
        ),
        "{told:?}"
    );
    assert!(store.progress(user("7"), LessonFilter::default()).await.unwrap().0.is_empty());
    assert!(store.progress_history(user("7"), lesson("1")).await.unwrap().is_empty());
    assert!(store.rooms_of(user("7")).await.unwrap().is_empty());
    assert_eq!(store.last_seen(vec![user("7")]).await.unwrap(), [None]);
    // What named others too is theirs still.
    let query = InboxQuery { limit: 9, ..InboxQuery::default() };
    let other = store.inbox(actor("8", &[Role::Coach]), query.clone()).await.unwrap();
    let two = other.items.iter().find(|one| one.body.title == "for two").unwrap();
    assert_eq!(two.audience, Audience::Users(vec![user("8")]));
    assert!(store.inbox(actor("7", &[]), query).await.unwrap().items.is_empty());
    refused(store.export(user("7"), 100).await, Refusal::NotFound);
    // Who comes again is somebody new.
    let again = store.append_message(draft("r", "7", "hello again", Some("k1")), OPEN).await.unwrap();
    assert!(!again.duplicate && again.seq == 4);
}

pub async fn an_erasure_is_refused_under_a_hold(bed: Bed) {
    live(&bed).await;
    for (subject, named) in
        [(Subject::User(user("7")), "user 7 (case 12)"), (Subject::Room(room("r")), "room r (case 12)")]
    {
        bed.store.hold(hold(subject.clone())).await.unwrap();
        refused(bed.store.begin_erasure(user("7")).await, Refusal::Held(named.into()));
        bed.store.release(subject).await.unwrap();
    }
    bed.store.begin_erasure(user("7")).await.unwrap();
    let too_late = bed.store.hold(hold(Subject::User(user("7")))).await;
    refused(too_late, Refusal::Erasing(user("7")));
    erase_all(&bed, "7", 100).await.unwrap();
    bed.store.hold(hold(Subject::User(user("7")))).await.unwrap();
}

pub async fn a_room_goes_on_behind_what_a_purge_has_taken_also_when_the_store_has_just_been_opened(bed: Bed) {
    // As many messages in one slice as there are, fewer, and one.
    let mut bed = bed;
    for limit in [100, 2, 1] {
        let to = format!("r{limit}");
        for n in 1..=5 {
            bed.store.at(n * 10).append_message(draft(&to, "7", &n.to_string(), None), OPEN).await.unwrap();
        }
        let last_id = bed.store.last_id();
        bed = bed.reopen().await;
        assert_eq!(purge_all(&bed, PurgeKind::Chat, Timestamp(100), limit).await, Ok(5));
        for reopens in [false, true] {
            if reopens {
                bed = bed.reopen().await;
            }
            let entry = bed.store.history(room(&to), author("8"), latest(9), OPEN).await.unwrap();
            assert_eq!(entry.messages, [], "{limit}");
        }
        let said = bed.say(&to, "7", "behind them").await;
        assert_eq!(said.seq, 6, "slices of {limit}: no place in a room is given twice");
        assert!(said.id > last_id, "slices of {limit}: nor is an id");
        assert_eq!(purge_all(&bed, PurgeKind::Chat, Timestamp(bed.now().0 + 1), 9).await, Ok(1));
    }
    bed.end().await;
}

pub async fn what_is_old_is_purged_and_what_is_held_stays(bed: Bed) {
    let store = &bed.store;
    for n in 1..=9 {
        let (who, store) = (if n == 4 { "held" } else { "7" }, store.at(n * 10));
        store.append_message(draft("r", who, &n.to_string(), None), OPEN).await.unwrap();
        store.append_message(draft("kept", "7", &n.to_string(), None), OPEN).await.unwrap();
        if n == 1 {
            store.join_room(room("r"), author("8"), latest(1), OPEN).await.unwrap();
        }
    }
    store.mark_read(room("r"), author("8"), 1, OPEN).await.unwrap();
    store.edit_message(change("r", 3, author("7")), "2!".into(), OPEN).await.unwrap();
    store.hold(hold(Subject::User(user("held")))).await.unwrap();
    store.hold(hold(Subject::Room(room("kept")))).await.unwrap();
    assert_eq!(purge_all(&bed, PurgeKind::Chat, Timestamp(80), 2).await, Ok(6));
    let texts = |to: &'static str| async move {
        let page = store.history(room(to), author("8"), latest(20), OPEN).await.unwrap();
        page.messages.into_iter().map(|m| (m.seq, m.content)).collect::<Vec<_>>()
    };
    let some = |n: u64| (n, n.to_string());
    let none = |n: u64| (n, String::new());
    assert_eq!(texts("r").await, [some(4), none(5), none(6), none(7), some(8), some(9)]);
    assert_eq!(texts("kept").await.len(), 9);
    assert_eq!(store.rooms_of(user("8")).await.unwrap()[0].unread, 3, "4, 8 and 9: what has no content is not unread");
    // When the holds are gone the rest goes, and the room goes on behind it.
    store.release(Subject::User(user("held"))).await.unwrap();
    assert_eq!(purge_all(&bed, PurgeKind::Chat, Timestamp(200), 3).await, Ok(6));
    assert_eq!(texts("r").await, []);
    assert_eq!(bed.say("r", "7", "new").await.seq, 10);
    // Notifications: what a held person has a mark on stays.
    store.arrive(actor("held", &[]), Timestamp(1), 1).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(store.notify(note(Audience::All, &n.to_string()), None).await.unwrap().0.id);
    }
    store.arrive(actor("8", &[]), Timestamp(1), 1).await.unwrap();
    store.hold(hold(Subject::User(user("held")))).await.unwrap();
    let marked = Selection::Ids(vec![ids[2]]);
    store.mark_inbox(actor("held", &[]), marked, InboxAction::Read, None).await.unwrap();
    assert_eq!(purge_all(&bed, PurgeKind::Notifications, Timestamp(bed.now().0 + 1), 2).await, Ok(3));
    let query = InboxQuery { limit: 9, ..InboxQuery::default() };
    let left = store.inbox(actor("held", &[]), query).await.unwrap();
    assert_eq!(left.items.iter().map(|one| one.id).collect::<Vec<_>>(), [ids[2]]);
}

pub async fn an_export_has_everything(bed: Bed) {
    live(&bed).await;
    bed.store.record(entry("7", "own act", 1)).await.unwrap();
    bed.store.record(entry("root", "user 7", 2)).await.unwrap();
    bed.store.record(entry("root", "user 8", 3)).await.unwrap();
    let all = bed.store.export(user("7"), 100).await.unwrap();
    assert_eq!(bed.store.export(user("7"), 1).await.unwrap(), all, "in whatever parts");
    let count = |is: fn(&UserItem) -> bool| all.iter().filter(|item| is(item)).count();
    assert!(matches!(&all[0], UserItem::Profile(profile) if profile.name == "name of 7"));
    assert_eq!(count(|item| matches!(item, UserItem::Room(_))), 1);
    assert_eq!(count(|item| matches!(item, UserItem::Message { message, .. } if message.room == room("r"))), 2);
    assert_eq!(count(|item| matches!(item, UserItem::Lesson(_))), 1);
    assert_eq!(count(|item| matches!(item, UserItem::Version(_))), 3);
    assert_eq!(count(|item| matches!(item, UserItem::Notification { .. })), 3);
    assert_eq!(count(|item| matches!(item, UserItem::Audit(_))), 2);
    assert!(all.is_sorted_by_key(|item| match item {
        UserItem::Profile(_) => 0,
        UserItem::Room(_) => 1,
        UserItem::Message { .. } => 2,
        UserItem::Lesson(_) => 3,
        UserItem::Version(_) => 4,
        UserItem::Notification { .. } => 5,
        UserItem::Notice(_) => 6,
        UserItem::Audit(_) => 7,
        UserItem::Mute(_) => 8,
        UserItem::Report(_) => 9,
        UserItem::Reported(_) => 10,
    }));
}

pub async fn purges_go_on_past_what_is_dated_into_the_future(bed: Bed) {
    let store = &bed.store;
    bed.clock.advance(1_000);
    let ahead = bed.now().0 + 30 * DAY;
    // A notification and a record from while the clock was a month ahead, and old ones behind them.
    let mut ids = Vec::new();
    for at in [10, ahead, 20, 1_900] {
        ids.push(store.at(at).notify(note(Audience::All, "n"), None).await.unwrap().0.id);
        store.record(entry("root", &at.to_string(), at)).await.unwrap();
    }
    for slice in [1, 10] {
        let purged = purge_all(&bed, PurgeKind::Notifications, Timestamp(100), slice).await.unwrap();
        assert_eq!(purged, if slice == 1 { 2 } else { 0 });
    }
    let told = store.replay(actor("9", &[]), Vec::new(), 0, 100).await.unwrap();
    assert!(told.changes.is_empty(), "who never came has none of it");
    assert!(matches!(bed.heard.all().iter().find(|one| matches!(one, Change::Purged { .. })),
        Some(Change::Purged { ids: gone, .. }) if *gone == [ids[0]]));
    assert_eq!(purge_all(&bed, PurgeKind::Audit, Timestamp(100), 10).await, Ok(3));
    let left: Vec<String> = bed.audit_log(0).await.into_iter().map(|(_, target, _)| target).collect();
    assert_eq!(left[0], "1900", "the trail is whole from where it begins: {left:?}");
    bed.end().await;
}

pub async fn an_erasure_asks_for_the_floor_or_for_consent(bed: Bed) {
    let store = &bed.store;
    bed.say("r", "7", "young").await;
    let ask = |store: &Desk, consent| {
        let floor = Duration::from_millis(DAY);
        store.ask(BeginErasure { user: user("7"), by: "root".into(), consent, floor, is_dry_run: false })
    };
    refused(ask(store, false).await.map(drop), Refusal::BelowFloor);
    bed.clock.advance(DAY - 1);
    refused(ask(store, false).await.map(drop), Refusal::BelowFloor);
    let young = store.at(2_000);
    let consented = ask(&young, true).await.unwrap();
    let consented = consented.erasure;
    assert!((consented.consent, consented.by.as_str(), consented.at) == (true, "root", Timestamp(2_000)));
    erase_all(&bed, "7", 10).await.unwrap();
    // Progress and notifications have their age, too.
    for step in 0..2 {
        match step {
            0 => drop(store.sync_progress(user("7"), vec![report("1", 1.0, 1, None)], bed.now()).await.unwrap()),
            _ => drop(store.notify(note(Audience::Users(vec![user("7")]), "n"), None).await.unwrap()),
        }
        refused(ask(store, false).await.map(drop), Refusal::BelowFloor);
        bed.clock.advance(DAY);
        ask(store, false).await.unwrap();
        erase_all(&bed, "7", 10).await.unwrap();
    }
    bed.end().await;
}

pub async fn a_message_is_as_old_as_the_clock_said_however_far_its_room_was_ahead(bed: Bed) {
    let store = &bed.store;
    for at in [900, 10] {
        store.at(at).append_message(draft("r", "7", "x", None), OPEN).await.unwrap();
    }
    let times = store.history(room("r"), author("7"), latest(5), OPEN).await.unwrap().messages;
    assert_eq!(times.iter().map(|one| one.at).collect::<Vec<_>>(), [Timestamp(900); 2]);
    assert_eq!(purge_all(&bed, PurgeKind::Chat, Timestamp(50), 10).await, Ok(2));
    bed.end().await;
}

/// Three rooms that are written to in turn. One of their authors is held, and one of the rooms.
async fn partly_held() -> (Bed, Vec<u64>) {
    let bed = Bed::new();
    let mut ids = Vec::new();
    for n in 1..=24 {
        let (to, who) = (["a", "b", "kept"][n as usize % 3], if n == 6 || n == 7 { "held" } else { "7" });
        let said = bed.store.at(n * 10).append_message(draft(to, who, &n.to_string(), None), OPEN);
        ids.push(said.await.unwrap().id);
    }
    bed.store.edit_message(change("b", ids[9], author("7")), "edited".into(), OPEN).await.unwrap();
    bed.store.hold(hold(Subject::User(user("held")))).await.unwrap();
    bed.store.hold(hold(Subject::Room(room("kept")))).await.unwrap();
    (bed, ids)
}

/// What is told to be gone.
fn told_gone(bed: &Bed) -> Vec<u64> {
    let gone = bed.heard.all().into_iter().filter_map(|change| match change {
        Change::Purged { ids, .. } => Some(ids),
        _ => None,
    });
    gone.flatten().collect()
}

pub async fn a_purge_in_slices_takes_what_one_in_one_go_takes(_: Bed) {
    let mut first = None;
    for slice in [1_000, 1, 2, 3, 5, 9] {
        let (bed, _) = partly_held().await;
        let purged = purge_all(&bed, PurgeKind::Chat, Timestamp(205), slice).await.unwrap();
        let mut left = Vec::new();
        for to in ["a", "b", "kept"] {
            left.extend(bed.store.history(room(to), admin(), latest(99), OPEN).await.unwrap().messages);
        }
        let left: Vec<_> = left.into_iter().map(|one| (one.id, one.content)).collect();
        let told = bed.audit_log(0).await.pop().unwrap().2;
        let outcome = (purged, told, left, told_gone(&bed));
        assert_eq!(*first.get_or_insert_with(|| outcome.clone()), outcome, "in slices of {slice}");
        bed.end().await;
    }
    let (purged, told, ..) = first.unwrap();
    // Of a and b 13 are old, two of them are held; the room that is held counts as one thing.
    assert_eq!((purged, told.as_str()), (11, "done: 11 purged, 3 held"));
}

pub async fn what_lost_its_content_is_told_gone_once(_: Bed) {
    let (bed, ids) = partly_held().await;
    let edit = bed.heard.all().iter().find(|one| matches!(one, Change::Edited { .. })).unwrap().id();
    purge_all(&bed, PurgeKind::Chat, Timestamp(205), 1_000).await.unwrap();
    let gone = told_gone(&bed);
    // It stands behind one that is held, so that its place stays: it is gone with its edit.
    assert!(gone.contains(&ids[9]) && gone.contains(&edit), "{gone:?}");
    bed.store.release(Subject::User(user("held"))).await.unwrap();
    purge_all(&bed, PurgeKind::Chat, Timestamp(205), 1_000).await.unwrap();
    let again = told_gone(&bed).split_off(gone.len());
    assert!(again.contains(&ids[9]) && !again.contains(&edit), "the place goes, too, and nothing else: {again:?}");
    bed.end().await;
}

pub async fn an_erasure_leaves_nothing_of_where_they_wrote(bed: Bed) {
    for n in 0..5 {
        bed.say(&format!("r{n}"), "7", "x").await;
        bed.store.remove_member(room(&format!("r{n}")), user("7")).await.unwrap();
    }
    bed.say("r0", "8", "x").await;
    bed.store.begin_erasure(user("7")).await.unwrap();
    erase_all(&bed, "7", 2).await.unwrap();
    let rows = bed.store.row_counts().await.unwrap();
    assert!(rows.contains(&("authors", 1)), "8 alone has written in a room: {rows:?}");
    bed.end().await;
}

pub async fn who_comes_again_is_erased_again(bed: Bed) {
    let store = &bed.store;
    let me = || actor("7", &[Role::Learner]);
    bed.say("r", "8", "x").await;
    let begin = || {
        let by = "root".to_owned();
        store.ask(BeginErasure { user: user("7"), by, consent: false, floor: Duration::ZERO, is_dry_run: false })
    };
    store.arrive(me(), bed.now(), 9).await.unwrap();
    assert!(begin().await.unwrap().is_new);
    erase_all(&bed, "7", 10).await.unwrap();
    store.arrive(me(), bed.now(), 9).await.unwrap();
    assert!(!begin().await.unwrap().is_new, "who was only seen has nothing that is to be erased");
    for step in 0..6 {
        store.arrive(me(), bed.now(), 9).await.unwrap();
        let later = store.notify(note(Audience::All, "for all"), None).await.unwrap().0.id;
        match step {
            0 => {
                bed.say("r", "7", "x").await;
            }
            1 => store.ask(JoinRoom { room: room("r"), author: author("7"), policy: OPEN }).await.unwrap(),
            2 => drop(store.sync_progress(user("7"), vec![report("1", 1.0, 1, None)], bed.now()).await.unwrap()),
            3 => drop(store.notify(note(Audience::Users(vec![user("7")]), "n"), None).await.unwrap()),
            4 => {
                let read = Selection::All { up_to: Some(later) };
                store.mark_inbox(me(), read, InboxAction::Read, None).await.unwrap();
            }
            _ => drop(store.first_answer(key("7", "k"), "{}", 1).await.unwrap()),
        }
        assert!(begin().await.unwrap().is_new, "{step}");
        erase_all(&bed, "7", 10).await.unwrap();
    }
    bed.end().await;
}
