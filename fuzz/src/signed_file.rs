//! What strangers send to be signed or believed: signing requests, signed files, claims of old certificates.
//!
//! Input: one byte that says which, then the bytes. Where a signature would keep the fuzzer out, the bytes are signed
//! here, so that what lies behind it is reached too.

use std::sync::LazyLock;
use std::time::Duration;

use fleetpulse::identity::{
    ActivationFile, ActivationResponse, Authority, ClientKey, PeerIdentity, TrustBundle, read_trust, verify,
    verify_claim, verify_self_signed,
};
use fleetpulse::limits::SIGNED_FILE_BYTES_MAX;
use fleetpulse::time::UnixMillis;
use fleetpulse::wire::id::SensorId;

const NOW: UnixMillis = UnixMillis(1_795_478_400_000);
const DAY: Duration = Duration::from_secs(86_400);

/// Made anew in each run: no input can carry its signature.
static AUTHORITY: LazyLock<Authority> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("fleetpulse-fuzz-{}", std::process::id()));
    let authority = Authority::open_or_create(&folder, NOW).expect("an authority");
    // The certificate that signs files is made, and written, with the first signature.
    authority.sign_file("first", "text/plain", b"", NOW).expect("signed");
    std::fs::remove_dir_all(&folder).expect("its folder goes");
    authority
});
static KEY: LazyLock<ClientKey> = LazyLock::new(|| ClientKey::make().expect("a key"));

/// First bytes of inputs.
pub const CSR: u8 = 0;
pub const FILE: u8 = 1;
pub const ACTIVATION: u8 = 2;
pub const RESPONSE: u8 = 3;
pub const CLAIM: u8 = 4;

pub fn run(data: &[u8]) {
    let Some((which, rest)) = data.split_first() else { return };
    match *which {
        CSR => csr(rest),
        FILE => file(rest),
        ACTIVATION => activation(rest),
        RESPONSE => response(rest),
        CLAIM => claim(rest),
        _ => {}
    }
}

fn csr(bytes: &[u8]) {
    let identity = PeerIdentity::Sensor(SensorId::from_number(1));
    match AUTHORITY.sign_csr(bytes, identity, DAY, NOW) {
        Ok(signed) => {
            assert_eq!(signed.leaf.identity, identity, "nobody gets another's name");
            assert!(
                signed.leaf.in_date(NOW) && signed.leaf.not_after <= NOW.plus(DAY + Duration::from_secs(1))
            );
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn file(bytes: &[u8]) {
    let trust = AUTHORITY.trust();
    assert!(verify(bytes, trust, NOW).is_err(), "nobody has our signature");
    assert!(ActivationFile::read(bytes, Some(trust), NOW).is_err());
    // With what it brings along itself a file may be good.
    if let Ok(brought) = read_trust(bytes)
        && let Ok(file) = ActivationFile::read(bytes, None, NOW)
    {
        assert_eq!(TrustBundle::from_pem(&file.trust).expect("it was read"), brought);
    }
    let _ = (verify_self_signed(bytes), ActivationResponse::read(bytes));
}

fn activation(payload: &[u8]) {
    let signed = |payload: &[u8]| {
        AUTHORITY.sign_file("x.activation", ActivationFile::MEDIA_TYPE, payload, NOW).expect("signed")
    };
    let bytes = signed(payload);
    if bytes.len() <= SIGNED_FILE_BYTES_MAX {
        assert_eq!(verify(&bytes, AUTHORITY.trust(), NOW).expect("our own").payload, payload);
    }
    if let Ok(file) = ActivationFile::read(&bytes, Some(AUTHORITY.trust()), NOW) {
        let again = ActivationFile::read(&signed(&file.payload()), Some(AUTHORITY.trust()), NOW);
        assert_eq!(again, Ok(file));
    }
}

fn response(payload: &[u8]) {
    let mut bytes = KEY.sign_file("x", ActivationResponse::MEDIA_TYPE, payload, NOW).expect("signed");
    let read = ActivationResponse::read(&bytes);
    assert!(read.is_err() || read == ActivationResponse::read(&bytes));
    let place = payload.first().map_or(0, |byte| usize::from(*byte) % bytes.len());
    bytes[place] ^= 1;
    let edited = ActivationResponse::read(&bytes);
    // An end of line may change; what is signed may not.
    assert!(edited.is_err() || edited == read);
}

/// Chain, statement and signature, each with its length (two bytes, big-endian) in front.
fn claim(mut bytes: &[u8]) {
    let mut parts: Vec<&[u8]> = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (part, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        parts.push(part);
        bytes = rest;
    }
    let signature = parts.pop().unwrap_or_default();
    let statement = parts.pop().unwrap_or_default();
    assert!(
        verify_claim(&parts, statement, signature, AUTHORITY.trust(), NOW).is_err(),
        "nobody has a certificate of ours"
    );
}
