//! Signed files: everything that people carry from the server to a sensor, or the other way.
//!
//! A file is a JSON Web Signature in its flattened JSON form (RFC 7515), ES256, so that anybody can check it with
//! common tools: `{"payload", "protected", "signature"}`. The protected header names the media type, the file and the
//! time of signing, and carries the chain (`x5c`): the signing certificate and the intermediate. What counts is only
//! that this chain leads to a root of the reader's own trust bundle, and that its first certificate is for signing
//! (extended key usage "code signing"): a sensor's or the server's certificate signs nothing.
//!
//! Dates: the chain must be good now, or have been at the time of signing. So a file that was signed with last year's
//! certificate stays good. The price: who steals an expired signing key can date a file back.
//!
//! A download is too large to be wrapped: its signature lies beside it ([`super::detached`]), with the same header and
//! chain.
//!
//! A sensor that has no certificate yet signs with a bare key (`jwk`): that proves one thing, that both parts of an
//! exchange come from who holds the key. [`verify`] refuses such a file; [`verify_self_signed`] reads it.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rustls::pki_types::{CertificateDer, UnixTime};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::trust::{TrustBundle, provider};
use crate::limits::{SIGNED_FILE_BYTES_MAX, SIGNED_FILE_CERTIFICATES_MAX, SIGNED_FILE_NAME_BYTES_MAX};
use crate::time::UnixMillis;

/// The `typ` of every signed file.
pub(super) const TYPE: &str = "fleetpulse-file";
pub(super) const ALGORITHM: &str = "ES256";
/// Extended key usage "code signing": 1.3.6.1.5.5.7.3.3.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];
/// Bytes of a P-256 point that is not compressed.
const POINT_BYTES: usize = 65;

/// A signed file as it is written.
#[derive(Serialize, Deserialize)]
pub(super) struct Flattened {
    pub payload: String,
    pub protected: String,
    pub signature: String,
}

/// The protected header.
#[derive(Serialize, Deserialize)]
pub(super) struct Header {
    pub alg: String,
    #[serde(default)]
    pub typ: String,
    #[serde(default)]
    pub cty: String,
    #[serde(default)]
    pub name: String,
    /// Time of signing, in milliseconds since 1970 UTC.
    #[serde(default)]
    pub signed_at_ms: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub x5c: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Jwk>,
    /// `false` under a signature that lies beside its file (RFC 7797); absent in a file that carries its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub b64: Option<bool>,
    /// What a reader must know to be allowed to trust the file.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub crit: Vec<String>,
    /// Position in the register's log that the content includes at least.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub register: Option<String>,
}

/// A bare public key (RFC 7517).
#[derive(Serialize, Deserialize)]
pub(super) struct Jwk {
    pub kty: String,
    pub crv: String,
    pub x: String,
    pub y: String,
}

/// A file whose signature is good.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedFile {
    /// The name that it was made with.
    pub name: String,
    /// What it is.
    pub media_type: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// Subject of the signing certificate.
    pub signed_by: String,
    /// When it was signed, by the signer's clock.
    pub signed_at: UnixMillis,
}

/// A file signed by a bare key: good for nothing but being linked to that key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SelfSignedFile {
    /// What it is.
    pub media_type: String,
    /// Its content.
    pub payload: Vec<u8>,
    /// SHA-256 of the public key (DER of its SubjectPublicKeyInfo).
    pub key: [u8; 32],
    /// When it was signed, by the signer's clock.
    pub signed_at: UnixMillis,
}

/// Why a file is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignedError {
    /// Over [`SIGNED_FILE_BYTES_MAX`].
    #[error(
        "{0} bytes are more than a signed file has ({SIGNED_FILE_BYTES_MAX}); was it damaged on its way?"
    )]
    TooLong(usize),
    /// Not a flattened JSON Web Signature of ours.
    #[error("this is no signed file of ours: {0}")]
    NotSigned(&'static str),
    /// The chain leads to no root of the trust bundle.
    #[error("it was signed by somebody else: its certificates lead to none of the trusted roots")]
    Forged,
    /// Signed with a certificate that may not sign files.
    #[error("it was signed with a certificate that is not for signing files")]
    NotASigner,
    /// The chain is out of date, now and at the time of signing.
    #[error(
        "the certificate that it was signed with is out of date; check this host's clock, or get the file again"
    )]
    OutOfDate,
    /// The signature does not match the content.
    #[error("it was changed after it was signed; get the file again")]
    Edited,
}

impl SignedError {
    /// Its stable code.
    pub const fn code(&self) -> &'static str {
        match self {
            SignedError::TooLong(_) => "file-too-long",
            SignedError::NotSigned(_) => "not-a-signed-file",
            SignedError::Forged => "file-forged",
            SignedError::NotASigner => "file-signer",
            SignedError::OutOfDate => "file-out-of-date",
            SignedError::Edited => "file-edited",
        }
    }
}

/// Bytes as the web writes them: URL-safe, without padding.
pub fn to_base64url(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

/// The reverse; `None` for anything but the one spelling of some bytes.
pub fn from_base64url(text: &str) -> Option<Vec<u8>> {
    BASE64_URL_SAFE_NO_PAD.decode(text).ok()
}

/// A file taken apart, nothing of it checked.
pub(super) struct Parts {
    pub header: Header,
    pub payload: Vec<u8>,
    signing_input: String,
    signature: Vec<u8>,
}

/// Takes a file apart without believing it.
pub(super) fn take_apart(bytes: &[u8]) -> Result<Parts, SignedError> {
    let bad = SignedError::NotSigned;
    if bytes.len() > SIGNED_FILE_BYTES_MAX {
        return Err(SignedError::TooLong(bytes.len()));
    }
    let flattened: Flattened = serde_json::from_slice(bytes)
        .map_err(|_| bad("it is not JSON with \"payload\", \"protected\" and \"signature\""))?;
    let header = from_base64url(&flattened.protected).ok_or(bad("its header is not base64url"))?;
    let header: Header = serde_json::from_slice(&header).map_err(|_| bad("its header can't be read"))?;
    if header.alg != ALGORITHM || header.typ != TYPE {
        return Err(bad("its header is of another kind or algorithm (wanted: fleetpulse-file, ES256)"));
    }
    header.check_names()?;
    if header.b64.is_some() || !header.crit.is_empty() {
        return Err(bad("it is the signature of a file that lies beside it; give that file"));
    }
    let payload = from_base64url(&flattened.payload).ok_or(bad("its payload is not base64url"))?;
    let signature = from_base64url(&flattened.signature).ok_or(bad("its signature is not base64url"))?;
    let signing_input = format!("{}.{}", flattened.protected, flattened.payload);
    Ok(Parts { header, payload, signing_input, signature })
}

impl Parts {
    fn signed_with(&self, point: &[u8]) -> Result<(), SignedError> {
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(self.signing_input.as_bytes(), &self.signature)
            .map_err(|_| SignedError::Edited)
    }
}

impl Header {
    pub(super) fn check_names(&self) -> Result<(), SignedError> {
        let long = |text: &str| text.len() > SIGNED_FILE_NAME_BYTES_MAX;
        match long(&self.name) || long(&self.cty) {
            true => Err(SignedError::NotSigned("its name is too long")),
            false => Ok(()),
        }
    }

    /// By whom it was signed: a chain that leads to a trusted root, and may sign files.
    pub(super) fn signer(&self, trust: &TrustBundle, now: UnixMillis) -> Result<SignedBy, SignedError> {
        let chain = &self.x5c;
        if chain.is_empty() || chain.len() > SIGNED_FILE_CERTIFICATES_MAX {
            return Err(SignedError::NotSigned("it carries no chain of certificates, or too long a one"));
        }
        let chain: Vec<CertificateDer<'static>> = chain
            .iter()
            .map(|text| BASE64_STANDARD.decode(text).map(CertificateDer::from))
            .collect::<Result<_, _>>()
            .map_err(|_| SignedError::NotSigned("its certificates can't be read"))?;
        let (signer, others) = chain.split_first().ok_or(SignedError::Forged)?;
        match leads_to_a_root(signer, others, trust, now) {
            Err(SignedError::OutOfDate) => {
                leads_to_a_root(signer, others, trust, UnixMillis(self.signed_at_ms))?;
            }
            other => other?,
        }
        let (_, certificate) = X509Certificate::from_der(signer).map_err(|_| SignedError::Forged)?;
        let uses = certificate.extended_key_usage().ok().flatten();
        if !uses.is_some_and(|uses| uses.value.code_signing) {
            return Err(SignedError::NotASigner);
        }
        Ok(SignedBy {
            subject: certificate.subject().to_string(),
            point: certificate.public_key().subject_public_key.data.to_vec(),
        })
    }
}

/// Whose signature it would be.
pub(super) struct SignedBy {
    /// Subject of the signing certificate.
    pub subject: String,
    /// Its public key.
    pub point: Vec<u8>,
}

/// Checks a file: by whom it was signed, and that nobody changed it since.
pub fn verify(bytes: &[u8], trust: &TrustBundle, now: UnixMillis) -> Result<SignedFile, SignedError> {
    let parts = take_apart(bytes)?;
    let signer = parts.header.signer(trust, now)?;
    parts.signed_with(&signer.point)?;
    Ok(SignedFile {
        signed_by: signer.subject,
        signed_at: UnixMillis(parts.header.signed_at_ms),
        name: parts.header.name,
        media_type: parts.header.cty,
        payload: parts.payload,
    })
}

fn leads_to_a_root(
    signer: &CertificateDer<'_>,
    others: &[CertificateDer<'_>],
    trust: &TrustBundle,
    at: UnixMillis,
) -> Result<(), SignedError> {
    use webpki::Error;
    let store = trust.root_store().map_err(|_| SignedError::Forged)?;
    let algorithms = provider().signature_verification_algorithms;
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(u64::try_from(at.0).unwrap_or(0)));
    let certificate = EndEntityCert::try_from(signer).map_err(|_| SignedError::Forged)?;
    // Asked of every certificate on the way, and an authority's says nothing of uses; the signer's own must.
    let usage = KeyUsage::required_if_present(CODE_SIGNING);
    certificate
        .verify_for_usage(algorithms.all, &store.roots, others, at, usage, None, None)
        .map(drop)
        .map_err(|error| match error {
            Error::CertExpired { .. } | Error::CertNotValidYet { .. } => SignedError::OutOfDate,
            Error::RequiredEkuNotFoundContext(_) => SignedError::NotASigner,
            _ => SignedError::Forged,
        })
}

/// Checks a file that was signed with the bare key in its own header.
pub fn verify_self_signed(bytes: &[u8]) -> Result<SelfSignedFile, SignedError> {
    let bad = SignedError::NotSigned;
    let parts = take_apart(bytes)?;
    let jwk = parts.header.jwk.as_ref().ok_or(bad("it carries no key"))?;
    if jwk.kty != "EC" || jwk.crv != "P-256" {
        return Err(bad("its key is of another kind (wanted: EC on P-256)"));
    }
    let mut point = vec![4];
    for coordinate in [&jwk.x, &jwk.y] {
        let bytes = from_base64url(coordinate).filter(|bytes| bytes.len() == (POINT_BYTES - 1) / 2);
        point.extend(bytes.ok_or(bad("its key can't be read"))?);
    }
    parts.signed_with(&point)?;
    Ok(SelfSignedFile {
        key: key_hash(&point),
        signed_at: UnixMillis(parts.header.signed_at_ms),
        media_type: parts.header.cty,
        payload: parts.payload,
    })
}

/// SHA-256 of a P-256 public key, given as its point, in the form that certificates carry (SubjectPublicKeyInfo).
pub(super) fn key_hash(point: &[u8]) -> [u8; 32] {
    /// SEQUENCE { SEQUENCE { id-ecPublicKey, prime256v1 }, BIT STRING of 66 bytes.
    const PREFIX: [u8; 26] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
        0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    sha256(&[&PREFIX[..], point].concat())
}

/// SHA-256, the one hash of tokens and keys.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(digest.as_ref());
    hash
}

/// Signs with whatever signs: the authority's signing key, or a sensor's own.
#[cfg(any(feature = "server", feature = "sensor"))]
pub(super) fn sign<E>(
    header: &Header,
    payload: &[u8],
    key: impl FnOnce(&[u8]) -> Result<Vec<u8>, E>,
) -> Result<Vec<u8>, E> {
    let header = serde_json::to_vec(header).expect("texts and numbers");
    let (protected, payload) = (to_base64url(&header), to_base64url(payload));
    let signature = to_base64url(&key(format!("{protected}.{payload}").as_bytes())?);
    let mut file =
        serde_json::to_vec_pretty(&Flattened { payload, protected, signature }).expect("three texts");
    file.push(b'\n');
    Ok(file)
}

#[cfg(any(feature = "server", feature = "sensor"))]
impl Header {
    pub(super) fn new(name: &str, media_type: &str, now: UnixMillis) -> Header {
        Header {
            alg: ALGORITHM.to_owned(),
            typ: TYPE.to_owned(),
            cty: media_type.to_owned(),
            name: name.to_owned(),
            signed_at_ms: now.0,
            x5c: Vec::new(),
            jwk: None,
            b64: None,
            crit: Vec::new(),
            register: None,
        }
    }
}
