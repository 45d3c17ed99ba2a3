//! What the values of the tables hold: one codec byte, then postcard. Rows borrow from the page they are read from; the
//! nouns of the domain are built from them. Enumerations are stored by codes of their own, so that a change of a declared
//! order in `domain` does not change what is on disk.

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

/// A user as formats 1 to 3 have them: one mark over all audiences.
#[derive(Deserialize)]
struct UserRow1<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: &'a str,
    roles: Vec<u8>,
    first_seen_id: u64,
    first_seen_at: u64,
    last_seen_at: u64,
    delivered_up_to: u64,
    read_up_to: u64,
    deleted_up_to: u64,
}

#[derive(Serialize, Deserialize)]
struct UserRow<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: &'a str,
    roles: Vec<u8>,
    first_seen_id: u64,
    first_seen_at: u64,
    last_seen_at: u64,
    /// Of the audiences that have some, by their slot.
    marks: Vec<(u8, Marks)>,
}

impl<'a> UserRow<'a> {
    fn renew(old: UserRow1<'a>) -> UserRow<'a> {
        let marks = Marks { delivered: old.delivered_up_to, read: old.read_up_to, deleted: old.deleted_up_to };
        // What the marks tell of: the audiences that they had.
        let roles = old.roles.iter().copied();
        let slots = roles.chain([ALL_SLOT as u8, NAMED_SLOT as u8]);
        UserRow {
            id: old.id,
            name: old.name,
            roles: old.roles.clone(),
            first_seen_id: old.first_seen_id,
            first_seen_at: old.first_seen_at,
            last_seen_at: old.last_seen_at,
            marks: slots.map(|slot| (slot, marks)).collect(),
        }
    }
}

/// Up to where somebody has been sent, has read and has deleted all of an audience's notifications. "All" keeps one mark where
/// each notification would need one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Marks {
    pub(super) delivered: u64,
    pub(super) read: u64,
    pub(super) deleted: u64,
}

/// The slot of everybody; roles have the slots of their codes.
const ALL_SLOT: usize = 0;
/// The slot of what names somebody.
pub(super) const NAMED_SLOT: usize = 5;

/// The slot of an audience: also its number in `notif_by_audience`, but for named people, who have rows of their own.
pub(super) fn slot(kind: AudienceKind) -> usize {
    match kind {
        AudienceKind::All => ALL_SLOT,
        AudienceKind::Role(role) => usize::from(role_code(role)),
        AudienceKind::Named => NAMED_SLOT,
    }
}

/// A user, and where they stand.
#[derive(Debug, Clone)]
pub(super) struct Person {
    /// The id as last given.
    pub(super) id: UserId,
    /// The name as last given.
    pub(super) name: String,
    /// The roles as last given.
    pub(super) roles: Vec<Role>,
    /// The store's next id at their first arrival; 0 before that: they are only spoken of.
    pub(super) first_seen_id: u64,
    pub(super) first_seen_at: Timestamp,
    pub(super) last_seen_at: Timestamp,
    /// By the slots of audiences.
    marks: [Marks; NAMED_SLOT + 1],
}

impl Person {
    pub(super) fn new(id: UserId) -> Person {
        Person {
            id,
            name: String::new(),
            roles: Vec::new(),
            first_seen_id: 0,
            first_seen_at: Timestamp(0),
            last_seen_at: Timestamp(0),
            marks: Default::default(),
        }
    }

    pub(super) fn has_arrived(&self) -> bool {
        self.first_seen_id > 0
    }

    /// The marks of an audience.
    pub(super) fn marks(&self, kind: AudienceKind) -> Marks {
        self.marks.get(slot(kind)).copied().unwrap_or_default()
    }

    /// The marks of an audience, to change.
    pub(super) fn marks_mut(&mut self, kind: AudienceKind) -> Option<&mut Marks> {
        self.marks.get_mut(slot(kind))
    }

    pub(super) fn encode<'b>(&self, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
        let marks = (0u8..).zip(self.marks);
        let row = UserRow {
            id: self.id.id().into(),
            name: &self.name,
            roles: self.roles.iter().copied().map(role_code).collect(),
            first_seen_id: self.first_seen_id,
            first_seen_at: self.first_seen_at.0,
            last_seen_at: self.last_seen_at.0,
            marks: marks.filter(|(_, marks)| *marks != Marks::default()).collect(),
        };
        encode_2(&row, buffer)
    }

    pub(super) fn decode(bytes: &[u8]) -> Outcome<Person> {
        let row: UserRow<'_> = decode_2(bytes, |old| Ok(UserRow::renew(old)))?;
        let mut marks: [Marks; NAMED_SLOT + 1] = Default::default();
        for (slot, of_slot) in row.marks {
            let place = marks.get_mut(usize::from(slot));
            *place.ok_or_else(|| Failure::Damaged(format!("{slot} is no audience")))? = of_slot;
        }
        Ok(Person {
            id: row.id.user()?,
            name: row.name.to_owned(),
            roles: row.roles.into_iter().map(role_of).collect::<Outcome<_>>()?,
            first_seen_id: row.first_seen_id,
            first_seen_at: Timestamp(row.first_seen_at),
            last_seen_at: Timestamp(row.last_seen_at),
            marks,
        })
    }
}

/// A room as formats 2 and 3 have it.
#[derive(Deserialize)]
struct RoomRow1<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: Option<&'a str>,
    private: bool,
    last_id: u64,
    last_seq: u64,
    created_at: u64,
    purged_seq: u64,
}

#[derive(Serialize, Deserialize)]
struct RoomRow<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: Option<&'a str>,
    private: bool,
    last_id: u64,
    last_seq: u64,
    created_at: u64,
    purged_seq: u64,
    last_at: u64,
    deleted: u64,
}

impl<'a> RoomRow<'a> {
    fn renew(old: RoomRow1<'a>) -> RoomRow<'a> {
        let RoomRow1 { id, name, private, last_id, last_seq, created_at, purged_seq } = old;
        RoomRow { id, name, private, last_id, last_seq, created_at, purged_seq, last_at: 0, deleted: 0 }
    }
}

pub(super) fn encode_room<'b>(room: &RoomRecord, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    let row = RoomRow {
        id: room.id.id().into(),
        name: room.name.as_deref(),
        private: room.private,
        last_id: room.last_id,
        last_seq: room.last_seq,
        created_at: room.created_at.0,
        purged_seq: room.purged_seq,
        last_at: room.last_at.0,
        deleted: room.deleted,
    };
    encode_2(&row, buffer)
}

pub(super) fn decode_room(bytes: &[u8]) -> Outcome<RoomRecord> {
    let row: RoomRow<'_> = decode_2(bytes, |old| Ok(RoomRow::renew(old)))?;
    Ok(RoomRecord {
        id: row.id.room()?,
        name: row.name.map(str::to_owned),
        private: row.private,
        last_id: row.last_id,
        last_seq: row.last_seq,
        purged_seq: row.purged_seq,
        last_at: Timestamp(row.last_at),
        deleted: row.deleted,
        created_at: Timestamp(row.created_at),
    })
}

/// What somebody is in a room as formats 1 to 3 have it.
#[derive(Deserialize)]
struct MemberRow1 {
    membership: u8,
    read_up_to: u64,
    read_seq: u64,
    read_change: u64,
}

/// What somebody is in a room, and how far they have read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MemberRow {
    /// Its code.
    pub(super) membership: u8,
    /// The message they have read up to; 0 if none.
    pub(super) read_up_to: u64,
    /// Its `seq`.
    pub(super) read_seq: u64,
    /// The change that tells of the mark; 0 if none.
    pub(super) read_change: u64,
    /// The room's last `seq` when they came first: what is before it is not unread.
    pub(super) from_seq: u64,
    /// The room's last `seq` when they left it; `None` while they have not.
    pub(super) left_at: Option<u64>,
    /// Whether they have written in it: `authors` has them then.
    pub(super) has_written: bool,
}

impl MemberRow {
    /// Somebody who comes to a room for the first time, whose last `seq` is this.
    pub(super) fn guest(from_seq: u64) -> MemberRow {
        MemberRow {
            membership: membership_code(Membership::Guest),
            read_up_to: 0,
            read_seq: 0,
            read_change: 0,
            from_seq,
            left_at: None,
            has_written: false,
        }
    }

    pub(super) fn membership(&self) -> Outcome<Membership> {
        membership_of(self.membership)
    }

    /// What is behind this `seq` is unread.
    pub(super) fn unread_from(&self, room: &RoomRecord) -> u64 {
        self.read_seq.max(self.from_seq).max(room.purged_seq)
    }

    pub(super) fn decode(bytes: &[u8]) -> Outcome<MemberRow> {
        decode_2(bytes, |old: MemberRow1| {
            let MemberRow1 { membership, read_up_to, read_seq, read_change } = old;
            let row = MemberRow::guest(0);
            // Whether they have written is looked up at their next message.
            Ok(MemberRow { membership, read_up_to, read_seq, read_change, ..row })
        })
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

#[derive(Serialize, Deserialize)]
enum AudienceRow<'a> {
    All,
    Role(u8),
    Users(#[serde(borrow)] Vec<IdRow<'a>>),
}

#[derive(Serialize, Deserialize)]
struct NotificationRow<'a> {
    #[serde(borrow)]
    audience: AudienceRow<'a>,
    kind: &'a str,
    title: &'a str,
    message: &'a str,
    title_fr: Option<&'a str>,
    message_fr: Option<&'a str>,
    link: Option<&'a str>,
    metadata: Option<&'a str>,
    at: u64,
}

pub(super) fn encode_notification<'b>(one: &Notification, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    let audience = match &one.audience {
        Audience::All => AudienceRow::All,
        Audience::Role(role) => AudienceRow::Role(role_code(*role)),
        Audience::Users(users) => AudienceRow::Users(users.iter().map(|user| user.id().into()).collect()),
    };
    let row = NotificationRow {
        audience,
        kind: &one.body.kind,
        title: &one.body.title,
        message: &one.body.message,
        title_fr: one.body.title_fr.as_deref(),
        message_fr: one.body.message_fr.as_deref(),
        link: one.body.link.as_deref(),
        metadata: one.body.metadata.as_deref(),
        at: one.at.0,
    };
    encode(&row, buffer)
}

pub(super) fn decode_notification(bytes: &[u8], id: u64, read: bool) -> Outcome<Notification> {
    let row: NotificationRow<'_> = decode(bytes)?;
    let audience = match row.audience {
        AudienceRow::All => Audience::All,
        AudienceRow::Role(code) => Audience::Role(role_of(code)?),
        AudienceRow::Users(users) => Audience::Users(users.into_iter().map(IdRow::user).collect::<Outcome<_>>()?),
    };
    let body = NotificationBody {
        kind: row.kind.to_owned(),
        title: row.title.to_owned(),
        message: row.message.to_owned(),
        title_fr: row.title_fr.map(str::to_owned),
        message_fr: row.message_fr.map(str::to_owned),
        link: row.link.map(str::to_owned),
        metadata: row.metadata.map(str::to_owned),
    };
    Ok(Notification { id, audience, body, at: Timestamp(row.at), read })
}

/// What was done to an inbox as formats 1 to 3 have it.
#[derive(Deserialize)]
struct InboxChangeRow1 {
    ids: Option<Vec<u64>>,
    action: u8,
}

/// What was done to an inbox; `ids` is `None` for all of it, up to `up_to` if it was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct InboxChangeRow {
    pub(super) ids: Option<Vec<u64>>,
    pub(super) action: u8,
    pub(super) up_to: Option<u64>,
}

impl InboxChangeRow {
    pub(super) fn decode(bytes: &[u8]) -> Outcome<InboxChangeRow> {
        decode_2(bytes, |InboxChangeRow1 { ids, action }| Ok(InboxChangeRow { ids, action, up_to: None }))
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

#[derive(Serialize, Deserialize)]
enum RoomNameRow<'a> {
    All,
    Role(u8),
    User(#[serde(borrow)] IdRow<'a>),
    Chat(#[serde(borrow)] IdRow<'a>),
}

#[derive(Serialize, Deserialize)]
struct BroadcastRow<'a> {
    #[serde(borrow)]
    rooms: Vec<RoomNameRow<'a>>,
    event: &'a str,
    payload: &'a str,
}

pub(super) fn encode_broadcast<'b>(broadcast: &Broadcast, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    let rooms = broadcast.rooms.iter().map(|room| match room {
        Room::All => RoomNameRow::All,
        Room::Role(role) => RoomNameRow::Role(role_code(*role)),
        Room::User(user) => RoomNameRow::User(user.id().into()),
        Room::Chat(room) => RoomNameRow::Chat(room.id().into()),
    });
    let row = BroadcastRow { rooms: rooms.collect(), event: &broadcast.event, payload: &broadcast.payload };
    encode(&row, buffer)
}

pub(super) fn decode_broadcast(bytes: &[u8]) -> Outcome<Broadcast> {
    let row: BroadcastRow<'_> = decode(bytes)?;
    let rooms = row.rooms.into_iter().map(|room| {
        Ok(match room {
            RoomNameRow::All => Room::All,
            RoomNameRow::Role(code) => Room::Role(role_of(code)?),
            RoomNameRow::User(id) => Room::User(id.user()?),
            RoomNameRow::Chat(id) => Room::Chat(id.room()?),
        })
    });
    Ok(Broadcast {
        rooms: rooms.collect::<Outcome<_>>()?,
        event: row.event.to_owned(),
        payload: row.payload.to_owned(),
    })
}
