//! The seam, method by method: writes go to the writer as they are, and each read says which part of a snapshot answers it. No
//! rule is decided here.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::oneshot;

use super::Embedded;
use crate::domain::access::Banned;
use crate::domain::audit::{AuditRecord, Link};
use crate::domain::chat::{Author, Membership, Message, RoomEntry, RoomPolicy};
use crate::domain::privacy::{Erasure, ErasureCounts, Hold, WithheldVersion};
use crate::domain::progress::Progress;
use crate::domain::{Actor, LessonId, RoomId, Timestamp, UserId};
use crate::store::access::NumericIds;
use crate::store::embedded::engine::queue::Command;
use crate::store::embedded::engine::schema::Snapshot;
use crate::store::embedded::offline::renamed::Renamed;
use crate::store::notices::{NoticePage, NoticeQuery, Notices, ReaderPage, ReaderQuery};
use crate::store::operations::{AnyAnswer, Applied, Broadcast, RequestKey, Write};
use crate::store::rows::{CommitTap, RowSink};
use crate::store::searched::{Searchable, SearchablePart, Searched};
use crate::store::webhooks::{DeadLetter, HookCounts, Sighted};
use crate::store::{
    Answer, Answers, Arrival, AuditPart, Audits, Bans, ExportCursor, ExportPage, Failing, HookItem, HookMark, HookPlan,
    Hooks, Identity, Inbox, InboxPage, InboxQuery, LessonFilter, LessonPage, Lessons, ListPage, ListQuery, Maintenance,
    MemberPage, MessagePage, Messages, Order, Page, People, PeopleBook, Privacy, Replay, Replays, ReportPage,
    ReportQuery, RoomBook, RoomPage, RoomQuery, Rooms, StoreError, StoreStatus, TableStats, TranscriptQuery,
    TranscriptSink, UserProfile, Writes,
};

impl Writes for Embedded {
    fn write(&self, write: Write) -> Answer<'static, Applied<AnyAnswer>> {
        let (reply, answer) = oneshot::channel();
        let queued = self.queue.push(Command::Write(Box::new(write), reply));
        Box::pin(async move {
            queued?;
            // A writer that goes away without an answer has met something it could not name.
            answer.await.unwrap_or(Err(StoreError::Unavailable("the writer has stopped".to_owned())))
        })
    }
}

impl Messages for Embedded {
    fn history(&self, room: RoomId, viewer: Author, page: Page, policy: RoomPolicy) -> Answer<'_, MessagePage> {
        Box::pin(self.read(move |snapshot| snapshot.page(&room, &viewer, &page, policy)))
    }

    fn message(&self, id: u64) -> Answer<'_, Option<Message>> {
        Box::pin(self.read(move |snapshot| snapshot.message(id)))
    }

    fn transcript(&self, query: TranscriptQuery, mut sink: Box<dyn TranscriptSink>) -> Answer<'_, ()> {
        Box::pin(self.read_apart(move |snapshot| snapshot.send_transcript(&query, &mut *sink)))
    }

    fn withheld(&self, room: RoomId, messages: Vec<u64>) -> Answer<'_, Vec<(u64, Vec<WithheldVersion>)>> {
        Box::pin(self.read(move |snapshot| snapshot.withheld_in(&room, &messages)))
    }
}

impl Rooms for Embedded {
    fn may_enter(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, ()> {
        Box::pin(self.read(move |snapshot| snapshot.may_enter(&room, &viewer, policy)))
    }

    fn enterable(&self, rooms: Vec<RoomId>, viewer: Author, policy: RoomPolicy) -> Answer<'_, Vec<bool>> {
        Box::pin(self.read(move |snapshot| snapshot.enterable(&rooms, &viewer, policy)))
    }

    fn membership(&self, room: RoomId, user: UserId) -> Answer<'_, Option<Membership>> {
        Box::pin(self.read(move |snapshot| snapshot.membership_of(&room, &user)))
    }

    fn rooms_of(&self, viewer: Author, query: RoomQuery, policy: RoomPolicy) -> Answer<'_, RoomPage> {
        Box::pin(self.read(move |snapshot| snapshot.rooms_of(&viewer, query, policy)))
    }
}

impl Lessons for Embedded {
    fn progress(&self, user: UserId, filter: LessonFilter) -> Answer<'_, LessonPage> {
        Box::pin(self.read(move |snapshot| snapshot.progress_of(&user, &filter)))
    }

    fn progress_history(&self, user: UserId, lesson: LessonId) -> Answer<'_, Vec<Progress>> {
        Box::pin(self.read(move |snapshot| snapshot.versions_of(&user, &lesson)))
    }
}

impl Inbox for Embedded {
    fn inbox(&self, viewer: Actor, query: InboxQuery) -> Answer<'_, InboxPage> {
        Box::pin(self.read(move |snapshot| snapshot.inbox_page(&viewer, &query)))
    }

    fn arrival(&self, viewer: Actor, limit: usize) -> Answer<'_, Arrival> {
        Box::pin(self.read(move |snapshot| snapshot.arrival(&viewer, limit)))
    }
}

impl Notices for Embedded {
    fn notices(&self, query: NoticeQuery) -> Answer<'_, NoticePage> {
        Box::pin(self.read(move |snapshot| snapshot.notice_page(query)))
    }

    fn readers(&self, id: u64, query: ReaderQuery) -> Answer<'_, ReaderPage> {
        Box::pin(self.read(move |snapshot| snapshot.readers(id, query)))
    }
}

impl People for Embedded {
    fn last_seen(&self, users: Vec<UserId>) -> Answer<'_, Vec<Option<(String, Timestamp)>>> {
        Box::pin(self.read(move |snapshot| snapshot.seen(&users)))
    }
}

impl Answers for Embedded {
    fn is_answered(&self, key: RequestKey) -> Answer<'_, bool> {
        Box::pin(self.read(move |snapshot| snapshot.is_answered(&key)))
    }

    fn unsent_broadcasts(&self) -> Answer<'_, Vec<(u64, Arc<Broadcast>)>> {
        Box::pin(self.read(|snapshot| snapshot.unsent_broadcasts()))
    }
}

impl Replays for Embedded {
    fn replay(&self, viewer: Actor, rooms: Vec<RoomId>, after: u64, limit: usize) -> Answer<'_, Replay> {
        Box::pin(self.read(move |snapshot| snapshot.missed(&viewer, &rooms, after, limit)))
    }
}

impl Audits for Embedded {
    fn audit(&self, after: u64, limit: usize) -> Answer<'_, Vec<AuditRecord>> {
        Box::pin(self.read(move |snapshot| snapshot.audit_after(after, limit)))
    }

    fn audit_records(&self, after: u64, limit: usize) -> Answer<'_, AuditPart> {
        Box::pin(self.read(move |snapshot| {
            let (anchor, head) = snapshot.audit_ends()?;
            Ok(AuditPart { records: snapshot.audit_after(after, limit)?, anchor, head })
        }))
    }

    fn audit_forwarded(&self) -> Answer<'_, Option<(String, Link)>> {
        Box::pin(self.read(|snapshot| snapshot.audit_forwarded()))
    }

    fn audit_ends(&self) -> Answer<'_, (Link, Link)> {
        Box::pin(self.read(|snapshot| snapshot.audit_ends()))
    }
}

impl Privacy for Embedded {
    fn holds(&self) -> Answer<'_, Vec<Hold>> {
        Box::pin(self.read(|snapshot| snapshot.all_holds()))
    }

    fn export_page(&self, user: UserId, cursor: ExportCursor, limit: usize) -> Answer<'_, ExportPage> {
        Box::pin(self.read(move |snapshot| snapshot.export_page(&user, cursor, limit)))
    }

    fn erasure(&self, user: UserId) -> Answer<'_, Option<Erasure>> {
        Box::pin(self.read(move |snapshot| snapshot.erasure_of(&user)))
    }

    fn erasable(&self, user: UserId) -> Answer<'_, ErasureCounts> {
        Box::pin(self.read(move |snapshot| snapshot.erasable(&user)))
    }

    fn erasures(&self) -> Answer<'_, Vec<Erasure>> {
        Box::pin(self.read(|snapshot| snapshot.all_erasures()))
    }
}

impl Order for Embedded {
    fn reports(&self, viewer: Author, query: ReportQuery, policy: RoomPolicy) -> Answer<'_, ReportPage> {
        Box::pin(self.read(move |snapshot| snapshot.reports_for(&viewer, &query, policy)))
    }

    fn moderators(&self, room: RoomId, viewer: Author, policy: RoomPolicy) -> Answer<'_, Vec<UserId>> {
        Box::pin(self.read(move |snapshot| snapshot.moderators_for(&room, &viewer, policy)))
    }

    fn hear_of_report(
        &self,
        room: RoomId,
        message: u64,
        by: Author,
        policy: RoomPolicy,
    ) -> Answer<'_, Option<Vec<UserId>>> {
        Box::pin(self.read(move |snapshot| snapshot.hear_of_report(&room, message, &by, policy)))
    }

    fn room_of_report(&self, report: u64) -> Answer<'_, Option<RoomId>> {
        Box::pin(self.read(move |snapshot| snapshot.room_of_report(report)))
    }

    fn locked_rooms(&self) -> Answer<'_, Vec<RoomId>> {
        Box::pin(self.read(Snapshot::locked_rooms))
    }

    fn may_write(&self, room: RoomId, author: Author, policy: RoomPolicy) -> Answer<'_, ()> {
        Box::pin(self.read(move |snapshot| snapshot.may_write(&room, &author, policy)))
    }
}

impl Bans for Embedded {
    fn bans(&self) -> Answer<'_, Vec<Banned>> {
        Box::pin(self.read(|snapshot| snapshot.all_bans()))
    }
}

impl RoomBook for Embedded {
    fn list_rooms(&self, query: ListQuery) -> Answer<'_, ListPage<RoomEntry>> {
        Box::pin(self.read(move |snapshot| snapshot.list_rooms(&query)))
    }

    fn room(&self, room: RoomId) -> Answer<'_, RoomEntry> {
        Box::pin(self.read(move |snapshot| snapshot.room(&room)))
    }

    fn members(&self, room: RoomId, after: u64, limit: usize) -> Answer<'_, MemberPage> {
        Box::pin(self.read(move |snapshot| snapshot.members_of(&room, after, limit)))
    }
}

impl PeopleBook for Embedded {
    fn numeric_ids(&self, after: u64, limit: usize) -> Answer<'_, NumericIds> {
        Box::pin(self.read(move |snapshot| snapshot.numeric_ids(after, limit)))
    }

    fn renamed_users(&self) -> Answer<'_, Vec<(String, UserId)>> {
        Box::pin(self.read(|snapshot| {
            Ok(Renamed::read(&snapshot.meta()?)?.map(|renamed| renamed.users_of_their_own()).unwrap_or_default())
        }))
    }

    fn list_users(&self, query: ListQuery) -> Answer<'_, ListPage<UserProfile>> {
        Box::pin(self.read(move |snapshot| snapshot.list_users(&query)))
    }

    fn profile(&self, user: UserId) -> Answer<'_, UserProfile> {
        Box::pin(self.read(move |snapshot| snapshot.profile_of(&user)))
    }
}

impl Hooks for Embedded {
    fn plan_hooks(&self, plan: HookPlan) {
        *self.shared.hooks.lock() = plan;
    }

    fn hooks_after(&self, after: u64, limit: usize) -> Answer<'_, Vec<HookMark>> {
        Box::pin(self.read(move |snapshot| snapshot.hooks_after(after, limit)))
    }

    fn hook(&self, id: u64) -> Answer<'_, Option<HookItem>> {
        Box::pin(self.read(move |snapshot| snapshot.hook(id)))
    }

    fn hook_counts(&self) -> Answer<'_, HookCounts> {
        Box::pin(self.read(|snapshot| snapshot.hook_counts()))
    }

    fn dead_letters(&self, after: u64, limit: usize) -> Answer<'_, Vec<DeadLetter>> {
        Box::pin(self.read(move |snapshot| snapshot.dead_letters(after, limit)))
    }

    fn sighted(&self, after: Option<[u8; 16]>, limit: usize) -> Answer<'_, Sighted> {
        Box::pin(self.read(move |snapshot| snapshot.sighted(after, limit)))
    }
}
impl Searched for Embedded {
    fn searchable_behind(&self, after: u64, up_to: u64) -> Answer<'_, SearchablePart> {
        Box::pin(self.read(move |snapshot| snapshot.searchable_behind(after, up_to)))
    }

    fn searchable(&self, messages: Vec<u64>) -> Answer<'_, Vec<Option<Searchable>>> {
        Box::pin(self.read(move |snapshot| snapshot.searchable(&messages)))
    }

    fn rooms_gone(&self, rooms: Vec<u64>) -> Answer<'_, Vec<u64>> {
        Box::pin(self.read(move |snapshot| snapshot.rooms_gone(&rooms)))
    }

    fn searched_rooms(&self, viewer: Author, room: Option<RoomId>, policy: RoomPolicy) -> Answer<'_, Vec<u64>> {
        Box::pin(self.read(move |snapshot| snapshot.searched_rooms(&viewer, room.as_ref(), policy)))
    }

    fn found(
        &self,
        messages: Vec<u64>,
        viewer: Author,
        room: Option<RoomId>,
        policy: RoomPolicy,
    ) -> Answer<'_, Vec<Message>> {
        Box::pin(self.read(move |snapshot| snapshot.found(&messages, &viewer, room.as_ref(), policy)))
    }
}

impl Maintenance for Embedded {
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
        let (queued, queued_bytes) = self.queue.waiting();
        StoreStatus {
            file_bytes: fs::metadata(self.shared.opener.path()).map_or(0, |file| file.len()),
            queued,
            queued_bytes,
            snapshots: self.shared.snapshots.load(Ordering::Relaxed),
            busy: self.shared.busy(),
            commits: self.shared.commits.load(Ordering::Relaxed),
            commit_time: self.shared.commit_time.read(),
            commit_wait: self.shared.commit_wait.read(),
            min_free_bytes: self.shared.min_free_bytes,
            writes: self.shared.writes.load(Ordering::Relaxed),
            last_id: self.last_id(),
            last_backup: *self.shared.last_backup.lock(),
        }
    }

    /// All rows of one consistent view. It pins pages for as long as the sink takes: a slow one is the caller's to end.
    fn rows(&self, mut sink: Box<dyn RowSink + Send>) -> Answer<'_, ()> {
        Box::pin(self.read_apart(move |snapshot| snapshot.send_rows(&mut *sink)))
    }

    fn tap(&self, tap: Arc<dyn CommitTap>) {
        let _ = self.shared.tap.set(tap);
    }

    fn row_counts(&self) -> Answer<'_, Vec<(&'static str, u64)>> {
        Box::pin(self.read(|snapshot| snapshot.counts()))
    }

    fn table_stats(&self) -> Answer<'_, Vec<TableStats>> {
        Box::pin(self.read_apart(Snapshot::table_stats))
    }

    fn measure_room(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            if self.shared.is_room_measured() {
                return Ok(());
            }
            let shared = Arc::clone(&self.shared);
            self.read_apart(move |snapshot| shared.measure_room(snapshot)).await
        })
    }

    fn close(&self) -> Answer<'_, ()> {
        Box::pin(Embedded::close(self))
    }
}
