//! The fleet at work: one connection a sensor, and a script that is played on it.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::kind::FaultKind;
use super::plan::{Plan, PlannedFault, Standing};
use super::sensor::{Script, SimSensor};
use crate::identity::{ClientIdentity, PeerIdentity};
use crate::limits::PEER_CERTIFICATE_LIFE;
use crate::sensor::back_off::BackOffPolicy;
use crate::sensor::client::{Client, ClientConfig, ClientError};
use crate::sensor::gateway::Batch;
use crate::sensor::link::LinkState;
use crate::sensor::socket::{Socket, Switch};
use crate::sensor::source::Beat;
use crate::time::{Clock, MonoNanos, SystemClock};

/// Makes a certificate for a simulated peer that lives this long.
pub type Issue = dyn Fn(PeerIdentity, Duration) -> Result<ClientIdentity, String> + Send + Sync;

/// A certificate that is about to run out.
const SHORT_LIFE: Duration = Duration::from_secs(86_400);
/// How long the other machine with the same key has been running when it appears.
const TWIN_UPTIME: Duration = Duration::from_secs(3_600);
/// A demonstration has minutes, not hours.
const BACK_OFF: BackOffPolicy = BackOffPolicy {
    first: Duration::from_millis(300),
    max: Duration::from_secs(5),
    replaced: Duration::from_secs(12),
    refused: Duration::from_secs(5),
};
/// Time between two looks at whether the script stands still.
const HELD_EVERY: Duration = Duration::from_millis(200);
/// Heartbeats that a simulated sensor keeps without a connection.
const BACKLOG: usize = 64;

/// Where the fleet connects to, and how.
#[derive(Clone)]
pub struct FleetConfig {
    /// The server as host:port.
    pub server: String,
    /// The name in its certificate.
    pub server_name: String,
    /// The clock that all instants are told by; share the engine's.
    pub clock: SystemClock,
    /// Makes certificates.
    pub issue: Arc<Issue>,
    /// Sensors on one UDP socket.
    pub sensors_per_socket: usize,
    /// Sensors connect spread over this time.
    pub connect_spread: Duration,
    /// First connections that are made at once. More than the machine can work on only makes those sensors late
    /// that are connected already, and then they are truly silent.
    pub connect_at_once: usize,
    /// Seed of everything random.
    pub seed: u64,
}

impl FleetConfig {
    /// As a demonstration needs it: 500 sensors a socket, a thousand connections a second.
    pub fn new(
        server: impl Into<String>,
        server_name: impl Into<String>,
        clock: SystemClock,
        issue: Arc<Issue>,
        sensors: usize,
    ) -> FleetConfig {
        FleetConfig {
            server: server.into(),
            server_name: server_name.into(),
            clock,
            issue,
            sensors_per_socket: 500,
            connect_spread: Duration::from_millis(sensors as u64),
            connect_at_once: 32,
            seed: 1,
        }
    }
}

/// A fleet could not be started, or a fault not be played.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A client could not be started.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// No UDP socket.
    #[error("no UDP socket: {0}")]
    Socket(#[from] io::Error),
    /// No certificate.
    #[error("no certificate for {identity}: {problem}")]
    Certificate {
        /// For whom.
        identity: PeerIdentity,
        /// Why not.
        problem: String,
    },
}

/// When a fault was played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Played {
    /// Its place in [`Plan::faults`].
    pub fault: usize,
    /// Its begin.
    pub started: MonoNanos,
    /// Its end, before anything is undone; `None` = it lasts.
    pub ended: Option<MonoNanos>,
}

/// The fleet's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FleetStats {
    /// Connections that are up (sensors and gateways).
    pub connected: usize,
    /// Connections that should be.
    pub wanted: usize,
    /// Frames handed to the transport.
    pub sent: u64,
    /// Connections lost and made again.
    pub reconnects: u64,
    /// Frames that could not be sent.
    pub send_failures: u64,
}

/// A connected fleet.
pub struct Fleet {
    plan: Arc<Plan>,
    config: FleetConfig,
    script: Script,
    sockets: Vec<Socket>,
    cut: HashMap<u64, Socket>,
    next_socket: usize,
    /// By place in the plan.
    clients: Vec<Option<Client>>,
    gateways: Vec<Option<Client>>,
    relayed: Vec<Arc<Mutex<Vec<SimSensor>>>>,
    twins: HashMap<usize, Client>,
    identities: HashMap<usize, ClientIdentity>,
    gateway_identities: Vec<ClientIdentity>,
    turns: Arc<Semaphore>,
    played: Vec<Played>,
}

impl Fleet {
    /// Makes certificates and starts every client, inside a tokio runtime. Sensors connect by themselves;
    /// see [`Fleet::connected`].
    pub fn start(plan: Plan, config: FleetConfig) -> Result<Fleet, FleetError> {
        let script = Script { faults: plan.faults.clone().into(), active: Arc::new(AtomicU64::new(0)) };
        let now = config.clock.mono();
        let direct = plan.sensors.iter().filter(|sensor| sensor.gateway.is_none()).count();
        let count = direct.div_ceil(config.sensors_per_socket.max(1)).max(1);
        let sockets = (0..count).map(|_| Socket::bind()).collect::<Result<Vec<_>, _>>()?;
        let mut fleet = Fleet {
            relayed: plan.gateways.iter().map(|_| Arc::default()).collect(),
            clients: plan.sensors.iter().map(|_| None).collect(),
            gateways: Vec::new(),
            plan: Arc::new(plan),
            turns: Arc::new(Semaphore::new(config.connect_at_once.max(1))),
            config,
            script,
            sockets,
            cut: HashMap::new(),
            next_socket: 0,
            twins: HashMap::new(),
            identities: HashMap::new(),
            gateway_identities: Vec::new(),
            played: Vec::new(),
        };
        let plan = fleet.plan.clone();
        for (place, sensor) in plan.sensors.iter().enumerate() {
            if sensor.standing != Standing::Active {
                continue;
            }
            if let Some(gateway) = sensor.gateway {
                let simulated = fleet.simulated(place, now);
                lock(&fleet.relayed[gateway]).push(simulated);
                continue;
            }
            let identity = fleet.issue(PeerIdentity::Sensor(sensor.id), PEER_CERTIFICATE_LIFE)?;
            let client = fleet.sensor_client(place, &identity, now, fleet.config.connect_spread)?;
            fleet.clients[place] = Some(client);
            if sensor.faults != 0 {
                fleet.identities.insert(place, identity);
            }
        }
        for (place, gateway) in plan.gateways.iter().enumerate() {
            let identity = fleet.issue(PeerIdentity::Gateway(gateway.id), PEER_CERTIFICATE_LIFE)?;
            let client = fleet.gateway_client(place, &identity)?;
            fleet.gateways.push(Some(client));
            fleet.gateway_identities.push(identity);
        }
        Ok(fleet)
    }

    /// The plan that it plays.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Waits until all are connected, at most this long; returns how many are.
    pub async fn connected(&self, most: Duration) -> usize {
        let all = async {
            for client in self.clients.iter().chain(&self.gateways).flatten() {
                client.connected().await;
            }
        };
        let _ = tokio::time::timeout(most, all).await;
        self.stats().connected
    }

    /// Its counts now.
    pub fn stats(&self) -> FleetStats {
        let mut stats = FleetStats::default();
        for client in self.clients.iter().chain(&self.gateways).flatten() {
            let report = client.report();
            stats.wanted += 1;
            stats.connected += usize::from(report.state == LinkState::Up);
            stats.sent += report.stats.sent;
            stats.reconnects += u64::from(report.stats.reconnects);
            stats.send_failures += u64::from(report.stats.send_failures);
        }
        stats
    }

    /// What was played so far.
    pub fn played(&self) -> &[Played] {
        &self.played
    }

    /// The clients' cables by the faults that pull them, for tests.
    pub fn switches(&self) -> impl Iterator<Item = (u64, &Switch)> {
        self.cut.iter().map(|(faults, socket)| (*faults, socket.switch()))
    }

    /// Plays the script from now to its end, telling each begin and end as it happens.
    pub async fn play(&mut self, tell: impl FnMut(&PlannedFault, &Played)) -> Result<(), FleetError> {
        self.play_held(|| Duration::ZERO, tell).await
    }

    /// Plays the script, which stands still now and then: `held` says for how long it has done so altogether.
    /// A demonstration holds it while the engine doubts itself, since no silence is judged then.
    pub async fn play_held(
        &mut self,
        held: impl Fn() -> Duration,
        mut tell: impl FnMut(&PlannedFault, &Played),
    ) -> Result<(), FleetError> {
        let plan = self.plan.clone();
        let start = self.config.clock.mono();
        let mut steps: Vec<(Duration, bool, usize)> = Vec::new();
        for (place, fault) in plan.faults.iter().enumerate() {
            steps.push((fault.from, true, place));
            if let Some(until) = fault.until {
                steps.push((until, false, place));
            }
        }
        // At the same instant what ends comes first.
        steps.sort_by_key(|(at, begins, place)| (*at, *begins, *place));
        for (at, begins, place) in steps {
            self.sleep_until(start.plus(at), &held).await;
            let now = self.config.clock.mono();
            let fault = &plan.faults[place];
            if begins {
                self.played.push(Played { fault: place, started: now, ended: None });
                self.begin(place, fault).await?;
            } else {
                // What it did may be undone from here on: some connections are back before others.
                if let Some(played) = self.played.iter_mut().find(|played| played.fault == place) {
                    played.ended = Some(now);
                }
                self.end(place, fault).await?;
            }
            if let Some(played) = self.played.iter().find(|played| played.fault == place) {
                tell(fault, played);
            }
        }
        self.sleep_until(start.plus(plan.duration), &held).await;
        Ok(())
    }

    /// Ends all clients, without goodbyes.
    pub async fn stop(mut self) {
        let clients = self.clients.drain(..).chain(self.gateways.drain(..)).flatten();
        let clients: Vec<_> = clients.chain(self.twins.drain().map(|(_, twin)| twin)).collect();
        for client in clients {
            client.stop().await;
        }
    }

    /// Until the script is at this instant. How long it is held is asked again now and then, also after the
    /// last wait: a suspended process wakes up with everything due.
    async fn sleep_until(&self, at: MonoNanos, held: &impl Fn() -> Duration) {
        loop {
            let due = at.plus(held());
            let now = self.config.clock.mono();
            if due <= now {
                return;
            }
            let next = due.min(now.plus(HELD_EVERY));
            tokio::time::sleep_until(self.config.clock.instant_of(next).into()).await;
        }
    }

    async fn begin(&mut self, place: usize, fault: &PlannedFault) -> Result<(), FleetError> {
        match fault.kind {
            FaultKind::Disconnect | FaultKind::SiteOutage => self.cables(place, false),
            FaultKind::Goodbye | FaultKind::PlannedRestart => {
                let restart = fault.kind == FaultKind::PlannedRestart;
                let clients: Vec<_> =
                    fault.sensors.iter().filter_map(|sensor| self.clients[*sensor].take()).collect();
                let leaving: Vec<_> =
                    clients.into_iter().map(|client| tokio::spawn(client.goodbye(restart))).collect();
                for left in leaving {
                    let _ = left.await;
                }
            }
            FaultKind::CertificateExpiring => self.renew(fault, SHORT_LIFE).await?,
            FaultKind::DuplicateIdentity => {
                let booted = self.config.clock.mono().minus(TWIN_UPTIME);
                for sensor in &fault.sensors {
                    if let Some(identity) = self.identities.get(sensor).cloned() {
                        let twin = self.sensor_client(*sensor, &identity, booted, Duration::ZERO)?;
                        self.twins.insert(*sensor, twin);
                    }
                }
            }
            FaultKind::GatewaySilent => {
                if let Some(client) = fault.gateway.and_then(|gateway| self.gateways[gateway].take()) {
                    client.stop().await;
                }
            }
            _ => {
                self.script.active.fetch_or(1 << place, Ordering::Relaxed);
            }
        }
        Ok(())
    }

    async fn end(&mut self, place: usize, fault: &PlannedFault) -> Result<(), FleetError> {
        match fault.kind {
            FaultKind::Disconnect | FaultKind::SiteOutage => self.cables(place, true),
            FaultKind::Goodbye | FaultKind::PlannedRestart => {
                for sensor in &fault.sensors {
                    if let Some(identity) = self.identities.get(sensor).cloned() {
                        let now = self.config.clock.mono();
                        self.clients[*sensor] =
                            Some(self.sensor_client(*sensor, &identity, now, Duration::ZERO)?);
                    }
                }
            }
            FaultKind::CertificateExpiring => self.renew(fault, PEER_CERTIFICATE_LIFE).await?,
            FaultKind::DuplicateIdentity => {
                for sensor in &fault.sensors {
                    if let Some(twin) = self.twins.remove(sensor) {
                        twin.stop().await;
                    }
                    // The one that was pushed out would wait on.
                    if let (Some(client), Some(identity)) =
                        (&self.clients[*sensor], self.identities.get(sensor))
                        && client.report().state != LinkState::Up
                    {
                        client.renew(identity).await?;
                    }
                }
            }
            FaultKind::GatewaySilent => {
                if let Some(gateway) = fault.gateway {
                    let identity = self.gateway_identities[gateway].clone();
                    self.gateways[gateway] = Some(self.gateway_client(gateway, &identity)?);
                }
            }
            _ => {
                self.script.active.fetch_and(!(1 << place), Ordering::Relaxed);
            }
        }
        Ok(())
    }

    fn cables(&self, fault: usize, connected: bool) {
        for (_, socket) in self.cut.iter().filter(|(faults, _)| *faults & 1 << fault != 0) {
            socket.switch().set(connected);
        }
    }

    async fn renew(&mut self, fault: &PlannedFault, life: Duration) -> Result<(), FleetError> {
        for sensor in &fault.sensors {
            let identity = self.issue(PeerIdentity::Sensor(self.plan.sensors[*sensor].id), life)?;
            if let Some(client) = &self.clients[*sensor] {
                client.renew(&identity).await?;
            }
            self.identities.insert(*sensor, identity);
        }
        Ok(())
    }

    fn issue(&self, identity: PeerIdentity, life: Duration) -> Result<ClientIdentity, FleetError> {
        (self.config.issue)(identity, life).map_err(|problem| FleetError::Certificate { identity, problem })
    }

    fn simulated(&self, place: usize, booted: MonoNanos) -> SimSensor {
        let sensor = &self.plan.sensors[place];
        // Another boot, another seed: else it would get the boot id that it had.
        let seed = self.config.seed ^ booted.0;
        SimSensor::new(sensor.id, place, sensor.kind, sensor.faults, self.script.clone(), booted, seed)
    }

    fn sensor_client(
        &mut self,
        place: usize,
        identity: &ClientIdentity,
        booted: MonoNanos,
        spread: Duration,
    ) -> Result<Client, FleetError> {
        let socket = self.socket(place)?;
        let simulated = self.simulated(place, booted);
        let config = self.client_config(place as u64, spread);
        Ok(Client::start(config, identity, &socket, self.config.clock, simulated)?)
    }

    fn gateway_client(&self, gateway: usize, identity: &ClientIdentity) -> Result<Client, FleetError> {
        let sensors = self.relayed[gateway].clone();
        let source = move |beat: &Beat, batch: &mut Batch| {
            for sensor in lock(&sensors).iter_mut() {
                if let Some(mut heartbeat) = sensor.make(beat) {
                    heartbeat.interval_ms = u32::try_from(beat.interval.as_millis()).unwrap_or(u32::MAX);
                    batch.push(&heartbeat, 0);
                }
            }
        };
        let config = self.client_config(u64::MAX - gateway as u64, Duration::ZERO);
        let socket = self.sockets.first().ok_or(FleetError::Client(ClientError::Stopped))?;
        Ok(Client::start_gateway(config, identity, socket, self.config.clock, source)?)
    }

    fn client_config(&self, number: u64, spread: Duration) -> ClientConfig {
        ClientConfig {
            interval: self.plan.interval,
            backlog_frames: BACKLOG,
            back_off: BACK_OFF,
            start_spread: spread,
            turns: Some(self.turns.clone()),
            seed: Some(self.config.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number),
            ..ClientConfig::new(self.config.server.clone(), self.config.server_name.clone())
        }
    }

    /// A shared socket; for a sensor whose cable is pulled, one shared by those that it is pulled with.
    fn socket(&mut self, place: usize) -> Result<Socket, FleetError> {
        let faults = self.plan.faults.iter().enumerate();
        let cuts =
            faults.filter(|(_, fault)| fault.kind.cuts()).fold(0, |bits, (place, _)| bits | 1 << place);
        let mine = self.plan.sensors[place].faults & cuts;
        if mine == 0 {
            self.next_socket = (self.next_socket + 1) % self.sockets.len().max(1);
            return self
                .sockets
                .get(self.next_socket)
                .cloned()
                .ok_or(FleetError::Client(ClientError::Stopped));
        }
        if let Some(socket) = self.cut.get(&mine) {
            return Ok(socket.clone());
        }
        let socket = Socket::bind()?;
        self.cut.insert(mine, socket.clone());
        Ok(socket)
    }
}

fn lock(sensors: &Mutex<Vec<SimSensor>>) -> std::sync::MutexGuard<'_, Vec<SimSensor>> {
    sensors.lock().unwrap_or_else(PoisonError::into_inner)
}
