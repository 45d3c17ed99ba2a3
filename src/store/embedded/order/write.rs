//! How order is kept: a room is locked or slowed, somebody is muted by its moderators, a message is reported, and a report resolved.
//! A report goes with its message, and with whoever has made it.

use std::sync::Arc;

use redb::ReadableTable;

use crate::domain::access::{Ban, Banned};
use crate::domain::chat::{Author, Membership, RoomPolicy, may_moderate};
use crate::domain::report::{MOST_TOLD, Report};
use crate::domain::{Refusal, Role, RoomId, Timestamp, UserId};
use crate::store::Change;
use crate::store::change::ReportAudience;
use crate::store::embedded::chat::rows::{RoomChangeRow, decode_message};
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode, get, get_number, kind_code};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{NOBODY, k8, k16};
use crate::store::embedded::order::rows::{ReportRow, ResolutionRow, Way, report_key, with_report};
use crate::store::embedded::privacy::holds::Held;
use crate::store::operations::{
    MuteMember, ReportMessage, Reported, ResolveReport, Resolved, SetRoomState, StateSet, UnmuteMember,
};

impl Apply for SetRoomState {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<StateSet> {
        let SetRoomState { room, by, change, policy } = self;
        let no = batch.enter_to_moderate(&room, &by, policy)?;
        let (_, record) = batch.find_record(&room)?.ok_or(Refusal::NotFound)?;
        let (before, told_by) = (record.state, record.state_change);
        let state = before.with(change);
        if state == before {
            return Ok(StateSet { state, is_new: false });
        }
        let id = batch.take_id()?;
        if told_by > 0 {
            batch.t.changes_by_room.write()?.remove(&k16(no, told_by))?;
        }
        let row = encode(&RoomChangeRow::State, &mut batch.buffer)?;
        batch.t.changes_by_room.write()?.insert(&k16(no, id), row)?;
        batch.change_room(&room, |record| (record.state, record.state_change) = (state, id))?;
        batch.tell(Change::StateSet { id, room, state });
        Ok(StateSet { state, is_new: true })
    }
}

impl Apply for MuteMember {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Banned> {
        let MuteMember { room, user, by, until, policy } = self;
        let no = batch.enter_to_moderate(&room, &by, policy)?;
        batch.refuse_erasing(&user)?;
        let target = batch.find_user(&user)?.ok_or(Refusal::NotFound)?;
        let membership = batch.member(no, target)?.ok_or(Refusal::NotFound)?.membership()?;
        if membership == Membership::Moderator || batch.person(target)?.roles.contains(&Role::Admin) {
            return Err(Refusal::KeepsOrder(user).into());
        }
        let ban = Ban::Mute { user, room: Some(room) };
        let (at, by) = (batch.now, by.user.canonical());
        batch.set_ban(Banned { ban, before: at, until: Some(until), by, at })
    }
}

impl Apply for UnmuteMember {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Banned> {
        let UnmuteMember { room, user, by, policy } = self;
        batch.enter_to_moderate(&room, &by, policy)?;
        // What an administrator has set against a moderator is not that moderator's to lift.
        if by.user == user && !by.admin {
            return Err(Refusal::Forbidden.into());
        }
        batch.lift_ban(Ban::Mute { user, room: Some(room) })
    }
}

impl Apply for ReportMessage {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Reported> {
        let ReportMessage { room, message_id, by, reason, moderators, policy } = self;
        batch.refuse_erasing(&by.user)?;
        let entered = batch.enter(&room, &by, policy)?;
        let no = entered.room.ok_or(Refusal::NotFound)?;
        let read = |row: &[u8]| decode_message(row, message_id, &room);
        let (message, place) = get(batch.t.messages.read()?, &k8(message_id), read)?.ok_or(Refusal::NotFound)?;
        if place.room != no {
            return Err(Refusal::NotFound.into());
        }
        if let Some(user) = entered.user
            && let Some(id) = get_number(batch.t.reports.read()?, &Way::Reporter.key(user, message_id))?
        {
            let at = with_report(batch.t.reports.read()?, id, |row| Ok(Timestamp(row.at)))?;
            return Ok(Reported { id, at, duplicate: true });
        }
        if message.deleted_at.is_some() {
            return Err(Refusal::Deleted(message_id).into());
        }
        let user = batch.user(&by.user)?;
        let (id, at) = (batch.take_id()?, batch.now);
        let told = batch.still_moderators(no, &moderators, place.sender)?;
        let row = ReportRow {
            room: no,
            message: message_id,
            sender: place.sender,
            by: user,
            at: at.0,
            sent_at: message.at.0,
            kind: kind_code(message.kind),
            content: &message.content,
            reason: &reason,
            change: id,
            told: told.iter().map(|(no, _)| *no).collect(),
            resolution: None,
        };
        let report = row.report(id, room, batch.t.users.read()?)?;
        batch.put_report(id, &row)?;
        for key in [Way::Room.key(no, id), Way::Message.key(message_id, id), Way::Reporter.key(user, message_id)] {
            batch.t.reports.write()?.insert(&key, encode(&id, &mut batch.buffer)?)?;
        }
        batch.tell_report(id, report, told);
        Ok(Reported { id, at, duplicate: false })
    }
}

impl Apply for ResolveReport {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Resolved> {
        let ResolveReport { report: id, room: asked, by, note, moderators, policy } = self;
        let found = get(batch.t.reports.read()?, &report_key(id), |row| Ok(row.to_vec()))?;
        // Of a room that one may not enter nothing is said, not even that there is no such report in it.
        if let Some(room) = &asked {
            batch.enter_to_moderate(room, &by, policy)?;
        }
        let bytes = found.ok_or(Refusal::NotFound)?;
        let row: ReportRow<'_> = decode(&bytes)?;
        let room = batch.room_of(row.room)?.ok_or(Refusal::NotFound)?;
        // A room that is being removed is not there any more; its id may be another one's.
        let is_there = batch.find_room(&room)?.is_some_and(|(no, _)| no == row.room);
        if !is_there || asked.as_ref().is_some_and(|asked| *asked != room) {
            return Err(Refusal::NotFound.into());
        }
        let room = asked.unwrap_or(room);
        batch.enter_to_moderate(&room, &by, policy)?;
        if !by.admin && batch.find_user(&by.user)? == Some(row.sender) {
            return Err(Refusal::Forbidden.into());
        }
        if row.resolution.is_some() {
            return Ok(Resolved { report: row.report(id, room, batch.t.users.read()?)?, is_new: false });
        }
        batch.refuse_erasing(&by.user)?;
        let user = batch.user(&by.user)?;
        batch.forget_telling(&row)?;
        let (change, told) = (batch.take_id()?, batch.still_moderators(row.room, &moderators, row.sender)?);
        let resolution = Some(ResolutionRow { at: batch.now.0, by: user, note: &note });
        let row = ReportRow { change, told: told.iter().map(|(no, _)| *no).collect(), resolution, ..row };
        let report = row.report(id, room, batch.t.users.read()?)?;
        batch.put_report(id, &row)?;
        batch.tell_report(change, report.clone(), told);
        Ok(Resolved { report, is_new: true })
    }
}

impl Batch<'_, '_> {
    /// Lets somebody in who keeps order in a room, and gives its number.
    fn enter_to_moderate(&mut self, room: &RoomId, by: &Author, policy: RoomPolicy) -> Outcome<u64> {
        let entered = self.enter(room, by, policy)?;
        may_moderate(by, entered.membership)?;
        Ok(entered.room.ok_or(Refusal::NotFound)?)
    }

    /// Those of them who keep order in a room: not who wrote what is reported, and not administrators, who are told as such.
    fn still_moderators(&mut self, room: u64, users: &[UserId], sender: u64) -> Outcome<Vec<(u64, UserId)>> {
        let mut found = Vec::new();
        for user in users.iter().take(MOST_TOLD) {
            let Some(no) = self.find_user(user)?.filter(|no| *no != sender) else { continue };
            let is_moderator = match self.member(room, no)? {
                Some(row) => row.membership()? == Membership::Moderator,
                None => false,
            };
            if is_moderator && !self.person(no)?.roles.contains(&Role::Admin) {
                found.push((no, user.clone()));
            }
        }
        Ok(found)
    }

    /// Keeps a report, and who is told of it as it is now.
    fn put_report(&mut self, id: u64, row: &ReportRow<'_>) -> Outcome<()> {
        self.touch();
        self.t.reports.write()?.insert(&report_key(id), encode(row, &mut self.buffer)?)?;
        for user in std::iter::once(&NOBODY).chain(&row.told) {
            let value = encode(&id, &mut self.buffer)?;
            self.t.reports.write()?.insert(&Way::Told.key(*user, row.change), value)?;
        }
        Ok(())
    }

    fn tell_report(&mut self, id: u64, report: Report, told: Vec<(u64, UserId)>) {
        let moderators = told.into_iter().map(|(_, user)| user).collect();
        let to = ReportAudience { administrators: true, moderators };
        self.tell(Change::Reported { id, report: Arc::new(report), to });
    }

    /// Nobody is told of a report as it is any more.
    fn forget_telling(&mut self, row: &ReportRow<'_>) -> Outcome<()> {
        for user in std::iter::once(&NOBODY).chain(&row.told) {
            self.t.reports.write()?.remove(&Way::Told.key(*user, row.change))?;
        }
        Ok(())
    }

    fn forget_report(&mut self, id: u64) -> Outcome<()> {
        let Some(bytes) = get(self.t.reports.read()?, &report_key(id), |row| Ok(row.to_vec()))? else {
            return Ok(());
        };
        let row: ReportRow<'_> = decode(&bytes)?;
        self.touch();
        self.forget_telling(&row)?;
        let ways =
            [Way::Room.key(row.room, id), Way::Message.key(row.message, id), Way::Reporter.key(row.by, row.message)];
        for key in ways.iter().chain([&report_key(id)]) {
            self.t.reports.write()?.remove(key)?;
        }
        Ok(())
    }

    /// What a message was reported for goes with it.
    pub(in crate::store::embedded) fn forget_reports_on(&mut self, message: u64) -> Outcome<()> {
        let ids: Vec<u64> =
            Way::Message.reports(self.t.reports.read()?, message)?.map(|one| Ok(one?.1)).collect::<Outcome<_>>()?;
        ids.into_iter().try_for_each(|id| self.forget_report(id))
    }

    /// Whether somebody who is held has reported a message: it stays with their report.
    pub(in crate::store::embedded) fn is_reported_by_held(&self, held: &Held, message: u64) -> Outcome<bool> {
        for user in held.users() {
            if self.t.reports.read()?.get(&Way::Reporter.key(*user, message))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether somebody has made a report that is so.
    fn has_made(&self, user: u64, is_so: impl Fn(&ReportRow<'_>) -> bool) -> Outcome<bool> {
        let table = self.t.reports.read()?;
        for one in Way::Reporter.reports(table, user)? {
            if with_report(table, one?.1, |row| Ok(is_so(&row)))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether somebody has reported anything in a room.
    pub(in crate::store::embedded) fn has_reported_in(&self, user: u64, room: u64) -> Outcome<bool> {
        self.has_made(user, |row| row.room == room)
    }

    /// Whether somebody has reported anything that somebody else has written.
    pub(in crate::store::embedded) fn has_reported(&self, user: u64, sender: u64) -> Outcome<bool> {
        self.has_made(user, |row| row.sender == sender)
    }

    /// Whether somebody has reported anything.
    pub(in crate::store::embedded) fn has_reported_anything(&self, user: u64) -> Outcome<bool> {
        self.has_made(user, |_| true)
    }

    /// When somebody has reported something last.
    pub(in crate::store::embedded) fn last_report_of(&self, user: u64) -> Outcome<Option<Timestamp>> {
        let (table, mut last) = (self.t.reports.read()?, None);
        for one in Way::Reporter.reports(table, user)? {
            last = last.max(Some(with_report(table, one?.1, |row| Ok(Timestamp(row.at)))?));
        }
        Ok(last)
    }

    /// What somebody has reported, and what they were told of.
    pub(in crate::store::embedded) fn erase_reports(&mut self, user: u64, left: &mut usize) -> Outcome<()> {
        let table = self.t.reports.read()?;
        let made: Vec<u64> =
            Way::Reporter.reports(table, user)?.take(*left).map(|one| Ok(one?.1)).collect::<Outcome<_>>()?;
        *left -= made.len();
        made.into_iter().try_for_each(|id| self.forget_report(id))?;
        let table = self.t.reports.read()?;
        let told: Vec<[u8; 24]> =
            Way::Told.reports(table, user)?.take(*left).map(|one| Ok(one?.0)).collect::<Outcome<_>>()?;
        *left -= told.len();
        for key in &told {
            self.t.reports.write()?.remove(key)?;
        }
        Ok(())
    }
}
