//! The list of 100,000 sensors while 10,000 heartbeats a second arrive, the sweep runs and the disk is written: a whole
//! server, asked over HTTP.
//!
//! Targets: any page of a filtered, ordered list in under 20 ms at the 99th percentile; CSV of all sensors in under one
//! second, with memory that does not grow. Percentiles are printed for each kind of page; criterion then measures the
//! default page alone.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

use fleetpulse::config::Config;
use fleetpulse::fleet::{Actor, Command, Role};
use fleetpulse::live::{Lifecycle, OwnerRef, SensorType, SlotHandle, Writer};
use fleetpulse::server::Server;
use fleetpulse::time::{Clock, MonoNanos, UnixMillis};
use fleetpulse::wire::frame::{read_frame, write_frame};
use fleetpulse::wire::heartbeat::{Heartbeat, Profile, inline};
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

const SENSORS: u64 = 100_000;
const PER_SITE: u64 = 200;
const BEATS_PER_SECOND: u64 = 10_000;
const ROUNDS: usize = 200;

/// Kinds of pages: what people ask for, and what costs most.
const PAGES: [(&str, &str); 12] = [
    ("worst first", ""),
    ("by name", "sort=name"),
    ("by name, backwards, 1,000", "sort=-name&limit=1000"),
    ("by site", "sort=site"),
    ("last connected", "sort=last_connected"),
    ("by version", "sort=-version"),
    ("by threat intelligence", "sort=ti_version"),
    ("unhealthy", "health=unhealthy&sort=name"),
    ("a site", "site=Site%20123&sort=name"),
    ("text that few have", "q=sensor%2012345"),
    ("text that nobody has", "q=nothing%2077"),
    ("version below, with counts", "version=%3C26.2&facets=true"),
];

struct Fleet {
    server: Arc<Server>,
    stop: Arc<AtomicBool>,
    beats: Arc<AtomicU64>,
    thread: Option<std::thread::JoinHandle<()>>,
    _folder: tempfile::TempDir,
}

impl Fleet {
    fn start() -> Fleet {
        let folder = tempfile::tempdir().expect("a folder");
        let free: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut config = Config { data_dir: folder.path().join("data"), ..Config::default() };
        (config.ingest.listen, config.ingest.enrol_listen, config.http.listen) = (free, free, free);
        config.ingest.shards = 1;
        config.http.requests_per_second = 100_000;
        let server = Arc::new(Server::start(config).expect("a server"));
        register(&server);
        let (stop, beats) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let hearing = {
            let (server, stop, beats) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&beats));
            std::thread::spawn(move || hear(&server, &stop, &beats))
        };
        // Everybody once, and a few sweeps.
        while beats.load(Ordering::Relaxed) < SENSORS + 3 * BEATS_PER_SECOND {
            std::thread::sleep(Duration::from_millis(100));
        }
        Fleet { server, stop, beats, thread: Some(hearing), _folder: folder }
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it heard to the end");
        }
        self.server.stop();
    }
}

fn register(server: &Server) {
    let actor = || Actor::command_line("bench");
    let subscription = SubscriptionId::from_number(1);
    let mut commands = vec![Command::AddSubscription { id: subscription, name: "Contoso".into() }];
    for site in 0..SENSORS / PER_SITE {
        let id = SiteId::from_number(site);
        commands.push(Command::AddSite { id, subscription, name: format!("Site {site}") });
        commands.push(Command::AddZone { id: ZoneId::from_number(site), site: id, name: "Line".into() });
    }
    commands.extend((0..SENSORS).map(|number| Command::AddSensor {
        id: SensorId::from_number(number + 1),
        zone: ZoneId::from_number(number % (SENSORS / PER_SITE)),
        name: format!("Sensor {number} {}", ["press", "Pump", "oven"][number as usize % 3]),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
    }));
    for commands in commands.chunks(10_000) {
        server.apply(commands, actor()).expect("registered");
    }
}

/// Ten thousand heartbeats a second into the slots, as a shard would write them.
fn hear(server: &Server, stop: &AtomicBool, beats: &AtomicU64) {
    let (live, clock) = (server.live(), server.clock());
    let end = UnixMillis(clock.unix().0 + 90 * 86_400_000);
    let taken: Vec<(SlotHandle, Writer)> = (0..SENSORS)
        .map(|number| {
            let handle = live.find(SensorId::from_number(number + 1)).expect("registered");
            let owner = OwnerRef { node: 0, shard: 0, connection: number as u32 };
            let epoch = live.take(handle, owner, end, clock.mono()).expect("there").epoch;
            (handle, Writer::Direct { epoch })
        })
        .collect();
    let start = clock.mono();
    let mut bytes = Vec::with_capacity(512);
    let mut sent = 0_u64;
    // Everybody at once, then at the pace.
    while !stop.load(Ordering::Relaxed) {
        let due = SENSORS + (clock.mono().since(start).as_secs_f64() * BEATS_PER_SECOND as f64) as u64;
        while sent < due {
            let number = sent % SENSORS;
            let (handle, writer) = taken[number as usize];
            bytes.clear();
            write_frame(&beat(number, sent / SENSORS + 1, clock.unix()), 0, &mut bytes);
            let (frame, _) = read_frame(&bytes).expect("our own frame");
            live.observe(handle, writer, &frame, clock.mono());
            sent += 1;
        }
        beats.store(sent, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn beat(number: u64, sequence: u64, wall: UnixMillis) -> Heartbeat {
    let versions = ["26.2.0", "26.2.0", "26.1.2", "25.2.0", "22.1.4.8-r-6372aad"];
    Heartbeat {
        sensor_id: SensorId::from_number(number + 1).0,
        sequence,
        uptime_ms: sequence * 10_000,
        sensor_clock_unix_us: wall.0 * 1_000,
        version: inline(versions[number as usize % versions.len()]),
        ti_version: inline(["2026-11-24", "2026-11-01"][number as usize % 2]),
        ti_status: 1,
        profile: Profile::E1000.to_wire(),
        endpoint_states: [1, 1, 1, 0, 0, 0, 0, 0],
        interfaces_total: 4,
        interfaces_up: 4,
        rx_packets: sequence * 10_000,
        rx_bytes: sequence * 8_000_000,
        self_test_ran: 0xff,
        self_test_age_s: 60,
        disk_permille: [if number.is_multiple_of(20) { 970 } else { 400 }, 300, 200, 100],
        ..Heartbeat::default()
    }
}

/// A connection that is kept.
struct Client {
    stream: BufReader<TcpStream>,
    token: String,
    body: Vec<u8>,
}

impl Client {
    fn new(server: &Server) -> Client {
        let stream = TcpStream::connect(server.http_addr()).expect("a connection");
        stream.set_nodelay(true).expect("set");
        let token =
            server.token_for("bench", Role::Administrator, Duration::from_secs(3_600)).expect("a token");
        Client { stream: BufReader::with_capacity(1 << 16, stream), token, body: Vec::new() }
    }

    /// Bytes of the answer. Nothing of it is kept: what memory grows by meanwhile is the server's.
    fn get(&mut self, query: &str, accept: &str) -> usize {
        let request = format!(
            "GET /api/v1/sensors?{query} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nAccept: {accept}\r\n\r\n",
            self.token
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("sent");
        let (mut length, mut chunked, mut line) = (0, false, String::new());
        self.stream.read_line(&mut line).expect("an answer");
        assert!(line.starts_with("HTTP/1.1 200"), "{query}: {line}");
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a header");
            let header = line.trim().to_ascii_lowercase();
            if let Some(value) = header.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
            chunked |= header == "transfer-encoding: chunked";
            if header.is_empty() {
                break;
            }
        }
        if !chunked {
            self.body.resize(length, 0);
            self.stream.read_exact(&mut self.body).expect("a body");
            return length;
        }
        let mut bytes = 0;
        loop {
            line.clear();
            self.stream.read_line(&mut line).expect("a chunk");
            let size = usize::from_str_radix(line.trim(), 16).expect("a size");
            // With the end of line after it.
            self.body.resize(size + 2, 0);
            self.stream.read_exact(&mut self.body).expect("a chunk");
            bytes += size;
            if size == 0 {
                return bytes;
            }
        }
    }
}

/// Resident memory in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1_024
}

fn ms(from: MonoNanos, until: MonoNanos) -> f64 {
    until.since(from).as_secs_f64() * 1_000.0
}

#[expect(clippy::print_stdout, reason = "what a bench is for")]
fn percentiles(fleet: &Fleet) {
    let (clock, mut client) = (fleet.server.clock(), Client::new(&fleet.server));
    println!(
        "{:<28} {:>9} {:>9} {:>9}  ms, {ROUNDS} pages each",
        "page of 100 (or as said)", "p50", "p99", "max"
    );
    let (before, began) = (fleet.beats.load(Ordering::Relaxed), clock.mono());
    for (name, query) in PAGES {
        let mut took: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let from = clock.mono();
                client.get(query, "application/json");
                ms(from, clock.mono())
            })
            .collect();
        took.sort_by(f64::total_cmp);
        println!(
            "{name:<28} {:>9.2} {:>9.2} {:>9.2}",
            took[ROUNDS / 2],
            took[ROUNDS * 99 / 100],
            took[ROUNDS - 1]
        );
    }
    let beats = fleet.beats.load(Ordering::Relaxed) - before;
    println!("heartbeats meanwhile: {:.0} a second", beats as f64 / clock.mono().since(began).as_secs_f64());
    for (name, accept) in [("CSV", "text/csv"), ("NDJSON", "application/x-ndjson")] {
        let (from, held) = (clock.mono(), resident());
        let (mut most, done) = (held, AtomicBool::new(false));
        let bytes = std::thread::scope(|threads| {
            let watch = threads.spawn(|| {
                let mut most = 0;
                while !done.load(Ordering::Relaxed) {
                    most = most.max(resident());
                    std::thread::sleep(Duration::from_millis(5));
                }
                most
            });
            let bytes = client.get("sort=name", accept);
            done.store(true, Ordering::Relaxed);
            most = most.max(watch.join().expect("watched"));
            bytes
        });
        println!(
            "{name} of {SENSORS} sensors: {:.0} ms, {:.1} MiB; resident {held} MiB before, {most} MiB at most",
            ms(from, clock.mono()),
            bytes as f64 / f64::from(1 << 20),
        );
    }
}

fn list(c: &mut Criterion) {
    let fleet = Fleet::start();
    percentiles(&fleet);
    let mut client = Client::new(&fleet.server);
    let mut group = c.benchmark_group("list");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.bench_function("worst first, 100 of 100,000", |bencher| {
        bencher.iter(|| client.get("", "application/json"));
    });
    group.finish();
}

criterion_group!(benches, list);
criterion_main!(benches);
