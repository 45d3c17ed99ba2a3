//! Why an archive cannot be used, and what to do about it.

use std::io;

/// Why an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// There is nothing in it.
    #[error("the file is empty")]
    Empty,
    /// It is something else.
    #[error("it is not a backup of academy-rt")]
    Foreign,
    /// It is encrypted, and no identity was given.
    #[error("it is encrypted")]
    Encrypted,
    /// It is encrypted for others.
    #[error("it is encrypted for another recipient: none of the identities can decrypt it")]
    NotForUs,
    /// It was written by a newer version.
    #[error("it has layout {layout} and format {format}, and was written by academy-rt {application}")]
    Newer {
        /// Its layout.
        layout: u32,
        /// The format of its rows.
        format: u32,
        /// Who wrote it.
        application: String,
    },
    /// Its end is missing.
    #[error("it is incomplete: it ends after {bytes} bytes")]
    CutShort {
        /// How much there is.
        bytes: u64,
    },
    /// It is not as it was written.
    #[error("it is damaged at byte {at}: {what}")]
    Damaged {
        /// Where it was noticed.
        at: u64,
        /// What was noticed.
        what: String,
    },
    /// Its checksums fit, and its mark does not: somebody has changed it who has no key.
    #[error("it was altered: its checksums are right, but its signature by the key of this server is wrong")]
    Altered,
    /// It cannot be read, or what it is for cannot be written.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl ArchiveError {
    /// Whether the archive was one of ours, and is not what was written.
    #[must_use]
    pub fn is_alteration(&self) -> bool {
        matches!(self, ArchiveError::Altered | ArchiveError::CutShort { .. } | ArchiveError::Damaged { .. })
    }

    /// What to do.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            ArchiveError::Empty | ArchiveError::CutShort { .. } | ArchiveError::Damaged { .. } => {
                "Use another backup. `academy-rt backup verify FILE` checks whether a backup is complete."
            }
            ArchiveError::Altered => {
                "Use another backup, and find out who could write to this one. `academy-rt backup verify FILE` checks who signed a backup."
            }
            ArchiveError::Foreign => "Use a file that `academy-rt backup` has written.",
            ArchiveError::Encrypted => "Give the file with your age identity: --identity FILE.",
            ArchiveError::NotForUs => "Give the identity of one of its recipients.",
            ArchiveError::Newer { .. } => "Use that version of academy-rt, or a later one.",
            ArchiveError::Io(_) => "Check the path, its permissions and the space on its disk, and try again.",
        }
    }
}
