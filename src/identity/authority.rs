//! The certificate authority of one installation: a root for 20 years, an intermediate that signs, and the
//! server's own certificate.
//!
//! Made on first start in a folder beside its place and renamed into it, so there is a whole authority or
//! none. Only the intermediate signs; the root key is needed again every few years, so it can be kept
//! elsewhere: take `root.key` away and put it back when a start asks for it.
//!
//! What is read here stays as it is until it is opened again: `rotation` changes the files, also beside a server,
//! which takes them over at its next reload.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, FileError};
use super::intermediate::Intermediate;
use super::issuing::leaf_params;
use super::roots::{self, Authorised};
use super::signed::sha256;
use super::signing::SigningSlot;
use super::trust::{ClientIdentity, TrustBundle, TrustError};
use super::verify::{IssuerMark, Leaf, LeafError, PeerIdentity, parse_leaf};
use crate::limits::{CSR_BYTES_MAX, INTERMEDIATE_LIFE, PEER_CERTIFICATE_LIFE_MAX, SERVER_CERTIFICATE_LIFE};
use crate::time::UnixMillis;

pub(super) const FOLDER: &str = "identity";
/// Bytes of a public key on P-256 as an uncompressed point: a byte that says so, and two coordinates.
const P256_POINT_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;

const ROOT: &str = "root.pem";
pub(super) const ROOT_KEY: &str = "root.key";
pub(super) const INTERMEDIATE: &str = "intermediate.pem";
const SERVER: &str = "server.pem";
pub(super) const TRUST: &str = "trust.pem";

/// The authority could not be made, opened or used.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// The trust bundle in the folder is not one.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The root's key is needed and not here.
    #[error(
        "the root's key must sign a new intermediate, and {} is not here: put it back, try again, and take it away again",
        .0.display()
    )]
    RootKeyAway(PathBuf),
    /// A name that no certificate can carry.
    #[error("'{0}' can't be a name of this server; use host names and IP addresses")]
    Name(String),
    /// The cryptography library refused.
    #[error("a certificate or key could not be made: {0}")]
    Crypto(#[from] rcgen::Error),
}

/// A certificate signing request that was not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// More than [`CSR_BYTES_MAX`].
    #[error("the request of {0} bytes is over the limit of {CSR_BYTES_MAX}")]
    TooLong(usize),
    /// Not PKCS#10, or with extensions that we don't know.
    #[error("not a certificate signing request that can be read: {0}")]
    Unreadable(String),
    /// The signature does not prove that the sender holds the key.
    #[error("the request's signature is not by the key in it")]
    NoPossession,
    /// Another kind of key than ECDSA P-256.
    #[error("the key must be ECDSA on P-256")]
    KeyKind,
    /// A name in the request that is not the identity it is signed for.
    #[error("the request asks for another name than '{wanted}'")]
    ForeignName {
        /// The only name it may carry.
        wanted: String,
    },
    /// A request for an authority's rights.
    #[error("the request asks for the rights of an authority")]
    WantsAuthority,
    /// No time, or more than [`PEER_CERTIFICATE_LIFE_MAX`].
    #[error("a certificate must live between 1 s and {} days", PEER_CERTIFICATE_LIFE_MAX.as_secs() / 86_400)]
    Life,
    /// The cryptography library refused.
    #[error("the certificate could not be signed: {0}")]
    Crypto(String),
}

/// The server's own chain and key, as the TLS library wants them.
#[derive(Debug)]
pub struct ServerCertificate {
    /// The certificate, the intermediate's, and while one root takes the place of another, the old one's for the new.
    pub chain: Vec<CertificateDer<'static>>,
    /// Its private key.
    pub key: PrivateKeyDer<'static>,
    /// Its last instant.
    pub not_after: UnixMillis,
}

/// A signed peer certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// The certificate, then the intermediate's, as PEM.
    pub chain_pem: String,
    /// What it says.
    pub leaf: Leaf,
    /// SHA-256 of its public key (SubjectPublicKeyInfo).
    pub key: [u8; 32],
}

/// Where an installation is on its way from one root to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RotationStage {
    /// One root, which signs.
    Settled,
    /// A second root is in the bundle; the first one still signs.
    Introduced,
    /// The second root signs; the first one is still trusted.
    Switched,
}

impl RotationStage {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            RotationStage::Settled => "settled",
            RotationStage::Introduced => "introduced",
            RotationStage::Switched => "switched",
        }
    }
}

/// The certificate authority of one installation.
pub struct Authority {
    folder: PathBuf,
    intermediate: Intermediate,
    roots: Roots,
    trust: TrustBundle,
    trust_pem: String,
    pub(super) signing: SigningSlot,
}

/// The roots of a bundle, and which of them signed the intermediate.
pub(super) struct Roots {
    pub all: Vec<Authorised>,
    pub signing: usize,
    pub stage: RotationStage,
}

impl Roots {
    /// Of the bundle in the folder.
    pub(super) fn read(
        folder: &Path,
        trust: &TrustBundle,
        intermediate: &Intermediate,
    ) -> Result<Roots, FileError> {
        let path = folder.join(TRUST);
        let all: Vec<_> =
            trust.roots.iter().map(|root| Authorised::read(&path, root)).collect::<Result<_, _>>()?;
        let signing = all.iter().position(|root| root.subject == intermediate.certificate.issuer);
        let signing = signing
            .ok_or_else(|| FileError::content(&path, "the root that signed the intermediate is not in it"))?;
        let stage = match all.len() {
            1 => RotationStage::Settled,
            count if signing + 1 == count => RotationStage::Switched,
            _ => RotationStage::Introduced,
        };
        Ok(Roots { all, signing, stage })
    }

    pub(super) fn signing(&self) -> Option<&Authorised> {
        self.all.get(self.signing)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// Opens the authority in `data/identity`, or makes it there.
    pub fn open_or_create(data: &Path, now: UnixMillis) -> Result<Authority, AuthorityError> {
        let folder = data.join(FOLDER);
        if !folder.exists() {
            files::make_folder(data)?;
            create(data, &folder, now)?;
        }
        let mut authority = Authority::open(&folder)?;
        let ends = authority.intermediate.certificate.not_after;
        if ends < now.plus(INTERMEDIATE_LIFE / 4) {
            let _one_program = lock(&folder)?;
            match renew_intermediate(&folder, now) {
                Ok(()) => authority = Authority::open(&folder)?,
                Err(AuthorityError::RootKeyAway(key)) if now < ends => {
                    tracing::warn!(
                        key = %key.display(),
                        days = ends.0.saturating_sub(now.0) / 86_400_000,
                        "the intermediate certificate runs out; put the root's key back and start once"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        Ok(authority)
    }

    /// As it is in its folder.
    pub(super) fn open(folder: &Path) -> Result<Authority, AuthorityError> {
        let intermediate = Intermediate::read(folder)?;
        let trust_pem = files::read_existing(&folder.join(TRUST))?;
        let trust = TrustBundle::from_pem(&trust_pem)?;
        let roots = Roots::read(folder, &trust, &intermediate)?;
        let signing = SigningSlot::default();
        Ok(Authority { folder: folder.to_owned(), intermediate, roots, trust, trust_pem, signing })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The intermediate's certificate and, while a root takes the place of another, the old root's word for the new:
    /// what those need after our own certificates who may know the old root only.
    pub(super) fn issuers_pem(&self) -> String {
        let cross = self.intermediate.cross_pem.as_deref();
        let cross = cross.filter(|_| self.roots.stage == RotationStage::Switched).unwrap_or_default();
        format!("{}{cross}", self.intermediate.pem)
    }

    pub(super) fn intermediate(&self) -> &Intermediate {
        &self.intermediate
    }

    pub(super) fn roots(&self) -> &Roots {
        &self.roots
    }

    /// Where it is on its way to another root.
    pub fn stage(&self) -> RotationStage {
        self.roots.stage
    }

    /// Who signs now: by this its certificates are known.
    pub fn mark(&self) -> IssuerMark {
        self.intermediate.mark()
    }

    /// Whether certificates that another intermediate signed have to be replaced soon: since a root took the place of
    /// another, until the intermediate is the next one.
    pub fn replaces_others(&self) -> bool {
        self.intermediate.cross_pem.is_some()
    }

    /// Lets `make` sign with the intermediate, whose last instant it is told.
    pub(super) fn with_issuer<T>(
        &self,
        make: impl FnOnce(&Issuer<'static, KeyPair>, UnixMillis) -> Result<T, rcgen::Error>,
    ) -> Result<T, AuthorityError> {
        Ok(make(&self.intermediate.issuer, self.intermediate.certificate.not_after)?)
    }

    /// The roots that sensors of this installation trust, and that the server trusts for sensors.
    pub fn trust(&self) -> &TrustBundle {
        &self.trust
    }

    /// The same as PEM, as sensors get it.
    pub fn trust_pem(&self) -> &str {
        &self.trust_pem
    }

    /// Signs a request (PEM or DER) for one sensor or gateway. Every peer certificate comes through here.
    ///
    /// The signature in the request must prove possession of the key. Nothing is copied from the request but
    /// the public key: it may carry no name, or the very one it is signed for (the URI as alternative name, the id
    /// as common name). The certificate ends with the
    /// intermediate at the latest.
    pub fn sign_csr(
        &self,
        csr: &[u8],
        identity: PeerIdentity,
        life: Duration,
        now: UnixMillis,
    ) -> Result<Signed, CsrError> {
        if csr.len() > CSR_BYTES_MAX {
            return Err(CsrError::TooLong(csr.len()));
        }
        if life < Duration::from_secs(1) || life > PEER_CERTIFICATE_LIFE_MAX {
            return Err(CsrError::Life);
        }
        let der = if csr.starts_with(b"-----") {
            CertificateSigningRequestDer::from_pem_slice(csr)
                .map_err(|error| CsrError::Unreadable(error.to_string()))?
        } else {
            CertificateSigningRequestDer::from(csr)
        };
        let mut request = CertificateSigningRequestParams::from_der(&der).map_err(|error| match error {
            rcgen::Error::InvalidCertificationRequestSignature => CsrError::NoPossession,
            rcgen::Error::UnsupportedSignatureAlgorithm => CsrError::KeyKind,
            other => CsrError::Unreadable(other.to_string()),
        })?;
        // The algorithm is that of the signature, which a key on another curve makes too: the point tells which it is.
        let point = request.public_key.der_bytes();
        if PublicKeyData::algorithm(&request.public_key) != &PKCS_ECDSA_P256_SHA256
            || (point.len(), point.first()) != (P256_POINT_BYTES, Some(&UNCOMPRESSED))
        {
            return Err(CsrError::KeyKind);
        }
        if matches!(request.params.is_ca, IsCa::Ca(_)) {
            return Err(CsrError::WantsAuthority);
        }
        let uri = identity.to_string();
        let foreign = |name: &SanType| !matches!(name, SanType::URI(text) if text.as_str() == uri);
        let name = match identity {
            PeerIdentity::Sensor(id) => id.to_string(),
            PeerIdentity::Gateway(id) => id.to_string(),
        };
        let own = |(kind, value): (&DnType, &DnValue)| {
            *kind == DnType::CommonName
                && match value {
                    DnValue::Utf8String(text) => *text == name,
                    DnValue::PrintableString(text) => text.as_str() == name,
                    _ => false,
                }
        };
        if !request.params.distinguished_name.iter().all(own)
            || request.params.subject_alt_names.iter().any(foreign)
        {
            return Err(CsrError::ForeignName { wanted: uri });
        }
        let crypto = |error: rcgen::Error| CsrError::Crypto(error.to_string());
        let end = now.plus(life).min(self.intermediate.certificate.not_after);
        let mut params = leaf_params(&name, now, end).map_err(crypto)?;
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(crypto)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let certificate = request.signed_by(&self.intermediate.issuer).map_err(crypto)?;
        let leaf =
            parse_leaf(certificate.der()).map_err(|error: LeafError| CsrError::Crypto(error.to_string()))?;
        let key = X509Certificate::from_der(certificate.der())
            .map(|(_, read)| sha256(read.public_key().raw))
            .map_err(|error| CsrError::Crypto(error.to_string()))?;
        Ok(Signed { chain_pem: format!("{}{}", certificate.pem(), self.intermediate.pem), leaf, key })
    }

    /// A fresh key with a certificate through [`Authority::sign_csr`]: for demonstrations, load and tests.
    /// Real sensors make their own key and send a request.
    pub fn issue(
        &self,
        identity: PeerIdentity,
        life: Duration,
        now: UnixMillis,
    ) -> Result<ClientIdentity, CsrError> {
        let crypto = |error: rcgen::Error| CsrError::Crypto(error.to_string());
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(crypto)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&key).map_err(crypto)?;
        let signed = self.sign_csr(csr.der(), identity, life, now)?;
        Ok(ClientIdentity {
            cert_chain_pem: signed.chain_pem,
            key_pem: key.serialize_pem(),
            trust_bundle_pem: self.trust_pem.clone(),
        })
    }

    /// The server's certificate for these names (host names and IP addresses), from its file; made anew when
    /// the names changed, a third of its life is left, or another intermediate signs now or another root is left.
    pub fn server_certificate(
        &self,
        names: &[String],
        now: UnixMillis,
    ) -> Result<ServerCertificate, AuthorityError> {
        let path = self.folder.join(SERVER);
        let wanted = server_names(names)?;
        if let Some(text) = files::read(&path)? {
            let current = self.parse_server(&path, &text, &wanted);
            match current {
                // Near the intermediate's own end no other one would live longer.
                Ok(Some(certificate))
                    if certificate.not_after
                        >= now
                            .plus(SERVER_CERTIFICATE_LIFE / 3)
                            .min(to_the_second(self.intermediate.certificate.not_after)) =>
                {
                    return Ok(certificate);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the server's certificate is made anew"),
            }
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let end = now.plus(SERVER_CERTIFICATE_LIFE).min(self.intermediate.certificate.not_after);
        let mut params = leaf_params("fleetpulse server", now, end)?;
        params.subject_alt_names = wanted;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.intermediate.issuer)?;
        let text = format!("{}{}{}", certificate.pem(), self.issuers_pem(), key.serialize_pem());
        files::write_private(&path, &text)?;
        let wanted = server_names(names)?;
        let made = self.parse_server(&path, &text, &wanted)?;
        made.ok_or_else(|| FileError::content(&path, "it is not what was just written").into())
    }

    /// `None` when the certificate is for other names, or its chain is not the one of today.
    fn parse_server(
        &self,
        path: &Path,
        text: &str,
        wanted: &[SanType],
    ) -> Result<Option<ServerCertificate>, AuthorityError> {
        let bad = |problem: &str| FileError::content(path, problem);
        let chain: Vec<_> = CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| bad("its certificates can't be read"))?;
        let key = PrivateKeyDer::from_pem_slice(text.as_bytes()).map_err(|_| bad("its key can't be read"))?;
        let first = chain.first().ok_or_else(|| bad("no certificate in it"))?;
        let (_, certificate) =
            X509Certificate::from_der(first).map_err(|_| bad("its certificate can't be read"))?;
        let names = certificate.subject_alternative_name().map_err(|_| bad("its names can't be read"))?;
        let names = names.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let same = names.len() == wanted.len()
            && wanted.iter().zip(names).all(|(wanted, name)| same_name(wanted, name));
        let not_after = UnixMillis(certificate.validity().not_after.timestamp().saturating_mul(1_000));
        let issuers = self.issuers_pem();
        let issuers = CertificateDer::pem_slice_iter(issuers.as_bytes()).filter_map(Result::ok);
        let same_issuers = chain.iter().skip(1).cloned().eq(issuers);
        Ok((same && same_issuers).then_some(ServerCertificate { chain, key, not_after }))
    }
}

/// As far as a certificate's date tells.
fn to_the_second(at: UnixMillis) -> UnixMillis {
    UnixMillis(at.0.div_euclid(1_000) * 1_000)
}

fn same_name(wanted: &SanType, name: &x509_parser::extensions::GeneralName<'_>) -> bool {
    use x509_parser::extensions::GeneralName;
    match (wanted, name) {
        (SanType::DnsName(wanted), GeneralName::DNSName(name)) => wanted.as_str() == *name,
        (SanType::IpAddress(IpAddr::V4(wanted)), GeneralName::IPAddress(name)) => wanted.octets() == **name,
        (SanType::IpAddress(IpAddr::V6(wanted)), GeneralName::IPAddress(name)) => wanted.octets() == **name,
        _ => false,
    }
}

fn server_names(names: &[String]) -> Result<Vec<SanType>, AuthorityError> {
    let name = |name: &String| match name.parse::<IpAddr>() {
        Ok(address) => Ok(SanType::IpAddress(address)),
        Err(_) if rustls::pki_types::DnsName::try_from(name.as_str()).is_ok() => {
            name.as_str().try_into().map(SanType::DnsName).map_err(|_| AuthorityError::Name(name.clone()))
        }
        Err(_) => Err(AuthorityError::Name(name.clone())),
    };
    if names.is_empty() { Err(AuthorityError::Name(String::new())) } else { names.iter().map(name).collect() }
}

fn create(data: &Path, folder: &Path, now: UnixMillis) -> Result<(), AuthorityError> {
    // Only an interrupted first start leaves this folder; nothing in it was ever used.
    let beside = data.join("identity.new");
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(|error| FileError::io(&beside, "removed", error))?;
    }
    files::make_folder(&beside)?;
    let (key, root) = roots::make(now)?;
    files::write_private(&beside.join(ROOT), &root)?;
    files::write_private(&beside.join(ROOT_KEY), &key)?;
    files::write_private(&beside.join(TRUST), &bundle(1, &[&root]))?;
    let trust = TrustBundle::from_pem(&bundle(1, &[&root]))?;
    let der = trust.roots.first().ok_or_else(|| TrustError::Bundle("no certificate in it".to_owned()))?;
    Intermediate::replace(&beside, &Authorised::read(&beside.join(ROOT), der)?, None, None, now)?;
    fs::rename(&beside, folder).map_err(|error| FileError::io(folder, "created", error))?;
    files::sync_parent(folder)?;
    tracing::info!(folder = %folder.display(), "made a certificate authority");
    Ok(())
}

/// The text of a trust bundle with these roots.
pub(super) fn bundle(generation: u32, roots: &[&str]) -> String {
    format!("generation: {generation}\n{}", roots.concat())
}

/// Keeps other programs from changing the authority in this folder.
pub(super) fn lock(folder: &Path) -> Result<fs::File, FileError> {
    files::lock(&folder.join("authority"))
}

/// A new intermediate, signed by the root that signed the one there. The caller has the lock.
pub(super) fn renew_intermediate(folder: &Path, now: UnixMillis) -> Result<(), AuthorityError> {
    let there = Authority::open(folder)?;
    let root = there.roots.signing().ok_or_else(|| TrustError::Bundle("no certificate in it".to_owned()))?;
    // Of use only as long as somebody may know only the root before.
    let cross = there.intermediate.cross_pem.as_deref();
    let cross = cross.filter(|_| there.roots.stage == RotationStage::Switched);
    Intermediate::replace(folder, root, cross, Some(&there.intermediate), now)
}
