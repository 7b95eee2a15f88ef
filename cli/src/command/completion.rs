//! `conflux completion`.

use clap::CommandFactory;

/// Writes the script for this shell to standard output.
pub fn run(shell: clap_complete::Shell) -> anyhow::Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut crate::Cli::command(), "conflux", &mut script);
    crate::output::bytes(&script)
}
