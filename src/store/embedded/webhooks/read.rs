//! Reads of what is to be told to the platform: of each row what it is about, as that is at this moment.

use redb::{ReadableTable, ReadableTableMetadata};

use crate::domain::Timestamp;
use crate::domain::notification::Selection;
use crate::domain::webhook::HookEvent;
use crate::store::embedded::access::rows::Person;
use crate::store::embedded::engine::codec::{IdRow, decode, get};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, if_there, k8, k16};
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::embedded::webhooks::rows::{Dead, HookRow, Outgoing, SightedRow};
use crate::store::webhooks::{DeadLetter, HookCounts, HookItem, HookMark, Sighted, Telling};

impl Snapshot {
    pub(in crate::store::embedded) fn hooks_after(&self, after: u64, limit: usize) -> Outcome<Vec<HookMark>> {
        let mut marks = Vec::new();
        let Some(table) = if_there(self.hooks())? else { return Ok(marks) };
        for row in table.range::<&[u8; 8]>(&k8(after.saturating_add(1))..)?.take(limit) {
            let (key, value) = row?;
            let Outgoing { at, lane, .. } = decode(value.value())?;
            marks.push(HookMark { id: u64::from_be_bytes(*key.value()), lane, at: Timestamp(at) });
        }
        Ok(marks)
    }

    pub(in crate::store::embedded) fn hook(&self, id: u64) -> Outcome<Option<HookItem>> {
        let Some(table) = if_there(self.hooks())? else { return Ok(None) };
        let Some(row) = table.get(&k8(id))? else { return Ok(None) };
        let Outgoing { at, what, .. } = decode(row.value())?;
        Ok(Some(HookItem { at: Timestamp(at), telling: self.telling(what)? }))
    }

    fn telling(&self, what: HookRow<'_>) -> Outcome<Option<Telling>> {
        Ok(match what {
            HookRow::Message { event, message } => match (HookEvent::of(event), self.message(message)?) {
                (Some(event), Some(message)) => Some(Telling::Message { event, message: Box::new(message) }),
                _ => None,
            },
            HookRow::Progress { user, lesson } => {
                let read = |row: &[u8]| decode::<ProgressRow<'_>>(row)?.read();
                get(&self.progress()?, &k16(user, lesson), read)?.map(|progress| Telling::Progress(Box::new(progress)))
            }
            HookRow::Read { user, ids, up_to, unread } => self.person_of(user)?.map(|person| {
                let selection = ids.map_or(Selection::All { up_to }, Selection::Ids);
                Telling::Read { user: person.id, selection, unread }
            }),
            HookRow::Sighting { user, room, has_come } => self.person_of(user)?.map(|person| {
                let room = room.map(IdRow::room);
                Telling::Sighting { user: person.id, name: person.name, room, has_come }
            }),
            HookRow::Gap { to, changes } => Some(Telling::Gap { to, changes }),
        })
    }

    fn person_of(&self, no: u64) -> Outcome<Option<Person>> {
        get(&self.users()?, &k8(no), Person::decode)
    }

    pub(in crate::store::embedded) fn hook_counts(&self) -> Outcome<HookCounts> {
        let mut counts = HookCounts::default();
        if let Some(table) = if_there(self.hooks())? {
            counts.waiting = table.len()?;
            if let Some((_, row)) = table.first()? {
                counts.oldest = Some(Timestamp(decode::<Outgoing<'_>>(row.value())?.at));
            }
        }
        if let Some(table) = if_there(self.hook_dead())? {
            counts.dead = table.len()?;
        }
        Ok(counts)
    }

    pub(in crate::store::embedded) fn dead_letters(&self, after: u64, limit: usize) -> Outcome<Vec<DeadLetter>> {
        let mut letters = Vec::new();
        let Some(table) = if_there(self.hook_dead())? else { return Ok(letters) };
        for row in table.range::<&[u8; 8]>(&k8(after.saturating_add(1))..)?.take(limit) {
            let (key, value) = row?;
            let Dead { outgoing, given_up_at, attempts, why } = decode(value.value())?;
            let event = match outgoing.what {
                HookRow::Message { event, .. } => HookEvent::of(event),
                HookRow::Progress { .. } => Some(HookEvent::ProgressUpdated),
                HookRow::Read { .. } => Some(HookEvent::NotificationRead),
                HookRow::Sighting { room: None, has_come: true, .. } => Some(HookEvent::UserOnline),
                HookRow::Sighting { room: None, has_come: false, .. } => Some(HookEvent::UserOffline),
                HookRow::Sighting { has_come: true, .. } => Some(HookEvent::RoomJoined),
                HookRow::Sighting { has_come: false, .. } => Some(HookEvent::RoomLeft),
                HookRow::Gap { .. } => None,
            };
            letters.push(DeadLetter {
                id: u64::from_be_bytes(*key.value()),
                event,
                at: Timestamp(outgoing.at),
                given_up_at: Timestamp(given_up_at),
                attempts,
                why: why.to_owned(),
            });
        }
        Ok(letters)
    }

    pub(in crate::store::embedded) fn sighted(&self, after: Option<[u8; 16]>, limit: usize) -> Outcome<Sighted> {
        let mut found = Sighted::default();
        let Some(table) = if_there(self.hook_sighted())? else { return Ok(found) };
        let from = after.map_or([0; 16], |after| (u128::from_be_bytes(after) + 1).to_be_bytes());
        for (nth, row) in table.range::<&[u8; 16]>(&from..)?.enumerate() {
            let (key, value) = row?;
            let key = *key.value();
            if let Some(person) = self.person_of((u128::from_be_bytes(key) >> 64) as u64)? {
                let SightedRow { room } = decode(value.value())?;
                found.people.push((person.id, room.map(IdRow::room)));
            }
            if nth + 1 >= limit {
                found.next = Some(key);
                break;
            }
        }
        Ok(found)
    }
}
