//! What a database file holds, in figures for people: the ground of `restore --dry-run` and `db stats`.

use std::collections::{BTreeMap, BTreeSet};

use redb::ReadableTable;

use crate::domain::{RoomId, Timestamp};
use crate::store::StoreError;
use crate::store::TableStats;
use crate::store::embedded::access::rows::{Person, decode_room};
use crate::store::embedded::chat::rows::decode_message;
use crate::store::embedded::engine::codec::decode;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{Snapshot, TableSize};
use crate::store::embedded::offline::rows::OfflineFile;

/// What a store holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowStats {
    /// Rows by table.
    pub rows: BTreeMap<&'static str, u64>,
    /// Canonical ids of people.
    pub users: BTreeSet<String>,
    /// Canonical ids of rooms.
    pub rooms: BTreeSet<String>,
    /// When the newest message was stored.
    pub newest_message: Option<Timestamp>,
    /// The store's life.
    pub epoch: u64,
    /// The next id that it gives.
    pub next_id: u64,
    /// Which store.
    pub store_id: [u8; 16],
}

impl RowStats {
    /// The rows of a table.
    #[must_use]
    pub fn rows_of(&self, table: &str) -> u64 {
        self.rows.get(table).copied().unwrap_or_default()
    }

    /// Whether nobody has stored anything: a server has made the store, and what it keeps of itself is all that there is.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.rows.iter().all(|(table, rows)| *rows == 0 || OF_THE_SERVER.contains(table))
    }
}

/// The tables that a server writes into by itself.
const OF_THE_SERVER: [&str; 3] = ["meta", "audit", "growth"];

impl OfflineFile {
    /// Counts what it holds.
    ///
    /// # Errors
    /// What kept it from being read.
    pub fn row_stats(&self) -> Result<RowStats, StoreError> {
        // Rooms of format 1 have no number of what was purged; those since then are read as they are.
        let is_first = self.format < 2;
        self.read(|snapshot| row_stats(snapshot, is_first))
    }

    /// The size of each table and its growth. Reads every page.
    ///
    /// # Errors
    /// What kept it from being read.
    pub fn stats(&self) -> Result<Vec<TableStats>, StoreError> {
        self.read(Snapshot::table_stats)
    }
}

impl Snapshot {
    /// The size of each table and its growth. Reads every page.
    pub(in crate::store::embedded) fn table_stats(&self) -> Outcome<Vec<TableStats>> {
        let growth = growth(self)?;
        let of = |size: TableSize| TableStats {
            name: size.name,
            rows: size.rows,
            stored_bytes: size.stored_bytes,
            overhead_bytes: size.overhead_bytes,
            rows_a_day: growth.get(size.name).copied(),
        };
        Ok(self.sizes()?.into_iter().map(of).collect())
    }
}

fn row_stats(snapshot: &Snapshot, is_first: bool) -> Outcome<RowStats> {
    let preface = snapshot.preface()?;
    let (epoch, next_id, store_id) = (preface.epoch, preface.next_id, preface.store_id);
    let mut row_stats = RowStats { epoch, next_id, store_id, ..RowStats::default() };
    row_stats.rows = snapshot.counts()?.into_iter().collect();
    for row in snapshot.users()?.iter()? {
        row_stats.users.insert(Person::decode(row?.1.value())?.id.canonical());
    }
    for row in snapshot.rooms()?.iter()? {
        let (_, value) = row?;
        let room = if is_first {
            crate::store::embedded::offline::migrate::decode_room_1(value.value())
        } else {
            decode_room(value.value())
        }?;
        row_stats.rooms.insert(room.id.canonical());
    }
    if let Some((key, value)) = snapshot.messages()?.last()? {
        let id = u64::from_be_bytes(*key.value());
        row_stats.newest_message = Some(decode_message(value.value(), id, &RoomId::number(0))?.0.at);
    }
    Ok(row_stats)
}

/// Rows a day of each table, between the first and the last day that were counted.
fn growth(snapshot: &Snapshot) -> Outcome<BTreeMap<String, f64>> {
    let mut days = Vec::new();
    let table = match snapshot.growth() {
        // Format 1 does not count.
        Err(Failure::Engine(redb::Error::TableDoesNotExist(_))) => return Ok(BTreeMap::new()),
        table => table?,
    };
    for row in table.iter()? {
        let (key, value) = row?;
        let counts: Vec<(&str, u64)> = decode(value.value())?;
        let counts: BTreeMap<String, u64> = counts.into_iter().map(|(name, rows)| (name.to_owned(), rows)).collect();
        days.push((u64::from_be_bytes(*key.value()), counts));
    }
    let mut growth = BTreeMap::new();
    if let (Some((first_day, first)), Some((last_day, last))) = (days.first(), days.last())
        && last_day > first_day
    {
        for (name, rows) in last {
            let before = first.get(name).copied().unwrap_or_default();
            growth.insert(name.clone(), (*rows as f64 - before as f64) / (last_day - first_day) as f64);
        }
    }
    Ok(growth)
}
