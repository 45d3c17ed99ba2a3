//! The binary: it parses, runs and exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    academy_rt::cli::main().into()
}
