//! The authority's signature under files: a certificate of its own, made by the intermediate, that can do nothing
//! else. So the key that signs files never signs certificates, and a server's or sensor's certificate signs no file.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rcgen::{ExtendedKeyUsagePurpose, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{Authority, AuthorityError};
use super::detached::{SigningInput, UNENCODED};
use super::files::{self, FileError};
use super::issuing::leaf_params;
use super::signed::{self, Header, to_base64url};
use crate::limits::SIGNING_CERTIFICATE_LIFE;
use crate::time::UnixMillis;

const SIGNING: &str = "signing.pem";

/// The signing certificate in use, read or made at the first signature.
#[derive(Default)]
pub(super) struct SigningSlot(Mutex<Option<Arc<Signer>>>);

struct Signer {
    /// `x5c`: the certificate and those of its issuers.
    chain: Vec<String>,
    key: EcdsaKeyPair,
    not_after: UnixMillis,
    by: String,
}

impl SigningSlot {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Signer>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Authority {
    /// Signs a file. Its reader needs nothing but the trust bundle.
    pub fn sign_file(
        &self,
        name: &str,
        media_type: &str,
        payload: &[u8],
        now: UnixMillis,
    ) -> Result<Vec<u8>, AuthorityError> {
        let signer = self.signer(now)?;
        let mut header = Header::new(name, media_type, now);
        header.x5c.clone_from(&signer.chain);
        signed::sign(&header, payload, |bytes| {
            let signature = signer.key.sign(&SystemRandom::new(), bytes);
            Ok(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref().to_vec())
        })
    }

    /// Begins the signature of a file that is written piece by piece, and that it will lie beside. `register` is the
    /// position in the register's log that the content includes at least.
    pub fn begin_signature(
        &self,
        name: &str,
        media_type: &str,
        register: String,
        now: UnixMillis,
    ) -> Result<FileSigner, AuthorityError> {
        let signer = self.signer(now)?;
        let mut header = Header::new(name, media_type, now);
        header.x5c.clone_from(&signer.chain);
        header.register = Some(register);
        header.b64 = Some(false);
        header.crit = vec![UNENCODED.to_owned()];
        let protected = to_base64url(&serde_json::to_vec(&header).expect("texts and numbers"));
        let input = SigningInput::begin(&protected);
        Ok(FileSigner { signer, protected, input })
    }

    /// The signing certificate in use; made anew when it is no more good for long.
    fn signer(&self, now: UnixMillis) -> Result<Arc<Signer>, AuthorityError> {
        let mut slot = self.signing.lock();
        let issuers = self.issuers_pem();
        let fresh = |signer: &Signer| {
            signer.not_after >= now.plus(SIGNING_CERTIFICATE_LIFE / 3) && signer.by == issuers
        };
        if let Some(signer) = slot.as_ref().filter(|signer| fresh(signer)) {
            return Ok(Arc::clone(signer));
        }
        let path = self.folder().join(SIGNING);
        let read = files::read(&path)?.and_then(|text| Signer::read(&text, &issuers));
        let signer = Arc::new(match read.filter(fresh) {
            Some(signer) => signer,
            None => {
                let text = self.make_signing_certificate(now)?;
                files::write_private(&path, &text)?;
                Signer::read(&text, &issuers)
                    .ok_or_else(|| FileError::content(&path, "it is not what was just written"))?
            }
        });
        *slot = Some(Arc::clone(&signer));
        Ok(signer)
    }

    fn make_signing_certificate(&self, now: UnixMillis) -> Result<String, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let end = now.plus(SIGNING_CERTIFICATE_LIFE);
        let certificate = self.with_issuer(|issuer, not_after| {
            let mut params = leaf_params("fleetpulse files", now, end.min(not_after))?;
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning];
            params.signed_by(&key, issuer)
        })?;
        Ok(format!("{}{}{}", certificate.pem(), self.issuers_pem(), key.serialize_pem()))
    }
}

/// The signature of a file that is being written.
pub struct FileSigner {
    signer: Arc<Signer>,
    protected: String,
    input: SigningInput,
}

impl FileSigner {
    /// The next piece of the file.
    pub fn update(&mut self, piece: &[u8]) {
        self.input.update(piece);
    }

    /// The file is complete: its signature, one line of text (JWS compact serialization without the payload).
    pub fn finish(self) -> Result<String, AuthorityError> {
        let FileSigner { signer, protected, input } = self;
        let signature = signer.key.sign_digest(&input.finish());
        let signature = to_base64url(signature.map_err(|_| rcgen::Error::RingUnspecified)?.as_ref());
        Ok(format!("{protected}..{signature}\n"))
    }
}

impl Signer {
    /// `None` for what can't be read, or is of other issuers: then it is made anew.
    fn read(text: &str, issuers: &str) -> Option<Signer> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes()).collect::<Result<_, _>>().ok()?;
        let PrivateKeyDer::Pkcs8(key) = PrivateKeyDer::from_pem_slice(text.as_bytes()).ok()? else {
            return None;
        };
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der()).ok()?;
        let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
        let not_after = UnixMillis(certificate.validity().not_after.timestamp().saturating_mul(1_000));
        let own = CertificateDer::pem_slice_iter(issuers.as_bytes()).filter_map(Result::ok);
        let by = chain.iter().skip(1).cloned().eq(own).then(|| issuers.to_owned())?;
        let chain = chain.iter().map(|certificate| BASE64_STANDARD.encode(certificate)).collect();
        Some(Signer { chain, key, not_after, by })
    }
}
