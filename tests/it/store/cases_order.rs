//! How order is kept in rooms: who may lock, slow and mute, whatever the clock does; and what becomes of reports.

use academy_rt::domain::report::Report;
use academy_rt::domain::room_state::{RoomState, StateChange};
use academy_rt::store::ReportQuery;
use academy_rt::store::operations::{
    MuteMember, ReportMessage, Reported, ResolveReport, Resolved, SetRoomState, StateSet, UnmuteMember,
};

use super::cases_maintenance::{erase_all, hold, purge_all};
use super::*;

const MINUTE: u64 = 60_000;

/// A room with a moderator (9) and people who have said something.
async fn classroom(bed: &Bed) {
    for who in ["7", "8", "9"] {
        bed.say("r", who, "hello").await;
    }
    bed.store.set_member(room("r"), user("9"), Membership::Moderator).await.unwrap();
}

fn set(bed: &Bed, by: Author, change: StateChange) -> Asked<StateSet> {
    bed.store.ask(SetRoomState { room: room("r"), by, change, policy: OPEN })
}

fn mute(bed: &Bed, by: Author, who: &str, for_ms: u64) -> Asked<Banned> {
    let until = bed.now().plus(Duration::from_millis(for_ms));
    bed.store.ask(MuteMember { room: room("r"), user: user(who), by, until, policy: OPEN })
}

fn unmute(bed: &Bed, by: Author, who: &str) -> Asked<Banned> {
    bed.store.ask(UnmuteMember { room: room("r"), user: user(who), by, policy: OPEN })
}

fn say(bed: &Bed, who: &str) -> Asked<Posted> {
    bed.store.append_message(draft("r", who, "a word", None), OPEN)
}

fn report_of(bed: &Bed, who: &str, message_id: u64) -> Asked<Reported> {
    let (by, reason) = (author(who), format!("reason of {who}"));
    let moderators = vec![user("9"), user("root"), user("8")];
    bed.store.ask(ReportMessage { room: room("r"), message_id, by, reason, moderators, policy: OPEN })
}

fn resolve(bed: &Bed, by: Author, report: u64) -> Asked<Resolved> {
    let note = format!("note of {}", by.user);
    let moderators = vec![user("9")];
    bed.store.ask(ResolveReport { report, room: Some(room("r")), by, note, moderators, policy: OPEN })
}

async fn reports(bed: &Bed, viewer: Author, all: bool) -> Vec<Report> {
    let query = ReportQuery { room: Some(room("r")), before: None, limit: 100, resolved_too: all };
    bed.store.reports(viewer, query, OPEN).await.unwrap().items
}

/// What a wait is, if somebody has to wait.
fn wait_of(said: Result<Posted, StoreError>) -> Option<u64> {
    match said {
        Ok(_) => None,
        Err(StoreError::Refused(Refusal::TooSoon(wait))) => Some(u64::try_from(wait.as_millis()).unwrap()),
        Err(other) => panic!("{other}"),
    }
}

pub async fn a_locked_room_is_for_those_who_keep_order(bed: Bed) {
    classroom(&bed).await;
    let own = bed.say("r", "7", "mine").await.id;
    let lock = |by, locked| set(&bed, by, StateChange::Lock(locked));
    for who in ["7", "stranger"] {
        refused(lock(author(who), true).await, Refusal::Forbidden);
    }
    // A moderator of another room is nobody here, and a room that is not there is none.
    bed.say("s", "8", "x").await;
    bed.store.set_member(room("s"), user("8"), Membership::Moderator).await.unwrap();
    refused(lock(author("8"), true).await, Refusal::Forbidden);
    let nowhere = SetRoomState { room: room("nowhere"), by: admin(), change: StateChange::Lock(true), policy: OPEN };
    refused(bed.store.ask(nowhere).await, Refusal::NotFound);

    assert!(lock(author("9"), true).await.unwrap().is_new);
    // Done again it is no change, and nobody is told twice.
    let again = lock(admin(), true).await.unwrap();
    assert_eq!(again, StateSet { state: RoomState { locked: true, slow_seconds: 0 }, is_new: false });
    for who in ["7", "8", "newcomer"] {
        refused(say(&bed, who).await, Refusal::Locked);
    }
    refused(bed.store.edit_message(change("r", own, author("7")), "other".into(), OPEN).await, Refusal::Locked);
    refused(bed.store.may_write(room("r"), author("7"), OPEN).await, Refusal::Locked);
    bed.store.may_write(room("r"), author("9"), OPEN).await.unwrap();
    // They read, and take back what they have said.
    assert_eq!(bed.store.history(room("r"), author("7"), latest(9), OPEN).await.unwrap().messages.len(), 4);
    bed.store.delete_message(change("r", own, author("7")), OPEN).await.unwrap();
    say(&bed, "9").await.unwrap();
    bed.store.append_message(Draft { author: admin(), ..draft("r", "root", "x", None) }, OPEN).await.unwrap();
    // It is in what is read of the room, and over a restart.
    let bed = bed.reopen().await;
    refused(say(&bed, "7").await, Refusal::Locked);
    let page = bed.store.history(room("r"), author("9"), latest(1), OPEN).await.unwrap();
    assert_eq!((page.state.locked, page.membership), (true, Some(Membership::Moderator)));
    assert_eq!(bed.store.locked_rooms().await.unwrap(), [room("r")]);
    assert!(set(&bed, author("9"), StateChange::Lock(false)).await.unwrap().is_new);
    say(&bed, "7").await.unwrap();
    assert!(bed.store.locked_rooms().await.unwrap().is_empty());
    bed.end().await;
}

pub async fn slow_mode_lets_each_write_once_in_an_interval(bed: Bed) {
    classroom(&bed).await;
    refused(set(&bed, author("7"), StateChange::Slow(10)).await, Refusal::Forbidden);
    set(&bed, author("9"), StateChange::Slow(10)).await.unwrap();
    // What was said before counts for nothing; from now on each has an interval of their own.
    assert_eq!(wait_of(say(&bed, "7").await), None);
    assert_eq!(wait_of(say(&bed, "7").await), Some(10_000));
    assert_eq!(wait_of(say(&bed, "8").await), None);
    bed.clock.advance(4_000);
    assert_eq!(wait_of(say(&bed, "7").await), Some(6_000));
    // A room that was left and joined again is no way around it, and neither is a restart.
    bed.store.leave_room("r", "7").await.unwrap();
    bed.store.join_room(room("r"), author("7"), latest(1), OPEN).await.unwrap();
    let bed = bed.reopen().await;
    bed.clock.advance(5_999);
    assert_eq!(wait_of(say(&bed, "7").await), Some(1));
    bed.clock.advance(1);
    assert_eq!(wait_of(say(&bed, "7").await), None);
    // Of two that come together one is too early, whichever.
    bed.clock.advance(10_000);
    let (one, two) = (say(&bed, "7"), say(&bed, "7"));
    let waits = [wait_of(one.await), wait_of(two.await)];
    assert_eq!(waits.iter().flatten().count(), 1, "{waits:?}");
    // Moderators and administrators write as they like; the first answer comes before the rules.
    for _ in 0..3 {
        say(&bed, "9").await.unwrap();
    }
    bed.clock.advance(10_000);
    let keyed = || bed.store.append_message(draft("r", "7", "keyed", Some("k")), OPEN);
    assert!(!keyed().await.unwrap().duplicate);
    assert!(keyed().await.unwrap().duplicate);
    // With its end everybody writes, and nothing of it is left when it comes again.
    set(&bed, author("9"), StateChange::Slow(0)).await.unwrap();
    say(&bed, "7").await.unwrap();
    set(&bed, author("9"), StateChange::Slow(3_600)).await.unwrap();
    assert_eq!(wait_of(say(&bed, "7").await), None);
    assert_eq!(wait_of(say(&bed, "7").await), Some(3_600_000));
    bed.end().await;
}

pub async fn a_clock_that_jumps_ends_no_mute_and_no_interval(bed: Bed) {
    classroom(&bed).await;
    mute(&bed, author("9"), "7", 10 * MINUTE).await.unwrap();
    set(&bed, author("9"), StateChange::Slow(600)).await.unwrap();
    assert_eq!(wait_of(say(&bed, "8").await), None);
    let is_muted = |said: Result<Posted, StoreError>| matches!(said, Err(StoreError::Refused(Refusal::Muted { .. })));
    assert!(is_muted(say(&bed, "7").await));
    // A day ahead for a moment: both still hold, and end when their time has passed.
    bed.clock.set_ahead(DAY);
    bed.clock.advance(MINUTE);
    assert!(is_muted(say(&bed, "7").await), "a clock that is set ahead ends no mute");
    assert_eq!(wait_of(say(&bed, "8").await), Some(9 * MINUTE), "and no interval of slow mode");
    bed.clock.set_ahead(0);
    bed.clock.advance(MINUTE);
    assert!(is_muted(say(&bed, "7").await));
    bed.clock.set_ahead(DAY);
    bed.clock.advance(8 * MINUTE);
    // While it is ahead they end by the time that has passed.
    assert_eq!(wait_of(say(&bed, "7").await), None, "the mute has ended");
    assert_eq!(wait_of(say(&bed, "8").await), None, "the interval has passed");
    // A clock that is set back keeps nobody waiting for a day.
    bed.clock.set_ahead(0);
    bed.clock.advance(2 * 60 * MINUTE);
    bed.clock.set_ahead(DAY);
    bed.clock.advance(2 * 60 * MINUTE);
    assert_eq!(wait_of(say(&bed, "8").await), None, "it has been ahead for long, and is believed");
    bed.clock.set_ahead(0);
    assert_eq!(wait_of(say(&bed, "8").await), None);
    bed.end().await;
}

pub async fn a_moderator_mutes_those_who_keep_no_order(bed: Bed) {
    classroom(&bed).await;
    bed.store.arrive(actor("1", &[Role::Admin]), bed.now(), 1).await.unwrap();
    bed.say("r", "1", "an administrator").await;
    bed.store.set_member(room("r"), user("8"), Membership::Moderator).await.unwrap();
    bed.say("s", "5", "x").await;
    refused(mute(&bed, author("7"), "8", MINUTE).await.map(drop), Refusal::Forbidden);
    for who in ["8", "9", "1"] {
        refused(mute(&bed, author("9"), who, MINUTE).await.map(drop), Refusal::KeepsOrder(user(who)));
    }
    // Who takes no part in the room, or was never heard of.
    for who in ["5", "nobody"] {
        refused(mute(&bed, author("9"), who, MINUTE).await.map(drop), Refusal::NotFound);
    }
    let banned = mute(&bed, author("9"), "7", MINUTE).await.unwrap();
    assert_eq!((banned.by.as_str(), banned.ban), ("9", Ban::Mute { user: user("7"), room: Some(room("r")) }));
    assert!(matches!(say(&bed, "7").await, Err(StoreError::Refused(Refusal::Muted { .. }))));
    bed.say("s", "7", "elsewhere they write").await;
    let mutes: Vec<UserItem> = bed.store.export(user("7"), 3).await.unwrap();
    assert!(mutes.iter().any(|item| matches!(item, UserItem::Mute(mute) if mute.by == "9")), "{mutes:?}");
    // Two at once: the later word stands, and both were told what they have set.
    let (one, two) = (mute(&bed, author("9"), "7", 2 * MINUTE), mute(&bed, author("8"), "7", 3 * MINUTE));
    let both = [one.await.unwrap(), two.await.unwrap()].map(|banned| banned.by);
    assert_eq!(both, ["9", "8"]);
    refused(unmute(&bed, author("7"), "7").await.map(drop), Refusal::Forbidden);
    assert_eq!(unmute(&bed, author("8"), "7").await.unwrap().by, "8");
    refused(unmute(&bed, author("9"), "7").await.map(drop), Refusal::NotFound);
    say(&bed, "7").await.unwrap();
    // What an administrator has set against a moderator is not theirs to lift.
    let ban = Ban::Mute { user: user("9"), room: Some(room("r")) };
    let until = Some(bed.now().plus(Duration::from_secs(60)));
    bed.store.ban(Banned { ban, before: bed.now(), until, by: "root".into(), at: bed.now() }).await.unwrap();
    refused(unmute(&bed, author("9"), "9").await.map(drop), Refusal::Forbidden);
    assert!(unmute(&bed, author("8"), "9").await.is_ok());
    bed.end().await;
}

pub async fn a_report_keeps_what_the_message_said(bed: Bed) {
    classroom(&bed).await;
    let id = bed.say("r", "7", "an unkind word").await.id;
    let own = bed.say("r", "9", "a moderator's own").await.id;
    let first = report_of(&bed, "8", id).await.unwrap();
    // One of each person and message.
    let again = report_of(&bed, "8", id).await.unwrap();
    assert_eq!((again.id, again.at, again.duplicate), (first.id, first.at, true));
    let second = report_of(&bed, "5", id).await.unwrap();
    let on_own = report_of(&bed, "8", own).await.unwrap();
    // The author changes it and takes it back; the reports say what it said.
    bed.store.edit_message(change("r", id, author("7")), "a kind word".into(), OPEN).await.unwrap();
    bed.store.delete_message(change("r", id, author("7")), OPEN).await.unwrap();
    refused(report_of(&bed, "3", id).await, Refusal::Deleted(id));
    assert!(report_of(&bed, "8", id).await.unwrap().duplicate, "what was reported before stays reported");
    refused(report_of(&bed, "8", 999_999).await, Refusal::NotFound);
    let elsewhere = bed.say("s", "7", "in another room").await.id;
    refused(report_of(&bed, "8", elsewhere).await, Refusal::NotFound);
    bed.store
        .create_room(RoomDraft {
            id: room("p"),
            name: None,
            private: true,
            members: vec![(user("7"), Membership::Member)],
        })
        .await
        .unwrap();
    let hidden = bed.store.append_message(draft("p", "7", "x", None), OPEN).await.unwrap().id;
    let report = ReportMessage {
        room: room("p"),
        message_id: hidden,
        by: author("8"),
        reason: "x".into(),
        moderators: Vec::new(),
        policy: OPEN,
    };
    refused(bed.store.ask(report).await, Refusal::Forbidden);

    // A moderator sees those of their room, but for those on what they wrote themselves; an administrator all.
    let seen = |found: Vec<Report>| found.into_iter().map(|report| report.id).collect::<Vec<_>>();
    assert_eq!(seen(reports(&bed, author("9"), false).await), [second.id, first.id]);
    assert_eq!(seen(reports(&bed, admin(), false).await), [on_own.id, second.id, first.id]);
    for who in ["7", "8", "stranger"] {
        let query = ReportQuery { room: Some(room("r")), limit: 9, ..ReportQuery::default() };
        refused(bed.store.reports(author(who), query, OPEN).await, Refusal::Forbidden);
    }
    refused(
        bed.store.reports(author("9"), ReportQuery { limit: 9, ..ReportQuery::default() }, OPEN).await,
        Refusal::Forbidden,
    );
    let (kept, mut pages, mut before) = (reports(&bed, author("9"), false).await, Vec::new(), None);
    assert_eq!((kept[1].content.as_str(), kept[1].reason.as_str()), ("an unkind word", "reason of 8"));
    loop {
        let query = ReportQuery { room: None, before, limit: 1, resolved_too: true };
        let page = bed.store.reports(admin(), query, OPEN).await.unwrap();
        pages.extend(seen(page.items));
        match page.next {
            Some(next) => before = Some(next),
            None => break,
        }
    }
    assert_eq!(pages, [on_own.id, second.id, first.id]);

    // Of two who resolve it at once, both are told whose word stands.
    refused(resolve(&bed, author("8"), first.id).await.map(drop), Refusal::Forbidden);
    refused(resolve(&bed, author("9"), on_own.id).await.map(drop), Refusal::Forbidden);
    let (one, two) = (resolve(&bed, author("9"), first.id), resolve(&bed, admin(), first.id));
    let (one, two) = (one.await.unwrap(), two.await.unwrap());
    assert_eq!((one.is_new, two.is_new), (true, false));
    assert_eq!(one.report.resolution, two.report.resolution);
    assert_eq!(two.report.resolution.unwrap().by, user("9"));
    assert_eq!(seen(reports(&bed, author("9"), false).await), [second.id]);
    assert_eq!(seen(reports(&bed, author("9"), true).await), [second.id, first.id]);
    // The sink has heard of each once, and who is told: the moderator but not of their own, nobody else who was named.
    let told: Vec<(u64, Vec<String>)> = bed
        .heard
        .all()
        .into_iter()
        .filter_map(|change| match change {
            Change::Reported { report, to, .. } => {
                Some((report.id, to.moderators.iter().map(UserId::canonical).collect()))
            }
            _ => None,
        })
        .collect();
    let nine = || vec!["9".to_owned()];
    assert_eq!(told, [(first.id, nine()), (second.id, nine()), (on_own.id, vec![]), (first.id, nine())]);
    bed.end().await;
}

pub async fn who_returns_is_told_of_states_and_reports(bed: Bed) {
    classroom(&bed).await;
    let id = bed.say("r", "7", "a word").await.id;
    let before = bed.store.last_id();
    set(&bed, author("9"), StateChange::Lock(true)).await.unwrap();
    set(&bed, author("9"), StateChange::Slow(5)).await.unwrap();
    let first = report_of(&bed, "8", id).await.unwrap();
    let second = report_of(&bed, "7", id).await.unwrap();
    resolve(&bed, author("9"), first.id).await.unwrap();
    let bed = bed.reopen().await;
    let missed = async |who: &str, roles: &[Role]| {
        let replay = bed.store.replay(actor(who, roles), vec![room("r")], before, 100).await.unwrap();
        assert_rising(&replay.changes);
        let mut told = Vec::new();
        for change in replay.changes {
            match change {
                Change::StateSet { state, .. } => told.push(format!("{} {}", state.locked, state.slow_seconds)),
                Change::Reported { report, to, .. } => told.push(format!(
                    "{} {} {} {}",
                    report.id == second.id,
                    report.resolution.is_some(),
                    to.administrators,
                    to.moderators.len()
                )),
                _ => {}
            }
        }
        told
    };
    // As it is now, and each once: to a moderator as such, to an administrator as such, to others the state alone.
    assert_eq!(missed("9", &[Role::Learner]).await, ["true 5", "true false false 1", "false true false 1"]);
    assert_eq!(missed("1", &[Role::Admin]).await, ["true 5", "true false true 0", "false true true 0"]);
    assert_eq!(missed("7", &[Role::Learner]).await, ["true 5"]);
    // Who is no moderator any more is told of no reports.
    bed.store.set_member(room("r"), user("9"), Membership::Member).await.unwrap();
    assert_eq!(missed("9", &[Role::Learner]).await, ["true 5"]);
    bed.end().await;
}

pub async fn reports_go_with_their_messages_and_with_who_made_them(bed: Bed) {
    classroom(&bed).await;
    let of_7 = bed.say("r", "7", "of seven").await.id;
    let of_8 = bed.say("r", "8", "of eight").await.id;
    report_of(&bed, "8", of_7).await.unwrap();
    report_of(&bed, "5", of_7).await.unwrap();
    let kept = report_of(&bed, "7", of_8).await.unwrap();
    resolve(&bed, author("9"), kept.id).await.unwrap();
    // Who has reported has that in their export, and who wrote it what was kept of it.
    let exported = |items: &[UserItem]| -> (Vec<String>, Vec<String>) {
        let reported = items.iter().filter_map(|item| match item {
            UserItem::Report(report) => Some((true, report.reason.clone())),
            UserItem::Reported(report) => Some((false, report.content.clone())),
            _ => None,
        });
        let (made, about): (Vec<_>, Vec<_>) = reported.partition(|(is_made, _)| *is_made);
        let texts = |list: Vec<(bool, String)>| list.into_iter().map(|(_, text)| text).collect();
        (texts(made), texts(about))
    };
    for limit in [1, 100] {
        let found = exported(&bed.store.export(user("7"), limit).await.unwrap());
        let about = vec!["of seven".to_owned(); 2];
        assert_eq!(found, (vec!["reason of 7".to_owned()], about), "{limit} at a time");
    }
    // Who has done nothing but report is somebody whose data can be erased.
    assert!(!exported(&bed.store.export(user("5"), 9).await.unwrap()).0.is_empty());
    assert!(bed.store.begin_erasure(user("5")).await.unwrap().finished_at.is_none());
    erase_all(&bed, "5", 1).await.unwrap();
    assert_eq!(reports(&bed, admin(), true).await.len(), 2);
    // With its author goes what a message said, also in reports; with who resolved it, who that was.
    bed.store.begin_erasure(user("9")).await.unwrap();
    erase_all(&bed, "9", 1).await.unwrap();
    let resolution = reports(&bed, admin(), true).await[0].resolution.clone().unwrap();
    assert_eq!(resolution.by, UserId::erased());
    bed.store.begin_erasure(user("7")).await.unwrap();
    erase_all(&bed, "7", 1).await.unwrap();
    assert!(reports(&bed, admin(), true).await.is_empty(), "that on what they said, and that which they made");
    let bed = bed.reopen().await;
    // A purge by age takes them along, and so does the removal of a room.
    report_of(&bed, "3", of_8).await.unwrap();
    bed.clock.advance(DAY);
    let young = bed.say("r", "8", "young").await.id;
    report_of(&bed, "3", young).await.unwrap();
    purge_all(&bed, PurgeKind::Chat, Timestamp(bed.now().0 - 1_000), 1).await.unwrap();
    let left: Vec<u64> = reports(&bed, admin(), true).await.iter().map(|report| report.message_id).collect();
    assert_eq!(left, [young]);
    bed.store.begin_removal(room("r")).await.unwrap();
    while !bed.store.remove_messages(1).await.unwrap() {}
    let all = ReportQuery { limit: 9, resolved_too: true, ..ReportQuery::default() };
    assert!(bed.store.reports(admin(), all, OPEN).await.unwrap().items.is_empty());
    bed.end().await;
}

pub async fn a_hold_keeps_reports(bed: Bed) {
    classroom(&bed).await;
    let of_7 = bed.say("r", "7", "of seven").await.id;
    report_of(&bed, "5", of_7).await.unwrap();
    let is_held = |result: Result<(), StoreError>| matches!(result, Err(StoreError::Refused(Refusal::Held(_))));
    // On who has made it, on who wrote what it shows, and on the room.
    for subject in [Subject::User(user("5")), Subject::User(user("7")), Subject::Room(room("r"))] {
        bed.store.hold(hold(subject.clone())).await.unwrap();
        for who in ["5", "7"] {
            assert!(is_held(bed.store.begin_erasure(user(who)).await.map(drop)), "{who} under a hold on {subject}");
        }
        purge_all(&bed, PurgeKind::Chat, bed.now().plus(Duration::from_millis(DAY)), 10).await.unwrap();
        assert_eq!(reports(&bed, admin(), true).await.len(), 1, "purged under a hold on {subject}");
        assert!(is_held(bed.store.begin_removal(room("r")).await.map(drop)), "removed under a hold on {subject}");
        bed.store.release(subject).await.unwrap();
    }
    // A hold that would come too late is refused.
    bed.store.begin_erasure(user("7")).await.unwrap();
    refused(bed.store.hold(hold(Subject::User(user("5")))).await, Refusal::Erasing(user("7")));
    erase_all(&bed, "7", 1).await.unwrap();
    assert!(reports(&bed, admin(), true).await.is_empty());
    bed.end().await;
}
