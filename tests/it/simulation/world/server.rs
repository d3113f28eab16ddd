//! The server under test: the real live state and engine, started, fed, swept, killed and started again.

use std::time::Duration;

use fleetpulse::health::{
    ActiveMessage, Cause, Context, Engine, Lookup, Policy, PolicyPatch, RuleId, Subject, SweepSummary,
    Transition, TransitionKind,
};
use fleetpulse::live::{
    GatewayIndex, LiveState, Observed, OwnerRef, Receipt, SiteIndex, SlotHandle, Writer, image,
};
use fleetpulse::time::{Clock, MONO_ORIGIN, ManualClock, MonoNanos, UnixMillis};
use fleetpulse::wire::frame::{read_frame, write_frame};
use fleetpulse::wire::heartbeat::{FLAG_GOODBYE, Heartbeat, UpdateStage};
use fleetpulse::wire::id::{GatewayId, SensorId, SiteId};

use super::{Frame, INTERVAL, Run, WALL, oracle};
use oracle::News;

/// A sensor's connection, as its shard knows it.
#[derive(Clone, Copy)]
struct Connection {
    number: u32,
    epoch: u64,
}

pub struct Server {
    pub clock: ManualClock,
    pub started: u64,
    pub live: LiveState,
    pub engine: Engine,
    pub handles: Vec<SlotHandle>,
    connections: Vec<Option<Connection>>,
    pub gateways: Vec<(GatewayIndex, Option<u64>)>,
}

impl Server {
    pub fn before_its_start() -> Server {
        Server {
            clock: ManualClock::new(UnixMillis(WALL)),
            started: 0,
            live: LiveState::with_capacity(0),
            engine: Engine::new(Duration::from_secs(1)),
            handles: Vec::new(),
            connections: Vec::new(),
            gateways: Vec::new(),
        }
    }
}

pub struct Sites;

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

pub struct Checkpoint {
    pub wall_offset: i64,
    live: Vec<u8>,
    pending: Vec<u8>,
    heard: Vec<oracle::Heard>,
}

pub fn policy() -> Policy {
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
    pub(super) fn start_server(&mut self, checkpoint: Option<&Checkpoint>) {
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
            connections: vec![None; handles.len()],
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

    /// Hands a frame to the server. It came in after `emptied`, as far as the server knows.
    pub(super) fn deliver(&mut self, frame: &Frame, emptied: u64) {
        let number = frame.sensor as usize;
        let site = self.site_of(number);
        let heard_before_start = frame.at < self.server.started;
        if heard_before_start || self.now <= self.dead_listener_until {
            return;
        }
        let mono = |at: u64| MonoNanos(MONO_ORIGIN.0 + at.saturating_sub(self.server.started) * 1_000_000);
        let received = mono(frame.at);
        let receipt = Receipt { after: mono(emptied), ..Receipt::exact(received) };
        let writer = if Run::has_gateway(site) {
            if self.gateway_cut_until[site] > frame.at {
                return;
            }
            self.by_gateway(site, frame.at, received)
        } else {
            match self.by_own_connection(frame, received) {
                Some(writer) => writer,
                None => return,
            }
        };
        let mut bytes = Vec::new();
        write_frame(&heartbeat(frame), frame.age, &mut bytes);
        let (read, _) = read_frame(&bytes).expect("our own frame");
        let observed = self.server.live.observe_receipt(self.server.handles[number], writer, &read, receipt);
        self.totals.reordered += u64::from(observed == Observed::Late);
        self.totals.frames += 1;
        let time = frame.at - u64::from(frame.age).min(frame.at);
        self.judges[number].hear(oracle::News { time, ..frame.news });
    }

    fn by_gateway(&mut self, site: usize, at: u64, received: MonoNanos) -> Writer {
        let (index, epoch) = &mut self.server.gateways[site];
        let live = &self.server.live;
        let owner = OwnerRef { node: 0, shard: 0, connection: site as u32 };
        let epoch =
            *epoch.get_or_insert_with(|| live.gateway_take(*index, owner, received).expect("there").epoch);
        live.gateway_seen(*index, epoch, received);
        let judge = &mut self.gateway_judges[site];
        judge.seen = judge.seen.max(Some(at));
        Writer::Gateway(*index)
    }

    /// The newest connection of a sensor takes its slot; what comes late over an older one is refused.
    fn by_own_connection(&mut self, frame: &Frame, received: MonoNanos) -> Option<Writer> {
        let number = frame.sensor as usize;
        let handle = self.server.handles[number];
        let live = &self.server.live;
        if let Some(known) = self.server.connections[number] {
            if known.number == frame.connection {
                return Some(Writer::Direct { epoch: known.epoch });
            }
            if known.number > frame.connection {
                let mut bytes = Vec::new();
                write_frame(&heartbeat(frame), frame.age, &mut bytes);
                let (read, _) = read_frame(&bytes).expect("our own frame");
                let writer = Writer::Direct { epoch: known.epoch - 1 };
                assert_eq!(live.observe(handle, writer, &read, received), Observed::NotOwner);
                self.totals.stragglers += 1;
                return None;
            }
            if self.dice.once_in(2) {
                // The server has seen the end of the old one; else the new one pushes it out.
                assert!(live.release(handle, known.epoch, received));
            }
        }
        let owner = OwnerRef { node: 0, shard: 0, connection: frame.sensor };
        let taken = live.take(handle, owner, UnixMillis(WALL * 2), received).expect("registered");
        self.totals.replaced += u64::from(taken.replaced.is_some());
        self.server.connections[number] = Some(Connection { number: frame.connection, epoch: taken.epoch });
        Some(Writer::Direct { epoch: taken.epoch })
    }

    pub(super) fn sweep(&mut self) {
        let server = &mut self.server;
        let mono = server.clock.mono();
        let target = MONO_ORIGIN.plus(Duration::from_millis(self.now - server.started));
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

    pub(super) fn save(&mut self) {
        let mut live = Vec::new();
        image::write(&self.server.live, self.server.clock.now(), |piece| live.extend_from_slice(piece));
        let pending = self.server.engine.pending_image(self.server.clock.mono());
        let heard = self.judges.iter().map(oracle::Sensor::checkpoint).collect();
        self.checkpoint = Some(Checkpoint { wall_offset: self.wall_offset, live, pending, heard });
    }
}

fn heartbeat(frame: &Frame) -> Heartbeat {
    let News { boot, sequence, rx, disk, installing, goodbye, .. } = frame.news;
    Heartbeat {
        sensor_id: SensorId::from_number(u64::from(frame.sensor) + 1).0,
        boot_id: boot,
        sequence,
        sensor_clock_unix_us: frame.clock_us,
        uptime_ms: sequence * INTERVAL,
        interval_ms: INTERVAL as u32,
        flags: if goodbye { FLAG_GOODBYE } else { 0 },
        update_stage: if installing { UpdateStage::Installing.to_wire() } else { 0 },
        interfaces_total: 2,
        rx_packets: rx,
        disk_permille: [400, disk, 0, 0],
        ..Heartbeat::default()
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
