//! The short-cut past the Socket.IO library: how a delivery reaches a WebSocket with one write, in the order of the acks.
//!
//! Why it exists: the library gives each socket a queue of its own and wakes a task for each packet. An ack and an event then
//! have no common order, and a room of a thousand sockets costs a thousand wake-ups. Here a frame is encoded once, and goes
//! onto the connection of each socket between two frames of the WebSocket library.
//!
//! - [`connection`] is the I/O object that hyper and the WebSocket library read and write through.
//! - [`sessions`] knows which connection carries which Engine.IO session.
//! - [`handshake`] ties a connection to its session before the library sees the request.
//!
//! What it relies on, and what guards it: the library writes a whole WebSocket frame by one or more writes that it flushes
//! before it begins another (`connection/tests.rs`: `no_frame_is_torn_or_overtaken`); a request's extensions reach the
//! socket's handler unchanged (the handshake tests); a connection that ends makes its session end
//! (`a_reader_that_does_not_keep_up_is_cut_off_and_the_library_learns_of_it`); an upgrade from polling keeps the session's id
//! (`tests/clients/matrix.test.mjs`, each stock client on both transports).

pub mod connection;
pub mod handshake;
pub mod sessions;
