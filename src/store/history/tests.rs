//! Blocks in, series out; damage, restarts and retention.

use proptest::prelude::*;

use super::block::{Cell, Chunk, pack};
use super::metric::{COLUMNS, UNKNOWN};
use super::*;
use crate::limits::HISTORY_CHUNK_SENSORS;
use crate::live::{Lifecycle, LiveState, SensorType, SlotFacts};
use crate::time::{Clock, ManualClock};

const MINUTES_5: i64 = 300_000;
const HOUR: i64 = 3_600_000;
/// A full hour.
const START: i64 = 500_000 * HOUR;

fn row(value: u16) -> Row {
    let cell = Cell { min: value, max: value + 20, last: value + 10 };
    Row { cells: [cell; COLUMNS], looked: (1 << SLOTS) - 1, available: (1 << SLOTS) - 1 }
}

fn block(start: i64, sensors: std::ops::Range<u64>, value: u16) -> HistoryBlock {
    let rows = sensors.map(|n| (SensorId::from_number(n), row(value + n as u16 % 7))).collect();
    HistoryBlock::new(UnixMillis(start), Resolution::FiveMinutes, rows)
}

fn all(history: &History, sensor: u64, metric: Metric) -> Series {
    let (from, until) = (UnixMillis(START), UnixMillis(START + 1_000 * HOUR));
    history.series(SensorId::from_number(sensor), metric, from, until).expect("a series")
}

#[test]
fn a_series_is_what_was_appended_also_after_opening_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let history = History::open(dir.path().join("history")).expect("opens");
    for n in 0..6 {
        history.append_block(&block(START + n * MINUTES_5, 0..2_500, 100 * n as u16)).expect("appended");
    }
    drop(history);
    let history = History::open(dir.path().join("history")).expect("opens");
    history.append_block(&block(START + 6 * MINUTES_5, 0..2_600, 600)).expect("appended");
    for sensor in [0, 1, 1_023, 1_024, 2_499] {
        let series = all(&history, sensor, Metric::Cpu);
        let last: Vec<_> = series.points.iter().map(|point| (point.last * 1_000.0).round() as u64).collect();
        assert_eq!(last, (0..7).map(|n| 100 * n + 10 + sensor % 7).collect::<Vec<_>>());
        assert!(series.points.iter().all(|p| p.min < p.last && p.last < p.max));
        let availability = all(&history, sensor, Metric::Availability);
        assert!(availability.points.iter().all(|p| (p.min, p.max, p.last) == (1.0, 1.0, 1.0)));
    }
    assert_eq!(all(&history, 2_599, Metric::Cpu).points.len(), 1);
    assert_eq!(all(&history, 9_999, Metric::Cpu), Series::default());
    let (from, until) = (UnixMillis(START + MINUTES_5), UnixMillis(START + 3 * MINUTES_5));
    let part = history.series(SensorId::from_number(5), Metric::Rtt, from, until).expect("a series");
    assert_eq!(part.points.len(), 2);
    // One list of ids for the first six blocks, one for the seventh.
    assert_eq!(files::lists(history.dir()).expect("lists").len(), 2);
}

#[test]
fn two_parts_of_the_same_five_minutes_become_one_block() {
    let dir = tempfile::tempdir().expect("a directory");
    let history = History::open(dir.path().join("history")).expect("opens");
    let part = |value: u16, looked: u32, available: u32| {
        let rows = vec![(SensorId::from_number(1), Row { looked, available, ..row(value) })];
        HistoryBlock::new(UnixMillis(START), Resolution::FiveMinutes, rows)
    };
    history.append_block(&part(100, 0b0011, 0b0011)).expect("appended");
    history.append_block(&part(50, 0b1110, 0b1100)).expect("appended");
    let points = all(&history, 1, Metric::Memory).points;
    assert_eq!(points.len(), 1);
    assert_eq!((points[0].min, points[0].max, points[0].last), (0.05, 0.12, 0.06));
    let points = all(&history, 1, Metric::Availability).points;
    assert_eq!((points[0].min, points[0].max, points[0].last), (0.0, 0.75, 1.0));
}

#[test]
fn hours_that_are_over_are_kept_when_their_five_minutes_are_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let history = History::open(dir.path().join("history")).expect("opens");
    let blocks = HISTORY_BLOCKS_MAX as i64 + 24;
    for n in 0..blocks {
        let mut block = block(START + n * MINUTES_5, 0..3, n as u16);
        if n == 5 {
            // Away from 26:00 to 28:00 of the first hour.
            block.rows[1].available &= !(0xfff << 6);
        }
        history.append_block(&block).expect("appended");
    }
    let points = all(&history, 1, Metric::DeliveryRatio).points;
    assert!(points.is_sorted_by_key(|p| p.at));
    let hours: Vec<_> = points.iter().filter(|p| p.resolution == Resolution::Hour).collect();
    assert_eq!((points.len() - hours.len(), hours.len()), (HISTORY_BLOCKS_MAX, 2));
    assert_eq!((hours[0].min, hours[0].max, hours[0].last), (0.001, 0.032, 0.022));
    let away = all(&history, 1, Metric::Availability).points;
    assert_eq!((away[0].min, away[0].last), (0.0, 1.0));
    assert!((away[0].max - 29.0 / 30.0).abs() < 1e-9, "{}", away[0].max);
    assert_eq!(all(&history, 2, Metric::Availability).points[0].min, 1.0);
    assert_eq!(
        files::starts(history.dir(), Resolution::FiveMinutes).expect("starts").len(),
        HISTORY_BLOCKS_MAX
    );
}

#[test]
fn lists_of_ids_that_no_block_uses_are_removed() {
    let dir = tempfile::tempdir().expect("a directory");
    let history = History::open(dir.path().join("history")).expect("opens");
    for n in 0..HISTORY_BLOCKS_MAX as i64 + 30 {
        history.append_block(&block(START + n * MINUTES_5, 0..3 + n as u64, 1)).expect("appended");
    }
    let lists = files::lists(history.dir()).expect("lists").len();
    assert!((HISTORY_BLOCKS_MAX..HISTORY_BLOCKS_MAX + 40).contains(&lists), "{lists}");
    let last = HISTORY_BLOCKS_MAX as u64 + 30;
    assert_eq!(all(&history, last, Metric::Cpu).points.len(), 2);
}

#[test]
fn a_damaged_block_is_left_out_and_counted() {
    let dir = tempfile::tempdir().expect("a directory");
    let history = History::open(dir.path().join("history")).expect("opens");
    for n in 0..3 {
        history.append_block(&block(START + n * MINUTES_5, 0..3_000, n as u16)).expect("appended");
    }
    let path = dir.path().join("history/5m").join(format!("{}.block", START + MINUTES_5));
    let good = std::fs::read(&path).expect("read");
    let undamaged = all(&history, 2_000, Metric::Jitter);
    let mut damaged = 0;
    for at in (0..good.len()).step_by(97) {
        let mut bad = good.clone();
        bad[at] ^= 1 << (at % 8);
        std::fs::write(&path, &bad).expect("written");
        let series = all(&history, 2_000, Metric::Jitter);
        if series.damaged == 0 {
            // The damage lies in another sensor's chunk.
            assert_eq!(series, undamaged);
        } else {
            damaged += 1;
            assert_eq!((series.points.len(), series.damaged), (2, 1));
        }
    }
    std::fs::write(&path, &good[..good.len() / 2]).expect("written");
    assert_eq!(all(&history, 2_000, Metric::Jitter).damaged, 1);
    assert_eq!(history.damaged(), damaged + 1);
    std::fs::remove_file(&path).expect("removed");
    assert_eq!(all(&history, 2_000, Metric::Jitter).points.len(), 2);
    // Its hour is made of what is left.
    history.append_block(&block(START + HOUR, 0..3, 1)).expect("appended");
}

#[test]
fn samples_of_live_state_become_a_block() {
    let clock = ManualClock::new(UnixMillis(START + 1_000));
    let live = LiveState::with_capacity(8);
    let facts = SlotFacts {
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        site: Default::default(),
        policy: Default::default(),
        muted: false,
    };
    let id = SensorId::from_number(7);
    live.insert(id, facts).expect("room");
    let snapshot = live.snapshot_of(id).expect("a snapshot");
    let mut heard = snapshot.clone();
    heard.heartbeat.cpu_permille = 250;
    heard.heartbeat.interval_ms = 1_000;
    heard.delivery_ratio = 1.0;
    let mut accumulator = HistoryAccumulator::new(clock.unix());
    for sample in 0..30 {
        heard.last_heartbeat = clock.mono();
        heard.heartbeat.cpu_permille += 1;
        let silent = (10..20).contains(&sample);
        accumulator.sample(clock.now(), if silent { &snapshot } else { &heard });
        assert!(!accumulator.is_due(clock.unix()), "{sample}");
        clock.advance(std::time::Duration::from_secs(10));
    }
    assert!(accumulator.is_due(clock.unix()));
    let block = accumulator.finish(clock.unix());
    assert_eq!((block.start(), block.sensors()), (UnixMillis(START), 1));
    assert_eq!(values(&block.rows[0], Metric::Cpu), Some((0.251, 0.28, 0.28)));
    assert_eq!(values(&block.rows[0], Metric::DropRatio), None, "unknown stays unknown");
    let (never_away, share, there) = values(&block.rows[0], Metric::Availability).expect("bits");
    assert_eq!((never_away, (share * 30.0).round(), there), (0.0, 20.0, 1.0));
    assert_eq!(accumulator.finish(clock.unix()).sensors(), 0);
}

fn cell() -> impl Strategy<Value = Cell> {
    prop_oneof![
        Just(Cell::EMPTY),
        [0..UNKNOWN, 0..UNKNOWN, 0..UNKNOWN].prop_map(|mut values| {
            values.sort_unstable();
            Cell { min: values[0], last: values[1], max: values[2] }
        }),
        (0..50u16).prop_map(|value| Cell { min: value, max: value, last: value }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn packing_loses_nothing(
        rows in prop::collection::vec((prop::array::uniform10(cell()), any::<u32>(), any::<u32>()), 1..40),
        damage in any::<prop::sample::Index>(),
    ) {
        let rows: Vec<Row> = rows.into_iter()
            .map(|(cells, looked, available)| Row { cells, looked, available: available & looked }).collect();
        let mut bytes = pack(&rows);
        let chunk = Chunk::open(&bytes, rows.len()).expect("whole");
        let unpacked: Vec<_> = (0..rows.len()).map_while(|place| chunk.row(place)).collect();
        prop_assert_eq!(unpacked, rows.clone());
        prop_assert!(chunk.row(rows.len()).is_none());
        let at = damage.index(bytes.len());
        bytes[at] ^= 0x40;
        prop_assert!(Chunk::open(&bytes, rows.len()).is_none());
        prop_assert!(Chunk::open(&bytes[..at], rows.len()).is_none());
    }
}

/// What the module's page promises: bytes of one sensor and block.
#[test]
fn a_block_is_small() {
    let sensors = 4 * HISTORY_CHUNK_SENSORS;
    let mut seed = 1u64;
    let mut random = |most: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % most.max(1)
    };
    // Loads differ a thousandfold between sensors; within five minutes one's values move by a tenth.
    let mut measure = |swing: u64| {
        let rows: Vec<Row> = (0..sensors)
            .map(|_| {
                let mut row = Row { looked: (1 << SLOTS) - 1, available: (1 << SLOTS) - 1, ..Row::EMPTY };
                for (cell, metric) in row.cells.iter_mut().zip(Metric::ALL) {
                    let last = match metric {
                        Metric::DeliveryRatio => 1.0,
                        Metric::DropRatio => 0.0,
                        Metric::Cpu | Metric::Memory | Metric::DiskRoot => random(1_000) as f64 / 1_000.0,
                        Metric::Devices => random(10_000) as f64,
                        Metric::RxBytes => (1 << (10 + random(10))) as f64 * 1.37,
                        _ => 1.0 + random(100) as f64,
                    };
                    let moves = !matches!(
                        metric,
                        Metric::DeliveryRatio | Metric::DropRatio | Metric::DiskRoot | Metric::Devices
                    );
                    let below = if moves { last * random(swing) as f64 / 100.0 } else { 0.0 };
                    let above = if moves { last * random(swing) as f64 / 100.0 } else { 0.0 };
                    *cell = Cell {
                        min: metric.code(last - below),
                        max: metric.code(last + above),
                        last: metric.code(last),
                    };
                }
                row
            })
            .collect();
        rows.chunks(HISTORY_CHUNK_SENSORS).map(|rows| pack(rows).len()).sum::<usize>() as f64 / sensors as f64
    };
    let (busy, quiet) = (measure(10), measure(0));
    assert!((8.0..14.0).contains(&quiet), "{quiet:.1} bytes a sensor and block in a quiet fleet");
    assert!((18.0..32.0).contains(&busy), "{busy:.1} bytes a sensor and block in a busy fleet");
}
