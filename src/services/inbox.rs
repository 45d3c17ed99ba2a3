//! Notifications and each user's inbox: what waits on arrival, what is read, what is gone.

use std::sync::Arc;

use crate::domain::notification::{Audience, NotificationBody, NotificationDraft, Selection};
use crate::domain::{Actor, UserId};
use crate::protocol::answer::{InboxMarked, NotificationItems};
use crate::protocol::error::ApiError;
use crate::protocol::request::{
    DEFAULT_PAGE, MAX_IDS, MAX_PAGE, NotificationContent, NotificationDelete, NotificationList, NotificationRead,
};
use crate::protocol::view::NotificationView;
use crate::store::operations::{Arrive, Delivered, DeliveryMark, InboxAction, MarkInbox, Marked};
use crate::store::{InboxQuery, StoreError};

use crate::realtime::live::Live;
use crate::realtime::registry::{Arrived, SocketHandle};
use crate::services::Caller;
use crate::services::errors::store_error;
use crate::services::pages::{fitting, limit_within};
use crate::services::storage::Storage;

/// The most undelivered notifications that are sent on arrival.
pub const MAX_ON_ARRIVAL: usize = 100;
const MAX_TITLE_CHARS: usize = 200;
const MAX_MESSAGE_CHARS: usize = 4_000;
const MAX_LINK_CHARS: usize = 2_000;
const MAX_KIND_CHARS: usize = 64;
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// The notifications of each user.
#[derive(Debug, Clone)]
pub struct Inbox {
    /// Notifications, and who has seen them.
    store: Storage,
    /// Who is connected, and who is known to the store.
    live: Arc<Live>,
}

impl Inbox {
    pub(super) fn new(store: Storage, live: Arc<Live>) -> Inbox {
        Inbox { store, live }
    }

    /// Somebody has come: their inbox is counted, and what no socket of theirs was sent yet is given.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn arrive(&self, caller: &Caller, handle: &SocketHandle) -> Result<Arrived, ApiError> {
        let actor = &*caller.actor;
        self.live.note_arrival(&actor.user);
        // The store hears of what was sent once a second; of a page that reloads it must know now.
        let marks = handle.unrecorded();
        if !marks.is_empty() {
            self.record_delivered(marks).await;
        }
        let arrived = self.store.write(arrival_of(actor)).await;
        if arrived.is_ok() {
            self.live.settled_ids.note_stored(&actor.user);
        }
        match arrived {
            // With a full disk people still come in and read; they are noted as seen another time. So does somebody who is
            // being erased.
            Ok(()) | Err(StoreError::Full(_) | StoreError::Refused(_)) => {}
            Err(error) => return Err(store_error(error)),
        }
        let arrival = self.store.arrival(actor.clone(), MAX_ON_ARRIVAL + 1).await.map_err(store_error)?;
        let mut undelivered = arrival.undelivered;
        let has_more = undelivered.len() > MAX_ON_ARRIVAL;
        undelivered.truncate(MAX_ON_ARRIVAL);
        let up_to = undelivered.last().map_or(0, |notification| notification.id);
        Ok(Arrived { unread: arrival.unread, undelivered, up_to, has_more })
    }

    /// Tells the store what was sent since the last time.
    pub(super) async fn record_deliveries(&self) {
        let marks = self.live.sockets.unrecorded_deliveries();
        if !marks.is_empty() {
            self.record_delivered(marks).await;
        }
    }

    /// Tells the store what was sent. What it does not take is tried again.
    async fn record_delivered(&self, marks: Vec<(UserId, DeliveryMark)>) {
        match self.store.write(Delivered { marks: marks.clone() }).await {
            Ok(()) => self.live.sockets.note_recorded(&marks),
            Err(error) => tracing::debug!(%error, "could not record delivery marks; retrying"),
        }
    }

    /// How many notifications are unread.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn unread(&self, caller: &Caller) -> Result<u64, ApiError> {
        note_user(&self.store, &self.live, caller).await;
        let query = InboxQuery { before: None, limit: 1, unread_only: true };
        let page = self.store.inbox((*caller.actor).clone(), query).await.map_err(store_error)?;
        Ok(page.unread)
    }

    /// A part of the inbox.
    ///
    /// # Errors
    /// `invalid_payload`, `unavailable`.
    pub async fn list(&self, caller: &Caller, request: NotificationList) -> Result<NotificationItems, ApiError> {
        let limit = limit_within(request.limit, DEFAULT_PAGE, MAX_PAGE)?;
        note_user(&self.store, &self.live, caller).await;
        let query = InboxQuery { before: request.before, limit, unread_only: request.unread_only };
        let page = self.store.inbox((*caller.actor).clone(), query).await.map_err(store_error)?;
        let mut items = page.items;
        let fit = fitting(items.iter().map(NotificationView::from));
        let has_more = page.has_more || fit < items.len();
        items.truncate(fit);
        Ok(NotificationItems { items, unread: page.unread, has_more })
    }

    /// Marks notifications as read.
    ///
    /// # Errors
    /// `invalid_payload`, `unavailable`.
    pub async fn read(&self, caller: &Caller, request: NotificationRead) -> Result<InboxMarked, ApiError> {
        if request.up_to.is_some() && !request.all {
            return Err(ApiError::field("upTo", "upTo goes with all: true"));
        }
        let selection = match (request.id, request.ids, request.all) {
            (Some(id), None, false) => Selection::Ids(vec![id]),
            (None, Some(ids), false) if !ids.is_empty() && ids.len() <= MAX_IDS => Selection::Ids(ids),
            (None, Some(_), false) => {
                return Err(ApiError::field("ids", format!("ids must name 1 to {MAX_IDS} notifications")));
            }
            (None, None, true) => Selection::All { up_to: request.up_to },
            _ => {
                return Err(ApiError::new(
                    crate::protocol::ErrorCode::InvalidPayload,
                    "give exactly one of id, ids and all: true",
                ));
            }
        };
        self.mark(caller, selection, InboxAction::Read).await
    }

    /// Removes a notification from the inbox.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn delete(&self, caller: &Caller, request: NotificationDelete) -> Result<InboxMarked, ApiError> {
        self.mark(caller, Selection::Ids(vec![request.id]), InboxAction::Delete).await
    }

    async fn mark(&self, caller: &Caller, selection: Selection, action: InboxAction) -> Result<InboxMarked, ApiError> {
        let (user, roles, origin) = (caller.actor.user.clone(), caller.actor.roles.clone(), caller.socket);
        let Marked { ids, unread } =
            self.store.write(MarkInbox { user, roles, selection, action, origin }).await.map_err(store_error)?;
        Ok(InboxMarked { ids, unread })
    }
}

/// Makes sure that somebody who only polls is known: roles and everybody are sent to who has been seen. Once a user
/// and process; a store that takes no writes still lets them read.
pub(super) async fn note_user(store: &Storage, live: &Live, caller: &Caller) {
    let user = &caller.actor.user;
    // Who administers on this machine is no person with an inbox.
    if *user == UserId::system() || caller.socket.is_some() || live.known_users.has(user) {
        return;
    }
    match store.write(arrival_of(&caller.actor)).await {
        Ok(()) => live.known_users.add(user),
        Err(error) => tracing::debug!(%error, "an arrival was not recorded"),
    }
}

/// A notification to be stored.
///
/// # Errors
/// `invalid_payload`.
pub(super) fn draft_of(audience: Audience, content: NotificationContent) -> Result<NotificationDraft, ApiError> {
    Ok(NotificationDraft { audience, body: checked_body(content)? })
}

fn arrival_of(actor: &Actor) -> Arrive {
    Arrive { user: actor.user.clone(), name: actor.name.clone(), roles: actor.roles.clone() }
}

fn checked_body(content: NotificationContent) -> Result<NotificationBody, ApiError> {
    let kind = content.kind.unwrap_or_else(|| "info".to_owned());
    check("type", &kind, MAX_KIND_CHARS)?;
    check("title", &content.title, MAX_TITLE_CHARS)?;
    check("message", &content.message, MAX_MESSAGE_CHARS)?;
    for (field, text, most) in [
        ("titleFr", &content.title_fr, MAX_TITLE_CHARS),
        ("messageFr", &content.message_fr, MAX_MESSAGE_CHARS),
        ("link", &content.link, MAX_LINK_CHARS),
    ] {
        if let Some(text) = text {
            check(field, text, most)?;
        }
    }
    let metadata = content.metadata.map(|raw| raw.get().to_owned()).filter(|text| text != "null");
    if metadata.as_ref().is_some_and(|text| text.len() > MAX_METADATA_BYTES) {
        return Err(ApiError::field("metadata", format!("metadata may have at most {MAX_METADATA_BYTES} bytes")));
    }
    Ok(NotificationBody {
        kind,
        title: content.title,
        message: content.message,
        title_fr: content.title_fr,
        message_fr: content.message_fr,
        link: content.link,
        metadata,
    })
}

fn check(field: &'static str, text: &str, most: usize) -> Result<(), ApiError> {
    let chars = text.chars().take(most + 1).count();
    if chars == 0 || chars > most {
        return Err(ApiError::field(field, format!("{field} must have 1 to {most} characters")));
    }
    Ok(())
}
