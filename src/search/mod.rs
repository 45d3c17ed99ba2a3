//! Search: what was said, found by its words. The index of words is made of what is stored and lies beside the store, in a directory
//! of its own; it is part of no commit and of no backup. One thread follows the store ([`follower`]), behind everybody else. What is
//! found is a list of ids: whoever shows the messages reads them from the store again, under the rights of who asks.

mod changed;
mod files;
pub mod follower;
mod index;
mod query;
mod words;

pub use changed::Changed;
pub use query::{BadQuery, QUERY_CHARS, QUERY_WORDS, Query};
pub use words::Reader;
