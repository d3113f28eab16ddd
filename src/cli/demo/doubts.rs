//! Every time in doubt of a run. The engine remembers the last few; here they are collected, so that none is
//! missing in the end, and summed up without counting twice what two causes share.

use std::time::Duration;

use crate::health::DoubtState;
use crate::health::doubt::DoubtInterval;
use crate::limits::DEMO_DOUBTS_MAX;
use crate::time::MonoNanos;

/// Times in doubt, in the order in which they began.
#[derive(Debug, Default)]
pub struct Doubts {
    intervals: Vec<DoubtInterval>,
    /// As the engine counts them.
    counted: u64,
}

impl Doubts {
    /// Takes what the engine remembers just now.
    pub fn take(&mut self, state: &DoubtState) {
        self.counted = state.count.iter().map(|&count| u64::from(count)).sum();
        for interval in &state.recent {
            let same = |known: &DoubtInterval| (known.cause, known.from) == (interval.cause, interval.from);
            match self.intervals.iter().rposition(same) {
                Some(place) => self.intervals[place].to = interval.to,
                None if self.intervals.len() < DEMO_DOUBTS_MAX => self.intervals.push(*interval),
                None => {}
            }
        }
    }

    /// Those that had a length, since an instant.
    pub fn since(&self, start: MonoNanos) -> impl Iterator<Item = DoubtInterval> + '_ {
        let clipped =
            move |interval: &DoubtInterval| DoubtInterval { from: interval.from.max(start), ..*interval };
        self.intervals.iter().map(clipped).filter(|interval| interval.to > interval.from)
    }

    /// Time in doubt since an instant, for whatever reasons.
    pub fn length_since(&self, start: MonoNanos) -> Duration {
        let mut intervals: Vec<_> = self.since(start).collect();
        intervals.sort_by_key(|interval| interval.from);
        let (mut length, mut covered) = (Duration::ZERO, start);
        for interval in intervals {
            length += interval.to.since(interval.from.max(covered));
            covered = covered.max(interval.to);
        }
        length
    }

    /// Times in doubt that the engine counted and that are not here.
    pub fn missing(&self) -> u64 {
        self.counted.saturating_sub(self.intervals.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Cause;
    use crate::health::doubt::Doubt;
    use crate::time::at_second as at;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn what_two_causes_share_counts_once() {
        let mut engine = Doubt::new(SECOND);
        engine.note_start(at(0));
        engine.note(Cause::Lag, at(10), at(14));
        engine.note(Cause::ClockStep, at(12), at(15));
        engine.set_lasting(Cause::DeadListener, true, at(20));
        engine.settle(at(22));
        let mut doubts = Doubts::default();
        doubts.take(engine.state());
        assert_eq!(doubts.length_since(at(0)), Duration::from_secs(7));
        engine.settle(at(23));
        doubts.take(engine.state());
        assert_eq!(doubts.length_since(at(0)), Duration::from_secs(8), "the same interval, grown");
        assert_eq!(doubts.length_since(at(13)), Duration::from_secs(5), "what lies before is left out");
        assert_eq!(doubts.since(at(0)).count(), 3, "a start has no length");
        assert_eq!(doubts.missing(), 0);
    }

    #[test]
    fn more_than_the_engine_remembers_are_kept_and_a_gap_is_told() {
        let mut engine = Doubt::new(SECOND);
        let mut doubts = Doubts::default();
        for second in 0..40 {
            engine.note(Cause::Lag, at(2 * second), at(2 * second + 1));
            if second < 20 {
                doubts.take(engine.state());
            }
        }
        doubts.take(engine.state());
        assert_eq!(doubts.length_since(at(0)), Duration::from_secs(20 + 16));
        assert_eq!(doubts.missing(), 4);
    }
}
