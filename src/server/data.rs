//! The data directory, opened: what a server starts from, and what `fleetpulse ca` works on while no server
//! runs. One program at a time: the store's lock sees to it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::fleet::{Actor, Batch, Command, Refusal, Register};
use crate::identity::{Authority, AuthorityError, FileError, Keys, Revocations};
use crate::store::{BackupError, BackupReport, LoadedRegister, Position, Store, StoreError, files_below};
use crate::time::{Clock, UnixMillis};

/// Why the data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificate authority.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// Keys or revocations.
    #[error(transparent)]
    File(#[from] FileError),
}

/// An open data directory.
pub struct DataDir {
    /// Where it lies.
    pub path: PathBuf,
    /// Register log, journal, checkpoint, history.
    pub store: Arc<Store>,
    /// The register as the log has it.
    pub register: Register,
    /// The batch that it includes last.
    pub position: Position,
    /// Signs certificates.
    pub authority: Authority,
    /// Keys that outlive a restart.
    pub keys: Arc<Keys>,
    /// Serials that are good for nothing any more.
    pub revocations: Arc<Revocations>,
}

/// Why a command on a data directory was not done.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The register refused it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// It could not be made durable.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Certificates could not be revoked.
    #[error(transparent)]
    Revoke(#[from] FileError),
}

/// Writes everything of a data directory into one new file: its store, and the keys of its authority.
pub fn backup(
    store: &Store,
    to: &Path,
    at: UnixMillis,
    progress: &mut dyn FnMut(u64),
) -> Result<BackupReport, BackupError> {
    let data = store.dir().parent().unwrap_or_else(|| store.dir());
    store.backup(to, &files_below(data, "identity")?, at, progress)
}

impl DataDir {
    /// Opens the directory, or makes it.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<DataDir, DataError> {
        let store = Arc::new(Store::open(path.join("store"))?);
        let authority = Authority::open_or_create(path, clock.unix())?;
        let keys = Keys::open_or_create(path, clock)?;
        let revocations = Arc::new(Revocations::open(path)?);
        let LoadedRegister { register, position, replayed, snapshot_errors } = store.register.load()?;
        for error in snapshot_errors {
            tracing::warn!(%error, "a snapshot of the register was not used");
        }
        tracing::debug!(replayed, "register loaded");
        Ok(DataDir { path: path.to_owned(), store, register, position, authority, keys, revocations })
    }

    /// Does all of these commands or none, durably. For use without a server.
    pub fn apply(
        &mut self,
        commands: &[Command],
        actor: Actor,
        at: UnixMillis,
    ) -> Result<Batch, ChangeError> {
        let batch = self.register.apply(commands, actor, at)?;
        if !batch.is_empty() {
            super::fleet::revoke(&batch, &self.revocations)?;
            self.position = self.store.register.append(self.position, &batch)?;
            self.register.fold(&batch).expect("a batch that the register made folds into it");
        }
        Ok(batch)
    }
}
