//! How order is kept in a room by its moderators and by administrators, and what anybody may report to them. The store decides rights
//! inside its transaction.

use std::sync::Arc;
use std::time::Duration;

use crate::archive::moments::moment;
use crate::domain::access::{LONGEST_MUTE, SHORTEST_MUTE};
use crate::domain::audit::action;
use crate::domain::chat::Author;
use crate::domain::report::{MAX_WORDS_CHARS, Report};
use crate::domain::room_state::{LONGEST_SLOW_MODE, StateChange};
use crate::domain::{Refusal, RoomId, Scope, Timestamp, UserId};
use crate::protocol::admin::access::MuteChanged;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::order::{
    AllReports, ChatLock, ChatMute, ChatReport, ChatReports, ChatResolve, ChatSlow, ChatUnmute, ReportList, ReportMade,
    ReportResolved, ReportView, ResolveRequest, RoomStateAnswer,
};
use crate::protocol::request::{DEFAULT_PAGE, MAX_PAGE};
use crate::realtime::live::Live;
use crate::services::access::reason_of;
use crate::services::errors::store_error;
use crate::services::limits::Rates;
use crate::services::moderation::{act_on, changed, too_many_bans};
use crate::services::pages::{fitting, limit_within};
use crate::services::rooms::room_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::uses::Uses;
use crate::services::{Caller, authorize};
use crate::store::operations::{Act, MuteMember, ReportMessage, ResolveReport, SetRoomState, UnmuteMember};
use crate::store::{ReportQuery, StoreError};

/// What moderators of a room do, and what is reported to them.
#[derive(Debug, Clone)]
pub struct Moderators {
    /// Rooms, mutes and reports.
    store: Storage,
    /// The JSON types of ids.
    live: Arc<Live>,
    /// How much somebody may report.
    rates: Arc<Rates>,
    /// The rules of open rooms.
    settings: Arc<LiveSettings>,
    /// Administrators who read what is not theirs.
    uses: Uses,
}

impl Moderators {
    pub(super) fn new(
        store: Storage,
        live: Arc<Live>,
        rates: Arc<Rates>,
        settings: Arc<LiveSettings>,
        uses: Uses,
    ) -> Moderators {
        Moderators { store, live, rates, settings, uses }
    }

    /// Lets somebody who takes part in a room read and not write in it, until a moment.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `conflict`, `unavailable`.
    pub async fn mute(&self, caller: &Caller, request: ChatMute) -> Result<MuteChanged, ApiError> {
        let ChatMute { room_id: room, user_id, seconds, until, reason } = request;
        let (user, reason) = (self.live.named(user_id), reason_of(&reason)?);
        if user.is_reserved() {
            return Err(ApiError::field("userId", "this is not a person"));
        }
        let until = self.end_of_mute(seconds, until)?;
        let note = format!(" until {}", moment(until));
        let act = act_on(caller, action::USER_MUTE, &user, Some(&room), &note, &reason);
        let by = as_moderator(caller, Scope::Users);
        let mute = MuteMember { room, user, by, until, policy: self.settings.policy() };
        let muted = self.store.act(mute, act).await.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                ApiError::new(ErrorCode::NotFound, "there is no such room, or this user takes no part in it")
            }
            StoreError::Refused(Refusal::Conflict) => too_many_bans(),
            other => store_error(other),
        })?;
        changed(&muted.answer, true)
    }

    fn end_of_mute(&self, seconds: Option<u64>, until: Option<Timestamp>) -> Result<Timestamp, ApiError> {
        let (now, most) = (self.store.now(), LONGEST_MUTE.as_secs());
        let (field, time, until) = match (seconds, until) {
            (Some(seconds), None) => {
                let time = Duration::from_secs(seconds);
                ("seconds", time, now.plus(time))
            }
            (None, Some(until)) => ("until", now.until(until), until),
            _ => return Err(ApiError::field("seconds", "say either seconds or until")),
        };
        if (SHORTEST_MUTE..=LONGEST_MUTE).contains(&time) {
            return Ok(until);
        }
        Err(ApiError::field(field, format!("a mute is for 1 to {most} seconds from now on")))
    }

    /// Lifts a mute in a room before it ends.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn unmute(&self, caller: &Caller, request: ChatUnmute) -> Result<MuteChanged, ApiError> {
        let ChatUnmute { room_id: room, user_id, reason } = request;
        let (user, reason) = (self.live.named(user_id), reason_of(&reason)?);
        let act = act_on(caller, action::USER_UNMUTE, &user, Some(&room), "", &reason);
        let by = as_moderator(caller, Scope::Users);
        let lifted = self.store.act(UnmuteMember { room, user, by, policy: self.settings.policy() }, act).await;
        let lifted = lifted.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                ApiError::new(ErrorCode::NotFound, "there is no such room, or this user is not muted in it")
            }
            other => store_error(other),
        })?;
        changed(&lifted.answer, false)
    }

    /// Locks a room, or opens it again.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn lock(&self, caller: &Caller, request: ChatLock) -> Result<RoomStateAnswer, ApiError> {
        let ChatLock { room_id, locked, reason } = request;
        let action = if locked { action::ROOM_LOCK } else { action::ROOM_UNLOCK };
        self.set_state(caller, room_id, StateChange::Lock(locked), action, String::new(), reason).await
    }

    /// Sets the slow mode of a room, or ends it.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn slow(&self, caller: &Caller, request: ChatSlow) -> Result<RoomStateAnswer, ApiError> {
        let ChatSlow { room_id, seconds, reason } = request;
        if seconds > LONGEST_SLOW_MODE {
            return Err(ApiError::field("seconds", format!("seconds must be 0 to {LONGEST_SLOW_MODE}; 0 ends it")));
        }
        let note = if seconds == 0 { "off".to_owned() } else { format!("{seconds} s") };
        self.set_state(caller, room_id, StateChange::Slow(seconds), action::ROOM_SLOW, note, reason).await
    }

    async fn set_state(
        &self,
        caller: &Caller,
        room: RoomId,
        change: StateChange,
        action: &'static str,
        note: String,
        reason: String,
    ) -> Result<RoomStateAnswer, ApiError> {
        let reason = reason_of(&reason)?;
        let words: Vec<String> = [note, reason].into_iter().filter(|words| !words.is_empty()).collect();
        let act = Act { note: words.join(": "), ..caller.act(action, format!("room {room}")) };
        let by = as_moderator(caller, Scope::Rooms);
        let set = SetRoomState { room: room.clone(), by, change, policy: self.settings.policy() };
        let set = self.store.act(set, act).await.map_err(room_error)?;
        Ok(RoomStateAnswer { room_id: room, state: set.answer.state.into() })
    }

    /// Reports a message to those who keep order in its room. What it says now stays with the report.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `rate_limited`, `unavailable`.
    pub async fn report(&self, caller: &Caller, request: ChatReport) -> Result<ReportMade, ApiError> {
        let ChatReport { room_id: room, message_id, reason } = request;
        let reason = words("reason", &reason)?;
        if reason.is_empty() {
            return Err(ApiError::field("reason", "reason must say why"));
        }
        let (by, policy) = (Author::of(&caller.actor), self.settings.policy());
        let refused = |error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                ApiError::new(ErrorCode::NotFound, format!("there is no message {message_id} in this room"))
            }
            other => store_error(other),
        };
        let heard = self.store.hear_of_report(room.clone(), message_id, by.clone(), policy).await;
        let heard = heard.map_err(refused)?;
        // What was reported before is no new report.
        let claim = match heard {
            Some(_) => self.rates.claim_report(&caller.actor, self.store.now())?,
            None => None,
        };
        let moderators = heard.unwrap_or_default();
        let act = caller.act(action::MESSAGE_REPORT, format!("room {room} message {message_id}"));
        let made = self.store.act(ReportMessage { room, message_id, by, reason, moderators, policy }, act).await;
        if let Some(claim) = claim {
            claim.settle(made.as_ref().is_ok_and(|made| !made.answer.duplicate));
        }
        let made = made.map_err(refused)?.answer;
        Ok(ReportMade { report_id: made.id, reported_at: made.at, duplicate: made.duplicate })
    }

    /// The reports of a room, for those who keep order in it.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn reports(&self, caller: &Caller, request: ChatReports) -> Result<ReportList, ApiError> {
        let ChatReports { room_id, before, limit, all } = request;
        let query = ReportQuery {
            room: Some(room_id.clone()),
            before,
            limit: limit_within(limit, DEFAULT_PAGE, MAX_PAGE)?,
            resolved_too: all,
        };
        self.uses.note_reading(caller, std::slice::from_ref(&room_id)).await?;
        self.list(as_moderator(caller, Scope::Admin), query).await
    }

    /// The reports of all rooms, for administrators.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn all_reports(&self, caller: &Caller, request: AllReports) -> Result<ReportList, ApiError> {
        authorize(caller, Scope::Admin)?;
        let AllReports { room_id, before, limit, all } = request;
        let limit = limit_within(limit, DEFAULT_PAGE, MAX_PAGE)?;
        self.uses.record_reading_of(caller, action::ROOM_READ, "reports".to_owned()).await?;
        let query = ReportQuery { room: room_id, before, limit, resolved_too: all };
        self.list(as_moderator(caller, Scope::Admin), query).await
    }

    async fn list(&self, viewer: Author, query: ReportQuery) -> Result<ReportList, ApiError> {
        let mut page = self.store.reports(viewer, query, self.settings.policy()).await.map_err(room_error)?;
        let fit = fitting(page.items.iter().map(ReportView));
        if fit < page.items.len() {
            page.items.truncate(fit);
            page.next = page.items.last().map(|report| report.id);
        }
        let items = page.items.into_iter().map(|report| self.named(report)).collect();
        Ok(ReportList { items, next: page.next })
    }

    /// Says what has come of a report of a room.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn resolve(&self, caller: &Caller, request: ChatResolve) -> Result<ReportResolved, ApiError> {
        let ChatResolve { room_id, report_id, note } = request;
        self.settle(caller, report_id, Some(room_id), &note).await
    }

    /// The same, of whatever room, for administrators.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `not_found`, `unavailable`.
    pub async fn resolve_any(&self, caller: &Caller, request: ResolveRequest) -> Result<ReportResolved, ApiError> {
        authorize(caller, Scope::Admin)?;
        self.settle(caller, request.report_id, None, &request.note).await
    }

    async fn settle(
        &self,
        caller: &Caller,
        report: u64,
        room: Option<RoomId>,
        note: &str,
    ) -> Result<ReportResolved, ApiError> {
        let note = words("note", note)?;
        let (by, policy) = (as_moderator(caller, Scope::Admin), self.settings.policy());
        let of = match &room {
            Some(room) => Some(room.clone()),
            None => self.store.room_of_report(report).await.map_err(store_error)?,
        };
        let (moderators, target) = match of {
            Some(room) => {
                let target = format!("room {room} report {report}");
                (self.store.moderators(room, by.clone(), policy).await.map_err(store_error)?, target)
            }
            None => (Vec::new(), format!("report {report}")),
        };
        let act = Act { note: note.clone(), ..caller.act(action::REPORT_RESOLVE, target) };
        let resolve = ResolveReport { report, room, by, note, moderators, policy };
        let resolved = self.store.act(resolve, act).await.map_err(|error| match error {
            StoreError::Refused(Refusal::NotFound) => {
                ApiError::new(ErrorCode::NotFound, format!("there is no report {report} here"))
            }
            other => store_error(other),
        })?;
        let resolved = resolved.answer;
        Ok(ReportResolved { report: self.named(resolved.report), duplicate: !resolved.is_new })
    }

    /// A report with the JSON types that ids have in all answers.
    fn named(&self, mut report: Report) -> Report {
        let named = |user: &mut UserId| *user = self.live.named(user.clone());
        named(&mut report.sender);
        named(&mut report.by);
        if let Some(resolution) = &mut report.resolution {
            named(&mut resolution.by);
        }
        report
    }
}

/// Who asks, as one whom the rules of rooms bind: not an administrator, and not a token with that scope.
fn as_moderator(caller: &Caller, scope: Scope) -> Author {
    Author { admin: caller.actor.may(scope), ..Author::of(&caller.actor) }
}

/// What somebody says of a report, in one line, and not too long.
fn words(field: &'static str, given: &str) -> Result<String, ApiError> {
    let words: String = given.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if words.chars().count() > MAX_WORDS_CHARS {
        return Err(ApiError::field(field, format!("{field} must have at most {MAX_WORDS_CHARS} characters")));
    }
    Ok(words)
}
