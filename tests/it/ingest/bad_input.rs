//! Frames and packets that should not be: each is refused with its reason, and nobody else notices.

use std::net::UdpSocket;
use std::time::Duration;

use fleetpulse::limits::{
    FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FRAMES_PER_DATAGRAM_MAX, HALF_OPEN_RETRY, REFUSED_FRAMES_MAX,
};
use fleetpulse::live::Observed;
use fleetpulse::time::Clock;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::frame::write_frame;
use fleetpulse::wire::id::SensorId;

use super::rig::{Client, Neighbour, OTHER_SITE, Rig, SITE, frame, heartbeat};

#[tokio::test]
async fn frames_that_cannot_be_read_are_counted_by_reason() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let mut client = rig.sensor(1).await;
    let good = client.heartbeat();
    let changed = |place: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[place] = byte;
        bytes
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("truncated", good[..good.len() - 1].to_vec()),
        ("truncated", good[..FRAME_HEADER_BYTES - 1].to_vec()),
        ("truncated", vec![0x46]),
        ("magic", changed(0, 0)),
        ("kind", changed(2, 9)),
        ("schema_zero", changed(3, 0)),
        ("oversized", changed(5, 0xff)),
        ("reserved", changed(12, 1)),
        ("body_short", changed(4, 16).into_iter().zip([0; 2].iter().cycle()).map(|(b, _)| b).collect()),
        ("magic", vec![0xff; 1_100]),
        ("out_of_range", {
            let mut h = heartbeat(client.id, 1);
            h.cpu_permille = 1_001;
            bytes_of(&h)
        }),
    ];
    for (reason, bytes) in cases {
        let before = rig.counters().unreadable_for(reason);
        client.connection.send_datagram(bytes.into()).unwrap();
        rig.until(reason, |rig| rig.counters().unreadable_for(reason) > before).await;
    }
    // Well below the budget, so the connection lives and a good frame counts.
    client.connection.send_datagram(good.into()).unwrap();
    rig.until_received(1, 1).await;
    neighbour.stays_well(&rig).await;
}

fn bytes_of(heartbeat: &fleetpulse::wire::heartbeat::Heartbeat) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_frame(heartbeat, 0, &mut bytes);
    bytes
}

#[tokio::test]
async fn a_stream_of_rubbish_closes_the_connection_as_malformed() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let client = rig.sensor(1).await;
    for _ in 0..REFUSED_FRAMES_MAX + 5 {
        let _ = client.connection.send_datagram(vec![0xff; 200].into());
    }
    assert_eq!(client.closed().await, CloseCode::Malformed);
    assert_eq!(rig.counters().closed_for(CloseCode::Malformed), 1);
    rig.until("its slot is free", |rig| !rig.snapshot(1).connected).await;
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_newer_schema_is_read_as_far_as_it_is_known() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let client = rig.sensor(1).await;
    let mut bytes = frame(client.id, 1);
    let body = (bytes.len() - FRAME_HEADER_BYTES + 40) as u16;
    bytes.extend_from_slice(&[0xaa; 40]);
    bytes[3] = 9;
    bytes[4..6].copy_from_slice(&body.to_le_bytes());
    client.connection.send_datagram(bytes.into()).unwrap();
    rig.until_received(1, 1).await;
    assert_eq!(rig.counters().frames_appended, 1);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_sequence_that_goes_backwards_never_becomes_current() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let client = rig.sensor(1).await;
    for sequence in [10, 11, 9, 11] {
        client.connection.send_datagram(frame(client.id, sequence).into()).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.until("all were judged", |rig| rig.counters().frames == 5).await;
    let counters = rig.counters();
    assert_eq!(counters.observed_as(Observed::Current), 3, "one is the neighbour's");
    assert_eq!(counters.observed_as(Observed::Duplicate), 1);
    assert_eq!(rig.snapshot(1).heartbeat.sequence, 11);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_datagram_is_read_up_to_its_bound_of_frames() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let client = rig.sensor(1).await;
    // As many headers as fit, each announcing a body that is too short: a thousand such frames would be
    // the attack; a datagram holds 70.
    let mut header = frame(client.id, 1)[..FRAME_HEADER_BYTES].to_vec();
    header[4..6].copy_from_slice(&0_u16.to_le_bytes());
    let many: Vec<u8> = header.iter().copied().cycle().take(FRAME_HEADER_BYTES * 70).collect();
    client.connection.send_datagram(many.into()).unwrap();
    rig.until("the rest is refused", |rig| rig.counters().unreadable_for("too_many") == 1).await;
    assert_eq!(rig.counters().unreadable_for("body_short"), FRAMES_PER_DATAGRAM_MAX as u64);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn frames_for_another_sensor_are_refused_and_then_the_connection() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let client = rig.sensor(1).await;
    for sequence in 0..u64::from(REFUSED_FRAMES_MAX) + 5 {
        let _ = client.connection.send_datagram(frame(SensorId::from_number(1_000), 50 + sequence).into());
    }
    assert_eq!(client.closed().await, CloseCode::NotCovered);
    assert!(rig.counters().not_covered > u64::from(REFUSED_FRAMES_MAX));
    assert_eq!(rig.snapshot(1_000).heartbeat.sequence, 1, "the neighbour's slot was written");
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn too_many_frames_close_the_connection() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let mut client = rig.sensor(1).await;
    let closed = async {
        while client.connection.close_reason().is_none() {
            let frames: Vec<u8> = (0..4).flat_map(|_| client.heartbeat()).collect();
            let _ = client.connection.send_datagram_wait(frames.into()).await;
        }
    };
    tokio::time::timeout(super::rig::PATIENCE, closed).await.expect("never closed");
    assert_eq!(client.closed().await, CloseCode::TooFast);
    neighbour.stays_well(&rig).await;
}

// ---------------------------------------------------------------- gateways

#[tokio::test]
async fn a_gateway_speaks_for_its_sites_and_no_others() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    for (number, site) in [(1, SITE), (2, OTHER_SITE)] {
        rig.live.insert(SensorId::from_number(number), Rig::facts(site)).unwrap();
    }
    let gateway = rig.gateway(1, &[SITE]).await;
    let mut stream = gateway.connection.open_uni().await.unwrap();
    let send = |number: u64, sequence: u64| frame(SensorId::from_number(number), sequence);
    for bytes in [send(1, 1), send(2, 1), send(3, 1), send(1, 2)] {
        stream.write_all(&bytes).await.unwrap();
    }
    rig.until_received(1, 2).await;
    assert!(rig.snapshot(1).via_gateway.is_some() && !rig.snapshot(1).connected);
    assert_eq!(rig.snapshot(2).received, 0);
    let counters = rig.counters();
    assert_eq!((counters.not_covered, counters.unknown_sensor), (1, 1));

    // A move in the register counts at once, on the living connection.
    let moved = rig.live.find(SensorId::from_number(1)).unwrap();
    assert!(rig.live.set_facts(moved, Rig::facts(OTHER_SITE)));
    stream.write_all(&send(1, 3)).await.unwrap();
    rig.until("the moved sensor is refused", |rig| rig.counters().not_covered == 2).await;
    let index = rig.live.find_gateway(fleetpulse::wire::id::GatewayId::from_number(1)).unwrap();
    assert!(rig.live.set_gateway_sites(index, &[SITE, OTHER_SITE]));
    stream.write_all(&[send(1, 3), send(2, 1)].concat()).await.unwrap();
    rig.until_received(1, 3).await;
    rig.until_received(2, 1).await;

    // A sensor that was deleted and made again has another slot.
    rig.live.remove(SensorId::from_number(2)).unwrap();
    rig.live.insert(SensorId::from_number(77), Rig::facts(SITE)).unwrap();
    rig.live.insert(SensorId::from_number(2), Rig::facts(SITE)).unwrap();
    stream.write_all(&send(2, 2)).await.unwrap();
    rig.until_received(2, 1).await;
    assert_eq!(rig.snapshot(77).received, 0);

    for sequence in 0..u64::from(REFUSED_FRAMES_MAX) {
        let _ = stream.write_all(&send(9, sequence + 1)).await;
    }
    assert_eq!(gateway.closed().await, CloseCode::NotCovered);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_gateway_is_heard_when_its_frames_are() {
    let rig = Rig::new(1);
    rig.register(SensorId::from_number(1));
    let gateway = rig.gateway(1, &[SITE]).await;
    let index = rig.live.find_gateway(fleetpulse::wire::id::GatewayId::from_number(1)).unwrap();
    let mut stream = gateway.connection.open_uni().await.unwrap();
    for sequence in 1..=5 {
        stream.write_all(&frame(SensorId::from_number(1), sequence)).await.unwrap();
        rig.until_received(1, sequence).await;
        let frame_time = rig.snapshot(1).last_heartbeat;
        rig.until("the gateway is seen no earlier than its frame", |rig| {
            rig.live.gateway_snapshot(index).is_some_and(|gateway| gateway.last_seen >= frame_time)
        })
        .await;
        // Without acknowledgements or anything else on the way that would be heard instead.
        tokio::time::sleep(Duration::from_millis(60)).await;
    }
}

#[tokio::test]
async fn a_gateways_frames_may_be_cut_anywhere() {
    let rig = Rig::new(1);
    for number in 1..=50 {
        rig.register(SensorId::from_number(number));
    }
    let gateway = rig.gateway(1, &[SITE]).await;
    let mut stream = gateway.connection.open_uni().await.unwrap();
    let all: Vec<u8> = (1..=20)
        .flat_map(|sequence| (1..=50).flat_map(move |number| frame(SensorId::from_number(number), sequence)))
        .collect();
    let mut rest = &all[..];
    for size in [1, 15, 17, 300, 999, 5_000].iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (chunk, after) = rest.split_at(rest.len().min(*size));
        stream.write_all(chunk).await.unwrap();
        tokio::task::yield_now().await;
        rest = after;
    }
    for number in 1..=50 {
        rig.until_received(number, 20).await;
        assert_eq!(rig.snapshot(number).lost, 0);
    }
    // The stream may end and another one follow.
    stream.finish().unwrap();
    let mut again = gateway.connection.open_uni().await.unwrap();
    again.write_all(&frame(SensorId::from_number(1), 21)).await.unwrap();
    rig.until_received(1, 21).await;
}

#[tokio::test]
async fn a_stalled_stream_is_closed() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    rig.register(SensorId::from_number(1));
    let gateway = rig.gateway(1, &[SITE]).await;
    let mut stream = gateway.connection.open_uni().await.unwrap();
    let bytes = frame(SensorId::from_number(1), 1);
    stream.write_all(&bytes[..100]).await.unwrap();
    let drip = async {
        // A byte now and then does not help.
        for byte in &bytes[100..] {
            tokio::time::sleep(Duration::from_millis(500)).await;
            if stream.write_all(&[*byte]).await.is_err() {
                return;
            }
        }
    };
    let closed = tokio::time::timeout(Duration::from_secs(15), gateway.connection.closed());
    let (closed, ()) = tokio::join!(closed, drip);
    assert_eq!(super::rig::code(&closed.expect("never closed")), CloseCode::Stalled);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_stream_that_lost_its_framing_is_closed() {
    let rig = Rig::new(1);
    let gateway = rig.gateway(1, &[SITE]).await;
    let mut stream = gateway.connection.open_uni().await.unwrap();
    let mut bytes = frame(SensorId::from_number(1), 1);
    bytes[4..6].copy_from_slice(&(FRAME_BODY_BYTES_MAX as u16 + 1).to_le_bytes());
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(gateway.closed().await, CloseCode::Malformed);
    assert_eq!(rig.counters().unreadable_for("oversized"), 1);
}

#[tokio::test]
async fn a_sensor_has_no_streams() {
    let rig = Rig::new(1);
    let client = rig.sensor(1).await;
    let opened = tokio::time::timeout(Duration::from_millis(300), client.connection.open_uni()).await;
    assert!(opened.is_err(), "credit for a stream was given");
    let opened = tokio::time::timeout(Duration::from_millis(300), client.connection.open_bi()).await;
    assert!(opened.is_err(), "credit for a stream was given");
}

// ---------------------------------------------------------------- packets without a connection

#[tokio::test]
async fn garbage_and_a_flood_of_handshakes_leave_the_others_alone() {
    let rig = Rig::new(2);
    let mut neighbour = Neighbour::new(&rig).await;
    let server = rig.ingest.local_addr();
    let flood = tokio::task::spawn_blocking(move || {
        let mut seed = 0x5eed_u64;
        let mut random = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed.to_le_bytes()
        };
        for round in 0..3_000 {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            // Garbage of any length, one byte and none among them.
            let garbage: Vec<u8> = (0..round % 40).flat_map(|_| random()).collect();
            let _ = socket.send_to(&garbage, server);
            // What looks like the start of a handshake, and is none.
            let mut initial = vec![0xc3, 0, 0, 0, 1, 8];
            initial.extend_from_slice(&random());
            initial.extend_from_slice(&[8]);
            initial.extend_from_slice(&random());
            initial.extend_from_slice(&[0, 0x44, 0x90]);
            initial.resize(1_200, 0x55);
            let _ = socket.send_to(&initial, server);
            // A short header with an id that nobody made.
            let mut short = vec![0x42];
            short.extend_from_slice(&random());
            short.resize(64, 0x77);
            let _ = socket.send_to(&short, server);
        }
    });
    let mut beats = 1;
    while !flood.is_finished() {
        neighbour.0.beat();
        beats += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    flood.await.unwrap();
    rig.until_received(1_000, beats).await;
    let counters = rig.counters();
    assert!(counters.unroutable > 3_000, "{counters:?}");
    assert!(counters.initials > 100, "{counters:?}");
    // A shard never holds more half-open handshakes than it may, and forgets all of them in time.
    rig.until("half-open handshakes are gone", |rig| rig.counters().half_open == 0).await;
    rig.until("only the neighbour is left", |rig| rig.counters().connections == 1).await;
    // Whoever comes now is let in.
    let late = rig.sensor(2).await;
    assert!(late.connection.close_reason().is_none());
}

/// First flights of real clients that never go on: each has an address of its own that nobody listens at.
fn first_flights(rig: &Rig, tls: &rustls::ClientConfig, count: usize) {
    let config = super::rig::quic_client(tls.clone());
    let settings = std::sync::Arc::new(quinn_proto::EndpointConfig::default());
    let mut endpoint = quinn_proto::Endpoint::new(settings, None, false, None);
    let instant = rig.clock.instant_of(rig.clock.mono());
    for _ in 0..count {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let server = rig.ingest.local_addr();
        let (_, mut connection) = endpoint.connect(instant, config.clone(), server, "localhost").unwrap();
        let mut packet = Vec::new();
        while connection.poll_transmit(instant, 1, &mut packet).is_some() {
            socket.send_to(&packet, server).unwrap();
            packet.clear();
        }
    }
}

#[tokio::test]
async fn many_half_open_handshakes_bring_retry_and_are_forgotten_in_time() {
    let rig = Rig::new(1);
    let mut neighbour = Neighbour::new(&rig).await;
    let id = SensorId::from_number(1);
    rig.register(id);
    let identity = rig.issue(fleetpulse::identity::PeerIdentity::Sensor(id));
    let tls = fleetpulse::identity::client_tls(
        &identity,
        fleetpulse::identity::ALPN_MAIN,
        std::sync::Arc::new(rig.clock),
    )
    .unwrap();
    first_flights(&rig, &tls, HALF_OPEN_RETRY + 300);
    rig.until("all arrive", |rig| rig.counters().initials >= HALF_OPEN_RETRY as u64 + 300).await;
    let counters = rig.counters();
    assert_eq!(counters.retried, 300);
    assert_eq!(counters.ignored, 0);
    // An honest client proves its address and gets in, while all of them are still half-open.
    let client = Client::connect(rig.ingest.local_addr(), tls, id).await.unwrap();
    rig.until("it is in", |rig| rig.snapshot(1).connected).await;
    assert!(rig.counters().half_open >= HALF_OPEN_RETRY as u64);
    assert_eq!(rig.counters().retried, 301);
    neighbour.0.beat();
    rig.until_received(1_000, 2).await;
    rig.until("nothing stays", |rig| rig.counters().half_open == 0).await;
    let counters = rig.counters();
    assert_eq!(counters.handshakes_timed_out, HALF_OPEN_RETRY as u64);
    assert_eq!(counters.connections, 2);
    assert!(client.connection.close_reason().is_none());
    assert!(counters.log_suppressed >= HALF_OPEN_RETRY as u64 - 1, "one line for one peer and minute");
}

#[tokio::test]
async fn a_full_server_says_so() {
    let rig = Rig::with(|config| config.connections_per_shard = 2);
    let first = rig.sensor(1).await;
    let _second = rig.sensor(2).await;
    let id = SensorId::from_number(3);
    rig.register(id);
    let identity = rig.issue(fleetpulse::identity::PeerIdentity::Sensor(id));
    let tls = fleetpulse::identity::client_tls(
        &identity,
        fleetpulse::identity::ALPN_MAIN,
        std::sync::Arc::new(rig.clock),
    )
    .unwrap();
    let refused = Client::connect(rig.ingest.local_addr(), tls, id).await;
    assert!(matches!(refused, Err(quinn::ConnectionError::ConnectionClosed(_))));
    assert_eq!((rig.counters().refused_full, rig.counters().refused_draining), (1, 0));
    assert!(first.connection.close_reason().is_none());
}

/// Who can send these needs no true address. They must not look like heartbeats that we lost: gaps would be forgiven
/// and silence doubted.
#[tokio::test]
async fn packets_that_are_damaged_are_no_packets_that_we_lost() {
    const ROUND: u64 = 20;
    let rig = Rig::new(1);
    let std::net::SocketAddr::V4(to) = rig.ingest.local_addr() else { panic!("loopback is version 4 here") };
    let raw = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::UDP))
        .expect("grant raw sockets (root; in a container: --privileged)");
    // Short ones are refused before the kernel looks for their socket.
    let mut packet = vec![0x40; 208];
    packet[2..4].copy_from_slice(&to.port().to_be_bytes());
    packet[4..6].copy_from_slice(&208_u16.to_be_bytes());
    packet[6..8].copy_from_slice(&[0x12, 0x34]);
    // The kernel counts for all programs of this machine. Another test may fill its buffer just now, so there are
    // several rounds; in the second of two in which nobody did, every drop was a damaged packet.
    for _ in 0..50 {
        let full = udp_count("RcvbufErrors");
        let mut counted = Vec::new();
        for _ in 0..2 {
            let damaged = udp_count("InCsumErrors");
            for _ in 0..ROUND {
                raw.send_to(&packet, &std::net::SocketAddr::from(to).into()).expect("sent");
            }
            rig.until("the kernel has found them", |_| udp_count("InCsumErrors") >= damaged + ROUND).await;
            // Some ticks, in which the shard looks at its drops.
            tokio::time::sleep(Duration::from_secs(1)).await;
            counted.push(rig.counters().kernel_drops);
        }
        if udp_count("RcvbufErrors") == full {
            assert_eq!(counted[0], counted[1], "damaged packets count as lost by us");
            return;
        }
    }
    panic!("another program's receive buffer was full all the time");
}

/// A count of the kernel's for UDP over IP version 4.
fn udp_count(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/net/snmp").expect("Linux");
    let mut lines = text.lines().filter_map(|line| line.strip_prefix("Udp: "));
    let (names, values) = (lines.next().expect("names"), lines.next().expect("values"));
    let mut pairs = names.split(' ').zip(values.split(' '));
    pairs.find(|pair| pair.0 == name).expect("a count of this name").1.parse().expect("a number")
}
