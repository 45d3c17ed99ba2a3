//! The seam, method by method, for the engine in memory.

use std::cmp::Reverse;
use std::sync::{MutexGuard, PoisonError};

use super::{First, Kind, Memory, State};
use crate::domain::chat::{Author, Draft, ReadMark, RoomPolicy, RoomSummary};
use crate::domain::notification::{Notification, NotificationDraft, Selection};
use crate::domain::progress::{Progress, Update};
use crate::domain::{Actor, LessonId, Refusal, RoomId, Timestamp, UserId};
use crate::store::rows::RowSink;
use crate::store::{
    Answer, AnswerKey, Answers, Arrival, Care, Change, Failing, Identity, Inbox, InboxAction, InboxPage, InboxQuery,
    LessonFilter, Lessons, MessageChange, MessagePage, Messages, Page, People, Posted, Replay, Replays, Rooms,
    StoreError, StoreStatus, Synced,
};

impl Memory {
    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn read<T: Send + 'static>(&self, read: impl FnOnce(&State) -> Result<T, Refusal>) -> Answer<'_, T> {
        let state = self.state();
        let answer = if state.closed { Err(StoreError::Closed) } else { read(&state).map_err(StoreError::Refused) };
        Box::pin(std::future::ready(answer))
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        write: impl FnOnce(&mut State, Timestamp) -> Result<(T, Vec<Change>), Refusal>,
    ) -> Answer<'_, T> {
        let mut state = self.state();
        let answer = if state.closed {
            Err(StoreError::Closed)
        } else {
            write(&mut state, self.clock.now()).map_err(StoreError::Refused).map(|(answer, changes)| {
                state.commits += 1;
                if !changes.is_empty() {
                    self.sink.committed(changes);
                }
                answer
            })
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Messages for Memory {
    fn append_message(&self, draft: Draft, policy: RoomPolicy) -> Answer<'_, Posted> {
        self.write(|state, now| state.append(draft, policy, now))
    }

    fn edit_message(&self, change: MessageChange, content: String, policy: RoomPolicy) -> Answer<'_, Timestamp> {
        self.write(|state, _| {
            let (room, message_id, at) = (change.room.clone(), change.message_id, change.at);
            let id = state.change(&change, policy, |message| {
                message.content.clone_from(&content);
                message.edited_at = Some(at);
            })?;
            Ok((at, vec![Change::Edited { id, room, message_id, content, at }]))
        })
    }

    fn delete_message(&self, change: MessageChange, policy: RoomPolicy) -> Answer<'_, Timestamp> {
        self.write(|state, _| {
            let (room, message_id, at) = (change.room.clone(), change.message_id, change.at);
            let id = state.change(&change, policy, |message| {
                message.content.clear();
                message.deleted_at = Some(at);
            })?;
            Ok((at, vec![Change::Deleted { id, room, message_id, at }]))
        })
    }

    fn history(&self, room: RoomId, viewer: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage> {
        self.read(|state| state.page(&room, &viewer, &page, policy))
    }
}

impl Rooms for Memory {
    fn may_enter(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, ()> {
        self.read(|state| state.enter(&room, &viewer, policy).map(|_| ()))
    }

    fn join_room(&self, room: RoomId, author: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage> {
        self.write(|state, _| {
            let answer = state.page(&room, &author, &page, policy)?;
            if let Some(found) = state.rooms.get_mut(&room.canonical()) {
                found.member(&author.user);
                state.people.entry(author.user.canonical()).or_default();
            }
            Ok((answer, Vec::new()))
        })
    }

    fn rooms_of(&self, user: UserId) -> Answer<'_, Vec<RoomSummary>> {
        self.read(|state| {
            let mut summaries = Vec::new();
            for room in state.rooms.values() {
                let Some(member) = room.members.get(&user.canonical()) else { continue };
                summaries.push(RoomSummary {
                    room: room.record.clone(),
                    membership: member.membership,
                    read_up_to: member.read_up_to,
                    unread: room.messages.keys().filter(|id| **id > member.read_up_to).count() as u64,
                });
            }
            summaries.sort_by_key(|one| (Reverse(one.room.last_id), one.room.id.canonical()));
            Ok(summaries)
        })
    }

    fn mark_read(&self, room: RoomId, reader: Author, message_id: u64, policy: RoomPolicy) -> Answer<'_, ReadMark> {
        self.write(|state, _| state.mark_read(&room, &reader, message_id, policy))
    }
}

impl Lessons for Memory {
    fn sync_progress(&self, user: UserId, updates: Vec<Update>, at: Timestamp) -> Answer<'_, Vec<Synced>> {
        self.write(|state, now| state.sync(&user, &updates, at, now, self.keep_versions))
    }

    fn progress(&self, user: UserId, filter: LessonFilter) -> Answer<'_, (Vec<Progress>, u64)> {
        self.read(|state| {
            let since = filter.since.unwrap_or(0);
            state.check_cursor(since)?;
            let mut found: Vec<(u64, Progress)> = Vec::new();
            for ((owner, _), lesson) in &state.lessons {
                let Some(last) = lesson.versions.last() else { continue };
                if *owner == user.canonical()
                    && lesson.change > since
                    && filter.lesson.as_ref().is_none_or(|wanted| *wanted == last.lesson)
                    && (filter.course.is_none() || filter.course == last.course)
                {
                    found.push((lesson.change, last.clone()));
                }
            }
            found.sort_by_key(|(change, _)| *change);
            Ok((found.into_iter().map(|(_, progress)| progress).collect(), state.last_id()))
        })
    }

    fn progress_history(&self, user: UserId, lesson: LessonId) -> Answer<'_, Vec<Progress>> {
        self.read(|state| {
            let found = state.lessons.get(&(user.canonical(), lesson.canonical()));
            Ok(found.map(|lesson| lesson.versions.clone()).unwrap_or_default())
        })
    }
}

impl Inbox for Memory {
    fn notify(&self, draft: NotificationDraft, key: Option<AnswerKey>) -> Answer<'_, (Notification, bool)> {
        self.write(|state, now| Ok(state.notify(draft, key.as_ref(), now)))
    }

    fn inbox(&self, viewer: Actor, query: InboxQuery) -> Answer<'_, InboxPage> {
        self.read(|state| {
            let mut items = state.inbox(&viewer);
            items.reverse();
            items.retain(|one| query.before.is_none_or(|before| one.id < before) && !(query.unread_only && one.read));
            let has_more = items.len() > query.limit;
            items.truncate(query.limit);
            Ok(InboxPage { items, unread: state.unread(&viewer), has_more })
        })
    }

    fn mark_inbox(
        &self,
        viewer: Actor,
        selection: Selection,
        action: InboxAction,
        origin: Option<u64>,
    ) -> Answer<'_, (Vec<u64>, u64)> {
        self.write(|state, _| Ok(state.mark_inbox(&viewer, &selection, action, origin)))
    }
}

impl People for Memory {
    fn arrive(&self, actor: Actor, at: Timestamp, limit: usize) -> Answer<'_, Arrival> {
        self.write(|state, _| Ok((state.arrive(&actor, at, limit), Vec::new())))
    }

    fn delivered(&self, marks: Vec<(UserId, u64)>) -> Answer<'_, ()> {
        self.write(|state, _| {
            let last = state.last_id();
            for (user, up_to) in marks {
                if let Some(person) = state.people.get_mut(&user.canonical()) {
                    person.delivered_up_to = person.delivered_up_to.max(up_to.min(last));
                }
            }
            Ok(((), Vec::new()))
        })
    }

    fn left(&self, user: UserId, at: Timestamp) -> Answer<'_, ()> {
        self.write(|state, _| {
            let person = state.people.get_mut(&user.canonical());
            if let Some(person) = person.filter(|person| person.first_seen_id.is_some()) {
                person.last_seen = person.last_seen.max(at);
            }
            Ok(((), Vec::new()))
        })
    }

    fn last_seen(&self, users: Vec<UserId>) -> Answer<'_, Vec<Option<(String, Timestamp)>>> {
        self.read(|state| {
            let seen = |user: &UserId| {
                let person = state.people.get(&user.canonical()).filter(|person| person.first_seen_id.is_some())?;
                Some((person.name.clone(), person.last_seen))
            };
            Ok(users.iter().map(seen).collect())
        })
    }
}

impl Answers for Memory {
    fn first_answer(&self, key: AnswerKey, answer: Vec<u8>, _at: Timestamp) -> Answer<'_, Option<Vec<u8>>> {
        self.write(|state, now| {
            if let Some(First::Bytes(first)) = state.first(Kind::Answer, &key.user, &key.key, now) {
                return Ok((Some(first), Vec::new()));
            }
            state.keep_first(Kind::Answer, &key.user, &key.key, now, First::Bytes(answer));
            Ok((None, Vec::new()))
        })
    }
}

impl Replays for Memory {
    fn replay(&self, viewer: Actor, rooms: Vec<RoomId>, after: u64, limit: usize) -> Answer<'_, Replay> {
        self.read(|state| state.replay(&viewer, &rooms, after, limit))
    }
}

impl Care for Memory {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn last_id(&self) -> u64 {
        self.state().last_id()
    }

    fn ready(&self) -> Result<(), StoreError> {
        if self.state().closed { Err(StoreError::Closed) } else { Ok(()) }
    }

    /// Memory does not fail.
    fn failure(&self) -> Failing {
        Box::pin(std::future::pending())
    }

    fn status(&self) -> StoreStatus {
        let state = self.state();
        StoreStatus {
            file_bytes: 0,
            queued: 0,
            commits: state.commits,
            writes: state.commits,
            last_id: state.last_id(),
            last_backup: None,
            ..StoreStatus::default()
        }
    }

    /// What is in memory has no rows.
    fn rows(&self, _sink: Box<dyn RowSink + Send>) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Err(StoreError::Unavailable("the store in memory has no rows".to_owned()))))
    }

    fn note_backup(&self, _at: Timestamp, _bytes: u64) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn sample(&self, _day: u64) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&self) -> Answer<'_, ()> {
        self.state().closed = true;
        Box::pin(std::future::ready(Ok(())))
    }
}
