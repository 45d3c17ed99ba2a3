//! Legal holds, erasures, exports, purges, and the audit log.

pub(in crate::store::embedded) mod erase;
pub(in crate::store::embedded) mod holds;
pub(in crate::store::embedded) mod purge;
pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
