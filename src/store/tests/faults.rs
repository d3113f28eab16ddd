//! A disk that has no room, or fails, for a while.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU8, Ordering};

use redb::backends::FileBackend;
use redb::{Database, StorageBackend};

use super::{add_sensor, ground, plan};
use crate::fleet::Register;
use crate::store::database::HealingDatabase;
use crate::store::register_log::RegisterLog;
use crate::store::{EntryKind, Journal, JournalEntry, StoreError, Subject};
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

/// What the disk refuses, once the counted operations are used up.
#[derive(Debug, Default)]
struct Faults {
    operations_left: AtomicI64,
    kind: AtomicU8,
}

const NONE: u8 = 0;
const FULL: u8 = 1;
const BROKEN: u8 = 2;
const READ_ONLY: u8 = 3;

impl Faults {
    fn begin(&self, kind: u8, after: i64) {
        self.operations_left.store(after, Ordering::SeqCst);
        self.kind.store(kind, Ordering::SeqCst);
    }

    fn check(&self) -> std::io::Result<()> {
        let kind = self.kind.load(Ordering::SeqCst);
        if kind == NONE || self.operations_left.fetch_sub(1, Ordering::SeqCst) > 0 {
            return Ok(());
        }
        let error = match kind {
            FULL => std::io::ErrorKind::StorageFull,
            READ_ONLY => std::io::ErrorKind::ReadOnlyFilesystem,
            _ => std::io::ErrorKind::Other,
        };
        Err(error.into())
    }
}

#[derive(Debug)]
struct FaultyFile {
    file: FileBackend,
    faults: Arc<Faults>,
}

impl StorageBackend for FaultyFile {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.faults.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.faults.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.faults.check()?;
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), std::io::Error> {
        self.file.close()
    }
}

fn faulty(dir: &Path, name: &str, faults: &Arc<Faults>) -> HealingDatabase {
    let faults = faults.clone();
    let open = move |path: &Path| -> Result<Database, redb::Error> {
        let file =
            std::fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        let backend = FaultyFile { file: FileBackend::new(file)?, faults: faults.clone() };
        Ok(Database::builder().create_with_backend(backend)?)
    };
    HealingDatabase::open_with(dir.join(name), "the log under test", Box::new(open)).expect("opens")
}

/// The disk fails at every operation in turn, for each kind of failure. Each time: a typed error, nothing
/// half-written, reading works on, and writing works again once the disk does.
#[test]
fn a_register_log_survives_a_disk_that_fails_at_any_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let faults = Arc::new(Faults::default());
    let log = RegisterLog::open(faulty(dir.path(), "r.redb", &faults), dir.path().join("r.snapshot"))
        .expect("opens");
    let mut register = Register::new();
    let mut position = log.position();
    let first = plan(&register, &ground(), 0);
    position = log.append(position, &first).expect("the disk is good");
    register.fold(&first).expect("folds");
    let mut failures = 0;
    for round in 0..60i64 {
        let kind = [FULL, BROKEN, READ_ONLY][round as usize % 3];
        let label = ["full", "io", "not-writable"][round as usize % 3];
        let mut batch = plan(&register, &[add_sensor(round as u64)], round);
        faults.begin(kind, round / 3);
        let mut appended = log.append(position, &batch);
        if let Err(error) = &appended {
            failures += 1;
            assert_eq!((error.label(), error.is_passing()), (label, true), "round {round}: {error}");
            // While the disk fails, reading works or says why not; it never lies.
            if let Ok(loaded) = log.load() {
                assert_eq!((&loaded.register, loaded.position), (&register, position), "round {round}");
            }
            faults.begin(NONE, 0);
            if round % 2 == 0 {
                // The caller gave up on it; what comes next is something else.
                batch = plan(&register, &[add_sensor(1_000 + round as u64)], round);
            }
            appended = log.append(position, &batch);
        }
        faults.begin(NONE, 0);
        position = appended.unwrap_or_else(|error| panic!("round {round}: {error}"));
        register.fold(&batch).expect("folds");
        let loaded = log.load().expect("loads");
        assert_eq!((&loaded.register, loaded.position), (&register, position), "round {round}");
    }
    assert!(failures > 10, "the disk failed {failures} times only");
}

#[test]
fn a_journal_survives_a_disk_that_fails_at_any_moment() {
    let dir = tempfile::tempdir().expect("a directory");
    let faults = Arc::new(Faults::default());
    let journal = Journal::open(faulty(dir.path(), "j.redb", &faults), 1_000).expect("opens");
    for round in 0..60u64 {
        let entries: Vec<_> = (0..5).map(|n| raised(round * 5 + n)).collect();
        faults.begin(FULL, (round / 2) as i64);
        let failed = match journal.append(&entries) {
            Ok(places) => {
                assert_eq!(places.iter().flatten().count(), 5);
                false
            }
            Err(error) => {
                assert!(matches!(error, StoreError::Full { .. }), "round {round}: {error}");
                true
            }
        };
        faults.begin(NONE, 0);
        let again = !failed;
        let places = journal.append(&entries).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let told: Vec<_> = places.iter().flatten().map(|place| place.sequence).collect();
        let expected: Vec<_> = (round * 5 + 1..=round * 5 + 5).collect();
        assert_eq!(told, if again { Vec::new() } else { expected }, "round {round}: each place is told once");
        assert_eq!(journal.len().expect("len"), (round + 1) * 5, "each once");
        assert_eq!(journal.active().expect("active").len() as u64, (round + 1) * 5);
    }
}

fn raised(sensor: u64) -> JournalEntry {
    JournalEntry {
        subject: Subject::Sensor(SensorId::from_number(sensor)),
        site: None,
        rule: "disconnected".into(),
        kind: EntryKind::Raised,
        at: UnixMillis(sensor as i64),
        since: UnixMillis(sensor as i64),
        evidence: Vec::new(),
        folded_into: None,
        muted: false,
        detection_delay_ms: None,
        reason: None,
    }
}
