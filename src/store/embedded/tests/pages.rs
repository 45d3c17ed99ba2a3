//! What a message writes: each page costs a processor and a disk something, whatever is in it.

use super::*;
use crate::domain::Timestamp;
use crate::domain::webhook::HookEvents;
use crate::store::{HookPlan, Hooks};

const ROOMS: usize = 100;
const MEMBERS: usize = 10;

/// The n-th message: of a member of a room, with a key. Rooms come one behind the other, or as it happens.
fn message(n: usize, is_mixed: bool) -> PostMessage {
    let mixed = n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
    let n_of = if is_mixed { mixed } else { n };
    let (room, member) = (n_of * 7 % ROOMS, n_of / ROOMS % MEMBERS);
    let text = format!("message {n}: {}", "x".repeat(100));
    post(Draft {
        room: RoomId::parse(&format!("room-{room}")).unwrap(),
        author: by(&(room * MEMBERS + member).to_string()),
        client_id: Some(format!("key-{}", n * 2_654_435_761 % 4_294_967_291)),
        ..draft(&text)
    })
}

/// Pages and bytes a commit and a message, where so many share one.
async fn cost(bed: &Bed, from: usize, commits: usize, together: usize, is_mixed: bool) -> (f64, f64) {
    let of = |bed: &Bed| {
        let faults = &bed.disk.faults;
        (faults.written.load(Ordering::Relaxed), faults.written_bytes.load(Ordering::Relaxed))
    };
    let (pages, bytes) = of(bed);
    let begun = bed.store.status().commits;
    for commit in 0..commits {
        let messages = (0..together).map(|n| ask(&*bed.store, message(from + commit * together + n, is_mixed)));
        for posted in futures_util::future::join_all(messages).await {
            posted.unwrap();
        }
    }
    let now = of(bed);
    let commits = (bed.store.status().commits - begun) as f64;
    ((now.0 - pages) as f64 / commits, (now.1 - bytes) as f64 / (commits * together as f64))
}

#[test]
fn a_message_writes_few_pages() {
    run(async {
        let bed = Bed::new();
        cost(&bed, 0, 50, 100, false).await;
        // Of each commit nine are the engine's own; a message has its place in three trees, of three pages each where there is much.
        for (together, most_pages, most_bytes) in [(1, 18.0, 66_000.0), (3, 19.5, 24_500.0), (6, 22.5, 14_500.0)] {
            let (pages, bytes) = cost(&bed, 20_000 * together, 100, together, false).await;
            println!("{together} at once: {pages:.1} pages a commit, {bytes:.0} bytes a message");
            assert!(
                pages <= most_pages && bytes <= most_bytes,
                "{together} at once: {pages:.1} pages, {bytes:.0} bytes"
            );
        }
        bed.end().await;
    });
}

#[test]
fn a_message_that_the_platform_is_told_of_writes_a_few_pages_more() {
    run(async {
        let bed = Bed::new();
        cost(&bed, 0, 50, 100, false).await;
        bed.store.plan_hooks(HookPlan { events: HookEvents::all(), most: 1_000_000 });
        cost(&bed, 10_000, 50, 100, false).await;
        let (pages, bytes) = cost(&bed, 20_000, 100, 3, false).await;
        println!("{pages:.1} pages a commit, {bytes:.0} bytes a message");
        // Its row is the last of one tree: as much as a message without it, and that tree's path.
        assert!(pages <= 22.5 && bytes <= 30_000.0, "{pages:.1} pages, {bytes:.0} bytes");
        bed.end().await;
    });
}

#[test]
#[ignore = "a minute: tests/run --long"]
fn a_message_writes_few_pages_where_there_are_many() {
    run(async {
        let bed = Bed::new();
        for thousand in 0..200 {
            cost(&bed, thousand * 1_000, 2, 500, true).await;
        }
        for (together, most_pages, most_bytes) in [(1, 19.5, 76_000.0), (3, 25.0, 32_500.0), (6, 33.0, 22_500.0)] {
            let begun = std::time::Instant::now();
            let (pages, bytes) = cost(&bed, 1_000_000 * together, 200, together, true).await;
            let took = begun.elapsed() / 200;
            println!("{together} at once: {pages:.1} pages a commit, {bytes:.0} bytes a message, {took:?}");
            assert!(
                pages <= most_pages && bytes <= most_bytes,
                "{together} at once: {pages:.1} pages, {bytes:.0} bytes"
            );
        }
        bed.end().await;
    });
}

/// Keyed messages of a moment, together.
async fn said_at(bed: &Bed, at: u64, from: usize, count: usize) {
    let store: &dyn Store = &*bed.store;
    let said = (from..from + count).map(|n| store.apply(Timestamp(at), message(n, false)));
    for posted in futures_util::future::join_all(said).await {
        posted.unwrap();
    }
}

async fn answers(bed: &Bed) -> u64 {
    let rows = bed.store.row_counts().await.unwrap();
    rows.iter().find(|(name, _)| *name == "answers").unwrap().1
}

#[test]
fn expired_answers_go_in_rounds_with_pauses_between_them() {
    const HOUR: u64 = 60 * 60 * 1_000;
    run(async {
        let bed = Bed::new();
        said_at(&bed, 1, 0, 700).await;
        said_at(&bed, HOUR, 700, 500).await;
        let mut said = 0;
        let mut one_at = async |at: u64| {
            said_at(&bed, at, 2_000 + said, 1).await;
            said += 1;
            (answers(&bed).await, said as u64)
        };
        // What has expired goes, whoever says something.
        let day = 24 * HOUR + 1;
        for _ in 0..100 {
            one_at(day).await;
        }
        let (left, said) = one_at(day).await;
        assert_eq!(left, 500 + said);
        // What expires next goes with the next round, and nothing is written for it until then.
        for minutes in 0..40 {
            let (left, said) = one_at(day + HOUR + minutes * 60_000).await;
            assert_eq!(left, 500 + said, "{minutes} minutes later");
        }
        let at = day + 4 * HOUR;
        for _ in 0..100 {
            one_at(at).await;
        }
        let (left, said) = one_at(at).await;
        assert_eq!(left, said);
        bed.end().await;
    });
}
