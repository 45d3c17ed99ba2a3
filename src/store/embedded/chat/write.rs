//! How a room's messages are changed: posts, edits, deletions, joins, leaves and read marks. The rules are those of
//! [`crate::domain::chat`].

use std::sync::Arc;

use redb::ReadableTable;

use crate::domain::chat::{
    Author, Draft, Membership, Message, MessageKind, ReadMark, RoomPolicy, RoomRecord, is_listed, may_change,
    may_enter, may_moderate, time_of_change,
};
use crate::domain::privacy::{VersionEnd, WithheldVersion};
use crate::domain::room_state::RoomState;
use crate::domain::{Refusal, RoomId, Timestamp, UserId};
use crate::store::Change;
use crate::store::embedded::access::rows::{MemberRow, decode_room, encode_room};
use crate::store::embedded::chat::places::seq_of;
use crate::store::embedded::chat::read::changer;
use crate::store::embedded::chat::rows::{InRoom, Place, RoomChangeRow, decode_message, encode_message};
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{encode, get, get_number, get_value};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::first_answers::First;
use crate::store::embedded::engine::schema::{NOBODY, external_hash, external_key, k8, k16};
use crate::store::embedded::privacy::rows::VersionRow;
use crate::store::operations::{
    Act, DeleteMessage, EditMessage, EnlistMembers, ExternalId, JoinRoom, KeyKind, LeaveRoom, MarkRead, MessageChanged,
    MessageTarget, PostMessage, Posted, RequestKey,
};

/// Where somebody stands who has been let in.
pub(in crate::store::embedded) struct Entered {
    pub(in crate::store::embedded) room: Option<u64>,
    pub(in crate::store::embedded) user: Option<u64>,
    pub(in crate::store::embedded) membership: Option<Membership>,
    /// The state of the room, as far as it binds them: it does not bind who keeps order in it.
    state: RoomState,
}

impl Apply for PostMessage {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Posted> {
        let PostMessage { draft, policy, key, external_id, origin } = self;
        // The first answer comes before the rules: a retry gets what it got, even if the room has been closed since.
        let first = batch.first_answer(key.as_ref(), |first| match first {
            First::Message { id, seq, at, .. } => Ok(Posted { id, seq, at: Timestamp(at), duplicate: true }),
            _ => Err(Failure::Damaged("a message's key has another kind's answer".to_owned())),
        })?;
        if let Some(first) =
            first.map_or_else(|| batch.posted_by_an_older_version(key.as_ref(), &draft), |first| Ok(Some(first)))?
        {
            return Ok(first);
        }
        batch.refuse_erasing(&draft.author.user)?;
        let entered = batch.enter_to_write(&draft.room, &draft.author, policy)?;
        let said_at = batch.refuse_hasty(&entered)?;
        if let (Some(room), Some(external)) = (entered.room, &external_id)
            && batch.find_external(room, external)?.is_some()
        {
            return Err(Refusal::Conflict.into());
        }
        let user = batch.user(&draft.author.user)?;
        let room = match entered.room {
            Some(room) => room,
            None => batch.add_room(RoomRecord::first_written(&draft.room, policy, batch.now))?,
        };
        let id = batch.take_id()?;
        let (seq, at) = batch.take_seq(&draft.room, id)?;
        let message = Message {
            id,
            seq,
            room: draft.room,
            sender: draft.author.user,
            sender_name: draft.author.name,
            content: draft.content,
            kind: draft.kind,
            reply_to: draft.reply_to,
            client_id: draft.client_id,
            at,
            edited_at: None,
            deleted_at: None,
            edited_by: None,
            deleted_by: None,
        };
        let stored_at = (at != batch.now).then_some(batch.now);
        let place = Place { room, sender: user, change: 0, stored_at, edited_by: None, deleted_by: None };
        batch.t.messages.write()?.insert(&k8(id), encode_message(&message, place, &mut batch.buffer)?)?;
        batch.put_place(room, id, InRoom::of(&message, user))?;
        batch.note_block(user, id, room)?;
        let row = batch.member(room, user)?.unwrap_or_else(|| MemberRow::guest(seq - 1));
        if !row.has_written {
            batch.t.authors.write()?.insert(&k16(user, room), ())?;
        }
        let row = MemberRow { read_up_to: id, read_seq: seq, left_at: None, has_written: true, said_at, ..row };
        batch.put_member(room, user, row)?;
        if let Some(external) = &external_id {
            let hash = external_hash(&external.caller, &external.name);
            batch.t.external_ids.write()?.insert(&external_key(room, hash), encode(&id, &mut batch.buffer)?)?;
            batch.t.external_by_message.write()?.insert(&k8(id), encode(&hash, &mut batch.buffer)?)?;
        }
        batch.put_answer(key.as_ref(), First::Message { room, id, seq, at: at.0 })?;
        batch.tell(Change::Posted { message: Arc::new(message), origin });
        Ok(Posted { id, seq, at, duplicate: false })
    }
}

impl Apply for EditMessage {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<MessageChanged> {
        let EditMessage { room, target, author, content, policy, key, act } = self;
        if let Some(first) = batch.changed_before(key.as_ref())? {
            return Ok(first);
        }
        batch.enter_to_write(&room, &author, policy)?;
        let (before, place) = batch.changeable(&room, &target, &author, policy)?;
        let at = time_of_change(&before, batch.now);
        let (by, edited_by) = batch.changer(&before, &author)?;
        let place = Place { edited_by: by, ..place };
        let message = Message { content, edited_at: Some(at), edited_by, ..before.clone() };
        let row = RoomChangeRow::Edited(message.id);
        let id = batch.change_message(&before, &message, place, row, &author.user)?;
        batch.put_answer(key.as_ref(), First::Changed { id: message.id, at: at.0 })?;
        let changed = MessageChanged { message_id: message.id, at, duplicate: false };
        batch.tell(Change::Edited { id, message: Arc::new(message), supersedes: place.change });
        batch.record_moderation(act, &before, &author)?;
        Ok(changed)
    }
}

impl Apply for DeleteMessage {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<MessageChanged> {
        let DeleteMessage { room, target, author, policy, key, act } = self;
        if let Some(first) = batch.changed_before(key.as_ref())? {
            return Ok(first);
        }
        let (before, place) = batch.changeable(&room, &target, &author, policy)?;
        let at = time_of_change(&before, batch.now);
        let (by, deleted_by) = batch.changer(&before, &author)?;
        let place = Place { deleted_by: by, ..place };
        let message = Message { content: String::new(), deleted_at: Some(at), deleted_by, ..before.clone() };
        let row = RoomChangeRow::Deleted(message.id);
        let id = batch.change_message(&before, &message, place, row, &author.user)?;
        batch.note_tombstone(place.room, &message, true)?;
        batch.put_answer(key.as_ref(), First::Changed { id: message.id, at: at.0 })?;
        let changed = MessageChanged { message_id: message.id, at, duplicate: false };
        batch.tell(Change::Deleted { id, message: Arc::new(message), supersedes: place.change });
        batch.record_moderation(act, &before, &author)?;
        Ok(changed)
    }
}

impl Apply for JoinRoom {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let entered = batch.enter(&self.room, &self.author, self.policy)?;
        batch.refuse_erasing(&self.author.user)?;
        if entered.room.is_some() { batch.take_part(&self.room, &self.author.user, true) } else { Ok(()) }
    }
}

impl Apply for EnlistMembers {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        for user in self.users {
            let author = Author { user, name: String::new(), admin: false };
            // Who has no right to it takes no part in it; who is being erased, neither.
            if batch.erasing()?.contains(&author.user) {
                continue;
            }
            match batch.enter(&self.room, &author, self.policy) {
                // They were there before its first message.
                Ok(Entered { room: Some(_), .. }) => batch.take_part(&self.room, &author.user, false)?,
                Ok(_) | Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

impl Apply for LeaveRoom {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let Some(user) = batch.find_user(&self.user)? else { return Ok(()) };
        let Some((room, last_seq)) = batch.find_seq(&self.room)? else { return Ok(()) };
        let Some(row) = batch.member(room, user)? else { return Ok(()) };
        if is_listed(row.membership()?, row.left_at, last_seq) {
            batch.put_member(room, user, MemberRow { left_at: Some(last_seq), ..row })?;
        }
        Ok(())
    }
}

impl Apply for MarkRead {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<ReadMark> {
        let MarkRead { room, reader, message_id, policy } = self;
        let entered = batch.enter(&room, &reader, policy)?;
        let no = entered.room.ok_or(Refusal::NotFound)?;
        let seq = seq_of(batch.t.in_rooms.read()?, no, message_id)?.ok_or(Refusal::NotFound)?;
        batch.refuse_erasing(&reader.user)?;
        let before = match entered.user {
            Some(user) => batch.member(no, user)?,
            None => None,
        };
        let last_seq = batch.find_seq(&room)?.map_or(0, |(_, last_seq)| last_seq);
        let before = before.unwrap_or_else(|| MemberRow::guest(last_seq));
        let mark = |message_id| ReadMark { room: room.clone(), user: reader.user.clone(), message_id };
        if message_id <= before.read_up_to {
            return Ok(mark(before.read_up_to));
        }
        let user = batch.user(&reader.user)?;
        batch.member(no, user)?;
        let change = batch.take_id()?;
        if before.read_change > 0 {
            batch.t.changes_by_room.write()?.remove(&k16(no, before.read_change))?;
        }
        let row = encode(&RoomChangeRow::Read(user), &mut batch.buffer)?;
        batch.t.changes_by_room.write()?.insert(&k16(no, change), row)?;
        let row = MemberRow { read_up_to: message_id, read_seq: seq, read_change: change, ..before };
        batch.put_member(no, user, row)?;
        batch.tell(Change::Read { id: change, mark: mark(message_id) });
        Ok(mark(message_id))
    }
}

impl Batch<'_, '_> {
    /// Lets somebody in, or not.
    pub(in crate::store::embedded) fn enter(
        &mut self,
        room: &RoomId,
        author: &Author,
        policy: RoomPolicy,
    ) -> Outcome<Entered> {
        let user = self.find_user(&author.user)?;
        let found = self.find_record(room)?.map(|(no, record)| (no, record.private, record.state));
        let no = found.map(|(no, ..)| no);
        let membership = self.membership(no, user)?;
        may_enter(found.map(|(_, private, _)| private), membership, author.admin, policy)?;
        let state = found.filter(|_| may_moderate(author, membership).is_err()).map(|(.., state)| state);
        Ok(Entered { room: no, user, membership, state: state.unwrap_or_default() })
    }

    /// Lets somebody in who wants to say something: who is muted may read, and take back what they have said.
    fn enter_to_write(&mut self, room: &RoomId, author: &Author, policy: RoomPolicy) -> Outcome<Entered> {
        let entered = self.enter(room, author, policy)?;
        self.refuse_muted(&author.user, room)?;
        if entered.state.locked {
            return Err(Refusal::Locked.into());
        }
        Ok(entered)
    }

    /// Refuses who has written in slow mode, and too little while ago; gives when they write now, where that matters.
    fn refuse_hasty(&mut self, entered: &Entered) -> Outcome<Option<u64>> {
        let state = entered.state;
        if state.slow_seconds == 0 {
            return Ok(None);
        }
        let (no, user, due) = (entered.room.unwrap_or(NOBODY), entered.user.unwrap_or(NOBODY), self.due());
        let said_at = self.member(no, user)?.and_then(|row| row.said_at).map(Timestamp);
        match state.wait(said_at, due) {
            Some(wait) => Err(Refusal::TooSoon(wait).into()),
            None => Ok(Some(due.as_millis())),
        }
    }

    /// Somebody takes part in a registered room, and has it on their list again. What was said before they came `from_now` is
    /// not unread.
    fn take_part(&mut self, room: &RoomId, user: &UserId, from_now: bool) -> Outcome<()> {
        let Some((no, last_seq)) = self.find_seq(room)? else { return Ok(()) };
        let user = self.user(user)?;
        match self.member(no, user)? {
            None => self.put_member(no, user, MemberRow::guest(if from_now { last_seq } else { 0 })),
            Some(row) if row.left_at.is_some() => self.put_member(no, user, MemberRow { left_at: None, ..row }),
            Some(_) => Ok(()),
        }
    }

    fn find_external(&self, room: u64, external: &ExternalId) -> Outcome<Option<u64>> {
        let hash = external_hash(&external.caller, &external.name);
        get_number(self.t.external_ids.read()?, &external_key(room, hash))
    }

    /// The first answer to a back end's message whose key an older version (of format 3 or before) has kept: as one of the
    /// author of the message, and without what the request said. The message itself says whether it is that.
    fn posted_by_an_older_version(&mut self, key: Option<&RequestKey>, draft: &Draft) -> Outcome<Option<Posted>> {
        let Some(key) = key.filter(|key| key.kind == KeyKind::PlatformMessage) else { return Ok(None) };
        let older = RequestKey { caller: draft.author.user.clone(), kind: KeyKind::Message, ..key.clone() };
        let first = self.with_answer(&older, |row| match (row.fingerprint, row.first) {
            (None, First::Message { room, id, seq, at, .. }) => {
                Ok(Some((room, Posted { id, seq, at: Timestamp(at), duplicate: true })))
            }
            _ => Ok(None),
        })?;
        let Some((room, posted)) = first else { return Ok(None) };
        if self.find_seq(&draft.room)?.is_none_or(|(no, _)| no != room) {
            return Ok(None);
        }
        let found = get(self.t.messages.read()?, &k8(posted.id), |row| decode_message(row, posted.id, &draft.room))?;
        let is_that = found.is_none_or(|(message, _)| {
            message.edited_at.is_some() || message.deleted_at.is_some() || message.content == draft.content
        });
        Ok(is_that.then_some(posted))
    }

    fn changed_before(&mut self, key: Option<&RequestKey>) -> Outcome<Option<MessageChanged>> {
        self.first_answer(key, |first| match first {
            First::Changed { id, at } => Ok(MessageChanged { message_id: id, at: Timestamp(at), duplicate: true }),
            // The same content under the same key is the same kind of broadcast.
            _ => Err(Refusal::KeyReused.into()),
        })
    }

    fn changeable(
        &mut self,
        room: &RoomId,
        target: &MessageTarget,
        author: &Author,
        policy: RoomPolicy,
    ) -> Outcome<(Message, Place)> {
        let entered = self.enter(room, author, policy)?;
        let no = entered.room.ok_or(Refusal::NotFound)?;
        let message_id = match target {
            MessageTarget::Id(id) => *id,
            MessageTarget::External(external) => self.find_external(no, external)?.ok_or(Refusal::NotFound)?,
        };
        let read = |row: &[u8]| decode_message(row, message_id, room);
        let (mut message, place) = get(self.t.messages.read()?, &k8(message_id), read)?.ok_or(Refusal::NotFound)?;
        if place.room != no {
            return Err(Refusal::NotFound.into());
        }
        message.edited_by = place.edited_by.map(|by| changer(self.t.users.read()?, by)).transpose()?;
        may_change(&message, author, entered.membership)?;
        Ok((message, place))
    }

    /// Who changes a message, by number and by id; neither if it is its sender.
    fn changer(&mut self, message: &Message, author: &Author) -> Outcome<(Option<u64>, Option<UserId>)> {
        if message.sender == author.user {
            return Ok((None, None));
        }
        Ok((Some(self.user(&author.user)?), Some(author.user.clone())))
    }

    /// What somebody does to another person's words is in the audit log. What the platform says in its own name is not a
    /// person's.
    fn record_moderation(&mut self, act: Option<Act>, message: &Message, author: &Author) -> Outcome<()> {
        let is_anothers = message.sender != author.user && message.kind != MessageKind::System;
        let Some(act) = act.filter(|_| is_anothers) else { return Ok(()) };
        let act = Act { target: format!("room {} message {}", message.room, message.id), ..act };
        self.record(act.entry(self.now, &format!("done: written by user {}", message.sender)))?;
        Ok(())
    }

    /// Stores a message anew; under a hold, what it said before stays as a withheld version.
    fn change_message(
        &mut self,
        before: &Message,
        message: &Message,
        place: Place,
        row: RoomChangeRow,
        by: &UserId,
    ) -> Outcome<u64> {
        let is_held = self.held()?.holds_message(&place.sender, &place.room);
        let change = self.replace(message, place, row)?;
        if is_held {
            let (until, end) = match message.deleted_at {
                Some(at) => (at, VersionEnd::Deleted),
                None => (message.edited_at.unwrap_or(self.now), VersionEnd::Edited),
            };
            let version = WithheldVersion { content: before.content.clone(), until, by: by.clone(), change: end };
            let row = encode(&VersionRow::of(&version, place), &mut self.buffer)?;
            self.t.withheld.write()?.insert(&k16(message.id, change), row)?;
        }
        Ok(change)
    }

    /// Stores a message anew with a change of its own, in place of the change before it.
    pub(in crate::store::embedded) fn replace(
        &mut self,
        message: &Message,
        place: Place,
        row: RoomChangeRow,
    ) -> Outcome<u64> {
        let change = self.take_id()?;
        if place.change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(place.room, place.change))?;
        }
        self.t.changes_by_room.write()?.insert(&k16(place.room, change), encode(&row, &mut self.buffer)?)?;
        let place = Place { change, ..place };
        self.t.messages.write()?.insert(&k8(message.id), encode_message(message, place, &mut self.buffer)?)?;
        Ok(change)
    }

    /// A message of a room has become a tombstone, or a tombstone is gone: what is unread behind it is counted without it.
    pub(in crate::store::embedded) fn note_tombstone(
        &mut self,
        room: u64,
        message: &Message,
        is_added: bool,
    ) -> Outcome<()> {
        counts::change(self.t.tombstones.write()?, room, message.seq, is_added)?;
        let count = |record: &mut RoomRecord| {
            record.deleted = if is_added { record.deleted + 1 } else { record.deleted.saturating_sub(1) };
        };
        if self.find_room(&message.room)?.is_some_and(|(no, _)| no == room) {
            return self.change_room(&message.room, count);
        }
        // Nothing leads to a room that is being removed: its id may be another one's by now.
        if let Some(mut record) = get(self.t.rooms.read()?, &k8(room), decode_room)? {
            count(&mut record);
            self.t.rooms.write()?.insert(&k8(room), encode_room(&record, &mut self.buffer)?)?;
        }
        Ok(())
    }

    /// Nothing withheld of a message is kept any more, nor a back end's name for it, nor what it was reported for.
    pub(in crate::store::embedded) fn forget_sides_of(&mut self, message_id: u64, room: u64) -> Outcome<()> {
        let mut versions = Vec::new();
        for row in self.t.withheld.read()?.range::<&[u8; 16]>(&k16(message_id, 0)..=&k16(message_id, u64::MAX))? {
            versions.push(*row?.0.value());
        }
        for key in &versions {
            self.t.withheld.write()?.remove(key)?;
        }
        let hash: Option<[u8; 16]> = get_value(self.t.external_by_message.read()?, &k8(message_id))?;
        if let Some(hash) = hash {
            self.t.external_by_message.write()?.remove(&k8(message_id))?;
            self.t.external_ids.write()?.remove(&external_key(room, hash))?;
        }
        self.forget_reports_on(message_id)
    }
}
