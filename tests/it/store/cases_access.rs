//! Bans, rooms with their members, and lists, on each engine.

use std::collections::BTreeSet;

use academy_rt::domain::Id;
use academy_rt::store::ListQuery;

use super::*;

fn banned(ban: Ban, before: u64, until: Option<u64>) -> Banned {
    Banned { ban, before: Timestamp(before), until: until.map(Timestamp), by: "root".into(), at: Timestamp(5) }
}

fn private(id: &str, members: &[(&str, Membership)]) -> RoomDraft {
    let members = members.iter().map(|(who, membership)| (user(who), *membership)).collect();
    RoomDraft { id: room(id), name: Some(format!("name of {id}")), private: true, members }
}

fn list(after: Option<&str>, limit: usize, text: Option<&str>) -> ListQuery {
    ListQuery { after: after.map(str::to_owned), limit, text: text.map(str::to_owned) }
}

pub async fn bans_stand_until_they_are_lifted_or_end(bed: Bed) {
    let store = &bed.store;
    let end = bed.now().0 + 10_000;
    let token = banned(Ban::Token("j-1".into()), 0, Some(end));
    let of_user = banned(Ban::TokensOf(user("7")), 500, None);
    let all = banned(Ban::AllTokens, 100, None);
    let block = banned(Ban::User(user("7")), 0, None);
    for one in [&token, &of_user, &all, &block] {
        store.ban(one.clone()).await.unwrap();
    }
    let found = store.bans().await.unwrap();
    assert_eq!(found.len(), 4, "a user's block and the revocation of their tokens are two things");
    for one in [&token, &of_user, &all, &block] {
        assert!(found.contains(one), "{one:?}");
    }
    // The later moment holds; what was revoked stays revoked.
    store.ban(banned(Ban::AllTokens, 50, None)).await.unwrap();
    store.ban(banned(Ban::TokensOf(user("7")), 900, None)).await.unwrap();
    let before = |ban: Ban, bans: &[Banned]| bans.iter().find(|one| one.ban == ban).unwrap().before;
    let found = store.bans().await.unwrap();
    assert_eq!(before(Ban::AllTokens, &found), Timestamp(100));
    assert_eq!(before(Ban::TokensOf(user("7")), &found), Timestamp(900));

    assert_eq!(store.lift(Ban::User(user("7"))).await.unwrap(), block);
    refused(store.lift(Ban::User(user("7"))).await, Refusal::NotFound);
    refused(store.lift(Ban::User(user("8"))).await, Refusal::NotFound);
    refused(store.lift(Ban::Token("j-2".into())).await, Refusal::NotFound);
    assert_eq!(store.bans().await.unwrap().len(), 3);
    // What means nothing any more is dropped with the next one.
    bed.clock.advance(20_000);
    store.ban(banned(Ban::Token("j-2".into()), 0, None)).await.unwrap();
    let bans: Vec<Ban> = store.bans().await.unwrap().into_iter().map(|one| one.ban).collect();
    assert!(!bans.contains(&Ban::Token("j-1".into())) && bans.contains(&Ban::Token("j-2".into())), "{bans:?}");
    // 7 and "7" are the same user, in whatever type the id comes.
    let number: UserId = serde_json::from_str("7").unwrap();
    assert!(store.lift(Ban::TokensOf(number)).await.is_ok());
}

pub async fn a_private_room_admits_its_members_alone(bed: Bed) {
    let store = &bed.store;
    store.create_room(private("p", &[("7", Membership::Member), ("8", Membership::Moderator)])).await.unwrap();
    refused(store.create_room(private("p", &[])).await, Refusal::Conflict);
    for (who, is_in) in [("7", true), ("8", true), ("9", false)] {
        let entered = store.may_enter(room("p"), author(who), OPEN).await;
        let read = store.history(room("p"), author(who), latest(1), OPEN).await;
        let joined = store.join_room(room("p"), author(who), latest(1), OPEN).await;
        let said = store.append_message(draft("p", who, "x", None), OPEN).await;
        let last = store.history(room("p"), admin(), latest(1), OPEN).await.unwrap().last_id;
        let marked = store.mark_read(room("p"), author(who), last, OPEN).await;
        if is_in {
            assert!(entered.is_ok() && read.is_ok() && joined.is_ok() && said.is_ok() && marked.is_ok(), "{who}");
        } else {
            refused(entered, Refusal::Forbidden);
            refused(read, Refusal::Forbidden);
            refused(joined, Refusal::Forbidden);
            refused(said, Refusal::Forbidden);
            refused(marked, Refusal::Forbidden);
        }
    }
    store.may_enter(room("p"), admin(), OPEN).await.unwrap();
    let entry = store.room(room("p")).await.unwrap();
    assert_eq!((entry.members, entry.record.last_seq, entry.record.private), (2, 2, true), "no stranger has come in");
    assert_eq!(entry.record.name.as_deref(), Some("name of p"));

    assert_eq!(store.set_member(room("p"), user("9"), Membership::Member).await.unwrap(), None);
    store.append_message(draft("p", "9", "now", None), OPEN).await.unwrap();
    assert_eq!(store.set_member(room("p"), user("9"), Membership::Moderator).await.unwrap(), Some(Membership::Member));
    assert_eq!(store.remove_member(room("p"), user("9")).await.unwrap(), Membership::Moderator);
    refused(store.remove_member(room("p"), user("9")).await, Refusal::NotFound);
    refused(store.append_message(draft("p", "9", "again", None), OPEN).await, Refusal::Forbidden);
    refused(store.history(room("p"), author("9"), latest(9), OPEN).await, Refusal::Forbidden);
    // Not even what they wrote themselves, and what they said stays.
    let own = store.history(room("p"), author("7"), latest(9), OPEN).await.unwrap();
    let theirs = own.messages.iter().find(|message| message.sender == user("9")).unwrap();
    refused(store.delete_message(change("p", theirs.id, author("9")), OPEN).await.map(drop), Refusal::Forbidden);
    assert!(store.rooms_of(user("9")).await.unwrap().is_empty());
    for missing in [
        store.set_member(room("q"), user("9"), Membership::Member).await.map(drop),
        store.remove_member(room("q"), user("9")).await.map(drop),
        store.patch_room(room("q"), RoomPatch::default()).await.map(drop),
        store.room(room("q")).await.map(drop),
        store.members(room("q"), 0, 9).await.map(drop),
        store.begin_removal(room("q")).await.map(drop),
        store.remove_member(room("p"), user("nobody")).await.map(drop),
    ] {
        refused(missing, Refusal::NotFound);
    }
}

pub async fn a_room_is_closed_with_those_who_are_in_it(bed: Bed) {
    let store = &bed.store;
    bed.say("r", "7", "hello").await;
    store.join_room(room("r"), author("8"), latest(1), OPEN).await.unwrap();
    let patch = RoomPatch { private: Some(true), admit_guests: true, name: Some("The room".into()) };
    let record = store.patch_room(room("r"), patch).await.unwrap();
    assert!(record.private && record.last_seq == 1);
    for who in ["7", "8"] {
        store.may_enter(room("r"), author(who), OPEN).await.unwrap();
    }
    refused(store.may_enter(room("r"), author("9"), OPEN).await, Refusal::Forbidden);
    let members = store.members(room("r"), 0, 10).await.unwrap();
    assert!(members.members.iter().all(|member| member.membership == Membership::Member));
    assert_eq!((members.members.len(), members.next), (2, None));
    // Opened again, it takes everybody, and without a name it has none.
    let patch = RoomPatch { private: Some(false), name: Some(String::new()), ..RoomPatch::default() };
    assert_eq!(store.patch_room(room("r"), patch).await.unwrap().name, None);
    store.may_enter(room("r"), author("9"), OPEN).await.unwrap();
    // A guest of an open room has no right to a private one.
    store.join_room(room("r"), author("9"), latest(1), OPEN).await.unwrap();
    let patch = RoomPatch { private: Some(true), ..RoomPatch::default() };
    store.patch_room(room("r"), patch).await.unwrap();
    refused(store.may_enter(room("r"), author("9"), OPEN).await, Refusal::Forbidden);
    let bed = bed.reopen().await;
    assert!(bed.store.room(room("r")).await.unwrap().record.private);
    refused(bed.store.may_enter(room("r"), author("9"), OPEN).await, Refusal::Forbidden);
}

pub async fn a_deleted_room_leaves_nothing_and_its_id_is_free_at_once(bed: Bed) {
    let store = bed.store.clone();
    store.create_room(private("p", &[("7", Membership::Member)])).await.unwrap();
    store.set_member(room("p"), user("8"), Membership::Member).await.unwrap();
    let mut last = 0;
    for n in 0..25 {
        last = bed.say("p", "7", &format!("secret {n}")).await.id;
        bed.say("other", "7", "stays").await;
    }
    store.mark_read(room("p"), author("8"), last, OPEN).await.unwrap();
    let before = store.last_id();
    assert_eq!(store.begin_removal(room("p")).await.unwrap().last_seq, 25);
    refused(store.room(room("p")).await.map(drop), Refusal::NotFound);
    assert!(!store.remove_messages(10).await.unwrap(), "slice by slice: others are to come between");
    // A new room of the same id, while the old one's messages are still being removed, over a restart.
    let mut bed = bed.reopen().await;
    let store = bed.store.clone();
    let posted = store.append_message(draft("p", "8", "a new life", None), OPEN).await.unwrap();
    assert_eq!(posted.seq, 1);
    assert!(posted.id > before, "an id is never given twice");
    while !store.remove_messages(10).await.unwrap() {}
    assert!(store.remove_messages(10).await.unwrap());
    let page = store.history(room("p"), author("8"), latest(100), OPEN).await.unwrap();
    assert_eq!(page.messages.iter().map(|one| one.content.as_str()).collect::<Vec<_>>(), ["a new life"]);
    let others = store.history(room("other"), author("8"), latest(100), OPEN).await.unwrap();
    assert_eq!(others.messages.len(), 25);
    let replay = store.replay(actor("7", &[]), vec![room("p")], 0, 500).await.unwrap();
    assert!(replay.changes.iter().all(|change| !format!("{change:?}").contains("secret")), "nothing is told of it");
    let rooms: Vec<String> =
        store.rooms_of(user("7")).await.unwrap().iter().map(|one| one.room.id.canonical()).collect();
    assert_eq!(rooms, ["other"]);
    bed = bed.reopen().await;
    assert_eq!(bed.store.room(room("p")).await.unwrap().record.last_seq, 1);
}

pub async fn a_room_under_a_hold_is_not_deleted(bed: Bed) {
    let store = &bed.store;
    let hold = |subject| Hold { number: 0, subject, reason: "case".into(), by: "root".into(), at: Timestamp(5) };
    store.create_room(private("p", &[("7", Membership::Member)])).await.unwrap();
    bed.say("p", "7", "evidence").await;
    store.set_member(room("p"), user("8"), Membership::Member).await.unwrap();
    for (subject, named) in [(Subject::Room(room("p")), "room p (case)"), (Subject::User(user("8")), "user 8 (case)")] {
        store.hold(hold(subject.clone())).await.unwrap();
        refused(store.begin_removal(room("p")).await.map(drop), Refusal::Held(named.into()));
        store.release(subject).await.unwrap();
    }
    // Somebody who has been taken out of it has still written in it.
    store.remove_member(room("p"), user("7")).await.unwrap();
    store.hold(hold(Subject::User(user("7")))).await.unwrap();
    refused(store.begin_removal(room("p")).await.map(drop), Refusal::Held("user 7 (case)".into()));
    assert_eq!(store.room(room("p")).await.unwrap().record.last_seq, 1, "nothing is gone");
    store.release(Subject::User(user("7"))).await.unwrap();
    store.begin_removal(room("p")).await.unwrap();
    while !store.remove_messages(1).await.unwrap() {}
}

pub async fn lists_come_in_parts_and_can_be_searched(bed: Bed) {
    let store = &bed.store;
    let mut ids = BTreeSet::new();
    for n in 0..23 {
        let id = format!("room-{n:02}");
        store.create_room(private(&id, &[("7", Membership::Member)])).await.unwrap();
        ids.insert(id);
    }
    bed.say("Zoo", "8", "x").await;
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_rooms(list(after.as_deref(), 5, None)).await.unwrap();
        assert!(page.items.len() <= 5);
        seen.extend(page.items.iter().map(|entry| entry.record.id.canonical()));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    ids.insert("Zoo".into());
    assert_eq!(seen.len(), ids.len(), "each once");
    assert_eq!(seen.iter().cloned().collect::<BTreeSet<_>>(), ids);
    assert!(seen.is_sorted());
    let found = |page: academy_rt::store::ListPage<academy_rt::domain::chat::RoomEntry>| {
        page.items.iter().map(|entry| entry.record.id.canonical()).collect::<Vec<_>>()
    };
    assert_eq!(found(store.list_rooms(list(None, 50, Some("zOO"))).await.unwrap()), ["Zoo"]);
    assert_eq!(found(store.list_rooms(list(None, 50, Some("NAME OF ROOM-07"))).await.unwrap()), ["room-07"]);
    assert!(found(store.list_rooms(list(None, 50, Some("nothing"))).await.unwrap()).is_empty());

    for n in 0..12 {
        store.set_member(room("Zoo"), user(&format!("m{n}")), Membership::Member).await.unwrap();
    }
    let (mut members, mut behind) = (Vec::new(), 0);
    loop {
        let page = store.members(room("Zoo"), behind, 5).await.unwrap();
        members.extend(page.members.iter().map(|member| member.user.canonical()));
        match page.next {
            Some(next) => behind = next,
            None => break,
        }
    }
    assert_eq!(members.len(), 13);
    assert_eq!(members.iter().collect::<BTreeSet<_>>().len(), 13);
    assert_eq!(store.room(room("Zoo")).await.unwrap().members, 13);

    store.arrive(actor("m3", &[Role::Coach]), bed.now(), 0).await.unwrap();
    let profile = store.profile(user("m3")).await.unwrap();
    assert_eq!((profile.name.as_str(), profile.roles.as_slice()), ("name of m3", &[Role::Coach][..]));
    refused(store.profile(user("m99")).await.map(drop), Refusal::NotFound);
    let people = store.list_users(list(None, 50, Some("NAME of m3"))).await.unwrap();
    assert_eq!(people.items.iter().map(|one| one.user.canonical()).collect::<Vec<_>>(), ["m3"]);
    let all = store.list_users(list(None, 500, None)).await.unwrap();
    assert!(all.next.is_none() && all.items.len() >= 14, "{}", all.items.len());
}

pub async fn who_is_taken_out_takes_their_read_mark_along(bed: Bed) {
    let store = &bed.store;
    let said = bed.say("r", "7", "x").await.id;
    store.mark_read(room("r"), author("8"), said, OPEN).await.unwrap();
    let marks = || async {
        let told = store.replay(actor("9", &[]), vec![room("r")], 0, 100).await.unwrap().changes;
        told.iter().filter(|change| matches!(change, Change::Read { .. })).count()
    };
    assert_eq!(marks().await, 1);
    assert_eq!(store.remove_member(room("r"), user("8")).await, Ok(Membership::Guest));
    assert_eq!(marks().await, 0);
    bed.end().await;
}

pub async fn a_change_of_a_room_is_told_with_the_type_of_the_request(bed: Bed) {
    let [number, text] = [Id::Number(5), Id::Text("5".into())].map(|id| RoomId::new(id).unwrap());
    let draft = RoomDraft { id: number, name: None, private: false, members: Vec::new() };
    bed.store.create_room(draft).await.unwrap();
    bed.store.patch_room(text, RoomPatch { name: Some("five".into()), ..RoomPatch::default() }).await.unwrap();
    let heard = bed.heard.all();
    let are_numbers = heard.iter().map(|change| match change {
        Change::RoomChanged { room, .. } => matches!(room.id.id(), Id::Number(_)),
        other => panic!("{other:?}"),
    });
    assert_eq!(are_numbers.collect::<Vec<_>>(), [true, false]);
    bed.end().await;
}
