//! Tokens: claims, times, and the attacks on a shared secret.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::config::Config;
use crate::domain::Scope;

pub(super) const NOW: Timestamp = Timestamp(1_700_000_000_000);

pub(super) fn secret() -> Secret {
    Secret::new("a secret of at least thirty-two bytes")
}

fn verifier(change: impl FnOnce(&mut Auth)) -> Verifier {
    let mut auth = Config::default().auth;
    change(&mut auth);
    Verifier::new(&auth, &secret())
}

pub(super) fn sign_with(algorithm: Algorithm, secret: &Secret, claims: &Value) -> String {
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::new(algorithm), claims, &key).unwrap()
}

fn sign(claims: Value) -> String {
    sign_with(Algorithm::HS256, &secret(), &claims)
}

fn in_secs(offset: i64) -> i64 {
    i64::try_from(NOW.as_secs()).unwrap() + offset
}

pub(super) fn claims(extra: Value) -> Value {
    let mut all = json!({ "userId": 7, "name": "Ann", "role": "learner", "iat": in_secs(-5), "exp": in_secs(60) });
    for (key, value) in extra.as_object().unwrap() {
        all[key] = value.clone();
    }
    all
}

fn verify(extra: Value) -> Result<Actor, TokenError> {
    verifier(|_| {}).verify(&sign(claims(extra)), NOW)
}

#[test]
fn a_token_as_the_platform_mints_it() {
    let token = sign(json!({
        "userId": 7, "openId": "o", "email": "a@example.org", "name": "Ann", "role": "hr_admin",
        "authMethod": "password", "iat": in_secs(-5), "exp": in_secs(3_600)
    }));
    for text in [token.clone(), format!("Bearer {token}"), format!("  {token} ")] {
        let actor = verifier(|_| {}).verify(&text, NOW).unwrap();
        assert_eq!(serde_json::to_string(&actor.user).unwrap(), "7");
        assert_eq!((actor.name.as_str(), actor.roles.as_slice()), ("Ann", [Role::Hr].as_slice()));
        assert_eq!(actor.expires_at.unwrap().as_secs(), NOW.as_secs() + 3_600);
    }
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        verifier(|_| {}).verify(&sign_with(algorithm, &secret(), &claims(json!({}))), NOW).unwrap();
    }
}

#[test]
fn the_user_is_user_id_else_id_else_sub_with_its_type() {
    let user = |claims: Value| {
        let mut all = json!({ "exp": in_secs(60) });
        for (key, value) in claims.as_object().unwrap() {
            all[key] = value.clone();
        }
        verifier(|_| {}).verify(&sign(all), NOW).map(|actor| serde_json::to_string(&actor.user).unwrap())
    };
    assert_eq!(user(json!({"userId": "7", "id": 8, "sub": "9"})).unwrap(), "\"7\"");
    assert_eq!(user(json!({"id": 8, "sub": "9"})).unwrap(), "8");
    assert_eq!(user(json!({"sub": "9"})).unwrap(), "\"9\"");
    for bad in [
        json!({}),
        json!({"userId": 0}),
        json!({"userId": -1}),
        json!({"userId": 1.5}),
        json!({"userId": [7]}),
        json!({"userId": "a:b"}),
        json!({"userId": ""}),
        json!({"userId": "a b"}),
        json!({"userId": true}),
    ] {
        assert!(matches!(user(bad.clone()), Err(TokenError::Invalid(_))), "{bad}");
    }
}

#[test]
fn roles_are_mapped_and_unknown_ones_join_nothing() {
    let roles = |extra: Value| verify(extra).unwrap().roles;
    assert_eq!(roles(json!({"role": "owner"})), [Role::Admin]);
    assert_eq!(roles(json!({"role": null})), [Role::Learner]);
    assert_eq!(roles(json!({"role": "janitor"})), []);
    assert_eq!(
        roles(json!({"role": null, "roles": ["coach", "hr_manager", "coach", "janitor"]})),
        [Role::Hr, Role::Coach]
    );
    assert_eq!(verify(json!({"scope": "broadcast unknown notify"})).unwrap().scopes, [Scope::Broadcast, Scope::Notify]);
}

#[test]
fn times_are_checked_with_leeway() {
    assert!(verify(json!({"exp": in_secs(-29)})).is_ok());
    assert_eq!(verify(json!({"exp": in_secs(-30)})), Err(TokenError::Expired));
    assert!(verify(json!({"nbf": in_secs(30)})).is_ok());
    let why = |claims| match verify(claims) {
        Err(TokenError::NotYetValid(why) | TokenError::Invalid(why)) => why,
        other => panic!("{other:?}"),
    };
    assert!(why(json!({"nbf": in_secs(31)})).starts_with("its nbf is later than"));
    assert!(why(json!({"iat": in_secs(31)})).starts_with("its iat is later than"));
    assert_eq!(why(json!({"exp": NOW.0 + 3_600_000})), "its exp is in milliseconds; write it in seconds");
    assert_eq!(why(json!({"exp": NOW.0 - 3_600_000})), "its exp is in milliseconds; write it in seconds");
    assert_eq!(why(json!({"iat": NOW.0})), "its iat is in milliseconds; write it in seconds");
    assert_eq!(why(json!({"nbf": NOW.0})), "its nbf is in milliseconds; write it in seconds");
    assert_eq!(why(json!({"exp": "tomorrow"})), "its exp, nbf or iat is not a number; write a time in seconds");
    assert_eq!(why(json!({"jti": 7})), "its name, role, scope or jti is not a text");
    assert_eq!(why(json!({"roles": 7})), "its roles are neither a text nor a list of texts");
    assert!(matches!(verify(json!({"exp": null})), Err(TokenError::Invalid(_))));
    assert!(matches!(verify(json!({"exp": "tomorrow"})), Err(TokenError::Invalid(_))));
    let lenient = verifier(|auth| auth.require_exp = false);
    assert_eq!(lenient.verify(&sign(claims(json!({"exp": null}))), NOW).unwrap().expires_at, None);
}

#[test]
fn what_cannot_be_read_in_a_token_is_named() {
    let why = |token: &str| match verifier(|_| {}).verify(token, NOW) {
        Err(TokenError::Invalid(why)) => why,
        other => panic!("{token}: {other:?}"),
    };
    let body = base64url(claims(json!({})).to_string().as_bytes());
    for (header, says) in [
        (r#"{"alg":"HS256","kid":7}"#, "kid are texts"),
        (r#"{"alg":"HS256","x5c":"MII"}"#, "x5c is a list of texts"),
        (r#"{"alg":"HS256","alg":"HS256"}"#, "its header has a member twice"),
        (r#"{"typ":"JWT"}"#, "names no algorithm"),
        (r#"{"alg":"none"}"#, "its algorithm is none of"),
    ] {
        let why = why(&format!("{}.{body}.AAAA", base64url(header.as_bytes())));
        assert!(why.contains(says), "{header}: {why}");
    }
    let key = EncodingKey::from_secret(secret().expose().as_bytes());
    for (twice, says) in [
        (r#"{"userId":7,"exp":1,"exp":9999999999}"#, "it has its claim exp twice"),
        (r#"{"userId":7,"userId":8,"exp":9999999999}"#, "it has its claim userId twice"),
    ] {
        let raw: &serde_json::value::RawValue = serde_json::from_str(twice).unwrap();
        assert_eq!(why(&jsonwebtoken::encode(&Header::new(Algorithm::HS256), &raw, &key).unwrap()), says);
    }
}

#[test]
fn issuer_and_audience_are_checked_where_configured() {
    let strict = verifier(|auth| {
        auth.issuer = Some("academy".into());
        auth.audience = Some("rt".into());
    });
    let check = |extra: Value| strict.verify(&sign(claims(extra)), NOW).is_ok();
    assert!(check(json!({"iss": "academy", "aud": "rt"})) && check(json!({"iss": "academy", "aud": ["x", "rt"]})));
    for bad in
        [json!({}), json!({"iss": "other", "aud": "rt"}), json!({"iss": "academy", "aud": "x"}), json!({"aud": "rt"})]
    {
        assert!(!check(bad.clone()), "{bad}");
    }
}

#[test]
fn attack_algorithm_none() {
    let part = |value: Value| crate::auth::tests::base64url(value.to_string().as_bytes());
    let body = part(claims(json!({"role": "admin"})));
    for header in [json!({"alg": "none", "typ": "JWT"}), json!({"alg": "None"}), json!({"alg": "NONE"})] {
        for signature in ["", "AAAA"] {
            let token = format!("{}.{body}.{signature}", part(header.clone()));
            assert_eq!(verifier(|_| {}).verify(&token, NOW), Err(WRONG_ALGORITHM), "{header}");
        }
    }
}

#[test]
fn attack_algorithm_confusion() {
    // The signature is good for the secret; the header names another family.
    let good = sign(claims(json!({"role": "admin"})));
    let (_, rest) = good.split_once('.').unwrap();
    for algorithm in ["RS256", "ES256", "PS256", "EdDSA"] {
        let header = base64url(json!({"alg": algorithm, "typ": "JWT"}).to_string().as_bytes());
        assert!(verifier(|_| {}).verify(&format!("{header}.{rest}"), NOW).is_err(), "{algorithm}");
    }
}

#[test]
fn attack_critical_extension() {
    // Signed with the right secret: only the extension is against it.
    let mut header = Header::new(Algorithm::HS256);
    header.crit = Some(vec!["b64".to_owned()]);
    let key = EncodingKey::from_secret(secret().expose().as_bytes());
    let token = jsonwebtoken::encode(&header, &claims(json!({})), &key).unwrap();
    assert!(matches!(verifier(|_| {}).verify(&token, NOW), Err(TokenError::Invalid(why)) if why.contains("crit")));
}

#[test]
fn a_claim_that_is_not_read_does_not_matter() {
    for extra in
        [json!({"id": -3}), json!({"id": {"a": 1}}), json!({"sub": 1.5}), json!({"aud": 5}), json!({"iss": []})]
    {
        assert_eq!(verify(extra.clone()).map(|actor| actor.user.canonical()), Ok("7".to_owned()), "{extra}");
    }
}

#[test]
fn an_end_beyond_all_calendars_fits_javascript() {
    for exp in [json!(1e300), json!(u64::MAX)] {
        assert!(verify(json!({"exp": exp})).unwrap().expires_at.unwrap().0 <= crate::domain::MAX_SAFE_INTEGER);
    }
    assert_eq!(verify(json!({"exp": -1e300})), Err(TokenError::Expired));
}

#[test]
fn attack_another_secret_or_a_changed_claim() {
    let other = Secret::new("another secret of at least thirty-two bytes");
    let forged = sign_with(Algorithm::HS256, &other, &claims(json!({})));
    assert_eq!(verifier(|_| {}).verify(&forged, NOW), Err(TokenError::Invalid(WRONG_SIGNATURE)));
    let good = sign(claims(json!({})));
    let parts: Vec<&str> = good.split('.').collect();
    let body = base64url(claims(json!({"role": "admin"})).to_string().as_bytes());
    assert!(verifier(|_| {}).verify(&format!("{}.{body}.{}", parts[0], parts[2]), NOW).is_err());
}

#[test]
fn what_is_no_jwt_is_malformed() {
    for text in ["a", "a.b", "a.b.c", "..", "🦀.🦀.🦀", &"x".repeat(MAX_TOKEN_BYTES + 1)] {
        assert_eq!(verifier(|_| {}).verify(text, NOW), Err(TokenError::Malformed), "{text:.20}");
    }
    for text in ["", "  ", "Bearer ", "Bearer", " Bearer  "] {
        assert_eq!(verifier(|_| {}).verify(text, NOW), Err(TokenError::Missing));
    }
}

/// Any JSON value, a few levels deep.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,70}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 8, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,5}", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    /// Whatever a platform with the right secret signs is answered, and an actor that comes of it obeys the rules.
    #[test]
    fn any_signed_claims_are_answered(
        name in prop::sample::select(vec![
            "userId", "id", "sub", "name", "role", "roles", "scope", "jti", "aud", "iss", "exp", "nbf", "iat",
        ]),
        value in any_json(),
    ) {
        let token = sign(claims(json!({ name: value })));
        if let Ok(actor) = verifier(|_| {}).verify(&token, NOW) {
            prop_assert!(actor.name.chars().count() <= 200 && !actor.name.chars().any(char::is_control));
            prop_assert!(actor.expires_at.is_some_and(|end| end.plus(Duration::from_secs(30)) > NOW));
        }
    }

    #[test]
    fn any_bytes_are_answered(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        drop(verifier(|_| {}).verify(&String::from_utf8_lossy(&bytes), NOW));
        let dotted = bytes.chunks(40).map(base64url).collect::<Vec<_>>().join(".");
        let answer = verifier(|_| {}).verify(&dotted, NOW);
        prop_assert!(answer.is_err());
    }

    #[test]
    fn any_text_is_answered_and_never_repeated(text in ".{0,200}") {
        if let Err(error) = verifier(|_| {}).verify(&text, NOW) {
            prop_assert!(text.len() < 20 || !error.to_string().contains(&text));
        }
    }
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let n = chunk.iter().fold(0u32, |n, b| n << 8 | u32::from(*b)) << (8 * (3 - chunk.len()));
        for i in 0..=chunk.len() {
            text.push(char::from(ALPHABET[(n >> (18 - 6 * i) & 63) as usize]));
        }
    }
    text
}
