//! What a successful request is answered, as an ack and over HTTP.

use std::collections::HashMap;

use serde::Serialize;

use crate::domain::chat::{Membership, Message, RoomSummary};
use crate::domain::notification::Notification;
use crate::domain::privacy::WithheldVersion;
use crate::domain::progress::Progress;
use crate::domain::{RoomId, Timestamp, UserId};
use crate::protocol::order::RoomStateView;
use crate::protocol::view::{MessageView, NotificationView, ProgressView, RoomView, VersionedMessage};

fn views<'a, T, V: From<&'a T>>(list: &'a [T]) -> Vec<V> {
    list.iter().map(V::from).collect()
}

/// `{ ok: true, ... }`.
#[derive(Debug, Serialize)]
pub struct Ok<T> {
    ok: bool,
    #[serde(flatten)]
    body: T,
}

impl<T> Ok<T> {
    /// A successful answer.
    #[must_use]
    pub fn new(body: T) -> Ok<T> {
        Ok { ok: true, body }
    }
}

/// Nothing beside `ok: true`.
#[derive(Debug, Serialize)]
pub struct Done {}

/// `{ ok: false, error }`.
#[derive(Debug, Serialize)]
pub struct Failed<'a> {
    ok: bool,
    error: &'a crate::protocol::ApiError,
}

impl<'a> Failed<'a> {
    /// A refused request.
    #[must_use]
    pub fn new(error: &'a crate::protocol::ApiError) -> Failed<'a> {
        Failed { ok: false, error }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn is_false(value: &bool) -> bool {
    !*value
}

/// A room that was left or a request that names only its room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomAnswer {
    /// The room.
    pub room_id: RoomId,
}

/// `chat:join`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Joined {
    /// The room.
    pub room_id: RoomId,
    /// The id of the room's latest message; 0 if there is none.
    pub last_id: u64,
    /// Its `seq`.
    pub last_seq: u64,
    /// The messages asked for.
    #[serde(serialize_with = "messages")]
    #[cfg_attr(test, schemars(with = "Vec<MessageView<'static>>"))]
    pub messages: Vec<Message>,
    /// Whether there are more in the direction asked.
    pub has_more: bool,
    /// How many users are in the room now.
    pub members: usize,
    /// The user's read mark; 0 if there is none.
    pub read_up_to: u64,
    /// What the user is in the room; null if they take no part in it, as in one that nobody has written in yet.
    pub membership: Option<Membership>,
    /// Who may write in the room, and how often.
    #[serde(flatten)]
    pub state: RoomStateView,
    /// Until when the user is muted in it; null if they are not.
    pub muted_until: Option<Timestamp>,
}

fn messages<S: serde::Serializer>(list: &[Message], serializer: S) -> Result<S::Ok, S::Error> {
    views::<_, MessageView<'_>>(list).serialize(serializer)
}

/// `chat:message`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MessagePosted {
    /// The message's id.
    pub id: u64,
    /// Its place in the room.
    pub seq: u64,
    /// When it was stored.
    pub timestamp: Timestamp,
    /// Whether this is the first answer again.
    #[serde(skip_serializing_if = "is_false")]
    pub duplicate: bool,
}

/// `chat:edit`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageEdited {
    /// The message.
    pub message_id: u64,
    /// When.
    pub edited_at: Timestamp,
}

/// `chat:delete`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageDeleted {
    /// The message.
    pub message_id: u64,
    /// When.
    pub deleted_at: Timestamp,
}

/// `chat:read`: the mark as it is now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReadUpTo {
    /// The room.
    pub room_id: RoomId,
    /// Up to which message the user has read.
    pub message_id: u64,
}

/// Messages, for administrators with what they said before they were changed under a legal hold.
#[derive(Debug)]
pub struct VersionedMessages {
    /// They, ascending.
    pub messages: Vec<Message>,
    /// By message.
    pub versions: HashMap<u64, Vec<WithheldVersion>>,
}

impl Serialize for VersionedMessages {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let views = self.messages.iter().map(|message| {
            let versions = self.versions.get(&message.id).map(Vec::as_slice).unwrap_or_default();
            VersionedMessage::new(message, versions)
        });
        serializer.collect_seq(views)
    }
}

/// `chat:history`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The room.
    pub room_id: RoomId,
    /// The page, ascending.
    #[cfg_attr(test, schemars(with = "Vec<VersionedMessage<'static>>"))]
    pub messages: VersionedMessages,
    /// Whether there are more in the direction asked.
    pub has_more: bool,
    /// The id of the room's latest message.
    pub last_id: u64,
    /// Its `seq`.
    pub last_seq: u64,
}

/// `chat:search`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// They, the newest first.
    #[serde(serialize_with = "messages")]
    #[cfg_attr(test, schemars(with = "Vec<MessageView<'static>>"))]
    pub messages: Vec<Message>,
    /// Whether there may be older ones.
    pub has_more: bool,
    /// Where to go on with `before`, if there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
    /// Whether all that was stored can be found, but for the last moments.
    pub is_complete: bool,
    /// Every message up to this id can be found.
    pub up_to: u64,
}

/// `chat:rooms`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomList {
    /// The user's rooms.
    #[serde(serialize_with = "room_views")]
    #[cfg_attr(test, schemars(with = "Vec<RoomView<'static>>"))]
    pub rooms: Vec<RoomSummary>,
    /// Whether there are more behind them.
    pub has_more: bool,
    /// Where to go on with `after`, if there are more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

fn room_views<S: serde::Serializer>(list: &[RoomSummary], serializer: S) -> Result<S::Ok, S::Error> {
    views::<_, RoomView<'_>>(list).serialize(serializer)
}

/// One answer of `progress:sync`.
#[derive(Debug)]
pub struct ProgressSynced {
    /// The state after it.
    pub progress: Progress,
    /// Whether this is the first answer again.
    pub duplicate: bool,
    /// Whether it was made on an older version.
    pub merged: bool,
}

impl Serialize for ProgressSynced {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let progress = (&self.progress).into();
        SyncedView { progress, duplicate: self.duplicate, merged: self.merged }.serialize(serializer)
    }
}

/// A lesson's progress behind a report.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ProgressSynced"))]
pub(crate) struct SyncedView<'a> {
    #[serde(flatten)]
    progress: ProgressView<'a>,
    /// Whether this is the first answer again.
    #[serde(skip_serializing_if = "is_false")]
    duplicate: bool,
    /// Whether it was made on an older version.
    #[serde(skip_serializing_if = "is_false")]
    merged: bool,
}

/// A batch of `progress:sync`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BatchSynced {
    /// One answer a report, in their order.
    #[cfg_attr(test, schemars(with = "Vec<SyncedView<'static>>"))]
    pub results: Vec<ProgressSynced>,
}

/// `progress:get`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProgressItems {
    /// The lessons.
    #[serde(serialize_with = "lessons")]
    #[cfg_attr(test, schemars(with = "Vec<ProgressView<'static>>"))]
    pub items: Vec<Progress>,
    /// Where to go on with `since`.
    pub cursor: String,
    /// Whether there are more behind it already.
    pub has_more: bool,
}

/// `progress:history`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProgressVersions {
    /// The versions kept, oldest first.
    #[serde(serialize_with = "lessons")]
    #[cfg_attr(test, schemars(with = "Vec<ProgressView<'static>>"))]
    pub versions: Vec<Progress>,
    /// Whether older ones are kept that did not fit.
    pub has_more: bool,
}

fn lessons<S: serde::Serializer>(list: &[Progress], serializer: S) -> Result<S::Ok, S::Error> {
    views::<_, ProgressView<'_>>(list).serialize(serializer)
}

/// `notification:list`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NotificationItems {
    /// Newest first.
    #[serde(serialize_with = "notifications")]
    #[cfg_attr(test, schemars(with = "Vec<NotificationView<'static>>"))]
    pub items: Vec<Notification>,
    /// How many of the whole inbox are unread.
    pub unread: u64,
    /// Whether there are older ones.
    pub has_more: bool,
}

fn notifications<S: serde::Serializer>(list: &[Notification], serializer: S) -> Result<S::Ok, S::Error> {
    views::<_, NotificationView<'_>>(list).serialize(serializer)
}

/// `notification:read`, `notification:delete`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct InboxMarked {
    /// Which notifications changed.
    pub ids: Vec<u64>,
    /// How many are unread now.
    pub unread: u64,
}

/// One person of `presence:list`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Present {
    /// The user.
    pub user_id: UserId,
    /// Their name.
    pub name: String,
    /// Whether they are here.
    pub online: bool,
    /// When they were last here.
    pub last_seen: Timestamp,
}

/// `presence:list`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct PresenceItems {
    /// Who is in the room, by their ids.
    pub users: Vec<Present>,
    /// How many users are in the room.
    pub total: usize,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// `POST /api/v1/broadcast`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct BroadcastSent {
    /// How many sockets it was addressed to.
    pub sockets: usize,
    /// The id of what was stored, if something was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u64>,
    /// Whether this is the first answer again.
    #[serde(skip_serializing_if = "is_false")]
    pub duplicate: bool,
    /// When it will be sent, if that is not now: the id is the number of what is scheduled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<Timestamp>,
    /// When it will be over, if that was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}
