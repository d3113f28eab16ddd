//! Fleetpulse beside Mosquitto, NATS and bare quinn: the same machine, the same cores in turn, the same
//! certificates, payload, connections and rate; every party once in every round, and the medians.
//!
//! Called by `benches/peers/run`, which installs what is needed.

mod compare;
mod parties;
mod process;
mod protocol;
mod sink;
mod tls;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run all parties and print the table
    Compare(Compare),
    /// A QUIC server on stock quinn that throws everything away
    Sink {
        /// Whose certificates it uses
        #[arg(long)]
        data_dir: PathBuf,
    },
}

/// What is compared.
#[derive(Args, Clone)]
pub struct Compare {
    /// The program to compare
    #[arg(long)]
    fleetpulse: PathBuf,
    /// Connections of the fleet, one message a second each
    #[arg(long, default_value_t = 10_000)]
    connections: usize,
    /// Connections of gateways, 64 messages at a time, as fast as it goes
    #[arg(long, default_value_t = 100)]
    gateways: usize,
    /// Rounds; every party runs once in each
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Seconds measured for each party and row
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Core of the servers, and core of what drives them
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1])]
    cores: Vec<usize>,
    /// Few connections, one round, two seconds: shows that everything works, measures nothing
    #[arg(long)]
    quick: bool,
    /// Leave out the fleet (one message at a time)
    #[arg(long)]
    no_fleet: bool,
    /// Leave out the gateways (batches)
    #[arg(long)]
    no_gateways: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Compare(compare) => compare::run(compare),
        Command::Sink { data_dir } => sink::run(&data_dir),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("peers: {error}");
            ExitCode::FAILURE
        }
    }
}
