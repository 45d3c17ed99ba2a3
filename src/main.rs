//! The binary: it parses, runs and exits.

use std::process::ExitCode;

/// Sends cost a fifth less with it than with glibc's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    academy_rt::cli::main().into()
}
