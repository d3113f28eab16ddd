//! The world: sensors that report, networks that lose, delay, double and cut, and a server that is suspended,
//! killed and started again.

use std::collections::HashSet;
use std::time::Duration;

use fleetpulse::health::{
    ActiveMessage, Context, Engine, Lookup, Policy, PolicyPatch, PolicyTable, RuleId, Subject, SweepSummary,
    Transition, TransitionKind, VersionTable, rules_of,
};
use fleetpulse::health::{Cause, EvidenceValue};
use fleetpulse::live::{
    GatewayIndex, Lifecycle, LiveState, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotHandle,
    Writer, image,
};
use fleetpulse::time::{Clock, ManualClock, UnixMillis};
use fleetpulse::wire::frame::{read_frame, write_frame};
use fleetpulse::wire::heartbeat::{FLAG_GOODBYE, Heartbeat, UpdateStage};
use fleetpulse::wire::id::{GatewayId, SensorId, SiteId};

use super::oracle;

const INTERVAL: u64 = 10_000;
const SECOND: u64 = 1_000;
const WALL: i64 = 1_795_478_400_000;
/// Rules that the oracle judges, sensor by sensor.
const JUDGED: u64 = RuleId::PendingActivation.bit()
    | RuleId::PlannedStop.bit()
    | RuleId::Disconnected.bit()
    | RuleId::NoTraffic.bit()
    | RuleId::DiskAlmostFull.bit();

/// Numbers without a crate: the same seed gives the same world for ever (splitmix64).
#[derive(Clone, Debug)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn up_to(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    fn once_in(&mut self, times: u64) -> bool {
        self.next().is_multiple_of(times)
    }
}

/// How often things happened, so that a world without accidents does not pass for a good one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    frames: u64,
    sweeps: u64,
    raised: u64,
    disconnected: u64,
    no_traffic: u64,
    disk: u64,
    stopped: u64,
    gateways_silent: u64,
    outages: u64,
    restarts: u64,
    restarts_without_checkpoint: u64,
    suspensions: u64,
    wall_steps: u64,
    refused: u64,
    delay_max_ms: u64,
}

impl Totals {
    pub fn add(&mut self, other: &Totals) {
        self.frames += other.frames;
        self.sweeps += other.sweeps;
        self.raised += other.raised;
        self.disconnected += other.disconnected;
        self.no_traffic += other.no_traffic;
        self.disk += other.disk;
        self.stopped += other.stopped;
        self.gateways_silent += other.gateways_silent;
        self.outages += other.outages;
        self.restarts += other.restarts;
        self.restarts_without_checkpoint += other.restarts_without_checkpoint;
        self.suspensions += other.suspensions;
        self.wall_steps += other.wall_steps;
        self.refused += other.refused;
        self.delay_max_ms = self.delay_max_ms.max(other.delay_max_ms);
    }

    pub fn assert_everything_happened(&self) {
        let happened = [
            ("disconnected", self.disconnected),
            ("no traffic", self.no_traffic),
            ("disk", self.disk),
            ("planned stops", self.stopped),
            ("silent gateways", self.gateways_silent),
            ("site outages", self.outages),
            ("restarts", self.restarts),
            ("restarts without a checkpoint", self.restarts_without_checkpoint),
            ("suspensions", self.suspensions),
            ("wall clock steps", self.wall_steps),
            ("refusals", self.refused),
        ];
        for (what, times) in happened {
            assert!(times > 0, "no {what} in this world: {self:?}");
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    at: u64,
    sensor: u32,
    age: u32,
    clock_us: i64,
    news: oracle::News,
}

#[derive(Clone, Debug)]
struct Sensor {
    next: u64,
    boot: u64,
    sequence: u64,
    booted: u64,
    off_until: u64,
    cut_until: u64,
    quiet_until: u64,
    rx: u64,
    disk: u16,
    installing: bool,
    clock_offset_us: i64,
    clock_touched: bool,
    activation: u64,
    backlog: Vec<Frame>,
}

struct Server {
    clock: ManualClock,
    started: u64,
    live: LiveState,
    engine: Engine,
    handles: Vec<SlotHandle>,
    epochs: Vec<Option<u64>>,
    gateways: Vec<(GatewayIndex, Option<u64>)>,
}

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

struct Checkpoint {
    wall_offset: i64,
    live: Vec<u8>,
    pending: Vec<u8>,
    heard: Vec<oracle::Heard>,
}

/// One world.
pub struct Run {
    dice: Dice,
    now: u64,
    wall_offset: i64,
    wall_step: i64,
    sensors: Vec<Sensor>,
    per_site: usize,
    frames: Vec<Vec<Frame>>,
    buffered: Vec<Frame>,
    gateway_cut_until: Vec<u64>,
    dead_listener_until: u64,
    suspended_until: u64,
    refuse_until: u64,
    policies: PolicyTable,
    versions: VersionTable,
    server: Server,
    checkpoint: Option<Checkpoint>,
    last_sweep: u64,
    judges: Vec<oracle::Sensor>,
    gateway_judges: Vec<oracle::Gateway>,
    sites_out: Vec<bool>,
    doubt_end: u64,
    journal: HashSet<(Subject, RuleId)>,
    totals: Totals,
}

fn policy() -> Policy {
    let mut patch = PolicyPatch::new();
    for (code, key, value) in [
        ("disconnected", "silence_after", oracle::SILENCE as f64 / 1e3),
        ("disconnected", "raise_after", oracle::RAISE as f64 / 1e3),
        ("disconnected", "install_grace", oracle::INSTALL_GRACE as f64 / 1e3),
        ("no-traffic", "silence_after", oracle::NO_TRAFFIC as f64 / 1e3),
        ("gateway-silent", "silence_after", oracle::GATEWAY as f64 / 1e3),
        ("disk-almost-full", "percent", f64::from(oracle::DISK) / 10.0),
        ("disk-almost-full", "margin", f64::from(oracle::DISK_MARGIN) / 10.0),
        ("disk-almost-full", "raise_after", oracle::DISK_HOLD as f64 / 1e3),
        ("disk-almost-full", "clear_after", oracle::DISK_HOLD as f64 / 1e3),
        ("site-outage", "clear_after", 0.0),
        ("clock-drift", "hold_after_step", 86_400.0),
    ] {
        patch.set_named(code, key, value).expect("a policy of the simulation");
    }
    Policy::default().with(&patch).expect("a policy of the simulation")
}

impl Run {
    pub fn new(seed: u64, sensors: usize) -> Run {
        let mut dice = Dice(seed);
        let per_site = (sensors / 12).clamp(4, 850);
        let sites = sensors.div_ceil(per_site);
        let mut sensor = || Sensor {
            next: dice.up_to(1, INTERVAL),
            boot: 1,
            sequence: 0,
            booted: 0,
            off_until: 0,
            cut_until: 0,
            quiet_until: 0,
            rx: 0,
            disk: 500,
            installing: false,
            clock_offset_us: 0,
            clock_touched: false,
            activation: if dice.once_in(20) { dice.up_to(1, 300) * SECOND } else { 0 },
            backlog: Vec::new(),
        };
        let sensors: Vec<Sensor> = (0..sensors).map(|_| sensor()).collect();
        let mut run = Run {
            dice,
            now: 0,
            wall_offset: 0,
            wall_step: 0,
            per_site,
            frames: Vec::new(),
            buffered: Vec::new(),
            gateway_cut_until: vec![0; sites],
            dead_listener_until: 0,
            suspended_until: 0,
            refuse_until: 0,
            policies: PolicyTable::new(policy()),
            versions: VersionTable::default(),
            server: Server {
                clock: ManualClock::new(UnixMillis(WALL)),
                started: 0,
                live: LiveState::with_capacity(0),
                engine: Engine::new(Duration::from_secs(1)),
                handles: Vec::new(),
                epochs: Vec::new(),
                gateways: Vec::new(),
            },
            checkpoint: None,
            last_sweep: 0,
            judges: vec![oracle::Sensor::default(); sensors.len()],
            gateway_judges: vec![oracle::Gateway::default(); sites],
            sites_out: vec![false; sites],
            doubt_end: 0,
            journal: HashSet::new(),
            totals: Totals::default(),
            sensors,
        };
        run.start_server(None);
        run
    }

    fn site_of(&self, sensor: usize) -> usize {
        sensor / self.per_site
    }

    /// Every third site is behind a gateway.
    fn has_gateway(site: usize) -> bool {
        site % 3 == 2
    }

    fn facts(&self, sensor: usize) -> SlotFacts {
        let pending = self.sensors[sensor].activation > self.now;
        SlotFacts {
            kind: if sensor.is_multiple_of(7) { SensorType::EnterpriseIot } else { SensorType::OtCloud },
            lifecycle: if pending { Lifecycle::PendingActivation } else { Lifecycle::Active },
            site: SiteIndex(self.site_of(sensor) as u32),
            policy: PolicyIndex(0),
            muted: sensor.is_multiple_of(11),
        }
    }

    fn start_server(&mut self, checkpoint: Option<&Checkpoint>) {
        let live = LiveState::with_capacity(self.sensors.len() as u32);
        let clock = ManualClock::new(UnixMillis(WALL + self.now as i64 + self.wall_offset));
        let handles: Vec<SlotHandle> = (0..self.sensors.len())
            .map(|sensor| {
                let id = SensorId::from_number(sensor as u64 + 1);
                live.insert(id, self.facts(sensor)).expect("room")
            })
            .collect();
        let gateways = (0..self.sites_out.len())
            .map(|site| {
                let sites: &[SiteIndex] =
                    if Run::has_gateway(site) { &[SiteIndex(site as u32)] } else { &[] };
                let index = live.insert_gateway(GatewayId::from_number(site as u64 + 1), sites);
                (index.expect("room"), None)
            })
            .collect();
        let mut engine = Engine::new(Duration::from_secs(1));
        if let Some(checkpoint) = checkpoint {
            image::read(&checkpoint.live, &live, clock.now()).expect("our own image");
            engine.restore_pending(&checkpoint.pending).expect("our own image");
        }
        engine.restore(self.journal.iter().map(|&(subject, rule)| message(subject, rule)).collect());
        engine.note_start(clock.mono());
        self.server = Server {
            clock,
            started: self.now,
            live,
            engine,
            epochs: vec![None; handles.len()],
            handles,
            gateways,
        };
        self.doubt_end = self.now;
        for (sensor, judge) in self.judges.iter_mut().enumerate() {
            let id = Subject::Sensor(SensorId::from_number(sensor as u64 + 1));
            let has = |rule| self.journal.contains(&(id, rule));
            let journalled = oracle::Should {
                pending: has(RuleId::PendingActivation),
                stopped: has(RuleId::PlannedStop),
                disconnected: has(RuleId::Disconnected),
                no_traffic: has(RuleId::NoTraffic),
                disk: has(RuleId::DiskAlmostFull),
            };
            judge.restart(checkpoint.map(|checkpoint| &checkpoint.heard[sensor]), journalled);
        }
        for (site, judge) in self.gateway_judges.iter_mut().enumerate() {
            let subject = Subject::Gateway(GatewayId::from_number(site as u64 + 1));
            let silent = self.journal.contains(&(subject, RuleId::GatewaySilent));
            *judge = oracle::Gateway { silent, ..oracle::Gateway::default() };
            let subject = Subject::Site(SiteId::from_number(site as u64));
            self.sites_out[site] = self.journal.contains(&(subject, RuleId::SiteOutage));
        }
    }

    /// Lives through so many seconds.
    pub fn go(mut self, seconds: u64) -> Totals {
        self.frames = vec![Vec::new(); seconds as usize + 4];
        for second in 1..=seconds {
            self.now = second * SECOND;
            self.report();
            self.accidents();
            let due = std::mem::take(&mut self.frames[second as usize]);
            if self.now < self.suspended_until {
                self.buffered.extend(due);
                continue;
            }
            let mut late = std::mem::take(&mut self.buffered);
            for frame in &mut late {
                // Waited in the socket: received now.
                frame.at = self.now;
            }
            late.retain(|frame| !frame.sensor.is_multiple_of(3));
            let mut due = due;
            due.sort_by_key(|frame| frame.at);
            for frame in late.into_iter().chain(due) {
                self.deliver(&frame);
            }
            self.sweep();
            self.judge();
            if second.is_multiple_of(30) {
                self.save();
            }
        }
        self.refuse_until = 0;
        self.now += SECOND;
        self.sweep();
        self.judge();
        let active: HashSet<_> =
            self.server.engine.active().map(|message| (message.subject, message.rule)).collect();
        assert_eq!(active, self.journal, "what is active is what the journal has");
        self.totals
    }

    // ------------------------------------------------------------ sensors and network

    fn report(&mut self) {
        for sensor in 0..self.sensors.len() {
            while self.sensors[sensor].next <= self.now {
                let made = self.sensors[sensor].next;
                self.sensors[sensor].next += INTERVAL;
                if made >= self.sensors[sensor].activation && made >= self.sensors[sensor].off_until {
                    self.beat(sensor, made);
                }
            }
        }
    }

    fn beat(&mut self, number: usize, made: u64) {
        let dice = &mut self.dice;
        let sensor = &mut self.sensors[number];
        let mut goodbye = false;
        if dice.once_in(40) {
            match dice.up_to(0, 8) {
                0 => sensor.reboot(made + dice.up_to(3_000, 30_000)),
                1 => sensor.reboot(made + dice.up_to(50_000, 160_000)),
                2 => sensor.cut_until = made + dice.up_to(5_000, 25_000),
                3 => sensor.cut_until = made + dice.up_to(35_000, 120_000),
                4 => {
                    sensor.clock_touched = true;
                    sensor.clock_offset_us += (dice.up_to(0, 7_200) as i64 - 3_600) * 1_000_000;
                }
                5 => sensor.quiet_until = made + dice.up_to(40_000, 160_000),
                6 => sensor.disk = if sensor.disk < 850 { dice.up_to(860, 990) as u16 } else { 500 },
                7 => goodbye = true,
                _ => sensor.installing = !sensor.installing,
            }
        } else if dice.once_in(15) {
            sensor.disk = dice.up_to(830, 930) as u16;
        }
        if sensor.off_until > made {
            return;
        }
        if sensor.quiet_until <= made {
            sensor.rx += dice.up_to(1, 1_000);
        }
        sensor.sequence += 1;
        let news = oracle::News {
            boot: sensor.boot,
            sequence: sensor.sequence,
            time: made,
            rx: sensor.rx,
            disk: sensor.disk,
            installing: sensor.installing,
            goodbye,
        };
        let clock_us = (WALL + made as i64) * 1_000 + sensor.clock_offset_us;
        let frame = Frame { at: made, sensor: number as u32, age: 0, clock_us, news };
        if goodbye {
            sensor.reboot(made + dice.up_to(40_000, 200_000));
        } else if sensor.installing && dice.once_in(3) {
            sensor.reboot(made + dice.up_to(30_000, 260_000));
        }
        if sensor.cut_until > made {
            // Kept and sent late, or gone.
            if sensor.backlog.len() < 20 && !number.is_multiple_of(2) {
                sensor.backlog.push(frame);
            }
            return;
        }
        let mut sent = std::mem::take(&mut sensor.backlog);
        sent.push(frame);
        for mut frame in sent {
            frame.age = (made - frame.at) as u32;
            if self.dice.once_in(30) {
                continue;
            }
            let copies = if self.dice.once_in(40) { 2 } else { 1 };
            for _ in 0..copies {
                let slow = if self.dice.once_in(10) { 3_500 } else { 100 };
                let at = made + self.dice.up_to(1, slow);
                if let Some(second) = self.frames.get_mut(at.div_ceil(SECOND) as usize) {
                    second.push(Frame { at, ..frame });
                }
            }
        }
    }

    fn accidents(&mut self) {
        let now = self.now;
        let sites = self.sites_out.len() as u64;
        if self.dice.once_in(120) {
            let site = self.dice.up_to(0, sites - 1) as usize;
            let until = now + self.dice.up_to(20_000, 130_000);
            let first = site * self.per_site;
            let end = (first + self.per_site).min(self.sensors.len());
            for sensor in &mut self.sensors[first..end] {
                sensor.cut_until = until;
            }
        }
        if self.dice.once_in(60) {
            let site = self.dice.up_to(0, sites - 1) as usize;
            self.gateway_cut_until[site] = now + self.dice.up_to(5_000, 90_000);
        }
        if self.dice.once_in(150) {
            let step = self.dice.up_to(0, 80_000) as i64 - 40_000 - self.wall_offset;
            self.server.clock.step_unix(step);
            self.wall_offset += step;
            self.wall_step = step;
            self.totals.wall_steps += 1;
        }
        if self.dice.once_in(200) {
            self.suspended_until = now + self.dice.up_to(1_000, 100_000);
            self.totals.suspensions += 1;
        }
        if self.dice.once_in(100) {
            self.refuse_until = now + self.dice.up_to(2_000, 30_000);
        }
        if self.dice.once_in(200) && self.dead_listener_until < now {
            self.dead_listener_until = now + self.dice.up_to(2_000, 50_000);
        }
        if self.dice.once_in(150) {
            // Ages in a checkpoint are told by wall time. One that a step made wrong is not used here: what it
            // may do is bounded by the rules (it ends no message), and has its own test.
            let usable = self.checkpoint.as_ref().is_some_and(|it| it.wall_offset == self.wall_offset);
            let with_checkpoint = usable && !self.dice.once_in(3);
            self.totals.restarts += 1;
            self.totals.restarts_without_checkpoint += u64::from(!with_checkpoint);
            let checkpoint = self.checkpoint.take();
            self.buffered.clear();
            self.suspended_until = 0;
            self.start_server(checkpoint.as_ref().filter(|_| with_checkpoint));
            self.checkpoint = checkpoint;
            self.last_sweep = 0;
        }
        for sensor in 0..self.sensors.len() {
            let activation = self.sensors[sensor].activation;
            if activation != 0 && activation <= now && now < activation + SECOND {
                let facts = self.facts(sensor);
                assert!(self.server.live.set_facts(self.server.handles[sensor], facts));
                self.judges[sensor].armed = u64::MAX;
            }
        }
    }

    fn deliver(&mut self, frame: &Frame) {
        let number = frame.sensor as usize;
        let site = self.site_of(number);
        let heard_before_start = frame.at < self.server.started;
        if heard_before_start || self.now <= self.dead_listener_until {
            return;
        }
        let received = fleetpulse::time::MonoNanos(
            fleetpulse::time::MONO_ORIGIN.0 + (frame.at - self.server.started) * 1_000_000,
        );
        let handle = self.server.handles[number];
        let owner = OwnerRef { node: 0, shard: 0, connection: frame.sensor };
        let writer = if Run::has_gateway(site) {
            if self.gateway_cut_until[site] > frame.at {
                return;
            }
            let (index, epoch) = &mut self.server.gateways[site];
            let live = &self.server.live;
            let epoch = *epoch
                .get_or_insert_with(|| live.gateway_take(*index, owner, received).expect("there").epoch);
            live.gateway_seen(*index, epoch, received);
            let judge = &mut self.gateway_judges[site];
            judge.seen = judge.seen.max(Some(frame.at));
            Writer::Gateway(*index)
        } else {
            let live = &self.server.live;
            let take = || live.take(handle, owner, UnixMillis(WALL * 2), received).expect("there").epoch;
            Writer::Direct { epoch: *self.server.epochs[number].get_or_insert_with(take) }
        };
        let beat = Heartbeat {
            sensor_id: SensorId::from_number(number as u64 + 1).0,
            boot_id: frame.news.boot,
            sequence: frame.news.sequence,
            sensor_clock_unix_us: frame.clock_us,
            uptime_ms: frame.news.sequence * INTERVAL,
            interval_ms: INTERVAL as u32,
            flags: if frame.news.goodbye { FLAG_GOODBYE } else { 0 },
            update_stage: if frame.news.installing { UpdateStage::Installing.to_wire() } else { 0 },
            interfaces_total: 2,
            rx_packets: frame.news.rx,
            disk_permille: [400, frame.news.disk, 0, 0],
            ..Heartbeat::default()
        };
        let mut bytes = Vec::new();
        write_frame(&beat, frame.age, &mut bytes);
        let (read, _) = read_frame(&bytes).expect("our own frame");
        self.server.live.observe(handle, writer, &read, received);
        self.totals.frames += 1;
        let time = frame.at - u64::from(frame.age).min(frame.at);
        self.judges[number].hear(oracle::News { time, ..frame.news });
    }

    // ------------------------------------------------------------ server and judge

    fn sweep(&mut self) {
        let server = &mut self.server;
        let mono = server.clock.mono();
        let target = fleetpulse::time::MONO_ORIGIN.plus(Duration::from_millis(self.now - server.started));
        server.clock.advance(target.since(mono));
        let dead = self.now <= self.dead_listener_until;
        server.engine.set_doubt(Cause::DeadListener, dead, server.clock.mono());
        let ctx = Context { now: server.clock.now(), versions: &self.versions, lookup: &Sites, revision: 0 };
        let refusing = self.now <= self.refuse_until;
        let (journal, dice, totals) = (&mut self.journal, &mut self.dice, &mut self.totals);
        let mut offer = |transition: Transition| {
            if refusing && !dice.once_in(8) {
                totals.refused += 1;
                return Err(transition);
            }
            let key = (transition.subject, transition.rule);
            match transition.kind {
                TransitionKind::Raised => assert!(journal.insert(key), "raised twice: {transition:?}"),
                TransitionKind::Cleared => {
                    assert!(journal.remove(&key), "cleared, never raised: {transition:?}")
                }
            }
            Ok(())
        };
        let summary = server.engine.sweep(&server.live, &self.policies, &ctx, &mut offer);
        self.check(&summary);
    }

    fn check(&mut self, summary: &SweepSummary) {
        for (rule, delay) in &summary.detection_delays {
            assert!(*delay <= Duration::from_secs(1), "{} found {delay:?} after its deadline", rule.code());
            self.totals.delay_max_ms = self.totals.delay_max_ms.max(delay.as_millis() as u64);
        }
        self.totals.sweeps += 1;
        self.totals.raised += u64::from(summary.raised);
        assert_eq!(summary.fleet.total() as usize, self.sensors.len());
        assert_eq!(summary.busy, 0);
    }

    fn judge(&mut self) {
        let now = self.now;
        let step = if self.last_sweep == 0 { 0 } else { now - self.last_sweep };
        let dead = now <= self.dead_listener_until;
        let dead_before = self.last_sweep != 0 && self.last_sweep <= self.dead_listener_until;
        let stepped = std::mem::take(&mut self.wall_step).abs() > 1_500 && self.last_sweep != 0;
        if step > 2 * SECOND || dead || dead_before || stepped {
            self.doubt_end = now;
        }
        self.last_sweep = now;
        for site in 0..self.sites_out.len() {
            if Run::has_gateway(site) {
                let before = self.gateway_judges[site].silent;
                self.gateway_judges[site].judge(now, self.doubt_end);
                self.totals.gateways_silent += u64::from(self.gateway_judges[site].silent && !before);
            }
        }
        let mut expected = vec![(0_u32, 0_u32); self.sites_out.len()];
        for number in 0..self.sensors.len() {
            let site = self.site_of(number);
            let gateway = Run::has_gateway(site).then(|| self.gateway_judges[site]);
            let active = self.sensors[number].activation <= now;
            let judge = &mut self.judges[number];
            if judge.armed == u64::MAX {
                judge.armed = if step == 0 { 0 } else { now };
            }
            let before = judge.should;
            judge.judge(now, step, active, self.doubt_end, gateway.as_ref());
            let should = judge.should;
            self.totals.disconnected += u64::from(should.disconnected && !before.disconnected);
            self.totals.no_traffic += u64::from(should.no_traffic && !before.no_traffic);
            self.totals.disk += u64::from(should.disk && !before.disk);
            self.totals.stopped += u64::from(should.stopped && !before.stopped);
            if active && !should.stopped && gateway.is_none_or(|gateway| !gateway.silent) {
                expected[site].0 += 1;
                expected[site].1 += u32::from(should.disconnected);
            }
            self.compare(number, should);
        }
        for (site, (expected, silent)) in expected.into_iter().enumerate() {
            let out = &mut self.sites_out[site];
            let before = *out;
            *out = if *out {
                silent > 0 && f64::from(silent) >= 0.7 * f64::from(expected)
            } else {
                silent >= 3 && f64::from(silent) >= 0.8 * f64::from(expected)
            };
            self.totals.outages += u64::from(*out && !before);
            let subject = Subject::Site(SiteId::from_number(site as u64));
            let message = self.server.engine.active_message(subject, RuleId::SiteOutage);
            assert_eq!(
                message.is_some(),
                *out,
                "{now} ms: site {site} has {silent} of {expected} silent: {message:?}"
            );
            if let Some(message) = message {
                assert_eq!(message.evidence[0].value, EvidenceValue::Integer(i64::from(silent)));
            }
            let subject = Subject::Gateway(GatewayId::from_number(site as u64 + 1));
            let message = self.server.engine.active_message(subject, RuleId::GatewaySilent);
            let judge = &self.gateway_judges[site];
            assert_eq!(message.is_some(), judge.silent, "{now} ms: gateway {site}: {judge:?} {message:?}");
        }
    }

    fn compare(&self, number: usize, should: oracle::Should) {
        let verdict = self.server.live.verdict(self.server.handles[number].index);
        let mut bits = 0;
        for (rule, holds) in [
            (RuleId::PendingActivation, should.pending),
            (RuleId::PlannedStop, should.stopped),
            (RuleId::Disconnected, should.disconnected),
            (RuleId::NoTraffic, should.no_traffic),
            (RuleId::DiskAlmostFull, should.disk),
        ] {
            bits |= if holds { rule.bit() } else { 0 };
        }
        let codes = |bits| rules_of(bits).map(RuleId::code).collect::<Vec<_>>();
        assert!(
            verdict.active & JUDGED == bits,
            "{} ms, sensor {number}: the engine says {:?}, the oracle {:?}\n{:?}\n{:?}\n{:?}",
            self.now,
            codes(verdict.active & JUDGED),
            codes(bits),
            self.judges[number],
            self.sensors[number],
            self.server.engine.doubt(),
        );
        let mut others = verdict.active & !JUDGED;
        if self.sensors[number].clock_touched {
            others &= !RuleId::ClockDrift.bit();
        }
        // Restarts come in rows here, and lossy links are lossy: both are judged by the rules' own tests.
        others &= !(RuleId::RestartLoop.bit() | RuleId::UnstableLink.bit());
        assert!(others == 0, "{} ms, sensor {number}: nobody did {:?}", self.now, codes(others));
    }

    fn save(&mut self) {
        let mut live = Vec::new();
        image::write(&self.server.live, self.server.clock.now(), |piece| live.extend_from_slice(piece));
        let pending = self.server.engine.pending_image(self.server.clock.mono());
        let heard = self.judges.iter().map(oracle::Sensor::checkpoint).collect();
        self.checkpoint = Some(Checkpoint { wall_offset: self.wall_offset, live, pending, heard });
    }
}

impl Sensor {
    fn reboot(&mut self, back: u64) {
        self.boot += 1;
        self.sequence = 0;
        self.rx = 0;
        self.booted = back;
        self.off_until = back;
        self.backlog.clear();
    }
}

fn message(subject: Subject, rule: RuleId) -> ActiveMessage {
    ActiveMessage {
        subject,
        rule,
        since: UnixMillis(WALL),
        raised_at: UnixMillis(WALL),
        evidence: Vec::new(),
        durable: true,
        unknown: false,
        folded_into: None,
        muted: false,
    }
}
