//! Reads of inboxes and people, and the replay of what somebody missed.

use std::ops::ControlFlow;
use std::sync::Arc;

use super::failure::{Failure, Outcome};
use super::inbox::{Entry, Owner, Span, unread, walk};
use super::queries::read_message;
use super::records::{
    InboxChangeRow, MemberRow, Person, ProgressRow, RoomChangeRow, action_of, decode, decode_message,
    decode_notification, get,
};
use super::schema::{Snapshot, k8, k16, second};
use crate::domain::chat::ReadMark;
use crate::domain::notification::{Notification, Selection};
use crate::domain::{Actor, RoomId, Timestamp, UserId};
use crate::store::{Arrival, Change, InboxPage, InboxQuery, Replay};

impl Snapshot {
    fn owner(&self, viewer: &Actor) -> Outcome<(Owner, Option<(u64, Person)>)> {
        let person = self.find_person(&viewer.user)?;
        Ok((Owner::new(person.as_ref().map(|(no, person)| (*no, person)), &viewer.roles), person))
    }

    fn entries(&self, owner: &Owner, span: Span, limit: usize, wanted: impl Fn(&Entry) -> bool) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        walk(&self.inbox()?, &self.notif_by_audience()?, owner, span, |entry| {
            if wanted(&entry) {
                entries.push(entry);
            }
            Ok(if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(entries)
    }

    fn read_notifications(&self, entries: &[Entry]) -> Outcome<Vec<Notification>> {
        let table = self.notifications()?;
        entries
            .iter()
            .map(|entry| {
                get(&table, &k8(entry.id), |row| decode_notification(row, entry.id, entry.read))?
                    .ok_or_else(|| Failure::Damaged(format!("notification {} is indexed, but not stored", entry.id)))
            })
            .collect()
    }

    pub(super) fn inbox_page(&self, viewer: &Actor, query: &InboxQuery) -> Outcome<InboxPage> {
        let (owner, _) = self.owner(viewer)?;
        let span = Span { after: 0, before: query.before.unwrap_or(u64::MAX), newest_first: true };
        let wanted = |entry: &Entry| !(query.unread_only && entry.read);
        let mut entries = self.entries(&owner, span, query.limit.saturating_add(1), wanted)?;
        let has_more = entries.len() > query.limit;
        entries.truncate(query.limit);
        Ok(InboxPage {
            items: self.read_notifications(&entries)?,
            unread: unread(&self.inbox()?, &self.notif_by_audience()?, &owner)?,
            has_more,
        })
    }

    pub(super) fn arrival(&self, actor: &Actor, limit: usize) -> Outcome<Arrival> {
        let (owner, person) = self.owner(actor)?;
        let after = person.map_or(0, |(_, person)| person.delivered_up_to);
        let entries = self.entries(&owner, Span { after, ..Span::ALL }, limit, |_| true)?;
        Ok(Arrival {
            unread: unread(&self.inbox()?, &self.notif_by_audience()?, &owner)?,
            undelivered: self.read_notifications(&entries)?,
        })
    }

    pub(super) fn seen(&self, users: &[UserId]) -> Outcome<Vec<Option<(String, Timestamp)>>> {
        users
            .iter()
            .map(|user| {
                let person = self.find_person(user)?.map(|(_, person)| person).filter(Person::has_arrived);
                Ok(person.map(|person| (person.name, person.last_seen_at)))
            })
            .collect()
    }

    pub(super) fn missed(&self, viewer: &Actor, rooms: &[RoomId], after: u64, limit: usize) -> Outcome<Replay> {
        let last = self.check_cursor(after)?;
        let mut missed = Missed { after, wanted: limit.saturating_add(1), changes: Vec::new() };
        let mut done: Vec<&RoomId> = Vec::new();
        for room in rooms {
            if !done.contains(&room) {
                done.push(room);
                self.missed_in_room(room, &mut missed)?;
            }
        }
        self.missed_by_user(viewer, &mut missed)?;
        let mut changes = missed.changes;
        changes.sort_by_key(Change::id);
        let has_more = changes.len() > limit;
        changes.truncate(limit);
        // With a limit of nothing the cursor stays where it is.
        let up_to = if has_more { changes.last().map_or(after, Change::id) } else { last };
        Ok(Replay { changes, up_to, has_more })
    }

    fn missed_in_room(&self, room: &RoomId, missed: &mut Missed) -> Outcome<()> {
        let Some((no, _)) = self.find_room(room)? else { return Ok(()) };
        let behind = k16(no, missed.after.saturating_add(1));
        let end = k16(no, u64::MAX);
        let messages = self.messages()?;
        for row in self.msg_by_room()?.range::<&[u8; 16]>(&behind..=&end)?.take(missed.wanted) {
            let id = second(row?.0.value());
            missed.changes.push(Change::Posted(Arc::new(read_message(&messages, id, room)?)));
        }
        let (users, members) = (self.users()?, self.members()?);
        for row in self.changes_by_room()?.range::<&[u8; 16]>(&behind..=&end)?.take(missed.wanted) {
            let (key, value) = row?;
            let id = second(key.value());
            let lost = || Failure::Damaged(format!("change {id} of room {no} is of something that is not there"));
            let message = |message_id: u64| {
                get(&messages, &k8(message_id), |row| decode_message(row, message_id, room))?
                    .map(|(message, _)| message)
                    .ok_or_else(lost)
            };
            let room = room.clone();
            missed.changes.push(match decode(value.value())? {
                RoomChangeRow::Edited(message_id) => {
                    let message = message(message_id)?;
                    let at = message.edited_at.unwrap_or(message.at);
                    Change::Edited { id, room, message_id, content: message.content, at }
                }
                RoomChangeRow::Deleted(message_id) => {
                    let message = message(message_id)?;
                    Change::Deleted { id, room, message_id, at: message.deleted_at.unwrap_or(message.at) }
                }
                RoomChangeRow::Read(user) => {
                    let person = get(&users, &k8(user), Person::decode)?.ok_or_else(lost)?;
                    let row = get(&members, &k16(no, user), |row| decode::<MemberRow>(row))?.ok_or_else(lost)?;
                    Change::Read { id, mark: ReadMark { room, user: person.id, message_id: row.read_up_to } }
                }
            });
        }
        Ok(())
    }

    fn missed_by_user(&self, viewer: &Actor, missed: &mut Missed) -> Outcome<()> {
        let (owner, person) = self.owner(viewer)?;
        let span = Span { after: missed.after, ..Span::ALL };
        let entries = self.entries(&owner, span, missed.wanted, |_| true)?;
        missed.changes.extend(self.read_notifications(&entries)?.into_iter().map(Change::Notified));
        let Some((no, _)) = person else { return Ok(()) };
        let behind = k16(no, missed.after.saturating_add(1));
        let end = k16(no, u64::MAX);
        let progress = self.progress()?;
        for row in self.progress_by_change()?.range::<&[u8; 16]>(&behind..=&end)?.take(missed.wanted) {
            let (key, lesson) = row?;
            let id = second(key.value());
            let read = |row: &[u8]| decode::<ProgressRow<'_>>(row)?.read();
            let progress = get(&progress, &k16(no, decode(lesson.value())?), read)?
                .ok_or_else(|| Failure::Damaged(format!("change {id} is of a lesson that is not there")))?;
            missed.changes.push(Change::Progressed { id, progress });
        }
        let mut unread_now = None;
        for row in self.inbox_changes()?.range::<&[u8; 16]>(&behind..=&end)?.take(missed.wanted) {
            let (key, value) = row?;
            let change: InboxChangeRow = decode(value.value())?;
            let unread = match unread_now {
                Some(unread) => unread,
                None => *unread_now.insert(unread(&self.inbox()?, &self.notif_by_audience()?, &owner)?),
            };
            missed.changes.push(Change::InboxChanged {
                id: second(key.value()),
                user: viewer.user.clone(),
                selection: change.ids.map_or(Selection::All, Selection::Ids),
                action: action_of(change.action)?,
                unread,
                origin: None,
            });
        }
        Ok(())
    }
}

/// What a replay gathers; each source gives one more than is asked for, so that the merged order is right and one can
/// tell whether there is more.
struct Missed {
    after: u64,
    wanted: usize,
    changes: Vec<Change>,
}
