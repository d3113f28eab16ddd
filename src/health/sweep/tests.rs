use std::collections::HashSet;

use super::*;
use crate::health::policy::PolicyPatch;
use crate::health::version::VersionTable;
use crate::live::{GatewayIndex, Lifecycle, OwnerRef, SensorType, SiteIndex, SlotFacts, Writer};
use crate::time::{MONO_ORIGIN, UnixMillis};
use crate::wire::frame::{read_frame, write_frame};
use crate::wire::heartbeat::{Heartbeat, NtpState};
use crate::wire::id::{GatewayId, SiteId};

const SITE: SiteIndex = SiteIndex(1);
const SILENT: RuleId = RuleId::Disconnected;

struct Sites;

impl Lookup for Sites {
    fn site(&self, site: SiteIndex) -> Option<SiteId> {
        Some(SiteId::from_number(u64::from(site.0)))
    }

    fn desired_settings(&self, _: SensorId) -> Option<u64> {
        None
    }

    fn newest_threat_intel(&self) -> Option<&str> {
        None
    }
}

/// An engine over a small fleet, its journal, and time in seconds since the start.
struct Bench {
    live: LiveState,
    engine: Engine,
    policies: PolicyTable,
    versions: VersionTable,
    /// Now, in seconds.
    now: f64,
    sequence: u64,
    /// Moves when everything must be judged anew.
    revision: u64,
    /// The journal takes transitions.
    takes: bool,
    /// Taken and not written.
    taken: Vec<Transition>,
    journal: HashSet<(Subject, RuleId)>,
}

fn mono(seconds: f64) -> MonoNanos {
    MONO_ORIGIN.plus(Duration::from_secs_f64(seconds))
}

fn owner(connection: u32) -> OwnerRef {
    OwnerRef { node: 0, shard: 0, connection }
}

fn subject(number: u64) -> Subject {
    Subject::Sensor(SensorId::from_number(number))
}

fn facts(lifecycle: Lifecycle) -> SlotFacts {
    let (site, policy) = (SITE, PolicyIndex(0));
    SlotFacts { kind: SensorType::OtCloud, lifecycle, site, policy, muted: false }
}

fn no_ntp(beat: &mut Heartbeat) {
    beat.ntp_state = NtpState::Unreachable.to_wire();
}

/// Silent after 10 s, raised at once; a gateway after 5 s.
fn policy(more: &[(&str, &str, f64)]) -> Policy {
    let mut patch = PolicyPatch::new();
    let usual = [
        ("disconnected", "silence_after", 10.0),
        ("disconnected", "raise_after", 0.0),
        ("disconnected", "missed_intervals", 1.0),
        ("gateway-silent", "silence_after", 5.0),
        ("gateway-silent", "raise_after", 0.0),
    ];
    for (code, key, value) in usual.iter().chain(more) {
        patch.set_named(code, key, *value).expect("a setting");
    }
    Policy::default().with(&patch).expect("a policy")
}

impl Bench {
    fn new() -> Bench {
        Bench::with(&[])
    }

    fn with(settings: &[(&str, &str, f64)]) -> Bench {
        let mut engine = Engine::new(Duration::from_secs(1));
        engine.note_start(mono(0.0));
        Bench {
            live: LiveState::with_capacity(64),
            engine,
            policies: PolicyTable::new(policy(settings)),
            versions: VersionTable::default(),
            now: 0.0,
            sequence: 0,
            revision: 0,
            takes: true,
            taken: Vec::new(),
            journal: HashSet::new(),
        }
    }

    fn insert(&self, number: u64) -> SlotHandle {
        self.live.insert(SensorId::from_number(number), facts(Lifecycle::Active)).expect("room")
    }

    fn gateway(&self) -> GatewayIndex {
        self.live.insert_gateway(GatewayId::from_number(1), &[SITE]).expect("room")
    }

    fn frame(&mut self, number: u64, change: impl FnOnce(&mut Heartbeat)) -> Vec<u8> {
        self.sequence += 1;
        let mut beat = Heartbeat {
            sensor_id: SensorId::from_number(number).0,
            sequence: self.sequence,
            interval_ms: 1_000,
            sensor_clock_unix_us: self.wall().0 * 1_000,
            ..Heartbeat::default()
        };
        change(&mut beat);
        let mut bytes = Vec::new();
        write_frame(&beat, 0, &mut bytes);
        bytes
    }

    /// A heartbeat by a connection of its own.
    fn hear(&mut self, number: u64, change: impl FnOnce(&mut Heartbeat)) {
        let bytes = self.frame(number, change);
        let handle = self.live.find(SensorId::from_number(number)).expect("registered");
        let epoch = self.live.take(handle, owner(number as u32), UnixMillis(i64::MAX), mono(self.now));
        let writer = Writer::Direct { epoch: epoch.expect("registered").epoch };
        self.live.observe(handle, writer, &read_frame(&bytes).expect("ours").0, mono(self.now));
    }

    /// A heartbeat by the gateway.
    fn hear_by(&mut self, number: u64, gateway: GatewayIndex) {
        let bytes = self.frame(number, |_| ());
        let handle = self.live.find(SensorId::from_number(number)).expect("registered");
        self.live.gateway_take(gateway, owner(99), mono(self.now)).expect("registered");
        let frame = read_frame(&bytes).expect("ours").0;
        self.live.observe(handle, Writer::Gateway(gateway), &frame, mono(self.now));
    }

    fn wall(&self) -> UnixMillis {
        UnixMillis(1_795_478_400_000).plus(Duration::from_secs_f64(self.now))
    }

    /// The clock says so many seconds, and a sweep is made.
    fn sweep_at(&mut self, now: f64) -> SweepSummary {
        self.now = now;
        let ctx = Context {
            now: Now { mono: mono(now), unix: self.wall() },
            versions: &self.versions,
            lookup: &Sites,
            revision: self.revision,
        };
        let (takes, taken) = (self.takes, &mut self.taken);
        let mut offer = |transition: Transition| {
            if takes {
                taken.push(transition);
                Ok(())
            } else {
                Err(transition)
            }
        };
        self.engine.sweep(&self.live, &self.policies, &ctx, &mut offer)
    }

    /// A sweep each second up to `until`; gives the time at which a message is there, if it is in one.
    fn sweep_until(&mut self, until: f64, key: (Subject, RuleId)) -> Option<f64> {
        let mut at = None;
        while self.now < until {
            self.sweep_at(self.now + 1.0);
            let active = self.engine.active_message(key.0, key.1).is_some();
            at = active.then(|| at.unwrap_or(self.now));
        }
        at
    }

    /// The journal writes down what it took.
    fn write_down(&mut self) {
        for transition in std::mem::take(&mut self.taken) {
            let key = (transition.subject, transition.rule);
            match transition.kind {
                TransitionKind::Raised => assert!(self.journal.insert(key), "raised twice"),
                TransitionKind::Cleared => assert!(self.journal.remove(&key), "cleared, never raised"),
            }
            self.engine.acknowledge(&self.live, key.0, key.1, transition.kind);
        }
    }

    fn is_durable(&self, number: u64, rule: RuleId) -> bool {
        self.engine.active_message(subject(number), rule).expect("active").durable
    }

    fn verdict(&self, number: u64) -> crate::live::Verdict {
        let handle = self.live.find(SensorId::from_number(number)).expect("registered");
        self.live.verdict(handle.index)
    }
}

#[test]
fn a_silence_is_raised_by_the_first_sweep_at_its_deadline() {
    let mut bench = Bench::new();
    bench.insert(1);
    bench.sweep_at(1.0);
    bench.now = 1.5;
    bench.hear(1, |_| ());
    assert_eq!(bench.sweep_until(10.0, (subject(1), SILENT)), None);
    let summary = bench.sweep_at(11.5);
    assert_eq!(summary.raised, 1, "silent since 1.5 s, for exactly 10 s");
    assert_eq!(summary.detection_delays, [(SILENT, Duration::ZERO)]);
}

#[test]
fn a_first_sweep_that_comes_late_is_doubt() {
    let mut bench = Bench::new();
    bench.insert(1);
    let summary = bench.sweep_at(60.0);
    assert_eq!(summary.gap, Duration::from_secs(60));
    assert_eq!(summary.doubt.count[Cause::Lag as usize], 1);
    assert_eq!(bench.sweep_until(69.0, (subject(1), SILENT)), None);
    assert_eq!(bench.sweep_until(75.0, (subject(1), SILENT)), Some(70.0));
}

#[test]
fn a_gateway_that_is_registered_again_is_judged_from_there() {
    let key = (Subject::Gateway(GatewayId::from_number(1)), RuleId::GatewaySilent);
    for seen_gone in [true, false] {
        let mut bench = Bench::new();
        let gateway = bench.gateway();
        bench.insert(1);
        bench.sweep_at(1.0);
        bench.hear_by(1, gateway);
        bench.sweep_at(2.0);
        bench.live.remove_gateway(GatewayId::from_number(1)).expect("registered");
        if seen_gone {
            assert_eq!(bench.sweep_until(20.0, key), None);
        } else {
            // The process sweeps on, and nobody hears of the gateway: it is not silent yet.
            bench.now = 2.9;
        }
        assert_eq!(bench.gateway(), gateway);
        let again = bench.live.gateway_snapshot(gateway).expect("registered");
        assert!(again.last_seen.is_never() && again.reconnects == 0);
        let now = bench.now;
        bench.sweep_at(now + 1.0);
        assert_eq!(bench.sweep_until(now + 5.0, key), None);
        // A sensor came by it once, so it is expected; it has five seconds from its registration.
        assert_eq!(bench.sweep_until(now + 9.0, key), Some(now + 6.0));
    }
}

#[test]
fn a_message_that_ends_and_comes_back_untaken_stays_as_durable_as_it_was() {
    let mut bench = Bench::new();
    bench.insert(1);
    assert!(bench.sweep_until(11.0, (subject(1), SILENT)).is_some());
    assert!(!bench.is_durable(1, SILENT), "nothing is written yet");
    bench.write_down();
    assert!(bench.is_durable(1, SILENT));
    // Heard, and silent again, while the journal takes nothing.
    bench.takes = false;
    bench.hear(1, |_| ());
    bench.sweep_at(12.0);
    assert!(bench.engine.active_message(subject(1), SILENT).is_none());
    assert_eq!(bench.sweep_until(23.0, (subject(1), SILENT)), Some(21.0));
    assert!(bench.is_durable(1, SILENT), "for the journal it went on");
    bench.takes = true;
    let summary = bench.sweep_at(24.0);
    assert_eq!((summary.offered, summary.waiting), (0, 0));
    assert_eq!(bench.verdict(1).active, bench.verdict(1).journalled);
}

#[test]
fn a_raise_is_not_durable_because_an_older_one_was_written() {
    let mut bench = Bench::new();
    bench.insert(1);
    bench.sweep_until(11.0, (subject(1), SILENT));
    bench.hear(1, |_| ());
    bench.sweep_at(12.0);
    bench.sweep_until(22.0, (subject(1), SILENT));
    let kinds: Vec<_> = bench.taken.iter().map(|transition| transition.kind).collect();
    assert_eq!(kinds, [TransitionKind::Raised, TransitionKind::Cleared, TransitionKind::Raised]);
    for durable in [false, false, true] {
        assert!(!bench.is_durable(1, SILENT));
        let transition = bench.taken.remove(0);
        bench.engine.acknowledge(&bench.live, transition.subject, SILENT, transition.kind);
        assert_eq!(bench.is_durable(1, SILENT), durable);
    }
}

#[test]
fn a_sensor_that_is_added_again_in_a_slot_before_its_old_one_keeps_its_message() {
    let mut bench = Bench::new();
    bench.insert(1);
    let old = bench.insert(2);
    bench.sweep_at(1.0);
    let with_fault = |beat: &mut Heartbeat| (beat.self_test_ran, beat.self_test_failed) = (1, 1);
    bench.hear(1, with_fault);
    bench.hear(2, with_fault);
    bench.sweep_at(2.0);
    bench.write_down();
    assert_eq!(bench.journal.len(), 2);
    // Slots that were given back are given out again, the last one first.
    for number in [2, 1] {
        bench.live.remove(SensorId::from_number(number)).expect("registered");
    }
    let again = bench.insert(2);
    assert!(again.index < old.index);
    bench.hear(2, with_fault);
    let summary = bench.sweep_at(3.0);
    bench.write_down();
    assert_eq!(bench.engine.active().count(), 1);
    assert_eq!(summary.active_of(RuleId::SelfTestFailed), 1);
    assert_eq!(bench.verdict(2).active, RuleId::SelfTestFailed.bit());
    assert_eq!(bench.journal, HashSet::from([(subject(2), RuleId::SelfTestFailed)]));
    assert_eq!(summary.fleet.total(), 1);
}

#[test]
fn a_sensor_that_is_added_again_at_once_keeps_what_the_journal_has() {
    let mut bench = Bench::new();
    bench.insert(1);
    bench.sweep_at(1.0);
    let with_fault = |beat: &mut Heartbeat| (beat.self_test_ran, beat.self_test_failed) = (1, 1);
    bench.hear(1, with_fault);
    bench.sweep_at(2.0);
    bench.write_down();
    assert_eq!(bench.journal, HashSet::from([(subject(1), RuleId::SelfTestFailed)]));
    bench.live.remove(SensorId::from_number(1)).expect("registered");
    bench.insert(1);
    bench.hear(1, with_fault);
    bench.sweep_at(3.0);
    bench.write_down();
    let verdict = bench.verdict(1);
    assert_eq!(verdict.active, RuleId::SelfTestFailed.bit());
    assert_eq!(verdict.journalled, verdict.active);
    assert!(bench.is_durable(1, RuleId::SelfTestFailed));
    assert_eq!(bench.journal.len(), 1);
}

/// Heard with a change of state at 10 s, silent from 15 s (so disconnected at 25 s) and heard again at 60 s, the
/// same as before: the time in which nobody knew is not counted, and what was counted before it still is.
#[test]
fn a_rule_on_its_way_stands_still_while_it_is_unknown() {
    const NTP: RuleId = RuleId::NtpUnreachable;
    let way = [("ntp-unreachable", "raise_after", 30.0), ("ntp-unreachable", "clear_after", 30.0)];
    for ends in [false, true] {
        let mut bench = Bench::with(&way);
        let handle = bench.insert(1);
        let hear = |bench: &mut Bench, faulty: bool| {
            bench.hear(1, |beat| {
                if faulty {
                    no_ntp(beat)
                }
            });
        };
        if ends {
            // It holds from the start, without a wait of its own.
            bench.policies = PolicyTable::new(policy(&[way[1], ("ntp-unreachable", "raise_after", 0.0)]));
        }
        for second in 1..=15 {
            bench.now = f64::from(second);
            hear(&mut bench, (second < 10) == ends);
            bench.sweep_at(f64::from(second));
        }
        let is_active = |bench: &Bench| bench.engine.active_message(subject(1), NTP).is_some();
        assert_eq!(is_active(&bench), ends);
        while bench.now < 60.0 {
            bench.sweep_at(bench.now + 1.0);
            assert_eq!(is_active(&bench), ends, "at {}, ends: {ends}", bench.now);
        }
        let verdict = bench.live.verdict(handle.index);
        assert!(verdict.active & SILENT.bit() != 0 && verdict.unknown & NTP.bit() != 0);
        let mut changed = None;
        while bench.now < 90.0 {
            hear(&mut bench, !ends);
            bench.sweep_at(bench.now + 1.0);
            if changed.is_none() && is_active(&bench) != ends {
                changed = Some(bench.now);
            }
        }
        // 15 of the 30 seconds had passed, from 10 s to 25 s; the other 15 count from the sweep at 61 s.
        assert_eq!(changed, Some(76.0), "ends: {ends}");
    }
}

#[test]
fn what_did_not_change_is_not_looked_at() {
    let mut bench = Bench::new();
    for number in 1..=3 {
        bench.insert(number);
    }
    assert_eq!(bench.sweep_at(1.0).looked_at, 3, "they are new");
    for number in 1..=3 {
        bench.hear(number, |_| ());
    }
    let looks = |bench: &mut Bench, until: u32| -> Vec<u32> {
        let from = bench.now as u32 + 1;
        (from..=until).map(|second| bench.sweep_at(f64::from(second)).looked_at).collect()
    };
    assert_eq!(looks(&mut bench, 5), [3, 0, 0, 0], "they were heard");
    bench.hear(2, |_| ());
    assert_eq!(looks(&mut bench, 8), [1, 0, 0]);
    // Everything is judged anew, once.
    bench.revision += 1;
    assert_eq!(looks(&mut bench, 10), [3, 0]);
    // The silence of two was due at 11 s; of the other, at 15 s.
    assert_eq!(looks(&mut bench, 20), [2, 0, 0, 0, 1, 0, 0, 0, 0, 0]);
    // Slots that nobody has any more are let go of, once.
    bench.live.remove(SensorId::from_number(3)).expect("registered");
    assert_eq!(looks(&mut bench, 23), [1, 0, 0]);
}

#[test]
fn a_message_that_must_end_ends_at_once_and_for_good() {
    let mut bench = Bench::with(&[("ntp-unreachable", "raise_after", 0.0)]);
    let handle = bench.insert(1);
    bench.sweep_at(1.0);
    bench.hear(1, no_ntp);
    bench.sweep_at(2.0);
    assert_eq!(bench.verdict(1).active, RuleId::NtpUnreachable.bit());
    // On its way to its end when the sensor is taken out of service.
    bench.policies = PolicyTable::new(policy(&[("ntp-unreachable", "clear_after", 30.0)]));
    bench.hear(1, |_| ());
    bench.sweep_at(3.0);
    assert_eq!(bench.verdict(1).active, RuleId::NtpUnreachable.bit());
    let idle = Engine::new(Duration::from_secs(1)).pending_image(mono(3.0)).len();
    assert!(bench.engine.pending_image(mono(3.0)).len() > idle, "the end is on its way");
    assert!(bench.live.set_facts(handle, facts(Lifecycle::PendingReactivation)));
    let summary = bench.sweep_at(4.0);
    assert_eq!((summary.looked_at, summary.cleared), (1, 1));
    assert_eq!(bench.verdict(1).active, RuleId::PendingReactivation.bit());
    assert_eq!(bench.engine.pending_image(mono(4.0)).len(), idle, "nothing is on its way");
    for second in 5..40 {
        let summary = bench.sweep_at(f64::from(second));
        assert_eq!((summary.looked_at, summary.raised, summary.cleared), (0, 0, 0), "at {second}");
    }
    bench.write_down();
    assert_eq!(bench.journal, HashSet::from([(subject(1), RuleId::PendingReactivation)]));
}

#[test]
fn work_on_a_site_mutes_its_outage_while_the_others_alone_would_not_be_one() {
    let settings = [
        ("disconnected", "silence_after", 5.0),
        ("disconnected", "missed_intervals", 1.0),
        ("site-outage", "sensors_min", 2.0),
        ("site-outage", "percent", 50.0),
        ("site-outage", "raise_after", 0.0),
    ];
    let mut bench = Bench::with(&settings);
    let handles: Vec<_> = (1..=4).map(|number| bench.insert(number)).collect();
    let key = (Subject::Site(SiteId::from_number(u64::from(SITE.0))), RuleId::SiteOutage);
    assert!(bench.sweep_until(20.0, key).is_some(), "all are silent");
    let muted = |bench: &Bench| bench.engine.active_message(key.0, key.1).map(|message| message.muted);
    assert_eq!(muted(&bench), Some(false));
    let mute = |bench: &mut Bench, some: &[SlotHandle], muted, at| {
        for &handle in some {
            assert!(bench.live.set_facts(handle, SlotFacts { muted, ..facts(Lifecycle::Active) }));
        }
        bench.sweep_at(at)
    };
    mute(&mut bench, &handles[..2], true, 21.0);
    assert_eq!(muted(&bench), Some(false), "two others are silent, and that is all of them");
    let summary = mute(&mut bench, &handles[2..3], true, 22.0);
    assert_eq!(muted(&bench), Some(true), "one is no outage");
    assert_eq!((summary.active[key.1 as usize], summary.active_muted[key.1 as usize]), (1, 1));
    let summary = mute(&mut bench, &handles, false, 23.0);
    assert_eq!((muted(&bench), summary.active_muted[key.1 as usize]), (Some(false), 0));
}
