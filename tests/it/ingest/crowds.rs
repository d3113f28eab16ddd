//! Many handshakes from one address: a stranger's leave room for the others, a herd's all get their turn.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fleetpulse::identity::{ALPN_MAIN, PeerIdentity, client_tls};
use fleetpulse::limits::{HALF_OPEN_MAX, HANDSHAKE_TIMEOUT};
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::id::SensorId;
use quinn_proto::{DatagramEvent, Endpoint, EndpointConfig};

use super::rig::{Client, Neighbour, Rig, lines_about, listen_to_log, quic_client};

/// The longest header form with this type is a Retry (RFC 9000, 17.2.5).
fn is_retry(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0xf0 == 0xf0)
}

/// Real clients of one real address that prove it when asked to, and then never go on.
pub struct Stranger {
    socket: UdpSocket,
    endpoint: Endpoint,
    connections: Vec<Option<quinn_proto::Connection>>,
    config: quinn::ClientConfig,
    server: SocketAddr,
    clock: SystemClock,
}

impl Stranger {
    fn new(rig: &Rig, from: Ipv4Addr) -> Stranger {
        let identity = rig.issue(PeerIdentity::Sensor(SensorId::from_number(66)));
        let tls = client_tls(&identity, ALPN_MAIN, Arc::new(rig.clock)).unwrap();
        Stranger::at(rig.ingest.local_addr(), quic_client(tls), from, rig.clock)
    }

    pub fn at(
        server: SocketAddr,
        config: quinn::ClientConfig,
        from: Ipv4Addr,
        clock: SystemClock,
    ) -> Stranger {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        Stranger {
            socket,
            endpoint: Endpoint::new(Arc::new(EndpointConfig::default()), None, false, None),
            connections: Vec::new(),
            config,
            server,
            clock,
        }
    }

    fn flush(&mut self, place: usize) {
        let Some(connection) = &mut self.connections[place] else { return };
        let instant = self.clock.instant_of(self.clock.mono());
        let mut packet = Vec::new();
        while connection.poll_transmit(instant, 1, &mut packet).is_some() {
            // What the server's buffer has no room for is one attempt less.
            let _ = self.socket.send_to(&packet, self.server);
            packet.clear();
        }
    }

    /// Begins one handshake more, and proves the address where that was asked.
    pub fn begin(&mut self) {
        let instant = self.clock.instant_of(self.clock.mono());
        let (handle, connection) =
            self.endpoint.connect(instant, self.config.clone(), self.server, "localhost").unwrap();
        if self.connections.len() <= handle.0 {
            self.connections.resize_with(handle.0 + 1, || None);
        }
        self.connections[handle.0] = Some(connection);
        self.flush(handle.0);
        self.prove();
    }

    fn prove(&mut self) {
        let instant = self.clock.instant_of(self.clock.mono());
        let mut bytes = [0; 2_048];
        while let Ok((length, from)) = self.socket.recv_from(&mut bytes) {
            let packet = &bytes[..length];
            if !is_retry(packet) {
                continue;
            }
            let event = self.endpoint.handle(instant, from, None, None, packet.into(), &mut Vec::new());
            if let Some(DatagramEvent::ConnectionEvent(handle, event)) = event
                && let Some(connection) = &mut self.connections[handle.0]
            {
                connection.handle_event(event);
                self.flush(handle.0);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_that_opens_all_it_can_leaves_room_for_the_others() {
    listen_to_log();
    let rig = Arc::new(Rig::new(1));
    let neighbour = Neighbour::new(&rig).await;
    let from = Ipv4Addr::new(127, 0, 3, 1);
    let mut stranger = Stranger::new(&rig, from);
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    let at_work = std::thread::spawn(move || {
        while !told.load(Ordering::Relaxed) {
            for _ in 0..4 {
                stranger.begin();
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    rig.until("it has its share", |rig| rig.counters().ignored_source > 0).await;
    for number in 1..=20 {
        let id = SensorId::from_number(number);
        rig.register(id);
        let identity = rig.issue(PeerIdentity::Sensor(id));
        let tls = client_tls(&identity, ALPN_MAIN, Arc::new(rig.clock)).unwrap();
        let client = Client::connect(rig.ingest.local_addr(), tls, id).await.expect("room was left");
        rig.until("it is in", |rig| rig.snapshot(number).connected).await;
        let counters = rig.counters();
        assert!(counters.half_open as usize <= HALF_OPEN_MAX / 2 + 1, "{counters:?}");
        assert_eq!(counters.ignored, 0, "no honest attempt was dropped");
        client.connection.close(0_u32.into(), b"");
    }
    let before = rig.counters();
    rig.until("it goes on", |rig| rig.counters().ignored_source >= before.ignored_source + 100).await;
    stop.store(true, Ordering::Relaxed);
    at_work.join().unwrap();
    assert_eq!(lines_about(IpAddr::from(from)).len(), 1);
    neighbour.stays_well(&rig).await;
    rig.until("nothing stays", |rig| rig.counters().half_open == 0).await;
}

/// Sensors behind one address, while somebody there holds all that one address may hold.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_herd_behind_a_crowded_address_waits_and_gets_in() {
    let rig = Arc::new(Rig::new(1));
    let neighbour = Neighbour::new(&rig).await;
    let mut crowd = Stranger::new(&rig, Ipv4Addr::LOCALHOST);
    for _ in 0..2 * HALF_OPEN_MAX {
        crowd.begin();
        if rig.counters().ignored_source > 0 {
            break;
        }
    }
    const HERD: u64 = 60;
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let mut herd = tokio::task::JoinSet::new();
    for number in 1..=HERD {
        let id = SensorId::from_number(number);
        rig.register(id);
        let identity = rig.issue(PeerIdentity::Sensor(id));
        let tls = client_tls(&identity, ALPN_MAIN, Arc::new(rig.clock)).unwrap();
        let connecting =
            endpoint.connect_with(quic_client(tls), rig.ingest.local_addr(), "localhost").unwrap();
        // One try, as long as a patient sensor's three.
        herd.spawn(tokio::time::timeout(6 * HANDSHAKE_TIMEOUT, connecting));
    }
    let all = herd.join_all().await;
    for connection in &all {
        let connection = connection.as_ref().expect("refused for ever").as_ref().expect("refused");
        assert_eq!(connection.close_reason(), None);
    }
    rig.until("all are in", |rig| rig.counters().sensors == HERD + 1).await;
    let counters = rig.counters();
    assert!(counters.ignored_source > 1, "some had to wait: {counters:?}");
    neighbour.stays_well(&rig).await;
}
