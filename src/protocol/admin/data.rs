//! Bodies of the administrators' part of the HTTP API: the audit log, legal holds, exports, erasures, backups.

use serde::{Deserialize, Serialize};

use crate::domain::audit::{AuditRecord, Link, hex};
use crate::domain::privacy::{ErasureCounts, Hold, Subject};
use crate::domain::{Role, RoomId, Timestamp, UserId, normal_form};
use crate::protocol::view::NotificationView;

/// A record of the audit log.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditView {
    /// 1, 2, 3, ... without gaps.
    pub number: u64,
    /// When.
    pub at: Timestamp,
    /// The user.
    pub actor: String,
    /// From where.
    pub origin: String,
    /// What.
    pub action: String,
    /// To whom or to what.
    pub target: String,
    /// How it ended.
    pub outcome: String,
    /// BLAKE3 over the hash of the record before and this one, in hexadecimal digits.
    pub hash: String,
}

impl From<&AuditRecord> for AuditView {
    fn from(record: &AuditRecord) -> AuditView {
        let entry = record.entry.clone();
        AuditView {
            number: record.number,
            at: entry.at,
            actor: entry.actor,
            origin: entry.origin,
            action: entry.action,
            target: entry.target,
            outcome: entry.outcome,
            hash: hex(&record.hash),
        }
    }
}

/// A point of the chain.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LinkView {
    /// The record's number; 0 before the first.
    pub number: u64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
}

impl From<Link> for LinkView {
    fn from(link: Link) -> LinkView {
        LinkView { number: link.number, hash: hex(&link.hash) }
    }
}

/// `GET /api/v1/admin/audit`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AuditPage {
    /// Records, ascending.
    pub items: Vec<AuditView>,
    /// Whether there are more behind them.
    pub has_more: bool,
    /// What the kept audit log begins behind.
    pub anchor: LinkView,
    /// The last record.
    pub head: LinkView,
}

/// `GET /api/v1/admin/audit` with one of these: records that fit all that is given, the newest first.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuditSearch {
    /// Only records before this number.
    #[serde(default)]
    pub before: Option<u64>,
    /// Not older than this, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Older than this.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// This text is in who did it, or in from where, whatever its case.
    #[serde(default)]
    pub by: Option<String>,
    /// What was done: a word of the audit log (`user.block`), or what several begin with before a dot (`user`).
    #[serde(default)]
    pub action: Option<String>,
    /// This text is in to whom or to what it was done, whatever its case.
    #[serde(default)]
    pub target: Option<String>,
}

impl AuditSearch {
    /// Whether anything is asked for.
    #[must_use]
    pub fn is_any(&self) -> bool {
        let AuditSearch { before, since, until, by, action, target } = self;
        before.is_some() || since.or(*until).is_some() || by.as_ref().or(action.as_ref()).or(target.as_ref()).is_some()
    }

    /// Whether a record is asked for.
    #[must_use]
    pub fn fits(&self, record: &AuditRecord) -> bool {
        let entry = &record.entry;
        // Records of before format 8 have ids as they were written then.
        let searched = |text: &str| normal_form(text).to_lowercase();
        let has = |text: &str, part: &str| searched(text).contains(&searched(part));
        let is_of = |action: &str| {
            entry.action.strip_prefix(action).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.before.is_none_or(|before| record.number < before)
            && self.since.is_none_or(|since| entry.at >= since)
            && self.until.is_none_or(|until| entry.at < until)
            && self.by.as_deref().is_none_or(|by| has(&entry.actor, by) || has(&entry.origin, by))
            && self.action.as_deref().is_none_or(is_of)
            && self.target.as_deref().is_none_or(|target| has(&entry.target, target))
    }
}

/// What a search in the audit log has found.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AuditFound {
    /// Records, descending.
    pub items: Vec<AuditView>,
    /// Where the search goes on: `before` of the next request; null if it has come to the beginning. There may be one though
    /// nothing was found: a request looks through so many records.
    pub next: Option<u64>,
}

/// `POST /api/v1/admin/audit`: what was done outside of the server.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ReportRequest {
    /// What: `token.issue`, `keys` or `backup`.
    pub action: String,
    /// To whom or to what.
    #[serde(default)]
    pub target: String,
    /// How it ended: begins with `done` or `failed`.
    pub outcome: String,
}

/// `GET /api/v1/admin/rooms/{roomId}/export`.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TranscriptRequest {
    /// How it is written.
    #[serde(default)]
    pub format: TranscriptFormat,
    /// The language of the page's own words.
    #[serde(default)]
    pub lang: Language,
    /// Only what was said at this moment or later.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Only what was said before this moment.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// With what messages said before they were changed under a legal hold.
    #[serde(default)]
    pub versions: bool,
}

/// How a transcript is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TranscriptFormat {
    /// A JSON object a line.
    #[default]
    Jsonl,
    /// A page for people and printers that needs nothing else.
    Html,
}

/// A language of a page's own words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Language {
    /// English.
    #[default]
    En,
    /// French.
    Fr,
}

/// `POST /api/v1/admin/messages/{messageId}/delete`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MessageRemoved {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub message_id: u64,
    /// Who wrote it.
    pub sender_id: UserId,
    /// When it was deleted.
    pub deleted_at: Timestamp,
    /// Who deleted it; absent if they wrote it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_by: Option<UserId>,
    /// Whether a legal hold keeps what it said, for administrators.
    pub withheld: bool,
}

/// `POST /api/v1/admin/holds`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HoldRequest {
    /// The person, or
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// the room.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    /// Why.
    pub reason: String,
}

/// A legal hold.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HoldView {
    /// Its number, by which it is released where several stand on one subject.
    pub number: u64,
    /// The person, or
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// the room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<RoomId>,
    /// Why.
    pub reason: String,
    /// Who set it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

impl From<&Hold> for HoldView {
    fn from(hold: &Hold) -> HoldView {
        let (user_id, room_id) = match &hold.subject {
            Subject::User(user) => (Some(user.clone()), None),
            Subject::Room(room) => (None, Some(room.clone())),
        };
        let (number, reason, by, since) = (hold.number, hold.reason.clone(), hold.by.clone(), hold.at);
        HoldView { number, user_id, room_id, reason, by, since }
    }
}

/// `GET /api/v1/admin/holds`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Holds {
    /// All of them.
    pub items: Vec<HoldView>,
}

/// `POST /api/v1/admin/backup`: a stream was kept and read back.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct BackupKept {
    /// The file's size in bytes.
    pub bytes: u64,
    /// Where it was put, in the words of who made it.
    #[serde(default)]
    pub name: String,
}

/// What is known of the last good backup.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct LastBackup {
    /// When it was made.
    pub at: Timestamp,
    /// Its size in bytes.
    pub bytes: u64,
}

/// `GET /api/v1/admin/tables`: what the database file holds.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Tables {
    /// The size of the file in bytes.
    pub file_bytes: u64,
    /// How much of it is in use.
    pub used_bytes: u64,
    /// The format of the rows.
    pub format: u32,
    /// Each table.
    pub tables: Vec<TableView>,
}

/// A table, its size and its growth.
#[derive(Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TableView {
    /// Its name.
    pub table: String,
    /// Its rows.
    pub rows: u64,
    /// Keys and values, in bytes.
    pub bytes: u64,
    /// Headers, indexes and free space in its pages, in bytes.
    pub overhead_bytes: u64,
    /// Rows a day, over the days that were counted; `None` before the second day.
    pub rows_a_day: Option<f64>,
    /// Keys and values of them, in bytes.
    pub bytes_a_day: Option<f64>,
}

/// `DELETE /api/v1/admin/users/{id}?dryRun=true`: what an erasure would take.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ErasurePreview {
    /// Of whom.
    pub user_id: UserId,
    /// That nothing was erased.
    pub dry_run: bool,
    /// How many things.
    pub counts: ErasureCounts,
}

/// A notification, in an export.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ExportedNotification<'a> {
    /// It, as its reader sees it.
    #[serde(flatten)]
    pub view: NotificationView<'a>,
    /// Whether they have deleted it from their inbox.
    pub deleted: bool,
    /// When they have read it, if that is kept.
    #[serde(rename = "readAt", skip_serializing_if = "Option::is_none")]
    pub read_at: Option<Timestamp>,
    /// Of what is in no inbox: `scheduled`, `ended`, `recalled` or `missed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<&'static str>,
}

/// A person, in an export.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ProfileView<'a> {
    /// Their id.
    pub user_id: &'a UserId,
    /// The name as last given.
    pub name: &'a str,
    /// The roles as last given.
    pub roles: &'a [Role],
    /// When they came first.
    pub first_seen: Option<Timestamp>,
    /// When they were last here.
    pub last_seen: Option<Timestamp>,
}
