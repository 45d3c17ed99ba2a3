//! What is in a room: its messages, and behind them its members. A message has a row there, which says when it was said and by whom;
//! so nothing else is written for that with each message. A room's record is written when something of it changes, and its latest
//! message is the last that is there. And of a person it is known among which ids of which rooms they have said something, in
//! blocks: who goes through their messages goes through the rooms there, which is never more than a block of ids.

use std::collections::VecDeque;

use redb::ReadableTable;

use crate::domain::Timestamp;
use crate::domain::chat::RoomRecord;
use crate::store::embedded::access::rows::decode_room;
use crate::store::embedded::chat::rows::InRoom;
use crate::store::embedded::engine::codec::get;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{K8, K16, K24, Row, k8, k16, k24, second, triple};

/// A block has so many ids, as a power of two. Larger ones are written less often, and cost who goes through them more.
const BLOCK_BITS: u32 = 14;

/// Members stand behind the messages of their room, beside the newest: who says something has read it, and both are written in
/// one place. No id has this bit.
const MEMBERS: u64 = 1 << 63;

/// The end of a room's messages.
pub(in crate::store::embedded) const LAST_MESSAGE: u64 = MEMBERS - 1;

/// The key of a member. What is no number of anybody stands behind all of them.
pub(in crate::store::embedded) fn member_key(room: u64, user: u64) -> [u8; 16] {
    k16(room, MEMBERS.saturating_add(user))
}

/// The member of a key.
pub(in crate::store::embedded) fn member_of(key: &[u8; 16]) -> u64 {
    second(key) & !MEMBERS
}

/// Whether a key is a member's; else it is a message's.
pub(in crate::store::embedded) fn is_member(key: &[u8; 16]) -> bool {
    second(key) & MEMBERS != 0
}

/// The block of an id.
pub(in crate::store::embedded) fn block_of(id: u64) -> u64 {
    id >> BLOCK_BITS
}

/// The ids of a block: the first and the last.
fn ids_of(block: u64) -> (u64, u64) {
    let first = block << BLOCK_BITS;
    (first, first | ((1 << BLOCK_BITS) - 1))
}

/// The `seq` of a message of a room; `None` if it is not one of it.
pub(in crate::store::embedded) fn seq_of(
    by_room: &impl ReadableTable<K16, Row>,
    room: u64,
    id: u64,
) -> Outcome<Option<u64>> {
    // Whoever asks may ask for any number.
    if id > LAST_MESSAGE {
        return Ok(None);
    }
    Ok(get(by_room, &k16(room, id), InRoom::decode)?.map(|row| row.seq))
}

/// The latest message of a room that is there.
pub(in crate::store::embedded) fn last_place(
    by_room: &impl ReadableTable<K16, Row>,
    room: u64,
) -> Outcome<Option<(u64, InRoom)>> {
    let last = by_room.range::<&[u8; 16]>(&k16(room, 0)..=&k16(room, LAST_MESSAGE))?.next_back().transpose()?;
    last.map(|(key, value)| Ok((second(key.value()), InRoom::decode(value.value())?))).transpose()
}

/// The record of a room, with its latest message.
pub(in crate::store::embedded) fn read_record(
    rooms: &impl ReadableTable<K8, Row>,
    by_room: &impl ReadableTable<K16, Row>,
    room: u64,
) -> Outcome<Option<RoomRecord>> {
    let (record, last) = (get(rooms, &k8(room), decode_room)?, last_place(by_room, room)?);
    Ok(record.map(|record| match last {
        // What is in the record may be behind, or be of a message that is gone.
        Some((id, last)) if id > record.last_id => {
            RoomRecord { last_id: id, last_seq: last.seq, last_at: record.last_at.max(Timestamp(last.at)), ..record }
        }
        _ => record,
    }))
}

/// So many rows of rooms are looked at for each message that is asked for: what somebody has said may be little among much.
pub(in crate::store::embedded) const LOOKED_AT: usize = 100;

/// The ids of somebody's messages from one on, in their order, as far as they are asked for; or until so many rows have been
/// looked at, of a block always all. [`OwnMessages::rest`] says whether that was the end.
pub(in crate::store::embedded) struct OwnMessages<'t, B, R> {
    blocks: &'t B,
    by_room: &'t R,
    user: u64,
    from: u64,
    /// The next block to look at; `None` behind the last.
    next: Option<u64>,
    found: VecDeque<u64>,
    looked_at: usize,
    most: usize,
}

impl<'t, B: ReadableTable<K24, ()>, R: ReadableTable<K16, Row>> OwnMessages<'t, B, R> {
    pub(in crate::store::embedded) fn new(
        blocks: &'t B,
        by_room: &'t R,
        user: u64,
        from: u64,
        most: usize,
    ) -> OwnMessages<'t, B, R> {
        let (next, found) = (Some(block_of(from)), VecDeque::new());
        OwnMessages { blocks, by_room, user, from, next, found, looked_at: 0, most }
    }

    /// From which id on there is more, as far as that is known; `None` at the end.
    pub(in crate::store::embedded) fn rest(&self) -> Option<u64> {
        self.found.front().copied().or_else(|| self.next.map(|block| ids_of(block).0))
    }

    /// Looks at one block that has some.
    fn look(&mut self) -> Outcome<()> {
        let Some(from) = self.next.take() else { return Ok(()) };
        let (low, high) = (k24(self.user, from, 0), k24(self.user, u64::MAX, u64::MAX));
        let mut block = None;
        let mut found = Vec::new();
        for row in self.blocks.range::<&[u8; 24]>(&low..=&high)? {
            let (_, here, room) = triple(row?.0.value());
            if *block.get_or_insert(here) != here {
                break;
            }
            self.looked_at += messages_in(self.by_room, room, here, |id, row| {
                if row.sender == self.user && id >= self.from {
                    found.push(id);
                }
            })?;
        }
        found.sort_unstable();
        self.found.extend(found);
        self.next = block.map(|block| block + 1);
        Ok(())
    }
}

impl<B: ReadableTable<K24, ()>, R: ReadableTable<K16, Row>> Iterator for OwnMessages<'_, B, R> {
    type Item = Outcome<u64>;

    fn next(&mut self) -> Option<Outcome<u64>> {
        while self.found.is_empty() && self.next.is_some() && self.looked_at < self.most {
            if let Err(failure) = self.look() {
                return Some(Err(failure));
            }
        }
        self.found.pop_front().map(Ok)
    }
}

/// Visits the messages of a room in a block; how many there are.
pub(super) fn messages_in(
    by_room: &impl ReadableTable<K16, Row>,
    room: u64,
    block: u64,
    mut visit: impl FnMut(u64, InRoom),
) -> Outcome<usize> {
    let (first, last) = ids_of(block);
    let mut count = 0;
    for row in by_room.range::<&[u8; 16]>(&k16(room, first)..=&k16(room, last))? {
        let (key, value) = row?;
        visit(second(key.value()), InRoom::decode(value.value())?);
        count += 1;
    }
    Ok(count)
}
