//! Rows of legal holds, of what is withheld under them, and of erasures.

use std::ops::RangeInclusive;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, Subject, VersionEnd, WithheldVersion};
use crate::store::embedded::chat::rows::Place;
use crate::store::embedded::engine::codec::{IdRow, decode, decode_2};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Row, Text};

/// Stands behind the subject in the key of a hold: no id has this character. Before format 6 nothing stood there.
const BEHIND_SUBJECT: u8 = 0;

/// The key of a hold: its subject's kind and canonical id, and its number.
pub(in crate::store::embedded) fn hold_key(subject: &Subject, number: u64) -> Vec<u8> {
    let mut key = begin_of_keys(subject);
    key.extend(number.to_be_bytes());
    key
}

/// Between which keys the holds of a subject stand.
pub(in crate::store::embedded) fn hold_keys(subject: &Subject) -> RangeInclusive<Vec<u8>> {
    hold_key(subject, 0)..=hold_key(subject, u64::MAX)
}

fn begin_of_keys(subject: &Subject) -> Vec<u8> {
    let mut key = match subject {
        Subject::User(user) => format!("u:{user}"),
        Subject::Room(room) => format!("r:{room}"),
    }
    .into_bytes();
    key.push(BEHIND_SUBJECT);
    key
}

/// Whether a key is one of before format 6: the subject alone.
pub(in crate::store::embedded) fn is_hold_key_5(key: &[u8]) -> bool {
    !key.contains(&BEHIND_SUBJECT)
}

/// All holds, by subject and number. Those of before format 6 are numbered as they come.
pub(in crate::store::embedded) fn read_holds(table: &impl ReadableTable<Text, Row>) -> Outcome<Vec<Hold>> {
    let mut holds = Vec::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let older = holds.len() as u64 + 1;
        holds.push(decode::<HoldRow<'_>>(value.value())?.hold(key.value(), older)?);
    }
    Ok(holds)
}

/// The holds on a subject, by number.
pub(in crate::store::embedded) fn holds_on(
    table: &impl ReadableTable<Text, Row>,
    subject: &Subject,
) -> Outcome<Vec<Hold>> {
    let keys = hold_keys(subject);
    let mut holds = Vec::new();
    for row in table.range::<&[u8]>(keys.start().as_slice()..=keys.end().as_slice())? {
        let (key, value) = row?;
        holds.push(decode::<HoldRow<'_>>(value.value())?.hold(key.value(), 0)?);
    }
    Ok(holds)
}

/// A legal hold.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct HoldRow<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    reason: &'a str,
    by: &'a str,
    at: u64,
}

impl<'a> HoldRow<'a> {
    pub(in crate::store::embedded) fn of(hold: &'a Hold) -> HoldRow<'a> {
        let id = match &hold.subject {
            Subject::User(user) => user.id().into(),
            Subject::Room(room) => room.id().into(),
        };
        HoldRow { id, reason: &hold.reason, by: &hold.by, at: hold.at.0 }
    }

    /// `older` is the number of one whose key is of before format 6.
    pub(in crate::store::embedded) fn hold(&self, key: &[u8], older: u64) -> Outcome<Hold> {
        let subject =
            if key.starts_with(b"u:") { Subject::User(self.id.user()) } else { Subject::Room(self.id.room()) };
        let number = match key.split_last_chunk() {
            Some((_, number)) if !is_hold_key_5(key) => u64::from_be_bytes(*number),
            _ => older,
        };
        Ok(Hold { number, subject, reason: self.reason.to_owned(), by: self.by.to_owned(), at: Timestamp(self.at) })
    }
}

/// Somebody's erasure as formats 2 and 3 have it.
#[derive(Deserialize)]
struct ErasureRow1<'a> {
    #[serde(borrow)]
    user: IdRow<'a>,
    at: u64,
    counts: ErasureCounts,
    is_finished: bool,
}

/// Somebody's erasure.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct ErasureRow<'a> {
    #[serde(borrow)]
    user: IdRow<'a>,
    at: u64,
    counts: ErasureCounts,
    by: &'a str,
    consent: bool,
    finished_at: Option<u64>,
}

impl<'a> ErasureRow<'a> {
    pub(in crate::store::embedded) fn of(erasure: &'a Erasure) -> ErasureRow<'a> {
        let Erasure { user, at, by, consent, finished_at, counts } = erasure;
        let finished_at = finished_at.map(|at| at.0);
        ErasureRow { user: user.id().into(), at: at.0, counts: *counts, by, consent: *consent, finished_at }
    }

    pub(in crate::store::embedded) fn decode(bytes: &'a [u8]) -> Outcome<ErasureRow<'a>> {
        decode_2(bytes, |old: ErasureRow1<'a>| {
            let ErasureRow1 { user, at, counts, is_finished } = old;
            // An older version did not keep when it was finished, and by whom.
            Ok(ErasureRow { user, at, counts, by: "", consent: false, finished_at: is_finished.then_some(at) })
        })
    }

    pub(in crate::store::embedded) fn erasure(&self) -> Outcome<Erasure> {
        Ok(Erasure {
            user: self.user.user(),
            at: Timestamp(self.at),
            by: self.by.to_owned(),
            consent: self.consent,
            finished_at: self.finished_at.map(Timestamp),
            counts: self.counts,
        })
    }
}

/// What a message said before a change under a hold; its key has the message and the change.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct VersionRow<'a> {
    content: &'a str,
    until: u64,
    #[serde(borrow)]
    by: IdRow<'a>,
    is_deletion: bool,
    /// Where its message is, so that the holds can be asked without it.
    pub(in crate::store::embedded) room: u64,
    pub(in crate::store::embedded) sender: u64,
}

impl<'a> VersionRow<'a> {
    pub(in crate::store::embedded) fn of(version: &'a WithheldVersion, place: Place) -> VersionRow<'a> {
        VersionRow::at(version, place.room, place.sender)
    }

    /// As [`VersionRow::of`], of a message in that room by that sender.
    pub(in crate::store::embedded) fn at(version: &'a WithheldVersion, room: u64, sender: u64) -> VersionRow<'a> {
        VersionRow {
            content: &version.content,
            until: version.until.0,
            by: version.by.id().into(),
            is_deletion: version.change == VersionEnd::Deleted,
            room,
            sender,
        }
    }

    pub(in crate::store::embedded) fn version(&self) -> Outcome<WithheldVersion> {
        Ok(WithheldVersion {
            content: self.content.to_owned(),
            until: Timestamp(self.until),
            by: self.by.user(),
            change: if self.is_deletion { VersionEnd::Deleted } else { VersionEnd::Edited },
        })
    }
}
