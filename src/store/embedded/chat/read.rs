//! Reads of rooms and their messages. A row is turned into its noun while the snapshot is held, which costs about what copying
//! its bytes would; nothing is serialised or sent before the snapshot is dropped.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use redb::ReadableTable;

use crate::domain::chat::{Author, Membership, Message, RoomPolicy, RoomRecord, RoomSummary, is_listed, may_enter};
use crate::domain::privacy::{Subject, WithheldVersion};
use crate::domain::{Refusal, RoomId, Timestamp, UserId};
use crate::store::embedded::access::rows::{MemberRow, Person, decode_last_id, decode_room};
use crate::store::embedded::chat::places::{LAST_MESSAGE, last_place, member_key, read_record, seq_of};
use crate::store::embedded::chat::rows::{Place, decode_message};
use crate::store::embedded::engine::codec::{decode, get, get_number, get_value, next_id};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{K8, NOBODY, Row, Snapshot, k8, k16, meta, second};
use crate::store::embedded::privacy::holds::Held;
use crate::store::embedded::privacy::rows::VersionRow;
use crate::store::{MessagePage, Page, RoomPage, RoomPlace, RoomQuery, TranscriptQuery, TranscriptSink};

impl Snapshot {
    /// The last id given.
    pub(in crate::store::embedded) fn last_id(&self) -> Outcome<u64> {
        Ok(next_id(&self.meta()?, &self.messages()?)?.unwrap_or(1).saturating_sub(1))
    }

    /// Refuses a cursor that this store has not given.
    pub(in crate::store::embedded) fn check_cursor(&self, after: u64) -> Outcome<u64> {
        let last = self.last_id()?;
        // Ids of a life that a restore has ended are as foreign as those of the future.
        let lost: Vec<(u64, u64)> = get_value(&self.meta()?, meta::LOST_IDS)?.unwrap_or_default();
        let is_lost = lost.iter().any(|(from, to)| (*from..*to).contains(&after));
        if after > last || is_lost { Err(Refusal::Resync.into()) } else { Ok(last) }
    }

    pub(in crate::store::embedded) fn find_user(&self, user: &UserId) -> Outcome<Option<u64>> {
        get_number(&self.user_no()?, user.canonical().as_bytes())
    }

    pub(in crate::store::embedded) fn find_person(&self, user: &UserId) -> Outcome<Option<(u64, Person)>> {
        let Some(no) = self.find_user(user)? else { return Ok(None) };
        Ok(get(&self.users()?, &k8(no), Person::decode)?.map(|person| (no, person)))
    }

    pub(in crate::store::embedded) fn find_room(&self, room: &RoomId) -> Outcome<Option<(u64, RoomRecord)>> {
        let no = get_number(&self.room_no()?, room.canonical().as_bytes())?;
        let record = read_record(&self.rooms()?, &self.in_rooms()?, no.unwrap_or(NOBODY))?;
        match (no, record) {
            (Some(no), Some(record)) => Ok(Some((no, record))),
            (Some(no), None) => Err(Failure::Damaged(format!("room {no} has a number but no record"))),
            (None, _) => Ok(None),
        }
    }

    fn find_member(&self, room: Option<u64>, user: &UserId) -> Outcome<Option<MemberRow>> {
        let user = self.find_user(user)?;
        get(&self.in_rooms()?, &member_key(room.unwrap_or(NOBODY), user.unwrap_or(NOBODY)), MemberRow::decode)
    }

    pub(in crate::store::embedded) fn membership_of(
        &self,
        room: &RoomId,
        user: &UserId,
    ) -> Outcome<Option<Membership>> {
        let room = get_number(&self.room_no()?, room.canonical().as_bytes())?;
        self.find_member(room, user)?.map(|row| row.membership()).transpose()
    }

    /// Lets somebody in, or not; gives the room and what they are in it.
    #[allow(clippy::type_complexity, reason = "two halves of one answer, taken apart at once")]
    pub(in crate::store::embedded) fn enter(
        &self,
        room: &RoomId,
        viewer: &Author,
        policy: RoomPolicy,
    ) -> Outcome<(Option<(u64, RoomRecord)>, Option<MemberRow>)> {
        let found = self.find_room(room)?;
        let member = self.find_member(found.as_ref().map(|(no, _)| *no), &viewer.user)?;
        let membership = member.map(|row| row.membership()).transpose()?;
        may_enter(found.as_ref().map(|(_, record)| record.private), membership, viewer.admin, policy)?;
        Ok((found, member))
    }

    pub(in crate::store::embedded) fn may_enter(
        &self,
        room: &RoomId,
        viewer: &Author,
        policy: RoomPolicy,
    ) -> Outcome<()> {
        self.enter(room, viewer, policy).map(|_| ())
    }

    /// Which of several rooms somebody may enter. All are looked at, whatever was found of the first.
    pub(in crate::store::embedded) fn enterable(
        &self,
        rooms: &[RoomId],
        viewer: &Author,
        policy: RoomPolicy,
    ) -> Outcome<Vec<bool>> {
        let enter = |room| match self.enter(room, viewer, policy) {
            Ok(_) => Ok(true),
            Err(Failure::Refused(Refusal::Forbidden)) => Ok(false),
            Err(failure) => Err(failure),
        };
        rooms.iter().map(enter).collect()
    }

    /// A page of a room's messages.
    pub(in crate::store::embedded) fn page(
        &self,
        room: &RoomId,
        viewer: &Author,
        page: &Page,
        policy: RoomPolicy,
    ) -> Outcome<MessagePage> {
        let (found, member) = self.enter(room, viewer, policy)?;
        if let Some(after) = page.after {
            self.check_cursor(after)?;
        }
        let Some((no, record)) = found else { return Ok(MessagePage { is_settled: true, ..MessagePage::default() }) };
        let index = self.in_rooms()?;
        let mut ids = Vec::with_capacity(page.limit.min(256));
        let wanted = page.limit.saturating_add(1);
        let end = k16(no, page.before.unwrap_or(LAST_MESSAGE).min(LAST_MESSAGE));
        if let Some(after) = page.after {
            let begin = k16(no, after.saturating_add(1));
            if begin < end {
                for row in index.range::<&[u8; 16]>(&begin..&end)?.take(wanted) {
                    ids.push(second(row?.0.value()));
                }
            }
        } else {
            for row in index.range::<&[u8; 16]>(&k16(no, 0)..&end)?.rev().take(wanted) {
                ids.push(second(row?.0.value()));
            }
        }
        let has_more = ids.len() > page.limit;
        ids.truncate(page.limit);
        if page.after.is_none() {
            ids.reverse();
        }
        let (table, users) = (self.messages()?, self.users()?);
        let mut people = Ids::of(&users);
        let messages = ids.into_iter().map(|id| read_message(&table, &mut people, id, room)).collect::<Outcome<_>>()?;
        Ok(MessagePage {
            messages,
            has_more,
            last_id: record.last_id,
            last_seq: record.last_seq,
            read_up_to: member.map_or(0, |row| row.read_up_to),
            is_settled: member.is_some_and(|row| row.left_at.is_none()),
            state: record.state,
            membership: member.map(|row| row.membership()).transpose()?,
        })
    }

    /// One message by its id, in its room as that was first named. A room that is being removed is not there any more.
    pub(in crate::store::embedded) fn message(&self, id: u64) -> Outcome<Option<Message>> {
        let (table, users) = (self.messages()?, self.users()?);
        let nowhere = RoomId::number(0);
        let Some((message, place)) = get(&table, &k8(id), |row| decode_message(row, id, &nowhere))? else {
            return Ok(None);
        };
        let Some(room) = self.room_by_number(place.room)? else { return Ok(None) };
        shown((Message { room, ..message }, place), &mut Ids::of(&users)).map(Some)
    }

    /// Hands a room's messages to a sink, one by one.
    pub(in crate::store::embedded) fn send_transcript(
        &self,
        query: &TranscriptQuery,
        sink: &mut dyn TranscriptSink,
    ) -> Outcome<()> {
        let (no, record) = self.find_room(&query.room)?.ok_or(Refusal::NotFound)?;
        let stopped = |error: std::io::Error| Failure::Stopped(error.to_string());
        let (table, users, index) = (self.messages()?, self.users()?, self.in_rooms()?);
        let held = if query.versions { Some(self.held()?) } else { None };
        sink.begin(&record).map_err(stopped)?;
        let mut people = Ids::of(&users);
        let from = match query.since {
            Some(since) => self.first_since(no, &query.room, since, record.last_id)?,
            None => 0,
        };
        for row in index.range::<&[u8; 16]>(&k16(no, from)..=&k16(no, LAST_MESSAGE))? {
            let message = read_message(&table, &mut people, second(row?.0.value()), &query.room)?;
            if query.until.is_some_and(|until| message.at >= until) {
                break;
            }
            let versions = match &held {
                Some(held) => self.versions_of_message(message.id, held)?,
                None => Vec::new(),
            };
            sink.message(&message, &versions).map_err(stopped)?;
        }
        sink.end().map_err(stopped)
    }

    /// The id from which on a room's messages are of a moment or later: a room's times never fall, so that the middle says in
    /// which half it is.
    fn first_since(&self, no: u64, room: &RoomId, since: Timestamp, last_id: u64) -> Outcome<u64> {
        let (table, index) = (self.messages()?, self.in_rooms()?);
        let (mut low, mut high) = (0, last_id.saturating_add(1));
        while low < high {
            let middle = low + (high - low) / 2;
            let next = index.range::<&[u8; 16]>(&k16(no, middle)..=&k16(no, LAST_MESSAGE))?.next().transpose()?;
            let Some(id) = next.map(|(key, _)| second(key.value())) else {
                high = middle;
                continue;
            };
            let at = get(&table, &k8(id), |row| Ok(decode_message(row, id, room)?.0.at))?;
            if at.is_none_or(|at| at >= since) { high = middle } else { low = id.saturating_add(1) }
        }
        Ok(low)
    }

    /// Who and what is held, by number.
    pub(in crate::store::embedded) fn held(&self) -> Outcome<Held> {
        let (mut users, mut rooms) = (HashSet::new(), HashSet::new());
        for hold in self.all_holds()? {
            match hold.subject {
                Subject::User(user) => users.extend(self.find_user(&user)?),
                Subject::Room(room) => rooms.extend(self.find_room(&room)?.map(|(no, _)| no)),
            }
        }
        Ok(Held::new(users, rooms))
    }

    /// What a message said before it was changed under a hold that still stands.
    pub(in crate::store::embedded) fn versions_of_message(
        &self,
        message: u64,
        held: &Held,
    ) -> Outcome<Vec<WithheldVersion>> {
        let mut versions = Vec::new();
        for row in self.withheld()?.range::<&[u8; 16]>(&k16(message, 0)..=&k16(message, u64::MAX))? {
            let (_, value) = row?;
            let row: VersionRow<'_> = decode(value.value())?;
            if held.holds_message(&row.sender, &row.room) {
                versions.push(row.version()?);
            }
        }
        Ok(versions)
    }

    pub(in crate::store::embedded) fn withheld_in(
        &self,
        room: &RoomId,
        ids: &[u64],
    ) -> Outcome<Vec<(u64, Vec<WithheldVersion>)>> {
        let Some((no, _)) = self.find_room(room)? else { return Ok(Vec::new()) };
        let (held, by_room) = (self.held()?, self.in_rooms()?);
        let mut found = Vec::new();
        for id in ids {
            if seq_of(&by_room, no, *id)?.is_some() {
                let versions = self.versions_of_message(*id, &held)?;
                if !versions.is_empty() {
                    found.push((*id, versions));
                }
            }
        }
        Ok(found)
    }

    /// How many messages that can be read are behind somebody's mark.
    pub(in crate::store::embedded) fn unread_in(&self, no: u64, room: &RoomRecord, row: &MemberRow) -> Outcome<u64> {
        let from = row.unread_from(room);
        let behind = room.last_seq.saturating_sub(from);
        if behind == 0 || room.deleted == 0 {
            return Ok(behind);
        }
        Ok(behind.saturating_sub(counts::behind(&self.tombstones()?, no, from)?))
    }

    /// One room as it is on the list of somebody who takes part in it.
    pub(in crate::store::embedded) fn summary(&self, room_no: u64, user: u64) -> Outcome<(RoomSummary, bool)> {
        let lost = || Failure::Damaged(format!("user {user} is in room {room_no}, which does not say so"));
        let room = read_record(&self.rooms()?, &self.in_rooms()?, room_no)?.ok_or_else(lost)?;
        let row = get(&self.in_rooms()?, &member_key(room_no, user), MemberRow::decode)?.ok_or_else(lost)?;
        let (membership, unread) = (row.membership()?, self.unread_in(room_no, &room, &row)?);
        let is_listed = is_listed(membership, row.left_at, room.last_seq);
        Ok((RoomSummary { room, membership, read_up_to: row.read_up_to, unread }, is_listed))
    }

    /// A part of somebody's list. An index by activity would be written for each member with each message; so the latest
    /// message of each room is looked at, and no more than that, but for the rooms that are given.
    pub(in crate::store::embedded) fn rooms_of(
        &self,
        viewer: &Author,
        query: RoomQuery,
        policy: RoomPolicy,
    ) -> Outcome<RoomPage> {
        let Some(no) = self.find_user(&viewer.user)? else { return Ok(RoomPage::default()) };
        let (rooms, by_room) = (self.rooms()?, self.in_rooms()?);
        let mut places = Vec::new();
        for row in self.member_rooms()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
            let room = second(row?.0.value());
            let lost = || Failure::Damaged(format!("user {no} is in room {room}, which is not there"));
            // Of a room whose messages are all gone the record alone knows that there were some.
            let last_id = match last_place(&by_room, room)? {
                Some((last_id, _)) => last_id,
                None => get(&rooms, &k8(room), decode_last_id)?.ok_or_else(lost)?,
            };
            places.push(self.placed(RoomPlace { last_id, room })?);
        }
        if let Some(after) = query.after {
            // A room that has gone since and had no message: those without one are told once more.
            let after = self.placed(after)?;
            places.retain(|place| *place > after);
        }
        // The few that are given are taken from a heap: sorting all would cost more than reading them.
        let mut places: BinaryHeap<Reverse<Placed>> = places.into_iter().map(Reverse).collect();
        let mut page = RoomPage::default();
        while let Some(Reverse((.., place))) = places.pop() {
            let (summary, is_listed) = self.summary(place.room, no)?;
            let (private, membership) = (Some(summary.room.private), Some(summary.membership));
            if !is_listed || may_enter(private, membership, viewer.admin, policy).is_err() {
                continue;
            }
            if page.rooms.len() >= query.limit {
                page.has_more = true;
                break;
            }
            page.rooms.push((summary, place));
        }
        Ok(page)
    }

    /// The room where something was said last comes first; those without a message come last, by their names.
    fn placed(&self, place: RoomPlace) -> Outcome<Placed> {
        let name = match place.last_id {
            0 => get(&self.rooms()?, &k8(place.room), decode_room)?.map(|room| room.id.canonical()).unwrap_or_default(),
            _ => String::new(),
        };
        Ok((Reverse(place.last_id), name, place))
    }
}

/// A place on a list of rooms in the order of the list.
type Placed = (Reverse<u64>, String, RoomPlace);

/// Who has changed a message, by their number. Whoever has been erased since is nobody.
pub(in crate::store::embedded) fn changer(users: &impl ReadableTable<K8, Row>, no: u64) -> Outcome<UserId> {
    Ok(get(users, &k8(no), Person::decode)?.map_or_else(UserId::erased, |person| person.id))
}

/// So many ids are remembered while messages are read.
const IDS_KNOWN: usize = 1_000;

/// The ids of people by their numbers, each read once: a page of messages has few senders.
pub(in crate::store::embedded) struct Ids<'t, T> {
    users: &'t T,
    known: HashMap<u64, UserId>,
}

impl<'t, T: ReadableTable<K8, Row>> Ids<'t, T> {
    pub(in crate::store::embedded) fn of(users: &'t T) -> Ids<'t, T> {
        Ids { users, known: HashMap::new() }
    }

    fn id(&mut self, no: u64) -> Outcome<UserId> {
        if let Some(id) = self.known.get(&no) {
            return Ok(id.clone());
        }
        let id = changer(self.users, no)?;
        // A transcript may have any number of them.
        if self.known.len() >= IDS_KNOWN {
            self.known.clear();
        }
        self.known.insert(no, id.clone());
        Ok(id)
    }
}

/// A message as it is shown: with the ids of who else has changed and deleted it.
pub(in crate::store::embedded) fn shown<T: ReadableTable<K8, Row>>(
    (mut message, place): (Message, Place),
    ids: &mut Ids<'_, T>,
) -> Outcome<Message> {
    // With the JSON type that the sender has since, whichever it had then. Who has been erased is another one here.
    if message.sender.as_number().is_some() {
        let id = ids.id(place.sender)?;
        if id == message.sender {
            message.sender = id;
        }
    }
    message.edited_by = place.edited_by.map(|no| ids.id(no)).transpose()?;
    message.deleted_by = place.deleted_by.map(|no| ids.id(no)).transpose()?;
    Ok(message)
}

/// Reads a message that an index names.
pub(in crate::store::embedded) fn read_message<T: ReadableTable<K8, Row>>(
    table: &impl ReadableTable<K8, Row>,
    ids: &mut Ids<'_, T>,
    id: u64,
    room: &RoomId,
) -> Outcome<Message> {
    get(table, &k8(id), |row| decode_message(row, id, room))?
        .map(|read| shown(read, ids))
        .transpose()?
        .ok_or_else(|| Failure::Damaged(format!("message {id} is in the index of a room, but not in the log")))
}
