//! Faults that only the engine itself can set up.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// What the disk shall do wrong.
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) full: AtomicBool,
    pub(super) writes_fail: AtomicBool,
    pub(super) syncs_fail: AtomicBool,
    pub(super) reads_fail: AtomicBool,
}

impl Faults {
    pub(super) fn on_write(&self) -> io::Result<()> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        fail(&self.writes_fail, "write")
    }

    pub(super) fn on_sync(&self) -> io::Result<()> {
        fail(&self.syncs_fail, "sync")
    }

    pub(super) fn on_read(&self) -> io::Result<()> {
        fail(&self.reads_fail, "read")
    }
}

fn fail(fault: &AtomicBool, what: &str) -> io::Result<()> {
    if fault.load(Ordering::SeqCst) { Err(io::Error::other(format!("injected {what} error"))) } else { Ok(()) }
}
