//! Load on a server: as many connections as asked, heartbeats by the clock, and honest counts. What the
//! command `load` and the end-to-end bench drive.
//!
//! Why not [`Client`](super::Client) once for each: a client keeps a task, a timer, a backlog and a watch, so
//! the client's core is full long before the server's is. Here one loop knows when each connection is due
//! and one task serves a gateway; the QUIC connections, TLS settings and frames are the library's own.
//!
//! **The schedule does not wait for anybody.** A heartbeat that can't be sent when it is due is counted as
//! such, a loop that comes late says how late ([`Beaten::schedule_lag`]); nothing is left out of the count
//! because something before it took long (no "coordinated omission").
//!
//! What it does not do: reconnect by itself, keep heartbeats for later, obey control messages (it gives the
//! server no credit for their streams).

mod beat;
mod peer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{Connection, VarInt};

pub use beat::{Beaten, GatewayRate};
pub use peer::{Carried, LoadPeer};

use self::peer::Prepared;
use super::client::ClientError;
use super::socket::Socket;
use crate::limits::CONNECT_TIMEOUT;
use crate::time::{Clock, MonoNanos, SystemClock};
use crate::wire::close::CloseCode;

/// Connections on one UDP socket: their acknowledgements of one second fit into its receive buffer.
const CONNECTIONS_PER_SOCKET: usize = 2_500;
/// Tries of one connection before it is given up.
const TRIES: u32 = 5;

/// Counts that others may read while load runs.
#[derive(Debug, Default)]
pub struct LoadCounts {
    /// Handshakes completed.
    pub connected: AtomicU64,
    /// Of those, the ones in which the server asked for the certificate: full handshakes. The rest resumed.
    pub full_handshakes: AtomicU64,
    /// Tries to connect that failed.
    pub failed: AtomicU64,
    /// Frames handed to QUIC.
    pub sent: AtomicU64,
    /// Frames that were due and could not be handed over: no connection, or no room.
    pub not_sent: AtomicU64,
    /// Histograms take note while this is set.
    pub measuring: AtomicBool,
    /// Load ends when this is set.
    pub stop: AtomicBool,
}

/// Where load goes.
#[derive(Clone, Debug)]
pub struct LoadTarget {
    /// The server.
    pub server: SocketAddr,
    /// The name in its certificate.
    pub server_name: String,
    /// The one clock.
    pub clock: SystemClock,
    /// Handshakes at once.
    pub handshakes_at_once: usize,
}

/// How connecting went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Connected {
    /// Connections that are up.
    pub up: usize,
    /// Why others are not: the last reason.
    pub last_error: Option<String>,
    /// Time it took.
    pub took: Duration,
}

/// A set of connections that one thread drives. Everything here must be called inside one current-thread
/// runtime.
pub struct LoadDriver {
    target: LoadTarget,
    sockets: Vec<Socket>,
    peers: Vec<Prepared>,
    connections: Vec<Option<Connection>>,
    trips: Vec<beat::Trip>,
    counts: Arc<LoadCounts>,
}

impl LoadDriver {
    /// Reads the identities; connects nobody yet.
    pub fn new(
        target: LoadTarget,
        peers: Vec<LoadPeer>,
        counts: Arc<LoadCounts>,
    ) -> Result<LoadDriver, ClientError> {
        let sockets = peers.len().div_ceil(CONNECTIONS_PER_SOCKET).max(1);
        let sockets = (0..sockets).map(|_| Socket::bind()).collect::<Result<Vec<_>, _>>()?;
        let now = target.clock.mono();
        let peers = peers
            .into_iter()
            .map(|peer| Prepared::new(peer, target.clock, now, &counts))
            .collect::<Result<Vec<_>, _>>()?;
        let connections = peers.iter().map(|_| None).collect();
        let trips = vec![beat::Trip::default(); peers.len()];
        Ok(LoadDriver { target, sockets, peers, connections, trips, counts })
    }

    /// Connections that it keeps.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// True when it has nobody to connect.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Forgets session tickets: the next handshakes are full ones.
    pub fn forget_tickets(&mut self) -> Result<(), ClientError> {
        self.peers.iter_mut().try_for_each(|peer| peer.forget_ticket(self.target.clock, &self.counts))
    }

    /// Makes all connections, so many handshakes at once, the next as soon as one is done.
    pub async fn connect(&mut self) -> Connected {
        let began = self.target.clock.mono();
        let jobs: Vec<_> = self.peers.iter().map(|peer| peer.quic.clone()).collect();
        let shared = Arc::new(Connecting {
            jobs,
            next: AtomicUsize::new(0),
            sockets: self.sockets.clone(),
            target: self.target.clone(),
            counts: Arc::clone(&self.counts),
        });
        let workers = self.target.handshakes_at_once.clamp(1, self.peers.len().max(1));
        let mut workers: tokio::task::JoinSet<_> = (0..workers).map(|_| Arc::clone(&shared).work()).collect();
        let mut connected = Connected::default();
        while let Some(done) = workers.join_next().await {
            let Ok((made, error)) = done else { continue };
            for (place, connection) in made {
                self.connections[place] = Some(connection);
                self.trips[place] = beat::Trip::default();
            }
            connected.last_error = error.or(connected.last_error);
        }
        connected.up = self.connections.iter().flatten().count();
        connected.took = self.target.clock.mono().since(began);
        connected
    }

    /// Closes all connections, as a sensor does that is stopped, and waits until the server was told.
    pub async fn disconnect(&mut self) {
        for connection in self.connections.iter_mut().filter_map(Option::take) {
            connection.close(VarInt::from_u32(CloseCode::Goodbye.code()), b"");
        }
        for socket in &self.sockets {
            // What a full buffer swallowed the server finds out by itself.
            let _ = tokio::time::timeout(Duration::from_secs(5), socket.wait_idle()).await;
        }
    }

    async fn sleep_until(&self, at: MonoNanos) {
        tokio::time::sleep_until(self.target.clock.instant_of(at).into()).await;
    }
}

/// What the tasks that connect share.
struct Connecting {
    jobs: Vec<quinn::ClientConfig>,
    next: AtomicUsize,
    sockets: Vec<Socket>,
    target: LoadTarget,
    counts: Arc<LoadCounts>,
}

type Made = (Vec<(usize, Connection)>, Option<String>);

impl Connecting {
    /// Takes one peer after the other until none is left.
    async fn work(self: Arc<Connecting>) -> Made {
        let (mut made, mut last_error) = (Vec::new(), None);
        loop {
            let place = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(quic) = self.jobs.get(place) else { return (made, last_error) };
            for _ in 0..TRIES {
                match self.one(place, quic.clone()).await {
                    Ok(connection) => {
                        self.counts.connected.fetch_add(1, Ordering::Relaxed);
                        made.push((place, connection));
                        break;
                    }
                    Err(error) => {
                        self.counts.failed.fetch_add(1, Ordering::Relaxed);
                        last_error = Some(error);
                    }
                }
            }
        }
    }

    async fn one(&self, place: usize, quic: quinn::ClientConfig) -> Result<Connection, String> {
        let socket = &self.sockets[place % self.sockets.len()];
        let connecting = socket
            .endpoint()
            .connect_with(quic, self.target.server, &self.target.server_name)
            .map_err(|error| error.to_string())?;
        match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {CONNECT_TIMEOUT:?}")),
        }
    }
}
