//! `GET /api/v1/engine`: what the server itself does, in more detail than metrics have: counts of each shard,
//! the lag histogram with all its buckets, doubt with its recent intervals, CPU to the microsecond.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::problem::Problem;
use super::times::{rfc3339, rfc3339_of};
use super::workers::{Places, work};
use crate::export::Figures;
use crate::health::Cause;
use crate::ingest::{CountersSnapshot, LagSnapshot, ShardHealth};
use crate::time::Now;

#[derive(Serialize, ToSchema)]
struct Engine {
    now: String,
    version: &'static str,
    process: Process,
    ingest: Ingest,
    sweep: Sweep,
    doubt: Doubt,
    journal: Journal,
    checkpoint: Checkpoint,
    history: History,
    store: Store,
    live: Live,
    trust: Trust,
    http: Http,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineProcess)]
struct Process {
    /// CPU time of all threads, user and kernel.
    cpu_us: u64,
    cpu_seconds: f64,
    resident_bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineIngest)]
struct Ingest {
    total: Counts,
    shards: Vec<Shard>,
    enrolment: Shard,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineShard)]
struct Shard {
    shard: usize,
    alive: bool,
    /// Seconds since its loop last completed a turn.
    last_turn_age_seconds: f64,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineCounts)]
struct Counts {
    /// Every plain count by its name.
    counters: BTreeMap<&'static str, u64>,
    closed: BTreeMap<&'static str, u64>,
    unreadable: BTreeMap<&'static str, u64>,
    observed: BTreeMap<&'static str, u64>,
    handshake_failures: BTreeMap<&'static str, u64>,
    lag: Lag,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineLag)]
struct Lag {
    count: u64,
    sum_us: u64,
    max_us: u64,
    /// Every bucket that is not empty: largest value in it in microseconds, and how many are in it alone.
    buckets: Vec<(u64, u64)>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineSweep)]
struct Sweep {
    count: u64,
    cadence_seconds: f64,
    last_age_seconds: Option<f64>,
    last_duration_seconds: f64,
    last_gap_seconds: f64,
    slots: u32,
    looked_at: u32,
    busy: u32,
    looked_at_total: u64,
    busy_total: u64,
    transitions_waiting: u32,
    duration_seconds: Distribution,
    detection_delay_seconds: Distribution,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineDistribution)]
struct Distribution {
    count: u64,
    sum: f64,
    /// Upper bound and how many do not exceed it.
    cumulative: Vec<(f64, u64)>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineDoubt)]
struct Doubt {
    lasting: Vec<&'static str>,
    /// End of the last doubt that moved deadlines.
    end: Option<String>,
    total_seconds: BTreeMap<&'static str, f64>,
    intervals: BTreeMap<&'static str, u32>,
    budget_seconds: f64,
    exhausted: bool,
    recent: Vec<Interval>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineInterval)]
struct Interval {
    cause: &'static str,
    from: String,
    to: String,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineJournal)]
struct Journal {
    written: u64,
    known: u64,
    failures: u64,
    pending: u64,
    failing: bool,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineCheckpoint)]
struct Checkpoint {
    written: u64,
    failures: u64,
    failing: bool,
    last: Option<String>,
    bytes: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineHistory)]
struct History {
    blocks: u64,
    failures: u64,
    dropped_blocks: u64,
    failing: bool,
    damaged_blocks: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineStore)]
struct Store {
    writable: bool,
    probe_seconds: f64,
    bytes: BTreeMap<&'static str, u64>,
    free_bytes: Option<u64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineLive)]
struct Live {
    slots: u32,
    slots_max: u32,
    snapshots_busy: u64,
}

/// What sensors and gateways hold of the authority, as counted last.
#[derive(Serialize, ToSchema)]
#[schema(as = EngineTrust)]
struct Trust {
    /// `settled`, or on the way to another root: `introduced`, `switched`. Empty before the first count.
    stage: &'static str,
    /// Of the trust bundle.
    generation: u32,
    roots: usize,
    /// Sensors and gateways that hold a certificate.
    peers: u64,
    /// Those that proved to hold the bundle.
    with_bundle: u64,
    /// Those of them whose certificate is by a root that stays.
    with_certificate: u64,
}

#[derive(Serialize, ToSchema)]
#[schema(as = EngineHttp)]
struct Http {
    connections: u64,
    connections_total: u64,
    evicted: u64,
    busy: u64,
}

#[utoipa::path(get, path = "/api/v1/engine", operation_id = "get-engine", tag = "Server",
    summary = "What the server itself does, in more detail than metrics have",
    responses((status = 200, description = "Figures of this moment", body = Engine)))]
pub(super) async fn engine(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let engine = work(&app, Places::Reserved, |app| {
        let mut figures = app.backend.figures();
        figures.http = app.counters.figures(app.connections.len());
        document(&figures)
    });
    Ok(Json(engine.await?).into_response())
}

fn document(figures: &Figures) -> Engine {
    let process = &figures.process;
    let (journal, checkpoint, store) = (&figures.journal, &figures.checkpoint, &figures.store);
    let history = &figures.history;
    Engine {
        now: rfc3339(figures.now.unix),
        version: env!("CARGO_PKG_VERSION"),
        process: Process {
            cpu_us: u64::try_from(process.cpu.as_micros()).unwrap_or(u64::MAX),
            cpu_seconds: process.cpu.as_secs_f64(),
            resident_bytes: process.resident_bytes,
        },
        ingest: ingest(figures),
        sweep: sweep(figures),
        doubt: doubt(figures),
        journal: Journal {
            written: journal.written,
            known: journal.known,
            failures: journal.failures,
            pending: journal.pending,
            failing: journal.failing,
        },
        checkpoint: Checkpoint {
            written: checkpoint.written,
            failures: checkpoint.failures,
            failing: checkpoint.failing,
            last: checkpoint.last.map(rfc3339),
            bytes: checkpoint.bytes,
        },
        history: History {
            blocks: history.written,
            failures: history.failures,
            dropped_blocks: history.dropped,
            failing: history.failing,
            damaged_blocks: history.damaged,
        },
        store: Store {
            writable: store.writable,
            probe_seconds: store.probe.as_secs_f64(),
            bytes: crate::export::table::STORE_FILES.into_iter().zip(store.bytes).collect(),
            free_bytes: store.free_bytes,
        },
        live: Live {
            slots: figures.live.slots,
            slots_max: figures.live.slots_max,
            snapshots_busy: figures.live.snapshots_busy,
        },
        trust: Trust {
            stage: figures.trust.stage,
            generation: figures.trust.generation,
            roots: figures.trust.roots,
            peers: figures.trust.peers,
            with_bundle: figures.trust.with_bundle,
            with_certificate: figures.trust.with_certificate,
        },
        http: Http {
            connections: figures.http.connections,
            connections_total: figures.http.accepted,
            evicted: figures.http.evicted,
            busy: figures.http.busy,
        },
    }
}

fn ingest(figures: &Figures) -> Ingest {
    let ingest = &figures.ingest;
    let shard = |health: &ShardHealth, snapshot: &CountersSnapshot| Shard {
        shard: health.shard,
        alive: ingest.is_alive(health, figures.now.mono),
        last_turn_age_seconds: figures.now.mono.since(health.last_turn).as_secs_f64(),
        counts: counts(snapshot),
    };
    let all = ingest.shards.iter().chain([&ingest.enrolment]);
    let mut shards: Vec<Shard> =
        ingest.health.iter().zip(all).map(|(health, snapshot)| shard(health, snapshot)).collect();
    let last = shards.pop();
    let gone = || Shard {
        shard: shards.len(),
        alive: false,
        last_turn_age_seconds: 0.0,
        counts: counts(&ingest.enrolment),
    };
    Ingest { total: counts(&ingest.total()), enrolment: last.unwrap_or_else(gone), shards }
}

fn counts(snapshot: &CountersSnapshot) -> Counts {
    let labelled = |counts: &[(&'static str, u64)]| counts.iter().copied().collect();
    Counts {
        counters: snapshot.plain().into_iter().map(|(name, _, _, value)| (name, value)).collect(),
        closed: labelled(&snapshot.closed),
        unreadable: labelled(&snapshot.unreadable),
        observed: labelled(&snapshot.observed),
        handshake_failures: labelled(&snapshot.handshake_failures),
        lag: lag(&snapshot.lag),
    }
}

fn lag(lag: &LagSnapshot) -> Lag {
    Lag { count: lag.count(), sum_us: lag.sum_us, max_us: lag.max_us, buckets: lag.recorded().collect() }
}

fn sweep(figures: &Figures) -> Sweep {
    let (sweep, summary, now) = (&figures.sweep, &figures.summary, figures.now);
    let distribution = |buckets: &crate::export::Buckets| Distribution {
        count: buckets.count(),
        sum: buckets.sum().as_secs_f64(),
        cumulative: buckets.cumulative().collect(),
    };
    Sweep {
        count: sweep.count,
        cadence_seconds: sweep.cadence.as_secs_f64(),
        last_age_seconds: (!sweep.last.is_never()).then(|| now.mono.since(sweep.last).as_secs_f64()),
        last_duration_seconds: summary.duration.as_secs_f64(),
        last_gap_seconds: summary.gap.as_secs_f64(),
        slots: summary.slots,
        looked_at: summary.looked_at,
        busy: summary.busy,
        looked_at_total: sweep.looked_at,
        busy_total: sweep.busy,
        transitions_waiting: summary.waiting,
        duration_seconds: distribution(&sweep.duration),
        detection_delay_seconds: distribution(&sweep.detection_delay),
    }
}

fn doubt(figures: &Figures) -> Doubt {
    let (doubt, now): (_, Now) = (&figures.summary.doubt, figures.now);
    let cause = |cause: Cause| cause.as_str();
    Doubt {
        lasting: doubt.lasting.iter().copied().map(cause).collect(),
        end: rfc3339_of(doubt.end, now),
        total_seconds: Cause::ALL
            .iter()
            .map(|&c| (cause(c), doubt.total[c as usize].as_secs_f64()))
            .collect(),
        intervals: Cause::ALL.iter().map(|&c| (cause(c), doubt.count[c as usize])).collect(),
        budget_seconds: doubt.budget.as_secs_f64(),
        exhausted: doubt.exhausted,
        recent: doubt
            .recent
            .iter()
            .filter_map(|interval| {
                let (from, to) = (rfc3339_of(interval.from, now)?, rfc3339_of(interval.to, now)?);
                Some(Interval { cause: cause(interval.cause), from, to })
            })
            .collect(),
    }
}
