//! Migrations of older formats, in slices, each a transaction that says how far it is: cut short at any point, the next
//! start goes on. The new format's number is written first, so that an older version no longer opens the file from the
//! first slice on. Who calls it has made a backup before.

use redb::ReadableTable;
use serde::{Deserialize, Serialize};

use super::failure::{Failure, Outcome};
use super::records::{IdRow, decode, encode, encode_room, get_value};
use super::rows::OfflineFile;
use super::schema::{FORMAT, Tables, k8, meta};
use crate::domain::Timestamp;
use crate::domain::chat::RoomRecord;
use crate::store::StoreError;

/// So many rows share a transaction.
const SLICE: usize = 2_000;

/// Brings a file to this version's format. `progress` hears how many rows are done. A file that is at it stays as it is.
///
/// # Errors
/// What kept it from being migrated; calling it again goes on where it stopped.
pub fn migrate(file: &mut OfflineFile, progress: &mut dyn FnMut(u64)) -> Result<(), StoreError> {
    let mut rows = 0;
    while file.format < FORMAT {
        let Some(done) = file.write(|tables| slice(tables, file.format))? else {
            file.format = FORMAT;
            break;
        };
        rows += done;
        progress(rows);
    }
    Ok(())
}

/// One slice; `None` when all is done.
fn slice(tables: &mut Tables<'_>, from: u32) -> Outcome<Option<u64>> {
    match from {
        1 => from_1(tables),
        2 => from_2(tables),
        _ => Err(Failure::Damaged(format!("there is no way from format {from} to {FORMAT}"))),
    }
}

/// Format 3 has tables that format 2 does not, and what was there stays as it is.
fn from_2(tables: &mut Tables<'_>) -> Outcome<Option<u64>> {
    let mut buffer = Vec::new();
    tables.meta.write()?.insert(meta::FORMAT, encode(&FORMAT, &mut buffer)?)?;
    tables.meta.write()?.insert(meta::VERSION, encode(&env!("CARGO_PKG_VERSION"), &mut buffer)?)?;
    Ok(None)
}

/// Since format 2 a room knows up to which `seq` it has been purged. Its rows are written anew, and all that formats have
/// added since is there at once.
fn from_1(tables: &mut Tables<'_>) -> Outcome<Option<u64>> {
    let mut buffer = Vec::new();
    let state: Option<(u32, u64)> = get_value(tables.meta.read()?, meta::MIGRATING)?;
    let done = state.map_or(0, |(_, done)| done);
    let mut slice = Vec::new();
    for row in tables.rooms.read()?.range::<&[u8; 8]>(&k8(done.saturating_add(1))..)?.take(SLICE) {
        let (key, value) = row?;
        slice.push((u64::from_be_bytes(*key.value()), decode_room_1(value.value())?));
    }
    let Some((last, _)) = slice.last() else {
        tables.meta.write()?.insert(meta::FORMAT, encode(&FORMAT, &mut buffer)?)?;
        tables.meta.write()?.insert(meta::VERSION, encode(&env!("CARGO_PKG_VERSION"), &mut buffer)?)?;
        tables.meta.write()?.remove(meta::MIGRATING)?;
        return Ok(None);
    };
    tables.meta.write()?.insert(meta::FORMAT, encode(&FORMAT, &mut buffer)?)?;
    tables.meta.write()?.insert(meta::VERSION, encode(&env!("CARGO_PKG_VERSION"), &mut buffer)?)?;
    tables.meta.write()?.insert(meta::MIGRATING, encode(&(1u32, *last), &mut buffer)?)?;
    for (no, room) in &slice {
        tables.rooms.write()?.insert(&k8(*no), encode_room(room, &mut buffer)?)?;
    }
    Ok(Some(slice.len() as u64))
}

/// A room's row as format 1 has it.
#[derive(Serialize, Deserialize)]
struct RoomRow1<'a> {
    #[serde(borrow)]
    id: IdRow<'a>,
    name: Option<&'a str>,
    private: bool,
    last_id: u64,
    last_seq: u64,
    created_at: u64,
}

/// A room of format 1.
pub(super) fn decode_room_1(bytes: &[u8]) -> Outcome<RoomRecord> {
    let row: RoomRow1<'_> = decode(bytes)?;
    Ok(RoomRecord {
        id: row.id.room()?,
        name: row.name.map(str::to_owned),
        private: row.private,
        last_id: row.last_id,
        last_seq: row.last_seq,
        purged_seq: 0,
        created_at: Timestamp(row.created_at),
    })
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::path::Path;
    use std::sync::Arc;

    use super::*;
    use crate::domain::{RoomId, SystemClock};
    use crate::store::embedded::rows::Held;
    use crate::store::embedded::{check, open};
    use crate::store::{NoSink, OpenError, StoreConfig};

    const ROOMS: u64 = SLICE as u64 * 2 + 7;

    fn config(dir: &Path) -> StoreConfig {
        StoreConfig { data_dir: dir.to_owned(), cache_bytes: 4 << 20, progress_versions: 5, min_free_bytes: 0 }
    }

    /// A store of format 1 with many rooms.
    fn old(dir: &Path) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let store = open(&config(dir), SystemClock::shared(), Arc::new(NoSink)).unwrap();
        runtime.block_on(store.close()).unwrap();
        let held = Held::take(dir).unwrap();
        let file = held.open().unwrap();
        let written = file.write(|tables| {
            let mut buffer = Vec::new();
            for no in 1..=ROOMS {
                let id = RoomId::number(no);
                let row = RoomRow1 {
                    id: id.id().into(),
                    name: None,
                    private: false,
                    last_id: 0,
                    last_seq: 0,
                    created_at: no,
                };
                tables.rooms.write()?.insert(&k8(no), encode(&row, &mut buffer)?)?;
                let canonical = id.canonical();
                tables.room_no.write()?.insert(canonical.as_bytes(), encode(&no, &mut buffer)?)?;
            }
            tables.meta.write()?.insert(meta::NEXT_ROOM, encode(&(ROOMS + 1), &mut buffer)?)?;
            tables.meta.write()?.insert(meta::FORMAT, encode(&1u32, &mut buffer)?)?;
            Ok(())
        });
        written.unwrap();
        file.close().unwrap();
    }

    #[test]
    fn a_migration_that_is_cut_short_goes_on_where_it_stopped() {
        let dir = tempfile::tempdir().unwrap();
        old(dir.path());
        let opened = || open(&config(dir.path()), SystemClock::shared(), Arc::new(NoSink));
        let is_older = || matches!(opened(), Err(OpenError::Older { found: 1, known: FORMAT, .. }));
        assert!(is_older());
        let mut seen = Vec::new();
        for _ in 0..2 {
            let held = Held::take(dir.path()).unwrap();
            let mut file = held.open().unwrap();
            // As a kill would, after one slice.
            let cut = catch_unwind(AssertUnwindSafe(|| {
                migrate(&mut file, &mut |rows| {
                    seen.push(rows);
                    panic!("killed");
                })
            }));
            assert!(cut.is_err());
            drop(file);
            drop(held);
            assert!(is_older(), "it is not served half migrated");
        }
        let held = Held::take(dir.path()).unwrap();
        let mut file = held.open().unwrap();
        migrate(&mut file, &mut |rows| seen.push(rows)).unwrap();
        assert_eq!(seen, [SLICE as u64, SLICE as u64, 7], "each slice once");
        file.close().unwrap();
        drop(held);
        assert_eq!(check(dir.path()).unwrap(), Vec::<String>::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(opened().unwrap().close()).unwrap();
    }
}
