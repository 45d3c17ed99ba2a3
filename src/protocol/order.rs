//! How order is kept in rooms, on the wire: what moderators ask, what is reported, and the answers.

use serde::{Deserialize, Serialize};

use crate::domain::chat::MessageKind;
use crate::domain::report::Report;
use crate::domain::room_state::RoomState;
use crate::domain::{RoomId, Timestamp, UserId};

/// `chat:mute`: for so long, or until a moment.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatMute {
    /// The room.
    pub room_id: RoomId,
    /// Who is muted.
    pub user_id: UserId,
    /// For so many seconds from now on, or
    #[serde(default)]
    pub seconds: Option<u64>,
    /// until then.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Why; it is in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `chat:unmute`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatUnmute {
    /// The room.
    pub room_id: RoomId,
    /// Who is muted.
    pub user_id: UserId,
    /// Why; it is in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `chat:lock`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatLock {
    /// The room.
    pub room_id: RoomId,
    /// Whether it is locked from now on.
    pub locked: bool,
    /// Why; it is in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `chat:slow`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatSlow {
    /// The room.
    pub room_id: RoomId,
    /// One message a person in so many seconds; 0 ends it.
    pub seconds: u32,
    /// Why; it is in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `chat:report`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatReport {
    /// The room.
    pub room_id: RoomId,
    /// The message.
    pub message_id: u64,
    /// Why.
    pub reason: String,
}

/// `chat:reports`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatReports {
    /// The room.
    pub room_id: RoomId,
    /// Only older than this one.
    #[serde(default)]
    pub before: Option<u64>,
    /// At most so many; 50 without it, at most 200.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Also those that are resolved.
    #[serde(default)]
    pub all: bool,
}

/// `GET /api/v1/admin/reports`.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct AllReports {
    /// Only of this room.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    /// Only older than this one.
    #[serde(default)]
    pub before: Option<u64>,
    /// At most so many; 50 without it, at most 200.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Also those that are resolved.
    #[serde(default)]
    pub all: bool,
}

/// `chat:resolve`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ChatResolve {
    /// The room.
    pub room_id: RoomId,
    /// The report.
    pub report_id: u64,
    /// What has come of it.
    #[serde(default)]
    pub note: String,
}

/// `POST /api/v1/admin/reports/{reportId}/resolve`.
#[derive(Debug, Clone, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResolveRequest {
    /// The report.
    pub report_id: u64,
    /// What has come of it.
    #[serde(default)]
    pub note: String,
}

/// `chat:lock`, `chat:slow`: the state of the room as it is now.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomStateAnswer {
    /// The room.
    pub room_id: RoomId,
    /// It.
    #[serde(flatten)]
    pub state: RoomStateView,
}

/// The state of a room, in answers and events.
#[derive(Debug, Clone, Copy, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomStateView {
    /// Whether only moderators and administrators write.
    pub locked: bool,
    /// Others write once in so many seconds; 0: as often as they like.
    pub slow_mode_seconds: u32,
}

impl From<RoomState> for RoomStateView {
    fn from(state: RoomState) -> RoomStateView {
        RoomStateView { locked: state.locked, slow_mode_seconds: state.slow_seconds }
    }
}

/// `chat:report`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ReportMade {
    /// Its number.
    pub report_id: u64,
    /// When it was made.
    pub reported_at: Timestamp,
    /// Whether it had been made before; nothing was stored now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub duplicate: bool,
}

/// A report as moderators and administrators see it.
#[derive(Debug, Clone, Copy)]
pub struct ReportView<'r>(pub &'r Report);

/// What of a report is on the wire.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Report"))]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReportFields<'r> {
    /// Its number.
    report_id: u64,
    /// The room.
    room_id: &'r RoomId,
    /// The message.
    message_id: u64,
    /// Who wrote it.
    sender_id: &'r UserId,
    /// What it said when it was reported.
    content: &'r str,
    /// What the content is.
    #[serde(rename = "type")]
    kind: MessageKind,
    /// When it was sent.
    timestamp: Timestamp,
    /// Who has reported it.
    reported_by: &'r UserId,
    /// When.
    reported_at: Timestamp,
    /// Why.
    reason: &'r str,
    /// When it was resolved, or null.
    resolved_at: Option<Timestamp>,
    /// Who has resolved it, or null.
    resolved_by: Option<&'r UserId>,
    /// What has come of it, or null.
    note: Option<&'r str>,
}

impl Serialize for ReportView<'_> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Report { id, room, message_id, sender, content, kind, sent_at, by, reason, at, resolution, .. } = self.0;
        let resolution = resolution.as_ref();
        let body = ReportFields {
            report_id: *id,
            room_id: room,
            message_id: *message_id,
            sender_id: sender,
            content,
            kind: *kind,
            timestamp: *sent_at,
            reported_by: by,
            reported_at: *at,
            reason,
            resolved_at: resolution.map(|resolution| resolution.at),
            resolved_by: resolution.map(|resolution| &resolution.by),
            note: resolution.map(|resolution| resolution.note.as_str()),
        };
        body.serialize(serializer)
    }
}

/// `chat:reports`, `GET /api/v1/admin/reports`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ReportList {
    /// Reports, the newest first.
    #[serde(serialize_with = "views")]
    #[cfg_attr(test, schemars(with = "Vec<ReportFields<'static>>"))]
    pub items: Vec<Report>,
    /// Where to go on with `before`; null at the end. There may be one though nothing was found: a request looks at so many.
    pub next: Option<u64>,
}

fn views<S: serde::Serializer>(list: &[Report], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(ReportView))
}

/// `chat:resolve`: the report as it is now.
#[derive(Debug)]
pub struct ReportResolved {
    /// It.
    pub report: Report,
    /// Whether it had been resolved before; nothing was stored now.
    pub duplicate: bool,
}

/// What of a resolved report is on the wire.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "ReportResolved"))]
pub(crate) struct ResolvedFields<'r> {
    #[serde(flatten)]
    #[cfg_attr(test, schemars(with = "ReportFields<'static>"))]
    report: ReportView<'r>,
    /// Whether it had been resolved before; nothing was stored now.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    duplicate: bool,
}

impl Serialize for ReportResolved {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        ResolvedFields { report: ReportView(&self.report), duplicate: self.duplicate }.serialize(serializer)
    }
}

/// What of somebody's messages was reported, as their export has it: not who has reported it, and not why.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvidenceView<'r> {
    room_id: &'r RoomId,
    message_id: u64,
    content: &'r str,
    #[serde(rename = "type")]
    kind: MessageKind,
    timestamp: Timestamp,
    reported_at: Timestamp,
}

impl<'r> From<&'r Report> for EvidenceView<'r> {
    fn from(report: &'r Report) -> EvidenceView<'r> {
        EvidenceView {
            room_id: &report.room,
            message_id: report.message_id,
            content: &report.content,
            kind: report.kind,
            timestamp: report.sent_at,
            reported_at: report.at,
        }
    }
}

/// A report as the export of who has made it has it: what others have written is theirs.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct OwnReportView<'r> {
    report_id: u64,
    room_id: &'r RoomId,
    message_id: u64,
    reason: &'r str,
    reported_at: Timestamp,
    resolved_at: Option<Timestamp>,
}

impl<'r> From<&'r Report> for OwnReportView<'r> {
    fn from(report: &'r Report) -> OwnReportView<'r> {
        OwnReportView {
            report_id: report.id,
            room_id: &report.room,
            message_id: report.message_id,
            reason: &report.reason,
            reported_at: report.at,
            resolved_at: report.resolution.as_ref().map(|resolution| resolution.at),
        }
    }
}
