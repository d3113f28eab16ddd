//! The client's handle: what a vendor's program holds.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::back_off::BackOffPolicy;
use super::backlog::Backlog;
use super::gateway::{BatchSource, Batches};
use super::link::{Carrier, Command, Link, LinkReport, LinkState};
use super::socket::Socket;
use super::source::Source;
use super::transport::{self, Kind};
use crate::identity::{ClientIdentity, TrustError};
use crate::limits::{BACKLOG_FRAMES, GATEWAY_BACKLOG_BYTES, INTERVAL_DEFAULT};
use crate::time::SystemClock;

/// A client could not be started.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Certificate, key or trust bundle.
    #[error(transparent)]
    Identity(#[from] TrustError),
    /// The transport refused the configuration.
    #[error("the transport can't be set up: {0}")]
    Transport(String),
    /// No UDP socket.
    #[error("no UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// No server address.
    #[error("no server is set; write it as host:port")]
    NoServer,
    /// It was stopped before.
    #[error("the client was stopped")]
    Stopped,
}

/// What a client needs to know.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Servers as host:port, tried in turn.
    pub servers: Vec<String>,
    /// The name in the server's certificate.
    pub server_name: String,
    /// Heartbeat interval until the server sets another; for a gateway, the time between batches.
    pub interval: Duration,
    /// Frames that a sensor keeps while it can't send.
    pub backlog_frames: usize,
    /// Bytes that a gateway keeps while it can't send.
    pub backlog_bytes: usize,
    /// Waits before connecting again.
    pub back_off: BackOffPolicy,
    /// The first connection is made at a random moment within this time.
    pub start_spread: Duration,
    /// For many clients of one process: first connections are made in turn, as many at once as this allows, so
    /// that those which are up keep their time. `None`: at once.
    pub turns: Option<Arc<Semaphore>>,
    /// Where the identity is kept: the server may have the certificate renewed there, and the trust bundle. `None`:
    /// nothing is kept, and the server is told so.
    pub identity_dir: Option<PathBuf>,
    /// Seed of all jitter; `None` takes the system's chance.
    pub seed: Option<u64>,
}

impl ClientConfig {
    /// For one server, everything else as in production.
    pub fn new(server: impl Into<String>, server_name: impl Into<String>) -> ClientConfig {
        ClientConfig {
            servers: vec![server.into()],
            server_name: server_name.into(),
            interval: INTERVAL_DEFAULT,
            backlog_frames: BACKLOG_FRAMES,
            backlog_bytes: GATEWAY_BACKLOG_BYTES,
            back_off: BackOffPolicy::default(),
            start_spread: Duration::ZERO,
            turns: None,
            identity_dir: None,
            seed: None,
        }
    }
}

/// A running client. Dropping it closes the connection without a goodbye.
#[derive(Debug)]
pub struct Client {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<LinkReport>,
    task: JoinHandle<()>,
    clock: SystemClock,
    kind: Kind,
}

/// Gives a running client another certificate.
#[derive(Clone, Debug)]
pub(super) struct Renewer {
    commands: mpsc::Sender<Command>,
    clock: SystemClock,
    kind: Kind,
}

impl Renewer {
    /// As [`Client::renew`].
    pub(super) async fn renew(&self, identity: &ClientIdentity) -> Result<(), ClientError> {
        let identity = Box::new(transport::identity(identity, self.kind, self.clock)?);
        self.commands.send(Command::Identity(identity)).await.map_err(|_| ClientError::Stopped)
    }
}

impl Client {
    /// Starts a sensor's client on a socket (its own, or a shared one), inside a tokio runtime.
    pub fn start(
        config: ClientConfig,
        identity: &ClientIdentity,
        socket: &Socket,
        clock: SystemClock,
        source: impl Source,
    ) -> Result<Client, ClientError> {
        let carrier = Backlog::new(source, config.backlog_frames);
        Client::spawn(config, identity, socket, clock, carrier, Kind::Sensor)
    }

    /// Starts a gateway's client: one stream, batches of many sensors.
    pub fn start_gateway(
        config: ClientConfig,
        identity: &ClientIdentity,
        socket: &Socket,
        clock: SystemClock,
        source: impl BatchSource,
    ) -> Result<Client, ClientError> {
        let carrier = Batches::new(source, config.backlog_bytes);
        Client::spawn(config, identity, socket, clock, carrier, Kind::Gateway)
    }

    fn spawn(
        config: ClientConfig,
        identity: &ClientIdentity,
        socket: &Socket,
        clock: SystemClock,
        carrier: impl Carrier,
        kind: Kind,
    ) -> Result<Client, ClientError> {
        if config.servers.is_empty() {
            return Err(ClientError::NoServer);
        }
        let identity = transport::identity(identity, kind, clock)?;
        let (link, commands, report) = Link::new(config, identity, socket.clone(), clock, carrier);
        Ok(Client { commands, report, task: tokio::spawn(link.run()), clock, kind })
    }

    /// How it does now.
    pub fn report(&self) -> LinkReport {
        self.report.borrow().clone()
    }

    /// To be told of every change.
    pub fn watch(&self) -> watch::Receiver<LinkReport> {
        self.report.clone()
    }

    /// Waits until it is connected; false when it was stopped.
    pub async fn connected(&self) -> bool {
        let mut report = self.report.clone();
        let up = |report: &LinkReport| matches!(report.state, LinkState::Up | LinkState::Stopped);
        report.wait_for(up).await.is_ok_and(|report| report.state == LinkState::Up)
    }

    /// Uses another certificate from now on: closes the connection and comes back with it at once.
    pub async fn renew(&self, identity: &ClientIdentity) -> Result<(), ClientError> {
        self.renewer().renew(identity).await
    }

    /// For who renews on its behalf.
    pub(super) fn renewer(&self) -> Renewer {
        Renewer { commands: self.commands.clone(), clock: self.clock, kind: self.kind }
    }

    /// Planned stop: a last heartbeat that says so (and whether this is a restart), then a clean close. A
    /// sensor without a connection just stops.
    pub async fn goodbye(self, restart: bool) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Goodbye { restart, done }).await.is_ok() {
            let _ = wait.await;
        }
        let _ = self.task.await;
    }

    /// Closes without a last heartbeat.
    pub async fn stop(self) {
        let (done, wait) = oneshot::channel();
        if self.commands.send(Command::Stop { done }).await.is_ok() {
            let _ = wait.await;
        }
        let _ = self.task.await;
    }
}
