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
use crate::process::until;

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
