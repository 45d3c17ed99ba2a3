//! `completions`: prints shell completions, from the same source as `--help`.

use clap::Args;
use clap_complete::Shell;

use crate::cli::exit::{Exit, say};

/// Print shell completions
///
/// For bash, for example: academy-rt completions bash > /etc/bash_completion.d/academy-rt
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

/// Prints them.
///
/// # Errors
/// If standard output is closed.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::cli::command(), "academy-rt", &mut script);
    let mut script = String::from_utf8_lossy(&script).into_owned();
    if args.shell == Shell::Bash {
        // clap_complete 4.6 gives the states of a program with a hyphen in its name two spellings, and completes no
        // subcommand's options. A test asks a real bash.
        script = script.replace("academy__subcmd__rt", "academy__rt");
    }
    say(script.trim_end())?;
    Ok(Exit::Done)
}
