//! How order is kept in rooms: their state, mutes by their moderators, and what was reported.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
pub(in crate::store::embedded) mod write;
