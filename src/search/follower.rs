//! The thread that keeps the index as the store is: from the position that the index itself has kept it takes in new messages, a
//! second's at a time, and looks again at those that were changed. After a crash it compares all of them, because what was removed
//! from the store leaves nothing there that would say so. What cannot be read is built anew, while everything else goes on. There is
//! no index before somebody looks for something.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;
use tokio::sync::watch;

use super::changed::{Changed, Noted};
use super::index::{Failure, Finder, Index, bytes_of};
use super::query::Query;
use crate::domain::audit::hex;
use crate::domain::panics;
use crate::store::searched::Searchable;
use crate::store::{Store, StoreError};

/// The directory of the index below that of the data.
pub const DIRECTORY: &str = "search";
/// How often it looks for something new, and for how long it gathers until it commits.
const TICK: Duration = Duration::from_secs(1);
/// Behind a commit it gathers for longer: one costs milliseconds, whatever is in it.
const GATHERS: Duration = Duration::from_secs(2);
/// Messages that are looked at again at once.
const PART: usize = 1_000;
/// An index that had all a moment ago counts as complete.
const RECENT: Duration = Duration::from_secs(10);
/// Writing removed text out of the files may take this part of the time.
const REMOVAL_RESTS: u32 = 10;
/// The mark alone is written as often, where nothing was said.
const MARK_EVERY: Duration = Duration::from_secs(300);
/// More space than the store keeps free is left to it.
const SPARE_BYTES: u64 = 32 << 20;
/// How long it waits for space, and at most behind a failure.
const SPACE_WAIT: Duration = Duration::from_secs(5);
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// An index that has failed so often is built anew.
const TRIES: u32 = 3;
/// How much it steps back behind everybody else: as a long read of the store does.
const POLITE: i32 = 10;

/// What the index is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Doing {
    /// There is none, as nobody has looked for anything yet.
    Unused,
    /// It is being opened, and its checksums are looked at.
    #[default]
    Opening,
    /// All messages in it are compared with the store.
    Comparing,
    /// It takes in what was said.
    Following,
    /// It waits for space on the disk, or to begin again behind a failure.
    Waiting,
}

impl Doing {
    /// In a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Doing::Unused => "unused",
            Doing::Opening => "opening",
            Doing::Comparing => "comparing",
            Doing::Following => "following",
            Doing::Waiting => "waiting",
        }
    }
}

/// How the index stands.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// What it is doing.
    pub doing: Doing,
    /// How many messages are in it.
    pub documents: u64,
    /// How many bytes its files have.
    pub bytes: u64,
    /// Every message up to this id is in it.
    pub up_to: u64,
    /// Messages that were taken out of it, and whose words are in its files until those are written anew.
    pub removed: u64,
    /// When it last had all that was stored.
    pub complete_at: Option<Instant>,
    /// Since when it has not.
    incomplete_since: Option<Instant>,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// Why it was begun anew since the start of the server, and how often.
    pub anew: Option<String>,
    /// How often.
    pub times_anew: u64,
}

impl Standing {
    /// How long ago it had all that was stored.
    #[must_use]
    pub fn behind(&self) -> Duration {
        if self.doing == Doing::Unused {
            return Duration::ZERO;
        }
        self.complete_at.or(self.incomplete_since).map_or(Duration::ZERO, |at| at.elapsed())
    }

    /// Whether it has all that was stored, but for the last moments.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.complete_at.is_some_and(|at| at.elapsed() < RECENT)
    }
}

/// Why nothing was looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotNow {
    /// The index is being opened, or cannot be read.
    NoIndex,
    /// It would take too long.
    TooLong,
}

/// The index, and the thread that keeps it.
#[derive(Debug)]
pub struct Follower {
    dir: PathBuf,
    changed: Arc<Changed>,
    finder: ArcSwapOption<Finder>,
    standing: Mutex<Standing>,
    /// A search has met something that cannot be read.
    is_suspect: AtomicBool,
    /// How often it has failed since it last had all that was stored.
    failures: AtomicU32,
    is_ending: Mutex<bool>,
    /// Somebody has looked for something, in this life of the server or in an earlier one.
    is_wanted: AtomicBool,
    woken: Condvar,
    progress: watch::Sender<Progress>,
    ended: watch::Sender<bool>,
}

/// How far the index has come since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Progress {
    None,
    Opened,
    Complete,
}

/// Why it cannot go on.
enum Failed {
    Index(Failure),
    Store(StoreError),
}

impl From<Failure> for Failed {
    fn from(failure: Failure) -> Failed {
        Failed::Index(failure)
    }
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Failed {
        Failed::Store(error)
    }
}

/// Says that the thread has ended, however it does.
struct Ends<'a>(&'a watch::Sender<bool>);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.send_replace(true);
    }
}

/// What it goes by in its rounds.
struct Round<'a> {
    store: &'a dyn Store,
    handle: &'a Handle,
    min_free_bytes: u64,
    marked_at: Instant,
    removes_at: Instant,
}

impl Follower {
    /// The index of the data in a directory. Nothing is done before [`Follower::run`].
    #[must_use]
    pub fn new(data_dir: &Path, changed: Arc<Changed>) -> Follower {
        Follower {
            dir: data_dir.join(DIRECTORY),
            changed,
            finder: ArcSwapOption::empty(),
            standing: Mutex::new(Standing { incomplete_since: Some(Instant::now()), ..Standing::default() }),
            is_suspect: AtomicBool::new(false),
            failures: AtomicU32::new(0),
            is_ending: Mutex::new(false),
            is_wanted: AtomicBool::new(false),
            woken: Condvar::new(),
            progress: watch::Sender::new(Progress::None),
            ended: watch::Sender::new(false),
        }
    }

    /// Before anything is written: what is changed from here on is heard of.
    pub fn begin(&self, store: &dyn Store) {
        self.changed.begin(store.last_id());
    }

    /// Somebody looks for something: from here on there is an index. Whether there was none before.
    pub fn want(&self) -> bool {
        if self.is_wanted.load(Ordering::Acquire) {
            return false;
        }
        // Whoever waits for it looks at it with this lock.
        let _is_ending = self.is_ending.lock();
        let was_wanted = self.is_wanted.swap(true, Ordering::AcqRel);
        self.woken.notify_all();
        !was_wanted
    }

    /// Resolves when the index has been opened for the first time since the start.
    pub async fn opened(&self) {
        self.reached(Progress::Opened).await;
    }

    /// Resolves when the index has had all that is stored for the first time since the start.
    pub async fn completed(&self) {
        self.reached(Progress::Complete).await;
    }

    async fn reached(&self, progress: Progress) {
        // The sender lives as long as this.
        let _ = self.progress.subscribe().wait_for(|reached| *reached >= progress).await;
    }

    fn reach(&self, progress: Progress) {
        self.progress.send_if_modified(|reached| {
            let is_more = progress > *reached;
            *reached = progress.max(*reached);
            is_more
        });
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.standing.lock().clone()
    }

    /// The newest messages of some rooms before an id that have the words of a query: at most so many ids, falling. They may be
    /// out of date, and a phrase counts as its words: what is shown is to be looked at again. Blocks.
    ///
    /// # Errors
    /// [`NotNow`].
    pub fn look_for(
        &self,
        query: &Query,
        rooms: &HashSet<u64>,
        before: u64,
        most: usize,
        until: Instant,
    ) -> Result<Vec<u64>, NotNow> {
        let Some(finder) = self.finder.load_full() else { return Err(NotNow::NoIndex) };
        // Damaged files may make the library panic.
        let why = match panics::awaited(|| finder.find(query, rooms, before, most, until)) {
            Ok(Ok(found)) => return Ok(found),
            Ok(Err(Failure::TooLong)) => return Err(NotNow::TooLong),
            Ok(Err(failure)) => failure.to_string(),
            Err(panic) => panic,
        };
        if !self.is_suspect.swap(true, Ordering::AcqRel) {
            tracing::error!(error = %why, "the index of search cannot be read ({why}); it is built anew");
        }
        self.woken.notify_all();
        Err(NotNow::NoIndex)
    }

    /// Asks it to end: what is stored by now is taken in first, as far as that is little.
    pub fn end(&self) {
        *self.is_ending.lock() = true;
        self.woken.notify_all();
    }

    /// Resolves when the thread has ended.
    pub async fn ended(&self) {
        // The sender lives as long as this.
        let _ = self.ended.subscribe().wait_for(|ended| *ended).await;
    }

    fn is_ending(&self) -> bool {
        *self.is_ending.lock()
    }

    /// Waits for so long, or until it is to end.
    fn wait(&self, time: Duration) {
        let mut is_ending = self.is_ending.lock();
        if !*is_ending {
            self.woken.wait_for(&mut is_ending, time);
        }
    }

    /// Keeps the index until it is asked to end. To be called on a thread of its own.
    pub fn run(&self, store: &dyn Store, handle: &Handle) {
        let _ended = Ends(&self.ended);
        // On Linux this is of the calling thread, and of those that the library begins from here. Without it they are less polite.
        let _ = rustix::process::nice(POLITE);
        while !self.is_ending() {
            let (failed, is_its_own) = match panics::awaited(|| self.follow(store, handle)) {
                Ok(Ok(())) => break,
                Ok(Err(Failed::Store(error))) => (error.to_string(), false),
                Ok(Err(Failed::Index(failure))) => (failure.to_string(), true),
                Err(panic) => (panic, true),
            };
            self.finder.store(None);
            let before = self.failures.fetch_add(u32::from(is_its_own), Ordering::AcqRel);
            let wait = (TICK * 2_u32.saturating_pow(before)).min(LONGEST_WAIT);
            self.tell_problem(format!("the index of search in {} has failed: {failed}", self.dir.display()));
            self.wait(wait);
        }
        self.finder.store(None);
    }

    fn tell_problem(&self, problem: String) {
        // Its store is closing under it.
        if self.is_ending() {
            return;
        }
        let mut standing = self.standing.lock();
        standing.doing = Doing::Waiting;
        standing.incomplete_since = standing.complete_at.take().or(standing.incomplete_since);
        if standing.problem.as_ref() != Some(&problem) {
            tracing::error!(
                "{problem}. Messages are stored and read as before; search is incomplete or unavailable until this is over"
            );
            standing.problem = Some(problem);
        }
    }

    fn set_doing(&self, doing: Doing) {
        self.standing.lock().doing = doing;
    }

    /// Waits until somebody looks for something where nobody ever has: a server whose people do not search pays nothing for it.
    /// `false` if it is to end.
    fn await_use(&self) -> bool {
        if self.dir.exists() {
            self.is_wanted.store(true, Ordering::Release);
        }
        let mut is_ending = self.is_ending.lock();
        if !self.is_wanted.load(Ordering::Acquire) {
            self.set_doing(Doing::Unused);
            while !*is_ending && !self.is_wanted.load(Ordering::Acquire) {
                self.woken.wait(&mut is_ending);
            }
            self.standing.lock().incomplete_since = Some(Instant::now());
        }
        !*is_ending
    }

    /// Opens the index and keeps it, until it is asked to end or something fails.
    fn follow(&self, store: &dyn Store, handle: &Handle) -> Result<(), Failed> {
        if !self.await_use() {
            return Ok(());
        }
        self.set_doing(Doing::Opening);
        if self.is_suspect.swap(false, Ordering::AcqRel) || self.failures.load(Ordering::Acquire) >= TRIES {
            super::index::forget(&self.dir)?;
        }
        let now = Instant::now();
        let min_free_bytes = store.status().min_free_bytes;
        let mut round = Round { store, handle, min_free_bytes, marked_at: now, removes_at: now };
        // What is there already is read also where nothing can be written.
        while !super::index::is_in(&self.dir) && !self.has_space(&round) {
            if self.is_ending() {
                return Ok(());
            }
            self.wait(SPACE_WAIT);
        }
        let identity = store.identity();
        let opened = Index::open(&self.dir, &hex(&identity.store_id), identity.epoch, self.changed.applied())?;
        let mut index = opened.index;
        let is_behind = index.position() < self.changed.applied();
        if let Some(why) = opened.anew {
            tracing::info!(why, "the index of search is built anew ({why}); until it is complete, searches say so");
            let mut standing = self.standing.lock();
            (standing.anew, standing.times_anew) = (Some(why), standing.times_anew + 1);
            standing.incomplete_since = standing.complete_at.take().or(standing.incomplete_since);
        }
        self.finder.store(Some(Arc::new(index.finder())));
        self.publish(&index);
        self.reach(Progress::Opened);
        if is_behind && index.position() > 0 && !self.compare(&mut index, &round)? {
            return Ok(());
        }
        self.set_doing(Doing::Following);
        loop {
            // What is stored by then is taken in once more.
            let is_last = self.is_ending();
            if self.is_suspect.load(Ordering::Acquire) {
                return Err(Failure::Broken("a search could not read it".to_owned()).into());
            }
            if !index.is_there() {
                return Err(Failure::Broken("its files are gone".to_owned()).into());
            }
            // What was not compared to its end must not count as done.
            if self.has_space(&round) && !self.take_in(&mut index, &mut round)? {
                return Ok(());
            }
            if is_last {
                return Ok(());
            }
            self.wait(if round.marked_at.elapsed() < TICK { GATHERS } else { TICK });
        }
    }

    /// Whether there is space enough, so that the store does not miss what is written here.
    fn has_space(&self, round: &Round<'_>) -> bool {
        let place = if self.dir.exists() { &*self.dir } else { self.dir.parent().unwrap_or(&self.dir) };
        let free = rustix::fs::statvfs(place).map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
        let needed = round.min_free_bytes.saturating_add(SPARE_BYTES);
        if free >= needed {
            let mut standing = self.standing.lock();
            if standing.doing == Doing::Waiting {
                standing.doing = Doing::Following;
            }
            return true;
        }
        self.tell_problem(format!("the index of search waits for space on the disk of {}", self.dir.display()));
        false
    }

    /// Does what has happened since, and commits it. `false` if it was asked to end in the middle of what is not done by halves.
    fn take_in(&self, index: &mut Index, round: &mut Round<'_>) -> Result<bool, Failed> {
        let applied = self.changed.applied();
        let Noted { messages, is_room_gone, is_too_much } = self.changed.take();
        if is_too_much && !self.compare(index, round)? {
            return Ok(false);
        }
        if is_room_gone {
            let gone = round.handle.block_on(round.store.rooms_gone(index.rooms()?))?;
            gone.into_iter().for_each(|room| index.remove_room(room));
        }
        let mut messages: Vec<u64> = messages.into_iter().filter(|id| *id <= index.position()).collect();
        messages.sort_unstable();
        for part in messages.chunks(PART) {
            self.look_again(index, round, part, None)?;
        }
        let mut began = Instant::now();
        while index.position() < applied {
            let part = round.handle.block_on(round.store.searchable_behind(index.position(), applied))?;
            for Searchable { id, room, content, .. } in part.messages {
                index.add(id, room, &content)?;
            }
            index.advance(part.up_to);
            if began.elapsed() >= TICK {
                self.commit(index, round)?;
                if self.is_ending() || !self.has_space(round) {
                    break;
                }
                began = Instant::now();
            }
        }
        let is_mark_due = self.is_ending() || round.marked_at.elapsed() >= MARK_EVERY;
        if index.is_changed() || is_mark_due {
            self.commit(index, round)?;
        }
        if index.keeps_removed()? && Instant::now() >= round.removes_at && !self.is_ending() {
            let began = Instant::now();
            index.drop_removed()?;
            round.removes_at = Instant::now() + began.elapsed() * REMOVAL_RESTS;
            self.publish(index);
        }
        let mut standing = self.standing.lock();
        standing.up_to = index.position();
        if index.position() >= applied {
            standing.complete_at = Some(Instant::now());
            self.reach(Progress::Complete);
            self.failures.store(0, Ordering::Release);
            if standing.problem.take().is_some() {
                tracing::info!("the index of search is complete again");
            }
        }
        Ok(true)
    }

    fn commit(&self, index: &mut Index, round: &mut Round<'_>) -> Result<(), Failed> {
        index.commit()?;
        round.marked_at = Instant::now();
        self.publish(index);
        Ok(())
    }

    fn publish(&self, index: &Index) {
        let (documents, removed, bytes) = (index.finder().documents(), index.removed(), bytes_of(&self.dir));
        let mut standing = self.standing.lock();
        (standing.documents, standing.removed, standing.bytes) = (documents, removed, bytes);
        standing.up_to = index.position();
    }

    /// Looks at each message in the index, whether the store has it, and whether it was changed since. `false` if it was asked to
    /// end in between.
    fn compare(&self, index: &mut Index, round: &Round<'_>) -> Result<bool, Failed> {
        tracing::info!(
            "the index of search may be behind the store: its messages are compared with those that are stored"
        );
        self.set_doing(Doing::Comparing);
        let since = index.position();
        let mut failed = None;
        let is_whole = index.each_part(PART, |index, part| {
            if self.is_ending() {
                return Ok(false);
            }
            match self.look_again(index, round, &part, Some(since)) {
                Ok(()) => Ok(true),
                Err(Failed::Index(failure)) => Err(failure),
                Err(Failed::Store(error)) => {
                    failed = Some(error);
                    Ok(false)
                }
            }
        })?;
        if let Some(error) = failed {
            return Err(error.into());
        }
        if index.is_changed() {
            index.commit()?;
        }
        self.set_doing(Doing::Following);
        Ok(is_whole)
    }

    /// Puts messages into the index as they are now; with `since` only those that were changed behind this id, and what is gone.
    fn look_again(
        &self,
        index: &mut Index,
        round: &Round<'_>,
        messages: &[u64],
        since: Option<u64>,
    ) -> Result<(), Failed> {
        let read = round.handle.block_on(round.store.searchable(messages.to_vec()))?;
        for (id, message) in messages.iter().zip(read) {
            match message {
                Some(message) if since.is_some_and(|since| message.change <= since) => {}
                Some(Searchable { id, room, content, .. }) => {
                    index.remove(id);
                    index.add(id, room, &content)?;
                }
                None => index.remove(*id),
            }
        }
        Ok(())
    }
}
