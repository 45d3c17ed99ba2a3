//! What a directory of segments and base backups leads to: which moments one can go back to, and what is to be done again for it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::domain::Timestamp;
use crate::domain::problem::Problem;
use crate::store::embedded::offline::rows::OfflineFile;

use crate::archive::backup::Identities;
use crate::archive::continuous::segment;
use crate::archive::continuous::segment::{BaseNote, Part, Scanned, Span, commits_of, unpack};
use crate::archive::moments::moment;

/// So much is done again by one transaction.
const SLICE_BYTES: usize = 8 << 20;

/// A chain of segments without a gap, as far as it is whole.
#[derive(Debug)]
pub struct Chain {
    /// Which store, in hexadecimal digits.
    pub store_id: String,
    /// The format of its rows.
    pub format: u32,
    /// Its segments, in their order.
    segments: Vec<PathBuf>,
    /// Its base backups that are there.
    pub bases: Vec<BaseNote>,
    /// The commits of it.
    spans: Vec<Span>,
    /// Why it goes no further; `None` if it ends where a server stopped.
    pub torn: Option<String>,
}

impl Chain {
    /// The moments that one can go back to in it: from its first base backup to its end.
    #[must_use]
    pub fn reach(&self) -> Option<(Timestamp, Timestamp)> {
        let first = self.bases.iter().filter(|base| self.last() >= base.number).map(|base| base.at).min()?;
        Some((first, self.end().max(first)))
    }

    fn last(&self) -> u64 {
        self.spans.last().map_or(0, |span| span.last).max(self.bases.iter().map(|base| base.from).max().unwrap_or(0))
    }

    fn end(&self) -> Timestamp {
        self.spans.last().map_or(Timestamp(0), |span| span.last_at)
    }
}

/// A segment that was read, with its commits and its base backups.
type Piece = (Scanned, Vec<Span>, Vec<BaseNote>);

/// All that a directory has.
#[derive(Debug)]
pub struct Timeline {
    dir: PathBuf,
    /// The chains, in the order of their beginnings.
    pub chains: Vec<Chain>,
}

fn unusable(dir: &Path, why: impl ToString) -> Problem {
    Problem::new(
        format!("the continuous backup in {} cannot be used", dir.display()),
        why,
        "Give another moment with --to, or a backup file. `academy-rt backup verify DIR` shows the moments that one can go back to.",
    )
}

impl Timeline {
    /// Reads a directory. Checks every checksum of its segments.
    ///
    /// # Errors
    /// If it cannot be read, or has no segments.
    pub fn read(dir: &Path) -> Result<Timeline, Problem> {
        let failed = |error: io::Error| unusable(dir, error);
        let mut found: BTreeMap<String, Vec<Piece>> = BTreeMap::new();
        for entry in fs::read_dir(dir).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_none_or(|extension| extension != segment::EXTENSION) {
                continue;
            }
            let (mut spans, mut bases) = (Vec::new(), Vec::new());
            let scanned = segment::read(&path, &mut |part| {
                match part {
                    Part::Commits(span, ..) => spans.push(span),
                    Part::Base(note) => bases.push(note),
                }
                Ok(())
            });
            if let Some(scanned) = scanned.map_err(failed)? {
                found.entry(scanned.header.chain.clone()).or_default().push((scanned, spans, bases));
            }
        }
        let mut chains: Vec<(Timestamp, Chain)> =
            found.into_values().filter_map(|parts| chain_of(dir, parts)).collect();
        if chains.is_empty() {
            return Err(unusable(dir, "it is a directory without segments of a continuous backup"));
        }
        chains.sort_by_key(|(at, _)| *at);
        Ok(Timeline { dir: dir.to_owned(), chains: chains.into_iter().map(|(_, chain)| chain).collect() })
    }

    /// How to go back to a moment, or to the last one: the latest that is not behind it.
    ///
    /// # Errors
    /// If there is no base backup of before it, or several servers' are here.
    pub fn plan(&self, to: Option<Timestamp>) -> Result<Plan, Problem> {
        if self.chains.iter().any(|chain| Some(&chain.store_id) != self.chains.first().map(|chain| &chain.store_id)) {
            return Err(unusable(&self.dir, "it has the data of several servers; give each a directory of its own"));
        }
        let to = to.unwrap_or(Timestamp(u64::MAX));
        let bases = self.chains.iter().flat_map(|chain| chain.bases.iter().map(move |base| (chain, base)));
        let usable = bases.filter(|(chain, base)| base.at <= to && chain.last() >= base.number);
        let Some((chain, base)) = usable.max_by_key(|(_, base)| base.at) else {
            let first = self.chains.iter().filter_map(Chain::reach).map(|(first, _)| first).min();
            let why = first.map_or_else(
                || "it has no base backup that is whole".to_owned(),
                |first| format!("the first moment that it goes back to is {}", moment(first)),
            );
            return Err(unusable(&self.dir, why));
        };
        Ok(Plan {
            base: self.dir.join(&base.name),
            blake3: base.blake3.clone(),
            segments: chain.segments.clone(),
            format: chain.format,
            from: base.from,
            number: base.number,
            to,
            reaches: chain.end().max(base.at),
            dir: self.dir.clone(),
        })
    }
}

/// A chain of its parts, up to the first that does not follow; `None` without any.
fn chain_of(dir: &Path, mut parts: Vec<Piece>) -> Option<(Timestamp, Chain)> {
    parts.sort_by_key(|(scanned, ..)| scanned.header.number);
    let (first, ..) = parts.first()?;
    let begun = first.header.created_at;
    let mut chain = Chain {
        store_id: first.header.store_id.clone(),
        format: first.header.format,
        segments: Vec::new(),
        bases: Vec::new(),
        spans: Vec::new(),
        torn: None,
    };
    let mut before: Option<Scanned> = None;
    for (scanned, spans, bases) in parts {
        if let Some(before) = &before
            && (!before.has_end
                || scanned.header.number != before.header.number + 1
                || scanned.header.previous != before.hash)
        {
            chain.torn = Some(format!("{} does not follow the one before", scanned.path.display()));
            break;
        }
        // Numbers without a gap: what is written once is in order.
        let mut last = chain.spans.last().map(|span| span.last);
        let does_follow = spans.iter().all(|span| last.replace(span.last).is_none_or(|last| span.first == last + 1));
        if !does_follow {
            chain.torn = Some(format!("{} lacks a commit", scanned.path.display()));
            break;
        }
        chain.spans.extend(spans);
        chain
            .bases
            .extend(bases.into_iter().filter(|base| is_plain_name(&base.name) && dir.join(&base.name).is_file()));
        chain.segments.push(scanned.path.clone());
        chain.torn = scanned.torn.clone();
        before = Some(scanned);
    }
    Some((begun, chain))
}

/// A name is that of a file in the directory, and leads nowhere else.
fn is_plain_name(name: &str) -> bool {
    Path::new(name).file_name().is_some_and(|plain| plain == name)
}

/// How to go back to a moment: a base backup, and the commits behind it that are to be done again.
#[derive(Debug)]
pub struct Plan {
    /// The base backup.
    pub base: PathBuf,
    /// BLAKE3 of it, unencrypted, as it was when it was made.
    pub blake3: String,
    segments: Vec<PathBuf>,
    format: u32,
    from: u64,
    number: u64,
    to: Timestamp,
    /// The last moment that it has.
    reaches: Timestamp,
    dir: PathBuf,
}

/// What was done again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Replayed {
    /// How many commits.
    pub commits: u64,
    /// The moment of the last of them; that of the base backup if there were none.
    pub until: Timestamp,
}

impl Plan {
    /// The last moment that the archive has behind this base backup.
    #[must_use]
    pub fn reaches(&self) -> Timestamp {
        self.reaches
    }

    /// Does again in a file, which has the rows of the base backup, what commits have done since. Blocks.
    ///
    /// # Errors
    /// What is not whole, cannot be decrypted, or does not fit.
    pub fn replay(
        &self,
        file: &OfflineFile,
        identities: Option<&Identities>,
        base_at: Timestamp,
    ) -> Result<Replayed, Problem> {
        let failed = |why: &dyn std::fmt::Display| unusable(&self.dir, why);
        if file.format != self.format {
            return Err(failed(&"its segments have another format than its base backup"));
        }
        let mut state = Replay {
            plan: self,
            file,
            waiting: Vec::new(),
            bytes: 0,
            last: self.from,
            done: Replayed { commits: 0, until: base_at },
        };
        for path in &self.segments {
            let mut is_over = false;
            let read = segment::read(path, &mut |part| {
                let Part::Commits(span, is_sealed, packed) = part else { return Ok(()) };
                if is_over || span.last <= self.from {
                    return Ok(());
                }
                let commits = unpack(&packed, is_sealed, identities).map_err(io::Error::other)?;
                is_over = state.take(&commits).map_err(io::Error::other)?.is_break();
                Ok(())
            });
            read.map_err(|error| failed(&error))?;
            if is_over {
                break;
            }
        }
        state.flush().map_err(|error| failed(&error))?;
        if state.last < self.number {
            return Err(failed(&"it ends before its base backup does"));
        }
        Ok(state.done)
    }
}

struct Replay<'p> {
    plan: &'p Plan,
    file: &'p OfflineFile,
    waiting: Vec<Vec<u8>>,
    bytes: usize,
    last: u64,
    done: Replayed,
}

impl Replay<'_> {
    /// Takes commits; breaks behind the last one that is wanted.
    fn take(&mut self, commits: &[u8]) -> Result<ControlFlow<()>, String> {
        let commits = commits_of(commits).ok_or("a part makes no sense")?;
        for (number, at, rows) in commits {
            if number <= self.last {
                continue;
            }
            if number != self.last + 1 {
                return Err(format!("commit {} is not there", self.last + 1));
            }
            if at > self.plan.to && self.last >= self.plan.number {
                return Ok(ControlFlow::Break(()));
            }
            self.last = number;
            self.done = Replayed { commits: self.done.commits + 1, until: at };
            self.bytes += rows.len();
            self.waiting.push(rows.to_vec());
            if self.bytes >= SLICE_BYTES {
                self.flush()?;
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn flush(&mut self) -> Result<(), String> {
        let commits: Vec<&[u8]> = self.waiting.iter().map(Vec::as_slice).collect();
        if !commits.is_empty() {
            self.file.replay(&commits).map_err(|error| error.to_string())?;
        }
        self.waiting.clear();
        self.bytes = 0;
        Ok(())
    }
}
