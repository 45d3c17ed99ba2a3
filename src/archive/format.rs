//! The archive: a whole store in one file that says of itself whether it is whole. Independent of the engine's own format.
//!
//! ```text
//! magic     "academy-rt backup\n"
//! block     kind (1 byte), length (4 bytes, little-endian), payload; as many as it takes:
//!   'H'     the header, JSON: which store, which format, how many rows follow
//!   'R'     rows of one table, a zstd frame of: name length (1), name, then for each row
//!           key length (4), key, value length (4), value
//!   'T'     the trailer, JSON: rows, bytes and BLAKE3 of each table; `mac`, the mark of who made it
//!   'E'     the end: BLAKE3 of everything before it. Without it the file was cut short.
//! ```
//!
//! The mark (`{ keyId, value }`, see [`crate::archive::authenticity`]) is a MAC of the BLAKE3 of everything before the trailer: of the
//! header and of all rows, which the trailer's sums follow from. It is a field of the trailer rather than a block of its own,
//! and the layout has its number still: versions that know of no mark pass over the field and read the archive, and this one
//! reads theirs, which have none. The same holds for `auditHead` in the header, where the audit log in the archive ends.
//!
//! Writing and reading take about two blocks of memory, whatever the size. A file of a stranger is read with bounds: no
//! block is larger than `MAX_BLOCK_BYTES`, packed or unpacked.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};

use crate::domain::Timestamp;
use crate::domain::audit::{Link, from_hex, hex};
use crate::store::rows::{Digests, Preface, RowSink, TableDigest};

use crate::archive::key::{BackupKey, Mac};

use super::error::ArchiveError;

const MAGIC: &[u8] = b"academy-rt backup\n";
/// What a file begins with that age has encrypted.
const AGE_MAGIC: &[u8] = b"age-encryption.org/v1";
/// The version of this layout.
const LAYOUT: u32 = 1;
/// Rows are packed when so many bytes have come together.
const BLOCK_BYTES: usize = 1 << 20;
/// No block is larger.
const MAX_BLOCK_BYTES: usize = 64 << 20;
/// Little slower than copying, and a quarter of the size.
const ZSTD_LEVEL: i32 = 1;

/// What an archive says of itself at its beginning.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// The layout of the archive.
    pub layout: u32,
    /// The version of academy-rt that wrote it.
    pub application: String,
    /// The format of the rows.
    pub format: u32,
    /// When it was begun.
    pub created_at: Timestamp,
    /// Which store, in hexadecimal digits.
    pub store_id: String,
    /// The store's life.
    pub epoch: u64,
    /// The next id that the store would have given.
    pub next_id: u64,
    /// How many rows follow.
    pub rows: u64,
    /// The last record of the audit log that is in it; archives of older versions do not say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audit_head: Option<AuditPoint>,
}

/// A point of the chain of the audit log, for people and files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditPoint {
    /// The record's number; 0 before the first.
    pub number: u64,
    /// Its hash, in hexadecimal digits.
    pub hash: String,
}

impl From<Link> for AuditPoint {
    fn from(link: Link) -> AuditPoint {
        AuditPoint { number: link.number, hash: hex(&link.hash) }
    }
}

/// As `audit verify --expect` takes it.
impl std::fmt::Display for AuditPoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.number, self.hash)
    }
}

/// What a table holds, as the trailer says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSum {
    /// The table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Keys and values, in bytes.
    pub bytes: u64,
    /// BLAKE3 of its rows, in hexadecimal digits.
    pub blake3: String,
}

impl From<&TableDigest> for TableSum {
    fn from(digest: &TableDigest) -> TableSum {
        TableSum {
            name: digest.name.clone(),
            rows: digest.rows,
            bytes: digest.bytes,
            blake3: blake3::Hash::from_bytes(digest.hash).to_hex().to_string(),
        }
    }
}

/// What a whole archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// What it says of itself.
    pub header: Header,
    /// Its tables.
    pub tables: Vec<TableSum>,
    /// All bytes of the archive, unencrypted.
    pub archive_bytes: u64,
    /// BLAKE3 of all of it but the end, in hexadecimal digits.
    pub blake3: String,
    /// The mark of who made it.
    pub mac: Option<Mac>,
    /// What the mark is of: BLAKE3 of everything before the trailer.
    pub content: [u8; 32],
}

impl Summary {
    /// The rows of a table.
    #[must_use]
    pub fn rows_of(&self, table: &str) -> u64 {
        self.tables.iter().find(|sum| sum.name == table).map_or(0, |sum| sum.rows)
    }

    /// Keys and values of all tables, in bytes.
    #[must_use]
    pub fn row_bytes(&self) -> u64 {
        self.tables.iter().map(|sum| sum.bytes).sum()
    }
}

#[derive(Serialize, Deserialize)]
struct Trailer {
    tables: Vec<TableSum>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<Mac>,
}

/// Writes an archive. It is a sink of rows: [`RowSink::end`] makes it whole.
pub struct Writer<W: Write> {
    out: W,
    created_at: Timestamp,
    hasher: blake3::Hasher,
    written: u64,
    digests: Digests,
    table: String,
    block: Vec<u8>,
    key: Option<BackupKey>,
}

impl<W: Write> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("written", &self.written).finish_non_exhaustive()
    }
}

impl<W: Write> Writer<W> {
    /// Writes to `out`, which should gather small writes.
    pub fn new(out: W, created_at: Timestamp) -> Writer<W> {
        Writer {
            out,
            created_at,
            hasher: blake3::Hasher::new(),
            written: 0,
            digests: Digests::default(),
            table: String::new(),
            block: Vec::with_capacity(BLOCK_BYTES + (64 << 10)),
            key: None,
        }
    }

    /// Marks the archive with a key. Without one it is not signed.
    #[must_use]
    pub fn signed(mut self, key: Option<BackupKey>) -> Writer<W> {
        self.key = key;
        self
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.written += bytes.len() as u64;
        self.out.write_all(bytes)
    }

    fn put_block(&mut self, kind: u8, payload: &[u8]) -> io::Result<()> {
        let length = u32::try_from(payload.len()).ok().filter(|length| *length as usize <= MAX_BLOCK_BYTES);
        let length = length.ok_or_else(|| io::Error::other("a row is too large for a backup"))?;
        self.put(&[kind])?;
        self.put(&length.to_le_bytes())?;
        self.put(payload)
    }

    fn flush_rows(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let packed = zstd::bulk::compress(&self.block, ZSTD_LEVEL)?;
        self.block.clear();
        self.put_block(b'R', &packed)
    }
}

impl<W: Write> RowSink for Writer<W> {
    fn begin(&mut self, preface: &Preface) -> io::Result<()> {
        let header = Header {
            layout: LAYOUT,
            application: env!("CARGO_PKG_VERSION").to_owned(),
            format: preface.format,
            created_at: self.created_at,
            store_id: hex(&preface.store_id),
            epoch: preface.epoch,
            next_id: preface.next_id,
            rows: preface.rows,
            audit_head: preface.audit_head.map(AuditPoint::from),
        };
        self.put(MAGIC)?;
        let header = serde_json::to_vec(&header)?;
        self.put_block(b'H', &header)
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        if self.table != table || self.block.len() >= BLOCK_BYTES {
            self.flush_rows()?;
            table.clone_into(&mut self.table);
        }
        if self.block.is_empty() {
            self.block.push(u8::try_from(table.len()).unwrap_or(u8::MAX));
            self.block.extend_from_slice(table.as_bytes());
        }
        for part in [key, value] {
            self.block.extend_from_slice(&(part.len() as u32).to_le_bytes());
            self.block.extend_from_slice(part);
        }
        self.digests.add(table, key, value);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        self.flush_rows()?;
        let tables = std::mem::take(&mut self.digests).finish();
        let mac = self.key.take().map(|key| key.mark(self.hasher.finalize().as_bytes()));
        let trailer = serde_json::to_vec(&Trailer { tables: tables.iter().map(TableSum::from).collect(), mac })?;
        self.put_block(b'T', &trailer)?;
        let hash = *self.hasher.finalize().as_bytes();
        self.put_block(b'E', &hash)?;
        self.out.flush()
    }
}

/// Reads an archive to its end, gives its rows to a sink and says what it holds. Nothing that the sink was given may be
/// used before this has come back well: only then is it known to be whole. `newest_format` is the newest that the caller
/// understands; `progress` hears the rows so far and all rows.
///
/// # Errors
/// [`ArchiveError`]. The sink's own errors come as [`ArchiveError::Io`].
pub fn read(
    input: &mut dyn Read,
    newest_format: u32,
    sink: &mut dyn RowSink,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Summary, ArchiveError> {
    let mut input = Input { input, hasher: blake3::Hasher::new(), read: 0 };
    input.magic()?;
    let (mut header, mut trailer): (Option<Header>, Option<Trailer>) = (None, None);
    let mut content = [0; 32];
    let mut digests = Digests::default();
    let mut rows = 0;
    loop {
        let at = input.read;
        let hash = *input.hasher.finalize().as_bytes();
        let (kind, payload) = input.block()?;
        let damaged = |what: &str| ArchiveError::Damaged { at, what: what.to_owned() };
        match (kind, &header, &trailer) {
            (b'H', None, _) => {
                let found: Header = serde_json::from_slice(&payload).map_err(|_| damaged("its header"))?;
                if found.layout > LAYOUT || found.format > newest_format {
                    let Header { layout, format, application, .. } = found;
                    return Err(ArchiveError::Newer { layout, format, application });
                }
                let Some(store_id) = store_id_of(&found.store_id) else { return Err(damaged("its header")) };
                let (format, epoch, next_id, rows) = (found.format, found.epoch, found.next_id, found.rows);
                let audit_head = match &found.audit_head {
                    None => None,
                    Some(AuditPoint { number, hash }) => {
                        let hash = from_hex(hash).ok_or_else(|| damaged("its header"))?;
                        Some(Link { number: *number, hash })
                    }
                };
                sink.begin(&Preface { format, store_id, epoch, next_id, rows, audit_head })?;
                header = Some(found);
            }
            (b'R', Some(found), None) => {
                let block = unzip(&payload, MAX_BLOCK_BYTES).ok_or_else(|| damaged("a block"))?;
                rows += unpack(&block, &mut digests, sink)?.ok_or_else(|| damaged("a row"))?;
                progress(rows, found.rows);
            }
            (b'T', Some(_), None) => {
                let found: Trailer = serde_json::from_slice(&payload).map_err(|_| damaged("its trailer"))?;
                let sums: Vec<TableSum> = std::mem::take(&mut digests).finish().iter().map(TableSum::from).collect();
                if sums != found.tables {
                    return Err(damaged("its rows are not those that it lists"));
                }
                // It is shown to people: a stranger's is no longer than ours.
                if found.mac.as_ref().is_some_and(|mac| !mac.is_short()) {
                    return Err(damaged("its signature"));
                }
                content = hash;
                trailer = Some(found);
            }
            (b'E', Some(_), Some(_)) => {
                if payload != hash {
                    return Err(damaged("its checksum does not fit"));
                }
                if input.has_more()? {
                    return Err(damaged("something follows its end"));
                }
                break;
            }
            _ => return Err(damaged("a block is of no known kind, or out of order")),
        }
        if let (b'T', Some(header)) = (kind, &header)
            && header.rows != rows
        {
            return Err(damaged("its rows are not as many as it says"));
        }
    }
    sink.end()?;
    let (Some(header), Some(trailer)) = (header, trailer) else { return Err(ArchiveError::Foreign) };
    Ok(Summary {
        header,
        tables: trailer.tables,
        archive_bytes: input.read,
        blake3: input.hasher.finalize().to_hex().to_string(),
        mac: trailer.mac,
        content,
    })
}

/// Reads what an archive says of itself at its beginning, and gives it with the bytes that were read for it. Nothing is known
/// of the rest then.
///
/// # Errors
/// [`ArchiveError`].
pub fn peek(input: &mut dyn Read) -> Result<(Vec<u8>, Header), ArchiveError> {
    let mut recorded = Recorded { input, bytes: Vec::new() };
    let mut reader = Input { input: &mut recorded, hasher: blake3::Hasher::new(), read: 0 };
    reader.magic()?;
    let at = reader.read;
    let (kind, payload) = reader.block()?;
    let header = serde_json::from_slice(&payload).ok().filter(|_| kind == b'H');
    let header = header.ok_or_else(|| ArchiveError::Damaged { at, what: "its header".to_owned() })?;
    Ok((recorded.bytes, header))
}

/// Keeps what is read.
struct Recorded<'r> {
    input: &'r mut dyn Read,
    bytes: Vec<u8>,
}

impl Read for Recorded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        self.bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        Ok(read)
    }
}

fn store_id_of(text: &str) -> Option<[u8; 16]> {
    let number = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
    Some(number.to_be_bytes())
}

/// Unpacks a block, of a backup or of a segment, of at most so many bytes; `None` if it is longer or makes no sense.
pub(in crate::archive) fn unzip(payload: &[u8], most: usize) -> Option<Vec<u8>> {
    let mut block = Vec::new();
    let decoder = zstd::Decoder::with_buffer(payload).ok()?;
    decoder.take(most as u64 + 1).read_to_end(&mut block).ok()?;
    (block.len() <= most).then_some(block)
}

/// Gives the rows of a block to a sink; `None` if the block is not as it should be.
fn unpack(block: &[u8], digests: &mut Digests, sink: &mut dyn RowSink) -> io::Result<Option<u64>> {
    let Some((name, mut rest)) =
        block.split_first().and_then(|(length, rest)| rest.split_at_checked(usize::from(*length)))
    else {
        return Ok(None);
    };
    let Ok(name) = std::str::from_utf8(name) else { return Ok(None) };
    let mut rows = 0;
    while !rest.is_empty() {
        let Some((key, behind)) = part(rest) else { return Ok(None) };
        let Some((value, behind)) = part(behind) else { return Ok(None) };
        digests.add(name, key, value);
        sink.row(name, key, value)?;
        rows += 1;
        rest = behind;
    }
    Ok(Some(rows))
}

fn part(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Counts and hashes what is read.
struct Input<'r> {
    input: &'r mut dyn Read,
    hasher: blake3::Hasher,
    read: u64,
}

impl Input<'_> {
    fn magic(&mut self) -> Result<(), ArchiveError> {
        let mut start = Vec::new();
        (&mut *self.input).take(MAGIC.len() as u64).read_to_end(&mut start)?;
        if start.is_empty() {
            return Err(ArchiveError::Empty);
        }
        if start == MAGIC {
            self.hasher.update(&start);
            self.read = start.len() as u64;
            return Ok(());
        }
        // Both begin with the same letter: a file that is too short to distinguish them is incomplete.
        Err(if MAGIC.starts_with(&start) {
            ArchiveError::CutShort { bytes: start.len() as u64 }
        } else if AGE_MAGIC.starts_with(&start) {
            ArchiveError::Encrypted
        } else {
            ArchiveError::Foreign
        })
    }

    fn block(&mut self) -> Result<(u8, Vec<u8>), ArchiveError> {
        let mut head = [0; 5];
        let at = self.read;
        self.fill(&mut head)?;
        let [kind, length @ ..] = head;
        let length = u32::from_le_bytes(length) as usize;
        if length > MAX_BLOCK_BYTES {
            return Err(ArchiveError::Damaged { at, what: "a block is larger than any can be".to_owned() });
        }
        let mut payload = Vec::new();
        // Grows with what is there: a length that lies costs no memory.
        let got = (&mut *self.input).take(length as u64).read_to_end(&mut payload)?;
        if got < length {
            return Err(ArchiveError::CutShort { bytes: self.read + got as u64 });
        }
        // The end is not part of what it is the hash of.
        if kind != b'E' {
            self.hasher.update(&head);
            self.hasher.update(&payload);
        }
        self.read += got as u64;
        Ok((kind, payload))
    }

    fn fill(&mut self, head: &mut [u8; 5]) -> Result<(), ArchiveError> {
        let mut got = Vec::new();
        (&mut *self.input).take(5).read_to_end(&mut got)?;
        self.read += got.len() as u64;
        let Ok(five) = <[u8; 5]>::try_from(got.as_slice()) else {
            return Err(ArchiveError::CutShort { bytes: self.read });
        };
        *head = five;
        Ok(())
    }

    fn has_more(&mut self) -> io::Result<bool> {
        let mut one = Vec::new();
        Ok((&mut *self.input).take(1).read_to_end(&mut one)? > 0)
    }
}

/// Whether a file begins as age's files do. Reads its first bytes.
///
/// # Errors
/// If it cannot be read.
pub fn is_encrypted(input: &mut dyn Read) -> io::Result<bool> {
    let mut start = Vec::new();
    input.take(AGE_MAGIC.len() as u64).read_to_end(&mut start)?;
    Ok(start == AGE_MAGIC)
}
