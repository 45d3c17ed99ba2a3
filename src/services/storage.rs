//! The store as the services use it: with the clock that gives each write its time, and with the cursors that mean something
//! in this store alone.

use std::ops::Deref;
use std::sync::Arc;

use crate::domain::audit::hex;
use crate::domain::{Clock, Timestamp, UserId};
use crate::protocol::cursor::{Cursor, Life, Seal};
use crate::protocol::error::ApiError;
use crate::services::errors::resync;
use crate::store::operations::{Act, Applied, Operation, RequestKey};
use crate::store::{Identity, RoomPlace, Store, StoreError};

/// The store and the clock. Reads are those of [`Store`].
#[derive(Clone)]
pub struct Storage {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Storage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Storage")
    }
}

impl Deref for Storage {
    type Target = dyn Store;

    fn deref(&self) -> &Self::Target {
        &*self.store
    }
}

impl Storage {
    /// A store whose writes get their time from this clock.
    #[must_use]
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>) -> Storage {
        Storage { store, clock }
    }

    /// The store itself, for who works on it as a whole.
    #[must_use]
    pub fn shared(&self) -> Arc<dyn Store> {
        self.store.clone()
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Does an operation that is no administrative act, at this moment. It is durable when it is answered.
    ///
    /// # Errors
    /// As of [`Store`].
    pub async fn write<O: Operation>(&self, operation: O) -> Result<O::Answer, StoreError> {
        self.store.apply(self.now(), operation).await
    }

    /// Does an operation with the record of its act, if it is an administrative one. When it is answered, its change has been
    /// applied to whoever is connected.
    ///
    /// # Errors
    /// As of [`Store`].
    pub(super) async fn act<O: Operation>(
        &self,
        operation: O,
        act: impl Into<Option<Act>>,
    ) -> Result<Applied<O::Answer>, StoreError> {
        self.store.submit(self.now(), operation, act.into()).await
    }

    /// Whether a request with this key has been answered: its repetition gets the first answer, before rules and rates.
    pub(super) async fn has_answered(&self, key: Option<&RequestKey>) -> bool {
        match key {
            // Where the store cannot be read, the rate decides.
            Some(key) => self.store.is_answered(key.clone()).await.unwrap_or(false),
            None => false,
        }
    }

    /// The id of the store: a restored backup has that of the data it was made of, and a new database has a new one.
    #[must_use]
    pub fn id(&self) -> String {
        hex(&self.store.identity().store_id)
    }

    /// The life of the store in which cursors mean something.
    pub(super) fn life(&self) -> Life {
        let Identity { store_id, epoch, .. } = self.store.identity();
        Life::new(store_id, epoch)
    }

    /// Writes a position for a user. Opaque to them.
    pub(super) fn write_cursor<const N: usize>(&self, user: &UserId, numbers: [u64; N]) -> String {
        let identity = self.store.identity();
        let seal = Seal { key: &identity.cursor_key, user: &user.canonical() };
        Cursor { life: self.life(), numbers }.write(seal)
    }

    /// Reads a position that a user gives back; `None` if it is not theirs.
    pub(super) fn parse_cursor<const N: usize>(&self, user: &UserId, text: &str) -> Option<Cursor<N>> {
        let identity = self.store.identity();
        Cursor::parse(text, Seal { key: &identity.cursor_key, user: &user.canonical() })
    }

    /// The place on their list of rooms that a user gives back.
    ///
    /// # Errors
    /// `resync` if it is not theirs, or of another life of the store.
    pub(super) fn read_room_place(&self, user: &UserId, cursor: &str) -> Result<RoomPlace, ApiError> {
        match self.parse_cursor(user, cursor) {
            Some(Cursor { life, numbers: [last_id, room] }) if life == self.life() => Ok(RoomPlace { last_id, room }),
            _ => Err(resync()),
        }
    }

    /// The position that a client gives back.
    ///
    /// # Errors
    /// `resync` if it is not theirs, of another life of the store, or ahead of it.
    pub(super) fn read_cursor(&self, user: &UserId, cursor: &str) -> Result<u64, ApiError> {
        match self.parse_cursor(user, cursor) {
            Some(Cursor { life, numbers: [id] }) if life == self.life() && id <= self.store.last_id() => Ok(id),
            _ => Err(resync()),
        }
    }
}
