//! The errors a client can see: the code on the wire, the HTTP status, and whether a retry may help. One table for both
//! transports.

use std::borrow::Cow;
use std::time::Duration;

use serde::Serialize;

use crate::domain::{IdError, Refusal};

/// A wire code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request is not what the contract says.
    InvalidPayload,
    /// The socket has not joined the room.
    NotJoined,
    /// The asker may not do this.
    Forbidden,
    /// There is no such thing.
    NotFound,
    /// The request is over a size limit.
    TooLarge,
    /// Too many requests; `retryAfterMs` says when to come back.
    RateLimited,
    /// The request contradicts what is stored.
    Conflict,
    /// The cursor or `after` is not of this store's life: start anew.
    Resync,
    /// Not acknowledged; try again with the same `clientId` or `syncId`.
    Unavailable,
    /// A defect of the server; the log has the cause.
    Internal,
    /// No token was given.
    TokenMissing,
    /// The token is not a JWT.
    TokenMalformed,
    /// Signature, algorithm, issuer, audience or claims are wrong.
    TokenInvalid,
    /// The token has expired.
    TokenExpired,
    /// The token is not valid yet.
    TokenNotYetValid,
    /// The token has been revoked.
    TokenRevoked,
    /// The user is blocked.
    UserBlocked,
    /// Socket.IO is switched off; use the HTTP API.
    RealtimeDisabled,
    /// The HTTP method does not fit the address.
    MethodNotAllowed,
}

impl ErrorCode {
    /// All of them, in the order of the documentation.
    pub const ALL: [ErrorCode; 19] = [
        ErrorCode::InvalidPayload,
        ErrorCode::NotJoined,
        ErrorCode::Forbidden,
        ErrorCode::NotFound,
        ErrorCode::TooLarge,
        ErrorCode::RateLimited,
        ErrorCode::Conflict,
        ErrorCode::Resync,
        ErrorCode::Unavailable,
        ErrorCode::Internal,
        ErrorCode::TokenMissing,
        ErrorCode::TokenMalformed,
        ErrorCode::TokenInvalid,
        ErrorCode::TokenExpired,
        ErrorCode::TokenNotYetValid,
        ErrorCode::TokenRevoked,
        ErrorCode::UserBlocked,
        ErrorCode::RealtimeDisabled,
        ErrorCode::MethodNotAllowed,
    ];

    /// What it means and what a client does about it: the documentation's table is made of these.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            ErrorCode::InvalidPayload => {
                "The request does not have the form that is described here; `field` names what is wrong. The client corrects the request."
            }
            ErrorCode::NotJoined => {
                "The socket has not joined the room that the request is about. The client sends `chat:join` first."
            }
            ErrorCode::Forbidden => {
                "The user may not do this: the room is private or locked, the message is somebody else's, or the token lacks a role or a scope. The client does not try again. With `retryAfterMs`, the user is muted for so long: the client shows it and lets the user write again then."
            }
            ErrorCode::NotFound => {
                "There is no such room, message, notification, user or address. The client removes it from what it shows."
            }
            ErrorCode::TooLarge => "The request exceeds a size limit. The client sends less.",
            ErrorCode::RateLimited => {
                "The user or the address sends too many requests. The client waits for `retryAfterMs` and sends the same request again."
            }
            ErrorCode::Conflict => {
                "The request contradicts what is stored: its key was used with another content, a legal hold forbids it, or the socket is in as many rooms as it may be. The client uses a new key, leaves a room first, or gives up."
            }
            ErrorCode::Resync => {
                "The cursor, or `after`, does not belong to the present data, for example after a restore. The client reads the state anew and goes on from there."
            }
            ErrorCode::Unavailable => {
                "The server could not store the request and has acknowledged nothing. The client waits for `retryAfterMs` and tries again with the same `clientId` or `syncId`."
            }
            ErrorCode::Internal => "The server has a defect; its log has the cause. The client may try again later.",
            ErrorCode::TokenMissing => "The connection or the request has no token. The client signs in.",
            ErrorCode::TokenMalformed => "The token is not a JWT. The client fetches a new token.",
            ErrorCode::TokenInvalid => {
                "The signature, the algorithm, the issuer, the audience or a claim of the token is wrong. The client fetches a new token."
            }
            ErrorCode::TokenExpired => "The token has expired. The client fetches a new token.",
            ErrorCode::TokenNotYetValid => {
                "The token is not valid yet (`nbf`, or `iat` in the future). Compare the clocks of the server and of whoever signs tokens."
            }
            ErrorCode::TokenRevoked => "The token was revoked. The user signs in again.",
            ErrorCode::UserBlocked => {
                "An administrator has blocked the user. The client does not connect again by itself."
            }
            ErrorCode::RealtimeDisabled => "Socket.IO is switched off. The client uses the HTTP API.",
            ErrorCode::MethodNotAllowed => {
                "The HTTP method does not exist at this address. The client corrects the request."
            }
        }
    }

    /// The code on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            ErrorCode::InvalidPayload => "invalid_payload",
            ErrorCode::NotJoined => "not_joined",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::NotFound => "not_found",
            ErrorCode::TooLarge => "too_large",
            ErrorCode::RateLimited => "rate_limited",
            ErrorCode::Conflict => "conflict",
            ErrorCode::Resync => "resync",
            ErrorCode::Unavailable => "unavailable",
            ErrorCode::Internal => "internal",
            ErrorCode::TokenMissing => "token_missing",
            ErrorCode::TokenMalformed => "token_malformed",
            ErrorCode::TokenInvalid => "token_invalid",
            ErrorCode::TokenExpired => "token_expired",
            ErrorCode::TokenNotYetValid => "token_not_yet_valid",
            ErrorCode::TokenRevoked => "token_revoked",
            ErrorCode::UserBlocked => "user_blocked",
            ErrorCode::RealtimeDisabled => "realtime_disabled",
            ErrorCode::MethodNotAllowed => "method_not_allowed",
        }
    }

    /// The HTTP status that goes with it.
    #[must_use]
    pub fn http_status(self) -> u16 {
        match self {
            ErrorCode::InvalidPayload => 400,
            ErrorCode::TokenMissing
            | ErrorCode::TokenMalformed
            | ErrorCode::TokenInvalid
            | ErrorCode::TokenExpired
            | ErrorCode::TokenNotYetValid
            | ErrorCode::TokenRevoked => 401,
            ErrorCode::Forbidden | ErrorCode::NotJoined | ErrorCode::UserBlocked => 403,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::Conflict => 409,
            ErrorCode::Resync => 410,
            ErrorCode::TooLarge => 413,
            ErrorCode::RateLimited => 429,
            ErrorCode::Internal => 500,
            ErrorCode::Unavailable | ErrorCode::RealtimeDisabled => 503,
        }
    }
}

/// An error as a client sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
#[error("{}: {message}", code.as_str())]
pub struct ApiError {
    /// The code.
    pub code: ErrorCode,
    /// A sentence for people that says what to do.
    pub message: Cow<'static, str>,
    /// The field of the request that is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// When to try again, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_ms: Option<u64>,
}

impl ApiError {
    /// An error without a field.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { code, message: message.into(), field: None, retry_after_ms: None }
    }

    /// A field that is not what it must be.
    #[must_use]
    pub fn field(field: impl Into<String>, message: impl Into<Cow<'static, str>>) -> ApiError {
        ApiError { field: Some(field.into()), ..ApiError::new(ErrorCode::InvalidPayload, message) }
    }

    /// Too many of something; come back after a while.
    #[must_use]
    pub fn rate_limited(retry_after: Duration, message: impl Into<Cow<'static, str>>) -> ApiError {
        let retry_after_ms = u64::try_from(retry_after.as_millis()).unwrap_or(u64::MAX).max(1);
        ApiError { retry_after_ms: Some(retry_after_ms), ..ApiError::new(ErrorCode::RateLimited, message) }
    }

    /// The server stops; who comes again in a moment finds the next one.
    #[must_use]
    pub fn stopping() -> ApiError {
        ApiError {
            retry_after_ms: Some(1_000),
            ..ApiError::new(ErrorCode::Unavailable, "the server is stopping; try again in a moment")
        }
    }

    /// The server cannot take the request now.
    #[must_use]
    pub fn unavailable() -> ApiError {
        ApiError {
            retry_after_ms: Some(1_000),
            ..ApiError::new(
                ErrorCode::Unavailable,
                "nothing was acknowledged; try again with the same clientId or syncId",
            )
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> ApiError {
        match refusal {
            Refusal::NotFound => ApiError::new(ErrorCode::NotFound, "there is no such thing here"),
            Refusal::Forbidden => ApiError::new(ErrorCode::Forbidden, "you may not do this"),
            Refusal::Conflict => ApiError::new(ErrorCode::Conflict, "this contradicts what is stored"),
            Refusal::KeyReused => {
                ApiError::new(ErrorCode::Conflict, "this key was used for another request; use a new one")
            }
            Refusal::Resync => {
                ApiError::new(ErrorCode::Resync, "this position is not of this server's data; start without it")
            }
            Refusal::Held(holds) => {
                let message = format!("a legal hold stands against this: {holds}; release it first");
                ApiError::new(ErrorCode::Conflict, message)
            }
            Refusal::SeveralHolds(holds) => ApiError::new(
                ErrorCode::Conflict,
                format!("several legal holds stand on it: {holds}; say which one by its number"),
            ),
            Refusal::Erasing(user) => ApiError::new(
                ErrorCode::Conflict,
                format!("an erasure of user {user} is under way; try again when it has ended"),
            ),
            Refusal::Removing(room) => ApiError::new(
                ErrorCode::Conflict,
                format!(
                    "a removal of room {room} is under way, and its messages are going; try again when it has ended"
                ),
            ),
            Refusal::TooManyLessons(user, most) => ApiError {
                field: Some("lessonId".to_owned()),
                ..ApiError::new(
                    ErrorCode::Conflict,
                    format!(
                        "user {user} has progress of {most} lessons already, and may have no more; report one of these"
                    ),
                )
            },
            Refusal::Muted { user, until, now } => {
                let left = until.as_millis().saturating_sub(now.as_millis()).max(1);
                let message =
                    format!("user {user} is muted here for another {}, and may go on reading", words_of_a_wait(left));
                ApiError { retry_after_ms: Some(left), ..ApiError::new(ErrorCode::Forbidden, message) }
            }
            Refusal::Locked => ApiError {
                field: Some("roomId".to_owned()),
                ..ApiError::new(
                    ErrorCode::Forbidden,
                    "this room is locked: its moderators and administrators write in it, and others may go on reading",
                )
            },
            Refusal::TooSoon(wait) => {
                let left = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
                let message = format!("this room is in slow mode; write again in {}", words_of_a_wait(left));
                ApiError::rate_limited(wait, message)
            }
            Refusal::Deleted(message) => ApiError {
                field: Some("messageId".to_owned()),
                ..ApiError::new(ErrorCode::NotFound, format!("message {message} has been deleted"))
            },
            Refusal::KeepsOrder(user) => ApiError {
                field: Some("userId".to_owned()),
                ..ApiError::new(
                    ErrorCode::Forbidden,
                    format!("user {user} is a moderator of this room or an administrator, and cannot be muted in it"),
                )
            },
            Refusal::Unsettled => ApiError {
                retry_after_ms: Some(1_000),
                ..ApiError::new(
                    ErrorCode::Unavailable,
                    "what a released hold kept is still being removed; try again in a moment",
                )
            },
            Refusal::BelowFloor => ApiError::new(
                ErrorCode::Conflict,
                "this user's data are younger than retention.floor; erase them with consent (--consent)",
            ),
        }
    }
}

/// So many milliseconds, rounded up to what a person would say.
fn words_of_a_wait(millis: u64) -> String {
    let minutes = millis.div_ceil(60_000);
    match (millis.div_ceil(1_000), minutes, minutes.div_ceil(60)) {
        (seconds @ 0..=90, ..) => format!("{seconds} s"),
        (_, minutes @ 0..=90, _) => format!("{minutes} minutes"),
        (.., hours @ 0..=48) => format!("{hours} hours"),
        (.., hours) => format!("{} days", hours.div_ceil(24)),
    }
}

/// An id in a URL or on a command line that is none.
impl From<IdError> for ApiError {
    fn from(error: IdError) -> ApiError {
        let field = match error {
            IdError::User => "userId",
            IdError::Room | IdError::Reserved => "roomId",
            IdError::Lesson => "lessonId",
            IdError::NotARoomName => "room",
        };
        ApiError::field(field, format!("{field} {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_spelled_alike_in_json_and_in_text() {
        for code in [ErrorCode::InvalidPayload, ErrorCode::TokenNotYetValid, ErrorCode::RealtimeDisabled] {
            assert_eq!(serde_json::to_string(&code).unwrap(), format!("\"{}\"", code.as_str()));
        }
    }

    #[test]
    fn a_wait_is_said_as_a_person_would() {
        let said: Vec<String> =
            [1, 90_000, 90_001, 7_200_000, 172_800_000, 172_800_001].map(words_of_a_wait).into_iter().collect();
        assert_eq!(said, ["1 s", "90 s", "2 minutes", "2 hours", "48 hours", "3 days"]);
    }

    #[test]
    fn an_error_shows_only_the_fields_it_has() {
        let json = |error: &ApiError| serde_json::to_string(error).unwrap();
        assert_eq!(
            json(&ApiError::new(ErrorCode::NotJoined, "join first")),
            r#"{"code":"not_joined","message":"join first"}"#
        );
        assert_eq!(
            json(&ApiError::rate_limited(Duration::from_millis(120), "slow down")),
            r#"{"code":"rate_limited","message":"slow down","retryAfterMs":120}"#
        );
    }
}
