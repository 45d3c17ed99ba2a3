//! What a client may ask, field by field. Unknown fields are passed over, so that a front end may be
//! newer than its server.

use serde::Deserialize;
use serde::de::IgnoredAny;
use zeroize::Zeroizing;

use crate::domain::chat::MessageKind;
use crate::domain::progress::{Percent, Status, Update};
use crate::domain::{LessonId, RoomId, Timestamp, UserId};

use crate::protocol::error::ApiError;

/// The longest `clientId`, `syncId` or `Idempotency-Key`, in characters.
pub const MAX_KEY_CHARS: usize = 64;
/// The most reports in one batch of `progress:sync`.
pub const MAX_SYNC_BATCH: usize = 500;
/// The most ids in one `notification:read`.
pub const MAX_IDS: usize = 1_000;
/// The most messages of one page.
pub const MAX_PAGE: usize = 200;
/// The most messages of one page of a search.
pub const MAX_FOUND: usize = 50;
/// Messages of a page for which nothing was said.
pub const DEFAULT_PAGE: usize = 50;

/// Every event that a client may send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientEvent {
    /// `chat:join`: join a room and get its latest messages.
    ChatJoin,
    /// `chat:leave`: leave a room.
    ChatLeave,
    /// `chat:message`: post a message.
    ChatMessage,
    /// `chat:edit`: change a message.
    ChatEdit,
    /// `chat:delete`: delete a message.
    ChatDelete,
    /// `chat:typing`: begin or end typing.
    ChatTyping,
    /// `chat:read`: move the read mark.
    ChatRead,
    /// `chat:history`: a page of messages.
    ChatHistory,
    /// `chat:search`: messages by their words.
    ChatSearch,
    /// `chat:rooms`: the user's rooms.
    ChatRooms,
    /// `chat:mute`: lets somebody read and not write in a room.
    ChatMute,
    /// `chat:unmute`: lifts that.
    ChatUnmute,
    /// `chat:lock`: locks a room, or opens it again.
    ChatLock,
    /// `chat:slow`: sets the slow mode of a room.
    ChatSlow,
    /// `chat:report`: reports a message.
    ChatReport,
    /// `chat:reports`: the reports of a room.
    ChatReports,
    /// `chat:resolve`: says what has come of a report.
    ChatResolve,
    /// `progress:sync`: report progress.
    ProgressSync,
    /// `progress:get`: what is known.
    ProgressGet,
    /// `progress:history`: the versions of a lesson.
    ProgressHistory,
    /// `notification:list`: a part of the inbox.
    NotificationList,
    /// `notification:read`: mark as read.
    NotificationRead,
    /// `notification:delete`: remove from the inbox.
    NotificationDelete,
    /// `presence:list`: who is in a room.
    PresenceList,
    /// `auth:refresh`: a new token for the same user.
    AuthRefresh,
}

impl ClientEvent {
    /// All of them with their wire names.
    pub const ALL: [(ClientEvent, &'static str); 25] = [
        (ClientEvent::ChatJoin, "chat:join"),
        (ClientEvent::ChatLeave, "chat:leave"),
        (ClientEvent::ChatMessage, "chat:message"),
        (ClientEvent::ChatEdit, "chat:edit"),
        (ClientEvent::ChatDelete, "chat:delete"),
        (ClientEvent::ChatTyping, "chat:typing"),
        (ClientEvent::ChatRead, "chat:read"),
        (ClientEvent::ChatHistory, "chat:history"),
        (ClientEvent::ChatSearch, "chat:search"),
        (ClientEvent::ChatRooms, "chat:rooms"),
        (ClientEvent::ChatMute, "chat:mute"),
        (ClientEvent::ChatUnmute, "chat:unmute"),
        (ClientEvent::ChatLock, "chat:lock"),
        (ClientEvent::ChatSlow, "chat:slow"),
        (ClientEvent::ChatReport, "chat:report"),
        (ClientEvent::ChatReports, "chat:reports"),
        (ClientEvent::ChatResolve, "chat:resolve"),
        (ClientEvent::ProgressSync, "progress:sync"),
        (ClientEvent::ProgressGet, "progress:get"),
        (ClientEvent::ProgressHistory, "progress:history"),
        (ClientEvent::NotificationList, "notification:list"),
        (ClientEvent::NotificationRead, "notification:read"),
        (ClientEvent::NotificationDelete, "notification:delete"),
        (ClientEvent::PresenceList, "presence:list"),
        (ClientEvent::AuthRefresh, "auth:refresh"),
    ];

    /// The wire name.
    #[must_use]
    pub fn name(self) -> &'static str {
        ClientEvent::ALL.iter().find(|(event, _)| *event == self).map_or("", |(_, name)| name)
    }

    /// The event of that name.
    #[must_use]
    pub fn parse(name: &str) -> Option<ClientEvent> {
        ClientEvent::ALL.iter().find(|(_, wire)| *wire == name).map(|(event, _)| *event)
    }
}

/// `{ roomId }`, or a bare room id.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomOnly {
    /// The room.
    pub room_id: RoomId,
}

/// `chat:join`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatJoin {
    /// The room.
    pub room_id: RoomId,
    /// The last message that the client has.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many messages; 50 without it, at most 200.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// `chat:message`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatMessage {
    /// The room.
    pub room_id: RoomId,
    /// The text.
    pub content: String,
    /// What it is.
    #[serde(default, rename = "type")]
    pub kind: Option<MessageKind>,
    /// The message it answers.
    #[serde(default)]
    pub reply_to_id: Option<u64>,
    /// The client's own key.
    #[serde(default)]
    pub client_id: Option<String>,
}

/// `chat:edit`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatEdit {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub message_id: u64,
    /// What it shall say.
    pub content: String,
}

/// `chat:delete`, `chat:read`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageRef {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub message_id: u64,
}

/// `chat:typing`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatTyping {
    /// The room.
    pub room_id: RoomId,
    /// Whether the user types now.
    pub is_typing: bool,
}

/// `chat:history`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatHistory {
    /// The room.
    pub room_id: RoomId,
    /// Messages before this id.
    #[serde(default)]
    pub before: Option<u64>,
    /// Messages behind this id.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
    /// For administrators: with what messages said before they were changed under a legal hold.
    #[serde(default)]
    pub versions: bool,
}

/// `chat:search`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatSearch {
    /// What is looked for.
    pub q: String,
    /// Only in this room; in all of the user's list without it. A query of HTTP has it as `room`.
    #[serde(default, alias = "room")]
    pub room_id: Option<RoomId>,
    /// Only messages before this id.
    #[serde(default)]
    pub before: Option<u64>,
    /// At most so many; 20 without it, at most 50.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// One report of `progress:sync`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProgressSync {
    /// The lesson.
    pub lesson_id: LessonId,
    /// 0 to 100.
    pub progress: Percent,
    /// Seconds since the last report; 0 if it is not given.
    #[serde(default)]
    pub time_spent: u32,
    /// The course.
    #[serde(default)]
    pub course_id: Option<LessonId>,
    /// The module.
    #[serde(default)]
    pub module_id: Option<LessonId>,
    /// The status.
    #[serde(default)]
    pub status: Option<Status>,
    /// The client's own key.
    #[serde(default)]
    pub sync_id: Option<String>,
    /// The version that the device last saw.
    #[serde(default)]
    pub base_version: Option<u64>,
    /// Whose progress it is, from a back end; the caller's without it.
    #[serde(default)]
    pub user_id: Option<UserId>,
}

impl From<ProgressSync> for Update {
    fn from(sync: ProgressSync) -> Update {
        Update {
            lesson: sync.lesson_id,
            progress: sync.progress,
            time_spent: sync.time_spent,
            course: sync.course_id,
            module: sync.module_id,
            status: sync.status,
            sync_id: sync.sync_id,
            base_version: sync.base_version,
        }
    }
}

/// `chat:rooms`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatRooms {
    /// The `cursor` of an earlier answer: only the rooms behind it.
    #[serde(default)]
    pub after: Option<String>,
    /// At most so many; 500 without it, at most 1,000.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// `presence:list`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PresenceList {
    /// The room.
    pub room_id: RoomId,
    /// Only users behind this one.
    #[serde(default)]
    pub after: Option<UserId>,
    /// At most so many; 500 without it, at most 1,000.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// `progress:get`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProgressGet {
    /// Only this lesson.
    #[serde(default)]
    pub lesson_id: Option<LessonId>,
    /// Only lessons of this course.
    #[serde(default)]
    pub course_id: Option<LessonId>,
    /// An earlier `cursor`: only what changed behind it.
    #[serde(default)]
    pub since: Option<String>,
    /// At most so many; 500 without it, at most 1,000.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Whose progress is asked for, by a back end; the caller's without it.
    #[serde(default)]
    pub user_id: Option<UserId>,
}

/// `progress:history`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProgressHistory {
    /// The lesson.
    pub lesson_id: LessonId,
    /// Whose, by a back end; the caller's without it.
    #[serde(default)]
    pub user_id: Option<UserId>,
}

/// `notification:list`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NotificationList {
    /// Only older than this id.
    #[serde(default)]
    pub before: Option<u64>,
    /// At most so many; 50 without it, at most 200.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Only unread ones.
    #[serde(default)]
    pub unread_only: bool,
}

/// `notification:read`: exactly one of the three.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NotificationRead {
    /// This one.
    #[serde(default)]
    pub id: Option<u64>,
    /// These.
    #[serde(default)]
    pub ids: Option<Vec<u64>>,
    /// All of them.
    #[serde(default)]
    pub all: bool,
    /// Of all: up to and with this one; what came later stays unread.
    #[serde(default)]
    pub up_to: Option<u64>,
}

/// `notification:delete`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NotificationDelete {
    /// This one.
    pub id: u64,
}

/// `auth:refresh`.
#[derive(Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuthRefresh {
    /// The new token; its memory is overwritten when it has been looked at.
    #[cfg_attr(test, schemars(with = "String"))]
    pub token: Zeroizing<String>,
}

/// Where a broadcast goes: exactly one of them.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// One user.
    #[serde(default)]
    pub user: Option<UserId>,
    /// Several users.
    #[serde(default)]
    pub users: Option<Vec<UserId>>,
    /// Everybody with a role.
    #[serde(default)]
    pub role: Option<String>,
    /// A room by its full name, such as `chat:room-123`.
    #[serde(default)]
    pub room: Option<String>,
    /// Everybody.
    #[serde(default)]
    pub all: bool,
}

/// `POST /api/v1/broadcast`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Broadcast {
    /// To whom.
    pub target: Target,
    /// The event's name.
    pub event: String,
    /// Anything that is JSON; `null` if it is absent.
    #[serde(default)]
    pub payload: Option<Box<serde_json::value::RawValue>>,
}

/// What a back end says of a message to a chat room. What else the event has may be there, and is the server's to say.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformMessage {
    /// The text.
    pub content: String,
    /// What it is; `system` without it.
    #[serde(default, rename = "type")]
    pub kind: Option<MessageKind>,
    /// In whose name; `"system"` without it.
    #[serde(default)]
    pub sender_id: Option<UserId>,
    /// The name shown; `"system"` without it.
    #[serde(default)]
    pub sender_name: Option<String>,
    /// The message it answers.
    #[serde(default)]
    pub reply_to_id: Option<u64>,
    /// The back end's own name for it, for later edits and deletions.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The room of the target once more, as in the event; none but that.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    #[serde(default, rename = "id")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _id: IgnoredAny,
    #[serde(default, rename = "seq")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _seq: IgnoredAny,
    #[serde(default, rename = "timestamp")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _timestamp: IgnoredAny,
    #[serde(default, rename = "clientId")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _client_id: IgnoredAny,
}

/// What a back end says of a message that is to be edited.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformEdit {
    /// The message, or
    #[serde(default)]
    pub message_id: Option<u64>,
    /// the name that it was given.
    #[serde(default)]
    pub external_id: Option<String>,
    /// What it shall say.
    pub new_content: String,
    /// The room of the target once more, as in the event; none but that.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    #[serde(default, rename = "id")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _id: IgnoredAny,
    #[serde(default, rename = "editedAt")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _edited_at: IgnoredAny,
    #[serde(default, rename = "editedBy")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _edited_by: IgnoredAny,
}

/// What a back end says of a message that is to be deleted.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PlatformDeletion {
    /// The message, or
    #[serde(default)]
    pub message_id: Option<u64>,
    /// the name that it was given.
    #[serde(default)]
    pub external_id: Option<String>,
    /// The room of the target once more, as in the event; none but that.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    #[serde(default, rename = "id")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _id: IgnoredAny,
    #[serde(default, rename = "deletedAt")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _deleted_at: IgnoredAny,
    #[serde(default, rename = "deletedBy")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _deleted_by: IgnoredAny,
}

/// What a notification shows.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NotificationContent {
    /// A word for the kind; `info` without it.
    #[serde(default, rename = "type")]
    pub kind: Option<String>,
    /// The title.
    #[serde(alias = "titleEn")]
    pub title: String,
    /// The text.
    #[serde(alias = "messageEn")]
    pub message: String,
    /// The title in French.
    #[serde(default)]
    pub title_fr: Option<String>,
    /// The text in French.
    #[serde(default)]
    pub message_fr: Option<String>,
    /// Where a click leads.
    #[serde(default)]
    pub link: Option<String>,
    /// Any JSON.
    #[serde(default)]
    pub metadata: Option<Box<serde_json::value::RawValue>>,
    #[serde(default, rename = "target")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _target: IgnoredAny,
    /// Read of a [`NotificationTarget`].
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    at: Option<IgnoredAny>,
    /// As `at`.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    until: Option<IgnoredAny>,
    #[serde(default, rename = "id")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _id: IgnoredAny,
    #[serde(default, rename = "createdAt")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _created_at: IgnoredAny,
    #[serde(default, rename = "timestamp")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _timestamp: IgnoredAny,
    #[serde(default, rename = "read")]
    #[cfg_attr(test, schemars(with = "Option<serde_json::Value>"))]
    _read: IgnoredAny,
}

impl NotificationContent {
    /// The field by which it has a time, if it has one.
    #[must_use]
    pub fn time(&self) -> Option<&'static str> {
        self.at.map(|_| "at").or(self.until.map(|_| "until"))
    }
}

/// `POST /api/v1/notifications`: the target, beside which the body has a [`NotificationContent`]. They are read one after
/// the other from the same text, so that `metadata` keeps the text it was given.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NotificationTarget {
    /// To whom.
    pub target: Target,
    /// When it is sent; now without it.
    #[serde(default)]
    pub at: Option<Timestamp>,
    /// When it is over; never without it.
    #[serde(default)]
    pub until: Option<Timestamp>,
}

/// Checks the length of a client's own key.
///
/// # Errors
/// `invalid_payload` with the field's name.
pub fn check_key(field: &'static str, key: Option<&str>) -> Result<(), ApiError> {
    match key.map(|key| key.chars().take(MAX_KEY_CHARS + 1).count()) {
        Some(0) => Err(ApiError::field(field, format!("{field} must have 1 to {MAX_KEY_CHARS} characters"))),
        Some(chars) if chars > MAX_KEY_CHARS => {
            Err(ApiError::field(field, format!("{field} must have 1 to {MAX_KEY_CHARS} characters")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_known_by_its_name_alone() {
        for (event, name) in ClientEvent::ALL {
            assert_eq!(ClientEvent::parse(name), Some(event));
        }
        for unknown in ["", "chat", "chat:Join", "disconnect", "chat:user_joined"] {
            assert_eq!(ClientEvent::parse(unknown), None);
        }
    }

    #[test]
    fn a_notification_and_its_target_are_read_from_one_text() {
        let json = r#"{"target":{"user":7},"title":"t","message":"m","titleFr":"f","metadata":{"b":1, "a":[1]}}"#;
        let target: NotificationTarget = serde_json::from_str(json).unwrap();
        let content: NotificationContent = serde_json::from_str(json).unwrap();
        assert!(target.target.user.is_some());
        assert_eq!(content.title_fr.as_deref(), Some("f"));
        assert_eq!(content.metadata.unwrap().get(), r#"{"b":1, "a":[1]}"#);
    }
}
