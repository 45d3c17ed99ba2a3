//! Reads of inboxes and people, and the replay of what somebody missed.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::ops::ControlFlow;
use std::sync::Arc;

use redb::{ReadOnlyTable, ReadableTable};

use crate::domain::chat::ReadMark;
use crate::domain::notification::{Audience, AudienceKind, Notification, Selection};
use crate::domain::{Actor, RoomId, Timestamp, UserId};
use crate::store::change::ReportAudience;
use crate::store::embedded::access::rows::{MemberRow, Person, decode_room};
use crate::store::embedded::chat::places::{LAST_MESSAGE, member_key};
use crate::store::embedded::chat::read::{Ids, read_message, shown};
use crate::store::embedded::chat::rows::{RoomChangeRow, decode_message};
use crate::store::embedded::engine::codec::{action_of, decode, get, get_number, get_value};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{K16, NOBODY, Row, Snapshot, k8, k16, meta, second};
use crate::store::embedded::inbox::rows::{
    InboxChangeRow, WithdrawnRow, decode_broadcast, decode_notification, ending_of,
};
use crate::store::embedded::inbox::view::{Entry, InboxTables, Owner, Span, space_of};
use crate::store::embedded::order::rows::{Way, end_of};
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

    /// What somebody has missed. The indexes of the rooms and of the user are merged in the order of ids, each read as far as
    /// it is needed, and of what they lead to only what is told is read: what it costs is what it gives.
    pub(in crate::store::embedded) fn missed(
        &self,
        viewer: &Actor,
        rooms: &[RoomId],
        after: u64,
        limit: usize,
    ) -> Outcome<Replay> {
        let last = self.check_cursor(after)?;
        let owner = self.owner(viewer)?;
        let mut found = self.find_missed(&owner, viewer.is_admin(), rooms, after, limit.saturating_add(1))?;
        let has_more = found.len() > limit;
        found.truncate(limit);
        // With a limit of nothing the cursor stays where it is.
        let up_to = if has_more { found.last().map_or(after, |(id, _)| *id) } else { last };
        let changes = self.tell_missed(viewer, &owner, &found)?;
        Ok(Replay { changes, up_to, has_more })
    }

    /// The first changes behind an id, by what the indexes say.
    fn find_missed<'r>(
        &self,
        owner: &Owner,
        is_admin: bool,
        rooms: &'r [RoomId],
        after: u64,
        wanted: usize,
    ) -> Outcome<Vec<(u64, Missed<'r>)>> {
        let behind = |no: u64| k16(no, after.saturating_add(1));
        let end = |no: u64| k16(no, u64::MAX);
        let mut merged = Merged::default();
        let (messages, changes) = (self.in_rooms()?, self.changes_by_room()?);
        let mut done: HashSet<&RoomId> = HashSet::new();
        for room in rooms.iter().filter(|room| done.insert(room)) {
            let Some((no, _)) = self.find_room(room)? else { continue };
            let rows = messages.range::<&[u8; 16]>(&behind(no)..=&k16(no, LAST_MESSAGE))?;
            merged.add(rows.map(move |row| Ok((second(row?.0.value()), Missed::Posted(room)))))?;
            let rows = changes.range::<&[u8; 16]>(&behind(no)..=&end(no))?;
            merged.add(rows.map(move |row| Ok((second(row?.0.value()), Missed::Changed(no, room)))))?;
        }
        let entries = self.entries(owner, Span::behind(|_| after), wanted)?;
        merged.add(entries.into_iter().map(|entry| Ok((entry.id, Missed::Notified(entry)))))?;
        let reports = self.reports()?;
        let told = |no: Option<u64>| -> Outcome<_> {
            let to = no.unwrap_or(NOBODY);
            let (low, high) = (Way::Told.key(to, after.saturating_add(1)), Way::Told.key(to, u64::MAX));
            Ok(reports.range::<&[u8; 24]>(&low..=&high)?.map(move |row| {
                let (key, value) = row?;
                Ok((end_of(key.value()), Missed::Reported(no, decode(value.value())?)))
            }))
        };
        if is_admin {
            merged.add(told(None)?)?;
        }
        if let Some((no, _)) = owner.clone().person() {
            if !is_admin {
                merged.add(told(Some(no))?)?;
            }
            let rows = self.progress_by_change()?.range::<&[u8; 16]>(&behind(no)..=&end(no))?;
            merged.add(rows.map(move |row| Ok((second(row?.0.value()), Missed::Progressed(no)))))?;
            let withdrawn = self.withdrawn()?;
            for kind in owner.kinds() {
                let space = space_of(no, kind);
                let first_seen = if kind == AudienceKind::Named { 0 } else { owner.first_seen_id() };
                let rows = withdrawn.range::<&[u8; 16]>(&behind(space)..=&end(space))?.map(move |row| {
                    let (key, value) = row?;
                    Ok((second(key.value()), kind, decode::<WithdrawnRow>(value.value())?))
                });
                // What they never had is not taken from them.
                let theirs = rows.filter(move |row: &Outcome<_>| match row {
                    Ok((_, _, row)) => row.notification >= first_seen,
                    Err(_) => true,
                });
                merged.add(theirs.map(|row| row.map(|(id, kind, row)| (id, Missed::Withdrawn(kind, row)))))?;
            }
            let rows = self.inbox_changes()?.range::<&[u8; 16]>(&behind(no)..=&end(no))?;
            merged.add(rows.map(move |row| Ok((second(row?.0.value()), Missed::InboxChanged(no)))))?;
        }
        let mut found = Vec::new();
        while found.len() < wanted
            && let Some(next) = merged.next()?
        {
            found.push(next);
        }
        Ok(found)
    }

    /// Reports that somebody was told of and has missed.
    fn tell_report(&self, viewer: &Actor, change: u64, report: u64, moderator: Option<u64>) -> Outcome<Option<Change>> {
        let Some(report) = self.report_for(report, moderator)? else { return Ok(None) };
        let moderators = moderator.map(|_| viewer.user.clone()).into_iter().collect();
        let to = ReportAudience { administrators: moderator.is_none(), moderators };
        Ok(Some(Change::Reported { id: change, report: Arc::new(report), to }))
    }

    fn tell_missed(&self, viewer: &Actor, owner: &Owner, found: &[(u64, Missed<'_>)]) -> Outcome<Vec<Change>> {
        let (messages, notifications) = (self.messages()?, self.notifications()?);
        let (users, members) = (self.users()?, self.in_rooms()?);
        let (room_changes, inbox_changes) = (self.changes_by_room()?, self.inbox_changes()?);
        let (lessons, progress) = (self.progress_by_change()?, self.progress()?);
        let rooms = self.rooms()?;
        let mut unread_now = None;
        let mut ids = Ids::of(&users);
        let mut tell = |id: u64, what: Missed<'_>| -> Outcome<Option<Change>> {
            let lost = || Failure::Damaged(format!("change {id} is of something that is not there"));
            Ok(Some(match what {
                Missed::Reported(moderator, report) => return self.tell_report(viewer, id, report, moderator),
                Missed::Posted(room) => {
                    Change::Posted { message: Arc::new(read_message(&messages, &mut ids, id, room)?), origin: None }
                }
                Missed::Changed(no, room) => {
                    let mut message = |message_id: u64| {
                        let read = get(&messages, &k8(message_id), |row| decode_message(row, message_id, room))?;
                        Ok::<_, Failure>(Arc::new(shown(read.ok_or_else(lost)?, &mut ids)?))
                    };
                    match get_value(&room_changes, &k16(no, id))?.ok_or_else(lost)? {
                        RoomChangeRow::Edited(message_id) => {
                            Change::Edited { id, message: message(message_id)?, supersedes: 0 }
                        }
                        RoomChangeRow::Deleted(message_id) => {
                            Change::Deleted { id, message: message(message_id)?, supersedes: 0 }
                        }
                        RoomChangeRow::State => {
                            let state = get(&rooms, &k8(no), decode_room)?.ok_or_else(lost)?.state;
                            Change::StateSet { id, room: room.clone(), state }
                        }
                        RoomChangeRow::Read(user) => {
                            let person = get(&users, &k8(user), Person::decode)?.ok_or_else(lost)?;
                            let row = get(&members, &member_key(no, user), MemberRow::decode)?.ok_or_else(lost)?;
                            let (room, message_id) = (room.clone(), row.read_up_to);
                            Change::Read { id, mark: ReadMark { room, user: person.id, message_id } }
                        }
                    }
                }
                Missed::Notified(entry) => {
                    let read = |row: &[u8]| decode_notification(row, id, entry.read);
                    Change::Notified(get(&notifications, &k8(id), read)?.ok_or_else(lost)?)
                }
                Missed::Withdrawn(kind, row) => Change::Withdrawn {
                    id,
                    notification: row.notification,
                    audience: match kind {
                        AudienceKind::Named => Audience::Users(vec![viewer.user.clone()]),
                        AudienceKind::All => Audience::All,
                        AudienceKind::Role(role) => Audience::Role(role),
                    },
                    ending: ending_of(row.ending)?,
                },
                Missed::Progressed(no) => {
                    let lesson: u64 = get_number(&lessons, &k16(no, id))?.ok_or_else(lost)?;
                    let read = |row: &[u8]| decode::<ProgressRow<'_>>(row)?.read();
                    Change::Progressed { id, progress: get(&progress, &k16(no, lesson), read)?.ok_or_else(lost)? }
                }
                Missed::InboxChanged(no) => {
                    let change = get(&inbox_changes, &k16(no, id), InboxChangeRow::decode)?.ok_or_else(lost)?;
                    let unread = match unread_now {
                        Some(unread) => unread,
                        None => *unread_now.insert(self.unread(owner)?),
                    };
                    Change::InboxChanged {
                        id,
                        user: viewer.user.clone(),
                        selection: change.ids.map_or(Selection::All { up_to: change.up_to }, Selection::Ids),
                        action: action_of(change.action)?,
                        unread,
                        origin: None,
                    }
                }
            }))
        };
        found.iter().filter_map(|(id, what)| tell(*id, *what).transpose()).collect()
    }
}

/// What an index says of a change that somebody has missed.
#[derive(Debug, Clone, Copy)]
enum Missed<'r> {
    Posted(&'r RoomId),
    Changed(u64, &'r RoomId),
    Notified(Entry),
    Withdrawn(AudienceKind, WithdrawnRow),
    Progressed(u64),
    InboxChanged(u64),
    /// A report, and the number of the moderator who was told of it, if that was one.
    Reported(Option<u64>, u64),
}

type MissedIds<'r> = Box<dyn Iterator<Item = Outcome<(u64, Missed<'r>)>> + 'r>;

/// Indexes that are read together in the order of ids: of each one the next row alone is held.
#[derive(Default)]
struct Merged<'r> {
    sources: Vec<(MissedIds<'r>, Option<Missed<'r>>)>,
    /// The next id of each source that has one.
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<'r> Merged<'r> {
    fn add(&mut self, ids: impl Iterator<Item = Outcome<(u64, Missed<'r>)>> + 'r) -> Outcome<()> {
        self.sources.push((Box::new(ids), None));
        self.advance(self.sources.len() - 1)
    }

    fn advance(&mut self, at: usize) -> Outcome<()> {
        if let Some((ids, what)) = self.sources.get_mut(at)
            && let Some((id, next)) = ids.next().transpose()?
        {
            *what = Some(next);
            self.next.push(Reverse((id, at)));
        }
        Ok(())
    }

    fn next(&mut self) -> Outcome<Option<(u64, Missed<'r>)>> {
        let Some(Reverse((id, at))) = self.next.pop() else { return Ok(None) };
        let what = self.sources.get_mut(at).and_then(|(_, what)| what.take());
        self.advance(at)?;
        Ok(what.map(|what| (id, what)))
    }
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
