//! The state: documents by id, and the few indexes that commands and the server ask for.

mod people;
mod unfold;

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;

use super::access::{Token, User};
use super::change::{Batch, Change, Edit};
use super::details::TokenHash;
use super::model::{Gateway, Sensor, Site, Subscription, Zone};
use crate::live::{Lifecycle, SensorType};
use crate::wire::id::{GatewayId, SensorId, SiteId, SubscriptionId, TokenId, UserId, ZoneId};

/// Everything declared about the fleet.
#[derive(Clone, Debug, Default)]
pub struct Register {
    subscriptions: BTreeMap<SubscriptionId, SubscriptionRow>,
    subscription_names: BTreeMap<Arc<str>, SubscriptionId>,
    sites: AHashMap<SiteId, SiteRow>,
    zones: AHashMap<ZoneId, ZoneRow>,
    /// Rows by number; a freed row is used again.
    rows: Vec<Option<Sensor>>,
    rows_free: Vec<u32>,
    /// Id to row.
    sensors: AHashMap<SensorId, u32>,
    deleted: AHashMap<SensorId, Sensor>,
    gateways: BTreeMap<GatewayId, Gateway>,
    gateway_names: BTreeMap<Arc<str>, GatewayId>,
    users: BTreeMap<UserId, User>,
    user_names: BTreeMap<Arc<str>, UserId>,
    tokens: BTreeMap<TokenId, Token>,
    token_hashes: AHashMap<TokenHash, TokenId>,
    /// Tokens of activation files, void ones too, to their sensors, deleted ones too.
    activations: AHashMap<TokenHash, SensorId>,
    counts: Counts,
}

#[derive(Clone, Debug)]
struct SubscriptionRow {
    subscription: Subscription,
    sites: BTreeMap<Arc<str>, SiteId>,
}

#[derive(Clone, Debug)]
struct SiteRow {
    site: Site,
    zones: BTreeMap<Arc<str>, ZoneId>,
    /// Name to row, so that a site's sensors come out in order of name.
    sensors: BTreeMap<Arc<str>, u32>,
}

#[derive(Clone, Debug)]
struct ZoneRow {
    zone: Zone,
    sensors: usize,
}

/// How many there are. Sensors that were deleted count only in `deleted`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Subscriptions.
    pub subscriptions: usize,
    /// Sites, the built-in ones too.
    pub sites: usize,
    /// Zones.
    pub zones: usize,
    /// Sensors that are not deleted.
    pub sensors: usize,
    /// Gateways.
    pub gateways: usize,
    /// Users.
    pub users: usize,
    /// API tokens.
    pub tokens: usize,
    /// Sensors that were deleted.
    pub deleted: usize,
    /// Sensors by type, in the order `ot-cloud`, `ot-local`, `enterprise-iot`.
    pub by_type: [usize; 3],
    /// Sensors by lifecycle, in the order pending activation, active, pending reactivation.
    pub by_lifecycle: [usize; 3],
}

/// The batch does not follow from the state: the log belongs to another state, or is damaged. The register
/// may have taken in a part of the batch and must not be used any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("change {index} of the batch does not fit the register: {what}")]
pub struct FoldError {
    /// Which change, from zero.
    pub index: usize,
    /// What does not fit.
    pub what: String,
}

impl Register {
    /// An empty one.
    pub fn new() -> Register {
        Register::default()
    }

    /// Makes room for that many sensors at once, so that loading does not grow step by step.
    pub fn reserve(&mut self, sensors: usize) {
        self.rows.reserve(sensors);
        self.sensors.reserve(sensors);
    }

    /// Takes in a batch that [`Register::apply`] made from this state.
    pub fn fold(&mut self, batch: &Batch) -> Result<(), FoldError> {
        for (index, change) in batch.changes.iter().enumerate() {
            self.fold_change(change).map_err(|what| FoldError { index, what })?;
        }
        Ok(())
    }

    /// Takes in one change, e.g. of a snapshot: a snapshot is the changes that make the state from nothing.
    pub fn fold_change(&mut self, change: &Change) -> Result<(), String> {
        match change {
            Change::Subscription(edit) => self.fold_subscription(edit),
            Change::Site(edit) => self.fold_site(edit),
            Change::Zone(edit) => self.fold_zone(edit),
            Change::Sensor(edit) => self.fold_sensor(edit),
            Change::Gateway(edit) => self.fold_gateway(edit),
            Change::User(edit) => self.fold_user(edit),
            Change::Token(edit) => self.fold_token(edit),
            Change::Event(_) => Ok(()),
        }
    }

    fn fold_subscription(&mut self, edit: &Edit<Subscription>) -> Result<(), String> {
        let id = one_id(edit, |s| s.id)?;
        same(self.subscription(id), edit.before.as_ref(), id)?;
        if let Some(before) = &edit.before {
            self.subscription_names.remove(&before.name);
        }
        match &edit.after {
            Some(after) => {
                free(self.subscription_names.insert(after.name.clone(), id), &after.name)?;
                match self.subscriptions.get_mut(&id) {
                    Some(row) => row.subscription = after.clone(),
                    None => {
                        let row = SubscriptionRow { subscription: after.clone(), sites: BTreeMap::new() };
                        self.subscriptions.insert(id, row);
                    }
                }
            }
            None => {
                let row = self.subscriptions.remove(&id);
                empty(row.is_none_or(|row| row.sites.is_empty()), id)?;
            }
        }
        self.counts.subscriptions = self.subscriptions.len();
        Ok(())
    }

    fn fold_site(&mut self, edit: &Edit<Site>) -> Result<(), String> {
        let id = one_id(edit, |s| s.id)?;
        same(self.site(id), edit.before.as_ref(), id)?;
        if let Some(before) = &edit.before
            && let Some(row) = self.subscriptions.get_mut(&before.subscription)
        {
            row.sites.remove(&before.name);
        }
        match &edit.after {
            Some(after) => {
                let owner = self.subscriptions.get_mut(&after.subscription);
                let owner = owner.ok_or_else(|| format!("no {}", after.subscription))?;
                free(owner.sites.insert(after.name.clone(), id), &after.name)?;
                match self.sites.get_mut(&id) {
                    Some(row) => row.site = after.clone(),
                    None => {
                        let (zones, sensors) = (BTreeMap::new(), BTreeMap::new());
                        self.sites.insert(id, SiteRow { site: after.clone(), zones, sensors });
                    }
                }
            }
            None => {
                let row = self.sites.remove(&id);
                empty(row.is_none_or(|row| row.zones.is_empty()), id)?;
            }
        }
        self.counts.sites = self.sites.len();
        Ok(())
    }

    fn fold_zone(&mut self, edit: &Edit<Zone>) -> Result<(), String> {
        let id = one_id(edit, |z| z.id)?;
        same(self.zone(id), edit.before.as_ref(), id)?;
        if let (Some(before), Some(after)) = (&edit.before, &edit.after)
            && before.site != after.site
        {
            return Err(format!("{id:?} changes its site, which no command can ask for"));
        }
        if let Some(before) = &edit.before
            && let Some(row) = self.sites.get_mut(&before.site)
        {
            row.zones.remove(&before.name);
        }
        match &edit.after {
            Some(after) => {
                let site = self.sites.get_mut(&after.site).ok_or_else(|| format!("no {}", after.site))?;
                free(site.zones.insert(after.name.clone(), id), &after.name)?;
                match self.zones.get_mut(&id) {
                    Some(row) => row.zone = after.clone(),
                    None => drop(self.zones.insert(id, ZoneRow { zone: after.clone(), sensors: 0 })),
                }
            }
            None => {
                let row = self.zones.remove(&id);
                empty(row.is_none_or(|row| row.sensors == 0), id)?;
            }
        }
        self.counts.zones = self.zones.len();
        Ok(())
    }

    fn fold_sensor(&mut self, edit: &Edit<Sensor>) -> Result<(), String> {
        let id = one_id(edit, |s| s.id)?;
        same(self.sensor(id).or_else(|| self.deleted.get(&id)), edit.before.as_ref(), id)?;
        self.index_activation(edit);
        let alive = edit.after.as_ref().filter(|after| after.lifecycle != Lifecycle::Deleted);
        let row = match self.sensors.get(&id) {
            Some(&row) => {
                self.unlink(row);
                Some(row)
            }
            None => None,
        };
        match (alive, &edit.after) {
            (Some(after), _) => {
                if self.deleted.contains_key(&id) {
                    return Err(format!("{id:?} was deleted"));
                }
                let row = self.row(row, id)?;
                self.link(row, after)?;
            }
            (None, after) => {
                if let Some(row) = row {
                    self.sensors.remove(&id);
                    self.rows[row as usize] = None;
                    self.rows_free.push(row);
                }
                if let Some(deleted) = after {
                    self.deleted.insert(id, deleted.clone());
                }
            }
        }
        self.counts.sensors = self.sensors.len();
        self.counts.deleted = self.deleted.len();
        Ok(())
    }

    fn index_activation(&mut self, edit: &Edit<Sensor>) {
        let Some(id) = edit.before.as_ref().or(edit.after.as_ref()).map(|sensor| sensor.id) else { return };
        let tokens = |sensor: &Option<Sensor>| -> Vec<TokenHash> {
            let activation = sensor.as_ref().and_then(|sensor| sensor.more.activation.as_ref());
            activation.map_or_else(Vec::new, |a| a.voided.iter().copied().chain([a.token]).collect())
        };
        let (before, after) = (tokens(&edit.before), tokens(&edit.after));
        if before != after {
            for token in before {
                self.activations.remove(&token);
            }
            self.activations.extend(after.into_iter().map(|token| (token, id)));
        }
    }

    /// The sensor's own row, else a free one, else a new one.
    fn row(&mut self, own: Option<u32>, id: SensorId) -> Result<u32, String> {
        if let Some(row) = own {
            return Ok(row);
        }
        let row = match self.rows_free.pop() {
            Some(row) => row,
            None => {
                let row = u32::try_from(self.rows.len()).map_err(|_| "more sensors than rows".to_owned())?;
                self.rows.push(None);
                row
            }
        };
        self.sensors.insert(id, row);
        Ok(row)
    }

    /// Takes a row's sensor out of the indexes; the row itself stays the sensor's.
    fn unlink(&mut self, row: u32) {
        let Some(sensor) = self.rows[row as usize].take() else { return };
        if let Some(zone) = self.zones.get_mut(&sensor.zone) {
            zone.sensors -= 1;
            if let Some(site) = self.sites.get_mut(&zone.zone.site) {
                site.sensors.remove(&sensor.name);
            }
        }
        self.counts.by_type[type_index(sensor.kind)] -= 1;
        if let Some(count) = self.counts.by_lifecycle.get_mut(lifecycle_index(sensor.lifecycle)) {
            *count -= 1;
        }
    }

    fn link(&mut self, row: u32, sensor: &Sensor) -> Result<(), String> {
        let zone = self.zones.get_mut(&sensor.zone).ok_or_else(|| format!("no {:?}", sensor.zone))?;
        let site = self.sites.get_mut(&zone.zone.site).ok_or_else(|| format!("no {:?}", zone.zone.site))?;
        free(site.sensors.insert(sensor.name.clone(), row), &sensor.name)?;
        zone.sensors += 1;
        self.counts.by_type[type_index(sensor.kind)] += 1;
        if let Some(count) = self.counts.by_lifecycle.get_mut(lifecycle_index(sensor.lifecycle)) {
            *count += 1;
        }
        self.rows[row as usize] = Some(sensor.clone());
        Ok(())
    }

    fn fold_gateway(&mut self, edit: &Edit<Gateway>) -> Result<(), String> {
        let id = one_id(edit, |g| g.id)?;
        same(self.gateway(id), edit.before.as_ref(), id)?;
        if let Some(before) = &edit.before {
            self.gateway_names.remove(&before.name);
        }
        match &edit.after {
            Some(after) => {
                if let Some(site) = after.sites.iter().find(|site| !self.sites.contains_key(site)) {
                    return Err(format!("no {site:?}"));
                }
                free(self.gateway_names.insert(after.name.clone(), id), &after.name)?;
                self.gateways.insert(id, after.clone());
            }
            None => drop(self.gateways.remove(&id)),
        }
        self.counts.gateways = self.gateways.len();
        Ok(())
    }

    /// How many there are.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// As if there were more than a test can make.
    #[cfg(test)]
    pub(super) fn pretend(&mut self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts);
    }

    /// One subscription.
    pub fn subscription(&self, id: SubscriptionId) -> Option<&Subscription> {
        self.subscriptions.get(&id).map(|row| &row.subscription)
    }

    /// One site.
    pub fn site(&self, id: SiteId) -> Option<&Site> {
        self.sites.get(&id).map(|row| &row.site)
    }

    /// One zone.
    pub fn zone(&self, id: ZoneId) -> Option<&Zone> {
        self.zones.get(&id).map(|row| &row.zone)
    }

    /// One sensor that is not deleted.
    pub fn sensor(&self, id: SensorId) -> Option<&Sensor> {
        self.sensors.get(&id).and_then(|&row| self.rows[row as usize].as_ref())
    }

    /// A sensor that was deleted, as it was then.
    pub fn deleted_sensor(&self, id: SensorId) -> Option<&Sensor> {
        self.deleted.get(&id)
    }

    /// One gateway.
    pub fn gateway(&self, id: GatewayId) -> Option<&Gateway> {
        self.gateways.get(&id)
    }

    /// The site that a sensor stands in.
    pub fn site_of(&self, sensor: &Sensor) -> Option<&Site> {
        self.zones.get(&sensor.zone).and_then(|row| self.site(row.zone.site))
    }

    /// All subscriptions, by id.
    pub fn subscriptions(&self) -> impl Iterator<Item = &Subscription> {
        self.subscriptions.values().map(|row| &row.subscription)
    }

    /// All sites, subscription by subscription, by name.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.subscriptions.keys().flat_map(|&id| self.sites_of(id))
    }

    /// The sites of a subscription, by name.
    pub fn sites_of(&self, id: SubscriptionId) -> impl Iterator<Item = &Site> {
        let row = self.subscriptions.get(&id);
        row.into_iter().flat_map(|row| row.sites.values()).filter_map(|&id| self.site(id))
    }

    /// All zones, site by site, by name.
    pub fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.sites().flat_map(|site| self.zones_of(site.id))
    }

    /// The zones of a site, by name.
    pub fn zones_of(&self, id: SiteId) -> impl Iterator<Item = &Zone> {
        let row = self.sites.get(&id);
        row.into_iter().flat_map(|row| row.zones.values()).filter_map(|&id| self.zone(id))
    }

    /// All sensors that are not deleted, in no promised order.
    pub fn sensors(&self) -> impl Iterator<Item = &Sensor> {
        self.rows.iter().flatten()
    }

    /// The sensors of a site, by name.
    pub fn sensors_of(&self, id: SiteId) -> impl Iterator<Item = &Sensor> {
        let row = self.sites.get(&id);
        let rows = row.into_iter().flat_map(|row| row.sensors.values());
        rows.filter_map(|&row| self.rows[row as usize].as_ref())
    }

    /// How many sensors stand in a site.
    pub fn sensors_of_count(&self, id: SiteId) -> usize {
        self.sites.get(&id).map_or(0, |row| row.sensors.len())
    }

    /// All deleted sensors, in no promised order.
    pub fn deleted_sensors(&self) -> impl Iterator<Item = &Sensor> {
        self.deleted.values()
    }

    /// All gateways, by id.
    pub fn gateways(&self) -> impl Iterator<Item = &Gateway> {
        self.gateways.values()
    }

    /// A subscription by name.
    pub fn subscription_named(&self, name: &str) -> Option<&Subscription> {
        self.subscription_names.get(name).and_then(|&id| self.subscription(id))
    }

    /// A site of a subscription by name.
    pub fn site_named(&self, subscription: SubscriptionId, name: &str) -> Option<&Site> {
        let row = self.subscriptions.get(&subscription)?;
        row.sites.get(name).and_then(|&id| self.site(id))
    }

    /// A zone of a site by name.
    pub fn zone_named(&self, site: SiteId, name: &str) -> Option<&Zone> {
        self.sites.get(&site)?.zones.get(name).and_then(|&id| self.zone(id))
    }

    /// A sensor of a site by name.
    pub fn sensor_named(&self, site: SiteId, name: &str) -> Option<&Sensor> {
        let row = *self.sites.get(&site)?.sensors.get(name)?;
        self.rows[row as usize].as_ref()
    }

    /// A gateway by name.
    pub fn gateway_named(&self, name: &str) -> Option<&Gateway> {
        self.gateway_names.get(name).and_then(|&id| self.gateway(id))
    }

    /// The sensor that an activation file with this token was made for, also when the file is void or the sensor
    /// deleted.
    pub fn activation_of(&self, hash: TokenHash) -> Option<&Sensor> {
        let id = *self.activations.get(&hash)?;
        self.sensor(id).or_else(|| self.deleted_sensor(id))
    }

    /// How many sensors stand in a zone.
    pub fn sensors_of_zone_count(&self, id: ZoneId) -> usize {
        self.zones.get(&id).map_or(0, |row| row.sensors)
    }

    /// The changes that make this state from nothing, in an order that folds: what a snapshot holds.
    pub fn as_changes(&self) -> impl Iterator<Item = Change> {
        fn new<T: Clone>(document: &T) -> Edit<T> {
            Edit { before: None, after: Some(document.clone()) }
        }
        let subscriptions = self.subscriptions().map(|s| Change::Subscription(new(s)));
        let sites = self.sites().map(|s| Change::Site(new(s)));
        let zones = self.zones().map(|z| Change::Zone(new(z)));
        let sensors = self.sensors().map(|s| Change::Sensor(new(s)));
        let mut deleted: Vec<_> = self.deleted_sensors().collect();
        deleted.sort_unstable_by_key(|sensor| sensor.id);
        let deleted = deleted.into_iter().map(|s| Change::Sensor(new(s)));
        let gateways = self.gateways().map(|g| Change::Gateway(new(g)));
        let users = self.users().map(|u| Change::User(new(u)));
        let tokens = self.tokens().map(|t| Change::Token(new(t)));
        let fleet = subscriptions.chain(sites).chain(zones).chain(sensors).chain(deleted).chain(gateways);
        fleet.chain(users).chain(tokens)
    }
}

/// Equal content, whatever the history that led to it.
impl PartialEq for Register {
    fn eq(&self, other: &Register) -> bool {
        self.counts == other.counts
            && self.subscriptions().eq(other.subscriptions())
            && self.sites().eq(other.sites())
            && self.zones().eq(other.zones())
            && self.gateways().eq(other.gateways())
            && self.users().eq(other.users())
            && self.tokens().eq(other.tokens())
            && self.sensors().all(|sensor| other.sensor(sensor.id) == Some(sensor))
            && self.deleted == other.deleted
    }
}

impl Eq for Register {}

fn type_index(kind: SensorType) -> usize {
    match kind {
        SensorType::OtCloud => 0,
        SensorType::OtLocal => 1,
        SensorType::EnterpriseIot => 2,
    }
}

fn lifecycle_index(lifecycle: Lifecycle) -> usize {
    match lifecycle {
        Lifecycle::PendingActivation => 0,
        Lifecycle::Active => 1,
        Lifecycle::PendingReactivation => 2,
        Lifecycle::Deleted => usize::MAX,
    }
}

/// The id that both sides of an edit speak of.
fn one_id<T, I: PartialEq + Copy>(edit: &Edit<T>, id: impl Fn(&T) -> I) -> Result<I, String> {
    match (edit.before.as_ref().map(&id), edit.after.as_ref().map(&id)) {
        (Some(before), Some(after)) if before == after => Ok(before),
        (Some(one), None) | (None, Some(one)) => Ok(one),
        _ => Err("it speaks of no document, or of two".to_owned()),
    }
}

fn same<T: PartialEq>(have: Option<&T>, before: Option<&T>, id: impl std::fmt::Debug) -> Result<(), String> {
    if have == before { Ok(()) } else { Err(format!("{id:?} is not as the change found it")) }
}

fn free<I: std::fmt::Debug>(previous: Option<I>, name: &str) -> Result<(), String> {
    previous.map_or(Ok(()), |holder| Err(format!("the name {name:?} belongs to {holder:?}")))
}

fn empty(empty: bool, id: impl std::fmt::Debug) -> Result<(), String> {
    if empty { Ok(()) } else { Err(format!("{id:?} is removed while something lies in it")) }
}
