//! Questions to the engine between two sweeps. The main one is "why is this sensor healthy, or not": every rule
//! that applies to it, with its values.

use std::time::Duration;

use super::slot::{self, Wait};
use super::{Context, Engine};
use crate::health::catalogue::RuleId;
use crate::health::message::{ActiveMessage, Subject};
use crate::health::policy::PolicyTable;
use crate::health::rules::{self, Ground, Input, Outcome};
use crate::health::version::Day;
use crate::live::LiveState;
use crate::time::MonoNanos;
use crate::wire::heartbeat::inline;
use crate::wire::id::SensorId;

/// One rule of one sensor, now.
#[derive(Clone, Debug, PartialEq)]
pub struct RuleReport {
    /// Which rule.
    pub rule: RuleId,
    /// What its predicate says now, with evidence.
    pub outcome: Outcome,
    /// It is active: as it was raised.
    pub message: Option<ActiveMessage>,
    /// It is on its way to be raised (or, when active, to end), for so long.
    pub pending_for: Option<Duration>,
    /// Stronger rules that are active and keep this one from holding.
    pub suppressed_by: Vec<RuleId>,
    /// Rules that are active and freeze this one.
    pub frozen_by: Vec<RuleId>,
}

impl Engine {
    /// Active messages of gateways and sites in the order of subject and rule, from the one that follows
    /// `after`. Those of sensors are found by the verdicts in live state.
    pub fn active_places(
        &self,
        after: Option<(Subject, RuleId)>,
    ) -> impl Iterator<Item = &ActiveMessage> + use<'_> {
        self.ledger.places(after)
    }

    /// Why a sensor is as it is: one report for each rule that applies to its type. `None`: no such sensor.
    pub fn why(
        &self,
        live: &LiveState,
        policies: &PolicyTable,
        ctx: &Context<'_>,
        sensor: SensorId,
    ) -> Option<Vec<RuleReport>> {
        let snapshot = live.snapshot_of(sensor)?;
        let index = snapshot.handle.index.0;
        let empty = slot::SlotMemory::EMPTY;
        let memory = self.slots.get(index as usize).filter(|memory| memory.id == sensor).unwrap_or(&empty);
        let gateway = self.gateways.get(memory.gateway as usize);
        let resumed = gateway.map_or(MonoNanos::NEVER, |gateway| gateway.resumed);
        let today = Day::of(ctx.now.unix);
        let ground = Ground {
            trusted_since: self.doubt.state().end.max(memory.armed).max(resumed),
            gateway_silent: gateway.is_some_and(|gateway| gateway.is_silent()),
            clock_trusted: self.trusts_clock(policies, ctx.now.mono),
            support: super::support_of(&snapshot.heartbeat.version, ctx.versions, today),
            newest_version: ctx.versions.newest(today).map(|release| release.version),
            desired_settings: ctx.lookup.desired_settings(sensor),
            newest_threat_intel: ctx.lookup.newest_threat_intel().map_or([0; _], inline),
        };
        let policy = policies.get(snapshot.facts.policy);
        let input = Input { sensor: &snapshot, policy, now: ctx.now, active: memory.active, ground };
        let applies = crate::health::rules_of(slot::applicable(snapshot.facts.kind));
        let is_active = |by: &RuleId| memory.active & by.bit() != 0;
        let report = |rule: RuleId| RuleReport {
            rule,
            outcome: rules::evaluate(rule, &input),
            message: self.active_message(Subject::Sensor(sensor), rule).cloned(),
            pending_for: self.waits.get(&(index, rule)).map(|wait| match *wait {
                Wait::Since(since) => ctx.now.mono.since(since),
                Wait::Held(elapsed) => Duration::from_nanos(elapsed),
            }),
            suppressed_by: rule.rule().suppressed_by.iter().copied().filter(is_active).collect(),
            frozen_by: rule.rule().frozen_by.iter().copied().filter(is_active).collect(),
        };
        Some(applies.map(report).collect())
    }
}
