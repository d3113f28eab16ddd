//! A backup: one file with everything that a server needs to go on, written while it works.
//!
//! A container of our own, because the parts need different care. Of the databases their *content* is copied, out of
//! one read transaction each: a backup so is the state at one position of the register's log and one of the journal's,
//! while commands go on, and does not depend on how a database lays out its pages. Files are copied as they are. All of
//! it is records with a checksum each, in one of the store's files with one checksum over all, so damage is found
//! before a restored server says something wrong. Memory: one record, whatever the size of the fleet.
//!
//! **A backup holds the keys of the certificate authority**, as the data directory does: whoever reads it can make
//! sensors. It is written for its owner alone (0600) and not encrypted; where it lies is the operator's choice.
//!
//! Restoring makes a new data directory and never touches one that is there. Its logs get new ids, so that a cursor
//! that somebody holds is not taken for one of a log that went on differently.

mod folder;
mod record;
mod restore;

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::Store;
use super::error::StoreError;
use super::file::{self, FileKind};
use super::position::Position;
use crate::time::UnixMillis;
use record::Recorder;

pub(super) use record::Kind;

pub use folder::{BackupFile, BackupFolder, BackupName, BadBackupName};
pub use restore::restore;

const BACKUP: FileKind = FileKind {
    magic: *b"BKUP",
    version: 1,
    what: "the backup",
    remedy: "use another backup; this one can't be trusted",
};

/// Why there is no backup, or nothing was restored from it.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// Reading or writing.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Never over something that is there.
    #[error("{} is there already and was not touched; name a file that is not", .0.display())]
    FileExists(PathBuf),
    /// Never into something that is there.
    #[error("{} is there already and was not touched; name a directory that is new or empty", .0.display())]
    DirectoryExists(PathBuf),
}

/// What a backup holds, or what was restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupReport {
    /// When it was made.
    pub made_at: UnixMillis,
    /// The last batch of the register in it, as the log was called that it was made of.
    pub register: Position,
    /// Where the journal was when the backup began, likewise. Entries that were written meanwhile may be in it too.
    pub journal: Position,
    /// Batches of the register.
    pub batches: u64,
    /// Entries of the journal.
    pub entries: u64,
    /// Files beside the databases.
    pub files: u64,
    /// Size of the backup.
    pub bytes: u64,
}

/// A file that goes into a backup beside the store: where it lies, and its name in the data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExtraFile {
    /// Relative, such as `identity/root.pem`.
    pub name: String,
    /// Where it lies.
    pub path: PathBuf,
}

impl Store {
    /// Writes everything in it, and `extra`, into one new file. `progress` hears the bytes written so far.
    ///
    /// Commands and heartbeats go on; history is not written meanwhile, so a block may come late.
    pub fn backup(
        &self,
        to: &Path,
        extra: &[ExtraFile],
        at: UnixMillis,
        progress: &mut dyn FnMut(u64),
    ) -> Result<BackupReport, BackupError> {
        // Also another backup of this moment: the temporary file is its.
        if to.exists() {
            return Err(BackupError::FileExists(to.to_owned()));
        }
        let mut report = None;
        let mut failed = None;
        let bytes = file::replace(to, BACKUP, false, |writer| {
            let mut recorder = Recorder::new(writer, progress);
            match self.record(&mut recorder, extra, at) {
                Ok(done) => report = Some(done),
                Err(RecordError::Disk(cause)) => return Err(cause),
                Err(RecordError::Store(error)) => failed = Some(error),
            }
            // Whatever the cause, the half-written file goes.
            if failed.is_some() { Err(io::Error::other("not finished")) } else { Ok(()) }
        });
        match (bytes, failed, report) {
            (_, Some(error), _) => Err(error.into()),
            (Err(error), None, _) => Err(error.into()),
            (Ok(bytes), None, Some(report)) => Ok(BackupReport { bytes, ..report }),
            (Ok(_), None, None) => Err(document_gone().into()),
        }
    }

    fn record(
        &self,
        recorder: &mut Recorder<'_>,
        extra: &[ExtraFile],
        at: UnixMillis,
    ) -> Result<BackupReport, RecordError> {
        // The register first: what the journal speaks of afterwards is in it, or is newer than both.
        let register = self.register.position();
        let journal = self.journal.position();
        recorder.lead(at, register, journal)?;
        let batches = self.register.copy_out(register, &mut |sequence, bytes| {
            recorder.write(Kind::Batch, &[&sequence.to_le_bytes(), bytes]).map_err(RecordError::Disk)
        })?;
        let entries = self.journal.copy_out(&mut |kind, key, value| {
            let length = u32::try_from(key.len()).unwrap_or(u32::MAX).to_le_bytes();
            recorder.write(kind, &[&length, key, value]).map_err(RecordError::Disk)
        })?;
        let mut files = 0;
        for (name, path) in self.checkpoint.files() {
            files += u64::from(copy_file(recorder, &name, &path)?);
        }
        self.history.while_still(|names| -> Result<(), RecordError> {
            for (name, path) in names {
                files += u64::from(copy_file(recorder, &name, &path)?);
            }
            Ok(())
        })??;
        for ExtraFile { name, path } in extra {
            files += u64::from(copy_file(recorder, name, path)?);
        }
        recorder.end()?;
        Ok(BackupReport { made_at: at, register, journal, batches, entries, files, bytes: 0 })
    }
}

/// The target failed, or what is copied.
enum RecordError {
    Disk(io::Error),
    Store(StoreError),
}

impl From<io::Error> for RecordError {
    fn from(cause: io::Error) -> RecordError {
        RecordError::Disk(cause)
    }
}

impl From<StoreError> for RecordError {
    fn from(error: StoreError) -> RecordError {
        RecordError::Store(error)
    }
}

/// Copies a file; `false` when it is not there (any more).
fn copy_file(recorder: &mut Recorder<'_>, name: &str, path: &Path) -> Result<bool, RecordError> {
    let reading = |cause| RecordError::Store(StoreError::file("reading", path, cause));
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(cause) => return Err(reading(cause)),
    };
    recorder.write(Kind::File, &[name.as_bytes()])?;
    let mut piece = vec![0; record::PIECE_BYTES];
    loop {
        match file.read(&mut piece).map_err(reading)? {
            0 => return Ok(true),
            read => recorder.write(Kind::Piece, &[&piece[..read]])?,
        }
    }
}

/// All files below a folder of a data directory, by name. Nothing when there is no such folder.
pub fn files_below(data: &Path, folder: &str) -> Result<Vec<ExtraFile>, StoreError> {
    let dir = data.join(folder);
    let reading = |cause| StoreError::file("reading", &dir, cause);
    let entries = match fs::read_dir(&dir) {
        Ok(entries) => entries,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(cause) => return Err(reading(cause)),
    };
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.map_err(reading)?;
        let kind = entry.file_type().map_err(reading)?;
        let Some(name) = entry.file_name().to_str().map(str::to_owned) else { continue };
        if kind.is_file() {
            files.push(ExtraFile { name: format!("{folder}/{name}"), path: entry.path() });
        }
    }
    files.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(files)
}

/// Writes any records, as only a test wants them.
#[cfg(test)]
pub(super) fn write_for_test(to: &Path, body: impl FnOnce(&mut Recorder<'_>) -> io::Result<()>) {
    let written = file::replace(to, BACKUP, false, |writer| body(&mut Recorder::new(writer, &mut |_| {})));
    written.expect("written");
}

#[cold]
fn document_gone() -> StoreError {
    StoreError::Corrupt {
        what: BACKUP.what.to_owned(),
        why: "it has no end".to_owned(),
        remedy: BACKUP.remedy,
    }
}

#[cold]
fn damaged(why: impl Into<String>) -> StoreError {
    StoreError::Corrupt { what: BACKUP.what.to_owned(), why: why.into(), remedy: BACKUP.remedy }
}

fn write_all(file: &mut impl Write, parts: &[&[u8]]) -> io::Result<()> {
    parts.iter().try_for_each(|part| file.write_all(part))
}
