//! Continuous backup: the rows of every commit, appended to segments in another place within a second or two, and base backups
//! that they go on from. `docs/architecture.md` has the design.
//!
//! [`segment`] is the file; [`recorder`] writes them beside a running server; [`timeline`] finds what a directory of them leads
//! to, and does it again; [`cleaning`] removes what is too old, or holds what was erased.

pub mod cleaning;
pub mod recorder;
pub mod segment;
pub mod timeline;
