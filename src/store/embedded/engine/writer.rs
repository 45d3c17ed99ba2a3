//! The writer: one thread, one queue, one transaction for all that waits (group commit). While a transaction is synced
//! the next one gathers; there is no timer. After the commit the sink hears of the changes first, in the order of their
//! ids, then the requests are answered; if the commit fails, neither happens and its outcome is unknown.
//!
//! It also mends: after an I/O error redb refuses everything, reads too, until it is opened again. So the writer opens it
//! again at once, for the readers, and tries with growing pauses whether it takes a write; unless a sync failed or the file
//! is damaged, which a running process cannot put right.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use redb::{Durability, ReadableDatabase};
use tokio::sync::watch;

use crate::domain::{Clock, ExpiryClock, Timestamp};
use crate::store::embedded::engine::batch::{Batch, Finished, Known};
use crate::store::embedded::engine::codec::{encode, get_number};
use crate::store::embedded::engine::dispatch::run;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::health::{Health, Shared};
use crate::store::embedded::engine::pace::Pace;
use crate::store::embedded::engine::queue::{BATCH, Command, Queue, Reply, Taken};
use crate::store::embedded::engine::schema::{Snapshot, Tables, meta};
use crate::store::operations::{AnyAnswer, Applied, Class};
use crate::store::{CommitSink, StoreError};

/// The first and the longest pause between two attempts to open the file again, or to write to it.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_LONGEST: Duration = Duration::from_secs(5);
/// How often it is looked at, while nobody writes, whether the file has its name still.
const LOOK: Duration = Duration::from_secs(5);

/// An answer that waits for the commit.
struct Ack {
    reply: Reply,
    answer: Result<Applied<AnyAnswer>, StoreError>,
}

impl Ack {
    /// Answers a request: with what it got, or with the error that befell its transaction.
    fn send(self, error: Option<&StoreError>) {
        // The receiver may be gone; that is fine.
        drop(self.reply.send(error.cloned().map_or(self.answer, Err)));
    }
}

/// The writer's own.
pub(in crate::store::embedded) struct Writer {
    pub(in crate::store::embedded) shared: Arc<Shared>,
    pub(in crate::store::embedded) queue: Arc<Queue>,
    pub(in crate::store::embedded) sink: Arc<dyn CommitSink>,
    pub(in crate::store::embedded) keep_versions: u64,
    pub(in crate::store::embedded) lessons_per_user: u64,
    pub(in crate::store::embedded) known: Known,
    pub(in crate::store::embedded) clock: Arc<dyn Clock>,
    pub(in crate::store::embedded) expiry: ExpiryClock,
    /// `storage.commit_delay`.
    pub(in crate::store::embedded) commit_delay: Duration,
    /// Told when the file is closed.
    pub(in crate::store::embedded) closed: watch::Sender<Option<Result<(), StoreError>>>,
}

impl Writer {
    /// Works until nobody can ask any more, then closes the file.
    pub(in crate::store::embedded) fn run(mut self) {
        let mut attempts = Attempts::new();
        let mut commands = Vec::with_capacity(BATCH);
        let mut pace = Pace::new(self.commit_delay);
        let mut last = Instant::now();
        loop {
            self.mend(&mut attempts);
            let is_ill = matches!(self.shared.health(), Health::Broken(_) | Health::ReadOnly(_));
            let until = if is_ill { attempts.next } else { Instant::now() + LOOK };
            match self.queue.take(&mut commands, Some(until), &mut pace, last) {
                Taken::Some(waited) => self.shared.commit_wait.record(waited),
                Taken::TimedOut => continue,
                Taken::Closed => break,
            }
            let commits = self.shared.commits.load(Ordering::Relaxed);
            // A panic inside the engine must not leave every later request waiting for ever.
            self.shared.set_busy(Some(Instant::now()));
            let panicked = catch_unwind(AssertUnwindSafe(|| self.serve(&mut commands))).is_err();
            self.shared.set_busy(None);
            last = Instant::now();
            if panicked {
                commands.clear();
                self.known = Known::default();
                let mut health = self.shared.health.lock();
                self.shared.fail(&mut health, StoreError::Unavailable("the writer panicked; restart".into()));
            }
            // A file that takes a try but no request has not been repaired: only a request's commit ends the pauses.
            if self.shared.commits.load(Ordering::Relaxed) > commits {
                attempts = Attempts::new();
            }
        }
        let lost = self.shared.lost();
        let closing = self.shared.database.write().take();
        let result =
            closing.map_or(Ok(()), |database| database.close().map_err(|error| Failure::from(error).into_error()));
        let result = lost.map_or(result, Err);
        self.closed.send_replace(Some(result));
    }

    fn serve(&mut self, commands: &mut Vec<Command>) {
        self.look_for_the_file();
        if let Health::ReadOnly(error) | Health::Broken(error) | Health::Failed(error) = self.shared.health() {
            commands.drain(..).for_each(|command| command.refuse(error.clone()));
            return;
        }
        self.refuse_by_space(commands);
        if commands.is_empty() {
            return;
        }
        let mut acks = Vec::with_capacity(commands.len());
        let bytes = commands.iter().map(Command::weight).sum::<usize>() as u64;
        let began = Instant::now();
        match self.commit(commands, &mut acks) {
            Ok(committed) => {
                if let Some(Finished { changes, last_id, noted_backup }) = committed {
                    self.shared.commit_time.record(began.elapsed());
                    self.shared.commits.fetch_add(1, Ordering::Relaxed);
                    self.shared.use_room(bytes);
                    self.shared.writes.fetch_add(acks.len() as u64, Ordering::Relaxed);
                    self.shared.last_id.store(last_id, Ordering::Release);
                    if noted_backup.is_some() {
                        *self.shared.last_backup.lock() = noted_backup;
                    }
                    if !changes.is_empty() {
                        self.sink.committed(changes);
                    }
                }
                // A file that has lost its name meanwhile keeps nothing: what is in it is the truth only until it is closed.
                let lost = self.look_for_the_file();
                acks.into_iter().for_each(|ack| ack.send(lost.as_ref()));
            }
            Err(failure) => {
                // What is known by heart may be ahead of the disk, or the disk ahead of it.
                self.known = Known::default();
                if let Some(tap) = self.shared.tap.get() {
                    tap.is_unknown();
                }
                let error = match self.shared.note(&failure) {
                    full @ (StoreError::Full(_) | StoreError::Corrupt(_)) => full,
                    other => StoreError::Unavailable(other.to_string()),
                };
                acks.into_iter().for_each(|ack| ack.send(Some(&error)));
                commands.drain(..).for_each(|command| command.refuse(error.clone()));
            }
        }
    }

    /// Takes no writes any more while the name of the file leads to another one or to none. The open file stays open: whoever
    /// makes a backup now has everything.
    fn look_for_the_file(&self) -> Option<StoreError> {
        let error = self.shared.lost()?;
        let mut health = self.shared.health.lock();
        if *health == Health::Well {
            tracing::error!(%error, "the database file has lost its name; writes are refused");
            *health = Health::ReadOnly(error.clone());
        }
        Some(error)
    }

    /// Refuses what the disk has no room for; what takes rights away or makes room goes on for longer.
    fn refuse_by_space(&self, commands: &mut Vec<Command>) {
        let Some(error) = self.shared.too_full(Class::Work) else { return };
        let all = self.shared.too_full(Class::Relief);
        for command in std::mem::take(commands) {
            let refusal = match &command {
                Command::Write(write, _) if write.operation.class() == Class::Relief => all.as_ref(),
                Command::Write(..) => Some(&error),
                Command::Mend => None,
            };
            match refusal {
                Some(error) => command.refuse(error.clone()),
                None => commands.push(command),
            }
        }
    }

    /// One transaction for all commands; what has been taken from them has its ack in `acks`.
    fn commit(&mut self, commands: &mut Vec<Command>, acks: &mut Vec<Ack>) -> Outcome<Option<Finished>> {
        let database = self.shared.database.read();
        let Some(open) = database.as_ref() else { return Err(Failure::NoFile(self.shared.why_not())) };
        let mut tx = open.begin_write()?;
        tx.set_durability(Durability::Immediate)?;
        tx.set_quick_repair(true);
        let due = self.expiry.now(self.clock.now(), self.clock.passing());
        let kept = (self.keep_versions, self.lessons_per_user);
        let tap = self.shared.tap.get();
        let log = RefCell::default();
        let tables = if tap.is_some() { Tables::logged(&tx, &log) } else { Tables::of(&tx) };
        let mut batch = Batch::new(tables, &mut self.known, Timestamp(0), due, kept)?;
        batch.hooks = *self.shared.hooks.lock();
        let mut failed = None;
        for command in commands.drain(..) {
            let Command::Write(write, reply) = command else { continue };
            // A refusal is an answer; any other failure is the end of the transaction.
            match run(&mut batch, *write) {
                Ok(applied) => acks.push(Ack { reply, answer: Ok(applied) }),
                Err(Failure::Refused(refusal)) => acks.push(Ack { reply, answer: Err(StoreError::Refused(refusal)) }),
                Err(failure) => {
                    acks.push(Ack { reply, answer: Err(StoreError::Unavailable(String::new())) });
                    failed = Some(failure);
                    break;
                }
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        let Some(told) = batch.finish()? else {
            tx.abort()?;
            return Ok(None);
        };
        if let Some(tap) = tap {
            tap.begins();
        }
        tx.commit()?;
        if let Some(tap) = tap {
            tap.committed(self.clock.now(), log.into_inner());
        }
        Ok(Some(told))
    }

    /// Opens the file again if it has to be, and tries whether it takes a write when it is time to.
    fn mend(&mut self, attempts: &mut Attempts) {
        self.look_for_the_file();
        loop {
            match self.shared.health() {
                // Readers wait for it: only where it does not open is there a pause before the next time.
                Health::Broken(error) if attempts.does_open || attempts.are_due() => {
                    attempts.does_open = self.reopen(error);
                    if !attempts.does_open {
                        return attempts.count_one();
                    }
                }
                Health::ReadOnly(_) if attempts.are_due() => {
                    attempts.count_one();
                    if self.shared.lost().is_some() {
                        return;
                    }
                    match self.try_a_write() {
                        Ok(()) => {
                            self.shared.set_health(Health::Well);
                            tracing::info!("the database accepts writes again");
                        }
                        Err(failure) => drop(self.shared.note(&failure)),
                    }
                }
                _ => return,
            }
        }
    }

    /// Writes what is there already.
    fn try_a_write(&self) -> Outcome<()> {
        let database = self.shared.database.read();
        let Some(open) = database.as_ref() else { return Err(Failure::NoFile(self.shared.why_not())) };
        let mut tx = open.begin_write()?;
        tx.set_durability(Durability::Immediate)?;
        tx.set_quick_repair(true);
        {
            let mut tables = Tables::of(&tx);
            let next = get_number(tables.meta.read()?, meta::NEXT_ID)?.unwrap_or(1);
            tables.meta.write()?.insert(meta::NEXT_ID, encode(&next, &mut Vec::new())?)?;
        }
        Ok(tx.commit()?)
    }

    /// Closes the file and opens it again, for reading until a write has been tried, and tells who waits for that.
    fn reopen(&mut self, why: StoreError) -> bool {
        let is_open = self.open_again(why);
        self.shared.reopenings.send_modify(|times| *times += 1);
        is_open
    }

    /// Waits for the readers, who get errors anyway.
    fn open_again(&mut self, why: StoreError) -> bool {
        let mut database = self.shared.database.write();
        // The old handle holds the lock of the file until it is dropped.
        *database = None;
        let opened = self.shared.opener.open_again().map_err(|error| error.to_string()).and_then(|opened| {
            let last_id = opened
                .begin_read()
                .map_err(Failure::from)
                .and_then(|tx| Snapshot::new(tx).last_id())
                .map_err(|failure| failure.into_error().to_string())?;
            Ok((opened, last_id))
        });
        self.known = Known::default();
        match opened {
            Ok((opened, last_id)) => {
                // Before the first reader comes: what it notes of the new file must not be overwritten, and who can read
                // finds the store open.
                self.shared.last_id.store(last_id, Ordering::Release);
                self.shared.set_health(Health::ReadOnly(why));
                *database = Some(opened);
                true
            }
            Err(error) => {
                tracing::warn!(%error, "the database cannot be reopened yet");
                false
            }
        }
    }
}

impl Drop for Writer {
    /// Whatever ends it: who waits for it, and who comes later, is told.
    fn drop(&mut self) {
        self.queue.abandon();
    }
}

/// When a file that met an error is tried again.
struct Attempts {
    next: Instant,
    pause: Duration,
    /// Whether it opened the last time.
    does_open: bool,
}

impl Attempts {
    fn new() -> Attempts {
        Attempts { next: Instant::now(), pause: PAUSE_FIRST, does_open: true }
    }

    fn are_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn count_one(&mut self) {
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_LONGEST);
    }
}
