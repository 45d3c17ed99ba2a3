//! Why a server did not start, or did not stop as it should: what, why, and what to do.

use crate::auth::KeyError;

/// Why a server did not start, or did not stop as it should.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{what}: {why}. {remedy}")]
pub struct ServeError {
    /// What did not work.
    pub what: String,
    /// Why.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl ServeError {
    /// An error with its three sentences.
    #[must_use]
    pub fn new(what: impl Into<String>, why: impl ToString, remedy: impl Into<String>) -> ServeError {
        ServeError { what: what.into(), why: why.to_string(), remedy: remedy.into() }
    }
}

impl From<KeyError> for ServeError {
    fn from(error: KeyError) -> ServeError {
        ServeError::new(error.what, error.why, error.remedy)
    }
}
