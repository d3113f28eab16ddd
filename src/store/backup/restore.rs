//! From a backup to a data directory: built beside its place, looked at as a whole, and then moved there.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use super::record::{Kind, Records, read_lead};
use super::{BACKUP, BackupError, BackupReport, damaged};
use crate::fleet::Register;
use crate::limits::BACKUP_WRITE_BYTES;
use crate::store::error::StoreError;
use crate::store::{Store, file};

/// The folders that a backup's files may go to.
const FOLDERS: [&str; 5] = ["identity", "store", "store/history/5m", "store/history/1h", "store/history/ids"];

/// Makes the data directory `to`, which is new or empty, from a backup. Whatever fails, nothing is there afterwards.
pub fn restore(backup: &Path, to: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackupReport, BackupError> {
    match fs::read_dir(to).map(|mut entries| entries.next().is_none()) {
        Ok(true) => {}
        Ok(false) => return Err(BackupError::DirectoryExists(to.to_owned())),
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => {}
        Err(cause) if cause.kind() == io::ErrorKind::NotADirectory => {
            return Err(BackupError::DirectoryExists(to.to_owned()));
        }
        Err(cause) => return Err(StoreError::file("reading", to, cause).into()),
    }
    let mut beside = OsString::from(to);
    beside.push(".restoring");
    let beside = PathBuf::from(beside);
    if beside.exists() {
        return Err(BackupError::DirectoryExists(beside));
    }
    let restored = build(backup, &beside, progress).and_then(|report| {
        // An empty directory may be replaced.
        fs::rename(&beside, to)
            .and_then(|()| file::sync_dir(to))
            .map_err(|cause| StoreError::file("moving into place", to, cause))?;
        Ok(report)
    });
    if restored.is_err() {
        let _ = fs::remove_dir_all(&beside);
    }
    Ok(restored?)
}

fn build(backup: &Path, data: &Path, progress: &mut dyn FnMut(u64)) -> Result<BackupReport, StoreError> {
    let Some((opened, _, length)) = file::open(backup, BACKUP)? else {
        return Err(StoreError::file("opening", backup, io::ErrorKind::NotFound.into()));
    };
    let mut records = Records::new(BufReader::with_capacity(256 * 1_024, opened));
    let Some((Kind::Lead, lead)) = records.next()? else { return Err(damaged("it has no lead")) };
    let (made_at, register, journal) = read_lead(&lead)?;
    file::make_dir(data)?;
    let store = Store::open(data.join("store"))?;
    let mut build = Build {
        data,
        store,
        register: Register::new(),
        waiting: Vec::new(),
        waiting_bytes: 0,
        journal: Vec::new(),
        file: None,
        report: BackupReport { made_at, register, journal, batches: 0, entries: 0, files: 0, bytes: length },
        done: 0,
    };
    while let Some((kind, content)) = records.next()? {
        let before = build.done;
        build.done += content.len() as u64;
        build.take(kind, content)?;
        if before >> 20 != build.done >> 20 {
            progress(build.done);
        }
    }
    build.finish()
}

struct Build<'a> {
    data: &'a Path,
    store: Store,
    register: Register,
    /// Batches, then rows of the journal, that wait to be written together.
    waiting: Vec<Vec<u8>>,
    waiting_bytes: usize,
    journal: Vec<(Kind, Vec<u8>, Vec<u8>)>,
    file: Option<(PathBuf, BufWriter<File>)>,
    report: BackupReport,
    done: u64,
}

impl Build<'_> {
    fn take(&mut self, kind: Kind, content: Vec<u8>) -> Result<(), StoreError> {
        match kind {
            Kind::Batch => {
                let Some((sequence, bytes)) = content.split_first_chunk::<8>() else {
                    return Err(damaged("a batch is cut short"));
                };
                self.report.batches += 1;
                if u64::from_le_bytes(*sequence) != self.report.batches {
                    return Err(damaged(format!("batch {} is missing", self.report.batches)));
                }
                self.waiting_bytes += bytes.len();
                self.waiting.push(bytes.to_vec());
            }
            Kind::Entry | Kind::Active | Kind::Ended => {
                let row = content
                    .split_first_chunk::<4>()
                    .and_then(|(length, rest)| rest.split_at_checked(u32::from_le_bytes(*length) as usize));
                let Some((key, value)) = row else { return Err(damaged("an entry is cut short")) };
                self.report.entries += u64::from(kind == Kind::Entry);
                self.waiting_bytes += content.len();
                self.journal.push((kind, key.to_vec(), value.to_vec()));
            }
            Kind::File => {
                self.end_file()?;
                let path = self.place(&content)?;
                let options = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
                let file = options.map_err(|cause| StoreError::file("writing", &path, cause))?;
                self.file = Some((path, BufWriter::with_capacity(256 * 1_024, file)));
                self.report.files += 1;
            }
            Kind::Piece => {
                let Some((path, file)) = &mut self.file else { return Err(damaged("a file has no name")) };
                file.write_all(&content).map_err(|cause| StoreError::file("writing", path, cause))?;
            }
            Kind::Lead | Kind::End => return Err(damaged("it begins twice")),
        }
        if self.waiting_bytes >= BACKUP_WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Where a file goes. A backup comes from outside: it names nothing but what backups have.
    fn place(&self, name: &[u8]) -> Result<PathBuf, StoreError> {
        let foreign = || damaged("it names a file that no backup has");
        let name = Path::new(std::str::from_utf8(name).map_err(|_| foreign())?);
        let plain = name.components().all(|component| matches!(component, Component::Normal(_)));
        let folder = name.parent().and_then(Path::to_str).filter(|folder| FOLDERS.contains(folder));
        let (Some(folder), true, Some(file_name)) = (folder, plain, name.file_name()) else {
            return Err(foreign());
        };
        let of_store = ["live.checkpoint", "live.checkpoint.previous"];
        if folder == "store" && !of_store.iter().any(|known| file_name == *known) {
            return Err(foreign());
        }
        let folder = self.data.join(folder);
        file::make_dir(&folder)?;
        Ok(folder.join(file_name))
    }

    fn end_file(&mut self) -> Result<(), StoreError> {
        let Some((path, file)) = self.file.take() else { return Ok(()) };
        let ended = file.into_inner().map_err(io::IntoInnerError::into_error);
        let ended = ended.and_then(|file| file.sync_all()).and_then(|()| file::sync_dir(&path));
        ended.map_err(|cause| StoreError::file("writing", &path, cause))
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.waiting_bytes = 0;
        self.store.register.copy_in(&mut self.register, &std::mem::take(&mut self.waiting))?;
        self.store.journal.copy_in(&std::mem::take(&mut self.journal))
    }

    fn finish(mut self) -> Result<BackupReport, StoreError> {
        self.end_file()?;
        self.flush()?;
        if self.report.batches != self.report.register.sequence {
            return Err(damaged("batches of the register are missing"));
        }
        self.store.register.write_snapshot(&self.register, self.store.register.position())?;
        Ok(self.report)
    }
}
