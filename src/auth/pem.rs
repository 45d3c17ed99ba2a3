//! Public keys in PEM: `PUBLIC KEY` (SPKI, RFC 7468), `RSA PUBLIC KEY` (PKCS#1), or the key of a certificate.

use std::path::Path;

use jsonwebtoken::DecodingKey;
use x509_parser::certificate::X509Certificate;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION, OID_SIG_ED25519,
};
use x509_parser::pem::Pem;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::config::trusted_file::Trust;
use crate::domain::pem;

use super::file::read_public;
use super::keys::{Fault, Key, KeyError, KeyOrigin};

/// What such a file looks like.
const FORM: &str = "Use a public key in PEM (-----BEGIN PUBLIC KEY-----). To get it from a private key, run: openssl pkey -in FILE -pubout.";

/// The key of a file. Tokens may call it by its thumbprint (RFC 7638) or by the file's name without its extension.
///
/// # Errors
/// What is wrong with it, and what to do. A private key is refused, and never shown.
pub(super) fn read(path: &Path, trust: &Trust) -> Result<Key, KeyError> {
    let bytes = read_public(path, "public key", "auth.public_keys", trust)?;
    let key = parse(&bytes).and_then(|decoding| Key::of_public(decoding, KeyOrigin::PublicKey(path.to_owned())));
    let key = key.map_err(|(why, remedy)| {
        KeyError::new(format!("the public key {} cannot be used", path.display()), why, remedy)
    })?;
    let thumbprint = key.thumbprint();
    let stem = path.file_stem().and_then(|stem| stem.to_str()).map(ToOwned::to_owned);
    Ok(key.called(thumbprint.into_iter().chain(stem)))
}

/// The one public key in a text; of a chain of certificates, that of the first.
pub(super) fn parse(text: &[u8]) -> Result<DecodingKey, Fault> {
    let (mut blocks, text) = (Vec::new(), pem::plain(text));
    for block in Pem::iter_from_buffer(&text) {
        blocks.push(block.map_err(|_| ("it is not PEM".to_owned(), FORM))?);
    }
    if blocks.iter().any(|block| block.label.contains("PRIVATE KEY")) {
        let why = "it contains a private key, which only the signer of tokens may have";
        return Err((
            why.to_owned(),
            "Use the public key (openssl pkey -in FILE -pubout). Keep the private key only where tokens are signed.",
        ));
    }
    let is_chain = blocks.iter().all(|block| block.label == "CERTIFICATE");
    let block = match blocks.as_slice() {
        [] => return Err(("it contains no PEM".to_owned(), FORM)),
        [block] => block,
        [block, ..] if is_chain => block,
        _ => return Err(("it contains several keys".to_owned(), "Put each key into a file of its own.")),
    };
    let broken = || (format!("its {} is malformed", block.label), FORM);
    match block.label.as_str() {
        "RSA PUBLIC KEY" => of_pkcs1(&block.contents).ok_or_else(broken),
        "PUBLIC KEY" => {
            let (rest, info) = SubjectPublicKeyInfo::from_der(&block.contents).map_err(|_| broken())?;
            if rest.is_empty() && info.subject_public_key.unused_bits == 0 { of_info(&info) } else { Err(broken()) }
        }
        "CERTIFICATE" => {
            let (_, certificate) = X509Certificate::from_der(&block.contents).map_err(|_| broken())?;
            of_info(certificate.public_key())
        }
        _ => Err(("it contains PEM of another type".to_owned(), FORM)),
    }
}

/// Without the zero that keeps a number positive: JWKs, and so thumbprints, have none.
fn of_pkcs1(der: &[u8]) -> Option<DecodingKey> {
    let (rest, key) = RSAPublicKey::from_der(der).ok()?;
    let number = |bytes: &[u8]| bytes.iter().copied().skip_while(|byte| *byte == 0).collect::<Vec<u8>>();
    rest.is_empty().then(|| DecodingKey::from_rsa_raw_components(&number(key.modulus), &number(key.exponent)))
}

fn of_info(info: &SubjectPublicKeyInfo<'_>) -> Result<DecodingKey, Fault> {
    let kind = &info.algorithm.algorithm;
    let curve = info.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let bytes = &info.subject_public_key.data;
    let is_of_curve = |length, oid| bytes.len() == length && curve.as_ref() == Some(&oid);
    if *kind == OID_PKCS1_RSAENCRYPTION {
        of_pkcs1(bytes).ok_or_else(|| ("its RSA key is malformed".to_owned(), FORM))
    } else if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY && (is_of_curve(65, OID_EC_P256) || is_of_curve(97, OID_NIST_EC_P384))
    {
        Ok(DecodingKey::from_ec_der(bytes))
    } else if *kind == OID_SIG_ED25519 {
        Ok(DecodingKey::from_ed_der(bytes))
    } else {
        let why = "it is not an RSA, P-256, P-384 (with an uncompressed point) or Ed25519 key";
        Err((why.to_owned(), "Create a key with: academy-rt key new FILE --alg ES256 (or RS256, ES384, EdDSA)."))
    }
}
