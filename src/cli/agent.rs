//! `fleetpulse agent`: this host as a sensor, until it is told to stop.

mod activate;
mod report;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::report::{Form, Reporter};
use super::{Failure, logging};
use crate::config::{self, Log};
use crate::sensor::agent::{self, AgentConfig, AgentError, AgentFlags};
use crate::time::SystemClock;

/// A disk that does not answer must not keep the agent from ending.
const SHUTDOWN_PATIENCE: Duration = Duration::from_millis(500);
/// Environment variables that the agent shares with the server.
const LOG_VARIABLES: &str = "FLEETPULSE_LOG__";

/// Flags of `agent`.
#[derive(Args)]
#[command(after_help = "\
First use, with the activation file that the server gave for this sensor:
  fleetpulse agent activate FILE --out DIR
  fleetpulse agent --identity DIR --interface eth1

SIGTERM and SIGINT are a planned stop, of which the server is told. SIGHUP reads certificate, key and trust bundle \
again and comes back with them.")]
#[command(args_conflicts_with_subcommands = true)]
pub struct Agent {
    #[command(subcommand)]
    action: Option<Action>,
    /// Configuration file (TOML); --list-config prints one to fill in
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Server; may be repeated, they are tried in turn [config: servers]
    #[arg(long, value_name = "HOST:PORT")]
    server: Vec<String>,
    /// Name in the server's certificate, when it is not the host of --server [config: server_name]
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// Folder with certificate.pem, key.pem and trust.pem [config: identity_dir]; without --config its agent.toml is
    /// the configuration, if there is one
    #[arg(long, value_name = "DIR")]
    identity: Option<PathBuf>,
    /// Monitored interface; may be repeated [config: interfaces]
    #[arg(long, value_name = "IF")]
    interface: Vec<String>,
    /// Check the configuration and what it names, and exit: 0 when it is right, 78 with one line when it is not
    #[arg(long)]
    check_config: bool,
    /// Print the configuration in use as TOML and exit
    #[arg(long)]
    print_config: bool,
    /// Print every key with its meaning and default as TOML and exit
    #[arg(long)]
    list_config: bool,
    /// Print one JSON object for each heartbeat and each change of the connection
    #[arg(long)]
    json: bool,
    /// error, warn, info or debug, or a filter such as `info,fleetpulse::sensor=debug`
    #[arg(long, value_name = "LEVEL")]
    log_level: Option<String>,
    /// Log lines for people (text) or machines (json)
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<String>,
}

#[derive(Subcommand)]
enum Action {
    /// Make this host the sensor that an activation file is for: key, certificate, configuration
    Activate(activate::Activate),
}

impl Agent {
    pub(super) fn run(mut self) -> Result<(), Failure> {
        if let Some(Action::Activate(activate)) = self.action {
            return activate.run();
        }
        if self.list_config {
            print!("{}", AgentConfig::KEYS);
            return Ok(());
        }
        let log = self.log()?;
        if self.config.is_none()
            && let Some(made) = self.identity.as_ref().map(|folder| folder.join(activate::CONFIG))
            && made.is_file()
        {
            self.config = Some(made);
        }
        let flags = AgentFlags {
            servers: self.server,
            server_name: self.server_name,
            identity_dir: self.identity,
            interfaces: self.interface,
        };
        let config = AgentConfig::load(self.config.as_deref(), &flags).map_err(Failure::config)?;
        if self.print_config {
            print!("{}", config.to_toml());
            return Ok(());
        }
        let clock = SystemClock::start();
        if self.check_config {
            return agent::Agent::check(&config, clock).map(drop).map_err(start_failure);
        }
        logging::start(&log);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("the agent can't run: {error}")))?;
        let outcome = runtime.block_on(report_until_told_to_stop(&config, clock, Form::of_stdout(self.json)));
        runtime.shutdown_timeout(SHUTDOWN_PATIENCE);
        outcome
    }

    /// What is logged and how, by the same keys, variables and words as the server's.
    fn log(&self) -> Result<Log, Failure> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, _)| name.starts_with(LOG_VARIABLES));
        let flags: Vec<_> = [("log.level", &self.log_level), ("log.format", &self.log_format)]
            .into_iter()
            .filter_map(|(key, value)| Some((key.to_owned(), value.clone()?)))
            .collect();
        config::from_sources(None, environment, &flags).map(|config| config.log).map_err(Failure::config)
    }
}

fn start_failure(error: AgentError) -> Failure {
    if error.is_configuration() { Failure::config(error) } else { Failure::failed(error) }
}

async fn report_until_told_to_stop(
    config: &AgentConfig,
    clock: SystemClock,
    form: Form,
) -> Result<(), Failure> {
    let (mut terminate, mut interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
    let mut hangup = listen(SignalKind::hangup())?;
    if config.interfaces.is_empty() {
        tracing::warn!("no interface is monitored, so no traffic is reported; name them with --interface");
    }
    // It may come later, or be a slip of the pen.
    let there = config.host.interfaces();
    for missing in config.interfaces.iter().filter(|name| !there.contains(name)) {
        tracing::warn!("interface {missing} is not there (yet); there are {}", there.join(", "));
    }
    let agent = agent::Agent::start(config, clock).map_err(start_failure)?;
    let reporting = Reporter::new(form, config, agent.sensor(), clock).run(agent.heartbeats(), agent.link());
    tokio::pin!(reporting);
    let mut reports = true;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            // It ends when nobody reads any more, which is no reason to stop watching the host.
            () = &mut reporting, if reports => reports = false,
            _ = hangup.recv() => match agent.reload_identity().await {
                Ok(()) => tracing::info!("certificate, key and trust bundle read again"),
                Err(error) => tracing::error!(%error, "the old certificate stays in use"),
            },
        }
    }
    tracing::info!("stopping; the server is told");
    agent.goodbye(false).await;
    Ok(())
}

fn listen(kind: SignalKind) -> Result<Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot watch for signals: {error}")))
}
