//! The database file, the one writer, and how tables and values lie in it. Nothing here knows a rule.

pub(in crate::store::embedded) mod batch;
pub(in crate::store::embedded) mod codec;
pub(in crate::store::embedded) mod counts;
mod dispatch;
pub(in crate::store::embedded) mod failure;
pub(in crate::store::embedded) mod file;
pub(in crate::store::embedded) mod first_answers;
pub(in crate::store::embedded) mod health;
pub(in crate::store::embedded) mod holder;
mod pace;
pub(in crate::store::embedded) mod queue;
mod round;
pub(in crate::store::embedded) mod schema;
pub(in crate::store::embedded) mod writer;
