//! Bodies of the administrators' part of the HTTP API that say who may be where: rooms and their members, people, blocks,
//! revocations, connections.

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{MemberEntry, Membership, RoomEntry};
use crate::domain::{Role, RoomId, Timestamp, UserId};
use crate::protocol::admin::data::AuditView;
use crate::protocol::order::RoomStateView;

/// The longest name of a room, in characters.
pub const MAX_ROOM_NAME_CHARS: usize = 200;
/// The most people that one request admits.
pub const MAX_ADMITTED: usize = 1_000;
/// The most items of one page of a list.
pub const MAX_LISTED: usize = 1_000;

/// `POST /api/v1/admin/rooms`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoomRequest {
    /// The id.
    pub room_id: RoomId,
    /// The name for people.
    #[serde(default)]
    pub name: Option<String>,
    /// Whether it admits its members alone.
    #[serde(default)]
    pub private: bool,
    /// Who is admitted.
    #[serde(default)]
    pub members: Vec<UserId>,
    /// Who is admitted, and may edit and delete what others wrote.
    #[serde(default)]
    pub moderators: Vec<UserId>,
}

/// `PATCH /api/v1/admin/rooms/{id}`; what is absent stays.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RoomPatchRequest {
    /// The name; null takes it away.
    #[serde(default, deserialize_with = "given")]
    pub name: Option<Option<String>>,
    /// Whether it admits its members alone.
    #[serde(default)]
    pub private: Option<bool>,
    /// Whoever takes part in it becomes a member.
    #[serde(default)]
    pub admit_guests: bool,
}

/// Tells null from absent.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// `PUT /api/v1/admin/rooms/{id}/members/{userId}`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MemberRequest {
    /// What they are in it.
    #[serde(default)]
    pub role: MemberRole,
}

/// What an administrator makes somebody in a room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MemberRole {
    /// Admitted.
    #[default]
    Member,
    /// Admitted, and may edit and delete what others wrote.
    Moderator,
}

impl From<MemberRole> for Membership {
    fn from(role: MemberRole) -> Membership {
        match role {
            MemberRole::Member => Membership::Member,
            MemberRole::Moderator => Membership::Moderator,
        }
    }
}

/// A room, as administrators see it.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomDetails {
    /// The room.
    pub room_id: RoomId,
    /// Its name for people, or null.
    pub name: Option<String>,
    /// Whether it admits its members alone.
    pub private: bool,
    /// How many take part in it.
    pub members: u64,
    /// How many are in it now.
    pub present: usize,
    /// Its latest message; 0 if there is none.
    pub last_id: u64,
    /// How many messages it has had.
    pub last_seq: u64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Who may write in it, and how often.
    #[serde(flatten)]
    pub state: RoomStateView,
}

impl RoomDetails {
    /// A room with how many are in it now.
    #[must_use]
    pub fn new(entry: RoomEntry, present: usize) -> RoomDetails {
        let RoomEntry { record, members } = entry;
        RoomDetails {
            room_id: record.id,
            name: record.name,
            private: record.private,
            members,
            present,
            last_id: record.last_id,
            last_seq: record.last_seq,
            created_at: record.created_at,
            state: record.state.into(),
        }
    }
}

/// Somebody who takes part in a room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MemberDetails {
    /// The user.
    pub user_id: UserId,
    /// Their name.
    pub name: String,
    /// `guest`, `member` or `moderator`.
    pub role: Membership,
    /// The read mark; 0 if there is none.
    pub read_up_to: u64,
    /// Whether they are here now.
    pub online: bool,
}

impl MemberDetails {
    /// A member, and whether they are here now.
    #[must_use]
    pub fn new(entry: MemberEntry, online: bool) -> MemberDetails {
        let MemberEntry { user, name, membership, read_up_to } = entry;
        MemberDetails { user_id: user, name, role: membership, read_up_to, online }
    }
}

/// Which part of a list is asked for, in the order of ids.
#[derive(Debug, Clone, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ListRequest {
    /// Behind this id.
    #[serde(default)]
    pub after: Option<String>,
    /// At most so many; as many as there may be without it.
    #[serde(default = "most_listed")]
    pub limit: usize,
    /// Only those whose id or name has this text, whatever its case.
    #[serde(default)]
    pub text: Option<String>,
    /// Only those who are here, of users.
    #[serde(default)]
    pub online: bool,
}

/// Which part of a list is asked for that is in the order of numbers.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NumberedRequest {
    /// Behind this number.
    #[serde(default)]
    pub after: u64,
    /// At most so many; as many as there may be without it.
    #[serde(default = "most_listed")]
    pub limit: usize,
}

fn most_listed() -> usize {
    MAX_LISTED
}

/// A part of a list.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Listed<T> {
    /// The items.
    pub items: Vec<T>,
    /// What to give as `after` for the next part, or null.
    pub next: Option<String>,
}

/// A room with a part of its members.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RoomWithMembers {
    /// The room.
    #[serde(flatten)]
    pub room: RoomDetails,
    /// Those who take part in it.
    pub items: Vec<MemberDetails>,
    /// What to give as `after` for the next part, or null.
    pub next: Option<String>,
}

/// What was done to somebody's place in a room.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MemberChanged {
    /// The room.
    pub room_id: RoomId,
    /// The user.
    pub user_id: UserId,
    /// What they are in it now, or null.
    pub role: Option<Membership>,
    /// What they were before, or null.
    pub before: Option<Membership>,
}

/// A person, as administrators see them.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct UserDetails {
    /// The user.
    pub user_id: UserId,
    /// The name as last given.
    pub name: String,
    /// The roles as last given.
    pub roles: Vec<Role>,
    /// When they came first, or null.
    pub first_seen: Option<Timestamp>,
    /// When they were last here, or null.
    pub last_seen: Option<Timestamp>,
    /// How many sockets they have now.
    pub sockets: usize,
    /// Whether they are blocked.
    pub blocked: bool,
    /// Their tokens issued before this are refused; or null.
    pub tokens_revoked_before: Option<Timestamp>,
}

/// `GET .../users/{id}/diagnosis`: what the server knows of why somebody is or is not served.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Diagnosis {
    /// The user.
    pub user_id: UserId,
    /// What is stored of them; null if nothing is.
    pub user: Option<UserDetails>,
    /// What shuts them out, or some of their tokens.
    pub bans: Vec<BanView>,
    /// The record of their last block in the audit log, which has its reason; null if they are not blocked.
    pub blocked_by: Option<AuditView>,
    /// Where they may read and not write, until when, and by whom.
    pub mutes: Vec<MuteView>,
    /// Their sockets, at most [`MAX_DIAGNOSED`].
    pub connections: Vec<DiagnosedConnection>,
    /// Why they were refused since the server has started, the newest first; the last few alone.
    pub refusals: Vec<RefusalView>,
}

/// The most sockets of one user, and rooms of one socket, that are shown.
pub const MAX_DIAGNOSED: usize = 100;

/// A live socket with what it is in.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct DiagnosedConnection {
    /// The socket.
    #[serde(flatten)]
    pub connection: ConnectionView,
    /// When its token was issued, or null.
    pub issued_at: Option<Timestamp>,
    /// How many rooms it has joined.
    pub room_count: usize,
    /// Which, at most [`MAX_DIAGNOSED`].
    pub rooms: Vec<RoomId>,
}

/// A refusal.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RefusalView {
    /// When it came last.
    pub at: Timestamp,
    /// What was refused: an event, a method and path, `sign-in`, or `connection` if one was closed.
    pub request: String,
    /// The code of the error, or why the connection was closed.
    pub code: &'static str,
    /// In words.
    pub message: String,
    /// From where it came.
    pub origin: String,
    /// How often it came, one behind the other.
    pub times: u64,
}

/// `POST .../users/{id}/block` and `/unblock`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BlockChanged {
    /// The user.
    pub user_id: UserId,
    /// Whether they are blocked now.
    pub blocked: bool,
    /// How many sockets were closed.
    pub disconnected: usize,
    /// Whether it is stored; false only where the disk is too full for it: it holds in memory, and is stored as soon as there
    /// is room.
    pub durable: bool,
}

/// Why, in the words of who did it.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ReasonRequest {
    /// The words; they are in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `POST /api/v1/admin/tokens/revoke`: exactly one of `jti`, `userId` and `all`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeRequest {
    /// One token.
    #[serde(default)]
    pub jti: Option<String>,
    /// All tokens of a user that were issued before `issuedBefore`.
    #[serde(default)]
    pub user_id: Option<UserId>,
    /// Everybody's tokens that were issued before `issuedBefore`.
    #[serde(default)]
    pub all: bool,
    /// The moment; without it now.
    #[serde(default)]
    pub issued_before: Option<Timestamp>,
    /// With `jti`: when the token ends by itself. From then on the revocation is forgotten.
    #[serde(default)]
    pub expires_at: Option<Timestamp>,
    /// Only say how many sockets it would close.
    #[serde(default)]
    pub dry_run: bool,
}

/// What would be revoked.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct RevocationPreview {
    /// That nothing was revoked.
    pub dry_run: bool,
    /// How many sockets would be closed.
    pub disconnected: usize,
    /// Of how many people.
    pub users: usize,
}

/// What was revoked.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// It.
    #[serde(flatten)]
    pub revocation: BanView,
    /// How many sockets were closed.
    pub disconnected: usize,
    /// Whether it is stored; false only where the disk is too full for it: it holds in memory, and is stored as soon as there
    /// is room.
    pub durable: bool,
}

/// A revocation or a block.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct BanView {
    /// `token`, `user_tokens`, `all_tokens` or `block`.
    pub kind: &'static str,
    /// The token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// The user.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<UserId>,
    /// Tokens issued before this are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issued_before: Option<Timestamp>,
    /// When it is forgotten, or null.
    pub expires_at: Option<Timestamp>,
    /// Who set it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

impl From<&Banned> for BanView {
    fn from(banned: &Banned) -> BanView {
        let (kind, jti, user_id, is_timed) = match &banned.ban {
            Ban::Token(id) => ("token", Some(id.clone()), None, false),
            Ban::TokensOf(user) => ("user_tokens", None, Some(user.clone()), true),
            Ban::AllTokens => ("all_tokens", None, None, true),
            Ban::User(user) => ("block", None, Some(user.clone()), false),
            Ban::Mute { user, .. } => ("mute", None, Some(user.clone()), false),
        };
        BanView {
            kind,
            jti,
            user_id,
            issued_before: is_timed.then_some(banned.before),
            expires_at: banned.until,
            by: banned.by.clone(),
            since: banned.at,
        }
    }
}

/// `GET /api/v1/admin/connections`: one socket.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct ConnectionView {
    /// The server's own number of it.
    pub socket: u64,
    /// The user.
    pub user_id: UserId,
    /// Their name.
    pub name: String,
    /// Their roles.
    pub roles: Vec<Role>,
    /// `websocket` or `polling`.
    pub transport: &'static str,
    /// Where it comes from, or null.
    pub address: Option<String>,
    /// Since when.
    pub since: Timestamp,
    /// When its token ends, or null.
    pub expires_at: Option<Timestamp>,
}

/// `POST .../users/{id}/mute`.
#[derive(Debug, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MuteRequest {
    /// In which room; everywhere without it.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    /// For so many seconds from now on.
    pub seconds: u64,
    /// Why; it is in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// `POST .../users/{id}/unmute`.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnmuteRequest {
    /// In which room; without it, the mute that is for everywhere.
    #[serde(default)]
    pub room_id: Option<RoomId>,
    /// Why; it is in the audit log.
    #[serde(default)]
    pub reason: String,
}

/// A mute: of the list, and of what was set or lifted.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MuteView {
    /// The user.
    pub user_id: UserId,
    /// The room, or null: everywhere.
    pub room_id: Option<RoomId>,
    /// When it ends, or would have ended.
    pub until: Timestamp,
    /// Who set it.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

impl MuteView {
    /// A ban as a mute, if it is one.
    #[must_use]
    pub fn of(banned: &Banned) -> Option<MuteView> {
        let (Ban::Mute { user, room }, Some(until)) = (&banned.ban, banned.until) else { return None };
        let (user_id, room_id) = (user.clone(), room.clone());
        Some(MuteView { user_id, room_id, until, by: banned.by.clone(), since: banned.at })
    }
}

/// `POST .../users/{id}/mute` and `/unmute`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct MuteChanged {
    /// The mute that was set or lifted.
    #[serde(flatten)]
    pub mute: MuteView,
    /// Whether it stands now.
    pub muted: bool,
}

/// `POST .../users/{id}/disconnect`.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "camelCase")]
pub struct Disconnected {
    /// The user.
    pub user_id: UserId,
    /// How many sockets were closed.
    pub disconnected: usize,
}
