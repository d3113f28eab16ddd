//! Signatures beside files: what is refused, and as what.

use std::time::Duration;

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use proptest::prelude::*;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::*;
use crate::limits::{SIGNATURE_BYTES_MAX, SIGNING_CERTIFICATE_LIFE};
use crate::time::UnixMillis;

const NOW: UnixMillis = UnixMillis(1_780_000_000_000);
const DAY: Duration = Duration::from_secs(86_400);
const FILE: &[u8] = b"id,name\r\n1,press 4\r\n";

struct Rig {
    _dir: tempfile::TempDir,
    authority: Authority,
}

fn rig() -> Rig {
    let dir = tempfile::tempdir().unwrap();
    let authority = Authority::open_or_create(dir.path(), NOW).unwrap();
    Rig { _dir: dir, authority }
}

fn signature_of(rig: &Rig, pieces: &[&[u8]]) -> String {
    let mut signer = rig.authority.begin_signature("a.csv", "text/csv", "7.1".into(), NOW).unwrap();
    pieces.iter().for_each(|piece| signer.update(piece));
    signer.finish().unwrap()
}

fn checked(rig: &Rig, signature: &str, file: &[u8], now: UnixMillis) -> Result<VouchedFile, SignedError> {
    let mut check = SignatureCheck::begin(signature.as_bytes(), rig.authority.trust(), now)?;
    file.chunks(7).for_each(|piece| check.update(piece));
    check.finish()
}

/// The signature with another header, which nobody signed.
fn with_header(signature: &str, change: impl FnOnce(&mut serde_json::Value)) -> String {
    let (header, rest) = signature.split_once("..").unwrap();
    let mut header: serde_json::Value = serde_json::from_slice(&from_base64url(header).unwrap()).unwrap();
    change(&mut header);
    format!("{}..{rest}", to_base64url(header.to_string().as_bytes()))
}

#[test]
fn a_file_and_its_signature_survive_the_way_in_any_pieces() {
    let rig = rig();
    let signature = signature_of(&rig, &[&FILE[..3], &[], &FILE[3..]]);
    assert_eq!(signature.lines().count(), 1);
    let file = checked(&rig, &signature, FILE, NOW).unwrap();
    assert_eq!((file.name.as_str(), file.media_type.as_str()), ("a.csv", "text/csv"));
    assert_eq!((file.bytes, file.signed_at, file.register.as_str()), (FILE.len() as u64, NOW, "7.1"));
    assert!(file.signed_by.contains("fleetpulse files"), "{}", file.signed_by);
    assert!(checked(&rig, signature.trim_end(), FILE, NOW).is_ok(), "an editor may take the line's end");
    let nothing = signature_of(&rig, &[]);
    assert_eq!(checked(&rig, &nothing, b"", NOW).unwrap().bytes, 0);
    assert!(signature.len() < SIGNATURE_BYTES_MAX / 4, "{}", signature.len());
}

/// By the letter of RFC 7797, and with nothing of ours.
#[test]
fn anybody_can_check_it_as_the_standard_says() {
    let rig = rig();
    let signature = signature_of(&rig, &[FILE]);
    let parts: Vec<&str> = signature.trim_end().split('.').collect();
    let [header, "", signature] = parts.as_slice() else { panic!("{parts:?}") };
    let decode = |text: &str| base64::prelude::BASE64_URL_SAFE_NO_PAD.decode(text).unwrap();
    let read: serde_json::Value = serde_json::from_slice(&decode(header)).unwrap();
    assert_eq!(
        (&read["alg"], &read["b64"], &read["crit"][0]),
        (&"ES256".into(), &false.into(), &"b64".into())
    );
    let der = base64::prelude::BASE64_STANDARD.decode(read["x5c"][0].as_str().unwrap()).unwrap();
    let (_, certificate) = X509Certificate::from_der(&der).unwrap();
    let key = &certificate.public_key().subject_public_key.data;
    let input = [header.as_bytes(), b".", FILE].concat();
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(&input, &decode(signature)).unwrap();
}

#[test]
fn who_signed_what_and_when_is_checked() {
    let (ours, theirs) = (rig(), rig());
    let signature = signature_of(&ours, &[FILE]);
    assert_eq!(checked(&theirs, &signature, FILE, NOW), Err(SignedError::Forged));
    for changed in [&FILE[1..], &FILE[..FILE.len() - 1], &[FILE, b" "].concat(), b""] {
        assert_eq!(checked(&ours, &signature, changed, NOW), Err(SignedError::Edited), "{changed:?}");
    }
    let renamed = with_header(&signature, |header| header["name"] = "b.csv".into());
    assert_eq!(checked(&ours, &renamed, FILE, NOW), Err(SignedError::Edited));
    // Another file's, of the same authority.
    assert_eq!(checked(&ours, &signature_of(&ours, &[b"x"]), FILE, NOW), Err(SignedError::Edited));
    // Out of date now, and good when it was signed; then neither.
    let late = NOW.plus(SIGNING_CERTIFICATE_LIFE + 10 * DAY);
    assert!(checked(&ours, &signature, FILE, late).is_ok());
    let dated = with_header(&signature, |header| header["signed_at_ms"] = late.0.into());
    assert_eq!(checked(&ours, &dated, FILE, late), Err(SignedError::OutOfDate));
}

#[test]
fn a_signature_of_one_kind_is_none_of_the_other() {
    let rig = rig();
    let trust = rig.authority.trust();
    let attached = rig.authority.sign_file("a", "text/csv", FILE, NOW).unwrap();
    let parts: serde_json::Value = serde_json::from_slice(&attached).unwrap();
    let part = |name: &str| parts[name].as_str().unwrap();
    // What was signed there is the header, a dot and the payload in base64url: as a file it must not pass.
    let moved = format!("{}..{}", part("protected"), part("signature"));
    let refused = checked(&rig, &moved, part("payload").as_bytes(), NOW).unwrap_err();
    assert!(matches!(refused, SignedError::NotSigned(_)), "{refused}");
    // And the other way round.
    let text = to_base64url(b"payload");
    let beside = signature_of(&rig, &[text.as_bytes()]);
    let (header, signature) = beside.trim_end().split_once("..").unwrap();
    let moved = serde_json::json!({ "protected": header, "payload": text, "signature": signature });
    let refused = verify(moved.to_string().as_bytes(), trust, NOW).unwrap_err();
    assert!(refused.to_string().contains("lies beside"), "{refused}");
}

#[test]
fn a_signature_that_is_none_is_told() {
    let rig = rig();
    let good = signature_of(&rig, &[FILE]);
    let refused = |signature: &str| {
        let refused = checked(&rig, signature, FILE, NOW).unwrap_err();
        assert!(matches!(refused, SignedError::NotSigned(_)), "{signature}: {refused}");
        assert_eq!(refused.code(), "not-a-signed-file");
    };
    for text in ["", "..", "a..b", "e30..AAAA", "{}", &good.replace("..", "."), &good.replace("..", ".x.")] {
        refused(text);
    }
    refused(&"a".repeat(SIGNATURE_BYTES_MAX + 1));
    for change in [
        |header: &mut serde_json::Value| header["alg"] = "none".into(),
        |header: &mut serde_json::Value| header["typ"] = "JWT".into(),
        |header: &mut serde_json::Value| header["b64"] = true.into(),
        |header: &mut serde_json::Value| header["crit"] = serde_json::json!(["b64", "exp"]),
        |header: &mut serde_json::Value| header["crit"] = serde_json::json!([]),
        |header: &mut serde_json::Value| header["x5c"] = serde_json::json!([]),
        |header: &mut serde_json::Value| header["name"] = "n".repeat(300).into(),
    ] {
        refused(&with_header(&good, change));
    }
    let unsigned = with_header(&good, |header| header["x5c"] = serde_json::json!(["AAAA"]));
    assert_eq!(checked(&rig, &unsigned, FILE, NOW), Err(SignedError::Forged));
}

proptest! {
    #[test]
    fn no_bytes_are_too_odd(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..4_000, to in any::<u8>()) {
        let rig = rig_once();
        prop_assert!(SignatureCheck::begin(&bytes, rig.authority.trust(), NOW).is_err());
        // One byte of a good one.
        let mut signature = signature_once().as_bytes().to_vec();
        let length = signature.len();
        signature[at % (length - 1)] = to;
        if signature != signature_once().as_bytes() {
            let begun = SignatureCheck::begin(&signature, rig.authority.trust(), NOW);
            let checked = begun.and_then(|mut check| {
                check.update(FILE);
                check.finish()
            });
            prop_assert!(checked.is_err(), "{}", String::from_utf8_lossy(&signature));
        }
    }
}

fn rig_once() -> &'static Rig {
    static RIG: std::sync::OnceLock<Rig> = std::sync::OnceLock::new();
    RIG.get_or_init(rig)
}

fn signature_once() -> &'static str {
    static SIGNATURE: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    SIGNATURE.get_or_init(|| signature_of(rig_once(), &[FILE]))
}
