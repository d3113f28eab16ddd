//! A server of its own for each test: authority and keys in a temporary directory, live state, ingest; and
//! clients that speak to it.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use fleetpulse::identity::{
    ALPN_MAIN, Authority, ClientIdentity, Keys, PeerIdentity, Revocations, ServerTls, client_tls,
};
use fleetpulse::ingest::{
    CountersSnapshot, EnrolJudge, Ingest, IngestConfig, IngestKeys, IngestParts, NoEnrolment, RegisterCheck,
};
use fleetpulse::live::{
    Lifecycle, LiveState, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotHandle, Snapshot,
};
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::frame::write_frame;
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::{GatewayId, SensorId};
use quinn::crypto::rustls::QuicClientConfig;

pub const PATIENCE: Duration = Duration::from_secs(10);
pub const SITE: SiteIndex = SiteIndex(1);
pub const OTHER_SITE: SiteIndex = SiteIndex(2);

pub struct Rig {
    pub dir: tempfile::TempDir,
    pub clock: SystemClock,
    pub authority: Authority,
    pub keys: Arc<Keys>,
    pub revocations: Arc<Revocations>,
    pub live: Arc<LiveState>,
    pub ingest: Arc<Ingest>,
}

impl Rig {
    pub fn new(shards: usize) -> Rig {
        Rig::with(|config| config.shards = shards)
    }

    pub fn with(change: impl FnOnce(&mut IngestConfig)) -> Rig {
        Rig::made(change, Arc::new(NoEnrolment))
    }

    /// With somebody who judges enrolments.
    pub fn judged(judge: Arc<dyn EnrolJudge>) -> Rig {
        Rig::made(|_| (), judge)
    }

    fn made(change: impl FnOnce(&mut IngestConfig), judge: Arc<dyn EnrolJudge>) -> Rig {
        let dir = tempfile::tempdir().expect("temporary directory");
        let clock = SystemClock::start();
        let authority = Authority::open_or_create(dir.path(), clock.unix()).expect("authority");
        let keys = Keys::open_or_create(dir.path(), Arc::new(clock)).expect("keys");
        let revocations = Arc::new(Revocations::open(dir.path()).expect("revocations"));
        let live = Arc::new(LiveState::with_capacity(10_000));
        let mut config = IngestConfig::loopback();
        change(&mut config);
        let ingest = Arc::new(start(&config, &authority, &keys, &revocations, &live, clock, judge));
        Rig { dir, clock, authority, keys, revocations, live, ingest }
    }

    /// The same installation, started again on the same ports, with an empty live state.
    pub fn restart(&mut self, sensors: &[SensorId]) {
        let (listen, enrol_listen) = (self.ingest.local_addr(), self.ingest.enrol_addr());
        let shards = self.ingest.shards();
        self.ingest.stop();
        let old = std::mem::replace(&mut self.live, Arc::new(LiveState::with_capacity(10_000)));
        drop(old);
        self.revocations = Arc::new(Revocations::open(self.dir.path()).expect("revocations"));
        for sensor in sensors {
            self.register(*sensor);
        }
        self.keys = Keys::open_or_create(self.dir.path(), Arc::new(self.clock)).expect("keys");
        let config = IngestConfig { listen, enrol_listen, shards, ..IngestConfig::loopback() };
        // The old group has to let go of the port first.
        let mut fresh = IngestConfig::loopback();
        fresh.shards = 1;
        let placeholder = start(
            &fresh,
            &self.authority,
            &self.keys,
            &self.revocations,
            &self.live,
            self.clock,
            Arc::new(NoEnrolment),
        );
        drop(std::mem::replace(&mut self.ingest, Arc::new(placeholder)));
        self.ingest = Arc::new(start(
            &config,
            &self.authority,
            &self.keys,
            &self.revocations,
            &self.live,
            self.clock,
            Arc::new(NoEnrolment),
        ));
    }

    pub fn facts(site: SiteIndex) -> SlotFacts {
        SlotFacts {
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::Active,
            site,
            policy: PolicyIndex(0),
            muted: false,
        }
    }

    pub fn register(&self, sensor: SensorId) -> SlotHandle {
        self.live.insert(sensor, Rig::facts(SITE)).expect("room")
    }

    pub fn issue(&self, identity: PeerIdentity) -> ClientIdentity {
        self.authority.issue(identity, Duration::from_secs(86_400), self.clock.unix()).expect("issued")
    }

    /// Registers a sensor and connects it.
    pub async fn sensor(&self, number: u64) -> Client {
        let id = SensorId::from_number(number);
        self.register(id);
        let client = self.client(&self.issue(PeerIdentity::Sensor(id)), id).await;
        // The client is through the handshake before the server is.
        self.until("the sensor has its slot", |rig| rig.snapshot(number).connected).await;
        client
    }

    pub async fn gateway(&self, number: u64, sites: &[SiteIndex]) -> Client {
        let id = GatewayId::from_number(number);
        let index = self.live.insert_gateway(id, sites).expect("room");
        let client = self.client(&self.issue(PeerIdentity::Gateway(id)), SensorId::from_number(number)).await;
        let connected = |rig: &Rig| rig.live.gateway_snapshot(index).is_some_and(|gateway| gateway.connected);
        self.until("the gateway is known", connected).await;
        client
    }

    pub async fn client(&self, identity: &ClientIdentity, id: SensorId) -> Client {
        let tls = client_tls(identity, ALPN_MAIN, Arc::new(self.clock)).expect("client TLS");
        Client::connect(self.ingest.local_addr(), tls, id).await.expect("connected")
    }

    pub fn counters(&self) -> CountersSnapshot {
        self.ingest.counters().snapshot()
    }

    pub fn snapshot(&self, number: u64) -> Snapshot {
        self.live.snapshot_of(SensorId::from_number(number)).expect("registered")
    }

    /// Waits until `what` holds.
    pub async fn until(&self, label: &str, mut what: impl FnMut(&Rig) -> bool) {
        let deadline = self.clock.mono().plus(PATIENCE);
        while !what(self) {
            assert!(self.clock.mono() < deadline, "never: {label}; {:#?}", self.counters());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub async fn until_received(&self, number: u64, heartbeats: u64) {
        let label = format!("{heartbeats} heartbeats of sensor {number}");
        self.until(&label, |rig| rig.snapshot(number).received >= heartbeats).await;
    }
}

fn start(
    config: &IngestConfig,
    authority: &Authority,
    keys: &Arc<Keys>,
    revocations: &Arc<Revocations>,
    live: &Arc<LiveState>,
    clock: SystemClock,
    enrol: Arc<dyn EnrolJudge>,
) -> Ingest {
    let parts = IngestParts {
        live: Arc::clone(live),
        tls: server_tls(authority, keys, clock),
        keys: IngestKeys::from(&**keys),
        check: Arc::new(RegisterCheck::new(Arc::clone(live), Arc::clone(revocations))),
        enrol,
        clock,
        node: 0,
    };
    Ingest::start(config, &parts).expect("started")
}

pub fn server_tls(authority: &Authority, keys: &Arc<Keys>, clock: SystemClock) -> ServerTls {
    ServerTls::build(authority, keys, &["localhost".to_owned()], Arc::new(clock)).expect("server TLS")
}

/// The client's side of a QUIC configuration, as sensors use it.
pub fn quic_client(tls: rustls::ClientConfig) -> quinn::ClientConfig {
    let crypto = QuicClientConfig::try_from(tls).expect("QUIC client");
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    let mut transport = quinn::TransportConfig::default();
    let mut at_once = quinn::AckFrequencyConfig::default();
    at_once.ack_eliciting_threshold(quinn::VarInt::from_u32(0));
    transport.ack_frequency_config(Some(at_once)).mtu_discovery_config(None);
    config.transport_config(Arc::new(transport));
    config
}

/// One connected peer.
pub struct Client {
    pub endpoint: quinn::Endpoint,
    pub connection: quinn::Connection,
    pub tls: rustls::ClientConfig,
    pub id: SensorId,
    pub sequence: u64,
    pub handshake_bytes: u64,
}

impl Client {
    pub async fn connect(
        server: SocketAddr,
        tls: rustls::ClientConfig,
        id: SensorId,
    ) -> Result<Client, quinn::ConnectionError> {
        Client::connect_from(Ipv4Addr::LOCALHOST, server, tls, id).await
    }

    /// From one of the many addresses of the loopback network, so that it is a peer of its own.
    pub async fn connect_from(
        from: Ipv4Addr,
        server: SocketAddr,
        tls: rustls::ClientConfig,
        id: SensorId,
    ) -> Result<Client, quinn::ConnectionError> {
        let endpoint = quinn::Endpoint::client((from, 0).into()).expect("client socket");
        let config = quic_client(tls.clone());
        let connecting = endpoint.connect_with(config, server, "localhost").expect("connectable");
        let connection =
            tokio::time::timeout(PATIENCE, connecting).await.expect("no answer to the handshake")?;
        let handshake_bytes = connection.stats().udp_rx.bytes;
        Ok(Client { endpoint, connection, tls, id, sequence: 0, handshake_bytes })
    }

    pub fn heartbeat(&mut self) -> Vec<u8> {
        self.sequence += 1;
        frame(self.id, self.sequence)
    }

    /// Sends one heartbeat.
    pub fn beat(&mut self) {
        let frame = self.heartbeat();
        self.connection.send_datagram(frame.into()).expect("sent");
    }

    /// Why the server closed it.
    pub async fn closed(&self) -> CloseCode {
        let error = tokio::time::timeout(PATIENCE, self.connection.closed()).await.expect("never closed");
        code(&error)
    }

    /// The handshake was a short one. Seen from outside: the server did not send its certificates, so what
    /// came fits in one padded packet.
    pub fn resumed(&self) -> bool {
        self.handshake_bytes <= 1_200
    }
}

pub fn code(error: &quinn::ConnectionError) -> CloseCode {
    match error {
        quinn::ConnectionError::ApplicationClosed(close) => {
            CloseCode::from_code(close.error_code.into_inner()).expect("a code of ours")
        }
        other => panic!("closed otherwise: {other:?}"),
    }
}

pub fn heartbeat(id: SensorId, sequence: u64) -> Heartbeat {
    Heartbeat { sensor_id: id.0, boot_id: 1, sequence, interval_ms: 1_000, ..Heartbeat::default() }
}

pub fn frame(id: SensorId, sequence: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(&heartbeat(id, sequence), 0, &mut bytes);
    bytes
}

/// A neighbour that must not notice anything.
pub struct Neighbour(pub Client);

impl Neighbour {
    pub async fn new(rig: &Rig) -> Neighbour {
        let mut client = rig.sensor(1_000).await;
        client.beat();
        rig.until_received(1_000, 1).await;
        Neighbour(client)
    }

    pub async fn stays_well(mut self, rig: &Rig) {
        self.0.beat();
        rig.until_received(1_000, 2).await;
        let snapshot = rig.snapshot(1_000);
        assert_eq!((snapshot.lost, snapshot.reconnects), (0, 0));
    }
}

/// Warnings of all servers of this process, to be looked at by peer.
static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        LINES.lock().expect("no panic inside").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// From here on what is logged can be asked for.
pub fn listen_to_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_ansi(false);
        lines.with_writer(|| Lines).try_init().expect("nobody else listens");
    });
}

/// What was logged about a peer at this address.
pub fn lines_about(peer: IpAddr) -> Vec<String> {
    let lines = LINES.lock().expect("no panic inside");
    let mark = format!("peer={peer}:");
    String::from_utf8_lossy(&lines).lines().filter(|line| line.contains(&mark)).map(str::to_owned).collect()
}
