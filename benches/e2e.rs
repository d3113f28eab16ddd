//! From a sensor's frame to its slot, over real QUIC on loopback: server and load in this process, on their
//! own threads.
//!
//! `cargo bench --bench e2e`; in quick mode (`-- --quick`) under half a minute. Times are wall time of both
//! sides together; what the server alone spends is told by `fleetpulse load`, which puts it into another
//! process on another core.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use fleetpulse::config::Config;
use fleetpulse::fleet::Actor;
use fleetpulse::identity::PeerIdentity;
use fleetpulse::live::SensorType;
use fleetpulse::sensor::load::{Carried, GatewayRate, LoadCounts, LoadDriver, LoadPeer, LoadTarget};
use fleetpulse::server::Server;
use fleetpulse::server::enlist::Enlistment;
use fleetpulse::time::{Clock, SystemClock};
use fleetpulse::wire::id::{GatewayId, SensorId};
use tokio::runtime::Runtime;

const SECOND: Duration = Duration::from_secs(1);
const LIFE: Duration = Duration::from_secs(86_400);
const GATEWAY_SENSORS: usize = 64;

/// A server with nothing in it.
struct Place {
    server: Server,
    clock: SystemClock,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().expect("temporary folder");
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        config.ingest.listen = ([127, 0, 0, 1], 0).into();
        config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
        config.ingest.shards = 1;
        config.ingest.interval = SECOND;
        config.http.listen = ([127, 0, 0, 1], 0).into();
        Place {
            server: Server::start(config).expect("started"),
            clock: SystemClock::start(),
            _folder: folder,
        }
    }

    /// Registers them, each set of a gateway on a site of its own.
    fn peers(&self, sensors: usize, gateways: usize) -> Vec<LoadPeer> {
        let mut wanted = Vec::new();
        let register = self.server.fleet().register();
        let mut plan = Enlistment::new(&register);
        for number in 0..sensors {
            let id = SensorId::fresh();
            plan.sensor(id, &format!("sensor {number}"), SensorType::OtCloud, "bench", "zone");
            wanted.push((PeerIdentity::Sensor(id), Carried::Sensor(id)));
        }
        for gateway in 0..gateways {
            let (id, site) = (GatewayId::fresh(), format!("site {gateway}"));
            let ids: Vec<SensorId> = (0..GATEWAY_SENSORS).map(|_| SensorId::fresh()).collect();
            for id in &ids {
                plan.sensor(*id, &id.to_string(), SensorType::OtCloud, &site, "zone");
            }
            plan.gateway(id, &format!("gateway {gateway}"), &[&site]);
            wanted.push((PeerIdentity::Gateway(id), Carried::Gateway(ids)));
        }
        let commands = plan.into_commands();
        drop(register);
        self.server.apply(&commands, Actor::command_line("bench")).expect("registered");
        let issue = |(who, carried)| {
            let identity = self.server.authority().issue(who, LIFE, self.clock.unix()).expect("issued");
            LoadPeer { identity, carried }
        };
        wanted.into_iter().map(issue).collect()
    }

    fn driver(&self, runtime: &Runtime, peers: Vec<LoadPeer>) -> (LoadDriver, Arc<LoadCounts>) {
        let target = LoadTarget {
            server: self.server.ingest_addr(),
            server_name: "localhost".into(),
            clock: self.clock,
            handshakes_at_once: 16,
        };
        let counts = Arc::new(LoadCounts::default());
        let driver = runtime.block_on(async {
            let mut driver = LoadDriver::new(target, peers, Arc::clone(&counts)).expect("identities");
            let connected = driver.connect().await;
            assert_eq!(connected.up, driver.len(), "{connected:?}");
            driver
        });
        while self.server.ingest().counters().snapshot().half_open > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        (driver, counts)
    }

    fn frames(&self) -> u64 {
        self.server.ingest().counters().snapshot().frames
    }
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

/// Every sensor sends one heartbeat; over when the server has counted all.
fn heartbeats(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("e2e_heartbeats");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    // Fewer would be over the budget of frames that one sensor has.
    for sensors in [200, 1_000] {
        let (place, runtime) = (Place::new(), runtime());
        let peers = place.peers(sensors, 0);
        let (mut driver, _counts) = place.driver(&runtime, peers);
        group.throughput(Throughput::Elements(sensors as u64));
        group.bench_function(BenchmarkId::from_parameter(sensors), |bencher| {
            bencher.iter(|| {
                let wanted = place.frames() + sensors as u64;
                runtime.block_on(async {
                    assert_eq!(driver.beat_once(SECOND).await, sensors as u64);
                    while place.frames() < wanted {
                        tokio::task::yield_now().await;
                    }
                });
            });
        });
        runtime.block_on(driver.disconnect());
    }
    group.finish();
}

/// Gateways send as fast as the server takes it; time for each frame that the server counted.
fn gateways(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("e2e_gateway_frames");
    group.sample_size(10).measurement_time(Duration::from_secs(3)).warm_up_time(Duration::from_secs(1));
    for gateways in [1, 20] {
        let (place, runtime) = (Place::new(), runtime());
        let peers = place.peers(0, gateways);
        let (mut driver, counts) = place.driver(&runtime, peers);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::from_parameter(gateways), |bencher| {
            bencher.iter_custom(|frames| {
                counts.stop.store(false, Ordering::Relaxed);
                let (from, began) = (place.frames(), place.clock.mono());
                std::thread::scope(|scope| {
                    scope.spawn(|| {
                        while place.frames() - from < frames {
                            std::thread::sleep(Duration::from_micros(100));
                        }
                        counts.stop.store(true, Ordering::Relaxed);
                    });
                    runtime.block_on(driver.beat(SECOND, GatewayRate::Most, 1));
                });
                // More came than was asked for, so the time is taken for what came.
                let (took, came) = (place.clock.mono().since(began), place.frames() - from);
                took.mul_f64(frames as f64 / came as f64)
            });
        });
        runtime.block_on(driver.disconnect());
    }
    group.finish();
}

criterion_group!(benches, heartbeats, gateways);
criterion_main!(benches);
