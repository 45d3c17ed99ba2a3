//! What the store notes of itself: the daily count of rows, and the last good backup.

use redb::ReadableTable;

use crate::domain::Timestamp;
use crate::store::embedded::engine::batch::{Apply, Batch};
use crate::store::embedded::engine::codec::{encode, get_value};
use crate::store::embedded::engine::failure::Outcome;
use crate::store::embedded::engine::schema::{Snapshot, k8, meta};
use crate::store::operations::{NoteBackup, SampleGrowth};

/// So many days of the count of rows are kept.
const GROWTH_DAYS: u64 = 400;

impl Apply for SampleGrowth {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        let SampleGrowth { day, counts } = self;
        if batch.t.growth.read()?.get(&k8(day))?.is_some() {
            return Ok(());
        }
        batch.touch();
        let row: Vec<(&str, u64)> = counts;
        batch.t.growth.write()?.insert(&k8(day), encode(&row, &mut batch.buffer)?)?;
        let mut old = Vec::new();
        for row in batch.t.growth.read()?.range::<&[u8; 8]>(..&k8(day.saturating_sub(GROWTH_DAYS)))? {
            old.push(*row?.0.value());
        }
        for key in &old {
            batch.t.growth.write()?.remove(key)?;
        }
        Ok(())
    }
}

impl Apply for NoteBackup {
    fn apply(self, batch: &mut Batch<'_, '_>) -> Outcome<()> {
        batch.touch();
        batch.noted_backup = Some((batch.now, self.bytes));
        let row = encode(&(batch.now.0, self.bytes), &mut batch.buffer)?;
        batch.t.meta.write()?.insert(meta::LAST_BACKUP, row)?;
        Ok(())
    }
}

impl Snapshot {
    pub(in crate::store::embedded) fn last_backup(&self) -> Outcome<Option<(Timestamp, u64)>> {
        let found: Option<(u64, u64)> = get_value(&self.meta()?, meta::LAST_BACKUP)?;
        Ok(found.map(|(at, bytes)| (Timestamp(at), bytes)))
    }
}
