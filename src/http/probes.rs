//! `/livez`: the process answers. `/readyz`: requests and sensors may be sent here, or why not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::app::App;
use super::problem::{self, Problem};
use super::workers::{Places, work};
use crate::export::Readiness;

#[derive(Serialize, ToSchema)]
#[schema(as = ProbeLive)]
struct Live {
    status: &'static str,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProbeReady)]
struct Ready {
    status: &'static str,
    checks: Vec<ReadyCheck>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ProbeReadyCheck)]
struct ReadyCheck {
    name: &'static str,
    ok: bool,
    detail: String,
}

/// Asks nobody: it must answer while everything else waits.
#[utoipa::path(get, path = "/livez", operation_id = "livez", tag = "Probes",
    summary = "The process answers",
    responses((status = 200, description = "It does", body = Live)))]
pub(super) async fn livez() -> Response {
    Json(Live { status: "live" }).into_response()
}

#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "Probes",
    summary = "Whether requests and sensors may be sent here, or why not",
    responses(
        (status = 200, description = "They may", body = Ready),
        (status = 503, description = "Not now; the checks say why", content(
            (Ready = "application/json"), (problem::Document = "application/problem+json")))))]
pub(super) async fn readyz(State(app): State<Arc<App>>) -> Result<Response, Problem> {
    let readiness: Readiness = work(&app, Places::Reserved, |app| app.backend.readiness()).await?;
    let ready = readiness.ready();
    let checks = readiness
        .checks
        .into_iter()
        .map(|check| ReadyCheck { name: check.name, ok: check.ok, detail: check.detail })
        .collect();
    let (status, word) =
        if ready { (StatusCode::OK, "ready") } else { (StatusCode::SERVICE_UNAVAILABLE, "not ready") };
    Ok((status, Json(Ready { status: word, checks })).into_response())
}
