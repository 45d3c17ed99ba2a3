//! The round through all first answers that takes away the expired ones.

use std::time::Duration;

use crate::domain::Timestamp;

/// Between two rounds that have looked at many. Without a pause each commit would take one or two answers from a page that has
/// thirty, and write that page anew for them; behind it each page has several to give.
pub(super) const PAUSE: Duration = Duration::from_secs(3 * 60 * 60);
/// So many are many.
const MANY: usize = 512;

/// How far the round through all answers is that takes away the expired ones. Answers have no index by their expiry, which would
/// be written with each message: a round is enough, as they need not go on time.
#[derive(Debug)]
pub(in crate::store::embedded) struct Round {
    /// The last one that was looked at.
    pub(super) at: Option<[u8; 24]>,
    /// None expires before this: nothing is looked at until then.
    pub(super) earliest: u64,
    /// As far as this round knows.
    pub(super) earliest_seen: u64,
    /// How many have come since it went on last: it looks at twice as many, so that it gains on them.
    pub(super) come: usize,
    /// How many this round has looked at.
    pub(super) looked_at: usize,
}

impl Default for Round {
    /// Nothing is known of them.
    fn default() -> Round {
        Round { at: None, earliest: 0, earliest_seen: u64::MAX, come: 0, looked_at: 0 }
    }
}

impl Round {
    /// An answer is kept until then.
    pub(super) fn note(&mut self, expires: u64) {
        self.come += 1;
        self.earliest = self.earliest.min(expires);
        self.earliest_seen = self.earliest_seen.min(expires);
    }

    /// All have been looked at, for whether they expire before a moment.
    pub(super) fn end(&mut self, due: Timestamp) {
        let next = if self.looked_at > MANY { due.plus(PAUSE).0 } else { 0 };
        *self = Round { earliest: self.earliest_seen.max(next), ..Round::default() };
    }
}
