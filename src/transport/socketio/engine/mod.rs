//! The short-cut past the Socket.IO library: how a delivery reaches a WebSocket with one write, in the order of the acks.
//!
//! # Why it exists
//!
//! The library gives each socket a queue of its own and wakes a task for each packet. An ack and an event then have no common
//! order, and a room of a thousand sockets costs a thousand wake-ups. Here a room's packets are encoded once, and go onto the
//! connection of each socket between two frames of the WebSocket library.
//!
//! # What is in it
//!
//! - [`backlog`] counts what waits for slow readers, all of them together.
//! - [`compression`] makes answers to polls shorter, each room's packets by themselves.
//! - [`connection`] is the I/O object that hyper and the WebSocket library read and write through.
//! - [`frame`] makes WebSocket frames of packets, and nothing else does.
//! - [`marker`] is the packet by which a connection learns that the library's queue is empty.
//! - [`packets`] counts what comes in and is no event.
//! - [`sessions`] knows which connection carries which Engine.IO session, and which sessions are on polling.
//! - [`upgrade`] answers the probe of an upgrade, and hands the WebSocket over when the client has finished it.
//! - [`handshake`] reads the query of a request once, and ties its connection to the session before the library sees it.
//!
//! # What it relies on, in which version, and what guards it
//!
//! `Cargo.toml` pins these libraries: a newer version is taken when the tests named here have passed with it.
//!
//! | library | relied on | test |
//! |---|---|---|
//! | tokio-tungstenite 0.30.0 | It writes the header of a frame in one piece with its payload, and flushes a frame before it begins another. Its frames are unmasked. | `connection/tests.rs`: `no_frame_is_torn_or_overtaken` |
//! | engineioxide 0.17.9 | What is emitted is written in the order of the emits. A poll that waits is answered before the upgrade. The session keeps its id over an upgrade from polling. | `tests/clients/order.test.mjs`, `matrix.test.mjs` |
//! | engineioxide 0.17.9 | A WebSocket is taken over from outside; its first two frames are the probe and the upgrade packet, and its first answer is that to the probe. A poll that is given up loses nothing. A ping is sent at once, and the next one after the interval. A POST of the packet `1` ends a session on polling. | `tests/clients/wire.test.mjs` |
//! | engineioxide 0.17.9 | A connection that fails to read or write ends its session, and so its socket. | `a_reader_that_does_not_keep_up_is_cut_off_and_the_library_learns_of_it` |
//! | socketioxide 0.18.9 | A request's extensions reach the socket's handlers unchanged; handlers run inside the read loop, one behind another. | `tests/clients/order.test.mjs`, `access.test.mjs` |
//! | socketioxide 0.18.9 | A disconnect handler runs in line, and takes the socket out of the namespace by calling `defer`; a packet `40` of a session that is in the namespace is passed over. | `tests/clients/wire.test.mjs` |
//! | hyper 1.12.0 | The answer `101` begins with `HTTP/1.1 101` and goes out before the upgraded connection is handed over. | `connection/tests.rs`: `what_is_pushed_waits_for_the_marker_and_the_marker_is_not_sent`; `tests/clients/matrix.test.mjs` |

pub mod backlog;
pub mod compression;
pub mod connection;
pub mod frame;
pub mod handshake;
pub mod marker;
pub mod packets;
pub mod sessions;
pub mod upgrade;
