//! The round through all first answers that takes away the expired ones.

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
}

impl Default for Round {
    /// Nothing is known of them.
    fn default() -> Round {
        Round { at: None, earliest: 0, earliest_seen: u64::MAX, come: 0 }
    }
}

impl Round {
    /// An answer is kept until then.
    pub(super) fn note(&mut self, expires: u64) {
        self.come += 1;
        self.earliest = self.earliest.min(expires);
        self.earliest_seen = self.earliest_seen.min(expires);
    }

    /// All have been looked at.
    pub(super) fn end(&mut self) {
        *self = Round { earliest: self.earliest_seen, ..Round::default() };
    }
}
