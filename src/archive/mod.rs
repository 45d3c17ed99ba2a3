//! The archive that a whole store goes into and comes out of: backups, restores, and rebuilding a database file.
//!
//! [`mod@format`] is the file and [`authenticity`] says whose it is; [`backup`] makes and verifies one, and [`retention`] says
//! which old ones go; [`restore`] takes one back and goes back from it; [`rebuild`] makes a database anew without one; [`kept_audit`] keeps an audit log that a
//! restore would drop. [`continuous`] has what is between two backups.

pub mod authenticity;
pub mod backup;
pub mod continuous;
mod error;
pub(crate) mod files;
pub mod format;
pub mod kept_audit;
pub mod key;
pub mod moments;
pub mod rebuild;
pub mod restore;
pub mod retention;
pub mod undo;

pub use error::ArchiveError;
