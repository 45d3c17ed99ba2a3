//! Reads for a search: see [`crate::store::searched`].

use std::collections::HashMap;

use crate::domain::RoomId;
use crate::domain::chat::{Author, Message, RoomPolicy, is_listed, may_enter};
use crate::store::embedded::access::rows::{MemberRow, decode_room};
use crate::store::embedded::chat::places::{member_key, read_record};
use crate::store::embedded::chat::read::{Ids, shown};
use crate::store::embedded::chat::rows::decode_message;
use crate::store::embedded::engine::codec::{get, get_number};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, k8, k16, second};
use crate::store::searched::{Searchable, SearchablePart};

/// So many rows are read at once,
const PART_ROWS: usize = 1_000;
/// or about so many bytes.
const PART_BYTES: usize = 1 << 20;

impl Snapshot {
    /// The id of a room by its number. One that is being removed is not there any more: its id may be another one's.
    pub(in crate::store::embedded) fn room_by_number(&self, no: u64) -> Outcome<Option<RoomId>> {
        let Some(room) = get(&self.rooms()?, &k8(no), decode_room)?.map(|record| record.id) else { return Ok(None) };
        let is_there = get_number(&self.room_no()?, room.canonical().as_bytes())? == Some(no);
        Ok(is_there.then_some(room))
    }

    pub(in crate::store::embedded) fn searchable_behind(&self, after: u64, up_to: u64) -> Outcome<SearchablePart> {
        let mut part = SearchablePart { messages: Vec::new(), up_to };
        let nowhere = RoomId::number(0);
        let mut rooms = HashMap::new();
        let (mut rows, mut bytes) = (0, 0);
        for row in self.messages()?.range::<&[u8; 8]>(&k8(after.saturating_add(1))..=&k8(up_to.max(after)))? {
            let (key, value) = row?;
            let id = u64::from_be_bytes(*key.value());
            let (message, place) = decode_message(value.value(), id, &nowhere)?;
            (rows, bytes) = (rows + 1, bytes + value.value().len());
            let is_there = match rooms.get(&place.room) {
                Some(is_there) => *is_there,
                None => {
                    let is_there = self.room_by_number(place.room)?.is_some();
                    rooms.insert(place.room, is_there);
                    is_there
                }
            };
            if message.deleted_at.is_none() && is_there {
                let Message { content, .. } = message;
                part.messages.push(Searchable { id, room: place.room, content, change: place.change });
            }
            if rows >= PART_ROWS || bytes >= PART_BYTES {
                part.up_to = id;
                break;
            }
        }
        Ok(part)
    }

    pub(in crate::store::embedded) fn searchable(&self, messages: &[u64]) -> Outcome<Vec<Option<Searchable>>> {
        let (table, nowhere) = (self.messages()?, RoomId::number(0));
        let one = |id: &u64| -> Outcome<Option<Searchable>> {
            let Some((message, place)) = get(&table, &k8(*id), |row| decode_message(row, *id, &nowhere))? else {
                return Ok(None);
            };
            if message.deleted_at.is_some() || self.room_by_number(place.room)?.is_none() {
                return Ok(None);
            }
            Ok(Some(Searchable { id: *id, room: place.room, content: message.content, change: place.change }))
        };
        messages.iter().map(one).collect()
    }

    pub(in crate::store::embedded) fn rooms_gone(&self, rooms: &[u64]) -> Outcome<Vec<u64>> {
        let mut gone = Vec::new();
        for room in rooms {
            if self.room_by_number(*room)?.is_none() {
                gone.push(*room);
            }
        }
        Ok(gone)
    }

    /// Whether a room is on somebody's list, and they may enter it.
    fn is_on_list(&self, room: u64, user: u64, viewer: &Author, policy: RoomPolicy) -> Outcome<bool> {
        let by_room = self.in_rooms()?;
        let Some(row) = get(&by_room, &member_key(room, user), MemberRow::decode)? else { return Ok(false) };
        let Some(record) = read_record(&self.rooms()?, &by_room, room)? else { return Ok(false) };
        let membership = row.membership()?;
        let may = may_enter(Some(record.private), Some(membership), viewer.admin, policy).is_ok();
        Ok(may && is_listed(membership, row.left_at, record.last_seq))
    }

    pub(in crate::store::embedded) fn searched_rooms(
        &self,
        viewer: &Author,
        room: Option<&RoomId>,
        policy: RoomPolicy,
    ) -> Outcome<Vec<u64>> {
        if let Some(room) = room {
            self.may_enter(room, viewer, policy)?;
            return Ok(self.find_room(room)?.map(|(no, _)| no).into_iter().collect());
        }
        let Some(user) = self.find_user(&viewer.user)? else { return Ok(Vec::new()) };
        let mut rooms = Vec::new();
        for row in self.member_rooms()?.range::<&[u8; 16]>(&k16(user, 0)..=&k16(user, u64::MAX))? {
            let room = second(row?.0.value());
            if self.is_on_list(room, user, viewer, policy)? {
                rooms.push(room);
            }
        }
        Ok(rooms)
    }

    pub(in crate::store::embedded) fn found(
        &self,
        messages: &[u64],
        viewer: &Author,
        room: Option<&RoomId>,
        policy: RoomPolicy,
    ) -> Outcome<Vec<Message>> {
        let (table, users) = (self.messages()?, self.users()?);
        let mut people = Ids::of(&users);
        let mut rooms: HashMap<u64, Option<RoomId>> = HashMap::new();
        let (mut user, is_in_one) = (None, room.is_some());
        match room {
            Some(room) => {
                self.may_enter(room, viewer, policy)?;
                rooms.extend(self.find_room(room)?.map(|(no, _)| (no, Some(room.clone()))));
            }
            None => user = self.find_user(&viewer.user)?,
        }
        let nowhere = RoomId::number(0);
        let mut found = Vec::with_capacity(messages.len());
        for id in messages {
            let Some((message, place)) = get(&table, &k8(*id), |row| decode_message(row, *id, &nowhere))? else {
                continue;
            };
            if !is_in_one && !rooms.contains_key(&place.room) {
                let is_theirs = match user {
                    Some(user) => self.is_on_list(place.room, user, viewer, policy)?,
                    None => false,
                };
                let theirs = if is_theirs { self.room_by_number(place.room)? } else { None };
                rooms.insert(place.room, theirs);
            }
            let Some(Some(room)) = rooms.get(&place.room) else { continue };
            if message.deleted_at.is_none() {
                found.push(shown((Message { room: room.clone(), ..message }, place), &mut people)?);
            }
        }
        Ok(found)
    }
}
