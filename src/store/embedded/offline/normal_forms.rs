//! The phases of the migration to format 8: each id that is stored gets its normal form (NFC). Where it is somebody else's already,
//! nothing is lost and no right changes hands: of two rooms both stay, of two users too, and what the younger one has goes on under
//! a name of its own. Of two lessons the progress is merged, as reports of two devices are.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use redb::ReadableTable;

use crate::domain::access::{Ban, Banned};
use crate::domain::notification::{Audience, Notification};
use crate::domain::progress::Progress;
use crate::domain::{Id, LessonId, Room, RoomId, UserId, normal_form};
use crate::store::embedded::access::rows::{BanRow, Person, ban_key, decode_room, encode_room};
use crate::store::embedded::chat::rows::{decode_message, encode_message};
use crate::store::embedded::engine::codec::{decode, encode, encode_2, get, get_number, next_id};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::first_answers::{AnswerRow, First};
use crate::store::embedded::engine::schema::{K8, Row, Tables, k8, k16, k24, meta, second};
use crate::store::embedded::inbox::rows::{
    decode_broadcast, decode_notification, encode_broadcast, encode_notification,
};
use crate::store::embedded::notices::rows::{decode_notice, encode_notice};
use crate::store::embedded::offline::renamed::{Renamed, free_name, is_older};
use crate::store::embedded::privacy::rows::{ErasureRow, HoldRow, VersionRow, hold_key, read_holds};
use crate::store::embedded::progress::rows::ProgressRow;

/// So many rows share a transaction.
const SLICE: usize = 2_000;
/// So many people's rows do.
const PEOPLE: usize = 200;
const ROOM_CHARS: usize = 100;
const USER_CHARS: usize = 64;

/// How many rows a slice has done, and the last of them; `None` behind the last slice.
type Slice = (u64, Option<u64>);
pub(super) type Sliced = Outcome<Slice>;

fn renamed_in(tables: &Tables<'_>) -> Outcome<Renamed> {
    Ok(Renamed::read(tables.meta.read()?)?.unwrap_or_default())
}

fn given_in(tables: &Tables<'_>) -> Outcome<Renamed> {
    Renamed::read_given(tables.meta.read()?)
}

/// A slice of a table: how many rows it has and the last of them, and of these what `read` gives to be written anew.
fn older_of<T>(
    table: &impl ReadableTable<K8, Row>,
    done: u64,
    read: impl Fn(u64, &[u8]) -> Outcome<Option<T>>,
) -> Outcome<(Slice, Vec<T>)> {
    let (mut slice, mut older) = ((0, None), Vec::new());
    for row in table.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(SLICE) {
        let (key, value) = row?;
        let no = u64::from_be_bytes(*key.value());
        slice = (slice.0 + 1, Some(no));
        older.extend(read(no, value.value())?);
    }
    Ok((slice, older))
}

/// The name that an id of before gets: the one that another life of this store has given it, if that is free here, else its
/// normal form or the next name that is free and that nobody is given.
fn name_of(
    given: &BTreeMap<String, String>,
    old: &str,
    most: usize,
    mut is_taken: impl FnMut(&str) -> Outcome<bool>,
) -> Outcome<String> {
    match given.get(old) {
        Some(name) if !is_taken(name)? => Ok(name.clone()),
        _ => free_name(old, most, |name| Ok(is_taken(name)? || given.values().any(|given| given == name))),
    }
}

/// As [`name_of`], of a user: the certificate of an erasure, too, is found by its name, and `named` has those of who has no row.
fn user_name(tables: &Tables<'_>, named: &HashSet<String>, given: &Renamed, old: &str) -> Outcome<String> {
    let is_taken = |name: &str| {
        Ok(tables.user_no.read()?.get(name.as_bytes())?.is_some()
            || tables.erasures.read()?.get(name.as_bytes())?.is_some()
            || named.contains(name))
    };
    name_of(&given.users, old, USER_CHARS, is_taken)
}

/// Users by their numbers: the elder of two gets the normal form, unless somebody has it.
pub(super) fn users(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let (slice, older) = older_of(tables.users.read()?, done, |no, row| {
        let person = Person::decode(row)?;
        Ok(is_older(&person.id.canonical()).then_some((no, person)))
    })?;
    if older.is_empty() {
        return Ok(slice);
    }
    let (mut renamed, given, mut buffer) = (renamed_in(tables)?, given_in(tables)?, Vec::new());
    for (no, mut person) in older {
        let old = person.id.canonical();
        let new = user_name(tables, &HashSet::new(), &given, &old)?;
        tables.user_no.write()?.remove(old.as_bytes())?;
        tables.user_no.write()?.insert(new.as_bytes(), encode(&no, &mut buffer)?)?;
        person.id = UserId::stored(Id::Text(new.as_str().into()));
        tables.users.write()?.insert(&k8(no), person.encode(&mut buffer)?)?;
        renamed.users.insert(old, new);
    }
    renamed.put(tables)?;
    Ok(slice)
}

/// Rooms, as users. One that is being removed has no key, and takes no name from anybody.
pub(super) fn rooms(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let (slice, older) = older_of(tables.rooms.read()?, done, |no, row| {
        let room = decode_room(row)?;
        Ok(is_older(&room.id.canonical()).then_some((no, room)))
    })?;
    if older.is_empty() {
        return Ok(slice);
    }
    let (mut renamed, given, mut buffer) = (renamed_in(tables)?, given_in(tables)?, Vec::new());
    for (no, mut room) in older {
        let old = room.id.canonical();
        let mut new = normal_form(&old).into_owned();
        if get_number(tables.room_no.read()?, old.as_bytes())? == Some(no) {
            let is_taken = |name: &str| Ok(tables.room_no.read()?.get(name.as_bytes())?.is_some());
            new = name_of(&given.rooms, &old, ROOM_CHARS, is_taken)?;
            tables.room_no.write()?.remove(old.as_bytes())?;
            tables.room_no.write()?.insert(new.as_bytes(), encode(&no, &mut buffer)?)?;
            renamed.rooms.insert(old, new.clone());
        }
        room.id = RoomId::stored(Id::Text(new.into()));
        tables.rooms.write()?.insert(&k8(no), encode_room(&room, &mut buffer)?)?;
    }
    renamed.put(tables)?;
    Ok(slice)
}

/// Lessons, all at once: of each there is one row for all people. What somebody has done of two that are one now is merged with
/// the rest of theirs.
pub(super) fn lessons(tables: &mut Tables<'_>) -> Sliced {
    let mut older = Vec::new();
    for row in tables.lesson_no.read()?.iter()? {
        let (key, value) = row?;
        let text = String::from_utf8_lossy(key.value()).into_owned();
        if is_older(&text) {
            older.push((decode::<u64>(value.value())?, text));
        }
    }
    if older.is_empty() {
        return Ok((0, None));
    }
    older.sort_unstable();
    let (mut renamed, mut buffer) = (renamed_in(tables)?, Vec::new());
    for (no, old) in &older {
        let new = normal_form(old);
        tables.lesson_no.write()?.remove(old.as_bytes())?;
        match get_number(tables.lesson_no.read()?, new.as_bytes())? {
            Some(other) => {
                renamed.merged.insert(*no, other);
                renamed.lessons.insert(old.clone(), new.into_owned());
            }
            None => drop(tables.lesson_no.write()?.insert(new.as_bytes(), encode(no, &mut buffer)?)?),
        }
    }
    renamed.put(tables)?;
    Ok((older.len() as u64, None))
}

/// What is keyed by an id, or few: bans, holds, erasures, withheld versions and broadcasts on their way. All at once.
pub(super) fn keyed(tables: &mut Tables<'_>) -> Sliced {
    let (named, given) = (named_in(tables)?, given_in(tables)?);
    let renamed = name_users(tables, &given, named)?;
    tables.meta.write()?.remove(meta::NAMES_GIVEN)?;
    let rows = bans(tables, &renamed)? + holds(tables, &renamed)? + erasures(tables, &renamed)?;
    Ok((rows + withheld(tables, &renamed)? + outbox(tables, &renamed)?, None))
}

/// Whom bans, holds and erasures name.
fn named_in(tables: &Tables<'_>) -> Outcome<Vec<String>> {
    let mut all = Vec::new();
    for row in tables.bans.read()?.iter()? {
        let (key, value) = row?;
        all.extend(decode::<BanRow<'_>>(value.value())?.banned(key.value())?.ban.user().map(UserId::canonical));
    }
    for hold in read_holds(tables.holds.read()?)? {
        all.extend(hold.subject.user().map(UserId::canonical));
    }
    for row in tables.erasures.read()?.iter()? {
        all.push(String::from_utf8_lossy(row?.0.value()).into_owned());
    }
    Ok(all)
}

/// Gives a name to each of these users whose text is older and who has none yet: what stands about somebody who has never been
/// here, or is here no more, is not about whoever has the normal form.
pub(super) fn name_users(tables: &mut Tables<'_>, given: &Renamed, users: Vec<String>) -> Outcome<Renamed> {
    let mut renamed = renamed_in(tables)?;
    let is_nameless = |text: &String| is_older(text) && !renamed.users.contains_key(text);
    // In one order, so that it gives the same names each time.
    let nameless: BTreeSet<String> = users.into_iter().filter(is_nameless).collect();
    if nameless.is_empty() {
        return Ok(renamed);
    }
    let mut named: HashSet<String> = renamed.users.values().cloned().collect();
    for old in nameless {
        let new = user_name(tables, &named, given, &old)?;
        named.insert(new.clone());
        renamed.users.insert(old, new);
    }
    renamed.put(tables)?;
    Ok(renamed)
}

fn bans(tables: &mut Tables<'_>, renamed: &Renamed) -> Outcome<u64> {
    let mut changed = Vec::new();
    for row in tables.bans.read()?.iter()? {
        let (key, value) = row?;
        let banned = decode::<BanRow<'_>>(value.value())?.banned(key.value())?;
        let now = renamed.ban(&banned);
        if now != banned {
            changed.push((key.value().to_vec(), now));
        }
    }
    for (key, _) in &changed {
        tables.bans.write()?.remove(key.as_slice())?;
    }
    let rows = changed.len() as u64;
    for (_, banned) in changed {
        put_ban(tables, banned)?;
    }
    Ok(rows)
}

/// Where one stands already, the one that shuts out for longer holds.
fn put_ban(tables: &mut Tables<'_>, banned: Banned) -> Outcome<()> {
    let key = ban_key(&banned.ban);
    let read = |row: &[u8]| decode::<BanRow<'_>>(row)?.banned(key.as_bytes());
    let standing = get(tables.bans.read()?, key.as_bytes(), read)?;
    let banned = match (&banned.ban, standing) {
        (Ban::Mute { .. }, Some(standing)) if standing.until >= banned.until => standing,
        (_, standing) => banned.following(standing.as_ref()),
    };
    tables.bans.write()?.insert(key.as_bytes(), encode(&BanRow::of(&banned), &mut Vec::new())?)?;
    Ok(())
}

fn holds(tables: &mut Tables<'_>, renamed: &Renamed) -> Outcome<u64> {
    let mut buffer = Vec::new();
    let mut rows = 0;
    for hold in read_holds(tables.holds.read()?)? {
        let now = renamed.hold(&hold);
        if now == hold {
            continue;
        }
        rows += 1;
        tables.holds.write()?.remove(hold_key(&hold.subject, hold.number).as_slice())?;
        let key = hold_key(&now.subject, now.number);
        tables.holds.write()?.insert(key.as_slice(), encode(&HoldRow::of(&now), &mut buffer)?)?;
    }
    Ok(rows)
}

/// They are found by the name of today. What has become a certificate stays as it was issued: its hash is in the audit log.
fn erasures(tables: &mut Tables<'_>, renamed: &Renamed) -> Outcome<u64> {
    let mut older = Vec::new();
    for row in tables.erasures.read()?.iter()? {
        let (key, value) = row?;
        let text = String::from_utf8_lossy(key.value()).into_owned();
        if let Some(name) = renamed.name(&text) {
            older.push((text, name, ErasureRow::decode(value.value())?.erasure()?));
        }
    }
    let mut buffer = Vec::new();
    for (old, name, erasure) in &mut older {
        tables.erasures.write()?.remove(old.as_bytes())?;
        if !erasure.is_finished() {
            erasure.user = UserId::stored(Id::Text(name.as_str().into()));
        }
        tables.erasures.write()?.insert(name.as_bytes(), encode_2(&ErasureRow::of(erasure), &mut buffer)?)?;
    }
    Ok(older.len() as u64)
}

fn withheld(tables: &mut Tables<'_>, renamed: &Renamed) -> Outcome<u64> {
    let mut changed = Vec::new();
    for row in tables.withheld.read()?.iter()? {
        let (key, value) = row?;
        let row: VersionRow<'_> = decode(value.value())?;
        let mut version = row.version()?;
        if let Some(by) = renamed.user(&version.by) {
            version.by = by;
            changed.push((*key.value(), version, (row.room, row.sender)));
        }
    }
    let mut buffer = Vec::new();
    for (key, version, (room, sender)) in &changed {
        let row = encode(&VersionRow::at(version, *room, *sender), &mut buffer)?;
        tables.withheld.write()?.insert(key, row)?;
    }
    Ok(changed.len() as u64)
}

fn outbox(tables: &mut Tables<'_>, renamed: &Renamed) -> Outcome<u64> {
    let mut changed = Vec::new();
    for row in tables.outbox.read()?.iter()? {
        let (key, value) = row?;
        let mut broadcast = decode_broadcast(value.value())?;
        let rooms: Vec<Room> = broadcast.rooms.iter().map(|room| place(renamed, room)).collect();
        if rooms != broadcast.rooms {
            broadcast.rooms = rooms;
            changed.push((*key.value(), broadcast));
        }
    }
    let mut buffer = Vec::new();
    for (key, broadcast) in &changed {
        tables.outbox.write()?.insert(key, encode_broadcast(broadcast, &mut buffer)?)?;
    }
    Ok(changed.len() as u64)
}

fn place(renamed: &Renamed, room: &Room) -> Room {
    match room {
        Room::User(user) => Room::User(renamed.user(user).unwrap_or_else(|| user.clone())),
        Room::Chat(room) => Room::Chat(renamed.room(room).unwrap_or_else(|| room.clone())),
        other => other.clone(),
    }
}

/// Who has sent a message is who has its number.
pub(super) fn messages(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let nowhere = RoomId::number(0);
    let (slice, older) = older_of(tables.messages.read()?, done, |id, row| {
        let (message, place) = decode_message(row, id, &nowhere)?;
        Ok(is_older(&message.sender.canonical()).then_some((message, place)))
    })?;
    let renamed = renamed_in(tables)?;
    let mut buffer = Vec::new();
    for (mut message, place) in older {
        let person = get(tables.users.read()?, &k8(place.sender), Person::decode)?.map(|person| person.id);
        let Some(sender) = person.or_else(|| renamed.user(&message.sender)) else { continue };
        message.sender = sender;
        tables.messages.write()?.insert(&k8(message.id), encode_message(&message, place, &mut buffer)?)?;
    }
    Ok(slice)
}

/// Whom notifications name, and who has sent and ended those that have a time.
pub(super) fn notifications(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let renamed = renamed_in(tables)?;
    let (slice, older) = older_of(tables.notifications.read()?, done, |id, row| {
        let one = decode_notification(row, id, false)?;
        Ok(audience(&renamed, &one.audience).map(|audience| Notification { audience, ..one }))
    })?;
    let mut buffer = Vec::new();
    for one in &older {
        tables.notifications.write()?.insert(&k8(one.id), encode_notification(one, &mut buffer)?)?;
    }
    Ok(slice)
}

fn audience(renamed: &Renamed, audience: &Audience) -> Option<Audience> {
    let Audience::Users(users) = audience else { return None };
    let now: Vec<UserId> = users.iter().map(|user| renamed.user(user).unwrap_or_else(|| user.clone())).collect();
    (now != *users).then_some(Audience::Users(now))
}

/// As [`notifications`], of those that have a time.
pub(super) fn notices(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let renamed = renamed_in(tables)?;
    let (slice, older) = older_of(tables.notices.read()?, done, |id, row| {
        let before = decode_notice(row, id)?;
        let mut notice = before.clone();
        if let Some(audience) = audience(&renamed, &notice.audience) {
            notice.audience = audience;
        }
        for by in notice.by.iter_mut().chain(notice.over.as_mut().map(|over| &mut over.by)) {
            if let Some(now) = renamed.user(by) {
                *by = now;
            }
        }
        Ok((notice != before).then_some(notice))
    })?;
    let mut buffer = Vec::new();
    for notice in &older {
        tables.notices.write()?.insert(&k8(notice.id), encode_notice(notice, &mut buffer)?)?;
    }
    Ok(slice)
}

/// Progress and first answers, user by user.
pub(super) fn people(tables: &mut Tables<'_>, done: u64) -> Sliced {
    let renamed = Renamed::read(tables.meta.read()?)?;
    let mut people = Vec::new();
    for row in tables.users.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(PEOPLE) {
        let (key, value) = row?;
        people.push((u64::from_be_bytes(*key.value()), Person::decode(value.value())?.id));
    }
    let mut rows = people.len() as u64;
    for (no, id) in &people {
        rows += progress_of(tables, *no, id, renamed.as_ref())?;
        rows += answers_of(tables, *no, id, renamed.is_some())?;
    }
    Ok((rows, people.last().map(|(no, _)| *no)))
}

/// A lesson of somebody's as it lies: where it stands, its change, and the versions that are kept.
struct Line {
    lesson: u64,
    current: Progress,
    change: u64,
    versions: Vec<(Progress, u64)>,
}

fn progress_of(tables: &mut Tables<'_>, no: u64, id: &UserId, renamed: Option<&Renamed>) -> Outcome<u64> {
    let mut lines: BTreeMap<u64, Vec<Line>> = BTreeMap::new();
    let mut rows = 0;
    for row in tables.progress.read()?.range::<&[u8; 16]>(&k16(no, 0)..=&k16(no, u64::MAX))? {
        let (key, value) = row?;
        let (lesson, row) = (second(key.value()), decode::<ProgressRow<'_>>(value.value())?);
        let target = renamed.and_then(|renamed| renamed.merged.get(&lesson).copied()).unwrap_or(lesson);
        let line = Line { lesson, current: row.read()?, change: row.change, versions: Vec::new() };
        lines.entry(target).or_default().push(line);
    }
    for (target, mut lines) in lines {
        for line in &mut lines {
            let (low, high) = (k24(no, line.lesson, 0), k24(no, line.lesson, u64::MAX));
            for row in tables.progress_versions.read()?.range::<&[u8; 24]>(&low..=&high)? {
                let row = row?;
                let row: ProgressRow<'_> = decode(row.1.value())?;
                line.versions.push((row.read()?, row.change));
            }
            rows += 1 + line.versions.len() as u64;
        }
        let is_as_it_was = |line: &Line| {
            line.lesson == target
                && current_form(&line.current, id).is_none()
                && line.versions.iter().all(|(version, _)| current_form(version, id).is_none())
        };
        if lines.len() == 1 && lines.iter().all(is_as_it_was) {
            continue;
        }
        for line in &lines {
            remove_line(tables, no, line)?;
        }
        let line = if lines.len() == 1 { lines.pop() } else { merged(tables, lines)? };
        if let Some(line) = line {
            put_line(tables, (no, target), id, line)?;
        }
    }
    Ok(rows)
}

fn remove_line(tables: &mut Tables<'_>, no: u64, line: &Line) -> Outcome<()> {
    tables.progress.write()?.remove(&k16(no, line.lesson))?;
    tables.progress_by_change.write()?.remove(&k16(no, line.change))?;
    for (version, _) in &line.versions {
        tables.progress_versions.write()?.remove(&k24(no, line.lesson, version.version))?;
    }
    Ok(())
}

fn put_line(tables: &mut Tables<'_>, (no, lesson): (u64, u64), id: &UserId, line: Line) -> Outcome<()> {
    let mut buffer = Vec::new();
    let form = |one: &Progress| current_form(one, id).unwrap_or_else(|| one.clone());
    for (version, change) in &line.versions {
        let version = form(version);
        let row = encode(&ProgressRow::of(&version, *change), &mut buffer)?;
        tables.progress_versions.write()?.insert(&k24(no, lesson, version.version), row)?;
    }
    let current = form(&line.current);
    let row = encode(&ProgressRow::of(&current, line.change), &mut buffer)?;
    tables.progress.write()?.insert(&k16(no, lesson), row)?;
    tables.progress_by_change.write()?.insert(&k16(no, line.change), encode(&lesson, &mut buffer)?)?;
    Ok(())
}

/// The same with ids in their normal form; `None` if they are.
fn current_form(progress: &Progress, user: &UserId) -> Option<Progress> {
    let lesson = |id: &LessonId| Renamed::lesson(id).unwrap_or_else(|| id.clone());
    let mut now = progress.clone();
    if is_older(&now.user.canonical()) {
        now.user = user.clone();
    }
    now.lesson = lesson(&now.lesson);
    now.course = now.course.as_ref().map(lesson);
    now.module = now.module.as_ref().map(lesson);
    (now != *progress).then_some(now)
}

/// Several lines as one, as if all reports had been of one lesson: of each moment what was known of all of them together. It is
/// a change of its own, so that devices hear of it.
fn merged(tables: &mut Tables<'_>, lines: Vec<Line>) -> Outcome<Option<Line>> {
    let total: u64 = lines.iter().map(|line| line.current.version).sum();
    let kept: u64 = lines.iter().map(|line| line.versions.len() as u64).sum();
    let mut steps: Vec<(usize, &Progress, u64)> = Vec::new();
    for (place, line) in lines.iter().enumerate() {
        steps.extend(line.versions.iter().map(|(version, change)| (place, version, *change)));
    }
    steps.sort_by_key(|(.., change)| *change);
    let mut number = total.saturating_sub(kept);
    let mut latest: HashMap<usize, &Progress> = HashMap::new();
    let mut versions = Vec::new();
    for (place, version, change) in steps {
        latest.insert(place, version);
        number += 1;
        if let Some(together) = together(latest.values().copied(), version, number) {
            versions.push((together, change));
        }
    }
    let newest = lines.iter().max_by_key(|line| line.change).map(|line| &line.current);
    let Some(newest) = newest else { return Ok(None) };
    let Some(current) = together(lines.iter().map(|line| &line.current), newest, total) else { return Ok(None) };
    let change = take_id(tables)?;
    versions.pop();
    versions.push((current.clone(), change));
    Ok(Some(Line { lesson: 0, current, change, versions }))
}

/// What several say of one lesson, by the rules of [`crate::domain::progress::merge`]; `last` came last.
fn together<'p>(all: impl Iterator<Item = &'p Progress> + Clone, last: &Progress, version: u64) -> Option<Progress> {
    let further = all.clone().max_by(|a, b| a.progress.value().total_cmp(&b.progress.value()))?;
    let course = || all.clone().find_map(|one| one.course.clone());
    let module = || all.clone().find_map(|one| one.module.clone());
    Some(Progress {
        progress: further.progress,
        time_spent: all.clone().fold(0_u64, |sum, one| sum.saturating_add(one.time_spent)),
        status: all.clone().map(|one| one.status).max()?,
        version,
        course: last.course.clone().or_else(course),
        module: last.module.clone().or_else(module),
        updated_at: all.clone().map(|one| one.updated_at).max()?,
        completed_at: all.filter_map(|one| one.completed_at).min(),
        ..last.clone()
    })
}

fn take_id(tables: &mut Tables<'_>) -> Outcome<u64> {
    let missing = || Failure::Damaged(format!("meta has no {}", meta::NEXT_ID));
    let id = next_id(tables.meta.read()?, tables.messages.read()?)?.ok_or_else(missing)?;
    tables.meta.write()?.insert(meta::NEXT_ID, encode(&(id + 1), &mut Vec::new())?)?;
    Ok(id)
}

/// What a request said is kept as a hash, with the ids as they were: a repeat of it now would be taken for another request.
/// Where ids were others, it is not compared.
fn answers_of(tables: &mut Tables<'_>, no: u64, id: &UserId, are_forgotten: bool) -> Outcome<u64> {
    let mut changed = Vec::new();
    for row in tables.answers.read()?.range::<&[u8; 24]>(&k24(no, 0, 0)..=&k24(no, u64::MAX, u64::MAX))? {
        let (key, value) = row?;
        let AnswerRow { expires, first, fingerprint } = AnswerRow::decode(value.value())?;
        let now = match &first {
            First::Progress(row, _) => current_form(&row.read()?, id).map(|now| (now, row.change)),
            _ => None,
        };
        if now.is_none() && (!are_forgotten || fingerprint.is_none()) {
            continue;
        }
        let mut buffer = Vec::new();
        let first = match (&now, first) {
            (Some((now, change)), First::Progress(_, merged)) => First::Progress(ProgressRow::of(now, *change), merged),
            (_, first) => first,
        };
        encode_2(&AnswerRow { expires, first, fingerprint: None }, &mut buffer)?;
        changed.push((*key.value(), buffer));
    }
    for (key, row) in &changed {
        tables.answers.write()?.insert(key, row.as_slice())?;
    }
    Ok(changed.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Timestamp;
    use crate::domain::progress::{Percent, Status};

    fn progress(share: f64, time_spent: u64, version: u64, at: u64, completed_at: Option<u64>) -> Progress {
        let progress = Percent::new(share).unwrap();
        let id = LessonId::parse("1").unwrap();
        let (updated_at, completed_at) = (Timestamp(at), completed_at.map(Timestamp));
        let user = UserId::parse("7").unwrap();
        let status = if completed_at.is_some() { Status::Completed } else { Status::of(progress) };
        Progress {
            user,
            lesson: id,
            progress,
            time_spent,
            status,
            version,
            course: None,
            module: None,
            updated_at,
            completed_at,
        }
    }

    #[test]
    fn two_lines_are_one_as_if_all_reports_had_been_of_it() {
        let (a, b) = (progress(40.0, 10, 2, 5, None), progress(100.0, 60, 3, 4, Some(3)));
        let both = together([&a, &b].into_iter(), &a, 5).unwrap();
        assert_eq!((both.progress.value(), both.time_spent, both.status), (100.0, 70, Status::Completed));
        assert_eq!((both.version, both.updated_at, both.completed_at), (5, Timestamp(5), Some(Timestamp(3))));
    }
}
