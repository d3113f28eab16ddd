//! The data directory of a demonstration: a private temporary one that goes with it, or one that stays.

use std::fs;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use super::Failure;

/// A folder that was empty when the demonstration began; removed when this is dropped, unless a person named it.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    temporary: bool,
}

impl Folder {
    /// The named folder, which must be empty or not be there yet; without a name a fresh private one.
    pub fn open(named: Option<&Path>) -> Result<Folder, Failure> {
        match named {
            Some(path) => Folder::named(path),
            None => Folder::temporary(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It goes away with the demonstration.
    pub fn is_temporary(&self) -> bool {
        self.temporary
    }

    fn named(path: &Path) -> Result<Folder, Failure> {
        let shown = path.display();
        make(path, true).map_err(|error| Failure::failed(format!("--data-dir {shown}: {error}")))?;
        let mut entries =
            fs::read_dir(path).map_err(|error| Failure::failed(format!("--data-dir {shown}: {error}")))?;
        if entries.next().is_some() {
            return Err(Failure::usage(format!(
                "--data-dir {shown} is not empty, and a demonstration starts from nothing; name a new directory"
            )));
        }
        Ok(Folder { path: path.to_owned(), temporary: false })
    }

    fn temporary() -> Result<Folder, Failure> {
        let parent = std::env::temp_dir();
        // Making it fails when the name is taken, so nobody else's folder is ever used.
        let path = parent.join(format!("fleetpulse-demo-{:016x}", rand::random::<u64>()));
        make(&path, false).map_err(|error| {
            let shown = path.display();
            Failure::failed(format!("no temporary directory {shown}: {error}; name one with --data-dir"))
        })?;
        Ok(Folder { path, temporary: true })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.temporary {
            // What is left behind is in the system's temporary folder, where it is swept some day.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

/// Readable by its owner only: keys will lie in it.
fn make(path: &Path, may_exist: bool) -> std::io::Result<()> {
    fs::DirBuilder::new().recursive(may_exist).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_temporary_folder_is_private_and_goes() {
        let folder = Folder::open(None).unwrap_or_else(|_| panic!("a temporary folder"));
        let path = folder.path().to_owned();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        fs::write(path.join("key"), "x").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn a_named_folder_stays_and_must_be_empty() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a/b");
        drop(Folder::open(Some(&path)).unwrap_or_else(|_| panic!("made")));
        assert!(path.exists());
        fs::write(path.join("x"), "x").unwrap();
        let refused = Folder::open(Some(&path)).err().unwrap();
        assert_eq!(refused.code, crate::cli::exit::USAGE);
        assert!(refused.message.contains("not empty"), "{}", refused.message);
    }
}
