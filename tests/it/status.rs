//! What the server says of itself: `status`, `/metrics`, and the rules and pictures that are made of them.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{Appliance, command, free_port, run, until, words};
use crate::service::Service;

const PLAIN: &str = "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\nmode = \"off\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
                     [storage]\ndata_dir = \"DATA\"\nmin_free = 0\n[limits]\nmessages_per_second = 1\nmessage_burst = 3\n";

fn value_of(metrics: &str, name: &str) -> f64 {
    let line = metrics.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn what_has_happened_is_counted() {
    let metrics_port = free_port();
    let service = Service::start(&format!("{PLAIN}[metrics]\nlisten = \"127.0.0.1:{metrics_port}\"\n"));
    let scrape = || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", metrics_port)).unwrap();
        crate::service::ask(&mut stream, "GET /metrics HTTP/1.1", "")
    };
    let before = scrape();
    assert!(before.contains("content-type: text/plain; version=0.0.4"), "{before}");
    assert_eq!(value_of(&before, "academy_rt_stored_total{kind=\"message\"}"), 0.0);
    let token = service.token("7", "learner");
    let post = |token: &str| service.call(token, "POST", "/api/v1/rooms/general/messages", "{\"content\":\"x\"}").0;
    assert_eq!([post(&token), post(&token), post(&token)], [200; 3]);
    assert!((0..5).any(|_| post(&token) == 429));
    assert_eq!(service.call("nonsense", "GET", "/api/v1/session", "").0, 401);
    let after = scrape();
    for (name, least) in [
        ("academy_rt_stored_total{kind=\"message\"}", 3.0),
        ("academy_rt_rate_limited_total{limit=\"messages\"}", 1.0),
        ("academy_rt_refused_sign_ins_total{code=\"token_malformed\"}", 1.0),
        ("academy_rt_http_requests_total{class=\"2xx\"}", 3.0),
        ("academy_rt_http_requests_total{class=\"4xx\"}", 2.0),
        ("academy_rt_store_commit_duration_seconds_count", 3.0),
        ("process_resident_memory_bytes", 1_000_000.0),
        ("process_open_fds", 5.0),
        ("academy_rt_store_free_bytes", 1.0),
        ("academy_rt_connections_total", 5.0),
    ] {
        let grown = value_of(&after, name)
            - if name.starts_with("academy") && !name.contains("free") { value_of(&before, name) } else { 0.0 };
        assert!(grown >= least, "{name} has grown by {grown}");
    }
    // Not without a token at the clients' address; by tokens of the scope there.
    let (status, _) = service.call(&token, "GET", "/metrics", "");
    assert_eq!(status, 403);
    assert!(service.plain("GET /metrics HTTP/1.1", "").contains(" 401 "));
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", metrics_port)).unwrap();
    assert!(crate::service::ask(&mut stream, "GET /api/v1/session HTTP/1.1", "").contains(" 404 "));
    // OpenMetrics for who asks for it.
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", metrics_port)).unwrap();
    let answer = crate::service::ask(&mut stream, "GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text", "");
    assert!(answer.ends_with("# EOF\n") && answer.contains("openmetrics-text; version=1.0.0"), "{answer}");
    // An address that is taken is said.
    let dir = tempfile::tempdir().unwrap();
    let args = ["serve", "--no-tls", "--listen", "127.0.0.1:0", "--data-dir", dir.path().to_str().unwrap()];
    let output = run(&args, &[("ACADEMY_RT_METRICS_LISTEN", &format!("127.0.0.1:{metrics_port}"))]);
    assert!(
        output.status.code() == Some(1) && words(&output).contains("another program listens"),
        "{}",
        words(&output)
    );
}

#[test]
fn status_shows_everything_at_a_glance() {
    let service = Service::start(
        "[server]\nlisten = \"127.0.0.1:PORT\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n[storage]\ndata_dir = \"DATA\"\nmin_free = 0\n",
    );
    let data = service.path("data");
    let status = |more: &[&str]| {
        let args: Vec<&str> = ["status", "--data-dir", data.to_str().unwrap()].iter().chain(more).copied().collect();
        words(&run(&args, &[]))
    };
    let text = status(&[]);
    for row in [
        "ready",
        "sockets",
        "users",
        "per second",
        "refused",
        "store",
        "commits",
        "disk",
        "process",
        "certificate  for localhost",
        "last backup  none yet",
    ] {
        assert!(text.contains(row), "{row} is not in\n{text}");
    }
    let json: Value = serde_json::from_str(&status(&["--output", "json"])).unwrap();
    assert!(
        json["certificate"]["daysLeft"].as_u64().unwrap() > 800 && json["certificate"]["selfSigned"] == true,
        "{json}"
    );
    assert!(json["seenFrom"].as_str().unwrap().starts_with("control socket"), "{json}");
    assert!(json["process"]["residentBytes"].as_u64().unwrap() > 1_000_000);
    service.reload("[server]\nlisten = \"nowhere\"\n");
    assert!(status(&[]).contains("REFUSED, the old configuration stays in use"), "{}", status(&[]));
}

#[test]
fn watch_goes_on_while_the_server_is_away() {
    let running = Appliance::start();
    let data = running.data();
    let mut child = command(&["status", "--watch", "1", "--data-dir", data.to_str().unwrap()], &[])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let mut until_line = |part: &str| {
        let found = lines.by_ref().take(40).find(|line| line.contains(part));
        assert!(found.is_some(), "no line with '{part}'");
    };
    until_line("ready  0 sockets");
    let dir = running.end();
    until_line("no server answers");
    let running = Appliance::start_in(dir, &[]);
    until_line("ready  0 sockets");
    // Who reads it has had enough: it ends.
    drop(lines);
    until("it ends with its reader", || child.try_wait().unwrap().is_some());
    assert!(running.stop().success());
    assert_eq!(run(&["status", "--watch", "0"], &[]).status.code(), Some(2));
    assert_eq!(run(&["status", "--watch", "--data-dir", "/absent"], &[]).status.code(), Some(1));
}

/// Names of metrics in an expression or a text: words with one of our prefixes.
fn names(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    let ours = words.filter(|word| word.starts_with("academy_rt_") || word.starts_with("process_"));
    ours.map(ToOwned::to_owned).collect()
}

#[test]
fn dashboard_rules_and_man_page_name_what_there_is() {
    let known: BTreeSet<String> =
        academy_rt::observability::metrics::catalogue().into_iter().map(|(name, _, _)| name).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("man/academy-rt-metrics.7")).unwrap();
    assert!(known.iter().all(|name| page.contains(&format!(".BR {name} "))), "renew the man pages");
    for file in ["packaging/grafana/academy-rt.json", "packaging/prometheus/academy-rt.rules.yml"] {
        let text = fs::read_to_string(root.join(file)).unwrap();
        let used = names(&text);
        assert!(used.len() > 10, "{file}: {used:?}");
        for name in used {
            let base = ["_bucket", "_count", "_sum"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
            assert!(known.contains(&name) || known.contains(base), "{file} names {name}, which there is not");
        }
    }
    let dashboard: Value =
        serde_json::from_str(&fs::read_to_string(root.join("packaging/grafana/academy-rt.json")).unwrap()).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.iter().all(|panel| panel["type"] == "row" || panel["targets"][0]["expr"].is_string()));
}

/// Prometheus' own tool reads the rules, runs their tests, and reads what the server says. `tests/run` installs it.
#[test]
fn promtool_takes_rules_and_figures() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/prometheus");
    let tool = |args: &[&str], input: &str| {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("input");
        fs::write(&file, input).unwrap();
        let output = Command::new("promtool")
            .args(args)
            .current_dir(&root)
            .stdin(fs::File::open(&file).unwrap())
            .output()
            .expect("promtool is not installed");
        assert!(output.status.success(), "{args:?}: {}", words(&output));
        words(&output)
    };
    tool(&["check", "rules", "academy-rt.rules.yml"], "");
    tool(&["test", "rules", "academy-rt.rules.test.yml"], "");
    let running = Appliance::start();
    let admin = running.token("1", "admin");
    let answer = running.try_call(&admin, "GET", "/metrics").unwrap();
    let said = tool(&["check", "metrics"], answer.split_once("\r\n\r\n").unwrap().1);
    assert_eq!(said.trim(), "", "promtool has remarks");
    assert!(running.stop().success());
}
