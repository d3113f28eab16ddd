//! The folder in which a sensor or gateway keeps its identity, and how a new certificate gets there whole.
//!
//! A new certificate comes for a new key, so two files have to change together. The key is written beside its place
//! before it is asked for a certificate (`key.next.pem`). The moment that counts is the rename of `certificate.pem`;
//! only then the new key takes the place of the old one. Whoever finds that the key is not the certificate's finds the
//! right one beside it, and finishes the step ([`ClientIdentity::read`]). So a crash at any moment leaves a
//! certificate with its key.

use std::path::{Path, PathBuf};

use super::client_key::ClientKey;
use super::files;
use super::trust::{ClientIdentity, TrustBundle, TrustError};

/// The key of a request that is not answered yet.
const NEXT_KEY: &str = "key.next.pem";

/// An identity folder.
#[derive(Clone, Debug)]
pub struct IdentityFolder(PathBuf);

impl IdentityFolder {
    /// At this place. Nothing is made yet.
    pub fn new(path: impl Into<PathBuf>) -> IdentityFolder {
        IdentityFolder(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The key of the next request. `again`: the one that was made before, if there is one, so that a request whose
    /// answer was lost is the same request.
    #[cfg(any(feature = "server", feature = "sensor"))]
    pub fn next_key(&self, again: bool) -> Result<ClientKey, TrustError> {
        let path = self.0.join(NEXT_KEY);
        files::make_folder(&self.0)?;
        if again && path.exists() {
            return ClientKey::from_pem(&files::read_private(&path)?);
        }
        let key = ClientKey::make()?;
        files::write_private(&path, key.pem())?;
        Ok(key)
    }

    /// Keeps the answer: the chain for the next key, and the trust bundle if there is one. What does not fit together
    /// is refused, and nothing changed.
    pub fn take(&self, chain_pem: &str, trust_pem: Option<&str>) -> Result<ClientIdentity, TrustError> {
        let next = self.0.join(NEXT_KEY);
        let key = ClientKey::from_pem(&files::read_private(&next)?)?;
        let here = files::read(&self.0.join(ClientIdentity::TRUST))?;
        let trust_bundle_pem = match (trust_pem, here) {
            // A server that was restored from a backup may give an older one; a root that is known is not forgotten.
            (Some(new), Some(here)) if generation(new)? < generation(&here).unwrap_or(0) => here,
            (Some(new), _) => new.to_owned(),
            (None, Some(here)) => here,
            (None, None) => files::read_existing(&self.0.join(ClientIdentity::TRUST))?,
        };
        let identity = ClientIdentity {
            cert_chain_pem: chain_pem.to_owned(),
            key_pem: key.pem().to_owned(),
            trust_bundle_pem,
        };
        identity.leaf()?;
        identity.trust()?;
        if !identity.key_fits() {
            return Err(TrustError::Key(
                "the new certificate is not for the key that was asked for".to_owned(),
            ));
        }
        files::write_private(&self.0.join(ClientIdentity::TRUST), &identity.trust_bundle_pem)?;
        files::write_private(&self.0.join(ClientIdentity::CHAIN), &identity.cert_chain_pem)?;
        finish(&self.0)?;
        Ok(identity)
    }

    /// Keeps a trust bundle that is newer than the one here.
    pub fn take_trust(&self, trust_pem: &str) -> Result<ClientIdentity, TrustError> {
        let mut identity = ClientIdentity::read(&self.0)?;
        let (new, old) = (TrustBundle::from_pem(trust_pem)?, identity.trust()?);
        if new.generation < old.generation {
            let (new, old) = (new.generation, old.generation);
            return Err(TrustError::Bundle(format!(
                "its generation {new} is older than {old}, which is here"
            )));
        }
        files::write_private(&self.0.join(ClientIdentity::TRUST), trust_pem)?;
        identity.trust_bundle_pem = trust_pem.to_owned();
        Ok(identity)
    }
}

fn generation(trust_pem: &str) -> Result<u32, TrustError> {
    Ok(TrustBundle::from_pem(trust_pem)?.generation)
}

/// The new key takes its place.
fn finish(folder: &Path) -> Result<(), TrustError> {
    Ok(files::rename(&folder.join(NEXT_KEY), &folder.join(ClientIdentity::KEY))?)
}

/// The key that a step which was cut short left beside its place, if it is this certificate's.
pub(super) fn finish_if_cut_short(folder: &Path, identity: &mut ClientIdentity) -> Result<(), TrustError> {
    let path = folder.join(NEXT_KEY);
    if identity.key_fits() || !path.exists() {
        return Ok(());
    }
    let other = ClientIdentity { key_pem: files::read_private(&path)?, ..identity.clone() };
    if other.key_fits() {
        finish(folder)?;
        *identity = other;
    }
    Ok(())
}
