//! Administrative acts: no act without its record, and no record without its act.

use academy_rt::domain::audit::Link;
use academy_rt::domain::privacy::ErasureCounts;

use super::cases_maintenance::{erase_all, hold, live, purge_all};
use super::*;

fn banned(token: &str) -> Banned {
    let (ban, by) = (Ban::Token(token.into()), "root".to_owned());
    Banned { ban, before: Timestamp(0), until: None, by, at: Timestamp(5) }
}

fn private(id: &str) -> RoomDraft {
    let members = vec![(user("7"), Membership::Member)];
    RoomDraft { id: room(id), name: None, private: true, members }
}

fn told(action: &str, target: &str, outcome: &str) -> (String, String, String) {
    (action.to_owned(), target.to_owned(), outcome.to_owned())
}

pub async fn an_act_and_its_record_are_one(bed: Bed) {
    let store = &bed.store;
    let noted = Act { note: "it was stolen".into(), ..act(action::TOKEN_REVOKE, "token j-1") };
    let ban = SetBan { banned: banned("j-1") };
    let applied = store.submit(bed.now(), ban, Some(noted)).await.unwrap();
    let heard = bed.heard.all();
    assert!(
        matches!(&heard[..], [Change::Banned { id, .. }, Change::Recorded { record, .. }]
            if *id == applied.change && record.entry.at == bed.now()),
        "the change is the act's own, and its record comes with it: {heard:?}"
    );
    store.act(CreateRoom { draft: private("p") }, act(action::ROOM_CREATE, "room p")).await.unwrap();
    let removal = RemoveMember { room: room("p"), user: user("7") };
    let removed = store.act(removal, act(action::MEMBER_REMOVE, "user 7 in room p")).await.unwrap();
    assert_eq!(removed, Membership::Member);
    bed.say("r", "8", "1").await;
    bed.say("r", "8", "2").await;
    store.act(RemoveRoom { room: room("r") }, act(action::ROOM_DELETE, "room r")).await.unwrap();
    let expected = [
        told("token.revoke", "token j-1", "done: it was stolen"),
        told("room.create", "room p", "done"),
        told("room.member.remove", "user 7 in room p", "done: was member"),
        told("room.delete", "room r", "done: 2 messages"),
    ];
    assert_eq!(bed.audit_log(0).await, expected);
    // What is no act leaves no record.
    store.ban(banned("j-2")).await.unwrap();
    assert_eq!(bed.audit_log(0).await.len(), 4);
    let bed = bed.reopen().await;
    assert_eq!(bed.audit_log(0).await, expected);
    bed.end().await;
}

pub async fn acts_at_once_make_one_chain(bed: Bed) {
    let mut asked = Vec::new();
    for n in 0..200 {
        let token = format!("j-{n}");
        asked.push(bed.store.act(SetBan { banned: banned(&token) }, act(action::TOKEN_REVOKE, &token)));
        // One that is refused beside it, in the same transaction or not.
        let missing = LiftBan { ban: Ban::Token(format!("none-{n}")) };
        let refusal = bed.store.act(missing, act(action::USER_UNBLOCK, "nobody"));
        asked.push(Box::pin(async move {
            refused(refusal.await.map(drop), Refusal::NotFound);
            Ok(())
        }));
    }
    for one in asked {
        one.await.unwrap();
    }
    let records = bed.store.audit(0, 1_000).await.unwrap();
    let end = records.iter().try_fold(Link::START, |link, record| link.follow(record)).unwrap();
    assert_eq!((records.len(), bed.store.audit_ends().await.unwrap().1), (200, end));
    let mut targets: Vec<String> = records.into_iter().map(|record| record.entry.target).collect();
    targets.sort();
    targets.dedup();
    assert_eq!((targets.len(), bed.store.bans().await.unwrap().len()), (200, 200));
    bed.end().await;
}

pub async fn a_refused_act_is_recorded_where_a_hold_or_a_floor_refuses_it(bed: Bed) {
    live(&bed).await;
    let store = &bed.store;
    let before = store.audit_ends().await.unwrap().1.number;
    // Refused for what it says itself: nothing was done, and nothing is told.
    let lifted = store.act(LiftBan { ban: Ban::AllTokens }, act(action::USER_UNBLOCK, "all tokens")).await;
    refused(lifted.map(drop), Refusal::NotFound);
    let created = store.act(CreateRoom { draft: private("r") }, act(action::ROOM_CREATE, "room r")).await;
    refused(created.map(drop), Refusal::Conflict);
    let nobody = BeginErasure {
        user: user("nobody"),
        by: "root".into(),
        consent: false,
        floor: Duration::ZERO,
        is_dry_run: false,
    };
    refused(store.act(nobody, act(action::USER_ERASE, "user nobody")).await.map(drop), Refusal::NotFound);
    assert_eq!(bed.audit_log(before).await, []);
    assert_eq!(store.last_id(), bed.heard.all().last().unwrap().id(), "not even an id");
    // Refused by a hold, a floor, an erasure: somebody wanted it, and the trail says so, once.
    store.hold(hold(Subject::Room(room("r")))).await.unwrap();
    let named = Refusal::Held("room r (case 12)".into());
    let removed = store.act(RemoveRoom { room: room("r") }, act(action::ROOM_DELETE, "room r")).await;
    refused(removed.map(drop), named.clone());
    let erase = |floor| BeginErasure { user: user("7"), by: "root".into(), consent: false, floor, is_dry_run: false };
    let erase = |floor| store.act(erase(floor), act(action::USER_ERASE, "user 7"));
    refused(erase(Duration::ZERO).await.map(drop), named);
    store.release(Subject::Room(room("r"))).await.unwrap();
    refused(erase(Duration::from_secs(60)).await.map(drop), Refusal::BelowFloor);
    assert!(erase(Duration::ZERO).await.unwrap().is_new);
    assert!(!erase(Duration::ZERO).await.unwrap().is_new, "it is under way");
    let late = SetHold { hold: hold(Subject::User(user("7"))) };
    refused(store.act(late, act(action::HOLD_SET, "user 7")).await, Refusal::Erasing(user("7")));
    assert_eq!(
        bed.audit_log(before).await,
        [
            told("room.delete", "room r", "refused: legal hold: room r (case 12)"),
            told("user.erase", "user 7", "refused: legal hold: room r (case 12)"),
            told("user.erase", "user 7", "refused: below the retention floor"),
            told("user.erase", "user 7", "begun"),
            told("hold.set", "user 7", "refused: the erasure of user 7 is under way"),
        ]
    );
    erase_all(&bed, "7", 3).await.unwrap();
    let (_, _, outcome) = bed.audit_log(before).await.pop().unwrap();
    let erasure = store.erasure(user("7")).await.unwrap().unwrap();
    let certificate = erasure.certificate(store.identity().store_id).unwrap();
    assert_eq!(outcome, format!("done: {} things, certificate {}", erasure.counts.total(), certificate.hash));
    bed.end().await;
}

pub async fn a_repeated_act_is_recorded_once(bed: Bed) {
    let store = &bed.store;
    let send = |payload: &str| {
        let key = Some(key("svc", "k").of(KeyKind::Passing, Fingerprint::of(&[payload])));
        let broadcast = SendBroadcast { broadcast: broadcast(payload), key, sockets: 2 };
        store.act(broadcast, act(action::BROADCAST, "e to nobody"))
    };
    let (one, two) = tokio::join!(send("{}"), send("{}"));
    assert_ne!(one.unwrap().duplicate, two.unwrap().duplicate);
    assert!(send("{}").await.unwrap().duplicate);
    refused(send("another").await.map(drop), Refusal::KeyReused);
    assert_eq!(bed.audit_log(0).await, [told("broadcast", "e to nobody", "done")]);
    bed.end().await;
}

pub async fn a_purge_has_a_beginning_and_an_end(bed: Bed) {
    let store = &bed.store;
    // Nothing to purge is nothing done.
    for kind in PurgeKind::ALL {
        assert_eq!(purge_all(&bed, kind, Timestamp(u64::MAX), 2).await, Ok(0));
    }
    assert_eq!(bed.audit_log(0).await, []);
    for n in 0..7 {
        store.at(10).append_message(draft("r", "7", &n.to_string(), None), OPEN).await.unwrap();
        store.at(10).notify(note(Audience::All, "n"), None).await.unwrap();
    }
    store.hold(hold(Subject::User(user("8")))).await.unwrap();
    store.at(10).notify(note(Audience::Users(vec![user("8")]), "held"), None).await.unwrap();
    assert_eq!(purge_all(&bed, PurgeKind::Chat, Timestamp(50), 3).await, Ok(7));
    assert_eq!(purge_all(&bed, PurgeKind::Notifications, Timestamp(50), 3).await, Ok(7));
    assert_eq!(
        bed.audit_log(0).await,
        [
            told("retention.purge", "chat", "begun"),
            told("retention.purge", "chat", "done: 7 purged, 0 held"),
            told("retention.purge", "notifications", "begun"),
            told("retention.purge", "notifications", "done: 7 purged, 1 held"),
        ]
    );
    // Any hold keeps the trail.
    assert_eq!(purge_all(&bed, PurgeKind::Audit, Timestamp(u64::MAX), 3).await, Ok(0));
    assert_eq!(bed.audit_log(0).await.len(), 4);
    // Also that of somebody, or of a room, of whom the store knows nothing else.
    store.release(Subject::User(user("8"))).await.unwrap();
    for unknown in [Subject::User(user("nobody")), Subject::Room(room("nowhere"))] {
        store.hold(hold(unknown.clone())).await.unwrap();
        assert_eq!(purge_all(&bed, PurgeKind::Audit, Timestamp(u64::MAX), 3).await, Ok(0));
        assert_eq!(bed.audit_log(0).await.len(), 4);
        store.release(unknown).await.unwrap();
    }
    // What a purge records of itself is old by this bound, too.
    assert!(purge_all(&bed, PurgeKind::Audit, Timestamp(u64::MAX), 3).await.unwrap() >= 4);
    bed.end().await;
}

pub async fn an_erasure_gives_the_same_certificate_again(bed: Bed) {
    live(&bed).await;
    let store = &bed.store;
    store.begin_erasure(user("7")).await.unwrap();
    assert_eq!(store.erasure(user("7")).await.unwrap().unwrap().finished_at, None);
    erase_all(&bed, "7", 4).await.unwrap();
    let first = store.erasure(user("7")).await.unwrap().unwrap();
    let document = |erasure: &Erasure| serde_json::to_string(&erasure.certificate([7; 16]).unwrap()).unwrap();
    bed.clock.advance(5_000);
    let bed = bed.reopen().await;
    let store = &bed.store;
    let trail = bed.audit_log(0).await;
    let begin =
        BeginErasure { user: user("7"), by: "another".into(), consent: true, floor: Duration::ZERO, is_dry_run: false };
    let again = store.act(begin, act(action::USER_ERASE, "user 7")).await.unwrap();
    assert_eq!((&again.erasure, document(&again.erasure)), (&first, document(&first)));
    assert_eq!((again.is_new, bed.audit_log(0).await), (false, trail), "nothing was done, and nothing is recorded");
    refused(store.erase(user("7"), 10).await.map(drop), Refusal::NotFound);
    assert_eq!(store.erasure(user("8")).await, Ok(None));
    // Something of theirs has been stored since: that is another erasure.
    bed.say("r", "7", "back again").await;
    let other = store.begin_erasure(user("7")).await.unwrap();
    assert_eq!((other.counts, other.finished_at, other.at), (ErasureCounts::default(), None, bed.now()));
    erase_all(&bed, "7", 100).await.unwrap();
    let second = store.erasure(user("7")).await.unwrap().unwrap();
    assert_eq!((second.counts.messages, second.counts.memberships), (1, 1));
    assert_ne!(document(&second), document(&first));
    bed.end().await;
}
