//! What writes segments beside a running server. The store's writer leaves the rows of each commit in a bounded queue and never
//! waits; a thread of its own takes them every half second, appends them and syncs. What did not fit, or could not be written,
//! is a gap: it is told, and a new chain with a new base backup begins behind it.

use std::io::{self, BufWriter, PipeWriter};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::runtime::Handle;

use crate::domain::audit::hex;
use crate::domain::problem::Problem;
use crate::domain::{Clock, Timestamp};
use crate::store::Store;
use crate::store::embedded::offline::rows::newest_format;
use crate::store::rows::{CommitTap, Preface, RowLog, RowSink};

use crate::archive::backup::{Recipients, receive};
use crate::archive::continuous::cleaning;
use crate::archive::continuous::segment::{BaseNote, Header, PREFIX, Span, Writer, add_commit};
use crate::archive::format;
use crate::archive::key;
use crate::archive::moments::stamp;
use crate::archive::retention::free_path;

/// How often what waits is written and synced.
const EVERY: Duration = Duration::from_millis(500);
/// So much waits at most; a target that takes longer has a gap.
const QUEUE_BYTES: usize = 64 << 20;
/// A segment is this long, about.
const SEGMENT_BYTES: u64 = 16 << 20;
/// A base backup is made so often.
const BASE_EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// So long after a part of an erasure was stored a base backup follows, and what was before goes.
const ERASURE_SETTLES: Duration = Duration::from_secs(5);
/// The first and the longest pause before a target is tried again.
const PAUSE_FIRST: Duration = Duration::from_secs(1);
const PAUSE_LONGEST: Duration = Duration::from_secs(30);
/// What a thread that makes a base backup is nice by.
const POLITE: i32 = 10;

/// Where continuous backup goes, and how.
#[derive(Debug)]
pub struct Target {
    /// The directory. It is not made: where a share is not mounted, nothing is written into the place of it.
    pub dir: PathBuf,
    /// Who it is encrypted for.
    pub recipients: Recipients,
    /// How far back one can go, at least.
    pub keep: Duration,
    /// The directory of the key that base backups are signed with.
    pub key_dir: PathBuf,
}

/// How it stands, for people and for alarms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Where it goes.
    pub dir: PathBuf,
    /// How old the oldest commit is that one could not go back to.
    pub lag: Duration,
    /// What is wrong; `None` if all is well.
    pub problem: Option<String>,
    /// How many gaps there have been since the start.
    pub gaps: u64,
    /// The moment of the last base backup.
    pub base_at: Option<Timestamp>,
    /// The moment of the last commit that was written.
    pub written_at: Option<Timestamp>,
}

#[derive(Default)]
struct Pending {
    commits: Vec<u8>,
    span: Option<Span>,
    /// When the first of them came.
    since: Option<Instant>,
    /// The number of the last commit, written or not, and its moment.
    last: u64,
    last_at: Timestamp,
    /// Whether a commit is being made.
    is_in_flight: bool,
    /// Why what has come is not taken: a new chain has to begin.
    gap: Option<&'static str>,
    /// When a part of an erasure was stored.
    erasure: Option<Instant>,
    is_ended: bool,
}

struct Figures {
    problem: Option<String>,
    gaps: u64,
    base_at: Option<Timestamp>,
    written_at: Option<Timestamp>,
    /// Since when there is nothing that one can go back to the present from.
    lost_since: Option<Instant>,
    /// Since when what was taken out of the queue is being written.
    writing_since: Option<Instant>,
}

/// Continuous backup of a running store.
pub struct Recorder {
    target: Arc<Target>,
    clock: Arc<dyn Clock>,
    pending: Mutex<Pending>,
    ended: Condvar,
    figures: Mutex<Figures>,
    /// A base backup that is being made is given up.
    gives_up: AtomicBool,
}

impl std::fmt::Debug for Recorder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recorder").field("target", &self.target).finish_non_exhaustive()
    }
}

impl CommitTap for Recorder {
    fn begins(&self) {
        self.pending.lock().is_in_flight = true;
    }

    fn committed(&self, at: Timestamp, rows: RowLog) {
        let mut pending = self.pending.lock();
        pending.is_in_flight = false;
        pending.last += 1;
        // A clock that is set back does not take moments back.
        pending.last_at = pending.last_at.max(at);
        let at = pending.last_at;
        let number = pending.last;
        if rows.has_erasure {
            pending.erasure = Some(Instant::now());
        }
        pending.since.get_or_insert_with(Instant::now);
        if pending.gap.is_some() {
            return;
        }
        if pending.commits.len() + rows.bytes().len() > QUEUE_BYTES {
            pending.lose("the target did not keep up");
            return;
        }
        add_commit(&mut pending.commits, number, at, rows.bytes());
        let span = pending.span.unwrap_or(Span { first: number, last: number, first_at: at, last_at: at });
        pending.span = Some(Span { last: number, last_at: at, ..span });
    }

    fn is_unknown(&self) {
        let mut pending = self.pending.lock();
        pending.is_in_flight = false;
        pending.lose("a commit of the database failed");
    }
}

impl Pending {
    fn lose(&mut self, why: &'static str) {
        self.gap.get_or_insert(why);
        self.commits = Vec::new();
        self.span = None;
    }
}

/// A chain that is being written.
struct Chain {
    segment: Writer,
    base: Option<Receiver<Result<BaseNote, Problem>>>,
    base_begun: Instant,
    /// A base backup that has commits which are not written yet.
    made: Option<BaseNote>,
    /// The number of the last commit that is written.
    written: u64,
    has_base: bool,
    /// The segment that was begun for a base backup which follows an erasure: what was before goes.
    cleans: Option<Header>,
}

impl Recorder {
    /// Continuous backup into a target. Until [`Recorder::run`] nothing is written.
    #[must_use]
    pub fn new(target: Target, clock: Arc<dyn Clock>) -> Recorder {
        let figures = Figures {
            problem: None,
            gaps: 0,
            base_at: None,
            written_at: None,
            lost_since: Some(Instant::now()),
            writing_since: None,
        };
        Recorder {
            target: Arc::new(target),
            clock,
            pending: Mutex::default(),
            ended: Condvar::new(),
            figures: Mutex::new(figures),
            gives_up: AtomicBool::new(false),
        }
    }

    /// How it stands.
    #[must_use]
    pub fn standing(&self) -> Standing {
        let waiting = self.pending.lock().since;
        let figures = self.figures.lock();
        let oldest = [waiting, figures.lost_since, figures.writing_since].into_iter().flatten().min();
        Standing {
            dir: self.target.dir.clone(),
            lag: oldest.map_or(Duration::ZERO, |since| since.elapsed()),
            problem: figures.problem.clone(),
            gaps: figures.gaps,
            base_at: figures.base_at,
            written_at: figures.written_at,
        }
    }

    /// A base backup that is being made is given up: it would keep the store from being closed.
    pub fn give_up_base(&self) {
        self.gives_up.store(true, Ordering::Release);
    }

    /// No commit follows: [`Recorder::run`] writes what waits, and comes back.
    pub fn end(&self) {
        self.give_up_base();
        self.pending.lock().is_ended = true;
        self.ended.notify_all();
    }

    /// Writes what is committed until [`Recorder::end`]. Blocks. The store's base backups are read on `handle`.
    pub fn run(self: &Arc<Self>, store: &Arc<dyn Store>, handle: &Handle) {
        let (mut chain, mut next, mut pause) = (None, Instant::now(), PAUSE_FIRST);
        loop {
            let is_ended = self.wait();
            if let Some(why) = self.pending.lock().gap
                && let Some(broken) = chain.take()
            {
                self.gap(why);
                drop(broken);
            }
            if chain.is_none() && !is_ended && Instant::now() >= next {
                match self.begin(store, handle) {
                    Ok(begun) => (chain, pause) = (Some(begun), PAUSE_FIRST),
                    Err(problem) => {
                        self.tell(&problem);
                        (next, pause) = (Instant::now() + pause, (pause * 2).min(PAUSE_LONGEST));
                    }
                }
            }
            if let Some(open) = chain.take() {
                match self.step(open, store, handle, is_ended) {
                    Ok(open) => chain = open,
                    Err(error) => {
                        self.pending.lock().lose("the target cannot be written");
                        self.tell(&unwritten(&self.target.dir, &error));
                        self.gap("the target cannot be written");
                        next = Instant::now() + pause;
                    }
                }
            }
            if is_ended {
                return;
            }
        }
    }

    /// Waits until it is time to write; `true` if no commit follows.
    fn wait(&self) -> bool {
        let mut pending = self.pending.lock();
        if !pending.is_ended {
            self.ended.wait_for(&mut pending, EVERY);
        }
        pending.is_ended
    }

    fn gap(&self, why: &str) {
        let mut figures = self.figures.lock();
        figures.gaps += 1;
        figures.lost_since.get_or_insert_with(Instant::now);
        tracing::error!(target_dir = %self.target.dir.display(), why, "the continuous backup has a gap; a new base backup follows");
    }

    /// Says what is wrong, once.
    fn tell(&self, problem: &Problem) {
        let text = format!("{}: {}", problem.what, problem.why);
        let mut figures = self.figures.lock();
        if figures.problem.as_ref() != Some(&text) {
            tracing::error!(%problem, "the continuous backup does not work");
            figures.problem = Some(text);
        }
    }

    /// Begins a chain, and the base backup that it goes on from. What is committed from here on is in it.
    fn begin(self: &Arc<Self>, store: &Arc<dyn Store>, handle: &Handle) -> Result<Chain, Problem> {
        let dir = &self.target.dir;
        let failed = |error: &io::Error| unwritten(dir, error);
        if !std::fs::metadata(dir).map_err(|error| failed(&error))?.is_dir() {
            return Err(failed(&io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let mut chain = [0; 16];
        getrandom::fill(&mut chain).map_err(|error| failed(&io::Error::other(error.to_string())))?;
        let chain = hex(&chain);
        let header = Header::new(newest_format(), store.identity().store_id, chain, self.clock.now());
        let segment = Writer::begin(dir, header).map_err(|error| failed(&error))?;
        {
            let mut pending = self.pending.lock();
            pending.gap = None;
            pending.commits = Vec::new();
            pending.span = None;
        }
        let mut begun = Chain {
            segment,
            base: None,
            base_begun: Instant::now(),
            made: None,
            written: 0,
            has_base: false,
            cleans: None,
        };
        // An erasure that was cut short, or made without a server, leaves with the first base backup behind it.
        let erased = handle.block_on(store.erasures()).ok().into_iter().flatten();
        if let Some(last) = erased.map(|erasure| erasure.finished_at.unwrap_or(erasure.at)).max() {
            let store_id = &begun.segment.header.store_id;
            let is_due = cleaning::has_before(dir, store_id, last).map_err(|error| failed(&error))?;
            begun.cleans = is_due.then(|| begun.segment.header.clone());
        }
        self.begin_base(&mut begun, store, handle).map_err(|error| failed(&error))?;
        Ok(begun)
    }

    /// One round: what waits is written, and what is due is begun. Gives the chain back unless it has ended.
    fn step(
        self: &Arc<Self>,
        mut chain: Chain,
        store: &Arc<dyn Store>,
        handle: &Handle,
        is_ended: bool,
    ) -> io::Result<Option<Chain>> {
        let dir = &self.target.dir;
        let (commits, span) = {
            let mut pending = self.pending.lock();
            self.figures.lock().writing_since = pending.since.take();
            (std::mem::take(&mut pending.commits), pending.span.take())
        };
        if let Some(span) = span {
            chain.segment.put_commits(&span, &commits, &self.target.recipients)?;
            chain.written = span.last;
            self.figures.lock().written_at = Some(span.last_at);
        }
        self.figures.lock().writing_since = None;
        let made = chain.base.as_ref().map(Receiver::try_recv);
        match made {
            None | Some(Err(TryRecvError::Empty)) => {}
            Some(Ok(Ok(note))) => {
                chain.base = None;
                chain.made = Some(note);
            }
            Some(Ok(Err(problem))) => {
                chain.base = None;
                self.tell(&problem);
            }
            Some(Err(TryRecvError::Disconnected)) => chain.base = None,
        }
        // Behind the last commit that it may have: whoever goes on from it has to have that one, too.
        if let Some(note) = chain.made.take_if(|note| note.number <= chain.written || note.from == note.number) {
            chain.has_base = true;
            chain.segment.put_base(&note)?;
            let mut figures = self.figures.lock();
            (figures.base_at, figures.lost_since, figures.problem) = (Some(note.at), None, None);
            drop(figures);
            self.clean(&mut chain, &note);
        }
        if is_ended {
            chain.segment.end()?;
            return Ok(None);
        }
        let is_cleaning_due = self.pending.lock().erasure.is_some_and(|since| since.elapsed() >= ERASURE_SETTLES);
        let pause = if chain.has_base { BASE_EVERY } else { PAUSE_LONGEST };
        if chain.base.is_none() && chain.made.is_none() && (is_cleaning_due || chain.base_begun.elapsed() >= pause) {
            // What was before lies in segments of its own, which can go.
            chain.segment = chain.segment.go_on(dir, self.clock.now())?;
            chain.cleans = is_cleaning_due.then(|| chain.segment.header.clone());
            if is_cleaning_due {
                self.pending.lock().erasure = None;
            }
            self.begin_base(&mut chain, store, handle)?;
        } else if chain.segment.bytes >= SEGMENT_BYTES {
            chain.segment = chain.segment.go_on(dir, self.clock.now())?;
        }
        Ok(Some(chain))
    }

    /// Removes what is too old, or all that was before a base backup that follows an erasure.
    fn clean(&self, chain: &mut Chain, note: &BaseNote) {
        let dir = &self.target.dir;
        let oldest = Timestamp(self.clock.now().as_millis().saturating_sub(millis(self.target.keep)));
        let cleaned = match chain.cleans.take() {
            Some(segment) => cleaning::remove_all_but(dir, note, &segment),
            None => cleaning::remove_before(dir, &chain.segment.header.store_id, oldest),
        };
        if let Err(error) = cleaned {
            let remedy = "Check the permissions of its directory.";
            self.tell(&Problem::new("old parts of the continuous backup were not removed", error, remedy));
        }
    }

    fn begin_base(self: &Arc<Self>, chain: &mut Chain, store: &Arc<dyn Store>, handle: &Handle) -> io::Result<()> {
        chain.base_begun = Instant::now();
        let (sender, made) = sync_channel(1);
        let name = chain.segment.header.chain.get(..8).unwrap_or_default().to_owned();
        let (recorder, store, handle) = (self.clone(), store.clone(), handle.clone());
        std::thread::Builder::new().name("base-backup".to_owned()).spawn(move || {
            // On Linux this is of the calling thread alone. Without it the backup is only less polite.
            let _ = rustix::process::nice(POLITE);
            // Who does not wait any more has a gap, and makes another.
            let _ = sender.send(recorder.make_base(&name, &store, &handle));
        })?;
        chain.base = Some(made);
        Ok(())
    }

    /// Makes a base backup: a backup as any other, which says which commits it may have.
    fn make_base(self: &Arc<Self>, chain: &str, store: &Arc<dyn Store>, handle: &Handle) -> Result<BaseNote, Problem> {
        let target = &self.target;
        let now = self.clock.now();
        let path = free_path(&target.dir, &format!("{PREFIX}{}-{chain}", stamp(now)));
        let failed = |error: io::Error| unwritten(&target.dir, &error);
        let (mut reader, writer) = io::pipe().map_err(failed)?;
        let key = key::load_or_make(&target.key_dir).ok().map(|found| found.key);
        let archive = format::Writer::new(BufWriter::new(writer), now).signed(key);
        let moment = Arc::new(Mutex::new(None));
        // What has been told until now is in what is read from now on.
        let from = self.pending.lock().last;
        let rows = Box::new(BaseRows { archive, recorder: self.clone(), moment: moment.clone() });
        let made = std::thread::scope(|scope| {
            let sending = scope.spawn(|| handle.block_on(store.rows(rows)));
            let made = receive(&mut reader, &path, &target.recipients, newest_format(), &mut |_, _| {});
            drop(reader);
            let sent = sending.join();
            let made = made?;
            match sent {
                Ok(Ok(())) => Ok(made),
                Ok(Err(error)) => Err(Problem::new("the base backup was not made", error, "Check the log.")),
                Err(_) => Err(Problem::new("the base backup was not made", "it ended early", "Report this.")),
            }
        })?;
        let (number, at) = moment.lock().take().unwrap_or((from, now));
        let name = made.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(BaseNote { name, blake3: made.summary.blake3, from, number, at })
    }

    /// The last commit that what is being read now may have, and a moment behind it.
    fn settled(&self) -> io::Result<(u64, Timestamp)> {
        let begun = Instant::now();
        let (before, was_in_flight) = {
            let pending = self.pending.lock();
            (pending.last, pending.is_in_flight)
        };
        loop {
            let pending = self.pending.lock();
            if !was_in_flight || !pending.is_in_flight || pending.last != before {
                return Ok((pending.last, pending.last_at.max(self.clock.now())));
            }
            drop(pending);
            if begun.elapsed() > PAUSE_LONGEST {
                return Err(io::Error::other("a commit of the database does not come to its end"));
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }
}

/// The rows of a base backup on their way.
struct BaseRows {
    archive: format::Writer<BufWriter<PipeWriter>>,
    recorder: Arc<Recorder>,
    /// What is known of the moment when its rows were read.
    moment: Arc<Mutex<Option<(u64, Timestamp)>>>,
}

impl RowSink for BaseRows {
    fn begin(&mut self, preface: &Preface) -> io::Result<()> {
        *self.moment.lock() = Some(self.recorder.settled()?);
        self.archive.begin(preface)
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.recorder.gives_up.load(Ordering::Acquire) {
            return Err(io::Error::other("the server stops"));
        }
        self.archive.row(table, key, value)
    }

    fn end(&mut self) -> io::Result<()> {
        self.archive.end()
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn unwritten(dir: &Path, error: &io::Error) -> Problem {
    Problem::new(
        format!("the continuous backup in {} cannot be written", dir.display()),
        error,
        "Check that the directory is there (mounted), that the server may write to it, and that its disk has space.",
    )
}
