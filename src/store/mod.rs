//! Everything that survives: the register's log, the journal of health messages, the checkpoint of live
//! state, and history.
//!
//! One directory, one server: a lock file keeps a second one out. The logs are redb files, because they
//! need transactions over several indexes; what is replaced whole or written once is plain files with
//! checksums. Every error is typed by what can be done about it ([`StoreError`]), and writing goes on by
//! itself after a disk that was full has room again.
//!
//! ```text
//! FORMAT  LOCK  register.redb  register.snapshot[.previous]  journal.redb  live.checkpoint[.previous]  history/
//! ```

mod backup;
mod check;
mod checkpoint;
mod database;
mod document;
mod entry;
mod error;
mod file;
mod history;
mod journal;
mod meta;
mod position;
mod register_log;
#[cfg(test)]
mod tests;
mod whole;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use backup::{
    BackupError, BackupFile, BackupFolder, BackupName, BackupReport, BadBackupName, ExtraFile, files_below,
    restore,
};
pub use check::{CheckReport, Finding, check};
pub use checkpoint::{CheckpointStore, LoadedCheckpoint};
pub use entry::{EntryEvidence, EntryKind, JournalEntry, Subject, Value};
pub use error::StoreError;
pub use history::{History, HistoryAccumulator, HistoryBlock, Metric, Point, Resolution, Series};
pub use journal::{Journal, JournalPage, JournalQuery, PageCursor};
pub use position::{BadPosition, LogId, Position};
pub use register_log::{AuditPage, AuditQuery, LoadedRegister, PastRegister, RegisterLog};

use crate::limits::{JOURNAL_CACHE_BYTES, REGISTER_CACHE_BYTES};
use database::HealingDatabase;

/// Layout of the directory that this program writes.
const FORMAT: u32 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_PREFIX: &str = "fleetpulse store ";

/// An open data directory. Dropping it lets another server in.
pub struct Store {
    dir: PathBuf,
    _lock: File,
    /// The register's log.
    pub register: RegisterLog,
    /// The journal of health messages.
    pub journal: Journal,
    /// Images of live state.
    pub checkpoint: CheckpointStore,
    /// Blocks of history.
    pub history: History,
}

impl Store {
    /// Opens a store, or makes one in a directory that is new or empty. The directory is the store's alone.
    ///
    /// A database that is gone, or is empty where others speak of its content, is [`StoreError::Corrupt`]: a register
    /// begun anew would let a stranger become its first administrator, and turn every sensor away.
    pub fn open(dir: impl AsRef<Path>) -> Result<Store, StoreError> {
        let dir = dir.as_ref().to_path_buf();
        file::make_dir(&dir)?;
        let is_new = check_format(&dir)?;
        let lock = lock(&dir)?;
        if is_new {
            write_format(&dir)?;
        }
        whole::nothing_is_gone(&dir)?;
        let register =
            HealingDatabase::open(dir.join("register.redb"), "the register's log", REGISTER_CACHE_BYTES)?;
        let journal = HealingDatabase::open(dir.join("journal.redb"), "the journal", JOURNAL_CACHE_BYTES)?;
        file::sync_dir(&dir.join(FORMAT_FILE)).map_err(|cause| StoreError::file("syncing", &dir, cause))?;
        let register = RegisterLog::open(register, dir.join("register.snapshot"))?;
        let journal = Journal::open(journal, Journal::ENTRIES_MAX)?;
        whole::not_begun_anew(&register, &journal)?;
        Ok(Store {
            register,
            journal,
            checkpoint: CheckpointStore::new(dir.join("live.checkpoint")),
            history: History::open(dir.join("history"))?,
            _lock: lock,
            dir,
        })
    }

    /// Where it lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Tries whether something can be written durably: for readiness, and for knowing that a full disk has
    /// room again before there is anything to write.
    pub fn probe_writable(&self) -> Result<(), StoreError> {
        let path = self.dir.join("probe");
        let write = || -> io::Result<()> {
            let mut file = private(&path, true)?;
            file.write_all(&[0; 4_096])?;
            file.sync_all()
        };
        let result = write();
        let _ = fs::remove_file(&path);
        result.map_err(|cause| StoreError::file("writing", &path, cause))
    }
}

/// Says whether the directory is new; refuses one that holds something else, or a newer format.
fn check_format(dir: &Path) -> Result<bool, StoreError> {
    let path = dir.join(FORMAT_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => match text
            .strip_prefix(FORMAT_PREFIX)
            .and_then(|text| text.trim_end().parse::<u32>().ok())
        {
            Some(found) if found <= FORMAT => Ok(false),
            Some(found) => Err(StoreError::Newer { what: dir.display().to_string(), found, known: FORMAT }),
            None => Err(StoreError::Corrupt {
                what: path.display().to_string(),
                why: "it does not name a format".to_owned(),
                remedy: "restore the data directory from a backup",
            }),
        },
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {
            let mut entries = fs::read_dir(dir).map_err(|cause| StoreError::file("reading", dir, cause))?;
            let ours = |name: &str| ["LOCK", "probe", "FORMAT.new"].contains(&name);
            let foreign = entries.any(|e| !e.is_ok_and(|e| e.file_name().to_str().is_some_and(ours)));
            if foreign { Err(StoreError::NotAStore { dir: dir.to_path_buf() }) } else { Ok(true) }
        }
        Err(cause) => Err(StoreError::file("reading", &path, cause)),
    }
}

fn write_format(dir: &Path) -> Result<(), StoreError> {
    let path = dir.join(FORMAT_FILE);
    let temporary = dir.join("FORMAT.new");
    let write = || -> io::Result<()> {
        let mut file = private(&temporary, true)?;
        writeln!(file, "{FORMAT_PREFIX}{FORMAT}")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)
    };
    write().map_err(|cause| StoreError::file("writing", &path, cause))
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("LOCK");
    let file = private(&path, false).map_err(|cause| StoreError::file("opening", &path, cause))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked { dir: dir.to_path_buf() }),
        Err(TryLockError::Error(cause)) => Err(StoreError::file("locking", &path, cause)),
    }
}

fn private(path: &Path, truncate: bool) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(truncate).mode(0o600).open(path)
}
