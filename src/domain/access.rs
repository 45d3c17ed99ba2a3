//! Revocations of tokens and blocks of users, as pure rules over the claims of a token; and who may read and not write.

use std::collections::HashMap;
use std::time::Duration;

use super::{Actor, Refusal, RoomId, Timestamp, UserId};

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
    /// What a user writes, in one room or everywhere. They may be there and read.
    Mute {
        /// The user.
        user: UserId,
        /// The room; `None`: everywhere.
        room: Option<RoomId>,
    },
}

impl Ban {
    /// Whom it names, if it names a user.
    #[must_use]
    pub fn user(&self) -> Option<&UserId> {
        match self {
            Ban::TokensOf(user) | Ban::User(user) | Ban::Mute { user, .. } => Some(user),
            Ban::Token(_) | Ban::AllTokens => None,
        }
    }

    /// The same on whoever `of` gives for the user.
    #[must_use]
    pub fn on(self, of: impl FnOnce(UserId) -> UserId) -> Ban {
        match self {
            Ban::TokensOf(user) => Ban::TokensOf(of(user)),
            Ban::User(user) => Ban::User(of(user)),
            Ban::Mute { user, room } => Ban::Mute { user: of(user), room },
            ban @ (Ban::Token(_) | Ban::AllTokens) => ban,
        }
    }
}

impl std::fmt::Display for Ban {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Ban::Token(id) => write!(f, "token {id}"),
            Ban::TokensOf(user) => write!(f, "tokens of user {user}"),
            Ban::AllTokens => f.write_str("all tokens"),
            Ban::User(user) => write!(f, "user {user}"),
            Ban::Mute { user, room: None } => write!(f, "mute of user {user}"),
            Ban::Mute { user, room: Some(room) } => write!(f, "mute of user {user} in room {room}"),
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
    /// begin to. A mute takes the place of the one before, also if it ends earlier.
    #[must_use]
    pub fn following(self, standing: Option<&Banned>) -> Banned {
        let Some(standing) = standing.filter(|_| !matches!(self.ban, Ban::Mute { .. })) else { return self };
        let until = match (self.until, standing.until) {
            (Some(until), Some(before)) => Some(until.max(before)),
            _ => None,
        };
        Banned { before: self.before.max(standing.before), until, ..self }
    }
}

/// The shortest mute.
pub const SHORTEST_MUTE: Duration = Duration::from_secs(1);
/// The longest mute; whoever is to write no more at all is blocked, or taken out of the room.
pub const LONGEST_MUTE: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// Who may not write, where and until when. It says the same inside the store's transactions and of what passes unstored.
#[derive(Debug, Clone, Default)]
pub struct Mutes(HashMap<UserId, Vec<(Option<RoomId>, Timestamp)>>);

impl Mutes {
    /// A ban stands; one that is no mute changes nothing here.
    pub fn set(&mut self, banned: &Banned) {
        if let (Ban::Mute { user, room }, Some(until)) = (&banned.ban, banned.until) {
            self.lift(&banned.ban);
            self.0.entry(user.clone()).or_default().push((room.clone(), until));
        }
    }

    /// A ban stands no more.
    pub fn lift(&mut self, ban: &Ban) {
        let Ban::Mute { user, room } = ban else { return };
        if let Some(mutes) = self.0.get_mut(user) {
            mutes.retain(|(muted_in, _)| muted_in != room);
            if mutes.is_empty() {
                self.0.remove(user);
            }
        }
    }

    /// Nothing stands of a user any more.
    pub fn forget_user(&mut self, user: &UserId) {
        self.0.remove(user);
    }

    /// Nothing stands of a room any more.
    pub fn forget_room(&mut self, room: &RoomId) {
        self.0.retain(|_, mutes| {
            mutes.retain(|(muted_in, _)| muted_in.as_ref() != Some(room));
            !mutes.is_empty()
        });
    }

    /// The mutes of a user: where, and until when.
    #[must_use]
    pub fn of(&self, user: &UserId) -> &[(Option<RoomId>, Timestamp)] {
        self.0.get(user).map(Vec::as_slice).unwrap_or_default()
    }

    /// Who is muted in a room by name, and not everywhere.
    pub fn muted_in(&self, room: &RoomId) -> impl Iterator<Item = &UserId> {
        let is_of = |mutes: &Vec<(Option<RoomId>, Timestamp)>| mutes.iter().any(|(at, _)| at.as_ref() == Some(room));
        self.0.iter().filter(move |(_, mutes)| is_of(mutes)).map(|(user, _)| user)
    }

    /// Refuses who may not write in a room at this moment. An administrator is as muted as anybody.
    ///
    /// # Errors
    /// [`Refusal::Muted`], with the latest end of what stands.
    pub fn may_write(&self, user: &UserId, room: &RoomId, now: Timestamp) -> Result<(), Refusal> {
        let here =
            self.of(user).iter().filter(|(muted_in, _)| muted_in.as_ref().is_none_or(|muted_in| muted_in == room));
        match here.map(|(_, until)| *until).filter(|until| *until > now).max() {
            Some(until) => Err(Refusal::Muted { user: user.clone(), until, now }),
            None => Ok(()),
        }
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
    fn a_mute_holds_where_it_was_set_until_it_ends_and_the_last_word_counts() {
        let (ann, bob) = (UserId::parse("7").unwrap(), UserId::parse("8").unwrap());
        let (french, english) = (RoomId::parse("french").unwrap(), RoomId::parse("english").unwrap());
        let mute = |room: Option<&RoomId>, until| Banned {
            ban: Ban::Mute { user: ann.clone(), room: room.cloned() },
            before: Timestamp(0),
            until: Some(Timestamp(until)),
            by: "1".to_owned(),
            at: Timestamp(0),
        };
        let mut mutes = Mutes::default();
        mutes.set(&mute(Some(&french), 100));
        let until = |mutes: &Mutes, user: &UserId, room: &RoomId, now| match mutes.may_write(user, room, Timestamp(now))
        {
            Err(Refusal::Muted { until, .. }) => Some(until.0),
            _ => None,
        };
        assert_eq!(until(&mutes, &ann, &french, 99), Some(100));
        assert_eq!(until(&mutes, &ann, &french, 100), None, "it has ended by itself");
        assert_eq!(until(&mutes, &ann, &english, 99), None);
        assert_eq!(until(&mutes, &bob, &french, 99), None);
        // 7 and "7" are one user, and so are rooms.
        let number: UserId = serde_json::from_str("7").unwrap();
        assert_eq!(until(&mutes, &number, &french, 99), Some(100));
        mutes.set(&mute(None, 50));
        assert_eq!((until(&mutes, &ann, &english, 49), until(&mutes, &ann, &french, 49)), (Some(50), Some(100)));
        mutes.set(&mute(Some(&french), 60));
        assert_eq!(until(&mutes, &ann, &french, 59), Some(60), "the later word, though it ends earlier");
        assert_eq!(mute(None, 5).following(Some(&mute(None, 9))).until, Some(Timestamp(5)));
        mutes.lift(&mute(None, 0).ban);
        assert_eq!(until(&mutes, &ann, &english, 1), None);
        mutes.forget_room(&french);
        assert!(mutes.of(&ann).is_empty());
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
