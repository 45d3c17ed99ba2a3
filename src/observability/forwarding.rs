//! How the forwarding of the audit log stands, for status, metrics and `doctor`.

use crate::domain::Timestamp;

/// How the forwarding of the audit log stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Forwarding {
    /// To where, as the configuration spells it.
    pub target: String,
    /// The number of the last record that was sent on the connection of now, or confirmed.
    pub sent: u64,
    /// The number of the last record that the target has taken for certain: a restart goes on behind it.
    pub confirmed: u64,
    /// How many records wait.
    pub waiting: u64,
    /// When the oldest of those was made; `None` if none waits.
    pub waiting_since: Option<Timestamp>,
    /// How often it failed since the start.
    pub failures: u64,
    /// What is wrong; `None` if all is well.
    pub problem: Option<String>,
}

impl Forwarding {
    /// How old the oldest record is that waits, in seconds; 0 if none does.
    #[must_use]
    pub fn behind_seconds(&self, now: Timestamp) -> u64 {
        self.waiting_since.map_or(0, |at| at.until(now).as_secs())
    }
}
