//! What every refusal has in common: a reason that the peer is told, a counter of that reason, at most one line a
//! peer and minute in the log, and neighbours that notice nothing.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use fleetpulse::identity::{
    ALPN_ENROL, ALPN_MAIN, Authority, ClientIdentity, PeerIdentity, client_tls, provider,
};
use fleetpulse::limits::{FRAME_AGE_MAX, REFUSED_FRAMES_MAX};
use fleetpulse::live::{Lifecycle, Observed, SlotFacts};
use fleetpulse::time::Clock;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::frame::write_frame;
use fleetpulse::wire::id::{GatewayId, SensorId};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::rig::{
    Client, Neighbour, OTHER_SITE, PATIENCE, Rig, SITE, frame, heartbeat, lines_about, listen_to_log,
    server_tls,
};

/// How a peer is told.
enum Told {
    /// TLS alert, by number; the handshake fails, counted by this reason.
    Alert(u64, &'static str),
    /// Close code after the handshake.
    Code(CloseCode),
}

fn sensor(number: u64) -> PeerIdentity {
    PeerIdentity::Sensor(SensorId::from_number(number))
}

fn main_port(rig: &Rig, identity: &ClientIdentity) -> rustls::ClientConfig {
    client_tls(identity, ALPN_MAIN, Arc::new(rig.clock)).expect("client TLS")
}

/// A client with a chain and key that our own library would not use, or with none.
fn strange(rig: &Rig, chain_and_key: Option<&str>) -> rustls::ClientConfig {
    trusting(&[&rig.authority], chain_and_key)
}

fn trusting(authorities: &[&Authority], chain_and_key: Option<&str>) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for root in authorities.iter().flat_map(|authority| &authority.trust().roots) {
        roots.add(root.clone()).unwrap();
    }
    let builder = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match chain_and_key {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            let chain = CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().unwrap();
            let key = PrivateKeyDer::from_pem_slice(pem.as_bytes()).unwrap();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    };
    config.alpn_protocols = vec![ALPN_MAIN.to_vec()];
    config
}

/// A certificate of our own authority that names nobody.
fn nameless(rig: &Rig) -> String {
    let file = std::fs::read_to_string(rig.dir.path().join("identity/intermediate.pem")).unwrap();
    let (authority, key) = file.split_at(file.find("-----BEGIN PRIVATE").unwrap());
    let issuer = rcgen::Issuer::from_ca_cert_pem(authority, rcgen::KeyPair::from_pem(key).unwrap()).unwrap();
    let own = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(Vec::<String>::new()).unwrap();
    params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = params.signed_by(&own, &issuer).unwrap();
    format!("{}{authority}{}", certificate.pem(), own.serialize_pem())
}

fn failures(rig: &Rig, reason: &str) -> u64 {
    rig.counters().handshake_failures.iter().find(|(label, _)| *label == reason).unwrap().1
}

/// A peer of its own is refused: told why, counted once, said once, though it tries twice.
async fn is_refused(rig: &Rig, from: u8, what: &str, tls: rustls::ClientConfig, told: Told) {
    let from = Ipv4Addr::new(127, 0, 1, from);
    let count = |rig: &Rig| match &told {
        Told::Alert(_, reason) => failures(rig, reason),
        Told::Code(code) => rig.counters().closed_for(*code),
    };
    let reason = match &told {
        Told::Alert(_, reason) => (*reason).to_owned(),
        Told::Code(code) => code.label().to_owned(),
    };
    let before = count(rig);
    for attempt in 1..=2 {
        let server = rig.ingest.local_addr();
        // A client may be through its handshake before it is refused.
        let error = match Client::connect_from(from, server, tls.clone(), SensorId::from_number(1)).await {
            Err(error) => error,
            Ok(client) => tokio::time::timeout(PATIENCE, client.connection.closed()).await.expect(what),
        };
        match (&told, &error) {
            (Told::Alert(alert, _), quinn::ConnectionError::ConnectionClosed(close)) => {
                assert_eq!(u64::from(close.error_code), 0x100 + alert, "{what}: {error:?}");
            }
            (Told::Code(code), quinn::ConnectionError::ApplicationClosed(close)) => {
                assert_eq!(close.error_code.into_inner(), u64::from(code.code()), "{what}: {error:?}");
                assert_eq!(close.reason, code.text().as_bytes(), "{what}");
            }
            _ => panic!("{what}: refused otherwise: {error:?}"),
        }
        rig.until(what, |rig| count(rig) == before + attempt).await;
    }
    rig.until(what, |_| !lines_about(IpAddr::from(from)).is_empty()).await;
    let lines = lines_about(IpAddr::from(from));
    assert_eq!(lines.len(), 1, "{what}: {lines:?}");
    assert!(lines[0].contains(&reason), "{what}: {lines:?}");
}

#[tokio::test]
async fn who_may_not_come_in_is_told_why_counted_and_said_once() {
    listen_to_log();
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let suppressed = rig.counters().log_suppressed;

    let server = std::fs::read_to_string(rig.dir.path().join("identity/server.pem")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open_or_create(elsewhere.path(), rig.clock.unix()).unwrap();
    let day = Duration::from_secs(86_400);
    let foreign = other.issue(sensor(1_000), day, rig.clock.unix()).unwrap();
    let foreign = format!("{}{}", foreign.cert_chain_pem, foreign.key_pem);
    let long_ago = rig.clock.unix().minus(3 * day);
    let expired = rig.authority.issue(sensor(1_000), day, long_ago).unwrap();
    let wrong_alpn = client_tls(&rig.issue(sensor(1_000)), ALPN_ENROL, Arc::new(rig.clock)).unwrap();
    let alerts = [
        ("no certificate", strange(&rig, None), 116, "no_certificate"),
        ("the server's own certificate", strange(&rig, Some(&server)), 43, "bad_certificate"),
        ("another authority's", strange(&rig, Some(&foreign)), 48, "unknown_ca"),
        ("expired", main_port(&rig, &expired), 45, "certificate_expired"),
        ("another protocol", wrong_alpn, 120, "no_application_protocol"),
    ];
    for (number, (what, tls, alert, reason)) in (1..).zip(alerts) {
        is_refused(&rig, number, what, tls, Told::Alert(alert, reason)).await;
    }

    let revoked = rig.issue(sensor(1_000));
    rig.revocations.revoke(&[revoked.leaf().unwrap().serial.into()], rig.clock.unix()).unwrap();
    let inactive = SlotFacts { lifecycle: Lifecycle::PendingReactivation, ..Rig::facts(SITE) };
    rig.live.insert(SensorId::from_number(2), inactive).unwrap();
    let gateway = rig.issue(PeerIdentity::Gateway(GatewayId::from_number(3)));
    let codes = [
        ("nobody's name", strange(&rig, Some(&nameless(&rig))), CloseCode::NoIdentity),
        ("revoked", main_port(&rig, &revoked), CloseCode::CertificateRevoked),
        ("unknown sensor", main_port(&rig, &rig.issue(sensor(1))), CloseCode::UnknownIdentity),
        ("unknown gateway", main_port(&rig, &gateway), CloseCode::UnknownIdentity),
        ("to be activated again", main_port(&rig, &rig.issue(sensor(2))), CloseCode::NotActive),
    ];
    for (number, (what, tls, code)) in (11..).zip(codes) {
        is_refused(&rig, number, what, tls, Told::Code(code)).await;
    }
    let held_back = |rig: &Rig| rig.counters().log_suppressed - suppressed;
    rig.until("the second line about each is held back", |rig| held_back(rig) == 10).await;
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_refused_frame_is_said_once_a_peer_and_minute() {
    listen_to_log();
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let connect = async |number: u64, from: [u8; 4]| {
        let id = SensorId::from_number(number);
        rig.register(id);
        let tls = main_port(&rig, &rig.issue(sensor(number)));
        Client::connect_from(from.into(), rig.ingest.local_addr(), tls, id).await.expect("let in")
    };
    let client = connect(1, [127, 0, 2, 1]).await;
    let bad: [(Vec<u8>, &str); 5] = [
        (vec![0xff; 300], "magic"),
        (frame(client.id, 1)[..200].to_vec(), "truncated"),
        (frame(SensorId::from_number(1_000), 7), "not_covered"),
        (vec![0xff; 3], "magic"),
        (frame(client.id, 1)[..15].to_vec(), "truncated"),
    ];
    let refused = |rig: &Rig| {
        let counters = rig.counters();
        counters.not_covered + counters.unreadable.iter().map(|(_, count)| count).sum::<u64>()
    };
    for (number, (bytes, _)) in (1..).zip(&bad) {
        client.connection.send_datagram(bytes.clone().into()).unwrap();
        rig.until("refused", |rig| refused(rig) == number).await;
    }
    rig.until("four lines were held back", |rig| rig.counters().log_suppressed == 4).await;
    let lines = lines_about(IpAddr::from([127, 0, 2, 1]));
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("a frame was refused") && lines[0].contains("magic"), "{lines:?}");
    assert!(client.connection.close_reason().is_none(), "slips are forgiven");

    // Another peer has a line of its own.
    let other = connect(2, [127, 0, 2, 2]).await;
    other.connection.send_datagram(vec![0xff; 20].into()).unwrap();
    rig.until("said", |_| lines_about(IpAddr::from([127, 0, 2, 2])).len() == 1).await;
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_clock_that_is_years_off_is_compared_and_never_trusted() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let client = rig.sensor(1).await;
    rig.live.set_wall(rig.clock.now());
    let year_us = 365 * 86_400 * 1_000_000_i64;
    let clocks = [0, 60 * year_us, i64::MAX, i64::MIN, rig.clock.unix().0 * 1_000];
    for (sequence, clock) in (1..).zip(clocks) {
        let mut beat = heartbeat(client.id, sequence);
        beat.sensor_clock_unix_us = clock;
        let mut bytes = Vec::new();
        write_frame(&beat, 0, &mut bytes);
        let before = rig.clock.mono();
        client.connection.send_datagram(bytes.into()).unwrap();
        rig.until_received(1, sequence).await;
        let snapshot = rig.snapshot(1);
        assert_eq!(snapshot.heartbeat.sequence, sequence);
        assert!((before..=rig.clock.mono()).contains(&snapshot.last_heartbeat), "{snapshot:?}");
    }
    assert!(rig.snapshot(1).clock_offset_ms.abs() > year_us / 1_000, "the worst of the last is told");

    // An age that cannot be is a refusal, and moves nothing.
    let mut old = Vec::new();
    let too_old_ms = u32::try_from(FRAME_AGE_MAX.as_millis()).unwrap() + 1;
    write_frame(&heartbeat(client.id, 99), too_old_ms, &mut old);
    client.connection.send_datagram(old.into()).unwrap();
    rig.until("too old", |rig| rig.counters().observed_as(Observed::TooOld) == 1).await;
    assert_eq!(rig.snapshot(1).heartbeat.sequence, 5);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_gateway_that_loses_a_site_speaks_no_more_for_it_at_once() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    for (number, site) in [(1, SITE), (2, OTHER_SITE)] {
        rig.live.insert(SensorId::from_number(number), Rig::facts(site)).unwrap();
    }
    let gateway = rig.gateway(1, &[SITE, OTHER_SITE]).await;
    let index = rig.live.find_gateway(GatewayId::from_number(1)).unwrap();
    let mut stream = gateway.connection.open_uni().await.unwrap();
    let both = |sequence| {
        [frame(SensorId::from_number(1), sequence), frame(SensorId::from_number(2), sequence)].concat()
    };
    stream.write_all(&both(1)).await.unwrap();
    rig.until_received(2, 1).await;
    assert!(rig.live.set_gateway_sites(index, &[SITE]));
    stream.write_all(&both(2)).await.unwrap();
    rig.until("refused", |rig| rig.counters().not_covered == 1).await;
    rig.until_received(1, 2).await;
    assert_eq!(rig.snapshot(2).received, 1);
    assert!(rig.live.set_gateway_sites(index, &[OTHER_SITE, SITE]));
    stream.write_all(&both(3)).await.unwrap();
    rig.until_received(1, 3).await;
    rig.until_received(2, 2).await;

    // Deleted: nothing that it says counts any more, and nobody else's gateway gets its place.
    assert!(rig.live.remove_gateway(GatewayId::from_number(1)).is_some());
    stream.write_all(&both(4)).await.unwrap();
    rig.until("both refused", |rig| rig.counters().not_covered == 3).await;
    rig.ingest.recheck();
    assert_eq!(gateway.closed().await, CloseCode::UnknownIdentity);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn a_ticket_from_before_a_restart_opens_for_those_who_may_still_come() {
    let mut rig = Rig::new(2);
    let (mut clients, mut serials) = (Vec::new(), Vec::new());
    for number in 1..=3 {
        let id = SensorId::from_number(number);
        rig.register(id);
        let identity = rig.issue(PeerIdentity::Sensor(id));
        serials.push(identity.leaf().unwrap().serial);
        let mut client = rig.client(&identity, id).await;
        client.beat();
        rig.until_received(number, 1).await;
        clients.push(client);
    }
    // Tickets come right after the handshake.
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.revocations.revoke(&[serials[0].into()], rig.clock.unix()).unwrap();
    // The second is deleted while the server is down, the third is still welcome.
    let kept = [clients[0].id, clients[2].id];
    rig.restart(&kept);
    let expected = [Some(CloseCode::CertificateRevoked), Some(CloseCode::UnknownIdentity), None];
    for (client, expected) in clients.iter().zip(expected) {
        let again = Client::connect(rig.ingest.local_addr(), client.tls.clone(), client.id).await.unwrap();
        assert!(again.resumed(), "the ticket was taken, so the server's own check had to refuse");
        match expected {
            Some(code) => {
                assert_eq!(again.closed().await, code);
                assert_eq!(rig.counters().closed_for(code), 1);
            }
            None => rig.until("it has its slot", |rig| rig.snapshot(3).connected).await,
        }
    }
    assert_eq!(rig.counters().sensors, 1);
}

/// The peer's certificate is in the ticket, and who resumes is not verified again. So a ticket is worth something
/// only as long as the roots are trusted that its certificate was verified by.
#[tokio::test]
async fn a_ticket_from_another_authoritys_time_opens_nothing() {
    let rig = Rig::new(2);
    let neighbour = Neighbour::new(&rig).await;
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open_or_create(elsewhere.path(), rig.clock.unix()).unwrap();
    let id = SensorId::from_number(1);
    rig.register(id);
    let issued = rig.issue(sensor(1));
    let pem = format!("{}{}", issued.cert_chain_pem, issued.key_pem);
    let tls = trusting(&[&rig.authority, &other], Some(&pem));
    let server = rig.ingest.local_addr();
    let resume = async || {
        let mut client = Client::connect(server, tls.clone(), id).await.unwrap();
        let received = rig.snapshot(1).received;
        client.sequence = received;
        client.beat();
        rig.until_received(1, received + 1).await;
        // Tickets come right after the handshake.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.resumed()
    };
    assert!(!resume().await && resume().await, "a full handshake, then a short one");

    // The same keys, the same certificate in the register; but nobody trusts its issuer any more.
    rig.ingest.reload_tls(&server_tls(&other, &rig.keys, rig.clock)).unwrap();
    is_refused(&rig, 21, "the ticket is worth nothing", tls, Told::Alert(48, "unknown_ca")).await;
    neighbour.stays_well(&rig).await;
}

/// Whatever ends a living connection: the peer is told, it is counted by its reason, and said once.
#[tokio::test]
async fn what_ends_a_connection_is_told_counted_and_said_once() {
    listen_to_log();
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let server = rig.ingest.local_addr();
    let sensor_from = async |number: u64, from: [u8; 4]| {
        let id = SensorId::from_number(number);
        rig.register(id);
        let tls = main_port(&rig, &rig.issue(sensor(number)));
        Client::connect_from(from.into(), server, tls, id).await.expect("let in")
    };
    let gateway_from = async |number: u64, from: [u8; 4]| {
        let gateway = GatewayId::from_number(number);
        rig.live.insert_gateway(gateway, &[SITE]).expect("room");
        let tls = main_port(&rig, &rig.issue(PeerIdentity::Gateway(gateway)));
        Client::connect_from(from.into(), server, tls, SensorId::from_number(1)).await.expect("let in")
    };

    let stalled = gateway_from(1, [127, 0, 4, 1]).await;
    let mut stream = stalled.connection.open_uni().await.unwrap();
    stream.write_all(&frame(SensorId::from_number(1), 1)[..100]).await.unwrap();

    let unframed = gateway_from(2, [127, 0, 4, 2]).await;
    let mut lost = unframed.connection.open_uni().await.unwrap();
    lost.write_all(&[0xff; 300]).await.unwrap();

    let stranger = gateway_from(3, [127, 0, 4, 3]).await;
    let mut foreign = stranger.connection.open_uni().await.unwrap();
    for sequence in 1..=2 * u64::from(REFUSED_FRAMES_MAX) {
        if foreign.write_all(&frame(SensorId::from_number(77), sequence)).await.is_err() {
            break;
        }
    }
    let impostor = sensor_from(4, [127, 0, 4, 4]).await;
    for sequence in 1..=2 * u64::from(REFUSED_FRAMES_MAX) {
        let _ = impostor.connection.send_datagram(frame(neighbour.0.id, 50 + sequence).into());
    }
    let rubbish = sensor_from(5, [127, 0, 4, 5]).await;
    for _ in 0..2 * REFUSED_FRAMES_MAX {
        let _ = rubbish.connection.send_datagram(vec![0xff; 200].into());
    }
    let mut hasty = sensor_from(6, [127, 0, 4, 6]).await;
    while hasty.connection.close_reason().is_none() {
        let frames: Vec<u8> = (0..4).flat_map(|_| hasty.heartbeat()).collect();
        let _ = hasty.connection.send_datagram_wait(frames.into()).await;
    }
    let ends = [
        (1, &stalled, CloseCode::Stalled),
        (2, &unframed, CloseCode::Malformed),
        (3, &stranger, CloseCode::NotCovered),
        (4, &impostor, CloseCode::NotCovered),
        (5, &rubbish, CloseCode::Malformed),
        (6, &hasty, CloseCode::TooFast),
    ];
    for (number, client, code) in ends {
        assert_eq!(client.closed().await, code, "{number}");
        let from = IpAddr::from([127, 0, 4, number]);
        rig.until("said", |_| !lines_about(from).is_empty()).await;
        assert_eq!(lines_about(from).len(), 1, "{:?}", lines_about(from));
    }
    let counters = rig.counters();
    for (code, count) in [
        (CloseCode::Stalled, 1),
        (CloseCode::Malformed, 2),
        (CloseCode::NotCovered, 2),
        (CloseCode::TooFast, 1),
    ] {
        assert_eq!(counters.closed_for(code), count, "{code:?}");
    }
    assert!(lines_about(IpAddr::from([127, 0, 4, 1]))[0].contains(CloseCode::Stalled.label()));
    neighbour.stays_well(&rig).await;
}
