//! Everything that is exported about the server, as plain values of one moment. Whoever runs the server fills
//! it in; writing it in a format is this module's work.

use std::sync::Arc;
use std::time::Duration;

use super::buckets::{Buckets, DELAY_BOUNDS_US, SWEEP_BOUNDS_US};
use super::process::ProcessFigures;
use super::table::{CHECKS, STATUS_CLASSES, STORE_FILES};
use crate::fleet::Counts;
use crate::health::{RULES, SweepSummary};
use crate::ingest::{CountersSnapshot, ShardHealth};
use crate::time::{MonoNanos, Now, UnixMillis};

/// Gives figures whenever somebody asks. Must not walk sensors and must not hold up the sweep.
pub trait Source: Send + Sync + 'static {
    /// The figures now.
    fn figures(&self) -> Figures;
}

/// Figures of one moment.
#[derive(Clone, Debug)]
pub struct Figures {
    /// The moment.
    pub now: Now,
    /// What the last sweep found.
    pub summary: Arc<SweepSummary>,
    /// Sweeps since the start.
    pub sweep: SweepFigures,
    /// The QUIC side.
    pub ingest: IngestFigures,
    /// The journal.
    pub journal: JournalFigures,
    /// Checkpoints.
    pub checkpoint: CheckpointFigures,
    /// History.
    pub history: HistoryFigures,
    /// The disk.
    pub store: StoreFigures,
    /// The register.
    pub register: Counts,
    /// Live state.
    pub live: LiveFigures,
    /// The HTTP side; filled in by itself.
    pub http: HttpFigures,
    /// What peers hold of the authority.
    pub trust: TrustFigures,
    /// The process.
    pub process: ProcessFigures,
    /// Whether requests and sensors may be sent here.
    pub readiness: Readiness,
}

impl Figures {
    /// Of a server that has done nothing yet.
    pub fn empty(now: Now) -> Figures {
        Figures {
            now,
            summary: Arc::default(),
            sweep: SweepFigures::default(),
            ingest: IngestFigures::default(),
            journal: JournalFigures::default(),
            checkpoint: CheckpointFigures::default(),
            history: HistoryFigures::default(),
            store: StoreFigures::default(),
            register: Counts::default(),
            live: LiveFigures::default(),
            http: HttpFigures::default(),
            trust: TrustFigures::default(),
            process: ProcessFigures::default(),
            readiness: Readiness::default(),
        }
    }
}

/// Sweeps since the start.
#[derive(Clone, Debug)]
pub struct SweepFigures {
    /// How many.
    pub count: u64,
    /// Begin of the last one.
    pub last: MonoNanos,
    /// Promised longest time between two.
    pub cadence: Duration,
    /// Messages raised, by rule.
    pub raised: [u64; RULES],
    /// Messages cleared, by rule.
    pub cleared: [u64; RULES],
    /// Slots looked at closely.
    pub looked_at: u64,
    /// Slots left for the next sweep.
    pub busy: u64,
    /// How long they took.
    pub duration: Buckets,
    /// How long after its deadline a silence was raised.
    pub detection_delay: Buckets,
}

impl Default for SweepFigures {
    fn default() -> SweepFigures {
        SweepFigures {
            count: 0,
            last: MonoNanos::NEVER,
            cadence: Duration::ZERO,
            raised: [0; RULES],
            cleared: [0; RULES],
            looked_at: 0,
            busy: 0,
            duration: Buckets::new(&SWEEP_BOUNDS_US),
            detection_delay: Buckets::new(&DELAY_BOUNDS_US),
        }
    }
}

/// The QUIC side.
#[derive(Clone, Debug, Default)]
pub struct IngestFigures {
    /// Counts of each shard of the main port.
    pub shards: Vec<CountersSnapshot>,
    /// Counts of the enrolment port.
    pub enrolment: CountersSnapshot,
    /// Handshakes that resumed a session.
    pub resumed: u64,
    /// Signs of life, the enrolment port last.
    pub health: Vec<ShardHealth>,
    /// A shard that made no turn for so long does not receive.
    pub silent_after: Duration,
}

impl IngestFigures {
    /// All shards of the main port together.
    pub fn total(&self) -> CountersSnapshot {
        let mut total = CountersSnapshot::default();
        for shard in &self.shards {
            total.add(shard);
        }
        total
    }

    /// Shards that run and turn.
    pub fn alive(&self, now: MonoNanos) -> usize {
        self.health.iter().filter(|shard| self.is_alive(shard, now)).count()
    }

    /// Runs and turns.
    pub fn is_alive(&self, shard: &ShardHealth, now: MonoNanos) -> bool {
        shard.alive && now.since(shard.last_turn) <= self.silent_after
    }
}

/// The journal.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalFigures {
    /// Transitions made durable.
    pub written: u64,
    /// Transitions that it had already.
    pub known: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Transitions in the batch that is being written.
    pub pending: u64,
    /// It can't be written now.
    pub failing: bool,
}

/// Checkpoints of live state.
#[derive(Clone, Copy, Debug, Default)]
pub struct CheckpointFigures {
    /// Written.
    pub written: u64,
    /// Tries that failed.
    pub failures: u64,
    /// The last try failed.
    pub failing: bool,
    /// When the last one was written.
    pub last: Option<UnixMillis>,
    /// Its size.
    pub bytes: u64,
}

/// The disk of the data directory.
#[derive(Clone, Debug, Default)]
pub struct StoreFigures {
    /// The last try to write succeeded, and no try hangs.
    pub writable: bool,
    /// How long the last try took.
    pub probe: Duration,
    /// Bytes of each part, in the order of [`STORE_FILES`].
    pub bytes: [u64; STORE_FILES.len()],
    /// Room left; `None` = the system did not say.
    pub free_bytes: Option<u64>,
}

/// History.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryFigures {
    /// Blocks written.
    pub written: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Blocks given up.
    pub dropped: u64,
    /// The last try failed.
    pub failing: bool,
    /// Damaged blocks met.
    pub damaged: u64,
}

/// Live state.
#[derive(Clone, Copy, Debug, Default)]
pub struct LiveFigures {
    /// Slots ever used.
    pub slots: u32,
    /// Sensors that there is room for.
    pub slots_max: u32,
    /// Reads of a slot given up.
    pub snapshots_busy: u64,
    /// Indices of gateways ever used.
    pub gateways: u32,
    /// Gateways for which none was left.
    pub gateways_refused: u64,
}

/// What sensors and gateways hold of the authority, as counted last.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrustFigures {
    /// `settled`, `introduced` or `switched`; empty before the first count.
    pub stage: &'static str,
    /// Generation of the trust bundle.
    pub generation: u32,
    /// Roots in it.
    pub roots: usize,
    /// Sensors and gateways that hold a certificate.
    pub peers: u64,
    /// Those that proved to hold the bundle.
    pub with_bundle: u64,
    /// Those of them whose certificate is by a root that stays.
    pub with_certificate: u64,
}

/// The HTTP side.
#[derive(Clone, Debug, Default)]
pub struct HttpFigures {
    /// Connections now.
    pub connections: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed to make room.
    pub evicted: u64,
    /// Requests refused because all workers were busy.
    pub busy: u64,
    /// Requests answered, by resource (in the order of [`super::table::ROUTES`]) and class of status.
    pub requests: Vec<[u64; STATUS_CLASSES.len()]>,
}

/// One check of readiness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Which one, of [`CHECKS`].
    pub name: &'static str,
    /// It passes.
    pub ok: bool,
    /// What was seen, and when it fails what to do.
    pub detail: String,
}

/// Whether requests and sensors may be sent here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readiness {
    /// Every check, in the order of [`CHECKS`].
    pub checks: Vec<Check>,
}

impl Readiness {
    /// All checks were made and pass.
    pub fn ready(&self) -> bool {
        self.checks.len() == CHECKS.len() && self.checks.iter().all(|check| check.ok)
    }
}
