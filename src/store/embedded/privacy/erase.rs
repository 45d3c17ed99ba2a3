//! Erasures: slice by slice, to the certificate of what has gone.

use redb::ReadableTable;

use crate::domain::notification::Audience;
use crate::domain::privacy::{Erasure, ErasureCounts, is_below_floor};
use crate::domain::{Refusal, RoomId, Timestamp, UserId};
use crate::store::Change;
use crate::store::embedded::access::rows::MemberRow;
use crate::store::embedded::chat::places::LOOKED_AT;
use crate::store::embedded::chat::rows::{InRoom, Place, RoomChangeRow, decode_message, encode_message};
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode, encode_2, get, get_value};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{k8, k16, k24, meta, pair, second, triple};
use crate::store::embedded::inbox::rows::{decode_notification, encode_notification};
use crate::store::embedded::inbox::view::{NAMED, user_spaces};
use crate::store::embedded::privacy::rows::{ErasureRow, VersionRow};
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::operations::{BeginErasure, EraseSlice, ErasureBegun, ErasureStep};

impl Apply for BeginErasure {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<ErasureBegun> {
        let BeginErasure { user, by, consent, floor, is_dry_run } = self;
        let before = batch.erasure(&user)?;
        let Some(no) = batch.find_user(&user)? else {
            // Nothing is stored of them: the erasure that has made it so, if there was one.
            let erasure = before.ok_or(Refusal::NotFound)?;
            return Ok(ErasureBegun { erasure, is_new: false });
        };
        if let Some(under_way) = before.as_ref().filter(|erasure| !erasure.is_finished()) {
            return Ok(ErasureBegun { erasure: under_way.clone(), is_new: false });
        }
        batch.refuse_held_person(&user, no)?;
        // Who has only been seen again since has nothing to be erased: the certificate of before stands.
        if let Some(before) = before
            && batch.has_nothing(no)?
        {
            if !is_dry_run {
                let mut all = usize::MAX;
                batch.erase_from_withheld(&user, &mut all)?;
                batch.forget_user(&user, no)?;
            }
            return Ok(ErasureBegun { erasure: before, is_new: false });
        }
        if !consent && is_below_floor(batch.newest_of(no)?, floor, batch.now) {
            return Err(Refusal::BelowFloor.into());
        }
        let at = batch.now;
        let erasure =
            Erasure { user: user.clone(), at, by, consent, finished_at: None, counts: ErasureCounts::default() };
        if is_dry_run {
            return Ok(ErasureBegun { erasure, is_new: false });
        }
        batch.put_erasure(&erasure)?;
        let id = batch.take_id()?;
        batch.tell(Change::Erased { id, user, is_finished: false });
        Ok(ErasureBegun { erasure, is_new: true })
    }
}

impl Apply for EraseSlice {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<ErasureStep> {
        let step = batch.erase(&self.user, self.limit)?;
        if step.is_finished {
            let erasure = batch.erasure(&self.user)?.ok_or(Refusal::NotFound)?;
            let store_id = get_value(batch.t.meta.read()?, meta::STORE_ID)?.unwrap_or_default();
            let certificate = erasure.certificate(store_id).map(|certificate| certificate.hash).unwrap_or_default();
            let outcome = format!("done: {} things, certificate {certificate}", erasure.counts.total());
            batch.record(self.act.entry(batch.now, &outcome))?;
            let id = batch.take_id()?;
            batch.tell(Change::Erased { id, user: self.user, is_finished: true });
        }
        Ok(step)
    }
}

impl Batch<'_, '_> {
    fn erasure(&self, user: &UserId) -> Outcome<Option<Erasure>> {
        get(self.t.erasures.read()?, user.canonical().as_bytes(), |row| ErasureRow::decode(row)?.erasure())
    }

    pub(in crate::store::embedded) fn put_erasure(&mut self, erasure: &Erasure) -> Outcome<()> {
        self.put_erasure_of(&erasure.user, erasure)
    }

    /// Of somebody by the name of today: what has ended before format 8 keeps the id that its certificate has.
    pub(in crate::store::embedded) fn put_erasure_of(&mut self, user: &UserId, erasure: &Erasure) -> Outcome<()> {
        self.touch();
        self.forget_erasing();
        let row = ErasureRow::of(erasure);
        self.t.erasures.write()?.insert(user.canonical().as_bytes(), encode_2(&row, &mut self.buffer)?)?;
        Ok(())
    }

    /// Whether nothing is stored of a user but that they have been here.
    fn has_nothing(&self, no: u64) -> Outcome<bool> {
        let (low, high) = (k16(no, 0), k16(no, u64::MAX));
        let (low_24, high_24) = (k24(no, 0, 0), k24(no, u64::MAX, u64::MAX));
        Ok(self.t.msg_blocks.read()?.range::<&[u8; 24]>(&low_24..=&high_24)?.next().is_none()
            && self.t.authors.read()?.range::<&[u8; 16]>(&low..=&high)?.next().is_none()
            && self.t.member_rooms.read()?.range::<&[u8; 16]>(&low..=&high)?.next().is_none()
            && self.t.progress.read()?.range::<&[u8; 16]>(&low..=&high)?.next().is_none()
            && self.t.progress_versions.read()?.range::<&[u8; 24]>(&low_24..=&high_24)?.next().is_none()
            && self.t.inbox.read()?.range::<&[u8; 16]>(&low..=&high)?.next().is_none()
            && self.t.read_times.read()?.range::<&[u8; 16]>(&low..=&high)?.next().is_none()
            && self.t.inbox_changes.read()?.range::<&[u8; 16]>(&low..=&high)?.next().is_none()
            && !self.has_reported_anything(no)?
            && self.t.answers.read()?.range::<&[u8; 24]>(&low_24..=&high_24)?.next().is_none())
    }

    /// When the newest message, progress or notification of a person was stored.
    fn newest_of(&self, no: u64) -> Outcome<Option<Timestamp>> {
        let (low, high) = (k16(no, 0), k16(no, u64::MAX));
        let mut newest = self.newest_message_of(no)?.max(self.last_report_of(no)?);
        if let Some(row) = self.t.progress_by_change.read()?.range::<&[u8; 16]>(&low..=&high)?.next_back() {
            let lesson: u64 = decode(row?.1.value())?;
            let read = |row: &[u8]| Ok(decode::<ProgressRow<'_>>(row)?.read()?.updated_at);
            newest = newest.max(get(self.t.progress.read()?, &k16(no, lesson), read)?);
        }
        if let Some(row) = self.t.inbox.read()?.range::<&[u8; 16]>(&low..=&high)?.next_back() {
            let id = second(row?.0.value());
            let read = |row: &[u8]| Ok(decode_notification(row, id, false)?.at);
            newest = newest.max(get(self.t.notifications.read()?, &k8(id), read)?);
        }
        Ok(newest)
    }

    /// One slice: about `limit` rows. The person's own row goes last, so that a cut never leaves rows of nobody.
    pub(in crate::store::embedded) fn erase(&mut self, user: &UserId, limit: usize) -> Outcome<ErasureStep> {
        let mut erasure = self.erasure(user)?.ok_or(Refusal::NotFound)?;
        if erasure.is_finished() {
            return Err(Refusal::NotFound.into());
        }
        let mut counts = ErasureCounts::default();
        let mut left = limit.max(1);
        let mut is_finished = true;
        if let Some(no) = self.find_user(user)? {
            counts.messages = self.erase_messages(no, &mut left)?;
            counts.memberships = self.erase_memberships(no, &mut left)?;
            counts.lessons = self.erase_lessons(no, &mut left)?;
            counts.versions = self.erase_versions(no, &mut left)?;
            let (notifications, marks) = self.erase_inbox(no, user, &mut left)?;
            counts.notifications = notifications;
            self.erase_read_times(no, &mut left)?;
            counts.inbox = marks + self.erase_inbox_changes(no, &mut left)?;
            counts.answers = self.erase_answers(no, &mut left)?;
            self.erase_reports(no, &mut left)?;
            self.erase_authorship(no, &mut left)?;
            self.erase_from_withheld(user, &mut left)?;
            is_finished = left > 0;
            if is_finished {
                counts.notifications += self.erase_from_notices(user, no)?;
                for space in user_spaces(no) {
                    counts::forget(self.t.inbox_counts.write()?, space)?;
                }
                self.forget_user(user, no)?;
            }
        }
        if is_finished {
            self.erase_mutes(user)?;
        }
        erasure.finished_at = is_finished.then_some(self.now);
        erasure.counts = erasure.counts.plus(counts);
        self.put_erasure(&erasure)?;
        Ok(ErasureStep { counts, is_finished })
    }

    /// In which rooms they have written. It goes behind the messages: a hold that comes in between is refused by it.
    fn erase_authorship(&mut self, no: u64, left: &mut usize) -> Outcome<()> {
        let mut found = Vec::new();
        for row in self.t.authors.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            found.push(*row?.0.value());
        }
        for key in &found {
            self.t.authors.write()?.remove(key)?;
        }
        *left -= found.len();
        Ok(())
    }

    /// In what is withheld of others' messages they are nobody, as one who has changed them. What it says stays, for the hold.
    fn erase_from_withheld(&mut self, user: &UserId, left: &mut usize) -> Outcome<()> {
        let mut found = Vec::new();
        for row in self.t.withheld.read()?.iter()? {
            if found.len() >= *left {
                break;
            }
            let (key, value) = row?;
            let row: VersionRow<'_> = decode(value.value())?;
            let version = row.version()?;
            if version.by == *user {
                found.push((*key.value(), version, row.room, row.sender));
            }
        }
        for (key, mut version, room, sender) in found {
            version.by = UserId::erased();
            let row = VersionRow::at(&version, room, sender);
            self.touch();
            self.t.withheld.write()?.insert(&key, encode(&row, &mut self.buffer)?)?;
            *left -= 1;
        }
        Ok(())
    }

    /// Messages become tombstones of nobody: their place in the room stays, and `seq` is whole.
    fn erase_messages(&mut self, no: u64, left: &mut usize) -> Outcome<u64> {
        let (mut ids, mut own) = (Vec::new(), self.own_messages(no, left.saturating_mul(LOOKED_AT))?);
        while ids.len() < *left
            && let Some(id) = own.next().transpose()?
        {
            ids.push(id);
        }
        let rest = own.rest();
        *left = if rest.is_some() { 0 } else { *left - ids.len() };
        if ids.is_empty() {
            self.forget_blocks_of(no, rest)?;
            return Ok(0);
        }
        let held = self.held()?;
        let nowhere = RoomId::number(0);
        let mut slice = Vec::with_capacity(ids.len());
        for id in &ids {
            let read = |row: &[u8]| decode_message(row, *id, &nowhere);
            let Some((message, place)) = get(self.t.messages.read()?, &k8(*id), read)? else {
                return Err(Failure::Damaged(format!("message {id} is indexed, but not there")));
            };
            // It was asked at the beginning; a message that is held all the same stays.
            if held.holds_message(&place.sender, &place.room) {
                return Err(Refusal::Held(format!("message {id}")).into());
            }
            slice.push((message, place));
        }
        let nobody = self.user(&UserId::erased())?;
        let doomed = self.doomed()?;
        for (mut message, place) in slice {
            let (id, was_deleted) = (&message.id.clone(), message.deleted_at.is_some());
            message.content.clear();
            message.sender = UserId::erased();
            message.sender_name.clear();
            message.client_id = None;
            message.edited_at = None;
            message.deleted_at = Some(message.deleted_at.unwrap_or_else(|| self.now.max(message.at)));
            let supersedes = place.change;
            let place = Place { sender: nobody, edited_by: None, deleted_by: None, ..place };
            self.put_place(place.room, *id, InRoom::of(&message, nobody))?;
            self.forget_sides_of(*id, place.room)?;
            if let Some(room) = self.room_of(place.room)? {
                message.room = room;
            }
            // Nothing is delivered to a room that is being removed: its id may be another one's by now.
            let is_told = !doomed.contains(&place.room);
            if was_deleted {
                self.t.messages.write()?.insert(&k8(*id), encode_message(&message, place, &mut self.buffer)?)?;
                let change = self.take_id()?;
                if is_told {
                    self.tell(Change::Anonymised { id: change, message: std::sync::Arc::new(message), supersedes });
                }
                continue;
            }
            let change = self.replace(&message, place, RoomChangeRow::Deleted(*id))?;
            self.note_tombstone(place.room, &message, true)?;
            if is_told {
                self.tell(Change::Deleted { id: change, message: std::sync::Arc::new(message), supersedes });
            }
        }
        self.forget_blocks_of(no, rest)?;
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
            // What is counted of them goes as a whole at the end.
            self.t.inbox.write()?.remove(&k16(no, *id))?;
            if flags & NAMED == 0 {
                continue;
            }
            self.t.named.write()?.remove(&k16(no, *id))?;
            named += 1;
            let read = |row: &[u8]| decode_notification(row, *id, false);
            let Some(mut one) = get(self.t.notifications.read()?, &k8(*id), read)? else { continue };
            let Audience::Users(users) = &mut one.audience else { continue };
            users.retain(|other| other != user);
            if users.is_empty() {
                self.t.notifications.write()?.remove(&k8(*id))?;
            } else {
                self.t.notifications.write()?.insert(&k8(*id), encode_notification(&one, &mut self.buffer)?)?;
            }
        }
        *left -= found.len();
        Ok((named, found.len() as u64 - named))
    }

    /// When they have read what they have read.
    fn erase_read_times(&mut self, no: u64, left: &mut usize) -> Outcome<()> {
        let mut found = Vec::new();
        for row in self.t.read_times.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?.take(*left) {
            found.push(*row?.0.value());
        }
        for key in &found {
            self.t.read_times.write()?.remove(key)?;
            self.count_readers(second(key), false)?;
        }
        *left -= found.len();
        Ok(())
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
            found.push(*row?.0.value());
        }
        for key in &found {
            self.t.answers.write()?.remove(key)?;
        }
        *left -= found.len();
        Ok(found.len() as u64)
    }
}
