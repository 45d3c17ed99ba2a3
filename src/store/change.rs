//! What leaves the store behind each commit: changes in the order of their ids, and the sink that receives them.

use std::collections::HashSet;
use std::sync::Arc;

use crate::domain::access::{Ban, Banned};
use crate::domain::audit::AuditRecord;
use crate::domain::chat::{Membership, Message, ReadMark, RoomRecord};
use crate::domain::notification::{Audience, Ending, Notification, Selection};
use crate::domain::privacy::{Hold, Subject};
use crate::domain::progress::Progress;
use crate::domain::report::Report;
use crate::domain::room_state::RoomState;
use crate::domain::{RoomId, UserId};

use super::operations::{Broadcast, InboxAction};

/// Receives what has become durable. The writer calls it on its own thread after each commit, before the waiting requests
/// are answered, with the changes in the order of their ids. While it works nothing is committed: it may hold the writer up
/// for a bounded time to keep the order (that is the way in which receivers that do not keep up slow the senders down), and
/// must not wait for anything that itself waits for a write.
pub trait CommitSink: Send + Sync {
    /// These changes are on disk.
    fn committed(&self, changes: Vec<Change>);
}

/// A sink for those who do not listen.
#[derive(Debug, Default, Clone, Copy)]
pub struct NoSink;

impl CommitSink for NoSink {
    fn committed(&self, _changes: Vec<Change>) {}
}

/// Who is admitted to a room that admits its members alone.
pub type Admitted = Arc<HashSet<UserId>>;

/// Who is told of a report.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportAudience {
    /// Everybody with the role of an administrator.
    pub administrators: bool,
    /// Moderators of the room.
    pub moderators: Vec<UserId>,
}

/// A durable change that somebody may want to hear of. `id` is from the store's one sequence and rises with each change,
/// so "everything up to `id`" is a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A message was stored. `message.id` is the change's id; `message.room` has the JSON type of the request.
    Posted {
        /// It.
        message: Arc<Message>,
        /// The socket that has posted it, as given to [`super::operations::PostMessage`].
        origin: Option<u64>,
    },
    /// A message's content was changed.
    Edited {
        /// The change's id.
        id: u64,
        /// The message as it is now, in the room with the JSON type of the request.
        message: Arc<Message>,
        /// The change of this message that this one takes the place of; 0 if it is the first.
        supersedes: u64,
    },
    /// A message was deleted.
    Deleted {
        /// The change's id.
        id: u64,
        /// The tombstone.
        message: Arc<Message>,
        /// As of [`Change::Edited`].
        supersedes: u64,
    },
    /// A tombstone has lost its sender: this is not delivered, but earlier deliveries are not sent again.
    Anonymised {
        /// The change's id.
        id: u64,
        /// The tombstone.
        message: Arc<Message>,
        /// As of [`Change::Edited`].
        supersedes: u64,
    },
    /// A read mark moved forward.
    Read {
        /// The change's id.
        id: u64,
        /// The mark.
        mark: ReadMark,
    },
    /// A lesson's progress has a new version.
    Progressed {
        /// The change's id.
        id: u64,
        /// The new state.
        progress: Progress,
    },
    /// A notification was stored; `notification.id` is the change's id.
    Notified(Notification),
    /// A notification is over, or was taken back: it is in no inbox any more.
    Withdrawn {
        /// The change's id.
        id: u64,
        /// The notification, as its readers know it.
        notification: u64,
        /// Whose inboxes it was in.
        audience: Audience,
        /// Why.
        ending: Ending,
    },
    /// Somebody read or deleted notifications of their inbox.
    InboxChanged {
        /// The change's id.
        id: u64,
        /// Whose inbox.
        user: UserId,
        /// Which notifications.
        selection: Selection,
        /// What was done.
        action: InboxAction,
        /// How many are unread now.
        unread: u64,
        /// The caller's own mark of where the request came from, as given to [`super::operations::MarkInbox`].
        origin: Option<u64>,
    },
    /// A broadcast without a stored item is sent.
    Broadcast {
        /// The change's id.
        id: u64,
        /// It.
        broadcast: Arc<Broadcast>,
    },
    /// A user is blocked, or tokens are revoked.
    Banned {
        /// The change's id.
        id: u64,
        /// The ban as it stands now.
        banned: Banned,
    },
    /// A ban was taken away.
    Unbanned {
        /// The change's id.
        id: u64,
        /// Which.
        ban: Ban,
    },
    /// Somebody's sockets are to be closed.
    Disconnected {
        /// The change's id.
        id: u64,
        /// Whose.
        user: UserId,
    },
    /// A room was registered by an administrator, or is another one now.
    RoomChanged {
        /// The change's id.
        id: u64,
        /// The room as it is now.
        room: RoomRecord,
        /// Who is admitted; `None` if everybody is.
        admitted: Option<Admitted>,
    },
    /// A room is locked, or is not any more, or its slow mode is another one.
    StateSet {
        /// The change's id.
        id: u64,
        /// The room, with the JSON type of the request.
        room: RoomId,
        /// Its state now.
        state: RoomState,
    },
    /// A message was reported, or a report was resolved.
    Reported {
        /// The change's id.
        id: u64,
        /// The report as it is now.
        report: Arc<Report>,
        /// Who is told.
        to: ReportAudience,
    },
    /// A room is gone with all that was said in it.
    RoomRemoved {
        /// The change's id.
        id: u64,
        /// The room.
        room: RoomId,
    },
    /// Somebody was admitted to a room, or became something else in it.
    MemberSet {
        /// The change's id.
        id: u64,
        /// The room.
        room: RoomId,
        /// The user.
        user: UserId,
        /// What they are now.
        membership: Membership,
    },
    /// Somebody was taken out of a room.
    MemberRemoved {
        /// The change's id.
        id: u64,
        /// The room.
        room: RoomId,
        /// The user.
        user: UserId,
    },
    /// Somebody's erasure has begun, or is finished.
    Erased {
        /// The change's id.
        id: u64,
        /// The user.
        user: UserId,
        /// Whether nothing of them is left.
        is_finished: bool,
    },
    /// A legal hold was set.
    HoldSet {
        /// The change's id.
        id: u64,
        /// It.
        hold: Hold,
    },
    /// A legal hold was released.
    HoldReleased {
        /// The change's id.
        id: u64,
        /// Of whom or what.
        subject: Subject,
    },
    /// Messages or notifications were purged by age: these ids are not sent again.
    Purged {
        /// The change's id.
        id: u64,
        /// The messages or notifications.
        ids: Vec<u64>,
    },
    /// A record was added to the audit log.
    Recorded {
        /// The change's id.
        id: u64,
        /// It.
        record: AuditRecord,
    },
}

impl Change {
    /// The change's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Change::Posted { message, .. } => message.id,
            Change::Notified(notification) => notification.id,
            Change::Edited { id, .. }
            | Change::Deleted { id, .. }
            | Change::Anonymised { id, .. }
            | Change::Read { id, .. }
            | Change::Progressed { id, .. }
            | Change::Withdrawn { id, .. }
            | Change::InboxChanged { id, .. }
            | Change::Broadcast { id, .. }
            | Change::Banned { id, .. }
            | Change::Unbanned { id, .. }
            | Change::Disconnected { id, .. }
            | Change::RoomChanged { id, .. }
            | Change::StateSet { id, .. }
            | Change::Reported { id, .. }
            | Change::RoomRemoved { id, .. }
            | Change::MemberSet { id, .. }
            | Change::MemberRemoved { id, .. }
            | Change::Erased { id, .. }
            | Change::HoldSet { id, .. }
            | Change::HoldReleased { id, .. }
            | Change::Purged { id, .. }
            | Change::Recorded { id, .. } => *id,
        }
    }

    /// The kinds of changes, for figures; messages first.
    pub const KINDS: [&'static str; 24] = [
        "message",
        "edit",
        "deletion",
        "anonymisation",
        "read_mark",
        "progress",
        "notification",
        "withdrawal",
        "inbox",
        "broadcast",
        "ban",
        "unban",
        "disconnect",
        "room",
        "room_state",
        "report",
        "room_removal",
        "member",
        "member_removal",
        "erasure",
        "hold",
        "hold_release",
        "purge",
        "audit_record",
    ];

    /// Its kind, one of [`Change::KINDS`].
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Change::Posted { .. } => "message",
            Change::Edited { .. } => "edit",
            Change::Deleted { .. } => "deletion",
            Change::Anonymised { .. } => "anonymisation",
            Change::Read { .. } => "read_mark",
            Change::Progressed { .. } => "progress",
            Change::Notified(_) => "notification",
            Change::Withdrawn { .. } => "withdrawal",
            Change::InboxChanged { .. } => "inbox",
            Change::Broadcast { .. } => "broadcast",
            Change::Banned { .. } => "ban",
            Change::Unbanned { .. } => "unban",
            Change::Disconnected { .. } => "disconnect",
            Change::RoomChanged { .. } => "room",
            Change::StateSet { .. } => "room_state",
            Change::Reported { .. } => "report",
            Change::RoomRemoved { .. } => "room_removal",
            Change::MemberSet { .. } => "member",
            Change::MemberRemoved { .. } => "member_removal",
            Change::Erased { .. } => "erasure",
            Change::HoldSet { .. } => "hold",
            Change::HoldReleased { .. } => "hold_release",
            Change::Purged { .. } => "purge",
            Change::Recorded { .. } => "audit_record",
        }
    }
}
