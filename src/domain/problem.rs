//! An error for administrators in three sentences: what did not work, why, and what to do. Every layer reports its failures in
//! this form, and the command line prints the three sentences on lines of their own.

/// Something that is wrong, or did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}. {remedy}")]
pub struct Problem {
    /// What did not work.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Problem {
    /// A problem with its three sentences.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> Problem {
        Problem { what: what.into(), why: why.to_string(), remedy: remedy.into() }
    }
}
