//! Reads of inboxes and people, and the replay of what somebody missed.

use std::ops::ControlFlow;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadableTable};

use crate::domain::chat::ReadMark;
use crate::domain::notification::{AudienceKind, Notification, Selection};
use crate::domain::{Actor, RoomId, Timestamp, UserId};
use crate::store::embedded::access::rows::{MemberRow, Person};
use crate::store::embedded::chat::read::read_message;
use crate::store::embedded::chat::rows::{RoomChangeRow, decode_message};
use crate::store::embedded::engine::codec::{action_of, decode, get, get_number};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{K16, Row, Snapshot, k8, k16, meta, second};
use crate::store::embedded::inbox::rows::{InboxChangeRow, decode_broadcast, decode_notification};
use crate::store::embedded::inbox::view::{Entry, InboxTables, Owner, Span};
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::operations::Broadcast;
use crate::store::{Arrival, Change, InboxPage, InboxQuery, Replay};

/// The tables of inboxes, as readers open them.
type InboxView<'t> = InboxTables<'t, ReadOnlyTable<K16, Row>, ReadOnlyTable<K16, ()>, ReadOnlyTable<K16, Row>>;

impl Snapshot {
    fn owner(&self, viewer: &Actor) -> Outcome<Owner> {
        Ok(Owner::new(self.find_person(&viewer.user)?, &viewer.roles))
    }

    /// The tables of inboxes, for one look.
    fn with_inbox<T>(&self, look: impl FnOnce(&InboxView<'_>) -> Outcome<T>) -> Outcome<T> {
        let (inbox, by_audience, counts) = (self.inbox()?, self.notif_by_audience()?, self.inbox_counts()?);
        let named = self.named()?;
        let purged_up_to = get_number(&self.meta()?, meta::NOTIFICATIONS_PURGED)?.unwrap_or(0);
        look(&InboxTables { inbox: &inbox, by_audience: &by_audience, named: &named, counts: &counts, purged_up_to })
    }

    fn unread(&self, owner: &Owner) -> Outcome<u64> {
        self.with_inbox(|tables| tables.unread(owner))
    }

    fn entries(&self, owner: &Owner, span: Span<impl Fn(AudienceKind) -> u64>, limit: usize) -> Outcome<Vec<Entry>> {
        let mut entries = Vec::new();
        if limit == 0 {
            return Ok(entries);
        }
        self.with_inbox(|tables| {
            tables.walk(owner, span, |entry| {
                entries.push(entry);
                Ok(if entries.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
            })
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

    pub(in crate::store::embedded) fn inbox_page(&self, viewer: &Actor, query: &InboxQuery) -> Outcome<InboxPage> {
        let owner = self.owner(viewer)?;
        let before = query.before.unwrap_or(u64::MAX);
        let span = Span { after: |_| 0, before, newest_first: true, unread_only: query.unread_only };
        let mut entries = self.entries(&owner, span, query.limit.saturating_add(1))?;
        let has_more = entries.len() > query.limit;
        entries.truncate(query.limit);
        Ok(InboxPage { items: self.read_notifications(&entries)?, unread: self.unread(&owner)?, has_more })
    }

    pub(in crate::store::embedded) fn arrival(&self, viewer: &Actor, limit: usize) -> Outcome<Arrival> {
        let owner = self.owner(viewer)?;
        let span = Span::behind(|kind| owner.marks(kind).delivered);
        let entries = self.entries(&owner, span, limit)?;
        Ok(Arrival { unread: self.unread(&owner)?, undelivered: self.read_notifications(&entries)? })
    }

    pub(in crate::store::embedded) fn seen(&self, users: &[UserId]) -> Outcome<Vec<Option<(String, Timestamp)>>> {
        users
            .iter()
            .map(|user| {
                let person = self.find_person(user)?.map(|(_, person)| person).filter(Person::has_arrived);
                Ok(person.map(|person| (person.name, person.last_seen_at)))
            })
            .collect()
    }

    pub(in crate::store::embedded) fn missed(
        &self,
        viewer: &Actor,
        rooms: &[RoomId],
        after: u64,
        limit: usize,
    ) -> Outcome<Replay> {
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
            let message = Arc::new(read_message(&messages, id, room)?);
            missed.changes.push(Change::Posted { message, origin: None });
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
                    Change::Edited { id, message: Arc::new(message(message_id)?), supersedes: 0 }
                }
                RoomChangeRow::Deleted(message_id) => {
                    Change::Deleted { id, message: Arc::new(message(message_id)?), supersedes: 0 }
                }
                RoomChangeRow::Read(user) => {
                    let person = get(&users, &k8(user), Person::decode)?.ok_or_else(lost)?;
                    let row = get(&members, &k16(no, user), MemberRow::decode)?.ok_or_else(lost)?;
                    Change::Read { id, mark: ReadMark { room, user: person.id, message_id: row.read_up_to } }
                }
            });
        }
        Ok(())
    }

    fn missed_by_user(&self, viewer: &Actor, missed: &mut Missed) -> Outcome<()> {
        let owner = self.owner(viewer)?;
        let after = missed.after;
        let span = Span::behind(|_| after);
        let entries = self.entries(&owner, span, missed.wanted)?;
        missed.changes.extend(self.read_notifications(&entries)?.into_iter().map(Change::Notified));
        let Some((no, _)) = owner.clone().person() else { return Ok(()) };
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
            let change = InboxChangeRow::decode(value.value())?;
            let unread = match unread_now {
                Some(unread) => unread,
                None => *unread_now.insert(self.unread(&owner)?),
            };
            missed.changes.push(Change::InboxChanged {
                id: second(key.value()),
                user: viewer.user.clone(),
                selection: change.ids.map_or(Selection::All { up_to: change.up_to }, Selection::Ids),
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

impl Snapshot {
    pub(in crate::store::embedded) fn unsent_broadcasts(&self) -> Outcome<Vec<(u64, Arc<Broadcast>)>> {
        let mut unsent = Vec::new();
        for row in self.outbox()?.iter()? {
            let (key, value) = row?;
            unsent.push((u64::from_be_bytes(*key.value()), Arc::new(decode_broadcast(value.value())?)));
        }
        Ok(unsent)
    }
}
