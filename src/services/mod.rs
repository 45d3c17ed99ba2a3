//! What academy-rt does, whatever the transport: a [`Caller`] and a request go in, an answer or a refusal comes out. Each rule
//! is here (or in [`crate::domain`]) once, so that Socket.IO and HTTP cannot differ.
//!
//! Each noun is a small value of its own, with the few things that it needs; [`App`] holds one of each. What they share is in
//! [`storage`] (the store with the clock), [`settings`] and [`limits`]; what nobody asks for, but the calendar, is in
//! [`housekeeping`].

pub mod access;
pub mod app;
pub mod audit;
pub mod backups;
pub mod broadcast;
pub mod caller;
pub mod chat;
pub mod entry;
mod errors;
pub mod housekeeping;
pub mod identities;
pub mod inbox;
pub mod limits;
pub mod long_poll;
pub mod moderation;
pub mod moderators;
pub mod notices;
pub mod pages;
pub mod platform;
pub mod presence;
pub mod privacy;
pub mod progress;
pub mod purges;
mod refused_sign_ins;
pub mod rooms;
pub mod search;
pub mod settings;
pub mod storage;
pub mod streams;
pub mod transcripts;
mod turns;
pub mod uses;
pub mod webhooks;

pub use app::App;
pub use caller::{Caller, authorize, reads_alone};
pub use settings::Settings;
