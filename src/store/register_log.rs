//! The register's log: numbered batches, each durable before its caller hears of it, and snapshots.
//!
//! The log is never cut: it is the audit log and answers "how was it at time T". A snapshot is only a
//! shortcut for starting; when it is missing or damaged, the previous one or the whole log does as well.

mod as_of;
mod audit;
mod copy;
mod look;
mod times;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use minicbor::Decoder;
use redb::{ReadableTable, TableDefinition};

pub use as_of::PastRegister;
pub use audit::{AuditPage, AuditQuery};

use super::database::HealingDatabase;
use super::document::{self, SCHEMA};
use super::error::StoreError;
use super::file::{self, FileKind};
use super::meta::log_id;
use super::position::{LogId, Position};
use super::whole::RESTORE;
use crate::fleet::{Batch, Register};
use crate::limits::SNAPSHOT_EVERY_CHANGES;

const BATCHES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("batches");

const SNAPSHOT: FileKind = FileKind {
    magic: *b"REGS",
    version: SCHEMA,
    what: "the register's snapshot",
    remedy: "nothing to do: the log is read instead, which takes longer",
};

/// Before the changes of a snapshot: id of its log (16), number of the last batch (8).
const SNAPSHOT_LEAD_BYTES: usize = 24;

/// Documents of a snapshot after which their mean length is believed.
const RESERVE_AFTER: usize = 10_000;

/// The log of the register's batches.
pub struct RegisterLog {
    database: HealingDatabase,
    log: LogId,
    last: AtomicU64,
    changes_since_snapshot: AtomicU64,
    snapshot: PathBuf,
    /// One snapshot is written at a time.
    writing: Mutex<()>,
}

/// The register as the log has it.
#[derive(Debug)]
pub struct LoadedRegister {
    /// The state.
    pub register: Register,
    /// The batch that it includes last.
    pub position: Position,
    /// Batches that were folded on top of the snapshot.
    pub replayed: u64,
    /// What was wrong with snapshots that could not be used.
    pub snapshot_errors: Vec<StoreError>,
}

impl RegisterLog {
    pub(super) fn open(database: HealingDatabase, snapshot: PathBuf) -> Result<RegisterLog, StoreError> {
        let log = log_id(&database, |transaction| transaction.open_table(BATCHES).map(drop))?;
        let log = RegisterLog {
            database,
            log,
            last: AtomicU64::new(0),
            changes_since_snapshot: AtomicU64::new(0),
            snapshot,
            writing: Mutex::new(()),
        };
        let last = log.database.read(|transaction| {
            let table = transaction.open_table(BATCHES).map_err(|cause| log.database.error(cause))?;
            let last = table.last().map_err(|cause| log.database.error(cause))?;
            Ok(last.map_or(0, |(sequence, _)| sequence.value()))
        })?;
        log.last.store(last, Ordering::Release);
        Ok(log)
    }

    /// The last batch.
    pub fn position(&self) -> Position {
        Position { log: self.log, sequence: self.last.load(Ordering::Acquire) }
    }

    /// Appends one batch after `expected`, durably. When it fails, nothing was appended, and the same or
    /// another batch can be appended there later.
    pub fn append(&self, expected: Position, batch: &Batch) -> Result<Position, StoreError> {
        self.append_all(expected, std::slice::from_ref(batch))
    }

    /// Appends several batches with one sync, all or none.
    pub fn append_all(&self, expected: Position, batches: &[Batch]) -> Result<Position, StoreError> {
        let encoded: Vec<Vec<u8>> = batches.iter().map(document::encode_batch).collect();
        let error = |cause: redb::StorageError| self.database.error(cause);
        let after = expected.sequence.saturating_add(encoded.len() as u64);
        self.database.write(|transaction| {
            // Only this function moves the end, and only one write runs at a time.
            let actual = self.position();
            if expected != actual {
                return Err(StoreError::Conflict { expected, actual });
            }
            let mut table = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            // Batches beyond the end that was told: their last sync failed, so their caller was told "no".
            table.retain_in(after.saturating_add(1).., |_, _| false).map_err(error)?;
            for (sequence, bytes) in (expected.sequence + 1..).zip(&encoded) {
                table.insert(sequence, bytes.as_slice()).map_err(error)?;
            }
            let times = batches.iter().map(|batch| batch.at.0);
            let noted = times::note(transaction, expected.sequence + 1, times);
            noted.map_err(|cause| self.database.error(cause))
        })?;
        self.last.store(after, Ordering::Release);
        let changes: usize = batches.iter().map(|batch| batch.changes.len()).sum();
        self.changes_since_snapshot.fetch_add(changes as u64, Ordering::Relaxed);
        Ok(Position { log: self.log, sequence: after })
    }

    /// The batches after `after`, oldest first, at most so many.
    pub fn read_from(&self, after: Position, most: usize) -> Result<Vec<(Position, Batch)>, StoreError> {
        self.own(after)?;
        let mut batches = Vec::new();
        self.each_after(after.sequence, |sequence, batch| {
            batches.push((after.at(sequence), batch));
            Ok(batches.len() < most)
        })?;
        Ok(batches)
    }

    /// The register now: the newest usable snapshot and the batches after it.
    pub fn load(&self) -> Result<LoadedRegister, StoreError> {
        let mut snapshot_errors = Vec::new();
        for path in self.snapshot_paths() {
            match self.load_snapshot(&path) {
                Ok(Some((register, sequence))) => return self.catch_up(register, sequence, snapshot_errors),
                Ok(None) => {}
                Err(error) => snapshot_errors.push(error),
            }
        }
        self.catch_up(Register::new(), 0, snapshot_errors)
    }

    fn snapshot_paths(&self) -> [PathBuf; 2] {
        [self.snapshot.clone(), file::previous(&self.snapshot)]
    }

    fn load_snapshot(&self, path: &Path) -> Result<Option<(Register, u64)>, StoreError> {
        file::read(path, SNAPSHOT).and_then(|bytes| self.read_snapshot(bytes))
    }

    /// The last batch that a snapshot of this log includes; its content is not looked at.
    fn snapshot_sequence(&self, path: &Path) -> Result<Option<u64>, StoreError> {
        let end = self.position();
        let lead = read_lead(path)?.filter(|lead| lead.log == end.log && lead.sequence <= end.sequence);
        Ok(lead.map(|lead| lead.sequence))
    }

    /// Refuses a log that ends before a snapshot of it does, or is empty beside any: it is not the one that was.
    pub(super) fn check_against_snapshots(&self) -> Result<(), StoreError> {
        let end = self.position();
        let lost = |path: &Path, why: String| StoreError::Corrupt {
            what: "the register's log".to_owned(),
            why: format!("{why}, and {} is a snapshot of more", path.display()),
            remedy: RESTORE,
        };
        for path in self.snapshot_paths() {
            match read_lead(&path) {
                Ok(None) => {}
                Ok(Some(lead)) if lead.log == end.log && lead.sequence <= end.sequence => {}
                Ok(Some(lead)) if lead.log == end.log => {
                    let Position { sequence, .. } = end;
                    return Err(lost(&path, format!("it ends with change {sequence}")));
                }
                // What is said of an unreadable or foreign one beside a log with content, the load says.
                Ok(Some(_)) | Err(StoreError::Corrupt { .. }) if end.sequence > 0 => {}
                Ok(Some(_)) | Err(StoreError::Corrupt { .. }) => {
                    return Err(lost(&path, "it is empty".to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// True when enough was appended since the last snapshot that a new one makes starting faster.
    pub fn snapshot_is_due(&self) -> bool {
        self.changes_since_snapshot.load(Ordering::Relaxed) >= SNAPSHOT_EVERY_CHANGES
    }

    /// Writes a snapshot of the register as the log has it now; the present one is kept as previous. Batches are
    /// appended meanwhile.
    ///
    /// It is made from the newest snapshot and the log, as a start does, not from the register at work: that would have
    /// to stand still for as long as it takes to write it all down. The price is a second register in memory for that
    /// time, and a second or two of one core for a million sensors, each [`SNAPSHOT_EVERY_CHANGES`] changes.
    pub fn snapshot(&self) -> Result<u64, StoreError> {
        let _one_at_a_time = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        // First: what is appended from here on counts towards the next one, be it in this one or not.
        let included = self.changes_since_snapshot.load(Ordering::Relaxed);
        let position = self.position();
        let register = self.load_at(position)?;
        let bytes = self.write_snapshot(&register, position)?;
        self.changes_since_snapshot.fetch_sub(included, Ordering::Relaxed);
        Ok(bytes)
    }

    /// Writes a snapshot of a register that is as the log has it after `position`.
    pub(super) fn write_snapshot(&self, register: &Register, position: Position) -> Result<u64, StoreError> {
        self.own(position)?;
        file::replace(&self.snapshot, SNAPSHOT, true, |writer| {
            writer.write_all(&self.log.0)?;
            writer.write_all(&position.sequence.to_le_bytes())?;
            let mut bytes = Vec::with_capacity(512);
            for change in register.as_changes() {
                bytes.clear();
                document::encode_change(&change, &mut bytes);
                writer.write_all(&bytes)?;
            }
            Ok(())
        })
    }

    fn read_snapshot(&self, bytes: Option<Vec<u8>>) -> Result<Option<(Register, u64)>, StoreError> {
        let Some(bytes) = bytes else { return Ok(None) };
        let Some((log, rest)) = bytes.split_first_chunk::<16>() else { return Err(unfit("it is cut short")) };
        let Some((sequence, changes)) = rest.split_first_chunk::<8>() else {
            return Err(unfit("it is cut short"));
        };
        let sequence = u64::from_le_bytes(*sequence);
        if LogId(*log) != self.log || sequence > self.last.load(Ordering::Acquire) {
            return Err(unfit("it belongs to another log"));
        }
        let mut register = Register::new();
        let mut decoder = Decoder::new(changes);
        for number in 0_usize.. {
            if decoder.position() >= changes.len() {
                break;
            }
            if number == RESERVE_AFTER {
                // By the length of those so far: some sensors have much more to say than others.
                register.reserve(changes.len() / (decoder.position() / RESERVE_AFTER).max(1));
            }
            let change = document::decode_change(&mut decoder)?;
            register.fold_change(&change).map_err(|why| unfit(&why))?;
        }
        Ok(Some((register, sequence)))
    }

    fn catch_up(
        &self,
        mut register: Register,
        from: u64,
        snapshot_errors: Vec<StoreError>,
    ) -> Result<LoadedRegister, StoreError> {
        let mut last = from;
        let mut changes = 0;
        self.each_after(from, |sequence, batch| {
            fold(&mut register, &batch, sequence)?;
            changes += batch.changes.len() as u64;
            last = sequence;
            Ok(true)
        })?;
        self.changes_since_snapshot.store(changes, Ordering::Relaxed);
        let position = Position { log: self.log, sequence: last };
        Ok(LoadedRegister { register, position, replayed: last - from, snapshot_errors })
    }

    /// Hands each batch after a number to `body`, until it says `false`.
    fn each_after(
        &self,
        after: u64,
        mut body: impl FnMut(u64, Batch) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.database.read(|transaction| {
            let table = transaction.open_table(BATCHES).map_err(|cause| self.database.error(cause))?;
            let error = |cause: redb::StorageError| self.database.error(cause);
            let mut expected = after;
            let last = self.last.load(Ordering::Acquire);
            if after >= last {
                return Ok(());
            }
            for item in table.range(after + 1..=last).map_err(error)? {
                let (sequence, bytes) = item.map_err(error)?;
                expected += 1;
                if sequence.value() != expected {
                    return Err(document::bad(&format!("batch {expected} is missing")));
                }
                if !body(expected, document::decode_batch(bytes.value())?)? {
                    break;
                }
            }
            Ok(())
        })
    }

    fn own(&self, position: Position) -> Result<(), StoreError> {
        if position.log == self.log {
            return Ok(());
        }
        Err(StoreError::Conflict { expected: position, actual: self.position() })
    }
}

/// The place in the log that a snapshot is of.
fn read_lead(path: &Path) -> Result<Option<Position>, StoreError> {
    let Some((mut file, _, length)) = file::open(path, SNAPSHOT)? else { return Ok(None) };
    if length < SNAPSHOT_LEAD_BYTES as u64 {
        return Err(unfit("it is cut short"));
    }
    let (mut log, mut sequence) = ([0; 16], [0; 8]);
    let read = file.read_exact(&mut log).and_then(|()| file.read_exact(&mut sequence));
    read.map_err(|cause| StoreError::file("reading", path, cause))?;
    Ok(Some(Position { log: LogId(log), sequence: u64::from_le_bytes(sequence) }))
}

fn fold(register: &mut Register, batch: &Batch, sequence: u64) -> Result<(), StoreError> {
    register.fold(batch).map_err(|cause| document::bad(&format!("batch {sequence}: {cause}")))
}

#[cold]
fn unfit(why: &str) -> StoreError {
    StoreError::Corrupt { what: SNAPSHOT.what.to_owned(), why: why.to_owned(), remedy: SNAPSHOT.remedy }
}
