//! Whole database files that nobody serves: reading, checking, migrating and replacing them.

pub mod carry_forward;
pub(in crate::store::embedded) mod check;
pub mod migrate;
pub mod rows;
pub mod stats;
