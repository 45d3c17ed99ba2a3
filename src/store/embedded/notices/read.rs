//! Reads of notifications as administrators see them, and of who has read them.

use std::collections::HashSet;

use redb::ReadableTable;

use crate::domain::notification::{Audience, CountedNotice, Notice, NoticeState, Reader, is_for};
use crate::domain::{Refusal, Timestamp, UserId};
use crate::store::access::LOOKED_AT;
use crate::store::embedded::access::rows::Person;
use crate::store::embedded::engine::codec::{decode, get, get_number, get_value};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{NOBODY, Snapshot, k8, k16};
use crate::store::embedded::inbox::rows::decode_notification;
use crate::store::embedded::inbox::view::READ;
use crate::store::embedded::notices::rows::{decode_notice, plain};
use crate::store::notices::{NoticePage, NoticeQuery, ReaderPage, ReaderQuery, StateFilter};

impl Snapshot {
    pub(in crate::store::embedded) fn all_notices(&self) -> Outcome<Vec<Notice>> {
        let mut notices = Vec::new();
        for row in self.notices()?.iter()? {
            let (key, value) = row?;
            notices.push(decode_notice(value.value(), u64::from_be_bytes(*key.value()))?);
        }
        Ok(notices)
    }

    /// The one that its readers know by this id, if it has a time or is over.
    pub(in crate::store::embedded) fn notice_of(&self, sent: u64) -> Outcome<Option<Notice>> {
        Ok(self.all_notices()?.into_iter().find(|notice| notice.sent == Some(sent)))
    }

    /// What has a time or is over is few, and is looked at as a whole; of the inboxes' as many are read as are given.
    pub(in crate::store::embedded) fn notice_page(&self, query: NoticeQuery) -> Outcome<NoticePage> {
        let timed = self.all_notices()?;
        let before = query.before.unwrap_or(u64::MAX);
        let known: HashSet<u64> = timed.iter().filter_map(|notice| notice.sent).collect();
        let fits = |notice: &Notice| {
            matches!(
                (query.state, notice.state()),
                (None, _)
                    | (Some(StateFilter::Scheduled), NoticeState::Scheduled)
                    | (Some(StateFilter::Live), NoticeState::Live)
                    | (Some(StateFilter::Over), NoticeState::Over(_))
            )
        };
        let mut found: Vec<Notice> = timed.into_iter().filter(|notice| notice.id < before && fits(notice)).collect();
        let wanted = query.limit.saturating_add(1);
        if matches!(query.state, None | Some(StateFilter::Live)) {
            let mut left = wanted;
            for row in self.notifications()?.range::<&[u8; 8]>(..&k8(before))?.rev() {
                if left == 0 {
                    break;
                }
                let (key, value) = row?;
                let id = u64::from_be_bytes(*key.value());
                if !known.contains(&id) {
                    found.push(plain(decode_notification(value.value(), id, false)?));
                    left -= 1;
                }
            }
        }
        found.sort_by_key(|notice| std::cmp::Reverse(notice.id));
        let has_more = found.len() > query.limit;
        found.truncate(query.limit);
        Ok(NoticePage { items: self.counted(found)?, has_more })
    }

    /// Each with how many have read it, of how many. People are looked at once, however many notifications it is.
    fn counted(&self, notices: Vec<Notice>) -> Outcome<Vec<CountedNotice>> {
        let read_times = self.read_times()?;
        let mut counted = Vec::with_capacity(notices.len());
        for notice in notices {
            let read_by = get_number(&read_times, &k16(NOBODY, notice.sent.unwrap_or(0)))?.unwrap_or(0);
            let recipients = match &notice.audience {
                Audience::Users(users) => users.len() as u64,
                _ => 0,
            };
            counted.push(CountedNotice { notice, read_by, recipients });
        }
        if counted.iter().any(|one| !matches!(one.notice.audience, Audience::Users(_))) {
            for row in self.users()?.iter()? {
                let person = Person::decode(row?.1.value())?;
                for one in &mut counted {
                    let is_shared = !matches!(one.notice.audience, Audience::Users(_));
                    one.recipients += u64::from(is_shared && is_recipient(&one.notice, &person));
                }
            }
        }
        Ok(counted)
    }

    fn find_notice(&self, id: u64) -> Outcome<Notice> {
        if let Some(notice) = get(&self.notices()?, &k8(id), |row| decode_notice(row, id))? {
            return Ok(notice);
        }
        if let Some(notice) = self.notice_of(id)? {
            return Ok(notice);
        }
        let one = get(&self.notifications()?, &k8(id), |row| decode_notification(row, id, false))?;
        Ok(plain(one.ok_or(Refusal::NotFound)?))
    }

    pub(in crate::store::embedded) fn readers(&self, id: u64, query: ReaderQuery) -> Outcome<ReaderPage> {
        let notice = self.find_notice(id)?;
        let (read_times, inbox) = (self.read_times()?, self.inbox()?);
        let kind = notice.audience.kind();
        let (mut readers, mut next, mut looked_at) = (Vec::new(), None, 0);
        let begin = query.after.saturating_add(1);
        for row in self.users()?.range::<&[u8; 8]>(&k8(begin)..)? {
            let (key, value) = row?;
            let no = u64::from_be_bytes(*key.value());
            if readers.len() >= query.limit || looked_at >= LOOKED_AT {
                next = Some(no - 1);
                break;
            }
            looked_at += 1;
            let person = Person::decode(value.value())?;
            if !is_recipient(&notice, &person) {
                continue;
            }
            let (mut read, mut read_at) = (false, None);
            if let Some(sent) = notice.sent {
                read_at = get_number(&read_times, &k16(no, sent))?.map(Timestamp);
                // Who has read it before that was kept, or with more than is kept at once, has a mark alone.
                let flags: u8 = get_value(&inbox, &k16(no, sent))?.unwrap_or(0);
                let is_marked = flags & READ != 0 || person.marks(kind).read >= sent;
                read = read_at.is_some() || notice.over.is_none() && is_marked;
            }
            if query.read.is_none_or(|wanted| wanted == read) {
                readers.push(Reader { user: person.id, name: person.name, read, read_at });
            }
        }
        let mut counted = self.counted(vec![notice.clone()])?;
        let notice = counted.pop().unwrap_or(CountedNotice { notice, read_by: 0, recipients: 0 });
        Ok(ReaderPage { notice, readers, next })
    }

    /// The notifications with a time that name somebody, and are in no inbox.
    pub(in crate::store::embedded) fn notices_naming(&self, user: &UserId) -> Outcome<Vec<Notice>> {
        let mut notices = self.all_notices()?;
        notices.retain(|notice| {
            let is_named = matches!(&notice.audience, Audience::Users(users) if users.contains(user));
            is_named && notice.state() != NoticeState::Live
        });
        Ok(notices)
    }

    /// When somebody has read a notification, if that is kept.
    pub(in crate::store::embedded) fn read_time(&self, no: u64, id: u64) -> Outcome<Option<Timestamp>> {
        get(&self.read_times()?, &k16(no, id), |row| decode::<u64>(row)).map(|at| at.map(Timestamp))
    }
}

/// Whether somebody has it in their inbox, had it, or would have it if it were sent now.
fn is_recipient(notice: &Notice, person: &Person) -> bool {
    match &notice.audience {
        Audience::Users(users) => users.contains(&person.id),
        audience => {
            let id = notice.sent.unwrap_or(u64::MAX);
            person.has_arrived() && is_for(audience, id, &person.id, &person.roles, person.first_seen_id)
        }
    }
}
