//! What administrators do with people's data: legal holds, exports of all that is stored of somebody, and erasures with
//! their certificate.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::config::capacity::{self, Pace};
use crate::domain::audit::action;
use crate::domain::privacy::{Certificate, Hold, Subject};
use crate::domain::{Refusal, Scope, UserId};
use crate::protocol::admin::access::MuteView;
use crate::protocol::admin::data::{
    AuditView, ErasurePreview, ExportedNotification, HoldRequest, HoldView, ProfileView,
};
use crate::protocol::error::{ApiError, ErrorCode};
use crate::protocol::order::{EvidenceView, OwnReportView};
use crate::protocol::view::{NotificationView, ProgressView, RoomView, VersionedMessage};
use crate::store::operations::{Act, BeginErasure, EraseSlice, PruneWithheld, ReleaseHold, SetHold};
use crate::store::{ExportCursor, StoreError, UserItem};

use crate::realtime::live::Live;
use crate::services::audit::record_reading;
use crate::services::errors::{store_error, user_error};
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::streams::{self, ByteStream, JsonSections, Streams};
use crate::services::turns::{NoTurn, Turns};
use crate::services::{Caller, authorize};

/// So many things are erased by one transaction.
const ERASE_SLICE: usize = 500;
/// So many withheld versions are looked at by one transaction.
const PRUNE_SLICE: usize = 250;
/// Between two slices the writer is others' for so long.
const PRUNE_PAUSE: Duration = Duration::from_millis(5);
/// So many rows of an export are read at a time.
const EXPORT_PAGE: usize = 200;
/// Whoever wants an export while others are made comes again after so long.
const EXPORT_RETRY: Duration = Duration::from_secs(5);
/// The longest reason of a hold, in characters.
const REASON_CHARS: usize = 500;

/// Why an export ends early.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes one thing that is stored of a person as JSON.
fn write_item(out: &mut JsonSections<Vec<u8>>, item: &UserItem) -> io::Result<()> {
    match item {
        UserItem::Profile(profile) => {
            let (user_id, name, roles) = (&profile.user, profile.name.as_str(), profile.roles.as_slice());
            let (first_seen, last_seen) = (profile.first_seen, profile.last_seen);
            out.member("user", &ProfileView { user_id, name, roles, first_seen, last_seen })
        }
        UserItem::Room(summary) => out.item("rooms", &RoomView::from(summary)),
        UserItem::Message { message, versions } => out.item("messages", &VersionedMessage::new(message, versions)),
        UserItem::Lesson(progress) => out.item("progress", &ProgressView::from(progress)),
        UserItem::Version(progress) => out.item("progressVersions", &ProgressView::from(progress)),
        UserItem::Notification { notification, is_deleted, read_at } => {
            let view = NotificationView::from(notification);
            let read_at = *read_at;
            out.item("notifications", &ExportedNotification { view, deleted: *is_deleted, read_at, state: None })
        }
        UserItem::Notice(notice) => {
            let (notification, state) = (notice.notification(), Some(notice.state().as_str()));
            let view = NotificationView::from(&notification);
            out.item("notifications", &ExportedNotification { view, deleted: false, read_at: None, state })
        }
        UserItem::Audit(record) => out.item("audit", &AuditView::from(record)),
        UserItem::Mute(banned) => match MuteView::of(banned) {
            Some(mute) => out.item("mutes", &mute),
            None => Ok(()),
        },
        UserItem::Report(report) => out.item("reports", &OwnReportView::from(report)),
        UserItem::Reported(report) => out.item("reported", &EvidenceView::from(report)),
    }
}

/// Legal holds, exports and erasures.
#[derive(Debug, Clone)]
pub struct Privacy {
    /// All that is stored of somebody.
    store: Storage,
    /// The JSON types of ids.
    live: Arc<Live>,
    /// The retention floor, and the calendar that finishes what was cut short.
    settings: Arc<LiveSettings>,
    /// The exports that are being sent.
    streams: Streams,
    /// The turns of exports.
    exports: Turns,
}

impl Privacy {
    pub(super) fn new(store: Storage, live: Arc<Live>, settings: Arc<LiveSettings>, streams: Streams) -> Privacy {
        Privacy { store, live, settings, streams, exports: Turns::default() }
    }

    /// All legal holds.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn holds(&self, caller: &Caller) -> Result<Vec<HoldView>, ApiError> {
        authorize(caller, Scope::Admin)?;
        let holds = self.store.holds().await.map_err(store_error)?;
        Ok(holds.iter().map(|hold| self.view(hold)).collect())
    }

    /// A hold as administrators see it.
    fn view(&self, hold: &Hold) -> HoldView {
        let mut view = HoldView::from(hold);
        view.user_id = view.user_id.map(|user| self.live.named(user));
        view
    }

    /// Sets a legal hold, beside those that stand on its subject. Asked again with the same reason, it gives the one that stands.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `conflict` while an erasure of that user is under way, `unavailable`.
    pub async fn set_hold(&self, caller: &Caller, request: HoldRequest) -> Result<HoldView, ApiError> {
        authorize(caller, Scope::Admin)?;
        let subject = match (request.user_id, request.room_id) {
            (Some(user), None) => Subject::User(user),
            (None, Some(room)) => Subject::Room(room),
            _ => return Err(ApiError::field("userId", "name either userId or roomId")),
        };
        let reason = request.reason.trim().to_owned();
        if reason.is_empty() || reason.chars().count() > REASON_CHARS {
            return Err(ApiError::field("reason", format!("reason must have 1 to {REASON_CHARS} characters")));
        }
        let (by, at) = (caller.actor.user.canonical(), self.store.now());
        let hold = Hold { number: 0, subject, reason, by, at };
        let act = Act { note: hold.reason.clone(), ..caller.act(action::HOLD_SET, hold.subject.to_string()) };
        loop {
            match self.store.act(SetHold { hold: hold.clone() }, act.clone()).await {
                Ok(set) => return Ok(self.view(&set.answer.hold)),
                Err(StoreError::Refused(Refusal::Unsettled)) => self.prune_withheld().await.map_err(store_error)?,
                Err(error) => return Err(store_error(error)),
            }
        }
    }

    /// Releases one legal hold; others on its subject go on to stand. The number says which one where several stand.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `conflict` without a number where several stand, `unavailable`.
    pub async fn release_hold(
        &self,
        caller: &Caller,
        subject: Subject,
        number: Option<u64>,
    ) -> Result<HoldView, ApiError> {
        authorize(caller, Scope::Admin)?;
        let act = caller.act(action::HOLD_RELEASE, subject.to_string());
        let hold = self.store.act(ReleaseHold { subject, number }, act).await.map_err(store_error)?.answer;
        // What it withheld is shown to nobody from now on, and goes in a moment.
        self.settings.wake_calendar();
        Ok(self.view(&hold))
    }

    /// All that is stored of a person, as one JSON document, streaming. It is read part by part as the receiver takes it: a slow
    /// one holds neither a thread nor a view of the store, and their turn for no longer than [`capacity::PATIENCE`].
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `rate_limited` while others are made, `unavailable`.
    pub async fn export_user(&self, caller: &Caller, user: UserId) -> Result<ByteStream, ApiError> {
        authorize(caller, Scope::Users)?;
        let turn =
            self.exports.begin(&caller.actor.user, capacity::EXPORTS, capacity::EXPORTS_EACH).map_err(|why| {
                let message = match why {
                    NoTurn::Own => "other exports of yours are being made; try again when one of them has ended",
                    NoTurn::All => "other exports are being made; try again when one of them has ended",
                };
                ApiError::rate_limited(EXPORT_RETRY, message)
            })?;
        let first = self.store.export_page(user.clone(), ExportCursor::default(), EXPORT_PAGE).await;
        let mut page = first.map_err(user_error)?;
        record_reading(&self.store, caller, action::USER_EXPORT, format!("user {user}")).await?;
        let patience = if caller.is_local() { capacity::LOCAL_PATIENCE } else { capacity::PATIENCE };
        let pace = Pace::new(patience, capacity::ANSWER_PACE);
        let (stream, mut sender, ending) = streams::stream(capacity::EXPORT_PIECES, pace);
        let store = self.store.clone();
        let (what, whom) = (format!("the export of user {user}"), caller.in_words());
        let streams = self.streams.clone();
        self.streams.spawn(async move {
            let _turn = turn;
            let mut out = JsonSections::new(Vec::new());
            let outcome: Result<(), ExportError> = async {
                loop {
                    page.items.iter().try_for_each(|item| write_item(&mut out, item))?;
                    let Some(next) = page.next else {
                        out.end()?;
                        return Ok(sender.send(Bytes::from(out.take())).await?);
                    };
                    sender.send(Bytes::from(out.take())).await?;
                    page = store.export_page(user.clone(), next, EXPORT_PAGE).await?;
                }
            }
            .await;
            match outcome {
                Ok(()) => ending.whole(),
                Err(error) => streams.tell_incomplete(&what, &whom, &error),
            }
        });
        Ok(stream)
    }

    /// Erases somebody: what they wrote, their progress, their inbox, their name. Their messages stay as tombstones of
    /// nobody. Cut short, it goes on at the next start. Asked again, it gives the certificate again.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `conflict` under a legal hold or below the retention floor without `consent`,
    /// `unavailable`.
    pub async fn erase_user(&self, caller: &Caller, user: UserId, consent: bool) -> Result<Certificate, ApiError> {
        authorize(caller, Scope::Users)?;
        if user == UserId::system() || user == UserId::erased() {
            return Err(ApiError::field("userId", "this is not a person"));
        }
        let floor = self.settings.get().retention.floor;
        let by = caller.actor.user.canonical();
        let act = caller.act(action::USER_ERASE, format!("user {user}"));
        let begin = BeginErasure { user: user.clone(), by, consent, floor, is_dry_run: false };
        let begun = self.store.act(begin, act).await;
        let begun = begun.map_err(user_error)?;
        if !begun.answer.erasure.is_finished() {
            // It goes on by itself if the caller does not wait for it.
            self.settings.wake_calendar();
            self.finish_erasure(&user).await.map_err(|error| ApiError {
                message: "the erasure has begun, and goes on by itself as soon as the store takes it; ask for its \
                          certificate then"
                    .into(),
                ..store_error(error)
            })?;
        }
        self.certificate_of(user).await
    }

    /// What an erasure would take, refused as the erasure would be. Nothing is erased.
    ///
    /// # Errors
    /// As [`Privacy::erase_user`].
    pub async fn preview_erasure(
        &self,
        caller: &Caller,
        user: UserId,
        consent: bool,
    ) -> Result<ErasurePreview, ApiError> {
        authorize(caller, Scope::Users)?;
        if user == UserId::system() || user == UserId::erased() {
            return Err(ApiError::field("userId", "this is not a person"));
        }
        let (by, floor) = (caller.actor.user.canonical(), self.settings.get().retention.floor);
        let begin = BeginErasure { user: user.clone(), by, consent, floor, is_dry_run: true };
        self.store.act(begin, None).await.map_err(user_error)?;
        let counts = self.store.erasable(user.clone()).await.map_err(store_error)?;
        Ok(ErasurePreview { user_id: user, dry_run: true, counts })
    }

    /// The certificate of somebody's erasure.
    ///
    /// # Errors
    /// `forbidden`, `not_found`, `unavailable`.
    pub async fn certificate(&self, caller: &Caller, user: UserId) -> Result<Certificate, ApiError> {
        authorize(caller, Scope::Users)?;
        self.certificate_of(user).await
    }

    async fn certificate_of(&self, user: UserId) -> Result<Certificate, ApiError> {
        let erasure = self.store.erasure(user).await.map_err(store_error)?;
        let certificate = erasure.and_then(|erasure| erasure.certificate(self.store.identity().store_id));
        certificate.ok_or_else(|| ApiError::new(ErrorCode::NotFound, "this user has not been erased"))
    }

    /// Erases to the end what has been begun.
    async fn finish_erasure(&self, user: &UserId) -> Result<(), StoreError> {
        let server = Caller::server();
        loop {
            let act = server.act(action::USER_ERASE, format!("user {user}"));
            let slice = EraseSlice { user: user.clone(), limit: ERASE_SLICE, act };
            match self.store.write(slice).await {
                Ok(step) if step.is_finished => return Ok(()),
                Ok(_) => {}
                // Somebody else has finished it meanwhile.
                Err(StoreError::Refused(Refusal::NotFound)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Finishes erasures that were cut short, or whose caller has gone.
    pub(super) async fn resume_erasures(&self) -> Result<(), StoreError> {
        for erasure in self.store.erasures().await?.iter().filter(|erasure| !erasure.is_finished()) {
            self.finish_erasure(&erasure.user).await?;
        }
        Ok(())
    }

    /// Removes withheld versions of messages that nothing holds any more.
    pub(super) async fn prune_withheld(&self) -> Result<(), StoreError> {
        while !self.store.write(PruneWithheld { limit: PRUNE_SLICE }).await? {
            tokio::time::sleep(PRUNE_PAUSE).await;
        }
        Ok(())
    }
}
