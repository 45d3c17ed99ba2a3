//! Notifications as administrators see them: what is scheduled, what can be read, what is over, and who has read it.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::notification::{Audience, CountedNotice, NotificationBody, Reader};
use crate::domain::{Role, Timestamp, UserId};
use crate::protocol::view::Translations;

/// `GET /api/v1/admin/notifications`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct NoticeListRequest {
    /// `scheduled`, `live` or `over`.
    #[serde(default)]
    pub state: Option<String>,
    /// Lower numbers alone.
    #[serde(default)]
    pub before: Option<u64>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// `GET /api/v1/admin/notifications/{id}/readers`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReaderListRequest {
    /// What an earlier page gave as `next`.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Only who has read it, or only who has not.
    #[serde(default)]
    pub read: Option<bool>,
}

/// To whom it goes.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub enum TargetView {
    /// To everybody: `true`.
    All(bool),
    /// To a role.
    Role(Role),
    /// To one user.
    User(UserId),
    /// To so many users; the readers name them.
    Users(usize),
}

/// A notification.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NoticeView {
    /// Its number.
    pub id: u64,
    /// The id that its readers know; null before it is sent.
    pub notification_id: Option<u64>,
    /// `scheduled`, `live`, `ended`, `recalled`, or `missed` where its time was over before it could be sent.
    pub state: &'static str,
    /// To whom.
    pub target: TargetView,
    /// A word for the kind.
    #[serde(rename = "type")]
    pub kind: String,
    /// The title.
    pub title: String,
    /// The text.
    pub message: String,
    /// The texts by language, as JSON; null where there is one language.
    pub translations: Option<Box<RawValue>>,
    /// Where a click leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// Who has sent or scheduled it; null where that was not kept.
    pub by: Option<UserId>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it is to be sent, or was.
    pub at: Timestamp,
    /// When it is over, or was to be; null: never.
    pub until: Option<Timestamp>,
    /// Since when it is over, or null.
    pub over_since: Option<Timestamp>,
    /// Who has taken it back, or `system` where its time was over; null while it is not over.
    pub over_by: Option<UserId>,
    /// How many have read it.
    pub read_by: u64,
    /// Of how many.
    pub recipients: u64,
}

impl From<&CountedNotice> for NoticeView {
    fn from(counted: &CountedNotice) -> NoticeView {
        let notice = &counted.notice;
        let NotificationBody { kind, title, message, link, .. } = &notice.body;
        NoticeView {
            id: notice.id,
            notification_id: notice.sent,
            state: notice.state().as_str(),
            target: match &notice.audience {
                Audience::All => TargetView::All(true),
                Audience::Role(role) => TargetView::Role(*role),
                Audience::Users(users) => match users.as_slice() {
                    [user] => TargetView::User(user.clone()),
                    users => TargetView::Users(users.len()),
                },
            },
            kind: kind.clone(),
            title: title.clone(),
            message: message.clone(),
            translations: Translations::of(&notice.body)
                .and_then(|translations| serde_json::value::to_raw_value(&translations).ok()),
            link: link.clone(),
            by: notice.by.clone(),
            created_at: notice.made_at,
            at: notice.at,
            until: notice.until,
            over_since: notice.over.as_ref().map(|over| over.at),
            over_by: notice.over.as_ref().map(|over| over.by.clone()),
            read_by: counted.read_by,
            recipients: counted.recipients,
        }
    }
}

/// A part of the readers.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Readers {
    /// The notification.
    pub notification: NoticeView,
    /// Those whom it is for.
    pub items: Vec<ReaderView>,
    /// What to give as `after` for the next part, or null.
    pub next: Option<String>,
}

/// Somebody whom a notification is for.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReaderView {
    /// The user.
    pub user_id: UserId,
    /// The name as last given.
    pub name: String,
    /// Whether they have read it.
    pub read: bool,
    /// When; null if they have not, or if that is not known.
    pub read_at: Option<Timestamp>,
}

impl From<Reader> for ReaderView {
    fn from(reader: Reader) -> ReaderView {
        let Reader { user, name, read, read_at } = reader;
        ReaderView { user_id: user, name, read, read_at }
    }
}

/// `POST /api/v1/admin/notifications/{id}/recall`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Recalled {
    /// What was taken back.
    pub notification: NoticeView,
    /// Whether it had been sent; else nobody has seen it.
    pub was_sent: bool,
}
