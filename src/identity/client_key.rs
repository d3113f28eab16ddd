//! The key of a sensor or gateway: made where it is used, and never sent anywhere. What leaves the host is a request
//! for a certificate, or a statement signed with the key.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
#[cfg(any(feature = "server", feature = "sensor"))]
use rcgen::{CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use super::signed::{self, Header, Jwk, key_hash, to_base64url};
use super::trust::TrustError;
use crate::time::UnixMillis;

/// An ECDSA key on P-256.
pub struct ClientKey {
    pem: String,
    signer: EcdsaKeyPair,
}

impl std::fmt::Debug for ClientKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClientKey")
    }
}

fn bad(error: impl ToString) -> TrustError {
    TrustError::Key(error.to_string())
}

impl ClientKey {
    /// A fresh one.
    #[cfg(any(feature = "server", feature = "sensor"))]
    pub fn make() -> Result<ClientKey, TrustError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(bad)?;
        ClientKey::from_pem(&key.serialize_pem())
    }

    /// Reads one (PKCS#8, PEM).
    pub fn from_pem(pem: &str) -> Result<ClientKey, TrustError> {
        let PrivateKeyDer::Pkcs8(der) = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(bad)? else {
            return Err(bad("it is not PKCS#8"));
        };
        let signer = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.secret_pkcs8_der())
            .map_err(|_| bad("it is not an ECDSA key on P-256"))?;
        Ok(ClientKey { pem: pem.to_owned(), signer })
    }

    /// The private key as PEM, for its file.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The public key as a point.
    pub(super) fn point(&self) -> &[u8] {
        self.signer.public_key().as_ref()
    }

    /// SHA-256 of the public key.
    pub fn hash(&self) -> [u8; 32] {
        key_hash(self.point())
    }

    /// A request for a certificate (PKCS#10, DER): the public key and the proof that its private half is here. It
    /// carries no name; the server knows whom it signs for.
    #[cfg(any(feature = "server", feature = "sensor"))]
    pub fn request(&self) -> Result<Vec<u8>, TrustError> {
        let key = KeyPair::from_pem(&self.pem).map_err(bad)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        Ok(params.serialize_request(&key).map_err(bad)?.der().to_vec())
    }

    /// Signs a statement: 64 bytes, r and s.
    pub fn sign(&self, statement: &[u8]) -> Result<Vec<u8>, TrustError> {
        let signature = self.signer.sign(&SystemRandom::new(), statement).map_err(bad)?;
        Ok(signature.as_ref().to_vec())
    }

    /// A file signed with this key, which is in it.
    #[cfg(any(feature = "server", feature = "sensor"))]
    pub fn sign_file(
        &self,
        name: &str,
        media_type: &str,
        payload: &[u8],
        now: UnixMillis,
    ) -> Result<Vec<u8>, TrustError> {
        let mut header = Header::new(name, media_type, now);
        let (x, y) = self.point()[1..].split_at(32);
        header.jwk =
            Some(Jwk { kty: "EC".into(), crv: "P-256".into(), x: to_base64url(x), y: to_base64url(y) });
        signed::sign(&header, payload, |bytes| self.sign(bytes))
    }
}
