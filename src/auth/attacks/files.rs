//! Files of keys: what is read of them, and what is refused with which words.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::auth::keys::{MAX_KEYS, MAX_KID_BYTES, MAX_TRIED};

#[test]
fn the_key_of_a_certificate_and_pkcs1_are_read() {
    let mut place = Place::new();
    let certificate = rcgen::CertificateParams::new(vec!["idp".to_owned()]).unwrap().self_signed(&P384.pair).unwrap();
    let chain = format!("{}{}", certificate.pem(), certificate.pem());
    place.config.auth.public_keys = vec![place.put("idp.crt", &chain)];
    assert!(place.verify(&P384.sign(Some("idp"))).is_ok());
    let pkcs1 = pem("RSA PUBLIC KEY", RSA.pair.public_key_raw());
    place.config.auth.public_keys = vec![place.put("rsa.pem", &pkcs1)];
    assert!(place.verify(&RSA.sign(None)).is_ok());
}

#[test]
fn a_jwks_is_taken_as_far_as_it_is_understood() {
    let keys = [
        RSA.jwk(json!({"kid": "enc", "use": "enc"})),
        RSA.jwk(json!({"kid": "wrap", "key_ops": ["wrapKey"]})),
        P256.jwk(json!({"kid": "ops", "key_ops": ["verify"]})),
        json!({"kty": "AKP", "kid": "new", "alg": "ML-DSA-44", "pub": "AAAA"}),
        json!({"kty": "oct", "kid": "oct", "k": base64url(&[7; 64])}),
        P384.jwk(json!({"kid": "wrong", "alg": "ES256"})),
        P384.jwk(json!({"kid": "unknown", "alg": "ES512"})),
        json!({"kty": "EC", "kid": "p521", "crv": "P-521", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "EC", "kid": "short", "crv": "P-256", "x": "AAAA", "y": "AAAA"}),
        json!({"kty": "EC", "kid": "nowhere", "crv": "P-256", "x": base64url(&[1; 32]), "y": base64url(&[1; 32])}),
        json!({"kty": "RSA", "kid": "small", "n": base64url(&[0xc1; 128]), "e": "AQAB"}),
        json!({"kty": "RSA", "kid": "half"}),
        RSA.jwk(json!({"kid": "one", "e": "AQ"})),
        P256.jwk(json!({"kid": "x".repeat(MAX_KID_BYTES + 1)})),
        json!({"kid": "nothing"}),
        json!("text"),
    ];
    let place = Place::new().with_jwks(&keys);
    let loaded = place.load().unwrap();
    let names: Vec<&str> = loaded.keys.iter().flat_map(|key| &key.kids).map(String::as_str).collect();
    assert_eq!(names, ["ops"]);
    let warnings = loaded.warnings.join("\n");
    for says in [
        "key 4 ('new') is ignored: its kty 'AKP' is not supported",
        "key 5 ('oct') is ignored: a file of public keys must not contain a shared secret",
        "('wrong') is ignored: its alg ES256 is not one of its kind",
        "('unknown') is ignored: its alg is not one",
        "('p521') is ignored",
        "('short') is ignored: its x has 3 bytes, and P-256 has 32",
        "('nowhere') is ignored: its point is not on its curve",
        "('small') is ignored: it is an RSA key of 1024 bits; 2048 are the least",
        "('one') is ignored: it is no RSA key",
        "('half') is ignored: a member is missing",
        "its kid is not a string of at most 256 bytes",
        "it has no kty",
    ] {
        assert!(warnings.contains(says), "{says}: {warnings}");
    }
    assert!(!warnings.contains("'enc'") && !warnings.contains("'wrap'"), "{warnings}");
    // Its `oct` key is not taken for a secret.
    assert!(place.verify(&forged(&json!({"alg": "HS256", "kid": "oct"}), &[7; 64])).is_err());
}

#[test]
fn a_jwks_with_a_private_key_or_without_any_key_is_refused() {
    let private = P256.jwk(json!({"kid": "mine", "d": base64url(&[9; 32])}));
    let error = Place::new().with_jwks(&[private]).load().unwrap_err();
    assert!(error.problem.why.contains("key 1 ('mine') contains a private key"), "{error:?}");
    assert!(!format!("{error:?}").contains(&base64url(&[9; 32])));
    for (text, says) in [
        ("", "it is not JSON"),
        ("{}", "it has no list of keys"),
        ("[]", "it has no list of keys"),
        ("{\"keys\": []}", "it contains no key for signatures"),
        ("{\"keys\": [{\"kty\": \"AKP\"}]}", "its kty 'AKP' is not supported"),
    ] {
        let mut place = Place::new();
        place.config.auth.jwks_file = Some(place.put("jwks.json", text));
        let error = place.load().unwrap_err();
        assert!(error.problem.why.contains(says) && error.problem.what.contains("jwks.json"), "{error:?}");
    }
    let new = || Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256);
    let many: Vec<Value> = (0..=MAX_TRIED).map(|_| new().jwk(json!({}))).collect();
    let warned = format!("there are more than {MAX_TRIED} public keys without a kid for ES256");
    assert!(Place::new().with_jwks(&many).load().unwrap().warnings[0].contains(&warned));
    let named: Vec<Value> = (0..=MAX_TRIED).map(|n| new().jwk(json!({"kid": n.to_string()}))).collect();
    assert!(Place::new().with_jwks(&named).load().unwrap().warnings.is_empty(), "its tokens name them");
    let too_many: Vec<Value> = (0..=MAX_KEYS).map(|n| P256.jwk(json!({"kid": n.to_string()}))).collect();
    assert!(Place::new().with_jwks(&too_many).load().unwrap_err().problem.why.contains("32 are the most"));
}

#[test]
fn a_file_that_is_no_public_key_says_what_to_do() {
    let private = RSA.pair.serialize_pem();
    let two = format!("{}{}", P256.public_pem(), P384.public_pem());
    for (text, says, does) in [
        (private.as_str(), "it contains a private key", "openssl pkey -in FILE -pubout"),
        (&format!("{}{private}", RSA.public_pem()), "it contains a private key", "only where tokens are signed"),
        (&pem("EC PRIVATE KEY", &[0x30, 0]), "it contains a private key", "-pubout"),
        (&pem("ENCRYPTED PRIVATE KEY", &[0x30, 0]), "it contains a private key", "-pubout"),
        (&pem("OPENSSH PRIVATE KEY", &[0x30, 0]), "it contains a private key", "-pubout"),
        ("", "it contains no PEM", "BEGIN PUBLIC KEY"),
        ("ssh-ed25519 AAAA me", "it contains no PEM", "BEGIN PUBLIC KEY"),
        ("-----BEGIN PUBLIC KEY-----\n!!!\n-----END PUBLIC KEY-----\n", "it is not PEM", "BEGIN PUBLIC KEY"),
        (&pem("PUBLIC KEY", &[0x30, 0]), "its PUBLIC KEY is malformed", "BEGIN PUBLIC KEY"),
        (&pem("CERTIFICATE", &[0x30, 0]), "its CERTIFICATE is malformed", "BEGIN PUBLIC KEY"),
        (&pem("X509 CRL", &[0x30, 0]), "it contains PEM of another type", "BEGIN PUBLIC KEY"),
        (&pem("RSA PUBLIC KEY", &[0x30, 0]), "its RSA PUBLIC KEY is malformed", "BEGIN PUBLIC KEY"),
        (&pem("RSA PUBLIC KEY", &pkcs1(128)), "an RSA key of 1024 bits; 2048 are the least", "academy-rt key new"),
        (&pem("RSA PUBLIC KEY", &pkcs1(2_048)), "an RSA key of 16384 bits; 8192 are the most", "3072"),
        (&two, "it contains several keys", "a file of its own"),
    ] {
        let mut place = Place::new();
        place.config.auth.public_keys = vec![place.put("key.pem", text)];
        let error = place.load().expect_err(says);
        assert!(error.problem.why.contains(says) && error.problem.remedy.contains(does), "{says}: {error:?}");
        assert!(error.problem.what.contains("key.pem"), "{error:?}");
        let secret_line = private.lines().nth(3).unwrap();
        assert!(!format!("{error:?}").contains(secret_line), "a private key is never shown");
    }
    let mut place = Place::new();
    place.config.auth.public_keys = vec![PathBuf::from("/absent.pem")];
    assert!(place.load().unwrap_err().problem.what.contains("/absent.pem cannot be read"));
}

#[test]
fn attack_a_key_file_that_everybody_can_write_to() {
    let place = with_ring(of_all(), None).with_jwks(&[P256.jwk(json!({}))]);
    for name in ["jwt-secret", "rsa.pem", "jwks.json", "jwt-keys.json"] {
        let path = place.dir.path().join(name);
        let mode = fs::metadata(&path).unwrap().permissions();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
        let error = place.load().unwrap_err();
        assert!(
            error.problem.why.contains("all users of this machine can change") && error.problem.why.contains(name),
            "{error:?}"
        );
        fs::set_permissions(&path, mode).unwrap();
        place.load().unwrap();
    }
}

#[test]
fn a_ring_that_is_none_is_refused_without_its_secrets() {
    for (text, says) in [
        (format!("{{\"format\": 1, \"keys\": [{{\"secret\": \"{OLD}\"}}]}}"), "it is not a key ring"),
        (format!("{{\"format\": 1, \"keys\": [\"{OLD}\"]}}"), "it is not a key ring"),
        ("{\"format\": 2, \"keys\": []}".to_owned(), "its format is 2"),
        (String::new(), "it is not a key ring"),
    ] {
        let place = Place::new();
        place.put("jwt-keys.json", &text);
        let error = place.load().unwrap_err();
        assert!(error.problem.why.contains(says) && !format!("{error:?}").contains(OLD), "{error:?}");
    }
}

#[test]
fn nothing_that_is_loaded_shows_a_secret() {
    let loaded = with_ring(of_all(), None).load().unwrap();
    let shown = format!("{loaded:?}");
    assert!(!shown.contains(OLD) && !shown.contains(secret().expose()), "{shown}");
    assert!(loaded.secrets.len() == 2 && Path::new(&loaded.signing.origin.to_string()).ends_with("jwt-secret"));
}

/// PEM of any kind.
fn pem(label: &str, der: &[u8]) -> String {
    let mut text = base64url(der).replace('-', "+").replace('_', "/");
    while !text.len().is_multiple_of(4) {
        text.push('=');
    }
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// PKCS#1 of an RSA key that nobody has the private part of.
fn pkcs1(modulus_bytes: usize) -> Vec<u8> {
    let mut modulus = vec![0x02, 0x82];
    modulus.extend(u16::try_from(modulus_bytes + 1).unwrap().to_be_bytes());
    modulus.push(0);
    modulus.extend(vec![0xc1; modulus_bytes]);
    modulus.extend([0x02, 0x03, 1, 0, 1]);
    let mut der = vec![0x30, 0x82];
    der.extend(u16::try_from(modulus.len()).unwrap().to_be_bytes());
    der.extend(modulus);
    der
}

#[test]
fn a_point_in_another_form_is_refused_rather_than_a_key_that_takes_no_token() {
    use rcgen::PublicKeyData;
    let der = P256.pair.subject_public_key_info();
    let form = der.len() - 65;
    assert_eq!(der[form], 0x04);
    for other in [0x00, 0x02, 0x03, 0x05, 0x06, 0x07, 0xff] {
        let mut changed = der.clone();
        changed[form] = other;
        let key = crate::auth::pem::parse(pem("PUBLIC KEY", &changed).as_bytes());
        let refused = key.and_then(|key| Key::of_public(key, KeyOrigin::Given)).map(|_| ()).unwrap_err();
        assert!(refused.0.contains("uncompressed"), "{other}: {refused:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_key_file_that_is_answered(bytes in proptest::collection::vec(any::<u8>(), 0..300), label in 0..3_usize) {
        let label = ["PUBLIC KEY", "RSA PUBLIC KEY", "CERTIFICATE"][label];
        drop(crate::auth::pem::parse(&bytes).and_then(|key| Key::of_public(key, KeyOrigin::Given)));
        drop(crate::auth::pem::parse(pem(label, &bytes).as_bytes()).and_then(|key| Key::of_public(key, KeyOrigin::Given)));
    }

    /// One byte of a good key changed: an error, the same key, or one that does not take its tokens.
    #[test]
    fn any_byte_of_a_key_may_be_wrong(at in 0..91_usize, bit in 0..8_u32) {
        use rcgen::PublicKeyData;
        let mut der = P256.pair.subject_public_key_info();
        prop_assume!(at < der.len());
        der[at] ^= 1 << bit;
        if let Ok(key) = crate::auth::pem::parse(pem("PUBLIC KEY", &der).as_bytes()).and_then(|key| Key::of_public(key, KeyOrigin::Given)) {
            let good = crate::auth::pem::parse(P256.public_pem().as_bytes()).and_then(|key| Key::of_public(key, KeyOrigin::Given));
            let is_the_same = key.thumbprint() == good.unwrap().thumbprint();
            let verifier = Verifier::with_keys(&Config::default().auth, Keys::new(vec![key]).unwrap());
            prop_assert_eq!(verifier.verify(&P256.sign(None), NOW).is_ok(), is_the_same);
        }
    }
}

#[test]
fn attack_a_token_that_costs_a_check_with_every_key() {
    // The last key is found by its name; without one, a stranger's token costs so many checks and no more.
    let others = (0..MAX_TRIED).map(|_| Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256).jwk(json!({})));
    let place = Place::new().with_jwks(&others.chain([P256.jwk(json!({"kid": "last"}))]).collect::<Vec<_>>());
    assert!(place.verify(&P256.sign(Some("last"))).is_ok());
    assert_eq!(refused(&place, &P256.sign(None)), WRONG_SIGNATURE);
}
