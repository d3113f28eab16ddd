//! Certificates that end: renewed on the live connection, and at the enrolment port after they ran out.

use std::time::Duration;

use fleetpulse::fleet::Command;
use fleetpulse::identity::{ClientIdentity, ClientKey, IdentityFolder, PeerIdentity};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::sensor::{Batch, Beat, Boot, Client, ClientConfig, Socket};
use fleetpulse::time::{Clock, UnixMillis};
use fleetpulse::wire::enrol::{EnrolAnswer, EnrolRefusal, EnrolRequest, renewal_statement};
use fleetpulse::wire::heartbeat::Heartbeat;
use fleetpulse::wire::id::{GatewayId, SensorId};
use rustix::process::Signal;

use super::rig::{DAY, Rig, refusal};
use crate::process::{run, until};

/// A request to renew the certificate of `identity`, for a new key.
fn renew(rig: &Rig, identity: &ClientIdentity) -> EnrolRequest {
    renew_for(rig, identity, &identity.client_key().expect("a key"))
}

fn renew_for(rig: &Rig, identity: &ClientIdentity, signer: &ClientKey) -> EnrolRequest {
    let csr = ClientKey::make().expect("a key").request().expect("a request");
    let clock = rig.now().0;
    EnrolRequest::Renew {
        chain: identity.chain_der().expect("a chain").iter().map(|der| der.to_vec().into()).collect(),
        signature: signer.sign(&renewal_statement(&csr, clock)).expect("signed"),
        csr,
        clock_unix_ms: clock,
        agent_version: "test".into(),
    }
}

fn answer(rig: &Rig, request: &EnrolRequest) -> Option<EnrolRefusal> {
    refusal(&rig.ask(request)).map(|(code, _)| code)
}

/// An active sensor with a certificate that ran out so long ago.
fn ran_out(rig: &Rig, ago: Duration) -> (SensorId, ClientIdentity) {
    let id = rig.onboard(&format!("off {}", ago.as_secs()), SensorType::OtCloud);
    rig.apply(&[Command::SetLifecycle { id, lifecycle: Lifecycle::Active }]);
    // A certificate begins an hour before it is made.
    let made = rig.now().minus(ago + DAY);
    (id, rig.server.authority().issue(PeerIdentity::Sensor(id), DAY, made).expect("signed"))
}

#[test]
fn a_certificate_is_renewed_while_its_sensor_is_connected() {
    let rig = Rig::with(|config| config.identity.certificate_life = Duration::from_secs(20));
    let (id, file) = rig.file("press");
    let out = rig.out("press");
    let (code, said) = run(&["agent", "activate", &file.display().to_string(), "--out", &out]);
    assert_eq!(code, Some(0), "{said:?}");
    let first = ClientIdentity::read(out.as_ref()).expect("an identity").leaf().expect("a leaf");
    let agent = rig.agent(&out);
    rig.until_heartbeats(id);
    let owner = rig.server.live().snapshot_of(id).expect("known").owner;
    let renewed = until("another certificate", || {
        let identity = ClientIdentity::read(out.as_ref()).ok()?;
        let leaf = identity.leaf().ok()?;
        (leaf.serial != first.serial && identity.key_fits()).then_some((identity, leaf))
    });
    assert_ne!(renewed.0.client_key().expect("a key").hash(), used_key(&rig, id), "for a new key");
    // Session and slot go by the new dates, and the register knows the serial.
    until("the slot", || {
        let ends = rig.server.live().snapshot_of(id)?.cert_not_after?;
        (ends > first.not_after).then_some(())
    });
    let credentials = rig.sensor(id).more.credentials.clone();
    assert!(credentials.iter().any(|held| *held.serial == renewed.1.serial.to_string()), "{credentials:?}");
    // The first certificate ends, and nothing happens: the very same connection.
    until("the end of the first certificate", || {
        (rig.now() > first.not_after.plus(Duration::from_secs(6))).then_some(())
    });
    rig.until_heartbeats(id);
    assert_eq!(rig.server.live().snapshot_of(id).expect("known").owner, owner);
    rig.server.ingest().recheck();
    rig.until_heartbeats(id);
    assert_eq!(rig.server.live().snapshot_of(id).expect("known").owner, owner, "judged by the new one");
    agent.signal(Signal::TERM);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_certificate_is_renewed_on_the_live_connection() {
    let life = Duration::from_secs(20);
    let rig = Rig::with(|config| config.identity.certificate_life = life);
    let sensor = rig.onboard("behind", SensorType::OtCloud);
    let gateway = GatewayId::fresh();
    let site = rig.server.fleet().register().sites().find(|site| &*site.name == "Lyon").expect("a site").id;
    rig.apply(&[
        Command::SetLifecycle { id: sensor, lifecycle: Lifecycle::Active },
        Command::AddGateway { id: gateway, name: "relay".into(), sites: vec![site] },
    ]);
    let identity = rig.server.authority().issue(PeerIdentity::Gateway(gateway), life, rig.now());
    let identity = identity.expect("signed");
    let first = identity.leaf().expect("a leaf");
    let folder = std::path::PathBuf::from(rig.out("relay"));
    identity.write(&folder).expect("written");
    let clock = rig.server.clock();
    let mut boot = Boot::new(sensor, clock.mono());
    let source = move |beat: &Beat, batch: &mut Batch| {
        let mut heartbeat = Heartbeat::default();
        boot.stamp(&mut heartbeat, beat.now);
        batch.push(&heartbeat, 0);
    };
    let mut config = ClientConfig::new(rig.server.ingest_addr().to_string(), "localhost");
    config.interval = Duration::from_millis(100);
    config.identity_dir = Some(folder.clone());
    let socket = Socket::bind().expect("a socket");
    let client = Client::start_gateway(config, &identity, &socket, clock, source).expect("a client");
    rig.until_heartbeats(sensor);
    let owner = || {
        let index = rig.server.live().find_gateway(gateway).expect("registered");
        rig.server.live().gateway_snapshot(index).expect("registered").owner
    };
    let before = owner();
    assert!(before.is_some());
    let renewed = until("another certificate", || {
        let identity = ClientIdentity::read(&folder).ok()?;
        let leaf = identity.leaf().ok()?;
        // Renewed at once, since little of it is left: the first one may end in the same second.
        (leaf.not_after > first.not_after && identity.key_fits()).then_some(leaf)
    });
    assert_eq!(renewed.identity, PeerIdentity::Gateway(gateway), "for the same name");
    assert_ne!(renewed.serial, first.serial);
    // The first certificate ends, and nothing happens: the very same connection, and frames go on.
    until("the end of the first certificate", || {
        (rig.now() > first.not_after.plus(Duration::from_secs(6))).then_some(())
    });
    rig.until_heartbeats(sensor);
    assert_eq!(owner(), before);
    rig.server.ingest().recheck();
    rig.until_heartbeats(sensor);
    assert_eq!(owner(), before, "judged by the new one");
    assert_eq!(client.report().last_loss, None);
    client.stop().await;
}

fn used_key(rig: &Rig, id: SensorId) -> [u8; 32] {
    let sensor = rig.sensor(id);
    let activation = sensor.more.activation.as_ref().expect("activated");
    activation.used.as_ref().expect("used").key
}

#[test]
fn an_agent_whose_certificate_ran_out_renews_it_by_itself() {
    let rig = Rig::new();
    let (id, identity) = ran_out(&rig, 10 * DAY);
    let out = rig.out("off");
    identity.write(out.as_ref()).expect("written");
    let (server, enrol) = (rig.server.ingest_addr(), rig.server.enrol_addr());
    let config = format!(
        "servers = ['127.0.0.1:{}']\nenrol_servers = ['127.0.0.1:{}']\nserver_name = 'localhost'\nidentity_dir = '{out}'\n",
        server.port(),
        enrol.port()
    );
    std::fs::write(std::path::Path::new(&out).join("agent.toml"), config).expect("written");
    let agent = rig.agent(&out);
    rig.until_heartbeats(id);
    let renewed = ClientIdentity::read(out.as_ref()).expect("an identity");
    assert!(renewed.key_fits() && renewed.leaf().expect("a leaf").not_after > rig.now());
    agent.signal(Signal::TERM);
}

#[test]
fn renewal_after_the_end_has_its_limits() {
    let rig = Rig::new();
    let (_, within) = ran_out(&rig, 89 * DAY);
    assert_eq!(answer(&rig, &renew(&rig, &within)), None);
    let (id, beyond) = ran_out(&rig, 91 * DAY);
    assert_eq!(answer(&rig, &renew(&rig, &beyond)), Some(EnrolRefusal::CertificateTooOld));
    assert_eq!(&*rig.attempts(id)[0].code, "certificate-too-old");

    // Not before half of its life is over.
    let (id, _) = ran_out(&rig, 6 * DAY);
    let identity = rig.server.authority().issue(PeerIdentity::Sensor(id), 20 * DAY, rig.now().minus(9 * DAY));
    assert_eq!(answer(&rig, &renew(&rig, &identity.expect("signed"))), Some(EnrolRefusal::NotDue));
    assert_eq!(rig.sensor(id).more.credentials, []);

    // Revoked.
    let (id, revoked) = ran_out(&rig, 5 * DAY);
    let leaf = revoked.leaf().expect("a leaf");
    let held = fleetpulse::fleet::Credential {
        serial: leaf.serial.to_string().into(),
        not_before: leaf.not_before,
        not_after: leaf.not_after,
    };
    rig.apply(&[Command::RecordCredential { id, credential: held }]);
    rig.apply(&[Command::RevokeCredentials { id }]);
    assert_eq!(answer(&rig, &renew(&rig, &revoked)), Some(EnrolRefusal::CertificateRevoked));

    // One that nobody remembers, from before the last activation.
    let (id, forgotten) = ran_out(&rig, 4 * DAY);
    rig.apply(&[Command::RevokeCredentials { id }]);
    let file = rig.read(&rig.issue(id));
    assert!(matches!(
        rig.ask(&rig.request(file.token, &ClientKey::make().expect("a key"))),
        EnrolAnswer::Enrolled { .. }
    ));
    assert_eq!(rig.sensor(id).lifecycle, Lifecycle::Active);
    assert_eq!(answer(&rig, &renew(&rig, &forgotten)), Some(EnrolRefusal::CertificateRevoked));

    // Deleted.
    let (id, deleted) = ran_out(&rig, 3 * DAY);
    rig.apply(&[Command::DeleteSensor { id }]);
    assert_eq!(answer(&rig, &renew(&rig, &deleted)), Some(EnrolRefusal::SensorDeleted));

    // Another key's signature, another installation's certificate, rubbish for a chain.
    let (id, stolen) = ran_out(&rig, 2 * DAY);
    let thief = ClientKey::make().expect("a key");
    assert_eq!(answer(&rig, &renew_for(&rig, &stolen, &thief)), Some(EnrolRefusal::UnknownIdentity));
    let other = Rig::new();
    let foreign = other.server.authority().issue(PeerIdentity::Sensor(id), DAY, other.now().minus(3 * DAY));
    let foreign = foreign.expect("signed");
    assert_eq!(answer(&rig, &renew(&rig, &foreign)), Some(EnrolRefusal::UnknownIdentity));
    let mut rubbish = renew(&rig, &stolen);
    if let EnrolRequest::Renew { chain, .. } = &mut rubbish {
        *chain = vec![vec![0x30; 500].into()];
    }
    assert_eq!(answer(&rig, &rubbish), Some(EnrolRefusal::UnknownIdentity));
    // The sensor's own request still goes through, and so does a gateway's.
    assert_eq!(answer(&rig, &renew(&rig, &stolen)), None);
    let gateway = GatewayId::fresh();
    let made = rig.now().minus(3 * DAY);
    let relay = rig.server.authority().issue(PeerIdentity::Gateway(gateway), DAY, made).expect("signed");
    assert_eq!(answer(&rig, &renew(&rig, &relay)), Some(EnrolRefusal::UnknownIdentity));
    let site = rig.server.fleet().register().sites().next().expect("a site").id;
    rig.apply(&[Command::AddGateway { id: gateway, name: "relay".into(), sites: vec![site] }]);
    assert_eq!(answer(&rig, &renew(&rig, &relay)), None);
}

#[test]
fn a_crash_between_two_files_leaves_a_certificate_with_its_key() {
    let rig = Rig::new();
    let id = rig.onboard("press", SensorType::OtCloud);
    let folder = IdentityFolder::new(rig.out("press"));
    rig.activate(&rig.read(&rig.issue(id)), &folder).expect("activated");
    let before = ClientIdentity::read(folder.path()).expect("an identity");
    // Asked for, and the crash before the certificate: the old pair is whole.
    let next = folder.next_key(false).expect("a key");
    assert!(ClientIdentity::read(folder.path()).expect("whole").key_fits());
    // The certificate is there, and the crash before the key.
    let signed = rig.server.authority().sign_csr(
        &next.request().expect("a request"),
        PeerIdentity::Sensor(id),
        DAY,
        UnixMillis(rig.now().0),
    );
    let chain = folder.path().join("certificate.pem");
    std::fs::write(chain, signed.expect("signed").chain_pem).expect("written");
    let found = ClientIdentity::read(folder.path()).expect("an identity");
    assert!(found.key_fits() && found.key_pem != before.key_pem);
    assert!(!folder.path().join("key.next.pem").exists());
    assert!(ClientIdentity::read(folder.path()).expect("again").key_fits());
}
