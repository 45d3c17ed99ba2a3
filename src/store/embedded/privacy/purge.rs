//! Purges by age, slice by slice beside the traffic. What a legal hold keeps stays; a room's messages go from its
//! beginning, so that `seq` has no gaps, and behind one that is held the content alone goes.

use std::collections::{BTreeSet, HashSet};

use redb::ReadableTable;

use crate::domain::audit::Link;
use crate::domain::chat::Message;
use crate::domain::notification::{Audience, AudienceKind};
use crate::domain::privacy::PurgeKind;
use crate::domain::{RoomId, Timestamp};
use crate::store::Change;
use crate::store::embedded::access::rows::decode_room;
use crate::store::embedded::audit::rows::AuditRow;
use crate::store::embedded::chat::places::{LAST_MESSAGE, block_of};
use crate::store::embedded::chat::rows::{Place, decode_message, encode_message};
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode, get, get_number, get_value};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{NOBODY, k8, k16, meta, pair, second};
use crate::store::embedded::inbox::rows::decode_notification;
use crate::store::embedded::inbox::view::{NAMED, audience_code, audience_space, user_spaces};
use crate::store::embedded::inbox::write::forget_inbox_row;
use crate::store::embedded::privacy::holds::Held;
use crate::store::operations::{AwaitedTarget, Purge, PurgeCursor, PurgeStep};

/// In a purge of notifications: what is left of marks on those that are gone is looked for from here on.
const SWEEP: u64 = u64::MAX;
/// A purge of the audit log looks so many slices ahead for a record that is old, past those that are dated into the future.
const LOOK_AHEAD: usize = 20;

impl Apply for Purge {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<PurgeStep> {
        let Purge { kind, before, cursor, limit, forwarded_to, act } = self;
        let held = batch.held()?;
        let limit = limit.max(1);
        let mut gone = Vec::new();
        let mut step = match kind {
            PurgeKind::Chat => batch.purge_chat(&held, before, cursor, limit, &mut gone)?,
            PurgeKind::Notifications if cursor.place == SWEEP => batch.sweep_marks(cursor, limit)?,
            PurgeKind::Notifications => batch.purge_notifications(&held, before, cursor, limit, &mut gone)?,
            PurgeKind::Audit => batch.purge_audit(before, limit, forwarded_to.as_ref())?,
        };
        let (purged, kept) = (cursor.purged + step.purged, cursor.held + step.held);
        let unforwarded = cursor.unforwarded + step.unforwarded;
        if cursor.purged == 0 && step.purged > 0 {
            batch.record(act.entry(batch.now, "begun"))?;
        }
        match &mut step.next {
            Some(next) => (next.purged, next.held, next.unforwarded) = (purged, kept, unforwarded),
            None if purged > 0 => {
                let lost = match unforwarded {
                    0 => String::new(),
                    count => format!(", {count} of them were not forwarded"),
                };
                batch.record(act.entry(batch.now, &format!("done: {purged} purged{lost}, {kept} held")))?;
            }
            None => {}
        }
        if !gone.is_empty() {
            let id = batch.take_id()?;
            batch.tell(Change::Purged { id, ids: gone });
        }
        Ok(step)
    }
}

impl Batch<'_, '_> {
    /// Room by room. `cursor.place` is the room, `cursor.within` the last message that was looked at.
    fn purge_chat(
        &mut self,
        held: &Held,
        before: Timestamp,
        cursor: PurgeCursor,
        limit: usize,
        gone: &mut Vec<u64>,
    ) -> Outcome<PurgeStep> {
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
            if held.holds_room(&no) {
                step.held += 1;
                continue;
            }
            // Its id may be another room's by now.
            if doomed.contains(&no) {
                continue;
            }
            if self.purge_room(no, &room, held, before, &mut at, &mut left, &mut step, gone)? {
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
        gone: &mut Vec<u64>,
    ) -> Outcome<bool> {
        let mut ids = Vec::new();
        let (low, high) = (k16(no, at.within.saturating_add(1)), k16(no, LAST_MESSAGE));
        for row in self.t.in_rooms.read()?.range::<&[u8; 16]>(&low..=&high)?.take((*left).max(1)) {
            ids.push(second(row?.0.value()));
        }
        let is_all = ids.len() < (*left).max(1);
        *left = left.saturating_sub(ids.len());
        let mut messages = Vec::with_capacity(ids.len());
        for id in ids {
            let read = |row: &[u8]| decode_message(row, id, room);
            messages.extend(get(self.t.messages.read()?, &k8(id), read)?);
        }
        // A message that a wrong clock has dated into the future is old if one behind it is.
        let stored_at = |(message, place): &(Message, Place)| place.stored_at(message);
        let is_young = messages.iter().any(|one| (before..=self.now).contains(&stored_at(one)));
        let last_old = messages.iter().rposition(|one| stored_at(one) < before);
        let old = last_old.map_or(0, |last| last + 1);
        let undecided = messages.get(old..).and_then(<[_]>::last).map(|(message, _)| message.id);
        messages.truncate(old);
        let mut purged_seq = None;
        let mut senders = BTreeSet::new();
        for (message, place) in messages {
            at.within = message.id;
            if held.holds_message(&place.sender, &place.room) || self.is_reported_by_held(held, message.id)? {
                step.held += 1;
                at.is_past_kept = true;
                continue;
            }
            gone.push(message.id);
            gone.extend(Some(place.change).filter(|change| *change > 0));
            step.purged += 1;
            if at.is_past_kept {
                step.purged -= u64::from(!self.blank(message, place)?);
            } else {
                self.remove_message(&message, place)?;
                senders.insert((block_of(message.id), place.sender));
                purged_seq = Some(message.seq);
            }
        }
        if let Some(seq) = purged_seq {
            self.purged_to(room, seq)?;
        }
        self.forget_blocks(no, &senders)?;
        for (_, sender) in senders {
            self.forget_author(no, sender)?;
        }
        let has_more = !is_young && !is_all;
        if let (true, Some(last)) = (has_more, undecided) {
            // They stay, and what is old behind them loses its content.
            at.within = last;
            at.is_past_kept = true;
        }
        Ok(has_more)
    }

    /// Somebody who takes no part in a room any more, and has nothing in it, is not one who has written in it.
    fn forget_author(&mut self, room: u64, user: u64) -> Outcome<()> {
        if self.member(room, user)?.is_some() || self.written_in(user, &[room])?.is_some() {
            return Ok(());
        }
        self.t.authors.write()?.remove(&k16(user, room))?;
        Ok(())
    }

    /// Nothing of a message is left, but what its block says of its sender: see [`Batch::forget_blocks`].
    pub(in crate::store::embedded) fn remove_message(&mut self, message: &Message, place: Place) -> Outcome<()> {
        self.touch();
        // While the last message of the room is there: its record alone may not know how far the room has come.
        self.find_room(&message.room)?;
        self.t.messages.write()?.remove(&k8(message.id))?;
        self.t.in_rooms.write()?.remove(&k16(place.room, message.id))?;
        if place.change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(place.room, place.change))?;
        }
        if message.deleted_at.is_some() {
            self.note_tombstone(place.room, message, false)?;
        }
        self.forget_sides_of(message.id, place.room)
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
        self.forget_sides_of(message.id, place.room)?;
        self.note_tombstone(place.room, &message, true)?;
        Ok(true)
    }

    /// In the order of their ids. `cursor.within` is the last one that was looked at. One that a wrong clock has dated into
    /// the future is passed over, and what comes behind it goes all the same.
    fn purge_notifications(
        &mut self,
        held: &Held,
        before: Timestamp,
        cursor: PurgeCursor,
        limit: usize,
        gone: &mut Vec<u64>,
    ) -> Outcome<PurgeStep> {
        let mut found = Vec::new();
        for row in self.t.notifications.read()?.range::<&[u8; 8]>(&k8(cursor.within.saturating_add(1))..)?.take(limit) {
            let (key, value) = row?;
            found.push(decode_notification(value.value(), u64::from_be_bytes(*key.value()), false)?);
        }
        let is_all = found.len() < limit;
        let within = found.last().map_or(cursor.within, |one| one.id);
        // Times need not rise with ids. Where a whole slice is younger than the bound and than now, nothing old is behind it.
        let is_young = !found.is_empty() && found.iter().all(|one| one.at >= before && one.at <= self.now);
        let (mut step, mut purged_up_to) = (PurgeStep::default(), None);
        let timed = self.notices()?;
        for one in found.into_iter().filter(|one| one.at < before) {
            let mut is_held = false;
            for user in held.users() {
                is_held |= self.t.inbox.read()?.get(&k16(*user, one.id))?.is_some();
            }
            if is_held {
                step.held += 1;
                continue;
            }
            self.touch();
            gone.push(one.id);
            self.t.notifications.write()?.remove(&k8(one.id))?;
            if let Some(code) = audience_code(&one.audience) {
                self.t.notif_by_audience.write()?.remove(&k16(code, one.id))?;
                counts::change(self.t.inbox_counts.write()?, audience_space(code), one.id, false)?;
                purged_up_to = Some(one.id);
            }
            if let Audience::Users(users) = &one.audience {
                for user in users {
                    if let Some(no) = self.find_user(user)? {
                        forget_inbox_row(self, no, one.id, AudienceKind::Named)?;
                    }
                }
            }
            self.t.read_times.write()?.remove(&k16(NOBODY, one.id))?;
            if let Some(notice) = timed.iter().find(|notice| notice.sent == Some(one.id)) {
                self.t.notices.write()?.remove(&k8(notice.id))?;
            }
            step.purged += 1;
        }
        for notice in &timed {
            let is_old = notice.over.as_ref().is_some_and(|over| over.at < before);
            if is_old && !self.is_held_notice(held, notice)? {
                self.forget_notice(notice)?;
            }
        }
        let before = get_number(self.t.meta.read()?, meta::NOTIFICATIONS_PURGED)?;
        if let Some(id) = purged_up_to.filter(|id| before.is_none_or(|before| *id > before)) {
            self.t.meta.write()?.insert(meta::NOTIFICATIONS_PURGED, encode(&id, &mut self.buffer)?)?;
        }
        step.next = Some(if is_all || is_young {
            PurgeCursor { place: SWEEP, ..PurgeCursor::default() }
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
        let timed: HashSet<u64> = self.notices()?.into_iter().filter_map(|notice| notice.sent).collect();
        for user in &users {
            let mut gone = Vec::new();
            for row in self.t.inbox.read()?.range::<&[u8; 16]>(&k16(*user, 0)..=&k16(*user, u64::MAX))? {
                let (key, value) = row?;
                let (id, flags) = (second(key.value()), decode::<u8>(value.value())?);
                if flags & NAMED == 0 && self.t.notifications.read()?.get(&k8(id))?.is_none() {
                    gone.push(id);
                }
            }
            for id in gone {
                self.forget_mark(*user, id)?;
            }
            let mut unknown = Vec::new();
            for row in self.t.read_times.read()?.range::<&[u8; 16]>(&k16(*user, 0)..=&k16(*user, u64::MAX))? {
                let key = *row?.0.value();
                let id = second(&key);
                if !timed.contains(&id) && self.t.notifications.read()?.get(&k8(id))?.is_none() {
                    unknown.push(key);
                }
            }
            for key in &unknown {
                self.touch();
                self.t.read_times.write()?.remove(key)?;
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

    /// A mark of somebody on what went to a role or to everybody, and is gone.
    fn forget_mark(&mut self, user: u64, id: u64) -> Outcome<()> {
        self.touch();
        self.t.inbox.write()?.remove(&k16(user, id))?;
        // Which audience it was is not known any more: it is counted in one space of the user's.
        for space in user_spaces(user) {
            if counts::has(self.t.inbox_counts.read()?, space, id)? {
                counts::change(self.t.inbox_counts.write()?, space, id, false)?;
            }
        }
        Ok(())
    }

    /// From the beginning of the audit log, past records that a wrong clock has dated into the future: a record goes if it, or one
    /// behind it, is old. Any hold keeps all of it, also one of somebody who is not known yet: it may tell of what is held.
    /// What a target has not taken yet is kept, up to a bound.
    fn purge_audit(
        &mut self,
        before: Timestamp,
        limit: usize,
        forwarded_to: Option<&AwaitedTarget>,
    ) -> Outcome<PurgeStep> {
        let (mut taken, mut may_go) = (u64::MAX, u64::MAX);
        if let Some(AwaitedTarget { target, most }) = forwarded_to {
            let head: Link = get_value(self.t.meta.read()?, meta::AUDIT_HEAD)?.unwrap_or(Link::START);
            taken = self.forwarded_to(target)?.number;
            may_go = taken.max(head.number.saturating_sub(*most));
        }
        let (mut old, mut last_old) = (Vec::new(), 0);
        for row in self.t.audit.read()?.iter()?.take(limit.saturating_mul(LOOK_AHEAD)) {
            let (key, value) = row?;
            let number = u64::from_be_bytes(*key.value());
            let row: AuditRow<'_> = decode(value.value())?;
            old.push(Link { number, hash: row.hash });
            if row.at < before.0 {
                last_old = old.len();
            } else if row.at <= self.now.0 {
                break;
            }
        }
        old.truncate(last_old);
        if self.t.holds.read()?.first()?.is_some() {
            return Ok(PurgeStep { held: old.len() as u64, ..PurgeStep::default() });
        }
        old.truncate(limit);
        let is_all = old.len() < limit;
        old.retain(|link| link.number <= may_go);
        let Some(last) = old.last() else { return Ok(PurgeStep::default()) };
        self.touch();
        self.t.meta.write()?.insert(meta::AUDIT_ANCHOR, encode(last, &mut self.buffer)?)?;
        for link in &old {
            self.t.audit.write()?.remove(&k8(link.number))?;
        }
        let unforwarded = old.iter().filter(|link| link.number > taken).count() as u64;
        let next = (!is_all).then(PurgeCursor::default);
        Ok(PurgeStep { purged: old.len() as u64, held: 0, unforwarded, next })
    }
}
