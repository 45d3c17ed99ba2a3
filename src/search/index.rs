//! The index: of each message its id, its room and the stems of its words. No text is kept in it. With each commit it says of which
//! store it is and how far it has followed it.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::query::{BooleanQuery, EnableScoring, Occur, Query as Matching, TermQuery};
use tantivy::schema::{FAST, Field, INDEXED, IndexRecordOption, Schema, TextFieldIndexing, TextOptions};
use tantivy::{
    DocSet, IndexReader, IndexSettings, IndexWriter, ReloadPolicy, TERMINATED, TantivyDocument, TantivyError, Term,
};

use super::files::{self, Files};
use super::query::Query;
use super::words::{Reader, Word};

/// It rises when what is in the index means something else: the fields, the words, or the library's files.
const VERSION: u32 = 1;
/// What is gathered in memory until it is written, at most.
const GATHERED_BYTES: usize = 15_000_000;
/// A segment with more messages is not merged with others: what one holds in memory while it is looked at is bounded.
const LARGEST_SEGMENT: usize = 1_000_000;
/// So many messages are looked at between two looks at the clock.
const LOOKED_AT: u32 = 4_096;
/// A part that cannot be written anew so often in a row is damaged.
const TRIES: u32 = 10;
const META: &str = "meta.json";
const MANAGED: &str = ".managed.json";

/// Of which store an index is, and how far it has followed it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Mark {
    version: u32,
    store: String,
    epoch: u64,
    /// Every message up to this id is in the index, and every change up to it.
    pub(super) position: u64,
}

/// What is wrong with an index.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// It could not be read or written.
    #[error("{0}")]
    Broken(String),
    /// A search takes too long.
    #[error("the search takes too long")]
    TooLong,
}

impl From<TantivyError> for Failure {
    fn from(error: TantivyError) -> Failure {
        Failure::Broken(error.to_string())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        Failure::Broken(error.to_string())
    }
}

#[derive(Debug, Clone, Copy)]
struct Fields {
    id: Field,
    room: Field,
    words: Field,
}

fn schema() -> (Schema, Fields) {
    let mut schema = Schema::builder();
    let of_words = TextFieldIndexing::default()
        .set_tokenizer("whitespace")
        .set_fieldnorms(false)
        .set_index_option(IndexRecordOption::Basic);
    let fields = Fields {
        id: schema.add_u64_field("id", INDEXED | FAST),
        room: schema.add_u64_field("room", INDEXED | FAST),
        words: schema.add_text_field("words", TextOptions::default().set_indexing_options(of_words)),
    };
    (schema.build(), fields)
}

/// The index as who looks for something has it.
#[derive(Clone)]
pub(super) struct Finder {
    reader: IndexReader,
    fields: Fields,
}

impl std::fmt::Debug for Finder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Finder")
    }
}

impl Finder {
    /// How many messages are in it.
    pub(super) fn documents(&self) -> u64 {
        self.reader.searcher().num_docs()
    }

    /// The newest messages of some rooms before an id that may be what is looked for: their ids, falling. Phrases are taken for
    /// their words here.
    pub(super) fn find(
        &self,
        query: &Query,
        rooms: &HashSet<u64>,
        before: u64,
        most: usize,
        until: Instant,
    ) -> Result<Vec<u64>, Failure> {
        let searcher = self.reader.searcher();
        let weight = self.matching(query).weight(EnableScoring::disabled_from_searcher(&searcher))?;
        let mut segments = Vec::new();
        for segment in searcher.segment_readers() {
            let ids = segment.fast_fields().u64("id")?;
            if ids.min_value() < before {
                segments.push((ids.max_value(), segment, ids));
            }
        }
        segments.sort_by_key(|(newest, ..)| Reverse(*newest));
        let mut found: BinaryHeap<Reverse<u64>> = BinaryHeap::with_capacity(most + 1);
        let mut looked_at = 0_u32;
        for (newest, segment, ids) in segments {
            if found.len() >= most && found.peek().is_some_and(|Reverse(oldest)| newest <= *oldest) {
                break;
            }
            let in_rooms = segment.fast_fields().u64("room")?;
            let mut matches = weight.scorer(segment, 1.0)?;
            let alive = segment.alive_bitset();
            let mut at = matches.doc();
            while at != TERMINATED {
                looked_at = looked_at.wrapping_add(1);
                if looked_at.is_multiple_of(LOOKED_AT) && Instant::now() >= until {
                    return Err(Failure::TooLong);
                }
                let is_there = alive.is_none_or(|alive| alive.is_alive(at));
                let id = ids.first(at).filter(|id| is_there && *id < before);
                let is_newer = |id: u64| found.len() < most || found.peek().is_some_and(|Reverse(oldest)| id > *oldest);
                if let Some(id) = id.filter(|id| is_newer(*id))
                    && in_rooms.first(at).is_some_and(|room| rooms.contains(&room))
                {
                    found.push(Reverse(id));
                    if found.len() > most {
                        found.pop();
                    }
                }
                at = matches.advance();
            }
        }
        Ok(found.into_sorted_vec().into_iter().map(|Reverse(id)| id).collect())
    }

    fn matching(&self, query: &Query) -> BooleanQuery {
        let any_stem = |word: &Word| -> Box<dyn Matching> {
            let stems = word.stems().iter().map(|stem| {
                let term = Term::from_field_text(self.fields.words, stem);
                (Occur::Should, Box::new(TermQuery::new(term, IndexRecordOption::Basic)) as Box<dyn Matching>)
            });
            Box::new(BooleanQuery::new(stems.collect()))
        };
        let wanted = query.wanted.iter().flatten().map(|word| (Occur::Must, any_stem(word)));
        // A phrase that must not be there does not keep its words from being there.
        let single = query.unwanted.iter().filter(|part| part.len() == 1).flatten();
        let unwanted = single.map(|word| (Occur::MustNot, any_stem(word)));
        BooleanQuery::new(wanted.chain(unwanted).collect())
    }
}

/// The index as its one writer has it.
pub(super) struct Index {
    dir: PathBuf,
    index: tantivy::Index,
    writer: IndexWriter,
    reader: IndexReader,
    fields: Fields,
    words: Reader,
    mark: Mark,
    /// Whether something is to be committed.
    is_changed: bool,
    /// Rounds in which files that nobody needs are looked for.
    sweeps: u32,
    /// How often in a row a part of it could not be written anew.
    tries: u32,
}

/// An index that was opened, and why it begins anew, if it does.
pub(super) struct Opened {
    pub(super) index: Index,
    pub(super) anew: Option<String>,
}

impl Index {
    /// Opens the index of a store with this last id in a directory. One that is missing, damaged or of something else begins anew.
    pub(super) fn open(dir: &Path, store: &str, epoch: u64, last_id: u64) -> Result<Opened, Failure> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let why = if is_in(dir) {
            // What reads damaged files may panic.
            let opened = crate::domain::panics::awaited(|| Index::open_whole(dir, store, epoch, last_id));
            match opened {
                Ok(Ok(index)) => return Ok(Opened { index, anew: None }),
                Ok(Err(why)) => why.to_string(),
                Err(panic) => panic,
            }
        } else {
            "there is none yet".to_owned()
        };
        empty(dir)?;
        let (schema, fields) = schema();
        let index = tantivy::Index::create(Files::new(dir), schema, IndexSettings::default())?;
        let mark = Mark { version: VERSION, store: store.to_owned(), epoch, position: 0 };
        let mut index = Index::over(dir, index, fields, mark)?;
        index.is_changed = true;
        index.commit()?;
        Ok(Opened { index, anew: Some(why) })
    }

    fn open_whole(dir: &Path, store: &str, epoch: u64, last_id: u64) -> Result<Index, Failure> {
        let broken = |why: &str| Failure::Broken(why.to_owned());
        let index = tantivy::Index::open(Files::new(dir))?;
        let (schema, fields) = schema();
        let payload = index.load_metas()?.payload.ok_or_else(|| broken("it says nothing of itself"))?;
        let mark: Mark = serde_json::from_str(&payload).map_err(|_| broken("it says nothing of itself"))?;
        if mark.version != VERSION || index.schema() != schema {
            return Err(broken("it was made by another version"));
        }
        if mark.store != store || mark.epoch != epoch {
            return Err(broken("it is of another store, or of another life of this one"));
        }
        // An older copy of the database has been put into its place.
        if mark.position > last_id {
            return Err(broken("it is ahead of the database"));
        }
        let mut damaged: Vec<PathBuf> = index.validate_checksum()?.into_iter().collect();
        damaged.sort();
        if let Some(file) = damaged.first() {
            return Err(Failure::Broken(format!("{} is damaged", file.display())));
        }
        Index::over(dir, index, fields, mark)
    }

    fn over(dir: &Path, index: tantivy::Index, fields: Fields, mark: Mark) -> Result<Index, Failure> {
        let options = IndexWriterOptions::builder()
            .memory_budget_per_thread(GATHERED_BYTES)
            .num_worker_threads(1)
            .num_merge_threads(1)
            .build();
        let writer: IndexWriter = index.writer_with_options(options)?;
        let mut merges = LogMergePolicy::default();
        merges.set_max_docs_before_merge(LARGEST_SEGMENT);
        writer.set_merge_policy(Box::new(merges));
        let reader = index.reader_builder().reload_policy(ReloadPolicy::Manual).try_into()?;
        let dir = dir.to_owned();
        let mut index = Index {
            dir,
            index,
            writer,
            reader,
            fields,
            words: Reader::default(),
            mark,
            is_changed: false,
            sweeps: 0,
            tries: 0,
        };
        index.drop_unneeded_files()?;
        Ok(index)
    }

    pub(super) fn finder(&self) -> Finder {
        Finder { reader: self.reader.clone(), fields: self.fields }
    }

    pub(super) fn position(&self) -> u64 {
        self.mark.position
    }

    /// All up to this id will have been done with the next commit.
    pub(super) fn advance(&mut self, position: u64) {
        self.mark.position = self.mark.position.max(position);
    }

    /// Whether its files are where they were.
    pub(super) fn is_there(&self) -> bool {
        is_in(&self.dir)
    }

    /// Takes a message in, which is not in it yet.
    pub(super) fn add(&mut self, id: u64, room: u64, content: &str) -> Result<(), Failure> {
        let words = self.words.words(content);
        let mut seen = HashSet::new();
        let mut stems = String::new();
        for stem in words.iter().flat_map(Word::stems) {
            if seen.insert(stem.as_str()) {
                stems.push_str(stem);
                stems.push(' ');
            }
        }
        let mut message = TantivyDocument::default();
        message.add_u64(self.fields.id, id);
        message.add_u64(self.fields.room, room);
        message.add_text(self.fields.words, &stems);
        self.writer.add_document(message)?;
        self.is_changed = true;
        Ok(())
    }

    /// Takes a message out, if it is in it.
    pub(super) fn remove(&mut self, id: u64) {
        self.writer.delete_term(Term::from_field_u64(self.fields.id, id));
        self.is_changed = true;
    }

    /// Takes all messages of a room out.
    pub(super) fn remove_room(&mut self, room: u64) {
        self.writer.delete_term(Term::from_field_u64(self.fields.room, room));
        self.is_changed = true;
    }

    /// Puts what was done since into its files, with how far it has come, and shows it to whoever looks for something.
    pub(super) fn commit(&mut self) -> Result<(), Failure> {
        let payload = serde_json::to_string(&self.mark).map_err(|error| Failure::Broken(error.to_string()))?;
        let mut commit = self.writer.prepare_commit()?;
        commit.set_payload(&payload);
        commit.commit()?;
        self.is_changed = false;
        Ok(self.reader.reload()?)
    }

    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// How many messages that were taken out are still in some file.
    pub(super) fn removed(&self) -> u64 {
        let searcher = self.reader.searcher();
        searcher.segment_readers().iter().map(|segment| u64::from(segment.num_deleted_docs())).sum()
    }

    /// Whether what was taken out is still in some file.
    pub(super) fn keeps_removed(&self) -> Result<bool, Failure> {
        let segments = self.index.searchable_segment_metas()?;
        Ok(self.sweeps > 0 || segments.iter().any(tantivy::SegmentMeta::has_deletes))
    }

    /// Writes the parts that have messages that were taken out anew without them, and removes the old files.
    pub(super) fn drop_removed(&mut self) -> Result<(), Failure> {
        let segments = self.index.searchable_segment_metas()?;
        let with_removed: Vec<_> =
            segments.iter().filter(|segment| segment.has_deletes()).map(|one| one.id()).collect();
        // Their files are needed as long as somebody has these.
        drop(segments);
        if !with_removed.is_empty() {
            // Who is looking for something keeps the files for a moment.
            self.sweeps = 3;
        }
        let mut failed = None;
        for segment in with_removed {
            // One that is merged just now comes again, if it still has some then.
            failed = self.writer.merge(&[segment]).wait().err().or(failed);
        }
        self.tries = if failed.is_some() { self.tries + 1 } else { 0 };
        if let Some(error) = failed.filter(|_| self.tries >= TRIES) {
            return Err(error.into());
        }
        self.sweeps = self.sweeps.saturating_sub(1);
        self.drop_unneeded_files()
    }

    fn drop_unneeded_files(&mut self) -> Result<(), Failure> {
        self.reader.reload()?;
        let gone = self.writer.garbage_collect_files().wait()?;
        if let Some(left) = gone.failed_to_delete_files.first() {
            return Err(Failure::Broken(format!("{} cannot be removed", self.dir.join(left).display())));
        }
        // What a kill, a loss of power or a writer of before has left, of which the index knows nothing. A file is known before it
        // is there; what ends so is being put into its place.
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let is_own = name == META || name == MANAGED || name.to_string_lossy().ends_with(files::NEW);
            if !is_own && !self.index.directory().list_managed_files().contains(Path::new(&name)) {
                fs::remove_file(self.dir.join(name))?;
            }
        }
        Ok(())
    }

    /// The numbers of the rooms that it has messages of.
    pub(super) fn rooms(&self) -> Result<Vec<u64>, Failure> {
        let mut rooms = HashSet::new();
        for segment in self.reader.searcher().segment_readers() {
            let index = segment.inverted_index(self.fields.room)?;
            let mut terms = index.terms().stream()?;
            while terms.advance() {
                rooms.extend(terms.key().first_chunk().map(|bytes| u64::from_be_bytes(*bytes)));
            }
        }
        Ok(rooms.into_iter().collect())
    }

    /// Visits the ids of all messages in it as of now, so many at a time.
    pub(super) fn each_part(
        &mut self,
        most: usize,
        mut visit: impl FnMut(&mut Index, Vec<u64>) -> Result<bool, Failure>,
    ) -> Result<bool, Failure> {
        let searcher = self.reader.searcher();
        for segment in searcher.segment_readers() {
            let ids = segment.fast_fields().u64("id")?;
            let mut part = Vec::with_capacity(most);
            for at in 0..segment.max_doc() {
                if segment.alive_bitset().is_none_or(|alive| alive.is_alive(at)) {
                    part.extend(ids.first(at));
                }
                if part.len() >= most && !visit(self, std::mem::take(&mut part))? {
                    return Ok(false);
                }
            }
            if !part.is_empty() && !visit(self, part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// How many bytes its files have.
pub(super) fn bytes_of(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|file| file.len()).sum()
}

/// Whether there is an index in a directory, as far as its name says.
pub(super) fn is_in(dir: &Path) -> bool {
    dir.join(META).exists()
}

/// Lets the index in a directory begin anew when it is opened.
pub(super) fn forget(dir: &Path) -> Result<(), Failure> {
    match fs::remove_file(dir.join(META)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}

/// Removes whatever is in a directory.
fn empty(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn opened(dir: &Path, store: &str) -> Index {
        Index::open(dir, store, 1, 100).unwrap().index
    }

    fn find(index: &Index, query: &str, rooms: &[u64], before: u64, most: usize) -> Vec<u64> {
        let query = Query::parse(query).unwrap();
        let rooms = rooms.iter().copied().collect();
        index.finder().find(&query, &rooms, before, most, Instant::now() + Duration::from_secs(60)).unwrap()
    }

    #[test]
    fn the_newest_of_some_rooms_before_an_id_over_all_parts_of_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = opened(dir.path(), "a");
        // Parts that overlap, and one whose messages are all older.
        for ids in [vec![1, 5, 9, 20], vec![4, 8, 30], vec![2, 3]] {
            for id in ids {
                index.add(id, id % 3, if id % 2 == 0 { "les écoles" } else { "one school" }).unwrap();
            }
            index.commit().unwrap();
        }
        assert_eq!(find(&index, "ecole", &[0, 1, 2], 100, 10), [30, 20, 8, 4, 2]);
        assert_eq!(find(&index, "ecole", &[0, 1, 2], 20, 2), [8, 4]);
        assert_eq!(find(&index, "ecole", &[0], 100, 10), [30]);
        assert_eq!(find(&index, "schools -école", &[0, 1, 2], 100, 2), [9, 5]);
        assert!(find(&index, "school", &[], 100, 2).is_empty());
        index.remove(9);
        index.remove_room(2);
        index.advance(30);
        index.commit().unwrap();
        assert_eq!(find(&index, "school", &[0, 1, 2], 100, 10), [3, 1]);
        assert_eq!(find(&index, "ecole", &[0, 1, 2], 100, 10), [30, 4]);
        let mut rooms = index.rooms().unwrap();
        rooms.sort_unstable();
        assert_eq!(rooms, [0, 1, 2], "as far as its files say");
        while index.keeps_removed().unwrap() {
            index.drop_removed().unwrap();
        }
        let mut rooms = index.rooms().unwrap();
        rooms.sort_unstable();
        assert_eq!((rooms, index.removed(), index.finder().documents()), (vec![0, 1], 0, 4));
        // It is taken for what it is.
        drop(index);
        assert_eq!(opened(dir.path(), "a").position(), 30);
        for (store, epoch, last_id) in [("b", 1, 100), ("a", 2, 100), ("a", 1, 29)] {
            let copy = tempfile::tempdir().unwrap();
            for entry in fs::read_dir(dir.path()).unwrap() {
                let name = entry.unwrap().file_name();
                fs::copy(dir.path().join(&name), copy.path().join(&name)).unwrap();
            }
            let opened = Index::open(copy.path(), store, epoch, last_id).unwrap();
            assert!(opened.anew.is_some() && opened.index.position() == 0, "{store} {epoch} {last_id}");
        }
    }

    #[test]
    fn a_search_ends_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let mut index = opened(dir.path(), "a");
        for id in 0..u64::from(LOOKED_AT) + 1 {
            index.add(id, 1, "word").unwrap();
        }
        index.commit().unwrap();
        let (query, rooms) = (Query::parse("word").unwrap(), HashSet::from([2]));
        let found = index.finder().find(&query, &rooms, u64::MAX, 5, Instant::now());
        assert!(matches!(found, Err(Failure::TooLong)), "{found:?}");
    }
}
