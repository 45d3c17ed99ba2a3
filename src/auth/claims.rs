//! The claims of a token, as the academy's platform mints them, and what they say of a person.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::domain::{Actor, Id, Role, Scope, Timestamp, UserId};

use super::TokenError;

/// The last millisecond of the year 9999.
const END_OF_TIME_MS: u64 = 253_402_300_799_999;

/// Seconds since the epoch; JWT allows a fraction.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(transparent)]
pub struct NumericDate(f64);

impl NumericDate {
    /// The instant. What lies before the epoch is the epoch; what lies beyond the year 9999 is its end, so that whoever
    /// adds to it or shows it in a browser stays within a number that both can hold.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; a float cast saturates")]
    pub fn timestamp(self) -> Timestamp {
        Timestamp(((self.0.max(0.0) * 1000.0) as u64).min(END_OF_TIME_MS))
    }

    /// The instant if milliseconds were meant: a number of this size is thousands of years ahead in seconds.
    #[must_use]
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped; a float cast saturates")]
    pub(super) fn as_milliseconds(self) -> Option<Timestamp> {
        (self.0 >= 1e11).then(|| Timestamp((self.0 as u64).min(END_OF_TIME_MS)))
    }

    /// Whether an end is one of our time in milliseconds, so that the token would be good for thousands of years in seconds.
    /// The year 9999 in seconds, which somebody may mean, is a moment of 1978 in milliseconds.
    pub(super) fn is_plainly_in_milliseconds(self, now: Timestamp) -> bool {
        const CENTURY: Duration = Duration::from_secs(100 * 366 * 86_400);
        const YEAR_2001: Timestamp = Timestamp(1_000_000_000_000);
        self.as_milliseconds().is_some_and(|at| at >= YEAR_2001 && at <= now.plus(CENTURY))
    }
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn list(&self) -> &[String] {
        match self {
            OneOrMany::One(one) => std::slice::from_ref(one),
            OneOrMany::Many(many) => many,
        }
    }
}

/// What is read of a token; other claims are passed over. What may go unread (the ids behind the first, the issuer and
/// the audience where none is configured) stays a [`Value`] until it is read: it refuses no token before.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    #[serde(rename = "userId")]
    user_id: Option<Value>,
    id: Option<Value>,
    sub: Option<Value>,
    name: Option<String>,
    role: Option<String>,
    roles: Option<OneOrMany>,
    scope: Option<String>,
    jti: Option<String>,
    aud: Option<Value>,
    iss: Option<Value>,
    pub(super) exp: Option<NumericDate>,
    pub(super) nbf: Option<NumericDate>,
    pub(super) iat: Option<NumericDate>,
}

/// What is wrong with claims that cannot be read, by the words of the library.
pub(super) fn wrong(words: &str) -> &'static str {
    const TWICE: [(&str, &str); 14] = [
        ("`userId`", "it has its claim userId twice"),
        ("`id`", "it has its claim id twice"),
        ("`sub`", "it has its claim sub twice"),
        ("`name`", "it has its claim name twice"),
        ("`role`", "it has its claim role twice"),
        ("`roles`", "it has its claim roles twice"),
        ("`scope`", "it has its claim scope twice"),
        ("`jti`", "it has its claim jti twice"),
        ("`aud`", "it has its claim aud twice"),
        ("`iss`", "it has its claim iss twice"),
        ("`exp`", "it has its claim exp twice"),
        ("`nbf`", "it has its claim nbf twice"),
        ("`iat`", "it has its claim iat twice"),
        ("", "it has a claim twice"),
    ];
    if words.contains("duplicate field") {
        return TWICE.iter().find(|(name, _)| words.contains(name)).map_or("it has a claim twice", |(_, says)| says);
    }
    if words.contains("expected f64") {
        return "its exp, nbf or iat is not a number; write a time in seconds";
    }
    if words.contains("OneOrMany") {
        return "its roles are neither a text nor a list of texts";
    }
    if words.contains("expected a string") {
        return "its name, role, scope or jti is not a text";
    }
    "a claim does not have its type"
}

/// The longest display name, in characters; a longer one is cut.
const MAX_NAME_CHARS: usize = 200;

impl Claims {
    pub(super) fn is_for(&self, audience: &str) -> bool {
        match &self.aud {
            Some(Value::Array(many)) => many.iter().any(|one| one == audience),
            Some(one) => one == audience,
            None => false,
        }
    }

    pub(super) fn is_from(&self, issuer: &str) -> bool {
        self.iss.as_ref().is_some_and(|iss| iss == issuer)
    }

    pub(super) fn into_actor(self, role_map: &[(String, Role)]) -> Result<Actor, TokenError> {
        let id = self.user_id.or(self.id).or(self.sub).ok_or(TokenError::Invalid("it names no user"))?;
        let claimed = id.as_str().map(str::to_owned);
        let user = serde_json::from_value(id).ok().and_then(|id: Id| UserId::new(id).ok());
        let user = user.ok_or(TokenError::Invalid("its user id is not one"))?;
        if user.is_reserved() {
            return Err(TokenError::Invalid("its user id is the server's own"));
        }
        let claimed_roles: Vec<&str> = match (&self.role, &self.roles) {
            (Some(role), _) => vec![role],
            (None, Some(roles)) => roles.list().iter().map(String::as_str).collect(),
            (None, None) => Vec::new(),
        };
        let roles = if claimed_roles.is_empty() {
            vec![Role::Learner]
        } else {
            let has =
                |role: Role| role_map.iter().any(|(claim, to)| *to == role && claimed_roles.contains(&claim.as_str()));
            Role::ALL.into_iter().filter(|role| has(*role)).collect()
        };
        let scopes = self.scope.as_deref().unwrap_or_default().split_whitespace().filter_map(Scope::parse).collect();
        Ok(Actor {
            claimed_as: claimed.filter(|text| *text != user.canonical()),
            user,
            name: self.name.unwrap_or_default().chars().filter(|c| !c.is_control()).take(MAX_NAME_CHARS).collect(),
            roles,
            scopes,
            expires_at: self.exp.map(NumericDate::timestamp),
            token_id: self.jti,
            issued_at: self.iat.map(NumericDate::timestamp),
            lacks_certificate: false,
        })
    }
}

/// What a new token says.
#[derive(Debug, Clone, Serialize)]
pub struct Grant {
    /// The user.
    #[serde(rename = "userId")]
    pub user: UserId,
    /// The display name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The role.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// Scopes, separated by spaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<String>,
    /// The token's own id.
    #[serde(rename = "jti", skip_serializing_if = "Option::is_none")]
    pub token_id: Option<String>,
    /// The issuer, if the server asks for one.
    #[serde(rename = "iss", skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The audience, if the server asks for one.
    #[serde(rename = "aud", skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// When it is issued, in seconds since the epoch.
    #[serde(rename = "iat")]
    pub issued_at_secs: u64,
    /// When it ends, in seconds since the epoch.
    #[serde(rename = "exp")]
    pub expires_at_secs: u64,
}
