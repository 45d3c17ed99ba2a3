//! Progress of lessons.

pub(in crate::store::embedded) mod read;
pub(in crate::store::embedded) mod rows;
mod write;
