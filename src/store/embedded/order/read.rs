//! Reads of reports, of who is told of them, and of the state of rooms.

use redb::ReadableTable;

use crate::domain::chat::{Author, Membership, RoomPolicy, may_moderate};
use crate::domain::report::{MOST_TOLD, Report};
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::access::LOOKED_AT;
use crate::store::embedded::access::rows::{MemberRow, decode_room, may_be_locked};
use crate::store::embedded::chat::places::{member_key, member_of};
use crate::store::embedded::chat::read::changer;
use crate::store::embedded::chat::rows::decode_message;
use crate::store::embedded::engine::codec::{decode, get, get_number};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{Snapshot, k8};
use crate::store::embedded::order::rows::{ReportRow, Way, end_of, report_key};
use crate::store::order::{ReportPage, ReportQuery};

impl Snapshot {
    pub(in crate::store::embedded) fn reports_for(
        &self,
        viewer: &Author,
        query: &ReportQuery,
        policy: RoomPolicy,
    ) -> Outcome<ReportPage> {
        let before = query.before.unwrap_or(u64::MAX);
        let Some(room) = &query.room else {
            may_moderate(viewer, None)?;
            let table = self.reports()?;
            let ids = table.range::<&[u8; 24]>(&report_key(0)..&report_key(before))?.rev();
            return self.report_page(None, None, query, ids.map(|row| Ok(end_of(row?.0.value()))));
        };
        let (found, member) = self.enter(room, viewer, policy)?;
        may_moderate(viewer, member.map(|row| row.membership()).transpose()?)?;
        let (no, _) = found.ok_or(Refusal::NotFound)?;
        let not_of = if viewer.admin { None } else { self.find_user(&viewer.user)? };
        let table = self.reports()?;
        let ids = table.range::<&[u8; 24]>(&Way::Room.key(no, 0)..&Way::Room.key(no, before))?.rev();
        self.report_page(Some(room), not_of, query, ids.map(|row| Ok(end_of(row?.0.value()))))
    }

    /// Reports of a room with the JSON type asked for, but for those on what somebody wrote.
    fn report_page(
        &self,
        room: Option<&RoomId>,
        not_of: Option<u64>,
        query: &ReportQuery,
        ids: impl Iterator<Item = Outcome<u64>>,
    ) -> Outcome<ReportPage> {
        let mut page = ReportPage::default();
        let (reports, users) = (self.reports()?, self.users()?);
        let mut last = None;
        for (looked_at, id) in ids.enumerate() {
            if page.items.len() >= query.limit || looked_at >= LOOKED_AT {
                page.next = last;
                break;
            }
            let id = id?;
            last = Some(id);
            let lost = || Failure::Damaged(format!("report {id} is led to, but not there"));
            let row = reports.get(&report_key(id))?.ok_or_else(lost)?;
            let row: ReportRow<'_> = decode(row.value())?;
            if row.resolution.is_some() && !query.resolved_too || not_of == Some(row.sender) {
                continue;
            }
            let room = match room {
                Some(room) => Some(room.clone()),
                None => self.room_led_to(row.room)?,
            };
            if let Some(room) = room {
                page.items.push(row.report(id, room, &users)?);
            }
        }
        Ok(page)
    }

    /// The id of a room, unless that is being removed.
    fn room_led_to(&self, no: u64) -> Outcome<Option<RoomId>> {
        let Some(room) = get(&self.rooms()?, &k8(no), decode_room)?.map(|record| record.id) else { return Ok(None) };
        let leads_to = get_number(&self.room_no()?, room.canonical().as_bytes())?;
        Ok(Some(room).filter(|_| leads_to == Some(no)))
    }

    pub(in crate::store::embedded) fn room_of_report(&self, id: u64) -> Outcome<Option<RoomId>> {
        match get(&self.reports()?, &report_key(id), |row| Ok(decode::<ReportRow<'_>>(row)?.room))? {
            Some(no) => self.room_led_to(no),
            None => Ok(None),
        }
    }

    /// A report as it is now, for whoever was told of it and may still be: an administrator, or a moderator of its room.
    pub(in crate::store::embedded) fn report_for(&self, id: u64, moderator: Option<u64>) -> Outcome<Option<Report>> {
        let reports = self.reports()?;
        let Some(row) = reports.get(&report_key(id))? else { return Ok(None) };
        let row: ReportRow<'_> = decode(row.value())?;
        if let Some(user) = moderator {
            let member = get(&self.in_rooms()?, &member_key(row.room, user), MemberRow::decode)?;
            if member.map(|row| row.membership()).transpose()? != Some(Membership::Moderator) {
                return Ok(None);
            }
        }
        let Some(room) = self.room_led_to(row.room)? else { return Ok(None) };
        row.report(id, room, &self.users()?).map(Some)
    }

    pub(in crate::store::embedded) fn moderators_for(
        &self,
        room: &RoomId,
        viewer: &Author,
        policy: RoomPolicy,
    ) -> Outcome<Vec<UserId>> {
        let (found, member) = self.enter(room, viewer, policy)?;
        may_moderate(viewer, member.map(|row| row.membership()).transpose()?)?;
        found.map_or_else(|| Ok(Vec::new()), |(no, _)| self.moderators_of(no))
    }

    pub(in crate::store::embedded) fn hear_of_report(
        &self,
        room: &RoomId,
        message: u64,
        by: &Author,
        policy: RoomPolicy,
    ) -> Outcome<Option<Vec<UserId>>> {
        let (found, _) = self.enter(room, by, policy)?;
        let (no, _) = found.ok_or(Refusal::NotFound)?;
        let read = |row: &[u8]| decode_message(row, message, room);
        let found = get(&self.messages()?, &k8(message), read)?.filter(|(_, place)| place.room == no);
        let (message, _) = found.ok_or(Refusal::NotFound)?;
        if let Some(user) = self.find_user(&by.user)?
            && self.reports()?.get(&Way::Reporter.key(user, message.id))?.is_some()
        {
            return Ok(None);
        }
        if message.deleted_at.is_some() {
            return Err(Refusal::Deleted(message.id).into());
        }
        self.moderators_of(no).map(Some)
    }

    fn moderators_of(&self, no: u64) -> Outcome<Vec<UserId>> {
        let (users, mut found) = (self.users()?, Vec::new());
        for row in self.in_rooms()?.range::<&[u8; 16]>(&member_key(no, 0)..=&member_key(no, u64::MAX))? {
            let (key, value) = row?;
            if MemberRow::decode(value.value())?.membership()? == Membership::Moderator {
                found.push(changer(&users, member_of(key.value()))?);
                if found.len() >= MOST_TOLD {
                    break;
                }
            }
        }
        Ok(found)
    }

    pub(in crate::store::embedded) fn locked_rooms(&self) -> Outcome<Vec<RoomId>> {
        let mut locked = Vec::new();
        for row in self.rooms()?.iter()? {
            let (key, value) = row?;
            if !may_be_locked(value.value()) || !decode_room(value.value())?.state.locked {
                continue;
            }
            locked.extend(self.room_led_to(u64::from_be_bytes(*key.value()))?);
        }
        Ok(locked)
    }

    pub(in crate::store::embedded) fn may_write(
        &self,
        room: &RoomId,
        author: &Author,
        policy: RoomPolicy,
    ) -> Outcome<()> {
        let (found, member) = self.enter(room, author, policy)?;
        let membership = member.map(|row| row.membership()).transpose()?;
        let is_locked = found.is_some_and(|(_, record)| record.state.locked);
        if is_locked && may_moderate(author, membership).is_err() {
            return Err(Refusal::Locked.into());
        }
        Ok(())
    }
}
