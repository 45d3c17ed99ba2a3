//! Rows of notifications, of changes of an inbox, and of broadcasts that have not gone out.

use serde::{Deserialize, Serialize};

use crate::domain::notification::{Audience, Ending, Notification, NotificationBody};
use crate::domain::{Room, Timestamp};
use crate::store::embedded::engine::codec::{IdRow, decode, decode_2, encode, role_code, role_of};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::operations::Broadcast;

/// A notification that is over, as its audience is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::store::embedded) struct WithdrawnRow {
    pub(in crate::store::embedded) notification: u64,
    pub(in crate::store::embedded) ending: u8,
}

pub(in crate::store::embedded) fn ending_code(ending: Ending) -> u8 {
    match ending {
        Ending::Ended => 0,
        Ending::Recalled => 1,
        Ending::Missed => 2,
    }
}

pub(in crate::store::embedded) fn ending_of(code: u8) -> Outcome<Ending> {
    match code {
        0 => Ok(Ending::Ended),
        1 => Ok(Ending::Recalled),
        2 => Ok(Ending::Missed),
        _ => Err(Failure::Damaged(format!("{code} is no way in which a notification ends"))),
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

pub(in crate::store::embedded) fn encode_notification<'b>(
    one: &Notification,
    buffer: &'b mut Vec<u8>,
) -> Outcome<&'b [u8]> {
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

pub(in crate::store::embedded) fn decode_notification(bytes: &[u8], id: u64, read: bool) -> Outcome<Notification> {
    let row: NotificationRow<'_> = decode(bytes)?;
    let audience = match row.audience {
        AudienceRow::All => Audience::All,
        AudienceRow::Role(code) => Audience::Role(role_of(code)?),
        AudienceRow::Users(users) => Audience::Users(users.into_iter().map(IdRow::user).collect()),
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
pub(in crate::store::embedded) struct InboxChangeRow {
    pub(in crate::store::embedded) ids: Option<Vec<u64>>,
    pub(in crate::store::embedded) action: u8,
    pub(in crate::store::embedded) up_to: Option<u64>,
}

impl InboxChangeRow {
    pub(in crate::store::embedded) fn decode(bytes: &[u8]) -> Outcome<InboxChangeRow> {
        decode_2(bytes, |InboxChangeRow1 { ids, action }| Ok(InboxChangeRow { ids, action, up_to: None }))
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

pub(in crate::store::embedded) fn encode_broadcast<'b>(
    broadcast: &Broadcast,
    buffer: &'b mut Vec<u8>,
) -> Outcome<&'b [u8]> {
    let rooms = broadcast.rooms.iter().map(|room| match room {
        Room::All => RoomNameRow::All,
        Room::Role(role) => RoomNameRow::Role(role_code(*role)),
        Room::User(user) => RoomNameRow::User(user.id().into()),
        Room::Chat(room) => RoomNameRow::Chat(room.id().into()),
    });
    let row = BroadcastRow { rooms: rooms.collect(), event: &broadcast.event, payload: &broadcast.payload };
    encode(&row, buffer)
}

pub(in crate::store::embedded) fn decode_broadcast(bytes: &[u8]) -> Outcome<Broadcast> {
    let row: BroadcastRow<'_> = decode(bytes)?;
    let rooms = row.rooms.into_iter().map(|room| {
        Ok(match room {
            RoomNameRow::All => Room::All,
            RoomNameRow::Role(code) => Room::Role(role_of(code)?),
            RoomNameRow::User(id) => Room::User(id.user()),
            RoomNameRow::Chat(id) => Room::Chat(id.room()),
        })
    });
    Ok(Broadcast {
        rooms: rooms.collect::<Outcome<_>>()?,
        event: row.event.to_owned(),
        payload: row.payload.to_owned(),
    })
}
