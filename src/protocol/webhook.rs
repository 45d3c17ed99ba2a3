//! What the platform is told and asked: bodies of webhooks, the question who may enter a room, and its answer. Headers and
//! signatures are those of the Standard Webhooks specification.

use serde::{Deserialize, Serialize};

use crate::domain::chat::{Membership, Message};
use crate::domain::progress::Progress;
use crate::domain::{Role, RoomId, Timestamp, UserId};
use crate::protocol::view::{MessageView, ProgressView};

/// The type of what tells of a gap.
pub const GAP: &str = "webhooks.gap";
/// The type of what is sent to try the receiver.
pub const TEST: &str = "test";

/// The body of a webhook.
#[derive(Debug, Serialize)]
pub struct HookBody<'a> {
    /// Which event.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// When it happened, in RFC 3339.
    pub timestamp: String,
    /// What happened.
    pub data: HookData<'a>,
}

/// What happened.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub enum HookData<'a> {
    /// A message.
    Message(MessageView<'a>),
    /// A lesson's progress.
    Progress(UserProgress<'a>),
    /// Notifications that were read.
    Read(NotificationsRead<'a>),
    /// Somebody came or went.
    Sighting(SightingView<'a>),
    /// A gap.
    Gap(GapView),
    /// A test.
    Test(TestView<'a>),
}

/// Whose progress, and what it is.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct UserProgress<'a> {
    /// Whose.
    pub user_id: &'a UserId,
    /// What it is.
    #[serde(flatten)]
    pub progress: ProgressView<'a>,
}

impl<'a> From<&'a Progress> for UserProgress<'a> {
    fn from(progress: &'a Progress) -> UserProgress<'a> {
        UserProgress { user_id: &progress.user, progress: progress.into() }
    }
}

impl<'a> From<&'a Message> for HookData<'a> {
    fn from(message: &'a Message) -> HookData<'a> {
        HookData::Message(message.into())
    }
}

/// Notifications that somebody has read.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct NotificationsRead<'a> {
    /// Who.
    pub user_id: &'a UserId,
    /// These; absent for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<&'a [u64]>,
    /// Of all: up to and with this one, if it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_to: Option<u64>,
    /// How many were unread then.
    pub unread: u64,
}

/// Somebody who came or went.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct SightingView<'a> {
    /// The room, if it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_id: Option<&'a RoomId>,
    /// Who.
    pub user_id: &'a UserId,
    /// Their name.
    pub user_name: &'a str,
    /// Whether they are here, if it is about no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub online: Option<bool>,
}

/// Changes that are not told one by one.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct GapView {
    /// The first change that is not told.
    pub from_id: u64,
    /// The last one.
    pub to_id: u64,
    /// How many there are.
    pub changes: u64,
}

/// What a test says.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct TestView<'a> {
    /// Which program.
    pub sender: &'a str,
    /// Its version.
    pub version: &'a str,
    /// The id of the store.
    pub store_id: &'a str,
}

/// Who wants to enter which room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EntryQuestion<'a> {
    /// Who.
    pub user: AskingUser<'a>,
    /// Their roles.
    pub roles: &'a [Role],
    /// The room.
    pub room: &'a RoomId,
}

/// Who asks.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct AskingUser<'a> {
    /// Their id.
    pub id: &'a UserId,
    /// Their name.
    pub name: &'a str,
}

/// What the platform says.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EntryAnswer {
    /// Whether they may enter.
    pub allow: bool,
    /// As what.
    #[serde(default)]
    pub role: Option<Membership>,
}

/// The id of a webhook: the same for each time that it is sent.
#[must_use]
pub fn hook_id(store_id: &str, epoch: u64, id: u64) -> String {
    format!("msg_{}_{epoch}_{id}", store_id.get(..8).unwrap_or(store_id))
}

/// The change that an id of a webhook names, or a number that stands for itself.
#[must_use]
pub fn change_of(text: &str) -> Option<u64> {
    let number = text.strip_prefix("msg_").map_or(Some(text), |rest| rest.rsplit('_').next())?;
    number.parse().ok()
}

/// A moment in RFC 3339, in UTC, with milliseconds.
#[must_use]
pub fn rfc3339(at: Timestamp) -> String {
    let millis = i64::try_from(at.0).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).map_or_else(|_| String::new(), |at| format!("{at:.3}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_its_change() {
        let id = hook_id("0123456789abcdef", 3, 42);
        assert_eq!(id, "msg_01234567_3_42");
        assert_eq!(
            (change_of(&id), change_of("42"), change_of("msg_x"), change_of("")),
            (Some(42), Some(42), None, None)
        );
        assert_eq!(rfc3339(Timestamp(1_700_000_000_123)), "2023-11-14T22:13:20.123Z");
    }
}
