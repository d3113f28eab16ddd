//! One redb file that heals itself: redb refuses everything after an I/O error until it is opened again,
//! so a failed write closes the file and the next use opens it again. A disk that had no room for a minute
//! costs that minute, not a restart.
//!
//! Commits are redb's two-phase ones with the allocator state saved ("quick repair"): opening after a
//! crash takes milliseconds whatever the size, where a full repair reads the whole file. Price: a second
//! fsync a commit.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};

use redb::backends::FileBackend;
use redb::{Database, ReadTransaction, ReadableDatabase, WriteTransaction};

use super::error::StoreError;

type Opener = Box<dyn Fn(&Path) -> Result<Database, redb::Error> + Send + Sync>;

pub(super) struct HealingDatabase {
    path: PathBuf,
    what: &'static str,
    open: Opener,
    database: RwLock<Option<Database>>,
    writer: Mutex<()>,
}

impl HealingDatabase {
    pub(super) fn open(path: PathBuf, what: &'static str, cache: usize) -> Result<Self, StoreError> {
        let open = move |path: &Path| {
            let mut builder = Database::builder();
            builder.set_cache_size(cache);
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
            Ok(builder.create_with_backend(FileBackend::new(file)?)?)
        };
        HealingDatabase::open_with(path, what, Box::new(open))
    }

    /// Opens by a function of the caller, e.g. one that injects faults.
    pub(super) fn open_with(path: PathBuf, what: &'static str, open: Opener) -> Result<Self, StoreError> {
        let database = open(&path).map_err(|cause| StoreError::redb(what, cause))?;
        Ok(HealingDatabase {
            path,
            what,
            open,
            database: RwLock::new(Some(database)),
            writer: Mutex::new(()),
        })
    }

    /// Runs `body` in a transaction and makes it durable. Whatever fails, nothing of it is left, unless the
    /// last sync itself failed: then all of it may be there. The logs know where their acknowledged end is,
    /// show nothing beyond it, and deal with such a leftover at the next write.
    pub(super) fn write<T>(
        &self,
        body: impl FnOnce(&WriteTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let _one_writer = self.writer();
        let result = self.begin_write().and_then(|transaction| {
            let value = body(&transaction)?;
            transaction.commit().map_err(|cause| self.error(cause))?;
            Ok(value)
        });
        self.heal(result)
    }

    pub(super) fn read<T>(
        &self,
        body: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let transaction = self.with(|database| database.begin_read().map_err(|cause| self.error(cause)));
        let result = transaction.and_then(|transaction| body(&transaction));
        self.heal(result)
    }

    /// Whether every page is as it was written; mends its own bookkeeping. Nobody else may use it meanwhile.
    pub(super) fn check_integrity(&self) -> Result<bool, StoreError> {
        let _one_writer = self.writer();
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => (self.open)(&self.path).map_err(|cause| self.error(cause))?,
        };
        slot.insert(database).check_integrity().map_err(|cause| self.error(cause))
    }

    pub(super) fn error(&self, cause: impl Into<redb::Error>) -> StoreError {
        StoreError::redb(self.what, cause)
    }

    fn begin_write(&self) -> Result<WriteTransaction, StoreError> {
        self.with(|database| {
            let mut transaction = database.begin_write().map_err(|cause| self.error(cause))?;
            transaction.set_quick_repair(true);
            Ok(transaction)
        })
    }

    /// With the open database, opened again when an error closed it.
    fn with<T>(&self, body: impl FnOnce(&Database) -> Result<T, StoreError>) -> Result<T, StoreError> {
        if let Some(database) = self.database.read().unwrap_or_else(PoisonError::into_inner).as_ref() {
            return body(database);
        }
        let mut slot = self.database.write().unwrap_or_else(PoisonError::into_inner);
        let database = match slot.take() {
            Some(database) => database,
            None => (self.open)(&self.path).map_err(|cause| self.error(cause))?,
        };
        body(slot.insert(database))
    }

    /// Closes the database after an error of the disk.
    fn heal<T>(&self, result: Result<T, StoreError>) -> Result<T, StoreError> {
        if result.as_ref().is_err_and(StoreError::is_passing) {
            *self.database.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn writer(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
