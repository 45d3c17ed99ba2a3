//! Notifications that wait for a time, that are over, and that are taken back.

use academy_rt::domain::notification::{Ending, MAX_TIMED, Notice, NoticeState, Times};
use academy_rt::store::InboxQuery;
use academy_rt::store::notices::{NoticeQuery, ReaderQuery, StateFilter};

use super::*;

const LEARNER: &[Role] = &[Role::Learner];

fn schedule(audience: Audience, title: &str, at: Option<u64>, until: Option<u64>) -> Schedule {
    let times = Times { at: at.map(Timestamp), until: until.map(Timestamp) };
    Schedule { draft: note(audience, title), times, by: user("root"), key: None }
}

async fn due(bed: &Bed, ms: u64) -> (usize, usize, Option<u64>) {
    let done = bed.store.at(ms).ask(DoDue { limit: 50, act: act("notification.due", "") }).await.unwrap();
    (done.sent, done.ended, done.next.map(|next| next.0))
}

async fn inbox(bed: &Bed, who: &str) -> (Vec<String>, u64) {
    let page = bed.store.inbox(actor(who, LEARNER), InboxQuery { limit: 100, ..InboxQuery::default() }).await.unwrap();
    (page.items.into_iter().map(|one| one.body.title).collect(), page.unread)
}

async fn list(bed: &Bed, state: Option<StateFilter>) -> Vec<Notice> {
    let page = bed.store.notices(NoticeQuery { before: None, limit: 5_000, state }).await.unwrap();
    page.items.into_iter().map(|one| one.notice).collect()
}

async fn mark(bed: &Bed, who: &str, selection: Selection, action: InboxAction) {
    bed.store.mark_inbox(actor(who, LEARNER), selection, action, None).await.unwrap();
}

/// Who has read it, with the time, and how many of how many that is.
async fn readers(bed: &Bed, id: u64) -> (Vec<(String, bool, Option<u64>)>, u64, u64) {
    let page = bed.store.readers(id, ReaderQuery { after: 0, limit: 100, read: None }).await.unwrap();
    let readers = page.readers.into_iter();
    let readers = readers.map(|one| (one.user.canonical(), one.read, one.read_at.map(|at| at.0))).collect();
    (readers, page.notice.read_by, page.notice.recipients)
}

async fn arrive(bed: &Bed, who: &str) -> u64 {
    bed.store.arrive(actor(who, LEARNER), bed.now(), 100).await.unwrap().unread
}

pub async fn what_waits_is_sent_once_whatever_the_clock_does(bed: Bed) {
    arrive(&bed, "7").await;
    let banner = bed.store.ask(schedule(Audience::All, "banner", Some(5_000), Some(9_000))).await.unwrap().notice;
    assert_eq!((banner.state(), banner.sent), (NoticeState::Scheduled, None));
    assert_eq!(inbox(&bed, "7").await, (vec![], 0));
    assert_eq!(due(&bed, 4_999).await, (0, 0, Some(5_000)));
    assert_eq!(due(&bed, 5_500).await, (1, 0, Some(9_000)));
    // The clock goes back: it is not sent again, nor is it over.
    assert_eq!(due(&bed, 2_000).await, (0, 0, Some(9_000)));
    assert_eq!(due(&bed, 6_000).await, (0, 0, Some(9_000)));
    assert_eq!(inbox(&bed, "7").await, (vec!["banner".to_owned()], 1));
    // It goes far ahead: what has waited is sent or over by the new time, each once, and nothing is lost.
    bed.store.ask(schedule(Audience::All, "later", Some(50_000), None)).await.unwrap();
    bed.store.ask(schedule(Audience::All, "too late", Some(50_000), Some(60_000))).await.unwrap();
    assert_eq!(due(&bed, 1_000_000).await, (1, 2, None));
    assert_eq!(due(&bed, 1_000).await, (0, 0, None));
    assert_eq!(inbox(&bed, "7").await, (vec!["later".to_owned()], 1));
    let states: Vec<_> = list(&bed, None).await.iter().map(Notice::state).collect();
    assert_eq!(
        states,
        [NoticeState::Over(Ending::Missed), NoticeState::Live, NoticeState::Over(Ending::Ended)],
        "the newest first"
    );
    let sent = bed.heard.all().iter().filter(|change| matches!(change, Change::Notified(_))).count();
    assert_eq!(sent, 2, "what was missed was never sent");
    // Whatever is in the trail is there once.
    let records = bed.store.audit(0, 100).await.unwrap();
    let of = |number: u64| records.iter().filter(|one| one.entry.target == format!("notification {number}")).count();
    assert_eq!(of(banner.id), 2, "sent and over");
}

pub async fn what_is_over_is_in_no_inbox_and_its_readers_are_known(bed: Bed) {
    for who in ["7", "8", "9", "10"] {
        arrive(&bed, who).await;
    }
    let other = bed.store.notify(note(Audience::All, "other"), None).await.unwrap().0;
    let banner = bed.store.ask(schedule(Audience::All, "banner", None, Some(9_000))).await.unwrap().notice;
    let named = Audience::Users(vec![user("7"), user("8")]);
    let personal = bed.store.ask(schedule(named, "personal", None, Some(9_000))).await.unwrap().notice;
    assert_eq!(banner.sent, Some(banner.id), "what is sent at once has the number that its readers know");
    bed.clock.advance(100);
    let read_at = bed.now().0;
    mark(&bed, "7", Selection::Ids(vec![banner.id, personal.id]), InboxAction::Read).await;
    mark(&bed, "8", Selection::All { up_to: None }, InboxAction::Read).await;
    mark(&bed, "9", Selection::Ids(vec![banner.id]), InboxAction::Delete).await;
    // To read again is no new reading.
    bed.clock.advance(100);
    mark(&bed, "7", Selection::Ids(vec![banner.id]), InboxAction::Read).await;
    let of_banner = vec![
        ("7".to_owned(), true, Some(read_at)),
        ("8".to_owned(), true, Some(read_at)),
        ("9".to_owned(), false, None),
        ("10".to_owned(), false, None),
    ];
    assert_eq!(readers(&bed, banner.id).await, (of_banner.clone(), 2, 4));
    let before: Vec<u64> = [inbox(&bed, "7").await.1, inbox(&bed, "8").await.1, inbox(&bed, "10").await.1].into();
    assert_eq!(before, [1, 0, 2]);
    let cursor = bed.store.last_id();
    assert_eq!(due(&bed, 9_000).await, (0, 2, None));
    for (who, unread) in [("7", 1), ("8", 0), ("9", 1), ("10", 1)] {
        assert_eq!(inbox(&bed, who).await, (vec!["other".to_owned()], unread), "{who}");
    }
    assert_eq!(readers(&bed, banner.id).await, (of_banner, 2, 4), "who has read it is still known");
    assert_eq!(readers(&bed, personal.id).await.0.len(), 2);
    let arrival = bed.store.arrive(actor("10", LEARNER), bed.now(), 100).await.unwrap();
    assert_eq!(arrival.undelivered.iter().map(|one| one.id).collect::<Vec<_>>(), [other.id], "it is not delivered");
    // Who comes back with a cursor of before is told; who is new is not, nor who is not named.
    arrive(&bed, "11").await;
    let told = async |who: &str| -> Vec<u64> {
        let replay = bed.store.replay(actor(who, LEARNER), vec![], cursor, 100).await.unwrap();
        let gone = replay.changes.into_iter().filter_map(|change| match change {
            Change::Withdrawn { notification, ending: Ending::Ended, .. } => Some(notification),
            _ => None,
        });
        gone.collect()
    };
    assert_eq!(told("7").await, [banner.id, personal.id]);
    assert_eq!(told("10").await, [banner.id]);
    assert!(told("11").await.is_empty());
    // What is purged with its age is forgotten with its readers.
    let mut cursor = PurgeCursor::default();
    loop {
        let (kind, before) = (PurgeKind::Notifications, Timestamp(20 * DAY));
        let purge =
            Purge { kind, before, cursor, limit: 10, forwarded_to: None, act: act(action::PURGE, "notifications") };
        match bed.store.at(21 * DAY).ask(purge).await.unwrap().next {
            Some(next) => cursor = next,
            None => break,
        }
    }
    assert!(list(&bed, None).await.is_empty());
}

pub async fn what_is_taken_back_is_gone_for_everybody(bed: Bed) {
    for who in ["7", "8"] {
        arrive(&bed, who).await;
    }
    let recall = |id| Recall { id, by: user("root") };
    let plain = bed.store.notify(note(Audience::Role(Role::Learner), "wrong"), None).await.unwrap().0;
    let right = bed.store.notify(note(Audience::Role(Role::Learner), "right"), None).await.unwrap().0;
    mark(&bed, "7", Selection::Ids(vec![plain.id]), InboxAction::Read).await;
    let recalled = bed.store.ask(recall(plain.id)).await.unwrap();
    assert_eq!(recalled.state(), NoticeState::Over(Ending::Recalled));
    assert_eq!(inbox(&bed, "7").await, (vec!["right".to_owned()], 1));
    assert_eq!(inbox(&bed, "8").await, (vec!["right".to_owned()], 1));
    assert_eq!(readers(&bed, plain.id).await.1, 1);
    refused(bed.store.ask(recall(plain.id)).await, Refusal::Conflict);
    refused(bed.store.ask(recall(9_999)).await, Refusal::NotFound);
    // All of an inbox is read behind a gap in it.
    mark(&bed, "8", Selection::All { up_to: None }, InboxAction::Read).await;
    assert_eq!((inbox(&bed, "8").await.1, readers(&bed, right.id).await.1), (0, 1));
    // What waits is taken back before anybody has seen it, and is not sent when its time comes.
    let waiting = bed.store.ask(schedule(Audience::All, "never", Some(5_000), None)).await.unwrap().notice;
    bed.store.ask(recall(waiting.id)).await.unwrap();
    assert_eq!(due(&bed, 6_000).await, (0, 0, None));
    let gone = bed.heard.all().iter().filter(|change| matches!(change, Change::Withdrawn { .. })).count();
    assert_eq!(gone, 1, "who never had it is told nothing");
    // By the number that it was scheduled with, and by the id that its readers know.
    let sent = bed.store.ask(schedule(Audience::All, "sent", Some(7_000), None)).await.unwrap().notice;
    assert_eq!(due(&bed, 7_000).await.0, 1);
    let id = list(&bed, Some(StateFilter::Live)).await[0].sent.unwrap();
    assert_ne!(id, sent.id);
    assert_eq!(readers(&bed, id).await.2, 2);
    assert_eq!(bed.store.ask(recall(id)).await.unwrap().id, sent.id);
    assert_eq!(inbox(&bed, "7").await.0, ["right"]);
}

pub async fn times_are_bounded_in_number(bed: Bed) {
    let asked: Vec<_> =
        (0..MAX_TIMED).map(|_| bed.store.ask(schedule(Audience::All, "x", Some(5_000), None))).collect();
    let mut ids = Vec::new();
    for one in asked {
        ids.push(one.await.unwrap().notice.id);
    }
    refused(bed.store.ask(schedule(Audience::All, "x", Some(5_000), None)).await, Refusal::Conflict);
    bed.store.notify(note(Audience::All, "without a time"), None).await.unwrap();
    bed.store.ask(Recall { id: ids[0], by: user("root") }).await.unwrap();
    bed.store.ask(schedule(Audience::All, "x", Some(5_000), None)).await.unwrap();
}

pub async fn who_is_erased_is_named_by_no_time(bed: Bed) {
    for who in ["7", "8"] {
        arrive(&bed, who).await;
    }
    let two = Audience::Users(vec![user("7"), user("8")]);
    bed.store.ask(Schedule { by: user("7"), ..schedule(two, "for two", Some(5_000), None) }).await.unwrap();
    bed.store.ask(schedule(Audience::Users(vec![user("7")]), "for one", Some(5_000), None)).await.unwrap();
    let banner = bed.store.ask(schedule(Audience::All, "banner", None, Some(9_000))).await.unwrap().notice;
    mark(&bed, "7", Selection::Ids(vec![banner.id]), InboxAction::Read).await;
    assert_eq!(bed.store.erasable(user("7")).await.unwrap().notifications, 2);
    bed.store
        .at(2_000)
        .ask(BeginErasure {
            user: user("7"),
            by: "root".into(),
            consent: true,
            floor: Duration::ZERO,
            is_dry_run: false,
        })
        .await
        .unwrap();
    while !bed
        .store
        .at(2_000)
        .ask(EraseSlice { user: user("7"), limit: 3, act: act(action::USER_ERASE, "user 7") })
        .await
        .unwrap()
        .is_finished
    {}
    let all = list(&bed, None).await;
    assert_eq!(all.len(), 2);
    for notice in &all {
        assert!(
            notice.by != Some(user("7")) && notice.audience != Audience::Users(vec![user("7"), user("8")]),
            "{notice:?}"
        );
    }
    assert_eq!(readers(&bed, banner.id).await, (vec![("8".to_owned(), false, None)], 0, 1));
    assert_eq!(due(&bed, 5_000).await.0, 1);
    assert_eq!(inbox(&bed, "8").await.0, ["for two", "banner"]);
}

pub async fn a_key_schedules_once(bed: Bed) {
    let with_key = |at| {
        let one = schedule(Audience::All, "x", Some(at), None);
        let fingerprint = one.draft.fingerprint().with(&[&at.to_string()]);
        let key = RequestKey { caller: user("p"), kind: KeyKind::Notify, key: "k".into(), fingerprint };
        Schedule { key: Some(key), ..one }
    };
    let first = bed.store.ask(with_key(5_000)).await.unwrap();
    assert_eq!(due(&bed, 5_000).await.0, 1);
    let again = bed.store.ask(with_key(5_000)).await.unwrap();
    assert_eq!((first.duplicate, again.duplicate, first.notice.id), (false, true, again.notice.id));
    refused(bed.store.ask(with_key(6_000)).await, Refusal::KeyReused);
    assert_eq!(due(&bed, 9_000).await, (0, 0, None));
}
