//! Who may do what: users, API tokens, roles and their scopes.
//!
//! A grant is a role over a scope. Somebody may do a thing when any of their grants covers the thing and its role
//! includes the permission: one table ([`Role::may`]), one walk from a thing up to its subscription
//! ([`Target`]), and nothing else decides.

use std::sync::Arc;

use super::details::TokenHash;
use super::register::Register;
use crate::time::UnixMillis;
use crate::wire::id::{SensorId, SiteId, SubscriptionId, TokenId, UserId, ZoneId};

/// How much somebody may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Sees the fleet.
    Reader,
    /// Runs the fleet.
    Operator,
    /// Runs the server and decides who may do what.
    Administrator,
}

/// One thing that can be allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See sites, sensors, messages, history.
    View,
    /// Change sites, zones, sensors; onboard, activate, mute, set policy.
    EditFleet,
    /// Read the audit log.
    ReadAudit,
    /// Users and tokens of others.
    ManageAccess,
    /// Subscriptions, gateways, backup, the server itself.
    ManageServer,
}

impl Role {
    /// All roles, weakest first.
    pub const ALL: [Role; 3] = [Role::Reader, Role::Operator, Role::Administrator];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Role::Reader => "reader",
            Role::Operator => "operator",
            Role::Administrator => "administrator",
        }
    }

    /// The role of this name.
    pub fn named(name: &str) -> Option<Role> {
        Role::ALL.into_iter().find(|role| role.as_str() == name)
    }

    /// Whether it includes a permission. The one table.
    pub const fn may(self, permission: Permission) -> bool {
        match permission {
            Permission::View => true,
            Permission::EditFleet | Permission::ReadAudit => {
                matches!(self, Role::Operator | Role::Administrator)
            }
            Permission::ManageAccess | Permission::ManageServer => matches!(self, Role::Administrator),
        }
    }
}

impl Permission {
    /// All of them.
    pub const ALL: [Permission; 5] = [
        Permission::View,
        Permission::EditFleet,
        Permission::ReadAudit,
        Permission::ManageAccess,
        Permission::ManageServer,
    ];

    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Permission::View => "view",
            Permission::EditFleet => "edit-fleet",
            Permission::ReadAudit => "read-audit",
            Permission::ManageAccess => "manage-access",
            Permission::ManageServer => "manage-server",
        }
    }

    /// The weakest role that has it.
    pub fn least_role(self) -> Role {
        Role::ALL.into_iter().find(|role| role.may(self)).unwrap_or(Role::Administrator)
    }
}

/// Over what a role holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everything.
    All,
    /// One subscription and all in it.
    Subscription(SubscriptionId),
    /// One site and all in it.
    Site(SiteId),
}

/// A role over a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Grant {
    /// How much.
    pub role: Role,
    /// Over what.
    pub scope: Scope,
}

/// What somebody wants to do something with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The whole installation.
    Everything,
    /// Anything at all: true when any grant has the permission. For lists, which leave out what is not covered.
    Somewhere,
    /// A subscription.
    Subscription(SubscriptionId),
    /// A site.
    Site(SiteId),
    /// A zone.
    Zone(ZoneId),
    /// A sensor, also a deleted one.
    Sensor(SensorId),
}

/// Whether any of these grants has the permission over the target. What does not exist is covered by
/// [`Scope::All`] only.
pub fn allowed(register: &Register, grants: &[Grant], permission: Permission, target: Target) -> bool {
    let mut strong = grants.iter().filter(|grant| grant.role.may(permission)).peekable();
    if strong.peek().is_none() {
        return false;
    }
    let (site, subscription) = place(register, target);
    strong.any(|grant| match grant.scope {
        Scope::All => true,
        _ if target == Target::Somewhere => true,
        Scope::Subscription(id) => subscription == Some(id),
        Scope::Site(id) => site == Some(id),
    })
}

/// The site and subscription that a target lies in.
fn place(register: &Register, target: Target) -> (Option<SiteId>, Option<SubscriptionId>) {
    let of_site = |id: SiteId| (Some(id), register.site(id).map(|site| site.subscription));
    let of_zone = |id: ZoneId| register.zone(id).map_or((None, None), |zone| of_site(zone.site));
    match target {
        Target::Everything | Target::Somewhere => (None, None),
        Target::Subscription(id) => (None, Some(id)),
        Target::Site(id) => of_site(id),
        Target::Zone(id) => of_zone(id),
        Target::Sensor(id) => {
            let sensor = register.sensor(id).or_else(|| register.deleted_sensor(id));
            sensor.map_or((None, None), |sensor| of_zone(sensor.zone))
        }
    }
}

/// Somebody who may sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// What they sign in with: lower case, one of a kind.
    pub name: Arc<str>,
    /// What people call them; may be empty.
    pub full_name: Arc<str>,
    /// Hash of the password, as a PHC string; `None`: can't sign in with one.
    pub password: Option<Arc<str>>,
    /// Issuer and subject at an identity provider.
    pub external: Option<(Arc<str>, Arc<str>)>,
    /// What they may do.
    pub grants: Vec<Grant>,
    /// Kept, and not let in.
    pub disabled: bool,
}

impl User {
    /// Whether they can decide everything, now.
    pub fn is_full_administrator(&self) -> bool {
        let full = Grant { role: Role::Administrator, scope: Scope::All };
        !self.disabled && self.grants.contains(&full)
    }
}

/// A secret with which a program acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// What it is for; one of a kind among its owner's.
    pub name: Arc<str>,
    /// Whose it is. It can never do more than its owner can.
    pub owner: UserId,
    /// Of the secret.
    pub hash: TokenHash,
    /// What it may do.
    pub grants: Vec<Grant>,
    /// When it was made.
    pub created: UnixMillis,
    /// First instant at which it is void.
    pub expires: UnixMillis,
    /// When it was last used, to within an hour.
    pub last_used: Option<UnixMillis>,
}
