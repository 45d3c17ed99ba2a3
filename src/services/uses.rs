//! What the audit log says of rights that are used all day long: sign-ins of administrators, what service tokens do, and
//! administrators who read rooms that are not theirs. Each is recorded when it begins, and then once an hour with how often it
//! was, so that it fills neither the audit log nor the disk. And what administrators do outside of the server and report to it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::audit::{AuditEntry, action};
use crate::domain::chat::Author;
use crate::domain::{Actor, RoomId, Scope, Timestamp};
use crate::protocol::admin::data::{AuditView, ReportRequest};
use crate::protocol::error::ApiError;
use crate::store::operations::{Act, Record};

use crate::services::audit::record_reading;
use crate::services::errors::store_error;
use crate::services::settings::LiveSettings;
use crate::services::storage::Storage;
use crate::services::{Caller, authorize};

/// How long uses of one kind are counted as one.
const GATHERED_FOR: Duration = Duration::from_secs(60 * 60);
/// So many kinds of uses are distinguished at a time; more are counted together.
const MOST_KINDS: usize = 256;
/// So many records that the store did not take are kept for later.
const KEPT: usize = 4 * MOST_KINDS;
/// So many rooms that were read are remembered at a time.
const MOST_READ: usize = 1_024;
/// The longest text of a report, in characters.
const REPORT_CHARS: usize = 500;
/// What can be reported: what commands do with files of the server's, without the server.
const REPORTED: [&str; 3] = [action::TOKEN_ISSUE, action::KEYS, action::BACKUP];

/// What is counted as one: who, from where, what, and by which token.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Use {
    actor: String,
    origin: String,
    action: &'static str,
    target: String,
}

/// How often something was done that is not yet recorded.
#[derive(Debug, Clone, Copy)]
struct Count {
    since: Timestamp,
    unrecorded: u64,
    has_begun: bool,
}

#[derive(Debug, Default)]
struct Gathered {
    kinds: HashMap<Use, Count>,
    /// Beyond those.
    others: u64,
    /// Records that the store did not take; at most [`KEPT`].
    kept: Vec<AuditEntry>,
}

impl Gathered {
    fn add(&mut self, what: Use, at: Timestamp) {
        if self.kinds.len() >= MOST_KINDS && !self.kinds.contains_key(&what) {
            self.others += 1;
            return;
        }
        let fresh = Count { since: at, unrecorded: 0, has_begun: false };
        self.kinds.entry(what).or_insert(fresh).unrecorded += 1;
    }

    /// What is to be recorded now: what has begun, and what an hour has gathered; at the end, all.
    fn due(&mut self, now: Timestamp, is_end: bool) -> Vec<AuditEntry> {
        let mut due = Vec::new();
        self.kinds.retain(|what, count| {
            let is_over = is_end || now >= count.since.plus(GATHERED_FOR);
            if count.has_begun && !is_over {
                return true;
            }
            // Whoever has done nothing for an hour begins anew.
            let is_kept = !is_end && count.unrecorded > 0;
            if count.unrecorded > 0 {
                due.push(entry(what, count.since, count.unrecorded, count.has_begun));
            }
            *count = Count { since: if is_over { now } else { count.since }, unrecorded: 0, has_begun: true };
            is_kept
        });
        if self.others > 0 {
            let others = std::mem::take(&mut self.others);
            let (actor, origin) = ("various".to_owned(), "various".to_owned());
            let what = Use { actor, origin, action: action::TOKEN_USE, target: String::new() };
            due.push(entry(&what, now, others, true));
        }
        due.sort_by_key(|entry| entry.at);
        due
    }
}

impl Gathered {
    /// Keeps records for later. If there are too many, the oldest stay, because they show how it began.
    fn keep(&mut self, mut entries: Vec<AuditEntry>) {
        if let Some(lost) = entries.len().checked_sub(KEPT).filter(|lost| *lost > 0) {
            tracing::error!(lost, "dropped {lost} records of sign-ins and of uses of tokens: the store accepts none");
            entries.truncate(KEPT);
        }
        self.kept = entries;
    }
}

fn entry(what: &Use, at: Timestamp, times: u64, is_sum: bool) -> AuditEntry {
    let outcome = match (times, is_sum) {
        (1, _) => "done".to_owned(),
        (times, true) => format!("done, {times} times more within an hour"),
        (times, false) => format!("done, {times} times"),
    };
    let Use { actor, origin, action, target } = what.clone();
    AuditEntry { at, actor, origin, action: action.to_owned(), target, outcome }
}

/// Uses of rights, for the audit log.
#[derive(Debug, Clone)]
pub struct Uses {
    store: Storage,
    settings: Arc<LiveSettings>,
    gathered: Arc<Mutex<Gathered>>,
    /// Who has read what that is recorded, and when: at most [`MOST_READ`].
    read: Arc<Mutex<HashMap<(String, String), Timestamp>>>,
}

impl Uses {
    pub(super) fn new(store: Storage, settings: Arc<LiveSettings>) -> Uses {
        Uses { store, settings, gathered: Arc::default(), read: Arc::default() }
    }

    /// Notes that somebody has signed in, if it is an administrator or a service.
    pub fn note_sign_in(&self, actor: &Actor, origin: &str) {
        if actor.is_trusted() {
            let action = if actor.is_admin() { action::SIGN_IN } else { action::TOKEN_USE };
            self.note(actor, origin, action, String::new());
        }
    }

    /// Notes what a service has done with its token.
    pub(super) fn note_service(&self, caller: &Caller, action: &'static str, what: &str) {
        self.note(&caller.actor, caller.origin.as_deref().unwrap_or("socket"), action, what.to_owned());
    }

    fn note(&self, actor: &Actor, origin: &str, action: &'static str, what: String) {
        let token = match &actor.token_id {
            Some(id) => format!("token {id}"),
            None => "token without jti".to_owned(),
        };
        let target = if what.is_empty() { token } else { format!("{what}, {token}") };
        let what = Use { actor: actor.user.canonical(), origin: origin.to_owned(), action, target };
        self.gathered.lock().add(what, self.store.now());
    }

    /// Puts what was noted into the audit log as it is due; at the end, all.
    pub(super) async fn record(&self, is_end: bool) {
        let due = {
            let gathered = &mut *self.gathered.lock();
            let mut due = std::mem::take(&mut gathered.kept);
            due.extend(gathered.due(self.store.now(), is_end));
            due
        };
        let mut due = due.into_iter();
        while let Some(entry) = due.next() {
            if let Err(error) = self.store.write(Record { entry: entry.clone() }).await {
                let left = 1 + due.len();
                let (action, actor) = (&entry.action, &entry.actor);
                tracing::error!(%error, left,
                    "{left} records of sign-ins and of uses of tokens are not in the audit trail yet, the first is {action} by \
                     {actor}: the store did not take it ({error}); they are tried again");
                self.gathered.lock().keep(std::iter::once(entry).chain(due).collect());
                return;
            }
        }
    }

    /// Records that an administrator reads rooms that they could not enter as anybody else, before they do: once an hour.
    ///
    /// # Errors
    /// `unavailable`, where it could have been recorded and was not.
    pub async fn note_reading(&self, caller: &Caller, rooms: &[RoomId]) -> Result<(), ApiError> {
        if !caller.actor.is_admin() || rooms.is_empty() {
            return Ok(());
        }
        let reader = caller.actor.user.canonical();
        let unrecorded: Vec<RoomId> =
            rooms.iter().filter(|room| !self.has_read(&reader, &format!("room {room}"))).cloned().collect();
        if unrecorded.is_empty() {
            return Ok(());
        }
        let as_anybody = Author { admin: false, ..Author::of(&caller.actor) };
        let enterable = self.store.enterable(unrecorded.clone(), as_anybody, self.settings.policy()).await;
        for (room, is_open) in unrecorded.iter().zip(enterable.map_err(store_error)?) {
            if !is_open {
                self.record_reading_of(caller, action::ROOM_READ, format!("room {room}")).await?;
            }
        }
        Ok(())
    }

    /// Records that the audit log is given out: at the first page of an export, and at another one if it is the first that
    /// somebody asks for within an hour.
    ///
    /// # Errors
    /// `forbidden`, `unavailable`.
    pub async fn note_audit_export(&self, caller: &Caller, is_first: bool) -> Result<(), ApiError> {
        authorize(caller, Scope::Admin)?;
        let target = String::new();
        if is_first {
            self.read.lock().remove(&(caller.actor.user.canonical(), target.clone()));
        }
        self.record_reading_of(caller, action::AUDIT_EXPORT, target).await
    }

    /// Records that somebody reads something, once an hour.
    ///
    /// # Errors
    /// `unavailable`, where it could have been recorded and was not.
    pub(super) async fn record_reading_of(
        &self,
        caller: &Caller,
        action: &'static str,
        target: String,
    ) -> Result<(), ApiError> {
        let reader = caller.actor.user.canonical();
        if self.has_read(&reader, &target) {
            return Ok(());
        }
        record_reading(&self.store, caller, action, target.clone()).await?;
        let (mut read, now) = (self.read.lock(), self.store.now());
        if read.len() >= MOST_READ {
            read.retain(|_, at| now < at.plus(GATHERED_FOR));
        }
        // Rather one record too many than one too few.
        if read.len() >= MOST_READ {
            read.clear();
        }
        read.insert((reader, target), now);
        Ok(())
    }

    fn has_read(&self, reader: &str, target: &str) -> bool {
        let at = self.read.lock().get(&(reader.to_owned(), target.to_owned())).copied();
        at.is_some_and(|at| self.store.now() < at.plus(GATHERED_FOR))
    }

    /// Records what somebody has made the server do who has no token; `origin` is who, in words, or "unknown".
    pub async fn record_of_server(&self, action: &'static str, origin: &str, outcome: &str) {
        let act = Act { origin: origin.to_owned(), ..Caller::server().act(action, String::new()) };
        let entry = act.entry(self.store.now(), outcome);
        if let Err(error) = self.store.write(Record { entry }).await {
            tracing::error!(%error, "the audit log has no record of {action} ({outcome}): the store did not take it");
        }
    }

    /// Records what an administrator has done outside of the server, in the words of the command that has done it.
    ///
    /// # Errors
    /// `invalid_payload`, `forbidden`, `unavailable`.
    pub async fn report(&self, caller: &Caller, request: ReportRequest) -> Result<AuditView, ApiError> {
        authorize(caller, Scope::Admin)?;
        let Some(action) = REPORTED.into_iter().find(|action| *action == request.action) else {
            return Err(ApiError::field("action", format!("action must be one of {}", REPORTED.join(", "))));
        };
        let words = |text: &str| -> String { text.chars().filter(|c| !c.is_control()).take(REPORT_CHARS).collect() };
        let (target, outcome) = (words(&request.target), words(&request.outcome));
        if !["done", "failed"].iter().any(|word| outcome.starts_with(word)) {
            return Err(ApiError::field("outcome", "outcome must begin with done or failed"));
        }
        let act = Act { note: String::new(), ..caller.act(action, target) };
        let entry = act.entry(self.store.now(), &outcome);
        let record = self.store.write(Record { entry }).await.map_err(store_error)?;
        Ok(AuditView::from(&record))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn used(who: &str) -> Use {
        let (actor, origin, target) = (who.to_owned(), "10.0.0.1".to_owned(), "token t".to_owned());
        Use { actor, origin, action: action::TOKEN_USE, target }
    }

    fn outcomes(entries: &[AuditEntry]) -> Vec<(&str, &str)> {
        entries.iter().map(|entry| (entry.actor.as_str(), entry.outcome.as_str())).collect()
    }

    #[test]
    fn a_use_is_recorded_when_it_begins_and_then_once_an_hour() {
        let hour = GATHERED_FOR.as_millis() as u64;
        let mut gathered = Gathered::default();
        gathered.add(used("svc"), Timestamp(1_000));
        assert_eq!(outcomes(&gathered.due(Timestamp(2_000), false)), [("svc", "done")]);
        for at in 3_000..4_000 {
            gathered.add(used("svc"), Timestamp(at));
        }
        assert_eq!(gathered.due(Timestamp(hour), false), []);
        let due = gathered.due(Timestamp(1_000 + hour), false);
        assert_eq!(outcomes(&due), [("svc", "done, 1000 times more within an hour")]);
        // After an hour of silence it begins anew.
        assert_eq!(gathered.due(Timestamp(1_000 + 2 * hour), false), []);
        assert!(gathered.kinds.is_empty());
        gathered.add(used("svc"), Timestamp(9 * hour));
        gathered.add(used("svc"), Timestamp(9 * hour));
        assert_eq!(outcomes(&gathered.due(Timestamp(9 * hour), false)), [("svc", "done, 2 times")]);
        gathered.add(used("svc"), Timestamp(9 * hour));
        assert_eq!(outcomes(&gathered.due(Timestamp(9 * hour), true)), [("svc", "done")], "nothing is lost at the end");
        assert!(gathered.kinds.is_empty());
    }

    #[test]
    fn many_kinds_are_counted_together() {
        let mut gathered = Gathered::default();
        for n in 0..MOST_KINDS + 7 {
            gathered.add(used(&format!("svc{n}")), Timestamp(1));
        }
        let due = gathered.due(Timestamp(2), false);
        assert_eq!(due.len(), MOST_KINDS + 1);
        assert!(outcomes(&due).contains(&("various", "done, 7 times more within an hour")));
    }
}
