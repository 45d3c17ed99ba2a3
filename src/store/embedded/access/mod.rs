//! Who may be where: bans, rooms, members and users.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
pub(in crate::store::embedded) mod write;
