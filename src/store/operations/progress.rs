//! Progress of lessons: reports of devices, merged by [`crate::domain::progress`].

use crate::domain::UserId;
use crate::domain::progress::{Progress, Update};

/// Merges reports in their order, all of them in one transaction or none. Errors: `KeyReused` if a key was used for another
/// report (then none is stored); `Erasing`.
#[derive(Debug, Clone)]
pub struct SyncProgress {
    /// Who reports: the user, or a back end on behalf of users. The keys of the reports are the caller's.
    pub caller: UserId,
    /// The reports, each with whose progress it is.
    pub reports: Vec<(UserId, Update)>,
}

/// The answer to one progress report.
#[derive(Debug, Clone, PartialEq)]
pub struct Synced {
    /// The state after it; of a repetition, as it was first answered.
    pub progress: Progress,
    /// Whether an earlier report had the same key; then nothing was stored now.
    pub duplicate: bool,
    /// Whether it was made on an older version and merged.
    pub merged: bool,
}
