//! `sdk`: writes the npm packages of the SDK, as the server serves them under `/sdk/`.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use crate::cli::Global;
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
/// If the directory cannot be made or written.
pub fn run(global: &Global, args: &SdkArgs) -> anyhow::Result<Exit> {
    std::fs::create_dir_all(&args.dir).with_context(|| format!("{} cannot be made", args.dir.display()))?;
    let mut files = Vec::new();
    for (name, bytes) in npm::packages() {
        let file = args.dir.join(name);
        std::fs::write(&file, bytes).with_context(|| format!("{} cannot be written", file.display()))?;
        files.push(file.display().to_string());
    }
    global.print(&serde_json::json!({ "files": files }), || files.join("\n"))?;
    Ok(Exit::Done)
}
