//! `fleetpulse fleet`: the fleet in numbers.

use clap::Args;

use super::cell::{Column, Show, text};
use super::http::Call;
use super::{EXIT_CODES, Remote, run};
use crate::cli::Failure;

/// Flags of `fleet`.
#[derive(Args)]
#[command(after_help = EXIT_CODES)]
pub(in crate::cli) struct Fleet {
    #[command(flatten)]
    remote: Remote,
}

const NUMBERS: &[Column] = &[
    text("SENSORS", "sensors.total"),
    text("HEALTHY", "sensors.healthy"),
    text("UNHEALTHY", "sensors.unhealthy"),
    text("PENDING", "sensors.pending"),
    text("UNSUPPORTED", "sensors.unsupported"),
    text("UPDATABLE", "sensors.updatable"),
    text("MUTED", "sensors.muted"),
    text("HEALTH SCORE", "health_score"),
    text("MESSAGES", "messages.active"),
    text("BY SEVERITY", "messages.by_severity"),
    text("SITES", "sites"),
    text("ZONES", "zones"),
    text("SUBSCRIPTIONS", "subscriptions"),
    text("GATEWAYS", "gateways"),
    text("DOUBT", "doubt.lasting").wide(),
    text("AS OF", "as_of").show(Show::Time),
];

impl Fleet {
    pub(in crate::cli) fn run(self, what: &str) -> Result<(), Failure> {
        run(&self.remote, what, |client| client.show(&Call::get("/api/v1/fleet"), NUMBERS))
    }
}
