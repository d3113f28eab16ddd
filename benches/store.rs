//! The store at the size of a large fleet: starting with 1,000,000 sensors, one durable change, 10,000 changes
//! in bulk, a batch of transitions, a block of history.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use fleetpulse::fleet::{Actor, Command, Register, SensorEdit};
use fleetpulse::limits::{COMMANDS_PER_BATCH_MAX, JOURNAL_BATCH_MAX};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::store::{EntryKind, JournalEntry, JournalQuery, Position, Store, Subject};
use fleetpulse::time::UnixMillis;
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};

const SENSORS: u64 = 1_000_000;
const PER_SITE: u64 = 1_000;

fn actor() -> Actor {
    Actor::command_line("bench")
}

fn add_sensor(n: u64) -> Command {
    Command::AddSensor {
        id: SensorId::from_number(n),
        zone: ZoneId::from_number(n / PER_SITE),
        name: format!("sensor {n:07}"),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
    }
}

fn append(store: &Store, register: &mut Register, position: &mut Position, commands: &[Command]) {
    let batch = register.apply(commands, actor(), UnixMillis(1)).expect("can be done");
    *position = store.register.append(*position, &batch).expect("appended");
    register.fold(&batch).expect("folds");
}

fn fleet(store: &Store) -> (Register, Position) {
    let (mut register, mut position) = (Register::new(), store.register.position());
    let subscription = SubscriptionId::from_number(1);
    append(
        store,
        &mut register,
        &mut position,
        &[Command::AddSubscription { id: subscription, name: "Contoso".into() }],
    );
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
    for some in sensors.chunks(COMMANDS_PER_BATCH_MAX) {
        let commands: Vec<_> = some.iter().map(|&n| add_sensor(n)).collect();
        append(store, &mut register, &mut position, &commands);
    }
    (register, position)
}

fn register(c: &mut Criterion) {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("store");
    let mut group = c.benchmark_group("register, 1,000,000 sensors");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    let store = Store::open(&path).expect("opens");
    let (mut register, mut position) = fleet(&store);
    drop(store);
    group.bench_function("start from the log alone", |b| {
        b.iter(|| Store::open(&path).expect("opens").register.load().expect("loads"));
    });
    let store = Store::open(&path).expect("opens");
    group.bench_function("write a snapshot", |b| {
        b.iter(|| store.register.write_snapshot(&register, position).expect("written"));
    });
    drop(store);
    group.bench_function("start from a snapshot", |b| {
        b.iter(|| Store::open(&path).expect("opens").register.load().expect("loads"));
    });
    let store = Store::open(&path).expect("opens");
    let mut name = 0;
    group.bench_function("one durable change", |b| {
        b.iter(|| {
            name += 1;
            let rename = Command::EditSensor {
                id: SensorId::from_number(77),
                edit: SensorEdit::named(format!("name {name}")),
            };
            append(&store, &mut register, &mut position, &[rename]);
        });
    });
    group.bench_function("10,000 changes in one batch", |b| {
        b.iter(|| {
            name += 1;
            let rename = |n| Command::EditSensor {
                id: SensorId::from_number(n * 97),
                edit: SensorEdit::named(format!("{n} {name}")),
            };
            let commands: Vec<_> = (0..COMMANDS_PER_BATCH_MAX as u64).map(rename).collect();
            append(&store, &mut register, &mut position, &commands);
        });
    });
    group.finish();
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
