//! Gathers samples of live state into the open block.

use std::time::Duration;

use super::block::{Cell, HistoryBlock, Resolution, Row, SLOTS};
use super::metric::{COLUMNS, Metric};
use crate::live::Snapshot;
use crate::time::{Now, UnixMillis};
use crate::wire::heartbeat::{UNKNOWN_U16, UNKNOWN_U32};
use crate::wire::id::SensorId;

/// The open block: 80 bytes a sensor. Give it every sensor's snapshot every ten seconds or so, and take the
/// block when [`HistoryAccumulator::is_due`].
#[derive(Debug)]
pub struct HistoryAccumulator {
    start: UnixMillis,
    /// By slot.
    open: Vec<Option<(SensorId, Row)>>,
    /// Of sensors whose slot went to another one.
    gone: Vec<(SensorId, Row)>,
}

impl HistoryAccumulator {
    /// Begins with the block that `now` lies in.
    pub fn new(now: UnixMillis) -> HistoryAccumulator {
        HistoryAccumulator {
            start: Resolution::FiveMinutes.start_of(now),
            open: Vec::new(),
            gone: Vec::new(),
        }
    }

    /// True when `now` lies in another block than the open one.
    pub fn is_due(&self, now: UnixMillis) -> bool {
        Resolution::FiveMinutes.start_of(now) != self.start
    }

    /// Takes in what a sensor looks like now.
    pub fn sample(&mut self, now: Now, snapshot: &Snapshot) {
        let place = snapshot.handle.index.0 as usize;
        if place >= self.open.len() {
            self.open.resize(place + 1, None);
        }
        let slot = &mut self.open[place];
        if let Some(gone) = slot.take_if(|(id, _)| *id != snapshot.id) {
            self.gone.push(gone);
        }
        let (_, row) = slot.get_or_insert((snapshot.id, Row::EMPTY));
        let since_start = (now.unix.0 - self.start.0).clamp(0, Resolution::FiveMinutes.millis() - 1);
        let bit = 1 << (since_start * i64::from(SLOTS) / Resolution::FiveMinutes.millis());
        let mut sampled = Row { looked: bit, ..Row::EMPTY };
        if is_heard(now, snapshot) {
            sampled.available = bit;
            sampled.cells = cells(snapshot);
        }
        row.add(&sampled);
    }

    /// The open block, and a new one that `now` lies in.
    pub fn finish(&mut self, now: UnixMillis) -> HistoryBlock {
        let mut rows = std::mem::take(&mut self.gone);
        rows.extend(self.open.iter_mut().filter_map(Option::take));
        let block = HistoryBlock::new(self.start, Resolution::FiveMinutes, rows);
        self.start = Resolution::FiveMinutes.start_of(now);
        block
    }
}

/// Heartbeats come as they should: the newest is at most three intervals old.
fn is_heard(now: Now, snapshot: &Snapshot) -> bool {
    let interval = Duration::from_millis(u64::from(snapshot.heartbeat.interval_ms));
    let patience = (3 * interval).max(Duration::from_secs(5));
    !snapshot.last_heartbeat.is_never() && now.mono.since(snapshot.last_heartbeat) <= patience
}

fn cells(snapshot: &Snapshot) -> [Cell; COLUMNS] {
    let heartbeat = &snapshot.heartbeat;
    let permille = |value: u16| if value == UNKNOWN_U16 { f64::NAN } else { f64::from(value) / 1_000.0 };
    let rtt = if heartbeat.rtt_us == UNKNOWN_U32 { f64::NAN } else { f64::from(heartbeat.rtt_us) / 1_000.0 };
    let mut cells = [Cell::EMPTY; COLUMNS];
    for (cell, metric) in cells.iter_mut().zip(Metric::ALL) {
        let value = match metric {
            Metric::DeliveryRatio => f64::from(snapshot.delivery_ratio),
            Metric::Jitter => f64::from(snapshot.jitter_ms),
            Metric::RxBytes => f64::from(snapshot.rx_bytes_per_s),
            Metric::RxPackets => f64::from(snapshot.rx_packets_per_s),
            Metric::DropRatio => f64::from(snapshot.drop_ratio),
            Metric::Cpu => permille(heartbeat.cpu_permille),
            Metric::Memory => permille(heartbeat.memory_permille),
            Metric::DiskRoot => permille(heartbeat.disk_permille[0]),
            Metric::Devices => f64::from(heartbeat.devices),
            Metric::Rtt => rtt,
            Metric::Availability => f64::NAN,
        };
        let code = metric.code(value);
        *cell = Cell { min: code, max: code, last: code };
    }
    cells
}
