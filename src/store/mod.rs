//! The seam of the store: what the services ask of whatever keeps the data, split by noun, and nothing of how it is kept.
//!
//! A method is one atomic unit of work named by its intent; no transaction, closure or key crosses the seam. A write
//! resolves after the transaction that holds it is durable (CONTRACT 4), and the [`CommitSink`] has by then been told of
//! it, in commit order. Rules of read-modify-write are pure functions of [`crate::domain`], called inside the transaction.
//!
//! Two engines stand behind it: [`embedded`] (redb, the product) and [`memory`] (the conformance suite's second opinion).

pub mod access;
pub mod care;
pub mod embedded;
pub mod memory;
pub mod privacy;
pub mod rows;

pub use access::{Bans, ListPage, ListQuery, MemberPage, PeopleBook, RoomBook};
pub use care::{Care, Failing, Identity, StoreStatus};
pub use privacy::{
    Audits, ErasureStep, Privacy, PurgeCursor, PurgeStep, TrailPart, UserItem, UserItems, UserProfile, UserSink,
};

use std::future::Future;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;

use crate::domain::chat::{Author, Draft, Message, ReadMark, RoomPolicy, RoomSummary};
use crate::domain::notification::{Notification, NotificationDraft, Selection};
use crate::domain::progress::{Progress, Update};
use crate::domain::{Actor, Clock, LessonId, Refusal, RoomId, Timestamp, UserId};

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
    #[error("the data directory {} is in use by another academy-rt", path.display())]
    InUse {
        /// The data directory.
        path: PathBuf,
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
    /// Writes are refused below this many free bytes on the disk, before the engine meets a full disk. 0 switches it off.
    pub min_free_bytes: u64,
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

/// Who is told what has become durable. The writer calls it after each commit, before the waiting requests are answered,
/// with the changes in the order of their ids; it must not block.
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

/// A durable change that somebody may want to hear of. `id` is from the store's one sequence and rises with each change,
/// so "everything up to `id`" is a cursor.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A message was stored. `message.id` is the change's id; `message.room` has the JSON type of the request.
    Posted(Arc<Message>),
    /// A message's content was changed.
    Edited {
        /// The change's id.
        id: u64,
        /// The room, with the JSON type of the request.
        room: RoomId,
        /// The message.
        message_id: u64,
        /// What it says now.
        content: String,
        /// When it was changed.
        at: Timestamp,
    },
    /// A message was deleted.
    Deleted {
        /// The change's id.
        id: u64,
        /// The room, with the JSON type of the request.
        room: RoomId,
        /// The message.
        message_id: u64,
        /// When it was deleted.
        at: Timestamp,
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
        /// The caller's own mark of where the request came from, as given to [`Inbox::mark_inbox`].
        origin: Option<u64>,
    },
}

impl Change {
    /// The change's id.
    #[must_use]
    pub fn id(&self) -> u64 {
        match self {
            Change::Posted(message) => message.id,
            Change::Notified(notification) => notification.id,
            Change::Edited { id, .. }
            | Change::Deleted { id, .. }
            | Change::Read { id, .. }
            | Change::Progressed { id, .. }
            | Change::InboxChanged { id, .. } => *id,
        }
    }
}

/// What is done to notifications of an inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InboxAction {
    /// They are read.
    Read,
    /// They are gone from the inbox.
    Delete,
}

/// Everything the services ask of a store.
pub trait Store:
    Messages + Rooms + Lessons + Inbox + People + Answers + Replays + Care + Audits + Privacy + Bans + RoomBook + PeopleBook
{
}

impl<T> Store for T where
    T: Messages
        + Rooms
        + Lessons
        + Inbox
        + People
        + Answers
        + Replays
        + Care
        + Audits
        + Privacy
        + Bans
        + RoomBook
        + PeopleBook
{
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

/// A part of a room's messages, in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    /// Messages with a smaller id, the latest first in choice.
    pub before: Option<u64>,
    /// Messages with a larger id, the earliest first in choice.
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
}

/// A change to one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageChange {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// The message.
    pub message_id: u64,
    /// Who asks.
    pub author: Author,
    /// When.
    pub at: Timestamp,
}

/// Messages of chat rooms.
pub trait Messages: Send + Sync {
    /// Stores a message, registering its room as open if need be. The author's own read mark moves up to it.
    /// The platform's own messages are an author with `admin`.
    ///
    /// # Errors
    /// `Forbidden` by [`crate::domain::chat::may_enter`]; `Conflict` if the key was used in another room.
    fn append_message(&self, draft: Draft, policy: RoomPolicy) -> Answer<'_, Posted>;

    /// Changes a message's content.
    ///
    /// # Errors
    /// `NotFound` without such a message in that room; `Forbidden` by [`crate::domain::chat::may_enter`] or
    /// [`crate::domain::chat::may_change`].
    fn edit_message(&self, change: MessageChange, content: String, policy: RoomPolicy) -> Answer<'_, Timestamp>;

    /// Deletes a message's content; a tombstone stays, with its `seq`. Deleting it again is `NotFound`.
    ///
    /// # Errors
    /// As [`Messages::edit_message`].
    fn delete_message(&self, change: MessageChange, policy: RoomPolicy) -> Answer<'_, Timestamp>;

    /// Reads a page. A room that does not exist is empty where the policy lets everybody in. `after` wins over `before`.
    ///
    /// # Errors
    /// `Forbidden`; `Resync` if `after` is an id that this store has not given yet.
    fn history(&self, room: RoomId, viewer: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage>;
}

/// Chat rooms and who takes part in them.
pub trait Rooms: Send + Sync {
    /// Whether somebody may enter now.
    ///
    /// # Errors
    /// `Forbidden`.
    fn may_enter(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, ()>;

    /// As [`Messages::history`], and the user takes part in the room from now on, if the room is registered.
    ///
    /// # Errors
    /// As [`Messages::history`].
    fn join_room(&self, room: RoomId, author: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage>;

    /// The rooms that a user takes part in: those they were admitted to, joined or wrote in.
    fn rooms_of(&self, user: UserId) -> Answer<'_, Vec<RoomSummary>>;

    /// Moves a read mark forward; an older message leaves it where it is. Gives the mark as it is now.
    ///
    /// # Errors
    /// `NotFound` without such a message in that room; `Forbidden`.
    fn mark_read(&self, room: RoomId, reader: Author, message_id: u64, policy: RoomPolicy) -> Answer<'_, ReadMark>;
}

/// The answer to one progress report.
#[derive(Debug, Clone, PartialEq)]
pub struct Synced {
    /// The state after it; of a repetition, as it was first answered.
    pub progress: Progress,
    /// Whether an earlier report had the same key; then nothing was stored now.
    pub duplicate: bool,
    /// Whether it was made on an older version and merged.
    pub merged: bool,
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
}

/// Progress of lessons, named so that it does not collide with [`Progress`].
pub trait Lessons: Send + Sync {
    /// Merges reports in their order, all of them in one transaction or none.
    ///
    /// # Errors
    /// `Conflict` if a key was used for another lesson; then none is stored.
    fn sync_progress(&self, user: UserId, updates: Vec<Update>, at: Timestamp) -> Answer<'_, Vec<Synced>>;

    /// What is known of a user's lessons, in the order of their last change, and the id up to which this is complete.
    ///
    /// # Errors
    /// `Resync` if `since` is an id that this store has not given yet.
    fn progress(&self, user: UserId, filter: LessonFilter) -> Answer<'_, (Vec<Progress>, u64)>;

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
    /// Stores a notification. `key` makes it idempotent for its sender for 24 hours; a repetition gives the first one and
    /// `true`.
    fn notify(&self, draft: NotificationDraft, key: Option<AnswerKey>) -> Answer<'_, (Notification, bool)>;

    /// Reads a part of an inbox.
    fn inbox(&self, viewer: Actor, query: InboxQuery) -> Answer<'_, InboxPage>;

    /// Reads or deletes notifications. Ids that are not in the inbox are passed over; gives the ids that changed and how
    /// many are unread now.
    fn mark_inbox(
        &self,
        viewer: Actor,
        selection: Selection,
        action: InboxAction,
        origin: Option<u64>,
    ) -> Answer<'_, (Vec<u64>, u64)>;
}

/// People, as far as they have been here.
pub trait People: Send + Sync {
    /// Somebody has come: they are known from now on, with their name and roles of today. At most `limit` undelivered
    /// notifications.
    fn arrive(&self, actor: Actor, at: Timestamp, limit: usize) -> Answer<'_, Arrival>;

    /// Each user has been sent every notification of their inbox up to an id. Not waited for by anybody: a mark that is
    /// lost in a crash means a notification that comes twice, with the same id.
    fn delivered(&self, marks: Vec<(UserId, u64)>) -> Answer<'_, ()>;

    /// The last socket of somebody has gone.
    fn left(&self, user: UserId, at: Timestamp) -> Answer<'_, ()>;

    /// When users were last here, in the order asked, with the name they had; `None` for who is unknown.
    fn last_seen(&self, users: Vec<UserId>) -> Answer<'_, Vec<Option<(String, Timestamp)>>>;
}

/// Names a request of somebody for 24 hours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerKey {
    /// Whose request.
    pub user: UserId,
    /// The key that they gave it.
    pub key: String,
}

/// First answers of requests that store nothing else.
pub trait Answers: Send + Sync {
    /// Keeps an answer for 24 hours, unless the key has one: then that is given back.
    fn first_answer(&self, key: AnswerKey, answer: Vec<u8>, at: Timestamp) -> Answer<'_, Option<Vec<u8>>>;
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
    /// their JSON type), at most about `limit`. What was changed several times since is told as it is now.
    ///
    /// # Errors
    /// `Resync` if `after` is an id that this store has not given yet.
    fn replay(&self, viewer: Actor, rooms: Vec<RoomId>, after: u64, limit: usize) -> Answer<'_, Replay>;
}
