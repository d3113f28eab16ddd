//! Histograms with fixed bounds, counted exactly.
//!
//! Lag and sweep times have powers of two of a microsecond: that is what the ingest's own histogram can tell
//! without rounding ("took less than 2^n µs"), and it spans microseconds to seconds in a few series. The
//! detection delay has round decimals, because the promise that it is held against is one: a second.

use std::time::Duration;

/// Bounds of the ingest lag: 64 µs to 4.2 s. A frame is handled within its batch, so most are below 1 ms.
pub const LAG_BOUNDS_US: [u64; 17] = powers_of_two(6);
/// Bounds of the time of one sweep: 64 µs to 4.2 s. A sweep must stay far below its cadence.
pub const SWEEP_BOUNDS_US: [u64; 17] = powers_of_two(6);
/// Bounds of the detection delay: 1 ms to 60 s. The promise is one cadence, by default a second; other usual
/// cadences have their bound too.
pub const DELAY_BOUNDS_US: [u64; 17] = [
    1_000, 10_000, 50_000, 100_000, 200_000, 300_000, 400_000, 500_000, 600_000, 700_000, 800_000, 900_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000, 60_000_000,
];

/// Seventeen powers of two, the first being 2^`first`.
const fn powers_of_two(first: u32) -> [u64; 17] {
    let mut bounds = [0; 17];
    let mut place = 0;
    while place < bounds.len() {
        bounds[place] = 1 << (first + place as u32);
        place += 1;
    }
    bounds
}

/// A bound as it is exported.
pub fn seconds(bound_us: u64) -> f64 {
    bound_us as f64 / 1_000_000.0
}

/// Counts of durations by upper bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Buckets {
    bounds_us: &'static [u64],
    /// How many lie in each bucket alone; one more than there are bounds.
    counts: Vec<u64>,
    sum: Duration,
}

impl Buckets {
    /// Nothing counted yet. Bounds rise.
    pub fn new(bounds_us: &'static [u64]) -> Buckets {
        debug_assert!(bounds_us.is_sorted());
        Buckets { bounds_us, counts: vec![0; bounds_us.len() + 1], sum: Duration::ZERO }
    }

    /// From a histogram that was counted elsewhere: `at_most(bound)` is how many do not exceed it.
    pub fn from_cumulative(
        bounds_us: &'static [u64],
        total: u64,
        sum: Duration,
        at_most: impl Fn(u64) -> u64,
    ) -> Buckets {
        let mut counts = Vec::with_capacity(bounds_us.len() + 1);
        let mut below = 0;
        for &bound in bounds_us {
            let upto = at_most(bound).clamp(below, total.max(below));
            counts.push(upto - below);
            below = upto;
        }
        counts.push(total.saturating_sub(below));
        Buckets { bounds_us, counts, sum }
    }

    /// Counts one. A value on a bound is within it.
    pub fn record(&mut self, value: Duration) {
        let nanos = value.as_nanos();
        let place = self.bounds_us.partition_point(|&bound| u128::from(bound) * 1_000 < nanos);
        self.counts[place] += 1;
        self.sum = self.sum.saturating_add(value);
    }

    /// How many were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Sum of all.
    pub fn sum(&self) -> Duration {
        self.sum
    }

    /// For each bound (in seconds) how many do not exceed it.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut below = 0;
        self.bounds_us.iter().zip(&self.counts).map(move |(&bound, &count)| {
            below += count;
            (seconds(bound), below)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_a_bound_is_within_it() {
        let mut buckets = Buckets::new(&DELAY_BOUNDS_US);
        buckets.record(Duration::from_micros(1_000));
        buckets.record(Duration::from_nanos(1_000_001));
        buckets.record(Duration::from_secs(1_000));
        let cumulative: Vec<_> = buckets.cumulative().collect();
        assert_eq!(cumulative[0], (0.001, 1));
        assert_eq!(cumulative[1], (0.01, 2));
        assert_eq!(cumulative[16].1, 2);
        assert_eq!(buckets.count(), 3);
    }

    #[test]
    fn a_histogram_counted_elsewhere_keeps_its_total() {
        // Counts that were read while somebody counted on do not agree: never negative, never a panic.
        let buckets = Buckets::from_cumulative(&LAG_BOUNDS_US, 5, Duration::ZERO, |us| us / 64);
        assert_eq!(buckets.count(), 5);
        assert!(buckets.cumulative().map(|(_, count)| count).is_sorted());
    }
}
