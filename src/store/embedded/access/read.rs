//! Reads for whoever decides who may be where: bans, and lists of rooms, members and people.

use std::ops::Bound;

use redb::ReadableTable;

use crate::domain::access::Banned;
use crate::domain::chat::{MemberEntry, RoomEntry};
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::access::{LOOKED_AT, NumericIds};
use crate::store::embedded::access::rows::{BanRow, MemberRow, Person};
use crate::store::embedded::chat::places::{member_key, member_of, read_record};
use crate::store::embedded::engine::codec::{decode, get};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{Snapshot, k8};
use crate::store::{ListPage, ListQuery, MemberPage, UserProfile};

impl Snapshot {
    pub(in crate::store::embedded) fn all_bans(&self) -> Outcome<Vec<Banned>> {
        let mut bans = Vec::new();
        for row in self.bans()?.iter()? {
            let (key, value) = row?;
            bans.push(decode::<BanRow<'_>>(value.value())?.banned(key.value())?);
        }
        Ok(bans)
    }

    /// Walks a table of canonical ids, as far as one answer goes.
    fn list<T>(
        &self,
        table: &impl ReadableTable<
            crate::store::embedded::engine::schema::Text,
            crate::store::embedded::engine::schema::Row,
        >,
        query: &ListQuery,
        mut read: impl FnMut(&str, u64) -> Outcome<Option<T>>,
    ) -> Outcome<ListPage<T>> {
        let mut page = ListPage { items: Vec::new(), next: None };
        let from = query.after.as_ref().map_or(Bound::Unbounded, |after| Bound::Excluded(after.as_bytes()));
        for (looked_at, row) in table.range::<&[u8]>((from, Bound::Unbounded))?.enumerate() {
            let (key, value) = row?;
            let id = String::from_utf8_lossy(key.value()).into_owned();
            if let Some(item) = read(&id, decode(value.value())?)? {
                page.items.push(item);
            }
            if page.items.len() >= query.limit || looked_at + 1 >= LOOKED_AT {
                page.next = Some(id);
                break;
            }
        }
        Ok(page)
    }

    pub(in crate::store::embedded) fn list_rooms(&self, query: &ListQuery) -> Outcome<ListPage<RoomEntry>> {
        let (rooms, room_no, by_room) = (self.rooms()?, self.room_no()?, self.in_rooms()?);
        self.list(&room_no, query, |id, no| {
            let missing = || Failure::Damaged(format!("room {no} has a number but no record"));
            let record = read_record(&rooms, &by_room, no)?.ok_or_else(missing)?;
            if !query.fits(id, record.name.as_deref().unwrap_or_default()) {
                return Ok(None);
            }
            Ok(Some(RoomEntry { record, members: self.count_members(no)? }))
        })
    }

    fn count_members(&self, room: u64) -> Outcome<u64> {
        let mut count = 0;
        for row in self.in_rooms()?.range::<&[u8; 16]>(&member_key(room, 0)..=&member_key(room, u64::MAX))? {
            row?;
            count += 1;
        }
        Ok(count)
    }

    pub(in crate::store::embedded) fn room(&self, room: &RoomId) -> Outcome<RoomEntry> {
        let (no, record) = self.find_room(room)?.ok_or(Refusal::NotFound)?;
        Ok(RoomEntry { record, members: self.count_members(no)? })
    }

    pub(in crate::store::embedded) fn members_of(
        &self,
        room: &RoomId,
        after: u64,
        limit: usize,
    ) -> Outcome<MemberPage> {
        let (no, _) = self.find_room(room)?.ok_or(Refusal::NotFound)?;
        let users = self.users()?;
        let mut page = MemberPage::default();
        let behind = member_key(no, after.saturating_add(1));
        for row in self.in_rooms()?.range::<&[u8; 16]>(&behind..=&member_key(no, u64::MAX))? {
            let (key, value) = row?;
            let (user, row) = (member_of(key.value()), MemberRow::decode(value.value())?);
            let missing = || Failure::Damaged(format!("user {user} has a number but no record"));
            let person = get(&users, &k8(user), Person::decode)?.ok_or_else(missing)?;
            page.members.push(MemberEntry {
                user: person.id,
                name: person.name,
                membership: row.membership()?,
                read_up_to: row.read_up_to,
            });
            if page.members.len() >= limit {
                page.next = Some(user);
                break;
            }
        }
        Ok(page)
    }

    pub(in crate::store::embedded) fn list_users(&self, query: &ListQuery) -> Outcome<ListPage<UserProfile>> {
        let (users, user_no) = (self.users()?, self.user_no()?);
        self.list(&user_no, query, |id, no| {
            let missing = || Failure::Damaged(format!("user {no} has a number but no record"));
            let person = get(&users, &k8(no), Person::decode)?.ok_or_else(missing)?;
            Ok(query.fits(id, &person.name).then(|| person.profile()))
        })
    }

    pub(in crate::store::embedded) fn numeric_ids(&self, after: u64, limit: usize) -> Outcome<NumericIds> {
        let (mut ids, mut last, mut rows) = (Vec::new(), after, 0);
        for row in self.users()?.range::<&[u8; 8]>(&k8(after.saturating_add(1))..)?.take(limit) {
            let (key, value) = row?;
            let person = Person::decode(value.value())?;
            (last, rows) = (u64::from_be_bytes(*key.value()), rows + 1);
            if person.id.as_number().is_some() {
                ids.push((person.id, person.is_typed));
            }
        }
        Ok((ids, (rows == limit).then_some(last)))
    }

    pub(in crate::store::embedded) fn profile_of(&self, user: &UserId) -> Outcome<UserProfile> {
        let (_, person) = self.find_person(user)?.ok_or(Refusal::NotFound)?;
        Ok(person.profile())
    }
}
