//! One block: what every sensor did in five minutes or an hour, as columns.
//!
//! A chunk holds up to [`HISTORY_CHUNK_SENSORS`] sensors: for each column the smallest value and the bits
//! that the differences need, then the differences, packed. What all sensors share (all were available, none
//! dropped packets) costs nothing, and the value of one sensor is found without unpacking the others.

use super::metric::{COLUMNS, Metric, UNKNOWN};
use crate::limits::HISTORY_CHUNK_SENSORS;
use crate::time::UnixMillis;
use crate::wire::id::SensorId;

/// How long a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Resolution {
    /// Five minutes.
    FiveMinutes,
    /// An hour.
    Hour,
}

impl Resolution {
    /// Its length in milliseconds.
    pub const fn millis(self) -> i64 {
        match self {
            Resolution::FiveMinutes => 300_000,
            Resolution::Hour => 3_600_000,
        }
    }

    /// The beginning of the block that an instant lies in.
    pub const fn start_of(self, at: UnixMillis) -> UnixMillis {
        UnixMillis(at.0.div_euclid(self.millis()) * self.millis())
    }
}

/// Bits of availability in a block, each for a thirtieth of it.
pub(super) const SLOTS: u32 = 30;

/// Smallest, largest and last value of one metric, as codes; all [`UNKNOWN`], or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) min: u16,
    pub(super) max: u16,
    pub(super) last: u16,
}

impl Cell {
    pub(super) const EMPTY: Cell = Cell { min: UNKNOWN, max: UNKNOWN, last: UNKNOWN };

    /// Takes in what came later.
    pub(super) fn add(&mut self, later: Cell) {
        if later.last == UNKNOWN {
            return;
        }
        if self.last == UNKNOWN {
            *self = later;
            return;
        }
        *self = Cell { min: self.min.min(later.min), max: self.max.max(later.max), last: later.last };
    }
}

/// One sensor in one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) cells: [Cell; COLUMNS],
    /// Thirtieths in which anybody looked.
    pub(super) looked: u32,
    /// Thirtieths in which heartbeats came as they should.
    pub(super) available: u32,
}

impl Row {
    pub(super) const EMPTY: Row = Row { cells: [Cell::EMPTY; COLUMNS], looked: 0, available: 0 };

    /// Takes in what was seen later in the same block.
    pub(super) fn add(&mut self, later: &Row) {
        for (cell, later) in self.cells.iter_mut().zip(later.cells) {
            cell.add(later);
        }
        // A thirtieth that both saw was good when both saw it good.
        self.available =
            (self.available & (later.available | !later.looked)) | (later.available & !self.looked);
        self.looked |= later.looked;
    }
}

/// What every sensor did in one block. Made by [`super::HistoryAccumulator`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryBlock {
    pub(super) start: UnixMillis,
    pub(super) resolution: Resolution,
    /// Sorted, each once.
    pub(super) ids: Vec<SensorId>,
    /// One for each id.
    pub(super) rows: Vec<Row>,
}

impl HistoryBlock {
    pub(super) fn new(
        start: UnixMillis,
        resolution: Resolution,
        mut rows: Vec<(SensorId, Row)>,
    ) -> HistoryBlock {
        rows.sort_by_key(|(id, _)| *id);
        let mut block = HistoryBlock { start, resolution, ids: Vec::new(), rows: Vec::new() };
        block.ids.reserve(rows.len());
        block.rows.reserve(rows.len());
        for (id, row) in rows {
            match block.rows.last_mut() {
                Some(last) if block.ids.last() == Some(&id) => last.add(&row),
                _ => {
                    block.ids.push(id);
                    block.rows.push(row);
                }
            }
        }
        block
    }

    /// When it begins.
    pub fn start(&self) -> UnixMillis {
        self.start
    }

    /// Sensors in it.
    pub fn sensors(&self) -> usize {
        self.ids.len()
    }
}

/// Columns of a chunk: two of bits, then last, last minus min, max minus last of each metric.
const PACKED: usize = 2 + 3 * COLUMNS;
/// Of each column: smallest value 4, bits of a difference 1.
const HEAD_BYTES: usize = 5;

/// Packs the rows of one chunk; the last four bytes are the checksum.
pub(super) fn pack(rows: &[Row]) -> Vec<u8> {
    debug_assert!(rows.len() <= HISTORY_CHUNK_SENSORS);
    let mut head = Vec::with_capacity(PACKED * HEAD_BYTES);
    let mut body = Vec::with_capacity(rows.len() * 32);
    for column in 0..PACKED {
        let values = || rows.iter().map(|row| value_of(row, column));
        let base = values().min().unwrap_or(0);
        let width = u32::BITS - (values().max().unwrap_or(0) - base).leading_zeros();
        head.extend_from_slice(&base.to_le_bytes());
        head.push(width as u8);
        pack_bits(values().map(|value| value - base), width, &mut body);
    }
    head.append(&mut body);
    let sum = crc32fast::hash(&head);
    head.extend_from_slice(&sum.to_le_bytes());
    head
}

/// A packed chunk whose checksum matched.
pub(super) struct Chunk<'b> {
    bytes: &'b [u8],
    rows: usize,
    /// Where each column's bits begin.
    columns: [(u32, u32, usize); PACKED],
}

impl<'b> Chunk<'b> {
    /// `None` when it is damaged.
    pub(super) fn open(bytes: &'b [u8], rows: usize) -> Option<Chunk<'b>> {
        let (bytes, sum) = bytes.split_last_chunk::<4>()?;
        if crc32fast::hash(bytes) != u32::from_le_bytes(*sum) {
            return None;
        }
        let (heads, _) = bytes.split_at_checked(PACKED * HEAD_BYTES)?;
        let mut columns = [(0, 0, 0); PACKED];
        let mut at = heads.len();
        for (column, head) in columns.iter_mut().zip(heads.chunks_exact(HEAD_BYTES)) {
            let (base, width) = head.split_first_chunk::<4>()?;
            let width = u32::from(*width.first()?);
            if width > u32::BITS {
                return None;
            }
            *column = (u32::from_le_bytes(*base), width, at);
            at += (rows * width as usize).div_ceil(8);
        }
        (at == bytes.len()).then_some(Chunk { bytes, rows, columns })
    }

    fn value(&self, column: usize, row: usize) -> u32 {
        let (base, width, at) = self.columns[column];
        base.wrapping_add(unpack_bits(&self.bytes[at..], row, width))
    }

    pub(super) fn row(&self, row: usize) -> Option<Row> {
        if row >= self.rows {
            return None;
        }
        let mut cells = [Cell::EMPTY; COLUMNS];
        for (place, cell) in cells.iter_mut().enumerate() {
            let last = (self.value(2 + 3 * place, row) as u16).wrapping_sub(1);
            if last != UNKNOWN {
                let below = self.value(3 + 3 * place, row) as u16;
                let above = self.value(4 + 3 * place, row) as u16;
                *cell = Cell { min: last.wrapping_sub(below), max: last.wrapping_add(above), last };
            }
        }
        Some(Row { cells, looked: self.value(0, row), available: self.value(1, row) })
    }
}

fn value_of(row: &Row, column: usize) -> u32 {
    match column {
        0 => row.looked,
        1 => row.available,
        _ => {
            let Cell { min, max, last } = row.cells[(column - 2) / 3];
            match (column - 2) % 3 {
                // One up, so that "no value" is zero and does not need all sixteen bits.
                0 => u32::from(last.wrapping_add(1)),
                1 => u32::from(last.wrapping_sub(min)),
                _ => u32::from(max.wrapping_sub(last)),
            }
        }
    }
}

fn pack_bits(values: impl Iterator<Item = u32>, width: u32, out: &mut Vec<u8>) {
    let (mut pending, mut bits) = (0u64, 0);
    for value in values {
        pending |= u64::from(value) << bits;
        bits += width;
        while bits >= 8 {
            out.push(pending as u8);
            pending >>= 8;
            bits -= 8;
        }
    }
    if bits > 0 {
        out.push(pending as u8);
    }
}

fn unpack_bits(bytes: &[u8], row: usize, width: u32) -> u32 {
    let first = row * width as usize;
    let mut word = [0; 8];
    let from = (first / 8).min(bytes.len());
    let take = (bytes.len() - from).min(8);
    word[..take].copy_from_slice(&bytes[from..from + take]);
    ((u64::from_le_bytes(word) >> (first % 8)) & ((1 << width) - 1)) as u32
}

/// The value of a metric in a row: smallest, largest, last.
pub(super) fn values(row: &Row, metric: Metric) -> Option<(f64, f64, f64)> {
    match row.cells.get(metric as usize) {
        Some(cell) => Some((metric.value(cell.min)?, metric.value(cell.max)?, metric.value(cell.last)?)),
        None if row.looked == 0 => None,
        None => {
            let share = f64::from(row.available.count_ones()) / f64::from(row.looked.count_ones());
            let newest = 31 - row.looked.leading_zeros();
            let all = row.available == row.looked;
            let last = f64::from(row.available >> newest & 1);
            // Smallest: was it ever away. Largest: the share. Last: how it ended.
            Some((f64::from(u8::from(all)), share, last))
        }
    }
}
