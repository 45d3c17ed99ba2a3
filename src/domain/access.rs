//! Revocations of tokens and blocks of users, as pure rules over the claims of a token.

use super::{Actor, Timestamp, UserId};

/// What somebody is refused for, however good their token is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Ban {
    /// One token, by its `jti`.
    Token(String),
    /// A user's tokens issued before a moment. A token that does not say when it was issued counts as issued before.
    TokensOf(UserId),
    /// Everybody's tokens issued before a moment.
    AllTokens,
    /// A user, with whatever token.
    User(UserId),
}

impl std::fmt::Display for Ban {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ban::Token(id) => write!(f, "token {id}"),
            Ban::TokensOf(user) => write!(f, "tokens of user {user}"),
            Ban::AllTokens => f.write_str("all tokens"),
            Ban::User(user) => write!(f, "user {user}"),
        }
    }
}

/// A ban that stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Banned {
    /// What is banned.
    pub ban: Ban,
    /// Of [`Ban::TokensOf`] and [`Ban::AllTokens`]: tokens issued before this. Of the others: since when.
    pub before: Timestamp,
    /// From when on it means nothing any more, as the token has ended by itself; `None`: never.
    pub until: Option<Timestamp>,
    /// Who set it.
    pub by: String,
    /// When it was set.
    pub at: Timestamp,
}

impl Banned {
    /// This ban, set where another one of the same subject stands: the later moment holds, and what never ended does not
    /// begin to.
    #[must_use]
    pub fn following(self, standing: Option<&Banned>) -> Banned {
        let Some(standing) = standing else { return self };
        let until = match (self.until, standing.until) {
            (Some(until), Some(before)) => Some(until.max(before)),
            _ => None,
        };
        Banned { before: self.before.max(standing.before), until, ..self }
    }
}

/// The longest `jti` that can be revoked, in characters.
pub const MAX_TOKEN_ID_CHARS: usize = 256;

/// Why somebody is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Barred {
    /// The token has been revoked.
    Revoked,
    /// The user is blocked.
    Blocked,
}

/// When a token was issued, as far as it says so. A `NumericDate` may have been rounded down to its second, so that a token
/// of the very second of a revocation counts as issued before it: to come back a second later is better than a hole.
#[must_use]
pub fn is_issued_before(actor: &Actor, moment: Timestamp) -> bool {
    actor.issued_at.is_none_or(|issued_at| issued_at < moment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_of_the_moment_itself_is_not_issued_before_it_and_one_that_does_not_say_is() {
        let issued = |at: Option<u64>| Actor { issued_at: at.map(Timestamp), ..Actor::local_admin() };
        assert!(is_issued_before(&issued(Some(999)), Timestamp(1_000)));
        assert!(!is_issued_before(&issued(Some(1_000)), Timestamp(1_000)));
        assert!(!is_issued_before(&issued(Some(1_001)), Timestamp(1_000)));
        assert!(is_issued_before(&issued(None), Timestamp(1_000)));
    }

    #[test]
    fn of_two_bans_the_later_moments_hold() {
        let ban = |before: u64, until: Option<u64>, by: &str| Banned {
            ban: Ban::AllTokens,
            before: Timestamp(before),
            until: until.map(Timestamp),
            by: by.to_owned(),
            at: Timestamp(1),
        };
        let after = |new: Banned, standing: Option<&Banned>| new.following(standing);
        assert_eq!(after(ban(5, Some(10), "a"), Some(&ban(7, Some(8), "b"))), ban(7, Some(10), "a"));
        assert_eq!(after(ban(7, Some(8), "a"), Some(&ban(5, Some(10), "b"))), ban(7, Some(10), "a"));
        assert_eq!(
            after(ban(5, Some(10), "a"), Some(&ban(5, None, "b"))),
            ban(5, None, "a"),
            "it does not begin to end"
        );
        assert_eq!(after(ban(5, None, "a"), Some(&ban(5, Some(10), "b"))), ban(5, None, "a"));
        assert_eq!(after(ban(5, Some(10), "a"), None), ban(5, Some(10), "a"));
    }
}
