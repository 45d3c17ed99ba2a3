//! Rows of what is to be told to the platform.

use serde::{Deserialize, Serialize};

use crate::domain::{RoomId, UserId};
use crate::store::embedded::engine::codec::IdRow;
use crate::store::embedded::engine::schema::hash16;

/// What is to be told. It has numbers of users and no texts of theirs: whose number is gone has nothing told of them.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) enum HookRow<'a> {
    /// A message, and which event of it.
    Message { event: u8, message: u64 },
    /// (user, lesson).
    Progress { user: u64, lesson: u64 },
    /// Notifications that somebody has read: these, or all up to one.
    Read { user: u64, ids: Option<Vec<u64>>, up_to: Option<u64>, unread: u64 },
    /// Somebody who came or went.
    Sighting {
        user: u64,
        #[serde(borrow)]
        room: Option<IdRow<'a>>,
        has_come: bool,
    },
    /// Changes up to an id that there was no place for.
    Gap { to: u64, changes: u64 },
}

/// A row of the outbox; its change is its key.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct Outgoing<'a> {
    pub(in crate::store::embedded) at: u64,
    pub(in crate::store::embedded) lane: Option<u64>,
    #[serde(borrow)]
    pub(in crate::store::embedded) what: HookRow<'a>,
}

/// A row of the dead letters.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct Dead<'a> {
    #[serde(borrow)]
    pub(in crate::store::embedded) outgoing: Outgoing<'a>,
    pub(in crate::store::embedded) given_up_at: u64,
    pub(in crate::store::embedded) attempts: u32,
    pub(in crate::store::embedded) why: &'a str,
}

/// Where the platform was told that somebody is: the room, or here at all.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct SightedRow<'a> {
    #[serde(borrow)]
    pub(in crate::store::embedded) room: Option<IdRow<'a>>,
}

fn number(kind: u8, id: &str) -> u64 {
    let hash = hash16(&[&[kind], id.as_bytes()]);
    hash.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk))
}

/// What happens in a room is told in order.
pub(in crate::store::embedded) fn lane_of_room(room: &RoomId) -> u64 {
    number(1, &room.canonical())
}

/// What happens to a user is told in order.
pub(in crate::store::embedded) fn lane_of_user(user: &UserId) -> u64 {
    number(2, &user.canonical())
}

/// The second number of the key under which it is kept that somebody is in a room; that of no room is 0.
pub(in crate::store::embedded) fn place_of(room: Option<&RoomId>) -> u64 {
    room.map_or(0, |room| lane_of_room(room).max(1))
}
