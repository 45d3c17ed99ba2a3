//! What a successful request is answered, as an ack and over HTTP.

use std::collections::HashMap;

use serde::Serialize;

use crate::domain::chat::{Message, RoomSummary};
use crate::domain::notification::Notification;
use crate::domain::privacy::WithheldVersion;
use crate::domain::progress::Progress;
use crate::domain::{RoomId, Timestamp, UserId};
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
#[serde(rename_all = "camelCase")]
pub struct RoomAnswer {
    /// The room.
    pub room_id: RoomId,
}

/// `chat:join`.
#[derive(Debug, Serialize)]
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
    pub messages: Vec<Message>,
    /// Whether there are more in the direction asked.
    pub has_more: bool,
    /// How many users are in the room now.
    pub members: usize,
    /// The user's read mark; 0 if there is none.
    pub read_up_to: u64,
}

fn messages<S: serde::Serializer>(list: &[Message], serializer: S) -> Result<S::Ok, S::Error> {
    views::<_, MessageView<'_>>(list).serialize(serializer)
}

/// `chat:message`.
#[derive(Debug, Serialize)]
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
#[serde(rename_all = "camelCase")]
pub struct MessageEdited {
    /// The message.
    pub message_id: u64,
    /// When.
    pub edited_at: Timestamp,
}

/// `chat:delete`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MessageDeleted {
    /// The message.
    pub message_id: u64,
    /// When.
    pub deleted_at: Timestamp,
}

/// `chat:read`: the mark as it is now.
#[derive(Debug, Serialize)]
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
#[serde(rename_all = "camelCase")]
pub struct History {
    /// The room.
    pub room_id: RoomId,
    /// The page, ascending.
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
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// They, the newest first.
    #[serde(serialize_with = "messages")]
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
#[serde(rename_all = "camelCase")]
pub struct RoomList {
    /// The user's rooms.
    #[serde(serialize_with = "room_views")]
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
        #[derive(Serialize)]
        struct Body<'a> {
            #[serde(flatten)]
            progress: ProgressView<'a>,
            #[serde(skip_serializing_if = "is_false")]
            duplicate: bool,
            #[serde(skip_serializing_if = "is_false")]
            merged: bool,
        }
        Body { progress: (&self.progress).into(), duplicate: self.duplicate, merged: self.merged }.serialize(serializer)
    }
}

/// A batch of `progress:sync`.
#[derive(Debug, Serialize)]
pub struct BatchSynced {
    /// One answer a report, in their order.
    pub results: Vec<ProgressSynced>,
}

/// `progress:get`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressItems {
    /// The lessons.
    #[serde(serialize_with = "lessons")]
    pub items: Vec<Progress>,
    /// Where to go on with `since`.
    pub cursor: String,
    /// Whether there are more behind it already.
    pub has_more: bool,
}

/// `progress:history`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProgressVersions {
    /// The versions kept, oldest first.
    #[serde(serialize_with = "lessons")]
    pub versions: Vec<Progress>,
    /// Whether older ones are kept that did not fit.
    pub has_more: bool,
}

fn lessons<S: serde::Serializer>(list: &[Progress], serializer: S) -> Result<S::Ok, S::Error> {
    views::<_, ProgressView<'_>>(list).serialize(serializer)
}

/// `notification:list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NotificationItems {
    /// Newest first.
    #[serde(serialize_with = "notifications")]
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
pub struct InboxMarked {
    /// Which notifications changed.
    pub ids: Vec<u64>,
    /// How many are unread now.
    pub unread: u64,
}

/// One person of `presence:list`.
#[derive(Debug, Serialize)]
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
