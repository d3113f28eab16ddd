//! Sites: many silences at once become one message. Folding comes after the verdicts and never delays them;
//! who notifies people waits for it.

use std::time::Duration;

use super::ledger::Raise;
use super::{Engine, Pass, common};
use crate::health::catalogue::RuleId;
use crate::health::message::{ClearReason, Evidence, EvidenceValue, Subject};
use crate::health::policy::{Policy, Setting};
use crate::live::SiteIndex;
use crate::time::MonoNanos;
use crate::wire::id::SiteId;

const OUTAGE: RuleId = RuleId::SiteOutage;
const PERCENT: Setting = Setting::of(OUTAGE, "percent");
const MARGIN: Setting = Setting::of(OUTAGE, "margin");
const SENSORS_MIN: Setting = Setting::of(OUTAGE, "sensors_min");

/// One site, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Site {
    /// Sensors that should be heard and can be judged.
    pub expected: u32,
    /// Those of them that are silent.
    pub silent: u32,
    /// Those of both that are muted.
    pub muted_expected: u32,
    pub muted_silent: u32,
    pub active: bool,
    /// Since when the share of silent sensors is over, or below, its limit while the message says otherwise.
    since: Option<MonoNanos>,
    /// A count moved since the last sweep.
    pub changed: bool,
    restored: bool,
}

impl Site {
    fn holds(&self, policy: &Policy) -> bool {
        let margin = if self.active { policy.value(MARGIN) } else { 0.0 };
        let least = if self.active { 1.0 } else { policy.value(SENSORS_MIN) };
        is_out(self.silent, self.expected, least, policy.value(PERCENT) - margin)
    }

    /// Work is being done on as many of its sensors as it takes: of the others alone nothing would be said.
    fn is_muted(&self, policy: &Policy) -> bool {
        let (silent, expected) = (self.silent - self.muted_silent, self.expected - self.muted_expected);
        let (least, percent) = (policy.value(SENSORS_MIN), policy.value(PERCENT));
        self.muted_silent > 0 && !is_out(silent, expected, least, percent)
    }

    fn evidence(&self, policy: &Policy) -> Vec<Evidence> {
        let limit = (policy.value(PERCENT) / 100.0 * f64::from(self.expected)).ceil();
        let count = |name, value: u32, threshold| Evidence {
            name,
            value: EvidenceValue::Integer(i64::from(value)),
            threshold,
            unit: "",
        };
        vec![
            count("silent_sensors", self.silent, Some(EvidenceValue::Number(limit))),
            count("sensors", self.expected, None),
        ]
    }
}

fn is_out(silent: u32, expected: u32, least: f64, percent: f64) -> bool {
    let silent = f64::from(silent);
    silent >= least && expected > 0 && silent >= percent / 100.0 * f64::from(expected)
}

impl Engine {
    pub(super) fn sweep_sites(&mut self, pass: &Pass<'_>) {
        let mut sites = std::mem::take(&mut self.sites);
        for (&index, site) in &mut sites {
            if !site.changed && site.since.is_none() && site.restored {
                continue;
            }
            site.changed = false;
            if let Some(id) = pass.ctx.lookup.site(SiteIndex(index)) {
                self.sweep_site(pass, index, id, site);
            }
        }
        self.sites = sites;
        self.fold();
        // Restored messages of sites that have no sensor any more.
        let gone: Vec<Subject> =
            self.restored.keys().copied().filter(|subject| matches!(subject, Subject::Site(_))).collect();
        for subject in gone {
            for message in self.restored.remove(&subject).into_iter().flatten() {
                let key = (message.subject, message.rule);
                self.ledger.restore(message);
                self.ledger.clear(key, None, ClearReason::SubjectGone, pass.now);
            }
        }
    }

    fn sweep_site(&mut self, pass: &Pass<'_>, index: u32, id: SiteId, site: &mut Site) {
        let policy = common(pass.policies);
        let subject = Subject::Site(id);
        let now = pass.now.mono;
        if !site.restored {
            site.restored = true;
            for message in self.restored.remove(&subject).into_iter().flatten() {
                site.active |= message.rule == OUTAGE;
                self.ledger.restore(message);
            }
            if site.active {
                self.folds.insert(index, Some(id));
            }
        }
        let holds = site.holds(policy);
        if site.active {
            self.ledger.set_muted((subject, OUTAGE), site.is_muted(policy));
        }
        if holds == site.active {
            site.since = None;
            if site.active {
                self.ledger.set_evidence((subject, OUTAGE), site.evidence(policy));
            }
            return;
        }
        let setting = if holds { Setting::raise_after(OUTAGE) } else { Setting::clear_after(OUTAGE) };
        let since = *site.since.get_or_insert(now);
        if since.plus(Duration::from_nanos(policy.nanos(setting))) > now {
            return;
        }
        site.since = None;
        let muted = site.is_muted(policy);
        site.active = holds;
        if holds {
            let raise = Raise {
                subject,
                slot: None,
                rule: OUTAGE,
                since,
                detection_delay: None,
                folded_into: None,
                muted,
                evidence: site.evidence(policy),
            };
            self.ledger.raise(raise, pass.now);
            self.folds.insert(index, Some(id));
        } else {
            self.ledger.clear((subject, OUTAGE), None, ClearReason::Recovered, pass.now);
            self.folds.insert(index, None);
        }
    }

    /// The messages of sites cover their silent sensors, or do not any more: one pass for all sites that changed,
    /// since when an uplink fails they all do, in one sweep.
    fn fold(&mut self) {
        if self.folds.is_empty() {
            return;
        }
        let silent = RuleId::Disconnected;
        for slot in &self.slots {
            if slot.active & silent.bit() != 0
                && let Some(into) = self.folds.get(&slot.class.site)
            {
                self.ledger.set_folded((Subject::Sensor(slot.id), silent), *into);
            }
        }
        self.folds.clear();
    }
}
