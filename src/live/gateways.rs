//! The table of gateways: few, found by id at accept, then by index. Whether a gateway may speak for a site
//! is asked for every frame, so that answer is lock-free: a chain of small arrays of atomics that only grows.
//!
//! An index is never given to another gateway while the process lives; a gateway that comes back gets its old
//! one. Taking and releasing lock the gateway's own mutex: once a connection.

use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use dashmap::DashMap;

use super::types::{GatewayIndex, GatewaySnapshot, GatewaysFull, OwnerRef, SiteIndex, Taken};
use crate::limits::GATEWAYS_MAX;
use crate::time::MonoNanos;
use crate::wire::id::GatewayId;

/// Sites in one link of the chain.
const LINK_SITES: usize = 14;

/// A few sites and a way to more.
#[derive(Debug, Default)]
struct Link {
    /// Site index + 1; zero = free.
    sites: [AtomicU64; LINK_SITES],
    next: OnceLock<Box<Link>>,
}

impl Link {
    fn covers(&self, site: u64) -> bool {
        let mut link = self;
        loop {
            if link.sites.iter().any(|place| place.load(Ordering::Relaxed) == site) {
                return true;
            }
            match link.next.get() {
                Some(next) => link = next,
                None => return false,
            }
        }
    }

    /// Makes the chain hold exactly `sites`. A site that stays is covered at every moment.
    fn set(&self, sites: &[SiteIndex]) {
        let mut missing: Vec<u64> = sites.iter().map(|site| u64::from(site.0) + 1).collect();
        missing.sort_unstable();
        missing.dedup();
        let mut link = Some(self);
        while let Some(here) = link {
            for place in &here.sites {
                match missing.binary_search(&place.load(Ordering::Relaxed)) {
                    Ok(found) => {
                        missing.remove(found);
                    }
                    Err(_) => place.store(0, Ordering::Relaxed),
                }
            }
            link = here.next.get().map(Box::as_ref);
        }
        let mut link = self;
        while !missing.is_empty() {
            for place in &link.sites {
                if place.load(Ordering::Relaxed) == 0
                    && let Some(site) = missing.pop()
                {
                    place.store(site, Ordering::Relaxed);
                }
            }
            if !missing.is_empty() {
                link = link.next.get_or_init(Box::default);
            }
        }
    }

    fn list(&self) -> Vec<SiteIndex> {
        let mut sites = Vec::new();
        let mut link = Some(self);
        while let Some(here) = link {
            let filled =
                here.sites.iter().map(|place| place.load(Ordering::Relaxed)).filter(|&site| site != 0);
            sites.extend(filled.map(|site| SiteIndex((site - 1) as u32)));
            link = here.next.get().map(Box::as_ref);
        }
        sites.sort_unstable();
        sites
    }
}

#[derive(Debug)]
struct Gateway {
    id: GatewayId,
    registered: AtomicBool,
    sites: Link,
    version: AtomicU64,
    epoch: AtomicU64,
    owner: AtomicU64,
    last_seen: AtomicU64,
    connected_since: AtomicU64,
    reconnects: AtomicU32,
    replaced: AtomicU32,
    sensors: AtomicU32,
    trust_generation: AtomicU32,
    cert_issuer: AtomicU16,
    change: Mutex<()>,
}

/// All gateways.
#[derive(Debug)]
pub(super) struct Gateways {
    table: Box<[OnceLock<Box<Gateway>>]>,
    directory: DashMap<GatewayId, GatewayIndex, ahash::RandomState>,
    used: Mutex<u32>,
    refused: AtomicU64,
}

impl Gateways {
    pub(super) fn new() -> Gateways {
        Gateways {
            table: (0..GATEWAYS_MAX).map(|_| OnceLock::new()).collect(),
            directory: DashMap::default(),
            used: Mutex::new(0),
            refused: AtomicU64::new(0),
        }
    }

    /// Says whether all of these find an index, or have one; counts those that were refused.
    pub(super) fn room_for(&self, ids: &[GatewayId]) -> Result<(), GatewaysFull> {
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let new = ids.iter().filter(|id| !self.directory.contains_key(id)).count();
        if *used as usize + new <= self.table.len() { Ok(()) } else { Err(self.full(new)) }
    }

    pub(super) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    fn full(&self, refused: usize) -> GatewaysFull {
        self.refused.fetch_add(refused as u64, Ordering::Relaxed);
        GatewaysFull { gateways_max: self.table.len() }
    }

    fn get(&self, index: GatewayIndex) -> Option<&Gateway> {
        self.table.get(index.0 as usize)?.get().map(Box::as_ref)
    }

    /// Registers a gateway, or sets the sites of a registered one.
    pub(super) fn insert(&self, id: GatewayId, sites: &[SiteIndex]) -> Result<GatewayIndex, GatewaysFull> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.directory.get(&id).map(|entry| *entry);
        let index = match known {
            Some(index) => index,
            None => {
                let index = GatewayIndex(*used);
                let place = self.table.get(index.0 as usize).ok_or_else(|| self.full(1))?;
                place.get_or_init(|| {
                    Box::new(Gateway {
                        id,
                        registered: AtomicBool::new(true),
                        sites: Link::default(),
                        version: AtomicU64::new(0),
                        epoch: AtomicU64::new(0),
                        owner: AtomicU64::new(0),
                        last_seen: AtomicU64::new(0),
                        connected_since: AtomicU64::new(0),
                        reconnects: AtomicU32::new(0),
                        replaced: AtomicU32::new(0),
                        sensors: AtomicU32::new(0),
                        trust_generation: AtomicU32::new(0),
                        cert_issuer: AtomicU16::new(0),
                        change: Mutex::new(()),
                    })
                });
                *used += 1;
                self.directory.insert(id, index);
                index
            }
        };
        if let Some(gateway) = self.get(index) {
            if !gateway.registered.load(Ordering::Acquire) {
                // Registered again: what its predecessor of the same name did is not its past.
                gateway.last_seen.store(0, Ordering::Relaxed);
                gateway.connected_since.store(0, Ordering::Relaxed);
                gateway.reconnects.store(0, Ordering::Relaxed);
                gateway.replaced.store(0, Ordering::Relaxed);
                gateway.trust_generation.store(0, Ordering::Relaxed);
                gateway.cert_issuer.store(0, Ordering::Relaxed);
            }
            gateway.sites.set(sites);
            gateway.registered.store(true, Ordering::Release);
            gateway.version.fetch_add(1, Ordering::Release);
        }
        Ok(index)
    }

    /// Sets the sites of a registered gateway.
    pub(super) fn set_sites(&self, index: GatewayIndex, sites: &[SiteIndex]) -> bool {
        let _one_at_a_time = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(gateway) = self.get(index).filter(|gateway| gateway.registered.load(Ordering::Acquire))
        else {
            return false;
        };
        gateway.sites.set(sites);
        gateway.version.fetch_add(1, Ordering::Release);
        true
    }

    /// Unregisters; gives the connection to close.
    pub(super) fn remove(&self, id: GatewayId) -> Option<(GatewayIndex, Option<OwnerRef>)> {
        let _one_at_a_time = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let index = self.find(id)?;
        let gateway = self.get(index)?;
        gateway.registered.store(false, Ordering::Release);
        gateway.sites.set(&[]);
        gateway.version.fetch_add(1, Ordering::Release);
        let _change = gateway.change.lock().unwrap_or_else(PoisonError::into_inner);
        Some((index, OwnerRef::from_word(gateway.owner.swap(0, Ordering::AcqRel))))
    }

    pub(super) fn find(&self, id: GatewayId) -> Option<GatewayIndex> {
        let index = self.directory.get(&id).map(|entry| *entry)?;
        self.get(index)?.registered.load(Ordering::Acquire).then_some(index)
    }

    pub(super) fn covers(&self, index: GatewayIndex, site: SiteIndex) -> bool {
        self.get(index).is_some_and(|gateway| gateway.sites.covers(u64::from(site.0) + 1))
    }

    pub(super) fn version(&self, index: GatewayIndex) -> u64 {
        self.get(index).map_or(0, |gateway| gateway.version.load(Ordering::Acquire))
    }

    pub(super) fn take(&self, index: GatewayIndex, owner: OwnerRef, now: MonoNanos) -> Option<Taken> {
        let gateway = self.get(index)?;
        let _change = gateway.change.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked under the lock: who takes it before a removal is given back by that, who comes after is refused.
        if !gateway.registered.load(Ordering::Acquire) {
            return None;
        }
        let epoch = gateway.epoch.load(Ordering::Relaxed) + 1;
        gateway.epoch.store(epoch, Ordering::Relaxed);
        let replaced = OwnerRef::from_word(gateway.owner.swap(owner.to_word(), Ordering::AcqRel));
        if gateway.connected_since.load(Ordering::Relaxed) != 0 {
            gateway.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        if replaced.is_some() {
            gateway.replaced.fetch_add(1, Ordering::Relaxed);
        }
        gateway.connected_since.store(now.0, Ordering::Relaxed);
        gateway.last_seen.fetch_max(now.0, Ordering::Relaxed);
        Some(Taken { epoch, replaced })
    }

    pub(super) fn release(&self, index: GatewayIndex, epoch: u64, now: MonoNanos) -> bool {
        let Some(gateway) = self.get(index) else { return false };
        let _change = gateway.change.lock().unwrap_or_else(PoisonError::into_inner);
        if gateway.epoch.load(Ordering::Relaxed) != epoch || gateway.owner.load(Ordering::Relaxed) == 0 {
            return false;
        }
        gateway.owner.store(0, Ordering::Release);
        gateway.connected_since.store(now.0, Ordering::Relaxed);
        true
    }

    pub(super) fn seen(&self, index: GatewayIndex, epoch: u64, now: MonoNanos) -> bool {
        let Some(gateway) = self.get(index) else { return false };
        let owns =
            gateway.epoch.load(Ordering::Relaxed) == epoch && gateway.owner.load(Ordering::Relaxed) != 0;
        if owns {
            gateway.last_seen.fetch_max(now.0, Ordering::Relaxed);
        }
        owns
    }

    pub(super) fn holds(&self, index: GatewayIndex, epoch: u64, trust_generation: u32, issuer: u16) {
        let Some(gateway) = self.get(index) else { return };
        let _change = gateway.change.lock().unwrap_or_else(PoisonError::into_inner);
        if gateway.epoch.load(Ordering::Relaxed) == epoch && gateway.owner.load(Ordering::Relaxed) != 0 {
            gateway.trust_generation.store(trust_generation, Ordering::Relaxed);
            gateway.cert_issuer.store(issuer, Ordering::Relaxed);
        }
    }

    /// A slot's newest heartbeat now comes by `to`, no longer by `from`.
    pub(super) fn sensor_moved(&self, from: Option<GatewayIndex>, to: Option<GatewayIndex>) {
        if let Some(gateway) = from.and_then(|from| self.get(from)) {
            gateway.sensors.fetch_sub(1, Ordering::Relaxed);
        }
        if let Some(gateway) = to.and_then(|to| self.get(to)) {
            gateway.sensors.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn snapshot(&self, index: GatewayIndex) -> Option<GatewaySnapshot> {
        let gateway = self.get(index).filter(|gateway| gateway.registered.load(Ordering::Acquire))?;
        let owner = OwnerRef::from_word(gateway.owner.load(Ordering::Acquire));
        Some(GatewaySnapshot {
            id: gateway.id,
            index,
            connected: owner.is_some(),
            owner,
            last_seen: MonoNanos(gateway.last_seen.load(Ordering::Relaxed)),
            connected_since: MonoNanos(gateway.connected_since.load(Ordering::Relaxed)),
            reconnects: gateway.reconnects.load(Ordering::Relaxed),
            replaced: gateway.replaced.load(Ordering::Relaxed),
            sensors: gateway.sensors.load(Ordering::Relaxed),
            sites: gateway.sites.list(),
            trust_generation: gateway.trust_generation.load(Ordering::Relaxed),
            cert_issuer: gateway.cert_issuer.load(Ordering::Relaxed),
        })
    }

    /// Indices given so far.
    pub(super) fn len(&self) -> u32 {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
