//! The folder of the backups that a server makes of itself: files of one form of name, and nothing else is looked at.
//!
//! Names are made here and never taken from anybody: what somebody asks for is a [`BackupName`] or it is refused, so it can
//! lead to no other file. A link of that name is no backup either.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::digest::{Context, SHA256};
use rustix::fs::OFlags;

use super::BACKUP;
use super::record::{Kind, PIECE_BYTES, Records, read_lead};
use crate::store::error::StoreError;
use crate::store::file;
use crate::store::position::Position;
use crate::time::UnixMillis;

const BEFORE: &str = "fleetpulse-";
const AFTER: &str = ".backup";
/// What a name is between those; 0 stands for a digit.
const FORM: &[u8] = b"00000000T000000000Z";

/// The name of a backup: when it was begun. Names sort as their times do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BackupName(String);

/// A text that is no name of a backup.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the name of a backup, such as fleetpulse-20261126T101112345Z.backup")]
pub struct BadBackupName;

impl BackupName {
    /// Of a backup that is begun now.
    pub fn of(at: UnixMillis) -> BackupName {
        let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or_default();
        BackupName(format!("{BEFORE}{}{AFTER}", at.strftime("%Y%m%dT%H%M%S%3fZ")))
    }
}

impl FromStr for BackupName {
    type Err = BadBackupName;

    fn from_str(text: &str) -> Result<BackupName, BadBackupName> {
        let time =
            text.strip_prefix(BEFORE).and_then(|rest| rest.strip_suffix(AFTER)).ok_or(BadBackupName)?;
        let fits = |(is, form): (u8, &u8)| if *form == b'0' { is.is_ascii_digit() } else { is == *form };
        let right = time.len() == FORM.len() && time.bytes().zip(FORM).all(fits);
        if right { Ok(BackupName(text.to_owned())) } else { Err(BadBackupName) }
    }
}

impl fmt::Display for BackupName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A backup that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Its name.
    pub name: BackupName,
    /// Size of the file.
    pub bytes: u64,
    /// When it was made, and the last entries of the register and of the journal in it; none when it can't be read.
    pub lead: Option<(UnixMillis, Position, Position)>,
}

/// The folder.
#[derive(Clone, Debug)]
pub struct BackupFolder(PathBuf);

impl BackupFolder {
    /// At this place. Nothing is made yet.
    pub fn new(path: impl Into<PathBuf>) -> BackupFolder {
        BackupFolder(path.into())
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Where a backup is or would be.
    pub fn file(&self, name: &BackupName) -> PathBuf {
        self.0.join(&name.0)
    }

    /// Makes the folder, for this user alone, and takes away what a backup that was cut off by a crash left there. No
    /// backup may be under way.
    pub fn prepare(&self) -> Result<(), StoreError> {
        file::make_dir(&self.0)?;
        for name in self.names()? {
            if let Some(whole) = name.strip_suffix(".new")
                && whole.parse::<BackupName>().is_ok()
            {
                let path = self.0.join(&name);
                fs::remove_file(&path).map_err(|cause| StoreError::file("removing", &path, cause))?;
            }
        }
        Ok(())
    }

    /// The backups that are there, newest first.
    pub fn list(&self) -> Result<Vec<BackupFile>, StoreError> {
        let mut found = Vec::new();
        for name in self.names()? {
            let Ok(name) = name.parse::<BackupName>() else { continue };
            let Some((_, bytes)) = self.open(&name)? else { continue };
            let lead = self.lead(&name).inspect_err(|error| tracing::warn!(%error, "a backup can't be read"));
            found.push(BackupFile { name, bytes, lead: lead.ok().flatten() });
        }
        found.sort_by(|a, b| b.name.cmp(&a.name));
        Ok(found)
    }

    /// A backup for reading, and its size; none when there is none.
    pub fn open(&self, name: &BackupName) -> Result<Option<(File, u64)>, StoreError> {
        let path = self.file(name);
        // Whatever has the name: no link is followed, and no pipe waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&path);
        let opened = opened.and_then(|file| file.metadata().map(|about| (file, about)));
        match opened {
            Ok((file, about)) => Ok(about.is_file().then_some((file, about.len()))),
            Err(cause) if is_gone(&cause) => Ok(None),
            Err(cause) => Err(StoreError::file("opening", &path, cause)),
        }
    }

    /// SHA-256 of the whole file, in hexadecimal digits, as `sha256sum` has it; none when there is no such backup.
    pub fn sha256(&self, name: &BackupName) -> Result<Option<String>, StoreError> {
        let Some((mut file, _)) = self.open(name)? else { return Ok(None) };
        let (mut sum, mut piece) = (Context::new(&SHA256), vec![0; PIECE_BYTES]);
        loop {
            let read = file.read(&mut piece);
            match read.map_err(|cause| StoreError::file("reading", &self.file(name), cause))? {
                0 => break,
                read => sum.update(&piece[..read]),
            }
        }
        Ok(Some(sum.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()))
    }

    /// Removes a backup; false when there is none.
    pub fn remove(&self, name: &BackupName) -> Result<bool, StoreError> {
        if self.open(name)?.is_none() {
            return Ok(false);
        }
        let path = self.file(name);
        match fs::remove_file(&path).and_then(|()| file::sync_dir(&path)) {
            Ok(()) => Ok(true),
            Err(cause) if is_gone(&cause) => Ok(false),
            Err(cause) => Err(StoreError::file("removing", &path, cause)),
        }
    }

    fn lead(&self, name: &BackupName) -> Result<Option<(UnixMillis, Position, Position)>, StoreError> {
        let Some((opened, _, _)) = file::open(&self.file(name), BACKUP)? else { return Ok(None) };
        match Records::new(BufReader::new(opened)).next()? {
            Some((Kind::Lead, lead)) => read_lead(&lead).map(Some),
            _ => Ok(None),
        }
    }

    /// Names in the folder; none when it is not there yet.
    fn names(&self) -> Result<Vec<String>, StoreError> {
        let reading = |cause| StoreError::file("reading", &self.0, cause);
        let entries = match fs::read_dir(&self.0) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(reading(cause)),
        };
        let mut names = Vec::new();
        for entry in entries {
            names.extend(entry.map_err(reading)?.file_name().into_string().ok());
        }
        Ok(names)
    }
}

/// Nothing of that name, or a link of that name.
fn is_gone(cause: &io::Error) -> bool {
    cause.kind() == io::ErrorKind::NotFound
        || cause.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_time_and_leads_nowhere_else() {
        let name = BackupName::of(UnixMillis(1_795_532_400_007));
        assert_eq!(name.to_string(), "fleetpulse-20261124T150000007Z.backup");
        assert_eq!(name.to_string().parse(), Ok(name.clone()));
        assert!(name < BackupName::of(UnixMillis(1_795_532_400_008)));
        for wrong in [
            "",
            "..",
            ".",
            "/etc/passwd",
            "../fleetpulse-20261124T150000007Z.backup",
            "fleetpulse-20261124T150000007Z.backup/..",
            "fleetpulse-20261124T150000007Z.backup\0",
            "fleetpulse-20261124T150000007Z.backup.new",
            "fleetpulse-2026112/T150000007Z.backup",
            "fleetpulse-2026112\u{0664}150000007Z.backup",
            "fleetpulse-20261124t150000007Z.backup",
            "fleetpulse-.backup",
        ] {
            assert!(wrong.parse::<BackupName>().is_err(), "{wrong:?}");
        }
        assert!("9".repeat(1 << 20).parse::<BackupName>().is_err());
    }

    #[test]
    fn only_backups_are_seen_and_touched() {
        let dir = tempfile::tempdir().unwrap();
        let folder = BackupFolder::new(dir.path().join("backups"));
        assert!(folder.list().unwrap().is_empty());
        folder.prepare().unwrap();
        let names = [3, 1, 2].map(|at| BackupName::of(UnixMillis(at)));
        let [third, first, second] = &names;
        names.iter().for_each(|name| fs::write(folder.file(name), "no backup").unwrap());
        let (other, half) = (folder.path().join("notes.txt"), folder.path().join(format!("{first}.new")));
        fs::write(&other, "mine").unwrap();
        fs::write(&half, "half").unwrap();
        let link = BackupName::of(UnixMillis(9));
        std::os::unix::fs::symlink(&other, folder.file(&link)).unwrap();
        fs::create_dir(folder.file(&BackupName::of(UnixMillis(10)))).unwrap();

        folder.prepare().unwrap();
        assert!(other.exists() && !half.exists());
        let listed = folder.list().unwrap();
        assert_eq!(listed.iter().map(|found| &found.name).collect::<Vec<_>>(), [third, second, first]);
        assert!(listed.iter().all(|found| found.bytes == 9 && found.lead.is_none()));
        assert!(folder.open(&link).unwrap().is_none());
        assert!(!folder.remove(&link).unwrap());
        assert!(folder.remove(second).unwrap());
        assert!(!folder.remove(second).unwrap());
        assert!(other.exists() && folder.list().unwrap().len() == 2);
    }
}
