//! The forwarding of the audit log, to a real rsyslog over TLS and to a file: nothing is missing, in order, over outages and
//! kills of either side.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::Value;

use crate::harness::{Appliance, SECRET, free_port, run, until, words};

/// A receiver: rsyslog with a certificate for `localhost`, writing the structured data of each message as a line.
struct Rsyslog {
    dir: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

impl Rsyslog {
    fn new() -> Rsyslog {
        let dir = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::new(Vec::new()).unwrap();
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
        };
        let (ours, other) = (authority("ours"), authority("other"));
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec!["localhost".to_owned()]).unwrap().signed_by(&key, &ours).unwrap();
        let files = [
            ("ca.pem", ours.pem()),
            ("other.pem", other.pem()),
            ("cert.pem", cert.pem()),
            ("key.pem", key.serialize_pem()),
        ];
        for (name, text) in files {
            fs::write(dir.path().join(name), text).unwrap();
        }
        let mut receiver = Rsyslog { dir, port: free_port(), child: None };
        receiver.start();
        receiver
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self) {
        let (dir, port) = (self.dir.path().display(), self.port);
        let config = format!(
            "global(workDirectory=\"{dir}\" maxMessageSize=\"16k\" DefaultNetstreamDriver=\"gtls\"\n\
             DefaultNetstreamDriverCAFile=\"{dir}/ca.pem\" DefaultNetstreamDriverCertFile=\"{dir}/cert.pem\"\n\
             DefaultNetstreamDriverKeyFile=\"{dir}/key.pem\")\n\
             module(load=\"imtcp\" StreamDriver.Name=\"gtls\" StreamDriver.Mode=\"1\" StreamDriver.AuthMode=\"anon\")\n\
             input(type=\"imtcp\" port=\"{port}\" address=\"127.0.0.1\")\n\
             template(name=\"parts\" type=\"string\" string=\"%structured-data%\\n\")\n\
             action(type=\"omfile\" file=\"{dir}/received\" template=\"parts\")\n"
        );
        fs::write(self.path("rsyslog.conf"), config).unwrap();
        let log = fs::File::create(self.path("log")).unwrap();
        let child = Command::new("rsyslogd")
            .args(["-n", "-f"])
            .arg(self.path("rsyslog.conf"))
            .arg("-i")
            .arg(self.path("pid"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("rsyslogd is not installed: tests/run installs rsyslog and rsyslog-gnutls");
        self.child = Some(child);
    }

    /// It ends in order: it writes what it has received.
    fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        child.wait().unwrap();
    }

    /// Number and hash of each record, in the order in which they came.
    fn received(&self) -> Vec<(u64, String)> {
        let text = fs::read_to_string(self.path("received")).unwrap_or_default();
        // The last line may be half written.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let part =
            |line: &str, name: &str| line.split(&format!("{name}=\"")).nth(1)?.split('"').next().map(str::to_owned);
        whole
            .lines()
            .map(|line| (part(line, "number").unwrap().parse().unwrap(), part(line, "hash").unwrap()))
            .collect()
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

/// Makes records of the audit log.
fn act(server: &Appliance, admin: &str, times: u32) {
    for n in 0..times {
        let way = if n % 2 == 0 { "block" } else { "unblock" };
        let (status, answer) = server.call(admin, "POST", &format!("/api/v1/admin/users/9/{way}"), "{}");
        assert_eq!(status, 200, "{answer}");
    }
}

/// Number and hash of each record in the audit log of a server that has ended.
fn stored(data: &Path) -> BTreeMap<u64, String> {
    let file = data.join("../export.jsonl");
    let (data, out) = (data.to_str().unwrap().to_owned(), file.to_str().unwrap().to_owned());
    let output = run(&["audit", "export", &out, "--data-dir", &data], &[("JWT_SECRET", SECRET)]);
    assert!(output.status.success(), "{}", words(&output));
    let text = fs::read_to_string(file).unwrap();
    let records = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter_map(|one| Some((one["number"].as_u64()?, one["hash"].as_str()?.to_owned()))).collect()
}

/// Each record up to the last one has come, as it is stored, and for the first time in the order of their numbers.
fn assert_complete(received: &[(u64, String)], stored: &BTreeMap<u64, String>) {
    let mut next = 1;
    for (number, hash) in received {
        assert_eq!(stored.get(number), Some(hash), "record {number} is another one");
        assert!(*number <= next, "record {number} came before record {next}");
        next = next.max(number + 1);
    }
}

fn forward(server: &Appliance, admin: &str) -> Value {
    server.call(admin, "GET", "/api/v1/admin/status", "").1["auditForward"].clone()
}

fn head(server: &Appliance, admin: &str) -> u64 {
    server.call(admin, "GET", "/api/v1/admin/audit?limit=1", "").1["head"]["number"].as_u64().unwrap()
}

/// Waits until the receiver has the whole audit log.
fn all_received(receiver: &Rsyslog, server: &Appliance, admin: &str) {
    until("the receiver has all records", || {
        let head = head(server, admin);
        receiver.received().iter().map(|(number, _)| *number).max() == Some(head)
    });
}

#[test]
fn rsyslog_has_every_record_in_order_over_outages_and_kills_of_both_sides() {
    let mut receiver = Rsyslog::new();
    let (port, ca) = (receiver.port.to_string(), receiver.path("ca.pem"));
    let target = format!("tls://localhost:{port}");
    let env = [("ACADEMY_RT_AUDIT_FORWARD", target.as_str()), ("ACADEMY_RT_AUDIT_FORWARD_CA", ca.to_str().unwrap())];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &env);
    let admin = server.token("root", "admin");
    act(&server, &admin, 6);
    all_received(&receiver, &server, &admin);
    // A sign-in of an administrator is among them.
    until("the sign-in has come", || {
        fs::read_to_string(receiver.path("received")).unwrap().contains("action=\"sign_in\"")
    });

    // The receiver is away, and the server is killed meanwhile.
    receiver.stop();
    act(&server, &admin, 6);
    until("the outage is told", || {
        let forward = forward(&server, &admin);
        forward["problem"].as_str().is_some_and(|problem| problem.contains(&target))
            && forward["waiting"].as_u64() >= Some(6)
    });
    assert!(server.get("/readyz").contains(" 200 "), "a target that is down holds nobody up");
    let server = Appliance::start_in(server.kill(), &env);
    act(&server, &admin, 6);
    receiver.start();
    all_received(&receiver, &server, &admin);
    let state = forward(&server, &admin);
    assert_eq!((state["waiting"].as_u64(), state["problem"].as_str()), (Some(0), None), "{state}");

    // The server is killed while it sends.
    act(&server, &admin, 10);
    let server = Appliance::start_in(server.kill(), &env);
    act(&server, &admin, 10);
    all_received(&receiver, &server, &admin);

    // A stop in order confirms what was sent: nothing comes twice after it.
    let dir = server.end();
    let before = receiver.received().len();
    let server = Appliance::start_in(dir, &env);
    act(&server, &admin, 1);
    all_received(&receiver, &server, &admin);
    let known: Vec<u64> = receiver.received()[..before].iter().map(|(number, _)| *number).collect();
    let again = receiver.received()[before..].iter().filter(|(number, _)| known.contains(number)).count();
    assert_eq!(again, 0, "records came twice after a stop in order");
    let dir = server.end();
    assert_complete(&receiver.received(), &stored(&dir.path().join("data")));
}

#[test]
fn a_receiver_with_a_wrong_certificate_gets_nothing() {
    let receiver = Rsyslog::new();
    let target = format!("tls://localhost:{}", receiver.port);
    let (right, wrong) = (receiver.path("ca.pem"), receiver.path("other.pem"));
    let env = |ca: &str| [("ACADEMY_RT_AUDIT_FORWARD", target.clone()), ("ACADEMY_RT_AUDIT_FORWARD_CA", ca.to_owned())];
    let start = |dir: tempfile::TempDir, ca: &Path| {
        let env = env(ca.to_str().unwrap());
        Appliance::start_in(dir, &env.each_ref().map(|(name, value)| (*name, value.as_str())))
    };
    let server = start(tempfile::tempdir().unwrap(), &wrong);
    let admin = server.token("root", "admin");
    act(&server, &admin, 2);
    until("the certificate is refused, in words", || {
        let problem = forward(&server, &admin)["problem"].as_str().unwrap_or_default().to_lowercase();
        problem.contains("certificate") && problem.contains("audit.forward_ca") && !problem.contains("refused (os")
    });
    assert_eq!(receiver.received(), []);
    let data = server.data();
    let doctor = |ca: &Path| {
        let env = env(ca.to_str().unwrap());
        let env: Vec<(&str, &str)> =
            env.iter().map(|(name, value)| (*name, value.as_str())).chain([("JWT_SECRET", SECRET)]).collect();
        words(&run(&["doctor", "--data-dir", data.to_str().unwrap()], &env))
    };
    assert!(doctor(&wrong).contains("PROBLEM  audit forward"), "{}", doctor(&wrong));
    assert!(doctor(&right).contains(&format!("{target} can be reached")), "{}", doctor(&right));
    let server = start(server.end(), &right);
    all_received(&receiver, &server, &admin);
}

/// The kernel of a receiver has taken it, and the receiver has not: that does not count.
#[test]
fn what_a_receiver_has_not_read_comes_again_also_after_a_kill() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let target = format!("tcp://{}", listener.local_addr().unwrap());
    let env = [("ACADEMY_RT_AUDIT_FORWARD", target.as_str())];
    let server = Appliance::start_in(tempfile::tempdir().unwrap(), &env);
    let admin = server.token("root", "admin");
    let (unread, _) = listener.accept().unwrap();
    act(&server, &admin, 5);
    until("they are sent", || forward(&server, &admin)["sent"].as_u64() == Some(head(&server, &admin)));
    assert_eq!(forward(&server, &admin)["confirmed"].as_u64(), Some(0));
    let sent = head(&server, &admin);
    // With bytes that are unread this is a reset, as a receiver that is killed makes one.
    drop(unread);
    let numbers = |from: TcpStream| {
        from.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let (mut from, mut text) = (from, String::new());
        while !text.contains(&format!(" number=\"{sent}\"")) {
            let mut part = [0; 4_096];
            let read = from.read(&mut part).unwrap();
            assert!(read > 0, "the connection ended: {text}");
            text.push_str(std::str::from_utf8(&part[..read]).unwrap());
        }
        let numbers =
            text.split(" number=\"").skip(1).map(|rest| rest.split('"').next().unwrap().parse::<u64>().unwrap());
        numbers.take_while(|number| *number <= sent).collect::<Vec<u64>>()
    };
    let all: Vec<u64> = (1..=sent).collect();
    assert_eq!(numbers(listener.accept().unwrap().0), all);
    let _server = Appliance::start_in(server.kill(), &env);
    assert_eq!(numbers(listener.accept().unwrap().0), all);
}

#[test]
fn a_file_has_every_record_over_a_rotation_and_a_directory_that_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let logs = dir.path().join("logs");
    let file = logs.join("audit.jsonl");
    let target = format!("file:{}", file.display());
    let server = Appliance::start_in(dir, &[("ACADEMY_RT_AUDIT_FORWARD", target.as_str())]);
    let admin = server.token("root", "admin");
    act(&server, &admin, 2);
    until("the missing directory is told", || {
        forward(&server, &admin)["problem"].as_str().is_some_and(|problem| problem.contains("directory"))
    });
    let metrics = server.call(&admin, "GET", "/metrics", "");
    assert_eq!(metrics.0, 200);
    fs::create_dir(&logs).unwrap();
    let numbers = |path: &Path| -> Vec<u64> {
        let text = fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["number"].as_u64().unwrap()).collect()
    };
    until("all is in the file", || numbers(&file).last() == Some(&head(&server, &admin)));
    until("it is stored how far the file is", || {
        forward(&server, &admin)["confirmed"].as_u64() == Some(head(&server, &admin))
    });
    let rotated = logs.join("audit.jsonl.1");
    fs::rename(&file, &rotated).unwrap();
    let before = numbers(&rotated).len() as u64;
    let server = Appliance::start_in(server.kill(), &[("ACADEMY_RT_AUDIT_FORWARD", target.as_str())]);
    act(&server, &admin, 2);
    until("all is in the two files", || numbers(&file).last() == Some(&head(&server, &admin)));
    let all: Vec<u64> = numbers(&rotated).into_iter().chain(numbers(&file)).collect();
    assert_eq!(all, (1..=head(&server, &admin)).collect::<Vec<u64>>());
    assert!(before > 0 && numbers(&file)[0] == before + 1);
}

#[test]
fn a_target_that_cannot_be_meant_is_refused_with_words() {
    let check = |env: &[(&str, &str)]| {
        let data = tempfile::tempdir().unwrap();
        let env: Vec<(&str, &str)> = env
            .iter()
            .copied()
            .chain([("JWT_SECRET", SECRET), ("ACADEMY_RT_STORAGE_DATA_DIR", data.path().to_str().unwrap())])
            .collect();
        let output = run(&["config", "check"], &env);
        (output.status.success(), words(&output))
    };
    for (env, says) in [
        (vec![("ACADEMY_RT_AUDIT_FORWARD", "tcp://siem.example.org:514")], "without TLS"),
        (vec![("ACADEMY_RT_AUDIT_FORWARD", "syslog")], "must be tls://HOST:PORT"),
        (vec![("ACADEMY_RT_AUDIT_FORWARD_CA", "/nowhere")], "only where audit.forward begins with tls://"),
        (
            vec![("ACADEMY_RT_AUDIT_FORWARD", "tls://a:1"), ("ACADEMY_RT_AUDIT_FORWARD_CERT", "/x")],
            "needs audit.forward_key",
        ),
        (
            vec![("ACADEMY_RT_AUDIT_FORWARD", "tls://a:1"), ("ACADEMY_RT_AUDIT_FORWARD_CA", "/nowhere")],
            "the file /nowhere of audit.forward_ca cannot be used",
        ),
    ] {
        let (is_good, said) = check(&env);
        assert!(!is_good && said.contains(says), "{said}");
    }
    assert!(check(&[("ACADEMY_RT_AUDIT_FORWARD", "journald:")]).0);
}
