//! What is put in the place of a secret and is none: public keys above all, since whoever has one could sign any token; and
//! texts that the other side would read as another secret, because of quotes, a name, or characters that nobody sees.

use serde_json::Value;
use x509_parser::certificate::X509Certificate;
use x509_parser::der_parser::parse_der;
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;
use zeroize::{Zeroize, Zeroizing};

use super::keys::Fault;

const NEW: &str = "Create a good secret with: academy-rt key new FILE (or openssl rand -hex 32).";
const PLAIN: &str = "Write the secret alone, on one line of UTF-8 text. To create a good one: academy-rt key new FILE (or openssl rand -hex 32).";
const PUBLIC: &str = "Everybody may have a public key, and with it as the secret everybody could sign tokens. Set auth.public_keys to its file, and create a secret with: academy-rt key new FILE.";
const CERTIFICATE: &str = "Everybody may have a certificate, and with it as the secret everybody could sign tokens. Set auth.public_keys to its file if its key signs tokens, or tls.cert if it is the server's own, and create a secret with: academy-rt key new FILE.";
const JWKS: &str = "Everybody may have public keys, and with them as the secret everybody could sign tokens. Save them as {\"keys\": [...]}, set auth.jwks_file to that file, and create a secret with: academy-rt key new FILE.";
const PRIVATE: &str = "Keep it only where tokens are signed. Set auth.public_keys to the file of its public key (openssl pkey -in FILE -pubout), and create a secret with: academy-rt key new FILE. If it is the key of the server's certificate, set tls.key to its file.";
const SSH: &str = "Everybody may have a public key, and with it as the secret everybody could sign tokens. Convert it (ssh-keygen -e -m PKCS8 -f FILE), set auth.public_keys to the result, and create a secret with: academy-rt key new FILE.";

/// How public keys of SSH begin.
const SSH_KINDS: [&str; 5] = ["ssh-", "ecdsa-sha2-", "sk-ssh-", "sk-ecdsa-", "---- BEGIN SSH2"];
/// What a name has in it that somebody has copied with the secret.
const NAMES: [&str; 5] = ["secret", "jwt", "key", "token", "password"];
/// The base64 of `-----BEGIN `.
const PEM_IN_BASE64: &str = "LS0tLS1CRUdJTi";

/// The secret in a text: what is around it of spaces and ends of lines is not part of it.
///
/// # Errors
/// What it is instead, and which key of the configuration is for that.
pub(super) fn secret_in(bytes: &[u8]) -> Result<&str, Fault> {
    match bytes {
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => return fault("is UTF-16 text", PLAIN),
        [0xef, 0xbb, 0xbf, ..] => return fault("begins with a byte order mark, which nobody sees", PLAIN),
        [0x30, ..] => of_der(bytes)?,
        _ => {}
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return fault("is not UTF-8 text", PLAIN) };
    let text = text.trim_matches(|c: char| c.is_ascii_whitespace());
    of_key(text)?;
    of_spelling(text)?;
    Ok(text)
}

fn fault<T>(why: &str, remedy: &'static str) -> Result<T, Fault> {
    Err((why.to_owned(), remedy))
}

/// Keys and tokens.
fn of_key(text: &str) -> Result<(), Fault> {
    if let Some((_, label)) = text.split_once("-----BEGIN ") {
        let label = label.lines().next().unwrap_or_default();
        return match label {
            _ if label.contains("PRIVATE KEY") => fault("is a private key", PRIVATE),
            _ if label.contains("CERTIFICATE") => fault("is a certificate", CERTIFICATE),
            _ if label.contains("PUBLIC KEY") => fault("is a public key", PUBLIC),
            _ => fault("is PEM, and not a secret", NEW),
        };
    }
    if text.starts_with(PEM_IN_BASE64) {
        return fault("is a key or certificate in base64", PUBLIC);
    }
    if SSH_KINDS.iter().any(|kind| text.starts_with(kind)) {
        return fault("is a public key of SSH", SSH);
    }
    if text.starts_with('{') || text.starts_with('[') {
        of_json(text)?;
    }
    if text.starts_with("eyJ") && text.split('.').count() == 3 {
        return fault("is a token, and whoever has seen it knows it", NEW);
    }
    if ["http://", "https://", "file://"].iter().any(|scheme| text.starts_with(scheme)) {
        return fault(
            "is an address, and not a secret",
            "Set auth.jwt_secret_file to the path of a file with the secret. Public keys of an issuer belong in a file, too: auth.jwks_file.",
        );
    }
    if text.starts_with('/') && std::path::Path::new(text).exists() {
        return fault("is the path of a file, and not a secret", "Set auth.jwt_secret_file to this path.");
    }
    // DER begins with 0x30, and its base64 with M.
    if text.starts_with('M') {
        let base64 = Zeroizing::new(text.replace('-', "+").replace('_', "/"));
        let padding =
            "=".repeat(base64.trim_end_matches('=').split_whitespace().map(str::len).sum::<usize>().wrapping_neg() % 4);
        let pem =
            Zeroizing::new(format!("-----BEGIN A-----\n{}{padding}\n-----END A-----\n", base64.trim_end_matches('=')));
        for mut block in Pem::iter_from_buffer(pem.as_bytes()).flatten() {
            let found = of_der(&block.contents);
            block.contents.zeroize();
            found?;
        }
    }
    Ok(())
}

fn of_json(text: &str) -> Result<(), Fault> {
    let Ok(value) = serde_json::from_str::<Value>(text) else { return Ok(()) };
    let first = value.get("keys").unwrap_or(&value);
    let first = first.get(0).unwrap_or(first);
    match (first.get("kty").and_then(Value::as_str), first.get("d").is_some()) {
        (None, _) => fault("is JSON, and not a secret", NEW),
        (Some("oct"), _) => fault("is a secret in the form of a JWK", NEW),
        (_, true) => fault("is a private key in the form of a JWK", PRIVATE),
        (_, false) => fault("is a public key in the form of a JWK", JWKS),
    }
}

fn of_der(der: &[u8]) -> Result<(), Fault> {
    if X509Certificate::from_der(der).is_ok() {
        return fault("is a certificate", CERTIFICATE);
    }
    if SubjectPublicKeyInfo::from_der(der).is_ok_and(|(rest, _)| rest.iter().all(u8::is_ascii_whitespace))
        || RSAPublicKey::from_der(der).is_ok_and(|(rest, _)| rest.iter().all(u8::is_ascii_whitespace))
    {
        return fault("is a public key", PUBLIC);
    }
    // PKCS#8, PKCS#1 and SEC 1: a sequence whose first member is the version, 0 or 1.
    let is_private = parse_der(der).ok().is_some_and(|(_, object)| {
        let version = object.as_sequence().ok().and_then(|members| members.first()).map(|member| member.as_u32());
        matches!(version, Some(Ok(0 | 1)))
    });
    if is_private { fault("is a private key", PRIVATE) } else { Ok(()) }
}

/// What people or programs have put around it.
fn of_spelling(text: &str) -> Result<(), Fault> {
    if text.contains(['\n', '\r']) {
        return fault("has several lines", PLAIN);
    }
    if text.contains('\0') {
        return fault("contains zero bytes; it may be UTF-16 text", PLAIN);
    }
    if let Some(c) = text.chars().find(|c| is_unseen(*c)) {
        return Err((format!("contains a character that nobody sees (U+{:04X})", u32::from(c)), PLAIN));
    }
    let is_quote = |c: char| "\"'`“”„‘’«»".contains(c);
    if text.starts_with(is_quote) && text.ends_with(is_quote) {
        return fault("is in quotes, which other programs remove", PLAIN);
    }
    let name = text.split(['=', ':']).next().unwrap_or_default();
    let value = text.get(name.len()..).unwrap_or_default();
    let is_assigned = !value.is_empty() && !value.trim_start_matches('=').is_empty();
    if is_assigned && is_a_name(name) {
        return fault("begins with a name (NAME=secret)", PLAIN);
    }
    Ok(())
}

fn is_a_name(text: &str) -> bool {
    let text = text.trim();
    let text = text.strip_prefix("export ").unwrap_or(text).trim();
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let is_shouted = text.len() > 2 && text.contains('_') && !text.contains(|c: char| c.is_ascii_lowercase());
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(is_word)
        && text.len() <= 64
        && (is_shouted || NAMES.iter().any(|name| lower.contains(name)))
}

/// Control characters, spaces that are none of ASCII, and what has no width or turns the direction of a text.
fn is_unseen(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && c != ' ')
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData;

    use super::*;

    fn said(bytes: impl AsRef<[u8]>) -> String {
        match secret_in(bytes.as_ref()) {
            Ok(_) => "taken".to_owned(),
            Err((why, remedy)) => format!("{why}. {remedy}"),
        }
    }

    #[test]
    fn a_key_is_no_secret_in_whatever_form() {
        let pair = rcgen::KeyPair::generate().unwrap();
        let spki = pair.subject_public_key_info();
        let pem = pair.public_key_pem();
        let lines: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
        let certificate = rcgen::CertificateParams::new(vec!["a".to_owned()]).unwrap().self_signed(&pair).unwrap();
        let jwk = r#"{"kty":"EC","crv":"P-256","x":"AAAA","y":"AAAA"}"#;
        let public = [
            pem.clone(),
            lines.clone(),
            format!("\n{lines}\n"),
            lines.trim_end_matches('=').replace('+', "-").replace('/', "_"),
        ];
        for text in &public {
            assert!(
                said(text).contains("is a public key") && said(text).contains("auth.public_keys"),
                "{text}: {}",
                said(text)
            );
        }
        assert!(said(&spki).contains("is a public key"), "{}", said(&spki));
        let wrapped = "LS0tLS1CRUdJTiBQVUJMSUMgS0VZLS0tLS0KTUZrd0V3WUhLb1pJemowQ0FRWUlLb1pJemowREFRY0RRZ0FF";
        assert!(said(wrapped).contains("in base64"));
        for bytes in [certificate.pem().into_bytes(), certificate.der().to_vec()] {
            assert!(said(&bytes).contains("is a certificate") && said(&bytes).contains("tls.cert"), "{}", said(&bytes));
        }
        for bytes in [pair.serialize_pem().into_bytes(), pair.serialize_der()] {
            assert!(said(&bytes).contains("is a private key") && said(&bytes).contains("-pubout"), "{}", said(&bytes));
        }
        for text in [jwk.to_owned(), format!("{{\"keys\": [{jwk}]}}"), format!("[{jwk}]")] {
            assert!(said(&text).contains("public key") && said(&text).contains("auth.jwks_file"), "{}", said(&text));
        }
        assert!(said(r#"{"kty":"EC","crv":"P-256","x":"A","y":"A","d":"A"}"#).contains("private key"));
        assert!(said(r#"{"kty":"oct","k":"AAAA"}"#).contains("in the form of a JWK"));
        assert!(said("ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQC7 me@here").contains("ssh-keygen -e -m PKCS8"));
        assert!(said("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI3In0.c2lnbmF0dXJl").contains("is a token"));
        assert!(said("https://idp.example.org/.well-known/jwks.json").contains("auth.jwks_file"));
        assert!(said("/proc/self/status").contains("auth.jwt_secret_file"));
    }

    #[test]
    fn what_the_other_side_would_read_as_another_secret_is_refused() {
        let good = "0123456789abcdef0123456789abcdef";
        let utf16: Vec<u8> = good.bytes().flat_map(|byte| [byte, 0]).collect();
        for (text, says) in [
            (format!("\"{good}\"").into_bytes(), "in quotes"),
            (format!("'{good}'\n").into_bytes(), "in quotes"),
            (format!("“{good}”").into_bytes(), "in quotes"),
            (format!("JWT_SECRET={good}").into_bytes(), "begins with a name"),
            (format!("export JWT_SECRET={good}").into_bytes(), "begins with a name"),
            (format!("jwt_secret = \"{good}\"").into_bytes(), "begins with a name"),
            (format!("secret: {good}").into_bytes(), "begins with a name"),
            (format!("ACADEMY_A={good}").into_bytes(), "begins with a name"),
            (format!("{good}\n{good}\n").into_bytes(), "several lines"),
            (format!("{good}\r{good}").into_bytes(), "several lines"),
            (format!("\u{feff}{good}").into_bytes(), "byte order mark"),
            ([&[0xff, 0xfe], utf16.as_slice()].concat(), "UTF-16"),
            (utf16, "zero bytes"),
            (format!("{good}\u{7}").into_bytes(), "U+0007"),
            (format!("{good}\u{200b}").into_bytes(), "U+200B"),
            (format!("{good}\u{a0}").into_bytes(), "U+00A0"),
            (format!("0\t{good}").into_bytes(), "U+0009"),
            (vec![0xc3; 40], "not UTF-8"),
        ] {
            assert!(said(&text).contains(says), "{says}: {}", said(&text));
        }
    }

    #[test]
    fn secrets_of_every_kind_are_taken() {
        for text in [
            "0123456789abcdef0123456789abcdef",
            "q83vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq80=",
            "MIIvEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq8==",
            "a secret that somebody has put there by hand",
            "/vEjRWeJq83vEjRWeJq83vEjRWeJq83vEjRWeJq8",
            "x=9f$K\"l{2;'p:[w]Zr8=e,Tq/uN0-Bd_Vc~a",
            "{9f$K\"l{2;'p:[w]Zr8=e,Tq/uN0-Bd_Vc~a}",
            "ein Schlüssel mit Umlauten, lang genug für alle",
        ] {
            assert_eq!(secret_in(format!(" {text}\r\n").as_bytes()).unwrap(), text);
        }
    }
}
