//! From one root to another, step by step: who still understands whom, what is refused, what a crash leaves.

use std::fs;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use super::proof::{Lagging, Proof};
use super::rotation::*;
use super::*;
use crate::limits::PEER_CERTIFICATE_LIFE;
use crate::time::{Clock, ManualClock, UnixMillis};
use crate::wire::id::SensorId;

const NOW: UnixMillis = UnixMillis(1_800_000_000_000);

struct Rig {
    folder: tempfile::TempDir,
    clock: Arc<ManualClock>,
}

impl Rig {
    fn new() -> Rig {
        let folder = tempfile::tempdir().unwrap();
        Authority::open_or_create(folder.path(), NOW).unwrap();
        Rig { folder, clock: Arc::new(ManualClock::new(NOW)) }
    }

    fn authority(&self) -> Authority {
        Authority::open_or_create(self.folder.path(), self.clock.unix()).unwrap()
    }

    fn rotation(&self) -> Rotation {
        Rotation::open(self.folder.path()).unwrap()
    }

    fn status(&self) -> RotationStatus {
        Rotation::status(self.folder.path()).unwrap()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join("identity").join(name)
    }

    fn sensor(&self, number: u64) -> ClientIdentity {
        let identity = PeerIdentity::Sensor(SensorId::from_number(number));
        self.authority().issue(identity, PEER_CERTIFICATE_LIFE, self.clock.unix()).unwrap()
    }

    /// The same certificate with the bundle of today.
    fn told(&self, identity: &ClientIdentity) -> ClientIdentity {
        ClientIdentity { trust_bundle_pem: self.authority().trust_pem().to_owned(), ..identity.clone() }
    }

    /// Shakes hands with a server that starts now; gives the length of the server's chain.
    fn shake(&self, identity: &ClientIdentity) -> Result<usize, rustls::Error> {
        let keys = Keys::open_or_create(self.folder.path(), self.clock.clone()).unwrap();
        let names = ["fleet.example".to_owned()];
        let tls = ServerTls::build(&self.authority(), &keys, &names, self.clock.clone()).unwrap();
        let client = Arc::new(client_tls(identity, ALPN_MAIN, self.clock.clone()).unwrap());
        let name = ServerName::try_from("fleet.example").unwrap();
        let mut client = ClientConnection::new(client, name).unwrap();
        let mut server = ServerConnection::new(tls.main).unwrap();
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
        Ok(client.peer_certificates().map_or(0, <[_]>::len))
    }

    /// All of the fleet but this many holds everything.
    fn proven(&self, lag: u64) {
        let authority = self.authority();
        let mut proof =
            Proof::new(authority.trust().generation, authority.mark().to_string(), self.clock.unix());
        (proof.peers, proof.with_bundle, proof.with_certificate) = (10, 10, 10 - lag);
        let lacks = "its certificate is by the old root".to_owned();
        let (kind, id) = ("sensor".to_owned(), SensorId::from_number(7).to_string());
        proof.lagging = vec![Lagging { kind, id, name: "press".to_owned(), lacks }; lag as usize];
        proof.write(self.folder.path()).unwrap();
    }
}

#[test]
fn from_one_root_to_another_everybody_who_was_told_is_understood() {
    let rig = Rig::new();
    let old = rig.sensor(1);
    assert_eq!(rig.shake(&old), Ok(2));
    let before = rig.authority().mark();

    let (step, status) = rig.rotation().introduce(NOW).unwrap();
    assert_eq!((step, status.stage, status.generation), (Step::Taken, RotationStage::Introduced, 2));
    assert_eq!(status.roots.iter().map(|root| root.signs).collect::<Vec<_>>(), [true, false]);
    assert_eq!(rig.authority().mark(), before, "the same intermediate");
    let between = rig.sensor(2);
    for identity in [&old, &rig.told(&old), &between] {
        assert_eq!(rig.shake(identity), Ok(2));
    }

    let (step, status) = rig.rotation().switch(NOW).unwrap();
    assert_eq!((step, status.stage, status.generation), (Step::Taken, RotationStage::Switched, 2));
    assert_eq!(status.roots.iter().map(|root| root.signs).collect::<Vec<_>>(), [false, true]);
    assert!(rig.authority().replaces_others() && rig.authority().mark() != before);
    let new = rig.sensor(3);
    assert_eq!(new.leaf().unwrap().issuer, rig.authority().mark());
    assert_eq!(old.leaf().unwrap().issuer, before);
    // Who was off all the time knows the old root only, and finds the way over what it signed.
    for identity in [&old, &rig.told(&old), &between, &new] {
        assert_eq!(rig.shake(identity), Ok(3));
    }

    let (step, status) = rig.rotation().retire(true).unwrap();
    assert_eq!((step, status.stage, status.generation), (Step::Taken, RotationStage::Settled, 3));
    assert_eq!(status.roots.len(), 1);
    assert_eq!(rig.authority().trust().roots.len(), 1);
    for identity in [&new, &rig.told(&new), &rig.sensor(4)] {
        assert_eq!(rig.shake(identity), Ok(2));
    }
    // One that was off until now does not know the server, and one with an old certificate is not known.
    let unknown = rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer);
    assert_eq!(rig.shake(&old), Err(unknown.clone()));
    assert_eq!(rig.shake(&rig.told(&between)), Err(unknown));

    // And once more: the root that came is the one that goes.
    rig.rotation().introduce(NOW).unwrap();
    rig.rotation().switch(NOW).unwrap();
    assert_eq!(rig.shake(&new), Ok(3));
    assert_eq!(rig.rotation().retire(true).unwrap().1.generation, 5);
    assert!(rig.shake(&new).is_err());
    assert_eq!(rig.shake(&rig.sensor(5)), Ok(2));
}

#[test]
fn a_step_is_taken_once_and_in_order() {
    let rig = Rig::new();
    assert!(matches!(rig.rotation().switch(NOW), Err(RotationError::NotIntroduced)));
    assert_eq!(rig.rotation().retire(false).unwrap().0, Step::TakenBefore);
    rig.rotation().introduce(NOW).unwrap();
    let text = fs::read_to_string(rig.path("trust.pem")).unwrap();
    assert_eq!(rig.rotation().introduce(NOW).unwrap().0, Step::TakenBefore);
    assert_eq!(fs::read_to_string(rig.path("trust.pem")).unwrap(), text);
    assert!(matches!(rig.rotation().retire(true), Err(RotationError::NotSwitched)));
    rig.rotation().switch(NOW).unwrap();
    let mark = rig.authority().mark();
    assert_eq!(rig.rotation().switch(NOW).unwrap().0, Step::TakenBefore);
    assert_eq!(rig.rotation().introduce(NOW).unwrap().0, Step::TakenBefore);
    assert_eq!(rig.authority().mark(), mark);
    rig.rotation().retire(true).unwrap();
    assert_eq!(rig.rotation().retire(true).unwrap().0, Step::TakenBefore);
    assert_eq!(rig.authority().trust().generation, 3);
    let empty = tempfile::tempdir().unwrap();
    assert!(matches!(Rotation::open(empty.path()), Err(RotationError::NoAuthority(_))));
}

#[test]
fn of_many_who_introduce_at_once_one_does() {
    let rig = Rig::new();
    let take = || rig.rotation().introduce(NOW).unwrap().0 == Step::Taken;
    let taken: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
        threads.into_iter().map(|thread| usize::from(thread.join().unwrap())).sum()
    });
    assert_eq!((taken, rig.authority().trust().roots.len()), (1, 2));
}

#[test]
fn retiring_waits_for_proof_of_this_bundle_and_this_intermediate() {
    let rig = Rig::new();
    rig.rotation().introduce(NOW).unwrap();
    rig.proven(0);
    assert_eq!(rig.status().proof.map(|proof| proof.peers), Some(10));
    rig.rotation().switch(NOW).unwrap();
    assert_eq!(rig.status().proof, None, "it was of another intermediate");
    let refused = |rig: &Rig| rig.rotation().retire(false).unwrap_err();
    assert!(matches!(refused(&rig), RotationError::Unknown(_)));
    fs::remove_file(rig.path("proven.json")).unwrap();
    assert!(matches!(refused(&rig), RotationError::Unknown(_)));
    rig.proven(2);
    let text = refused(&rig).to_string();
    assert!(text.contains("2 of 10") && text.contains("press") && text.contains("--force"), "{text}");
    assert_eq!(rig.status().stage, RotationStage::Switched, "nothing changed");
    rig.proven(0);
    assert_eq!(rig.rotation().retire(false).unwrap().0, Step::Taken);
}

#[test]
fn each_step_says_which_roots_key_is_away() {
    let rig = Rig::new();
    let away = rig.folder.path().join("away");
    fs::rename(rig.path("root.key"), &away).unwrap();
    let missing = |outcome: Result<RotationStatus, RotationError>, name: &str| {
        let error = outcome.unwrap_err();
        assert!(matches!(error, RotationError::Authority(AuthorityError::RootKeyAway(_))), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    };
    missing(rig.rotation().rotate_intermediate(NOW), "identity/root.key");
    // A second root needs no word of the first one until it signs.
    rig.rotation().introduce(NOW).unwrap();
    let here = |rig: &Rig| rig.status().roots.iter().map(|root| root.key_is_here).collect::<Vec<_>>();
    assert_eq!(here(&rig), [false, true]);
    let before = rig.authority().mark();
    missing(rig.rotation().switch(NOW).map(|(_, status)| status), "identity/root.key");
    assert_eq!(rig.authority().mark(), before, "nothing changed");
    // It comes back under another name, and the other one goes.
    fs::rename(&away, rig.path("root-of-2026.key")).unwrap();
    fs::rename(rig.path("root-2.key"), &away).unwrap();
    assert_eq!(here(&rig), [true, false]);
    missing(rig.rotation().switch(NOW).map(|(_, status)| status), "identity/root-2.key");
    fs::rename(&away, rig.path("root-2.key")).unwrap();
    rig.rotation().switch(NOW).unwrap();
    // From here on the old key is of no use to anybody.
    fs::remove_file(rig.path("root-of-2026.key")).unwrap();
    rig.rotation().rotate_intermediate(NOW).unwrap();
    rig.rotation().retire(true).unwrap();
    rig.rotation().rotate_intermediate(NOW).unwrap();
}

#[test]
fn a_crash_before_the_rename_that_counts_leaves_the_step_undone() {
    let rig = Rig::new();
    let old = rig.sensor(1);
    let usable = |rig: &Rig, stage: RotationStage| {
        assert_eq!(rig.status().stage, stage);
        rig.shake(&rig.told(&old)).unwrap();
        rig.shake(&rig.sensor(2)).unwrap();
    };
    // A key without its certificate; a key and a certificate that fits another; half a bundle beside the bundle.
    fs::write(rig.path("root-2.key"), roots::make(NOW).unwrap().0).unwrap();
    usable(&rig, RotationStage::Settled);
    fs::write(rig.path("root-2.pem"), roots::make(NOW).unwrap().1).unwrap();
    fs::write(rig.path("trust.new"), "generation: 2\n-----BEGIN").unwrap();
    usable(&rig, RotationStage::Settled);
    rig.rotation().introduce(NOW).unwrap();
    usable(&rig, RotationStage::Introduced);
    fs::write(rig.path("intermediate.new"), "-----BEGIN").unwrap();
    usable(&rig, RotationStage::Introduced);
    rig.rotation().switch(NOW).unwrap();
    usable(&rig, RotationStage::Switched);
    fs::write(rig.path("trust.new"), "generation: 3").unwrap();
    usable(&rig, RotationStage::Switched);
    rig.rotation().retire(true).unwrap();
    assert_eq!(rig.status().stage, RotationStage::Settled);
    // A bundle that does not lead to who signs is said, not served.
    let text = fs::read_to_string(rig.path("root.pem")).unwrap();
    fs::write(rig.path("trust.pem"), format!("generation: 9\n{text}")).unwrap();
    let error = Authority::open_or_create(rig.folder.path(), NOW).unwrap_err().to_string();
    assert!(error.contains("trust.pem") && error.contains("signed the intermediate"), "{error}");
}

#[test]
fn another_intermediate_leaves_the_certificates_of_the_one_before_good() {
    let rig = Rig::new();
    let old = rig.sensor(1);
    let before = rig.authority().mark();
    let status = rig.rotation().rotate_intermediate(NOW).unwrap();
    assert_eq!((status.stage, status.generation), (RotationStage::Settled, 1));
    let new = rig.sensor(2);
    assert_eq!((old.leaf().unwrap().issuer, new.leaf().unwrap().issuer), (before, rig.authority().mark()));
    assert_ne!(before.short(), rig.authority().mark().short());
    assert!(!rig.authority().replaces_others(), "nobody has to hurry");
    assert_eq!((rig.shake(&old), rig.shake(&new)), (Ok(2), Ok(2)));

    // While a root takes the place of another, the old one's word for the new stays.
    rig.rotation().introduce(NOW).unwrap();
    rig.rotation().switch(NOW).unwrap();
    rig.rotation().rotate_intermediate(NOW).unwrap();
    assert_eq!(rig.shake(&old), Ok(3));
    assert!(rig.authority().replaces_others());
    rig.rotation().retire(true).unwrap();
    rig.rotation().rotate_intermediate(NOW).unwrap();
    assert!(!rig.authority().replaces_others());
}

#[test]
fn a_file_signed_after_the_switch_is_read_with_the_bundle_from_before() {
    let rig = Rig::new();
    let before = rig.authority().trust().clone();
    let signed = |rig: &Rig| rig.authority().sign_file("a.csv", "text/csv", b"a,b", NOW).unwrap();
    let early = signed(&rig);
    rig.rotation().introduce(NOW).unwrap();
    rig.rotation().switch(NOW).unwrap();
    let between = rig.authority().trust().clone();
    let late = signed(&rig);
    for (file, trust) in [(&early, &before), (&late, &before), (&early, &between), (&late, &between)] {
        assert_eq!(verify(file, trust, NOW).unwrap().payload, b"a,b");
    }
    rig.rotation().retire(true).unwrap();
    let after = rig.authority().trust().clone();
    assert!(verify(&early, &after, NOW).is_err() && verify(&signed(&rig), &before, NOW).is_err());
    assert!(verify(&signed(&rig), &after, NOW).is_ok());
}
