//! Backups of a store that is written meanwhile, what comes back, and what damage does.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{add_sensor, ground, plan};
use crate::fleet::Register;
use crate::store::backup::Kind;
use crate::store::{
    BackupError, EntryKind, ExtraFile, HistoryAccumulator, JournalEntry, JournalQuery, Store, StoreError,
    Subject, check, restore,
};
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

fn entry(n: u64, kind: EntryKind, at: i64) -> JournalEntry {
    let (_, example) = super::fixtures();
    JournalEntry {
        subject: Subject::Sensor(SensorId::from_number(n)),
        kind,
        at: UnixMillis(at),
        since: UnixMillis(at),
        ..example
    }
}

struct Bench {
    dir: tempfile::TempDir,
    store: Store,
    register: Register,
}

impl Bench {
    /// A data directory with something of everything.
    fn new() -> Bench {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::open(dir.path().join("data/store")).expect("a new store");
        let mut bench = Bench { dir, store, register: Register::new() };
        bench.give(&ground());
        for n in 1..40 {
            bench.give(&[add_sensor(n)]);
        }
        let raised: Vec<_> = (1..30).map(|n| entry(n, EntryKind::Raised, 10)).collect();
        let cleared: Vec<_> = (1..20).map(|n| entry(n, EntryKind::Cleared, 20)).collect();
        bench.store.journal.append(&raised).expect("written");
        bench.store.journal.append(&cleared).expect("written");
        bench.store.checkpoint.save(b"an image").expect("written");
        let live = crate::live::LiveState::with_capacity(4);
        let facts = crate::live::SlotFacts {
            kind: crate::live::SensorType::OtCloud,
            lifecycle: crate::live::Lifecycle::Active,
            site: crate::live::SiteIndex(0),
            policy: crate::live::PolicyIndex(0),
            muted: false,
        };
        live.insert(SensorId::from_number(1), facts).expect("room");
        let now = |seconds: u64| crate::time::Now {
            mono: crate::time::MONO_ORIGIN.plus(std::time::Duration::from_secs(seconds)),
            unix: UnixMillis(1_790_000_100_000 + seconds as i64 * 1_000),
        };
        let mut history = HistoryAccumulator::new(now(0).unix);
        let sensor = live.snapshot_of(SensorId::from_number(1)).expect("a sensor");
        history.sample(now(10), &sensor);
        let block = history.finish(now(300).unix);
        assert!(bench.store.history.append_block(&block).expect("written") > 0);
        std::fs::create_dir(bench.path("data/identity")).expect("made");
        std::fs::write(bench.path("data/identity/root.key"), vec![7; 300_000]).expect("written");
        bench
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join(name)
    }

    fn give(&mut self, commands: &[crate::fleet::Command]) {
        let batch = plan(&self.register, commands, self.register.counts().sensors as i64);
        self.store.register.append(self.store.register.position(), &batch).expect("appended");
        self.register.fold(&batch).expect("folds");
    }

    fn backup(&self, name: &str) -> Result<crate::store::BackupReport, BackupError> {
        let extra = crate::store::files_below(&self.path("data"), "identity").expect("listed");
        self.store.backup(&self.path(name), &extra, UnixMillis(77), &mut |_| {})
    }
}

fn journal(store: &Store) -> Vec<(u64, JournalEntry)> {
    let page = store.journal.query(&JournalQuery::default()).expect("a page");
    page.entries.into_iter().map(|(place, entry)| (place.sequence, entry)).collect()
}

fn active(store: &Store) -> Vec<(u64, JournalEntry)> {
    let active = store.journal.active().expect("active");
    active.into_iter().map(|(place, entry)| (place.sequence, entry)).collect()
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("there").permissions().mode() & 0o777
}

#[test]
fn a_backup_made_while_changes_go_on_comes_back_as_it_was_at_its_position() {
    let mut bench = Bench::new();
    let stop = AtomicBool::new(false);
    let report = std::thread::scope(|scope| {
        let Bench { store, register, dir } = &mut bench;
        let (store, dir, stop) = (&*store, dir.path(), &stop);
        let writer = scope.spawn(move || {
            for n in 1_000.. {
                let batch = plan(register, &[add_sensor(n)], n as i64);
                store.register.append(store.register.position(), &batch).expect("appended");
                register.fold(&batch).expect("folds");
                store.journal.append(&[entry(n, EntryKind::Raised, n as i64)]).expect("written");
                if stop.load(Ordering::Relaxed) {
                    break;
                }
            }
        });
        std::thread::sleep(std::time::Duration::from_millis(30));
        let extra =
            [ExtraFile { name: "identity/root.key".into(), path: dir.join("data/identity/root.key") }];
        let report = store.backup(&dir.join("b"), &extra, UnixMillis(77), &mut |_| {});
        stop.store(true, Ordering::Relaxed);
        writer.join().expect("wrote");
        report.expect("a backup")
    });
    assert_eq!(mode(&bench.path("b")), 0o600);
    assert_eq!((report.made_at, report.batches), (UnixMillis(77), report.register.sequence));
    assert!(report.files >= 4, "{report:?}");

    let restored = restore(&bench.path("b"), &bench.path("new"), &mut |_| {}).expect("restored");
    assert_eq!(restored.batches, report.batches);
    let there = Store::open(bench.path("new/store")).expect("opens");
    let then = bench.store.register.load_at(report.register).expect("the past");
    let loaded = there.register.load().expect("loads");
    assert_eq!((&loaded.register, loaded.replayed), (&then, 0), "with a snapshot");
    assert_eq!(loaded.position.sequence, report.register.sequence);
    let before: Vec<_> =
        journal(&bench.store).into_iter().filter(|(n, _)| *n <= journal(&there)[0].0).collect();
    assert_eq!(journal(&there), before);
    assert!(journal(&there)[0].0 >= report.journal.sequence);
    assert!(active(&there).len() >= 10);
    assert!(active(&there).iter().all(|message| active(&bench.store).contains(message)));
    assert_eq!(there.checkpoint.load().image.as_deref(), Some(b"an image".as_slice()));
    assert_eq!(std::fs::read(bench.path("new/identity/root.key")).expect("there"), vec![7; 300_000]);
    assert_eq!(
        [
            mode(&bench.path("new/identity/root.key")),
            mode(&bench.path("new/identity")),
            mode(&bench.path("new"))
        ],
        [0o600, 0o700, 0o700]
    );
    // A cursor of before is of another log.
    assert_ne!(loaded.position.log, report.register.log);
    assert!(matches!(there.register.read_from(report.register, 1), Err(StoreError::Conflict { .. })));
    assert!(matches!(there.journal.read_from(report.journal, 1), Err(StoreError::Conflict { .. })));
    // And it goes on.
    let batch = plan(&loaded.register, &[add_sensor(500_000)], 1);
    there.register.append(loaded.position, &batch).expect("appended");
    let n = 19;
    there.journal.append(&[entry(n, EntryKind::Raised, 99)]).expect("written");
    drop(there);
    let report = check(&bench.path("new/store")).expect("looked at");
    assert_eq!((report.findings, report.blocks), (Vec::new(), 1));
}

#[test]
fn nothing_that_is_there_is_touched() {
    let bench = Bench::new();
    bench.backup("b").expect("a backup");
    let bytes = std::fs::read(bench.path("b")).expect("there");
    assert!(matches!(bench.backup("b"), Err(BackupError::FileExists(_))));
    assert_eq!(std::fs::read(bench.path("b")).expect("there"), bytes);
    for there in ["data", "b"] {
        let refused = restore(&bench.path("b"), &bench.path(there), &mut |_| {});
        assert!(matches!(refused, Err(BackupError::DirectoryExists(_))), "{there}");
    }
    std::fs::create_dir(bench.path("empty")).expect("made");
    restore(&bench.path("b"), &bench.path("empty"), &mut |_| {}).expect("an empty directory will do");
    assert!(matches!(bench.backup("nowhere/b"), Err(BackupError::Store(StoreError::Io { .. }))));
    assert!(matches!(check(&bench.path("data/store")), Err(StoreError::Locked { .. })));
    assert!(matches!(check(&bench.path("data/identity")), Err(StoreError::NotAStore { .. })));
}

/// Shown by the test harness when the test fails.
#[expect(clippy::print_stderr, reason = "a seed is for people")]
fn seeded() -> StdRng {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    StdRng::seed_from_u64(seed)
}

#[test]
fn a_damaged_backup_restores_nothing() {
    let bench = Bench::new();
    bench.backup("b").expect("a backup");
    let whole = std::fs::read(bench.path("b")).expect("there");
    let mut random = seeded();
    for round in 0..60 {
        let mut bytes = whole.clone();
        if round % 3 == 0 {
            bytes.truncate(random.random_range(0..whole.len()));
        } else {
            // The first kilobytes hold headers and documents, the rest is mostly one file.
            let most = if round % 2 == 0 { 9_000 } else { whole.len() };
            bytes[random.random_range(0..most)] ^= 1 << random.random_range(0..8);
        }
        std::fs::write(bench.path("damaged"), &bytes).expect("written");
        let restored = restore(&bench.path("damaged"), &bench.path("new"), &mut |_| {});
        // The checksum of the whole is for readers of whole files; each record has its own.
        let whole_sum = bytes.len() == whole.len() && bytes[32..] == whole[32..];
        match restored {
            Err(BackupError::Store(StoreError::Corrupt { .. } | StoreError::Newer { .. })) => {}
            Ok(_) if whole_sum => panic!("round {round}: a damaged header was not noticed"),
            other => panic!("round {round}: {other:?}"),
        }
        assert!(!bench.path("new").exists() && !bench.path("new.restoring").exists());
    }
}

#[test]
fn a_backup_that_was_made_to_harm_writes_nothing_elsewhere() {
    let bench = Bench::new();
    for name in
        ["../evil", "/tmp/evil", "identity/../../evil", "store/register.redb", "evil", "identity/x/y", ""]
    {
        let path = bench.path("hostile");
        let _ = std::fs::remove_file(&path);
        let position = bench.store.register.position().at(0);
        super::super::backup::write_for_test(&path, |recorder| {
            recorder.lead(UnixMillis(1), position, position)?;
            recorder.write(Kind::File, &[name.as_bytes()])?;
            recorder.write(Kind::Piece, &[b"evil"])?;
            recorder.end()
        });
        let refused = restore(&path, &bench.path("new"), &mut |_| {});
        assert!(
            matches!(refused, Err(BackupError::Store(StoreError::Corrupt { .. }))),
            "{name}: {refused:?}"
        );
        assert!(!bench.path("new").exists());
    }
}

#[test]
fn a_check_says_what_is_wrong_and_whether_that_matters() {
    let mut bench = Bench::new();
    let position = bench.store.register.position();
    bench.store.register.write_snapshot(&bench.register, position).expect("a snapshot");
    bench.give(&[add_sensor(41)]);
    let dir = bench.path("data/store");
    let Bench { store, dir: _keep, .. } = bench;
    drop(store);
    let sound = check(&dir).expect("looked at");
    assert!(sound.is_sound() && sound.findings.is_empty(), "{sound:?}");
    assert_eq!((sound.batches, sound.sensors, sound.entries, sound.blocks), (41, 40, 48, 1));

    let flip = |name: &str, needle: &[u8], add: usize| {
        let path = dir.join(name);
        let mut bytes = std::fs::read(&path).expect("there");
        // Everywhere: some places are pages that are not in use any more.
        let places: Vec<usize> = match needle {
            [] => vec![bytes.len() / 2],
            needle => (0..bytes.len()).filter(|&at| bytes[at..].starts_with(needle)).collect(),
        };
        assert!(!places.is_empty(), "{name}");
        places.into_iter().for_each(|at| bytes[at + add] ^= 1);
        std::fs::write(&path, bytes).expect("written");
    };
    let block = {
        let mut blocks = std::fs::read_dir(dir.join("history/5m")).expect("there");
        blocks.next().expect("a block").expect("a block").file_name().into_string().expect("a name")
    };
    flip(&format!("history/5m/{block}"), &[], 0);
    flip("register.snapshot", &[], 0);
    flip("live.checkpoint", b"image", 0);
    let worn = check(&dir).expect("looked at");
    assert!(worn.is_sound() && worn.findings.len() == 3, "{worn:?}");
    assert!(worn.findings.iter().all(|finding| finding.harmless && !finding.remedy.is_empty()));

    flip("journal.redb", b"gateway-silent", 0);
    let broken = check(&dir).expect("looked at");
    assert!(!broken.is_sound(), "{broken:?}");
    flip("journal.redb", b"fateway-silent", 0);
    flip("register.redb", b"sensor 17", 7);
    let broken = check(&dir).expect("looked at");
    assert!(!broken.is_sound(), "{broken:?}");
}
