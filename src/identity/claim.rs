//! Who asks for a new certificate with one that ran out: the chain and the signature are checked here, because no TLS
//! handshake with that certificate succeeds any more.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::trust::{TrustBundle, provider};
use super::verify::{Leaf, parse_leaf};
use crate::time::UnixMillis;

/// Why a claim proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ClaimError {
    /// The certificate can't be read, or its chain leads to none of our roots.
    #[error("the certificate is not of this installation")]
    Chain,
    /// The signature is not by the certificate's key.
    #[error("the request is not signed with the certificate's key")]
    Signature,
}

/// Checks that `chain` (DER, the own certificate first) was good when it ended, or is good now, and that its key
/// signed `statement`. Whether it ran out too long ago, or was revoked, is for the caller to say.
pub fn verify_claim(
    chain: &[&[u8]],
    statement: &[u8],
    signature: &[u8],
    trust: &TrustBundle,
    now: UnixMillis,
) -> Result<Leaf, ClaimError> {
    let (own, others) = chain.split_first().ok_or(ClaimError::Chain)?;
    let leaf = parse_leaf(own).map_err(|_| ClaimError::Chain)?;
    // The last second of its validity counts whole, which the library does not know.
    let at = UnixMillis(now.0.min(leaf.not_after.0 - 999));
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_millis(u64::try_from(at.0).unwrap_or(0)));
    let own = CertificateDer::from(*own);
    let others: Vec<_> = others.iter().map(|der| CertificateDer::from(*der)).collect();
    let store = trust.root_store().map_err(|_| ClaimError::Chain)?;
    let algorithms = provider().signature_verification_algorithms;
    let certificate = EndEntityCert::try_from(&own).map_err(|_| ClaimError::Chain)?;
    let usage = KeyUsage::client_auth();
    certificate
        .verify_for_usage(algorithms.all, &store.roots, &others, at, usage, None, None)
        .map_err(|_| ClaimError::Chain)?;
    let (_, certificate) = X509Certificate::from_der(&own).map_err(|_| ClaimError::Chain)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, &certificate.public_key().subject_public_key.data)
        .verify(statement, signature)
        .map_err(|_| ClaimError::Signature)?;
    Ok(leaf)
}
