//! Files that nobody else may read, written whole or not at all.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest file that identity reads: a revocation list of [`REVOKED_MAX`](crate::limits::REVOKED_MAX) entries.
const FILE_BYTES_MAX: u64 = 256 * 1_024 * 1_024;

/// A name that people gave as a file's or folder's: letters as this says, digits, `-` and `_`, so nothing that a path
/// could misread. `otherwise`: what it is called when no such character is in it. Letters are a question of where the
/// name goes: any of them on a disk, ASCII only in an HTTP header.
pub fn file_name(name: &str, otherwise: &str, letter: fn(char) -> bool) -> String {
    let safe = |c: char| if letter(c) || c == '-' || c == '_' { c } else { '-' };
    let text: String = name.chars().map(safe).take(64).collect();
    if text.chars().all(|c| c == '-') { otherwise.to_owned() } else { text }
}

/// A file of ours that could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system refused.
    #[error("{} can't be {what}: {source}; {}", path.display(), advice(source))]
    Io {
        /// The file.
        path: PathBuf,
        /// "read", "written", ...
        what: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// A folder that no server's authority is in.
    #[error("{} has no certificate authority in it; name the data directory of the server with --data-dir", path.display())]
    NoAuthority {
        /// The data directory.
        path: PathBuf,
    },
    /// The file is there and is not what it should be.
    #[error("{} is not usable: {problem}; restore it from a backup, or move it away to start anew", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

fn advice(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::PermissionDenied => "run as the user that owns the data directory",
        io::ErrorKind::NotFound => "check the path, and that its folder exists",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "make room on that disk",
        io::ErrorKind::ReadOnlyFilesystem => "choose a data directory on a writable disk",
        _ => "check the path and the disk",
    }
}

impl FileError {
    pub(super) fn io(path: &Path, what: &'static str, source: io::Error) -> FileError {
        FileError::Io { path: path.to_owned(), what, source }
    }

    pub(super) fn content(path: &Path, problem: impl Into<String>) -> FileError {
        FileError::Content { path: path.to_owned(), problem: problem.into() }
    }
}

/// Reads a text file; `None` when there is none.
pub(super) fn read(path: &Path) -> Result<Option<String>, FileError> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(FileError::io(path, "read", error)),
    };
    let mut text = String::new();
    match file.take(FILE_BYTES_MAX).read_to_string(&mut text) {
        Ok(_) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(FileError::content(path, "it is not text"))
        }
        Err(error) => Err(FileError::io(path, "read", error)),
    }
}

/// Reads a text file that must exist.
pub(super) fn read_existing(path: &Path) -> Result<String, FileError> {
    read(path)?.ok_or_else(|| FileError::io(path, "read", io::ErrorKind::NotFound.into()))
}

/// Reads a private file; takes read rights away from others if somebody gave them.
pub(super) fn read_private(path: &Path) -> Result<String, FileError> {
    let text = read_existing(path)?;
    let metadata = fs::metadata(path).map_err(|error| FileError::io(path, "read", error))?;
    if metadata.permissions().mode() & 0o077 != 0 {
        tracing::warn!(path = %path.display(), "a private key was readable by others; its mode is set to 0600");
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .map_err(|error| FileError::io(path, "made private", error))?;
    }
    Ok(text)
}

/// Makes a folder that only its owner may enter, with its parents.
pub(super) fn make_folder(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| FileError::io(path, "created", error))
}

/// Writes a file 0600: beside its place, synced, renamed into it, the rename synced too.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), FileError> {
    let fail = |error| FileError::io(path, "written", error);
    let beside = path.with_extension("new");
    let _ = fs::remove_file(&beside);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside).map_err(fail)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
    if let Err(error) = written.and_then(|()| fs::rename(&beside, path)) {
        let _ = fs::remove_file(&beside);
        return Err(fail(error));
    }
    sync_parent(path)
}

/// Moves a file to a place in the same folder, durably.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|error| FileError::io(to, "written", error))?;
    sync_parent(to)
}

/// Keeps other programs from changing a file until the result is dropped, or this program ends; waits for one that is
/// at it. The lock is on a file beside it, because the file itself is replaced.
#[cfg(feature = "server")]
pub(super) fn lock(path: &Path) -> Result<File, FileError> {
    let beside = path.with_extension("lock");
    let open = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&beside);
    open.and_then(|file| file.lock().map(|()| file)).map_err(|error| FileError::io(&beside, "locked", error))
}

/// Makes a rename or a new entry durable.
pub(super) fn sync_parent(path: &Path) -> Result<(), FileError> {
    let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) else { return Ok(()) };
    File::open(parent)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| FileError::io(parent, "synced", error))
}
