//! Real sensors (the client library, one connection each) in the test's process, whose faults the test sets.

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleetpulse::fleet::Actor;
use fleetpulse::identity::{ClientIdentity, PeerIdentity};
use fleetpulse::limits::PEER_CERTIFICATE_LIFE;
use fleetpulse::live::SensorType;
use fleetpulse::sensor::{
    BackOffPolicy, Beat, Boot, Client, ClientConfig, LinkReport, LinkState, Socket, Source,
};
use fleetpulse::server::data::DataDir;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::heartbeat::{BackupResult, EndpointState, Heartbeat, NtpState, inline};
use fleetpulse::wire::id::SensorId;

/// What a sensor can have. Each raises exactly one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// It says nothing more.
    Silent,
    /// Its root partition is full.
    Disk,
    /// A self-test fails.
    SelfTest,
    /// Its time server does not answer.
    Ntp,
    /// It reaches some endpoints only.
    Endpoint,
}

impl Fault {
    pub const ALL: [Fault; 5] = [Fault::Silent, Fault::Disk, Fault::SelfTest, Fault::Ntp, Fault::Endpoint];

    /// The message that it raises.
    pub fn code(self) -> &'static str {
        match self {
            Fault::Silent => "disconnected",
            Fault::Disk => "disk-almost-full",
            Fault::SelfTest => "self-test-failed",
            Fault::Ntp => "ntp-unreachable",
            Fault::Endpoint => "partially-connected",
        }
    }

    fn bit(self) -> u32 {
        1 << self as u32
    }
}

/// One sensor.
pub struct Sensor {
    pub id: SensorId,
    pub serial: String,
    identity: ClientIdentity,
    faults: Arc<AtomicU32>,
    client: Option<Client>,
    pauses: Arc<Mutex<Vec<(i64, i64)>>>,
    /// When each of its connections was first seen.
    links: Vec<i64>,
}

impl Sensor {
    /// Sets or lifts a fault; the next heartbeat says so.
    pub fn set(&self, fault: Fault, on: bool) {
        if on {
            self.faults.fetch_or(fault.bit(), Ordering::Relaxed);
        } else {
            self.faults.fetch_and(!fault.bit(), Ordering::Relaxed);
        }
    }

    /// Whether a fault is set.
    pub fn has(&self, fault: Fault) -> bool {
        self.faults.load(Ordering::Relaxed) & fault.bit() != 0
    }

    /// On a machine with too much to do the sensors themselves come late: a heartbeat was not made, or its
    /// connection not there, for so long that a silence in this time is true.
    pub fn was_really_silent(&self, from: i64, until: i64) -> bool {
        let pauses = self.pauses.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.iter().any(|&(begin, end)| begin < until && from < end)
    }

    /// When its first connection after this moment was seen, if one was.
    pub fn linked_after(&self, moment: i64) -> Option<i64> {
        self.links.iter().copied().find(|at| *at > moment)
    }

    /// How its connection does.
    pub fn report(&self) -> LinkReport {
        self.client.as_ref().expect("connected by the test").report()
    }
}

/// All sensors of a test.
pub struct Fleet {
    pub sensors: Vec<Sensor>,
    runtime: tokio::runtime::Runtime,
    clock: SystemClock,
}

/// Time between two heartbeats from which on a sensor made them late, in milliseconds; the interval is 1000.
const PAUSE_MS: i64 = 3_000;
/// As a demonstration has them: minutes would be hours of a test.
const BACK_OFF: BackOffPolicy = BackOffPolicy {
    first: Duration::from_millis(200),
    max: Duration::from_secs(1),
    replaced: Duration::from_secs(12),
    refused: Duration::from_secs(60),
};
const SENSORS_PER_SITE: usize = 25;

impl Fleet {
    /// Registers so many sensors on a data directory that no server uses, and issues their certificates.
    pub fn register(data: &Path, count: usize) -> Fleet {
        let clock = SystemClock::start();
        let mut data = DataDir::open(data, Arc::new(clock)).expect("a data directory");
        let ids: Vec<_> = (0..count).map(|_| SensorId::fresh()).collect();
        let mut plan = Enlistment::new(&data.register);
        for (number, id) in ids.iter().enumerate() {
            let site = format!("site {}", number / SENSORS_PER_SITE);
            plan.sensor(*id, &format!("sensor {number}"), SensorType::OtCloud, &site, "zone");
        }
        let commands = plan.into_commands();
        data.apply(&commands, Actor::command_line("test"), clock.unix()).expect("registered");
        let sensor = |id| {
            let peer = PeerIdentity::Sensor(id);
            let identity = data.authority.issue(peer, PEER_CERTIFICATE_LIFE, clock.unix()).expect("signed");
            let serial = identity.leaf().expect("its own certificate").serial.to_string();
            let (faults, pauses) = (Arc::default(), Arc::default());
            Sensor { id, serial, identity, faults, client: None, pauses, links: Vec::new() }
        };
        let sensors = ids.into_iter().map(sensor).collect();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        Fleet { sensors, runtime, clock }
    }

    /// Starts all clients; they connect by themselves, again and again.
    pub fn connect(&mut self, server: std::net::SocketAddr) {
        let _inside = self.runtime.enter();
        let socket = Socket::bind().expect("a socket");
        for sensor in &mut self.sensors {
            let config = ClientConfig {
                interval: Duration::from_secs(1),
                back_off: BACK_OFF,
                start_spread: Duration::from_millis(500),
                ..ClientConfig::new(server.to_string(), "localhost")
            };
            let (faults, pauses) = (Arc::clone(&sensor.faults), Arc::clone(&sensor.pauses));
            let source = source(sensor.id, faults, pauses, self.clock);
            let client = Client::start(config, &sensor.identity, &socket, self.clock, source);
            sensor.client = Some(client.expect("a client"));
        }
    }

    /// Sensors whose connection is up, as they see it.
    pub fn connected(&self) -> usize {
        self.sensors.iter().filter(|sensor| sensor.report().state == LinkState::Up).count()
    }

    /// Notes which sensors have a new connection.
    pub fn look(&mut self) {
        let now = self.clock.unix().0;
        for sensor in &mut self.sensors {
            let connects = sensor.report().stats.connects as usize;
            sensor.links.resize(connects.max(sensor.links.len()), now);
        }
    }

    /// The clock of all of it.
    pub fn clock(&self) -> SystemClock {
        self.clock
    }
}

/// Healthy by the demo policy, but for the faults that are set. A silent sensor counts none of the heartbeats
/// that it does not make.
fn source(
    id: SensorId,
    faults: Arc<AtomicU32>,
    pauses: Arc<Mutex<Vec<(i64, i64)>>>,
    clock: SystemClock,
) -> impl Source {
    let mut boot = Boot::new(id, clock.mono());
    let (mut packets, mut before) = (0, None::<i64>);
    move |beat: &Beat| {
        let faults = faults.load(Ordering::Relaxed);
        let has = |fault: Fault| faults & fault.bit() != 0;
        if has(Fault::Silent) {
            before = None;
            return None;
        }
        let now = beat.now.unix.0;
        if let Some(before) = before.replace(now)
            && now - before > PAUSE_MS
        {
            pauses.lock().unwrap_or_else(PoisonError::into_inner).push((before, now));
        }
        packets += 100;
        let mut endpoint_states = [EndpointState::NotConfigured.to_wire(); 8];
        endpoint_states[0] = EndpointState::Ok.to_wire();
        endpoint_states[1] =
            if has(Fault::Endpoint) { EndpointState::Dns } else { EndpointState::Ok }.to_wire();
        let mut heartbeat = Heartbeat {
            version: inline(fleetpulse::sensor::sim::VERSION),
            ntp_state: if has(Fault::Ntp) { NtpState::Unreachable } else { NtpState::Ok }.to_wire(),
            endpoint_states,
            backup_result: BackupResult::Ok.to_wire(),
            backup_age_s: 60,
            interfaces_total: 1,
            interfaces_up: 1,
            interfaces_with_traffic: 1,
            rx_packets: packets,
            rx_bytes: packets * 100,
            self_test_ran: 1,
            self_test_failed: u32::from(has(Fault::SelfTest)),
            self_test_age_s: 60,
            disk_permille: [if has(Fault::Disk) { 970 } else { 300 }, 300, 300, 300],
            ..Heartbeat::default()
        };
        boot.stamp(&mut heartbeat, beat.now);
        Some(heartbeat)
    }
}
