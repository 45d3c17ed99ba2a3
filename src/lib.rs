//! academy-rt.
pub mod auth;
pub mod cli;
pub mod config;
pub mod contract;
pub mod domain;
pub mod ops;
pub mod server;
pub mod services;
pub mod store;
pub mod transport;
