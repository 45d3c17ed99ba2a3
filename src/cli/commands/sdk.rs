//! `sdk`: writes the npm packages of the SDK, as the server serves them under `/sdk/`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::cli::exit::Exit;
use crate::transport::http::npm;

/// Write the npm packages of the SDK into a directory.
#[derive(Debug, Args)]
pub struct SdkArgs {
    /// Directory for the packages
    dir: PathBuf,
}

/// Writes them.
///
/// # Errors
/// If the directory cannot be written.
pub fn run(args: &SdkArgs) -> anyhow::Result<Exit> {
    for (name, bytes) in npm::packages() {
        std::fs::write(args.dir.join(name), bytes).with_context(|| format!("{name} cannot be written"))?;
    }
    Ok(Exit::Done)
}
