//! `fleetpulse completion`: what a shell needs to complete commands and flags.

use std::io::Write;

use clap::{Args, ValueEnum};
use clap_complete::{Shell, generate};

use super::Failure;

/// Flags of `completion`.
#[derive(Args)]
#[command(after_help = "\
Examples:
  fleetpulse completion bash > ~/.local/share/bash-completion/completions/fleetpulse
  fleetpulse completion zsh > ~/.zfunc/_fleetpulse
  fleetpulse completion fish > ~/.config/fish/completions/fleetpulse.fish")]
pub struct Completion {
    /// The shell
    #[arg(value_enum)]
    shell: Which,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Bash,
    Zsh,
    Fish,
}

impl Completion {
    pub(super) fn run(self, command: &mut clap::Command) -> Result<(), Failure> {
        let shell = match self.shell {
            Which::Bash => Shell::Bash,
            Which::Zsh => Shell::Zsh,
            Which::Fish => Shell::Fish,
        };
        // The library panics where nobody reads, so it writes into memory.
        let mut script = Vec::new();
        generate(shell, command, "fleetpulse", &mut script);
        match std::io::stdout().write_all(&script) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(Failure::failed(error)),
            _ => Ok(()),
        }
    }
}
