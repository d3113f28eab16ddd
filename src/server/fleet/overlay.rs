//! The register as it will be after a batch that it does not know yet, for what must be checked before anything is
//! written.

use ahash::AHashMap;

use crate::fleet::{Batch, Change, Register, Sensor, Site, Subscription, Zone};
use crate::live::Lifecycle;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

/// A register, with the documents of a batch before its own.
pub(super) struct Overlay<'a> {
    register: &'a Register,
    subscriptions: AHashMap<SubscriptionId, Option<&'a Subscription>>,
    sites: AHashMap<SiteId, Option<&'a Site>>,
    zones: AHashMap<ZoneId, Option<&'a Zone>>,
    sensors: AHashMap<SensorId, Option<&'a Sensor>>,
}

impl<'a> Overlay<'a> {
    /// The register as it is.
    pub(super) fn of(register: &'a Register) -> Overlay<'a> {
        Overlay {
            register,
            subscriptions: AHashMap::new(),
            sites: AHashMap::new(),
            zones: AHashMap::new(),
            sensors: AHashMap::new(),
        }
    }

    /// The register as it will be after `batch`.
    pub(super) fn after(register: &'a Register, batch: &'a Batch) -> Overlay<'a> {
        let mut overlay = Overlay::of(register);
        for change in &batch.changes {
            // Later changes of a document follow earlier ones.
            match change {
                Change::Subscription(edit) => {
                    let id = edit.after.as_ref().or(edit.before.as_ref()).map(|it| it.id);
                    overlay.subscriptions.extend(id.map(|id| (id, edit.after.as_ref())));
                }
                Change::Site(edit) => {
                    let id = edit.after.as_ref().or(edit.before.as_ref()).map(|it| it.id);
                    overlay.sites.extend(id.map(|id| (id, edit.after.as_ref())));
                }
                Change::Zone(edit) => {
                    let id = edit.after.as_ref().or(edit.before.as_ref()).map(|it| it.id);
                    overlay.zones.extend(id.map(|id| (id, edit.after.as_ref())));
                }
                Change::Sensor(edit) => {
                    let id = edit.after.as_ref().or(edit.before.as_ref()).map(|it| it.id);
                    let alive = edit.after.as_ref().filter(|it| it.lifecycle != Lifecycle::Deleted);
                    overlay.sensors.extend(id.map(|id| (id, alive)));
                }
                Change::Gateway(_) | Change::User(_) | Change::Token(_) | Change::Event(_) => {}
            }
        }
        overlay
    }

    pub(super) fn subscription(&self, id: SubscriptionId) -> Option<&'a Subscription> {
        self.subscriptions.get(&id).copied().unwrap_or_else(|| self.register.subscription(id))
    }

    pub(super) fn site(&self, id: SiteId) -> Option<&'a Site> {
        self.sites.get(&id).copied().unwrap_or_else(|| self.register.site(id))
    }

    pub(super) fn zone(&self, id: ZoneId) -> Option<&'a Zone> {
        self.zones.get(&id).copied().unwrap_or_else(|| self.register.zone(id))
    }

    pub(super) fn sensor(&self, id: SensorId) -> Option<&'a Sensor> {
        self.sensors.get(&id).copied().unwrap_or_else(|| self.register.sensor(id))
    }

    pub(super) fn sites_of(&self, id: SubscriptionId) -> impl Iterator<Item = SiteId> {
        let register = self.register.sites_of(id).map(|site| site.id);
        let register = register.filter(|site| !self.sites.contains_key(site));
        let batch = self.sites.values().flatten().filter(move |site| site.subscription == id);
        register.chain(batch.map(|site| site.id))
    }

    pub(super) fn zones_of(&self, id: SiteId) -> impl Iterator<Item = ZoneId> {
        let register = self.register.zones_of(id).map(|zone| zone.id);
        let register = register.filter(|zone| !self.zones.contains_key(zone));
        let batch = self.zones.values().flatten().filter(move |zone| zone.site == id);
        register.chain(batch.map(|zone| zone.id))
    }

    /// Sensors of a site of which the batch says nothing.
    pub(super) fn untouched_sensors_of(&self, id: SiteId) -> impl Iterator<Item = &'a Sensor> {
        self.register.sensors_of(id).filter(|sensor| !self.sensors.contains_key(&sensor.id))
    }

    /// Sensors of which the batch says something.
    pub(super) fn touched_sensors(&self) -> impl Iterator<Item = &'a Sensor> {
        self.sensors.values().copied().flatten()
    }
}
