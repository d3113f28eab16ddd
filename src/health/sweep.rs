//! The sweep: one pass of all rules over all sensors, every cadence, on one thread.
//!
//! It scans one state word of every slot and two of its own, and looks closer only at slots that changed or
//! whose time has come; an unchanged slot costs three loads. A look (`look`) judges all rules, in its slot if the
//! sensor is well, and moves hysteresis on. Order in a pass: doubt, gateways, sensors, sites; so that a gateway's
//! silence freezes its sensors before they are judged, and a site folds what was raised.
//!
//! The promise is a detection delay of at most one cadence. It is kept by sweeping a little more often than
//! the cadence says ([`Engine::period`]); a gap of more than two cadences is doubt.
//!
//! Cost: 16 bytes of columns and about 100 bytes of memory a slot, and a message only where one is active.

mod context;
mod folding;
mod gateways;
mod ledger;
mod look;
mod members;
mod pending;
mod slot;
#[cfg(test)]
mod tests;
mod why;

use std::time::Duration;

use ahash::HashMap;

use crate::health::catalogue::{RULES, RuleId, rules_of};
use crate::health::doubt::{Cause, Doubt, DoubtState};
use crate::health::message::{ActiveMessage, ClearReason, Subject, Transition, TransitionKind};
use crate::health::policy::{Policy, PolicyTable, Setting};
use crate::health::rules::{self, Input, Judged, Judgement, interval};
use crate::health::summary::{FleetCounts, SweepSummary};
use crate::health::version::{Day, SupportState, Version};
use crate::live::{LiveState, PolicyIndex, SlotHandle, SlotIndex, SlotState};
use crate::time::{MonoNanos, Now};
use crate::wire::heartbeat::{TI_VERSION_BYTES, VERSION_BYTES, inline};
use crate::wire::id::{SensorId, SiteId};

use ledger::{Ledger, Raise};
use members::support_of;
use slot::{SlotMemory, Wait, Waits};

pub use context::{Context, Lookup, NoLookup};
pub use why::RuleReport;

/// Wall time may wander this far from engine time between two sweeps before it counts as a step.
const CLOCK_STEP_MS: u64 = 1_500;
const HOLD_AFTER_STEP: Setting = Setting::of(RuleId::ClockDrift, "hold_after_step");

/// Where the journal gets its transitions: takes one, or gives it back when it is full.
pub type Offer<'a> = dyn FnMut(Transition) -> Result<(), Transition> + 'a;

/// The sweep's memory.
#[derive(Debug)]
pub struct Engine {
    cadence: Duration,
    doubt: Doubt,
    /// Since when the server listens.
    started: MonoNanos,
    last: Option<Now>,
    clock_step: MonoNanos,
    revision: u64,
    day: Day,
    /// Change counter of each slot at its last look.
    seen: Vec<u32>,
    /// When each slot must be looked at though it did not change; 0 = now, MAX = never.
    due: Vec<u64>,
    slots: Vec<SlotMemory>,
    waits: Waits,
    ledger: Ledger,
    sites: HashMap<u32, folding::Site>,
    /// Sites whose message began or ended in this sweep, and what their sensors are folded into now.
    folds: HashMap<u32, Option<SiteId>>,
    gateways: Vec<gateways::Gateway>,
    versions: Vec<([u8; VERSION_BYTES], SupportState)>,
    versions_by_text: HashMap<[u8; VERSION_BYTES], u16>,
    unknown: [u32; RULES],
    fleet: FleetCounts,
    restored: HashMap<Subject, Vec<ActiveMessage>>,
    restored_waits: HashMap<SensorId, Vec<(RuleId, bool, u64)>>,
    looks: Vec<(u32, SlotState)>,
}

/// What is the same for all slots of one sweep.
struct Pass<'a> {
    live: &'a LiveState,
    policies: &'a PolicyTable,
    ctx: &'a Context<'a>,
    now: Now,
    before: MonoNanos,
    first: bool,
    doubt_end: MonoNanos,
    clock_trusted: bool,
    newest_version: Option<Version>,
    newest_threat_intel: [u8; TI_VERSION_BYTES],
}

impl Engine {
    /// An engine that promises to find a silence within `cadence` of its deadline.
    pub fn new(cadence: Duration) -> Engine {
        Engine {
            cadence,
            doubt: Doubt::new(cadence),
            started: MonoNanos::NEVER,
            last: None,
            clock_step: MonoNanos::NEVER,
            revision: 0,
            day: Day(0),
            seen: Vec::new(),
            due: Vec::new(),
            slots: Vec::new(),
            waits: Waits::default(),
            ledger: Ledger::default(),
            sites: HashMap::default(),
            folds: HashMap::default(),
            gateways: Vec::new(),
            versions: vec![([0; VERSION_BYTES], SupportState::Unknown)],
            versions_by_text: HashMap::default(),
            unknown: [0; RULES],
            fleet: FleetCounts::default(),
            restored: HashMap::default(),
            restored_waits: HashMap::default(),
            looks: Vec::new(),
        }
    }

    /// Time from one sweep to the next that leaves room for a late wake-up within the promised cadence.
    pub fn period(&self) -> Duration {
        self.cadence - self.cadence / 10
    }

    /// The server listens from now on: every silence counts from here. Without this call, from the first sweep.
    pub fn note_start(&mut self, now: MonoNanos) {
        self.started = now;
        self.doubt.note_start(now);
    }

    /// A cause of doubt that lasts begins or ends: a dead listener, ingest that lags.
    pub fn set_doubt(&mut self, cause: Cause, lasts: bool, now: MonoNanos) {
        self.doubt.set_lasting(cause, lasts, now);
    }

    /// How far the engine trusts itself.
    pub fn doubt(&self) -> &DoubtState {
        self.doubt.state()
    }

    /// Messages that the journal has as active, after a restart and before the first sweep. What was deleted
    /// meanwhile is cleared by the first sweep; the rest goes on, without being raised again.
    pub fn restore(&mut self, active: Vec<ActiveMessage>) {
        for message in active {
            self.restored.entry(message.subject).or_default().push(message);
        }
    }

    /// All active messages, in no order.
    pub fn active(&self) -> impl Iterator<Item = &ActiveMessage> {
        self.ledger.messages().chain(self.restored.values().flatten())
    }

    /// One active message.
    pub fn active_message(&self, subject: Subject, rule: RuleId) -> Option<&ActiveMessage> {
        self.ledger.get((subject, rule))
    }

    /// The journal has written a transition down: its message is durable.
    pub fn acknowledge(&mut self, live: &LiveState, subject: Subject, rule: RuleId, kind: TransitionKind) {
        self.ledger.acknowledge((subject, rule), kind);
        if let Subject::Sensor(id) = subject
            && let Some(handle) = live.find(id)
        {
            let before = live.verdict(handle.index).journalled;
            let bits = match kind {
                TransitionKind::Raised => before | rule.bit(),
                TransitionKind::Cleared => before & !rule.bit(),
            };
            live.set_journalled(handle.index, bits);
        }
    }

    /// One pass. Transitions go to `offer`; what it refuses is offered again by the next sweep.
    pub fn sweep(
        &mut self,
        live: &LiveState,
        policies: &PolicyTable,
        ctx: &Context<'_>,
        offer: &mut Offer<'_>,
    ) -> SweepSummary {
        let now = ctx.now;
        live.set_wall(now);
        let first = self.last.is_none();
        if self.started.is_never() {
            self.note_start(now.mono);
        }
        let before = self.last.map_or(self.started, |last| last.mono);
        let gap = now.mono.since(before);
        let doubt_end = self.settle_doubt(now, before, gap);
        let newest = ctx.versions.newest(Day::of(now.unix));
        let pass = Pass {
            live,
            policies,
            ctx,
            now,
            before,
            first,
            doubt_end,
            clock_trusted: self.trusts_clock(policies, now.mono),
            newest_version: newest.map(|release| release.version),
            newest_threat_intel: ctx.lookup.newest_threat_intel().map_or([0; _], inline),
        };
        self.refresh(&pass);
        (self.ledger.raised, self.ledger.cleared) = (0, 0);
        let mut summary = SweepSummary { gap, slots: live.slots(), ..SweepSummary::default() };

        self.sweep_gateways(&pass, &mut summary);
        self.find_looks(live, now.mono);
        let looks = std::mem::take(&mut self.looks);
        summary.looked_at = looks.len() as u32;
        for &(index, state) in &looks {
            if !self.look(&pass, index, state, &mut summary) {
                summary.busy += 1;
            }
        }
        self.looks = looks;
        if first {
            self.clear_gone(&pass);
        }
        self.sweep_sites(&pass);

        let (offered, refused) = self.ledger.offer(offer);
        self.last = Some(now);
        summary.active = self.ledger.active;
        summary.active_muted = self.ledger.active_muted;
        summary.folded = self.ledger.folded;
        summary.unknown = self.unknown;
        summary.fleet = self.fleet.clone();
        summary.raised = self.ledger.raised;
        summary.cleared = self.ledger.cleared;
        summary.offered = offered;
        summary.refused = u32::from(refused);
        summary.waiting = self.ledger.waiting();
        summary.doubt = self.doubt.state().clone();
        summary
    }

    /// Wall time did not jump lately.
    fn trusts_clock(&self, policies: &PolicyTable, now: MonoNanos) -> bool {
        let hold = Duration::from_nanos(policies.default_policy().nanos(HOLD_AFTER_STEP));
        self.clock_step.is_never() || now.since(self.clock_step) >= hold
    }

    fn settle_doubt(&mut self, now: Now, before: MonoNanos, gap: Duration) -> MonoNanos {
        if gap > 2 * self.cadence {
            self.doubt.note(Cause::Lag, before, now.mono);
        }
        if let Some(last) = self.last {
            let engine_ms = i64::try_from(gap.as_millis()).unwrap_or(i64::MAX);
            let step = (now.unix.0.saturating_sub(last.unix.0)).saturating_sub(engine_ms);
            if step.unsigned_abs() > CLOCK_STEP_MS {
                self.doubt.note(Cause::ClockStep, last.mono, now.mono);
                self.clock_step = now.mono;
            }
        }
        self.doubt.settle(now.mono)
    }

    /// Judges everything anew when the day, the policies or the desired state changed.
    fn refresh(&mut self, pass: &Pass<'_>) {
        let today = Day::of(pass.now.unix);
        if today == self.day && pass.ctx.revision == self.revision {
            return;
        }
        (self.day, self.revision) = (today, pass.ctx.revision);
        for (text, support) in &mut self.versions {
            *support = support_of(text, pass.ctx.versions, today);
        }
        self.due.fill(0);
    }

    /// Finds the slots that changed or are due.
    fn find_looks(&mut self, live: &LiveState, now: MonoNanos) {
        self.looks.clear();
        for columns in live.columns() {
            let first = columns.first.0 as usize;
            let end = first + columns.len();
            if self.slots.len() < end {
                self.seen.resize(end, 0);
                self.due.resize(end, 0);
                self.slots.resize(end, SlotMemory::EMPTY);
            }
            let mine = self.seen[first..end].iter().zip(&self.due[first..end]);
            for (place, ((&seen, &due), place_index)) in mine.zip(columns.first.0..).enumerate() {
                let state = columns.state(place);
                if state.changes != seen || due <= now.0 {
                    self.looks.push((place_index, state));
                }
            }
        }
    }

    /// Moves one group of rules on. Gives the next instant at which something happens by itself.
    fn settle_group(
        &mut self,
        pass: &Pass<'_>,
        memory: &mut SlotMemory,
        input: &mut Input<'_>,
        step: &Step<'_>,
        summary: &mut SweepSummary,
    ) -> u64 {
        let now = pass.now.mono;
        let Step { index, group, ref masked, judged, .. } = *step;
        let mut due = u64::MAX;
        let end_wait = |waits: &mut Waits, memory: &mut SlotMemory, rule: RuleId| {
            waits.remove(&(index, rule));
            memory.waiting &= !rule.bit();
        };
        for rule in rules_of(masked.forced) {
            end_wait(&mut self.waits, memory, rule);
            memory.active &= !rule.bit();
            let superseded = step_superseded(rule, memory.active);
            let reason = if superseded { ClearReason::Superseded } else { ClearReason::NotApplicable };
            self.ledger.clear(
                (Subject::Sensor(memory.id), rule),
                Some(input.sensor.handle),
                reason,
                pass.now,
            );
        }
        let active = memory.active & group;
        let waiting = memory.waiting & group;
        // What was on its way and is off it: a raise that does not hold any more, an end that holds again.
        let off = waiting & !masked.unknown & ((!active & !masked.holds) | (active & masked.holds));
        for rule in rules_of(off) {
            end_wait(&mut self.waits, memory, rule);
        }
        // What can't be judged stands still.
        for rule in rules_of(waiting & masked.unknown) {
            if let Some(wait) = self.waits.get_mut(&(index, rule))
                && let Wait::Since(since) = *wait
            {
                *wait = Wait::Held(now.0.saturating_sub(since.0));
            }
        }
        for rule in rules_of(masked.holds & !active) {
            let hold = raise_after(rule, input);
            let timed = judged.timed & rule.bit() != 0;
            let since = match rules::judge(rule, input) {
                Judgement::HoldsFrom(from) if timed => from,
                _ if hold == Duration::ZERO => now,
                _ => wait_since(&mut self.waits, memory, index, rule, now),
            };
            let deadline = since.plus(hold);
            if deadline > now {
                due = due.min(deadline.0);
                continue;
            }
            end_wait(&mut self.waits, memory, rule);
            let delay = (timed && rule.rule().silence).then(|| {
                // News that came after the last sweep could not have been judged by it.
                let floor = if step.news { pass.before } else { MonoNanos::NEVER };
                now.since(deadline.max(floor))
            });
            self.raise(pass, memory, input, rule, since, delay, summary);
        }
        for rule in rules_of(active & !masked.holds & !masked.unknown) {
            let hold = Duration::from_nanos(input.policy.nanos(Setting::clear_after(rule)));
            if hold > Duration::ZERO {
                let ends = wait_since(&mut self.waits, memory, index, rule, now).plus(hold);
                if ends > now {
                    due = due.min(ends.0);
                    continue;
                }
            }
            end_wait(&mut self.waits, memory, rule);
            memory.active &= !rule.bit();
            let key = (Subject::Sensor(memory.id), rule);
            self.ledger.clear(key, Some(input.sensor.handle), ClearReason::Recovered, pass.now);
        }
        if memory.active & group != active {
            // A rule that just ended or began has its own next instant: look again at once.
            let again = Input { active: memory.active, ..*input };
            due = due.min(rules::judge_all(&again).due);
        }
        input.active = memory.active;
        due
    }

    #[expect(clippy::too_many_arguments, reason = "all of one sensor's moment")]
    fn raise(
        &mut self,
        pass: &Pass<'_>,
        memory: &mut SlotMemory,
        input: &Input<'_>,
        rule: RuleId,
        since: MonoNanos,
        detection_delay: Option<Duration>,
        summary: &mut SweepSummary,
    ) {
        memory.active |= rule.bit();
        if let Some(delay) = detection_delay {
            summary.detection_delays.push((rule, delay));
        }
        let site = input.sensor.facts.site;
        let folds = rule == RuleId::Disconnected && self.sites.get(&site.0).is_some_and(|site| site.active);
        let raise = Raise {
            subject: Subject::Sensor(memory.id),
            slot: Some(input.sensor.handle),
            rule,
            since,
            detection_delay,
            folded_into: if folds { pass.ctx.lookup.site(site) } else { None },
            muted: input.sensor.facts.muted,
            evidence: rules::evidence_of(rule, input),
        };
        self.ledger.raise(raise, pass.now);
    }
}

/// One group of one look.
struct Step<'j> {
    index: u32,
    group: u64,
    masked: slot::Masked,
    judged: &'j Judged,
    /// The slot changed since the last look.
    news: bool,
}

/// A message ends because a stronger one says the same, not because the sensor changed its kind.
fn step_superseded(rule: RuleId, active: u64) -> bool {
    let pending = RuleId::PendingActivation.bit() | RuleId::PendingReactivation.bit();
    rule.rule().suppressed_by.iter().any(|by| active & !pending & by.bit() != 0)
}

fn raise_after(rule: RuleId, input: &Input<'_>) -> Duration {
    let hold = Duration::from_nanos(input.policy.nanos(Setting::raise_after(rule)));
    hold.max(interval(input.sensor) * rule.rule().raise_after_intervals)
}

/// Since when a rule is on its way: from now, or going on from where it stood still.
fn wait_since(
    waits: &mut Waits,
    memory: &mut SlotMemory,
    index: u32,
    rule: RuleId,
    now: MonoNanos,
) -> MonoNanos {
    memory.waiting |= rule.bit();
    let wait = waits.entry((index, rule)).or_insert(Wait::Since(now));
    match *wait {
        Wait::Since(since) => since,
        Wait::Held(elapsed) => {
            let since = now.minus(Duration::from_nanos(elapsed));
            *wait = Wait::Since(since);
            since
        }
    }
}

/// The policy that judges gateways and sites.
fn common(policies: &PolicyTable) -> &Policy {
    policies.get(PolicyIndex(0))
}

/// A stale handle, for tests and reports.
fn handle_of(memory: &SlotMemory, index: u32) -> SlotHandle {
    SlotHandle { index: SlotIndex(index), generation: memory.generation }
}
