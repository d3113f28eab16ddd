//! Signed files and activation files: what is refused, and as what.

use std::time::Duration;

use base64::Engine;
use proptest::prelude::*;

use super::*;
use crate::limits::{ACTIVATION_FILE_BYTES_MAX, SIGNING_CERTIFICATE_LIFE};
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

const NOW: UnixMillis = UnixMillis(1_780_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);

struct Rig {
    _dir: tempfile::TempDir,
    authority: Authority,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), NOW).unwrap();
    Rig { _dir: dir, authority }
}

fn file(trust: &str) -> ActivationFile {
    ActivationFile {
        sensor: SensorId::from_number(7),
        name: "press 4 \u{202e}<script>".into(),
        sensor_type: "ot-cloud".into(),
        site: "Lyon".into(),
        zone: "Line 1".into(),
        servers: vec!["fleet.example:4433".into()],
        enrol: vec!["fleet.example:4434".into()],
        server_name: "fleet.example".into(),
        trust: trust.into(),
        token: [7; 32],
        issued_at: NOW,
        expires_at: NOW.plus(14 * DAY),
        generation: 3,
    }
}

fn signed(rig: &Rig) -> Vec<u8> {
    let file = file(rig.authority.trust_pem());
    rig.authority.sign_file("a.json", ActivationFile::MEDIA_TYPE, &file.payload(), NOW).unwrap()
}

#[test]
fn an_activation_file_survives_the_way() {
    let rig = rig();
    let bytes = signed(&rig);
    let expected = file(rig.authority.trust_pem());
    for trust in [None, Some(rig.authority.trust())] {
        assert_eq!(ActivationFile::read(&bytes, trust, NOW), Ok(expected.clone()));
    }
    assert_eq!(expected.fingerprints()[0].len(), 64);
    assert!(!format!("{expected:?}").contains("7, 7"), "the token is not logged");
    let file = verify(&bytes, rig.authority.trust(), NOW).unwrap();
    assert_eq!((file.name.as_str(), file.media_type.as_str()), ("a.json", ActivationFile::MEDIA_TYPE));
    assert!(file.signed_by.contains("fleetpulse files"), "{}", file.signed_by);
}

#[test]
fn who_signed_and_when_is_checked() {
    let (ours, theirs) = (rig(), rig());
    let bytes = signed(&ours);
    assert_eq!(verify(&bytes, theirs.authority.trust(), NOW), Err(SignedError::Forged));
    // Out of date now, and good when it was signed.
    let late = NOW.plus(SIGNING_CERTIFICATE_LIFE + 10 * DAY);
    assert!(verify(&bytes, ours.authority.trust(), late).is_ok());
    let expired = ActivationFile::read(&bytes, None, late).unwrap_err();
    assert_eq!(expired.code(), "activation-expired");
    assert!(expired.to_string().contains("2026-06-1"), "{expired}");
    // Good neither now nor then.
    let mut parts: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    let header = from_base64url(parts["protected"].as_str().unwrap()).unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["signed_at_ms"] = serde_json::json!(0);
    parts["protected"] = to_base64url(header.to_string().as_bytes()).into();
    let dated = parts.to_string();
    assert_eq!(verify(dated.as_bytes(), ours.authority.trust(), late), Err(SignedError::OutOfDate));
    assert_eq!(verify(dated.as_bytes(), ours.authority.trust(), NOW), Err(SignedError::Edited));
}

#[test]
fn a_certificate_of_another_use_signs_nothing() {
    let rig = rig();
    let (key, id) = (ClientKey::make().unwrap(), PeerIdentity::Sensor(SensorId::from_number(1)));
    let made = rig.authority.sign_csr(&key.request().unwrap(), id, DAY, NOW).unwrap();
    let identity = ClientIdentity {
        cert_chain_pem: made.chain_pem,
        key_pem: key.pem().to_owned(),
        trust_bundle_pem: rig.authority.trust_pem().to_owned(),
    };
    let own = key.sign_file("a", "b", b"c", NOW).unwrap();
    let mut parts: serde_json::Value = serde_json::from_slice(&own).unwrap();
    let header = from_base64url(parts["protected"].as_str().unwrap()).unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    let chain: Vec<_> = identity
        .chain_der()
        .unwrap()
        .iter()
        .map(|der| base64::prelude::BASE64_STANDARD.encode(der))
        .collect();
    header["x5c"] = serde_json::json!(chain);
    parts["protected"] = to_base64url(header.to_string().as_bytes()).into();
    let forged = parts.to_string();
    assert_eq!(verify(forged.as_bytes(), rig.authority.trust(), NOW), Err(SignedError::NotASigner));
    // A bare key is no signer either.
    assert!(matches!(verify(&own, rig.authority.trust(), NOW), Err(SignedError::NotSigned(_))));
}

#[test]
fn the_signing_certificate_outlives_a_restart_and_is_renewed_in_time() {
    let dir = tempfile::tempdir().unwrap();
    let certificate = |now: UnixMillis| {
        let authority = Authority::open_or_create(dir.path(), now).unwrap();
        let bytes = authority.sign_file("n", "t", b"p", now).unwrap();
        verify(&bytes, authority.trust(), now).unwrap();
        std::fs::read_to_string(dir.path().join("identity/signing.pem")).unwrap()
    };
    let first = certificate(NOW);
    assert_eq!(certificate(NOW.plus(DAY)), first);
    assert_ne!(certificate(NOW.plus(SIGNING_CERTIFICATE_LIFE * 3 / 4)), first);
    // What is not usable is made anew: nobody depends on this very certificate.
    std::fs::write(dir.path().join("identity/signing.pem"), "rubbish").unwrap();
    certificate(NOW);
}

#[test]
fn a_response_is_linked_to_its_key_and_to_nothing_else() {
    let rig = rig();
    let file = file(rig.authority.trust_pem());
    let key = ClientKey::make().unwrap();
    let payload = ActivationResponse::payload(&file, NOW);
    let bytes = key.sign_file("r", ActivationResponse::MEDIA_TYPE, &payload, NOW).unwrap();
    let response = ActivationResponse::read(&bytes).unwrap();
    assert_eq!((response.sensor, response.key, response.clock), (file.sensor, key.hash(), NOW));
    assert_eq!(response.token, sha256(&file.token));
    assert!(!String::from_utf8_lossy(&bytes).contains(&to_base64url(&file.token)));
    // The two kinds are not mixed up.
    let other = ActivationFile::read(&bytes, Some(rig.authority.trust()), NOW).unwrap_err();
    assert_eq!(other.code(), "not-a-signed-file");
    assert_eq!(ActivationResponse::read(&signed(&rig)).unwrap_err().code(), "not-a-signed-file");
    let kind = key.sign_file("r", "text/csv", b"a,b", NOW).unwrap();
    assert_eq!(ActivationResponse::read(&kind).unwrap_err().code(), "not-an-activation-file");
    assert!(ActivationResponse::read(&vec![b' '; ACTIVATION_FILE_BYTES_MAX + 1]).is_err());
}

#[test]
fn the_hash_of_a_key_is_that_of_its_subject_public_key_info() {
    let rig = rig();
    let key = ClientKey::make().unwrap();
    let id = PeerIdentity::Sensor(SensorId::from_number(1));
    let made = rig.authority.sign_csr(&key.request().unwrap(), id, DAY, NOW).unwrap();
    let der = rustls::pki_types::CertificateDer::from(pem(&made.chain_pem));
    let (_, certificate) = x509_parser::parse_x509_certificate(&der).unwrap();
    assert_eq!(sha256(certificate.public_key().raw), key.hash());
}

fn pem(text: &str) -> Vec<u8> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap().to_vec()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// One changed byte anywhere: never accepted with another content.
    #[test]
    fn an_edited_file_is_refused(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        static MADE: std::sync::OnceLock<(Vec<u8>, TrustBundle)> = std::sync::OnceLock::new();
        let (bytes, trust) = MADE.get_or_init(|| {
            let rig = rig();
            (signed(&rig), rig.authority.trust().clone())
        });
        let good = verify(bytes, trust, NOW).unwrap();
        let mut edited = bytes.clone();
        let place = at.index(edited.len());
        edited[place] = with;
        if let Ok(read) = verify(&edited, trust, NOW) {
            prop_assert_eq!(read, good);
        }
        let _ = ActivationFile::read(&edited, None, NOW);
        let _ = ActivationResponse::read(&edited);
    }

    #[test]
    fn rubbish_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(read_trust(&bytes).is_err());
        prop_assert!(verify_self_signed(&bytes).is_err());
    }
}
