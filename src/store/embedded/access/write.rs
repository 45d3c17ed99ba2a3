//! How it is decided who may be where: bans, rooms and their members. A room that is removed loses its id, its members and
//! their marks at once, and its messages slice by slice.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use redb::ReadableTable;

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Membership, RoomRecord};
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::Change;
use crate::store::access::MAX_BANS;
use crate::store::change::Admitted;
use crate::store::embedded::access::rows::{BanRow, MemberRow, ban_key, decode_room, encode_room};
use crate::store::embedded::chat::places::{LAST_MESSAGE, block_of, member_key, member_of};
use crate::store::embedded::chat::rows::decode_message;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode, get, get_value, membership_code};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{k8, k16, meta, second};
use crate::store::operations::{
    CreateRoom, Disconnect, LiftBan, PatchRoom, RemoveMember, RemoveMessages, RemoveRoom, SetBan, SetMember,
};

impl Apply for SetBan {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        batch.set_ban(self.banned).map(drop)
    }
}

impl Apply for LiftBan {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Banned> {
        batch.lift_ban(self.ban)
    }
}

impl Apply for Disconnect {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let id = batch.take_id()?;
        batch.tell(Change::Disconnected { id, user: self.user });
        Ok(())
    }
}

impl Apply for CreateRoom {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<RoomRecord> {
        let draft = self.draft;
        if batch.find_room(&draft.id)?.is_some() {
            return Err(Refusal::Conflict.into());
        }
        let room = draft.id.clone();
        let record = RoomRecord { name: draft.name, private: draft.private, ..RoomRecord::new(draft.id, batch.now) };
        let no = batch.add_room(record.clone())?;
        for (user, membership) in &draft.members {
            let user = batch.user(user)?;
            batch.put_member(
                no,
                user,
                MemberRow { membership: membership_code(*membership), ..MemberRow::guest(0) },
            )?;
        }
        batch.tell_room(&room)?;
        Ok(record)
    }
}

impl Apply for PatchRoom {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<RoomRecord> {
        let PatchRoom { room, patch } = self;
        let no = batch.number_of(&room)?;
        if patch.admit_guests {
            for user in batch.members_of(no)? {
                let Some(row) = batch.member(no, user)? else { continue };
                if row.membership()? == Membership::Guest {
                    let membership = membership_code(Membership::Member);
                    batch.put_member(no, user, MemberRow { membership, ..row })?;
                }
            }
        }
        let record = batch.change_room(&room, |record| {
            patch.apply(record);
            record.clone()
        })?;
        batch.tell_room(&room)?;
        Ok(record)
    }
}

impl Apply for SetMember {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Option<Membership>> {
        let SetMember { room, user, membership } = self;
        let (no, last_seq) = batch.find_seq(&room)?.ok_or(Refusal::NotFound)?;
        batch.refuse_erasing(&user)?;
        let user_no = batch.user(&user)?;
        let before = batch.member(no, user_no)?;
        let row = before.unwrap_or_else(|| MemberRow::guest(last_seq));
        batch.put_member(no, user_no, MemberRow { membership: membership_code(membership), ..row })?;
        let id = batch.take_id()?;
        batch.tell(Change::MemberSet { id, room, user, membership });
        before.map(|row| row.membership()).transpose()
    }
}

impl Apply for RemoveMember {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Membership> {
        let RemoveMember { room, user } = self;
        let no = batch.number_of(&room)?;
        let user_no = batch.find_user(&user)?.ok_or(Refusal::NotFound)?;
        let row = batch.member(no, user_no)?.ok_or(Refusal::NotFound)?;
        batch.expel_member(no, user_no, row)?;
        let id = batch.take_id()?;
        batch.tell(Change::MemberRemoved { id, room, user });
        row.membership()
    }
}

impl Apply for RemoveRoom {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<RoomRecord> {
        let room = self.room;
        let no = batch.number_of(&room)?;
        batch.refuse_held_room(&room, no)?;
        // Its id may be another room's at once, in which nobody has been muted.
        let muted: Vec<UserId> = batch.mutes()?.muted_in(&room).cloned().collect();
        for user in muted {
            batch.remove_ban(&Ban::Mute { user, room: Some(room.clone()) })?;
        }
        for user in batch.members_of(no)? {
            if let Some(row) = batch.member(no, user)? {
                batch.expel_member(no, user, row)?;
            }
        }
        let record = batch.forget_room(&room)?.ok_or(Refusal::NotFound)?;
        // What the writer knew by heart is the newest; its messages are looked for by the number alone from here on.
        batch.t.rooms.write()?.insert(&k8(no), encode_room(&record, &mut batch.buffer)?)?;
        let mut doomed = batch.doomed()?;
        doomed.push(no);
        batch.put_doomed(&doomed)?;
        let id = batch.take_id()?;
        batch.tell(Change::RoomRemoved { id, room });
        Ok(record)
    }
}

impl Apply for RemoveMessages {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<bool> {
        batch.remove_messages(self.limit)
    }
}

impl Batch<'_, '_> {
    fn standing_ban(&self, ban: &Ban) -> Outcome<Option<Banned>> {
        let key = ban_key(ban);
        get(self.t.bans.read()?, key.as_bytes(), |row| decode::<BanRow<'_>>(row)?.banned(key.as_bytes()))
    }

    /// Keeps a ban, tells of it, and gives it as it stands now.
    pub(in crate::store::embedded) fn set_ban(&mut self, banned: Banned) -> Outcome<Banned> {
        let banned = self.put_ban(banned)?;
        let id = self.take_id()?;
        self.tell(Change::Banned { id, banned: banned.clone() });
        Ok(banned)
    }

    /// Keeps a ban, and gives it as it stands now.
    pub(in crate::store::embedded) fn put_ban(&mut self, banned: Banned) -> Outcome<Banned> {
        let now = self.due().0;
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
        let before = self.standing_ban(&banned.ban)?;
        if before.is_none() && standing >= MAX_BANS {
            return Err(Refusal::Conflict.into());
        }
        self.touch();
        self.forget_mutes();
        for key in &ended {
            self.t.bans.write()?.remove(key.as_slice())?;
        }
        let key = ban_key(&banned.ban);
        let banned = banned.following(before.as_ref());
        self.t.bans.write()?.insert(key.as_bytes(), encode(&BanRow::of(&banned), &mut self.buffer)?)?;
        Ok(banned)
    }

    /// Takes a ban away, and tells of it.
    pub(in crate::store::embedded) fn lift_ban(&mut self, ban: Ban) -> Outcome<Banned> {
        let banned = self.standing_ban(&ban)?.ok_or(Refusal::NotFound)?;
        self.remove_ban(&ban)?;
        let id = self.take_id()?;
        self.tell(Change::Unbanned { id, ban });
        Ok(banned)
    }

    fn remove_ban(&mut self, ban: &Ban) -> Outcome<()> {
        self.touch();
        self.forget_mutes();
        self.t.bans.write()?.remove(ban_key(ban).as_bytes())?;
        Ok(())
    }

    /// Nobody is muted any more who is erased.
    pub(in crate::store::embedded) fn erase_mutes(&mut self, user: &UserId) -> Outcome<()> {
        let rooms: Vec<Option<RoomId>> = self.mutes()?.of(user).iter().map(|(room, _)| room.clone()).collect();
        rooms.into_iter().try_for_each(|room| self.remove_ban(&Ban::Mute { user: user.clone(), room }))
    }

    fn number_of(&mut self, room: &RoomId) -> Outcome<u64> {
        Ok(self.find_room(room)?.ok_or(Refusal::NotFound)?.0)
    }

    /// Tells of a room as it is now, with who is admitted where not everybody is.
    fn tell_room(&mut self, room: &RoomId) -> Outcome<()> {
        let id = self.take_id()?;
        let Some((no, record)) = self.find_record(room)?.map(|(no, record)| (no, record.clone())) else {
            return Ok(());
        };
        let admitted = if record.private { Some(self.admitted_to(no)?) } else { None };
        // With the JSON type of the request.
        let record = RoomRecord { id: room.clone(), ..record };
        self.tell(Change::RoomChanged { id, room: record, admitted });
        Ok(())
    }

    fn admitted_to(&mut self, no: u64) -> Outcome<Admitted> {
        let mut admitted = HashSet::new();
        for user in self.members_of(no)? {
            let is_admitted = match self.member(no, user)? {
                Some(row) => row.membership()?.admits(),
                None => false,
            };
            if is_admitted {
                admitted.insert(self.person(user)?.id);
            }
        }
        Ok(Arc::new(admitted))
    }

    /// Refuses to touch a room that is held, or in which somebody is or has written who is held.
    fn refuse_held_room(&mut self, room: &RoomId, no: u64) -> Outcome<()> {
        let held = self.held()?;
        if held.is_empty() {
            return Ok(());
        }
        let mut against = Vec::new();
        if held.holds_room(&no) {
            against.push(crate::domain::privacy::Subject::Room(room.clone()));
        }
        for user in held.users() {
            let wrote = self.t.authors.read()?.get(&k16(*user, no))?.is_some();
            if wrote || self.member(no, *user)?.is_some() || self.has_reported_in(*user, no)? {
                against.push(crate::domain::privacy::Subject::User(self.person(*user)?.id));
            }
        }
        self.refuse_by(&against)
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
        for row in self.t.in_rooms.read()?.range::<&[u8; 16]>(&member_key(room, 0)..=&member_key(room, u64::MAX))? {
            users.insert(member_of(row?.0.value()));
        }
        Ok(users.into_iter().collect())
    }

    /// Rooms that are gone, and whose messages are not all removed yet.
    pub(in crate::store::embedded) fn doomed(&self) -> Outcome<Vec<u64>> {
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

    fn remove_messages(&mut self, limit: usize) -> Outcome<bool> {
        let mut doomed = self.doomed()?;
        let Some(no) = doomed.first().copied() else { return Ok(true) };
        let missing = || Failure::Damaged(format!("room {no} is to be removed, and has no record"));
        let room = get(self.t.rooms.read()?, &k8(no), decode_room)?.ok_or_else(missing)?.id;
        let (mut ids, mut purged_seq, mut gone) = (Vec::new(), None, BTreeSet::new());
        for row in self.t.in_rooms.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, LAST_MESSAGE))?.take(limit.max(1))
        {
            ids.push(second(row?.0.value()));
        }
        for id in &ids {
            let read = |row: &[u8]| decode_message(row, *id, &room);
            let Some((message, place)) = get(self.t.messages.read()?, &k8(*id), read)? else { continue };
            self.remove_message(&message, place)?;
            self.t.authors.write()?.remove(&k16(place.sender, no))?;
            gone.insert((block_of(*id), place.sender));
            purged_seq = Some(message.seq);
        }
        self.forget_blocks(no, &gone)?;
        if ids.len() == limit.max(1) {
            // The record says from where on there are messages, as behind a purge: a store that is cut off here is whole.
            let record = get(self.t.rooms.read()?, &k8(no), decode_room)?.ok_or_else(missing)?;
            let record = RoomRecord { purged_seq: purged_seq.unwrap_or(record.purged_seq), ..record };
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
        counts::forget(self.t.tombstones.write()?, no)?;
        self.t.rooms.write()?.remove(&k8(no))?;
        doomed.retain(|other| *other != no);
        self.put_doomed(&doomed)?;
        Ok(doomed.is_empty())
    }
}
