//! Who may do what, as the routes ask for it. Stands in for `fleet::access` until that is there.

use crate::fleet::Register;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

/// What somebody is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Reader,
    Operator,
    Administrator,
}

/// Where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Subscription(SubscriptionId),
    Site(SiteId),
}

/// A role somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Grant {
    pub(super) role: Role,
    pub(super) scope: Scope,
}

/// What may be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Permission {
    View,
    EditFleet,
    ManageAccess,
    ReadAudit,
    ManageServer,
}

/// To what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Everything,
    Somewhere,
    Subscription(SubscriptionId),
    Site(SiteId),
    Zone(ZoneId),
    Sensor(SensorId),
}

impl Role {
    pub(super) const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Administrator];

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }

    pub(super) fn may(self, permission: Permission) -> bool {
        match self {
            Role::Reader => permission == Permission::View,
            Role::Operator => {
                matches!(permission, Permission::View | Permission::EditFleet | Permission::ReadAudit)
            }
            Role::Administrator => true,
        }
    }
}

/// Whether somebody with these grants may.
pub(super) fn allowed(register: &Register, grants: &[Grant], permission: Permission, target: Target) -> bool {
    let site = match target {
        Target::Everything | Target::Somewhere | Target::Subscription(_) => None,
        Target::Site(id) => Some(id),
        Target::Zone(id) => register.zone(id).map(|zone| zone.site),
        Target::Sensor(id) => {
            register.sensor(id).and_then(|sensor| register.site_of(sensor)).map(|site| site.id)
        }
    };
    let subscription = match target {
        Target::Subscription(id) => Some(id),
        _ => site.and_then(|id| register.site(id)).map(|site| site.subscription),
    };
    grants.iter().any(|grant| {
        let there = target == Target::Somewhere
            || match grant.scope {
                Scope::All => true,
                Scope::Subscription(id) => subscription == Some(id),
                Scope::Site(id) => site == Some(id),
            };
        there && grant.role.may(permission)
    })
}
