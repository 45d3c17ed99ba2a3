//! How fast the writer commits. Run by hand: `cargo test --release --test it store::rates -- --ignored --nocapture`.

use std::time::{Duration, Instant};

use super::*;

#[test]
#[ignore = "a measurement, not a test"]
fn messages_a_second() {
    run(async {
        for senders in [1u64, 64, 1024] {
            let dir = tempfile::tempdir().unwrap();
            let store = Desk::of_today(dir.path());
            let begun = Instant::now();
            let mut tasks = Vec::new();
            for sender in 0..senders {
                let store = store.clone();
                tasks.push(tokio::spawn(async move {
                    let mut slowest = Duration::ZERO;
                    let mut n = 0u64;
                    while begun.elapsed() < Duration::from_secs(3) {
                        let key = format!("{sender}-{n}");
                        let text = "a message of about the length that people write in a chat of a language academy";
                        let one = Instant::now();
                        let to = format!("room-{}", sender % 50);
                        store.append_message(draft(&to, &format!("u{sender}"), text, Some(&key)), OPEN).await.unwrap();
                        slowest = slowest.max(one.elapsed());
                        n += 1;
                    }
                    (n, slowest)
                }));
            }
            let (mut total, mut slowest) = (0, Duration::ZERO);
            for task in tasks {
                let (n, worst) = task.await.unwrap();
                total += n;
                slowest = slowest.max(worst);
            }
            let status = store.status();
            let rate = total as f64 / begun.elapsed().as_secs_f64();
            println!(
                "{senders} senders: {rate:.0} messages/s, {} a transaction, slowest {slowest:?}, {} bytes/message",
                status.writes / status.commits.max(1),
                status.file_bytes / total.max(1),
            );
            store.close().await.unwrap();
        }
    });
}
