//! Webhooks as administrators see them: how they stand, what was given up, what a test came to.

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;

/// `GET /api/v1/admin/webhooks`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HookListRequest {
    /// Dead letters behind this one.
    #[serde(default)]
    pub after: Option<u64>,
    /// At most so many.
    #[serde(default)]
    pub limit: Option<usize>,
}

/// `POST /api/v1/admin/webhooks/replay`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct HookReplayRequest {
    /// The id of one dead letter.
    #[serde(default)]
    pub id: Option<String>,
    /// All of them.
    #[serde(default)]
    pub all: bool,
}

/// How webhooks stand.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HooksView {
    /// Where to; null: nowhere.
    pub url: Option<String>,
    /// What is told.
    pub events: Vec<&'static str>,
    /// How many wait.
    pub waiting: u64,
    /// How many have room.
    pub outbox: u64,
    /// How old the oldest of them is, in seconds.
    pub lag_seconds: u64,
    /// How many were taken since the start.
    pub sent: u64,
    /// How many attempts failed since the start.
    pub failed: u64,
    /// How many gaps were told since the start.
    pub gaps: u64,
    /// How many dead letters there are.
    pub dead: u64,
    /// When one was last taken, since the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    /// Whether the receiver wants no more (410).
    pub is_gone: bool,
    /// What is wrong, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How often the platform was asked who may enter a room, since the start.
    pub asked: u64,
    /// How often it did not decide.
    pub undecided: u64,
}

/// A dead letter.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterView {
    /// The id that the receiver sees.
    pub id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When it happened.
    pub at: Timestamp,
    /// When it was given up.
    pub given_up_at: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// What the last attempt came to.
    pub why: String,
}

/// How webhooks stand, with a part of the dead letters.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HookList {
    /// How they stand.
    pub webhooks: HooksView,
    /// Dead letters, the oldest first.
    pub items: Vec<DeadLetterView>,
    /// Where to go on, or null.
    pub next: Option<u64>,
}

/// What a test came to.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct HookTested {
    /// Its id.
    pub id: String,
    /// Whether it was taken.
    pub is_taken: bool,
    /// The status of the answer, or null.
    pub status: Option<u16>,
    /// How long it took, in milliseconds.
    pub millis: u64,
    /// What it came to, in words.
    pub words: String,
    /// How the answer began.
    pub answer: String,
}

/// What is told again.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct HooksReplayed {
    /// How many.
    pub replayed: u64,
}
