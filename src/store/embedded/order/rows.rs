//! Rows of reports, and the keys that lead to them. One table has them all; the first number of a key says what it is:
//!
//! | key | leads to |
//! |---|---|
//! | (0, 0, report) | everything about it; all others have the number of a report |
//! | (1, room, report) | the reports of a room |
//! | (2, message, report) | those on a message |
//! | (3, who reported, message) | one of each person and message |
//! | (4, who was told, change) | what somebody is told of, and under [`NOBODY`](crate::store::embedded::engine::schema::NOBODY) administrators: the latest change of each report alone |

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::domain::report::{Report, Resolution};
use crate::domain::{RoomId, Timestamp};
use crate::store::embedded::chat::read::changer;
use crate::store::embedded::engine::codec::{decode, kind_of};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{K8, K24, Row, k24, triple};

/// What leads to reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store::embedded) enum Way {
    /// A room; the report.
    Room = 1,
    /// A message; the report.
    Message = 2,
    /// Who has reported; the message.
    Reporter = 3,
    /// Who was told; the change.
    Told = 4,
}

impl Way {
    /// All of them.
    pub(in crate::store::embedded) const ALL: [Way; 4] = [Way::Room, Way::Message, Way::Reporter, Way::Told];

    /// A key of it.
    pub(in crate::store::embedded) fn key(self, from: u64, to: u64) -> [u8; 24] {
        k24(self as u64, from, to)
    }

    /// The reports that it leads to from somewhere, each with its key.
    pub(in crate::store::embedded) fn reports<'t>(
        self,
        table: &'t impl ReadableTable<K24, Row>,
        from: u64,
    ) -> Outcome<impl DoubleEndedIterator<Item = Outcome<([u8; 24], u64)>> + 't> {
        let rows = table.range::<&[u8; 24]>(&self.key(from, 0)..=&self.key(from, u64::MAX))?;
        Ok(rows.map(|row| {
            let (key, value) = row?;
            Ok((*key.value(), decode(value.value())?))
        }))
    }
}

/// The key of a report itself.
pub(in crate::store::embedded) fn report_key(id: u64) -> [u8; 24] {
    k24(0, 0, id)
}

/// The last number of a key.
pub(in crate::store::embedded) fn end_of(key: &[u8; 24]) -> u64 {
    triple(key).2
}

/// Looks at a report that something leads to.
pub(in crate::store::embedded) fn with_report<T>(
    table: &impl ReadableTable<K24, Row>,
    id: u64,
    read: impl FnOnce(ReportRow<'_>) -> Outcome<T>,
) -> Outcome<T> {
    let lost = || Failure::Damaged(format!("report {id} is led to, but not there"));
    let row = table.get(&report_key(id))?.ok_or_else(lost)?;
    read(decode(row.value())?)
}

/// A report; its key has its number. People are numbers here: of whoever is erased, nothing is left to be found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct ReportRow<'a> {
    pub(in crate::store::embedded) room: u64,
    pub(in crate::store::embedded) message: u64,
    /// Who wrote the message.
    pub(in crate::store::embedded) sender: u64,
    /// Who has reported it.
    pub(in crate::store::embedded) by: u64,
    pub(in crate::store::embedded) at: u64,
    pub(in crate::store::embedded) sent_at: u64,
    pub(in crate::store::embedded) kind: u8,
    pub(in crate::store::embedded) content: &'a str,
    pub(in crate::store::embedded) reason: &'a str,
    /// The change that tells of it as it is now.
    pub(in crate::store::embedded) change: u64,
    /// Who was told of that change, beside administrators.
    pub(in crate::store::embedded) told: Vec<u64>,
    #[serde(borrow)]
    pub(in crate::store::embedded) resolution: Option<ResolutionRow<'a>>,
}

/// What has come of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct ResolutionRow<'a> {
    pub(in crate::store::embedded) at: u64,
    pub(in crate::store::embedded) by: u64,
    pub(in crate::store::embedded) note: &'a str,
}

impl ReportRow<'_> {
    /// The report, in that room.
    pub(in crate::store::embedded) fn report(
        &self,
        id: u64,
        room: RoomId,
        users: &impl ReadableTable<K8, Row>,
    ) -> Outcome<Report> {
        let resolution = match self.resolution {
            Some(ResolutionRow { at, by, note }) => {
                Some(Resolution { at: Timestamp(at), by: changer(users, by)?, note: note.to_owned() })
            }
            None => None,
        };
        Ok(Report {
            id,
            change: self.change,
            room,
            message_id: self.message,
            sender: changer(users, self.sender)?,
            content: self.content.to_owned(),
            kind: kind_of(self.kind)?,
            sent_at: Timestamp(self.sent_at),
            by: changer(users, self.by)?,
            reason: self.reason.to_owned(),
            at: Timestamp(self.at),
            resolution,
        })
    }
}
