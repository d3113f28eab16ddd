//! The QUIC server: takes heartbeats off the wire and writes them into live state.
//!
//! A **shard** is one thread with one socket, one QUIC endpoint and its connections ([`shard`](self)); the
//! kernel steers each packet to the shard that its connection id names (`steer`). A connection is the QUIC
//! state machine of `quinn-proto` beside a **session** (`session`), which knows who the peer is and what its
//! frames mean, without any I/O. From outside, shards are reached through bounded inboxes only
//! ([`ShardCommand`]).
//!
//! Why our own loop and not an asynchronous endpoint: measured. A lone heartbeat of one in 10,000
//! connections costs half the CPU and two thirds of the memory (the map's section "hot path"). The price is
//! that sockets, timers and sending are ours to keep right.
//!
//! What is done per heartbeat: one buffer for the packet, allocated by us because QUIC keeps it; what
//! `quinn-proto` allocates inside; and nothing else: from the datagram to the slot there is no allocation,
//! lock, queue or log line of ours.
//!
//! The enrolment port is a shard of its own with other settings, without steering and without sessions (`enrol`).

mod admission;
mod budget;
mod check;
mod command;
mod connection;
mod counters;
mod drops;
mod enrol;
mod housekeeping;
mod keys;
mod receive;
mod renewable;
mod sendmmsg;
mod session;
mod shard;
mod socket;
mod sockopt;
mod steer;
mod timers;
mod tls;
mod transport;

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use mio::{Poll, Waker};
use quinn_proto::crypto::HandshakeTokenKey;
use quinn_proto::{Endpoint, ServerConfig};

pub use check::RegisterCheck;
pub use command::{ControlFailure, ControlReply, DrainPlan, InboxError, ShardCommand};
pub use counters::{
    Count, CountersSnapshot, EnrolOutcome, HANDSHAKE_FAILURES, IngestCounters, Lag, LagSnapshot,
    ShardCounters,
};
pub use enrol::{EnrolJudge, EnrolVerdict, NoEnrolment};
pub use keys::IngestKeys;
pub use renewable::{Renewable, Wanted};
pub use session::{Began, Env, GatewaySession, LeafCheck, SensorSession, Session};

use admission::PeerLog;
use command::{Inbox, Inboxes, inbox};
use enrol::Enrolments;
use shard::{Shard, ShardParts, WAKER};
use socket::Socket;

use crate::identity::{Serial, ServerTls};
use crate::limits;
use crate::live::{LiveState, OwnerRef};
use crate::time::{MonoNanos, SystemClock};
use crate::wire::close::CloseCode;

/// How to listen.
#[derive(Clone, Debug)]
pub struct IngestConfig {
    /// Main port.
    pub listen: SocketAddr,
    /// Enrolment port.
    pub enrol_listen: SocketAddr,
    /// Threads, one socket each.
    pub shards: usize,
    /// Connections that one shard takes.
    pub connections_per_shard: usize,
    /// Receive buffer asked of the kernel for each socket.
    pub receive_buffer_bytes: usize,
    /// Interval that sensors are told to keep when they keep another; `None`: theirs.
    pub interval: Option<Duration>,
}

impl IngestConfig {
    /// One shard on free ports of the loopback address: for tests.
    pub fn loopback() -> IngestConfig {
        IngestConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            enrol_listen: ([127, 0, 0, 1], 0).into(),
            shards: 1,
            connections_per_shard: limits::CONNECTIONS_PER_SHARD_DEFAULT,
            receive_buffer_bytes: limits::SOCKET_BUFFER_BYTES,
            interval: None,
        }
    }
}

/// What ingest works with.
#[derive(Clone)]
pub struct IngestParts {
    /// Where frames go.
    pub live: Arc<LiveState>,
    /// TLS of both ports.
    pub tls: ServerTls,
    /// Keys that all shards share and that outlive a restart.
    pub keys: IngestKeys,
    /// Judges certificates after every handshake.
    pub check: Arc<dyn LeafCheck>,
    /// Judges enrolments.
    pub enrol: Arc<dyn EnrolJudge>,
    /// The one clock.
    pub clock: SystemClock,
    /// Number of this node.
    pub node: u16,
}

/// Why ingest can't start or reload.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// A socket.
    #[error("UDP {address}: {error}")]
    Bind {
        /// Which address.
        address: SocketAddr,
        /// What the kernel said.
        error: io::Error,
    },
    /// Another socket operation.
    #[error("UDP socket: {0}")]
    Socket(io::Error),
    /// The TLS configuration does not do for QUIC.
    #[error("TLS configuration does not do for QUIC: {0}")]
    Tls(String),
    /// A QUIC setting.
    #[error("QUIC setting: {0}")]
    Quic(String),
    /// A thread can't be started.
    #[error("thread: {0}")]
    Thread(io::Error),
    /// More shards or connections than there may be.
    #[error("{what} must be 1 to {max}, not {value}")]
    Range {
        /// Of what.
        what: &'static str,
        /// What was asked for.
        value: usize,
        /// The most.
        max: usize,
    },
}

/// Which port a shard serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Main,
    Enrolment,
}

/// Signs of life of a shard.
#[derive(Debug, Default)]
struct Pulse {
    last_turn: AtomicU64,
    gone: AtomicBool,
}

/// The TLS configuration that new handshakes use. Published once for all shards: the moment the generation
/// rises, whoever accepts next takes the new one. Handshakes in flight finish with the one they began with.
struct SharedTls {
    generation: AtomicU64,
    configs: Mutex<(Arc<ServerConfig>, Arc<ServerConfig>)>,
}

impl SharedTls {
    fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Locked only when the generation changed: once a shard and reload.
    fn current(&self, role: Role) -> (Arc<ServerConfig>, u64) {
        let configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        let config = match role {
            Role::Main => &configs.0,
            Role::Enrolment => &configs.1,
        };
        (Arc::clone(config), self.generation())
    }

    fn publish(&self, main: Arc<ServerConfig>, enrolment: Arc<ServerConfig>) -> u64 {
        let mut configs = self.configs.lock().unwrap_or_else(PoisonError::into_inner);
        *configs = (main, enrolment);
        self.generation.fetch_add(1, Ordering::Release) + 1
    }
}

/// Signs of life of one shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardHealth {
    /// Number of the shard; the enrolment port is the last.
    pub shard: usize,
    /// Its thread runs.
    pub alive: bool,
    /// When its loop last completed a turn; at most 0.2 s ago while it is well.
    pub last_turn: MonoNanos,
}

/// The running server side of QUIC. Dropping it stops it.
pub struct Ingest {
    local_addr: SocketAddr,
    enrol_addr: SocketAddr,
    counters: Arc<IngestCounters>,
    inboxes: Inboxes,
    enrolment: Inboxes,
    pulses: Vec<Arc<Pulse>>,
    tls: Arc<SharedTls>,
    token_key: Arc<dyn HandshakeTokenKey>,
    interval_ms: Arc<AtomicU32>,
    wanted: Arc<Mutex<Wanted>>,
    renewals: crossbeam::channel::Receiver<Renewable>,
    node: u16,
    threads: Mutex<Vec<JoinHandle<()>>>,
    /// Kept until all threads ended: a socket that closes alone would shift the others' places.
    _group: steer::Group,
}

impl std::fmt::Debug for Ingest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ingest").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

impl Ingest {
    /// Binds both ports and starts the threads.
    pub fn start(config: &IngestConfig, parts: &IngestParts) -> Result<Ingest, IngestError> {
        range("ingest.shards", config.shards, limits::SHARDS_MAX)?;
        range(
            "ingest.connections_per_shard",
            config.connections_per_shard,
            limits::CONNECTIONS_PER_SHARD_MAX,
        )?;
        let bind = |address: SocketAddr| move |error: io::Error| IngestError::Bind { address, error };
        let buffer = config.receive_buffer_bytes;
        let group = steer::Group::bind(config.listen, config.shards, buffer).map_err(bind(config.listen))?;
        let enrol_socket =
            steer::bind_single(config.enrol_listen, buffer).map_err(bind(config.enrol_listen))?;
        let enrol_addr = enrol_socket.local_addr().map_err(IngestError::Socket)?;

        let token_key = keys::token_key(&parts.keys);
        let main = transport::server_config(Role::Main, &parts.tls.main, &token_key)?;
        let enrolment = transport::server_config(Role::Enrolment, &parts.tls.enrol, &token_key)?;
        let tls =
            Arc::new(SharedTls { generation: AtomicU64::new(1), configs: Mutex::new((main, enrolment)) });
        let interval =
            config.interval.map_or(0, |interval| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX));
        let (sender, renewals) = crossbeam::channel::bounded(limits::RENEWALS_WAITING);
        let builder = Builder {
            parts,
            counters: Arc::new(IngestCounters::new(config.shards)),
            tls: Arc::clone(&tls),
            interval_ms: Arc::new(AtomicU32::new(interval)),
            wanted: Arc::default(),
            renewals: sender,
            log: PeerLog::default(),
        };

        let (main_ends, inboxes) = ends(config.shards)?;
        let (enrolment_ends, enrolment_inboxes) = ends(1)?;
        let sockets = group.handles().map_err(IngestError::Socket)?;
        let mut shards = Vec::with_capacity(config.shards + 1);
        for (number, (socket, end)) in sockets.into_iter().zip(main_ends).enumerate() {
            shards.push(builder.shard(
                Role::Main,
                number,
                config.shards,
                config.connections_per_shard,
                socket,
                end,
                &inboxes,
            )?);
        }
        let (jobs, asked) = crossbeam::channel::bounded(limits::ENROL_QUEUE);
        for end in enrolment_ends {
            let socket = enrol_socket.try_clone().map_err(IngestError::Socket)?;
            let most = limits::ENROL_PLACES_MAX;
            let mut shard = builder.shard(Role::Enrolment, 0, 1, most, socket, end, &enrolment_inboxes)?;
            shard.p.enrolments = Some(Enrolments::new(jobs.clone()));
            shards.push(shard);
        }
        // The judge ends with the last who can ask it.
        drop(jobs);

        let mut ingest = Ingest {
            local_addr: group.address(),
            enrol_addr,
            counters: builder.counters,
            inboxes,
            enrolment: enrolment_inboxes,
            pulses: Vec::new(),
            tls,
            token_key,
            interval_ms: builder.interval_ms,
            wanted: builder.wanted,
            renewals,
            node: parts.node,
            threads: Mutex::new(Vec::new()),
            _group: group,
        };
        for (number, shard) in shards.into_iter().enumerate() {
            let pulse = Arc::clone(&shard.p.pulse);
            ingest.pulses.push(Arc::clone(&pulse));
            let name =
                if number < config.shards { format!("shard-{number}") } else { "enrolment".to_owned() };
            let thread = std::thread::Builder::new().name(name).spawn(move || {
                let _gone = Gone(pulse);
                shard.run();
            });
            let threads = ingest.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
            threads.push(thread.map_err(IngestError::Thread)?);
        }
        let (judge, inboxes, clock) = (Arc::clone(&parts.enrol), ingest.enrolment.clone(), parts.clock);
        let judge = std::thread::Builder::new()
            .name("enrol-judge".to_owned())
            .spawn(move || enrol::run(&asked, &judge, &inboxes, &clock));
        let threads = ingest.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        threads.push(judge.map_err(IngestError::Thread)?);
        Ok(ingest)
    }

    /// The main port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// The enrolment port.
    pub fn enrol_addr(&self) -> SocketAddr {
        self.enrol_addr
    }

    /// Number of shards of the main port.
    pub fn shards(&self) -> usize {
        self.inboxes.len()
    }

    /// The live counts.
    pub fn counters(&self) -> Arc<IngestCounters> {
        Arc::clone(&self.counters)
    }

    /// Gives a command to one shard. Never waits.
    pub fn post(&self, shard: usize, command: ShardCommand) -> Result<(), InboxError> {
        self.inboxes.post(shard, command)
    }

    fn post_all(&self, command: &ShardCommand) -> Result<(), InboxError> {
        // All are told, also after one that can't be.
        let posted = (0..self.inboxes.len()).map(|shard| self.inboxes.post(shard, command.clone()));
        posted.fold(Ok(()), Result::and)
    }

    /// Closes connections, each for its own reason: one command for each shard that has any of them. What this
    /// node does not have is left out. A shard that has no room for the command judges all its connections again
    /// instead: it closes those that the [`LeafCheck`] refuses by now, within a second or so, and the error says that
    /// the others stay.
    pub fn close(&self, connections: &[(OwnerRef, CloseCode)]) -> Result<(), InboxError> {
        let mut closed = Ok(());
        for shard in 0..self.inboxes.len() {
            let here = |owner: &OwnerRef| owner.node == self.node && usize::from(owner.shard) == shard;
            let of_shard: Vec<_> = connections.iter().filter(|(owner, _)| here(owner)).copied().collect();
            if of_shard.is_empty() {
                continue;
            }
            let posted = self.post(shard, ShardCommand::CloseConnections(of_shard));
            if posted.is_err() {
                self.inboxes.ask_recheck(shard);
            }
            closed = closed.and(posted);
        }
        closed
    }

    /// New handshakes use these from now on, on all shards; connections stay. Returns the new generation.
    pub fn reload_tls(&self, tls: &ServerTls) -> Result<u64, IngestError> {
        let main = transport::server_config(Role::Main, &tls.main, &self.token_key)?;
        let enrolment = transport::server_config(Role::Enrolment, &tls.enrol, &self.token_key)?;
        Ok(self.tls.publish(main, enrolment))
    }

    /// Closes all connections that came with these certificates. That they don't come back is up to the
    /// [`LeafCheck`], so revoke there first.
    pub fn revoke(&self, serials: impl IntoIterator<Item = Serial>) -> Result<(), InboxError> {
        let serials: Arc<HashSet<Serial>> = Arc::new(serials.into_iter().collect());
        self.post_all(&ShardCommand::Revoke(serials))
    }

    /// Judges every connection's certificate again: after sensors were deleted or changed their state.
    pub fn recheck(&self) {
        (0..self.inboxes.len()).for_each(|shard| self.inboxes.ask_recheck(shard));
    }

    /// Sensors that keep another heartbeat interval are told to keep this one, unless their policy says another.
    /// `None`: let them.
    pub fn set_interval(&self, interval: Option<Duration>) {
        let millis = interval.map_or(0, |interval| u32::try_from(interval.as_millis()).unwrap_or(u32::MAX));
        self.interval_ms.store(millis, Ordering::Relaxed);
    }

    /// Peers that hold an older trust bundle than this, or a certificate by another authority, are reported.
    pub fn want(&self, wanted: Wanted) {
        *self.wanted.lock().unwrap_or_else(PoisonError::into_inner) = wanted;
    }

    /// Connected peers that need a new certificate or trust bundle, each now and then until it has it.
    pub fn renewals(&self) -> crossbeam::channel::Receiver<Renewable> {
        self.renewals.clone()
    }

    /// Sends everybody away, each told when to come back, and takes nobody in. See [`Ingest::drained`].
    pub fn drain(&self, plan: DrainPlan) -> Result<(), InboxError> {
        self.post_all(&ShardCommand::Drain(plan))
    }

    /// True when no sensor or gateway is connected.
    pub fn drained(&self) -> bool {
        self.counters.shards.iter().all(|shard| shard.sensors.get() + shard.gateways.get() == 0)
    }

    /// Signs of life of every shard, the enrolment port last.
    pub fn shard_health(&self) -> Vec<ShardHealth> {
        self.pulses
            .iter()
            .enumerate()
            .map(|(shard, pulse)| ShardHealth {
                shard,
                alive: !pulse.gone.load(Ordering::Acquire),
                last_turn: MonoNanos(pulse.last_turn.load(Ordering::Relaxed)),
            })
            .collect()
    }

    /// Closes what is left and waits for the threads.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for inboxes in [&self.inboxes, &self.enrolment] {
            for shard in 0..inboxes.len() {
                // A full inbox empties; a shard that is gone needs no telling.
                while inboxes.post(shard, ShardCommand::Stop) == Err(InboxError::Full(shard)) {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        }
        for thread in threads {
            // A thread that panicked said so itself; `shard_health` shows it.
            let _ = thread.join();
        }
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Marks a shard as gone, however its thread ends.
struct Gone(Arc<Pulse>);

impl Drop for Gone {
    fn drop(&mut self) {
        self.0.gone.store(true, Ordering::Release);
    }
}

fn range(what: &'static str, value: usize, max: usize) -> Result<(), IngestError> {
    if (1..=max).contains(&value) { Ok(()) } else { Err(IngestError::Range { what, value, max }) }
}

type End = (Poll, crossbeam::channel::Receiver<ShardCommand>);

/// Polls and inboxes of so many shards, and the sending ends together.
fn ends(count: usize) -> Result<(Vec<End>, Inboxes), IngestError> {
    let mut ends = Vec::with_capacity(count);
    let mut senders = Vec::with_capacity(count);
    for _ in 0..count {
        let poll = Poll::new().map_err(IngestError::Socket)?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(IngestError::Socket)?;
        let (sender, receiver) = inbox();
        senders.push(Inbox { sender, waker, recheck: AtomicBool::new(false) });
        ends.push((poll, receiver));
    }
    Ok((ends, Inboxes::new(senders)))
}

struct Builder<'a> {
    parts: &'a IngestParts,
    counters: Arc<IngestCounters>,
    tls: Arc<SharedTls>,
    interval_ms: Arc<AtomicU32>,
    wanted: Arc<Mutex<Wanted>>,
    renewals: crossbeam::channel::Sender<Renewable>,
    log: PeerLog,
}

impl Builder<'_> {
    #[expect(clippy::too_many_arguments, reason = "called in two places, with what differs between them")]
    fn shard(
        &self,
        role: Role,
        number: usize,
        shards: usize,
        connections_max: usize,
        socket: std::net::UdpSocket,
        (poll, inbox): End,
        peers: &Inboxes,
    ) -> Result<Shard, IngestError> {
        let parts = self.parts;
        let counters = match role {
            Role::Main => Arc::clone(&self.counters.shards[number]),
            Role::Enrolment => Arc::clone(&self.counters.enrolment),
        };
        let (server_config, generation) = self.tls.current(role);
        let reset_key = keys::hmac_key(&parts.keys.reset);
        // Both fit: `range` was asked before.
        let endpoint_config = transport::endpoint_config(number as u8, shards as u8, &reset_key)?;
        let endpoint =
            Endpoint::new(Arc::new(endpoint_config), Some(Arc::clone(&server_config)), false, None);
        let mut shard = Shard::new(
            ShardParts {
                role,
                number: number as u8,
                node: parts.node,
                connections_max,
                endpoint,
                socket: Socket::new(socket, &counters).map_err(IngestError::Socket)?,
                poll,
                inbox,
                peers: peers.clone(),
                live: Arc::clone(&parts.live),
                check: Arc::clone(&parts.check),
                counters,
                pulse: Arc::default(),
                tls: Arc::clone(&self.tls),
                interval_ms: Arc::clone(&self.interval_ms),
                wanted: Arc::clone(&self.wanted),
                renewals: self.renewals.clone(),
                log: self.log.clone(),
                clock: parts.clock,
                enrolments: None,
            },
            server_config,
            generation,
        );
        shard.register()?;
        Ok(shard)
    }
}
