//! Notifications, inboxes, people and first answers.

use academy_rt::store::{InboxPage, InboxQuery};

use super::*;

const LEARNER: &[Role] = &[Role::Learner];
const ALL: Selection = Selection::All { up_to: None };

async fn titles(bed: &Bed, who: &str, roles: &[Role]) -> Vec<String> {
    let page = page(bed, who, roles, InboxQuery { limit: 100, ..InboxQuery::default() }).await;
    page.items.into_iter().map(|one| one.body.title).collect()
}

async fn page(bed: &Bed, who: &str, roles: &[Role], query: InboxQuery) -> InboxPage {
    bed.store.inbox(actor(who, roles), query).await.unwrap()
}

async fn tell(bed: &Bed, audience: Audience, title: &str) -> Notification {
    bed.store.notify(note(audience, title), None).await.unwrap().0
}

async fn arrive(bed: &Bed, who: &str, roles: &[Role]) -> Arrival {
    bed.store.arrive(actor(who, roles), bed.now(), 100).await.unwrap()
}

pub async fn everybody_has_their_own_inbox(bed: Bed) {
    tell(&bed, Audience::All, "before anybody").await;
    tell(&bed, Audience::Users(vec![user("7"), user("7")]), "for 7 alone").await;
    assert_eq!(titles(&bed, "7", LEARNER).await, ["for 7 alone"], "who never came has what names them");
    assert_eq!(arrive(&bed, "7", LEARNER).await.unread, 1);
    tell(&bed, Audience::All, "for all").await;
    arrive(&bed, "8", &[Role::Coach]).await;
    tell(&bed, Audience::Role(Role::Learner), "for learners").await;
    tell(&bed, Audience::Users(vec![user("7"), user("8")]), "for two").await;
    assert_eq!(titles(&bed, "7", LEARNER).await, ["for two", "for learners", "for all", "for 7 alone"]);
    assert_eq!(titles(&bed, "8", &[Role::Coach]).await, ["for two"]);
    assert!(titles(&bed, "9", LEARNER).await.is_empty());
    let seen = arrive(&bed, "7", LEARNER).await;
    assert_eq!((seen.unread, seen.undelivered.len()), (4, 4));
    assert!(seen.undelivered.windows(2).all(|two| two[0].id < two[1].id), "oldest first");
    let one = &seen.undelivered[0];
    let sent = note(Audience::All, "").body;
    assert_eq!((&one.body.metadata, &one.body.title_fr, one.at), (&sent.metadata, &sent.title_fr, bed.now()));
}

pub async fn a_role_is_asked_today(bed: Bed) {
    arrive(&bed, "7", LEARNER).await;
    tell(&bed, Audience::Role(Role::Coach), "coaches").await;
    assert!(titles(&bed, "7", LEARNER).await.is_empty());
    assert_eq!(titles(&bed, "7", &[Role::Coach]).await, ["coaches"]);
    let mine = page(&bed, "7", &[Role::Coach], InboxQuery { limit: 1, ..InboxQuery::default() }).await;
    let ids = Selection::Ids(vec![mine.items[0].id]);
    bed.store.mark_inbox(actor("7", &[Role::Coach]), ids, InboxAction::Read, None).await.unwrap();
    assert!(titles(&bed, "7", LEARNER).await.is_empty(), "a mark does not make it theirs");
}

pub async fn delivered_is_not_sent_again(bed: Bed) {
    arrive(&bed, "7", LEARNER).await;
    let first = tell(&bed, Audience::All, "1").await.id;
    tell(&bed, Audience::All, "2").await;
    let some = bed.store.arrive(actor("7", LEARNER), bed.now(), 1).await.unwrap();
    assert_eq!((some.undelivered.len(), some.undelivered[0].id, some.unread), (1, first, 2));
    bed.store.delivered(vec![(user("7"), first), (user("nobody"), first)]).await.unwrap();
    assert_eq!(arrive(&bed, "7", LEARNER).await.undelivered.len(), 1);
    bed.store.delivered(vec![(user("7"), u64::MAX)]).await.unwrap();
    assert!(arrive(&bed, "7", LEARNER).await.undelivered.is_empty());
    bed.store.delivered(vec![(user("7"), first)]).await.unwrap();
    assert!(arrive(&bed, "7", LEARNER).await.undelivered.is_empty(), "the watermark does not go back");
    tell(&bed, Audience::All, "3").await;
    let last = arrive(&bed, "7", LEARNER).await;
    assert_eq!((last.undelivered.len(), last.unread), (1, 3), "nothing beyond the last id was promised");
}

pub async fn reading_and_deleting(bed: Bed) {
    arrive(&bed, "7", LEARNER).await;
    arrive(&bed, "8", LEARNER).await;
    let a = tell(&bed, Audience::All, "a").await.id;
    let b = tell(&bed, Audience::Users(vec![user("7")]), "b").await.id;
    let me = || actor("7", LEARNER);
    let mark = |ids: Vec<u64>, action| bed.store.mark_inbox(me(), Selection::Ids(ids), action, Some(42));
    assert_eq!(mark(vec![b, a, a, 999], InboxAction::Read).await.unwrap(), (vec![a, b], 0));
    let heard = bed.heard.all();
    assert!(
        matches!(heard.last(), Some(Change::InboxChanged { unread: 0, origin: Some(42), selection: Selection::Ids(ids), .. }) if *ids == [a, b])
    );
    assert_eq!(mark(vec![a, b], InboxAction::Read).await.unwrap(), (vec![], 0));
    assert_eq!(bed.heard.all().len(), heard.len(), "what changes nothing is not told");
    assert_eq!(mark(vec![a], InboxAction::Delete).await.unwrap(), (vec![a], 0));
    assert_eq!(mark(vec![a], InboxAction::Delete).await.unwrap(), (vec![], 0));
    assert_eq!(titles(&bed, "7", LEARNER).await, ["b"]);
    assert_eq!(titles(&bed, "8", LEARNER).await, ["a"], "each inbox for itself");
    assert_eq!(arrive(&bed, "8", LEARNER).await.unread, 1);
    let stranger = bed.store.mark_inbox(actor("99", LEARNER), ALL, InboxAction::Read, None).await.unwrap();
    assert_eq!(stranger, (vec![], 0));
}

pub async fn all_is_read_and_deleted_at_once(bed: Bed) {
    arrive(&bed, "7", LEARNER).await;
    let a = tell(&bed, Audience::All, "a").await.id;
    tell(&bed, Audience::Role(Role::Learner), "b").await;
    let all = |action| bed.store.mark_inbox(actor("7", LEARNER), ALL, action, None);
    bed.store.mark_inbox(actor("7", LEARNER), Selection::Ids(vec![a]), InboxAction::Read, None).await.unwrap();
    assert_eq!(all(InboxAction::Read).await.unwrap(), (vec![], 0), "all of it: no ids are named");
    let c = tell(&bed, Audience::All, "c").await.id;
    let unread = InboxQuery { limit: 10, unread_only: true, before: None };
    let left = page(&bed, "7", LEARNER, unread).await;
    assert_eq!((left.items.len(), left.items[0].id, left.unread), (1, c, 1));
    assert_eq!(all(InboxAction::Delete).await.unwrap(), (vec![], 0));
    assert!(titles(&bed, "7", LEARNER).await.is_empty());
    tell(&bed, Audience::All, "d").await;
    assert_eq!(titles(&bed, "7", LEARNER).await, ["d"]);
    let told = bed.store.replay(actor("7", LEARNER), Vec::new(), 0, 100).await.unwrap().changes;
    let marks = told.iter().filter(|one| matches!(one, Change::InboxChanged { .. })).count();
    assert_eq!((marks, told.len()), (1, 2), "what all was done to needs no telling of what came before");
}

pub async fn inbox_pages(bed: Bed) {
    arrive(&bed, "7", LEARNER).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let audience = match n % 3 {
            0 => Audience::All,
            1 => Audience::Role(Role::Learner),
            _ => Audience::Users(vec![user("7")]),
        };
        ids.insert(0, tell(&bed, audience, &n.to_string()).await.id);
    }
    let first = page(&bed, "7", LEARNER, InboxQuery { limit: 4, ..InboxQuery::default() }).await;
    assert_eq!((first.items.iter().map(|one| one.id).collect::<Vec<_>>(), first.has_more), (ids[..4].to_vec(), true));
    let rest = InboxQuery { limit: 4, before: Some(ids[3]), unread_only: false };
    let rest = page(&bed, "7", LEARNER, rest).await;
    assert_eq!((rest.items.iter().map(|one| one.id).collect::<Vec<_>>(), rest.has_more), (ids[4..].to_vec(), false));
    assert_eq!(rest.unread, 6, "of the whole inbox");
}

pub async fn a_repeated_notification_is_the_first(bed: Bed) {
    let once = |title: &'static str| bed.store.notify(note(Audience::All, title), Some(key("svc", "k")));
    let (a, b) = tokio::join!(once("one"), once("one"));
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(a.0, b.0);
    assert_ne!(a.1, b.1);
    assert_eq!(bed.heard.all().len(), 1);
    refused(once("two").await, Refusal::KeyReused);
    bed.clock.advance(DAY);
    assert!(!once("three").await.unwrap().1);
}

pub async fn people_are_seen(bed: Bed) {
    bed.say("r", "8", "wrote, but never came").await;
    bed.store.left(user("9"), Timestamp(5)).await.unwrap();
    bed.store.arrive(actor("7", LEARNER), Timestamp(10), 0).await.unwrap();
    bed.store.left(user("7"), Timestamp(20)).await.unwrap();
    bed.store.left(user("7"), Timestamp(15)).await.unwrap();
    let seen = bed.store.last_seen(vec![user("9"), user("7"), user("8")]).await.unwrap();
    assert_eq!(seen, [None, Some(("name of 7".to_owned(), Timestamp(20))), None]);
}

pub async fn who_returns_within_a_minute_costs_the_disk_nothing(bed: Bed) {
    let came = |name: &str, at| {
        let arrival = Actor { name: name.to_owned(), ..actor("7", LEARNER) };
        bed.store.arrive(arrival, Timestamp(at), 0)
    };
    let seen = || async { bed.store.last_seen(vec![user("7")]).await.unwrap()[0].clone().unwrap() };
    came("Ann", 10_000).await.unwrap();
    let commits = bed.store.status().commits;
    for at in [10_001, 69_999, 5] {
        came("Ann", at).await.unwrap();
    }
    assert_eq!((bed.store.status().commits, seen().await), (commits, ("Ann".to_owned(), Timestamp(10_000))));
    came("Ann", 70_000).await.unwrap();
    assert_eq!((bed.store.status().commits, seen().await), (commits + 1, ("Ann".to_owned(), Timestamp(70_000))));
    // Who is not who they were is stored at once.
    came("Anne", 70_001).await.unwrap();
    assert_eq!((bed.store.status().commits, seen().await), (commits + 2, ("Anne".to_owned(), Timestamp(70_001))));
}

pub async fn first_answers_hold_a_day(bed: Bed) {
    let ask = |who, sockets| bed.store.first_answer(key(who, "k"), "{}", sockets);
    assert_eq!(ask("7", 1).await.unwrap(), None);
    assert_eq!(ask("7", 2).await.unwrap(), Some(1));
    assert_eq!(ask("8", 3).await.unwrap(), None, "theirs");
    refused(bed.store.first_answer(key("7", "k"), "another", 1).await, Refusal::KeyReused);
    bed.clock.advance(DAY);
    assert_eq!(ask("7", 4).await.unwrap(), None);
    assert_eq!(ask("7", 5).await.unwrap(), Some(4));
}

pub async fn a_clock_that_is_ahead_for_a_moment_ends_no_key_and_no_ban(bed: Bed) {
    let ask = |bed: &Bed, who, sockets| bed.store.first_answer(key(who, "k"), "{}", sockets);
    assert_eq!(ask(&bed, "7", 1).await.unwrap(), None);
    let (ban, by, at) = (Ban::Token("stolen".into()), "root".to_owned(), bed.now());
    let stolen = Banned { ban, before: at, until: Some(at.plus(Duration::from_secs(7_200))), by, at };
    bed.store.ban(stolen.clone()).await.unwrap();
    let other = |n: u64| Banned { ban: Ban::Token(format!("other {n}")), until: None, ..stolen.clone() };
    bed.clock.set_ahead(30 * DAY);
    // Other requests clear away what has ended.
    for n in 0..5 {
        bed.store.ban(other(n)).await.unwrap();
        bed.say("r", "9", "meanwhile").await;
    }
    assert_eq!(ask(&bed, "7", 2).await.unwrap(), Some(1), "while it is ahead");
    bed.clock.set_ahead(0);
    assert_eq!(ask(&bed, "7", 3).await.unwrap(), Some(1));
    let stands = async |bed: &Bed| bed.store.bans().await.unwrap().contains(&stolen);
    assert!(stands(&bed).await);
    // A clock that stays ahead for an hour is right.
    bed.clock.set_ahead(30 * DAY);
    bed.store.ban(other(6)).await.unwrap();
    bed.clock.advance(60 * 60 * 1_000);
    bed.store.ban(other(7)).await.unwrap();
    assert!(!stands(&bed).await);
    assert_eq!(ask(&bed, "7", 4).await.unwrap(), None);
    bed.end().await;
}

pub async fn each_audience_has_marks_of_its_own(bed: Bed) {
    const BOTH: &[Role] = &[Role::Learner, Role::Coach];
    arrive(&bed, "7", LEARNER).await;
    let coaches = tell(&bed, Audience::Role(Role::Coach), "for coaches").await.id;
    let all = tell(&bed, Audience::All, "for all").await.id;
    let named = tell(&bed, Audience::Users(vec![user("7")]), "for 7").await.id;
    let sent = |audience, up_to| {
        let marks = vec![(user("7"), DeliveryMark { audience, up_to })];
        bed.store.ask(Delivered { marks })
    };
    let waiting = async |roles| -> Vec<u64> {
        bed.store.arrival(actor("7", roles), 9).await.unwrap().undelivered.iter().map(|one| one.id).collect()
    };
    sent(AudienceKind::All, named).await.unwrap();
    assert_eq!(waiting(LEARNER).await, [named]);
    sent(AudienceKind::Named, named).await.unwrap();
    sent(AudienceKind::Role(Role::Learner), named).await.unwrap();
    assert!(waiting(LEARNER).await.is_empty());
    // Who is a coach from today on has been sent nothing of what went to coaches, whatever else they have been sent.
    assert_eq!(waiting(BOTH).await, [coaches]);
    // Nor have they read it.
    bed.store.mark_inbox(actor("7", LEARNER), ALL, InboxAction::Read, None).await.unwrap();
    let mine = page(&bed, "7", BOTH, InboxQuery { limit: 9, ..InboxQuery::default() }).await;
    let seen: Vec<(u64, bool)> = mine.items.iter().map(|one| (one.id, one.read)).collect();
    assert_eq!((seen, mine.unread), (vec![(named, true), (all, true), (coaches, false)], 1));
    bed.store.mark_inbox(actor("7", LEARNER), ALL, InboxAction::Delete, None).await.unwrap();
    assert_eq!(titles(&bed, "7", BOTH).await, ["for coaches"]);
    let bed = bed.reopen().await;
    assert_eq!(titles(&bed, "7", BOTH).await, ["for coaches"]);
    bed.end().await;
}

pub async fn all_up_to_an_id_leaves_what_came_later(bed: Bed) {
    arrive(&bed, "7", LEARNER).await;
    let mut ids = Vec::new();
    for audience in [Audience::All, Audience::Role(Role::Learner), Audience::Users(vec![user("7")]), Audience::All] {
        ids.push(tell(&bed, audience, "n").await.id);
    }
    let mark =
        |up_to, action| bed.store.mark_inbox(actor("7", LEARNER), Selection::All { up_to: Some(up_to) }, action, None);
    assert_eq!(mark(ids[1], InboxAction::Read).await.unwrap(), (vec![], 2));
    assert!(matches!(
        bed.heard.all().last(),
        Some(Change::InboxChanged { selection: Selection::All { up_to: Some(id) }, unread: 2, .. }) if *id == ids[1]
    ));
    let heard = bed.heard.all().len();
    assert_eq!(mark(ids[0], InboxAction::Read).await.unwrap(), (vec![], 2), "it was read");
    assert_eq!(bed.heard.all().len(), heard, "what changes nothing is not told");
    assert_eq!(mark(ids[2], InboxAction::Read).await.unwrap(), (vec![], 1));
    assert_eq!(mark(ids[1], InboxAction::Delete).await.unwrap(), (vec![], 1));
    let left = page(&bed, "7", LEARNER, InboxQuery { limit: 9, ..InboxQuery::default() }).await;
    assert_eq!(left.items.iter().map(|one| (one.id, one.read)).collect::<Vec<_>>(), [(ids[3], false), (ids[2], true)]);
    // An id of the future is no promise of what comes.
    assert_eq!(mark(u64::MAX, InboxAction::Read).await.unwrap(), (vec![], 0));
    tell(&bed, Audience::All, "later").await;
    let bed = bed.reopen().await;
    assert_eq!(arrive(&bed, "7", LEARNER).await.unread, 1);
    let told = bed.store.replay(actor("7", LEARNER), Vec::new(), 0, 100).await.unwrap();
    let deleted = told.changes.iter().any(|one| {
        matches!(one, Change::InboxChanged { selection: Selection::All { up_to: Some(id) }, action: InboxAction::Delete, .. }
            if *id == ids[1])
    });
    assert!(deleted, "{:?}", told.changes);
    bed.end().await;
}

pub async fn unread_is_kept_and_is_what_counting_gives(bed: Bed) {
    let audiences = [
        Audience::All,
        Audience::Role(Role::Learner),
        Audience::Role(Role::Coach),
        Audience::Users(vec![user("7")]),
        Audience::Users(vec![user("7"), user("8"), user("7")]),
    ];
    let counted = async |who, roles| {
        let inbox = page(&bed, who, roles, InboxQuery { limit: 10_000, ..InboxQuery::default() }).await;
        assert_eq!(inbox.unread, inbox.items.iter().filter(|one| !one.read).count() as u64, "{who}");
        inbox.items.len()
    };
    arrive(&bed, "7", LEARNER).await;
    let mut ids = Vec::new();
    for n in 0..700 {
        ids.push(tell(&bed, audiences[n % audiences.len()].clone(), "n").await.id);
        if n == 300 {
            arrive(&bed, "8", &[Role::Coach]).await;
        }
    }
    for (n, id) in ids.iter().enumerate().filter(|(n, _)| n % 7 < 3) {
        let action = if n % 7 == 0 { InboxAction::Delete } else { InboxAction::Read };
        for (who, roles) in [("7", LEARNER), ("8", &[Role::Coach])] {
            bed.store.mark_inbox(actor(who, roles), Selection::Ids(vec![*id]), action, None).await.unwrap();
        }
        if n % 70 == 0 {
            assert!(counted("7", LEARNER).await > counted("8", &[Role::Coach]).await);
        }
    }
    for up_to in [Some(ids[100]), Some(ids[400]), None] {
        bed.store.mark_inbox(actor("7", LEARNER), Selection::All { up_to }, InboxAction::Read, None).await.unwrap();
        counted("7", LEARNER).await;
        counted("7", &[Role::Coach]).await;
        counted("8", &[Role::Coach]).await;
    }
    // A purge takes from the beginning, and a hold keeps what is of somebody.
    bed.store.hold(super::cases_maintenance::hold(Subject::User(user("8")))).await.unwrap();
    bed.clock.advance(1_000);
    let later = tell(&bed, Audience::All, "later").await;
    super::cases_maintenance::purge_all(&bed, PurgeKind::Notifications, later.at, 50).await.unwrap();
    counted("7", LEARNER).await;
    assert!(counted("8", &[Role::Coach]).await > 1);
    bed.end().await;
}

pub async fn two_people_in_one_request_have_marks_of_their_own(bed: Bed) {
    for who in ["7", "8"] {
        arrive(&bed, who, LEARNER).await;
    }
    let (first, second) = (tell(&bed, Audience::All, "1").await.id, tell(&bed, Audience::All, "2").await.id);
    let sent = |who, up_to| (user(who), DeliveryMark { audience: AudienceKind::All, up_to });
    bed.store.ask(Delivered { marks: vec![sent("7", first), sent("8", second)] }).await.unwrap();
    let waiting = async |who| -> Vec<u64> {
        bed.store.arrival(actor(who, LEARNER), 9).await.unwrap().undelivered.iter().map(|one| one.id).collect()
    };
    assert_eq!((waiting("7").await, waiting("8").await), (vec![second], vec![]));
    bed.end().await;
}

pub async fn what_is_not_in_an_inbox_is_not_marked(bed: Bed) {
    let before = tell(&bed, Audience::All, "the last one before they came").await.id;
    arrive(&bed, "7", LEARNER).await;
    let mark = |selection, action| bed.store.mark_inbox(actor("7", LEARNER), selection, action, None);
    assert_eq!(mark(Selection::Ids(vec![before]), InboxAction::Delete).await.unwrap(), (vec![], 0));
    let (first, _) = (tell(&bed, Audience::All, "1").await.id, tell(&bed, Audience::All, "2").await.id);
    let up_to_first = || Selection::All { up_to: Some(first) };
    assert_eq!(mark(up_to_first(), InboxAction::Delete).await.unwrap(), (vec![], 1));
    let heard = bed.heard.all().len();
    // The one that all was deleted up to is gone, too; and so far there is nothing left to delete.
    assert_eq!(mark(Selection::Ids(vec![first]), InboxAction::Read).await.unwrap(), (vec![], 1));
    assert_eq!(mark(up_to_first(), InboxAction::Delete).await.unwrap(), (vec![], 1));
    assert_eq!(bed.heard.all().len(), heard, "what changes nothing is not told");
    bed.end().await;
}

/// What is told of marks to somebody who comes back: whether they are of all, and what was done.
async fn told_of_marks(bed: &Bed, who: &str) -> Vec<(bool, InboxAction)> {
    let told = bed.store.replay(actor(who, LEARNER), Vec::new(), 0, 1_000).await.unwrap().changes;
    let marks = told.iter().filter_map(|change| match change {
        Change::InboxChanged { selection, action, .. } => Some((matches!(selection, Selection::All { .. }), *action)),
        _ => None,
    });
    marks.collect()
}

pub async fn what_all_was_done_to_supersedes_what_it_covers(bed: Bed) {
    const READ: InboxAction = InboxAction::Read;
    const DELETE: InboxAction = InboxAction::Delete;
    arrive(&bed, "7", LEARNER).await;
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(tell(&bed, Audience::All, &n.to_string()).await.id);
    }
    let mark = |selection, action| bed.store.mark_inbox(actor("7", LEARNER), selection, action, None);
    mark(Selection::Ids(vec![ids[0]]), DELETE).await.unwrap();
    mark(Selection::Ids(vec![ids[1]]), READ).await.unwrap();
    mark(ALL, READ).await.unwrap();
    assert_eq!(told_of_marks(&bed, "7").await, [(false, DELETE), (true, READ)], "a deletion is not undone by reading");
    mark(Selection::Ids(vec![ids[2]]), DELETE).await.unwrap();
    mark(ALL, DELETE).await.unwrap();
    assert_eq!(told_of_marks(&bed, "7").await, [(true, DELETE)]);
    bed.end().await;
}

pub async fn unread_is_right_at_each_step_of_a_purge(bed: Bed) {
    for who in ["7", "8", "9"] {
        arrive(&bed, who, LEARNER).await;
    }
    let mut ids = Vec::new();
    for n in 1..=6 {
        ids.push(bed.store.at(n * 10).notify(note(Audience::All, &n.to_string()), None).await.unwrap().0.id);
    }
    let mark =
        |who, n: usize, action| bed.store.mark_inbox(actor(who, LEARNER), Selection::Ids(vec![ids[n]]), action, None);
    // What somebody who is held has marked stays: somebody else has read it, somebody has not, somebody has deleted it.
    bed.store.hold(super::cases_maintenance::hold(Subject::User(user("8")))).await.unwrap();
    for (who, n, action) in [
        ("8", 1, InboxAction::Read),
        ("8", 3, InboxAction::Read),
        ("7", 0, InboxAction::Read),
        ("7", 1, InboxAction::Read),
        ("7", 2, InboxAction::Delete),
        ("9", 0, InboxAction::Read),
        ("9", 3, InboxAction::Delete),
    ] {
        mark(who, n, action).await.unwrap();
    }
    let mut cursor = Some(PurgeCursor::default());
    while let Some(from) = cursor {
        cursor = bed.store.purge(PurgeKind::Notifications, Timestamp(45), from, 1).await.unwrap().next;
        for who in ["7", "8", "9"] {
            let inbox = page(&bed, who, LEARNER, InboxQuery { limit: 9, ..InboxQuery::default() }).await;
            let counted = inbox.items.iter().filter(|one| !one.read).count() as u64;
            assert_eq!(inbox.unread, counted, "{who} behind {from:?}");
        }
    }
    assert_eq!(titles(&bed, "7", LEARNER).await, ["6", "5", "4", "2"]);
    assert_eq!(titles(&bed, "9", LEARNER).await, ["6", "5", "2"]);
    // Of what is gone nobody's marks are left: two are 8's, one is 7's, one is 9's.
    let rows = bed.store.row_counts().await.unwrap();
    assert!(rows.contains(&("inbox", 4)), "{rows:?}");
    bed.end().await;
}

pub async fn marks_from_before_the_oldest_notification_are_not_told_again(bed: Bed) {
    for who in ["7", "8"] {
        arrive(&bed, who, LEARNER).await;
    }
    let purge = async |before| {
        super::cases_maintenance::purge_all(&bed, PurgeKind::Notifications, Timestamp(before), 1).await.unwrap()
    };
    for n in 1..=2 {
        let id = bed.store.at(n * 10).notify(note(Audience::All, &n.to_string()), None).await.unwrap().0.id;
        for who in ["7", "8"] {
            let read = Selection::Ids(vec![id]);
            bed.store.mark_inbox(actor(who, LEARNER), read, InboxAction::Read, None).await.unwrap();
        }
    }
    assert_eq!((told_of_marks(&bed, "7").await.len(), told_of_marks(&bed, "8").await.len()), (2, 2));
    assert_eq!(purge(15).await, 1);
    assert_eq!((told_of_marks(&bed, "7").await.len(), told_of_marks(&bed, "8").await.len()), (1, 1));
    // Where no notification is left none is the oldest: who comes back hears that theirs are read.
    assert_eq!(purge(25).await, 1);
    assert_eq!((told_of_marks(&bed, "7").await.len(), told_of_marks(&bed, "8").await.len()), (1, 1));
    bed.end().await;
}

pub async fn a_purge_looks_at_one_slice_of_what_is_young(bed: Bed) {
    for n in 0..20 {
        tell(&bed, Audience::All, &n.to_string()).await;
    }
    let mut slices = 0;
    let mut cursor = Some(PurgeCursor::default());
    while let Some(from) = cursor {
        cursor = bed.store.purge(PurgeKind::Notifications, Timestamp(10), from, 2).await.unwrap().next;
        slices += 1;
    }
    assert_eq!(slices, 2, "a slice of notifications, and one of people");
    bed.end().await;
}
