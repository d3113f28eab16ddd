//! Health of zones and sites: their sensors counted, in one pass over the same table as a search.

use super::grid::{Grid, NOBODY};
use super::{Health, Readings};
use crate::health::OverallState;
use crate::live::SlotIndex;
use crate::time::UnixMillis;
use crate::wire::id::{SiteId, ZoneId};

/// Sensors of a place, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PlaceCounts {
    /// All.
    pub sensors: u32,
    /// What [`Health::Healthy`] finds.
    pub healthy: u32,
    /// What [`Health::Unhealthy`] finds.
    pub unhealthy: u32,
    /// What [`Health::Muted`] finds.
    pub muted: u32,
    /// Connected.
    pub connected: u32,
    /// By the one word on them, muted or not.
    pub states: [u32; OverallState::ALL.len()],
}

impl PlaceCounts {
    fn add(&mut self, more: &PlaceCounts) {
        self.sensors += more.sensors;
        self.healthy += more.healthy;
        self.unhealthy += more.unhealthy;
        self.muted += more.muted;
        self.connected += more.connected;
        for (state, more) in self.states.iter_mut().zip(more.states) {
            *state += more;
        }
    }
}

/// A count under way. It holds no lock.
pub struct Tally {
    now: UnixMillis,
    revision: Option<u64>,
    zones: Vec<PlaceCounts>,
    next_row: usize,
}

impl Tally {
    /// Begins to count.
    pub fn new(now: UnixMillis) -> Tally {
        Tally { now, revision: None, zones: Vec::new(), next_row: 0 }
    }

    /// Goes through at most so many more rows. `false`: that was the end.
    pub fn step(&mut self, grid: &Grid, live: &impl Readings, rows: usize) -> bool {
        if self.revision != Some(grid.revision) {
            self.zones.resize(grid.zones.rows.len().max(self.zones.len()), PlaceCounts::default());
            self.revision = Some(grid.revision);
        }
        let first = self.next_row.min(grid.rows.len());
        let end = first.saturating_add(rows).min(grid.rows.len());
        for (place, row) in grid.rows[first..end].iter().enumerate() {
            if row.zone == NOBODY {
                continue;
            }
            let Some(counts) = self.zones.get_mut(row.zone as usize) else { continue };
            let standing = live.standing(SlotIndex((first + place) as u32));
            let quiet = || {
                let site = grid.zones.get(row.zone).and_then(|zone| grid.sites.get(zone.site));
                site.is_some_and(|site| site.about.quiet.holds(self.now))
            };
            let muted =
                standing.muted || row.more.as_ref().is_some_and(|more| more.quiet.holds(self.now)) || quiet();
            counts.sensors += 1;
            counts.healthy += u32::from(Health::Healthy.holds(standing, muted));
            counts.unhealthy += u32::from(Health::Unhealthy.holds(standing, muted));
            counts.muted += u32::from(muted);
            counts.connected += u32::from(standing.connected);
            counts.states[standing.overall as usize] += 1;
        }
        self.next_row = end;
        end < grid.rows.len()
    }

    /// The sensors of a zone.
    pub fn of_zone(&self, grid: &Grid, id: ZoneId) -> PlaceCounts {
        let counted = grid.zones.number(&id).and_then(|number| self.zones.get(number as usize));
        counted.copied().unwrap_or_default()
    }

    /// The sensors of sites, in their order.
    pub fn of_sites(&self, grid: &Grid, ids: &[SiteId]) -> Vec<PlaceCounts> {
        let mut counts = vec![PlaceCounts::default(); grid.sites.rows.len()];
        for (zone, counted) in grid.zones.rows.iter().zip(&self.zones) {
            if let Some(counts) = zone.as_ref().and_then(|zone| counts.get_mut(zone.site as usize)) {
                counts.add(counted);
            }
        }
        let of = |id| grid.sites.number(id).map(|number| counts[number as usize]).unwrap_or_default();
        ids.iter().map(of).collect()
    }
}
