//! One transaction in the making: the tables, what is known by heart, the changes to be told, and the steps that all
//! operations share. An operation first looks and refuses, and writes only then, so that a refused one leaves no trace in the
//! transaction it shares with others, but for the record that it was refused.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap, HashSet};

use redb::ReadableTable;

use crate::domain::access::Mutes;
use crate::domain::chat::{Membership, RoomRecord, time_of_message};
use crate::domain::{LessonId, MAX_SAFE_INTEGER, Refusal, RoomId, Timestamp, UserId};
use crate::store::embedded::access::rows::{BanRow, MemberRow, Person, encode_room};
use crate::store::embedded::chat::places::{member_key, read_record};
use crate::store::embedded::engine::codec::{decode, encode, get, get_number, next_id};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::round::Round;
use crate::store::embedded::engine::schema::{NOBODY, Tables, k8, k16, meta};
use crate::store::operations::Operation;
use crate::store::{Change, HookPlan};

/// How an operation is done inside a transaction: one implementation for each, in the file of its noun.
pub(in crate::store::embedded) trait Apply: Operation {
    /// Does it. What it refuses, it has not touched.
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Self::Answer>;
}

/// How many ids of a kind are known by heart; beyond that the memory starts anew.
const KNOWN_MAX: usize = 100_000;

/// A room that the writer knows by heart.
#[derive(Debug, Clone)]
pub(in crate::store::embedded) struct KnownRoom {
    pub(in crate::store::embedded) no: u64,
    pub(in crate::store::embedded) record: RoomRecord,
    changed: bool,
}

/// What the writer knows by heart from one transaction to the next: true of what is committed. Thrown away when a commit
/// fails, as it may then be ahead of the disk.
#[derive(Debug, Default)]
pub(in crate::store::embedded) struct Known {
    users: HashMap<UserId, u64>,
    rooms: HashMap<RoomId, KnownRoom>,
    lessons: HashMap<LessonId, u64>,
    /// How many lessons of a user have progress, by the user's number.
    lesson_counts: HashMap<u64, u64>,
    /// Whose erasures are under way; `None` before they have been read.
    erasing: Option<HashSet<UserId>>,
    /// Who may read and not write; `None` before that has been read.
    mutes: Option<Mutes>,
    next: Option<Next>,
    /// The round that takes away expired first answers.
    pub(super) answers: Round,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    id: u64,
    /// What `meta` says of it.
    written_id: u64,
    user: u64,
    room: u64,
    lesson: u64,
}

impl Known {
    fn trim(&mut self) {
        trim(&mut self.users);
        trim(&mut self.rooms);
        trim(&mut self.lessons);
        trim(&mut self.lesson_counts);
    }
}

fn trim<K, V>(known: &mut HashMap<K, V>) {
    if known.len() > KNOWN_MAX {
        known.clear();
    }
}

#[derive(Debug, Clone, Copy)]
struct Member {
    row: Option<MemberRow>,
    changed: bool,
}

/// What a transaction has come to.
pub(in crate::store::embedded) struct Finished {
    /// The changes, in the order of their ids.
    pub(in crate::store::embedded) changes: Vec<Change>,
    pub(in crate::store::embedded) last_id: u64,
    pub(in crate::store::embedded) noted_backup: Option<(Timestamp, u64)>,
}

/// One transaction in the making.
pub(in crate::store::embedded) struct Batch<'t, 'k> {
    pub(in crate::store::embedded) t: Tables<'t>,
    pub(super) known: &'k mut Known,
    next: Next,
    started_with: Next,
    members: HashMap<(u64, u64), Member>,
    changed_rooms: Vec<RoomId>,
    pub(in crate::store::embedded) changes: Vec<Change>,
    /// What is kept for the platform.
    pub(in crate::store::embedded) hooks: HookPlan,
    pub(in crate::store::embedded) wrote: bool,
    /// A good backup was noted: when, and its size.
    pub(in crate::store::embedded) noted_backup: Option<(Timestamp, u64)>,
    pub(in crate::store::embedded) now: Timestamp,
    /// What ends before this has ended, whatever [`now`](Self::now) is: see [`ExpiryClock`].
    due: Timestamp,
    pub(in crate::store::embedded) keep_versions: u64,
    pub(in crate::store::embedded) lessons_per_user: u64,
    pub(in crate::store::embedded) buffer: Vec<u8>,
}

impl<'t, 'k> Batch<'t, 'k> {
    /// Begins. `now` is the time of what is done before the first [`Batch::run`].
    pub(in crate::store::embedded) fn new(
        t: Tables<'t>,
        known: &'k mut Known,
        now: Timestamp,
        due: Timestamp,
        (keep_versions, lessons_per_user): (u64, u64),
    ) -> Outcome<Self> {
        known.trim();
        let next = match known.next {
            Some(next) => next,
            None => {
                let read = |name| {
                    get_number(t.meta.read()?, name)?.ok_or_else(|| Failure::Damaged(format!("meta has no {name}")))
                };
                Next {
                    id: next_id(t.meta.read()?, t.messages.read()?)?.unwrap_or(1),
                    written_id: read(meta::NEXT_ID)?,
                    user: read(meta::NEXT_USER)?,
                    room: read(meta::NEXT_ROOM)?,
                    lesson: read(meta::NEXT_LESSON)?,
                }
            }
        };
        Ok(Batch {
            t,
            known,
            next,
            started_with: next,
            members: HashMap::new(),
            changed_rooms: Vec::new(),
            changes: Vec::new(),
            hooks: HookPlan::default(),
            wrote: false,
            noted_backup: None,
            now,
            due,
            keep_versions,
            lessons_per_user,
            buffer: Vec::with_capacity(512),
        })
    }

    /// What ends before this may be dropped for good.
    pub(in crate::store::embedded) fn due(&self) -> Timestamp {
        self.now.min(self.due)
    }

    /// Writes what was put off to the end, and gives what has come of it; `None` if there is nothing to commit.
    pub(in crate::store::embedded) fn finish(mut self) -> Outcome<Option<Finished>> {
        if !self.wrote {
            return Ok(None);
        }
        self.purge_answers()?;
        self.keep_for_platform()?;
        for room in &self.changed_rooms {
            if let Some(known) = self.known.rooms.get_mut(room) {
                self.t.rooms.write()?.insert(&k8(known.no), encode_room(&known.record, &mut self.buffer)?)?;
                known.changed = false;
            }
        }
        for ((room, user), member) in &self.members {
            if let Member { row: Some(row), changed: true } = member {
                self.t.in_rooms.write()?.insert(&member_key(*room, *user), row.encode(&mut self.buffer)?)?;
            }
        }
        let last_message = self.t.messages.read()?.last()?.map_or(0, |(key, _)| u64::from_be_bytes(*key.value()));
        let (mut next, before) = (self.next, self.started_with);
        // Where the last id is a message's, the message says so.
        if next.id != last_message + 1 {
            next.written_id = next.id;
        }
        for (name, now, then) in [
            (meta::NEXT_ID, next.written_id, before.written_id),
            (meta::NEXT_USER, next.user, before.user),
            (meta::NEXT_ROOM, next.room, before.room),
            (meta::NEXT_LESSON, next.lesson, before.lesson),
        ] {
            if now != then {
                self.t.meta.write()?.insert(name, encode(&now, &mut self.buffer)?)?;
            }
        }
        self.known.next = Some(next);
        Ok(Some(Finished {
            changes: self.changes,
            last_id: next.id.saturating_sub(1),
            noted_backup: self.noted_backup,
        }))
    }

    /// Whether somebody's erasure is under way: nothing of them is stored meanwhile.
    pub(in crate::store::embedded) fn refuse_erasing(&mut self, user: &UserId) -> Outcome<()> {
        if self.erasing()?.contains(user) { Err(Refusal::Erasing(user.clone()).into()) } else { Ok(()) }
    }

    /// Whose erasures are under way.
    pub(in crate::store::embedded) fn erasing(&mut self) -> Outcome<&HashSet<UserId>> {
        if self.known.erasing.is_none() {
            let mut erasing = HashSet::new();
            for row in self.t.erasures.read()?.iter()? {
                let erasure = crate::store::embedded::privacy::rows::ErasureRow::decode(row?.1.value())?.erasure()?;
                if !erasure.is_finished() {
                    erasing.insert(erasure.user);
                }
            }
            self.known.erasing = Some(erasing);
        }
        Ok(self.known.erasing.get_or_insert_default())
    }

    /// An erasure has begun or ended.
    pub(in crate::store::embedded) fn forget_erasing(&mut self) {
        self.known.erasing = None;
    }

    /// Refuses who may read in a room, and not write.
    pub(in crate::store::embedded) fn refuse_muted(&mut self, user: &UserId, room: &RoomId) -> Outcome<()> {
        // A clock that is set ahead for a moment ends no mute.
        let due = self.due();
        Ok(self.mutes()?.may_write(user, room, due)?)
    }

    /// Who may read and not write, also whose mute has ended.
    pub(in crate::store::embedded) fn mutes(&mut self) -> Outcome<&Mutes> {
        if self.known.mutes.is_none() {
            let mut mutes = Mutes::default();
            for row in self.t.bans.read()?.iter()? {
                let (key, value) = row?;
                mutes.set(&decode::<BanRow<'_>>(value.value())?.banned(key.value())?);
            }
            self.known.mutes = Some(mutes);
        }
        Ok(self.known.mutes.get_or_insert_default())
    }

    /// A ban was set or lifted.
    pub(in crate::store::embedded) fn forget_mutes(&mut self) {
        self.known.mutes = None;
    }

    /// The next id, not yet taken.
    pub(in crate::store::embedded) fn peek_id(&self) -> u64 {
        self.next.id
    }

    /// Takes the next id.
    pub(in crate::store::embedded) fn take_id(&mut self) -> Outcome<u64> {
        let id = self.next.id;
        if id > MAX_SAFE_INTEGER {
            return Err(Failure::Damaged("the ids that JavaScript can hold are used up".to_owned()));
        }
        self.next.id += 1;
        self.wrote = true;
        Ok(id)
    }

    /// Something is written, and is to be committed.
    pub(in crate::store::embedded) fn touch(&mut self) {
        self.wrote = true;
    }

    /// Will be told after the commit.
    pub(in crate::store::embedded) fn tell(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// A user's number, if they were ever spoken of.
    pub(in crate::store::embedded) fn find_user(&mut self, user: &UserId) -> Outcome<Option<u64>> {
        if let Some(no) = self.known.users.get(user) {
            return Ok(Some(*no));
        }
        let no = get_number(self.t.user_no.read()?, user.canonical().as_bytes())?;
        if let Some(no) = no {
            self.known.users.insert(user.clone(), no);
        }
        Ok(no)
    }

    /// A user's number, given now if need be.
    pub(in crate::store::embedded) fn user(&mut self, user: &UserId) -> Outcome<u64> {
        if let Some(no) = self.find_user(user)? {
            return Ok(no);
        }
        let no = self.next.user;
        self.next.user += 1;
        self.wrote = true;
        self.t.user_no.write()?.insert(user.canonical().as_bytes(), encode(&no, &mut self.buffer)?)?;
        self.t.users.write()?.insert(&k8(no), Person::new(user.clone()).encode(&mut self.buffer)?)?;
        self.known.users.insert(user.clone(), no);
        Ok(no)
    }

    /// What is known of a user.
    pub(in crate::store::embedded) fn person(&self, no: u64) -> Outcome<Person> {
        get(self.t.users.read()?, &k8(no), Person::decode)?
            .ok_or_else(|| Failure::Damaged(format!("user {no} has a number but no record")))
    }

    /// Keeps what is known of a user.
    pub(in crate::store::embedded) fn put_person(&mut self, no: u64, person: &Person) -> Outcome<()> {
        self.wrote = true;
        self.t.users.write()?.insert(&k8(no), person.encode(&mut self.buffer)?)?;
        Ok(())
    }

    /// A room's number and whether it is private, if it is registered.
    pub(in crate::store::embedded) fn find_room(&mut self, room: &RoomId) -> Outcome<Option<(u64, bool)>> {
        Ok(self.find_record(room)?.map(|(no, record)| (no, record.private)))
    }

    /// A room's number and record, if it is registered.
    pub(in crate::store::embedded) fn find_record(&mut self, room: &RoomId) -> Outcome<Option<(u64, &RoomRecord)>> {
        self.load_room(room)?;
        Ok(self.known.rooms.get(room).map(|known| (known.no, &known.record)))
    }

    /// The id of a room that this batch has registered or changed: its row is written at the end.
    pub(in crate::store::embedded) fn changed_room(&self, no: u64) -> Option<&RoomId> {
        let mut changed = self.changed_rooms.iter().filter_map(|room| self.known.rooms.get(room));
        changed.find(|known| known.no == no).map(|known| &known.record.id)
    }

    /// A room's number and the `seq` of its latest message, if it is registered.
    pub(in crate::store::embedded) fn find_seq(&mut self, room: &RoomId) -> Outcome<Option<(u64, u64)>> {
        Ok(self.find_record(room)?.map(|(no, record)| (no, record.last_seq)))
    }

    fn load_room(&mut self, room: &RoomId) -> Outcome<()> {
        if self.known.rooms.contains_key(room) {
            return Ok(());
        }
        let no = get_number(self.t.room_no.read()?, room.canonical().as_bytes())?;
        let record = read_record(self.t.rooms.read()?, self.t.in_rooms.read()?, no.unwrap_or(NOBODY))?;
        let Some(no) = no else { return Ok(()) };
        let record = record.ok_or_else(|| Failure::Damaged(format!("room {no} has a number but no record")))?;
        self.known.rooms.insert(room.clone(), KnownRoom { no, record, changed: false });
        Ok(())
    }

    /// Registers a room.
    pub(in crate::store::embedded) fn add_room(&mut self, record: RoomRecord) -> Outcome<u64> {
        let (no, room) = (self.next.room, record.id.clone());
        self.next.room += 1;
        self.wrote = true;
        self.t.room_no.write()?.insert(room.canonical().as_bytes(), encode(&no, &mut self.buffer)?)?;
        self.known.rooms.insert(room.clone(), KnownRoom { no, record, changed: true });
        self.changed_rooms.push(room);
        Ok(no)
    }

    fn known_room(&mut self, room: &RoomId) -> Outcome<&mut KnownRoom> {
        self.load_room(room)?;
        let unknown = || Failure::Damaged(format!("room {room} is not known to the writer"));
        self.known.rooms.get_mut(room).ok_or_else(unknown)
    }

    /// Changes the record of a registered room.
    pub(in crate::store::embedded) fn change_room<T>(
        &mut self,
        room: &RoomId,
        change: impl FnOnce(&mut RoomRecord) -> T,
    ) -> Outcome<T> {
        let known = self.known_room(room)?;
        let value = change(&mut known.record);
        if !known.changed {
            known.changed = true;
            self.changed_rooms.push(room.clone());
        }
        self.wrote = true;
        Ok(value)
    }

    /// Nothing leads to a room any more; what it was.
    pub(in crate::store::embedded) fn forget_room(&mut self, room: &RoomId) -> Outcome<Option<RoomRecord>> {
        self.find_room(room)?;
        self.wrote = true;
        self.t.room_no.write()?.remove(room.canonical().as_bytes())?;
        Ok(self.known.rooms.remove(room).map(|known| known.record))
    }

    /// Takes the next `seq` of a registered room for a message, and gives the message its time. The record of the room is not
    /// written for that: the index of its messages says the same.
    pub(in crate::store::embedded) fn take_seq(&mut self, room: &RoomId, id: u64) -> Outcome<(u64, Timestamp)> {
        let now = self.now;
        let record = &mut self.known_room(room)?.record;
        let at = time_of_message(record, now);
        (record.last_seq, record.last_id, record.last_at) = (record.last_seq + 1, id, at);
        Ok((record.last_seq, at))
    }

    /// A lesson's number, if it was ever reported of.
    pub(in crate::store::embedded) fn find_lesson(&mut self, lesson: &LessonId) -> Outcome<Option<u64>> {
        if let Some(no) = self.known.lessons.get(lesson) {
            return Ok(Some(*no));
        }
        let no = get_number(self.t.lesson_no.read()?, lesson.canonical().as_bytes())?;
        if let Some(no) = no {
            self.known.lessons.insert(lesson.clone(), no);
        }
        Ok(no)
    }

    /// A lesson's number, given now if need be.
    pub(in crate::store::embedded) fn lesson(&mut self, lesson: &LessonId) -> Outcome<u64> {
        if let Some(no) = self.find_lesson(lesson)? {
            return Ok(no);
        }
        let no = self.next.lesson;
        self.next.lesson += 1;
        self.wrote = true;
        self.t.lesson_no.write()?.insert(lesson.canonical().as_bytes(), encode(&no, &mut self.buffer)?)?;
        self.known.lessons.insert(lesson.clone(), no);
        Ok(no)
    }

    /// How many lessons of a user have progress: counted once, and known from then on.
    pub(in crate::store::embedded) fn lesson_count(&mut self, user: u64) -> Outcome<u64> {
        if let Some(count) = self.known.lesson_counts.get(&user) {
            return Ok(*count);
        }
        let rows = self.t.progress.read()?.range::<&[u8; 16]>(&k16(user, 0)..=&k16(user, u64::MAX))?;
        let count = rows.map(|row| row.map(drop)).collect::<Result<Vec<()>, _>>()?.len() as u64;
        self.known.lesson_counts.insert(user, count);
        Ok(count)
    }

    /// A user has progress of one lesson more.
    pub(in crate::store::embedded) fn count_lesson(&mut self, user: u64) {
        if let Some(count) = self.known.lesson_counts.get_mut(&user) {
            *count += 1;
        }
    }

    /// What somebody is in a room.
    pub(in crate::store::embedded) fn member(&mut self, room: u64, user: u64) -> Outcome<Option<MemberRow>> {
        match self.members.entry((room, user)) {
            Entry::Occupied(known) => Ok(known.get().row),
            Entry::Vacant(gap) => {
                let row = get(self.t.in_rooms.read()?, &member_key(room, user), MemberRow::decode)?;
                gap.insert(Member { row, changed: false });
                Ok(row)
            }
        }
    }

    /// Who has come to take part in a room in this batch.
    pub(in crate::store::embedded) fn new_members_of(&self, room: u64) -> BTreeSet<u64> {
        let here = self.members.iter().filter(|((no, _), member)| *no == room && member.row.is_some());
        here.map(|((_, user), _)| *user).collect()
    }

    /// What somebody is in a room, for the rules.
    pub(in crate::store::embedded) fn membership(
        &mut self,
        room: Option<u64>,
        user: Option<u64>,
    ) -> Outcome<Option<Membership>> {
        let row = self.member(room.unwrap_or(NOBODY), user.unwrap_or(NOBODY))?;
        row.map(|row| row.membership()).transpose()
    }

    /// Keeps what somebody is in a room. Written at the end of the batch: a busy author costs one row, not one a message.
    pub(in crate::store::embedded) fn put_member(&mut self, room: u64, user: u64, row: MemberRow) -> Outcome<()> {
        self.wrote = true;
        let before = self.members.insert((room, user), Member { row: Some(row), changed: true });
        if before.is_none_or(|before| before.row.is_none()) {
            self.t.member_rooms.write()?.insert(&k16(user, room), ())?;
        }
        Ok(())
    }

    /// Somebody takes no part in a room any more.
    pub(in crate::store::embedded) fn forget_member(&mut self, room: u64, user: u64) -> Outcome<()> {
        self.wrote = true;
        self.members.insert((room, user), Member { row: None, changed: false });
        self.t.in_rooms.write()?.remove(&member_key(room, user))?;
        self.t.member_rooms.write()?.remove(&k16(user, room))?;
        Ok(())
    }

    /// Nothing leads to a user any more.
    pub(in crate::store::embedded) fn forget_user(&mut self, user: &UserId, no: u64) -> Outcome<()> {
        self.wrote = true;
        self.known.users.remove(user);
        self.t.hook_sighted.write()?.remove_range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))?;
        self.t.users.write()?.remove(&k8(no))?;
        self.t.user_no.write()?.remove(user.canonical().as_bytes())?;
        Ok(())
    }

    /// A room's messages up to a `seq` are gone.
    pub(in crate::store::embedded) fn purged_to(&mut self, room: &RoomId, seq: u64) -> Outcome<()> {
        self.change_room(room, |record| record.purged_seq = seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_by_heart_starts_anew_beyond_its_bound() {
        for (count, kept) in [(3, 3), (KNOWN_MAX, KNOWN_MAX), (KNOWN_MAX + 1, 0)] {
            let mut known: HashMap<usize, ()> = (0..count).map(|no| (no, ())).collect();
            trim(&mut known);
            assert_eq!(known.len(), kept);
        }
    }
}
