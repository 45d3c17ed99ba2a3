//! A file a command: its arguments, what it does, its words.

pub mod audit;
pub mod backup;
pub mod bench;
pub mod broadcast;
pub mod completions;
pub mod config;
pub mod db;
pub mod doctor;
pub mod history;
pub mod hold;
pub mod init;
pub mod key;
pub mod man;
pub mod message;
pub mod notify;
pub mod report;
pub mod restore;
pub mod revoke;
pub mod room;
pub mod sdk;
pub mod serve;
pub mod status;
pub mod token;
pub mod user;
pub mod webhook;
