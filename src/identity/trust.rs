//! What a sensor holds: the roots it trusts, its own chain and key, and the TLS configuration made of them.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::time_provider::TimeProvider;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::client_key::ClientKey;
use super::files::{self, FileError};
use super::verify::{Leaf, LeafError, parse_leaf};
use crate::limits::TRUST_ROOTS_MAX;
use crate::time::Clock;

/// ALPN of the main port.
pub const ALPN_MAIN: &[u8] = b"fleetpulse/1";
/// ALPN of the enrolment port.
pub const ALPN_ENROL: &[u8] = b"fleetpulse-enrol/1";

const GENERATION: &str = "generation: ";

/// Trust or identity that could not be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The bundle holds no certificate, too many, or something that is none.
    #[error("the trust bundle is not usable: {0}")]
    Bundle(String),
    /// The chain holds no certificate, or something that is none.
    #[error("the certificate chain is not usable: {0}")]
    Chain(String),
    /// The first certificate of the chain is not a sensor's or gateway's.
    #[error("the certificate is not usable: {0}")]
    Leaf(#[from] LeafError),
    /// The private key can't be read, or is not the certificate's.
    #[error("the private key is not usable: {0}")]
    Key(String),
    /// The TLS library refused the whole.
    #[error("TLS can't be set up: {0}")]
    Tls(#[from] rustls::Error),
}

/// The roots that a sensor trusts, with the generation that its heartbeats report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustBundle {
    /// Rises with every change, so that the server knows which sensors have the new root already.
    pub generation: u32,
    /// The roots' certificates.
    pub roots: Vec<CertificateDer<'static>>,
}

impl TrustBundle {
    /// Reads a bundle: PEM certificates, with an optional line `generation: <n>` before them.
    pub fn from_pem(text: &str) -> Result<TrustBundle, TrustError> {
        let bad = |problem: String| TrustError::Bundle(problem);
        let generation = match text.lines().find_map(|line| line.strip_prefix(GENERATION)) {
            Some(number) => {
                number.trim().parse().map_err(|_| bad(format!("generation '{number}' is not a number")))?
            }
            None => 0,
        };
        let roots: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .take(TRUST_ROOTS_MAX + 1)
            .collect::<Result<_, _>>()
            .map_err(|error| bad(error.to_string()))?;
        match roots.len() {
            0 => Err(bad("no certificate in it".to_owned())),
            count if count > TRUST_ROOTS_MAX => Err(bad(format!("more than {TRUST_ROOTS_MAX} certificates"))),
            _ => Ok(TrustBundle { generation, roots }),
        }
    }

    /// Reads a bundle from a file.
    pub fn read(path: &Path) -> Result<TrustBundle, TrustError> {
        TrustBundle::from_pem(&files::read_existing(path)?)
    }

    pub(super) fn root_store(&self) -> Result<Arc<rustls::RootCertStore>, TrustError> {
        let mut store = rustls::RootCertStore::empty();
        for root in &self.roots {
            store.add(root.clone()).map_err(|error| TrustError::Bundle(error.to_string()))?;
        }
        Ok(Arc::new(store))
    }
}

/// A peer's own chain and key, and the roots it trusts, as PEM.
#[derive(Clone)]
pub struct ClientIdentity {
    /// Its certificate, then the intermediate's.
    pub cert_chain_pem: String,
    /// Its private key (PKCS#8).
    pub key_pem: String,
    /// The roots it trusts.
    pub trust_bundle_pem: String,
}

impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").field("leaf", &self.leaf().ok()).finish_non_exhaustive()
    }
}

impl ClientIdentity {
    pub(super) const CHAIN: &str = "certificate.pem";
    pub(super) const KEY: &str = "key.pem";
    pub(super) const TRUST: &str = "trust.pem";

    /// Writes `certificate.pem`, `key.pem` and `trust.pem` into a folder, each 0600.
    pub fn write(&self, folder: &Path) -> Result<(), FileError> {
        files::make_folder(folder)?;
        files::write_private(&folder.join(Self::KEY), &self.key_pem)?;
        files::write_private(&folder.join(Self::TRUST), &self.trust_bundle_pem)?;
        files::write_private(&folder.join(Self::CHAIN), &self.cert_chain_pem)
    }

    /// Reads what [`ClientIdentity::write`] wrote.
    pub fn read(folder: &Path) -> Result<ClientIdentity, TrustError> {
        let mut identity = ClientIdentity {
            cert_chain_pem: files::read_existing(&folder.join(Self::CHAIN))?,
            key_pem: files::read_private(&folder.join(Self::KEY))?,
            trust_bundle_pem: files::read_existing(&folder.join(Self::TRUST))?,
        };
        identity.leaf()?;
        super::folder::finish_if_cut_short(folder, &mut identity)?;
        Ok(identity)
    }

    /// What its certificate says.
    pub fn leaf(&self) -> Result<Leaf, TrustError> {
        let chain = self.chain()?;
        let leaf = chain.first().ok_or_else(|| TrustError::Chain("no certificate in it".to_owned()))?;
        Ok(parse_leaf(leaf)?)
    }

    /// Its key.
    pub fn client_key(&self) -> Result<ClientKey, TrustError> {
        ClientKey::from_pem(&self.key_pem)
    }

    /// True when its key is the certificate's.
    pub fn key_fits(&self) -> bool {
        let fits = || {
            let key = ClientKey::from_pem(&self.key_pem).ok()?;
            let chain = self.chain().ok()?;
            let (_, certificate) = X509Certificate::from_der(chain.first()?).ok()?;
            Some(*certificate.public_key().subject_public_key.data == *key.point())
        };
        fits().unwrap_or(false)
    }

    /// The roots it trusts.
    pub fn trust(&self) -> Result<TrustBundle, TrustError> {
        TrustBundle::from_pem(&self.trust_bundle_pem)
    }

    /// Its chain, the own certificate first.
    pub fn chain_der(&self) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        self.chain()
    }

    fn chain(&self) -> Result<Vec<CertificateDer<'static>>, TrustError> {
        CertificateDer::pem_slice_iter(self.cert_chain_pem.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| TrustError::Chain(error.to_string()))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TrustError> {
        PrivateKeyDer::from_pem_slice(self.key_pem.as_bytes())
            .map_err(|error| TrustError::Key(error.to_string()))
    }
}

/// Our clock as the TLS library wants it, so that certificates are judged by the one injected clock.
pub struct ClockTime(pub Arc<dyn Clock>);

impl fmt::Debug for ClockTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClockTime")
    }
}

impl TimeProvider for ClockTime {
    fn current_time(&self) -> Option<UnixTime> {
        let millis = u64::try_from(self.0.unix().0).ok()?;
        Some(UnixTime::since_unix_epoch(std::time::Duration::from_millis(millis)))
    }
}

/// The cryptography of both ends: AES-128-GCM first (half a microsecond cheaper than AES-256 per packet pair
/// and strong enough), X25519 first, TLS 1.3 suites only.
pub fn provider() -> Arc<CryptoProvider> {
    static SHARED: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    let make = || CryptoProvider {
        cipher_suites: vec![
            aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256,
            aws_lc_rs::cipher_suite::TLS13_AES_256_GCM_SHA384,
            aws_lc_rs::cipher_suite::TLS13_CHACHA20_POLY1305_SHA256,
        ],
        kx_groups: vec![aws_lc_rs::kx_group::X25519, aws_lc_rs::kx_group::SECP256R1],
        ..aws_lc_rs::default_provider()
    };
    SHARED.get_or_init(|| Arc::new(make())).clone()
}

/// The TLS side of a sensor or gateway. Keep the result across reconnects: it holds the session store, and
/// a session only resumes with the configuration that made it. No early data: a heartbeat that somebody can
/// play again is worth less than the round trip it saves.
pub fn client_tls(
    identity: &ClientIdentity,
    alpn: &[u8],
    clock: Arc<dyn Clock>,
) -> Result<rustls::ClientConfig, TrustError> {
    identity.leaf()?;
    let roots = identity.trust()?.root_store()?;
    let mut config = rustls::ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain()?, identity.key()?)
        .map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => {
                TrustError::Key("it is not the certificate's key".to_owned())
            }
            rustls::Error::General(problem) => TrustError::Key(problem),
            other => TrustError::Tls(other),
        })?;
    config.alpn_protocols = vec![alpn.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::in_memory_sessions(8);
    Ok(config)
}

/// The TLS side of who has no certificate yet, or one that ran out: only the server is proven.
pub fn enrol_tls(trust: &TrustBundle, clock: Arc<dyn Clock>) -> Result<rustls::ClientConfig, TrustError> {
    let mut config = rustls::ClientConfig::builder_with_details(provider(), Arc::new(ClockTime(clock)))
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(trust.root_store()?)
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN_ENROL.to_vec()];
    config.enable_early_data = false;
    config.resumption = Resumption::disabled();
    Ok(config)
}
