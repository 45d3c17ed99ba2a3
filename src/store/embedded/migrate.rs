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
        _ => Err(Failure::Damaged(format!("there is no way from format {from} to {FORMAT}"))),
    }
}

/// Format 2 knows up to which `seq` a room has been purged, and has tables that format 1 does not.
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
        tables.meta.write()?.insert(meta::FORMAT, encode(&2u32, &mut buffer)?)?;
        tables.meta.write()?.remove(meta::MIGRATING)?;
        return Ok(None);
    };
    tables.meta.write()?.insert(meta::FORMAT, encode(&2u32, &mut buffer)?)?;
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
