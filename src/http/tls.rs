//! HTTPS: TLS 1.2 and 1.3, with a certificate that is taken over while connections are open.
//!
//! Where the certificate comes from is the server's to say (files, or its own authority). It is looked at every few
//! seconds and at a reload; one that changed serves new connections from then on, those there are keep theirs. A
//! certificate that can't be used is said once and changes nothing.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::version::{TLS12, TLS13};
use tokio_rustls::TlsAcceptor;

/// A certificate chain, leaf first, and its key.
pub struct Certificate {
    /// The chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its key.
    pub key: PrivateKeyDer<'static>,
}

/// Gives the certificate as it is now, or says what is wrong. May wait for the disk.
pub type CertificateSource = Arc<dyn Fn() -> Result<Certificate, String> + Send + Sync>;

impl Certificate {
    /// From the PEM text of both files.
    pub fn from_pem(chain: &[u8], key: &[u8]) -> Result<Certificate, String> {
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain).collect();
        let chain = chain.map_err(|error| format!("the certificate is no PEM: {error}"))?;
        if chain.is_empty() {
            return Err("there is no certificate in its file".to_owned());
        }
        let key =
            PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the key is no PEM: {error}"))?;
        Ok(Certificate { chain, key })
    }
}

/// The certificate in use.
pub(super) struct Tls {
    source: CertificateSource,
    served: RwLock<Arc<ServerConfig>>,
    chain: Mutex<Vec<CertificateDer<'static>>>,
    /// What was wrong at the last look, so that it is logged once.
    wrong: Mutex<Option<String>>,
}

impl Tls {
    pub(super) fn new(source: CertificateSource) -> Result<Tls, String> {
        let certificate = source()?;
        let chain = certificate.chain.clone();
        let served = RwLock::new(config(certificate)?);
        Ok(Tls { source, served, chain: Mutex::new(chain), wrong: Mutex::default() })
    }

    /// For a new connection.
    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.served.read().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Takes over a certificate that changed; says whether it did.
    pub(super) fn look(&self) -> Result<bool, String> {
        let found = self.take_over();
        let mut wrong = self.wrong.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Ok(true) => tracing::info!("HTTPS has a new certificate"),
            Err(error) if wrong.as_ref() != Some(error) => {
                tracing::error!(error, "the certificate of HTTPS can't be used; the one before stays");
            }
            _ => {}
        }
        *wrong = found.as_ref().err().cloned();
        found
    }

    fn take_over(&self) -> Result<bool, String> {
        let certificate = (self.source)()?;
        let mut chain = self.chain.lock().unwrap_or_else(PoisonError::into_inner);
        if *chain == certificate.chain {
            return Ok(false);
        }
        let new = certificate.chain.clone();
        *self.served.write().unwrap_or_else(PoisonError::into_inner) = config(certificate)?;
        *chain = new;
        Ok(true)
    }
}

/// A key that is not the certificate's is refused here.
fn config(certificate: Certificate) -> Result<Arc<ServerConfig>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .and_then(|builder| {
            builder.with_no_client_auth().with_single_cert(certificate.chain, certificate.key)
        })
        .map_err(|error| error.to_string())?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
