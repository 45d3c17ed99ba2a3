//! Blocks and revocations, as administrators set and lift them. A ban is durable first, then in memory, then the sockets that it
//! is about are closed: the last two by [`crate::realtime::subscriber`]. Where the disk is so full that not even a ban can be stored,
//! it holds in memory, says so, and is stored as soon as there is room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, MutexGuard};

use crate::domain::access::{Ban, Banned, MAX_TOKEN_ID_CHARS};
use crate::domain::audit::action;
use crate::domain::{Refusal, Scope, Timestamp, UserId};
use crate::observability::refused_users::Refusal as Refused;
use crate::protocol::admin::access::{
    BanView, BlockChanged, Diagnosis, Disconnected, ListRequest, Listed, MuteView, ReasonRequest, RefusalView,
    RevocationPreview, RevokeRequest, Revoked, UserDetails,
};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::realtime::live::Live;
use crate::services::errors::{store_error, user_error};
use crate::services::rooms::list_query;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};
use crate::store::access::{ListQuery, MAX_BANS};
use crate::store::operations::{Act, Disconnect, LiftBan, SetBan};
use crate::store::{StoreError, UserProfile};

/// The longest reason, in characters.
const REASON_CHARS: usize = 500;
/// So many bans that could not be stored are held; one more is refused.
const MAX_UNSTORED: usize = 1_000;

/// What the disk had no room for.
#[derive(Debug, Clone)]
enum BanChange {
    Set(Banned),
    Lift(Ban),
}

impl BanChange {
    fn ban(&self) -> &Ban {
        match self {
            BanChange::Set(banned) => &banned.ban,
            BanChange::Lift(ban) => ban,
        }
    }
}

/// Bans that were set and lifted while the disk had no room for them, in their order, with what the audit log will say of each.
#[derive(Debug, Default)]
struct UnstoredBans {
    changes: Mutex<VecDeque<(BanChange, Act)>>,
    /// One task stores them at a time, so that they keep their order.
    storing: AtomicBool,
}

impl UnstoredBans {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(BanChange, Act)>> {
        self.changes.lock()
    }

    /// Keeps a change for later.
    fn push(&self, change: BanChange, act: Act) -> Result<(), ApiError> {
        let mut changes = self.lock();
        if changes.len() >= MAX_UNSTORED {
            return Err(ApiError::unavailable());
        }
        changes.push_back((change, act));
        Ok(())
    }

    /// Whether a change of this ban waits.
    fn has(&self, ban: &Ban) -> bool {
        self.lock().iter().any(|(change, _)| change.ban() == ban)
    }

    /// What is stored, as it will be.
    fn follow(&self, mut stored: Vec<Banned>) -> Vec<Banned> {
        for (change, _) in self.lock().iter() {
            let before = stored.iter().position(|banned| banned.ban == *change.ban());
            let before = before.map(|at| stored.remove(at));
            if let BanChange::Set(banned) = change {
                stored.push(banned.clone().following(before.as_ref()));
            }
        }
        stored
    }
}

/// The turn of one task, given back when it ends, however it ends.
struct Turn<'t>(&'t AtomicBool);

impl<'t> Turn<'t> {
    fn take(is_taken: &'t AtomicBool) -> Option<Turn<'t>> {
        (!is_taken.swap(true, Ordering::AcqRel)).then_some(Turn(is_taken))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Blocks and revocations, and the users that they are about.
#[derive(Debug, Clone)]
pub struct Access {
    store: Storage,
    /// Where a ban takes effect: sockets are closed, polls are ended.
    live: Arc<Live>,
    /// Bans that the disk had no room for: they hold in memory, and are stored as soon as there is room.
    unstored: Arc<UnstoredBans>,
}

impl Access {
    pub(super) fn new(store: Storage, live: Arc<Live>) -> Access {
        Access { store, live, unstored: Arc::default() }
    }

    /// Reads revocations and blocks from the store, and which rooms are locked, once, before anybody may connect; from then on they follow its changes.
    ///
    /// # Errors
    /// What kept them from being read.
    pub async fn load(&self) -> Result<(), StoreError> {
        self.live.access.replace(self.store.bans().await?);
        self.live.locked_rooms.replace(self.store.locked_rooms().await?);
        Ok(())
    }

    /// Sets a ban. Gives how many sockets it has closed, and whether it is durable.
    async fn set_ban(&self, banned: Banned, act: Act) -> Result<(usize, bool), ApiError> {
        let outcome = if self.waits_behind(&banned.ban).await {
            Err(StoreError::Busy)
        } else {
            self.store.act(SetBan { banned: banned.clone() }, act.clone()).await
        };
        match outcome {
            Ok(applied) => Ok((self.live.effect_of(applied.change), true)),
            Err(error) if self.is_kept_for_later(&error) => {
                let is_stored = self.store.bans().await.is_ok_and(|stored| stands_already(&stored, &banned))
                    && !self.unstored.has(&banned.ban);
                tracing::error!(%error, ban = %banned.ban, "a ban is in force in memory only: the store does not accept it");
                self.unstored.push(BanChange::Set(banned.clone()), act)?;
                self.live.access.set(banned);
                Ok((self.live.expel_the_barred(), is_stored))
            }
            Err(StoreError::Refused(Refusal::Conflict)) => {
                let message = format!(
                    "there are {MAX_BANS} revocations and blocks already; revoke by user or by time issued instead"
                );
                Err(ApiError::new(ErrorCode::Conflict, message))
            }
            Err(other) => Err(store_error(other)),
        }
    }

    /// Whether a change of this ban must wait behind one that could not be stored.
    async fn waits_behind(&self, ban: &Ban) -> bool {
        if self.unstored.has(ban) {
            self.store_bans().await;
        }
        self.unstored.has(ban)
    }

    /// A process that serves nobody takes what it holds in memory with it when it ends.
    fn is_kept_for_later(&self, error: &StoreError) -> bool {
        use StoreError::{Busy, Corrupt, Full, Unavailable};
        matches!(error, Full(_) | Unavailable(_) | Corrupt(_) | Busy) && !self.live.feed.is_closed()
    }

    /// Stores what the store did not take, in its order, as soon as it does. What failed may have been stored all the same.
    pub(super) async fn store_bans(&self) {
        let unstored = &*self.unstored;
        let Some(_turn) = Turn::take(&unstored.storing) else { return };
        loop {
            let Some((change, act)) = unstored.lock().front().cloned() else { break };
            let Ok(stored) = self.store.bans().await else { break };
            let ban = change.ban().clone();
            let outcome = match change {
                BanChange::Set(banned) if stored.contains(&banned) => Ok(()),
                BanChange::Set(banned) => self.store.act(SetBan { banned }, act).await.map(drop),
                BanChange::Lift(ban) => match self.store.act(LiftBan { ban }, act).await.map(drop) {
                    Err(StoreError::Refused(Refusal::NotFound)) => Ok(()),
                    outcome => outcome,
                },
            };
            match outcome {
                Ok(()) => tracing::info!(%ban, "a ban change that was in memory only has been stored"),
                Err(StoreError::Refused(refusal)) => tracing::error!(%ban, %refusal, "a ban could not be stored"),
                Err(_) => break,
            }
            unstored.lock().pop_front();
        }
    }

    /// Revokes one token, a user's, or everybody's.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict`, `unavailable`.
    pub async fn revoke(&self, caller: &Caller, request: RevokeRequest) -> Result<Revoked, ApiError> {
        let banned = self.revocation(caller, request)?;
        let act = caller.act(action::TOKEN_REVOKE, banned.ban.to_string());
        let (disconnected, durable) = self.set_ban(banned.clone(), act).await?;
        Ok(Revoked { revocation: BanView::from(&banned), disconnected, durable })
    }

    fn revocation(&self, caller: &Caller, request: RevokeRequest) -> Result<Banned, ApiError> {
        authorize(caller, if request.all { Scope::Admin } else { Scope::Users })?;
        let before = request.issued_before.unwrap_or_else(|| self.store.now());
        if before > self.store.now() {
            return Err(ApiError::field("issuedBefore", "issuedBefore must not be in the future"));
        }
        let ban = match (request.jti, request.user_id, request.all) {
            (Some(id), None, false) => {
                let chars = id.chars().count();
                if !(1..=MAX_TOKEN_ID_CHARS).contains(&chars) {
                    let message = format!("jti must have 1 to {MAX_TOKEN_ID_CHARS} characters");
                    return Err(ApiError::field("jti", message));
                }
                Ban::Token(id)
            }
            (None, Some(user), false) => Ban::TokensOf(self.live.named(user)),
            (None, None, true) => Ban::AllTokens,
            _ => return Err(ApiError::field("jti", "name exactly one of jti, userId and all")),
        };
        let until = request.expires_at.filter(|_| matches!(ban, Ban::Token(_)));
        Ok(Banned { ban, before, until, by: caller.actor.user.canonical(), at: self.store.now() })
    }

    /// How many sockets a revocation would close. Nothing is revoked.
    ///
    /// # Errors
    /// As [`Access::revoke`].
    pub fn preview_revocation(&self, caller: &Caller, request: RevokeRequest) -> Result<RevocationPreview, ApiError> {
        let banned = self.revocation(caller, request)?;
        let (disconnected, users) = self.live.reach_of_ban(&banned);
        Ok(RevocationPreview { dry_run: true, disconnected, users })
    }

    /// All revocations and blocks.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<BanView>, ApiError> {
        authorize(caller, Scope::Users)?;
        Ok(views_of(&self.standing().await?).collect())
    }

    /// Everything that stands against somebody at this moment, also what the store has not taken yet.
    async fn standing(&self) -> Result<Vec<Banned>, ApiError> {
        let (bans, now) = (self.store.bans().await.map_err(store_error)?, self.store.now());
        let mut bans = self.unstored.follow(bans);
        bans.retain(|banned| banned.until.is_none_or(|until| until > now));
        Ok(bans.into_iter().map(|banned| self.live.named_in(banned)).collect())
    }

    /// Shuts somebody out: their sockets are closed, and no token lets them in.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict`, `unavailable`.
    pub async fn block(&self, caller: &Caller, user: UserId, request: ReasonRequest) -> Result<BlockChanged, ApiError> {
        authorize(caller, Scope::Users)?;
        if user == caller.actor.user {
            return Err(ApiError::field("userId", "this is yourself; somebody else must block you"));
        }
        let reason = reason_of(&request.reason)?;
        let act = Act { note: reason, ..caller.act(action::USER_BLOCK, format!("user {user}")) };
        let (ban, at) = (Ban::User(user.clone()), self.store.now());
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
    ) -> Result<BlockChanged, ApiError> {
        authorize(caller, Scope::Users)?;
        let act = Act { note: reason_of(&request.reason)?, ..caller.act(action::USER_UNBLOCK, format!("user {user}")) };
        let ban = Ban::User(user.clone());
        let outcome = if self.waits_behind(&ban).await {
            Err(StoreError::Busy)
        } else {
            self.store.act(LiftBan { ban: ban.clone() }, act.clone()).await.map(drop)
        };
        let durable = match outcome {
            Ok(()) => true,
            Err(error) if self.is_kept_for_later(&error) => {
                let stored = self.unstored.follow(self.store.bans().await.map_err(store_error)?);
                if !stored.iter().any(|banned| banned.ban == ban) {
                    return Err(not_blocked());
                }
                tracing::error!(%error, %ban, "a ban is lifted in memory only: the store does not accept it");
                self.unstored.push(BanChange::Lift(ban.clone()), act)?;
                self.live.access.lift(&ban);
                false
            }
            Err(StoreError::Refused(Refusal::NotFound)) => return Err(not_blocked()),
            Err(other) => return Err(store_error(other)),
        };
        Ok(BlockChanged { user_id: user, blocked: false, disconnected: 0, durable })
    }

    /// Closes somebody's sockets. They may connect again.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn disconnect(&self, caller: &Caller, user: UserId) -> Result<Disconnected, ApiError> {
        authorize(caller, Scope::Users)?;
        let act = caller.act(action::USER_DISCONNECT, format!("user {user}"));
        let applied = self.store.act(Disconnect { user: user.clone() }, act).await.map_err(store_error)?;
        Ok(Disconnected { user_id: user, disconnected: self.live.effect_of(applied.change) })
    }

    /// A part of all people who were ever here or spoken of.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn users(&self, caller: &Caller, request: ListRequest) -> Result<Listed<UserDetails>, ApiError> {
        authorize(caller, Scope::Users)?;
        if request.online {
            return self.users_here(list_query(request)).await;
        }
        let page = self.store.list_users(list_query(request)).await.map_err(store_error)?;
        Ok(Listed { items: page.items.into_iter().map(|profile| self.details(profile)).collect(), next: page.next })
    }

    /// Those of them who are here.
    async fn users_here(&self, query: ListQuery) -> Result<Listed<UserDetails>, ApiError> {
        let (mut items, mut next) = (Vec::new(), None);
        let here = self.live.sockets.all_here();
        let behind = here.iter().filter(|user| query.after.as_ref().is_none_or(|after| user.canonical() > *after));
        for user in behind {
            if items.len() == query.limit {
                next = items.last().map(|last: &UserDetails| last.user_id.canonical());
                break;
            }
            match self.store.profile(user.clone()).await {
                Ok(profile) if query.fits(&user.canonical(), &profile.name) => items.push(self.details(profile)),
                // Erased at this moment.
                Ok(_) | Err(StoreError::Refused(Refusal::NotFound)) => {}
                Err(error) => return Err(store_error(error)),
            }
        }
        Ok(Listed { items, next })
    }

    /// Why somebody is or is not served. Their connections are the transport's to tell.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn diagnose(&self, caller: &Caller, user: UserId) -> Result<Diagnosis, ApiError> {
        authorize(caller, Scope::Users)?;
        let profile = match self.store.profile(user.clone()).await {
            Ok(profile) => Some(self.details(profile)),
            Err(StoreError::Refused(Refusal::NotFound)) => None,
            Err(error) => return Err(store_error(error)),
        };
        let standing = self.standing().await?;
        let bans = views_of(&standing).filter(|ban| ban.user_id.as_ref() == Some(&user) || ban.kind == "all_tokens");
        let bans = bans.collect();
        let mutes = standing.iter().filter_map(MuteView::of).filter(|mute| mute.user_id == user).collect();
        let now = (self.store.now(), Instant::now());
        let refusals = self.live.counters().refused_users.of(&user).into_iter();
        let (refusals, connections) = (refusals.map(|refusal| refusal_view(refusal, now)).collect(), Vec::new());
        Ok(Diagnosis { user_id: user, user: profile, bans, blocked_by: None, mutes, connections, refusals })
    }

    /// One of them.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn user(&self, caller: &Caller, user: UserId) -> Result<UserDetails, ApiError> {
        authorize(caller, Scope::Users)?;
        let profile = self.store.profile(user).await.map_err(user_error)?;
        Ok(self.details(profile))
    }

    fn details(&self, profile: UserProfile) -> UserDetails {
        let (blocked, tokens_revoked_before) = self.live.access.state_of(&profile.user);
        UserDetails {
            sockets: self.live.sockets.count_of(&profile.user),
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

/// A refusal as administrators see it, at this moment of both clocks.
#[must_use]
pub fn refusal_view(refusal: Refused, (now, instant): (Timestamp, Instant)) -> RefusalView {
    RefusalView {
        at: now.minus(instant.saturating_duration_since(refusal.at)),
        request: refusal.what,
        code: refusal.code,
        message: refusal.message,
        origin: refusal.origin,
        times: refusal.times,
    }
}

fn not_blocked() -> ApiError {
    ApiError::new(ErrorCode::NotFound, "this user is not blocked")
}

/// Whether what is stored shuts out whom this ban would.
fn stands_already(stored: &[Banned], banned: &Banned) -> bool {
    stored.iter().filter(|other| other.ban == banned.ban).any(|other| match banned.ban {
        Ban::Token(_) | Ban::User(_) | Ban::Mute { .. } => true,
        Ban::TokensOf(_) | Ban::AllTokens => other.before >= banned.before,
    })
}

/// Blocks and revocations among what stands; mutes are another list.
fn views_of(standing: &[Banned]) -> impl Iterator<Item = BanView> {
    standing.iter().filter(|banned| !matches!(banned.ban, Ban::Mute { .. })).map(BanView::from)
}

/// The reason of an act, for the audit log: without control characters.
pub(super) fn reason_of(given: &str) -> Result<String, ApiError> {
    let reason: String = given.trim().chars().filter(|c| !c.is_control()).collect();
    match reason.chars().count() {
        0 => Ok(String::new()),
        1..=REASON_CHARS => Ok(reason),
        _ => Err(ApiError::field("reason", format!("reason must have at most {REASON_CHARS} characters"))),
    }
}
