//! `kill -9` two hundred times during a stream of changes through the real server: every acknowledged change is there,
//! none is half there, and the audit log tells the same.
//!
//! The driver is this test program again, with a server in it whose changes two threads make at the same time. Each
//! change is several documents, a counter last; so half a change, or one that is there twice or out of order, does not
//! go unseen.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use fleetpulse::config::Config;
use fleetpulse::fleet::{
    About, Actor, ActorKind, Batch, Command, Event, EventCode, Mute, Overrides, Place, Register, SensorEdit,
};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::server::Server;
use fleetpulse::store::{AuditQuery, Position, Store};
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::process::tell;

const DRIVER_DIR: &str = "FLEETPULSE_TEST_CHANGES_DRIVER";
const KILLS: usize = 200;
const THREADS: u64 = 2;
const HOME: ZoneId = ZoneId::from_number(1);
/// Snapshots are written far more often than a server does.
const SNAPSHOT_EVERY: u64 = 9;

fn actor(thread: u64) -> Actor {
    Actor { kind: ActorKind::User, name: format!("user-{thread}"), from: Some("192.0.2.1".into()) }
}

/// The sensor whose notes count the changes of a thread.
fn counter(thread: u64) -> SensorId {
    SensorId::from_number(1 + thread)
}

fn add(id: SensorId, zone: ZoneId) -> Command {
    let (name, kind) = (id.to_string(), SensorType::OtCloud);
    Command::AddSensor { id, zone, name, kind, lifecycle: Lifecycle::Active }
}

fn ground() -> Vec<Command> {
    let (site, subscription) = (SiteId::from_number(1), SubscriptionId::from_number(1));
    let mut commands = vec![
        Command::AddSubscription { id: subscription, name: "Contoso".into() },
        Command::AddSite { id: site, subscription, name: "Werk".into() },
        Command::AddZone { id: HOME, site, name: "home".into() },
    ];
    commands.extend((0..THREADS).map(|thread| add(counter(thread), HOME)));
    commands
}

/// What change `n` of a thread is; from 1.
fn change(thread: u64, n: u64) -> Vec<Command> {
    // Four changes about one zone and its three sensors, then the next four.
    let group = n.div_ceil(4) * 10 + thread * 1_000_000_000 + 100;
    let zone = ZoneId::from_number(group);
    let sensors = [1, 2, 3].map(|k| SensorId::from_number(group + k));
    let named = |id: SensorId, name: String| Command::EditSensor { id, edit: SensorEdit::named(name) };
    let mut commands = match n % 4 {
        1 => {
            let mut commands =
                vec![Command::AddZone { id: zone, site: SiteId::from_number(1), name: zone.to_string() }];
            commands.extend(sensors.map(|id| add(id, zone)));
            let interval = Some(Duration::from_secs(1 + n % 100));
            let policy = Overrides { interval, ..Overrides::default() };
            commands.push(Command::SetPolicy { place: Place::Zone(zone), policy });
            commands
        }
        2 => {
            let mut commands: Vec<_> =
                sensors.iter().map(|id| named(*id, format!("sensor {id} of {n}"))).collect();
            let mute = Some(Mute { until: None, reason: format!("{n}").into() });
            commands.push(Command::SetMute { place: Place::Sensor(sensors[0]), mute });
            commands
        }
        3 => sensors.iter().map(|&id| Command::MoveSensor { id, zone: HOME }).collect(),
        _ => {
            let (code, about) = (EventCode::Download, Some(About::Sensor(sensors[1])));
            let event = Command::Record(Event { code, about, detail: format!("{n}") });
            let mut commands = vec![event, Command::DeleteZone { id: zone }];
            commands.extend(sensors.map(|id| Command::DeleteSensor { id }));
            commands
        }
    };
    let notes = SensorEdit { notes: Some(n.to_string()), ..SensorEdit::default() };
    commands.push(Command::EditSensor { id: counter(thread), edit: notes });
    commands
}

fn counted(register: &Register, thread: u64) -> u64 {
    let sensor = register.sensor(counter(thread));
    sensor.map_or(0, |sensor| sensor.more.notes.parse().unwrap_or(0))
}

/// Makes changes until it is killed, and says which are done. Does nothing unless told where.
#[test]
fn driver() {
    let Some(dir) = std::env::var_os(DRIVER_DIR) else { return };
    let mut config = Config { data_dir: dir.into(), ..Config::default() };
    config.ingest.listen = ([127, 0, 0, 1], 0).into();
    config.ingest.enrol_listen = ([127, 0, 0, 1], 0).into();
    config.ingest.shards = 1;
    config.http.listen = ([127, 0, 0, 1], 0).into();
    let server = Server::start(config).expect("a server");
    if server.fleet().register().counts().sensors == 0 {
        server.apply(&ground(), Actor::system("test")).expect("the ground");
    }
    let made = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (server, made) = (&server, &made);
            scope.spawn(move || {
                let first = counted(&server.fleet().register(), thread) + 1;
                for n in first.. {
                    server.apply(&change(thread, n), actor(thread)).expect("a change");
                    writeln!(std::io::stdout(), "done {thread} {n}").expect("told");
                    if made.fetch_add(1, Ordering::Relaxed) % SNAPSHOT_EVERY == 0 {
                        server.fleet().snapshot().expect("a snapshot");
                    }
                }
            });
        }
    });
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is known to be true so far.
struct Known {
    told: BTreeMap<u64, u64>,
    register: Register,
    position: Option<Position>,
}

#[test]
fn two_hundred_kills_during_changes_lose_nothing_and_leave_nothing_half_done() {
    let seed: u64 = rand::random();
    tell(&format!("seed {seed}"));
    let mut random = StdRng::seed_from_u64(seed);
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let mut known = Known { told: BTreeMap::new(), register: Register::new(), position: None };
    for kill in 0..KILLS {
        let mut driver = Killed(
            Process::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "server::changes::driver", "--nocapture"])
                .env(DRIVER_DIR, &data)
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                .spawn()
                .expect("a driver"),
        );
        let moment = Duration::from_micros(random.random_range(0..15_000));
        let words = random.random_range(0..8);
        if words == 0 {
            // While it starts, or where the chance wants it.
            std::thread::sleep(moment * 20);
            driver.0.kill().expect("killed");
        }
        let mut heard = 0;
        for line in BufReader::new(driver.0.stdout.take().expect("its words")).lines() {
            let line = line.expect("a line");
            // The harness may have begun a line of its own.
            let Some((_, word)) = line.rsplit_once("done ") else { continue };
            let Some((thread, n)) = word.split_once(' ') else { continue };
            known.told.insert(thread.parse().expect("a thread"), n.parse().expect("a number"));
            heard += 1;
            if heard == words {
                std::thread::sleep(moment);
                driver.0.kill().expect("killed");
            }
        }
        drop(driver);
        let context = format!("seed {seed}, kill {kill}");
        assert!(heard >= words, "{context}: the driver ended by itself");
        if data.join("store/FORMAT").exists() {
            check(&data, &mut known, &context);
        }
    }
    let made: u64 = known.told.values().sum();
    assert!(made > KILLS as u64, "{made} changes are no stream");
    let report = fleetpulse::store::check(&data.join("store")).expect("looked at");
    assert!(report.findings.is_empty(), "{report:?}");
}

fn check(data: &Path, known: &mut Known, context: &str) {
    let store = Store::open(data.join("store")).unwrap_or_else(|error| panic!("{context}: {error}"));
    let loaded = store.register.load().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(loaded.snapshot_errors.is_empty(), "{context}: {:?}", loaded.snapshot_errors);
    let from = known.position.unwrap_or(loaded.position.at(0));
    let batches = store.register.read_from(from, usize::MAX).expect("the log");
    for (place, batch) in &batches {
        follow(&mut known.register, batch, &format!("{context}, batch {}", place.sequence));
    }
    assert!(known.register == loaded.register, "{context}: the state is not that of its log");
    for thread in 0..THREADS {
        let told = known.told.get(&thread).copied().unwrap_or(0);
        let counted = counted(&loaded.register, thread);
        // One more than told: it was killed after writing and before telling.
        assert!((told..=told + 1).contains(&counted), "{context}: {counted} of {told} by {thread}");
        known.told.insert(thread, counted);
        let query = AuditQuery { actor: Some(actor(thread).name), limit: 3, ..AuditQuery::default() };
        let newest = store.register.audit(&query).expect("the audit log").entries;
        assert_eq!(newest.len(), counted.min(3) as usize, "{context}");
        for ((_, batch), n) in newest.iter().zip((1..=counted).rev()) {
            let id = Some(counter(thread).0);
            assert!(batch.changes.iter().any(|change| change.id() == id), "{context}: {n} of {thread}");
            assert!(format!("{batch:?}").contains(&format!("notes: \"{n}\"")), "{context}: {n} of {thread}");
        }
    }
    known.position = Some(loaded.position);
}

/// The batch is the next change of its thread, whole.
fn follow(register: &mut Register, batch: &Batch, context: &str) {
    let thread = batch.actor.name.strip_prefix("user-").map(|thread| thread.parse().expect("a thread"));
    let commands = match thread {
        Some(thread) => change(thread, counted(register, thread) + 1),
        None => ground(),
    };
    let planned = register.apply(&commands, batch.actor.clone(), batch.at).expect("it follows");
    assert_eq!(*batch, planned, "{context}");
    register.fold(batch).expect("folds");
}
