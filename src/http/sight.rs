//! What a caller sees of the fleet: everything, or the sites of their grants and the gateways that speak for these.
//!
//! Made once for a request, with the register at hand, so that lists can be filtered where the register must not be
//! locked. Somebody with grants over subscriptions costs a walk over the sites of these.

use std::collections::HashSet;

use super::caller::Caller;
use crate::fleet::{Permission, Register, Scope, Target};
use crate::health::Subject;
use crate::wire::id::{GatewayId, SensorId, SiteId};

type Set<T> = HashSet<T, ahash::RandomState>;

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
        for grant in caller.grants.iter().filter(|grant| grant.role.may(Permission::View)) {
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
