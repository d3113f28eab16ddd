//! Backups that a running server makes of itself: one at a time, into one folder, of which the newest few are kept.
//!
//! A backup is written while everything goes on. The oldest go only when the new one is complete and durable, so a disk
//! that is full never costs the backups that there are; and a backup is not begun when the disk might become full by it,
//! because the store may be on the same one. What is done with backups is in the audit log.

use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::data;
use super::fleet::FleetService;
use super::probe::{free_bytes, sizes};
use crate::fleet::{Actor, Command, Event, EventCode};
use crate::http::{BackupFault, MadeBackup};
use crate::limits::BACKUP_FREE_BYTES;
use crate::store::{BackupFile, BackupFolder, BackupName, Store, StoreError};
use crate::time::{Clock, SystemClock};

/// Backups of one server.
pub struct Backups {
    folder: BackupFolder,
    keep: usize,
    clock: SystemClock,
    store: Arc<Store>,
    fleet: Arc<FleetService>,
    running: Mutex<Option<BackupName>>,
}

/// The one backup that is under way; at its end, however that comes, the next may begin.
struct Running<'b>(&'b Backups);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        *self.0.running() = None;
    }
}

impl Backups {
    /// In this folder, of which `keep` are kept.
    pub fn new(
        folder: &Path,
        keep: usize,
        clock: SystemClock,
        store: Arc<Store>,
        fleet: Arc<FleetService>,
    ) -> Backups {
        let folder = BackupFolder::new(folder);
        Backups { folder, keep, clock, store, fleet, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Option<BackupName>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The backup that is being written.
    pub fn under_way(&self) -> Option<BackupName> {
        self.running().clone()
    }

    /// Makes one, and removes the oldest beyond those that are kept. Takes as long as the disk needs.
    pub fn make(&self, actor: &Actor) -> Result<MadeBackup, BackupFault> {
        let name = BackupName::of(self.clock.unix());
        {
            let mut running = self.running();
            if let Some(running) = &*running {
                return Err(BackupFault::Running(running.clone()));
            }
            *running = Some(name.clone());
        }
        let _running = Running(self);
        let begun = self.clock.mono();
        let made = self.write(&name).inspect_err(|error| tracing::error!(%error, "no backup was made"))?;
        self.note(
            actor,
            EventCode::Backup,
            format!("{name}: {} bytes, SHA-256 {}", made.file.bytes, made.sha256),
        );
        let removed = self.make_room(&name, actor);
        Ok(MadeBackup { removed, took: self.clock.mono().since(begun), ..made })
    }

    fn write(&self, name: &BackupName) -> Result<MadeBackup, BackupFault> {
        self.folder.prepare()?;
        self.check_room()?;
        let report = data::backup(&self.store, &self.folder.file(name), self.clock.unix(), &mut |_| {})?;
        let gone = || BackupFault::Unknown(name.clone());
        let (_, bytes) = self.folder.open(name)?.ok_or_else(gone)?;
        let sha256 = self.folder.sha256(name)?.ok_or_else(gone)?;
        let lead = Some((report.made_at, report.register, report.journal));
        let file = BackupFile { name: name.clone(), bytes, lead };
        Ok(MadeBackup { file, sha256, took: Duration::ZERO, removed: Vec::new() })
    }

    /// A backup is smaller than the store is on disk.
    fn check_room(&self) -> Result<(), BackupFault> {
        let store: u64 = sizes(self.store.dir()).iter().sum();
        let needed = store.saturating_add(BACKUP_FREE_BYTES);
        match free_bytes(self.folder.path()) {
            Some(free) if free < needed => Err(BackupFault::NoRoom { needed, free }),
            _ => Ok(()),
        }
    }

    /// Removes the oldest beyond those that are kept, whatever the clock said when they were made: never the new one.
    fn make_room(&self, new: &BackupName, actor: &Actor) -> Vec<BackupName> {
        let listed =
            self.folder.list().inspect_err(|error| tracing::warn!(%error, "no old backup is removed"));
        let others = listed.unwrap_or_default().into_iter().map(|file| file.name).filter(|name| name != new);
        let mut removed = Vec::new();
        for name in others.skip(self.keep.saturating_sub(1)) {
            match self.folder.remove(&name) {
                Ok(_) => {
                    let detail = format!("{name}: it was the oldest, and makes room for {new}");
                    self.note(actor, EventCode::BackupDeleted, detail);
                    removed.push(name);
                }
                Err(error) => tracing::warn!(%error, "an old backup is not removed"),
            }
        }
        removed
    }

    /// Those that are there, newest first.
    pub fn list(&self) -> Result<Vec<BackupFile>, StoreError> {
        self.folder.list()
    }

    /// Opens one to hand it out. It holds keys: so that is in the audit log before, or it is not handed out.
    pub fn open(&self, name: &BackupName, actor: Actor) -> Result<(File, u64), BackupFault> {
        let opened = self.folder.open(name)?.ok_or_else(|| BackupFault::Unknown(name.clone()))?;
        let event = Event { code: EventCode::Download, about: None, detail: format!("backup {name}") };
        let noted = self.fleet.apply(&[Command::Record(event)], actor, self.clock.unix());
        noted.map_err(|error| BackupFault::Unnoted(error.to_string()))?;
        Ok(opened)
    }

    /// Removes one. It may be what fills the disk, so this does not depend on anything being written.
    pub fn remove(&self, name: &BackupName, actor: &Actor) -> Result<(), BackupFault> {
        if !self.folder.remove(name)? {
            return Err(BackupFault::Unknown(name.clone()));
        }
        self.note(actor, EventCode::BackupDeleted, name.to_string());
        Ok(())
    }

    /// Writes to the audit log what was done and can't be undone for that.
    fn note(&self, actor: &Actor, code: EventCode, detail: String) {
        let event = Event { code, about: None, detail };
        if let Err(error) = self.fleet.apply(&[Command::Record(event)], actor.clone(), self.clock.unix()) {
            tracing::error!(%error, event = code.as_str(), "an event is not in the audit log");
        }
    }
}
