//! `GET /api/v1/sensors/{id}`: one sensor: what the register declares, what it says of itself, the verdict, and
//! every rule with what it saw.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::caller::Caller;
use super::documents::{self, EvidenceDocument, MessageDocument, Reference};
use super::edit::{At, NoQuery, Registration, Tagged, reach, sensor_tag};
use super::problem::Problem;
use super::reported::{Reported, reported};
use super::times::{rfc3339, rfc3339_of, wall};
use super::workers::{Places, work};
use crate::fleet::{Permission, Register, Sensor};
use crate::health::{Outcome, OverallState, RuleId, RuleReport, rules_of};
use crate::live::{Lifecycle, LiveState, SensorType, Snapshot, Verdict};
use crate::time::{Now, UnixMillis};
use crate::wire::id::SensorId;

#[derive(Serialize, ToSchema)]
#[schema(as = Sensor)]
struct SensorDocument {
    #[serde(flatten)]
    declared: Registration,
    /// How far it got: `local`, `file-needed`, `file-expired`, `never-got-through`, `refused` (see `attempts`),
    /// `no-data` (activated, and nothing heard since) or `data`.
    progress: &'static str,
    /// The moment of everything that follows.
    now: String,
    /// The one word on it.
    state: &'static str,
    /// Support of its software version.
    support: &'static str,
    muted: bool,
    /// Codes of its active messages.
    active: Vec<&'static str>,
    /// Codes of rules that can't be judged now.
    unknown: Vec<&'static str>,
    connection: Connection,
    heartbeats: Heartbeats,
    /// What it says of itself; none before its first heartbeat.
    reported: Option<Reported>,
    /// Every rule that applies to its type.
    rules: Vec<RuleDocument>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SensorConnection)]
struct Connection {
    /// It has a connection of its own.
    connected: bool,
    /// The gateway that brought its newest heartbeat.
    via_gateway: Option<Reference>,
    /// When anything at all came in on its connection.
    last_seen: Option<String>,
    certificate_not_after: Option<String>,
    reconnects: u32,
    /// Times that another connection with its identity took over.
    replaced: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SensorHeartbeats)]
struct Heartbeats {
    first: Option<String>,
    /// When the newest one was made, by the server's clock.
    last: Option<String>,
    /// When it came in.
    last_received: Option<String>,
    /// Since this server started.
    heard_since_start: bool,
    received: u64,
    lost: u64,
    duplicates: u32,
    reordered: u32,
    beyond_window: u32,
    rollbacks: u32,
    restarts: u32,
    delivery_ratio: f64,
    /// Heartbeats that the ratio is taken over.
    window: u32,
    jitter_seconds: f64,
    /// Server's clock minus sensor's.
    clock_offset_seconds: Option<f64>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = SensorRule)]
struct RuleDocument {
    code: &'static str,
    severity: &'static str,
    title: &'static str,
    /// `holds`, `does-not-hold` or `unknown`.
    outcome: &'static str,
    /// Since when it holds.
    since: Option<String>,
    evidence: Vec<EvidenceDocument>,
    /// Its message, when it is active.
    message: Option<MessageDocument>,
    /// It is on its way to be raised (or, when active, to end), for so long.
    pending_for_seconds: Option<f64>,
    /// Active rules that keep it from holding.
    suppressed_by: Vec<&'static str>,
    /// Active rules that freeze it.
    frozen_by: Vec<&'static str>,
}

#[utoipa::path(get, path = "/api/v1/sensors/{id}", operation_id = "get-sensor", tag = "Sensors",
    summary = "One sensor: what is declared, what it says of itself, the verdict and every rule",
    description = "The `ETag` is that of what people declare; it stays while the sensor reports.",
    params(("id" = String, Path, format = Uuid, description = "Id of the sensor")),
    responses((status = 200, description = "The sensor, with its `ETag`", body = SensorDocument)))]
pub(super) async fn sensor(
    State(app): State<Arc<App>>,
    caller: Caller,
    At(id): At<SensorId>,
    _: NoQuery,
) -> Result<impl IntoResponse, Problem> {
    work(&app, Places::Api, move |app| document(app, &caller, id)).await?
}

/// The sensor of an id, or that there is none.
pub(super) fn registered(register: &Register, id: SensorId) -> Result<&Sensor, Problem> {
    register.sensor(id).ok_or_else(|| {
        let more = if register.deleted_sensor(id).is_some() { "; it was deleted" } else { "" };
        Problem::not_found("sensor", &id.to_string(), more)
    })
}

fn document(app: &App, caller: &Caller, id: SensorId) -> Result<Tagged<SensorDocument>, Problem> {
    reach(caller, &app.backend.register(), Permission::View, id)?;
    let now = app.clock.now();
    // Asked for before the register is locked: the engine waits for the end of a sweep, and the sweep asks the
    // register.
    let reports = app.backend.why(id, now).unwrap_or_default();
    let live = app.backend.live();
    let snapshot = patient_snapshot(live, id).ok_or_else(Problem::busy)?;
    let verdict = live.verdict(snapshot.handle.index);
    let support = app.backend.support(&snapshot, now);
    let register = app.backend.register();
    let sensor = registered(&register, id)?;
    let Verdict { active, unknown, overall, .. } = verdict;
    let codes = |bits| rules_of(bits).map(RuleId::code).collect();
    let document = SensorDocument {
        declared: Registration::of(&register, sensor, now.unix),
        progress: progress(sensor, &snapshot, now),
        now: rfc3339(now.unix),
        state: OverallState::from_number(overall).as_str(),
        support: support.as_str(),
        muted: snapshot.facts.muted,
        active: codes(active),
        unknown: codes(unknown),
        connection: connection(&register, live, &snapshot, now),
        heartbeats: heartbeats(&snapshot, now),
        reported: (!snapshot.last_heartbeat.is_never()).then(|| reported(&snapshot, now)),
        rules: reports.iter().map(|report| rule(&register, report, now)).collect(),
    };
    Ok(Tagged { tag: sensor_tag(sensor), document })
}

/// Tells "activated, and no data" from "never got through", and why.
fn progress(sensor: &Sensor, seen: &Snapshot, now: Now) -> &'static str {
    let more = &sensor.more;
    if sensor.kind == SensorType::OtLocal {
        return "local";
    }
    match (sensor.lifecycle, &more.activation) {
        (Lifecycle::Active | Lifecycle::Deleted, activation) => {
            let used = activation.as_ref().and_then(|activation| activation.used.as_ref());
            let last = (!seen.last_heartbeat.is_never()).then(|| wall(seen.last_heartbeat, now));
            let since = used.map_or(UnixMillis(i64::MIN), |used| used.at);
            if last.is_some_and(|last| last >= since) { "data" } else { "no-data" }
        }
        (_, None) => "file-needed",
        (_, Some(activation)) if activation.used.is_some() => "file-needed",
        (_, Some(activation)) => {
            let tried = more.attempts.last().is_some_and(|attempt| attempt.at >= activation.issued_at);
            match tried {
                true => "refused",
                false if now.unix >= activation.expires_at => "file-expired",
                false => "never-got-through",
            }
        }
    }
}

/// A slot that writers keep busy is tried again for a moment.
fn patient_snapshot(live: &LiveState, id: SensorId) -> Option<Snapshot> {
    (0..20).find_map(|tried| {
        if tried > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        live.snapshot_of(id)
    })
}

fn connection(register: &Register, live: &LiveState, sensor: &Snapshot, now: Now) -> Connection {
    let gateway = sensor.via_gateway.and_then(|index| live.gateway_snapshot(index));
    Connection {
        connected: sensor.connected,
        via_gateway: gateway.map(|gateway| documents::gateway(register, gateway.id)),
        last_seen: rfc3339_of(sensor.last_transport, now),
        certificate_not_after: sensor.cert_not_after.map(rfc3339),
        reconnects: sensor.reconnects,
        replaced: sensor.replaced,
    }
}

fn heartbeats(sensor: &Snapshot, now: Now) -> Heartbeats {
    let offset = Some(sensor.clock_offset_ms).filter(|&offset| offset != i64::MIN);
    Heartbeats {
        first: rfc3339_of(sensor.first_heartbeat, now),
        last: rfc3339_of(sensor.last_heartbeat, now),
        last_received: rfc3339_of(sensor.last_received, now),
        heard_since_start: sensor.heard_since_start,
        received: sensor.received,
        lost: sensor.lost,
        duplicates: sensor.duplicates,
        reordered: sensor.reordered,
        beyond_window: sensor.beyond_window,
        rollbacks: sensor.rollbacks,
        restarts: sensor.restarts,
        delivery_ratio: f64::from(sensor.delivery_ratio),
        window: sensor.window_expected,
        jitter_seconds: f64::from(sensor.jitter_ms) / 1_000.0,
        clock_offset_seconds: offset.map(|ms| ms as f64 / 1_000.0),
    }
}

fn rule(register: &Register, report: &RuleReport, now: Now) -> RuleDocument {
    let row = report.rule.rule();
    let (outcome, since, evidence) = match &report.outcome {
        Outcome::Holds { since, evidence } => {
            ("holds", rfc3339_of(*since, now), documents::evidence(evidence))
        }
        Outcome::DoesNotHold { evidence } => ("does-not-hold", None, documents::evidence(evidence)),
        Outcome::Unknown => ("unknown", None, Vec::new()),
    };
    let codes = |rules: &[RuleId]| rules.iter().copied().map(RuleId::code).collect();
    RuleDocument {
        code: row.code,
        severity: row.severity.as_str(),
        title: row.title,
        outcome,
        since,
        evidence,
        message: report.message.as_ref().map(|message| documents::message(register, message)),
        pending_for_seconds: report.pending_for.map(|pending| pending.as_secs_f64()),
        suppressed_by: codes(&report.suppressed_by),
        frozen_by: codes(&report.frozen_by),
    }
}
