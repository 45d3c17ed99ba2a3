//! Certificates as administrators really have them: made by a wrong clock, with a chain that ends, out of order, from an editor
//! of Windows, by halves.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use academy_rt::observability::certificate::CertificateFacts;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::Value;

use crate::harness::{free_port, run, until, words};
use crate::service::{Identity, Service, client};

const SELF_SIGNED: &str = "mode = \"self-signed\"";
const FILES: &str = "mode = \"files\"\ncert = \"DIR/c.pem\"\nkey = \"DIR/k.pem\"";
const DAY: Duration = Duration::from_secs(86_400);

/// A configuration over TLS.
pub(crate) fn secured(tls: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\n{tls}\n[auth]\njwt_secret_file = \"DIR/secret\"\n[storage]\n\
         data_dir = \"DATA\"\nmin_free = 0\n"
    )
}

/// The status, as a command on the same machine sees it.
pub(crate) fn status(service: &Service) -> Value {
    let output = command(service, &["--output", "json", "status"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", words(&output)))
}

pub(crate) fn command(service: &Service, args: &[&str]) -> std::process::Output {
    let config = service.path("academy-rt.toml");
    run(&[&["--config", config.to_str().unwrap()], args].concat(), &[])
}

fn shown(service: &Service) -> CertificateFacts {
    CertificateFacts::read(&service.certificate()).unwrap()
}

/// A service whose clock is set by a file.
struct Clocked {
    service: Service,
}

impl Clocked {
    fn start(dir: tempfile::TempDir, shift: &str) -> Clocked {
        let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
        assert!(
            Path::new(&library).exists(),
            "this test sets the server's clock: install Debian's package libfaketime"
        );
        let clock = dir.path().join("clock");
        fs::write(&clock, shift).unwrap();
        let env = [
            ("LD_PRELOAD", library.as_str()),
            ("FAKETIME_TIMESTAMP_FILE", clock.to_str().unwrap()),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
        ];
        Clocked { service: Service::start_in(dir, free_port(), &secured(SELF_SIGNED), &env, None) }
    }

    /// Sets it while the server runs.
    fn set(&self, shift: &str) {
        let new = self.service.path("clock.new");
        fs::write(&new, shift).unwrap();
        fs::rename(&new, self.service.path("clock")).unwrap();
    }

    fn is_good_now(&self) -> bool {
        let (facts, now) = (shown(&self.service), now());
        facts.not_before.as_secs() <= now && now + 700 * 86_400 < facts.not_after.as_secs()
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs()
}

#[test]
fn a_certificate_that_was_made_by_a_wrong_clock_is_made_again_when_the_clock_is_set() {
    for wrong in ["+5000d", "-15000d"] {
        let clocked = Clocked::start(tempfile::tempdir().unwrap(), wrong);
        let first = clocked.service.certificate();
        assert!(!clocked.is_good_now(), "it was made by the wrong clock");
        clocked.set("+0d");
        until("a certificate that is good", || clocked.is_good_now());
        // And by who starts with a right clock.
        let dir = clocked.service.end();
        let (cert, key) = (dir.path().join("data/tls/cert.pem"), dir.path().join("data/tls/key.pem"));
        assert!(cert.exists() && key.exists());
        fs::remove_dir_all(dir.path().join("data/tls")).unwrap();
        let dir = Clocked::start(dir, wrong).service.end();
        let clocked = Clocked::start(dir, "+0d");
        assert!(clocked.is_good_now() && clocked.service.certificate() != first, "{wrong}");
    }
}

#[test]
fn a_clock_that_was_wrong_for_a_while_takes_no_certificate_from_who_trusts_it() {
    let trusted = {
        let clocked = Clocked::start(tempfile::tempdir().unwrap(), "+0d");
        (clocked.service.certificate(), clocked.service.end())
    };
    let (certificate, dir) = trusted;
    let clocked = Clocked::start(dir, "+5000d");
    assert_ne!(clocked.service.certificate(), certificate, "by that clock it was over");
    clocked.set("-15000d");
    until("one for the other clock", || shown(&clocked.service).not_after.as_secs() < now());
    clocked.set("+0d");
    until("the certificate from before", || clocked.service.certificate() == certificate);
}

/// A chain of three: leaf, intermediate, root, and the leaf's key.
pub(crate) struct Chain {
    pub leaf: String,
    pub middle: String,
    pub root: String,
    pub key: String,
}

fn named(name: &str, days: (i32, i32)) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    let at = |days: i32| match u32::try_from(days) {
        Ok(days) => SystemTime::now() + DAY * days,
        Err(_) => SystemTime::now() - DAY * days.unsigned_abs(),
    };
    (params.not_before, params.not_after) = (at(days.0).into(), at(days.1).into());
    params
}

/// A chain whose intermediate is good between two days from now.
pub(crate) fn chain(middle_days: (i32, i32)) -> Chain {
    let authority = |mut params: CertificateParams| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
    };
    let root = authority(named("Root", (-900, 900)));
    let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
    let middle = authority(named("Issuing CA", middle_days));
    let middle = CertifiedIssuer::signed_by(middle, KeyPair::generate().unwrap(), &root).unwrap();
    let pair = KeyPair::generate().unwrap();
    let mut leaf = named("leaf", (-9, 300));
    leaf.subject_alt_names = CertificateParams::new(vec!["rt.example.ca".to_owned()]).unwrap().subject_alt_names;
    Chain {
        leaf: leaf.signed_by(&pair, &middle).unwrap().pem(),
        middle: middle.as_ref().pem(),
        root: root.as_ref().pem(),
        key: pair.serialize_pem(),
    }
}

fn put(dir: &Path, cert: &str, key: &str) {
    fs::write(dir.join("k.pem"), key).unwrap();
    fs::write(dir.join("c.pem"), cert).unwrap();
}

#[test]
fn an_intermediate_that_is_over_is_told_wherever_the_end_of_the_certificate_is() {
    let dir = tempfile::tempdir().unwrap();
    let over = chain((-300, -3));
    put(dir.path(), &format!("{}{}{}", over.leaf, over.middle, over.root), &over.key);
    let service = Service::start_in(dir, free_port(), &secured(FILES), &[], None);
    let says = |args: &[&str]| words(&command(&service, args));
    let over_for = "the certificate of 'CN=Issuing CA' in its chain expired on ";
    for text in [says(&["config", "check"]), says(&["doctor"]), service.log()] {
        assert!(text.contains(over_for), "{text}");
    }
    assert_eq!(command(&service, &["doctor"]).status.code(), Some(3));
    let text = says(&["status"]);
    assert!(text.contains("NOT VALID NOW") && text.contains("'CN=Issuing CA'"), "{text}");
    let found = status(&service)["certificate"].clone();
    assert!(found["valid"] == false && found["daysLeft"] == 0 && found["endsFirst"] == "CN=Issuing CA", "{found}");
    let metrics = || {
        let token = service.token("1", "admin");
        let head = format!("GET /metrics HTTP/1.1\r\nAuthorization: Bearer {token}");
        let text = crate::service::ask(&mut service.tls(None), &head, "");
        let name = "academy_rt_tls_certificate_not_after_timestamp_seconds ";
        text.lines().find_map(|line| line.strip_prefix(name)?.parse::<f64>().ok()).unwrap() as u64
    };
    assert!(metrics() < now());
    // A good chain is taken, and gives way to no bad one: that is told by the status until it is mended.
    let good = chain((-300, 3));
    put(service.dir.path(), &format!("{}{}", good.leaf, good.middle), &good.key);
    until("the good chain", || status(&service)["certificate"]["valid"] == true);
    assert!((now()..now() + 4 * 86_400).contains(&metrics()), "the intermediate ends first");
    let text = says(&["doctor"]);
    assert!(text.contains("the one of 'CN=Issuing CA' in its chain expires on "), "{text}");
    put(service.dir.path(), &format!("{}{}", over.leaf, over.middle), &over.key);
    until("the refusal", || status(&service)["certificateError"].as_str().is_some_and(|why| why.contains(over_for)));
    let text = says(&["status"]);
    assert!(text.contains("CERTIFICATE  REFUSED, the old one stays in use: ") && text.contains(over_for), "{text}");
    let text = says(&["doctor"]);
    assert!(text.contains("a changed certificate cannot be used, and the old one stays in use"), "{text}");
    let token = service.token("1", "admin");
    let head = format!("GET /metrics HTTP/1.1\r\nAuthorization: Bearer {token}");
    let text = crate::service::ask(&mut service.tls(None), &head, "");
    assert!(text.contains("academy_rt_reload_refused 1"), "{text}");
    put(service.dir.path(), &format!("{}{}", good.leaf, good.middle), &good.key);
    until("nothing is refused", || status(&service).get("certificateError").is_none());
}

#[test]
fn a_chain_in_any_order_and_from_any_editor_is_sent_in_its_order() {
    let chain = chain((-300, 300));
    let Chain { leaf, middle, root, key } = &chain;
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &format!("{leaf}{middle}"), key);
    let service = Service::start_in(dir, free_port(), &secured(FILES), &[], None);
    let sent = || {
        let stream = service.tls(None);
        let read = |der: &rustls::pki_types::CertificateDer<'_>| CertificateFacts::read(der).unwrap().subject;
        stream.conn.peer_certificates().unwrap().iter().map(read).collect::<Vec<String>>()
    };
    let indented = |text: &str| text.lines().map(|line| format!("    {line}\r\n")).collect::<String>();
    let wide = |text: &str| {
        [0xFF, 0xFE].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect::<Vec<u8>>()
    };
    for (what, cert, key) in [
        ("the root first", format!("{root}{middle}{leaf}").into_bytes(), key.clone().into_bytes()),
        ("the intermediate first", format!("{middle}{root}{leaf}").into_bytes(), key.clone().into_bytes()),
        ("one twice", format!("{leaf}{middle}{leaf}{middle}{root}").into_bytes(), key.clone().into_bytes()),
        (
            "a byte order mark",
            format!("\u{feff}{leaf}{middle}{root}").into_bytes(),
            format!("\u{feff}{key}").into_bytes(),
        ),
        ("indented", indented(&format!("{root}{leaf}{middle}")).into_bytes(), indented(key).into_bytes()),
        ("UTF-16", wide(&format!("{leaf}{middle}{root}")), wide(key)),
    ] {
        fs::write(service.path("c.pem"), cert).unwrap();
        fs::write(service.path("k.pem"), key).unwrap();
        let said = service.hang_up();
        assert!(said.contains("in force") && !said.contains("was signed by"), "{what}: {said}");
        assert_eq!(sent(), ["CN=leaf", "CN=Issuing CA", "CN=Root"], "{what}");
    }
    // A key of none of them is told as such.
    put(service.dir.path(), &format!("{root}{middle}{leaf}"), &KeyPair::generate().unwrap().serialize_pem());
    let said = service.hang_up();
    assert!(said.contains("the key does not belong to the certificate, nor to another of the 3"), "{said}");
}

/// What `serve` says that does not start.
fn refused(dir: &Path, lines: &str, env: &[(&str, &str)]) -> String {
    let config = dir.join("academy-rt.toml");
    let text = secured(lines)
        .replace("PORT", &free_port().to_string())
        .replace("DATA", dir.join("data").to_str().unwrap())
        .replace("DIR", dir.to_str().unwrap());
    fs::write(&config, text).unwrap();
    fs::write(dir.join("secret"), crate::harness::SECRET).unwrap();
    // A server that starts would never end.
    let check = run(&["--config", config.to_str().unwrap(), "config", "check"], env);
    assert_ne!(check.status.code(), Some(0), "{lines} {env:?}: {}", words(&check));
    let output = run(&["--config", config.to_str().unwrap(), "serve"], env);
    assert_eq!(output.status.code(), Some(1), "{}", words(&output));
    format!("{}{}", words(&check), words(&output))
}

#[test]
fn half_a_pair_is_refused_with_what_to_do() {
    let good = chain((-300, 300));
    let dir = tempfile::tempdir().unwrap();
    put(dir.path(), &format!("{}{}", good.leaf, good.middle), &good.key);
    for (lines, says) in [
        ("cert = \"DIR/c.pem\"", "set tls.mode to files"),
        ("key = \"DIR/k.pem\"", "set tls.mode to files"),
        ("mode = \"files\"\ncert = \"DIR/c.pem\"", "tls.key"),
        ("mode = \"files\"\nkey = \"DIR/k.pem\"", "tls.cert"),
        ("mode = \"files\"", "set both"),
    ] {
        let said = refused(dir.path(), lines, &[]);
        assert!(said.contains(says), "{lines}: {said}");
    }
    let said = refused(dir.path(), SELF_SIGNED, &[("ACADEMY_RT_TLS_CERT", "c.pem")]);
    assert!(said.contains("set tls.mode to files"), "{said}");
    // Credentials of systemd.
    for (there, absent) in [("tls_cert", "tls_key"), ("tls_key", "tls_cert")] {
        let credentials = tempfile::tempdir().unwrap();
        fs::write(credentials.path().join(there), if there == "tls_key" { &good.key } else { &good.leaf }).unwrap();
        let said = refused(dir.path(), SELF_SIGNED, &[("CREDENTIALS_DIRECTORY", credentials.path().to_str().unwrap())]);
        assert!(said.contains(there) && said.contains(&format!("Add LoadCredential={absent}:FILE")), "{said}");
    }
    // Where the server keeps its own: what it has not made is neither replaced nor passed over.
    let own = dir.path().join("data/tls");
    fs::create_dir_all(&own).unwrap();
    fs::write(own.join("cert.pem"), &good.leaf).unwrap();
    let said = refused(dir.path(), SELF_SIGNED, &[]);
    assert!(said.contains("Put its key beside it as key.pem"), "{said}");
    assert_eq!(fs::read_to_string(own.join("cert.pem")).unwrap(), good.leaf);
    fs::remove_file(own.join("cert.pem")).unwrap();
    fs::write(own.join("key.pem"), &good.key).unwrap();
    let service = Service::start_in(dir, free_port(), &secured(SELF_SIGNED), &[], None);
    assert!(shown(&service).is_for("localhost"));
    assert_eq!(fs::read_to_string(service.path("data/tls/key.pem")).unwrap(), good.key, "the key is kept");
}

/// What comes back for bytes on a new connection, to its end.
fn raw(service: &Service, bytes: &[u8]) -> Vec<u8> {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", service.port)).unwrap();
    stream.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
    stream.write_all(bytes).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    answer
}

#[test]
fn who_speaks_the_wrong_protocol_is_told_which_is_the_right_one() {
    let secure = Service::start(&secured(SELF_SIGNED));
    let body = vec![b'x'; 20_000];
    let post = [b"POST /api/v1/x HTTP/1.1\r\nHost: rt.example.ca\r\nContent-Length: 20000\r\n\r\n", &body[..]].concat();
    for request in [b"GET / HTTP/1.1\r\nHost: rt.example.ca\r\n\r\n".to_vec(), post] {
        let answer = String::from_utf8(raw(&secure, &request)).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains("Use https://"), "{answer}");
        assert!(!answer.contains("rt.example.ca"), "nothing of the request is said again");
    }
    let line = "http_on_tls_port: it speaks plain HTTP, and this port takes TLS: use https://";
    secure.wait_for(line);
    for _ in 0..100 {
        raw(&secure, b"GET / HTTP/1.1\r\n\r\n");
    }
    let told = secure.log().matches(line).count();
    assert!(told < 60, "{told} lines of 102");
    assert_eq!(shown(&secure).subject, "CN=academy-rt", "TLS is spoken as before");
    // The other way round.
    let plain = Service::start(&secured("mode = \"off\""));
    let refused = plain.tls_with(aws_lc_rs::default_provider(), None).unwrap_err();
    assert!(refused.to_string().contains("HandshakeFailure"), "{refused}");
    plain.wait_for("tls_on_plain_port: it speaks TLS, and this port takes plain HTTP (tls.mode is off)");
    assert!(plain.plain("GET /readyz HTTP/1.1", "").contains(" 200 "));
}

/// A client that has these groups, in their order.
fn offering(groups: &[&'static dyn rustls::crypto::SupportedKxGroup]) -> rustls::crypto::CryptoProvider {
    rustls::crypto::CryptoProvider { kx_groups: groups.to_vec(), ..aws_lc_rs::default_provider() }
}

#[test]
fn a_client_gets_the_hybrid_key_exchange_and_metrics_and_doctor_say_so() {
    use aws_lc_rs::kx_group::{SECP256R1, SECP256R1MLKEM768, SECP384R1, X25519, X25519MLKEM768};
    let service = Service::start(&secured(SELF_SIGNED));
    let got = |groups: &[&'static dyn rustls::crypto::SupportedKxGroup]| {
        let stream = service.tls_with(offering(groups), None).ok()?;
        stream.conn.negotiated_key_exchange_group().and_then(|group| group.name().as_str())
    };
    assert_eq!(got(&[X25519MLKEM768, X25519, SECP256R1]), Some("X25519MLKEM768"));
    assert_eq!(got(&[X25519, SECP256R1]), Some("X25519"), "who has no hybrid one is served, too");
    let text = words(&command(&service, &["doctor"]));
    assert!(text.contains("a client gets TLS 1.3, key exchange X25519MLKEM768, cipher suite TLS13_AES"), "{text}");
    let token = service.token("1", "admin");
    let head = format!("GET /metrics HTTP/1.1\r\nAuthorization: Bearer {token}");
    let text = crate::service::ask(&mut service.tls_with(offering(&[SECP256R1]), None).unwrap(), &head, "");
    for (group, least) in [("X25519MLKEM768", 2), ("X25519", 1), ("secp256r1", 1)] {
        let name = format!("academy_rt_tls_handshakes_total{{group=\"{group}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&name)?.parse::<u64>().ok());
        assert!(count.is_some_and(|count| count >= least), "{name}: {text}");
    }
    service.reload(&secured("mode = \"self-signed\"\nprofile = \"itsp.40.062\""));
    assert_eq!(got(&[X25519MLKEM768, SECP256R1MLKEM768, SECP256R1]), Some("secp256r1MLKEM768"));
    assert_eq!(got(&[X25519MLKEM768, X25519, SECP384R1]), Some("secp384r1"));
    assert_eq!(got(&[X25519MLKEM768, X25519]), None);
}

#[test]
fn host_names_are_taken_as_people_write_them() {
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().to_str().unwrap();
    let init = |sub: &str, hosts: &[&str]| {
        let place = format!("{at}/{sub}");
        let mut args = vec!["init", "--non-interactive", "--dir", place.as_str(), "--listen", "0.0.0.0:8443"];
        args.extend(hosts.iter().flat_map(|host| ["--host", host]));
        let output = run(&args, &[]);
        (output.status.code().unwrap(), words(&output))
    };
    let (code, said) = init("a", &["*.Apps.example.ca", "RT.Example.CA.", "école.example", "2001:DB8::7"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("https://rt.example.ca:8443"), "{said}");
    let pem = fs::read(dir.path().join("a/data/tls/cert.pem")).unwrap();
    let der =
        <rustls::pki_types::CertificateDer<'_> as rustls::pki_types::pem::PemObject>::from_pem_slice(&pem).unwrap();
    let names = CertificateFacts::read(&der).unwrap().names;
    assert_eq!(names, ["*.apps.example.ca", "rt.example.ca", "xn--cole-9oa.example", "2001:db8::7"]);
    for (bad, says) in [("a*.example.ca", "its whole first label"), ("*.ca", "for too much"), ("a b", "neither")] {
        let (code, said) = init("b", &[bad]);
        assert!(code == 2 && said.contains(says), "{bad}: {said}");
    }
    // An address for a command: a final dot is the same host, and a name is turned into punycode before it is asked for.
    let service = Service::start(&secured(SELF_SIGNED));
    let token = service.token("1", "admin");
    let cacert = service.path("data/tls/cert.pem");
    let status = |host: &str| {
        let url = format!("https://{host}:{}", service.port);
        let args = ["status", "--url", &url, "--cacert", cacert.to_str().unwrap()];
        let output = run(&args, &[("ACADEMY_RT_TOKEN", &token)]);
        (output.status.code().unwrap(), words(&output))
    };
    for host in ["localhost", "localhost.", "LOCALHOST"] {
        let (code, said) = status(host);
        assert_eq!(code, 0, "{host}: {said}");
    }
    let (_, said) = status("école.invalid");
    assert!(said.contains("xn--cole-9oa.invalid") && !said.contains("not a URL"), "{said}");
}

/// An authority of client certificates, with what it has signed and revoked.
struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Authority {
        let mut params = named("Clients", (-9, 900));
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign, rcgen::KeyUsagePurpose::CrlSign];
        Authority(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn certificate(&self, serial: u64) -> Identity {
        let (pair, mut params) = (KeyPair::generate().unwrap(), named("admin", (-9, 90)));
        params.serial_number = Some(serial.into());
        let leaf = params.signed_by(&pair, &self.0).unwrap();
        (vec![leaf.der().clone()], PrivateKeyDer::try_from(pair.serialize_der()).unwrap())
    }

    /// One that is over so soon.
    fn ending(&self, serial: u64, within: Duration) -> Identity {
        let (pair, mut params) = (KeyPair::generate().unwrap(), named("admin", (-9, 90)));
        params.serial_number = Some(serial.into());
        params.not_after = (SystemTime::now() + within).into();
        let leaf = params.signed_by(&pair, &self.0).unwrap();
        (vec![leaf.der().clone()], PrivateKeyDer::try_from(pair.serialize_der()).unwrap())
    }

    /// The list of what is revoked, good until so many days from now.
    fn revoked(&self, serials: &[u64], days: i32) -> rcgen::CertificateRevocationList {
        let time = |days: i32| named("", (days, days)).not_before;
        let revoked = |serial: &u64| rcgen::RevokedCertParams {
            serial_number: (*serial).into(),
            revocation_time: time(-1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = rcgen::CertificateRevocationListParams {
            this_update: time(-5),
            next_update: time(days),
            crl_number: 1.into(),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: rcgen::KeyIdMethod::Sha256,
        };
        params.signed_by(&self.0).unwrap()
    }
}

/// A request with a token, over a new connection.
fn asked(service: &Service, identity: Option<Identity>, token: &str, head: &str, body: &str) -> (u16, String) {
    let head = format!("{head}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json");
    let answer = crate::service::ask(&mut service.tls(identity), &head, body);
    (answer.split(' ').nth(1).unwrap().parse().unwrap(), answer)
}

#[test]
fn without_a_client_certificate_no_way_in_has_the_rights_of_an_administrator_or_a_service() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), authority.0.as_ref().pem()).unwrap();
    let lines = secured("mode = \"self-signed\"\nclient_ca = \"DIR/ca.pem\"");
    let service = Service::start_in(dir, free_port(), &lines, &[], None);
    let made = command(&service, &["room", "create", "board", "--private", "--member", "7"]);
    assert!(made.status.success(), "{}", words(&made));
    let admin = service.token("1", "admin");
    let issued =
        command(&service, &["token", "issue", "--user", "9", "--scope", "broadcast notify rooms users metrics"]);
    let back_end = String::from_utf8(issued.stdout).unwrap().trim().to_owned();
    let broadcast = "{\"target\":{\"user\":7},\"event\":\"system:alert\"}";
    let notify = "{\"target\":{\"user\":7},\"title\":\"x\",\"message\":\"x\"}";
    let ways = [
        ("GET /metrics HTTP/1.1", ""),
        ("POST /api/v1/broadcast HTTP/1.1", broadcast),
        ("POST /api/v1/notifications HTTP/1.1", notify),
        ("GET /api/v1/admin/rooms HTTP/1.1", ""),
        ("GET /api/v1/admin/users/7 HTTP/1.1", ""),
    ];
    for token in [&admin, &back_end] {
        for (head, body) in ways {
            let (status, answer) = asked(&service, None, token, head, body);
            assert!(status == 403 && answer.contains("tls.client_ca"), "{head}: {answer}");
            let (status, answer) = asked(&service, Some(authority.certificate(1)), token, head, body);
            assert!(status != 403 && status != 401, "{head}: {answer}");
        }
    }
    let (_, answer) = asked(&service, None, &admin, "GET /api/v1/session HTTP/1.1", "");
    assert!(answer.contains("\"roles\":[]"), "{answer}");
    let history = "GET /api/v1/rooms/board/messages HTTP/1.1";
    assert_eq!(asked(&service, None, &admin, history, "").0, 403, "a private room");
    assert_eq!(asked(&service, Some(authority.certificate(1)), &admin, history, "").0, 200);
    let member = service.token("7", "learner");
    assert_eq!(asked(&service, None, &member, history, "").0, 200, "who has rights of their own keeps them");
    // Socket.IO, by polling: the rights of a session are those of the connection that it began on, and it is used on such ones.
    let open = |identity: &dyn Fn() -> Option<Identity>| {
        let (_, opened) = asked(&service, identity(), "", "GET /ws/?EIO=4&transport=polling HTTP/1.1", "");
        let sid = opened.split("\"sid\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
        let path = format!("/ws/?EIO=4&transport=polling&sid={sid} HTTP/1.1");
        let connect = format!("40{{\"token\":\"{admin}\"}}");
        assert_eq!(asked(&service, identity(), "", &format!("POST {path}"), &connect).0, 200);
        path
    };
    let heard = |identity: &dyn Fn() -> Option<Identity>, path: &str| {
        asked(&service, identity(), "", &format!("POST {path}"), "421[\"chat:join\",{\"roomId\":\"board\"}]");
        let mut all = String::new();
        until("the answer to the join", || {
            all.push_str(&asked(&service, identity(), "", &format!("GET {path}"), "").1);
            all.contains("431[")
        });
        all
    };
    let with = || Some(authority.certificate(1));
    let path = open(&|| None);
    let all = heard(&|| None, &path);
    assert!(all.contains("forbidden"), "{all}");
    let path = open(&with);
    let all = heard(&with, &path);
    assert!(!all.contains("forbidden"), "{all}");
    let (status, answer) = asked(&service, None, "", &format!("GET {path}"), "");
    assert!(status == 403 && answer.contains("client certificate"), "{answer}");
    // The administrator of this machine needs none.
    assert!(command(&service, &["room", "list"]).status.success());
}

#[test]
fn a_revoked_client_certificate_is_refused_and_so_are_all_when_the_list_is_over() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), authority.0.as_ref().pem()).unwrap();
    fs::write(dir.path().join("crl.pem"), authority.revoked(&[666], 9).pem().unwrap()).unwrap();
    let lines = secured("mode = \"self-signed\"\nclient_ca = \"DIR/ca.pem\"\nclient_crl = \"DIR/crl.pem\"");
    let service = Service::start_in(dir, free_port(), &lines, &[], None);
    let token = service.token("1", "admin");
    let is_let_in = |serial: u64| {
        let mut stream = service.tls(Some(authority.certificate(serial)));
        let head = format!(
            "GET /api/v1/admin/status HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        let mut answer = Vec::new();
        drop(stream.write_all(head.as_bytes()).and_then(|()| stream.read_to_end(&mut answer)));
        String::from_utf8_lossy(&answer).contains(" 200 ")
    };
    assert!(is_let_in(7) && !is_let_in(666));
    // What it has opened ends with it, and what another one has opened does not.
    let open = |serial: u64| {
        let mut stream = service.tls(Some(authority.certificate(serial)));
        assert!(crate::service::ask(&mut stream, "GET /healthz HTTP/1.1", "").contains(" 200 "));
        stream
    };
    let (mut opened, mut other) = (open(7), open(8));
    // As authorities publish it, and taken without a reload.
    fs::write(service.path("crl.pem"), &authority.revoked(&[7, 666], 9).der()[..]).unwrap();
    until("the new list", || !is_let_in(7));
    assert!(matches!(opened.read(&mut [0]), Ok(0) | Err(_)), "the connection of who was revoked has ended");
    service.wait_for("closed a connection from 127.0.0.1: its client certificate, of 'CN=admin', is not good any more");
    assert!(crate::service::ask(&mut other, "GET /healthz HTTP/1.1", "").contains(" 200 "));
    assert!(is_let_in(8) && !is_let_in(666));
    // One that is over does not take the place of one that is not, and is told.
    fs::write(service.path("crl.pem"), authority.revoked(&[], -1).pem().unwrap()).unwrap();
    until("the refusal", || status(&service)["certificateError"].as_str().is_some_and(|why| why.contains("is over")));
    assert!(is_let_in(8) && !is_let_in(666), "the old one stays");
    let dir = service.end();
    let service = Service::start_in(dir, free_port(), &lines, &[], None);
    let text = words(&command(&service, &["doctor"]));
    for text in [text, service.log()] {
        assert!(text.contains("a revocation list in tls.client_crl is over since"), "{text}");
    }
    assert!(service.tls_with(aws_lc_rs::default_provider(), None).is_ok(), "learners are served");
    let mut stream = service.tls(Some(authority.certificate(8)));
    let refused =
        stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n").and_then(|()| stream.read(&mut [0]));
    assert!(refused.is_err(), "{refused:?}");
    drop(stream);
    for (text, says) in [
        ("nonsense", "contains no revocation list"),
        ("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n", "cannot be used"),
    ] {
        fs::write(service.path("crl.pem"), text).unwrap();
        let said = service.hang_up();
        assert!(said.contains("not reloaded") && said.contains(says) && said.contains("tls.client_crl"), "{said}");
    }
    let said = service.reload(&secured("mode = \"self-signed\"\nclient_crl = \"DIR/crl.pem\""));
    assert!(said.contains("is not used without tls.client_ca"), "{said}");
}

/// Connects, asks, and gives how its handshake was.
fn comes(service: &Service, client: &Arc<ClientConfig>) -> std::io::Result<HandshakeKind> {
    let mut stream = service.tls_of(client.clone())?;
    let head = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut answer = Vec::new();
    stream.write_all(head.as_bytes())?;
    stream.read_to_end(&mut answer)?;
    assert!(String::from_utf8_lossy(&answer).contains(" 200 "));
    Ok(stream.conn.handshake_kind().unwrap())
}

#[test]
fn who_comes_again_makes_half_a_handshake_however_many_have_come_in_between() {
    let service = Service::start(&secured(SELF_SIGNED));
    let anybody = || client(aws_lc_rs::default_provider(), None);
    let early = anybody();
    assert_eq!(comes(&service, &early).unwrap(), HandshakeKind::Full);
    for _ in 0..300 {
        assert_eq!(comes(&service, &anybody()).unwrap(), HandshakeKind::Full);
    }
    assert_eq!(comes(&service, &early).unwrap(), HandshakeKind::Resumed);
    // What was said to another server is nothing here: the keys are in its memory alone.
    let dir = service.end();
    let service = Service::start_in(dir, free_port(), &secured(SELF_SIGNED), &[], None);
    assert_eq!(comes(&service, &early).unwrap(), HandshakeKind::Full);
}

#[test]
fn a_session_that_a_client_certificate_began_is_not_taken_up_when_that_is_over() {
    let authority = Authority::new();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), authority.0.as_ref().pem()).unwrap();
    let lines = secured("mode = \"self-signed\"\nclient_ca = \"DIR/ca.pem\"");
    let service = Service::start_in(dir, free_port(), &lines, &[], None);
    let lasting = client(aws_lc_rs::default_provider(), Some(authority.certificate(7)));
    let comes_twice = |one| {
        assert_eq!(comes(&service, one).unwrap(), HandshakeKind::Full);
        assert_eq!(comes(&service, one).unwrap(), HandshakeKind::Resumed);
    };
    comes_twice(&lasting);
    let ending = client(aws_lc_rs::default_provider(), Some(authority.ending(8, Duration::from_secs(5))));
    comes_twice(&ending);
    let open = |client: &Arc<ClientConfig>| {
        let mut stream = service.tls_of(client.clone()).unwrap();
        assert!(crate::service::ask(&mut stream, "GET /healthz HTTP/1.1", "").contains(" 200 "));
        stream
    };
    let (mut opened, mut other) = (open(&ending), open(&lasting));
    until("the certificate is over, and so is what it began", || comes(&service, &ending).is_err());
    service.wait_for("the client certificate of a session that is taken up is not good any more");
    assert_eq!(comes(&service, &lasting).unwrap(), HandshakeKind::Resumed);
    // Nor does what was opened with it stay.
    opened.sock.set_read_timeout(Some(crate::service::PATIENCE)).unwrap();
    let is_over = match opened.read(&mut [0]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    assert!(is_over, "the connection of a certificate that is over has ended");
    service.wait_for("its client certificate, of 'CN=admin', is not good any more");
    assert!(crate::service::ask(&mut other, "GET /healthz HTTP/1.1", "").contains(" 200 "));
}

#[test]
fn an_authority_of_client_certificates_that_is_over_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let authority = |days| {
        let mut params = named("Old Authority", days);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    };
    fs::write(dir.path().join("ca.pem"), authority((-9, 900))).unwrap();
    let lines = secured("mode = \"self-signed\"\nclient_ca = \"DIR/ca.pem\"");
    let service = Service::start_in(dir, free_port(), &lines, &[], None);
    let says = "the authority 'CN=Old Authority' in tls.client_ca expired on";
    assert!(!service.log().contains("in tls.client_ca"), "{}", service.log());
    fs::write(service.path("ca.pem"), authority((-90, -9))).unwrap();
    let said = service.hang_up();
    assert!(said.contains(says), "{said}");
    for args in [&["doctor"][..], &["config", "check"]] {
        let said = words(&command(&service, args));
        assert!(said.contains(says), "{args:?}: {said}");
    }
    let service = Service::start_in(service.end(), free_port(), &lines, &[], None);
    assert!(service.log().contains(says), "{}", service.log());
    fs::write(service.path("ca.pem"), authority((-90, 9))).unwrap();
    let said = service.hang_up();
    assert!(said.contains("in tls.client_ca expires on"), "{said}");
}

/// As a cut between the two names of a pair leaves it.
#[test]
fn a_server_with_half_of_its_own_old_pair_and_half_of_the_new_one_starts() {
    let (mut dir, lines) = (tempfile::tempdir().unwrap(), secured(SELF_SIGNED));
    let other = {
        let service = Service::start(&lines);
        fs::read(service.path("data/tls/key.pem")).unwrap()
    };
    for has_kept_it in [true, false] {
        let service = Service::start_in(dir, free_port(), &lines, &[], None);
        let before = service.certificate();
        dir = service.end();
        let key = dir.path().join("data/tls/key.pem");
        if has_kept_it {
            fs::copy(&key, key.with_extension("aside")).unwrap();
        }
        fs::write(&key, &other).unwrap();
        let service = Service::start_in(dir, free_port(), &lines, &[], None);
        assert_eq!(service.certificate() == before, has_kept_it, "its own key is there, or another pair is made");
        assert_eq!(service.log().contains("do not belong together"), !has_kept_it, "{}", service.log());
        dir = service.end();
    }
}
