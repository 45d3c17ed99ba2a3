//! Attacks on keys of several kinds, each by its name. The keys are made for the occasion.

mod files;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::LazyLock;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, SignatureAlgorithm};
use serde_json::{Value, json};

use super::sources::{self, LoadedKeys};
use super::tests::{NOW, base64url, claims, secret, sign_with};
use super::*;
use crate::config::Config;

/// A pair of somebody who signs tokens.
struct Signer {
    pair: KeyPair,
    algorithm: Algorithm,
}

impl Signer {
    fn new(kind: &'static SignatureAlgorithm, algorithm: Algorithm) -> Signer {
        Signer { pair: KeyPair::generate_for(kind).unwrap(), algorithm }
    }

    fn encoding(&self) -> EncodingKey {
        let pem = self.pair.serialize_pem();
        match self.algorithm {
            Algorithm::ES256 | Algorithm::ES384 => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            Algorithm::EdDSA => EncodingKey::from_ed_pem(pem.as_bytes()).unwrap(),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        }
    }

    fn sign_as(&self, algorithm: Algorithm, kid: Option<&str>) -> String {
        let header = Header { kid: kid.map(ToOwned::to_owned), ..Header::new(algorithm) };
        jsonwebtoken::encode(&header, &claims(json!({})), &self.encoding()).unwrap()
    }

    fn sign(&self, kid: Option<&str>) -> String {
        self.sign_as(self.algorithm, kid)
    }

    fn public_pem(&self) -> String {
        self.pair.public_key_pem()
    }

    /// Its public part as a JWK, with more members.
    fn jwk(&self, more: Value) -> Value {
        let decoding = super::pem::parse(self.public_pem().as_bytes()).unwrap();
        let jwk = jsonwebtoken::jwk::Jwk::from_decoding_key(&decoding, None).unwrap();
        let mut jwk = serde_json::to_value(jwk).unwrap();
        for (member, value) in more.as_object().unwrap() {
            jwk[member] = value.clone();
        }
        jwk
    }
}

static RSA: LazyLock<Signer> = LazyLock::new(|| Signer::new(&rcgen::PKCS_RSA_SHA256, Algorithm::RS256));
static P256: LazyLock<Signer> = LazyLock::new(|| Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256));
static P384: LazyLock<Signer> = LazyLock::new(|| Signer::new(&rcgen::PKCS_ECDSA_P384_SHA384, Algorithm::ES384));
static ED: LazyLock<Signer> = LazyLock::new(|| Signer::new(&rcgen::PKCS_ED25519, Algorithm::EdDSA));

fn signers() -> [&'static Signer; 4] {
    [&RSA, &P256, &P384, &ED]
}

/// A data directory with its secret, and a configuration that names keys.
struct Place {
    dir: tempfile::TempDir,
    config: Config,
}

impl Place {
    fn new() -> Place {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.storage.data_dir = dir.path().to_owned();
        let place = Place { dir, config };
        let path = place.put("jwt-secret", secret().expose());
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        place
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path
    }

    fn with_pem(mut self, name: &str, signer: &Signer) -> Place {
        let path = self.put(name, &signer.public_pem());
        self.config.auth.public_keys.push(path);
        self
    }

    fn with_jwks(mut self, keys: &[Value]) -> Place {
        self.config.auth.jwks_file = Some(self.put("jwks.json", &json!({ "keys": keys }).to_string()));
        self
    }

    fn load(&self) -> Result<LoadedKeys, KeyError> {
        sources::load(&self.config, None)
    }

    fn verify(&self, token: &str) -> Result<String, TokenError> {
        self.verify_at(token, NOW)
    }

    fn verify_at(&self, token: &str, now: Timestamp) -> Result<String, TokenError> {
        let verifier = Verifier::with_keys(&self.config.auth, self.load().unwrap().keys);
        verifier.verify(token, now).map(|actor| actor.user.canonical())
    }
}

fn of_all() -> Place {
    Place::new()
        .with_pem("rsa.pem", &RSA)
        .with_pem("p256.pem", &P256)
        .with_pem("p384.pem", &P384)
        .with_pem("ed.pem", &ED)
}

/// A token of the attacker's: any header, these claims, and a signature over them by a secret.
fn forged(header: &Value, secret: &[u8]) -> String {
    let key = EncodingKey::from_secret(secret);
    let message = format!(
        "{}.{}",
        base64url(header.to_string().as_bytes()),
        base64url(claims(json!({"role": "admin"})).to_string().as_bytes())
    );
    let algorithm = match header["alg"].as_str() {
        Some("HS384") => Algorithm::HS384,
        Some("HS512") => Algorithm::HS512,
        _ => Algorithm::HS256,
    };
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, algorithm).unwrap();
    format!("{message}.{signature}")
}

fn refused(place: &Place, token: &str) -> &'static str {
    match place.verify(token) {
        Err(TokenError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_family_verifies_what_it_has_signed_with_and_without_a_kid() {
    let place = of_all();
    for signer in signers() {
        assert_eq!(place.verify(&signer.sign(None)), Ok("7".to_owned()), "{:?}", signer.algorithm);
    }
    for algorithm in
        [Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512, Algorithm::RS256]
    {
        assert!(place.verify(&RSA.sign_as(algorithm, Some("rsa"))).is_ok(), "{algorithm:?}");
    }
    // By the name of the file, by the thumbprint, and by a name that its issuer may have for it.
    let thumbprint =
        place.load().unwrap().keys.iter().find(|key| key.kids.contains(&"p256".to_owned())).unwrap().kids[0].clone();
    assert_eq!(thumbprint.len(), 43);
    for kid in ["p256", &thumbprint, "prod-2026"] {
        assert!(place.verify(&P256.sign(Some(kid))).is_ok(), "{kid}");
    }
    assert!(place.verify(&sign_with(Algorithm::HS512, &secret(), &claims(json!({})))).is_ok());
}

#[test]
fn attack_a_public_key_as_an_hmac_secret() {
    let place = of_all();
    let jwks = Place::new().with_jwks(&signers().map(|signer| signer.jwk(json!({}))));
    for signer in signers() {
        let pem = signer.public_pem();
        let spki = {
            use rcgen::PublicKeyData;
            signer.pair.subject_public_key_info()
        };
        let jwk = signer.jwk(json!({})).to_string();
        let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        for bytes in [
            pem.as_bytes(),
            pem.trim().as_bytes(),
            pem.replace('\n', "\r\n").as_bytes(),
            lines.as_bytes(),
            &spki,
            signer.pair.public_key_raw(),
            jwk.as_bytes(),
            signer.jwk(json!({}))["x"].as_str().unwrap_or_default().as_bytes(),
            signer.jwk(json!({}))["n"].as_str().unwrap_or_default().as_bytes(),
        ] {
            for algorithm in ["HS256", "HS384", "HS512"] {
                for kid in [json!(null), json!("rsa"), json!("p256"), json!("")] {
                    let mut header = json!({ "alg": algorithm, "typ": "JWT" });
                    if !kid.is_null() {
                        header["kid"] = kid;
                    }
                    let token = forged(&header, bytes);
                    assert!(place.verify(&token).is_err(), "{header}");
                    assert!(jwks.verify(&token).is_err(), "{header}");
                }
            }
        }
    }
}

#[test]
fn attack_none_in_every_spelling() {
    let place = of_all();
    let body = base64url(claims(json!({"role": "admin"})).to_string().as_bytes());
    let mut spellings: Vec<Value> = (0..16_u32)
        .map(|mask| {
            let word = "none".char_indices();
            json!(word.map(|(i, c)| if mask >> i & 1 == 1 { c.to_ascii_uppercase() } else { c }).collect::<String>())
        })
        .collect();
    spellings.extend([
        json!(""),
        json!(" none"),
        json!("none\u{0}"),
        json!(null),
        json!(0),
        json!(["none"]),
        json!({}),
        json!("HS256 none"),
    ]);
    for alg in &spellings {
        for kid in [None, Some("rsa")] {
            let mut header = json!({ "alg": alg, "typ": "JWT" });
            if let Some(kid) = kid {
                header["kid"] = json!(kid);
            }
            for signature in ["", "AAAA", &base64url(&[0; 64])] {
                let token = format!("{}.{body}.{signature}", base64url(header.to_string().as_bytes()));
                let refused = place.verify(&token).unwrap_err();
                assert!(refused == WRONG_ALGORITHM || !alg.is_string(), "{header}");
            }
        }
    }
    let token = format!("{}.{body}.", base64url(br#"{"typ":"JWT"}"#));
    assert!(place.verify(&token).is_err(), "no algorithm at all");
}

#[test]
fn attack_the_kid_of_a_key_of_another_family() {
    let place = of_all();
    let other = "its algorithm is not one of the key that it names (kid)";
    // Signed with the right secret, and it names the RSA key.
    assert_eq!(refused(&place, &forged(&json!({"alg": "HS256", "kid": "rsa"}), secret().expose().as_bytes())), other);
    assert_eq!(refused(&place, &RSA.sign(Some("p256"))), other);
    assert_eq!(refused(&place, &P256.sign(Some("p384"))), other);
    assert_eq!(refused(&place, &P384.sign(Some("p256"))), other);
    assert_eq!(refused(&place, &ED.sign(Some("p256"))), other);
    // The name of another key of the same family: that key is tried, and no other.
    let two = of_all().with_pem("second.pem", &Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256));
    assert_eq!(refused(&two, &P256.sign(Some("second"))), WRONG_SIGNATURE);
    assert!(two.verify(&P256.sign(Some("p256"))).is_ok() && two.verify(&P256.sign(None)).is_ok());
}

#[test]
fn attack_the_kid_of_a_secret_under_rs256() {
    let place = with_ring(Place::new().with_pem("rsa.pem", &RSA), None);
    assert_eq!(refused(&place, &RSA.sign(Some("k-old"))), "its algorithm is not one of the key that it names (kid)");
}

#[test]
fn attack_es256_key_for_es384_and_back() {
    let only = Place::new().with_pem("p256.pem", &P256);
    assert_eq!(refused(&only, &P384.sign(None)), "there is no key here for its algorithm");
    let only = Place::new().with_pem("p384.pem", &P384);
    assert_eq!(refused(&only, &P256.sign(None)), "there is no key here for its algorithm");
    // A signature of the one, under the name of the other.
    let good = P256.sign(None);
    let (_, rest) = good.split_once('.').unwrap();
    let swapped = format!("{}.{rest}", base64url(br#"{"alg":"ES384","typ":"JWT"}"#));
    assert!(of_all().verify(&swapped).is_err());
}

#[test]
fn attack_another_algorithm_than_the_jwk_is_bound_to() {
    let place = Place::new().with_jwks(&[RSA.jwk(json!({"kid": "r", "alg": "PS256", "use": "sig"}))]);
    assert!(place.verify(&RSA.sign_as(Algorithm::PS256, Some("r"))).is_ok());
    for algorithm in [Algorithm::RS256, Algorithm::RS512, Algorithm::PS384] {
        assert!(place.verify(&RSA.sign_as(algorithm, Some("r"))).is_err(), "{algorithm:?}");
        assert!(place.verify(&RSA.sign_as(algorithm, None)).is_err(), "{algorithm:?}");
    }
    // A signature of the one scheme under the name of the other.
    let good = RSA.sign_as(Algorithm::RS256, Some("r"));
    let (_, rest) = good.split_once('.').unwrap();
    let swapped = format!("{}.{rest}", base64url(br#"{"alg":"PS256","kid":"r"}"#));
    assert!(place.verify(&swapped).is_err());
}

#[test]
fn attack_a_kid_that_is_a_path_a_query_or_huge() {
    let place = of_all().with_jwks(&[ED.jwk(json!({"kid": "named"}))]);
    let huge = "x".repeat(4_000);
    for kid in [
        "../../../../dev/null",
        "/dev/null",
        "/etc/passwd",
        "file:///dev/null",
        "http://127.0.0.1/key",
        "' OR '1'='1",
        "x' UNION SELECT 'secret' --",
        "$(id)",
        "rsa.pem",
        "RSA",
        "rsa\0",
        "",
        &huge,
    ] {
        // What such a key would be, if anything were looked up by it.
        for secret in [&b""[..], b"secret", b"\0"] {
            assert!(place.verify(&forged(&json!({"alg": "HS256", "kid": kid}), secret)).is_err(), "{kid:.40}");
        }
    }
    for kid in [json!(1), json!(null), json!(["rsa"]), json!({"rsa": 1}), json!(true)] {
        let token = forged(&json!({"alg": "HS256", "kid": kid}), b"secret");
        assert!(place.verify(&token).is_err(), "{kid}");
    }
}

#[test]
fn attack_a_key_in_the_header() {
    let place = of_all();
    let mine = Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256);
    let certificate = rcgen::CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&mine.pair).unwrap();
    let x5c: String = certificate.pem().lines().filter(|line| !line.starts_with('-')).collect();
    for extra in [
        json!({"jwk": mine.jwk(json!({}))}),
        json!({"jwk": mine.jwk(json!({"kid": "p256"})), "kid": "p256"}),
        json!({"jku": "https://127.0.0.1:1/jwks.json"}),
        json!({"x5u": "https://127.0.0.1:1/x.pem"}),
        json!({"x5c": [x5c]}),
        json!({"x5t": "AAAA", "x5t#S256": "AAAA"}),
    ] {
        let mut header = json!({"alg": "ES256", "typ": "JWT"});
        for (member, value) in extra.as_object().unwrap() {
            header[member] = value.clone();
        }
        let message = format!(
            "{}.{}",
            base64url(header.to_string().as_bytes()),
            base64url(claims(json!({"role": "admin"})).to_string().as_bytes())
        );
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &mine.encoding(), Algorithm::ES256).unwrap();
        assert_eq!(refused(&place, &format!("{message}.{signature}")), WRONG_SIGNATURE, "{extra}");
    }
    // With a key in the header, the token of who may sign is still good: the header is not looked at.
    let header = Header { jku: Some("https://127.0.0.1:1/".to_owned()), ..Header::new(Algorithm::ES256) };
    let token = jsonwebtoken::encode(&header, &claims(json!({})), &P256.encoding()).unwrap();
    assert!(place.verify(&token).is_ok());
}

#[test]
fn attack_psychic_signature() {
    let place = of_all();
    for (signer, length) in [(&*P256, 64), (&*P384, 96), (&*ED, 64), (&*RSA, 256)] {
        let good = signer.sign(None);
        let (message, _) = good.rsplit_once('.').unwrap();
        for bytes in [vec![0; length], vec![0xff; length], vec![1; length], Vec::new(), vec![0; 1], vec![0; length * 2]]
        {
            assert!(place.verify(&format!("{message}.{}", base64url(&bytes))).is_err(), "{:?}", signer.algorithm);
        }
        // r = 0 or s = 0 alone, and r = s = n of P-256.
        let n = [
            0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xbc, 0xe6, 0xfa, 0xad,
            0xa7, 0x17, 0x9e, 0x84, 0xf3, 0xb9, 0xca, 0xc2, 0xfc, 0x63, 0x25, 0x51,
        ];
        assert!(place.verify(&format!("{message}.{}", base64url(&[n, n].concat()))).is_err());
    }
}

#[test]
fn attack_a_changed_eddsa_signature() {
    // S + L in the place of S is a second signature of the same message, which RFC 8032 forbids to take.
    const L: [u8; 32] = [
        0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9, 0xde, 0x14, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
    ];
    let place = of_all();
    let good = ED.sign(None);
    let (message, signature) = good.rsplit_once('.').unwrap();
    let mut bytes = from_base64url(signature);
    let mut carry = 0_u16;
    for (byte, more) in bytes[32..].iter_mut().zip(L) {
        carry += u16::from(*byte) + u16::from(more);
        *byte = (carry & 0xff) as u8;
        carry >>= 8;
    }
    assert_eq!(refused(&place, &format!("{message}.{}", base64url(&bytes))), WRONG_SIGNATURE);
}

#[test]
fn attack_one_bit() {
    let place = of_all();
    for signer in signers() {
        let good = signer.sign(None);
        for at in (0..good.len()).step_by(11) {
            for bit in [0, 1, 5] {
                let mut bytes = good.clone().into_bytes();
                bytes[at] ^= 1 << bit;
                let Ok(changed) = String::from_utf8(bytes) else { continue };
                assert!(place.verify(&changed).is_err(), "{:?} {at} {bit}", signer.algorithm);
            }
        }
    }
}

/// A ring with one key before the present one.
fn with_ring(place: Place, until: Option<u64>) -> Place {
    let keys = json!({"format": 1, "keys": [
        {"kid": "k-new", "secret": secret().expose(), "created": 2},
        {"kid": "k-old", "secret": OLD, "created": 1, "until": until.unwrap_or(NOW.0 + 1_000)},
    ]});
    let path = place.put("jwt-keys.json", &keys.to_string());
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    place
}

const OLD: &str = "the secret before the present one, also long enough";

#[test]
fn attack_a_key_past_its_time() {
    let place = with_ring(Place::new(), Some(NOW.0));
    let before = Timestamp(NOW.0 - 1);
    for header in
        [json!({"alg": "HS256", "kid": "k-old"}), json!({"alg": "HS256"}), json!({"alg": "HS512", "kid": "x"})]
    {
        let token = forged(&header, OLD.as_bytes());
        assert!(place.verify_at(&token, before).is_ok(), "{header}: until its time");
        assert!(place.verify_at(&token, NOW).is_err(), "{header}: and not a moment longer");
    }
    assert!(
        refused(&place, &forged(&json!({"alg": "HS256", "kid": "k-old"}), OLD.as_bytes()))
            .contains("not accepted any more")
    );
    assert!(place.verify(&forged(&json!({"alg": "HS256", "kid": "k-new"}), secret().expose().as_bytes())).is_ok());
}

#[test]
fn attack_a_retired_key() {
    let place = with_ring(Place::new(), None);
    let token = forged(&json!({"alg": "HS256", "kid": "k-old"}), OLD.as_bytes());
    assert!(place.verify(&token).is_ok());
    fs::remove_file(place.dir.path().join("jwt-keys.json")).unwrap();
    assert_eq!(refused(&place, &token), WRONG_SIGNATURE);
    // An entry without an end that is not the present secret was replaced by hand: it is not taken.
    let keys = json!({"format": 1, "keys": [{"kid": "k-old", "secret": OLD, "created": 1}]});
    place.put("jwt-keys.json", &keys.to_string());
    assert_eq!(refused(&place, &token), WRONG_SIGNATURE);
}

#[test]
fn attack_a_duplicate_kid() {
    let other = Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256);
    let twins = [P256.jwk(json!({"kid": "k"})), other.jwk(json!({"kid": "k"})), RSA.jwk(json!({"kid": "k"}))];
    let place = Place::new().with_jwks(&twins);
    assert!(place.load().unwrap().warnings.iter().any(|warning| warning.contains("several keys have the kid 'k'")));
    for signer in [&*P256, &other, &*RSA] {
        assert!(place.verify(&signer.sign(Some("k"))).is_ok());
    }
    // Neither is good for the other's algorithm, nor a stranger's for the name.
    let stranger = Signer::new(&rcgen::PKCS_ECDSA_P256_SHA256, Algorithm::ES256);
    assert_eq!(refused(&place, &stranger.sign(Some("k"))), WRONG_SIGNATURE);
    assert!(place.verify(&forged(&json!({"alg": "HS256", "kid": "k"}), secret().expose().as_bytes())).is_err());
}

#[test]
fn a_key_that_its_issuer_has_named_answers_to_that_name_alone() {
    let place = Place::new().with_jwks(&[P256.jwk(json!({"kid": "a"})), ED.jwk(json!({}))]);
    assert!(place.verify(&P256.sign(Some("a"))).is_ok() && place.verify(&P256.sign(None)).is_ok());
    assert_eq!(refused(&place, &P256.sign(Some("b"))), WRONG_KID);
    assert_eq!(refused(&place, &P256.sign(Some(""))), WRONG_KID);
    assert!(place.verify(&ED.sign(Some("b"))).is_ok(), "the one without a name answers to any");
}

const WRONG_KID: &str = "no key here has the name (kid) that it gives";

fn from_base64url(text: &str) -> Vec<u8> {
    const ALPHABET: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for c in text.chars() {
        bits = bits << 6 | u32::try_from(ALPHABET.find(c).unwrap()).unwrap();
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    bytes
}
