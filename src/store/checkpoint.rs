//! The checkpoint of live state: an opaque image, whole or not at all, with the one before it in reserve.

use std::path::PathBuf;

use super::error::StoreError;
use super::file::{self, FileKind};

const CHECKPOINT: FileKind = FileKind {
    magic: *b"LIVE",
    version: 1,
    what: "the checkpoint",
    remedy: "nothing to do: the server starts without it, and knows nothing of the past until sensors report",
};

/// Keeps the last two images of live state.
#[derive(Debug)]
pub struct CheckpointStore {
    path: PathBuf,
}

/// What [`CheckpointStore::load`] found.
#[derive(Debug, Default)]
pub struct LoadedCheckpoint {
    /// The newest image that is whole.
    pub image: Option<Vec<u8>>,
    /// What was wrong with newer ones.
    pub errors: Vec<StoreError>,
}

impl CheckpointStore {
    pub(super) fn new(path: PathBuf) -> CheckpointStore {
        CheckpointStore { path }
    }

    /// Its files, by their names in the data directory.
    pub(super) fn files(&self) -> Vec<(String, PathBuf)> {
        let named = |path: PathBuf| {
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
            name.map(|name| (format!("store/{name}"), path))
        };
        [self.path.clone(), file::previous(&self.path)].into_iter().filter_map(named).collect()
    }

    /// Replaces the image, durably; the present one is kept as previous.
    pub fn save(&self, image: &[u8]) -> Result<(), StoreError> {
        file::replace(&self.path, CHECKPOINT, true, |writer| writer.write_all(image)).map(drop)
    }

    /// The newest image that is whole. Damage is reported, never fatal.
    pub fn load(&self) -> LoadedCheckpoint {
        let mut loaded = LoadedCheckpoint::default();
        for path in [self.path.clone(), file::previous(&self.path)] {
            match file::read(&path, CHECKPOINT) {
                Ok(Some(image)) => {
                    loaded.image = Some(image);
                    break;
                }
                Ok(None) => {}
                Err(error) => loaded.errors.push(error),
            }
        }
        loaded
    }
}
