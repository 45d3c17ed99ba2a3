//! Reports of messages: what somebody has told the moderators of a room about, with what it said then.

use super::chat::MessageKind;
use super::{RoomId, Timestamp, UserId};

/// The longest reason of a report, and the longest note of its resolution, in characters.
pub const MAX_WORDS_CHARS: usize = 500;

/// So many moderators of a room are told of a report; others find it on the list.
pub const MOST_TOLD: usize = 100;

/// A report. It goes with its message, and with who has made it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Its number: the id of the change that it was made by.
    pub id: u64,
    /// The change that tells of it as it is now.
    pub change: u64,
    /// The room.
    pub room: RoomId,
    /// The message.
    pub message_id: u64,
    /// Who wrote it.
    pub sender: UserId,
    /// What it said when it was reported, whatever it says now.
    pub content: String,
    /// What that was.
    pub kind: MessageKind,
    /// When it was written.
    pub sent_at: Timestamp,
    /// Who has reported it.
    pub by: UserId,
    /// Why.
    pub reason: String,
    /// When.
    pub at: Timestamp,
    /// What has come of it; `None` while it is open.
    pub resolution: Option<Resolution>,
}

/// What a moderator has made of a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolution {
    /// When.
    pub at: Timestamp,
    /// Who; `erased` if they have been erased since.
    pub by: UserId,
    /// What they say of it; it may be empty.
    pub note: String,
}
