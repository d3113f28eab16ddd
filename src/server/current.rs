//! The authority as all parts of the server use it: read again at a reload, and swapped for all of them at once.
//!
//! Whoever needs it takes it anew for each piece of work and keeps it no longer, so that a certificate, its chain and
//! the bundle beside it are always of one moment.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};

use crate::identity::{Authority, AuthorityError, RotationStage};
use crate::ingest::Wanted;
use crate::time::UnixMillis;

/// The authority in use.
#[derive(Debug)]
pub struct CurrentAuthority {
    data: PathBuf,
    current: RwLock<Arc<Authority>>,
}

impl CurrentAuthority {
    /// Begins with this one, of this data directory.
    pub fn new(data: PathBuf, authority: Authority) -> CurrentAuthority {
        CurrentAuthority { data, current: RwLock::new(Arc::new(authority)) }
    }

    /// As it is now.
    pub fn get(&self) -> Arc<Authority> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// As it is in its files now.
    pub fn read(&self, now: UnixMillis) -> Result<Arc<Authority>, AuthorityError> {
        Ok(Arc::new(Authority::open_or_create(&self.data, now)?))
    }

    /// Uses this one from now on. The ports must know its roots already: what it signs has to be understood there.
    pub fn replace(&self, read: Arc<Authority>) {
        let before = std::mem::replace(
            &mut *self.current.write().unwrap_or_else(PoisonError::into_inner),
            Arc::clone(&read),
        );
        if (before.trust(), before.mark()) != (read.trust(), read.mark()) {
            let (roots, stage) = (read.trust().roots.len(), read.stage().as_str());
            tracing::info!(generation = read.trust().generation, roots, stage, "another authority is in use");
        }
    }
}

/// What peers should hold under this authority.
pub(super) fn wanted(authority: &Authority) -> Wanted {
    Wanted {
        trust_generation: authority.trust().generation,
        issuer: authority.replaces_others().then(|| authority.mark()),
    }
}

/// Whether somebody has to know who holds what.
pub(super) fn is_rotating(authority: &Authority) -> bool {
    authority.stage() != RotationStage::Settled
}
