//! `fleetpulse load`: drives a server with as many sensors, gateways and reconnects as asked, and says what it
//! cost.
//!
//! Two ways. Alone, it makes a data directory, registers sensors, starts `serve` on free loopback ports as a
//! process of its own, drives it, and ends it. With `--server` it drives a server that runs elsewhere, with
//! identities that `--prepare` made and registered before.
//!
//! What is counted by whom: `sent` by this side, `received` by the server; the server's CPU and memory by the
//! server itself (`GET /api/v1/engine`), so that both ways measure the same.

mod child;
mod cores;
mod crew;
mod enlist;
mod identities;
mod meter;
mod needs;
mod report;
mod run;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::Failure;
use crate::config::duration;
use crate::limits::{
    GATEWAY_SENSORS_MAX, GATEWAYS_MAX, INTERVAL_MAX, INTERVAL_MIN, LOAD_SENSORS_MAX, LOAD_THREADS_MAX,
};

/// Flags of `load`.
#[derive(Args, Clone)]
pub struct Load {
    /// Sensors, each with a connection of its own [default: 1000, or 0 with --gateways]
    #[arg(long, value_name = "N")]
    sensors: Option<usize>,
    /// Time between two heartbeats of a sensor
    #[arg(long, value_name = "D", default_value = "1s", value_parser = duration::parse)]
    interval: Duration,
    /// Gateways: one connection each, batches of many sensors' frames on a stream
    #[arg(long, value_name = "G", default_value_t = 0)]
    gateways: usize,
    /// Sensors behind each gateway: frames of one batch
    #[arg(long, value_name = "N", default_value_t = 100)]
    sensors_per_gateway: usize,
    /// Frames a second of all gateways together, or `most`: as fast as the server takes them
    #[arg(long, value_name = "R", default_value = "10000", value_parser = rate)]
    rate: Rate,
    /// After the heartbeats: close every connection and make all again, as fast as it goes
    #[arg(long)]
    reconnect: bool,
    /// Reconnect with session tickets instead of full handshakes
    #[arg(long, requires = "reconnect")]
    resume: bool,
    /// Handshakes at once
    #[arg(long, value_name = "N", default_value_t = 32)]
    handshakes: usize,
    /// Time that is measured; 0s = connections only, no heartbeats
    #[arg(long, value_name = "D", default_value = "10s", value_parser = duration::parse)]
    duration: Duration,
    /// Heartbeats before that
    #[arg(long, value_name = "D", default_value = "2s", value_parser = duration::parse)]
    warm_up: Duration,
    /// Threads of this side; each drives its share of the connections
    #[arg(long, value_name = "N", default_value_t = 1)]
    threads: usize,
    /// Cores to run on, such as 0,1: the server that is started gets the first, this side the others
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    cores: Vec<usize>,
    /// Print one JSON object instead of a table
    #[arg(long)]
    json: bool,
    /// Drive this server instead of starting one (UDP)
    #[arg(long, value_name = "ADDR", requires_all = ["http", "identities"])]
    server: Option<SocketAddr>,
    /// Where that server tells about itself, such as http://127.0.0.1:8080
    #[arg(long, value_name = "URL", requires = "server")]
    http: Option<String>,
    /// File with an API token for it, where it does not tell without; - for standard input [default:
    /// FLEETPULSE_TOKEN]
    #[arg(long, value_name = "FILE", requires = "server")]
    token_file: Option<PathBuf>,
    /// What --prepare made
    #[arg(long, value_name = "DIR", requires = "server")]
    identities: Option<PathBuf>,
    /// The name in that server's certificate
    #[arg(long, value_name = "NAME", default_value = "localhost")]
    server_name: String,
    /// Only make identities into this folder and register them in --data-dir, while no server uses it
    #[arg(long, value_name = "DIR", requires = "data_dir", conflicts_with_all = ["server", "reconnect"])]
    prepare: Option<PathBuf>,
    /// Data directory: with --prepare the server's; alone, where the started server keeps its data [default:
    /// a temporary one, removed at the end]
    #[arg(long, value_name = "DIR", conflicts_with = "server")]
    data_dir: Option<PathBuf>,
    /// Setting of the server that is started; may be repeated
    #[arg(long, value_name = "KEY=VALUE", conflicts_with_all = ["server", "prepare"])]
    set: Vec<String>,
}

/// Frames a second of all gateways together.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Rate {
    PerSecond(f64),
    Most,
}

fn rate(text: &str) -> Result<Rate, String> {
    if text == "most" {
        return Ok(Rate::Most);
    }
    match text.parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(Rate::PerSecond(rate)),
        _ => Err("a number of frames a second such as 100000, or `most`".into()),
    }
}

/// How many of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    sensors: usize,
    gateways: usize,
    sensors_per_gateway: usize,
}

impl Size {
    fn connections(self) -> usize {
        self.sensors + self.gateways
    }

    fn registered(self) -> usize {
        self.sensors + self.gateways * self.sensors_per_gateway
    }
}

impl Load {
    pub(super) fn run(self) -> Result<(), Failure> {
        let size = self.check()?;
        match &self.prepare {
            Some(folder) => identities::prepare(&self, size, folder),
            None => run::run(&self, size),
        }
    }

    /// What clap can't see.
    fn check(&self) -> Result<Size, Failure> {
        let size = Size {
            sensors: self.sensors.unwrap_or(if self.gateways == 0 { 1_000 } else { 0 }),
            gateways: self.gateways,
            sensors_per_gateway: self.sensors_per_gateway,
        };
        let range = |flag: &str, value: usize, least: usize, most: usize| {
            if (least..=most).contains(&value) {
                Ok(())
            } else {
                Err(Failure::usage(format!("{flag} is {value}; valid is {least} to {most}")))
            }
        };
        range("--sensors", size.sensors, 0, LOAD_SENSORS_MAX)?;
        range("--gateways", size.gateways, 0, GATEWAYS_MAX)?;
        range("--sensors-per-gateway", size.sensors_per_gateway, 1, GATEWAY_SENSORS_MAX)?;
        range("--handshakes", self.handshakes, 1, 4_096)?;
        range("--threads", self.threads, 1, LOAD_THREADS_MAX)?;
        range("--sensors and those behind --gateways together", size.registered(), 1, LOAD_SENSORS_MAX)?;
        if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&self.interval) {
            let (least, most) = (duration::format(INTERVAL_MIN), duration::format(INTERVAL_MAX));
            return Err(Failure::usage(format!("--interval is not from {least} to {most}")));
        }
        cores::check(&self.cores, self.server.is_some())?;
        if let Some(url) = &self.http
            && !url.starts_with("http://")
        {
            return Err(Failure::usage(format!("--http is `{url}`; write it as http://host:port")));
        }
        Ok(size)
    }
}

/// Says on standard error what goes on; the result alone goes to standard output.
fn say(text: &str) {
    eprintln!("load: {text}");
}
