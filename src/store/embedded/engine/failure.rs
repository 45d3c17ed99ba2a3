//! Why something inside the engine did not succeed, before the seam hears of it.

use crate::domain::Refusal;
use crate::domain::panics::awaited;
use crate::store::StoreError;

/// The result of anything inside the engine.
pub(in crate::store::embedded) type Outcome<T> = Result<T, Failure>;

/// Why something inside the engine did not succeed.
#[derive(Debug)]
pub(in crate::store::embedded) enum Failure {
    /// The rules refuse it: this request alone fails.
    Refused(Refusal),
    /// redb failed: the whole transaction fails, and the handle is of no use any more.
    Engine(redb::Error),
    /// What is stored cannot be read, or contradicts itself.
    Damaged(String),
    /// There is no open file at the moment, and why.
    NoFile(StoreError),
    /// Who asked for the rows does not take them any more.
    Stopped(String),
}

impl Failure {
    /// What the seam says of it.
    pub(in crate::store::embedded) fn into_error(self) -> StoreError {
        match self {
            Failure::Refused(refusal) => StoreError::Refused(refusal),
            Failure::Damaged(what) => StoreError::Corrupt(what),
            Failure::NoFile(error) => error,
            Failure::Stopped(why) => StoreError::Unavailable(why),
            Failure::Engine(redb::Error::Io(error)) if error.kind() == std::io::ErrorKind::StorageFull => {
                StoreError::Full(error.to_string())
            }
            Failure::Engine(redb::Error::Corrupted(what)) => StoreError::Corrupt(what),
            Failure::Engine(error) => StoreError::Unavailable(error.to_string()),
        }
    }
}

/// Does something with a file that may be damaged. redb 4.6 looks at checksums in a repair alone: elsewhere a damaged page
/// may be met by `unreachable!` inside it. Found by overwriting the pages of a live database.
pub(in crate::store::embedded) fn guarded<T>(work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
    awaited(work).unwrap_or_else(|_| Err(Failure::Damaged("its pages make no sense to the engine".to_owned())))
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Refused(refusal)
    }
}

impl From<postcard::Error> for Failure {
    fn from(error: postcard::Error) -> Self {
        Failure::Damaged(format!("a row cannot be decoded: {error}"))
    }
}

macro_rules! from_engine {
    ($($error:ty),*) => {$(
        impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Failure::Engine(error.into())
            }
        }
    )*};
}

from_engine!(
    redb::StorageError,
    redb::TableError,
    redb::TransactionError,
    redb::CommitError,
    redb::DatabaseError,
    redb::SetDurabilityError
);
