//! A part of what is registered: what somebody may see of the audit log, or what is asked for.
//!
//! A change is of a part when what it is about stood there before or after it. Sensors say in which zone they stood;
//! which site that lies in is asked of the register as it is now. So what happened in a zone that is gone is found by the
//! zone's or the sensor's id, and by who may see everything.

use std::collections::HashSet;

use crate::fleet::{About, Change, Edit, Grant, Permission, Register, Scope};
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, TokenId, UserId, ZoneId};

type Set<T> = HashSet<T, ahash::RandomState>;

/// Some of what is registered.
#[derive(Default)]
pub(super) struct Part {
    subscriptions: Set<SubscriptionId>,
    sites: Set<SiteId>,
    zones: Set<ZoneId>,
    sensors: Set<SensorId>,
    gateways: Set<GatewayId>,
    users: Set<UserId>,
    tokens: Set<TokenId>,
}

/// One thing to look for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Thing {
    Subscription(SubscriptionId),
    Site(SiteId),
    Zone(ZoneId),
    Sensor(SensorId),
    Gateway(GatewayId),
    User(UserId),
    Token(TokenId),
}

impl Part {
    /// What these grants let somebody see of the audit log; `None`: all of it.
    pub(super) fn of_grants(register: &Register, grants: &[Grant]) -> Option<Part> {
        let mut part = Part::default();
        for grant in grants.iter().filter(|grant| grant.role.may(Permission::ReadAudit)) {
            match grant.scope {
                Scope::All => return None,
                Scope::Subscription(id) => part.add(register, Thing::Subscription(id)),
                Scope::Site(id) => part.add(register, Thing::Site(id)),
            }
        }
        Some(part)
    }

    /// A thing, with what lies in it.
    pub(super) fn of(register: &Register, thing: Thing) -> Part {
        let mut part = Part::default();
        part.add(register, thing);
        part
    }

    fn add(&mut self, register: &Register, thing: Thing) {
        match thing {
            Thing::Subscription(id) => {
                self.subscriptions.insert(id);
                for site in register.sites_of(id) {
                    self.add(register, Thing::Site(site.id));
                }
            }
            Thing::Site(id) => {
                self.sites.insert(id);
                self.zones.extend(register.zones_of(id).map(|zone| zone.id));
            }
            Thing::Zone(id) => drop(self.zones.insert(id)),
            Thing::Sensor(id) => drop(self.sensors.insert(id)),
            Thing::Gateway(id) => drop(self.gateways.insert(id)),
            Thing::User(id) => drop(self.users.insert(id)),
            Thing::Token(id) => drop(self.tokens.insert(id)),
        }
    }

    /// Whether a change is of it. An event names a sensor and not where it stood: `register` says where it stands now;
    /// without it, it may be anywhere.
    pub(super) fn holds(&self, change: &Change, register: Option<&Register>) -> bool {
        match change {
            Change::Subscription(edit) => either(edit, |it| self.subscriptions.contains(&it.id)),
            Change::Site(edit) => either(edit, |it| {
                self.sites.contains(&it.id) || self.subscriptions.contains(&it.subscription)
            }),
            Change::Zone(edit) => {
                either(edit, |it| self.zones.contains(&it.id) || self.sites.contains(&it.site))
            }
            Change::Sensor(edit) => {
                either(edit, |it| self.sensors.contains(&it.id) || self.zones.contains(&it.zone))
            }
            Change::Gateway(edit) => either(edit, |it| {
                self.gateways.contains(&it.id) || it.sites.iter().any(|site| self.sites.contains(site))
            }),
            Change::User(edit) => either(edit, |it| self.users.contains(&it.id)),
            Change::Token(edit) => {
                either(edit, |it| self.tokens.contains(&it.id) || self.users.contains(&it.owner))
            }
            Change::Event(event) => event.about.is_some_and(|about| match about {
                About::User(id) => self.users.contains(&id),
                About::Site(id) => self.sites.contains(&id),
                About::Sensor(id) => {
                    let stands = |register: &Register| {
                        let sensor = register.sensor(id).or_else(|| register.deleted_sensor(id));
                        sensor.is_some_and(|sensor| self.zones.contains(&sensor.zone))
                    };
                    self.sensors.contains(&id) || !self.zones.is_empty() && register.is_none_or(stands)
                }
            }),
        }
    }

    pub(super) fn has_site(&self, id: SiteId) -> bool {
        self.sites.contains(&id)
    }

    pub(super) fn has_zone(&self, id: ZoneId) -> bool {
        self.zones.contains(&id)
    }
}

fn either<T>(edit: &Edit<T>, is: impl Fn(&T) -> bool) -> bool {
    edit.before.as_ref().is_some_and(&is) || edit.after.as_ref().is_some_and(is)
}
