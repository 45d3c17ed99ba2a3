//! Progress of lessons: reports of devices, merged by [`crate::domain::progress`].

use crate::domain::UserId;
use crate::domain::progress::{Progress, Update};

use super::{KeyKind, RequestKey};

/// A report of somebody's progress.
#[derive(Debug, Clone)]
pub struct Report {
    /// Whose progress it is.
    pub user: UserId,
    /// What is reported.
    pub update: Update,
    /// Makes it idempotent for its caller: its `syncId`, with what it says.
    pub key: Option<RequestKey>,
}

impl Report {
    /// A report by the user, or by a back end on behalf of them. Its key is the caller's.
    #[must_use]
    pub fn new(caller: &UserId, user: UserId, update: Update) -> Report {
        let key = update.sync_id.clone().map(|key| {
            let (caller, fingerprint) = (caller.clone(), update.fingerprint(&user));
            RequestKey { caller, kind: KeyKind::Progress, key, fingerprint }
        });
        Report { user, update, key }
    }
}

/// Merges reports in their order, all of them in one transaction or none. Errors: `KeyReused` if a key was used for another
/// report (then none is stored); `Erasing`.
#[derive(Debug, Clone)]
pub struct SyncProgress {
    /// The reports.
    pub reports: Vec<Report>,
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
