//! `fleetpulse demo`: a server, a simulated fleet over real QUIC, a script of faults, and in the end the truth
//! table: what was done to the fleet against what the engine said about it.

mod doubts;
mod folder;
mod late;
mod report;
mod run;
mod screen;
mod script;
mod stage;
mod truth;
mod view;
mod watch;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::{Failure, logging};
use crate::config::{Log, duration};
use crate::fleet::Role;
use crate::limits::{DEMO_DURATION_MAX, DEMO_SENSORS_MAX};
use crate::server::Server;
use crate::time::{Clock, SystemClock};

use super::paint::clean;
use folder::Folder;
use report::Outcome;
use run::{Ends, Interrupt, Run};
use screen::Display;
use script::Script;

/// Any free port, for this machine only.
const FREE_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Life of the token that is shown; a demonstration that runs longer is started again.
const TOKEN_LIFE: Duration = Duration::from_secs(7 * 86_400);

/// Flags of `demo`.
#[derive(Args)]
#[command(
    after_help = "Without --duration, --check and --json the server goes on after the scenario, for looking \
    around, until Ctrl-C. The script stands still while the engine doubts itself (a machine that is too busy), so \
    a run can take that much longer.\n\nExit codes: 0 done, 1 a check found something, 64 wrong flags, 78 wrong \
    scenario file."
)]
pub struct Demo {
    /// Simulated sensors: those of the scenario, and healthy ones up to this number [default: 1000]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(DEMO_SENSORS_MAX)))]
    sensors: Option<u32>,
    /// How long to run, from the moment that the fleet is connected, e.g. 120s. Shorter than the scenario: faults
    /// that would not end within it are left out, and named. Longer: the fleet runs on without faults
    #[arg(long, value_name = "TIME", value_parser = length)]
    duration: Option<Duration>,
    /// Exit with 1 when a fault was missed, something false was raised, a message did not clear, or the engine was
    /// in doubt for more than a fifth of the run; say which. Ends with --duration, or with the scenario
    #[arg(long)]
    check: bool,
    /// Print the result as one JSON object, progress on standard error. Ends with --duration, or with the scenario
    #[arg(long)]
    json: bool,
    /// Play this scenario file (TOML) instead of the built-in one
    #[arg(long, value_name = "FILE")]
    scenario: Option<PathBuf>,
    /// Keep everything in this new or empty directory [default: a private temporary one, removed in the end]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// UDP address of the server; port 0 = a free one
    #[arg(long, value_name = "ADDR", default_value_t = FREE_PORT)]
    listen: SocketAddr,
    /// TCP address of API and metrics, on this machine only; port 0 = a free one
    #[arg(long, value_name = "ADDR", default_value_t = FREE_PORT, value_parser = loopback)]
    http: SocketAddr,
}

fn length(text: &str) -> Result<Duration, String> {
    let length = duration::parse(text)?;
    if (Duration::from_secs(1)..=DEMO_DURATION_MAX).contains(&length) {
        Ok(length)
    } else {
        Err(format!("valid is 1s to {}", duration::format(DEMO_DURATION_MAX)))
    }
}

fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr =
        text.parse().map_err(|_| "an address and port such as 127.0.0.1:8080".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("a demonstration has no sign-in and no TLS here; give a port of 127.0.0.1 or [::1]".into())
    }
}

impl Demo {
    pub(super) fn run(self) -> Result<(), Failure> {
        let script = Script::load(self.scenario.as_deref(), self.sensors, self.duration)?;
        let folder = Folder::open(self.data_dir.as_deref())?;
        let mut display = Display::new(self.json);
        let outcome = self.perform(&script, &folder, &mut display);
        display.leave();
        self.tell(&outcome?, &display)
    }

    fn perform(&self, script: &Script, folder: &Folder, display: &mut Display) -> Result<Outcome, Failure> {
        let today = SystemClock::start().unix();
        let config = stage::config(script, folder, self.listen, self.http, today);
        start_logging(&config.log, display);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("no threads for the fleet: {error}")))?;
        runtime.block_on(async {
            let mut interrupt = Interrupt::listen(display.is_screen())?;
            let server = stage::start_server(config, today)?;
            let token = server.token_for("demo", Role::Administrator, TOKEN_LIFE).map_err(Failure::failed)?;
            display.head(self.where_to_look(script, folder, &server, &token));
            let ends = self.ends();
            Run { script, server, ends, display }.perform(&mut interrupt).await
        })
    }

    fn ends(&self) -> Ends {
        let by_itself = self.duration.is_some() || self.check || self.json;
        if by_itself { Ends::WithTheScript } else { Ends::WhenTold }
    }

    fn where_to_look(&self, script: &Script, folder: &Folder, server: &Server, token: &str) -> Vec<String> {
        let (plan, http) = (&script.plan, server.http_addr());
        let mut lines = vec![
            format!("fleetpulse demo: scenario {}, {} sensors", clean(&plan.name), plan.sensors.len()),
            format!("sensors  {} (QUIC)", server.ingest_addr()),
            format!("metrics  http://{http}/metrics"),
            format!("fleet    http://{http}/api/v1/fleet"),
            format!("messages http://{http}/api/v1/messages"),
            format!("token    {token}"),
        ];
        if !folder.is_temporary() {
            lines.push(format!("data     {}", clean(&folder.path().display().to_string())));
        }
        if !script.fell_out.is_empty() {
            lines.push(format!("too short for: {}", clean(&script.fell_out.join(", "))));
        }
        lines
    }

    fn tell(&self, outcome: &Outcome, display: &Display) -> Result<(), Failure> {
        if self.json {
            println!("{:#}", outcome.json());
        } else {
            println!("\n{}", outcome.text(display.paint()));
        }
        let failures = outcome.failures();
        if self.check && !failures.is_empty() {
            return Err(Failure::failed(format!("the check found: {}", failures.join("; "))));
        }
        Ok(())
    }
}

fn start_logging(log: &Log, display: &Display) {
    match display.log() {
        Some(kept) => logging::start_with(log, move || kept.clone(), false),
        None => logging::start(log),
    }
}
