//! `/metrics` of a small and of a large fleet, and pages of single sensors.
//!
//! Targets: `/metrics` below 2 ms, the same for every fleet; a page of single sensors at most 60 ns a series,
//! collecting included. The throughput that is shown for pages counts series.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use fleetpulse::export::sensors::{SENSOR_METRICS, SensorFilter, SensorPage};
use fleetpulse::export::{Exposition, Figures, Format, Source};
use fleetpulse::fleet::{Actor, Command, Register};
use fleetpulse::health::{Context, Engine, NoLookup, PolicyTable, SweepSummary, VersionTable};
use fleetpulse::live::{
    Lifecycle, LiveState, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, Writer,
};
use fleetpulse::time::{MONO_ORIGIN, Now, UnixMillis};
use fleetpulse::wire::frame::{read_frame, write_frame};
use fleetpulse::wire::heartbeat::{Heartbeat, Profile, inline};
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

const NOW: Now = Now { mono: MONO_ORIGIN, unix: UnixMillis(1_795_478_400_123) };
/// Sensors of one site.
const SITE_SENSORS: u64 = 500;

/// A fleet that has reported, and the register that names it.
fn fleet(sensors: u64) -> (LiveState, Register) {
    let (live, mut register) = (LiveState::with_capacity(1 << 20), Register::new());
    let subscription = SubscriptionId::from_number(1);
    let mut commands = vec![Command::AddSubscription { id: subscription, name: "Example Works".into() }];
    for number in 0..sensors {
        let (site, zone) = (number / SITE_SENSORS, ZoneId::from_number(number / SITE_SENSORS + 1));
        let site_id = SiteId::from_number(site + 1);
        if number % SITE_SENSORS == 0 {
            commands.push(Command::AddSite { id: site_id, subscription, name: format!("site-{site:03}") });
            commands.push(Command::AddZone { id: zone, site: site_id, name: "line 1".into() });
        }
        let (kind, lifecycle) = (SensorType::OtCloud, Lifecycle::Active);
        let id = SensorId::from_number(number + 1);
        commands.push(Command::AddSensor { id, zone, name: format!("sensor-{number:06}"), kind, lifecycle });
        hear(&live, number, SiteIndex(site as u32));
    }
    for some in commands.chunks(5_000) {
        let batch = register.apply(some, Actor::system("bench"), NOW.unix).expect("valid commands");
        register.fold(&batch).expect("its own batch");
    }
    (live, register)
}

fn hear(live: &LiveState, number: u64, site: SiteIndex) {
    let facts = SlotFacts {
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        site,
        policy: PolicyIndex(0),
        muted: false,
    };
    let id = SensorId::from_number(number + 1);
    let handle = live.insert(id, facts).expect("room");
    let owner = OwnerRef { node: 0, shard: 0, connection: number as u32 };
    let epoch = live.take(handle, owner, UnixMillis(1_900_000_000_000), NOW.mono).expect("there").epoch;
    let mut bytes = Vec::new();
    for sequence in 1..=2 {
        bytes.clear();
        write_frame(&beat(id, number, sequence), 0, &mut bytes);
        let (frame, _) = read_frame(&bytes).expect("our own frame");
        black_box(live.observe(handle, Writer::Direct { epoch }, &frame, NOW.mono));
    }
}

fn beat(id: SensorId, number: u64, sequence: u64) -> Heartbeat {
    Heartbeat {
        sensor_id: id.0,
        sequence,
        uptime_ms: sequence * 10_000,
        sensor_clock_unix_us: NOW.unix.0 * 1_000,
        version: inline("26.2.0"),
        profile: Profile::E1000.to_wire(),
        rx_packets: sequence * 1_234_567 + number,
        rx_bytes: sequence * 987_654_321 + number,
        devices: 1_200,
        alerts: 3,
        cpu_permille: 237,
        memory_permille: 611,
        disk_permille: [400, 312, 200, 100],
        temperature_decicelsius: 475,
        rtt_us: 23_456,
        ..Heartbeat::default()
    }
}

/// Figures as a server has them after a sweep over the fleet.
struct Swept(SweepSummary);

impl Source for Swept {
    fn figures(&self) -> Figures {
        Figures { summary: Arc::new(self.0.clone()), ..Figures::empty(NOW) }
    }
}

fn whole_fleet(c: &mut Criterion) {
    let mut group = c.benchmark_group("metrics");
    for sensors in [1_000_u64, 100_000] {
        let (live, _) = fleet(sensors);
        let mut engine = Engine::new(Duration::from_secs(1));
        let (policies, versions) = (PolicyTable::default(), VersionTable::default());
        let context = Context { now: NOW, versions: &versions, lookup: &NoLookup, revision: 0 };
        let summary = engine.sweep(&live, &policies, &context, &mut |_| Ok(()));
        assert_eq!(u64::from(summary.fleet.total()), sensors);
        let exposition = Exposition::new(Arc::new(Swept(summary)));
        for (name, format) in [("classic", Format::Classic), ("openmetrics", Format::OpenMetrics)] {
            let page = exposition.render(format);
            group.throughput(Throughput::Elements(series(page.as_bytes())));
            group.bench_function(BenchmarkId::new(name, sensors), |bencher| {
                bencher.iter(|| black_box(exposition.render(format)).len());
            });
        }
    }
    group.finish();
}

fn single_sensors(c: &mut Criterion) {
    let mut group = c.benchmark_group("sensor_page");
    group.sample_size(20);
    let (live, register) = fleet(10_000);
    let few =
        ["fleetpulse_sensor_healthy", "fleetpulse_sensor_connected", "fleetpulse_sensor_delivery_ratio"];
    let few = SENSOR_METRICS.iter().filter(|metric| few.contains(&metric.family.name)).collect();
    let few = SensorFilter { metrics: few, ..SensorFilter::default() };
    for (name, filter) in [("all_metrics", SensorFilter::default()), ("three_metrics", few)] {
        let collect = || {
            let with = |job: &mut dyn FnMut(&Register)| job(&register);
            SensorPage::collect(&live, with, &filter, None, 50_000, NOW, Format::Classic)
        };
        let (mut page, mut count) = (collect(), 0);
        while let Some(piece) = page.next_piece() {
            count += series(&piece);
        }
        group.throughput(Throughput::Elements(count));
        group.bench_function(BenchmarkId::new(name, 10_000), |bencher| {
            bencher.iter(|| {
                let (mut page, mut bytes) = (collect(), 0);
                while let Some(piece) = page.next_piece() {
                    bytes += black_box(piece).len();
                }
                bytes
            });
        });
    }
    group.finish();
}

fn series(page: &[u8]) -> u64 {
    page.split(|&byte| byte == b'\n').filter(|line| !line.is_empty() && line[0] != b'#').count() as u64
}

criterion_group!(benches, whole_fleet, single_sensors);
criterion_main!(benches);
