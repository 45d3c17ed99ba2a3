//! The tables and their keys. Keys are of fixed width and big-endian, so that the order of bytes is the order of numbers;
//! the maps from a canonical id to its number are the only ones keyed by text. What a value holds is in [`crate::store::embedded::engine::codec`].
//!
//! The format has one number, [`FORMAT`]. It rises when an older version could misread what a newer one writes.

use std::borrow::Borrow;
use std::cell::{OnceCell, RefCell};
use std::ops::Deref;

use redb::{
    AccessGuard, ReadOnlyTable, ReadTransaction, ReadableTable, ReadableTableMetadata, StorageError, Table,
    TableDefinition, WriteTransaction,
};

use crate::domain::UserId;
use crate::store::embedded::engine::failure::{Failure, Outcome};
use crate::store::operations::KeyKind;
use crate::store::rows::RowLog;

/// The format of this version. 1: version 0.1. 2: rooms know what was purged of them; audit, holds, erasures, growth.
/// 3: bans, which an older version would not know of and let in whom they shut out; rooms that are being removed.
/// 4: marks of an inbox by audience, counts that are kept, who has written where, withheld versions, names of messages that
/// back ends gave, broadcasts on their way, fingerprints of requests.
/// 5: an inbox is indexed by what is left of it; an older version would not keep the index.
/// 6: messages say who else has changed them; several holds on one subject stand beside each other, each with a number.
/// 7: notifications have times; an older version would neither send nor end them, and show again what was taken back.
/// 8: ids are in their normal form (NFC), and a user's has one JSON type; first answers have no index by their expiry. An older
/// version would store other ids beside them, and miss what is not in that index.
/// 9: a message writes no row of its room and none of an index by its sender, and members stand behind the messages of their room;
/// an older version would take a room's record for the truth, and give ids twice.
/// 10: rooms can be locked and in slow mode, and messages are reported; an older version would let write whom they keep from it, and
/// keep a report that goes with its message.
pub(in crate::store::embedded) const FORMAT: u32 = 10;

/// A key of one number.
pub(in crate::store::embedded) type K8 = &'static [u8; 8];
/// A key of two numbers.
pub(in crate::store::embedded) type K16 = &'static [u8; 16];
/// A key of three numbers, or of a number and a hash.
pub(in crate::store::embedded) type K24 = &'static [u8; 24];
/// A key of a time, a number and a hash.
pub(in crate::store::embedded) type K32 = &'static [u8; 32];
/// A canonical id.
pub(in crate::store::embedded) type Text = &'static [u8];
/// One codec byte and postcard.
pub(in crate::store::embedded) type Row = &'static [u8];

/// Names of the rows of `meta`.
pub(in crate::store::embedded) mod meta {
    pub(in crate::store::embedded) const FORMAT: &str = "schema";
    pub(in crate::store::embedded) const STORE_ID: &str = "store_id";
    pub(in crate::store::embedded) const EPOCH: &str = "epoch";
    pub(in crate::store::embedded) const CREATED_AT: &str = "created_at";
    /// The next id, unless the last message has this one or a higher one: see [`crate::store::embedded::engine::codec::next_id`].
    pub(in crate::store::embedded) const NEXT_ID: &str = "next_id";
    pub(in crate::store::embedded) const NEXT_USER: &str = "next_user";
    pub(in crate::store::embedded) const NEXT_ROOM: &str = "next_room";
    pub(in crate::store::embedded) const NEXT_LESSON: &str = "next_lesson";
    /// The version of academy-rt that gave the store its format.
    pub(in crate::store::embedded) const VERSION: &str = "version";
    /// While a migration runs: the format it comes from, and the last row that is done.
    pub(in crate::store::embedded) const MIGRATING: &str = "migrating";
    /// Ranges of ids that were given in lives that a restore has ended.
    pub(in crate::store::embedded) const LOST_IDS: &str = "lost_ids";
    /// When the last good backup was made, and its size.
    pub(in crate::store::embedded) const LAST_BACKUP: &str = "last_backup";
    /// Rooms that are gone, and whose messages are not all removed yet: their numbers.
    pub(in crate::store::embedded) const DOOMED: &str = "doomed_rooms";
    /// What cursors are signed with.
    pub(in crate::store::embedded) const CURSOR_KEY: &str = "cursor_key";
    /// The last withheld version that was looked at, while a round is under way.
    pub(in crate::store::embedded) const PRUNED: &str = "withheld_pruned";
    /// The number of the next hold.
    pub(in crate::store::embedded) const NEXT_HOLD: &str = "next_hold";
    /// Notifications up to this id have been purged, but for those that a hold keeps.
    pub(in crate::store::embedded) const NOTIFICATIONS_PURGED: &str = "notifications_purged";
    /// Ids that had another text before format 8, where it was not just put into its normal form. It is missing where no id had.
    pub(in crate::store::embedded) const RENAMED: &str = "renamed";
    /// While a file is migrated that takes the place of another life of its store: the names that that one has given.
    pub(in crate::store::embedded) const NAMES_GIVEN: &str = "names_given";
    /// The number and hash of the audit record before the first that is kept.
    pub(in crate::store::embedded) const AUDIT_ANCHOR: &str = "audit_anchor";
    /// The number and hash of the last audit record.
    pub(in crate::store::embedded) const AUDIT_HEAD: &str = "audit_head";
    /// To where the audit log is forwarded, and the number and hash of the last record that was taken there. It may be missing.
    pub(in crate::store::embedded) const AUDIT_FORWARDED: &str = "audit_forwarded";
}

/// An open table whose changes are kept in a log, if there is one.
pub(in crate::store::embedded) struct Logged<'t, K: redb::Key + 'static, V: redb::Value + 'static> {
    table: Table<'t, K, V>,
    name: &'static str,
    log: Option<&'t RefCell<RowLog>>,
}

impl<'t, K: redb::Key + 'static, V: redb::Value + 'static> Deref for Logged<'t, K, V> {
    type Target = Table<'t, K, V>;

    fn deref(&self) -> &Self::Target {
        &self.table
    }
}

#[cfg(test)]
impl<'t, K: redb::Key + 'static, V: redb::Value + 'static> Logged<'t, K, V> {
    /// A table of a test, without a log.
    pub(in crate::store::embedded) fn alone(table: Table<'t, K, V>) -> Self {
        Logged { table, name: "", log: None }
    }
}

impl<K: redb::Key + 'static, V: redb::Value + 'static> Logged<'_, K, V> {
    /// Puts a row.
    pub(in crate::store::embedded) fn insert<'k, 'v>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
        value: impl Borrow<V::SelfType<'v>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        if let Some(log) = self.log {
            let value = V::as_bytes(value.borrow());
            log.borrow_mut().add(self.name, K::as_bytes(key.borrow()).as_ref(), Some(value.as_ref()));
        }
        self.table.insert(key, value)
    }

    /// Removes a row, if it is there.
    pub(in crate::store::embedded) fn remove<'k>(
        &mut self,
        key: impl Borrow<K::SelfType<'k>>,
    ) -> Result<Option<AccessGuard<'_, V>>, StorageError> {
        if let Some(log) = self.log {
            log.borrow_mut().add(self.name, K::as_bytes(key.borrow()).as_ref(), None);
        }
        self.table.remove(key)
    }

    /// Removes the rows of a range.
    pub(in crate::store::embedded) fn remove_range<'r, R: Borrow<K::SelfType<'r>> + 'r>(
        &mut self,
        range: impl std::ops::RangeBounds<R> + 'r,
    ) -> Result<(), StorageError> {
        let (log, name) = (self.log, self.name);
        self.table.retain_in(range, |key, _| {
            if let Some(log) = log {
                log.borrow_mut().add(name, K::as_bytes(&key).as_ref(), None);
            }
            false
        })
    }

    /// Removes all rows.
    pub(in crate::store::embedded) fn clear(&mut self) -> Result<(), StorageError> {
        self.remove_range::<K::SelfType<'_>>(..)
    }
}

/// A table that is opened when it is first touched: a commit touches six of them, and opening all would be a tenth of it.
pub(in crate::store::embedded) struct Lazy<'t, K: redb::Key + 'static, V: redb::Value + 'static> {
    tx: &'t WriteTransaction,
    name: &'static str,
    table: OnceCell<Logged<'t, K, V>>,
    log: Option<&'t RefCell<RowLog>>,
}

impl<'t, K: redb::Key + 'static, V: redb::Value + 'static> Lazy<'t, K, V> {
    fn new(tx: &'t WriteTransaction, name: &'static str, log: Option<&'t RefCell<RowLog>>) -> Self {
        Self { tx, name, table: OnceCell::new(), log }
    }

    /// The table, to look at.
    pub(in crate::store::embedded) fn read(&self) -> Outcome<&Table<'t, K, V>> {
        if let Some(table) = self.table.get() {
            return Ok(table);
        }
        let table = self.tx.open_table(TableDefinition::<K, V>::new(self.name))?;
        Ok(self.table.get_or_init(|| Logged { table, name: self.name, log: self.log }))
    }

    /// The table, to change.
    pub(in crate::store::embedded) fn write(&mut self) -> Outcome<&mut Logged<'t, K, V>> {
        self.read()?;
        self.table.get_mut().ok_or_else(|| Failure::Damaged(format!("the table {} did not open", self.name)))
    }
}

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $key:ty => $value:ty;)*) => {
        /// All tables of a write transaction. A table that is not touched costs the commit nothing.
        pub(in crate::store::embedded) struct Tables<'t> {
            $($(#[$doc])* pub(in crate::store::embedded) $field: Lazy<'t, $key, $value>,)*
        }

        impl<'t> Tables<'t> {
            /// Opens none of them yet.
            pub(in crate::store::embedded) fn of(tx: &'t WriteTransaction) -> Self {
                Self { $($field: Lazy::new(tx, stringify!($field), None),)* }
            }

            /// As [`Tables::of`]; what is changed in them is kept in a log.
            pub(in crate::store::embedded) fn logged(tx: &'t WriteTransaction, log: &'t RefCell<RowLog>) -> Self {
                Self { $($field: Lazy::new(tx, stringify!($field), Some(log)),)* }
            }

            /// Removes a row as bytes from the table of that name, if it is there.
            pub(in crate::store::embedded) fn remove_row(&mut self, table: &str, key: &[u8]) -> Outcome<()> {
                match table {
                    $(stringify!($field) => cut(self.$field.write()?, key),)*
                    _ => Err(Failure::Damaged(format!("there is no table {table}"))),
                }
            }

            /// Puts a row as bytes into the table of that name.
            pub(in crate::store::embedded) fn put_row(&mut self, table: &str, key: &[u8], value: &[u8]) -> Outcome<()> {
                match table {
                    $(stringify!($field) => put(self.$field.write()?, key, value),)*
                    _ => Err(Failure::Damaged(format!("there is no table {table}"))),
                }
            }

            /// Makes those that are missing, so that a read of a new store finds them.
            pub(in crate::store::embedded) fn make(tx: &'t WriteTransaction) -> Outcome<()> {
                let tables = Self::of(tx);
                $(tables.$field.read()?;)*
                Ok(())
            }
        }

        /// A consistent view of what is durable. It pins pages: drop it before anything slow.
        pub(in crate::store::embedded) struct Snapshot {
            tx: ReadTransaction,
        }

        impl Snapshot {
            pub(in crate::store::embedded) fn new(tx: ReadTransaction) -> Self {
                Self { tx }
            }

            /// Visits every row of every table as bytes, table by table, in the order of their keys. Tables that an older
            /// format does not have are passed over.
            pub(in crate::store::embedded) fn each_row(&self, visit: &mut RowVisit<'_>) -> Outcome<()> {
                $(each::<$key, $value>(&self.tx, stringify!($field), visit)?;)*
                Ok(())
            }

            /// How large each table is.
            pub(in crate::store::embedded) fn sizes(&self) -> Outcome<Vec<TableSize>> {
                let mut sizes = Vec::new();
                $(sizes.extend(size::<$key, $value>(&self.tx, stringify!($field))?);)*
                Ok(sizes)
            }

            /// How many rows each table has; costs nothing.
            pub(in crate::store::embedded) fn counts(&self) -> Outcome<Vec<(&'static str, u64)>> {
                let mut counts = Vec::new();
                $(counts.extend(count::<$key, $value>(&self.tx, stringify!($field))?);)*
                Ok(counts)
            }

            $($(#[$doc])*
            pub(in crate::store::embedded) fn $field(&self) -> Outcome<ReadOnlyTable<$key, $value>> {
                Ok(self.tx.open_table(TableDefinition::<$key, $value>::new(stringify!($field)))?)
            })*
        }
    };
}

tables! {
    /// Name -> a number or bytes.
    meta: &'static str => Row;
    /// User -> who they are and where they stand.
    users: K8 => Row;
    /// Canonical user id -> user.
    user_no: Text => Row;
    /// Room -> what it is, and its latest message as of when this was written: see [`crate::store::embedded::chat::places`].
    rooms: K8 => Row;
    /// Canonical room id -> room.
    room_no: Text => Row;
    /// Canonical lesson id -> lesson.
    lesson_no: Text => Row;
    /// Empty since format 9: (room, user) -> membership and read mark.
    members: K16 => Row;
    /// (user, room).
    member_rooms: K16 => ();
    /// Message -> everything about it.
    messages: K8 => Row;
    /// (room, message) -> its seq, when it was said and by whom; (room, user) -> membership and read mark: see
    /// [`crate::store::embedded::chat::places`].
    in_rooms: K16 => Row;
    /// Empty since format 9: (room, message) -> seq.
    msg_by_room: K16 => Row;
    /// Empty since format 9: (user, message).
    msg_by_user: K16 => ();
    /// (user, block of ids, room): among which messages of which rooms somebody's are: see
    /// [`crate::store::embedded::chat::places`].
    msg_blocks: K24 => ();
    /// (user, room): who has written where.
    authors: K16 => ();
    /// (message, change) -> what it said before a change under a hold.
    withheld: K16 => Row;
    /// (room, level and index) -> how many tombstones: see [`crate::store::embedded::engine::counts`].
    tombstones: K16 => Row;
    /// (room, hash of who called and the name) -> message.
    external_ids: K24 => Row;
    /// Message -> hash of who called and the name.
    external_by_message: K8 => Row;
    /// (room, change) -> an edit, a deletion or a read mark; the latest of each message and each reader alone.
    changes_by_room: K16 => Row;
    /// (user, lesson) -> its state.
    progress: K16 => Row;
    /// (user, lesson, version) -> its state then.
    progress_versions: K24 => Row;
    /// (user, change) -> lesson; the latest of each lesson alone.
    progress_by_change: K16 => Row;
    /// (user, change) -> what was done to the inbox.
    inbox_changes: K16 => Row;
    /// Notification -> everything about it.
    notifications: K8 => Row;
    /// Number -> a notification that has a time, or that is over.
    notices: K8 => Row;
    /// (user, notification) -> when they have read it; under no user, how many have.
    read_times: K16 => Row;
    /// (audience, change) -> the notification that is over since, and why. The spaces are those of `inbox_counts`.
    withdrawn: K16 => Row;
    /// (audience, notification): everybody, or a role. No copy for each user.
    notif_by_audience: K16 => ();
    /// (user, notification) -> flags: named in it, read it, deleted it.
    inbox: K16 => Row;
    /// (user, notification): what names them and they have not deleted. `inbox` has marks on other notifications in between.
    named: K16 => ();
    /// (audience or a user's part of it, level and index) -> how many notifications: see [`crate::store::embedded::inbox::view`].
    inbox_counts: K16 => Row;
    /// Change -> a broadcast that has not gone out, as far as is known.
    outbox: K8 => Row;
    /// (user, hash of kind and key) -> the first answer.
    answers: K24 => Row;
    /// Empty since format 8: (expiry, user, hash).
    answers_by_expiry: K32 => ();
    /// Number -> what was done, chained by hash to the record before.
    audit: K8 => Row;
    /// The subject's kind and canonical id, and the hold's number -> why it is held, by whom, since when.
    holds: Text => Row;
    /// Canonical user id -> when they were erased, and whether that is finished.
    erasures: Text => Row;
    /// The kind and the subject of a ban -> since when, until when, by whom.
    bans: Text => Row;
    /// Reports and what leads to them, in one table, as each table more makes every commit larger: see
    /// [`crate::store::embedded::order::rows`].
    reports: K24 => Row;
    /// Day since the epoch -> the rows of each table then.
    growth: K8 => Row;
    /// Change -> what is to be told to the platform. A store of before has none of these three: they are made when one is needed.
    hooks: K8 => Row;
    /// Change -> what was to be told, and was given up.
    hook_dead: K8 => Row;
    /// (user, hash of a room or 0) -> the platform was told that they are there.
    hook_sighted: K16 => Row;
}

/// A table that a store of before may not have, if it is there.
pub(in crate::store::embedded) fn if_there<T>(opened: Outcome<T>) -> Outcome<Option<T>> {
    match opened {
        Err(Failure::Engine(redb::Error::TableDoesNotExist(_))) => Ok(None),
        opened => opened.map(Some),
    }
}

/// What is called with each row: its table, its key, its value.
pub(in crate::store::embedded) type RowVisit<'v> = dyn FnMut(&'static str, &[u8], &[u8]) -> Outcome<()> + 'v;

/// How large a table is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store::embedded) struct TableSize {
    pub(in crate::store::embedded) name: &'static str,
    pub(in crate::store::embedded) rows: u64,
    /// Keys and values.
    pub(in crate::store::embedded) stored_bytes: u64,
    /// Pages' headers, indexes and free space in pages.
    pub(in crate::store::embedded) overhead_bytes: u64,
}

fn open_if_there<K: redb::Key + 'static, V: redb::Value + 'static>(
    tx: &ReadTransaction,
    name: &'static str,
) -> Outcome<Option<ReadOnlyTable<K, V>>> {
    match tx.open_table(TableDefinition::<K, V>::new(name)) {
        Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
        table => Ok(Some(table?)),
    }
}

fn each<K: redb::Key + 'static, V: redb::Value + 'static>(
    tx: &ReadTransaction,
    name: &'static str,
    visit: &mut RowVisit<'_>,
) -> Outcome<()> {
    let Some(table) = open_if_there::<K, V>(tx, name)? else { return Ok(()) };
    for row in table.iter()? {
        let (key, value) = row?;
        let (key, value) = (key.value(), value.value());
        visit(name, K::as_bytes(&key).as_ref(), V::as_bytes(&value).as_ref())?;
    }
    Ok(())
}

fn size<K: redb::Key + 'static, V: redb::Value + 'static>(
    tx: &ReadTransaction,
    name: &'static str,
) -> Outcome<Option<TableSize>> {
    let Some(table) = open_if_there::<K, V>(tx, name)? else { return Ok(None) };
    let stats = table.stats()?;
    let overhead_bytes = stats.metadata_bytes() + stats.fragmented_bytes();
    Ok(Some(TableSize { name, rows: table.len()?, stored_bytes: stats.stored_bytes(), overhead_bytes }))
}

fn count<K: redb::Key + 'static, V: redb::Value + 'static>(
    tx: &ReadTransaction,
    name: &'static str,
) -> Outcome<Option<(&'static str, u64)>> {
    let Some(table) = open_if_there::<K, V>(tx, name)? else { return Ok(None) };
    Ok(Some((name, table.len()?)))
}

fn is_key<K: redb::Key + 'static>(key: &[u8]) -> bool {
    let is_text = K::type_name() == <&str as redb::Value>::type_name();
    K::fixed_width().is_none_or(|width| width == key.len()) && (!is_text || std::str::from_utf8(key).is_ok())
}

fn cut<K: redb::Key + 'static, V: redb::Value + 'static>(table: &mut Logged<'_, K, V>, key: &[u8]) -> Outcome<()> {
    if !is_key::<K>(key) {
        return Err(Failure::Damaged("a row does not fit its table".to_owned()));
    }
    table.remove(K::from_bytes(key))?;
    Ok(())
}

/// redb panics at bytes that are none of the type: they are looked at first.
fn put<K: redb::Key + 'static, V: redb::Value + 'static>(
    table: &mut Logged<'_, K, V>,
    key: &[u8],
    value: &[u8],
) -> Outcome<()> {
    if !is_key::<K>(key) || V::fixed_width().is_some_and(|width| width != value.len()) {
        return Err(Failure::Damaged("a row does not fit its table".to_owned()));
    }
    table.insert(K::from_bytes(key), V::from_bytes(value))?;
    Ok(())
}

/// The number of no user and no room: numbers begin at 1. Who asks about a room that is not there causes the same look-ups
/// as who asks about a private one, so that no time tells the two apart.
pub(in crate::store::embedded) const NOBODY: u64 = 0;

/// The key of one number.
pub(in crate::store::embedded) fn k8(a: u64) -> [u8; 8] {
    a.to_be_bytes()
}

/// The key of two numbers.
pub(in crate::store::embedded) fn k16(a: u64, b: u64) -> [u8; 16] {
    ((u128::from(a) << 64) | u128::from(b)).to_be_bytes()
}

/// The second number of a key.
pub(in crate::store::embedded) fn second(key: &[u8; 16]) -> u64 {
    u128::from_be_bytes(*key) as u64
}

/// The two numbers of a key.
pub(in crate::store::embedded) fn pair(key: &[u8; 16]) -> (u64, u64) {
    let both = u128::from_be_bytes(*key);
    ((both >> 64) as u64, both as u64)
}

/// The key of three numbers.
pub(in crate::store::embedded) fn k24(a: u64, b: u64, c: u64) -> [u8; 24] {
    join(k8(a), k16(b, c))
}

/// The three numbers of a key.
pub(in crate::store::embedded) fn triple(key: &[u8; 24]) -> (u64, u64, u64) {
    let a = key.first_chunk().map_or(0, |chunk| u64::from_be_bytes(*chunk));
    let (b, c) = key.last_chunk().map_or((0, 0), pair);
    (a, b, c)
}

/// The key of a first answer.
pub(in crate::store::embedded) fn answer_key(user: u64, kind: KeyKind, key: &str) -> [u8; 24] {
    join(k8(user), hash16(&[&[kind as u8], key.as_bytes()]))
}

/// The key of a name that a back end gave to a message of a room.
pub(in crate::store::embedded) fn external_key(room: u64, hash: [u8; 16]) -> [u8; 24] {
    join(k8(room), hash)
}

/// The hash of a back end's name for a message, and of who gave it.
pub(in crate::store::embedded) fn external_hash(caller: &UserId, name: &str) -> [u8; 16] {
    let caller = caller.canonical();
    hash16(&[&(caller.len() as u64).to_be_bytes(), caller.as_bytes(), name.as_bytes()])
}

pub(in crate::store::embedded) fn hash16(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut hash = [0; 16];
    hasher.finalize_xof().fill(&mut hash);
    hash
}

fn join<const A: usize, const B: usize, const N: usize>(a: [u8; A], b: [u8; B]) -> [u8; N] {
    const { assert!(A + B == N) };
    let mut key = [0; N];
    for (to, from) in key.iter_mut().zip(a.into_iter().chain(b)) {
        *to = from;
    }
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read_back_and_sort_as_their_numbers() {
        assert_eq!(pair(&k16(3, u64::MAX)), (3, u64::MAX));
        assert_eq!(triple(&k24(1, 2, 3)), (1, 2, 3));
        assert!(k24(1, 255, 0) < k24(1, 256, 0));
        let answer = answer_key(7, KeyKind::Message, "a");
        assert_ne!(answer, answer_key(7, KeyKind::Progress, "a"));
        assert_ne!(answer, answer_key(8, KeyKind::Message, "a"));
    }
}
