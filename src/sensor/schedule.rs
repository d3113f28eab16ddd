//! When the next heartbeat is due. The first comes at once; the second at a random place in the interval,
//! and all others one interval apart: a fleet that was switched on together does not beat in step.

use std::time::Duration;

use super::dice::Dice;
use crate::time::MonoNanos;

#[derive(Debug)]
pub(super) struct Schedule {
    interval: Duration,
    next: MonoNanos,
    phased: bool,
}

impl Schedule {
    pub(super) fn new(interval: Duration, now: MonoNanos) -> Schedule {
        Schedule { interval, next: now, phased: false }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    pub(super) fn next(&self) -> MonoNanos {
        self.next
    }

    /// One was made. After a long stop (suspended machine) the missed ones are left out, the phase is kept.
    pub(super) fn made(&mut self, now: MonoNanos, dice: &mut Dice) {
        if !self.phased {
            self.phased = true;
            self.next = now.plus(dice.duration(self.interval));
            return;
        }
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
        let late = now.0.saturating_sub(self.next.0);
        let steps = late / interval + 1;
        self.next = MonoNanos(self.next.0.saturating_add(steps.saturating_mul(interval)));
    }

    /// A new interval: the next is due at a random place in it, or when it was due before if that is sooner.
    pub(super) fn set_interval(&mut self, interval: Duration, now: MonoNanos, dice: &mut Dice) {
        if interval != self.interval {
            self.interval = interval;
            self.next = self.next.min(now.plus(dice.duration(interval)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::MONO_ORIGIN;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_fleet_spreads_over_the_interval_and_then_keeps_its_phase() {
        let mut phases = Vec::new();
        for seed in 0..1_000 {
            let mut dice = Dice::new(seed);
            let mut schedule = Schedule::new(SECOND, MONO_ORIGIN);
            assert_eq!(schedule.next(), MONO_ORIGIN);
            schedule.made(MONO_ORIGIN, &mut dice);
            let phase = schedule.next().since(MONO_ORIGIN);
            assert!(phase < SECOND);
            for beat in 1..10 {
                schedule.made(schedule.next().plus(Duration::from_millis(3)), &mut dice);
                assert_eq!(schedule.next().since(MONO_ORIGIN), phase + SECOND * beat);
            }
            phases.push(phase.as_millis() / 100);
        }
        for tenth in 0..10 {
            let count = phases.iter().filter(|phase| **phase == tenth).count();
            assert!((60..140).contains(&count), "{tenth}: {count}");
        }
    }

    #[test]
    fn missed_heartbeats_are_left_out() {
        let mut dice = Dice::new(3);
        let mut schedule = Schedule::new(SECOND, MONO_ORIGIN);
        schedule.made(MONO_ORIGIN, &mut dice);
        let due = schedule.next();
        let late = due.plus(SECOND * 100 + SECOND / 2);
        schedule.made(late, &mut dice);
        assert_eq!(schedule.next(), due.plus(SECOND * 101));
        schedule.set_interval(SECOND / 10, late, &mut dice);
        assert!(schedule.next() < late.plus(SECOND / 10));
    }
}
