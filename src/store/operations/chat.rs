//! What changes a chat room's messages, and who takes part in it. The rules are those of [`crate::domain::chat`].

use crate::domain::chat::{Author, Draft, RoomPolicy};
use crate::domain::{RoomId, Timestamp, UserId};

use super::{Act, RequestKey};

/// A back end's own name for a message that it has posted. It belongs to who posted it, and to the room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExternalId {
    /// The subject of the service token.
    pub caller: UserId,
    /// The name, 1 to 64 characters.
    pub name: String,
}

/// Stores a message, registering its room as open if need be. The author's own read mark moves up to it. Errors: `Forbidden`
/// by [`crate::domain::chat::may_enter`]; `KeyReused`; `Conflict` if the external id names another message; `Erasing`.
#[derive(Debug, Clone)]
pub struct PostMessage {
    /// The message.
    pub draft: Draft,
    /// The rules of rooms.
    pub policy: RoomPolicy,
    /// Makes the post idempotent for its caller.
    pub key: Option<RequestKey>,
    /// Names the message for later.
    pub external_id: Option<ExternalId>,
    /// The socket that posts it, by the caller's own number; it hears nothing of the read mark that moves along.
    pub origin: Option<u64>,
}

/// The first answer to a post, or its repetition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Posted {
    /// The message's id.
    pub id: u64,
    /// Its place in the room.
    pub seq: u64,
    /// When it was stored.
    pub at: Timestamp,
    /// Whether it had been stored by an earlier request with the same key; then nothing was stored now.
    pub duplicate: bool,
}

/// Which message is changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageTarget {
    /// The message of this id.
    Id(u64),
    /// The message to which a back end gave this name.
    External(ExternalId),
}

/// Changes a message's content. Errors: `NotFound` without such a message in that room; `Forbidden` by
/// [`crate::domain::chat::may_enter`] or [`crate::domain::chat::may_change`]; `KeyReused`.
#[derive(Debug, Clone)]
pub struct EditMessage {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// The message.
    pub target: MessageTarget,
    /// Who asks.
    pub author: Author,
    /// What it says from now on.
    pub content: String,
    /// The rules of rooms.
    pub policy: RoomPolicy,
    /// Makes the edit idempotent for its caller.
    pub key: Option<RequestKey>,
    /// What the audit log says of it if it is what another person wrote; its target is the message.
    pub act: Option<Act>,
}

/// Deletes a message's content; a tombstone stays, with its `seq`. Deleting it again is `NotFound`. Errors: as of
/// [`EditMessage`].
#[derive(Debug, Clone)]
pub struct DeleteMessage {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// The message.
    pub target: MessageTarget,
    /// Who asks.
    pub author: Author,
    /// The rules of rooms.
    pub policy: RoomPolicy,
    /// Makes the deletion idempotent for its caller.
    pub key: Option<RequestKey>,
    /// What the audit log says of it if it is what another person wrote; its target is the message.
    pub act: Option<Act>,
}

/// What an edit or a deletion has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageChanged {
    /// The message.
    pub message_id: u64,
    /// When it was changed.
    pub at: Timestamp,
    /// Whether an earlier request with the same key had done it.
    pub duplicate: bool,
}

/// Somebody takes part in a room from now on, if it is registered. Errors: `Forbidden`.
#[derive(Debug, Clone)]
pub struct JoinRoom {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub author: Author,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// Those who are in a room when it is registered by its first message take part in it; who has no right to it does not.
#[derive(Debug, Clone)]
pub struct EnlistMembers {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub users: Vec<UserId>,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// A room goes from somebody's list: see [`crate::domain::chat::is_listed`]. Nothing happens to who takes no part in it.
#[derive(Debug, Clone)]
pub struct LeaveRoom {
    /// The room.
    pub room: RoomId,
    /// The user.
    pub user: UserId,
}

/// Moves a read mark forward; an older message leaves it where it is. Gives the mark as it is now. Errors: `NotFound` without
/// such a message in that room; `Forbidden`.
#[derive(Debug, Clone)]
pub struct MarkRead {
    /// The room.
    pub room: RoomId,
    /// Who has read.
    pub reader: Author,
    /// Up to and with this message.
    pub message_id: u64,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}
