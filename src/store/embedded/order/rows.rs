//! Rows of reports.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::domain::report::{Report, Resolution};
use crate::domain::{RoomId, Timestamp};
use crate::store::embedded::chat::read::changer;
use crate::store::embedded::engine::codec::kind_of;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{K8, Row};

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
