//! How stored things look on the wire: the payloads that acks, events and HTTP answers share.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::domain::chat::{Membership, Message, MessageKind, RoomSummary};
use crate::domain::notification::{Notification, NotificationBody};
use crate::domain::privacy::{VersionEnd, WithheldVersion};
use crate::domain::progress::{Percent, Progress, Status};
use crate::domain::{Actor, LessonId, Role, Room, RoomId, Timestamp, UserId};
use crate::protocol::order::RoomStateView;

/// A message, as an event and in a page.
#[derive(Debug, Serialize, Clone)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageView<'a> {
    /// Unique over all rooms.
    pub id: u64,
    /// Its place in the room.
    pub seq: u64,
    /// The room.
    pub room_id: &'a RoomId,
    /// The sender.
    pub sender_id: &'a UserId,
    /// The sender's name then.
    pub sender_name: &'a str,
    /// The content; empty in a tombstone.
    pub content: &'a str,
    /// What the content is.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// The message it answers, or null.
    pub reply_to_id: Option<u64>,
    /// The sender's own key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a str>,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// When it was last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Timestamp>,
    /// Who last changed it, if that was not the sender; `erased` if they have been erased since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edited_by: Option<&'a UserId>,
    /// Who deleted it, if that was not the sender; `erased` if they have been erased since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<&'a UserId>,
}

impl<'a> From<&'a Message> for MessageView<'a> {
    fn from(message: &'a Message) -> MessageView<'a> {
        MessageView {
            id: message.id,
            seq: message.seq,
            room_id: &message.room,
            sender_id: &message.sender,
            sender_name: &message.sender_name,
            content: &message.content,
            kind: message.kind,
            reply_to_id: message.reply_to,
            client_id: message.client_id.as_deref(),
            timestamp: message.at,
            edited_at: message.edited_at,
            deleted_at: message.deleted_at,
            edited_by: message.edited_by.as_ref(),
            deleted_by: message.deleted_by.as_ref(),
        }
    }
}

/// A message with what it said before it was changed under a legal hold.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct VersionedMessage<'a> {
    #[serde(flatten)]
    message: MessageView<'a>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    versions: Vec<VersionView<'a>>,
}

impl<'a> VersionedMessage<'a> {
    /// A message and its withheld versions, oldest first.
    #[must_use]
    pub fn new(message: &'a Message, versions: &'a [WithheldVersion]) -> VersionedMessage<'a> {
        VersionedMessage { message: message.into(), versions: versions.iter().map(VersionView::from).collect() }
    }
}

/// `GET /api/v1/admin/messages/{messageId}`: one message, and what it said before it was changed under a legal hold where that
/// is asked for.
#[derive(Debug)]
pub struct OneMessage {
    /// It.
    pub message: Message,
    /// Its withheld versions, oldest first.
    pub versions: Vec<WithheldVersion>,
}

impl Serialize for OneMessage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        VersionedMessage::new(&self.message, &self.versions).serialize(serializer)
    }
}

/// What a message said before it was changed.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
struct VersionView<'a> {
    content: &'a str,
    until: Timestamp,
    by: &'a UserId,
    change: VersionEnd,
}

impl<'a> From<&'a WithheldVersion> for VersionView<'a> {
    fn from(version: &'a WithheldVersion) -> VersionView<'a> {
        let WithheldVersion { content, until, by, change } = version;
        VersionView { content, until: *until, by, change: *change }
    }
}

/// A lesson's progress, as an event and in an answer.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProgressView<'a> {
    /// The lesson.
    pub lesson_id: &'a LessonId,
    /// 0 to 100.
    pub progress: Percent,
    /// All seconds reported.
    pub time_spent: u64,
    /// The status.
    pub status: Status,
    /// 1, 2, 3, ...
    pub sync_version: u64,
    /// The course.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub course_id: Option<&'a LessonId>,
    /// The module.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub module_id: Option<&'a LessonId>,
    /// When the last report came.
    pub updated_at: Timestamp,
    /// When it was first completed, or null.
    pub completed_at: Option<Timestamp>,
}

impl<'a> From<&'a Progress> for ProgressView<'a> {
    fn from(progress: &'a Progress) -> ProgressView<'a> {
        ProgressView {
            lesson_id: &progress.lesson,
            progress: progress.progress,
            time_spent: progress.time_spent,
            status: progress.status,
            sync_version: progress.version,
            course_id: progress.course.as_ref(),
            module_id: progress.module.as_ref(),
            updated_at: progress.updated_at,
            completed_at: progress.completed_at,
        }
    }
}

/// A notification, as an event and in a list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NotificationView<'a> {
    /// Unique, rising.
    pub id: u64,
    /// A word for the kind.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The title.
    pub title: &'a str,
    /// The text.
    pub message: &'a str,
    /// The title in French.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title_fr: Option<&'a str>,
    /// The text in French.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_fr: Option<&'a str>,
    /// The texts by language, where there are two.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translations: Option<Translations<'a>>,
    /// Where a click leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub link: Option<&'a str>,
    /// The platform's own JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata: Option<&'a RawValue>,
    /// When it was stored.
    pub created_at: Timestamp,
    /// Whether this user has read it.
    pub read: bool,
}

/// The texts of a notification in both languages. What is not given in French is as in English.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Translations<'a> {
    /// In English.
    pub en: Texts<'a>,
    /// In French.
    pub fr: Texts<'a>,
}

/// The texts of a notification in one language.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Texts<'a> {
    /// The title.
    pub title: &'a str,
    /// The text.
    pub message: &'a str,
}

impl<'a> Translations<'a> {
    /// Both, where there is French.
    #[must_use]
    pub fn of(body: &'a NotificationBody) -> Option<Translations<'a>> {
        let (title, message) = (body.title.as_str(), body.message.as_str());
        let fr = match (body.title_fr.as_deref(), body.message_fr.as_deref()) {
            (None, None) => return None,
            (title_fr, message_fr) => {
                Texts { title: title_fr.unwrap_or(title), message: message_fr.unwrap_or(message) }
            }
        };
        Some(Translations { en: Texts { title, message }, fr })
    }
}

impl<'a> From<&'a Notification> for NotificationView<'a> {
    fn from(notification: &'a Notification) -> NotificationView<'a> {
        let body = &notification.body;
        NotificationView {
            id: notification.id,
            kind: &body.kind,
            title: &body.title,
            message: &body.message,
            title_fr: body.title_fr.as_deref(),
            message_fr: body.message_fr.as_deref(),
            translations: Translations::of(body),
            link: body.link.as_deref(),
            metadata: body.metadata.as_deref().and_then(|text| serde_json::from_str(text).ok()),
            created_at: notification.at,
            read: notification.read,
        }
    }
}

/// One row of `chat:rooms`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomView<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// Its name for people, or null.
    pub name: Option<&'a str>,
    /// Its latest message; 0 if there is none.
    pub last_id: u64,
    /// The read mark; 0 if there is none.
    pub read_up_to: u64,
    /// How many messages are behind it.
    pub unread: u64,
    /// What the user is in it.
    pub membership: Membership,
    /// Who may write in it, and how often.
    #[serde(flatten)]
    pub state: RoomStateView,
}

impl<'a> From<&'a RoomSummary> for RoomView<'a> {
    fn from(summary: &'a RoomSummary) -> RoomView<'a> {
        RoomView {
            room_id: &summary.room.id,
            name: summary.room.name.as_deref(),
            last_id: summary.room.last_id,
            read_up_to: summary.read_up_to,
            unread: summary.unread,
            membership: summary.membership,
            state: summary.room.state.into(),
        }
    }
}

/// What `authenticated` and `GET /api/v1/session` say.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Session<'a> {
    /// The user, with the token's type.
    pub user_id: &'a UserId,
    /// The display name.
    pub name: &'a str,
    /// The first role, or null.
    pub role: Option<Role>,
    /// All roles.
    pub roles: &'a [Role],
    /// The rooms joined by being who one is.
    pub rooms: Vec<String>,
    /// When the token ends, or null.
    pub expires_at: Option<Timestamp>,
    /// The server's clock.
    pub server_time: Timestamp,
    /// Unread notifications.
    pub unread: u64,
    /// The id of the store: what a client keeps for this server is not for another one at the same address.
    pub store_id: String,
}

impl<'a> Session<'a> {
    /// What an actor is told of themselves at this moment, with so many unread notifications.
    #[must_use]
    pub fn new(actor: &'a Actor, unread: u64, server_time: Timestamp, store_id: String) -> Session<'a> {
        Session {
            user_id: &actor.user,
            name: &actor.name,
            role: actor.role(),
            roles: &actor.roles,
            rooms: actor.own_rooms().iter().map(Room::name).collect(),
            expires_at: actor.expires_at,
            server_time,
            unread,
            store_id,
        }
    }
}
