//! Files of history: blocks, and lists of ids.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::block::{Chunk, HistoryBlock, Resolution, Row, pack};
use crate::limits::HISTORY_CHUNK_SENSORS;
use crate::store::error::StoreError;
use crate::store::file::{self, FileKind};
use crate::wire::id::SensorId;

const REMEDY: &str = "nothing to do: charts have a gap there";
const BLOCK: FileKind = FileKind { magic: *b"HBLK", version: 1, what: "a history block", remedy: REMEDY };
const IDS: FileKind =
    FileKind { magic: *b"HIDS", version: 1, what: "a list of history's sensors", remedy: REMEDY };

/// Before the directory of chunks: number of the list of ids 8, sensors 4, chunks 4.
const LEAD_BYTES: usize = 16;

fn folder(resolution: Resolution) -> &'static str {
    match resolution {
        Resolution::FiveMinutes => "5m",
        Resolution::Hour => "1h",
    }
}

fn block_path(dir: &Path, resolution: Resolution, start: i64) -> PathBuf {
    dir.join(folder(resolution)).join(format!("{start}.block"))
}

fn ids_path(dir: &Path, number: i64) -> PathBuf {
    dir.join("ids").join(format!("{number}.ids"))
}

/// The beginnings of the blocks that are there.
pub(super) fn starts(dir: &Path, resolution: Resolution) -> Result<Vec<i64>, StoreError> {
    numbers(&dir.join(folder(resolution)), ".block")
}

/// The numbers of the lists that are there, sorted.
pub(super) fn lists(dir: &Path) -> Result<Vec<i64>, StoreError> {
    numbers(&dir.join("ids"), ".ids")
}

fn numbers(dir: &Path, suffix: &str) -> Result<Vec<i64>, StoreError> {
    file::make_dir(dir)?;
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(|cause| StoreError::file("reading", dir, cause))? {
        let entry = entry.map_err(|cause| StoreError::file("reading", dir, cause))?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(suffix)).map(str::parse::<i64>);
        numbers.extend(number.and_then(Result::ok));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

pub(super) fn write_ids(dir: &Path, number: i64, ids: &[SensorId]) -> Result<u64, StoreError> {
    file::replace(&ids_path(dir, number), IDS, false, |writer| {
        ids.iter().try_for_each(|id| writer.write_all(&id.0))
    })
}

pub(super) fn read_ids(dir: &Path, number: i64) -> Result<Vec<SensorId>, StoreError> {
    let path = ids_path(dir, number);
    let Some(bytes) = file::read(&path, IDS)? else { return Err(corrupt(&path, "it is gone")) };
    let (ids, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(corrupt(&path, "it ends in the middle of an id"));
    }
    Ok(ids.iter().map(|&id| SensorId(id)).collect())
}

pub(super) fn remove_ids(dir: &Path, number: i64) {
    let _ = fs::remove_file(ids_path(dir, number));
}

pub(super) fn remove_block(dir: &Path, resolution: Resolution, start: i64) {
    let _ = fs::remove_file(block_path(dir, resolution, start));
}

/// Lead, the end of each chunk (4 bytes each, counted from the first one's beginning), checksum of both,
/// chunks.
pub(super) fn write_block(dir: &Path, block: &HistoryBlock, ids: i64) -> Result<u64, StoreError> {
    let chunks: Vec<Vec<u8>> = block.rows.chunks(HISTORY_CHUNK_SENSORS).map(pack).collect();
    let mut lead = Vec::with_capacity(LEAD_BYTES + 4 * chunks.len() + 4);
    lead.extend_from_slice(&ids.to_le_bytes());
    lead.extend_from_slice(&(block.rows.len() as u32).to_le_bytes());
    lead.extend_from_slice(&(chunks.len() as u32).to_le_bytes());
    let mut end = 0;
    for chunk in &chunks {
        end += chunk.len() as u32;
        lead.extend_from_slice(&end.to_le_bytes());
    }
    lead.extend_from_slice(&crc32fast::hash(&lead).to_le_bytes());
    file::replace(&block_path(dir, block.resolution, block.start.0), BLOCK, false, |writer| {
        writer.write_all(&lead)?;
        chunks.iter().try_for_each(|chunk| writer.write_all(chunk))
    })
}

/// An open block of which only what is needed is read.
pub(super) struct BlockFile {
    path: PathBuf,
    file: File,
    /// Its list of ids.
    pub(super) ids: i64,
    sensors: usize,
    /// Where the first chunk begins in the file.
    chunks_at: u64,
    ends: Vec<u32>,
}

impl BlockFile {
    /// `None` when there is none.
    pub(super) fn open(
        dir: &Path,
        resolution: Resolution,
        start: i64,
    ) -> Result<Option<BlockFile>, StoreError> {
        let path = block_path(dir, resolution, start);
        let Some((file, body, length)) = file::open(&path, BLOCK)? else { return Ok(None) };
        let read = |bytes: &mut [u8], at: u64| {
            if at.saturating_add(bytes.len() as u64) > body + length {
                return Err(corrupt(&path, "it is cut short"));
            }
            file.read_exact_at(bytes, at).map_err(|cause| StoreError::file("reading", &path, cause))
        };
        let mut lead = [0; LEAD_BYTES];
        read(&mut lead, body)?;
        let word = |at: usize| u32::from_le_bytes([lead[at], lead[at + 1], lead[at + 2], lead[at + 3]]);
        let (sensors, chunks) = (word(8) as usize, word(12) as usize);
        let ids = (u64::from(word(4)) << 32 | u64::from(word(0))) as i64;
        if chunks != sensors.div_ceil(HISTORY_CHUNK_SENSORS) || chunks as u64 > length / 4 {
            return Err(corrupt(&path, "its lead makes no sense"));
        }
        let mut rest = vec![0; 4 * chunks + 4];
        read(&mut rest, body + LEAD_BYTES as u64)?;
        let (words, _) = rest.as_chunks::<4>();
        let mut ends: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let sum = ends.pop();
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&lead);
        hasher.update(&rest[..4 * chunks]);
        if sum != Some(hasher.finalize()) || !ends.is_sorted() {
            return Err(corrupt(&path, "the checksum of its lead does not match"));
        }
        let chunks_at = body + (LEAD_BYTES + 4 * chunks + 4) as u64;
        Ok(Some(BlockFile { path, file, ids, sensors, chunks_at, ends }))
    }

    /// One sensor's row, by its place in the list of ids.
    pub(super) fn row(&self, place: usize) -> Result<Row, StoreError> {
        let number = place / HISTORY_CHUNK_SENSORS;
        let bytes = self.chunk(number)?;
        let chunk = self.unpack(&bytes, number)?;
        chunk
            .row(place % HISTORY_CHUNK_SENSORS)
            .ok_or_else(|| self.corrupt("it has fewer sensors than its list"))
    }

    /// All rows.
    pub(super) fn rows(&self) -> Result<Vec<Row>, StoreError> {
        let mut rows = Vec::with_capacity(self.sensors);
        for number in 0..self.ends.len() {
            let bytes = self.chunk(number)?;
            let chunk = self.unpack(&bytes, number)?;
            rows.extend((0..self.sensors_in(number)).filter_map(|place| chunk.row(place)));
        }
        Ok(rows)
    }

    fn chunk(&self, number: usize) -> Result<Vec<u8>, StoreError> {
        let Some(&end) = self.ends.get(number) else {
            return Err(self.corrupt("it has fewer sensors than its list"));
        };
        let begin = number.checked_sub(1).map_or(0, |before| self.ends[before]);
        // The file is as long as its header says, and the ends are sorted and add up to no more.
        let length = self.file.metadata().map_or(0, |metadata| metadata.len());
        if self.chunks_at + u64::from(end) > length {
            return Err(self.corrupt("it is cut short"));
        }
        let mut bytes = vec![0; (end - begin) as usize];
        let read = self.file.read_exact_at(&mut bytes, self.chunks_at + u64::from(begin));
        read.map_err(|cause| StoreError::file("reading", &self.path, cause))?;
        Ok(bytes)
    }

    fn unpack<'b>(&self, bytes: &'b [u8], number: usize) -> Result<Chunk<'b>, StoreError> {
        Chunk::open(bytes, self.sensors_in(number)).ok_or_else(|| self.corrupt("a checksum does not match"))
    }

    fn sensors_in(&self, number: usize) -> usize {
        (self.sensors - number * HISTORY_CHUNK_SENSORS).min(HISTORY_CHUNK_SENSORS)
    }

    #[cold]
    pub(super) fn corrupt(&self, why: &str) -> StoreError {
        corrupt(&self.path, why)
    }
}

#[cold]
fn corrupt(path: &Path, why: &str) -> StoreError {
    let what = format!("{} ({})", BLOCK.what, path.display());
    StoreError::Corrupt { what, why: why.to_owned(), remedy: REMEDY }
}
