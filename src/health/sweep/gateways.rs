//! Gateways: their own silence, and what it means for the sensors behind them.

use std::time::Duration;

use ahash::HashSet;

use super::{Engine, Pass, common};
use crate::health::catalogue::RuleId;
use crate::health::message::{ClearReason, Evidence, EvidenceValue, Subject};
use crate::health::policy::Setting;
use crate::health::rules::gateway_silent_from;
use crate::health::summary::SweepSummary;
use crate::live::{GatewayIndex, GatewaySnapshot, Vitals};
use crate::time::MonoNanos;
use crate::wire::id::GatewayId;

use super::ledger::Raise;
use super::slot::{NO_GATEWAY, SlotMemory};

const SILENT: RuleId = RuleId::GatewaySilent;

/// One gateway, as remembered.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Gateway {
    id: Option<GatewayId>,
    active: bool,
    heard_since: Option<MonoNanos>,
    /// Since when it is registered, if that was after the first sweep.
    armed: MonoNanos,
    /// When it was last heard, as of the last sweep.
    last_seen: MonoNanos,
    /// When it was last heard again after a silence: its sensors' silences count from here.
    pub resumed: MonoNanos,
}

impl Gateway {
    /// Its sensors can't be judged.
    pub fn is_silent(&self) -> bool {
        self.active
    }
}

impl Engine {
    pub(super) fn sweep_gateways(&mut self, pass: &Pass<'_>, summary: &mut SweepSummary) {
        let mut changed: HashSet<u32> = HashSet::default();
        let count = pass.live.gateways();
        self.gateways.resize(count as usize, Gateway::default());
        for index in 0..count {
            let before = self.gateways[index as usize];
            let Some(gateway) = pass.live.gateway_snapshot(GatewayIndex(index)) else {
                if let Some(id) = before.id {
                    let key = (Subject::Gateway(id), SILENT);
                    self.ledger.clear(key, None, ClearReason::SubjectGone, pass.now);
                    self.gateways[index as usize] = Gateway { resumed: pass.now.mono, ..Gateway::default() };
                    changed.insert(index);
                }
                continue;
            };
            summary.gateways += 1;
            let after = self.judge_gateway(pass, &gateway, before, summary);
            self.gateways[index as usize] = after;
            if after.active != before.active {
                changed.insert(index);
            }
        }
        self.wake_sensors_of(&changed);
    }

    fn judge_gateway(
        &mut self,
        pass: &Pass<'_>,
        gateway: &GatewaySnapshot,
        mut memory: Gateway,
        summary: &mut SweepSummary,
    ) -> Gateway {
        let now = pass.now.mono;
        let policy = common(pass.policies);
        let subject = Subject::Gateway(gateway.id);
        if memory.id.is_none() {
            memory.id = Some(gateway.id);
            memory.armed = if pass.first { MonoNanos::NEVER } else { now };
            for message in self.restored.remove(&subject).into_iter().flatten() {
                memory.active |= message.rule == SILENT;
                self.ledger.restore(message);
            }
        }
        if gateway.last_seen < memory.last_seen {
            // Deleted and registered again between two sweeps.
            memory.armed = now;
        }
        memory.last_seen = gateway.last_seen;
        // Never heard, and no sensor ever came by it: it waits for its first connection.
        if gateway.last_seen.is_never() && gateway.sensors == 0 {
            return memory;
        }
        if memory.active {
            if gateway_silent_from(gateway.last_seen, policy) <= now {
                memory.heard_since = None;
                return memory;
            }
            let since = *memory.heard_since.get_or_insert(now);
            let hold = Duration::from_nanos(policy.nanos(Setting::clear_after(SILENT)));
            if since.plus(hold) <= now {
                memory.active = false;
                memory.heard_since = None;
                memory.resumed = now;
                self.ledger.clear((subject, SILENT), None, ClearReason::Recovered, pass.now);
            }
            return memory;
        }
        let base = gateway.last_seen.max(pass.doubt_end).max(memory.armed);
        let from = gateway_silent_from(base, policy);
        let deadline = from.plus(Duration::from_nanos(policy.nanos(Setting::raise_after(SILENT))));
        if deadline <= now {
            memory.active = true;
            let delay = now.since(deadline);
            summary.detection_delays.push((SILENT, delay));
            let raise = Raise {
                subject,
                slot: None,
                rule: SILENT,
                since: from,
                detection_delay: Some(delay),
                folded_into: None,
                muted: false,
                evidence: evidence(pass, gateway, from.since(base)),
            };
            self.ledger.raise(raise, pass.now);
        }
        memory
    }

    /// The gateway that answers for a sensor: the one that brought its newest heartbeat. A sensor that was
    /// not heard since this process started may be behind any silent gateway that covers its site.
    pub(super) fn gateway_of(&self, pass: &Pass<'_>, sensor: &impl Vitals, memory: &SlotMemory) -> u32 {
        if sensor.heard_since_start() {
            return sensor.via_gateway().map_or(NO_GATEWAY, |gateway| gateway.0);
        }
        let site = sensor.facts().site;
        let silent = self.gateways.iter().enumerate().filter(|(_, gateway)| gateway.active);
        let mut covering = silent.map(|(index, _)| index as u32);
        covering.find(|&index| pass.live.gateway_covers(GatewayIndex(index), site)).unwrap_or(memory.gateway)
    }

    /// Their sensors are judged anew in this sweep, and those that may be. One pass for all gateways that changed.
    fn wake_sensors_of(&mut self, gateways: &HashSet<u32>) {
        if gateways.is_empty() {
            return;
        }
        for (due, slot) in self.due.iter_mut().zip(&self.slots) {
            if !slot.heard || gateways.contains(&slot.gateway) {
                *due = 0;
            }
        }
    }
}

fn evidence(pass: &Pass<'_>, gateway: &GatewaySnapshot, window: Duration) -> Vec<Evidence> {
    let silent = pass.now.mono.since(gateway.last_seen).as_secs_f64();
    let number = |value: f64| EvidenceValue::Number((value * 1_000.0).round() / 1_000.0);
    let mut all = Vec::new();
    if !gateway.last_seen.is_never() {
        let (value, threshold) = (number(silent), Some(number(window.as_secs_f64())));
        all.push(Evidence { name: "silent_for", value, threshold, unit: "s" });
    }
    let sensors = EvidenceValue::Integer(i64::from(gateway.sensors));
    all.push(Evidence { name: "sensors_behind_it", value: sensors, threshold: None, unit: "" });
    all
}
