//! The seam of the store for whoever keeps order in rooms: reports, who is to be told of them, and which rooms are locked.

use crate::domain::chat::{Author, RoomPolicy};
use crate::domain::report::Report;
use crate::domain::{RoomId, UserId};

use super::Answer;

/// Which reports are asked for, the newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportQuery {
    /// Only of this room; of all rooms without it.
    pub room: Option<RoomId>,
    /// Only older than this one.
    pub before: Option<u64>,
    /// At most so many.
    pub limit: usize,
    /// Also those that are resolved.
    pub resolved_too: bool,
}

/// A part of a list of reports.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReportPage {
    /// Reports, the newest first.
    pub items: Vec<Report>,
    /// Where to go on with `before`; `None` at the end. There may be one though nothing was found: a read looks at so many.
    pub next: Option<u64>,
}

/// What is asked for to keep order.
pub trait Order: Send + Sync {
    /// A part of the reports that somebody may see: an administrator all, a moderator those of their room, but for those on what
    /// they have written themselves.
    ///
    /// # Errors
    /// `Forbidden` for who keeps no order there; `NotFound` without such a room.
    fn reports(&self, viewer: Author, query: ReportQuery, policy: RoomPolicy) -> Answer<'_, ReportPage>;

    /// Who keeps order in a room, as far as they are told of reports, for somebody who does. Of a room that is not there, nobody.
    ///
    /// # Errors
    /// `Forbidden` for who keeps no order there.
    fn moderators(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, Vec<UserId>>;

    /// The same, for somebody who is about to report a message; `None` if they have reported it before. All members are looked at only
    /// where there is a report to come of it.
    ///
    /// # Errors
    /// As of [`super::operations::ReportMessage`].
    fn hear_of_report(
        &self,
        room: RoomId,
        message: u64,
        by: Author,
        policy: RoomPolicy,
    ) -> Answer<'_, Option<Vec<UserId>>>;

    /// In which room a message was reported; `None` without such a report.
    fn room_of_report(&self, report: u64) -> Answer<'_, Option<RoomId>>;

    /// The rooms that are locked.
    fn locked_rooms(&self) -> Answer<'_, Vec<RoomId>>;

    /// Whether somebody may write in a room now, as far as it is not slow mode or a mute that keeps them from it.
    ///
    /// # Errors
    /// `Forbidden`, `Locked`.
    fn may_write(&self, room: RoomId, author: Author, policy: RoomPolicy) -> Answer<'_, ()>;
}
