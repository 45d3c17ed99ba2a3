//! Chat: drafts, messages, rooms and memberships, and who may enter, post, edit and delete.

use serde::{Deserialize, Serialize};

use super::room_state::RoomState;
use super::{Actor, Fingerprint, Refusal, RoomId, Timestamp, UserId};

/// What a message carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum MessageKind {
    /// Plain text.
    #[default]
    Text,
    /// The URL or path of a picture; never fetched.
    Image,
    /// The URL or path of a file; never fetched.
    File,
    /// A word of the platform itself; no client can send one.
    System,
}

impl MessageKind {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            MessageKind::Text => "text",
            MessageKind::Image => "image",
            MessageKind::File => "file",
            MessageKind::System => "system",
        }
    }
}

/// A message that somebody wants to post.
#[derive(Debug, Clone)]
pub struct Draft {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// Who posts it.
    pub author: Author,
    /// The text, or the URL of an image or a file. Its length has been checked.
    pub content: String,
    /// What `content` is.
    pub kind: MessageKind,
    /// The message it answers, if any. It is kept as given.
    pub reply_to: Option<u64>,
    /// The client's own key, shown to the room; a key that is kept for repetitions is the operation's.
    pub client_id: Option<String>,
}

impl Draft {
    /// What two posts must share to be the same request.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&[
            &self.room.canonical(),
            &self.content,
            self.kind.as_str(),
            &self.reply_to.map(|id| id.to_string()).unwrap_or_default(),
        ])
    }
}

/// Who acts in a room, with all that the rules ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The user, with the JSON type of the token.
    pub user: UserId,
    /// The display name at the time of the act.
    pub name: String,
    /// Whether the rules of rooms do not bind them: administrators and the platform itself.
    pub admin: bool,
}

impl Author {
    /// The author that an actor is.
    #[must_use]
    pub fn of(actor: &Actor) -> Author {
        Author { user: actor.user.clone(), name: actor.name.clone(), admin: actor.is_admin() }
    }
}

/// A stored message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Unique over all rooms, rising, below 2^53.
    pub id: u64,
    /// 1, 2, 3, ... within the room, without gaps.
    pub seq: u64,
    /// The room.
    pub room: RoomId,
    /// Who sent it, with the JSON type it had then.
    pub sender: UserId,
    /// The sender's name then.
    pub sender_name: String,
    /// The content; empty in a tombstone.
    pub content: String,
    /// What the content is.
    pub kind: MessageKind,
    /// The message it answers.
    pub reply_to: Option<u64>,
    /// The key that the sender gave it.
    pub client_id: Option<String>,
    /// When it was stored.
    pub at: Timestamp,
    /// When its content was last changed.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted: this is a tombstone.
    pub deleted_at: Option<Timestamp>,
    /// Who last changed its content, if that was not the sender.
    pub edited_by: Option<UserId>,
    /// Who deleted it, if that was not the sender.
    pub deleted_by: Option<UserId>,
}

/// What somebody is in a room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Membership {
    /// Took part in an open room; gives no right in a private one.
    Guest,
    /// Admitted to a private room.
    Member,
    /// A member who may edit and delete what others wrote.
    Moderator,
}

impl Membership {
    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Membership::Guest => "guest",
            Membership::Member => "member",
            Membership::Moderator => "moderator",
        }
    }

    /// Whether it opens a private room.
    #[must_use]
    pub fn admits(self) -> bool {
        self >= Membership::Member
    }
}

/// The rules that a room decision needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoomPolicy {
    /// `chat.open_rooms`: whether a room that nobody has registered may be joined, and is registered by its first message.
    pub open_rooms: bool,
}

/// Whether somebody may enter a room, read it and post to it. `private` is `None` for a room that does not exist. With
/// closed rooms a missing room answers as a private one does, so that nobody learns which exist.
///
/// # Errors
/// [`Refusal::Forbidden`].
pub fn may_enter(
    private: Option<bool>,
    membership: Option<Membership>,
    author_is_admin: bool,
    policy: RoomPolicy,
) -> Result<(), Refusal> {
    let open = match private {
        Some(private) => !private,
        None => policy.open_rooms,
    };
    if open || author_is_admin || membership.is_some_and(Membership::admits) { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// The time that a message gets: a room's times never fall, whatever the clock says.
#[must_use]
pub fn time_of_message(room: &RoomRecord, now: Timestamp) -> Timestamp {
    now.max(room.last_at)
}

/// The time that a change of a message gets: behind the message, and behind the change before it.
#[must_use]
pub fn time_of_change(message: &Message, now: Timestamp) -> Timestamp {
    let before = message.edited_at.map(|at| Timestamp(at.0.saturating_add(1)));
    now.max(message.at).max(before.unwrap_or_default())
}

/// Whether a room is on the list of somebody who takes part in it. Who has left an open room comes back by a join or a word
/// of their own; whoever was admitted, by the next message in it too. `left_at` is the room's `seq` when they left.
#[must_use]
pub fn is_listed(membership: Membership, left_at: Option<u64>, last_seq: u64) -> bool {
    left_at.is_none_or(|left_at| membership.admits() && last_seq > left_at)
}

/// Whether somebody may change or delete a message: the sender, a moderator of the room, an administrator.
///
/// # Errors
/// [`Refusal::Forbidden`]; [`Refusal::NotFound`] if it is already deleted.
pub fn may_change(message: &Message, author: &Author, membership: Option<Membership>) -> Result<(), Refusal> {
    let own = message.sender == author.user && message.kind != MessageKind::System;
    if !own && !author.admin && membership != Some(Membership::Moderator) {
        return Err(Refusal::Forbidden);
    }
    if message.deleted_at.is_some() {
        return Err(Refusal::NotFound);
    }
    Ok(())
}

/// Whether somebody keeps order in a room: a moderator of it, an administrator.
///
/// # Errors
/// [`Refusal::Forbidden`].
pub fn may_moderate(author: &Author, membership: Option<Membership>) -> Result<(), Refusal> {
    if author.admin || membership == Some(Membership::Moderator) { Ok(()) } else { Err(Refusal::Forbidden) }
}

/// A room, as far as the store knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomRecord {
    /// The id as it was first given.
    pub id: RoomId,
    /// The name for people, if one was set.
    pub name: Option<String>,
    /// Whether it admits its members alone.
    pub private: bool,
    /// The id of its latest message; 0 if there is none.
    pub last_id: u64,
    /// The `seq` of its latest message; 0 if there is none.
    pub last_seq: u64,
    /// Messages up to this `seq` have been purged by age; 0 if none.
    pub purged_seq: u64,
    /// The time of its latest message: no later message is given an earlier one.
    pub last_at: Timestamp,
    /// How many of the messages behind `purged_seq` are tombstones.
    pub deleted: u64,
    /// When it was registered.
    pub created_at: Timestamp,
    /// Who may write in it now, and how often.
    pub state: RoomState,
    /// The change that tells of the state; 0 if it was never another one than at first.
    pub state_change: u64,
}

impl RoomRecord {
    /// A room that is registered by its first message: open where everybody may open rooms. Where nobody may, an
    /// administrator or the platform has written it, and who else is to read it is theirs to say.
    #[must_use]
    pub fn first_written(id: &RoomId, policy: RoomPolicy, at: Timestamp) -> RoomRecord {
        RoomRecord { private: !policy.open_rooms, ..RoomRecord::new(id.clone(), at) }
    }

    /// An open room without messages.
    #[must_use]
    pub fn new(id: RoomId, at: Timestamp) -> RoomRecord {
        RoomRecord {
            id,
            name: None,
            private: false,
            last_id: 0,
            last_seq: 0,
            purged_seq: 0,
            last_at: Timestamp(0),
            deleted: 0,
            created_at: at,
            state: RoomState::default(),
            state_change: 0,
        }
    }
}

/// A room as an administrator registers it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomDraft {
    /// The id, with the JSON type of the request.
    pub id: RoomId,
    /// The name for people.
    pub name: Option<String>,
    /// Whether it admits its members alone.
    pub private: bool,
    /// Who is admitted from the beginning.
    pub members: Vec<(UserId, Membership)>,
}

/// What an administrator changes of a room; `None` leaves it as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RoomPatch {
    /// The name; an empty one takes it away.
    pub name: Option<String>,
    /// Whether it admits its members alone.
    pub private: Option<bool>,
    /// Whoever takes part in it as a guest becomes a member: an open room is closed with those who are in it.
    pub admit_guests: bool,
}

impl RoomPatch {
    /// Changes a record.
    pub fn apply(&self, record: &mut RoomRecord) {
        if let Some(name) = &self.name {
            record.name = Some(name.clone()).filter(|name| !name.is_empty());
        }
        record.private = self.private.unwrap_or(record.private);
    }
}

/// A room in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomEntry {
    /// It.
    pub record: RoomRecord,
    /// How many take part in it, guests among them.
    pub members: u64,
}

/// Somebody who takes part in a room.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberEntry {
    /// The user.
    pub user: UserId,
    /// The name as last given.
    pub name: String,
    /// What they are in it.
    pub membership: Membership,
    /// The message up to which they have read; 0 if none.
    pub read_up_to: u64,
}

/// One row of `chat:rooms`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoomSummary {
    /// The room.
    pub room: RoomRecord,
    /// What the user is in it.
    pub membership: Membership,
    /// The message up to which the user has read; 0 if none.
    pub read_up_to: u64,
    /// How many messages that can be read are behind the read mark.
    pub unread: u64,
}

/// A read mark that moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadMark {
    /// The room, with the JSON type of the request.
    pub room: RoomId,
    /// Who has read.
    pub user: UserId,
    /// Up to and with which message.
    pub message_id: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: RoomPolicy = RoomPolicy { open_rooms: true };
    const CLOSED: RoomPolicy = RoomPolicy { open_rooms: false };

    #[test]
    fn closed_rooms_answer_for_a_missing_room_as_for_a_private_one() {
        for membership in [None, Some(Membership::Guest)] {
            assert_eq!(may_enter(None, membership, false, CLOSED), may_enter(Some(true), membership, false, CLOSED));
        }
        assert!(may_enter(None, None, false, OPEN).is_ok());
        assert!(may_enter(Some(true), Some(Membership::Guest), false, OPEN).is_err());
        assert!(may_enter(Some(true), Some(Membership::Member), false, CLOSED).is_ok());
        assert!(may_enter(Some(true), None, true, CLOSED).is_ok());
    }

    #[test]
    fn a_moderator_and_an_admin_keep_order_and_nobody_else() {
        let author = |admin| Author { user: UserId::parse("7").unwrap(), name: String::new(), admin };
        assert!(may_moderate(&author(true), None).is_ok());
        assert!(may_moderate(&author(false), Some(Membership::Moderator)).is_ok());
        for membership in [None, Some(Membership::Guest), Some(Membership::Member)] {
            assert_eq!(may_moderate(&author(false), membership), Err(Refusal::Forbidden));
        }
    }

    #[test]
    fn only_the_sender_a_moderator_or_an_admin_changes_a_message() {
        let user = |text: &str| UserId::parse(text).unwrap();
        let mut message = Message {
            id: 1,
            seq: 1,
            room: RoomId::parse("r").unwrap(),
            sender: user("7"),
            sender_name: String::new(),
            content: "x".into(),
            kind: MessageKind::Text,
            reply_to: None,
            client_id: None,
            at: Timestamp(1),
            edited_at: None,
            deleted_at: None,
            edited_by: None,
            deleted_by: None,
        };
        let author = |text: &str, admin| Author { user: user(text), name: String::new(), admin };
        assert!(may_change(&message, &author("7", false), None).is_ok());
        assert_eq!(may_change(&message, &author("8", false), Some(Membership::Member)), Err(Refusal::Forbidden));
        assert!(may_change(&message, &author("8", false), Some(Membership::Moderator)).is_ok());
        assert!(may_change(&message, &author("8", true), None).is_ok());
        message.deleted_at = Some(Timestamp(2));
        assert_eq!(may_change(&message, &author("7", false), None), Err(Refusal::NotFound));
        assert_eq!(may_change(&message, &author("8", false), None), Err(Refusal::Forbidden));
    }
}
