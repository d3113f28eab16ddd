//! What the HTTP side asks of the server.

use std::sync::RwLockReadGuard;

use crate::export::{Readiness, Source};
use crate::fleet::Register;
use crate::health::{ActiveMessage, RuleId, RuleReport, Subject, SupportState};
use crate::live::{LiveState, SiteIndex, Snapshot};
use crate::store::Store;
use crate::time::Now;
use crate::wire::id::{SensorId, SiteId};

/// The server, as the HTTP side sees it. Its methods may wait for locks and for the disk, so they are called on
/// worker threads only; none holds up the sweep for longer than one page takes to copy.
///
/// Order of locks: whoever asks the engine ([`Backend::active`], [`Backend::active_places`], [`Backend::why`])
/// must not hold the register, because a sweep asks the register.
pub trait Backend: Source {
    /// Whether requests and sensors may be sent here.
    fn readiness(&self) -> Readiness;

    /// Live state.
    fn live(&self) -> &LiveState;

    /// The store.
    fn store(&self) -> &Store;

    /// The register, locked for reading. Commands wait meanwhile, so not for long.
    fn register(&self) -> RwLockReadGuard<'_, Register>;

    /// The number of a site; one that never had a sensor or gateway has none.
    fn site_index(&self, id: SiteId) -> Option<SiteIndex>;

    /// Those of these messages that are active.
    fn active(&self, keys: &[(Subject, RuleId)]) -> Vec<ActiveMessage>;

    /// Active messages of gateways and sites that are wanted, in order, from the one after `after`.
    fn active_places(
        &self,
        after: Option<(Subject, RuleId)>,
        most: usize,
        wanted: &dyn Fn(Subject, RuleId) -> bool,
    ) -> Vec<ActiveMessage>;

    /// Why a sensor is as it is: every rule that applies to it.
    fn why(&self, sensor: SensorId, now: Now) -> Option<Vec<RuleReport>>;

    /// Support of a sensor's software version.
    fn support(&self, sensor: &Snapshot, now: Now) -> SupportState;
}
