//! From bytes to slot, in random sensor order, against the least that any design must do: one thread that
//! checks the same frame and writes the same words of the same slots without lock word, fences or atomics.
//!
//! `cargo bench --bench observe`. The target is a ratio within this bench: `validate_observe` at most 1.3 ×
//! `validate_plain` at each size.

use std::hint::black_box;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use fleetpulse::live::{
    Lifecycle, LiveState, Observed, OwnerRef, PolicyIndex, SensorType, SiteIndex, SlotFacts, SlotHandle,
    SlotIndex, Writer,
};
use fleetpulse::time::{MONO_ORIGIN, MonoNanos, UnixMillis};
use fleetpulse::wire::frame::{BODY_WORDS, Frame, read_frame, write_frame};
use fleetpulse::wire::heartbeat::{Heartbeat, inline};
use fleetpulse::wire::id::SensorId;

/// Frames of one measured batch.
const BATCH: usize = 4_096;
/// Words of a slot that an ordinary heartbeat writes besides its body and the columns: lock, transport,
/// received, boot before, high, window, received, lost, duplicates, traffic, rates, drops, offset, marks.
const DERIVED_WORDS: usize = 14;

fn sample() -> Heartbeat {
    Heartbeat {
        sensor_id: [7; 16],
        version: inline("22.1.4.8-r-6372aad"),
        ti_version: inline("2026-11-24"),
        rx_packets: 1_000,
        rx_bytes: 1_000_000,
        ..Heartbeat::default()
    }
}

/// Order of sensors: a fixed permutation that no prefetcher guesses (xorshift).
struct Shuffle(u64);

impl Shuffle {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

/// A frame's bytes, to be given the next sequence of its sensor in place, as a new packet would.
struct Packet(Vec<u8>);

impl Packet {
    fn new() -> Packet {
        let mut bytes = Vec::new();
        write_frame(&sample(), 0, &mut bytes);
        Packet(bytes)
    }

    fn next(&mut self, sequence: u64) -> Frame<'_> {
        self.0[16 + 24..16 + 32].copy_from_slice(&sequence.to_le_bytes());
        self.0[16 + 40..16 + 48].copy_from_slice(&(sequence * 10_000).to_le_bytes());
        self.0[16 + 144..16 + 152].copy_from_slice(&(sequence * 1_000).to_le_bytes());
        black_box(read_frame(&self.0)).expect("our frame").0
    }
}

/// As many words as a slot, as plain memory.
#[derive(Clone)]
#[repr(align(64))]
struct Plain([u64; 64]);

/// The plain loop: same body, same number of derived words (each from its old value, as counters are), same
/// columns.
fn plain(slot: &mut Plain, column: &mut [u64; 2], frame: &Frame<'_>, now: u64) {
    let body = frame.body_words();
    slot.0[..BODY_WORDS].copy_from_slice(&body);
    for (place, word) in slot.0[BODY_WORDS..BODY_WORDS + DERIVED_WORDS].iter_mut().enumerate() {
        *word = word.wrapping_add(now ^ place as u64);
    }
    column[0] = now;
    column[1] = column[1].wrapping_add(1 << 32);
}

fn fleet(sensors: u32) -> (LiveState, Vec<(SlotHandle, Writer)>) {
    let live = LiveState::with_capacity(sensors);
    let facts = SlotFacts {
        kind: SensorType::OtCloud,
        lifecycle: Lifecycle::Active,
        site: SiteIndex(1),
        policy: PolicyIndex(0),
        muted: false,
    };
    let handles = (0..sensors)
        .map(|number| {
            let handle = live.insert(SensorId::from_number(u64::from(number) + 1), facts).expect("room");
            let owner = OwnerRef { node: 0, shard: 0, connection: number };
            let epoch = live.take(handle, owner, UnixMillis(0), MONO_ORIGIN).expect("fresh").epoch;
            (handle, Writer::Direct { epoch })
        })
        .collect();
    (live, handles)
}

/// The next frames: of which sensor each is, and its sequence. Made before the clock runs, since neither loop is
/// asked to look up who sent a packet.
struct Arrivals {
    shuffle: Shuffle,
    sequence: Vec<u64>,
}

impl Arrivals {
    fn new(sensors: usize) -> Arrivals {
        Arrivals { shuffle: Shuffle(0x9e37_79b9_7f4a_7c15), sequence: vec![0; sensors] }
    }

    fn batch<T>(&mut self, of: impl Fn(usize) -> T) -> Vec<(T, u64)> {
        let next = |_| {
            let sensor = self.shuffle.below(self.sequence.len());
            self.sequence[sensor] += 1;
            (of(sensor), self.sequence[sensor])
        };
        (0..BATCH).map(next).collect()
    }
}

fn sized(group: &mut BenchmarkGroup<'_, WallTime>, sensors: u32) {
    let count = sensors as usize;
    let mut packet = Packet::new();
    {
        let mut slots = vec![Plain([0; 64]); count];
        let mut columns = vec![[0_u64; 2]; count];
        let mut arrivals = Arrivals::new(count);
        let mut now = 0;
        group.bench_function(format!("validate_plain/{sensors}"), |bench| {
            bench.iter_batched(
                || arrivals.batch(|sensor| sensor),
                |batch| {
                    now += 1;
                    for (sensor, sequence) in batch {
                        let frame = packet.next(sequence);
                        plain(&mut slots[sensor], &mut columns[sensor], &frame, now);
                    }
                },
                BatchSize::LargeInput,
            );
        });
        black_box((&slots, &columns));
    }
    let (live, handles) = fleet(sensors);
    let mut arrivals = Arrivals::new(count);
    let mut now = MONO_ORIGIN;
    group.bench_function(format!("validate_observe/{sensors}"), |bench| {
        bench.iter_batched(
            || arrivals.batch(|sensor| handles[sensor]),
            |batch| {
                now = now.plus(Duration::from_millis(10));
                for ((handle, writer), sequence) in batch {
                    let frame = packet.next(sequence);
                    assert_eq!(live.observe(handle, writer, &frame, now), Observed::Current);
                }
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function(format!("snapshot/{sensors}"), |bench| {
        bench.iter_batched(
            || arrivals.batch(|sensor| SlotIndex(sensor as u32)),
            |batch| {
                batch
                    .into_iter()
                    .filter_map(|(index, _)| live.snapshot(index))
                    .map(|s| s.received)
                    .sum::<u64>()
            },
            BatchSize::LargeInput,
        );
    });
    group.throughput(Throughput::Elements(u64::from(sensors)));
    group.bench_function(format!("scan_columns/{sensors}"), |bench| {
        let deadline = MonoNanos(MONO_ORIGIN.0 + 1);
        bench.iter(|| {
            let mut silent = 0_u32;
            for columns in live.columns() {
                for place in 0..columns.len() {
                    silent += u32::from(columns.last_heartbeat(place) < deadline);
                }
            }
            silent
        });
    });
    group.throughput(Throughput::Elements(BATCH as u64));
}

fn observe(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("observe");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.sample_size(20);
    for sensors in [10_000, 100_000, 1_000_000] {
        sized(&mut group, sensors);
    }
    group.finish();
}

criterion_group!(benches, observe);
criterion_main!(benches);
