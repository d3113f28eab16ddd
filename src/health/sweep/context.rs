//! What a sweep is given from outside beside live state and policies: the time, releases, and the register's
//! answers.

use crate::health::version::VersionTable;
use crate::live::SiteIndex;
use crate::time::Now;
use crate::wire::id::{SensorId, SiteId};

/// What the register knows and the sweep must ask for.
pub trait Lookup {
    /// The id of a site.
    fn site(&self, site: SiteIndex) -> Option<SiteId>;
    /// The settings generation that a sensor should run with; `None` = nothing is desired.
    fn desired_settings(&self, sensor: SensorId) -> Option<u64>;
    /// The newest threat-intelligence version, a day such as `2026-11-24`.
    fn newest_threat_intel(&self) -> Option<&str>;
}

/// A register that knows nothing: no site messages, no desired state.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoLookup;

impl Lookup for NoLookup {
    fn site(&self, _: SiteIndex) -> Option<SiteId> {
        None
    }

    fn desired_settings(&self, _: SensorId) -> Option<u64> {
        None
    }

    fn newest_threat_intel(&self) -> Option<&str> {
        None
    }
}

/// What a sweep is given beside live state and policies.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// Now.
    pub now: Now,
    /// Releases and the end of their support.
    pub versions: &'a VersionTable,
    /// The register's answers.
    pub lookup: &'a dyn Lookup,
    /// Moves whenever policies, versions or desired state changed: everything is judged anew.
    pub revision: u64,
}
