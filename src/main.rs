//! Parses arguments, runs the subcommand, turns its error into an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    fleetpulse::cli::main()
}
