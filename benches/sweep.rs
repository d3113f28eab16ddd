//! One sweep over 10,000, 100,000 and 1,000,000 slots of which 0 %, 10 % and 100 % changed since the last one.
//! At one heartbeat every ten seconds and a cadence of one second, 10 % is the ordinary case.
//!
//! Targets: 10 % changed in at most 1 ms at 100,000 slots and 10 ms at 1,000,000.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use fleetpulse::health::{Context, Engine, NoLookup, PolicyTable, VersionTable};
use fleetpulse::live::{
    Lifecycle, LiveState, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotHandle, Writer,
};
use fleetpulse::time::{MONO_ORIGIN, MonoNanos, Now, UnixMillis};
use fleetpulse::wire::frame::{read_frame, write_frame};
use fleetpulse::wire::heartbeat::{Heartbeat, Profile, inline};
use fleetpulse::wire::id::SensorId;

const WALL: UnixMillis = UnixMillis(1_795_478_400_000);

struct Fleet {
    live: LiveState,
    engine: Engine,
    policies: PolicyTable,
    versions: VersionTable,
    handles: Vec<(SlotHandle, Writer)>,
    now: MonoNanos,
    start: MonoNanos,
    round: u64,
    /// Heartbeats of each sensor.
    sequence: Vec<u64>,
}

impl Fleet {
    fn new(slots: u32) -> Fleet {
        let live = LiveState::with_capacity(slots);
        let now = MONO_ORIGIN.plus(Duration::from_secs(60));
        let facts = |number: u32| SlotFacts {
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::Active,
            site: SiteIndex(number / 500),
            policy: PolicyIndex(0),
            muted: false,
        };
        let handles = (0..slots)
            .map(|number| {
                let id = SensorId::from_number(u64::from(number) + 1);
                let handle = live.insert(id, facts(number)).expect("room");
                let owner = OwnerRef { node: 0, shard: 0, connection: number };
                let end = UnixMillis(WALL.0 + 90 * 86_400_000);
                let epoch = live.take(handle, owner, end, now).expect("there").epoch;
                (handle, Writer::Direct { epoch })
            })
            .collect();
        let mut fleet = Fleet {
            live,
            engine: Engine::new(Duration::from_secs(1)),
            policies: PolicyTable::default(),
            versions: VersionTable::default(),
            handles,
            now,
            start: now,
            round: 0,
            sequence: vec![0; slots as usize],
        };
        for _ in 0..3 {
            fleet.hear(1);
            fleet.sweep();
        }
        fleet.assert_healthy();
        fleet
    }

    /// No message is active, and none is on its way.
    fn assert_healthy(&self) {
        assert_eq!(self.engine.active().count(), 0, "a healthy fleet");
        let on_the_way = Engine::new(Duration::from_secs(1)).pending_image(self.now);
        assert_eq!(self.engine.pending_image(self.now), on_the_way, "no rule on its way");
    }

    fn wall(&self) -> UnixMillis {
        WALL.plus(self.now.since(self.start))
    }

    /// A second later one sensor in `step` sends its next heartbeat, another one each time.
    fn hear(&mut self, step: usize) {
        self.round += 1;
        self.now = self.now.plus(Duration::from_secs(1));
        let wall = self.wall();
        let first = self.round as usize % step;
        let mut bytes = Vec::with_capacity(512);
        for (number, (handle, writer)) in self.handles.iter().enumerate().skip(first).step_by(step) {
            bytes.clear();
            self.sequence[number] += 1;
            write_frame(&beat(number as u64 + 1, self.sequence[number], wall), 0, &mut bytes);
            let (frame, _) = read_frame(&bytes).expect("our own frame");
            black_box(self.live.observe(*handle, *writer, &frame, self.now));
        }
    }

    fn sweep(&mut self) -> u32 {
        let now = Now { mono: self.now, unix: self.wall() };
        let ctx = Context { now, versions: &self.versions, lookup: &NoLookup, revision: 0 };
        self.engine.sweep(&self.live, &self.policies, &ctx, &mut |_| Ok(())).looked_at
    }
}

fn beat(sensor: u64, sequence: u64, wall: UnixMillis) -> Heartbeat {
    Heartbeat {
        sensor_id: SensorId::from_number(sensor).0,
        sequence,
        uptime_ms: sequence * 10_000,
        sensor_clock_unix_us: wall.0 * 1_000,
        version: inline("26.2.0"),
        profile: Profile::E1000.to_wire(),
        endpoint_states: [1, 1, 1, 0, 0, 0, 0, 0],
        interfaces_total: 4,
        interfaces_up: 4,
        rx_packets: sequence * 10_000,
        rx_bytes: sequence * 8_000_000,
        self_test_ran: 0xff,
        self_test_age_s: 60,
        devices: 1_200,
        disk_permille: [400, 300, 200, 100],
        ..Heartbeat::default()
    }
}

fn sweep(c: &mut Criterion) {
    let mut group = c.benchmark_group("sweep");
    group.sample_size(10).measurement_time(Duration::from_secs(3));
    for slots in [10_000_u32, 100_000, 1_000_000] {
        let mut fleet = Fleet::new(slots);
        group.throughput(Throughput::Elements(u64::from(slots)));
        for (changed, step) in [("0%", 0), ("10%", 10), ("100%", 1)] {
            let fleet = std::cell::RefCell::new(&mut fleet);
            group.bench_function(BenchmarkId::new(changed, slots), |bencher| {
                bencher.iter_batched(
                    || {
                        if step > 0 {
                            fleet.borrow_mut().hear(step);
                        }
                    },
                    |()| fleet.borrow_mut().sweep(),
                    BatchSize::PerIteration,
                );
            });
            fleet.borrow().assert_healthy();
        }
    }
    group.finish();
}

criterion_group!(benches, sweep);
criterion_main!(benches);
