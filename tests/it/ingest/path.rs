//! The way in: heartbeats arrive, packets find their shard, addresses change, servers restart.

use std::net::UdpSocket;
use std::time::Duration;

use fleetpulse::live::Observed;
use fleetpulse::wire::close::CloseCode;

use super::rig::{Client, PATIENCE, Rig};

#[tokio::test]
async fn heartbeats_become_live_state() {
    let rig = Rig::new(2);
    let mut clients = Vec::new();
    for number in 1..=8 {
        clients.push(rig.sensor(number).await);
    }
    for _ in 0..5 {
        for client in &mut clients {
            client.beat();
        }
    }
    for number in 1..=8 {
        rig.until_received(number, 5).await;
        let snapshot = rig.snapshot(number);
        assert!(snapshot.connected && snapshot.owner.is_some());
        assert_eq!(snapshot.heartbeat.sequence, 5);
        assert_eq!((snapshot.lost, snapshot.duplicates), (0, 0));
    }
    let counters = rig.counters();
    assert_eq!(counters.handshakes, 8);
    assert_eq!(counters.frames, 40);
    assert_eq!(counters.observed_as(Observed::Current), 40);
    assert_eq!(counters.lag.count(), 40);
    assert_eq!(counters.sensors, 8);

    clients[0].connection.close(0_u32.into(), b"");
    rig.until("the slot is given back", |rig| !rig.snapshot(1).connected).await;
    assert_eq!(rig.counters().closed_by_peer, 1);
    assert!(rig.ingest.shard_health().iter().all(|shard| shard.alive));
}

#[tokio::test]
async fn a_new_source_port_keeps_the_connection_on_every_shard() {
    let rig = Rig::new(4);
    let mut clients = Vec::new();
    // Client-chosen ids spread at random: enough of them that every shard has some.
    for number in 1..=40 {
        clients.push(rig.sensor(number).await);
    }
    let shard_of = |number| rig.snapshot(number).owner.map(|owner| owner.shard);
    for shard in 0..4 {
        assert!((1..=40).any(|number| shard_of(number) == Some(shard)), "nobody on shard {shard}");
    }
    for client in &mut clients {
        client.beat();
    }
    for number in 1..=40 {
        rig.until_received(number, 1).await;
    }
    for client in &mut clients {
        client.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        client.beat();
    }
    for number in 1..=40 {
        rig.until_received(number, 2).await;
    }
    // And once more after the new path was validated.
    for client in &mut clients {
        client.beat();
    }
    for number in 1..=40 {
        rig.until_received(number, 3).await;
        assert_eq!(rig.snapshot(number).reconnects, 0, "sensor {number} reconnected");
    }
    assert_eq!(rig.counters().handshakes, 40);
}

#[tokio::test]
async fn packet_keys_are_changed_and_heartbeats_go_on() {
    let rig = Rig::new(1);
    let mut client = rig.sensor(1).await;
    for round in 1..=6 {
        client.beat();
        rig.until_received(1, 2 * round - 1).await;
        // The next one waits until the last was confirmed, which a heartbeat and its answer do.
        client.connection.force_key_update();
        client.beat();
        rig.until_received(1, 2 * round).await;
    }
    assert_eq!(client.connection.close_reason(), None);
    let counters = rig.counters();
    assert_eq!((counters.frames, counters.broken, counters.lost), (12, 0, 0));
}

/// Packets of living connections are sent again with another shard's first id byte, from the same source:
/// nobody answers, nobody dies.
#[tokio::test]
async fn packets_for_the_wrong_shard_kill_nothing() {
    let rig = Rig::new(3);
    // The client speaks through a relay that the test owns, so it can see and change packets.
    let relay = Relay::start(rig.ingest.local_addr());
    let id = fleetpulse::wire::id::SensorId::from_number(1);
    rig.register(id);
    let identity = rig.issue(fleetpulse::identity::PeerIdentity::Sensor(id));
    let tls = fleetpulse::identity::client_tls(
        &identity,
        fleetpulse::identity::ALPN_MAIN,
        std::sync::Arc::new(rig.clock),
    )
    .unwrap();
    let mut client = Client::connect(relay.address, tls, id).await.unwrap();
    for _ in 0..20 {
        client.beat();
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.until_received(1, 20).await;
    rig.until("misrouted copies arrive and are dropped", |rig| rig.counters().unroutable >= 20).await;
    let counters = rig.counters();
    assert_eq!(counters.answers, 0, "a stateless reset was sent");
    assert_eq!(client.connection.close_reason(), None);
    client.beat();
    rig.until_received(1, 21).await;
}

/// Passes packets both ways, and sends two damaged copies of each short-header packet towards the server: their
/// connection id is made to lead to the two other shards.
struct Relay {
    address: std::net::SocketAddr,
}

impl Relay {
    fn start(server: std::net::SocketAddr) -> Relay {
        let front = UdpSocket::bind("127.0.0.1:0").unwrap();
        let back = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = front.local_addr().unwrap();
        front.set_nonblocking(true).unwrap();
        back.set_nonblocking(true).unwrap();
        let front = tokio::net::UdpSocket::from_std(front).unwrap();
        let back = tokio::net::UdpSocket::from_std(back).unwrap();
        tokio::spawn(async move {
            let (mut there, mut here) = ([0; 2_048], [0; 2_048]);
            let mut client = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = front.recv_from(&mut there) => {
                        client = Some(from);
                        let packet = &mut there[..length];
                        back.send_to(packet, server).await.unwrap();
                        if packet[0] & 0x80 == 0 {
                            for _ in 0..2 {
                                packet[1] = packet[1].wrapping_add(1) % 255;
                                back.send_to(packet, server).await.unwrap();
                            }
                        }
                    }
                    Ok((length, _)) = back.recv_from(&mut here) => {
                        if let Some(client) = client {
                            front.send_to(&here[..length], client).await.unwrap();
                        }
                    }
                }
            }
        });
        Relay { address }
    }
}

#[tokio::test]
async fn after_a_crash_sensors_learn_at_once_and_resume() {
    let mut rig = Rig::new(2);
    let mut client = rig.sensor(1).await;
    client.beat();
    rig.until_received(1, 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    // A crash: the packets of the stop never reach the client.
    let server = rig.ingest.local_addr();
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.endpoint.rebind(deaf).unwrap();
    rig.restart(&[client.id]);
    assert_eq!(rig.ingest.local_addr(), server);

    let began = std::time::Duration::from_secs(3);
    let lost = tokio::time::timeout(began, async {
        while client.connection.close_reason().is_none() {
            let frame = client.heartbeat();
            let _ = client.connection.send_datagram(frame.into());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    lost.await.expect("the new server resets what it does not know");

    let mut again = Client::connect(server, client.tls.clone(), client.id).await.unwrap();
    again.beat();
    rig.until_received(1, 1).await;
    assert!(again.resumed(), "the ticket key outlived the restart");
}

/// Each try shows a ticket, and no ticket is shown twice.
#[tokio::test]
async fn after_two_tries_that_nobody_answered_the_third_resumes() {
    let rig = Rig::new(2);
    let mut client = rig.sensor(1).await;
    client.beat();
    rig.until_received(1, 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.connection.close(0_u32.into(), b"");
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..2 {
        let nobody = nobody.local_addr().unwrap();
        let tried = Client::connect(nobody, client.tls.clone(), client.id);
        assert!(tokio::time::timeout(Duration::from_millis(300), tried).await.is_err());
    }
    let again = Client::connect(rig.ingest.local_addr(), client.tls.clone(), client.id).await.unwrap();
    assert!(again.resumed(), "{} bytes", again.handshake_bytes);
    rig.until("it has its slot", |rig| rig.snapshot(1).connected).await;
}

#[tokio::test]
async fn a_drain_tells_everybody_when_to_come_back_and_closes() {
    let rig = Rig::new(2);
    let mut clients = Vec::new();
    for number in 1..=6 {
        clients.push(rig.sensor(number).await);
    }
    let plan = fleetpulse::ingest::DrainPlan {
        over: Duration::from_millis(300),
        come_back_after: Duration::from_secs(7),
        come_back_spread: Duration::from_secs(5),
    };
    rig.ingest.drain(plan).unwrap();
    for client in &clients {
        let told = super::control::answer_one(&client.connection).await;
        match told {
            fleetpulse::wire::control::ToSensor::ComeBack { after_ms, .. } => {
                assert!((7_000..=12_000).contains(&after_ms), "{after_ms}");
            }
            other => panic!("told {other:?}"),
        }
        assert_eq!(client.closed().await, CloseCode::Draining);
    }
    rig.until("all are gone", |rig| rig.ingest.drained()).await;
    let late = tokio::time::timeout(
        PATIENCE,
        Client::connect(rig.ingest.local_addr(), clients[0].tls.clone(), clients[0].id),
    );
    match late.await.unwrap() {
        Err(quinn::ConnectionError::ConnectionClosed(_)) => {}
        other => panic!("a draining server took a connection: {:?}", other.map(|_| ())),
    }
    let counters = rig.counters();
    assert_eq!(counters.closed_for(CloseCode::Draining), 6);
    // A hello with a ticket takes two packets, and each is told.
    assert!((1..=2).contains(&counters.refused_draining), "{}", counters.refused_draining);
    assert_eq!(counters.refused_full, 0, "it has room, and does not want");
}

#[tokio::test]
async fn a_peer_is_made_to_acknowledge_now_and_then() {
    let rig = Rig::new(1);
    let mut client = rig.sensor(1).await;
    for _ in 0..600 {
        client.beat();
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    rig.until_received(1, 600).await;
    let elicited = rig.counters().acks_elicited;
    assert!((2..=3).contains(&elicited), "{elicited} in 600 packets and the handshake's");
}
