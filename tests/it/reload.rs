//! A reload: what it takes without a restart, what it leaves alone, and what it refuses.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use academy_rt::observability::certificate::CertificateFacts;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;

use crate::harness::until;
use crate::service::{Identity, Service, ask, parse};

/// A configuration over plain HTTP, with more lines in some sections.
fn plain(more: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:PORT\"\n{}[tls]\nmode = \"off\"\n[auth]\njwt_secret_file = \"DIR/secret\"\n\
         [storage]\ndata_dir = \"DATA\"\nmin_free = 0\n{}",
        more.split_once("--\n").map_or("", |(server, _)| server),
        more.split_once("--\n").map_or(more, |(_, rest)| rest),
    )
}

/// A configuration over TLS.
fn secured(tls: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\n{tls}\n[auth]\njwt_secret_file = \"DIR/secret\"\n[storage]\n\
         data_dir = \"DATA\"\nmin_free = 0\n"
    )
}

const FILES: &str = "mode = \"files\"\ncert = \"DIR/c.pem\"\nkey = \"DIR/k.pem\"";

/// Writes a pair for a name, good between two years.
fn put_pair(dir: &std::path::Path, name: &str, years: (i32, i32)) {
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    fs::write(dir.join("k.pem"), pair.serialize_pem()).unwrap();
    fs::write(dir.join("c.pem"), params.self_signed(&pair).unwrap().pem()).unwrap();
}

fn name_seen(service: &Service) -> String {
    CertificateFacts::read(&service.certificate()).unwrap().names[0].clone()
}

fn post(service: &Service, token: &str) -> u16 {
    service.call(token, "POST", "/api/v1/rooms/general/messages", "{\"content\":\"x\"}").0
}

/// The kernel says who has sent the signal: this test.
#[test]
fn a_reload_says_who_asked_for_it() {
    let service = Service::start(&plain("[limits]\nmessage_chars = 10\n"));
    let admin = service.token("root", "admin");
    let asker = format!("process {})", std::process::id());
    let said = service.reload(&plain("[limits]\nmessage_chars = 11\n"));
    assert!(said.contains("asked for by local user ") && said.contains(&asker), "{said}");
    let (_, page) = service.call(&admin, "GET", "/api/v1/admin/audit", "");
    let records = page["items"].as_array().unwrap();
    let reload = records.iter().find(|one| one["action"] == "config.reload").unwrap();
    let origin = reload["origin"].as_str().unwrap();
    assert!(origin.starts_with("local user ") && origin.ends_with(&asker), "{origin}");
    let said = service.reload(&plain("[limits]\nmessage_chars = 0\n"));
    assert!(said.contains("not reloaded") && said.contains(&asker), "{said}");
}

#[test]
fn limits_are_taken_without_a_restart() {
    let service = Service::start(&plain("[limits]\nmessages_per_second = 0\n"));
    let token = service.token("7", "learner");
    assert!((0..40).all(|_| post(&service, &token) == 200));
    let said = service.reload(&plain("[limits]\nmessages_per_second = 1\nmessage_burst = 2\nmessage_chars = 3\n"));
    assert!(said.contains("in force"), "{said}");
    let statuses: Vec<u16> = (0..5).map(|_| post(&service, &token)).collect();
    assert_eq!(statuses[..2], [200, 200]);
    assert!(statuses.contains(&429), "{statuses:?}");
    let other = service.token("8", "learner");
    let (status, answer) = service.call(&other, "POST", "/api/v1/rooms/general/messages", "{\"content\":\"four\"}");
    assert_eq!(status, 413, "{answer}");
}

#[test]
fn origins_and_the_flag_are_taken_without_a_restart() {
    let service = Service::start(&plain(""));
    let preflight =
        "OPTIONS /api/v1/session HTTP/1.1\r\nOrigin: https://portal.example.ca\r\nAccess-Control-Request-Method: GET";
    assert!(service.plain(preflight, "").contains(" 403 "));
    let handshake = "GET /ws/?EIO=4&transport=polling HTTP/1.1";
    assert!(service.plain(handshake, "").contains(" 200 "));
    service.reload(&plain("cors_origins = [\"https://portal.example.ca\"]\nwebsocket_enabled = false\n--\n"));
    let answer = service.plain(preflight, "");
    assert!(answer.contains(" 204 ") && answer.contains("access-control-allow-origin: https://portal"), "{answer}");
    let answer = service.plain(handshake, "");
    assert!(answer.contains(" 503 ") && answer.contains("realtime_disabled"), "{answer}");
    service.reload(&plain(""));
    assert!(service.plain(handshake, "").contains(" 200 "));
    assert!(service.plain(preflight, "").contains(" 403 "));
}

#[test]
fn another_secret_is_taken_and_the_old_one_is_not() {
    let service = Service::start(&plain(""));
    let old = service.token("7", "learner");
    assert_eq!(service.call(&old, "GET", "/api/v1/session", "").0, 200);
    fs::write(service.path("secret"), "another secret of the test suite, long enough").unwrap();
    service.hang_up();
    assert_eq!(service.call(&old, "GET", "/api/v1/session", "").0, 401);
    let new = service.token("7", "learner");
    assert_eq!(service.call(&new, "GET", "/api/v1/session", "").0, 200);
    fs::write(service.path("secret"), "short").unwrap();
    let said = service.hang_up();
    assert!(said.contains("not reloaded") && said.contains("32"), "{said}");
    assert_eq!(service.call(&new, "GET", "/api/v1/session", "").0, 200, "the old one stays in force");
}

#[test]
fn a_bad_file_keeps_the_old_configuration_and_says_so() {
    let service = Service::start(&plain("[limits]\nmessage_chars = 3\n"));
    let token = service.token("7", "learner");
    let too_long =
        |service: &Service| service.call(&token, "POST", "/api/v1/rooms/general/messages", "{\"content\":\"four\"}").0;
    assert_eq!(too_long(&service), 413);
    for (bad, says) in [
        (plain("[limits]\nmesage_chars = 9\n"), "did you mean 'limits.message_chars'"),
        (
            plain("[limits]\nmessage_chars = \"many\"\n"),
            "academy-rt.toml:11: limits.message_chars must be a whole number",
        ),
        (plain("[limits\n"), "academy-rt.toml:10"),
        (plain("[limits]\nmessage_chars = 9\n").replace("DIR/secret", "DIR/absent"), "absent"),
        (secured("mode = \"files\"\ncert = \"DIR/absent.pem\"\nkey = \"DIR/k.pem\""), "absent.pem cannot be read"),
    ] {
        let said = service.reload(&bad);
        assert!(said.contains("not reloaded") && said.contains(says), "{says}: {said}");
        assert_eq!(too_long(&service), 413, "the old one stays in force: {says}");
    }
    fs::remove_file(service.path("academy-rt.toml")).unwrap();
    assert!(service.hang_up().contains("cannot be read"));
    let said = service.reload(&plain("[limits]\nmessage_chars = 9\n"));
    assert!(said.contains("in force"), "{said}");
    assert_eq!(too_long(&service), 200);
}

#[test]
fn what_waits_for_a_restart_is_named() {
    let service = Service::start(&plain(""));
    let said = service.reload(&plain("path = \"/rt\"\n--\n[limits]\npayload = \"2MB\"\nmessage_chars = 5\n"));
    assert!(said.contains("server.path, limits.payload") && !said.contains("message_chars"), "{said}");
    assert!(service.plain("GET /ws/?EIO=4&transport=polling HTTP/1.1", "").contains(" 200 "));
    let said = service.reload(&secured("mode = \"self-signed\""));
    assert!(said.contains("tls.mode"), "{said}");
    assert!(service.plain("GET /readyz HTTP/1.1", "").contains(" 200 "), "it still speaks plain HTTP");
}

#[test]
fn the_level_of_the_log_is_taken_without_a_restart() {
    let service = Service::start(&plain(""));
    // What is no HTTP is worth a line at debug alone.
    let knock = || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", service.port)).unwrap();
        std::io::Write::write_all(&mut stream, b"nonsense\r\n\r\n").unwrap();
        drop(std::io::Read::read_to_end(&mut stream, &mut Vec::new()));
    };
    knock();
    assert!(!service.log().contains("\"level\":\"DEBUG\""));
    service.reload(&plain("[log]\nlevel = \"trace\"\n"));
    until("a debug line", || {
        knock();
        service.log().contains("\"level\":\"DEBUG\"")
    });
    service.reload(&plain("[log]\nformat = \"text\"\n"));
    service.hang_up();
    let last = service.log().lines().last().unwrap().to_owned();
    assert!(!last.starts_with('{') && last.contains("reloaded"), "{last}");
}

#[test]
fn a_changed_certificate_is_taken_and_live_connections_are_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    put_pair(dir.path(), "one.example.ca", (2026, 2036));
    let service = Service::start_in(dir, crate::harness::free_port(), &secured(FILES), &[], None);
    assert_eq!(name_seen(&service), "one.example.ca");
    let mut live = service.tls(None);
    assert!(ask(&mut live, "GET /readyz HTTP/1.1", "").contains(" 200 "));
    // Without anybody's doing: the files are looked at.
    put_pair(service.dir.path(), "two.example.ca", (2026, 2036));
    until("the new certificate", || name_seen(&service) == "two.example.ca");
    assert!(ask(&mut live, "GET /readyz HTTP/1.1", "").contains(" 200 "), "the live connection goes on");
    // A key that does not fit, and a certificate that is over, are not taken.
    let good = fs::read(service.path("k.pem")).unwrap();
    fs::write(service.path("k.pem"), KeyPair::generate().unwrap().serialize_pem()).unwrap();
    service.wait_for("the key does not belong to the certificate");
    assert_eq!(name_seen(&service), "two.example.ca");
    let said = service.hang_up();
    assert!(said.contains("not reloaded") && said.contains("does not belong to the certificate"), "{said}");
    fs::write(service.path("k.pem"), good).unwrap();
    service.hang_up();
    put_pair(service.dir.path(), "three.example.ca", (2020, 2021));
    service.wait_for("it expired on 2021-01-01");
    assert_eq!(name_seen(&service), "two.example.ca");
    put_pair(service.dir.path(), "four.example.ca", (2026, 2036));
    until("the next good one", || name_seen(&service) == "four.example.ca");
    assert!(ask(&mut live, "GET /readyz HTTP/1.1", "").contains(" 200 "));
    // One's own certificate for the self-signed one, and back.
    let said = service.reload(&secured("mode = \"self-signed\""));
    assert!(said.contains("in force"), "{said}");
    assert!(CertificateFacts::read(&service.certificate()).unwrap().is_for("localhost"));
}

#[test]
fn the_profile_of_the_canadian_guidance_refuses_what_it_does_not_recommend() {
    let only = |suite: rustls::CipherSuite| {
        let mut provider = aws_lc_rs::default_provider();
        provider.cipher_suites.retain(|known| known.suite() == suite);
        provider
    };
    let chacha = rustls::CipherSuite::TLS13_CHACHA20_POLY1305_SHA256;
    let aes = rustls::CipherSuite::TLS13_AES_128_GCM_SHA256;
    let mut x25519 = aws_lc_rs::default_provider();
    x25519.kx_groups = vec![aws_lc_rs::kx_group::X25519];
    let service = Service::start(&secured("mode = \"self-signed\""));
    assert!(service.tls_with(only(chacha), None).is_ok() && service.tls_with(x25519.clone(), None).is_ok());
    service.reload(&secured("mode = \"self-signed\"\nprofile = \"itsp.40.062\""));
    assert!(service.tls_with(only(chacha), None).is_err() && service.tls_with(x25519, None).is_err());
    assert!(service.tls_with(only(aes), None).is_ok());
    let tls12 = only(rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
    assert!(service.tls_with(tls12.clone(), None).is_ok());
    service.reload(&secured("mode = \"self-signed\"\nmin_version = \"1.3\""));
    assert!(service.tls_with(tls12, None).is_err());
}

#[test]
fn the_administrators_api_asks_for_a_client_certificate_where_one_is_configured() {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = |params: &CertificateParams| {
        CertifiedIssuer::self_signed(params.clone(), KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, other) = (authority(&params), authority(&params));
    let identity = |issuer: &CertifiedIssuer<'_, KeyPair>| -> Identity {
        let pair = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec!["admin".to_owned()]).unwrap().signed_by(&pair, issuer).unwrap();
        (vec![leaf.der().clone()], PrivateKeyDer::try_from(pair.serialize_der()).unwrap())
    };
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.pem"), ours.as_ref().pem()).unwrap();
    let lines = secured("mode = \"self-signed\"\nclient_ca = \"DIR/ca.pem\"");
    let service = Service::start_in(dir, crate::harness::free_port(), &lines, &[], None);
    let token = service.token("1", "admin");
    let get = |identity: Option<Identity>, path: &str| {
        let head = format!("GET {path} HTTP/1.1\r\nAuthorization: Bearer {token}");
        parse(&ask(&mut service.tls(identity), &head, ""))
    };
    let (status, answer) = get(None, "/api/v1/admin/status");
    assert!(status == 403 && answer["error"]["message"].as_str().unwrap().contains("tls.client_ca"), "{answer}");
    assert_eq!(get(Some(identity(&ours)), "/api/v1/admin/status").0, 200);
    assert_eq!(get(None, "/api/v1/session").0, 200, "learners need none");
    assert_eq!(get(None, "/readyz").0, 200);
    for spelled in ["/api/v1/%61dmin/status", "//api/v1/admin/status", "/api/v1/Admin/status", "/./api/v1/admin/status"]
    {
        assert_eq!(get(None, spelled).0, 404, "{spelled}");
    }
    // The command line shows one, too.
    let pair = KeyPair::generate().unwrap();
    let leaf = CertificateParams::new(vec!["admin".to_owned()]).unwrap().signed_by(&pair, &ours).unwrap();
    fs::write(service.path("admin.pem"), leaf.pem()).unwrap();
    fs::write(service.path("admin.key"), pair.serialize_pem()).unwrap();
    let url = format!("https://127.0.0.1:{}", service.port);
    let text = |name: &str| service.path(name).to_str().unwrap().to_owned();
    let (cacert, cert, key) = (text("data/tls/cert.pem"), text("admin.pem"), text("admin.key"));
    let status = |more: &[&str]| {
        let args: Vec<&str> = ["status", "--url", &url, "--cacert", &cacert].iter().chain(more).copied().collect();
        let output = crate::harness::run(&args, &[("ACADEMY_RT_TOKEN", &token)]);
        (output.status.code().unwrap(), crate::harness::words(&output))
    };
    assert_eq!(status(&["--client-cert", &cert, "--client-key", &key]).0, 0);
    let (code, said) = status(&[]);
    assert!(code == 1 && said.contains("tls.client_ca"), "{said}");
    let (code, said) = status(&["--client-cert", &key, "--client-key", &key]);
    assert!(code == 1 && said.contains("client certificate"), "{said}");
    assert_eq!(status(&["--client-cert", &cert]).0, 2);
    // A certificate of somebody else is refused by TLS itself.
    let mut stranger = service.tls(Some(identity(&other)));
    let head = "GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let refused = std::io::Write::write_all(&mut stranger, head.as_bytes())
        .and_then(|()| std::io::Read::read(&mut stranger, &mut [0; 1]));
    assert!(refused.is_err(), "{refused:?}");
}

#[test]
fn a_certificate_that_ends_soon_is_warned_of() {
    let dir = tempfile::tempdir().unwrap();
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(5 * 86_400 + 3_600);
    let pair = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["rt.example.ca".to_owned()]).unwrap();
    params.not_after = soon.into();
    fs::write(dir.path().join("k.pem"), pair.serialize_pem()).unwrap();
    fs::set_permissions(dir.path().join("k.pem"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(dir.path().join("c.pem"), params.self_signed(&pair).unwrap().pem()).unwrap();
    let service = Service::start_in(dir, crate::harness::free_port(), &secured(FILES), &[], None);
    service.wait_for("the TLS certificate expires");
    let log = service.log();
    let line = log.lines().find(|line| line.contains("the TLS certificate expires")).unwrap();
    assert!(line.contains("\"level\":\"ERROR\"") && line.contains("\"days_left\":5"), "{line}");
}

/// A pipe gives its text once: at a reload an empty configuration would be read, with all the defaults.
#[test]
fn a_configuration_from_a_pipe_is_not_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let script = r#"printf '[chat]\nopen_rooms = false\n[tls]\nmode = "off"\n[server]\nlisten = "127.0.0.1:0"\n[storage]\nmin_free = 0\n' |
        exec "$0" --config /dev/stdin serve 2>"$1/log" >/dev/null"#;
    let mut shell = std::process::Command::new("sh");
    let shell = shell.args(["-c", script, env!("CARGO_BIN_EXE_academy-rt")]).arg(dir.path()).current_dir(dir.path());
    let mut shell = std::os::unix::process::CommandExt::process_group(shell, 0).spawn().unwrap();
    let has = |words: &str| std::fs::read_to_string(&log).unwrap_or_default().contains(words);
    crate::harness::until("the server starts", || has("\"started\""));
    let group = rustix::process::Pid::from_child(&shell);
    rustix::process::kill_process_group(group, rustix::process::Signal::HUP).unwrap();
    crate::harness::until("the reload is refused", || has("not reloaded") && has("not a regular file"));
    rustix::process::kill_process_group(group, rustix::process::Signal::TERM).unwrap();
    shell.wait().unwrap();
}

/// One typo in the file: whoever looks after the server can still ask it, and still block whom they must.
#[test]
fn a_bad_configuration_file_disarms_nobody() {
    let service = Service::start(&plain(""));
    let config = service.path("academy-rt.toml");
    let good = std::fs::read_to_string(&config).unwrap();
    let backup = service.path("b.backup");
    let commands: [&[&str]; 5] = [
        &["status"],
        &["user", "block", "66", "--reason", "spam"],
        &["token", "revoke", "--user", "66"],
        &["backup", backup.to_str().unwrap()],
        &["doctor"],
    ];
    for typo in
        ["[limits\n", "[limits]\npayload = lots\n", "[limits]\npayloat = 1\n", "[limits]\npayload = \"lots\"\n", "x"]
    {
        std::fs::write(&config, format!("{good}{typo}")).unwrap();
        drop(std::fs::remove_file(&backup));
        for command in commands {
            let args: Vec<&str> = ["--config", config.to_str().unwrap()].iter().chain(command).copied().collect();
            let output = crate::harness::run(&args, &[]);
            let words = crate::harness::words(&output);
            let is_doctor = command == ["doctor"];
            assert_eq!(output.status.code(), Some(if is_doctor { 3 } else { 0 }), "{typo:?} {command:?}: {words}");
            assert!(words.contains("academy-rt.toml:"), "{typo:?} {command:?}: {words}");
            assert!(
                !is_doctor
                    || (words.contains("is running") && !words.contains("Start the server") && !words.contains("Stop")),
                "{words}"
            );
        }
    }
    let dir = service.end();
    // Without a server that runs it is the configuration that is told.
    let output =
        crate::harness::run(&["--config", dir.path().join("academy-rt.toml").to_str().unwrap(), "user", "list"], &[]);
    let words = crate::harness::words(&output);
    assert!(output.status.code() == Some(1) && words.contains("the configuration is wrong"), "{words}");
}
