//! New keys for whoever signs tokens: a shared secret, or a private key with its public one, in PEM.

use std::str::FromStr;

use aws_lc_rs::signature::Ed25519KeyPair;
use rcgen::{KeyPair, RsaKeySize};
use zeroize::Zeroizing;

use super::keys::{Key, KeyError, KeyOrigin};
use super::{pem, secret};

/// What a key is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// HS256, HS384, HS512: a secret that both sides share.
    Secret,
    /// RS256 to RS512 and PS256 to PS512: RSA of 3072 bits.
    Rsa,
    /// ES256: the curve P-256.
    P256,
    /// ES384: the curve P-384.
    P384,
    /// EdDSA: Ed25519.
    Ed25519,
}

/// The algorithms that keys are made for.
pub const ALGORITHMS: [&str; 12] =
    ["HS256", "HS384", "HS512", "ES256", "ES384", "EdDSA", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512"];

impl FromStr for KeyKind {
    type Err = String;

    fn from_str(algorithm: &str) -> Result<KeyKind, String> {
        match algorithm {
            "HS256" | "HS384" | "HS512" => Ok(KeyKind::Secret),
            "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => Ok(KeyKind::Rsa),
            "ES256" => Ok(KeyKind::P256),
            "ES384" => Ok(KeyKind::P384),
            "EdDSA" => Ok(KeyKind::Ed25519),
            _ => Err(format!("must be one of {}", ALGORITHMS.join(", "))),
        }
    }
}

/// A key that was made.
pub struct NewKey {
    /// The secret or the private key, as the text of its file.
    pub private: Zeroizing<String>,
    /// The public key in PEM and its thumbprint, if it is a pair.
    pub public: Option<(String, String)>,
}

impl std::fmt::Debug for NewKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewKey").field("public", &self.public).finish_non_exhaustive()
    }
}

/// Makes a key. It takes a moment for RSA.
///
/// # Errors
/// If the system has no random numbers.
pub fn generate(kind: KeyKind) -> Result<NewKey, KeyError> {
    let failed = |why: &dyn std::fmt::Display| KeyError::new("the key cannot be created", why, "Check /dev/urandom.");
    let pair = match kind {
        KeyKind::Secret => {
            let secret = secret::random().map_err(|error| failed(&error))?;
            return Ok(NewKey { private: secret::line(&secret), public: None });
        }
        KeyKind::Rsa => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        KeyKind::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyKind::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyKind::Ed25519 => {
            // In the first version of PKCS#8: OpenSSL, and so Node, does not read the second, which rcgen writes.
            let made = Ed25519KeyPair::generate().and_then(|pair| pair.to_pkcs8v1());
            let made = made.map_err(|_| failed(&"the reason is unknown"))?;
            KeyPair::try_from(made.as_ref())
        }
    };
    let pair = pair.map_err(|error| failed(&error))?;
    let public = pair.public_key_pem();
    // Read as the server reads it: what it would not take is given to nobody.
    let key = pem::parse(public.as_bytes()).and_then(|key| Key::of_public(key, KeyOrigin::Given));
    let key = key.map_err(|(why, _)| failed(&why))?;
    let thumbprint = key.thumbprint().unwrap_or_default();
    Ok(NewKey { private: Zeroizing::new(pair.serialize_pem()), public: Some((public, thumbprint)) })
}
