//! The table that a search goes through: what the register says of each sensor, kept beside the register.

use std::hash::Hash;
use std::sync::Arc;

use ahash::AHashMap;

use super::fold;
use crate::fleet::change::Change;
use crate::fleet::details::{Quiet, SiteAbout, ThreatIntelMode};
use crate::fleet::model::{Sensor, Site, Zone};
use crate::fleet::register::Register;
use crate::live::{Lifecycle, SensorType, SlotIndex};
use crate::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

/// Sensors by slot, with their places.
#[derive(Clone, Debug, Default)]
pub struct Grid {
    pub(super) rows: Vec<Row>,
    pub(super) zones: Numbered<ZoneId, ZoneRow>,
    pub(super) sites: Numbered<SiteId, SiteRow>,
    pub(super) subscriptions: AHashMap<SubscriptionId, Arc<str>>,
    /// Moves with every change of a zone, site or subscription.
    pub(super) revision: u64,
}

/// One sensor.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) id: SensorId,
    /// Folded; the register's own text when that has no capitals.
    pub(super) name: Arc<str>,
    /// What few sensors have.
    pub(super) more: Option<Box<More>>,
    /// Number of its zone; [`NOBODY`] in a row that no sensor has.
    pub(super) zone: u32,
    pub(super) kind: SensorType,
    pub(super) lifecycle: Lifecycle,
    pub(super) threat_intel: ThreatIntelMode,
}

/// See [`Row::more`].
#[derive(Clone, Debug)]
pub(super) struct More {
    /// Folded.
    pub(super) notes: String,
    pub(super) quiet: Quiet,
}

/// A row that no sensor has.
pub(super) const NOBODY: u32 = u32::MAX;

/// One zone.
#[derive(Clone, Debug)]
pub(super) struct ZoneRow {
    pub(super) id: ZoneId,
    pub(super) site: u32,
    /// Folded.
    pub(super) name: Arc<str>,
}

/// One site.
#[derive(Clone, Debug)]
pub(super) struct SiteRow {
    pub(super) id: SiteId,
    pub(super) subscription: SubscriptionId,
    /// Folded.
    pub(super) name: Arc<str>,
    pub(super) about: Arc<SiteAbout>,
}

/// Things by dense numbers; a number that was given back is used again.
#[derive(Clone, Debug)]
pub(super) struct Numbered<I, T> {
    numbers: AHashMap<I, u32>,
    pub(super) rows: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<I, T> Default for Numbered<I, T> {
    fn default() -> Self {
        Numbered { numbers: AHashMap::new(), rows: Vec::new(), free: Vec::new() }
    }
}

impl<I: Hash + Eq, T> Numbered<I, T> {
    pub(super) fn number(&self, id: &I) -> Option<u32> {
        self.numbers.get(id).copied()
    }

    pub(super) fn get(&self, number: u32) -> Option<&T> {
        self.rows.get(number as usize)?.as_ref()
    }

    fn set(&mut self, id: I, row: T) {
        let number = match self.number(&id) {
            Some(number) => number,
            None => {
                let number = self.free.pop().unwrap_or(self.rows.len() as u32);
                if number as usize == self.rows.len() {
                    self.rows.push(None);
                }
                self.numbers.insert(id, number);
                number
            }
        };
        self.rows[number as usize] = Some(row);
    }

    fn clear(&mut self, id: &I) {
        if let Some(number) = self.numbers.remove(id) {
            self.rows[number as usize] = None;
            self.free.push(number);
        }
    }
}

impl Grid {
    /// The places of a register; its sensors follow by [`Grid::set`], as they find their slots.
    pub fn of(register: &Register) -> Grid {
        let mut grid = Grid::default();
        for subscription in register.subscriptions() {
            grid.subscriptions.insert(subscription.id, folded(&subscription.name));
        }
        for site in register.sites() {
            grid.set_site(site);
        }
        for zone in register.zones() {
            grid.set_zone(zone);
        }
        grid
    }

    /// Takes in a change of a place. A change of a sensor is told by [`Grid::set`] and [`Grid::clear`].
    pub fn note(&mut self, change: &Change) {
        match change {
            Change::Subscription(edit) => match (&edit.before, &edit.after) {
                (_, Some(after)) => drop(self.subscriptions.insert(after.id, folded(&after.name))),
                (Some(before), None) => drop(self.subscriptions.remove(&before.id)),
                (None, None) => {}
            },
            Change::Site(edit) => match (&edit.before, &edit.after) {
                (_, Some(after)) => self.set_site(after),
                (Some(before), None) => self.sites.clear(&before.id),
                (None, None) => {}
            },
            Change::Zone(edit) => match (&edit.before, &edit.after) {
                (_, Some(after)) => self.set_zone(after),
                (Some(before), None) => self.zones.clear(&before.id),
                (None, None) => {}
            },
            Change::Sensor(_)
            | Change::Gateway(_)
            | Change::User(_)
            | Change::Token(_)
            | Change::Event(_) => return,
        }
        self.revision += 1;
    }

    fn set_site(&mut self, site: &Site) {
        let row = SiteRow {
            id: site.id,
            subscription: site.subscription,
            name: folded(&site.name),
            about: Arc::clone(&site.about),
        };
        self.sites.set(site.id, row);
    }

    fn set_zone(&mut self, zone: &Zone) {
        // A zone's site is there before it and stays for as long as it.
        let Some(site) = self.sites.number(&zone.site) else { return };
        self.zones.set(zone.id, ZoneRow { id: zone.id, site, name: folded(&zone.name) });
    }

    /// A sensor, new or changed, has this slot.
    pub fn set(&mut self, slot: SlotIndex, sensor: &Sensor) {
        let Some(zone) = self.zones.number(&sensor.zone) else { return };
        let about = &sensor.more;
        let plain = about.notes.is_empty() && about.quiet == Quiet::default();
        let row = Row {
            id: sensor.id,
            name: folded(&sensor.name),
            more: (!plain).then(|| Box::new(More { notes: fold(&about.notes), quiet: about.quiet.clone() })),
            zone,
            kind: sensor.kind,
            lifecycle: sensor.lifecycle,
            threat_intel: about.threat_intel,
        };
        let place = slot.0 as usize;
        if place >= self.rows.len() {
            self.rows.resize_with(place + 1, Row::nobody);
        }
        self.rows[place] = row;
    }

    /// Nobody has this slot any more.
    pub fn clear(&mut self, slot: SlotIndex) {
        if let Some(row) = self.rows.get_mut(slot.0 as usize) {
            *row = Row::nobody();
        }
    }

    /// Sites with their folded names, in no promised order.
    pub fn sites(&self) -> impl Iterator<Item = (SiteId, SubscriptionId, &Arc<str>, &SiteAbout)> {
        let rows = self.sites.rows.iter().flatten();
        rows.map(|row| (row.id, row.subscription, &row.name, &*row.about))
    }

    /// Subscriptions with their folded names, in no promised order.
    pub fn subscriptions(&self) -> impl Iterator<Item = (SubscriptionId, &Arc<str>)> {
        self.subscriptions.iter().map(|(id, name)| (*id, name))
    }

    /// Zones with their sites, subscriptions and folded names, in no promised order.
    pub fn zones(&self) -> impl Iterator<Item = (ZoneId, SiteId, SubscriptionId, &Arc<str>)> {
        let rows = self.zones.rows.iter().flatten();
        rows.filter_map(|row| {
            let site = self.sites.get(row.site)?;
            Some((row.id, site.id, site.subscription, &row.name))
        })
    }

    /// Rows, those of nobody included.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// True when it has no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

impl Row {
    fn nobody() -> Row {
        Row {
            id: SensorId::default(),
            name: Arc::default(),
            more: None,
            zone: NOBODY,
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::Deleted,
            threat_intel: ThreatIntelMode::Automatic,
        }
    }
}

/// The text itself when folding changes nothing, so that it is in memory once.
fn folded(text: &Arc<str>) -> Arc<str> {
    let folded = fold(text);
    if *folded == **text { Arc::clone(text) } else { folded.into() }
}
