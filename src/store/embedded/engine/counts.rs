//! Counts of ids that are kept, so that "how many are behind this one" is a few reads, however many there are: for each space
//! (a room, an audience, a user's part of one) the number of ids in every block of 1, 256, 65,536 and 16,777,216 ids. To add
//! an id touches four rows; to count up to one reads at most 255 rows a level, and only those that are not zero.

use std::collections::HashMap;
use std::iter::Peekable;

use redb::ReadableTable;

use crate::store::embedded::engine::codec::{decode, encode, get_number};
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::embedded::engine::schema::{K16, Logged, Row, k16, pair};

/// A block of a level has so many blocks of the level below.
const BITS: u32 = 8;
/// Levels of blocks.
const LEVELS: u32 = 4;
/// A key's second number has the level above its index.
const LEVEL_SHIFT: u32 = 56;
/// The highest id and the highest index of a block.
const HIGHEST: u64 = (1 << LEVEL_SHIFT) - 1;

fn key(space: u64, level: u32, index: u64) -> [u8; 16] {
    k16(space, (u64::from(level) << LEVEL_SHIFT) | index)
}

/// Adds an id to a space, or takes it out.
pub(in crate::store::embedded) fn change(
    table: &mut Logged<'_, K16, Row>,
    space: u64,
    id: u64,
    is_added: bool,
) -> Outcome<()> {
    let mut buffer = Vec::with_capacity(16);
    for level in 0..LEVELS {
        let key = key(space, level, id >> (BITS * level));
        let count = get_number(&**table, &key)?.unwrap_or(0);
        let next = if is_added { count.checked_add(1) } else { count.checked_sub(1) };
        match next.ok_or_else(|| Failure::Damaged(format!("a count of space {space} goes below nothing at {id}")))? {
            0 => drop(table.remove(&key)?),
            next => drop(table.insert(&key, encode(&next, &mut buffer)?)?),
        }
    }
    Ok(())
}

/// Whether an id is in a space.
pub(in crate::store::embedded) fn has(table: &impl ReadableTable<K16, Row>, space: u64, id: u64) -> Outcome<bool> {
    Ok(table.get(&key(space, 0, id))?.is_some())
}

/// How many ids of a space are at most this one.
pub(in crate::store::embedded) fn up_to(table: &impl ReadableTable<K16, Row>, space: u64, id: u64) -> Outcome<u64> {
    let mut total = 0;
    // The blocks from the beginning of the block above up to here; at the highest level from the very beginning.
    let mut end = id.saturating_add(1);
    for level in 0..LEVELS {
        let start = if level + 1 == LEVELS { 0 } else { (end >> BITS) << BITS };
        if start < end {
            for row in table.range::<&[u8; 16]>(&key(space, level, start)..&key(space, level, end))? {
                total += decode::<u64>(row?.1.value())?;
            }
        }
        end >>= BITS;
    }
    Ok(total)
}

/// How many ids of a space are behind this one.
pub(in crate::store::embedded) fn behind(table: &impl ReadableTable<K16, Row>, space: u64, id: u64) -> Outcome<u64> {
    let highest = LEVELS - 1;
    let mut all = 0;
    for row in table.range::<&[u8; 16]>(&key(space, highest, 0)..&key(space, highest + 1, 0))? {
        all += decode::<u64>(row?.1.value())?;
    }
    Ok(if all == 0 { 0 } else { all - up_to(table, space, id)? })
}

/// The ids of a space from `low` to `high`, from either end. What is not taken is not read.
pub(in crate::store::embedded) fn ids<'t>(
    table: &'t impl ReadableTable<K16, Row>,
    space: u64,
    (low, high): (u64, u64),
) -> Outcome<impl DoubleEndedIterator<Item = Outcome<u64>> + 't> {
    let rows = table.range::<&[u8; 16]>(&key(space, 0, low.min(HIGHEST))..=&key(space, 0, high.min(HIGHEST)))?;
    Ok(rows.map(|row| Ok(pair(row?.0.value()).1)))
}

/// The ids of a space from `low` to `high` that are not in another one, whose ids are all in the first as far as the range
/// goes. Blocks of which the other space has everything are passed over as one, so that what is read is about what is given.
pub(in crate::store::embedded) fn without<'t, T: ReadableTable<K16, Row>>(
    table: &'t T,
    space: u64,
    other: u64,
    (low, high): (u64, u64),
    newest_first: bool,
) -> Outcome<Without<'t, T>> {
    let mut walk = Without { table, space, other, low, high: high.min(HIGHEST), newest_first, levels: Vec::new() };
    walk.descend(LEVELS - 1, 0, HIGHEST >> (BITS * (LEVELS - 1)))?;
    Ok(walk)
}

/// See [`without`].
pub(in crate::store::embedded) struct Without<'t, T> {
    table: &'t T,
    space: u64,
    other: u64,
    low: u64,
    high: u64,
    newest_first: bool,
    /// The blocks that are looked at, the highest level first.
    levels: Vec<Blocks<'t>>,
}

type Counted<'t> = Box<dyn Iterator<Item = Outcome<(u64, u64)>> + 't>;

/// Blocks of one level: those of the space, and those of the other one in step with them.
struct Blocks<'t> {
    level: u32,
    there: Counted<'t>,
    taken: Peekable<Counted<'t>>,
}

impl<'t, T: ReadableTable<K16, Row>> Without<'t, T> {
    fn blocks(&self, space: u64, level: u32, first: u64, last: u64) -> Outcome<Counted<'t>> {
        let rows = self.table.range::<&[u8; 16]>(&key(space, level, first)..=&key(space, level, last))?;
        let rows = rows.map(|row| -> Outcome<(u64, u64)> {
            let (key, value) = row?;
            Ok((pair(key.value()).1 & HIGHEST, decode::<u64>(value.value())?))
        });
        Ok(if self.newest_first { Box::new(rows.rev()) } else { Box::new(rows) })
    }

    /// Goes on with the blocks of a level, as far as they are in the range.
    fn descend(&mut self, level: u32, first: u64, last: u64) -> Outcome<()> {
        let (first, last) = (first.max(self.low >> (BITS * level)), last.min(self.high >> (BITS * level)));
        if self.low <= self.high && first <= last {
            let there = self.blocks(self.space, level, first, last)?;
            let taken = self.blocks(self.other, level, first, last)?.peekable();
            self.levels.push(Blocks { level, there, taken });
        }
        Ok(())
    }

    fn find(&mut self) -> Outcome<Option<u64>> {
        loop {
            let Some(blocks) = self.levels.last_mut() else { return Ok(None) };
            let level = blocks.level;
            let Some((index, there)) = blocks.there.next().transpose()? else {
                self.levels.pop();
                continue;
            };
            let newest_first = self.newest_first;
            let is_before = |other: u64| if newest_first { other > index } else { other < index };
            while blocks.taken.next_if(|row| row.as_ref().is_ok_and(|(other, _)| is_before(*other))).is_some() {}
            let taken = match blocks.taken.next_if(|row| row.as_ref().map_or(true, |(other, _)| *other == index)) {
                Some(row) => row?.1,
                None => 0,
            };
            // What is outside of the range says nothing of what is inside.
            let (first, last) = (index << (BITS * level), ((index + 1) << (BITS * level)) - 1);
            if self.low <= first && last <= self.high && there <= taken {
                continue;
            }
            match level.checked_sub(1) {
                Some(below) => self.descend(below, index << BITS, ((index + 1) << BITS) - 1)?,
                None => return Ok(Some(index)),
            }
        }
    }
}

impl<T: ReadableTable<K16, Row>> Iterator for Without<'_, T> {
    type Item = Outcome<u64>;

    fn next(&mut self) -> Option<Outcome<u64>> {
        self.find().transpose()
    }
}

/// Takes away all that is counted in a space.
pub(in crate::store::embedded) fn forget(table: &mut Logged<'_, K16, Row>, space: u64) -> Outcome<()> {
    Ok(table.remove_range::<&[u8; 16]>(&k16(space, 0)..=&k16(space, u64::MAX))?)
}

/// Visits the ids of all spaces, and says which blocks are not the sum of the blocks below them.
pub(in crate::store::embedded) fn walk(
    table: &impl ReadableTable<K16, Row>,
    mut visit: impl FnMut(u64, u64) -> Outcome<()>,
) -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    // Sums of what is below a block. In the order of keys the blocks of a level come behind all below them.
    let mut sums: HashMap<(u64, u64), u64> = HashMap::new();
    for row in table.iter()? {
        let (key, value) = row?;
        let ((space, block), count) = (pair(key.value()), decode::<u64>(value.value())?);
        let (level, index) = (block >> LEVEL_SHIFT, block & HIGHEST);
        let below = if level == 0 { 1 } else { sums.remove(&(space, block)).unwrap_or(0) };
        if count != below || count == 0 {
            found.push(format!("space {space}: block {index} of level {level} says {count}, below it are {below}"));
        }
        if level == 0 {
            visit(space, index)?;
        }
        if level + 1 < u64::from(LEVELS) {
            *sums.entry((space, ((level + 1) << LEVEL_SHIFT) | (index >> BITS))).or_default() += count;
        }
    }
    found.extend(sums.into_keys().map(|(space, _)| format!("space {space}: a block is missing")));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;
    use redb::{Database, ReadableDatabase, TableDefinition};

    use super::*;

    const TABLE: TableDefinition<'_, K16, Row> = TableDefinition::new("counts");

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn a_kept_count_is_what_counting_gives(
            steps in prop::collection::vec((0u64..3, prop_oneof![0u64..600, 0u64..200_000, 0u64..40_000_000]), 1..120),
            asked in prop::collection::vec(0u64..40_000_000, 8),
        ) {
            let database = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
            let mut model: [BTreeSet<u64>; 3] = Default::default();
            let tx = database.begin_write().unwrap();
            {
                let mut table = Logged::alone(tx.open_table(TABLE).unwrap());
                for (space, id) in &steps {
                    // The same id once more takes it out again.
                    let set = &mut model[*space as usize];
                    let is_added = set.insert(*id);
                    if !is_added {
                        set.remove(id);
                    }
                    change(&mut table, *space, *id, is_added).unwrap();
                }
            }
            tx.commit().unwrap();
            let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
            let mut walked: [BTreeSet<u64>; 3] = Default::default();
            let visit = |space, id| {
                walked[space as usize].insert(id);
                Ok(())
            };
            prop_assert_eq!(walk(&table, visit).unwrap(), Vec::<String>::new());
            prop_assert_eq!(&walked, &model);
            for (space, set) in (0u64..).zip(&model) {
                for id in asked.iter().chain(set.iter()).copied().chain([0, u64::MAX >> 9]) {
                    prop_assert_eq!(up_to(&table, space, id).unwrap(), set.range(..=id).count() as u64);
                    prop_assert_eq!(behind(&table, space, id).unwrap(), set.range(id + 1..).count() as u64);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn what_is_left_of_a_space_is_its_difference(
            there in prop::collection::btree_set(prop_oneof![0u64..600, 0u64..200_000, 0u64..40_000_000], 1..150),
            keep in prop::collection::vec(any::<bool>(), 150),
            run in 0u64..800,
            (low, high) in (0u64..40_000_000, prop_oneof![0u64..300_000, Just(u64::MAX)]),
        ) {
            let database = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
            let there: BTreeSet<u64> = there.into_iter().chain(1_000..1_000 + run).collect();
            let is_taken = |(at, id): (usize, &u64)| (*id >= 1_000 || !keep[at % keep.len()]).then_some(*id);
            let taken: BTreeSet<u64> = there.iter().enumerate().filter_map(is_taken).collect();
            let low = if low % 3 == 0 { low } else { low % 2_000 };
            let tx = database.begin_write().unwrap();
            {
                let mut table = Logged::alone(tx.open_table(TABLE).unwrap());
                // What is taken below the range may be of what is not there any more.
                for (space, id) in there.iter().map(|id| (1, *id)).chain(taken.iter().map(|id| (2, *id))).chain([(2, low.saturating_sub(1))]) {
                    if !has(&*table, space, id).unwrap() {
                        change(&mut table, space, id, true).unwrap();
                    }
                }
            }
            tx.commit().unwrap();
            let table = database.begin_read().unwrap().open_table(TABLE).unwrap();
            let is_in = |id: &&u64| (low..=high).contains(*id);
            let wanted: Vec<u64> = there.difference(&taken).filter(is_in).copied().collect();
            let left = |newest_first| without(&table, 1, 2, (low, high), newest_first).unwrap().collect::<Outcome<Vec<u64>>>().unwrap();
            prop_assert_eq!(left(false), wanted.clone());
            prop_assert_eq!(left(true), wanted.into_iter().rev().collect::<Vec<_>>());
            if low <= high {
                let all = ids(&table, 1, (low, high)).unwrap().collect::<Outcome<Vec<u64>>>().unwrap();
                prop_assert_eq!(all, there.iter().filter(is_in).copied().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn nothing_is_taken_out_that_is_not_there() {
        let database = Database::builder().create_with_backend(redb::backends::InMemoryBackend::new()).unwrap();
        let tx = database.begin_write().unwrap();
        let mut table = Logged::alone(tx.open_table(TABLE).unwrap());
        assert!(change(&mut table, 1, 7, false).is_err());
        change(&mut table, 1, 7, true).unwrap();
        forget(&mut table, 1).unwrap();
        assert_eq!(behind(&*table, 1, 0).unwrap(), 0);
    }
}
