//! academy-rt.
pub mod contract;
pub mod domain;
pub mod services;
pub mod store;
pub mod transport;
