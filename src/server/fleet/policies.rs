//! Policies at work: what is said of subscriptions, sites, zones and sensors, resolved into the numbers that the sweep
//! judges by.
//!
//! Equal results share one index. A zone has an index, and so has each sensor that says something itself; all others
//! have that of their zone. So most fleets have a handful, and a fleet in which nobody says anything has one.
//!
//! An index whose last user went is *retired*: it is taken out of the table, and used again when the sweep has seen a
//! table without it. A sweep meets a sensor with an index that its own table has not, or has with the right numbers,
//! and never with those of somebody else.
//!
//! Cost: 24 bytes a zone or sensor that says something; a change at a level resolves the zones below it, and shows
//! again the sensors of those whose result is another: about a microsecond each.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use ahash::{AHashMap, AHashSet};

use super::overlay::Overlay;
use crate::fleet::{Batch, Change, Overrides, Place, Register, Sensor, Site, Subscription, Zone};
use crate::health::{Layer, Policy, PolicyTable, lay};
use crate::limits::POLICIES_MAX;
use crate::live::{Lifecycle, LiveState, PolicyIndex};
use crate::wire::id::{SensorId, SiteId, ZoneId};

/// More different policies than there are indices.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "more than {POLICIES_MAX} different policies would be in use; say the same numbers in more places, or say them \
     for a site or zone in place of its sensors"
)]
pub struct PoliciesFull;

/// The table as the sweep takes it.
#[derive(Debug)]
pub struct Published {
    table: RwLock<(u64, Arc<PolicyTable>)>,
    seen: AtomicU64,
}

impl Published {
    pub(super) fn new(default: Policy) -> Published {
        Published { table: RwLock::new((0, Arc::new(PolicyTable::new(default)))), seen: AtomicU64::new(0) }
    }

    /// The newest table, for a sweep that forgets all earlier ones.
    pub fn take(&self) -> Arc<PolicyTable> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        self.seen.store(table.0, Ordering::Release);
        Arc::clone(&table.1)
    }

    /// The newest table, for a look.
    pub fn look(&self) -> Arc<PolicyTable> {
        Arc::clone(&self.table.read().unwrap_or_else(PoisonError::into_inner).1)
    }

    fn publish(&self, table: &PolicyTable) -> u64 {
        let table = Arc::new(table.clone());
        let mut slot = self.table.write().unwrap_or_else(PoisonError::into_inner);
        *slot = (slot.0 + 1, table);
        slot.0
    }
}

/// Whose policy is which.
#[derive(Debug)]
pub(super) struct Policies {
    table: PolicyTable,
    index_of: AHashMap<Arc<Policy>, PolicyIndex>,
    /// How many zones and sensors have each index; index 0 has everybody else.
    users: Vec<u32>,
    /// Zones whose index is not 0.
    zones: AHashMap<ZoneId, PolicyIndex>,
    /// Sensors that say something themselves.
    sensors: AHashMap<SensorId, PolicyIndex>,
    /// Without a user since the last change: in the table still.
    unused: Vec<PolicyIndex>,
    /// Out of the table since that revision.
    retired: VecDeque<(u64, PolicyIndex)>,
    /// How many there may be; less in tests.
    pub(super) most: usize,
}

impl Policies {
    pub(super) fn new(default: Policy) -> Policies {
        let table = PolicyTable::new(default.clone());
        Policies {
            table,
            index_of: AHashMap::from_iter([(Arc::new(default), PolicyIndex(0))]),
            users: vec![1],
            zones: AHashMap::new(),
            sensors: AHashMap::new(),
            unused: Vec::new(),
            retired: VecDeque::new(),
            most: POLICIES_MAX,
        }
    }

    /// The index of a sensor.
    pub(super) fn of(&self, sensor: &Sensor) -> PolicyIndex {
        let own = self.sensors.get(&sensor.id);
        own.or_else(|| self.zones.get(&sensor.zone)).copied().unwrap_or_default()
    }

    /// Whether there is an index for each different policy after this batch.
    pub(super) fn room_for(
        &self,
        register: &Register,
        batch: &Batch,
        published: &Published,
    ) -> Result<(), PoliciesFull> {
        if !batch.changes.iter().any(concerns) {
            return Ok(());
        }
        let seen = published.seen.load(Ordering::Acquire);
        let free = self.retired.iter().take_while(|(since, _)| *since <= seen).count();
        let room = self.most - self.users.len() + free;
        let overlay = Overlay::after(register, batch);
        let zones = touched_zones(&overlay, batch);
        let mut fresh = AHashSet::new();
        let mut need = |policy: Policy| {
            if !self.index_of.contains_key(&policy) {
                fresh.insert(policy);
            }
            if fresh.len() > room { Err(PoliciesFull) } else { Ok(()) }
        };
        for &id in &zones {
            if let Some(zone) = overlay.zone(id) {
                need(self.resolve(&overlay, zone, None))?;
            }
        }
        for sensor in touched_sensors(&overlay, &zones, batch) {
            if let Some(zone) = overlay.zone(sensor.zone) {
                need(self.resolve(&overlay, zone, Some(&sensor.more.policy)))?;
            }
        }
        Ok(())
    }

    /// Takes a batch in, of which `register` knows already. Gives the sites of which all sensors must be shown again.
    pub(super) fn take_in(
        &mut self,
        register: &Register,
        batch: &Batch,
        desk: &Desk<'_>,
    ) -> BTreeSet<SiteId> {
        if !batch.changes.iter().any(concerns) {
            return BTreeSet::new();
        }
        let overlay = Overlay::of(register);
        let zones = touched_zones(&overlay, batch);
        let mut sites = BTreeSet::new();
        let mut others = AHashSet::new();
        for &id in &zones {
            let zone = overlay.zone(id);
            let policy = zone.map(|zone| self.resolve(&overlay, zone, None));
            let before = self.zones.get(&id).copied().unwrap_or_default();
            let now = policy.map_or(PolicyIndex(0), |policy| self.intern(policy, desk));
            self.release(before);
            if now != PolicyIndex(0) {
                self.zones.insert(id, now);
            } else {
                self.zones.remove(&id);
            }
            if let Some(zone) = zone.filter(|_| now != before) {
                sites.insert(zone.site);
                others.insert(id);
            }
        }
        for change in &batch.changes {
            if let Change::Sensor(edit) = change
                && let Some(after) = &edit.after
            {
                let alive = after.lifecycle != Lifecycle::Deleted;
                if !alive || after.more.policy.is_empty() {
                    let before = self.sensors.remove(&after.id);
                    before.into_iter().for_each(|index| self.release(index));
                }
            }
        }
        for sensor in touched_sensors(&overlay, &others, batch) {
            self.take_in_sensor(&overlay, sensor, desk);
        }
        self.publish(desk);
        sites
    }

    /// Takes in the whole register, at the start.
    pub(super) fn take_in_all(&mut self, register: &Register, desk: &Desk<'_>) -> Result<(), PoliciesFull> {
        let overlay = Overlay::of(register);
        for zone in register.zones() {
            let policy = self.resolve(&overlay, zone, None);
            let index = self.try_intern(policy, desk)?;
            if index != PolicyIndex(0) {
                self.zones.insert(zone.id, index);
            }
        }
        for sensor in register.sensors().filter(|sensor| !sensor.more.policy.is_empty()) {
            if let Some(zone) = overlay.zone(sensor.zone) {
                let policy = self.resolve(&overlay, zone, Some(&sensor.more.policy));
                let index = self.try_intern(policy, desk)?;
                self.sensors.insert(sensor.id, index);
            }
        }
        self.publish(desk);
        Ok(())
    }

    fn take_in_sensor(&mut self, overlay: &Overlay<'_>, sensor: &Sensor, desk: &Desk<'_>) {
        let Some(zone) = overlay.zone(sensor.zone) else { return };
        let policy = self.resolve(overlay, zone, Some(&sensor.more.policy));
        let now = self.intern(policy, desk);
        if let Some(before) = self.sensors.insert(sensor.id, now) {
            self.release(before);
        }
    }

    fn resolve(&self, overlay: &Overlay<'_>, zone: &Zone, own: Option<&Overrides>) -> Policy {
        let default = self.table.default_policy();
        Levels::of_zone(overlay, zone, own).map_or_else(|| default.clone(), |levels| levels.resolve(default))
    }

    fn intern(&mut self, policy: Policy, desk: &Desk<'_>) -> PolicyIndex {
        self.try_intern(policy, desk).expect("room was checked under the same lock")
    }

    fn try_intern(&mut self, policy: Policy, desk: &Desk<'_>) -> Result<PolicyIndex, PoliciesFull> {
        if let Some(&index) = self.index_of.get(&policy) {
            self.users[usize::from(index.0)] += 1;
            return Ok(index);
        }
        let seen = desk.published.seen.load(Ordering::Acquire);
        let index = match self.retired.front() {
            Some(&(since, index)) if since <= seen => {
                self.retired.pop_front();
                index
            }
            _ => {
                let index = u16::try_from(self.users.len()).map_err(|_| PoliciesFull)?;
                debug_assert!(self.users.len() < self.most);
                self.users.push(0);
                PolicyIndex(index)
            }
        };
        let millis = u32::try_from(policy.interval().as_millis()).unwrap_or(u32::MAX);
        desk.live.set_wanted_interval(index, millis);
        let policy = Arc::new(policy);
        self.users[usize::from(index.0)] = 1;
        self.table.put(index, Some(Arc::clone(&policy)));
        self.index_of.insert(policy, index);
        Ok(index)
    }

    fn release(&mut self, index: PolicyIndex) {
        let users = &mut self.users[usize::from(index.0)];
        *users = users.saturating_sub(1);
        if *users == 0 && index != PolicyIndex(0) {
            self.unused.push(index);
        }
    }

    /// What is new is in the table before any sensor gets it.
    fn publish(&self, desk: &Desk<'_>) {
        desk.published.publish(&self.table);
    }

    /// Takes indices without a user out of the table, after their sensors got others.
    pub(super) fn retire(&mut self, desk: &Desk<'_>) {
        let mut gone = Vec::new();
        for index in std::mem::take(&mut self.unused) {
            // It may have found a new user since, or be listed twice.
            if self.users[usize::from(index.0)] == 0 && self.table.knows(index) {
                self.index_of.remove(self.table.get(index));
                self.table.put(index, None);
                gone.push(index);
            }
        }
        if !gone.is_empty() {
            let revision = desk.published.publish(&self.table);
            self.retired.extend(gone.into_iter().map(|index| (revision, index)));
        }
    }

    /// Different policies in use, the default included.
    pub(super) fn count(&self) -> usize {
        self.index_of.len()
    }
}

/// What policies are shown to.
pub(super) struct Desk<'a> {
    pub published: &'a Published,
    pub live: &'a LiveState,
}

/// What the levels of a place say, weakest first.
pub(super) struct Levels<'a> {
    said: [Option<(Layer, &'a Overrides)>; 4],
}

impl<'a> Levels<'a> {
    /// Those of a place; `None` when there is no such place.
    pub(super) fn at(overlay: &Overlay<'a>, place: Place) -> Option<Levels<'a>> {
        Some(match place {
            Place::Subscription(id) => Levels::of(overlay.subscription(id)?, None, None, None),
            Place::Site(id) => {
                let site = overlay.site(id)?;
                Levels::of(overlay.subscription(site.subscription)?, Some(site), None, None)
            }
            Place::Zone(id) => Levels::of_zone(overlay, overlay.zone(id)?, None)?,
            Place::Sensor(id) => {
                let sensor = overlay.sensor(id)?;
                Levels::of_zone(overlay, overlay.zone(sensor.zone)?, Some(&sensor.more.policy))?
            }
        })
    }

    /// Those of a zone, or of a sensor in it that says something itself.
    fn of_zone(overlay: &Overlay<'a>, zone: &'a Zone, own: Option<&'a Overrides>) -> Option<Levels<'a>> {
        let site = overlay.site(zone.site)?;
        Some(Levels::of(overlay.subscription(site.subscription)?, Some(site), Some(zone), own))
    }

    fn of(
        subscription: &'a Subscription,
        site: Option<&'a Site>,
        zone: Option<&'a Zone>,
        own: Option<&'a Overrides>,
    ) -> Levels<'a> {
        Levels {
            said: [
                Some((Layer::Subscription, &subscription.policy)),
                site.map(|it| (Layer::Site, &it.about.policy)),
                zone.map(|it| (Layer::Zone, &it.policy)),
                own.map(|own| (Layer::Sensor, own)),
            ],
        }
    }

    pub(super) fn said(&self) -> impl DoubleEndedIterator<Item = (Layer, &'a Overrides)> {
        self.said.iter().flatten().copied()
    }

    fn resolve(&self, default: &Policy) -> Policy {
        if self.said().all(|(_, said)| said.is_empty()) {
            return default.clone();
        }
        let patches: Vec<_> = self.said().map(|(layer, said)| (layer, &said.numbers)).collect();
        let (policy, _) = lay(default, &patches);
        match self.said().rev().find_map(|(_, said)| said.interval) {
            Some(interval) => policy.with_interval(interval),
            None => policy,
        }
    }
}

/// Whether a change may have to do with somebody's policy.
fn concerns(change: &Change) -> bool {
    match change {
        Change::Subscription(edit) => {
            edit.before.as_ref().map(|it| &it.policy) != edit.after.as_ref().map(|it| &it.policy)
        }
        Change::Site(edit) => {
            edit.before.as_ref().map(|it| &it.about.policy) != edit.after.as_ref().map(|it| &it.about.policy)
        }
        Change::Zone(edit) => {
            edit.before.as_ref().map(|it| &it.policy) != edit.after.as_ref().map(|it| &it.policy)
        }
        Change::Sensor(edit) => {
            [&edit.before, &edit.after].into_iter().flatten().any(|sensor| !sensor.more.policy.is_empty())
        }
        Change::Gateway(_) | Change::User(_) | Change::Token(_) | Change::Event(_) => false,
    }
}

/// Zones whose result may be another after this batch, those that are gone included.
fn touched_zones(overlay: &Overlay<'_>, batch: &Batch) -> AHashSet<ZoneId> {
    let mut zones = AHashSet::new();
    for change in batch.changes.iter().filter(|change| concerns(change)) {
        match change {
            Change::Subscription(edit) => {
                let id = edit.after.as_ref().map(|after| after.id);
                let sites = id.into_iter().flat_map(|id| overlay.sites_of(id));
                zones.extend(sites.flat_map(|site| overlay.zones_of(site)));
            }
            Change::Site(edit) => {
                let id = edit.after.as_ref().map(|after| after.id);
                zones.extend(id.into_iter().flat_map(|id| overlay.zones_of(id)));
            }
            Change::Zone(edit) => {
                zones.extend(edit.before.as_ref().or(edit.after.as_ref()).map(|zone| zone.id));
            }
            _ => {}
        }
    }
    zones
}

/// Sensors that say something themselves and stand in one of these zones or are in the batch.
fn touched_sensors<'a>(
    overlay: &'a Overlay<'a>,
    zones: &AHashSet<ZoneId>,
    batch: &'a Batch,
) -> Vec<&'a Sensor> {
    let mut ids = AHashSet::new();
    let mut sensors = Vec::new();
    let of_batch = batch.changes.iter().filter_map(|change| match change {
        Change::Sensor(edit) => edit.after.as_ref().and_then(|after| overlay.sensor(after.id)),
        _ => None,
    });
    let sites: AHashSet<SiteId> = zones.iter().filter_map(|&id| overlay.zone(id)).map(|z| z.site).collect();
    let of_zones = sites.into_iter().flat_map(|site| overlay.untouched_sensors_of(site));
    let of_zones = of_zones.chain(overlay.touched_sensors()).filter(|sensor| zones.contains(&sensor.zone));
    for sensor in of_batch.chain(of_zones) {
        if !sensor.more.policy.is_empty() && ids.insert(sensor.id) {
            sensors.push(sensor);
        }
    }
    sensors
}
