#![doc = include_str!("../README.md")]
//!
//! # The house
//!
//! A message walks straight through it and never turns back: `transport -> services -> store`, and after the commit
//! `store -> realtime::feed::Feed -> transport -> out`. Reading order is the order of the layers; each imports only
//! earlier ones (`tests/it/tidy.rs` holds it).
//!
//! | layer | is | may import |
//! |---|---|---|
//! | [`domain`] | nouns and rules, no I/O | nothing |
//! | [`protocol`] | everything a client can see | domain |
//! | [`config`] | flag > environment > file > default | domain |
//! | [`auth`] | token -> Actor | domain, config |
//! | [`store`] | the seam, and the engine behind it | domain, config |
//! | [`observability`] | metrics, counters, findings | domain, config, store |
//! | [`archive`] | backup, restore, rebuilding | domain, config, store, observability |
//! | [`realtime`] | the feed, who is connected where, the subscriber of the store's changes | domain, protocol, store, observability |
//! | [`services`] | what academy-rt does, whatever the transport | domain, protocol, config, store, archive, observability, realtime |
//! | [`transport`] | decode -> service -> encode; the WebSocket | all of these but store |
//! | [`server`] | the process | all of these |
//! | [`cli`] | the command line | all of these |
//!
//! # The way of a message
//!
//! 1. [`transport::socketio::mailbox`] puts what a socket sends into one queue, in order, and decodes it.
//! 2. [`services::chat`] checks what the store cannot know (has the socket joined? is it too fast?) and hands a draft on.
//! 3. The store's one writer takes all that waits into one transaction, syncs, and tells the [`realtime::feed::Feed`]
//!    in the order of the ids; only then is anybody answered.
//! 4. [`transport::socketio::fanout`] takes what one commit has stored, encodes nothing (the feed has, once), and gives each
//!    socket of the room one write, through its [`realtime::gate::Gate`].
//! 5. [`transport::socketio::engine`] puts the frame on the connection, between two frames of the WebSocket library.
//!
//! # Decisions
//!
//! - Acks and events go by the same way as each other, never through the library's own queue once a socket is on a
//!   WebSocket: their order is that of the calls, a delivery is one `send`, and no task is woken for it.
//! - Rooms are ours ([`realtime::registry`]), not the library's: a membership has a gate, so that a history page and the live
//!   stream meet without gap or double.
//! - The store's writer waits for a pump that is too far behind. Its queue then fills, and clients are told `unavailable`:
//!   a server that cannot deliver does not take in either.
//! - The long poll reads the same feed as the sockets, in the same order, and the store where the gap is longer.
//!
//! - A whole store goes out and in as named tables of bytes ([`store::rows`]): backups, drills, restores and rebuilding are
//!   one code, which knows no table. What a restore must not take back (erasures, holds, the audit trail, ids) is carried over.
//! - A new database file is made beside the old one and takes its name in one step; nothing is changed in place but by the
//!   writer. A restore gives the old file a second name first, so that the name always leads to a whole one.
//! - A command that finds no server calls the same routes inside its own process ([`server::offline`]): what works on a
//!   running server works on its data directory, by the same code.
//! - An erasure takes everybody's messages to one sender, `erased`: tombstones of two people cannot be told apart.
//!
//! - Sockets are sent away by their connection, not by their namespace: a stock client then comes back by itself. One on
//!   polling has its last word in one answer, and what closes it in the next: in the same one the client would drop the word.
//! - A room that is not there costs the store the same look-ups as a private one: no time tells a stranger which exist.
//! - A poll that waits is given back as what is left to do ([`transport::http::deferred`]): the routes' state is let go first.
//! - TLS handshakes have threads of their own: a flood of them waits in no queue that messages wait in.
//! - The allocator is jemalloc: glibc's keeps what a flood of connections has taken. An idle socket pays some 2 KiB for it.
//!
//! # Absent on purpose
//!
//! No second process, no broker, no cache of messages beside the store's own pages; no `unsafe`; no global state.

pub mod archive;
pub mod auth;
pub mod cli;
pub mod config;
pub mod domain;
pub mod observability;
pub mod protocol;
pub mod realtime;
pub mod server;
pub mod services;
pub mod store;
pub mod transport;
