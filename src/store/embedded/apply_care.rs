//! What the writer does for administrators: the audit trail, legal holds, erasures, and the daily count of rows.

use redb::ReadableTable;

use super::batch::Batch;
use super::failure::{Failure, Outcome};
use super::inbox::{NAMED, audience_code};
use super::records::{
    AnswerRow, MemberRow, Place, ProgressRow, RoomChangeRow, decode, decode_message, decode_notification, decode_room,
    encode, encode_message, encode_notification, get, get_value,
};
use super::records_care::{AuditRow, ErasureRow, HoldRow, hold_key};
use super::schema::{expiry_key, k8, k16, k24, meta, pair, second, triple};
use crate::domain::audit::{AuditEntry, AuditRecord, Link};
use crate::domain::notification::Audience;
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, Subject};
use crate::domain::{Refusal, RoomId, Timestamp, UserId};
use crate::store::{Change, ErasureStep};

/// So many days of the count of rows are kept.
const GROWTH_DAYS: u64 = 400;

impl Batch<'_, '_> {
    pub(super) fn record(&mut self, entry: AuditEntry) -> Outcome<AuditRecord> {
        let head: Link = get_value(self.t.meta.read()?, meta::AUDIT_HEAD)?.unwrap_or(Link::START);
        let record = head.next(entry);
        self.touch();
        let row = AuditRow::of(&record);
        self.t.audit.write()?.insert(&k8(record.number), encode(&row, &mut self.buffer)?)?;
        self.t.meta.write()?.insert(meta::AUDIT_HEAD, encode(&Link::from(&record), &mut self.buffer)?)?;
        Ok(record)
    }

    pub(super) fn hold(&mut self, hold: &Hold) -> Outcome<()> {
        if let Subject::User(user) = &hold.subject
            && self.erasure(user)?.is_some_and(|erasure| !erasure.is_finished)
        {
            return Err(Refusal::Conflict.into());
        }
        self.touch();
        let row = HoldRow::of(hold);
        self.t.holds.write()?.insert(hold_key(&hold.subject).as_bytes(), encode(&row, &mut self.buffer)?)?;
        Ok(())
    }

    pub(super) fn release(&mut self, subject: &Subject) -> Outcome<Hold> {
        let key = hold_key(subject);
        let found = get(self.t.holds.read()?, key.as_bytes(), |row| decode::<HoldRow<'_>>(row)?.hold(&key))?;
        let hold = found.ok_or(Refusal::NotFound)?;
        self.touch();
        self.t.holds.write()?.remove(key.as_bytes())?;
        Ok(hold)
    }

    pub(super) fn is_held(&self, subject: &Subject) -> Outcome<bool> {
        Ok(self.t.holds.read()?.get(hold_key(subject).as_bytes())?.is_some())
    }

    fn erasure(&self, user: &UserId) -> Outcome<Option<Erasure>> {
        get(self.t.erasures.read()?, user.canonical().as_bytes(), |row| decode::<ErasureRow<'_>>(row)?.erasure())
    }

    fn put_erasure(&mut self, erasure: &Erasure) -> Outcome<()> {
        self.touch();
        let row = ErasureRow::of(erasure);
        let key = erasure.user.canonical();
        self.t.erasures.write()?.insert(key.as_bytes(), encode(&row, &mut self.buffer)?)?;
        Ok(())
    }

    pub(super) fn begin_erasure(&mut self, user: &UserId, at: Timestamp) -> Outcome<Erasure> {
        let before = self.erasure(user)?;
        if let Some(under_way) = before.filter(|erasure| !erasure.is_finished) {
            return Ok(under_way);
        }
        let no = self.find_user(user)?.ok_or(Refusal::NotFound)?;
        if self.is_held(&Subject::User(user.clone()))? {
            return Err(Refusal::Held.into());
        }
        let mut rooms = Vec::new();
        for row in self.t.member_rooms.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            rooms.push(second(row?.0.value()));
        }
        for room in rooms {
            if let Some(room) = self.room_of(room)?
                && self.is_held(&Subject::Room(room))?
            {
                return Err(Refusal::Held.into());
            }
        }
        let erasure = Erasure { user: user.clone(), at, counts: ErasureCounts::default(), is_finished: false };
        self.put_erasure(&erasure)?;
        Ok(erasure)
    }

    fn room_of(&self, no: u64) -> Outcome<Option<RoomId>> {
        Ok(get(self.t.rooms.read()?, &k8(no), decode_room)?.map(|room| room.id))
    }

    /// One slice: about `limit` rows. The person's own row goes last, so that a cut never leaves rows of nobody.
    pub(super) fn erase(&mut self, user: &UserId, limit: usize) -> Outcome<ErasureStep> {
        let mut erasure = self.erasure(user)?.ok_or(Refusal::NotFound)?;
        let mut counts = ErasureCounts::default();
        let mut left = limit.max(1);
        if let Some(no) = self.find_user(user)? {
            counts.messages = self.erase_messages(no, &mut left)?;
            counts.memberships = self.erase_memberships(no, &mut left)?;
            counts.lessons = self.erase_lessons(no, &mut left)?;
            counts.versions = self.erase_versions(no, &mut left)?;
            let (notifications, marks) = self.erase_inbox(no, user, &mut left)?;
            counts.notifications = notifications;
            counts.inbox = marks + self.erase_inbox_changes(no, &mut left)?;
            counts.answers = self.erase_answers(no, &mut left)?;
            erasure.is_finished = left > 0;
            if erasure.is_finished {
                self.forget_user(user, no)?;
            }
        } else {
            erasure.is_finished = true;
        }
        erasure.counts = erasure.counts.plus(counts);
        self.put_erasure(&erasure)?;
        Ok(ErasureStep { counts, is_finished: erasure.is_finished })
    }

    /// Messages become tombstones of nobody: their place in the room stays, and `seq` is whole.
    fn erase_messages(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let mut ids = Vec::new();
        for row in self.t.msg_by_user.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            ids.push(second(row?.0.value()));
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let nobody = self.user(&UserId::erased())?;
        let nowhere = RoomId::number(0);
        for id in &ids {
            let read = |row: &[u8]| decode_message(row, *id, &nowhere);
            let Some((mut message, place)) = get(self.t.messages.read()?, &k8(*id), read)? else {
                return Err(Failure::Damaged(format!("message {id} is indexed, but not there")));
            };
            let was_deleted = message.deleted_at.is_some();
            message.content.clear();
            message.sender = UserId::erased();
            message.sender_name.clear();
            message.client_id = None;
            message.edited_at = None;
            message.deleted_at = Some(message.deleted_at.unwrap_or(self.now));
            let place = Place { sender: nobody, ..place };
            self.t.msg_by_user.write()?.remove(&k16(no, *id))?;
            self.t.msg_by_user.write()?.insert(&k16(nobody, *id), ())?;
            if was_deleted {
                self.t.messages.write()?.insert(&k8(*id), encode_message(&message, place, &mut self.buffer)?)?;
                continue;
            }
            let change = self.replace(&message, place, RoomChangeRow::Deleted(*id))?;
            if let Some(room) = self.room_of(place.room)? {
                self.tell(Change::Deleted { id: change, room, message_id: *id, at: self.now });
            }
        }
        *left -= ids.len();
        Ok(ids.len() as u64)
    }

    fn erase_memberships(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let mut rooms = Vec::new();
        for row in self.t.member_rooms.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            rooms.push(second(row?.0.value()));
        }
        for room in &rooms {
            let row = self.member(*room, no)?;
            if let Some(MemberRow { read_change, .. }) = row
                && read_change > 0
            {
                self.t.changes_by_room.write()?.remove(&k16(*room, read_change))?;
            }
            self.forget_member(*room, no)?;
        }
        *left -= rooms.len();
        Ok(rooms.len() as u64)
    }

    fn erase_lessons(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let mut found = Vec::new();
        for row in self.t.progress.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            let (key, value) = row?;
            found.push((*key.value(), decode::<ProgressRow<'_>>(value.value())?.change));
        }
        for (key, change) in &found {
            self.t.progress.write()?.remove(key)?;
            self.t.progress_by_change.write()?.remove(&k16(no, *change))?;
        }
        *left -= found.len();
        self.touch();
        Ok(found.len() as u64)
    }

    fn erase_versions(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let mut found = Vec::new();
        let (low, high) = (k24(no, 0, 0), k24(no, u64::MAX, u64::MAX));
        for row in self.t.progress_versions.read()?.range::<&[u8; 24]>(&low..=&high)?.take(*left) {
            found.push(*row?.0.value());
        }
        for key in &found {
            debug_assert_eq!(triple(key).0, no);
            self.t.progress_versions.write()?.remove(key)?;
        }
        *left -= found.len();
        Ok(found.len() as u64)
    }

    /// The inbox' rows. A notification that named nobody else goes; one that named others loses the name.
    fn erase_inbox(&mut self, no: u64, user: &UserId, left: &mut usize) -> Outcome<(u64, u64)> {
        let mut found = Vec::new();
        for row in self.t.inbox.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            let (key, value) = row?;
            found.push((second(key.value()), decode::<u8>(value.value())?));
        }
        let mut named = 0;
        for (id, flags) in &found {
            self.t.inbox.write()?.remove(&k16(no, *id))?;
            if flags & NAMED == 0 {
                continue;
            }
            named += 1;
            let read = |row: &[u8]| decode_notification(row, *id, false);
            let Some(mut one) = get(self.t.notifications.read()?, &k8(*id), read)? else { continue };
            let Audience::Users(users) = &mut one.audience else { continue };
            users.retain(|other| other != user);
            if users.is_empty() {
                self.t.notifications.write()?.remove(&k8(*id))?;
                if let Some(code) = audience_code(&one.audience) {
                    self.t.notif_by_audience.write()?.remove(&k16(code, *id))?;
                }
            } else {
                self.t.notifications.write()?.insert(&k8(*id), encode_notification(&one, &mut self.buffer)?)?;
            }
        }
        *left -= found.len();
        Ok((named, found.len() as u64 - named))
    }

    fn erase_inbox_changes(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let mut found = Vec::new();
        for row in self.t.inbox_changes.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            found.push(*row?.0.value());
        }
        for key in &found {
            debug_assert_eq!(pair(key).0, no);
            self.t.inbox_changes.write()?.remove(key)?;
        }
        *left -= found.len();
        Ok(found.len() as u64)
    }

    fn erase_answers(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let mut found = Vec::new();
        let (low, high) = (k24(no, 0, 0), k24(no, u64::MAX, u64::MAX));
        for row in self.t.answers.read()?.range::<&[u8; 24]>(&low..=&high)?.take(*left) {
            let (key, value) = row?;
            found.push((*key.value(), decode::<AnswerRow<'_>>(value.value())?.expires));
        }
        for (key, expires) in &found {
            self.t.answers.write()?.remove(key)?;
            self.t.answers_by_expiry.write()?.remove(&expiry_key(*expires, key))?;
        }
        *left -= found.len();
        Ok(found.len() as u64)
    }

    /// Counts the rows of each table once a day, for `db stats`.
    pub(super) fn sample(&mut self, day: u64, counts: &[(&'static str, u64)]) -> Outcome<()> {
        if self.t.growth.read()?.get(&k8(day))?.is_some() {
            return Ok(());
        }
        self.touch();
        let row: Vec<(&str, u64)> = counts.to_vec();
        self.t.growth.write()?.insert(&k8(day), encode(&row, &mut self.buffer)?)?;
        let mut old = Vec::new();
        for row in self.t.growth.read()?.range::<&[u8; 8]>(..&k8(day.saturating_sub(GROWTH_DAYS)))? {
            old.push(*row?.0.value());
        }
        for key in &old {
            self.t.growth.write()?.remove(key)?;
        }
        Ok(())
    }

    pub(super) fn note_backup(&mut self, at: Timestamp, bytes: u64) -> Outcome<()> {
        self.touch();
        self.t.meta.write()?.insert(meta::LAST_BACKUP, encode(&(at.0, bytes), &mut self.buffer)?)?;
        Ok(())
    }
}
