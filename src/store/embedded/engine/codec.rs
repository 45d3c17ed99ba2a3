//! What the values of the tables hold: one codec byte, then postcard. Rows borrow from the page they are read from; the
//! nouns of the domain are built from them. Enumerations are stored by codes of their own, so that a change of a declared
//! order in `domain` does not change what is on disk.

use redb::{Key, ReadableTable};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::domain::chat::{Membership, MessageKind};
use crate::domain::progress::Status;
use crate::domain::{Id, LessonId, Role, RoomId, UserId};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{K8, Row, meta};
use crate::store::operations::InboxAction;

/// The codec of rows that have been the same since format 1: postcard.
const POSTCARD_1: u8 = 1;
/// The codec of rows that format 4 has changed: postcard. What an older version wrote is read with codec 1.
pub(in crate::store::embedded) const POSTCARD_2: u8 = 2;

/// The codec of rows that format 6 has changed: postcard. What an older version wrote is read with codecs 1 and 2.
pub(in crate::store::embedded) const POSTCARD_3: u8 = 3;

/// Encodes a row into a buffer that is used again.
pub(in crate::store::embedded) fn encode<'b, T: Serialize>(row: &T, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    encode_by(POSTCARD_1, row, buffer)
}

/// Encodes a row that format 4 has changed.
pub(in crate::store::embedded) fn encode_2<'b, T: Serialize>(row: &T, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    encode_by(POSTCARD_2, row, buffer)
}

/// Encodes a row that format 6 has changed.
pub(in crate::store::embedded) fn encode_3<'b, T: Serialize>(row: &T, buffer: &'b mut Vec<u8>) -> Outcome<&'b [u8]> {
    encode_by(POSTCARD_3, row, buffer)
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
pub(in crate::store::embedded) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Outcome<T> {
    match bytes.split_first() {
        Some((&POSTCARD_1, row)) => Ok(postcard::from_bytes(row)?),
        Some((codec, _)) => Err(Failure::Damaged(format!("a row has the unknown codec {codec}"))),
        None => Err(Failure::Damaged("a row is empty".to_owned())),
    }
}

/// Decodes a row that format 4 has changed, or what an older version wrote.
pub(in crate::store::embedded) fn decode_2<'a, Old: Deserialize<'a>, New: Deserialize<'a>>(
    bytes: &'a [u8],
    renew: impl FnOnce(Old) -> Outcome<New>,
) -> Outcome<New> {
    match bytes.split_first() {
        Some((&POSTCARD_2, row)) => Ok(postcard::from_bytes(row)?),
        _ => renew(decode(bytes)?),
    }
}

/// Decodes a row that format 6 has changed, as it is since.
pub(in crate::store::embedded) fn decode_3<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Outcome<T> {
    match bytes.split_first() {
        Some((&POSTCARD_3, row)) => Ok(postcard::from_bytes(row)?),
        _ => Err(Failure::Damaged("a row of format 6 has another codec".to_owned())),
    }
}

/// Reads one row, if it is there.
pub(in crate::store::embedded) fn get<K: Key + 'static, T>(
    table: &impl ReadableTable<K, Row>,
    key: K::SelfType<'_>,
    read: impl FnOnce(&[u8]) -> Outcome<T>,
) -> Outcome<Option<T>> {
    table.get(key)?.map(|row| read(row.value())).transpose()
}

/// Reads one row that borrows nothing, if it is there.
pub(in crate::store::embedded) fn get_value<K: Key + 'static, T: DeserializeOwned>(
    table: &impl ReadableTable<K, Row>,
    key: K::SelfType<'_>,
) -> Outcome<Option<T>> {
    get(table, key, |row| decode::<T>(row))
}

/// Reads one number, if it is there.
pub(in crate::store::embedded) fn get_number<K: Key + 'static>(
    table: &impl ReadableTable<K, Row>,
    key: K::SelfType<'_>,
) -> Outcome<Option<u64>> {
    get_value(table, key)
}

macro_rules! codes {
    ($($encode:ident, $decode:ident: $type:ty { $($variant:path = $code:literal),* })*) => {$(
        pub(in crate::store::embedded) fn $encode(value: $type) -> u8 {
            match value { $($variant => $code),* }
        }

        pub(in crate::store::embedded) fn $decode(code: u8) -> Outcome<$type> {
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
pub(in crate::store::embedded) enum IdRow<'a> {
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
    pub(in crate::store::embedded) fn id(self) -> Id {
        match self {
            IdRow::Number(number) => Id::Number(number),
            IdRow::Text(text) => Id::Text(text.into()),
        }
    }

    pub(in crate::store::embedded) fn user(self) -> UserId {
        UserId::stored(self.id())
    }

    pub(in crate::store::embedded) fn room(self) -> RoomId {
        RoomId::stored(self.id())
    }

    pub(in crate::store::embedded) fn lesson(self) -> LessonId {
        LessonId::stored(self.id())
    }
}

/// The next id that a store gives. A message takes it further by being there, without a row of `meta` beside it.
pub(in crate::store::embedded) fn next_id(
    meta: &impl ReadableTable<&'static str, Row>,
    messages: &impl ReadableTable<K8, Row>,
) -> Outcome<Option<u64>> {
    let Some(next) = get_number(meta, meta::NEXT_ID)? else { return Ok(None) };
    let last = messages.last()?.map_or(0, |(key, _)| u64::from_be_bytes(*key.value()));
    Ok(Some(next.max(last.saturating_add(1))))
}
