//! The engine's reasons to distrust itself.
//!
//! While doubt lasts no silence is raised, and afterwards every silence counts anew from its end: what was
//! not heard while nobody listened is no fault of a sensor. Doubt moves deadlines and nothing else: it ends
//! no message, and it is exported with its causes, so that it never hides itself.
//!
//! It is bounded. Each sweep in doubt is paid from a budget of [`DOUBT_BUDGET`]; four trusted sweeps earn one
//! back. When the budget is spent, doubt is still told, but deadlines stand: a server that is always late must
//! not hide a silent fleet for ever. A long gap (a suspended process) costs as much as one sweep, since
//! there was only one to distrust. Starting is free: a new process knows nothing.

use std::time::Duration;

use crate::time::MonoNanos;

/// Sweeps in doubt, as time at one cadence each, that may move deadlines before the budget is spent.
pub const DOUBT_BUDGET: Duration = Duration::from_secs(900);
/// Trusted sweeps that earn one sweep of doubt back.
const EARN: u32 = 4;
/// Intervals that are remembered, for people.
const REMEMBERED: usize = 16;

/// Why the engine distrusts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cause {
    /// It has just started.
    Start = 0,
    /// It was away for more than two cadences: suspended, or starved.
    Lag = 1,
    /// Wall time jumped against engine time: a step, or the machine slept.
    ClockStep = 2,
    /// A shard does not receive.
    DeadListener = 3,
    /// Heartbeats are observed long after their receipt, or the receive buffer loses many.
    IngestLag = 4,
    /// The server sends its sensors away: a planned stop.
    Drain = 5,
}

impl Cause {
    /// All causes.
    pub const ALL: [Cause; 6] =
        [Cause::Start, Cause::Lag, Cause::ClockStep, Cause::DeadListener, Cause::IngestLag, Cause::Drain];

    /// Its name, also the metric label.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Lag => "lag",
            Cause::ClockStep => "clock_step",
            Cause::DeadListener => "dead_listener",
            Cause::IngestLag => "ingest_lag",
            Cause::Drain => "drain",
        }
    }
}

/// One time span in doubt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoubtInterval {
    /// Why.
    pub cause: Cause,
    /// Its begin.
    pub from: MonoNanos,
    /// Its end; for one that lasts, the last sweep.
    pub to: MonoNanos,
}

/// Doubt, as told to the world.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DoubtState {
    /// Causes that last now.
    pub lasting: Vec<Cause>,
    /// End of the last doubt that moved deadlines.
    pub end: MonoNanos,
    /// Time in doubt since the start, by cause.
    pub total: [Duration; Cause::ALL.len()],
    /// Times in doubt since the start, by cause.
    pub count: [u32; Cause::ALL.len()],
    /// The budget is spent: deadlines stand in spite of doubt.
    pub exhausted: bool,
    /// Budget left.
    pub budget: Duration,
    /// The last intervals, oldest first.
    pub recent: Vec<DoubtInterval>,
}

/// Keeps the books of doubt.
#[derive(Clone, Debug)]
pub struct Doubt {
    cadence: Duration,
    lasting: [Option<MonoNanos>; Cause::ALL.len()],
    counted_to: MonoNanos,
    budget: Duration,
    state: DoubtState,
    /// Some doubt was noted since the last sweep.
    fresh: Option<MonoNanos>,
}

impl Doubt {
    /// No doubt yet.
    pub fn new(cadence: Duration) -> Doubt {
        Doubt {
            cadence,
            lasting: [None; Cause::ALL.len()],
            counted_to: MonoNanos::NEVER,
            budget: DOUBT_BUDGET,
            state: DoubtState { budget: DOUBT_BUDGET, ..DoubtState::default() },
            fresh: None,
        }
    }

    /// The process started and listens from now on: every silence counts from here.
    pub fn note_start(&mut self, now: MonoNanos) {
        self.remember(Cause::Start, now, now);
        self.state.end = self.state.end.max(now);
    }

    /// A doubt that is over.
    pub fn note(&mut self, cause: Cause, from: MonoNanos, to: MonoNanos) {
        self.remember(cause, from, to);
        self.state.total[cause as usize] += to.since(from);
        self.fresh = self.fresh.max(Some(to));
    }

    /// A cause that lasts begins or ends.
    pub fn set_lasting(&mut self, cause: Cause, lasts: bool, now: MonoNanos) {
        match (self.lasting[cause as usize], lasts) {
            (None, true) => {
                self.lasting[cause as usize] = Some(now);
                self.remember(cause, now, now);
            }
            (Some(since), false) => {
                self.lasting[cause as usize] = None;
                let counted = self.counted_to.max(since);
                self.state.total[cause as usize] += now.since(counted);
                self.stretch(cause, now);
                self.fresh = self.fresh.max(Some(now));
            }
            _ => {}
        }
    }

    /// Settles what was noted since the last sweep. Gives the end of the last doubt that moves deadlines.
    pub fn settle(&mut self, now: MonoNanos) -> MonoNanos {
        let mut end = self.fresh.take();
        self.state.lasting.clear();
        for cause in Cause::ALL {
            if let Some(since) = self.lasting[cause as usize] {
                self.state.total[cause as usize] += now.since(self.counted_to.max(since));
                self.state.lasting.push(cause);
                self.stretch(cause, now);
                end = Some(now);
            }
        }
        self.counted_to = now;
        match end {
            Some(end) if self.budget >= self.cadence => {
                self.budget -= self.cadence;
                self.state.end = self.state.end.max(end);
                self.state.exhausted = false;
            }
            Some(_) => self.state.exhausted = true,
            None => {
                self.budget = (self.budget + self.cadence / EARN).min(DOUBT_BUDGET);
                self.state.exhausted = false;
            }
        }
        self.state.budget = self.budget;
        self.state.end
    }

    /// Doubt, as told to the world.
    pub fn state(&self) -> &DoubtState {
        &self.state
    }

    fn remember(&mut self, cause: Cause, from: MonoNanos, to: MonoNanos) {
        self.state.count[cause as usize] = self.state.count[cause as usize].saturating_add(1);
        if self.state.recent.len() == REMEMBERED {
            self.state.recent.remove(0);
        }
        self.state.recent.push(DoubtInterval { cause, from, to });
    }

    fn stretch(&mut self, cause: Cause, to: MonoNanos) {
        if let Some(interval) = self.state.recent.iter_mut().rev().find(|interval| interval.cause == cause) {
            interval.to = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::at_second as at;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_lasting_cause_moves_the_end_with_every_sweep_and_is_counted_once() {
        let mut doubt = Doubt::new(SECOND);
        doubt.note_start(at(0));
        assert_eq!(doubt.settle(at(1)), at(0));
        doubt.set_lasting(Cause::DeadListener, true, at(1));
        doubt.set_lasting(Cause::DeadListener, true, at(2));
        assert_eq!(doubt.settle(at(2)), at(2));
        assert_eq!(doubt.settle(at(3)), at(3));
        assert_eq!(doubt.state().lasting, [Cause::DeadListener]);
        doubt.set_lasting(Cause::DeadListener, false, at(4));
        assert_eq!(doubt.settle(at(5)), at(4));
        assert_eq!(doubt.state().total[Cause::DeadListener as usize], 3 * SECOND);
        assert_eq!(doubt.state().count[Cause::DeadListener as usize], 1);
        assert_eq!(doubt.state().recent[1].to, at(4));
    }

    #[test]
    fn doubt_without_end_stops_moving_deadlines_but_is_still_told() {
        let mut doubt = Doubt::new(SECOND);
        doubt.set_lasting(Cause::IngestLag, true, at(0));
        for second in 1..=900 {
            assert_eq!(doubt.settle(at(second)), at(second));
        }
        assert_eq!(doubt.settle(at(901)), at(900));
        assert!(doubt.state().exhausted);
        assert_eq!(doubt.state().lasting, [Cause::IngestLag]);
        doubt.set_lasting(Cause::IngestLag, false, at(902));
        doubt.settle(at(902));
        for second in 903..=906 {
            doubt.settle(at(second));
        }
        assert!(!doubt.state().exhausted);
        assert_eq!(doubt.state().budget, SECOND, "four trusted sweeps earn one");
    }

    #[test]
    fn one_long_gap_costs_one_sweep() {
        let mut doubt = Doubt::new(SECOND);
        doubt.note(Cause::Lag, at(1), at(100_000));
        assert_eq!(doubt.settle(at(100_000)), at(100_000));
        assert_eq!(doubt.state().budget, DOUBT_BUDGET - SECOND);
    }
}
