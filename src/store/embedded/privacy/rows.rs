//! What the values of the administrators' tables hold.

use crate::domain::privacy::{VersionEnd, WithheldVersion};
use crate::store::embedded::chat::rows::Place;
use serde::{Deserialize, Serialize};

use crate::domain::access::{Ban, Banned};
use crate::domain::audit::{AuditEntry, AuditRecord, Hash};
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, Subject};
use crate::domain::{Timestamp, UserId};
use crate::store::embedded::engine::codec::{IdRow, decode_2};
use crate::store::embedded::engine::failure::{Failure, Outcome};

/// A record of the audit trail; its number is its key.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct AuditRow<'a> {
    pub(in crate::store::embedded) at: u64,
    actor: &'a str,
    origin: &'a str,
    action: &'a str,
    target: &'a str,
    outcome: &'a str,
    pub(in crate::store::embedded) hash: Hash,
}

impl<'a> AuditRow<'a> {
    pub(in crate::store::embedded) fn of(record: &'a AuditRecord) -> AuditRow<'a> {
        AuditRow {
            at: record.entry.at.0,
            actor: &record.entry.actor,
            origin: &record.entry.origin,
            action: &record.entry.action,
            target: &record.entry.target,
            outcome: &record.entry.outcome,
            hash: record.hash,
        }
    }

    pub(in crate::store::embedded) fn record(&self, number: u64) -> AuditRecord {
        let entry = AuditEntry {
            at: Timestamp(self.at),
            actor: self.actor.to_owned(),
            origin: self.origin.to_owned(),
            action: self.action.to_owned(),
            target: self.target.to_owned(),
            outcome: self.outcome.to_owned(),
        };
        AuditRecord { number, entry, hash: self.hash }
    }
}

/// The key of a hold: its subject's kind and canonical id.
pub(in crate::store::embedded) fn hold_key(subject: &Subject) -> String {
    match subject {
        Subject::User(user) => format!("u:{user}"),
        Subject::Room(room) => format!("r:{room}"),
    }
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

    pub(in crate::store::embedded) fn hold(&self, key: &str) -> Outcome<Hold> {
        let subject =
            if key.starts_with("u:") { Subject::User(self.id.user()?) } else { Subject::Room(self.id.room()?) };
        Ok(Hold { subject, reason: self.reason.to_owned(), by: self.by.to_owned(), at: Timestamp(self.at) })
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
            user: self.user.user()?,
            at: Timestamp(self.at),
            by: self.by.to_owned(),
            consent: self.consent,
            finished_at: self.finished_at.map(Timestamp),
            counts: self.counts,
        })
    }
}

/// The key of a ban: its kind and its subject.
pub(in crate::store::embedded) fn ban_key(ban: &Ban) -> String {
    match ban {
        Ban::Token(id) => format!("t:{id}"),
        Ban::TokensOf(user) => format!("u:{user}"),
        Ban::AllTokens => "a:".to_owned(),
        Ban::User(user) => format!("b:{user}"),
    }
}

/// A ban; of what is in its key.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct BanRow<'a> {
    /// The user with its JSON type, if it is of one.
    #[serde(borrow)]
    user: Option<IdRow<'a>>,
    pub(in crate::store::embedded) before: u64,
    pub(in crate::store::embedded) until: Option<u64>,
    by: &'a str,
    at: u64,
}

impl<'a> BanRow<'a> {
    pub(in crate::store::embedded) fn of(banned: &'a Banned) -> BanRow<'a> {
        let user = match &banned.ban {
            Ban::TokensOf(user) | Ban::User(user) => Some(user.id().into()),
            Ban::Token(_) | Ban::AllTokens => None,
        };
        let Banned { before, until, by, at, .. } = banned;
        BanRow { user, before: before.0, until: until.map(|until| until.0), by, at: at.0 }
    }

    pub(in crate::store::embedded) fn banned(&self, key: &[u8]) -> Outcome<Banned> {
        let unreadable = || Failure::Damaged("a ban has a key that cannot be read".to_owned());
        let key = std::str::from_utf8(key).map_err(|_| unreadable())?;
        let user = || -> Outcome<UserId> { self.user.ok_or_else(unreadable)?.user() };
        let ban = match key.split_once(':') {
            Some(("t", id)) => Ban::Token(id.to_owned()),
            Some(("u", _)) => Ban::TokensOf(user()?),
            Some(("a", "")) => Ban::AllTokens,
            Some(("b", _)) => Ban::User(user()?),
            _ => return Err(unreadable()),
        };
        Ok(Banned {
            ban,
            before: Timestamp(self.before),
            until: self.until.map(Timestamp),
            by: self.by.to_owned(),
            at: Timestamp(self.at),
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
        VersionRow {
            content: &version.content,
            until: version.until.0,
            by: version.by.id().into(),
            is_deletion: version.change == VersionEnd::Deleted,
            room: place.room,
            sender: place.sender,
        }
    }

    pub(in crate::store::embedded) fn version(&self) -> Outcome<WithheldVersion> {
        Ok(WithheldVersion {
            content: self.content.to_owned(),
            until: Timestamp(self.until),
            by: self.by.user()?,
            change: if self.is_deletion { VersionEnd::Deleted } else { VersionEnd::Edited },
        })
    }
}
