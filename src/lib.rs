#![doc = include_str!("../docs/architecture.md")]

pub mod archive;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod observability;
pub mod protocol;
pub mod realtime;
pub mod search;
pub mod server;
pub mod services;
pub mod store;
pub mod transport;
