//! `man`: writes the man pages, from the same source as `--help`, and the annotated configuration. For the house itself.

use std::path::PathBuf;

use anyhow::Context;
use clap::Args;

use super::exit::Exit;

/// Write the man pages into a directory.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The directory
    dir: PathBuf,
    /// Where the annotated default configuration goes, if it shall be written too
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Writes them.
///
/// # Errors
/// If the directory cannot be written.
pub fn run(args: &ManArgs) -> anyhow::Result<Exit> {
    for (name, page) in pages()? {
        std::fs::write(args.dir.join(&name), page).with_context(|| format!("{name} cannot be written"))?;
    }
    if let Some(path) = &args.config {
        std::fs::write(path, crate::config::keys::default_file()).context("the configuration cannot be written")?;
    }
    Ok(Exit::Done)
}

/// One page a command: its file name and its text.
///
/// # Errors
/// If a page cannot be rendered.
pub fn pages() -> anyhow::Result<Vec<(String, Vec<u8>)>> {
    let mut pages = Vec::new();
    let mut command = super::command();
    command.build();
    render(&command, "academy-rt", &mut pages)?;
    Ok(pages)
}

fn render(command: &clap::Command, name: &str, pages: &mut Vec<(String, Vec<u8>)>) -> anyhow::Result<()> {
    let mut page = Vec::new();
    // The date would make every build another one.
    clap_mangen::Man::new(command.clone().name(name.to_owned()).display_name(name)).date("").render(&mut page)?;
    pages.push((format!("{name}.1"), page));
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        render(sub, &format!("{name}-{}", sub.get_name()), pages)?;
    }
    Ok(())
}
