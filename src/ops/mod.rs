//! What the operator sees: figures.

pub mod metrics;
