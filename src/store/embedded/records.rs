//! What the values of the tables hold: one codec byte, then postcard. Rows borrow from the page they are read from; the
//! nouns of the domain are built from them. Enumerations are stored by codes of their own, so that a change of a declared
//! order in `domain` does not change what is on disk.

mod inbox;
mod people;

use redb::{Key, ReadableTable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Outcome};
use super::schema::Row;
use crate::domain::chat::{Membership, Message, MessageKind, RoomRecord};
use crate::domain::notification::{Audience, AudienceKind, Notification, NotificationBody};
use crate::domain::privacy::{VersionEnd, WithheldVersion};
use crate::domain::progress::{Percent, Progress, Status};
use crate::domain::{Fingerprint, Id, LessonId, Role, Room, RoomId, Timestamp, UserId};
use crate::store::operations::{Broadcast, InboxAction};

pub(super) use inbox::{InboxChangeRow, decode_broadcast, decode_notification, encode_broadcast, encode_notification};
pub(super) use people::{Marks, MemberRow, NAMED_SLOT, Person, decode_room, encode_room, slot};

/// The codec of rows that have been the same since format 1: postcard.
const POSTCARD_1: u8 = 1;
/// The codec of rows that format 4 has changed: postcard. What an older version wrote is read with codec 1.
const POSTCARD_2: u8 = 2;

/// Encodes a row into a buffer that is used again.
pub(super) fn encode<'b, T: Serialize>(row: &T, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    encode_by(POSTCARD_1, row, buffer)
}

/// Encodes a row that format 4 has changed.
pub(super) fn encode_2<'b, T: Serialize>(row: &T, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    encode_by(POSTCARD_2, row, buffer)
}

fn encode_by<'b, T: Serialize>(codec: u8, row: &T, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    buffer.clear();
    buffer.push(codec);
    let taken = postcard::to_extend(row, std::mem::take(buffer))
        .map_err(|error| Failure::Damaged(format!("a row cannot be encoded: {error}")))?;
    *buffer = taken;
    Ok(buffer)
}

/// Decodes a row.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Outcome<T> {
    match bytes.split_first() {
        Some((&POSTCARD_1, row)) => Ok(postcard::from_bytes(row)?),
        Some((codec, _)) => Err(Failure::Damaged(format!("a row has the unknown codec {codec}"))),
        None => Err(Failure::Damaged("a row is empty".to_owned())),
    }
}

/// Decodes a row that format 4 has changed, or what an older version wrote.
pub(super) fn decode_2<'a, Old: Deserialize<'a>, New: Deserialize<'a>>(
    bytes: &'a [u8],
    renew: impl FnOnce(Old) -> Outcome<New>,
) -> Outcome<New> {
    match bytes.split_first() {
        Some((&POSTCARD_2, row)) => Ok(postcard::from_bytes(row)?),
        _ => renew(decode(bytes)?),
    }
}

/// Reads one row, if it is there.
pub(super) fn get<K: Key + 'static, T>(
    table: &impl ReadableTable<K, Row>,
    key: K::SelfType<'_>,
    read: impl FnOnce(&[u8]) -> Outcome<T>,
) -> Outcome<Option<T>> {
    table.get(key)?.map(|row| read(row.value())).transpose()
}

/// Reads one row that borrows nothing, if it is there.
pub(super) fn get_value<K: Key + 'static, T: DeserializeOwned>(
    table: &impl ReadableTable<K, Row>,
    key: K::SelfType<'_>,
) -> Outcome<Option<T>> {
    get(table, key, |row| decode::<T>(row))
}

/// Reads one number, if it is there.
pub(super) fn get_number<K: Key + 'static>(
    table: &impl ReadableTable<K, Row>,
    key: K::SelfType<'_>,
) -> Outcome<Option<u64>> {
    get_value(table, key)
}

macro_rules! codes {
    ($($encode:ident, $decode:ident: $type:ty { $($variant:path = $code:literal),* })*) => {$(
        pub(super) fn $encode(value: $type) -> u8 {
            match value { $($variant => $code),* }
        }

        pub(super) fn $decode(code: u8) -> Outcome<$type> {
            match code {
                $($code => Ok($variant),)*
                _ => Err(Failure::Damaged(format!("{code} is no {}", stringify!($type)))),
            }
        }
    )*};
}

codes! {
    role_code, role_of: Role { Role::Admin = 1, Role::Hr = 2, Role::Coach = 3, Role::Learner = 4 }
    kind_code, kind_of: MessageKind {
        MessageKind::Text = 0, MessageKind::Image = 1, MessageKind::File = 2, MessageKind::System = 3
    }
    membership_code, membership_of: Membership {
        Membership::Guest = 0, Membership::Member = 1, Membership::Moderator = 2
    }
    status_code, status_of: Status { Status::NotStarted = 0, Status::InProgress = 1, Status::Completed = 2 }
    action_code, action_of: InboxAction { InboxAction::Read = 0, InboxAction::Delete = 1 }
}

/// An id with its JSON type. [`Id`] itself asks its format what comes next, which postcard cannot say.
#[derive(Serialize, Deserialize, Clone, Copy)]
pub(super) enum IdRow<'a> {
    Number(u64),
    Text(&'a str),
}

impl<'a> From<&'a Id> for IdRow<'a> {
    fn from(id: &'a Id) -> Self {
        match id {
            Id::Number(number) => IdRow::Number(*number),
            Id::Text(text) => IdRow::Text(text),
        }
    }
}

impl IdRow<'_> {
    fn id(self) -> Id {
        match self {
            IdRow::Number(number) => Id::Number(number),
            IdRow::Text(text) => Id::Text(text.into()),
        }
    }

    pub(super) fn user(self) -> Outcome<UserId> {
        UserId::new(self.id()).map_err(|error| Failure::Damaged(format!("a stored user id {error}")))
    }

    pub(super) fn room(self) -> Outcome<RoomId> {
        RoomId::new(self.id()).map_err(|error| Failure::Damaged(format!("a stored room id {error}")))
    }

    fn lesson(self) -> Outcome<LessonId> {
        LessonId::new(self.id()).map_err(|error| Failure::Damaged(format!("a stored lesson id {error}")))
    }
}

/// A message whose room was ahead of the clock when it was stored: when that was, by the clock. The others are stored as in
/// format 1.
#[derive(Serialize, Deserialize)]
struct LateMessageRow<'a> {
    #[serde(borrow)]
    row: MessageRow<'a>,
    stored_at: u64,
}

#[derive(Serialize, Deserialize)]
struct MessageRow<'a> {
    room: u64,
    seq: u64,
    sender: u64,
    #[serde(borrow)]
    sender_id: IdRow<'a>,
    sender_name: &'a str,
    at: u64,
    kind: u8,
    content: &'a str,
    reply_to: Option<u64>,
    client_id: Option<&'a str>,
    edited_at: Option<u64>,
    deleted_at: Option<u64>,
    change: u64,
}

/// Where a message stands, beside what the domain knows of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The room's number.
    pub(super) room: u64,
    /// The sender's number.
    pub(super) sender: u64,
    /// The latest edit's or the deletion's change; 0 if there is none.
    pub(super) change: u64,
    /// When it was stored by the clock of then; `None` if the message itself says so. Times within a room never fall, and a
    /// purge goes by this.
    pub(super) stored_at: Option<Timestamp>,
}

impl Place {
    /// When a message was stored, by the clock of then.
    pub(super) fn stored_at(&self, message: &Message) -> Timestamp {
        self.stored_at.unwrap_or(message.at)
    }
}

pub(super) fn encode_message<'b>(message: &Message, place: Place, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    let row = MessageRow {
        room: place.room,
        seq: message.seq,
        sender: place.sender,
        sender_id: message.sender.id().into(),
        sender_name: &message.sender_name,
        at: message.at.0,
        kind: kind_code(message.kind),
        content: &message.content,
        reply_to: message.reply_to,
        client_id: message.client_id.as_deref(),
        edited_at: message.edited_at.map(Timestamp::as_millis),
        deleted_at: message.deleted_at.map(Timestamp::as_millis),
        change: place.change,
    };
    match place.stored_at {
        None => encode(&row, buffer),
        Some(stored_at) => encode_2(&LateMessageRow { row, stored_at: stored_at.0 }, buffer),
    }
}

pub(super) fn decode_message(bytes: &[u8], id: u64, room: &RoomId) -> Outcome<(Message, Place)> {
    let (row, stored_at) = match bytes.first() {
        Some(&POSTCARD_2) => {
            let LateMessageRow { row, stored_at } = decode_2(bytes, |row| Ok(LateMessageRow { row, stored_at: 0 }))?;
            (row, Some(Timestamp(stored_at)))
        }
        _ => (decode::<MessageRow<'_>>(bytes)?, None),
    };
    let message = Message {
        id,
        seq: row.seq,
        room: room.clone(),
        sender: row.sender_id.user()?,
        sender_name: row.sender_name.to_owned(),
        content: row.content.to_owned(),
        kind: kind_of(row.kind)?,
        reply_to: row.reply_to,
        client_id: row.client_id.map(str::to_owned),
        at: Timestamp(row.at),
        edited_at: row.edited_at.map(Timestamp),
        deleted_at: row.deleted_at.map(Timestamp),
    };
    Ok((message, Place { room: row.room, sender: row.sender, change: row.change, stored_at }))
}

/// A change of a room that is not a new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum RoomChangeRow {
    /// Of this message.
    Edited(u64),
    /// Of this message.
    Deleted(u64),
    /// By this user.
    Read(u64),
}

/// A lesson's progress, with the change that told of it.
#[derive(Serialize, Deserialize)]
pub(super) struct ProgressRow<'a> {
    #[serde(borrow)]
    user: IdRow<'a>,
    #[serde(borrow)]
    lesson: IdRow<'a>,
    progress: f64,
    time_spent: u64,
    status: u8,
    version: u64,
    #[serde(borrow)]
    course: Option<IdRow<'a>>,
    #[serde(borrow)]
    module: Option<IdRow<'a>>,
    updated_at: u64,
    completed_at: Option<u64>,
    pub(super) change: u64,
}

impl<'a> ProgressRow<'a> {
    pub(super) fn of(progress: &'a Progress, change: u64) -> ProgressRow<'a> {
        ProgressRow {
            user: progress.user.id().into(),
            lesson: progress.lesson.id().into(),
            progress: progress.progress.value(),
            time_spent: progress.time_spent,
            status: status_code(progress.status),
            version: progress.version,
            course: progress.course.as_ref().map(|id| id.id().into()),
            module: progress.module.as_ref().map(|id| id.id().into()),
            updated_at: progress.updated_at.0,
            completed_at: progress.completed_at.map(Timestamp::as_millis),
            change,
        }
    }

    pub(super) fn read(&self) -> Outcome<Progress> {
        Ok(Progress {
            user: self.user.user()?,
            lesson: self.lesson.lesson()?,
            progress: Percent::new(self.progress)
                .ok_or_else(|| Failure::Damaged(format!("{} is no share of a lesson", self.progress)))?,
            time_spent: self.time_spent,
            status: status_of(self.status)?,
            version: self.version,
            course: self.course.map(IdRow::lesson).transpose()?,
            module: self.module.map(IdRow::lesson).transpose()?,
            updated_at: Timestamp(self.updated_at),
            completed_at: self.completed_at.map(Timestamp),
        })
    }
}

/// A first answer as formats 1 to 3 have it.
#[derive(Deserialize)]
struct AnswerRow1<'a> {
    expires: u64,
    #[serde(borrow)]
    first: First<'a>,
}

/// A first answer, until when it holds, and what the request said; of older formats that is not known.
#[derive(Serialize, Deserialize)]
pub(super) struct AnswerRow<'a> {
    pub(super) expires: u64,
    #[serde(borrow)]
    pub(super) first: First<'a>,
    pub(super) fingerprint: Option<Fingerprint>,
}

impl<'a> AnswerRow<'a> {
    pub(super) fn decode(bytes: &'a [u8]) -> Outcome<AnswerRow<'a>> {
        decode_2(bytes, |AnswerRow1 { expires, first }| Ok(AnswerRow { expires, first, fingerprint: None }))
    }
}

/// What was answered.
#[derive(Serialize, Deserialize)]
pub(super) enum First<'a> {
    Message {
        room: u64,
        id: u64,
        seq: u64,
        at: u64,
    },
    Progress(#[serde(borrow)] ProgressRow<'a>, bool),
    Notification(u64),
    Bytes(&'a [u8]),
    /// An edit or a deletion.
    Changed {
        id: u64,
        at: u64,
    },
    /// A broadcast that reached so many sockets.
    Sent(u64),
}

/// What a message said before a change under a hold; its key has the message and the change.
#[derive(Serialize, Deserialize)]
pub(super) struct VersionRow<'a> {
    content: &'a str,
    until: u64,
    #[serde(borrow)]
    by: IdRow<'a>,
    is_deletion: bool,
    /// Where its message is, so that the holds can be asked without it.
    pub(super) room: u64,
    pub(super) sender: u64,
}

impl<'a> VersionRow<'a> {
    pub(super) fn of(version: &'a WithheldVersion, place: Place) -> VersionRow<'a> {
        VersionRow {
            content: &version.content,
            until: version.until.0,
            by: version.by.id().into(),
            is_deletion: version.change == VersionEnd::Deleted,
            room: place.room,
            sender: place.sender,
        }
    }

    pub(super) fn version(&self) -> Outcome<WithheldVersion> {
        Ok(WithheldVersion {
            content: self.content.to_owned(),
            until: Timestamp(self.until),
            by: self.by.user()?,
            change: if self.is_deletion { VersionEnd::Deleted } else { VersionEnd::Edited },
        })
    }
}
