//! A whole store as named tables of bytes: how it goes out of an engine and in again. Backups, their drills, restores and
//! rebuilding stand on it; nothing above the store knows what the bytes mean. What a commit has changed goes out in the same way.

use std::io;

use crate::domain::Timestamp;
use crate::domain::audit::Link;

/// Which store the rows are of, and how it stood when they were read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preface {
    /// The format of the rows.
    pub format: u32,
    /// Random, made with the store.
    pub store_id: [u8; 16],
    /// The store's life.
    pub epoch: u64,
    /// The next id that it would give.
    pub next_id: u64,
    /// How many rows follow.
    pub rows: u64,
    /// The last record of the audit log among them; `None` where it is not known.
    pub audit_head: Option<Link>,
}

/// Takes a store's rows: table by table, in the order of their keys.
pub trait RowSink {
    /// Before the first row.
    ///
    /// # Errors
    /// Ends the reading.
    fn begin(&mut self, preface: &Preface) -> io::Result<()>;

    /// One row.
    ///
    /// # Errors
    /// Ends the reading.
    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()>;

    /// Behind the last row: what was taken is complete.
    ///
    /// # Errors
    /// It was not kept.
    fn end(&mut self) -> io::Result<()>;
}

/// The rows that a commit has changed, in the order in which it did.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RowLog {
    bytes: Vec<u8>,
    /// Whether an erasure has begun or ended in it.
    pub has_erasure: bool,
}

/// A changed row: its table, its key, and its value; `None` if it was removed.
pub type ChangedRow<'r> = (&'r str, &'r [u8], Option<&'r [u8]>);

impl RowLog {
    /// Adds a row. `value` is `None` if it was removed.
    pub fn add(&mut self, table: &str, key: &[u8], value: Option<&[u8]>) {
        self.has_erasure |= table == "erasures";
        self.bytes.push(u8::try_from(table.len()).unwrap_or(u8::MAX));
        self.bytes.extend_from_slice(table.as_bytes());
        self.bytes.extend_from_slice(&(key.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(key);
        // A length that no value has stands for none.
        let length = value.map_or(u32::MAX, |value| value.len() as u32);
        self.bytes.extend_from_slice(&length.to_le_bytes());
        self.bytes.extend_from_slice(value.unwrap_or_default());
    }

    /// The rows as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the rows of [`bytes`](RowLog::bytes); `None` if they are none.
    #[must_use]
    pub fn rows(mut bytes: &[u8]) -> Option<Vec<ChangedRow<'_>>> {
        let mut rows = Vec::new();
        while let Some((length, rest)) = bytes.split_first() {
            let (table, rest) = rest.split_at_checked(usize::from(*length))?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (key, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = match u32::from_le_bytes(*length) {
                u32::MAX => (None, rest),
                length => rest.split_at_checked(length as usize).map(|(value, rest)| (Some(value), rest))?,
            };
            rows.push((std::str::from_utf8(table).ok()?, key, value));
            bytes = rest;
        }
        Some(rows)
    }
}

/// Hears of every commit of a running store, in their order, before anybody is answered. It must not wait: it stands in the way
/// of every write.
pub trait CommitTap: Send + Sync {
    /// A commit is about to be made: it may be read before its rows are told.
    fn begins(&self);

    /// These rows are on disk.
    fn committed(&self, at: Timestamp, rows: RowLog);

    /// A commit failed, and it is not known whether its rows are on disk.
    fn is_unknown(&self);
}

/// What a table holds, and the hash of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDigest {
    /// The table.
    pub name: String,
    /// Its rows.
    pub rows: u64,
    /// Keys and values, in bytes.
    pub bytes: u64,
    /// BLAKE3 over each row: the length of its key, the key, the length of its value, the value.
    pub hash: [u8; 32],
}

/// A sink that keeps the digests of the tables alone.
#[derive(Default)]
pub struct Digests {
    done: Vec<TableDigest>,
    open: Option<(TableDigest, blake3::Hasher)>,
}

impl std::fmt::Debug for Digests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Digests").field("done", &self.done).finish_non_exhaustive()
    }
}

impl Digests {
    /// Counts a row in.
    pub fn add(&mut self, table: &str, key: &[u8], value: &[u8]) {
        if self.open.as_ref().is_none_or(|(open, _)| open.name != table) {
            self.close();
            let digest = TableDigest { name: table.to_owned(), rows: 0, bytes: 0, hash: [0; 32] };
            self.open = Some((digest, blake3::Hasher::new()));
        }
        if let Some((digest, hasher)) = &mut self.open {
            digest.rows += 1;
            digest.bytes += (key.len() + value.len()) as u64;
            hasher.update(&(key.len() as u32).to_le_bytes());
            hasher.update(key);
            hasher.update(&(value.len() as u32).to_le_bytes());
            hasher.update(value);
        }
    }

    fn close(&mut self) {
        if let Some((mut digest, hasher)) = self.open.take() {
            digest.hash = *hasher.finalize().as_bytes();
            self.done.push(digest);
        }
    }

    /// The digests of all tables that have rows, in the order in which they came.
    #[must_use]
    pub fn finish(mut self) -> Vec<TableDigest> {
        self.close();
        self.done
    }
}

impl RowSink for Digests {
    fn begin(&mut self, _preface: &Preface) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> io::Result<()> {
        self.add(table, key, value);
        Ok(())
    }

    fn end(&mut self) -> io::Result<()> {
        Ok(())
    }
}
