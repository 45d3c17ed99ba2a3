//! Revocations and blocks, which apply whatever a token says. They are held in memory, so that each connection and
//! each request is looked at for the price of a look-up, and nobody waits for the store. A change is durable first, then in
//! memory, then the sockets that it is about are closed: the last two by [`super::subscriber`].

use std::collections::{HashMap, HashSet};

use parking_lot::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::domain::access::{Ban, Banned, Barred, Mutes, is_issued_before};
use crate::domain::{Actor, Refusal, RoomId, Timestamp, UserId};
use crate::protocol::error::{ApiError, ErrorCode};

/// All bans, by what is asked of them. At most [`MAX_BANS`], and those that could not be stored.
#[derive(Debug, Clone, Default)]
struct AccessBook {
    /// `jti`, and until when it matters.
    tokens: HashMap<String, Option<Timestamp>>,
    /// Tokens issued before this.
    users: HashMap<UserId, Timestamp>,
    everybody: Option<Timestamp>,
    blocked: HashSet<UserId>,
    mutes: Mutes,
}

impl AccessBook {
    fn of(bans: Vec<Banned>) -> AccessBook {
        let mut book = AccessBook::default();
        bans.into_iter().for_each(|banned| book.set(banned));
        book
    }

    fn set(&mut self, banned: Banned) {
        self.mutes.set(&banned);
        match banned.ban {
            Ban::Token(id) => drop(self.tokens.insert(id, banned.until)),
            Ban::TokensOf(user) => drop(self.users.insert(user, banned.before)),
            Ban::AllTokens => self.everybody = Some(banned.before),
            Ban::User(user) => drop(self.blocked.insert(user)),
            Ban::Mute { .. } => {}
        }
    }

    fn lift(&mut self, ban: &Ban) {
        match ban {
            Ban::Token(id) => drop(self.tokens.remove(id)),
            Ban::TokensOf(user) => drop(self.users.remove(user)),
            Ban::AllTokens => self.everybody = None,
            Ban::User(user) => drop(self.blocked.remove(user)),
            Ban::Mute { .. } => self.mutes.lift(ban),
        }
    }

    /// Why a user or token is refused at this moment, if it is.
    fn barred(&self, actor: &Actor, now: Timestamp) -> Option<Barred> {
        if self.blocked.contains(&actor.user) {
            return Some(Barred::Blocked);
        }
        let token = actor.token_id.as_ref().and_then(|id| self.tokens.get(id));
        let is_revoked = token.is_some_and(|until| until.is_none_or(|until| until > now))
            || self.users.get(&actor.user).is_some_and(|moment| is_issued_before(actor, *moment))
            || self.everybody.is_some_and(|moment| is_issued_before(actor, moment));
        is_revoked.then_some(Barred::Revoked)
    }
}

/// The revocations and blocks in force.
#[derive(Debug, Default)]
pub(crate) struct Access(RwLock<AccessBook>);

impl Access {
    fn read(&self) -> RwLockReadGuard<'_, AccessBook> {
        self.0.read()
    }

    fn change(&self) -> RwLockWriteGuard<'_, AccessBook> {
        self.0.write()
    }

    /// These bans stand, and no others.
    pub(crate) fn replace(&self, bans: Vec<Banned>) {
        *self.change() = AccessBook::of(bans);
    }

    /// A ban stands.
    pub(crate) fn set(&self, banned: Banned) {
        self.change().set(banned);
    }

    /// A ban stands no more.
    pub(crate) fn lift(&self, ban: &Ban) {
        self.change().lift(ban);
    }

    /// Refuses who may not write in a room at this moment, of what is not stored.
    ///
    /// # Errors
    /// As [`Mutes::may_write`].
    pub(crate) fn may_write(&self, user: &UserId, room: &RoomId, now: Timestamp) -> Result<(), Refusal> {
        self.read().mutes.may_write(user, room, now)
    }

    /// Until when somebody is muted in a room at this moment; `None` if they are not.
    pub(crate) fn muted_until(&self, user: &UserId, room: &RoomId, now: Timestamp) -> Option<Timestamp> {
        match self.may_write(user, room, now) {
            Err(Refusal::Muted { until, .. }) => Some(until),
            _ => None,
        }
    }

    /// Nobody is muted any more who is erased.
    pub(crate) fn forget_mutes_of(&self, user: &UserId) {
        self.change().mutes.forget_user(user);
    }

    /// Nobody is muted in a room that is gone.
    pub(crate) fn forget_mutes_in(&self, room: &RoomId) {
        self.change().mutes.forget_room(room);
    }

    /// Whether a user is blocked, and the moment before which their tokens are revoked.
    pub(crate) fn state_of(&self, user: &UserId) -> (bool, Option<Timestamp>) {
        let book = self.read();
        (book.blocked.contains(user), book.users.get(user).copied())
    }

    /// Whether a ban would refuse somebody who is let in now.
    pub(crate) fn would_bar(&self, banned: &Banned, actor: &Actor, now: Timestamp) -> bool {
        let alone = AccessBook::of(vec![banned.clone()]);
        alone.barred(actor, now).is_some() && self.read().barred(actor, now).is_none()
    }

    /// The error for a user or token that is refused at this moment.
    pub(crate) fn barred(&self, actor: &Actor, now: Timestamp) -> Option<ApiError> {
        self.read().barred(actor, now).map(refusal)
    }
}

fn refusal(barred: Barred) -> ApiError {
    match barred {
        Barred::Revoked => ApiError::new(ErrorCode::TokenRevoked, "the token has been revoked; sign in again"),
        Barred::Blocked => ApiError::new(
            ErrorCode::UserBlocked,
            "this account may not connect here any more; ask whoever administers the service",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actor(id: &str, token: Option<&str>, issued_at: Option<u64>) -> Actor {
        Actor {
            user: UserId::parse(id).unwrap(),
            token_id: token.map(str::to_owned),
            issued_at: issued_at.map(Timestamp),
            ..Actor::local_admin()
        }
    }

    fn banned(ban: Ban, before: u64, until: Option<u64>) -> Banned {
        Banned { ban, before: Timestamp(before), until: until.map(Timestamp), by: "1".into(), at: Timestamp(0) }
    }

    #[test]
    fn each_ban_is_for_what_it_names() {
        let user = |id: &str| UserId::parse(id).unwrap();
        let book = AccessBook::of(vec![
            banned(Ban::Token("j".into()), 0, Some(1_000)),
            banned(Ban::TokensOf(user("7")), 500, None),
            banned(Ban::AllTokens, 100, None),
            banned(Ban::User(user("8")), 0, None),
        ]);
        let barred = |who: &Actor, now| book.barred(who, Timestamp(now));
        assert_eq!(barred(&actor("1", Some("j"), Some(900)), 999), Some(Barred::Revoked));
        assert_eq!(barred(&actor("1", Some("j"), Some(900)), 1_000), None, "it has ended by itself");
        assert_eq!(barred(&actor("1", Some("k"), Some(900)), 999), None);
        assert_eq!(barred(&actor("7", None, Some(499)), 999), Some(Barred::Revoked));
        assert_eq!(barred(&actor("7", None, Some(500)), 999), None);
        assert_eq!(barred(&actor("7", None, None), 999), Some(Barred::Revoked), "it does not say when it was issued");
        assert_eq!(barred(&actor("1", None, Some(99)), 999), Some(Barred::Revoked));
        assert_eq!(barred(&actor("1", None, Some(100)), 999), None);
        assert_eq!(barred(&actor("8", Some("x"), Some(999_999)), 999), Some(Barred::Blocked));
        assert_eq!(barred(&actor("1", None, Some(999)), 999), None);
        // 7 and "7" are the same person.
        let number: UserId = serde_json::from_str("7").unwrap();
        assert!(barred(&Actor { user: number, ..actor("x", None, Some(1)) }, 999).is_some());
    }

    #[test]
    fn a_later_revocation_of_the_same_holds_and_an_earlier_one_takes_nothing_back() {
        let first = banned(Ban::AllTokens, 500, None);
        assert_eq!(banned(Ban::AllTokens, 400, None).following(Some(&first)).before, Timestamp(500));
        assert_eq!(banned(Ban::AllTokens, 600, None).following(Some(&first)).before, Timestamp(600));
        let forever = banned(Ban::Token("j".into()), 0, None);
        assert_eq!(banned(Ban::Token("j".into()), 0, Some(5)).following(Some(&forever)).until, None);
    }
}
