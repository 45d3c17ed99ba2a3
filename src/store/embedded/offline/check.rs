//! The walk through a whole store that says what contradicts what. It knows the tables and nothing of how they are
//! written, so that it does not repeat the writer's mistakes.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use redb::{ReadableTable, ReadableTableMetadata};

use crate::domain::audit::{Broken, Link};
use crate::domain::notification::Audience;
use crate::domain::{RoomId, UserId};
use crate::store::OpenError;
use crate::store::embedded::access::rows::{MemberRow, NAMED_SLOT, Person, decode_room};
use crate::store::embedded::audit::rows::AuditRow;
use crate::store::embedded::chat::places::{block_of, is_member, member_key, member_of, seq_of};
use crate::store::embedded::chat::rows::{InRoom, RoomChangeRow, decode_message};
use crate::store::embedded::engine::codec::{decode, get, get_number, get_value};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::file::{NAME, SUSPECT};
use crate::store::embedded::engine::first_answers::AnswerRow;
use crate::store::embedded::engine::schema::{FORMAT, NOBODY, Snapshot, if_there, k8, k16, k24, meta, pair, triple};
use crate::store::embedded::inbox::rows::{decode_broadcast, decode_notification};
use crate::store::embedded::inbox::view::{
    DELETED, DELETED_SPACES, MARKED, NAMED, audience_space, deleted_space, user_space,
};
use crate::store::embedded::offline::rows::{Held, OfflineFile, remove_if_there};
use crate::store::embedded::order::rows::{ReportRow, Way, end_of, report_key};
use crate::store::embedded::privacy::rows::VersionRow;
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::embedded::webhooks::rows::{Dead, Outgoing, SightedRow};

/// More than so many violations say no more than these.
const MOST: usize = 100;

pub(in crate::store::embedded) fn check(data_dir: &Path) -> Result<Vec<String>, OpenError> {
    let held = Held::take(data_dir)?;
    let mut file = held.open()?;
    Ok(file.check(&mut |_| {}))
}

/// Looks at a database that the service had to stop because of, before it is served again.
pub(in crate::store::embedded) fn examine_a_suspect(data_dir: &Path) -> Result<(), OpenError> {
    let marker = data_dir.join(SUSPECT);
    if !marker.exists() || !data_dir.join(NAME).exists() {
        return Ok(());
    }
    tracing::warn!("checking the database, because the service had to stop on its account");
    let held = Held::take(data_dir)?;
    let mut file = held.open()?;
    let mut found = match file.check_integrity() {
        // What an older format means is looked at behind its migration.
        Ok(true) if file.format < FORMAT => Vec::new(),
        Ok(true) => file.check(&mut |_| {}),
        Ok(false) => vec!["pages are damaged".to_owned()],
        Err(error) => vec![error.to_string()],
    };
    drop(file);
    if !found.is_empty() {
        found.truncate(MAX_REPORTED);
        return Err(OpenError::Unsound { path: held.path(), found });
    }
    tracing::info!("the database is sound");
    remove_if_there(&marker).map_err(|source| OpenError::Io { path: marker, source })
}

impl OfflineFile {
    /// Looks at everything: the engine's pages, then what contradicts what. An empty list is a sound store. `step` hears
    /// what is looked at. Blocks, for as long as the store is large.
    pub fn check(&mut self, step: &mut dyn FnMut(&'static str)) -> Vec<String> {
        let mut found = Vec::new();
        step("pages");
        match self.check_integrity() {
            Ok(true) => {}
            Ok(false) => found.push("the engine found damaged pages and repaired what it could".to_owned()),
            Err(error) => found.push(error.to_string()),
        }
        if self.format < FORMAT {
            found.push(format!("it has format {}: migrate it with `academy-rt db upgrade` first", self.format));
            return found;
        }
        if let Err(error) = self.read(|snapshot| walk(snapshot, &mut found, step)) {
            found.push(error.to_string());
        }
        found.truncate(MOST);
        found
    }
}

/// How many problems of a suspect file are reported.
const MAX_REPORTED: usize = 5;

type Look = fn(&Snapshot, &mut Vec<String>) -> Outcome<()>;

const LOOKS: [(&str, Look); 15] = [
    ("rooms", rooms),
    ("messages", messages),
    ("changes", room_changes),
    ("progress", progress),
    ("notifications", notifications),
    ("notifications with a time", notices),
    ("people", people),
    ("answers", answers),
    ("authors", authors),
    ("kept counts", kept_counts),
    ("withheld versions", withheld),
    ("reports", reports),
    ("bans", |snapshot, _| snapshot.all_bans().map(drop)),
    ("audit log", audit),
    ("webhooks", webhooks),
];

fn walk(snapshot: &Snapshot, found: &mut Vec<String>, step: &mut dyn FnMut(&'static str)) -> Outcome<()> {
    for (name, look) in LOOKS {
        step(name);
        look(snapshot, found)?;
    }
    Ok(())
}

/// `seq` goes on without a gap behind what was purged, and the room's record agrees with its last message.
fn rooms(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (table, room_no) = (snapshot.rooms()?, snapshot.room_no()?);
    let doomed: Vec<u64> = get_value(&snapshot.meta()?, meta::DOOMED)?.unwrap_or_default();
    // A room's last message, as far as it is seen, and where its messages must begin.
    let mut last: HashMap<u64, (u64, u64)> = HashMap::new();
    let mut records = HashMap::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let (no, room) = (u64::from_be_bytes(*key.value()), decode_room(value.value())?);
        let leads_to_it = get_number(&room_no, room.id.canonical().as_bytes())? == Some(no);
        if leads_to_it == doomed.contains(&no) {
            found.push(format!("room {no}: its id does not lead to it, or still does though it is removed"));
        }
        last.insert(no, (0, room.purged_seq));
        records.insert(no, (room.last_id, room.last_seq, room.purged_seq));
    }
    for row in snapshot.in_rooms()?.iter()? {
        let (key, value) = row?;
        if is_member(key.value()) {
            continue;
        }
        let ((room, id), InRoom { seq, .. }) = (pair(key.value()), InRoom::decode(value.value())?);
        match last.get_mut(&room) {
            None => found.push(format!("room {room}: has message {id}, but no record")),
            Some(before) => {
                if seq != before.1 + 1 {
                    found.push(format!("room {room}: message {id} has seq {seq} behind {}", before.1));
                }
                *before = (id, seq);
            }
        }
        if found.len() > MOST {
            return Ok(());
        }
    }
    let by_room = snapshot.in_rooms()?;
    for (no, (last_id, last_seq, purged_seq)) in records {
        let (id, seq) = last.get(&no).copied().unwrap_or_default();
        // The record is as of when it was written: it ends at a message of the room, or at one that has been purged. Where no
        // message is left, the next one goes on from it.
        let is_of_then = seq_of(&by_room, no, last_id)?.map_or(last_seq <= purged_seq, |seq| seq == last_seq);
        if !is_of_then || id == 0 && last_seq != seq {
            found.push(format!("room {no}: its record ends at {last_id} ({last_seq}), its messages at {id} ({seq})"));
        }
    }
    Ok(())
}

/// The log and the index of rooms hold the same messages, and whoever has written them is known to have.
fn messages(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (log, by_room, blocks) = (snapshot.messages()?, snapshot.in_rooms()?, snapshot.msg_blocks()?);
    let mut known = HashSet::new();
    let nowhere = RoomId::parse("0")
        .map_err(|error| crate::store::embedded::engine::failure::Failure::Damaged(error.to_string()))?;
    for row in log.iter()? {
        let (key, value) = row?;
        let id = u64::from_be_bytes(*key.value());
        let (message, place) = decode_message(value.value(), id, &nowhere)?;
        let row = InRoom::of(&message, place.sender);
        if get(&by_room, &k16(place.room, id), InRoom::decode)? != Some(row) {
            found.push(format!("message {id}: the index of room {} does not have it as {}", place.room, message.seq));
        }
        let block = (place.sender, block_of(id), place.room);
        // Nobody's messages are nobody's to be found.
        if message.sender != UserId::erased()
            && known.insert(block)
            && blocks.get(&k24(block.0, block.1, block.2))?.is_none()
        {
            found.push(format!("message {id}: the blocks of its sender do not have it"));
        }
        if message.deleted_at.is_some() && !message.content.is_empty() {
            found.push(format!("message {id}: is deleted, but has content"));
        }
    }
    let mut indexed = 0;
    for row in by_room.iter()? {
        indexed += u64::from(!is_member(row?.0.value()));
    }
    if indexed != log.len()? {
        found.push(format!("the index of rooms has {indexed} messages, the log {}", log.len()?));
    }
    let erasing = erasing(snapshot)?;
    for row in blocks.iter()? {
        let (user, block, room) = triple(row?.0.value());
        // Of somebody who is being erased a block goes when all of it is done.
        if !known.contains(&(user, block, room)) && !erasing.contains(&user) {
            found.push(format!("user {user}: has nothing in block {block} of room {room}, which says otherwise"));
        }
    }
    for (name, is_empty) in [
        ("members", snapshot.members()?.is_empty()?),
        ("msg_by_room", snapshot.msg_by_room()?.is_empty()?),
        ("msg_by_user", snapshot.msg_by_user()?.is_empty()?),
    ] {
        if !is_empty {
            found.push(format!("the table {name} is not kept any more, and has rows"));
        }
    }
    Ok(())
}

/// Changes lead to what they are of, and that leads back: the latest alone is kept.
fn room_changes(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (log, members, last_id) = (snapshot.messages()?, snapshot.in_rooms()?, snapshot.last_id()?);
    let records = snapshot.rooms()?;
    let nowhere = RoomId::parse("0")
        .map_err(|error| crate::store::embedded::engine::failure::Failure::Damaged(error.to_string()))?;
    for row in snapshot.changes_by_room()?.iter()? {
        let (key, value) = row?;
        let (room, change) = pair(key.value());
        let leads_back = match decode(value.value())? {
            RoomChangeRow::Edited(id) | RoomChangeRow::Deleted(id) => {
                get(&log, &k8(id), |row| decode_message(row, id, &nowhere))?.map(|(_, place)| place.change)
            }
            RoomChangeRow::State => get(&records, &k8(room), decode_room)?.map(|room| room.state_change),
            RoomChangeRow::Read(user) => {
                get(&members, &member_key(room, user), MemberRow::decode)?.map(|row| row.read_change)
            }
        };
        if change > last_id {
            found.push(format!("change {change} of room {room}: is beyond the last id {last_id}"));
        }
        if leads_back != Some(change) {
            found.push(format!("change {change} of room {room}: what it is of does not know it"));
        }
    }
    let (member_rooms, by_room, rooms) = (snapshot.member_rooms()?, snapshot.in_rooms()?, snapshot.rooms()?);
    let mut count = 0;
    for row in members.iter()? {
        let (key, value) = row?;
        if !is_member(key.value()) {
            continue;
        }
        count += 1;
        let (room, user) = (pair(key.value()).0, member_of(key.value()));
        let row = MemberRow::decode(value.value())?;
        if member_rooms.get(&k16(user, room))?.is_none() {
            found.push(format!("user {user}: takes part in room {room}, which is not on their list"));
        }
        // A message that was purged may have been read.
        let purged_seq = get(&rooms, &k8(room), decode_room)?.map_or(0, |room| room.purged_seq);
        if row.read_seq > purged_seq && seq_of(&by_room, room, row.read_up_to)? != Some(row.read_seq) {
            found.push(format!("user {user}: has read message {} of room {room}, which is not there", row.read_up_to));
        }
    }
    if member_rooms.len()? != count {
        found.push("the lists of members and of their rooms differ in length".to_owned());
    }
    Ok(())
}

/// Versions are kept without gaps up to the current one, and each lesson has one change.
fn progress(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (current, by_change) = (snapshot.progress()?, snapshot.progress_by_change()?);
    let mut last: HashMap<(u64, u64), u64> = HashMap::new();
    for row in snapshot.progress_versions()?.iter()? {
        let (user, lesson, version) = triple(row?.0.value());
        let before = last.insert((user, lesson), version);
        if before.is_some_and(|before| before + 1 != version) {
            found.push(format!("user {user}, lesson {lesson}: version {version} follows {before:?}"));
        }
    }
    for row in current.iter()? {
        let (key, value) = row?;
        let ((user, lesson), row) = (pair(key.value()), decode::<ProgressRow<'_>>(value.value())?);
        let version = row.read()?.version;
        if last.remove(&(user, lesson)) != Some(version) {
            found.push(format!("user {user}, lesson {lesson}: version {version} is not the last one kept"));
        }
        if get_number(&by_change, &k16(user, row.change))? != Some(lesson) {
            found.push(format!("user {user}, lesson {lesson}: its change {} does not lead to it", row.change));
        }
    }
    found.extend(last.keys().map(|(user, lesson)| format!("user {user}, lesson {lesson}: has versions but no state")));
    if by_change.len()? != current.len()? {
        found.push("there are more changes of progress than lessons".to_owned());
    }
    Ok(())
}

/// Each notification is where its audience looks for it.
fn notifications(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (by_audience, inbox, user_no) = (snapshot.notif_by_audience()?, snapshot.inbox()?, snapshot.user_no()?);
    let table = snapshot.notifications()?;
    for row in table.iter()? {
        let (key, value) = row?;
        let id = u64::from_be_bytes(*key.value());
        let audience = decode_notification(value.value(), id, false)?.audience;
        if let Some(code) = crate::store::embedded::inbox::view::audience_code(&audience)
            && by_audience.get(&k16(code, id))?.is_none()
        {
            found.push(format!("notification {id}: its audience does not see it"));
        }
        if let Audience::Users(users) = audience {
            for user in users {
                let no = get_number(&user_no, user.canonical().as_bytes())?.unwrap_or(0);
                if get(&inbox, &k16(no, id), |row| decode::<u8>(row))?.is_none_or(|flags| flags & NAMED == 0) {
                    found.push(format!("notification {id}: user {user} does not see it"));
                }
            }
        }
    }
    for row in by_audience.iter()? {
        let (_, id) = pair(row?.0.value());
        if table.get(&k8(id))?.is_none() {
            found.push(format!("notification {id}: is indexed, but not there"));
        }
    }
    for row in inbox.iter()? {
        let (key, value) = row?;
        let ((user, id), flags) = (pair(key.value()), decode::<u8>(value.value())?);
        // A mark may outlive what was purged by age until it is swept away; a name must not.
        if flags & NAMED != 0 && table.get(&k8(id))?.is_none() {
            found.push(format!("notification {id}: is in the inbox of user {user}, but not there"));
        }
    }
    Ok(())
}

/// What is in the inboxes until a moment is there, what is over is not; and as many have read each as have a time of it.
fn notices(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let table = snapshot.notifications()?;
    for notice in snapshot.all_notices()? {
        let Some(id) = notice.sent else { continue };
        if table.get(&k8(id))?.is_some() != notice.over.is_none() {
            found.push(format!(
                "notification {}: is {}, and its inboxes say otherwise",
                notice.id,
                notice.state().as_str()
            ));
        }
    }
    let (mut counted, mut read) = (HashMap::new(), HashMap::<u64, u64>::new());
    for row in snapshot.read_times()?.iter()? {
        let (key, value) = row?;
        let (user, id) = pair(key.value());
        match user {
            NOBODY => drop(counted.insert(id, decode::<u64>(value.value())?)),
            // What a purge by age has taken keeps the marks of its readers until they are swept away.
            _ if table.get(&k8(id))?.is_none() && snapshot.notice_of(id)?.is_none() => {}
            _ => *read.entry(id).or_default() += 1,
        }
    }
    for (id, count) in &counted {
        let there = read.get(id).copied().unwrap_or(0);
        if there != *count {
            found.push(format!("notification {id}: {there} have read it, {count} are counted"));
        }
    }
    found.extend(
        read.keys()
            .filter(|id| !counted.contains_key(id))
            .map(|id| format!("notification {id}: its readers are not counted")),
    );
    Ok(())
}

fn people(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (users, user_no) = (snapshot.users()?, snapshot.user_no()?);
    for row in users.iter()? {
        let (key, value) = row?;
        let (no, person) = (u64::from_be_bytes(*key.value()), Person::decode(value.value())?);
        if get_number(&user_no, person.id.canonical().as_bytes())? != Some(no) {
            found.push(format!("user {no}: their id does not lead to them"));
        }
    }
    if users.len()? != user_no.len()? {
        found.push("there are more or fewer user numbers than users".to_owned());
    }
    Ok(())
}

/// What is to be told is of changes that there were, and is either to be told or given up.
fn webhooks(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let last_id = snapshot.last_id()?;
    let (waiting, dead) = (if_there(snapshot.hooks())?, if_there(snapshot.hook_dead())?);
    if let Some(waiting) = &waiting {
        for row in waiting.iter()? {
            let (key, value) = row?;
            decode::<Outgoing<'_>>(value.value())?;
            let change = u64::from_be_bytes(*key.value());
            if change > last_id {
                found.push(format!("webhook {change}: is beyond the last id {last_id}"));
            }
        }
    }
    if let Some(dead) = &dead {
        for row in dead.iter()? {
            let (key, value) = row?;
            decode::<Dead<'_>>(value.value())?;
            if let Some(waiting) = &waiting
                && waiting.get(key.value())?.is_some()
            {
                let change = u64::from_be_bytes(*key.value());
                found.push(format!("webhook {change}: waits, and is given up"));
            }
        }
    }
    if let Some(sighted) = if_there(snapshot.hook_sighted())? {
        let users = snapshot.users()?;
        for row in sighted.iter()? {
            let (key, value) = row?;
            decode::<SightedRow<'_>>(value.value())?;
            let (user, _) = pair(key.value());
            if users.get(&k8(user))?.is_none() {
                found.push(format!("the platform was told of user {user}, who is not there"));
            }
        }
    }
    Ok(())
}

fn answers(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let users = snapshot.users()?;
    for row in snapshot.answers()?.iter()? {
        let (key, value) = row?;
        AnswerRow::decode(value.value())?;
        let (user, ..) = triple(key.value());
        if users.get(&k8(user))?.is_none() {
            found.push(format!("an answer to user {user}, who is not there"));
        }
    }
    if !snapshot.answers_by_expiry()?.is_empty()? {
        found.push("there is an index of answers that is not kept any more".to_owned());
    }
    Ok(())
}

/// Who has written in a room is known to have; of a room that is being removed that is forgotten with the first of their
/// messages.
fn authors(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (authors, nowhere) = (snapshot.authors()?, RoomId::number(0));
    let doomed: Vec<u64> = get_value(&snapshot.meta()?, meta::DOOMED)?.unwrap_or_default();
    let mut seen = HashSet::new();
    for row in snapshot.messages()?.iter()? {
        let (key, value) = row?;
        let id = u64::from_be_bytes(*key.value());
        let (message, place) = decode_message(value.value(), id, &nowhere)?;
        // Nobody's messages are anybody's.
        let is_of_interest = message.sender != UserId::erased() && !doomed.contains(&place.room);
        if !is_of_interest || !seen.insert((place.sender, place.room)) {
            continue;
        }
        if authors.get(&k16(place.sender, place.room))?.is_none() {
            found
                .push(format!("user {}: has written in room {}, which is not known of them", place.sender, place.room));
        }
    }
    Ok(())
}

/// What is counted as it comes is what counting gives.
fn kept_counts(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (tombstones, nowhere) = (snapshot.tombstones()?, RoomId::number(0));
    let mut by_room: HashMap<u64, u64> = HashMap::new();
    for row in snapshot.messages()?.iter()? {
        let (key, value) = row?;
        let (message, place) = decode_message(value.value(), u64::from_be_bytes(*key.value()), &nowhere)?;
        if message.deleted_at.is_some() {
            *by_room.entry(place.room).or_default() += 1;
            if !counts::has(&tombstones, place.room, message.seq)? {
                found.push(format!("message {}: is a tombstone that is not counted", message.id));
            }
        }
    }
    for row in snapshot.rooms()?.iter()? {
        let (key, value) = row?;
        let (no, room) = (u64::from_be_bytes(*key.value()), decode_room(value.value())?);
        let (there, kept) = (by_room.remove(&no).unwrap_or(0), counts::behind(&tombstones, no, 0)?);
        if there != kept || there != room.deleted {
            found.push(format!(
                "room {no}: has {there} tombstones, {kept} are counted, its record says {}",
                room.deleted
            ));
        }
    }
    let kept = snapshot.inbox_counts()?;
    // Also of those that have no notifications: nothing may be counted of them.
    let mut spaces: HashMap<u64, u64> = (0..NAMED_SLOT as u64).map(|code| (audience_space(code), 0)).collect();
    for row in snapshot.notif_by_audience()?.iter()? {
        let (code, _) = pair(row?.0.value());
        *spaces.entry(audience_space(code)).or_default() += 1;
    }
    let (notifications, named) = (snapshot.notifications()?, snapshot.named()?);
    for row in snapshot.inbox()?.iter()? {
        let (key, value) = row?;
        let ((user, id), flags) = (pair(key.value()), decode::<u8>(value.value())?);
        let read = |row: &[u8]| Ok(decode_notification(row, id, false)?.audience.kind());
        // A mark may outlive what was purged by age until it is swept away: its audience is not known any more.
        let Some(kind) = get(&notifications, &k8(id), read)? else { continue };
        let (is_named, is_deleted) = (flags & NAMED != 0, flags & DELETED != 0);
        if is_named != (flags & MARKED != 0) && !counts::has(&kept, user_space(user, kind), id)? {
            found.push(format!("notification {id}: is not counted in the inbox of user {user}"));
        }
        if !is_named && is_deleted && !counts::has(&kept, deleted_space(user, kind), id)? {
            found.push(format!("notification {id}: is not counted as deleted by user {user}"));
        }
        if is_named && !is_deleted && named.get(&k16(user, id))?.is_none() {
            found.push(format!("notification {id}: is not listed in the inbox of user {user}"));
        }
    }
    for (space, there) in spaces {
        let counted = counts::behind(&kept, space, 0)?;
        if counted != there {
            found.push(format!("audience {space}: has {there} notifications, {counted} are counted"));
        }
    }
    let (inbox, erasing) = (snapshot.inbox()?, erasing(snapshot)?);
    let blocks = counts::walk(&kept, |space, id| {
        let is_of_deleted = space & DELETED_SPACES != 0;
        let (user, slot) = ((space & !DELETED_SPACES) / 8, space % 8);
        let is_named = slot == NAMED_SLOT as u64;
        let flags: u8 = get_value(&inbox, &k16(user, id))?.unwrap_or(0);
        // An audience's own; what is counted of somebody who is being erased goes as a whole at the end.
        let is_passed_over = user == 0 || erasing.contains(&user);
        let is_right = if is_of_deleted {
            flags & (NAMED | DELETED) == DELETED
        } else {
            (flags & NAMED != 0) == is_named && (flags & MARKED != 0) != is_named
        };
        if !is_passed_over && !is_right {
            found.push(format!("notification {id}: is counted in the inbox of user {user}, and should not be"));
        }
        Ok(())
    })?;
    for row in named.iter()? {
        let (key, _) = row?;
        let (user, id) = pair(key.value());
        if get_value::<_, u8>(&inbox, key.value())?.unwrap_or(0) & (NAMED | DELETED) != NAMED {
            found.push(format!("notification {id}: is listed in the inbox of user {user}, and should not be"));
        }
    }
    found.extend(blocks);
    found.extend(counts::walk(&tombstones, |_, _| Ok(()))?);
    Ok(())
}

/// Whose erasures are under way, by number.
fn erasing(snapshot: &Snapshot) -> Outcome<HashSet<u64>> {
    let mut erasing = HashSet::new();
    for erasure in snapshot.all_erasures()?.into_iter().filter(|erasure| !erasure.is_finished()) {
        erasing.extend(snapshot.find_user(&erasure.user)?);
    }
    Ok(erasing)
}

/// A withheld version is of a message that is there, and a back end's name leads to one.
fn withheld(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let messages = snapshot.messages()?;
    for row in snapshot.withheld()?.iter()? {
        let (key, value) = row?;
        decode::<VersionRow<'_>>(value.value())?.version()?;
        let (message, _) = pair(key.value());
        if messages.get(&k8(message))?.is_none() {
            found.push(format!("message {message}: has a withheld version, but is not there"));
        }
    }
    let by_message = snapshot.external_by_message()?;
    for row in snapshot.external_ids()?.iter()? {
        let message: u64 = decode(row?.1.value())?;
        if messages.get(&k8(message))?.is_none() || by_message.get(&k8(message))?.is_none() {
            found.push(format!("message {message}: a back end's name leads to it, and it does not know the name"));
        }
    }
    if snapshot.external_ids()?.len()? != by_message.len()? {
        found.push("there are more or fewer names that back ends gave than messages that know of one".to_owned());
    }
    for row in snapshot.outbox()?.iter()? {
        decode_broadcast(row?.1.value())?;
    }
    Ok(())
}

/// A report is of a message that is there, by somebody who is, and what leads to it leads nowhere else.
fn reports(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (messages, users, nowhere) = (snapshot.messages()?, snapshot.users()?, RoomId::number(0));
    let (table, last_id) = (snapshot.reports()?, snapshot.last_id()?);
    let mut ways = HashSet::new();
    for row in table.range::<&[u8; 24]>(&report_key(0)..=&report_key(u64::MAX))? {
        let (key, value) = row?;
        let (id, row) = (end_of(key.value()), decode::<ReportRow<'_>>(value.value())?);
        let read = |bytes: &[u8]| Ok(decode_message(bytes, row.message, &nowhere)?.1.room);
        if get(&messages, &k8(row.message), read)? != Some(row.room) {
            found.push(format!("report {id}: message {} is not there in room {}", row.message, row.room));
        }
        if users.get(&k8(row.by))?.is_none() {
            found.push(format!("report {id}: is of user {}, who is not there", row.by));
        }
        if row.change > last_id {
            found.push(format!("report {id}: its change {} is beyond the last id {last_id}", row.change));
        }
        let mut own = vec![
            Way::Room.key(row.room, id),
            Way::Message.key(row.message, id),
            Way::Reporter.key(row.by, row.message),
            Way::Told.key(NOBODY, row.change),
        ];
        for way in &own {
            if get_number(&table, way)? != Some(id) {
                found.push(format!("report {id}: {:?} does not lead to it", triple(way)));
            }
        }
        // Who was told may have been erased since.
        own.extend(row.told.iter().map(|user| Way::Told.key(*user, row.change)));
        ways.extend(own.into_iter().map(|way| (way, id)));
    }
    for way in Way::ALL {
        for row in table.range::<&[u8; 24]>(&way.key(0, 0)..=&way.key(u64::MAX, u64::MAX))? {
            let (key, value) = row?;
            let id: u64 = decode(value.value())?;
            if !ways.contains(&(*key.value(), id)) {
                found.push(format!("report {id}: {:?} leads to it, and should not", triple(key.value())));
            }
        }
    }
    Ok(())
}

/// The audit log is a chain from where it begins to its last record.
fn audit(snapshot: &Snapshot, found: &mut Vec<String>) -> Outcome<()> {
    let (anchor, head) = snapshot.audit_ends()?;
    let mut link = anchor;
    for row in snapshot.audit()?.iter()? {
        let (key, value) = row?;
        let record = decode::<AuditRow<'_>>(value.value())?.record(u64::from_be_bytes(*key.value()));
        match link.follow(&record) {
            Ok(next) => link = next,
            Err(broken) => {
                found.push(format!("audit log: {broken}"));
                link = Link::from(&record);
            }
        }
        if found.len() > MOST {
            return Ok(());
        }
    }
    if link != head {
        found.push(format!("audit log: {}", Broken::WrongEnd { found: link.number, head: head.number }));
    }
    Ok(())
}
