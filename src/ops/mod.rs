//! What the operator sees: figures, and the archive that a store goes into and comes out of.

pub mod archive;
pub mod authenticity;
pub mod backup;
pub mod certificate;
pub mod clock_watch;
pub mod findings;
pub mod kept_audit;
pub mod metrics;
pub mod process;
pub mod quiet;
pub mod rebuild;
pub mod restore;
pub mod tally;
mod undo;
