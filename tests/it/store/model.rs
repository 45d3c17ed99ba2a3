//! A model of the store: what each operation answers and what readers see afterwards, in plain lists and loops. It is written
//! from what the seam and the protocol's documentation promise, asks neither the engine nor the rules of `domain`, and keeps
//! everything in memory. `random` asks it the same as the engine.
//!
//! It knows an erasure and a purge as a whole, not by slices: whoever drives it lets the engine do either in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use academy_rt::domain::chat::{MemberEntry, Message, RoomEntry};
use academy_rt::domain::privacy::{ErasureCounts, VersionEnd, WithheldVersion};
use academy_rt::store::access::{ListPage, MemberPage};
use academy_rt::store::{InboxPage, Replay, UserProfile};

use super::*;

/// How many versions of a lesson the stores of this suite keep.
const VERSIONS: u64 = 3;

type Done = Result<AnyAnswer, Refusal>;

#[derive(Clone)]
struct Member {
    membership: Membership,
    read_up_to: u64,
    read_seq: u64,
    /// The change that tells of the mark; 0 if none.
    read_change: u64,
    /// The room's last `seq` when they came.
    from_seq: u64,
    /// The room's last `seq` when they left.
    left_at: Option<u64>,
}

impl Member {
    fn guest(from_seq: u64) -> Member {
        Member { membership: Membership::Guest, read_up_to: 0, read_seq: 0, read_change: 0, from_seq, left_at: None }
    }
}

struct Said {
    message: Message,
    by: u64,
    /// The latest change of it; 0 if there is none that is told again.
    change: u64,
    /// What the clock said.
    stored_at: Timestamp,
    withheld: Vec<WithheldVersion>,
}

struct Room {
    record: RoomRecord,
    /// Its place among those that were removed, and whose messages are on their way out in that order.
    removal: Option<u64>,
    members: BTreeMap<u64, Member>,
    said: Vec<Said>,
    authors: BTreeSet<u64>,
    /// The names that back ends gave to messages: caller, name, message.
    names: Vec<(UserId, String, u64)>,
}

#[derive(Clone, Copy, Default)]
struct Marks {
    delivered: u64,
    read: u64,
    deleted: u64,
}

struct Person {
    id: UserId,
    name: String,
    roles: Vec<Role>,
    /// The next id and the time at their first arrival.
    first: Option<(u64, Timestamp)>,
    last_seen: Timestamp,
    marks: BTreeMap<AudienceKind, Marks>,
    /// What they have read and deleted one by one.
    read: BTreeSet<u64>,
    deleted: BTreeSet<u64>,
    inbox_changes: Vec<(u64, Selection, InboxAction)>,
}

struct Lesson {
    of: u64,
    lesson: usize,
    change: u64,
    /// The last is what is known.
    versions: Vec<Progress>,
}

#[derive(Clone)]
enum First {
    Posted(Posted),
    Changed(MessageChanged),
    Synced(Synced),
    Notified(u64),
    Sent(u64),
}

struct Kept {
    caller: u64,
    kind: KeyKind,
    key: String,
    fingerprint: Fingerprint,
    until: Timestamp,
    first: First,
}

#[derive(Default)]
pub struct Model {
    last_id: u64,
    last_person: u64,
    /// When it is, for what must not end too early.
    clock: Timestamp,
    now: Timestamp,
    rooms: Vec<Room>,
    people: BTreeMap<u64, Person>,
    lesson_ids: Vec<LessonId>,
    lessons: Vec<Lesson>,
    notifications: Vec<Notification>,
    answers: Vec<Kept>,
    outbox: Vec<(u64, Arc<Broadcast>)>,
    bans: Vec<Banned>,
    holds: Vec<Hold>,
    /// How many were ever set.
    holds_given: u64,
    erasures: Vec<Erasure>,
    /// Whether a hold was released, and what it alone has kept is not all gone.
    is_unsettled: bool,
    /// What was recorded, without hashes; the first kept one has the number behind `purged_records`.
    records: Vec<AuditEntry>,
    purged_records: u64,
    /// What the sink hears.
    pub feed: Vec<Change>,
}

impl Model {
    /// Does a write at a time, while the clock stands at another. Gives the answer and the id of its last change.
    pub fn apply(&mut self, clock: Timestamp, write: &Write) -> (Done, u64) {
        (self.clock, self.now) = (clock, write.at);
        let before = self.feed.len();
        let done = self.perform(write.operation.clone());
        let change = self.feed[before..].last().map_or(0, Change::id);
        if let Some(act) = &write.act {
            match &done {
                Ok(answer) => {
                    if let Some(outcome) = outcome(answer) {
                        self.record(act, &outcome);
                    }
                }
                Err(
                    refusal @ (Refusal::Held(_) | Refusal::Erasing(_) | Refusal::Removing(_) | Refusal::BelowFloor),
                ) => {
                    self.record(act, &format!("refused: {refusal}"));
                }
                Err(_) => {}
            }
        }
        (done, change)
    }

    fn perform(&mut self, operation: AnyOperation) -> Done {
        match operation {
            AnyOperation::PostMessage(op) => self.post(op).map(AnyAnswer::PostMessage),
            AnyOperation::EditMessage(op) => {
                let EditMessage { room, target, author, content, policy, key, .. } = op;
                self.change(&room, &target, &author, Some(content), policy, key).map(AnyAnswer::EditMessage)
            }
            AnyOperation::DeleteMessage(op) => {
                let DeleteMessage { room, target, author, policy, key, .. } = op;
                self.change(&room, &target, &author, None, policy, key).map(AnyAnswer::DeleteMessage)
            }
            AnyOperation::JoinRoom(op) => self.join(op).map(AnyAnswer::JoinRoom),
            AnyOperation::EnlistMembers(op) => {
                self.enlist(op);
                Ok(AnyAnswer::EnlistMembers(()))
            }
            AnyOperation::LeaveRoom(op) => {
                self.leave(&op);
                Ok(AnyAnswer::LeaveRoom(()))
            }
            AnyOperation::MarkRead(op) => self.mark_read(op).map(AnyAnswer::MarkRead),
            AnyOperation::SyncProgress(op) => self.sync(op).map(AnyAnswer::SyncProgress),
            AnyOperation::Notify(op) => self.notify(op).map(AnyAnswer::Notify),
            // `cases_notices` has what they do; nothing is asked of them at random.
            AnyOperation::Schedule(_) | AnyOperation::DoDue(_) | AnyOperation::Recall(_) => {
                panic!("notifications with a time are not modelled")
            }
            // `cases_order` has what they do.
            AnyOperation::SetRoomState(_)
            | AnyOperation::MuteMember(_)
            | AnyOperation::UnmuteMember(_)
            | AnyOperation::ReportMessage(_)
            | AnyOperation::ResolveReport(_) => panic!("how order is kept in rooms is not modelled"),
            // To the model `7` and `"7"` are one id: `tests/clients/ids.test.mjs` looks at types.
            AnyOperation::SettleIds(_) => panic!("the JSON types of ids are not modelled"),
            AnyOperation::MarkInbox(op) => Ok(AnyAnswer::MarkInbox(self.mark_inbox(op))),
            AnyOperation::Arrive(op) => self.arrive(op).map(AnyAnswer::Arrive),
            AnyOperation::Delivered(op) => {
                for (user, mark) in op.marks {
                    let last = self.last_id;
                    if let Some(person) = self.person_mut(&user) {
                        let marks = person.marks.entry(mark.audience).or_default();
                        marks.delivered = marks.delivered.max(mark.up_to.min(last));
                    }
                }
                Ok(AnyAnswer::Delivered(()))
            }
            AnyOperation::Left(op) => {
                let now = self.now;
                if let Some(person) = self.person_mut(&op.user).filter(|person| person.first.is_some()) {
                    person.last_seen = person.last_seen.max(now);
                }
                Ok(AnyAnswer::Left(()))
            }
            AnyOperation::SendBroadcast(op) => self.send(op).map(AnyAnswer::SendBroadcast),
            AnyOperation::BroadcastsOut(op) => {
                self.outbox.retain(|(id, _)| *id > op.up_to);
                Ok(AnyAnswer::BroadcastsOut(()))
            }
            AnyOperation::SetBan(op) => {
                self.ban(op.banned);
                Ok(AnyAnswer::SetBan(()))
            }
            AnyOperation::LiftBan(op) => {
                let at = self.bans.iter().position(|one| one.ban == op.ban).ok_or(Refusal::NotFound)?;
                let id = self.take_id();
                self.feed.push(Change::Unbanned { id, ban: op.ban });
                Ok(AnyAnswer::LiftBan(self.bans.remove(at)))
            }
            AnyOperation::Disconnect(op) => {
                let id = self.take_id();
                self.feed.push(Change::Disconnected { id, user: op.user });
                Ok(AnyAnswer::Disconnect(()))
            }
            AnyOperation::CreateRoom(op) => self.create(op.draft).map(AnyAnswer::CreateRoom),
            AnyOperation::PatchRoom(op) => self.patch(op).map(AnyAnswer::PatchRoom),
            AnyOperation::SetMember(op) => self.set_member(op).map(AnyAnswer::SetMember),
            AnyOperation::RemoveMember(op) => self.remove_member(op).map(AnyAnswer::RemoveMember),
            AnyOperation::RemoveRoom(op) => self.remove_room(op.room).map(AnyAnswer::RemoveRoom),
            AnyOperation::RemoveMessages(op) => Ok(AnyAnswer::RemoveMessages(self.remove_messages(op.limit))),
            AnyOperation::SetHold(op) => self.hold(op.hold).map(AnyAnswer::SetHold),
            AnyOperation::ReleaseHold(op) => self.release(op.subject, op.number).map(AnyAnswer::ReleaseHold),
            AnyOperation::PruneWithheld(_) => {
                self.prune();
                Ok(AnyAnswer::PruneWithheld(true))
            }
            AnyOperation::BeginErasure(op) => self.begin_erasure(op).map(AnyAnswer::BeginErasure),
            AnyOperation::EraseSlice(op) => self.erase(op).map(AnyAnswer::EraseSlice),
            AnyOperation::Purge(op) => Ok(AnyAnswer::Purge(self.purge(op))),
            AnyOperation::Record(op) => {
                self.keep_record(op.entry.clone());
                Ok(AnyAnswer::Record(unchained(self.number(), op.entry)))
            }
            AnyOperation::SampleGrowth(_) => Ok(AnyAnswer::SampleGrowth(())),
            AnyOperation::NoteForwarded(_) => Ok(AnyAnswer::NoteForwarded(())),
            AnyOperation::NoteBackup(_) => Ok(AnyAnswer::NoteBackup(())),
            // `tests/clients/webhooks.test.mjs` looks at what the platform is told.
            AnyOperation::TellSightings(_) | AnyOperation::Told(_) | AnyOperation::TellAgain(_) => {
                panic!("what the platform is told is not modelled")
            }
        }
    }

    // Ids, people, rooms.

    pub fn last_id(&self) -> u64 {
        self.last_id
    }

    fn take_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    fn find(&self, user: &UserId) -> Option<u64> {
        self.people.iter().find(|(_, person)| person.id == *user).map(|(no, _)| *no)
    }

    fn person_mut(&mut self, user: &UserId) -> Option<&mut Person> {
        self.people.values_mut().find(|person| person.id == *user)
    }

    /// Somebody who is spoken of is known from then on.
    fn know(&mut self, user: &UserId) -> u64 {
        if let Some(no) = self.find(user) {
            return no;
        }
        self.last_person += 1;
        let person = Person {
            id: user.clone(),
            name: String::new(),
            roles: Vec::new(),
            first: None,
            last_seen: Timestamp(0),
            marks: BTreeMap::new(),
            read: BTreeSet::new(),
            deleted: BTreeSet::new(),
            inbox_changes: Vec::new(),
        };
        self.people.insert(self.last_person, person);
        self.last_person
    }

    fn room_at(&self, room: &RoomId) -> Option<usize> {
        self.rooms.iter().position(|one| one.removal.is_none() && one.record.id == *room)
    }

    fn register(&mut self, id: RoomId, private: bool, name: Option<String>) -> usize {
        let record = RoomRecord {
            id,
            name,
            private,
            last_id: 0,
            last_seq: 0,
            purged_seq: 0,
            last_at: Timestamp(0),
            deleted: 0,
            created_at: self.now,
            ..RoomRecord::new(RoomId::number(0), self.now)
        };
        self.rooms.push(Room {
            record,
            removal: None,
            members: BTreeMap::new(),
            said: Vec::new(),
            authors: BTreeSet::new(),
            names: Vec::new(),
        });
        self.rooms.len() - 1
    }

    fn membership(&self, room: &RoomId, user: &UserId) -> Option<Membership> {
        let member = self.rooms[self.room_at(room)?].members.get(&self.find(user)?)?;
        Some(member.membership)
    }

    /// An open room lets everybody in, a private one those who were admitted and administrators; a room that does not exist
    /// is an open one, or with closed rooms a private one.
    pub fn enter(&self, room: &RoomId, who: &Author, policy: RoomPolicy) -> Result<Option<usize>, Refusal> {
        let at = self.room_at(room);
        let is_open = at.map_or(policy.open_rooms, |at| !self.rooms[at].record.private);
        let is_admitted = matches!(self.membership(room, &who.user), Some(Membership::Member | Membership::Moderator));
        if is_open || is_admitted || who.admin { Ok(at) } else { Err(Refusal::Forbidden) }
    }

    fn refuse_erasing(&self, user: &UserId) -> Result<(), Refusal> {
        match self.erasures.iter().any(|one| one.user == *user && one.finished_at.is_none()) {
            true => Err(Refusal::Erasing(user.clone())),
            false => Ok(()),
        }
    }

    // First answers.

    fn first(&self, key: Option<&RequestKey>) -> Result<Option<First>, Refusal> {
        let Some(key) = key else { return Ok(None) };
        let due = self.now.min(self.clock);
        let kept = self.answers.iter().find(|one| {
            Some(one.caller) == self.find(&key.caller)
                && (one.kind, &one.key) == (key.kind, &key.key)
                && one.until > due
        });
        match kept {
            Some(kept) if kept.fingerprint != key.fingerprint => Err(Refusal::KeyReused),
            kept => Ok(kept.map(|kept| kept.first.clone())),
        }
    }

    fn keep(&mut self, key: Option<RequestKey>, first: First) {
        let Some(RequestKey { caller, kind, key, fingerprint }) = key else { return };
        let caller = self.know(&caller);
        self.answers.retain(|one| (one.caller, one.kind, &one.key) != (caller, kind, &key));
        self.answers.push(Kept { caller, kind, key, fingerprint, until: Timestamp(self.now.0 + DAY), first });
    }

    // Chat.

    fn post(&mut self, op: PostMessage) -> Result<Posted, Refusal> {
        let PostMessage { draft, policy, key, external_id, origin } = op;
        if let Some(first) = self.first(key.as_ref())? {
            let First::Posted(first) = first else { panic!("a key of a post has another answer") };
            return Ok(Posted { duplicate: true, ..first });
        }
        self.refuse_erasing(&draft.author.user)?;
        let at = self.enter(&draft.room, &draft.author, policy)?;
        if let (Some(at), Some(external)) = (at, &external_id)
            && self.named(at, external).is_some()
        {
            return Err(Refusal::Conflict);
        }
        let by = self.know(&draft.author.user);
        let at = at.unwrap_or_else(|| self.register(draft.room.clone(), !policy.open_rooms, None));
        let (id, now) = (self.take_id(), self.now);
        let room = &mut self.rooms[at];
        let time = now.max(room.record.last_at);
        let seq = room.record.last_seq + 1;
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
            at: time,
            edited_at: None,
            deleted_at: None,
            edited_by: None,
            deleted_by: None,
        };
        (room.record.last_id, room.record.last_seq, room.record.last_at) = (id, seq, time);
        let member = room.members.entry(by).or_insert_with(|| Member::guest(seq - 1));
        (member.read_up_to, member.read_seq, member.left_at) = (id, seq, None);
        room.authors.insert(by);
        if let Some(external) = external_id {
            room.names.push((external.caller, external.name, id));
        }
        self.feed.push(Change::Posted { message: Arc::new(message.clone()), origin });
        room.said.push(Said { message, by, change: 0, stored_at: now, withheld: Vec::new() });
        let posted = Posted { id, seq, at: time, duplicate: false };
        self.keep(key, First::Posted(posted.clone()));
        Ok(posted)
    }

    fn named(&self, at: usize, external: &ExternalId) -> Option<u64> {
        let named = self.rooms[at].names.iter().find(|one| (&one.0, &one.1) == (&external.caller, &external.name));
        named.map(|(_, _, id)| *id)
    }

    /// An edit gives the new content, a deletion none.
    fn change(
        &mut self,
        room: &RoomId,
        target: &MessageTarget,
        author: &Author,
        content: Option<String>,
        policy: RoomPolicy,
        key: Option<RequestKey>,
    ) -> Result<MessageChanged, Refusal> {
        if let Some(first) = self.first(key.as_ref())? {
            let First::Changed(first) = first else { panic!("a key of a change has another answer") };
            return Ok(MessageChanged { duplicate: true, ..first });
        }
        let at = self.enter(room, author, policy)?.ok_or(Refusal::NotFound)?;
        let message_id = match target {
            MessageTarget::Id(id) => *id,
            MessageTarget::External(external) => self.named(at, external).ok_or(Refusal::NotFound)?,
        };
        let said = self.rooms[at].said.iter().position(|one| one.message.id == message_id).ok_or(Refusal::NotFound)?;
        let before = self.rooms[at].said[said].message.clone();
        let is_own = before.sender == author.user && before.kind != MessageKind::System;
        let is_moderator = self.membership(room, &author.user) == Some(Membership::Moderator);
        if !is_own && !is_moderator && !author.admin {
            return Err(Refusal::Forbidden);
        }
        if before.deleted_at.is_some() {
            return Err(Refusal::NotFound);
        }
        let is_held = self.is_held(self.rooms[at].said[said].by, at);
        let (id, now) = (self.take_id(), self.now);
        // Behind the message, and behind the edit before.
        let rising = before.edited_at.map_or(Timestamp(0), |at| Timestamp(at.0 + 1));
        let time = now.max(before.at).max(rising);
        let record = &mut self.rooms[at].record;
        record.deleted += u64::from(content.is_none());
        let said = &mut self.rooms[at].said[said];
        if is_held {
            let end = if content.is_some() { VersionEnd::Edited } else { VersionEnd::Deleted };
            let by = author.user.clone();
            said.withheld.push(WithheldVersion { content: before.content.clone(), until: time, by, change: end });
        }
        let by = (before.sender != author.user).then(|| author.user.clone());
        let is_spoken_of = by.is_some();
        match &content {
            Some(content) => {
                (said.message.content, said.message.edited_at) = (content.clone(), Some(time));
                said.message.edited_by = by;
            }
            None => {
                (said.message.content, said.message.deleted_at) = (String::new(), Some(time));
                said.message.deleted_by = by;
            }
        }
        let supersedes = std::mem::replace(&mut said.change, id);
        let message = Arc::new(Message { room: room.clone(), ..said.message.clone() });
        self.feed.push(match content {
            Some(_) => Change::Edited { id, message, supersedes },
            None => Change::Deleted { id, message, supersedes },
        });
        if is_spoken_of {
            self.know(&author.user);
        }
        let changed = MessageChanged { message_id, at: time, duplicate: false };
        self.keep(key, First::Changed(changed.clone()));
        Ok(changed)
    }

    fn take_part(&mut self, at: usize, user: &UserId, from_seq: u64) {
        let no = self.know(user);
        self.rooms[at].members.entry(no).or_insert_with(|| Member::guest(from_seq)).left_at = None;
    }

    fn join(&mut self, op: JoinRoom) -> Result<(), Refusal> {
        let at = self.enter(&op.room, &op.author, op.policy)?;
        self.refuse_erasing(&op.author.user)?;
        if let Some(at) = at {
            self.take_part(at, &op.author.user, self.rooms[at].record.last_seq);
        }
        Ok(())
    }

    fn enlist(&mut self, op: EnlistMembers) {
        for user in op.users {
            let author = Author { user, name: String::new(), admin: false };
            if self.refuse_erasing(&author.user).is_ok()
                && let Ok(Some(at)) = self.enter(&op.room, &author, op.policy)
            {
                self.take_part(at, &author.user, 0);
            }
        }
    }

    fn leave(&mut self, op: &LeaveRoom) {
        if let (Some(no), Some(at)) = (self.find(&op.user), self.room_at(&op.room)) {
            let last_seq = self.rooms[at].record.last_seq;
            if let Some(member) = self.rooms[at].members.get_mut(&no).filter(|one| is_on_list(one, last_seq)) {
                member.left_at = Some(last_seq);
            }
        }
    }

    fn mark_read(&mut self, op: MarkRead) -> Result<ReadMark, Refusal> {
        let MarkRead { room, reader, message_id, policy } = op;
        let at = self.enter(&room, &reader, policy)?.ok_or(Refusal::NotFound)?;
        let said = self.rooms[at].said.iter().find(|one| one.message.id == message_id).ok_or(Refusal::NotFound)?;
        let seq = said.message.seq;
        self.refuse_erasing(&reader.user)?;
        let before = self.find(&reader.user).and_then(|no| self.rooms[at].members.get(&no).cloned());
        let before = before.unwrap_or_else(|| Member::guest(self.rooms[at].record.last_seq));
        let mark = |message_id| ReadMark { room: room.clone(), user: reader.user.clone(), message_id };
        if message_id <= before.read_up_to {
            return Ok(mark(before.read_up_to));
        }
        let (no, id) = (self.know(&reader.user), self.take_id());
        let member = Member { read_up_to: message_id, read_seq: seq, read_change: id, ..before };
        self.rooms[at].members.insert(no, member);
        self.feed.push(Change::Read { id, mark: mark(message_id) });
        Ok(mark(message_id))
    }

    // Progress.

    fn sync(&mut self, op: SyncProgress) -> Result<Vec<Synced>, Refusal> {
        // All of them or none: what is refused is found before anything is stored.
        for (n, report) in op.reports.iter().enumerate() {
            let is_other = |earlier: &Report| match (&earlier.key, &report.key) {
                (Some(one), Some(two)) => one.key == two.key && one.fingerprint != two.fingerprint,
                _ => false,
            };
            if op.reports[..n].iter().any(is_other) {
                return Err(Refusal::KeyReused);
            }
            if self.first(report.key.as_ref())?.is_none() {
                self.refuse_erasing(&report.user)?;
            }
        }
        op.reports.into_iter().map(|report| self.sync_one(report)).collect()
    }

    fn sync_one(&mut self, report: Report) -> Result<Synced, Refusal> {
        let Report { user, update, key } = report;
        if let Some(first) = self.first(key.as_ref())? {
            let First::Synced(first) = first else { panic!("a key of a report has another answer") };
            return Ok(Synced { duplicate: true, ..first });
        }
        let (of, now) = (self.know(&user), self.now);
        let lesson = self.lesson_ids.iter().position(|one| *one == update.lesson).unwrap_or_else(|| {
            self.lesson_ids.push(update.lesson.clone());
            self.lesson_ids.len() - 1
        });
        let id = self.take_id();
        let is_held = self.holds.iter().any(|hold| hold.subject == Subject::User(user.clone()));
        let known = self.lessons.iter().position(|one| (one.of, one.lesson) == (of, lesson));
        let at = known.unwrap_or_else(|| {
            self.lessons.push(Lesson { of, lesson, change: 0, versions: Vec::new() });
            self.lessons.len() - 1
        });
        let known = &mut self.lessons[at];
        known.change = id;
        let before = known.versions.last();
        let merged = update.base_version.is_some_and(|base| before.is_some_and(|before| base < before.version));
        let share = match before {
            Some(before) if before.progress.value() > update.progress.value() => before.progress,
            _ => update.progress,
        };
        // A full share is completed whatever is said of it, and completed stays completed.
        let said = update.status.unwrap_or(Status::NotStarted);
        let shown = match update.progress.value() {
            share if share >= 100.0 => Status::Completed,
            share if share > 0.0 => Status::InProgress,
            _ => Status::NotStarted,
        };
        let status = said.max(shown).max(before.map_or(Status::NotStarted, |before| before.status));
        let progress = Progress {
            user,
            lesson: update.lesson,
            progress: share,
            time_spent: before.map_or(0, |before| before.time_spent) + u64::from(update.time_spent),
            status,
            version: before.map_or(0, |before| before.version) + 1,
            course: update.course.or_else(|| before?.course.clone()),
            module: update.module.or_else(|| before?.module.clone()),
            updated_at: now,
            completed_at: before.and_then(|one| one.completed_at).or((status == Status::Completed).then_some(now)),
        };
        known.versions.push(progress.clone());
        if !is_held {
            known.versions.retain(|one| one.version + VERSIONS > progress.version);
        }
        self.feed.push(Change::Progressed { id, progress: progress.clone() });
        let synced = Synced { progress, duplicate: false, merged };
        self.keep(key, First::Synced(synced.clone()));
        Ok(synced)
    }

    // Notifications and people.

    fn notify(&mut self, op: Notify) -> Result<Notified, Refusal> {
        if let Some(first) = self.first(op.key.as_ref())? {
            let First::Notified(id) = first else { panic!("a key of a notification has another answer") };
            // One that was purged since is stored anew.
            if let Some(notification) = self.notifications.iter().find(|one| one.id == id) {
                return Ok(Notified { notification: notification.clone(), duplicate: true });
            }
        }
        let NotificationDraft { audience, body } = op.draft;
        if let Audience::Users(users) = &audience {
            for user in users {
                self.know(user);
            }
        }
        let notification = Notification { id: self.take_id(), audience, body, at: self.now, read: false };
        self.notifications.push(notification.clone());
        self.feed.push(Change::Notified(notification.clone()));
        self.keep(op.key, First::Notified(notification.id));
        Ok(Notified { notification, duplicate: false })
    }

    /// What is in somebody's inbox, oldest first, as they see it.
    fn in_inbox(&self, user: &UserId, roles: &[Role]) -> Vec<Notification> {
        let person = self.find(user).map(|no| &self.people[&no]);
        let is_there = |one: &&Notification| {
            let Some(person) = person else { return false };
            let is_since = person.first.is_some_and(|(id, _)| one.id >= id);
            let is_theirs = match &one.audience {
                Audience::Users(users) => users.contains(user),
                Audience::Role(role) => is_since && roles.contains(role),
                Audience::All => is_since,
            };
            let marks = person.marks.get(&kind_of(&one.audience)).copied().unwrap_or_default();
            is_theirs && one.id > marks.deleted && !person.deleted.contains(&one.id)
        };
        let as_seen = |one: &Notification| {
            let person = person.unwrap();
            let marks = person.marks.get(&kind_of(&one.audience)).copied().unwrap_or_default();
            Notification { read: one.id <= marks.read || person.read.contains(&one.id), ..one.clone() }
        };
        self.notifications.iter().filter(is_there).map(as_seen).collect()
    }

    fn unread(&self, user: &UserId, roles: &[Role]) -> u64 {
        self.in_inbox(user, roles).iter().filter(|one| !one.read).count() as u64
    }

    fn mark_inbox(&mut self, op: MarkInbox) -> Marked {
        let MarkInbox { user, roles, selection, action, origin } = op;
        let (last, there, before) = (self.last_id, self.in_inbox(&user, &roles), self.unread(&user, &roles));
        let nothing = Marked { ids: Vec::new(), unread: before };
        if self.find(&user).is_none() {
            return nothing;
        }
        let (ids, selection) = match selection {
            Selection::Ids(ids) => {
                let is_meant =
                    |one: &&Notification| ids.contains(&one.id) && (action == InboxAction::Delete || !one.read);
                let ids: Vec<u64> = there.iter().filter(is_meant).map(|one| one.id).collect();
                if ids.is_empty() {
                    return nothing;
                }
                let person = self.person_mut(&user).unwrap();
                match action {
                    InboxAction::Read => person.read.extend(&ids),
                    InboxAction::Delete => person.deleted.extend(&ids),
                }
                (ids.clone(), Selection::Ids(ids))
            }
            Selection::All { up_to } => {
                let end = up_to.unwrap_or(last).min(last);
                let is_meant = |one: &Notification| one.id <= end && (action == InboxAction::Delete || !one.read);
                if !there.iter().any(is_meant) {
                    return nothing;
                }
                let person = self.person_mut(&user).unwrap();
                let kinds = roles.iter().map(|role| AudienceKind::Role(*role));
                for kind in kinds.chain([AudienceKind::Named, AudienceKind::All]) {
                    let marks = person.marks.entry(kind).or_default();
                    match action {
                        InboxAction::Read => marks.read = marks.read.max(end),
                        InboxAction::Delete => marks.deleted = marks.deleted.max(end),
                    }
                }
                if up_to.is_none() {
                    // What was told before says no more than this.
                    person.inbox_changes.retain(|one| action == InboxAction::Read && one.2 == InboxAction::Delete);
                }
                (Vec::new(), Selection::All { up_to })
            }
        };
        let (id, unread) = (self.take_id(), self.unread(&user, &roles));
        self.person_mut(&user).unwrap().inbox_changes.push((id, selection.clone(), action));
        self.feed.push(Change::InboxChanged { id, user, selection, action, unread, origin });
        Marked { ids, unread }
    }

    fn arrive(&mut self, op: Arrive) -> Result<(), Refusal> {
        self.refuse_erasing(&op.user)?;
        let (next, now, no) = (self.last_id + 1, self.now, self.know(&op.user));
        let person = self.people.get_mut(&no).unwrap();
        let is_same = person.first.is_some() && (&person.name, &person.roles) == (&op.name, &op.roles);
        person.first.get_or_insert((next, now));
        (person.id, person.name, person.roles) = (op.user, op.name, op.roles);
        if !is_same || now >= person.last_seen.plus(Arrive::RETURN) {
            person.last_seen = person.last_seen.max(now);
        }
        Ok(())
    }

    fn send(&mut self, op: SendBroadcast) -> Result<BroadcastSent, Refusal> {
        if let Some(first) = self.first(op.key.as_ref())? {
            let First::Sent(sockets) = first else { panic!("a key of a broadcast has another answer") };
            return Ok(BroadcastSent { sockets, duplicate: true });
        }
        let id = self.take_id();
        self.outbox.push((id, op.broadcast.clone()));
        self.feed.push(Change::Broadcast { id, broadcast: op.broadcast });
        self.keep(op.key, First::Sent(op.sockets));
        Ok(BroadcastSent { sockets: op.sockets, duplicate: false })
    }

    // Access.

    fn ban(&mut self, banned: Banned) {
        let standing = self.bans.iter().find(|one| one.ban == banned.ban).cloned();
        let due = self.now.min(self.clock);
        self.bans.retain(|one| one.until.is_none_or(|until| until > due) && one.ban != banned.ban);
        let banned = match standing {
            Some(standing) => Banned {
                before: banned.before.max(standing.before),
                until: banned.until.and_then(|until| Some(until.max(standing.until?))),
                ..banned
            },
            None => banned,
        };
        self.bans.push(banned.clone());
        let id = self.take_id();
        self.feed.push(Change::Banned { id, banned });
    }

    fn create(&mut self, draft: RoomDraft) -> Result<RoomRecord, Refusal> {
        if self.room_at(&draft.id).is_some() {
            return Err(Refusal::Conflict);
        }
        let at = self.register(draft.id.clone(), draft.private, draft.name);
        for (user, membership) in draft.members {
            let no = self.know(&user);
            self.rooms[at].members.insert(no, Member { membership, ..Member::guest(0) });
        }
        self.tell_room(at, draft.id);
        Ok(self.rooms[at].record.clone())
    }

    fn patch(&mut self, op: PatchRoom) -> Result<RoomRecord, Refusal> {
        let at = self.room_at(&op.room).ok_or(Refusal::NotFound)?;
        let room = &mut self.rooms[at];
        for member in room.members.values_mut().filter(|_| op.patch.admit_guests) {
            member.membership = member.membership.max(Membership::Member);
        }
        if let Some(name) = op.patch.name {
            room.record.name = if name.is_empty() { None } else { Some(name) };
        }
        if let Some(private) = op.patch.private {
            room.record.private = private;
        }
        self.tell_room(at, op.room);
        Ok(self.rooms[at].record.clone())
    }

    fn tell_room(&mut self, at: usize, room: RoomId) {
        let (id, record) = (self.take_id(), self.rooms[at].record.clone());
        let members = self.rooms[at].members.iter().filter(|(_, one)| one.membership != Membership::Guest);
        let admitted = members.map(|(no, _)| self.people[no].id.clone()).collect();
        let admitted = record.private.then(|| Arc::new(admitted));
        self.feed.push(Change::RoomChanged { id, room: RoomRecord { id: room, ..record }, admitted });
    }

    fn set_member(&mut self, op: SetMember) -> Result<Option<Membership>, Refusal> {
        let SetMember { room, user, membership } = op;
        let at = self.room_at(&room).ok_or(Refusal::NotFound)?;
        self.refuse_erasing(&user)?;
        let (no, id, before) = (self.know(&user), self.take_id(), self.membership(&room, &user));
        let last_seq = self.rooms[at].record.last_seq;
        self.rooms[at].members.entry(no).or_insert_with(|| Member::guest(last_seq)).membership = membership;
        self.feed.push(Change::MemberSet { id, room, user, membership });
        Ok(before)
    }

    fn remove_member(&mut self, op: RemoveMember) -> Result<Membership, Refusal> {
        let RemoveMember { room, user } = op;
        let at = self.room_at(&room).ok_or(Refusal::NotFound)?;
        let no = self.find(&user).ok_or(Refusal::NotFound)?;
        let member = self.rooms[at].members.remove(&no).ok_or(Refusal::NotFound)?;
        let id = self.take_id();
        self.feed.push(Change::MemberRemoved { id, room, user });
        Ok(member.membership)
    }

    fn remove_room(&mut self, room: RoomId) -> Result<RoomRecord, Refusal> {
        let at = self.room_at(&room).ok_or(Refusal::NotFound)?;
        self.refuse_held(|subject| match subject {
            Subject::Room(held) => *held == room,
            Subject::User(user) => self.find(user).is_some_and(|no| self.is_in(no, at)),
        })?;
        let id = self.take_id();
        let place = self.rooms.iter().filter_map(|one| one.removal).max().map_or(0, |last| last + 1);
        let gone = &mut self.rooms[at];
        (gone.removal, gone.members) = (Some(place), BTreeMap::new());
        self.feed.push(Change::RoomRemoved { id, room });
        Ok(self.rooms[at].record.clone())
    }

    /// Whether somebody takes part in a room, or has written in it.
    fn is_in(&self, no: u64, at: usize) -> bool {
        self.rooms[at].members.contains_key(&no) || self.rooms[at].authors.contains(&no)
    }

    fn remove_messages(&mut self, limit: usize) -> bool {
        let removed = (0..self.rooms.len()).filter(|at| self.rooms[*at].removal.is_some());
        let Some(at) = removed.min_by_key(|at| self.rooms[*at].removal) else { return true };
        let limit = limit.max(1);
        let count = self.rooms[at].said.len().min(limit);
        for said in self.rooms[at].said.drain(..count).collect::<Vec<_>>() {
            self.rooms[at].authors.remove(&said.by);
        }
        if count < limit {
            self.rooms.remove(at);
        }
        count < limit && !self.rooms.iter().any(|one| one.removal.is_some())
    }

    // Holds, erasures, purges.

    fn is_held(&self, by: u64, at: usize) -> bool {
        self.holds.iter().any(|hold| match &hold.subject {
            Subject::User(user) => self.find(user) == Some(by),
            Subject::Room(room) => self.room_at(room) == Some(at),
        })
    }

    fn refuse_held(&self, stands_against: impl Fn(&Subject) -> bool) -> Result<(), Refusal> {
        let against = self.holds.iter().filter(|hold| stands_against(&hold.subject));
        let against: Vec<String> = against.map(|hold| format!("{} ({})", hold.subject, hold.reason)).collect();
        if against.is_empty() { Ok(()) } else { Err(Refusal::Held(against.join(", "))) }
    }

    fn hold(&mut self, mut hold: Hold) -> Result<StandingHold, Refusal> {
        let mut under_way: Vec<_> = self.erasures.iter().filter(|one| one.finished_at.is_none()).collect();
        under_way.sort_by_key(|erasure| erasure.user.canonical());
        for erasure in under_way {
            let is_touched = match &hold.subject {
                Subject::User(user) => *user == erasure.user,
                Subject::Room(room) => match (self.room_at(room), self.find(&erasure.user)) {
                    (Some(at), Some(no)) => self.rooms[at].authors.contains(&no),
                    _ => false,
                },
            };
            if is_touched {
                return Err(Refusal::Erasing(erasure.user.clone()));
            }
        }
        let removed = self.rooms.iter().filter(|one| one.removal.is_some());
        let too_late = match &hold.subject {
            Subject::Room(room) => removed.map(|one| &one.record.id).find(|removed| *removed == room),
            // In the order in which they wrote.
            Subject::User(user) => self.find(user).and_then(|no| {
                let said = removed.flat_map(|room| room.said.iter().map(move |said| (said, &room.record.id)));
                said.filter(|(said, _)| said.by == no).min_by_key(|(said, _)| said.message.id).map(|(_, room)| room)
            }),
        };
        if let Some(room) = too_late {
            return Err(Refusal::Removing(room.clone()));
        }
        let standing: Vec<&Hold> = self.holds.iter().filter(|one| one.subject == hold.subject).collect();
        if standing.is_empty() && self.is_unsettled {
            return Err(Refusal::Unsettled);
        }
        if let Some(same) = standing.into_iter().find(|one| one.reason == hold.reason) {
            return Ok(StandingHold { hold: same.clone(), is_new: false });
        }
        self.holds_given += 1;
        hold.number = self.holds_given;
        self.holds.push(hold.clone());
        let name = |hold: &Hold| match &hold.subject {
            Subject::Room(room) => (0, room.canonical(), hold.number),
            Subject::User(user) => (1, user.canonical(), hold.number),
        };
        self.holds.sort_by_key(name);
        let id = self.take_id();
        self.feed.push(Change::HoldSet { id, hold: hold.clone() });
        Ok(StandingHold { hold, is_new: true })
    }

    fn release(&mut self, subject: Subject, number: Option<u64>) -> Result<Hold, Refusal> {
        let is_meant = |one: &Hold| one.subject == subject && number.is_none_or(|number| one.number == number);
        let meant: Vec<&Hold> = self.holds.iter().filter(|one| is_meant(one)).collect();
        if meant.len() > 1 {
            let named: Vec<String> = meant.iter().map(|one| format!("hold {} ({})", one.number, one.reason)).collect();
            return Err(Refusal::SeveralHolds(named.join(", ")));
        }
        let at = self.holds.iter().position(is_meant).ok_or(Refusal::NotFound)?;
        let hold = self.holds.remove(at);
        self.is_unsettled |= self.rooms.iter().any(|room| room.said.iter().any(|said| !said.withheld.is_empty()));
        let id = self.take_id();
        self.feed.push(Change::HoldReleased { id, subject });
        Ok(hold)
    }

    fn prune(&mut self) {
        if std::mem::take(&mut self.is_unsettled) {
            for at in 0..self.rooms.len() {
                for said in 0..self.rooms[at].said.len() {
                    if !self.is_held(self.rooms[at].said[said].by, at) {
                        self.rooms[at].said[said].withheld.clear();
                    }
                }
            }
        }
    }

    fn begin_erasure(&mut self, op: BeginErasure) -> Result<ErasureBegun, Refusal> {
        let BeginErasure { user, by, consent, floor, is_dry_run } = op;
        let before = self.erasures.iter().position(|one| one.user == user);
        let as_before = |model: &Model| {
            let erasure = model.erasures[before.ok_or(Refusal::NotFound)?].clone();
            Ok(ErasureBegun { erasure, is_new: false })
        };
        let Some(no) = self.find(&user) else { return as_before(self) };
        if before.is_some_and(|at| self.erasures[at].finished_at.is_none()) {
            return as_before(self);
        }
        self.refuse_held(|subject| match subject {
            Subject::User(held) => *held == user,
            Subject::Room(room) => self.room_at(room).is_some_and(|at| self.is_in(no, at)),
        })?;
        if before.is_some() && self.has_nothing(no) {
            if !is_dry_run {
                self.forget(no);
            }
            return as_before(self);
        }
        let is_young = |at: Timestamp| at.0 + floor.as_millis() as u64 > self.now.0;
        if !floor.is_zero() && !consent && self.newest_of(no).is_some_and(is_young) {
            return Err(Refusal::BelowFloor);
        }
        let erasure = Erasure {
            user: user.clone(),
            at: self.now,
            by,
            consent,
            finished_at: None,
            counts: ErasureCounts::default(),
        };
        if is_dry_run {
            return Ok(ErasureBegun { erasure, is_new: false });
        }
        before.into_iter().for_each(|at| drop(self.erasures.remove(at)));
        self.erasures.push(erasure.clone());
        self.erasures.sort_by_key(|one| one.user.canonical());
        let id = self.take_id();
        self.feed.push(Change::Erased { id, user, is_finished: false });
        Ok(ErasureBegun { erasure, is_new: true })
    }

    fn said_by(&self, no: u64) -> impl Iterator<Item = &Said> {
        self.rooms.iter().flat_map(|room| &room.said).filter(move |said| said.by == no)
    }

    /// The notifications that name somebody or that they have marked one by one.
    fn own_notifications(&self, no: u64) -> Vec<&Notification> {
        let person = &self.people[&no];
        let is_own = |one: &&Notification| {
            let is_named = matches!(&one.audience, Audience::Users(users) if users.contains(&person.id));
            is_named || person.read.contains(&one.id) || person.deleted.contains(&one.id)
        };
        self.notifications.iter().filter(is_own).collect()
    }

    fn has_nothing(&self, no: u64) -> bool {
        !self.rooms.iter().any(|room| room.members.contains_key(&no) || room.authors.contains(&no))
            && self.said_by(no).next().is_none()
            && !self.lessons.iter().any(|one| one.of == no)
            && self.own_notifications(no).is_empty()
            && self.people[&no].inbox_changes.is_empty()
            && !self.answers.iter().any(|one| one.caller == no)
    }

    fn newest_of(&self, no: u64) -> Option<Timestamp> {
        let said = self.said_by(no).map(|one| one.message.at);
        let learned = self.lessons.iter().filter(|one| one.of == no).map(|one| one.versions.last().unwrap().updated_at);
        said.chain(learned).chain(self.own_notifications(no).iter().map(|one| one.at)).max()
    }

    fn erase(&mut self, op: EraseSlice) -> Result<ErasureStep, Refusal> {
        let user = op.user;
        let under_way = self.erasures.iter().position(|one| one.user == user && one.finished_at.is_none());
        let erasure = under_way.ok_or(Refusal::NotFound)?;
        let mut counts = ErasureCounts::default();
        if let Some(no) = self.find(&user) {
            counts.messages = self.erase_messages(no);
            for room in &mut self.rooms {
                counts.memberships += u64::from(room.members.remove(&no).is_some());
                room.authors.remove(&no);
            }
            let lessons = self.lessons.iter().filter(|one| one.of == no);
            (counts.lessons, counts.versions) =
                lessons.fold((0, 0), |(lessons, versions), one| (lessons + 1, versions + one.versions.len() as u64));
            self.lessons.retain(|one| one.of != no);
            let names = |one: &Notification| matches!(&one.audience, Audience::Users(users) if users.contains(&user));
            counts.notifications = self.notifications.iter().filter(|one| names(one)).count() as u64;
            let marked = self.own_notifications(no).into_iter().filter(|one| !names(one)).count();
            counts.inbox = (marked + self.people[&no].inbox_changes.len()) as u64;
            self.notifications.retain_mut(|one| match &mut one.audience {
                Audience::Users(users) if users.contains(&user) => {
                    users.retain(|other| *other != user);
                    !users.is_empty()
                }
                _ => true,
            });
            counts.answers = self.answers.iter().filter(|one| one.caller == no).count() as u64;
            self.answers.retain(|one| one.caller != no);
            self.forget(no);
        }
        self.erasures[erasure].finished_at = Some(self.now);
        self.erasures[erasure].counts = counts;
        self.record(&op.act, &format!("done: {} things, certificate ", counts.total()));
        let id = self.take_id();
        self.feed.push(Change::Erased { id, user, is_finished: true });
        Ok(ErasureStep { counts, is_finished: true })
    }

    /// Of whoever is erased nothing is left, neither as one who has changed what others wrote.
    fn forget(&mut self, no: u64) {
        let Some(person) = self.people.remove(&no) else { return };
        for said in self.rooms.iter_mut().flat_map(|room| &mut room.said) {
            for by in [&mut said.message.edited_by, &mut said.message.deleted_by] {
                if by.as_ref().is_some_and(|by| by.canonical() == person.id.canonical()) {
                    *by = Some(UserId::erased());
                }
            }
            for version in &mut said.withheld {
                if version.by.canonical() == person.id.canonical() {
                    version.by = UserId::erased();
                }
            }
        }
    }

    /// Their messages become tombstones of nobody, in the order of their ids.
    fn erase_messages(&mut self, no: u64) -> u64 {
        let mut ids: Vec<u64> = self.said_by(no).map(|one| one.message.id).collect();
        ids.sort_unstable();
        for id in &ids {
            let (nobody, change, now) = (self.know(&UserId::erased()), self.take_id(), self.now);
            let room = self.rooms.iter_mut().find(|room| room.said.iter().any(|said| said.message.id == *id)).unwrap();
            let said = room.said.iter_mut().find(|said| said.message.id == *id).unwrap();
            let was_deleted = said.message.deleted_at;
            said.by = nobody;
            said.withheld.clear();
            said.message = Message {
                room: room.record.id.clone(),
                sender: UserId::erased(),
                sender_name: String::new(),
                content: String::new(),
                client_id: None,
                edited_at: None,
                edited_by: None,
                deleted_by: None,
                deleted_at: was_deleted.or(Some(now.max(said.message.at))),
                ..said.message.clone()
            };
            let (message, supersedes) = (Arc::new(said.message.clone()), said.change);
            room.names.retain(|(_, _, named)| named != id);
            let told = if was_deleted.is_some() {
                Change::Anonymised { id: change, message, supersedes }
            } else {
                said.change = change;
                room.record.deleted += 1;
                Change::Deleted { id: change, message, supersedes }
            };
            // Of a room that is gone nobody is told.
            if room.removal.is_none() {
                self.feed.push(told);
            }
        }
        ids.len() as u64
    }

    fn purge(&mut self, op: Purge) -> PurgeStep {
        let Purge { kind, before, cursor, act, .. } = op;
        if kind == PurgeKind::Notifications && cursor.place > 0 {
            return self.sweep(&act, cursor);
        }
        let mut gone = Vec::new();
        let (purged, held) = match kind {
            PurgeKind::Chat => self.purge_chat(before, &mut gone),
            PurgeKind::Notifications => self.purge_notifications(before, &mut gone),
            PurgeKind::Audit => self.purge_records(before),
        };
        if purged > 0 {
            self.record(&act, "begun");
            if kind != PurgeKind::Notifications {
                self.record(&act, &format!("done: {purged} purged, {held} held"));
            }
        }
        if !gone.is_empty() {
            let id = self.take_id();
            self.feed.push(Change::Purged { id, ids: gone });
        }
        // What people have marked of notifications is swept away behind them.
        let next =
            (kind == PurgeKind::Notifications).then_some(PurgeCursor { place: u64::MAX, purged, held, ..cursor });
        PurgeStep { purged, held, unforwarded: 0, next }
    }

    fn purge_chat(&mut self, before: Timestamp, gone: &mut Vec<u64>) -> (u64, u64) {
        let (mut purged, mut held, now) = (0, 0, self.now);
        for at in 0..self.rooms.len() {
            if self.rooms[at].removal.is_some() {
                continue;
            }
            if self.holds.iter().any(|hold| hold.subject == Subject::Room(self.rooms[at].record.id.clone())) {
                held += 1;
                continue;
            }
            let said = std::mem::take(&mut self.rooms[at].said);
            let mut stays = Vec::new();
            for mut one in said {
                if one.stored_at >= before {
                    stays.push(one);
                    continue;
                }
                if self.is_held(one.by, at) {
                    held += 1;
                    stays.push(one);
                    continue;
                }
                gone.push(one.message.id);
                gone.extend(Some(one.change).filter(|change| *change > 0));
                let (was_deleted, room) = (one.message.deleted_at.is_some(), &mut self.rooms[at]);
                room.names.retain(|(_, _, named)| *named != one.message.id);
                if stays.is_empty() {
                    purged += 1;
                    room.record.purged_seq = one.message.seq;
                    room.record.deleted -= u64::from(was_deleted);
                } else {
                    // It keeps its place behind one that is held.
                    if !was_deleted {
                        purged += 1;
                        room.record.deleted += 1;
                        (one.change, one.message.deleted_at) = (0, Some(now));
                        one.message.content.clear();
                        one.withheld.clear();
                    }
                    stays.push(one);
                }
            }
            let room = &mut self.rooms[at];
            room.said = stays;
            let (members, said) = (&room.members, &room.said);
            room.authors.retain(|no| members.contains_key(no) || said.iter().any(|one| one.by == *no));
        }
        (purged, held)
    }

    fn purge_notifications(&mut self, before: Timestamp, gone: &mut Vec<u64>) -> (u64, u64) {
        let users = self.holds.iter().filter_map(|hold| match &hold.subject {
            Subject::User(user) => self.find(user),
            Subject::Room(_) => None,
        });
        let kept: BTreeSet<u64> = users.flat_map(|no| self.own_notifications(no)).map(|one| one.id).collect();
        let old = self.notifications.iter().filter(|one| one.at < before);
        let (held, old): (Vec<u64>, Vec<u64>) = old.map(|one| one.id).partition(|id| kept.contains(id));
        self.notifications.retain(|one| !old.contains(&one.id));
        gone.extend(&old);
        (old.len() as u64, held.len() as u64)
    }

    fn sweep(&mut self, act: &Act, cursor: PurgeCursor) -> PurgeStep {
        let oldest = self.notifications.first().map_or(0, |one| one.id);
        let is_there = |id: &u64| self.notifications.iter().any(|one| one.id == *id);
        for person in self.people.values_mut() {
            person.inbox_changes.retain(|one| one.0 >= oldest);
            person.read.retain(is_there);
            person.deleted.retain(is_there);
        }
        if cursor.purged > 0 {
            self.record(act, &format!("done: {} purged, {} held", cursor.purged, cursor.held));
        }
        PurgeStep::default()
    }

    fn purge_records(&mut self, before: Timestamp) -> (u64, u64) {
        let old = self.records.iter().rposition(|one| one.at < before).map_or(0, |at| at + 1);
        if !self.holds.is_empty() {
            return (0, old as u64);
        }
        self.records.drain(..old);
        self.purged_records += old as u64;
        (old as u64, 0)
    }

    fn record(&mut self, act: &Act, outcome: &str) {
        let Act { actor, origin, action, target, note } = act.clone();
        let outcome = if note.is_empty() { outcome.to_owned() } else { format!("{outcome}: {note}") };
        self.keep_record(AuditEntry { at: self.now, actor, origin, action: action.to_owned(), target, outcome });
    }

    fn number(&self) -> u64 {
        self.purged_records + self.records.len() as u64
    }

    fn keep_record(&mut self, entry: AuditEntry) {
        self.records.push(entry.clone());
        let id = self.take_id();
        self.feed.push(Change::Recorded { id, record: unchained(self.number(), entry) });
    }
}

/// What readers see.
impl Model {
    pub fn history(
        &self,
        room: &RoomId,
        viewer: &Author,
        page: &Page,
        policy: RoomPolicy,
    ) -> Result<MessagePage, Refusal> {
        let at = self.enter(room, viewer, policy)?;
        if page.after.is_some_and(|after| after > self.last_id) {
            return Err(Refusal::Resync);
        }
        let Some(at) = at else { return Ok(MessagePage { is_settled: true, ..MessagePage::default() }) };
        let Room { record, said, members, .. } = &self.rooms[at];
        let (low, high) = (page.after.unwrap_or(0), page.before.unwrap_or(u64::MAX));
        let found = said.iter().map(|one| &one.message).filter(|one| one.id > low && one.id < high);
        let found: Vec<Message> = found.map(|one| Message { room: room.clone(), ..one.clone() }).collect();
        let count = found.len().min(page.limit);
        let from = if page.after.is_some() { 0 } else { found.len() - count };
        let member = self.find(&viewer.user).and_then(|no| members.get(&no));
        Ok(MessagePage {
            has_more: found.len() > count,
            messages: found[from..from + count].to_vec(),
            last_id: record.last_id,
            last_seq: record.last_seq,
            read_up_to: member.map_or(0, |one| one.read_up_to),
            is_settled: member.is_some_and(|one| one.left_at.is_none()),
            state: record.state,
            membership: member.map(|one| one.membership),
        })
    }

    pub fn withheld(&self, room: &RoomId) -> Vec<(u64, Vec<WithheldVersion>)> {
        let Some(at) = self.room_at(room) else { return Vec::new() };
        let shown = self.rooms[at].said.iter().filter(|one| !one.withheld.is_empty() && self.is_held(one.by, at));
        shown.map(|one| (one.message.id, one.withheld.clone())).collect()
    }

    fn summary(&self, at: usize, member: &Member) -> RoomSummary {
        let Room { record, said, .. } = &self.rooms[at];
        let behind = member.read_seq.max(member.from_seq);
        let is_unread = |one: &&Said| one.message.seq > behind && one.message.deleted_at.is_none();
        RoomSummary {
            room: record.clone(),
            membership: member.membership,
            read_up_to: member.read_up_to,
            unread: said.iter().filter(is_unread).count() as u64,
        }
    }

    /// All rooms that somebody takes part in, in the order of their registration, and whether each is on their list.
    fn memberships(&self, user: &UserId) -> Vec<(RoomSummary, bool)> {
        let Some(no) = self.find(user) else { return Vec::new() };
        let rooms = self.rooms.iter().enumerate().filter_map(|(at, room)| Some((at, room.members.get(&no)?)));
        rooms.map(|(at, one)| (self.summary(at, one), is_on_list(one, self.rooms[at].record.last_seq))).collect()
    }

    pub fn rooms_of(&self, user: &UserId) -> Vec<RoomSummary> {
        let mut rooms: Vec<RoomSummary> =
            self.memberships(user).into_iter().filter(|one| one.1).map(|one| one.0).collect();
        rooms.sort_by_key(|one| (std::cmp::Reverse(one.room.last_id), one.room.id.canonical()));
        rooms
    }

    pub fn progress(&self, user: &UserId, filter: &LessonFilter) -> Result<(Vec<Progress>, u64), Refusal> {
        if filter.since.is_some_and(|since| since > self.last_id) {
            return Err(Refusal::Resync);
        }
        let no = self.find(user);
        let mut found: Vec<&Lesson> = self.lessons.iter().filter(|one| Some(one.of) == no).collect();
        found.sort_by_key(|one| one.change);
        let is_asked = |one: &&Lesson| {
            let known = one.versions.last().unwrap();
            one.change > filter.since.unwrap_or(0)
                && filter.lesson.as_ref().is_none_or(|lesson| *lesson == known.lesson)
                && (filter.course.is_none() || filter.course == known.course)
        };
        let found = found.into_iter().filter(is_asked).map(|one| one.versions.last().unwrap().clone());
        Ok((found.collect(), self.last_id))
    }

    pub fn progress_history(&self, user: &UserId, lesson: &LessonId) -> Vec<Progress> {
        let no = self.find(user);
        let known = self.lessons.iter().find(|one| Some(one.of) == no && self.lesson_ids[one.lesson] == *lesson);
        known.map_or_else(Vec::new, |one| one.versions.clone())
    }

    pub fn inbox(&self, user: &UserId, roles: &[Role], query: &academy_rt::store::InboxQuery) -> InboxPage {
        let mut items = self.in_inbox(user, roles);
        items.retain(|one| one.id < query.before.unwrap_or(u64::MAX) && !(query.unread_only && one.read));
        items.reverse();
        let has_more = items.len() > query.limit;
        items.truncate(query.limit);
        InboxPage { items, unread: self.unread(user, roles), has_more }
    }

    pub fn arrival(&self, user: &UserId, roles: &[Role], limit: usize) -> Arrival {
        let marks = self.find(user).map(|no| &self.people[&no].marks);
        let delivered = |one: &Notification| {
            marks.and_then(|marks| marks.get(&kind_of(&one.audience))).map_or(0, |marks| marks.delivered)
        };
        let mut undelivered = self.in_inbox(user, roles);
        undelivered.retain(|one| one.id > delivered(one));
        undelivered.truncate(limit);
        Arrival { unread: self.unread(user, roles), undelivered }
    }

    pub fn last_seen(&self, user: &UserId) -> Option<(String, Timestamp)> {
        let person = &self.people[&self.find(user)?];
        person.first.map(|_| (person.name.clone(), person.last_seen))
    }

    pub fn replay(
        &self,
        user: &UserId,
        roles: &[Role],
        rooms: &[RoomId],
        after: u64,
        limit: usize,
    ) -> Result<Replay, Refusal> {
        if after > self.last_id {
            return Err(Refusal::Resync);
        }
        let mut changes = Vec::new();
        for (n, room) in rooms.iter().enumerate().filter(|(n, room)| !rooms[..*n].contains(room)) {
            let Some(at) = self.room_at(&rooms[n]) else { continue };
            for one in &self.rooms[at].said {
                let message = Arc::new(Message { room: room.clone(), ..one.message.clone() });
                changes.push(Change::Posted { message: message.clone(), origin: None });
                if one.change > 0 {
                    changes.push(match message.deleted_at {
                        Some(_) => Change::Deleted { id: one.change, message, supersedes: 0 },
                        None => Change::Edited { id: one.change, message, supersedes: 0 },
                    });
                }
            }
            for (no, member) in self.rooms[at].members.iter().filter(|(_, one)| one.read_change > 0) {
                let (user, message_id) = (self.people[no].id.clone(), member.read_up_to);
                let mark = ReadMark { room: room.clone(), user, message_id };
                changes.push(Change::Read { id: member.read_change, mark });
            }
        }
        changes.extend(self.in_inbox(user, roles).into_iter().map(Change::Notified));
        if let Some(no) = self.find(user) {
            for one in self.lessons.iter().filter(|one| one.of == no) {
                changes.push(Change::Progressed { id: one.change, progress: one.versions.last().unwrap().clone() });
            }
            let unread = self.unread(user, roles);
            for (id, selection, action) in self.people[&no].inbox_changes.iter().cloned() {
                let user = user.clone();
                changes.push(Change::InboxChanged { id, user, selection, action, unread, origin: None });
            }
        }
        changes.retain(|one| one.id() > after);
        changes.sort_by_key(Change::id);
        let has_more = changes.len() > limit;
        changes.truncate(limit);
        let up_to = if has_more { changes.last().map_or(after, Change::id) } else { self.last_id };
        Ok(Replay { changes, up_to, has_more })
    }

    pub fn is_answered(&self, key: &RequestKey) -> bool {
        let caller = self.find(&key.caller);
        let is_that = |one: &Kept| Some(one.caller) == caller && (one.kind, &one.key) == (key.kind, &key.key);
        self.answers.iter().any(is_that)
    }

    /// What has expired is of no use to anybody, and goes some time.
    pub fn forget_expired(&mut self) {
        let due = self.now.min(self.clock);
        self.answers.retain(|one| one.until > due);
    }

    pub fn unsent(&self) -> &[(u64, Arc<Broadcast>)] {
        &self.outbox
    }

    /// The records behind a number, with their hashes left out.
    pub fn records(&self) -> Vec<AuditRecord> {
        let numbers = self.purged_records + 1..;
        numbers.zip(self.records.iter().cloned()).map(|(number, entry)| unchained(number, entry)).collect()
    }

    pub fn bans(&self) -> &[Banned] {
        &self.bans
    }

    pub fn holds(&self) -> &[Hold] {
        &self.holds
    }

    pub fn erasures(&self) -> &[Erasure] {
        &self.erasures
    }

    pub fn list_rooms(&self) -> ListPage<RoomEntry> {
        let there = self.rooms.iter().filter(|one| one.removal.is_none());
        let mut items: Vec<RoomEntry> =
            there.map(|one| RoomEntry { record: one.record.clone(), members: one.members.len() as u64 }).collect();
        items.sort_by_key(|one| one.record.id.canonical());
        ListPage { items, next: None }
    }

    pub fn members(&self, room: &RoomId) -> Result<MemberPage, Refusal> {
        let at = self.room_at(room).ok_or(Refusal::NotFound)?;
        let entry = |(no, one): (&u64, &Member)| MemberEntry {
            user: self.people[no].id.clone(),
            name: self.people[no].name.clone(),
            membership: one.membership,
            read_up_to: one.read_up_to,
        };
        Ok(MemberPage { members: self.rooms[at].members.iter().map(entry).collect(), next: None })
    }

    fn profile(&self, no: u64) -> UserProfile {
        let person = &self.people[&no];
        UserProfile {
            user: person.id.clone(),
            name: person.name.clone(),
            roles: person.roles.clone(),
            first_seen: person.first.map(|(_, at)| at),
            last_seen: person.first.map(|_| person.last_seen),
        }
    }

    pub fn list_people(&self) -> ListPage<UserProfile> {
        let mut items: Vec<UserProfile> = self.people.keys().map(|no| self.profile(*no)).collect();
        items.sort_by_key(|one| one.user.canonical());
        ListPage { items, next: None }
    }

    pub fn export(&self, user: &UserId) -> Result<Vec<UserItem>, Refusal> {
        let no = self.find(user).ok_or(Refusal::NotFound)?;
        let mut items = vec![UserItem::Profile(self.profile(no))];
        items.extend(self.memberships(user).into_iter().map(|(summary, _)| UserItem::Room(summary)));
        let mut said: Vec<(usize, &Said)> = Vec::new();
        for (at, room) in self.rooms.iter().enumerate() {
            said.extend(room.said.iter().filter(|one| one.by == no).map(|one| (at, one)));
        }
        said.sort_by_key(|(_, one)| one.message.id);
        for (at, one) in said {
            let message = Message { room: self.rooms[at].record.id.clone(), ..one.message.clone() };
            let versions = if self.is_held(no, at) { one.withheld.clone() } else { Vec::new() };
            items.push(UserItem::Message { message, versions });
        }
        let mut lessons: Vec<&Lesson> = self.lessons.iter().filter(|one| one.of == no).collect();
        lessons.sort_by_key(|one| one.lesson);
        items.extend(lessons.iter().map(|one| UserItem::Lesson(one.versions.last().unwrap().clone())));
        items.extend(lessons.iter().flat_map(|one| &one.versions).cloned().map(UserItem::Version));
        for one in self.own_notifications(no) {
            let person = &self.people[&no];
            let notification = Notification { read: person.read.contains(&one.id), ..one.clone() };
            items.push(UserItem::Notification {
                notification,
                is_deleted: person.deleted.contains(&one.id),
                read_at: None,
            });
        }
        let (name, subject) = (user.canonical(), format!("user {user}"));
        let is_about = |one: &AuditRecord| one.entry.actor == name || one.entry.target == subject;
        items.extend(self.records().into_iter().filter(is_about).map(UserItem::Audit));
        Ok(items)
    }

    /// The ids of the messages of a room.
    pub fn ids_in(&self, room: &RoomId) -> Vec<u64> {
        let at = self.room_at(room);
        at.map_or_else(Vec::new, |at| self.rooms[at].said.iter().map(|one| one.message.id).collect())
    }

    /// The ids of all notifications.
    pub fn notification_ids(&self) -> Vec<u64> {
        self.notifications.iter().map(|one| one.id).collect()
    }
}

/// Who has left a room has it on their list again with the next message if they were admitted to it.
fn is_on_list(member: &Member, last_seq: u64) -> bool {
    match member.left_at {
        None => true,
        Some(left_at) => member.membership != Membership::Guest && last_seq > left_at,
    }
}

fn kind_of(audience: &Audience) -> AudienceKind {
    match audience {
        Audience::Users(_) => AudienceKind::Named,
        Audience::Role(role) => AudienceKind::Role(*role),
        Audience::All => AudienceKind::All,
    }
}

/// A record whose hash is left out: the chain is looked at by itself.
pub fn unchained(number: u64, entry: AuditEntry) -> AuditRecord {
    AuditRecord { number, entry, hash: [0; 32] }
}

/// What the trail says of an act that was done; nothing if nothing was.
fn outcome(answer: &AnyAnswer) -> Option<String> {
    let is_repeat = match answer {
        AnyAnswer::PostMessage(posted) => posted.duplicate,
        AnyAnswer::EditMessage(changed) | AnyAnswer::DeleteMessage(changed) => changed.duplicate,
        AnyAnswer::Notify(notified) => notified.duplicate,
        AnyAnswer::SendBroadcast(sent) => sent.duplicate,
        AnyAnswer::BeginErasure(begun) => !begun.is_new,
        AnyAnswer::SetHold(set) => !set.is_new,
        _ => false,
    };
    let said = match answer {
        AnyAnswer::RemoveMember(before) => format!("done: was {}", format!("{before:?}").to_lowercase()),
        AnyAnswer::RemoveRoom(record) => format!("done: {} messages", record.last_seq),
        AnyAnswer::BeginErasure(_) => "begun".to_owned(),
        AnyAnswer::SetHold(set) => format!("done, hold {}", set.hold.number),
        AnyAnswer::ReleaseHold(hold) => format!("done, hold {}: {}", hold.number, hold.reason),
        _ => "done".to_owned(),
    };
    (!is_repeat).then_some(said)
}
