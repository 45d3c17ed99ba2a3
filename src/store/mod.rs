//! The seam of the store: what the services ask of whatever keeps the data, split by noun, and nothing of how it is kept.
//!
//! Everything that changes is a value of [`operations`], handed in by [`Writes`]; everything else reads. No transaction,
//! closure or key crosses the seam. A write resolves after the transaction that holds it is durable, and the
//! [`CommitSink`] has by then received it, in commit order. Rules of read-modify-write are pure functions of
//! [`crate::domain`], called inside the transaction.
//!
//! One engine stands behind it: [`embedded`] (redb).

pub mod access;
pub mod change;
pub mod embedded;
pub mod maintenance;
pub mod notices;
pub mod operations;
pub mod order;
pub mod privacy;
pub mod rows;
pub mod searched;
pub mod webhooks;

pub use access::{Bans, ListPage, ListQuery, MemberPage, PeopleBook, RoomBook};
pub use change::{Change, CommitSink, NoSink};
pub use maintenance::{Failing, Identity, Maintenance, StoreStatus, TableStats};
pub use notices::Notices;
pub use order::{Order, ReportPage, ReportQuery};
pub use privacy::{AuditPart, Audits, ExportCursor, ExportPage, Privacy, UserItem, UserProfile};
pub use searched::Searched;
pub use webhooks::{HookItem, HookMark, HookPlan, Hooks};

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::domain::chat::{Author, Membership, Message, RoomPolicy, RoomRecord, RoomSummary};
use crate::domain::notification::Notification;
use crate::domain::privacy::WithheldVersion;
use crate::domain::progress::Progress;
use crate::domain::room_state::RoomState;
use crate::domain::{Actor, Clock, LessonId, Refusal, RoomId, Timestamp, UserId};

use operations::{Act, AnyAnswer, Applied, Broadcast, Operation, RequestKey, Write};

/// What a store method gives: a future that resolves when the work is done, durably if it writes. Dropping it does not
/// take a write back: a request that has been queued may still be stored.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The rules refuse it; nothing was written.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The writer's queue is full; nothing was written. Try again.
    #[error("the store is busy")]
    Busy,
    /// The disk is full, or nearly. Nothing was acknowledged; reads go on.
    #[error("the disk is full: {0}")]
    Full(String),
    /// What is stored contradicts itself.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// The store has been closed.
    #[error("the store is closed")]
    Closed,
    /// An I/O error. The outcome of a write is unknown; a retry with the same key decides.
    #[error("the store is unavailable: {0}")]
    Unavailable(String),
}

/// Why a store does not open. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the data directory {} is in use by {by}", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
        /// By whom, in words.
        by: String,
    },
    /// It was written by a newer version.
    #[error("the store at {} has format {found}, of academy-rt {version}; this version reads up to {known}", path.display())]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The version that gave it this format, and can read it.
        version: String,
        /// Its format.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// It was written by an older version, and has not been migrated.
    #[error("the store at {} has format {found}; this version works with {known}", path.display())]
    Older {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The format of this version.
        known: u32,
    },
    /// It is not a store of ours, or damaged beyond the engine's own repair.
    #[error("the store at {} cannot be read: {reason}", path.display())]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What the engine said.
        reason: String,
    },
    /// Its name is a link that leads nowhere.
    #[error("{} is a link to {}, where there is nothing", path.display(), target.display())]
    LostLink {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// It was looked at after a failure of the disk, and contradicts itself.
    #[error("the store at {} is not sound: {}", path.display(), found.join("; "))]
    Unsound {
        /// The database file.
        path: PathBuf,
        /// The first things that were found.
        found: Vec<String>,
    },
    /// The file system refused.
    #[error("cannot open the store at {}: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The directory that holds `academy.redb`; it exists.
    pub data_dir: PathBuf,
    /// The page cache, in bytes.
    pub cache_bytes: usize,
    /// How many versions of a lesson's progress are kept for its history.
    pub progress_versions: usize,
    /// How many lessons of a user have progress at most; 0: no limit.
    pub lessons_per_user: u64,
    /// How long a request waits at most until others share its transaction, where they come all the time; zero: not at all.
    pub commit_delay: std::time::Duration,
    /// Writes are refused below this many free bytes on the disk, before the engine meets a full disk. 0 switches it off.
    pub min_free_bytes: u64,
    /// Operations of [`operations::Class::Relief`] go on down to this.
    pub min_free_admin_bytes: u64,
}

/// Opens the embedded store, making it if it is not there. Blocks.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    config: &StoreConfig,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn CommitSink>,
) -> Result<Arc<dyn Store>, OpenError> {
    embedded::open(config, clock, sink)
}

/// Everything the services ask of a store.
pub trait Store:
    Writes
    + Messages
    + Rooms
    + Lessons
    + Inbox
    + Notices
    + People
    + Answers
    + Replays
    + Maintenance
    + Audits
    + Privacy
    + Bans
    + RoomBook
    + PeopleBook
    + Order
    + Hooks
    + Searched
{
}

impl<T> Store for T where
    T: Writes
        + Messages
        + Rooms
        + Lessons
        + Inbox
        + Notices
        + People
        + Answers
        + Replays
        + Maintenance
        + Audits
        + Privacy
        + Bans
        + RoomBook
        + PeopleBook
        + Order
        + Hooks
        + Searched
{
}

/// The one way in for everything that changes.
pub trait Writes: Send + Sync {
    /// Takes a write. It is queued when this returns; what comes back resolves when it is durable, and may be dropped.
    ///
    /// # Errors
    /// What the operation names; [`StoreError::Busy`], [`StoreError::Full`], [`StoreError::Closed`],
    /// [`StoreError::Unavailable`].
    fn write(&self, write: Write) -> Answer<'static, Applied<AnyAnswer>>;
}

impl dyn Store + '_ {
    /// Does an operation that is no administrative act.
    pub fn apply<O: Operation>(
        &self,
        at: Timestamp,
        operation: O,
    ) -> impl Future<Output = Result<O::Answer, StoreError>> + Send + use<O> {
        let applied = self.submit(at, operation, None);
        async move { applied.await.map(|applied| applied.answer) }
    }

    /// Does an operation with what the audit log says of it; gives its answer and the change that it left in the feed.
    pub fn submit<O: Operation>(
        &self,
        at: Timestamp,
        operation: O,
        act: Option<Act>,
    ) -> impl Future<Output = Result<Applied<O::Answer>, StoreError>> + Send + use<O> {
        let written = self.write(Write { at, operation: operation.into(), act });
        async move {
            let Applied { answer, change } = written.await?;
            let answer = O::answer_from(answer)
                .ok_or_else(|| StoreError::Unavailable("the store gave another operation's answer".to_owned()))?;
            Ok(Applied { answer, change })
        }
    }
}

/// A part of a room's messages, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Messages with a smaller id; without `after` the latest of them first in choice.
    pub before: Option<u64>,
    /// Messages with a larger id, the earliest first in choice. With `before`: those between the two.
    pub after: Option<u64>,
    /// At most so many.
    pub limit: usize,
}

/// What a page holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MessagePage {
    /// The messages, ascending. They carry the JSON type of the room id that was asked with.
    pub messages: Vec<Message>,
    /// Whether there are more in the direction asked.
    pub has_more: bool,
    /// The id of the room's latest message; 0 if there is none.
    pub last_id: u64,
    /// The `seq` of the room's latest message; 0 if there is none.
    pub last_seq: u64,
    /// The asker's read mark; 0 if there is none.
    pub read_up_to: u64,
    /// Whether a join would change nothing: the asker takes part in the room, or the room is not registered.
    pub is_settled: bool,
    /// Who may write in the room, and how often.
    pub state: RoomState,
    /// What the asker is in the room, if they take part in it.
    pub membership: Option<Membership>,
}

/// Which part of a room a transcript has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscriptQuery {
    /// The room.
    pub room: RoomId,
    /// Only what was said at this moment or later.
    pub since: Option<Timestamp>,
    /// Only what was said before this moment.
    pub until: Option<Timestamp>,
    /// With what messages said before they were changed under a legal hold that still stands.
    pub versions: bool,
}

/// Takes a transcript: the room, its messages in their order, and the end, all of one moment.
pub trait TranscriptSink: Send {
    /// Before the first message: the room as it is.
    ///
    /// # Errors
    /// Ends the reading.
    fn begin(&mut self, room: &RoomRecord) -> std::io::Result<()>;

    /// A message, with its withheld versions, oldest first.
    ///
    /// # Errors
    /// Ends the reading.
    fn message(&mut self, message: &Message, versions: &[WithheldVersion]) -> std::io::Result<()>;

    /// Behind the last message: what was taken is complete.
    ///
    /// # Errors
    /// It was not kept.
    fn end(&mut self) -> std::io::Result<()>;
}

/// Messages of chat rooms.
pub trait Messages: Send + Sync {
    /// Reads a page. A room that does not exist is empty where the policy lets everybody in.
    ///
    /// # Errors
    /// `Forbidden`; `Resync` if `after` is an id that this store has not given yet.
    fn history(&self, room: RoomId, viewer: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage>;

    /// One message by its id, in its room as that was first named; `None` if there is none, or if its room is being removed. No
    /// right is asked here.
    fn message(&self, id: u64) -> Answer<'_, Option<Message>>;

    /// Hands a room's messages to a sink, of one consistent view, which pins pages for as long as the sink takes: a slow one is the
    /// caller's to end. No right is asked here.
    ///
    /// # Errors
    /// `NotFound` without such a room; what the sink said.
    fn transcript(&self, query: TranscriptQuery, sink: Box<dyn TranscriptSink>) -> Answer<'_, ()>;

    /// What some messages of a room said before they were changed under a hold that still stands: by message, oldest first.
    /// No right is asked here.
    fn withheld(&self, room: RoomId, messages: Vec<u64>) -> Answer<'_, Vec<(u64, Vec<WithheldVersion>)>>;
}

/// Chat rooms and who takes part in them.
pub trait Rooms: Send + Sync {
    /// Whether somebody may enter now.
    ///
    /// # Errors
    /// `Forbidden`.
    fn may_enter(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, ()>;

    /// Which of several rooms somebody may enter at one moment, in the order asked.
    fn enterable(&self, rooms: Vec<RoomId>, viewer: Author, policy: RoomPolicy) -> Answer<'_, Vec<bool>>;

    /// What somebody is in a room; `None` if they take no part in it, or it is not registered.
    fn membership(&self, room: RoomId, user: UserId) -> Answer<'_, Option<Membership>>;

    /// A part of a user's list of rooms: those they were admitted to, joined or wrote in, have not left, and may enter. The
    /// room where something was said last comes first.
    fn rooms_of(&self, viewer: Author, query: RoomQuery, policy: RoomPolicy) -> Answer<'_, RoomPage>;
}

/// Which part of somebody's list of rooms is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomQuery {
    /// Only what is behind this place.
    pub after: Option<RoomPlace>,
    /// At most so many.
    pub limit: usize,
}

/// Where a room stands on a list: its latest message, and its number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RoomPlace {
    /// The id of its latest message; 0 if there is none.
    pub last_id: u64,
    /// The number of the room.
    pub room: u64,
}

/// A part of somebody's list of rooms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomPage {
    /// The rooms, each with its place.
    pub rooms: Vec<(RoomSummary, RoomPlace)>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// Which lessons are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LessonFilter {
    /// Only this lesson.
    pub lesson: Option<LessonId>,
    /// Only lessons of this course.
    pub course: Option<LessonId>,
    /// Only what changed behind this change id.
    pub since: Option<u64>,
    /// At most so many; all without it.
    pub limit: Option<usize>,
}

/// A part of what is known of somebody's lessons.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LessonPage {
    /// The lessons, in the order of their last change, each with its id.
    pub items: Vec<(Progress, u64)>,
    /// The id up to which this is complete.
    pub up_to: u64,
    /// Whether there are more behind it.
    pub has_more: bool,
}

/// Progress of lessons, named so that it does not collide with [`Progress`].
pub trait Lessons: Send + Sync {
    /// What is known of a user's lessons, in the order of their last change.
    ///
    /// # Errors
    /// `Resync` if `since` is an id that this store has not given yet.
    fn progress(&self, user: UserId, filter: LessonFilter) -> Answer<'_, LessonPage>;

    /// The kept versions of one lesson, oldest first.
    fn progress_history(&self, user: UserId, lesson: LessonId) -> Answer<'_, Vec<Progress>>;
}

/// A part of an inbox, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxPage {
    /// The notifications, newest first.
    pub items: Vec<Notification>,
    /// How many of the whole inbox are unread.
    pub unread: u64,
    /// Whether there are older ones.
    pub has_more: bool,
}

/// Which notifications of an inbox are asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InboxQuery {
    /// Only older than this id.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Only unread ones.
    pub unread_only: bool,
}

/// What somebody finds on arrival.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// How many notifications are unread.
    pub unread: u64,
    /// Those not yet delivered to any socket of the user, oldest first, at most the number asked for.
    pub undelivered: Vec<Notification>,
}

/// Notifications and each user's inbox.
pub trait Inbox: Send + Sync {
    /// Reads a part of an inbox.
    fn inbox(&self, viewer: Actor, query: InboxQuery) -> Answer<'_, InboxPage>;

    /// What somebody finds who has come, at most `limit` notifications of it.
    fn arrival(&self, viewer: Actor, limit: usize) -> Answer<'_, Arrival>;
}

/// People, as far as they have been here.
pub trait People: Send + Sync {
    /// When users were last here, in the order asked, with the name they had; `None` for who is unknown.
    fn last_seen(&self, users: Vec<UserId>) -> Answer<'_, Vec<Option<(String, Timestamp)>>>;
}

/// First answers of requests with a key.
pub trait Answers: Send + Sync {
    /// Whether a request with this key was answered, whatever it said.
    fn is_answered(&self, key: RequestKey) -> Answer<'_, bool>;

    /// Broadcasts that were acknowledged and, as far as the store knows, have not gone out, with their change ids.
    fn unsent_broadcasts(&self) -> Answer<'_, Vec<(u64, Arc<Broadcast>)>>;
}

/// What happened behind a cursor.
#[derive(Debug, Clone, PartialEq)]
pub struct Replay {
    /// The changes, in the order of their ids.
    pub changes: Vec<Change>,
    /// The id up to which this is complete.
    pub up_to: u64,
    /// Whether there is more behind `up_to`.
    pub has_more: bool,
}

/// What somebody missed.
pub trait Replays: Send + Sync {
    /// The changes behind `after` that concern a user and the rooms named (which must have been authorised, and give
    /// their JSON type), at most about `limit`. What was changed several times since is given as it is now.
    ///
    /// # Errors
    /// `Resync` if `after` is an id that this store has not given yet.
    fn replay(&self, viewer: Actor, rooms: Vec<RoomId>, after: u64, limit: usize) -> Answer<'_, Replay>;
}
