//! A JWKS file (RFC 7517): the public keys of an issuer. As the RFC says, a key that is not understood is passed over, with
//! a warning; a file of which no key is left is refused.

use std::path::Path;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind};
use serde_json::Value;

use crate::config::trusted_file::Trust;

use super::file::read_public;
use super::keys::{Key, KeyError, KeyOrigin, MAX_KID_BYTES};

/// What the members of a key's private part are called (RFC 7518, 6.2.2, 6.3.2; RFC 8037).
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

/// What became of one entry.
enum Entry {
    Key(Box<Key>),
    /// It is not for signatures, as it says itself.
    NotForSignatures,
    /// It is not understood, and why.
    PassedOver(String),
}

/// The keys of a file, and what there is to say of those that were passed over.
///
/// # Errors
/// If it is not a JWKS, has a private key in it, or no key is left.
pub(super) fn read(path: &Path, trust: &Trust) -> Result<(Vec<Key>, Vec<String>), KeyError> {
    let bytes = read_public(path, "JWKS file", "auth.jwks_file", trust)?;
    let failed = |why: String, remedy: &str| {
        KeyError::new(format!("the JWKS file {} cannot be used", path.display()), why, remedy)
    };
    let form = "Save the key set of the issuer again: {\"keys\": [...]}, as its jwks_uri returns it.";
    // What serde says has the place and may have the text at it; the place is enough.
    let set: Value = serde_json::from_slice(&bytes)
        .map_err(|error| failed(format!("it is not JSON (line {}, column {})", error.line(), error.column()), form))?;
    let entries =
        set.get("keys").and_then(Value::as_array).ok_or_else(|| failed("it has no list of keys".to_owned(), form))?;
    let (mut keys, mut warnings) = (Vec::<Key>::new(), Vec::new());
    for (place, value) in entries.iter().enumerate() {
        let name = words_for(place, value);
        if PRIVATE.iter().any(|member| value.get(member).is_some()) {
            let remedy = "Save only the public key. If other users may have read this file, replace the key.";
            return Err(failed(format!("{name} contains a private key"), remedy));
        }
        match entry(value, path) {
            Entry::Key(key) => {
                if let Some(twin) = key.kids.first().filter(|kid| keys.iter().any(|other| other.kids.contains(kid))) {
                    warnings.push(format!(
                        "{}: several keys have the kid '{twin}'; the server tries each of them",
                        path.display()
                    ));
                }
                keys.push(*key);
            }
            Entry::NotForSignatures => {}
            Entry::PassedOver(why) => warnings.push(format!("{}: {name} is ignored: {why}", path.display())),
        }
    }
    if keys.is_empty() {
        let why = warnings.first().cloned().unwrap_or_else(|| "it contains no key for signatures".to_owned());
        return Err(failed(why, "Use a key set with at least one RSA, P-256, P-384 or Ed25519 key for signatures."));
    }
    Ok((keys, warnings))
}

fn words_for(place: usize, value: &Value) -> String {
    match kid(value) {
        Some(kid) => format!("key {} ('{kid}')", place + 1),
        None => format!("key {}", place + 1),
    }
}

/// A name that can be one; an empty one is none.
fn kid(value: &Value) -> Option<&str> {
    let kid = value.get("kid")?.as_str()?;
    let fits = !kid.is_empty() && kid.len() <= MAX_KID_BYTES && !kid.chars().any(char::is_control);
    fits.then_some(kid)
}

fn entry(value: &Value, path: &Path) -> Entry {
    let text = |member: &str| value.get(member).and_then(Value::as_str);
    if value.get("use").is_some_and(|purpose| purpose != "sig") {
        return Entry::NotForSignatures;
    }
    if let Some(operations) = value.get("key_ops")
        && !operations.as_array().is_some_and(|operations| operations.iter().any(|operation| operation == "verify"))
    {
        return Entry::NotForSignatures;
    }
    match text("kty") {
        Some("oct") => {
            let why = "a file of public keys must not contain a shared secret; put the secret into its own file, and set auth.jwt_secret_file";
            return Entry::PassedOver(why.to_owned());
        }
        Some("RSA" | "EC" | "OKP") => {}
        Some(other) => return Entry::PassedOver(format!("its kty '{other}' is not supported")),
        None => return Entry::PassedOver("it has no kty".to_owned()),
    }
    if value.get("kid").is_some_and(|given| kid(value).is_none() && given != "") {
        return Entry::PassedOver(format!("its kid is not a string of at most {MAX_KID_BYTES} bytes"));
    }
    match key(value, path) {
        Ok(key) => Entry::Key(Box::new(match kid(value) {
            Some(kid) => key.named_by_issuer(kid.to_owned()),
            None => key,
        })),
        Err(why) => Entry::PassedOver(why),
    }
}

/// The members that are numbers or points, in base64url without padding (RFC 7518, 2).
const NUMBERS: [&str; 4] = ["n", "e", "x", "y"];

/// An entry whose numbers have no padding: many exporters add it, and it means nothing else.
///
/// # Errors
/// A member that is not in base64url, by its name.
fn without_padding(value: &Value) -> Result<Value, String> {
    let mut value = value.clone();
    for name in NUMBERS {
        let Some(Value::String(text)) = value.get_mut(name) else { continue };
        text.truncate(text.trim_end_matches('=').len());
        match text.chars().find(|char| !(char.is_ascii_alphanumeric() || matches!(char, '-' | '_'))) {
            None if text.len() % 4 == 1 => {
                return Err(format!("its {name} is not in base64url: a part of it is missing"));
            }
            None => {}
            Some('+' | '/') => {
                return Err(format!(
                    "its {name} is in base64; it must be in base64url, with - and _ in place of + and /"
                ));
            }
            Some(_) => return Err(format!("its {name} is not in base64url")),
        }
    }
    Ok(value)
}

/// Each coordinate has the full length of its curve (RFC 7518, 6.2.1.2): exporters that leave out zeros at the beginning make
/// another point.
fn has_length(value: &Value, names: &[&str], curve: &str, bytes: usize) -> Result<(), String> {
    for name in names {
        let text = value.get(name).and_then(Value::as_str).unwrap_or_default();
        let length = text.len() * 3 / 4;
        if length != bytes {
            return Err(format!(
                "its {name} has {length} bytes, and {curve} has {bytes}; zeros at the beginning belong to it"
            ));
        }
    }
    Ok(())
}

/// Without the zeros at the beginning, which signed numbers have elsewhere: the RFC forbids them (RFC 7518, 2, Base64urlUInt), and
/// the library verifies nothing with them.
fn without_zeros(decoding: DecodingKey) -> DecodingKey {
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    match decoding.kind() {
        DecodingKeyKind::RsaModulusExponent { n, e } => DecodingKey::from_rsa_raw_components(&number(n), &number(e)),
        DecodingKeyKind::SecretOrDer(_) => decoding,
    }
}

fn key(value: &Value, path: &Path) -> Result<Key, String> {
    let value = &without_padding(value)?;
    let jwk: Jwk = serde_json::from_value(value.clone()).map_err(|_| "it is not a JWK".to_owned())?;
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => {}
        AlgorithmParameters::EllipticCurve(parameters) if parameters.curve == EllipticCurve::P256 => {
            has_length(value, &["x", "y"], "P-256", 32)?;
        }
        AlgorithmParameters::EllipticCurve(parameters) if parameters.curve == EllipticCurve::P384 => {
            has_length(value, &["x", "y"], "P-384", 48)?;
        }
        AlgorithmParameters::OctetKeyPair(parameters) if parameters.curve == EllipticCurve::Ed25519 => {
            has_length(value, &["x"], "Ed25519", 32)?;
        }
        _ => return Err("a member is missing, or its curve is not P-256, P-384 or Ed25519".to_owned()),
    }
    let decoding = DecodingKey::from_jwk(&jwk).map_err(|_| "a member is not in base64url".to_owned())?;
    let decoding = without_zeros(decoding);
    let key = Key::of_public(decoding, KeyOrigin::Jwks(path.to_owned())).map_err(|(why, _)| why)?;
    let Some(bound) = value.get("alg") else { return Ok(key) };
    let algorithm: Option<Algorithm> = bound.as_str().and_then(|name| name.parse().ok());
    let algorithm = algorithm.ok_or_else(|| "its alg is not one for signatures that is known here".to_owned())?;
    key.bound_to(algorithm).ok_or_else(|| format!("its alg {algorithm:?} is not one of its kind of key"))
}
