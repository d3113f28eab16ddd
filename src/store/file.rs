//! Whole files that are either the old one or the new one, never a mixture, and that say so when they are
//! damaged: a header with magic, kind, version, length and checksum; written beside, synced, renamed.

use std::ffi::OsString;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::error::StoreError;

const MAGIC: [u8; 8] = *b"FPSTORE\n";
/// Magic 8, kind 4, version 4, length 8, checksum of the body 4, checksum of the header before it 4.
const HEADER_BYTES: usize = 32;

/// What a file is and in which version: checked when it is read.
#[derive(Clone, Copy)]
pub(super) struct FileKind {
    pub(super) magic: [u8; 4],
    pub(super) version: u32,
    pub(super) what: &'static str,
    pub(super) remedy: &'static str,
}

/// Makes a directory that only this user can enter, and those above it, durably: what is synced inside is nothing
/// while the name of its directory can be lost.
pub(super) fn make_dir(dir: &Path) -> Result<(), StoreError> {
    let missing = dir.ancestors().take_while(|above| !above.as_os_str().is_empty() && !above.exists());
    let missing: Vec<&Path> = missing.collect();
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.and_then(|()| missing.into_iter().try_for_each(sync_dir))
        .map_err(|cause| StoreError::file("making directory", dir, cause))
}

/// Writes a file whole: `body` into a temporary one, sync, the present one becomes `<path>.previous`,
/// rename, sync of the directory.
pub(super) fn replace(
    path: &Path,
    kind: FileKind,
    keep_previous: bool,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> Result<u64, StoreError> {
    let temporary = beside(path, "new");
    let result = write_whole(&temporary, kind, body).and_then(|bytes| {
        if keep_previous {
            match fs::rename(path, beside(path, "previous")) {
                Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(cause),
                _ => {}
            }
        }
        fs::rename(&temporary, path)?;
        sync_dir(path)?;
        Ok(bytes)
    });
    result.map_err(|cause| {
        // The room that a half-written file takes may be what everybody waits for.
        let _ = fs::remove_file(&temporary);
        StoreError::file("writing", path, cause)
    })
}

/// Reads a file whole and checks it; `None` when there is none.
pub(super) fn read(path: &Path, kind: FileKind) -> Result<Option<Vec<u8>>, StoreError> {
    let Some((mut file, header, _, length)) = open_header(path, kind)? else { return Ok(None) };
    let checksum = u32::from_le_bytes([header[24], header[25], header[26], header[27]]);
    let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
    file.read_to_end(&mut body).map_err(|cause| StoreError::file("reading", path, cause))?;
    if crc32fast::hash(&body) != checksum {
        return Err(corrupt(path, kind, "its checksum does not match"));
    }
    Ok(Some(body))
}

/// Opens a file of which only parts are wanted, whose parts have checksums of their own: the file, where its
/// body begins and how long it is. `None` when there is none.
pub(super) fn open(path: &Path, kind: FileKind) -> Result<Option<(File, u64, u64)>, StoreError> {
    Ok(open_header(path, kind)?.map(|(file, _, begin, length)| (file, begin, length)))
}

type Opened = (File, [u8; HEADER_BYTES], u64, u64);

fn open_header(path: &Path, kind: FileKind) -> Result<Option<Opened>, StoreError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(StoreError::file("opening", path, cause)),
    };
    let io = |cause| StoreError::file("reading", path, cause);
    let length = file.metadata().map_err(io)?.len();
    let Some(body) = length.checked_sub(HEADER_BYTES as u64) else {
        return Err(corrupt(path, kind, "it is cut short"));
    };
    let mut header = [0; HEADER_BYTES];
    file.read_exact(&mut header).map_err(io)?;
    if check_header(path, kind, &header)? != body {
        return Err(corrupt(path, kind, "its length is not what its header says"));
    }
    Ok(Some((file, header, HEADER_BYTES as u64, body)))
}

/// The name of the file that was there before.
pub(super) fn previous(path: &Path) -> PathBuf {
    beside(path, "previous")
}

/// Makes the names in the directory of `path` durable.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    match path.parent() {
        // A name alone is in the directory that we are in.
        Some(parent) if parent.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(parent) => File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

fn write_whole(
    path: &Path,
    kind: FileKind,
    body: impl FnOnce(&mut dyn Write) -> io::Result<()>,
) -> io::Result<u64> {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let mut writer = Summing {
        file: BufWriter::with_capacity(256 * 1_024, file),
        sum: crc32fast::Hasher::new(),
        bytes: 0,
    };
    writer.file.write_all(&[0; HEADER_BYTES])?;
    body(&mut writer)?;
    let Summing { file, sum, bytes } = writer;
    let mut file = file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.rewind()?;
    file.write_all(&header(kind, bytes, sum.finalize()))?;
    file.sync_all()?;
    Ok(bytes)
}

struct Summing {
    file: BufWriter<File>,
    sum: crc32fast::Hasher,
    bytes: u64,
}

impl Write for Summing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.sum.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn header(kind: FileKind, length: u64, checksum: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&kind.magic);
    header[12..16].copy_from_slice(&kind.version.to_le_bytes());
    header[16..24].copy_from_slice(&length.to_le_bytes());
    header[24..28].copy_from_slice(&checksum.to_le_bytes());
    let own = crc32fast::hash(&header[..28]);
    header[28..].copy_from_slice(&own.to_le_bytes());
    header
}

fn check_header(path: &Path, kind: FileKind, header: &[u8; HEADER_BYTES]) -> Result<u64, StoreError> {
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..8] != MAGIC || header[8..12] != kind.magic {
        return Err(corrupt(path, kind, "it is another kind of file"));
    }
    if crc32fast::hash(&header[..28]) != word(28) {
        return Err(corrupt(path, kind, "the checksum of its header does not match"));
    }
    let found = word(12);
    if found > kind.version {
        return Err(StoreError::Newer { what: path.display().to_string(), found, known: kind.version });
    }
    Ok(u64::from(word(16)) | u64::from(word(20)) << 32)
}

#[cold]
fn corrupt(path: &Path, kind: FileKind, why: &str) -> StoreError {
    let what = format!("{} ({})", kind.what, path.display());
    StoreError::Corrupt { what, why: why.to_owned(), remedy: kind.remedy }
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".");
    name.push(suffix);
    PathBuf::from(name)
}
