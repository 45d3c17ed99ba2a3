//! What the writer does for chat: posts, edits, deletions, joins and read marks. The rules are those of
//! [`crate::domain::chat`].

use std::sync::Arc;

use super::batch::Batch;
use super::failure::{Failure, Outcome};
use super::records::{First, MemberRow, Place, RoomChangeRow, decode_message, encode, encode_message, get, get_number};
use super::schema::{KeyKind, answer_key, k8, k16};
use crate::domain::chat::{
    Author, Draft, Membership, Message, ReadMark, RoomPolicy, RoomRecord, may_change, may_enter,
};
use crate::domain::{Refusal, RoomId, Timestamp};
use crate::store::{Change, MessageChange, Posted};

/// Where somebody stands who has been let in.
struct Entered {
    room: Option<u64>,
    user: Option<u64>,
    membership: Option<Membership>,
}

impl Batch<'_, '_> {
    fn enter(&mut self, room: &RoomId, author: &Author, policy: RoomPolicy) -> Outcome<Entered> {
        let user = self.find_user(&author.user)?;
        let found = self.find_room(room)?;
        let membership = self.membership(found.map(|(no, _)| no), user)?;
        may_enter(found.map(|(_, private)| private), membership, author.admin, policy)?;
        Ok(Entered { room: found.map(|(no, _)| no), user, membership })
    }

    pub(super) fn append(&mut self, draft: Draft, policy: RoomPolicy) -> Outcome<Posted> {
        // The first answer comes before the rules: a retry gets what it got, even if the room has been closed since.
        if let Some(first) = self.posted_before(&draft)? {
            return Ok(first);
        }
        let entered = self.enter(&draft.room, &draft.author, policy)?;
        let user = self.user(&draft.author.user)?;
        let room = match entered.room {
            Some(room) => room,
            None => self.add_room(RoomRecord::first_written(&draft.room, policy, draft.at))?,
        };
        let id = self.take_id()?;
        let seq = self.take_seq(&draft.room, id)?;
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
            at: draft.at,
            edited_at: None,
            deleted_at: None,
        };
        let place = Place { room, sender: user, change: 0 };
        self.t.messages.write()?.insert(&k8(id), encode_message(&message, place, &mut self.buffer)?)?;
        self.t.msg_by_room.write()?.insert(&k16(room, id), encode(&seq, &mut self.buffer)?)?;
        self.t.msg_by_user.write()?.insert(&k16(user, id), ())?;
        let row = self.member(room, user)?.unwrap_or_else(MemberRow::guest);
        self.put_member(room, user, MemberRow { read_up_to: id, read_seq: seq, ..row })?;
        if let Some(client_id) = &message.client_id {
            let first = First::Message { room, id, seq, at: message.at.0 };
            self.put_answer(&answer_key(user, KeyKind::Message, client_id), first)?;
        }
        let posted = Posted { id, seq, at: message.at, duplicate: false };
        self.tell(Change::Posted(Arc::new(message)));
        Ok(posted)
    }

    fn posted_before(&mut self, draft: &Draft) -> Outcome<Option<Posted>> {
        let Some(client_id) = &draft.client_id else { return Ok(None) };
        let Some(user) = self.find_user(&draft.author.user)? else { return Ok(None) };
        let first = self.first_answer(&answer_key(user, KeyKind::Message, client_id), |first| match first {
            First::Message { room, id, seq, at } => Ok((room, Posted { id, seq, at: Timestamp(at), duplicate: true })),
            _ => Err(Failure::Damaged("a message's key has another kind's answer".to_owned())),
        })?;
        let Some((room, posted)) = first else { return Ok(None) };
        match self.find_room(&draft.room)? {
            Some((no, _)) if no == room => Ok(Some(posted)),
            _ => Err(Refusal::Conflict.into()),
        }
    }

    pub(super) fn edit(&mut self, change: &MessageChange, content: String, policy: RoomPolicy) -> Outcome<Timestamp> {
        let (mut message, place) = self.changeable(change, policy)?;
        message.content.clone_from(&content);
        message.edited_at = Some(change.at);
        let id = self.replace(&message, place, RoomChangeRow::Edited(message.id))?;
        self.tell(Change::Edited {
            id,
            room: change.room.clone(),
            message_id: change.message_id,
            content,
            at: change.at,
        });
        Ok(change.at)
    }

    pub(super) fn delete(&mut self, change: &MessageChange, policy: RoomPolicy) -> Outcome<Timestamp> {
        let (mut message, place) = self.changeable(change, policy)?;
        message.content.clear();
        message.deleted_at = Some(change.at);
        let id = self.replace(&message, place, RoomChangeRow::Deleted(message.id))?;
        self.tell(Change::Deleted { id, room: change.room.clone(), message_id: change.message_id, at: change.at });
        Ok(change.at)
    }

    fn changeable(&mut self, change: &MessageChange, policy: RoomPolicy) -> Outcome<(Message, Place)> {
        let entered = self.enter(&change.room, &change.author, policy)?;
        let room = entered.room.ok_or(Refusal::NotFound)?;
        let read = |row: &[u8]| decode_message(row, change.message_id, &change.room);
        let (message, place) = get(self.t.messages.read()?, &k8(change.message_id), read)?.ok_or(Refusal::NotFound)?;
        if place.room != room {
            return Err(Refusal::NotFound.into());
        }
        may_change(&message, &change.author, entered.membership)?;
        Ok((message, place))
    }

    /// Stores a message anew with a change of its own, in place of the change before it.
    pub(super) fn replace(&mut self, message: &Message, place: Place, row: RoomChangeRow) -> Outcome<u64> {
        let change = self.take_id()?;
        if place.change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(place.room, place.change))?;
        }
        self.t.changes_by_room.write()?.insert(&k16(place.room, change), encode(&row, &mut self.buffer)?)?;
        let place = Place { change, ..place };
        self.t.messages.write()?.insert(&k8(message.id), encode_message(message, place, &mut self.buffer)?)?;
        Ok(change)
    }

    /// Somebody takes part in a room from now on, if it is registered.
    pub(super) fn join(&mut self, room: &RoomId, author: &Author, policy: RoomPolicy) -> Outcome<()> {
        let entered = self.enter(room, author, policy)?;
        let Some(room) = entered.room else { return Ok(()) };
        let user = self.user(&author.user)?;
        if self.member(room, user)?.is_none() {
            self.put_member(room, user, MemberRow::guest())?;
        }
        Ok(())
    }

    pub(super) fn mark_read(
        &mut self,
        room: &RoomId,
        reader: &Author,
        message_id: u64,
        policy: RoomPolicy,
    ) -> Outcome<ReadMark> {
        let entered = self.enter(room, reader, policy)?;
        let no = entered.room.ok_or(Refusal::NotFound)?;
        let seq = get_number(self.t.msg_by_room.read()?, &k16(no, message_id))?.ok_or(Refusal::NotFound)?;
        let before = match entered.user {
            Some(user) => self.member(no, user)?,
            None => None,
        }
        .unwrap_or_else(MemberRow::guest);
        let mark = |message_id| ReadMark { room: room.clone(), user: reader.user.clone(), message_id };
        if message_id <= before.read_up_to {
            return Ok(mark(before.read_up_to));
        }
        let user = self.user(&reader.user)?;
        self.member(no, user)?;
        let change = self.take_id()?;
        if before.read_change > 0 {
            self.t.changes_by_room.write()?.remove(&k16(no, before.read_change))?;
        }
        self.t
            .changes_by_room
            .write()?
            .insert(&k16(no, change), encode(&RoomChangeRow::Read(user), &mut self.buffer)?)?;
        let row = MemberRow { read_up_to: message_id, read_seq: seq, read_change: change, ..before };
        self.put_member(no, user, row)?;
        self.tell(Change::Read { id: change, mark: mark(message_id) });
        Ok(mark(message_id))
    }
}
