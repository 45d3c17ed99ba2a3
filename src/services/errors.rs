//! What a client sees of what went wrong.

use crate::domain::Refusal;
use crate::protocol::error::{ErrorCode, WireError};
use crate::store::StoreError;

pub(super) fn resync() -> WireError {
    Refusal::Resync.into()
}

/// What a client sees where nothing is stored of a user, or of another error of the store.
pub(super) fn user_error(error: StoreError) -> WireError {
    match error {
        StoreError::Refused(Refusal::NotFound) => WireError::new(ErrorCode::NotFound, "nothing is stored of this user"),
        other => store_error(other),
    }
}

/// What a client sees of an error of the store; the cause is logged here, once.
pub(super) fn store_error(error: StoreError) -> WireError {
    match error {
        StoreError::Refused(refusal) => refusal.into(),
        StoreError::Busy => WireError::unavailable(),
        StoreError::Full(why) => {
            tracing::warn!(%why, "the store did not take a request: the disk is full");
            WireError::unavailable()
        }
        StoreError::Closed => WireError::new(ErrorCode::Unavailable, "the server is stopping; try again in a moment"),
        StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
            tracing::warn!(%error, "the store did not take a request");
            WireError::unavailable()
        }
    }
}
