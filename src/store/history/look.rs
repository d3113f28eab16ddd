//! History's files as they are, for backups and for looking whether they are sound.

use std::path::PathBuf;
use std::sync::PoisonError;

use super::files::{self, BlockFile};
use super::{History, Resolution};
use crate::store::error::StoreError;

impl History {
    /// Runs `body` with the names (in the data directory) and places of all files, while nobody writes any.
    pub(in crate::store) fn while_still<T>(
        &self,
        body: impl FnOnce(Vec<(String, PathBuf)>) -> T,
    ) -> Result<T, StoreError> {
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names = Vec::new();
        for number in files::lists(&self.dir)? {
            names.push(format!("ids/{number}.ids"));
        }
        for (resolution, folder) in [(Resolution::FiveMinutes, "5m"), (Resolution::Hour, "1h")] {
            let starts = files::starts(&self.dir, resolution)?;
            names.extend(starts.into_iter().map(|start| format!("{folder}/{start}.block")));
        }
        let place = |name: String| (format!("store/history/{name}"), self.dir.join(name));
        Ok(body(names.into_iter().map(place).collect()))
    }

    /// Reads every block; says how many there are, and hands out what is wrong with some.
    pub(in crate::store) fn look(&self, wrong: &mut dyn FnMut(StoreError)) -> Result<u64, StoreError> {
        let mut blocks = 0;
        for resolution in [Resolution::FiveMinutes, Resolution::Hour] {
            for start in files::starts(&self.dir, resolution)? {
                blocks += 1;
                let read = || {
                    let Some(file) = BlockFile::open(&self.dir, resolution, start)? else { return Ok(()) };
                    let ids = files::read_ids(&self.dir, file.ids)?;
                    match file.rows()?.len() == ids.len() {
                        true => Ok(()),
                        false => Err(file.corrupt("it has not as many sensors as its list of ids")),
                    }
                };
                read().unwrap_or_else(&mut *wrong);
            }
        }
        Ok(blocks)
    }
}
