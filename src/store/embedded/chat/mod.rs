//! Messages, and who takes part in a room.

mod blocks;
pub(in crate::store::embedded) mod places;
pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
mod searched;
pub(in crate::store::embedded) mod write;
