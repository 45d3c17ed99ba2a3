//! Chat, rooms and replays.

use std::collections::HashSet;

use academy_rt::domain::Id;
use academy_rt::domain::chat::Message;
use academy_rt::domain::privacy::WithheldVersion;
use academy_rt::store::{TranscriptQuery, TranscriptSink};

use super::*;

pub async fn seq_has_no_gaps_under_64_senders(bed: Bed) {
    let mut tasks = Vec::new();
    for sender in 0..64 {
        let store = bed.store.clone();
        tasks.push(tokio::spawn(async move {
            let mut got = Vec::new();
            for n in 0..8 {
                let text = format!("{sender}-{n}");
                got.push(store.append_message(draft("busy", &format!("u{sender}"), &text, None), OPEN).await.unwrap());
            }
            got
        }));
    }
    let mut posted = Vec::new();
    for task in tasks {
        posted.extend(task.await.unwrap());
    }
    posted.sort_by_key(|one| one.seq);
    assert_eq!(posted.iter().map(|one| one.seq).collect::<Vec<_>>(), (1..=512).collect::<Vec<_>>());
    assert!(posted.windows(2).all(|two| two[0].id < two[1].id));
    let heard = bed.heard.all();
    assert_rising(&heard);
    assert_eq!(heard.iter().map(Change::id).collect::<Vec<_>>(), posted.iter().map(|p| p.id).collect::<Vec<_>>());
    assert_eq!(bed.store.last_id(), 512);
}

pub async fn a_repeated_key_gives_the_first_answer(bed: Bed) {
    // Both at once: with group commit they may share a transaction.
    let once = || bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN);
    let (a, b) = tokio::join!(once(), once());
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!((a.id, a.seq, a.at), (b.id, b.seq, b.at));
    assert_ne!(a.duplicate, b.duplicate);
    let again = once().await.unwrap();
    assert!(again.duplicate && again.id == a.id);
    let other = bed.store.append_message(draft("r", "8", "theirs", Some("k")), OPEN).await.unwrap();
    assert!(!other.duplicate, "a key is one user's own");
    assert_eq!(bed.heard.all().len(), 2);
}

pub async fn a_key_with_another_content_is_a_conflict(bed: Bed) {
    let said = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap();
    let reply = Draft { reply_to: Some(said.id), ..draft("r", "7", "one", Some("k")) };
    let image = Draft { kind: MessageKind::Image, ..draft("r", "7", "one", Some("k")) };
    for other in [draft("r", "7", "two", Some("k")), reply, image] {
        refused(bed.store.append_message(other, OPEN).await, Refusal::KeyReused);
    }
    // Whose key it is counts, and not who is named as the sender.
    let as_service = |content: &str| {
        let draft = draft("r", "7", content, None);
        let key = Some(key("svc", "k").of(KeyKind::Message, draft.fingerprint()));
        bed.store.ask(PostMessage { draft, policy: OPEN, key, external_id: None, origin: None })
    };
    let theirs = as_service("of the platform").await.unwrap();
    assert!(!theirs.duplicate && theirs.seq == 2);
    assert!(as_service("of the platform").await.unwrap().duplicate);
    refused(as_service("another").await, Refusal::KeyReused);
    assert_eq!(bed.heard.all().len(), 2);
}

pub async fn the_first_answer_comes_before_the_rules(bed: Bed) {
    let said = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap();
    let patch = RoomPatch { private: Some(true), ..RoomPatch::default() };
    bed.store.patch_room(room("r"), patch).await.unwrap();
    refused(bed.store.append_message(draft("r", "7", "two", None), OPEN).await, Refusal::Forbidden);
    let again = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap();
    assert!(again.duplicate && again.id == said.id);
    let key = |text: &str| key("7", text).of(KeyKind::Message, draft("r", "7", "one", None).fingerprint());
    assert_eq!(bed.store.is_answered(key("k")).await, Ok(true));
    assert_eq!(bed.store.is_answered(key("other")).await, Ok(false));
}

pub async fn keys_hold_a_day(bed: Bed) {
    let first = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap();
    bed.clock.advance(DAY - 1);
    assert!(bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap().duplicate);
    bed.clock.advance(1);
    let later = bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap();
    assert!(!later.duplicate && later.id > first.id);
    bed.clock.advance(DAY / 2);
    assert!(bed.store.append_message(draft("r", "7", "one", Some("k")), OPEN).await.unwrap().duplicate);
}

pub async fn a_key_in_another_room_is_a_conflict(bed: Bed) {
    bed.store.append_message(draft("a", "7", "one", Some("k")), OPEN).await.unwrap();
    refused(bed.store.append_message(draft("b", "7", "one", Some("k")), OPEN).await, Refusal::KeyReused);
    bed.say("b", "8", "exists now").await;
    refused(bed.store.append_message(draft("b", "7", "one", Some("k")), OPEN).await, Refusal::KeyReused);
}

pub async fn kinds_of_keys_do_not_collide(bed: Bed) {
    bed.store.append_message(draft("a", "7", "one", Some("k")), OPEN).await.unwrap();
    let synced = bed.store.sync_progress(user("7"), vec![report("1", 10.0, 1, Some("k"))], bed.now()).await.unwrap();
    assert!(!synced[0].duplicate);
    assert!(!bed.store.notify(note(Audience::All, "t"), Some(key("7", "k"))).await.unwrap().1);
    assert_eq!(bed.store.first_answer(key("7", "k"), "x", 3).await.unwrap(), None);
    assert!(bed.store.append_message(draft("a", "7", "one", Some("k")), OPEN).await.unwrap().duplicate);
    assert!(bed.store.notify(note(Audience::All, "t"), Some(key("7", "k"))).await.unwrap().1);
}

pub async fn edits_and_deletions_ask_for_rights(bed: Bed) {
    let id = bed.say("r", "7", "first").await.id;
    bed.say("other", "7", "x").await;
    let edit = |to: &str, id, who| bed.store.edit_message(change(to, id, who), "second".into(), OPEN);
    refused(edit("r", id, author("8")).await, Refusal::Forbidden);
    refused(edit("other", id, author("7")).await, Refusal::NotFound);
    refused(edit("nowhere", id, author("7")).await, Refusal::NotFound);
    refused(edit("r", 999, author("7")).await, Refusal::NotFound);
    refused(bed.store.edit_message(change("nowhere", 1, author("7")), "x".into(), CLOSED).await, Refusal::Forbidden);
    let now = bed.now().0;
    assert_eq!(edit("r", id, author("7")).await.unwrap(), Timestamp(now));
    assert_eq!(edit("r", id, admin()).await.unwrap(), Timestamp(now + 1), "it rises with each edit");
    let page = bed.store.history(room("r"), author("9"), latest(10), OPEN).await.unwrap();
    assert_eq!((page.messages[0].content.as_str(), page.messages[0].edited_at), ("second", Some(Timestamp(now + 1))));

    refused(bed.store.delete_message(change("r", id, author("8")), OPEN).await, Refusal::Forbidden);
    bed.store.delete_message(change("r", id, author("7")), OPEN).await.unwrap();
    refused(bed.store.delete_message(change("r", id, author("7")), OPEN).await, Refusal::NotFound);
    refused(edit("r", id, author("7")).await, Refusal::NotFound);
    let page = bed.store.history(room("r"), author("9"), latest(10), OPEN).await.unwrap();
    let stone = &page.messages[0];
    assert_eq!((stone.content.as_str(), stone.deleted_at, stone.seq), ("", Some(Timestamp(now + 2)), 1));
    let heard = bed.heard.all();
    assert_rising(&heard);
    assert!(matches!(heard.last(), Some(Change::Deleted { message, .. }) if message.id == id));
}

pub async fn a_closed_house_lets_nobody_register_a_room(bed: Bed) {
    refused(bed.store.append_message(draft("r", "7", "x", None), CLOSED).await, Refusal::Forbidden);
    refused(bed.store.may_enter(room("r"), author("7"), CLOSED).await, Refusal::Forbidden);
    refused(bed.store.history(room("r"), author("7"), latest(1), CLOSED).await, Refusal::Forbidden);
    refused(bed.store.join_room(room("r"), author("7"), latest(1), CLOSED).await, Refusal::Forbidden);
    refused(bed.store.mark_read(room("r"), author("7"), 1, CLOSED).await, Refusal::Forbidden);
    bed.store.may_enter(room("r"), author("7"), OPEN).await.unwrap();
    assert_eq!(bed.store.last_id(), 0, "a refusal leaves no trace");
    let by_admin = Draft { author: admin(), ..draft("r", "7", "x", None) };
    bed.store.append_message(by_admin, CLOSED).await.unwrap();
    // What an administrator begins is nobody else's by that: there is one more room, and nobody can tell.
    refused(bed.store.append_message(draft("r", "7", "x", None), CLOSED).await, Refusal::Forbidden);
    refused(bed.store.may_enter(room("r"), author("7"), CLOSED).await, Refusal::Forbidden);
    bed.store.set_member(room("r"), user("7"), Membership::Member).await.unwrap();
    bed.store.append_message(draft("r", "7", "now they are in it", None), CLOSED).await.unwrap();
}

pub async fn pages_go_both_ways(bed: Bed) {
    let mut ids = Vec::new();
    for n in 0..10 {
        ids.push(bed.say("r", "7", &n.to_string()).await.id);
        bed.say("noise", "8", "x").await;
    }
    let page = |page: Page| bed.store.history(room("r"), author("9"), page, OPEN);
    let ids_of = |page: &MessagePage| page.messages.iter().map(|m| m.id).collect::<Vec<_>>();
    let last = page(latest(3)).await.unwrap();
    assert_eq!((ids_of(&last), last.has_more), (ids[7..].to_vec(), true));
    assert_eq!((last.last_id, last.last_seq, last.read_up_to), (ids[9], 10, 0));
    let before = page(Page { before: Some(ids[7]), limit: 7, after: None }).await.unwrap();
    assert_eq!((ids_of(&before), before.has_more), (ids[..7].to_vec(), false));
    let after = page(Page { after: Some(ids[1]), limit: 4, before: None }).await.unwrap();
    assert_eq!((ids_of(&after), after.has_more), (ids[2..6].to_vec(), true));
    // With both it is the range between them, ascending from `after`.
    let between = |limit| page(Page { after: Some(ids[1]), limit, before: Some(ids[5]) });
    let whole = between(3).await.unwrap();
    assert_eq!((ids_of(&whole), whole.has_more), (ids[2..5].to_vec(), false));
    let part = between(2).await.unwrap();
    assert_eq!((ids_of(&part), part.has_more), (ids[2..4].to_vec(), true));
    let turned = page(Page { after: Some(ids[5]), limit: 4, before: Some(ids[1]) }).await.unwrap();
    assert!(turned.messages.is_empty() && !turned.has_more);
    let after = page(Page { after: Some(ids[5]), limit: 4, before: None }).await.unwrap();
    assert_eq!((ids_of(&after), after.has_more), (ids[6..].to_vec(), false));
    let none = page(latest(0)).await.unwrap();
    assert!(none.messages.is_empty() && none.has_more);
    let all = page(latest(usize::MAX)).await.unwrap();
    assert!(all.messages.len() == 10 && !all.has_more);
    let nowhere = bed.store.history(room("nowhere"), author("9"), latest(3), OPEN).await.unwrap();
    assert_eq!(nowhere, MessagePage { is_settled: true, ..MessagePage::default() });
}

pub async fn a_cursor_from_the_future_is_refused(bed: Bed) {
    let last = bed.say("r", "7", "x").await.id;
    let ask = |after| Page { after: Some(after), limit: 5, before: None };
    assert!(bed.store.history(room("r"), author("7"), ask(last), OPEN).await.unwrap().messages.is_empty());
    refused(bed.store.history(room("r"), author("7"), ask(last + 1), OPEN).await, Refusal::Resync);
    refused(bed.store.join_room(room("r"), author("7"), ask(last + 1), OPEN).await, Refusal::Resync);
    refused(bed.store.replay(actor("7", &[]), vec![room("r")], last + 1, 10).await, Refusal::Resync);
}

pub async fn read_marks_move_forward_alone(bed: Bed) {
    let first = bed.say("r", "7", "1").await.id;
    let second = bed.say("r", "7", "2").await.id;
    let elsewhere = bed.say("s", "7", "3").await.id;
    let read = |id| bed.store.mark_read(room("r"), author("8"), id, OPEN);
    refused(read(elsewhere).await, Refusal::NotFound);
    refused(bed.store.mark_read(room("nowhere"), author("8"), 1, OPEN).await, Refusal::NotFound);
    assert_eq!(read(second).await.unwrap().message_id, second);
    let heard = bed.heard.all().len();
    assert_eq!(read(first).await.unwrap().message_id, second);
    assert_eq!(read(second).await.unwrap().message_id, second);
    assert_eq!(bed.heard.all().len(), heard, "a mark that does not move is not told");
    let page = bed.store.history(room("r"), author("8"), latest(1), OPEN).await.unwrap();
    assert_eq!(page.read_up_to, second);
}

pub async fn rooms_of_counts_what_is_unread(bed: Bed) {
    bed.say("a", "7", "1").await;
    let second = bed.say("a", "8", "2").await.id;
    bed.say("a", "8", "3").await;
    bed.say("b", "7", "4").await;
    let rooms = bed.store.rooms_of(user("7")).await.unwrap();
    let shown: Vec<_> = rooms.iter().map(|one| (one.room.id.canonical(), one.unread, one.membership)).collect();
    assert_eq!(shown, [("b".to_owned(), 0, Membership::Guest), ("a".to_owned(), 2, Membership::Guest)]);
    bed.store.mark_read(room("a"), author("7"), second, OPEN).await.unwrap();
    let rooms = bed.store.rooms_of(user("7")).await.unwrap();
    assert_eq!((rooms[1].unread, rooms[1].read_up_to), (1, second));
    assert!(bed.store.rooms_of(user("stranger")).await.unwrap().is_empty());
}

pub async fn joining_takes_part(bed: Bed) {
    bed.store.join_room(room("later"), author("9"), latest(5), OPEN).await.unwrap();
    assert!(bed.store.rooms_of(user("9")).await.unwrap().is_empty(), "a room that is not registered has no part");
    bed.say("r", "7", "1").await;
    let page = bed.store.join_room(room("r"), author("9"), latest(5), OPEN).await.unwrap();
    assert_eq!((page.messages.len(), page.last_seq), (1, 1));
    let rooms = bed.store.rooms_of(user("9")).await.unwrap();
    assert_eq!((rooms.len(), rooms[0].unread), (1, 0), "what was said before one came is not unread");
    bed.say("r", "7", "2").await;
    assert_eq!(bed.store.rooms_of(user("9")).await.unwrap()[0].unread, 1);
    let before = bed.store.last_id();
    bed.store.join_room(room("r"), author("9"), latest(5), OPEN).await.unwrap();
    assert_eq!(bed.store.last_id(), before);
}

pub async fn ids_keep_the_type_of_the_request(bed: Bed) {
    let number = RoomId::new(Id::Number(5)).unwrap();
    let text = RoomId::new(Id::Text("5".into())).unwrap();
    let sender = UserId::new(Id::Text("7".into())).unwrap();
    let who = Author { user: sender, name: "n".into(), admin: false };
    let one = Draft { room: number.clone(), author: who.clone(), ..draft("x", "x", "1", None) };
    let two = Draft { room: text.clone(), ..one.clone() };
    bed.store.append_message(one, OPEN).await.unwrap();
    assert_eq!(bed.store.append_message(two, OPEN).await.unwrap().seq, 2);
    let types = |heard: &[Change]| {
        heard
            .iter()
            .map(|change| match change {
                Change::Posted { message, .. } => {
                    (matches!(message.room.id(), Id::Number(_)), matches!(message.sender.id(), Id::Number(_)))
                }
                _ => panic!("only posts"),
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(types(&bed.heard.all()), [(true, false), (false, false)]);
    let page = bed.store.history(number.clone(), author("7"), latest(5), OPEN).await.unwrap();
    assert!(page.messages.iter().all(|m| matches!(m.room.id(), Id::Number(5)) && matches!(m.sender.id(), Id::Text(_))));
    let told = bed.store.replay(actor("8", &[]), vec![text, number], 0, 10).await.unwrap();
    assert_eq!(types(&told.changes), [(false, false), (false, false)]);
    let shown = &bed.store.rooms_of(user("7")).await.unwrap()[0].room.id;
    assert!(matches!(shown.id(), Id::Number(5)), "as first given");
}

pub async fn replay_tells_what_the_sink_heard(bed: Bed) {
    let me = actor("7", &[Role::Learner]);
    bed.store.arrive(me.clone(), bed.now(), 10).await.unwrap();
    let cursor = bed.store.last_id();
    let first = bed.say("r", "7", "1").await.id;
    let second = bed.say("r", "8", "2").await.id;
    bed.store.edit_message(change("r", first, author("7")), "1!".into(), OPEN).await.unwrap();
    bed.store.mark_read(room("r"), author("7"), second, OPEN).await.unwrap();
    bed.store.sync_progress(user("7"), vec![report("1", 10.0, 1, None)], bed.now()).await.unwrap();
    let note_id = bed.store.notify(note(Audience::Role(Role::Learner), "t"), None).await.unwrap().0.id;
    bed.store.mark_inbox(me.clone(), Selection::Ids(vec![note_id]), InboxAction::Read, None).await.unwrap();
    let told = bed.store.replay(me.clone(), vec![room("r")], cursor, 100).await.unwrap();
    // What was changed since is told as it is now.
    let mut expected = bed.heard.all();
    for one in &mut expected {
        match one {
            Change::Posted { message, .. } if message.id == first => {
                let mut now = (**message).clone();
                now.content = "1!".into();
                now.edited_at = Some(bed.now());
                *message = Arc::new(now);
            }
            Change::Notified(notification) => notification.read = true,
            _ => {}
        }
    }
    assert_eq!(told.changes, expected);
    assert_eq!((told.up_to, told.has_more), (bed.store.last_id(), false));
    // Others see the room alone, strangers to it nothing.
    let other = bed.store.replay(actor("9", &[]), vec![room("r")], cursor, 100).await.unwrap();
    assert_eq!(other.changes.len(), 4);
    assert!(bed.store.replay(actor("9", &[]), Vec::new(), cursor, 100).await.unwrap().changes.is_empty());
    // The latest of each message alone.
    bed.store.edit_message(change("r", first, author("7")), "1!!".into(), OPEN).await.unwrap();
    bed.store.delete_message(change("r", first, author("7")), OPEN).await.unwrap();
    let other = bed.store.replay(actor("9", &[]), vec![room("r")], cursor, 100).await.unwrap();
    let edits = other.changes.iter().filter(|one| matches!(one, Change::Edited { .. })).count();
    let deletions = other.changes.iter().filter(|one| matches!(one, Change::Deleted { .. })).count();
    assert_eq!((edits, deletions, other.changes.len()), (0, 1, 4));
}

pub async fn a_replay_comes_in_parts(bed: Bed) {
    for n in 0..7 {
        bed.say(if n % 2 == 0 { "a" } else { "b" }, "7", &n.to_string()).await;
    }
    let (mut cursor, mut seen) = (0, Vec::new());
    loop {
        let part = bed.store.replay(actor("8", &[]), vec![room("a"), room("b")], cursor, 3).await.unwrap();
        seen.extend(part.changes.iter().map(Change::id));
        cursor = part.up_to;
        if !part.has_more {
            break;
        }
        assert_eq!(part.changes.len(), 3);
    }
    assert_eq!(seen, (1..=7).collect::<Vec<_>>());
    assert_eq!(seen.iter().collect::<HashSet<_>>().len(), 7);
}

pub async fn a_closed_store_says_so(bed: Bed) {
    bed.say("r", "7", "1").await;
    bed.store.ready().unwrap();
    bed.store.close().await.unwrap();
    bed.store.close().await.unwrap();
    assert_eq!(bed.store.ready(), Err(StoreError::Closed));
    assert_eq!(bed.store.append_message(draft("r", "7", "2", None), OPEN).await, Err(StoreError::Closed));
    assert_eq!(bed.store.rooms_of(user("7")).await, Err(StoreError::Closed));
}

pub async fn times_of_a_room_never_fall(bed: Bed) {
    let at = |ms, to: &'static str, text: &str| bed.store.at(ms).append_message(draft(to, "7", text, None), OPEN);
    let said = at(5_000, "r", "1").await.unwrap();
    // The clock goes back by an hour, and comes again; another room knows nothing of it.
    assert_eq!(at(1_400, "r", "2").await.unwrap().at, Timestamp(5_000));
    assert_eq!(at(1_500, "s", "3").await.unwrap().at, Timestamp(1_500));
    let bed = bed.reopen().await;
    let at = |ms, to: &'static str, text: &str| bed.store.at(ms).append_message(draft(to, "7", text, None), OPEN);
    assert_eq!(at(1_600, "r", "4").await.unwrap().at, Timestamp(5_000));
    assert_eq!(at(6_000, "r", "5").await.unwrap().at, Timestamp(6_000));
    // A change is never before its message, nor before the change before it.
    let one = || change("r", said.id, author("7"));
    let edit = |ms| bed.store.at(ms).edit_message(one(), ms.to_string(), OPEN);
    assert_eq!(edit(2_000).await.unwrap(), Timestamp(5_000));
    assert_eq!(edit(9_000).await.unwrap(), Timestamp(9_000));
    assert_eq!(edit(2_000).await.unwrap(), Timestamp(9_001));
    assert_eq!(bed.store.at(2_000).delete_message(one(), OPEN).await.unwrap(), Timestamp(9_002));
    let heard = bed.heard.all();
    assert_rising(&heard);
    let changes = heard.iter().filter(|one| matches!(one, Change::Edited { .. } | Change::Deleted { .. }));
    assert_eq!(changes.count(), 4, "each with an id of its own, by which a client orders them");
    bed.end().await;
}

pub async fn what_is_deleted_is_not_unread(bed: Bed) {
    async fn unread(bed: &Bed, who: &str) -> u64 {
        bed.store.rooms_of(user(who)).await.unwrap().iter().find(|one| one.room.id == room("r")).unwrap().unread
    }
    bed.say("r", "7", "before they came").await;
    bed.store.join_room(room("r"), author("8"), latest(1), OPEN).await.unwrap();
    let mut ids = Vec::new();
    for n in 0..600 {
        ids.push(bed.say("r", "7", &n.to_string()).await.id);
    }
    assert_eq!((unread(&bed, "8").await, unread(&bed, "7").await), (600, 0), "what one has said oneself one has read");
    for id in ids.iter().step_by(3) {
        bed.store.delete_message(change("r", *id, author("7")), OPEN).await.unwrap();
    }
    assert_eq!(unread(&bed, "8").await, 400);
    for (read, left) in [(0, 400), (1, 399), (2, 398), (3, 398), (299, 200), (598, 1), (599, 0)] {
        bed.store.mark_read(room("r"), author("8"), ids[read], OPEN).await.unwrap();
        assert_eq!(unread(&bed, "8").await, left, "read up to {read}");
    }
    // A deletion of what was read changes nothing; one behind it counts.
    bed.store.delete_message(change("r", ids[1], author("7")), OPEN).await.unwrap();
    assert_eq!(unread(&bed, "8").await, 0);
    let two = [bed.say("r", "7", "x").await.id, bed.say("r", "7", "y").await.id];
    assert_eq!(unread(&bed, "8").await, 2);
    bed.store.delete_message(change("r", two[0], author("7")), OPEN).await.unwrap();
    assert_eq!(unread(&bed, "8").await, 1);
    let bed = bed.reopen().await;
    assert_eq!(unread(&bed, "8").await, 1);
    bed.end().await;
}

pub async fn who_posts_has_read_what_they_posted(bed: Bed) {
    let store = &bed.store;
    bed.say("r", "8", "1").await;
    bed.say("r", "8", "2").await;
    let page = |who: &'static str| store.history(room("r"), author(who), latest(1), OPEN);
    let answer = bed.say("r", "7", "I have read all of it").await.id;
    assert_eq!(page("7").await.unwrap().read_up_to, answer);
    let unread = |rooms: Vec<academy_rt::domain::chat::RoomSummary>| rooms[0].unread;
    assert_eq!(unread(store.rooms_of(user("7")).await.unwrap()), 0);
    assert_eq!(unread(store.rooms_of(user("8")).await.unwrap()), 1);
    // The socket that has posted is known to whoever tells the others.
    let draft = draft("r", "8", "from a socket", None);
    let post = PostMessage { draft, policy: OPEN, key: None, external_id: None, origin: Some(42) };
    store.ask(post).await.unwrap();
    assert!(matches!(bed.heard.all().last(), Some(Change::Posted { origin: Some(42), .. })));
    // A mark that was set by hand and told stays told once.
    store.mark_read(room("r"), author("7"), answer + 1, OPEN).await.unwrap();
    bed.say("r", "7", "and more").await;
    let told = store.replay(actor("9", &[]), vec![room("r")], 0, 100).await.unwrap();
    let marks = told.changes.iter().filter(|one| matches!(one, Change::Read { .. })).count();
    assert_eq!(marks, 1);
    bed.end().await;
}

pub async fn a_room_that_was_left_is_not_listed(bed: Bed) {
    let store = &bed.store;
    bed.say("r", "7", "1").await;
    let is_listed = |who: &'static str| async move { !store.rooms_of(user(who)).await.unwrap().is_empty() };
    let join = |who: &'static str| store.join_room(room("r"), author(who), latest(1), OPEN);
    join("8").await.unwrap();
    store.set_member(room("r"), user("9"), Membership::Member).await.unwrap();
    for who in ["8", "9"] {
        assert!(is_listed(who).await);
        store.leave_room("r", who).await.unwrap();
        assert!(!is_listed(who).await);
        // Once more, by somebody who has never been here, of a room that is not there.
        store.leave_room("r", who).await.unwrap();
        store.leave_room("nowhere", who).await.unwrap();
    }
    store.leave_room("r", "stranger").await.unwrap();
    // A member is to know of what goes on, a guest has gone.
    bed.say("r", "7", "2").await;
    assert!(is_listed("9").await && !is_listed("8").await);
    let page = join("8").await.unwrap();
    assert!(page.is_settled && is_listed("8").await);
    assert_eq!(store.rooms_of(user("8")).await.unwrap()[0].unread, 1, "what was said meanwhile");
    store.leave_room("r", "8").await.unwrap();
    let page = store.history(room("r"), author("8"), latest(1), OPEN).await.unwrap();
    assert!(!page.is_settled && !is_listed("8").await, "reading is no coming back");
    bed.say("r", "8", "but a word of their own is").await;
    assert!(is_listed("8").await);
    bed.end().await;
}

pub async fn who_was_there_before_the_first_word_takes_part(bed: Bed) {
    bed.say("r", "7", "the first word").await;
    let users = vec![user("8"), user("9")];
    bed.store.ask(EnlistMembers { room: room("r"), users, policy: OPEN }).await.unwrap();
    for who in ["8", "9"] {
        let rooms = bed.store.rooms_of(user(who)).await.unwrap();
        assert_eq!((rooms.len(), rooms[0].unread, rooms[0].membership), (1, 1, Membership::Guest));
    }
    // Who has no right to it has no part in it.
    let by_admin = Draft { author: admin(), ..draft("closed", "x", "x", None) };
    bed.store.append_message(by_admin, CLOSED).await.unwrap();
    for to in ["closed", "nowhere"] {
        let enlist = EnlistMembers { room: room(to), users: vec![user("8")], policy: CLOSED };
        bed.store.ask(enlist).await.unwrap();
    }
    assert_eq!(bed.store.rooms_of(user("8")).await.unwrap().len(), 1);
    bed.end().await;
}

pub async fn a_back_end_names_its_messages(bed: Bed) {
    let store = &bed.store;
    let external = |caller: &str, name: &str| ExternalId { caller: user(caller), name: name.into() };
    let post = |to: &str, caller: &str, content: &str| {
        let draft = draft(to, "7", content, None);
        let external_id = Some(external(caller, "order-1"));
        store.ask(PostMessage { draft, policy: OPEN, key: None, external_id, origin: None })
    };
    let first = post("r", "svc", "one").await.unwrap();
    let before = store.last_id();
    refused(post("r", "svc", "another").await.map(drop), Refusal::Conflict);
    assert_eq!(store.last_id(), before);
    // The name belongs to who gave it, and to the room.
    let others = [post("r", "other", "two").await.unwrap(), post("s", "svc", "three").await.unwrap()];
    let by = |caller: &str, name: &str| {
        let (target, author) = (MessageTarget::External(external(caller, name)), author("7"));
        One { room: room("r"), target, author }
    };
    let edit = |key: Option<RequestKey>, content: &str| {
        let One { room, target, author } = by("svc", "order-1");
        store.ask(EditMessage { room, target, author, content: content.into(), policy: OPEN, key, act: None })
    };
    let keyed = |content: &str| Some(key("svc", "k").of(KeyKind::PlatformChange, Fingerprint::of(&[content])));
    let edited = edit(keyed("one!"), "one!").await.unwrap();
    assert_eq!((edited.message_id, edited.duplicate), (first.id, false));
    assert!(edit(keyed("one!"), "one!").await.unwrap().duplicate);
    refused(edit(keyed("other"), "other").await.map(drop), Refusal::KeyReused);
    for missing in [by("svc", "order-2"), by("nobody", "order-1")] {
        refused(store.edit_message(missing, "x".into(), OPEN).await, Refusal::NotFound);
    }
    let texts = |page: MessagePage| page.messages.into_iter().map(|one| one.content).collect::<Vec<_>>();
    assert_eq!(texts(store.history(room("r"), author("8"), latest(9), OPEN).await.unwrap()), ["one!", "two"]);
    let bed = bed.reopen().await;
    let store = &bed.store;
    store.delete_message(by("svc", "order-1"), OPEN).await.unwrap();
    refused(store.delete_message(by("svc", "order-1"), OPEN).await, Refusal::NotFound);
    let heard = bed.heard.all();
    assert!(matches!(heard.last(), Some(Change::Deleted { message, .. }) if message.id == first.id));
    assert!(others.iter().all(|other| other.id != first.id));
    // With the message the name is gone.
    bed.clock.advance(DAY);
    super::cases_maintenance::purge_all(&bed, PurgeKind::Chat, bed.now(), 10).await.unwrap();
    refused(store.edit_message(by("other", "order-1"), "x".into(), OPEN).await, Refusal::NotFound);
    let again = PostMessage {
        draft: draft("r", "7", "a new one", None),
        policy: OPEN,
        key: None,
        external_id: Some(external("svc", "order-1")),
        origin: None,
    };
    store.ask(again).await.unwrap();
    bed.end().await;
}

pub async fn a_broadcast_is_kept_until_it_has_gone_out(bed: Bed) {
    let store = &bed.store;
    let send = |text: &str| store.first_answer(key("svc", text), text, 3);
    for text in ["one", "two", "three"] {
        assert_eq!(send(text).await.unwrap(), None);
    }
    assert_eq!(send("one").await.unwrap(), Some(3));
    let unsent = store.unsent_broadcasts().await.unwrap();
    let told = bed.heard.all().into_iter().map(|one| match one {
        Change::Broadcast { id, broadcast } => (id, broadcast),
        other => panic!("{other:?}"),
    });
    assert_eq!(unsent, told.collect::<Vec<_>>());
    let (first, second) = (unsent[0].0, unsent[1].0);
    store.ask(BroadcastsOut { up_to: second }).await.unwrap();
    let bed = bed.reopen().await;
    let left = bed.store.unsent_broadcasts().await.unwrap();
    assert_eq!(left.iter().map(|(_, one)| one.payload.as_str()).collect::<Vec<_>>(), ["three"]);
    bed.store.ask(BroadcastsOut { up_to: first }).await.unwrap();
    assert_eq!(bed.store.unsent_broadcasts().await.unwrap().len(), 1);
    bed.store.ask(BroadcastsOut { up_to: u64::MAX }).await.unwrap();
    assert_eq!(bed.store.unsent_broadcasts().await.unwrap(), []);
    // What has gone out is still the first answer.
    assert_eq!(bed.store.first_answer(key("svc", "one"), "one", 9).await.unwrap(), Some(3));
    bed.end().await;
}

pub async fn what_changes_nothing_costs_no_commit(bed: Bed) {
    let store = &bed.store;
    let said = bed.say("r", "7", "x").await.id;
    store.arrive(actor("8", &[]), bed.now(), 9).await.unwrap();
    for commits in [4, 0] {
        let before = store.status().commits;
        store.ask(JoinRoom { room: room("r"), author: author("8"), policy: OPEN }).await.unwrap();
        store.mark_read(room("r"), author("8"), said, OPEN).await.unwrap();
        store.delivered(vec![(user("8"), said)]).await.unwrap();
        store.left(user("8"), Timestamp(20_000)).await.unwrap();
        assert_eq!(store.status().commits - before, commits);
    }
    bed.end().await;
}

pub async fn each_change_has_a_kind_by_which_it_is_counted(bed: Bed) {
    let store = &bed.store;
    let said = bed.say("r", "7", "x").await.id;
    store.edit_message(change("r", said, author("7")), "y".into(), OPEN).await.unwrap();
    store.mark_read(room("r"), author("8"), said, OPEN).await.unwrap();
    store.delete_message(change("r", said, author("7")), OPEN).await.unwrap();
    store.notify(note(Audience::Users(vec![user("7")]), "n"), None).await.unwrap();
    store.ask(Disconnect { user: user("8") }).await.unwrap();
    let kinds: Vec<&str> = bed.heard.all().iter().map(Change::kind).collect();
    assert_eq!(kinds, ["message", "edit", "read_mark", "deletion", "notification", "disconnect"]);
    assert!(kinds.iter().all(|kind| Change::KINDS.contains(kind)));
    bed.end().await;
}

pub async fn whoever_changes_what_another_wrote_is_named_and_recorded(bed: Bed) {
    let store = &bed.store;
    let said = |who: &'static str| store.append_message(draft("r", who, "mine", None), OPEN);
    let (own, edited, deleted) =
        (said("7").await.unwrap().id, said("7").await.unwrap().id, said("7").await.unwrap().id);
    store.set_member(room("r"), user("9"), Membership::Moderator).await.unwrap();
    let edit = |id, who: &str| EditMessage {
        room: room("r"),
        target: MessageTarget::Id(id),
        author: author(who),
        content: "otherwise".into(),
        policy: OPEN,
        key: None,
        act: Some(act(action::MESSAGE_EDIT, "")),
    };
    store.ask(edit(own, "7")).await.unwrap();
    store.ask(edit(edited, "9")).await.unwrap();
    store.ask(edit(deleted, "9")).await.unwrap();
    let delete = DeleteMessage {
        room: room("r"),
        target: MessageTarget::Id(deleted),
        author: Author { admin: true, ..author("root") },
        policy: OPEN,
        key: None,
        act: Some(act(action::MESSAGE_DELETE, "")),
    };
    store.ask(delete).await.unwrap();
    let by = |who: &str| Some(user(who));
    let marks = async |store: &Desk| -> Vec<_> {
        let page = store.history(room("r"), author("7"), latest(9), OPEN).await.unwrap();
        page.messages.into_iter().map(|one| (one.edited_by, one.deleted_by)).collect()
    };
    assert_eq!(marks(store).await, [(None, None), (by("9"), None), (by("9"), by("root"))]);
    let told: Vec<(String, String, String)> = store
        .audit(0, 100)
        .await
        .unwrap()
        .into_iter()
        .filter(|record| record.entry.action.starts_with("message."))
        .map(|record| (record.entry.action, record.entry.target, record.entry.outcome))
        .collect();
    let of = |action: &str, id: u64| {
        (action.to_owned(), format!("room r message {id}"), "done: written by user 7".to_owned())
    };
    assert_eq!(told, [of("message.edit", edited), of("message.edit", deleted), of("message.delete", deleted)]);
    // Over a restart, and until they are erased themselves.
    let bed = bed.reopen().await;
    assert_eq!(marks(&bed.store).await[2], (by("9"), by("root")));
    bed.store.begin_erasure(user("9")).await.unwrap();
    while !bed.store.erase(user("9"), 10).await.unwrap().is_finished {}
    let nobody = Some(UserId::erased());
    assert_eq!(marks(&bed.store).await[1..], [(nobody.clone(), None), (nobody, by("root"))]);
    // What its author writes anew is theirs again; of who has written it, nothing is left at the end.
    bed.store.ask(edit(edited, "7")).await.unwrap();
    assert_eq!(marks(&bed.store).await[1], (None, None));
    bed.store.begin_erasure(user("7")).await.unwrap();
    while !bed.store.erase(user("7"), 10).await.unwrap().is_finished {}
    assert_eq!(marks(&bed.store).await, [(None, None), (None, None), (None, None)]);
    bed.end().await;
}

/// Waits at its first message until it may go on.
struct Halting {
    taken: std::sync::mpsc::Sender<Option<(u64, String)>>,
    go_on: std::sync::mpsc::Receiver<()>,
    is_first: bool,
}

impl TranscriptSink for Halting {
    fn begin(&mut self, _room: &RoomRecord) -> std::io::Result<()> {
        Ok(())
    }

    fn message(&mut self, message: &Message, _versions: &[WithheldVersion]) -> std::io::Result<()> {
        self.taken.send(Some((message.id, message.content.clone()))).unwrap();
        if std::mem::take(&mut self.is_first) {
            self.go_on.recv().unwrap();
        }
        Ok(())
    }

    fn end(&mut self) -> std::io::Result<()> {
        self.taken.send(None).unwrap();
        Ok(())
    }
}

/// What a transcript has; what is done in between is done behind its first message.
async fn transcript(
    bed: &Bed,
    (since, until): (Option<Timestamp>, Option<Timestamp>),
    in_between: impl AsyncFnOnce(),
) -> Vec<String> {
    let ((taken, messages), (go, go_on)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let query = TranscriptQuery { room: room("r"), since, until, versions: false };
    let sent = bed.store.transcript(query, Box::new(Halting { taken, go_on, is_first: true }));
    let reading = async {
        let next = || async {
            loop {
                match messages.try_recv() {
                    Ok(message) => return message,
                    Err(std::sync::mpsc::TryRecvError::Empty) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let mut all = Vec::new();
        let mut then = Some(in_between);
        while let Some((_, content)) = next().await {
            all.push(content);
            if let Some(then) = then.take() {
                then().await;
                go.send(()).unwrap();
            }
        }
        all
    };
    let (sent, all) = tokio::join!(sent, reading);
    sent.unwrap();
    all
}

pub async fn a_transcript_is_of_one_moment(bed: Bed) {
    let mut at = Vec::new();
    for n in 0..5 {
        bed.clock.advance(1_000);
        let said = bed.say("r", "7", &format!("message {n}")).await;
        bed.say("elsewhere", "7", "not of it").await;
        at.push((said.id, said.at));
    }
    let during = async || {
        let changed = change("r", at[1].0, author("7"));
        bed.store.edit_message(changed, "changed meanwhile".into(), OPEN).await.unwrap();
        bed.store.delete_message(change("r", at[2].0, author("7")), OPEN).await.unwrap();
        bed.say("r", "7", "said meanwhile").await;
    };
    let all = transcript(&bed, (None, None), during).await;
    assert_eq!(all, ["message 0", "message 1", "message 2", "message 3", "message 4"]);
    let all = transcript(&bed, (None, None), async || {}).await;
    assert_eq!(all, ["message 0", "changed meanwhile", "", "message 3", "message 4", "said meanwhile"]);
    // From the first of a moment on, whichever it is, to the last before another.
    for from in 0..5 {
        for (shift, first) in [(0, from), (1, from + 1)] {
            let since = Some(Timestamp(at[from].1.0 + shift));
            let found = transcript(&bed, (since, Some(at[4].1)), async || {}).await.len();
            // Nothing was told of what nobody is halted at.
            assert_eq!(found, 4_usize.saturating_sub(first), "from {from} and {shift}");
        }
    }
    let nowhere = TranscriptQuery { room: room("nowhere"), since: None, until: None, versions: false };
    let ((taken, _messages), (_go, go_on)) = (std::sync::mpsc::channel(), std::sync::mpsc::channel());
    let sink = Box::new(Halting { taken, go_on, is_first: true });
    refused(bed.store.transcript(nowhere, sink).await, Refusal::NotFound);
}
