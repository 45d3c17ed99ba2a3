//! Rows of messages and of changes of a room.

use serde::{Deserialize, Serialize};

use crate::domain::chat::Message;
use crate::domain::{RoomId, Timestamp};
use crate::store::embedded::engine::codec::{
    IdRow, POSTCARD_2, POSTCARD_3, decode, decode_2, decode_3, encode, encode_2, encode_3, kind_code, kind_of,
};
use crate::store::embedded::engine::failure::{Failure, Outcome};

/// A message whose room was ahead of the clock when it was stored: when that was, by the clock. The others are stored as in
/// format 1.
#[derive(Serialize, Deserialize)]
struct LateMessageRow<'a> {
    #[serde(borrow)]
    row: MessageRow<'a>,
    stored_at: u64,
}

/// A message that somebody else than its sender has changed or deleted. The others are stored as before format 6.
#[derive(Serialize, Deserialize)]
struct ModeratedMessageRow<'a> {
    #[serde(borrow)]
    row: MessageRow<'a>,
    stored_at: Option<u64>,
    edited_by: Option<u64>,
    deleted_by: Option<u64>,
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
pub(in crate::store::embedded) struct Place {
    /// The room's number.
    pub(in crate::store::embedded) room: u64,
    /// The sender's number.
    pub(in crate::store::embedded) sender: u64,
    /// The latest edit's or the deletion's change; 0 if there is none.
    pub(in crate::store::embedded) change: u64,
    /// When it was stored by the clock of then; `None` if the message itself says so. Times within a room never fall, and a
    /// purge goes by this.
    pub(in crate::store::embedded) stored_at: Option<Timestamp>,
    /// The number of whoever last changed it, if that was not the sender. Numbers, not ids: of whoever is erased, nothing is
    /// left to be found here.
    pub(in crate::store::embedded) edited_by: Option<u64>,
    /// The number of whoever deleted it, if that was not the sender.
    pub(in crate::store::embedded) deleted_by: Option<u64>,
}

impl Place {
    /// When a message was stored, by the clock of then.
    pub(in crate::store::embedded) fn stored_at(&self, message: &Message) -> Timestamp {
        self.stored_at.unwrap_or(message.at)
    }
}

pub(in crate::store::embedded) fn encode_message<'b>(
    message: &Message,
    place: Place,
    buffer: &'b mut Vec<u8>,
) -> Outcome<&'b [u8]> {
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
    match (place.stored_at, place.edited_by, place.deleted_by) {
        (None, None, None) => encode(&row, buffer),
        (Some(stored_at), None, None) => encode_2(&LateMessageRow { row, stored_at: stored_at.0 }, buffer),
        (stored_at, edited_by, deleted_by) => {
            let stored_at = stored_at.map(Timestamp::as_millis);
            encode_3(&ModeratedMessageRow { row, stored_at, edited_by, deleted_by }, buffer)
        }
    }
}

/// A message without the ids of who else has changed it: its place has their numbers, which
/// [`crate::store::embedded::chat::read::shown`] resolves for whoever is shown the message.
pub(in crate::store::embedded) fn decode_message(bytes: &[u8], id: u64, room: &RoomId) -> Outcome<(Message, Place)> {
    let (row, stored_at, edited_by, deleted_by) = match bytes.first() {
        Some(&POSTCARD_3) => {
            let ModeratedMessageRow { row, stored_at, edited_by, deleted_by } = decode_3(bytes)?;
            (row, stored_at.map(Timestamp), edited_by, deleted_by)
        }
        Some(&POSTCARD_2) => {
            let LateMessageRow { row, stored_at } = decode_2(bytes, |row| Ok(LateMessageRow { row, stored_at: 0 }))?;
            (row, Some(Timestamp(stored_at)), None, None)
        }
        _ => (decode::<MessageRow<'_>>(bytes)?, None, None, None),
    };
    let message = Message {
        id,
        seq: row.seq,
        room: room.clone(),
        sender: row.sender_id.user(),
        sender_name: row.sender_name.to_owned(),
        content: row.content.to_owned(),
        kind: kind_of(row.kind)?,
        reply_to: row.reply_to,
        client_id: row.client_id.map(str::to_owned),
        at: Timestamp(row.at),
        edited_at: row.edited_at.map(Timestamp),
        deleted_at: row.deleted_at.map(Timestamp),
        edited_by: None,
        deleted_by: None,
    };
    let (room, sender, change) = (row.room, row.sender, row.change);
    Ok((message, Place { room, sender, change, stored_at, edited_by, deleted_by }))
}

/// A message in the index of its room. Format 8 and before had its `seq` alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct InRoom {
    pub(in crate::store::embedded) seq: u64,
    /// When it was said: what the message itself has.
    pub(in crate::store::embedded) at: u64,
    /// The sender's number.
    pub(in crate::store::embedded) sender: u64,
}

impl InRoom {
    /// The place of a message. `sender` is the number of whoever it is of.
    pub(in crate::store::embedded) fn of(message: &Message, sender: u64) -> InRoom {
        InRoom { seq: message.seq, at: message.at.0, sender }
    }

    pub(in crate::store::embedded) fn encode(self, buffer: &mut Vec<u8>) -> Outcome<&[u8]> {
        encode_2(&self, buffer)
    }

    pub(in crate::store::embedded) fn decode(bytes: &[u8]) -> Outcome<InRoom> {
        decode_2(bytes, |seq: u64| Err(Failure::Damaged(format!("the index of a room has seq {seq} alone"))))
    }
}

/// A change of a room that is not a new message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) enum RoomChangeRow {
    /// Of this message.
    Edited(u64),
    /// Of this message.
    Deleted(u64),
    /// By this user.
    Read(u64),
    /// The room's state is another one, since format 10.
    State,
}
