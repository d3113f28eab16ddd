//! Certificates that are taken back: connections end within a second, and nobody comes back with them.

use std::time::Duration;

use fleetpulse::fleet::Command;
use fleetpulse::identity::{ClientIdentity, IdentityFolder, Serial};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::sensor::{Beat, Boot, Client, ClientConfig, Loss, Socket};
use fleetpulse::time::Clock;
use fleetpulse::wire::close::CloseCode;
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::SensorId;

use super::rig::Rig;
use crate::process::{tell, until};

/// A sensor that was activated and reports, with waits that make it come back at once.
fn connected(rig: &Rig, socket: &Socket, name: &str) -> (SensorId, ClientIdentity, Client) {
    let id = rig.onboard(name, SensorType::OtCloud);
    let folder = IdentityFolder::new(rig.out(name));
    // The client library's own runtime is busy with the sensors.
    std::thread::scope(|scope| {
        scope.spawn(|| rig.activate(&rig.read(&rig.issue(id)), &folder).expect("activated"));
    });
    let identity = ClientIdentity::read(folder.path()).expect("an identity");
    let clock = rig.server.clock();
    let mut boot = Boot::new(id, clock.mono());
    let source = move |beat: &Beat| {
        let mut heartbeat = Heartbeat::default();
        boot.stamp(&mut heartbeat, beat.now);
        Some(heartbeat)
    };
    let mut config = ClientConfig::new(rig.server.ingest_addr().to_string(), "localhost");
    config.interval = Duration::from_millis(100);
    config.back_off.refused = Duration::from_millis(100);
    config.back_off.first = Duration::from_millis(100);
    let client = Client::start(config, &identity, socket, clock, source).expect("a client");
    (id, identity, client)
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_and_deleted_sensors_are_gone_within_a_second_and_stay_away() {
    let rig = Rig::new();
    let socket = Socket::bind().expect("a socket");
    let (one, identity, first) = connected(&rig, &socket, "revoked");
    let (two, _, second) = connected(&rig, &socket, "deleted");
    let (three, _, _third) = connected(&rig, &socket, "neighbour");
    for id in [one, two, three] {
        rig.until_heartbeats(id);
    }
    rig.apply(&[Command::RevokeCredentials { id: one }, Command::DeleteSensor { id: two }]);
    let lost = |client: &Client, code| client.report().last_loss == Some(Loss::Closed(code));
    until("told why", || {
        let revoked = lost(&first, CloseCode::CertificateRevoked) || lost(&first, CloseCode::NotActive);
        (revoked && lost(&second, CloseCode::UnknownIdentity)).then_some(())
    });
    assert!(!rig.is_connected(one) && rig.server.live().snapshot_of(two).is_none());
    assert_eq!(rig.sensor(one).lifecycle, Lifecycle::PendingReactivation);
    let serial = identity.leaf().expect("a leaf").serial;
    let revocations =
        fleetpulse::identity::Revocations::open(&rig.folder.path().join("data")).expect("a list");
    assert!(revocations.contains(&serial), "durable");

    // Both come back again and again, with sessions that resume; the certificate is refused however they come.
    let received = rig.received(one);
    let resumed = || rig.server.figures().ingest.resumed;
    let (before, tries) = (resumed(), rig.server.ingest().counters().snapshot().handshakes);
    until("a few tries", || {
        let more = rig.server.ingest().counters().snapshot().handshakes;
        (more >= tries + 6).then_some(())
    });
    assert!(resumed() > before, "some of the tries resumed a session");
    assert_eq!(rig.received(one), received);
    // Activated anew, the sensor may report, and its old certificate still may not.
    let folder = IdentityFolder::new(rig.out("anew"));
    std::thread::scope(|scope| {
        scope.spawn(|| rig.activate(&rig.read(&rig.issue(one)), &folder).expect("activated"));
    });
    assert_eq!(rig.sensor(one).lifecycle, Lifecycle::Active);
    until("still refused", || lost(&first, CloseCode::CertificateRevoked).then_some(()));
    assert!(!rig.is_connected(one));
    let renewed = ClientIdentity::read(folder.path()).expect("an identity");
    let other: Serial = renewed.leaf().expect("a leaf").serial;
    assert_ne!(other, serial);
    first.renew(&renewed).await.expect("taken");
    rig.until_heartbeats(one);
    rig.until_heartbeats(three);
}

/// How long it takes is told, and not asserted: the order is. Acknowledged, closed with the code that says why, nothing
/// taken any more, no way back by resumption.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_revocations_take_effect_on_live_connections_and_on_resumed_ones() {
    let rig = Rig::new();
    let clock = rig.server.clock();
    let mut took = Vec::new();
    for round in 0..20 {
        let socket = Socket::bind().expect("a socket");
        let (id, _, client) = connected(&rig, &socket, &format!("sensor {round}"));
        rig.until_heartbeats(id);
        let mut report = client.watch();
        rig.apply(&[Command::RevokeCredentials { id }]);
        let acknowledged = clock.mono();
        let closed = report.wait_for(|report| matches!(report.last_loss, Some(Loss::Closed(_))));
        let closed = tokio::time::timeout(Duration::from_secs(5), closed).await.expect("closed in time");
        took.push(clock.mono().since(acknowledged));
        assert_eq!(
            closed.expect("it runs").last_loss,
            Some(Loss::Closed(CloseCode::CertificateRevoked)),
            "{round}"
        );
        // It goes on making frames, and comes back with a ticket: handshakes end, and nothing is taken.
        let (received, resumed) = (rig.received(id), rig.server.figures().ingest.resumed);
        let tries = rig.server.ingest().counters().snapshot().handshakes;
        until("a few tries", || {
            let more = rig.server.ingest().counters().snapshot().handshakes;
            (more >= tries + 2 && rig.server.figures().ingest.resumed > resumed).then_some(())
        });
        assert_eq!(rig.received(id), received, "{round}: frames after the end");
        assert!(!rig.is_connected(id));
        let lost = client.report().last_loss;
        let refused =
            [CloseCode::NotActive, CloseCode::CertificateRevoked].map(|code| Some(Loss::Closed(code)));
        assert!(refused.contains(&lost), "{round}: {lost:?}");
        client.stop().await;
    }
    took.sort_unstable();
    let millis = |took: Duration| took.as_secs_f64() * 1_000.0;
    tell(&format!(
        "from the acknowledged revocation to the closed connection: median {:.1} ms, slowest {:.1} ms",
        millis(took[took.len() / 2]),
        millis(took[took.len() - 1]),
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_the_certificate_from_before_a_reactivation_stays_out() {
    let rig = Rig::new();
    let socket = Socket::bind().expect("a socket");
    let (id, identity, client) = connected(&rig, &socket, "press");
    rig.until_heartbeats(id);
    let closed = |code| client.report().last_loss == Some(Loss::Closed(code));
    rig.apply(&[Command::SetLifecycle { id, lifecycle: Lifecycle::PendingReactivation }]);
    until("it is sent away", || closed(CloseCode::NotActive).then_some(()));
    let folder = IdentityFolder::new(rig.out("anew"));
    std::thread::scope(|scope| {
        scope.spawn(|| rig.activate(&rig.read(&rig.issue(id)), &folder).expect("activated"));
    });
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::Active);
    until("it is refused", || closed(CloseCode::CertificateRevoked).then_some(()));
    assert!(!rig.is_connected(id));
    let revocations = fleetpulse::identity::Revocations::open(&rig.folder.path().join("data"));
    assert!(revocations.expect("a list").contains(&identity.leaf().expect("a leaf").serial), "durable");
    let anew = ClientIdentity::read(folder.path()).expect("an identity");
    client.renew(&anew).await.expect("taken");
    rig.until_heartbeats(id);
}
