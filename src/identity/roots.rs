//! Roots: read from the trust bundle, made, found again with their keys, and one signed by the other.
//!
//! A root is known by its certificate in the bundle. Its key is whichever `root*.key` in the folder fits it, so a key
//! that was taken away can come back under any such name.

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::AuthorityError;
use super::files::{self, FileError};
use super::issuing::{authority_params, fresh_name};
use crate::limits::{CERTIFICATE_BACKDATE, ROOT_LIFE};
use crate::time::UnixMillis;

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

/// What we need to know of an authority's certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Authorised {
    pub der: CertificateDer<'static>,
    /// Its name for people.
    pub name: String,
    /// Its name and that of who signed it, as bytes: how chains are built.
    pub subject: Vec<u8>,
    pub issuer: Vec<u8>,
    /// When it was made, and its last instant.
    pub made: UnixMillis,
    pub not_after: UnixMillis,
}

impl Authorised {
    pub(super) fn read(path: &Path, der: &CertificateDer<'static>) -> Result<Authorised, FileError> {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| FileError::content(path, "its certificate can't be read"))?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let millis = |seconds: i64| UnixMillis(seconds.saturating_mul(1_000));
        Ok(Authorised {
            name: name.unwrap_or("without a name").to_owned(),
            subject: certificate.subject().as_raw().to_vec(),
            issuer: certificate.issuer().as_raw().to_vec(),
            made: millis(certificate.validity().not_before.timestamp()).plus(CERTIFICATE_BACKDATE),
            not_after: millis(certificate.validity().not_after.timestamp()),
            der: der.clone(),
        })
    }
}

/// The certificates of a PEM text as PEM, each alone, and what comes after the last one.
pub(super) fn certificates(text: &str) -> (Vec<&str>, &str) {
    let (mut found, mut rest) = (Vec::new(), text);
    while let Some(begin) = rest.find(BEGIN)
        && let Some(length) = rest.get(begin..).and_then(|from| from.find(END))
    {
        let end = begin + length + END.len();
        // With the end of its line, which is part of it.
        let end =
            rest.get(end..).and_then(|after| after.find('\n')).map_or(rest.len(), |line| end + line + 1);
        found.extend(rest.get(begin..end));
        rest = rest.get(end..).unwrap_or_default();
    }
    (found, rest)
}

/// A new root's key and certificate, as PEM. Two authorities may be below it: the intermediate, and a root that
/// follows it and is signed by it while both are in use.
pub(super) fn make(now: UnixMillis) -> Result<(String, String), AuthorityError> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let name = fresh_name("Fleetpulse root")?;
    let root = authority_params(&name, 2, now, now.plus(ROOT_LIFE))?.self_signed(&key)?;
    Ok((key.serialize_pem(), root.pem()))
}

/// The root as who signs, if its key is here.
pub(super) fn signer(folder: &Path, root: &Authorised) -> Result<Issuer<'static, KeyPair>, AuthorityError> {
    let (_, certificate) = X509Certificate::from_der(&root.der).map_err(|_| {
        FileError::content(&folder.join(super::authority::TRUST), "a root in it can't be read")
    })?;
    let point = &certificate.public_key().subject_public_key.data;
    let mut expected = folder.join(super::authority::ROOT_KEY);
    for path in files_of_roots(folder)? {
        if path.extension().is_some_and(|extension| extension == "key") {
            let key = KeyPair::from_pem(&files::read_private(&path)?)
                .map_err(|error| FileError::content(&path, error.to_string()))?;
            if key.public_key_raw() == point.as_ref() {
                return Ok(Issuer::from_ca_cert_der(&root.der, key)?);
            }
        } else if CertificateDer::from_pem_slice(files::read_existing(&path)?.as_bytes())
            .is_ok_and(|der| der == root.der)
        {
            expected = path.with_extension("key");
        }
    }
    Err(AuthorityError::RootKeyAway(expected))
}

/// `root*.pem` and `root*.key`.
fn files_of_roots(folder: &Path) -> Result<Vec<PathBuf>, FileError> {
    let failed = |error| FileError::io(folder, "read", error);
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_root = path.file_stem().and_then(|stem| stem.to_str()).is_some_and(|s| s.starts_with("root"));
        if is_root && path.extension().is_some_and(|extension| extension == "pem" || extension == "key") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

/// The new root once more, signed by the old one: the same name and key, so that who knows only the old root finds
/// the way from what the new one signed.
pub(super) fn cross_sign(
    folder: &Path,
    new: &Authorised,
    old: &Authorised,
) -> Result<String, AuthorityError> {
    let key = signer(folder, new)?;
    let by = signer(folder, old)?;
    let params = authority_params(&new.name, 1, new.made, new.not_after.min(old.not_after))?;
    let certificate = params.signed_by(key.key(), &by)?;
    let path = folder.join(super::authority::INTERMEDIATE);
    let made = Authorised::read(&path, certificate.der())?;
    if made.subject != new.subject || made.issuer != old.subject {
        return Err(FileError::content(&path, "the new root's name can't be signed as it is").into());
    }
    Ok(certificate.pem())
}
