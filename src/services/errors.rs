//! What a client sees of what went wrong.

use crate::domain::Refusal;
use crate::protocol::error::{ApiError, ErrorCode};
use crate::store::StoreError;

pub(super) fn resync() -> ApiError {
    Refusal::Resync.into()
}

/// What a client sees where nothing is stored of a user, or of another error of the store.
pub(super) fn user_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Refused(Refusal::NotFound) => ApiError::new(ErrorCode::NotFound, "nothing is stored of this user"),
        other => store_error(other),
    }
}

/// What a client sees of an error of the store; the cause is logged here, once.
pub(super) fn store_error(error: StoreError) -> ApiError {
    match error {
        StoreError::Refused(refusal) => refusal.into(),
        StoreError::Busy => ApiError::unavailable(),
        StoreError::Full(why) => {
            tracing::warn!("the store refused a write: the disk is full: {why}; free some space");
            ApiError::unavailable()
        }
        StoreError::Closed => ApiError::stopping(),
        StoreError::Unavailable(_) | StoreError::Corrupt(_) => {
            tracing::warn!("the store refused a request: {error}; see academy-rt status");
            ApiError::unavailable()
        }
    }
}
