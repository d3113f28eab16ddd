//! What a caller sees of the fleet: everything, or the sites of their grants and the gateways that speak for these.
//!
//! Made once for a request, with the register at hand, so that lists can be filtered where the register must not be
//! locked. Somebody with grants over subscriptions costs a walk over the sites of these.

use std::collections::HashSet;

use super::caller::Caller;
use crate::fleet::{Gateway, Grant, Permission, Register, Scope, Target};
use crate::health::Subject;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId};

type Set<T> = HashSet<T, ahash::RandomState>;

fn viewing(grants: &[Grant]) -> impl Iterator<Item = &Grant> {
    grants.iter().filter(|grant| grant.role.may(Permission::View))
}

/// Which sites somebody may see.
pub(super) fn sees(grants: &[Grant], site: SiteId, subscription: SubscriptionId) -> bool {
    viewing(grants).any(|grant| match grant.scope {
        Scope::All => true,
        Scope::Subscription(id) => id == subscription,
        Scope::Site(id) => id == site,
    })
}

/// Which subscriptions: those of which they see anything.
pub(super) fn sees_subscription(register: &Register, grants: &[Grant], id: SubscriptionId) -> bool {
    viewing(grants).any(|grant| match grant.scope {
        Scope::All => true,
        Scope::Subscription(granted) => granted == id,
        Scope::Site(site) => register.site(site).is_some_and(|site| site.subscription == id),
    })
}

/// Which gateways: those that may speak for a site that they see. Who sees everything sees those without sites too.
pub(super) fn sees_gateway(register: &Register, grants: &[Grant], gateway: &Gateway) -> bool {
    let mut sites = gateway.sites.iter().filter_map(|&id| register.site(id));
    viewing(grants).any(|grant| grant.scope == Scope::All)
        || sites.any(|site| sees(grants, site.id, site.subscription))
}

/// What a caller sees.
pub(super) enum Sight {
    Everything,
    Part { sites: Set<SiteId>, gateways: Set<GatewayId> },
}

impl Sight {
    pub(super) fn of(register: &Register, caller: &Caller) -> Sight {
        if caller.may(register, Permission::View, Target::Everything) {
            return Sight::Everything;
        }
        let mut sites = Set::default();
        for grant in viewing(&caller.grants) {
            match grant.scope {
                // Seen above.
                Scope::All => {}
                Scope::Site(id) => drop(sites.insert(id)),
                Scope::Subscription(id) => sites.extend(register.sites_of(id).map(|site| site.id)),
            }
        }
        let speaks_here = |sites: &Set<SiteId>, of: &[SiteId]| of.iter().any(|site| sites.contains(site));
        let gateways = register.gateways().filter(|gateway| speaks_here(&sites, &gateway.sites));
        let gateways = gateways.map(|gateway| gateway.id).collect();
        Sight::Part { sites, gateways }
    }

    pub(super) fn site(&self, id: SiteId) -> bool {
        match self {
            Sight::Everything => true,
            Sight::Part { sites, .. } => sites.contains(&id),
        }
    }

    pub(super) fn gateway(&self, id: GatewayId) -> bool {
        match self {
            Sight::Everything => true,
            Sight::Part { gateways, .. } => gateways.contains(&id),
        }
    }

    /// A message of a place or gateway; sensors are found by where they stand.
    pub(super) fn place(&self, subject: Subject) -> bool {
        match subject {
            Subject::Site(id) => self.site(id),
            Subject::Gateway(id) => self.gateway(id),
            Subject::Sensor(_) => false,
        }
    }

    pub(super) fn sensor(&self, register: &Register, id: SensorId) -> bool {
        match self {
            Sight::Everything => true,
            Sight::Part { .. } => {
                let sensor = register.sensor(id).or_else(|| register.deleted_sensor(id));
                sensor.and_then(|sensor| register.site_of(sensor)).is_some_and(|site| self.site(site.id))
            }
        }
    }
}
