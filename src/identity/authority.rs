//! The certificate authority of one installation: a root for 20 years, an intermediate that signs, and the
//! server's own certificate.
//!
//! Made on first start in a folder beside its place and renamed into it, so there is a whole authority or
//! none. Only the intermediate signs; the root key is needed again every few years, so it can be kept
//! elsewhere: take `root.key` away and put it back when a start asks for it.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::files::{self, FileError};
use super::signed::sha256;
use super::signing::SigningSlot;
use super::trust::{ClientIdentity, TrustBundle, TrustError};
use super::verify::{Leaf, LeafError, PeerIdentity, parse_leaf};
use crate::limits::{
    CERTIFICATE_BACKDATE, CSR_BYTES_MAX, INTERMEDIATE_LIFE, PEER_CERTIFICATE_LIFE_MAX, ROOT_LIFE,
    SERVER_CERTIFICATE_LIFE,
};
use crate::time::UnixMillis;

pub(super) const FOLDER: &str = "identity";
/// Bytes of a public key on P-256 as an uncompressed point: a byte that says so, and two coordinates.
const P256_POINT_BYTES: usize = 65;
const UNCOMPRESSED: u8 = 4;

const ROOT: &str = "root.pem";
const ROOT_KEY: &str = "root.key";
const INTERMEDIATE: &str = "intermediate.pem";
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
    /// The intermediate must be renewed and the root's key is not here.
    #[error(
        "the intermediate certificate has run out and {} is not here: put the root's key back, start once, and take it away again",
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
    /// The certificate, then the intermediate's.
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

/// The certificate authority of one installation.
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    intermediate_pem: String,
    intermediate_not_after: UnixMillis,
    trust: TrustBundle,
    trust_pem: String,
    pub(super) signing: SigningSlot,
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
        let path = folder.join(INTERMEDIATE);
        let mut text = files::read_private(&path)?;
        let mut not_after = not_after(&path, &text)?;
        if not_after < now.plus(INTERMEDIATE_LIFE / 4) {
            match renew_intermediate(&folder, now) {
                Ok(renewed) => {
                    files::write_private(&path, &renewed)?;
                    text = renewed;
                    not_after = self::not_after(&path, &text)?;
                }
                Err(AuthorityError::RootKeyAway(key)) if now < not_after => {
                    tracing::warn!(
                        key = %key.display(),
                        days = not_after.0.saturating_sub(now.0) / 86_400_000,
                        "the intermediate certificate runs out; put the root's key back and start once"
                    );
                }
                Err(error) => return Err(error),
            }
        }
        let (issuer, intermediate_pem) = issuer(&path, &text)?;
        let trust_pem = files::read_existing(&folder.join(TRUST))?;
        let trust = TrustBundle::from_pem(&trust_pem)?;
        Ok(Authority {
            folder,
            issuer,
            intermediate_pem,
            intermediate_not_after: not_after,
            trust,
            trust_pem,
            signing: SigningSlot::default(),
        })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The intermediate's certificate.
    pub(super) fn intermediate_pem(&self) -> String {
        self.intermediate_pem.clone()
    }

    /// Lets `make` sign with the intermediate, whose last instant it is told.
    pub(super) fn with_issuer<T>(
        &self,
        make: impl FnOnce(&Issuer<'static, KeyPair>, UnixMillis) -> Result<T, rcgen::Error>,
    ) -> Result<T, AuthorityError> {
        Ok(make(&self.issuer, self.intermediate_not_after)?)
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
        let end = now.plus(life).min(self.intermediate_not_after);
        let mut params = leaf_params(&name, now, end).map_err(crypto)?;
        params.subject_alt_names = vec![SanType::URI(uri.try_into().map_err(crypto)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        request.params = params;
        let certificate = request.signed_by(&self.issuer).map_err(crypto)?;
        let leaf =
            parse_leaf(certificate.der()).map_err(|error: LeafError| CsrError::Crypto(error.to_string()))?;
        let key = X509Certificate::from_der(certificate.der())
            .map(|(_, read)| sha256(read.public_key().raw))
            .map_err(|error| CsrError::Crypto(error.to_string()))?;
        Ok(Signed { chain_pem: format!("{}{}", certificate.pem(), self.intermediate_pem), leaf, key })
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
    /// the names changed, a third of its life is left, or another intermediate signs now.
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
                            .min(to_the_second(self.intermediate_not_after)) =>
                {
                    return Ok(certificate);
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the server's certificate is made anew"),
            }
        }
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let end = now.plus(SERVER_CERTIFICATE_LIFE).min(self.intermediate_not_after);
        let mut params = leaf_params("fleetpulse server", now, end)?;
        params.subject_alt_names = wanted;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer)?;
        let text = format!("{}{}{}", certificate.pem(), self.intermediate_pem, key.serialize_pem());
        files::write_private(&path, &text)?;
        let wanted = server_names(names)?;
        let made = self.parse_server(&path, &text, &wanted)?;
        made.ok_or_else(|| FileError::content(&path, "it is not what was just written").into())
    }

    /// `None` when the certificate is for other names or by another intermediate.
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
        let same_issuer = text.contains(self.intermediate_pem.trim());
        Ok((same && same_issuer).then_some(ServerCertificate { chain, key, not_after }))
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

/// Common to all certificates: dates, a random serial, a subject.
fn params(name: &str, from: UnixMillis, to: UnixMillis) -> Result<CertificateParams, rcgen::Error> {
    let date = |at: UnixMillis| {
        let seconds = u64::try_from(at.0.div_euclid(1_000)).unwrap_or(0);
        // Beyond the year 9999 a certificate has no date.
        date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds.min(253_402_300_799))
    };
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial).map_err(|_| rcgen::Error::RingUnspecified)?;
    // Positive, and never with a leading zero byte.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    let mut params = CertificateParams::default();
    params.not_before = date(from);
    params.not_after = date(to);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = subject;
    Ok(params)
}

pub(super) fn leaf_params(
    name: &str,
    now: UnixMillis,
    end: UnixMillis,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(name, now.minus(CERTIFICATE_BACKDATE), end)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn authority_params(
    name: &str,
    below: u8,
    now: UnixMillis,
    life: Duration,
) -> Result<CertificateParams, rcgen::Error> {
    // Two installations, or two generations, never share a name: a stranger is an unknown issuer, not a bad signature.
    let mut tag = [0; 4];
    aws_lc_rs::rand::fill(&mut tag).map_err(|_| rcgen::Error::RingUnspecified)?;
    let name = format!("{name} {:08x}", u32::from_be_bytes(tag));
    let mut params = params(&name, now.minus(CERTIFICATE_BACKDATE), now.plus(life))?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn create(data: &Path, folder: &Path, now: UnixMillis) -> Result<(), AuthorityError> {
    // Only an interrupted first start leaves this folder; nothing in it was ever used.
    let beside = data.join("identity.new");
    if beside.exists() {
        fs::remove_dir_all(&beside).map_err(|error| FileError::io(&beside, "removed", error))?;
    }
    files::make_folder(&beside)?;
    let root_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let root = authority_params("Fleetpulse root", 1, now, ROOT_LIFE)?.self_signed(&root_key)?;
    files::write_private(&beside.join(ROOT), &root.pem())?;
    files::write_private(&beside.join(ROOT_KEY), &root_key.serialize_pem())?;
    files::write_private(&beside.join(TRUST), &format!("generation: 1\n{}", root.pem()))?;
    files::write_private(&beside.join(INTERMEDIATE), &renew_intermediate(&beside, now)?)?;
    fs::rename(&beside, folder).map_err(|error| FileError::io(folder, "created", error))?;
    files::sync_parent(folder)?;
    tracing::info!(folder = %folder.display(), "made a certificate authority");
    Ok(())
}

/// A new intermediate's key and certificate in one PEM text, signed by the root.
fn renew_intermediate(folder: &Path, now: UnixMillis) -> Result<String, AuthorityError> {
    let key_path = folder.join(ROOT_KEY);
    if !key_path.exists() {
        return Err(AuthorityError::RootKeyAway(key_path));
    }
    let root_path = folder.join(ROOT);
    let root_key = KeyPair::from_pem(&files::read_private(&key_path)?)
        .map_err(|error| FileError::content(&key_path, error.to_string()))?;
    let root = Issuer::from_ca_cert_pem(&files::read_existing(&root_path)?, root_key)
        .map_err(|error| FileError::content(&root_path, error.to_string()))?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate =
        authority_params("Fleetpulse intermediate", 0, now, INTERMEDIATE_LIFE)?.signed_by(&key, &root)?;
    Ok(format!("{}{}", certificate.pem(), key.serialize_pem()))
}

fn first_certificate(path: &Path, text: &str) -> Result<CertificateDer<'static>, FileError> {
    CertificateDer::from_pem_slice(text.as_bytes())
        .map_err(|error| FileError::content(path, error.to_string()))
}

fn not_after(path: &Path, text: &str) -> Result<UnixMillis, FileError> {
    let der = first_certificate(path, text)?;
    let (_, certificate) = X509Certificate::from_der(&der)
        .map_err(|_| FileError::content(path, "its certificate can't be read"))?;
    Ok(UnixMillis(certificate.validity().not_after.timestamp().saturating_mul(1_000)))
}

/// The signing half of `intermediate.pem`, and its certificate alone as PEM.
fn issuer(path: &Path, text: &str) -> Result<(Issuer<'static, KeyPair>, String), FileError> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let bad = |error: rcgen::Error| FileError::content(path, error.to_string());
    let split = text.find(END).map(|at| at + END.len());
    let (certificate, key) = split
        .and_then(|at| Some((text.get(..at)?, text.get(at..)?)))
        .ok_or_else(|| FileError::content(path, "a certificate and a key should be in it"))?;
    let key = KeyPair::from_pem(key).map_err(bad)?;
    let issuer = Issuer::from_ca_cert_der(&first_certificate(path, certificate)?, key).map_err(bad)?;
    Ok((issuer, certificate.to_owned()))
}
