//! One shard: one thread, one socket, one QUIC endpoint, its connections, its inbox, its timers.
//!
//! A turn of the loop: wait; take packets in batches, and for each batch let every connection that got one
//! handle and answer it at once, while its state is in the cache; then timers, a few handshake steps,
//! commands, and once in a while housekeeping. Established connections always come first: the work of a
//! handshake (30 times that of a heartbeat) waits in a bounded queue and gets a few steps each turn.
//!
//! One clock reading for each batch serves all its frames; one more at its end gives the lag.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crossbeam::channel::Receiver;
use mio::{Events, Interest, Poll, Token};
use quinn_proto::{ConnectionEvent, ConnectionHandle, Endpoint, EndpointEvent, Incoming, ServerConfig};

use super::admission::{HalfOpen, PeerLog, Source};
use super::command::{Inboxes, ShardCommand};
use super::connection::{Conn, Left, Phase, Said, Step};
use super::counters::{HANDSHAKE_FAILURES, ShardCounters, handshake_failure};
use super::enrol::Enrolments;
use super::housekeeping::{Draining, Round};
use super::renewable::Renewable;
use super::session::{Env, LeafCheck};
use super::socket::Socket;
use super::timers::Timers;
use super::{IngestError, Pulse, Role, SharedTls};
use crate::limits::{
    COMMANDS_PER_TURN, CONTROL_TIMEOUT, ENROL_TIMEOUT, HANDSHAKE_STEPS_PER_TURN, HANDSHAKE_TIMEOUT,
    SENDS_PER_TURN,
};
use crate::live::{LiveState, OwnerRef, Receipt};
use crate::time::{Clock, MonoNanos, SystemClock};
use crate::wire::close::CloseCode;

const SOCKET: Token = Token(0);
pub(super) const WAKER: Token = Token(1);
/// Housekeeping rhythm; also how stale [`super::Pulse::last_turn`] can be at most while the shard lives.
pub(super) const TICK: Duration = Duration::from_millis(200);
const TIMERS_PER_TURN: usize = 1_024;

/// What a shard is made of.
pub(super) struct ShardParts {
    pub role: Role,
    pub number: u8,
    pub node: u16,
    pub connections_max: usize,
    pub endpoint: Endpoint,
    pub socket: Socket,
    pub poll: Poll,
    pub inbox: Receiver<ShardCommand>,
    pub peers: Inboxes,
    pub live: Arc<LiveState>,
    pub check: Arc<dyn LeafCheck>,
    pub counters: Arc<ShardCounters>,
    pub pulse: Arc<Pulse>,
    pub tls: Arc<SharedTls>,
    pub interval_ms: Arc<std::sync::atomic::AtomicU32>,
    /// What peers should hold.
    pub wanted: Arc<std::sync::Mutex<super::renewable::Wanted>>,
    /// Where peers are reported that need a new certificate or trust bundle.
    pub renewals: crossbeam::channel::Sender<Renewable>,
    pub log: PeerLog,
    pub clock: SystemClock,
    /// Of the enrolment port.
    pub enrolments: Option<Enrolments>,
}

#[expect(
    clippy::large_enum_variant,
    reason = "the large one is nearly all of them, and a box for each is an allocation more"
)]
pub(super) enum Work {
    Accept(Box<Incoming>),
    Packet(u32, ConnectionEvent),
}

pub(super) struct Shard {
    pub(super) p: ShardParts,
    pub(super) conns: Vec<Option<Box<Conn>>>,
    pub(super) uses: Vec<u16>,
    pub(super) timers: Timers,
    pub(super) dirty: Vec<u32>,
    pub(super) spare: Vec<u32>,
    pub(super) work: VecDeque<Work>,
    pub(super) accepts_waiting: usize,
    /// Accepted or waiting for it.
    pub(super) half_open: HalfOpen,
    /// Handshake timeouts, in the order in which they come; all take the same time.
    pub(super) handshakes_due: VecDeque<(MonoNanos, u32)>,
    /// Control timeouts, likewise.
    pub(super) controls_due: VecDeque<(MonoNanos, u32, u64)>,
    /// The same for come-back hints, whose time is shorter.
    pub(super) drains_due: VecDeque<(MonoNanos, u32, u64)>,
    /// When connections to the enrolment port have to be over, likewise.
    pub(super) enrolments_due: VecDeque<(MonoNanos, u32)>,
    /// Connections to the enrolment port that are over, oldest first. Some are forgotten already.
    pub(super) closing: VecDeque<u32>,
    pub(super) scratch: Vec<u8>,
    pub(super) left: Left,
    pub(super) server_config: Arc<ServerConfig>,
    pub(super) tls_generation: u64,
    pub(super) draining: Option<Draining>,
    pub(super) look_cursor: usize,
    pub(super) recheck: Round,
    pub(super) readable: bool,
    /// For how long packets gather before a turn reads them.
    pub(super) gather: Duration,
    pub(super) packets_before: u64,
    pub(super) next_tick: MonoNanos,
    pub(super) last_tick: MonoNanos,
    pub(super) deaf_until: MonoNanos,
    /// Until then packets were lost in our receive buffer; the largest value: it is not empty yet.
    pub(super) unheard_until: MonoNanos,
    /// The socket was last seen empty then: what is read comes in after this.
    pub(super) emptied: MonoNanos,
    pub(super) stop: bool,
}

const PLACE_BITS: u32 = 20;

fn place_of(key: u32) -> usize {
    (key & ((1 << PLACE_BITS) - 1)) as usize
}

impl Shard {
    pub(super) fn new(parts: ShardParts, server_config: Arc<ServerConfig>, tls_generation: u64) -> Shard {
        parts.counters.tls_generation.set(tls_generation);
        Shard {
            conns: Vec::new(),
            uses: Vec::new(),
            timers: Timers::default(),
            dirty: Vec::new(),
            spare: Vec::new(),
            work: VecDeque::new(),
            accepts_waiting: 0,
            half_open: HalfOpen::new(),
            handshakes_due: VecDeque::new(),
            controls_due: VecDeque::new(),
            drains_due: VecDeque::new(),
            enrolments_due: VecDeque::new(),
            closing: VecDeque::new(),
            scratch: Vec::with_capacity(2_048),
            left: Left::default(),
            server_config,
            tls_generation,
            draining: None,
            look_cursor: 0,
            recheck: Round::default(),
            readable: true,
            gather: Duration::ZERO,
            packets_before: 0,
            next_tick: MonoNanos::NEVER,
            last_tick: MonoNanos::NEVER,
            deaf_until: MonoNanos::NEVER,
            unheard_until: MonoNanos::NEVER,
            emptied: MonoNanos::NEVER,
            stop: false,
            p: parts,
        }
    }

    /// Registers socket and waker. Before the thread starts, so that an error is told to who starts it.
    pub(super) fn register(&mut self) -> Result<(), IngestError> {
        let interest = Interest::READABLE | Interest::WRITABLE;
        self.p.poll.registry().register(self.p.socket.source(), SOCKET, interest).map_err(IngestError::Socket)
    }

    /// The loop; returns when told to stop.
    pub(super) fn run(mut self) {
        let mut events = Events::with_capacity(8);
        while !self.stop {
            let before = self.p.clock.mono();
            let mut wait = self.wait(before);
            if !self.gather.is_zero() && !wait.is_zero() {
                std::thread::sleep(self.gather.min(wait));
                wait = Duration::ZERO;
            }
            if let Err(error) = self.p.poll.poll(&mut events, Some(wait))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(shard = self.p.number, %error, "a shard's poll failed; the shard ends");
                return;
            }
            for event in &events {
                if event.token() == SOCKET {
                    self.readable |= event.is_readable() || event.is_error();
                    if event.is_writable() {
                        self.p.socket.writable(&self.p.counters);
                    }
                }
            }
            if !self.readable {
                // By the clock before the poll: whatever stops us after it, nothing had come by then.
                self.emptied = before;
            }
            self.turn();
        }
        self.finish();
    }

    fn wait(&self, now: MonoNanos) -> Duration {
        let busy = self.readable
            || !self.work.is_empty()
            || self.recheck.goes_on()
            || !self.p.inbox.is_empty()
            || (!self.dirty.is_empty() && !self.p.socket.blocked());
        if busy {
            return Duration::ZERO;
        }
        let next = self.timers.next().map_or(self.next_tick, |timer| timer.min(self.next_tick));
        next.since(now)
    }

    fn turn(&mut self) {
        self.p.counters.turns.add(1);
        let mut now = self.p.clock.mono();
        if self.readable {
            self.after_a_pause(now);
            now = self.receive(now);
        }
        self.fire_timers(now);
        self.handshakes(now);
        self.commands(now);
        if now >= self.next_tick {
            self.next_tick = now.plus(TICK);
            self.tick(now);
        }
        self.recheck(now);
        self.settle(now);
        self.tidy(now);
        self.p.counters.connections.set(self.p.endpoint.open_connections() as u64);
        self.p.counters.half_open.set(self.half_open.all() as u64);
        self.p.pulse.last_turn.store(now.0, Ordering::Relaxed);
    }

    // ------------------------------------------------------------ handshakes

    fn handshakes(&mut self, now: MonoNanos) {
        for _ in 0..HANDSHAKE_STEPS_PER_TURN {
            match self.work.pop_front() {
                None => return,
                Some(Work::Accept(incoming)) => {
                    self.accepts_waiting -= 1;
                    self.accept(*incoming, now);
                }
                Some(Work::Packet(key, event)) => {
                    if let Some(place) = self.find(key)
                        && let Some(conn) = self.conns[place as usize].as_deref_mut()
                    {
                        conn.quic.handle_event(event);
                        self.step(place, now, |_, _| ());
                    }
                }
            }
        }
    }

    fn accept(&mut self, incoming: Incoming, now: MonoNanos) {
        self.refresh_tls();
        let remote = incoming.remote_address();
        let source = Source::of(remote.ip());
        let instant = self.p.clock.instant_of(now);
        self.scratch.clear();
        let config = Some(Arc::clone(&self.server_config));
        match self.p.endpoint.accept(incoming, instant, &mut self.scratch, config) {
            Ok((handle, quic)) => {
                let place = handle.0;
                if self.conns.len() <= place {
                    self.conns.resize_with(place + 1, || None);
                    self.uses.resize(place + 1, 0);
                }
                self.conns[place] = Some(Box::new(Conn::new(quic, source)));
                let key = self.key(place);
                self.handshakes_due.push_back((now.plus(HANDSHAKE_TIMEOUT), key));
                if self.p.role == Role::Enrolment {
                    self.enrolments_due.push_back((now.plus(ENROL_TIMEOUT), key));
                }
                self.step(place as u32, now, |_, _| ());
            }
            Err(error) => {
                self.half_open.end(source);
                let place = handshake_failure(&error.cause);
                self.p.counters.refused_early.add(1);
                self.p.counters.handshake_failures[place].add(1);
                self.left.said.push((remote, Said::HandshakeFailed(HANDSHAKE_FAILURES[place])));
                if let Some(transmit) = error.response {
                    self.p.socket.send(transmit, &self.scratch, &self.p.counters);
                }
            }
        }
    }

    /// New handshakes use the newest TLS configuration from the moment it was published, on every shard.
    pub(super) fn refresh_tls(&mut self) {
        if self.tls_generation != self.p.tls.generation() {
            let (config, generation) = self.p.tls.current(self.p.role);
            self.p.endpoint.set_server_config(Some(Arc::clone(&config)));
            self.server_config = config;
            self.tls_generation = generation;
            self.p.counters.tls_generation.set(generation);
        }
    }

    // ------------------------------------------------------------ connections

    pub(super) fn key(&self, place: usize) -> u32 {
        u32::from(self.uses[place] & 0xfff) << PLACE_BITS | place as u32
    }

    /// The place of a connection, unless somebody else has it by now.
    pub(super) fn find(&self, key: u32) -> Option<u32> {
        let place = place_of(key);
        let here = self.conns.get(place)?.is_some() && self.key(place) == key;
        here.then_some(place as u32)
    }

    /// Lets `act` work on a connection, and remembers that it may have something to handle and to send.
    pub(super) fn step<T>(
        &mut self,
        place: u32,
        now: MonoNanos,
        act: impl FnOnce(&mut Conn, &mut Step<'_>) -> T,
    ) -> Option<T> {
        let key = self.key(place as usize);
        let receipt = Receipt { at: now, after: self.emptied, unheard_until: self.unheard_until };
        let conn = self.conns.get_mut(place as usize).and_then(Option::as_deref_mut)?;
        let mut step = Step {
            env: Env { live: &self.p.live, counters: &self.p.counters, receipt },
            instant: self.p.clock.instant_of(now),
            role: self.p.role,
            owner: OwnerRef { node: self.p.node, shard: self.p.number, connection: key },
            check: &*self.p.check,
            clock: &self.p.clock,
            draining: self.draining.is_some(),
            enrolments: self.p.enrolments.as_mut(),
            left: &mut self.left,
        };
        let before = conn.phase;
        let result = act(conn, &mut step);
        if before == Phase::HalfOpen && conn.phase != Phase::HalfOpen {
            self.half_open.end(conn.source);
        }
        if self.p.role == Role::Enrolment && before != Phase::Closed && conn.phase == Phase::Closed {
            self.closing.push_back(key);
        }
        if !conn.dirty {
            conn.dirty = true;
            self.dirty.push(place);
        }
        Some(result)
    }

    /// Everything that connections of the dirty list have to handle, say, send, and wait for.
    pub(super) fn settle(&mut self, now: MonoNanos) {
        let mut list = std::mem::replace(&mut self.dirty, std::mem::take(&mut self.spare));
        for &place in &list {
            self.settle_one(place, now);
        }
        list.clear();
        self.spare = list;
        self.p.socket.flush(&self.p.counters);
    }

    fn settle_one(&mut self, place: u32, now: MonoNanos) {
        self.step(place, now, Conn::drive);
        if self.endpoint_events(place) {
            return;
        }
        let instant = self.p.clock.instant_of(now);
        let Some(conn) = self.conns[place as usize].as_deref_mut() else { return };
        conn.dirty = false;
        let mut finished = false;
        for _ in 0..SENDS_PER_TURN {
            if self.p.socket.blocked() {
                break;
            }
            self.scratch.clear();
            let Some(transmit) = conn.quic.poll_transmit(instant, 1, &mut self.scratch) else {
                finished = true;
                break;
            };
            self.p.socket.send(transmit, &self.scratch, &self.p.counters);
        }
        if let Some(deadline) = conn.quic.poll_timeout() {
            self.timers.arm(&mut conn.armed, place, self.p.clock.mono_of(deadline));
        }
        conn.dirty = !finished;
        if !finished {
            self.dirty.push(place);
        }
    }

    /// `true`: the connection is gone.
    fn endpoint_events(&mut self, place: u32) -> bool {
        let handle = ConnectionHandle(place as usize);
        loop {
            let Some(conn) = self.conns[place as usize].as_deref_mut() else { return true };
            let Some(event) = conn.quic.poll_endpoint_events() else { return false };
            let drained = event.is_drained();
            if let Some(event) = self.p.endpoint.handle_event(handle, event) {
                conn.quic.handle_event(event);
            }
            if drained {
                self.forget(place);
                return true;
            }
        }
    }

    /// Drops a connection without a word, as an idle timeout does. Later packets get a stateless reset.
    pub(super) fn drop_silently(&mut self, place: u32, now: MonoNanos) {
        self.step(place, now, Conn::over);
        self.p.endpoint.handle_event(ConnectionHandle(place as usize), EndpointEvent::drained());
        self.forget(place);
    }

    /// The place in the dirty list stays and is skipped: [`Shard::settle_one`] finds nobody, or the next
    /// one there, for whom a look too many is harmless.
    fn forget(&mut self, place: u32) {
        self.conns[place as usize] = None;
        self.uses[place as usize] = self.uses[place as usize].wrapping_add(1);
    }

    // ------------------------------------------------------------ timers

    fn fire_timers(&mut self, now: MonoNanos) {
        let instant = self.p.clock.instant_of(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some((place, at)) = self.timers.due(now) else { return };
            let Some(conn) = self.conns.get_mut(place as usize).and_then(Option::as_deref_mut) else {
                continue;
            };
            Timers::came_up(&mut conn.armed, at);
            match conn.quic.poll_timeout() {
                Some(deadline) if deadline <= instant => {
                    conn.quic.handle_timeout(instant);
                    if !conn.dirty {
                        conn.dirty = true;
                        self.dirty.push(place);
                    }
                }
                Some(deadline) => self.timers.arm(&mut conn.armed, place, self.p.clock.mono_of(deadline)),
                None => {}
            }
        }
    }

    // ------------------------------------------------------------ commands

    fn commands(&mut self, now: MonoNanos) {
        for _ in 0..COMMANDS_PER_TURN {
            let Ok(command) = self.p.inbox.try_recv() else { return };
            self.p.counters.commands.add(1);
            match command {
                ShardCommand::CloseConnection { owner, code } => self.close_owner(owner, code, now),
                ShardCommand::CloseConnections(connections) => {
                    for (owner, code) in connections {
                        self.close_owner(owner, code, now);
                    }
                }
                ShardCommand::Revoke(serials) => {
                    let revoked =
                        |conn: &Conn| conn.session.serial().is_some_and(|serial| serials.contains(serial));
                    self.close_where(now, CloseCode::CertificateRevoked, revoked);
                }
                ShardCommand::Control { owner, message, reply } => match self.find(owner.connection) {
                    Some(place) => {
                        self.control(place, now, |conn, step| conn.control(&message, reply, None, step))
                    }
                    None => super::connection::answer(reply, Err(super::ControlFailure::NotConnected)),
                },
                ShardCommand::Kept { owner, trust_generation, leaf } => {
                    if let Some(place) = self.find(owner.connection) {
                        self.step(place, now, |conn, step| conn.kept(trust_generation, leaf, step));
                    }
                }
                ShardCommand::Enrolled(verdict) => {
                    if let Some(enrolments) = &mut self.p.enrolments {
                        enrolments.answered(verdict.source);
                    }
                    if let Some(place) = self.find(verdict.owner.connection) {
                        self.step(place, now, |conn, step| conn.enrolment_answer(&verdict.answer, step));
                    }
                }
                ShardCommand::Drain(plan) => {
                    let total = self.conns.len();
                    self.draining.get_or_insert(Draining { plan, since: now, cursor: 0, total });
                }
                ShardCommand::Stop => {
                    self.stop = true;
                    return;
                }
            }
        }
    }

    pub(super) fn control(
        &mut self,
        place: u32,
        now: MonoNanos,
        act: impl FnOnce(&mut Conn, &mut Step<'_>) -> Option<u64>,
    ) {
        if let Some(number) = self.step(place, now, act).flatten() {
            let key = self.key(place as usize);
            self.controls_due.push_back((now.plus(CONTROL_TIMEOUT), key, number));
        }
    }
}
