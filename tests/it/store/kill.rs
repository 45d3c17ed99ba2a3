//! `kill -9` at any moment: what was acknowledged is there, once, and the rest contradicts nothing. The child is this test
//! binary again; it says what was acknowledged on its standard output.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use academy_rt::store::embedded::check;

use super::*;

const DIR: &str = "ACADEMY_RT_TEST_KILL_DIR";
const ROUND: &str = "ACADEMY_RT_TEST_KILL_ROUND";
const ROUNDS: u64 = 20;
const SENDERS: u64 = 32;

/// Not a test of its own: what the child runs, until it is killed.
#[test]
fn kill_child() {
    let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) else { return };
    run(async {
        let store = Desk::of_today(Path::new(&dir));
        let mut senders = Vec::new();
        for sender in 0..SENDERS {
            let (store, round) = (store.clone(), round.clone());
            senders.push(tokio::spawn(async move {
                for n in 0u64.. {
                    let key = format!("{round}-{sender}-{n}");
                    let to = format!("room-{}", sender % 3);
                    let draft = draft(&to, &format!("u{sender}"), &key, Some(&key));
                    let posted = store.append_message(draft, OPEN).await.unwrap();
                    let line = format!("acked {key} {to} {} {}\n", posted.id, posted.seq);
                    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                    if n % 8 == 0 {
                        let update = report("1", 1.0, 1, Some(&key));
                        store.sync_progress(user(&format!("u{sender}")), vec![update], Timestamp(1)).await.unwrap();
                    }
                }
            }));
        }
        for sender in senders {
            sender.await.unwrap();
        }
    });
}

#[test]
#[ignore = "long"]
fn what_was_acknowledged_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let mut acked: HashMap<String, (String, u64, u64)> = HashMap::new();
    // Any moment will do; a fixed sequence makes a failure come again more often than the clock's would.
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for round in 0..ROUNDS {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let mut left = (random >> 33) % 1_500;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["store::kill::kill_child", "--exact", "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        let mut alive = true;
        loop {
            line.clear();
            // A line that the kill cut short was not said.
            if lines.read_line(&mut line).unwrap() == 0 || !line.ends_with('\n') {
                break;
            }
            // The test harness writes on the same line before its test does.
            let Some(said) = line.find("acked ").map(|at| &line[at..]) else { continue };
            let words: Vec<&str> = said.split_whitespace().collect();
            let place = (words[2].to_owned(), words[3].parse().unwrap(), words[4].parse().unwrap());
            assert!(acked.insert(words[1].to_owned(), place).is_none());
            if left == 0 && alive {
                child.kill().unwrap();
                alive = false;
            }
            left = left.saturating_sub(1);
        }
        assert!(!child.wait().unwrap().success());
        assert!(!alive, "round {round}: the child ended by itself");
        verify(dir.path(), &acked);
    }
    assert!(acked.len() > 1_000, "the children hardly worked: {}", acked.len());
}

fn verify(dir: &Path, acked: &HashMap<String, (String, u64, u64)>) {
    assert_eq!(check(dir).unwrap(), Vec::<String>::new());
    run(async {
        let store = Desk::of_today(dir);
        let mut found = HashMap::new();
        for n in 0..3 {
            let name = format!("room-{n}");
            let page = store.history(room(&name), author("x"), latest(usize::MAX), OPEN).await.unwrap();
            for (index, message) in page.messages.iter().enumerate() {
                assert_eq!(message.seq, index as u64 + 1, "{name} has a gap");
                let before = found.insert(message.content.clone(), (name.clone(), message.id, message.seq));
                assert!(before.is_none(), "{} is there twice", message.content);
            }
        }
        for (key, place) in acked {
            assert_eq!(found.get(key), Some(place), "{key} was acknowledged");
        }
        // A retry of what was acknowledged stores nothing.
        if let Some((key, (to, id, _))) = acked.iter().next() {
            let sender = format!("u{}", key.split('-').nth(1).unwrap());
            let again = store.append_message(draft(to, &sender, key, Some(key)), OPEN).await.unwrap();
            assert!(again.duplicate && again.id == *id);
        }
        store.close().await.unwrap();
    });
}
