//! A look at one slot that changed or is due: all rules are judged, and what follows is remembered.
//!
//! There are two ways to look. Nearly all sensors are well, as they were; a *glance* at one of them judges it in its
//! slot and has only the next deadline to remember. Whatever else there may be to do (a message, a rule on its way, a
//! new sensor, another site or version) is done with a whole snapshot. Both judge by the same predicates, over
//! [`Vitals`]; the glance decides nothing by itself.

use super::slot::{self, Class, GROUPS, SlotMemory};
use super::{Engine, Pass, Step, gateways};
use crate::health::catalogue::{RuleId, rules_of};
use crate::health::message::Subject;
use crate::health::rules::{self, Ground, Input, Judged};
use crate::health::summary::SweepSummary;
use crate::health::version::SupportState;
use crate::live::{Lifecycle, SlotFacts, SlotFlags, SlotIndex, SlotState, Vitals};
use crate::time::MonoNanos;

/// What a look at a sensor gives, before its hysteresis moves on.
struct Seen {
    judged: Judged,
    /// Rules that apply to its type.
    applies: u64,
    facts: SlotFacts,
    gateway: u32,
    gateway_silent: bool,
    support: SupportState,
    /// Heard since this process started.
    heard: bool,
}

impl Seen {
    /// No rule is active, begins, or is on its way.
    #[inline]
    fn is_quiet(&self, memory: &SlotMemory) -> bool {
        self.judged.holds & self.applies | memory.active | memory.waiting == 0
    }

    /// By what the sensor is counted, with these rules active.
    #[inline]
    fn class(&self, active: u64) -> Class {
        Class {
            kind: self.facts.kind,
            lifecycle: self.facts.lifecycle,
            muted: self.facts.muted,
            state: slot::overall(self.facts, active, self.gateway_silent, self.heard),
            support: self.support,
            site: self.facts.site.0,
            at_site: slot::counts_at_site(self.facts, active, self.gateway_silent),
        }
    }

    /// Quiet, and nothing that is remembered of it changed.
    #[inline]
    fn is_quiet_as_before(&self, memory: &SlotMemory) -> bool {
        self.is_quiet(memory)
            && self.judged.unknown & self.applies == memory.unknown
            && self.heard == memory.heard
            && self.gateway == memory.gateway
            && self.class(memory.active) == memory.class
    }
}

impl Engine {
    /// Looks at one slot. `false`: a writer kept getting between, so it is left for the next sweep.
    pub(super) fn look(
        &mut self,
        pass: &Pass<'_>,
        index: u32,
        state: SlotState,
        summary: &mut SweepSummary,
    ) -> bool {
        let place = index as usize;
        if !state.flags.has(SlotFlags::OCCUPIED) {
            self.forget(pass, index);
            self.seen[place] = state.changes;
            self.due[place] = u64::MAX;
            return true;
        }
        if let Some(due) = self.glance(pass, index) {
            self.seen[place] = state.changes;
            self.due[place] = due;
            return true;
        }
        // A policy that is younger than the table of this sweep is in that of the next.
        let sensor = pass.live.snapshot(SlotIndex(index));
        let Some(sensor) = sensor.filter(|sensor| pass.policies.knows(sensor.facts.policy)) else {
            self.due[place] = 0;
            return false;
        };
        let news = self.seen[place] != state.changes;
        if self.slots[place].generation != sensor.handle.generation {
            self.forget(pass, index);
            self.adopt(pass, index, &sensor);
        }
        let mut memory = self.slots[place];
        if memory.class.lifecycle != Lifecycle::Active
            && sensor.facts.lifecycle == Lifecycle::Active
            && !pass.first
        {
            memory.armed = pass.now.mono;
        }
        memory.version = self.version_of(pass, &sensor, memory.version);
        let support = self.support(pass, &sensor, memory.version);
        let mut input = self.input(pass, &memory, &sensor, support);
        let seen = self.judge(pass, &memory, &input);
        let mut due = seen.judged.due;
        let mut unknown = 0;
        if seen.is_quiet(&memory) {
            unknown = seen.judged.unknown & seen.applies;
        } else {
            for group in GROUPS {
                let masked = slot::mask(group, seen.applies, memory.active, &seen.judged);
                unknown |= masked.unknown;
                let step = Step { index, group, masked, judged: &seen.judged, news };
                due = due.min(self.settle_group(pass, &mut memory, &mut input, &step, summary));
            }
        }
        self.keep(pass, index, state, memory, &seen, unknown, due);
        true
    }

    /// The ordinary look, at a sensor that is well, was well, and is counted as before: it is judged in its slot, by the
    /// same predicates, nothing is copied, and all that is new is the next instant at which something may happen.
    /// `None` when there is more to do than to remember that.
    #[inline]
    fn glance(&self, pass: &Pass<'_>, index: u32) -> Option<u64> {
        let memory = &self.slots[index as usize];
        if memory.active | memory.waiting != 0 || memory.class.lifecycle != Lifecycle::Active {
            return None;
        }
        let (text, support) = &self.versions[usize::from(memory.version)];
        let due = pass.live.glance(SlotIndex(index), |generation, sensor| {
            if generation != memory.generation || !sensor.heard_since_start() || !sensor.version_is(text) {
                return None;
            }
            if !pass.policies.knows(sensor.facts().policy) {
                return None;
            }
            let seen = self.judge(pass, memory, &self.input(pass, memory, sensor, *support));
            seen.is_quiet_as_before(memory).then_some(seen.judged.due)
        });
        due.flatten()
    }

    /// Everything that the rules of a sensor may look at.
    #[inline]
    fn input<'i, V: Vitals>(
        &self,
        pass: &Pass<'i>,
        memory: &SlotMemory,
        sensor: &'i V,
        support: SupportState,
    ) -> Input<'i, V> {
        let facts = sensor.facts();
        let gateway = self.gateways.get(self.gateway_of(pass, sensor, memory) as usize);
        let resumed = gateway.map_or(MonoNanos::NEVER, |gateway| gateway.resumed);
        let wants_settings = slot::applicable(facts.kind) & RuleId::SettingsOutOfSync.bit() != 0;
        let ground = Ground {
            trusted_since: pass.doubt_end.max(memory.armed).max(resumed),
            gateway_silent: gateway.is_some_and(gateways::Gateway::is_silent),
            clock_trusted: pass.clock_trusted,
            support,
            newest_version: pass.newest_version,
            desired_settings: wants_settings.then(|| pass.ctx.lookup.desired_settings(memory.id)).flatten(),
            newest_threat_intel: pass.newest_threat_intel,
        };
        let policy = pass.policies.get(facts.policy);
        Input { sensor, policy, now: pass.now, active: memory.active, ground }
    }

    /// Judges all rules of a sensor, and says how it is to be counted.
    #[inline]
    fn judge<V: Vitals>(&self, pass: &Pass<'_>, memory: &SlotMemory, input: &Input<'_, V>) -> Seen {
        let sensor = input.sensor;
        let known = !sensor.last_heartbeat().is_never();
        let facts = sensor.facts();
        Seen {
            judged: rules::judge_all(input),
            applies: slot::applicable(facts.kind),
            facts,
            gateway: self.gateway_of(pass, sensor, memory),
            gateway_silent: input.ground.gateway_silent,
            support: if known { input.ground.support } else { SupportState::Unknown },
            heard: sensor.heard_since_start(),
        }
    }

    /// Remembers what a look gave, and writes the verdict where it changed.
    #[expect(clippy::too_many_arguments, reason = "all of one look")]
    fn keep(
        &mut self,
        pass: &Pass<'_>,
        index: u32,
        state: SlotState,
        mut memory: SlotMemory,
        seen: &Seen,
        unknown: u64,
        due: u64,
    ) {
        let place = index as usize;
        self.count_unknown(memory.unknown, unknown);
        for rule in rules_of((memory.unknown ^ unknown) & memory.active) {
            self.ledger.set_unknown((Subject::Sensor(memory.id), rule), unknown & rule.bit() != 0);
        }
        memory.unknown = unknown;
        memory.gateway = seen.gateway;
        memory.heard = seen.heard;
        let class = seen.class(memory.active);
        self.reclass(pass, &memory, class);
        memory.class = class;
        let before = &self.slots[place];
        if before.active != memory.active || before.unknown != memory.unknown {
            pass.live.set_verdict(SlotIndex(index), memory.active, memory.unknown);
        }
        if before.class.state != class.state {
            pass.live.set_overall(SlotIndex(index), class.state.number());
        }
        self.slots[place] = memory;
        self.seen[place] = state.changes;
        self.due[place] = due;
    }
}
