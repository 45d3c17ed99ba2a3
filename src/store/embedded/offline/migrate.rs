//! Migrations of older formats, in slices, each a transaction that says how far it is: cut short at any point, the next
//! start goes on. The new format's number is written first, so that an older version no longer opens the file from the
//! first slice on. Who calls it has made a backup before.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::domain::chat::RoomRecord;
use crate::domain::notification::AudienceKind;
use crate::domain::{RoomId, Timestamp, UserId};
use crate::store::StoreError;
use crate::store::embedded::access::rows::{decode_room, encode_room};
use crate::store::embedded::chat::places::{block_of, member_key};
use crate::store::embedded::chat::rows::{InRoom, decode_message};
use crate::store::embedded::engine::codec::{IdRow, decode, encode, get, get_number, get_value};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{FORMAT, Lazy, Tables, k8, k16, k24, meta, pair, second};
use crate::store::embedded::inbox::rows::decode_notification;
use crate::store::embedded::inbox::view::{
    DELETED, MARKED, NAMED, audience_code, audience_space, deleted_space, user_space,
};
use crate::store::embedded::offline::normal_forms;
use crate::store::embedded::offline::normal_forms::Sliced;
use crate::store::embedded::offline::rows::OfflineFile;
use crate::store::embedded::privacy::rows::{HoldRow, hold_key, is_hold_key_5};

/// So many rows share a transaction.
const SLICE: usize = 2_000;
/// So many people's inboxes do.
const INBOXES: usize = 200;

/// Brings a file to this version's format. `progress` hears how many rows are done. A file that is at it stays as it is.
///
/// # Errors
/// What kept it from being migrated; calling it again goes on where it stopped.
pub fn migrate(file: &mut OfflineFile, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
    let mut rows = 0;
    while file.format < FORMAT {
        let Some(done) = file.write(|tables| slice(tables, file.format))? else {
            file.format = FORMAT;
            break;
        };
        rows += done;
        progress(rows);
    }
    Ok(())
}

/// What is written anew, one behind the other. `meta` has the format that a migration comes from and how far it is: the phase
/// and the last row of it that is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Since format 2 a room knows up to which `seq` it has been purged.
    Rooms,
    /// Since format 4 it is known who has written where, and how many tombstones a room has.
    Messages,
    /// Since format 4 an audience's notifications are counted as they come.
    Audiences,
    /// Since format 4 what somebody has marked, and what names them, is counted as it comes.
    Inboxes,
    /// Since format 5 what names somebody is listed, and what they have deleted is counted.
    Lists,
    /// Since format 6 a hold has a number, in its key.
    Holds,
    /// Since format 8 ids are in their normal form: of users,
    UserForms,
    /// of rooms,
    RoomForms,
    /// of lessons,
    LessonForms,
    /// in what is keyed by them,
    KeyedForms,
    /// in messages,
    MessageForms,
    /// in notifications,
    NotificationForms,
    /// in those with a time,
    NoticeForms,
    /// and in what each has done.
    PeopleForms,
    /// Since format 8 first answers have no index by their expiry.
    Expiries,
    /// Since format 9 the index of a room knows when a message was said and by whom, and a person in which blocks of ids,
    Places,
    /// members stand beside the messages of their room,
    Members,
    /// and the indexes of before are empty.
    Indexes,
    /// Since format 10 there are reports.
    Reports,
}

const PHASES: [Phase; 19] = [
    Phase::Rooms,
    Phase::Messages,
    Phase::Audiences,
    Phase::Inboxes,
    Phase::Lists,
    Phase::Holds,
    Phase::UserForms,
    Phase::RoomForms,
    Phase::LessonForms,
    Phase::KeyedForms,
    Phase::MessageForms,
    Phase::NotificationForms,
    Phase::NoticeForms,
    Phase::PeopleForms,
    Phase::Expiries,
    Phase::Places,
    Phase::Members,
    Phase::Indexes,
    Phase::Reports,
];

/// Phases have numbers of their own in what `meta` says, so that a migration of format 1 that an older version has begun goes
/// on: it kept a room's number alone.
const PHASE_SHIFT: u32 = 60;
/// Four bits hold no more than this one: the phases from it on have the bits behind it, which no id has.
const LAST_SHIFTED: u64 = 15;
const LATER_SHIFT: u32 = 54;

/// How far a migration is, as one number: the phase, and the last row of it that is done.
fn mark(phase: u64, done: u64) -> u64 {
    match phase.checked_sub(LAST_SHIFTED) {
        Some(later) => (LAST_SHIFTED << PHASE_SHIFT) | (later << LATER_SHIFT) | done,
        None => (phase << PHASE_SHIFT) | done,
    }
}

/// The phase and the row of a mark.
fn read_mark(mark: u64) -> (u64, u64) {
    let low = |bits: u32| mark & ((1 << bits) - 1);
    match mark >> PHASE_SHIFT {
        LAST_SHIFTED => (LAST_SHIFTED + (low(PHASE_SHIFT) >> LATER_SHIFT), low(LATER_SHIFT)),
        phase => (phase, low(PHASE_SHIFT)),
    }
}

/// One slice; `None` when all is done.
fn slice(tables: &mut Tables<'_>, from: u32) -> Outcome<Option<u64>> {
    if !(1..FORMAT).contains(&from) {
        return Err(Failure::Damaged(format!("there is no way from format {from} to {FORMAT}")));
    }
    let state: Option<(u32, u64)> = get_value(tables.meta.read()?, meta::MIGRATING)?;
    let first: u64 = match from {
        1 => 0,
        2 | 3 => 1,
        4 => 4,
        5 => 5,
        // Since format 7 notifications have times: what was there has none.
        6 | 7 => 6,
        8 => 15,
        // What format 10 has changed of rooms and members is read as it was.
        _ => 18,
    };
    let (number, done) = state.map_or((first, 0), |(_, at)| read_mark(at));
    let phase = usize::try_from(number).ok().and_then(|number| PHASES.get(number).copied());
    let mut buffer = Vec::new();
    tables.meta.write()?.insert(meta::FORMAT, encode(&FORMAT, &mut buffer)?)?;
    tables.meta.write()?.insert(meta::VERSION, encode(&env!("CARGO_PKG_VERSION"), &mut buffer)?)?;
    let Some(phase) = phase else {
        if get_value::<_, [u8; 32]>(tables.meta.read()?, meta::CURSOR_KEY)?.is_none() {
            let key = crate::store::embedded::engine::file::random_key()?;
            tables.meta.write()?.insert(meta::CURSOR_KEY, encode(&key, &mut buffer)?)?;
        }
        tables.meta.write()?.remove(meta::MIGRATING)?;
        return Ok(None);
    };
    let (rows, last) = match phase {
        Phase::Rooms => rooms(tables, done)?,
        Phase::Messages => messages(tables, done)?,
        Phase::Audiences => audiences(tables, done)?,
        Phase::Inboxes => inboxes(tables, done, count_marks)?,
        Phase::Lists => inboxes(tables, done, list_inbox)?,
        Phase::Holds => holds(tables)?,
        Phase::UserForms => normal_forms::users(tables, done)?,
        Phase::RoomForms => normal_forms::rooms(tables, done)?,
        Phase::LessonForms => normal_forms::lessons(tables)?,
        Phase::KeyedForms => normal_forms::keyed(tables)?,
        Phase::MessageForms => normal_forms::messages(tables, done)?,
        Phase::NotificationForms => normal_forms::notifications(tables, done)?,
        Phase::NoticeForms => normal_forms::notices(tables, done)?,
        Phase::PeopleForms => normal_forms::people(tables, done)?,
        Phase::Expiries => emptied(&mut tables.answers_by_expiry)?,
        Phase::Places => places(tables, done)?,
        Phase::Members => members(tables)?,
        Phase::Indexes => indexes(tables)?,
        Phase::Reports => reports(tables)?,
    };
    let next = match last {
        Some(last) => mark(number, last),
        None => mark(number + 1, 0),
    };
    tables.meta.write()?.insert(meta::MIGRATING, encode(&(from, next), &mut buffer)?)?;
    Ok(Some(rows))
}

fn rooms(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let mut buffer = Vec::new();
    let mut slice = Vec::new();
    for row in tables.rooms.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(SLICE) {
        let (key, value) = row?;
        slice.push((u64::from_be_bytes(*key.value()), decode_room_1(value.value())?));
    }
    for (no, room) in &slice {
        tables.rooms.write()?.insert(&k8(*no), encode_room(room, &mut buffer)?)?;
    }
    Ok((slice.len() as u64, slice.last().map(|(no, _)| *no)))
}

fn messages(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let mut buffer = Vec::new();
    let nowhere = RoomId::number(0);
    let mut slice = Vec::new();
    for row in tables.messages.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(SLICE) {
        let (key, value) = row?;
        let id = u64::from_be_bytes(*key.value());
        let (message, place) = decode_message(value.value(), id, &nowhere)?;
        slice.push((id, message.seq, message.at, message.deleted_at.is_some(), place));
    }
    let mut rooms: HashMap<u64, RoomRecord> = HashMap::new();
    for (_, seq, at, is_deleted, place) in &slice {
        tables.authors.write()?.insert(&k16(place.sender, place.room), ())?;
        let room = match rooms.entry(place.room) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(gap) => match get(tables.rooms.read()?, &k8(place.room), decode_room)? {
                Some(room) => gap.insert(room),
                None => continue,
            },
        };
        // A wrong clock of before is not what the room's times begin with.
        room.last_at = room.last_at.max(*at);
        if *is_deleted {
            room.deleted += 1;
            counts::change(tables.tombstones.write()?, place.room, *seq, true)?;
        }
    }
    for (no, room) in &rooms {
        tables.rooms.write()?.insert(&k8(*no), encode_room(room, &mut buffer)?)?;
    }
    Ok((slice.len() as u64, slice.last().map(|(id, ..)| *id)))
}

fn audiences(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let mut slice = Vec::new();
    for row in tables.notifications.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(SLICE) {
        let (key, value) = row?;
        let id = u64::from_be_bytes(*key.value());
        slice.push((id, audience_code(&decode_notification(value.value(), id, false)?.audience)));
    }
    for (id, code) in &slice {
        if let Some(code) = code {
            counts::change(tables.inbox_counts.write()?, audience_space(*code), *id, true)?;
        }
    }
    Ok((slice.len() as u64, slice.last().map(|(id, _)| *id)))
}

/// User by user: the rows of an inbox have a key of two numbers, and a user's are never many.
fn inboxes(tables: &mut Tables<'_>, done: u64, each: EachRow) -> Sliced {
    let mut users = Vec::new();
    for row in tables.users.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(INBOXES) {
        users.push(u64::from_be_bytes(*row?.0.value()));
    }
    let mut rows = 0;
    for user in &users {
        let mut found = Vec::new();
        for row in tables.inbox.read()?.range::<&[u8; 16]>(&k16(*user, 0)..=&k16(*user, u64::MAX))? {
            let (key, value) = row?;
            found.push((second(key.value()), decode::<u8>(value.value())?));
        }
        rows += found.len() as u64 + 1;
        for (id, flags) in found {
            let read = |row: &[u8]| Ok(decode_notification(row, id, false)?.audience.kind());
            let Some(kind) = get(tables.notifications.read()?, &k8(id), read)? else { continue };
            each(tables, *user, kind, id, flags)?;
        }
    }
    Ok((rows, users.last().copied()))
}

/// All at once: holds are never many.
fn holds(tables: &mut Tables<'_>) -> Sliced {
    let mut buffer = Vec::new();
    let mut older = Vec::new();
    for row in tables.holds.read()?.iter()? {
        let (key, value) = row?;
        if is_hold_key_5(key.value()) {
            let number = older.len() as u64 + 1;
            older.push((key.value().to_vec(), decode::<HoldRow<'_>>(value.value())?.hold(key.value(), number)?));
        }
    }
    let mut next = get_number(tables.meta.read()?, meta::NEXT_HOLD)?.unwrap_or(1);
    for (key, hold) in &older {
        tables.holds.write()?.remove(key.as_slice())?;
        let key = hold_key(&hold.subject, next);
        tables.holds.write()?.insert(key.as_slice(), encode(&HoldRow::of(hold), &mut buffer)?)?;
        next += 1;
    }
    tables.meta.write()?.insert(meta::NEXT_HOLD, encode(&next, &mut buffer)?)?;
    Ok((older.len() as u64, None))
}

/// Takes rows away from the first that is left, as often as there are some: what is done needs no mark.
fn emptied<const N: usize, V: redb::Value>(table: &mut Lazy<'_, &'static [u8; N], V>) -> Sliced {
    let (mut rows, mut last) = (0, None);
    for row in table.read()?.iter()?.take(10 * SLICE) {
        (rows, last) = (rows + 1, Some(*row?.0.value()));
    }
    let Some(last) = last else { return Ok((0, None)) };
    table.write()?.remove_range::<&[u8; N]>(..=&last)?;
    Ok((rows, Some(0)))
}

fn places(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let nowhere = RoomId::number(0);
    let mut slice = Vec::new();
    for row in tables.messages.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(SLICE) {
        let (key, value) = row?;
        let id = u64::from_be_bytes(*key.value());
        let (message, place) = decode_message(value.value(), id, &nowhere)?;
        let row = InRoom::of(&message, place.sender);
        slice.push((id, place.room, row, message.sender == UserId::erased()));
    }
    let mut buffer = Vec::new();
    let mut blocks = BTreeSet::new();
    for (id, room, row, is_nobodys) in &slice {
        tables.in_rooms.write()?.insert(&k16(*room, *id), row.encode(&mut buffer)?)?;
        if !is_nobodys {
            blocks.insert(k24(row.sender, block_of(*id), *room));
        }
    }
    for block in &blocks {
        tables.msg_blocks.write()?.insert(block, ())?;
    }
    Ok((slice.len() as u64, slice.last().map(|(id, ..)| *id)))
}

/// From the first that is left, as [`emptied`].
fn members(tables: &mut Tables<'_>) -> Sliced {
    let mut slice = Vec::new();
    for row in tables.members.read()?.iter()?.take(SLICE) {
        let (key, value) = row?;
        slice.push((*key.value(), value.value().to_vec()));
    }
    for (key, row) in &slice {
        let (room, user) = pair(key);
        tables.in_rooms.write()?.insert(&member_key(room, user), row.as_slice())?;
    }
    let Some((last, _)) = slice.last() else { return Ok((0, None)) };
    tables.members.write()?.remove_range::<&[u8; 16]>(..=last)?;
    Ok((slice.len() as u64, Some(0)))
}

/// One behind the other.
fn indexes(tables: &mut Tables<'_>) -> Sliced {
    match emptied(&mut tables.msg_by_user)? {
        (0, _) => emptied(&mut tables.msg_by_room),
        slice => Ok(slice),
    }
}

/// The table is there, and empty.
fn reports(tables: &mut Tables<'_>) -> Sliced {
    tables.reports.read()?;
    Ok((0, None))
}

/// What a phase does with a row of an inbox: the user, the audience, the notification and the flags.
type EachRow = fn(&mut Tables<'_>, u64, AudienceKind, u64, u8) -> Outcome<()>;

fn count_marks(tables: &mut Tables<'_>, user: u64, kind: AudienceKind, id: u64, flags: u8) -> Outcome<()> {
    if (flags & NAMED != 0) != (flags & MARKED != 0) {
        counts::change(tables.inbox_counts.write()?, user_space(user, kind), id, true)?;
    }
    Ok(())
}

fn list_inbox(tables: &mut Tables<'_>, user: u64, kind: AudienceKind, id: u64, flags: u8) -> Outcome<()> {
    match (flags & NAMED != 0, flags & DELETED != 0) {
        (true, false) => drop(tables.named.write()?.insert(&k16(user, id), ())?),
        (false, true) => counts::change(tables.inbox_counts.write()?, deleted_space(user, kind), id, true)?,
        _ => {}
    }
    Ok(())
}

/// A room's row as format 1 has it.
#[derive(Serialize, Deserialize)]
struct RoomRow1<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: Option<&'a str>,
    private: bool,
    last_id: u64,
    last_seq: u64,
    created_at: u64,
}

/// A room of format 1.
pub(in crate::store::embedded) fn decode_room_1(bytes: &[u8]) -> Outcome<RoomRecord> {
    let row: RoomRow1<'_> = decode(bytes)?;
    Ok(RoomRecord {
        name: row.name.map(str::to_owned),
        private: row.private,
        last_id: row.last_id,
        last_seq: row.last_seq,
        ..RoomRecord::new(row.id.room(), Timestamp(row.created_at))
    })
}

#[cfg(test)]
mod tests;
