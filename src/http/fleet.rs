//! `GET /api/v1/fleet`: the fleet in numbers, as the last sweep left them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::params::Params;
use super::problem::Problem;
use super::times::{rfc3339, rfc3339_of};
use super::workers::{Places, work};
use crate::export::Figures;
use crate::health::{CATALOGUE, Cause, FleetCounts, OverallState, Severity, SupportState};
use crate::live::{Lifecycle, SensorType};

#[derive(Serialize, ToSchema)]
struct Fleet {
    now: String,
    /// When the sweep began whose numbers these are.
    as_of: Option<String>,
    sensors: Sensors,
    /// Share of the sensors that can be judged which count as healthy.
    health_score: Option<f64>,
    sites: usize,
    zones: usize,
    subscriptions: usize,
    gateways: usize,
    messages: Messages,
    doubt: Doubt,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FleetSensors)]
struct Sensors {
    total: u32,
    healthy: u32,
    unhealthy: u32,
    pending: u32,
    unsupported: u32,
    updatable: u32,
    muted: u32,
    /// Muted ones not counted.
    by_state: BTreeMap<&'static str, u32>,
    /// By type and state, muted ones not counted.
    by_type: BTreeMap<&'static str, BTreeMap<&'static str, u32>>,
    by_lifecycle: BTreeMap<&'static str, u32>,
    by_support: BTreeMap<&'static str, u32>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FleetMessages)]
struct Messages {
    active: u32,
    muted: u32,
    /// Covered by a site's message.
    folded: u32,
    by_severity: BTreeMap<&'static str, u32>,
    /// Every rule that has an active message, or is unknown somewhere.
    by_code: Vec<ByCode>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FleetByCode)]
struct ByCode {
    code: &'static str,
    severity: &'static str,
    title: &'static str,
    active: u32,
    muted: u32,
    /// Sensors and gateways for which it can't be judged now.
    unknown: u32,
}

#[derive(Serialize, ToSchema)]
#[schema(as = FleetDoubt)]
struct Doubt {
    /// Why the engine distrusts itself now; empty = it does not.
    lasting: Vec<&'static str>,
    end: Option<String>,
    total_seconds: f64,
    budget_seconds: f64,
    exhausted: bool,
}

#[utoipa::path(get, path = "/api/v1/fleet", operation_id = "get-fleet", tag = "Fleet",
    summary = "The fleet in numbers, as the last sweep left them",
    responses((status = 200, description = "Counts and score", body = Fleet)))]
pub(super) async fn fleet(
    State(app): State<Arc<App>>,
    RawQuery(query): RawQuery,
) -> Result<Response, Problem> {
    Params::parse(query.as_deref())?.finish(&[])?;
    let document = work(&app, Places::Api, |app| document(&app.backend.figures()));
    Ok(Json(document.await?).into_response())
}

fn document(figures: &Figures) -> Fleet {
    let (summary, register, now) = (&figures.summary, &figures.register, figures.now);
    let doubt = &summary.doubt;
    Fleet {
        now: rfc3339(now.unix),
        as_of: rfc3339_of(figures.sweep.last, now),
        sensors: sensors(&summary.fleet),
        health_score: summary.fleet.score(),
        sites: register.sites,
        zones: register.zones,
        subscriptions: register.subscriptions,
        gateways: register.gateways,
        messages: messages(figures),
        doubt: Doubt {
            lasting: doubt.lasting.iter().map(|cause| cause.as_str()).collect(),
            end: rfc3339_of(doubt.end, now),
            total_seconds: Cause::ALL.iter().map(|&cause| doubt.total[cause as usize].as_secs_f64()).sum(),
            budget_seconds: doubt.budget.as_secs_f64(),
            exhausted: doubt.exhausted,
        },
    }
}

fn sensors(fleet: &FleetCounts) -> Sensors {
    let states = |count: &dyn Fn(OverallState) -> u32| {
        OverallState::ALL.iter().map(|&state| (state.as_str(), count(state))).collect()
    };
    Sensors {
        total: fleet.total(),
        healthy: fleet.healthy(),
        unhealthy: fleet.unhealthy(),
        pending: fleet.pending(),
        unsupported: fleet.unsupported(),
        updatable: fleet.updatable(),
        muted: fleet.muted(),
        by_state: states(&|state| fleet.in_state(state)),
        by_type: SensorType::ALL
            .iter()
            .map(|&kind| (kind.as_str(), states(&|state| fleet.of(kind, state))))
            .collect(),
        by_lifecycle: Lifecycle::ALL
            .iter()
            .map(|&state| (state.as_str(), fleet.by_lifecycle[state as usize]))
            .collect(),
        by_support: SupportState::ALL
            .iter()
            .map(|&support| (support.as_str(), fleet.by_support[support as usize]))
            .collect(),
    }
}

fn messages(figures: &Figures) -> Messages {
    let summary = &figures.summary;
    let by_code: Vec<ByCode> = CATALOGUE
        .iter()
        .map(|rule| ByCode {
            code: rule.code,
            severity: rule.severity.as_str(),
            title: rule.title,
            active: summary.active[rule.id as usize],
            muted: summary.active_muted[rule.id as usize],
            unknown: summary.unknown[rule.id as usize],
        })
        .filter(|row| row.active > 0 || row.unknown > 0)
        .collect();
    let of = |severity: Severity| {
        by_code.iter().filter(|row| row.severity == severity.as_str()).map(|row| row.active).sum()
    };
    Messages {
        active: summary.active.iter().sum(),
        muted: summary.active_muted.iter().sum(),
        folded: summary.folded,
        by_severity: Severity::ALL.iter().map(|&severity| (severity.as_str(), of(severity))).collect(),
        by_code,
    }
}
