//! Notifications that have a time, and what is kept of those that are over.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
pub(in crate::store::embedded) mod write;
