//! One test binary: behaviour through the front door, and the conformance of the store engines.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "tests, not the product"
)]

mod access_model;
mod administration;
mod archive;
mod audit_forward;
mod backup;
mod bench;
mod certificates;
mod circles;
mod cli;
mod config;
mod connections;
mod continuous;
mod daily_work;
mod docs;
mod doctor;
mod edges;
mod gapless;
mod golden;
mod harness;
mod ids;
mod keys;
mod large;
mod lost_database;
mod methods;
mod migration;
mod moderation;
mod notices;
mod operators;
mod planted;
mod proxies;
mod refusal_lines;
mod reload;
mod restore;
mod secrets;
mod service;
mod setup;
mod slow_readers;
mod status;
mod store;
mod strangers;
#[path = "../fuzz/surfaces.rs"]
mod surfaces;
mod systemd;
mod tasks;
mod tidy;
mod transcripts;
