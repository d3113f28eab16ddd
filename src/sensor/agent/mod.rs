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
mod renewal;
mod sntp;
mod status;
mod written;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;

pub use collect::{Background, Collector};
pub use config::{AgentConfig, AgentConfigError, AgentFlags, Credentials, Endpoint, Job, Proxy};
pub use host::{Host, HostPaths};
pub use probe::{Failure, Prober, Trust};

use renewal::Renewal;

use super::{Client, ClientConfig, ClientError, LinkReport, LinkState, Socket};
use crate::identity::{ClientIdentity, IdentityFolder, PeerIdentity, TrustError};
use crate::limits::GOODBYE_TIMEOUT;
use crate::time::{Clock, SystemClock};
use crate::wire::heartbeat::Heartbeat;
use crate::wire::id::SensorId;

/// The agent could not start.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// Certificate, key or trust bundle.
    #[error("identity_dir: {0}")]
    Identity(#[from] TrustError),
    /// A gateway's certificate.
    #[error(
        "identity_dir: the certificate is {0}, and the agent needs a sensor's; activate one with `fleetpulse agent activate`"
    )]
    NotASensor(PeerIdentity),
    /// A renewed certificate that is not this sensor's.
    #[error("the certificate is of sensor {0}, another one; the old one stays in use")]
    AnotherSensor(SensorId),
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

impl AgentError {
    /// True when the configuration, or what it names, must be changed before another try can succeed.
    pub fn is_configuration(&self) -> bool {
        !matches!(self, AgentError::Socket(_) | AgentError::Client(ClientError::Socket(_)))
    }
}

/// A running agent. Dropping it ends it without a goodbye.
#[derive(Debug)]
pub struct Agent {
    sensor: SensorId,
    identity_dir: PathBuf,
    socket: Socket,
    client: Client,
    heartbeats: watch::Receiver<Option<Heartbeat>>,
    /// End with the agent.
    _tasks: JoinSet<()>,
}

impl Agent {
    /// Starts it, inside a tokio runtime with its I/O and time drivers on. It connects by itself.
    pub fn start(config: &AgentConfig, clock: SystemClock) -> Result<Agent, AgentError> {
        let (identity, sensor) = read_identity(&config.identity_dir)?;
        let trust = Trust::for_endpoints(config, Arc::new(clock))?;
        let mut link = ClientConfig::new(String::new(), config.server_name.clone());
        link.servers.clone_from(&config.servers);
        link.interval = config.interval;
        link.identity_dir = Some(config.identity_dir.clone());

        let (background, mut tasks) = Background::start(config, trust, clock);
        let generation = identity.trust()?.generation;
        let (collector, heartbeats) = Collector::new(config, sensor, generation, background, clock.mono());
        let socket = Socket::bind()?;
        let client = Client::start(link, &identity, &socket, clock, collector)?;
        tasks.spawn(log_link(client.watch(), clock));
        let renewal = Renewal {
            folder: IdentityFolder::new(&config.identity_dir),
            enrol_servers: config.enrol_servers.clone(),
            server_name: config.server_name.clone(),
            socket: socket.clone(),
            renewer: client.renewer(),
            clock,
        };
        tasks.spawn(renewal.run(client.watch()));
        tracing::info!(%sensor, servers = ?config.servers, interfaces = ?config.interfaces, "agent started");
        let identity_dir = config.identity_dir.clone();
        Ok(Agent { sensor, identity_dir, socket, client, heartbeats, _tasks: tasks })
    }

    /// Checks what [`AgentConfig`] names and [`Agent::start`] would read: identity and roots.
    pub fn check(config: &AgentConfig, clock: SystemClock) -> Result<SensorId, AgentError> {
        Trust::for_endpoints(config, Arc::new(clock))?;
        Ok(read_identity(&config.identity_dir)?.1)
    }

    /// Who it is.
    pub fn sensor(&self) -> SensorId {
        self.sensor
    }

    /// How its connection does.
    pub fn link(&self) -> watch::Receiver<LinkReport> {
        self.client.watch()
    }

    /// The last heartbeat that it made, before the client fills in how the connection does.
    pub fn heartbeats(&self) -> watch::Receiver<Option<Heartbeat>> {
        self.heartbeats.clone()
    }

    /// Reads certificate, key and trust bundle again and comes back with them. The old ones stay in use when
    /// the new ones can't be used, or are another sensor's.
    pub async fn reload_identity(&self) -> Result<(), AgentError> {
        let (identity, sensor) = read_identity(&self.identity_dir)?;
        if sensor != self.sensor {
            return Err(AgentError::AnotherSensor(sensor));
        }
        Ok(self.client.renew(&identity).await?)
    }

    /// Says goodbye (`restart`: it comes back by itself) and ends, once the server was told that the connection
    /// is closed, or after [`GOODBYE_TIMEOUT`].
    pub async fn goodbye(self, restart: bool) {
        self.client.goodbye(restart).await;
        let _ = tokio::time::timeout(GOODBYE_TIMEOUT, self.socket.wait_idle()).await;
    }
}

fn read_identity(folder: &Path) -> Result<(ClientIdentity, SensorId), AgentError> {
    let identity = ClientIdentity::read(folder)?;
    match identity.leaf()?.identity {
        PeerIdentity::Sensor(sensor) => Ok((identity, sensor)),
        other => Err(AgentError::NotASensor(other)),
    }
}

/// A line whenever the connection comes or goes. Ends with the client.
async fn log_link(mut link: watch::Receiver<LinkReport>, clock: SystemClock) {
    let mut before = LinkState::Connecting;
    loop {
        let report = link.borrow_and_update().clone();
        match report.state {
            state if state == before => {}
            LinkState::Up => tracing::info!(interval = ?report.interval, "connected"),
            LinkState::Waiting { until } => {
                let (again_in, loss) = (until.since(clock.mono()), report.last_loss);
                let reason = loss.map_or_else(|| "start".to_owned(), |loss| loss.to_string());
                tracing::warn!(reason, ?again_in, "not connected");
            }
            LinkState::Connecting | LinkState::Stopped => {}
        }
        before = report.state;
        if link.changed().await.is_err() {
            return;
        }
    }
}
