//! What can go wrong with the disk, sorted by what somebody can do about it.

use std::io;
use std::path::{Path, PathBuf};

use super::position::Position;

/// Why the store could not do something. [`StoreError::label`] is bounded, for metrics and readiness.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No room. Writing works again by itself once there is some.
    #[error("{what}: no room on the disk; free some, writing goes on by itself")]
    Full {
        /// What was being written.
        what: String,
    },
    /// No permission, or a read-only file system.
    #[error("{what}: not writable ({cause}); check owner, mode and mount of the data directory")]
    NotWritable {
        /// What was being written.
        what: String,
        /// What the system says.
        cause: io::Error,
    },
    /// The disk failed otherwise.
    #[error("{what}: {cause}")]
    Io {
        /// What was being done.
        what: String,
        /// What the system says.
        cause: io::Error,
    },
    /// A file is damaged, or is not what its name says.
    #[error("{what} is damaged: {why}; {remedy}")]
    Corrupt {
        /// Which file or document.
        what: String,
        /// What is wrong with it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// Another server uses the directory.
    #[error("{} is in use by another server; stop that one, or give this one a directory of its own", dir.display())]
    Locked {
        /// Which directory.
        dir: PathBuf,
    },
    /// The directory holds something else.
    #[error("{} is not empty and not a store; name an empty or new directory", dir.display())]
    NotAStore {
        /// Which directory.
        dir: PathBuf,
    },
    /// Written by a newer version of this program.
    #[error("{what} has format {found}, this program knows up to {known}; run the newer program")]
    Newer {
        /// Which file or document.
        what: String,
        /// The format that it has.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// Somebody else appended first: plan again from the present state.
    #[error("the log is at {actual}, not at {expected}: something was appended in between")]
    Conflict {
        /// Where the writer thought the log was.
        expected: Position,
        /// Where it is.
        actual: Position,
    },
}

impl StoreError {
    /// A bounded name for metrics, readiness and logs.
    pub const fn label(&self) -> &'static str {
        match self {
            StoreError::Full { .. } => "full",
            StoreError::NotWritable { .. } => "not-writable",
            StoreError::Io { .. } => "io",
            StoreError::Corrupt { .. } => "corrupt",
            StoreError::Locked { .. } => "locked",
            StoreError::NotAStore { .. } => "not-a-store",
            StoreError::Newer { .. } => "newer",
            StoreError::Conflict { .. } => "conflict",
        }
    }

    /// All labels.
    pub const LABELS: [&'static str; 8] =
        ["full", "not-writable", "io", "corrupt", "locked", "not-a-store", "newer", "conflict"];

    /// True when trying the same again later may succeed without anybody changing a file.
    pub const fn is_passing(&self) -> bool {
        matches!(self, StoreError::Full { .. } | StoreError::NotWritable { .. } | StoreError::Io { .. })
    }

    #[cold]
    pub(super) fn io(what: impl Into<String>, cause: io::Error) -> StoreError {
        let what = what.into();
        match cause.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                StoreError::Full { what }
            }
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                StoreError::NotWritable { what, cause }
            }
            _ => StoreError::Io { what, cause },
        }
    }

    #[cold]
    pub(super) fn file(doing: &str, path: &Path, cause: io::Error) -> StoreError {
        StoreError::io(format!("{doing} {}", path.display()), cause)
    }

    #[cold]
    pub(super) fn redb(what: &str, cause: impl Into<redb::Error>) -> StoreError {
        match cause.into() {
            redb::Error::Io(cause) => StoreError::io(what, cause),
            redb::Error::PreviousIo | redb::Error::DatabaseClosed => StoreError::Io {
                what: what.to_owned(),
                cause: io::Error::other("closed after an earlier error"),
            },
            redb::Error::UpgradeRequired(found) => {
                StoreError::Newer { what: what.to_owned(), found: u32::from(found), known: 0 }
            }
            other => StoreError::Corrupt {
                what: what.to_owned(),
                why: other.to_string(),
                remedy: "restore it from a backup",
            },
        }
    }
}
