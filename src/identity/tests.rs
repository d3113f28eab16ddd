//! Both halves together: issue, shake hands, resume, refuse.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P384_SHA384, SanType,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, HandshakeKind, ServerConnection};

use super::*;
use crate::limits::{
    INTERMEDIATE_LIFE, PEER_CERTIFICATE_LIFE, PEER_CERTIFICATE_LIFE_MAX, RENEWAL_GRACE_MAX, TICKET_KEY_LIFE,
};
use crate::time::{Clock, ManualClock, UnixMillis};
use crate::wire::id::{GatewayId, SensorId};

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
    authority: Authority,
    keys: Arc<Keys>,
    tls: ServerTls,
}

fn names() -> Vec<String> {
    vec!["fleet.example".to_owned(), "127.0.0.1".to_owned()]
}

fn rig() -> Rig {
    let folder = tempfile::tempdir().unwrap();
    rig_in(folder, Arc::new(ManualClock::new(NOW)))
}

fn rig_in(folder: tempfile::TempDir, clock: Arc<ManualClock>) -> Rig {
    let authority = Authority::open_or_create(folder.path(), clock.unix()).unwrap();
    let keys = Keys::open_or_create(folder.path(), clock.clone()).unwrap();
    let tls = ServerTls::build(&authority, &keys, &names(), clock.clone()).unwrap();
    Rig { folder, clock, authority, keys, tls }
}

impl Rig {
    fn sensor(&self, number: u64) -> ClientIdentity {
        let identity = PeerIdentity::Sensor(SensorId::from_number(number));
        self.authority.issue(identity, PEER_CERTIFICATE_LIFE, self.clock.unix()).unwrap()
    }

    fn client(&self, identity: &ClientIdentity) -> Arc<rustls::ClientConfig> {
        Arc::new(client_tls(identity, ALPN_MAIN, self.clock.clone()).unwrap())
    }
}

/// Runs a handshake in memory, reads the ticket, and returns how it was made and whom the server saw.
fn shake(
    client: &Arc<rustls::ClientConfig>,
    server: &Arc<rustls::ServerConfig>,
) -> Result<(HandshakeKind, Option<Leaf>), rustls::Error> {
    let name = ServerName::try_from("fleet.example").unwrap();
    let mut client = ClientConnection::new(client.clone(), name).unwrap();
    let mut server = ServerConnection::new(server.clone()).unwrap();
    for _ in 0..8 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).unwrap();
        }
        server.read_tls(&mut bytes.as_slice()).unwrap();
        server.process_new_packets()?;
        let mut bytes = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut bytes).unwrap();
        }
        client.read_tls(&mut bytes.as_slice()).unwrap();
        client.process_new_packets()?;
    }
    assert!(!server.is_handshaking() && !client.is_handshaking());
    let leaf = server.peer_certificates().and_then(|chain| parse_leaf(chain.first()?).ok());
    Ok((server.handshake_kind().unwrap(), leaf))
}

#[test]
fn a_sensor_is_known_by_its_certificate_after_a_full_and_after_a_resumed_handshake() {
    let rig = rig();
    let identity = rig.sensor(7);
    let client = rig.client(&identity);
    let (kind, full) = shake(&client, &rig.tls.main).unwrap();
    assert_eq!((kind, rig.keys.tickets_opened()), (HandshakeKind::Full, 0));
    let (kind, resumed) = shake(&client, &rig.tls.main).unwrap();
    assert_eq!((kind, rig.keys.tickets_opened()), (HandshakeKind::Resumed, 1));
    assert_eq!(full, Some(identity.leaf().unwrap()));
    assert_eq!(resumed, full);
}

#[test]
fn a_herd_resumes_after_a_restart_and_after_a_rotation_but_not_after_two() {
    let rig = rig();
    let client = rig.client(&rig.sensor(7));
    shake(&client, &rig.tls.main).unwrap();
    let rig = rig_in(rig.folder, rig.clock);
    assert_eq!(shake(&client, &rig.tls.main).unwrap().0, HandshakeKind::Resumed);

    rig.clock.advance(TICKET_KEY_LIFE);
    assert!(rig.keys.rotate_due().unwrap());
    assert!(!rig.keys.rotate_due().unwrap());
    let (kind, _) = shake(&rig.client(&rig.sensor(8)), &rig.tls.main).unwrap();
    assert_eq!(kind, HandshakeKind::Full);

    let ticketer = rig.keys.ticketer(rig.authority.trust());
    let ticket = ticketer.encrypt(b"session").unwrap();
    assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
    rig.clock.advance(TICKET_KEY_LIFE);
    assert!(rig.keys.rotate_due().unwrap());
    assert_eq!(ticketer.decrypt(&ticket).as_deref(), Some(&b"session"[..]), "the previous key still opens");
    rig.clock.advance(TICKET_KEY_LIFE);
    assert_eq!(ticketer.decrypt(&ticket), None, "twice the key's life is the end, rotated or not");
    assert!(rig.keys.rotate_due().unwrap());
    assert_eq!(ticketer.decrypt(&ticket), None);
}

#[test]
fn a_ticket_that_was_touched_is_not_opened() {
    let rig = rig();
    let ticketer = rig.keys.ticketer(rig.authority.trust());
    let ticket = ticketer.encrypt(&[7; 900]).unwrap();
    for place in 0..ticket.len() {
        let mut touched = ticket.clone();
        touched[place] ^= 1;
        assert_eq!(ticketer.decrypt(&touched), None, "byte {place}");
    }
    for length in 0..ticket.len() {
        assert_eq!(ticketer.decrypt(&ticket[..length]), None);
    }
    assert_eq!(ticketer.decrypt(&[0; 20_000]), None);
    assert_eq!(ticketer.encrypt(&[0; 20_000]), None);
}

#[test]
fn keys_survive_a_restart() {
    let rig = rig();
    let again = Keys::open_or_create(rig.folder.path(), rig.clock.clone()).unwrap();
    assert_eq!(again.reset_key(), rig.keys.reset_key());
    assert_eq!(again.token_key(), rig.keys.token_key());
    assert_ne!(again.token_key(), again.reset_key());
}

#[test]
fn strangers_expired_and_nameless_peers_are_refused_by_the_handshake() {
    let (rig, other) = (rig(), self::rig());
    let mut stranger = other.sensor(7);
    stranger.trust_bundle_pem = rig.authority.trust_pem().to_owned();
    assert!(matches!(
        shake(&rig.client(&stranger), &rig.tls.main),
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer))
    ));

    let short = PeerIdentity::Sensor(SensorId::from_number(9));
    let short = rig.authority.issue(short, Duration::from_secs(60), NOW).unwrap();
    let client = rig.client(&short);
    shake(&client, &rig.tls.main).unwrap();
    rig.clock.advance(Duration::from_secs(120));
    let (kind, leaf) = shake(&client, &rig.tls.main).unwrap();
    assert_eq!(kind, HandshakeKind::Resumed, "a resumed session skips the verifier, so ours must look");
    assert!(!leaf.unwrap().in_date(rig.clock.unix()));
    assert!(matches!(
        shake(&rig.client(&short), &rig.tls.main),
        Err(rustls::Error::InvalidCertificate(rustls::CertificateError::ExpiredContext { .. }))
    ));

    let mut nameless =
        rustls::ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(rig.clock.clone())))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(rig.authority.trust().root_store().unwrap())
            .with_no_client_auth();
    nameless.alpn_protocols = vec![ALPN_MAIN.to_vec()];
    let nameless = Arc::new(nameless);
    assert_eq!(shake(&nameless, &rig.tls.main).unwrap_err(), rustls::Error::NoCertificatesPresented);
    let mut enrols = (*nameless).clone();
    enrols.alpn_protocols = vec![ALPN_ENROL.to_vec()];
    let enrols = Arc::new(enrols);
    assert_eq!(shake(&enrols, &rig.tls.enrol).unwrap().0, HandshakeKind::Full);
    assert_eq!(shake(&enrols, &rig.tls.enrol).unwrap().0, HandshakeKind::Full, "no tickets there");
}

/// For a key on P-384 and without a name, signed by it with ecdsa-with-SHA256 (OpenSSL: `req -new -sha256`).
const P384_BY_SHA256: &[u8] = b"-----BEGIN CERTIFICATE REQUEST-----
MIH3MH8CAQAwADB2MBAGByqGSM49AgEGBSuBBAAiA2IABFZh87YhcAG4KIzi6R5d
RAVQoqc6tC0NzGp8Q6baGv5Vrld8w8KIR+Swm6i8Zm4e3TshGrC14gRdH/S8yUvP
X4oRyVAH5OyrEQ8mYk3D+bEUpGo2DbmIsJBdeViEwj40s6AAMAoGCCqGSM49BAMC
A2gAMGUCMQDCW0FkmrrpbsGVS5GsrYZiJnZ5M6/p6YpuO/fVMqGMOBUj8S1uDVFp
y+A5rJ5OMicCMA8TpA0q0u/XSNxwn6kZ/y/ph6pHk+nJ5iKPk1o2UxIoebf/87+f
l8Yw8hKN0xDPEg==
-----END CERTIFICATE REQUEST-----
";

#[test]
fn only_what_proves_possession_and_asks_for_its_own_name_is_signed() {
    let rig = rig();
    let identity = PeerIdentity::Gateway(GatewayId::from_number(3));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let day = Duration::from_secs(86_400);
    let request =
        |params: CertificateParams, key: &KeyPair| params.serialize_request(key).unwrap().der().to_vec();
    let sign = |csr: &[u8], life| rig.authority.sign_csr(csr, identity, life, NOW);

    let nameless = || {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
    };
    let mut own = nameless();
    own.subject_alt_names = vec![SanType::URI(identity.to_string().try_into().unwrap())];
    let signed = sign(&request(own.clone(), &key), day).unwrap();
    assert_eq!(signed.leaf.identity, identity);
    assert_eq!(signed.leaf.not_after, UnixMillis(NOW.0 + 86_400_999));
    let again = sign(own.serialize_request(&key).unwrap().pem().unwrap().as_bytes(), day).unwrap();
    assert_ne!(again.leaf.serial, signed.leaf.serial, "a renewal with the same key is another certificate");

    let mut foreign = own.clone();
    foreign.subject_alt_names.push(SanType::DnsName("bank.example".try_into().unwrap()));
    assert!(matches!(sign(&request(foreign, &key), day), Err(CsrError::ForeignName { .. })));
    let mut subject = nameless();
    subject.distinguished_name.push(DnType::CommonName, GatewayId::from_number(3).to_string());
    assert!(sign(&request(subject.clone(), &key), day).is_ok(), "its own id");
    subject.distinguished_name.push(DnType::OrganizationName, "Contoso");
    assert!(matches!(sign(&request(subject, &key), day), Err(CsrError::ForeignName { .. })));
    let mut subject = nameless();
    subject.distinguished_name.push(DnType::CommonName, GatewayId::from_number(4).to_string());
    assert!(matches!(sign(&request(subject, &key), day), Err(CsrError::ForeignName { .. })));
    let mut authority = nameless();
    authority.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    assert_eq!(sign(&request(authority, &key), day), Err(CsrError::WantsAuthority));
    let other_kind = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    assert_eq!(sign(&request(own.clone(), &other_kind), day), Err(CsrError::KeyKind));

    assert_eq!(sign(P384_BY_SHA256, day), Err(CsrError::KeyKind));

    let mut forged = request(own.clone(), &key);
    let end = forged.len() - 1;
    forged[end] ^= 1;
    assert_eq!(sign(&forged, day), Err(CsrError::NoPossession));
    assert!(matches!(sign(b"rubbish", day), Err(CsrError::Unreadable(_))));
    assert!(matches!(sign(b"-----BEGIN", day), Err(CsrError::Unreadable(_))));
    assert!(matches!(sign(&[0; 20_000], day), Err(CsrError::TooLong(20_000))));
    assert_eq!(sign(&request(own.clone(), &key), Duration::ZERO), Err(CsrError::Life));
    assert_eq!(sign(&request(own, &key), PEER_CERTIFICATE_LIFE_MAX * 2), Err(CsrError::Life));
}

#[test]
fn the_authority_survives_restarts_and_rotates_its_intermediate() {
    let rig = rig();
    let identity = rig.sensor(1);
    let trust = rig.authority.trust_pem().to_owned();
    let rig = rig_in(rig.folder, rig.clock);
    assert_eq!(rig.authority.trust_pem(), trust);
    assert_eq!(rig.authority.trust().generation, 1);
    shake(&rig.client(&identity), &rig.tls.main).unwrap();

    // Without the root's key it warns while the intermediate lives, and stops when it is dead.
    let away = rig.folder.path().join("root.key.away");
    let key = rig.folder.path().join("identity/root.key");
    std::fs::rename(&key, &away).unwrap();
    rig.clock.advance(INTERMEDIATE_LIFE * 4 / 5);
    Authority::open_or_create(rig.folder.path(), rig.clock.unix()).unwrap();
    let dead = rig.clock.unix().plus(INTERMEDIATE_LIFE);
    let error = Authority::open_or_create(rig.folder.path(), dead).unwrap_err();
    assert!(error.to_string().contains("root.key"), "{error}");

    std::fs::rename(&away, &key).unwrap();
    let rig = rig_in(rig.folder, rig.clock);
    assert_eq!(rig.authority.trust_pem(), trust);
    shake(&rig.client(&rig.sensor(2)), &rig.tls.main).unwrap();
}

#[test]
fn the_servers_certificate_is_kept_until_it_must_change() {
    let rig = rig();
    let first = rig.authority.server_certificate(&names(), NOW).unwrap();
    let same = rig.authority.server_certificate(&names(), NOW.plus(Duration::from_secs(86_400))).unwrap();
    assert_eq!(first.chain, same.chain);
    let other = rig.authority.server_certificate(&["::1".to_owned()], NOW).unwrap();
    assert_ne!(first.chain, other.chain);
    let later = NOW.plus(Duration::from_secs(80 * 86_400));
    assert_ne!(other.chain, rig.authority.server_certificate(&["::1".to_owned()], later).unwrap().chain);
    for bad in [vec![], vec![String::new()], vec!["two words".to_owned()]] {
        assert!(
            matches!(rig.authority.server_certificate(&bad, NOW), Err(AuthorityError::Name(_))),
            "{bad:?}"
        );
    }
}

#[test]
fn files_are_private_and_an_interrupted_first_start_is_begun_again() {
    use std::os::unix::fs::PermissionsExt;
    let rig = rig();
    rig.sensor(1).write(&rig.folder.path().join("sensor")).unwrap();
    for folder in ["identity", "sensor"] {
        for entry in std::fs::read_dir(rig.folder.path().join(folder)).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{}", entry.path().display());
        }
    }
    let read = ClientIdentity::read(&rig.folder.path().join("sensor")).unwrap();
    assert_eq!(read.leaf().unwrap().identity, PeerIdentity::Sensor(SensorId::from_number(1)));

    let half = tempfile::tempdir().unwrap();
    std::fs::create_dir(half.path().join("identity.new")).unwrap();
    std::fs::write(half.path().join("identity.new/root.pem"), "half").unwrap();
    Authority::open_or_create(half.path(), NOW).unwrap();
    assert!(!half.path().join("identity.new").exists());
}

#[test]
fn damaged_files_are_named_with_what_to_do() {
    let rig = rig();
    let folder = rig.folder.path().join("identity");
    let keys = std::fs::read_to_string(folder.join("keys.json")).unwrap();
    std::fs::write(folder.join("keys.json"), &keys[..keys.len() / 2]).unwrap();
    let error = Keys::open_or_create(rig.folder.path(), rig.clock.clone()).unwrap_err().to_string();
    assert!(error.contains("keys.json") && error.contains("backup"), "{error}");
    std::fs::write(folder.join("intermediate.pem"), "nothing").unwrap();
    let error = Authority::open_or_create(rig.folder.path(), NOW).unwrap_err().to_string();
    assert!(error.contains("intermediate.pem") && error.contains("backup"), "{error}");
    let missing = ClientIdentity::read(&rig.folder.path().join("nobody")).unwrap_err().to_string();
    assert!(missing.contains("nobody") && missing.contains("check the path"), "{missing}");
    let file = rig.folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(Authority::open_or_create(&file, NOW).unwrap_err().to_string().contains("file"));
}

#[test]
fn revocations_are_remembered_and_never_forgotten_by_damage() {
    let rig = rig();
    let serial = rig.sensor(5).leaf().unwrap().serial;
    let revocations = Revocations::open(rig.folder.path()).unwrap();
    assert!(revocations.is_empty() && !revocations.contains(&serial));
    assert_eq!(revocations.revoke(&[serial.into(), serial.into()], NOW).unwrap(), 1);
    assert_eq!(revocations.revoke(&[serial.into()], NOW).unwrap(), 0);
    let again = Revocations::open(rig.folder.path()).unwrap();
    assert!(again.contains(&serial));
    assert!(!again.contains(&rig.sensor(6).leaf().unwrap().serial));
    std::fs::write(rig.folder.path().join("identity/revoked.json"), "{}").unwrap();
    let error = Revocations::open(rig.folder.path()).unwrap_err().to_string();
    assert!(error.contains("revoked.json"), "{error}");
}

#[test]
fn nothing_is_revoked_where_no_authority_is() {
    let folder = tempfile::tempdir().unwrap();
    let error = Revocations::open(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no certificate authority") && error.contains("--data-dir"), "{error}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "and nothing is made");
}

#[test]
fn a_revoked_certificate_is_forgotten_when_nobody_could_renew_it() {
    let rig = rig();
    let serial = |number: u8| Serial::from_be_bytes(&[1, number]).unwrap();
    // As the version before wrote it, which did not know when certificates end.
    let old = format!(r#"{{"schema":1,"revoked":[{{"serial":"{}","at":{}}}]}}"#, serial(1), NOW.0);
    std::fs::write(rig.folder.path().join("identity/revoked.json"), old).unwrap();
    let revocations = Revocations::open(rig.folder.path()).unwrap();
    assert!(revocations.contains(&serial(1)));
    let day = Duration::from_secs(86_400);
    let short = Revoked { serial: serial(2), not_after: Some(NOW.plus(day)) };
    assert_eq!(revocations.revoke(&[short], NOW).unwrap(), 1);
    let known = |at: UnixMillis, number: u8| {
        assert_eq!(revocations.revoke(&[serial(number).into()], at).unwrap(), 1);
        let again = Revocations::open(rig.folder.path()).unwrap();
        assert_eq!(again.len(), revocations.len());
        [1, 2].map(|number| again.contains(&serial(number)))
    };
    let end = NOW.plus(day).plus(RENEWAL_GRACE_MAX);
    assert_eq!(known(end, 3), [true, true]);
    assert_eq!(known(end.plus(day), 4), [true, false]);
    assert_eq!(known(end.plus(PEER_CERTIFICATE_LIFE_MAX), 5), [false, false]);
}

#[test]
fn of_many_who_revoke_at_once_no_serial_is_lost() {
    let rig = rig();
    let serial = |number: u8| Serial::from_be_bytes(&[1, number]).unwrap();
    // Read before the other one wrote, as two programs do that are started together.
    let (first, second) = (Revocations::open(rig.folder.path()), Revocations::open(rig.folder.path()));
    let (first, second) = (first.unwrap(), second.unwrap());
    assert_eq!(first.revoke(&[serial(1).into()], NOW).unwrap(), 1);
    assert_eq!(second.revoke(&[serial(2).into()], NOW).unwrap(), 1);
    assert_eq!(second.revoke(&[serial(1).into()], NOW).unwrap(), 0, "it knows by now");
    assert_eq!(Revocations::open(rig.folder.path()).unwrap().len(), 2);

    std::thread::scope(|scope| {
        for thread in 0..4 {
            let folder = rig.folder.path();
            scope.spawn(move || {
                for number in 0..20 {
                    let program = Revocations::open(folder).unwrap();
                    assert_eq!(program.revoke(&[serial(10 + 20 * thread + number).into()], NOW).unwrap(), 1);
                }
            });
        }
    });
    assert_eq!(Revocations::open(rig.folder.path()).unwrap().len(), 82);
    assert_eq!(first.reload().unwrap().len(), 81);
}

#[test]
fn a_key_that_is_not_the_certificates_is_said_so() {
    let rig = rig();
    let mut mixed = rig.sensor(1);
    mixed.key_pem = rig.sensor(2).key_pem;
    assert!(matches!(client_tls(&mixed, ALPN_MAIN, rig.clock.clone()), Err(TrustError::Key(_))));
    mixed.trust_bundle_pem = String::new();
    assert!(matches!(mixed.trust(), Err(TrustError::Bundle(_))));
    let bundle = "generation: many\n";
    assert!(TrustBundle::from_pem(bundle).unwrap_err().to_string().contains("many"));
}
