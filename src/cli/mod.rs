//! One file a subcommand. Arguments in, exit code out; the work itself is in the modules above.
//!
//! Exit codes: 0 done, 1 the work failed (or `--check` found something), 64 wrong usage (`EX_USAGE`),
//! 65 a file that is not what it should be (`EX_DATAERR`), 78 wrong configuration (`EX_CONFIG`).
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is the command line")]

mod agent;
mod ca;
mod demo;
mod load;
mod logging;
mod serve;
mod settings;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The exit codes of `sysexits.h` that scripts know.
pub mod exit {
    /// The work failed, or a check found something.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 64;
    /// A file that was given is not what it should be.
    pub const DATA: u8 = 65;
    /// Wrong configuration.
    pub const CONFIG: u8 = 78;
}

#[derive(Parser)]
#[command(
    name = "fleetpulse",
    version,
    about = "Knows at any second which of your network sensors are alive, blind, overloaded, outdated or lying.",
    after_help = "Start with `fleetpulse demo`: a server, a simulated fleet over real QUIC, and where to look."
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show it all: a server, a simulated fleet with scripted faults, and how right the verdicts were
    Demo(demo::Demo),
    /// Run the server
    Serve(serve::Serve),
    /// Report this host to a server: its monitored interfaces, load, disks, clock and what it can reach
    Agent(agent::Agent),
    /// Make certificates, and register sensors and gateways, while no server runs on the data directory
    Ca(ca::Ca),
    /// Drive a server with many sensors and gateways, and say what it cost
    Load(Box<load::Load>),
    /// Check that a file was signed by the server and is unchanged
    Verify(verify::Verify),
}

/// Why a subcommand failed: the exit code and one message that says what to do.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
}

impl Failure {
    /// The work failed.
    fn failed(message: impl ToString) -> Failure {
        Failure { code: exit::FAILED, message: message.to_string() }
    }

    /// The command line is wrong.
    fn usage(message: impl ToString) -> Failure {
        Failure { code: exit::USAGE, message: message.to_string() }
    }

    /// The configuration is wrong.
    fn config(message: impl ToString) -> Failure {
        Failure { code: exit::CONFIG, message: message.to_string() }
    }
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let wrong = error.use_stderr();
            // Help and version go to standard output; a closed pipe there is nobody's fault.
            let _ = error.print();
            return if wrong { ExitCode::from(exit::USAGE) } else { ExitCode::SUCCESS };
        }
    };
    let outcome = match arguments.command {
        Command::Demo(demo) => demo.run(),
        Command::Serve(serve) => serve.run(),
        Command::Agent(agent) => agent.run(),
        Command::Ca(ca) => ca.run(),
        Command::Load(load) => load.run(),
        Command::Verify(verify) => verify.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                eprintln!("fleetpulse: {}", failure.message);
            }
            ExitCode::from(failure.code)
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn every_subcommand_is_well_formed() {
        Arguments::command().debug_assert();
    }
}
