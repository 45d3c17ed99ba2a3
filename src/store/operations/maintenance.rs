//! What the server notes of itself.

/// Counts of the rows of each table, once a day: for `db stats`.
#[derive(Debug, Clone)]
pub struct SampleGrowth {
    /// Days since the epoch.
    pub day: u64,
    /// Tables with their rows.
    pub counts: Vec<(&'static str, u64)>,
}

/// A backup was made and read back.
#[derive(Debug, Clone)]
pub struct NoteBackup {
    /// Its size.
    pub bytes: u64,
}
