//! The keys that signatures are checked with. Each is bound to the algorithms of its own kind: what a token's header says
//! chooses among the keys, and never what a key is used for.

use std::path::{Path, PathBuf};

use aws_lc_rs::signature as checked;
use aws_lc_rs::signature::ParsedPublicKey;
use jsonwebtoken::jwk::{Jwk, ThumbprintHash};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind, Header, TokenData, Validation};

use crate::config::Secret;
use crate::domain::Timestamp;
use crate::domain::problem::Problem;

use super::TokenError;
use super::claims::Claims;

/// So many keys may be in force at once.
pub const MAX_KEYS: usize = 32;
/// A token that names no key is tried with so many public ones: as many as there are while an issuer changes its key. Each costs 20
/// (RSA of 2048 bits) to 60 microseconds (P-256), and a stranger can send many such tokens.
pub const MAX_TRIED: usize = 2;
/// The longest `kid` of a key, in bytes.
pub const MAX_KID_BYTES: usize = 256;
/// RSA keys of fewer bits are broken, or soon will be,
const MIN_RSA_BITS: usize = 2_048;
/// and of more are not verified by the library.
const MAX_RSA_BITS: usize = 8_192;

const HAS_ENDED: &str = "the key that it was signed with is not accepted any more; sign in again";

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// What is wrong with a key, or with a file of keys. It never has a secret in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", problem.why)]
pub struct KeyError {
    /// What, why, and what to do.
    pub problem: Problem,
    /// Whether there is merely no secret yet.
    pub is_absent: bool,
}

impl KeyError {
    /// An error with its three sentences.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> KeyError {
        KeyError { problem: Problem::new(what, why, remedy), is_absent: false }
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Problem {
        error.problem
    }
}

/// Why bytes are not a key that can be used, and what to do.
pub(super) type Fault = (String, &'static str);

/// Where a key comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The environment, by this name.
    Environment(String),
    /// A credential of systemd.
    Credential(PathBuf),
    /// The secret's file: one that is configured, or the one in the data directory.
    SecretFile(PathBuf),
    /// The key ring in the data directory.
    Ring(PathBuf),
    /// A file with a public key.
    PublicKey(PathBuf),
    /// The JWKS file.
    Jwks(PathBuf),
    /// Somebody's hand.
    Given,
}

impl KeyOrigin {
    /// What kind of place it is, in a word for programs.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            KeyOrigin::Environment(_) => "environment",
            KeyOrigin::Credential(_) => "credential",
            KeyOrigin::SecretFile(_) => "file",
            KeyOrigin::Ring(_) => "ring",
            KeyOrigin::PublicKey(_) => "pem",
            KeyOrigin::Jwks(_) => "jwks",
            KeyOrigin::Given => "given",
        }
    }

    /// The file, if it is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            KeyOrigin::Credential(path)
            | KeyOrigin::SecretFile(path)
            | KeyOrigin::Ring(path)
            | KeyOrigin::PublicKey(path)
            | KeyOrigin::Jwks(path) => Some(path),
            KeyOrigin::Environment(_) | KeyOrigin::Given => None,
        }
    }
}

impl std::fmt::Display for KeyOrigin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match (self, self.path()) {
            (KeyOrigin::Environment(name), _) => write!(f, "environment {name}"),
            (KeyOrigin::Credential(_), Some(path)) => write!(f, "credential {}", path.display()),
            (_, Some(path)) => write!(f, "{}", path.display()),
            _ => f.write_str("given"),
        }
    }
}

/// One key, with what it may be used for.
#[derive(Clone)]
pub struct Key {
    /// What a token's header may call it; none for a secret that nobody has named.
    pub kids: Vec<String>,
    /// Where it comes from.
    pub origin: KeyOrigin,
    /// Tokens that are signed with it are good until then.
    pub until: Option<Timestamp>,
    /// When it was made, where that is known.
    pub created: Option<Timestamp>,
    /// Whether its issuer has named it: then it is no candidate for a token that names another key.
    is_named_by_issuer: bool,
    decoding: DecodingKey,
    /// The algorithms that it is bound to, all of one family.
    validation: Validation,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Key").field("kids", &self.kids).field("origin", &self.origin).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Key {
    /// Its name, or else where it comes from.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.kids.last() {
            Some(kid) => write!(f, "'{kid}' of {}", self.origin),
            None => write!(f, "{}", self.origin),
        }
    }
}

impl Key {
    /// A shared secret: HS256, HS384, HS512 and nothing else.
    #[must_use]
    pub fn of_secret(secret: &Secret, origin: KeyOrigin) -> Key {
        Key::new(DecodingKey::from_secret(secret.expose().as_bytes()), HMAC, origin)
    }

    /// A public key: the algorithms of its kind, whatever they are.
    pub(super) fn of_public(decoding: DecodingKey, origin: KeyOrigin) -> Result<Key, Fault> {
        let algorithms = algorithms_of(&decoding)?;
        Ok(Key::new(decoding, algorithms, origin))
    }

    fn new(decoding: DecodingKey, algorithms: &[Algorithm], origin: KeyOrigin) -> Key {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.algorithms = algorithms.to_vec();
        // Times, issuer and audience are checked elsewhere: against the server's clock, and with errors of their own.
        validation.required_spec_claims.clear();
        validation.validate_exp = false;
        validation.validate_nbf = false;
        validation.validate_aud = false;
        Key { kids: Vec::new(), origin, until: None, created: None, is_named_by_issuer: false, decoding, validation }
    }

    /// The same key, for one algorithm of its kind alone; `None` if that is not of its kind.
    pub(super) fn bound_to(mut self, algorithm: Algorithm) -> Option<Key> {
        if !self.validation.algorithms.contains(&algorithm) {
            return None;
        }
        self.validation.algorithms = vec![algorithm];
        Some(self)
    }

    /// The same key under the name that its issuer has given it.
    pub(super) fn named_by_issuer(self, kid: String) -> Key {
        Key { kids: vec![kid], is_named_by_issuer: true, ..self }
    }

    /// The same key, and more names for it.
    #[must_use]
    pub fn called(mut self, kids: impl IntoIterator<Item = String>) -> Key {
        for kid in kids {
            if !self.kids.contains(&kid) {
                self.kids.push(kid);
            }
        }
        self
    }

    /// The same key, made then, and good until then.
    #[must_use]
    pub fn lasting(self, created: Option<Timestamp>, until: Option<Timestamp>) -> Key {
        Key { created, until, ..self }
    }

    /// Its thumbprint (RFC 7638, SHA-256) if it is a public one: of a secret one would help to guess it.
    #[must_use]
    pub fn thumbprint(&self) -> Option<String> {
        if self.is_secret() {
            return None;
        }
        let jwk = Jwk::from_decoding_key(&self.decoding, None).ok()?;
        jwk.thumbprint(ThumbprintHash::SHA256).ok()
    }

    /// Whether it is a shared secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.decoding.family() == AlgorithmFamily::Hmac
    }

    /// The names of the algorithms that it is for.
    #[must_use]
    pub fn algorithms(&self) -> Vec<String> {
        self.validation.algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect()
    }

    /// Whether it is the same key, whatever it is called and until when it is good.
    #[must_use]
    pub fn is_same_key(&self, other: &Key) -> bool {
        match (self.decoding.kind(), other.decoding.kind()) {
            (DecodingKeyKind::SecretOrDer(bytes), DecodingKeyKind::SecretOrDer(others)) => {
                self.decoding.family() == other.decoding.family() && bytes == others
            }
            (
                DecodingKeyKind::RsaModulusExponent { n, e },
                DecodingKeyKind::RsaModulusExponent { n: other_n, e: other_e },
            ) => n == other_n && e == other_e,
            _ => false,
        }
    }

    fn is_for(&self, algorithm: Algorithm) -> bool {
        self.validation.algorithms.contains(&algorithm)
    }

    fn is_called(&self, kid: &str) -> bool {
        self.kids.iter().any(|name| name == kid)
    }

    /// Whether its time is over.
    #[must_use]
    pub fn has_ended(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }
}

/// The algorithms of a public key, which the library has looked at: a point that is on no curve is no key.
fn algorithms_of(key: &DecodingKey) -> Result<&'static [Algorithm], Fault> {
    let bytes = key.try_get_as_bytes().unwrap_or_default();
    // The library reads hybrid points (X9.62, 4.3.6) as keys, and then verifies nothing with them.
    let is_uncompressed = bytes.first() == Some(&0x04);
    match (key.family(), bytes.len()) {
        (AlgorithmFamily::Hmac, _) => Err(("it is a shared secret".to_owned(), "Give a public key.")),
        (AlgorithmFamily::Rsa, _) => match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, e } => rsa_algorithms(n, e),
            DecodingKeyKind::SecretOrDer(_) => Err(no_rsa_key()),
        },
        (AlgorithmFamily::Ec, 65 | 97) if !is_uncompressed => {
            let why = "its point is not in the uncompressed form";
            Err((why.to_owned(), "Export the public key again, with its point uncompressed."))
        }
        (AlgorithmFamily::Ec, 65) if ParsedPublicKey::new(&checked::ECDSA_P256_SHA256_FIXED, bytes).is_ok() => {
            Ok(&[Algorithm::ES256])
        }
        (AlgorithmFamily::Ec, 97) if ParsedPublicKey::new(&checked::ECDSA_P384_SHA384_FIXED, bytes).is_ok() => {
            Ok(&[Algorithm::ES384])
        }
        (AlgorithmFamily::Ec, 65 | 97) => {
            Err(("its point is not on its curve".to_owned(), "Export the public key again, from the private one."))
        }
        (AlgorithmFamily::Ec, _) => {
            let why = "it is neither of P-256 nor of P-384, or its point is compressed";
            Err((why.to_owned(), "Give a P-256 key for ES256 or a P-384 key for ES384, its point uncompressed."))
        }
        (AlgorithmFamily::Ed, _) if ParsedPublicKey::new(&checked::ED25519, bytes).is_ok() => Ok(&[Algorithm::EdDSA]),
        (AlgorithmFamily::Ed, _) => Err(("it is no Ed25519 key".to_owned(), "Give an Ed25519 key for EdDSA.")),
    }
}

fn no_rsa_key() -> Fault {
    ("it is no RSA key".to_owned(), "Export the public key again, from the private one.")
}

fn rsa_algorithms(modulus: &[u8], exponent: &[u8]) -> Result<&'static [Algorithm], Fault> {
    let modulus: Vec<u8> = modulus.iter().copied().skip_while(|byte| *byte == 0).collect();
    let bits = 8 * modulus.len() - modulus.first().map_or(0, |byte| byte.leading_zeros() as usize);
    // With the exponent 1 every message is its own signature.
    let is_odd = |number: &[u8]| number.last().is_some_and(|byte| byte % 2 == 1);
    if !is_odd(&modulus) || !is_odd(exponent) || exponent.iter().map(|byte| u32::from(*byte)).sum::<u32>() == 1 {
        return Err(no_rsa_key());
    }
    if bits < MIN_RSA_BITS {
        let why = format!("it is an RSA key of {bits} bits; {MIN_RSA_BITS} are the least");
        return Err((why, "Make a longer one: academy-rt key new FILE --alg RS256, or ES256."));
    }
    if bits > MAX_RSA_BITS {
        let why = format!("it is an RSA key of {bits} bits; {MAX_RSA_BITS} are the most");
        return Err((why, "Use a shorter one: 3072 bits are plenty."));
    }
    Ok(RSA)
}

/// All keys in force, in the order in which they are tried.
#[derive(Debug, Clone, Default)]
pub struct Keys(Vec<Key>);

impl Keys {
    /// These keys.
    ///
    /// # Errors
    /// If there are more than [`MAX_KEYS`].
    pub fn new(keys: Vec<Key>) -> Result<Keys, KeyError> {
        if keys.len() > MAX_KEYS {
            let why = format!("there are {} keys, and {MAX_KEYS} are the most", keys.len());
            let remedy = "Take out of auth.public_keys and auth.jwks_file what nobody signs with any more.";
            return Err(KeyError::new("the keys cannot be used", why, remedy));
        }
        Ok(Keys(keys))
    }

    /// One shared secret.
    #[must_use]
    pub fn of_secret(secret: &Secret) -> Keys {
        Keys(vec![Key::of_secret(secret, KeyOrigin::Given)])
    }

    /// The keys.
    pub fn iter(&self) -> impl Iterator<Item = &Key> {
        self.0.iter()
    }

    /// An algorithm that more public keys are for than a token without a name is tried with, those apart that their issuer has named.
    #[must_use]
    pub fn crowded(&self) -> Option<String> {
        let is_crowded = |algorithm: &&Algorithm| {
            self.0.iter().filter(|key| !key.is_secret() && !key.is_named_by_issuer && key.is_for(**algorithm)).count()
                > MAX_TRIED
        };
        let all = self.0.iter().flat_map(|key| &key.validation.algorithms);
        all.into_iter().find(is_crowded).map(|algorithm| format!("{algorithm:?}"))
    }

    /// The claims of a token whose signature one of the keys fits.
    ///
    /// A token that names a key (`kid`) is tried with that key alone. One that names none, or one by a name that nobody here
    /// knows, is tried with the keys of its algorithm, of public ones at most [`MAX_TRIED`]; keys that their issuer has named in a JWKS file are no candidates
    /// for another name.
    pub(super) fn open(&self, token: &str, header: &Header, now: Timestamp) -> Result<Claims, TokenError> {
        let named = header.kid.as_deref().filter(|kid| self.0.iter().any(|key| key.is_called(kid)));
        let is_chosen = |key: &&Key| match (named, &header.kid) {
            (Some(kid), _) => key.is_called(kid),
            (None, Some(_)) => !key.is_named_by_issuer,
            (None, None) => true,
        };
        let candidates = || self.0.iter().filter(is_chosen).filter(|key| key.is_for(header.alg));
        let mut refusal = match candidates().find(|key| key.has_ended(now)) {
            Some(_) if named.is_some() => TokenError::Invalid(HAS_ENDED),
            _ => self.nothing_fits(named, header),
        };
        let most = if header.alg.family() == AlgorithmFamily::Hmac { MAX_KEYS } else { MAX_TRIED };
        for key in candidates().filter(|key| !key.has_ended(now)).take(most) {
            match jsonwebtoken::decode::<Claims>(token, &key.decoding, &key.validation) {
                Ok(TokenData { claims, .. }) => return Ok(claims),
                Err(error) => match super::refusal(&error) {
                    // What another key may put right is the signature alone.
                    wrong @ TokenError::Invalid(why) if why == super::WRONG_SIGNATURE => refusal = wrong,
                    other => return Err(other),
                },
            }
        }
        Err(refusal)
    }

    fn nothing_fits(&self, named: Option<&str>, header: &Header) -> TokenError {
        TokenError::Invalid(match (named, &header.kid) {
            (Some(_), _) => "its algorithm is not one of the key that it names (kid)",
            (None, _) if !self.0.iter().any(|key| key.is_for(header.alg)) => "there is no key here for its algorithm",
            (None, Some(_)) => "no key here has the name (kid) that it gives",
            (None, None) => super::WRONG_SIGNATURE,
        })
    }
}
