//! Reads for administrators: the audit trail, holds, erasures, and all that is stored of a person.

use std::collections::HashMap;

use redb::ReadableTable;

use super::failure::{Failure, Outcome};
use super::inbox::{DELETED, NAMED, READ};
use super::records::{
    MemberRow, Person, ProgressRow, decode, decode_message, decode_notification, decode_room, get, get_value,
};
use super::records_care::{AuditRow, ErasureRow, HoldRow};
use super::schema::{Snapshot, k8, k16, k24, meta, second};
use crate::domain::audit::{AuditRecord, Link};
use crate::domain::chat::{RoomRecord, RoomSummary};
use crate::domain::privacy::{Erasure, Hold};
use crate::domain::{Timestamp, UserId};
use crate::store::{UserItem, UserProfile, UserSink};

impl Snapshot {
    pub(super) fn audit_after(&self, after: u64, limit: usize) -> Outcome<Vec<AuditRecord>> {
        let mut records = Vec::new();
        for row in self.audit()?.range::<&[u8; 8]>(&k8(after.saturating_add(1))..)?.take(limit) {
            let (key, value) = row?;
            records.push(decode::<AuditRow<'_>>(value.value())?.record(u64::from_be_bytes(*key.value())));
        }
        Ok(records)
    }

    pub(super) fn audit_ends(&self) -> Outcome<(Link, Link)> {
        let table = self.meta()?;
        let anchor = get_value(&table, meta::AUDIT_ANCHOR)?.unwrap_or(Link::START);
        let head = get_value(&table, meta::AUDIT_HEAD)?.unwrap_or(Link::START);
        Ok((anchor, head))
    }

    pub(super) fn all_holds(&self) -> Outcome<Vec<Hold>> {
        let mut holds = Vec::new();
        for row in self.holds()?.iter()? {
            let (key, value) = row?;
            let key = String::from_utf8_lossy(key.value()).into_owned();
            holds.push(decode::<HoldRow<'_>>(value.value())?.hold(&key)?);
        }
        Ok(holds)
    }

    pub(super) fn all_erasures(&self) -> Outcome<Vec<Erasure>> {
        let mut erasures = Vec::new();
        for row in self.erasures()?.iter()? {
            erasures.push(decode::<ErasureRow<'_>>(row?.1.value())?.erasure()?);
        }
        Ok(erasures)
    }

    pub(super) fn last_backup(&self) -> Outcome<Option<(Timestamp, u64)>> {
        let found: Option<(u64, u64)> = get_value(&self.meta()?, meta::LAST_BACKUP)?;
        Ok(found.map(|(at, bytes)| (Timestamp(at), bytes)))
    }

    fn room_record(&self, no: u64) -> Outcome<RoomRecord> {
        get(&self.rooms()?, &k8(no), decode_room)?
            .ok_or_else(|| Failure::Damaged(format!("room {no} is spoken of, but has no record")))
    }

    /// Gives all that is stored of somebody to a sink; `false` if there is nothing.
    pub(super) fn send_user(&self, user: &UserId, sink: &mut UserSink) -> Outcome<bool> {
        let stopped = |error: std::io::Error| Failure::Stopped(error.to_string());
        let mut send = |item| sink.item(item).map_err(stopped);
        let Some((no, person)) = self.find_person(user)? else { return Ok(false) };
        send(UserItem::Profile(person.profile()))?;
        let members = self.members()?;
        for row in self.member_rooms()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            let room_no = second(row?.0.value());
            let room = self.room_record(room_no)?;
            let row = get(&members, &k16(room_no, no), |row| decode::<MemberRow>(row))?.unwrap_or(MemberRow::guest());
            let unread = room.last_seq.saturating_sub(row.read_seq.max(room.purged_seq));
            let membership = row.membership()?;
            send(UserItem::Room(RoomSummary { room, membership, read_up_to: row.read_up_to, unread }))?;
        }
        let messages = self.messages()?;
        let mut rooms: HashMap<u64, RoomRecord> = HashMap::new();
        for row in self.msg_by_user()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            let id = second(row?.0.value());
            let Some(row) = messages.get(&k8(id))? else { continue };
            let (mut message, place) = decode_message(row.value(), id, &crate::domain::RoomId::number(0))?;
            let room = match rooms.entry(place.room) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(gap) => gap.insert(self.room_record(place.room)?),
            };
            message.room = room.id.clone();
            send(UserItem::Message(message))?;
        }
        for row in self.progress()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            send(UserItem::Lesson(decode::<ProgressRow<'_>>(row?.1.value())?.read()?))?;
        }
        let (low, high) = (k24(no, 0, 0), k24(no, u64::MAX, u64::MAX));
        for row in self.progress_versions()?.range::<&[u8; 24]>(&low..=&high)? {
            send(UserItem::Version(decode::<ProgressRow<'_>>(row?.1.value())?.read()?))?;
        }
        let notifications = self.notifications()?;
        for row in self.inbox()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            let (key, value) = row?;
            let (id, flags) = (second(key.value()), decode::<u8>(value.value())?);
            if flags & (NAMED | READ | DELETED) == 0 {
                continue;
            }
            let Some(row) = notifications.get(&k8(id))? else { continue };
            let notification = decode_notification(row.value(), id, flags & READ != 0)?;
            send(UserItem::Notification { notification, is_deleted: flags & DELETED != 0 })?;
        }
        let (name, subject) = (user.canonical(), format!("user {user}"));
        for row in self.audit()?.iter()? {
            let (key, value) = row?;
            let record = decode::<AuditRow<'_>>(value.value())?.record(u64::from_be_bytes(*key.value()));
            if record.entry.actor == name || record.entry.target == subject {
                send(UserItem::Audit(record))?;
            }
        }
        sink.end().map_err(stopped)?;
        Ok(true)
    }

    /// When the newest thing of a person was stored.
    pub(super) fn newest_of(&self, user: &UserId) -> Outcome<Option<Timestamp>> {
        let Some(no) = self.find_user(user)? else { return Ok(None) };
        let mut newest = None;
        if let Some(row) = self.msg_by_user()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.next_back() {
            let id = second(row?.0.value());
            if let Some(row) = self.messages()?.get(&k8(id))? {
                newest = newest.max(Some(decode_message(row.value(), id, &crate::domain::RoomId::number(0))?.0.at));
            }
        }
        for row in self.progress()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            newest = newest.max(Some(decode::<ProgressRow<'_>>(row?.1.value())?.read()?.updated_at));
        }
        if let Some(row) = self.inbox()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.next_back() {
            let id = second(row?.0.value());
            if let Some(row) = self.notifications()?.get(&k8(id))? {
                newest = newest.max(Some(decode_notification(row.value(), id, false)?.at));
            }
        }
        Ok(newest)
    }
}

impl Person {
    /// Who they are.
    pub(super) fn profile(self) -> UserProfile {
        let has_arrived = self.has_arrived();
        UserProfile {
            user: self.id,
            name: self.name,
            roles: self.roles,
            first_seen: has_arrived.then_some(self.first_seen_at),
            last_seen: has_arrived.then_some(self.last_seen_at),
        }
    }
}
