//! Every event that the server sends, with its name and its payload.

use serde::Serialize;

use crate::domain::{RoomId, Timestamp, UserId};
use crate::protocol::error::ApiError;
use crate::protocol::order::RoomStateView;
use crate::protocol::packet::Packet;
use crate::protocol::view::{MessageView, NotificationView, ProgressView, Session};

/// An event to a client. [`ServerEvent::encode`] is the only place that spells the names.
#[derive(Debug)]
pub enum ServerEvent<'a> {
    /// `authenticated`: who one is, and what waits.
    Authenticated(Session<'a>),
    /// `auth_error`: why one is not let in, or no longer.
    AuthError(&'a ApiError),
    /// `auth:expiring`: the token ends soon.
    AuthExpiring {
        /// When.
        expires_at: Timestamp,
    },
    /// `server:draining`: the server is about to stop; the connection is closed soon, and the client connects again.
    ServerDraining {
        /// After so long it is best to come again: another time for each socket, so that not all come at once.
        retry_after_ms: u64,
    },
    /// `request:error`: a request without an ack failed.
    RequestError {
        /// The request's event.
        event: &'a str,
        /// What is wrong.
        error: &'a ApiError,
        /// The room that is lost, where nothing was asked for.
        room: Option<&'a RoomId>,
    },
    /// `chat:message`: a message was stored.
    ChatMessage(MessageView<'a>),
    /// `chat:message-edited`.
    ChatMessageEdited {
        /// The room.
        room_id: &'a RoomId,
        /// The message.
        message_id: u64,
        /// What it says now.
        new_content: &'a str,
        /// When.
        edited_at: Timestamp,
        /// The change's id: clients order by it, never by a clock.
        id: u64,
        /// Who has changed it, if that was not the sender.
        edited_by: Option<&'a UserId>,
    },
    /// `chat:message-deleted`.
    ChatMessageDeleted {
        /// The room.
        room_id: &'a RoomId,
        /// The message.
        message_id: u64,
        /// When.
        deleted_at: Timestamp,
        /// The change's id.
        id: u64,
        /// Who has deleted it, if that was not the sender.
        deleted_by: Option<&'a UserId>,
    },
    /// `chat:user_joined`: a user's first socket in the room.
    ChatUserJoined(RoomGuest<'a>),
    /// `chat:user_left`: a user's last socket in the room.
    ChatUserLeft(RoomGuest<'a>),
    /// `chat:typing`.
    ChatTyping {
        /// The room.
        room_id: &'a RoomId,
        /// The user.
        user_id: &'a UserId,
        /// Their name.
        user_name: &'a str,
        /// Whether they type now.
        is_typing: bool,
    },
    /// `chat:read`: a read mark moved.
    ChatRead {
        /// The room.
        room_id: &'a RoomId,
        /// The user.
        user_id: &'a UserId,
        /// Up to which message.
        message_id: u64,
    },
    /// `chat:state`: a room is locked, or is not any more, or its slow mode is another one.
    ChatState {
        /// The room.
        room_id: &'a RoomId,
        /// Its state now.
        state: RoomStateView,
        /// The change's id.
        id: u64,
    },
    /// `chat:muted`: one may read and not write, or may write again.
    ChatMuted {
        /// The room; everywhere without one.
        room_id: Option<&'a RoomId>,
        /// Who.
        user_id: &'a UserId,
        /// Until when; not any more without one.
        until: Option<Timestamp>,
    },
    /// `chat:reported`: a message was reported, or a report was resolved.
    ChatReported {
        /// The report.
        report_id: u64,
        /// The room.
        room_id: &'a RoomId,
        /// The message.
        message_id: u64,
        /// When it was reported.
        reported_at: Timestamp,
        /// When the report was resolved, if it is.
        resolved_at: Option<Timestamp>,
        /// The change's id.
        id: u64,
    },
    /// `progress:updated`: a lesson has a new version.
    ProgressUpdated(ProgressView<'a>),
    /// `notification:new`.
    NotificationNew(NotificationView<'a>),
    /// `notification:updated`: another device has read or deleted.
    NotificationUpdated {
        /// These; absent for all.
        ids: Option<&'a [u64]>,
        /// Of all: up to and with this one, if it was given.
        up_to: Option<u64>,
        /// What was done: true is read, false is deleted.
        read: bool,
        /// How many are unread now.
        unread: u64,
    },
    /// `notification:gone`: it is in no inbox any more.
    NotificationGone {
        /// The notification.
        id: u64,
        /// `ended` or `recalled`.
        reason: &'static str,
    },
    /// `presence:changed`.
    PresenceChanged {
        /// The user.
        user_id: &'a UserId,
        /// Whether they are here.
        online: bool,
        /// When they were last here.
        last_seen: Timestamp,
    },
}

/// Somebody who came to a room or left it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomGuest<'a> {
    /// The room.
    pub room_id: &'a RoomId,
    /// The user.
    pub user_id: &'a UserId,
    /// Their name.
    pub user_name: &'a str,
    /// When.
    pub timestamp: Timestamp,
}

impl ServerEvent<'_> {
    /// The wire name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            ServerEvent::Authenticated(_) => "authenticated",
            ServerEvent::AuthError(_) => "auth_error",
            ServerEvent::AuthExpiring { .. } => "auth:expiring",
            ServerEvent::ServerDraining { .. } => "server:draining",
            ServerEvent::RequestError { .. } => "request:error",
            ServerEvent::ChatMessage(_) => "chat:message",
            ServerEvent::ChatMessageEdited { .. } => "chat:message-edited",
            ServerEvent::ChatMessageDeleted { .. } => "chat:message-deleted",
            ServerEvent::ChatUserJoined(_) => "chat:user_joined",
            ServerEvent::ChatUserLeft(_) => "chat:user_left",
            ServerEvent::ChatTyping { .. } => "chat:typing",
            ServerEvent::ChatRead { .. } => "chat:read",
            ServerEvent::ChatState { .. } => "chat:state",
            ServerEvent::ChatMuted { .. } => "chat:muted",
            ServerEvent::ChatReported { .. } => "chat:reported",
            ServerEvent::ProgressUpdated(_) => "progress:updated",
            ServerEvent::NotificationNew(_) => "notification:new",
            ServerEvent::NotificationUpdated { .. } => "notification:updated",
            ServerEvent::NotificationGone { .. } => "notification:gone",
            ServerEvent::PresenceChanged { .. } => "presence:changed",
        }
    }

    /// The one encoding of this event.
    #[must_use]
    pub fn encode(&self) -> Packet {
        let name = self.name();
        match self {
            ServerEvent::Authenticated(session) => Packet::event(name, session),
            ServerEvent::AuthError(error) => Packet::event(name, error),
            ServerEvent::AuthExpiring { expires_at } => Packet::event(name, &Expiring { expires_at: *expires_at }),
            ServerEvent::ServerDraining { retry_after_ms } => {
                Packet::event(name, &Draining { retry_after_ms: *retry_after_ms })
            }
            ServerEvent::RequestError { event, error, room } => {
                Packet::event(name, &RequestError { event, room_id: *room, error })
            }
            ServerEvent::ChatMessage(view) => Packet::event(name, view),
            ServerEvent::ChatMessageEdited { room_id, message_id, new_content, edited_at, id, edited_by } => {
                let (message_id, edited_at, id, edited_by) = (*message_id, *edited_at, *id, *edited_by);
                Packet::event(name, &Edited { room_id, message_id, new_content, edited_at, id, edited_by })
            }
            ServerEvent::ChatMessageDeleted { room_id, message_id, deleted_at, id, deleted_by } => {
                let (message_id, deleted_at, id, deleted_by) = (*message_id, *deleted_at, *id, *deleted_by);
                Packet::event(name, &Deleted { room_id, message_id, deleted_at, id, deleted_by })
            }
            ServerEvent::ChatUserJoined(guest) | ServerEvent::ChatUserLeft(guest) => Packet::event(name, guest),
            ServerEvent::ChatTyping { room_id, user_id, user_name, is_typing } => {
                Packet::event(name, &Typing { room_id, user_id, user_name, is_typing: *is_typing })
            }
            ServerEvent::ChatRead { room_id, user_id, message_id } => {
                Packet::event(name, &Read { room_id, user_id, message_id: *message_id })
            }
            ServerEvent::ChatState { room_id, state, id } => {
                Packet::event(name, &State { room_id, state: *state, id: *id })
            }
            ServerEvent::ChatMuted { room_id, user_id, until } => {
                Packet::event(name, &Muted { room_id: *room_id, user_id, until: *until })
            }
            ServerEvent::ChatReported { report_id, room_id, message_id, reported_at, resolved_at, id } => {
                let (report_id, message_id, reported_at) = (*report_id, *message_id, *reported_at);
                let (resolved_at, id) = (*resolved_at, *id);
                Packet::event(name, &Reported { report_id, room_id, message_id, reported_at, resolved_at, id })
            }
            ServerEvent::ProgressUpdated(view) => Packet::event(name, view),
            ServerEvent::NotificationNew(view) => Packet::event(name, view),
            ServerEvent::NotificationUpdated { ids, up_to, read, unread } => Packet::event(
                name,
                &Updated {
                    ids: *ids,
                    all: ids.is_none().then_some(true),
                    up_to: *up_to,
                    read: read.then_some(true),
                    deleted: (!read).then_some(true),
                    unread: *unread,
                },
            ),
            ServerEvent::NotificationGone { id, reason } => Packet::event(name, &Gone { id: *id, reason }),
            ServerEvent::PresenceChanged { user_id, online, last_seen } => {
                Packet::event(name, &Presence { user_id, online: *online, last_seen: *last_seen })
            }
        }
    }
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "TokenExpiring"))]
#[serde(rename_all = "camelCase")]
struct Expiring {
    expires_at: Timestamp,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ServerDraining"))]
#[serde(rename_all = "camelCase")]
struct Draining {
    retry_after_ms: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "NotificationGone"))]
struct Gone<'a> {
    id: u64,
    reason: &'a str,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct RequestError<'a> {
    event: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    room_id: Option<&'a RoomId>,
    #[serde(flatten)]
    error: &'a ApiError,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MessageEditedEvent"))]
#[serde(rename_all = "camelCase")]
struct Edited<'a> {
    room_id: &'a RoomId,
    message_id: u64,
    new_content: &'a str,
    edited_at: Timestamp,
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    edited_by: Option<&'a UserId>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MessageDeletedEvent"))]
#[serde(rename_all = "camelCase")]
struct Deleted<'a> {
    room_id: &'a RoomId,
    message_id: u64,
    deleted_at: Timestamp,
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_by: Option<&'a UserId>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "UserTyping"))]
#[serde(rename_all = "camelCase")]
struct Typing<'a> {
    room_id: &'a RoomId,
    user_id: &'a UserId,
    user_name: &'a str,
    is_typing: bool,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ReadMark"))]
#[serde(rename_all = "camelCase")]
struct Read<'a> {
    room_id: &'a RoomId,
    user_id: &'a UserId,
    message_id: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "InboxUpdated"))]
#[serde(rename_all = "camelCase")]
struct State<'a> {
    room_id: &'a RoomId,
    #[serde(flatten)]
    state: RoomStateView,
    id: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "UserMuted"))]
#[serde(rename_all = "camelCase")]
struct Muted<'a> {
    room_id: Option<&'a RoomId>,
    user_id: &'a UserId,
    until: Option<Timestamp>,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "MessageReported"))]
#[serde(rename_all = "camelCase")]
struct Reported<'a> {
    report_id: u64,
    room_id: &'a RoomId,
    message_id: u64,
    reported_at: Timestamp,
    resolved_at: Option<Timestamp>,
    id: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
struct Updated<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    ids: Option<&'a [u64]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    all: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    up_to: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    read: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted: Option<bool>,
    unread: u64,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "PresenceChanged"))]
#[serde(rename_all = "camelCase")]
struct Presence<'a> {
    user_id: &'a UserId,
    online: bool,
    last_seen: Timestamp,
}

/// Every event, what it says, and the schema of its payload.
#[cfg(test)]
pub(crate) fn schemas(of: &mut schemars::SchemaGenerator) -> Vec<(&'static str, &'static str, schemars::Schema)> {
    vec![
        ("authenticated", "Who one is, and what waits", of.subschema_for::<Session<'static>>()),
        ("auth_error", "Why one is not let in, or no longer", of.subschema_for::<ApiError>()),
        ("auth:expiring", "The token ends soon", of.subschema_for::<Expiring>()),
        ("server:draining", "The server stops soon: connect again", of.subschema_for::<Draining>()),
        ("request:error", "A request without an acknowledgement failed", of.subschema_for::<RequestError<'static>>()),
        ("chat:message", "A message was stored", of.subschema_for::<MessageView<'static>>()),
        ("chat:message-edited", "A message was changed", of.subschema_for::<Edited<'static>>()),
        ("chat:message-deleted", "A message was deleted", of.subschema_for::<Deleted<'static>>()),
        ("chat:user_joined", "A user's first socket is in the room", of.subschema_for::<RoomGuest<'static>>()),
        ("chat:user_left", "A user's last socket has left the room", of.subschema_for::<RoomGuest<'static>>()),
        ("chat:typing", "A user begins or ends typing", of.subschema_for::<Typing<'static>>()),
        ("chat:read", "A read mark moved", of.subschema_for::<Read<'static>>()),
        ("chat:state", "A room is locked or not, or has another slow mode", of.subschema_for::<State<'static>>()),
        ("chat:muted", "One may read and not write, or may write again", of.subschema_for::<Muted<'static>>()),
        ("chat:reported", "A message was reported, or a report resolved", of.subschema_for::<Reported<'static>>()),
        ("progress:updated", "A lesson has a new version", of.subschema_for::<ProgressView<'static>>()),
        ("notification:new", "A notification", of.subschema_for::<NotificationView<'static>>()),
        ("notification:updated", "Another device has read or deleted", of.subschema_for::<Updated<'static>>()),
        ("notification:gone", "A notification is in no inbox any more", of.subschema_for::<Gone<'static>>()),
        ("presence:changed", "A user came or went", of.subschema_for::<Presence<'static>>()),
    ]
}

/// Names that Socket.IO keeps for itself: no broadcast may use them.
pub const RESERVED_EVENTS: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];
