//! What a run hears: every transition that was journalled, every time in doubt, and the figures of now.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::doubts::Doubts;
use super::late::Latest;
use super::report::{Delays, Outcome};
use super::script::{Acts, Script};
use super::truth::{Seen, Truth, judge};
use super::view::{Moment, View};
use crate::health::{OverallState, Subject, SweepSummary, Transition, TransitionKind, rules_of};
use crate::limits::DEMO_TRANSITIONS_MAX;
use crate::sensor::sim::{FleetStats, Played};
use crate::server::Server;
use crate::server::tap::Tap;
use crate::time::{Clock, MonoNanos};

/// The script stands still for at most this share of its length, one part of so many: more doubt than that
/// fails a check anyway.
pub const DOUBT_SHARE: u32 = 5;

/// Heartbeats a second are told over this time.
const RATE_SPAN: Duration = Duration::from_secs(5);

/// Ears and eyes of a run.
pub struct Watch {
    server: Arc<Server>,
    tap: Tap,
    names: HashMap<Subject, String>,
    seen: Vec<Seen>,
    journalled: u64,
    doubts: Doubts,
    registered: MonoNanos,
    /// When the script began.
    started: Option<MonoNanos>,
    /// Heartbeats received before it did.
    received_before: u64,
    played: BTreeMap<usize, Played>,
    /// Heartbeats received, now and then.
    rate: VecDeque<(MonoNanos, u64)>,
}

impl Watch {
    /// From before the fleet is registered.
    pub fn new(server: Arc<Server>, tap: Tap) -> Watch {
        let registered = server.clock().mono();
        Watch {
            server,
            tap,
            names: HashMap::new(),
            seen: Vec::new(),
            journalled: 0,
            doubts: Doubts::default(),
            registered,
            started: None,
            received_before: 0,
            played: BTreeMap::new(),
            rate: VecDeque::new(),
        }
    }

    /// The fleet was registered then, under these names.
    pub fn registered(&mut self, at: MonoNanos, names: HashMap<Subject, String>) {
        self.registered = at;
        self.names = names;
    }

    /// The script begins.
    pub fn start(&mut self) {
        self.started = Some(self.server.clock().mono());
        self.received_before = self.received();
    }

    /// A fault began or ended.
    pub fn note(&mut self, played: Played) {
        self.played.insert(played.fault, played);
    }

    /// Hears what is new. Call it several times a second.
    pub fn look(&mut self) {
        let news: Vec<_> = self.tap.drain().collect();
        for transition in news {
            self.journalled += 1;
            if self.seen.len() < DEMO_TRANSITIONS_MAX {
                let seen = self.seen_of(&transition);
                self.seen.push(seen);
            }
        }
        self.doubts.take(&self.server.board().summary().doubt);
        let now = self.server.clock().mono();
        self.rate.push_back((now, self.received()));
        while self.rate.front().is_some_and(|(at, _)| now.since(*at) > RATE_SPAN) {
            self.rate.pop_front();
        }
    }

    /// How long the script has stood still, because the engine doubts itself. A gap in the sweeps counts
    /// already before the engine can note it.
    pub fn held(&mut self, length: Duration) -> Duration {
        let Some(started) = self.started else { return Duration::ZERO };
        let last = self.server.board().totals(|totals| totals.last);
        self.doubts.take(&self.server.board().summary().doubt);
        let gap = self.server.clock().mono().since(last.max(started));
        let unnoted = if gap > 2 * self.server.cadence() { gap } else { Duration::ZERO };
        (self.doubts.length_since(started) + unnoted).min(length / DOUBT_SHARE)
    }

    /// True when every sensor that should be heard is, and nothing is said about silence any more.
    pub fn all_heard(&self) -> bool {
        use crate::health::RuleId::{Disconnected, GatewaySilent, SiteOutage};
        let summary = self.server.board().summary();
        summary.fleet.total() > 0
            && summary.fleet.in_state(OverallState::Unknown) == 0
            && [Disconnected, GatewaySilent, SiteOutage].iter().all(|rule| summary.active_of(*rule) == 0)
    }

    /// The comparison as of now.
    pub fn truth(&self, script: &Script, interrupted: bool, end: MonoNanos) -> Truth {
        let played: Vec<_> = self.played.values().copied().collect();
        let acts = self.acts(&played, interrupted, end);
        judge(&script.expectations(&acts), &self.seen, end)
    }

    fn acts<'p>(&self, played: &'p [Played], interrupted: bool, end: MonoNanos) -> Acts<'p> {
        let (registered, started) = (self.registered, self.started.unwrap_or(end));
        Acts { registered, started, end, interrupted, played }
    }

    /// The result of the whole run. After the server has stopped: then the journal is complete.
    pub fn outcome(
        &mut self,
        script: &Script,
        interrupted: bool,
        end: MonoNanos,
        fleet: FleetStats,
        latest: Latest,
    ) -> Outcome {
        self.look();
        let started = self.started.unwrap_or(end);
        let played: Vec<_> = self.played.values().copied().collect();
        let acts = self.acts(&played, interrupted, end);
        let counters = self.server.ingest().counters().snapshot();
        Outcome {
            scenario: script.plan.name.clone(),
            sensors: script.plan.sensors.len(),
            gateways: script.plan.gateways.len(),
            started,
            ran: end.since(started),
            interrupted,
            truth: self.truth(script, interrupted, end),
            fell_out: script.fell_out.clone(),
            cut_short: script.cut_short(&acts),
            doubts: self.doubts.since(self.registered).collect(),
            doubt: self.doubts.length_since(started),
            doubts_missing: self.doubts.missing(),
            delays: self.delays(),
            cadence: self.server.cadence(),
            journalled: self.server.store().journal.len().map_err(|error| error.to_string()),
            heard: self.journalled,
            kept: self.seen.len() as u64,
            received: counters.frames - self.received_before.min(counters.frames),
            kernel_drops: counters.kernel_drops,
            fleet,
            latest,
        }
    }

    /// What there is to see now.
    pub fn view(&self, script: &Script, moment: Moment) -> View {
        let now = self.server.clock().mono();
        let summary = self.server.board().summary();
        let counters = self.server.ingest().counters().snapshot();
        let started = self.started.unwrap_or(now);
        View {
            moment,
            elapsed: now.since(started),
            length: script.plan.duration,
            connected: counters.sensors + counters.gateways,
            states: OverallState::ALL.map(|state| (state, summary.fleet.in_state(state))),
            messages: messages(&summary),
            faults: self.faults_on(script, now),
            next: self.next_fault(script),
            beats_per_second: self.beats_per_second(),
            received: counters.frames,
            delays: self.delays(),
            doubt: self.doubts.length_since(started),
            doubting: summary.doubt.lasting.iter().map(|cause| cause.as_str()).collect(),
            truth: self.truth(script, true, now),
            journalled: self.journalled,
        }
    }

    fn faults_on(&self, script: &Script, now: MonoNanos) -> Vec<(String, Duration)> {
        let on = self.played.values().filter(|played| played.ended.is_none());
        on.map(|played| (&script.plan.faults[played.fault], now.since(played.started)))
            .filter(|(fault, _)| !fault.kind.is_standing())
            .map(|(fault, since)| (fault.name.clone(), since))
            .collect()
    }

    fn next_fault(&self, script: &Script) -> Option<(String, Duration)> {
        let coming =
            script.plan.faults.iter().enumerate().filter(|(place, _)| !self.played.contains_key(place));
        let next = coming.map(|(_, fault)| fault).min_by_key(|fault| fault.from)?;
        Some((next.name.clone(), next.from))
    }

    fn delays(&self) -> Delays {
        self.server.board().totals(|totals| {
            let delays = &totals.detection_delay_us;
            let at = |quantile| Duration::from_micros(delays.value_at_quantile(quantile));
            Delays { count: delays.len(), p50: at(0.5), p99: at(0.99), max: at(1.0) }
        })
    }

    fn received(&self) -> u64 {
        self.server.ingest().counters().shards.iter().map(|shard| shard.frames.get()).sum()
    }

    fn beats_per_second(&self) -> f64 {
        let (Some((from, before)), Some((to, after))) = (self.rate.front(), self.rate.back()) else {
            return 0.0;
        };
        let seconds = to.since(*from).as_secs_f64();
        if seconds > 0.0 { after.saturating_sub(*before) as f64 / seconds } else { 0.0 }
    }

    fn seen_of(&self, transition: &Transition) -> Seen {
        let subject = self.names.get(&transition.subject).cloned();
        Seen {
            // Nothing but the scenario's fleet is registered here.
            subject: subject.unwrap_or_else(|| format!("{:?}", transition.subject)),
            code: transition.rule.code(),
            raised: transition.kind == TransitionKind::Raised,
            at: transition.at_mono,
        }
    }
}

/// Active messages by rule, worst and most first.
fn messages(summary: &SweepSummary) -> Vec<(crate::health::RuleId, u32)> {
    let all = rules_of(u64::MAX).map(|rule| (rule, summary.active_of(rule)));
    let mut active: Vec<_> = all.filter(|(_, count)| *count > 0).collect();
    active.sort_by_key(|(rule, count)| (rule.rule().severity, u32::MAX - count, *rule));
    active
}
