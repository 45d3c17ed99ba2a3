//! Everything a client can see, and nothing else: the events and their payloads, the errors, the packets. No other layer
//! spells an event name, a field name or an error code.

pub mod admin;
pub mod answer;
pub mod cursor;
pub mod decode;
pub mod error;
pub mod event;
pub mod http;
mod input;
pub mod json;
pub mod order;
pub mod packet;
pub mod request;
pub mod view;
pub mod webhook;

pub use error::{ApiError, ErrorCode};
