//! Purges by age, slice by slice beside the traffic. What a legal hold keeps stays; a room's messages go from its
//! beginning, so that `seq` has no gaps, and behind one that is held the content alone goes.

use std::collections::HashSet;

use redb::ReadableTable;

use super::batch::Batch;
use super::failure::Outcome;
use super::inbox::{NAMED, audience_code};
use super::records::{Place, decode, decode_message, decode_notification, decode_room, encode, encode_message, get};
use super::records_care::{AuditRow, HoldRow};
use super::schema::{k8, k16, meta, pair, second};
use crate::domain::audit::Link;
use crate::domain::chat::Message;
use crate::domain::notification::Audience;
use crate::domain::privacy::{PurgeKind, Subject};
use crate::domain::{RoomId, Timestamp};
use crate::store::{PurgeCursor, PurgeStep};

/// In a purge of notifications: what is left of marks on those that are gone is looked for from here on.
const SWEEP: u64 = u64::MAX;

/// Who and what is held.
struct Held {
    users: HashSet<u64>,
    rooms: HashSet<u64>,
    any: bool,
}

impl Batch<'_, '_> {
    pub(super) fn purge(
        &mut self,
        kind: PurgeKind,
        before: Timestamp,
        cursor: PurgeCursor,
        limit: usize,
    ) -> Outcome<PurgeStep> {
        let held = self.held()?;
        let limit = limit.max(1);
        match kind {
            PurgeKind::Chat => self.purge_chat(&held, before, cursor, limit),
            PurgeKind::Notifications if cursor.place == SWEEP => self.sweep_marks(cursor, limit),
            PurgeKind::Notifications => self.purge_notifications(&held, before, cursor, limit),
            PurgeKind::Audit => self.purge_audit(&held, before, limit),
        }
    }

    fn held(&mut self) -> Outcome<Held> {
        let mut subjects = Vec::new();
        for row in self.t.holds.read()?.iter()? {
            let (key, value) = row?;
            let key = String::from_utf8_lossy(key.value()).into_owned();
            subjects.push(decode::<HoldRow<'_>>(value.value())?.hold(&key)?.subject);
        }
        let mut held = Held { users: HashSet::new(), rooms: HashSet::new(), any: !subjects.is_empty() };
        for subject in subjects {
            match subject {
                Subject::User(user) => held.users.extend(self.find_user(&user)?),
                Subject::Room(room) => held.rooms.extend(self.find_room(&room)?.map(|(no, _)| no)),
            }
        }
        Ok(held)
    }

    /// Room by room. `cursor.place` is the room, `cursor.within` the last message that was looked at.
    fn purge_chat(&mut self, held: &Held, before: Timestamp, cursor: PurgeCursor, limit: usize) -> Outcome<PurgeStep> {
        let mut step = PurgeStep::default();
        let mut left = limit;
        let mut rooms = Vec::new();
        for row in self.t.rooms.read()?.range::<&[u8; 8]>(&k8(cursor.place)..)?.take(limit) {
            let (key, value) = row?;
            rooms.push((u64::from_be_bytes(*key.value()), decode_room(value.value())?.id));
        }
        let more_rooms = rooms.len() == limit;
        let doomed = self.doomed()?;
        let mut last = cursor.place;
        for (no, room) in rooms {
            last = no;
            let mut at = if no == cursor.place { cursor } else { PurgeCursor { place: no, ..PurgeCursor::default() } };
            left = left.saturating_sub(1);
            if held.rooms.contains(&no) {
                step.held += 1;
                continue;
            }
            // Its id may be another room's by now.
            if doomed.contains(&no) {
                continue;
            }
            if self.purge_room(no, &room, held, before, &mut at, &mut left, &mut step)? {
                step.next = Some(at);
                return Ok(step);
            }
        }
        step.next = more_rooms.then(|| PurgeCursor { place: last + 1, ..PurgeCursor::default() });
        Ok(step)
    }

    /// `true` if there is more to look at in this room.
    #[allow(clippy::too_many_arguments, reason = "one loop, taken apart for its length")]
    fn purge_room(
        &mut self,
        no: u64,
        room: &RoomId,
        held: &Held,
        before: Timestamp,
        at: &mut PurgeCursor,
        left: &mut usize,
        step: &mut PurgeStep,
    ) -> Outcome<bool> {
        let mut ids = Vec::new();
        let (low, high) = (k16(no, at.within.saturating_add(1)), k16(no, u64::MAX));
        for row in self.t.msg_by_room.read()?.range::<&[u8; 16]>(&low..=&high)?.take((*left).max(1)) {
            ids.push(second(row?.0.value()));
        }
        let is_all = ids.len() < (*left).max(1);
        *left = left.saturating_sub(ids.len());
        let mut purged_seq = None;
        let mut is_young = false;
        for id in ids {
            let read = |row: &[u8]| decode_message(row, id, room);
            let Some((message, place)) = get(self.t.messages.read()?, &k8(id), read)? else { continue };
            if message.at >= before {
                // What follows is younger: ids rise with time.
                is_young = true;
                break;
            }
            at.within = id;
            if held.users.contains(&place.sender) {
                step.held += 1;
                at.is_past_kept = true;
            } else if at.is_past_kept {
                step.purged += u64::from(self.blank(message, place)?);
            } else {
                self.remove_message(&message, place)?;
                purged_seq = Some(message.seq);
                step.purged += 1;
            }
        }
        if let Some(seq) = purged_seq {
            self.purged_to(room, seq)?;
        }
        Ok(!is_young && !is_all)
    }

    /// Nothing of a message is left.
    pub(super) fn remove_message(&mut self, message: &Message, place: Place) -> Outcome<()> {
        self.touch();
        self.t.messages.write()?.remove(&k8(message.id))?;
        self.t.msg_by_room.write()?.remove(&k16(place.room, message.id))?;
        self.t.msg_by_user.write()?.remove(&k16(place.sender, message.id))?;
        if place.change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(place.room, place.change))?;
        }
        Ok(())
    }

    /// Takes the content of a message that must keep its place. `false` if it had none.
    fn blank(&mut self, mut message: Message, place: Place) -> Outcome<bool> {
        if message.deleted_at.is_some() {
            return Ok(false);
        }
        self.touch();
        message.content.clear();
        message.deleted_at = Some(self.now);
        if place.change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(place.room, place.change))?;
        }
        let place = Place { change: 0, ..place };
        self.t.messages.write()?.insert(&k8(message.id), encode_message(&message, place, &mut self.buffer)?)?;
        Ok(true)
    }

    /// In the order of their ids. `cursor.within` is the last one that was looked at.
    fn purge_notifications(
        &mut self,
        held: &Held,
        before: Timestamp,
        cursor: PurgeCursor,
        limit: usize,
    ) -> Outcome<PurgeStep> {
        let mut old = Vec::new();
        let mut is_all = true;
        for (seen, row) in
            self.t.notifications.read()?.range::<&[u8; 8]>(&k8(cursor.within.saturating_add(1))..)?.enumerate()
        {
            let (key, value) = row?;
            let one = decode_notification(value.value(), u64::from_be_bytes(*key.value()), false)?;
            if one.at >= before {
                break;
            }
            if seen == limit {
                is_all = false;
                break;
            }
            old.push(one);
        }
        let mut step = PurgeStep::default();
        let mut within = cursor.within;
        for one in old {
            within = one.id;
            let mut is_held = false;
            for user in &held.users {
                is_held |= self.t.inbox.read()?.get(&k16(*user, one.id))?.is_some();
            }
            if is_held {
                step.held += 1;
                continue;
            }
            self.touch();
            self.t.notifications.write()?.remove(&k8(one.id))?;
            if let Some(code) = audience_code(&one.audience) {
                self.t.notif_by_audience.write()?.remove(&k16(code, one.id))?;
            }
            if let Audience::Users(users) = &one.audience {
                for user in users {
                    if let Some(no) = self.find_user(user)? {
                        self.t.inbox.write()?.remove(&k16(no, one.id))?;
                    }
                }
            }
            step.purged += 1;
        }
        step.next = Some(if is_all {
            PurgeCursor { place: SWEEP, within: 0, is_past_kept: false }
        } else {
            PurgeCursor { within, ..cursor }
        });
        Ok(step)
    }

    /// Marks of people on notifications that went to a role or to all, and are gone. User by user.
    fn sweep_marks(&mut self, cursor: PurgeCursor, limit: usize) -> Outcome<PurgeStep> {
        let mut users = Vec::new();
        for row in self.t.users.read()?.range::<&[u8; 8]>(&k8(cursor.within.saturating_add(1))..)?.take(limit) {
            users.push(u64::from_be_bytes(*row?.0.value()));
        }
        let oldest = match self.t.notifications.read()?.first()? {
            Some((key, _)) => u64::from_be_bytes(*key.value()),
            None => u64::MAX,
        };
        for user in &users {
            let mut gone = Vec::new();
            for row in self.t.inbox.read()?.range::<&[u8; 16]>(&k16(*user, 0)..=&k16(*user, u64::MAX))? {
                let (key, value) = row?;
                let (key, flags) = (*key.value(), decode::<u8>(value.value())?);
                if flags & NAMED == 0 && self.t.notifications.read()?.get(&k8(second(&key)))?.is_none() {
                    gone.push(key);
                }
            }
            for key in &gone {
                self.touch();
                self.t.inbox.write()?.remove(key)?;
            }
            let mut changes = Vec::new();
            if oldest < u64::MAX {
                for row in self.t.inbox_changes.read()?.range::<&[u8; 16]>(&k16(*user, 0)..&k16(*user, oldest))? {
                    changes.push(*row?.0.value());
                }
            }
            for key in &changes {
                debug_assert_eq!(pair(key).0, *user);
                self.touch();
                self.t.inbox_changes.write()?.remove(key)?;
            }
        }
        let next = users.last().filter(|_| users.len() == limit);
        Ok(PurgeStep { next: next.map(|user| PurgeCursor { within: *user, ..cursor }), ..PurgeStep::default() })
    }

    /// From the beginning of the trail. Any hold keeps all of it: it may tell of what is held.
    fn purge_audit(&mut self, held: &Held, before: Timestamp, limit: usize) -> Outcome<PurgeStep> {
        let mut old = Vec::new();
        for row in self.t.audit.read()?.iter()?.take(limit) {
            let (key, value) = row?;
            let number = u64::from_be_bytes(*key.value());
            let row: AuditRow<'_> = decode(value.value())?;
            if row.at >= before.0 {
                break;
            }
            old.push(Link { number, hash: row.hash });
        }
        if held.any {
            return Ok(PurgeStep { held: old.len() as u64, ..PurgeStep::default() });
        }
        let Some(last) = old.last() else { return Ok(PurgeStep::default()) };
        self.touch();
        self.t.meta.write()?.insert(meta::AUDIT_ANCHOR, encode(last, &mut self.buffer)?)?;
        for link in &old {
            self.t.audit.write()?.remove(&k8(link.number))?;
        }
        let purged = old.len() as u64;
        let next = (old.len() == limit).then(PurgeCursor::default);
        Ok(PurgeStep { purged, held: 0, next })
    }
}
