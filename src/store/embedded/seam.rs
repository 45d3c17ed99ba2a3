//! The seam, method by method: which request goes to the writer and which read answers it. No rule is decided here.

use std::fs;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::Embedded;
use super::writer::Command;
use crate::domain::chat::{Author, Draft, ReadMark, RoomPolicy, RoomSummary};
use crate::domain::notification::{Notification, NotificationDraft, Selection};
use crate::domain::progress::{Progress, Update};
use crate::domain::{Actor, LessonId, RoomId, Timestamp, UserId};
use crate::store::rows::RowSink;
use crate::store::{
    Answer, AnswerKey, Answers, Arrival, Care, Failing, Identity, Inbox, InboxAction, InboxPage, InboxQuery,
    LessonFilter, Lessons, MessageChange, MessagePage, Messages, Page, People, Posted, Replay, Replays, Rooms,
    StoreError, StoreStatus, Synced,
};

impl Messages for Embedded {
    fn append_message(&self, draft: Draft, policy: RoomPolicy) -> Answer<'_, Posted> {
        Box::pin(self.write(move |reply| Command::Append(draft, policy, reply)))
    }

    fn edit_message(&self, change: MessageChange, content: String, policy: RoomPolicy) -> Answer<'_, Timestamp> {
        Box::pin(self.write(move |reply| Command::Edit(change, content, policy, reply)))
    }

    fn delete_message(&self, change: MessageChange, policy: RoomPolicy) -> Answer<'_, Timestamp> {
        Box::pin(self.write(move |reply| Command::Delete(change, policy, reply)))
    }

    fn history(&self, room: RoomId, viewer: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage> {
        Box::pin(async move {
            let (page, _) = self.read(move |snapshot| snapshot.page(&room, &viewer, &page, policy)).await?;
            Ok(page)
        })
    }
}

impl Rooms for Embedded {
    fn may_enter(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, ()> {
        Box::pin(self.read(move |snapshot| snapshot.may_enter(&room, &viewer, policy)))
    }

    fn join_room(&self, room: RoomId, author: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage> {
        Box::pin(async move {
            let (asked, who, part) = (room.clone(), author.clone(), page.clone());
            let (read, settled) = self.read(move |snapshot| snapshot.page(&asked, &who, &part, policy)).await?;
            // Coming back is the common case, and needs no transaction.
            if settled {
                return Ok(read);
            }
            let (asked, who) = (room.clone(), author.clone());
            match self.write(move |reply| Command::Join(asked, who, policy, reply)).await {
                Ok(()) => {}
                // Reading goes on with a full disk; the room is on their list when they join or write again.
                Err(StoreError::Full(_)) => return Ok(read),
                Err(error) => return Err(error),
            }
            let (page, _) = self.read(move |snapshot| snapshot.page(&room, &author, &page, policy)).await?;
            Ok(page)
        })
    }

    fn rooms_of(&self, user: UserId) -> Answer<'_, Vec<RoomSummary>> {
        Box::pin(self.read(move |snapshot| snapshot.rooms_of(&user)))
    }

    fn mark_read(&self, room: RoomId, reader: Author, message_id: u64, policy: RoomPolicy) -> Answer<'_, ReadMark> {
        Box::pin(self.write(move |reply| Command::MarkRead(room, reader, message_id, policy, reply)))
    }
}

impl Lessons for Embedded {
    fn sync_progress(&self, user: UserId, updates: Vec<Update>, at: Timestamp) -> Answer<'_, Vec<Synced>> {
        Box::pin(self.write(move |reply| Command::Sync(user, updates, at, reply)))
    }

    fn progress(&self, user: UserId, filter: LessonFilter) -> Answer<'_, (Vec<Progress>, u64)> {
        Box::pin(self.read(move |snapshot| snapshot.progress_of(&user, &filter)))
    }

    fn progress_history(&self, user: UserId, lesson: LessonId) -> Answer<'_, Vec<Progress>> {
        Box::pin(self.read(move |snapshot| snapshot.versions_of(&user, &lesson)))
    }
}

impl Inbox for Embedded {
    fn notify(&self, draft: NotificationDraft, key: Option<AnswerKey>) -> Answer<'_, (Notification, bool)> {
        Box::pin(self.write(move |reply| Command::Notify(draft, key, reply)))
    }

    fn inbox(&self, viewer: Actor, query: InboxQuery) -> Answer<'_, InboxPage> {
        Box::pin(self.read(move |snapshot| snapshot.inbox_page(&viewer, &query)))
    }

    fn mark_inbox(
        &self,
        viewer: Actor,
        selection: Selection,
        action: InboxAction,
        origin: Option<u64>,
    ) -> Answer<'_, (Vec<u64>, u64)> {
        Box::pin(self.write(move |reply| Command::MarkInbox(viewer, selection, action, origin, reply)))
    }
}

impl People for Embedded {
    fn arrive(&self, actor: Actor, at: Timestamp, limit: usize) -> Answer<'_, Arrival> {
        let who = actor.clone();
        let written = self.write(move |reply| Command::Arrive(who, at, reply));
        Box::pin(async move {
            match written.await {
                // With a full disk people still come in and read; they are noted as seen another time.
                Ok(()) | Err(StoreError::Full(_)) => {}
                Err(error) => return Err(error),
            }
            self.read(move |snapshot| snapshot.arrival(&actor, limit)).await
        })
    }

    fn delivered(&self, marks: Vec<(UserId, u64)>) -> Answer<'_, ()> {
        Box::pin(self.write(move |reply| Command::Delivered(marks, reply)))
    }

    fn left(&self, user: UserId, at: Timestamp) -> Answer<'_, ()> {
        Box::pin(self.write(move |reply| Command::Left(user, at, reply)))
    }

    fn last_seen(&self, users: Vec<UserId>) -> Answer<'_, Vec<Option<(String, Timestamp)>>> {
        Box::pin(self.read(move |snapshot| snapshot.seen(&users)))
    }
}

impl Answers for Embedded {
    fn first_answer(&self, key: AnswerKey, answer: Vec<u8>, _at: Timestamp) -> Answer<'_, Option<Vec<u8>>> {
        Box::pin(self.write(move |reply| Command::Answer(key, answer, reply)))
    }
}

impl Replays for Embedded {
    fn replay(&self, viewer: Actor, rooms: Vec<RoomId>, after: u64, limit: usize) -> Answer<'_, Replay> {
        Box::pin(self.read(move |snapshot| snapshot.missed(&viewer, &rooms, after, limit)))
    }
}

impl Care for Embedded {
    fn identity(&self) -> Identity {
        self.identity.clone()
    }

    fn last_id(&self) -> u64 {
        self.shared.last_id.load(Ordering::Acquire)
    }

    fn ready(&self) -> Result<(), StoreError> {
        Embedded::ready(self)
    }

    fn failure(&self) -> Failing {
        let mut failed = self.shared.failed.subscribe();
        Box::pin(async move {
            match failed.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
                Ok(Some(reason)) => reason,
                // The store is closed.
                _ => std::future::pending().await,
            }
        })
    }

    fn status(&self) -> StoreStatus {
        StoreStatus {
            file_bytes: fs::metadata(self.shared.opener.path()).map_or(0, |file| file.len()),
            queued: self.shared.queued.load(Ordering::Relaxed),
            busy: self.shared.busy(),
            commits: self.shared.commits.load(Ordering::Relaxed),
            commit_time: self.shared.commit_time.read(),
            min_free_bytes: self.shared.min_free_bytes,
            writes: self.shared.writes.load(Ordering::Relaxed),
            last_id: self.last_id(),
            last_backup: *self.shared.last_backup.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    fn rows(&self, sink: Box<dyn RowSink + Send>) -> Answer<'_, ()> {
        self.send_rows(sink)
    }

    fn note_backup(&self, at: Timestamp, bytes: u64) -> Answer<'_, ()> {
        self.note_good_backup(at, bytes)
    }

    fn sample(&self, day: u64) -> Answer<'_, ()> {
        self.sample_growth(day)
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(Embedded::close(self))
    }
}
