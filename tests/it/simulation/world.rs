//! The world: sensors that report, networks that lose, delay, double and cut, and a server that is suspended,
//! killed and started again.

mod judge;
mod server;
mod totals;

use std::collections::HashSet;

use fleetpulse::health::{PolicyTable, RuleId, Subject, VersionTable};
use fleetpulse::live::{Lifecycle, PolicyIndex, SensorType, SiteIndex, SlotFacts};

use super::oracle;
use server::{Checkpoint, Server};
pub use totals::Totals;

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

#[derive(Clone, Copy, Debug)]
struct Frame {
    at: u64,
    sensor: u32,
    /// The sensor's connection over which it was sent.
    connection: u32,
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
    connection: u32,
    quiet_until: u64,
    rx: u64,
    disk: u16,
    installing: bool,
    clock_offset_us: i64,
    clock_touched: bool,
    activation: u64,
    backlog: Vec<Frame>,
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
    /// The server had read all that there was.
    emptied: u64,
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
            connection: 1,
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
            emptied: 0,
            gateway_cut_until: vec![0; sites],
            dead_listener_until: 0,
            suspended_until: 0,
            refuse_until: 0,
            policies: PolicyTable::new(server::policy()),
            versions: VersionTable::default(),
            server: Server::before_its_start(),
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
            for frame in late {
                self.deliver(&frame, self.emptied);
            }
            for frame in due {
                self.deliver(&frame, frame.at);
            }
            self.emptied = self.now;
            self.sweep();
            self.judge();
            if second.is_multiple_of(30) {
                self.save();
            }
        }
        self.refuse_until = 0;
        // Whoever is suspended at the end is let go as at any other time: after more than a missed sweep.
        let resumed = if self.now < self.suspended_until { self.now + 3 * SECOND } else { 0 };
        self.now = (self.now + SECOND).max(resumed);
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
                    let boot = self.sensors[sensor].boot;
                    self.beat(sensor, made);
                    self.totals.reboots += self.sensors[sensor].boot - boot;
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
                    self.totals.sensor_clock_steps += 1;
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
        if dice.once_in(60) {
            // Another address by NAT: most connections live on, some have to be made again.
            self.totals.rebindings += 1;
            sensor.connection += u32::from(dice.once_in(2));
        }
        let connection = sensor.connection;
        let frame = Frame { at: made, sensor: number as u32, connection, age: 0, clock_us, news };
        let straggler = dice.once_in(200).then(|| dice.up_to(3_000, 40_000));
        let mut sent = Vec::new();
        if sensor.cut_until <= made {
            sent = std::mem::take(&mut sensor.backlog);
            sent.push(frame);
        } else if sensor.backlog.len() < 20 && !number.is_multiple_of(2) {
            // Kept and sent late, unless a reboot comes before.
            sensor.backlog.push(frame);
        }
        if goodbye {
            sensor.reboot(made + dice.up_to(40_000, 200_000));
        } else if sensor.installing && dice.once_in(3) {
            sensor.reboot(made + dice.up_to(30_000, 260_000));
        }
        if sent.is_empty() {
            return;
        }
        if let Some(late) = straggler {
            // Somewhere a queue holds a copy, maybe until the connection is another.
            let at = made + late;
            if let Some(second) = self.frames.get_mut(at.div_ceil(SECOND) as usize) {
                second.push(Frame { at, ..frame });
            }
        }
        self.send(sent, made, connection);
    }

    /// What the network makes of the frames that a sensor sends now.
    fn send(&mut self, frames: Vec<Frame>, now: u64, connection: u32) {
        for frame in frames {
            let age = (now - frame.at) as u32;
            if self.dice.once_in(30) {
                self.totals.lost += 1;
                continue;
            }
            let copies = if self.dice.once_in(40) { 2 } else { 1 };
            self.totals.doubled += copies - 1;
            for _ in 0..copies {
                let slow = if self.dice.once_in(10) { 3_500 } else { 100 };
                let at = now + self.dice.up_to(1, slow);
                if let Some(second) = self.frames.get_mut(at.div_ceil(SECOND) as usize) {
                    second.push(Frame { at, age, connection, ..frame });
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
        if self.dice.once_in(60) {
            // A gateway connects again, and the server has not noticed the end of the connection before.
            let site = self.dice.up_to(0, sites - 1) as usize;
            self.server.gateways[site].1 = None;
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
}

impl Sensor {
    fn reboot(&mut self, back: u64) {
        self.boot += 1;
        self.connection += 1;
        self.sequence = 0;
        self.rx = 0;
        self.booted = back;
        self.off_until = back;
        self.backlog.clear();
    }
}
