//! The sweep thread: fixed cadence, its own watch over itself, and the board on which others read.
//!
//! The cadence is kept by absolute instants, so a late sweep does not delay the next. When the thread was
//! away for longer (a suspended process, a starved machine) the engine sees the gap and doubts; sweeps that
//! were missed are not made up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crossbeam::channel::{Receiver, Sender};
use hdrhistogram::Histogram;

use super::fleet::FleetService;
use super::stop::StopSignal;
use crate::export::{Buckets, DELAY_BOUNDS_US, SWEEP_BOUNDS_US};
use crate::health::{
    Cause, Context, Engine, RULES, RuleReport, SweepSummary, Transition, TransitionKind, VersionTable,
};
use crate::ingest::{CountersSnapshot, Ingest};
use crate::live::LiveState;
use crate::time::{Clock, MonoNanos, Now};
use crate::wire::id::SensorId;

/// A shard that made no turn for this long is not listening: ten of its own ticks.
pub(super) const LISTENER_SILENT: Duration = Duration::from_secs(2);

/// One packet in so many may be lost in our own receive buffer before silence is doubted.
const DROPS_BELIEVED: u64 = 100;

/// Sums over all sweeps since the start.
#[derive(Clone, Debug)]
pub struct Totals {
    /// Sweeps made.
    pub sweeps: u64,
    /// Engine time of the last one.
    pub last: MonoNanos,
    /// Messages raised, by rule.
    pub raised: [u64; RULES],
    /// Messages cleared, by rule.
    pub cleared: [u64; RULES],
    /// How long sweeps took, in microseconds.
    pub duration_us: Histogram<u64>,
    /// How long after its deadline a silence was raised, in microseconds.
    pub detection_delay_us: Histogram<u64>,
    /// The same two with the fixed bounds that metrics have, exactly.
    pub durations: Buckets,
    /// See `durations`.
    pub detection_delays: Buckets,
    /// Slots looked at closely.
    pub looked_at: u64,
    /// Slots left for the next sweep.
    pub busy: u64,
}

/// Messages raised and cleared, by rule.
type Counts = ([u64; RULES], [u64; RULES]);

/// What the last sweep left for readers.
pub struct Board {
    summary: Mutex<Arc<SweepSummary>>,
    totals: Mutex<Totals>,
}

impl Default for Board {
    fn default() -> Board {
        let histogram = || Histogram::new_with_bounds(1, 3_600_000_000, 2).expect("fixed bounds are valid");
        Board {
            summary: Mutex::default(),
            totals: Mutex::new(Totals {
                sweeps: 0,
                last: MonoNanos::NEVER,
                raised: [0; RULES],
                cleared: [0; RULES],
                duration_us: histogram(),
                detection_delay_us: histogram(),
                durations: Buckets::new(&SWEEP_BOUNDS_US),
                detection_delays: Buckets::new(&DELAY_BOUNDS_US),
                looked_at: 0,
                busy: 0,
            }),
        }
    }
}

impl Board {
    /// The last sweep's summary.
    pub fn summary(&self) -> Arc<SweepSummary> {
        Arc::clone(&self.summary.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the sums, without copying them.
    pub fn totals<T>(&self, look: impl FnOnce(&Totals) -> T) -> T {
        look(&self.totals.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The summary first: who sees the time of this sweep in the sums finds its summary there too.
    fn publish(&self, summary: SweepSummary, now: MonoNanos, (raised, cleared): Counts) {
        let summary = Arc::new(summary);
        *self.summary.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&summary);
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        totals.sweeps += 1;
        totals.last = now;
        for (total, more) in totals.raised.iter_mut().zip(raised) {
            *total += more;
        }
        for (total, more) in totals.cleared.iter_mut().zip(cleared) {
            *total += more;
        }
        // Saturating: a value beyond an hour is as bad as an hour.
        totals.duration_us.saturating_record(micros(summary.duration));
        for (_, delay) in &summary.detection_delays {
            totals.detection_delay_us.saturating_record(micros(*delay));
            totals.detection_delays.record(*delay);
        }
        totals.durations.record(summary.duration);
        totals.looked_at += u64::from(summary.looked_at);
        totals.busy += u64::from(summary.busy);
    }
}

/// The engine with everything it judges by.
pub struct Judge {
    /// The engine; the sweep holds it for the time of one sweep.
    pub engine: Mutex<Engine>,
    /// What it judges.
    pub live: Arc<LiveState>,
    /// Releases and their support.
    pub versions: VersionTable,
    /// Sites, desired state, and by which numbers.
    pub fleet: Arc<FleetService>,
}

impl Judge {
    /// The engine, for reading what is active; between two sweeps.
    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why a sensor is as it is.
    pub fn why(&self, sensor: SensorId, now: Now) -> Option<Vec<RuleReport>> {
        self.engine().why(&self.live, &self.fleet.policies(), &self.context(now), sensor)
    }

    fn context(&self, now: Now) -> Context<'_> {
        Context { now, versions: &self.versions, lookup: &*self.fleet, revision: 0 }
    }
}

/// The thread's parts.
pub struct SweepThread {
    /// What sweeps.
    pub judge: Arc<Judge>,
    /// Where the results go.
    pub board: Arc<Board>,
    /// Whose health is doubt.
    pub ingest: Arc<Ingest>,
    /// To the journal.
    pub transitions: Sender<Transition>,
    /// What the journal wrote.
    pub durable: Receiver<Vec<Transition>>,
    /// A planned stop is under way.
    pub draining: Arc<AtomicBool>,
    /// The one clock.
    pub clock: Arc<dyn Clock>,
    /// Ends the thread.
    pub stop: StopSignal,
}

/// Whether what ingest hears can be believed: heartbeats that come late into the slots, or get lost in our own
/// receive buffer, look like silence and are none.
struct IngestWatch {
    late_after: Duration,
    before: CountersSnapshot,
}

impl IngestWatch {
    /// Since the last call.
    fn lags(&mut self, now: CountersSnapshot) -> bool {
        let before = std::mem::replace(&mut self.before, now);
        let lag = self.before.lag.minus(&before.lag);
        let late = lag.count() > lag.at_most(micros(self.late_after));
        let dropped = self.before.kernel_drops.saturating_sub(before.kernel_drops);
        let heard = self.before.packets.saturating_sub(before.packets);
        late || dropped > heard / DROPS_BELIEVED
    }
}

impl SweepThread {
    /// Until told to stop.
    pub fn run(self) {
        let period = self.judge.engine().period();
        let mut watch = IngestWatch { late_after: period, before: self.ingest.counters().snapshot() };
        let mut due = self.clock.mono();
        loop {
            self.sweep(&mut watch);
            due = due.plus(period);
            let now = self.clock.mono();
            if due < now {
                due = now;
            }
            if self.stop.wait_until(&*self.clock, due) {
                return;
            }
        }
    }

    fn sweep(&self, watch: &mut IngestWatch) {
        let mut engine = self.judge.engine();
        // After the lock: what waiting for it costs is part of a detection delay.
        let now = self.clock.now();
        for written in self.durable.try_iter() {
            for transition in written {
                engine.acknowledge(&self.judge.live, transition.subject, transition.rule, transition.kind);
            }
        }
        // A loop that stood still together with this thread (a suspended process) turns again by now, and
        // the gap is seen as such; one that stands still alone is a dead listener.
        let silent = |shard: &crate::ingest::ShardHealth| {
            !shard.alive || now.mono.since(shard.last_turn) > LISTENER_SILENT
        };
        // The enrolment port is the last; nobody's heartbeats come by it.
        let shards = self.ingest.shard_health();
        let deaf = shards.iter().take(self.ingest.shards()).any(silent);
        engine.set_doubt(Cause::DeadListener, deaf, now.mono);
        engine.set_doubt(Cause::IngestLag, watch.lags(self.ingest.counters().snapshot()), now.mono);
        engine.set_doubt(Cause::Drain, self.draining.load(Ordering::Relaxed), now.mono);
        let mut counts = ([0_u64; RULES], [0_u64; RULES]);
        self.judge.fleet.quiet_tick(now.unix);
        let mut summary = engine.sweep(
            &self.judge.live,
            &self.judge.fleet.take_policies(),
            &self.judge.context(now),
            &mut |transition| {
                let (rule, kind) = (transition.rule, transition.kind);
                self.transitions.try_send(transition).map_err(|refused| refused.into_inner())?;
                match kind {
                    TransitionKind::Raised => counts.0[rule as usize] += 1,
                    TransitionKind::Cleared => counts.1[rule as usize] += 1,
                }
                Ok(())
            },
        );
        drop(engine);
        summary.duration = self.clock.mono().since(now.mono);
        self.board.publish(summary, now.mono, counts);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
