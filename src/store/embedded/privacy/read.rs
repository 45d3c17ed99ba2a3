//! Reads of legal holds and erasures, and of all that is stored of a user.

use std::collections::HashMap;

use redb::ReadableTable;

use crate::config::capacity;
use crate::domain::access::Ban;
use crate::domain::chat::RoomRecord;
use crate::domain::privacy::{Erasure, ErasureCounts, Hold};
use crate::domain::{Refusal, RoomId, UserId};
use crate::store::embedded::access::rows::{Person, decode_room};
use crate::store::embedded::audit::rows::AuditRow;
use crate::store::embedded::chat::places::{LOOKED_AT, OwnMessages};
use crate::store::embedded::chat::read::{Ids, shown};
use crate::store::embedded::chat::rows::decode_message;
use crate::store::embedded::engine::codec::{decode, get};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{Snapshot, k8, k16, k24, second, triple};
use crate::store::embedded::inbox::rows::decode_notification;
use crate::store::embedded::inbox::view::{DELETED, NAMED, READ};
use crate::store::embedded::order::rows::{ReportRow, Way, end_of, report_key};
use crate::store::embedded::privacy::rows::{ErasureRow, read_holds};
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::{ExportCursor, ExportPage, UserItem, UserProfile};

impl Snapshot {
    pub(in crate::store::embedded) fn all_holds(&self) -> Outcome<Vec<Hold>> {
        read_holds(&self.holds()?)
    }

    pub(in crate::store::embedded) fn all_erasures(&self) -> Outcome<Vec<Erasure>> {
        let mut erasures = Vec::new();
        for row in self.erasures()?.iter()? {
            erasures.push(ErasureRow::decode(row?.1.value())?.erasure()?);
        }
        Ok(erasures)
    }

    fn room_record(&self, no: u64) -> Outcome<RoomRecord> {
        get(&self.rooms()?, &k8(no), decode_room)?
            .ok_or_else(|| Failure::Damaged(format!("room {no} is spoken of, but has no record")))
    }

    pub(in crate::store::embedded) fn erasure_of(&self, user: &UserId) -> Outcome<Option<Erasure>> {
        get(&self.erasures()?, user.canonical().as_bytes(), |row| ErasureRow::decode(row)?.erasure())
    }

    /// How many things of somebody an erasure would take now.
    pub(in crate::store::embedded) fn erasable(&self, user: &UserId) -> Outcome<ErasureCounts> {
        let Some(no) = self.find_user(user)? else { return Ok(ErasureCounts::default()) };
        let (low, high) = (k16(no, 0), k16(no, u64::MAX));
        let (low_24, high_24) = (k24(no, 0, 0), k24(no, u64::MAX, u64::MAX));
        let (mut named, mut marks) = (0, 0);
        for row in self.inbox()?.range::<&[u8; 16]>(&low..=&high)? {
            let is_named = decode::<u8>(row?.1.value())? & NAMED != 0;
            named += u64::from(is_named);
            marks += u64::from(!is_named);
        }
        Ok(ErasureCounts {
            messages: OwnMessages::new(&self.msg_blocks()?, &self.in_rooms()?, no, 0, usize::MAX).count() as u64,
            memberships: self.member_rooms()?.range::<&[u8; 16]>(&low..=&high)?.count() as u64,
            lessons: self.progress()?.range::<&[u8; 16]>(&low..=&high)?.count() as u64,
            versions: self.progress_versions()?.range::<&[u8; 24]>(&low_24..=&high_24)?.count() as u64,
            notifications: named + self.notices_naming(user)?.len() as u64,
            inbox: marks + self.inbox_changes()?.range::<&[u8; 16]>(&low..=&high)?.count() as u64,
            answers: self.answers()?.range::<&[u8; 24]>(&low_24..=&high_24)?.count() as u64,
        })
    }

    /// A part of all that is stored of somebody: section by section, each in the order of its keys.
    pub(in crate::store::embedded) fn export_page(
        &self,
        user: &UserId,
        cursor: ExportCursor,
        limit: usize,
    ) -> Outcome<ExportPage> {
        let (no, person) = self.find_person(user)?.ok_or(Refusal::NotFound)?;
        let mut page = ExportPage::default();
        let ExportCursor { section, after } = cursor;
        let next_section = ExportCursor { section: section + 1, after: (0, 0) };
        let last = match section {
            0 => {
                page.items.push(UserItem::Profile(person.profile()));
                None
            }
            1 => self.export_rooms(no, after.0, limit, &mut page.items)?,
            2 => self.export_messages(no, after.0, limit, &mut page.items)?,
            3 => self.export_lessons(no, after.0, limit, &mut page.items)?,
            4 => self.export_versions(no, after, limit, &mut page.items)?,
            5 => self.export_inbox(no, after.0, limit, &mut page.items)?,
            6 => {
                let notices = self.notices_naming(user)?.into_iter();
                page.items.extend(notices.filter(|notice| notice.id > after.0).map(UserItem::Notice));
                None
            }
            7 => self.export_audit(user, after.0, limit, &mut page.items)?,
            8 => {
                let bans = self.all_bans()?.into_iter().filter(|banned| banned.ban.user() == Some(user));
                let mutes = bans.filter(|banned| matches!(banned.ban, Ban::Mute { .. }));
                page.items.extend(mutes.map(UserItem::Mute));
                None
            }
            9 => self.export_reports(no, after.0, limit, &mut page.items)?,
            10 => self.export_reported(no, after.0, limit, &mut page.items)?,
            _ => return Ok(page),
        };
        page.next = Some(last.map_or(next_section, |after| ExportCursor { section, after }));
        Ok(page)
    }

    fn export_rooms(&self, no: u64, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let mut last = Pages::new(limit);
        for row in self.member_rooms()?.range::<&[u8; 16]>(&k16(no, after + 1)..=&k16(no, u64::MAX))? {
            if last.is_full() {
                break;
            }
            let room = second(row?.0.value());
            items.push(UserItem::Room(self.summary(room, no)?.0));
            last.note((room, 0));
        }
        Ok(last.end())
    }

    fn export_messages(&self, no: u64, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let (messages, users, held) = (self.messages()?, self.users()?, self.held()?);
        let mut rooms: HashMap<u64, RoomRecord> = HashMap::new();
        let mut ids = Ids::of(&users);
        let mut last = Pages::new(limit);
        let (blocks, by_room) = (self.msg_blocks()?, self.in_rooms()?);
        let mut own = OwnMessages::new(&blocks, &by_room, no, after + 1, limit.saturating_mul(LOOKED_AT));
        while !last.is_full() {
            let Some(id) = own.next().transpose()? else {
                // Where the bound has ended it the next page goes on behind what was looked at.
                return Ok(own.rest().map(|rest| (rest - 1, 0)));
            };
            last.note((id, 0));
            let Some(row) = messages.get(&k8(id))? else { continue };
            last.weigh(row.value().len());
            let (message, place) = decode_message(row.value(), id, &RoomId::number(0))?;
            let mut message = shown((message, place), &mut ids)?;
            let room = match rooms.entry(place.room) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(gap) => gap.insert(self.room_record(place.room)?),
            };
            message.room = room.id.clone();
            let versions = self.versions_of_message(id, &held)?;
            last.weigh(versions.iter().map(|version| version.content.len()).sum());
            items.push(UserItem::Message { message, versions });
        }
        Ok(last.end())
    }

    fn export_lessons(&self, no: u64, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let mut last = Pages::new(limit);
        for row in self.progress()?.range::<&[u8; 16]>(&k16(no, after + 1)..=&k16(no, u64::MAX))? {
            if last.is_full() {
                break;
            }
            let (key, value) = row?;
            last.weigh(value.value().len());
            items.push(UserItem::Lesson(decode::<ProgressRow<'_>>(value.value())?.read()?));
            last.note((second(key.value()), 0));
        }
        Ok(last.end())
    }

    fn export_versions(&self, no: u64, after: (u64, u64), limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let mut last = Pages::new(limit);
        let (low, high) = (k24(no, after.0, after.1 + 1), k24(no, u64::MAX, u64::MAX));
        for row in self.progress_versions()?.range::<&[u8; 24]>(&low..=&high)? {
            if last.is_full() {
                break;
            }
            let (key, value) = row?;
            last.weigh(value.value().len());
            items.push(UserItem::Version(decode::<ProgressRow<'_>>(value.value())?.read()?));
            let (_, lesson, version) = triple(key.value());
            last.note((lesson, version));
        }
        Ok(last.end())
    }

    fn export_inbox(&self, no: u64, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let notifications = self.notifications()?;
        let mut last = Pages::new(limit);
        for row in self.inbox()?.range::<&[u8; 16]>(&k16(no, after + 1)..=&k16(no, u64::MAX))? {
            if last.is_full() {
                break;
            }
            let (key, value) = row?;
            let (id, flags) = (second(key.value()), decode::<u8>(value.value())?);
            last.note((id, 0));
            let Some(row) = notifications.get(&k8(id))? else { continue };
            last.weigh(row.value().len());
            let notification = decode_notification(row.value(), id, flags & READ != 0)?;
            items.push(UserItem::Notification {
                notification,
                is_deleted: flags & DELETED != 0,
                read_at: self.read_time(no, id)?,
            });
        }
        Ok(last.end())
    }

    fn export_reports(&self, no: u64, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let (reports, users) = (self.reports()?, self.users()?);
        let mut last = Pages::new(limit);
        let (low, high) = (Way::Reporter.key(no, after + 1), Way::Reporter.key(no, u64::MAX));
        for row in reports.range::<&[u8; 24]>(&low..=&high)? {
            if last.is_full() {
                break;
            }
            let (key, value) = row?;
            let id: u64 = decode(value.value())?;
            last.note((end_of(key.value()), 0));
            let Some(row) = reports.get(&report_key(id))? else { continue };
            last.weigh(row.value().len());
            let row: ReportRow<'_> = decode(row.value())?;
            items.push(UserItem::Report(row.report(id, self.room_record(row.room)?.id, &users)?));
        }
        Ok(last.end())
    }

    fn export_reported(&self, no: u64, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let users = self.users()?;
        let mut last = Pages::new(limit);
        for row in self.reports()?.range::<&[u8; 24]>(&report_key(after + 1)..=&report_key(u64::MAX))? {
            if last.is_full() {
                break;
            }
            let (key, value) = row?;
            let (id, row) = (end_of(key.value()), decode::<ReportRow<'_>>(value.value())?);
            last.note((id, 0));
            if row.sender == no {
                last.weigh(value.value().len());
                items.push(UserItem::Reported(row.report(id, self.room_record(row.room)?.id, &users)?));
            }
        }
        Ok(last.end())
    }

    fn export_audit(&self, user: &UserId, after: u64, limit: usize, items: &mut Vec<UserItem>) -> Outcome<Last> {
        let (name, subject) = (user.canonical(), format!("user {user}"));
        let mut last = Pages::new(limit);
        for row in self.audit()?.range::<&[u8; 8]>(&k8(after + 1)..)? {
            if last.is_full() {
                break;
            }
            let (key, value) = row?;
            last.weigh(value.value().len());
            let record = decode::<AuditRow<'_>>(value.value())?.record(u64::from_be_bytes(*key.value()));
            last.note((record.number, 0));
            if record.entry.actor == name || record.entry.target == subject {
                items.push(UserItem::Audit(record));
            }
        }
        Ok(last.end())
    }
}

/// Where a section of an export stopped; `None` at its end.
type Last = Option<(u64, u64)>;

/// Counts the rows of a page and their bytes, and knows its last key.
struct Pages {
    limit: usize,
    rows: usize,
    bytes: usize,
    last: Last,
}

impl Pages {
    fn new(limit: usize) -> Pages {
        Pages { limit, rows: 0, bytes: 0, last: None }
    }

    fn note(&mut self, key: (u64, u64)) {
        self.rows += 1;
        self.last = Some(key);
    }

    fn weigh(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// Whether the next row is for the next page. The first one always fits.
    fn is_full(&self) -> bool {
        self.rows >= self.limit || self.bytes >= capacity::EXPORT_PAGE_BYTES
    }

    fn end(self) -> Last {
        self.last.filter(|_| self.is_full())
    }
}

impl Person {
    /// Who they are.
    pub(in crate::store::embedded) fn profile(self) -> UserProfile {
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
