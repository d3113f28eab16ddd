//! The fleet that operations change, and what must hold of it.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use fleetpulse::health::{
    ActiveMessage, Cause, Context, Engine, Lookup, Policy, PolicyTable, RULES, RuleId, Setting, Subject,
    SweepSummary, Transition, TransitionKind, VersionTable, rules_of,
};
use fleetpulse::live::{
    GatewayIndex, Lifecycle, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotHandle, Writer,
    image,
};
use fleetpulse::time::{Clock, ManualClock, MonoNanos, UnixMillis};
use fleetpulse::wire::frame::{read_frame, write_frame};
use fleetpulse::wire::heartbeat::{Heartbeat, inline};
use fleetpulse::wire::id::{GatewayId, SensorId, SiteId};

use super::{Facts, Operation, Report};
use crate::world::{Lease, check_snapshot, fresh_gateways};

const SENSORS: usize = 12;
const GATEWAYS: usize = 3;
const SITES: u32 = 3;
const WALL: UnixMillis = UnixMillis(1_795_478_400_000);
const CADENCE: Duration = Duration::from_secs(1);
const VERSIONS: [&str; 8] =
    ["22.1.4", "22.3.9", "23.1.2", "24.1.0", "99.0.0", "22.1.4.8-r-6372aad", "no version", ""];
const INTERVALS_MS: [u32; 4] = [1_000, 10_000, 1, u32::MAX];

type Key = (Subject, RuleId);

/// The register's answers to the sweep.
#[derive(Clone, Copy)]
struct Register {
    desired_settings: Option<u64>,
}

impl Lookup for Register {
    fn site(&self, site: SiteIndex) -> Option<SiteId> {
        Some(SiteId::from_number(u64::from(site.0)))
    }

    fn desired_settings(&self, _: SensorId) -> Option<u64> {
        self.desired_settings
    }

    fn newest_threat_intel(&self) -> Option<&str> {
        Some("2026-11-24")
    }
}

#[derive(Clone, Copy, Default)]
struct Sensor {
    handle: Option<SlotHandle>,
    facts: Option<SlotFacts>,
    epoch: u64,
    boot: u64,
    sequence: u64,
    packets: u64,
    dropped: u64,
}

#[derive(Clone, Copy, Default)]
struct Gateway {
    index: Option<GatewayIndex>,
    epoch: u64,
    sites: u8,
}

pub struct Fleet {
    clock: ManualClock,
    live: Lease,
    engine: Engine,
    policies: PolicyTable,
    versions: VersionTable,
    register: Register,
    revision: u64,
    sensors: [Sensor; SENSORS],
    gateways: [Gateway; GATEWAYS],
    gateway_ids: [GatewayId; GATEWAYS],
    room: u8,
    /// Taken by the journal and not yet written.
    channel: VecDeque<(Key, TransitionKind)>,
    written: HashSet<Key>,
    checkpoint: Option<(Vec<u8>, Vec<u8>)>,
}

fn sensor_id(number: usize) -> SensorId {
    SensorId::from_number(number as u64 + 1)
}

/// Nothing waits: every rule is raised and cleared by the first sweep that can.
fn impatient() -> Policy {
    let mut patch = fleetpulse::health::PolicyPatch::new();
    for setting in Setting::all().filter(|setting| matches!(setting.key(), "raise_after" | "clear_after")) {
        patch.set(setting, 0.0).expect("zero is in range");
    }
    Policy::demo().with(&patch).expect("a policy")
}

fn sites_of(bits: u8) -> Vec<SiteIndex> {
    (0..SITES).filter(|site| bits & 1 << site != 0).map(SiteIndex).collect()
}

impl Fleet {
    pub fn new() -> Fleet {
        let mut policies = PolicyTable::new(Policy::demo());
        policies.intern(impatient()).expect("room");
        let clock = ManualClock::new(WALL);
        let mut engine = Engine::new(CADENCE);
        engine.note_start(clock.mono());
        Fleet {
            clock,
            live: Lease::new(),
            engine,
            policies,
            versions: VersionTable::default(),
            register: Register { desired_settings: None },
            revision: 0,
            sensors: [Sensor::default(); SENSORS],
            gateways: [Gateway::default(); GATEWAYS],
            gateway_ids: fresh_gateways(),
            room: u8::MAX,
            channel: VecDeque::new(),
            written: HashSet::new(),
            checkpoint: None,
        }
    }

    pub fn apply(&mut self, operation: &Operation) {
        let sensor = |number: u8| usize::from(number) % SENSORS;
        let gateway = |number: u8| usize::from(number) % GATEWAYS;
        match *operation {
            Operation::Insert { sensor: number, facts } => self.insert(sensor(number), facts),
            Operation::Remove { sensor: number } => self.remove(sensor(number)),
            Operation::InsertGateway { gateway: number, sites } => {
                self.insert_gateway(gateway(number), sites)
            }
            Operation::RemoveGateway { gateway: number } => self.remove_gateway(gateway(number)),
            Operation::Take { sensor: number, days_left } => self.take(sensor(number), days_left),
            Operation::Release { sensor: number, stale } => self.release(sensor(number), stale),
            Operation::Seen { sensor: number } => self.seen(sensor(number)),
            Operation::TakeGateway { gateway: number } => self.take_gateway(gateway(number)),
            Operation::ReleaseGateway { gateway: number, stale } => {
                self.release_gateway(gateway(number), stale);
            }
            Operation::SeenGateway { gateway: number } => self.seen_gateway(gateway(number)),
            Operation::Observe { sensor: number, report } => self.observe(sensor(number), None, &report),
            Operation::ObserveBy { sensor: number, gateway: by, report } => {
                self.observe(sensor(number), Some(gateway(by)), &report);
            }
            Operation::ObserveAll { by_gateway } => self.observe_all(by_gateway),
            Operation::Wait { tenths } => self.wait(Duration::from_millis(u64::from(tenths) * 100)),
            Operation::Sweep { tenths } => {
                self.wait(Duration::from_millis(u64::from(tenths) * 100));
                self.sweep();
            }
            Operation::Sweeps { count } => {
                for _ in 0..count % 32 {
                    self.wait(CADENCE);
                    self.sweep();
                }
            }
            Operation::Gap { seconds } => {
                self.wait(Duration::from_secs(seconds.into()));
                self.sweep();
            }
            Operation::Step { tenths } => self.clock.step_unix(i64::from(tenths) * 100),
            Operation::Doubt { cause, lasts } => {
                let cause = [Cause::DeadListener, Cause::IngestLag][usize::from(cause) % 2];
                self.engine.set_doubt(cause, lasts, self.clock.mono());
            }
            Operation::Room { transitions } => self.room = transitions,
            Operation::Acknowledge { transitions } => self.write_down(transitions.into()),
            Operation::Revise { desired_settings } => {
                self.register.desired_settings = u64::from(desired_settings % 4).checked_sub(1);
                self.revision += 1;
            }
            Operation::Checkpoint => self.save(),
            Operation::Restart { with_checkpoint, away_seconds } => {
                self.restart(with_checkpoint, Duration::from_secs(away_seconds.into()));
            }
            Operation::Why { sensor: number } => self.why(sensor(number)),
        }
    }

    // ------------------------------------------------------------ register

    fn insert(&mut self, number: usize, facts: Facts) {
        let facts = SlotFacts {
            kind: SensorType::ALL[usize::from(facts.kind) % 3],
            // The register removes what it deletes.
            lifecycle: Lifecycle::ALL[usize::from(facts.lifecycle) % 3],
            site: SiteIndex(u32::from(facts.site) % SITES),
            policy: PolicyIndex(facts.policy.into()),
            muted: facts.muted,
        };
        let sensor = &mut self.sensors[number];
        sensor.handle = Some(self.live.insert(sensor_id(number), facts).expect("room for all"));
        sensor.facts = Some(facts);
    }

    fn remove(&mut self, number: usize) {
        let sensor = &mut self.sensors[number];
        let removed = self.live.remove(sensor_id(number));
        assert_eq!(removed.is_some(), sensor.handle.is_some());
        (sensor.handle, sensor.facts) = (None, None);
    }

    fn insert_gateway(&mut self, number: usize, sites: u8) {
        let gateway = &mut self.gateways[number];
        gateway.index = self.live.insert_gateway(self.gateway_ids[number], &sites_of(sites)).ok();
        gateway.sites = sites;
        assert!(gateway.index.is_some());
    }

    fn remove_gateway(&mut self, number: usize) {
        let gateway = &mut self.gateways[number];
        assert_eq!(self.live.remove_gateway(self.gateway_ids[number]).is_some(), gateway.index.is_some());
        // Its connection is closed with it.
        (gateway.index, gateway.epoch) = (None, 0);
    }

    // ------------------------------------------------------------ shards

    fn owner(&self, number: usize) -> OwnerRef {
        OwnerRef { node: 0, shard: 1, connection: number as u32 }
    }

    fn take(&mut self, number: usize, days_left: i8) {
        let owner = self.owner(number);
        let Some(handle) = self.sensors[number].handle else { return };
        let not_after = UnixMillis(WALL.0 + i64::from(days_left) * 86_400_000);
        let taken = self.live.take(handle, owner, not_after, self.clock.mono()).expect("registered");
        assert!(taken.epoch > 0);
        self.sensors[number].epoch = taken.epoch;
    }

    fn release(&mut self, number: usize, stale: bool) {
        let sensor = self.sensors[number];
        let Some(handle) = sensor.handle else { return };
        let released = self.live.release(handle, sensor.epoch.wrapping_sub(stale.into()), self.clock.mono());
        assert!(!(released && stale && sensor.epoch > 0), "an old connection frees nothing");
    }

    fn seen(&mut self, number: usize) {
        let sensor = self.sensors[number];
        if let Some(handle) = sensor.handle {
            self.live.seen_transport(handle, sensor.epoch, self.clock.mono());
        }
    }

    fn take_gateway(&mut self, number: usize) {
        let owner = self.owner(100 + number);
        let Some(index) = self.gateways[number].index else { return };
        let taken = self.live.gateway_take(index, owner, self.clock.mono()).expect("registered");
        self.gateways[number].epoch = taken.epoch;
    }

    fn release_gateway(&mut self, number: usize, stale: bool) {
        let gateway = self.gateways[number];
        let Some(index) = gateway.index else { return };
        let epoch = gateway.epoch.wrapping_sub(stale.into());
        let released = self.live.gateway_release(index, epoch, self.clock.mono());
        assert!(!(released && stale && gateway.epoch > 0), "an old connection frees nothing");
    }

    fn seen_gateway(&mut self, number: usize) {
        let gateway = self.gateways[number];
        if let Some(index) = gateway.index {
            self.live.gateway_seen(index, gateway.epoch, self.clock.mono());
        }
    }

    fn observe(&mut self, number: usize, by: Option<usize>, report: &Report) {
        let Some(handle) = self.sensors[number].handle else { return };
        let writer = match by {
            None => Writer::Direct { epoch: self.sensors[number].epoch },
            Some(by) => {
                let Some(index) = self.gateways[by].index else { return };
                // As the session asks before it hands a frame on.
                let site = self.sensors[number].facts.expect("registered").site;
                if self.gateways[by].epoch == 0 || !self.live.gateway_covers(index, site) {
                    return;
                }
                self.seen_gateway(by);
                Writer::Gateway(index)
            }
        };
        let beat = self.beat(number, report);
        let mut bytes = Vec::new();
        write_frame(&beat, u32::from(report.age) * 100, &mut bytes);
        let (frame, _) = read_frame(&bytes).expect("our own frame");
        self.live.observe(handle, writer, &frame, self.clock.mono());
    }

    fn observe_all(&mut self, by_gateway: bool) {
        let report = Report { restarted: 1, sequence: 1, packets: 10, kind: 2, ..Report::default() };
        for number in 0..SENSORS {
            let by = by_gateway.then_some(number % GATEWAYS);
            self.observe(number, by, &report);
        }
    }

    fn beat(&mut self, number: usize, report: &Report) -> Heartbeat {
        let sensor = &mut self.sensors[number];
        if report.restarted == 0 || sensor.boot == 0 {
            sensor.boot += 1;
            (sensor.sequence, sensor.packets, sensor.dropped) = (0, 0, 0);
        }
        sensor.sequence = sensor.sequence.saturating_add_signed(report.sequence.into()).max(1);
        sensor.packets = sensor.packets.wrapping_add(report.packets.into());
        sensor.dropped = sensor.dropped.wrapping_add(report.dropped.into());
        let place = |values: usize| usize::from(report.kind) % values;
        let clock = self.clock.unix().0 + i64::from(report.clock) * 1_000;
        Heartbeat {
            sensor_id: sensor_id(number).0,
            boot_id: sensor.boot,
            sequence: sensor.sequence,
            sensor_clock_unix_us: clock * 1_000,
            uptime_ms: sensor.sequence.saturating_mul(1_000),
            interval_ms: INTERVALS_MS[place(INTERVALS_MS.len())],
            flags: report.flags.into(),
            version: inline(VERSIONS[place(VERSIONS.len())]),
            profile: report.kind % 9,
            update_stage: report.update % 9,
            update_percent: report.update % 101,
            ti_status: report.backup % 5,
            ti_version: inline(["2026-11-24", "2026-01-02", "soon"][usize::from(report.backup) % 3]),
            backup_result: report.backup % 8,
            backup_age_s: u32::from(report.backup) * 10_000,
            ntp_state: report.servers % 4,
            directory_configured: 2,
            directory_reachable: report.servers % 3,
            endpoint_states: [1, report.endpoint % 8, 0, 0, 0, 0, 0, 0],
            self_test_ran: 0xff,
            self_test_failed: report.self_test.into(),
            interfaces_total: 2,
            interfaces_up: 2,
            rx_packets: sensor.packets,
            rx_bytes: sensor.packets.wrapping_mul(100_000),
            rx_dropped: sensor.dropped,
            disk_permille: [400, (u16::from(report.disk) * 4).min(1_000), 0, 0],
            devices: u32::from(report.devices) * 100,
            settings_generation: report.settings.into(),
            ..Heartbeat::default()
        }
    }

    // ------------------------------------------------------------ time, sweep, journal

    fn wait(&mut self, time: Duration) {
        self.clock.advance(time);
    }

    fn sweep(&mut self) {
        let (channel, room) = (&mut self.channel, self.room);
        let mut taken = 0;
        let mut offer = |transition: Transition| {
            if room != u8::MAX && taken == room {
                return Err(transition);
            }
            taken += 1;
            check_transition(&transition);
            channel.push_back(((transition.subject, transition.rule), transition.kind));
            Ok(())
        };
        let ctx = Context {
            now: self.clock.now(),
            versions: &self.versions,
            lookup: &self.register,
            revision: self.revision,
        };
        let summary = self.engine.sweep(&self.live, &self.policies, &ctx, &mut offer);
        self.check(&summary);
    }

    fn write_down(&mut self, transitions: usize) {
        for _ in 0..transitions {
            let Some((key, kind)) = self.channel.pop_front() else { return };
            match kind {
                TransitionKind::Raised => assert!(self.written.insert(key), "raised twice: {key:?}"),
                TransitionKind::Cleared => assert!(self.written.remove(&key), "cleared, not raised: {key:?}"),
            }
            self.engine.acknowledge(&self.live, key.0, key.1, kind);
        }
    }

    fn save(&mut self) {
        let mut live = Vec::new();
        image::write(&self.live, self.clock.now(), |piece| live.extend_from_slice(piece));
        self.checkpoint = Some((live, self.engine.pending_image(self.clock.mono())));
    }

    /// Killed: the channel is lost, the register, the disk and the checkpoint are not.
    fn restart(&mut self, with_checkpoint: bool, away: Duration) {
        let wall = self.clock.unix().plus(away);
        self.clock = ManualClock::new(wall);
        self.live = Lease::new();
        self.engine = Engine::new(CADENCE);
        self.channel.clear();
        for (number, sensor) in self.sensors.iter_mut().enumerate() {
            sensor.epoch = 0;
            sensor.handle =
                sensor.facts.map(|facts| self.live.insert(sensor_id(number), facts).expect("room"));
        }
        for (number, gateway) in self.gateways.iter_mut().enumerate() {
            gateway.epoch = 0;
            if gateway.index.is_some() {
                gateway.index =
                    self.live.insert_gateway(self.gateway_ids[number], &sites_of(gateway.sites)).ok();
            }
        }
        if let Some((live, pending)) = self.checkpoint.as_ref().filter(|_| with_checkpoint) {
            image::read(live, &self.live, self.clock.now()).expect("our own image");
            self.engine.restore_pending(pending).expect("our own image");
        }
        self.engine.restore(self.written.iter().map(|&(subject, rule)| restored(subject, rule)).collect());
        self.engine.note_start(self.clock.mono());
    }

    fn why(&self, number: usize) {
        let ctx = Context {
            now: self.clock.now(),
            versions: &self.versions,
            lookup: &self.register,
            revision: self.revision,
        };
        let why = self.engine.why(&self.live, &self.policies, &ctx, sensor_id(number));
        assert_eq!(why.is_some(), self.sensors[number].handle.is_some());
    }

    /// The channel has room again and the journal writes: it ends up with what is active.
    pub fn catch_up(&mut self) {
        self.room = u8::MAX;
        self.wait(CADENCE);
        self.sweep();
        self.write_down(usize::MAX);
        let active: HashSet<Key> =
            self.engine.active().map(|message| (message.subject, message.rule)).collect();
        assert_eq!(active, self.written, "what is active is what the journal has");
        assert!(self.engine.active().all(|message| message.durable), "and is known to be written");
        for sensor in &self.sensors {
            if let Some(handle) = sensor.handle {
                let verdict = self.live.verdict(handle.index);
                assert_eq!(verdict.active, verdict.journalled, "{handle:?}");
            }
        }
    }

    // ------------------------------------------------------------ what must hold

    fn check(&self, summary: &SweepSummary) {
        assert_eq!(summary.busy, 0, "nobody writes");
        for (rule, delay) in &summary.detection_delays {
            assert!(*delay <= summary.gap, "{} found {delay:?} late, {:?}", rule.code(), summary.gap);
        }
        self.check_messages(summary);
        self.check_fleet(summary);
        self.check_gateways(summary);
        self.check_journal(summary);
    }

    fn check_messages(&self, summary: &SweepSummary) {
        let (mut active, mut muted, mut folded) = ([0; RULES], [0; RULES], 0);
        let mut by_sensor: BTreeMap<SensorId, u64> = BTreeMap::new();
        for message in self.engine.active() {
            active[message.rule as usize] += 1;
            muted[message.rule as usize] += u32::from(message.muted);
            folded += u32::from(message.folded_into.is_some());
            if let Subject::Sensor(id) = message.subject {
                let bits = by_sensor.entry(id).or_default();
                assert_eq!(*bits & message.rule.bit(), 0, "one message a rule");
                *bits |= message.rule.bit();
            }
        }
        assert_eq!(active, summary.active);
        assert_eq!(muted, summary.active_muted);
        assert_eq!(folded, summary.folded);
        let mut unknown = [0; RULES];
        for (number, sensor) in self.sensors.iter().enumerate() {
            let active = by_sensor.remove(&sensor_id(number)).unwrap_or(0);
            let Some(handle) = sensor.handle else {
                assert_eq!(active, 0, "who is gone has no message");
                continue;
            };
            let verdict = self.live.verdict(handle.index);
            assert_eq!(verdict.active, active, "sensor {number}");
            for rule in rules_of(verdict.unknown) {
                unknown[rule as usize] += 1;
                if let Some(message) = self.engine.active_message(Subject::Sensor(sensor_id(number)), rule) {
                    assert!(message.unknown, "{message:?}");
                }
            }
        }
        assert_eq!(unknown, summary.unknown);
        assert!(by_sensor.is_empty(), "messages of nobody: {by_sensor:?}");
    }

    fn check_fleet(&self, summary: &SweepSummary) {
        let registered: Vec<SlotFacts> = self.sensors.iter().filter_map(|sensor| sensor.facts).collect();
        let fleet = &summary.fleet;
        assert_eq!(self.live.sensors(), registered.len());
        assert_eq!(fleet.total() as usize, registered.len());
        assert_eq!(fleet.muted() as usize, registered.iter().filter(|facts| facts.muted).count());
        let sum = |counts: &[u32]| counts.iter().sum::<u32>() as usize;
        assert_eq!(sum(&fleet.by_support), registered.len());
        for kind in SensorType::ALL {
            let of_kind = sum(&fleet.by_state[kind as usize]) + sum(&fleet.muted_by_state[kind as usize]);
            assert_eq!(of_kind, registered.iter().filter(|facts| facts.kind == kind).count());
        }
        for lifecycle in Lifecycle::ALL {
            let expected = registered.iter().filter(|facts| facts.lifecycle == lifecycle).count();
            assert_eq!(fleet.by_lifecycle[lifecycle as usize] as usize, expected);
        }
    }

    fn check_gateways(&self, summary: &SweepSummary) {
        let mut behind = [0; GATEWAYS];
        for (number, sensor) in self.sensors.iter().enumerate() {
            if sensor.handle.is_none() {
                continue;
            }
            let snapshot = self.live.snapshot_of(sensor_id(number)).expect("registered, and nobody writes");
            check_snapshot(&snapshot);
            let of_gateway = |index| self.gateways.iter().position(|gateway| gateway.index == Some(index));
            if let Some(gateway) = snapshot.via_gateway.and_then(of_gateway) {
                behind[gateway] += 1;
            }
        }
        let mut registered = 0;
        for (number, gateway) in self.gateways.iter().enumerate() {
            let Some(index) = gateway.index else { continue };
            registered += 1;
            let snapshot = self.live.gateway_snapshot(index).expect("registered");
            assert_eq!(snapshot.sensors, behind[number], "{snapshot:?}");
        }
        assert_eq!(summary.gateways, registered);
    }

    /// What differs between engine and journal is what waits to be offered, no more and no less.
    fn check_journal(&self, summary: &SweepSummary) {
        let mut journal = self.written.clone();
        for (key, kind) in &self.channel {
            match kind {
                TransitionKind::Raised => assert!(journal.insert(*key), "raised twice: {key:?}"),
                TransitionKind::Cleared => assert!(journal.remove(key), "cleared, not raised: {key:?}"),
            }
        }
        let active: HashSet<Key> =
            self.engine.active().map(|message| (message.subject, message.rule)).collect();
        let differ = active.symmetric_difference(&journal).count();
        assert_eq!(differ, summary.waiting as usize, "{active:?} {journal:?}");
        assert_eq!(summary.refused, u32::from(summary.waiting > 0));
    }
}

fn check_transition(transition: &Transition) {
    let raised = transition.kind == TransitionKind::Raised;
    assert_eq!(transition.clear_reason.is_none(), raised, "{transition:?}");
    assert!(transition.at_mono > MonoNanos::NEVER);
    if raised {
        assert!(!transition.evidence.is_empty() || transition.rule.rule().raise_after_s == 0.0);
    }
}

fn restored(subject: Subject, rule: RuleId) -> ActiveMessage {
    ActiveMessage {
        subject,
        rule,
        since: WALL,
        raised_at: WALL,
        evidence: Vec::new(),
        durable: true,
        unknown: false,
        folded_into: None,
        muted: false,
    }
}
