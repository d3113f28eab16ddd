//! The store as a server uses it: killed at any moment, on a disk that fills up.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command as Process, Stdio};
use std::time::Duration;

use fleetpulse::fleet::{Actor, Batch, Command, Register};
use fleetpulse::live::{Lifecycle, SensorType};
use fleetpulse::store::{EntryKind, JournalEntry, JournalQuery, Store, StoreError, Subject};
use fleetpulse::time::UnixMillis;
use fleetpulse::wire::id::{SensorId, SiteId, SubscriptionId, ZoneId};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::small_disk::{SmallDisk, fill};

const WRITER_DIR: &str = "FLEETPULSE_TEST_STORE_WRITER";
/// Sensors that each batch adds.
const PER_BATCH: u64 = 3;
const IMAGE_BYTES: usize = 100_000;

fn ground() -> Vec<Command> {
    let (id, subscription) = (SiteId::from_number(1), SubscriptionId::from_number(1));
    vec![
        Command::AddSubscription { id: subscription, name: "Contoso".into() },
        Command::AddSite { id, subscription, name: "Werk".into() },
        Command::AddZone { id: ZoneId::from_number(1), site: id, name: "Halle".into() },
    ]
}

/// What batch `number` adds.
fn add_sensors(number: u64) -> Vec<Command> {
    let sensors = number * PER_BATCH..(number + 1) * PER_BATCH;
    let add = |n| Command::AddSensor {
        id: SensorId::from_number(n),
        zone: ZoneId::from_number(1),
        name: format!("sensor {n}"),
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
    };
    sensors.map(add).collect()
}

fn plan(register: &Register, commands: &[Command]) -> Batch {
    register.apply(commands, Actor::command_line("test"), UnixMillis(1)).expect("can be done")
}

fn entry(sensor: u64, kind: EntryKind, since: i64) -> JournalEntry {
    JournalEntry {
        subject: Subject::Sensor(SensorId::from_number(sensor)),
        site: Some(SiteId::from_number(1)),
        rule: "disconnected".into(),
        kind,
        at: UnixMillis(since),
        since: UnixMillis(since),
        evidence: Vec::new(),
        folded_into: None,
        muted: false,
        detection_delay_ms: None,
        reason: None,
    }
}

/// Not a test by itself: the process that is killed. Writes for ever, and says what was acknowledged.
#[test]
fn writer() {
    let Some(dir) = std::env::var_os(WRITER_DIR) else { return };
    let store = Store::open(Path::new(&dir)).expect("opens after every kill");
    let loaded = store.register.load().expect("loads after every kill");
    let (mut register, mut position) = (loaded.register, loaded.position);
    let active = store.journal.active().expect("active messages");
    let mut active: BTreeMap<Subject, i64> = active.iter().map(|(_, e)| (e.subject, e.since.0)).collect();
    let mut time = store.journal.position().sequence as i64;
    let mut out = std::io::stdout();
    loop {
        let number = position.sequence;
        let commands = if number == 0 { ground() } else { add_sensors(number) };
        let batch = plan(&register, &commands);
        position = store.register.append(position, &batch).expect("a batch");
        register.fold(&batch).expect("folds");
        writeln!(out, "register {}", position.sequence).expect("told");

        let entries: Vec<_> = (0..5)
            .map(|n| {
                time += 1;
                let entry = entry((number * 5 + n) % 37, EntryKind::Raised, time);
                match active.remove(&entry.subject) {
                    Some(since) => {
                        JournalEntry { kind: EntryKind::Cleared, since: UnixMillis(since), ..entry }
                    }
                    None => {
                        active.insert(entry.subject, time);
                        entry
                    }
                }
            })
            .collect();
        let places = store.journal.append(&entries).expect("entries");
        assert!(places.iter().all(Option::is_some), "each is new");
        writeln!(out, "journal {}", store.journal.position().sequence).expect("told");

        if number.is_multiple_of(4) {
            store.checkpoint.save(&[number as u8; IMAGE_BYTES]).expect("an image");
            writeln!(out, "image {number}").expect("told");
        }
        if number % 7 == 6 {
            store.register.snapshot().expect("a snapshot");
        }
    }
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn everything_acknowledged_survives_kill_9_at_any_moment() {
    let seed: u64 = rand::random();
    eprint_seed(seed);
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().expect("a directory");
    let dir = dir.path().join("store");
    let mut told: BTreeMap<String, u64> = BTreeMap::new();
    for round in 0..25 {
        let mut writer = Killed(
            Process::new(std::env::current_exe().expect("this program"))
                .args(["--exact", "store::writer", "--nocapture"])
                .env(WRITER_DIR, &dir)
                .stdout(Stdio::piped())
                .spawn()
                .expect("a writer"),
        );
        let lines = BufReader::new(writer.0.stdout.take().expect("its words")).lines();
        // Killed after so many words, and a moment: between them, and inside whatever it does then.
        let words = random.random_range(1..20);
        let moment = Duration::from_micros(random.random_range(0..20_000));
        let mut heard = 0;
        for line in lines {
            let line = line.expect("a line");
            let word = line.rsplit_once("... ").map_or(line.as_str(), |(_, word)| word);
            let Some((what, number)) = word.split_once(' ') else { continue };
            let ("register" | "journal" | "image", Ok(number)) = (what, number.parse()) else { continue };
            told.insert(what.to_owned(), number);
            heard += 1;
            if heard == words {
                std::thread::sleep(moment);
                writer.0.kill().expect("killed");
            }
        }
        drop(writer);
        assert!(heard >= words, "seed {seed}, round {round}: the writer ended by itself");
        check(&dir, &told, &format!("seed {seed}, round {round}"));
    }
    assert!(told["register"] > 50, "{told:?}");
}

fn check(dir: &Path, told: &BTreeMap<String, u64>, context: &str) {
    let store = Store::open(dir).unwrap_or_else(|error| panic!("{context}: {error}"));
    let told = |what: &str| told.get(what).copied().unwrap_or(0);

    let loaded = store.register.load().unwrap_or_else(|error| panic!("{context}: {error}"));
    assert!(loaded.snapshot_errors.is_empty(), "{context}: {:?}", loaded.snapshot_errors);
    let last = loaded.position.sequence;
    assert!(last >= told("register"), "{context}: {last} of {}", told("register"));
    let batches = store.register.read_from(loaded.position.at(0), usize::MAX).expect("the log");
    let mut replayed = Register::new();
    for (place, batch) in &batches {
        let commands = if place.sequence == 1 { ground() } else { add_sensors(place.sequence - 1) };
        assert_eq!(*batch, plan(&replayed, &commands), "{context}: batch {}", place.sequence);
        replayed.fold(batch).expect("folds");
    }
    assert_eq!(batches.len() as u64, last, "{context}");
    assert_eq!(replayed, loaded.register, "{context}");

    let journal = store.journal.position();
    assert!(journal.sequence >= told("journal"), "{context}");
    assert_eq!(journal.sequence % 5, 0, "{context}: half a batch of the journal");
    let entries = store.journal.read_from(journal.at(0), usize::MAX).expect("the journal");
    assert_eq!(entries.len() as u64, journal.sequence, "{context}");
    let mut active = BTreeSet::new();
    for (_, entry) in entries {
        match entry.kind {
            EntryKind::Raised => assert!(active.insert(entry.subject), "{context}: raised twice"),
            EntryKind::Cleared => assert!(active.remove(&entry.subject), "{context}: cleared twice"),
        }
    }
    let kept = store.journal.active().expect("active messages");
    assert_eq!(kept.iter().map(|(_, e)| e.subject).collect::<BTreeSet<_>>(), active, "{context}");
    assert_eq!(kept.len(), active.len(), "{context}");

    let checkpoint = store.checkpoint.load();
    assert!(checkpoint.errors.is_empty(), "{context}: {:?}", checkpoint.errors);
    if let Some(image) = checkpoint.image {
        assert_eq!(image, vec![image[0]; IMAGE_BYTES], "{context}");
        // Images carry the last byte of a batch's number. One that is newer than the last acknowledged is of a
        // batch that is in the log (its writer was killed before it could tell); an older one would seem to
        // come from far beyond the log's end.
        let newer = u64::from(image[0].wrapping_sub(told("image") as u8));
        assert!(told("image") + newer <= last, "{context}: an image older than the one acknowledged");
    } else {
        assert_eq!(told("image"), 0, "{context}");
    }
}

/// Shown by the test harness when the test fails.
#[expect(clippy::print_stderr, reason = "a seed is for people")]
fn eprint_seed(seed: u64) {
    eprintln!("seed {seed}");
}

#[test]
fn a_full_disk_is_said_and_writing_goes_on_when_there_is_room() {
    let disk = SmallDisk::mount("24m");
    let (dir, filler) = (disk.path().join("store"), disk.path().join("filler"));
    let mut register = Register::new();
    let (mut position, mut journalled) = {
        let store = Store::open(&dir).expect("room");
        let batch = plan(&register, &ground());
        register.fold(&batch).expect("folds");
        (store.register.append(store.register.position(), &batch).expect("room"), 0)
    };
    let mut store = Store::open(&dir).expect("room");
    let mut refused = 0;
    for round in 1..12u64 {
        let _ = fill(&filler);
        assert!(matches!(store.probe_writable(), Err(StoreError::Full { .. })), "round {round}");
        let image = vec![1; 3 << 20];
        assert!(matches!(store.checkpoint.save(&image), Err(StoreError::Full { .. })), "round {round}");
        assert!(!dir.join("live.checkpoint.new").exists(), "half a file takes no room");
        // Pages freed by earlier batches are used first, so it takes a while until there is no room.
        for _ in 0..40 {
            let batch = plan(&register, &add_sensors(position.sequence));
            match store.register.append(position, &batch) {
                Ok(next) => {
                    position = next;
                    register.fold(&batch).expect("folds");
                }
                Err(error) => {
                    assert!(matches!(error, StoreError::Full { .. }), "round {round}: {error}");
                    refused += 1;
                    break;
                }
            }
        }
        let entries: Vec<_> = (0..4_000).map(|n| entry(round * 4_000 + n, EntryKind::Raised, 1)).collect();
        let mut written = 0;
        if let Err(error) = store.journal.append(&entries).map(|places| written = places.len()) {
            assert!(matches!(error, StoreError::Full { .. }), "round {round}: {error}");
            refused += 1;
        }
        if round % 3 == 0 {
            // A server that is started while the disk is full knows everything too.
            drop(store);
            store = Store::open(&dir).unwrap_or_else(|error| panic!("round {round}: {error}"));
            assert_eq!(store.register.load().expect("loads").register, register);
        }
        std::fs::remove_file(&filler).expect("removed");
        store.probe_writable().expect("room");
        assert_eq!(store.register.load().expect("loads").register, register, "round {round}");
        let batch = plan(&register, &add_sensors(position.sequence));
        position = store.register.append(position, &batch).expect("room");
        register.fold(&batch).expect("folds");
        // The journal is offered the same again, in part.
        let again = &entries[..entries.len().min(50)];
        store.journal.append(again).expect("room");
        journalled += if written > 0 { written } else { again.len() };
        assert_eq!(store.journal.active().expect("active").len(), journalled, "round {round}");
        let page = store.journal.query(&JournalQuery { limit: 1, ..JournalQuery::default() });
        assert_eq!(page.expect("a page").entries.len(), 1);
        if written > 0 {
            break;
        }
    }
    assert!(refused >= 2, "the disk was never full");
}
