//! History: for each sensor and five minutes the smallest, largest and last of the charted values, and when
//! it was available. 24 hours at five minutes, then 30 days at an hour.
//!
//! A block is one file, written whole when its five minutes are over; so a crash loses at most the open
//! block. The ids of its sensors lie in a file of their own that following blocks share as long as the
//! fleet is the same. Measured, a realistic fleet takes about 25 bytes a sensor and block, a quiet one 12;
//! 16 more in each block that begins with another fleet than the one before.
//!
//! Retention goes by the number of blocks, not by time: a clock that jumps must not empty the history.

mod accumulator;
mod block;
mod files;
mod look;
mod metric;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use accumulator::HistoryAccumulator;
pub use block::{HistoryBlock, Resolution};
pub use metric::Metric;

use self::block::{Row, SLOTS, values};
use self::files::BlockFile;
use super::error::StoreError;
use super::file;
use crate::limits::{HISTORY_BLOCKS_MAX, HISTORY_HOURS_MAX, HISTORY_IDS_CACHE_BYTES, SERIES_POINTS_MAX};
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

/// One point of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Beginning of the time that it stands for.
    pub at: UnixMillis,
    /// How long that is.
    pub resolution: Resolution,
    /// Smallest value. Of availability: 1 when it was never away.
    pub min: f64,
    /// Largest value. Of availability: the share of the time.
    pub max: f64,
    /// Last value. Of availability: 1 when it was there at the end.
    pub last: f64,
}

/// The points of one sensor's metric, in order of time. Times in which nothing is known have none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    /// The points.
    pub points: Vec<Point>,
    /// Blocks that are damaged and were left out.
    pub damaged: usize,
}

/// Blocks on disk.
pub struct History {
    dir: PathBuf,
    index: Mutex<Index>,
    /// One writer at a time.
    writer: Mutex<()>,
    damaged: AtomicU64,
}

#[derive(Default)]
struct Index {
    five_minutes: BTreeMap<i64, ()>,
    hours: BTreeMap<i64, ()>,
    /// Lists of ids by their number, last used last.
    ids: Vec<(i64, std::sync::Arc<[SensorId]>)>,
    /// The list that the newest block uses.
    last_ids: Option<i64>,
}

impl Index {
    fn of(&mut self, resolution: Resolution) -> &mut BTreeMap<i64, ()> {
        match resolution {
            Resolution::FiveMinutes => &mut self.five_minutes,
            Resolution::Hour => &mut self.hours,
        }
    }
}

impl History {
    pub(super) fn open(dir: PathBuf) -> Result<History, StoreError> {
        file::make_dir(&dir)?;
        let mut index = Index::default();
        for resolution in [Resolution::FiveMinutes, Resolution::Hour] {
            let starts = files::starts(&dir, resolution)?;
            index.of(resolution).extend(starts.into_iter().map(|start| (start, ())));
        }
        Ok(History { dir, index: Mutex::new(index), writer: Mutex::new(()), damaged: AtomicU64::new(0) })
    }

    /// Writes a block durably, folds hours that are over into hour blocks, and removes what is too old. A
    /// block whose time is there already (a restart, a clock set back) is folded into that one.
    pub fn append_block(&self, block: &HistoryBlock) -> Result<u64, StoreError> {
        let _one_writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if block.sensors() == 0 {
            return Ok(0);
        }
        let hour = Resolution::Hour.start_of(block.start);
        let bytes = match self.read(block.resolution, block.start.0) {
            Some(there) => {
                let more = block.ids.iter().copied().zip(block.rows.iter().copied());
                let rows = there.ids.into_iter().zip(there.rows).chain(more);
                self.write(&HistoryBlock::new(block.start, block.resolution, rows.collect()))?
            }
            None => self.write(block)?,
        };
        self.fold_hours_before(hour)?;
        self.remove_old();
        Ok(bytes)
    }

    /// One sensor's metric from `from` until before `until`: five-minute points where there are some, hour
    /// points before; at most [`SERIES_POINTS_MAX`], the newest.
    pub fn series(
        &self,
        sensor: SensorId,
        metric: Metric,
        from: UnixMillis,
        until: UnixMillis,
    ) -> Result<Series, StoreError> {
        let mut series = Series::default();
        for (resolution, start) in self.plan(from, until) {
            match self.row(resolution, start, sensor) {
                Ok(row) => {
                    let found = row.as_ref().and_then(|row| values(row, metric));
                    series.points.extend(found.map(|(min, max, last)| Point {
                        at: UnixMillis(start),
                        resolution,
                        min,
                        max,
                        last,
                    }));
                }
                Err(StoreError::Corrupt { .. } | StoreError::Newer { .. }) => {
                    self.damaged.fetch_add(1, Ordering::Relaxed);
                    series.damaged += 1;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(series)
    }

    /// Damaged blocks met since the start.
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// Which blocks answer for a range, in order of time: hours only where no five-minute block begins.
    fn plan(&self, from: UnixMillis, until: UnixMillis) -> Vec<(Resolution, i64)> {
        if from >= until {
            return Vec::new();
        }
        let index = self.index();
        let fine = index.five_minutes.range(Resolution::FiveMinutes.start_of(from).0..until.0);
        let coarse = index.hours.range(Resolution::Hour.start_of(from).0..until.0).filter(|&(&hour, ())| {
            index.five_minutes.range(hour..hour + Resolution::Hour.millis()).next().is_none()
        });
        let mut plan: Vec<_> = fine.map(|(&start, ())| (Resolution::FiveMinutes, start)).collect();
        plan.extend(coarse.map(|(&start, ())| (Resolution::Hour, start)));
        plan.sort_unstable_by_key(|&(_, start)| start);
        plan.drain(..plan.len().saturating_sub(SERIES_POINTS_MAX));
        plan
    }

    fn row(&self, resolution: Resolution, start: i64, sensor: SensorId) -> Result<Option<Row>, StoreError> {
        let Some(file) = BlockFile::open(&self.dir, resolution, start)? else { return Ok(None) };
        let ids = self.ids(file.ids)?;
        match ids.binary_search(&sensor) {
            Ok(place) => file.row(place).map(Some),
            Err(_) => Ok(None),
        }
    }

    fn write(&self, block: &HistoryBlock) -> Result<u64, StoreError> {
        let last = self.index().last_ids;
        let shared = match last {
            Some(number) => self.ids(number).is_ok_and(|ids| *ids == *block.ids).then_some(number),
            None => None,
        };
        let mut bytes = 0;
        let number = match shared {
            Some(number) => number,
            None => {
                // Never the number of a list that is there: older blocks may use it.
                let number = files::lists(&self.dir)?
                    .last()
                    .map_or(block.start.0, |&last| block.start.0.max(last.saturating_add(1)));
                bytes += files::write_ids(&self.dir, number, &block.ids)?;
                number
            }
        };
        bytes += files::write_block(&self.dir, block, number)?;
        let mut index = self.index();
        index.last_ids = Some(number);
        index.of(block.resolution).insert(block.start.0, ());
        Ok(bytes)
    }

    /// A whole block, when it is there and whole.
    fn read(&self, resolution: Resolution, start: i64) -> Option<HistoryBlock> {
        if !self.index().of(resolution).contains_key(&start) {
            return None;
        }
        let read = || -> Result<Option<HistoryBlock>, StoreError> {
            let Some(file) = BlockFile::open(&self.dir, resolution, start)? else { return Ok(None) };
            let ids = self.ids(file.ids)?;
            let rows = file.rows()?;
            if rows.len() != ids.len() {
                return Err(file.corrupt("it has not as many sensors as its list of ids"));
            }
            Ok(Some(HistoryBlock { start: UnixMillis(start), resolution, ids: ids.to_vec(), rows }))
        };
        read().unwrap_or_else(|error| {
            self.damaged.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%error, "a history block is left out");
            None
        })
    }

    fn ids(&self, number: i64) -> Result<std::sync::Arc<[SensorId]>, StoreError> {
        let mut index = self.index();
        if let Some(at) = index.ids.iter().position(|&(there, _)| there == number) {
            let entry = index.ids.remove(at);
            let ids = entry.1.clone();
            index.ids.push(entry);
            return Ok(ids);
        }
        drop(index);
        let ids: std::sync::Arc<[SensorId]> = files::read_ids(&self.dir, number)?.into();
        let mut index = self.index();
        index.ids.push((number, ids.clone()));
        let bytes = |index: &Index| index.ids.iter().map(|(_, ids)| 16 * ids.len()).sum::<usize>();
        while index.ids.len() > 1 && bytes(&index) > HISTORY_IDS_CACHE_BYTES {
            index.ids.remove(0);
        }
        Ok(ids)
    }

    /// Makes an hour block of every hour before `hour` that has five-minute blocks and no hour block.
    fn fold_hours_before(&self, hour: UnixMillis) -> Result<(), StoreError> {
        let mut hours: Vec<i64> = {
            let index = self.index();
            let starts = index.five_minutes.range(..hour.0);
            let hours = starts.map(|(&start, ())| Resolution::Hour.start_of(UnixMillis(start)).0);
            hours.filter(|hour| !index.hours.contains_key(hour)).collect()
        };
        hours.dedup();
        for hour in hours {
            let starts: Vec<i64> = {
                let end = hour + Resolution::Hour.millis();
                self.index().five_minutes.range(hour..end).map(|(&start, ())| start).collect()
            };
            let mut rows: ahash::AHashMap<SensorId, Row> = ahash::AHashMap::new();
            for start in starts {
                let Some(block) = self.read(Resolution::FiveMinutes, start) else { continue };
                for (id, row) in block.ids.into_iter().zip(block.rows) {
                    let part = coarser(&row, start - hour);
                    rows.entry(id).or_insert(Row::EMPTY).add(&part);
                }
            }
            if !rows.is_empty() {
                let rows = rows.into_iter().collect();
                self.write(&HistoryBlock::new(UnixMillis(hour), Resolution::Hour, rows))?;
            }
        }
        Ok(())
    }

    /// Removes blocks beyond the bounds, and lists of ids that no block uses. What can't be removed now is
    /// tried again after the next block.
    fn remove_old(&self) {
        for (resolution, most) in
            [(Resolution::FiveMinutes, HISTORY_BLOCKS_MAX), (Resolution::Hour, HISTORY_HOURS_MAX)]
        {
            let mut index = self.index();
            let blocks = index.of(resolution);
            while blocks.len() > most
                && let Some((start, ())) = blocks.pop_first()
            {
                files::remove_block(&self.dir, resolution, start);
            }
        }
        let used = |resolution: Resolution| -> Option<Vec<i64>> {
            let starts: Vec<i64> = self.index().of(resolution).keys().copied().collect();
            let list_of = |start| match BlockFile::open(&self.dir, resolution, start) {
                Ok(Some(file)) => Some(file.ids),
                // Nobody will ever read it.
                Ok(None) | Err(StoreError::Corrupt { .. }) => Some(i64::MIN),
                Err(_) => None,
            };
            starts.into_iter().map(list_of).collect()
        };
        // Looking into every block for its list is only worth it when lists pile up.
        let lists = files::lists(&self.dir).unwrap_or_default();
        if lists.len() > 8
            && let (Some(fine), Some(coarse)) = (used(Resolution::FiveMinutes), used(Resolution::Hour))
        {
            for list in lists.into_iter().filter(|list| !fine.contains(list) && !coarse.contains(list)) {
                files::remove_ids(&self.dir, list);
            }
        }
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where the blocks lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

/// A five-minute row as a part of its hour, `offset` milliseconds into it: thirtieths of an hour are twelve
/// thirtieths of five minutes, and one of them was good when all that was seen of it was good.
fn coarser(row: &Row, offset: i64) -> Row {
    let mut hour = Row { looked: 0, available: 0, ..*row };
    let mut bad = 0;
    for slot in 0..i64::from(SLOTS) {
        let at = offset + slot * Resolution::FiveMinutes.millis() / i64::from(SLOTS);
        let bit = 1 << (at * i64::from(SLOTS) / Resolution::Hour.millis());
        if row.looked >> slot & 1 == 1 {
            hour.looked |= bit;
            if row.available >> slot & 1 == 0 {
                bad |= bit;
            }
        }
    }
    hour.available = hour.looked & !bad;
    hour
}
