//! What a read costs is what it gives: it does not grow with what is stored beside that.

use academy_rt::store::InboxQuery;

use super::*;

const LEARNER: &[Role] = &[Role::Learner];
/// So many rows are few, and so many are many.
const FEW: usize = 60;
const MANY: usize = 3_000;

/// The shortest of several times: whatever else the machine does makes times longer, never shorter.
async fn shortest<T, F: Future<Output = T>>(ask: impl Fn() -> F) -> Duration {
    let mut shortest = Duration::MAX;
    for _ in 0..15 {
        let begin = Instant::now();
        ask().await;
        shortest = shortest.min(begin.elapsed());
    }
    shortest
}

/// What took so long with few rows may take a few times as long with many: indexes are deeper and counts have more digits.
fn assert_alike(what: &str, few: Duration, many: Duration) {
    assert!(many < few * 6 + Duration::from_millis(2), "{what}: {few:?} with {FEW} rows, {many:?} with {MANY}");
}

/// So many notifications to a role and as many to two people. One has read each of them, the other has deleted each.
async fn inboxes(bed: &Bed, rows: usize) {
    for who in ["reads", "deletes"] {
        bed.store.arrive(actor(who, LEARNER), bed.now(), 1).await.unwrap();
    }
    let audiences = [Audience::Role(Role::Learner), Audience::Users(vec![user("reads"), user("deletes")])];
    let mut ids = Vec::new();
    while ids.len() < 2 * rows {
        let told: Vec<_> = (0..60).map(|n| bed.store.notify(note(audiences[n % 2].clone(), "n"), None)).collect();
        for one in told {
            ids.push(one.await.unwrap().0.id);
        }
    }
    for part in ids.chunks(1_000) {
        for (who, action) in [("reads", InboxAction::Read), ("deletes", InboxAction::Delete)] {
            let part = Selection::Ids(part.to_vec());
            bed.store.mark_inbox(actor(who, LEARNER), part, action, None).await.unwrap();
        }
    }
}

pub async fn an_inbox_costs_what_is_asked_of_it(few: Bed) {
    let many = Bed::new();
    inboxes(&few, FEW).await;
    inboxes(&many, MANY).await;
    for who in ["reads", "deletes"] {
        for unread_only in [false, true] {
            let query = InboxQuery { limit: 50, unread_only, ..InboxQuery::default() };
            let list = async |bed: &Bed| bed.store.inbox(actor(who, LEARNER), query.clone()).await.unwrap();
            let (few, many) = (shortest(|| list(&few)).await, shortest(|| list(&many)).await);
            assert_alike(&format!("the list of who {who}, unread alone: {unread_only}"), few, many);
        }
        let arrive = async |bed: &Bed| bed.store.arrival(actor(who, LEARNER), 50).await.unwrap();
        let (a_few, a_many) = (shortest(|| arrive(&few)).await, shortest(|| arrive(&many)).await);
        assert_alike(&format!("the arrival of who {who}"), a_few, a_many);
        // It changes nothing: what is measured is no disk.
        let mark = async |bed: &Bed, selection: Selection| {
            bed.store.mark_inbox(actor(who, LEARNER), selection, InboxAction::Read, None).await.unwrap()
        };
        for selection in [Selection::Ids(vec![50]), Selection::All { up_to: None }] {
            let (few, many) =
                (shortest(|| mark(&few, selection.clone())).await, shortest(|| mark(&many, selection.clone())).await);
            assert_alike(&format!("{selection:?} of who {who}"), few, many);
        }
    }
    many.end().await;
    few.end().await;
}

pub async fn what_was_missed_costs_what_is_told(few: Bed) {
    let many = Bed::new();
    let rooms: Vec<RoomId> = (0..20).map(|n| room(&format!("r{n}"))).collect();
    for (bed, rows) in [(&few, FEW), (&many, MANY)] {
        for part in (0..rows).collect::<Vec<_>>().chunks(60) {
            let said = part.iter().map(|n| draft(&format!("r{}", n % 20), "7", "x", None));
            let said: Vec<_> = said.map(|draft| bed.store.append_message(draft, OPEN)).collect();
            for one in said {
                one.await.unwrap();
            }
        }
    }
    let replay = async |bed: &Bed| {
        let told = bed.store.replay(actor("8", LEARNER), rooms.clone(), 0, 50).await.unwrap();
        assert_eq!((told.changes.len(), told.has_more), (50, true));
    };
    let (a_few, a_many) = (shortest(|| replay(&few)).await, shortest(|| replay(&many)).await);
    assert_alike("a replay of 20 rooms", a_few, a_many);
    many.end().await;
    few.end().await;
}

pub async fn a_page_of_lessons_costs_what_is_in_it(few: Bed) {
    let many = Bed::new();
    for (bed, rows) in [(&few, FEW), (&many, MANY)] {
        for part in (0..rows).collect::<Vec<_>>().chunks(500) {
            let reports = part.iter().map(|n| report(&format!("l{n}"), 10.0, 1, None)).collect();
            bed.store.sync_progress(user("7"), reports, bed.now()).await.unwrap();
        }
    }
    let get = async |bed: &Bed| {
        let filter = LessonFilter { limit: Some(50), ..LessonFilter::default() };
        let page = bed.store.store.progress(user("7"), filter).await.unwrap();
        assert_eq!((page.items.len(), page.has_more), (50, true));
        assert_eq!(page.up_to, page.items[49].1);
    };
    let (a_few, a_many) = (shortest(|| get(&few)).await, shortest(|| get(&many)).await);
    assert_alike("a page of lessons", a_few, a_many);
    many.end().await;
    few.end().await;
}
