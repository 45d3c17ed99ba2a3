//! The second engine: the same seam on plain maps behind one lock, simple enough to be right by reading. The conformance
//! suite holds the product's engine against it, and quick tests use it. Nothing lasts beyond the process.
//!
//! A call does its work when it is made; its future only hands the result over. The sink is told under the lock, so that
//! it hears changes in the order of their ids.

mod access;
mod care;
mod seam;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::domain::access::{Ban, Banned};
use crate::domain::audit::{AuditRecord, Link};
use crate::domain::chat::{
    Author, Draft, Membership, Message, ReadMark, RoomPolicy, RoomRecord, may_change, may_enter,
};
use crate::domain::notification::{Audience, Notification, NotificationDraft, Selection, is_for};
use crate::domain::privacy::{Erasure, Hold};
use crate::domain::progress::{Progress, Update, is_merged, merge};
use crate::domain::{Actor, Clock, LessonId, Refusal, Role, RoomId, Timestamp, UserId};
use crate::store::{
    AnswerKey, Arrival, Change, CommitSink, Identity, InboxAction, MessageChange, MessagePage, Page, Posted, Replay,
    Store, StoreConfig, Synced,
};

/// Opens an empty store in memory. Of the configuration only `progress_versions` has a meaning here.
#[must_use]
pub fn open(config: &StoreConfig, clock: Arc<dyn Clock>, sink: Arc<dyn CommitSink>) -> Arc<dyn Store> {
    let mut store_id = [0; 16];
    // Without random numbers the id is zero, which a store that ends with its process can bear.
    let _ = getrandom::fill(&mut store_id);
    Arc::new(Memory {
        identity: Identity { store_id, epoch: 1 },
        keep_versions: config.progress_versions.max(1),
        clock,
        sink,
        state: Mutex::new(State { next_id: 1, ..State::default() }),
    })
}

struct Memory {
    identity: Identity,
    keep_versions: usize,
    clock: Arc<dyn Clock>,
    sink: Arc<dyn CommitSink>,
    state: Mutex<State>,
}

/// Everything, keyed by canonical ids.
#[derive(Default)]
struct State {
    closed: bool,
    next_id: u64,
    commits: u64,
    rooms: BTreeMap<String, Room>,
    people: BTreeMap<String, Person>,
    /// (user, lesson).
    lessons: BTreeMap<(String, String), Lesson>,
    notifications: BTreeMap<u64, Notification>,
    /// (kind, user, key): until when, and what was answered.
    answers: BTreeMap<(Kind, String, String), (Timestamp, First)>,
    audit: Vec<AuditRecord>,
    audit_anchor: Link,
    holds: Vec<Hold>,
    erasures: BTreeMap<String, Erasure>,
    bans: HashMap<Ban, Banned>,
}

struct Room {
    record: RoomRecord,
    messages: BTreeMap<u64, Stored>,
    members: BTreeMap<String, Member>,
}

struct Stored {
    message: Message,
    /// The latest edit or the deletion.
    change: Option<u64>,
}

#[derive(Clone)]
struct Member {
    user: UserId,
    membership: Membership,
    read_up_to: u64,
    change: Option<u64>,
}

struct Lesson {
    versions: Vec<Progress>,
    change: u64,
}

#[derive(Default)]
struct Person {
    name: String,
    roles: Vec<Role>,
    /// The next id at the first arrival; `None` before it.
    first_seen_id: Option<u64>,
    first_seen: Timestamp,
    last_seen: Timestamp,
    delivered_up_to: u64,
    read_up_to: u64,
    deleted_up_to: u64,
    /// Notification -> read, deleted.
    marks: BTreeMap<u64, (bool, bool)>,
    changes: BTreeMap<u64, (Selection, InboxAction)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Message,
    Progress,
    Notify,
    Answer,
}

#[derive(Clone)]
enum First {
    Message(RoomId, Posted),
    Progress(Synced),
    Notification(u64),
    Bytes(Vec<u8>),
}

impl State {
    fn take_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn last_id(&self) -> u64 {
        self.next_id - 1
    }

    fn check_cursor(&self, after: u64) -> Result<(), Refusal> {
        if after > self.last_id() { Err(Refusal::Resync) } else { Ok(()) }
    }

    fn enter(&self, room: &RoomId, author: &Author, policy: RoomPolicy) -> Result<Option<Membership>, Refusal> {
        let found = self.rooms.get(&room.canonical());
        let membership = found.and_then(|room| room.members.get(&author.user.canonical())).map(|m| m.membership);
        may_enter(found.map(|room| room.record.private), membership, author.admin, policy)?;
        Ok(membership)
    }

    fn first(&self, kind: Kind, user: &UserId, key: &str, now: Timestamp) -> Option<First> {
        let (expires, first) = self.answers.get(&(kind, user.canonical(), key.to_owned()))?;
        (*expires > now).then(|| first.clone())
    }

    fn keep_first(&mut self, kind: Kind, user: &UserId, key: &str, now: Timestamp, first: First) {
        let expires = now.plus(Duration::from_secs(24 * 60 * 60));
        self.answers.insert((kind, user.canonical(), key.to_owned()), (expires, first));
    }

    fn append(&mut self, draft: Draft, policy: RoomPolicy, now: Timestamp) -> Result<(Posted, Vec<Change>), Refusal> {
        if let Some(key) = &draft.client_id
            && let Some(First::Message(room, posted)) = self.first(Kind::Message, &draft.author.user, key, now)
        {
            if room != draft.room {
                return Err(Refusal::Conflict);
            }
            return Ok((Posted { duplicate: true, ..posted }, Vec::new()));
        }
        self.enter(&draft.room, &draft.author, policy)?;
        let id = self.take_id();
        let first = || Room::new(RoomRecord::first_written(&draft.room, policy, draft.at));
        let room = self.rooms.entry(draft.room.canonical()).or_insert_with(first);
        room.record.last_id = id;
        room.record.last_seq += 1;
        room.member(&draft.author.user).read_up_to = id;
        self.people.entry(draft.author.user.canonical()).or_default();
        let message = Message {
            id,
            seq: room.record.last_seq,
            room: draft.room.clone(),
            sender: draft.author.user.clone(),
            sender_name: draft.author.name,
            content: draft.content,
            kind: draft.kind,
            reply_to: draft.reply_to,
            client_id: draft.client_id.clone(),
            at: draft.at,
            edited_at: None,
            deleted_at: None,
        };
        room.messages.insert(id, Stored { message: message.clone(), change: None });
        let posted = Posted { id, seq: message.seq, at: message.at, duplicate: false };
        if let Some(key) = &draft.client_id {
            let first = First::Message(draft.room, posted.clone());
            self.keep_first(Kind::Message, &draft.author.user, key, now, first);
        }
        Ok((posted, vec![Change::Posted(Arc::new(message))]))
    }

    /// Changes a message that may be changed, and gives the change's id.
    fn change(
        &mut self,
        change: &MessageChange,
        policy: RoomPolicy,
        apply: impl FnOnce(&mut Message),
    ) -> Result<u64, Refusal> {
        let membership = self.enter(&change.room, &change.author, policy)?;
        let id = self.next_id;
        let room = self.rooms.get_mut(&change.room.canonical()).ok_or(Refusal::NotFound)?;
        let stored = room.messages.get_mut(&change.message_id).ok_or(Refusal::NotFound)?;
        may_change(&stored.message, &change.author, membership)?;
        apply(&mut stored.message);
        stored.change = Some(id);
        Ok(self.take_id())
    }

    fn page(&self, room: &RoomId, viewer: &Author, page: &Page, policy: RoomPolicy) -> Result<MessagePage, Refusal> {
        self.enter(room, viewer, policy)?;
        if let Some(after) = page.after {
            self.check_cursor(after)?;
        }
        let Some(found) = self.rooms.get(&room.canonical()) else { return Ok(MessagePage::default()) };
        let all = found.messages.values().map(|stored| Message { room: room.clone(), ..stored.message.clone() });
        let mut messages: Vec<Message> = match (page.after, page.before) {
            (Some(after), _) => all.filter(|message| message.id > after).collect(),
            (None, Some(before)) => all.filter(|message| message.id < before).collect(),
            (None, None) => all.collect(),
        };
        let has_more = messages.len() > page.limit;
        if page.after.is_some() {
            messages.truncate(page.limit);
        } else {
            messages.drain(..messages.len().saturating_sub(page.limit));
        }
        Ok(MessagePage {
            messages,
            has_more,
            last_id: found.record.last_id,
            last_seq: found.record.last_seq,
            read_up_to: found.members.get(&viewer.user.canonical()).map_or(0, |member| member.read_up_to),
        })
    }

    fn mark_read(
        &mut self,
        room: &RoomId,
        reader: &Author,
        message_id: u64,
        policy: RoomPolicy,
    ) -> Result<(ReadMark, Vec<Change>), Refusal> {
        self.enter(room, reader, policy)?;
        let id = self.next_id;
        let found = self.rooms.get_mut(&room.canonical()).ok_or(Refusal::NotFound)?;
        if !found.messages.contains_key(&message_id) {
            return Err(Refusal::NotFound);
        }
        let member = found.member(&reader.user);
        let mut mark = ReadMark { room: room.clone(), user: reader.user.clone(), message_id };
        if message_id <= member.read_up_to {
            mark.message_id = member.read_up_to;
            return Ok((mark, Vec::new()));
        }
        member.read_up_to = message_id;
        member.change = Some(id);
        let id = self.take_id();
        Ok((mark.clone(), vec![Change::Read { id, mark }]))
    }

    fn sync(
        &mut self,
        user: &UserId,
        updates: &[Update],
        at: Timestamp,
        now: Timestamp,
        keep_versions: usize,
    ) -> Result<(Vec<Synced>, Vec<Change>), Refusal> {
        let mut seen: BTreeMap<&str, &LessonId> = BTreeMap::new();
        for update in updates {
            let Some(key) = &update.sync_id else { continue };
            let stored = match self.first(Kind::Progress, user, key, now) {
                Some(First::Progress(first)) => Some(first.progress.lesson),
                _ => None,
            };
            let here = seen.insert(key, &update.lesson);
            if stored.is_some_and(|lesson| lesson != update.lesson)
                || here.is_some_and(|lesson| *lesson != update.lesson)
            {
                return Err(Refusal::Conflict);
            }
        }
        let (mut answers, mut changes) = (Vec::new(), Vec::new());
        for update in updates {
            if let Some(key) = &update.sync_id
                && let Some(First::Progress(first)) = self.first(Kind::Progress, user, key, now)
            {
                answers.push(Synced { duplicate: true, ..first });
                continue;
            }
            let id = self.take_id();
            let lesson = self
                .lessons
                .entry((user.canonical(), update.lesson.canonical()))
                .or_insert_with(|| Lesson { versions: Vec::new(), change: 0 });
            let current = lesson.versions.last();
            let merged = is_merged(current, update);
            let progress = merge(user, current, update, at);
            lesson.versions.push(progress.clone());
            lesson.change = id;
            let surplus = lesson.versions.len().saturating_sub(keep_versions);
            lesson.versions.drain(..surplus);
            let synced = Synced { progress: progress.clone(), duplicate: false, merged };
            if let Some(key) = &update.sync_id {
                self.keep_first(Kind::Progress, user, key, now, First::Progress(synced.clone()));
            }
            answers.push(synced);
            changes.push(Change::Progressed { id, progress });
        }
        Ok((answers, changes))
    }

    fn notify(
        &mut self,
        draft: NotificationDraft,
        key: Option<&AnswerKey>,
        now: Timestamp,
    ) -> ((Notification, bool), Vec<Change>) {
        if let Some(key) = key
            && let Some(First::Notification(id)) = self.first(Kind::Notify, &key.user, &key.key, now)
            && let Some(first) = self.notifications.get(&id)
        {
            return ((first.clone(), true), Vec::new());
        }
        let id = self.take_id();
        let one = Notification { id, audience: draft.audience, body: draft.body, at: draft.at, read: false };
        self.notifications.insert(id, one.clone());
        if let Audience::Users(users) = &one.audience {
            for user in users {
                self.people.entry(user.canonical()).or_default();
            }
        }
        if let Some(key) = key {
            self.keep_first(Kind::Notify, &key.user, &key.key, now, First::Notification(id));
        }
        ((one.clone(), false), vec![Change::Notified(one)])
    }

    /// A user's inbox, ascending.
    fn inbox(&self, viewer: &Actor) -> Vec<Notification> {
        let nobody = Person::default();
        let person = self.people.get(&viewer.user.canonical()).unwrap_or(&nobody);
        let first_seen = person.first_seen_id.unwrap_or(u64::MAX);
        let mut found = Vec::new();
        for (id, one) in &self.notifications {
            let (read, deleted) = person.marks.get(id).copied().unwrap_or_default();
            let theirs = is_for(&one.audience, *id, &viewer.user, &viewer.roles, first_seen);
            if theirs && !deleted && *id > person.deleted_up_to {
                found.push(Notification { read: read || *id <= person.read_up_to, ..one.clone() });
            }
        }
        found
    }

    fn unread(&self, viewer: &Actor) -> u64 {
        self.inbox(viewer).iter().filter(|one| !one.read).count() as u64
    }

    fn mark_inbox(
        &mut self,
        viewer: &Actor,
        selection: &Selection,
        action: InboxAction,
        origin: Option<u64>,
    ) -> ((Vec<u64>, u64), Vec<Change>) {
        let chosen = |id: u64| match selection {
            Selection::All => true,
            Selection::Ids(ids) => ids.contains(&id),
        };
        let changed: Vec<u64> = self
            .inbox(viewer)
            .iter()
            .filter(|one| chosen(one.id) && (action == InboxAction::Delete || !one.read))
            .map(|one| one.id)
            .collect();
        if changed.is_empty() {
            return ((changed, self.unread(viewer)), Vec::new());
        }
        let id = self.take_id();
        let person = self.people.entry(viewer.user.canonical()).or_default();
        let told = match selection {
            Selection::All => {
                person.changes.retain(|_, (_, done)| action == InboxAction::Read && *done == InboxAction::Delete);
                match action {
                    InboxAction::Read => person.read_up_to = id,
                    InboxAction::Delete => person.deleted_up_to = id,
                }
                Selection::All
            }
            Selection::Ids(_) => {
                for one in &changed {
                    let (read, deleted) = person.marks.entry(*one).or_default();
                    match action {
                        InboxAction::Read => *read = true,
                        InboxAction::Delete => *deleted = true,
                    }
                }
                Selection::Ids(changed.clone())
            }
        };
        person.changes.insert(id, (told.clone(), action));
        let unread = self.unread(viewer);
        let change = Change::InboxChanged { id, user: viewer.user.clone(), selection: told, action, unread, origin };
        ((changed, unread), vec![change])
    }

    fn arrive(&mut self, actor: &Actor, at: Timestamp, limit: usize) -> Arrival {
        let next = self.next_id;
        let person = self.people.entry(actor.user.canonical()).or_default();
        if person.first_seen_id.is_none() {
            (person.first_seen_id, person.first_seen) = (Some(next), at);
        }
        person.name.clone_from(&actor.name);
        person.roles.clone_from(&actor.roles);
        person.last_seen = person.last_seen.max(at);
        let delivered = person.delivered_up_to;
        let mut undelivered = self.inbox(actor);
        undelivered.retain(|one| one.id > delivered);
        undelivered.truncate(limit);
        Arrival { unread: self.unread(actor), undelivered }
    }

    fn replay(&self, viewer: &Actor, rooms: &[RoomId], after: u64, limit: usize) -> Result<Replay, Refusal> {
        self.check_cursor(after)?;
        let mut changes: BTreeMap<u64, Change> = BTreeMap::new();
        for room in rooms {
            let Some(found) = self.rooms.get(&room.canonical()) else { continue };
            // Of two spellings of one room the first counts.
            if rooms.iter().find(|other| *other == room).is_some_and(|first| !std::ptr::eq(first, room)) {
                continue;
            }
            found.tell(room, &mut changes);
        }
        for ((user, _), lesson) in &self.lessons {
            if let (true, Some(last)) = (*user == viewer.user.canonical(), lesson.versions.last()) {
                changes.insert(lesson.change, Change::Progressed { id: lesson.change, progress: last.clone() });
            }
        }
        for one in self.inbox(viewer) {
            changes.insert(one.id, Change::Notified(one));
        }
        let unread = self.unread(viewer);
        if let Some(person) = self.people.get(&viewer.user.canonical()) {
            for (id, (selection, action)) in &person.changes {
                let (user, selection, action) = (viewer.user.clone(), selection.clone(), *action);
                changes.insert(*id, Change::InboxChanged { id: *id, user, selection, action, unread, origin: None });
            }
        }
        let mut behind: Vec<Change> = changes.into_values().filter(|change| change.id() > after).collect();
        let has_more = behind.len() > limit;
        behind.truncate(limit);
        let up_to = if has_more { behind.last().map_or(after, Change::id) } else { self.last_id() };
        Ok(Replay { changes: behind, up_to, has_more })
    }
}

impl Room {
    fn new(record: RoomRecord) -> Room {
        Room { record, messages: BTreeMap::new(), members: BTreeMap::new() }
    }

    fn member(&mut self, user: &UserId) -> &mut Member {
        self.members.entry(user.canonical()).or_insert_with(|| Member {
            user: user.clone(),
            membership: Membership::Guest,
            read_up_to: 0,
            change: None,
        })
    }

    fn tell(&self, room: &RoomId, changes: &mut BTreeMap<u64, Change>) {
        for (message_id, stored) in &self.messages {
            let message = Message { room: room.clone(), ..stored.message.clone() };
            if let Some(id) = stored.change {
                let (room, message_id) = (room.clone(), *message_id);
                let change = match (message.deleted_at, message.edited_at) {
                    (Some(at), _) => Change::Deleted { id, room, message_id, at },
                    (None, edited) => {
                        let at = edited.unwrap_or(message.at);
                        Change::Edited { id, room, message_id, content: message.content.clone(), at }
                    }
                };
                changes.insert(id, change);
            }
            changes.insert(*message_id, Change::Posted(Arc::new(message)));
        }
        for member in self.members.values() {
            if let Some(id) = member.change {
                let mark = ReadMark { room: room.clone(), user: member.user.clone(), message_id: member.read_up_to };
                changes.insert(id, Change::Read { id, mark });
            }
        }
    }
}
