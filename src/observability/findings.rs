//! What is wrong, in three sentences: what, why, and what to do.

/// Something that is wrong, or did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}. {remedy}")]
pub struct Finding {
    /// What did not work.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Finding {
    /// A finding with its three sentences.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> Finding {
        Finding { what: what.into(), why: why.to_string(), remedy: remedy.into() }
    }
}
