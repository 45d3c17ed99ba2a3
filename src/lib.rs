//! academy-rt.
pub mod domain;
pub mod store;
