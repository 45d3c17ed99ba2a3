//! Legal holds: what is held stays, what was changed under one is kept and shown while it stands, and a hold and an erasure
//! never meet halfway.

use academy_rt::domain::privacy::{VersionEnd, WithheldVersion};

use super::cases_maintenance::{erase_all, hold, live, purge_all};
use super::*;

async fn versions(bed: &Bed, of: u64) -> Vec<WithheldVersion> {
    let found = bed.store.withheld(room("r"), vec![of]).await.unwrap();
    found.into_iter().flat_map(|(_, versions)| versions).collect()
}

fn shown(versions: &[WithheldVersion]) -> Vec<(&str, String, VersionEnd)> {
    versions.iter().map(|one| (one.content.as_str(), one.by.canonical(), one.change)).collect()
}

pub async fn what_was_changed_under_a_hold_is_kept_while_it_stands(bed: Bed) {
    let store = &bed.store;
    let id = bed.say("r", "7", "first").await.id;
    let other = bed.say("r", "8", "untouched").await.id;
    let edit = |id, who: &str, content: &str| store.edit_message(change("r", id, author(who)), content.into(), OPEN);
    edit(id, "7", "second").await.unwrap();
    store.set_member(room("r"), user("9"), Membership::Moderator).await.unwrap();
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    assert!(versions(&bed, id).await.is_empty(), "what was changed before is gone");
    edit(id, "7", "third").await.unwrap();
    edit(id, "9", "fourth").await.unwrap();
    store.delete_message(change("r", id, author("7")), OPEN).await.unwrap();
    let kept = versions(&bed, id).await;
    assert_eq!(
        shown(&kept),
        [
            ("second", "7".into(), VersionEnd::Edited),
            ("third", "9".into(), VersionEnd::Edited),
            ("fourth", "7".into(), VersionEnd::Deleted)
        ]
    );
    assert!(kept.is_sorted_by(|a, b| a.until < b.until), "{kept:?}");
    // For readers it is as it was changed.
    let page = store.history(room("r"), author("8"), latest(9), OPEN).await.unwrap();
    assert_eq!((page.messages[0].content.as_str(), page.messages[0].deleted_at), ("", Some(kept[2].until)));
    let told = store.replay(actor("8", &[]), vec![room("r")], 0, 100).await.unwrap();
    assert!(!format!("{told:?} {:?}", bed.heard.all().last()).contains("fourth"));
    // Asked of a whole page, in the room alone.
    let found = store.withheld(room("r"), vec![other, id, 999]).await.unwrap();
    assert_eq!(found, [(id, kept.clone())]);
    bed.say("s", "7", "elsewhere").await;
    assert_eq!(store.withheld(room("s"), vec![id]).await.unwrap(), []);
    assert_eq!(store.withheld(room("nowhere"), vec![id]).await.unwrap(), []);
    let items = store.export(user("7"), 100).await.unwrap();
    let exported = items.iter().find_map(|item| match item {
        UserItem::Message { message, versions } if message.id == id => Some(versions.clone()),
        _ => None,
    });
    assert_eq!(exported, Some(kept.clone()));
    // Another hold keeps them, too; with the last one they are gone.
    store.hold(hold(Subject::User(user("7")))).await.unwrap();
    store.release(Subject::Room(room("r"))).await.unwrap();
    while !store.ask(PruneWithheld { limit: 1 }).await.unwrap() {}
    assert_eq!(versions(&bed, id).await, kept);
    let bed = bed.reopen().await;
    assert_eq!(versions(&bed, id).await, kept);
    bed.store.release(Subject::User(user("7"))).await.unwrap();
    assert!(versions(&bed, id).await.is_empty(), "shown to nobody from now on");
    // No new hold brings them back, whoever comes first.
    for subject in [Subject::Room(room("r")), Subject::User(user("7")), Subject::Room(room("s"))] {
        refused(bed.store.hold(hold(subject)).await, Refusal::Unsettled);
    }
    let bed = bed.reopen().await;
    assert!(!bed.store.ask(PruneWithheld { limit: 1 }).await.unwrap());
    refused(bed.store.hold(hold(Subject::Room(room("r")))).await, Refusal::Unsettled);
    while !bed.store.ask(PruneWithheld { limit: 1 }).await.unwrap() {}
    bed.store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    assert!(versions(&bed, id).await.is_empty(), "and not there any more");
    bed.end().await;
}

pub async fn a_held_author_is_held_in_every_room(bed: Bed) {
    let store = &bed.store;
    store.hold(hold(Subject::User(user("7")))).await.unwrap();
    let (theirs, others) = (bed.say("r", "7", "evidence").await.id, bed.say("r", "8", "small talk").await.id);
    for id in [theirs, others] {
        store.delete_message(change("r", id, admin()), OPEN).await.unwrap();
    }
    let found = store.withheld(room("r"), vec![theirs, others]).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].0, shown(&found[0].1)), (theirs, vec![("evidence", "root".into(), VersionEnd::Deleted)]));
    // A purge of all that is old leaves what is held, and its versions.
    bed.clock.advance(DAY);
    assert_eq!(purge_all(&bed, PurgeKind::Chat, bed.now(), 10).await, Ok(0), "the other's has no content any more");
    assert_eq!(versions(&bed, theirs).await.len(), 1);
    store.release(Subject::User(user("7"))).await.unwrap();
    assert_eq!(purge_all(&bed, PurgeKind::Chat, bed.now(), 10).await, Ok(2));
    assert!(versions(&bed, theirs).await.is_empty());
    bed.end().await;
}

pub async fn who_has_written_in_a_held_room_is_not_erased(bed: Bed) {
    let store = &bed.store;
    bed.say("r", "7", "evidence").await;
    bed.say("s", "7", "elsewhere").await;
    // They are taken out of it, and are held there all the same.
    store.remove_member(room("r"), user("7")).await.unwrap();
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    refused(store.begin_erasure(user("7")).await.map(drop), Refusal::Held("room r (case 12)".into()));
    // Each hold is named, with its reason.
    store.hold(Hold { reason: "case 13".into(), ..hold(Subject::User(user("7"))) }).await.unwrap();
    store.hold(hold(Subject::User(user("8")))).await.unwrap();
    store.hold(hold(Subject::Room(room("nowhere")))).await.unwrap();
    let named = Refusal::Held("room r (case 12), user 7 (case 13)".into());
    refused(store.begin_erasure(user("7")).await.map(drop), named.clone());
    // Over a restart, and with consent, too.
    let bed = bed.reopen().await;
    let consented =
        BeginErasure { user: user("7"), by: "root".into(), consent: true, floor: Duration::ZERO, is_dry_run: false };
    refused(bed.store.ask(consented).await.map(drop), named);
    bed.store.release(Subject::Room(room("r"))).await.unwrap();
    bed.store.release(Subject::User(user("7"))).await.unwrap();
    bed.store.begin_erasure(user("7")).await.unwrap();
    assert_eq!(erase_all(&bed, "7", 10).await.unwrap().messages, 2);
    bed.end().await;
}

pub async fn who_has_nothing_left_in_a_held_room_is_erased(bed: Bed) {
    let store = &bed.store;
    for who in ["7", "8", "9"] {
        bed.say("r", who, "old").await;
    }
    bed.say("s", "7", "elsewhere").await;
    bed.clock.advance(DAY);
    let before = bed.now();
    bed.say("r", "8", "new").await;
    for who in ["7", "8"] {
        store.remove_member(room("r"), user(who)).await.unwrap();
    }
    assert_eq!(purge_all(&bed, PurgeKind::Chat, before, 2).await, Ok(4));
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    // One has written since then; one takes part still; one has nothing in it.
    for who in ["8", "9"] {
        refused(store.begin_erasure(user(who)).await.map(drop), Refusal::Held("room r (case 12)".into()));
    }
    store.begin_erasure(user("7")).await.unwrap();
    erase_all(&bed, "7", 10).await.unwrap();
    bed.end().await;
}

pub async fn a_hold_that_comes_too_late_is_refused(bed: Bed) {
    live(&bed).await;
    let store = &bed.store;
    bed.say("s", "8", "elsewhere").await;
    store.remove_member(room("r"), user("7")).await.unwrap();
    store.begin_erasure(user("7")).await.unwrap();
    let late = || Refusal::Erasing(user("7"));
    let is_left = async || {
        let page = store.history(room("r"), author("8"), latest(9), OPEN).await.unwrap();
        page.messages.iter().any(|one| one.sender == user("7"))
    };
    let mut rounds = 0;
    loop {
        // All of them is being erased, to the end; the room is theirs to hold up as long as something is said in it.
        refused(store.hold(hold(Subject::User(user("7")))).await, late());
        match store.hold(hold(Subject::Room(room("r")))).await {
            Ok(_) => assert!(!is_left().await, "a hold that comes in between holds what is there"),
            refusal => refused(refusal, late()),
        }
        rounds += u32::from(is_left().await);
        if store.erase(user("7"), 1).await.unwrap().is_finished {
            break;
        }
        for subject in [Subject::User(user("8")), Subject::Room(room("s"))] {
            store.hold(hold(subject.clone())).await.unwrap();
            store.release(subject).await.unwrap();
        }
    }
    assert_eq!(rounds, 2, "of two messages one goes with each slice");
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    store.hold(hold(Subject::User(user("7")))).await.unwrap();
    bed.end().await;
}

pub async fn a_hold_does_not_come_into_the_removal_of_a_room(bed: Bed) {
    let store = &bed.store;
    for who in ["7", "7", "8"] {
        bed.say("r", who, "evidence").await;
    }
    bed.say("s", "9", "elsewhere").await;
    store.begin_removal(room("r")).await.unwrap();
    assert!(!store.remove_messages(1).await.unwrap());
    // Another room of the same id is not what is being removed, but nobody can tell them apart.
    for subject in [Subject::User(user("7")), Subject::User(user("8")), Subject::Room(room("r"))] {
        refused(store.hold(hold(subject)).await, Refusal::Removing(room("r")));
    }
    store.hold(hold(Subject::User(user("9")))).await.unwrap();
    let bed = bed.reopen().await;
    assert!(!bed.store.remove_messages(1).await.unwrap());
    bed.store.hold(hold(Subject::User(user("7")))).await.unwrap();
    refused(bed.store.hold(hold(Subject::User(user("8")))).await, Refusal::Removing(room("r")));
    while !bed.store.remove_messages(1).await.unwrap() {}
    for subject in [Subject::User(user("8")), Subject::Room(room("r"))] {
        bed.store.hold(hold(subject)).await.unwrap();
    }
    bed.end().await;
}

pub async fn what_somebody_who_is_held_has_learned_is_not_rolled_out(bed: Bed) {
    let store = &bed.store;
    store.hold(hold(Subject::User(user("7")))).await.unwrap();
    for who in ["7", "8"] {
        for n in 1..=6 {
            let update = report("1", f64::from(n), 5, Some(&format!("s{n}")));
            store.sync_progress(user(who), vec![update], Timestamp(20)).await.unwrap();
        }
    }
    let versions = async |bed: &Bed, who| bed.store.progress_history(user(who), lesson("1")).await.unwrap().len();
    assert_eq!((versions(&bed, "7").await, versions(&bed, "8").await), (6, 3));
    bed.store.release(Subject::User(user("7"))).await.unwrap();
    let update = report("1", 50.0, 5, Some("s7"));
    bed.store.sync_progress(user("7"), vec![update], Timestamp(20)).await.unwrap();
    assert_eq!(versions(&bed, "7").await, 3);
    bed.end().await;
}

pub async fn of_a_hold_and_an_erasure_one_wins(bed: Bed) {
    for n in 0..20 {
        let who = format!("u{n}");
        bed.say("r", &who, "evidence").await;
        let subject = if n % 2 == 0 { Subject::User(user(&who)) } else { Subject::Room(room("r")) };
        let (held, begun) = if n % 4 < 2 {
            let held = bed.store.hold(hold(subject.clone()));
            tokio::join!(held, bed.store.begin_erasure(user(&who)))
        } else {
            let begun = bed.store.begin_erasure(user(&who));
            let (begun, held) = tokio::join!(begun, bed.store.hold(hold(subject.clone())));
            (held, begun)
        };
        match (held, begun) {
            (Ok(_), Err(StoreError::Refused(Refusal::Held(_)))) => drop(bed.store.release(subject).await.unwrap()),
            (Err(StoreError::Refused(Refusal::Erasing(_))), Ok(_)) => drop(erase_all(&bed, &who, 10).await.unwrap()),
            other => panic!("{n}: {other:?}"),
        }
    }
    bed.end().await;
}

pub async fn nothing_of_somebody_is_stored_while_they_are_erased(bed: Bed) {
    let first = live(&bed).await;
    let store = &bed.store;
    store.begin_erasure(user("7")).await.unwrap();
    let me = || author("7");
    let is_erasing = || Refusal::Erasing(user("7"));
    refused(store.append_message(draft("r", "7", "more", None), OPEN).await.map(drop), is_erasing());
    refused(store.ask(JoinRoom { room: room("r"), author: me(), policy: OPEN }).await, is_erasing());
    refused(store.mark_read(room("r"), me(), first, OPEN).await.map(drop), is_erasing());
    refused(store.set_member(room("r"), user("7"), Membership::Member).await.map(drop), is_erasing());
    refused(store.sync_progress(user("7"), vec![report("9", 1.0, 1, None)], bed.now()).await.map(drop), is_erasing());
    refused(store.arrive(actor("7", &[]), bed.now(), 5).await.map(drop), is_erasing());
    // A request that was answered is answered again; others go on.
    assert!(store.append_message(draft("r", "7", "my secret", Some("k1")), OPEN).await.unwrap().duplicate);
    store.ask(EnlistMembers { room: room("r"), users: vec![user("7"), user("9")], policy: OPEN }).await.unwrap();
    bed.say("r", "8", "goes on").await;
    store.notify(note(Audience::Users(vec![user("7"), user("8")]), "for two"), None).await.unwrap();
    let bed = bed.reopen().await;
    refused(bed.store.append_message(draft("r", "7", "more", None), OPEN).await.map(drop), is_erasing());
    erase_all(&bed, "7", 2).await.unwrap();
    assert_eq!(bed.store.last_seen(vec![user("7")]).await.unwrap(), [None]);
    assert_eq!(bed.store.room(room("r")).await.unwrap().members, 2, "8 and 9");
    assert_eq!(bed.say("r", "7", "somebody new").await.seq, 5);
    bed.end().await;
}

pub async fn an_erasure_and_a_removal_go_on_beside_each_other(bed: Bed) {
    let store = &bed.store;
    for n in 0..6 {
        bed.say("r", if n % 2 == 0 { "7" } else { "8" }, "of the old room").await;
    }
    store.delete_message(change("r", 1, author("7")), OPEN).await.unwrap();
    store.begin_removal(room("r")).await.unwrap();
    assert!(!store.remove_messages(2).await.unwrap());
    // Another room of the same id, while messages of the old one are still there to be erased.
    let new = bed.say("r", "9", "of the new room").await.id;
    store.begin_erasure(user("7")).await.unwrap();
    assert!(!store.erase(user("7"), 1).await.unwrap().is_finished);
    let heard = bed.heard.all();
    let bed = bed.reopen().await;
    assert!(!bed.store.remove_messages(1).await.unwrap());
    erase_all(&bed, "7", 1).await.unwrap();
    while !bed.store.remove_messages(1).await.unwrap() {}
    let told = bed.heard.all().split_off(heard.len()).into_iter().chain(heard).filter(|one| one.id() > new);
    let about_messages = told.filter(|one| matches!(one, Change::Deleted { .. } | Change::Anonymised { .. }));
    assert_eq!(about_messages.count(), 0, "nobody in the new room hears of the old one's messages");
    let page = bed.store.history(room("r"), author("9"), latest(9), OPEN).await.unwrap();
    assert_eq!((page.messages.len(), page.messages[0].id), (1, new));
    bed.end().await;
}

pub async fn what_one_commit_registers_holds_and_erases_is_one(bed: Bed) {
    let store = &bed.store;
    for n in 0..20 {
        let (held, free, who, other) = (format!("held{n}"), format!("free{n}"), format!("u{n}"), format!("v{n}"));
        // All are queued at once: while the writer is at the first ones, the others come to share a commit.
        let busy: Vec<_> = (0..5).map(|_| store.append_message(draft("busy", "9", "x", None), OPEN)).collect();
        let said =
            [(&held, &who), (&free, &other)].map(|(to, by)| store.append_message(draft(to, by, "x", None), OPEN));
        let set = store.hold(hold(Subject::Room(room(&held))));
        let (begun, other_begun) = (store.begin_erasure(user(&who)), store.begin_erasure(user(&other)));
        let erased = store.erase(user(&other), 100);
        for one in busy.into_iter().chain(said) {
            one.await.unwrap();
        }
        set.await.unwrap();
        refused(begun.await, Refusal::Held(format!("room {held} (case 12)")));
        other_begun.await.unwrap();
        assert!(erased.await.unwrap().is_finished);
        let told = bed.heard.all().into_iter().rev().find_map(|change| match change {
            Change::Deleted { message, .. } => Some(message.room.clone()),
            _ => None,
        });
        assert_eq!(told, Some(room(&free)));
        store.release(Subject::Room(room(&held))).await.unwrap();
    }
    bed.end().await;
}

pub async fn a_round_that_meets_the_end_is_the_last(bed: Bed) {
    let store = &bed.store;
    let id = bed.say("r", "7", "first").await.id;
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    for n in 0..3 {
        store.edit_message(change("r", id, author("7")), n.to_string(), OPEN).await.unwrap();
    }
    store.release(Subject::Room(room("r"))).await.unwrap();
    assert!(!store.ask(PruneWithheld { limit: 3 }).await.unwrap(), "there may be more behind a slice that is full");
    assert!(store.ask(PruneWithheld { limit: 3 }).await.unwrap());
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    store.edit_message(change("r", id, author("7")), "last".into(), OPEN).await.unwrap();
    store.release(Subject::Room(room("r"))).await.unwrap();
    assert!(store.ask(PruneWithheld { limit: 3 }).await.unwrap(), "one slice has seen all");
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    bed.end().await;
}
