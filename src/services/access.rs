//! Who is shut out, whatever their token says: revocations and blocks. They are held in memory, so that each connection and
//! each request is looked at for the price of a look-up, and nobody waits for the store; a change is durable first, then in
//! memory, then the sockets that it is about are closed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::people::{
    BanView, BlockChanged, Disconnected, ListRequest, Listed, PersonDetails, ReasonRequest, RevokeRequest, Revoked,
};
use crate::domain::access::{Ban, Banned, Barred, MAX_TOKEN_ID_CHARS, is_issued_before};
use crate::domain::audit::action;
use crate::domain::{Actor, Refusal, Scope, Timestamp, UserId};
use crate::store::access::MAX_BANS;
use crate::store::{StoreError, UserProfile};

use super::rooms::list_query;
use super::{Caller, Services, may, store_error};

/// The longest reason, in characters.
const REASON_CHARS: usize = 500;

/// All bans, by what is asked of them.
#[derive(Debug, Clone, Default)]
pub(super) struct AccessBook {
    /// Which reading of the store this is: see [`Services::load_access`].
    reading: u64,
    /// `jti`, and until when it matters.
    tokens: HashMap<String, Option<Timestamp>>,
    /// Tokens issued before this.
    users: HashMap<UserId, Timestamp>,
    everybody: Option<Timestamp>,
    blocked: HashSet<UserId>,
}

impl AccessBook {
    fn of(reading: u64, bans: Vec<Banned>) -> AccessBook {
        let mut book = AccessBook { reading, ..AccessBook::default() };
        for banned in bans {
            match banned.ban {
                Ban::Token(id) => drop(book.tokens.insert(id, banned.until)),
                Ban::TokensOf(user) => drop(book.users.insert(user, banned.before)),
                Ban::AllTokens => book.everybody = Some(banned.before),
                Ban::User(user) => drop(book.blocked.insert(user)),
            }
        }
        book
    }

    /// Why somebody is shut out at this moment, if they are.
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

fn refusal(barred: Barred) -> WireError {
    match barred {
        Barred::Revoked => WireError::new(ErrorCode::TokenRevoked, "the token has been revoked; sign in again"),
        Barred::Blocked => WireError::new(
            ErrorCode::UserBlocked,
            "this account may not connect here any more; ask whoever administers the service",
        ),
    }
}

impl Services {
    /// Reads revocations and blocks from the store. Nobody is let in before that.
    ///
    /// Of two readings at the same time the one that began later stays, whichever ends first: it has seen all that was
    /// durable when the other began.
    ///
    /// # Errors
    /// What kept them from being read.
    pub async fn load_access(&self) -> Result<(), StoreError> {
        let reading = self.access_readings.fetch_add(1, Ordering::SeqCst) + 1;
        let book = Arc::new(AccessBook::of(reading, self.store.bans().await?));
        self.access.rcu(|current| if current.reading > reading { current.clone() } else { book.clone() });
        Ok(())
    }

    /// Whether somebody with a good token is let in.
    ///
    /// # Errors
    /// `token_revoked`, `user_blocked`.
    pub fn let_in(&self, actor: &Actor) -> Result<(), WireError> {
        match self.access.load().barred(actor, self.now()) {
            None => Ok(()),
            Some(barred) => Err(refusal(barred)),
        }
    }

    /// Closes the sockets, and ends the polls, of whoever is shut out now. Gives how many sockets of people there were.
    fn expel_the_barred(&self) -> usize {
        let (book, now) = (self.access.load(), self.now());
        self.sockets.expel_where(|actor| book.barred(actor, now).map(refusal))
    }

    async fn set_ban(
        &self,
        caller: &Caller,
        ban: Ban,
        before: Timestamp,
        until: Option<Timestamp>,
    ) -> Result<(), WireError> {
        let banned = Banned { ban, before, until, by: caller.actor.user.canonical(), at: self.now() };
        self.store.ban(banned).await.map_err(|error| match error {
            StoreError::Refused(Refusal::Conflict) => {
                let message = format!(
                    "there are {MAX_BANS} revocations and blocks already; revoke by user or by time issued instead"
                );
                WireError::new(ErrorCode::Conflict, message)
            }
            other => store_error(other),
        })?;
        self.load_access().await.map_err(store_error)
    }

    /// Revokes one token, a user's, or everybody's.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict`, `unavailable`.
    pub async fn revoke(&self, caller: &Caller, request: RevokeRequest) -> Result<Revoked, WireError> {
        may(caller, if request.all { Scope::Admin } else { Scope::Users })?;
        let before = request.issued_before.unwrap_or_else(|| self.now());
        if before > self.now() {
            return Err(WireError::field("issuedBefore", "issuedBefore must not be in the future"));
        }
        let ban = match (request.jti, request.user_id, request.all) {
            (Some(id), None, false) => {
                let chars = id.chars().count();
                if !(1..=MAX_TOKEN_ID_CHARS).contains(&chars) {
                    let message = format!("jti must have 1 to {MAX_TOKEN_ID_CHARS} characters");
                    return Err(WireError::field("jti", message));
                }
                Ban::Token(id)
            }
            (None, Some(user), false) => Ban::TokensOf(user),
            (None, None, true) => Ban::AllTokens,
            _ => return Err(WireError::field("jti", "name exactly one of jti, userId and all")),
        };
        let until = request.expires_at.filter(|_| matches!(ban, Ban::Token(_)));
        self.set_ban(caller, ban.clone(), before, until).await?;
        let disconnected = self.expel_the_barred();
        self.record(caller, action::TOKEN_REVOKE, ban.to_string(), format!("done: {disconnected} sockets")).await?;
        let banned = Banned { ban, before, until, by: caller.actor.user.canonical(), at: self.now() };
        Ok(Revoked { revocation: BanView::from(&banned), disconnected })
    }

    /// All revocations and blocks.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn revoked(&self, caller: &Caller) -> Result<Vec<BanView>, WireError> {
        may(caller, Scope::Users)?;
        let (bans, now) = (self.store.bans().await.map_err(store_error)?, self.now());
        let standing = bans.iter().filter(|banned| banned.until.is_none_or(|until| until > now));
        Ok(standing.map(BanView::from).collect())
    }

    /// Shuts somebody out: their sockets are closed, and no token lets them in.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict`, `unavailable`.
    pub async fn block(
        &self,
        caller: &Caller,
        user: UserId,
        request: ReasonRequest,
    ) -> Result<BlockChanged, WireError> {
        may(caller, Scope::Users)?;
        if user == caller.actor.user {
            return Err(WireError::field("userId", "this is yourself; somebody else must block you"));
        }
        let reason = words(&request)?;
        self.set_ban(caller, Ban::User(user.clone()), self.now(), None).await?;
        let disconnected = self.expel_the_barred();
        let outcome = format!("done: {disconnected} sockets{reason}");
        self.record(caller, action::USER_BLOCK, format!("user {user}"), outcome).await?;
        Ok(BlockChanged { user_id: user, blocked: true, disconnected })
    }

    /// Lets somebody come again. Tokens that were revoked stay so.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn unblock(
        &self,
        caller: &Caller,
        user: UserId,
        request: ReasonRequest,
    ) -> Result<BlockChanged, WireError> {
        may(caller, Scope::Users)?;
        let reason = words(&request)?;
        self.store.lift(Ban::User(user.clone())).await.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => WireError::new(ErrorCode::NotFound, "this user is not blocked"),
            other => store_error(other),
        })?;
        self.load_access().await.map_err(store_error)?;
        self.record(caller, action::USER_UNBLOCK, format!("user {user}"), format!("done{reason}")).await?;
        Ok(BlockChanged { user_id: user, blocked: false, disconnected: 0 })
    }

    /// Closes somebody's sockets. They may connect again.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn disconnect(&self, caller: &Caller, user: UserId) -> Result<Disconnected, WireError> {
        may(caller, Scope::Users)?;
        let error = WireError::new(ErrorCode::Forbidden, "an administrator has closed this connection; connect again");
        let disconnected = self.sockets.expel_where(|actor| (actor.user == user).then(|| error.clone()));
        let outcome = format!("done: {disconnected} sockets");
        self.record(caller, action::USER_DISCONNECT, format!("user {user}"), outcome).await?;
        Ok(Disconnected { user_id: user, disconnected })
    }

    /// A part of all people who were ever here or spoken of.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn people(&self, caller: &Caller, request: ListRequest) -> Result<Listed<PersonDetails>, WireError> {
        may(caller, Scope::Users)?;
        let page = self.store.list_people(list_query(request)).await.map_err(store_error)?;
        Ok(Listed { items: page.items.into_iter().map(|profile| self.details(profile)).collect(), next: page.next })
    }

    /// One of them.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn person(&self, caller: &Caller, user: UserId) -> Result<PersonDetails, WireError> {
        may(caller, Scope::Users)?;
        let profile = self.store.profile(user).await.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                WireError::new(ErrorCode::NotFound, "nothing is stored of this user")
            }
            other => store_error(other),
        })?;
        Ok(self.details(profile))
    }

    fn details(&self, profile: UserProfile) -> PersonDetails {
        let book = self.access.load();
        PersonDetails {
            sockets: self.sockets.count_of(&profile.user),
            blocked: book.blocked.contains(&profile.user),
            tokens_revoked_before: book.users.get(&profile.user).copied(),
            user_id: profile.user,
            name: profile.name,
            roles: profile.roles,
            first_seen: profile.first_seen,
            last_seen: profile.last_seen,
        }
    }
}

fn words(request: &ReasonRequest) -> Result<String, WireError> {
    let reason: String = request.reason.trim().chars().filter(|c| !c.is_control()).collect();
    match reason.chars().count() {
        0 => Ok(String::new()),
        1..=REASON_CHARS => Ok(format!(": {reason}")),
        _ => Err(WireError::field("reason", format!("reason must have at most {REASON_CHARS} characters"))),
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
        let book = AccessBook::of(
            1,
            vec![
                banned(Ban::Token("j".into()), 0, Some(1_000)),
                banned(Ban::TokensOf(user("7")), 500, None),
                banned(Ban::AllTokens, 100, None),
                banned(Ban::User(user("8")), 0, None),
            ],
        );
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
