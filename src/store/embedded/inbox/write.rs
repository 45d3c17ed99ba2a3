//! How notifications and people change: what is stored, marked and sent, who comes and goes, and broadcasts on their way.

use std::ops::ControlFlow;

use redb::ReadableTable;

use crate::domain::notification::{Audience, AudienceKind, Notification, NotificationBody, Selection};
use crate::domain::{Role, UserId};
use crate::store::Change;
use crate::store::embedded::access::rows::Person;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{action_code, decode, encode, encode_2, get, get_number};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::first_answers::First;
use crate::store::embedded::engine::schema::{K16, NOBODY, Row, k8, k16, meta};
use crate::store::embedded::inbox::rows::{InboxChangeRow, decode_notification, encode_broadcast, encode_notification};
use crate::store::embedded::inbox::view::{
    ALL, DELETED, Entry, InboxTables, MARKED, NAMED, Owner, READ, Span, audience_code, audience_space, deleted_space,
    user_space,
};
use crate::store::operations::{
    Arrive, BroadcastSent, BroadcastsOut, Delivered, InboxAction, Left, MarkInbox, Marked, Notified, Notify,
    SendBroadcast, SettleIds,
};

/// Of so many it is kept when they were read, where somebody reads all of their inbox.
const READ_TIMES_OF_ALL: usize = 200;

impl Apply for Notify {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Notified> {
        let Notify { draft, key } = self;
        let first = batch.first_answer(key.as_ref(), |first| match first {
            First::Notification(id) => Ok(id),
            _ => Err(crate::domain::Refusal::KeyReused.into()),
        })?;
        if let Some(id) = first {
            let read = |row: &[u8]| decode_notification(row, id, false);
            // It may have been purged since; then it is stored anew.
            if let Some(notification) = get(batch.t.notifications.read()?, &k8(id), read)? {
                return Ok(Notified { notification, duplicate: true });
            }
        }
        let notification = batch.send_notification(draft.audience, draft.body)?;
        batch.put_answer(key.as_ref(), First::Notification(notification.id))?;
        Ok(Notified { notification, duplicate: false })
    }
}

impl Apply for MarkInbox {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Marked> {
        let owner = batch.owner(&self.user, &self.roles)?;
        match self.selection.clone() {
            Selection::Ids(ids) => batch.mark_some(self, owner, ids),
            Selection::All { up_to } => batch.mark_all(self, owner, up_to),
        }
    }
}

impl Batch<'_, '_> {
    /// Puts a notification into the inboxes of its audience, and tells them.
    pub(in crate::store::embedded) fn send_notification(
        &mut self,
        audience: Audience,
        body: NotificationBody,
    ) -> Outcome<Notification> {
        let id = self.take_id()?;
        let notification = Notification { id, audience, body, at: self.now, read: false };
        let row = encode_notification(&notification, &mut self.buffer)?;
        self.t.notifications.write()?.insert(&k8(id), row)?;
        if let Some(code) = audience_code(&notification.audience) {
            self.t.notif_by_audience.write()?.insert(&k16(code, id), ())?;
            counts::change(self.t.inbox_counts.write()?, audience_space(code), id, true)?;
        }
        if let Audience::Users(users) = &notification.audience {
            for user in users {
                let no = self.user(user)?;
                let before = self.t.inbox.write()?.insert(&k16(no, id), encode(&NAMED, &mut self.buffer)?)?;
                // The same person may be named twice.
                if before.is_none() {
                    drop(before);
                    self.t.named.write()?.insert(&k16(no, id), ())?;
                    counts::change(self.t.inbox_counts.write()?, user_space(no, AudienceKind::Named), id, true)?;
                }
            }
        }
        self.tell(Change::Notified(notification.clone()));
        Ok(notification)
    }

    /// Somebody has read a notification now, for the first time.
    fn note_reading(&mut self, no: u64, id: u64) -> Outcome<()> {
        if self.t.read_times.read()?.get(&k16(no, id))?.is_some() {
            return Ok(());
        }
        self.t.read_times.write()?.insert(&k16(no, id), encode(&self.now.0, &mut self.buffer)?)?;
        self.count_readers(id, true)
    }

    /// One more has read a notification, or one less.
    pub(in crate::store::embedded) fn count_readers(&mut self, id: u64, is_more: bool) -> Outcome<()> {
        let key = k16(NOBODY, id);
        let count = get_number(self.t.read_times.read()?, &key)?.unwrap_or(0);
        match if is_more { count + 1 } else { count.saturating_sub(1) } {
            0 => drop(self.t.read_times.write()?.remove(&key)?),
            count => drop(self.t.read_times.write()?.insert(&key, encode(&count, &mut self.buffer)?)?),
        }
        Ok(())
    }

    /// Whoever reads all of an inbox reads the newest of what is unread now; of what is older it is not kept when.
    fn note_reading_all(&mut self, no: u64, owner: &Owner, end: u64) -> Outcome<()> {
        let mut unread = Vec::new();
        let span = Span { after: |_| 0, before: end.saturating_add(1), newest_first: true, unread_only: true };
        self.inbox_tables()?.walk(owner, span, |entry| {
            unread.push(entry.id);
            Ok(if unread.len() < READ_TIMES_OF_ALL { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        unread.into_iter().try_for_each(|id| self.note_reading(no, id))
    }

    fn owner(&mut self, user: &UserId, roles: &[Role]) -> Outcome<Owner> {
        let person = match self.find_user(user)? {
            Some(no) => Some((no, self.person(no)?)),
            None => None,
        };
        Ok(Owner::new(person, roles))
    }

    #[allow(clippy::type_complexity, reason = "the tables of an inbox, each of its own type")]
    fn inbox_tables(
        &self,
    ) -> Outcome<InboxTables<'_, impl ReadableTable<K16, Row>, impl ReadableTable<K16, ()>, impl ReadableTable<K16, Row>>>
    {
        Ok(InboxTables {
            inbox: self.t.inbox.read()?,
            by_audience: self.t.notif_by_audience.read()?,
            named: self.t.named.read()?,
            counts: self.t.inbox_counts.read()?,
            purged_up_to: get_number(self.t.meta.read()?, meta::NOTIFICATIONS_PURGED)?.unwrap_or(0),
        })
    }

    fn mark_some(&mut self, request: MarkInbox, owner: Owner, mut ids: Vec<u64>) -> Outcome<Marked> {
        ids.sort_unstable();
        ids.dedup();
        let mut affected: Vec<Entry> = Vec::new();
        for id in ids {
            let entry = self.inbox_tables()?.entry(&owner, id)?;
            affected.extend(entry.filter(|entry| request.action == InboxAction::Delete || !entry.read));
        }
        let Some((no, _)) = owner.clone().person().filter(|_| !affected.is_empty()) else {
            return Ok(Marked { ids: Vec::new(), unread: self.inbox_tables()?.unread(&owner)? });
        };
        let flag = match request.action {
            InboxAction::Read => READ,
            InboxAction::Delete => DELETED,
        };
        for entry in &affected {
            let flags = entry.flags | flag;
            self.t.inbox.write()?.insert(&k16(no, entry.id), encode(&flags, &mut self.buffer)?)?;
            let is_named = entry.kind == AudienceKind::Named;
            match request.action {
                InboxAction::Read => self.note_reading(no, entry.id)?,
                InboxAction::Delete if is_named => drop(self.t.named.write()?.remove(&k16(no, entry.id))?),
                InboxAction::Delete => {
                    counts::change(self.t.inbox_counts.write()?, deleted_space(no, entry.kind), entry.id, true)?;
                }
            }
            if entry.flags & MARKED == 0 {
                counts::change(self.t.inbox_counts.write()?, user_space(no, entry.kind), entry.id, !is_named)?;
            }
        }
        let ids: Vec<u64> = affected.iter().map(|entry| entry.id).collect();
        let row = InboxChangeRow { ids: Some(ids.clone()), action: action_code(request.action), up_to: None };
        self.tell_inbox(no, request, &row, &owner, Selection::Ids(ids.clone())).map(|unread| Marked { ids, unread })
    }

    fn mark_all(&mut self, request: MarkInbox, owner: Owner, up_to: Option<u64>) -> Outcome<Marked> {
        let last = self.peek_id().saturating_sub(1);
        let end = up_to.map_or(last, |up_to| up_to.min(last));
        let before = self.inbox_tables()?.unread(&owner)?;
        let is_there = match request.action {
            InboxAction::Read => before > 0,
            InboxAction::Delete => {
                let mut is_there = false;
                let span = Span { before: end.saturating_add(1), ..ALL };
                self.inbox_tables()?.walk(&owner, span, |_| {
                    is_there = true;
                    Ok(ControlFlow::Break(()))
                })?;
                is_there
            }
        };
        let nothing = Marked { ids: Vec::new(), unread: before };
        let Some((no, mut person)) = owner.clone().person().filter(|_| is_there) else { return Ok(nothing) };
        if request.action == InboxAction::Read {
            self.note_reading_all(no, &owner, end)?;
        }
        for kind in owner.kinds() {
            let Some(marks) = person.marks_mut(kind) else { continue };
            match request.action {
                InboxAction::Read => marks.read = marks.read.max(end),
                InboxAction::Delete => marks.deleted = marks.deleted.max(end),
            }
        }
        let owner = Owner::new(Some((no, person.clone())), &request.roles);
        if request.action == InboxAction::Read && self.inbox_tables()?.unread(&owner)? == before {
            return Ok(nothing);
        }
        self.put_person(no, &person)?;
        if up_to.is_none() {
            self.drop_superseded(no, request.action)?;
        }
        let row = InboxChangeRow { ids: None, action: action_code(request.action), up_to };
        let unread = self.tell_inbox(no, request, &row, &owner, Selection::All { up_to })?;
        Ok(Marked { ids: Vec::new(), unread })
    }

    /// Keeps and tells what was done to an inbox; gives how many are unread now.
    fn tell_inbox(
        &mut self,
        no: u64,
        request: MarkInbox,
        row: &InboxChangeRow,
        owner: &Owner,
        selection: Selection,
    ) -> Outcome<u64> {
        let id = self.take_id()?;
        self.t.inbox_changes.write()?.insert(&k16(no, id), encode_2(row, &mut self.buffer)?)?;
        let unread = self.inbox_tables()?.unread(owner)?;
        let MarkInbox { user, action, origin, .. } = request;
        self.tell(Change::InboxChanged { id, user, selection, action, unread, origin });
        Ok(unread)
    }

    /// What "all" was done to needs no telling of what was done before: the rows of an inbox stay few. What is before an
    /// earlier "all" was looked at then: deletions that stay are not passed by each time.
    fn drop_superseded(&mut self, user: u64, action: InboxAction) -> Outcome<()> {
        let mut old = Vec::new();
        for row in self.t.inbox_changes.read()?.range::<&[u8; 16]>(&k16(user, 0)..=&k16(user, u64::MAX))?.rev() {
            let (key, value) = row?;
            let change = InboxChangeRow::decode(value.value())?;
            if action == InboxAction::Delete || change.action == action_code(InboxAction::Read) {
                old.push(*key.value());
            }
            if action == InboxAction::Read && change.ids.is_none() && change.up_to.is_none() {
                break;
            }
        }
        for key in &old {
            self.t.inbox_changes.write()?.remove(key)?;
        }
        Ok(())
    }
}

impl Apply for Arrive {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        batch.refuse_erasing(&self.user)?;
        let next = batch.peek_id();
        let no = batch.user(&self.user)?;
        let before = batch.person(no)?;
        let mut person = before.clone();
        if !person.has_arrived() {
            person.first_seen_id = next;
            person.first_seen_at = batch.now;
        }
        person.settle_id(self.user);
        person.name = self.name;
        person.roles = self.roles;
        if person != before || batch.now >= before.last_seen_at.plus(Arrive::RETURN) {
            person.last_seen_at = person.last_seen_at.max(batch.now);
            batch.put_person(no, &person)?;
        }
        Ok(())
    }
}

impl Apply for SettleIds {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        for user in self.users {
            // Who is being erased has no row any more when that has ended.
            if batch.erasing()?.contains(&user) {
                continue;
            }
            let no = batch.user(&user)?;
            let mut person = batch.person(no)?;
            person.is_typed &= !self.is_anew;
            person.settle_id(user);
            batch.put_person(no, &person)?;
        }
        Ok(())
    }
}

impl Apply for Delivered {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let last = batch.peek_id().saturating_sub(1);
        // The marks of one person come behind each other.
        let mut marks = self.marks.into_iter().peekable();
        while let Some((user, mark)) = marks.next() {
            let mut of_user = vec![mark];
            while let Some((_, mark)) = marks.next_if(|(other, _)| *other == user) {
                of_user.push(mark);
            }
            let Some(no) = batch.find_user(&user)? else { continue };
            let mut person: Person = batch.person(no)?;
            let mut has_moved = false;
            for mark in of_user {
                let Some(marks) = person.marks_mut(mark.audience) else { continue };
                let up_to = mark.up_to.min(last);
                has_moved |= up_to > marks.delivered;
                marks.delivered = marks.delivered.max(up_to);
            }
            if has_moved {
                batch.put_person(no, &person)?;
            }
        }
        Ok(())
    }
}

impl Apply for Left {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let Some(no) = batch.find_user(&self.user)? else { return Ok(()) };
        let mut person = batch.person(no)?;
        if person.has_arrived() && batch.now > person.last_seen_at {
            person.last_seen_at = batch.now;
            batch.put_person(no, &person)?;
        }
        Ok(())
    }
}

impl Apply for SendBroadcast {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<BroadcastSent> {
        let first = batch.first_answer(self.key.as_ref(), |first| match first {
            First::Sent(sockets) => Ok(sockets),
            First::Bytes(answer) => sent_before(answer),
            _ => Err(crate::domain::Refusal::KeyReused.into()),
        })?;
        if let Some(sockets) = first {
            return Ok(BroadcastSent { sockets, duplicate: true });
        }
        let id = batch.take_id()?;
        batch.put_answer(self.key.as_ref(), First::Sent(self.sockets))?;
        batch.t.outbox.write()?.insert(&k8(id), encode_broadcast(&self.broadcast, &mut batch.buffer)?)?;
        batch.tell(Change::Broadcast { id, broadcast: self.broadcast });
        Ok(BroadcastSent { sockets: self.sockets, duplicate: false })
    }
}

/// How many sockets a broadcast reached, as older formats kept its answer.
fn sent_before(answer: &[u8]) -> Outcome<u64> {
    #[derive(serde::Deserialize)]
    struct Sent {
        sockets: u64,
    }
    let sent: Sent = serde_json::from_slice(answer)
        .map_err(|error| Failure::Damaged(format!("the answer to a broadcast cannot be read: {error}")))?;
    Ok(sent.sockets)
}

impl Apply for BroadcastsOut {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let mut out = Vec::new();
        for row in batch.t.outbox.read()?.range::<&[u8; 8]>(..=&k8(self.up_to))? {
            out.push(*row?.0.value());
        }
        for key in &out {
            batch.touch();
            batch.t.outbox.write()?.remove(key)?;
        }
        Ok(())
    }
}

/// Takes one notification's row out of an inbox, and out of what is counted of it.
pub(in crate::store::embedded) fn forget_inbox_row(
    batch: &mut Batch<'_, '_>,
    user: u64,
    id: u64,
    kind: AudienceKind,
) -> Outcome<Option<u8>> {
    let key = k16(user, id);
    let removed = batch.t.inbox.write()?.remove(&key)?;
    let flags = removed.map(|row| decode::<u8>(row.value())).transpose()?;
    if let Some(flags) = flags {
        batch.touch();
        let is_marked = flags & MARKED != 0;
        let is_named = kind == AudienceKind::Named;
        if is_named != is_marked {
            counts::change(batch.t.inbox_counts.write()?, user_space(user, kind), id, false)?;
        }
        if is_named {
            batch.t.named.write()?.remove(&key)?;
        } else if flags & DELETED != 0 {
            counts::change(batch.t.inbox_counts.write()?, deleted_space(user, kind), id, false)?;
        }
    }
    Ok(flags)
}
