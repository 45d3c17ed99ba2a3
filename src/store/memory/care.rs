//! What administrators ask of the engine in memory: the audit trail, holds, erasures and purges, each done at once.

use std::collections::BTreeSet;

use super::{Memory, State};
use crate::domain::audit::{AuditEntry, AuditRecord, Link};
use crate::domain::chat::RoomSummary;
use crate::domain::notification::Audience;
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, PurgeKind, Subject};
use crate::domain::{Refusal, Timestamp, UserId};
use crate::store::{
    Answer, Audits, Change, ErasureStep, Privacy, PurgeCursor, PurgeStep, StoreError, TrailPart, UserItem, UserProfile,
    UserSink,
};

impl State {
    fn knows(&self, user: &str) -> bool {
        self.people.contains_key(user)
            || self.rooms.values().any(|room| room.members.contains_key(user))
            || self.lessons.keys().any(|(owner, _)| owner == user)
            || self.answers.keys().any(|(_, owner, _)| owner == user)
    }

    fn is_held(&self, subject: &Subject) -> bool {
        self.holds.iter().any(|hold| hold.subject == *subject)
    }

    fn begin_erasure(&mut self, user: &UserId, at: Timestamp) -> Result<Erasure, Refusal> {
        if let Some(under_way) = self.erasures.get(&user.canonical()).filter(|one| !one.is_finished) {
            return Ok(under_way.clone());
        }
        if !self.knows(&user.canonical()) {
            return Err(Refusal::NotFound);
        }
        let in_held_room = self.rooms.values().any(|room| {
            room.members.contains_key(&user.canonical()) && self.is_held(&Subject::Room(room.record.id.clone()))
        });
        if in_held_room || self.is_held(&Subject::User(user.clone())) {
            return Err(Refusal::Held);
        }
        let erasure = Erasure { user: user.clone(), at, counts: ErasureCounts::default(), is_finished: false };
        self.erasures.insert(user.canonical(), erasure.clone());
        Ok(erasure)
    }

    fn erase(&mut self, user: &UserId, now: Timestamp) -> Result<(ErasureStep, Vec<Change>), Refusal> {
        let name = user.canonical();
        if !self.erasures.contains_key(&name) {
            return Err(Refusal::NotFound);
        }
        let (mut counts, mut changes) = (ErasureCounts::default(), Vec::new());
        let mut written: Vec<(u64, String)> = Vec::new();
        for (room, found) in &self.rooms {
            let own = found.messages.values().filter(|stored| stored.message.sender == *user);
            written.extend(own.map(|stored| (stored.message.id, room.clone())));
        }
        written.sort();
        for (message_id, room) in written {
            let next = self.next_id;
            let Some(found) = self.rooms.get_mut(&room) else { continue };
            let Some(stored) = found.messages.get_mut(&message_id) else { continue };
            let message = &mut stored.message;
            let was_deleted = message.deleted_at.is_some();
            message.content.clear();
            message.sender = UserId::erased();
            message.sender_name.clear();
            message.client_id = None;
            message.edited_at = None;
            message.deleted_at = Some(message.deleted_at.unwrap_or(now));
            counts.messages += 1;
            if !was_deleted {
                stored.change = Some(next);
                changes.push(Change::Deleted { id: next, room: found.record.id.clone(), message_id, at: now });
                self.take_id();
            }
        }
        for room in self.rooms.values_mut() {
            counts.memberships += u64::from(room.members.remove(&name).is_some());
        }
        self.lessons.retain(|(owner, _), lesson| {
            if *owner == name {
                counts.lessons += 1;
                counts.versions += lesson.versions.len() as u64;
            }
            *owner != name
        });
        let mut named = BTreeSet::new();
        self.notifications.retain(|id, one| {
            let Audience::Users(users) = &mut one.audience else { return true };
            if users.contains(user) {
                named.insert(*id);
                users.retain(|other| other != user);
            }
            !users.is_empty()
        });
        counts.notifications = named.len() as u64;
        if let Some(person) = self.people.remove(&name) {
            counts.inbox = person.marks.keys().filter(|id| !named.contains(id)).count() as u64;
            counts.inbox += person.changes.len() as u64;
        }
        self.answers.retain(|(_, owner, _), (expires, _)| {
            // What has expired is as good as gone.
            counts.answers += u64::from(*owner == name && *expires > now);
            *owner != name
        });
        if let Some(erasure) = self.erasures.get_mut(&name) {
            erasure.counts = erasure.counts.plus(counts);
            erasure.is_finished = true;
        }
        Ok((ErasureStep { counts, is_finished: true }, changes))
    }

    fn purge(&mut self, kind: PurgeKind, before: Timestamp, now: Timestamp) -> PurgeStep {
        match kind {
            PurgeKind::Chat => self.purge_chat(before, now),
            PurgeKind::Notifications => self.purge_notifications(before),
            PurgeKind::Audit => self.purge_audit(before),
        }
    }

    fn held_users(&self) -> BTreeSet<String> {
        let users = self.holds.iter().filter_map(|hold| match &hold.subject {
            Subject::User(user) => Some(user.canonical()),
            Subject::Room(_) => None,
        });
        users.collect()
    }

    fn purge_chat(&mut self, before: Timestamp, now: Timestamp) -> PurgeStep {
        let users = self.held_users();
        let rooms: Vec<Subject> = self.holds.iter().map(|hold| hold.subject.clone()).collect();
        let mut step = PurgeStep::default();
        for room in self.rooms.values_mut() {
            if rooms.contains(&Subject::Room(room.record.id.clone())) {
                step.held += 1;
                continue;
            }
            let mut is_past_kept = false;
            let mut gone = Vec::new();
            for (id, stored) in &mut room.messages {
                let message = &mut stored.message;
                if message.at >= before {
                    break;
                }
                if users.contains(&message.sender.canonical()) {
                    step.held += 1;
                    is_past_kept = true;
                } else if !is_past_kept {
                    gone.push((*id, message.seq));
                    step.purged += 1;
                } else if message.deleted_at.is_none() {
                    message.content.clear();
                    message.deleted_at = Some(now);
                    stored.change = None;
                    step.purged += 1;
                }
            }
            for (id, seq) in gone {
                room.messages.remove(&id);
                room.record.purged_seq = seq;
            }
        }
        step
    }

    fn purge_notifications(&mut self, before: Timestamp) -> PurgeStep {
        let users = self.held_users();
        let mut step = PurgeStep::default();
        let mut gone = BTreeSet::new();
        for (id, one) in &self.notifications {
            if one.at >= before {
                break;
            }
            let is_named = |user: &String| match &one.audience {
                Audience::Users(named) => named.iter().any(|name| name.canonical() == *user),
                _ => false,
            };
            let is_marked = |user: &String| self.people.get(user).is_some_and(|person| person.marks.contains_key(id));
            if users.iter().any(|user| is_named(user) || is_marked(user)) {
                step.held += 1;
            } else {
                gone.insert(*id);
                step.purged += 1;
            }
        }
        self.notifications.retain(|id, _| !gone.contains(id));
        let oldest = self.notifications.keys().next().copied();
        for person in self.people.values_mut() {
            person.marks.retain(|id, _| self.notifications.contains_key(id));
            if let Some(oldest) = oldest {
                person.changes.retain(|id, _| *id >= oldest);
            }
        }
        step
    }

    fn purge_audit(&mut self, before: Timestamp) -> PurgeStep {
        let old = self.audit.iter().take_while(|record| record.entry.at < before).count();
        if !self.holds.is_empty() {
            return PurgeStep { held: old as u64, ..PurgeStep::default() };
        }
        if let Some(last) = self.audit.drain(..old).next_back() {
            self.audit_anchor = Link::from(&last);
        }
        PurgeStep { purged: old as u64, ..PurgeStep::default() }
    }

    /// All that is stored of somebody, in the order of the seam.
    fn items(&self, user: &UserId) -> Vec<UserItem> {
        let name = user.canonical();
        let mut items = Vec::new();
        let unknown = || UserProfile {
            user: user.clone(),
            name: String::new(),
            roles: Vec::new(),
            first_seen: None,
            last_seen: None,
        };
        items.push(UserItem::Profile(self.profile(&name).unwrap_or_else(unknown)));
        for room in self.rooms.values() {
            let Some(member) = room.members.get(&name) else { continue };
            items.push(UserItem::Room(RoomSummary {
                room: room.record.clone(),
                membership: member.membership,
                read_up_to: member.read_up_to,
                unread: room.messages.keys().filter(|id| **id > member.read_up_to).count() as u64,
            }));
        }
        let mut messages: Vec<_> = self.rooms.values().flat_map(|room| room.messages.values()).collect();
        messages.retain(|stored| stored.message.sender == *user);
        messages.sort_by_key(|stored| stored.message.id);
        items.extend(messages.into_iter().map(|stored| UserItem::Message(stored.message.clone())));
        let own = || self.lessons.iter().filter(|((owner, _), _)| *owner == name).map(|(_, lesson)| lesson);
        items.extend(own().filter_map(|lesson| lesson.versions.last().cloned()).map(UserItem::Lesson));
        items.extend(own().flat_map(|lesson| lesson.versions.iter().cloned()).map(UserItem::Version));
        for (id, one) in &self.notifications {
            let named = matches!(&one.audience, Audience::Users(users) if users.contains(user));
            let mark = self.people.get(&name).and_then(|person| person.marks.get(id)).copied();
            if named || mark.is_some() {
                let (read, is_deleted) = mark.unwrap_or_default();
                let mut notification = one.clone();
                notification.read = read;
                items.push(UserItem::Notification { notification, is_deleted });
            }
        }
        let about = format!("user {user}");
        let records = self.audit.iter().filter(|record| record.entry.actor == name || record.entry.target == about);
        items.extend(records.cloned().map(UserItem::Audit));
        items
    }
}

impl Audits for Memory {
    fn record(&self, entry: AuditEntry) -> Answer<'_, AuditRecord> {
        self.write(|state, _| {
            let record = state.audit_head().next(entry);
            state.audit.push(record.clone());
            Ok((record, Vec::new()))
        })
    }

    fn audit(&self, after: u64, limit: usize) -> Answer<'_, Vec<AuditRecord>> {
        self.read(|state| Ok(state.audit.iter().filter(|record| record.number > after).take(limit).cloned().collect()))
    }

    fn trail(&self, after: u64, limit: usize) -> Answer<'_, TrailPart> {
        self.read(|state| {
            let behind = state.audit.iter().filter(|record| record.number > after);
            let records = behind.take(limit).cloned().collect();
            Ok(TrailPart { records, anchor: state.audit_anchor, head: state.audit_head() })
        })
    }

    fn audit_ends(&self) -> Answer<'_, (Link, Link)> {
        self.read(|state| Ok((state.audit_anchor, state.audit_head())))
    }
}

impl State {
    fn audit_head(&self) -> Link {
        self.audit.last().map_or(self.audit_anchor, Link::from)
    }
}

impl Privacy for Memory {
    fn hold(&self, hold: Hold) -> Answer<'_, ()> {
        self.write(|state, _| {
            if let Subject::User(user) = &hold.subject
                && state.erasures.get(&user.canonical()).is_some_and(|erasure| !erasure.is_finished)
            {
                return Err(Refusal::Conflict);
            }
            state.holds.retain(|other| other.subject != hold.subject);
            state.holds.push(hold);
            Ok(((), Vec::new()))
        })
    }

    fn release(&self, subject: Subject) -> Answer<'_, Hold> {
        self.write(|state, _| {
            let at = state.holds.iter().position(|hold| hold.subject == subject).ok_or(Refusal::NotFound)?;
            Ok((state.holds.remove(at), Vec::new()))
        })
    }

    fn holds(&self) -> Answer<'_, Vec<Hold>> {
        self.read(|state| {
            let mut holds = state.holds.clone();
            holds.sort_by_key(|hold| match &hold.subject {
                Subject::Room(room) => (0, room.canonical()),
                Subject::User(user) => (1, user.canonical()),
            });
            Ok(holds)
        })
    }

    fn export_user(&self, user: UserId, mut sink: UserSink) -> Answer<'_, bool> {
        let state = self.state();
        if !state.knows(&user.canonical()) {
            return Box::pin(std::future::ready(Ok(false)));
        }
        let sent = state.items(&user).into_iter().try_for_each(|item| sink.item(item)).and_then(|()| sink.end());
        let answer = sent.map(|()| true).map_err(|error| StoreError::Unavailable(error.to_string()));
        Box::pin(std::future::ready(answer))
    }

    fn newest_of(&self, user: UserId) -> Answer<'_, Option<Timestamp>> {
        self.read(|state| {
            let stored_at = state.items(&user).into_iter().filter_map(|item| match item {
                UserItem::Message(message) => Some(message.at),
                UserItem::Lesson(progress) => Some(progress.updated_at),
                UserItem::Notification { notification, .. } => Some(notification.at),
                _ => None,
            });
            Ok(stored_at.max())
        })
    }

    fn begin_erasure(&self, user: UserId, at: Timestamp) -> Answer<'_, Erasure> {
        self.write(|state, _| Ok((state.begin_erasure(&user, at)?, Vec::new())))
    }

    fn erase(&self, user: UserId, _limit: usize) -> Answer<'_, ErasureStep> {
        self.write(|state, now| state.erase(&user, now))
    }

    fn erasures(&self) -> Answer<'_, Vec<Erasure>> {
        self.read(|state| Ok(state.erasures.values().cloned().collect()))
    }

    fn purge(&self, kind: PurgeKind, before: Timestamp, _cursor: PurgeCursor, _limit: usize) -> Answer<'_, PurgeStep> {
        self.write(|state, now| Ok((state.purge(kind, before, now), Vec::new())))
    }
}
