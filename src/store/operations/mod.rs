//! Everything that changes the store, as data: one file a noun, each write a plain value with its answer. An engine applies
//! the values; the table below makes their enumeration, their answers, their weights and their classes, so that a new
//! operation is written here, applied in the engine's file of its noun, and spelled nowhere else.
//!
//! A [`Write`] is an operation with its time and, if it is an administrative act, with what the audit log says of it. The
//! record is in the transaction of the act: there is no act without its record, and no record without its act.

pub mod access;
pub mod audit;
pub mod broadcast;
pub mod chat;
pub mod inbox;
pub mod maintenance;
pub mod notices;
pub mod order;
pub mod privacy;
pub mod progress;
pub mod users;
pub mod webhooks;

pub use access::{
    CreateRoom, Disconnect, LiftBan, PatchRoom, RemoveMember, RemoveMessages, RemoveRoom, SetBan, SetMember,
};
pub use audit::{Act, NoteForwarded, Record};
pub use broadcast::{Broadcast, BroadcastSent, BroadcastsOut, SendBroadcast};
pub use chat::{
    DeleteMessage, EditMessage, EnlistMembers, ExternalId, JoinRoom, LeaveRoom, MarkRead, MessageChanged,
    MessageTarget, PostMessage, Posted,
};
pub use inbox::{InboxAction, MarkInbox, Marked, Notified, Notify};
pub use maintenance::{NoteBackup, SampleGrowth};
pub use notices::{DoDue, DueDone, Recall, Schedule, Scheduled};
pub use order::{MuteMember, ReportMessage, Reported, ResolveReport, Resolved, SetRoomState, StateSet, UnmuteMember};
pub use privacy::{
    AwaitedTarget, BeginErasure, EraseSlice, ErasureBegun, ErasureStep, PruneWithheld, Purge, PurgeCursor, PurgeStep,
    ReleaseHold, SetHold, StandingHold,
};
pub use progress::{Report, SyncProgress, Synced};
pub use users::{Arrive, Delivered, DeliveryMark, Left, SettleIds};
pub use webhooks::{GivenUp, Sighting, TellAgain, TellSightings, Told};

use crate::domain::access::Banned;
use crate::domain::audit::AuditRecord;
use crate::domain::chat::{Membership, ReadMark, RoomRecord};
use crate::domain::notification::Notice;
use crate::domain::privacy::Hold;
use crate::domain::{Fingerprint, Timestamp, UserId};

/// A write as data.
pub trait Operation: Into<AnyOperation> + Send + 'static {
    /// What is answered when it is durable.
    type Answer: Send + 'static;

    /// The answer of this operation, from the answer of any.
    fn answer_from(answer: AnyAnswer) -> Option<Self::Answer>;
}

/// What an operation may still do when the disk runs full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// It stops at `storage.min_free`.
    Work,
    /// It goes on down to `storage.min_free_admin`: it takes rights away, makes room, or records that this was done.
    Relief,
}

/// An operation with its time, and what the audit log says of it if it is an administrative act.
#[derive(Debug, Clone)]
pub struct Write {
    /// When it was asked for: the only clock that an engine knows.
    pub at: Timestamp,
    /// What is to be done.
    pub operation: AnyOperation,
    /// What is recorded with it.
    pub act: Option<Act>,
}

/// What a write has come to.
#[derive(Debug)]
pub struct Applied<A> {
    /// Its answer.
    pub answer: A,
    /// The id of the last change that it left in the feed; 0 if it left none.
    pub change: u64,
}

/// The kinds of requests that may carry a key. A key of one kind never meets a key of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// `clientId` of a posted message.
    Message = 1,
    /// `syncId` of a progress report.
    Progress = 2,
    /// `Idempotency-Key` of a notification.
    Notify = 3,
    /// `Idempotency-Key` of a broadcast without a stored item.
    Passing = 4,
    /// `Idempotency-Key` of a message that a back end posts.
    PlatformMessage = 5,
    /// `Idempotency-Key` of an edit or a deletion that a back end makes.
    PlatformChange = 6,
}

/// Names a request of somebody for 24 hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestKey {
    /// Who called: a user, or the subject of a service token. Never the sender that a request names.
    pub caller: UserId,
    /// The kind of the request.
    pub kind: KeyKind,
    /// The key that they gave it.
    pub key: String,
    /// What the request says.
    pub fingerprint: Fingerprint,
}

/// Calls a macro with the table of all operations: `Name => |operation| user, Answer, Class, |operation| bytes, |answer| outcome;`.
/// The user is the one in whose turn it is done, `None` for the server's own and for administrators' acts. The outcome is what
/// the audit log says of an act that was done; `None` if nothing was done.
macro_rules! for_each_operation {
    ($call:ident) => {
        $call! {
            PostMessage => |op| Some(&op.draft.author.user), Posted, Work, |op| op.draft.content.len(), |posted| (!posted.duplicate).then(done);
            EditMessage => |op| Some(&op.author.user), MessageChanged, Work, |op| op.content.len(), |changed| (!changed.duplicate).then(done);
            DeleteMessage => |op| Some(&op.author.user), MessageChanged, Relief, |_op| 0, |changed| (!changed.duplicate).then(done);
            JoinRoom => |op| Some(&op.author.user), (), Work, |_op| 0, |_answer| Some(done());
            LeaveRoom => |op| Some(&op.user), (), Work, |_op| 0, |_answer| Some(done());
            EnlistMembers => |_op| None, (), Work, |op| op.users.len() * ROW, |_answer| Some(done());
            MarkRead => |op| Some(&op.reader.user), ReadMark, Work, |_op| 0, |_answer| Some(done());
            SyncProgress => |op| op.reports.first().map(|report| &report.user), Vec<Synced>, Work, |op| op.reports.len() * ROW, |_answer| Some(done());
            Notify => |_op| None, Notified, Work, |op| op.bytes(), |notified| (!notified.duplicate).then(done);
            Schedule => |_op| None, Scheduled, Work, |op| op.bytes(), |scheduled| (!scheduled.duplicate).then(|| format!("done, notification {}", scheduled.notice.id));
            DoDue => |_op| None, DueDone, Work, |op| op.limit * ROW, |_answer| Some(done());
            Recall => |_op| None, Notice, Relief, |_op| 0, |notice| Some(format!("done: {}", notice.body.title.chars().filter(|c| !c.is_control()).take(60).collect::<String>()));
            MarkInbox => |op| Some(&op.user), Marked, Work, |_op| 0, |_answer| Some(done());
            Arrive => |op| Some(&op.user), (), Work, |_op| 0, |_answer| Some(done());
            SettleIds => |op| op.users.first().filter(|_| !op.is_anew), (), Work, |op| op.users.len() * ROW, |_answer| Some(done());
            Delivered => |_op| None, (), Work, |op| op.marks.len() * ROW, |_answer| Some(done());
            Left => |op| Some(&op.user), (), Work, |_op| 0, |_answer| Some(done());
            SendBroadcast => |_op| None, BroadcastSent, Work, |op| op.broadcast.payload.len(), |sent| (!sent.duplicate).then(done);
            BroadcastsOut => |_op| None, (), Relief, |_op| 0, |_answer| Some(done());
            SetBan => |_op| None, (), Relief, |_op| 0, |_answer| Some(done());
            LiftBan => |_op| None, Banned, Relief, |_op| 0, |_answer| Some(done());
            Disconnect => |_op| None, (), Relief, |_op| 0, |_answer| Some(done());
            CreateRoom => |_op| None, RoomRecord, Work, |op| op.draft.members.len() * ROW, |_answer| Some(done());
            PatchRoom => |_op| None, RoomRecord, Relief, |_op| 0, |_answer| Some(done());
            SetMember => |_op| None, Option<Membership>, Work, |_op| 0, |_answer| Some(done());
            RemoveMember => |_op| None, Membership, Relief, |_op| 0, |before| Some(format!("done: was {}", before.as_str()));
            RemoveRoom => |_op| None, RoomRecord, Relief, |_op| 0, |record| Some(format!("done: {} messages", record.last_seq));
            RemoveMessages => |_op| None, bool, Relief, |op| op.limit * ROW, |_answer| Some(done());
            SetRoomState => |op| Some(&op.by.user), StateSet, Relief, |_op| 0, |set| set.is_new.then(done);
            MuteMember => |op| Some(&op.by.user), Banned, Relief, |_op| 0, |_answer| Some(done());
            UnmuteMember => |op| Some(&op.by.user), Banned, Relief, |_op| 0, |_answer| Some(done());
            ReportMessage => |op| Some(&op.by.user), Reported, Work, |op| op.reason.len() + op.moderators.len() * ROW, |reported| (!reported.duplicate).then(|| format!("done, report {}", reported.id));
            ResolveReport => |op| Some(&op.by.user), Resolved, Relief, |op| op.note.len(), |resolved| resolved.is_new.then(|| format!("done, report {}", resolved.report.id));
            SetHold => |_op| None, StandingHold, Relief, |op| op.hold.reason.len(), |set| set.is_new.then(|| format!("done, hold {}", set.hold.number));
            ReleaseHold => |_op| None, Hold, Relief, |_op| 0, |hold| Some(format!("done, hold {}: {}", hold.number, hold.reason));
            PruneWithheld => |_op| None, bool, Relief, |op| op.limit * ROW, |_answer| Some(done());
            BeginErasure => |_op| None, ErasureBegun, Relief, |_op| 0, |begun| begun.is_new.then(|| "begun".to_owned());
            EraseSlice => |_op| None, ErasureStep, Relief, |op| op.limit * ROW, |_answer| Some(done());
            Purge => |_op| None, PurgeStep, Relief, |op| op.limit * ROW, |_answer| Some(done());
            Record => |_op| None, AuditRecord, Relief, |op| op.entry.target.len() + op.entry.outcome.len(), |_answer| Some(done());
            NoteForwarded => |_op| None, (), Relief, |op| op.target.len(), |_answer| Some(done());
            SampleGrowth => |_op| None, (), Work, |op| op.counts.len() * ROW, |_answer| Some(done());
            NoteBackup => |_op| None, (), Relief, |_op| 0, |_answer| Some(done());
            TellSightings => |_op| None, (), Work, |op| op.sightings.len() * ROW, |_answer| Some(done());
            Told => |_op| None, (), Relief, |op| op.len() * ROW, |_answer| Some(done());
            TellAgain => |_op| None, u64, Work, |op| op.limit * ROW, |again| Some(format!("done: {again}"));
        }
    };
}
pub(in crate::store) use for_each_operation;

/// A row, about, in bytes.
const ROW: usize = 200;

fn done() -> String {
    "done".to_owned()
}

macro_rules! operations {
    ($($name:ident => |$by:pat_param| $user:expr, $answer:ty, $class:ident, |$op:pat_param| $bytes:expr, |$given:pat_param| $outcome:expr;)*) => {
        /// Any of the operations.
        #[derive(Debug, Clone)]
        #[allow(missing_docs, reason = "each is documented where it is defined")]
        pub enum AnyOperation {
            $($name($name),)*
        }

        /// The answer of any of the operations.
        #[derive(Debug)]
        #[allow(missing_docs, reason = "each is documented where its operation is defined")]
        pub enum AnyAnswer {
            $($name($answer),)*
        }

        $(
            impl From<$name> for AnyOperation {
                fn from(operation: $name) -> AnyOperation {
                    AnyOperation::$name(operation)
                }
            }

            impl Operation for $name {
                type Answer = $answer;

                fn answer_from(answer: AnyAnswer) -> Option<$answer> {
                    match answer {
                        AnyAnswer::$name(answer) => Some(answer),
                        _ => None,
                    }
                }
            }
        )*

        impl AnyOperation {
            /// Its bytes, about.
            #[must_use]
            pub fn weight(&self) -> usize {
                ROW + match self {
                    $(AnyOperation::$name($op) => $bytes,)*
                }
            }

            /// The user in whose turn it is done.
            #[must_use]
            pub fn user(&self) -> Option<&UserId> {
                match self {
                    $(AnyOperation::$name($by) => $user,)*
                }
            }

            /// What it may still do when the disk runs full.
            #[must_use]
            pub fn class(&self) -> Class {
                match self {
                    // A room that is closed takes rights away; any other change of a room does not.
                    AnyOperation::PatchRoom(op) if op.patch.private != Some(true) => Class::Work,
                    $(AnyOperation::$name(_) => Class::$class,)*
                }
            }
        }

        impl AnyAnswer {
            /// What the audit log says of an act that was answered so; `None` if nothing was done.
            #[must_use]
            pub fn outcome(&self) -> Option<String> {
                match self {
                    $(AnyAnswer::$name($given) => $outcome,)*
                }
            }
        }
    };
}

for_each_operation!(operations);
