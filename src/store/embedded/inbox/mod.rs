//! Notifications and each user's inbox.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
pub(in crate::store::embedded) mod view;
pub(in crate::store::embedded) mod write;
