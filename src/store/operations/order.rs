//! How order is kept in rooms: their state, who may not write in one, and what is reported. The rules are those of
//! [`crate::domain::chat::may_moderate`], [`crate::domain::room_state`] and [`crate::domain::report`].

use crate::domain::chat::{Author, RoomPolicy};
use crate::domain::report::Report;
use crate::domain::room_state::{RoomState, StateChange};
use crate::domain::{RoomId, Timestamp, UserId};

/// Locks a room or opens it again, or sets its slow mode. Errors: `NotFound` without such a room; `Forbidden` for who keeps no order
/// in it.
#[derive(Debug, Clone)]
pub struct SetRoomState {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// Who asks.
    pub by: Author,
    /// What is changed.
    pub change: StateChange,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// The state of a room, as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateSet {
    /// It.
    pub state: RoomState,
    /// Whether it was another one before.
    pub is_new: bool,
}

/// Lets somebody who takes part in a room read and not write in it, until a moment. Errors: `NotFound` without such a room, or if
/// they take no part in it; `Forbidden` for who keeps no order in it; `KeepsOrder` if they keep order themselves; `Conflict` as of
/// [`super::SetBan`].
#[derive(Debug, Clone)]
pub struct MuteMember {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// Who is muted.
    pub user: UserId,
    /// Who asks.
    pub by: Author,
    /// Until when.
    pub until: Timestamp,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// Lifts a mute in a room. Nobody but an administrator lifts their own. Errors: `NotFound` without such a room or such a mute;
/// `Forbidden` for who keeps no order in it.
#[derive(Debug, Clone)]
pub struct UnmuteMember {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// Who is muted.
    pub user: UserId,
    /// Who asks.
    pub by: Author,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// Reports a message of a room that one may read. A second report of the same by the same changes nothing. Errors: `Forbidden`;
/// `NotFound` without such a message in that room; `Deleted`; `Erasing`.
#[derive(Debug, Clone)]
pub struct ReportMessage {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// The message.
    pub message_id: u64,
    /// Who reports it.
    pub by: Author,
    /// Why.
    pub reason: String,
    /// Who keeps order in the room, as far as they are to be told; who does not any more is not.
    pub moderators: Vec<UserId>,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// A report that was made now or before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// Its number.
    pub id: u64,
    /// When it was made.
    pub at: Timestamp,
    /// Whether it was made before; nothing was stored now.
    pub duplicate: bool,
}

/// Says what has come of a report. Of one that is resolved it stays as it is. Errors: `NotFound` without such a report in that room;
/// `Forbidden` for who keeps no order in it, and of what they have written themselves.
#[derive(Debug, Clone)]
pub struct ResolveReport {
    /// The report.
    pub report: u64,
    /// The room; whichever it is, without one.
    pub room: Option<RoomId>,
    /// Who asks.
    pub by: Author,
    /// What they say of it.
    pub note: String,
    /// Who keeps order in the room, as of [`ReportMessage`].
    pub moderators: Vec<UserId>,
    /// The rules of rooms.
    pub policy: RoomPolicy,
}

/// A report that is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// It.
    pub report: Report,
    /// Whether it was open before.
    pub is_new: bool,
}
