//! What live state is told of the register: slots with their facts, gateways with their sites.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError, RwLockWriteGuard};

use super::policies::{Desk, Policies};
use super::quiet::{QuietPlace, QuietTimes};
use super::{FleetService, NoRoom, ToClose};
use crate::fleet::query::Grid;
use crate::fleet::{Batch, Change, Register, Sensor, Site};
use crate::health::{Policy, PolicyTable};
use crate::live::{Lifecycle, SlotFacts};
use crate::time::UnixMillis;
use crate::wire::close::CloseCode;
use crate::wire::id::SiteId;

/// Changes that the grid takes in under one lock, so that no page waits for more than that.
const GRID_BATCH: usize = 512;

/// What live state was told, beside the facts themselves.
#[derive(Debug)]
pub(super) struct Shown {
    pub policies: Policies,
    quiet: QuietTimes,
}

impl Shown {
    pub(super) fn new(policy: Policy) -> Shown {
        Shown { policies: Policies::new(policy), quiet: QuietTimes::default() }
    }
}

impl FleetService {
    /// The policies in use, for a sweep: it forgets all tables that it had before.
    pub fn take_policies(&self) -> Arc<PolicyTable> {
        self.published.take()
    }

    /// The policies in use, for a look at one sensor.
    pub fn policies(&self) -> Arc<PolicyTable> {
        self.published.look()
    }

    /// How many different policies are in use, the default included.
    pub fn policies_count(&self) -> usize {
        self.shown().policies.count()
    }

    /// Begins and ends the quiet times whose moment has come. Called with every sweep, before it: who is muted from
    /// now on is judged as such, and nearly always it costs one comparison.
    pub fn quiet_tick(&self, now: UnixMillis) {
        let last = self.quiet_last.swap(now.0, Ordering::Relaxed);
        let backwards = now.0 < last;
        if !backwards && now.0 < self.quiet_next.load(Ordering::Relaxed) {
            return;
        }
        let register = self.register();
        let mut shown = self.shown();
        let due = if backwards { shown.quiet.take_all() } else { shown.quiet.take_due(now) };
        for place in due {
            match place {
                QuietPlace::Site(id) => {
                    let site = register.site(id);
                    shown.quiet.keep(place, site.map(|site| &site.about.quiet), now);
                    self.show_again(&register, &shown, &BTreeSet::from([id]), now);
                }
                QuietPlace::Sensor(id) => {
                    let sensor = register.sensor(id);
                    shown.quiet.keep(place, sensor.map(|sensor| &sensor.more.quiet), now);
                    if let Some(sensor) = sensor {
                        self.tell(&shown, &register, sensor, now);
                    }
                }
            }
        }
        self.note_next(&shown);
    }

    pub(super) fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn grid_mut(&self) -> RwLockWriteGuard<'_, Grid> {
        self.grid.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn desk(&self) -> Desk<'_> {
        Desk { published: &self.published, live: &self.live }
    }

    fn note_next(&self, shown: &Shown) {
        self.quiet_next.store(shown.quiet.next().map_or(i64::MAX, |next| next.0), Ordering::Relaxed);
    }

    /// Shows the whole register, at the start. Nobody is connected yet.
    pub(super) fn show_all(&self, register: &Register, at: UnixMillis) -> Result<(), NoRoom> {
        let mut shown = self.shown();
        shown.policies.take_in_all(register, &self.desk())?;
        for site in register.sites() {
            shown.quiet.keep(QuietPlace::Site(site.id), Some(&site.about.quiet), at);
        }
        let mut grid = self.grid_mut();
        for sensor in register.sensors() {
            shown.quiet.keep(QuietPlace::Sensor(sensor.id), Some(&sensor.more.quiet), at);
            let slot = self.live.insert(sensor.id, self.facts(&shown, register, sensor, at))?;
            grid.set(slot.index, sensor);
        }
        drop(grid);
        self.note_next(&shown);
        Ok(())
    }

    /// Shows a batch that the register has taken in; gives the connections that have to go.
    pub(super) fn show(&self, batch: &Batch) -> Result<Vec<ToClose>, NoRoom> {
        let register = self.register();
        let mut shown = self.shown();
        // While the batch was written sweeps went on: what began or ended by the last of them stays so. A clock that
        // was set back since then is seen by the next sweep.
        let last = self.quiet_last.fetch_max(batch.at.0, Ordering::Relaxed);
        let at = batch.at.max(UnixMillis(last));
        let mut sites = shown.policies.take_in(&register, batch, &self.desk());
        let mut to_close = Vec::new();
        for changes in batch.changes.chunks(GRID_BATCH) {
            let mut grid = self.grid_mut();
            for change in changes {
                grid.note(change);
                match change {
                    Change::Sensor(edit) => {
                        let sensor = (edit.before.as_ref(), edit.after.as_ref());
                        to_close.extend(self.show_sensor(&mut shown, &mut grid, &register, sensor, at)?);
                    }
                    Change::Site(edit) => {
                        sites.extend(note_quiet_of_site(
                            &mut shown,
                            edit.before.as_ref(),
                            edit.after.as_ref(),
                            at,
                        ));
                    }
                    Change::Gateway(edit) => match (&edit.before, &edit.after) {
                        (_, Some(after)) => {
                            self.live.insert_gateway(after.id, &self.numbers(&after.sites))?;
                        }
                        (Some(before), None) => {
                            let owner = self.live.remove_gateway(before.id).and_then(|(_, owner)| owner);
                            to_close.extend(owner.map(|owner| (owner, CloseCode::UnknownIdentity)));
                        }
                        (None, None) => {}
                    },
                    Change::Subscription(_)
                    | Change::Zone(_)
                    | Change::User(_)
                    | Change::Token(_)
                    | Change::Event(_) => {}
                }
            }
        }
        self.show_again(&register, &shown, &sites, at);
        shown.policies.retire(&self.desk());
        self.note_next(&shown);
        Ok(to_close)
    }

    fn show_sensor(
        &self,
        shown: &mut Shown,
        grid: &mut Grid,
        register: &Register,
        (before, after): (Option<&Sensor>, Option<&Sensor>),
        at: UnixMillis,
    ) -> Result<Option<ToClose>, NoRoom> {
        let kept = after.filter(|sensor| sensor.lifecycle != Lifecycle::Deleted);
        let Some(sensor) = kept else {
            let Some(gone) = before.or(after) else { return Ok(None) };
            shown.quiet.keep(QuietPlace::Sensor(gone.id), None, at);
            let removed = self.live.remove(gone.id);
            if let Some((handle, _)) = removed {
                grid.clear(handle.index);
            }
            let owner = removed.and_then(|(_, owner)| owner);
            return Ok(owner.map(|owner| (owner, CloseCode::UnknownIdentity)));
        };
        shown.quiet.keep(QuietPlace::Sensor(sensor.id), Some(&sensor.more.quiet), at);
        let facts = self.facts(shown, register, sensor, at);
        let slot = self.live.insert(sensor.id, facts)?;
        grid.set(slot.index, sensor);
        // Also one that waits for its first activation may report, but not with a certificate that was taken back.
        let had = before.is_some_and(|before| !before.more.credentials.is_empty());
        let revoked = had && sensor.more.credentials.is_empty();
        if facts.may_report() && !revoked {
            return Ok(None);
        }
        let code = if revoked { CloseCode::CertificateRevoked } else { CloseCode::NotActive };
        Ok(self.live.owner(slot).map(|owner| (owner, code)))
    }

    /// Shows all sensors of these sites again: what applies to a site changed.
    fn show_again(&self, register: &Register, shown: &Shown, sites: &BTreeSet<SiteId>, at: UnixMillis) {
        for &site in sites {
            for sensor in register.sensors_of(site) {
                self.tell(shown, register, sensor, at);
            }
        }
    }

    /// Tells the facts of a sensor that has its slot, if they changed: the sweep looks at it again.
    fn tell(&self, shown: &Shown, register: &Register, sensor: &Sensor, at: UnixMillis) {
        let Some(slot) = self.live.find(sensor.id) else { return };
        let facts = self.facts(shown, register, sensor, at);
        if self.live.facts(slot) != Some(facts) {
            self.live.set_facts(slot, facts);
        }
    }

    fn facts(&self, shown: &Shown, register: &Register, sensor: &Sensor, at: UnixMillis) -> SlotFacts {
        let site = register.site_of(sensor);
        let quiet = |site: &Site| site.about.quiet.holds(at);
        let id = site.map(|site| site.id).unwrap_or_default();
        SlotFacts {
            kind: sensor.kind,
            lifecycle: sensor.lifecycle,
            site: self.sites.write().unwrap_or_else(PoisonError::into_inner).number(id),
            policy: shown.policies.of(sensor),
            muted: sensor.more.quiet.holds(at) || site.is_some_and(quiet),
        }
    }
}

/// Notes when a site is quiet; gives it when that changed.
fn note_quiet_of_site(
    shown: &mut Shown,
    before: Option<&Site>,
    after: Option<&Site>,
    at: UnixMillis,
) -> Option<SiteId> {
    let id = before.or(after)?.id;
    let quiet = after.map(|site| &site.about.quiet);
    if before.map(|site| &site.about.quiet) == quiet {
        return None;
    }
    shown.quiet.keep(QuietPlace::Site(id), quiet, at);
    after.map(|site| site.id)
}
