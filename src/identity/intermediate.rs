//! The intermediate: the certificate that signs everything, with its key, in one file, so that both change in one
//! rename. While a root takes the place of another, the file also has the certificate by which the old root vouches
//! for the new one.

use std::path::Path;

use rcgen::{Issuer, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::authority::{AuthorityError, INTERMEDIATE};
use super::files::{self, FileError};
use super::issuing::{authority_params, fresh_name};
use super::roots::{self, Authorised};
use super::verify::IssuerMark;
use crate::limits::INTERMEDIATE_LIFE;
use crate::time::UnixMillis;

pub(super) struct Intermediate {
    pub issuer: Issuer<'static, KeyPair>,
    pub certificate: Authorised,
    pub pem: String,
    /// The signing root as the root before it signed it, in an installation that changed its root.
    pub cross_pem: Option<String>,
}

impl Intermediate {
    /// Reads what is in the folder.
    pub(super) fn read(folder: &Path) -> Result<Intermediate, FileError> {
        let path = folder.join(INTERMEDIATE);
        let text = files::read_private(&path)?;
        let bad = |problem: String| FileError::content(&path, problem);
        let (certificates, key) = roots::certificates(&text);
        let [pem, rest @ ..] = certificates.as_slice() else {
            return Err(bad("a certificate and a key should be in it".to_owned()));
        };
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| bad(error.to_string()))?;
        let key = KeyPair::from_pem(key).map_err(|error| bad(error.to_string()))?;
        let issuer = Issuer::from_ca_cert_der(&der, key).map_err(|error| bad(error.to_string()))?;
        Ok(Intermediate {
            issuer,
            certificate: Authorised::read(&path, &der)?,
            pem: (*pem).to_owned(),
            cross_pem: rest.first().map(|&pem| pem.to_owned()),
        })
    }

    /// What it signs is known by this.
    pub(super) fn mark(&self) -> IssuerMark {
        IssuerMark::of_name(&self.certificate.subject)
    }

    /// A new one, signed by the root, in place of the one there, in one rename.
    pub(super) fn replace(
        folder: &Path,
        root: &Authorised,
        cross_pem: Option<&str>,
        before: Option<&Intermediate>,
        now: UnixMillis,
    ) -> Result<(), AuthorityError> {
        let by = roots::signer(folder, root)?;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let end = now.plus(INTERMEDIATE_LIFE).min(root.not_after);
        // Live state has room for a short mark only, which must tell this one from the one before.
        let pem = loop {
            let name = fresh_name("Fleetpulse intermediate")?;
            let made = authority_params(&name, 0, now, end)?.signed_by(&key, &by)?;
            let path = folder.join(INTERMEDIATE);
            let mark = IssuerMark::of_name(&Authorised::read(&path, made.der())?.subject);
            if before.is_none_or(|before| before.mark().short() != mark.short()) {
                break made.pem();
            }
        };
        let text = format!("{pem}{}{}", cross_pem.unwrap_or_default(), key.serialize_pem());
        Ok(files::write_private(&folder.join(INTERMEDIATE), &text)?)
    }
}
