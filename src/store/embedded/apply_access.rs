//! What the writer does for whoever decides who may be where: bans, rooms and their members. A room that is removed loses
//! its id, its members and their marks at once, and its messages slice by slice.

use redb::ReadableTable;

use super::batch::Batch;
use super::failure::{Failure, Outcome};
use super::records::{
    MemberRow, decode, decode_message, decode_room, encode, encode_room, get, get_value, membership_code,
};
use super::records_care::{BanRow, ban_key};
use super::schema::{k8, k16, meta, second};
use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Membership, RoomDraft, RoomPatch, RoomRecord};
use crate::domain::privacy::Subject;
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::access::MAX_BANS;

impl Batch<'_, '_> {
    pub(super) fn ban(&mut self, banned: Banned) -> Outcome<()> {
        let now = self.now.0;
        let mut ended = Vec::new();
        let mut standing = 0;
        for row in self.t.bans.read()?.iter()? {
            let (key, value) = row?;
            if decode::<BanRow<'_>>(value.value())?.until.is_some_and(|until| until <= now) {
                ended.push(key.value().to_vec());
            } else {
                standing += 1;
            }
        }
        let key = ban_key(&banned.ban);
        let before = get(self.t.bans.read()?, key.as_bytes(), |row| decode::<BanRow<'_>>(row)?.banned(key.as_bytes()))?;
        if before.is_none() && standing >= MAX_BANS {
            return Err(Refusal::Conflict.into());
        }
        self.touch();
        for key in &ended {
            self.t.bans.write()?.remove(key.as_slice())?;
        }
        let banned = banned.following(before.as_ref());
        self.t.bans.write()?.insert(key.as_bytes(), encode(&BanRow::of(&banned), &mut self.buffer)?)?;
        Ok(())
    }

    pub(super) fn lift(&mut self, ban: &Ban) -> Outcome<Banned> {
        let key = ban_key(ban);
        let found = get(self.t.bans.read()?, key.as_bytes(), |row| decode::<BanRow<'_>>(row)?.banned(key.as_bytes()))?;
        let banned = found.ok_or(Refusal::NotFound)?;
        self.touch();
        self.t.bans.write()?.remove(key.as_bytes())?;
        Ok(banned)
    }

    fn number_of(&mut self, room: &RoomId) -> Outcome<u64> {
        Ok(self.find_room(room)?.ok_or(Refusal::NotFound)?.0)
    }

    pub(super) fn create_room(&mut self, draft: RoomDraft) -> Outcome<RoomRecord> {
        if self.find_room(&draft.id)?.is_some() {
            return Err(Refusal::Conflict.into());
        }
        let record = RoomRecord { name: draft.name, private: draft.private, ..RoomRecord::new(draft.id, draft.at) };
        let room = self.add_room(record.clone())?;
        for (user, membership) in &draft.members {
            let user = self.user(user)?;
            self.put_member(room, user, MemberRow { membership: membership_code(*membership), ..MemberRow::guest() })?;
        }
        Ok(record)
    }

    pub(super) fn patch_room(&mut self, room: &RoomId, patch: &RoomPatch) -> Outcome<RoomRecord> {
        let no = self.number_of(room)?;
        if patch.admit_guests {
            for user in self.members_of(no)? {
                let Some(row) = self.member(no, user)? else { continue };
                if row.membership()? == Membership::Guest {
                    self.put_member(no, user, MemberRow { membership: membership_code(Membership::Member), ..row })?;
                }
            }
        }
        self.change_room(room, |record| {
            patch.apply(record);
            record.clone()
        })
    }

    pub(super) fn set_member(
        &mut self,
        room: &RoomId,
        user: &UserId,
        membership: Membership,
    ) -> Outcome<Option<Membership>> {
        let no = self.number_of(room)?;
        let user = self.user(user)?;
        let before = self.member(no, user)?;
        let row = before.unwrap_or_else(MemberRow::guest);
        self.put_member(no, user, MemberRow { membership: membership_code(membership), ..row })?;
        before.map(|row| row.membership()).transpose()
    }

    pub(super) fn remove_member(&mut self, room: &RoomId, user: &UserId) -> Outcome<Membership> {
        let no = self.number_of(room)?;
        let user = self.find_user(user)?.ok_or(Refusal::NotFound)?;
        let row = self.member(no, user)?.ok_or(Refusal::NotFound)?;
        self.expel_member(no, user, row)?;
        row.membership()
    }

    fn expel_member(&mut self, room: u64, user: u64, row: MemberRow) -> Outcome<()> {
        if row.read_change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(room, row.read_change))?;
        }
        self.forget_member(room, user)
    }

    /// Everybody who takes part in a room, as the table has it and as this batch has changed it.
    fn members_of(&mut self, room: u64) -> Outcome<Vec<u64>> {
        let mut users = self.new_members_of(room);
        for row in self.t.members.read()?.range::<&[u8; 16]>(&k16(room, 0)..=&k16(room, u64::MAX))? {
            users.insert(second(row?.0.value()));
        }
        Ok(users.into_iter().collect())
    }

    pub(super) fn begin_removal(&mut self, room: &RoomId) -> Outcome<RoomRecord> {
        let no = self.number_of(room)?;
        if self.is_held(&Subject::Room(room.clone()))? {
            return Err(Refusal::Held.into());
        }
        let members = self.members_of(no)?;
        for user in &members {
            let user = self.person(*user)?.id;
            if self.is_held(&Subject::User(user))? {
                return Err(Refusal::Held.into());
            }
        }
        for user in members {
            if let Some(row) = self.member(no, user)? {
                self.expel_member(no, user, row)?;
            }
        }
        let record = self.forget_room(room)?.ok_or(Refusal::NotFound)?;
        // What the writer knew by heart is the newest; its messages are looked for by the number alone from here on.
        self.t.rooms.write()?.insert(&k8(no), encode_room(&record, &mut self.buffer)?)?;
        let mut doomed = self.doomed()?;
        doomed.push(no);
        self.put_doomed(&doomed)?;
        Ok(record)
    }

    /// Rooms that are gone, and whose messages are not all removed yet.
    pub(super) fn doomed(&self) -> Outcome<Vec<u64>> {
        Ok(get_value(self.t.meta.read()?, meta::DOOMED)?.unwrap_or_default())
    }

    fn put_doomed(&mut self, doomed: &[u64]) -> Outcome<()> {
        self.touch();
        if doomed.is_empty() {
            self.t.meta.write()?.remove(meta::DOOMED)?;
        } else {
            self.t.meta.write()?.insert(meta::DOOMED, encode(&doomed, &mut self.buffer)?)?;
        }
        Ok(())
    }

    pub(super) fn remove_messages(&mut self, limit: usize) -> Outcome<bool> {
        let mut doomed = self.doomed()?;
        let Some(no) = doomed.first().copied() else { return Ok(true) };
        let missing = || Failure::Damaged(format!("room {no} is to be removed, and has no record"));
        let mut record = get(self.t.rooms.read()?, &k8(no), decode_room)?.ok_or_else(missing)?;
        let mut ids = Vec::new();
        for row in self.t.msg_by_room.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(limit.max(1)) {
            ids.push(second(row?.0.value()));
        }
        for id in &ids {
            let read = |row: &[u8]| decode_message(row, *id, &record.id);
            let Some((message, place)) = get(self.t.messages.read()?, &k8(*id), read)? else { continue };
            self.remove_message(&message, place)?;
            record.purged_seq = message.seq;
        }
        if ids.len() == limit.max(1) {
            // The record says from where on there are messages, as behind a purge: a store that is cut off here is whole.
            self.t.rooms.write()?.insert(&k8(no), encode_room(&record, &mut self.buffer)?)?;
            return Ok(false);
        }
        let mut changes = Vec::new();
        for row in self.t.changes_by_room.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            changes.push(*row?.0.value());
        }
        for key in &changes {
            self.t.changes_by_room.write()?.remove(key)?;
        }
        self.t.rooms.write()?.remove(&k8(no))?;
        doomed.retain(|other| *other != no);
        self.put_doomed(&doomed)?;
        Ok(doomed.is_empty())
    }
}
