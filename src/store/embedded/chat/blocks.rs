//! What a transaction writes and reads of the places of messages and of who has said something where: see
//! [`crate::store::embedded::chat::places`].

use std::collections::{BTreeSet, HashSet};

use redb::{ReadableTable, Table};

use crate::domain::Timestamp;
use crate::store::embedded::chat::places::{OwnMessages, block_of, messages_in};
use crate::store::embedded::chat::rows::InRoom;
use crate::store::embedded::engine::batch::Batch;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{K16, K24, Row, k16, k24, triple};

impl<'t> Batch<'t, '_> {
    /// Puts a message into the index of its room.
    pub(in crate::store::embedded) fn put_place(&mut self, room: u64, id: u64, row: InRoom) -> Outcome<()> {
        self.t.in_rooms.write()?.insert(&k16(room, id), row.encode(&mut self.buffer)?)?;
        Ok(())
    }

    /// Somebody has said something in a room: that is written once a block.
    pub(in crate::store::embedded) fn note_block(&mut self, user: u64, id: u64, room: u64) -> Outcome<()> {
        let key = k24(user, block_of(id), room);
        if self.t.msg_blocks.read()?.get(&key)?.is_none() {
            self.t.msg_blocks.write()?.insert(&key, ())?;
        }
        Ok(())
    }

    /// Somebody's messages, from the first on.
    pub(in crate::store::embedded) fn own_messages(
        &self,
        user: u64,
        most: usize,
    ) -> Outcome<OwnMessages<'_, Table<'t, K24, ()>, Table<'t, K16, Row>>> {
        Ok(OwnMessages::new(self.t.msg_blocks.read()?, self.t.in_rooms.read()?, user, 0, most))
    }

    /// When somebody's newest message was said.
    pub(in crate::store::embedded) fn newest_message_of(&self, user: u64) -> Outcome<Option<Timestamp>> {
        let (low, high) = (k24(user, 0, 0), k24(user, u64::MAX, u64::MAX));
        let (mut block, mut newest) = (None, None);
        for row in self.t.msg_blocks.read()?.range::<&[u8; 24]>(&low..=&high)?.rev() {
            let (_, here, room) = triple(row?.0.value());
            if block != Some(here) && newest.is_some() {
                break;
            }
            block = Some(here);
            messages_in(self.t.in_rooms.read()?, room, here, |id, row| {
                if row.sender == user {
                    newest = newest.max(Some((id, row.at)));
                }
            })?;
        }
        Ok(newest.map(|(_, at)| Timestamp(at)))
    }

    /// The first of these rooms in which there are messages of somebody.
    pub(in crate::store::embedded) fn written_in(&self, user: u64, rooms: &[u64]) -> Outcome<Option<u64>> {
        for row in self.t.msg_blocks.read()?.range::<&[u8; 24]>(&k24(user, 0, 0)..=&k24(user, u64::MAX, u64::MAX))? {
            let (.., room) = triple(row?.0.value());
            if rooms.contains(&room) {
                return Ok(Some(room));
            }
        }
        Ok(None)
    }

    /// Messages of a room are gone: in which blocks they were, and whose. Where others of theirs are left in a block, it stays.
    pub(in crate::store::embedded) fn forget_blocks(&mut self, room: u64, gone: &BTreeSet<(u64, u64)>) -> Outcome<()> {
        // In the order of blocks, so that each is looked at once.
        let (mut looked_at, mut left) = (None, HashSet::new());
        for (block, user) in gone {
            if looked_at.replace(*block) != Some(*block) {
                left.clear();
                messages_in(self.t.in_rooms.read()?, room, *block, |_, row| {
                    left.insert(row.sender);
                })?;
            }
            if !left.contains(user) {
                self.t.msg_blocks.write()?.remove(&k24(*user, *block, room))?;
            }
        }
        Ok(())
    }

    /// No message of somebody is left before this id, or none at all.
    pub(in crate::store::embedded) fn forget_blocks_of(&mut self, user: u64, before: Option<u64>) -> Outcome<()> {
        let end = before.map_or(u64::MAX, block_of);
        Ok(self.t.msg_blocks.write()?.remove_range::<&[u8; 24]>(&k24(user, 0, 0)..&k24(user, end, 0))?)
    }
}
