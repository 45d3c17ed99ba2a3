//! How requests come in and deliveries go out.
pub mod wire;
