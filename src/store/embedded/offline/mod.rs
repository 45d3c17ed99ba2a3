//! Whole database files that nobody serves: reading, checking, migrating and replacing them.

pub mod carry_forward;
pub(in crate::store::embedded) mod check;
pub mod migrate;
mod normal_forms;
pub(in crate::store::embedded) mod renamed;
pub mod rows;
pub mod stats;
