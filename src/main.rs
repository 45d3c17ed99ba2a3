//! The binary: it parses, runs and exits.

use std::process::ExitCode;

/// Gives memory back to the system when a load is over.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    academy_rt::cli::main().into()
}
