//! Notifications: what is sent, to whom, and the rules of each user's one inbox.

use serde::{Deserialize, Serialize};

use super::{Role, Timestamp, UserId};

/// Who a notification is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// One or several people, named.
    Users(Vec<UserId>),
    /// Everybody with a role.
    Role(Role),
    /// Everybody.
    All,
}

/// A notification to be stored.
#[derive(Debug, Clone)]
pub struct NotificationDraft {
    /// Who it is for.
    pub audience: Audience,
    /// What is shown.
    pub body: NotificationBody,
    /// When it was received.
    pub at: Timestamp,
}

/// What a notification shows. The French texts stand beside the others; the client chooses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotificationBody {
    /// A word of the platform's own for the kind, for example `info` or `booking`.
    pub kind: String,
    /// The title.
    pub title: String,
    /// The text.
    pub message: String,
    /// The title in French.
    pub title_fr: Option<String>,
    /// The text in French.
    pub message_fr: Option<String>,
    /// Where a click leads; never fetched.
    pub link: Option<String>,
    /// Any JSON of the platform's own, as text.
    pub metadata: Option<String>,
}

/// A stored notification as one user sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// Unique, rising, from the same sequence as message ids.
    pub id: u64,
    /// Who it is for.
    pub audience: Audience,
    /// What is shown.
    pub body: NotificationBody,
    /// When it was stored.
    pub at: Timestamp,
    /// Whether this user has read it.
    pub read: bool,
}

/// Which notifications a request means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These.
    Ids(Vec<u64>),
    /// All of the inbox.
    All,
}

/// Whether a notification belongs to a user's inbox. `first_seen_id` is the store's next id when the user was first seen:
/// what went to a role or to everyone before that is not theirs.
#[must_use]
pub fn is_for(audience: &Audience, id: u64, user: &UserId, roles: &[Role], first_seen_id: u64) -> bool {
    match audience {
        Audience::Users(users) => users.contains(user),
        Audience::Role(role) => id >= first_seen_id && roles.contains(role),
        Audience::All => id >= first_seen_id,
    }
}
