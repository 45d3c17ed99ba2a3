//! A store of a gigabyte: how long its backup and its restore take, in how much memory, and what a backup costs those who
//! write meanwhile. Run by `tests/run --long`, or by hand:
//! `cargo test --release --test it large:: -- --ignored --nocapture --test-threads 1`.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use academy_rt::archive::format::Writer;
use academy_rt::domain::privacy::PurgeKind;
use academy_rt::domain::{Clock, SystemClock, Timestamp};
use academy_rt::store::operations::PurgeCursor;
use academy_rt::store::rows::{Preface, RowSink};

use crate::harness::{Appliance, SECRET, command, words};
use crate::store::{Desk, OPEN, draft, run};

/// The file's size that is wanted, in bytes, and what a message takes of it with its indexes. (The file of an open store
/// says nothing: the engine makes it longer by doubling, and shorter when it is closed.)
const GIGABYTE: u64 = 1_000_000_000;
const MESSAGE_BYTES: u64 = 1_450;
/// What a backup or a restore may take at most, in KiB.
const MEMORY_KIB: u64 = 200 * 1024;
/// The share of their rate that writers keep at least during a backup.
const KEPT_RATE: f64 = 0.7;

/// About what people write: words, some numbers, no two alike.
fn text(n: u64) -> String {
    let mut text = String::with_capacity(900);
    for i in 0..24 {
        text.push_str(&blake3::hash(&(n * 31 + i).to_le_bytes()).to_hex()[..10]);
        text.push_str(" la leçon de français commence ");
    }
    text
}

async fn fill(store: &Desk, bytes: u64) -> u64 {
    let (next, messages) = (Arc::new(AtomicU64::new(0)), bytes / MESSAGE_BYTES);
    let mut tasks = Vec::new();
    for sender in 0..256u64 {
        let (store, next) = (store.clone(), next.clone());
        tasks.push(tokio::spawn(async move {
            loop {
                let n = next.fetch_add(1, Ordering::Relaxed);
                if n >= messages {
                    return;
                }
                let to = format!("room-{}", sender % 100);
                store.append_message(draft(&to, &format!("u{sender}"), &text(n), None), OPEN).await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    messages
}

/// Runs a command, and gives its time and the most memory that it took.
fn measured(args: &[&str]) -> (Duration, u64, String) {
    let begun = Instant::now();
    let mut child = command(args, &[("JWT_SECRET", SECRET), ("TMPDIR", std::env::temp_dir().to_str().unwrap())])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(memory(&format!("/proc/{}/status", child.id())));
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let time = begun.elapsed();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", words(&output));
    (time, peak, words(&output))
}

/// The most memory that a process has had, in KiB.
fn memory(status: &str) -> u64 {
    let text = fs::read_to_string(status).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or_default()
}

#[test]
#[ignore = "makes a gigabyte"]
fn a_gigabyte_is_backed_up_and_restored_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    run(async {
        let store = Desk::of_today(&data);
        let messages = fill(&store, GIGABYTE).await;
        store.close().await.unwrap();
        println!("{messages} messages, {} MB", size(&data.join("academy.redb")));
    });
    let server = Appliance::start_in(dir, &[]);
    let (file, place) = (server.dir.path().join("a.backup"), data.to_str().unwrap().to_owned());
    let name = file.to_str().unwrap().to_owned();
    let before = memory(&format!("/proc/{}/status", server.id()));
    let (time, peak, _) = measured(&["backup", &name, "--data-dir", &place]);
    let of_server = memory(&format!("/proc/{}/status", server.id()));
    println!(
        "backup: {time:.1?}, {} MB; the command took {} MiB, the server {} MiB (before it {} MiB)",
        size(&file),
        peak >> 10,
        of_server >> 10,
        before >> 10
    );
    assert!(peak < MEMORY_KIB && of_server < MEMORY_KIB);
    let (time, peak, _) = measured(&["backup", "verify", &name]);
    println!("verify: {time:.1?}, {} MiB", peak >> 10);
    assert!(peak < MEMORY_KIB);
    let _dir = server.end();
    let (time, peak, _) = measured(&["restore", &name, "--data-dir", &place]);
    println!("restore: {time:.1?}, {} MiB; {} MB", peak >> 10, size(&data.join("academy.redb")));
    assert!(peak < MEMORY_KIB);
    let (time, peak, _) = measured(&["db", "check", "--data-dir", &place]);
    println!("check: {time:.1?}, {} MiB", peak >> 10);
    let (time, peak, said) = measured(&["db", "compact", "--data-dir", &place]);
    println!("compact: {time:.1?}, {} MiB; {said}", peak >> 10);
    assert!(peak < MEMORY_KIB);
}

#[test]
#[ignore = "a measurement of a minute"]
fn clients_keep_most_of_their_rate_while_the_command_backs_up() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    run(async {
        let store = Desk::of_today(&data);
        fill(&store, GIGABYTE / 2).await;
        store.close().await.unwrap();
    });
    let server = Appliance::start_in(dir, &[]);
    let (alone, during) = rates_of_clients(&server, data.to_str().unwrap());
    let kept = during / alone;
    println!("clients over HTTP: {alone:.0} messages/s alone, {during:.0}/s beside `backup` ({kept:.2}, median of 3)");
    assert!(kept >= KEPT_RATE);
}

/// Messages a second that eight clients get acknowledged: alone, and while one backup by the command line follows another.
/// The command and the server share the machine's processors.
fn rates_of_clients(server: &Appliance, place: &str) -> (f64, f64) {
    let token = server.token("7", "learner");
    let rate = || {
        let begun = Instant::now();
        let sent = std::thread::scope(|scope| {
            let clients: Vec<_> = (0..8)
                .map(|client| {
                    let token = &token;
                    scope.spawn(move || {
                        let mut sent = 0_u32;
                        while begun.elapsed() < Duration::from_secs(4) {
                            server.say(token, &format!("client-{client}"), "a message");
                            sent += 1;
                        }
                        sent
                    })
                })
                .collect();
            clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
        });
        f64::from(sent) / begun.elapsed().as_secs_f64()
    };
    let mut pairs = Vec::new();
    for round in 0..3 {
        let alone = rate();
        let stop = AtomicBool::new(false);
        let during = std::thread::scope(|scope| {
            let backups = scope.spawn(|| {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    let file = server.dir.path().join(format!("rate-{round}-{n}.backup"));
                    measured(&["backup", file.to_str().unwrap(), "--data-dir", place]);
                    fs::remove_file(file).unwrap();
                }
            });
            let during = rate();
            stop.store(true, Ordering::Relaxed);
            backups.join().unwrap();
            during
        });
        pairs.push((alone, during));
    }
    pairs.sort_by(|a, b| (a.1 / a.0).total_cmp(&(b.1 / b.0)));
    pairs[1]
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len() / 1_000_000
}

/// An archive to a file, ended from outside.
struct Archive(Writer<io::BufWriter<fs::File>>, Arc<AtomicBool>);

impl RowSink for Archive {
    fn begin(&mut self, preface: &Preface) -> io::Result<()> {
        self.0.begin(preface)
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.1.load(Ordering::Relaxed) {
            Err(io::ErrorKind::Interrupted.into())
        } else {
            self.0.row(table, key, value)
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.end()
    }
}

#[test]
#[ignore = "a measurement of some minutes"]
fn writers_keep_most_of_their_rate_during_a_backup() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = Desk::of_today(dir.path());
        fill(&store, GIGABYTE / 2).await;
        let mut ratios = Vec::new();
        for round in 0..5 {
            let alone = rate(&store, round * 2).await;
            let stop = Arc::new(AtomicBool::new(false));
            let (beside, until, path) = (store.clone(), stop.clone(), dir.path().join("a.backup"));
            // One behind the other, so that there is always one under way.
            let backups = tokio::spawn(async move {
                let mut made = 0;
                while !until.load(Ordering::Relaxed) {
                    let out = io::BufWriter::new(fs::File::create(&path).unwrap());
                    let archive = Archive(Writer::new(out, Timestamp(SystemClock.now().0)), until.clone());
                    made += u32::from(beside.rows(Box::new(archive)).await.is_ok());
                }
                made
            });
            let during = rate(&store, round * 2 + 1).await;
            stop.store(true, Ordering::Relaxed);
            let made = backups.await.unwrap();
            println!("round {round}: {alone:.0}/s alone, {during:.0}/s during backups ({made} whole ones)");
            ratios.push(during / alone);
        }
        ratios.sort_by(f64::total_cmp);
        println!("writers keep {:.2} of their rate (median of {ratios:.2?})", ratios[ratios.len() / 2]);
        assert!(ratios[ratios.len() / 2] >= KEPT_RATE);
        store.close().await.unwrap();
    });
}

#[test]
#[ignore = "a measurement of a minute"]
fn a_purge_runs_beside_the_traffic() {
    let dir = tempfile::tempdir().unwrap();
    run(async {
        let store = Desk::of_today(dir.path());
        let old = fill(&store.at(77), GIGABYTE / 10).await;
        let (alone, _) = latencies::<()>(&store, "alone", None).await;
        let purging = store.clone();
        let purge = tokio::spawn(async move {
            let (mut cursor, mut purged) = (PurgeCursor::default(), 0);
            let begun = Instant::now();
            // What was filled in has the time 77.
            while let Ok(step) = purging.purge(PurgeKind::Chat, Timestamp(78), cursor, 250).await {
                purged += step.purged;
                let Some(next) = step.next else { break };
                cursor = next;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (purged, begun.elapsed())
        });
        let (during, _) = latencies(&store, "during", Some(&purge)).await;
        let (purged, time) = purge.await.unwrap();
        assert_eq!(purged, old);
        println!(
            "{purged} messages purged in {time:.1?}; p99 of an ack {alone:.1?} alone, {during:.1?} beside the purge ({:.1} times)",
            during.as_secs_f64() / alone.as_secs_f64()
        );
        store.close().await.unwrap();
    });
    assert_eq!(academy_rt::store::embedded::check(dir.path()).unwrap(), Vec::<String>::new());
}

/// The 99th percentile and the longest of 16 senders' acks, over three seconds or as long as something goes on.
async fn latencies<T>(
    store: &Desk,
    name: &str,
    while_going: Option<&tokio::task::JoinHandle<T>>,
) -> (Duration, Duration) {
    let (begun, stop) = (Instant::now(), Arc::new(AtomicBool::new(false)));
    let mut tasks = Vec::new();
    for sender in 0..16u64 {
        let (store, stop, name) = (store.clone(), stop.clone(), name.to_owned());
        tasks.push(tokio::spawn(async move {
            let mut all = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                let key = format!("{name}-{sender}-{}", all.len());
                let one = Instant::now();
                let draft = draft("live", &format!("u{sender}"), "a message", Some(&key));
                store.append_message(draft, OPEN).await.unwrap();
                all.push(one.elapsed());
            }
            all
        }));
    }
    while begun.elapsed() < Duration::from_secs(3) && while_going.is_none_or(|going| !going.is_finished()) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.unwrap());
    }
    all.sort();
    (all[all.len() * 99 / 100], all[all.len() - 1])
}

/// Messages a second of 64 senders, over two seconds.
async fn rate(store: &Desk, round: u64) -> f64 {
    let begun = Instant::now();
    let mut tasks = Vec::new();
    for sender in 0..64u64 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let mut n = 0u64;
            while begun.elapsed() < Duration::from_secs(2) {
                let to = format!("room-{}", sender % 50);
                let content = "a message of about the length that people write in a chat of a language academy";
                let key = format!("{round}-{sender}-{n}");
                store.append_message(draft(&to, &format!("u{sender}"), content, Some(&key)), OPEN).await.unwrap();
                n += 1;
            }
            n
        }));
    }
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    total as f64 / begun.elapsed().as_secs_f64()
}
