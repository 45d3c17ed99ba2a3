//! How requests come in and deliveries go out: decode, ask a service, encode. No rule of the product is decided here.

pub mod console;
#[cfg(test)]
mod contract;
pub mod forwarded;
pub mod http;
pub mod memory;
pub mod origin;
pub mod refusals;
pub mod socketio;
mod static_file;
