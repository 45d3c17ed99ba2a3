//! How notifications with a time change: scheduled, sent, over, taken back, forgotten. What is due is decided by what is stored and by
//! the time of the write, in one transaction with the sending: nothing is sent twice, and nothing is lost.

use redb::ReadableTable;

use crate::domain::notification::{
    Audience, AudienceKind, Ending, MAX_OVER, MAX_TIMED, Notice, NoticeState, Notification, Over,
};
use crate::domain::{Refusal, UserId};
use crate::store::Change;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{encode, get};
use crate::store::embedded::engine::counts;
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::first_answers::First;
use crate::store::embedded::engine::schema::{NOBODY, k8, k16};
use crate::store::embedded::inbox::rows::{WithdrawnRow, decode_notification, ending_code};
use crate::store::embedded::inbox::view::{audience_code, audience_space, space_of};
use crate::store::embedded::inbox::write::forget_inbox_row;
use crate::store::embedded::notices::rows::{decode_notice, encode_notice, plain};
use crate::store::embedded::privacy::holds::Held;
use crate::store::operations::{DoDue, DueDone, Recall, Schedule, Scheduled};

impl Apply for Schedule {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Scheduled> {
        let Schedule { draft, times, by, key } = self;
        let first = batch.first_answer(key.as_ref(), |first| match first {
            First::Notification(id) => Ok(id),
            _ => Err(Refusal::KeyReused.into()),
        })?;
        if let Some(id) = first
            && let Some(notice) = batch.notice(id)?
        {
            return Ok(Scheduled { notice, duplicate: true });
        }
        let waiting = batch.notices()?.into_iter().filter(|notice| notice.due().is_some()).count();
        if waiting >= MAX_TIMED {
            return Err(Refusal::Conflict.into());
        }
        let (at, until, now) = (times.at, times.until, batch.now);
        let mut notice = Notice {
            id: 0,
            audience: draft.audience,
            body: draft.body,
            by: Some(by),
            made_at: now,
            at: at.unwrap_or(now),
            until,
            sent: None,
            over: None,
        };
        match at {
            Some(_) => notice.id = batch.take_id()?,
            None => {
                notice.id = batch.send_notification(notice.audience.clone(), notice.body.clone())?.id;
                notice.sent = Some(notice.id);
            }
        }
        batch.put_notice(&notice)?;
        batch.put_answer(key.as_ref(), First::Notification(notice.id))?;
        Ok(Scheduled { notice, duplicate: false })
    }
}

impl Apply for DoDue {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<DueDone> {
        let DoDue { limit, act } = self;
        let now = batch.now;
        let mut timed: Vec<Notice> = batch.notices()?.into_iter().filter(|notice| notice.due().is_some()).collect();
        timed.sort_by_key(|notice| (notice.due(), notice.id));
        let mut done = DueDone { sent: 0, ended: 0, next: None };
        for mut notice in timed {
            let Some(due) = notice.due().filter(|due| *due <= now && done.sent + done.ended < limit) else {
                done.next = done.next.into_iter().chain(notice.due()).min();
                continue;
            };
            let is_over = notice.until.is_some_and(|until| until <= now);
            let outcome = match notice.state() {
                NoticeState::Scheduled if !is_over => {
                    let sent = batch.send_notification(notice.audience.clone(), notice.body.clone())?;
                    // Its readers see the moment at which it came.
                    (notice.sent, notice.at) = (Some(sent.id), sent.at);
                    batch.put_notice(&notice)?;
                    // Due again when it is over.
                    done.next = done.next.into_iter().chain(notice.until).min();
                    done.sent += 1;
                    format!("sent as {}, {} s late", sent.id, now.0.saturating_sub(due.0) / 1_000)
                }
                NoticeState::Scheduled => {
                    batch.end_notice(notice.clone(), Ending::Missed, UserId::system())?;
                    done.ended += 1;
                    "not sent: its time was over before it could be".to_owned()
                }
                _ => {
                    batch.end_notice(notice.clone(), Ending::Ended, UserId::system())?;
                    done.ended += 1;
                    "over".to_owned()
                }
            };
            let mut entry = act.entry(now, &outcome);
            entry.target = format!("notification {}", notice.id);
            batch.record(entry)?;
        }
        if done.ended > 0 {
            batch.forget_oldest_over()?;
        }
        Ok(done)
    }
}

impl Apply for Recall {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<Notice> {
        let notice = match batch.notice(self.id)? {
            Some(notice) => notice,
            None => {
                let read = |row: &[u8]| decode_notification(row, self.id, false);
                let one = get(batch.t.notifications.read()?, &k8(self.id), read)?;
                plain(one.ok_or(Refusal::NotFound)?)
            }
        };
        if notice.over.is_some() {
            return Err(Refusal::Conflict.into());
        }
        let notice = batch.end_notice(notice, Ending::Recalled, self.by)?;
        batch.forget_oldest_over()?;
        Ok(notice)
    }
}

impl Batch<'_, '_> {
    /// All that have a time or are over. There are few: both are bounded.
    pub(in crate::store::embedded) fn notices(&self) -> Outcome<Vec<Notice>> {
        let mut notices = Vec::new();
        for row in self.t.notices.read()?.iter()? {
            let (key, value) = row?;
            notices.push(decode_notice(value.value(), u64::from_be_bytes(*key.value()))?);
        }
        Ok(notices)
    }

    /// The one of this number, or of this id of its readers.
    fn notice(&self, id: u64) -> Outcome<Option<Notice>> {
        if let Some(notice) = get(self.t.notices.read()?, &k8(id), |row| decode_notice(row, id))? {
            return Ok(Some(notice));
        }
        Ok(self.notices()?.into_iter().find(|notice| notice.sent == Some(id)))
    }

    pub(in crate::store::embedded) fn put_notice(&mut self, notice: &Notice) -> Outcome<()> {
        self.touch();
        self.t.notices.write()?.insert(&k8(notice.id), encode_notice(notice, &mut self.buffer)?)?;
        Ok(())
    }

    /// It is in no inbox any more, and its audience is told; who has read it is still known.
    fn end_notice(&mut self, mut notice: Notice, ending: Ending, by: UserId) -> Outcome<Notice> {
        let mut change = 0;
        if let Some(id) = notice.sent {
            let read = |row: &[u8]| decode_notification(row, id, false);
            if let Some(one) = get(self.t.notifications.read()?, &k8(id), read)? {
                self.take_out(&one)?;
            }
            change = self.take_id()?;
            let row = WithdrawnRow { notification: id, ending: ending_code(ending) };
            for space in self.spaces_of(&notice.audience)? {
                self.t.withdrawn.write()?.insert(&k16(space, change), encode(&row, &mut self.buffer)?)?;
            }
            let audience = notice.audience.clone();
            self.tell(Change::Withdrawn { id: change, notification: id, audience, ending });
        }
        notice.over = Some(Over { ending, at: self.now, by, change });
        self.put_notice(&notice)?;
        Ok(notice)
    }

    /// The spaces in which an audience is told what is over.
    fn spaces_of(&mut self, audience: &Audience) -> Outcome<Vec<u64>> {
        let Audience::Users(users) = audience else { return Ok(vec![space_of(NOBODY, audience.kind())]) };
        let mut spaces = Vec::with_capacity(users.len());
        for user in users {
            spaces.extend(self.find_user(user)?.map(|no| space_of(no, AudienceKind::Named)));
        }
        Ok(spaces)
    }

    /// Takes a notification out of all inboxes, and out of what is counted of them: everybody's mark on it is looked for.
    fn take_out(&mut self, one: &Notification) -> Outcome<()> {
        self.touch();
        self.t.notifications.write()?.remove(&k8(one.id))?;
        match (&one.audience, audience_code(&one.audience)) {
            (Audience::Users(users), _) => {
                for user in users {
                    if let Some(no) = self.find_user(user)? {
                        forget_inbox_row(self, no, one.id, AudienceKind::Named)?;
                    }
                }
            }
            (audience, Some(code)) => {
                self.t.notif_by_audience.write()?.remove(&k16(code, one.id))?;
                counts::change(self.t.inbox_counts.write()?, audience_space(code), one.id, false)?;
                for no in self.numbers_of_users()? {
                    if self.t.inbox.read()?.get(&k16(no, one.id))?.is_some() {
                        forget_inbox_row(self, no, one.id, audience.kind())?;
                    }
                }
            }
            (_, None) => {}
        }
        Ok(())
    }

    fn numbers_of_users(&self) -> Outcome<Vec<u64>> {
        let mut numbers = Vec::new();
        for row in self.t.users.read()?.iter()? {
            numbers.push(u64::from_be_bytes(*row?.0.value()));
        }
        Ok(numbers)
    }

    /// Of those that are over the newest are kept.
    fn forget_oldest_over(&mut self) -> Outcome<()> {
        let mut over: Vec<Notice> = self.notices()?.into_iter().filter(|notice| notice.over.is_some()).collect();
        if over.len() <= MAX_OVER {
            return Ok(());
        }
        let held = self.held()?;
        over.sort_by_key(|notice| notice.over.as_ref().map(|over| (over.at, notice.id)));
        over.truncate(over.len() - MAX_OVER);
        for notice in over {
            if !self.is_held_notice(&held, &notice)? {
                self.forget_notice(&notice)?;
            }
        }
        Ok(())
    }

    /// Whether a hold keeps what is known of a notification that is over: it names somebody who is held, or they have read it.
    pub(in crate::store::embedded) fn is_held_notice(&mut self, held: &Held, notice: &Notice) -> Outcome<bool> {
        for no in held.users() {
            if let Some(id) = notice.sent
                && self.t.read_times.read()?.get(&k16(*no, id))?.is_some()
            {
                return Ok(true);
            }
        }
        let Audience::Users(users) = &notice.audience else { return Ok(false) };
        for user in users {
            if let Some(no) = self.find_user(user)?
                && held.users().any(|held| *held == no)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Nothing is known any more of a notification that is over.
    pub(in crate::store::embedded) fn forget_notice(&mut self, notice: &Notice) -> Outcome<()> {
        self.touch();
        self.t.notices.write()?.remove(&k8(notice.id))?;
        if let Some(change) = notice.over.as_ref().map(|over| over.change).filter(|change| *change > 0) {
            for space in self.spaces_of(&notice.audience)? {
                self.t.withdrawn.write()?.remove(&k16(space, change))?;
            }
        }
        if let Some(id) = notice.sent {
            self.t.read_times.write()?.remove(&k16(NOBODY, id))?;
            for no in self.numbers_of_users()? {
                self.t.read_times.write()?.remove(&k16(no, id))?;
            }
        }
        Ok(())
    }

    /// In notifications with a time somebody is named no more, nor as who has sent or taken them back. Gives how many named them.
    pub(in crate::store::embedded) fn erase_from_notices(&mut self, user: &UserId, no: u64) -> Outcome<u64> {
        let mut named = 0;
        for mut notice in self.notices()? {
            let before = notice.clone();
            let Notice { audience, by, over, .. } = &mut notice;
            for actor in by.iter_mut().chain(over.iter_mut().map(|over| &mut over.by)) {
                if actor == user {
                    *actor = UserId::erased();
                }
            }
            if let Audience::Users(users) = audience {
                users.retain(|other| other != user);
                named += u64::from(*audience != before.audience);
            }
            if notice == before {
                continue;
            }
            match &notice.audience {
                Audience::Users(users) if users.is_empty() => self.forget_notice(&notice)?,
                _ => self.put_notice(&notice)?,
            }
        }
        let space = space_of(no, AudienceKind::Named);
        self.t.withdrawn.write()?.remove_range::<&[u8; 16]>(&k16(space, 0)..=&k16(space, u64::MAX))?;
        Ok(named)
    }
}
