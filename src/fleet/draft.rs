//! The register as it would be after the commands planned so far: an overlay over the real one, so that
//! planning changes nothing, and commands that come together see each other.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ahash::AHashMap;

use super::access::{Token, User};
use super::change::{Change, Edit, Event};
use super::details::TokenHash;
use super::model::{Gateway, Sensor, Site, Subscription, Zone};
use super::register::{Counts, Register};
use crate::live::Lifecycle;
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, TokenId, UserId, ZoneId};

/// Inside what a name is one of a kind.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    Subscriptions,
    Sites(SubscriptionId),
    Zones(SiteId),
    Sensors(SiteId),
    Gateways,
    Users,
    Tokens(UserId),
}

pub(super) struct Draft<'r> {
    base: &'r Register,
    changes: Vec<Change>,
    subscriptions: BTreeMap<SubscriptionId, Option<Subscription>>,
    sites: BTreeMap<SiteId, Option<Site>>,
    zones: BTreeMap<ZoneId, Option<Zone>>,
    sensors: AHashMap<SensorId, Option<Sensor>>,
    gateways: BTreeMap<GatewayId, Option<Gateway>>,
    users: BTreeMap<UserId, Option<User>>,
    tokens: BTreeMap<TokenId, Option<Token>>,
    names: AHashMap<(Scope, Arc<str>), bool>,
    /// Sensors more or fewer than the base has, by zone.
    zone_sensors: BTreeMap<ZoneId, i64>,
    sensors_more: i64,
    /// Sensors that the base never had.
    sensors_new: i64,
    sites_more: i64,
    zones_more: i64,
}

macro_rules! put {
    ($put:ident, $get:ident, $map:ident, $variant:ident, $document:ty, $id:ty, $scope:expr) => {
        /// Puts `after` in the place of `before`, when they differ.
        pub(super) fn $put(&mut self, before: Option<$document>, after: Option<$document>) {
            if before == after {
                return;
            }
            let Some(id) = before.as_ref().or(after.as_ref()).map(|document| document.id) else { return };
            if let Some(before) = &before {
                self.names.insert(($scope(before), before.name.clone()), false);
            }
            if let Some(after) = &after {
                self.names.insert(($scope(after), after.name.clone()), true);
            }
            self.$map.insert(id, after.clone());
            self.changes.push(Change::$variant(Edit { before, after }));
        }

        pub(super) fn $get(&self, id: $id) -> Option<&$document> {
            self.$map.get(&id).map_or_else(|| self.base.$get(id), Option::as_ref)
        }
    };
}

impl<'r> Draft<'r> {
    pub(super) fn new(base: &'r Register) -> Draft<'r> {
        Draft {
            base,
            changes: Vec::new(),
            subscriptions: BTreeMap::new(),
            sites: BTreeMap::new(),
            zones: BTreeMap::new(),
            sensors: AHashMap::new(),
            gateways: BTreeMap::new(),
            users: BTreeMap::new(),
            tokens: BTreeMap::new(),
            names: AHashMap::new(),
            zone_sensors: BTreeMap::new(),
            sensors_more: 0,
            sensors_new: 0,
            sites_more: 0,
            zones_more: 0,
        }
    }

    pub(super) fn into_changes(self) -> Vec<Change> {
        self.changes
    }

    put!(put_subscription, subscription, subscriptions, Subscription, Subscription, SubscriptionId, |_| {
        Scope::Subscriptions
    });
    put!(put_site_document, site, sites, Site, Site, SiteId, |site: &Site| Scope::Sites(site.subscription));
    put!(put_zone_document, zone, zones, Zone, Zone, ZoneId, |zone: &Zone| Scope::Zones(zone.site));
    put!(put_gateway, gateway, gateways, Gateway, Gateway, GatewayId, |_| Scope::Gateways);

    put!(put_user, user, users, User, User, UserId, |_| Scope::Users);
    put!(put_token, token, tokens, Token, Token, TokenId, |token: &Token| Scope::Tokens(token.owner));

    pub(super) fn put_event(&mut self, event: Event) {
        self.changes.push(Change::Event(event));
    }

    pub(super) fn put_site(&mut self, before: Option<Site>, after: Option<Site>) {
        self.sites_more += i64::from(after.is_some()) - i64::from(before.is_some());
        self.put_site_document(before, after);
    }

    pub(super) fn put_zone(&mut self, before: Option<Zone>, after: Option<Zone>) {
        self.zones_more += i64::from(after.is_some()) - i64::from(before.is_some());
        self.put_zone_document(before, after);
    }

    /// A sensor that is not deleted.
    pub(super) fn sensor(&self, id: SensorId) -> Option<&Sensor> {
        match self.sensors.get(&id) {
            Some(drafted) => drafted.as_ref().filter(|sensor| sensor.lifecycle != Lifecycle::Deleted),
            None => self.base.sensor(id),
        }
    }

    pub(super) fn was_deleted(&self, id: SensorId) -> bool {
        match self.sensors.get(&id) {
            Some(drafted) => drafted.as_ref().is_some_and(|s| s.lifecycle == Lifecycle::Deleted),
            None => self.base.deleted_sensor(id).is_some(),
        }
    }

    /// Puts `after` in the place of `before`. A deleted sensor leaves its zone and gives its name back.
    pub(super) fn put_sensor(&mut self, before: Option<Sensor>, after: Sensor) {
        if before.as_ref() == Some(&after) {
            return;
        }
        match &before {
            Some(before) => self.count(before, -1),
            None => self.sensors_new += 1,
        }
        if after.lifecycle != Lifecycle::Deleted {
            self.count(&after, 1);
        }
        self.sensors.insert(after.id, Some(after.clone()));
        self.changes.push(Change::Sensor(Edit { before, after: Some(after) }));
    }

    fn count(&mut self, sensor: &Sensor, by: i64) {
        self.sensors_more += by;
        *self.zone_sensors.entry(sensor.zone).or_default() += by;
        if let Some(site) = self.zone(sensor.zone).map(|zone| zone.site) {
            self.names.insert((Scope::Sensors(site), sensor.name.clone()), by > 0);
        }
    }

    pub(super) fn is_named(&self, scope: Scope, name: &Arc<str>) -> bool {
        if let Some(&taken) = self.names.get(&(scope, name.clone())) {
            return taken;
        }
        match scope {
            Scope::Subscriptions => self.base.subscription_named(name).is_some(),
            Scope::Sites(id) => self.base.site_named(id, name).is_some(),
            Scope::Zones(id) => self.base.zone_named(id, name).is_some(),
            Scope::Sensors(id) => self.base.sensor_named(id, name).is_some(),
            Scope::Gateways => self.base.gateway_named(name).is_some(),
            Scope::Users => self.base.user_named(name).is_some(),
            Scope::Tokens(owner) => self.base.tokens_of(owner).any(|token| token.name == *name),
        }
    }

    pub(super) fn sensors_count(&self) -> usize {
        plus(self.base.counts().sensors, self.sensors_more)
    }

    pub(super) fn sites_count(&self) -> usize {
        plus(self.base.counts().sites, self.sites_more)
    }

    /// Deleted ones too.
    pub(super) fn sensors_ever_count(&self) -> usize {
        let Counts { sensors, deleted, .. } = self.base.counts();
        plus(sensors.saturating_add(deleted), self.sensors_new)
    }

    pub(super) fn zones_count(&self) -> usize {
        plus(self.base.counts().zones, self.zones_more)
    }

    pub(super) fn gateways_count(&self) -> usize {
        let drafted = self
            .gateways
            .iter()
            .map(|(&id, drafted)| i64::from(drafted.is_some()) - i64::from(self.base.gateway(id).is_some()));
        plus(self.base.counts().gateways, drafted.sum())
    }

    pub(super) fn zone_sensors_count(&self, id: ZoneId) -> usize {
        plus(self.base.sensors_of_zone_count(id), self.zone_sensors.get(&id).copied().unwrap_or(0))
    }

    pub(super) fn sites_of(&self, id: SubscriptionId) -> Vec<SiteId> {
        let mut sites: BTreeSet<SiteId> = self.base.sites_of(id).map(|site| site.id).collect();
        sites.extend(self.sites.keys());
        sites.retain(|&site| self.site(site).is_some_and(|site| site.subscription == id));
        sites.into_iter().collect()
    }

    pub(super) fn zones_of(&self, id: SiteId) -> Vec<ZoneId> {
        let mut zones: BTreeSet<ZoneId> = self.base.zones_of(id).map(|zone| zone.id).collect();
        zones.extend(self.zones.keys());
        zones.retain(|&zone| self.zone(zone).is_some_and(|zone| zone.site == id));
        zones.into_iter().collect()
    }

    /// Sensors of a site that nothing was planned for.
    pub(super) fn untouched_sensors_of(&self, id: SiteId) -> impl Iterator<Item = &Sensor> {
        self.base.sensors_of(id).filter(|sensor| !self.sensors.contains_key(&sensor.id))
    }

    /// Sensors that something was planned for, as planned, without the deleted ones.
    pub(super) fn touched_sensors(&self) -> impl Iterator<Item = &Sensor> {
        self.sensors.values().flatten().filter(|sensor| sensor.lifecycle != Lifecycle::Deleted)
    }

    pub(super) fn users(&self) -> Vec<&User> {
        let base = self.base.users().filter(|user| !self.users.contains_key(&user.id));
        base.chain(self.users.values().flatten()).collect()
    }

    pub(super) fn tokens_of(&self, owner: UserId) -> Vec<TokenId> {
        let base = self.base.tokens_of(owner).filter(|token| !self.tokens.contains_key(&token.id));
        let drafted = self.tokens.values().flatten().filter(|token| token.owner == owner);
        base.chain(drafted).map(|token| token.id).collect()
    }

    /// Whether a secret of this hash was ever given out that is still known.
    pub(super) fn knows_secret(&self, hash: TokenHash) -> bool {
        self.base.token_of(hash).is_some()
            || self.base.activation_of(hash).is_some()
            || self.tokens.values().flatten().any(|token| token.hash == hash)
    }

    /// A gateway that may speak for this site.
    pub(super) fn gateway_of(&self, id: SiteId) -> Option<&Gateway> {
        let drafted = self.gateways.values().flatten();
        let base = self.base.gateways().filter(|gateway| !self.gateways.contains_key(&gateway.id));
        drafted.chain(base).find(|gateway| gateway.sites.contains(&id))
    }
}

fn plus(base: usize, more: i64) -> usize {
    base.saturating_add_signed(isize::try_from(more).unwrap_or(0))
}
