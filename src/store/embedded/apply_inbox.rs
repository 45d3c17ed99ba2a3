//! What the writer does for notifications and people: stores, marks, arrivals and departures, and first answers.

use std::ops::ControlFlow;

use redb::ReadableTable;

use super::batch::Batch;
use super::failure::{Failure, Outcome};
use super::inbox::{DELETED, NAMED, Owner, READ, Span, audience_code, unread, walk};
use super::records::{
    First, InboxChangeRow, action_code, decode, decode_notification, encode, encode_notification, get,
};
use super::schema::{KeyKind, answer_key, k8, k16};
use crate::domain::notification::{Audience, Notification, NotificationDraft, Selection};
use crate::domain::{Actor, Timestamp, UserId};
use crate::store::{AnswerKey, Change, InboxAction};

impl Batch<'_, '_> {
    pub(super) fn notify(
        &mut self,
        draft: NotificationDraft,
        key: Option<&AnswerKey>,
    ) -> Outcome<(Notification, bool)> {
        if let Some(key) = key
            && let Some(first) = self.notified_before(key)?
        {
            return Ok((first, true));
        }
        let id = self.take_id()?;
        let notification = Notification { id, audience: draft.audience, body: draft.body, at: draft.at, read: false };
        self.t.notifications.write()?.insert(&k8(id), encode_notification(&notification, &mut self.buffer)?)?;
        if let Some(code) = audience_code(&notification.audience) {
            self.t.notif_by_audience.write()?.insert(&k16(code, id), ())?;
        }
        if let Audience::Users(users) = &notification.audience {
            for user in users {
                let no = self.user(user)?;
                self.t.inbox.write()?.insert(&k16(no, id), encode(&NAMED, &mut self.buffer)?)?;
            }
        }
        if let Some(key) = key {
            let sender = self.user(&key.user)?;
            self.put_answer(&answer_key(sender, KeyKind::Notify, &key.key), First::Notification(id))?;
        }
        self.tell(Change::Notified(notification.clone()));
        Ok((notification, false))
    }

    fn notified_before(&mut self, key: &AnswerKey) -> Outcome<Option<Notification>> {
        let Some(sender) = self.find_user(&key.user)? else { return Ok(None) };
        let first = self.first_answer(&answer_key(sender, KeyKind::Notify, &key.key), |first| match first {
            First::Notification(id) => Ok(id),
            _ => Err(Failure::Damaged("a notification's key has another kind's answer".to_owned())),
        })?;
        let Some(id) = first else { return Ok(None) };
        get(self.t.notifications.read()?, &k8(id), |row| decode_notification(row, id, false))
    }

    pub(super) fn mark_inbox(
        &mut self,
        viewer: &Actor,
        selection: Selection,
        action: InboxAction,
        origin: Option<u64>,
    ) -> Outcome<(Vec<u64>, u64)> {
        let person = match self.find_user(&viewer.user)? {
            Some(no) => Some((no, self.person(no)?)),
            None => None,
        };
        let owner = Owner::new(person.as_ref().map(|(no, person)| (*no, person)), &viewer.roles);
        let changed = self.affected(&owner, &selection, action)?;
        let Some((no, mut person)) = person.filter(|_| !changed.is_empty()) else {
            return Ok((Vec::new(), unread(self.t.inbox.read()?, self.t.notif_by_audience.read()?, &owner)?));
        };
        let id = self.take_id()?;
        match &selection {
            Selection::All => {
                let up_to = id.saturating_sub(1);
                match action {
                    InboxAction::Read => person.read_up_to = up_to,
                    InboxAction::Delete => person.deleted_up_to = up_to,
                }
                self.put_person(no, &person)?;
                self.drop_superseded(no, action)?;
            }
            Selection::Ids(_) => {
                let flag = match action {
                    InboxAction::Read => READ,
                    InboxAction::Delete => DELETED,
                };
                for one in &changed {
                    let key = k16(no, *one);
                    let flags = get(self.t.inbox.read()?, &key, |row| decode::<u8>(row))?.unwrap_or(0);
                    self.t.inbox.write()?.insert(&key, encode(&(flags | flag), &mut self.buffer)?)?;
                }
            }
        }
        let told = match selection {
            Selection::All => Selection::All,
            Selection::Ids(_) => Selection::Ids(changed.clone()),
        };
        let ids = match &told {
            Selection::All => None,
            Selection::Ids(ids) => Some(ids.clone()),
        };
        let row = InboxChangeRow { ids, action: action_code(action) };
        self.t.inbox_changes.write()?.insert(&k16(no, id), encode(&row, &mut self.buffer)?)?;
        let owner = Owner::new(Some((no, &person)), &viewer.roles);
        let unread = unread(self.t.inbox.read()?, self.t.notif_by_audience.read()?, &owner)?;
        self.tell(Change::InboxChanged { id, user: viewer.user.clone(), selection: told, action, unread, origin });
        Ok((changed, unread))
    }

    /// The notifications that an action would change, ascending.
    fn affected(&self, owner: &Owner, selection: &Selection, action: InboxAction) -> Outcome<Vec<u64>> {
        let mut affected = Vec::new();
        let mut look = |span| {
            walk(self.t.inbox.read()?, self.t.notif_by_audience.read()?, owner, span, |entry| {
                if action == InboxAction::Delete || !entry.read {
                    affected.push(entry.id);
                }
                Ok(ControlFlow::Continue(()))
            })
        };
        match (selection, action) {
            (Selection::All, InboxAction::Read) => look(Span { after: owner.read_up_to, ..Span::ALL })?,
            (Selection::All, InboxAction::Delete) => look(Span::ALL)?,
            (Selection::Ids(ids), _) => {
                let mut ids = ids.clone();
                ids.sort_unstable();
                ids.dedup();
                for id in ids {
                    look(Span { after: id.saturating_sub(1), before: id.saturating_add(1), ..Span::ALL })?;
                }
            }
        }
        Ok(affected)
    }

    /// What "all" was done to needs no telling of what was done before: the rows of an inbox stay few.
    fn drop_superseded(&mut self, user: u64, action: InboxAction) -> Outcome<()> {
        let mut old = Vec::new();
        for row in self.t.inbox_changes.read()?.range::<&[u8; 16]>(&k16(user, 0)..=&k16(user, u64::MAX))? {
            let (key, value) = row?;
            let change: InboxChangeRow = decode(value.value())?;
            if action == InboxAction::Delete || change.action == action_code(InboxAction::Read) {
                old.push(*key.value());
            }
        }
        for key in &old {
            self.t.inbox_changes.write()?.remove(key)?;
        }
        Ok(())
    }

    pub(super) fn arrive(&mut self, actor: &Actor, at: Timestamp) -> Outcome<()> {
        let next = self.peek_id();
        let no = self.user(&actor.user)?;
        let mut person = self.person(no)?;
        if !person.has_arrived() {
            person.first_seen_id = next;
            person.first_seen_at = at;
        }
        person.id = actor.user.clone();
        person.name.clone_from(&actor.name);
        person.roles.clone_from(&actor.roles);
        person.last_seen_at = person.last_seen_at.max(at);
        self.put_person(no, &person)
    }

    pub(super) fn delivered(&mut self, marks: &[(UserId, u64)]) -> Outcome<()> {
        let last = self.peek_id().saturating_sub(1);
        for (user, up_to) in marks {
            let Some(no) = self.find_user(user)? else { continue };
            let mut person = self.person(no)?;
            let up_to = (*up_to).min(last);
            if up_to > person.delivered_up_to {
                person.delivered_up_to = up_to;
                self.put_person(no, &person)?;
            }
        }
        Ok(())
    }

    pub(super) fn left(&mut self, user: &UserId, at: Timestamp) -> Outcome<()> {
        let Some(no) = self.find_user(user)? else { return Ok(()) };
        let mut person = self.person(no)?;
        if person.has_arrived() && at > person.last_seen_at {
            person.last_seen_at = at;
            self.put_person(no, &person)?;
        }
        Ok(())
    }

    pub(super) fn answer(&mut self, key: &AnswerKey, answer: &[u8]) -> Outcome<Option<Vec<u8>>> {
        if let Some(user) = self.find_user(&key.user)? {
            let first = self.first_answer(&answer_key(user, KeyKind::Answer, &key.key), |first| match first {
                First::Bytes(bytes) => Ok(bytes.to_vec()),
                _ => Err(Failure::Damaged("an answer's key has another kind's answer".to_owned())),
            })?;
            if first.is_some() {
                return Ok(first);
            }
        }
        let user = self.user(&key.user)?;
        self.put_answer(&answer_key(user, KeyKind::Answer, &key.key), First::Bytes(answer))?;
        Ok(None)
    }
}
