//! The register at work: a command becomes a durable batch, then memory, then what the engine knows.
//!
//! The order is the promise. A batch is on disk before anything in memory changes and before the caller
//! hears "done"; live state and connections follow. Commands are taken one after the other under one
//! lock: they are rare, and the disk is slower than any of this.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use crate::fleet::{Actor, Batch, Change, Command, Refusal, Register, Sensor};
use crate::health::Lookup;
use crate::identity::PeerIdentity;
use crate::live::{Lifecycle, LiveState, PolicyIndex, SiteIndex, SlabFull, SlotFacts};
use crate::store::{Position, Store, StoreError};
use crate::time::UnixMillis;
use crate::wire::close::CloseCode;
use crate::wire::id::{SensorId, SiteId};

/// Why a command was not done. Nothing changed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// The register refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable.
    #[error("the change could not be stored and was not made: {0}")]
    Store(#[from] StoreError),
    /// Live state has no room for more sensors.
    #[error(transparent)]
    Full(#[from] SlabFull),
}

/// Closes the connections of a peer whose standing changed.
pub type Closer = Box<dyn Fn(PeerIdentity, CloseCode) + Send + Sync>;

/// Sites as the engine numbers them: dense, never reused while the process lives.
#[derive(Debug, Default)]
pub struct SiteNumbers {
    index_of: HashMap<SiteId, SiteIndex, ahash::RandomState>,
    ids: Vec<SiteId>,
}

impl SiteNumbers {
    fn number(&mut self, id: SiteId) -> SiteIndex {
        *self.index_of.entry(id).or_insert_with(|| {
            self.ids.push(id);
            SiteIndex(u32::try_from(self.ids.len() - 1).expect("limits::SITES_MAX is far below"))
        })
    }

    /// The number of a site.
    pub fn get(&self, id: SiteId) -> Option<SiteIndex> {
        self.index_of.get(&id).copied()
    }

    /// All sites in the order of their numbers.
    pub fn ids(&self) -> &[SiteId] {
        &self.ids
    }
}

/// What every sensor should have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Desired {
    /// Settings generation; `None` = nothing is asked for.
    pub settings_generation: Option<u64>,
    /// Day of the newest threat-intelligence package; `None` = unknown.
    pub threat_intel: Option<String>,
}

/// The register, its log, and its image in live state.
pub struct FleetService {
    register: RwLock<Register>,
    sites: RwLock<SiteNumbers>,
    /// The lock under which commands are taken one after the other; holds the log's end.
    position: Mutex<Position>,
    store: Arc<Store>,
    live: Arc<LiveState>,
    closer: OnceLock<Closer>,
    desired: Desired,
}

impl Lookup for FleetService {
    fn site(&self, site: SiteIndex) -> Option<SiteId> {
        let numbers = self.sites.read().unwrap_or_else(PoisonError::into_inner);
        numbers.ids().get(site.0 as usize).copied()
    }

    fn desired_settings(&self, _: SensorId) -> Option<u64> {
        self.desired.settings_generation
    }

    fn newest_threat_intel(&self) -> Option<&str> {
        self.desired.threat_intel.as_deref()
    }
}

impl FleetService {
    /// Takes over a register as the store had it at `position`, and shows it to live state.
    pub fn new(
        register: Register,
        position: Position,
        store: Arc<Store>,
        live: Arc<LiveState>,
        desired: Desired,
    ) -> Result<FleetService, SlabFull> {
        let service = FleetService {
            register: RwLock::new(register),
            sites: RwLock::default(),
            position: Mutex::new(position),
            store,
            live,
            closer: OnceLock::new(),
            desired,
        };
        let register = service.register();
        for sensor in register.sensors() {
            service.show_sensor(&register, None, Some(sensor))?;
        }
        for gateway in register.gateways() {
            service.live.insert_gateway(gateway.id, &service.numbers(&gateway.sites));
        }
        drop(register);
        Ok(service)
    }

    /// From now on connections of deleted or changed peers are closed through `closer`.
    pub fn close_through(&self, closer: Closer) {
        // Set once by the server's start; a second call would be a mistake of ours that changes nothing.
        let _ = self.closer.set(closer);
    }

    /// The register, for reading.
    pub fn register(&self) -> RwLockReadGuard<'_, Register> {
        self.register.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Site ids in the order of the engine's numbers.
    pub fn site_ids(&self) -> Vec<SiteId> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).ids().to_vec()
    }

    /// The engine's number of a site.
    pub fn site_index(&self, id: SiteId) -> Option<SiteIndex> {
        self.sites.read().unwrap_or_else(PoisonError::into_inner).get(id)
    }

    /// Does all of `commands` or none. When this returns the change is durable.
    pub fn apply(&self, commands: &[Command], actor: Actor, at: UnixMillis) -> Result<Batch, CommandError> {
        let mut position = self.lock();
        let batch = self.register().apply(commands, actor, at)?;
        if batch.is_empty() {
            return Ok(batch);
        }
        self.room_for(&batch)?;
        *position = self.store.register.append(*position, &batch)?;
        self.register
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .fold(&batch)
            .expect("a batch that the register made folds into it");
        let register = self.register();
        for change in &batch.changes {
            // Room was checked above, under the same lock.
            self.show(&register, change).expect("room for every new sensor");
        }
        Ok(batch)
    }

    /// Writes a snapshot when enough was appended to make the next start slow.
    pub fn snapshot_if_due(&self) -> Result<(), StoreError> {
        if !self.store.register.snapshot_is_due() {
            return Ok(());
        }
        // Commands wait while the snapshot is written; readers do not.
        let position = self.lock();
        self.store.register.write_snapshot(&self.register(), *position).map(drop)
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.position.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room_for(&self, batch: &Batch) -> Result<(), SlabFull> {
        let new = batch
            .changes
            .iter()
            .filter(|change| matches!(change, Change::Sensor(edit) if edit.before.is_none()))
            .count();
        self.live.room_for(new)
    }

    fn show(&self, register: &Register, change: &Change) -> Result<(), SlabFull> {
        match change {
            Change::Sensor(edit) => self.show_sensor(register, edit.before.as_ref(), edit.after.as_ref()),
            Change::Gateway(edit) => {
                match (&edit.before, &edit.after) {
                    (_, Some(after)) => {
                        self.live.insert_gateway(after.id, &self.numbers(&after.sites));
                    }
                    (Some(before), None) => {
                        self.live.remove_gateway(before.id);
                        self.close(PeerIdentity::Gateway(before.id), CloseCode::UnknownIdentity);
                    }
                    (None, None) => {}
                }
                Ok(())
            }
            Change::Subscription(_) | Change::Site(_) | Change::Zone(_) => Ok(()),
        }
    }

    fn show_sensor(
        &self,
        register: &Register,
        before: Option<&Sensor>,
        after: Option<&Sensor>,
    ) -> Result<(), SlabFull> {
        let kept = after.filter(|sensor| sensor.lifecycle != Lifecycle::Deleted);
        let Some(sensor) = kept else {
            if let Some(gone) = before.or(after) {
                self.live.remove(gone.id);
                self.close(PeerIdentity::Sensor(gone.id), CloseCode::UnknownIdentity);
            }
            return Ok(());
        };
        let site = register.site_of(sensor).map(|site| site.id).unwrap_or_default();
        let facts = SlotFacts {
            kind: sensor.kind,
            lifecycle: sensor.lifecycle,
            site: self.sites.write().unwrap_or_else(PoisonError::into_inner).number(site),
            policy: PolicyIndex(0),
            muted: false,
        };
        self.live.insert(sensor.id, facts)?;
        if sensor.lifecycle == Lifecycle::PendingReactivation {
            self.close(PeerIdentity::Sensor(sensor.id), CloseCode::NotActive);
        }
        Ok(())
    }

    fn numbers(&self, sites: &[SiteId]) -> Vec<SiteIndex> {
        let mut numbers = self.sites.write().unwrap_or_else(PoisonError::into_inner);
        sites.iter().map(|&site| numbers.number(site)).collect()
    }

    fn close(&self, peer: PeerIdentity, code: CloseCode) {
        if let Some(closer) = self.closer.get() {
            closer(peer, code);
        }
    }
}
