//! Everything a client can see, and nothing else: the events and their payloads, the errors, the packets. No other layer
//! spells an event name, a field name or an error code.

pub mod answers;
pub mod care;
pub mod cursor;
pub mod decode;
pub mod errors;
pub mod events;
pub mod http;
pub mod packet;
pub mod people;
pub mod requests;
pub mod views;

pub use errors::{ErrorCode, WireError};
