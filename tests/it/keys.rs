//! Keys of tokens, from outside: several kinds at once, rotation while the server runs, files that cannot be used, and the
//! commands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::harness::{SECRET, command, run, until, words};
use crate::service::Service;

/// A configuration over plain HTTP, with the secret in the data directory, and more lines in `[auth]`.
fn plain(auth: &str) -> String {
    format!(
        "[server]\nlisten = \"127.0.0.1:PORT\"\n[tls]\nmode = \"off\"\n[storage]\ndata_dir = \"DATA\"\nmin_free = 0\n[auth]\n{auth}\n"
    )
}

fn in_file(auth: &str) -> String {
    plain(&format!("jwt_secret_file = \"DIR/secret\"\n{auth}"))
}

fn session(service: &Service, token: &str) -> u16 {
    service.call(token, "GET", "/api/v1/session", "").0
}

/// A command with the service's configuration: its status, and what it said.
fn says(service: &Service, args: &[&str]) -> (i32, String) {
    let config = service.path("academy-rt.toml");
    let args: Vec<&str> = ["--config", config.to_str().unwrap()].iter().chain(args).copied().collect();
    let output = run(&args, &[]);
    (output.status.code().unwrap(), words(&output))
}

fn json_of(service: &Service, args: &[&str]) -> Value {
    let config = service.path("academy-rt.toml");
    let args: Vec<&str> =
        ["--config", config.to_str().unwrap(), "--output", "json"].iter().chain(args).copied().collect();
    let output = run(&args, &[]);
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// `key new` in a directory; gives its answer.
fn new_key(dir: &Path, name: &str, alg: &str) -> Value {
    let path = dir.join(name);
    let output = run(&["--output", "json", "key", "new", path.to_str().unwrap(), "--alg", alg], &[]);
    assert!(output.status.success(), "{}", words(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A token that openssl has signed with a private key in PEM: another implementation than the one that checks it. An ECDSA
/// signature is turned from DER into the two numbers that JOSE has.
fn signed_by_openssl(key: &Path, alg: &str, kid: Option<&str>) -> String {
    let base64url = |bytes: &[u8]| openssl(&["base64", "-A"], bytes);
    let base64url = |bytes: &[u8]| {
        let text = String::from_utf8(base64url(bytes)).unwrap();
        text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let kid = kid.map(|kid| format!(",\"kid\":\"{kid}\"")).unwrap_or_default();
    let header = base64url(format!("{{\"alg\":\"{alg}\",\"typ\":\"JWT\"{kid}}}").as_bytes());
    let claims = format!("{{\"userId\":7,\"name\":\"Ann\",\"role\":\"learner\",\"iat\":{now},\"exp\":{}}}", now + 600);
    let message = format!("{header}.{}", base64url(claims.as_bytes()));
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), &message).unwrap();
    let (key, file) = (key.to_str().unwrap(), file.path().to_str().unwrap());
    let hash = format!("-sha{}", &alg[2..]);
    let signature = match &alg[..2] {
        "Ed" => openssl(&["pkeyutl", "-sign", "-rawin", "-inkey", key, "-in", file], b""),
        "PS" => {
            let pss = ["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:digest"];
            openssl(&[&["dgst", &hash, "-sign", key][..], &pss, &[file]].concat(), b"")
        }
        "ES" => of_der(&openssl(&["dgst", &hash, "-sign", key, file], b""), if alg == "ES256" { 32 } else { 48 }),
        _ => openssl(&["dgst", &hash, "-sign", key, file], b""),
    };
    format!("{message}.{}", base64url(&signature))
}

fn openssl(args: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child =
        Command::new("openssl").args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("openssl");
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "openssl {args:?}");
    output.stdout
}

/// SEQUENCE { INTEGER, INTEGER } as two numbers of a fixed length.
fn of_der(der: &[u8], length: usize) -> Vec<u8> {
    let mut rest = &der[2..];
    let mut both = Vec::new();
    for _ in 0..2 {
        let (number, after) = rest[2..].split_at(usize::from(rest[1]));
        let number: Vec<u8> = number.iter().copied().skip_while(|byte| *byte == 0).collect();
        both.extend(std::iter::repeat_n(0, length - number.len()));
        both.extend(number);
        rest = after;
    }
    both
}

#[test]
fn tokens_of_every_family_are_taken_as_another_implementation_signs_them() {
    let dir = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for (name, alg) in [("rsa.key", "RS256"), ("p256.key", "ES256"), ("p384.key", "ES384"), ("ed.key", "EdDSA")] {
        let made = new_key(dir.path(), name, alg);
        let public = made["publicKey"].as_str().unwrap();
        assert_eq!(made["config"], format!("public_keys = [\"{public}\"]"));
        lines.push(format!("\"{public}\""));
        let mode = |path: &str| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(made["file"].as_str().unwrap()), mode(public)), (0o600, 0o644));
    }
    let line = format!("public_keys = [{}]", lines.join(", "));
    let service = Service::start_in(dir, crate::harness::free_port(), &plain(&line), &[], None);
    for (key, alg) in [
        ("rsa", "RS256"),
        ("rsa", "RS384"),
        ("rsa", "RS512"),
        ("rsa", "PS256"),
        ("rsa", "PS384"),
        ("rsa", "PS512"),
        ("p256", "ES256"),
        ("p384", "ES384"),
        ("ed", "EdDSA"),
    ] {
        let path = service.path(&format!("{key}.key"));
        for kid in [None, Some(key)] {
            assert_eq!(session(&service, &signed_by_openssl(&path, alg, kid)), 200, "{alg} {kid:?}");
        }
        let wrong = if key == "p256" { "rsa" } else { "p256" };
        assert_eq!(session(&service, &signed_by_openssl(&path, alg, Some(wrong))), 401, "{alg} under {wrong}");
    }
    assert_eq!(session(&service, &service.token("7", "learner")), 200, "and the secret's, beside them");
    let list = json_of(&service, &["key", "list"]);
    let kinds: Vec<&str> = list["items"].as_array().unwrap().iter().map(|key| key["from"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["file", "pem", "pem", "pem", "pem"]);
    let status = json_of(&service, &["status"]);
    assert_eq!(status["keys"].as_array().unwrap().len(), 5, "{status}");
}

#[test]
#[ignore = "long"]
fn a_rotation_while_the_server_runs_takes_both_and_refuses_the_old_one_behind_its_time() {
    for lines in [plain(""), in_file("")] {
        let service = Service::start(&lines);
        let old = service.token("7", "learner");
        let rotated = json_of(&service, &["key", "rotate", "--grace", "6s"]);
        let new = service.token("7", "learner");
        let (_, said) = says(&service, &["token", "verify", &new]);
        assert!(said.contains("the token is valid"), "{said}");
        // The new one once the server has looked, the old one all the while.
        until("the new secret is taken", || session(&service, &new) == 200);
        assert_eq!(session(&service, &old), 200, "accepted until its time");
        service.wait_for("the keys for tokens have changed");
        until("the old secret ends", || session(&service, &old) == 401);
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        assert!(now >= u128::from(rotated["old"]["until"].as_u64().unwrap()), "and not before");
        assert_eq!(session(&service, &new), 200);
        // What the platform copies is in the file, as plain text, and no secret is in the answer or the log.
        let file = rotated["file"].as_str().unwrap();
        let secret = fs::read_to_string(file).unwrap();
        assert!(!rotated.to_string().contains(secret.trim()) && !service.log().contains(secret.trim()));
        let audit = json_of(&service, &["audit", "list"]);
        let records: Vec<_> =
            audit["items"].as_array().unwrap().iter().filter(|item| item["action"] == "keys").collect();
        let kid = rotated["kid"].as_str().unwrap();
        let is_told = |field: &str| records.iter().any(|record| record[field].as_str().unwrap().contains(kid));
        assert!(is_told("target"), "the command says who has rotated: {records:?}");
        assert!(is_told("outcome"), "the server says what it takes now: {records:?}");
    }
}

#[test]
fn a_rotation_before_a_reload_or_a_start_is_taken_by_it() {
    let service = Service::start(&plain(""));
    let old = service.token("7", "learner");
    json_of(&service, &["key", "rotate"]);
    let new = service.token("7", "learner");
    service.hang_up();
    assert_eq!((session(&service, &old), session(&service, &new)), (200, 200));
    let dir = service.end();
    let again = Service::start_in(dir, crate::harness::free_port(), &plain(""), &[], None);
    assert_eq!((session(&again, &old), session(&again, &new)), (200, 200));
}

#[test]
fn a_retired_key_is_refused_and_the_present_one_cannot_be_retired() {
    let service = Service::start(&plain(""));
    let old = service.token("7", "learner");
    let rotated = json_of(&service, &["key", "rotate"]);
    let (kid, old_kid) = (rotated["kid"].as_str().unwrap(), rotated["old"]["kid"].as_str().unwrap());
    let new = service.token("7", "learner");
    until("the new secret is taken", || session(&service, &new) == 200);
    assert_eq!(session(&service, &old), 200);
    let (code, said) = says(&service, &["key", "retire", kid]);
    assert!(code == 1 && said.contains("signed with") && said.contains("key rotate"), "{said}");
    let (code, said) = says(&service, &["key", "retire", "../jwt-secret"]);
    assert!(code == 1 && said.contains(old_kid), "{said}");
    let (code, said) = says(&service, &["key", "retire", old_kid]);
    assert!(code == 0 && said.contains("token revoke --all"), "{said}");
    until("the old secret ends", || session(&service, &old) == 401);
    assert_eq!(session(&service, &new), 200);
    assert_eq!(json_of(&service, &["key", "list"])["items"].as_array().unwrap().len(), 1);
}

#[test]
#[ignore = "long"]
fn a_key_file_that_cannot_be_used_keeps_the_old_keys_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    new_key(dir.path(), "idp.key", "ES256");
    let lines = in_file("public_keys = [\"DIR/idp.pub\"]\njwks_file = \"DIR/jwks.json\"");
    let x = "\"x\": \"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"";
    let jwks = format!("{{\"keys\": [{{\"kty\": \"OKP\", \"crv\": \"Ed25519\", \"kid\": \"rfc8037\", {x}}}]}}");
    fs::write(dir.path().join("jwks.json"), &jwks).unwrap();
    let service = Service::start_in(dir, crate::harness::free_port(), &lines, &[], None);
    let (by_key, by_secret) =
        (signed_by_openssl(&service.path("idp.key"), "ES256", None), service.token("7", "learner"));
    let both = |service: &Service| (session(service, &by_key), session(service, &by_secret));
    assert_eq!(both(&service), (200, 200));
    let private = fs::read_to_string(service.path("idp.key")).unwrap();
    for (file, bad, says_why) in [
        ("idp.pub", private.as_str(), "it contains a private key"),
        ("idp.pub", "", "it contains no PEM"),
        ("jwks.json", "{\"keys\": [", "it is not JSON"),
        ("secret", "short", "5 bytes"),
        ("data/jwt-keys.json", "{}", "it is not a key ring"),
    ] {
        let good = fs::read(service.path(file)).ok();
        fs::write(service.path(file), bad).unwrap();
        service.wait_for(says_why);
        until("the status says it", || {
            let (_, said) = says(&service, &["status"]);
            said.contains("REFUSED, the old keys stay in use") && said.contains(says_why)
        });
        let (code, said) = says(&service, &["doctor"]);
        assert!(code == 3 && said.contains(says_why), "{said}");
        assert_eq!(both(&service), (200, 200), "{file}");
        let said = service.hang_up();
        assert!(said.contains("not reloaded") && said.contains(says_why), "{said}");
        assert_eq!(both(&service), (200, 200), "{file}");
        match good {
            Some(good) => fs::write(service.path(file), good).unwrap(),
            None => fs::remove_file(service.path(file)).unwrap(),
        }
        until("the status says nothing any more", || {
            !says(&service, &["status"]).1.contains("REFUSED, the old keys stay in use")
        });
    }
    let secret_line = private.lines().nth(1).unwrap();
    assert!(!service.log().contains(secret_line), "a private key is never shown");
    // The issuer's next key, without anybody's doing.
    new_key(service.dir.path(), "next.key", "ES256");
    fs::rename(service.path("next.pub"), service.path("idp.pub")).unwrap();
    until("the key is another one", || session(&service, &by_key) == 401);
    assert_eq!(session(&service, &signed_by_openssl(&service.path("next.key"), "ES256", None)), 200);
}

#[test]
fn a_live_socket_stays_when_its_key_ends_and_a_new_one_is_refused() {
    let service = Service::start(&plain(""));
    let token = service.token("7", "learner");
    let handshake = service.plain("GET /ws/?EIO=4&transport=polling HTTP/1.1", "");
    let sid = handshake.split_once("\"sid\":\"").unwrap().1.split('"').next().unwrap().to_owned();
    let post = |sid: &str, body: &str| {
        service
            .plain(&format!("POST /ws/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nContent-Type: text/plain"), body)
    };
    let poll = |sid: &str| service.plain(&format!("GET /ws/?EIO=4&transport=polling&sid={sid} HTTP/1.1"), "");
    assert!(post(&sid, &format!("40{{\"token\":\"{token}\"}}")).contains("200"));
    until("the socket is in", || poll(&sid).contains("authenticated"));
    json_of(&service, &["key", "rotate", "--grace", "0s"]);
    until("the old secret has ended", || session(&service, &token) == 401);
    assert!(post(&sid, "420[\"chat:rooms\",{}]").contains("200"));
    let answer = poll(&sid);
    assert!(answer.contains("\"ok\":true"), "the live socket is served: {answer}");
}

#[test]
fn the_source_that_cannot_be_rotated_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("data")).unwrap();
    let data = dir.path().join("data");
    let rotate = ["key", "rotate", "--data-dir", data.to_str().unwrap()];
    let output = run(&rotate, &[("JWT_SECRET", SECRET)]);
    let said = words(&output);
    assert!(!output.status.success() && said.contains("environment JWT_SECRET") && said.contains("restart"), "{said}");
    assert!(!said.contains(SECRET) && fs::read_dir(&data).unwrap().count() == 0);
    let output = run(&rotate, &[]);
    assert!(words(&output).contains("Start the server once"), "{}", words(&output));
    let output = run(&["key", "rotate", "--data-dir", "/absent"], &[]);
    assert!(words(&output).contains("/absent") && !output.status.success(), "{}", words(&output));
    for bad in [&["key", "rotate", "--grace", "soon"][..], &["key", "new"], &["key", "new", "x", "--alg", "none"]] {
        assert_eq!(run(bad, &[]).status.code(), Some(2), "{bad:?}");
    }
}

#[test]
fn key_new_never_writes_over_anything() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let new = |name: &str, alg: &str| run(&["key", "new", &at(name), "--alg", alg], &[]);
    let output = new("secret", "HS256");
    let said = words(&output);
    let secret = fs::read_to_string(at("secret")).unwrap();
    assert!(output.status.success() && said.contains(&format!("jwt_secret_file = \"{}\"", at("secret"))), "{said}");
    assert!(secret.len() == 65 && !said.contains(secret.trim()), "{said}");
    let output = new("secret", "HS256");
    assert!(output.status.code() == Some(1) && words(&output).contains("does not exist yet"), "{}", words(&output));
    assert_eq!(fs::read_to_string(at("secret")).unwrap(), secret);
    // A public key that is there: then the private one is not left alone.
    fs::write(at("idp.pub"), "mine").unwrap();
    let output = new("idp.key", "EdDSA");
    assert!(!output.status.success() && !Path::new(&at("idp.key")).exists(), "{}", words(&output));
    assert_eq!(fs::read_to_string(at("idp.pub")).unwrap(), "mine");
    assert_eq!(new("idp.pub", "EdDSA").status.code(), Some(2));
    assert!(!new("absent/key", "HS256").status.success());
    let output = new("p384.key", "ES384");
    let private = fs::read_to_string(at("p384.key")).unwrap();
    assert!(!words(&output).contains(private.lines().nth(1).unwrap()), "{}", words(&output));
}

#[test]
fn a_token_names_the_key_of_the_ring_and_stock_implementations_verify_it() {
    let service = Service::start(&plain(""));
    let header = |token: &str| {
        let part = token.split('.').next().unwrap().replace('-', "+").replace('_', "/");
        String::from_utf8(openssl(
            &["base64", "-d", "-A"],
            format!("{part}{}", "=".repeat((4 - part.len() % 4) % 4)).as_bytes(),
        ))
        .unwrap()
    };
    assert!(!header(&service.token("7", "learner")).contains("kid"), "without a ring nothing is another than before");
    let rotated = json_of(&service, &["key", "rotate"]);
    let token = service.token("7", "learner");
    assert!(header(&token).contains(&format!("\"kid\":\"{}\"", rotated["kid"].as_str().unwrap())));
    let (message, signature) = token.rsplit_once('.').unwrap();
    let secret = fs::read_to_string(rotated["file"].as_str().unwrap()).unwrap();
    let mac = openssl(&["dgst", "-sha256", "-hmac", secret.trim(), "-binary"], message.as_bytes());
    let mac = String::from_utf8(openssl(&["base64", "-A"], &mac)).unwrap();
    assert_eq!(mac.trim().trim_end_matches('=').replace('+', "-").replace('/', "_"), signature);
}

#[test]
fn key_list_shows_what_there_is_and_no_secret() {
    let service = Service::start(&plain(""));
    let rotated = json_of(&service, &["key", "rotate", "--grace", "2h"]);
    let (code, said) = says(&service, &["key", "list"]);
    let ring = fs::read_to_string(service.path("data/jwt-keys.json")).unwrap();
    let ring: Value = serde_json::from_str(&ring).unwrap();
    assert!(code == 0 && said.contains("signs") && said.contains("accepted") && said.contains(" UTC"), "{said}");
    for key in ring["keys"].as_array().unwrap() {
        assert!(
            said.contains(key["kid"].as_str().unwrap()) && !said.contains(key["secret"].as_str().unwrap()),
            "{said}"
        );
    }
    let (_, doctor) = says(&service, &["doctor"]);
    let warned = format!("'{}' of", rotated["old"]["kid"].as_str().unwrap());
    assert!(doctor.contains("2 keys verify tokens") && doctor.contains(&warned), "{doctor}");
    // The bundle has neither of them.
    let bundle = service.path("bundle.json");
    says(&service, &["doctor", "--bundle", bundle.to_str().unwrap()]);
    let bundle = fs::read_to_string(bundle).unwrap();
    for key in ring["keys"].as_array().unwrap() {
        assert!(!bundle.contains(key["secret"].as_str().unwrap()));
    }
    // A file of the ring that others can read is told of.
    fs::set_permissions(service.path("data/jwt-keys.json"), fs::Permissions::from_mode(0o644)).unwrap();
    let (code, doctor) = says(&service, &["doctor"]);
    assert!(code == 3 && doctor.contains("jwt-keys.json has mode 0644"), "{doctor}");
}

#[test]
fn a_server_that_cannot_read_a_key_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    new_key(dir.path(), "idp.key", "RS256");
    for (key, value, why) in [
        ("ACADEMY_RT_AUTH_PUBLIC_KEYS", at("absent.pem"), "absent.pem cannot be read"),
        ("ACADEMY_RT_AUTH_PUBLIC_KEYS", format!("{},{}", at("idp.pub"), at("idp.key")), "it contains a private key"),
        ("ACADEMY_RT_AUTH_JWKS_FILE", at("idp.pub"), "it is not JSON"),
    ] {
        let serve = ["serve", "--no-tls", "--listen", "127.0.0.1:0", "--data-dir", &at("data")];
        let output = command(&serve, &[("JWT_SECRET", SECRET), (key, &value)]).stdin(Stdio::null()).output().unwrap();
        let said = words(&output);
        assert!(output.status.code() == Some(1) && said.contains(why) && said.contains("  do:  "), "{said}");
        let check = run(
            &["config", "check"],
            &[("JWT_SECRET", SECRET), (key, &value), ("ACADEMY_RT_STORAGE_DATA_DIR", &at("data"))],
        );
        assert!(!check.status.success() && words(&check).contains(why), "{}", words(&check));
    }
}

/// What exporters write that take a number for a signed one, or base64url for base64: each is taken, or named.
#[test]
fn an_exporters_way_of_writing_numbers_is_understood_or_named() {
    let dir = tempfile::tempdir().unwrap();
    new_key(dir.path(), "rsa.key", "RS256");
    new_key(dir.path(), "p256.key", "ES256");
    let path = |name: &str| dir.path().join(name);
    let base64url = |bytes: &[u8]| {
        let text = String::from_utf8(openssl(&["base64", "-A"], bytes)).unwrap();
        text.trim().trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let modulus = openssl(&["rsa", "-in", path("rsa.key").to_str().unwrap(), "-noout", "-modulus"], b"");
    let modulus = String::from_utf8(modulus).unwrap().trim().trim_start_matches("Modulus=").to_owned();
    let modulus: Vec<u8> =
        (0..modulus.len()).step_by(2).map(|at| u8::from_str_radix(&modulus[at..at + 2], 16).unwrap()).collect();
    let signed = |bytes: &[u8]| base64url(&[&[0, 0], bytes].concat());
    let padded = |bytes: &[u8]| format!("{}==", base64url(bytes));
    let rsa = |n: &str, e: &str| format!("{{\"kty\":\"RSA\",\"kid\":\"one\",\"n\":\"{n}\",\"e\":\"{e}\"}}");
    let (n, e) = (base64url(&modulus), "AQAB");
    let der = openssl(&["pkey", "-in", path("p256.key").to_str().unwrap(), "-pubout", "-outform", "DER"], b"");
    let (x, y) = der[der.len() - 64..].split_at(32);
    let ec =
        |x: &str, y: &str| format!("{{\"kty\":\"EC\",\"crv\":\"P-256\",\"kid\":\"one\",\"x\":\"{x}\",\"y\":\"{y}\"}}");
    let jwks = |key: &str| format!("{{\"keys\":[{key}]}}");
    let taken = [
        ("as the RFC has it", rsa(&n, e), "rsa.key", "RS256"),
        ("n with zeros", rsa(&signed(&modulus), e), "rsa.key", "RS256"),
        ("e with zeros", rsa(&n, &signed(&[1, 0, 1])), "rsa.key", "PS384"),
        ("padding", rsa(&padded(&modulus), "AQAB=="), "rsa.key", "RS256"),
        ("EC", ec(&base64url(x), &base64url(y)), "p256.key", "ES256"),
        ("EC with padding", ec(&padded(x), &padded(y)), "p256.key", "ES256"),
    ];
    fs::write(path("jwks.json"), jwks(&taken[0].1)).unwrap();
    let lines = in_file("jwks_file = \"DIR/jwks.json\"");
    let service = Service::start_in(dir, crate::harness::free_port(), &lines, &[], None);
    for (what, key, signer, alg) in taken {
        fs::write(service.path("jwks.json"), jwks(&key)).unwrap();
        service.hang_up();
        let token = signed_by_openssl(&service.path(signer), alg, Some("one"));
        assert_eq!(session(&service, &token), 200, "{what}");
    }
    let long = [&[0], x].concat();
    for (key, says) in [
        (ec(&base64url(&x[1..]), &base64url(y)), "its x has 31 bytes, and P-256 has 32"),
        (ec(&base64url(&long), &base64url(&y[1..])), "its x has 33 bytes, and P-256 has 32"),
        (ec(&base64url(x), &base64url(&y[..30])), "its y has 30 bytes"),
        (rsa(&n.replace(['-', '_'], "/"), e), "its n is in base64; it must be in base64url"),
        (rsa(&n, "AQ AB"), "its e is not in base64url"),
        (rsa(&n, "AAAA"), "it is no RSA key"),
    ] {
        fs::write(service.path("jwks.json"), jwks(&key)).unwrap();
        let (code, said) = says_of(&service);
        assert!(code != 0 && said.contains(says), "{says}: {said}");
    }
}

fn says_of(service: &Service) -> (i32, String) {
    says(service, &["config", "check"])
}
