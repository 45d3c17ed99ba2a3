//! A segment: what the commits of a while have changed, in a file that is only ever appended to and says of each part whether it
//! is whole. What stands before a torn end is good.
//!
//! ```text
//! magic     "academy-rt segment\n"
//! block     kind (1 byte), length (4 bytes, little-endian), payload, and the BLAKE3 of the hash before and all of these:
//!   'H'     the header, JSON: which store, which chain, the number in it, the last hash of the segment before
//!   'C'     commits: the numbers of the first and the last and their moments (8 bytes each), then a zstd frame of, for each,
//!           number (8), moment (8), length (4), rows
//!   'S'     the same, with the frame encrypted by age
//!   'B'     a base backup that was made, JSON: its file, its BLAKE3, the last commit that it may have
//!   'E'     the end, empty. Another segment follows; without it the writer was cut off.
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::audit::hex;

use crate::archive::backup::{Identities, Recipients};
use crate::archive::files::sync_parent;
use crate::archive::format::unzip;

/// What the names of segments end with.
pub const EXTENSION: &str = "segment";
/// What the names of segments and of their base backups begin with.
pub const PREFIX: &str = "continuous-";
const MAGIC: &[u8] = b"academy-rt segment\n";
/// The version of this layout.
const LAYOUT: u32 = 1;
/// No block is larger, packed or unpacked.
const MAX_BLOCK_BYTES: usize = 160 << 20;
const ZSTD_LEVEL: i32 = 1;

/// What a segment says of itself at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The layout of the file.
    pub layout: u32,
    /// The version of academy-rt that wrote it.
    pub application: String,
    /// The format of the rows.
    pub format: u32,
    /// Which store, in hexadecimal digits.
    pub store_id: String,
    /// Which chain: each start of a server, and each gap, begins one. Random, in hexadecimal digits.
    pub chain: String,
    /// The number of this segment in its chain, from 1.
    pub number: u64,
    /// The last hash of the segment before, in hexadecimal digits; empty in the first.
    pub previous: String,
    /// When it was begun; never before the one before.
    pub created_at: Timestamp,
}

impl Header {
    /// The header of a segment of this version.
    #[must_use]
    pub fn new(format: u32, store_id: [u8; 16], chain: String, created_at: Timestamp) -> Header {
        Header {
            layout: LAYOUT,
            application: env!("CARGO_PKG_VERSION").to_owned(),
            format,
            store_id: hex(&store_id),
            chain,
            number: 1,
            previous: String::new(),
            created_at,
        }
    }
}

/// A base backup that was made while a segment was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BaseNote {
    /// The name of its file in the same directory.
    pub name: String,
    /// BLAKE3 of it, unencrypted.
    pub blake3: String,
    /// All commits up to this one are in it.
    pub from: u64,
    /// The last commit that it may have: whoever goes on from it does again all behind `from`, up to this one at least.
    pub number: u64,
    /// The moment behind that one.
    pub at: Timestamp,
}

/// Commits that are written together: the first and the last of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// The number of the first.
    pub first: u64,
    /// The number of the last.
    pub last: u64,
    /// The moment of the first.
    pub first_at: Timestamp,
    /// The moment of the last.
    pub last_at: Timestamp,
}

impl Span {
    const BYTES: usize = 32;

    fn bytes(&self) -> Vec<u8> {
        [self.first, self.last, self.first_at.as_millis(), self.last_at.as_millis()]
            .iter()
            .flat_map(|number| number.to_le_bytes())
            .collect()
    }

    fn of(bytes: &[u8]) -> Option<Span> {
        let mut numbers = bytes.chunks_exact(8).map(|eight| eight.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || numbers.next();
        Some(Span { first: next()?, last: next()?, first_at: Timestamp(next()?), last_at: Timestamp(next()?) })
    }
}

/// Adds a commit to those that are to be written together.
pub fn add_commit(commits: &mut Vec<u8>, number: u64, at: Timestamp, rows: &[u8]) {
    commits.extend_from_slice(&number.to_le_bytes());
    commits.extend_from_slice(&at.as_millis().to_le_bytes());
    commits.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    commits.extend_from_slice(rows);
}

/// A commit that was read: its number, its moment, its rows.
pub type ReadCommit<'c> = (u64, Timestamp, &'c [u8]);

/// Reads what [`add_commit`] has put together; `None` if it is none.
#[must_use]
pub fn commits_of(mut bytes: &[u8]) -> Option<Vec<ReadCommit<'_>>> {
    let mut commits = Vec::new();
    while !bytes.is_empty() {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (at, rest) = rest.split_first_chunk::<8>()?;
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (rows, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        commits.push((u64::from_le_bytes(*number), Timestamp(u64::from_le_bytes(*at)), rows));
        bytes = rest;
    }
    Some(commits)
}

/// A segment that is being written. Each part is on disk when it was put.
#[derive(Debug)]
pub struct Writer {
    file: File,
    path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// How long it is.
    pub bytes: u64,
    hash: [u8; 32],
}

impl Writer {
    /// Begins a segment in a directory.
    ///
    /// # Errors
    /// What the system said.
    pub fn begin(dir: &Path, header: Header) -> io::Result<Writer> {
        let chain = header.chain.get(..8).unwrap_or_default();
        let moment = crate::archive::moments::stamp(header.created_at);
        let path = dir.join(format!("{PREFIX}{moment}-{chain}-{:06}.{EXTENSION}", header.number));
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        file.write_all(MAGIC)?;
        let hash = *blake3::hash(MAGIC).as_bytes();
        let payload = serde_json::to_vec(&header)?;
        let mut writer = Writer { file, path: path.clone(), header, bytes: MAGIC.len() as u64, hash };
        writer.put(b'H', &payload)?;
        sync_parent(&path)?;
        Ok(writer)
    }

    fn put(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX_BLOCK_BYTES);
        let length = length.ok_or_else(|| io::Error::other("a commit is too large for a segment"))?;
        let mut block = Vec::with_capacity(payload.len() + 37);
        block.push(kind);
        block.extend_from_slice(&length.to_le_bytes());
        block.extend_from_slice(payload);
        self.hash = next_hash(&self.hash, &block);
        block.extend_from_slice(&self.hash);
        self.file.write_all(&block)?;
        self.bytes += block.len() as u64;
        self.file.sync_data()?;
        // What was removed, or was on a share that is gone, takes what is written still.
        std::fs::metadata(&self.path).map(drop)
    }

    /// Puts commits that [`add_commit`] has put together.
    ///
    /// # Errors
    /// What the system said. The end of the file is unknown then.
    pub fn put_commits(&mut self, span: &Span, commits: &[u8], recipients: &Recipients) -> io::Result<()> {
        let mut payload = span.bytes();
        let packed = zstd::bulk::compress(commits, ZSTD_LEVEL)?;
        match recipients.seal(&packed)? {
            None => {
                payload.extend_from_slice(&packed);
                self.put(b'C', &payload)
            }
            Some(sealed) => {
                payload.extend_from_slice(&sealed);
                self.put(b'S', &payload)
            }
        }
    }

    /// Notes a base backup.
    ///
    /// # Errors
    /// What the system said.
    pub fn put_base(&mut self, note: &BaseNote) -> io::Result<()> {
        let payload = serde_json::to_vec(note)?;
        self.put(b'B', &payload)
    }

    /// Ends it, and begins the next.
    ///
    /// # Errors
    /// What the system said.
    pub fn go_on(mut self, dir: &Path, now: Timestamp) -> io::Result<Writer> {
        self.put(b'E', &[])?;
        let header = Header {
            number: self.header.number + 1,
            previous: blake3::Hash::from_bytes(self.hash).to_hex().to_string(),
            created_at: self.header.created_at.max(now),
            ..self.header
        };
        Writer::begin(dir, header)
    }

    /// Ends it. No other follows.
    ///
    /// # Errors
    /// What the system said.
    pub fn end(mut self) -> io::Result<()> {
        self.put(b'E', &[])
    }
}

fn next_hash(before: &[u8; 32], block: &[u8]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(before);
    hasher.update(block);
    *hasher.finalize().as_bytes()
}

/// A part of a segment that was read.
#[derive(Debug)]
pub enum Part {
    /// Commits, packed as they are: whether they are encrypted, and the bytes.
    Commits(Span, bool, Vec<u8>),
    /// A base backup was made.
    Base(BaseNote),
}

/// What a segment has come to.
#[derive(Debug, Clone)]
pub struct Scanned {
    /// Where it is.
    pub path: PathBuf,
    /// What it says of itself.
    pub header: Header,
    /// The hash behind its last whole part.
    pub hash: String,
    /// Whether it says that another one follows, or that the server has stopped.
    pub has_end: bool,
    /// Why it is not read further; `None` if its end was reached.
    pub torn: Option<String>,
}

/// Reads a segment as far as it is whole, and gives its parts. What is no segment gives `None`.
///
/// # Errors
/// What the system said, or `visit`.
pub fn read(path: &Path, visit: &mut dyn FnMut(Part) -> io::Result<()>) -> io::Result<Option<Scanned>> {
    scan(&mut BufReader::with_capacity(256 << 10, File::open(path)?), path, visit)
}

/// As [`read`], of what is open already.
///
/// # Errors
/// What the system said, or `visit`.
pub fn scan(
    mut input: &mut dyn Read,
    path: &Path,
    visit: &mut dyn FnMut(Part) -> io::Result<()>,
) -> io::Result<Option<Scanned>> {
    let mut magic = Vec::new();
    (&mut input).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    if magic != MAGIC {
        return Ok(None);
    }
    let mut hash = *blake3::hash(MAGIC).as_bytes();
    let header = match next(&mut input, &mut hash)? {
        Next::Block(b'H', payload) => serde_json::from_slice::<Header>(&payload).ok(),
        _ => None,
    };
    let Some(header) = header.filter(|header| header.layout <= LAYOUT) else { return Ok(None) };
    let (mut has_end, mut torn) = (false, None);
    loop {
        let part = match next(&mut input, &mut hash)? {
            Next::End => break,
            Next::Torn(why) => {
                torn = Some(why.to_owned());
                break;
            }
            Next::Block(b'E', _) => {
                has_end = true;
                break;
            }
            Next::Block(kind @ (b'C' | b'S'), payload) => payload
                .split_at_checked(Span::BYTES)
                .and_then(|(span, packed)| Some(Part::Commits(Span::of(span)?, kind == b'S', packed.to_vec()))),
            Next::Block(b'B', payload) => serde_json::from_slice(&payload).ok().map(Part::Base),
            Next::Block(..) => None,
        };
        let Some(part) = part else {
            torn = Some("a part is of no known kind".to_owned());
            break;
        };
        visit(part)?;
    }
    let hash = blake3::Hash::from_bytes(hash).to_hex().to_string();
    Ok(Some(Scanned { path: path.to_owned(), header, hash, has_end, torn }))
}

/// What a segment says of itself; `None` if it is none.
///
/// # Errors
/// What the system said.
pub fn peek(path: &Path) -> io::Result<Option<Header>> {
    let mut input = BufReader::new(File::open(path)?);
    let mut magic = Vec::new();
    (&mut input).take(MAGIC.len() as u64).read_to_end(&mut magic)?;
    let mut hash = *blake3::hash(MAGIC).as_bytes();
    let block = if magic == MAGIC { next(&mut input, &mut hash)? } else { return Ok(None) };
    Ok(match block {
        Next::Block(b'H', payload) => serde_json::from_slice(&payload).ok(),
        _ => None,
    })
}

enum Next {
    Block(u8, Vec<u8>),
    End,
    Torn(&'static str),
}

fn next(input: &mut impl Read, hash: &mut [u8; 32]) -> io::Result<Next> {
    let mut block = Vec::new();
    input.take(5).read_to_end(&mut block)?;
    if block.is_empty() {
        return Ok(Next::End);
    }
    let Ok([kind, length @ ..]) = <[u8; 5]>::try_from(block.as_slice()) else {
        return Ok(Next::Torn("its last part is incomplete"));
    };
    let length = u32::from_le_bytes(length) as usize;
    if length > MAX_BLOCK_BYTES {
        return Ok(Next::Torn("a part is larger than any can be"));
    }
    // Grows with what is there: a length that lies costs no memory.
    let got = input.take(length as u64).read_to_end(&mut block)?;
    let mut expected = Vec::new();
    input.take(32).read_to_end(&mut expected)?;
    if got < length || expected.len() < 32 {
        return Ok(Next::Torn("its last part is incomplete"));
    }
    let found = next_hash(hash, &block);
    if expected != found {
        return Ok(Next::Torn("the checksum of a part does not fit"));
    }
    *hash = found;
    Ok(Next::Block(kind, block.split_off(5)))
}

/// Unpacks commits of a segment.
///
/// # Errors
/// If they are encrypted for others, or make no sense.
pub fn unpack(packed: &[u8], is_sealed: bool, identities: Option<&Identities>) -> Result<Vec<u8>, String> {
    let opened;
    let packed = match (is_sealed, identities) {
        (false, _) => packed,
        (true, None) => return Err("it is encrypted".to_owned()),
        (true, Some(identities)) => {
            opened = identities.open(packed)?;
            &opened
        }
    };
    unzip(packed, MAX_BLOCK_BYTES).ok_or_else(|| "a part cannot be unpacked".to_owned())
}
