//! The audit log.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
pub(in crate::store::embedded) mod write;
