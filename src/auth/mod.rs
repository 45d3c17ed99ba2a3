//! From a token to an [`Actor`]. The sole home of `jsonwebtoken`: the signature and the algorithm are checked by it, the
//! times here, against the clock that is handed in. A token never appears in an error.

pub mod claims;
mod file;
pub mod generation;
mod jwks;
pub mod keys;
mod lookalikes;
mod pem;
pub mod ring;
pub mod rotation;
pub mod secret;
pub mod sources;

use std::time::Duration;

use arc_swap::ArcSwap;
use jsonwebtoken::{Algorithm, EncodingKey, Header};

use crate::config::{Auth, Secret};
use crate::domain::{Actor, Role, Timestamp, UserId};

use claims::Claims;
pub use claims::Grant;
pub use keys::{Key, KeyError, KeyOrigin, Keys};
pub use sources::SigningKey;

/// Seconds of a day.
const DAY: u64 = 24 * 60 * 60;
/// The longest token that is looked at, in bytes.
pub const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// Why a token is not good. Each message says what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// There is none.
    #[error("no token was given; send it as auth.token, as the query parameter token, or as a bearer header")]
    Missing,
    /// It is not a JWT.
    #[error("the token is not a JWT; send it exactly as it was issued")]
    Malformed,
    /// The signature, the algorithm or a claim is wrong.
    #[error("the token is not valid here: {0}")]
    Invalid(&'static str),
    /// It has ended.
    #[error("the token has expired; sign in again")]
    Expired,
    /// It is not good yet: the claim, and what is wrong with it.
    #[error("the token is not valid yet: {0}")]
    NotYetValid(&'static str),
}

/// Verifies tokens. What it goes by can be changed while it is in use.
pub struct Verifier(ArcSwap<Rules>);

/// What tokens are verified by.
struct Rules {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
    leeway: Duration,
    require_exp: bool,
    role_map: Vec<(String, Role)>,
    rejects_in_handshake: bool,
}

impl std::fmt::Debug for Verifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Verifier").finish_non_exhaustive()
    }
}

impl Verifier {
    /// A verifier for one shared secret.
    #[must_use]
    pub fn new(auth: &Auth, secret: &Secret) -> Verifier {
        Verifier::with_keys(auth, Keys::of_secret(secret))
    }

    /// A verifier for keys.
    #[must_use]
    pub fn with_keys(auth: &Auth, keys: Keys) -> Verifier {
        Verifier(ArcSwap::from_pointee(Rules::new(auth, keys)))
    }

    /// Goes by another configuration and other keys from now on. Tokens that were verified before stay what they were.
    pub fn replace(&self, auth: &Auth, keys: Keys) {
        self.0.store(std::sync::Arc::new(Rules::new(auth, keys)));
    }

    /// The keys in force.
    #[must_use]
    pub fn keys(&self) -> Keys {
        self.0.load().keys.clone()
    }

    /// For how long a token is good behind its end.
    #[must_use]
    pub fn leeway(&self) -> Duration {
        self.0.load().leeway
    }

    /// Whether a bad token is refused in the handshake of Socket.IO, rather than by an event.
    #[must_use]
    pub fn rejects_in_handshake(&self) -> bool {
        self.0.load().rejects_in_handshake
    }

    /// Whose a token is that is not good, if its signature is: for the log, which must not name whom anybody may claim to be.
    #[must_use]
    pub fn whose(&self, token: &str, now: Timestamp) -> Option<UserId> {
        self.0.load().whose(token, now)
    }

    /// Who a token says one is.
    ///
    /// # Errors
    /// Why it is not good, at `now`.
    pub fn verify(&self, token: &str, now: Timestamp) -> Result<Actor, TokenError> {
        self.0.load().verify(token, now)
    }
}

impl Rules {
    fn new(auth: &Auth, keys: Keys) -> Rules {
        Rules {
            keys,
            issuer: auth.issuer.clone(),
            audience: auth.audience.clone(),
            leeway: auth.leeway,
            require_exp: auth.require_exp,
            role_map: auth.role_map.clone(),
            rejects_in_handshake: auth.rejects_in_handshake(),
        }
    }

    /// The claims of a token whose signature is good.
    fn open(&self, token: &str, now: Timestamp) -> Result<Claims, TokenError> {
        let token = token.trim();
        let scheme = token.strip_prefix("Bearer").filter(|rest| rest.is_empty() || rest.starts_with(' '));
        let token = scheme.unwrap_or(token).trim();
        if token.is_empty() {
            return Err(TokenError::Missing);
        }
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| header_refusal(&error))?;
        // RFC 7515, 4.1.11: who does not know an extension that is marked critical must refuse. The library does not look.
        if header.crit.is_some() {
            return Err(TokenError::Invalid("its header asks for an extension (crit) that is not known here"));
        }
        self.keys.open(token, &header, now)
    }

    fn whose(&self, token: &str, now: Timestamp) -> Option<UserId> {
        let claims = self.open(token, now).ok()?;
        claims.into_actor(&self.role_map).ok().map(|actor| actor.user)
    }

    fn verify(&self, token: &str, now: Timestamp) -> Result<Actor, TokenError> {
        let claims = self.open(token, now)?;
        self.check_times(&claims, now)?;
        if let Some(issuer) = &self.issuer
            && !claims.is_from(issuer)
        {
            return Err(TokenError::Invalid("its issuer is another one"));
        }
        if let Some(audience) = &self.audience
            && !claims.is_for(audience)
        {
            return Err(TokenError::Invalid("it is for another audience"));
        }
        claims.into_actor(&self.role_map)
    }

    fn check_times(&self, claims: &Claims, now: Timestamp) -> Result<(), TokenError> {
        match claims.exp {
            None if self.require_exp => return Err(TokenError::Invalid("it has no end (exp)")),
            Some(exp) if exp.is_plainly_in_milliseconds(now) => {
                return Err(TokenError::Invalid("its exp is in milliseconds; write it in seconds"));
            }
            Some(exp) if exp.timestamp().plus(self.leeway) <= now => return Err(TokenError::Expired),
            _ => {}
        }
        let from = [
            (
                claims.nbf,
                "its nbf is in milliseconds; write it in seconds",
                "its nbf is later than the clock of the server",
            ),
            (
                claims.iat,
                "its iat is in milliseconds; write it in seconds",
                "its iat is later than the clock of the server; compare that with the clock of who signs tokens",
            ),
        ];
        for (from, in_milliseconds, later) in from {
            let Some(from) = from.filter(|from| from.timestamp() > now.plus(self.leeway)) else { continue };
            let is_in_milliseconds = from.as_milliseconds().is_some_and(|at| at <= now.plus(Duration::from_secs(DAY)));
            return Err(TokenError::NotYetValid(if is_in_milliseconds { in_milliseconds } else { later }));
        }
        Ok(())
    }
}

const WRONG_ALGORITHM: TokenError = TokenError::Invalid("its algorithm is none of HS, RS, PS, ES and EdDSA");
const WRONG_SIGNATURE: &str = "its signature fits none of the keys here";

/// In a header that is JSON, what is not as it must be is the algorithm: `none` is not one that the library knows.
fn header_refusal(error: &jsonwebtoken::errors::Error) -> TokenError {
    match error.kind() {
        jsonwebtoken::errors::ErrorKind::Json(error) if error.is_data() => match error.to_string() {
            words if words.contains("unknown variant") => WRONG_ALGORITHM,
            words if words.contains("duplicate field") => TokenError::Invalid("its header has a member twice"),
            words if words.contains("missing field") => TokenError::Invalid("its header names no algorithm (alg)"),
            _ => TokenError::Invalid(
                "a member of its header does not have its type: alg, typ and kid are texts, and x5c is a list of texts",
            ),
        },
        _ => refusal(error),
    }
}

fn refusal(error: &jsonwebtoken::errors::Error) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidSignature => TokenError::Invalid(WRONG_SIGNATURE),
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::MissingAlgorithm => WRONG_ALGORITHM,
        ErrorKind::InvalidToken | ErrorKind::Base64(_) | ErrorKind::Utf8(_) => TokenError::Malformed,
        ErrorKind::Json(error) if error.is_data() => TokenError::Invalid(claims::wrong(&error.to_string())),
        ErrorKind::Json(_) => TokenError::Malformed,
        _ => TokenError::Invalid("it cannot be verified"),
    }
}

/// Why a token was not issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the token could not be signed: {0}")]
pub struct IssueError(String);

/// Signs a token for tests or for a back end, with HS256. It names the key if that has a name.
///
/// # Errors
/// What the library says.
pub fn issue(signing: &SigningKey, grant: &Grant) -> Result<String, IssueError> {
    let key = EncodingKey::from_secret(signing.secret.expose().as_bytes());
    let header = Header { kid: signing.kid.clone(), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, grant, &key).map_err(|error| IssueError(error.to_string()))
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
