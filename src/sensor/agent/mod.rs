//! The real agent: reports the host that it runs on.
//!
//! A heartbeat is made on the connection's task and must never wait. So only what a file of `/proc` or `/sys`
//! answers at once is read there ([`Host`]); everything that can hang (name lookups, connections to endpoints,
//! time servers and directory servers, commands, full disks) is watched by background tasks, each with a
//! timeout, and a heartbeat copies the latest result ([`Background`]).
//!
//! What the agent can't know is reported as unknown, never as good. Every list in its configuration is bounded.

mod collect;
mod config;
mod host;
mod job;
mod kernel_clock;
mod probe;
mod sntp;
mod status;
mod written;

use std::future::Future;
use std::io;
use std::sync::Arc;

pub use collect::{Background, Collector};
pub use config::{AgentConfig, AgentConfigError, AgentFlags, Credentials, Endpoint, Job, Proxy};
pub use host::{Host, HostPaths};
pub use probe::{Failure, Prober, Trust};

use super::{Client, ClientConfig, ClientError, Socket};
use crate::identity::{ClientIdentity, PeerIdentity, TrustError};
use crate::time::{Clock, SystemClock};

/// The agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Certificate, key or trust bundle.
    #[error(transparent)]
    Identity(#[from] TrustError),
    /// A gateway's certificate.
    #[error("the certificate is {0}, and the agent needs a sensor's; make one with `fleetpulse ca`")]
    NotASensor(PeerIdentity),
    /// The roots for checking endpoints.
    #[error(transparent)]
    Config(#[from] AgentConfigError),
    /// No UDP socket.
    #[error("no UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// The client library.
    #[error(transparent)]
    Client(#[from] ClientError),
}

/// Runs until `stop` completes, then says goodbye (`restart` is what `stop` answered: it comes back by
/// itself). Must be called inside a tokio runtime with its I/O and time drivers on.
pub async fn run(
    config: AgentConfig,
    clock: SystemClock,
    stop: impl Future<Output = bool>,
) -> Result<(), AgentError> {
    let identity = ClientIdentity::read(&config.identity_dir)?;
    let sensor = match identity.leaf()?.identity {
        PeerIdentity::Sensor(sensor) => sensor,
        other => return Err(AgentError::NotASensor(other)),
    };
    let trust_generation = identity.trust()?.generation;
    let trust = Trust::for_endpoints(&config, Arc::new(clock))?;
    let mut link = ClientConfig::new(String::new(), config.server_name.clone());
    link.servers.clone_from(&config.servers);
    link.interval = config.interval;

    let (background, watchers) = Background::start(&config, trust, clock);
    let collector = Collector::new(&config, sensor, trust_generation, background, clock.mono());
    let socket = Socket::bind()?;
    let client = Client::start(link, &identity, &socket, clock, collector)?;
    tracing::info!(%sensor, servers = ?config.servers, interfaces = ?config.interfaces, "agent started");
    let restart = stop.await;
    client.goodbye(restart).await;
    drop(watchers);
    Ok(())
}
