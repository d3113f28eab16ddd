//! The store at the size of a large fleet: starting with 1,000,000 activated sensors, one durable change, 10,000
//! changes in bulk, a policy for all, a batch of transitions, a block of history.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fleetpulse::fleet::{Actor, Command, Credential, Overrides, Place, Register, SensorEdit, TokenHash};
use fleetpulse::health::PolicyPatch;
use fleetpulse::limits::{COMMANDS_PER_BATCH_MAX, JOURNAL_BATCH_MAX};
use fleetpulse::live::{Lifecycle, LiveState, SensorType};
use fleetpulse::server::fleet::{Defaults, FleetService};
use fleetpulse::store::{EntryKind, JournalEntry, JournalQuery, LoadedRegister, Position, Store, Subject};
use fleetpulse::time::{ManualClock, UnixMillis};
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

const SENSORS: u64 = 1_000_000;
const PER_SITE: u64 = 1_000;

fn actor() -> Actor {
    Actor::command_line("bench")
}

/// A sensor as most are: activated with a file, with a certificate.
fn add_sensor(n: u64) -> [Command; 3] {
    let id = SensorId::from_number(n);
    let mut token = [0; 32];
    token[..8].copy_from_slice(&n.to_le_bytes());
    let (token, expires_at) = (TokenHash(token), UnixMillis(1_000_000));
    let credential = Credential {
        serial: format!("{n:040x}").into(),
        not_before: UnixMillis(1),
        not_after: UnixMillis(7_000_000),
    };
    [
        Command::AddSensor {
            id,
            zone: ZoneId::from_number(n / PER_SITE),
            name: format!("sensor {n:07}"),
            kind: SensorType::OtCloud,
            lifecycle: Lifecycle::PendingActivation,
        },
        Command::IssueActivation { id, token, expires_at },
        Command::Activate { id, token, key: token.0, credential: Some(credential), from: None },
    ]
}

fn append(store: &Store, register: &mut Register, position: &mut Position, commands: &[Command]) {
    let batch = register.apply(commands, actor(), UnixMillis(1)).expect("can be done");
    *position = store.register.append(*position, &batch).expect("appended");
    register.fold(&batch).expect("folds");
}

fn fleet(store: &Store) -> (Register, Position) {
    let (mut register, mut position) = (Register::new(), store.register.position());
    let subscription = SubscriptionId::from_number(1);
    let add = Command::AddSubscription { id: subscription, name: "Contoso".into() };
    append(store, &mut register, &mut position, &[add]);
    let places: Vec<Command> = (0..SENSORS / PER_SITE)
        .flat_map(|n| {
            let (id, site) = (SiteId::from_number(n), SiteId::from_number(n));
            [
                Command::AddSite { id, subscription, name: format!("site {n}") },
                Command::AddZone { id: ZoneId::from_number(n), site, name: "zone".into() },
            ]
        })
        .collect();
    append(store, &mut register, &mut position, &places);
    let sensors: Vec<u64> = (0..SENSORS).collect();
    for some in sensors.chunks(COMMANDS_PER_BATCH_MAX / 3) {
        let commands: Vec<_> = some.iter().flat_map(|&n| add_sensor(n)).collect();
        append(store, &mut register, &mut position, &commands);
    }
    (register, position)
}

/// As a server starts: the register loaded, and shown to live state.
fn start(path: &Path) -> FleetService {
    let store = Arc::new(Store::open(path).expect("opens"));
    let LoadedRegister { register, position, .. } = store.register.load().expect("loads");
    let live = Arc::new(LiveState::with_capacity(SENSORS as u32 + 1));
    let defaults = Defaults::default();
    let clock = Arc::new(ManualClock::new(UnixMillis(1)));
    FleetService::new(register, position, store, live, defaults, clock).expect("room")
}

/// Resident bytes of this process.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    let kilobytes = line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number");
    kilobytes * 1_024
}

fn register(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let mut group = c.benchmark_group("register, 1,000,000 activated sensors");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let store = Store::open(&path).expect("opens");
    let (register, _) = fleet(&store);
    group.bench_function("write a snapshot", |b| {
        b.iter(|| store.register.snapshot().expect("written"));
    });
    drop((store, register));
    let before = resident();
    let store = Store::open(&path).expect("opens");
    let loaded = store.register.load().expect("loads");
    say(&format!("memory: {} bytes a sensor in the register", (resident() - before) / SENSORS));
    drop((store, loaded));
    group.bench_function("start from a snapshot", |b| b.iter_with_large_drop(|| start(&path)));
    let fleet = start(&path);
    let give = |commands: &[Command]| fleet.apply(commands, actor(), UnixMillis(1)).expect("done");
    let mut name = 0;
    group.bench_function("one durable change", |b| {
        b.iter(|| {
            name += 1;
            let edit = SensorEdit::named(format!("name {name}"));
            give(&[Command::EditSensor { id: SensorId::from_number(77), edit }])
        });
    });
    group.bench_function("10,000 changes in one batch", |b| {
        b.iter(|| {
            name += 1;
            let rename = |n: u64| Command::EditSensor {
                id: SensorId::from_number(n * 97),
                edit: SensorEdit::named(format!("{n} {name}")),
            };
            give(&(0..10_000).map(rename).collect::<Vec<_>>())
        });
    });
    let mut value = 100.0;
    group.bench_function("a number said for all sensors", |b| {
        b.iter(|| {
            value += 1.0;
            let mut numbers = PolicyPatch::new();
            numbers.set_named("disconnected", "silence_after", value).expect("in range");
            let place = Place::Subscription(SubscriptionId::from_number(1));
            let batch = give(&[Command::SetPolicy { place, policy: Overrides { numbers, interval: None } }]);
            fleet.take_policies();
            batch
        });
    });
    group.finish();
}

#[expect(clippy::print_stderr, reason = "a figure that criterion does not know")]
fn say(line: &str) {
    eprintln!("{line}");
}

fn journal(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = Arc::new(Store::open(dir.path().join("store")).expect("opens"));
    let mut time = 0;
    let mut transitions = |entries: u64| -> Vec<JournalEntry> {
        let entry = |n: u64| JournalEntry {
            subject: Subject::Sensor(SensorId::from_number(time as u64 * 10_000 + n)),
            site: Some(SiteId::from_number(n / PER_SITE)),
            rule: "disconnected".into(),
            kind: EntryKind::Raised,
            at: UnixMillis(time),
            since: UnixMillis(time),
            evidence: Vec::new(),
            folded_into: None,
            muted: false,
            detection_delay_ms: Some(3),
            reason: None,
        };
        let entries = (0..entries).map(entry).collect();
        time += 1;
        entries
    };
    let mut group = c.benchmark_group("journal");
    group.sample_size(10);
    group.bench_function("one transition", |b| {
        b.iter_batched(
            || transitions(1),
            |e| store.journal.append(&e).expect("written"),
            BatchSize::PerIteration,
        );
    });
    group.bench_function("4,096 transitions in one batch", |b| {
        let most = JOURNAL_BATCH_MAX as u64;
        b.iter_batched(
            || transitions(most),
            |e| store.journal.append(&e).expect("written"),
            BatchSize::PerIteration,
        );
    });
    let query = JournalQuery { site: Some(SiteId::from_number(1)), limit: 100, ..JournalQuery::default() };
    group.bench_function("a page of 100 of one site", |b| {
        b.iter(|| store.journal.query(&query).expect("a page"))
    });
    group.finish();
}

criterion_group!(benches, register, journal);
criterion_main!(benches);
