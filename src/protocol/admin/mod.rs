//! Bodies of the administrators' part of the HTTP API.

pub mod access;
pub mod data;
pub mod notices;
pub mod webhooks;
