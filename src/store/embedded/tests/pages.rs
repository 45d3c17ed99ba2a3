//! What a message writes: each page costs a processor and a disk something, whatever is in it.

use super::*;

const ROOMS: usize = 100;
const MEMBERS: usize = 10;

/// The n-th message: of a member of a room, with a key.
fn message(n: usize) -> PostMessage {
    let (room, member) = (n * 7 % ROOMS, n / ROOMS % MEMBERS);
    let text = format!("message {n}: {}", "x".repeat(100));
    post(Draft {
        room: RoomId::parse(&format!("room-{room}")).unwrap(),
        author: by(&(room * MEMBERS + member).to_string()),
        client_id: Some(format!("key-{}", n * 2_654_435_761 % 4_294_967_291)),
        ..draft(&text)
    })
}

/// Pages and bytes a commit and a message, where so many share one.
async fn cost(bed: &Bed, from: usize, commits: usize, together: usize) -> (f64, f64) {
    let of = |bed: &Bed| {
        let faults = &bed.disk.faults;
        (faults.written.load(Ordering::Relaxed), faults.written_bytes.load(Ordering::Relaxed))
    };
    let (pages, bytes) = of(bed);
    let begun = bed.store.status().commits;
    for commit in 0..commits {
        let messages = (0..together).map(|n| ask(&*bed.store, message(from + commit * together + n)));
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
        cost(&bed, 0, 50, 100).await;
        // Of each commit nine are the engine's own; a message has its place in five trees, of three pages each where there is much.
        for (together, most_pages, most_bytes) in [(1, 24.0, 90_000.0), (3, 25.5, 32_000.0), (6, 27.0, 17_000.0)] {
            let (pages, bytes) = cost(&bed, 20_000 * together, 100, together).await;
            println!("{together} at once: {pages:.1} pages a commit, {bytes:.0} bytes a message");
            assert!(
                pages <= most_pages && bytes <= most_bytes,
                "{together} at once: {pages:.1} pages, {bytes:.0} bytes"
            );
        }
        bed.end().await;
    });
}
