//! Who gets in and who does not: certificates, revocation, the register, two with one identity, reload.

use std::sync::Arc;
use std::time::Duration;

use fleetpulse::identity::{ALPN_MAIN, Authority, ClientIdentity, PeerIdentity, ServerTls, client_tls};
use fleetpulse::live::{Lifecycle, SensorType, SlotFacts};
use fleetpulse::time::Clock;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::id::{GatewayId, SensorId};

use super::rig::{Client, Neighbour, PATIENCE, Rig, SITE, code, server_tls};

fn tls(rig: &Rig, identity: &ClientIdentity) -> rustls::ClientConfig {
    client_tls(identity, ALPN_MAIN, Arc::new(rig.clock)).expect("client TLS")
}

/// Connects, and says why the server closed it; a client may be through the handshake before it is refused.
async fn refused(rig: &Rig, tls: rustls::ClientConfig) -> quinn::ConnectionError {
    match Client::connect(rig.ingest.local_addr(), tls, SensorId::from_number(1)).await {
        Err(error) => error,
        Ok(client) => {
            tokio::time::timeout(PATIENCE, client.connection.closed()).await.expect("it was let in")
        }
    }
}

fn alert(error: &quinn::ConnectionError) -> u64 {
    match error {
        quinn::ConnectionError::ConnectionClosed(close) => u64::from(close.error_code) - 0x100,
        quinn::ConnectionError::TransportError(error) => u64::from(error.code) - 0x100,
        other => panic!("no TLS alert: {other:?}"),
    }
}

/// A client that trusts the server and shows no certificate.
fn anonymous(identity: &ClientIdentity, alpn: &[u8]) -> rustls::ClientConfig {
    let mut roots = rustls::RootCertStore::empty();
    for root in identity.trust().unwrap().roots {
        roots.add(root).unwrap();
    }
    let mut anonymous = rustls::ClientConfig::builder_with_provider(fleetpulse::identity::provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    anonymous.alpn_protocols = vec![alpn.to_vec()];
    anonymous
}

async fn failed_for(rig: &Rig, label: &str) {
    let count = |rig: &Rig| {
        rig.counters().handshake_failures.iter().find(|(l, _)| *l == label).map_or(0, |(_, count)| *count)
    };
    rig.until(label, |rig| count(rig) >= 1).await;
}

#[tokio::test]
async fn without_a_certificate_nobody_gets_in() {
    let rig = Rig::new(1);
    let id = SensorId::from_number(1);
    let identity = rig.issue(PeerIdentity::Sensor(id));
    let anonymous = anonymous(&identity, ALPN_MAIN);
    assert_eq!(alert(&refused(&rig, anonymous).await), 116);
    failed_for(&rig, "no_certificate").await;
}

#[tokio::test]
async fn another_authority_is_refused() {
    let rig = Rig::new(1);
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open_or_create(elsewhere.path(), rig.clock.unix()).unwrap();
    let id = SensorId::from_number(1);
    rig.register(id);
    let life = Duration::from_secs(86_400);
    let mut identity = other.issue(PeerIdentity::Sensor(id), life, rig.clock.unix()).unwrap();
    identity.trust_bundle_pem = rig.issue(PeerIdentity::Sensor(id)).trust_bundle_pem;
    let error = refused(&rig, tls(&rig, &identity)).await;
    assert!([42, 48, 51].contains(&alert(&error)), "{error:?}");
    rig.until("counted", |rig| rig.counters().handshakes_failed == 1).await;
    assert!(!rig.snapshot(1).connected);
}

#[tokio::test]
async fn the_wrong_protocol_is_refused() {
    let rig = Rig::new(1);
    let identity = rig.issue(PeerIdentity::Sensor(SensorId::from_number(1)));
    for alpn in [fleetpulse::identity::ALPN_ENROL, b"h3"] {
        let wrong = client_tls(&identity, alpn, Arc::new(rig.clock)).unwrap();
        assert_eq!(alert(&refused(&rig, wrong).await), 120);
    }
    failed_for(&rig, "no_application_protocol").await;
    assert_eq!(rig.counters().refused_early + rig.counters().handshakes_failed, 2);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_by_a_full_handshake_and_by_a_resumed_one() {
    let rig = Rig::new(1);
    let neighbour = Neighbour::new(&rig).await;
    let id = SensorId::from_number(1);
    rig.register(id);
    let identity =
        rig.authority.issue(PeerIdentity::Sensor(id), Duration::from_secs(4), rig.clock.unix()).unwrap();
    let config = tls(&rig, &identity);
    let mut client = Client::connect(rig.ingest.local_addr(), config.clone(), id).await.unwrap();
    client.beat();
    rig.until_received(1, 1).await;
    let end = identity.leaf().unwrap().not_after;
    while rig.clock.unix() <= end {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // The living connection ends too, at the next look.
    assert_eq!(client.closed().await, CloseCode::CertificateExpired);
    // Resumed: the TLS verifier is skipped, our own check is not.
    let error = refused(&rig, config).await;
    assert_eq!(code(&error), CloseCode::CertificateExpired);
    // Full.
    assert_eq!(alert(&refused(&rig, tls(&rig, &identity)).await), 45);
    failed_for(&rig, "certificate_expired").await;
    assert!(!rig.snapshot(1).connected);
    assert_eq!(rig.counters().closed_for(CloseCode::CertificateExpired), 2);
    neighbour.stays_well(&rig).await;
}

#[tokio::test]
async fn revocation_closes_at_once_and_holds_for_resumed_sessions() {
    let rig = Rig::new(3);
    let mut clients = Vec::new();
    for number in 1..=9 {
        clients.push(rig.sensor(number).await);
        clients.last_mut().unwrap().beat();
    }
    for number in 1..=9 {
        rig.until_received(number, 1).await;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let identity = rig.issue(PeerIdentity::Sensor(SensorId::from_number(1)));
    let again = rig.client(&identity, SensorId::from_number(1)).await;
    let serial = identity.leaf().unwrap().serial;
    assert_eq!(clients[0].closed().await, CloseCode::Replaced);
    again.connection.send_datagram(super::rig::frame(SensorId::from_number(1), 2).into()).unwrap();
    rig.until_received(1, 2).await;
    tokio::time::sleep(Duration::from_millis(100)).await;

    rig.revocations.revoke(&[serial.into()], rig.clock.unix()).unwrap();
    let began = rig.clock.mono();
    rig.ingest.revoke([serial]).unwrap();
    assert_eq!(again.closed().await, CloseCode::CertificateRevoked);
    assert!(rig.clock.mono().since(began) < Duration::from_secs(1));
    let resumed = refused(&rig, again.tls.clone()).await;
    assert_eq!(code(&resumed), CloseCode::CertificateRevoked);
    let full = refused(&rig, tls(&rig, &identity)).await;
    assert_eq!(code(&full), CloseCode::CertificateRevoked);
    for client in &clients[1..] {
        assert!(client.connection.close_reason().is_none());
    }
    assert_eq!(rig.counters().closed_for(CloseCode::CertificateRevoked), 3);
}

#[tokio::test]
async fn the_register_decides_who_may_report() {
    let rig = Rig::new(1);
    let facts = |lifecycle, kind| SlotFacts { lifecycle, kind, ..Rig::facts(SITE) };
    let connect = async |number: u64| {
        let identity = rig.issue(PeerIdentity::Sensor(SensorId::from_number(number)));
        code(&refused(&rig, tls(&rig, &identity)).await)
    };
    assert_eq!(connect(1).await, CloseCode::UnknownIdentity);
    let cases = [
        (Lifecycle::PendingReactivation, SensorType::OtCloud, CloseCode::NotActive),
        (Lifecycle::Active, SensorType::OtLocal, CloseCode::NotActive),
        (Lifecycle::Deleted, SensorType::OtCloud, CloseCode::UnknownIdentity),
    ];
    for (lifecycle, kind, expected) in cases {
        rig.live.insert(SensorId::from_number(2), facts(lifecycle, kind)).unwrap();
        assert_eq!(connect(2).await, expected);
    }
    let gateway = rig.issue(PeerIdentity::Gateway(GatewayId::from_number(5)));
    assert_eq!(code(&refused(&rig, tls(&rig, &gateway)).await), CloseCode::UnknownIdentity);

    // Deleted while connected: at the next frame, or when all are judged again.
    let mut speaks = rig.sensor(3).await;
    let silent = rig.sensor(4).await;
    for number in [3, 4] {
        rig.live.remove(SensorId::from_number(number)).unwrap();
    }
    speaks.beat();
    assert_eq!(speaks.closed().await, CloseCode::UnknownIdentity);
    assert!(silent.connection.close_reason().is_none());
    rig.ingest.recheck();
    assert_eq!(silent.closed().await, CloseCode::UnknownIdentity);
}

#[tokio::test]
async fn of_two_with_one_identity_the_later_one_stays() {
    let rig = Rig::new(4);
    let id = SensorId::from_number(1);
    rig.register(id);
    let identity = rig.issue(PeerIdentity::Sensor(id));
    let mut last = rig.client(&identity, id).await;
    // Enough rounds that old and new connection are on different shards some of the time.
    for round in 1..=12 {
        rig.until("taken", |rig| rig.snapshot(1).connected && rig.snapshot(1).reconnects + 1 >= round).await;
        let mut next = rig.client(&identity, id).await;
        assert_eq!(last.closed().await, CloseCode::Replaced);
        next.sequence = last.sequence;
        next.beat();
        rig.until_received(1, u64::from(round)).await;
        last = next;
    }
    let snapshot = rig.snapshot(1);
    assert_eq!(snapshot.replaced, 12);
    assert!(snapshot.connected);
    assert_eq!(rig.counters().replaced, 12);
    assert_eq!(rig.counters().sensors, 1);
}

#[tokio::test]
async fn a_reload_of_tls_drops_nobody_and_takes_effect_on_every_shard() {
    let rig = Rig::new(3);
    let mut before = Vec::new();
    for number in 1..=6 {
        before.push(rig.sensor(number).await);
    }
    // Another authority from now on.
    let elsewhere = tempfile::tempdir().unwrap();
    let other = Authority::open_or_create(elsewhere.path(), rig.clock.unix()).unwrap();
    let fresh: ServerTls = server_tls(&other, &rig.keys, rig.clock);
    assert_eq!(rig.ingest.reload_tls(&fresh).unwrap(), 2);
    for number in 20..40 {
        let id = SensorId::from_number(number);
        rig.register(id);
        let life = Duration::from_secs(86_400);
        let identity = other.issue(PeerIdentity::Sensor(id), life, rig.clock.unix()).unwrap();
        rig.client(&identity, id).await;
    }
    for client in &mut before {
        client.beat();
    }
    for number in 1..=6 {
        rig.until_received(number, 1).await;
        assert_eq!(rig.snapshot(number).reconnects, 0);
    }
    rig.until("every shard uses it", |rig| rig.counters().tls_generation == 6).await;
}
