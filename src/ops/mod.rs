//! What the operator sees: figures, and the archive that a store goes into and comes out of.

pub mod archive;
pub mod backup;
pub mod certificate;
pub mod findings;
pub mod metrics;
pub mod rebuild;
pub mod restore;
