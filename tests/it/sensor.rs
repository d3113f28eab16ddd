//! The client library against a plain QUIC server made here: what it sends, what it obeys, how it comes back.

#[path = "sensor/fleet.rs"]
mod fleet;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetpulse::identity::{Authority, ClientIdentity, Keys, PeerIdentity, ServerTls, parse_leaf};
use fleetpulse::sensor::{BackOffPolicy, Batch, Beat, Boot, Client, ClientConfig, LinkState, Loss, Socket};
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::control::{FromSensor, OperationRef, ToSensor, announced_length, decode, encode};
use fleetpulse::wire::frame::{StreamFrames, frames};
use fleetpulse::wire::heartbeat::{FLAG_GOODBYE, FLAG_GOODBYE_RESTART, Heartbeat};
use fleetpulse::wire::id::{GatewayId, SensorId};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{Connection, Endpoint, EndpointConfig, ServerConfig, VarInt};
use rustls::server::ProducesTickets;

const DAY: Duration = Duration::from_secs(86_400);
const BEAT: Duration = Duration::from_millis(100);
const PATIENCE: Duration = Duration::from_secs(20);

/// Counts the sessions that resume.
#[derive(Debug)]
struct Counting {
    inner: Arc<dyn ProducesTickets>,
    opened: Arc<AtomicUsize>,
}

impl ProducesTickets for Counting {
    fn enabled(&self) -> bool {
        true
    }
    fn lifetime(&self) -> u32 {
        self.inner.lifetime()
    }
    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.inner.encrypt(plain)
    }
    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let plain = self.inner.decrypt(cipher)?;
        self.opened.fetch_add(1, Ordering::Relaxed);
        Some(plain)
    }
}

/// One frame as the server got it: which datagram (or stream), its age, the heartbeat.
#[derive(Clone, Debug)]
struct Got {
    datagram: usize,
    age_ms: u32,
    heartbeat: Heartbeat,
}

#[derive(Default)]
struct Seen {
    frames: Vec<Got>,
    peers: Vec<PeerIdentity>,
    closes: Vec<Option<u64>>,
    datagrams: usize,
}

struct Server {
    endpoint: Endpoint,
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    connections: Arc<Mutex<Vec<Connection>>>,
}

struct Rig {
    _folder: tempfile::TempDir,
    clock: SystemClock,
    authority: Authority,
    keys: Arc<Keys>,
    tls: ServerTls,
    resumed: Arc<AtomicUsize>,
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    let clock = SystemClock::start();
    let authority = Authority::open_or_create(folder.path(), clock.unix()).unwrap();
    let keys = Keys::open_or_create(folder.path(), Arc::new(clock)).unwrap();
    let tls = ServerTls::build(&authority, &keys, &["localhost".to_owned()], Arc::new(clock)).unwrap();
    Rig { _folder: folder, clock, authority, keys, tls, resumed: Arc::default() }
}

impl Rig {
    fn identity(&self, identity: PeerIdentity) -> ClientIdentity {
        self.authority.issue(identity, DAY, self.clock.unix()).unwrap()
    }

    fn serve(&self, address: SocketAddr) -> Server {
        let mut tls = (*self.tls.main).clone();
        tls.ticketer = Arc::new(Counting {
            inner: self.keys.ticketer(self.authority.trust()),
            opened: self.resumed.clone(),
        });
        let crypto = QuicServerConfig::try_from(tls).unwrap();
        let config = ServerConfig::with_crypto(Arc::new(crypto));
        let reset = Arc::new(aws_lc_rs_hmac(self.keys.reset_key()));
        let socket = (0..100)
            .find_map(|_| match std::net::UdpSocket::bind(address) {
                Ok(socket) => Some(socket),
                Err(_) => {
                    std::thread::sleep(Duration::from_millis(10));
                    None
                }
            })
            .unwrap();
        let mut endpoint_config = EndpointConfig::new(reset);
        // The default generator's ids are refused without a reset by the next process.
        endpoint_config.cid_generator(|| Box::new(quinn_proto::RandomConnectionIdGenerator::new(8)));
        let endpoint =
            Endpoint::new(endpoint_config, Some(config), socket, Arc::new(quinn::TokioRuntime)).unwrap();
        let server = Server {
            address: endpoint.local_addr().unwrap(),
            endpoint,
            seen: Arc::default(),
            connections: Arc::default(),
        };
        let (endpoint, seen, connections) =
            (server.endpoint.clone(), server.seen.clone(), server.connections.clone());
        tokio::spawn(async move {
            while let Some(incoming) = endpoint.accept().await {
                let (seen, connections) = (seen.clone(), connections.clone());
                tokio::spawn(async move {
                    if let Ok(connection) = incoming.await {
                        connections.lock().unwrap().push(connection.clone());
                        watch(connection, seen).await;
                    }
                });
            }
        });
        server
    }

    fn start(&self, server: &Server, socket: &Socket, sensor: SensorId, identity: &ClientIdentity) -> Client {
        let mut boot = Boot::new(sensor, self.clock.mono());
        let source = move |beat: &Beat| {
            let mut heartbeat = Heartbeat::default();
            boot.stamp(&mut heartbeat, beat.now);
            Some(heartbeat)
        };
        Client::start(config(server), identity, socket, self.clock, source).unwrap()
    }

    fn sensor(&self, server: &Server, number: u64) -> (Client, Socket) {
        let sensor = SensorId::from_number(number);
        let socket = Socket::bind().unwrap();
        let identity = self.identity(PeerIdentity::Sensor(sensor));
        (self.start(server, &socket, sensor, &identity), socket)
    }
}

fn aws_lc_rs_hmac(key: &[u8]) -> aws_lc_rs::hmac::Key {
    aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key)
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn config(server: &Server) -> ClientConfig {
    ClientConfig {
        interval: BEAT,
        back_off: BackOffPolicy { first: BEAT, ..BackOffPolicy::default() },
        ..ClientConfig::new(server.address.to_string(), "localhost")
    }
}

async fn watch(connection: Connection, seen: Arc<Mutex<Seen>>) {
    let chain = connection.peer_identity().unwrap();
    let chain = chain.downcast::<Vec<rustls::pki_types::CertificateDer<'static>>>().unwrap();
    seen.lock().unwrap().peers.push(parse_leaf(&chain[0]).unwrap().identity);
    let streams = {
        let (connection, seen) = (connection.clone(), seen.clone());
        async move {
            while let Ok(mut stream) = connection.accept_uni().await {
                let mut reassembly = StreamFrames::new();
                let mut chunk = vec![0; 700];
                while let Ok(Some(length)) = stream.read(&mut chunk).await {
                    let mut seen = seen.lock().unwrap();
                    let pushed = reassembly.push(&chunk[..length], |frame| {
                        let frame = frame.unwrap();
                        seen.frames.push(Got {
                            datagram: 0,
                            age_ms: frame.header.age_ms,
                            heartbeat: frame.to_heartbeat(),
                        });
                    });
                    pushed.unwrap();
                }
            }
        }
    };
    tokio::spawn(streams);
    let close = loop {
        match connection.read_datagram().await {
            Ok(bytes) => {
                let mut seen = seen.lock().unwrap();
                seen.datagrams += 1;
                let datagram = seen.datagrams;
                for frame in frames(&bytes) {
                    let frame = frame.unwrap();
                    let heartbeat = frame.to_heartbeat();
                    seen.frames.push(Got { datagram, age_ms: frame.header.age_ms, heartbeat });
                }
            }
            Err(quinn::ConnectionError::ApplicationClosed(close)) => {
                break Some(close.error_code.into_inner());
            }
            Err(_) => break None,
        }
    };
    seen.lock().unwrap().closes.push(close);
}

impl Server {
    fn frames(&self) -> Vec<Got> {
        self.seen.lock().unwrap().frames.clone()
    }

    async fn until(&self, what: &str, condition: impl Fn(&Seen) -> bool) {
        let wait = async {
            while !condition(&self.seen.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "never: {what}");
    }

    fn connection(&self) -> Connection {
        self.connections.lock().unwrap().last().unwrap().clone()
    }

    async fn ask(&self, message: &ToSensor) -> FromSensor {
        let (mut send, mut receive) = self.connection().open_bi().await.unwrap();
        send.write_all(&encode(message)).await.unwrap();
        send.finish().unwrap();
        let bytes = receive.read_to_end(1_000).await.unwrap();
        assert_eq!(announced_length(&bytes), Ok(Some(bytes.len() - 4)));
        decode(&bytes[4..]).unwrap()
    }

    /// Gone without a word, like a killed process; its port is free afterwards.
    async fn kill(self) -> SocketAddr {
        let address = self.address;
        // Twice: the endpoint keeps its previous socket for a while.
        for _ in 0..2 {
            self.endpoint.rebind(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        address
    }
}

async fn report_until(
    client: &Client,
    what: &str,
    condition: impl FnMut(&fleetpulse::sensor::LinkReport) -> bool,
) {
    let mut watch = client.watch();
    let seen = tokio::time::timeout(PATIENCE, watch.wait_for(condition)).await;
    assert!(matches!(seen, Ok(Ok(_))), "never: {what}");
}

#[tokio::test]
async fn heartbeats_arrive_numbered_and_the_certificate_says_who_sends_them() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 7);
    server.until("five heartbeats", |seen| seen.frames.len() >= 5).await;
    let frames = server.frames();
    let sequences: Vec<_> = frames.iter().map(|got| got.heartbeat.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1) && sequences[0] == 1, "{sequences:?}");
    let last = &frames[frames.len() - 1].heartbeat;
    assert_eq!((last.sensor_id, last.interval_ms, last.reconnects), (SensorId::from_number(7).0, 100, 0));
    assert!((1..5_000_000).contains(&last.rtt_us), "{}", last.rtt_us);
    assert!(frames.iter().all(|got| got.age_ms < 2_000));
    assert_eq!(server.seen.lock().unwrap().peers, [PeerIdentity::Sensor(SensorId::from_number(7))]);
    assert!(client.report().stats.sent >= 5);
}

#[tokio::test]
async fn the_server_sets_the_interval_and_gets_answers() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    let of = OperationRef { operation: 9, offset: 2 };
    assert_eq!(server.ask(&ToSensor::Ping { of }).await, FromSensor::Done { of });
    assert_eq!(server.ask(&ToSensor::SetInterval { of, interval_ms: 250 }).await, FromSensor::Done { of });
    server
        .until("the new interval", |seen| seen.frames.iter().any(|got| got.heartbeat.interval_ms == 250))
        .await;
    assert_eq!(client.report().interval, Duration::from_millis(250));
    for refused in [0, 1, u32::MAX] {
        let answer = server.ask(&ToSensor::SetInterval { of, interval_ms: refused }).await;
        assert!(matches!(answer, FromSensor::Refused { .. }), "{answer:?}");
    }
    let (mut send, mut receive) = server.connection().open_bi().await.unwrap();
    send.write_all(&[3, 0, 0, 0, 0xff, 0xff, 0xff]).await.unwrap();
    let bytes = receive.read_to_end(1_000).await.unwrap();
    assert!(matches!(decode(&bytes[4..]).unwrap(), FromSensor::NotUnderstood { .. }));
    assert_eq!(server.ask(&ToSensor::Ping { of }).await, FromSensor::Done { of }, "and goes on");
}

#[tokio::test]
async fn a_server_that_was_deaf_for_a_while_hears_the_next_heartbeat() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, socket) = rig.sensor(&server, 1);
    server.until("some heartbeats", |seen| seen.frames.len() >= 10).await;
    // Nothing gets through and nobody says so. Heartbeats go out all the same: none waits for a probe's answer.
    socket.switch().set(false);
    let from = client.report().stats.sent;
    report_until(&client, "words into nothing", |report| report.stats.sent >= from + 50).await;
    let (into_nothing, heard) = (client.report().stats.sent, server.frames().len());
    socket.switch().set(true);
    server.until("a heartbeat again", |seen| seen.frames.len() > heard).await;
    let next = server.frames()[heard].heartbeat.sequence;
    assert!(next >= into_nothing, "{next} was made while nobody heard, {into_nothing} were");
}

#[tokio::test]
async fn after_a_restart_it_resumes_and_sends_what_it_kept_with_its_age() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("three heartbeats", |seen| seen.frames.len() >= 3).await;
    server.connection().close(VarInt::from_u32(CloseCode::Draining.code()), b"");
    report_until(&client, "loss", |report| report.last_loss == Some(Loss::Closed(CloseCode::Draining))).await;
    let before = server.frames().last().unwrap().heartbeat.sequence;
    let address = server.kill().await;
    tokio::time::sleep(BEAT * 10).await;
    let server = rig.serve(address);
    server.until("late heartbeats", |seen| seen.frames.len() >= 8).await;
    server.until("a fresh one", |seen| seen.frames.iter().any(|got| got.age_ms < 50)).await;
    assert_eq!(rig.resumed.load(Ordering::Relaxed), 1);
    let frames = server.frames();
    assert!(frames[0].heartbeat.sequence <= before + 1, "nothing was left out");
    assert!(frames.windows(2).all(|pair| pair[1].heartbeat.sequence == pair[0].heartbeat.sequence + 1));
    assert!(frames[0].age_ms >= 300, "{}", frames[0].age_ms);
    assert_eq!(frames[0].datagram, frames[1].datagram, "late ones share a datagram");
    let first = frames[0].heartbeat.sensor_clock_unix_us / 1_000 - i64::from(frames[0].age_ms);
    let fresh = frames.iter().find(|got| got.age_ms < 50).unwrap();
    assert!(fresh.heartbeat.sensor_clock_unix_us / 1_000 > first);
    // The first one made on the new connection tells; the fresh one above may be from just before.
    let tells = |got: &Got| got.heartbeat.reconnects == 1;
    server.until("one that tells of the reconnect", |seen| seen.frames.last().is_some_and(tells)).await;
}

#[tokio::test]
async fn a_killed_and_restarted_server_is_noticed_at_once_by_its_reset() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    let address = server.kill().await;
    let server = rig.serve(address);
    report_until(&client, "reset", |report| report.last_loss == Some(Loss::Reset)).await;
    server.until("a heartbeat after it", |seen| !seen.frames.is_empty()).await;
    assert_eq!(rig.resumed.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn come_back_later_is_obeyed() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    let of = OperationRef::default();
    let told = rig.clock.mono();
    assert_eq!(server.ask(&ToSensor::ComeBack { of, after_ms: 1_500 }).await, FromSensor::Done { of });
    server.connection().close(VarInt::from_u32(CloseCode::Draining.code()), b"");
    report_until(&client, "waiting", |report| matches!(report.state, LinkState::Waiting { .. })).await;
    server.until("its return", |seen| seen.peers.len() == 2).await;
    let away = rig.clock.mono().since(told);
    assert!(away >= Duration::from_millis(1_490), "{away:?}");
}

#[tokio::test]
async fn who_is_replaced_stays_away_for_minutes() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    server.connection().close(VarInt::from_u32(CloseCode::Replaced.code()), b"");
    let mut watch = client.watch();
    let waiting = |report: &fleetpulse::sensor::LinkReport| matches!(report.state, LinkState::Waiting { .. });
    let report = tokio::time::timeout(PATIENCE, watch.wait_for(waiting)).await.unwrap().unwrap().clone();
    let LinkState::Waiting { until } = report.state else { panic!("{report:?}") };
    assert!(until.since(rig.clock.mono()) > Duration::from_secs(170));
    assert_eq!(report.last_loss, Some(Loss::Closed(CloseCode::Replaced)));
    client.stop().await;
}

#[tokio::test]
async fn a_goodbye_is_heard_before_the_close() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    client.goodbye(true).await;
    server.until("the close", |seen| !seen.closes.is_empty()).await;
    assert_eq!(server.seen.lock().unwrap().closes, [Some(u64::from(CloseCode::Goodbye.code()))]);
    let flags = server.frames().last().unwrap().heartbeat.flags;
    assert_eq!(flags, FLAG_GOODBYE | FLAG_GOODBYE_RESTART);
}

#[tokio::test]
async fn a_pulled_cable_costs_heartbeats_and_a_new_port_costs_none() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    socket.rebind().unwrap();
    let before = server.frames().len();
    server.until("heartbeats from the new port", |seen| seen.frames.len() >= before + 5).await;
    let sequences: Vec<_> = server.frames().iter().map(|got| got.heartbeat.sequence).collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");

    socket.switch().set(false);
    tokio::time::sleep(BEAT * 5).await;
    let silent = server.frames().len();
    tokio::time::sleep(BEAT * 3).await;
    assert_eq!(server.frames().len(), silent);
    assert!(socket.switch().dropped() > 0 && !socket.switch().connected());
    socket.switch().set(true);
    server.until("heartbeats again", |seen| seen.frames.len() > silent + 3).await;
    let sequences: Vec<_> = server.frames().iter().map(|got| got.heartbeat.sequence).collect();
    assert!(sequences.windows(2).any(|pair| pair[1] > pair[0] + 1), "what was in flight is lost");
    assert_eq!(client.report().stats.connects, 1, "the connection outlived it");
}

#[tokio::test]
async fn many_sensors_share_a_socket_and_a_gateway_speaks_for_many_on_one_stream() {
    let rig = rig();
    let server = rig.serve(any_port());
    let socket = Socket::bind().unwrap();
    let mut clients = Vec::new();
    for number in 1..=20 {
        let sensor = SensorId::from_number(number);
        let identity = rig.identity(PeerIdentity::Sensor(sensor));
        clients.push(rig.start(&server, &socket, sensor, &identity));
    }
    let gateway = rig.identity(PeerIdentity::Gateway(GatewayId::from_number(1)));
    let mut boots: Vec<_> =
        (101..=150).map(|n| Boot::new(SensorId::from_number(n), rig.clock.mono())).collect();
    let source = move |beat: &Beat, batch: &mut Batch| {
        for boot in &mut boots {
            let mut heartbeat = Heartbeat::default();
            boot.stamp(&mut heartbeat, beat.now);
            batch.push(&heartbeat, 3);
        }
    };
    clients.push(Client::start_gateway(config(&server), &gateway, &socket, rig.clock, source).unwrap());
    let distinct = |seen: &Seen| {
        let ids: std::collections::HashSet<_> =
            seen.frames.iter().map(|got| got.heartbeat.sensor_id).collect();
        ids.len()
    };
    server.until("all seventy", |seen| distinct(seen) == 70 && seen.frames.len() > 500).await;
    assert_eq!(socket.connections(), 21);
    for client in clients {
        client.stop().await;
    }
}

#[tokio::test]
async fn a_new_certificate_is_used_at_once() {
    let rig = rig();
    let server = rig.serve(any_port());
    let (client, _socket) = rig.sensor(&server, 1);
    server.until("a heartbeat", |seen| !seen.frames.is_empty()).await;
    let renewed = rig.identity(PeerIdentity::Sensor(SensorId::from_number(2)));
    client.renew(&renewed).await.unwrap();
    server.until("the other identity", |seen| seen.peers.len() == 2).await;
    assert_eq!(server.seen.lock().unwrap().peers[1], PeerIdentity::Sensor(SensorId::from_number(2)));
    assert_eq!(rig.resumed.load(Ordering::Relaxed), 0, "another certificate is another session");
}

#[tokio::test]
async fn strangers_are_told_why_and_do_not_hammer() {
    let (rig, other) = (rig(), rig());
    let server = rig.serve(any_port());
    let sensor = SensorId::from_number(1);
    let mut identity = other.identity(PeerIdentity::Sensor(sensor));
    let socket = Socket::bind().unwrap();
    let client = rig.start(&server, &socket, sensor, &identity);
    report_until(&client, "an untrusted server", |report| report.last_loss == Some(Loss::UnknownServer))
        .await;
    identity.trust_bundle_pem = rig.authority.trust_pem().to_owned();
    let client = rig.start(&server, &socket, sensor, &identity);
    report_until(&client, "an untrusted sensor", |report| report.last_loss == Some(Loss::UnknownToServer))
        .await;
    assert!(server.frames().is_empty());
}
