//! First answers: what a request that has a key was answered, for 24 hours, so that a repeat is answered alike and does nothing.

use std::ops::Bound;
use std::time::Duration;

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use crate::domain::{Fingerprint, Refusal, Timestamp};
use crate::store::embedded::engine::batch::Batch;
use crate::store::embedded::engine::codec::{decode_2, encode_2};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, answer_key};
use crate::store::embedded::progress::rows::ProgressRow;
use crate::store::operations::RequestKey;

/// How long a key names a request.
pub(in crate::store::embedded) const ANSWERS_HOLD: Duration = Duration::from_secs(24 * 60 * 60);
/// How many answers one transaction looks at for whether they have expired, and how many where at least half of them have: what
/// comes to be is less, and clearing up never holds up a message.
const LOOKED_AT: usize = 64;
const LOOKED_AT_MOST: usize = 512;

/// A first answer as formats 1 to 3 have it.
#[derive(Deserialize)]
struct AnswerRow1<'a> {
    expires: u64,
    #[serde(borrow)]
    first: First<'a>,
}

/// A first answer, until when it holds, and what the request said; of older formats that is not known.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) struct AnswerRow<'a> {
    pub(in crate::store::embedded) expires: u64,
    #[serde(borrow)]
    pub(in crate::store::embedded) first: First<'a>,
    pub(in crate::store::embedded) fingerprint: Option<Fingerprint>,
}

impl<'a> AnswerRow<'a> {
    pub(in crate::store::embedded) fn decode(bytes: &'a [u8]) -> Outcome<AnswerRow<'a>> {
        decode_2(bytes, |AnswerRow1 { expires, first }| Ok(AnswerRow { expires, first, fingerprint: None }))
    }
}

/// What was answered.
#[derive(Serialize, Deserialize)]
pub(in crate::store::embedded) enum First<'a> {
    Message {
        room: u64,
        id: u64,
        seq: u64,
        at: u64,
    },
    Progress(#[serde(borrow)] ProgressRow<'a>, bool),
    Notification(u64),
    Bytes(&'a [u8]),
    /// An edit or a deletion.
    Changed {
        id: u64,
        at: u64,
    },
    /// A broadcast that reached so many sockets.
    Sent(u64),
}

impl Batch<'_, '_> {
    /// The first answer to a request, unless it has expired, as `read` sees it. The same key with other content is refused.
    pub(in crate::store::embedded) fn first_answer<T>(
        &mut self,
        key: Option<&RequestKey>,
        read: impl FnOnce(First<'_>) -> Outcome<T>,
    ) -> Outcome<Option<T>> {
        let Some(key) = key else { return Ok(None) };
        let is_other = |row: &AnswerRow<'_>| row.fingerprint.is_some_and(|fingerprint| fingerprint != key.fingerprint);
        self.with_answer(
            key,
            |row| if is_other(&row) { Err(Refusal::KeyReused.into()) } else { read(row.first).map(Some) },
        )
    }

    /// What is kept of the first answer to a request, unless it has expired, whatever the request said.
    pub(in crate::store::embedded) fn with_answer<T>(
        &mut self,
        key: &RequestKey,
        read: impl FnOnce(AnswerRow<'_>) -> Outcome<Option<T>>,
    ) -> Outcome<Option<T>> {
        let Some(caller) = self.find_user(&key.caller)? else { return Ok(None) };
        let Some(row) = self.t.answers.read()?.get(&answer_key(caller, key.kind, &key.key))? else { return Ok(None) };
        let row = AnswerRow::decode(row.value())?;
        if row.expires <= self.due().0 { Ok(None) } else { read(row) }
    }

    /// Keeps a first answer for as long as answers hold.
    pub(in crate::store::embedded) fn put_answer(&mut self, key: Option<&RequestKey>, first: First<'_>) -> Outcome<()> {
        let Some(key) = key else { return Ok(()) };
        let caller = self.user(&key.caller)?;
        self.wrote = true;
        let expires = self.now.plus(ANSWERS_HOLD).0;
        let row = AnswerRow { expires, first, fingerprint: Some(key.fingerprint) };
        let key = answer_key(caller, key.kind, &key.key);
        self.t.answers.write()?.insert(&key, encode_2(&row, &mut self.buffer)?)?;
        self.known.answers.note(expires);
        Ok(())
    }

    /// Answers that have expired go a few at a time with each commit.
    pub(in crate::store::embedded) fn purge_answers(&mut self) -> Outcome<()> {
        let due = self.due().0;
        let come = std::mem::take(&mut self.known.answers.come);
        if due < self.known.answers.earliest {
            return Ok(());
        }
        let round = &mut self.known.answers;
        let (mut looked_at, mut expired) = (0, Vec::new());
        let from = round.at.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut rows = self.t.answers.read()?.range::<&[u8; 24]>((from, Bound::Unbounded))?;
        let mut last = None;
        let (least, most) = (LOOKED_AT.max(2 * come), LOOKED_AT_MOST.max(2 * come));
        while looked_at < least || looked_at < most && expired.len() >= looked_at / 2 {
            let Some(row) = rows.next() else {
                last = None;
                break;
            };
            let (key, value) = row?;
            looked_at += 1;
            last = Some(*key.value());
            match AnswerRow::decode(value.value())?.expires {
                expires if expires <= due => expired.push(*key.value()),
                expires => round.earliest_seen = round.earliest_seen.min(expires),
            }
        }
        drop(rows);
        round.looked_at += looked_at;
        match last {
            Some(_) => round.at = last,
            None => round.end(Timestamp(due)),
        }
        for key in &expired {
            self.t.answers.write()?.remove(key)?;
        }
        Ok(())
    }
}

impl Snapshot {
    /// Whether a request with this key has a first answer, as far as the store knows: an expired one counts until it is gone.
    pub(in crate::store::embedded) fn is_answered(&self, key: &RequestKey) -> Outcome<bool> {
        let Some(caller) = self.find_user(&key.caller)? else { return Ok(false) };
        let row = self.answers()?.get(&answer_key(caller, key.kind, &key.key))?;
        row.map(|row| AnswerRow::decode(row.value()).map(drop)).transpose().map(|row| row.is_some())
    }
}
