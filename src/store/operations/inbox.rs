//! Notifications, and what people do with them in their inboxes.

use crate::domain::notification::{Notification, NotificationDraft, Selection};
use crate::domain::{Role, UserId};

use super::RequestKey;

/// Stores a notification. Errors: `KeyReused`.
#[derive(Debug, Clone)]
pub struct Notify {
    /// What is stored.
    pub draft: NotificationDraft,
    /// Makes it idempotent for its caller.
    pub key: Option<RequestKey>,
}

impl Notify {
    pub(super) fn bytes(&self) -> usize {
        self.draft.body.message.len() + self.draft.body.metadata.as_ref().map_or(0, String::len)
    }
}

/// The notification that was stored, now or by the first request with the same key.
#[derive(Debug, Clone, PartialEq)]
pub struct Notified {
    /// It.
    pub notification: Notification,
    /// Whether an earlier request had the same key.
    pub duplicate: bool,
}

/// What is done to notifications of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxAction {
    /// They are read.
    Read,
    /// They are gone from the inbox.
    Delete,
}

/// Reads or deletes notifications. Ids that are not in the inbox are passed over.
#[derive(Debug, Clone)]
pub struct MarkInbox {
    /// Whose inbox.
    pub user: UserId,
    /// The roles that they have now.
    pub roles: Vec<Role>,
    /// Which notifications.
    pub selection: Selection,
    /// What is done to them.
    pub action: InboxAction,
    /// The caller's own mark of where the request came from; it comes back in the change.
    pub origin: Option<u64>,
}

/// What was marked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Marked {
    /// The ids that changed; empty for a selection of all.
    pub ids: Vec<u64>,
    /// How many are unread now.
    pub unread: u64,
}
