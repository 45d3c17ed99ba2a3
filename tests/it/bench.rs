//! `academy-rt bench`: it measures a server of its own or one at an address, and says what came of each message.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::harness::{Appliance, SECRET, command, words};

fn bench(dir: &Path, args: &[&str]) -> Output {
    let all = [&["--output", "json", "bench"], args].concat();
    command(&all, &[("JWT_SECRET", SECRET), ("TMPDIR", dir.to_str().unwrap())]).output().unwrap()
}

fn answer(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", words(output)))
}

fn measured(args: &[&str]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    let output = bench(dir.path(), args);
    assert!(output.status.success(), "{}", words(&output));
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "its data are gone");
    answer(&output)
}

#[test]
fn each_scenario_is_measured_on_a_server_of_its_own() {
    let few = ["--rooms", "3", "--members", "4", "--senders", "3", "--seconds", "1"];
    for (scenario, pace, each) in
        [("chat", ["--rate", "60"], 4), ("fanout", ["--in-flight", "2"], 4), ("poll", ["--rate", "30"], 8)]
    {
        let found = measured(&[&[scenario], &few[..], &pace[..]].concat());
        let number = |name: &str| found[name].as_u64().unwrap_or_else(|| panic!("{name}: {found}"));
        assert_eq!(
            [number("refused"), number("lost"), number("doubled"), number("disordered"), number("gone")],
            [0; 5]
        );
        assert!(number("acknowledged") > 0 && number("acknowledged") == number("sent"), "{found}");
        // Where so many are in flight, the last of them are on their way at the end.
        let (least, most) = (number("acknowledged") * each, number("acknowledged") * each);
        let least = if pace[0] == "--rate" { least } else { least / 2 };
        assert!((least..=most).contains(&number("deliveries")), "{scenario}: {found}");
        for place in [
            "/ack/p50Ms",
            "/delivery/p99Ms",
            "/cpuUsPerMessage",
            "/server/memoryBytes",
            "/server/commitsPerSecond",
            "/writtenBytesPerMessage",
            "/readAndWriteCallsPerMessage",
        ] {
            assert!(found.pointer(place).and_then(Value::as_f64).is_some_and(|value| value > 0.0), "{place}: {found}");
        }
    }
    let found = measured(&["progress", "--clients", "5", "--rate", "50", "--seconds", "1"]);
    assert_eq!((&found["acknowledged"], &found["refused"]), (&50.into(), &0.into()), "{found}");
    let found = measured(&["idle", "--clients", "20", "--seconds", "1", "--tls"]);
    assert!(found["connections"] == 20 && found["cpuUsPerConnect"].as_f64().unwrap() > 0.0, "{found}");
    let found = measured(&["return", "--clients", "20"]);
    assert!(found["signedIn"]["maxMs"].as_f64().unwrap() > 0.0 && found["seconds"].as_f64().unwrap() < 30.0, "{found}");
}

#[test]
fn a_search_ends_at_a_rate_and_draws_what_it_has_found() {
    let dir = tempfile::tempdir().unwrap();
    let picture = dir.path().join("latency.svg");
    // No server acknowledges within a millisecond for ever.
    let args = ["--find", "1", "--rate", "20", "--rooms", "2", "--members", "1", "--senders", "2", "--seconds", "1"];
    let output = bench(dir.path(), &[&args[..], &["--picture", picture.to_str().unwrap()]].concat());
    let found = answer(&output);
    assert!(output.status.success() && found["boundMs"] == 1.0, "{}", words(&output));
    let runs = found["runs"].as_array().unwrap();
    let good = found["perSecond"].as_f64().unwrap();
    assert_eq!(found["learners"].as_f64().unwrap(), good * 30.0, "two messages a minute each");
    let is_good = |run: &Value| run["outcome"]["ack"]["p99Ms"].as_f64().unwrap() <= 1.0;
    assert!(runs.iter().any(|run| !is_good(run)), "the last rate is too high: {found}");
    assert!(
        runs.iter().all(|run| run["rate"].as_f64().unwrap() <= good
            || !is_good(run)
            || run["outcome"]["acknowledged"] != run["outcome"]["sent"]
            || run["outcome"]["perSecond"].as_f64().unwrap() < run["rate"].as_f64().unwrap()),
        "{found}"
    );
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(svg.starts_with("<svg ") && svg.matches("<circle").count() == 2 * runs.len(), "{svg}");
}

#[test]
fn a_server_at_an_address_is_measured_with_tokens_and_says_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let limits = [("ACADEMY_RT_LIMITS_MESSAGES_PER_SECOND", "10"), ("ACADEMY_RT_LIMITS_MESSAGE_BURST", "10")];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &limits);
    let url = format!("http://127.0.0.1:{}", server.port);
    let few = ["--rooms", "1", "--members", "2", "--senders", "1", "--seconds", "2", "--url", &url];
    let tokens = dir.path().join("tokens");
    std::fs::write(&tokens, format!("{}\n{}\n", server.token("7", "learner"), server.token("8", "learner"))).unwrap();
    let output = bench(dir.path(), &[&few[..], &["--rate", "100", "--tokens", tokens.to_str().unwrap()]].concat());
    let found = answer(&output);
    assert!(output.status.success(), "{}", words(&output));
    let number = |name: &str| found[name].as_u64().unwrap();
    assert!(number("refused") > 0 && number("acknowledged") + number("refused") == 200, "{found}");
    assert!(found["refusal"].as_str().unwrap().contains("rate_limited"), "{found}");
    assert_eq!((&found["server"], number("lost")), (&Value::Null, 0), "it has no right to the metrics");
    // On this machine the kernel says what its process uses, whoever asks.
    let pid = server.id().to_string();
    let with_pid = [&few[..], &["--rate", "5", "--tokens", tokens.to_str().unwrap(), "--pid", &pid]].concat();
    let found = answer(&bench(dir.path(), &with_pid));
    assert!(found["server"]["memoryBytes"].as_f64().unwrap() > 0.0, "{found}");
    assert_eq!(found["server"]["commitsPerSecond"], Value::Null, "nobody else knows: {found}");
    // Where Socket.IO is not, nothing is measured.
    let elsewhere = bench(dir.path(), &[&few[..], &["--path", "/socket.io"]].concat());
    assert!(
        !elsewhere.status.success() && answer(&elsewhere)["error"].to_string().contains("404"),
        "{}",
        words(&elsewhere)
    );
    // With the secret it signs tokens, and sees the metrics.
    let found = answer(&bench(dir.path(), &[&few[..], &["--rate", "5"]].concat()));
    assert!(found["acknowledged"] == 10 && found["server"]["memoryBytes"].as_f64().unwrap() > 0.0, "{found}");
}

#[test]
fn who_stops_it_leaves_no_server_and_no_data_behind() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["bench", "idle", "--clients", "5", "--seconds", "600"];
    let mut child = command(&args, &[("TMPDIR", dir.path().to_str().unwrap())]).spawn().unwrap();
    let data =
        || std::fs::read_dir(dir.path()).unwrap().next().map(|entry| entry.unwrap().path().join("data/academy.redb"));
    crate::harness::until("it has a server", || data().is_some_and(|file| file.exists()));
    let servers = || {
        let running = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| std::fs::read(entry.ok()?.path().join("cmdline")).ok());
        let place = dir.path().to_str().unwrap().to_owned();
        running.filter(|line| String::from_utf8_lossy(line).contains(&format!("{place}/"))).count()
    };
    assert_eq!(servers(), 1);
    let pid = rustix::process::Pid::from_raw(child.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    child.wait().unwrap();
    assert_eq!((servers(), std::fs::read_dir(dir.path()).unwrap().count()), (0, 0));
}

#[test]
fn what_cannot_be_measured_is_said_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    for (args, status, word) in [
        (&["idle", "--rate", "3"][..], 2, "there is no rate"),
        (&["progress", "--in-flight", "3"], 2, "there is nothing in flight"),
        (&["--rooms", "60000", "--members", "2"], 2, "too many connections"),
        (&["--dir", "/does/not/exist"], 1, "cannot be created"),
        (&["--url", "http://127.0.0.1:1", "--tokens", empty.to_str().unwrap()], 2, "has no token"),
        (&["--url", "http://127.0.0.1:1"], 1, "cannot connect"),
        (&["--url", "http://127.0.0.1:1", "--pid", "4194305"], 2, "there is no process 4194305"),
        (&["--url", "http://127.0.0.1:1", "--path", "a b"], 2, "a path has letters"),
        (&["--path", "/socket.io"], 2, "required arguments were not provided"),
        (&["--pid", "1"], 2, "required arguments were not provided"),
        (&["--url", "http://127.0.0.1:1", "--tokens", "/does/not/exist"], 1, "cannot be read"),
    ] {
        let output = bench(dir.path(), args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", words(&output));
        let error = answer(&output)["error"].to_string();
        assert!(error.contains(word), "{args:?}: {error}");
    }
}
