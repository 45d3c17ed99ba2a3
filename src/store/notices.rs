//! The seam of the store for whoever sends notifications: what is scheduled, what can be read, what is over, and who has read it.

use crate::domain::notification::{CountedNotice, Reader};

use super::Answer;

/// Notifications as administrators see them.
pub trait Notices: Send + Sync {
    /// A part of all of them, the newest first.
    fn notices(&self, query: NoticeQuery) -> Answer<'_, NoticePage>;

    /// Who has read one and who has not, in the order in which people were first spoken of. Errors: `NotFound`.
    fn readers(&self, id: u64, query: ReaderQuery) -> Answer<'_, ReaderPage>;
}

/// Which states are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StateFilter {
    /// What waits for its time.
    Scheduled,
    /// What is in the inboxes.
    Live,
    /// What is over, in whatever way.
    Over,
}

/// Which part of the notifications is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeQuery {
    /// Lower numbers alone.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// In this state alone.
    pub state: Option<StateFilter>,
}

/// A part of the notifications.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoticePage {
    /// They.
    pub items: Vec<CountedNotice>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// Which part of the readers of a notification is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderQuery {
    /// Behind this person.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only who has read it, or only who has not.
    pub read: Option<bool>,
}

/// A part of the readers of a notification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReaderPage {
    /// The notification.
    pub notice: CountedNotice,
    /// Those whom it is for.
    pub readers: Vec<Reader>,
    /// What to go on behind, if there may be more; opaque.
    pub next: Option<u64>,
}
