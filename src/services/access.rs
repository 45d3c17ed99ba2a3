//! Blocks and revocations, as administrators set and lift them. A ban is durable first, then in memory, then the sockets that it
//! is about are closed: the last two by [`crate::realtime::subscriber`]. Where the disk is so full that not even a ban can be stored,
//! it holds in memory, says so, and is stored as soon as there is room.

use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::access::{Ban, Banned, MAX_TOKEN_ID_CHARS};
use crate::domain::audit::action;
use crate::domain::{Actor, Refusal, Scope, UserId};
use crate::protocol::admin::access::{
    BanView, BlockChanged, Disconnected, ListRequest, Listed, PersonDetails, ReasonRequest, RevokeRequest, Revoked,
};
use crate::protocol::error::{ErrorCode, WireError};
use crate::services::errors::person_error;
use crate::services::rooms::list_query;
use crate::services::{Caller, Services, may, store_error};
use crate::store::access::MAX_BANS;
use crate::store::operations::{Act, Disconnect, LiftBan, SetBan};
use crate::store::{StoreError, UserProfile};

/// The longest reason, in characters.
const REASON_CHARS: usize = 500;
/// So many bans that could not be stored are held; one more is refused.
const MAX_UNSTORED: usize = 1_000;

/// Bans that the disk had no room for, with what the trail will say of them.
#[derive(Debug, Default)]
pub(super) struct UnstoredBans(Mutex<Vec<(Banned, Act)>>);

impl UnstoredBans {
    fn lock(&self) -> MutexGuard<'_, Vec<(Banned, Act)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Services {
    /// Reads revocations and blocks from the store, once, before anybody is let in; from then on they follow its changes.
    ///
    /// # Errors
    /// What kept them from being read.
    pub async fn load_access(&self) -> Result<(), StoreError> {
        self.live.access.replace(self.store.bans().await?);
        Ok(())
    }

    /// Whether somebody with a good token is let in.
    ///
    /// # Errors
    /// `token_revoked`, `user_blocked`.
    pub fn let_in(&self, actor: &Actor) -> Result<(), WireError> {
        self.live.access.barred(actor, self.now()).map_or(Ok(()), Err)
    }

    /// Sets a ban. Gives how many sockets it has closed, and whether it is durable.
    async fn set_ban(&self, banned: Banned, act: Act) -> Result<(usize, bool), WireError> {
        match self.act(SetBan { banned: banned.clone() }, act.clone()).await {
            Ok(applied) => Ok((self.live.effect_of(applied.change), true)),
            // A process that serves nobody takes the ban with it when it ends.
            Err(error @ (StoreError::Full(_) | StoreError::Unavailable(_) | StoreError::Corrupt(_)))
                if !self.feed.is_closed() =>
            {
                let mut unstored = self.unstored_bans.lock();
                if unstored.len() >= MAX_UNSTORED {
                    return Err(WireError::unavailable());
                }
                tracing::error!(%error, ban = %banned.ban, "a ban holds in memory alone: the store does not take it");
                unstored.push((banned.clone(), act));
                drop(unstored);
                self.live.access.set(banned);
                Ok((self.live.expel_the_barred(), false))
            }
            Err(StoreError::Refused(Refusal::Conflict)) => {
                let message = format!(
                    "there are {MAX_BANS} revocations and blocks already; revoke by user or by time issued instead"
                );
                Err(WireError::new(ErrorCode::Conflict, message))
            }
            Err(other) => Err(store_error(other)),
        }
    }

    /// Stores the bans that the store did not take, as soon as it does. What failed may have been stored all the same.
    pub(super) async fn store_bans(&self) {
        loop {
            let Some((banned, act)) = self.unstored_bans.lock().first().cloned() else { return };
            let ban = banned.ban.clone();
            let Ok(standing) = self.store.bans().await else { return };
            if standing.contains(&banned) {
                self.unstored_bans.lock().retain(|(other, _)| *other != banned);
                continue;
            }
            match self.act(SetBan { banned }, act).await {
                Ok(_) => tracing::info!(%ban, "a ban that held in memory alone is durable now"),
                Err(StoreError::Refused(refusal)) => tracing::error!(%ban, %refusal, "a ban could not be stored"),
                Err(_) => return,
            }
            self.unstored_bans.lock().retain(|(banned, _)| banned.ban != ban);
        }
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
        let act = caller.act(action::TOKEN_REVOKE, ban.to_string());
        let banned = Banned { ban, before, until, by: caller.actor.user.canonical(), at: self.now() };
        let (disconnected, durable) = self.set_ban(banned.clone(), act).await?;
        Ok(Revoked { revocation: BanView::from(&banned), disconnected, durable })
    }

    /// All revocations and blocks.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn revoked(&self, caller: &Caller) -> Result<Vec<BanView>, WireError> {
        may(caller, Scope::Users)?;
        let (mut bans, now) = (self.store.bans().await.map_err(store_error)?, self.now());
        bans.extend(self.unstored_bans.lock().iter().map(|(banned, _)| banned.clone()));
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
        let act = Act { note: reason, ..caller.act(action::USER_BLOCK, format!("user {user}")) };
        let (ban, at) = (Ban::User(user.clone()), self.now());
        let banned = Banned { ban, before: at, until: None, by: caller.actor.user.canonical(), at };
        let (disconnected, durable) = self.set_ban(banned, act).await?;
        Ok(BlockChanged { user_id: user, blocked: true, disconnected, durable })
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
        let act = Act { note: words(&request)?, ..caller.act(action::USER_UNBLOCK, format!("user {user}")) };
        let ban = Ban::User(user.clone());
        let was_unstored = {
            let mut unstored = self.unstored_bans.lock();
            let before = unstored.len();
            unstored.retain(|(banned, _)| banned.ban != ban);
            unstored.len() < before
        };
        match self.act(LiftBan { ban: ban.clone() }, act).await {
            Ok(_) => {}
            // It was never stored, and holds in memory no more.
            Err(StoreError::Refused(Refusal::NotFound) | StoreError::Full(_) | StoreError::Unavailable(_))
                if was_unstored =>
            {
                self.live.access.lift(&ban);
            }
            Err(StoreError::Refused(Refusal::NotFound)) => {
                return Err(WireError::new(ErrorCode::NotFound, "this user is not blocked"));
            }
            Err(other) => return Err(store_error(other)),
        }
        Ok(BlockChanged { user_id: user, blocked: false, disconnected: 0, durable: true })
    }

    /// Closes somebody's sockets. They may connect again.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn disconnect(&self, caller: &Caller, user: UserId) -> Result<Disconnected, WireError> {
        may(caller, Scope::Users)?;
        let act = caller.act(action::USER_DISCONNECT, format!("user {user}"));
        let applied = self.act(Disconnect { user: user.clone() }, act).await.map_err(store_error)?;
        Ok(Disconnected { user_id: user, disconnected: self.live.effect_of(applied.change) })
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
        let profile = self.store.profile(user).await.map_err(person_error)?;
        Ok(self.details(profile))
    }

    fn details(&self, profile: UserProfile) -> PersonDetails {
        let (blocked, tokens_revoked_before) = self.live.access.state_of(&profile.user);
        PersonDetails {
            sockets: self.sockets.count_of(&profile.user),
            blocked,
            tokens_revoked_before,
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
        1..=REASON_CHARS => Ok(reason),
        _ => Err(WireError::field("reason", format!("reason must have at most {REASON_CHARS} characters"))),
    }
}
