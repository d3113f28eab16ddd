//! One connection kept up for ever: connect, beat, obey, lose it, wait, connect again.
//!
//! The same loop serves sensors and gateways; what is sent, and how, is the [`Carrier`]'s. Heartbeats are
//! made on schedule whether there is a connection or not, so that their numbers and ages stay true.

use std::future::Future;
use std::time::Duration;

use quinn::{Connection, VarInt};
use tokio::sync::{mpsc, oneshot, watch};

use super::back_off::{BackOff, Loss};
use super::client::ClientConfig;
use super::control::{self, Asked, Control, Request};
use super::dice::Dice;
use super::schedule::Schedule;
use super::socket::Socket;
use super::source::Beat;
use super::transport::{self, Identity, Kind};
use crate::identity::{ClientIdentity, IdentityFolder};
use crate::limits::{CONNECT_TIMEOUT, GOODBYE_TIMEOUT, INTERVAL_MAX, INTERVAL_MIN};
use crate::time::{Clock, MonoNanos, SystemClock};
use crate::wire::close::CloseCode;
use crate::wire::control::{FromSensor, ToSensor};

/// How the connection does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Smoothed round-trip time; `None` while there is no connection.
    pub rtt_us: Option<u32>,
    /// Connections made.
    pub connects: u32,
    /// Connections that were lost and made again.
    pub reconnects: u32,
    /// Frames that could not be sent: no room to keep them, or too old.
    pub send_failures: u32,
    /// Frames handed to the transport.
    pub sent: u64,
    /// Frames that wait for a connection, or for room.
    pub waiting: u32,
    /// Generation of the trust bundle in use.
    pub trust_generation: u32,
}

/// Where the link stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// Shaking hands.
    Connecting,
    /// Connected.
    Up,
    /// Waiting until this instant before it connects again.
    Waiting {
        /// When it tries.
        until: MonoNanos,
    },
    /// Stopped for good.
    Stopped,
}

/// What a link tells about itself; changes are seen through a watch.
#[derive(Clone, Debug)]
pub struct LinkReport {
    /// Where it stands.
    pub state: LinkState,
    /// Its counts.
    pub stats: LinkStats,
    /// The interval in force.
    pub interval: Duration,
    /// Why the last connection, or attempt, ended.
    pub last_loss: Option<Loss>,
}

/// What a link carries.
pub(super) trait Carrier: Send + 'static {
    /// Makes what is due now and keeps it until it is sent.
    fn make(&mut self, beat: &Beat, stats: &mut LinkStats);
    /// A connection is new: nothing of the old one is left.
    fn connected(&mut self);
    /// Sends what is kept, as far as the connection takes it.
    fn flush(
        &mut self,
        connection: &Connection,
        now: MonoNanos,
        stats: &mut LinkStats,
    ) -> impl Future<Output = Result<(), Loss>> + Send;
    /// Makes a last word before a planned stop.
    fn goodbye(&mut self, beat: &Beat, restart: bool, stats: &mut LinkStats);
    /// Whether the server may set its interval.
    fn takes_interval(&self) -> bool;
}

pub(super) enum Command {
    Goodbye { restart: bool, done: oneshot::Sender<()> },
    Stop { done: oneshot::Sender<()> },
    Identity(Box<Identity>),
}

enum Next<T> {
    Done(T),
    Stopped,
    /// Something changed that makes waiting pointless.
    Hurry,
}

enum End {
    Lost(Loss),
    Stopped,
}

pub(super) struct Link<C> {
    config: ClientConfig,
    quic: quinn::ClientConfig,
    socket: Socket,
    clock: SystemClock,
    carrier: C,
    commands: mpsc::Receiver<Command>,
    report: watch::Sender<LinkReport>,
    schedule: Schedule,
    back_off: BackOff,
    dice: Dice,
    stats: LinkStats,
    last_loss: Option<Loss>,
    come_back: Option<MonoNanos>,
    server: usize,
    kind: Kind,
}

impl<C: Carrier> Link<C> {
    pub(super) fn new(
        config: ClientConfig,
        identity: Identity,
        socket: Socket,
        clock: SystemClock,
        carrier: C,
    ) -> (Link<C>, mpsc::Sender<Command>, watch::Receiver<LinkReport>) {
        let (commands, receive) = mpsc::channel(4);
        let interval = config.interval;
        let (report, watch) = watch::channel(LinkReport {
            state: LinkState::Connecting,
            stats: LinkStats::default(),
            interval,
            last_loss: None,
        });
        let stats = LinkStats { trust_generation: identity.trust_generation, ..LinkStats::default() };
        let dice = config.seed.map_or_else(Dice::unseeded, Dice::new);
        let link = Link {
            schedule: Schedule::new(interval, clock.mono()),
            back_off: BackOff::new(config.back_off),
            config,
            quic: identity.quic,
            socket,
            clock,
            carrier,
            commands: receive,
            report,
            dice,
            stats,
            last_loss: None,
            come_back: None,
            server: 0,
            kind: identity.kind,
        };
        (link, commands, watch)
    }

    pub(super) async fn run(mut self) {
        let spread = self.dice.duration(self.config.start_spread);
        let mut wait = spread;
        loop {
            if !wait.is_zero() {
                let until = self.clock.mono().plus(wait);
                self.say(LinkState::Waiting { until });
                let instant = self.clock.instant_of(until);
                if let Next::Stopped = self.while_beating(tokio::time::sleep_until(instant.into())).await {
                    break;
                }
            }
            self.say(LinkState::Connecting);
            let turns = self.config.turns.clone().filter(|_| self.stats.connects == 0);
            let connecting = connect(
                self.socket.clone(),
                self.quic.clone(),
                self.config.servers.get(self.server % self.config.servers.len().max(1)).cloned(),
                self.config.server_name.clone(),
            );
            let connecting = async move {
                // A closed semaphore has no turns to give: then nobody waits.
                let _turn = match &turns {
                    Some(turns) => turns.acquire().await.ok(),
                    None => None,
                };
                connecting.await
            };
            let (loss, up) = match self.while_beating(connecting).await {
                Next::Stopped => break,
                Next::Hurry => (Loss::Ourselves, Duration::ZERO),
                Next::Done(Err(loss)) => (loss, Duration::ZERO),
                Next::Done(Ok(connection)) => {
                    let began = self.clock.mono();
                    let end = self.session(&connection).await;
                    let up = self.clock.mono().since(began);
                    match end {
                        End::Stopped => break,
                        End::Lost(loss) => (loss, up),
                    }
                }
            };
            tracing::debug!(%loss, "no connection");
            self.stats.rtt_us = None;
            self.server = self.server.wrapping_add(1);
            wait = self.back_off.after(&loss, up, &mut self.dice);
            if let Some(at) = self.come_back.take() {
                // A hint makes no wait shorter: who was refused, or replaced, has a reason of its own to stay away.
                wait = wait.max(at.since(self.clock.mono()));
            }
            self.last_loss = Some(loss);
        }
        self.say(LinkState::Stopped);
    }

    fn say(&self, state: LinkState) {
        self.report.send_replace(LinkReport {
            state,
            stats: self.stats,
            interval: self.schedule.interval(),
            last_loss: self.last_loss.clone(),
        });
    }

    fn beat(&mut self) {
        let beat = self.now();
        self.carrier.make(&beat, &mut self.stats);
        self.schedule.made(beat.now.mono, &mut self.dice);
    }

    fn now(&self) -> Beat {
        Beat { now: self.clock.now(), interval: self.schedule.interval(), link: self.stats }
    }

    fn due(&self) -> tokio::time::Instant {
        self.clock.instant_of(self.schedule.next()).into()
    }

    /// Waits without a connection: heartbeats are made and kept.
    async fn while_beating<T>(&mut self, work: impl Future<Output = T>) -> Next<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Next::Done(done),
                () = tokio::time::sleep_until(self.due()) => self.beat(),
                command = self.commands.recv() => match command {
                    Some(Command::Goodbye { done, .. } | Command::Stop { done }) => {
                        let _ = done.send(());
                        return Next::Stopped;
                    }
                    Some(Command::Identity(identity)) => {
                        self.take_identity(*identity);
                        return Next::Hurry;
                    }
                    None => return Next::Stopped,
                },
            }
        }
    }

    async fn session(&mut self, connection: &Connection) -> End {
        self.stats.connects += 1;
        self.stats.reconnects = self.stats.connects - 1;
        self.stats.rtt_us = Some(micros(connection.rtt()));
        self.carrier.connected();
        self.say(LinkState::Up);
        let mut control = Control::default();
        let closed = connection.closed();
        tokio::pin!(closed);
        if let Err(loss) = self.flush(connection).await {
            return End::Lost(loss);
        }
        loop {
            tokio::select! {
                error = &mut closed => return End::Lost(error.into()),
                () = tokio::time::sleep_until(self.due()) => {
                    self.stats.rtt_us = Some(micros(connection.rtt()));
                    self.beat();
                    if let Err(loss) = self.flush(connection).await {
                        return End::Lost(loss);
                    }
                    self.say(LinkState::Up);
                }
                asked = control.next(connection) => match asked {
                    Asked::Request(request) => self.obey(request, &mut control),
                    Asked::Renewed(identity) => self.renewed(&identity),
                },
                command = self.commands.recv() => match command {
                    Some(Command::Goodbye { restart, done }) => {
                        self.say_goodbye(connection, restart).await;
                        let _ = done.send(());
                        return End::Stopped;
                    }
                    Some(Command::Stop { done }) => {
                        connection.close(VarInt::from_u32(CloseCode::Goodbye.code()), b"");
                        let _ = done.send(());
                        return End::Stopped;
                    }
                    Some(Command::Identity(identity)) => {
                        self.take_identity(*identity);
                        connection.close(VarInt::from_u32(CloseCode::Goodbye.code()), b"new certificate");
                        return End::Lost(Loss::Ourselves);
                    }
                    None => return End::Stopped,
                },
            }
        }
    }

    fn take_identity(&mut self, identity: Identity) {
        self.quic = identity.quic;
        self.stats.trust_generation = identity.trust_generation;
    }

    async fn flush(&mut self, connection: &Connection) -> Result<(), Loss> {
        self.carrier.flush(connection, self.clock.mono(), &mut self.stats).await
    }

    /// The identity was replaced on the server's word. The connection stays; the next one uses it.
    fn renewed(&mut self, identity: &ClientIdentity) {
        match transport::identity(identity, self.kind, self.clock) {
            Ok(identity) => self.take_identity(identity),
            Err(error) => {
                tracing::error!(%error, "the new certificate can't be used for the next connection")
            }
        }
        self.say(LinkState::Up);
    }

    fn obey(&mut self, request: Request, control: &mut Control) {
        let answer = match &request.message {
            None => FromSensor::NotUnderstood { of: Default::default() },
            Some(message) => {
                let of = control::of(message);
                match message {
                    ToSensor::Ping { .. } => FromSensor::Done { of },
                    ToSensor::Renew { .. } | ToSensor::Certificate { .. } => {
                        if let Some(folder) = &self.config.identity_dir {
                            return control.keep(request, IdentityFolder::new(folder));
                        }
                        FromSensor::Refused { of, reason: "this program keeps no certificates".to_owned() }
                    }
                    ToSensor::SetInterval { interval_ms, .. } => {
                        let interval = Duration::from_millis(u64::from(*interval_ms));
                        if !self.carrier.takes_interval() {
                            FromSensor::Refused {
                                of,
                                reason: "a gateway's sensors keep their own".to_owned(),
                            }
                        } else if !(INTERVAL_MIN..=INTERVAL_MAX).contains(&interval) {
                            let reason = format!("valid is {INTERVAL_MIN:?} to {INTERVAL_MAX:?}");
                            FromSensor::Refused { of, reason }
                        } else {
                            self.schedule.set_interval(interval, self.clock.mono(), &mut self.dice);
                            self.say(LinkState::Up);
                            FromSensor::Done { of }
                        }
                    }
                    ToSensor::ComeBack { after_ms, .. } => {
                        self.come_back = Some(self.clock.mono().plus(control::come_back(*after_ms)));
                        FromSensor::Done { of }
                    }
                }
            }
        };
        control.answer(request, answer);
    }

    /// Sends the last word, waits until it is acknowledged (or long enough), and closes.
    async fn say_goodbye(&mut self, connection: &Connection, restart: bool) {
        let beat = self.now();
        self.carrier.goodbye(&beat, restart, &mut self.stats);
        let before = connection.stats();
        if self.flush(connection).await.is_ok() {
            let acknowledged = async {
                loop {
                    let now = connection.stats();
                    let out = now.udp_tx.datagrams > before.udp_tx.datagrams;
                    if out && now.frame_rx.acks > before.frame_rx.acks {
                        return;
                    }
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            let _ = tokio::time::timeout(GOODBYE_TIMEOUT, acknowledged).await;
        }
        connection.close(VarInt::from_u32(CloseCode::Goodbye.code()), b"goodbye");
    }
}

pub(super) async fn connect(
    socket: Socket,
    quic: quinn::ClientConfig,
    server: Option<String>,
    name: String,
) -> Result<Connection, Loss> {
    let server = server.ok_or_else(|| Loss::Address("no server is set".to_owned()))?;
    let attempt = async {
        let mut addresses = tokio::net::lookup_host(&server)
            .await
            .map_err(|error| Loss::Address(format!("{server}: {error}; write it as host:port")))?;
        let address = addresses.next().ok_or_else(|| Loss::Address(format!("{server} has no address")))?;
        let connecting = socket
            .endpoint()
            .connect_with(quic, address, &name)
            .map_err(|error| Loss::Address(format!("{server}: {error}")))?;
        connecting.await.map_err(Loss::from)
    };
    tokio::time::timeout(CONNECT_TIMEOUT, attempt).await.unwrap_or(Err(Loss::TimedOut))
}

fn micros(duration: Duration) -> u32 {
    // The largest value means "not known".
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX - 1).min(u32::MAX - 1)
}
