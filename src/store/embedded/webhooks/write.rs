//! What a transaction leaves for the platform, and what becomes of it.

use redb::{ReadableTable, ReadableTableMetadata};

use crate::domain::notification::Selection;
use crate::domain::webhook::HookEvent;
use crate::domain::{Refusal, Timestamp};
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{decode, encode};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{k8, k16};
use crate::store::embedded::webhooks::rows::{
    Dead, HookRow, Outgoing, SightedRow, lane_of_room, lane_of_user, place_of,
};
use crate::store::operations::{InboxAction, Sighting, TellAgain, TellSightings, Told};
use crate::store::webhooks::MOST_DEAD;
use crate::store::{Change, HookPlan};

/// Behind a gap, rows are kept one by one again when so large a part of the outbox is free.
const ROOM_AGAIN: u64 = 10;

impl HookPlan {
    /// The event of a change, if it is to be told.
    fn event_of(self, change: &Change) -> Option<HookEvent> {
        let event = match change {
            Change::Posted { .. } => HookEvent::MessageCreated,
            Change::Edited { .. } => HookEvent::MessageEdited,
            Change::Deleted { .. } => HookEvent::MessageDeleted,
            Change::Progressed { .. } => HookEvent::ProgressUpdated,
            Change::InboxChanged { action: InboxAction::Read, .. } => HookEvent::NotificationRead,
            _ => return None,
        };
        self.events.has(event).then_some(event)
    }
}

impl Batch<'_, '_> {
    /// Keeps of the changes of this transaction what is to be told to the platform. Where nothing is, no table is touched.
    pub(in crate::store::embedded) fn keep_for_platform(&mut self) -> Outcome<()> {
        let plan = self.hooks;
        if plan.events.is_empty() {
            return Ok(());
        }
        let changes = std::mem::take(&mut self.changes);
        for change in &changes {
            if let Some(event) = plan.event_of(change) {
                self.keep_change(event, change)?;
            }
        }
        self.changes = changes;
        Ok(())
    }

    fn keep_change(&mut self, event: HookEvent, change: &Change) -> Outcome<()> {
        let (id, now) = (change.id(), self.now);
        match change {
            Change::Posted { message, .. } | Change::Edited { message, .. } | Change::Deleted { message, .. } => {
                let what = HookRow::Message { event: event as u8, message: message.id };
                let at = match event {
                    HookEvent::MessageEdited => message.edited_at,
                    HookEvent::MessageDeleted => message.deleted_at,
                    _ => Some(message.at),
                };
                self.keep(id, at.unwrap_or(now), Some(lane_of_room(&message.room)), what)
            }
            Change::Progressed { progress, .. } => {
                let user = self.find_user(&progress.user)?;
                let lesson = self.find_lesson(&progress.lesson)?;
                let (Some(user), Some(lesson)) = (user, lesson) else { return Ok(()) };
                self.keep(
                    id,
                    progress.updated_at,
                    Some(lane_of_user(&progress.user)),
                    HookRow::Progress { user, lesson },
                )
            }
            Change::InboxChanged { user, selection, unread, .. } => {
                let Some(no) = self.find_user(user)? else { return Ok(()) };
                let (ids, up_to) = match selection {
                    Selection::Ids(ids) => (Some(ids.clone()), None),
                    Selection::All { up_to } => (None, *up_to),
                };
                let what = HookRow::Read { user: no, ids, up_to, unread: *unread };
                self.keep(id, now, Some(lane_of_user(user)), what)
            }
            _ => Ok(()),
        }
    }

    /// Keeps one row; or, where there is no place, makes it a part of the gap at the end.
    fn keep(&mut self, id: u64, at: Timestamp, lane: Option<u64>, what: HookRow<'_>) -> Outcome<()> {
        let (at, most) = (at.0, self.hooks.most.max(1));
        self.touch();
        let table = self.t.hooks.write()?;
        let waiting = table.len()?;
        let mut key = id;
        let mut row = Outgoing { at, lane, what };
        if waiting >= most.saturating_sub(most / ROOM_AGAIN) {
            let last = match table.last()? {
                Some((key, value)) => match decode::<Outgoing<'_>>(value.value())? {
                    Outgoing { at, what: HookRow::Gap { to, changes }, .. } => {
                        Some((u64::from_be_bytes(*key.value()), at, to, changes))
                    }
                    _ => None,
                },
                None => None,
            };
            if let Some((first, since, to, changes)) = last {
                let what = HookRow::Gap { to: to.max(id), changes: changes + 1 };
                (key, row) = (first.min(id), Outgoing { at: since, lane: None, what });
                // It began in this transaction, with somebody who came or went: those are kept before what has earlier ids.
                if key < first {
                    table.remove(&k8(first))?;
                }
            } else if waiting >= most {
                row = Outgoing { at, lane: None, what: HookRow::Gap { to: id, changes: 1 } };
            }
        }
        table.insert(&k8(key), encode(&row, &mut self.buffer)?)?;
        Ok(())
    }

    fn keep_sighting(&mut self, sighting: &Sighting) -> Outcome<()> {
        let Sighting { user, room, is_there } = sighting;
        let event = match (room, is_there) {
            (None, true) => HookEvent::UserOnline,
            (None, false) => HookEvent::UserOffline,
            (Some(_), true) => HookEvent::RoomJoined,
            (Some(_), false) => HookEvent::RoomLeft,
        };
        let pair = match room {
            None => [HookEvent::UserOnline, HookEvent::UserOffline],
            Some(_) => [HookEvent::RoomJoined, HookEvent::RoomLeft],
        };
        // Who is not here any more is told nothing new of, and gets no number again.
        if self.erasing()?.contains(user) || (*is_there && !self.hooks.events.has_any(&pair)) {
            return Ok(());
        }
        let no = if *is_there { Some(self.user(user)?) } else { self.find_user(user)? };
        let Some(no) = no else { return Ok(()) };
        let key = k16(no, place_of(room.as_ref()));
        let was_there = self.t.hook_sighted.read()?.get(&key)?.is_some();
        if was_there == *is_there {
            return Ok(());
        }
        let id_row = room.as_ref().map(|room| room.id().into());
        if *is_there {
            let row = encode(&SightedRow { room: id_row }, &mut self.buffer)?;
            self.t.hook_sighted.write()?.insert(&key, row)?;
        } else {
            self.t.hook_sighted.write()?.remove(&key)?;
        }
        self.touch();
        if self.hooks.events.has(event) {
            let id = self.take_id()?;
            let lane = room.as_ref().map_or_else(|| lane_of_user(user), lane_of_room);
            self.keep(id, self.now, Some(lane), HookRow::Sighting { user: no, room: id_row, has_come: *is_there })?;
        }
        Ok(())
    }
}

impl Apply for TellSightings {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        if batch.hooks.events.is_empty() {
            return Ok(());
        }
        self.sightings.iter().try_for_each(|sighting| batch.keep_sighting(sighting))
    }
}

impl Apply for Told {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        batch.touch();
        let now = batch.now.0;
        for (id, up_to) in self.taken {
            let table = batch.t.hooks.write()?;
            let Some(row) = table.remove(&k8(id))?.map(|row| row.value().to_vec()) else { continue };
            // A gap that has grown since it was told: what is new of it is told behind.
            let Outgoing { at, what, .. } = decode(&row)?;
            if let (HookRow::Gap { to, changes }, Some((told, of_them))) = (what, up_to)
                && to > told
            {
                let what = HookRow::Gap { to, changes: changes.saturating_sub(of_them) };
                let row = Outgoing { at, lane: None, what };
                table.insert(&k8(told + 1), encode(&row, &mut batch.buffer)?)?;
            }
        }
        for letter in self.given_up {
            let removed = batch.t.hooks.write()?.remove(&k8(letter.id))?.map(|row| row.value().to_vec());
            let Some(row) = removed else { continue };
            let (attempts, why) = (letter.attempts, letter.why.as_str());
            let dead = Dead { outgoing: decode(&row)?, given_up_at: now, attempts, why };
            batch.t.hook_dead.write()?.insert(&k8(letter.id), encode(&dead, &mut batch.buffer)?)?;
        }
        while batch.t.hook_dead.read()?.len()? > MOST_DEAD {
            let oldest = batch.t.hook_dead.read()?.first()?.map(|(key, _)| *key.value());
            let Some(oldest) = oldest else { break };
            batch.t.hook_dead.write()?.remove(&oldest)?;
        }
        Ok(())
    }
}

impl Apply for TellAgain {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<u64> {
        let ids: Vec<u64> = match self.id {
            Some(id) => vec![id],
            None => {
                let table = batch.t.hook_dead.read()?;
                let first = table.iter()?.take(self.limit);
                first.map(|row| Ok(u64::from_be_bytes(*row?.0.value()))).collect::<Outcome<_>>()?
            }
        };
        let mut again = 0;
        for id in ids {
            let found = batch.t.hook_dead.read()?.get(&k8(id))?.map(|row| row.value().to_vec());
            let Some(row) = found else { continue };
            let dead: Dead<'_> = decode(&row)?;
            batch.touch();
            batch.t.hooks.write()?.insert(&k8(id), encode(&dead.outgoing, &mut batch.buffer)?)?;
            batch.t.hook_dead.write()?.remove(&k8(id))?;
            again += 1;
        }
        if again == 0 && self.id.is_some() {
            return Err(Refusal::NotFound.into());
        }
        Ok(again)
    }
}
