//! What administrators do with people's data: legal holds, exports of all that is stored of somebody, erasures with their
//! certificate, and purges by age.

use std::io;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use crate::contract::care::{AuditView, Certificate, ExportedNotification, HoldRequest, HoldView, ProfileView};
use crate::contract::errors::{ErrorCode, WireError};
use crate::contract::views::{MessageView, NotificationView, ProgressView, RoomView};
use crate::domain::audit::action;
use crate::domain::privacy::{ErasureCounts, Hold, PurgeKind, Subject};
use crate::domain::{Actor, Refusal, Scope, Timestamp, UserId};
use crate::store::{PurgeCursor, StoreError, UserItem, UserItems};

use super::streams::{ByteStream, JsonSections, PieceWriter};
use super::{Caller, Services, may, store_error};

/// So many things are erased by one transaction.
const ERASE_SLICE: usize = 500;
/// So many things are looked at by one transaction of a purge.
const PURGE_SLICE: usize = 250;
/// Between two slices of a purge the writer is others' for so long.
const PURGE_PAUSE: Duration = Duration::from_millis(5);
/// The longest reason of a hold, in characters.
const REASON_CHARS: usize = 500;

/// What is purged by its age, and what must stay.
#[derive(Debug, Clone, Copy, Default)]
pub struct Retention {
    /// Chat messages older than this go; `None`: never.
    pub chat: Option<Duration>,
    /// Notifications older than this go.
    pub notifications: Option<Duration>,
    /// Records of the audit trail older than this go.
    pub audit: Option<Duration>,
    /// Nobody is erased whose newest data are younger than this, unless with consent.
    pub floor: Duration,
}

impl Retention {
    fn of(&self, kind: PurgeKind) -> Option<Duration> {
        match kind {
            PurgeKind::Chat => self.chat,
            PurgeKind::Notifications => self.notifications,
            PurgeKind::Audit => self.audit,
        }
    }

    /// The shortest that is set.
    #[must_use]
    pub fn shortest(&self) -> Option<Duration> {
        PurgeKind::ALL.into_iter().filter_map(|kind| self.of(kind)).min()
    }
}

/// Writes what is stored of a person as JSON.
struct Export(JsonSections<PieceWriter>);

impl UserItems for Export {
    fn item(&mut self, item: UserItem) -> io::Result<()> {
        match &item {
            UserItem::Profile(profile) => {
                let (user_id, name, roles) = (&profile.user, profile.name.as_str(), profile.roles.as_slice());
                let (first_seen, last_seen) = (profile.first_seen, profile.last_seen);
                self.0.member("user", &ProfileView { user_id, name, roles, first_seen, last_seen })
            }
            UserItem::Room(summary) => self.0.item("rooms", &RoomView::from(summary)),
            UserItem::Message(message) => self.0.item("messages", &MessageView::from(message)),
            UserItem::Lesson(progress) => self.0.item("progress", &ProgressView::from(progress)),
            UserItem::Version(progress) => self.0.item("progressVersions", &ProgressView::from(progress)),
            UserItem::Notification { notification, is_deleted } => {
                let view = NotificationView::from(notification);
                self.0.item("notifications", &ExportedNotification { view, deleted: *is_deleted })
            }
            UserItem::Audit(record) => self.0.item("audit", &AuditView::from(record)),
        }
    }

    fn end(&mut self) -> io::Result<()> {
        self.0.end()
    }
}

impl Services {
    /// All legal holds.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn holds(&self, caller: &Caller) -> Result<Vec<HoldView>, WireError> {
        may(caller, Scope::Admin)?;
        let holds = self.store.holds().await.map_err(store_error)?;
        Ok(holds.iter().map(HoldView::from).collect())
    }

    /// Sets a legal hold, or renews its reason.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict` while an erasure of that user is under way, `unavailable`.
    pub async fn set_hold(&self, caller: &Caller, request: HoldRequest) -> Result<HoldView, WireError> {
        may(caller, Scope::Admin)?;
        let subject = match (request.user_id, request.room_id) {
            (Some(user), None) => Subject::User(user),
            (None, Some(room)) => Subject::Room(room),
            _ => return Err(WireError::field("userId", "name either userId or roomId")),
        };
        let reason = request.reason.trim().to_owned();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS {
            return Err(WireError::field("reason", format!("reason must have 1 to {REASON_CHARS} characters")));
        }
        let hold = Hold { subject, reason, by: caller.actor.user.canonical(), at: self.now() };
        self.store.hold(hold.clone()).await.map_err(|error| match error {
            StoreError::Refused(Refusal::Conflict) => {
                WireError::new(ErrorCode::Conflict, "an erasure of this user is under way; it cannot be held any more")
            }
            other => store_error(other),
        })?;
        self.record(caller, action::HOLD_SET, hold.subject.to_string(), format!("done: {}", hold.reason)).await?;
        Ok(HoldView::from(&hold))
    }

    /// Releases a legal hold.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn release_hold(&self, caller: &Caller, subject: Subject) -> Result<HoldView, WireError> {
        may(caller, Scope::Admin)?;
        let hold = self.store.release(subject).await.map_err(store_error)?;
        self.record(caller, action::HOLD_RELEASE, hold.subject.to_string(), "done".to_owned()).await?;
        Ok(HoldView::from(&hold))
    }

    /// All that is stored of a person, as one JSON document, streaming.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn export_user(&self, caller: &Caller, user: UserId) -> Result<ByteStream, WireError> {
        may(caller, Scope::Users)?;
        let (mut stream, writer) = ByteStream::new();
        let breaker = writer.breaker();
        let export = Box::new(Export(JsonSections::new(writer)));
        let (store, wanted) = (self.store.0.clone(), user.clone());
        let (answer, known) = tokio::sync::oneshot::channel();
        self.tasks.spawn(async move {
            let outcome = store.export_user(wanted, export).await;
            if let Err(error) = &outcome {
                breaker.fail(error.to_string()).await;
            }
            // Who does not wait for it has the stream already.
            let _ = answer.send(outcome);
        });
        if stream.begins().await {
            self.record(caller, action::USER_EXPORT, format!("user {user}"), "done".to_owned()).await?;
            return Ok(stream);
        }
        match known.await {
            Ok(Err(error)) => Err(store_error(error)),
            _ => Err(WireError::new(ErrorCode::NotFound, "nothing is stored of this user")),
        }
    }

    /// Erases somebody: what they wrote, their progress, their inbox, their name. Their messages stay as tombstones of
    /// nobody. Cut short, it goes on at the next start.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `conflict` under a legal hold or below the retention floor without `consent`,
    /// `unavailable`.
    pub async fn erase_user(&self, caller: &Caller, user: UserId, consent: bool) -> Result<Certificate, WireError> {
        may(caller, Scope::Users)?;
        if user == UserId::system() || user == UserId::erased() {
            return Err(WireError::field("userId", "this is not a person"));
        }
        let target = format!("user {user}");
        let floor = self.settings.load().retention.floor;
        let newest = self.store.newest_of(user.clone()).await.map_err(store_error)?;
        if !consent && newest.is_some_and(|newest| newest.plus(floor) > self.now()) && !floor.is_zero() {
            let outcome = "refused: below the retention floor";
            self.record(caller, action::USER_ERASE, target, outcome.to_owned()).await?;
            let message = "this user's data are younger than retention.floor; erase them with consent (--consent)";
            return Err(WireError::new(ErrorCode::Conflict, message));
        }
        match self.store.begin_erasure(user.clone(), self.now()).await {
            Ok(_) => {}
            Err(StoreError::Refused(Refusal::Held)) => {
                self.record(caller, action::USER_ERASE, target, "refused: legal hold".to_owned()).await?;
                return Err(Refusal::Held.into());
            }
            Err(StoreError::Refused(Refusal::NotFound)) => {
                return Err(WireError::new(ErrorCode::NotFound, "nothing is stored of this user"));
            }
            Err(error) => return Err(store_error(error)),
        }
        let counts = self.finish_erasure(&user).await.map_err(store_error)?;
        let certificate = self.certificate(caller, user, consent, counts);
        let outcome = format!("done: {} things, certificate {}", counts.total(), certificate.hash);
        self.record(caller, action::USER_ERASE, target, outcome).await?;
        Ok(certificate)
    }

    fn certificate(&self, caller: &Caller, user_id: UserId, consent: bool, counts: ErasureCounts) -> Certificate {
        let store_id = self.store.identity().store_id.iter().map(|byte| format!("{byte:02x}")).collect();
        let (erased_at, by) = (self.now(), caller.actor.user.canonical());
        let mut certificate = Certificate { user_id, erased_at, by, consent, store_id, counts, hash: String::new() };
        let text = serde_json::to_vec(&certificate).unwrap_or_default();
        certificate.hash = blake3::hash(&text).to_hex().to_string();
        certificate
    }

    /// Erases to the end what has been begun, and gives all that is gone of this person since.
    async fn finish_erasure(&self, user: &UserId) -> Result<ErasureCounts, StoreError> {
        self.forget_met(user);
        while !self.store.erase(user.clone(), ERASE_SLICE).await?.is_finished {}
        let erasures = self.store.erasures().await?;
        Ok(erasures.into_iter().find(|erasure| erasure.user == *user).map(|erasure| erasure.counts).unwrap_or_default())
    }

    /// Finishes erasures that a stop has cut short.
    pub(super) async fn resume_erasures(&self) {
        let pending = match self.store.erasures().await {
            Ok(erasures) => erasures.into_iter().filter(|erasure| !erasure.is_finished),
            Err(error) => return tracing::warn!(%error, "erasures could not be looked for"),
        };
        for erasure in pending {
            match self.finish_erasure(&erasure.user).await {
                Ok(counts) => {
                    let outcome = format!("done: {} things, after an interruption", counts.total());
                    let caller = Caller::house(Actor::local_admin());
                    let target = format!("user {}", erasure.user);
                    drop(self.record(&caller, action::USER_ERASE, target, outcome).await);
                }
                Err(error) => tracing::warn!(%error, "an erasure could not be finished; it is tried again"),
            }
        }
    }

    /// Purges what is older than `[retention]` says, beside the traffic. Called from time to time.
    pub(super) async fn purge_by_age(&self) {
        let rests_until = *self.purges_rest_until.lock().unwrap_or_else(PoisonError::into_inner);
        if rests_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        for kind in PurgeKind::ALL {
            let Some(age) = self.settings.load().retention.of(kind) else { continue };
            let age_ms = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            let before = Timestamp(self.now().as_millis().saturating_sub(age_ms));
            match self.purge(kind, before).await {
                Ok((0, _)) => {}
                Ok((purged, held)) => {
                    tracing::info!(kind = kind.as_str(), purged, held, "purged by age");
                    let caller = Caller::house(Actor::local_admin());
                    let outcome = format!("done: {purged} purged, {held} held");
                    drop(self.record(&caller, action::PURGE, kind.as_str().to_owned(), outcome).await);
                }
                Err(error) => tracing::warn!(%error, kind = kind.as_str(), "a purge stopped; it is tried again"),
            }
        }
    }

    async fn purge(&self, kind: PurgeKind, before: Timestamp) -> Result<(u64, u64), StoreError> {
        let (mut cursor, mut purged, mut held) = (PurgeCursor::default(), 0, 0);
        loop {
            let step = self.store.purge(kind, before, cursor, PURGE_SLICE).await?;
            purged += step.purged;
            held += step.held;
            match step.next {
                Some(next) if !self.is_ending() => cursor = next,
                _ => return Ok((purged, held)),
            }
            tokio::time::sleep(PURGE_PAUSE).await;
        }
    }
}
