//! Where the levels of policies meet: numbers that are right where each was said may not go together at a sensor.
//!
//! Only a few numbers have an order, so nearly all commands cost nothing here. One that touches such a number for a
//! whole subscription looks at all its zones, and at the sensors that say such a number themselves.

use ahash::AHashSet;

use super::{Fault, fault};
use crate::fleet::command::Place;
use crate::fleet::details::Overrides;
use crate::fleet::draft::Draft;
use crate::fleet::model::{Sensor, Site, Subscription, Zone};
use crate::fleet::refusal::{RefusalCode, shown};
use crate::health::{Layer, Policy, PolicyError, PolicyPatch, resolve};
use crate::wire::id::{SiteId, SubscriptionId, ZoneId};

/// The policy `now` is to be said at `place`, where `before` was: whether it goes together with all that is said above
/// and below.
pub(super) fn meet(
    draft: &Draft<'_>,
    place: Place,
    before: &Overrides,
    now: &Overrides,
) -> Result<(), Fault> {
    if !before.numbers.is_ordered() && !now.numbers.is_ordered() {
        return Ok(());
    }
    let levels = Levels { draft, said: Some((place, now)) };
    match place {
        Place::Sensor(id) => draft.sensor(id).map_or(Ok(()), |sensor| levels.at_sensor(sensor, sensor.zone)),
        Place::Zone(id) => levels.below_zones(&[id]),
        Place::Site(id) => {
            levels.at_site(id)?;
            levels.below_zones(&draft.zones_of(id))
        }
        Place::Subscription(id) => {
            let sites = draft.sites_of(id);
            levels.at_subscription(id)?;
            sites.iter().try_for_each(|&site| levels.at_site(site))?;
            let zones: Vec<ZoneId> = sites.into_iter().flat_map(|site| draft.zones_of(site)).collect();
            levels.below_zones(&zones)
        }
    }
}

/// A sensor is to move to a zone: whether what it says itself goes together with what is said there.
pub(super) fn meet_there(draft: &Draft<'_>, sensor: &Sensor, to: ZoneId) -> Result<(), Fault> {
    if !sensor.more.policy.numbers.is_ordered() {
        return Ok(());
    }
    Levels { draft, said: None }.at_sensor(sensor, to)
}

struct Levels<'d> {
    draft: &'d Draft<'d>,
    said: Option<(Place, &'d Overrides)>,
}

impl<'d> Levels<'d> {
    fn numbers(&self, place: Place, stands: &'d Overrides) -> &'d PolicyPatch {
        match self.said {
            Some((there, now)) if there == place => &now.numbers,
            _ => &stands.numbers,
        }
    }

    fn at_subscription(&self, id: SubscriptionId) -> Result<(), Fault> {
        self.check(self.draft.subscription(id), None, None, None)
    }

    fn at_site(&self, id: SiteId) -> Result<(), Fault> {
        let Some(site) = self.draft.site(id) else { return Ok(()) };
        self.check(self.draft.subscription(site.subscription), Some(site), None, None)
    }

    fn at_zone(&self, id: ZoneId, sensor: Option<&'d Sensor>) -> Result<(), Fault> {
        let Some(zone) = self.draft.zone(id) else { return Ok(()) };
        let site = self.draft.site(zone.site);
        let subscription = site.and_then(|site| self.draft.subscription(site.subscription));
        self.check(subscription, site, Some(zone), sensor)
    }

    fn at_sensor(&self, sensor: &'d Sensor, zone: ZoneId) -> Result<(), Fault> {
        self.at_zone(zone, Some(sensor))
    }

    fn below_zones(&self, zones: &[ZoneId]) -> Result<(), Fault> {
        zones.iter().try_for_each(|&zone| self.at_zone(zone, None))?;
        let zones: AHashSet<ZoneId> = zones.iter().copied().collect();
        let says = |sensor: &&Sensor| sensor.more.policy.numbers.is_ordered() && zones.contains(&sensor.zone);
        let sites: AHashSet<_> = zones.iter().filter_map(|&id| self.draft.zone(id)).map(|z| z.site).collect();
        let base = sites.into_iter().flat_map(|site| self.draft.untouched_sensors_of(site));
        let all = base.chain(self.draft.touched_sensors());
        all.filter(says).try_for_each(|sensor| self.at_sensor(sensor, sensor.zone))
    }

    fn check(
        &self,
        subscription: Option<&'d Subscription>,
        site: Option<&'d Site>,
        zone: Option<&'d Zone>,
        sensor: Option<&'d Sensor>,
    ) -> Result<(), Fault> {
        let mut patches = Vec::with_capacity(4);
        if let Some(it) = subscription {
            patches.push((Layer::Subscription, self.numbers(Place::Subscription(it.id), &it.policy)));
        }
        if let Some(it) = site {
            patches.push((Layer::Site, self.numbers(Place::Site(it.id), &it.about.policy)));
        }
        if let Some(it) = zone {
            patches.push((Layer::Zone, self.numbers(Place::Zone(it.id), &it.policy)));
        }
        if let Some(it) = sensor {
            patches.push((Layer::Sensor, self.numbers(Place::Sensor(it.id), &it.more.policy)));
        }
        let who = |layer: Layer| {
            let named = |kind: &str, name: &str, id: String| format!("{kind} {} {id}", shown(name));
            let text = match layer {
                Layer::Default => None,
                Layer::Subscription => subscription.map(|s| named("subscription", &s.name, s.id.to_string())),
                Layer::Site => site.map(|s| named("site", &s.name, s.id.to_string())),
                Layer::Zone => zone.map(|z| named("zone", &z.name, z.id.to_string())),
                Layer::Sensor => sensor.map(|s| named("sensor", &s.name, s.id.to_string())),
            };
            text.unwrap_or_else(|| "the product's default".to_owned())
        };
        match resolve(&Policy::default(), &patches) {
            Ok(_) => Ok(()),
            Err(PolicyError::Order { first, low, low_from, second, high, high_from }) => fault(
                RefusalCode::PolicyInvalid,
                "policy",
                format!("{first} = {low}, said by {}", who(low_from)),
                format!("below {second} = {high}, said by {}", who(high_from)),
            ),
            Err(error) => fault(RefusalCode::PolicyInvalid, "policy", error, "numbers that exist"),
        }
    }
}
